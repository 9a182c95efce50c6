//! One extended backward pass that serves every requested quantity.
//!
//! Forward once; then each kind of vectors that some quantity needs is pushed back once, layer by layer, and at every
//! layer with parameters each quantity takes its share. The kinds travel separately, so that a quantity's digits do
//! not depend on which others were asked for.

use std::rc::Rc;

use tch::{Tensor, no_grad_guard};

use super::position_sums::{ChannelSums, last_matrix, position_sums};
use super::request::{Labels, Request};
use crate::backpack::collector::{Arrived, Chunk, Collector, Takers};
use crate::backpack::layers::{Basis, BatchFactors, Curvature, Mode, Reading};
use crate::backpack::losses::{Evaluated, Loss};
use crate::backpack::network::{Network, Operation, Trace, Value};
use crate::backpack::quantities::{Source, Whole};
use crate::backpack::results::Quantities;
use crate::backpack::sweep::Onward;
use crate::error::Result;

/// Runs the network forward on `input` (`[N, *in]`) and back from the loss at `target`, and takes what is requested.
/// `bases` are known ones, which would else be found in the batch: one for each parameter that has one.
///
/// # Errors
/// As [`crate::backpack::Pass::run`].
pub(super) fn run(
    network: &Network,
    loss: &dyn Loss,
    (input, target): (&Tensor, &Tensor),
    mode: Mode,
    request: &Request,
    labels: Labels,
    bases: Option<&[Option<Rc<Basis>>]>,
) -> Result<Quantities> {
    let _guard = no_grad_guard();
    let required = request.required()?;
    request.check(network, &input.size()[1..], mode)?;
    let trace = network.forward(input, mode)?;
    let output = trace.output().shallow_clone();
    let samples = input.size()[0];
    let total = request.part_of.unwrap_or(samples);
    let at = loss.evaluate(&output, target)?.into_part(total, loss.reduction());
    let whole = Whole { samples: total, reduction: loss.reduction(), scale: request.scale };
    let mut pass = Running {
        network,
        loss,
        request,
        bases,
        samples,
        whole,
        trace: &trace,
        collector: Collector::new(network, request, samples),
    };
    pass.input_factors()?;
    let curved = pass.gradient(&at)?;
    pass.exact(&at, &curved)?;
    let labels = pass.sampled(&at, labels)?;
    pass.averaged(&at)?;
    let values = pass.collector.finish(&required, &whole);
    let (statistics, names) = (network.statistics(&trace, mode), network.shared_names());
    Ok(Quantities { loss: at.value, output, labels, whole, values, statistics, names })
}

/// A pass under way.
struct Running<'a> {
    network: &'a Network,
    loss: &'a dyn Loss,
    request: &'a Request,
    /// Those that are known already.
    bases: Option<&'a [Option<Rc<Basis>>]>,
    /// Those at hand; a whole that they are a part of has more.
    samples: i64,
    whole: Whole,
    trace: &'a Trace,
    collector: Collector<'a>,
}

/// What the Hessian has beyond the Gauss-Newton matrix at one node, with respect to what the node takes.
enum Bent {
    /// An activation's: the value it takes, and f''(x) times the gradient, `[N, *in]`.
    Diagonal { at: Value, values: Tensor },
    /// That of what mixes entries: its place, and the gradient at its output, `[N, *out]`.
    Mixed { place: usize, gradient: Tensor },
    /// That of a parameter that earlier nodes use too, together with what the node takes, which depends on it: its place
    /// in the layer.
    Tied { place: usize, slot: usize, gradient: Tensor },
}

/// What a sweep starts from: vectors at values, and their signs.
type Start = (Vec<(Value, Tensor)>, Option<Tensor>);

