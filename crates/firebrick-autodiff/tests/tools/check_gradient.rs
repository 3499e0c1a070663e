//! Checking gradients: right ones pass, wrong ones are found and named.

use burn::tensor::{DType, Device, Tensor, TensorData};
use firebrick_autodiff::{CustomGradient, GradientCheck, GradientError, Inputs, check_gradient};

fn inputs() -> [(&'static str, TensorData); 2] {
    [
        ("x", TensorData::from([[0.3, -1.2, 2.0], [0.7, 0.1, -0.4]])),
        ("weight", TensorData::from([[1.0, 0.5], [-0.3, 2.0], [0.2, -1.5]])),
    ]
}

fn check<const D: usize>(function: impl Fn(&Inputs) -> Tensor<D>) -> Result<(), GradientError> {
    for device in crate::devices() {
        check_gradient(&device, &inputs(), GradientCheck::default(), &function)?;
    }
    Ok(())
}

/// `x · weight`, whose gradient of `weight` is wrong in one element.
fn product_with_a_mistake(inputs: &Inputs, mistake: f64) -> Tensor<2> {
    CustomGradient::of(inputs.tensor::<2>(0)).and(inputs.tensor::<2>(1)).apply(
        |inputs| inputs.tensor::<2>(0).matmul(inputs.tensor(1)),
        move |inputs, _output, grad: Tensor<2>| {
            let of_x = grad.clone().matmul(inputs.tensor::<2>(1).transpose());
            let of_weight = inputs.tensor::<2>(0).transpose().matmul(grad);
            let place = of_weight.clone().slice([2..3, 1..2]);
            let of_weight = of_weight.slice_assign([2..3, 1..2], place * (1.0 + mistake));
            vec![of_x.into(), of_weight.into()]
        },
    )
}

#[test]
fn accepts_a_right_gradient() {
    check(|inputs| inputs.tensor::<2>(0).matmul(inputs.tensor(1)).tanh()).unwrap();
    check(|inputs| inputs.tensor::<2>(0).matmul(inputs.tensor(1)).exp().sum()).unwrap();
    check(|inputs| product_with_a_mistake(inputs, 0.0)).unwrap();
}

#[test]
fn names_the_element_of_a_wrong_gradient() {
    let error = check(|inputs| product_with_a_mistake(inputs, 1e-4)).unwrap_err();
    let GradientError::Differs { input, element, numeric, analytic } = &error else {
        panic!("{error}");
    };
    assert_eq!((input.as_str(), element.as_slice()), ("weight", &[2, 1][..]));
    assert!((analytic / numeric - 1.0001).abs() < 1e-7, "{error}");
    assert!(error.to_string().contains("weight[2, 1]"), "{error}");
}

#[test]
fn finds_a_gradient_that_does_not_arrive() {
    let error = check(|inputs| inputs.tensor::<2>(0).matmul(inputs.tensor::<2>(1).detach())).unwrap_err();
    let GradientError::Differs { input, analytic, .. } = &error else { panic!("{error}") };
    assert_eq!((input.as_str(), *analytic), ("weight", 0.0));
}

#[test]
fn finds_a_gradient_that_is_not_a_number() {
    // The derivative of the root at 0, times 0.
    let inputs = [("x", TensorData::from([0.0]))];
    let error = check_gradient(&Device::ndarray(), &inputs, GradientCheck::default(), |inputs| {
        inputs.tensor::<1>(0).powi_scalar(2).sqrt()
    });
    assert!(matches!(error, Err(GradientError::Differs { .. })), "{error:?}");
}

#[test]
fn a_function_that_depends_on_nothing_has_the_gradient_zero() {
    check(|inputs| inputs.tensor::<2>(0).zeros_like()).unwrap();
}

#[test]
fn says_why_nothing_can_be_said() {
    let error = check(|inputs| inputs.tensor::<2>(0).log()).unwrap_err();
    assert!(matches!(error, GradientError::NotFinite { .. }), "{error}");
    let error = check(|inputs| inputs.tensor::<2>(0).cast(DType::F32)).unwrap_err();
    assert!(matches!(error, GradientError::NotF64 { .. }), "{error}");
    let calls = std::sync::atomic::AtomicU32::new(0);
    let error = check(|inputs| {
        let call = calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        inputs.tensor::<2>(0) + f64::from(call)
    });
    assert!(matches!(error, Err(GradientError::NotDeterministic { .. })), "{error:?}");
}
