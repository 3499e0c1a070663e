//! One block of a chain, from and to the kernels' layout.

use super::filter::Filter;
use super::matrix::Matrix;
use super::memory::Pooled;
use super::moments::Parts;
use super::norm::{Norm, NormGradient};
use super::operand::{Arriving, Departing, Operand};
use super::windowed::Windowed;
use super::winograd::Winograd;
use super::{BatchMoments, ChainBlock, ChainUnit, Shortcut, UnitGradients, UnitNorm, UnitParams, import};
use crate::KernelError;
use crate::activation::Finish;
use crate::buffer::{Shared, by_blocks};
use crate::layout::Blocked;
use crate::params::volume;
use crate::simd::Simd;
use rayon::prelude::*;

/// A block for one size of batch and image.
#[derive(Debug)]
pub(crate) struct Block {
    spec: ChainBlock,
    units: Vec<Unit>,
    projection: Option<Unit>,
    batch: usize,
    /// The input's layout, then every unit's result's.
    layouts: Vec<Blocked>,
}

/// A convolution in the way that suits it.
#[derive(Debug)]
enum Unit {
    Matrix(Matrix),
    Windowed(Box<Windowed>),
    /// One way there and another back.
    Winograd(Box<Windowed>, Winograd),
    Filter(Filter),
}

/// What a block's forward pass leaves for its backward pass.
#[derive(Debug)]
pub(crate) struct BlockTape {
    /// The block's input, then every unit's raw result: `[batch, blocked image]`.
    activations: Vec<Pooled>,
    norms: Vec<Norm>,
    added: Added,
}

/// What is added before the last activation.
#[derive(Debug)]
enum Added {
    Nothing,
    Input,
    /// The raw result of the projection, and its norm.
    Projection(Pooled, Norm),
    Tensor(Pooled),
}

/// The gradient at a block's result, or at its input.
pub(crate) enum ResultGradient<'a> {
    /// `[batch, height, width, channels]`.
    Exported(&'a [f32]),
    /// `[batch, blocked image]`: the sum of both.
    Sum(Pooled, Option<Pooled>),
}

/// What a block's backward pass computes.
pub(crate) struct BlockGradients {
    /// If it was asked for.
    pub(crate) input: Option<ResultGradient<'static>>,
    /// `[batch, height, width, channels]`, if it was asked for: of [`Shortcut::Tensor`].
    pub(crate) shortcut: Option<Vec<f32>>,
    /// Of every unit, and of the shortcut's.
    pub(crate) units: Vec<UnitGradients>,
}

impl Block {
    /// Prepares a block whose first unit is the chain's `layer`.
    ///
    /// # Errors
    /// [`KernelError`] if sizes do not fit each other, or a unit is not supported.
    pub(crate) fn new(
        spec: &ChainBlock,
        layer: usize,
        batch: usize,
        input: Blocked,
    ) -> Result<Self, KernelError> {
        let mut layouts = vec![input];
        let mut units = Vec::new();
        for (index, unit) in spec.units.iter().enumerate() {
            let (unit, after) = Unit::new(unit, layer + index, batch, layouts[index])?;
            units.push(unit);
            layouts.push(after);
        }
        let last = layouts[units.len()];
        let (added, projection) = match &spec.shortcut {
            Shortcut::None | Shortcut::Tensor => (last, None),
            Shortcut::Append => (Blocked { channels: last.channels, ..input }, None),
            Shortcut::Input => (input, None),
            Shortcut::Projection(unit) => {
                let (unit, after) = Unit::new(unit, layer + units.len(), batch, input)?;
                (after, Some(unit))
            }
        };
        if added != last {
            let reason = format!(
                "a shortcut of {} channels of {} x {} cannot be added to the result of {} channels of {} x {}",
                added.channels, added.height, added.width, last.channels, last.height, last.width
            );
            return Err(KernelError::InvalidLayer { layer: layer + units.len() - 1, reason });
        }
        let this = Self { spec: spec.clone(), units, projection, batch, layouts };
        check_size(layer, batch, this.output())?;
        Ok(this)
    }

