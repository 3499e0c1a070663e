//! Cross-validation: which samples train and which validate, fold by fold.

use std::collections::BTreeMap;

use crate::DataError;
use crate::shuffle::{keyed_rng, shuffle};

/// Most folds and most repetitions: each fold holds a list of all samples.
const MOST: usize = 1000;

/// The samples of one fold; both lists are sorted, and together they are all samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fold {
    /// To train on.
    pub train: Vec<usize>,
    /// To validate on.
    pub validation: Vec<usize>,
}

/// Cross-validation in `folds` parts, each of which validates once in a repetition.
///
/// The same seed gives the same folds on every machine. With several `repeats`, every one is shuffled anew, and the
/// first is the one that a single repetition would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KFold {
    /// Number of parts, 2 to 1,000; 5 by default, as scikit-learn's `KFold`.
    pub folds: usize,
    /// Number of repetitions, 1 to 1,000; 1 by default.
    pub repeats: usize,
    /// Decides which sample is in which part; 0 by default.
    pub seed: u64,
}

impl Default for KFold {
    fn default() -> Self {
        Self { folds: 5, repeats: 1, seed: 0 }
    }
}

impl KFold {
    /// Parts of equal size, to within one sample (Stone 1974).
    ///
    /// # Errors
    ///
    /// [`DataError::Folds`] if a setting is out of range, or there are fewer samples than folds.
    pub fn plain(&self, samples: usize) -> Result<Vec<Fold>, DataError> {
        self.check(samples, "samples")?;
        Ok(self.repeated(|repeat| {
            let mut order: Vec<usize> = (0..samples).collect();
            shuffle(&mut order, &mut self.rng(repeat, 0));
            self.deal(&order)
        }))
    }

    /// Parts with the classes in the same proportion (Kohavi 1995): two parts' counts of any class differ by at most one,
    /// and so do their sizes.
    ///
    /// A class with fewer samples than folds is missing in the validation of some; one with a single sample is missing
    /// in the training of one.
    ///
    /// # Errors
    ///
    /// As of [`plain`](Self::plain).
    pub fn stratified(&self, labels: &[usize]) -> Result<Vec<Fold>, DataError> {
        self.check(labels.len(), "samples")?;
        let mut classes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (sample, &label) in labels.iter().enumerate() {
            classes.entry(label).or_default().push(sample);
        }
        Ok(self.repeated(|repeat| {
            // One after another, the classes are dealt to the parts as cards are, each beginning where the last one ended.
            let mut order = Vec::with_capacity(labels.len());
            for (&label, samples) in &classes {
                let mut samples = samples.clone();
                shuffle(&mut samples, &mut self.rng(repeat, 1 + label as u64));
                order.extend(samples);
            }
            self.deal(&order)
        }))
    }

    /// Parts that keep groups whole: no group, e.g. the images of one patient, is on both sides of any fold.
    ///
    /// The largest group goes first, each to the part with the fewest samples so far; the seed decides between equals.
    ///
    /// # Errors
    ///
    /// As of [`plain`](Self::plain), and if there are fewer groups than folds.
    pub fn grouped(&self, groups: &[usize]) -> Result<Vec<Fold>, DataError> {
        self.check(groups.len(), "samples")?;
        let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (sample, &group) in groups.iter().enumerate() {
            members.entry(group).or_default().push(sample);
        }
        self.check(members.len(), "groups")?;
        Ok(self.repeated(|repeat| {
            let mut order: Vec<&Vec<usize>> = members.values().collect();
            shuffle(&mut order, &mut self.rng(repeat, 0));
            order.sort_by_key(|samples| std::cmp::Reverse(samples.len()));
            let mut parts = vec![Vec::new(); self.folds];
            for samples in order {
                let lightest = (0..parts.len()).min_by_key(|&part| parts[part].len()).unwrap_or(0);
                parts[lightest].extend_from_slice(samples);
            }
            parts
        }))
    }

    fn check(&self, count: usize, of_what: &'static str) -> Result<(), DataError> {
        let refused = |reason: String| Err(DataError::Folds { reason });
        if !(2..=MOST).contains(&self.folds) {
            return refused(format!("folds is {}, it must be 2 to {MOST}", self.folds));
        }
        if !(1..=MOST).contains(&self.repeats) {
            return refused(format!("repeats is {}, it must be 1 to {MOST}", self.repeats));
        }
        if count < self.folds {
            return refused(format!(
                "folds is {}, but there are {count} {of_what}; give at most as many folds, or more data",
                self.folds
            ));
        }
        Ok(())
    }

    /// Repetitions and classes draw from streams of their own.
    fn rng(&self, repeat: usize, stream: u64) -> rand_chacha::ChaCha8Rng {
        keyed_rng(*b"firebrick/folds\0", self.seed, ((repeat as u64) << 40) | stream)
    }

    fn deal(&self, order: &[usize]) -> Vec<Vec<usize>> {
        (0..self.folds).map(|part| order.iter().copied().skip(part).step_by(self.folds).collect()).collect()
    }

