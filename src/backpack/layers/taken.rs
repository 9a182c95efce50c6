//! What quantities take of a parameter, by its site.

use tch::{Kind, Tensor};

use super::site::{self, AffineSite, FactoredSite, KroneckerSupport, ParameterSite, signed_squares};
use super::{Layer, Saved, affine};
use crate::error::Result;

/// What quantities take of a parameter.
impl<'a> dyn Layer + 'a {
    /// The sum over `V` and `N` of the squared entries of the parameter products, each times its sign: `[*p]`.
    /// `signs` is `[V, N]`; None is all ones.
    pub fn squares_sum(&self, saved: &Saved, parameter: usize, v: &Tensor, signs: Option<&Tensor>) -> Result<Tensor> {
        if let Some(site) = self.affine(parameter) {
            return affine::squares_sum(site, saved, parameter, v, signs);
        }
        Ok(self.squares_per_sample(saved, parameter, v, signs)?.sum_dim_intlist(0, false, None::<Kind>))
    }

    /// The sum over `V` alone of the squared entries of the parameter products, each times its sign: `[N, *p]`.
    pub fn squares_per_sample(
        &self,
        saved: &Saved,
        parameter: usize,
        v: &Tensor,
        signs: Option<&Tensor>,
    ) -> Result<Tensor> {
        match self.site(parameter) {
            ParameterSite::Factored(site) => affine::squares_per_sample(site, saved, parameter, v, signs),
            ParameterSite::Affine(site, _) => affine::squares_per_sample(site, saved, parameter, v, signs),
            ParameterSite::Entrywise(site, _) => site::entrywise_squares(site, saved, parameter, v, signs),
            ParameterSite::Products(_) => Ok(signed_squares(&self.parameter_vjp(saved, parameter, v)?, signs)),
        }
    }

    /// The squared L2 norm of each parameter product: `[V, N, *out]` to `[V, N]`.
    pub fn squared_norms(&self, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
        match self.affine(parameter) {
            Some(site) => affine::squared_norms(site, saved, parameter, v),
            None => {
                let each = self.parameter_vjp(saved, parameter, v)?;
                Ok(each.square().flatten(2, -1).sum_dim_intlist(2, false, None::<Kind>))
            }
        }
    }

    fn affine(&self, parameter: usize) -> Option<&dyn AffineSite> {
        match self.site(parameter) {
            ParameterSite::Factored(site) => Some(site),
            ParameterSite::Affine(site, _) => Some(site),
            ParameterSite::Entrywise(..) | ParameterSite::Products(_) => None,
        }
    }

    /// The site of the weight with Kronecker factors, where there is one.
    pub fn factored(&self) -> Option<&dyn FactoredSite> {
        match self.site(0) {
            ParameterSite::Factored(site) => Some(site),
            _ => None,
        }
    }

    /// How this layer takes part in the Kronecker-factored quantities, or why it does not.
    pub fn kronecker(&self) -> KroneckerSupport {
        if self.parameters().is_empty() {
            return KroneckerSupport::Passes;
        }
        match self.site(0) {
            ParameterSite::Factored(_) => KroneckerSupport::Factors,
            ParameterSite::Affine(_, reason)
            | ParameterSite::Entrywise(_, reason)
            | ParameterSite::Products(reason) => KroneckerSupport::Refuses(reason),
        }
    }
}