    pub(crate) fn input(&self) -> Blocked {
        self.layouts[0]
    }

    pub(crate) fn output(&self) -> Blocked {
        let last = self.last();
        if self.appends() {
            Blocked { channels: self.input().channels + last.channels, ..last }
        } else {
            last
        }
    }

    /// The last unit's result's layout.
    fn last(&self) -> Blocked {
        self.layouts[self.units.len()]
    }

    fn appends(&self) -> bool {
        self.spec.shortcut == Shortcut::Append
    }

    pub(crate) fn adds_tensor(&self) -> bool {
        self.spec.shortcut == Shortcut::Tensor
    }

    /// The convolutions of a batch, and the moments of [all units](ChainBlock::all_units). `shortcut` is `[batch, height, width, channels]`,
    /// for a block that adds a tensor.
    pub(crate) fn convolve<S: Simd>(
        &self,
        simd: S,
        input: Pooled,
        shortcut: Option<&[f32]>,
        params: &[UnitParams<'_>],
    ) -> (BlockTape, Vec<BatchMoments>) {
        let (of_units, of_shortcut) = params.split_at(self.units.len());
        let (mut activations, mut norms, mut moments) = (vec![input], Vec::new(), Vec::new());
        for (index, (unit, params)) in self.units.iter().zip(of_units).enumerate() {
            let operand = self.operand(&activations, &norms, index);
            let (y, parts) = unit.forward(simd, operand, params.weight);
            let (norm, of_unit) = norm_of(simd, &self.spec.units[index], &parts, params);
            moments.push(of_unit);
            norms.push(norm);
            activations.push(y);
        }
        let added = match (&self.spec.shortcut, &self.projection) {
            (Shortcut::Projection(spec), Some(unit)) => {
                let operand = self.operand(&activations, &norms, 0);
                let (y, parts) = unit.forward(simd, operand, of_shortcut[0].weight);
                let (norm, of_unit) = norm_of(simd, spec, &parts, &of_shortcut[0]);
                moments.push(of_unit);
                Added::Projection(y, norm)
            }
            (Shortcut::Input, _) => Added::Input,
            (Shortcut::Tensor, _) => {
                let values = shortcut.expect("the chain has checked that it is there");
                Added::Tensor(import(self.batch, &self.last(), values))
            }
            _ => Added::Nothing,
        };
        (BlockTape { activations, norms, added }, moments)
    }

    /// The block's result: `[batch, blocked image]`.
    pub(crate) fn result<S: Simd>(&self, simd: S, tape: &BlockTape) -> Pooled {
        let own = self.own_result(simd, tape);
        if !self.appends() {
            return own;
        }
        let (input, last, output) = (self.input(), self.last(), self.output());
        let mut result = Pooled::take(self.batch * output.len());
        let parts = tape.activations[0].par_chunks_exact(input.len()).zip(own.par_chunks_exact(last.len()));
        let results = result.par_chunks_exact_mut(output.len()).zip(parts);
        results.with_max_len(1).for_each(|(result, (before, own))| {
            // The channels that fill the last block up are nobody's.
            result[(output.planes() - 1) * output.plane()..].fill(0.0);
            input.append_to(before, 0, result);
            last.append_to(own, input.channels, result);
        });
        result
    }

    /// What the units compute: `[batch, blocked image]`.
    fn own_result<S: Simd>(&self, simd: S, tape: &BlockTape) -> Pooled {
        let last = self.last();
        let mut result = Pooled::take(self.batch * last.len());
        result.par_chunks_exact_mut(last.plane()).enumerate().for_each_init(
            || Pooled::take(self.scratch_len()),
            |scratch, (index, to)| {
                let (image, plane) = (index / last.planes(), index % last.planes());
                self.finish(simd, tape, image, plane, scratch, to);
            },
        );
        result
    }

    /// The block's result: `[batch, height, width, channels]`.
    pub(crate) fn exported_result<S: Simd>(&self, simd: S, tape: &BlockTape) -> Vec<f32> {
        if self.appends() {
            return export(self.batch, &self.output(), &self.result(simd, tape));
        }
        let last = self.last();
        let image = last.pixels() * last.channels;
        let images = (0..self.batch).into_par_iter().with_max_len(1);
        by_blocks(self.batch * image, image, images, |image, nhwc| {
            let (mut scratch, mut block) = (Pooled::take(self.scratch_len()), Pooled::take(last.plane()));
            for plane in 0..last.planes() {
                self.finish(simd, tape, image, plane, &mut scratch, &mut block);
                last.export_plane(plane, &block, nhwc);
            }
        })
    }

    /// The gradient at the input: `[batch, height, width, channels]`.
    pub(crate) fn exported_gradient(&self, gradient: &ResultGradient<'_>) -> Vec<f32> {
        let (values, added) = match gradient {
            ResultGradient::Exported(values) => return values.to_vec(),
            ResultGradient::Sum(values, added) => (values, added),
        };
        let first = self.input();
        let image = first.pixels() * first.channels;
        let images = (0..self.batch).into_par_iter().with_max_len(1);
        by_blocks(self.batch * image, image, images, |image, nhwc| {
            let mut sum = Pooled::take(first.plane());
            for plane in 0..first.planes() {
                let at = image * first.len() + plane * first.plane();
                let block = &values[at..][..first.plane()];
                let Some(added) = added else {
                    first.export_plane(plane, block, nhwc);
                    continue;
                };
                for (sum, (a, b)) in sum.iter_mut().zip(block.iter().zip(&added[at..])) {
                    *sum = a + b;
                }
                first.export_plane(plane, &sum, nhwc);
            }
        })
    }

    /// The gradients for that of the block's result. `wanted` says whether those of the input and of a tensor that is added are.
    pub(crate) fn backward<S: Simd>(
        &self,
        simd: S,
        tape: &BlockTape,
        params: &[UnitParams<'_>],
        gradient: ResultGradient<'_>,
        wanted: [bool; 2],
    ) -> BlockGradients {
        let BlockTape { activations, norms, added } = tape;
        let (of_units, of_shortcut) = params.split_at(self.units.len());
        let (gradient, passed) = if self.appends() { self.part(gradient) } else { (gradient, None) };
        let mut arriving = self.arrive(simd, tape, gradient);
        let shortcut =
            (self.adds_tensor() && wanted[1]).then(|| export(self.batch, &self.last(), &arriving.gradient));
        let mut projected = match (added, &self.projection) {
            (Added::Projection(y, norm), Some(unit)) => {
                let arriving = self.arrive_at_projection(simd, y, norm, &arriving.gradient);
                let from = Arriving { y, layout: self.last(), gradient: &arriving };
                let operand = self.operand(activations, norms, 0);
                let (weight, _, departing) =
                    self.through(simd, unit, operand, from, of_shortcut[0].weight, wanted[0]);
                Some((UnitGradients { weight, gamma: arriving.gamma, beta: arriving.beta }, departing))
            }
            _ => None,
        };
        // What reaches the input besides: the gradient at the sum, or what the projection makes of it, or that of the channels before.
        let mut beside = projected.as_mut().and_then(|(_, departing)| departing.take()).or(passed);
        let (mut input, mut units) = (None, Vec::new());
        for (index, (unit, params)) in self.units.iter().zip(of_units).enumerate().rev() {
            let from =
                Arriving { y: &activations[index + 1], layout: self.layouts[index + 1], gradient: &arriving };
            let operand = self.operand(activations, norms, index);
            let (weight, parts, departing) =
                self.through(simd, unit, operand, from, params.weight, index > 0 || wanted[0]);
            let (gamma, beta) = (std::mem::take(&mut arriving.gamma), std::mem::take(&mut arriving.beta));
            units.push(UnitGradients { weight, gamma, beta });
            let passed = match departing {
                Some(departing) if index > 0 => {
                    let next = NormGradient::new(&parts, &norms[index - 1], departing);
                    std::mem::replace(&mut arriving, next).gradient
                }
                departing => {
                    input = departing;
                    std::mem::replace(&mut arriving.gradient, Pooled::take(0))
                }
            };
            if index + 1 == self.units.len() && matches!(added, Added::Input) {
                beside = Some(passed);
            }
        }
        units.reverse();
        units.extend(projected.map(|(gradients, _)| gradients));
        let input = input.map(|values| ResultGradient::Sum(values, beside));
        BlockGradients { input, shortcut, units }
    }

    /// The gradient at what the units compute, and at the input's channels before it.
    fn part(&self, gradient: ResultGradient<'_>) -> (ResultGradient<'static>, Option<Pooled>) {
        let (input, last, output) = (self.input(), self.last(), self.output());
        let (values, added) = match gradient {
            ResultGradient::Exported(nhwc) => (import(self.batch, &output, nhwc), None),
            ResultGradient::Sum(values, added) => (values, added),
        };
        let mut before = Pooled::take(self.batch * input.len());
        let mut own = Pooled::take(self.batch * last.len());
        let to = before.par_chunks_exact_mut(input.len()).zip(own.par_chunks_exact_mut(last.len()));
        to.enumerate().with_max_len(1).for_each_init(
            || Pooled::take(if added.is_some() { output.len() } else { 0 }),
            |sum, (image, (before, own))| {
                let mut values = &values[image * output.len()..][..output.len()];
                if let Some(added) = &added {
                    let added = &added[image * output.len()..][..output.len()];
                    let both = values.iter().zip(added);
                    sum.iter_mut().zip(both).for_each(|(sum, (value, added))| *sum = value + added);
                    values = sum;
                }
                input.take_from(values, 0, before);
                last.take_from(values, input.channels, own);
            },
        );
        (ResultGradient::Sum(own, None), Some(before))
    }

    /// The gradient at the last norm's result, from the one at the units'.
    fn arrive<S: Simd>(&self, simd: S, tape: &BlockTape, gradient: ResultGradient<'_>) -> NormGradient {
        let last = self.last();
        let norm = &tape.norms[self.units.len() - 1];
        let result = self.operand(&tape.activations, &tape.norms, self.units.len());
        let (exported, mut values, added) = match gradient {
            ResultGradient::Exported(values) => (Some(values), Pooled::take(self.batch * last.len()), None),
            ResultGradient::Sum(values, added) => (None, values, added),
        };
        let mut parts = self.parts();
        let figures = parts.shared();
        values.par_chunks_exact_mut(last.plane()).enumerate().for_each_init(
            || Pooled::take(self.scratch_len()),
            |scratch, (index, gradient)| {
                let (image, plane) = (index / last.planes(), index % last.planes());
                if let Some(nhwc) = exported {
                    let image_len = last.pixels() * last.channels;
                    last.import_plane(plane, &nhwc[image * image_len..][..image_len], gradient);
                }
                if let Some(added) = &added {
                    let added = &added[index * last.plane()..][..last.plane()];
                    gradient.iter_mut().zip(added).for_each(|(gradient, added)| *gradient += added);
                }
                let raw = result.raw(image, plane, &(0..last.pixels()));
                let added = self.added(simd, tape, image, plane, scratch);
                let (sum, product) = norm.backward(simd, plane, raw, added, gradient);
                // SAFETY: every block of channels of every image is one task's.
                unsafe { figures.put(simd, image, plane, sum, product) };
            },
        );
        NormGradient::new(&parts, norm, values)
    }

    /// The gradient at the projection's norm's result, from the one at the sum.
    fn arrive_at_projection<S: Simd>(
        &self,
        simd: S,
        y: &[f32],
        norm: &Norm,
        gradient: &[f32],
    ) -> NormGradient {
        let last = self.last();
        let mut values = Pooled::take(self.batch * last.len());
        let mut parts = self.parts();
        let figures = parts.shared();
        let from = gradient.par_chunks_exact(last.plane()).zip(y.par_chunks_exact(last.plane()));
        values.par_chunks_exact_mut(last.plane()).zip(from).enumerate().for_each(
            |(index, (to, (gradient, y)))| {
                let (image, plane) = (index / last.planes(), index % last.planes());
                to.copy_from_slice(gradient);
                let (sum, product) = norm.backward(simd, plane, y, None, to);
                // SAFETY: every block of channels of every image is one task's.
                unsafe { figures.put(simd, image, plane, sum, product) };
            },
        );
        NormGradient::new(&parts, norm, values)
    }

    /// Room for an image's figures of the result's channels.
    fn parts(&self) -> Parts {
        let last = self.last();
        Parts::new(vec![last.pixels(); self.batch], last.planes() * last.lanes)
    }

    /// A unit's weight's gradient; and where they are wanted, its input's and the sums over it.
    fn through<S: Simd>(
        &self,
        simd: S,
        unit: &Unit,
        operand: Operand<'_>,
        from: Arriving<'_>,
        weight: &[f32],
        wanted: bool,
    ) -> (Vec<f32>, Parts, Option<Pooled>) {
        let layout = operand.layout;
        let mut departing = wanted.then(|| Pooled::take(self.batch * layout.len()));
        let mut parts = Parts::new(unit.backward_counts(), layout.planes() * layout.lanes);
        let into = departing.as_mut().map(|departing| Departing {
            operand,
            gradient: Shared::new(departing),
            parts: parts.shared(),
        });
        let weight = unit.backward(simd, operand, from, weight, into);
        (weight, parts, departing)
    }

    /// One block of channels of an image of the result.
    fn finish<S: Simd>(
        &self,
        simd: S,
        tape: &BlockTape,
        image: usize,
        plane: usize,
        scratch: &mut [f32],
        to: &mut [f32],
    ) {
        let result = self.operand(&tape.activations, &tape.norms, self.units.len());
        let raw = result.raw(image, plane, &(0..self.last().pixels()));
        let added = self.added(simd, tape, image, plane, scratch);
        tape.norms[self.units.len() - 1].finish(simd, plane, raw, added, to);
    }

    /// What is added to one block of channels of an image of the last norm's result.
    fn added<'a, S: Simd>(
        &self,
        simd: S,
        tape: &'a BlockTape,
        image: usize,
        plane: usize,
        scratch: &'a mut [f32],
    ) -> Option<&'a [f32]> {
        let last = self.last();
        let at = image * last.len() + plane * last.plane();
        let values = match &tape.added {
            Added::Nothing => return None,
            Added::Input => &tape.activations[0],
            Added::Tensor(values) => values,
            Added::Projection(y, norm) => {
                norm.activate(simd, plane, &y[at..][..last.plane()], scratch);
                return Some(scratch);
            }
        };
        Some(&values[at..][..last.plane()])
    }

