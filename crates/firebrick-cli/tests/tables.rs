//! Plain networks on CSV files, and cross-validation, as a user does them.

mod process;

use process::Sandbox;

const IRIS: &str = include_str!("../../../examples/data/iris.csv");
const DIABETES: &str = include_str!("../../../examples/data/diabetes.csv");

/// Iris with a column of texts, some cells missing, and a number that says nothing.
fn iris() -> String {
    let rows = IRIS.lines().skip(1).enumerate().map(|(row, line)| {
        let (numbers, species) = line.rsplit_once(',').expect("five cells");
        let (first, others) = numbers.split_once(',').expect("four numbers");
        let first = if row % 10 == 3 { "NA" } else { first };
        let colour = ["\"red, or so\"", "blue", ""][row % 3];
        format!("{row},{first},{others},{colour},{species}\n")
    });
    let header = "row,sepal_length,sepal_width,petal_length,petal_width,colour,species\n";
    [header.to_owned()].into_iter().chain(rows).collect()
}

/// The value of a line `name: 0.9` or `name: mean 0.9, ...` of standard output.
fn figure(stdout: &str, name: &str) -> f64 {
    let line = stdout.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let text = line.unwrap_or_else(|| panic!("no {name} in:\n{stdout}")).trim_start_matches("mean ");
    text.split(',').next().expect("a part").parse().unwrap_or_else(|_| panic!("{text}"))
}

