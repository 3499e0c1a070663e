//! Pillow's `ImageEnhance`: a blend of an image with a degenerate of itself.

use image::{Rgb, RgbImage};

/// Pillow's luma of ITU-R 601-2, in 16 bits of fixed point.
pub(super) fn luma([r, g, b]: [u8; 3]) -> u8 {
    let [r, g, b] = [r, g, b].map(u32::from);
    ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
}

/// `from + factor * (to - from)`, cut to 8 bits as Pillow's `Image.blend`.
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    // A cast from float saturates and drops what is behind the point, which is what Pillow does.
    (f32::from(from) + factor * (f32::from(to) - f32::from(from))) as u8
}

fn map(image: &RgbImage, change: impl Fn([u8; 3]) -> [u8; 3]) -> RgbImage {
    let mut output = image.clone();
    for pixel in output.pixels_mut() {
        pixel.0 = change(pixel.0);
    }
    output
}

/// 0 is black, 1 the image.
pub(super) fn brightness(image: &RgbImage, factor: f32) -> RgbImage {
    map(image, |pixel| pixel.map(|level| blend(0, level, factor)))
}

/// 0 is the mean luma, 1 the image.
pub(super) fn contrast(image: &RgbImage, factor: f32) -> RgbImage {
    let sum: u64 = image.pixels().map(|pixel| u64::from(luma(pixel.0))).sum();
    let count = f64::from(image.width()) * f64::from(image.height());
    let mean = (sum as f64 / count + 0.5) as u8;
    map(image, |pixel| pixel.map(|level| blend(mean, level, factor)))
}

/// 0 is grey, 1 the image.
pub(super) fn saturation(image: &RgbImage, factor: f32) -> RgbImage {
    map(image, |pixel| {
        let grey = luma(pixel);
        pixel.map(|level| blend(grey, level, factor))
    })
}

/// Luma in all channels.
pub(super) fn grayscale(image: &RgbImage) -> RgbImage {
    map(image, |pixel| [luma(pixel); 3])
}

/// 0 is smoothed, 1 the image.
pub(super) fn sharpness(image: &RgbImage, factor: f32) -> RgbImage {
    let mut output = image.clone();
    let (width, height) = image.dimensions();
    for y in 0..height {
        for x in 0..width {
            // Pillow's SMOOTH leaves the edge as it is.
            if x == 0 || y == 0 || x + 1 >= width || y + 1 >= height {
                continue;
            }
            let smooth = std::array::from_fn(|channel| {
                let mut sum = 0.0f32;
                for row in y - 1..=y + 1 {
                    for column in x - 1..=x + 1 {
                        let weight = if (row, column) == (y, x) { 5.0 } else { 1.0 };
                        sum += weight / 13.0 * f32::from(image.get_pixel(column, row)[channel]);
                    }
                }
                blend((sum + 0.5) as u8, image.get_pixel(x, y)[channel], factor)
            });
            output.put_pixel(x, y, Rgb(smooth));
        }
    }
    output
}

/// Turns the hue by `shift` of the circle, -0.5 to 0.5, in Pillow's 8-bit HSV.
pub(super) fn hue(image: &RgbImage, shift: f32) -> RgbImage {
    let turn = (f64::from(shift) * 255.0) as i32 as u8;
    map(image, |pixel| {
        let [h, s, v] = to_hsv(pixel);
        from_hsv([h.wrapping_add(turn), s, v])
    })
}

fn to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    if most == least {
        return [0, 0, most];
    }
    let range = f32::from(most - least);
    let [rc, gc, bc] = [r, g, b].map(|level| f32::from(most - level) / range);
    let sector = if r == most {
        f64::from(bc - gc)
    } else if g == most {
        2.0 + f64::from(rc) - f64::from(bc)
    } else {
        4.0 + f64::from(gc) - f64::from(rc)
    };
    // Pillow keeps the sector in f32 and wraps in f64.
    let hue = ((f64::from(sector as f32) / 6.0 + 1.0) % 1.0) as f32;
    [(f64::from(hue) * 255.0) as u8, (f64::from(range / f32::from(most)) * 255.0) as u8, most]
}

fn from_hsv([h, s, v]: [u8; 3]) -> [u8; 3] {
    if s == 0 {
        return [v; 3];
    }
    let sector = f32::from(h) * 6.0 / 255.0;
    let whole = sector.floor();
    let part = f64::from(sector - whole);
    let (saturation, value) = (f64::from(f32::from(s) / 255.0), f64::from(v));
    let level = |share: f64| (value * (1.0 - share)).round() as u8;
    let (p, q, t) = (level(saturation), level(saturation * part), level(saturation * (1.0 - part)));
    match whole as u32 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}
