//! Every image backbone computes what the framework's own model computes with the same weights: logits and the images' gradients, in
//! evaluation and in training.
//!
//! The figures are in `goldens/models`, made by `cargo xtask golden models`; weights are made by a formula on both sides
//! (`seeded_weights`), under the framework's names, so that names and layouts are checked too.
#![allow(clippy::print_stderr, reason = "a test says what it measured")]

mod seeded_weights;

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use firebrick_nn::Network;
use firebrick_zoo::{Checkpoint, Classifier, CreateOptions, create, find};
use sha2::{Digest, Sha256};

/// Of the largest value: logits and gradients with running statistics.
const EVALUATION: f64 = 1e-4;
/// Logits where each BatchNorm has its statistics from the few values of a small batch, so that rounding errors are magnified by all the
/// layers behind. The gradients of such a network have errors of several percent in f32, PyTorch's too, and say little; those of the
/// kernels are checked by themselves.
const TRAINING: f64 = 2e-3;

#[derive(serde::Deserialize)]
struct Golden {
    made_by: String,
    models: BTreeMap<String, Model>,
}

#[derive(serde::Deserialize)]
struct Model {
    parameters: u64,
    tensors: usize,
    names_sha256: String,
    sizes: BTreeMap<String, Modes>,
    gradient: Option<Gradient>,
}

/// Logits.
#[derive(serde::Deserialize)]
struct Modes {
    evaluation: Picked,
    training: Picked,
}

#[derive(serde::Deserialize)]
struct Gradient {
    side: usize,
    logits: Picked,
    gradient: Picked,
}

#[derive(serde::Deserialize)]
struct Picked {
    norm: f64,
    values: Vec<f64>,
}

#[allow(deprecated)]
fn device() -> Device {
    Device::ndarray()
}

/// The figure that an error is taken of: a tensor's typical value is its norm over the root of its length.
fn distance(actual: Vec<f32>, expected: &Picked) -> f64 {
    let kept = expected.values.len();
    let typical = expected.norm / (actual.len() as f64).sqrt();
    let norm = actual.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    let places = (0..kept).map(|i| i * actual.len() / kept);
    let values = places.zip(&expected.values).map(|(place, &value)| (f64::from(actual[place]) - value).abs());
    let scale = expected.values.iter().fold(typical, |scale, value| scale.max(value.abs()));
    values.fold(0.0, f64::max).max((norm - expected.norm).abs() / (actual.len() as f64).sqrt()) / scale
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec::<f32>().expect("f32")
}

fn uniform(name: &str, shape: &[usize]) -> TensorData {
    TensorData::new(seeded_weights::uniform_values(name, shape.iter().product()), shape.to_vec())
}

fn images(side: usize, device: &Device) -> Tensor<4> {
    Tensor::from_data(uniform(&format!("images {side}"), &[2, 3, side, side]), device)
}

/// Logits and the images' gradient, with running statistics.
fn gradient(model: &Classifier, side: usize, device: &Device) -> (Vec<f32>, Vec<f32>) {
    // Freezing stops the parameters' gradients and keeps the running statistics in use; the images' gradient flows.
    let images = images(side, device).require_grad();
    let logits = model.clone().freeze().forward(images.clone());
    let direction = Tensor::<2>::from_data(uniform("direction", &logits.dims()), device);
    let gradients = (logits.clone() * direction).sum().backward();
    (floats(logits), floats(images.grad(&gradients).expect("the images' gradient")))
}

/// A model with weights by the formula.
fn seeded(name: &str, device: &Device) -> Classifier {
    let model = create(find(name).expect("in the zoo"), &CreateOptions::default(), device);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("seeded.safetensors");
    seeded_weights::write(&file, &model.tensors());
    Checkpoint::read(&file).expect("readable").load_into(model, name).expect("its own names")
}

fn check(family: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/goldens/models/{family}.json"));
    let golden: Golden = serde_json::from_slice(&std::fs::read(path).expect("the golden")).expect("valid JSON");
    let made_by = &golden.made_by;
    for (name, expected) in &golden.models {
        let device = device().autodiff();
        let model = seeded(name, &device);
        let mut listed: Vec<_> =
            model.tensors().iter().map(|(name, shape)| format!("{name} {shape:?}")).collect();
        listed.sort();
        assert_eq!(listed.len(), expected.tensors, "{name}: {made_by}");
        let hash: String =
            Sha256::digest(listed.join("\n")).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, expected.names_sha256, "{name}: {made_by}; our names: {listed:#?}");
        let rows = model.summarize(find(name).expect("in the zoo").input_size).expect("its own size");
        assert_eq!(rows.iter().map(|row| row.parameters).sum::<u64>(), expected.parameters, "{name}");
        if let Some(expected) = &expected.gradient {
            let (logits, gradient) = gradient(&model, expected.side, &device);
            let errors = [distance(logits, &expected.logits), distance(gradient, &expected.gradient)];
            eprintln!("{name:<20} {:>4}  logits {:.1e}, gradient {:.1e}", expected.side, errors[0], errors[1]);
            assert!(errors.iter().all(|error| *error < EVALUATION), "{name}, gradient: {errors:?}");
        }
        for (side, expected) in &expected.sizes {
            let side: usize = side.parse().expect("a number");
            let still = model.valid();
            let plain = images(side, &self::device());
            let frozen = still.backbone.compile([side as u32; 2]).expect("compiled");
            let logits = still.head.forward(frozen.pooled(plain));
            let evaluation = distance(floats(logits), &expected.evaluation);
            let training = distance(floats(model.forward(images(side, &device))), &expected.training);
            eprintln!("{name:<20} {side:>4}  compiled {evaluation:.1e}, in training {training:.1e}");
            assert!(evaluation < EVALUATION, "{name} at {side}: {evaluation:e}");
            assert!(training < TRAINING, "{name} at {side}: {training:e}");
        }
    }
}

#[test]
fn mobilenet_v2_is_torchvisions() {
    check("mobilenet_v2");
}

#[test]
fn resnets_are_torchvisions() {
    check("resnet");
}
