//! A batch as it comes from a file, and whether it fits a network and a loss.

use std::collections::BTreeMap;
use std::ops::Range;

use tch::{Device, Kind, Tensor};

use crate::backpack::losses::Loss;
use crate::error::{Error, Result};

/// The name of the labels that sampled quantities use.
pub const LABELS: &str = "mc_labels";

/// A batch of inputs and targets.
#[derive(Debug)]
pub struct Batch {
    /// `[N, *in]`: floats, or int64 where the network takes integers, or uint8, which is either: tokens, or images that are
    /// divided by 255.
    pub x: Tensor,
    /// As the loss takes it: int64 classes `[N, ..]`, or floats `[N, *out]`.
    pub y: Tensor,
    /// Labels for the sampled quantities, int64 classes `[M, N, ..]` or floats `[M, N, *out]`; None where they are to be drawn.
    pub mc_labels: Option<Tensor>,
}

impl Batch {
    /// The batch of these tensors: `x`, `y`, and perhaps `mc_labels`. Others are ignored. Integers of any width become int64,
    /// bytes of `x` apart.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` or `y` is missing, or `x` is not made of floats or integers with samples first.
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
        let (x, y) = (take("x")?, whole_numbers(take("y")?));
        let x = if x.kind() == Kind::Uint8 { x } else { whole_numbers(x) };
        // A sample of floats has at least one axis; one of integers may be a single token.
        let least = if is_float(&x) { 2 } else { 1 };
        if !(is_float(&x) || matches!(x.kind(), Kind::Int64 | Kind::Uint8)) || x.dim() < least || x.numel() == 0 {
            return Err(misfit(
                "x",
                &x,
                "floats of shape [N, ...], or integers of shape [N] or [N, ...], with at least one sample, prepared as for \
                 the network",
            ));
        }
        Ok(Batch { x, y, mc_labels: tensors.remove(LABELS).map(whole_numbers) })
    }

    /// The samples of a range, in memory of the whole batch.
    pub fn part(&self, range: Range<i64>) -> Self {
        let (start, length) = (range.start, range.end - range.start);
        if length == self.x.size()[0] {
            let labels = self.mc_labels.as_ref().map(Tensor::shallow_clone);
            return Batch { x: self.x.shallow_clone(), y: self.y.shallow_clone(), mc_labels: labels };
        }
        Batch {
            x: self.x.narrow(0, start, length),
            y: self.y.narrow(0, start, length),
            mc_labels: self.mc_labels.as_ref().map(|labels| labels.narrow(1, start, length)),
        }
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

    /// Checks that `x` is made of what the network takes: floats of this type, or `integers` different int64 from 0 on; bytes
    /// become either.
    ///
    /// # Errors
    /// [`Error::Shape`] that says what was expected.
    pub fn fit_inputs(&mut self, integers: Option<i64>, kind: Kind) -> Result<()> {
        if self.x.kind() == Kind::Uint8 {
            self.x = match integers {
                Some(_) => self.x.to_kind(Kind::Int64),
                None => self.x.to_kind(kind) / 255.0,
            };
        }
        match (integers, self.x.kind() == Kind::Int64) {
            (None, false) => Ok(()),
            (None, true) => Err(misfit("x", &self.x, "floats; the network takes no integers")),
            (Some(_), false) => Err(misfit("x", &self.x, "int64, which the network's embedding takes")),
            (Some(count), true) => {
                let (least, largest) = (i64::try_from(self.x.min())?, i64::try_from(self.x.max())?);
                if least >= 0 && largest < count {
                    return Ok(());
                }
                let odd = if least < 0 { least } else { largest };
                let last = count - 1;
                Err(Error::Shape(format!(
                    "the tensor `x` holds {odd}; the network's embedding has the rows 0 to {last}"
                )))
            }
        }
    }

    /// Checks that targets and labels fit a loss of outputs of this shape (without samples); a single output's values may
    /// come as `[N]` and get their second axis.
    ///
    /// # Errors
    /// [`Error::Shape`] that names the tensor, what it is and what was expected; also for an output without axes.
    pub fn fit(&mut self, loss: &dyn Loss, output: &[i64]) -> Result<()> {
        let samples = self.x.size()[0];
        let [outputs, positions @ ..] = output else {
            return Err(Error::Shape(format!("the network's output is a single number, {} takes a list", loss.name())));
        };
        let follows = |labels: &Tensor, shape: &[i64]| matches!(labels.size().as_slice(), [draws, rest @ ..] if *draws > 0 && rest == shape);
        if loss.name() == "cross_entropy" {
            let shape = [&[samples], positions].concat();
            check_classes("y", &self.y, *outputs, self.y.size() == shape, &format!("{shape:?}"))?;
            if let Some(labels) = &self.mc_labels {
                check_classes(LABELS, labels, *outputs, follows(labels, &shape), &in_words("M", &shape))?;
            }
            return Ok(());
        }
        let shape = [&[samples], output].concat();
        if *output == [1] && self.y.size() == [samples] {
            self.y = self.y.unsqueeze(1);
        }
        if !is_float(&self.y) || self.y.size() != shape {
            let expected = format!("floats of shape {shape:?}, the output's, for {}", loss.name());
            return Err(misfit("y", &self.y, &expected));
        }
        match &self.mc_labels {
            Some(labels) if !is_float(labels) || !follows(labels, &shape) => {
                let expected = format!("floats of shape {}, targets for {}", in_words("M", &shape), loss.name());
                Err(misfit(LABELS, labels, &expected))
            }
            _ => Ok(()),
        }
    }
}

/// Integers as int64, anything else as it is.
fn whole_numbers(tensor: Tensor) -> Tensor {
    match tensor.kind() {
        Kind::Uint8 | Kind::Int8 | Kind::Int16 | Kind::Int => tensor.to_kind(Kind::Int64),
        _ => tensor,
    }
}

/// `[M, 3, 2]`: a shape behind an axis that is given by its letter.
fn in_words(axis: &str, shape: &[i64]) -> String {
    let sizes: Vec<String> = shape.iter().map(i64::to_string).collect();
    format!("[{axis}, {}]", sizes.join(", "))
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
