//! What every image model of the zoo keeps to: one line a model.
//!
//! It takes images of two sizes, computes compiled what it computes as a module, gives every parameter a gradient, takes a new head,
//! learns eight images by heart, and comes back from its file as it was; on other backends it computes what it computes on the first.
#![allow(clippy::print_stderr, reason = "a test says what it measured and what it skipped")]

mod backends;

use std::time::Instant;

use firebrick::augment::Preprocess;
use firebrick::burn::module::{Module, ModuleVisitor, Param};
use firebrick::burn::optim::GradientsParams;
use firebrick::burn::tensor::{Device, Tensor, TensorData};
use firebrick::nn::Network;
use firebrick::optim::OptimizerConfig;
use firebrick::train::{Callback, DeviceChoice, EpochRecord, FitOptions, Flow, InMemory, TrainError, fit};
use firebrick::zoo::{Classifier, CreateOptions, Manifest, Package, Provenance, create, find, models};

/// A model, the side of its images, another size that it must take (none where it is bound to one), and how it learns them.
struct Line(&'static str, u32, Option<[u32; 2]>, Learns);

/// The learning rate.
#[derive(Clone, Copy, PartialEq)]
enum Learns {
    /// Keras' 1e-3.
    Fast,
    /// 1e-4: without norms, a step of the other rate leaves SqueezeNet's last rectifier shut for all images.
    Slowly,
}

const LINES: &[Line] = &[
    Line("alexnet", 64, Some([67, 97]), Learns::Slowly),
    Line("vgg11", 32, Some([33, 65]), Learns::Slowly),
    Line("squeezenet1_1", 32, Some([33, 65]), Learns::Slowly),
    Line("googlenet", 32, Some([33, 65]), Learns::Fast),
    Line("inception_v3", 75, Some([80, 93]), Learns::Fast),
    Line("resnet18", 32, Some([33, 65]), Learns::Fast),
    Line("densenet121", 32, Some([33, 65]), Learns::Fast),
    Line("mobilenet_v1", 32, Some([33, 65]), Learns::Fast),
    Line("mobilenet_v2_0.35", 32, Some([33, 65]), Learns::Fast),
    Line("keras_mobilenet_v2_0.35", 32, Some([33, 65]), Learns::Fast),
    Line("mobilenet_v3_small", 32, Some([33, 65]), Learns::Fast),
    Line("efficientnet_b0", 32, Some([33, 65]), Learns::Fast),
    Line("efficientnet_v2_s", 32, Some([33, 65]), Learns::Fast),
    Line("efficientnet_lite0", 32, Some([33, 65]), Learns::Fast),
    Line("regnet_y_400mf", 32, Some([33, 65]), Learns::Fast),
    Line("convnext_tiny", 32, Some([33, 65]), Learns::Fast),
    Line("vit_tiny_patch16_224", 32, None, Learns::Fast),
    Line("deit_tiny_patch16_224", 48, None, Learns::Fast),
    Line("swin_t", 32, Some([33, 65]), Learns::Fast),
];

/// Their first dense layer (151 and 411 MB) is more than one buffer of WebGPU's usual limit, 128 MiB, which the software driver has. What comes
/// before it, up to the last feature map, is compared.
const TOO_LARGE_FOR_WGPU: &[&str] = &["alexnet", "vgg11"];

/// Of the largest value: what a model computes on another backend, from what it computes on the first.
const BETWEEN_BACKENDS: f32 = 1e-3;

/// The most epochs of one step that learning eight images may take.
const MOST_STEPS: usize = 60;

fn images(count: usize, [height, width]: [u32; 2], device: &Device) -> Tensor<4> {
    let shape = [count, height as usize, width as usize, 3];
    let mut state = 1u64;
    let pixels: Vec<f32> = (0..shape.iter().product::<usize>())
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::<4>::from_data(TensorData::new(pixels, shape), device).permute([0, 3, 1, 2])
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_to_vec().expect("f32")
}

/// The largest difference over the largest value.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let scale = a.iter().fold(f32::MIN_POSITIVE, |scale, value| scale.max(value.abs()));
    a.iter().zip(b).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs())) / scale
}

