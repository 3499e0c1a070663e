//! The main job as a user does it: train, eval, predict, summary, models.

mod process;

use process::{Finished, Sandbox, history, images};
use safetensors::SafeTensors;
use serde_json::Value;

/// The names of the figures that a line has, each followed by its value.
fn figures(line: &str) -> Vec<(&str, f64)> {
    let words: Vec<_> = line.split_whitespace().collect();
    words.windows(2).filter_map(|pair| Some((pair[0], pair[1].parse().ok()?))).collect()
}

/// The number after a label at the start of a line.
fn labelled(text: &str, label: &str) -> u64 {
    let line =
        text.lines().find(|line| line.starts_with(label)).unwrap_or_else(|| panic!("no {label} in:\n{text}"));
    line[label.len()..]
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("{line}"))
}

/// Asserts a run folder with all its files and a history of `epochs`.
fn assert_run(sandbox: &Sandbox, run: &str, finished: &Finished, epochs: usize) {
    assert_eq!(sandbox.listing(run), ["config.toml", "curves.svg", "history.csv", "model.safetensors"]);
    assert!(sandbox.text(&format!("{run}/curves.svg")).starts_with("<svg"));
    let rows = history(&sandbox.text(&format!("{run}/history.csv")));
    assert_eq!(
        rows.iter().map(|row| row[0]).collect::<Vec<_>>(),
        (1..=epochs).map(|epoch| epoch as f64).collect::<Vec<_>>()
    );

    let accuracy = finished.test_accuracy();
    assert_eq!(accuracy.len(), "0.xxxx".len(), "{accuracy}");
    assert!((0.0..=1.0).contains(&accuracy.parse::<f64>().expect("a number")));

    let lines: Vec<_> = finished.stderr.lines().filter(|line| line.starts_with("Epoch ")).collect();
    assert_eq!(lines.len(), epochs, "{}", finished.stderr);
    for (line, row) in lines.iter().zip(&rows) {
        let figures = figures(line);
        for (name, column) in [("loss", 1), ("accuracy", 2), ("val_loss", 3), ("val_accuracy", 4)] {
            let (_, shown) =
                figures.iter().find(|figure| figure.0 == name).unwrap_or_else(|| panic!("no {name}: {line}"));
            assert!(
                (shown - row[column]).abs() <= 0.5001e-4 * row[column].abs().max(1.0),
                "{name}: {line} but {row:?}"
            );
        }
    }
}

/// Published weights, which tell colours apart after a few epochs; frozen random ones give next to no features.
#[cfg(feature = "embedded-weights")]
const LEARNS: &str =
    "--data data --model mobilenet_v2 --weights imagenet --epochs 6 --lr 0.01 --hidden 16 --batch-size 4";

#[cfg(feature = "embedded-weights")]
#[test]
fn a_frozen_backbone_learns_the_colours_and_leaves_the_four_files_of_a_run() {
    let sandbox = Sandbox::with_data();
    let finished = sandbox.train(&format!("{LEARNS} --out runs/a")).succeeded();
    assert_run(&sandbox, "runs/a", &finished, 6);
    assert_eq!(finished.test_accuracy(), "1.0000");
    assert!(finished.stderr.contains("computed once"), "{}", finished.stderr);
}

#[test]
fn the_whole_model_is_trained_where_nothing_is_frozen() {
    let sandbox = Sandbox::with_data();
    let finished = sandbox
        .train("--data data --freeze none --input-size 16 --epochs 2 --batch-size 8 --out runs/a")
        .succeeded();
    assert_run(&sandbox, "runs/a", &finished, 2);
}

#[test]
fn augmented_images_pass_a_frozen_backbone_in_every_epoch() {
    let sandbox = Sandbox::with_data();
    let finished = sandbox.train("--data data --augment keras --epochs 2 --out runs/a").succeeded();
    assert_run(&sandbox, "runs/a", &finished, 2);
    assert!(!finished.stderr.contains("computed once"), "{}", finished.stderr);
}

