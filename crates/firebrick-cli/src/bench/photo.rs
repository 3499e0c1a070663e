//! A JPEG like a photograph's, without the file of one.

use std::io::Cursor;

use anyhow::{Context, Result};
use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};

/// Width and height, pixels.
const SIZE: (u32, u32) = (500, 320);

/// Smooth colours with some grain, 500x320, quality 90: the same bytes whenever the same encoder makes them.
pub(super) fn jpeg() -> Result<Vec<u8>> {
    let (width, height) = SIZE;
    let picture = RgbImage::from_fn(width, height, |x, y| {
        let (fx, fy) = (x as f32 / width as f32, y as f32 / height as f32);
        let wave = |a: f32, b: f32| ((fx * a + fy * b).sin() * 0.5 + 0.5) * 200.0;
        let grain = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)) >> 27;
        Rgb([wave(9.0, 3.0), wave(2.0, 14.0), wave(21.0, 17.0)].map(|level| level as u8 + grain as u8))
    });
    let mut bytes = Cursor::new(Vec::new());
    JpegEncoder::new_with_quality(&mut bytes, 90)
        .encode_image(&picture)
        .context("cannot encode the picture")?;
    Ok(bytes.into_inner())
}
