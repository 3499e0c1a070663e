//! A network compiled once for one size of input.

mod block;
mod builder;
mod conv;
mod filter;
mod linear;
mod pool;
mod step;
mod window;

pub use builder::PlanBuilder;

use crate::SimdLevel;
use crate::buffer::{Buffer, Shared};
use crate::loan::Loan;
use crate::simd::Simd;
use crate::team;
use linear::LinearStep;
use std::sync::Mutex;
use step::{Image, Step, Task};

/// Images that are computed together, which bounds the memory between the last convolution and the first linear layer.
const MOST_IMAGES: usize = 256;

/// A network in evaluation mode, compiled by [`PlanBuilder`] for one size of input: BatchNorm folded, weights packed for the
/// kernels of one instruction set, memory planned.
///
/// [`run`](Plan::run) uses rayon's current pool: over images while there are as many as threads, else over parts of an image.
/// The result does not depend on it: the same image gives the same bytes for any number of threads, alone or in a batch.
#[derive(Debug)]
pub struct Plan {
    network: Box<dyn Run>,
    level: SimdLevel,
    input: [usize; 3],
    output: [usize; 3],
}

impl Plan {
    /// Channels, height and width of the input.
    pub fn input_shape(&self) -> [usize; 3] {
        self.input
    }

    /// Channels, height and width of the result; `[features, 1, 1]` after pooling or a linear layer.
    pub fn output_shape(&self) -> [usize; 3] {
        self.output
    }

    /// Values of the result of one image.
    pub fn output_len(&self) -> usize {
        self.output.iter().product()
    }

    /// Multiplications, each with an addition, for one image; those with padding and with zeros between groups are not counted
    /// apart.
    pub fn multiply_adds(&self) -> u64 {
        self.network.multiply_adds()
    }

    /// The instruction set that the plan was compiled for.
    pub fn level(&self) -> SimdLevel {
        self.level
    }

    /// Runs the network: `input` is `[batch, height, width, channels]`, the result likewise.
    ///
    /// # Panics
    /// If `input` has another length.
    pub fn run(&self, input: &[f32], batch: usize) -> Vec<f32> {
        let mut output = vec![0.0; batch * self.output_len()];
        self.run_into(input, batch, &mut output);
        output
    }

    /// Runs the network into memory of the caller's: `[batch, height, width, channels]`.
    ///
    /// # Panics
    /// If `input` or `output` has another length.
    pub fn run_into(&self, input: &[f32], batch: usize, output: &mut [f32]) {
        let input_len: usize = self.input.iter().product();
        let [channels, height, width] = self.input;
        assert_eq!(
            input.len(),
            batch * input_len,
            "the input of a batch of {batch} is [{batch}, {height}, {width}, {channels}] (NHWC)"
        );
        assert_eq!(
            output.len(),
            batch * self.output_len(),
            "the output of a batch of {batch} has another length"
        );
        let outputs = output.chunks_mut(MOST_IMAGES * self.output_len());
        for (input, output) in input.chunks(MOST_IMAGES * input_len).zip(outputs) {
            self.network.run(input, output, input.len() / input_len);
        }
    }
}

/// A compiled network, whatever its instruction set.
trait Run: Send + Sync + std::fmt::Debug {
    fn run(&self, input: &[f32], output: &mut [f32], batch: usize);

    fn multiply_adds(&self) -> u64;
}

/// The steps of a network for one instruction set.
#[derive(Debug)]
struct Compiled<S: Simd> {
    simd: S,
    /// From the input image to the features, or to the result if there are no linear layers.
    steps: Vec<Box<dyn Step<S>>>,
    linear: Vec<LinearStep>,
    multiply_adds: u64,
    /// Values of the features of an image, filled up to whole vectors.
    features_len: usize,
    /// Largest result of a step, shared memory and scratch memory.
    lengths: [usize; 3],
    /// Memory that no run uses at the moment.
    workspaces: Mutex<Vec<Workspace>>,
    features: Mutex<Vec<Vec<Buffer>>>,
}

/// Memory for one image on its way through the steps.
#[derive(Debug, Default)]
struct Workspace {
    /// Each step reads one and writes the other.
    activations: [Buffer; 2],
    shared: Buffer,
    scratch: Buffer,
}

/// A phase of a run, in the order in which the threads go through them.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Whole images, one a task.
    Images,
    /// One phase of one step of one image, split.
    Step { image: usize, step: usize, phase: usize },
    /// A linear layer over the batch.
    Linear(usize),
}

impl<S: Simd> Compiled<S> {
    fn new(simd: S, steps: Vec<Box<dyn Step<S>>>, linear: Vec<LinearStep>, multiply_adds: u64) -> Self {
        let most =
            |len: &dyn Fn(&dyn Step<S>) -> usize| steps.iter().map(|step| len(&**step)).max().unwrap_or(0);
        let lengths = [
            most(&|step| step.output().len()),
            most(&|step| step.shared_len()),
            most(&|step| step.scratch_len()),
        ];
        let features_len = steps.last().map_or(0, |step| step.output().len());
        Self {
            simd,
            steps,
            linear,
            multiply_adds,
            features_len,
            lengths,
            workspaces: Mutex::default(),
            features: Mutex::default(),
        }
    }

