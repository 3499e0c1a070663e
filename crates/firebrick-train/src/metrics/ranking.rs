//! Figures of scores, which need no threshold.

use super::{Average, check_finite, check_lengths, refused};
use crate::TrainError;

/// Area under the ROC curve (`roc_auc_score`): the chance that a positive sample has a higher score than a negative
/// one, a tie counted half (Mann and Whitney 1947). None where all samples are of one kind.
///
/// # Errors
///
/// [`TrainError::Metric`] for empty lists, lists of different lengths, or a score that is no finite number.
pub fn roc_auc(scores: &[f64], positive: &[bool]) -> Result<Option<f64>, TrainError> {
    check_lengths("AUROC", positive.len(), scores.len())?;
    check_finite("AUROC", scores)?;
    let (mut area, mut above) = (0.0, 0.0);
    for tie in falling_ties(scores, positive) {
        area += tie.negatives * (above + tie.positives / 2.0);
        above += tie.positives;
    }
    let negatives = positive.len() as f64 - above;
    let pairs = above * negatives;
    Ok((pairs > 0.0).then(|| area / pairs))
}

/// Average precision (`average_precision_score`): `Σ (Rₙ - Rₙ₋₁) Pₙ` over the thresholds, without interpolation.
/// 0 where no sample is positive.
///
/// # Errors
///
/// As of [`roc_auc`].
pub fn average_precision(scores: &[f64], positive: &[bool]) -> Result<f64, TrainError> {
    check_lengths("average precision", positive.len(), scores.len())?;
    check_finite("average precision", scores)?;
    let all = positive.iter().filter(|&&positive| positive).count() as f64;
    if all == 0.0 {
        return Ok(0.0);
    }
    let (mut sum, mut found, mut seen) = (0.0, 0.0, 0.0);
    for tie in falling_ties(scores, positive) {
        found += tie.positives;
        seen += tie.positives + tie.negatives;
        sum += tie.positives / all * (found / seen);
    }
    Ok(sum)
}

/// AUROC of each class against all others, averaged (`roc_auc_score(multi_class="ovr")`).
///
/// `scores[i][c]` is the score of sample `i` for class `c`. A class without samples makes the macro average `None` and
/// does not count in the weighted one.
///
/// # Errors
///
/// [`TrainError::Metric`] for scores and labels that do not belong together, or a score that is no finite number.
pub fn roc_auc_one_vs_rest(
    scores: &[Vec<f64>],
    labels: &[usize],
    average: Average,
) -> Result<Option<f64>, TrainError> {
    let classes = check_rows("AUROC", scores, labels)?;
    match average {
        Average::Micro => {
            let (scores, positive) = flat(scores, labels);
            roc_auc(&scores, &positive)
        }
        Average::Macro | Average::Weighted => {
            let mut areas = Vec::with_capacity(classes);
            let mut supports = Vec::with_capacity(classes);
            for class in 0..classes {
                let (scores, positive) = one_class(scores, labels, class);
                areas.push(roc_auc(&scores, &positive)?);
                supports.push(positive.iter().filter(|&&positive| positive).count() as f64);
            }
            Ok(mean_over_classes(&areas, &supports, average))
        }
    }
}

/// The plain mean of the classes' figures, or with `Average::Weighted` the one by their supports, to which a class without
/// samples adds nothing. None if a figure that counts is.
pub(super) fn mean_over_classes(figures: &[Option<f64>], supports: &[f64], average: Average) -> Option<f64> {
    let (mut sum, mut weights) = (0.0, 0.0);
    for (figure, &support) in figures.iter().zip(supports) {
        let weight = if average == Average::Weighted { support } else { 1.0 };
        if weight > 0.0 {
            sum += weight * (*figure)?;
            weights += weight;
        }
    }
    Some(sum / weights)
}

/// AUROC of each pair of classes, averaged (`roc_auc_score(multi_class="ovo")`; Hand and Till 2001). Of a pair, the mean
/// of both directions counts; weighted, a pair counts as often as it has samples. None with fewer than two classes.
///
/// # Errors
///
/// As of [`roc_auc_one_vs_rest`]; also for the micro average, which pairs do not have.
pub fn roc_auc_one_vs_one(
    scores: &[Vec<f64>],
    labels: &[usize],
    average: Average,
) -> Result<Option<f64>, TrainError> {
    let classes = check_rows("AUROC", scores, labels)?;
    if average == Average::Micro {
        return Err(refused("AUROC", "pairs of classes have a macro and a weighted average, no micro one"));
    }
    let present: Vec<usize> = (0..classes).filter(|class| labels.contains(class)).collect();
    let (mut sum, mut weights) = (0.0, 0.0);
    for (i, &a) in present.iter().enumerate() {
        for &b in &present[i + 1..] {
            let pair: Vec<usize> =
                (0..labels.len()).filter(|&sample| labels[sample] == a || labels[sample] == b).collect();
            let mut area = 0.0;
            for class in [a, b] {
                let of_class: Vec<f64> = pair.iter().map(|&sample| scores[sample][class]).collect();
                let positive: Vec<bool> = pair.iter().map(|&sample| labels[sample] == class).collect();
                area += roc_auc(&of_class, &positive)?.unwrap_or(0.5) / 2.0;
            }
            let weight = if average == Average::Weighted { pair.len() as f64 } else { 1.0 };
            sum += weight * area;
            weights += weight;
        }
    }
    Ok((weights > 0.0).then(|| sum / weights))
}

