//! Every change against torchvision with the parameters given, and what every transform promises.

// The largest difference of every kind is printed: the table of docs/augmentation.md is read off it.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;

use image::RgbImage;
use serde::Deserialize;

use super::*;
use crate::{AugmentError, DrawKey};

#[derive(Deserialize)]
struct Golden {
    made_by: String,
    images: BTreeMap<String, Picture>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Picture {
    size: [u32; 2],
    levels: String,
}

#[derive(Deserialize)]
struct Case {
    image: String,
    op: Op,
    levels: String,
    size: [u32; 2],
    tolerance: u8,
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.chars().map(|digit| digit.to_digit(16).expect("a hexadecimal digit") as u8).collect();
    digits.chunks(2).map(|pair| 16 * pair[0] + pair[1]).collect()
}

fn image([width, height]: [u32; 2], hex: &str) -> RgbImage {
    RgbImage::from_raw(width, height, bytes(hex)).expect("as many levels as pixels")
}

/// The greatest difference of a level.
fn difference(actual: &RgbImage, expected: &RgbImage) -> u8 {
    assert_eq!(actual.dimensions(), expected.dimensions());
    actual.iter().zip(expected.iter()).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

#[test]
fn every_change_is_torchvisions() {
    let golden: Golden =
        serde_json::from_str(include_str!("../../tests/goldens/torchvision_ops.json")).expect("valid JSON");
    assert!(golden.cases.len() > 60);
    let mut largest = BTreeMap::<String, u8>::new();
    let mut wrong = Vec::new();
    for case in &golden.cases {
        let picture = &golden.images[&case.image];
        let actual = case.op.apply(&image(picture.size, &picture.levels));
        let difference = difference(&actual, &image(case.size, &case.levels));
        let name = format!("{:?}", case.op).split([' ', '{']).next().expect("a name").to_owned();
        let of_kind = largest.entry(name).or_default();
        *of_kind = difference.max(*of_kind);
        if difference > case.tolerance {
            wrong.push(format!("{difference} levels: {:?}", case.op));
        }
    }
    for (name, difference) in largest {
        println!("{name:20} {difference} levels");
    }
    assert!(wrong.is_empty(), "{}\n(goldens: {})", wrong.join("\n"), golden.made_by);
}

#[test]
fn a_displacement_is_torchvisions() {
    #[derive(Deserialize)]
    struct Elastic {
        made_by: String,
        size: [u32; 2],
        levels: String,
        field: Vec<[f32; 2]>,
        displaced: String,
    }
    let golden: Elastic = serde_json::from_str(include_str!("../../tests/goldens/torchvision_elastic.json"))
        .expect("valid JSON");
    let actual = warp::displace(&image(golden.size, &golden.levels), &golden.field);
    // Its coordinates go through -1 to 1 in f32, ours are pixels.
    let difference = difference(&actual, &image(golden.size, &golden.displaced));
    assert!(difference <= 1, "{difference} levels (goldens: {})", golden.made_by);
}

#[test]
fn noise_has_its_deviation_and_its_share() {
    let grey = RgbImage::from_pixel(200, 150, image::Rgb([128; 3]));
    let noisy = Op::GaussianNoise { sigma: 0.1, seed: 3 }.apply(&grey);
    let off: Vec<f64> = noisy.iter().map(|level| f64::from(*level) - 128.0).collect();
    let count = off.len() as f64;
    let mean = off.iter().sum::<f64>() / count;
    let deviation = (off.iter().map(|off| (off - mean).powi(2)).sum::<f64>() / count).sqrt();
    // Levels are whole, which adds the variance of a rounding.
    let expected = (25.5f64.powi(2) + 1.0 / 12.0).sqrt();
    assert!(mean.abs() < 4.0 * expected / count.sqrt(), "{mean}");
    assert!((deviation / expected - 1.0).abs() < 4.0 / (2.0 * count).sqrt(), "{deviation} {expected}");

    let spotted = Op::SaltAndPepper { amount: 0.2, seed: 4 }.apply(&grey);
    let of = |level: u8| {
        let hit = spotted.pixels().filter(|pixel| pixel.0 == [level; 3]).count();
        hit as f64 / f64::from(200 * 150)
    };
    let error = 4.0 * (0.1f64 * 0.9 / 30_000.0).sqrt();
    assert!((of(255) - 0.1).abs() < error && (of(0) - 0.1).abs() < error, "{} {}", of(255), of(0));
    assert!((of(255) + of(0) + of(128) - 1.0).abs() < 1e-12, "a pixel is hit in all channels or in none");
}

/// One of each, of some strength.
fn strong() -> Vec<Transform> {
    let text = r#"
        [{"name": "random_resized_crop"}, {"name": "random_crop", "padding": 3}, {"name": "random_horizontal_flip"},
        {"name": "random_vertical_flip"}, {"name": "random_rotation", "degrees": 30}, {"name": "random_affine", "degrees": 20,
        "translate": [0.2, 0.1], "scale": [0.8, 1.2], "shear": [10, 5]}, {"name": "random_perspective", "p": 1},
        {"name": "elastic_transform"}, {"name": "color_jitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.2},
        {"name": "random_grayscale", "p": 0.5}, {"name": "gaussian_blur", "kernel_size": 5}, {"name": "random_adjust_sharpness",
        "sharpness_factor": 2}, {"name": "random_posterize", "bits": 2}, {"name": "random_solarize", "threshold": 100},
        {"name": "random_equalize"}, {"name": "random_autocontrast"}, {"name": "random_invert"}, {"name": "random_erasing"},
        {"name": "gaussian_noise"}, {"name": "salt_and_pepper", "amount": 0.2}, {"name": "jpeg", "quality": [5, 20]},
        {"name": "randaugment"}, {"name": "trivialaugment"}, {"name": "autoaugment"}, {"name": "augmix"}]"#;
    serde_json::from_str(text).expect("every name with its settings")
}

fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * 7 % 200) as u8 + 20, (y * 11 % 190) as u8 + 30, ((x + y) * 5 % 180) as u8])
    })
}

