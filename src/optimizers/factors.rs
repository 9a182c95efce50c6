//! The running Kronecker factors of a layer, and the inverses of damped ones.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::{Averaging, RunningEstimate, wanted};
use crate::backpack::Quantities;
use crate::backpack::layers::Reading;
use crate::backpack::native::symmetric;
use crate::backpack::quantities::by_name;
use crate::error::Result;

/// The running factors of one layer; weight and bias share B. Of both the upper triangle is what counts: the lower one
/// of an A that is made of rows is not kept up.
#[derive(Debug, Default)]
pub(super) struct Factors {
    pub a: RunningEstimate,
    pub b: RunningEstimate,
}

impl Factors {
    /// Takes in the factors of a quantity at the weight of this number; B `b_times` times.
    pub fn observe(
        &mut self,
        quantities: &Quantities,
        quantity: &str,
        weight: usize,
        averaging: Averaging,
        b_times: i32,
    ) -> Result<()> {
        let reading = by_name(quantity).and_then(|quantity| quantity.input_factor());
        observe_input(&mut self.a, quantities, (quantity, reading.unwrap_or(Reading::Expand)), weight, averaging)?;
        self.b.observe(wanted(quantities, quantity, weight, "B")?, averaging, b_times);
        Ok(())
    }

    /// What later steps depend on, of the layer at this place.
    pub fn state(&self, place: usize) -> Vec<(String, Tensor)> {
        let of = |name: &str, estimate: &RunningEstimate| estimate.saved(&format!("{name}.{place}"), symmetric);
        of("a", &self.a).into_iter().chain(of("b", &self.b)).collect()
    }

    /// Takes its part out of a saved state.
    pub fn load_state(&mut self, place: usize, state: &mut BTreeMap<String, Tensor>) -> Result<()> {
        for (name, estimate) in [("a", &mut self.a), ("b", &mut self.b)] {
            *estimate = RunningEstimate::take(state, &format!("{name}.{place}"))?;
        }
        Ok(())
    }
}

/// Takes the input factor of a quantity, which has this reading, at the weight of this number into a running one.
pub(super) fn observe_input(
    estimate: &mut RunningEstimate,
    quantities: &Quantities,
    (quantity, reading): (&str, Reading),
    weight: usize,
    averaging: Averaging,
) -> Result<()> {
    let Some(x) = quantities.find(quantity, weight, "X") else {
        estimate.observe(wanted(quantities, quantity, weight, "A")?, averaging, 1);
        return Ok(());
    };
    // Of the other readings each row stands for a sample.
    let samples = if reading == Reading::Backpack { quantities.whole.samples } else { x.size()[0] };
    estimate.observe_second_moment(x, samples, averaging)
}

/// The whole of a factor whose upper triangle is kept up.
pub(super) fn symmetric(factor: &Tensor) -> Tensor {
    factor.triu(0) + factor.triu(1).transpose(-2, -1)
}

/// The trace over the dimension.
pub(super) fn mean_diagonal(factor: &Tensor) -> Result<f64> {
    Ok(f64::try_from(factor.diagonal(0, -2, -1).mean(Kind::Double))?)
}

// Inverses of damped Kronecker factors by Cholesky's decomposition, with a stated order of fallbacks.
//
// A factor is positive semi-definite and its shift positive, so the decomposition exists up to rounding. Where it
// fails: (1) once more in double precision; (2) in double precision with a larger shift, ten times the last, starting
// at 1e-6 of the mean diagonal; (3) the shifted diagonal alone. Each failure is counted, none stops a run.

/// The least entry of the shifted diagonal, where curvature and shift are zero: the published code's too.
const LEAST_DIAGONAL: f64 = 1e-8;

/// How many times the shift grows before the diagonal alone is used.
const GROWTHS: i32 = 6;

