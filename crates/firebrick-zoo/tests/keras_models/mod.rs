//! Keras' models compute what `keras.applications` does with the same weights, which come from a file in Keras' words and layouts.
//!
//! The file is a TensorFlow.js model, the one of Keras' formats that is written in a few lines; weights are drawn under their Keras names, in
//! PyTorch's layout, on both sides.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::module::Module;
use firebrick_nn::Network;
use firebrick_zoo::graph::Op;
use firebrick_zoo::{
    Checkpoint, Classifier, CreateOptions, KerasNames, ModelSpec, create, find, keras_names, models,
};

use super::{EVALUATION, Gradient, Picked, device, distance, floats, gradient, hash, images, seeded_weights};

#[derive(serde::Deserialize)]
struct Golden<M> {
    made_by: String,
    models: BTreeMap<String, M>,
}

#[derive(serde::Deserialize)]
struct Structure {
    /// Numbers that are learnt.
    learned: u64,
    /// All numbers.
    all: u64,
    tensors: usize,
    names_sha256: String,
}

#[derive(serde::Deserialize)]
struct Numbers {
    /// Logits by the images' side.
    sizes: BTreeMap<String, Picked>,
    gradient: Option<Gradient>,
}

fn read<M: serde::de::DeserializeOwned>(file: &str) -> Golden<M> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/goldens/keras/{file}.json"));
    serde_json::from_slice(&std::fs::read(path).expect("the golden")).expect("valid JSON")
}

fn names_of(spec: &ModelSpec) -> &'static KerasNames {
    keras_names::of(spec).unwrap_or_else(|| panic!("{} has no table of names", spec.name))
}

/// What a file of Keras has for a model: layer and word, PyTorch's shape, and whether it is a depthwise kernel.
fn tensors(spec: &ModelSpec, model: &Classifier) -> Vec<(String, Vec<usize>, bool)> {
    let depthwise: HashSet<String> = model
        .backbone
        .graph()
        .nodes()
        .iter()
        .filter_map(|node| match &node.op {
            Op::Conv(conv) if conv.groups > 1 => Some(format!("{}.weight", conv.name)),
            _ => None,
        })
        .collect();
    let in_keras = |(name, mut shape): (String, Vec<usize>)| {
        let keras = names_of(spec).keras(&name).unwrap_or_else(|| panic!("{}: {name}", spec.name));
        // A convolution of a map of one pixel there, a dense layer here.
        if keras == "conv_preds.weight" {
            shape.extend([1, 1]);
        }
        (keras, shape, depthwise.contains(&name))
    };
    model.tensors().into_iter().map(in_keras).collect()
}

/// A tensor with its axes in another order, and its shape.
fn permuted(values: &[f32], shape: &[usize], axes: &[usize]) -> (Vec<f32>, Vec<usize>) {
    let strides: Vec<usize> =
        (0..shape.len()).map(|axis| shape[axis + 1..].iter().product::<usize>()).collect();
    let permuted: Vec<usize> = axes.iter().map(|&axis| shape[axis]).collect();
    let mut index = vec![0; axes.len()];
    let mut out = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        out.push(values[index.iter().zip(axes).map(|(i, &axis)| i * strides[axis]).sum::<usize>()]);
        for place in (0..index.len()).rev() {
            index[place] += 1;
            if index[place] < permuted[place] {
                break;
            }
            index[place] = 0;
        }
    }
    (out, permuted)
}

/// Writes `tensors` as Keras has them, their layers renamed; returns the path of the model.
fn write(folder: &Path, tensors: &[(String, Vec<usize>, bool)], rename: impl Fn(&str) -> String) -> PathBuf {
    let norms: HashSet<&str> =
        tensors.iter().filter_map(|(name, ..)| name.strip_suffix(".running_mean")).collect();
    let mut file =
        std::io::BufWriter::new(std::fs::File::create(folder.join("weights.bin")).expect("a file"));
    let mut weights = Vec::new();
    for (name, shape, depthwise) in tensors {
        let axes: &[usize] = match (shape.len(), depthwise) {
            (4, true) => &[2, 3, 0, 1],
            (4, false) => &[2, 3, 1, 0],
            (2, _) => &[1, 0],
            _ => &[0],
        };
        let (values, shape) = permuted(&seeded_weights::values(name, shape), shape, axes);
        let (layer, word) = name.rsplit_once('.').expect("a layer and a word");
        let word = match (word, norms.contains(layer)) {
            ("weight", false) => "kernel",
            ("weight", true) => "gamma",
            ("bias", true) => "beta",
            ("running_mean", _) => "moving_mean",
            ("running_var", _) => "moving_variance",
            (word, _) => word,
        };
        values.iter().for_each(|value| file.write_all(&value.to_le_bytes()).expect("written"));
        let name = format!("{}/{word}", rename(layer));
        weights.push(serde_json::json!({ "name": name, "shape": shape, "dtype": "float32" }));
    }
    file.flush().expect("written");
    let manifest = serde_json::json!([{ "paths": ["weights.bin"], "weights": weights }]);
    let model = serde_json::json!({ "modelTopology": null, "weightsManifest": manifest });
    let path = folder.join("model.json");
    std::fs::write(&path, model.to_string()).expect("written");
    path
}

