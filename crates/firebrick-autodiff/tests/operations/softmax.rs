//! Softmax.

use crate::agreement::{agrees, check, values};
use burn::tensor::{Device, Tensor};
use firebrick_autodiff::softmax;

#[test]
fn agrees_along_every_axis() {
    for dims in [[1, 1, 1], [2, 3, 4], [5, 1, 17], [3, 300, 33]] {
        for dim in 0..3 {
            let inputs = [values(dims.iter().product(), 1)];
            agrees(&format!("{dims:?} along {dim}"), 5e-6, &inputs, |inputs| {
                softmax(inputs[0].clone().reshape(dims), dim).flatten(0, 2)
            });
        }
    }
}

#[test]
fn agrees_for_tensors_that_are_not_contiguous() {
    let inputs = [values(4 * 6 * 10, 2)];
    agrees("permuted and cut", 5e-6, &inputs, |inputs| {
        let x = inputs[0].clone().reshape([4, 6, 10]).permute([1, 0, 2]).slice([0..6, 1..4, 2..9]);
        softmax(x, 2).flatten(0, 2)
    });
}

#[test]
fn its_gradient_is_that_of_differences() {
    check(&[("x", &[3, 5])], |inputs| softmax(inputs.tensor::<2>(0), 1));
    check(&[("x", &[3, 5])], |inputs| softmax(inputs.tensor::<2>(0), 0));
}

#[test]
#[should_panic(expected = "softmax: a tensor of 2 axes has no axis 2")]
fn refuses_an_axis_that_is_not_there() {
    softmax::<2>(Tensor::ones([2, 3], &Device::ndarray()), 2);
}
