//! What quantities take of a weight that multiplies rows of the input ([`AffineSite`]), linear, convolution or recurrent.
//!
//! The canonical format is *weight sharing*: an input of `T` positions with `d` features each, `[N, G, d, T]`, and
//! vectors over `o` outputs a position, `[V, N, G, o, T]`, in `G` groups that do not mix. A convolution arrives here
//! as its patches, a linear layer with extra leading dimensions as its rows. The weight's product for one vector and
//! one sample is the `[G, o, d]` matrix `v x^T`.

use tch::{Kind, Tensor};

use super::second_moment::second_moment;
use super::site::signed_squares;
use super::{AffineSite, Saved};
use crate::backpack::native::product::{matmul, matmul_into};
use crate::backpack::native::{add_product, is_sparse, sparse_squares_sum};
use crate::error::{Error, Result};

/// How many bytes of intermediate results are worked on at a time: small enough for the last-level cache of an
/// ordinary CPU core, so that what is summed at once never travels to memory.
const CHUNK_BYTES: i64 = 4 << 20;

/// How many bytes of rows are made at a time where they are summed over.
const ROW_BYTES: i64 = 64 << 20;

/// The weight's product for every vector and sample: `[V, N, *out]` to `[V, N, *p]`.
pub(super) fn products(site: &dyn AffineSite, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
    if let Some((x, v)) = site.single_position(saved, v) {
        return Ok(v.unsqueeze(-1) * x.unsqueeze(-2));
    }
    let products = Rows(site.rows(saved, parameter)?).outer(&site.vectors(saved, v)?)?;
    Ok(site.as_weight(parameter, &products, &v.size()[..2]))
}

/// The sum over vectors and samples of the squared products, each times its sign: `[*p]`.
pub(super) fn squares_sum(
    site: &dyn AffineSite,
    saved: &Saved,
    parameter: usize,
    v: &Tensor,
    signs: Option<&Tensor>,
) -> Result<Tensor> {
    if let Some((x, v)) = site.single_position(saved, v) {
        return matmul(&signed_squares(&v, signs).tr(), &x.square());
    }
    let squares = sum_parts(site, saved, |part, start, length| {
        if length == saved.samples() {
            return Rows(site.rows(saved, parameter)?).squares_sum(&site.vectors(saved, v)?, signs);
        }
        let signs = signs.map(|signs| signs.narrow(1, start, length));
        let vectors = site.vectors(part, &v.narrow(1, start, length))?;
        Rows(site.rows(part, parameter)?).squares_sum(&vectors, signs.as_ref())
    })?;
    Ok(site.as_weight(parameter, &squares, &[]).contiguous())
}

/// The sum over vectors alone of the squared products, each times its sign: `[N, *p]`.
pub(super) fn squares_per_sample(
    site: &dyn AffineSite,
    saved: &Saved,
    parameter: usize,
    v: &Tensor,
    signs: Option<&Tensor>,
) -> Result<Tensor> {
    if let Some((x, v)) = site.single_position(saved, v) {
        return Ok(signed_squares(&v, signs).unsqueeze(-1) * x.square().unsqueeze(-2));
    }
    let squares = Rows(site.rows(saved, parameter)?).squares_per_sample(&site.vectors(saved, v)?, signs)?;
    Ok(site.as_weight(parameter, &squares, &[saved.samples()]))
}

/// The squared Frobenius norm of each product: `[V, N, *out]` to `[V, N]`.
pub(super) fn squared_norms(site: &dyn AffineSite, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
    if let Some((x, v)) = site.single_position(saved, v) {
        let norms = |tensor: &Tensor| tensor.square().sum_dim_intlist(-1, false, None::<Kind>);
        return Ok(norms(&v) * norms(&x));
    }
    Rows(site.rows(saved, parameter)?).squared_norms(&site.vectors(saved, v)?)
}

/// The sum over samples and positions of the outer products of the rows, d in their own order: `[G, d, d]`.
pub(super) fn second_moments(site: &dyn AffineSite, saved: &Saved, parameter: usize) -> Result<Tensor> {
    sum_parts(site, saved, |part, _, _| Rows(site.rows(part, parameter)?).second_moment())
}

/// Adds up `work` over parts of the samples whose rows, where they have to be made, stay below a bound; `work` gets a
/// part, its first sample and its length.
fn sum_parts(
    site: &dyn AffineSite,
    saved: &Saved,
    work: impl Fn(&Saved, i64, i64) -> Result<Tensor>,
) -> Result<Tensor> {
    let samples = saved.samples();
    let length = (ROW_BYTES / site.made_bytes(saved).max(1)).clamp(1, samples.max(1));
    if length == samples {
        return work(saved, 0, samples);
    }
    let mut sum: Option<Tensor> = None;
    let mut start = 0;
    while start < samples {
        let length = length.min(samples - start);
        let part = work(&saved.narrow(start, length), start, length)?;
        sum = Some(match sum {
            Some(sum) => sum + part,
            None => part,
        });
        start += length;
    }
    sum.ok_or_else(|| Error::Shape("a batch without samples".into()))
}