#[test]
fn a_deep_network_learns_classes_and_is_used_as_it_was_learnt() {
    let sandbox = Sandbox::new();
    sandbox.write("iris.csv", iris());
    let train = "train --data iris.csv --target species --without row --hidden 16,12,8 --epochs 60 --lr 0.01 \
        --early-stopping 0 --device ndarray";
    let trained = sandbox.run(&format!("{train} --out a")).succeeded();
    assert!(figure(&trained.stdout, "Test accuracy") > 0.9, "{}", trained.stdout);
    assert!(trained.stderr.contains("5 columns give 8 inputs; outputs: 3"), "{}", trained.stderr);
    assert_eq!(sandbox.listing("a"), ["config.toml", "curves.svg", "history.csv", "model.safetensors"]);

    // Another optimizer with a schedule, whose rate is seen in the history; its configuration is enough to do it again.
    let other = "train --data iris.csv --target species --epochs 20 --lr 0.01 --early-stopping 0 --device ndarray \
        --optimizer sgd:momentum=0.9,nesterov=true --schedule cosine:warmup=60,end=0.1 --out c";
    sandbox.run(other).succeeded();
    let history = sandbox.text("c/history.csv");
    let rate = |line: &str| line.split(',').nth(5).expect("a column").parse::<f64>().expect("a number");
    let rates: Vec<f64> = history.lines().skip(1).map(rate).collect();
    // Four steps an epoch: fifteen epochs up, five down.
    let (up, down) = rates.split_at(15);
    assert!(up.is_sorted_by(|a, b| a < b) && down.is_sorted_by(|a, b| a > b), "{rates:?}");
    assert!((up[14] - 0.01 * 59.0 / 60.0).abs() < 1e-12 && down[4] < 0.0012, "{rates:?}");
    sandbox.run("train --config c/config.toml --out d").succeeded();
    assert!(sandbox.read("c/model.safetensors") == sandbox.read("d/model.safetensors"));

    // Everything that comes between gradients and weights, for classes and for numbers; 120 rows are four batches, i.e. two steps.
    let between = "--optimizer adamw:weight_decay=0.01 --groups no_decay=true,layer_decay=0.9 --clip global_norm=1 --accumulate 3 \
        --regularize l1=1e-4,l2=1e-4,max_norm=4,noise=1e-4 --average ema=0.8 --lookahead k=3 --sam 0.05 --schedule plateau:patience=9";
    for (out, task) in
        [("e", "--target species"), ("f", "--target petal_width --task regress --without species")]
    {
        let train = format!(
            "train --data iris.csv {task} --epochs 60 --lr 0.05 --device ndarray {between} --out {out}"
        );
        let trained = sandbox.run(&train).succeeded();
        let figure = figure(&trained.stdout, if out == "e" { "Test accuracy" } else { "Test R2" });
        assert!(figure > 0.85, "{}", trained.stdout);
        let history = sandbox.text(&format!("{out}/history.csv"));
        assert!(
            history.starts_with("epoch,loss,accuracy,val_loss,val_accuracy,penalty,lr,seconds\n1,"),
            "{history}"
        );
    }

    // Every loss, with mixed rows for classes.
    let [labelled, numbered] = ["--target species", "--target petal_width --task regress --without species"];
    for (place, (task, settings)) in [
        (labelled, "--loss cross_entropy:label_smoothing=0.1,class_weights=balanced --mix mixup=0.2"),
        (labelled, "--loss binary_cross_entropy"),
        (labelled, "--loss focal:gamma=1,alpha=1 --sam 0.05"),
        (labelled, "--loss binary_focal:alpha=0.5,gamma=1"),
        (labelled, "--loss kl_divergence --mix mixup=0.2"),
        (labelled, "--loss cosine"),
        (labelled, "--loss mse"),
        (labelled, "--loss mae"),
        (labelled, "--loss huber:delta=0.1"),
        (numbered, "--loss mae --sam 0.05"),
        (numbered, "--loss huber:delta=0.5"),
    ]
    .into_iter()
    .enumerate()
    {
        let train = format!(
            "train --data iris.csv {task} --epochs 40 --lr 0.02 --device ndarray {settings} --out loss-{place}"
        );
        let trained = sandbox.run(&train).succeeded();
        let name = if task == labelled { "Test accuracy" } else { "Test R2" };
        assert!(figure(&trained.stdout, name) > 0.85, "{settings}: {}", trained.stdout);
    }
    for (task, settings, words) in [
        (numbered, "--loss focal", &["focal", "mse, mae, huber or smooth_l1"][..]),
        (numbered, "--mix mixup=0.2", &["mixup=0.2", "numbers are not mixed"]),
        (labelled, "--mix cutmix=1", &["`cutmix` is 1", "only images"]),
        (labelled, "--optimizer lbfgs:steps=0", &["`lbfgs steps` is 0"]),
        (labelled, "--optimizer lbfgs:step=3", &["`step`", "`steps`"]),
        (labelled, "--optimizer lbfgs --clip norm=1", &["clip is `norm=1`", "lbfgs"]),
        (labelled, "--activation swish", &["`activation` is swish", "silu"]),
        (labelled, "--loss cross_entropy:class_weights=[1,1]", &["class_weights", "3 classes"]),
    ] {
        sandbox
            .run(&format!("train --data iris.csv {task} --epochs 1 --device ndarray {settings} --out no"))
            .refused(words);
    }

    // L-BFGS over all rows: a few epochs do, for both tasks, and other activations on the way.
    for (place, (task, activation)) in [(labelled, "tanh"), (numbered, "gelu")].into_iter().enumerate() {
        let train = format!(
            "train --data iris.csv {task} --epochs 6 --lr 1 --hidden 8 --activation {activation} --optimizer lbfgs:strong_wolfe=true --device ndarray --out lbfgs-{place}"
        );
        let trained = sandbox.run(&train).succeeded();
        let name = if task == labelled { "Test accuracy" } else { "Test R2" };
        assert!(figure(&trained.stdout, name) > 0.85, "{}", trained.stdout);
        let evaluate =
            format!("eval --model lbfgs-{place}/model.safetensors --data iris.csv --device ndarray --json");
        sandbox.run(&evaluate).succeeded();
    }

    // A learning rate from a short run, for both tasks.
    for (task, settings) in [(labelled, "--loss focal"), (numbered, "--optimizer sgd")] {
        let found = sandbox
            .run(&format!("lr-find --data iris.csv {task} --device ndarray {settings} --out lr"))
            .succeeded();
        let rate = figure(&found.stdout, "Suggested learning rate");
        assert!((1e-5..10.0).contains(&rate), "{}", found.stdout);
        assert_eq!(sandbox.listing("lr"), ["config.toml", "lr.csv", "lr.svg"]);
        std::fs::remove_dir_all(sandbox.path("lr")).expect("removed");
    }
    sandbox
        .run("lr-find --data iris.csv --target species --first 1 --last 0.1")
        .refused(&["`last` is 0.1", "first"]);

    sandbox
        .run("lr-find --data iris.csv --target species --optimizer lbfgs")
        .refused(&["optimizer is `lbfgs`", "another"]);

    // The same again, from the configuration that was written.
    sandbox.run("train --config a/config.toml --out b").succeeded();
    assert!(sandbox.read("a/model.safetensors") == sandbox.read("b/model.safetensors"));

    let evaluate = "evaluate --model a/model.safetensors --data iris.csv --device ndarray";
    let report = sandbox.run(&format!("{evaluate} --json --report report.csv")).succeeded().json();
    assert!(report["accuracy"].as_f64().expect("a number") > 0.9, "{report}");
    assert!(report["macro"]["roc_auc"].as_f64().expect("a number") > 0.95, "{report}");
    assert_eq!(sandbox.text("report.csv").lines().count(), 4);
    assert!(sandbox.run(evaluate).succeeded().stdout.contains("rows 150"));

    // Without the target, with columns in another order, and a colour that was never seen.
    sandbox.write(
        "new.csv",
        "colour,petal_width,petal_length,sepal_width,sepal_length\ngreen,0.2,1.4,3.5,5.1\nblue,2.3,6.0,3.0,?\n",
    );
    let predict = "predict --model a/model.safetensors --device ndarray new.csv";
    let table = sandbox.run(predict).succeeded().stdout;
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines[0], "row,prediction,probability");
    assert!(lines[1].starts_with("1,setosa,0.") && lines[2].starts_with("2,virginica,0."), "{table}");
    let rows = sandbox.run(&format!("{predict} --json --logits --top 2")).succeeded().json();
    assert_eq!(rows[1]["predictions"][0]["class"], "virginica");
    assert_eq!(rows[0]["predictions"].as_array().expect("two").len(), 2);
    assert_eq!(rows[0]["logits"].as_array().expect("three").len(), 3);

    // What does not fit is named by file, line and column.
    sandbox.write(
        "text.csv",
        "colour,petal_width,petal_length,sepal_width,sepal_length\nred,1,1,1,1\nred,1,x,1,1\n",
    );
    sandbox.run("predict --model a/model.safetensors --device ndarray text.csv").refused(&[
        "text.csv",
        "line 3",
        "`petal_length`",
        "`x`",
    ]);
    sandbox.write("few.csv", "colour\nred\n");
    sandbox.run("predict --model a/model.safetensors --device ndarray few.csv").refused(&[
        "few.csv",
        "`sepal_length`",
        "`colour`",
    ]);
    sandbox
        .run("evaluate --model a/model.safetensors --device ndarray --data new.csv")
        .refused(&["new.csv", "`species`"]);
    let layers = sandbox.run("summary --model a/model.safetensors").succeeded().stdout;
    assert!(layers.contains("mlp, 8 inputs: sepal_length, sepal_length is missing"), "{layers}");
    assert!(layers.contains("network.hidden.2") && layers.contains("(for one row)"), "{layers}");
}

