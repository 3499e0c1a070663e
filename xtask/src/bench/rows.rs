//! What is compared with what: the rows of the table of ratios.

use serde_json::{Value, json};

use super::worker::Script;

/// A line of the table.
pub struct Row {
    /// The name by which `--row` asks for it.
    pub name: &'static str,
    /// What is done.
    pub work: &'static str,
    /// How both sides do it.
    pub measure: Measure,
    /// What the ratio of ours to the fastest peer's is to be at most.
    pub target: f64,
}

/// How a row is measured.
pub enum Measure {
    /// `firebrick bench` and the peers' workers, alternately.
    Batches {
        /// What comes after `firebrick bench`.
        ours: &'static [&'static str],
        /// Who else does it.
        peers: &'static [Script],
        /// The request to each of them.
        request: fn(photo: &str) -> Value,
        /// Images (or sequences) of a batch.
        batch: usize,
        /// Batches that are timed in a round.
        runs: usize,
    },
    /// `firebrick train` by the article's recipe, and the same program in Keras.
    Article(Figure),
}

/// Which figure of the article's program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Seconds of the second epoch: the first one also compiles, allocates and fills caches.
    Epoch,
    /// The peak of the resident memory, MiB.
    Memory,
}

const ALL_RUNTIMES: &[Script] = &[Script::OnnxRuntime, Script::OpenVino, Script::PyTorch];

/// For networks beside the one that the project is named for: what people run them with.
const USUAL_RUNTIMES: &[Script] = &[Script::OnnxRuntime, Script::PyTorch];

/// A row in which a network of images infers or trains.
macro_rules! images {
    ($name:literal, $mode:literal, $work:literal, $model:literal, batch $batch:literal, runs $runs:literal,
     $peers:expr, at most $target:literal) => {
        Row {
            name: $name,
            work: $work,
            measure: Measure::Batches {
                ours: &["--model", $model, "--mode", $mode, "--batch-size", stringify!($batch)],
                peers: $peers,
                request: |_| json!({ "work": $mode, "network": $model, "batch": $batch }),
                batch: $batch,
                runs: $runs,
            },
            target: $target,
        }
    };
}

/// All rows, in the order in which they are printed.
pub const ROWS: [Row; 18] = [
    images!("infer-32", "infer", "inference, batch 32", "mobilenet_v2", batch 32, runs 5, ALL_RUNTIMES, at most 0.80),
    images!("infer-1", "infer", "inference, batch 1", "mobilenet_v2", batch 1, runs 50, ALL_RUNTIMES, at most 0.80),
    images!(
        "train", "train", "full training step (forward, backward, Adam), batch 32", "mobilenet_v2",
        batch 32, runs 2, &[Script::PyTorch], at most 0.45
    ),
    Row {
        name: "frozen",
        work: "frozen base + head training step, batch 32",
        measure: Measure::Batches {
            ours: &["--mode", "frozen", "--batch-size", "32"],
            peers: &[Script::Keras],
            request: |_| json!({ "work": "frozen", "batch": 32 }),
            batch: 32,
            runs: 5,
        },
        target: 0.35,
    },
    Row {
        name: "pipeline",
        work: "input pipeline, one thread: decode 500x320 JPEG, Keras augmentation, to 224x224 f32",
        measure: Measure::Batches {
            ours: &["--mode", "pipeline", "--batch-size", "32"],
            peers: &[Script::Keras],
            request: |photo| json!({ "work": "pipeline", "batch": 32, "photo": photo }),
            batch: 32,
            runs: 5,
        },
        target: 0.30,
    },
    Row {
        name: "article-epoch",
        work: "the article's epoch, 2,000 + 1,000 images, everything on",
        measure: Measure::Article(Figure::Epoch),
        target: 0.30,
    },
    Row {
        name: "article-memory",
        work: "peak memory of the article's program",
        measure: Measure::Article(Figure::Memory),
        target: 0.25,
    },
    images!("resnet50-infer-8", "infer", "ResNet-50, inference, batch 8", "resnet50", batch 8, runs 3, USUAL_RUNTIMES, at most 1.00),
    images!("resnet50-infer-1", "infer", "ResNet-50, inference, batch 1", "resnet50", batch 1, runs 15, USUAL_RUNTIMES, at most 1.00),
    images!("resnet50-train", "train", "ResNet-50, training step, batch 8", "resnet50", batch 8, runs 2, &[Script::PyTorch], at most 0.70),
    images!(
        "lite0-infer-32", "infer", "EfficientNet-Lite0, inference, batch 32", "efficientnet_lite0",
        batch 32, runs 5, USUAL_RUNTIMES, at most 1.00
    ),
    images!(
        "lite0-infer-1", "infer", "EfficientNet-Lite0, inference, batch 1", "efficientnet_lite0",
        batch 1, runs 50, USUAL_RUNTIMES, at most 1.00
    ),
    images!(
        "lite0-train", "train", "EfficientNet-Lite0, training step, batch 32", "efficientnet_lite0",
        batch 32, runs 2, &[Script::PyTorch], at most 0.70
    ),
    images!("vit-infer-8", "infer", "ViT-S/16, inference, batch 8", "vit_small_patch16_224", batch 8, runs 3, USUAL_RUNTIMES, at most 1.00),
    images!("vit-infer-1", "infer", "ViT-S/16, inference, batch 1", "vit_small_patch16_224", batch 1, runs 15, USUAL_RUNTIMES, at most 1.00),
    images!("vit-train", "train", "ViT-S/16, training step, batch 8", "vit_small_patch16_224", batch 8, runs 2, &[Script::PyTorch], at most 0.70),
    Row {
        name: "encoder",
        work: "BERT's encoder of 22.7 M parameters, inference, 128 tokens, batch 8",
        measure: Measure::Batches {
            ours: &["--model", "bert_encoder", "--mode", "infer", "--batch-size", "8", "--tokens", "128"],
            peers: USUAL_RUNTIMES,
            request: |_| json!({ "work": "encode", "batch": 8, "length": 128 }),
            batch: 8,
            runs: 5,
        },
        target: 1.00,
    },
    Row {
        name: "encoder-train",
        work: "BERT's encoder of 22.7 M parameters, training step, 128 tokens, batch 8",
        measure: Measure::Batches {
            ours: &["--model", "bert_encoder", "--mode", "train", "--batch-size", "8", "--tokens", "128"],
            peers: &[Script::PyTorch],
            request: |_| json!({ "work": "train_encoder", "batch": 8, "length": 128 }),
            batch: 8,
            runs: 3,
        },
        target: 0.70,
    },
];

/// The rows' names.
pub const NAMES: [&str; ROWS.len()] = {
    let mut names = [""; ROWS.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = ROWS[index].name;
        index += 1;
    }
    names
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_targets_are_ratios() {
        for (index, row) in ROWS.iter().enumerate() {
            assert!(!NAMES[..index].contains(&row.name), "{}", row.name);
            assert!((0.05..=1.0).contains(&row.target), "{}", row.name);
        }
    }

    #[test]
    fn both_sides_of_a_row_work_on_the_same_batch() {
        for row in ROWS {
            let Measure::Batches { ours, peers, request, batch, .. } = row.measure else { continue };
            assert!(!peers.is_empty(), "{}", row.name);
            assert_eq!(request("photo.jpg")["batch"], batch, "{}", row.name);
            let flag = ours.iter().position(|word| *word == "--batch-size").unwrap();
            assert_eq!(ours[flag + 1], batch.to_string(), "{}", row.name);
        }
    }
}
