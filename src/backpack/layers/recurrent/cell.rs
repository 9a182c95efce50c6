//! A cell: what a recurrent layer does in one step of time, entry by entry, once the gates are given; and the
//! recursions through time that its slopes make.
//!
//! With a the gates (before their nonlinearities), h the output and c the memory of a step, `(h, c) = cell(a, c')`,
//! where c' is the step before's memory. Each unit has gates, output and memory of its own. The gates that come first
//! lead into the memory, the others to the output beside it, so that small changes are
//!
//! ```text
//! dc = keep dc' + sum over the first gates of into da
//! dh = out dc   + sum over the others of direct da
//! ```
//!
//! A cell without memory has the second line's last term alone.

use tch::{Kind, Tensor};

use crate::error::Result;

/// What all steps of time of a sequence have come to: the values, or their changes along a direction.
#[derive(Debug)]
pub struct States {
    /// The gates before their nonlinearities, `[N, T, G, H]`.
    pub gates: Tensor,
    /// The memory, `[N, T, H]`, of cells that have one.
    pub memory: Option<Tensor>,
    /// The output, `[N, T, H]`.
    pub output: Tensor,
}

/// The factors of the changes in the module's documentation, or the factors' own changes along a direction.
#[derive(Debug)]
pub struct Slopes {
    /// From the gates that do not lead into the memory to the output: `[N, T, D, H]`.
    pub direct: Tensor,
    /// Those of the memory.
    pub memory: Option<MemorySlopes>,
}

/// The factors that belong to a memory.
#[derive(Debug)]
pub struct MemorySlopes {
    /// From the first gates to the memory: `[N, T, M, H]`.
    pub into: Tensor,
    /// From the step before's memory to the memory: `[N, T, H]`.
    pub keep: Tensor,
    /// From the memory to the output: `[N, T, H]`.
    pub out: Tensor,
}

/// A cell without its weights.
pub trait Cell: Send {
    /// The layer type's name.
    fn kind(&self) -> &'static str;

    /// The number of gates G.
    fn gates(&self) -> i64;

    /// One step: from the gates `[N, G, H]` and the memory of the step before (None is zero, or a cell without one), the
    /// output and the memory, `[N, H]` each. Automatic differentiation can go through it.
    ///
    /// # Errors
    /// What libtorch says.
    fn step(&self, gates: &Tensor, memory: Option<&Tensor>) -> Result<(Tensor, Option<Tensor>)>;

    /// The factors at these states.
    ///
    /// # Errors
    /// What libtorch says.
    fn slopes(&self, at: &States) -> Result<Slopes>;

    /// How the factors change when the states change along `along`.
    ///
    /// # Errors
    /// What libtorch says.
    fn bends(&self, at: &States, along: &States) -> Result<Slopes>;

    /// The whole sequence `[N, T, H]` by libtorch's own operation, for inputs `[N, T, in]`, an initial state of zeros
    /// `[1, N, H]`, and the parameters in their order.
    ///
    /// # Errors
    /// What libtorch says.
    fn library(&self, input: &Tensor, start: &Tensor, parameters: &[&Tensor], bias: bool) -> Result<Tensor>;
}

/// Each step's value of the step before, zero for the first: time is the axis `axis`.
pub fn earlier(x: &Tensor, axis: i64) -> Result<Tensor> {
    let steps = x.size()[axis as usize];
    Ok(Tensor::f_cat(&[zeros_like_step(x, axis)?, x.f_narrow(axis, 0, steps - 1)?], axis)?)
}

/// Each step's value of the step behind, zero for the last: time is the axis `axis`.
pub fn later(x: &Tensor, axis: i64) -> Result<Tensor> {
    let steps = x.size()[axis as usize];
    Ok(Tensor::f_cat(&[x.f_narrow(axis, 1, steps - 1)?, zeros_like_step(x, axis)?], axis)?)
}

fn zeros_like_step(x: &Tensor, axis: i64) -> Result<Tensor> {
    Ok(x.f_narrow(axis, 0, 1)?.f_zeros_like()?)
}

/// The sum over the gates, the last axis but one.
fn sum_gates(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_sum_dim_intlist(-2, false, None::<Kind>)?)
}

// The recursions through time that the products of a recurrent layer are made of, for a cell's slopes and the weight
// between steps: vectors go back (Werbos, 1990, "Backpropagation through time"), tangents go on.

/// A sequence whose slopes are known.
pub struct Steps<'a> {
    /// The cell's slopes, with N samples and T steps.
    pub slopes: &'a Slopes,
    /// The weight from a step's output to the next one's gates, `[G H, H]`.
    pub weight: &'a Tensor,
}

