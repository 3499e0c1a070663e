//! Against Keras' `ImageDataGenerator`: `apply_transform`, `fit` and `standardize`.

mod goldens;

use firebrick_augment::{FeaturewiseStatistics, FillMode, ImageDataGenerator, KerasDraw, Normalization};
use goldens::{Picture, REGENERATE, difference, read};
use serde::Deserialize;

/// Levels (of 255). Found: 6.1e-5, of which the files' rounding is 5e-5.
const TRANSFORM_TOLERANCE: f32 = 1e-3;

#[derive(Deserialize)]
struct Transforms {
    fill_mode: FillMode,
    cval: f32,
    images: Vec<Picture>,
    cases: Vec<Transform>,
}

#[derive(Deserialize)]
struct Transform {
    image: usize,
    cval: Option<f32>,
    draw: KerasDraw,
    result: Vec<f32>,
}

fn check(generator: &ImageDataGenerator, images: &[Picture], case: &Transform) {
    let ours = generator.apply(&images[case.image].image(), &case.draw);
    let (largest, _) = difference(&ours, &case.result);
    assert!(
        largest <= TRANSFORM_TOLERANCE,
        "{} with {:?}: off by {largest} levels; {REGENERATE}",
        generator.fill_mode,
        case.draw
    );
}

fn check_fill_mode(text: &str, fill_mode: FillMode) {
    let golden: Transforms = read(text);
    assert_eq!(golden.fill_mode, fill_mode);
    assert_eq!(golden.cases.len(), 12);
    let generator = ImageDataGenerator { fill_mode, cval: golden.cval, ..ImageDataGenerator::default() };
    for case in &golden.cases {
        check(&generator, &golden.images, case);
    }
}

#[test]
fn transforms_as_keras_with_fill_mode_nearest() {
    check_fill_mode(include_str!("goldens/keras_nearest.json"), FillMode::Nearest);
}

#[test]
fn transforms_as_keras_with_fill_mode_constant() {
    check_fill_mode(include_str!("goldens/keras_constant.json"), FillMode::Constant);
}

#[test]
fn transforms_as_keras_with_fill_mode_reflect() {
    check_fill_mode(include_str!("goldens/keras_reflect.json"), FillMode::Reflect);
}

#[test]
fn transforms_as_keras_with_fill_mode_wrap() {
    check_fill_mode(include_str!("goldens/keras_wrap.json"), FillMode::Wrap);
}

#[test]
fn changes_brightness_as_keras_where_cval_is_no_level() {
    #[derive(Deserialize)]
    struct Golden {
        images: Vec<Picture>,
        cases: Vec<Transform>,
    }
    let golden: Golden = read(include_str!("goldens/keras_outside_levels.json"));
    for case in &golden.cases {
        let generator = ImageDataGenerator {
            fill_mode: FillMode::Constant,
            cval: case.cval.expect("each of these cases has a cval"),
            ..ImageDataGenerator::default()
        };
        check(&generator, &golden.images, case);
    }
}

#[test]
fn fits_and_standardizes_as_keras() {
    #[derive(Deserialize)]
    struct Golden {
        images: Vec<Picture>,
        cases: Vec<Case>,
    }
    #[derive(Deserialize)]
    struct Case {
        image: usize,
        settings: ImageDataGenerator,
        statistics: Option<Statistics>,
        result: Vec<f32>,
    }
    #[derive(Deserialize)]
    struct Statistics {
        mean: [f32; 3],
        std: [f32; 3],
    }
    let golden: Golden = read(include_str!("goldens/keras_normalization.json"));
    let mut fitted = FeaturewiseStatistics::default();
    for picture in &golden.images {
        fitted.add(&picture.image());
    }
    for case in &golden.cases {
        let statistics = fitted.mean_std(case.settings.rescale);
        assert_eq!(case.settings.needs_featurewise_statistics(), case.statistics.is_some());
        if let Some(expected) = &case.statistics {
            let (mean, std) = statistics.expect("images were added");
            // Keras sums in f32.
            assert!(
                difference(&mean, &expected.mean).0 <= 1e-4,
                "{mean:?}, {:?}; {REGENERATE}",
                expected.mean
            );
            assert!(difference(&std, &expected.std).0 <= 1e-4, "{std:?}, {:?}; {REGENERATE}", expected.std);
        }
        let normalization = case.settings.normalization(&Normalization::imagenet(), statistics);
        let ours = normalization.convert(&golden.images[case.image].image());
        let (largest, _) = difference(&ours, &case.result);
        assert!(largest <= 1e-4, "{:?}: off by {largest}; {REGENERATE}", case.settings);
    }
}
