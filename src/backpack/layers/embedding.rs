//! `embedding`: rows of a learned table, chosen by integers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::layer_type::{LayerType, Site, Specimen, layer};
use super::{Curvature, Layer, Mode, Parameter, ParameterSite, ParameterSource, Saved, Tangent, VjpTangent, sizes};
use crate::backpack::init::Init;
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

/// The options of an embedding, named as in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EmbeddingOptions {
    /// the number of rows
    #[serde(deserialize_with = "sizes::size")]
    pub num_embeddings: i64,
    /// the width of a row
    #[serde(deserialize_with = "sizes::size")]
    pub embedding_dim: i64,
}

impl LayerType for EmbeddingOptions {
    const NAME: &'static str = "embedding";
    const SUMMARY: &'static str = "rows of a learned table, chosen by integers";
    const INITS: &'static [(&'static str, Init)] = &[("weight", Init::Normal(1.0))];
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("num_embeddings = 7, embedding_dim = 3", &[5])];

    fn build(&self, site: &Site) -> Result<Operation> {
        layer(Embedding::made_of(self.num_embeddings, self.embedding_dim, site.parameters)?)
    }
}

/// Integers `[N, *in]` as rows of the weight `[num_embeddings, embedding_dim]`: `[N, *in, embedding_dim]`.
#[derive(Debug)]
pub struct Embedding {
    parameters: Vec<Parameter>,
}

impl Embedding {
    /// A table of so many rows of this width, drawn as PyTorch draws it: normal with deviation 1.
    ///
    /// # Errors
    /// [`Error::Shape`] for sizes below 1.
    pub fn new(num_embeddings: i64, embedding_dim: i64) -> Result<Self> {
        Self::made_of(num_embeddings, embedding_dim, ParameterSource::Drawn)
    }

    pub(crate) fn made_of(num_embeddings: i64, embedding_dim: i64, source: ParameterSource) -> Result<Self> {
        if num_embeddings < 1 || embedding_dim < 1 {
            return Err(Error::Shape(format!(
                "embedding: a table of {num_embeddings} rows of {embedding_dim} entries"
            )));
        }
        let weight = source.plain("embedding", "weight", &[num_embeddings, embedding_dim], Init::Normal(1.0))?;
        Ok(Embedding { parameters: vec![weight] })
    }

    fn weight(&self) -> &Tensor {
        &self.parameters[0].value
    }

    /// `[K, T, dim]` added up in the rows that `[K, T]` integers name: `[K, num_embeddings, dim]`.
    fn scatter(&self, places: &Tensor, v: &Tensor) -> Result<Tensor> {
        let (rows, width) = self.weight().size2()?;
        let (batches, positions, _) = v.size3()?;
        let own = Tensor::arange(batches, (Kind::Int64, v.device())).unsqueeze(1) * rows;
        let flat = places.f_add(&own)?.f_reshape([batches * positions])?;
        let sum = Tensor::zeros([batches * rows, width], (v.kind(), v.device()));
        Ok(sum.f_index_add(0, &flat, &v.f_reshape([batches * positions, width])?)?.view([batches, rows, width]))
    }
}

impl Layer for Embedding {
    fn kind(&self) -> &'static str {
        "embedding"
    }

    fn integers(&self) -> Option<i64> {
        Some(self.weight().size()[0])
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        Ok([input, &self.weight().size()[1..]].concat())
    }

    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        let rows = self.weight().f_index_select(0, &input.f_reshape([-1])?)?;
        let output = rows.f_view([input.size().as_slice(), &self.weight().size()[1..]].concat().as_slice())?;
        Ok(Saved::new(input, output))
    }

    fn vjp(&self, _saved: &Saved, _v: &Tensor) -> Result<Tensor> {
        Err(Error::Unsupported("embedding: there is no derivative with respect to integers".into()))
    }

    fn jvp(&self, _saved: &Saved, _v: &Tensor) -> Result<Tensor> {
        Err(Error::Unsupported("embedding: there is no derivative with respect to integers".into()))
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    fn parameter_vjp(&self, saved: &Saved, _parameter: usize, v: &Tensor) -> Result<Tensor> {
        let (vectors, samples) = (v.size()[0], saved.samples());
        let (rows, width) = self.weight().size2()?;
        let places = saved
            .input
            .f_reshape([1, samples, -1])?
            .f_expand([vectors, -1, -1], false)?
            .f_reshape([vectors * samples, -1])?;
        let sums = self.scatter(&places, &v.f_reshape([vectors * samples, -1, width])?)?;
        Ok(sums.view([vectors, samples, rows, width]))
    }

    fn parameter_vjp_sum(&self, saved: &Saved, _parameter: usize, v: &Tensor) -> Result<Tensor> {
        let vectors = v.size()[0];
        let places = saved.input.f_reshape([1, -1])?.f_expand([vectors, -1], false)?;
        self.scatter(&places, &v.f_reshape([vectors, -1, self.weight().size()[1]])?)
    }

    fn parameter_jvp(&self, saved: &Saved, _parameter: usize, v: &Tensor) -> Result<Tensor> {
        let rows = v.f_index_select(1, &saved.input.f_reshape([-1])?)?;
        Ok(rows.f_view([&v.size()[..1], saved.output.size().as_slice()].concat().as_slice())?)
    }

    fn curvature(&self) -> Curvature<'_> {
        Curvature::Zero
    }

    fn tangent(&self) -> Option<&dyn Tangent> {
        Some(self)
    }

    fn site(&self, _parameter: usize) -> ParameterSite<'_> {
        ParameterSite::Products("the rows of a table are chosen, not multiplied")
    }
}

impl Tangent for Embedding {
    fn vjp_tangent(
        &self,
        _saved: &Saved,
        _g: &Tensor,
        _input: Option<&Tensor>,
        _parameters: &[Option<Tensor>],
    ) -> Result<VjpTangent> {
        Ok(VjpTangent::default())
    }
}
