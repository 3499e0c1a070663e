//! All figures of a classifier, class by class.

use serde::Serialize;

use super::calibration::first_highest;
use super::{
    Average, Calibration, ConfusionMatrix, KappaWeights, average_precision, average_precision_averaged,
    mean_over_classes, refused, roc_auc, roc_auc_one_vs_rest, top_k_accuracy,
};
use crate::TrainError;

/// Most scores that are sorted together for a micro average.
const MOST_IN_ONE_LIST: usize = 10_000_000;

/// Figures of one class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassReport {
    /// Its name.
    pub class: String,
    /// Of the samples taken for the class, the share that belongs to it; 0 where there are none.
    pub precision: f64,
    /// Of the samples that belong to the class, the share taken for it; 0 where there are none.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
    /// Number of samples that belong to the class.
    pub support: u64,
    /// Area under the ROC curve of the class against all others; none where one side has no samples.
    pub roc_auc: Option<f64>,
    /// Average precision of the class against all others; 0 where it has no samples.
    pub average_precision: f64,
}

/// Figures of all classes, averaged one way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AveragedFigures {
    /// See [`ConfusionMatrix::precision`].
    pub precision: f64,
    /// See [`ConfusionMatrix::recall`].
    pub recall: f64,
    /// See [`ConfusionMatrix::f_beta`].
    pub f1: f64,
    /// See [`roc_auc_one_vs_rest`]; none also for the micro average of more than ten million scores.
    pub roc_auc: Option<f64>,
    /// See [`average_precision_averaged`]; none for the micro average of more than ten million scores.
    pub average_precision: Option<f64>,
}

/// How a classifier did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassificationReport {
    /// Number of samples.
    pub samples: usize,
    /// Share that is right.
    pub accuracy: f64,
    /// Mean recall of the classes that have samples.
    pub balanced_accuracy: f64,
    /// Share of samples whose class is among the five highest scores; none with five classes or fewer.
    pub top_5_accuracy: Option<f64>,
    /// Matthews' correlation.
    pub matthews: f64,
    /// Cohen's kappa, unweighted.
    pub cohens_kappa: Option<f64>,
    /// Expected calibration error in [`Calibration::BINS`] bins.
    pub calibration_error: f64,
    /// Each class counts the same.
    #[serde(rename = "macro")]
    pub macro_average: AveragedFigures,
    /// Each decision counts the same.
    #[serde(rename = "micro")]
    pub micro_average: AveragedFigures,
    /// Each class counts by its samples.
    #[serde(rename = "weighted")]
    pub weighted_average: AveragedFigures,
    /// In the order of the classes.
    pub classes: Vec<ClassReport>,
    /// `confusion[t][p]` counts samples of class `t` taken for class `p`.
    pub confusion: ConfusionMatrix,
}

impl ClassificationReport {
    /// Of rows of class probabilities `[samples][classes]` and the true classes.
    ///
    /// # Errors
    ///
    /// [`TrainError::Metric`] if there are no samples, or names, probabilities and labels do not belong together.
    pub fn new(names: &[String], probabilities: &[Vec<f64>], labels: &[usize]) -> Result<Self, TrainError> {
        if let Some(row) = probabilities.iter().find(|row| row.len() != names.len()) {
            return Err(refused(
                "report",
                format!("a sample has {} probabilities, there are {} classes", row.len(), names.len()),
            ));
        }
        let taken: Vec<usize> = probabilities.iter().map(|row| first_highest(row)).collect();
        let confusion = ConfusionMatrix::new(labels, &taken, names.len())?;
        let classes: Vec<ClassReport> = confusion
            .figures()
            .into_iter()
            .enumerate()
            .map(|(class, figures)| {
                let scores: Vec<f64> = probabilities.iter().map(|row| row[class]).collect();
                let positive: Vec<bool> = labels.iter().map(|&label| label == class).collect();
                Ok(ClassReport {
                    class: names[class].clone(),
                    precision: figures.precision,
                    recall: figures.recall,
                    f1: figures.f1,
                    support: figures.support,
                    roc_auc: roc_auc(&scores, &positive)?,
                    average_precision: average_precision(&scores, &positive)?,
                })
            })
            .collect::<Result<_, TrainError>>()?;
        // Of each class once: a thousand classes are a thousand sorts.
        let areas: Vec<Option<f64>> = classes.iter().map(|class| class.roc_auc).collect();
        let precisions: Vec<Option<f64>> =
            classes.iter().map(|class| Some(class.average_precision)).collect();
        let supports: Vec<f64> = classes.iter().map(|class| class.support as f64).collect();
        let scores = labels.len().saturating_mul(names.len());
        let averaged = |average| {
            let (roc_auc, average_precision) = match average {
                Average::Micro if scores > MOST_IN_ONE_LIST => (None, None),
                Average::Micro => (
                    roc_auc_one_vs_rest(probabilities, labels, average)?,
                    Some(average_precision_averaged(probabilities, labels, average)?),
                ),
                _ => (
                    mean_over_classes(&areas, &supports, average),
                    mean_over_classes(&precisions, &supports, average),
                ),
            };
            Ok::<_, TrainError>(AveragedFigures {
                precision: confusion.precision(average),
                recall: confusion.recall(average),
                f1: confusion.f_beta(1.0, average)?,
                roc_auc,
                average_precision,
            })
        };
        Ok(Self {
            samples: labels.len(),
            accuracy: confusion.accuracy(),
            balanced_accuracy: confusion.balanced_accuracy(),
            top_5_accuracy: match names.len() {
                0..=5 => None,
                _ => Some(top_k_accuracy(probabilities, labels, 5)?),
            },
            matthews: confusion.matthews(),
            cohens_kappa: confusion.cohens_kappa(KappaWeights::None),
            calibration_error: Calibration::of_classes(probabilities, labels, Calibration::BINS)?
                .expected_error,
            macro_average: averaged(Average::Macro)?,
            micro_average: averaged(Average::Micro)?,
            weighted_average: averaged(Average::Weighted)?,
            classes,
            confusion,
        })
    }
}
