//! A network compiled once for one size of input.

mod block;
mod builder;
mod compile;
mod concat;
mod conv;
mod elementwise;
mod filter;
mod flatten;
mod layer_norm;
mod linear;
mod memory;
mod node;
mod pool;
mod step;
mod vector;
mod window;
mod winograd;

pub use builder::PlanBuilder;
pub use node::Value;

use crate::SimdLevel;
use crate::buffer::{Buffer, Shared};
use crate::loan::Loan;
use crate::simd::Simd;
use crate::team;
use linear::LinearStep;
use memory::{Inputs, Memory, Place};
use std::sync::Mutex;
use std::time::{Duration, Instant};
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
    outputs: Vec<[usize; 3]>,
}

/// How long a step of a plan took.
#[derive(Debug, Clone, PartialEq)]
pub struct StepTime {
    /// What the step does and over which sizes.
    pub name: String,
    /// The time it took.
    pub time: Duration,
    /// Multiplications of it, each with an addition.
    pub multiply_adds: u64,
}

impl Plan {
    /// Channels, height and width of the input.
    pub fn input_shape(&self) -> [usize; 3] {
        self.input
    }

    /// How many results there are.
    pub fn outputs(&self) -> usize {
        self.outputs.len()
    }

    /// Channels, height and width of a result, in the order of [`PlanBuilder::output`]; `[features, 1, 1]` after pooling or a linear
    /// layer.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn output_shape(&self, index: usize) -> [usize; 3] {
        self.outputs[index]
    }

    /// Values of a result of one image.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn output_len(&self, index: usize) -> usize {
        self.outputs[index].iter().product()
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

    /// Runs a network of one result: `input` is `[batch, height, width, channels]`, the result likewise.
    ///
    /// # Panics
    /// If `input` has another length, or the plan has several results.
    pub fn run(&self, input: &[f32], batch: usize) -> Vec<f32> {
        let mut output = vec![0.0; batch * self.output_len(0)];
        self.run_into(input, batch, &mut output);
        output
    }

    /// Runs a network of one result into memory of the caller's: `[batch, height, width, channels]`.
    ///
    /// # Panics
    /// If `input` or `output` has another length, or the plan has several results.
    pub fn run_into(&self, input: &[f32], batch: usize, output: &mut [f32]) {
        self.run_all_into(input, batch, &mut [output]);
    }

    /// Runs the network: `input` is `[batch, height, width, channels]`, the results, in their order, likewise.
    ///
    /// # Panics
    /// If `input` has another length.
    pub fn run_all(&self, input: &[f32], batch: usize) -> Vec<Vec<f32>> {
        let mut outputs: Vec<_> =
            (0..self.outputs()).map(|index| vec![0.0; batch * self.output_len(index)]).collect();
        self.run_all_into(input, batch, &mut outputs.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
        outputs
    }

    /// Runs the network into memory of the caller's: `[batch, height, width, channels]` each.
    ///
    /// # Panics
    /// If `input` or an output has another length, or there are more or fewer outputs than results.
    pub fn run_all_into(&self, input: &[f32], batch: usize, outputs: &mut [&mut [f32]]) {
        let input_len: usize = self.input.iter().product();
        let [channels, height, width] = self.input;
        assert_eq!(
            input.len(),
            batch * input_len,
            "the input of a batch of {batch} is [{batch}, {height}, {width}, {channels}] (NHWC)"
        );
        assert_eq!(outputs.len(), self.outputs(), "the plan has {} results", self.outputs());
        for (index, output) in outputs.iter().enumerate() {
            let len = batch * self.output_len(index);
            assert_eq!(output.len(), len, "output {index} of a batch of {batch} has another length");
        }
        let outputs: Vec<_> = outputs.iter_mut().map(|output| Shared::new(output)).collect();
        for (index, input) in input.chunks(MOST_IMAGES * input_len).enumerate() {
            let first = index * MOST_IMAGES;
            let images = input.len() / input_len;
            let outputs: Vec<_> = (0..outputs.len())
                .map(|index| {
                    let len = self.output_len(index);
                    outputs[index].part(first * len, images * len)
                })
                .collect();
            self.network.run(input, &outputs, images);
        }
    }

    /// Runs one image and says how long each step took, on the threads of rayon's current pool: for finding what is slow. The steps
    /// enter and leave the pool one by one, so that their times add up to a little more than a run takes.
    ///
    /// # Panics
    /// If `image` has another length.
    pub fn step_times(&self, image: &[f32]) -> Vec<StepTime> {
        assert_eq!(image.len(), self.input.iter().product::<usize>(), "the input of one image");
        let mut outputs: Vec<_> =
            (0..self.outputs()).map(|index| vec![0.0; self.output_len(index)]).collect();
        self.network
            .step_times(image, &outputs.iter_mut().map(|output| Shared::new(output)).collect::<Vec<_>>())
    }
}

