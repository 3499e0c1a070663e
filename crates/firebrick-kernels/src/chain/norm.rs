//! Batch normalisation and the activation after it, applied where values are read rather than stored.
//!
//! A convolution's raw result `y` is the only thing that is kept. What follows it, `act(gamma * (y - mean) * rstd + beta)`, is
//! two instructions a value and is computed again wherever it is needed. In the backward pass the gradient that reaches the
//! convolution is, for each channel, an affine function of two tensors (Ioffe and Szegedy 2015, section 3):
//!
//! `dy = gamma * rstd * (g - sum(g) / n - xhat * sum(g * xhat) / n)` with `xhat = (y - mean) * rstd`
//!
//! where `g` is the gradient before the activation. So it, too, is computed where it is read.

use super::memory::Pooled;
use super::moments::Parts;
use crate::activation::{Curve, Finish, gelu_derivative, sigmoid, tanh};
use crate::simd::Simd;

/// A batch normalisation with this batch's statistics, as the kernels apply it. Channels are filled up to whole vectors.
#[derive(Debug)]
pub(crate) struct Norm {
    /// `gamma * rstd`.
    scale: Vec<f32>,
    /// `beta - mean * scale`.
    shift: Vec<f32>,
    /// `rstd`, and `-mean * rstd`: `xhat` from `y`.
    rstd: Vec<f32>,
    offset: Vec<f32>,
    pub(crate) mean: Vec<f32>,
    pub(crate) variance: Vec<f32>,
    finish: Finish,
    /// Whether it is a bias: no statistics, and a gradient that goes through as it is.
    is_bias: bool,
}

/// The constants of one block of channels.
#[derive(Clone, Copy)]
pub(crate) struct Lanes<S: Simd> {
    pub(crate) scale: S::Vector,
    pub(crate) shift: S::Vector,
    pub(crate) rstd: S::Vector,
    pub(crate) offset: S::Vector,
}

impl Norm {
    /// From the figures of the batch. Everything is computed in f64 and rounded once.
    pub(crate) fn new(
        parts: &Parts,
        gamma: &[f32],
        beta: &[f32],
        epsilon: f32,
        finish: Finish,
        lanes: usize,
    ) -> Self {
        let channels = gamma.len();
        let filled = channels.next_multiple_of(lanes);
        let zeros = || vec![0.0; filled];
        let mut norm = Self {
            scale: zeros(),
            shift: zeros(),
            rstd: zeros(),
            offset: zeros(),
            mean: vec![0.0; channels],
            variance: vec![0.0; channels],
            finish,
            is_bias: false,
        };
        for (channel, (mean, variance)) in parts.merge(channels).into_iter().enumerate() {
            let rstd = 1.0 / (variance + f64::from(epsilon)).sqrt();
            let scale = f64::from(gamma[channel]) * rstd;
            norm.scale[channel] = scale as f32;
            norm.shift[channel] = (f64::from(beta[channel]) - mean * scale) as f32;
            norm.rstd[channel] = rstd as f32;
            norm.offset[channel] = (-mean * rstd) as f32;
            norm.mean[channel] = mean as f32;
            norm.variance[channel] = variance as f32;
        }
        norm
    }

    /// A bias in a norm's place: `act(y + bias)`.
    pub(crate) fn bias(bias: &[f32], finish: Finish, lanes: usize) -> Self {
        let channels = bias.len();
        let filled = channels.next_multiple_of(lanes);
        let mut shift = bias.to_vec();
        shift.resize(filled, 0.0);
        let mut scale = vec![1.0; channels];
        // The channels that fill the last vector up stay zero.
        scale.resize(filled, 0.0);
        let zeros = || vec![0.0; filled];
        let (rstd, offset) = (zeros(), zeros());
        let (mean, variance) = (vec![0.0; channels], vec![0.0; channels]);
        Self { scale, shift, rstd, offset, mean, variance, finish, is_bias: true }
    }

    #[inline(always)]
    pub(crate) fn lanes<S: Simd>(&self, simd: S, plane: usize) -> Lanes<S> {
        let at = |values: &[f32]| {
            let values = &values[plane * S::LANES..][..S::LANES];
            // SAFETY: the slice is one vector long.
            unsafe { simd.load(values.as_ptr()) }
        };
        Lanes {
            scale: at(&self.scale),
            shift: at(&self.shift),
            rstd: at(&self.rstd),
            offset: at(&self.offset),
        }
    }