/// The inverse of a damped factor, ready to be applied.
#[derive(Debug)]
pub(super) enum DampedInverse {
    /// R of Cholesky's decomposition R^T R, in the working precision, in the upper triangle; what lies below the
    /// diagonal is of no use.
    Cholesky(Tensor),
    /// The diagonal of the damped factor, `[.., d, 1]`.
    Diagonal(Tensor),
}

impl DampedInverse {
    /// The inverse of `factor + shift I`, `[d, d]` or `[groups, d, d]`, of which the upper triangle is read; also says
    /// how many attempts failed.
    pub fn new(factor: &Tensor, shift: f64) -> Result<(Self, u64)> {
        if let Some(upper) = cholesky(factor, shift)? {
            return Ok((DampedInverse::Cholesky(upper), 0));
        }
        let kind = factor.kind();
        let double = factor.to_kind(Kind::Double);
        if let Some(upper) = cholesky(&double, shift)? {
            return Ok((DampedInverse::Cholesky(upper.to_kind(kind)), 1));
        }
        let diagonal = double.diagonal(0, -2, -1);
        let mean = f64::try_from(diagonal.abs().mean(Kind::Double))?;
        if mean.is_finite() {
            for growth in 0..GROWTHS {
                let larger = shift.max(1e-6 * mean) * 10f64.powi(growth);
                if let Some(upper) = cholesky(&double, larger)? {
                    return Ok((DampedInverse::Cholesky(upper.to_kind(kind)), 2 + growth as u64));
                }
            }
        }
        let damped = (diagonal.nan_to_num(0.0, 0.0, 0.0).clamp_min(0.0) + shift).clamp_min(LEAST_DIAGONAL);
        Ok((DampedInverse::Diagonal(damped.unsqueeze(-1).to_kind(kind)), 2 + GROWTHS as u64))
    }

    /// It under a name, for a checkpoint.
    pub fn saved(&self, name: &str) -> (String, Tensor) {
        let (form, tensor) = self.parts();
        (format!("{name}.{form}"), tensor)
    }

    /// The inverse that was saved under a name, if there is one.
    pub fn take(state: &mut BTreeMap<String, Tensor>, name: &str) -> Option<Self> {
        ["cholesky", "diagonal"].into_iter().find_map(|form| {
            let tensor = state.remove(&format!("{name}.{form}"))?;
            Some(DampedInverse::from_parts(form, tensor))
        })
    }

    /// The form's name and tensor: Cholesky's lower factor, or the diagonal.
    fn parts(&self) -> (&'static str, Tensor) {
        match self {
            DampedInverse::Cholesky(upper) => ("cholesky", upper.triu(0).transpose(-2, -1)),
            DampedInverse::Diagonal(diagonal) => ("diagonal", diagonal.shallow_clone()),
        }
    }

    /// The inverse whose name and tensor were saved.
    fn from_parts(form: &str, tensor: Tensor) -> Self {
        if form == "diagonal" {
            DampedInverse::Diagonal(tensor)
        } else {
            DampedInverse::Cholesky(tensor.transpose(-2, -1).contiguous())
        }
    }

    /// The inverse times `right`, `[.., d, columns]`.
    pub fn apply(&self, right: &Tensor) -> Result<Tensor> {
        Ok(match self {
            // Unlike libtorch's solution by a Cholesky factor, these two do not copy the factor.
            DampedInverse::Cholesky(upper) => {
                let half = upper.transpose(-2, -1).f_linalg_solve_triangular(right, false, true, false)?;
                upper.f_linalg_solve_triangular(&half, true, true, false)?
            }
            DampedInverse::Diagonal(diagonal) => right.f_div(diagonal)?,
        })
    }
}

