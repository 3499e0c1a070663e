//! Convolutions with batch normalisation (or a bias) and activation, chained, forward and backward: what training a backbone is made of.
//!
//! A chain is a few blocks: an inverted residual (Sandler et al. 2018), a bottleneck (He et al. 2015), or a single convolution. A block is
//! a few convolutions, each followed by a BatchNorm with the batch's own statistics, or a bias, and an activation, and possibly a shortcut
//! added at the end. Within a block only raw results are stored; see `norm` for how that halves the memory traffic, which is what training
//! on a CPU costs. Between blocks, tensors stay in the kernels' layout.
//!
//! - forward: each convolution reads the one before through its norm and activation, and gathers its own result's moments
//! - backward: each convolution computes, for a tile of pixels at a time, the gradient at its result, the weight's gradient, the
//!   input's gradient, and the sums that the norm before it needs: one pass over memory
//!
//! Everything is cut by the batch's size alone, so results are the same bytes for any number of threads.

mod block;
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
mod winograd;

pub use memory::release_idle_memory;

use crate::layout::Blocked;
use crate::params::{ConvShape, volume};
use crate::simd::Simd;
use crate::{Activation, KernelError, SimdLevel};
use block::{Block, BlockTape, ResultGradient};
pub(crate) use memory::Pooled;
use rayon::prelude::*;
use std::sync::Arc;

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
    /// Groups of channels that do not see each other, a divisor of both; `in_channels` for a depthwise convolution. Between groups that are
    /// not depthwise, an infinite or not-a-number value may spread to neighbours.
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

/// The blocks of a chain, each reading the one before.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainSpec {
    /// At least one.
    pub blocks: Vec<ChainBlock>,
}

/// Convolutions one after another, and what is added to the last one's norm.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainBlock {
    /// At least one.
    pub units: Vec<ChainUnit>,
    /// Added before the last activation.
    pub shortcut: Shortcut,
}

/// What a block adds to its last norm's result (He et al. 2015).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Shortcut {
    /// Nothing.
    #[default]
    None,
    /// Its input, which must have the result's shape.
    Input,
    /// Its input through a convolution, which makes the result's shape of it.
    Projection(ChainUnit),
    /// A tensor of the result's shape that comes from outside the chain.
    Tensor,
    /// Nothing; but the block's result is its input's channels, and its own behind them (Huang et al. 2017).
    Append,
}

impl ChainBlock {
    /// The units, then the shortcut's, if it has one: the order of parameters, gradients and moments.
    pub fn all_units(&self) -> impl Iterator<Item = &ChainUnit> {
        let projection = match &self.shortcut {
            Shortcut::Projection(unit) => Some(unit),
            Shortcut::None | Shortcut::Input | Shortcut::Tensor | Shortcut::Append => None,
        };
        self.units.iter().chain(projection)
    }
}

impl ChainSpec {
    /// A chain of one block.
    pub fn block(units: Vec<ChainUnit>, shortcut: Shortcut) -> Self {
        Self { blocks: vec![ChainBlock { units, shortcut }] }
    }

    /// [All units](ChainBlock::all_units) of all blocks.
    pub fn all_units(&self) -> impl Iterator<Item = &ChainUnit> {
        self.blocks.iter().flat_map(ChainBlock::all_units)
    }

    /// How many blocks add a [tensor](Shortcut::Tensor).
    pub fn tensors(&self) -> usize {
        self.blocks.iter().filter(|block| block.shortcut == Shortcut::Tensor).count()
    }
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
    /// Of [all units](ChainSpec::all_units).
    pub moments: Vec<BatchMoments>,
    /// What the backward pass needs.
    pub tape: ChainTape,
}

/// The raw results of a forward pass. Its memory is used again when it is dropped.
#[derive(Debug)]
pub struct ChainTape {
    blocks: Vec<BlockTape>,
    origin: Arc<Origin>,
}

/// What a chain was made of: tapes of chains made alike are alike.
#[derive(Debug, PartialEq)]
struct Origin {
    spec: ChainSpec,
    input: [usize; 4],
    level: SimdLevel,
}

