//! One extended backward pass that serves every requested quantity.
//!
//! Forward once; then each kind of vectors that some quantity needs is pushed back once, layer by layer, and at every
//! layer with parameters each quantity takes its share. The kinds travel separately, so that a quantity's digits do
//! not depend on which others were asked for.

use tch::{Tensor, no_grad_guard};

use crate::backpack::layers::{Curvature, Mode, Saved};
use crate::backpack::losses::{Evaluated, Loss};
use crate::backpack::network::{Network, Trace};
use crate::backpack::quantities::{Site, Source, Whole};
use crate::backpack::request::Request;
use crate::backpack::results::{Collector, Quantities};
use crate::error::Result;
use crate::random::{Purpose, stream};

/// Where the labels of sampled quantities come from.
#[derive(Clone, Copy, Debug)]
pub enum Labels<'a> {
    /// They are drawn from the model, from the counter-based stream of this seed and step.
    Drawn {
        /// The seed.
        seed: u64,
        /// The training step.
        step: u64,
    },
    /// These: classes `[M, N]`, or values `[M, N, D]`.
    Given(&'a Tensor),
}

/// Runs the network forward on `input` (`[N, *in]`) and back from the loss at `target`, and takes what is requested.
///
/// # Errors
/// [`crate::Error::Unsupported`], before anything is computed, when a layer cannot give a quantity;
/// [`crate::Error::Shape`] when shapes do not fit.
pub fn extended_backward(
    network: &Network,
    loss: &dyn Loss,
    input: &Tensor,
    target: &Tensor,
    mode: Mode,
    request: &Request,
    labels: Labels,
) -> Result<Quantities> {
    let _guard = no_grad_guard();
    request.check(network, &input.size()[1..], mode)?;
    let trace = network.forward(input, mode)?;
    let output = trace.last().map_or_else(|| input.shallow_clone(), |saved| saved.output.shallow_clone());
    let at = loss.evaluate(&output, target)?;
    let whole = Whole { samples: input.size()[0], reduction: loss.reduction(), scale: request.scale };
    let mut pass = Pass { network, loss, request, whole, trace: &trace, collector: Collector::new(network, request) };
    pass.input_factors()?;
    let curved = pass.gradient(&at)?;
    pass.exact(&at, &curved)?;
    let labels = pass.sampled(&at, labels)?;
    pass.averaged(&at)?;
    let values = pass.collector.finish(&whole)?;
    Ok(Quantities { loss: at.value, output, labels, whole, values })
}

/// A pass under way.
struct Pass<'a> {
    network: &'a Network,
    loss: &'a dyn Loss,
    request: &'a Request,
    whole: Whole,
    trace: &'a Trace,
    collector: Collector<'a>,
}

/// The residual of an activation that is not piecewise linear: its place, and f''(x) times the gradient, `[N, *in]`.
struct Residual {
    place: usize,
    values: Tensor,
}

impl<'a> Pass<'a> {
    /// The Kronecker input factors, which depend on the forward pass alone.
    fn input_factors(&mut self) -> Result<()> {
        if !self.collector.wants_input_factors() {
            return Ok(());
        }
        for (leaf, saved) in self.network.leaves().iter().zip(self.trace) {
            for (parameter, entry) in leaf.layer.parameters().iter().enumerate() {
                if entry.name == "weight" {
                    let factor = leaf.layer.input_factor(saved)? / self.whole.samples as f64;
                    self.collector.put_input_factor(leaf.first_parameter + parameter, factor);
                }
            }
        }
        Ok(())
    }

    /// Pushes the gradient back; gives the residuals that the Hessian has beyond the Gauss-Newton matrix, if needed.
    fn gradient(&mut self, at: &Evaluated) -> Result<Vec<Residual>> {
        let signed = self.request.needs(Source::SignedSqrtHessian);
        if !signed && !self.request.needs(Source::Gradient) {
            return Ok(Vec::new());
        }
        let wants_gradient = self.collector.wants_gradient();
        let (network, trace) = (self.network, self.trace);
        let collector = &mut self.collector;
        let mut residuals = Vec::new();
        network.backward(at.gradient.shallow_clone(), &mut |place, g, goes_on| {
            let (leaf, saved) = (&network.leaves()[place], &trace[place]);
            let layer = leaf.layer.as_ref();
            if signed && goes_on && layer.curvature() == Curvature::Elementwise {
                residuals.push(Residual { place, values: layer.second_derivative(saved)? * &g });
            }
            let v = g.unsqueeze(0);
            for parameter in 0..layer.parameters().len() {
                let site = Site { layer, saved, parameter, v: &v, signs: None };
                collector.take(Source::Gradient, leaf.first_parameter + parameter, 0, &site)?;
            }
            if wants_gradient && !layer.parameters().is_empty() {
                let (gradients, input) = layer.gradient(saved, &g, goes_on)?;
                for (parameter, gradient) in gradients.into_iter().enumerate() {
                    collector.put_gradient(leaf.first_parameter + parameter, gradient);
                }
                return Ok(input);
            }
            Ok(if goes_on { Some(layer.vjp(saved, &v)?.squeeze_dim(0)) } else { None })
        })?;
        Ok(residuals)
    }

