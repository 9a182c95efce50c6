//! Scaled dot-product attention and its derivatives: O = P V with P = softmax(c Q K^T), c = 1 / sqrt(d).
//!
//! Shapes: `*` is any number of leading axes (samples, heads); Q is `[*, T, d]`, K `[*, S, d]`, V `[*, S, e]`, P
//! `[*, T, S]`. Vectors have one axis more in front, and are taken a few at a time, so that not all of their `[T, S]`
//! matrices are there at once.

use tch::{Kind, Tensor};

use crate::backpack::native::add_product;
use crate::backpack::native::product::{matmul, scaled_matmul};
use crate::error::Result;

/// How many bytes of `[T, S]` matrices of vectors are held at a time.
const WORK_BYTES: i64 = 64 << 20;

/// Queries, keys and values, or vectors or tangents of them.
pub struct Triple {
    pub q: Tensor,
    pub k: Tensor,
    pub v: Tensor,
}

/// A forward pass.
pub struct Attended {
    /// What went in.
    pub from: Triple,
    /// P.
    pub weights: Tensor,
    scale: f64,
}

fn sum(x: &Tensor) -> Tensor {
    x.sum_dim_intlist(-1i64, true, None::<Kind>)
}

/// The factor of the products of queries and keys of this width.
fn scale(width: i64) -> f64 {
    1.0 / (width as f64).sqrt()
}

/// P; with `causal` a query attends to keys up to its own place.
pub fn weights(q: &Tensor, k: &Tensor, causal: bool) -> Result<Tensor> {
    let size = q.size();
    let mut scores = scaled_matmul(q, &k.transpose(-2, -1), scale(size[size.len() - 1]))?;
    if causal {
        let (queries, keys) = (size[size.len() - 2], k.size()[k.dim() - 2]);
        let later = Tensor::f_full([queries, keys], f64::NEG_INFINITY, (q.kind(), q.device()))?.f_triu(1)?;
        scores = scores.f_add_(&later)?;
    }
    let kind = scores.kind();
    Ok(scores.f_softmax(-1, kind)?)
}

impl Attended {
    /// What a pass kept.
    pub fn new(from: Triple, weights: Tensor) -> Self {
        let width = from.q.size()[from.q.dim() - 1];
        Attended { from, weights, scale: scale(width) }
    }

    /// Some vectors at a time: `work` gets each part of `count` vectors by its start and length.
    fn parts(&self, count: i64, mut work: impl FnMut(i64, i64) -> Result<Triple>) -> Result<Triple> {
        let bytes = self.weights.numel() as i64 * self.weights.kind().elt_size_in_bytes() as i64;
        let step = (WORK_BYTES / bytes.max(1)).clamp(1, count.max(1));
        if step >= count {
            return work(0, count);
        }
        let mut parts = Vec::new();
        let mut start = 0;
        while start < count {
            parts.push(work(start, step.min(count - start))?);
            start += step;
        }
        let join = |of: fn(&Triple) -> &Tensor| Tensor::cat(&parts.iter().map(of).collect::<Vec<_>>(), 0);
        Ok(Triple { q: join(|part| &part.q), k: join(|part| &part.k), v: join(|part| &part.v) })
    }

    /// The transposed Jacobian times vectors `[V, *, T, e]`.
    pub fn vjp(&self, vectors: &Tensor) -> Result<Triple> {
        self.parts(vectors.size()[0], |start, length| {
            let vectors = vectors.narrow(0, start, length);
            let at_weights = matmul(&vectors, &self.from.v.transpose(-2, -1))?;
            let at_scores = self.through_softmax(&at_weights)?;
            Ok(Triple {
                q: scaled_matmul(&at_scores, &self.from.k, self.scale)?,
                k: scaled_matmul(&at_scores.transpose(-2, -1), &self.from.q, self.scale)?,
                v: matmul(&self.weights.transpose(-2, -1), &vectors)?,
            })
        })
    }

    /// The softmax's Jacobian, which is symmetric, times `[.., *, T, S]`.
    fn through_softmax(&self, x: &Tensor) -> Result<Tensor> {
        if x.numel() == self.weights.numel() {
            let one = x.f_view_as(&self.weights)?;
            let through = Tensor::f_internal_softmax_backward_data(&one, &self.weights, -1, x.kind())?;
            return Ok(through.f_view_as(x)?);
        }
        let weighted = x * &self.weights;
        let mean = sum(&weighted);
        add_product(&weighted, &self.weights, &mean, -1.0)?;
        Ok(weighted)
    }

    /// The tangent of P along tangents `[V, *, ..]` of queries and keys; None is zero.
    fn weights_tangent(&self, q: Option<&Tensor>, k: Option<&Tensor>) -> Result<Option<Tensor>> {
        let by_q = q.map(|q| matmul(q, &self.from.k.transpose(-2, -1))).transpose()?;
        let by_k = k.map(|k| matmul(&self.from.q, &k.transpose(-2, -1))).transpose()?;
        let scores = match (by_q, by_k) {
            (Some(by_q), Some(by_k)) => by_q + by_k,
            (Some(by), None) | (None, Some(by)) => by,
            (None, None) => return Ok(None),
        };
        Ok(Some(self.through_softmax(&(scores * self.scale))?))
    }