fn key(epoch: u64) -> DrawKey {
    DrawKey { seed: 5, epoch, sample: 11 }
}

#[test]
fn every_transform_keeps_its_size_replays_from_its_draw_and_changes_something() {
    let transforms = strong();
    assert_eq!(transforms.iter().map(Transform::name).collect::<Vec<_>>(), Transform::NAMES);
    for transform in transforms {
        let name = transform.name();
        assert_eq!(transform.validate(), Ok(()), "{name}");
        let pipeline = Pipeline { steps: vec![transform] };
        let mut changes = 0;
        for (width, height) in [(40, 30), (30, 40), (17, 1), (1, 1), (1, 9), (2, 3)] {
            let image = picture(width, height);
            for epoch in 0..12 {
                let ops = pipeline.draw(key(epoch), [width, height], [width, height]);
                assert_eq!(ops, pipeline.draw(key(epoch), [width, height], [width, height]), "{name}");
                let output = Op::apply_all(&ops, &image);
                assert_eq!(output.dimensions(), (width, height), "{name}");
                let written = serde_json::to_string(&ops).expect("JSON");
                let replayed: Vec<Op> = serde_json::from_str(&written).expect("a draw is written and read");
                assert_eq!(Op::apply_all(&replayed, &image), output, "{name}");
                changes += u32::from(output != image);
            }
        }
        assert!(changes > 3, "{name} changed {changes} images");
        let text = pipeline.to_toml();
        assert_eq!(Pipeline::from_toml(&text), Ok(pipeline), "{text}");
    }
}

#[test]
fn every_transform_is_the_identity_at_zero_strength() {
    let text = r#"
        [{"name": "random_resized_crop", "scale": [1, 1], "ratio": [1, 1]}, {"name": "random_crop", "padding": 0},
        {"name": "random_horizontal_flip", "p": 0}, {"name": "random_vertical_flip", "p": 0}, {"name": "random_rotation", "degrees": 0},
        {"name": "random_rotation", "degrees": 0, "sampling": "bilinear"}, {"name": "random_affine", "degrees": 0},
        {"name": "random_affine", "degrees": 0, "sampling": "bilinear"}, {"name": "random_perspective", "p": 1, "distortion_scale": 0},
        {"name": "random_perspective", "p": 0}, {"name": "elastic_transform", "alpha": 0}, {"name": "color_jitter"},
        {"name": "random_grayscale", "p": 0}, {"name": "gaussian_blur", "kernel_size": 1}, {"name": "random_adjust_sharpness",
        "sharpness_factor": 1, "p": 1}, {"name": "random_posterize", "bits": 8, "p": 1}, {"name": "random_solarize", "threshold": 256,
        "p": 1}, {"name": "random_equalize", "p": 0}, {"name": "random_autocontrast", "p": 0}, {"name": "random_invert", "p": 0},
        {"name": "random_erasing", "p": 0}, {"name": "gaussian_noise", "sigma": 0}, {"name": "salt_and_pepper", "amount": 0}]"#;
    let steps: Vec<Transform> = serde_json::from_str(text).expect("every name with its settings");
    // A JPEG always loses something, and a policy always does something.
    let never = ["jpeg", "randaugment", "trivialaugment", "autoaugment", "augmix"];
    let tried = |name: &str| steps.iter().any(|step| step.name() == name);
    assert!(Transform::NAMES.into_iter().all(|name| tried(name) != never.contains(&name)));
    let image = picture(24, 24);
    for step in steps {
        assert_eq!(step.validate(), Ok(()), "{step:?}");
        let pipeline = Pipeline { steps: vec![step.clone()] };
        for epoch in 0..5 {
            let ops = pipeline.draw(key(epoch), [24, 24], [24, 24]);
            assert!(Op::apply_all(&ops, &image) == image, "{step:?}: {ops:?}");
        }
    }
}