    /// Runs one task of a step of an image. The activations lie in `buffers`, the last step's result in `output`.
    ///
    /// # Safety
    /// As [`Step::run`]; the buffers are as long as `lengths` says.
    unsafe fn step(
        &self,
        step: usize,
        task: Task,
        input: &[f32],
        [buffers @ .., shared]: [Shared<'_>; 3],
        output: Shared<'_>,
        scratch: &mut [f32],
    ) {
        // SAFETY: the step before wrote this buffer in an earlier phase, and this one writes the other.
        let input = if step == 0 { input } else { unsafe { buffers[(step - 1) % 2].read() } };
        let output = if step + 1 == self.steps.len() { output } else { buffers[step % 2] };
        // SAFETY: handed on to the caller.
        unsafe { self.steps[step].run(self.simd, task, Image { input, output, shared }, scratch) };
    }
}

impl<S: Simd> Run for Compiled<S> {
    fn multiply_adds(&self) -> u64 {
        self.multiply_adds
    }

    fn run(&self, input: &[f32], output: &mut [f32], batch: usize) {
        let threads = rayon::current_num_threads();
        // Whole images as long as every thread has one, then parts of the rest.
        let whole = if threads == 1 { batch } else { batch - batch % threads };
        let image_len = input.len() / batch;

        let mut phases = vec![(Phase::Images, whole)];
        for image in whole..batch {
            for (step, operation) in self.steps.iter().enumerate() {
                let tasks = operation.tasks(threads);
                phases.extend(
                    tasks
                        .into_iter()
                        .enumerate()
                        .map(|(phase, tasks)| (Phase::Step { image, step, phase }, tasks)),
                );
            }
        }
        for (index, linear) in self.linear.iter().enumerate() {
            phases.push((Phase::Linear(index), linear.panels().min(4 * threads)));
        }
        let tasks: Vec<usize> = phases.iter().map(|&(_, tasks)| tasks).collect();

        // The features, then each linear layer's result.
        let mut features = Loan::new(&self.features);
        let features = features.get();
        features.resize_with(self.linear.len() + 1, Buffer::default);
        let rows: Vec<_> = self.linear.iter().map(|linear| linear.rows(batch)).collect();
        if !self.linear.is_empty() {
            features[0].reserve(batch * self.features_len);
            for (linear, result) in self.linear.iter().zip(&mut features[1..]) {
                result.reserve(batch * linear.output_len());
            }
        }
        let features: Vec<Shared<'_>> = features.iter_mut().map(|buffer| Shared::new(buffer)).collect();

        let output_len = output.len() / batch;
        {
            let result = Shared::new(output);
            let destination = |image: usize| match self.linear.is_empty() {
                true => result.from(image * output_len),
                false => features[0].from(image * self.features_len),
            };
            let image = |index: usize| &input[index * image_len..][..image_len];

            let mut split = Loan::new(&self.workspaces);
            let split = split.get();
            if whole < batch {
                split.reserve(self.lengths);
            }
            let split = split.parts().0;

            let work = |workspace: &mut Loan<'_, Workspace>, phase: usize, index: usize| {
                let workspace = workspace.get();
                workspace.reserve(self.lengths);
                let (buffers, scratch) = workspace.parts();
                // SAFETY: a workspace belongs to the thread, `split` to the one image whose step this phase is; the images'
                // destinations and the linear layers' panels are disjoint; phases follow one another.
                unsafe {
                    match phases[phase].0 {
                        Phase::Images => {
                            for step in 0..self.steps.len() {
                                let task = Task { split: 1, phase: 0, index: 0, count: 1 };
                                self.step(step, task, image(index), buffers, destination(index), scratch);
                            }
                        }
                        Phase::Step { image: of, step, phase: number } => {
                            let task = Task { split: threads, phase: number, index, count: tasks[phase] };
                            self.step(step, task, image(of), split, destination(of), scratch);
                        }
                        Phase::Linear(layer) => {
                            let linear = &self.linear[layer];
                            let panels = Task { split: threads, phase: 0, index, count: tasks[phase] }
                                .share(linear.panels());
                            let input = features[layer].read();
                            linear.run(self.simd, panels, batch, &rows[layer], input, features[layer + 1]);
                        }
                    }
                }
            };
            team::run(threads, &tasks, || Loan::new(&self.workspaces), work);
        }

        if let Some(last) = self.linear.last() {
            // SAFETY: all phases are over.
            let results = unsafe { features[self.linear.len()].read() };
            for (result, output) in results.chunks(last.output_len()).zip(output.chunks_mut(output_len)) {
                output.copy_from_slice(&result[..output_len]);
            }
        }
    }
}

impl Workspace {
    fn reserve(&mut self, [activations, shared, scratch]: [usize; 3]) {
        self.activations.iter_mut().for_each(|buffer| buffer.reserve(activations));
        self.shared.reserve(shared);
        self.scratch.reserve(scratch);
    }

    /// Both buffers of activations and the shared memory, then the scratch memory.
    fn parts(&mut self) -> ([Shared<'_>; 3], &mut [f32]) {
        let [first, second] = &mut self.activations;
        ([Shared::new(first), Shared::new(second), Shared::new(&mut self.shared)], &mut self.scratch)
    }
}

#[cfg(test)]
mod tests;
