//! What is drawn, and from which ranges.

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::op::image_corners;
use super::policy::{self, AugMix, LearntPolicy};
use super::{Op, Sampling};
use crate::{AugmentError, Interpolation};

/// A random change of an image, under torchvision's name (`transforms.v2`) and with its defaults.
///
/// `p` is the probability that it is applied at all. Where torchvision has no default (rotation, blur, posterize, solarize) one must be
/// given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum Transform {
    /// A window of a share `scale` of the area and an aspect `ratio`, resized to the network's input (Szegedy et al. 2015,
    /// arXiv:1409.4842). As the first step of a pipeline it is taken from the image as it was decoded.
    RandomResizedCrop {
        /// Shares of the area, least and most; 0.08 and 1 by default.
        #[serde(default = "crop_scale")]
        scale: [f64; 2],
        /// Width over height, least and most; 3/4 and 4/3 by default.
        #[serde(default = "crop_ratio")]
        ratio: [f64; 2],
        /// Bilinear by default.
        #[serde(default)]
        interpolation: Interpolation,
    },
    /// A window of the image's own size after `padding` pixels were added on every side.
    RandomCrop {
        /// Pixels, at most 4096.
        padding: u32,
        /// Level of each channel of what is added; 0 by default.
        #[serde(default)]
        fill: [u8; 3],
    },
    /// Left to right.
    RandomHorizontalFlip {
        /// 0.5 by default.
        #[serde(default = "half")]
        p: f64,
    },
    /// Top to bottom.
    RandomVerticalFlip {
        /// 0.5 by default.
        #[serde(default = "half")]
        p: f64,
    },
    /// Around the centre, by up to `degrees` either way.
    RandomRotation {
        /// 0 or more.
        degrees: f64,
        /// Nearest by default.
        #[serde(default)]
        sampling: Sampling,
        /// Level of each channel outside; 0 by default.
        #[serde(default)]
        fill: [u8; 3],
    },
    /// Rotation, translation, scale and shear at once.
    RandomAffine {
        /// Up to so many either way; 0 or more.
        degrees: f64,
        /// Shares of the width and the height, up to which the image moves either way; 0 by default.
        #[serde(default)]
        translate: [f64; 2],
        /// Least and greatest factor; 1 and 1 by default.
        #[serde(default = "same_scale")]
        scale: [f64; 2],
        /// Degrees along x and y, up to so many either way; 0 by default.
        #[serde(default)]
        shear: [f64; 2],
        /// Nearest by default.
        #[serde(default)]
        sampling: Sampling,
        /// Level of each channel outside; 0 by default.
        #[serde(default)]
        fill: [u8; 3],
    },
    /// Moves every corner towards the middle by up to a share of the half side.
    RandomPerspective {
        /// 0 to 1; 0.5 by default.
        #[serde(default = "half")]
        distortion_scale: f64,
        /// 0.5 by default.
        #[serde(default = "half")]
        p: f64,
        /// Level of each channel outside; 0 by default.
        #[serde(default)]
        fill: [u8; 3],
    },
    /// Moves every pixel by a smooth random field (Simard et al. 2003).
    ElasticTransform {
        /// Length of the field; 50 by default.
        #[serde(default = "elastic_alpha")]
        alpha: f32,
        /// Its smoothness in pixels, at most 50; 5 by default.
        #[serde(default = "elastic_sigma")]
        sigma: f32,
    },
    /// Brightness, contrast, saturation and hue in random order. A number `j` below means factors from `max(0, 1 - j)` to `1 + j`.
    ColorJitter {
        /// 0 or more; 0 by default.
        #[serde(default)]
        brightness: f64,
        /// 0 or more; 0 by default.
        #[serde(default)]
        contrast: f64,
        /// 0 or more; 0 by default.
        #[serde(default)]
        saturation: f64,
        /// Share of the circle that the hue turns by either way, 0 to 0.5; 0 by default.
        #[serde(default)]
        hue: f64,
    },
    /// Luma in all channels.
    RandomGrayscale {
        /// 0.1 by default.
        #[serde(default = "tenth")]
        p: f64,
    },
    /// Gaussian blur.
    GaussianBlur {
        /// Taps, odd, at most 101.
        kernel_size: u32,
        /// Least and greatest deviation, pixels; 0.1 and 2 by default.
        #[serde(default = "blur_sigma")]
        sigma: [f64; 2],
    },
    /// Sharpens (a factor above 1) or smooths.
    RandomAdjustSharpness {
        /// 0 is smoothed, 1 the image.
        sharpness_factor: f32,
        /// 0.5 by default.
        #[serde(default = "half")]
        p: f64,
    },
    /// Keeps the highest bits of each level.
    RandomPosterize {
        /// 0 to 8.
        bits: u8,
        /// 0.5 by default.
        #[serde(default = "half")]
        p: f64,
    },
    /// Inverts the levels from a threshold on.
    RandomSolarize {
        /// A level, 0 to 256.
        threshold: f32,
        /// 0.5 by default.
        #[serde(default = "half")]
        p: f64,
    },
    /// Makes the levels of each channel equally frequent.
    RandomEqualize {
        /// 0.5 by default.
        #[serde(default = "half")]
        p: f64,
    },
    /// Spreads the levels of each channel over the whole range.
    RandomAutocontrast {
        /// 0.5 by default.
        #[serde(default = "half")]
        p: f64,
    },
    /// `255 - level`.
    RandomInvert {
        /// 0.5 by default.
        #[serde(default = "half")]
        p: f64,
    },
    /// Covers a rectangle (Zhong et al. 2020, arXiv:1708.04896). torchvision's usual place for it is after the normalisation, where its
    /// 0 is the mean level; here it is before.
    RandomErasing {
        /// 0.5 by default.
        #[serde(default = "half")]
        p: f64,
        /// Shares of the area, least and most; 0.02 and 0.33 by default.
        #[serde(default = "erase_scale")]
        scale: [f64; 2],
        /// Height over width, least and most; 0.3 and 3.3 by default.
        #[serde(default = "erase_ratio")]
        ratio: [f64; 2],
        /// Level of each channel; 0 by default.
        #[serde(default)]
        value: [u8; 3],
    },
    /// Adds normal noise to every level.
    GaussianNoise {
        /// Standard deviation as a share of 255, 0 to 1; 0.1 by default.
        #[serde(default = "noise_sigma")]
        sigma: f32,
    },
    /// Turns single pixels white or black.
    SaltAndPepper {
        /// Share of the pixels, 0 to 1.
        amount: f32,
    },
    /// To JPEG and back.
    Jpeg {
        /// Least and greatest quality, 1 to 100.
        quality: [u8; 2],
    },
    /// `num_ops` operations, each drawn anew from fourteen and all of one magnitude (Cubuk et al. 2020, arXiv:1909.13719).
    #[serde(rename = "randaugment")]
    RandAugment {
        /// 1 to 16; 2 by default.
        #[serde(default = "two")]
        num_ops: u32,
        /// Below `num_magnitude_bins`; 9 by default.
        #[serde(default = "nine")]
        magnitude: u32,
        /// 2 to 1000; 31 by default.
        #[serde(default = "bins")]
        num_magnitude_bins: u32,
        /// Nearest by default.
        #[serde(default)]
        sampling: Sampling,
    },
    /// One operation of fourteen at any magnitude (Müller & Hutter 2021, arXiv:2103.10158): torchvision's `TrivialAugmentWide`.
    #[serde(rename = "trivialaugment")]
    TrivialAugment {
        /// 2 to 1000; 31 by default.
        #[serde(default = "bins")]
        num_magnitude_bins: u32,
        /// Nearest by default.
        #[serde(default)]
        sampling: Sampling,
    },
    /// Two operations of a pair out of a policy that was learnt for a data set (Cubuk et al. 2019, arXiv:1805.09501).
    #[serde(rename = "autoaugment")]
    AutoAugment {
        /// Imagenet by default.
        #[serde(default)]
        policy: LearntPolicy,
        /// Nearest by default.
        #[serde(default)]
        sampling: Sampling,
    },
    /// Chains of operations, mixed by shares from a Dirichlet distribution and then with the image by one from a Beta distribution
    /// (Hendrycks et al. 2020, arXiv:1912.02781).
    #[serde(rename = "augmix")]
    AugMix {
        /// 1 to 10; 3 by default.
        #[serde(default = "three")]
        severity: u32,
        /// Chains, 1 to 16; 3 by default.
        #[serde(default = "three")]
        mixture_width: u32,
        /// Operations of a chain, at most 16; 0, the default, draws one to three.
        #[serde(default)]
        chain_depth: u32,
        /// Of the Dirichlet and Beta distributions, 0.01 to 100; 1 by default.
        #[serde(default = "one")]
        alpha: f64,
        /// Also brightness, colour, contrast and sharpness; true by default.
        #[serde(default = "yes")]
        all_ops: bool,
        /// Bilinear by default.
        #[serde(default = "bilinear")]
        sampling: Sampling,
    },
}

