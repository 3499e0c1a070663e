//! Random access to samples.

use image::RgbImage;

use crate::decode::{DecodeLimits, decode};
use crate::error::DataError;
use crate::folder::Sample;

/// Samples that can be asked for in any order, from any thread.
///
/// Implement this for anything that a [`Loader`](crate::Loader) should deliver: decoded and augmented images,
/// rows of a table, features computed once.
pub trait Dataset: Send + Sync + 'static {
    /// One sample, e.g. pixels and a label.
    type Item: Send + 'static;

    /// The number of samples. Must not change.
    fn len(&self) -> usize;

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sample `index` (below [`len`](Self::len)) as it is to be in `epoch`.
    ///
    /// Must depend on `index` and `epoch` alone: draw random augmentations from a generator keyed by them.
    /// That is what makes batches the same for any number of workers.
    ///
    /// # Errors
    ///
    /// If the sample is unusable: an error for which [`DataError::is_bad_sample`] holds. Other errors end the
    /// epoch.
    ///
    /// # Panics
    ///
    /// May panic if `index` is out of range.
    fn get(&self, index: usize, epoch: u64) -> Result<Self::Item, DataError>;
}

/// The samples of a folder, decoded and otherwise as they are: `(image, label)`.
#[derive(Debug, Clone)]
pub struct ImageDataset {
    samples: Vec<Sample>,
    limits: DecodeLimits,
}

impl ImageDataset {
    /// The given samples, each decoded within `limits` when it is asked for.
    pub fn new(samples: Vec<Sample>, limits: DecodeLimits) -> Self {
        Self { samples, limits }
    }

    /// The samples, in the order of their indices.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }
}

impl Dataset for ImageDataset {
    type Item = (RgbImage, usize);

    fn len(&self) -> usize {
        self.samples.len()
    }

    fn get(&self, index: usize, _epoch: u64) -> Result<Self::Item, DataError> {
        let sample = &self.samples[index];
        Ok((decode(&sample.path, &self.limits)?, sample.label))
    }
}
