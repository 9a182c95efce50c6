//! Cross-entropy of softmax probabilities with class labels.
//!
//! With p the softmax of the output f: gradient p - e_y, Hessian diag(p) - p p^T.

use tch::{Kind, Tensor};

use super::{Evaluated, Loss, Reduction, output_size, scale};
use crate::backpack::draws::Draws;
use crate::error::{Error, Result};

/// `cross_entropy`: output `[N, C]` or `[N, C, ..]`, target `[N]` or `[N, ..]` of int64 classes. A mean is over samples and
/// the positions behind the classes.
#[derive(Clone, Copy, Debug, Default)]
pub struct CrossEntropy {
    reduction: Reduction,
}

impl CrossEntropy {
    /// Cross-entropy with this reduction.
    pub fn new(reduction: Reduction) -> Self {
        CrossEntropy { reduction }
    }
}

/// `[N, C, ..]` as `[N * positions, C]`; an output without positions stays as it is.
fn rows(p: &Tensor) -> Tensor {
    if p.dim() == 2 {
        return p.shallow_clone();
    }
    let classes = p.size()[1];
    p.flatten(2, -1).transpose(1, 2).reshape([-1, classes])
}

/// How many positions there are behind the classes.
fn positions(p: &Tensor) -> i64 {
    p.size()[2..].iter().product()
}

/// A root for rows, `[K, N * positions, C]`, as one for outputs of this size, `[K * positions, N, C, ..]`: each position
/// has vectors of its own, position by position for each of the K.
fn spread(root: Tensor, size: &[i64]) -> Tensor {
    let &[samples, classes, ref axes @ ..] = size else { return root };
    if axes.is_empty() {
        return root;
    }
    let positions: i64 = axes.iter().product();
    let each = root.view([-1, samples, positions, classes]).transpose(2, 3);
    // [K, N, C, positions, positions], the last axis but one to the vectors.
    let own = each.diag_embed(0, -2, -1).permute([0, 3, 1, 2, 4]);
    own.reshape([&[-1, samples, classes], axes].concat().as_slice())
}

impl CrossEntropy {
    fn scale(&self, p: &Tensor, batch: i64) -> f64 {
        scale(self.reduction, batch * positions(p))
    }

    /// Column c is sqrt(p_c) (e_c - p), for rows `[N, C]`.
    fn root_of_rows(p: &Tensor, scale: f64) -> Tensor {
        let roots = (p * scale).sqrt();
        let columns = (roots.tr().unsqueeze(2) * p.unsqueeze(0)).neg();
        columns.diagonal(0, 0, 2).copy_(&(roots * others(p)));
        columns
    }

    /// The narrow root for rows `[N, C]`, see [`Loss::narrow_sqrt_hessian`].
    fn narrow_root_of_rows(p: &Tensor, scale: f64) -> Tensor {
        let classes = p.size()[1];
        if classes == 1 {
            return Self::root_of_rows(p, scale);
        }
        // r_{c-1} at c: the sum from c on; small sums are added up first.
        let from = p.flip([1]).cumsum(1, None::<Kind>).flip([1]);
        let (from, behind) = (from.narrow(1, 0, classes - 1), from.narrow(1, 1, classes - 1));
        let own = p.narrow(1, 0, classes - 1);
        // Where nothing is left behind, all that would be divided is zero too.
        let ratio = |numerator: &Tensor, denominator: &Tensor| {
            (numerator / denominator).where_self(&denominator.gt(0.0), &numerator.zeros_like())
        };
        let root = scale.sqrt();
        let diagonal = (&own * ratio(&behind, &from)).sqrt() * root;
        // [C - 1, N, C]: the share of class d in all that is behind c, where d is behind c.
        let behind = behind.tr().unsqueeze(2);
        let columns = p.unsqueeze(0) / &behind * diagonal.tr().neg().unsqueeze(2);
        let strictly = Tensor::ones([classes - 1, classes], (Kind::Bool, p.device())).triu(1).unsqueeze(1);
        let columns =
            columns.where_self(&strictly.logical_and(&behind.gt(0.0)), &Tensor::zeros([], (p.kind(), p.device())));
        let embedded = diagonal.diag_embed(0, 1, 2).transpose(0, 1).constant_pad_nd([0, 1]);
        columns + embedded
    }
}