/// What [`ConvChain::backward`] computes.
#[derive(Debug)]
pub struct ChainGradients {
    /// `[batch, height, width, channels]`, if it was asked for.
    pub input: Option<Vec<f32>>,
    /// Of every [`Shortcut::Tensor`], likewise, if they were asked for.
    pub shortcuts: Vec<Vec<f32>>,
    /// Of [all units](ChainSpec::all_units).
    pub units: Vec<UnitGradients>,
}

/// A chain for one size of batch and image, on one instruction set.
#[derive(Debug)]
pub struct ConvChain {
    origin: Arc<Origin>,
    blocks: Vec<Block>,
    batch: usize,
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

    /// Whether a chain can hold it: a convolution in groups that is not depthwise must have less padding than its kernel is long.
    pub fn is_supported(&self) -> bool {
        let padding = [0, 1].map(|axis| self.padding[axis][0].max(self.padding[axis][1]));
        let within = [0, 1].into_iter().all(|axis| padding[axis] < self.kernel[axis]);
        self.groups == 1 || self.shape().is_depthwise() || within
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
        let [batch, channels, height, width] = input;
        let units = spec.all_units().count();
        if spec.blocks.is_empty()
            || spec.blocks.iter().any(|block| block.units.is_empty())
            || input.contains(&0)
        {
            return Err(KernelError::Empty { layers: units, input: [channels, height, width] });
        }
        let mut blocks = Vec::new();
        let (mut layer, mut before) = (0, Blocked { channels, height, width, lanes: level.lanes() });
        for block in &spec.blocks {
            let made = Block::new(block, layer, batch, before)?;
            layer += block.all_units().count();
            before = made.output();
            blocks.push(made);
        }
        Ok(Self { origin: Arc::new(Origin { spec: spec.clone(), input, level }), blocks, batch })
    }

    fn input(&self) -> Blocked {
        self.blocks[0].input()
    }

    fn output(&self) -> Blocked {
        self.blocks[self.blocks.len() - 1].output()
    }

    /// The input's shape: `[batch, channels, height, width]`.
    pub fn input_shape(&self) -> [usize; 4] {
        let Blocked { channels, height, width, .. } = self.input();
        [self.batch, channels, height, width]
    }

    /// The result's shape: `[batch, channels, height, width]`.
    pub fn output_shape(&self) -> [usize; 4] {
        let Blocked { channels, height, width, .. } = self.output();
        [self.batch, channels, height, width]
    }

    /// The shape of every [`Shortcut::Tensor`]: `[batch, channels, height, width]`.
    pub fn shortcut_shapes(&self) -> Vec<[usize; 4]> {
        let adding = self.blocks.iter().filter(|block| block.adds_tensor());
        let shape = |block: &Block| {
            let Blocked { channels, height, width, .. } = block.output();
            [self.batch, channels, height, width]
        };
        adding.map(shape).collect()
    }

    /// Computes the chain of `x`, `[batch, height, width, channels]`. `shortcuts`, likewise of their blocks' results' shapes, belong to the
    /// [`Shortcut::Tensor`]s; `params` to [all units](ChainSpec::all_units).
    ///
    /// # Panics
    /// If `x`, a shortcut or a parameter has another length than its shape, or one is missing or too many.
    pub fn forward(&self, x: &[f32], shortcuts: &[&[f32]], params: &[UnitParams<'_>]) -> ChainOutput {
        self.check(x, &self.input(), params);
        assert_eq!(shortcuts.len(), self.origin.spec.tensors(), "a shortcut for each block that adds one");
        self.origin.level.run(Forward { chain: self, x, shortcuts, params })
    }

    /// The gradients of a chain whose result has the gradient `output`, `[batch, height, width, channels]`.
    ///
    /// `tape` is the forward pass's, `params` are those it was given. `wanted` says whether the gradients of the input and of the shortcuts
    /// from outside are.
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
        self.check(output, &self.output(), params);
        assert!(tape.origin == self.origin, "the tape is another chain's");
        self.origin.level.run(Backward { chain: self, tape, params, output, wanted })
    }

