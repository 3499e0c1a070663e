//! How a decoded image becomes the numbers a network sees.

use std::borrow::Cow;
use std::ops::Range;

use image::{Rgb32FImage, RgbImage};
use serde::{Deserialize, Serialize};

use crate::resize::resize_window;
use crate::{AugmentError, Interpolation, Normalization, resize};

/// The longest side [`Preprocess::validate`] accepts, in pixels: an input of this size squared is already 3 GiB.
pub const MAX_INPUT_SIDE: u32 = 16_384;

/// How a decoded image becomes the numbers a network sees: part of a model as much as its weights are, and saved with
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// The network's input size in pixels, `[height, width]`.
    pub input_size: [u32; 2],
    /// How an image gets that size.
    pub geometry: Geometry,
    /// How it is resized.
    pub interpolation: Interpolation,
    /// What happens to the levels afterwards.
    pub normalization: Normalization,
}

/// How an image gets the network's input size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Geometry {
    /// Straight to the input size, whatever that does to the aspect ratio: Keras' `target_size`.
    Squash,
    /// torchvision's `Resize(shorter_side)`, which keeps the aspect ratio, and `CenterCrop(input_size)`, which fills up
    /// with black where the resized image is smaller.
    ResizeCrop {
        /// Length of the shorter side before the crop, in pixels.
        shorter_side: u32,
    },
}

impl Preprocess {
    /// torchvision's for most of its ImageNet weights: shorter side 256, centre crop 224, bilinear,
    /// [`Normalization::imagenet`].
    pub fn imagenet() -> Self {
        Self {
            input_size: [224, 224],
            geometry: Geometry::ResizeCrop { shorter_side: 256 },
            interpolation: Interpolation::Bilinear,
            normalization: Normalization::imagenet(),
        }
    }

    /// Checks every setting's range.
    ///
    /// # Errors
    ///
    /// [`AugmentError::InvalidSetting`] for the first setting outside its range. Sides are limited to
    /// [`MAX_INPUT_SIDE`], so that a damaged model file cannot ask for all the memory there is.
    pub fn validate(&self) -> Result<(), AugmentError> {
        let sides = 1..=MAX_INPUT_SIDE;
        if !self.input_size.iter().all(|side| sides.contains(side)) {
            let expected = "[height, width] in pixels, each from 1 to 16384";
            return Err(AugmentError::invalid("input_size", self.input_size, expected));
        }
        if let Geometry::ResizeCrop { shorter_side } = self.geometry
            && !sides.contains(&shorter_side)
        {
            return Err(AugmentError::invalid("shorter_side", shorter_side, "from 1 to 16384 pixels"));
        }
        self.normalization.validate()
    }

    /// The image at the input size. One that already has it is taken as it is, without a copy, with either geometry.
    pub fn geometry<'a>(&self, image: &'a RgbImage) -> Cow<'a, RgbImage> {
        let [height, width] = self.input_size;
        if image.dimensions() == (width, height) {
            return Cow::Borrowed(image);
        }
        Cow::Owned(match self.geometry {
            Geometry::Squash => resize(image, width, height, self.interpolation),
            Geometry::ResizeCrop { shorter_side } => self.resize_crop(image, shorter_side),
        })
    }

    /// The image as the network sees it: geometry, conversion to `f32`, normalisation. HWC.
    pub fn apply(&self, image: &RgbImage) -> Rgb32FImage {
        self.normalization.convert(&self.geometry(image))
    }

    /// Computes only the pixels that the crop keeps. That saves time, and memory with an image far longer than wide.
    fn resize_crop(&self, image: &RgbImage, shorter_side: u32) -> RgbImage {
        let [height, width] = self.input_size;
        let size = resized_size(image.dimensions(), shorter_side);
        let (columns, left) = centre_crop(size.0, width);
        let (rows, top) = centre_crop(size.1, height);
        let kept = resize_window(image, size, (columns, rows), self.interpolation);
        if kept.dimensions() == (width, height) {
            return kept;
        }
        let mut padded = RgbImage::new(width, height);
        image::imageops::replace(&mut padded, &kept, i64::from(left), i64::from(top));
        padded
    }
}

/// torchvision's `Resize` with one number: the shorter side becomes that, the longer one is scaled alike and rounded down.
fn resized_size((width, height): (u32, u32), shorter_side: u32) -> (u32, u32) {
    let longer = |long: u32, short: u32| {
        let scaled = u64::from(shorter_side) * u64::from(long) / u64::from(short.max(1));
        u32::try_from(scaled).unwrap_or(u32::MAX)
    };
    if width <= height {
        (shorter_side, longer(height, width))
    } else {
        (longer(width, height), shorter_side)
    }
}

