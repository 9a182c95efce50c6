//! Memory of large tensors that stays from one call to the next, beside what malloc has.

use std::ffi::c_int;
use std::marker::PhantomData;

unsafe extern "C" {
    fn backpack_run_kept_memory_keepers(more: c_int);
    fn backpack_run_kept_memory_call(more: c_int);
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
