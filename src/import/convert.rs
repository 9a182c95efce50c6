//! Goes through the calls of an exported program and says each as layers of a network.

use std::collections::HashMap;
use std::path::Path;

use tch::Tensor;

use super::calls;
use super::converter::{Converter, NO_PRODUCT, is_float};
use super::graph::{Call, DAMAGED, Origin, Program, Said, refuse};
use super::layout::{Atoms, Axis, Layout};
use super::network::{Feed, Network};
use super::schema::SymInt;
use super::tensors::Tensors;
use super::value::{Activation, ParameterView, Value};
use crate::error::{Error, Result};

/// More entries than any value has.
const MOST: i64 = 1 << 48;

/// The network of a program.
pub struct Converted {
    pub network: Network,
    /// The layer whose output is the network's.
    pub output: Feed,
    pub input_shape: Vec<i64>,
    pub integers: Option<i64>,
    pub notes: Vec<String>,
}

/// Converts a program; `constants` are the values of the buffers that it computes with.
///
/// # Errors
/// [`Error::Unsupported`] for what no layers say, naming the node, the call and the line of source.
pub fn convert(
    path: &Path,
    program: &Program,
    tensors: &Tensors,
    constants: HashMap<String, Tensor>,
) -> Result<Converted> {
    let of_input = |what: &str, instead: &str| {
        Error::Unsupported(format!("{}: the input `{}` {what}; {instead}", path.display(), program.input))
    };
    let meta = program.metas.get(&program.input).ok_or_else(|| of_input("has no sizes", DAMAGED))?;
    let sizes: Option<Vec<i64>> = meta.sizes.iter().map(SymInt::value).collect();
    let fits = |sizes: &Vec<i64>| {
        let count = sizes.iter().try_fold(1i64, |count, &size| count.checked_mul(size).filter(|_| size > 0));
        count.is_some_and(|count| count <= MOST)
    };
    let sizes = sizes.filter(fits);
    let sizes =
        sizes.ok_or_else(|| of_input("has sizes without an example", "export with an example of fixed sizes"))?;
    let [batch, shape @ ..] = sizes.as_slice() else {
        return Err(of_input("is a single number", "export with a batch: samples are its first axis"));
    };
    let mut notes = Vec::new();
    if meta.sizes[1..].iter().any(|size| matches!(size, SymInt::AsExpr(_))) {
        notes.push(format!("the sizes {shape:?} of a sample are those of the example; problem files have fixed sizes"));
    }
    let mut atoms = Atoms::new(*batch);
    let layout = Layout::batch_first(shape, &mut atoms);
    let kind = super::tensors::kind(meta.dtype);
    let integer_input = kind.is_some_and(|kind| !is_float(kind));
    let mut converter = Converter {
        program,
        tensors,
        values: HashMap::new(),
        network: Network::default(),
        atoms,
        notes,
        integers: None,
        integer_input,
        place: 0,
        moves: HashMap::new(),
    };
    let arriving = Activation { feed: Feed::Input, layout, shaped_by: 0 };
    converter.values.insert(program.input.clone(), Value::Activation(arriving));
    converter.take_tensors(constants);
    for (place, call) in program.calls.iter().enumerate() {
        converter.place = place;
        converter.say(call).map_err(|refusal| call.error(path, &refusal))?;
    }
    let output = converter.output().map_err(|refusal| match program.calls.last() {
        Some(call) => call.error(path, &refusal),
        None => of_input(&refusal.why, &refusal.instead),
    })?;
    if converter.integer_input && converter.integers.is_none() {
        return Err(of_input("is of integers that no embedding takes", "export with floats"));
    }
    let Converter { network, integers, notes, .. } = converter;
    Ok(Converted { network, output, input_shape: shape.to_vec(), integers, notes })
}

impl Converter<'_> {
    /// Gives parameters and constants their values.
    fn take_tensors(&mut self, mut constants: HashMap<String, Tensor>) {
        for (name, origin) in &self.program.origins {
            let value = match origin {
                Origin::Input => continue,
                Origin::Parameter(parameter) => {
                    // Of several names of one tensor, the first.
                    let first = self.program.parameters.iter().find(|first| self.tensors.same(first, parameter));
                    let parameter = first.unwrap_or(parameter).clone();
                    let Some(sizes) = self.tensors.sizes(&parameter) else { continue };
                    let axes: Vec<Axis> = sizes.iter().map(|&size| self.atoms.axis(size)).collect();
                    let layout = Layout { dims: axes.clone(), axes };
                    Value::Parameter(ParameterView { name: parameter, layout })
                }
                Origin::Buffer(buffer) => match constants.remove(buffer) {
                    Some(tensor) => Value::Constant(tensor),
                    None => continue,
                },
            };
            self.values.insert(name.clone(), value);
        }
    }

    /// Says one call.
    fn say(&mut self, call: &Call) -> Said<()> {
        let given = calls::say(self, call)?;
        if given.len() > call.outputs.len() {
            return refuse(format!("it gives {} values, the graph names {}", given.len(), call.outputs.len()), DAMAGED);
        }
        for (name, value) in call.outputs.iter().zip(given) {
            let count = value.sizes().unwrap_or_default().iter().try_fold(1i64, |count, &size| count.checked_mul(size));
            if count.is_none_or(|count| count > MOST) {
                return refuse("a value of more entries than any memory has", DAMAGED);
            }
            if let (Some(sizes), Some(expected)) = (value.sizes(), self.example_sizes(name))
                && sizes != expected
            {
                return refuse(format!("its sizes are {sizes:?}, and the graph says {expected:?}"), DAMAGED);
            }
            self.values.insert(name.clone(), value);
        }
        Ok(())
    }

    /// The network's output, laid as PyTorch returns it.
    fn output(&mut self) -> Said<Feed> {
        self.place = self.program.calls.len().saturating_sub(1);
        let output = match self.values.get(&self.program.output) {
            Some(Value::Activation(output)) => output.clone(),
            Some(Value::Scores(_)) => return refuse(NO_PRODUCT.0, NO_PRODUCT.1),
            _ => return refuse("the output does not depend on the batch", "return what the network computes of x"),
        };
        if output.layout.batch_dim() != Some(0) {
            return refuse(
                format!("the output {:?} has no first axis of samples alone", output.layout.sizes()),
                "return the output with the samples as its first axis, as [N, classes] or [N, positions, classes]",
            );
        }
        if output.layout.dims.len() < 2 {
            return refuse(
                "the output is one number a sample",
                "keep its last axis: leave out the squeeze, select or sum",
            );
        }
        let target = output.layout.dims[1..].to_vec();
        let feed = self.lay(&output, &target)?;
        if feed == Feed::Input {
            return refuse("the network is empty", "export a model with at least one layer");
        }
        Ok(feed)
    }
}
