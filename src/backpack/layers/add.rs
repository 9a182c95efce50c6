//! `add`: the sum of its inputs, entry by entry; sizes of 1 broadcast.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::broadcast::{broadcast_shape, expand, sum_to};
use super::layer_type::{LayerType, Site, Specimen, merge};
use super::{Merge, Saved};
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

/// The sum of several inputs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Add;

/// The options of `add`: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AddOptions {}

impl LayerType for AddOptions {
    const NAME: &'static str = "add";
    const SUMMARY: &'static str = "the sum of two or more inputs; sizes of 1 broadcast";
    const IS_MERGE: bool = true;
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("", &[6])];

    fn build(&self, _site: &Site) -> Result<Operation> {
        merge(Add)
    }
}

impl Merge for Add {
    fn kind(&self) -> &'static str {
        "add"
    }

    fn output_shape(&self, inputs: &[&[i64]]) -> Result<Vec<i64>> {
        broadcast_shape(self.kind(), inputs)
    }

    fn forward(&self, inputs: &[&Tensor]) -> Result<Saved> {
        let [first, rest @ ..] = inputs else { return Err(Error::Shape("add: there are no inputs".into())) };
        let output = rest.iter().try_fold(first.shallow_clone(), |sum, input| sum.f_add(input))?;
        Ok(Saved::of_inputs(inputs, output))
    }

    fn vjp(&self, saved: &Saved, v: &Tensor, wanted: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let inputs = saved.inputs().zip(wanted);
        inputs.map(|(input, wanted)| wanted.then(|| sum_to(v, &input.size())).transpose()).collect()
    }

    fn jvp(&self, saved: &Saved, tangents: &[Option<&Tensor>]) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        for tangent in tangents.iter().flatten() {
            let share = expand(tangent, &saved.output.size())?;
            sum = Some(match sum {
                Some(sum) => sum.f_add(&share)?,
                None => share,
            });
        }
        sum.ok_or_else(|| Error::Shape("add: there are no tangents".into()))
    }
}
