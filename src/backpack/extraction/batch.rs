//! A batch as it comes from a file, and whether it fits a network and a loss.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use crate::backpack::losses::Loss;
use crate::error::{Error, Result};

/// The name of the labels that sampled quantities use.
pub const LABELS: &str = "mc_labels";

/// A batch of inputs and targets.
#[derive(Debug)]
pub struct Batch {
    /// `[N, *in]`, floats.
    pub x: Tensor,
    /// As the loss takes it: int64 classes `[N]`, or floats `[N, D]`.
    pub y: Tensor,
    /// Labels for the sampled quantities, int64 classes `[M, N]` or floats `[M, N, D]`; None where they are to be drawn.
    pub mc_labels: Option<Tensor>,
}

impl Batch {
    /// The batch of these tensors: `x`, `y`, and perhaps `mc_labels`. Others are ignored.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` or `y` is missing, or `x` is not made of floats with samples first.
    pub fn from_tensors(mut tensors: BTreeMap<String, Tensor>) -> Result<Self> {
        let names = tensors.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let mut take = |name: &str| {
            tensors.remove(name).ok_or_else(|| {
                Error::Shape(format!(
                    "the tensor `{name}` is missing; expected `x` of shape [N, ...] and `y` of shape [N] or [N, D], found \
                     {}",
                    if names.is_empty() { "none" } else { &names }
                ))
            })
        };
        let (x, y) = (take("x")?, take("y")?);
        if !is_float(&x) || x.dim() < 2 || x.numel() == 0 {
            return Err(misfit(
                "x",
                &x,
                "floats of shape [N, ...] with at least one sample, prepared as for the network",
            ));
        }
        Ok(Batch { x, y, mc_labels: tensors.remove(LABELS) })
    }

    /// The tensors with entries that are NaN or infinite, and the index of the first such entry.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn not_finite(&self) -> Result<Vec<(&'static str, Vec<i64>)>> {
        let mut found = Vec::new();
        for (name, tensor) in [("x", Some(&self.x)), ("y", Some(&self.y)), (LABELS, self.mc_labels.as_ref())] {
            let Some(tensor) = tensor.filter(|tensor| is_float(tensor) && tensor.numel() > 0) else { continue };
            let odd = tensor.isfinite().logical_not();
            if i64::try_from(odd.any().to_kind(Kind::Int64))? != 0 {
                found.push((name, Vec::try_from(odd.nonzero().get(0))?));
            }
        }
        Ok(found)
    }

    /// Moves the batch to another device, and its floats to another type.
    pub fn to(&mut self, kind: Kind, device: Device) {
        let to = |tensor: &Tensor| {
            let tensor = tensor.to_device(device);
            if is_float(&tensor) { tensor.to_kind(kind) } else { tensor }
        };
        (self.x, self.y) = (to(&self.x), to(&self.y));
        self.mc_labels = self.mc_labels.as_ref().map(to);
    }

    /// Checks that targets and labels fit a loss of an output `[N, outputs]`; a single output's values may come as
    /// `[N]` and get their second axis.
    ///
    /// # Errors
    /// [`Error::Shape`] that names the tensor, what it is and what was expected.
    pub fn fit(&mut self, loss: &dyn Loss, outputs: i64) -> Result<()> {
        let samples = self.x.size()[0];
        if loss.name() == "cross_entropy" {
            check_classes("y", &self.y, outputs, self.y.size() == [samples], &format!("[{samples}]"))?;
            if let Some(labels) = &self.mc_labels {
                let fits = matches!(labels.size().as_slice(), [draws, n] if *n == samples && *draws > 0);
                check_classes(LABELS, labels, outputs, fits, &format!("[M, {samples}]"))?;
            }
            return Ok(());
        }
        if outputs == 1 && self.y.size() == [samples] {
            self.y = self.y.unsqueeze(1);
        }
        if !is_float(&self.y) || self.y.size() != [samples, outputs] {
            let expected = format!("floats of shape [{samples}, {outputs}], the output's, for {}", loss.name());
            return Err(misfit("y", &self.y, &expected));
        }
        match &self.mc_labels {
            Some(labels)
                if !is_float(labels)
                    || !matches!(labels.size().as_slice(), [draws, n, d] if *draws > 0 && [*n, *d] == [samples, outputs]) =>
            {
                let expected = format!("floats of shape [M, {samples}, {outputs}], targets for {}", loss.name());
                Err(misfit(LABELS, labels, &expected))
            }
            _ => Ok(()),
        }
    }
}

fn is_float(tensor: &Tensor) -> bool {
    matches!(tensor.kind(), Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16)
}

fn check_classes(name: &str, labels: &Tensor, outputs: i64, fits: bool, shape: &str) -> Result<()> {
    if labels.kind() != Kind::Int64 || !fits {
        return Err(misfit(name, labels, &format!("int64 classes of shape {shape} for cross_entropy")));
    }
    let (least, largest) = (i64::try_from(labels.min())?, i64::try_from(labels.max())?);
    if least < 0 || largest >= outputs {
        let label = if least < 0 { least } else { largest };
        return Err(Error::Shape(format!(
            "the tensor `{name}` holds the class {label}; the network's {outputs} outputs are the classes 0 to {}",
            outputs - 1
        )));
    }
    Ok(())
}

fn misfit(name: &str, tensor: &Tensor, expected: &str) -> Error {
    let kind = match tensor.kind() {
        Kind::Float => "float32",
        Kind::Double => "float64",
        Kind::Half => "float16",
        Kind::BFloat16 => "bfloat16",
        Kind::Int64 => "int64",
        Kind::Int => "int32",
        Kind::Int16 => "int16",
        Kind::Int8 => "int8",
        Kind::Uint8 => "uint8",
        _ => "of another type",
    };
    Error::Shape(format!("the tensor `{name}` is {kind} of shape {:?}; expected {expected}", tensor.size()))
}