#[test]
fn a_single_folder_is_split() {
    let sandbox = Sandbox::new();
    images::draw_classes(&sandbox.path("data"), 10);
    let finished = sandbox.train("--data data --val-split 0.3 --epochs 1 --out runs/a").succeeded();
    assert_run(&sandbox, "runs/a", &finished, 1);
    assert!(
        finished.stderr.contains("2 classes, 14 training and 6 validation images"),
        "{}",
        finished.stderr
    );
}

#[test]
fn runs_without_a_name_are_numbered() {
    let sandbox = Sandbox::with_data();
    sandbox.train("--data data --epochs 1").succeeded();
    sandbox.train("--data data --epochs 1").succeeded();
    assert_eq!(sandbox.listing("runs"), ["mobilenet_v2_0.35-1", "mobilenet_v2_0.35-2"]);
}

#[test]
fn the_written_configuration_makes_the_same_model_again_and_flags_win_over_it() {
    let sandbox = Sandbox::with_data();
    sandbox
        .train("--data data --epochs 2 --hidden 8,4 --seed 5 --optimizer rmsprop --out runs/a")
        .succeeded();
    let again = sandbox.run("train --config runs/a/config.toml --out runs/b").succeeded();
    assert_run(&sandbox, "runs/b", &again, 2);
    assert!(sandbox.read("runs/a/model.safetensors") == sandbox.read("runs/b/model.safetensors"));

    let shorter =
        sandbox.run("train --config runs/a/config.toml --epochs 1 --seed 6 --out runs/c").succeeded();
    assert_run(&sandbox, "runs/c", &shorter, 1);
    let config: toml::Table = sandbox.text("runs/c/config.toml").parse().expect("TOML");
    assert_eq!((config["epochs"].as_integer(), config["seed"].as_integer()), (Some(1), Some(6)));
    assert_eq!(config["optimizer"].as_str(), Some("rmsprop"));
    assert!(sandbox.read("runs/a/model.safetensors") != sandbox.read("runs/c/model.safetensors"));
}

/// The numbers of a tensor of a run's model.
fn tensor(sandbox: &Sandbox, run: &str, name: &str) -> Vec<f64> {
    let bytes = sandbox.read(&format!("{run}/model.safetensors"));
    let tensors = SafeTensors::deserialize(&bytes).expect("whole");
    let data = tensors.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}")).data().to_vec();
    let (floats, _) = data.as_chunks::<4>();
    floats.iter().map(|float| f64::from(f32::from_le_bytes(*float))).collect()
}

#[test]
fn a_stage_learns_at_its_own_rate_and_the_configuration_says_so() {
    let sandbox = Sandbox::with_data();
    // One step of gradient descent; one so short that it moves nothing shows where it began.
    let train = |run: &str, lr: f64, settings: &str| {
        let step = "--data data --freeze none --hidden none --optimizer sgd --epochs 1 --batch-size 16 --input-size 64";
        sandbox.train(&format!("{step} --lr {lr} {settings} --out {run}")).succeeded();
    };
    train("start", 1e-30, "");
    train("plain", 1.0, "");
    train("rated", 1.0, "--stage-rates stage1=0.25,stage7=2,head=0.5");
    for (name, factor) in [
        ("features.0.0.weight", 0.25),
        ("features.2.conv.0.0.weight", 1.0),
        ("features.17.conv.0.0.weight", 2.0),
        ("features.18.0.weight", 0.5),
        ("classifier.1.weight", 0.5),
    ] {
        let [start, plain, rated] = ["start", "plain", "rated"].map(|run| tensor(&sandbox, run, name));
        let mut furthest = 0.0f64;
        for ((start, plain), rated) in start.iter().zip(plain).zip(rated) {
            let (plain, rated) = (plain - start, rated - start);
            assert!((rated - factor * plain).abs() < 1e-6, "{name}: {rated} is not {factor} times {plain}");
            furthest = furthest.max(plain.abs());
        }
        assert!(furthest > 1e-4, "{name} moves by {furthest} at most, which tells nothing");
    }

    let config: toml::Table = sandbox.text("rated/config.toml").parse().expect("TOML");
    assert_eq!(config["stage-rates"].as_str(), Some("stage1=0.25,stage7=2,head=0.5"));
    sandbox.run("train --config rated/config.toml --out again").succeeded();
    assert!(sandbox.read("rated/model.safetensors") == sandbox.read("again/model.safetensors"));
}

