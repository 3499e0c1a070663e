//! Convolutions with batch normalisation (or a bias) and activation, chained, forward and backward: what training a backbone is made of.
//!
//! A chain is a few convolutions, each followed by a BatchNorm with the batch's own statistics, or a bias, and an activation, and possibly a
//! shortcut added at the end: an inverted residual (Sandler et al. 2018), a bottleneck (He et al. 2015), or a single
//! convolution. Between the chain's convolutions only raw results are stored; see `norm` for how that halves the memory traffic, which
//! is what training on a CPU costs.
//!
//! - forward: each convolution reads the one before through its norm and activation, and gathers its own result's moments
//! - backward: each convolution computes, for a tile of pixels at a time, the gradient at its result, the weight's gradient, the
//!   input's gradient, and the sums that the norm before it needs: one pass over memory
//!
//! Everything is cut by the batch's size alone, so results are the same bytes for any number of threads.

mod filter;
mod matrix;
mod memory;
mod moments;
mod norm;
mod operand;
mod outer;
mod patches;
#[cfg(test)]
mod tests;
mod tiles;
mod window;
mod windowed;

pub use memory::release_idle_memory;

use crate::activation::Finish;
use crate::buffer::Shared;
use crate::layout::Blocked;
use crate::params::ConvShape;
use crate::simd::Simd;
use crate::{Activation, KernelError, SimdLevel};
use filter::Filter;
use matrix::Matrix;
pub(crate) use memory::Pooled;
use moments::Parts;
use norm::{Norm, NormGradient};
use operand::{Arriving, Departing, Operand};
use rayon::prelude::*;
use std::ops::Range;
use windowed::Windowed;

/// One convolution, what follows it, and its activation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChainUnit {
    /// Channels of the input; a multiple of `groups`.
    pub in_channels: usize,
    /// Channels of the result.
    pub out_channels: usize,
    /// Height and width, at least 1.
    pub kernel: [usize; 2],
    /// Vertical and horizontal step, at least 1.
    pub stride: [usize; 2],
    /// Zeros around the input: `[[top, bottom], [left, right]]`.
    pub padding: [[usize; 2]; 2],
    /// 1, or `in_channels` for a depthwise convolution with one filter a channel.
    pub groups: usize,
    /// Applied after the norm; by the last unit after the shortcut was added, if there is one.
    pub activation: Activation,
    /// Between the convolution and its activation.
    pub norm: UnitNorm,
}

/// What follows a convolution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum UnitNorm {
    /// BatchNorm with the batch's own statistics.
    Batch {
        /// Added to the variance.
        epsilon: f32,
    },
    /// A bias a channel.
    Bias,
}

/// The convolutions of a chain, and what is added to the last one's norm.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainSpec {
    /// At least one.
    pub units: Vec<ChainUnit>,
    /// Added before the last activation.
    pub shortcut: Shortcut,
}

/// What a chain adds to its last norm's result (He et al. 2015).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shortcut {
    /// Nothing.
    #[default]
    None,
    /// Its input, which must have the result's shape.
    Input,
    /// A tensor of the result's shape that comes from elsewhere, such as a projection.
    Tensor,
}

/// The parameters of a unit.
#[derive(Debug, Clone, Copy)]
pub struct UnitParams<'a> {
    /// `[out_channels, in_channels / groups, kernel height, kernel width]`.
    pub weight: &'a [f32],
    /// `[out_channels]`, the norm's scale; empty for a bias.
    pub gamma: &'a [f32],
    /// `[out_channels]`, the norm's shift, or the bias.
    pub beta: &'a [f32],
}

/// The gradients of a unit's parameters, in their layouts.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitGradients {
    /// As [`UnitParams::weight`].
    pub weight: Vec<f32>,
    /// `[out_channels]`; empty for a bias.
    pub gamma: Vec<f32>,
    /// `[out_channels]`.
    pub beta: Vec<f32>,
}

/// The statistics of a unit's raw result over batch, height and width; without meaning for one without BatchNorm.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchMoments {
    /// `[out_channels]`.
    pub mean: Vec<f32>,
    /// `[out_channels]`: the mean squared distance from the mean (biased).
    pub variance: Vec<f32>,
    /// Values behind each channel's statistics: `batch * height * width`.
    pub count: usize,
}

/// What [`ConvChain::forward`] computes.
#[derive(Debug)]
pub struct ChainOutput {
    /// `[batch, height, width, channels]`.
    pub output: Vec<f32>,
    /// Of every unit.
    pub moments: Vec<BatchMoments>,
    /// What the backward pass needs.
    pub tape: ChainTape,
}

