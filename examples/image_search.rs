//! Search by picture: the images whose features are nearest to an image's, MobileNetV2's of Fashion-MNIST.
//!
//! ```text
//! cargo run --release --example image_search -p firebrick-examples [DIR|builtin:fashion] [IMAGES] [QUERIES]
//! ```
//!
//! Nothing is trained: images of the same class lie near each other in the features of a network that learnt other classes.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::path::PathBuf;

use anyhow::ensure;
use firebrick::augment::{Geometry, Interpolation, Normalization, Preprocess};
use firebrick::burn::tensor::{Device, Tensor};
use firebrick::data::{
    DecodeLimits, FolderOptions, ImageFolder, OnBadSample, Sample, builtin_fashion, cache_dir, shuffled,
};
use firebrick::train::{Batches, DeviceChoice, ImageBatches, ImageOptions, ImageTransform};
use firebrick::zoo::{FrozenBackbone, find, load_pretrained};

const NEAREST: usize = 5;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let data = arguments.next().unwrap_or_else(|| "builtin:fashion".to_owned());
    let images = arguments.next().map_or(Ok(usize::MAX), |text| text.parse())?;
    let queries = arguments.next().map_or(Ok(200), |text| text.parse())?;
    let folder =
        if data == "builtin:fashion" { builtin_fashion(&cache_dir()?)? } else { PathBuf::from(data) };
    let folder = ImageFolder::open(folder, &FolderOptions { validation_split: 0.2, seed: 0 })?;
    let (found, asked) = (some(folder.train, images), some(folder.validation, queries));
    ensure!(found.len() >= NEAREST, "{} images are too few to look for {NEAREST}", found.len());

    let device = DeviceChoice::Auto.open()?;
    let model = load_pretrained(find("mobilenet_v2")?, &device, &mut |_, _| ())?;
    let backbone = model.backbone.compile([224, 224])?;
    let index = features(&backbone, found.clone(), &device)?;
    let questions = features(&backbone, asked.clone(), &device)?;

    // Features have length one, so a scalar product is the cosine: one matrix product for all questions.
    let cosines = questions.matmul(index.transpose());
    let nearest: Vec<i64> = cosines.argtopk(NEAREST, 1).into_data().iter::<i64>().collect();
    let mut right = 0;
    for (query, (sample, nearest)) in asked.iter().zip(nearest.chunks(NEAREST)).enumerate() {
        let classes: Vec<&str> =
            nearest.iter().map(|&image| folder.classes[found[image as usize].label].as_str()).collect();
        let class = folder.classes[sample.label].as_str();
        right += classes.iter().filter(|found| **found == class).count();
        if query < 5 {
            println!("{class:<12} {}", classes.join(", "));
        }
    }
    let precision = right as f64 / (asked.len() * NEAREST) as f64;
    let chance = 1.0 / folder.classes.len() as f64;
    println!("precision@{NEAREST} of {} questions among {} images: {precision:.3}", asked.len(), found.len());
    ensure!(precision > 2.0 * chance, "no better than chance, which is {chance}");
    Ok(())
}

/// The images' features, `[images, 1280]`, each of length one.
fn features(backbone: &FrozenBackbone, samples: Vec<Sample>, device: &Device) -> anyhow::Result<Tensor<2>> {
    let transform = ImageTransform::Evaluate(Preprocess {
        input_size: [224, 224],
        geometry: Geometry::Squash,
        interpolation: Interpolation::Bilinear,
        normalization: Normalization::imagenet(),
    });
    let options = ImageOptions {
        batch_size: 32,
        workers: 2,
        shuffle: None,
        on_bad: OnBadSample::Fail,
        limits: DecodeLimits::default(),
    };
    let mut batches = ImageBatches::new(samples, transform, &options, device);
    let mut rows = Vec::new();
    for batch in batches.epoch(0) {
        let pooled = backbone.pooled(batch?.inputs);
        let length = pooled.clone().powi_scalar(2).sum_dim(1).sqrt().clamp_min(1e-12);
        rows.push(pooled / length);
    }
    Ok(Tensor::cat(rows, 0))
}

/// Some of the samples, of all classes.
fn some(samples: Vec<Sample>, count: usize) -> Vec<Sample> {
    shuffled(samples.len(), 0, 0).into_iter().take(count).map(|index| samples[index].clone()).collect()
}
