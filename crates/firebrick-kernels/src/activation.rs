//! Activation functions, applied where a result leaves the registers.

use crate::simd::Simd;

/// What is applied to the result of a convolution or linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Activation {
    /// `x`.
    #[default]
    None,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`, of MobileNetV2.
    Relu6,
    /// `x / (1 + exp(-x))`, of Elfwing et al. 2017; also called swish.
    Silu,
    /// `x * min(max(x + 3, 0), 6) / 6`, of MobileNetV3.
    HardSwish,
    /// `x * (1 + erf(x / sqrt(2))) / 2`, of Hendrycks and Gimpel 2016, within 2e-7; not the approximation by `tanh`.
    Gelu,
    /// `1 / (1 + exp(-x))`, within 2e-7.
    Sigmoid,
    /// `min(max(x + 3, 0), 6) / 6`, of MobileNetV3's gates; PyTorch's and Keras 3's `hard_sigmoid`.
    HardSigmoid,
    /// `(exp(x) - exp(-x)) / (exp(x) + exp(-x))`, within 2e-7.
    Tanh,
}

/// An activation as the kernels apply it: bounds, which cost two instructions and are always applied, then a curve, if any.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finish {
    pub(crate) lowest: f32,
    pub(crate) highest: f32,
    pub(crate) curve: Option<Curve>,
}

/// An activation that is more than a pair of bounds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Curve {
    Silu,
    HardSwish,
    Gelu,
    Sigmoid,
    HardSigmoid,
    Tanh,
}

impl Finish {
    /// Leaves every value as it is.
    pub(crate) const NOTHING: Finish =
        Finish { lowest: f32::NEG_INFINITY, highest: f32::INFINITY, curve: None };

    pub(crate) fn of(activation: Activation) -> Finish {
        match activation {
            Activation::None => Finish::NOTHING,
            Activation::Relu => Finish { lowest: 0.0, ..Finish::NOTHING },
            Activation::Relu6 => Finish { lowest: 0.0, highest: 6.0, curve: None },
            Activation::Silu => Finish { curve: Some(Curve::Silu), ..Finish::NOTHING },
            Activation::HardSwish => Finish { curve: Some(Curve::HardSwish), ..Finish::NOTHING },
            Activation::Gelu => Finish { curve: Some(Curve::Gelu), ..Finish::NOTHING },
            Activation::Sigmoid => Finish { curve: Some(Curve::Sigmoid), ..Finish::NOTHING },
            Activation::HardSigmoid => Finish { curve: Some(Curve::HardSigmoid), ..Finish::NOTHING },
            Activation::Tanh => Finish { curve: Some(Curve::Tanh), ..Finish::NOTHING },
        }
    }
}

impl Finish {
    /// Bounds, then the curve.
    #[inline(always)]
    pub(crate) fn apply<S: Simd>(&self, simd: S, x: S::Vector) -> S::Vector {
        let bounded = simd.at_most(simd.splat(self.highest), simd.at_least(simd.splat(self.lowest), x));
        match self.curve {
            Some(curve) => curve.apply(simd, bounded),
            None => bounded,
        }
    }
}

impl Curve {
    #[inline(always)]
    pub(crate) fn apply<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        match self {
            Curve::Silu => {
                let exp = simd.exp(simd.mul(x, simd.splat(-1.0)));
                simd.div(x, simd.add(exp, simd.splat(1.0)))
            }
            Curve::HardSwish => {
                let gate = simd.at_least(simd.splat(0.0), simd.add(x, simd.splat(3.0)));
                simd.mul(x, simd.mul(simd.at_most(simd.splat(6.0), gate), simd.splat(1.0 / 6.0)))
            }
            Curve::Gelu => gelu(simd, x),
            Curve::Sigmoid => sigmoid(simd, x),
            Curve::HardSigmoid => {
                let gate = simd.at_least(simd.splat(0.0), simd.add(x, simd.splat(3.0)));
                simd.mul(simd.at_most(simd.splat(6.0), gate), simd.splat(1.0 / 6.0))
            }
            Curve::Tanh => tanh(simd, x),
        }
    }
}

#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let one = simd.splat(1.0);
    simd.div(one, simd.add(simd.exp(simd.mul(x, simd.splat(-1.0))), one))
}

/// `(1 - e) / (1 + e)` with `e = exp(-2 x)`; where `exp` ends at its bounds, the quotient is 1 or -1 already.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let one = simd.splat(1.0);
    let e = simd.exp(simd.mul(x, simd.splat(-2.0)));
    simd.div(simd.mul_add(e, simd.splat(-1.0), one), simd.add(e, one))
}

/// `max(x, 0) - |x| Q(|x|)`, where `Q` is the upper tail of the normal distribution: neither side of zero subtracts values
/// that are nearly equal, and no division is needed. Beyond 6, where the tail is less than 1e-8, the product stays what it is at 6.
#[inline(always)]
fn gelu<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let magnitude = simd.at_least(simd.mul(x, simd.splat(-1.0)), x);
    let tail_at = simd.at_most(simd.splat(6.0), magnitude);
    let share = simd.mul(tail_at, simd.splat(-1.0));
    simd.mul_add(share, normal_tail(simd, tail_at), simd.at_least(simd.splat(0.0), x))
}

/// `Phi(x) + x phi(x)`: the normal distribution and `x` times its density.
#[inline(always)]
pub(crate) fn gelu_derivative<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    const DENSITY_AT_0: f32 = 0.398_942_3;
    // Beyond 13 either part is what it is at 13.
    let x = simd.at_most(simd.splat(13.0), simd.at_least(simd.splat(-13.0), x));
    let magnitude = simd.at_least(simd.mul(x, simd.splat(-1.0)), x);
    let tail = normal_tail(simd, simd.at_most(simd.splat(6.0), magnitude));
    // The tail itself below zero, what it lacks of 1 above.
    let mirrored = simd.mul_add(tail, simd.splat(-2.0), simd.splat(1.0));
    let above = simd.between(simd.splat(0.0), x, simd.splat(f32::INFINITY), mirrored);
    let density = simd.exp(simd.mul(simd.mul(x, x), simd.splat(-0.5)));
    let moment = simd.mul(x, simd.mul(density, simd.splat(DENSITY_AT_0)));
    simd.add(simd.add(tail, above), moment)
}

/// The upper tail of the normal distribution at `a` between 0 and 6.
///
/// Its logarithm is close to a parabola, so that a polynomial of low degree has it.
#[inline(always)]
fn normal_tail<S: Simd>(simd: S, a: S::Vector) -> S::Vector {
    /// The polynomial of degree 7 next to `log2 Q(a)` on `[0, 6]`, exact at 0; its largest deviation, weighted with what it means
    /// for GELU, is 4e-8. Fitted by reweighted least squares in f64; highest power first.
    const LOG2_TAIL: [f32; 8] = [
        4.278_76e-6,
        -1.279_839_3e-5,
        -5.757_854e-4,
        7.670_782e-3,
        -5.294_856e-2,
        -0.459_043_92,
        -1.151_127,
        -1.0,
    ];
    let mut log2_tail = simd.splat(LOG2_TAIL[0]);
    for coefficient in &LOG2_TAIL[1..] {
        log2_tail = simd.mul_add(log2_tail, a, simd.splat(*coefficient));
    }
    simd.exp2(log2_tail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::activate;
    use crate::simd::Scalar;

    #[test]
    fn gelu_is_within_its_promise_of_the_exact_form() {
        let simd = Scalar::<1>;
        let mut largest: f64 = 0.0;
        for step in -200_000..=200_000 {
            let x = step as f32 / 16_384.0;
            let [actual] = gelu(simd, [x]);
            let expected = activate(Activation::Gelu, f64::from(x));
            largest = largest.max((f64::from(actual) - expected).abs() / expected.abs().max(1.0));
        }
        assert!(largest < 2e-7, "the largest error is {largest}");
        assert_eq!(gelu(simd, [f32::INFINITY]), [f32::INFINITY]);
        assert!(gelu(simd, [f32::NEG_INFINITY])[0].abs() < 1e-8);
        assert_eq!(gelu(simd, [0.0]), [0.0]);
    }

    #[test]
    fn the_gates_are_within_their_promise_of_the_exact_forms() {
        let simd = Scalar::<1>;
        for step in -100_000..=100_000 {
            let x = step as f32 / 1000.0;
            for activation in [Activation::Sigmoid, Activation::HardSigmoid, Activation::Tanh] {
                let [actual] = Finish::of(activation).apply(simd, [x]);
                let expected = activate(activation, f64::from(x));
                let error = (f64::from(actual) - expected).abs();
                assert!(error < 2e-7, "{activation:?} of {x} is {actual}, not {expected}");
            }
        }
        assert_eq!(tanh(simd, [f32::INFINITY]), [1.0]);
        assert_eq!(tanh(simd, [f32::NEG_INFINITY]), [-1.0]);
        assert_eq!(sigmoid(simd, [f32::INFINITY]), [1.0]);
    }

    #[test]
    fn the_derivative_of_gelu_is_its_slope() {
        let simd = Scalar::<1>;
        for step in -20_000..=20_000 {
            let x = step as f32 / 1024.0;
            let [actual] = gelu_derivative(simd, [x]);
            let value = |x: f64| activate(Activation::Gelu, x);
            let expected = (value(f64::from(x) + 1e-5) - value(f64::from(x) - 1e-5)) / 2e-5;
            assert!((f64::from(actual) - expected).abs() < 1e-6, "at {x}: {actual}, not {expected}");
        }
        assert_eq!(gelu_derivative(simd, [f32::INFINITY]), [1.0]);
        assert!(gelu_derivative(simd, [f32::NAN])[0].is_nan());
    }
}