    /// The Jacobian times tangents `[V, *, ..]`, of which None is zero: `[V, *, T, e]`.
    pub fn jvp(&self, q: Option<&Tensor>, k: Option<&Tensor>, v: Option<&Tensor>) -> Result<Option<Tensor>> {
        let by_weights = match self.weights_tangent(q, k)? {
            Some(tangent) => Some(matmul(&tangent, &self.from.v)?),
            None => None,
        };
        let by_values = v.map(|v| matmul(&self.weights, v)).transpose()?;
        Ok(match (by_weights, by_values) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        })
    }

    /// The derivative of [`Self::vjp`] of `g` (`[*, T, e]`, held fixed) along tangents `[V, *, ..]`, of which None is
    /// zero.
    pub fn vjp_tangent(
        &self,
        g: &Tensor,
        q: Option<&Tensor>,
        k: Option<&Tensor>,
        v: Option<&Tensor>,
    ) -> Result<Triple> {
        let count = [q, k, v].into_iter().flatten().map(|tangent| tangent.size()[0]).max().unwrap_or(1);
        let at_weights = matmul(g, &self.from.v.transpose(-2, -1))?;
        let mean = sum(&(&at_weights * &self.weights));
        let centred = &at_weights - &mean;
        let at_scores = &self.weights * &centred * self.scale;
        self.parts(count, |start, length| {
            let [q, k, v] = [q, k, v].map(|tangent| tangent.map(|tangent| tangent.narrow(0, start, length)));
            let like = |x: &Tensor| {
                let shape = [&[length], x.size().as_slice()].concat();
                Tensor::zeros(shape.as_slice(), (x.kind(), x.device()))
            };
            let moved = self.weights_tangent(q.as_ref(), k.as_ref())?;
            let bent = v.as_ref().map(|v| matmul(g, &v.transpose(-2, -1))).transpose()?;
            // The tangent of P * (g V^T - mean).
            let mut scores = like(&self.weights);
            let mut mean_tangent = like(&mean);
            if let Some(moved) = &moved {
                scores += moved * &centred;
                mean_tangent += sum(&(moved * &at_weights));
            }
            if let Some(bent) = &bent {
                scores += &self.weights * bent;
                mean_tangent += sum(&(&self.weights * bent));
            }
            let scores = (scores - &self.weights * mean_tangent) * self.scale;
            let mut to_q = matmul(&scores, &self.from.k)?;
            if let Some(k) = &k {
                to_q += matmul(&at_scores, k)?;
            }
            let mut to_k = matmul(&scores.transpose(-2, -1), &self.from.q)?;
            if let Some(q) = &q {
                to_k += matmul(&at_scores.transpose(-2, -1), q)?;
            }
            let to_v = match &moved {
                Some(moved) => matmul(&moved.transpose(-2, -1), g)?,
                None => like(&self.from.v),
            };
            Ok(Triple { q: to_q, k: to_k, v: to_v })
        })
    }

    /// The numbers of entries of queries, keys and values of one leading place together: the size of the second derivative
    /// of what is attended to there.
    pub fn block(&self) -> i64 {
        let entries = |x: &Tensor| x.size()[x.dim() - 2..].iter().product::<i64>();
        entries(&self.from.q) + entries(&self.from.k) + entries(&self.from.v)
    }

    /// The second derivative, for the gradient `g` (`[B, T, e]`), with respect to all of Q, K and V of each of `B` leading
    /// places, as eigenvectors times the roots of the eigenvalues' sizes, `[block, B, ..]` each, and the eigenvalues'
    /// signs, `[block, B]`.
    pub fn signed_root(&self, g: &Tensor) -> Result<(Triple, Tensor)> {
        let size = self.block();
        let parts = [&self.from.q, &self.from.k, &self.from.v];
        let batch = g.size()[0];
        let options = (g.kind(), g.device());
        let lengths = parts.map(|part| part.size()[1..].iter().product::<i64>());
        let identity = Tensor::eye(size, options);
        let mut start = 0;
        let tangents = parts.map(|part| {
            let length: i64 = part.size()[1..].iter().product();
            let shape = [&[size, 1], &part.size()[1..]].concat();
            let whole = [&[size, batch], &part.size()[1..]].concat();
            let tangent = identity.narrow(1, start, length).reshape(shape.as_slice()).expand(whole.as_slice(), false);
            start += length;
            tangent
        });
        let [q, k, v] = &tangents;
        let Triple { q, k, v } = self.vjp_tangent(g, Some(q), Some(k), Some(v))?;
        // [size, B, size] and then [B, size, size]; symmetric but for rounding.
        let matrix = Tensor::cat(&[q, k, v].map(|part| part.flatten(2, -1)), 2).transpose(0, 1);
        let matrix = (&matrix + matrix.transpose(1, 2)) * 0.5;
        let (values, vectors) = matrix.f_linalg_eigh("L")?;
        let roots = (vectors * values.abs().sqrt().unsqueeze(1)).permute([2, 0, 1]);
        let mut start = 0;
        let mut take = |place: usize| {
            let shape = [&[size, batch], &parts[place].size()[1..]].concat();
            let part = roots.narrow(2, start, lengths[place]).reshape(shape.as_slice());
            start += lengths[place];
            part
        };
        let root = Triple { q: take(0), k: take(1), v: take(2) };
        Ok((root, values.sign().transpose(0, 1)))
    }
}