/// A compiled network, whatever its instruction set.
trait Run: Send + Sync + std::fmt::Debug {
    /// Runs a batch; every output is as long as the batch needs.
    fn run(&self, input: &[f32], outputs: &[Shared<'_>], batch: usize);

    fn step_times(&self, image: &[f32], outputs: &[Shared<'_>]) -> Vec<StepTime>;

    fn multiply_adds(&self) -> u64;
}

/// The steps of a network for one instruction set.
#[derive(Debug)]
struct Compiled<S: Simd> {
    simd: S,
    /// What is done with each image, in order.
    steps: Vec<PlacedStep<S>>,
    /// What is done with all images of a batch after that.
    linear: Vec<Tail>,
    /// Values of an image in each buffer of the batch: what the linear layers read and write.
    batch: Vec<usize>,
    /// Results that linear layers make: output, buffer, channels.
    copies: Vec<(usize, usize, usize)>,
    /// Arena, shared memory and scratch memory of an image.
    lengths: [usize; 3],
    /// Memory that no run uses at the moment.
    workspaces: Mutex<Vec<Workspace>>,
    buffers: Mutex<Vec<Vec<Buffer>>>,
}

/// A step and where its values lie.
#[derive(Debug)]
struct PlacedStep<S: Simd> {
    step: Box<dyn Step<S>>,
    inputs: Vec<Place>,
    output: Place,
    multiply_adds: u64,
}

/// A linear layer over the whole batch, from one buffer to another.
#[derive(Debug)]
struct Tail {
    linear: LinearStep,
    input: usize,
    output: usize,
    multiply_adds: u64,
}

/// Memory for one image on its way through the steps.
#[derive(Debug, Default)]
struct Workspace {
    arena: Buffer,
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
    fn new(
        simd: S,
        steps: Vec<PlacedStep<S>>,
        arena: usize,
        linear: Vec<Tail>,
        batch: Vec<usize>,
        copies: Vec<(usize, usize, usize)>,
    ) -> Self {
        let most = |len: &dyn Fn(&dyn Step<S>) -> usize| {
            steps.iter().map(|placed| len(&*placed.step)).max().unwrap_or(0)
        };
        let lengths = [arena, most(&|step| step.shared_len()), most(&|step| step.scratch_len())];
        let (workspaces, buffers) = (Mutex::default(), Mutex::default());
        Self { simd, steps, linear, batch, copies, lengths, workspaces, buffers }
    }

    /// Runs one task of a step of an image.
    ///
    /// # Safety
    /// As [`Step::run`]; the memory is as long as `lengths` and `batch` say.
    unsafe fn step(
        &self,
        step: usize,
        task: Task,
        memory: Memory<'_>,
        shared: Shared<'_>,
        scratch: &mut [f32],
    ) {
        let PlacedStep { step, inputs, output, .. } = &self.steps[step];
        // SAFETY: earlier phases wrote the values that the step reads, and no place of them is that of its result: `memory::pack`
        // keeps values apart that live at the same time, as those do.
        let inputs = unsafe { Inputs::new(inputs, memory) };
        let image = Image { input: inputs.get(0), inputs, output: memory.write(*output), shared };
        // SAFETY: handed on to the caller.
        unsafe { step.run(self.simd, task, image, scratch) };
    }

    /// The phases of a run with their tasks, where the first `whole` images are not split.
    fn phases(&self, batch: usize, whole: usize, threads: usize) -> Vec<(Phase, usize)> {
        let mut phases = vec![(Phase::Images, whole)];
        for image in whole..batch {
            for (step, placed) in self.steps.iter().enumerate() {
                let tasks = placed.step.tasks(threads);
                let step = |(phase, tasks)| (Phase::Step { image, step, phase }, tasks);
                phases.extend(tasks.into_iter().enumerate().map(step));
            }
        }
        for (index, tail) in self.linear.iter().enumerate() {
            phases.push((Phase::Linear(index), tail.linear.panels().min(4 * threads)));
        }
        phases
    }

    /// Runs a batch of which the first `whole` images are not split. `enter` is called with the phases and what does a task of one, and has every task done, phase by phase.
    fn run_with(
        &self,
        input: &[f32],
        outputs: &[Shared<'_>],
        [batch, whole]: [usize; 2],
        enter: impl FnOnce(usize, &[(Phase, usize)], &(dyn Fn(&mut Loan<'_, Workspace>, usize, usize) + Sync)),
    ) {
        let threads = rayon::current_num_threads();
        let image_len = input.len() / batch;
        let phases = self.phases(batch, whole, threads);

        let mut buffers = Loan::new(&self.buffers);
        let buffers = buffers.get();
        buffers.resize_with(self.batch.len(), Buffer::default);
        for (buffer, len) in buffers.iter_mut().zip(&self.batch) {
            buffer.reserve(batch * len);
        }
        let buffers: Vec<Shared<'_>> = buffers.iter_mut().map(|buffer| Shared::new(buffer)).collect();
        let rows: Vec<_> = self.linear.iter().map(|tail| tail.linear.rows(batch)).collect();

        let mut split = Loan::new(&self.workspaces);
        let split = split.get();
        if whole < batch {
            split.reserve(self.lengths);
        }
        let (split_arena, split_shared) = (Shared::new(&mut split.arena), Shared::new(&mut split.shared));

        let work = |workspace: &mut Loan<'_, Workspace>, phase: usize, index: usize| {
            let workspace = workspace.get();
            workspace.reserve(self.lengths);
            let Workspace { arena, shared, scratch } = workspace;
            let memory = |arena, image: usize| {
                let input = &input[image * image_len..][..image_len];
                Memory { input, arena, batch: &buffers, outputs, image }
            };
            // SAFETY: a workspace belongs to the thread, the split memory to the one image whose step this phase is; the images'
            // parts of buffers and outputs and the linear layers' panels are disjoint; phases follow one another.
            unsafe {
                match phases[phase].0 {
                    Phase::Images => {
                        let memory = memory(Shared::new(arena), index);
                        let shared = Shared::new(shared);
                        for step in 0..self.steps.len() {
                            let task = Task { split: 1, phase: 0, index: 0, count: 1 };
                            self.step(step, task, memory, shared, scratch);
                        }
                    }
                    Phase::Step { image, step, phase: number } => {
                        let task = Task { split: threads, phase: number, index, count: phases[phase].1 };
                        self.step(step, task, memory(split_arena, image), split_shared, scratch);
                    }
                    Phase::Linear(layer) => {
                        let Tail { linear, input, output, .. } = &self.linear[layer];
                        let panels = Task { split: threads, phase: 0, index, count: phases[phase].1 }
                            .share(linear.panels());
                        let input = buffers[*input].read();
                        linear.run(self.simd, panels, batch, &rows[layer], input, buffers[*output]);
                    }
                }
            }
        };
        enter(threads, &phases, &work);

        for &(output, buffer, channels) in &self.copies {
            // SAFETY: all phases are over, and nobody else uses the outputs.
            let (results, output) =
                unsafe { (buffers[buffer].read(), outputs[output].write(0, batch * channels)) };
            let results = results.chunks(self.batch[buffer]).take(batch);
            for (result, output) in results.zip(output.chunks_mut(channels)) {
                output.copy_from_slice(&result[..channels]);
            }
        }
    }
}

impl<S: Simd> Run for Compiled<S> {
    fn multiply_adds(&self) -> u64 {
        let steps = self.steps.iter().map(|placed| placed.multiply_adds);
        steps.chain(self.linear.iter().map(|tail| tail.multiply_adds)).sum()
    }

    fn run(&self, input: &[f32], outputs: &[Shared<'_>], batch: usize) {
        let threads = rayon::current_num_threads();
        // Whole images as long as every thread has one, then parts of the rest.
        let whole = if threads == 1 { batch } else { batch - batch % threads };
        self.run_with(input, outputs, [batch, whole], |threads, phases, work| {
            let tasks: Vec<usize> = phases.iter().map(|&(_, tasks)| tasks).collect();
            team::run(threads, &tasks, || Loan::new(&self.workspaces), work);
        });
    }

    fn step_times(&self, image: &[f32], outputs: &[Shared<'_>]) -> Vec<StepTime> {
        let mut times: Vec<StepTime> = Vec::new();
        self.run_with(image, outputs, [1, 0], |threads, phases, work| {
            for (index, &(phase, tasks)) in phases.iter().enumerate() {
                let start = Instant::now();
                let one =
                    |workspace: &mut Loan<'_, Workspace>, _: usize, task: usize| work(workspace, index, task);
                team::run(threads, &[tasks], || Loan::new(&self.workspaces), one);
                let time = start.elapsed();
                match (phase, times.last_mut()) {
                    (Phase::Step { phase: 1.., .. }, Some(last)) => last.time += time,
                    (Phase::Step { step, .. }, _) => {
                        let PlacedStep { step, multiply_adds, .. } = &self.steps[step];
                        times.push(StepTime { name: step.name(), time, multiply_adds: *multiply_adds });
                    }
                    (Phase::Linear(layer), _) => {
                        let multiply_adds = self.linear[layer].multiply_adds;
                        times.push(StepTime { name: "linear".to_owned(), time, multiply_adds });
                    }
                    (Phase::Images, _) => {}
                }
            }
        });
        times
    }
}

impl Workspace {
    fn reserve(&mut self, [arena, shared, scratch]: [usize; 3]) {
        self.arena.reserve(arena);
        self.shared.reserve(shared);
        self.scratch.reserve(scratch);
    }
}

#[cfg(test)]
mod tests;
