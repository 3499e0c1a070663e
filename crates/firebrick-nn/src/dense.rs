//! A dense layer with its activation, as one operation.

use burn::nn::Linear;
use burn::tensor::Tensor;
use firebrick_autodiff::{Activation, linear};

/// `activation(x · weight + bias)` over the last axis, of burn's layer: `[..., inputs]` to `[..., outputs]`. One operation of
/// firebrick-autodiff, where burn's own `forward` and an activation are three.
///
/// # Panics
/// If `x` is empty or its last axis has another length than the layer's inputs.
pub fn dense<const D: usize>(layer: &Linear, x: Tensor<D>, activation: impl Into<Activation>) -> Tensor<D> {
    let bias = layer.bias.as_ref().map(|bias| bias.val());
    linear(x, layer.weight.val(), bias, activation.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;
    use burn::tensor::{Device, Tolerance, activation::relu};

    #[test]
    fn is_burns_layer_and_the_activation() {
        #[allow(deprecated)]
        let device = Device::ndarray();
        let layer = LinearConfig::new(5, 7).init(&device);
        let x = Tensor::<2>::random([3, 5], burn::tensor::Distribution::Default, &device);
        let expected = relu(layer.forward(x.clone()));
        let actual = dense(&layer, x, crate::Activation::Relu);
        actual.into_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-6));
    }
}
