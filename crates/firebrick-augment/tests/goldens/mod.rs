//! Reading the golden files beside this one.

use image::RgbImage;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// How to write the golden files anew, for the messages of failing tests.
pub const REGENERATE: &str =
    "the golden files are written by `python crates/firebrick-augment/tests/goldens/generate.py`";

/// An 8-bit RGB image.
#[derive(Deserialize)]
pub struct Picture {
    height: u32,
    width: u32,
    levels: Vec<u8>,
}

impl Picture {
    pub fn image(&self) -> RgbImage {
        RgbImage::from_raw(self.width, self.height, self.levels.clone()).expect("a golden image is complete")
    }
}

/// Parses a golden file.
pub fn read<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}; {REGENERATE}"))
}

/// The largest absolute difference, and how many values differ at all.
pub fn difference(ours: &[f32], golden: &[f32]) -> (f32, usize) {
    assert_eq!(ours.len(), golden.len(), "the sizes differ; {REGENERATE}");
    let differences = ours.iter().zip(golden).map(|(a, b)| (a - b).abs());
    // Not `f32::max`, which would pass over a NaN.
    let largest = differences.clone().fold(0.0, |max, d| if d <= max { max } else { d });
    (largest, differences.filter(|d| *d != 0.0).count())
}