/// What arrives at the steps from behind the layer; beside the output it does so for second derivatives alone.
pub struct Arriving<'a> {
    /// Vectors at the outputs, `[V, N, T, H]`.
    pub output: &'a Tensor,
    /// At the memories, `[V, N, T, H]`.
    pub memory: Option<&'a Tensor>,
    /// At the gates, `[V, N, T, G, H]`.
    pub gates: Option<&'a Tensor>,
}

impl<'a> Arriving<'a> {
    /// Vectors at the outputs alone.
    pub fn at_output(output: &'a Tensor) -> Self {
        Arriving { output, memory: None, gates: None }
    }
}

impl Steps<'_> {
    /// The vectors at the gates, `[V, N, T, G H]`. `seen` gets what has arrived at each step's output and memory in all,
    /// `[V, N, H]` each, the last step first.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn back(&self, arriving: &Arriving, mut seen: impl FnMut(&Tensor, Option<&Tensor>)) -> Result<Tensor> {
        let (vectors, samples, steps, hidden) = arriving.output.size4()?;
        let units = self.weight.size()[0];
        let (rows, gates) = (vectors * samples, units / hidden);
        let options = (arriving.output.kind(), arriving.output.device());
        // Time first, so that each step's rows lie side by side.
        let all = Tensor::f_empty([steps, rows, units], options)?;
        let mut memory_behind: Option<Tensor> = None;
        for step in (0..steps).rev() {
            let mut output = arriving.output.f_select(2, step)?;
            if step + 1 < steps {
                let rows_of = output.f_reshape([rows, hidden])?.f_addmm(&all.f_get(step + 1)?, self.weight)?;
                output = rows_of.f_view([vectors, samples, hidden])?;
            }
            let own = all.f_get(step)?.f_view([vectors, samples, gates, hidden])?;
            let direct = self.slopes.direct.f_select(1, step)?;
            let first = gates - direct.size()[1];
            own.f_narrow(2, first, gates - first)?.f_copy_(&output.f_unsqueeze(2)?.f_mul(&direct)?)?;
            let mut memory = None;
            if let Some(slopes) = &self.slopes.memory {
                let mut sum = output.f_mul(&slopes.out.f_select(1, step)?)?;
                if let Some(behind) = &memory_behind {
                    let _ = sum.f_addcmul_(behind, &slopes.keep.f_select(1, step + 1)?)?;
                }
                if let Some(arriving) = arriving.memory {
                    let _ = sum.f_add_(&arriving.f_select(2, step)?)?;
                }
                let into = slopes.into.f_select(1, step)?;
                own.f_narrow(2, 0, first)?.f_copy_(&sum.f_unsqueeze(2)?.f_mul(&into)?)?;
                memory = Some(sum);
            }
            if let Some(arriving) = arriving.gates {
                let mut own = own.shallow_clone();
                let _ = own.f_add_(&arriving.f_select(2, step)?)?;
            }
            seen(&output, memory.as_ref());
            memory_behind = memory;
        }
        Ok(all.f_view([steps, vectors, samples, units])?.f_permute([1, 2, 0, 3])?.f_contiguous()?)
    }

    /// The tangents of all states, with vectors in front of the samples, where the gates' sums change by `source`,
    /// `[V, N, T, G H]`, beside what the steps before change in them.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn onward(&self, source: &Tensor) -> Result<States> {
        let (vectors, samples, steps, units) = source.size4()?;
        let hidden = self.weight.size()[1];
        let gates = units / hidden;
        let across = self.weight.tr();
        let (mut all_gates, mut outputs, mut memories) = (Vec::new(), Vec::<Tensor>::new(), Vec::<Tensor>::new());
        for step in 0..steps {
            let mut own = source.f_select(2, step)?;
            if let Some(before) = outputs.last() {
                let rows = own.f_reshape([vectors * samples, units])?;
                own = rows.f_addmm(&before.f_reshape([vectors * samples, hidden])?, &across)?;
            }
            let own = own.f_reshape([vectors, samples, gates, hidden])?;
            let direct = self.slopes.direct.f_select(1, step)?;
            let first = gates - direct.size()[1];
            let mut output = sum_gates(&own.f_narrow(2, first, gates - first)?.f_mul(&direct)?)?;
            if let Some(slopes) = &self.slopes.memory {
                let mut memory = sum_gates(&own.f_narrow(2, 0, first)?.f_mul(&slopes.into.f_select(1, step)?)?)?;
                if let Some(before) = memories.last() {
                    let _ = memory.f_addcmul_(before, &slopes.keep.f_select(1, step)?)?;
                }
                let _ = output.f_addcmul_(&memory, &slopes.out.f_select(1, step)?)?;
                memories.push(memory);
            }
            all_gates.push(own);
            outputs.push(output);
        }
        Ok(States {
            gates: Tensor::f_stack(&all_gates, 2)?,
            memory: if memories.is_empty() { None } else { Some(Tensor::f_stack(&memories, 2)?) },
            output: Tensor::f_stack(&outputs, 2)?,
        })
    }
}