    /// Pushes the exact square root of the loss's Hessian back, and the residuals' square roots with their signs.
    fn exact(&mut self, at: &Evaluated, residuals: &[Residual]) -> Result<()> {
        let outputs = at.predictive.size()[1..].iter().product();
        // Two roots of the same matrix: the one with the fewest vectors for sums, the one by outputs where the vectors
        // themselves are asked for.
        for sources in [&[Source::SqrtHessian, Source::SignedSqrtHessian][..], &[Source::SqrtHessianByOutput]] {
            if !sources.iter().any(|source| self.request.needs(*source)) {
                continue;
            }
            for (chunk, start, length) in self.chunks(outputs) {
                let part = self.narrow(start, length);
                let trace = part.as_ref().unwrap_or(self.trace);
                let at = at.narrow(start, length);
                let root = match sources {
                    [Source::SqrtHessianByOutput] => self.loss.sqrt_hessian(&at, self.whole.samples)?,
                    _ => self.loss.narrow_sqrt_hessian(&at, self.whole.samples)?,
                };
                self.sweep(trace, None, root, None, sources, chunk)?;
            }
        }
        for residual in residuals {
            let units: i64 = residual.values.size()[1..].iter().product();
            for (chunk, start, length) in self.chunks(units) {
                let part = self.narrow(start, length);
                let trace = part.as_ref().unwrap_or(self.trace);
                let values = residual.values.narrow(0, start, length);
                let (vectors, signs) = signed_root(&values);
                self.sweep(trace, Some(residual.place), vectors, Some(signs), &[Source::SignedSqrtHessian], chunk)?;
            }
        }
        Ok(())
    }

    /// Draws labels where none are given, and pushes the sampled square root back.
    fn sampled(&mut self, at: &Evaluated, labels: Labels) -> Result<Option<Tensor>> {
        if !self.request.needs(Source::SampledSqrtHessian) {
            return Ok(None);
        }
        let labels = match labels {
            Labels::Given(labels) => labels.shallow_clone(),
            Labels::Drawn { seed, step } => {
                self.loss.sample(at, self.request.mc_samples, &mut stream(seed, Purpose::SampledLabels, step))?
            }
        };
        let root = self.loss.sqrt_hessian_sampled(at, &labels, self.whole.samples)?;
        for (chunk, start, length) in self.chunks(root.size()[0]) {
            let part = self.narrow(start, length);
            let trace = part.as_ref().unwrap_or(self.trace);
            let vectors = root.narrow(1, start, length);
            self.sweep(trace, None, vectors, None, &[Source::SampledSqrtHessian], chunk)?;
        }
        Ok(Some(labels))
    }

    /// KFRA's recursion.
    fn averaged(&mut self, at: &Evaluated) -> Result<()> {
        if !self.request.needs(Source::AveragedMatrix) {
            return Ok(());
        }
        let (network, trace) = (self.network, self.trace);
        let collector = &mut self.collector;
        let summed = self.loss.summed_hessian(at, self.whole.samples)?;
        network.backward(summed, &mut |place, matrix, goes_on| {
            let (leaf, saved) = (&network.leaves()[place], &trace[place]);
            for parameter in 0..leaf.layer.parameters().len() {
                let site = Site { layer: leaf.layer.as_ref(), saved, parameter, v: &matrix, signs: None };
                collector.take(Source::AveragedMatrix, leaf.first_parameter + parameter, 0, &site)?;
            }
            Ok(if goes_on { Some(leaf.layer.kfra_input(saved, &matrix)?) } else { None })
        })
    }