#[derive(Default)]
struct Trainable(usize);

impl ModuleVisitor for Trainable {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        self.0 += usize::from(parameter.is_require_grad());
    }
}

fn options(side: u32, classes: usize) -> CreateOptions {
    CreateOptions { classes, image_size: Some([side, side]), seed: 7, ..CreateOptions::default() }
}

/// In evaluation, as a module and compiled.
fn computes(model: &Classifier, name: &str, size: [u32; 2], device: &Device) -> Vec<f32> {
    let model = model.valid();
    let module = values(model.forward(images(2, size, device)));
    assert!(module.iter().all(|value| value.is_finite()), "{name} at {size:?}");
    let frozen = model.backbone.compile(size).expect("compiled");
    let compiled = values(model.head.forward(frozen.pooled(images(2, size, device))));
    let error = difference(&module, &compiled);
    assert!(error < 1e-4, "{name} at {size:?}: compiled {error:e} from the module");
    let again = values(model.head.forward(frozen.pooled(images(2, size, device))));
    assert_eq!(compiled, again, "{name}: evaluation is deterministic");
    module
}

/// The last feature map for images of each size. Weights are drawn when they are first used, so that those behind the map are never made.
fn maps(model: &Classifier, name: &str, sizes: &[[u32; 2]], device: &Device) -> Vec<Vec<f32>> {
    let map = |size: &[u32; 2]| {
        let map = values(model.backbone.forward(images(2, *size, device)));
        assert!(map.iter().all(|value| value.is_finite()), "{name} at {size:?}");
        assert!(map.iter().any(|value| *value != 0.0), "{name} at {size:?}: nothing passes its rectifiers");
        map
    };
    sizes.iter().map(map).collect()
}

fn gives_every_parameter_a_gradient(model: &Classifier, name: &str, side: u32, device: &Device) {
    let model = model.clone().train();
    let device = device.clone().autodiff();
    let model = model.to_device(&device);
    let logits = model.forward(images(2, [side, side], &device));
    let weights = TensorData::new(
        (0..logits.dims()[1]).map(|class| (class as f32).sin()).collect::<Vec<_>>(),
        [1, logits.dims()[1]],
    );
    let gradients = (logits * Tensor::<2>::from_data(weights, &device)).sum().backward();
    let mut trainable = Trainable::default();
    model.visit(&mut trainable);
    let gradients = GradientsParams::from_grads(gradients, &model);
    assert_eq!(gradients.len(), trainable.0, "{name}: parameters with a gradient, and parameters");
}

/// Stops when every image was right before its step.
#[derive(Default)]
struct UntilLearned(Option<usize>);

impl<N> Callback<N> for UntilLearned {
    fn on_epoch_end(&mut self, record: &EpochRecord, _: &N) -> Result<Flow, TrainError> {
        if record.accuracy < 1.0 {
            return Ok(Flow::Continue);
        }
        self.0 = Some(record.epoch);
        Ok(Flow::Stop)
    }
}

fn learns_eight_images(
    model: Classifier,
    name: &str,
    side: u32,
    learning_rate: f64,
    device: &Device,
) -> usize {
    let classes = model.head.classes();
    let inputs = images(8, [side, side], device);
    let mut train =
        InMemory::new(inputs, (0..8).map(|image| image % classes).collect(), 8).expect("eight images");
    let mut learned = UntilLearned::default();
    let outcome = fit(
        model,
        OptimizerConfig::adam_keras().init().expect("a preset"),
        &mut train,
        None,
        &FitOptions { epochs: MOST_STEPS, learning_rate, ..FitOptions::default() },
        &mut [&mut learned],
    )
    .expect("trained");
    let last = outcome.history.epochs.last();
    learned.0.unwrap_or_else(|| panic!("{name} did not learn eight images: {last:?}"))
}

