//! Every loss against PyTorch or Keras, against f64 differences, and at its edges.

// The largest error of every case is printed: the table of docs/losses.md is read off it.
#![allow(clippy::print_stdout)]

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use firebrick_autodiff::{GradientCheck, check_gradient};
use serde::Deserialize;

use super::*;

#[allow(deprecated)]
fn device() -> Device {
    Device::ndarray()
}

#[derive(Deserialize)]
struct Golden {
    made_by: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    peer: String,
    settings: Settings,
    inputs: Vec<Input>,
    losses: Vec<f64>,
    mean: f64,
    sum: f64,
    gradient: Vec<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    label_smoothing: f64,
    class_weights: Option<Vec<f32>>,
    positive_weights: Option<Vec<f32>>,
    alpha: f64,
    gamma: f64,
    delta: f32,
    beta: f32,
    margin: f64,
    temperature: f64,
}

#[derive(Deserialize)]
struct Input {
    shape: Vec<usize>,
    values: Vec<f64>,
}

impl Input {
    fn tensor<const D: usize>(&self, device: &Device, dtype: DType) -> Tensor<D> {
        Tensor::from_data(TensorData::new(self.values.clone(), self.shape.clone()), (device, dtype))
    }

    fn classes(&self, device: &Device) -> Tensor<1, Int> {
        let classes: Vec<i32> = self.values.iter().map(|&class| class as i32).collect();
        Tensor::from_data(TensorData::new(classes, self.shape.clone()), device)
    }
}

/// The losses without reduction, their mean and their sum.
struct Losses {
    losses: Vec<f64>,
    mean: Tensor<1>,
    sum: f64,
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().try_to_vec().expect("just converted")
}

/// By the two calls of a loss: `$loss.forward($inputs.., reduction)` and `$loss.forward_no_reduction($inputs..)`.
macro_rules! of {
    ($loss:expr, $first:expr $(, $rest:expr)*) => {{
        let loss = $loss;
        Losses {
            losses: values(loss.forward_no_reduction($first $(, $rest)*)),
            mean: loss.forward($first $(, $rest)*, Reduction::Mean),
            sum: values(loss.forward($first $(, $rest)*, Reduction::Sum))[0],
        }
    }};
}

fn unreduced(losses: Tensor<1>) -> Losses {
    Losses { losses: values(losses.clone()), mean: losses.clone().mean(), sum: values(losses.sum())[0] }
}

impl Case {
    fn losses(&self, first: Tensor<2>, dtype: DType) -> Losses {
        let device = first.device();
        let second = || self.inputs[1].tensor::<2>(&device, dtype);
        let third = || self.inputs[2].tensor::<2>(&device, dtype);
        let first = || first.clone();
        let set = &self.settings;
        let cross_entropy =
            CrossEntropy { label_smoothing: set.label_smoothing, class_weights: set.class_weights.clone() };
        match self.name.as_str() {
            "cross_entropy" => of!(&cross_entropy, first(), self.inputs[1].classes(&device)),
            "soft_cross_entropy" => Losses {
                losses: values(cross_entropy.forward_soft_no_reduction(first(), second())),
                mean: cross_entropy.forward_soft(first(), second(), Reduction::Mean),
                sum: values(cross_entropy.forward_soft(first(), second(), Reduction::Sum))[0],
            },
            "cross_entropy_from_probabilities" => {
                unreduced(cross_entropy_from_probabilities(first(), second()))
            }
            "binary_cross_entropy" => {
                let positive_weights = set.positive_weights.clone();
                let loss = BinaryCrossEntropy { label_smoothing: set.label_smoothing, positive_weights };
                of!(loss, first(), second())
            }
            "binary_cross_entropy_from_probabilities" => {
                unreduced(binary_cross_entropy_from_probabilities(first(), second()))
            }
            "focal" => of!(Focal { alpha: set.alpha, gamma: set.gamma }, first(), second()),
            "binary_focal" => of!(BinaryFocal { alpha: set.alpha, gamma: set.gamma }, first(), second()),
            "mse" => of!(MseLoss::new(), first(), second()),
            "mae" => of!(MaeLoss, first(), second()),
            "huber" => of!(HuberLossConfig::new(set.delta).init(), first(), second()),
            "smooth_l1" => {
                let loss = SmoothL1LossConfig::new().with_beta(set.beta).init();
                let losses = loss.forward(first(), second());
                Losses {
                    losses: values(losses.clone()),
                    mean: losses.clone().mean(),
                    sum: values(loss.forward_with_reduction(first(), second(), Reduction::Sum))[0],
                }
            }
            "kl_divergence" => of!(KLDivLossConfig::new().init(), first(), second()),
            "cosine" => of!(CosineLoss, first(), second()),
            "cosine_embedding" => {
                let loss = CosineEmbeddingLossConfig::new().with_margin(set.margin as f32).init();
                let sign = self.inputs[2].classes(&device);
                let losses = loss.forward_no_reduction(first(), second(), sign);
                unreduced(losses)
            }
            "triplet" => {
                let loss = TripletMarginLossConfig::new().with_margin(set.margin).init();
                of!(loss, first(), second(), third())
            }
            "nt_xent" => of!(NtXent { temperature: set.temperature }, first(), second()),
            other => panic!("no loss is called {other}"),
        }
    }
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../tests/goldens/losses.json")).expect("valid JSON")
}

