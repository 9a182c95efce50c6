//! Attention: `attention`, a merge of queries, keys and values, and `self_attention`, a layer that splits them from its
//! input and has several heads.

mod core;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use self::core::{Attended, Triple, weights};
use super::layer_type::{LayerType, Site, Specimen, layer, merge};
use super::{Bend, Curvature, Layer, Merge, Mode, Residual, Saved, Tangent, VjpTangent, built_for, sizes};
use crate::backpack::native::product::matmul;
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

// `attention`: softmax(q k^T / sqrt d) v of three inputs.

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

// `self_attention`: `[N, T, 3 d]`, queries, keys and values one after the other, to `[N, T, d]` by several heads.

/// The options of self-attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SelfAttentionOptions {
    /// the number of heads, which divides the width
    #[serde(deserialize_with = "sizes::size")]
    pub num_heads: i64,
    /// whether a position attends only to itself and earlier ones
    #[serde(default)]
    pub causal: bool,
}

impl LayerType for SelfAttentionOptions {
    const NAME: &'static str = "self_attention";
    const SUMMARY: &'static str = "attention of a sequence [T, 3 d] of queries, keys and values to itself";
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("num_heads = 2", &[3, 12])];

    fn build(&self, site: &Site) -> Result<Operation> {
        layer(SelfAttention::new(site.input()?, self)?)
    }
}

/// Attention of a sequence to itself. Its forward pass keeps the heads' queries, keys, values and weights.
#[derive(Debug)]
pub struct SelfAttention {
    heads: i64,
    attention: Attention,
    /// The length of the sequence, and the width of one head.
    length: i64,
    width: i64,
}

impl SelfAttention {
    /// For inputs of shape `[T, 3 d]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for an input of another form, or heads that do not divide d.
    pub fn new(input: &[i64], options: &SelfAttentionOptions) -> Result<Self> {
        let heads = options.num_heads;
        match *input {
            [length, triple] if heads > 0 && triple % (3 * heads) == 0 && triple > 0 => Ok(SelfAttention {
                heads,
                attention: Attention { causal: options.causal },
                length,
                width: triple / (3 * heads),
            }),
            _ => Err(Error::Shape(format!(
                "self_attention: expected an input of shape [T, 3 d] with a d that {heads} heads divide, got {input:?}"
            ))),
        }
    }

    /// `[*, T, 3 d]`, with so many leading axes, as queries, keys and values `[*, heads, T, width]`.
    fn apart(&self, x: &Tensor, leading: usize) -> Triple {
        let front = &x.size()[..leading];
        let split = [front, &[self.length, 3, self.heads, self.width]].concat();
        let axis = leading as i64;
        // The three parts first, then the heads before the positions, in one copy.
        let order: Vec<i64> = std::iter::once(axis + 1).chain(0..axis).chain([axis + 2, axis, axis + 3]).collect();
        let parts = x.reshape(split.as_slice()).permute(order.as_slice()).contiguous();
        let part = |place: i64| parts.get(place);
        Triple { q: part(0), k: part(1), v: part(2) }
    }

    /// The inverse of [`Self::apart`].
    fn together(&self, parts: &Triple) -> Tensor {
        let each = [&parts.q, &parts.k, &parts.v].map(|part| part.transpose(-3, -2));
        let stacked = Tensor::stack(&each, -3);
        let size = stacked.size();
        stacked.reshape([&size[..size.len() - 3], &[3 * self.heads * self.width]].concat().as_slice())
    }

    /// `[*, T, d]` as `[*, heads, T, width]`.
    fn by_heads(&self, x: &Tensor) -> Tensor {
        let size = x.size();
        let split = [&size[..size.len() - 1], &[self.heads, self.width]].concat();
        x.reshape(split.as_slice()).transpose(-3, -2)
    }

