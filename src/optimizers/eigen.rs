//! Eigenvectors of the symmetric matrices of Shampoo and SOAP.

use tch::{Kind, Tensor};

use crate::error::Result;

/// Eigenvalues, ascending, and eigenvectors in columns; once more in double precision where libtorch's algorithm does not
/// come to an end; nothing where that does not either, as with entries that are not finite.
pub(super) fn decompose(matrix: &Tensor) -> Result<Option<(Tensor, Tensor)>> {
    if f64::try_from(matrix.isfinite().all().to_kind(Kind::Double))? == 0.0 {
        return Ok(None);
    }
    if let Ok(pair) = matrix.f_linalg_eigh("L") {
        return Ok(Some(pair));
    }
    let double = matrix.to_kind(Kind::Double).f_linalg_eigh("L");
    Ok(double.ok().map(|(values, vectors)| (values.to_kind(matrix.kind()), vectors.to_kind(matrix.kind()))))
}
