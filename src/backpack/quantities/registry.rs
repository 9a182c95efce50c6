//! The registry of quantities: one line each.

use std::sync::{Arc, LazyLock};

use super::{Quantity, first_order, kronecker, second_order};
use crate::entries::Entries;
use crate::error::{Error, Result};

macro_rules! registry {
    ($($(#[$about:meta])* $name:ident = $quantity:expr,)*) => {
        /// The built-in quantities by name, in the order of the paper's Table 1, those beyond it last.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum BuiltIn {
            $($(#[$about])* $name,)*
        }

        static BUILT_IN: LazyLock<Vec<Arc<dyn Quantity>>> = LazyLock::new(|| vec![$(Arc::new($quantity),)*]);

        #[cfg(test)]
        const TYPED: &[(BuiltIn, &str)] = &[$((BuiltIn::$name, stringify!($name)),)*];
    };
}

registry! {
    /// `grad`: the gradient of the reduced loss, `[*p]`.
    Grad = first_order::Gradient,
    /// `batch_grad`: individual gradients, `[N, *p]`.
    BatchGrad = first_order::BatchGrad,
    /// `batch_l2`: the squared norms of the individual gradients, `[N]`.
    BatchL2 = first_order::BatchL2,
    /// `sum_grad_squared`: the second moment of the individual gradients, `[*p]`.
    SumGradSquared = first_order::SumGradSquared,
    /// `variance`: the variance of the individual gradients, `[*p]`.
    Variance = first_order::Variance,
    /// `diag_ggn`: the diagonal of the generalised Gauss-Newton matrix, `[*p]`.
    DiagGgn = second_order::DiagGgn::EXACT,
    /// `diag_ggn_mc`: the same from sampled labels, `[*p]`.
    DiagGgnMc = second_order::DiagGgn::SAMPLED,
    /// `diag_hessian`: the diagonal of the Hessian, `[*p]`.
    DiagHessian = second_order::DiagHessian,
    /// `kfac`: Kronecker factors A and B from sampled labels.
    Kfac = kronecker::KFAC,
    /// `kflr`: Kronecker factors A and B from the exact square root.
    Kflr = kronecker::KFLR,
    /// `kfra`: Kronecker factors A and B from the batch-averaged recursion.
    Kfra = kronecker::Kfra,
    /// `batch_diag_ggn`: each sample's share of `diag_ggn`, `[N, *p]`.
    BatchDiagGgn = second_order::BatchDiagGgn,
    /// `batch_diag_hessian`: each sample's share of `diag_hessian`, `[N, *p]`.
    BatchDiagHessian = second_order::BatchDiagHessian,
    /// `sqrt_ggn`: the exact square root of the generalised Gauss-Newton matrix, `[C, N, *p]`.
    SqrtGgn = second_order::SqrtGgn::EXACT,
    /// `sqrt_ggn_mc`: the square root of its estimate from sampled labels, `[M, N, *p]`.
    SqrtGgnMc = second_order::SqrtGgn::SAMPLED,
    /// `kfac_expand`: `kfac`, each position counting as a sample.
    KfacExpand = kronecker::KFAC_EXPAND,
    /// `kfac_reduce`: `kfac`, positions averaged in A and summed in B.
    KfacReduce = kronecker::KFAC_REDUCE,
    /// `kflr_expand`: `kflr`, each position counting as a sample.
    KflrExpand = kronecker::KFLR_EXPAND,
    /// `kflr_reduce`: `kflr`, positions averaged in A and summed in B.
    KflrReduce = kronecker::KFLR_REDUCE,
    /// `ekfac`: eigenvalues in the basis of the factors of `kfac_expand`.
    Ekfac = kronecker::Ekfac,
}

static ENTRIES: Entries<Arc<dyn Quantity>> = Entries::new(|| BUILT_IN.clone());

/// Every quantity: the built-in ones in the order of [`BuiltIn`], then a program's own.
pub fn all() -> Vec<Arc<dyn Quantity>> {
    ENTRIES.all()
}

/// The quantity of this name.
pub fn by_name(name: &str) -> Option<Arc<dyn Quantity>> {
    ENTRIES.find(|quantity| quantity.name() == name)
}

/// The names that [`by_name`] knows.
pub fn names() -> Vec<&'static str> {
    all().iter().map(|quantity| quantity.name()).collect()
}

/// Whether a name is that of a program's own quantity.
pub(crate) fn is_own(name: &str) -> bool {
    BUILT_IN.iter().all(|quantity| quantity.name() != name)
}

/// The built-in ones.
pub(crate) fn built_in() -> Vec<Arc<dyn Quantity>> {
    BUILT_IN.clone()
}

/// Has these quantities in place of those that there are.
pub(crate) fn replace(entries: Vec<Arc<dyn Quantity>>) {
    ENTRIES.replace(entries);
}

/// What stands for a quantity: a typed name ([`BuiltIn`]), the name as text, or a quantity of one's own.
pub trait AsQuantity {
    /// Its name.
    fn quantity_name(&self) -> &str;

    /// The quantity itself.
    ///
    /// # Errors
    /// [`Error::UnknownQuantity`] for a text that is no quantity's name; [`Error::Usage`] for a quantity of one's own that
    /// is called like a built-in one.
    fn quantity(self) -> Result<Arc<dyn Quantity>>;
}

impl AsQuantity for BuiltIn {
    fn quantity_name(&self) -> &str {
        BUILT_IN[*self as usize].name()
    }

    fn quantity(self) -> Result<Arc<dyn Quantity>> {
        Ok(Arc::clone(&BUILT_IN[self as usize]))
    }
}

impl AsQuantity for &str {
    fn quantity_name(&self) -> &str {
        self
    }

    fn quantity(self) -> Result<Arc<dyn Quantity>> {
        by_name(self).ok_or_else(|| Error::UnknownQuantity { name: self.to_owned(), known: names() })
    }
}

impl AsQuantity for &String {
    fn quantity_name(&self) -> &str {
        self
    }

    fn quantity(self) -> Result<Arc<dyn Quantity>> {
        self.as_str().quantity()
    }
}

impl AsQuantity for Arc<dyn Quantity> {
    fn quantity_name(&self) -> &str {
        self.as_ref().name()
    }

    fn quantity(self) -> Result<Arc<dyn Quantity>> {
        let name = self.as_ref().name();
        match BUILT_IN.iter().find(|built_in| built_in.name() == name) {
            Some(built_in) if !Arc::ptr_eq(built_in, &self) => {
                Err(Error::Usage(format!("`{name}` is a built-in quantity; give yours another name")))
            }
            _ => Ok(self),
        }
    }
}

impl<Q: Quantity + 'static> AsQuantity for Q {
    fn quantity_name(&self) -> &str {
        self.name()
    }

    fn quantity(self) -> Result<Arc<dyn Quantity>> {
        let quantity: Arc<dyn Quantity> = Arc::new(self);
        quantity.quantity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_names_are_the_quantities_own() {
        assert_eq!(TYPED.len(), all().len());
        for (typed, variant) in TYPED {
            let camel: String =
                typed.quantity_name().split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
            assert_eq!(camel, *variant);
            assert!(Arc::ptr_eq(&typed.quantity().unwrap(), &typed.quantity_name().quantity().unwrap()));
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        let error = "varianse".quantity().unwrap_err();
        assert!(matches!(&error, Error::UnknownQuantity { name, .. } if name == "varianse"), "{error:?}");
        assert!(error.to_string().contains("`variance`"), "{error}");
    }
}
