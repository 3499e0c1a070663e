//! Either of the two ways to vary an image.

use image::{Rgb32FImage, RgbImage};

use crate::{AugmentError, DrawKey, ImageDataGenerator, Normalization, Op, Pipeline, Preprocess};

/// Keras' generator, or a pipeline of torchvision's transforms.
#[derive(Clone, Debug, PartialEq)]
pub enum Augmentation {
    /// One affine resampling with flips, brightness and channel shift; normalises too.
    Keras(Box<ImageDataGenerator>),
    /// Transforms one after the other, in 8 bits.
    Pipeline(Pipeline),
}

impl Augmentation {
    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// [`AugmentError`] names the first setting that is wrong.
    pub fn validate(&self) -> Result<(), AugmentError> {
        match self {
            Self::Keras(generator) => generator.validate(),
            Self::Pipeline(pipeline) => pipeline.validate(),
        }
    }

    /// Whether an image can differ from draw to draw.
    pub fn is_random(&self) -> bool {
        match self {
            Self::Keras(generator) => generator.is_random(),
            Self::Pipeline(pipeline) => !pipeline.steps.is_empty(),
        }
    }

    /// What normalises in the end, given what the weights want: the generator may have its own.
    pub fn normalization(
        &self,
        of_weights: &Normalization,
        featurewise: Option<([f32; 3], [f32; 3])>,
    ) -> Normalization {
        match self {
            Self::Keras(generator) => generator.normalization(of_weights, featurewise),
            Self::Pipeline(_) => *of_weights,
        }
    }

    /// Draws for `key` and applies to a decoded image, which comes out with `preprocess`' size and levels in `[0, 255]`.
    ///
    /// A pipeline that begins with a random crop takes it from the decoded image; everything else happens after the resize.
    pub fn apply(&self, key: DrawKey, decoded: &RgbImage, preprocess: &Preprocess) -> Rgb32FImage {
        match self {
            Self::Keras(generator) => {
                let resized = preprocess.geometry(decoded);
                let draw = generator.draw(key, resized.width(), resized.height());
                generator.apply(&resized, &draw)
            }
            Self::Pipeline(pipeline) => {
                let [height, width] = preprocess.input_size;
                let resized;
                let image = if pipeline.crops_first() {
                    decoded
                } else {
                    resized = preprocess.geometry(decoded);
                    &resized
                };
                let ops = pipeline.draw(key, [image.width(), image.height()], [width, height]);
                let varied = Op::apply_all(&ops, image);
                let levels = varied.as_raw().iter().map(|&level| f32::from(level)).collect();
                Rgb32FImage::from_raw(varied.width(), varied.height(), levels)
                    .expect("as many levels as before")
            }
        }
    }
}
