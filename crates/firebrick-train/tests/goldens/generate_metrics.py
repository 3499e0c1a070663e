"""scikit-learn's figures of random and of degenerate predictions."""

import json
import pathlib
import warnings

import numpy as np
import sklearn
from sklearn import metrics
from sklearn.calibration import calibration_curve

SEED = 20261124
AVERAGES = ["macro", "micro", "weighted"]


def finite(value):
    return None if np.isnan(value) else float(value)


def attempt(figure, *arguments, **settings):
    """The figure, or none where scikit-learn refuses or gives NaN."""
    try:
        return finite(figure(*arguments, **settings))
    except (ValueError, ZeroDivisionError):
        return None


def calibration_errors(right, confidence, bins):
    accuracy, mean = calibration_curve(right, confidence, n_bins=bins, strategy="uniform")
    edges = np.linspace(0.0, 1.0, bins + 1)
    counts = np.bincount(np.searchsorted(edges[1:-1], confidence), minlength=bins)
    gaps = np.abs(accuracy - mean)
    return {"expected": float((counts[counts > 0] * gaps).sum() / counts.sum()), "maximum": float(gaps.max())}


def classification(name, labels, probabilities):
    labels = np.array(labels)
    probabilities = np.array(probabilities, dtype=float)
    classes = probabilities.shape[1]
    every = list(range(classes))
    taken = probabilities.argmax(axis=1)
    indicator = np.eye(classes, dtype=int)[labels]
    ovr = {a: None for a in AVERAGES}
    if classes > 2:
        for average in AVERAGES:
            ovr[average] = attempt(
                metrics.roc_auc_score, labels, probabilities, multi_class="ovr", average=average, labels=every
            )
    else:
        for average in AVERAGES:
            ovr[average] = attempt(metrics.roc_auc_score, indicator, probabilities, average=average)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, taken, labels=every, zero_division=0
    )
    confidence = np.minimum(probabilities.max(axis=1), 1.0)
    return {
        "name": name,
        "labels": labels.tolist(),
        "probabilities": probabilities.tolist(),
        "confusion": metrics.confusion_matrix(labels, taken, labels=every).tolist(),
        "accuracy": metrics.accuracy_score(labels, taken),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, taken),
        "top": [metrics.top_k_accuracy_score(labels, probabilities, k=k, labels=every)
                if classes > 2 else None for k in (1, 2)],
        "matthews": metrics.matthews_corrcoef(labels, taken),
        "kappa": [attempt(metrics.cohen_kappa_score, labels, taken, weights=w) for w in (None, "linear", "quadratic")],
        "classes": [list(map(float, row)) for row in zip(precision, recall, f1, support)],
        "class_roc_auc": [attempt(metrics.roc_auc_score, indicator[:, c], probabilities[:, c]) for c in every],
        "class_average_precision": [
            attempt(metrics.average_precision_score, indicator[:, c], probabilities[:, c]) for c in every
        ],
        "averaged": {
            average: {
                "precision": metrics.precision_score(labels, taken, average=average, zero_division=0),
                "recall": metrics.recall_score(labels, taken, average=average, zero_division=0),
                "f_half": metrics.fbeta_score(labels, taken, beta=0.5, average=average, zero_division=0),
                "f1": metrics.f1_score(labels, taken, average=average, zero_division=0),
                "f2": metrics.fbeta_score(labels, taken, beta=2.0, average=average, zero_division=0),
                "roc_auc_ovr": ovr[average],
                "roc_auc_ovo": None if average == "micro" or classes == 2 else attempt(
                    metrics.roc_auc_score, labels, probabilities, multi_class="ovo", average=average, labels=every
                ),
                "average_precision": attempt(
                    metrics.average_precision_score, indicator, probabilities, average=average
                ),
            }
            for average in AVERAGES
        },
        "calibration": [
            {"bins": bins, **calibration_errors(taken == labels, confidence, bins)} for bins in (1, 4, 10, 15)
        ],
    }


def regression(name, truth, predicted):
    return {
        "name": name,
        "truth": list(map(float, truth)),
        "predicted": list(map(float, predicted)),
        "mse": metrics.mean_squared_error(truth, predicted),
        "rmse": metrics.root_mean_squared_error(truth, predicted),
        "mae": metrics.mean_absolute_error(truth, predicted),
        "r2": finite(metrics.r2_score(truth, predicted)),
    }


def main():
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(SEED)

    def rows(samples, classes, digits, labels=None, skill=1.5):
        """Probabilities in steps of 10^-digits, so that sums are 1 and few digits make ties."""
        logits = rng.normal(size=(samples, classes))
        if labels is not None:
            logits[np.arange(samples), labels] += skill
        p = np.exp(logits)
        p = np.round(p / p.sum(axis=1, keepdims=True), digits)
        p[:, -1] = np.round(1.0 - p[:, :-1].sum(axis=1), digits)
        return p

    three = rng.integers(0, 3, 40)
    two = rng.integers(0, 2, 30)
    rare = np.where(rng.random(50) < 0.06, 1, 0)
    rare[0] = 1
    seven = rng.integers(0, 7, 60)
    gap = rng.choice([0, 2, 3], 24)
    cases = [
        classification("three classes", three, rows(40, 3, 4, three)),
        classification("two classes", two, rows(30, 2, 4, two)),
        classification("a rare class", rare, rows(50, 2, 3, rare, 0.3)),
        classification("seven classes without skill", seven, rows(60, 7, 3)),
        classification("ties", three[:24], rows(24, 3, 1, three[:24])),
        classification("a class without samples", gap, rows(24, 4, 2, gap)),
        classification("a class neither there nor predicted", [0, 2, 2, 0, 2],
                       [[0.8, 0.0, 0.2], [0.3, 0.1, 0.6], [0.6, 0.1, 0.3], [0.5, 0.0, 0.5], [0.0, 0.0, 1.0]]),
        classification("one class alone, always right", [1, 1, 1],
                       [[0.1, 0.8, 0.1], [0.2, 0.6, 0.2], [0.0, 1.0, 0.0]]),
        classification("one class alone, never right", [0, 0], [[0.2, 0.5, 0.3], [0.0, 0.9, 0.1]]),
        classification("always the same answer", [0, 1, 2, 1], [[0.25, 0.5, 0.25]] * 4),
        classification("all scores equal", [0, 1, 1, 0], [[0.5, 0.5]] * 4),
        classification("all right", [0, 1, 2], np.eye(3)),
        classification("all wrong", [0, 1, 2], np.roll(np.eye(3), 1, axis=1)),
    ]
    truth = rng.normal(size=20).round(4)
    regressions = [
        regression("noise", truth, (truth + rng.normal(scale=0.5, size=20)).round(4)),
        regression("far off", truth, truth + 1e6),
        regression("exact", truth, truth),
        regression("worse than the mean", [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]),
        regression("a constant target, met", [2.0, 2.0, 2.0], [2.0, 2.0, 2.0]),
        regression("a constant target, missed", [2.0, 2.0, 2.0], [2.0, 2.0, 2.5]),
        regression("one sample", [1.0], [2.0]),
    ]
    golden = {
        "made_by": "cargo xtask golden metrics",
        "versions": {"scikit-learn": sklearn.__version__, "numpy": np.__version__},
        "seed": SEED,
        "classification": cases,
        "regression": regressions,
    }
    path = pathlib.Path(__file__).with_name("metrics.json")
    path.write_text(json.dumps(golden, separators=(",", ":")).replace('{"name"', '\n{"name"') + "\n")


if __name__ == "__main__":
    main()
