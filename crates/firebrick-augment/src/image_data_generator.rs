//! Keras' `ImageDataGenerator`: its settings, and the pure application of a draw.

use image::{Rgb32FImage, RgbImage};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::affine::{AffineMap, Fill, Mirror, mirrored};
use crate::brightness::brightness;
use crate::channel_shift::channel_shift;
use crate::keras_draw::KerasDraw;
use crate::normalization::KERAS_EPSILON;
use crate::{AugmentError, DrawKey, FillMode, Normalization};

/// The random transforms and the normalisation of Keras' `ImageDataGenerator`, under Keras' own names and with Keras'
/// defaults, under which nothing happens to an image.
///
/// ```
/// use firebrick_augment::{DrawKey, ImageDataGenerator};
/// use image::RgbImage;
///
/// let generator = ImageDataGenerator::keras_article();
/// generator.validate()?;
///
/// let image = RgbImage::new(224, 224);
/// let key = DrawKey { seed: 0, epoch: 0, sample: 17 };
/// let draw = generator.draw(key, image.width(), image.height());
/// let augmented = generator.apply(&image, &draw);
/// assert_eq!(augmented.dimensions(), (224, 224));
/// # Ok::<(), firebrick_augment::AugmentError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageDataGenerator {
    /// Rotations are uniform in plus or minus this many degrees. 0 or more; 0 by default.
    pub rotation_range: f32,
    /// Horizontal shifts are uniform in plus or minus this: below 1 a fraction of the width, from 1 on pixels.
    /// 0 or more; 0 by default. Keras' lists and whole numbers, which choose among whole pixels, are not offered.
    pub width_shift_range: f32,
    /// Vertical shifts are uniform in plus or minus this: below 1 a fraction of the height, from 1 on pixels.
    /// 0 or more; 0 by default.
    ///
    /// In Keras this range moves *columns* and `width_shift_range` moves rows, see [`KerasDraw::tx`]; the two are
    /// exchanged here as well.
    pub height_shift_range: f32,
    /// Brightness factors are uniform between these two, 1 leaving the image as it is, but for a truncation to 8 bits.
    /// `None` by default.
    pub brightness_range: Option<[f32; 2]>,
    /// Shear angles are uniform in plus or minus this many *degrees*: the value 0.2 found in many programs is all but
    /// nothing. 0 or more; 0 by default.
    pub shear_range: f32,
    /// The zooms along the two axes are drawn apart; factors above 1 show more than the image. 0 by default.
    pub zoom_range: ZoomRange,
    /// Levels (of 255) added to all channels are uniform in plus or minus this, and the result is clipped to the range
    /// that the image had. 0 or more; 0 by default.
    pub channel_shift_range: f32,
    /// What lies outside the image. Nearest by default.
    pub fill_mode: FillMode,
    /// The level (of 255) outside the image with [`FillMode::Constant`]. 0 by default.
    pub cval: f32,
    /// Mirror every other image, left to right. False by default.
    pub horizontal_flip: bool,
    /// Mirror every other image, top to bottom. False by default.
    pub vertical_flip: bool,
    /// Multiply by this, after the random transforms and before the rest of the normalisation. `None` by default.
    pub rescale: Option<f32>,
    /// Subtract each image's mean over all its pixels and channels. False by default.
    pub samplewise_center: bool,
    /// Divide by each image's standard deviation; implies `samplewise_center`, as in Keras. False by default.
    pub samplewise_std_normalization: bool,
    /// Subtract the data set's mean of each channel. False by default.
    pub featurewise_center: bool,
    /// Divide by the data set's standard deviation of each channel; implies `featurewise_center`, as in Keras. False by
    /// default.
    pub featurewise_std_normalization: bool,
}

/// Between which factors a zoom is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ZoomRange {
    /// Between `1 - z` and `1 + z`. 0 or more and below 1; 0 is no zoom.
    Around(f32),
    /// Between the two, both above 0.
    Between([f32; 2]),
}