/// torchvision's `CenterCrop` along an axis of `side` pixels: which of them are kept, and where they go in the result.
fn centre_crop(side: u32, crop: u32) -> (Range<u32>, u32) {
    if crop > side {
        return (0..side, (crop - side) / 2);
    }
    let twice = side - crop;
    // Python rounds halves to the even neighbour.
    let start = twice / 2 + u32::from(twice % 4 == 3);
    (start..start + crop, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn takes_an_image_of_the_input_size_as_it_is() {
        let image = RgbImage::from_pixel(7, 5, Rgb([1, 2, 3]));
        for geometry in [Geometry::Squash, Geometry::ResizeCrop { shorter_side: 9 }] {
            let preprocess = Preprocess { input_size: [5, 7], geometry, ..Preprocess::imagenet() };
            assert!(matches!(preprocess.geometry(&image), Cow::Borrowed(_)));
        }
    }

    #[test]
    fn crops_where_python_rounds_halves_to_even() {
        for (side, crop, start) in
            [(256, 224, 16), (255, 224, 16), (257, 224, 16), (259, 224, 18), (226, 225, 0), (228, 225, 2)]
        {
            assert_eq!(centre_crop(side, crop), (start..start + crop, 0), "{crop} of {side}");
        }
    }

    #[test]
    fn scales_the_longer_side_down_to_whole_pixels() {
        assert_eq!(resized_size((500, 375), 256), (341, 256));
        assert_eq!(resized_size((375, 500), 256), (256, 341));
        assert_eq!(resized_size((1, 1), 256), (256, 256));
        assert_eq!(resized_size((1, u32::MAX), 256), (256, u32::MAX));
    }

    #[test]
    fn keeps_to_the_crop_with_an_image_far_longer_than_wide() {
        for interpolation in [Interpolation::Nearest, Interpolation::Bilinear, Interpolation::Bicubic] {
            let preprocess = Preprocess { interpolation, ..Preprocess::imagenet() };
            let line = RgbImage::from_pixel(1, 60_000, Rgb([9; 3]));
            assert_eq!(*preprocess.geometry(&line), RgbImage::from_pixel(224, 224, Rgb([9; 3])));
        }
    }

    #[test]
    fn fills_up_with_black_where_the_crop_is_larger() {
        let preprocess = Preprocess {
            input_size: [6, 4],
            geometry: Geometry::ResizeCrop { shorter_side: 3 },
            ..Preprocess::imagenet()
        };
        let cropped = preprocess.geometry(&RgbImage::from_pixel(9, 9, Rgb([8; 3]))).into_owned();
        let rows: Vec<Vec<u8>> = cropped.rows().map(|row| row.map(|pixel| pixel[0]).collect()).collect();
        let (black, kept) = (vec![0; 4], vec![8, 8, 8, 0]);
        assert_eq!(rows, [black.clone(), kept.clone(), kept.clone(), kept, black.clone(), black]);
    }

    #[test]
    fn has_the_input_size_for_any_image() {
        for (width, height) in [(0, 0), (0, 5), (1, 1), (1, 300), (300, 1), (17, 13)] {
            for geometry in [Geometry::Squash, Geometry::ResizeCrop { shorter_side: 16 }] {
                let preprocess = Preprocess { input_size: [11, 13], geometry, ..Preprocess::imagenet() };
                assert_eq!(preprocess.apply(&RgbImage::new(width, height)).dimensions(), (13, 11));
            }
        }
    }

    #[test]
    fn reads_back_what_it_writes() {
        for geometry in [Geometry::Squash, Geometry::ResizeCrop { shorter_side: 256 }] {
            let preprocess = Preprocess { geometry, ..Preprocess::imagenet() };
            let json = serde_json::to_string(&preprocess).unwrap();
            assert_eq!(serde_json::from_str::<Preprocess>(&json).unwrap(), preprocess);
            let text = toml::to_string(&preprocess).unwrap();
            assert_eq!(toml::from_str::<Preprocess>(&text).unwrap(), preprocess);
        }
    }

    #[test]
    fn refuses_sides_no_image_has() {
        let wrong = |input_size, shorter_side| Preprocess {
            input_size,
            geometry: Geometry::ResizeCrop { shorter_side },
            ..Preprocess::imagenet()
        };
        assert_eq!(
            wrong([0, 224], 256).validate().unwrap_err().to_string(),
            "`input_size` is [0, 224], but it must be [height, width] in pixels, each from 1 to 16384"
        );
        assert!(wrong([224, 1 << 20], 256).validate().is_err());
        assert!(wrong([224, 224], 0).validate().is_err());
        assert_eq!(Preprocess::imagenet().validate(), Ok(()));
    }
}
