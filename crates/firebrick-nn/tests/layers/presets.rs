//! Burn's norms with Keras' settings, against Keras.

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use firebrick_nn::presets::{keras, torch};
use serde::Deserialize;

use crate::golden::{device, values};

#[derive(Deserialize)]
struct Golden {
    made_by: String,
    shape: [usize; 4],
    x: Vec<f64>,
    batch_norm: Vec<f64>,
    moving_mean: Vec<f64>,
    moving_variance: Vec<f64>,
    inference: Vec<f64>,
    layer_norm: Vec<f64>,
    group_norm: Vec<f64>,
}

#[test]
fn norms_with_keras_settings_are_keras() {
    let golden: Golden =
        serde_json::from_str(include_str!("../goldens/keras_norms.json")).expect("valid JSON");
    let device = device().autodiff();
    // Keras keeps channels last.
    let nhwc =
        Tensor::<4>::from_data(TensorData::new(golden.x.clone(), golden.shape).convert::<f32>(), &device);
    let x = nhwc.clone().permute([0, 3, 1, 2]);
    let last = |y: Tensor<4>| values(y.permute([0, 2, 3, 1]));
    let layer = keras::batch_norm(4).init(&device);
    let trained = last(layer.forward(x.clone()));
    let evaluated = layer.clone().valid();
    let cases = [
        ("batch norm in training", trained, &golden.batch_norm),
        ("moving mean", values(layer.running_mean.value_sync()), &golden.moving_mean),
        ("moving variance", values(layer.running_var.value_sync()), &golden.moving_variance),
        ("batch norm in inference", last(evaluated.forward(x.clone().inner())), &golden.inference),
        ("layer norm", values(keras::layer_norm(4).init(&device).forward(nhwc)), &golden.layer_norm),
        ("group norm", last(keras::group_norm(2, 4).init(&device).forward(x)), &golden.group_norm),
    ];
    for (what, actual, expected) in cases {
        let error = actual.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        println!("{what:24} {error:.1e}");
        assert!(
            actual.len() == expected.len() && error < 2e-6,
            "{what}: {error:.1e} (goldens: {})",
            golden.made_by
        );
    }
}

#[test]
fn torchs_settings_are_not_keras() {
    assert_eq!((torch::batch_norm(4).momentum, torch::batch_norm(4).epsilon), (0.1, 1e-5));
    assert_eq!((torch::layer_norm(4).epsilon, torch::group_norm(2, 4).epsilon), (1e-5, 1e-5));
}
