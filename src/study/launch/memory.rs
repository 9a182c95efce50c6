//! Whether the memory suffices for a run: an estimate from shapes, data and optimizer state, against what is free.

use bytesize::ByteSize;

use super::super::event::{Outcome, RunEvent};
use super::super::settings::RunTask;
use super::Observer;
use crate::backpack::memory::{self, Plan};
use crate::backpack::network::NamedParameter;
use crate::backpack::quantities::by_name;
use crate::backpack::request::left_out;
use crate::error::{EXIT_ENVIRONMENT, Result};
use crate::problems::builder;
use crate::problems::data::{self, DataFolders, DataInfo, DataSource, Inputs};

/// What the program and libtorch take before any data, as measured.
const PROGRAM: u64 = 230 << 20;
/// Bytes of a parameter or an activation.
const ELEMENT: usize = 4;
/// Copies of the parameters beside the network's and the file's: gradient, moments or curvature with its mean, the
/// update, and a checkpoint that is being written.
const STATE_COPIES: u64 = 6;

/// What may be done about another worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// There is room for it.
    Start,
    /// There will be once another has ended.
    Wait,
}

/// The most bytes that a process with this run will take, from shapes alone.
///
/// # Errors
/// Where the data set or the network cannot be described.
pub(in crate::study) fn estimate(task: &RunTask) -> Result<u64> {
    let settings = &task.settings;
    let problem = &settings.problem;
    let info = data::describe(&problem.dataset, &DataFolders::from_choice(task.data_dir.as_deref()))?;
    let network = builder::lay_out(problem, &info.shape)?;
    let plan = Plan::new(&network, &info.shape, problem.batch_size as i64, settings.mc_samples as i64, ELEMENT)?;
    let optimizer = settings.optimizer.name.info();
    // A rule of the name of a quantity keeps nothing but a few copies for what that leaves out: a table of many rows has
    // no factors.
    let left_out = by_name(optimizer.name).map_or_else(Vec::new, |quantity| left_out(&network, quantity.as_ref()));
    let own = |(number, parameter): (usize, &NamedParameter)| match left_out.iter().any(|(left, _)| *left == number) {
        true => 0,
        false => (optimizer.memory)(&settings.optimizer.options, &parameter.value.size()),
    };
    let state = network.parameters().iter().enumerate().map(own).fold(0, u64::saturating_add);
    let parts = [
        PROGRAM,
        data_bytes(&problem.dataset, &info),
        plan.base(),
        plan.sweep(optimizer.vectors, settings.chunk_bytes),
        plan.parameters().saturating_mul(STATE_COPIES),
        state.saturating_mul(ELEMENT as u64),
    ];
    Ok(parts.into_iter().fold(0, u64::saturating_add))
}

/// The data set in memory: published images are kept as bytes, a user's integers as they stand in the file.
fn data_bytes(source: &DataSource, info: &DataInfo) -> u64 {
    let of = |shape: &[i64], element: u64| shape.iter().fold(element, |bytes, &size| bytes.saturating_mul(size as u64));
    let element = match source {
        DataSource::Named(_) if info.inputs != Inputs::Floats && info.built_in => 1,
        DataSource::Named(_) | DataSource::SafeTensors { .. } if info.inputs != Inputs::Floats => {
            size_of::<i64>() as u64
        }
        _ => ELEMENT as u64,
    };
    let sample = of(&info.shape, element).saturating_add(of(&info.target_shape, size_of::<i64>() as u64));
    ((info.train + info.test) as u64).saturating_mul(sample)
}

/// The estimate of each task; zero where none can be made, since the run itself will say why. Runs that differ in their
/// learning rate, damping and averaging alone share one.
pub(super) fn estimates(tasks: &[RunTask]) -> Vec<u64> {
    let mut known: Vec<(&RunTask, u64)> = Vec::new();
    let alike = |a: &RunTask, b: &RunTask| {
        let (a, b) = (&a.settings, &b.settings);
        let (one, other) = (&a.optimizer, &b.optimizer);
        a.problem == b.problem && one.name == other.name && one.options == other.options && a.mc_samples == b.mc_samples
    };
    tasks
        .iter()
        .map(|task| match known.iter().find(|(other, _)| alike(other, task)) {
            Some((_, bytes)) => *bytes,
            None => {
                let bytes = estimate(task).unwrap_or(0);
                known.push((task, bytes));
                bytes
            }
        })
        .collect()
}

/// Refuses the runs that would not fit even alone: their outcome, and nothing for the others.
pub(super) fn refuse(estimates: &[u64], observer: &mut dyn Observer) -> Vec<Option<Outcome>> {
    // Where the system does not tell what is free, nothing is refused.
    let free = memory::free().unwrap_or(u64::MAX);
    let one = |(run, &bytes): (usize, &u64)| {
        (bytes > free).then(|| {
            let reason = format!(
                "it needs about {} of memory, but only {} are free; end other programs, or use a smaller batch_size or \
                 data set",
                ByteSize(bytes),
                ByteSize(free)
            );
            let outcome = Outcome::Failed { reason, exit_code: EXIT_ENVIRONMENT };
            observer.event(run, &RunEvent::Ended { outcome: outcome.clone() });
            outcome
        })
    };
    estimates.iter().enumerate().map(one).collect()
}

/// Whether a further worker may start beside `working` others, when it will need `needed` bytes and `free` are free.
/// The first one always may: whether it fits alone was asked before.
pub(super) fn admit(needed: u64, free: u64, working: usize) -> Admission {
    if working == 0 || needed <= free { Admission::Start } else { Admission::Wait }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_waits_for_room_unless_it_is_the_only_one() {
        assert_eq!(admit(10, 10, 1), Admission::Start);
        assert_eq!(admit(11, 10, 1), Admission::Wait);
        assert_eq!(admit(11, 10, 0), Admission::Start);
    }
}
