//! What the steps of a plan have in common.

use super::memory::Inputs;
use crate::buffer::Shared;
use crate::layout::Blocked;
use crate::simd::Simd;
use std::ops::Range;

/// The bytes of scratch memory that a step aims to work in at a time: with the weights it streams past, half of a core's
/// second-level cache of 512 KiB, the smallest among current server and desktop processors.
pub(crate) const BAND_BYTES: usize = 192 << 10;

/// One operation of a plan over one image, divided into phases of independent tasks.
pub(crate) trait Step<S: Simd>: Send + Sync + std::fmt::Debug {
    /// The size of the result.
    fn output(&self) -> Blocked;

    /// Values of memory shared by the tasks of an image when it is split; what one phase leaves for the next.
    fn shared_len(&self) -> usize {
        0
    }

    /// Values of memory that each task needs for itself.
    fn scratch_len(&self) -> usize {
        0
    }

    /// The tasks of each phase when an image is split for `split` threads. `[1]` for one thread.
    fn tasks(&self, split: usize) -> Vec<usize>;

    /// What it does and over which sizes, in a few words.
    fn name(&self) -> String;

    /// Runs one task.
    ///
    /// # Safety
    /// Tasks of one phase may run at the same time on the same `image`, phases may not, and nobody else uses its memory but
    /// to read the input. The output and shared memory are as long as the step asks for.
    unsafe fn run(&self, simd: S, task: Task, image: Image<'_>, scratch: &mut [f32]);
}

/// Which task of which phase, of how many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Task {
    pub(crate) split: usize,
    pub(crate) phase: usize,
    pub(crate) index: usize,
    /// Tasks of this phase.
    pub(crate) count: usize,
}

impl Task {
    /// This task's share of `total` things.
    pub(crate) fn share(&self, total: usize) -> Range<usize> {
        self.index * total / self.count..(self.index + 1) * total / self.count
    }
}

/// The memory of one image within a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Image<'a> {
    /// The first of the values that the step reads.
    pub(crate) input: &'a [f32],
    /// All of them.
    pub(crate) inputs: Inputs<'a>,
    pub(crate) output: Shared<'a>,
    pub(crate) shared: Shared<'a>,
}

/// Cuts `range` into pieces of at most `length`.
pub(crate) fn pieces(range: Range<usize>, length: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(length.max(1)).map(move |start| start..(start + length.max(1)).min(end))
}
