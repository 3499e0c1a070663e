//! Splitting samples into training and validation, class by class.

use std::collections::BTreeMap;

use crate::shuffle::{keyed_rng, shuffle};

/// Splits the samples `0..labels.len()` into (training, validation) so that both have the classes in the same
/// proportion.
///
/// Of a class with `n` samples, `fraction * n` rounded to the nearest go to validation, chosen at random by
/// `seed`; a class with two or more samples keeps at least one on both sides, and a single sample is for
/// training. With `fraction` 0 all are for training. Both lists are sorted. What happens to one class does
/// not depend on the other classes.
///
/// # Panics
///
/// If `fraction` is not in `0.0..1.0`.
pub fn stratified_split(labels: &[usize], fraction: f32, seed: u64) -> (Vec<usize>, Vec<usize>) {
    assert!((0.0..1.0).contains(&fraction), "the validation fraction must be in 0.0..1.0, not {fraction}");
    if fraction == 0.0 {
        return ((0..labels.len()).collect(), Vec::new());
    }

    let mut classes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (sample, &label) in labels.iter().enumerate() {
        classes.entry(label).or_default().push(sample);
    }

    let (mut train, mut validation) = (Vec::new(), Vec::new());
    for (label, mut samples) in classes {
        shuffle(&mut samples, &mut keyed_rng(*b"firebrick/split\0", seed, label as u64));
        let (for_validation, for_training) = samples.split_at(validation_share(samples.len(), fraction));
        validation.extend(for_validation);
        train.extend(for_training);
    }
    train.sort_unstable();
    validation.sort_unstable();
    (train, validation)
}

/// How many of a class's `samples` are for validation.
fn validation_share(samples: usize, fraction: f32) -> usize {
    match samples {
        0 | 1 => 0,
        _ => ((samples as f64 * f64::from(fraction)).round() as usize).clamp(1, samples - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn count(indices: &[usize], labels: &[usize], label: usize) -> usize {
        indices.iter().filter(|&&i| labels[i] == label).count()
    }

    proptest! {
        #[test]
        fn uses_every_sample_once_and_keeps_every_class_on_both_sides(
            labels in prop::collection::vec(0usize..6, 0..200),
            fraction in 0.001f32..0.999,
            seed: u64,
        ) {
            let (train, validation) = stratified_split(&labels, fraction, seed);
            let mut all = [train.as_slice(), validation.as_slice()].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..labels.len()).collect::<Vec<_>>());
            prop_assert!(train.is_sorted() && validation.is_sorted());
            for label in 0..6 {
                let (t, v) = (count(&train, &labels, label), count(&validation, &labels, label));
                match t + v {
                    0 => {}
                    1 => prop_assert_eq!((t, v), (1, 0)),
                    n => {
                        prop_assert!(t >= 1 && v >= 1);
                        let wanted = n as f64 * f64::from(fraction);
                        prop_assert!((v as f64 - wanted).abs() <= 0.5 || v == 1 || t == 1);
                    }
                }
            }
        }

        #[test]
        fn repeats_for_the_same_seed(labels in prop::collection::vec(0usize..4, 0..100), seed: u64) {
            prop_assert_eq!(stratified_split(&labels, 0.3, seed), stratified_split(&labels, 0.3, seed));
        }
    }

    #[test]
    fn splits_three_hundred_of_ten_classes_in_the_asked_proportion() {
        let labels: Vec<_> = (0..300).map(|i| i % 10).collect();
        let (train, validation) = stratified_split(&labels, 0.2, 0);
        assert_eq!((train.len(), validation.len()), (240, 60));
        for label in 0..10 {
            assert_eq!(count(&validation, &labels, label), 6);
        }
    }

    #[test]
    fn chooses_others_for_another_seed() {
        let labels = vec![0; 100];
        assert_ne!(stratified_split(&labels, 0.2, 0), stratified_split(&labels, 0.2, 1));
    }

    #[test]
    fn leaves_all_for_training_at_zero() {
        assert_eq!(stratified_split(&[0, 0, 1], 0.0, 0), (vec![0, 1, 2], vec![]));
    }

    #[test]
    #[should_panic(expected = "must be in 0.0..1.0, not 1")]
    fn refuses_to_leave_nothing_for_training() {
        stratified_split(&[0, 0], 1.0, 0);
    }
}
