//! Layer normalisation against its reference, over odd shapes and layouts.

use crate::agreement::{agrees, check, values};
use burn::tensor::{Device, Tensor};
use firebrick_autodiff::layer_norm;

#[test]
fn agrees_over_odd_shapes() {
    for [a, b, length] in [[1, 1, 1], [1, 1, 5], [3, 1, 8], [2, 3, 17], [4, 5, 33], [1, 600, 31], [2, 2, 384]]
    {
        let inputs = [values(a * b * length, 1), values(length, 2), values(length, 3)];
        agrees(&format!("[{a}, {b}, {length}]"), 5e-5, &inputs, |inputs| {
            let x = inputs[0].clone().reshape([a, b, length]);
            layer_norm(x, inputs[1].clone(), inputs[2].clone(), 1e-3).flatten(0, 2)
        });
    }
}

#[test]
fn agrees_for_tensors_that_are_not_contiguous() {
    let inputs = [values(2 * 6 * 4 * 10, 4), values(5, 5), values(5, 6)];
    let normed = |x: Tensor<4>, inputs: &[Tensor<1>]| {
        layer_norm(x, inputs[1].clone(), inputs[2].clone(), 1e-5).flatten::<1>(0, 3)
    };
    let x = |inputs: &[Tensor<1>]| inputs[0].clone().reshape([2, 6, 4, 10]);
    agrees("permuted, last axis dense", 5e-5, &inputs, |inputs| {
        normed(x(inputs).permute([2, 0, 1, 3]).slice([0..4, 0..2, 0..6, 0..5]), inputs)
    });
    agrees("permuted, dense in another order", 5e-5, &inputs, |inputs| {
        normed(inputs[0].clone().reshape([2, 6, 8, 5]).permute([2, 0, 1, 3]), inputs)
    });
    agrees("last axis strided", 5e-5, &inputs, |inputs| {
        normed(inputs[0].clone().reshape([2, 5, 8, 6]).permute([0, 3, 2, 1]), inputs)
    });
    agrees("repeated and flipped", 5e-5, &inputs, |inputs| {
        let x = inputs[0].clone().reshape([2, 6, 8, 5]).slice([0..2, 0..6, 0..1, 0..5]);
        normed(x.expand([2, 6, 3, 5]).flip([1]), inputs)
    });
}

#[test]
fn gives_no_gradient_to_what_is_frozen() {
    let device = Device::ndarray().autodiff();
    let x = Tensor::<2>::from_floats([[1.0, 2.0, 4.0]], &device).require_grad();
    let (gamma, beta) = (Tensor::ones([3], &device), Tensor::zeros([3], &device).require_grad());
    let gradients = layer_norm(x.clone(), gamma.clone(), beta.clone(), 1e-5).sum().backward();
    assert!(gamma.grad(&gradients).is_none());
    assert_eq!(beta.grad(&gradients).unwrap().into_data().try_to_vec::<f32>().unwrap(), [1.0; 3]);
    assert!(x.grad(&gradients).is_some());
}

#[test]
#[should_panic(expected = "layer_norm: gamma has the shape [2], not [3]")]
fn refuses_a_gamma_of_another_length() {
    let device = Device::ndarray();
    layer_norm::<2>(
        Tensor::ones([4, 3], &device),
        Tensor::ones([2], &device),
        Tensor::ones([3], &device),
        1e-5,
    );
}

#[test]
#[should_panic(expected = "layer_norm: the input is empty: its shape is [0, 3]")]
fn refuses_an_empty_batch() {
    let device = Device::ndarray();
    layer_norm::<2>(
        Tensor::ones([0, 3], &device),
        Tensor::ones([3], &device),
        Tensor::ones([3], &device),
        1e-5,
    );
}

#[test]
fn its_gradient_is_that_of_differences() {
    check(&[("x", &[3, 5]), ("gamma", &[5]), ("beta", &[5])], |inputs| {
        layer_norm(inputs.tensor::<2>(0), inputs.tensor(1), inputs.tensor(2), 1e-3)
    });
}
