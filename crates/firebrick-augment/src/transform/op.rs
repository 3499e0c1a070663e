//! One change of an image with nothing random left in it.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, Rgb, RgbImage, imageops};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::warp::{Sampling, affine, affine_matrix, displace, perspective, rotation_matrix};
use super::{blur, enhance, tone};
use crate::{Interpolation, resize};

/// One change of an image, as drawn; applying it is a pure function. Levels come out as Pillow's or torchvision's, see
/// `docs/augmentation.md`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// Left to right.
    FlipHorizontal,
    /// Top to bottom.
    FlipVertical,
    /// The window at `x`, `y` of this size; what of it lies outside the image is `fill`.
    Window {
        /// Left edge, pixels.
        x: i64,
        /// Top edge, pixels.
        y: i64,
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// Level of each channel outside.
        fill: [u8; 3],
    },
    /// To this size, as [`resize`].
    Resize {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// How.
        interpolation: Interpolation,
    },
    /// Counter-clockwise around the centre, Pillow's `rotate`.
    Rotate {
        /// Degrees.
        degrees: f64,
        /// Between pixels.
        sampling: Sampling,
        /// Level of each channel outside.
        fill: [u8; 3],
    },
    /// torchvision's `affine`.
    Affine {
        /// Degrees, clockwise.
        degrees: f64,
        /// Pixels to the right and down.
        translate: [f64; 2],
        /// Factor of the size.
        scale: f64,
        /// Degrees along x and y.
        shear: [f64; 2],
        /// Around the top left corner rather than the centre.
        corner: bool,
        /// Between pixels.
        sampling: Sampling,
        /// Level of each channel outside.
        fill: [u8; 3],
    },
    /// Moves the corners (top left, top right, bottom right, bottom left) of the image to these places, pixels.
    Perspective {
        /// Where the corners go.
        corners: [[f64; 2]; 4],
        /// Level of each channel outside.
        fill: [u8; 3],
    },
    /// Moves every pixel by a smooth random field.
    Elastic {
        /// Length of the field.
        alpha: f32,
        /// How smooth it is, pixels.
        sigma: f32,
        /// Of the field.
        seed: u64,
    },
    /// Blends with black.
    Brightness {
        /// 1 is the image.
        factor: f32,
    },
    /// Blends with the mean luma.
    Contrast {
        /// 1 is the image.
        factor: f32,
    },
    /// Blends with the grey image.
    Saturation {
        /// 1 is the image.
        factor: f32,
    },
    /// Turns the hue.
    Hue {
        /// Share of the circle, -0.5 to 0.5.
        shift: f32,
    },
    /// Blends with the smoothed image.
    Sharpness {
        /// 1 is the image.
        factor: f32,
    },
    /// Luma in all channels.
    Grayscale,
    /// Gaussian blur.
    Blur {
        /// Taps, odd.
        kernel_size: u32,
        /// Standard deviation, pixels.
        sigma: f32,
    },
    /// Keeps the highest bits.
    Posterize {
        /// 0 to 8.
        bits: u8,
    },
    /// Inverts the levels from a threshold on.
    Solarize {
        /// A level.
        threshold: f32,
    },
    /// Makes the levels of each channel equally frequent.
    Equalize,
    /// Spreads the levels of each channel.
    Autocontrast,
    /// `255 - level`.
    Invert,
    /// Covers a rectangle.
    Erase {
        /// Left edge, pixels.
        x: u32,
        /// Top edge, pixels.
        y: u32,
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// Level of each channel.
        value: [u8; 3],
    },
    /// Adds normal noise to every level.
    GaussianNoise {
        /// Standard deviation, as a share of 255.
        sigma: f32,
        /// Of the noise.
        seed: u64,
    },
    /// Turns single pixels white or black.
    SaltAndPepper {
        /// Share of the pixels.
        amount: f32,
        /// Of the noise.
        seed: u64,
    },
    /// To JPEG and back.
    Jpeg {
        /// 1 to 100.
        quality: u8,
    },
    /// A weighted sum of the image and of chains of changes of it.
    Mix {
        /// Weight of the image itself.
        original: f32,
        /// Weight and changes of each chain.
        chains: Vec<(f32, Vec<Op>)>,
    },
}

