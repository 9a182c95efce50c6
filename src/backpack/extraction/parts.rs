//! The quantities of many samples, a part of them at a time: what is summed takes no more memory for more samples.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use tch::{Kind, Tensor};

use super::sums::{About, Sums, dtype};
use super::{Batch, Extraction, Parts, Settings, choose};
use crate::backpack::draws::Draws;
use crate::backpack::layers::Mode;
use crate::backpack::losses::{Loss, Reduction};
use crate::backpack::network::Network;
use crate::backpack::pass;
use crate::backpack::products::{Linearised, why_not_hessian};
use crate::backpack::quantities::{Quantity, Source, by_name};
use crate::backpack::request::{Labels, Request};
use crate::error::{Error, Result};
use crate::random::{Purpose, stream};

/// The products that are taken beside quantities.
const PRODUCTS: [&str; 3] = ["ggn_product", "hessian_product", "fisher_mc_product"];

/// Takes the quantities of a batch, and the products of the curvature matrices with `vector` (a tensor for each
/// parameter) where one is given. All sampled quantities and the sampled product share their labels.
///
/// # Errors
/// Before the pass: [`crate::Error::Refused`] when a layer does not allow what was asked for by name,
/// [`crate::Error::Unsupported`] when the memory budget does not; [`crate::Error::Shape`] when the batch does not fit
/// network and loss; [`crate::Error::UnknownQuantity`].
pub fn extract(
    network: &Network,
    loss: &dyn Loss,
    batch: &Batch,
    vector: Option<&[Tensor]>,
    settings: &Settings,
) -> Result<Extraction> {
    let samples = batch.x.size()[0];
    let mut load = |range: Range<i64>| Ok(batch.part(range));
    let parts = Parts::one(samples);
    extract_parts((network, loss), &parts, &mut load, vector, settings, None, &mut |_| Ok(true))?.finish()
}