    fn check(&self, values: &[f32], layout: &Blocked, params: &[UnitParams<'_>]) {
        check_image(values, self.batch, layout);
        assert_eq!(params.len(), self.origin.spec.all_units().count(), "one set of parameters a unit");
        for (unit, params) in self.origin.spec.all_units().zip(params) {
            let ChainUnit { in_channels, out_channels, kernel, groups, norm, .. } = *unit;
            let shape = [out_channels, in_channels / groups, kernel[0], kernel[1]];
            assert_eq!(params.weight.len(), volume(&shape), "the weight is {shape:?}");
            let scales = if norm == UnitNorm::Bias { 0 } else { out_channels };
            assert_eq!([params.gamma.len(), params.beta.len()], [scales, out_channels], "one a channel");
        }
    }
}

fn check_image(values: &[f32], batch: usize, layout: &Blocked) {
    let Blocked { channels, height, width, .. } = *layout;
    let shape = [batch, height, width, channels];
    assert_eq!(values.len(), volume(&shape), "the tensor is {shape:?} (NHWC)");
}

/// Imports a batch `[batch, height, width, channels]`.
fn import(batch: usize, layout: &Blocked, nhwc: &[f32]) -> Pooled {
    check_image(nhwc, batch, layout);
    let mut blocked = Pooled::take(batch * layout.len());
    let images = nhwc.par_chunks_exact(layout.pixels() * layout.channels);
    let places = blocked.par_chunks_exact_mut(layout.len());
    places.zip(images).with_max_len(1).for_each(|(blocked, nhwc)| layout.import(nhwc, blocked));
    blocked
}

/// A computation that is compiled for every instruction set.
pub(crate) trait Work {
    type Output;

    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

struct Forward<'a> {
    chain: &'a ConvChain,
    x: &'a [f32],
    shortcuts: &'a [&'a [f32]],
    params: &'a [UnitParams<'a>],
}

impl Work for Forward<'_> {
    type Output = ChainOutput;

    fn run<S: Simd>(self, simd: S) -> ChainOutput {
        let ConvChain { origin, blocks, batch } = self.chain;
        let (mut shortcuts, mut params) = (self.shortcuts.iter(), self.params);
        let mut input = import(*batch, &blocks[0].input(), self.x);
        let (mut tapes, mut moments) = (Vec::new(), Vec::new());
        for (index, (block, spec)) in blocks.iter().zip(&origin.spec.blocks).enumerate() {
            let (own, behind) = params.split_at(spec.all_units().count());
            params = behind;
            let shortcut = if block.adds_tensor() { shortcuts.next().copied() } else { None };
            let (tape, of_block) = block.convolve(simd, input, shortcut, own);
            moments.extend(of_block);
            input = if index + 1 < blocks.len() { block.result(simd, &tape) } else { Pooled::take(0) };
            tapes.push(tape);
        }
        let output = blocks[blocks.len() - 1].exported_result(simd, &tapes[tapes.len() - 1]);
        ChainOutput { output, moments, tape: ChainTape { blocks: tapes, origin: origin.clone() } }
    }
}

struct Backward<'a> {
    chain: &'a ConvChain,
    tape: &'a ChainTape,
    params: &'a [UnitParams<'a>],
    output: &'a [f32],
    /// Of the input and of the shortcuts.
    wanted: [bool; 2],
}

impl Work for Backward<'_> {
    type Output = ChainGradients;

    fn run<S: Simd>(self, simd: S) -> ChainGradients {
        let ConvChain { origin, blocks, .. } = self.chain;
        let mut params = self.params;
        let mut arriving = Some(ResultGradient::Exported(self.output));
        let (mut units, mut shortcuts) = (Vec::new(), Vec::new());
        let of_blocks = blocks.iter().zip(&origin.spec.blocks).zip(&self.tape.blocks);
        for (index, ((block, spec), tape)) in of_blocks.enumerate().rev() {
            let (before, own) = params.split_at(params.len() - spec.all_units().count());
            params = before;
            let wanted = [index > 0 || self.wanted[0], self.wanted[1]];
            let from = arriving.take().expect("every block but the first was asked for its input's gradient");
            let back = block.backward(simd, tape, own, from, wanted);
            arriving = back.input;
            units.push(back.units);
            shortcuts.extend(back.shortcut);
        }
        units.reverse();
        shortcuts.reverse();
        let input = arriving.map(|gradient| blocks[0].exported_gradient(&gradient));
        ChainGradients { input, shortcuts, units: units.into_iter().flatten().collect() }
    }
}
