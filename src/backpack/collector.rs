//! How the shares of layers and chunks are gathered while a pass runs, and become whole quantities.

use std::collections::BTreeMap;
use std::rc::Rc;

use tch::Tensor;

use super::results::{self, Share, Value};
use crate::backpack::layers::{Basis, Layer, Mode, Reading, Saved};
use crate::backpack::network::{Network, Node};
use crate::backpack::quantities::{Combine, Pieces, Quantity, Site, Source, Whole};
use crate::backpack::request::{Request, left_out};
use crate::error::Result;

/// Which samples and vectors a share is of, each by the number of its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Chunk {
    pub samples: i64,
    pub vectors: i64,
}

impl Chunk {
    /// All of them.
    pub const WHOLE: Chunk = Chunk { samples: 0, vectors: 0 };
}

/// Gathers shares while a pass runs.
pub(crate) struct Collector<'a> {
    request: &'a Request,
    samples: i64,
    /// For each entry of the request and each parameter, what has been taken.
    taken: Vec<Vec<Taken>>,
    /// For each entry and each parameter, whether it is left out.
    left_out: Vec<Vec<bool>>,
    /// All parameters of each parameter's layer.
    siblings: Vec<Vec<usize>>,
    /// Those of each parameter, reading by reading, with their names.
    input_factors: Vec<Vec<(Reading, &'static str, Tensor)>>,
    /// The eigenvectors of the factors of each parameter's layer, once they are known.
    bases: Vec<Option<Rc<Basis>>>,
    wants_gradient: bool,
    /// How many nodes use each parameter.
    uses: Vec<usize>,
    /// Of the sweep under way, the products of parameters with several uses, added up: by parameter, with what the
    /// vectors are.
    pending: BTreeMap<usize, Pending>,
}

/// The products `[V, N, *p]` of a parameter that several nodes use, on their way.
struct Pending {
    product: Tensor,
    signs: Option<Tensor>,
    chunk: Chunk,
    sources: Vec<Source>,
}

/// What has arrived at a layer's output: vectors or a matrix, as in [`Site`].
pub(crate) struct Arrived<'a> {
    pub node: &'a Node,
    pub saved: &'a Saved,
    pub v: &'a Tensor,
    pub signs: Option<&'a Tensor>,
    pub chunk: Chunk,
}

impl<'a> Arrived<'a> {
    /// All there is, without signs.
    pub fn whole(node: &'a Node, saved: &'a Saved, v: &'a Tensor) -> Self {
        Arrived { node, saved, v, signs: None, chunk: Chunk::WHOLE }
    }
}

/// Which quantities take their share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takers {
    /// All of the source.
    All,
    /// Those that take vectors summed over positions.
    OfPositionSums,
    /// The others.
    OfVectors,
}

impl Takers {
    fn include(self, quantity: &dyn Quantity) -> bool {
        match self {
            Takers::All => true,
            Takers::OfPositionSums => quantity.takes_position_sums(),
            Takers::OfVectors => !quantity.takes_position_sums(),
        }
    }
}

/// A layer in whose place stand the products of its one parameter, added up over all its uses.
struct Given(Tensor);

impl Layer for Given {
    fn kind(&self) -> &'static str {
        "tied"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        Ok(input.to_vec())
    }

    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        Ok(Saved::new(input, input.shallow_clone()))
    }

    fn vjp(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(v.shallow_clone())
    }

    fn jvp(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(v.shallow_clone())
    }

    fn parameter_vjp(&self, _saved: &Saved, _parameter: usize, _v: &Tensor) -> Result<Tensor> {
        Ok(self.0.shallow_clone())
    }
}

/// The pieces of one quantity of one parameter: by chunk where vectors are kept apart, else added up.
#[derive(Default)]
struct Taken {
    chunks: Vec<(Chunk, Pieces)>,
}

