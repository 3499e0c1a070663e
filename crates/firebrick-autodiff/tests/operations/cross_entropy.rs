//! Cross-entropy with hard and soft targets.

use crate::agreement::{agrees, check, values};
use burn::tensor::{Device, Int, Tensor};
use firebrick_autodiff::{cross_entropy, soft_cross_entropy};

/// Target classes of a batch, on the device of `like`.
fn classes(batch: usize, count: usize, like: &Tensor<2>) -> Tensor<1, Int> {
    let classes: Vec<i32> = (0..batch).map(|row| (row * 5 % count) as i32).collect();
    Tensor::from_data(classes.as_slice(), &like.device())
}

#[test]
fn agrees_with_classes() {
    for (batch, count) in [(1, 1), (3, 2), (2, 10), (33, 17), (7, 1000)] {
        agrees(&format!("{batch} x {count}"), 5e-6, &[values(batch * count, 1)], |inputs| {
            let logits = inputs[0].clone().reshape([batch, count]);
            let targets = classes(batch, count, &logits);
            cross_entropy(logits, targets)
        });
    }
}

#[test]
fn agrees_with_shares_and_differentiates_them() {
    for (batch, count) in [(1, 1), (3, 2), (2, 10), (33, 17), (7, 1000)] {
        let inputs = [values(batch * count, 1), values(batch * count, 2)];
        agrees(&format!("{batch} x {count}"), 5e-6, &inputs, |inputs| {
            let [logits, targets] = [0, 1].map(|i: usize| inputs[i].clone().reshape([batch, count]));
            soft_cross_entropy(logits, targets.abs())
        });
    }
}

#[test]
fn agrees_for_logits_that_are_transposed() {
    agrees("transposed", 5e-6, &[values(6 * 5, 3)], |inputs| {
        let logits = inputs[0].clone().reshape([5, 6]).transpose();
        let targets = classes(6, 5, &logits);
        cross_entropy(logits, targets)
    });
}

#[test]
fn its_gradient_is_that_of_differences() {
    check(&[("logits", &[4, 3])], |inputs| {
        let logits = inputs.tensor::<2>(0);
        let targets = classes(4, 3, &logits);
        cross_entropy(logits, targets)
    });
    check(&[("logits", &[4, 3]), ("targets", &[4, 3])], |inputs| {
        soft_cross_entropy(inputs.tensor(0), inputs.tensor(1))
    });
}

#[test]
fn stays_finite_for_a_hopeless_logit() {
    for (name, device) in crate::agreement::devices() {
        let device = device.autodiff();
        let logits = Tensor::<2>::from_floats([[1000.0, -1000.0]], &device).require_grad();
        let loss = cross_entropy(logits.clone(), Tensor::from_ints([1], &device));
        let gradient = logits.grad(&loss.backward()).expect("tracked").into_data();
        assert_eq!(loss.into_scalar::<f32>(), 2000.0, "{name}");
        assert_eq!(gradient.try_to_vec::<f32>().unwrap(), [1.0, -1.0], "{name}");
    }
}

#[test]
#[should_panic(expected = "cross_entropy: target 1 is class 3 of 3")]
fn refuses_a_class_that_does_not_exist() {
    let device = Device::ndarray();
    cross_entropy(Tensor::zeros([2, 3], &device), Tensor::from_ints([2, 3], &device));
}

#[test]
#[should_panic(expected = "cross_entropy: target 0 is class -1")]
fn refuses_a_negative_class() {
    let device = Device::ndarray();
    cross_entropy(Tensor::zeros([1, 3], &device), Tensor::from_ints([-1], &device));
}
