//! `concat`: its inputs one after the other along an axis.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::layer_type::{LayerType, Site, Specimen, merge};
use super::{Merge, Saved, sizes};
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

/// Inputs one after the other along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Concat {
    /// the dimension; samples are 0
    #[serde(default = "sizes::one", deserialize_with = "sizes::axis")]
    dim: i64,
}

impl LayerType for Concat {
    const NAME: &'static str = "concat";
    const SUMMARY: &'static str = "two or more inputs, one after the other along a dimension";
    const IS_MERGE: bool = true;
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("", &[6])];

    fn build(&self, _site: &Site) -> Result<Operation> {
        merge(Concat::new(self.dim)?)
    }
}

impl Concat {
    /// Along this axis, of which 0 counts the samples.
    ///
    /// # Errors
    /// [`Error::Shape`] for the axis of the samples.
    pub fn new(dim: i64) -> Result<Self> {
        if dim == 0 {
            return Err(Error::Shape(
                "concat: dim 0 counts the samples, which cannot be put one after the other".into(),
            ));
        }
        Ok(Concat { dim })
    }

    /// The axis for tensors of this many axes, samples included.
    fn axis(&self, axes: usize) -> i64 {
        if self.dim < 0 { self.dim + axes as i64 } else { self.dim }
    }

    /// The axis in vectors, and each input's start and length on it.
    fn places(&self, saved: &Saved) -> (i64, Vec<(i64, i64)>) {
        let axis = self.axis(saved.output.dim());
        let mut start = 0;
        let places = saved.inputs().map(|input| {
            let length = input.size()[axis as usize];
            start += length;
            (start - length, length)
        });
        (axis + 1, places.collect())
    }
}

impl Merge for Concat {
    fn kind(&self) -> &'static str {
        "concat"
    }

    fn output_shape(&self, inputs: &[&[i64]]) -> Result<Vec<i64>> {
        let [first, rest @ ..] = inputs else { return Err(Error::Shape("concat: there are no inputs".into())) };
        let axis = self.axis(first.len() + 1) - 1;
        if axis < 0 || axis >= first.len() as i64 {
            return Err(Error::Shape(format!("concat: dim {} is none of inputs of shape {first:?}", self.dim)));
        }
        let axis = axis as usize;
        let mut shape = first.to_vec();
        for other in rest {
            let fits = other.len() == shape.len()
                && shape.iter().zip(*other).enumerate().all(|(place, (a, b))| place == axis || a == b);
            if !fits {
                return Err(Error::Shape(format!(
                    "concat: inputs of the shapes {inputs:?} do not go together; all sizes but those of dim {} have to \
                     be equal",
                    self.dim
                )));
            }
            shape[axis] += other[axis];
        }
        Ok(shape)
    }

    fn forward(&self, inputs: &[&Tensor]) -> Result<Saved> {
        let output = Tensor::f_cat(inputs, self.axis(inputs[0].dim()))?;
        Ok(Saved::of_inputs(inputs, output))
    }

    fn vjp(&self, saved: &Saved, v: &Tensor, wanted: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (axis, places) = self.places(saved);
        let each = places.into_iter().zip(wanted);
        Ok(each.map(|((start, length), wanted)| wanted.then(|| v.narrow(axis, start, length))).collect())
    }

    fn jvp(&self, saved: &Saved, tangents: &[Option<&Tensor>]) -> Result<Tensor> {
        let (axis, _) = self.places(saved);
        let Some(like) = tangents.iter().flatten().next() else {
            return Err(Error::Shape("concat: there are no tangents".into()));
        };
        let vectors = like.size()[0];
        let parts: Vec<Tensor> = saved
            .inputs()
            .zip(tangents)
            .map(|(input, tangent)| match tangent {
                Some(tangent) => tangent.shallow_clone(),
                None => Tensor::zeros(
                    [&[vectors], input.size().as_slice()].concat().as_slice(),
                    (like.kind(), like.device()),
                ),
            })
            .collect();
        Ok(Tensor::f_cat(&parts, axis)?)
    }
}
