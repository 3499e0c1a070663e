//! The tensors of a chain: stored raw, read through what follows them.

use super::moments::PartsShared;
use super::norm::{Norm, NormGradient};
use crate::buffer::Shared;
use crate::layout::Blocked;
use crate::simd::Simd;
use std::ops::Range;

/// What a convolution reads: the chain's input as it is, or an earlier convolution's result through its norm and activation.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    /// `[batch, blocked image]`.
    pub(crate) values: &'a [f32],
    pub(crate) layout: Blocked,
    pub(crate) norm: Option<&'a Norm>,
}

impl<'a> Operand<'a> {
    /// An image as it is stored.
    pub(crate) fn image(&self, image: usize) -> &'a [f32] {
        &self.values[image * self.layout.len()..][..self.layout.len()]
    }

    /// Some pixels of a block of channels as they are stored.
    pub(crate) fn raw(&self, image: usize, plane: usize, pixels: &Range<usize>) -> &'a [f32] {
        let lanes = self.layout.lanes;
        &self.image(image)[plane * self.layout.plane()..][pixels.start * lanes..pixels.end * lanes]
    }

    /// Some pixels of a block of channels as the convolution sees them.
    pub(crate) fn read<S: Simd>(
        &self,
        simd: S,
        image: usize,
        plane: usize,
        pixels: &Range<usize>,
        to: &mut [f32],
    ) {
        let raw = self.raw(image, plane, pixels);
        match self.norm {
            Some(norm) => norm.activate(simd, plane, raw, to),
            None => to.copy_from_slice(raw),
        }
    }
}

/// The gradient at a convolution's raw result.
#[derive(Clone, Copy)]
pub(crate) struct Arriving<'a> {
    /// The raw result, `[batch, blocked image]`.
    pub(crate) y: &'a [f32],
    pub(crate) layout: Blocked,
    pub(crate) gradient: &'a NormGradient,
}

impl Arriving<'_> {
    /// Some pixels of a block of channels.
    pub(crate) fn read<S: Simd>(
        &self,
        simd: S,
        image: usize,
        plane: usize,
        pixels: &Range<usize>,
        to: &mut [f32],
    ) {
        let first = image * self.layout.len() + plane * self.layout.plane();
        let range = first + pixels.start * self.layout.lanes..first + pixels.end * self.layout.lanes;
        self.gradient.reach(simd, plane, &self.gradient.gradient[range.clone()], &self.y[range], to);
    }
}

/// Where the gradient of a convolution's input goes.
#[derive(Clone, Copy)]
pub(crate) struct Departing<'a> {
    /// What the convolution read.
    pub(crate) operand: Operand<'a>,
    /// `[batch, blocked image]`.
    pub(crate) gradient: Shared<'a>,
    /// The sums over it, for the norm that `operand` is read through.
    pub(crate) parts: PartsShared<'a>,
}

impl<'a> Departing<'a> {
    /// Where some pixels of an image's first block of channels go; the next block is `layout.plane()` values further.
    pub(crate) fn at(&self, image: usize, pixel: usize) -> Shared<'a> {
        self.gradient.from(image * self.operand.layout.len() + pixel * self.operand.layout.lanes)
    }

    /// Carries the gradient of some pixels, which were just put down, through the activation.
    ///
    /// # Safety
    /// Nobody else uses these pixels, nor this block of this tile.
    pub(crate) unsafe fn finish<S: Simd>(
        &self,
        simd: S,
        tile: usize,
        image: usize,
        plane: usize,
        pixels: &Range<usize>,
    ) {
        let Some(norm) = self.operand.norm else { return };
        let y = self.operand.raw(image, plane, pixels);
        // SAFETY: handed on to the caller.
        unsafe {
            let at = self.at(image, pixels.start);
            let gradient = at.write(plane * self.operand.layout.plane(), y.len());
            let (sum, product) = norm.backward(simd, plane, y, None, gradient);
            self.parts.put(simd, tile, plane, sum, product);
        }
    }
}
