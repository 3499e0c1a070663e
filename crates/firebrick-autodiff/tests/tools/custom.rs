//! Functions whose gradient the caller writes.

use burn::tensor::{Device, Tensor};
use firebrick_autodiff::{CustomGradient, gradient_reversal, straight_through};

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

#[test]
fn a_step_passes_the_gradient_straight_through() {
    for device in crate::devices() {
        let x = Tensor::<1>::from_floats([0.2, 1.7, -2.4], &device.autodiff()).require_grad();
        let y = straight_through(x.clone(), Tensor::round);
        assert_eq!(read(y.clone()), [0.0, 2.0, -2.0]);
        let gradients = (y * 3.0).sum().backward();
        assert_eq!(read(x.grad(&gradients).unwrap()), [3.0; 3]);
    }
}

#[test]
fn a_reversal_turns_the_gradient_around() {
    for device in crate::devices() {
        let x = Tensor::<2>::from_floats([[1.0, 2.0]], &device.autodiff()).require_grad();
        let y = gradient_reversal(x.clone(), 0.5);
        assert_eq!(read(y.clone()), [1.0, 2.0]);
        let gradients = (y.powi_scalar(2)).sum().backward();
        assert_eq!(read(x.grad(&gradients).unwrap()), [-1.0, -2.0]);
    }
}

/// The sum of inputs of different ranks, some frozen, with the gradient `index + 1` for input `index`.
fn sum_of(count: usize, device: &Device) {
    let tracked = device.clone().autodiff();
    let leaf = |index: usize| {
        let leaf = Tensor::<2>::ones([2, 3], &tracked);
        if index % 3 == 1 { leaf } else { leaf.require_grad() }
    };
    let leaves: Vec<Tensor<2>> = (0..count).map(leaf).collect();
    let mut builder = CustomGradient::of(Tensor::<1>::ones([3], device));
    for leaf in &leaves {
        builder = builder.and(leaf.clone());
    }
    let y: Tensor<2> = builder.apply(
        |inputs| {
            let first = inputs.tensor::<1>(0).unsqueeze::<2>().expand([2, 3]);
            (1..inputs.len()).fold(first, |sum, index| sum + inputs.tensor::<2>(index))
        },
        |inputs, _output, grad| {
            let rest = (1..inputs.len()).map(|index| (grad.clone() * index as f64).into());
            std::iter::once(inputs.tensor::<1>(0).into()).chain(rest).collect()
        },
    );
    assert_eq!(read(y.clone()), [1.0 + count as f32; 6]);
    let gradients = y.sum().backward();
    for (index, leaf) in leaves.iter().enumerate() {
        let gradient = leaf.grad(&gradients).map(read);
        let expected = (index % 3 != 1).then(|| vec![index as f32 + 1.0; 6]);
        assert_eq!(gradient, expected, "input {index} of {count}");
    }
}

#[test]
fn may_have_any_number_of_inputs() {
    for device in crate::devices() {
        for count in [1, 14, 15, 16, 29, 30, 31, 100] {
            sum_of(count, &device);
        }
    }
}

#[test]
fn computes_without_a_tape() {
    let x = Tensor::<1>::from_floats([4.0], &Device::ndarray());
    let y: Tensor<1> =
        CustomGradient::of(x).apply(|inputs| inputs.tensor::<1>(0).sqrt(), |_, _, _| unreachable!());
    assert_eq!(read(y), [2.0]);
}

#[test]
#[should_panic(expected = "a custom gradient of input 0 has another shape than it")]
fn refuses_a_gradient_of_another_shape() {
    let x = Tensor::<1>::ones([3], &Device::ndarray().autodiff()).require_grad();
    let y: Tensor<1> =
        CustomGradient::of(x).apply(|inputs| inputs.tensor::<1>(0).sum(), |_, _, grad| vec![grad.into()]);
    y.backward();
}

#[test]
#[should_panic(expected = "a tensor of the shape [3] was asked for as one of 2 axes")]
fn refuses_another_rank() {
    let x = Tensor::<1>::ones([3], &Device::ndarray());
    let _: Tensor<2> = CustomGradient::of(x).apply(|inputs| inputs.tensor(0), |_, _, _| vec![]);
}