/// Functions that give a constant, for serde.
macro_rules! defaults {
    ($($name:ident: $type:ty = $value:expr;)*) => {$(
        fn $name() -> $type {
            $value
        }
    )*};
}

defaults! {
    tenth: f64 = 0.1;
    half: f64 = 0.5;
    one: f64 = 1.0;
    two: u32 = 2;
    three: u32 = 3;
    nine: u32 = 9;
    bins: u32 = 31;
    yes: bool = true;
    crop_scale: [f64; 2] = [0.08, 1.0];
    crop_ratio: [f64; 2] = [3.0 / 4.0, 4.0 / 3.0];
    same_scale: [f64; 2] = [1.0, 1.0];
    elastic_alpha: f32 = 50.0;
    elastic_sigma: f32 = 5.0;
    blur_sigma: [f64; 2] = [0.1, 2.0];
    erase_scale: [f64; 2] = [0.02, 0.33];
    erase_ratio: [f64; 2] = [0.3, 3.3];
    noise_sigma: f32 = 0.1;
    bilinear: Sampling = Sampling::Bilinear;
}

/// Refuses a value that does not fit.
fn unless(
    fits: bool,
    field: &'static str,
    value: impl std::fmt::Debug,
    expected: &'static str,
) -> Result<(), AugmentError> {
    if fits { Ok(()) } else { Err(AugmentError::invalid(field, value, expected)) }
}