#[test]
fn a_pipeline_of_a_file_is_kept_in_the_configuration() {
    let sandbox = Sandbox::with_data();
    let steps = "[[step]]\nname = 'random_resized_crop'\nscale = [0.5, 1.0]\n[[step]]\nname = 'color_jitter'\nbrightness = 0.2\nhue = 0.1\n";
    sandbox.write("steps.toml", steps);
    let trained = sandbox.train("--data data --epochs 2 --augment steps.toml --out runs/a").succeeded();
    assert_run(&sandbox, "runs/a", &trained, 2);
    let config: toml::Table = sandbox.text("runs/a/config.toml").parse().expect("TOML");
    let kept = config["augment"]["step"].as_array().expect("steps");
    assert_eq!(kept[1]["name"].as_str(), Some("color_jitter"), "{kept:?}");
    std::fs::remove_file(sandbox.path("steps.toml")).expect("removed");
    sandbox.run("train --config runs/a/config.toml --out runs/b").succeeded();
    assert!(sandbox.read("runs/a/model.safetensors") == sandbox.read("runs/b/model.safetensors"));

    // The generator's settings as well, and the policies by their names.
    sandbox.write("keras.toml", "rotation_range = 20.0\n");
    sandbox.train("--data data --epochs 1 --augment keras.toml --out runs/c").succeeded();
    let config: toml::Table = sandbox.text("runs/c/config.toml").parse().expect("TOML");
    assert_eq!(config["augment"]["rotation_range"].as_float(), Some(20.0));
    for policy in ["randaugment", "trivialaugment", "autoaugment", "augmix", "torchvision"] {
        sandbox.train(&format!("--data data --epochs 1 --augment {policy} --out runs/{policy}")).succeeded();
    }

    // Views of each image, plain and flipped, and by a policy: the figures are others, the samples the same.
    let evaluate = |flags: &str| {
        let command =
            format!("eval --model runs/a/model.safetensors --data data --device ndarray --json {flags}");
        sandbox.run(&command).succeeded().json()
    };
    let (plain, flipped) = (evaluate(""), evaluate("--views 1"));
    assert_eq!(plain["samples"], flipped["samples"]);
    assert_ne!(plain["loss"], flipped["loss"]);
    assert_eq!(
        evaluate("--views 2 --augment randaugment"),
        evaluate("--views 2 --augment randaugment --workers 0")
    );
}

#[test]
fn a_contact_sheet_shows_an_augmentation() {
    let sandbox = Sandbox::with_data();
    let preview =
        "augment --data data --augment randaugment --input-size 20 --count 3 --variants 4 --preview";
    sandbox.run(&format!("{preview} a.png")).succeeded();
    let sheet = image::open(sandbox.path("a.png")).expect("a picture");
    assert_eq!((sheet.width(), sheet.height()), (5 * 24 + 4, 3 * 24 + 4));
    sandbox.run(&format!("{preview} b.png")).succeeded();
    assert!(sandbox.read("a.png") == sandbox.read("b.png"));
    sandbox.run(&format!("{preview} c.png --seed 1")).succeeded();
    assert!(sandbox.read("a.png") != sandbox.read("c.png"));
    sandbox.run(&format!("{preview} no/such/d.png")).refused(&["d.png", "cannot write"]);
    sandbox
        .run("augment --data data --augment randaugmant --preview e.png")
        .refused(&["`randaugmant`", "randaugment"]);
}

