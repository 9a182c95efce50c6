//! What functions of several inputs share: sizes of 1 stand for any size.

use tch::{Kind, Tensor};

use crate::error::{Error, Result};

/// The shape that these shapes broadcast to. All have the same number of axes.
pub(super) fn broadcast_shape(kind: &str, shapes: &[&[i64]]) -> Result<Vec<i64>> {
    let [first, rest @ ..] = shapes else {
        return Err(Error::Shape(format!("{kind}: expected two or more inputs")));
    };
    if rest.is_empty() {
        return Err(Error::Shape(format!("{kind}: expected two or more inputs, got one")));
    }
    let mut shape = first.to_vec();
    for other in rest {
        let fits = other.len() == shape.len() && shape.iter().zip(*other).all(|(&a, &b)| a == b || a == 1 || b == 1);
        if !fits {
            return Err(Error::Shape(format!(
                "{kind}: inputs of shapes {shapes:?} do not broadcast; sizes must be equal or 1"
            )));
        }
        shape = shape.iter().zip(*other).map(|(&a, &b)| a.max(b)).collect();
    }
    Ok(shape)
}

/// Vectors `[V, N, *out]` summed over what was broadcast: `[V, *size]` for an input of this size, `[N, *in]`.
pub(super) fn sum_to(v: &Tensor, size: &[i64]) -> Result<Tensor> {
    let axes: Vec<i64> =
        (1..v.dim()).filter(|&axis| size[axis - 1] == 1 && v.size()[axis] != 1).map(|axis| axis as i64).collect();
    if axes.is_empty() {
        return Ok(v.shallow_clone());
    }
    Ok(v.f_sum_dim_intlist(axes.as_slice(), true, None::<Kind>)?)
}

/// Tangents of an input `[V, N, *in]` as those of an output of this size, `[N, *out]`: a view.
pub(super) fn expand(tangent: &Tensor, size: &[i64]) -> Result<Tensor> {
    let shape = [&tangent.size()[..1], size].concat();
    Ok(tangent.f_expand(shape.as_slice(), false)?)
}
