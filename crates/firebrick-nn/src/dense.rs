//! A dense layer with its activation, as one operation.

use burn::nn::Linear;
use burn::tensor::Tensor;
use firebrick_autodiff::linear;

use crate::Activation;

/// `activation(x · weight + bias)` over the last axis, of burn's layer: `[..., inputs]` to `[..., outputs]`. One operation of
/// firebrick-autodiff, where burn's own `forward` and an activation are three; two for an activation that is not fused.
///
/// # Panics
/// If `x` is empty or its last axis has another length than the layer's inputs.
pub fn dense<const D: usize>(layer: &Linear, x: Tensor<D>, activation: Activation) -> Tensor<D> {
    let bias = layer.bias.as_ref().map(|bias| bias.val());
    match activation.fused() {
        Some(fused) => linear(x, layer.weight.val(), bias, fused),
        None => activation.forward(linear(x, layer.weight.val(), bias, firebrick_autodiff::Activation::None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;
    use burn::tensor::{Device, Tolerance};

    #[test]
    fn is_burns_layer_and_the_activation() {
        #[allow(deprecated)]
        let device = Device::ndarray();
        let layer = LinearConfig::new(5, 7).init(&device);
        let x = Tensor::<2>::random([3, 5], burn::tensor::Distribution::Default, &device);
        for activation in Activation::ALL {
            let expected = activation.forward(layer.forward(x.clone()));
            let actual = dense(&layer, x.clone(), activation);
            actual.into_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-6));
        }
    }
}