#[test]
fn a_number_is_learnt_in_its_own_unit() {
    let sandbox = Sandbox::new();
    sandbox.write("diabetes.csv", DIABETES);
    let trained = sandbox
        .run("train --data diabetes.csv --target progression --task regress --hidden 16 --epochs 40 --lr 0.005 --out a --device ndarray")
        .succeeded();
    assert!(figure(&trained.stdout, "Test R2") > 0.3, "{}", trained.stdout);
    assert!(figure(&trained.stdout, "Test RMSE") < 70.0, "{}", trained.stdout);

    let using = "--model a/model.safetensors --device ndarray";
    let figures = sandbox.run(&format!("eval {using} --data diabetes.csv --json")).succeeded().json();
    assert!(figures["r2"].as_f64().expect("a number") > 0.3, "{figures}");
    assert_eq!(figures["samples"], 442);
    let table = sandbox.run(&format!("predict {using} diabetes.csv")).succeeded().stdout;
    assert_eq!(table.lines().count(), 443);
    let told: Vec<f64> = table
        .lines()
        .skip(1)
        .map(|line| line.split_once(',').expect("two").1.parse().expect("a number"))
        .collect();
    let truth: Vec<f64> = DIABETES
        .lines()
        .skip(1)
        .map(|line| line.rsplit_once(',').expect("cells").1.parse().expect("a number"))
        .collect();
    let mae = told.iter().zip(&truth).map(|(a, b)| (a - b).abs()).sum::<f64>() / truth.len() as f64;
    assert!((figures["mae"].as_f64().expect("a number") - mae).abs() < 1e-4, "{mae} but {figures}");
}

