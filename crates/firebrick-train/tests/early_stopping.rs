//! EarlyStopping stops where Keras' stops and restores whose weights Keras' restores.

use firebrick_train::{Callback, EarlyStopping, EpochRecord, Flow, Mode, Monitor, TrainBegin};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    made_by: String,
    cases: Vec<Case>,
}

/// Settings, the figures of the epochs (none for NaN), how many epochs Keras trained and whose weights it ended with.
#[derive(Deserialize)]
struct Case {
    monitor: String,
    mode: Mode,
    min_delta: f64,
    patience: usize,
    baseline: Option<f64>,
    restore_best_weights: bool,
    start_from_epoch: usize,
    figures: Vec<Option<f64>>,
    epochs: usize,
    weights: usize,
}

#[test]
fn it_stops_and_restores_where_keras_does() {
    let golden: Golden =
        serde_json::from_str(include_str!("goldens/early_stopping.json")).expect("valid JSON");
    let mut stopped_early = 0;
    let mut restored = 0;
    for (number, case) in golden.cases.iter().enumerate() {
        let monitor: Monitor = case.monitor.parse().expect("a monitor");
        let mut callback = EarlyStopping::new(monitor)
            .with_mode(case.mode)
            .with_min_delta(case.min_delta)
            .with_patience(case.patience)
            .with_restore_best_weights(case.restore_best_weights)
            .with_start_from_epoch(case.start_from_epoch);
        if let Some(baseline) = case.baseline {
            callback = callback.with_baseline(baseline);
        }
        callback.on_train_begin(&TrainBegin { epochs: case.figures.len(), batches: 1, samples: 1 });
        let mut epochs = 0;
        for figure in &case.figures {
            epochs += 1;
            let figure = figure.unwrap_or(f64::NAN);
            let record = EpochRecord {
                epoch: epochs,
                loss: 0.0,
                accuracy: 0.0,
                val_loss: Some(figure),
                val_accuracy: Some(figure),
                penalty: None,
                lr: 0.0,
                seconds: 0.0,
            };
            if callback.on_epoch_end(&record, &epochs).expect("it cannot fail") == Flow::Stop {
                break;
            }
        }
        let weights = callback.on_train_end(epochs);
        assert_eq!(
            (epochs, weights),
            (case.epochs, case.weights),
            "case {number}; if Keras changed, `{}` makes the golden anew",
            golden.made_by
        );
        stopped_early += usize::from(epochs < case.figures.len());
        restored += usize::from(weights < epochs);
    }
    assert!(stopped_early > 10 && restored > 5, "the golden tests too little: {stopped_early}, {restored}");
}
