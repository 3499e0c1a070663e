//! Activation functions of burn's operations.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
use firebrick_kernels::Activation;

/// The activation, as the reference of the operations that have one.
pub(crate) fn activate<B: Backend>(x: FloatTensor<B>, activation: Activation) -> FloatTensor<B> {
    match activation {
        Activation::None => x,
        Activation::Relu => B::relu(x),
        Activation::Relu6 => B::float_clamp(x, 0.0.into(), 6.0.into()),
        // Not burn's own sigmoid, which computes in f32 whatever the type.
        Activation::Silu => {
            let tanh = B::float_tanh(B::float_mul_scalar(x.clone(), 0.5.into()));
            B::float_mul(x, B::float_mul_scalar(B::float_add_scalar(tanh, 1.0.into()), 0.5.into()))
        }
        Activation::HardSwish => {
            let gate = B::float_clamp(B::float_add_scalar(x.clone(), 3.0.into()), 0.0.into(), 6.0.into());
            B::float_mul(x, B::float_mul_scalar(gate, (1.0 / 6.0).into()))
        }
        // Not burn's own, whose gradient is that of an approximation: 3e-4 off at 0.7.
        Activation::Gelu => {
            let erf = B::float_erf(B::float_mul_scalar(x.clone(), std::f64::consts::FRAC_1_SQRT_2.into()));
            B::float_mul(B::float_mul_scalar(x, 0.5.into()), B::float_add_scalar(erf, 1.0.into()))
        }
        Activation::Sigmoid => {
            let tanh = B::float_tanh(B::float_mul_scalar(x, 0.5.into()));
            B::float_mul_scalar(B::float_add_scalar(tanh, 1.0.into()), 0.5.into())
        }
        Activation::HardSigmoid => {
            let gate = B::float_clamp(B::float_add_scalar(x, 3.0.into()), 0.0.into(), 6.0.into());
            B::float_mul_scalar(gate, (1.0 / 6.0).into())
        }
        Activation::Tanh => B::float_tanh(x),
    }
}
