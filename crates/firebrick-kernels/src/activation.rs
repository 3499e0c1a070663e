//! Activation functions, applied where a result leaves the registers.

use crate::simd::Simd;

/// What is applied to the result of a convolution or linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
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
        }
    }
}