    /// Values that [`added`](Self::added) may need.
    fn scratch_len(&self) -> usize {
        if self.projection.is_some() { self.output().plane() } else { 0 }
    }

    fn operand<'a>(&self, activations: &'a [Pooled], norms: &'a [Norm], index: usize) -> Operand<'a> {
        let norm = index.checked_sub(1).map(|before| &norms[before]);
        Operand { values: &activations[index], layout: self.layouts[index], norm }
    }
}

/// Exports a batch: `[batch, height, width, channels]`.
fn export(batch: usize, layout: &Blocked, blocked: &[f32]) -> Vec<f32> {
    let image = layout.pixels() * layout.channels;
    let blocked = blocked.par_chunks_exact(layout.len()).with_max_len(1);
    by_blocks(batch * image, image, blocked, |blocked, nhwc| layout.export(blocked, nhwc))
}

/// Checks that a batch of such images can be computed with.
fn check_size(layer: usize, batch: usize, layout: Blocked) -> Result<(), KernelError> {
    let Blocked { channels, height, width, lanes } = layout;
    let len = volume(&[layout.planes(), height, width, lanes]);
    // Offsets within an image, with room for padding, are 32 bits wide.
    let limit = u32::MAX as usize / 4;
    if len > limit || volume(&[batch, len, size_of::<f32>()]) > isize::MAX as usize {
        return Err(KernelError::TooLarge { layer, channels, height, width, limit });
    }
    Ok(())
}

