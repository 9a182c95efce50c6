//! Inverses of damped Kronecker factors by Cholesky's decomposition, with a stated order of fallbacks.
//!
//! A factor is positive semi-definite and its shift positive, so the decomposition exists up to rounding. Where it
//! fails: (1) once more in double precision; (2) in double precision with a larger shift, ten times the last, starting
//! at 1e-6 of the mean diagonal; (3) the shifted diagonal alone. Each failure is counted, none stops a run.

use tch::{Kind, Tensor};

use crate::error::Result;

/// How many times the shift grows before the diagonal alone is used.
const GROWTHS: i32 = 6;

/// The inverse of a damped factor, ready to be applied.
#[derive(Debug)]
pub(super) enum DampedInverse {
    /// The lower Cholesky factor, in the working precision.
    Cholesky(Tensor),
    /// The diagonal of the damped factor, `[.., d, 1]`.
    Diagonal(Tensor),
}

impl DampedInverse {
    /// The inverse of `factor + shift I`, `[d, d]` or `[groups, d, d]`; also says how many attempts failed.
    pub fn new(factor: &Tensor, shift: f64) -> Result<(Self, u64)> {
        if let Some(lower) = cholesky(factor, shift)? {
            return Ok((DampedInverse::Cholesky(lower), 0));
        }
        let kind = factor.kind();
        let double = factor.to_kind(Kind::Double);
        if let Some(lower) = cholesky(&double, shift)? {
            return Ok((DampedInverse::Cholesky(lower.to_kind(kind)), 1));
        }
        let diagonal = double.diagonal(0, -2, -1);
        let mean = f64::try_from(diagonal.abs().mean(Kind::Double))?;
        if mean.is_finite() {
            for growth in 0..GROWTHS {
                let larger = shift.max(1e-6 * mean) * 10f64.powi(growth);
                if let Some(lower) = cholesky(&double, larger)? {
                    return Ok((DampedInverse::Cholesky(lower.to_kind(kind)), 2 + growth as u64));
                }
            }
        }
        let floor = shift.max(f64::MIN_POSITIVE);
        let damped = diagonal.nan_to_num(0.0, 0.0, 0.0).clamp_min(0.0) + floor;
        Ok((DampedInverse::Diagonal(damped.unsqueeze(-1).to_kind(kind)), 2 + GROWTHS as u64))
    }

    /// The form's name and tensor, for a checkpoint.
    pub fn parts(&self) -> (&'static str, &Tensor) {
        match self {
            DampedInverse::Cholesky(lower) => ("cholesky", lower),
            DampedInverse::Diagonal(diagonal) => ("diagonal", diagonal),
        }
    }

    /// The inverse whose name and tensor were saved.
    pub fn from_parts(form: &str, tensor: Tensor) -> Self {
        if form == "diagonal" { DampedInverse::Diagonal(tensor) } else { DampedInverse::Cholesky(tensor) }
    }

    /// The inverse times `right`, `[.., d, columns]`.
    pub fn apply(&self, right: &Tensor) -> Result<Tensor> {
        Ok(match self {
            DampedInverse::Cholesky(lower) => right.f_cholesky_solve(lower, false)?,
            DampedInverse::Diagonal(diagonal) => right.f_div(diagonal)?,
        })
    }
}

/// The lower factor of `factor + shift I`; None where it does not exist.
fn cholesky(factor: &Tensor, shift: f64) -> Result<Option<Tensor>> {
    let damped = factor.copy();
    let _ = damped.diagonal(0, -2, -1).g_add_scalar_(shift);
    let (lower, info) = damped.f_linalg_cholesky_ex(false, false)?;
    let failed = f64::try_from(info.abs().max())? != 0.0;
    // A factor that holds NaN or infinity may come out without complaint; its last pivot tells.
    let last = lower.select(-1, -1).select(-1, -1);
    let finite = f64::try_from(last.isfinite().all().to_kind(Kind::Double))? != 0.0;
    Ok((!failed && finite).then_some(lower))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    const OPTIONS: (Kind, Device) = (Kind::Double, Device::Cpu);

    fn largest(tensor: &Tensor) -> f64 {
        f64::try_from(tensor.abs().max()).unwrap()
    }

    #[test]
    fn the_inverse_is_the_inverse() {
        tch::manual_seed(0);
        let x = Tensor::randn([20, 7], OPTIONS);
        let factor = x.tr().mm(&x);
        let (inverse, failures) = DampedInverse::new(&factor, 0.3).unwrap();
        assert_eq!(failures, 0);
        let damped = &factor + Tensor::eye(7, OPTIONS) * 0.3;
        let product = damped.mm(&inverse.apply(&Tensor::eye(7, OPTIONS)).unwrap());
        assert!(largest(&(product - Tensor::eye(7, OPTIONS))) < 1e-10);
    }

    #[test]
    fn a_singular_factor_in_single_precision_is_saved_by_double() {
        // Rank one with entries of 1e4: the shift of 1e-3 is below single precision's resolution.
        let x = Tensor::full([1, 50], 1e2, (Kind::Float, Device::Cpu))
            + Tensor::arange(50, (Kind::Float, Device::Cpu)) * 0.37;
        let factor = x.tr().mm(&x);
        let (inverse, failures) = DampedInverse::new(&factor, 1e-3).unwrap();
        assert!(failures >= 1, "single precision should not manage this");
        assert!(largest(&inverse.apply(&Tensor::ones([50, 1], (Kind::Float, Device::Cpu))).unwrap()).is_finite());
    }

    #[test]
    fn nothing_finite_is_left_to_the_diagonal() {
        let factor = Tensor::full([3, 3], f64::NAN, OPTIONS);
        let (inverse, failures) = DampedInverse::new(&factor, 0.5).unwrap();
        assert!(failures > 0);
        let applied = inverse.apply(&Tensor::ones([3, 1], OPTIONS)).unwrap();
        assert!((largest(&applied) - 2.0).abs() < 1e-12);
    }

    #[test]
    fn an_indefinite_factor_gets_a_larger_shift() {
        let factor = Tensor::from_slice(&[1.0f64, 0.0, 0.0, -0.5]).view([2, 2]);
        let (_, failures) = DampedInverse::new(&factor, 0.1).unwrap();
        assert!(failures >= 2);
    }
}
