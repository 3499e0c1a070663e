//! Pooling, and the steps that carry an image into and out of the blocked layout.

use super::step::{Image, Step, Task};
use crate::layout::Blocked;
use crate::pool::{average, pool_row};
use crate::pool_window::PoolWindow;
use crate::simd::Simd;

/// The maximum or average under windows.
#[derive(Debug)]
pub(crate) struct PoolStep {
    window: PoolWindow,
    input: Blocked,
    output: Blocked,
}

impl PoolStep {
    pub(crate) fn new(window: PoolWindow, input: Blocked) -> Self {
        let output = Blocked { height: window.rows.len(), width: window.columns.len(), ..input };
        Self { window, input, output }
    }
}

impl<S: Simd> Step<S> for PoolStep {
    fn output(&self) -> Blocked {
        self.output
    }

    fn name(&self) -> String {
        let Blocked { channels, height, width, .. } = self.output;
        format!("pool {channels} to {height}x{width}")
    }

    fn tasks(&self, split: usize) -> Vec<usize> {
        vec![(self.output.planes() * self.output.height).min(split)]
    }

    unsafe fn run(&self, simd: S, task: Task, image: Image<'_>, _scratch: &mut [f32]) {
        let rows = task.share(self.output.planes() * self.output.height);
        let row = self.output.row();
        // SAFETY: this task alone writes these rows.
        let output = unsafe { image.output.write(rows.start * row, rows.len() * row) };
        for (index, output) in rows.zip(output.chunks_exact_mut(row)) {
            let (plane, y) = (index / self.output.height, index % self.output.height);
            let input = &image.input[plane * self.input.plane()..][..self.input.plane()];
            pool_row(simd, &self.window, y, input, self.input.row(), output);
        }
    }
}

/// The average over all pixels of each channel.
#[derive(Debug)]
pub(crate) struct GlobalAverageStep {
    pub(crate) input: Blocked,
}

impl<S: Simd> Step<S> for GlobalAverageStep {
    fn output(&self) -> Blocked {
        Blocked { height: 1, width: 1, ..self.input }
    }

    fn name(&self) -> String {
        "global average".to_owned()
    }

    fn tasks(&self, split: usize) -> Vec<usize> {
        vec![self.input.planes().min(split)]
    }

    unsafe fn run(&self, simd: S, task: Task, image: Image<'_>, _scratch: &mut [f32]) {
        let planes = task.share(self.input.planes());
        // SAFETY: this task alone writes these planes.
        let output = unsafe { image.output.write(planes.start * S::LANES, planes.len() * S::LANES) };
        average(simd, &image.input[planes.start * self.input.plane()..], self.input.pixels(), output);
    }
}

/// `[height, width, channels]` into the blocked layout.
#[derive(Debug)]
pub(crate) struct ImportStep {
    pub(crate) layout: Blocked,
}

impl<S: Simd> Step<S> for ImportStep {
    fn output(&self) -> Blocked {
        self.layout
    }

    fn name(&self) -> String {
        "import".to_owned()
    }

    fn tasks(&self, _split: usize) -> Vec<usize> {
        vec![1]
    }

    unsafe fn run(&self, _simd: S, _task: Task, image: Image<'_>, _scratch: &mut [f32]) {
        // SAFETY: the only task of its phase.
        self.layout.import(image.input, unsafe { image.output.write(0, self.layout.len()) });
    }
}

/// The blocked layout into `[height, width, channels]`.
#[derive(Debug)]
pub(crate) struct ExportStep {
    pub(crate) layout: Blocked,
}

impl<S: Simd> Step<S> for ExportStep {
    fn output(&self) -> Blocked {
        self.layout
    }

    fn name(&self) -> String {
        "export".to_owned()
    }

    fn tasks(&self, _split: usize) -> Vec<usize> {
        vec![1]
    }

    unsafe fn run(&self, _simd: S, _task: Task, image: Image<'_>, _scratch: &mut [f32]) {
        let len = self.layout.channels * self.layout.pixels();
        // SAFETY: the only task of its phase.
        self.layout.export(image.input, unsafe { image.output.write(0, len) });
    }
}
