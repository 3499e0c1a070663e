//! Every image backbone computes what the framework's own model computes with the same weights: logits and the images' gradients, in
//! evaluation and in training.
//!
//! The figures are in `goldens/models` and `goldens/keras`, made by `cargo xtask golden models`; weights are made by a formula on both sides
//! (`seeded_weights`), under the framework's names, so that names and layouts are checked too.
#![allow(clippy::print_stderr, reason = "a test says what it measured")]

mod keras_models;
mod seeded_weights;

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use firebrick_nn::Network;
use firebrick_zoo::{
    AttentionPool, Checkpoint, Classifier, CreateOptions, ModelSpec, PositionResampling,
    adapt_input_channels, create, find, interpolate_positions, models,
};
use sha2::{Digest, Sha256};

/// Of the largest value: logits and gradients with running statistics.
const EVALUATION: f64 = 1e-4;
/// Logits where each BatchNorm has its statistics from the few values of a small batch, so that rounding errors are magnified by all the
/// layers behind: PyTorch itself in f32 is 1.7e-3 (channels last 2.8e-3) from its f64 on ResNet-152, 4e-4 on ResNet-101. The gradients of such a network have errors of several percent in f32, PyTorch's too, and say little; those of the
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
    #[serde(default)]
    sizes: BTreeMap<String, Modes>,
    gradient: Option<Gradient>,
    #[serde(default)]
    options: Options,
    /// Hashes of the names in other frameworks.
    #[serde(default)]
    aliases: BTreeMap<String, String>,
}

/// What the model has that its name does not say.
#[derive(Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Where it is not the entry's own name.
    model: Option<String>,
    image_size: Option<u32>,
    channels: Option<usize>,
    attention: Option<AttentionPool>,
    /// The size of the colour images that its weights are for.
    weights_of: Option<u32>,
}

impl Options {
    fn create(&self) -> CreateOptions {
        CreateOptions {
            image_size: self.image_size.map(|side| [side; 2]),
            channels: self.channels(),
            attention: self.attention,
            ..CreateOptions::default()
        }
    }

    fn channels(&self) -> usize {
        self.channels.unwrap_or(3)
    }
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

fn images(side: usize, channels: usize, device: &Device) -> Tensor<4> {
    Tensor::from_data(uniform(&format!("images {side}"), &[2, channels, side, side]), device)
}

/// Logits and the images' gradient, with running statistics.
fn gradient(model: &Classifier, images: Tensor<4>, device: &Device) -> (Vec<f32>, Vec<f32>) {
    // Freezing stops the parameters' gradients and keeps the running statistics in use; the images' gradient flows.
    let images = images.require_grad();
    let logits = model.clone().freeze().forward(images.clone());
    let direction = Tensor::<2>::from_data(uniform("direction", &logits.dims()), device);
    let gradients = (logits.clone() * direction).sum().backward();
    (floats(logits), floats(images.grad(&gradients).expect("the images' gradient")))
}

/// A model with weights by the formula.
fn seeded(spec: &ModelSpec, options: &Options, device: &Device) -> Classifier {
    let model = create(spec, &options.create(), device);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("seeded.safetensors");
    let tensors = match options.weights_of {
        None => model.tensors(),
        Some(side) => {
            let plain = CreateOptions { image_size: Some([side; 2]), ..CreateOptions::default() };
            create(spec, &plain, device).tensors()
        }
    };
    seeded_weights::write(&file, &tensors);
    Checkpoint::read(&file).expect("readable").load_into(model, spec.name).expect("its own names")
}

fn read(file: &str) -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/goldens/models/{file}.json"));
    serde_json::from_slice(&std::fs::read(path).expect("the golden")).expect("valid JSON")
}