    /// Pushes vectors back from the output, or from the input of the layer at a place, and lets the quantities of
    /// these sources take their shares.
    fn sweep(
        &mut self,
        trace: &[Saved],
        from: Option<usize>,
        vectors: Tensor,
        signs: Option<Tensor>,
        sources: &[Source],
        chunk: usize,
    ) -> Result<()> {
        let network = self.network;
        let collector = &mut self.collector;
        let mut step = |place: usize, v: Tensor, goes_on: bool| -> Result<Option<Tensor>> {
            let (leaf, saved) = (&network.leaves()[place], &trace[place]);
            let layer = leaf.layer.as_ref();
            for parameter in 0..layer.parameters().len() {
                let site = Site { layer, saved, parameter, v: &v, signs: signs.as_ref() };
                for source in sources {
                    collector.take(*source, leaf.first_parameter + parameter, chunk, &site)?;
                }
            }
            Ok(if goes_on { Some(layer.vjp(saved, &v)?) } else { None })
        };
        match from {
            None => network.backward(vectors, &mut step),
            Some(place) => network.backward_from(place, vectors, &mut step),
        }
    }

    /// The forward pass of a part of the samples; None stands for all of them.
    fn narrow(&self, start: i64, length: i64) -> Option<Trace> {
        (length != self.whole.samples).then(|| self.trace.iter().map(|saved| saved.narrow(start, length)).collect())
    }

    /// Splits the samples so that this many vectors, at the widest layer and its neighbour, fit the budget: (number,
    /// start, length) of each part.
    fn chunks(&self, vectors: i64) -> Vec<(usize, i64, i64)> {
        let samples = self.whole.samples;
        let widest = self
            .trace
            .iter()
            .map(|saved| (saved.input.numel() + saved.output.numel()) as i64 / samples.max(1))
            .max()
            .unwrap_or(1);
        let element = self.trace.first().map_or(4, |saved| saved.output.kind().elt_size_in_bytes()) as i64;
        let each = vectors.saturating_mul(widest).saturating_mul(element).max(1);
        let length = (self.request.chunk_bytes as i64 / each).clamp(1, samples.max(1));
        (0..(samples + length - 1) / length)
            .map(|chunk| (chunk as usize, chunk * length, length.min(samples - chunk * length)))
            .collect()
    }
}

/// The square root of diagonal matrices with signs: from `[N, *in]`, vectors `[units, N, *in]` and signs `[units, N]`.
fn signed_root(values: &Tensor) -> (Tensor, Tensor) {
    let shape = values.size();
    let flat = values.flatten(1, -1);
    let units = flat.size()[1];
    let vectors = flat.abs().sqrt().diag_embed(0, 1, 2).transpose(0, 1);
    let full = [&[units], shape.as_slice()].concat();
    (vectors.reshape(full.as_slice()), flat.tr().sign().contiguous())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backpack::layers::{Activation, ActivationKind, Linear};
    use crate::backpack::losses::{CrossEntropy, Reduction};
    use tch::{Device, Kind};

    /// Chunking must not change anything: the same pass with room for one sample at a time.
    #[test]
    fn chunks_add_up() {
        tch::manual_seed(0);
        let options = (Kind::Double, Device::Cpu);
        let linear = |inputs: i64, outputs: i64| -> Box<dyn crate::backpack::layers::Layer> {
            Box::new(Linear::from_tensors(
                Tensor::randn([outputs, inputs], options),
                Some(Tensor::randn([outputs], options)),
            ))
        };
        let network =
            Network::sequential(vec![linear(4, 5), Box::new(Activation::new(ActivationKind::Sigmoid)), linear(5, 3)]);
        let loss = CrossEntropy::new(Reduction::Mean);
        let (x, y) = (Tensor::randn([6, 4], options), Tensor::from_slice(&[0i64, 1, 2, 0, 1, 2]));
        let run = |chunk_bytes| {
            let mut request = Request::of(crate::backpack::quantities::all());
            request.chunk_bytes = chunk_bytes;
            request.mc_samples = 2;
            let labels = Labels::Drawn { seed: 0, step: 0 };
            extended_backward(&network, &loss, &x, &y, Mode::Evaluation, &request, labels).unwrap()
        };
        let (whole, parts) = (run(1 << 30), run(1));
        assert!(whole.values().len() > 15);
        for (one, other) in whole.values().iter().zip(parts.values()) {
            assert_eq!((one.quantity, one.parameter, one.factor), (other.quantity, other.parameter, other.factor));
            assert_eq!(one.tensor.size(), other.tensor.size(), "{}", one.quantity);
            let error = f64::try_from((&one.tensor - &other.tensor).abs().max()).unwrap();
            assert!(error < 1e-14, "{} {}: {error}", one.quantity, one.parameter);
        }
    }
}