/// Average precision of each class against all others, averaged (`average_precision_score` of an indicator matrix).
/// A class without samples has 0.
///
/// # Errors
///
/// As of [`roc_auc_one_vs_rest`].
pub fn average_precision_averaged(
    scores: &[Vec<f64>],
    labels: &[usize],
    average: Average,
) -> Result<f64, TrainError> {
    let classes = check_rows("average precision", scores, labels)?;
    if average == Average::Micro {
        let (scores, positive) = flat(scores, labels);
        return average_precision(&scores, &positive);
    }
    let (mut figures, mut supports) = (Vec::with_capacity(classes), Vec::with_capacity(classes));
    for class in 0..classes {
        let (of_class, positive) = one_class(scores, labels, class);
        figures.push(Some(average_precision(&of_class, &positive)?));
        supports.push(positive.iter().filter(|&&positive| positive).count() as f64);
    }
    // Every class has a figure and some class has a sample.
    Ok(mean_over_classes(&figures, &supports, average).unwrap_or(0.0))
}

/// Share of samples whose class is among the `k` highest scores (`top_k_accuracy_score`). Of equal scores, the later
/// class comes first, as there.
///
/// # Errors
///
/// As of [`roc_auc_one_vs_rest`]; [`TrainError::OutOfRange`] if `k` is 0.
pub fn top_k_accuracy(scores: &[Vec<f64>], labels: &[usize], k: usize) -> Result<f64, TrainError> {
    check_rows("top-k accuracy", scores, labels)?;
    if k == 0 {
        return Err(TrainError::OutOfRange { field: "k", value: "0".to_owned(), range: "at least 1" });
    }
    let is_hit = |(row, &label): (&Vec<f64>, &usize)| {
        let own = row[label];
        let before =
            row.iter().enumerate().filter(|&(class, &score)| score > own || (score == own && class > label));
        before.count() < k
    };
    let hits = scores.iter().zip(labels).filter(|&sample| is_hit(sample)).count();
    Ok(hits as f64 / labels.len() as f64)
}

/// Probabilities of rows of logits: `exp(zᵢ) / Σ exp(zⱼ)`, in `f64`.
pub fn softmax_rows(logits: &[Vec<f32>]) -> Vec<Vec<f64>> {
    let softmax = |row: &Vec<f32>| {
        let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exp: Vec<f64> = row.iter().map(|&logit| f64::from(logit - highest).exp()).collect();
        let sum: f64 = exp.iter().sum();
        exp.into_iter().map(|exp| exp / sum).collect()
    };
    logits.iter().map(softmax).collect()
}

/// Samples of one score.
#[derive(Default)]
struct Tie {
    positives: f64,
    negatives: f64,
}

/// Samples by score, the highest first, those of equal scores together.
fn falling_ties(scores: &[f64], positive: &[bool]) -> Vec<Tie> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order
        .chunk_by(|&a, &b| scores[a] == scores[b])
        .map(|tie| {
            let positives = tie.iter().filter(|&&sample| positive[sample]).count();
            Tie { positives: positives as f64, negatives: (tie.len() - positives) as f64 }
        })
        .collect()
}

/// The number of classes, after a check that every row has it, every label is one and every score is finite.
fn check_rows(metric: &'static str, scores: &[Vec<f64>], labels: &[usize]) -> Result<usize, TrainError> {
    check_lengths(metric, labels.len(), scores.len())?;
    let classes = scores[0].len();
    for (sample, (row, &label)) in scores.iter().zip(labels).enumerate() {
        if row.len() != classes || label >= classes {
            return Err(refused(
                metric,
                format!(
                    "sample {sample} has {} scores and class {label}, the first has {classes} scores",
                    row.len()
                ),
            ));
        }
        check_finite(metric, row)?;
    }
    Ok(classes)
}

fn one_class(scores: &[Vec<f64>], labels: &[usize], class: usize) -> (Vec<f64>, Vec<bool>) {
    (scores.iter().map(|row| row[class]).collect(), labels.iter().map(|&label| label == class).collect())
}

/// All decisions of all classes in one list.
fn flat(scores: &[Vec<f64>], labels: &[usize]) -> (Vec<f64>, Vec<bool>) {
    let positive =
        scores.iter().zip(labels).flat_map(|(row, &label)| (0..row.len()).map(move |class| class == label));
    (scores.concat(), positive.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_belong_together_is_refused() {
        assert!(roc_auc(&[], &[]).is_err());
        assert!(roc_auc(&[f64::NAN], &[true]).is_err());
        assert!(average_precision(&[0.5], &[true, false]).is_err());
        assert!(top_k_accuracy(&[vec![0.5, 0.5]], &[2], 1).is_err());
        assert!(top_k_accuracy(&[vec![0.5, 0.5]], &[0], 0).is_err());
        assert!(roc_auc_one_vs_one(&[vec![0.5, 0.5]], &[0], Average::Micro).is_err());
        assert!(roc_auc_one_vs_rest(&[vec![0.5, 0.5], vec![1.0]], &[0, 0], Average::Macro).is_err());
    }

    #[test]
    fn a_score_of_minus_zero_ties_with_zero() {
        assert_eq!(roc_auc(&[0.0, -0.0], &[true, false]).expect("two samples"), Some(0.5));
    }

    #[test]
    fn probabilities_of_a_far_logit_stay_numbers() {
        assert_eq!(softmax_rows(&[vec![1e4, -1e4]]), [[1.0, 0.0]]);
    }
}