fn hash(mut names: Vec<String>) -> String {
    names.sort();
    Sha256::digest(names.join("\n")).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The number of parameters, and the names and shapes of all tensors, here and in other frameworks.
fn check_structure(name: &str, spec: &ModelSpec, model: &Classifier, expected: &Model, made_by: &str) {
    let tensors = model.tensors();
    let listed: Vec<_> = tensors.iter().map(|(name, shape)| format!("{name} {shape:?}")).collect();
    assert_eq!(listed.len(), expected.tensors, "{name}: {made_by}");
    assert_eq!(hash(listed.clone()), expected.names_sha256, "{name}: {made_by}; our names: {listed:#?}");
    let size = expected.options.image_size.map_or(spec.input_size, |side| [side; 2]);
    let rows = model.summarize(size).expect("its own size");
    assert_eq!(rows.iter().map(|row| row.parameters).sum::<u64>(), expected.parameters, "{name}");
    for (framework, expected) in &expected.aliases {
        let alias = spec.aliases.iter().find(|alias| alias.framework == framework).expect(framework);
        let named = |(name, shape): &(String, Vec<usize>)| format!("{} {shape:?}", alias.of(name));
        let listed: Vec<_> = tensors.iter().map(named).collect();
        assert_eq!(hash(listed.clone()), *expected, "{name}: {made_by}; {framework}'s: {listed:#?}");
    }
}

fn check(family: &str) {
    let golden = read(family);
    for (name, expected) in &golden.models {
        let device = device().autodiff();
        let options = &expected.options;
        let spec = find(options.model.as_ref().unwrap_or(name)).expect("in the zoo");
        let model = seeded(spec, options, &device);
        check_structure(name, spec, &model, expected, &golden.made_by);
        let channels = options.channels();
        if let Some(expected) = &expected.gradient {
            let (logits, gradient) = gradient(&model, images(expected.side, channels, &device), &device);
            let errors = [distance(logits, &expected.logits), distance(gradient, &expected.gradient)];
            eprintln!(
                "{name:<20} {:>4}  logits {:.1e}, gradient {:.1e}",
                expected.side, errors[0], errors[1]
            );
            assert!(errors.iter().all(|error| *error < EVALUATION), "{name}, gradient: {errors:?}");
        }
        // Before training moves the running statistics.
        let still = model.valid();
        for (side, expected) in &expected.sizes {
            let side: usize = side.parse().expect("a number");
            let plain = images(side, channels, &self::device());
            let frozen = still.backbone.compile([side as u32; 2]).expect("compiled");
            let logits = still.head.forward(frozen.pooled(plain));
            let evaluation = distance(floats(logits), &expected.evaluation);
            let training =
                distance(floats(model.forward(images(side, channels, &device))), &expected.training);
            eprintln!("{name:<20} {side:>4}  compiled {evaluation:.1e}, in training {training:.1e}");
            assert!(evaluation < EVALUATION, "{name} at {side}: {evaluation:e}");
            assert!(training < TRAINING, "{name} at {side}: {training:e}");
        }
    }
}

/// Families whose every member is in the golden, so that a new one is not forgotten.
const WHOLE: &[&str] = &[
    "AlexNet",
    "VGG",
    "SqueezeNet",
    "GoogLeNet",
    "Inception v3",
    "ResNet",
    "DenseNet",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3",
    "EfficientNet",
    "EfficientNetV2",
    "EfficientNet-Lite",
    "RegNet",
];

#[test]
fn every_member_has_the_frameworks_parameters_names_and_shapes() {
    let golden = read("structure");
    // Keras' models are compared in `keras_models`.
    for spec in models().filter(|spec| WHOLE.contains(&spec.family) && !spec.is_keras()) {
        assert!(golden.models.contains_key(spec.name), "{} is missing: {}", spec.name, golden.made_by);
    }
    for (name, expected) in &golden.models {
        let spec = find(name).expect("in the zoo");
        let model = create(spec, &CreateOptions::default(), &device());
        check_structure(name, spec, &model, expected, &golden.made_by);
        for alias in spec.aliases {
            assert!(
                expected.aliases.contains_key(alias.framework),
                "{name}: {} is in no golden",
                alias.framework
            );
        }
    }
}

/// A checkpoint under other names is read as the same model.
#[test]
fn a_checkpoint_with_another_frameworks_names_gives_the_same_model() {
    let device = device();
    let (name, spec) = ("mobilenet_v2_0.35", find("mobilenet_v2_0.35").expect("in the zoo"));
    let alias = spec.aliases.iter().find(|alias| alias.framework == "timm").expect("timm has it");
    let model = create(spec, &CreateOptions { seed: 1, ..CreateOptions::default() }, &device);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("timm.safetensors");
    let tensors: Vec<_> = model.tensors().into_iter().map(|(name, shape)| (alias.of(&name), shape)).collect();
    seeded_weights::write(&file, &tensors);
    let loaded = Checkpoint::read(&file).expect("readable").load_into(model, name).expect("timm's names");
    let stem = loaded.backbone.layer("features.0.0").expect("the first convolution");
    let firebrick_zoo::Layer::ConvNormAct(stem) = stem else {
        panic!("a convolution with its norm, not {stem:?}")
    };
    let expected = seeded_weights::values("conv_stem.weight", &[16, 3, 3, 3]);
    assert_eq!(floats(stem.conv.weight.val()), expected);
    // One name that is nobody's is told with the alias' other names.
    let mut wrong = tensors.clone();
    wrong[0].0 = "conv_stem.wait".to_owned();
    seeded_weights::write(&file, &wrong);
    let error = Checkpoint::read(&file).expect("readable").load_into(loaded, name).expect_err("a wrong name");
    assert!(error.to_string().contains("conv_stem.weight (the file has conv_stem.wait)"), "{error}");
}

/// torchvision's files of GoogLeNet have the auxiliary heads, which are passed over; others are not.
#[test]
fn auxiliary_heads_of_a_checkpoint_are_passed_over_and_nothing_else() {
    let device = device();
    let model = create(find("googlenet").expect("in the zoo"), &CreateOptions::default(), &device);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("googlenet.safetensors");
    let mut tensors = model.tensors();
    tensors.push(("aux1.fc1.weight".to_owned(), vec![4, 4]));
    tensors.push(("aux2.conv.bn.bias".to_owned(), vec![4]));
    seeded_weights::write(&file, &tensors);
    let model =
        Checkpoint::read(&file).expect("readable").load_into(model, "googlenet").expect("passed over");
    tensors.push(("aux3.fc1.weight".to_owned(), vec![4, 4]));
    seeded_weights::write(&file, &tensors);
    let error =
        Checkpoint::read(&file).expect("readable").load_into(model, "googlenet").expect_err("unknown");
    assert!(error.to_string().contains("aux3.fc1.weight"), "{error}");
}

#[test]
fn alexnet_is_torchvisions() {
    check("alexnet");
}

#[test]
fn vggs_are_torchvisions() {
    check("vgg");
}

#[test]
fn squeezenets_are_torchvisions() {
    check("squeezenet");
}

#[test]
fn googlenet_is_torchvisions() {
    check("googlenet");
}

#[test]
fn inception_v3_is_torchvisions() {
    check("inception_v3");
}

#[test]
fn densenets_are_torchvisions() {
    check("densenet");
}

#[test]
fn mobilenet_v1_is_timms() {
    check("mobilenet_v1");
}

#[test]
fn mobilenet_v3_is_torchvisions() {
    check("mobilenet_v3");
}

#[test]
fn efficientnets_are_torchvisions() {
    check("efficientnet");
}

#[test]
fn efficientnet_v2_is_torchvisions() {
    check("efficientnet_v2");
}

#[test]
fn efficientnet_lites_are_timms() {
    check("efficientnet_lite");
}

#[test]
fn regnets_are_torchvisions() {
    check("regnet");
}

#[test]
fn mobilenet_v2_is_torchvisions() {
    check("mobilenet_v2");
}

#[test]
fn resnets_are_torchvisions() {
    check("resnet");
}

#[test]
fn convnext_is_torchvisions() {
    check("convnext");
}

#[test]
fn swin_is_torchvisions() {
    check("swin");
}

#[test]
fn vision_transformers_are_timms_and_torchvisions() {
    check("vit");
}

#[test]
fn deits_are_timms() {
    check("deit");
}

#[test]
fn a_backbone_with_attention_over_its_map_is_pytorchs() {
    check("composite");
}

#[test]
fn every_transformer_has_the_tensors_of_its_framework() {
    let golden = read("structure_transformers");
    for (name, expected) in &golden.models {
        let spec = find(name).expect("in the zoo");
        let model = create(spec, &CreateOptions::default(), &device());
        check_structure(name, spec, &model, expected, &golden.made_by);
    }
}

/// Of values about 1, in f32.
const ROUNDING: f32 = 1e-5;

#[derive(serde::Deserialize)]
struct Adapted {
    made_by: String,
    width: usize,
    positions: Vec<Positions>,
    channels: Vec<Channels>,
}

#[derive(serde::Deserialize)]
struct Positions {
    name: String,
    from: [usize; 2],
    to: [usize; 2],
    antialiased: Vec<f32>,
    aligned_corners: Option<Vec<f32>>,
}

#[derive(serde::Deserialize)]
struct Channels {
    channels: usize,
    weight: Vec<f32>,
}

fn near(actual: &[f32], expected: &[f32], what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    let error = actual.iter().zip(expected).map(|(a, e)| (a - e).abs()).fold(0.0, f32::max);
    eprintln!("{what}: {error:.1e}");
    assert!(error < ROUNDING, "{what}: {error:e}");
}

#[test]
fn positions_and_first_convolutions_are_adapted_as_torchvision_and_timm_do() {
    let golden: Adapted = serde_json::from_str(include_str!("goldens/positions.json")).expect("valid JSON");
    for case in &golden.positions {
        let Positions { name, from, to, .. } = case;
        let values = seeded_weights::uniform_values(name, (1 + from[0] * from[1]) * golden.width);
        let adapted = |resampling| interpolate_positions(&values, golden.width, 1, *from, *to, resampling);
        let what = format!("{name}, {}", golden.made_by);
        near(&adapted(PositionResampling::Antialiased), &case.antialiased, &what);
        if let Some(expected) = &case.aligned_corners {
            near(&adapted(PositionResampling::AlignedCorners), expected, &what);
        }
    }
    for Channels { channels, weight } in &golden.channels {
        let name = format!("channels {channels}");
        let colour = seeded_weights::uniform_values(&name, 2 * 3 * 2 * 2);
        // Three channels fit as they are.
        near(&adapt_input_channels(&colour, 4, *channels), weight, &name);
    }
}
