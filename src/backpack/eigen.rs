//! Eigenvalues and eigenvectors of symmetric matrices: of EKFAC's factors, and of Shampoo's and SOAP's.

use tch::{Kind, Tensor};

use crate::error::Result;

/// Eigenvalues, ascending, and eigenvectors in columns, of a symmetric matrix `[d, d]` or a batch of them; nothing where it
/// has entries that are not finite.
///
/// LAPACK's algorithm for single precision may not come to an end, or come to NaN, on finite matrices that are singular and
/// have entries of very different sizes. The matrix, scaled by its largest entry, is then decomposed in double precision.
///
/// # Errors
/// What libtorch says of the matrix, its algorithm aside.
pub(crate) fn decompose(matrix: &Tensor) -> Result<Option<(Tensor, Tensor)>> {
    if !is_finite(matrix)? {
        return Ok(None);
    }
    if let Some(pair) = by_libtorch(matrix)? {
        return Ok(Some(pair));
    }
    let scale = matrix.abs().max().to_kind(Kind::Double);
    let scaled = matrix.to_kind(Kind::Double) / &scale;
    let pair = by_libtorch(&scaled)?;
    Ok(pair.map(|(values, vectors)| ((values * scale).to_kind(matrix.kind()), vectors.to_kind(matrix.kind()))))
}

/// Nothing where the algorithm fails.
fn by_libtorch(matrix: &Tensor) -> Result<Option<(Tensor, Tensor)>> {
    let Ok((values, vectors)) = matrix.f_linalg_eigh("L") else { return Ok(None) };
    Ok((is_finite(&values)? && is_finite(&vectors)?).then_some((values, vectors)))
}

fn is_finite(tensor: &Tensor) -> Result<bool> {
    Ok(i64::try_from(tensor.isfinite().all().to_kind(Kind::Int64))? != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outer(x: &[f32]) -> Tensor {
        let x = Tensor::from_slice(x);
        x.outer(&x)
    }

    #[test]
    fn graded_singular_matrices_have_eigenvectors_in_single_precision() {
        // libtorch's decomposition of these is NaN, or was so on some processor.
        let vectors: [&[f32]; 3] = [
            &[1.0155155e-7, -3.0378146e-7, 0.0, 0.0, 0.0, 0.0, -4.117_018_7e-22, 0.0, 8.068_409e-22, -7.598_871e-20],
            &[0.0, 0.0, 0.0, 5.413_791e-7, 5.516_498_4e-25, 0.0, -1.162_469e-18, 1.467_908e-22, 1.408_328_5e-22, 0.0],
            &[
                2.265_632e-3,
                -2.529_057e-9,
                -1.572_136_7e-17,
                -2.254_455_5e-7,
                0.0,
                -1.580_41e-14,
                0.0,
                0.0,
                0.0,
                -1.5e-25,
            ],
        ];
        for x in vectors {
            let matrix = outer(x);
            let (values, vectors) = decompose(&matrix).unwrap().unwrap();
            let largest = f64::try_from(matrix.abs().max()).unwrap();
            let again = (&vectors * &values).matmul(&vectors.tr());
            assert!(f64::try_from((again - &matrix).abs().max()).unwrap() <= 1e-5 * largest, "{x:?}");
            let identity = Tensor::eye(matrix.size()[0], (Kind::Float, matrix.device()));
            assert!(f64::try_from((vectors.tr().matmul(&vectors) - identity).abs().max()).unwrap() <= 1e-5, "{x:?}");
        }
    }

    #[test]
    fn what_is_not_finite_has_none() {
        assert!(decompose(&outer(&[1.0, f32::NAN])).unwrap().is_none());
        assert!(decompose(&outer(&[1.0, f32::INFINITY])).unwrap().is_none());
    }
}
