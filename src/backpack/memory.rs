//! How much memory a pass will need, before it is made, and how large its chunks may be for a given budget.
//!
//! An estimate, made from shapes alone: parameters, what the forward pass keeps, the results, and the largest of the
//! sweeps with its chunks. It is on the high side of what was measured; what libtorch itself takes is not in it.

use bytesize::ByteSize;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use crate::backpack::layers::Curvature;
use crate::backpack::network::{Network, Operation};
use crate::backpack::position_sums::{last_matrix, pushed_bytes};
use crate::backpack::quantities::{Extent, Quantity, Source};
use crate::backpack::request::DEFAULT_CHUNK_BYTES;
use crate::error::{Error, Result};

/// The share of the free memory that is used unless told otherwise.
const SHARE: f64 = 0.75;

/// Memory that this process may still take, in bytes: what the machine, or the container around it, has available.
///
/// # Errors
/// [`Error::Environment`] where the system does not say.
pub fn free() -> Result<u64> {
    let refresh = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(refresh).map_err(|error| {
        Error::Environment(format!(
            "the free memory is unknown ({error}); give a budget with the option `memory_budget`"
        ))
    })?;
    let free = system.available_memory();
    Ok(system.cgroup_limits().map_or(free, |limits| limits.free_memory.min(free)))
}

/// Refuses what this process has no room for, before any of it is allocated. Where the system does not say how much is
/// free, nothing is refused.
///
/// # Errors
/// [`Error::Memory`] that says how much `what` takes and how much is free.
pub fn check_room(what: impl std::fmt::Display, bytes: u64) -> Result<()> {
    // Asking the system costs more than anything so small.
    if bytes < 64 << 20 {
        return Ok(());
    }
    match free() {
        Ok(free) if bytes > free => Err(Error::Memory(format!(
            "{what}: about {} of memory are needed and {} are free",
            ByteSize(bytes),
            ByteSize(free)
        ))),
        _ => Ok(()),
    }
}

/// The budget where none is given: three quarters of what is free.
///
/// # Errors
/// As [`free`].
pub fn default_budget() -> Result<u64> {
    Ok((free()? as f64 * SHARE) as u64)
}

/// A pass whose memory is estimated: network, shapes and numbers.
#[derive(Debug)]
pub struct Plan<'a> {
    network: &'a Network,
    /// The number of samples N.
    samples: u64,
    /// The number of outputs, which is that of the exact square root's vectors.
    outputs: u64,
    /// The number of labels drawn for each sample.
    mc_samples: u64,
    /// Bytes of an element.
    element: u64,
    /// Numbers that the input and every node's output have for one sample.
    sizes: Vec<u64>,
    /// The same at each node: those of its inputs together, and of its output.
    nodes: Vec<(u64, u64)>,
    /// The same within each node, beside these.
    within: Vec<u64>,
}

impl<'a> Plan<'a> {
    /// A pass of `samples` inputs of this shape, with elements of `element` bytes.
    ///
    /// # Errors
    /// [`Error::Shape`] when the input does not fit the network.
    pub fn new(network: &'a Network, input: &[i64], samples: i64, mc_samples: i64, element: usize) -> Result<Self> {
        let shapes = network.shapes(input)?;
        let numbers = |shape: &[i64]| shape.iter().product::<i64>() as u64;
        let sizes: Vec<u64> = shapes.iter().map(numbers).collect();
        let nodes = network.nodes().iter().enumerate().map(|(place, node)| {
            (node.inputs().iter().map(|value| numbers(&shapes[*value])).sum(), numbers(shapes.of_node(place)))
        });
        let within = network
            .nodes()
            .iter()
            .map(|node| node.layer().map_or(0, |layer| layer.held_within(&shapes[node.inputs()[0]]).unsigned_abs()));
        Ok(Plan {
            within: within.collect(),
            network,
            samples: samples.max(1) as u64,
            outputs: sizes.last().copied().unwrap_or(1),
            mc_samples: mc_samples.max(1) as u64,
            element: element as u64,
            nodes: nodes.collect(),
            sizes,
        })
    }

    /// The parameters' bytes.
    pub fn parameters(&self) -> u64 {
        let count: usize = self.network.parameters().iter().map(|parameter| parameter.value.numel()).sum();
        count as u64 * self.element
    }

    /// What is there in any pass: parameters (and the file they came from), the batch, and what the forward pass keeps.
    pub fn base(&self) -> u64 {
        // A quarter on top for what layers keep beside their outputs (masks, places of maxima, padded inputs).
        let all = self.sizes.iter().chain(&self.within).copied().fold(0, u64::saturating_add);
        let trace = all.saturating_mul(self.samples).saturating_mul(5) / 4;
        let batch = self.sizes[0].saturating_mul(self.samples);
        batch.saturating_add(trace).saturating_mul(self.element).saturating_add(2 * self.parameters())
    }