/// Inputs of `T` positions: `[N, G, d, T]`.
pub(super) struct Rows(pub Tensor);

impl Rows {
    fn sizes(&self) -> (i64, i64, i64, i64) {
        self.0.size4().expect("rows have four dimensions")
    }

    fn element_bytes(&self) -> i64 {
        self.0.kind().elt_size_in_bytes() as i64
    }

    /// `v x^T` for every vector and sample: `[V, N, G, o, T]` to `[V, N, G, o, d]`.
    pub fn outer(&self, v: &Tensor) -> Result<Tensor> {
        let x = self.0.transpose(-2, -1);
        if v.size()[0] == 1 {
            return matmul(v, &x);
        }
        let vectors: Result<Vec<Tensor>> = (0..v.size()[0]).map(|vector| matmul(&v.get(vector), &x)).collect();
        Ok(Tensor::stack(&vectors?, 0))
    }

    /// Splits the samples so that `bytes_per_sample` of work fit the cache, and hands each part to `work`.
    fn chunks(&self, bytes_per_sample: i64, mut work: impl FnMut(i64, i64) -> Result<()>) -> Result<()> {
        let samples = self.0.size()[0];
        let step = (CHUNK_BYTES / bytes_per_sample.max(1)).clamp(1, samples.max(1));
        let mut start = 0;
        while start < samples {
            work(start, step.min(samples - start))?;
            start += step;
        }
        Ok(())
    }

    /// The products of the samples `start..start + length` for all vectors, `[length, G, V * o, d]`.
    fn outer_chunk(&self, v: &Tensor, start: i64, length: i64) -> Result<Tensor> {
        let (_, g, _, t) = self.sizes();
        let (vectors, o) = (v.size()[0], v.size()[3]);
        let part = v.narrow(1, start, length);
        let part = if vectors == 1 {
            part.squeeze_dim(0)
        } else {
            part.permute([1, 2, 0, 3, 4]).reshape([length, g, vectors * o, t])
        };
        matmul(&part, &self.0.narrow(0, start, length).transpose(-2, -1))
    }

    /// The squared products of the samples `start..start + length`, each times its sign: `[length, G, V, o, d]`.
    fn squared_chunk(&self, v: &Tensor, signs: Option<&Tensor>, start: i64, length: i64) -> Result<Tensor> {
        let (_, g, d, _) = self.sizes();
        let (vectors, o) = (v.size()[0], v.size()[3]);
        let mut products = self.outer_chunk(v, start, length)?;
        let _ = products.square_();
        let squares = products.view([length, g, vectors, o, d]);
        Ok(match signs {
            Some(signs) => squares * signs.narrow(1, start, length).transpose(0, 1).view([length, 1, vectors, 1, 1]),
            None => squares,
        })
    }

    /// The sum over vectors and samples of the squared products, each times its sign: `[G, o, d]`.
    pub fn squares_sum(&self, v: &Tensor, signs: Option<&Tensor>) -> Result<Tensor> {
        let (_, g, d, _) = self.sizes();
        let (vectors, o) = (v.size()[0], v.size()[3]);
        // A single vector is not worth the search for what is zero.
        if vectors > 1 && g == 1 && is_sparse(v) {
            let x = self.0.squeeze_dim(1).transpose(1, 2);
            return Ok(sparse_squares_sum(&x, &v.squeeze_dim(2), signs).unsqueeze(0));
        }
        let mut sum = Tensor::zeros([g, o, d], (v.kind(), v.device()));
        if vectors > 1 {
            let signs =
                signs.map(|signs| Vec::<f64>::try_from(signs.to_kind(Kind::Double).flatten(0, 1))).transpose()?;
            let samples = self.0.size()[0];
            // One product at a time, added up while it is still in the cache. The vectors of a sample do not lie side
            // by side, so that a larger product would have to copy them first.
            let product = Tensor::empty([g, o, d], (v.kind(), v.device()));
            for sample in 0..samples {
                let x = self.0.get(sample).transpose(1, 2);
                for vector in 0..vectors {
                    let sign = signs.as_ref().map_or(1.0, |signs| signs[(vector * samples + sample) as usize]);
                    if sign == 0.0 {
                        continue;
                    }
                    matmul_into(&product, &v.get(vector).get(sample), &x, 0.0, 1.0)?;
                    add_product(&sum, &product, &product, sign)?;
                }
            }
            return Ok(sum);
        }
        self.chunks(vectors * g * o * d * self.element_bytes(), |start, length| {
            let squares = self.squared_chunk(v, signs, start, length)?;
            let _ = sum.g_add_(&squares.sum_dim_intlist([0i64, 2].as_slice(), false, None::<Kind>));
            Ok(())
        })?;
        Ok(sum)
    }

