//! What the benchmarks share: images that look like photographs to a codec, without a file of one.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};

/// A smooth picture with some detail, so that a JPEG of it is neither trivial nor noise.
pub fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let (fx, fy) = (x as f32 / width as f32, y as f32 / height as f32);
        let wave = |a: f32, b: f32| ((fx * a + fy * b).sin() * 0.5 + 0.5) * 200.0;
        let grain = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)) >> 27;
        Rgb([wave(9.0, 3.0), wave(2.0, 14.0), wave(21.0, 17.0)].map(|v| v as u8 + grain as u8))
    })
}

/// The picture as a JPEG of quality 90.
///
/// # Errors
///
/// Whatever the encoder gives.
pub fn jpeg(width: u32, height: u32) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(&picture(width, height))?;
    Ok(bytes.into_inner())
}