/// Takes the shares of a range of samples, part by part. `load` gives the samples of a range; `begun` holds the shares of the
/// first of them, where some were taken before; `watch` is asked after each part but the last whether to go on.
///
/// Sums, means and rows are those of the whole batch at once, whatever the parts' size: the loss is reduced over all
/// samples, and labels are drawn by sample.
///
/// # Errors
/// As [`super::extract`]; [`Error::Unsupported`] for what has no parts: KFRA, and a mode in which dropout masks would depend on
/// them; [`Error::Interrupted`] where `watch` says so.
pub fn extract_parts(
    (network, loss): (&Network, &dyn Loss),
    parts: &Parts,
    load: &mut dyn FnMut(Range<i64>) -> Result<Batch>,
    vector: Option<&[Tensor]>,
    settings: &Settings,
    begun: Option<Sums>,
    watch: &mut dyn FnMut(&Sums) -> Result<bool>,
) -> Result<Sums> {
    if !parts.is_one() && matches!(settings.mode, Mode::Training { .. }) {
        return Err(Error::Unsupported(
            "training mode over parts of a batch: dropout masks are drawn for a batch as a whole; take all samples at once or \
             leave training mode out"
                .to_owned(),
        ));
    }
    if let Some(reason) = vector.and_then(|_| why_not_hessian(network)) {
        return Err(Error::Unsupported(reason));
    }
    let mut load = |range: Range<i64>| -> Result<Batch> {
        let mut batch = load(range)?;
        let kind = kind_of(network, &batch.x);
        batch.fit_inputs(network.integers(), kind)?;
        batch.fit(loss, network.shapes(&batch.x.size()[1..])?.output())?;
        Ok(batch)
    };
    let piece = |start: i64| start..parts.range.end.min(start.saturating_add(parts.size));
    let mut batch = load(piece(parts.range.start))?;
    let given = batch.mc_labels.as_ref().map(|labels| labels.size()[0]);
    let mc_samples = given.unwrap_or(settings.mc_samples);
    let kind = kind_of(network, &batch.x);
    let chosen = choose::choose(network, (&batch.x, kind), parts, mc_samples, vector.is_some(), settings)?;
    let asked = chosen.quantities.iter().map(|quantity| quantity.name().to_owned()).collect();
    let in_basis = |quantity: &Arc<dyn Quantity>| quantity.source() == Source::SampledSqrtHessianAgain;
    let (again, at_once): (Vec<_>, Vec<_>) =
        chosen.quantities.into_iter().partition(|quantity| !parts.is_one() && in_basis(quantity));
    let request_of = |quantities: Vec<Arc<dyn Quantity>>| -> Result<Request> {
        let mut request = Request::new(quantities)?;
        request.scale = settings.scale;
        request.mc_samples = settings.mc_samples;
        request.chunk_bytes = chosen.chunk_bytes;
        request.part_of = Some(parts.samples);
        Ok(request)
    };
    let mut request = request_of(at_once)?;
    for name in again.iter().flat_map(|quantity| quantity.requires()) {
        by_name(name).into_iter().for_each(|required| request.require(required));
    }
    let uses_labels = vector.is_some() || request.needs(Source::SampledSqrtHessian);
    let about = About {
        identity: parts.identity.clone(),
        samples: parts.samples,
        quantities: asked,
        products: if vector.is_some() { PRODUCTS.map(str::to_owned).to_vec() } else { Vec::new() },
        parameters: network.parameters().iter().map(|parameter| parameter.name.clone()).collect(),
        reduction: loss.reduction(),
        scale: settings.scale,
        mc_samples: if uses_labels { mc_samples } else { 0 },
        mc_seed: (uses_labels && given.is_none()).then_some(settings.mc_seed),
        dtype: dtype(kind).to_owned(),
        skipped: chosen.skipped,
    };
    // What was begun for something else is begun anew.
    let begun = begun.filter(|sums| {
        let range = sums.range();
        sums.about == about && range.start == parts.range.start && range.end <= parts.range.end
    });
    let mut sums = begun.unwrap_or_else(|| Sums::new(about, parts.range.start));
    let mut start = sums.range().end;
    if start != parts.range.start && start < parts.range.end {
        batch = load(piece(start))?;
    }
    let generator = stream(settings.mc_seed, Purpose::SampledLabels, 0);
    let draws = RefCell::new(Draws::parts(generator, parts.samples, start));
    while start < parts.range.end {
        let (part, products, labels) =
            take(network, loss, &batch, vector, (settings, &request), &draws, parts.samples)?;
        sums.add(part, products, labels.filter(|_| uses_labels))?;
        start = sums.range().end;
        if start < parts.range.end {
            if !watch(&sums)? {
                return Err(Error::Interrupted);
            }
            batch = load(piece(start))?;
        }
    }
    if again.is_empty() {
        return Ok(sums);
    }
    // Once more in the basis of all samples; what is taken in it joins the rest when it is whole.
    let request = request_of(again)?;
    let (bases, all) = (sums.bases(network)?, sums.labels()?);
    let mut in_basis = Sums::new(sums.about.clone(), parts.range.start);
    let mut start = parts.range.start;
    while start < parts.range.end {
        let range = piece(start);
        if start > parts.range.start && !watch(&sums)? {
            return Err(Error::Interrupted);
        }
        let batch = load(range.clone())?;
        let labels = all.f_narrow(1, range.start - parts.range.start, range.end - range.start)?;
        let (pair, given) = ((&batch.x, &batch.y), Labels::Given(&labels));
        let part = pass::run(network, loss, pair, settings.mode, &request, given, Some(&bases))?;
        in_basis.add_in_basis(part)?;
        start = range.end;
    }
    sums.join(in_basis);
    Ok(sums)
}

/// What a part gives: quantities, products, and the labels that were used.
type Share = (crate::backpack::results::Quantities, Vec<(&'static str, Vec<Tensor>)>, Option<Tensor>);

fn take(
    network: &Network,
    loss: &dyn Loss,
    batch: &Batch,
    vector: Option<&[Tensor]>,
    (settings, request): (&Settings, &Request),
    draws: &RefCell<Draws>,
    samples: i64,
) -> Result<Share> {
    let source = batch.mc_labels.as_ref().map_or(Labels::Following(draws), Labels::Given);
    let mut labels = batch.mc_labels.as_ref().map(Tensor::shallow_clone);
    let mut products = Vec::new();
    if let Some(vector) = vector {
        let at = Linearised::new(network, loss, &batch.x, &batch.y, settings.mode)?;
        let used = at.labels(settings.mc_samples, source)?;
        let taken = [at.ggn_product(vector)?, at.hessian_product(vector)?, at.fisher_mc_product(vector, &used)?];
        let own = batch.x.size()[0];
        let share = if loss.reduction() == Reduction::Mean { own as f64 / samples as f64 } else { 1.0 };
        for (name, product) in PRODUCTS.into_iter().zip(taken) {
            let product = match own == samples {
                true => product,
                false => product.into_iter().map(|tensor| tensor * share).collect(),
            };
            products.push((name, product));
        }
        labels = Some(used);
    }
    let source = labels.as_ref().map_or(source, Labels::Given);
    let mut part = pass::run(network, loss, (&batch.x, &batch.y), settings.mode, request, source, None)?;
    let used = part.labels.take().or(labels);
    Ok((part, products, used))
}

/// The type that the network computes in.
fn kind_of(network: &Network, x: &Tensor) -> Kind {
    network.parameters().first().map_or(x.kind(), |parameter| parameter.value.kind())
}