impl<'a> Running<'a> {
    /// The Kronecker input factors, which depend on the forward pass alone.
    fn input_factors(&mut self) -> Result<()> {
        for (node, saved) in self.network.nodes().iter().zip(self.trace.iter()) {
            let Some(layer) = node.layer() else { continue };
            let Ok(factors) = BatchFactors::of(layer, saved) else { continue };
            let number = node.parameter(0);
            let mut backpack: Option<Tensor> = None;
            for reading in Reading::ALL {
                if !self.collector.wants_input_factor(number, reading) {
                    continue;
                }
                let rows = if self.request.input_rows { factors.rows(reading)? } else { None };
                let (name, factor) = match (rows, &backpack) {
                    (Some(rows), _) => ("X", rows),
                    (None, Some(backpack)) if reading == Reading::Expand => ("A", factors.expanded(backpack)?),
                    _ => ("A", factors.input(reading)?),
                };
                if reading == Reading::Backpack && name == "A" {
                    backpack = Some(factor.shallow_clone());
                }
                // Of a part, the share in the mean over the whole.
                let is_part = self.samples != self.whole.samples;
                let factor = if is_part { factor * (self.samples as f64 / self.whole.samples as f64) } else { factor };
                self.collector.put_input_factor(number, (reading, name, factor));
            }
        }
        Ok(())
    }

    /// Pushes the gradient back; gives the residuals that the Hessian has beyond the Gauss-Newton matrix, if needed.
    fn gradient(&mut self, at: &Evaluated) -> Result<Vec<Bent>> {
        let signed = self.request.needs(Source::SignedSqrtHessian);
        if !signed && !self.request.needs(Source::Gradient) {
            return Ok(Vec::new());
        }
        let wants_gradient = self.collector.wants_gradient();
        let (network, trace) = (self.network, self.trace);
        let collector = &mut self.collector;
        let mut residuals = Vec::new();
        network.backward(at.gradient.shallow_clone(), &mut |place, g| {
            let (node, saved) = (&network.nodes()[place], &trace[place]);
            let goes_on = node.goes_on();
            if signed && goes_on && node.residual().is_some() {
                residuals.push(Bent::Mixed { place, gradient: g.shallow_clone() });
            }
            let layer = match node.operation() {
                Operation::Layer(layer) => layer,
                Operation::Merge(_) => return node.vjp_of_one(saved, &g),
            };
            if signed
                && goes_on
                && let Curvature::Elementwise(function) = layer.curvature()
            {
                let values = function.second_derivative(saved)? * &g;
                residuals.push(Bent::Diagonal { at: node.inputs()[0], values });
            }
            if signed && goes_on {
                for slot in node.tied_slots() {
                    if collector.takes(node.parameter(slot), &[Source::SignedSqrtHessian], Takers::All) {
                        residuals.push(Bent::Tied { place, slot, gradient: g.shallow_clone() });
                    }
                }
            }
            let v = g.unsqueeze(0);
            collector.take_at(&Arrived::whole(node, saved, &v), &[Source::Gradient], Takers::All)?;
            if wants_gradient && !layer.parameters().is_empty() {
                let (gradients, input) = layer.gradient(saved, &g, goes_on)?;
                for (slot, gradient) in gradients.into_iter().enumerate() {
                    collector.put_gradient(node.parameter(slot), gradient);
                }
                return Ok(input.into());
            }
            Ok(if goes_on { Onward::One(layer.vjp(saved, &v)?.squeeze_dim(0)) } else { Onward::Nothing })
        })?;
        self.collector.end_sweep()?;
        Ok(residuals)
    }

    /// Pushes the exact square root of the loss's Hessian back, and the residuals' square roots with their signs.
    fn exact(&mut self, at: &Evaluated, residuals: &[Bent]) -> Result<()> {
        let outputs = at.predictive.size()[1..].iter().product();
        // Two roots of the same matrix: the one with the fewest vectors for sums, the one by outputs where the vectors
        // themselves are asked for.
        for sources in [&[Source::SqrtHessian, Source::SignedSqrtHessian][..], &[Source::SqrtHessianByOutput]] {
            if !sources.iter().any(|source| self.request.needs(*source)) {
                continue;
            }
            for part in self.chunks(outputs) {
                let at = at.narrow(part.start, part.length);
                let root = match sources {
                    [Source::SqrtHessianByOutput] => self.loss.sqrt_hessian(&at, self.whole.samples)?,
                    _ => self.loss.narrow_sqrt_hessian(&at, self.whole.samples)?,
                };
                let output = self.network.output();
                self.sweeps(&part, root.size()[0], sources, |_, start, length| {
                    Ok((vec![(output, root.narrow(0, start, length))], None))
                })?;
            }
        }
        let network = self.network;
        for bent in residuals {
            let sources = &[Source::SignedSqrtHessian];
            match bent {
                Bent::Diagonal { at, values } => {
                    let units: i64 = values.size()[1..].iter().product();
                    for part in self.chunks(units) {
                        let values = values.narrow(0, part.start, part.length);
                        self.sweeps(&part, units, sources, |_, start, length| {
                            let (vectors, signs) = signed_root(&values, start, length);
                            Ok((vec![(*at, vectors)], Some(signs)))
                        })?;
                    }
                }
                Bent::Mixed { place, gradient } => {
                    let node = &network.nodes()[*place];
                    let Some(residual) = node.residual() else { continue };
                    let width = residual.root_width(&self.trace[*place]);
                    for part in self.chunks(width) {
                        let gradient = gradient.narrow(0, part.start, part.length);
                        self.sweeps(&part, width, sources, |trace, start, length| {
                            let (vectors, signs) = residual.signed_root(&trace[*place], &gradient, start, length)?;
                            Ok((node.inputs().iter().copied().zip(vectors).collect(), Some(signs)))
                        })?;
                    }
                }
                Bent::Tied { place, slot, gradient } => self.mixed(*place, *slot, gradient)?,
            }
        }
        Ok(())
    }