#[test]
fn mixed_images_are_computed_anew_though_the_backbone_is_frozen() {
    let sandbox = Sandbox::with_data();
    let mixed = sandbox
        .train("--data data --epochs 2 --mix cutmix=1 --loss binary_cross_entropy --out runs/a")
        .succeeded();
    assert_run(&sandbox, "runs/a", &mixed, 2);
    assert!(!mixed.stderr.contains("nothing is random"), "{}", mixed.stderr);
    let plain = sandbox.train("--data data --epochs 2 --loss binary_cross_entropy --out runs/b").succeeded();
    assert!(plain.stderr.contains("nothing is random"), "{}", plain.stderr);
    assert!(sandbox.read("runs/a/model.safetensors") != sandbox.read("runs/b/model.safetensors"));

    let found = sandbox
        .run(&process::train_arguments("--data data --out runs/lr").replacen("train", "lr-find", 1))
        .succeeded();
    assert!(found.stdout.starts_with("Suggested learning rate: "), "{}", found.stdout);
    assert_eq!(sandbox.listing("runs/lr"), ["config.toml", "lr.csv", "lr.svg"]);
}

#[cfg(feature = "embedded-weights")]
#[test]
fn eval_agrees_with_the_test_accuracy_of_the_run() {
    let sandbox = Sandbox::with_data();
    // One of the four blue images is red: no model that goes by colour is right about it.
    images::picture(images::CLASSES[1].1, 0).save(sandbox.path("data/validation/blue/0.png")).expect("a PNG");
    let trained = sandbox.train(&format!("{LEARNS} --out runs/a")).succeeded();
    assert_eq!(trained.test_accuracy(), "0.8750");
    let evaluate = "eval --model runs/a/model.safetensors --device ndarray";

    let report = sandbox.run(&format!("{evaluate} --data data --json")).succeeded().json();
    assert_eq!((&report["accuracy"], &report["samples"]), (&0.875.into(), &8.into()));
    let rows = history(&sandbox.text("runs/a/history.csv"));
    let best = rows.iter().map(|row| row[3]).fold(f64::INFINITY, f64::min);
    assert!((report["loss"].as_f64().expect("a number") - best).abs() < 1e-5, "{report} but {rows:?}");
    let classes = report["classes"].as_array().expect("an array");
    for (class, (name, precision, recall)) in classes.iter().zip([("blue", 1.0, 0.75), ("red", 0.8, 1.0)]) {
        assert_eq!((&class["class"], &class["support"]), (&name.into(), &4.into()));
        assert_eq!((&class["precision"], &class["recall"]), (&precision.into(), &recall.into()));
        let f1 = 2.0 * precision * recall / (precision + recall);
        assert!((class["f1"].as_f64().expect("a number") - f1).abs() < 1e-12, "{class}");
    }

    for (figure, value) in
        [("balanced_accuracy", 0.875), ("matthews", 0.6_f64.sqrt()), ("cohens_kappa", 0.75)]
    {
        assert!((report[figure].as_f64().expect(figure) - value).abs() < 1e-12, "{figure}: {report}");
    }
    sandbox.run(&format!("{evaluate} --data data --report report.csv")).succeeded();
    assert_eq!(sandbox.text("report.csv").lines().count(), 3, "{}", sandbox.text("report.csv"));
    // Of the figures nobody reads, as with `| head`, the report is written all the same.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut unread = sandbox.command(&format!("{evaluate} --data data --report unread.csv"));
    assert!(unread.stdout(writer).status().expect("the program starts").success());
    assert_eq!(sandbox.text("unread.csv"), sandbox.text("report.csv"));
    sandbox
        .run(&format!("{evaluate} --data data --report nowhere/report.json"))
        .refused(&["nowhere/report.json"]);

    let table = sandbox.run(&format!("{evaluate} --data data/train --report report.json")).succeeded().stdout;
    let written: serde_json::Value = serde_json::from_str(&sandbox.text("report.json")).expect("JSON");
    assert_eq!((&written["samples"], &written["macro"]["f1"]), (&16.into(), &1.0.into()));
    assert!(table.contains("blue") && table.contains("precision"), "{table}");
    assert!(table.contains("accuracy 1.0000  images 16"), "{table}");
}