/// The raw results of a forward pass. Its memory is used again when it is dropped.
#[derive(Debug)]
pub struct ChainTape {
    /// The chain's input, then every unit's raw result: `[batch, blocked image]`.
    activations: Vec<Pooled>,
    norms: Vec<Norm>,
    /// A shortcut from elsewhere, blocked.
    shortcut: Option<Pooled>,
}

/// What [`ConvChain::backward`] computes.
#[derive(Debug)]
pub struct ChainGradients {
    /// `[batch, height, width, channels]`, if it was asked for.
    pub input: Option<Vec<f32>>,
    /// `[batch, height, width, channels]`, if it was asked for: of [`Shortcut::Tensor`].
    pub shortcut: Option<Vec<f32>>,
    /// Of every unit.
    pub units: Vec<UnitGradients>,
}

/// A chain for one size of batch and image, on one instruction set.
#[derive(Debug)]
pub struct ConvChain {
    spec: ChainSpec,
    units: Vec<Unit>,
    batch: usize,
    /// The input's layout, then every result's.
    layouts: Vec<Blocked>,
    level: SimdLevel,
}

#[derive(Debug)]
enum Unit {
    Matrix(Matrix),
    Windowed(Box<Windowed>),
    Filter(Filter),
}

impl ChainUnit {
    fn shape(&self) -> ConvShape {
        ConvShape {
            out_channels: self.out_channels,
            in_channels: self.in_channels,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
            groups: self.groups,
        }
    }

    /// Whether a chain can hold it: convolutions in groups that are not depthwise are not among them.
    pub fn is_supported(&self) -> bool {
        self.groups == 1 || self.shape().is_depthwise()
    }
}

impl ConvChain {
    /// Prepares a chain for inputs `[batch, channels, height, width]`, on the instruction set that the environment says
    /// (see [`SimdLevel::from_environment`]).
    ///
    /// # Errors
    /// [`KernelError`] if sizes do not fit each other, or a unit is not [supported](ChainUnit::is_supported).
    pub fn new(spec: &ChainSpec, input: [usize; 4]) -> Result<Self, KernelError> {
        Self::with_level(spec, input, SimdLevel::from_environment()?)
    }

    /// As [`new`](Self::new), on a given instruction set.
    ///
    /// # Errors
    /// As [`new`](Self::new), and if the processor has no such instructions.
    pub fn with_level(spec: &ChainSpec, input: [usize; 4], level: SimdLevel) -> Result<Self, KernelError> {
        let level = level.require()?;
        let lanes = level.lanes();
        let [batch, channels, height, width] = input;
        if spec.units.is_empty() || input.contains(&0) {
            return Err(KernelError::Empty { layers: spec.units.len(), input: [channels, height, width] });
        }
        let mut layouts = vec![Blocked { channels, height, width, lanes }];
        let mut units = Vec::new();
        for (layer, unit) in spec.units.iter().enumerate() {
            let conv = unit.shape();
            let before = layouts[layer];
            conv.check(layer)?;
            if conv.in_channels != before.channels {
                let (expected, actual) = (conv.in_channels, before.channels);
                return Err(KernelError::InputChannels { layer, operation: "convolution", expected, actual });
            }
            if !unit.is_supported() {
                let reason = format!(
                    "a convolution in {} groups of {} -> {} channels is neither dense nor depthwise",
                    conv.groups, conv.in_channels, conv.out_channels
                );
                return Err(KernelError::InvalidLayer { layer, reason });
            }
            let [height, width] = conv.output_size(layer, [before.height, before.width])?;
            let after = Blocked { channels: conv.out_channels, height, width, lanes };
            // Offsets within an image, with room for padding, are 32 bits wide.
            for layout in [before, after] {
                if layout.len().checked_mul(4).is_none_or(|len| len > u32::MAX as usize) {
                    let Blocked { channels, height, width, .. } = layout;
                    let limit = u32::MAX as usize / 4;
                    return Err(KernelError::TooLarge { layer, channels, height, width, limit });
                }
            }
            units.push(if conv.is_depthwise() {
                Unit::Filter(Filter::new(conv, batch, before, after))
            } else if let Some(windowed) = Windowed::new(conv, batch, before, after) {
                Unit::Windowed(Box::new(windowed))
            } else {
                Unit::Matrix(Matrix::new(conv, batch, before, after))
            });
            layouts.push(after);
        }
        let (first, last) = (layouts[0], layouts[layouts.len() - 1]);
        if spec.shortcut == Shortcut::Input && first != last {
            let reason = format!(
                "the chain's input of {} channels of {} x {} cannot be added to its result of {} channels of {} x {}",
                first.channels, first.height, first.width, last.channels, last.height, last.width
            );
            return Err(KernelError::InvalidLayer { layer: spec.units.len() - 1, reason });
        }
        Ok(Self { spec: spec.clone(), units, batch, layouts, level })
    }