impl Loss for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn reduction(&self) -> Reduction {
        self.reduction
    }

    fn takes_classes(&self) -> bool {
        true
    }

    fn evaluate(&self, output: &Tensor, target: &Tensor) -> Result<Evaluated> {
        let (samples, _) = output_size(self.name(), output)?;
        let size = output.size();
        let expected = [&[samples], &size[2..]].concat();
        if target.size() != expected || target.kind() != Kind::Int64 {
            return Err(Error::Shape(format!(
                "cross_entropy: expected int64 classes of shape {expected:?}, got {:?} of shape {:?}",
                target.kind(),
                target.size()
            )));
        }
        let scale = self.scale(output, samples);
        let log_probabilities = output.log_softmax(1, None::<Kind>);
        let places = target.unsqueeze(1);
        let value = log_probabilities.f_gather(1, &places, false)?.sum(None::<Kind>) * -scale;
        let predictive = log_probabilities.exp();
        let mut gradient = &predictive * scale;
        let shift = Tensor::full(places.size().as_slice(), -scale, (output.kind(), output.device()));
        let _ = gradient.scatter_add_(1, &places, &shift);
        Ok(Evaluated { value, gradient, predictive })
    }

    fn value(&self, output: &Tensor, target: &Tensor) -> Result<Tensor> {
        let scale = self.scale(output, output.size()[0]);
        let log_probabilities = output.log_softmax(1, None::<Kind>);
        Ok(log_probabilities.f_gather(1, &target.unsqueeze(1), false)?.sum(None::<Kind>) * -scale)
    }

    fn sqrt_hessian(&self, at: &Evaluated, batch: i64) -> Result<Tensor> {
        let p = &at.predictive;
        Ok(spread(Self::root_of_rows(&rows(p), self.scale(p, batch)), &p.size()))
    }

    /// The Cholesky factor of diag(p) - p p^T, whose rank is one less than the number of classes (Tanabe and Sagae,
    /// 1992): with r_c the sum of the probabilities behind c, column c is sqrt(p_c r_c / r_{c-1}) at c and
    /// -(p_d / r_c) sqrt(p_c r_c / r_{c-1}) at every d behind it. In this form the quotients are at most 1, however
    /// small r_c is.
    fn narrow_sqrt_hessian(&self, at: &Evaluated, batch: i64) -> Result<Tensor> {
        let p = &at.predictive;
        Ok(spread(Self::narrow_root_of_rows(&rows(p), self.scale(p, batch)), &p.size()))
    }

    fn sample(&self, at: &Evaluated, samples: i64, draws: &mut Draws) -> Result<Tensor> {
        let p = &at.predictive;
        let rows = rows(p);
        let (count, classes) = rows.size2()?;
        // Inverse transform: the class is the number of cumulated probabilities at or below the draw.
        let cumulated = rows.to_kind(Kind::Double).cumsum(1, None::<Kind>);
        let each = &[samples, p.size()[0], count / p.size()[0].max(1)];
        let draws = draws.uniform(each, p.device()).view([samples, count]).to_kind(Kind::Double);
        let total = cumulated.narrow(1, classes - 1, 1).transpose(0, 1);
        let below = cumulated.unsqueeze(0).le_tensor(&(draws * total).unsqueeze(2));
        let labels = below.sum_dim_intlist(2, false, Kind::Int64).clamp(0, classes - 1);
        Ok(labels.view([&[samples, p.size()[0]], &p.size()[2..]].concat().as_slice()))
    }

    fn sqrt_hessian_sampled(&self, at: &Evaluated, targets: &Tensor, batch: i64) -> Result<Tensor> {
        let p = &at.predictive;
        let size = p.size();
        let expected = [&size[..1], &size[2..]].concat();
        if targets.dim() == 0 || targets.size()[1..] != expected || targets.kind() != Kind::Int64 {
            return Err(Error::Shape(format!(
                "cross_entropy: sampled labels of shape {:?} and type {:?}, expected int64 [M, ..] with [..] = {expected:?}",
                targets.size(),
                targets.kind()
            )));
        }
        let samples = targets.size()[0];
        let scale = (self.scale(p, batch) / samples as f64).sqrt();
        let vectors =
            (p * scale).unsqueeze(0).expand([&[samples], size.as_slice()].concat().as_slice(), false).contiguous();
        let places = targets.unsqueeze(2);
        let shift = Tensor::full(places.size().as_slice(), -scale, (p.kind(), p.device()));
        Ok(vectors.f_scatter_add(2, &places, &shift)?)
    }

    fn hessian_product(&self, at: &Evaluated, v: &Tensor, batch: i64) -> Result<Tensor> {
        // H 1 = 0, so that a vector may be shifted: by its entry at the most probable class, whose p (1 - p) would cancel.
        let likeliest = at.predictive.argmax(1, true).unsqueeze(0);
        let likeliest = likeliest.expand([&v.size()[..1], &likeliest.size()[1..]].concat().as_slice(), false);
        let v = v - v.f_gather(2, &likeliest, false)?;
        let p = at.predictive.unsqueeze(0);
        let weighted = v * &p;
        let sum = weighted.sum_dim_intlist(2, true, None::<Kind>);
        Ok((weighted - p * sum) * self.scale(&at.predictive, batch))
    }

    fn summed_hessian(&self, at: &Evaluated, batch: i64) -> Result<Tensor> {
        // The entries of a row add up to zero; sum p - sum p^2 would cancel where predictions are certain.
        let p = &at.predictive;
        let mut hessian = p.tr().mm(p) * -scale(self.reduction, batch);
        let _ = hessian.fill_diagonal_(0.0, false);
        let rest = hessian.sum_dim_intlist(1, false, None::<Kind>).neg();
        hessian.diagonal(0, 0, 1).copy_(&rest);
        Ok(hessian)
    }

    fn accuracy(&self, output: &Tensor, target: &Tensor) -> Result<f64> {
        let correct = output.argmax(1, false).f_eq_tensor(target)?;
        Ok(f64::try_from(correct.to_kind(Kind::Double).mean(Kind::Double))?)
    }
}

