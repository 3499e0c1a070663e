//! Gaussian blur.

use image::RgbImage;

/// A normalised Gaussian of `size` taps, which is odd.
fn kernel(size: u32, sigma: f32) -> Vec<f32> {
    let half = (size / 2) as f32;
    let taps: Vec<f32> = (0..size).map(|tap| (-0.5 * ((tap as f32 - half) / sigma).powi(2)).exp()).collect();
    let sum: f32 = taps.iter().sum();
    taps.into_iter().map(|tap| tap / sum).collect()
}

/// The place of `at` on an axis of `len` mirrored at its ends, which are not repeated.
fn mirrored(at: i64, len: i64) -> i64 {
    if len == 1 {
        return 0;
    }
    let period = 2 * (len - 1);
    let at = at.rem_euclid(period);
    if at < len { at } else { period - at }
}

/// Convolves planes of `channels` interleaved values with a Gaussian along both axes.
pub(super) fn smooth(
    values: &[f32],
    [width, height]: [u32; 2],
    channels: usize,
    size: u32,
    sigma: f32,
) -> Vec<f32> {
    let taps = kernel(size, sigma);
    let half = i64::from(size / 2);
    let (columns, rows) = (i64::from(width), i64::from(height));
    let at = |row: i64, column: i64| (row * columns + column) as usize * channels;
    let pass = |values: &[f32], down: bool| -> Vec<f32> {
        let mut output = vec![0.0; values.len()];
        for row in 0..rows {
            for column in 0..columns {
                let pixel = at(row, column);
                for (tap, weight) in (-half..).zip(&taps) {
                    let from = match down {
                        true => at(mirrored(row + tap, rows), column),
                        false => at(row, mirrored(column + tap, columns)),
                    };
                    for channel in 0..channels {
                        output[pixel + channel] += weight * values[from + channel];
                    }
                }
            }
        }
        output
    };
    pass(&pass(values, false), true)
}

/// torchvision's `gaussian_blur`: in f32, rounded.
pub(super) fn gaussian_blur(image: &RgbImage, size: u32, sigma: f32) -> RgbImage {
    let (width, height) = image.dimensions();
    let values: Vec<f32> = image.as_raw().iter().map(|&level| f32::from(level)).collect();
    let levels = smooth(&values, [width, height], 3, size, sigma)
        .into_iter()
        .map(|value| value.round_ties_even().clamp(0.0, 255.0) as u8)
        .collect();
    RgbImage::from_raw(width, height, levels).expect("as many levels as before")
}
