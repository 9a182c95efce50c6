//! `slice`: parts of a sample, by Python's slices.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::LinearMap;
use super::layer_type::{LayerType, Site, Specimen, layer};
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

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
        let shape =
            |index: &str, input: &[i64]| Slice::from_str(index).and_then(|slice| slice.output_shape(input)).ok();
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
