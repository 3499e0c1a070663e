//! What happens to each value on its own: sums, gates, channelwise affine functions, activations.

use super::node::Elementwise;
use super::step::{Image, Step, Task};
use crate::activation::Finish;
use crate::buffer::Buffer;
use crate::layout::Blocked;
use crate::simd::Simd;

/// An elementwise operation.
#[derive(Debug)]
pub(crate) struct ElementwiseStep {
    layout: Blocked,
    kind: Kind,
    finish: Finish,
}

#[derive(Debug)]
enum Kind {
    /// The sum of both inputs.
    Add,
    /// The first input times the second, which is one value a channel.
    Scale,
    /// The input times the scale plus the shift, `[planes, LANES]` each.
    Affine { scale: Buffer, shift: Buffer },
    /// The input.
    Same,
}

impl ElementwiseStep {
    pub(crate) fn new(operation: &Elementwise, layout: Blocked) -> Self {
        let filled = |values: &[f32]| {
            let mut buffer = Buffer::zeroed(layout.planes() * layout.lanes);
            buffer[..values.len()].copy_from_slice(values);
            buffer
        };
        let (kind, finish) = match operation {
            Elementwise::Add(activation) => (Kind::Add, Finish::of(*activation)),
            Elementwise::Scale => (Kind::Scale, Finish::NOTHING),
            Elementwise::Affine { scale, shift, activation } => {
                (Kind::Affine { scale: filled(scale), shift: filled(shift) }, Finish::of(*activation))
            }
            Elementwise::Activation(activation) => (Kind::Same, Finish::of(*activation)),
        };
        Self { layout, kind, finish }
    }

    /// One row of a plane.
    #[inline(always)]
    fn row<S: Simd>(
        &self,
        simd: S,
        input: &[f32],
        output: &mut [f32],
        value: impl Fn(usize, S::Vector) -> S::Vector,
    ) {
        let vectors = input.chunks_exact(S::LANES).zip(output.chunks_exact_mut(S::LANES));
        for (index, (from, to)) in vectors.enumerate() {
            // SAFETY: both chunks are one vector long.
            unsafe {
                let x = value(index * S::LANES, simd.load(from.as_ptr()));
                simd.store(to.as_mut_ptr(), self.finish.apply(simd, x));
            }
        }
    }
}

impl<S: Simd> Step<S> for ElementwiseStep {
    fn output(&self) -> Blocked {
        self.layout
    }

    fn name(&self) -> String {
        let Blocked { channels, height, width, .. } = self.layout;
        let kind = match self.kind {
            Kind::Add => "add",
            Kind::Scale => "gate",
            Kind::Affine { .. } => "affine",
            Kind::Same => "activation",
        };
        format!("{kind} {channels} at {height}x{width}")
    }

    fn tasks(&self, split: usize) -> Vec<usize> {
        vec![(self.layout.planes() * self.layout.height).min(split)]
    }

    unsafe fn run(&self, simd: S, task: Task, image: Image<'_>, _scratch: &mut [f32]) {
        let rows = task.share(self.layout.planes() * self.layout.height);
        let row = self.layout.row();
        // SAFETY: this task alone writes these rows.
        let output = unsafe { image.output.write(rows.start * row, rows.len() * row) };
        let input = &image.input[rows.start * row..][..rows.len() * row];
        simd.vectorize(
            #[inline(always)]
            || {
                let both = input.chunks_exact(row).zip(output.chunks_exact_mut(row));
                for (index, (input, output)) in rows.zip(both) {
                    let channel = index / self.layout.height * S::LANES;
                    let of_channel = |values: &[f32]| {
                        let values = &values[channel..channel + S::LANES];
                        // SAFETY: the slice is one vector long.
                        unsafe { simd.load(values.as_ptr()) }
                    };
                    match &self.kind {
                        Kind::Add => {
                            let other = &image.inputs.get(1)[index * row..][..row];
                            self.row(
                                simd,
                                input,
                                output,
                                #[inline(always)]
                                |at, x| {
                                    // SAFETY: `other` is as long as `input`, of which a vector begins at `at`.
                                    simd.add(x, unsafe { simd.load(other.as_ptr().add(at)) })
                                },
                            );
                        }
                        Kind::Scale => {
                            let gate = of_channel(image.inputs.get(1));
                            self.row(
                                simd,
                                input,
                                output,
                                #[inline(always)]
                                |_, x| simd.mul(x, gate),
                            );
                        }
                        Kind::Affine { scale, shift } => {
                            let (scale, shift) = (of_channel(scale), of_channel(shift));
                            self.row(
                                simd,
                                input,
                                output,
                                #[inline(always)]
                                |_, x| simd.mul_add(x, scale, shift),
                            );
                        }
                        Kind::Same => self.row(
                            simd,
                            input,
                            output,
                            #[inline(always)]
                            |_, x| x,
                        ),
                    }
                }
            },
        );
    }
}