impl Op {
    /// Applies the change. An image without pixels stays as it is.
    pub fn apply(&self, image: &RgbImage) -> RgbImage {
        let (width, height) = image.dimensions();
        if width == 0 || height == 0 {
            return image.clone();
        }
        match *self {
            Self::FlipHorizontal => imageops::flip_horizontal(image),
            Self::FlipVertical => imageops::flip_vertical(image),
            Self::Window { x, y, width, height, fill } => window(image, [x, y], [width, height], fill),
            Self::Resize { width, height, interpolation } => resize(image, width, height, interpolation),
            Self::Rotate { degrees, sampling, fill } => {
                affine(image, rotation_matrix(width, height, degrees), sampling, fill)
            }
            Self::Affine { degrees, translate, scale, shear, corner, sampling, fill } => {
                let centre = match corner {
                    true => [0.0; 2],
                    false => [f64::from(width) * 0.5, f64::from(height) * 0.5],
                };
                affine(image, affine_matrix(centre, degrees, translate, scale, shear), sampling, fill)
            }
            Self::Perspective { corners, fill } => {
                perspective(image, image_corners(width, height), corners, fill)
            }
            Self::Elastic { alpha, sigma, seed } => {
                displace(image, &elastic_field([width, height], alpha, sigma, seed))
            }
            Self::Brightness { factor } => enhance::brightness(image, factor),
            Self::Contrast { factor } => enhance::contrast(image, factor),
            Self::Saturation { factor } => enhance::saturation(image, factor),
            Self::Hue { shift } => enhance::hue(image, shift),
            Self::Sharpness { factor } => enhance::sharpness(image, factor),
            Self::Grayscale => enhance::grayscale(image),
            Self::Blur { kernel_size, sigma } => blur::gaussian_blur(image, kernel_size, sigma),
            Self::Posterize { bits } => tone::posterize(image, bits),
            Self::Solarize { threshold } => tone::solarize(image, threshold),
            Self::Equalize => tone::equalize(image),
            Self::Autocontrast => tone::autocontrast(image),
            Self::Invert => tone::invert(image),
            Self::Erase { x, y, width, height, value } => erase(image, [x, y], [width, height], value),
            Self::GaussianNoise { sigma, seed } => gaussian_noise(image, sigma, seed),
            Self::SaltAndPepper { amount, seed } => salt_and_pepper(image, amount, seed),
            Self::Jpeg { quality } => jpeg(image, quality),
            Self::Mix { original, ref chains } => mix(image, original, chains),
        }
    }

    /// Applies one change after the other.
    pub fn apply_all(ops: &[Self], image: &RgbImage) -> RgbImage {
        match ops {
            [] => image.clone(),
            [first, rest @ ..] => rest.iter().fold(first.apply(image), |image, op| op.apply(&image)),
        }
    }
}

/// The corner pixels, in torchvision's order.
pub(super) fn image_corners(width: u32, height: u32) -> [[f64; 2]; 4] {
    let (right, bottom) = (f64::from(width) - 1.0, f64::from(height) - 1.0);
    [[0.0, 0.0], [right, 0.0], [right, bottom], [0.0, bottom]]
}

fn window(image: &RgbImage, [x, y]: [i64; 2], [width, height]: [u32; 2], fill: [u8; 3]) -> RgbImage {
    let mut output = RgbImage::from_pixel(width, height, Rgb(fill));
    imageops::replace(&mut output, image, -x, -y);
    output
}

fn erase(image: &RgbImage, [x, y]: [u32; 2], [width, height]: [u32; 2], value: [u8; 3]) -> RgbImage {
    let mut output = image.clone();
    for row in y..(y.saturating_add(height)).min(image.height()) {
        for column in x..(x.saturating_add(width)).min(image.width()) {
            output.put_pixel(column, row, Rgb(value));
        }
    }
    output
}

/// Displacements in pixels: uniform noise, smoothed, times `alpha` over the side, in torchvision's coordinates from -1 to 1.
fn elastic_field([width, height]: [u32; 2], alpha: f32, sigma: f32, seed: u64) -> Vec<[f32; 2]> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let count = width as usize * height as usize;
    let noise: Vec<f32> = (0..2 * count).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect();
    let smooth = if sigma > 0.0 {
        blur::smooth(&noise, [width, height], 2, (8.0 * sigma + 1.0) as u32 | 1, sigma)
    } else {
        noise
    };
    // `alpha / side` of a coordinate whose unit is half a side.
    smooth.as_chunks::<2>().0.iter().map(|pair| pair.map(|value| value * alpha / 2.0)).collect()
}

fn gaussian_noise(image: &RgbImage, sigma: f32, seed: u64) -> RgbImage {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut output = image.clone();
    for level in output.iter_mut() {
        let noise: f32 = StandardNormal.sample(&mut rng);
        *level = (f32::from(*level) + 255.0 * sigma * noise).round() as u8;
    }
    output
}

fn salt_and_pepper(image: &RgbImage, amount: f32, seed: u64) -> RgbImage {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut output = image.clone();
    for pixel in output.pixels_mut() {
        let (hit, white): (f32, bool) = (rng.random(), rng.random());
        if hit < amount {
            pixel.0 = [if white { 255 } else { 0 }; 3];
        }
    }
    output
}

fn jpeg(image: &RgbImage, quality: u8) -> RgbImage {
    let mut file = Vec::new();
    let encoded = JpegEncoder::new_with_quality(&mut file, quality).encode_image(image);
    let decoded = encoded
        .and_then(|()| image::ImageReader::with_format(Cursor::new(&file), ImageFormat::Jpeg).decode());
    // Only an image of more than 65535 pixels a side has no JPEG; it stays as it is.
    decoded.map_or_else(|_| image.clone(), |decoded| decoded.into_rgb8())
}

fn mix(image: &RgbImage, original: f32, chains: &[(f32, Vec<Op>)]) -> RgbImage {
    let mut sum: Vec<f32> = image.as_raw().iter().map(|&level| original * f32::from(level)).collect();
    for (weight, ops) in chains {
        let changed = Op::apply_all(ops, image);
        sum.iter_mut().zip(changed.as_raw()).for_each(|(sum, &level)| *sum += weight * f32::from(level));
    }
    let mut output = image.clone();
    output.iter_mut().zip(sum).for_each(|(level, sum)| *level = sum as u8);
    output
}
