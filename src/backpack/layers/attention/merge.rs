//! `attention`: softmax(q k^T / sqrt d) v of three inputs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::super::layer_type::{LayerType, Site, Specimen, merge};
use super::super::{Bend, Merge, Residual, Saved};
use super::core::{Attended, Triple, weights};
use crate::backpack::native::product::matmul;
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

/// The options of attention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttentionOptions {
    /// whether a position attends only to itself and earlier ones
    #[serde(default)]
    pub causal: bool,
}

impl LayerType for AttentionOptions {
    const NAME: &'static str = "attention";
    const SUMMARY: &'static str = "softmax(q k^T / sqrt(d)) v of its inputs [q, k, v]";
    const IS_MERGE: bool = true;
    const INPUTS: usize = 3;
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("", &[3, 2])];

    fn build(&self, _site: &Site) -> Result<Operation> {
        merge(Attention { causal: self.causal })
    }
}

/// Attention of queries `[N, .., T, d]` to keys `[N, .., S, d]` with values `[N, .., S, e]`: `[N, .., T, e]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attention {
    /// Whether a position attends only to itself and earlier ones.
    pub causal: bool,
}

fn inputs<'a>(inputs: &[&'a Tensor]) -> Result<[&'a Tensor; 3]> {
    <[&Tensor; 3]>::try_from(inputs).map_err(|_| Error::Shape("attention: expected the inputs [q, k, v]".into()))
}

fn attended(saved: &Saved) -> Result<Attended> {
    let [q, k, v] = inputs(&saved.inputs().collect::<Vec<_>>())?.map(Tensor::shallow_clone);
    Ok(Attended::new(Triple { q, k, v }, saved.extra[0].shallow_clone()))
}

impl Merge for Attention {
    fn kind(&self) -> &'static str {
        "attention"
    }

    fn output_shape(&self, inputs: &[&[i64]]) -> Result<Vec<i64>> {
        let refuse = || {
            Error::Shape(format!(
                "attention: expected inputs [q, k, v] of shapes [.., T, d], [.., S, d] and [.., S, e], got {inputs:?}"
            ))
        };
        let [[q_front @ .., queries, width], [k_front @ .., keys, key_width], [v_front @ .., values, outputs]] = inputs
        else {
            return Err(refuse());
        };
        if q_front != k_front || q_front != v_front || width != key_width || keys != values {
            return Err(refuse());
        }
        if self.causal && queries != keys {
            return Err(Error::Shape(format!(
                "attention: causal attention is of as many queries as keys; there are {queries} and {keys}"
            )));
        }
        Ok([q_front, &[*queries, *outputs]].concat())
    }

    fn forward(&self, of: &[&Tensor]) -> Result<Saved> {
        let [q, k, v] = inputs(of)?;
        let weights = weights(q, k, self.causal)?;
        Ok(Saved::of_inputs(of, matmul(&weights, v)?).with(vec![weights]))
    }

    fn vjp(&self, saved: &Saved, v: &Tensor, wanted: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let Triple { q, k, v } = attended(saved)?.vjp(v)?;
        Ok([q, k, v].into_iter().zip(wanted).map(|(part, wanted)| wanted.then_some(part)).collect())
    }

    fn jvp(&self, saved: &Saved, tangents: &[Option<&Tensor>]) -> Result<Tensor> {
        let tangent = attended(saved)?.jvp(tangents[0], tangents[1], tangents[2])?;
        tangent.ok_or_else(|| Error::Shape("attention: there are no tangents".into()))
    }

    fn bend(&self) -> Option<&dyn Bend> {
        Some(self)
    }
}

impl Bend for Attention {
    fn vjp_tangent(
        &self,
        saved: &Saved,
        g: &Tensor,
        tangents: &[Option<&Tensor>],
        wanted: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        let [q, k, v] = [0, 1, 2].map(|place| tangents[place].map(|tangent| tangent.unsqueeze(0)));
        if q.is_none() && k.is_none() && v.is_none() {
            return Ok(wanted.iter().map(|_| None).collect());
        }
        let Triple { q, k, v } = attended(saved)?.vjp_tangent(g, q.as_ref(), k.as_ref(), v.as_ref())?;
        Ok([q, k, v].into_iter().zip(wanted).map(|(part, wanted)| wanted.then(|| part.squeeze_dim(0))).collect())
    }
}

impl Residual for Attention {
    /// A block for each leading place of a sample, such as a head.
    fn root_width(&self, saved: &Saved) -> i64 {
        let size = saved.output.size();
        let places: i64 = size[1..size.len() - 2].iter().product();
        attended(saved).map_or(0, |attended| places * attended.block())
    }

    fn signed_root(&self, saved: &Saved, g: &Tensor, start: i64, count: i64) -> Result<(Vec<Tensor>, Tensor)> {
        let attended = attended(saved)?;
        let (samples, block) = (saved.samples(), attended.block());
        let places = self.root_width(saved) / block;
        let options = (g.kind(), g.device());
        let of_place = |x: &Tensor, place: i64| {
            let size = x.size();
            x.reshape([&[samples, places], &size[size.len() - 2..]].concat().as_slice()).select(1, place)
        };
        let parts = [&attended.from.q, &attended.from.k, &attended.from.v];
        let rooms = parts.map(|part| {
            let size = part.size();
            let shape = [&[count, samples, places], &size[size.len() - 2..]].concat();
            Tensor::zeros(shape.as_slice(), options)
        });
        let signs = Tensor::zeros([count, samples], options);
        let mut from = start;
        while from < start + count {
            let place = from / block;
            let upto = (start + count).min((place + 1) * block);
            let [q, k, v] = parts.map(|part| of_place(part, place));
            let one = Attended::new(Triple { q, k, v }, of_place(&attended.weights, place));
            let (root, root_signs) = one.signed_root(&of_place(g, place))?;
            let (first, length) = (from - place * block, upto - from);
            for (room, part) in rooms.iter().zip([&root.q, &root.k, &root.v]) {
                room.narrow(0, from - start, length).select(2, place).copy_(&part.narrow(0, first, length));
            }
            signs.narrow(0, from - start, length).copy_(&root_signs.narrow(0, first, length));
            from = upto;
        }
        let vectors = rooms
            .into_iter()
            .zip(parts)
            .map(|(room, part)| room.view([&[count], part.size().as_slice()].concat().as_slice()));
        Ok((vectors.collect(), signs))
    }
}
