//! Decoding agrees with PIL for every kind of file, and a file that is cut short is never half a picture.

use std::fs;
use std::path::{Path, PathBuf};

use firebrick_data::{DataError, DecodeLimits, RgbImage, decode, decode_bytes};

const REGENERATE: &str = "python3 crates/firebrick-data/tests/goldens/generate.py";

struct Golden {
    path: PathBuf,
    name: String,
    tolerance: u8,
    expected: RgbImage,
}

fn goldens() -> Vec<Golden> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let text = fs::read_to_string(folder.join("expected.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let [name, width, height, tolerance, hex] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            let pixels = (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                .collect();
            Golden {
                path: folder.join("images").join(name),
                name: name.to_owned(),
                tolerance: tolerance.parse().unwrap(),
                expected: RgbImage::from_raw(width.parse().unwrap(), height.parse().unwrap(), pixels)
                    .unwrap(),
            }
        })
        .collect()
}

fn greatest_difference(a: &RgbImage, b: &RgbImage) -> u8 {
    a.iter().zip(b.iter()).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

#[test]
fn reads_every_kind_of_file_as_pil_does() {
    let mut failures = Vec::new();
    for golden in goldens() {
        match decode(&golden.path, &DecodeLimits::default()) {
            Err(error) => failures.push(error.to_string()),
            Ok(image) if image.dimensions() != golden.expected.dimensions() => {
                failures.push(format!(
                    "{}: {:?}, expected {:?}",
                    golden.name,
                    image.dimensions(),
                    golden.expected.dimensions()
                ));
            }
            Ok(image) => {
                let difference = greatest_difference(&image, &golden.expected);
                if difference > golden.tolerance {
                    failures
                        .push(format!("{}: off by {difference}, allowed {}", golden.name, golden.tolerance));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}\nThe goldens are made by: {REGENERATE}", failures.join("\n"));
}

#[test]
fn never_takes_a_file_that_is_cut_short_for_another_picture() {
    let limits = DecodeLimits::default();
    let mut failures = Vec::new();
    for golden in goldens() {
        let file = fs::read(&golden.path).unwrap();
        let whole = decode_bytes(&file, &golden.path, &limits).unwrap();
        for end in 0..file.len() {
            match decode_bytes(&file[..end], &golden.path, &limits) {
                // What follows the last pixel may be missing.
                Ok(image) if image == whole => {}
                Ok(_) => {
                    failures.push(format!("{} cut to {end} of {} bytes is decoded", golden.name, file.len()))
                }
                Err(error) => assert!(error.is_bad_sample(), "{error}"),
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} cuts pass, e.g.\n{}",
        failures.len(),
        failures[..failures.len().min(40)].join("\n")
    );
}

#[test]
fn says_that_a_jpeg_or_png_cut_in_the_middle_ends_too_early() {
    for name in ["420.jpg", "progressive.jpg", "rgb.png", "rgb16.png", "lossy.webp", "rgb.tiff", "rgb.bmp"] {
        let golden = goldens().into_iter().find(|golden| golden.name == name).unwrap();
        let file = fs::read(&golden.path).unwrap();
        let cut = &file[..file.len() * 3 / 4];
        let error = decode_bytes(cut, &golden.path, &DecodeLimits::default()).unwrap_err();
        assert!(matches!(error, DataError::Truncated { bytes, .. } if bytes == cut.len() as u64), "{error}");
    }
}

#[test]
fn refuses_a_tiff_with_a_palette_by_name() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/images/unsupported_palette.tiff");
    let error = decode(&path, &DecodeLimits::default()).unwrap_err();
    assert!(matches!(error, DataError::UnsupportedFormat { .. }), "{error}");
    assert!(error.to_string().contains("RGBPalette"), "{error}");
}

#[test]
fn decides_by_content_not_by_extension() {
    let folder = tempfile::tempdir().unwrap();
    for golden in goldens().into_iter().filter(|golden| golden.name.starts_with("rgb.")) {
        let path = folder.path().join("misnamed.jpg");
        fs::copy(&golden.path, &path).unwrap();
        assert_eq!(decode(&path, &DecodeLimits::default()).unwrap(), golden.expected);
    }
}

#[test]
fn survives_damage_anywhere_in_a_file() {
    let limits = DecodeLimits { max_pixels: 1 << 20, max_allocation: 1 << 24, ..Default::default() };
    for golden in goldens() {
        let file = fs::read(&golden.path).unwrap();
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 0xFF;
            // Some damage cannot be seen; none may panic, hang or take much memory.
            if let Err(error) = decode_bytes(&damaged, &golden.path, &limits) {
                assert!(error.is_bad_sample(), "{error}");
                assert!(!error.to_string().contains("panicked"), "byte {at}: {error}");
            }
        }
    }
}
