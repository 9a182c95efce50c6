//! A cell: what a recurrent layer does in one step of time, entry by entry, once the gates are given.
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
pub fn sum_gates(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_sum_dim_intlist(-2, false, None::<Kind>)?)
}
