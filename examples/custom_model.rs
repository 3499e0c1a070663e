//! A network of your own in Firebrick's loop, on the device of your choice.
//!
//! ```text
//! cargo run --release --example custom_model -p firebrick-examples [auto|ndarray|flex|wgpu] [EPOCHS] [IMAGES]
//! ```
#![allow(clippy::print_stdout, reason = "an example prints")]

use firebrick::augment::{Geometry, Interpolation, Normalization, Preprocess};
use firebrick::burn;
use firebrick::burn::module::Module;
use firebrick::burn::nn::{
    Linear, LinearConfig,
    conv::{Conv2d, Conv2dConfig},
    pool::{MaxPool2d, MaxPool2dConfig},
};
use firebrick::burn::tensor::{Device, Tensor, activation::relu};
use firebrick::data::{
    DecodeLimits, FolderOptions, ImageFolder, OnBadSample, Sample, builtin_fashion, cache_dir, shuffled,
};
use firebrick::nn::Network;
use firebrick::optim::OptimizerConfig;
use firebrick::train::{DeviceChoice, FitOptions, ImageBatches, ImageOptions, ImageTransform, fit};

/// Two convolutions, each pooled, and a dense layer: an ordinary burn module.
#[derive(Module, Debug)]
struct SmallCnn {
    conv1: Conv2d,
    conv2: Conv2d,
    pool: MaxPool2d,
    dense: Linear,
}

impl SmallCnn {
    fn new(classes: usize, device: &Device) -> Self {
        Self {
            conv1: Conv2dConfig::new([3, 8], [3, 3]).init(device),
            conv2: Conv2dConfig::new([8, 16], [3, 3]).init(device),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            dense: LinearConfig::new(16 * 5 * 5, classes).init(device),
        }
    }
}

/// All that the loop asks for.
impl Network<4> for SmallCnn {
    /// `[batch, 3, 28, 28]` to `[batch, classes]`.
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.pool.forward(relu(self.conv1.forward(images)));
        let x = self.pool.forward(relu(self.conv2.forward(x)));
        self.dense.forward(x.flatten(1, 3))
    }
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let device = arguments.next().map_or(Ok(DeviceChoice::Auto), |name| name.parse())?.open()?;
    let epochs = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let images = arguments.next().map_or(Ok(usize::MAX), |text| text.parse())?;
    // burn draws first weights from the device's generator.
    device.seed(0);

    let folder = ImageFolder::open(
        builtin_fashion(&cache_dir()?)?,
        &FolderOptions { validation_split: 0.2, seed: 0 },
    )?;
    let transform = ImageTransform::Evaluate(Preprocess {
        input_size: [28, 28],
        geometry: Geometry::Squash,
        interpolation: Interpolation::Bilinear,
        normalization: Normalization::imagenet(),
    });
    let batches = |samples: Vec<Sample>, shuffle| {
        let kept = shuffled(samples.len(), 0, 0).into_iter().take(images);
        let options = ImageOptions {
            batch_size: 32,
            workers: 2,
            shuffle,
            on_bad: OnBadSample::Fail,
            limits: DecodeLimits::default(),
        };
        ImageBatches::new(
            kept.map(|index| samples[index].clone()).collect(),
            transform.clone(),
            &options,
            &device,
        )
    };
    let outcome = fit(
        SmallCnn::new(folder.classes.len(), &device),
        OptimizerConfig::adam_torch().init()?,
        &mut batches(folder.train, Some(0)),
        Some(&mut batches(folder.validation, None)),
        &FitOptions { epochs, learning_rate: 1e-3, ..FitOptions::default() },
        &mut [],
    )?;
    for epoch in outcome.history.epochs {
        println!("{epoch:?}");
    }
    Ok(())
}
