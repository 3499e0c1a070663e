//! Figures of merit, equal to scikit-learn's.
//!
//! - from classes alone: [`ConfusionMatrix`] with accuracy, balanced accuracy, precision, recall, F-beta, Matthews'
//!   correlation and Cohen's kappa
//! - from scores: [`roc_auc`], [`average_precision`] and their averages over classes, [`top_k_accuracy`]
//! - from probabilities: [`Calibration`]
//! - of real numbers: [`Regression`]
//! - all of a classifier at once, class by class: [`ClassificationReport`]
//!
//! Everything is computed in `f64`. Where scikit-learn gives NaN with a warning, a figure here is `None`.
//!
//! ```
//! use firebrick_train::metrics::{Average, ConfusionMatrix};
//!
//! let confusion = ConfusionMatrix::new(&[0, 0, 1, 1], &[0, 1, 1, 1], 2)?;
//! assert_eq!(confusion.accuracy(), 0.75);
//! assert!((confusion.f_beta(1.0, Average::Macro)? - (2.0 / 3.0 + 0.8) / 2.0).abs() < 1e-12);
//! # Ok::<(), firebrick_train::TrainError>(())
//! ```

mod calibration;
mod classification_report;
mod confusion;
mod ranking;
mod regression;

pub use calibration::{Calibration, CalibrationBin};
pub use classification_report::{AveragedFigures, ClassReport, ClassificationReport};
pub use confusion::{Average, ClassFigures, ConfusionMatrix, KappaWeights};
use ranking::mean_over_classes;
pub use ranking::{
    average_precision, average_precision_averaged, roc_auc, roc_auc_one_vs_one, roc_auc_one_vs_rest,
    softmax_rows, top_k_accuracy,
};
pub use regression::Regression;

use crate::TrainError;

/// An error that says which figure could not be computed from what it was given.
fn refused(metric: &'static str, reason: impl Into<String>) -> TrainError {
    TrainError::Metric { metric, reason: reason.into() }
}

/// Refuses lists that are empty or do not belong together.
fn check_lengths(metric: &'static str, truths: usize, guesses: usize) -> Result<(), TrainError> {
    if truths == 0 || truths != guesses {
        return Err(refused(
            metric,
            format!(
                "there are {truths} true values and {guesses} predictions; there must be as many, at least one"
            ),
        ));
    }
    Ok(())
}