    /// The input's shape: `[batch, channels, height, width]`.
    pub fn input_shape(&self) -> [usize; 4] {
        let first = self.layouts[0];
        [self.batch, first.channels, first.height, first.width]
    }

    /// The result's shape: `[batch, channels, height, width]`.
    pub fn output_shape(&self) -> [usize; 4] {
        let last = self.layouts[self.layouts.len() - 1];
        [self.batch, last.channels, last.height, last.width]
    }

    /// Computes the chain of `x`, `[batch, height, width, channels]`. `shortcut`, likewise of the result's shape, belongs to [`Shortcut::Tensor`].
    ///
    /// # Panics
    /// If `x`, the shortcut or a parameter has another length than its shape, or there is a shortcut where there should be none.
    pub fn forward(&self, x: &[f32], shortcut: Option<&[f32]>, params: &[UnitParams<'_>]) -> ChainOutput {
        self.check(x, &self.layouts[0], params);
        let expected = self.spec.shortcut == Shortcut::Tensor;
        assert_eq!(shortcut.is_some(), expected, "a shortcut for a chain that adds one");
        if let Some(shortcut) = shortcut {
            self.check(shortcut, &self.layouts[self.layouts.len() - 1], params);
        }
        self.level.run(Forward { chain: self, x, shortcut, params })
    }

    /// The gradients of a chain whose result has the gradient `output`, `[batch, height, width, channels]`.
    ///
    /// `tape` is the forward pass's, `params` are those it was given. `wanted` says whether the gradients of the input and of a shortcut
    /// from elsewhere are.
    ///
    /// # Panics
    /// If `output` or a parameter has another length than its shape, or the tape is another chain's.
    pub fn backward(
        &self,
        tape: &ChainTape,
        params: &[UnitParams<'_>],
        output: &[f32],
        wanted: [bool; 2],
    ) -> ChainGradients {
        self.check(output, &self.layouts[self.layouts.len() - 1], params);
        let lengths = tape.activations.iter().map(|values| values.len());
        assert!(
            lengths.eq(self.layouts.iter().map(|layout| self.batch * layout.len())),
            "the tape is another chain's"
        );
        self.level.run(Backward { chain: self, tape, params, output, wanted })
    }

    fn check(&self, values: &[f32], layout: &Blocked, params: &[UnitParams<'_>]) {
        let Blocked { channels, height, width, .. } = *layout;
        let shape = [self.batch, height, width, channels];
        assert_eq!(values.len(), shape.iter().product(), "the tensor is {shape:?} (NHWC)");
        assert_eq!(params.len(), self.units.len(), "one set of parameters a unit");
        for (unit, params) in self.spec.units.iter().zip(params) {
            let ChainUnit { in_channels, out_channels, kernel, groups, norm, .. } = *unit;
            let shape = [out_channels, in_channels / groups, kernel[0], kernel[1]];
            assert_eq!(params.weight.len(), shape.iter().product(), "the weight is {shape:?}");
            let scales = if norm == UnitNorm::Bias { 0 } else { out_channels };
            assert_eq!([params.gamma.len(), params.beta.len()], [scales, out_channels], "one a channel");
        }
    }

    /// Imports a batch `[batch, height, width, channels]`.
    fn import(&self, layout: &Blocked, nhwc: &[f32]) -> Pooled {
        let mut blocked = Pooled::take(self.batch * layout.len());
        let images = nhwc.par_chunks_exact(layout.pixels() * layout.channels);
        let places = blocked.par_chunks_exact_mut(layout.len());
        places.zip(images).with_max_len(1).for_each(|(blocked, nhwc)| layout.import(nhwc, blocked));
        blocked
    }

    /// What is added to some pixels of the last norm's result.
    fn added<'a>(
        &self,
        activations: &'a [Pooled],
        norms: &'a [Norm],
        shortcut: Option<&'a Pooled>,
        (image, plane): (usize, usize),
        pixels: &Range<usize>,
    ) -> Option<&'a [f32]> {
        let operand = match (self.spec.shortcut, shortcut) {
            (Shortcut::None, _) => return None,
            (Shortcut::Input, _) => self.operand(activations, norms, 0),
            (Shortcut::Tensor, values) => {
                let values = values.expect("the forward pass has checked that it is there");
                Operand { values, layout: self.layouts[self.layouts.len() - 1], norm: None }
            }
        };
        Some(operand.raw(image, plane, pixels))
    }

    fn operand<'a>(&self, activations: &'a [Pooled], norms: &'a [Norm], index: usize) -> Operand<'a> {
        let norm = index.checked_sub(1).map(|before| &norms[before]);
        Operand { values: &activations[index], layout: self.layouts[index], norm }
    }
}

/// A computation that is compiled for every instruction set.
pub(crate) trait Work {
    type Output;

    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

struct Forward<'a> {
    chain: &'a ConvChain,
    x: &'a [f32],
    shortcut: Option<&'a [f32]>,
    params: &'a [UnitParams<'a>],
}

