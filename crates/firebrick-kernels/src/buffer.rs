//! Memory that the kernels work in.

use rayon::prelude::*;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

/// `len` values that are computed `block` at a time, each block of zeros from one of the `inputs`, in their order. The thread that computes
/// a block zeroes it, in its cache: a vector of zeros is first a pass of a single thread over memory.
///
/// # Panics
/// If there are fewer or more inputs than blocks.
pub(crate) fn by_blocks<I: IndexedParallelIterator>(
    len: usize,
    block: usize,
    inputs: I,
    compute: impl Fn(I::Item, &mut [f32]) + Sync,
) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    assert_eq!(inputs.len(), len.div_ceil(block), "an input for each block of {block} of {len} values");
    values.spare_capacity_mut()[..len].par_chunks_mut(block).zip(inputs).for_each(|(block, input)| {
        block.fill(MaybeUninit::new(0.0));
        // SAFETY: it was just filled.
        compute(input, unsafe { block.assume_init_mut() });
    });
    // SAFETY: every block was filled: there were as many inputs.
    unsafe { values.set_len(len) };
    values
}

/// A cache line of values.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Zero-initialised values that begin on a cache line, so that no aligned vector straddles two.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    pub(crate) fn zeroed(len: usize) -> Self {
        Self { lines: vec![Line([0.0; 16]); len.div_ceil(16)], len }
    }

    /// Grows to at least `len` values; what it held is lost where it grows.
    pub(crate) fn reserve(&mut self, len: usize) {
        if self.len < len {
            *self = Self::zeroed(len);
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: the lines are 16 f32 each without padding, they are initialised, and `len <= 16 * lines.len()`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`; the borrow of `self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

/// A buffer whose parts several threads write, each its own.
///
/// Copies of it are handed to the tasks of a phase; the phase's tasks write disjoint places, and nobody reads what another
/// task of the same phase writes. Phases are separated by a barrier (see `team`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shared<'a> {
    start: *mut f32,
    len: usize,
    owner: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is a borrow of plain values; every access goes through unsafe methods whose contract excludes races.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(crate) fn new(values: &'a mut [f32]) -> Self {
        Self { start: values.as_mut_ptr(), len: values.len(), owner: PhantomData }
    }

    /// Room for `len` values behind a vector's last: to zero it first would cost a pass over memory. Nothing has been written there, so it is
    /// not for [`read`](Self::read) or [`write`](Self::write), which make slices, but for [`put`](Self::put) and for stores by address.
    ///
    /// # Panics
    /// If the vector has not reserved as many.
    pub(crate) fn spare(values: &'a mut Vec<f32>, len: usize) -> Self {
        let spare = values.spare_capacity_mut();
        assert!(len <= spare.len(), "{len} values in room for {}", spare.len());
        Self { start: spare.as_mut_ptr().cast(), len, owner: PhantomData }
    }

    /// Copies values to the places from `first` on.
    ///
    /// # Safety
    /// Nobody else uses these places.
    ///
    /// # Panics
    /// If the range leaves the buffer.
    pub(crate) unsafe fn put(self, first: usize, values: &[f32]) {
        self.check(first, values.len());
        // SAFETY: the range was just checked and is nobody else's, so it is not that of `values`; no slice is made of it.
        unsafe { self.start.add(first).copy_from_nonoverlapping(values.as_ptr(), values.len()) };
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The part from `first` on.
    ///
    /// # Panics
    /// If `first` lies behind the end.
    pub(crate) fn from(self, first: usize) -> Self {
        assert!(first <= self.len, "offset {first} in a buffer of {} values", self.len);
        // SAFETY: `first` was just checked to lie within the allocation or at its end.
        Self { start: unsafe { self.start.add(first) }, len: self.len - first, owner: PhantomData }
    }

    /// `len` values from `first` on.
    ///
    /// # Panics
    /// If the range leaves the buffer.
    pub(crate) fn part(self, first: usize, len: usize) -> Self {
        self.check(first, len);
        Self { len, ..self.from(first) }
    }

    pub(crate) fn as_mut_ptr(self) -> *mut f32 {
        self.start
    }

    /// The values, to be read.
    ///
    /// # Safety
    /// Nobody writes any of them while the slice lives.
    pub(crate) unsafe fn read(self) -> &'a [f32] {
        // SAFETY: start and length come from a slice that is borrowed for 'a; the caller excludes writers.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }

    /// `len` values from `first` on, to be read.
    ///
    /// # Safety
    /// Nobody writes any of them while the slice lives.
    ///
    /// # Panics
    /// If the range leaves the buffer.
    pub(crate) unsafe fn read_part(self, first: usize, len: usize) -> &'a [f32] {
        self.check(first, len);
        // SAFETY: the range was just checked; the caller excludes writers.
        unsafe { std::slice::from_raw_parts(self.start.add(first), len) }
    }

    /// `len` values from `first` on, to be written.
    ///
    /// # Safety
    /// Nobody else reads or writes any of them while the slice lives.
    ///
    /// # Panics
    /// If the range leaves the buffer.
    pub(crate) unsafe fn write(self, first: usize, len: usize) -> &'a mut [f32] {
        self.check(first, len);
        // SAFETY: the range was just checked; the caller excludes other users of it.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), len) }
    }

    fn check(self, first: usize, len: usize) {
        assert!(
            first <= self.len && len <= self.len - first,
            "{len} values at {first} in a buffer of {}",
            self.len
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computes_every_block_from_its_input() {
        let inputs = [1.0, 2.0, 3.0];
        let values = by_blocks(7, 3, inputs.par_iter(), |input, block| {
            assert!(block.iter().all(|&value| value == 0.0));
            block[0] = *input;
        });
        assert_eq!(values, [1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 3.0]);
        assert!(by_blocks(0, 3, inputs[..0].par_iter(), |_, _| ()).is_empty());
    }

    #[test]
    #[should_panic(expected = "an input for each block of 3 of 7 values")]
    fn refuses_fewer_inputs_than_blocks() {
        by_blocks(7, 3, [1.0, 2.0].par_iter(), |_, _| ());
    }

    #[test]
    fn begins_on_a_cache_line() {
        for len in [0, 1, 16, 17, 1000] {
            let buffer = Buffer::zeroed(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr() as usize % 64, 0);
            assert!(buffer.iter().all(|&value| value == 0.0));
        }
    }

    #[test]
    #[should_panic(expected = "4 values at 7 in a buffer of 10")]
    fn refuses_a_range_that_leaves_the_buffer() {
        let mut values = [0.0; 10];
        // SAFETY: nobody else uses the values; the range is refused anyway.
        let _ = unsafe { Shared::new(&mut values).write(7, 4) };
    }
}