    /// Takes back each entry of what a node takes, to the earlier uses of one of its parameters: where these meet the
    /// node's own, the Hessian's diagonal has products of two uses, which no square gives.
    fn mixed(&mut self, place: usize, slot: usize, gradient: &Tensor) -> Result<()> {
        let network = self.network;
        let node = &network.nodes()[place];
        let (Some(layer), number) = (node.layer().and_then(|layer| layer.mixed()), node.parameter(slot)) else {
            return Ok(());
        };
        let first = network.nodes().iter().position(|node| node.slots_of(number).next().is_some()).unwrap_or(0);
        let entries: i64 = self.trace[place].input.size()[1..].iter().product();
        for part in self.chunks(entries) {
            let narrowed = self.narrow(part.start, part.length);
            let trace = narrowed.as_ref().unwrap_or(self.trace);
            let input = &trace[place].input;
            let gradient = gradient.narrow(0, part.start, part.length);
            let mut start = 0;
            while start < entries {
                let count = part.vectors.min(entries - start);
                let (units, _) = signed_root(&input.ones_like(), start, count);
                let mut products: Option<Tensor> = None;
                network.sweep(vec![(node.inputs()[0], units)], &mut |place, v| {
                    let (node, saved) = (&network.nodes()[place], &trace[place]);
                    if let Some(layer) = node.layer() {
                        for slot in node.slots_of(number) {
                            let product = layer.parameter_vjp(saved, slot, &v)?;
                            products = Some(match products.take() {
                                Some(sum) => sum.f_add(&product)?,
                                None => product,
                            });
                        }
                    }
                    // In front of the first use there is nothing to be had.
                    if place > first { node.vjp(saved, &v) } else { Ok(Onward::Nothing) }
                })?;
                if let Some(products) = products {
                    let squares = layer.mixed_squares(slot, &gradient, start, &products)?;
                    let chunk = Chunk { samples: part.start, vectors: start };
                    self.collector.take_squares(number, &squares, chunk, Source::SignedSqrtHessian)?;
                }
                start += part.vectors;
            }
        }
        Ok(())
    }

    /// Draws labels where none are given, and pushes the sampled square root back.
    fn sampled(&mut self, at: &Evaluated, labels: Labels) -> Result<Option<Tensor>> {
        if !self.request.needs(Source::SampledSqrtHessian) {
            return Ok(None);
        }
        let labels = labels.at(self.loss, at, self.request.mc_samples)?;
        let root = self.loss.sqrt_hessian_sampled(at, &labels, self.whole.samples)?;
        self.sampled_sweeps(&root, Source::SampledSqrtHessian)?;
        if self.request.needs(Source::SampledSqrtHessianAgain) {
            match self.bases {
                Some(bases) => self.collector.set_bases(bases),
                None => self.collector.find_bases()?,
            }
            self.sampled_sweeps(&root, Source::SampledSqrtHessianAgain)?;
        }
        Ok(Some(labels))
    }