/// R in the upper triangle, with R^T R = `factor + shift I`; None where it does not exist.
fn cholesky(factor: &Tensor, shift: f64) -> Result<Option<Tensor>> {
    let damped = factor.copy();
    let _ = damped.diagonal(0, -2, -1).g_add_scalar_(shift);
    Ok(symmetric::cholesky(&damped)?.then_some(damped))
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

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
        // Rank one with entries of 1e6, all of them integers that both precisions hold: the shift of 1e-3 is below single
        // precision's resolution.
        let x = Tensor::arange(50, (Kind::Float, Device::Cpu)).unsqueeze(0) + 1000.0;
        let factor = x.tr().mm(&x);
        let (inverse, failures) = DampedInverse::new(&factor, 1e-3).unwrap();
        assert_eq!(failures, 1, "single precision should not manage this, and double should");
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
    fn nothing_at_all_is_no_division_by_zero() {
        let zeros = Tensor::zeros([2, 2], (Kind::Float, OPTIONS.1));
        let (inverse, failures) = DampedInverse::new(&zeros, 0.0).unwrap();
        assert!(failures >= 2);
        let applied = inverse.apply(&Tensor::zeros([2, 1], (Kind::Float, OPTIONS.1))).unwrap();
        assert_eq!(largest(&applied), 0.0);
    }

    #[test]
    fn an_indefinite_factor_gets_a_larger_shift() {
        let factor = Tensor::from_slice(&[1.0f64, 0.0, 0.0, -0.5]).view([2, 2]);
        // Both attempts with 0.1 fail, and so does the first of the larger ones, which begin there.
        let (inverse, failures) = DampedInverse::new(&factor, 0.1).unwrap();
        assert_eq!(failures, 3);
        assert_applied(&inverse, [1.0 / 2.0, 1.0 / 0.5]);
        // Without a shift they begin at a millionth of the mean diagonal.
        let factor = Tensor::from_slice(&[4.0f64, 0.0, 0.0, -1e-4]).view([2, 2]);
        let (inverse, failures) = DampedInverse::new(&factor, 0.0).unwrap();
        let shift = 1e-6 * (4.0 + 1e-4) / 2.0 * 100.0;
        assert_eq!(failures, 4);
        assert_applied(&inverse, [1.0 / (4.0 + shift), 1.0 / (shift - 1e-4)]);
    }

    fn assert_applied(inverse: &DampedInverse, expected: [f64; 2]) {
        let expected = Tensor::from_slice(&expected).unsqueeze(-1);
        let applied = inverse.apply(&Tensor::ones([2, 1], OPTIONS)).unwrap();
        assert!(largest(&(applied / expected - 1.0)) < 1e-9);
    }

    #[test]
    fn what_no_shift_saves_is_left_to_the_shifted_diagonal() {
        let factor = Tensor::from_slice(&[3.0f64, 0.0, 0.0, -3.0]).view([2, 2]);
        for (shift, expected) in [(0.5, [1.0 / 3.5, 1.0 / 0.5]), (0.0, [1.0 / 3.0, 1e8])] {
            // From a shift of a half six times ten is enough; from none it is not.
            let (inverse, failures) = DampedInverse::new(&factor, shift).unwrap();
            if shift == 0.0 {
                assert_eq!(failures, 8);
                assert_applied(&inverse, expected);
            } else {
                assert_eq!(failures, 3);
                assert_applied(&inverse, [1.0 / 8.0, 1.0 / 2.0]);
            }
        }
    }

    #[test]
    fn an_inverse_is_the_same_when_it_was_saved() {
        tch::manual_seed(5);
        let x = Tensor::randn([2, 9, 4], OPTIONS);
        let whole = x.transpose(-2, -1).matmul(&x);
        let indefinite = Tensor::from_slice(&[3.0f64, 0.0, 0.0, -3.0]).view([2, 2]);
        for (factor, form) in [(whole, "cholesky"), (indefinite, "diagonal")] {
            let (inverse, _) = DampedInverse::new(&factor, 0.0).unwrap();
            let (named, tensor) = inverse.parts();
            assert_eq!(named, form);
            let again = DampedInverse::from_parts(named, tensor);
            let right = Tensor::randn([factor.size()[factor.dim() - 1], 3], OPTIONS);
            assert_eq!(again.apply(&right).unwrap(), inverse.apply(&right).unwrap(), "{form}");
        }
    }
}
