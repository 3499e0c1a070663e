//! An image as a vector.

use super::step::{Image, Step, Task};
use crate::layout::Blocked;
use crate::simd::Simd;

/// All values as the channels of one pixel, in PyTorch's order: channel by channel, each row by row.
#[derive(Debug)]
pub(crate) struct FlattenStep {
    pub(crate) input: Blocked,
}

impl<S: Simd> Step<S> for FlattenStep {
    fn output(&self) -> Blocked {
        let channels = self.input.channels * self.input.pixels();
        Blocked { channels, height: 1, width: 1, ..self.input }
    }

    fn name(&self) -> String {
        "flatten".to_owned()
    }

    fn tasks(&self, _split: usize) -> Vec<usize> {
        vec![1]
    }

    unsafe fn run(&self, _simd: S, _task: Task, image: Image<'_>, _scratch: &mut [f32]) {
        let output = Step::<S>::output(self);
        // SAFETY: the only task of its phase.
        let values = unsafe { image.output.write(0, output.len()) };
        let (values, rest) = values.split_at_mut(output.channels);
        for (channel, values) in values.chunks_exact_mut(self.input.pixels()).enumerate() {
            let first = channel / S::LANES * self.input.plane() + channel % S::LANES;
            for (value, from) in values.iter_mut().zip(image.input[first..].iter().step_by(S::LANES)) {
                *value = *from;
            }
        }
        rest.fill(0.0);
    }
}