fn probability(p: f64) -> Result<(), AugmentError> {
    unless((0.0..=1.0).contains(&p), "p", p, "a probability, 0 to 1")
}

fn span(
    field: &'static str,
    [low, high]: [f64; 2],
    least: f64,
    most: f64,
    expected: &'static str,
) -> Result<(), AugmentError> {
    unless(low >= least && low <= high && high <= most, field, [low, high], expected)
}

/// Draws, in f64.
struct Draws<'a>(&'a mut ChaCha8Rng);

impl Draws<'_> {
    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.0.random::<f64>()
    }

    /// Within `most` either way.
    fn around(&mut self, most: f64) -> f64 {
        self.between(-most, most)
    }

    /// A factor whose logarithm is uniform.
    fn log_between(&mut self, [low, high]: [f64; 2]) -> f64 {
        self.between(low.ln(), high.ln()).exp()
    }

    /// Below `end`, or 0.
    fn below(&mut self, end: u32) -> u32 {
        if end == 0 { 0 } else { self.0.random_range(0..end) }
    }

    fn happens(&mut self, p: f64) -> bool {
        self.0.random::<f64>() < p
    }

    fn seed(&mut self) -> u64 {
        self.0.random()
    }
}

impl Transform {
    /// The names, as in a file.
    pub const NAMES: [&str; 25] = [
        "random_resized_crop",
        "random_crop",
        "random_horizontal_flip",
        "random_vertical_flip",
        "random_rotation",
        "random_affine",
        "random_perspective",
        "elastic_transform",
        "color_jitter",
        "random_grayscale",
        "gaussian_blur",
        "random_adjust_sharpness",
        "random_posterize",
        "random_solarize",
        "random_equalize",
        "random_autocontrast",
        "random_invert",
        "random_erasing",
        "gaussian_noise",
        "salt_and_pepper",
        "jpeg",
        "randaugment",
        "trivialaugment",
        "autoaugment",
        "augmix",
    ];