    fn sampled_sweeps(&mut self, root: &Tensor, source: Source) -> Result<()> {
        for part in self.chunks(root.size()[0]) {
            let of_part = root.narrow(1, part.start, part.length);
            let output = self.network.output();
            self.sweeps(&part, root.size()[0], &[source], |_, start, length| {
                Ok((vec![(output, of_part.narrow(0, start, length))], None))
            })?;
        }
        Ok(())
    }

    /// KFRA's recursion.
    fn averaged(&mut self, at: &Evaluated) -> Result<()> {
        if !self.request.needs(Source::AveragedMatrix) {
            return Ok(());
        }
        let (network, trace) = (self.network, self.trace);
        let Some(last) = self.last_matrix() else { return Ok(()) };
        let collector = &mut self.collector;
        let summed = self.loss.summed_hessian(at, self.whole.samples)?;
        network.backward(summed, &mut |place, matrix| {
            let (node, saved) = (&network.nodes()[place], &trace[place]);
            let Some(layer) = node.layer() else { return Ok(Onward::Nothing) };
            let goes_on = node.goes_on();
            if goes_on && place < last {
                // From here on only sums over positions are wanted, which the first layer will get.
                return Ok(Onward::One(matrix));
            }
            let matrix = match goes_on {
                false if place + 1 < last => position_sums(network, trace, place, last, &matrix)?,
                _ => matrix,
            };
            collector.take_at(&Arrived::whole(node, saved, &matrix), &[Source::AveragedMatrix], Takers::All)?;
            Ok(if goes_on { Onward::One(layer.kfra_input(saved, &matrix)?) } else { Onward::Nothing })
        })
    }

    /// The place at whose input KFRA's last matrix is formed.
    fn last_matrix(&self) -> Option<usize> {
        let samples = self.samples.max(1);
        let sizes: Vec<u64> = self.trace.sizes().map(|size| size as u64).collect();
        last_matrix(self.network, &sizes, samples as u64, self.element(), self.request.chunk_bytes)
    }

    /// The bytes of an element.
    fn element(&self) -> u64 {
        self.trace.output().kind().elt_size_in_bytes() as u64
    }

    /// Makes the sweeps of a part of the samples, with so many of its vectors at a time as the part says; `start` gives
    /// those from a number on, for the part's trace, and where they start.
    fn sweeps(
        &mut self,
        part: &Part,
        count: i64,
        sources: &[Source],
        start: impl Fn(&Trace, i64, i64) -> Result<Start>,
    ) -> Result<()> {
        let narrowed = self.narrow(part.start, part.length);
        let trace = narrowed.as_ref().unwrap_or(self.trace);
        let mut first = 0;
        while first < count {
            let length = part.vectors.min(count - first);
            let chunk = Chunk { samples: part.start, vectors: first };
            self.sweep(trace, start(trace, first, length)?, length, sources, chunk)?;
            first += part.vectors;
        }
        Ok(())
    }

    /// Pushes `count` vectors back from where they start, and lets the quantities of these sources take their shares.
    fn sweep(
        &mut self,
        trace: &Trace,
        (vectors, signs): Start,
        count: i64,
        sources: &[Source],
        chunk: Chunk,
    ) -> Result<()> {
        let network = self.network;
        let collector = &mut self.collector;
        let others_go_on = collector.has_takers(sources, Takers::OfVectors);
        let short = ChannelSums::of(network, count).filter(|_| collector.has_takers(sources, Takers::OfPositionSums));
        let mut take = |place: usize, v: &Tensor, takers: Takers| -> Result<()> {
            let (node, saved) = (&network.nodes()[place], &trace[place]);
            collector.take_at(&Arrived { node, saved, v, signs: signs.as_ref(), chunk }, sources, takers)
        };
        network.sweep(vectors, &mut |place, v| {
            match &short {
                Some(short) if place == short.first => take(place, &v, Takers::OfVectors)?,
                _ => take(place, &v, Takers::All)?,
            }
            if let Some(short) = short.as_ref().filter(|short| short.last() == place) {
                take(short.first, &short.sum(network, trace, &v)?, Takers::OfPositionSums)?;
                if !others_go_on {
                    return Ok(Onward::Nothing);
                }
            }
            network.nodes()[place].vjp(&trace[place], &v)
        })?;
        self.collector.end_sweep()
    }

