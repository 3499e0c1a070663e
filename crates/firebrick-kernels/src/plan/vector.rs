//! A linear layer of one image in the middle of a network, as in a squeeze and excitation.

use super::linear::LinearStep;
use super::step::{Image, Step, Task};
use crate::layout::Blocked;
use crate::params::FoldedConv;
use crate::product::Pixels;
use crate::simd::Simd;

/// Products below which a layer is not worth splitting.
const LEAST_WORK: usize = 1 << 16;

/// A linear layer between single pixels.
#[derive(Debug)]
pub(crate) struct VectorStep {
    linear: LinearStep,
    rows: [Pixels; 2],
    output: Blocked,
    inputs: usize,
}

impl VectorStep {
    pub(crate) fn new(linear: &FoldedConv, lanes: usize) -> Self {
        let output = Blocked { channels: linear.shape.out_channels, height: 1, width: 1, lanes };
        let inputs = linear.shape.in_channels;
        let linear = LinearStep::new(linear, lanes);
        Self { rows: linear.rows(1), linear, output, inputs }
    }
}

impl<S: Simd> Step<S> for VectorStep {
    fn output(&self) -> Blocked {
        self.output
    }

    fn name(&self) -> String {
        format!("linear {} -> {}", self.inputs, self.output.channels)
    }

    fn tasks(&self, split: usize) -> Vec<usize> {
        let worth = self.inputs * self.output.channels >= LEAST_WORK;
        vec![if worth { self.linear.panels().min(split) } else { 1 }]
    }

    unsafe fn run(&self, simd: S, task: Task, image: Image<'_>, _scratch: &mut [f32]) {
        let panels = task.share(self.linear.panels());
        // SAFETY: this task alone writes these panels.
        unsafe { self.linear.run(simd, panels, 1, &self.rows, image.input, image.output) };
    }
}
