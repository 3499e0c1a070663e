//! Published weights give PyTorch's logits, on every backend.
#![allow(clippy::print_stderr, reason = "a test says what it measured and what it skipped")]

mod backends;

use std::path::Path;

use firebrick::augment::{Normalization, Preprocess};
use firebrick::burn::tensor::{Tensor, TensorData};
use firebrick::nn::Network;
use firebrick::zoo::{Checkpoint, CreateOptions, create, find};
use image::{Rgb, RgbImage};

/// One logit a line; lines that begin with `#` are its birth certificate.
fn golden(text: &str) -> Vec<f32> {
    let numbers = text.lines().filter(|line| !line.starts_with('#'));
    numbers.map(|line| line.trim().parse().expect("a number a line")).collect()
}

/// The image of which pixel `(y, x)` has the level `(5x + 3y + 67c) mod 256` in channel `c`.
fn synthetic() -> RgbImage {
    RgbImage::from_fn(224, 224, |x, y| Rgb([0, 1, 2].map(|c| ((5 * x + 3 * y + 67 * c) % 256) as u8)))
}

/// The model's logits with the weights of `file`, as a module and compiled, on every backend.
fn check(name: &str, file: &Path, preprocess: &Preprocess, expected: &[f32]) {
    let spec = find(name).expect("in the zoo");
    let pixels = preprocess.apply(&synthetic()).into_raw();
    for (backend, device) in backends::devices() {
        let model = create(spec, &CreateOptions::default(), &device);
        let model = Checkpoint::read(file).expect("readable").load_into(model, spec.name).expect("it fits");
        let input = Tensor::<4>::from_data(TensorData::new(pixels.clone(), [1, 224, 224, 3]), &device);
        let input = input.permute([0, 3, 1, 2]);
        let frozen = model.backbone.compile(spec.input_size).expect("compiled");
        let ways =
            [("module", model.forward(input.clone())), ("frozen", model.head.forward(frozen.pooled(input)))];
        for (way, logits) in ways {
            let logits: Vec<f32> = logits.into_data().try_to_vec().expect("f32");
            assert_eq!(logits.len(), expected.len());
            let worst = logits.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            eprintln!("{name}, {backend}, {way}: largest difference {worst:e}");
            assert!(worst < 1e-3, "{name}, {backend}, {way}: {worst}");
        }
    }
}

#[test]
fn logits_of_the_synthetic_image_are_pytorchs() {
    let spec = find("mobilenet_v2").expect("in the zoo");
    let preprocess = spec.weights.first().expect("published").preprocess(spec.input_size);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/mobilenet_v2-b0353104.pth");
    check("mobilenet_v2", &file, &preprocess, &golden(include_str!("goldens/mobilenet_v2_logits.csv")));
}

#[test]
fn logits_of_efficientnet_lite0_are_timms() {
    let weights = firebrick::data::cache_dir().expect("a cache folder").join("weights");
    let file = weights.join("efficientnet-lite0-57934424.pth");
    if !file.exists() {
        eprintln!("skipped: {} is not there; `cargo xtask assets --fetch` fetches it", file.display());
        return;
    }
    let normalization = Normalization { mean: [127.0 / 128.0; 3], ..Normalization::rescale(1.0 / 128.0) };
    let preprocess = Preprocess { normalization, ..Preprocess::imagenet() };
    check(
        "efficientnet_lite0",
        &file,
        &preprocess,
        &golden(include_str!("goldens/efficientnet_lite0_logits.csv")),
    );
}