impl Unit {
    /// The chain's unit number `layer`, and its result's layout.
    fn new(
        unit: &ChainUnit,
        layer: usize,
        batch: usize,
        before: Blocked,
    ) -> Result<(Self, Blocked), KernelError> {
        let conv = unit.shape();
        conv.check(layer)?;
        if conv.in_channels != before.channels {
            let (expected, actual) = (conv.in_channels, before.channels);
            return Err(KernelError::InputChannels { layer, operation: "convolution", expected, actual });
        }
        if !unit.is_supported() {
            let reason = format!(
                "a convolution in {} groups must have less padding than the kernel's {:?}, got {:?}",
                conv.groups, conv.kernel, conv.padding
            );
            return Err(KernelError::InvalidLayer { layer, reason });
        }
        check_size(layer, batch, before)?;
        let [height, width] = conv.output_size(layer, [before.height, before.width])?;
        let after = Blocked { channels: conv.out_channels, height, width, lanes: before.lanes };
        check_size(layer, batch, after)?;
        if conv.groups > 1 && !conv.is_depthwise() {
            // Groups always read fields, however much of them is padding.
            let around = [0, 1].map(|axis| conv.padding[axis].iter().sum::<usize>().max(conv.kernel[axis]));
            let (height, width) = (before.height + around[0], before.width + around[1]);
            for layout in [before, after] {
                check_size(layer, batch, Blocked { height, width, ..layout })?;
            }
        }
        let unit = if conv.is_depthwise() {
            Self::Filter(Filter::new(conv, batch, before, after))
        } else if let Some(windowed) = Windowed::new(conv, batch, before, after) {
            match Winograd::new(conv, batch, before, after) {
                Some(winograd) => Self::Winograd(Box::new(windowed), winograd),
                None => Self::Windowed(Box::new(windowed)),
            }
        } else {
            Self::Matrix(Matrix::new(conv, batch, before, after))
        };
        Ok((unit, after))
    }

