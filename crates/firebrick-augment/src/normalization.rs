//! From levels to the numbers a network was trained on.

use image::{Rgb32FImage, RgbImage};
use serde::{Deserialize, Serialize};

use crate::AugmentError;

/// What Keras adds to a standard deviation before it divides by it.
pub(crate) const KERAS_EPSILON: f32 = 1e-6;

/// A normalisation: `x * rescale`, then the samplewise steps, then `(x - mean) / std` for each channel, then the channels' order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalization {
    /// Factor for the levels `0..=255`; other than 0.
    pub rescale: f32,
    /// Subtract each image's mean over all its pixels and channels.
    pub samplewise_center: bool,
    /// Divide by each image's standard deviation over all its pixels and channels plus 1e-6, as Keras does. Implies
    /// `samplewise_center`.
    pub samplewise_std_normalization: bool,
    /// Subtracted from each channel, red first.
    pub mean: [f32; 3],
    /// Divides each channel, red first; above 0.
    pub std: [f32; 3],
    /// Hands the channels out blue before green before red, as networks that were first trained in Caffe read them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub blue_first: bool,
}

impl Normalization {
    /// Leaves the levels as they are.
    pub fn identity() -> Self {
        Self::rescale(1.0)
    }

    /// Multiplies the levels by `factor`: `rescale(1.0 / 255.0)` gives `[0, 1]`.
    pub fn rescale(factor: f32) -> Self {
        Self {
            rescale: factor,
            samplewise_center: false,
            samplewise_std_normalization: false,
            mean: [0.0; 3],
            std: [1.0; 3],
            blue_first: false,
        }
    }

    /// torchvision's for its ImageNet weights: `[0, 1]`, then mean `[0.485, 0.456, 0.406]` and standard deviation
    /// `[0.229, 0.224, 0.225]`.
    pub fn imagenet() -> Self {
        Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], ..Self::rescale(1.0 / 255.0) }
    }

    /// Keras' `mode="tf"`, used by its MobileNets: `[-1, 1]`.
    pub fn minus_one_to_one() -> Self {
        Self { mean: [1.0; 3], ..Self::rescale(1.0 / 127.5) }
    }

    /// Keras' `mode="caffe"`, used by its VGGs and ResNets: blue first, ImageNet's mean of each channel subtracted, and no scale.
    pub fn caffe() -> Self {
        Self { mean: [123.68, 116.779, 103.939], blue_first: true, ..Self::identity() }
    }

    /// Checks every setting's range.
    ///
    /// # Errors
    ///
    /// [`AugmentError::InvalidSetting`] for the first setting outside its range.
    pub fn validate(&self) -> Result<(), AugmentError> {
        if !(self.rescale.is_finite() && self.rescale != 0.0) {
            let expected = "a finite number other than 0 (1 leaves the levels 0 to 255)";
            return Err(AugmentError::invalid("rescale", self.rescale, expected));
        }
        if !self.mean.iter().all(|mean| mean.is_finite()) {
            return Err(AugmentError::invalid(
                "mean",
                self.mean,
                "three finite numbers (0 subtracts nothing)",
            ));
        }
        if !self.std.iter().all(|&std| std.is_finite() && std > 0.0) {
            let expected = "three finite numbers above 0 (1 divides by nothing)";
            return Err(AugmentError::invalid("std", self.std, expected));
        }
        Ok(())
    }

    /// Normalises in place.
    pub fn apply(&self, image: &mut Rgb32FImage) {
        self.apply_to(image);
    }

    /// Normalises one image's values in HWC order, such as its place in a batch.
    pub fn apply_to(&self, values: &mut [f32]) {
        let affine = self.affine(|| Moments::of(values));
        if affine != PerChannel::IDENTITY {
            affine.apply(values);
        }
        self.reorder(values);
    }

    /// Exchanges red and blue if blue comes first.
    fn reorder(&self, values: &mut [f32]) {
        if self.blue_first {
            values.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| pixel.swap(0, 2));
        }
    }

    /// Converts to `f32` and normalises, in one pass.
    pub fn convert(&self, image: &RgbImage) -> Rgb32FImage {
        let levels = image.as_raw();
        let affine = self.affine(|| Moments::of_levels(levels)).repeated();
        let mut values = vec![0.0; levels.len()];
        let (blocks, rest) = values.as_chunks_mut::<12>();
        let (level_blocks, level_rest) = levels.as_chunks::<12>();
        for (block, levels) in blocks.iter_mut().zip(level_blocks) {
            for ((value, level), (shift, factor)) in block.iter_mut().zip(levels).zip(affine) {
                *value = (f32::from(*level) - shift) * factor;
            }
        }
        for ((value, level), (shift, factor)) in rest.iter_mut().zip(level_rest).zip(affine) {
            *value = (f32::from(*level) - shift) * factor;
        }
        self.reorder(&mut values);
        Rgb32FImage::from_raw(image.width(), image.height(), values)
            .expect("the buffer was made for this size")
    }

    /// All steps in one: `(x - shift) * factor` for each channel.
    ///
    /// The subtraction comes first, so that an image of one colour is normalised to exact zeros samplewise, not to what
    /// is left of two large numbers.
    fn affine(&self, moments: impl FnOnce() -> Moments) -> PerChannel {
        let rescale = f64::from(self.rescale);
        let (mut mean, mut std) = (0.0, 1.0);
        if self.samplewise_center || self.samplewise_std_normalization {
            let moments = moments();
            mean = moments.mean;
            if self.samplewise_std_normalization {
                std = moments.std * rescale.abs() + f64::from(KERAS_EPSILON);
            }
        }
        PerChannel([0, 1, 2].map(|channel| {
            let shift = mean + f64::from(self.mean[channel]) * std / rescale;
            let factor = rescale / (std * f64::from(self.std[channel]));
            (shift as f32, factor as f32)
        }))
    }
}