#[test]
fn folds_train_a_model_each_and_tell_mean_and_deviation() {
    let sandbox = Sandbox::new();
    sandbox.write("iris.csv", IRIS);
    let finished = sandbox
        .run("train --data iris.csv --target species --folds 5 --hidden 8 --epochs 30 --lr 0.03 --out cv --device ndarray")
        .succeeded();
    assert!(figure(&finished.stdout, "accuracy") > 0.9, "{}", finished.stdout);
    assert!(finished.stdout.contains("standard deviation 0.0") && finished.stdout.contains("5 folds"));
    assert_eq!(
        sandbox.listing("cv"),
        ["config.toml", "fold-1", "fold-2", "fold-3", "fold-4", "fold-5", "folds.csv"]
    );
    let table = sandbox.text("cv/folds.csv");
    let accuracies: Vec<f64> = table
        .lines()
        .skip(1)
        .take(5)
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            assert_eq!(cells[1..3], ["120", "30"], "{table}");
            cells[3].parse().expect("a number")
        })
        .collect();
    let mean = accuracies.iter().sum::<f64>() / 5.0;
    assert!((figure(&finished.stdout, "accuracy") - mean).abs() < 1e-4, "{table}");
    for fold in 1..=5 {
        let model = format!("cv/fold-{fold}/model.safetensors");
        sandbox.run(&format!("eval --model {model} --data iris.csv --device ndarray")).succeeded();
    }

    // Whole groups stay together: 3 groups of 50 rows cannot make 4 folds, and make 3.
    let grouped = "train --data iris.csv --target petal_width --task regress --group species --hidden none --epochs 1 --device ndarray";
    sandbox.run(&format!("{grouped} --folds 4 --out g4")).refused(&["folds is 4", "3 groups"]);
    sandbox.run(&format!("{grouped} --folds 3 --repeats 2 --out g3")).succeeded();
    let table = sandbox.text("g3/folds.csv");
    assert_eq!(table.matches(",100,50,").count(), 6, "{table}");
}

#[test]
fn folds_of_images_take_in_both_parts_of_a_folder() {
    let sandbox = Sandbox::with_data();
    let finished = sandbox.train("--data data --folds 3 --epochs 1 --out cv").succeeded();
    assert!(finished.stdout.starts_with("accuracy: mean 0."), "{}", finished.stdout);
    assert!(finished.stderr.contains("fold 3 of 3: 16 to train on, 8 to validate on"), "{}", finished.stderr);
    assert_eq!(sandbox.listing("cv"), ["config.toml", "fold-1", "fold-2", "fold-3", "folds.csv"]);
    assert!(sandbox.path("cv/fold-3/model.safetensors").exists());
}

#[test]
fn what_cannot_be_meant_is_told_the_file_the_line_and_the_column() {
    let sandbox = Sandbox::with_data();
    sandbox.write("iris.csv", IRIS);
    sandbox.write("hole.csv", "x,y\n1,a\n2,\n3,b\n");
    sandbox.write("ragged.csv", "x,y\n1,a\n2\n");
    sandbox.write("text.csv", "x,y\n1,1\n2,two\n3,3\n");
    for (arguments, words) in [
        ("--data iris.csv", &["no target", "--target COLUMN", "species"][..]),
        ("--data iris.csv --target kind", &["iris.csv", "`kind`", "`species`"]),
        ("--data iris.csv --target species --without colour", &["iris.csv", "`colour`"]),
        ("--data iris.csv --target petal_width", &["`petal_width`", "--task"]),
        ("--data iris.csv --target species --task regress", &["iris.csv", "line 2", "`species`", "setosa"]),
        ("--data iris.csv --target species --task guess", &["guess", "classify or regress"]),
        ("--data iris.csv --target species --stage-rates head=2", &["stage-rates is of images"]),
        ("--data iris.csv --target species --augment keras", &["augment is of images"]),
        ("--data iris.csv --target species --folds 1", &["folds is 1"]),
        ("--data iris.csv --target species --group colour", &["--folds"]),
        ("--data iris.csv --target species --folds 200", &["folds is 200", "150 samples"]),
        ("--data iris.csv --target species --hidden 1000000,1000000", &["weights"]),
        ("--data hole.csv --target y", &["hole.csv", "line 3", "`y`", "missing"]),
        ("--data ragged.csv --target y", &["ragged.csv", "line 3", "1 cells"]),
        ("--data text.csv --target y --task regress", &["text.csv", "line 3", "`y`", "two"]),
        ("--data nowhere.csv --target y", &["nowhere.csv", "does not exist"]),
        ("--data data --target y", &["target is of tables", "`data`"]),
    ] {
        sandbox.run(&format!("train {arguments} --epochs 1 --device ndarray --out run")).refused(words);
        assert!(!sandbox.path("run").exists(), "{arguments}: {:?} is left", sandbox.listing("run"));
    }
}