fn comes_back_from_its_file(model: Classifier, name: &str, side: u32, device: &Device) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    let classes = (0..model.head.classes()).map(|class| format!("class {class}")).collect();
    let preprocess = Preprocess { input_size: [side, side], ..Preprocess::imagenet() };
    let config = Default::default();
    let manifest = Manifest::new(name, &model, classes, preprocess, Provenance::default(), config);
    let before = values(model.valid().forward(images(1, [side, side], device)));
    Package { manifest, model }.save(&path).expect("saved");
    let opened = Package::open(&path, device).expect("opened");
    let after = values(opened.model.valid().forward(images(1, [side, side], device)));
    assert_eq!(before, after, "{name}");
}

#[test]
fn every_line_keeps_the_contract() {
    let devices = backends::devices();
    for Line(name, side, other, learns) in LINES {
        let spec = find(name).expect("in the zoo");
        let sizes: Vec<[u32; 2]> = [[*side, *side]].into_iter().chain(*other).collect();
        let too_large = TOO_LARGE_FOR_WGPU.contains(name);
        let mut first: Option<Vec<f32>> = None;
        let mut first_maps: Option<Vec<Vec<f32>>> = None;
        for (number, (backend, device)) in devices.iter().enumerate() {
            let started = Instant::now();
            let model = create(spec, &options(*side, 10), device);
            if *backend == DeviceChoice::Wgpu && too_large {
                let maps = maps(&model, name, &sizes, device);
                let compared = match &first_maps {
                    None => "nothing to compare it with".to_owned(),
                    Some(first) => {
                        let errors = first.iter().zip(&maps).map(|(first, map)| difference(first, map));
                        let error = errors.fold(0.0, f32::max);
                        assert!(error < BETWEEN_BACKENDS, "{name} on {backend}: {error:e} in the map");
                        format!("{error:.1e} from the first backend")
                    }
                };
                let backend = backend.to_string();
                eprintln!(
                    "{name:<22} {backend:<8} {sizes:?} pixels, up to the last feature map ({compared}), not behind it: \
                     the first dense layer is larger than a buffer, {:.1} s",
                    started.elapsed().as_secs_f64()
                );
                continue;
            }
            if number == 0 && too_large {
                first_maps = Some(maps(&model, name, &sizes, device));
            }
            let logits = computes(&model, name, [*side, *side], device);
            match &first {
                None => first = Some(logits),
                Some(first) => {
                    let error = difference(first, &logits);
                    assert!(
                        error < BETWEEN_BACKENDS,
                        "{name} on {backend}: {error:e} from the first backend"
                    );
                }
            }
            let mut learned = "does not learn here".to_owned();
            if number == 0 {
                other.iter().for_each(|size| drop(computes(&model, name, *size, device)));
                gives_every_parameter_a_gradient(&model, name, *side, device);
                let model = model.reset_head(&options(*side, 4), device);
                assert_eq!(model.forward(images(1, [*side, *side], device)).dims(), [1, 4], "{name}");
                let rate = if *learns == Learns::Slowly { 1e-4 } else { 1e-3 };
                let steps = learns_eight_images(model.clone(), name, *side, rate, device);
                learned = format!("learned in {steps} steps");
                comes_back_from_its_file(model, name, *side, device);
            }
            let seconds = started.elapsed().as_secs_f64();
            let backend = backend.to_string();
            eprintln!("{name:<22} {backend:<8} {side:>4} pixels, {learned}, {seconds:.1} s");
        }
    }
}

#[test]
fn every_family_has_a_line() {
    for spec in models() {
        let has = LINES.iter().any(|Line(name, ..)| find(name).is_ok_and(|line| line.family == spec.family));
        assert!(has, "the family {} of {} has no line", spec.family, spec.name);
    }
}