    /// The forward pass of a part of the samples; None stands for all of them.
    fn narrow(&self, start: i64, length: i64) -> Option<Trace> {
        (length != self.samples).then(|| self.trace.narrow(start, length))
    }

    /// Splits the samples so that this many vectors, at the widest layer and its neighbour, fit the budget; where those
    /// of a single sample do not, the vectors as well.
    fn chunks(&self, vectors: i64) -> Vec<Part> {
        let samples = self.samples;
        let widest = self
            .network
            .nodes()
            .iter()
            .zip(self.trace.iter())
            .map(|(node, saved)| {
                let inputs: usize = saved.inputs().map(Tensor::numel).sum();
                let within = node.layer().map_or(0, |layer| layer.held_within(&saved.input.size()[1..]));
                ((inputs + saved.output.numel()) as i64 / samples.max(1)).saturating_add(within)
            })
            .max()
            .unwrap_or(1);
        // The products of a parameter with several uses are held whole.
        let parameters = self.network.parameters().into_iter().enumerate();
        let tied = parameters.filter(|(number, _)| self.network.uses(*number) > 1);
        let widest = tied.map(|(_, parameter)| parameter.value.numel() as i64).fold(widest, i64::max);
        let each = widest.saturating_mul(self.element() as i64).max(1);
        let room = self.request.chunk_bytes.min(i64::MAX as u64) as i64 / each;
        let length = (room / vectors.max(1)).clamp(1, samples.max(1));
        let vectors = room.clamp(1, vectors.max(1));
        (0..(samples + length - 1) / length)
            .map(|chunk| chunk * length)
            .map(|start| Part { start, length: length.min(samples - start), vectors })
            .collect()
    }
}

/// A part of the samples, and how many vectors travel back for it at a time.
struct Part {
    start: i64,
    length: i64,
    vectors: i64,
}

/// The square root of diagonal matrices with signs: from `[N, *in]`, the vectors of `count` units from `start` on,
/// `[count, N, *in]`, and their signs `[count, N]`.
fn signed_root(values: &Tensor, start: i64, count: i64) -> (Tensor, Tensor) {
    let flat = values.flatten(1, -1);
    let (samples, units) = (flat.size()[0], flat.size()[1]);
    let own = flat.narrow(1, start, count);
    let vectors = Tensor::zeros([count, samples, units], (values.kind(), values.device()));
    vectors.narrow(2, start, count).diagonal(0, 0, 2).copy_(&own.abs().sqrt());
    let full = [&[count], values.size().as_slice()].concat();
    (vectors.view(full.as_slice()), own.tr().sign().contiguous())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backpack::Pass;
    use crate::backpack::layers::{Activation, Linear, Sigmoid};
    use crate::backpack::losses::{CrossEntropy, Reduction};
    use tch::{Device, Kind};

    /// Chunking must not change anything: the same pass with room for a few samples, for a few vectors
    /// of one sample, and for one vector.
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
        let network = Network::sequential(vec![linear(4, 5), Box::new(Activation::new(Sigmoid {})), linear(5, 3)]);
        let loss = CrossEntropy::new(Reduction::Mean);
        let (x, y) = (Tensor::randn([6, 4], options), Tensor::from_slice(&[0i64, 1, 2, 0, 1, 2]));
        let run = |chunk_bytes| {
            // Eigenvectors amplify rounding; that their chunks add up is held by the cases.
            let all = crate::backpack::quantities::all().into_iter().filter(|one| one.name() != "ekfac");
            let pass = Pass::new(&network, &loss).take(all).unwrap();
            pass.chunk_bytes(chunk_bytes).mc_samples(2).run(&x, &y).unwrap()
        };
        let whole = run(1 << 30);
        assert!(whole.values().len() > 15);
        for parts in [4000, 700, 300, 1].map(run) {
            assert_eq!(whole.values().len(), parts.values().len());
            for (one, other) in whole.values().iter().zip(parts.values()) {
                assert_eq!((one.quantity, one.parameter, one.factor), (other.quantity, other.parameter, other.factor));
                assert_eq!(one.tensor.size(), other.tensor.size(), "{}", one.quantity);
                let error = f64::try_from((&one.tensor - &other.tensor).abs().max()).unwrap();
                assert!(error < 1e-14, "{} {}: {error}", one.quantity, one.parameter);
            }
        }
    }
}
