//! How `eval` and `predict` read images.

use anyhow::Result;
use firebrick::augment::Preprocess;
use firebrick::burn::tensor::Device;
use firebrick::data::{DecodeLimits, Sample};
use firebrick::train::{DeviceChoice, ImageBatches, ImageOptions, ImageTransform};

use crate::choices::OnBadImage;

#[derive(clap::Args)]
pub(crate) struct ReadingArgs {
    /// Images of a step
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch_size: u32,
    /// Threads that read images
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=256))]
    workers: u32,
    /// Device: auto takes a GPU if there is one
    #[arg(long, default_value_t = DeviceChoice::Auto, value_name = "auto|ndarray|flex|wgpu")]
    device: DeviceChoice,
    /// What to do with an image that cannot be read
    #[arg(long, default_value_t = OnBadImage::Fail, value_name = "fail|skip")]
    on_bad_image: OnBadImage,
}

impl ReadingArgs {
    pub(crate) fn open_device(&self) -> Result<Device> {
        Ok(self.device.open()?)
    }

    /// Samples of a step.
    pub(crate) fn batch_size(&self) -> usize {
        self.batch_size as usize
    }

    /// Batches of `samples` in their order, preprocessed and not varied.
    pub(crate) fn batches(
        &self,
        samples: Vec<Sample>,
        preprocess: Preprocess,
        device: &Device,
    ) -> ImageBatches {
        self.transformed(samples, ImageTransform::Evaluate(preprocess), device)
    }

    /// Batches of `samples` in their order.
    pub(crate) fn transformed(
        &self,
        samples: Vec<Sample>,
        transform: ImageTransform,
        device: &Device,
    ) -> ImageBatches {
        let options = ImageOptions {
            batch_size: self.batch_size as usize,
            workers: self.workers as usize,
            shuffle: None,
            on_bad: self.on_bad_image.into(),
            limits: DecodeLimits::default(),
        };
        ImageBatches::new(samples, transform, &options, device)
    }
}
