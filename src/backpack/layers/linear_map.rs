//! Layers without parameters that are linear in their input and treat every sample alike: what they share, and `scale`,
//! `mean` and `slice`.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::layer_type::{LayerType, Site, Specimen, layer};
use super::{Channels, Curvature, Layer, Mode, Recursion, Saved, both_sides, merge, sizes, split};
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

/// A linear map of each sample (in its forward pass perhaps with a constant added), the same for all samples.
///
/// It is a [`Layer`] with all quantities, KFRA where it keeps channels apart.
pub trait LinearMap: Send {
    /// The layer type's name, as in problem files ("permute").
    fn kind(&self) -> &'static str;

    /// The shape of the output of one sample, for the shape of one input; an error names what does not fit.
    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>>;

    /// The map, `[K, *in]` to `[K, *out]`.
    fn apply(&self, x: &Tensor) -> Result<Tensor>;

    /// Its transpose, `[K, *out]` to `[K, *in]`, where `input` is `*in`.
    fn transpose(&self, v: &Tensor, input: &[i64]) -> Result<Tensor>;

    /// The forward pass, `[N, *in]` to `[N, *out]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(x)
    }

    /// Whether it acts on each channel, the first axis behind the samples, by itself: KFRA goes through it then.
    fn keeps_channels(&self) -> bool {
        false
    }
}

impl<M: LinearMap> Layer for M {
    fn kind(&self) -> &'static str {
        LinearMap::kind(self)
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        LinearMap::output_shape(self, input)
    }

    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        Ok(Saved::new(input, LinearMap::forward(self, input)?))
    }

    fn vjp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        let back = self.transpose(&merge(v), &saved.input.size()[1..])?;
        Ok(split(&back, saved.samples()))
    }

    fn jvp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(split(&self.apply(&merge(v))?, saved.samples()))
    }

    fn curvature(&self) -> Curvature<'_> {
        Curvature::Zero
    }

    fn channels(&self) -> Channels {
        if self.keeps_channels() { Channels::Apart { by_sample: false } } else { Channels::Mixed }
    }

    fn recursion(&self) -> Option<&dyn Recursion> {
        if self.keeps_channels() { Some(self) } else { None }
    }
}

impl<M: LinearMap> Recursion for M {
    fn input(&self, saved: &Saved, g: &Tensor) -> Result<Tensor> {
        both_sides(g, &saved.output.size()[1..], |rows| self.transpose(rows, &saved.input.size()[1..]))
    }
}

/// An axis of tensors with this many axes, samples included, counted from the end where it is negative.
pub(super) fn axis(kind: &str, dim: i64, axes: usize) -> Result<usize> {
    let axes = axes as i64;
    let axis = if dim < 0 { dim + axes } else { dim };
    if axis == 0 {
        return Err(crate::Error::Shape(format!("{kind}: dim {dim} counts the samples, which have to stay apart")));
    }
    if axis < 0 || axis >= axes {
        return Err(crate::Error::Shape(format!(
            "{kind}: dim {dim} is none of an input with {axes} axes, samples included"
        )));
    }
    Ok(axis as usize)
}

// `scale`: its input times a number.

/// Multiplication by a number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Scale {
    /// the number
    #[serde(deserialize_with = "sizes::finite")]
    factor: f64,
}

impl LayerType for Scale {
    const NAME: &'static str = "scale";
    const SUMMARY: &'static str = "its input times a number";
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("factor = -0.7", &[6])];

    fn build(&self, _site: &Site) -> Result<Operation> {
        layer(*self)
    }
}

impl Scale {
    /// By this number.
    pub fn new(factor: f64) -> Self {
        Scale { factor }
    }
}

impl LinearMap for Scale {
    fn kind(&self) -> &'static str {
        "scale"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        Ok(input.to_vec())
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_mul_scalar(self.factor)?)
    }

    fn transpose(&self, v: &Tensor, _input: &[i64]) -> Result<Tensor> {
        self.apply(v)
    }
}

// `mean`: the mean over some axes, which are dropped.