impl Taken {
    /// Adds the share of a chunk of a batch of `samples`.
    fn add(&mut self, combine: Combine, samples: i64, chunk: Chunk, pieces: Pieces) {
        if combine == Combine::VectorsAndSamples {
            return self.chunks.push((chunk, pieces));
        }
        let length = |piece: &Tensor| if combine == Combine::Samples { piece.size()[0] } else { samples };
        let is_part = pieces.first().is_some_and(|(_, piece)| length(piece) != samples);
        match self.chunks.first_mut() {
            None if is_part => {
                // Sweeps of different vectors are cut at different samples, so that each finds its place in the whole.
                let whole = |(name, piece): (&'static str, Tensor)| {
                    let shape = [&[samples], &piece.size()[1..]].concat();
                    let whole = Tensor::zeros(shape.as_slice(), (piece.kind(), piece.device()));
                    whole.narrow(0, chunk.samples, piece.size()[0]).copy_(&piece);
                    (name, whole)
                };
                self.chunks.push((Chunk::WHOLE, pieces.into_iter().map(whole).collect()));
            }
            None => self.chunks.push((Chunk::WHOLE, pieces)),
            Some((_, present)) => {
                for ((_, slot), (_, new)) in present.iter_mut().zip(pieces) {
                    if is_part {
                        let _ = slot.narrow(0, chunk.samples, new.size()[0]).g_add_(&new);
                    } else {
                        *slot = &*slot + new;
                    }
                }
            }
        }
    }

    fn whole(self) -> Pieces {
        let mut chunks = self.chunks;
        chunks.sort_by_key(|(chunk, _)| *chunk);
        // The vectors of the same samples, then all samples; what has been added up is one chunk.
        let same: Vec<_> = chunks.chunk_by(|(a, _), (b, _)| a.samples == b.samples).map(|same| cat(same, 0)).collect();
        if same.is_empty() { Pieces::new() } else { cat(&same, 1).1 }
    }
}

