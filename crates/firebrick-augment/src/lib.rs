//! Image augmentation and preprocessing for training and inference, with draws kept apart from their application.
//!
//! A decoded image is an 8-bit [`RgbImage`](image::RgbImage). From there to a network's input there are three steps,
//! each of use alone:
//!
//! 1. [`Preprocess::geometry`] brings it to the input size, resized as PIL does it ([`resize`]).
//! 2. [`ImageDataGenerator`] augments it, in training, with Keras' random transforms under Keras' names. The result is
//!    an [`Rgb32FImage`](image::Rgb32FImage) with values in `[0, 255]`.
//! 3. [`Normalization`] turns the levels into the numbers that the weights were trained on.
//!
//! In place of the generator, a [`Pipeline`] has the transforms of torchvision in any order, and the policies made of them.
//!
//! Randomness is kept in one place: a *draw* ([`KerasDraw`]) is a plain struct made from a [`DrawKey`], that is from
//! (seed, epoch, sample), and applying it is a pure function. So the images do not depend on the number of workers or on
//! their order, and any single one can be made again.
//!
//! ```
//! use firebrick_augment::{DrawKey, ImageDataGenerator, Preprocess};
//! use image::{Rgb, RgbImage};
//!
//! let decoded = RgbImage::from_fn(500, 375, |x, y| Rgb([x as u8, y as u8, 128]));
//! let preprocess = Preprocess::imagenet();
//! let generator = ImageDataGenerator { rotation_range: 20.0, horizontal_flip: true, ..Default::default() };
//! generator.validate()?;
//!
//! // Training: draw, then apply.
//! let image = preprocess.geometry(&decoded);
//! let key = DrawKey { seed: 0, epoch: 3, sample: 41 };
//! let draw = generator.draw(key, image.width(), image.height());
//! let mut input = generator.apply(&image, &draw);
//! generator.normalization(&preprocess.normalization, None).apply(&mut input);
//! assert_eq!(input.dimensions(), (224, 224));
//!
//! // Inference: no draw.
//! let input = preprocess.apply(&decoded);
//! assert_eq!(input.dimensions(), (224, 224));
//! # Ok::<(), firebrick_augment::AugmentError>(())
//! ```
//!
//! What the results are checked against, with the figures, is said in `tests/`: Keras' own `apply_transform`,
//! `standardize` and `fit`, and PIL's `Image.resize`.

mod affine;
mod augmentation;
mod brightness;
mod channel_shift;
mod contact_sheet;
mod draw_key;
mod error;
mod featurewise_statistics;
mod fill_mode;
mod image_data_generator;
mod keras_draw;
mod lanes;
mod normalization;
mod preprocess;
mod resize;
mod transform;

pub use augmentation::Augmentation;
pub use contact_sheet::contact_sheet;
pub use draw_key::DrawKey;
pub use error::AugmentError;
pub use featurewise_statistics::FeaturewiseStatistics;
pub use fill_mode::FillMode;
pub use image_data_generator::{ImageDataGenerator, ZoomRange};
pub use keras_draw::KerasDraw;
pub use normalization::Normalization;
pub use preprocess::{Geometry, MAX_INPUT_SIDE, Preprocess};
pub use rand_chacha::ChaCha8Rng;
pub use resize::{Interpolation, resize};
pub use transform::{LearntPolicy, Op, Pipeline, Sampling, Transform};
