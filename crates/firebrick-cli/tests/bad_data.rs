//! Data sets that cannot be used: the message says which file or folder, why, and what to do.

mod process;

use std::fs;

use image::ImageFormat;
use process::{Sandbox, images};

/// Asserts that training on `data` is refused with these words and leaves nothing behind.
#[track_caller]
fn assert_refused(sandbox: &Sandbox, arguments: &str, words: &[&str]) {
    sandbox.train(&format!("--epochs 1 --out run {arguments}")).refused(words);
    assert!(!sandbox.path("run").exists(), "{:?} is left", sandbox.listing("run"));
}

#[test]
fn an_empty_folder_is_told_what_belongs_into_it() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("data")).expect("a folder");
    assert_refused(
        &sandbox,
        "--data data",
        &["data: ", "no class folders", "Make one folder of images for each class"],
    );
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let sandbox = Sandbox::new();
    let here = fs::canonicalize(sandbox.path(".")).expect("the folder");
    let here = here.to_str().expect("UTF-8");
    assert_refused(&sandbox, "--data dta", &["dta: does not exist", "Check the spelling", here]);
}

#[test]
fn a_file_is_no_folder() {
    let sandbox = Sandbox::new();
    sandbox.write("data.zip", "PK");
    assert_refused(&sandbox, "--data data.zip", &["data.zip: is a file, not a folder", "Give the folder"]);
}

#[test]
fn one_class_is_too_few() {
    let sandbox = Sandbox::with_data();
    fs::remove_dir_all(sandbox.path("data/train/red")).expect("removed");
    let words = ["data/train: holds only one class, \"blue\"", "at least two"];
    assert_refused(&sandbox, "--data data/train", &words);
}

#[test]
fn a_class_folder_without_images_is_named() {
    let sandbox = Sandbox::with_data();
    sandbox.write("data/train/green/notes.txt", "none yet");
    sandbox.write("data/validation/green/notes.txt", "none yet");
    assert_refused(
        &sandbox,
        "--data data",
        &["green", "holds no images", "notes.txt", "Add images, or remove the folder"],
    );
}

#[test]
fn training_and_validation_have_the_same_classes() {
    let sandbox = Sandbox::with_data();
    images::draw_classes(&sandbox.path("more"), 1);
    fs::rename(sandbox.path("more/red"), sandbox.path("data/train/green")).expect("renamed");
    assert_refused(
        &sandbox,
        "--data data",
        &["different classes", "green", "Give both the same class folders"],
    );
}

/// Files that are no usable images, with what is said of them.
fn bad_images() -> Vec<(&'static str, Vec<u8>, Vec<&'static str>)> {
    vec![
        ("text.jpg", b"hello world".to_vec(), vec!["not an image", "hello world", "JPEG, PNG"]),
        (
            "cut.jpg",
            images::cut(images::encoded(ImageFormat::Jpeg)),
            vec!["JPEG", "cut short", "Copy it again"],
        ),
        (
            "cut.png",
            images::cut(images::encoded(ImageFormat::Png)),
            vec!["PNG", "cut short", "Copy it again"],
        ),
        ("empty.png", Vec::new(), vec!["empty (0 bytes)", "or remove it"]),
        ("huge.png", images::huge_png(60_000), vec!["60000 x 60000 pixels", "the limit is", "Scale it down"]),
    ]
}

#[test]
fn an_image_that_cannot_be_read_ends_the_run_before_anything_is_left() {
    for (name, content, words) in bad_images() {
        for part in ["train", "validation"] {
            let sandbox = Sandbox::with_data();
            let file = format!("data/{part}/red/{name}");
            sandbox.write(&file, content.clone());
            let words = [&[file.as_str()][..], &words].concat();
            assert_refused(&sandbox, "--data data", &words);
        }
    }
}

#[test]
fn an_image_that_cannot_be_read_ends_every_kind_of_training() {
    let (name, content, words) = bad_images().swap_remove(1);
    let sandbox = Sandbox::with_data();
    sandbox.write(&format!("data/train/red/{name}"), content);
    sandbox.write("featurewise.toml", "featurewise_center = true");
    for settings in ["--freeze none", "--augment keras", "--augment featurewise.toml"] {
        assert_refused(&sandbox, &format!("--data data {settings}"), &words);
    }
}

#[test]
fn images_that_cannot_be_read_are_skipped_and_told_where_that_is_asked_for() {
    let sandbox = Sandbox::with_data();
    for (name, content, _) in bad_images() {
        sandbox.write(&format!("data/train/red/{name}"), content.clone());
    }
    sandbox.write("data/validation/blue/empty.png", "");
    for (number, settings) in ["", "--freeze none --input-size 16", "--augment keras"].into_iter().enumerate()
    {
        let trained = sandbox
            .train(&format!("--data data --on-bad-image skip --epochs 2 --out runs/{number} {settings}"))
            .succeeded();
        for (name, _, words) in bad_images() {
            assert_eq!(trained.stderr.matches(&format!("train/red/{name}")).count(), 1, "{}", trained.stderr);
            assert!(trained.stderr.contains(words[0]), "{}", trained.stderr);
        }
        assert!(trained.stderr.contains("validation/blue/empty.png"), "{}", trained.stderr);
    }

    let model = "--model runs/0/model.safetensors --device ndarray --json";
    sandbox.run(&format!("eval {model} --data data")).refused(&["validation/blue/empty.png", "0 bytes"]);
    let skipping = sandbox.run(&format!("eval {model} --data data --on-bad-image skip")).succeeded();
    assert_eq!(skipping.json()["samples"], 8);
    sandbox.run(&format!("predict {model} data/train/red")).refused(&["train/red/", "remove it"]);
    let skipping = sandbox.run(&format!("predict {model} data/train/red --on-bad-image skip")).succeeded();
    assert_eq!(skipping.json().as_array().expect("an array").len(), 8);
}

#[test]
fn a_data_set_of_mostly_bad_images_is_refused_even_where_they_are_skipped() {
    let sandbox = Sandbox::with_data();
    for class in ["blue", "red"] {
        for number in 0..6 {
            sandbox.write(&format!("data/train/{class}/{number}.png"), "");
        }
    }
    assert_refused(&sandbox, "--data data --on-bad-image skip", &["more than half", "blue/0.png"]);
}

#[test]
fn predict_names_a_path_without_images() {
    let sandbox = Sandbox::new();
    sandbox.write("folder/notes.txt", "no image");
    let predict = "predict --model mobilenet_v2_0.35 --weights none --device ndarray";
    sandbox.run(&format!("{predict} folder")).refused(&["folder: holds no images", ".jpg", "notes.txt"]);
    sandbox.run(&format!("{predict} nowhere.png")).refused(&["nowhere.png: does not exist"]);
}

#[test]
fn eval_names_a_class_that_the_model_does_not_know() {
    let sandbox = Sandbox::with_data();
    sandbox.train("--data data --epochs 1 --out run").succeeded();
    fs::rename(sandbox.path("data/validation/red"), sandbox.path("data/validation/green")).expect("renamed");
    sandbox.run("eval --model run/model.safetensors --data data --device ndarray").refused(&[
        "green",
        "the model has no class",
        "\"blue\", \"red\"",
        "Rename the folder",
    ]);
}
