//! A linear layer with its activation.

use crate::agreement::{agrees, check, values};
use burn::tensor::{Device, Tensor};
use firebrick_autodiff::{Activation, linear};

const ACTIVATIONS: [Activation; 6] = [
    Activation::None,
    Activation::Relu,
    Activation::Relu6,
    Activation::Silu,
    Activation::HardSwish,
    Activation::Gelu,
];

#[test]
fn agrees_with_every_activation() {
    for activation in ACTIVATIONS {
        for [a, b, inputs, outputs] in [[1, 1, 1, 1], [2, 3, 5, 7], [1, 130, 33, 40], [3, 1, 64, 10]] {
            let tensors = [values(a * b * inputs, 1), values(inputs * outputs, 2), values(outputs, 3)];
            agrees(&format!("{activation:?} of [{a}, {b}, {inputs}] to {outputs}"), 2e-5, &tensors, |t| {
                let x = t[0].clone().reshape([a, b, inputs]);
                let weight = t[1].clone().reshape([inputs, outputs]);
                linear(x, weight, Some(t[2].clone()), activation).flatten(0, 2)
            });
        }
    }
}

#[test]
fn agrees_without_bias_and_for_weights_of_pytorch() {
    let tensors = [values(6 * 8, 4), values(8 * 9, 5)];
    for activation in [Activation::None, Activation::Relu, Activation::Gelu] {
        agrees("no bias", 1e-5, &tensors, |t| {
            linear(t[0].clone().reshape([6, 8]), t[1].clone().reshape([8, 9]), None, activation).flatten(0, 1)
        });
        agrees("outputs first", 1e-5, &tensors, |t| {
            let weight = t[1].clone().reshape([9, 8]).transpose();
            linear(t[0].clone().reshape([6, 8]), weight, None, activation).flatten(0, 1)
        });
        agrees("transposed and permuted input", 1e-5, &tensors, |t| {
            let x = t[0].clone().reshape([2, 8, 3]).permute([2, 0, 1]);
            linear(x, t[1].clone().reshape([8, 9]), None, activation).flatten(0, 2)
        });
    }
}

#[test]
fn its_gradient_is_that_of_differences() {
    for activation in ACTIVATIONS {
        check(&[("x", &[3, 4]), ("weight", &[4, 5]), ("bias", &[5])], |inputs| {
            linear(inputs.tensor::<2>(0), inputs.tensor(1), Some(inputs.tensor(2)), activation)
        });
    }
}

#[test]
#[should_panic(expected = "linear: weight has the shape [4, 5], not [3, 5]")]
fn refuses_a_weight_of_other_inputs() {
    let device = Device::ndarray();
    linear::<2>(Tensor::ones([2, 3], &device), Tensor::ones([4, 5], &device), None, Activation::None);
}