    /// Checks every setting's range.
    ///
    /// # Errors
    ///
    /// [`AugmentError::InvalidSetting`] for the first setting outside its range.
    pub fn validate(&self) -> Result<(), AugmentError> {
        const TURN: &str = "degrees from 0 to 360";
        let degrees = |field, value: f64| unless((0.0..=360.0).contains(&value), field, value, TURN);
        let jitter = |field, value: f64| unless((0.0..=100.0).contains(&value), field, value, "0 to 100");
        let bins = |bins| unless((2..=1000).contains(&bins), "num_magnitude_bins", bins, "2 to 1000");
        match *self {
            Self::RandomResizedCrop { scale, ratio, .. } => {
                span(
                    "scale",
                    scale,
                    1e-4,
                    1.0,
                    "two shares of the area, 0.0001 to 1, the smaller one first",
                )?;
                span("ratio", ratio, 0.01, 100.0, "two ratios, 0.01 to 100, the smaller one first")
            }
            Self::RandomCrop { padding, .. } => {
                unless(padding <= 4096, "padding", padding, "at most 4096 pixels")
            }
            Self::RandomHorizontalFlip { p }
            | Self::RandomVerticalFlip { p }
            | Self::RandomGrayscale { p }
            | Self::RandomEqualize { p }
            | Self::RandomAutocontrast { p }
            | Self::RandomInvert { p } => probability(p),
            Self::RandomRotation { degrees: most, .. } => degrees("degrees", most),
            Self::RandomAffine { degrees: most, translate, scale, shear, .. } => {
                degrees("degrees", most)?;
                let shares = translate.iter().all(|share| (0.0..=1.0).contains(share));
                unless(shares, "translate", translate, "two shares of the sides, 0 to 1")?;
                span("scale", scale, 0.01, 100.0, "two factors, 0.01 to 100, the smaller one first")?;
                let below = shear.iter().all(|degrees| (0.0..90.0).contains(degrees));
                unless(below, "shear", shear, "two angles, 0 to less than 90 degrees")
            }
            Self::RandomPerspective { distortion_scale, p, .. } => {
                let fits = (0.0..=1.0).contains(&distortion_scale);
                unless(fits, "distortion_scale", distortion_scale, "0 to 1")?;
                probability(p)
            }
            Self::ElasticTransform { alpha, sigma } => {
                unless((0.0..=10_000.0).contains(&alpha), "alpha", alpha, "0 to 10000")?;
                unless((0.0..=50.0).contains(&sigma), "sigma", sigma, "0 to 50 pixels")
            }
            Self::ColorJitter { brightness, contrast, saturation, hue } => {
                jitter("brightness", brightness)?;
                jitter("contrast", contrast)?;
                jitter("saturation", saturation)?;
                unless((0.0..=0.5).contains(&hue), "hue", hue, "0 to 0.5 of the circle")
            }
            Self::GaussianBlur { kernel_size, sigma } => {
                let odd = kernel_size % 2 == 1 && kernel_size <= 101;
                unless(odd, "kernel_size", kernel_size, "an odd number, 1 to 101")?;
                span("sigma", sigma, 1e-3, 1000.0, "two deviations, 0.001 to 1000, the smaller one first")
            }
            Self::RandomAdjustSharpness { sharpness_factor, p } => {
                let fits = (0.0..=100.0).contains(&sharpness_factor);
                unless(fits, "sharpness_factor", sharpness_factor, "0 to 100")?;
                probability(p)
            }
            Self::RandomPosterize { bits, p } => {
                unless(bits <= 8, "bits", bits, "0 to 8")?;
                probability(p)
            }
            Self::RandomSolarize { threshold, p } => {
                unless((0.0..=256.0).contains(&threshold), "threshold", threshold, "a level, 0 to 256")?;
                probability(p)
            }
            Self::RandomErasing { p, scale, ratio, .. } => {
                probability(p)?;
                span("scale", scale, 0.0, 1.0, "two shares of the area, 0 to 1, the smaller one first")?;
                span("ratio", ratio, 0.01, 100.0, "two ratios, 0.01 to 100, the smaller one first")
            }
            Self::GaussianNoise { sigma } => unless((0.0..=1.0).contains(&sigma), "sigma", sigma, "0 to 1"),
            Self::SaltAndPepper { amount } => {
                unless((0.0..=1.0).contains(&amount), "amount", amount, "a share of the pixels, 0 to 1")
            }
            Self::Jpeg { quality: [low, high] } => {
                let fits = low >= 1 && low <= high && high <= 100;
                unless(fits, "quality", [low, high], "two qualities, 1 to 100, the lower one first")
            }
            Self::RandAugment { num_ops, magnitude, num_magnitude_bins, .. } => {
                bins(num_magnitude_bins)?;
                unless((1..=16).contains(&num_ops), "num_ops", num_ops, "1 to 16")?;
                unless(magnitude < num_magnitude_bins, "magnitude", magnitude, "less than num_magnitude_bins")
            }
            Self::TrivialAugment { num_magnitude_bins, .. } => bins(num_magnitude_bins),
            Self::AutoAugment { .. } => Ok(()),
            Self::AugMix { severity, mixture_width, chain_depth, alpha, .. } => {
                unless((1..=10).contains(&severity), "severity", severity, "1 to 10")?;
                unless((1..=16).contains(&mixture_width), "mixture_width", mixture_width, "1 to 16")?;
                unless(chain_depth <= 16, "chain_depth", chain_depth, "at most 16; 0 draws one to three")?;
                unless((0.01..=100.0).contains(&alpha), "alpha", alpha, "0.01 to 100")
            }
        }
    }