    /// The raw result for the whole batch, and its moments.
    fn forward<S: Simd>(&self, simd: S, input: Operand<'_>, weight: &[f32]) -> (Pooled, Parts) {
        match self {
            Self::Matrix(matrix) => matrix.forward(simd, input, weight),
            Self::Windowed(windowed) | Self::Winograd(windowed, _) => windowed.forward(simd, input, weight),
            Self::Filter(filter) => filter.forward(simd, input, weight),
        }
    }

    /// Pixels behind each tile of the sums that [`backward`](Self::backward) makes over the input's gradient.
    fn backward_counts(&self) -> Vec<usize> {
        match self {
            Self::Matrix(matrix) => matrix.backward_counts(),
            Self::Windowed(windowed) | Self::Winograd(windowed, _) => windowed.backward_counts(),
            Self::Filter(filter) => filter.backward_counts(),
        }
    }

    /// The weight's gradient; and the input's, where it is asked for.
    fn backward<S: Simd>(
        &self,
        simd: S,
        input: Operand<'_>,
        arriving: Arriving<'_>,
        weight: &[f32],
        departing: Option<Departing<'_>>,
    ) -> Vec<f32> {
        match self {
            Self::Matrix(matrix) => matrix.backward(simd, input, arriving, weight, departing),
            Self::Windowed(windowed) => windowed.backward(simd, input, arriving, weight, departing),
            Self::Winograd(_, winograd) => winograd.backward(simd, input, arriving, weight, departing),
            Self::Filter(filter) => filter.backward(simd, input, arriving, weight, departing),
        }
    }
}

/// What follows a unit's convolution, and its moments.
fn norm_of<S: Simd>(_: S, unit: &ChainUnit, parts: &Parts, params: &UnitParams<'_>) -> (Norm, BatchMoments) {
    let finish = Finish::of(unit.activation);
    let norm = match unit.norm {
        UnitNorm::Batch { epsilon } => Norm::new(parts, params.gamma, params.beta, epsilon, finish, S::LANES),
        UnitNorm::Bias => Norm::bias(params.beta, finish, S::LANES),
    };
    let (mean, variance) = (norm.mean.clone(), norm.variance.clone());
    (norm, BatchMoments { mean, variance, count: parts.count() })
}
