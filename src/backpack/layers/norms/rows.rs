//! Rows of a sample, each normalised by itself: y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps), or without the mean.
//!
//! With h the normalised row, i one over its spread and P what takes the mean away (or nothing), a row's Jacobian is
//! i (P - h h^T / d), which is symmetric, and for a gradient g at the output, u = P g and s = g^T h / d, its second
//! derivative is
//!
//! ```text
//! i^2 / d (-(u h^T + h u^T) - d s P + 3 s h h^T).
//! ```

use tch::{Kind, Tensor};

use super::super::Saved;
use crate::error::Result;

/// The rows that are normalised.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// How many rows a sample has.
    pub count: i64,
    /// How long each is.
    pub length: i64,
    /// Whether the mean is taken away.
    pub centred: bool,
    /// What is added to the variance.
    pub eps: f64,
}

impl Rows {
    /// `[.., *input]`, with so many leading axes, as `[.., R, d]`.
    pub fn of(&self, x: &Tensor, leading: usize) -> Tensor {
        x.reshape([&x.size()[..leading], &[self.count, self.length]].concat().as_slice())
    }

    fn mean(rows: &Tensor) -> Tensor {
        rows.mean_dim(-1i64, true, None::<Kind>)
    }

    fn centre(&self, rows: Tensor) -> Tensor {
        if self.centred { &rows - Self::mean(&rows) } else { rows }
    }

    /// The normalised rows `[N, R, d]` and one over their spreads `[N, R, 1]`.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn normalise(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let rows = self.of(x, 1);
        if self.centred {
            let none = None::<&Tensor>;
            let (normalised, _, inverse) = rows.f_native_layer_norm(self.length, none, none, self.eps)?;
            return Ok((normalised, inverse));
        }
        let inverse = (Self::mean(&rows.square()) + self.eps).rsqrt();
        Ok((rows * &inverse, inverse))
    }

    /// What was saved: the normalised rows `[N, R, d]` and one over their spreads `[N, R, 1]`.
    fn saved<'a>(&self, saved: &'a Saved) -> (Tensor, &'a Tensor) {
        (self.of(&saved.extra[0], 1), &saved.extra[1])
    }

    /// The Jacobian, or its transpose, times `[V, N, *input]`.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn jacobian(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        let (h, inverse) = self.saved(saved);
        let v_rows = self.of(v, 2);
        let along = Self::mean(&(&v_rows * &h));
        Ok((self.centre(v_rows).f_addcmul(&h, &along.neg())? * inverse).view_as(v))
    }

    /// The second derivative for the gradient `g` at the normalised rows times a tangent, `[N, *input]` each.
    pub fn residual_times(&self, saved: &Saved, g: &Tensor, tangent: &Tensor) -> Tensor {
        let (h, inverse) = self.saved(saved);
        let (g, t) = (self.of(g, 1), self.of(tangent, 1));
        let share = Self::mean(&(&g * &h));
        let u = self.centre(g);
        let (along, across) = (Self::mean(&(&h * &t)), Self::mean(&(&u * &t)));
        let bent = h * (&along * &share * 3.0 - across) - u * along - self.centre(t) * share;
        (bent * inverse.square()).view_as(tangent)
    }

    /// For each row a vector for every entry, for P, and three for what has rank two.
    pub fn root_width(&self) -> i64 {
        self.count * (self.length + 3)
    }

    /// The vectors `start..start + count` of the second derivative's root, row by row, `[count, N, *input]`, and their
    /// signs.
    pub fn signed_root(&self, saved: &Saved, g: &Tensor, start: i64, count: i64) -> (Tensor, Tensor) {
        let (h, inverse) = self.saved(saved);
        let samples = saved.samples();
        let options = (g.kind(), g.device());
        let each = self.length + 3;
        let rows = self.of(g, 1);
        let vectors = Tensor::zeros([count, samples, self.count, self.length], options);
        let signs = Tensor::zeros([count, samples], options);
        let mut from = start;
        while from < start + count {
            let row = from / each;
            let upto = (start + count).min((row + 1) * each);
            let (root, root_signs) = self.root_of_row(&h.select(1, row), &inverse.select(1, row), rows.select(1, row));
            let (first, length) = (from - row * each, upto - from);
            vectors.narrow(0, from - start, length).select(2, row).copy_(&root.narrow(0, first, length));
            signs.narrow(0, from - start, length).copy_(&root_signs.narrow(0, first, length));
            from = upto;
        }
        (vectors.view([&[count], saved.input.size().as_slice()].concat().as_slice()), signs)
    }

    /// The whole root for one row of each sample: `h`, `g` are `[N, d]`, `inverse` is `[N, 1]`; gives `[d + 3, N, d]` and
    /// `[d + 3, N]`.
    fn root_of_row(&self, h: &Tensor, inverse: &Tensor, g: Tensor) -> (Tensor, Tensor) {
        let length = self.length as f64;
        let share = Self::mean(&(&g * h));
        let u = self.centre(g);
        // -s P: the columns of P, which is its own square.
        let columns = self.centre(Tensor::eye(self.length, (h.kind(), h.device())));
        let spread = columns.unsqueeze(1) * (share.abs().sqrt() * inverse).unsqueeze(0);
        let sign = share.sign().squeeze_dim(1).unsqueeze(0);
        // 3 s h h^T / d.
        let along = (h * (&share * 3.0 / length).abs().sqrt() * inverse).unsqueeze(0);
        // u h^T + h u^T = ((a u + h / a)(..)^T - (a u - h / a)(..)^T) / 2 for any a: the one that gives both the same size
        // loses the fewest digits.
        // Where one of them is zero, so are both products.
        let size = |x: &Tensor| Self::mean(&x.square()).sqrt() + 1e-30;
        let balance = (size(h) / size(&u)).sqrt();
        let (one, other) = (&u * &balance, h / balance);
        let both = |x: Tensor| (x * inverse * (0.5 / length).sqrt()).unsqueeze(0);
        let ones = Tensor::ones_like(&sign);
        let vectors = Tensor::cat(&[spread, along, both(&one + &other), both(one - other)], 0);
        let signs = Tensor::cat(&[-sign.expand([self.length, -1], false), sign, -&ones, ones], 0);
        (vectors, signs)
    }
}
