//! Batches of images from files.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use firebrick_augment::{Augmentation, DrawKey, FeaturewiseStatistics, Preprocess};
use firebrick_data::{DataError, Dataset, DecodeLimits, Loader, LoaderOptions, OnBadSample, Sample, decode};

use crate::{Batch, Batches, TrainError};

/// What happens to an image between its file and the network.
#[derive(Clone, Debug)]
pub enum ImageTransform {
    /// Preprocessing alone: the same input in every epoch.
    Evaluate(Preprocess),
    /// Preprocessing with random augmentation before the normalisation.
    Augment {
        /// Geometry before, normalisation after.
        preprocess: Preprocess,
        /// What is drawn.
        augmentation: Augmentation,
        /// What the draws depend on, besides epoch and sample.
        seed: u64,
    },
}

/// How images are read and gathered.
#[derive(Clone, Debug)]
pub struct ImageOptions {
    /// Samples of a batch.
    pub batch_size: usize,
    /// Threads that decode; 0 decodes in the thread that trains. The batches are the same for any number.
    pub workers: usize,
    /// Shuffles every epoch anew from this seed; none keeps the order.
    pub shuffle: Option<u64>,
    /// What becomes of an image that cannot be decoded.
    pub on_bad: OnBadSample,
    /// What an image file may ask for.
    pub limits: DecodeLimits,
}

/// Batches of images, `[batch, 3, height, width]`, in memory channels last.
pub struct ImageBatches {
    loader: Loader<Images>,
    input_size: [usize; 2],
    device: Device,
}

impl ImageBatches {
    /// Batches of `samples` on `device`.
    ///
    /// # Panics
    ///
    /// If the options ask for batches of no samples.
    pub fn new(
        samples: Vec<Sample>,
        transform: ImageTransform,
        options: &ImageOptions,
        device: &Device,
    ) -> Self {
        let input_size = match &transform {
            ImageTransform::Evaluate(preprocess) | ImageTransform::Augment { preprocess, .. } => {
                preprocess.input_size
            }
        };
        let dataset = Images { samples, transform, limits: options.limits.clone() };
        let loader = Loader::new(
            Arc::new(dataset),
            LoaderOptions {
                batch_size: options.batch_size,
                workers: options.workers,
                // One batch to hand over while the next is being made.
                queue: 2,
                shuffle: options.shuffle,
                on_bad: options.on_bad,
            },
        );
        Self { loader, input_size: input_size.map(|side| side as usize), device: device.clone() }
    }
}

impl Batches<4> for ImageBatches {
    fn num_batches(&self) -> usize {
        self.loader.num_batches()
    }

    fn num_samples(&self) -> usize {
        self.loader.dataset().len()
    }

    fn epoch<'a>(&'a mut self, epoch: usize) -> Box<dyn Iterator<Item = Result<Batch<4>, TrainError>> + 'a> {
        let [height, width] = self.input_size;
        let device = self.device.clone();
        let batches = self.loader.epoch(epoch as u64);
        Box::new(batches.map(move |batch| {
            let batch = batch?;
            for bad in &batch.skipped {
                // Once is enough: the same files are bad in every epoch.
                if epoch == 0 {
                    tracing::warn!("skipped: {}", bad.error);
                }
            }
            let mut pixels = Vec::with_capacity(batch.items.len() * height * width * 3);
            let mut labels = Vec::with_capacity(batch.items.len());
            for example in batch.items {
                pixels.extend_from_slice(&example.pixels);
                labels.push(example.label);
            }
            let nhwc = TensorData::new(pixels, [labels.len(), height, width, 3]);
            // NCHW by its strides; the memory stays as it is.
            let inputs = Tensor::<4>::from_data(nhwc, &device).permute([0, 3, 1, 2]);
            Ok(Batch::new(inputs, labels))
        }))
    }
}

/// Files and what happens to them.
struct Images {
    samples: Vec<Sample>,
    transform: ImageTransform,
    limits: DecodeLimits,
}

/// A normalised image and its class.
struct Example {
    /// `[height, width, 3]`.
    pixels: Vec<f32>,
    label: usize,
}

impl Dataset for Images {
    type Item = Example;

    fn len(&self) -> usize {
        self.samples.len()
    }

    fn get(&self, index: usize, epoch: u64) -> Result<Example, DataError> {
        let Sample { path, label } = &self.samples[index];
        let image = decode(path, &self.limits)?;
        let pixels = match &self.transform {
            ImageTransform::Evaluate(preprocess) => preprocess.apply(&image),
            ImageTransform::Augment { preprocess, augmentation, seed } => {
                let key = DrawKey { seed: *seed, epoch, sample: index as u64 };
                let mut augmented = augmentation.apply(key, &image, preprocess);
                preprocess.normalization.apply(&mut augmented);
                augmented
            }
        };
        Ok(Example { pixels: pixels.into_raw(), label: *label })
    }
}

/// The mean and standard deviation of each channel over `samples`, as Keras' `ImageDataGenerator.fit`.
///
/// Taken after the resize and after multiplication by `rescale`.
///
/// # Errors
///
/// The first image that cannot be decoded, unless such are skipped; [`TrainError::Batches`] if there is none.
pub fn featurewise_statistics(
    samples: &[Sample],
    preprocess: &Preprocess,
    rescale: Option<f32>,
    on_bad: OnBadSample,
    limits: &DecodeLimits,
) -> Result<([f32; 3], [f32; 3]), TrainError> {
    let mut statistics = FeaturewiseStatistics::default();
    for sample in samples {
        match decode(&sample.path, limits) {
            Ok(image) => statistics.add(&preprocess.geometry(&image)),
            Err(error) if on_bad == OnBadSample::Skip && error.is_bad_sample() => {}
            Err(error) => return Err(error.into()),
        }
    }
    statistics
        .mean_std(rescale)
        .ok_or_else(|| TrainError::Batches("there is no image to take the featurewise mean of".to_owned()))
}
