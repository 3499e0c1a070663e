//! Concatenation of channels, as far as the values were not made in their places.

use super::step::{Image, Step, Task};
use crate::layout::Blocked;
use crate::simd::Simd;
use std::ops::Range;

/// Copies values into a larger one, channel behind channel.
#[derive(Debug)]
pub(crate) struct ConcatStep {
    pub(crate) output: Blocked,
    pub(crate) parts: Vec<Part>,
}

/// A value to be copied.
#[derive(Debug)]
pub(crate) struct Part {
    /// Which of the step's inputs.
    pub(crate) input: usize,
    pub(crate) layout: Blocked,
    /// Where its channels go.
    pub(crate) first_channel: usize,
}

impl<S: Simd> Step<S> for ConcatStep {
    fn output(&self) -> Blocked {
        self.output
    }

    fn name(&self) -> String {
        let Blocked { channels, height, width, .. } = self.output;
        format!("concat {} to {channels} at {height}x{width}", self.parts.len())
    }

    fn tasks(&self, split: usize) -> Vec<usize> {
        vec![self.output.height.min(split)]
    }

    unsafe fn run(&self, _simd: S, task: Task, image: Image<'_>, _scratch: &mut [f32]) {
        let rows = task.share(self.output.height);
        for part in &self.parts {
            let input = image.inputs.get(part.input);
            for plane in 0..part.layout.planes() {
                // SAFETY: this task alone writes these rows, and no value that lies in its place already has channels here.
                unsafe { self.copy(part, plane, rows.clone(), input, image) };
            }
        }
    }
}

impl ConcatStep {
    /// Copies some rows of a plane of a part.
    ///
    /// # Safety
    /// Nobody else uses the channels of these rows, or those behind the last.
    unsafe fn copy(&self, part: &Part, plane: usize, rows: Range<usize>, input: &[f32], image: Image<'_>) {
        let Blocked { lanes, channels, .. } = part.layout;
        let row = self.output.row();
        let input = &input[plane * part.layout.plane() + rows.start * row..][..rows.len() * row];
        let valid = lanes.min(channels - plane * lanes);
        let to = part.first_channel + plane * lanes;
        let place = |plane: usize| plane * self.output.plane() + rows.start * row;
        // The channels that go into the first and those that go into the second of two neighbouring planes.
        let lane = to % lanes;
        let first = valid.min(lanes - lane);
        // SAFETY: handed on to the caller.
        let output = unsafe { image.output.write(place(to / lanes), rows.len() * row) };
        let ends = to + valid == self.output.channels;
        for (to, from) in output.chunks_exact_mut(lanes).zip(input.chunks_exact(lanes)) {
            to[lane..lane + first].copy_from_slice(&from[..first]);
            if ends {
                to[lane + first..].fill(0.0);
            }
        }
        if first < valid {
            // SAFETY: as above.
            let output = unsafe { image.output.write(place(to / lanes + 1), rows.len() * row) };
            for (to, from) in output.chunks_exact_mut(lanes).zip(input.chunks_exact(lanes)) {
                to[..valid - first].copy_from_slice(&from[first..valid]);
                if ends {
                    to[valid - first..].fill(0.0);
                }
            }
        }
    }
}