/// The greatest difference over the greatest size.
fn error(actual: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(actual.len(), expected.len());
    let scale = expected.iter().fold(1e-6f64, |scale, value| scale.max(value.abs()));
    actual.iter().zip(expected).map(|(a, b)| (a - b).abs() / scale).fold(0.0, f64::max)
}

#[test]
fn every_loss_and_its_gradient_are_the_peers() {
    let Golden { made_by, cases } = golden();
    let device = device().autodiff();
    assert!(cases.len() > 25);
    for case in &cases {
        let first = case.inputs[0].tensor::<2>(&device, DType::F32).require_grad();
        let losses = case.losses(first.clone(), DType::F32);
        let mean = values(losses.mean.clone())[0];
        let gradient = values(first.grad(&losses.mean.backward()).expect("the first input has a gradient"));
        let errors = [
            error(&losses.losses, &case.losses),
            error(&[mean], &[case.mean]),
            error(&[losses.sum], &[case.sum]),
            error(&gradient, &case.gradient),
        ];
        let largest = errors.into_iter().fold(0.0, f64::max);
        println!("{:40} {:38} {largest:.1e}", case.name, case.peer);
        assert!(largest < 1e-5, "{}, {}: {errors:?} (goldens: {made_by})", case.name, case.peer);
    }
}

#[test]
fn every_gradient_is_the_slope_in_f64() {
    for case in golden().cases {
        // Their derivatives jump or, far from the target, are smaller than a difference in f64 shows.
        let input = TensorData::new(case.inputs[0].values.clone(), case.inputs[0].shape.clone());
        if case.inputs[0].values.iter().any(|value| value.abs() > 20.0) {
            continue;
        }
        check_gradient(&device(), &[("first", input)], GradientCheck::default(), |inputs| {
            case.losses(inputs.tensor::<2>(0), DType::F64).mean
        })
        .unwrap_or_else(|error| panic!("{}, {}: {error}", case.name, case.peer));
    }
}

#[test]
fn losses_stay_finite_where_a_probability_is_zero_or_one() {
    let device = device().autodiff();
    let logits = || Tensor::<2>::from_floats([[200.0, -200.0], [-200.0, 200.0]], &device).require_grad();
    let targets = || Tensor::<2>::from_floats([[1.0, 0.0], [1.0, 0.0]], &device);
    type Loss = Box<dyn Fn(Tensor<2>, Tensor<2>) -> Tensor<1>>;
    let losses: [(&str, Loss); 5] = [
        ("cross-entropy", Box::new(|x, t| CrossEntropy::default().forward_soft(x, t, Reduction::Mean))),
        ("binary", Box::new(|x, t| BinaryCrossEntropy::default().forward(x, t, Reduction::Mean))),
        ("focal", Box::new(|x, t| Focal { gamma: 0.5, ..Focal::default() }.forward(x, t, Reduction::Mean))),
        (
            "binary focal",
            Box::new(|x, t| {
                BinaryFocal { gamma: 0.5, ..BinaryFocal::default() }.forward(x, t, Reduction::Mean)
            }),
        ),
        ("cosine of nothing", Box::new(|x, t| CosineLoss.forward(x * 0.0, t, Reduction::Mean))),
    ];
    for (name, loss) in losses {
        let logits = logits();
        let value = loss(logits.clone(), targets());
        assert!(values(value.clone())[0].is_finite(), "{name}");
        let gradient = values(logits.grad(&value.backward()).expect("a gradient"));
        assert!(gradient.iter().all(|value| value.is_finite()), "{name}: {gradient:?}");
    }
}

#[test]
fn wrong_settings_are_named() {
    let weights = |class_weights: &[f32]| CrossEntropy {
        class_weights: Some(class_weights.to_vec()),
        ..Default::default()
    };
    let smoothing = CrossEntropy { label_smoothing: 1.5, ..Default::default() };
    let positive = BinaryCrossEntropy { positive_weights: Some(vec![1.0]), ..Default::default() };
    for (result, parts) in [
        (smoothing.validate(3), &["`label_smoothing` is 1.5", "0 to 1"][..]),
        (weights(&[1.0, 2.0]).validate(3), &["`class_weights` is a list of 2", "each of the 3 classes"]),
        (weights(&[1.0, -2.0, 1.0]).validate(3), &["`class_weights` is -2", "at least 0"]),
        (weights(&[0.0; 3]).validate(3), &["`class_weights` is 0 for every class"]),
        (positive.validate(3), &["`positive_weights` is a list of 1", "3 outputs"]),
        (Focal { gamma: -1.0, ..Focal::default() }.validate(), &["`gamma` is -1", "at least 0"]),
        (Focal { alpha: f64::NAN, ..Focal::default() }.validate(), &["`alpha` is NaN"]),
        (
            BinaryFocal { alpha: 1.0, ..BinaryFocal::default() }.validate(),
            &["`alpha` is 1", "between 0 and 1"],
        ),
        (NtXent { temperature: 0.0 }.validate(), &["`temperature` is 0", "greater than 0"]),
    ] {
        let message = result.expect_err(parts[0]).to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
    assert_eq!(weights(&[1.0, 0.0]).validate(2), Ok(()));
}

#[test]
fn balanced_weights_are_scikit_learns() {
    // compute_class_weight("balanced", classes=[0, 1, 2], y=[0, 0, 0, 1, 2, 2])
    assert_eq!(balanced_class_weights(&[0, 0, 0, 1, 2, 2], 3), [6.0 / 9.0, 2.0, 1.0]);
    assert_eq!(balanced_class_weights(&[0, 0], 2), [0.5, 0.0]);
}
