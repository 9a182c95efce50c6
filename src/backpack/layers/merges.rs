//! Functions of several inputs, which have no parameters: `add`, `multiply` and `concat`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::layer_type::{LayerType, Site, Specimen, merge};
use super::{Bend, Merge, Residual, Saved, sizes};
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

// What functions of several inputs share: sizes of 1 stand for any size.

/// The shape that these shapes broadcast to. All have the same number of axes.
fn broadcast_shape(kind: &str, shapes: &[&[i64]]) -> Result<Vec<i64>> {
    let [first, rest @ ..] = shapes else {
        return Err(Error::Shape(format!("{kind}: expected two or more inputs")));
    };
    if rest.is_empty() {
        return Err(Error::Shape(format!("{kind}: expected two or more inputs, got one")));
    }
    let mut shape = first.to_vec();
    for other in rest {
        let fits = other.len() == shape.len() && shape.iter().zip(*other).all(|(&a, &b)| a == b || a == 1 || b == 1);
        if !fits {
            return Err(Error::Shape(format!(
                "{kind}: inputs of shapes {shapes:?} do not broadcast; sizes must be equal or 1"
            )));
        }
        shape = shape.iter().zip(*other).map(|(&a, &b)| a.max(b)).collect();
    }
    Ok(shape)
}

/// Vectors `[V, N, *out]` summed over what was broadcast: `[V, *size]` for an input of this size, `[N, *in]`.
fn sum_to(v: &Tensor, size: &[i64]) -> Result<Tensor> {
    let axes: Vec<i64> =
        (1..v.dim()).filter(|&axis| size[axis - 1] == 1 && v.size()[axis] != 1).map(|axis| axis as i64).collect();
    if axes.is_empty() {
        return Ok(v.shallow_clone());
    }
    Ok(v.f_sum_dim_intlist(axes.as_slice(), true, None::<Kind>)?)
}

/// Tangents of an input `[V, N, *in]` as those of an output of this size, `[N, *out]`: a view.
fn expand(tangent: &Tensor, size: &[i64]) -> Result<Tensor> {
    let shape = [&tangent.size()[..1], size].concat();
    Ok(tangent.f_expand(shape.as_slice(), false)?)
}

fn add_to(sum: &mut Option<Tensor>, share: Tensor) -> Result<()> {
    *sum = Some(match sum.take() {
        Some(sum) => sum.f_add(&share)?,
        None => share,
    });
    Ok(())
}

// `add`: the sum of its inputs, entry by entry; sizes of 1 broadcast.

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
            add_to(&mut sum, expand(tangent, &saved.output.size())?)?;
        }
        sum.ok_or_else(|| Error::Shape("add: there are no tangents".into()))
    }
}

// `multiply`: the product of its inputs, entry by entry; sizes of 1 broadcast.
//
// The product of x and y bends: for a gradient g its second derivative pairs x and y with g, and
// g (x y + y x) = g/2 (x + y)(x + y) - g/2 (x - y)(x - y), so that each pair of inputs has two vectors an entry as its
// root, with the signs of g and -g.

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
                add_to(&mut sum, times_others(saved, &expand(tangent, &saved.output.size())?, &[place])?)?;
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
                        add_to(&mut sum, times_others(saved, &g.f_mul(tangent)?, &[place, other])?)?;
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

// `concat`: its inputs one after the other along an axis.

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