impl ZoomRange {
    /// The smallest and the largest factor.
    pub fn bounds(self) -> [f32; 2] {
        match self {
            Self::Around(zoom) => [1.0 - zoom, 1.0 + zoom],
            Self::Between(bounds) => bounds,
        }
    }
}

impl From<f32> for ZoomRange {
    fn from(zoom: f32) -> Self {
        Self::Around(zoom)
    }
}

impl From<[f32; 2]> for ZoomRange {
    fn from(bounds: [f32; 2]) -> Self {
        Self::Between(bounds)
    }
}

impl Default for ImageDataGenerator {
    fn default() -> Self {
        Self {
            rotation_range: 0.0,
            width_shift_range: 0.0,
            height_shift_range: 0.0,
            brightness_range: None,
            shear_range: 0.0,
            zoom_range: ZoomRange::Around(0.0),
            channel_shift_range: 0.0,
            fill_mode: FillMode::Nearest,
            cval: 0.0,
            horizontal_flip: false,
            vertical_flip: false,
            rescale: None,
            samplewise_center: false,
            samplewise_std_normalization: false,
            featurewise_center: false,
            featurewise_std_normalization: false,
        }
    }
}

impl ImageDataGenerator {
    /// The number that keys this transform's draws, see [`DrawKey::rng`].
    pub const TRANSFORM: u64 = 0;

    /// The settings found in most transfer-learning articles: rotation 40, shifts 0.2, shear 0.2, zoom 0.2, horizontal
    /// flip, fill mode nearest.
    pub fn keras_article() -> Self {
        Self {
            rotation_range: 40.0,
            width_shift_range: 0.2,
            height_shift_range: 0.2,
            shear_range: 0.2,
            zoom_range: ZoomRange::Around(0.2),
            horizontal_flip: true,
            fill_mode: FillMode::Nearest,
            ..Self::default()
        }
    }