/// The mean over axes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Mean {
    /// a dimension or a list of them; samples are 0
    #[serde(rename = "dim", deserialize_with = "sizes::axes")]
    dims: Vec<i64>,
}

impl LayerType for Mean {
    const NAME: &'static str = "mean";
    const SUMMARY: &'static str = "the mean over dimensions, which are dropped";
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("dim = [-1, 2]", &[4, 5, 6])];

    fn build(&self, _site: &Site) -> Result<Operation> {
        layer(self.clone())
    }
}

impl Mean {
    /// Over these axes, of which 0 counts the samples and is not possible; a negative one is counted from the end.
    pub fn new(dims: &[i64]) -> Self {
        Mean { dims: dims.to_vec() }
    }

    /// The axes for an input of so many axes, samples included, in ascending order.
    fn axes(&self, count: usize) -> Result<Vec<usize>> {
        let mut axes = self.dims.iter().map(|&dim| axis("mean", dim, count)).collect::<Result<Vec<_>>>()?;
        axes.sort_unstable();
        match axes.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Error::Shape(format!("mean: the axis {} is given twice", pair[0]))),
            None => Ok(axes),
        }
    }
}

impl LinearMap for Mean {
    fn kind(&self) -> &'static str {
        "mean"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        let axes = self.axes(input.len() + 1)?;
        let kept = input.iter().enumerate().filter(|(place, _)| !axes.contains(&(place + 1)));
        Ok(kept.map(|(_, &size)| size).collect())
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let axes: Vec<i64> = self.axes(x.dim())?.into_iter().map(|axis| axis as i64).collect();
        Ok(x.f_mean_dim(axes.as_slice(), false, None::<Kind>)?)
    }

    fn transpose(&self, v: &Tensor, input: &[i64]) -> Result<Tensor> {
        let mut back = v.shallow_clone();
        let mut count = 1;
        // In ascending order each axis finds its place among those that are there already.
        for axis in self.axes(input.len() + 1)? {
            back = back.f_unsqueeze(axis as i64)?;
            count *= input[axis - 1];
        }
        let shape = [&v.size()[..1], input].concat();
        Ok((back / count as f64).f_expand(shape.as_slice(), false)?)
    }
}

// `slice`: parts of a sample, by Python's slices.

/// What is taken of one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Index {
    /// One place; the axis is dropped.
    At(i64),
    /// Every `step`th place from `start` up to, not including, `stop`; negative ones are counted from the end.
    Range { start: Option<i64>, stop: Option<i64>, step: i64 },
}

/// The options of a slice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SliceOptions {
    /// Python's slices, for example "0, ::2, -1"; a number drops its dimension
    #[serde(deserialize_with = "index")]
    pub index: String,
}

fn index<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.parse::<Slice>() {
        Ok(_) => Ok(text),
        Err(error) => Err(D::Error::custom(error)),
    }
}

impl LayerType for SliceOptions {
    const NAME: &'static str = "slice";
    const SUMMARY: &'static str = "parts of a sample's dimensions";
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("index = '1:, ::2, -1'", &[4, 5, 6])];

    fn build(&self, _site: &Site) -> Result<Operation> {
        layer(self.index.parse::<Slice>()?)
    }
}

/// Parts of the axes behind the samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    index: Vec<Index>,
}

impl FromStr for Slice {
    type Err = Error;