    /// The result of a quantity, with what it requires.
    pub fn result(&self, quantity: &dyn Quantity) -> u64 {
        let required = quantity.requires().len() as u64;
        self.network
            .with_parameters()
            .flat_map(|(_, layer)| layer.parameters().iter().map(move |parameter| (layer, parameter)))
            .map(|(layer, parameter)| {
                let vectors = self.vectors(quantity.source());
                let extent = Extent { layer, parameter, samples: self.samples, vectors };
                quantity.elements(&extent) + required * parameter.value.numel() as u64
            })
            .fold(0u64, u64::saturating_add)
            .saturating_mul(self.element)
    }

    /// What a sweep of these vectors holds at a time, when chunks are of `chunk_bytes`, or one vector of one sample.
    pub fn sweep(&self, source: Source, chunk_bytes: u64) -> u64 {
        // The vectors at a layer's output and input, and one more of them while they are computed.
        let copies = 3;
        if source == Source::AveragedMatrix {
            let last = last_matrix(self.network, &self.sizes, self.samples, self.element, chunk_bytes);
            let last = last.or(self.network.first_with_parameters().map(|first| first + 1));
            let side = self.sizes[last.unwrap_or(0)..].iter().copied().max().unwrap_or(1);
            // The matrix, its product with one side, that turned, and the next one; measured, convolutions hold five.
            let matrices = side.saturating_mul(side).saturating_mul(5 * self.element);
            return matrices.saturating_add(pushed_bytes(self.network, &self.sizes, self.samples, self.element, last));
        }
        let each = self.widest().saturating_mul(self.element);
        let whole = each.saturating_mul(self.vectors(source)).saturating_mul(self.samples);
        let held = if source == Source::Gradient { whole } else { whole.min(each.max(chunk_bytes)) };
        held.saturating_mul(copies).saturating_add(self.patches())
    }

    /// The chunks that a budget leaves room for when `fixed` bytes are taken already, at most the default.
    pub fn chunk_bytes(&self, budget: u64, fixed: u64) -> u64 {
        (budget.saturating_sub(fixed).saturating_sub(self.patches()) / 3).clamp(1, DEFAULT_CHUNK_BYTES)
    }

    /// How many vectors travel together.
    fn vectors(&self, source: Source) -> u64 {
        match source {
            Source::Gradient => 1,
            Source::SqrtHessian | Source::SqrtHessianByOutput => self.outputs,
            Source::SampledSqrtHessian | Source::SampledSqrtHessianAgain => self.mc_samples,
            Source::SignedSqrtHessian => {
                let widths = self.network.nodes().iter().zip(&self.nodes).filter(|(node, _)| node.goes_on());
                let widths = widths.map(|(node, (inputs, _))| match node.operation() {
                    Operation::Layer(layer) if matches!(layer.curvature(), Curvature::Elementwise(_)) => *inputs,
                    // Two vectors for each pair of entries that meet.
                    // An entry of what a use behind another takes.
                    Operation::Layer(_) if node.tied_slots().next().is_some() => *inputs,
                    Operation::Merge(merge) if merge.bend().is_some() => {
                        inputs.saturating_mul(node.inputs().len() as u64)
                    }
                    _ => 0,
                });
                widths.fold(self.outputs, u64::max)
            }
            Source::AveragedMatrix => 1,
        }
    }

    /// The numbers at the widest layer's input and output, and within it, together, for one sample.
    fn widest(&self) -> u64 {
        let nodes = self.nodes.iter().zip(&self.within);
        nodes.map(|((inputs, output), within)| (inputs + output).saturating_add(*within)).max().unwrap_or(1)
    }

    /// The largest patch matrix of a convolution (for a linear layer its input), for all samples, in bytes.
    fn patches(&self) -> u64 {
        let nodes = self.network.nodes().iter().zip(&self.nodes);
        let sizes = nodes.filter_map(|(node, (_, output))| {
            let layer = node.layer()?;
            let matrix = layer.factored()?.matrix(&layer.parameters()[0].value);
            let shape: Vec<u64> = matrix.size().iter().map(|&size| size as u64).collect();
            let (groups, outputs, features) = match shape.as_slice() {
                [groups, outputs, features] => (*groups, *outputs, *features),
                [outputs, features] => (1, *outputs, *features),
                _ => return None,
            };
            Some((features * groups).saturating_mul(*output) / (groups * outputs).max(1))
        });
        sizes.max().unwrap_or(0).saturating_mul(self.samples).saturating_mul(self.element)
    }
}