/// `(shift, factor)` for each channel.
#[derive(Clone, Copy, PartialEq)]
struct PerChannel([(f32, f32); 3]);

impl PerChannel {
    const IDENTITY: Self = Self([(0.0, 1.0); 3]);

    fn apply(self, values: &mut [f32]) {
        let affine = self.repeated();
        let (blocks, rest) = values.as_chunks_mut::<12>();
        for block in blocks {
            for (value, (shift, factor)) in block.iter_mut().zip(affine) {
                *value = (*value - shift) * factor;
            }
        }
        for (value, (shift, factor)) in rest.iter_mut().zip(affine) {
            *value = (*value - shift) * factor;
        }
    }

    /// For four pixels: the shortest block that is a whole number of vectors.
    fn repeated(self) -> [(f32, f32); 12] {
        std::array::from_fn(|index| self.0[index % 3])
    }
}

/// Mean and standard deviation over all values.
struct Moments {
    mean: f64,
    std: f64,
}

impl Moments {
    fn of(values: &[f32]) -> Self {
        if values.is_empty() {
            return Self { mean: 0.0, std: 0.0 };
        }
        let count = values.len() as f64;
        let mean = sum(values, |value| value) / count;
        let variance = sum(values, |value| (value - mean) * (value - mean)) / count;
        Self { mean, std: variance.sqrt() }
    }

    fn of_levels(levels: &[u8]) -> Self {
        if levels.is_empty() {
            return Self { mean: 0.0, std: 0.0 };
        }
        let (mut sum, mut squares) = (0u64, 0u64);
        for &level in levels {
            sum += u64::from(level);
            squares += u64::from(level) * u64::from(level);
        }
        let (mean, variance) = mean_and_variance(levels.len() as u64, sum, squares);
        Self { mean, std: variance.sqrt() }
    }
}

/// Mean and (biased) variance from whole-number sums. The cancellation happens in integers, where it is exact.
pub(crate) fn mean_and_variance(count: u64, sum: u64, squares: u64) -> (f64, f64) {
    let (count, sum, squares) = (u128::from(count), u128::from(sum), u128::from(squares));
    let scaled = count * squares - sum * sum;
    let count = count as f64;
    (sum as f64 / count, scaled as f64 / (count * count))
}

