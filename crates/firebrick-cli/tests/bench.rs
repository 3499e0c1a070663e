//! `firebrick bench`: figures that can be, in every mode, and what is refused.

mod process;

use process::Sandbox;
use serde_json::Value;

/// The smallest model and images, so that a step takes no time without optimisation either.
const SMALL: &str =
    "bench --model mobilenet_v2_0.35 --device ndarray --batch-size 2 --image-size 32 --runs 2";

#[track_caller]
fn number(report: &Value, name: &str) -> f64 {
    report[name].as_f64().unwrap_or_else(|| panic!("{name} in {report}"))
}

#[test]
fn every_mode_prints_one_object_with_its_figures() {
    let sandbox = Sandbox::new();
    for (mode, device, output) in [
        ("infer", "ndarray", &[2, 1000][..]),
        ("train", "ndarray", &[2, 1000]),
        ("frozen", "ndarray", &[2, 10]),
        ("pipeline", "cpu", &[32, 32, 3]),
    ] {
        let finished = sandbox.run(&format!("{SMALL} --mode {mode} --json")).succeeded();
        assert_eq!(finished.stdout.lines().count(), 1, "{}", finished.stdout);
        let report = finished.json();
        assert_eq!(report["model"], "mobilenet_v2_0.35");
        assert_eq!((&report["mode"], &report["device"]), (&mode.into(), &device.into()));
        assert_eq!((&report["batch_size"], &report["image_size"]), (&2.into(), &32.into()));
        assert_eq!(report["shapes"]["output"], serde_json::json!(output), "{mode}");
        let runs: Vec<f64> = serde_json::from_value(report["ms_per_image_runs"].clone()).expect("numbers");
        assert_eq!(runs.len(), 2, "{mode}");
        let median = number(&report, "ms_per_image");
        assert!(median > 0.0 && (median - (runs[0] + runs[1]) / 2.0).abs() < 1e-9, "{mode}: {report}");
        assert!(number(&report, "peak_gflops") > 0.0);
        if mode == "pipeline" {
            assert!(report["share_of_peak"].is_null() && report["gflop_per_image"].is_null());
        } else {
            let share = number(&report, "gflop_per_image") / median / number(&report, "peak_gflops") * 1e3;
            assert!((number(&report, "share_of_peak") / share - 1.0).abs() < 1e-9, "{mode}: {report}");
            // A shared machine's peak may be measured while a neighbour runs, so a little above one can be.
            assert!((0.0..1.5).contains(&share), "{mode}: {report}");
        }
        if cfg!(target_os = "linux") {
            assert!((5.0..10_000.0).contains(&number(&report, "peak_rss_mb")), "{mode}: {report}");
        }
    }
}

#[test]
fn the_encoder_is_measured_by_sequences() {
    let sandbox = Sandbox::new();
    let encoder = "bench --model bert_encoder --device ndarray --batch-size 2 --tokens 5 --runs 2";
    let report = sandbox.run(&format!("{encoder} --json")).succeeded().json();
    assert_eq!(report["shapes"], serde_json::json!({ "input": [2, 5], "output": [2, 5, 384] }));
    assert_eq!((&report["tokens"], &report["image_size"]), (&5.into(), &Value::Null));
    // Six layers of 4 x 384 x 384 and 2 x 384 x 1536 weights, and attention's two products of 5 x 384 a token.
    let multiply_adds = 5 * 6 * (4 * 384 * 384 + 2 * 384 * 1536 + 2 * 5 * 384);
    let gflop = 2.0 * f64::from(multiply_adds) / 1e9;
    assert!((number(&report, "gflop_per_image") / gflop - 1.0).abs() < 1e-9, "{report}");
    let text = sandbox.run(encoder).succeeded().stdout;
    assert!(text.contains("ms a sequence"), "{text}");
}

