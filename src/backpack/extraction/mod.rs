//! One batch's quantities as named tensors: what `extract` writes, for a network, a loss and a batch at hand.

mod batch;
mod choose;

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use crate::backpack::layers::Mode;
use crate::backpack::losses::Loss;
use crate::backpack::network::Network;
use crate::backpack::pass::{Labels, extended_backward};
use crate::backpack::products::{Linearised, why_not_hessian};
use crate::backpack::quantities::{Scale, Source};
use crate::backpack::request::Request;
use crate::backpack::results::Quantities;
use crate::error::{Error, Result};

pub use batch::{Batch, LABELS};

/// The version of the names, shapes and metadata of [`Extraction`].
pub const SCHEMA_VERSION: u32 = 1;

/// What is to be extracted, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names of quantities; one that cannot be had is an error.
    pub explicit: Vec<String>,
    /// Whether Table 1's and the gradient are wanted beside them, as far as layers and memory allow.
    pub table_1: bool,
    /// The normalisation.
    pub scale: Scale,
    /// The mode of the forward pass.
    pub mode: Mode,
    /// How many labels are drawn for each sample where none are given.
    pub mc_samples: i64,
    /// The seed of their draws.
    pub mc_seed: u64,
    /// How many bytes the pass may take.
    pub memory_budget: u64,
}

/// Named tensors with what is to be known of them.
#[derive(Debug)]
pub struct Extraction {
    /// `loss`, `output`, QUANTITY.LAYER.PARAMETER, with factors QUANTITY.LAYER.PARAMETER.FACTOR, and [`LABELS`].
    pub tensors: Vec<(String, Tensor)>,
    /// schema_version, scale, reduction, mc_samples, mc_seed, dtype, skipped (names, comma-separated) and
    /// skipped_reasons (a JSON object).
    pub metadata: BTreeMap<String, String>,
    /// What was left out, and why: quantities of Table 1, and QUANTITY.LAYER.PARAMETER where only a parameter's is missing.
    pub skipped: Vec<(String, String)>,
}

/// Takes the quantities of a batch, and the products of the curvature matrices with `vector` (a tensor for each
/// parameter) where one is given. All sampled quantities and the sampled product share their labels.
///
/// # Errors
/// Before the pass: [`Error::Unsupported`] when a layer or the memory budget does not allow what was asked for by name;
/// [`Error::Shape`] when the batch does not fit network and loss; [`Error::Usage`] for unknown names.
pub fn extract(
    network: &Network,
    loss: &dyn Loss,
    batch: &Batch,
    vector: Option<&[Tensor]>,
    settings: &Settings,
) -> Result<Extraction> {
    let Batch { x, y, mc_labels } = batch;
    let mut batch =
        Batch { x: x.shallow_clone(), y: y.shallow_clone(), mc_labels: mc_labels.as_ref().map(|t| t.shallow_clone()) };
    let kind = network.parameters().first().map_or(batch.x.kind(), |parameter| parameter.value.kind());
    batch.fit_inputs(network.integers(), kind)?;
    batch.fit(loss, network.shapes(&batch.x.size()[1..])?.output())?;
    let given = batch.mc_labels.take();
    let mc_samples = given.as_ref().map_or(settings.mc_samples, |labels| labels.size()[0]);
    let chosen = choose::choose(network, &batch.x, kind, mc_samples, vector.is_some(), settings)?;
    let mut request = Request::of(chosen.quantities);
    request.scale = settings.scale;
    request.mc_samples = settings.mc_samples;
    request.chunk_bytes = chosen.chunk_bytes;

    let drawn = Labels::Drawn { seed: settings.mc_seed, step: 0 };
    let mut labels = given.as_ref().map(Tensor::shallow_clone);
    let mut products = Vec::new();
    if let Some(vector) = vector {
        if let Some(reason) = why_not_hessian(network) {
            return Err(Error::Unsupported(reason));
        }
        let at = Linearised::new(network, loss, &batch.x, &batch.y, settings.mode)?;
        let used = at.labels(settings.mc_samples, labels.as_ref().map_or(drawn, Labels::Given))?;
        products.push(("ggn_product", at.ggn_product(vector)?));
        products.push(("hessian_product", at.hessian_product(vector)?));
        products.push(("fisher_mc_product", at.fisher_mc_product(vector, &used)?));
        labels = Some(used);
    }
    let source = labels.as_ref().map_or(drawn, Labels::Given);
    let result = extended_backward(network, loss, &batch.x, &batch.y, settings.mode, &request, source)?;
    let used = if vector.is_some() || request.needs(Source::SampledSqrtHessian) {
        result.labels.as_ref().or(labels.as_ref()).map(Tensor::shallow_clone)
    } else {
        None
    };

    let mut metadata = BTreeMap::new();
    let mut tell = |key: &str, value: String| metadata.insert(key.to_owned(), value);
    tell("schema_version", SCHEMA_VERSION.to_string());
    tell("scale", settings.scale.as_str().to_owned());
    tell("reduction", loss.reduction().as_str().to_owned());
    // What did not take part is not told, so that it changes nothing: neither numbers nor bytes.
    tell("mc_samples", used.as_ref().map_or(0, |labels| labels.size()[0]).to_string());
    let is_drawn = used.is_some() && given.is_none();
    tell("mc_seed", if is_drawn { settings.mc_seed.to_string() } else { "none".to_owned() });
    tell("dtype", if kind == Kind::Double { "f64" } else { "f32" }.to_owned());
    let names: Vec<&str> = chosen.skipped.iter().map(|(name, _)| name.as_str()).collect();
    tell("skipped", names.join(","));
    let reasons: serde_json::Map<_, _> =
        chosen.skipped.iter().map(|(name, reason)| (name.clone(), reason.as_str().into())).collect();
    tell("skipped_reasons", serde_json::Value::Object(reasons).to_string());
    Ok(Extraction { tensors: named(network, result, products, used), metadata, skipped: chosen.skipped })
}

/// Puts names to tensors.
fn named(
    network: &Network,
    result: Quantities,
    products: Vec<(&'static str, Vec<Tensor>)>,
    labels: Option<Tensor>,
) -> Vec<(String, Tensor)> {
    let parameters = network.parameters();
    let mut tensors = vec![("loss".to_owned(), result.loss), ("output".to_owned(), result.output)];
    tensors.extend(result.values.into_iter().map(|value| {
        let mut name = format!("{}.{}", value.quantity, parameters[value.parameter].name);
        if !value.factor.is_empty() {
            name = format!("{name}.{}", value.factor);
        }
        (name, value.tensor)
    }));
    for (name, product) in products {
        tensors.extend(
            parameters.iter().zip(product).map(|(parameter, tensor)| (format!("{name}.{}", parameter.name), tensor)),
        );
    }
    tensors.extend(labels.map(|labels| (LABELS.to_owned(), labels)));
    tensors
}