/// Refuses infinities and what is no number.
fn check_finite(metric: &'static str, values: &[f64]) -> Result<(), TrainError> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(refused(metric, format!("value {at} is {}, it must be a finite number", values[at]))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        made_by: String,
        classification: Vec<Case>,
        regression: Vec<RegressionCase>,
    }

    #[derive(Deserialize)]
    struct Case {
        name: String,
        labels: Vec<usize>,
        probabilities: Vec<Vec<f64>>,
        confusion: Vec<Vec<u64>>,
        accuracy: f64,
        balanced_accuracy: f64,
        /// Of the first and of the first two; none of two classes, where scikit-learn wants other scores.
        top: Vec<Option<f64>>,
        matthews: f64,
        kappa: Vec<Option<f64>>,
        /// Precision, recall, F1 and support.
        classes: Vec<[f64; 4]>,
        class_roc_auc: Vec<Option<f64>>,
        class_average_precision: Vec<f64>,
        averaged: BTreeMap<String, AveragedCase>,
        calibration: Vec<CalibrationCase>,
    }

    #[derive(Deserialize)]
    struct AveragedCase {
        precision: f64,
        recall: f64,
        f_half: f64,
        f1: f64,
        f2: f64,
        roc_auc_ovr: Option<f64>,
        roc_auc_ovo: Option<f64>,
        average_precision: f64,
    }

    #[derive(Deserialize)]
    struct CalibrationCase {
        bins: usize,
        expected: f64,
        maximum: f64,
    }

    #[derive(Deserialize)]
    struct RegressionCase {
        name: String,
        truth: Vec<f64>,
        predicted: Vec<f64>,
        mse: f64,
        rmse: f64,
        mae: f64,
        r2: Option<f64>,
    }

    /// The largest error of each figure, for `cargo test -- --nocapture` and the table in docs/metrics.md.
    #[derive(Default)]
    struct Largest(BTreeMap<&'static str, f64>);

    impl Largest {
        fn check(
            &mut self,
            figure: &'static str,
            case: &str,
            ours: impl Into<Option<f64>>,
            theirs: impl Into<Option<f64>>,
        ) {
            let (ours, theirs) = (ours.into(), theirs.into());
            let error = match (ours, theirs) {
                (Some(ours), Some(theirs)) => (ours - theirs).abs() / theirs.abs().max(1.0),
                (None, None) => 0.0,
                _ => f64::INFINITY,
            };
            assert!(error <= 1e-12, "{figure} of `{case}`: {ours:?}, scikit-learn has {theirs:?}");
            let largest = self.0.entry(figure).or_default();
            *largest = largest.max(error);
        }
    }

    impl Largest {
        #[allow(clippy::print_stderr, reason = "cargo shows it where it is asked to")]
        fn tell(&self) {
            for (figure, error) in &self.0 {
                eprintln!("{figure}: {error:.1e}");
            }
        }
    }

    fn golden() -> Golden {
        let golden: Golden =
            serde_json::from_str(include_str!("../../tests/goldens/metrics.json")).expect("valid JSON");
        assert_eq!(golden.made_by, "cargo xtask golden metrics");
        golden
    }

    #[test]
    fn figures_of_classes_are_scikit_learns() {
        let mut largest = Largest::default();
        for case in golden().classification {
            let name = case.name.as_str();
            let names: Vec<String> = (0..case.confusion.len()).map(|class| class.to_string()).collect();
            let report = ClassificationReport::new(&names, &case.probabilities, &case.labels).expect(name);
            let confusion = &report.confusion;
            assert_eq!(confusion.counts(), case.confusion, "{name}");
            largest.check("accuracy", name, report.accuracy, case.accuracy);
            largest.check("balanced accuracy", name, report.balanced_accuracy, case.balanced_accuracy);
            for (k, top) in case.top.iter().enumerate() {
                if let Some(top) = *top {
                    let ours = top_k_accuracy(&case.probabilities, &case.labels, k + 1).expect(name);
                    largest.check("top-k accuracy", name, ours, top);
                }
            }
            largest.check("MCC", name, report.matthews, case.matthews);
            for (weights, kappa) in [KappaWeights::None, KappaWeights::Linear, KappaWeights::Quadratic]
                .into_iter()
                .zip(&case.kappa)
            {
                largest.check("kappa", name, confusion.cohens_kappa(weights), *kappa);
            }
            for (class, figures) in report.classes.iter().enumerate() {
                let [precision, recall, f1, support] = case.classes[class];
                largest.check("precision", name, figures.precision, precision);
                largest.check("recall", name, figures.recall, recall);
                largest.check("F-beta", name, figures.f1, f1);
                largest.check("support", name, figures.support as f64, support);
                largest.check("AUROC", name, figures.roc_auc, case.class_roc_auc[class]);
                let theirs = case.class_average_precision[class];
                largest.check("average precision", name, figures.average_precision, theirs);
            }
            for (average, ours, key) in [
                (Average::Macro, &report.macro_average, "macro"),
                (Average::Micro, &report.micro_average, "micro"),
                (Average::Weighted, &report.weighted_average, "weighted"),
            ] {
                let theirs = &case.averaged[key];
                let case_name = format!("{name}, {key}");
                largest.check("precision", &case_name, ours.precision, theirs.precision);
                largest.check("recall", &case_name, ours.recall, theirs.recall);
                for (beta, f) in [(0.5, theirs.f_half), (1.0, theirs.f1), (2.0, theirs.f2)] {
                    largest.check("F-beta", &case_name, confusion.f_beta(beta, average).expect(name), f);
                }
                largest.check("AUROC", &case_name, ours.roc_auc, theirs.roc_auc_ovr);
                if average != Average::Micro && names.len() > 2 {
                    let pairs = roc_auc_one_vs_one(&case.probabilities, &case.labels, average).expect(name);
                    largest.check("AUROC of pairs", &case_name, pairs, theirs.roc_auc_ovo);
                }
                largest.check(
                    "average precision",
                    &case_name,
                    ours.average_precision,
                    theirs.average_precision,
                );
            }
            for theirs in &case.calibration {
                let ours =
                    Calibration::of_classes(&case.probabilities, &case.labels, theirs.bins).expect(name);
                largest.check("calibration error", name, ours.expected_error, theirs.expected);
                largest.check("calibration error", name, ours.maximum_error, theirs.maximum);
            }
        }
        assert_eq!(largest.0.len(), 13, "{:?}", largest.0.keys());
        largest.tell();
    }

    #[test]
    fn figures_of_numbers_are_scikit_learns() {
        let mut largest = Largest::default();
        for case in golden().regression {
            let name = case.name.as_str();
            let ours = Regression::new(&case.truth, &case.predicted).expect(name);
            largest.check("MSE", name, ours.mse, case.mse);
            largest.check("RMSE", name, ours.rmse, case.rmse);
            largest.check("MAE", name, ours.mae, case.mae);
            largest.check("R2", name, ours.r2, case.r2);
        }
        largest.tell();
    }

    #[test]
    fn a_report_of_names_that_do_not_fit_is_refused() {
        let message =
            ClassificationReport::new(&["a".to_owned()], &[vec![0.5, 0.5]], &[0]).expect_err("one name");
        assert!(message.to_string().contains("2 probabilities") && message.to_string().contains("1 classes"));
    }
}