    /// `act(scale * y + shift)` of pixels of one block of channels: `[pixels, LANES]`.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub(crate) fn activate<S: Simd>(&self, simd: S, plane: usize, y: &[f32], z: &mut [f32]) {
        assert_eq!(y.len(), z.len());
        let finish = self.finish;
        simd.vectorize(
            #[inline(always)]
            || {
                let lanes = self.lanes(simd, plane);
                match finish.curve {
                    None => activate(simd, lanes, &finish, y, z, |_, x| x),
                    Some(curve) => activate(simd, lanes, &finish, y, z, |simd, x| curve.apply(simd, x)),
                }
            },
        );
    }

    /// `act(scale * y + shift + added)`: the chain's result.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub(crate) fn finish<S: Simd>(
        &self,
        simd: S,
        plane: usize,
        y: &[f32],
        added: Option<&[f32]>,
        z: &mut [f32],
    ) {
        let Some(added) = added else { return self.activate(simd, plane, y, z) };
        assert!(y.len() == z.len() && added.len() == y.len());
        let finish = self.finish;
        simd.vectorize(
            #[inline(always)]
            || {
                let lanes = self.lanes(simd, plane);
                let (lowest, highest) = (simd.splat(finish.lowest), simd.splat(finish.highest));
                let pairs = y.chunks_exact(S::LANES).zip(added.chunks_exact(S::LANES));
                for ((y, added), z) in pairs.zip(z.chunks_exact_mut(S::LANES)) {
                    // SAFETY: the chunks are one vector long.
                    unsafe {
                        let x = simd.mul_add(simd.load(y.as_ptr()), lanes.scale, lanes.shift);
                        let x = simd.add(x, simd.load(added.as_ptr()));
                        let mut x = simd.at_most(highest, simd.at_least(lowest, x));
                        if let Some(curve) = finish.curve {
                            x = curve.apply(simd, x);
                        }
                        simd.store(z.as_mut_ptr(), x);
                    }
                }
            },
        );
    }

    /// Turns the gradient after the activation into the one before it, in place, and sums it: `sum(g)` and `sum(g * xhat)`.
    ///
    /// `gradient` and `y` are pixels of one block of channels, `[pixels, LANES]`. If the activation was applied to more than the
    /// norm's result, `added` holds what was added before it.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub(crate) fn backward<S: Simd>(
        &self,
        simd: S,
        plane: usize,
        y: &[f32],
        added: Option<&[f32]>,
        gradient: &mut [f32],
    ) -> (S::Vector, S::Vector) {
        assert_eq!(y.len(), gradient.len());
        assert!(added.is_none_or(|added| added.len() == y.len()));
        let finish = self.finish;
        simd.vectorize(
            #[inline(always)]
            || {
                let lanes = self.lanes(simd, plane);
                match finish.curve {
                    None if finish.lowest == f32::NEG_INFINITY && finish.highest == f32::INFINITY => {
                        backward(simd, lanes, y, added, gradient, |_, _, gradient| gradient)
                    }
                    None => {
                        let (low, high) = (simd.splat(finish.lowest), simd.splat(finish.highest));
                        backward(
                            simd,
                            lanes,
                            y,
                            added,
                            gradient,
                            #[inline(always)]
                            |simd, x, gradient| simd.between(low, x, high, gradient),
                        )
                    }
                    Some(curve) => backward(
                        simd,
                        lanes,
                        y,
                        added,
                        gradient,
                        #[inline(always)]
                        |simd, x, gradient| simd.mul(curve.derivative(simd, x), gradient),
                    ),
                }
            },
        )
    }
}

#[inline(always)]
fn activate<S: Simd>(
    simd: S,
    lanes: Lanes<S>,
    finish: &Finish,
    y: &[f32],
    z: &mut [f32],
    curve: impl Fn(S, S::Vector) -> S::Vector,
) {
    let (lowest, highest) = (simd.splat(finish.lowest), simd.splat(finish.highest));
    for (y, z) in y.chunks_exact(S::LANES).zip(z.chunks_exact_mut(S::LANES)) {
        // SAFETY: the chunks are one vector long.
        unsafe {
            let x = simd.mul_add(simd.load(y.as_ptr()), lanes.scale, lanes.shift);
            let bounded = simd.at_most(highest, simd.at_least(lowest, x));
            simd.store(z.as_mut_ptr(), curve(simd, bounded));
        }
    }
}

#[inline(always)]
fn backward<S: Simd>(
    simd: S,
    lanes: Lanes<S>,
    y: &[f32],
    added: Option<&[f32]>,
    gradient: &mut [f32],
    derivative: impl Fn(S, S::Vector, S::Vector) -> S::Vector,
) -> (S::Vector, S::Vector) {
    /// Sums that run side by side, so that an addition need not wait for the one before.
    const SUMS: usize = 2;
    let mut sums = [simd.splat(0.0); SUMS];
    let mut products = [simd.splat(0.0); SUMS];
    let chunks = y.chunks_exact(S::LANES).zip(gradient.chunks_exact_mut(S::LANES));
    for (index, (y, gradient)) in chunks.enumerate() {
        // SAFETY: the chunks are one vector long, and `added` is as long as `y`.
        unsafe {
            let y = simd.load(y.as_ptr());
            let mut x = simd.mul_add(y, lanes.scale, lanes.shift);
            if let Some(added) = added {
                x = simd.add(x, simd.load(added.as_ptr().add(index * S::LANES)));
            }
            let g = derivative(simd, x, simd.load(gradient.as_ptr()));
            simd.store(gradient.as_mut_ptr(), g);
            let xhat = simd.mul_add(y, lanes.rstd, lanes.offset);
            let which = index % SUMS;
            sums[which] = simd.add(sums[which], g);
            products[which] = simd.mul_add(g, xhat, products[which]);
        }
    }
    (simd.add(sums[0], sums[1]), simd.add(products[0], products[1]))
}

