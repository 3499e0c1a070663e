//! Transfer learning on a folder of images: MobileNetV2, frozen, with a new head.
//!
//! ```text
//! cargo run --release --example transfer_learning -p firebrick-examples [DIR|builtin:fashion] [EPOCHS] [IMAGES]
//! ```
//!
//! `IMAGES` keeps that many training and validation images, to try it out.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::path::PathBuf;

use firebrick::augment::{
    Augmentation, Geometry, ImageDataGenerator, Interpolation, Normalization, Preprocess,
};
use firebrick::data::{
    DecodeLimits, FolderOptions, ImageFolder, OnBadSample, Sample, builtin_fashion, cache_dir, shuffled,
};
use firebrick::optim::OptimizerConfig;
use firebrick::train::{
    Callback, DeviceChoice, EarlyStopping, EpochRecord, Extracted, FitOptions, Flow, ImageBatches,
    ImageOptions, ImageTransform, Monitor, TrainError, evaluate, fit,
};
use firebrick::zoo::{CreateOptions, find, load_pretrained};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let data = arguments.next().unwrap_or_else(|| "builtin:fashion".to_owned());
    let epochs = arguments.next().map_or(Ok(100), |text| text.parse())?;
    let images = arguments.next().map_or(Ok(usize::MAX), |text| text.parse())?;

    // Data: class folders, augmented as Keras' ImageDataGenerator would.
    let folder =
        if data == "builtin:fashion" { builtin_fashion(&cache_dir()?)? } else { PathBuf::from(data) };
    let folder = ImageFolder::open(folder, &FolderOptions { validation_split: 0.2, seed: 0 })?;
    let preprocess = Preprocess {
        input_size: [224, 224],
        geometry: Geometry::Squash,
        interpolation: Interpolation::Bilinear,
        normalization: Normalization::imagenet(),
    };
    let evaluation = ImageTransform::Evaluate(preprocess);
    let augmented = ImageTransform::Augment {
        preprocess,
        augmentation: Augmentation::Keras(Box::new(ImageDataGenerator::keras_article())),
        seed: 0,
    };

    // Model: pretrained backbone, global average pooling, Dense(128, relu), Dense(classes).
    let device = DeviceChoice::Auto.open()?;
    let options =
        CreateOptions { classes: folder.classes.len(), hidden: vec![128], ..CreateOptions::default() };
    let model =
        load_pretrained(find("mobilenet_v2")?, &device, &mut |_, _| ())?.reset_head(&options, &device);
    let backbone = model.backbone.compile([224, 224])?;
    let batches = |samples, transform, shuffle| {
        let options = ImageOptions {
            batch_size: 32,
            workers: 2,
            shuffle,
            on_bad: OnBadSample::Fail,
            limits: DecodeLimits::default(),
        };
        // What is frozen is a part of the data: no gradient is recorded for it.
        Extracted::new(ImageBatches::new(samples, transform, &options, &device), |x| backbone.pooled(x))
    };
    let mut train = batches(some(folder.train, images), augmented, Some(0));
    let mut validation = batches(some(folder.validation, images), evaluation, None);

    // Training: Adam 1e-4, stop when val_loss has not improved for 10 epochs.
    let outcome = fit(
        model.head,
        OptimizerConfig::adam_keras().init()?,
        &mut train,
        Some(&mut validation),
        &FitOptions { epochs, learning_rate: 1e-4, ..FitOptions::default() },
        &mut [&mut EarlyStopping::new(Monitor::ValLoss).with_patience(10), &mut Print],
    )?;
    println!("Test accuracy: {:.4}", evaluate(&outcome.network, &mut validation)?.accuracy);
    Ok(())
}

/// Some of the samples, of all classes.
fn some(samples: Vec<Sample>, count: usize) -> Vec<Sample> {
    shuffled(samples.len(), 0, 0).into_iter().take(count).map(|index| samples[index].clone()).collect()
}

/// A line an epoch.
struct Print;

impl<N> Callback<N> for Print {
    fn on_epoch_end(&mut self, epoch: &EpochRecord, _: &N) -> Result<Flow, TrainError> {
        println!("{epoch:?}");
        Ok(Flow::Continue)
    }
}