/// 1 - p, `[N, C]`, as the sum of the other probabilities: the difference would lose what is left beside a p near one.
fn others(p: &Tensor) -> Tensor {
    let before = |p: &Tensor| p.constant_pad_nd([1, -1]).cumsum(1, None::<Kind>);
    before(p) + before(&p.flip([1])).flip([1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// Both roots against diag(p) - p p^T, sample by sample, saturated and exactly certain predictions included.
    #[test]
    fn both_roots_are_roots_of_the_hessian() {
        let logits = Tensor::from_slice(&[
            0.3f64, -1.2, 2.0, 0.7, 60.0, -60.0, 0.0, 1.0, 0.0, 0.0, 0.0, 2000.0, 2000.0, 0.0, -3.0, 1.0,
        ])
        .view([4, 4]);
        let target = Tensor::zeros([4], (Kind::Int64, Device::Cpu));
        let loss = CrossEntropy::new(Reduction::Mean);
        let at = loss.evaluate(&logits, &target).unwrap();
        let exact = loss.sqrt_hessian(&at, 4).unwrap();
        let narrow = loss.narrow_sqrt_hessian(&at, 4).unwrap();
        assert_eq!(narrow.size(), [3, 4, 4]);
        for sample in 0..4 {
            let p = at.predictive.get(sample);
            let hessian = (p.diag(0) - p.outer(&p)) / 4.0;
            for root in [&exact, &narrow] {
                let columns = root.select(1, sample);
                let error = f64::try_from((columns.tr().mm(&columns) - &hessian).abs().max()).unwrap();
                assert!(error < 1e-16, "sample {sample}: {error}");
            }
        }
    }

    /// In single precision the reciprocal of the last probability, 8e-40, is infinite.
    #[test]
    fn a_probability_that_has_no_reciprocal_leaves_the_root_finite() {
        for last in [-85f32, -90.0, -100.0, -104.0] {
            let logits = Tensor::from_slice(&[1.0f32, 0.0, last, last]).view([1, 4]);
            let loss = CrossEntropy::new(Reduction::Mean);
            let at = loss.evaluate(&logits, &Tensor::zeros([1], (Kind::Int64, Device::Cpu))).unwrap();
            let p = at.predictive.get(0);
            let columns = loss.narrow_sqrt_hessian(&at, 1).unwrap().select(1, 0);
            let error = f64::try_from((columns.tr().mm(&columns) - (p.diag(0) - p.outer(&p))).abs().max()).unwrap();
            assert!(error < 1e-7, "{last}: {error}");
        }
    }
}