#[cfg(feature = "embedded-weights")]
#[test]
fn predict_tells_the_classes_of_files_and_folders_in_their_order() {
    let sandbox = Sandbox::with_data();
    sandbox.train(&format!("{LEARNS} --out runs/a")).succeeded();
    let predict = "predict --model runs/a/model.safetensors --device ndarray";

    let both = sandbox
        .run(&format!("{predict} --json --logits data/train/red/2.png data/validation"))
        .succeeded()
        .json();
    let both = both.as_array().expect("one array");
    assert_eq!(both.len(), 9);
    assert_eq!(both[0]["path"], "data/train/red/2.png");
    assert_eq!(both[1]["path"], "data/validation/blue/0.png");
    for image in both {
        let path = image["path"].as_str().expect("a path");
        let predictions = image["predictions"].as_array().expect("an array");
        assert_eq!(predictions.len(), 2);
        let number = |prediction: &Value| prediction["probability"].as_f64().expect("a number");
        assert!((predictions.iter().map(number).sum::<f64>() - 1.0).abs() < 1e-6, "{image}");
        assert!(number(&predictions[0]) >= number(&predictions[1]), "{image}");
        for prediction in predictions {
            let index = prediction["index"].as_u64().expect("an index") as usize;
            assert_eq!(prediction["class"], images::CLASSES[index].0);
        }
        let logits: Vec<_> = image["logits"]
            .as_array()
            .expect("an array")
            .iter()
            .map(|logit| logit.as_f64().expect("a number"))
            .collect();
        assert!(path.contains(predictions[0]["class"].as_str().expect("a name")), "{image}");
        let likeliest = if logits[1] > logits[0] { 1 } else { 0 };
        assert_eq!(predictions[0]["index"], likeliest);
        let probability = 1.0 / (1.0 + (logits[1 - likeliest] - logits[likeliest]).exp());
        assert!((number(&predictions[0]) - probability).abs() < 1e-6, "{image}");
    }

    let alone = sandbox.run(&format!("{predict} --json --logits data/validation/blue/3.png")).succeeded();
    assert_eq!(alone.json(), Value::Array(vec![both[4].clone()]));
    let one = sandbox.run(&format!("{predict} --json --top 1 data/train/red/2.png")).succeeded().json();
    assert_eq!(one[0]["predictions"].as_array().expect("an array").len(), 1);
    assert!(one[0].get("logits").is_none(), "{one}");
    let text = sandbox.run(&format!("{predict} data/train/red/2.png")).succeeded().stdout;
    assert!(text.starts_with("data/train/red/2.png\n") && text.contains('%'), "{text}");
}

#[test]
fn the_model_is_a_safetensors_file_with_torchvisions_names_that_says_what_it_is() {
    let sandbox = Sandbox::with_data();
    sandbox.train("--data data --epochs 1 --hidden 16 --out runs/a").succeeded();
    let bytes = sandbox.read("runs/a/model.safetensors");
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
    let metadata = header.metadata().as_ref().expect("metadata");
    let manifest: Value = serde_json::from_str(&metadata["firebrick"]).expect("JSON");
    assert_eq!(manifest["architecture"], "mobilenet_v2_0.35");
    assert_eq!(manifest["classes"], serde_json::json!(["blue", "red"]));
    assert_eq!(manifest["preprocess"]["input_size"], serde_json::json!([32, 32]));
    assert_eq!(manifest["config"]["epochs"], 1);
    assert_eq!(manifest["provenance"]["data"], "data");

    let tensors = SafeTensors::deserialize(&bytes).expect("whole");
    let shape =
        |name: &str| tensors.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}")).shape().to_vec();
    assert_eq!(shape("features.0.0.weight"), [16, 3, 3, 3]);
    assert_eq!(shape("features.0.1.running_mean"), [16]);
    assert_eq!(shape("features.1.conv.0.0.weight"), [16, 1, 3, 3]);
    assert_eq!(shape("features.18.1.weight"), [1280]);
    // Linear layers as PyTorch has them, outputs first.
    assert_eq!(shape("classifier.1.weight"), [16, 1280]);
    assert_eq!(shape("classifier.3.weight"), [2, 16]);
    assert_eq!(shape("classifier.3.bias"), [2]);
}