    /// The inverse of [`Self::by_heads`].
    fn joined(&self, x: &Tensor) -> Tensor {
        let x = x.transpose(-3, -2);
        let size = x.size();
        x.reshape([&size[..size.len() - 2], &[self.heads * self.width]].concat().as_slice())
    }

    fn attended(&self, saved: &Saved) -> Attended {
        let part = |place: usize| saved.extra[place].shallow_clone();
        Attended::new(Triple { q: part(0), k: part(1), v: part(2) }, part(3))
    }

    /// The pass as the merge of the heads' parts keeps it.
    fn inner(&self, saved: &Saved) -> Saved {
        let [q, k, v] = [0, 1, 2].map(|place| &saved.extra[place]);
        Saved::of_inputs(&[q, k, v], self.by_heads(&saved.output)).with(vec![saved.extra[3].shallow_clone()])
    }
}

impl Layer for SelfAttention {
    fn kind(&self) -> &'static str {
        "self_attention"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        let d = self.heads * self.width;
        built_for("self_attention", &[self.length, 3 * d], input)?;
        Ok(vec![self.length, d])
    }

    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        let Triple { q, k, v } = self.apart(input, 1);
        let weights = weights(&q, &k, self.attention.causal)?;
        let output = self.joined(&matmul(&weights, &v)?);
        Ok(Saved::new(input, output).with(vec![q, k, v, weights]))
    }

    fn library(&self, input: &Tensor, _mode: Mode) -> Result<Tensor> {
        let Triple { q, k, v } = self.apart(input, 1);
        let (none, causal) = (None::<&Tensor>, self.attention.causal);
        Ok(self.joined(&Tensor::f_scaled_dot_product_attention(&q, &k, &v, none, 0.0, causal, None::<f64>, false)?))
    }

    fn vjp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(self.together(&self.attended(saved).vjp(&self.by_heads(v))?))
    }

    fn jvp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        let Triple { q, k, v } = self.apart(v, 2);
        let tangent = self.attended(saved).jvp(Some(&q), Some(&k), Some(&v))?;
        Ok(self.joined(&tangent.ok_or_else(|| Error::Shape("self_attention: there are no tangents".into()))?))
    }

    fn curvature(&self) -> Curvature<'_> {
        Curvature::Mixed(self)
    }

    fn tangent(&self) -> Option<&dyn Tangent> {
        Some(self)
    }
}

impl Tangent for SelfAttention {
    fn vjp_tangent(
        &self,
        saved: &Saved,
        g: &Tensor,
        input: Option<&Tensor>,
        _parameters: &[Option<Tensor>],
    ) -> Result<VjpTangent> {
        let Some(tangent) = input else { return Ok(VjpTangent::default()) };
        let Triple { q, k, v } = self.apart(tangent, 1);
        let tangents = [Some(&q), Some(&k), Some(&v)];
        let parts = self.attention.vjp_tangent(&self.inner(saved), &self.by_heads(g), &tangents, &[true; 3])?;
        let [q, k, v] = <[Option<Tensor>; 3]>::try_from(parts).unwrap_or_default();
        let triple = q.zip(k).zip(v).map(|((q, k), v)| Triple { q, k, v });
        Ok(VjpTangent { input: triple.map(|triple| self.together(&triple)), parameters: Vec::new() })
    }
}

impl Residual for SelfAttention {
    fn root_width(&self, saved: &Saved) -> i64 {
        self.attention.root_width(&self.inner(saved))
    }

    fn signed_root(&self, saved: &Saved, g: &Tensor, start: i64, count: i64) -> Result<(Vec<Tensor>, Tensor)> {
        let (parts, signs) = self.attention.signed_root(&self.inner(saved), &self.by_heads(g), start, count)?;
        let [q, k, v] = <[Tensor; 3]>::try_from(parts)
            .map_err(|_| Error::Shape("self_attention: a root has queries, keys and values".into()))?;
        Ok((vec![self.together(&Triple { q, k, v })], signs))
    }
}
