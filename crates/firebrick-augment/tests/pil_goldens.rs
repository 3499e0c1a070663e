//! Against PIL's `Image.resize`, and torchvision's resize and centre crop computed with it.

mod goldens;

use firebrick_augment::{Geometry, Interpolation, Normalization, Preprocess, resize};
use goldens::{Picture, REGENERATE, difference, read};
use image::RgbImage;
use serde::Deserialize;

/// Nearest has to agree exactly, the others to one level: PIL's weights have 22 bits, the SIMD resampler's 16.
fn check(ours: &RgbImage, golden: &[f32], interpolation: Interpolation, case: &str) -> usize {
    let ours: Vec<f32> = ours.iter().copied().map(f32::from).collect();
    let (largest, differing) = difference(&ours, golden);
    let tolerance = if interpolation == Interpolation::Nearest { 0.0 } else { 1.0 };
    assert!(
        largest <= tolerance,
        "{interpolation}, {case}: off by {largest} levels in {differing} of {} values; {REGENERATE}",
        golden.len()
    );
    differing
}

#[test]
fn resizes_as_pil() {
    #[derive(Deserialize)]
    struct Golden {
        images: Vec<Picture>,
        cases: Vec<Case>,
    }
    #[derive(Deserialize)]
    struct Case {
        image: usize,
        height: u32,
        width: u32,
        interpolation: Interpolation,
        result: Vec<f32>,
    }
    let golden: Golden = read(include_str!("goldens/pil_resize.json"));
    let (mut differing, mut values) = (0, 0);
    for case in &golden.cases {
        let image = golden.images[case.image].image();
        let ours = resize(&image, case.width, case.height, case.interpolation);
        let name = format!("{:?} to {}x{}", image.dimensions(), case.width, case.height);
        differing += check(&ours, &case.result, case.interpolation, &name);
        values += case.result.len();
    }
    assert!(differing * 100 <= values, "{differing} of {values} values differ; {REGENERATE}");
}

#[test]
fn resizes_and_crops_as_torchvision() {
    #[derive(Deserialize)]
    struct Golden {
        images: Vec<Picture>,
        cases: Vec<Case>,
    }
    #[derive(Deserialize)]
    struct Case {
        image: usize,
        shorter_side: u32,
        input_size: [u32; 2],
        interpolation: Interpolation,
        result: Vec<f32>,
    }
    let golden: Golden = read(include_str!("goldens/pil_resize_crop.json"));
    for case in &golden.cases {
        let image = golden.images[case.image].image();
        let preprocess = Preprocess {
            input_size: case.input_size,
            geometry: Geometry::ResizeCrop { shorter_side: case.shorter_side },
            interpolation: case.interpolation,
            normalization: Normalization::identity(),
        };
        let name = format!("{:?} by {} to {:?}", image.dimensions(), case.shorter_side, case.input_size);
        check(&preprocess.geometry(&image), &case.result, case.interpolation, &name);
    }
}