    fn repeated(&self, parts: impl Fn(usize) -> Vec<Vec<usize>>) -> Vec<Fold> {
        let folds_of = |repeat| {
            let parts = parts(repeat);
            (0..parts.len())
                .map(|held_out| {
                    let others = parts.iter().enumerate().filter(|(part, _)| *part != held_out);
                    let mut train: Vec<usize> = others.flat_map(|(_, samples)| samples.clone()).collect();
                    let mut validation = parts[held_out].clone();
                    train.sort_unstable();
                    validation.sort_unstable();
                    Fold { train, validation }
                })
                .collect::<Vec<_>>()
        };
        (0..self.repeats).flat_map(folds_of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Asserts that every repetition validates every sample once, and trains on all others.
    fn assert_folds(folds: &[Fold], k_fold: &KFold, samples: usize) {
        assert_eq!(folds.len(), k_fold.folds * k_fold.repeats);
        for repetition in folds.chunks(k_fold.folds) {
            let mut validated: Vec<usize> =
                repetition.iter().flat_map(|fold| fold.validation.clone()).collect();
            validated.sort_unstable();
            assert_eq!(validated, (0..samples).collect::<Vec<_>>());
        }
        for fold in folds {
            assert!(fold.train.is_sorted() && fold.validation.is_sorted());
            assert!(!fold.train.is_empty() && !fold.validation.is_empty());
            let mut all = [fold.train.as_slice(), &fold.validation].concat();
            all.sort_unstable();
            assert_eq!(all, (0..samples).collect::<Vec<_>>());
        }
    }

    /// Asserts that the counts differ by at most one.
    fn assert_even(counts: impl Iterator<Item = usize> + Clone) {
        assert!(counts.clone().max().unwrap_or(0) - counts.min().unwrap_or(0) <= 1);
    }

    proptest! {
        #[test]
        fn every_sample_validates_once_and_parts_are_even(
            samples in 7usize..120, folds in 2usize..8, repeats in 1usize..4, seed: u64,
        ) {
            let k_fold = KFold { folds, repeats, seed };
            let plain = k_fold.plain(samples).expect("enough samples");
            assert_folds(&plain, &k_fold, samples);
            assert_even(plain.iter().map(|fold| fold.validation.len()));
            prop_assert_eq!(&plain, &k_fold.plain(samples).expect("enough samples"));
        }

        #[test]
        fn classes_are_even_to_within_one(
            labels in prop::collection::vec(0usize..5, 7..120), folds in 2usize..8, repeats in 1usize..3, seed: u64,
        ) {
            let k_fold = KFold { folds, repeats, seed };
            let stratified = k_fold.stratified(&labels).expect("enough samples");
            assert_folds(&stratified, &k_fold, labels.len());
            assert_even(stratified.iter().map(|fold| fold.validation.len()));
            for class in 0..5 {
                let count = |fold: &Fold| fold.validation.iter().filter(|&&sample| labels[sample] == class).count();
                assert_even(stratified.iter().map(count));
            }
        }

        #[test]
        fn no_group_is_on_both_sides(
            groups in prop::collection::vec(0usize..9, 40..120), folds in 2usize..4, repeats in 1usize..3, seed: u64,
        ) {
            let k_fold = KFold { folds, repeats, seed };
            prop_assume!(groups.iter().collect::<std::collections::BTreeSet<_>>().len() >= folds);
            let grouped = k_fold.grouped(&groups).expect("enough groups");
            assert_folds(&grouped, &k_fold, groups.len());
            for fold in &grouped {
                for &sample in &fold.validation {
                    prop_assert!(fold.train.iter().all(|&other| groups[other] != groups[sample]));
                }
            }
            // Each group went to the lightest part, so no part is more than a largest group ahead of another.
            let largest = (0..9).map(|g| groups.iter().filter(|&&group| group == g).count()).max().unwrap_or(0);
            for repetition in grouped.chunks(folds) {
                let sizes: Vec<usize> = repetition.iter().map(|fold| fold.validation.len()).collect();
                prop_assert!(sizes.iter().max().unwrap_or(&0) - sizes.iter().min().unwrap_or(&0) <= largest);
            }
        }
    }

    #[test]
    fn repetitions_and_seeds_differ_and_the_first_repetition_is_the_only_one() {
        let once = KFold::default().plain(50).expect("enough samples");
        let thrice = KFold { repeats: 3, ..KFold::default() }.plain(50).expect("enough samples");
        assert_eq!(thrice[..5], once);
        assert_ne!(thrice[5..10], once);
        assert_ne!(KFold { seed: 1, ..KFold::default() }.plain(50).expect("enough samples"), once);
    }

    #[test]
    fn too_few_samples_or_groups_and_odd_settings_are_refused() {
        let message = |result: Result<Vec<Fold>, DataError>| result.expect_err("refused").to_string();
        assert!(message(KFold::default().plain(4)).contains("4 samples"));
        assert!(message(KFold::default().grouped(&[0, 0, 1, 1, 2, 2])).contains("3 groups"));
        assert!(message(KFold { folds: 1, ..KFold::default() }.plain(9)).contains("folds is 1"));
        assert!(
            message(KFold { repeats: 0, ..KFold::default() }.stratified(&[0; 9])).contains("repeats is 0")
        );
    }
}
