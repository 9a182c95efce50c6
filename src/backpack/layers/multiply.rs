//! `multiply`: the product of its inputs, entry by entry; sizes of 1 broadcast.
//!
//! The product of x and y bends: for a gradient g its second derivative pairs x and y with g, and
//! g (x y + y x) = g/2 (x + y)(x + y) - g/2 (x - y)(x - y), so that each pair of inputs has two vectors an entry as its
//! root, with the signs of g and -g.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::broadcast::{broadcast_shape, expand, sum_to};
use super::layer_type::{LayerType, Site, Specimen, merge};
use super::{Bend, Merge, Residual, Saved};
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

/// The product of several inputs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Multiply;

/// The options of `multiply`: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MultiplyOptions {}

impl LayerType for MultiplyOptions {
    const NAME: &'static str = "multiply";
    const SUMMARY: &'static str = "the product of two or more inputs, entry by entry; sizes of 1 broadcast";
    const IS_MERGE: bool = true;
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("", &[6])];

    fn build(&self, _site: &Site) -> Result<Operation> {
        merge(Multiply)
    }
}

/// The product of all inputs but these, times `by` (both of the output's size with vectors in front or not).
fn times_others(saved: &Saved, by: &Tensor, without: &[usize]) -> Result<Tensor> {
    let others = saved.inputs().enumerate().filter(|(place, _)| !without.contains(place));
    Ok(others.map(|(_, input)| input).try_fold(by.shallow_clone(), |product, input| product.f_mul(input))?)
}

fn add(sum: &mut Option<Tensor>, share: Tensor) -> Result<()> {
    *sum = Some(match sum.take() {
        Some(sum) => sum.f_add(&share)?,
        None => share,
    });
    Ok(())
}

/// The pairs of `inputs` places.
fn pairs(inputs: usize) -> Vec<(usize, usize)> {
    (0..inputs).flat_map(|one| (one + 1..inputs).map(move |other| (one, other))).collect()
}

impl Merge for Multiply {
    fn kind(&self) -> &'static str {
        "multiply"
    }

    fn output_shape(&self, inputs: &[&[i64]]) -> Result<Vec<i64>> {
        broadcast_shape(self.kind(), inputs)
    }

    fn forward(&self, inputs: &[&Tensor]) -> Result<Saved> {
        let [first, rest @ ..] = inputs else { return Err(Error::Shape("multiply: there are no inputs".into())) };
        let output = rest.iter().try_fold(first.shallow_clone(), |product, input| product.f_mul(input))?;
        Ok(Saved::of_inputs(inputs, output))
    }

    fn vjp(&self, saved: &Saved, v: &Tensor, wanted: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let inputs = saved.inputs().zip(wanted).enumerate();
        inputs
            .map(|(place, (input, wanted))| {
                wanted.then(|| sum_to(&times_others(saved, v, &[place])?, &input.size())).transpose()
            })
            .collect()
    }

    fn jvp(&self, saved: &Saved, tangents: &[Option<&Tensor>]) -> Result<Tensor> {
        let mut sum = None;
        for (place, tangent) in tangents.iter().enumerate() {
            if let Some(tangent) = tangent {
                add(&mut sum, times_others(saved, &expand(tangent, &saved.output.size())?, &[place])?)?;
            }
        }
        sum.ok_or_else(|| Error::Shape("multiply: there are no tangents".into()))
    }

    fn bend(&self) -> Option<&dyn Bend> {
        Some(self)
    }
}

impl Bend for Multiply {
    fn vjp_tangent(
        &self,
        saved: &Saved,
        g: &Tensor,
        tangents: &[Option<&Tensor>],
        wanted: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        let inputs = saved.inputs().zip(wanted).enumerate();
        inputs
            .map(|(place, (input, wanted))| {
                let mut sum = None;
                for (other, tangent) in tangents.iter().enumerate().filter(|(other, _)| *wanted && *other != place) {
                    if let Some(tangent) = tangent {
                        add(&mut sum, times_others(saved, &g.f_mul(tangent)?, &[place, other])?)?;
                    }
                }
                sum.map(|sum| Ok(sum_to(&sum.unsqueeze(0), &input.size())?.squeeze_dim(0))).transpose()
            })
            .collect()
    }
}

impl Residual for Multiply {
    fn root_width(&self, saved: &Saved) -> i64 {
        let entries = saved.output.numel() as i64 / saved.samples().max(1);
        2 * entries * pairs(saved.inputs().count()).len() as i64
    }

    /// The vectors lie pair by pair, the sums of a pair before its differences, entry by entry of the output.
    fn signed_root(&self, saved: &Saved, g: &Tensor, start: i64, count: i64) -> Result<(Vec<Tensor>, Tensor)> {
        let samples = saved.samples();
        let entries = saved.output.numel() as i64 / samples.max(1);
        let size = saved.output.size();
        let options = (g.kind(), g.device());
        let inputs = saved.inputs().count();
        let mut parts: Vec<Vec<Tensor>> = (0..inputs).map(|_| Vec::new()).collect();
        let mut signs = Vec::new();
        for (number, (one, other)) in pairs(inputs).into_iter().enumerate() {
            for (half, sign) in [(0, 1.0), (1, -1.0)] {
                let block = (2 * number as i64 + half) * entries;
                let (from, to) = (start.max(block), (start + count).min(block + entries));
                if from >= to {
                    continue;
                }
                let (first, length) = (from - block, to - from);
                let values =
                    times_others(saved, g, &[one, other])?.reshape([samples, entries]).narrow(1, first, length);
                // [length, N, entries], each vector at its entry alone.
                let root = Tensor::zeros([length, samples, entries], options);
                root.narrow(2, first, length).diagonal(0, 0, 2).copy_(&(values.abs() * 0.5).sqrt());
                let root = root.view([&[length], size.as_slice()].concat().as_slice());
                for (place, input) in saved.inputs().enumerate() {
                    let share = if place == one {
                        sum_to(&root, &input.size())?
                    } else if place == other {
                        sum_to(&(&root * sign), &input.size())?
                    } else {
                        Tensor::zeros([&[length], input.size().as_slice()].concat().as_slice(), options)
                    };
                    parts[place].push(share);
                }
                signs.push((values.sign() * sign).tr().contiguous());
            }
        }
        let vectors = parts.iter().map(|parts| Tensor::f_cat(parts, 0)).collect::<std::result::Result<_, _>>()?;
        Ok((vectors, Tensor::f_cat(&signs, 0)?))
    }
}
