//! The same seed gives the same bytes, whatever the number of threads.

mod process;

use process::{Sandbox, finish, train_arguments};

/// What a run computed: its history without the times, and its model.
#[derive(PartialEq)]
struct Computed {
    history: String,
    model: Vec<u8>,
}

/// Trains with `settings`, reading images in `workers` threads and computing in `threads`.
fn train(sandbox: &Sandbox, settings: &str, workers: usize, threads: usize) -> Computed {
    let out = sandbox.path("runs").read_dir().map_or(0, Iterator::count);
    let arguments = format!("--data data --hidden 8 {settings} --workers {workers} --out runs/{out}");
    let mut command = sandbox.command(&train_arguments(&arguments));
    finish(command.env("RAYON_NUM_THREADS", threads.to_string())).succeeded();
    let history = sandbox.text(&format!("runs/{out}/history.csv"));
    let without_seconds = |row: &str| row.rsplit_once(',').expect("columns").0.to_owned();
    Computed {
        history: history.lines().map(without_seconds).collect::<Vec<_>>().join("\n"),
        model: sandbox.read(&format!("runs/{out}/model.safetensors")),
    }
}

/// Asserts that threads change nothing and the seed does.
fn assert_deterministic(settings: &str) {
    let sandbox = Sandbox::with_data();
    let first = train(&sandbox, &format!("{settings} --seed 3"), 0, 1);
    for (workers, threads) in [(1, 2), (3, 2)] {
        let again = train(&sandbox, &format!("{settings} --seed 3"), workers, threads);
        assert_eq!(again.history, first.history, "{workers} workers, {threads} threads");
        // Not `assert_eq`: a megabyte of numbers tells nobody anything.
        assert!(again.model == first.model, "another model with {workers} workers, {threads} threads");
    }
    let other = train(&sandbox, &format!("{settings} --seed 4"), 1, 2);
    assert!(other.history != first.history && other.model != first.model, "another seed changes nothing");
}

#[test]
fn a_head_on_features_that_are_kept_is_the_same_for_any_number_of_threads() {
    assert_deterministic("--epochs 2 --batch-size 5 --dropout 0.2");
}

#[test]
fn a_head_on_augmented_images_is_the_same_for_any_number_of_threads() {
    assert_deterministic("--epochs 2 --batch-size 5 --augment keras");
}

#[test]
fn a_head_on_images_of_a_pipeline_is_the_same_for_any_number_of_threads() {
    assert_deterministic("--epochs 2 --batch-size 5 --augment augmix");
}

#[test]
fn a_whole_model_is_the_same_for_any_number_of_threads() {
    assert_deterministic(
        "--epochs 1 --batch-size 8 --freeze none --augment keras --mix mixup=0.4,cutmix=1 --input-size 16",
    );
}