/// The sum of `term(value)`, in eight lanes that the processor can add at the same time.
fn sum(values: &[f32], term: impl Fn(f64) -> f64) -> f64 {
    let (blocks, rest) = values.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for block in blocks {
        for (lane, &value) in lanes.iter_mut().zip(block) {
            *lane += term(f64::from(value));
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|&value| term(f64::from(value))).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    fn gradient() -> RgbImage {
        RgbImage::from_fn(7, 5, |x, y| Rgb([(x * 30) as u8, (y * 50) as u8, (x * y * 8) as u8]))
    }

    fn levels(image: &RgbImage) -> Rgb32FImage {
        Normalization::identity().convert(image)
    }

    #[test]
    fn leaves_levels_alone_when_it_is_the_identity() {
        let converted = levels(&gradient());
        assert!(converted.iter().zip(gradient().iter()).all(|(value, level)| *value == f32::from(*level)));
    }

    #[test]
    fn agrees_with_the_formula_of_torchvision() {
        let image = gradient();
        let normalization = Normalization::imagenet();
        let normalized = normalization.convert(&image);
        for (value, level) in normalized.pixels().zip(image.pixels()) {
            for channel in 0..3 {
                let expected = (f64::from(level[channel]) / 255.0 - f64::from(normalization.mean[channel]))
                    / f64::from(normalization.std[channel]);
                assert!(
                    (f64::from(value[channel]) - expected).abs() < 1e-6,
                    "{} for {expected}",
                    value[channel]
                );
            }
        }
    }

    #[test]
    fn agrees_with_the_formula_of_keras_for_networks_of_caffe() {
        let image = gradient();
        for (value, level) in Normalization::caffe().convert(&image).pixels().zip(image.pixels()) {
            let [red, green, blue] = level.0.map(f32::from);
            let expected = [blue - 103.939, green - 116.779, red - 123.68];
            assert!(value.0.iter().zip(expected).all(|(value, expected)| (value - expected).abs() < 1e-4));
        }
        // Nothing but the order.
        let reordered = Normalization { blue_first: true, ..Normalization::identity() }.convert(&image);
        assert_eq!(reordered.get_pixel(1, 2).0, [16.0, 100.0, 30.0]);
    }

    #[test]
    fn gives_the_same_from_levels_and_from_floats() {
        let image = gradient();
        for normalization in [
            Normalization::imagenet(),
            Normalization::minus_one_to_one(),
            Normalization::caffe(),
            Normalization { samplewise_std_normalization: true, ..Normalization::rescale(1.0 / 255.0) },
        ] {
            let mut from_floats = levels(&image);
            normalization.apply(&mut from_floats);
            let from_levels = normalization.convert(&image);
            for (a, b) in from_floats.iter().zip(from_levels.iter()) {
                assert!((a - b).abs() < 1e-5, "{a} and {b}");
            }
        }
    }

    #[test]
    fn turns_an_image_of_one_colour_into_zeros_samplewise() {
        let samplewise =
            Normalization { samplewise_std_normalization: true, ..Normalization::rescale(1.0 / 255.0) };
        let grey = RgbImage::from_pixel(9, 7, Rgb([77; 3]));
        assert!(samplewise.convert(&grey).iter().all(|value| *value == 0.0));
        let mut floats = levels(&grey);
        samplewise.apply(&mut floats);
        assert!(floats.iter().all(|value| *value == 0.0));
    }

    #[test]
    fn takes_an_empty_image() {
        let samplewise = Normalization { samplewise_std_normalization: true, ..Normalization::imagenet() };
        assert_eq!(samplewise.convert(&RgbImage::new(0, 4)).dimensions(), (0, 4));
    }

    #[test]
    fn refuses_to_divide_by_nothing() {
        let zero_std = Normalization { std: [1.0, 0.0, 1.0], ..Normalization::identity() };
        let message = zero_std.validate().unwrap_err().to_string();
        assert!(
            message.starts_with("`std` is [1.0, 0.0, 1.0], but it must be three finite numbers above 0"),
            "{message}"
        );
        assert!(Normalization::rescale(0.0).validate().is_err());
        assert_eq!(Normalization::imagenet().validate(), Ok(()));
    }
}