#[test]
fn operations_are_those_of_the_summary() {
    let sandbox = Sandbox::new();
    let infer = sandbox.run(&format!("{SMALL} --mode infer --json")).succeeded().json();
    let train = sandbox.run(&format!("{SMALL} --mode train --json")).succeeded().json();
    let ratio = number(&train, "gflop_per_image") / number(&infer, "gflop_per_image");
    assert!((ratio - 3.0).abs() < 1e-9, "{ratio}");
}

#[test]
fn text_names_the_figures_and_goes_to_standard_output() {
    let finished = Sandbox::new().run(SMALL).succeeded();
    for words in
        ["mobilenet_v2_0.35, infer, ndarray, batch 2", "2x3x32x32", "ms an image", "share of peak", "GFLOP/s"]
    {
        assert!(finished.stdout.contains(words), "{words} is not in:\n{}", finished.stdout);
    }
    assert_eq!(finished.stderr, "");
}

#[test]
fn a_sweep_has_every_batch_and_every_size() {
    let sandbox = Sandbox::new();
    // The pipeline needs no backbone, so that the large points are quick.
    let sweep = "bench --mode pipeline --runs 1 --batch-size 1 --image-size 96 --sweep";
    let report = sandbox.run(&format!("{sweep} --json")).succeeded().json();
    let points: Vec<(u64, u64)> = report["points"]
        .as_array()
        .expect("an array")
        .iter()
        .map(|point| (number(point, "batch_size") as u64, number(point, "image_size") as u64))
        .collect();
    assert_eq!(points, [(1, 96), (8, 96), (32, 96), (128, 96), (1, 160), (1, 224), (1, 320)]);

    let finished = sandbox.run(sweep).succeeded();
    assert_eq!(finished.stdout.lines().count(), 2 + points.len(), "{}", finished.stdout);
    assert!(finished.stderr.contains("7/7"), "{}", finished.stderr);
}

#[test]
fn the_photo_is_the_same_every_time() {
    let sandbox = Sandbox::new();
    for name in ["a.jpg", "b.jpg"] {
        sandbox.run(&format!("{SMALL} --mode pipeline --save-photo {name}")).succeeded();
    }
    assert_eq!(sandbox.read("a.jpg"), sandbox.read("b.jpg"));
    let photo = image::load_from_memory(&sandbox.read("a.jpg")).expect("a JPEG");
    assert_eq!((photo.width(), photo.height()), (500, 320));
    sandbox
        .run(&format!("{SMALL} --mode pipeline --save-photo nowhere/a.jpg"))
        .refused(&["nowhere/a.jpg: cannot write"]);
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let sandbox = Sandbox::new();
    for (arguments, words) in [
        ("--model mobilenetv2", &["`mobilenetv2`", "did you mean `mobilenet_v2`?"][..]),
        ("--model gpt2", &["gpt2 is a model of sequences", "bert_encoder"]),
        ("--mode learn", &["'learn'", "--mode", "infer, train, frozen, pipeline"]),
        ("--batch-size 0", &["--batch-size", "0", "1..=65536"]),
        ("--image-size 5000", &["--image-size", "5000", "1..=4096"]),
        ("--runs 0", &["--runs", "0"]),
        ("--device gpu", &["gpu", "wgpu"]),
        ("--batch-size 65536 --image-size 4096", &["65536 images of 4096x4096", "GiB", "--batch-size"]),
        ("--batch-size 10000 --image-size 200 --sweep", &["10000 images of 320x320", "GiB"]),
        ("--model bert_encoder --mode frozen", &["mode is frozen", "bert_encoder can only infer or train"]),
        ("--model bert_encoder --sweep", &["--sweep", "--tokens"]),
        ("--model bert_encoder --tokens 513", &["--tokens", "513", "1..=512"]),
        ("--sweep --save-photo a.jpg", &["--sweep", "--save-photo"]),
    ] {
        sandbox.run(&format!("bench {arguments}")).refused(words);
    }
    let mut command = sandbox.command("bench --device ndarray");
    process::finish(command.env("FIREBRICK_SIMD", "sse9")).refused(&["FIREBRICK_SIMD=sse9", "avx2"]);
}