impl Curve {
    /// The derivative at `x`.
    #[inline(always)]
    pub(crate) fn derivative<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        let one = simd.splat(1.0);
        match self {
            // s * (1 + x * (1 - s)) with s = 1 / (1 + exp(-x)).
            Curve::Silu => {
                let minus = simd.splat(-1.0);
                let sigmoid = simd.div(one, simd.add(simd.exp(simd.mul(x, minus)), one));
                let inner = simd.mul_add(x, simd.mul_add(sigmoid, minus, one), one);
                simd.mul(sigmoid, inner)
            }
            // x / 3 + 1 / 2 between -3 and 3, then 1.
            Curve::HardSwish => {
                let three = simd.splat(3.0);
                let ramp = simd.mul_add(x, simd.splat(1.0 / 3.0), simd.splat(0.5));
                let ramp = simd.between(simd.splat(-3.0), x, three, ramp);
                // The ramp ends below the next number after 3; from there on the slope is 1.
                let below = simd.splat(3.0f32.next_down());
                simd.add(ramp, simd.between(below, x, simd.splat(f32::INFINITY), one))
            }
            Curve::Gelu => gelu_derivative(simd, x),
            // s * (1 - s).
            Curve::Sigmoid => {
                let s = sigmoid(simd, x);
                simd.mul_add(simd.mul(s, simd.splat(-1.0)), s, s)
            }
            Curve::HardSigmoid => simd.between(simd.splat(-3.0), x, simd.splat(3.0), simd.splat(1.0 / 6.0)),
            // 1 - t * t.
            Curve::Tanh => {
                let t = tanh(simd, x);
                simd.mul_add(simd.mul(t, simd.splat(-1.0)), t, one)
            }
        }
    }
}

/// The gradient before a convolution's norm and activation, as an affine function of two tensors.
#[derive(Debug)]
pub(crate) struct NormGradient {
    /// `dy = of_gradient * g + of_y * y + constant`; channels filled up to whole vectors.
    of_gradient: Vec<f32>,
    of_y: Vec<f32>,
    constant: Vec<f32>,
    /// `sum(g * xhat)` and `sum(g)`: the gradients of gamma and beta.
    pub(crate) gamma: Vec<f32>,
    pub(crate) beta: Vec<f32>,
    /// The gradient before the activation, blocked.
    pub(crate) gradient: Pooled,
}

impl NormGradient {
    /// From the sums of `gradient` over the batch.
    pub(crate) fn new(parts: &Parts, norm: &Norm, gradient: Pooled) -> Self {
        let channels = norm.mean.len();
        let filled = norm.scale.len();
        let zeros = || vec![0.0; filled];
        let mut this = Self {
            of_gradient: norm.scale.clone(),
            of_y: zeros(),
            constant: zeros(),
            gamma: vec![0.0; channels],
            beta: vec![0.0; channels],
            gradient,
        };
        if norm.is_bias {
            let sums = parts.sum(channels).into_iter().map(|(sum, _)| sum as f32);
            return Self { gamma: Vec::new(), beta: sums.collect(), ..this };
        }
        let count = parts.count() as f64;
        for (channel, (sum, product)) in parts.sum(channels).into_iter().enumerate() {
            let [scale, rstd, offset] =
                [norm.scale[channel], norm.rstd[channel], norm.offset[channel]].map(f64::from);
            let slope = -scale * product / count;
            this.of_y[channel] = (slope * rstd) as f32;
            this.constant[channel] = (slope * offset - scale * sum / count) as f32;
            this.gamma[channel] = product as f32;
            this.beta[channel] = sum as f32;
        }
        this
    }

    /// `dy` of pixels of one block of channels: `[pixels, LANES]`.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub(crate) fn reach<S: Simd>(&self, simd: S, plane: usize, gradient: &[f32], y: &[f32], dy: &mut [f32]) {
        assert!(gradient.len() == y.len() && y.len() == dy.len());
        simd.vectorize(
            #[inline(always)]
            || {
                let at = |values: &[f32]| {
                    let values = &values[plane * S::LANES..][..S::LANES];
                    // SAFETY: the slice is one vector long.
                    unsafe { simd.load(values.as_ptr()) }
                };
                let (of_gradient, of_y) = (at(&self.of_gradient), at(&self.of_y));
                let constant = at(&self.constant);
                let pairs = gradient.chunks_exact(S::LANES).zip(y.chunks_exact(S::LANES));
                for ((gradient, y), dy) in pairs.zip(dy.chunks_exact_mut(S::LANES)) {
                    // SAFETY: the chunks are one vector long.
                    unsafe {
                        let affine = simd.mul_add(simd.load(y.as_ptr()), of_y, constant);
                        simd.store(
                            dy.as_mut_ptr(),
                            simd.mul_add(simd.load(gradient.as_ptr()), of_gradient, affine),
                        );
                    }
                }
            },
        );
    }
}