/// As in a session that has made another model before: Keras counts on.
fn counted_on(layer: &str) -> String {
    for word in ["conv2d", "batch_normalization"] {
        if let Some(rest) = layer.strip_prefix(word) {
            let place: usize = rest.strip_prefix('_').map_or(0, |number| number.parse().expect("a number"));
            return format!("{word}_{}", place + 94);
        }
    }
    layer.to_owned()
}

fn check(family: &str) {
    let golden: Golden<Numbers> = read(family);
    for (name, expected) in &golden.models {
        let device = device().autodiff();
        let spec = find(name).expect("in the zoo");
        let model = create(spec, &CreateOptions::default(), &device);
        let folder = tempfile::tempdir().expect("a folder");
        let path = write(folder.path(), &tensors(spec, &model), counted_on);
        let model = Checkpoint::read(&path).expect("readable").load_into(model, name).expect("its names");
        if let Some(expected) = &expected.gradient {
            let (logits, gradient) = gradient(&model, images(expected.side, 3, &device), &device);
            let errors = [distance(logits, &expected.logits), distance(gradient, &expected.gradient)];
            eprintln!(
                "{name:<24} {:>4}  logits {:.1e}, gradient {:.1e}",
                expected.side, errors[0], errors[1]
            );
            assert!(errors.iter().all(|error| *error < EVALUATION), "{name}: {errors:?}; {}", golden.made_by);
        }
        let still = model.valid();
        for (side, expected) in &expected.sizes {
            let side: usize = side.parse().expect("a number");
            let frozen = still.backbone.compile([side as u32; 2]).expect("compiled");
            let logits = still.head.forward(frozen.pooled(images(side, 3, &self::device())));
            let module = distance(floats(still.forward(images(side, 3, &self::device()))), expected);
            let compiled = distance(floats(logits), expected);
            eprintln!("{name:<24} {side:>4}  compiled {compiled:.1e}, module {module:.1e}");
            assert!(compiled < EVALUATION, "{name} at {side}: {compiled:e}; {}", golden.made_by);
            assert!(module < EVALUATION, "{name} at {side}: {module:e}; {}", golden.made_by);
        }
    }
}

#[test]
fn every_model_of_keras_has_its_parameters_names_and_shapes() {
    let golden: Golden<Structure> = read("structure");
    let specs: Vec<_> = models().filter(|spec| spec.is_keras()).collect();
    assert_eq!(specs.len(), golden.models.len(), "{}", golden.made_by);
    for spec in specs {
        let expected = golden.models.get(spec.name).unwrap_or_else(|| panic!("{} is missing", spec.name));
        let model = create(spec, &CreateOptions::default(), &device());
        let tensors = tensors(spec, &model);
        let listed: Vec<_> = tensors.iter().map(|(name, shape, _)| format!("{name} {shape:?}")).collect();
        assert_eq!(listed.len(), expected.tensors, "{}", spec.name);
        assert_eq!(hash(listed.clone()), expected.names_sha256, "{}: {listed:#?}", spec.name);
        assert_eq!(spec.parameters, expected.learned, "{}", spec.name);
        let all: usize = tensors.iter().map(|(_, shape, _)| shape.iter().product::<usize>()).sum();
        // EfficientNet's Normalization has mean, variance and count of three channels, and is none of the network here.
        let preparing = if spec.family == "EfficientNet" { 7 } else { 0 };
        assert_eq!(all as u64 + preparing, expected.all, "{}", spec.name);
    }
}

#[test]
fn a_file_of_keras_that_does_not_fit_torchvisions_network_is_told_whose_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let of_keras = find("keras_resnet50").expect("in the zoo");
    let model = create(of_keras, &CreateOptions::default(), &device());
    let path = write(folder.path(), &tensors(of_keras, &model), str::to_owned);
    // MobileNetV2's table of names has one for `predictions` too, so that two tensors of the file are called otherwise.
    for (name, share) in [("resnet50", 100), ("mobilenet_v2", 98)] {
        let model = create(find(name).expect("in the zoo"), &CreateOptions::default(), &device());
        let error = Checkpoint::read(&path).expect("readable").load_into(model, name).expect_err("biases");
        let error = error.to_string();
        let likeness = format!("It looks like keras_resnet50 ({share} % of its tensors)");
        assert!(error.contains(&likeness), "{error}");
    }
}

#[test]
fn mobilenets_are_keras() {
    check("mobilenet_v1");
    check("mobilenet_v2");
}

#[test]
fn vggs_are_keras() {
    check("vgg");
}

#[test]
fn resnets_are_keras() {
    check("resnet");
}

#[test]
fn densenets_are_keras() {
    check("densenet");
}

#[test]
fn inception_v3_is_keras() {
    check("inception_v3");
}

#[test]
fn efficientnets_are_keras() {
    check("efficientnet");
}