    /// Reads "0, ::2, -1": for each axis behind the samples, from the first on, Python's slice of it, or a number, which
    /// drops the axis.
    fn from_str(text: &str) -> Result<Self> {
        let refuse = |part: &str, why: &str| {
            Error::Shape(format!("slice: `{}` in the index `{}`: {why}", part.trim(), text.escape_debug()))
        };
        let number = |part: &str, of: &str| {
            part.trim().parse::<i64>().map_err(|_| refuse(of, "expected an integer, or a slice such as 1:-1 or ::2"))
        };
        let optional = |part: Option<&str>, of: &str| match part.map(str::trim) {
            None | Some("") => Ok(None),
            Some(part) => number(part, of).map(Some),
        };
        let index = text.split(',').map(|part| {
            if !part.contains(':') {
                return Ok(Index::At(number(part, part)?));
            }
            let mut fields = part.split(':');
            let (start, stop) = (optional(fields.next(), part)?, optional(fields.next(), part)?);
            let step = optional(fields.next(), part)?.unwrap_or(1);
            if fields.next().is_some() {
                return Err(refuse(part, "a slice has at most three parts"));
            }
            if step < 1 {
                return Err(refuse(part, "the step has to be at least 1"));
            }
            Ok(Index::Range { start, stop, step })
        });
        Ok(Slice { index: index.collect::<Result<_>>()? })
    }
}

impl Slice {
    /// For an axis of this size the first place, the end, the step, and whether the axis is dropped.
    fn places(index: Index, size: i64) -> Option<(i64, i64, i64, bool)> {
        let from_start = |place: i64| if place < 0 { place + size } else { place };
        match index {
            Index::At(place) => {
                let place = from_start(place);
                (0..size).contains(&place).then_some((place, place + 1, 1, true))
            }
            Index::Range { start, stop, step } => {
                let start = from_start(start.unwrap_or(0)).clamp(0, size);
                let stop = from_start(stop.unwrap_or(size)).clamp(0, size);
                (start < stop).then_some((start, stop, step, false))
            }
        }
    }
}

impl LinearMap for Slice {
    fn kind(&self) -> &'static str {
        "slice"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        if self.index.len() > input.len() {
            return Err(Error::Shape(format!(
                "slice: the index has {} parts, but a sample of {input:?} has {} axes",
                self.index.len(),
                input.len()
            )));
        }
        let mut shape = Vec::new();
        for (axis, &size) in input.iter().enumerate() {
            let Some(&index) = self.index.get(axis) else {
                shape.push(size);
                continue;
            };
            let Some((start, stop, step, dropped)) = Self::places(index, size) else {
                return Err(Error::Shape(format!(
                    "slice: nothing is left of axis {} of an input of {input:?}",
                    axis + 1
                )));
            };
            if !dropped {
                shape.push((stop - start + step - 1) / step);
            }
        }
        Ok(shape)
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let mut part = x.shallow_clone();
        let mut axis = 1;
        for &index in &self.index {
            let Some((start, stop, step, dropped)) = Self::places(index, part.size()[axis]) else {
                return Err(Error::Shape(format!("slice: nothing is left of an input of {:?}", &x.size()[1..])));
            };
            part = match dropped {
                true => part.f_select(axis as i64, start)?,
                false => part.f_slice(axis as i64, start, stop, step)?,
            };
            axis += usize::from(!dropped);
        }
        Ok(part)
    }

    fn transpose(&self, v: &Tensor, input: &[i64]) -> Result<Tensor> {
        let back = Tensor::zeros([&v.size()[..1], input].concat().as_slice(), (v.kind(), v.device()));
        self.apply(&back)?.copy_(v);
        Ok(back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_read_as_python_reads_it() {
        let shape = |index: &str, input: &[i64]| {
            Slice::from_str(index).and_then(|slice| LinearMap::output_shape(&slice, input)).ok()
        };
        assert_eq!(shape("0", &[4, 5]), Some(vec![5]));
        assert_eq!(shape("-1, ::2", &[4, 5]), Some(vec![3]));
        assert_eq!(shape("1:-1, :", &[4, 5]), Some(vec![2, 5]));
        assert_eq!(shape(":, 1:100:3", &[4, 5]), Some(vec![4, 2]));
        assert_eq!(shape("4", &[4, 5]), None);
        assert_eq!(shape("3:3", &[4, 5]), None);
        assert_eq!(shape("0, 0, 0", &[4, 5]), None);
        for index in ["", "a", "1:2:0", "1:2:3:4", "::-1", "0,,1"] {
            assert!(Slice::from_str(index).is_err(), "{index}");
        }
    }
}