impl Work for Forward<'_> {
    type Output = ChainOutput;

    fn run<S: Simd>(self, simd: S) -> ChainOutput {
        let ConvChain { spec, units, batch, layouts, .. } = self.chain;
        let input = self.chain.import(&layouts[0], self.x);
        let shortcut = self.shortcut.map(|values| self.chain.import(&layouts[units.len()], values));

        let (mut activations, mut norms) = (vec![input], Vec::<Norm>::new());
        let mut moments = Vec::new();
        for (index, (unit, params)) in units.iter().zip(self.params).enumerate() {
            let operand = self.chain.operand(&activations, &norms, index);
            let (y, parts) = match unit {
                Unit::Matrix(matrix) => matrix.forward(simd, operand, params.weight),
                Unit::Windowed(windowed) => windowed.forward(simd, operand, params.weight),
                Unit::Filter(filter) => filter.forward(simd, operand, params.weight),
            };
            let ChainUnit { activation, norm, .. } = spec.units[index];
            let finish = Finish::of(activation);
            let norm = match norm {
                UnitNorm::Batch { epsilon } => {
                    Norm::new(&parts, params.gamma, params.beta, epsilon, finish, S::LANES)
                }
                UnitNorm::Bias => Norm::bias(params.beta, finish, S::LANES),
            };
            let (mean, variance) = (norm.mean.clone(), norm.variance.clone());
            moments.push(BatchMoments { mean, variance, count: parts.count() });
            norms.push(norm);
            activations.push(y);
        }

        let last = layouts[units.len()];
        let mut output = vec![0.0; batch * last.pixels() * last.channels];
        let result = self.chain.operand(&activations, &norms, units.len());
        output.par_chunks_exact_mut(last.pixels() * last.channels).with_max_len(1).enumerate().for_each_init(
            || Pooled::take(last.plane()),
            |scratch, (image, nhwc)| {
                let whole = 0..last.pixels();
                for plane in 0..last.planes() {
                    let raw = result.raw(image, plane, &whole);
                    let added =
                        self.chain.added(&activations, &norms, shortcut.as_ref(), (image, plane), &whole);
                    norms[units.len() - 1].finish(simd, plane, raw, added, scratch);
                    last.export_plane(plane, scratch, nhwc);
                }
            },
        );
        ChainOutput { output, moments, tape: ChainTape { activations, norms, shortcut } }
    }
}

struct Backward<'a> {
    chain: &'a ConvChain,
    tape: &'a ChainTape,
    params: &'a [UnitParams<'a>],
    output: &'a [f32],
    /// Of the input and of the shortcut.
    wanted: [bool; 2],
}

impl Backward<'_> {
    /// The gradient at the last norm's result, from the one at the chain's.
    fn arrive<S: Simd>(&self, simd: S) -> NormGradient {
        let ConvChain { units, batch, layouts, .. } = self.chain;
        let ChainTape { activations, norms, shortcut } = self.tape;
        let last = layouts[units.len()];
        let norm = &norms[units.len() - 1];
        let result = self.chain.operand(activations, norms, units.len());
        let mut gradient = Pooled::take(batch * last.len());
        let mut parts = Parts::new(vec![last.pixels(); *batch], last.planes() * last.lanes);
        let figures = parts.shared();
        gradient
            .par_chunks_exact_mut(last.len())
            .zip(self.output.par_chunks_exact(last.pixels() * last.channels))
            .with_max_len(1)
            .enumerate()
            .for_each(|(image, (gradient, nhwc))| {
                last.import(nhwc, gradient);
                let whole = 0..last.pixels();
                for (plane, gradient) in gradient.chunks_exact_mut(last.plane()).enumerate() {
                    let added =
                        self.chain.added(activations, norms, shortcut.as_ref(), (image, plane), &whole);
                    let raw = result.raw(image, plane, &whole);
                    let (sum, product) = norm.backward(simd, plane, raw, added, gradient);
                    // SAFETY: every image has its own tile.
                    unsafe { figures.put(simd, image, plane, sum, product) };
                }
            });
        NormGradient::new(&parts, norm, gradient)
    }
}