    /// Checks every setting's range.
    ///
    /// # Errors
    ///
    /// [`AugmentError::InvalidSetting`] for the first setting outside its range.
    pub fn validate(&self) -> Result<(), AugmentError> {
        for (field, value) in [
            ("rotation_range", self.rotation_range),
            ("width_shift_range", self.width_shift_range),
            ("height_shift_range", self.height_shift_range),
            ("shear_range", self.shear_range),
            ("channel_shift_range", self.channel_shift_range),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                let expected = "a finite number, 0 or more (0 turns it off)";
                return Err(AugmentError::invalid(field, value, expected));
            }
        }
        match self.zoom_range {
            ZoomRange::Around(zoom) if !(0.0..1.0).contains(&zoom) => {
                let expected =
                    "0 or more and below 1 (0 turns it off), or two factors [smallest, largest] above 0";
                return Err(AugmentError::invalid("zoom_range", zoom, expected));
            }
            ZoomRange::Between([low, high]) if !(low > 0.0 && low <= high && high.is_finite()) => {
                let expected = "two finite factors above 0, the smaller one first ([1.0, 1.0] turns it off)";
                return Err(AugmentError::invalid("zoom_range", [low, high], expected));
            }
            _ => {}
        }
        if let Some([low, high]) = self.brightness_range
            && !(low >= 0.0 && low <= high && high.is_finite())
        {
            let expected =
                "two finite factors, 0 or more, the smaller one first (leave it out to turn it off)";
            return Err(AugmentError::invalid("brightness_range", [low, high], expected));
        }
        if !self.cval.is_finite() {
            return Err(AugmentError::invalid("cval", self.cval, "a finite level, usually 0 to 255"));
        }
        if let Some(rescale) = self.rescale
            && !(rescale.is_finite() && rescale != 0.0)
        {
            let expected = "a finite number other than 0 (leave it out to turn it off)";
            return Err(AugmentError::invalid("rescale", rescale, expected));
        }
        Ok(())
    }

    /// Whether a draw can change an image: false if every draw is the identity. What can be computed from an image once
    /// may then be kept for all epochs.
    pub fn is_random(&self) -> bool {
        self.rotation_range != 0.0
            || self.width_shift_range != 0.0
            || self.height_shift_range != 0.0
            || self.shear_range != 0.0
            || self.zoom_range.bounds() != [1.0, 1.0]
            || self.channel_shift_range != 0.0
            || self.horizontal_flip
            || self.vertical_flip
            || self.brightness_range.is_some_and(|range| range != [1.0, 1.0])
    }

    /// Draws one transform for an image of `width` by `height` pixels, from the distributions of Keras'
    /// `get_random_transform`.
    ///
    /// The draw depends only on the settings, the key and the size. Every parameter takes its own random number whether
    /// it is turned on or not, so that turning one on leaves the others as they were.
    pub fn draw(&self, key: DrawKey, width: u32, height: u32) -> KerasDraw {
        let mut rng = key.rng(Self::TRANSFORM);
        let mut between = |low: f32, high: f32| {
            let (low, high) = (f64::from(low), f64::from(high));
            (low + (high - low) * rng.random::<f64>()) as f32
        };
        let shift_unit = |range: f32, side: u32| if range < 1.0 { side as f32 } else { 1.0 };
        let [zoom_low, zoom_high] = self.zoom_range.bounds();

        let theta = between(-self.rotation_range, self.rotation_range);
        let tx = between(-self.height_shift_range, self.height_shift_range);
        let ty = between(-self.width_shift_range, self.width_shift_range);
        let shear = between(-self.shear_range, self.shear_range);
        let zx = between(zoom_low, zoom_high);
        let zy = between(zoom_low, zoom_high);
        let mirror_columns = between(0.0, 1.0) < 0.5;
        let mirror_rows = between(0.0, 1.0) < 0.5;
        let channel_shift = between(-self.channel_shift_range, self.channel_shift_range);
        let [darkest, brightest] = self.brightness_range.unwrap_or([1.0, 1.0]);
        let brightness = between(darkest, brightest);
        KerasDraw {
            theta,
            tx: tx * shift_unit(self.height_shift_range, height),
            ty: ty * shift_unit(self.width_shift_range, width),
            shear,
            zx,
            zy,
            flip_horizontal: mirror_columns && self.horizontal_flip,
            flip_vertical: mirror_rows && self.vertical_flip,
            channel_shift: (self.channel_shift_range != 0.0).then_some(channel_shift),
            brightness: self.brightness_range.is_some().then_some(brightness),
        }
    }

    /// Applies a draw: one bilinear resampling for rotation, shift, shear and zoom together, then channel shift, flips
    /// and brightness, as Keras' `apply_transform`. The result has the image's size, and values in `[0, 255]` (and
    /// `cval`, where that lies outside).
    ///
    /// Pure: of the generator's settings only `fill_mode` and `cval` are used.
    pub fn apply(&self, image: &RgbImage, draw: &KerasDraw) -> Rgb32FImage {
        let mut output = vec![0.0; image.as_raw().len()];
        self.apply_to(image, draw, &mut output);
        Rgb32FImage::from_raw(image.width(), image.height(), output)
            .expect("the buffer was made for this size")
    }

    /// [`apply`](Self::apply) into a slice of `height * width * 3` values in HWC order, such as an image's place in a
    /// batch.
    ///
    /// # Panics
    ///
    /// If `output` has another length.
    pub fn apply_to(&self, image: &RgbImage, draw: &KerasDraw, output: &mut [f32]) {
        let (width, height) = image.dimensions();
        assert_eq!(
            output.len(),
            width as usize * height as usize * 3,
            "the output's length is not that of a {width}x{height} RGB image"
        );
        if output.is_empty() {
            return;
        }
        // Channel shift and flips commute, so the flips are part of the resampling.
        let mirror = Mirror { horizontal: draw.flip_horizontal, vertical: draw.flip_vertical };
        let fill = Fill { mode: self.fill_mode, cval: self.cval };
        match AffineMap::from_draw(draw, width, height) {
            Some(map) => map.resample(image, fill, mirror, output),
            None => mirrored(image, mirror, output),
        }
        if let Some(intensity) = draw.channel_shift {
            channel_shift(output, intensity);
        }
        if let Some(factor) = draw.brightness {
            let may_exceed = fill.mode == FillMode::Constant && !(0.0..=255.0).contains(&fill.cval);
            brightness(output, factor, may_exceed);
        }
    }

    /// Whether the normalisation needs the data set's mean and standard deviation, see
    /// [`FeaturewiseStatistics`](crate::FeaturewiseStatistics).
    pub fn needs_featurewise_statistics(&self) -> bool {
        self.featurewise_center || self.featurewise_std_normalization
    }

    /// The normalisation to use with weights that were trained with `weights`: the generator's own, if any of
    /// `rescale`, `samplewise_*` and `featurewise_*` is set, else the weights'.
    ///
    /// `featurewise` is the data set's mean and standard deviation of each channel, taken after `rescale`. As in Keras
    /// nothing is subtracted or divided by where it is missing, so see
    /// [`needs_featurewise_statistics`](Self::needs_featurewise_statistics).
    pub fn normalization(
        &self,
        weights: &Normalization,
        featurewise: Option<([f32; 3], [f32; 3])>,
    ) -> Normalization {
        let own = self.rescale.is_some()
            || self.samplewise_center
            || self.samplewise_std_normalization
            || self.needs_featurewise_statistics();
        if !own {
            return *weights;
        }
        let (mean, std) = match featurewise {
            Some((mean, std)) if self.featurewise_std_normalization => {
                (mean, std.map(|std| std + KERAS_EPSILON))
            }
            Some((mean, _)) if self.featurewise_center => (mean, [1.0; 3]),
            _ => ([0.0; 3], [1.0; 3]),
        };
        Normalization {
            rescale: self.rescale.unwrap_or(1.0),
            samplewise_center: self.samplewise_center || self.samplewise_std_normalization,
            samplewise_std_normalization: self.samplewise_std_normalization,
            mean,
            std,
            blue_first: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_nothing_by_default() {
        let generator = ImageDataGenerator::default();
        assert_eq!(generator.validate(), Ok(()));
        assert!(!generator.is_random());
        let key = DrawKey { seed: 0, epoch: 0, sample: 0 };
        assert_eq!(generator.draw(key, 5, 7), KerasDraw::default());
    }

    #[test]
    fn calls_any_setting_that_can_change_an_image_random() {
        let off = ImageDataGenerator::default;
        for on in [
            ImageDataGenerator { rotation_range: 1.0, ..off() },
            ImageDataGenerator { width_shift_range: 0.1, ..off() },
            ImageDataGenerator { height_shift_range: 2.0, ..off() },
            ImageDataGenerator { shear_range: 0.2, ..off() },
            ImageDataGenerator { zoom_range: [2.0, 2.0].into(), ..off() },
            ImageDataGenerator { channel_shift_range: 5.0, ..off() },
            ImageDataGenerator { horizontal_flip: true, ..off() },
            ImageDataGenerator { vertical_flip: true, ..off() },
            ImageDataGenerator { brightness_range: Some([0.5, 0.5]), ..off() },
        ] {
            assert!(on.is_random(), "{on:?}");
        }
        let still = ImageDataGenerator {
            zoom_range: [1.0, 1.0].into(),
            brightness_range: Some([1.0, 1.0]),
            rescale: Some(0.5),
            samplewise_center: true,
            ..off()
        };
        assert!(!still.is_random());
    }

    #[test]
    fn refuses_settings_outside_their_range_by_name() {
        let off = ImageDataGenerator::default;
        for (field, value, wrong) in [
            ("rotation_range", "-1.0", ImageDataGenerator { rotation_range: -1.0, ..off() }),
            ("width_shift_range", "NaN", ImageDataGenerator { width_shift_range: f32::NAN, ..off() }),
            ("height_shift_range", "inf", ImageDataGenerator { height_shift_range: f32::INFINITY, ..off() }),
            ("shear_range", "-0.5", ImageDataGenerator { shear_range: -0.5, ..off() }),
            ("zoom_range", "1.0", ImageDataGenerator { zoom_range: 1.0.into(), ..off() }),
            ("zoom_range", "[1.5, 0.5]", ImageDataGenerator { zoom_range: [1.5, 0.5].into(), ..off() }),
            ("zoom_range", "[0.0, 0.5]", ImageDataGenerator { zoom_range: [0.0, 0.5].into(), ..off() }),
            ("channel_shift_range", "-3.0", ImageDataGenerator { channel_shift_range: -3.0, ..off() }),
            (
                "brightness_range",
                "[-0.5, 1.0]",
                ImageDataGenerator { brightness_range: Some([-0.5, 1.0]), ..off() },
            ),
            ("cval", "NaN", ImageDataGenerator { cval: f32::NAN, ..off() }),
            ("rescale", "0.0", ImageDataGenerator { rescale: Some(0.0), ..off() }),
        ] {
            let message = wrong.validate().unwrap_err().to_string();
            let start = format!("`{field}` is {value}, but it must be ");
            assert!(message.starts_with(&start), "{message}");
        }
    }

    #[test]
    fn reads_keras_names_from_toml() {
        let text = "rotation_range = 40\nzoom_range = [0.5, 1]\nfill_mode = \"wrap\"\nbrightness_range = [0.5, 1.5]\n";
        let read: ImageDataGenerator = toml::from_str(text).unwrap();
        let expected = ImageDataGenerator {
            rotation_range: 40.0,
            zoom_range: [0.5, 1.0].into(),
            fill_mode: FillMode::Wrap,
            brightness_range: Some([0.5, 1.5]),
            ..ImageDataGenerator::default()
        };
        assert_eq!(read, expected);
        assert_eq!(
            toml::from_str::<ImageDataGenerator>("zoom_range = 0").unwrap(),
            ImageDataGenerator::default()
        );
    }

    #[test]
    fn reads_back_the_toml_it_writes() {
        let article = ImageDataGenerator::keras_article();
        assert_eq!(
            toml::from_str::<ImageDataGenerator>(&toml::to_string(&article).unwrap()).unwrap(),
            article
        );
    }

    #[test]
    fn refuses_a_setting_it_does_not_know() {
        let error = toml::from_str::<ImageDataGenerator>("rotation = 40").unwrap_err().to_string();
        assert!(error.contains("unknown field `rotation`") && error.contains("rotation_range"), "{error}");
    }

    #[test]
    fn takes_the_weights_normalization_unless_it_has_its_own() {
        let weights = Normalization::imagenet();
        let off = ImageDataGenerator::default;
        assert_eq!(ImageDataGenerator::keras_article().normalization(&weights, None), weights);

        let own = ImageDataGenerator { rescale: Some(0.5), ..off() };
        assert_eq!(own.normalization(&weights, None), Normalization::rescale(0.5));

        let own = ImageDataGenerator { samplewise_std_normalization: true, ..off() };
        let samplewise = own.normalization(&weights, None);
        assert!(samplewise.samplewise_center && samplewise.samplewise_std_normalization);
        assert_eq!((samplewise.rescale, samplewise.mean, samplewise.std), (1.0, [0.0; 3], [1.0; 3]));

        let statistics = Some(([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]));
        let own = ImageDataGenerator { featurewise_center: true, ..off() };
        let centred = own.normalization(&weights, statistics);
        assert_eq!((centred.mean, centred.std), ([1.0, 2.0, 3.0], [1.0; 3]));
        let own = ImageDataGenerator { featurewise_std_normalization: true, ..off() };
        let scaled = own.normalization(&weights, statistics);
        assert_eq!((scaled.mean, scaled.std), ([1.0, 2.0, 3.0], [4.000001, 5.000001, 6.000001]));
    }
}