/// Puts the pieces of chunks one after the other along an axis; one chunk stays as it is.
fn cat(chunks: &[(Chunk, Pieces)], axis: i64) -> (Chunk, Pieces) {
    let (chunk, first) = &chunks[0];
    let piece = |(place, (name, only)): (usize, &(&'static str, Tensor))| {
        let parts: Vec<&Tensor> = chunks.iter().map(|(_, pieces)| &pieces[place].1).collect();
        (*name, if parts.len() == 1 { only.shallow_clone() } else { Tensor::cat(&parts, axis) })
    };
    (*chunk, first.iter().enumerate().map(piece).collect())
}

impl<'a> Collector<'a> {
    pub fn new(network: &Network, request: &'a Request, samples: i64) -> Self {
        let parameters = network.parameter_count();
        // A parameter that other layers use too stands alone: it shares nothing with the rest of the layer that owns it.
        let mut siblings: Vec<Vec<usize>> = (0..parameters).map(|number| vec![number]).collect();
        for node in network.nodes() {
            let numbers = node.numbered().map(|(number, _)| number);
            let numbers: Vec<usize> = numbers.filter(|&number| network.uses(number) == 1).collect();
            for &number in &numbers {
                siblings[number].clone_from(&numbers);
            }
        }
        let taken = request.entries().iter().map(|_| (0..parameters).map(|_| Taken::default()).collect()).collect();
        let left_out = request.entries().iter().map(|entry| {
            let mut which = match &entry.only {
                Some(only) => (0..parameters).map(|number| !only.contains(&number)).collect(),
                None => vec![false; parameters],
            };
            for (number, _) in left_out(network, entry.quantity.as_ref()) {
                which[number] = true;
            }
            which
        });
        let left_out = left_out.collect();
        let wants_gradient = request.entries().iter().any(|entry| entry.quantity.name() == "grad");
        let input_factors = (0..parameters).map(|_| Vec::new()).collect();
        let bases = vec![None; parameters];
        let uses = (0..parameters).map(|number| network.uses(number)).collect();
        let pending = BTreeMap::new();
        Collector { request, samples, taken, left_out, siblings, input_factors, bases, wants_gradient, uses, pending }
    }

    /// Whether any quantity has the input factor of this reading of the weight of this number.
    pub fn wants_input_factor(&self, parameter: usize, reading: Reading) -> bool {
        let entries = self.request.entries().iter().zip(&self.left_out);
        let mut wanted = entries.filter(|(_, left_out)| !left_out[parameter]);
        wanted.any(|(entry, _)| entry.quantity.input_factor() == Some(reading))
    }

    pub fn wants_gradient(&self) -> bool {
        self.wants_gradient
    }

    pub fn put_input_factor(&mut self, parameter: usize, factor: (Reading, &'static str, Tensor)) {
        self.input_factors[parameter].push(factor);
    }

    /// Takes bases that were found before, one for each parameter that has one.
    pub fn set_bases(&mut self, bases: &[Option<Rc<Basis>>]) {
        self.bases = bases.to_vec();
    }

    /// Decomposes the factors of `kfac_expand`, for the second sweep of the sampled vectors.
    ///
    /// # Errors
    /// What libtorch says when a decomposition does not converge.
    pub fn find_bases(&mut self) -> Result<()> {
        let entries = self.request.entries().iter();
        let Some(place) = entries.map(|entry| entry.quantity.name()).position(|name| name == "kfac_expand") else {
            return Ok(());
        };
        for (parameter, taken) in self.taken[place].iter().enumerate() {
            let input_factor = self.input_factors[parameter].iter().find(|one| one.0 == Reading::Expand);
            let output_factor = taken.chunks.first().and_then(|(_, pieces)| pieces.first());
            if let Some((_, b)) = output_factor {
                let basis = Rc::new(Basis::of(input_factor.map(|(_, _, a)| a), b)?);
                for sibling in &self.siblings[parameter] {
                    self.bases[*sibling] = Some(Rc::clone(&basis));
                }
            }
        }
        Ok(())
    }

    pub fn put_gradient(&mut self, parameter: usize, gradient: Tensor) {
        if let Some(place) = self.request.entries().iter().position(|entry| entry.quantity.name() == "grad") {
            self.taken[place][parameter].add(Combine::Sum, self.samples, Chunk::WHOLE, vec![("", gradient)]);
        }
    }

    /// Whether any quantity of these sources is among the takers.
    pub fn has_takers(&self, sources: &[Source], takers: Takers) -> bool {
        let quantities = self.request.entries().iter().map(|entry| entry.quantity.as_ref());
        quantities.filter(|quantity| sources.contains(&quantity.source())).any(|quantity| takers.include(quantity))
    }

    /// Lets the quantities of these sources that are among the takers take their share at each parameter of a layer.
    /// The gradient itself comes by [`Self::put_gradient`].
    pub fn take_at(&mut self, arrived: &Arrived, sources: &[Source], takers: Takers) -> Result<()> {
        let Arrived { node, saved, v, signs, chunk } = *arrived;
        let Some(layer) = node.layer() else { return Ok(()) };
        for parameter in 0..layer.parameters().len() {
            let number = node.parameter(parameter);
            if self.uses[number] > 1 {
                if self.takes(number, sources, takers) {
                    self.hold(number, layer.parameter_vjp(saved, parameter, v)?, arrived, sources)?;
                }
                continue;
            }
            let basis = self.bases[node.parameter(parameter)].clone();
            let site = Site { layer, saved, parameter, v, signs, basis: basis.as_deref() };
            for source in sources {
                self.take(*source, takers, node.parameter(parameter), chunk, &site)?;
            }
        }
        Ok(())
    }

    /// Lets quantities of a source take signed squares `[N, *p]` of a parameter: as products whose squares they are.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn take_squares(&mut self, number: usize, squares: &Tensor, chunk: Chunk, source: Source) -> Result<()> {
        let roots = [squares, &squares.neg()].map(|squares| squares.clamp_min(0.0).sqrt());
        let product = Tensor::f_stack(&roots, 0)?;
        let one = Tensor::f_ones([1, squares.size()[0]], (squares.kind(), squares.device()))?;
        let signs = Some(Tensor::f_cat(&[&one, &one.neg()], 0)?);
        self.pending.insert(number, Pending { product, signs, chunk, sources: vec![source] });
        self.end_sweep()
    }

    /// Whether any quantity of these sources that is among the takers takes something of a parameter.
    pub fn takes(&self, parameter: usize, sources: &[Source], takers: Takers) -> bool {
        self.request.entries().iter().zip(&self.left_out).any(|(entry, left_out)| {
            let quantity = entry.quantity.as_ref();
            let is_source = sources.contains(&quantity.source()) && quantity.name() != "grad";
            is_source && takers.include(quantity) && !left_out[parameter]
        })
    }

    /// Keeps what one of several uses of a parameter gives until the sweep's end.
    fn hold(&mut self, number: usize, product: Tensor, arrived: &Arrived, sources: &[Source]) -> Result<()> {
        match self.pending.get_mut(&number) {
            Some(pending) => pending.product = pending.product.f_add(&product)?,
            None => {
                let signs = arrived.signs.map(Tensor::shallow_clone);
                let (chunk, sources) = (arrived.chunk, sources.to_vec());
                self.pending.insert(number, Pending { product, signs, chunk, sources });
            }
        }
        Ok(())
    }

    /// Lets quantities take their share of parameters with several uses; at the end of each sweep.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn end_sweep(&mut self) -> Result<()> {
        for (number, Pending { product, signs, chunk, sources }) in std::mem::take(&mut self.pending) {
            let samples = product.size()[1];
            let nothing = Tensor::zeros([samples], (product.kind(), product.device()));
            let saved = Saved::new(&nothing, nothing.shallow_clone());
            let layer = Given(product.shallow_clone());
            let site =
                Site { layer: &layer, saved: &saved, parameter: 0, v: &product, signs: signs.as_ref(), basis: None };
            for source in sources {
                self.take(source, Takers::All, number, chunk, &site)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, source: Source, takers: Takers, parameter: usize, chunk: Chunk, site: &Site) -> Result<()> {
        // A share that is another parameter's too is taken there, if that is the layer's own.
        let place = self.siblings[parameter].iter().position(|sibling| *sibling == parameter).unwrap_or(0);
        for ((entry, taken), left_out) in self.request.entries().iter().zip(&mut self.taken).zip(&self.left_out) {
            let quantity = entry.quantity.as_ref();
            let takes = quantity.source() == source && quantity.name() != "grad" && takers.include(quantity);
            if takes && !left_out[parameter] && quantity.shared_with(place).is_none() {
                taken[parameter].add(quantity.combine(), self.samples, chunk, quantity.extract(site)?);
            }
        }
        Ok(())
    }

    /// The values of what was asked for; of a part of a batch the shares of all that is taken, which nobody has finished.
    pub fn finish(self, required: &[Vec<usize>], whole: &Whole) -> Vec<Value> {
        let entries = self.request.entries();
        let mut all: Vec<results::Taken> = Vec::with_capacity(entries.len());
        for ((place, entry), taken) in entries.iter().enumerate().zip(self.taken) {
            let quantity = entry.quantity.as_ref();
            let raw: Vec<Pieces> = taken.into_iter().map(Taken::whole).collect();
            let shares = (0..raw.len()).map(|parameter| {
                let is_taken = !self.left_out[place][parameter];
                is_taken.then(|| shares(quantity, parameter, &raw, &self.siblings, &self.input_factors, &self.bases))
            });
            let (shares, required) = (shares.collect(), required[place].clone());
            all.push(results::Taken { quantity, visible: entry.visible, required, shares });
        }
        let value = |quantity: usize, parameter, factor, tensor| {
            let quantity = entries[quantity].quantity.name();
            Value { quantity, parameter, factor, tensor }
        };
        if self.request.part_of.is_none() {
            let finished = results::finish(&all, whole).into_iter();
            return finished.map(|one| value(one.quantity, one.parameter, one.factor, one.tensor)).collect();
        }
        let mut values = Vec::new();
        for (quantity, taken) in all.into_iter().enumerate() {
            for (parameter, shares) in taken.shares.into_iter().enumerate() {
                let shares = shares.into_iter().flatten();
                values.extend(shares.map(|share| value(quantity, parameter, share.factor, share.tensor)));
            }
        }
        values
    }
}

/// The shares of a quantity of a parameter: from what was taken of all parameters, the input factor and the basis.
fn shares(
    quantity: &dyn Quantity,
    parameter: usize,
    raw: &[Pieces],
    siblings: &[Vec<usize>],
    input_factors: &[Vec<(Reading, &'static str, Tensor)>],
    bases: &[Option<Rc<Basis>>],
) -> Vec<Share<'static>> {
    let siblings = &siblings[parameter];
    let place = siblings.iter().position(|sibling| *sibling == parameter).unwrap_or(0);
    let share = |factor, tensor: &Tensor, is_done| Share { factor, tensor: tensor.shallow_clone(), is_done };
    let mut shares = Vec::new();
    let of_reading = |one: &&(Reading, &str, Tensor)| Some(one.0) == quantity.input_factor();
    if let Some((_, factor, tensor)) = input_factors[parameter].iter().find(of_reading) {
        shares.push(share(*factor, tensor, true));
    }
    if quantity.source() == Source::SampledSqrtHessianAgain
        && let Some(basis) = &bases[parameter]
    {
        if place == 0 && basis.a.numel() > 0 {
            shares.push(share("A", &basis.a, true));
        }
        shares.push(share("B", &basis.b, true));
    }
    let own = quantity.shared_with(place).map_or(parameter, |other| siblings[other]);
    shares.extend(raw[own].iter().map(|(factor, tensor)| share(*factor, tensor, false)));
    shares
}