    /// The sum over vectors and samples of the squared entries of `b^T (v x^T) a` for bases `a` `[G, d, d]` and `b`
    /// `[G, o, o]`: `[G, o, d]`. Either the rows and vectors are turned into the bases or their products are, as
    /// multiplications are fewer.
    pub fn squares_sum_in(&self, v: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let (_, g, d, t) = self.sizes();
        let (vectors, o) = (v.size()[0], v.size()[3]);
        if t * (d * d + vectors * o * o) <= vectors * o * d * (o + d) {
            let rows = Rows(matmul(&a.transpose(-2, -1), &self.0)?);
            let v = matmul(&b.transpose(-2, -1), v)?;
            if t > 1 {
                return rows.squares_sum(&v, None);
            }
            // One position: the squares of a product of two vectors are the products of their squares.
            let v = v.square().sum_dim_intlist(0, false, None::<Kind>).squeeze_dim(-1);
            return matmul(&v.permute([1, 2, 0]), &rows.0.square().squeeze_dim(-1).permute([1, 0, 2]));
        }
        let mut sum = Tensor::zeros([g, o, d], (v.kind(), v.device()));
        self.chunks(3 * vectors * g * o * d * self.element_bytes(), |start, length| {
            let half = matmul(&self.outer_chunk(v, start, length)?, a)?.view([length, g, vectors, o, d]);
            let whole = matmul(&b.transpose(-2, -1).unsqueeze(1), &half)?;
            let _ = sum.g_add_(&whole.square().sum_dim_intlist([0i64, 2].as_slice(), false, None::<Kind>));
            Ok(())
        })?;
        Ok(sum)
    }

    /// The sum over vectors alone of the squared products, each times its sign: `[N, G, o, d]`.
    pub fn squares_per_sample(&self, v: &Tensor, signs: Option<&Tensor>) -> Result<Tensor> {
        let (n, g, d, _) = self.sizes();
        let (vectors, o) = (v.size()[0], v.size()[3]);
        let out = Tensor::empty([n, g, o, d], (v.kind(), v.device()));
        self.chunks(vectors * g * o * d * self.element_bytes(), |start, length| {
            let squares = self.squared_chunk(v, signs, start, length)?;
            out.narrow(0, start, length).copy_(&squares.sum_dim_intlist(2, false, None::<Kind>));
            Ok(())
        })?;
        Ok(out)
    }

    /// Whether squared norms are cheaper through the Gram matrices of the positions, `T x T` each, than through the
    /// `o x d` products themselves: multiplications counted (mixed ghost clipping, Bu et al., 2022).
    pub fn gram_is_cheaper(d: i64, o: i64, t: i64) -> bool {
        t * (d + o) < d * o
    }

    /// The squared Frobenius norm of each product: `[V, N, G, o, T]` to `[V, N]`.
    pub fn squared_norms(&self, v: &Tensor) -> Result<Tensor> {
        let (n, g, d, t) = self.sizes();
        let (vectors, o) = (v.size()[0], v.size()[3]);
        let out = Tensor::empty([vectors, n], (v.kind(), v.device()));
        if Self::gram_is_cheaper(d, o, t) {
            self.chunks((vectors + 1) * g * t * t * self.element_bytes(), |start, length| {
                let x = self.0.narrow(0, start, length);
                let gram_x = matmul(&x.transpose(-2, -1), &x)?;
                for vector in 0..vectors {
                    let part = v.get(vector).narrow(0, start, length);
                    let mut gram = matmul(&part.transpose(-2, -1), &part)?;
                    let _ = gram.g_mul_(&gram_x);
                    out.get(vector).narrow(0, start, length).copy_(&gram.flatten(1, -1).sum_dim_intlist(
                        1,
                        false,
                        None::<Kind>,
                    ));
                }
                Ok(())
            })?;
        } else {
            self.chunks(vectors * g * o * d * self.element_bytes(), |start, length| {
                let mut products = self.outer_chunk(v, start, length)?;
                let _ = products.square_();
                let norms = products.view([length, g, vectors, o * d]).sum_dim_intlist(
                    [1i64, 3].as_slice(),
                    false,
                    None::<Kind>,
                );
                out.narrow(1, start, length).copy_(&norms.transpose(0, 1));
                Ok(())
            })?;
        }
        Ok(out)
    }

    /// The sum over samples and positions of the inputs' outer products: `[G, d, d]`.
    pub fn second_moment(&self) -> Result<Tensor> {
        let (n, g, d, t) = self.sizes();
        second_moment(&self.0.permute([1, 0, 3, 2]).reshape([g, n * t, d]), 1.0)
    }
}
