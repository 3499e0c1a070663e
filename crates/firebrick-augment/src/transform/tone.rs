//! Pillow's `ImageOps`: a table of levels.

use image::RgbImage;

/// Looks every level up in a table a channel.
fn look_up(image: &RgbImage, tables: &[[u8; 256]; 3]) -> RgbImage {
    let mut output = image.clone();
    for pixel in output.pixels_mut() {
        for (level, table) in pixel.0.iter_mut().zip(tables) {
            *level = table[usize::from(*level)];
        }
    }
    output
}

fn same_table(image: &RgbImage, level: impl Fn(u8) -> u8) -> RgbImage {
    look_up(image, &[std::array::from_fn(|index| level(index as u8)); 3])
}

/// Keeps the highest `bits` bits, 0 to 8.
pub(super) fn posterize(image: &RgbImage, bits: u8) -> RgbImage {
    let mask = !((1u16 << (8 - bits.min(8))) - 1) as u8;
    same_table(image, |level| level & mask)
}

/// Inverts the levels from `threshold` on.
pub(super) fn solarize(image: &RgbImage, threshold: f32) -> RgbImage {
    same_table(image, |level| if f32::from(level) < threshold { level } else { 255 - level })
}

pub(super) fn invert(image: &RgbImage) -> RgbImage {
    same_table(image, |level| 255 - level)
}

fn histograms(image: &RgbImage) -> [[u32; 256]; 3] {
    let mut counts = [[0; 256]; 3];
    for pixel in image.pixels() {
        for (level, counts) in pixel.0.iter().zip(&mut counts) {
            counts[usize::from(*level)] += 1;
        }
    }
    counts
}

/// Spreads each channel's levels over the whole range.
pub(super) fn autocontrast(image: &RgbImage) -> RgbImage {
    let tables = histograms(image).map(|counts| {
        let low = counts.iter().position(|&count| count > 0).unwrap_or(0);
        let high = counts.iter().rposition(|&count| count > 0).unwrap_or(255);
        let scale = if high > low { 255.0 / (high - low) as f64 } else { 1.0 };
        let offset = if high > low { -(low as f64) * scale } else { 0.0 };
        std::array::from_fn(|level| (level as f64 * scale + offset) as u8)
    });
    look_up(image, &tables)
}

/// Makes each channel's levels about equally frequent.
pub(super) fn equalize(image: &RgbImage) -> RgbImage {
    let tables = histograms(image).map(|counts| {
        let last = counts.iter().rev().find(|&&count| count > 0).copied().unwrap_or(0);
        let step = (counts.iter().sum::<u32>() - last) / 255;
        let mut before = step / 2;
        std::array::from_fn(|level| {
            if step == 0 {
                return level as u8;
            }
            let equal = (before / step).min(255) as u8;
            before += counts[level];
            equal
        })
    });
    look_up(image, &tables)
}