    /// Draws the changes for an image of `size` (width, height) that goes to a network of this `input` size; the settings were validated.
    pub(super) fn draw(&self, rng: &mut ChaCha8Rng, size: [u32; 2], input: [u32; 2]) -> Vec<Op> {
        let [width, height] = size;
        let mut draws = Draws(rng);
        let mut with = |p: f64, op: Op| if draws.happens(p) { vec![op] } else { Vec::new() };
        match *self {
            Self::RandomHorizontalFlip { p } => return with(p, Op::FlipHorizontal),
            Self::RandomVerticalFlip { p } => return with(p, Op::FlipVertical),
            Self::RandomGrayscale { p } => return with(p, Op::Grayscale),
            Self::RandomAdjustSharpness { sharpness_factor, p } => {
                return with(p, Op::Sharpness { factor: sharpness_factor });
            }
            Self::RandomPosterize { bits, p } => return with(p, Op::Posterize { bits }),
            Self::RandomSolarize { threshold, p } => return with(p, Op::Solarize { threshold }),
            Self::RandomEqualize { p } => return with(p, Op::Equalize),
            Self::RandomAutocontrast { p } => return with(p, Op::Autocontrast),
            Self::RandomInvert { p } => return with(p, Op::Invert),
            _ => {}
        }
        match *self {
            Self::RandomResizedCrop { scale, ratio, interpolation } => {
                let [x, y, w, h] = crop_window(&mut draws, size, scale, ratio);
                let (x, y) = (i64::from(x), i64::from(y));
                let resize = Op::Resize { width: input[0], height: input[1], interpolation };
                vec![Op::Window { x, y, width: w, height: h, fill: [0; 3] }, resize]
            }
            Self::RandomCrop { padding, fill } => {
                let mut offset = || i64::from(draws.below(2 * padding + 1)) - i64::from(padding);
                vec![Op::Window { x: offset(), y: offset(), width, height, fill }]
            }
            Self::RandomRotation { degrees, sampling, fill } => {
                vec![Op::Rotate { degrees: draws.around(degrees), sampling, fill }]
            }
            Self::RandomAffine { degrees, translate, scale, shear, sampling, fill } => {
                let degrees = draws.around(degrees);
                let sides = [f64::from(width), f64::from(height)];
                let translate = [0, 1].map(|axis| draws.around(translate[axis] * sides[axis]).round());
                let scale = draws.between(scale[0], scale[1]);
                let shear = shear.map(|most| draws.around(most));
                vec![Op::Affine { degrees, translate, scale, shear, corner: false, sampling, fill }]
            }
            Self::RandomPerspective { distortion_scale, p, fill } => {
                let bound = |side: u32| (distortion_scale * f64::from(side / 2)) as u32 + 1;
                let mut inwards = || [draws.below(bound(width)), draws.below(bound(height))].map(f64::from);
                let mut corners = image_corners(width, height);
                for (corner, [right, down]) in
                    corners.iter_mut().zip([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
                {
                    let [dx, dy] = inwards();
                    *corner = [corner[0] + right * dx, corner[1] + down * dy];
                }
                if draws.happens(p) { vec![Op::Perspective { corners, fill }] } else { Vec::new() }
            }
            Self::ElasticTransform { alpha, sigma } => vec![Op::Elastic { alpha, sigma, seed: draws.seed() }],
            Self::ColorJitter { brightness, contrast, saturation, hue } => {
                let mut factor = |most: f64| draws.between((1.0 - most).max(0.0), 1.0 + most) as f32;
                let mut ops = vec![
                    Op::Brightness { factor: factor(brightness) },
                    Op::Contrast { factor: factor(contrast) },
                    Op::Saturation { factor: factor(saturation) },
                ];
                ops.push(Op::Hue { shift: draws.around(hue) as f32 });
                ops.shuffle(draws.0);
                // HSV in 8 bits is not exact: a hue that is not to turn is left alone.
                ops.retain(|op| hue > 0.0 || !matches!(op, Op::Hue { .. }));
                ops
            }
            Self::GaussianBlur { kernel_size, sigma } => {
                vec![Op::Blur { kernel_size, sigma: draws.between(sigma[0], sigma[1]) as f32 }]
            }
            Self::RandomErasing { p, scale, ratio, value } => {
                erasing(&mut draws, size, p, scale, ratio, value)
            }
            Self::GaussianNoise { sigma } => vec![Op::GaussianNoise { sigma, seed: draws.seed() }],
            Self::SaltAndPepper { amount } => vec![Op::SaltAndPepper { amount, seed: draws.seed() }],
            Self::Jpeg { quality: [low, high] } => {
                vec![Op::Jpeg { quality: low + draws.below(u32::from(high - low) + 1) as u8 }]
            }
            Self::RandAugment { num_ops, magnitude, num_magnitude_bins, sampling } => {
                policy::rand_augment(num_ops, magnitude, num_magnitude_bins, size, sampling, draws.0)
            }
            Self::TrivialAugment { num_magnitude_bins, sampling } => {
                policy::trivial_augment(num_magnitude_bins, size, sampling, draws.0)
            }
            Self::AutoAugment { policy, sampling } => policy::auto_augment(policy, size, sampling, draws.0),
            Self::AugMix { severity, mixture_width, chain_depth, alpha, all_ops, sampling } => {
                let settings = AugMix { severity, mixture_width, chain_depth, alpha, all_ops };
                vec![settings.draw(size, sampling, draws.0)]
            }
            _ => Vec::new(),
        }
    }
}

/// Left, top, width and height of torchvision's `RandomResizedCrop.get_params`: ten tries, then the middle at the nearest ratio.
fn crop_window(
    draws: &mut Draws<'_>,
    [width, height]: [u32; 2],
    scale: [f64; 2],
    ratio: [f64; 2],
) -> [u32; 4] {
    let area = f64::from(width) * f64::from(height);
    for _ in 0..10 {
        let target = area * draws.between(scale[0], scale[1]);
        let aspect = draws.log_between(ratio);
        let w = (target * aspect).sqrt().round() as u32;
        let h = (target / aspect).sqrt().round() as u32;
        if w > 0 && w <= width && h > 0 && h <= height {
            return [draws.below(width - w + 1), draws.below(height - h + 1), w, h];
        }
    }
    let own = f64::from(width) / f64::from(height);
    let (w, h) = if own < ratio[0] {
        (width, (f64::from(width) / ratio[0]).round() as u32)
    } else if own > ratio[1] {
        ((f64::from(height) * ratio[1]).round() as u32, height)
    } else {
        (width, height)
    };
    let (w, h) = (w.clamp(1, width.max(1)), h.clamp(1, height.max(1)));
    [(width - w) / 2, (height - h) / 2, w, h]
}

fn erasing(
    draws: &mut Draws<'_>,
    [width, height]: [u32; 2],
    p: f64,
    scale: [f64; 2],
    ratio: [f64; 2],
    value: [u8; 3],
) -> Vec<Op> {
    if !draws.happens(p) {
        return Vec::new();
    }
    let area = f64::from(width) * f64::from(height);
    for _ in 0..10 {
        let target = area * draws.between(scale[0], scale[1]);
        let aspect = draws.log_between(ratio);
        let h = (target * aspect).sqrt().round() as u32;
        let w = (target / aspect).sqrt().round() as u32;
        if h < height && w < width {
            let (y, x) = (draws.below(height - h + 1), draws.below(width - w + 1));
            return vec![Op::Erase { x, y, width: w, height: h, value }];
        }
    }
    Vec::new()
}