impl Work for Backward<'_> {
    type Output = ChainGradients;

    fn run<S: Simd>(self, simd: S) -> ChainGradients {
        let ConvChain { spec, units, batch, layouts, .. } = self.chain;
        let ChainTape { activations, norms, .. } = self.tape;
        let mut arriving = self.arrive(simd);
        let last = layouts[units.len()];
        // The gradient before the last activation is that of what was added.
        let shortcut = (spec.shortcut == Shortcut::Tensor && self.wanted[1]).then(|| {
            let mut nhwc = vec![0.0; batch * last.pixels() * last.channels];
            let blocked = arriving.gradient.par_chunks_exact(last.len());
            let images = nhwc.par_chunks_exact_mut(last.pixels() * last.channels);
            images.zip(blocked).with_max_len(1).for_each(|(nhwc, blocked)| last.export(blocked, nhwc));
            nhwc
        });
        let adds_input = spec.shortcut == Shortcut::Input;
        let mut added = None;
        let mut input = None;
        let mut gradients = Vec::new();
        for (index, (unit, params)) in units.iter().zip(self.params).enumerate().rev() {
            let operand = self.chain.operand(activations, norms, index);
            let wanted = index > 0 || self.wanted[0];
            let mut departing = Pooled::take(if wanted { batch * layouts[index].len() } else { 0 });
            let counts = match unit {
                Unit::Matrix(matrix) => matrix.backward_counts(),
                Unit::Windowed(windowed) => windowed.backward_counts(),
                Unit::Filter(filter) => filter.backward_counts(),
            };
            let mut parts = Parts::new(counts, layouts[index].planes() * layouts[index].lanes);
            let into = wanted.then(|| Departing {
                operand,
                gradient: Shared::new(&mut departing),
                parts: parts.shared(),
            });
            let from =
                Arriving { y: &activations[index + 1], layout: layouts[index + 1], gradient: &arriving };
            let weight = match unit {
                Unit::Matrix(matrix) => matrix.backward(simd, operand, from, params.weight, into),
                Unit::Windowed(windowed) => windowed.backward(simd, operand, from, params.weight, into),
                Unit::Filter(filter) => filter.backward(simd, operand, from, params.weight, into),
            };
            let (gamma, beta) = (arriving.gamma.clone(), arriving.beta.clone());
            gradients.push(UnitGradients { weight, gamma, beta });
            if index > 0 {
                let next = NormGradient::new(&parts, &norms[index - 1], departing);
                let before = std::mem::replace(&mut arriving, next);
                if index + 1 == units.len() && adds_input {
                    added = Some(before.gradient);
                }
            } else {
                if units.len() == 1 && adds_input {
                    added = Some(std::mem::replace(&mut arriving.gradient, Pooled::take(0)));
                }
                input = Some(departing);
            }
        }
        gradients.reverse();
        let input = input.filter(|_| self.wanted[0]).map(|blocked| {
            let first = layouts[0];
            let mut nhwc = vec![0.0; batch * first.pixels() * first.channels];
            nhwc.par_chunks_exact_mut(first.pixels() * first.channels)
                .zip(blocked.par_chunks_exact(first.len()))
                .with_max_len(1)
                .enumerate()
                .for_each_init(
                    || Pooled::take(first.plane()),
                    |sum, (image, (nhwc, blocked))| {
                        for (plane, block) in blocked.chunks_exact(first.plane()).enumerate() {
                            let Some(added) = &added else {
                                first.export_plane(plane, block, nhwc);
                                continue;
                            };
                            let added = &added[image * first.len() + plane * first.plane()..];
                            for (sum, (a, b)) in sum.iter_mut().zip(block.iter().zip(added)) {
                                *sum = a + b;
                            }
                            first.export_plane(plane, sum, nhwc);
                        }
                    },
                );
            nhwc
        });
        ChainGradients { input, shortcut, units: gradients }
    }
}
