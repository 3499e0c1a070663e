//! Where the values of a plan lie: each image's in an arena, packed so that those whose lives do not overlap share memory.

use crate::buffer::Shared;
use std::ops::Range;

/// Where a value lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The image as it comes from outside, `[height, width, channels]`.
    Input,
    /// Part of the image's arena.
    Arena { first: usize, len: usize },
    /// Memory for the whole batch, `len` values an image, from which the linear layers at the end read.
    Batch { buffer: usize, len: usize },
    /// A result of the plan, `[height, width, channels]`, `len` values an image.
    Output { index: usize, len: usize },
}

/// All memory that the steps of one image may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory<'a> {
    pub(crate) input: &'a [f32],
    pub(crate) arena: Shared<'a>,
    pub(crate) batch: &'a [Shared<'a>],
    pub(crate) outputs: &'a [Shared<'a>],
    /// The image's place in the batch.
    pub(crate) image: usize,
}

impl<'a> Memory<'a> {
    /// A value, to be read.
    ///
    /// # Safety
    /// Nobody writes it while the slice lives.
    pub(crate) unsafe fn read(&self, place: Place) -> &'a [f32] {
        match place {
            Place::Input => self.input,
            // SAFETY: handed on to the caller.
            Place::Arena { first, len } => unsafe { self.arena.read_part(first, len) },
            // SAFETY: as above.
            Place::Batch { buffer, len } => unsafe { self.batch[buffer].read_part(self.image * len, len) },
            // SAFETY: as above.
            Place::Output { index, len } => unsafe { self.outputs[index].read_part(self.image * len, len) },
        }
    }

    /// The memory of a value that a step makes.
    ///
    /// # Panics
    /// If the value is the plan's input.
    pub(crate) fn write(&self, place: Place) -> Shared<'a> {
        match place {
            Place::Input => panic!("a step cannot make the plan's input"),
            Place::Arena { first, len } => self.arena.part(first, len),
            Place::Batch { buffer, len } => self.batch[buffer].part(self.image * len, len),
            Place::Output { index, len } => self.outputs[index].part(self.image * len, len),
        }
    }
}

/// The values that a step reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inputs<'a> {
    places: &'a [Place],
    memory: Memory<'a>,
}

impl<'a> Inputs<'a> {
    /// # Safety
    /// Nobody writes any of the values while this or a slice from it lives.
    pub(crate) unsafe fn new(places: &'a [Place], memory: Memory<'a>) -> Self {
        Self { places, memory }
    }

    /// One of the values.
    ///
    /// # Panics
    /// If there are fewer.
    pub(crate) fn get(&self, index: usize) -> &'a [f32] {
        // SAFETY: whoever made this promised that nobody writes them.
        unsafe { self.memory.read(self.places[index]) }
    }
}

/// A value's length, the step that makes it, and the last that reads it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) len: usize,
    pub(crate) first: usize,
    pub(crate) last: usize,
}

impl Life {
    /// Whether there is a step at which both are needed.
    fn meets(&self, other: &Life) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Where each value begins in an arena, and the arena's length. Each begins on a cache line, and no two whose lives touch overlap.
///
/// The largest are placed first, each at the lowest place that is free.
pub(crate) fn pack(lives: &[Life]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..lives.len()).collect();
    order.sort_by_key(|&index| (std::cmp::Reverse(lives[index].len), index));
    let mut places = vec![0; lives.len()];
    // What was placed, by its beginning.
    let mut placed: Vec<(Range<usize>, usize)> = Vec::new();
    let mut end = 0;
    for index in order {
        let len = lives[index].len.next_multiple_of(16);
        let mut first = 0;
        for (taken, other) in &placed {
            if lives[index].meets(&lives[*other]) && taken.start < first + len && first < taken.end {
                first = taken.end;
            }
        }
        places[index] = first;
        end = end.max(first + len);
        let at = placed.partition_point(|(taken, _)| taken.start <= first);
        placed.insert(at, (first..first + len, index));
    }
    (places, end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_chain_takes_turns_with_two_places() {
        let lives: Vec<_> = (0..10).map(|step| Life { len: 100, first: step, last: step + 1 }).collect();
        assert_eq!(pack(&lives).1, 2 * 112);
    }

    proptest! {
        #[test]
        fn values_that_live_together_do_not_overlap(
            lives in prop::collection::vec((0..200usize, 0..20usize, 0..10usize), 0..40)
        ) {
            let lives: Vec<_> = lives
                .into_iter()
                .map(|(len, start, length)| Life { len, first: start, last: start + length })
                .collect();
            let (places, end) = pack(&lives);
            for (index, life) in lives.iter().enumerate() {
                prop_assert!(places[index] + life.len <= end && places[index] % 16 == 0);
                for (other, second) in lives.iter().enumerate().skip(index + 1) {
                    let together = life.meets(second);
                    let apart = places[index] + life.len <= places[other]
                        || places[other] + second.len <= places[index];
                    prop_assert!(!together || apart, "{index} and {other} of {lives:?} in {places:?}");
                }
            }
        }
    }
}
