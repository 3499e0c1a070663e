//! Draws follow the distributions of Keras' `get_random_transform`.

use firebrick_augment::{DrawKey, ImageDataGenerator, KerasDraw};

const COUNT: u64 = 20_000;

fn generator() -> ImageDataGenerator {
    ImageDataGenerator {
        rotation_range: 40.0,
        width_shift_range: 0.2,
        height_shift_range: 3.0,
        shear_range: 10.0,
        zoom_range: [0.5, 1.25].into(),
        channel_shift_range: 30.0,
        brightness_range: Some([0.2, 1.8]),
        horizontal_flip: true,
        vertical_flip: true,
        ..ImageDataGenerator::default()
    }
}

/// Draws for an image of 200 by 100 pixels.
fn draws(generator: &ImageDataGenerator) -> Vec<KerasDraw> {
    let key = |sample| DrawKey { seed: 7, epoch: sample % 5, sample };
    (0..COUNT).map(|sample| generator.draw(key(sample), 200, 100)).collect()
}

fn values(draws: &[KerasDraw], parameter: impl Fn(&KerasDraw) -> f32) -> Vec<f64> {
    draws.iter().map(|draw| f64::from(parameter(draw))).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let (mean_a, mean_b) = (mean(a), mean(b));
    let covariance = |x: &[f64], mean_x: f64, y: &[f64], mean_y: f64| -> f64 {
        x.iter().zip(y).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum()
    };
    covariance(a, mean_a, b, mean_b)
        / (covariance(a, mean_a, a, mean_a) * covariance(b, mean_b, b, mean_b)).sqrt()
}

#[test]
fn spreads_every_parameter_evenly_over_its_range() {
    let draws = draws(&generator());
    let drawn = |name: &'static str, low: f64, high: f64, parameter: fn(&KerasDraw) -> f32| {
        let values = values(&draws, parameter);
        let width = high - low;
        let slack = width * 1e-6;
        assert!(values.iter().all(|v| (low - slack..=high + slack).contains(v)), "{name} leaves its range");
        // Every tenth of the range holds its tenth of the draws; the bound is five standard deviations.
        let mut bins = [0u64; 10];
        for value in values {
            bins[(((value - low) / width * 10.0) as usize).min(9)] += 1;
        }
        let expected = COUNT as f64 / 10.0;
        let bound = 5.0 * (expected * 0.9).sqrt();
        assert!(
            bins.iter().all(|bin| (*bin as f64 - expected).abs() < bound),
            "{name} is not uniform: {bins:?}"
        );
    };
    drawn("theta", -40.0, 40.0, |draw| draw.theta);
    // Keras draws tx from the height's range, here 3 pixels, and ty from the width's, here 0.2 of 200 pixels.
    drawn("tx", -3.0, 3.0, |draw| draw.tx);
    drawn("ty", -40.0, 40.0, |draw| draw.ty);
    drawn("shear", -10.0, 10.0, |draw| draw.shear);
    drawn("zx", 0.5, 1.25, |draw| draw.zx);
    drawn("zy", 0.5, 1.25, |draw| draw.zy);
    drawn("channel_shift", -30.0, 30.0, |draw| draw.channel_shift.unwrap());
    drawn("brightness", 0.2, 1.8, |draw| draw.brightness.unwrap());
}

#[test]
fn flips_every_other_image() {
    let draws = draws(&generator());
    for flips in [
        draws.iter().filter(|draw| draw.flip_horizontal).count(),
        draws.iter().filter(|draw| draw.flip_vertical).count(),
    ] {
        // Five standard deviations.
        assert!(flips.abs_diff(COUNT as usize / 2) < 354, "{flips} of {COUNT}");
    }
}

#[test]
fn draws_the_parameters_independently() {
    let draws = draws(&generator());
    let parameters: [fn(&KerasDraw) -> f32; 8] = [
        |draw| draw.theta,
        |draw| draw.tx,
        |draw| draw.ty,
        |draw| draw.zx,
        |draw| draw.zy,
        |draw| f32::from(u8::from(draw.flip_horizontal)),
        |draw| f32::from(u8::from(draw.flip_vertical)),
        |draw| draw.brightness.unwrap(),
    ];
    for (index, a) in parameters.iter().enumerate() {
        for b in &parameters[index + 1..] {
            let correlation = correlation(&values(&draws, a), &values(&draws, b));
            assert!(correlation.abs() < 0.036, "{correlation}");
        }
    }
}

#[test]
fn draws_neighbouring_samples_and_epochs_independently() {
    let generator = generator();
    let theta = |epoch, sample| f64::from(generator.draw(DrawKey { seed: 0, epoch, sample }, 9, 9).theta);
    let here: Vec<f64> = (0..COUNT).map(|sample| theta(0, sample)).collect();
    let next_sample: Vec<f64> = (0..COUNT).map(|sample| theta(0, sample + 1)).collect();
    let next_epoch: Vec<f64> = (0..COUNT).map(|sample| theta(1, sample)).collect();
    assert!(correlation(&here, &next_sample).abs() < 0.036);
    assert!(correlation(&here, &next_epoch).abs() < 0.036);
}

#[test]
fn depends_only_on_the_key() {
    let forwards = draws(&generator());
    let key = |sample| DrawKey { seed: 7, epoch: sample % 5, sample };
    let generator = generator();
    for sample in (0..COUNT).rev().step_by(97) {
        assert_eq!(generator.draw(key(sample), 200, 100), forwards[sample as usize]);
    }
}

#[test]
fn leaves_the_other_parameters_as_they_were_when_one_is_turned_off() {
    let (on, off) =
        (generator(), ImageDataGenerator { rotation_range: 0.0, horizontal_flip: false, ..generator() });
    for (on, off) in draws(&on).into_iter().zip(draws(&off)).take(100) {
        assert_eq!(off, KerasDraw { theta: 0.0, flip_horizontal: false, ..on });
    }
}
