//! Memory of large tensors that stays from one call to the next, beside what malloc has.

use std::ffi::c_int;
use std::marker::PhantomData;

unsafe extern "C" {
    fn backpack_run_kept_memory_keepers(more: c_int);
    fn backpack_run_kept_memory_call(more: c_int);
    fn backpack_run_kept_memory_always();
    fn backpack_run_kept_memory_forget();
}

/// Keeps the memory of large tensors that [`KeptMemory::during`] frees for the next such call, instead of returning it to the
/// system, which maps and zeroes it anew for more than some of the arithmetic costs. Memory of other computations of the
/// process is not touched. What neither of the last two calls used goes back, and so does everything that is free when the
/// last of these is dropped; tensors may outlive it. Where the system has no such memory (not Linux, or with a limit on
/// addresses), nothing is kept.
#[derive(Debug)]
pub struct KeptMemory(());

impl KeptMemory {
    /// One that keeps memory from now on.
    #[must_use]
    pub fn new() -> Self {
        // SAFETY: the call only counts, behind a lock.
        unsafe { backpack_run_kept_memory_keepers(1) };
        KeptMemory(())
    }

    /// Computes with large tensors of this thread in kept memory.
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let _call = Call::new();
        work()
    }
}

impl Default for KeptMemory {
    fn default() -> Self {
        KeptMemory::new()
    }
}

impl Drop for KeptMemory {
    fn drop(&mut self) {
        // SAFETY: the call only counts, behind a lock; blocks in use stay.
        unsafe { backpack_run_kept_memory_keepers(-1) };
    }
}

/// A call of this thread, which ends on a panic too.
struct Call(PhantomData<*const ()>);

impl Call {
    fn new() -> Self {
        // SAFETY: the call only counts for this thread.
        unsafe { backpack_run_kept_memory_call(1) };
        Call(PhantomData)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // SAFETY: the call was counted by `new`, in this thread, which this type does not leave.
        unsafe { backpack_run_kept_memory_call(-1) };
    }
}

/// As [`KeptMemory`] for large tensors of all threads, from now on to the end of the process: for one that does nothing but
/// compute, as a training does.
pub fn keep_memory() {
    // SAFETY: the call sets a flag that is atomic and counts behind a lock.
    unsafe { backpack_run_kept_memory_always() };
}

/// Gives what is kept and free back to the system, so that what a computation needs can be measured.
pub fn forget_kept_memory() {
    // SAFETY: the call gives back only what no tensor has, behind a lock.
    unsafe { backpack_run_kept_memory_forget() };
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;
    use crate::process_memory::resident;

    const BYTES: u64 = 64 << 20;

    fn large() -> Tensor {
        Tensor::ones([(BYTES / 4) as i64], (Kind::Float, Device::Cpu))
    }

    /// The memory that is resident now, in blocks.
    fn blocks(since: u64) -> u64 {
        (resident().unwrap().saturating_sub(since) + BYTES / 2) / BYTES
    }

    const ALONE: &str = "BACKPACK_RUN_TEST_ALONE";

    // All threads of a process share the memory, and the system counts that of the process: so a process of its own.
    #[test]
    fn memory_stays_for_two_calls_and_goes_with_the_last_keeper() {
        if std::env::var_os(ALONE).is_none() {
            let name = std::thread::current().name().unwrap().to_owned();
            let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
            let output = alone.arg(&name).env(ALONE, "1").output().unwrap();
            let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && told.contains("1 passed"), "{told}");
            return;
        }
        let kept = KeptMemory::new();
        // What else a first tensor brings.
        kept.during(|| drop(Tensor::ones([1 << 16], (Kind::Float, Device::Cpu))));
        let Some(before) = resident() else { return };
        let (first, second) = kept.during(|| (large(), large()));
        assert_eq!(blocks(before), 2);
        let (a, b) = (first.data_ptr(), second.data_ptr());
        assert_ne!(a, b);
        drop((first, second));
        assert_eq!(blocks(before), 2, "freed, and kept");
        // The same places again, first fit; what is written there does not disturb a neighbour in use.
        let (third, fourth) = kept.during(|| (large(), large()));
        assert_eq!((third.data_ptr(), fourth.data_ptr()), (a, b));
        drop(third);
        let fifth = kept.during(|| large() * 3.0);
        assert_eq!(f64::try_from(fourth.sum(Kind::Double)).unwrap(), (BYTES / 4) as f64);
        assert_eq!(f64::try_from(fifth.sum(Kind::Double)).unwrap(), 3.0 * (BYTES / 4) as f64);
        drop((fourth, fifth));
        // A tensor of another computation is malloc's, which returns it.
        drop(large());
        assert!(blocks(before) >= 2);
        for _ in 0..3 {
            kept.during(|| drop(Tensor::ones([1 << 16], (Kind::Float, Device::Cpu))));
        }
        assert_eq!(blocks(before), 0, "two calls did not use it");
        let outliving = kept.during(large);
        kept.during(|| drop(large()));
        assert_eq!(blocks(before), 2);
        drop(kept);
        assert_eq!(blocks(before), 1, "what is free went with the keeper");
        assert_eq!(f64::try_from(outliving.sum(Kind::Double)).unwrap(), (BYTES / 4) as f64);
        drop(outliving);
        assert_eq!(blocks(before), 0);
    }
}
