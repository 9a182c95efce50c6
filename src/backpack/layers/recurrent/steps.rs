//! The recursions through time that the products of a recurrent layer are made of, for a cell's slopes and the weight
//! between steps: vectors go back (Werbos, 1990, "Backpropagation through time"), tangents go on.

use tch::Tensor;

use super::cell::{Slopes, States, sum_gates};
use crate::error::Result;

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