#[test]
fn summary_of_a_name_counts_the_published_model() {
    let summary = Sandbox::new().run("summary --model mobilenet_v2").succeeded().stdout;
    assert_eq!(labelled(&summary, "parameters"), 3_504_872);
    assert_eq!(labelled(&summary, "trainable parameters"), 3_504_872);
    // torchvision publishes 0.301 billion.
    assert_eq!(labelled(&summary, "multiply-adds") / 100_000, 3_007, "{summary}");
    assert!(summary.contains("1280x7x7"), "{summary}");
}

#[test]
fn summary_of_a_sequence_model_counts_its_parameters_and_memory() {
    let sandbox = Sandbox::new();
    let summary = sandbox.run("summary --model gpt3_175b").succeeded().stdout;
    assert_eq!(labelled(&summary, "parameters"), 174_604_259_328);
    for line in ["96 x Linear 12288 -> 36864", "blocks.0-95.attention ", "650.45 GiB", "325.23 GiB"] {
        assert!(summary.contains(line), "no {line} in:\n{summary}");
    }
    for (model, parameters) in [("bert_base", 109_482_240), ("transformer_base", 63_082_496)] {
        let summary = sandbox.run(&format!("summary --model {model}")).succeeded().stdout;
        assert_eq!(labelled(&summary, "parameters"), parameters);
    }
}

#[test]
fn summary_of_a_package_counts_the_head_as_trainable_alone() {
    let sandbox = Sandbox::with_data();
    sandbox.train("--data data --epochs 1 --hidden 16 --out runs/a").succeeded();
    let summary = sandbox.run("summary --model runs/a/model.safetensors").succeeded().stdout;
    let head = 1280 * 16 + 16 + 16 * 2 + 2;
    // The published model has 1,677,128 parameters with its head for 1,000 classes.
    assert_eq!(labelled(&summary, "parameters"), 1_677_128 - 1_281_000 + head);
    assert_eq!(labelled(&summary, "trainable parameters"), head);
    assert!(summary.contains("input 3x32x32"), "{summary}");
}

#[test]
fn models_lists_the_zoo_with_its_published_accuracy() {
    let table = Sandbox::new().run("models").succeeded().stdout;
    let row = table.lines().find(|line| line.starts_with("mobilenet_v2 ")).expect("a row");
    for word in ["3504872", "224x224", "imagenet", "71.88 %"] {
        assert!(row.contains(word), "{word} is not in {row}");
    }
    assert!(table.contains("mobilenet_v2_0.35"), "{table}");
    let row = table.lines().find(|line| line.starts_with("gpt3_175b ")).expect("a row");
    for word in ["174604259328", "2048", "650.4", "arXiv:2005.14165"] {
        assert!(row.contains(word), "{word} is not in {row}");
    }
}

#[test]
fn a_reader_that_leaves_does_not_end_the_training() {
    let sandbox = Sandbox::with_data();
    let mut command = sandbox.command(&process::train_arguments("--data data --epochs 2 --out runs/a"));
    let piped = || std::process::Stdio::piped();
    let mut child = command.stdout(piped()).stderr(piped()).spawn().expect("the program starts");
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert_eq!(history(&sandbox.text("runs/a/history.csv")).len(), 2);
}

#[cfg(feature = "embedded-weights")]
#[test]
fn a_name_of_the_zoo_predicts_the_classes_of_imagenet() {
    let sandbox = Sandbox::with_data();
    let predict = "predict --model mobilenet_v2 --device ndarray --json --top 1000 data/train/red/0.png";
    let prediction = &sandbox.run(predict).succeeded().json()[0]["predictions"];
    let mut classes: Vec<_> = prediction.as_array().expect("an array").iter().collect();
    classes.sort_by_key(|class| class["index"].as_u64());
    assert_eq!(classes.len(), 1000);
    assert_eq!((&classes[0]["class"], &classes[243]["class"]), (&"tench".into(), &"bull mastiff".into()));
    let sum: f64 = classes.iter().map(|class| class["probability"].as_f64().expect("a number")).sum();
    assert!((sum - 1.0).abs() < 1e-5, "{sum}");
}