#[test]
fn steps_draw_apart() {
    let step = |text: &str| serde_json::from_str::<Transform>(text).expect("a step");
    let noise = step(r#"{"name": "gaussian_noise"}"#);
    let pipeline = |first: Transform| Pipeline { steps: vec![first, noise.clone()] };
    let last = |first: Transform| pipeline(first).draw(key(0), [9, 9], [9, 9]).pop();
    assert_eq!(
        last(step(r#"{"name": "random_rotation", "degrees": 5}"#)),
        last(step(r#"{"name": "color_jitter", "hue": 0.1}"#))
    );
    let twice = Pipeline { steps: vec![noise.clone(), noise.clone()] }.draw(key(0), [9, 9], [9, 9]);
    assert_ne!(twice[0], twice[1]);
}

#[test]
fn a_crop_is_within_the_image_and_of_the_share_and_the_ratio_that_were_asked() {
    let crop = Pipeline::named("torchvision").expect("known");
    for epoch in 0..300 {
        let ops = crop.draw(key(epoch), [200, 150], [64, 64]);
        let Op::Window { x, y, width, height, .. } = ops[0] else { panic!("a window") };
        assert!(x >= 0 && y >= 0 && x as u32 + width <= 200 && y as u32 + height <= 150);
        let share = f64::from(width * height) / 30_000.0;
        let ratio = f64::from(width) / f64::from(height);
        assert!((0.075..=1.0).contains(&share) && (0.72..1.39).contains(&ratio), "{share} {ratio}");
        assert_eq!(Op::apply_all(&ops, &picture(200, 150)).dimensions(), (64, 64));
    }
}

#[test]
fn a_wrong_pipeline_names_the_step_and_the_field() {
    let step = |text: &str| format!("[[step]]\nname = \"random_invert\"\n[[step]]\n{text}");
    for (text, words) in [
        (step("name = \"colour_jitter\""), &["step 2", "colour_jitter", "did you mean `color_jitter`?"][..]),
        (step("name = \"zzz\""), &["step 2", "zzz", "there are random_resized_crop"]),
        (step("p = 0.5"), &["step 2", "without a name"]),
        (step("name = \"random_rotation\""), &["step 2 (random_rotation)", "`degrees`"]),
        (
            step("name = \"random_rotation\"\ndegrees = 400"),
            &["step 2 (random_rotation)", "`degrees` is 400", "0 to 360"],
        ),
        (step("name = \"random_rotation\"\ndegrees = 40\nangle = 3"), &["step 2", "`angle`", "`degrees`"]),
        (step("name = \"random_rotation\"\ndegrees = \"far\""), &["step 2", "far", "`degrees`"]),
        (step("name = \"random_invert\"\np = 1.5"), &["`p` is 1.5", "0 to 1"]),
        (step("name = \"random_posterize\"\nbits = 9"), &["`bits` is 9", "0 to 8"]),
        (step("name = \"gaussian_blur\"\nkernel_size = 4"), &["`kernel_size` is 4", "odd"]),
        (step("name = \"color_jitter\"\nhue = 0.7"), &["`hue` is 0.7", "0.5"]),
        (step("name = \"randaugment\"\nmagnitude = 31"), &["`magnitude` is 31", "num_magnitude_bins"]),
        (step("name = \"jpeg\"\nquality = [50, 40]"), &["`quality` is [50, 40]", "lower one first"]),
        (step("name = \"random_erasing\"\nscale = [0.5, 2.0]"), &["`scale`", "0 to 1"]),
        ("steps = 3".to_owned(), &["`steps`", "[[step]]"]),
        ("step = 3".to_owned(), &["[[step]]"]),
        ("[[step]\n".to_owned(), &["line 1"]),
    ] {
        let message = Pipeline::from_toml(&text).expect_err(&text).to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{text}\n{message}");
    }
    assert!(matches!(Pipeline::from_toml(""), Ok(pipeline) if pipeline.steps.is_empty()));
    assert!(matches!(Pipeline::from_toml("x = 1"), Err(AugmentError::Syntax(_))));
}

#[test]
fn every_name_is_a_pipeline_that_is_read_back() {
    for name in Pipeline::NAMES {
        let pipeline = Pipeline::named(name).expect(name);
        assert_eq!(pipeline.validate(), Ok(()));
        assert_eq!(Pipeline::from_toml(&pipeline.to_toml()), Ok(pipeline.clone()), "{name}");
        assert_eq!(pipeline.crops_first(), name == "torchvision");
    }
    assert_eq!(Pipeline::named("none"), None);
}
