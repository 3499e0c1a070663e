//! Settings that cannot be meant: the message names the flag or key, the value, and a right one.

mod process;

use process::{Finished, Sandbox};

/// Trains with `arguments` and asserts that nothing came of it.
#[track_caller]
fn train(sandbox: &Sandbox, arguments: &str) -> Finished {
    let finished = sandbox.train(&format!("--out run {arguments}"));
    assert!(!sandbox.path("run").exists(), "{:?} is left", sandbox.listing("run"));
    finished
}

#[test]
fn a_misspelt_model_is_told_the_nearest() {
    let sandbox = Sandbox::with_data();
    train(&sandbox, "--data data --model mobilnet_v2_0.35")
        .refused(&["`mobilnet_v2_0.35`", "did you mean `mobilenet_v2_0.35`?"]);
    let nearest = ["`mobilenetv2`", "did you mean `mobilenet_v2`?", "firebrick models"];
    sandbox.run("summary --model mobilenetv2").refused(&nearest);
    sandbox.run("predict --model mobilenetv2 data").refused(&nearest);
}

#[test]
fn a_misspelt_flag_is_told_the_nearest() {
    train(&Sandbox::with_data(), "--data data --batchsize 8").refused(&["'--batchsize'", "'--batch-size'"]);
    Sandbox::new().run("trian --data data").refused(&["'trian'", "'train'"]);
}

#[test]
fn a_missing_data_set_is_asked_for() {
    train(&Sandbox::new(), "").refused(&["no data was given", "--data FOLDER", "builtin:fashion"]);
    train(&Sandbox::new(), "--data builtin:mnist").refused(&["builtin", "mnist", "builtin:fashion"]);
}

#[test]
fn a_value_outside_its_range_is_told_the_range() {
    let sandbox = Sandbox::with_data();
    for (flag, words) in [
        ("--lr -1", &["lr is -1", "greater than 0"][..]),
        ("--lr=-0.5", &["lr is -0.5", "greater than 0"]),
        ("--lr nan", &["lr is NaN", "greater than 0"]),
        ("--lr fast", &["'fast'", "--lr"]),
        ("--dropout 1.5", &["dropout is 1.5", "less than 1"]),
        ("--epochs 0", &["epochs is 0", "at least 1"]),
        ("--batch-size 0", &["batch-size is 0", "at least 1"]),
        ("--batch-size -8", &["'-8'", "--batch-size"]),
        ("--val-split 0", &["val-split is 0", "0.1"]),
        ("--input-size 100000", &["input-size is 100000", "4096"]),
        ("--hidden 0", &["hidden", "0", "1 to"]),
        (
            "--hidden 1048576,1048576",
            &["hidden is [1048576, 1048576]", "2 hidden layers", "weights are not possible"],
        ),
        ("--hidden 12x", &["12x", "256,64", "none"]),
        ("--seed 18446744073709551615", &["seed is 18446744073709551615", "at most"]),
        ("--workers 1000", &["workers is 1000", "256"]),
        ("--optimizer adan", &["`adan`", "adam", "sgd", "lbfgs"]),
        ("--model gpt2", &["gpt2 is a model of sequences", "firebrick summary --model gpt2"]),
        ("--optimizer adamw:decay=1", &["`adamw:decay=1`", "`decay`", "`weight_decay`"]),
        ("--optimizer lbfgs --freeze none", &["freeze is none", "lbfgs"]),
        ("--activation gelu", &["activation is of tables"]),
        ("--optimizer sgd:momentum=1.5", &["`momentum` is 1.5", "less than 1"]),
        ("--loss crossentropy", &["`crossentropy`", "cross_entropy", "huber"]),
        ("--loss focal:gama=2", &["`gama`", "`gamma`"]),
        ("--loss focal:gamma=-2", &["`gamma` is -2", "at least 0"]),
        ("--loss cross_entropy:label_smoothing=2", &["`label_smoothing` is 2", "0 to 1"]),
        ("--loss cross_entropy:class_weights=[1,2,3]", &["`class_weights` is a list of 3", "2 classes"]),
        ("--loss triplet:margin=-1", &["`margin` is -1", "greater than 0"]),
        ("--loss nt_xent:temperature=0", &["`temperature` is 0", "greater than 0"]),
        ("--loss triplet --mix mixup=0.2", &["mix is `mixup=0.2`", "`triplet`"]),
        (
            "--loss binary_cross_entropy:positive_weights=[1]",
            &["`positive_weights` is a list of 1", "2 outputs"],
        ),
        ("--loss focal:gamma=much", &["`gamma` is `much`", "a number"]),
        ("--optimizer adam:preset=jax", &["`preset` is", "keras or torch"]),
        ("--optimizer lion:preset=torch", &["PyTorch has no `lion`"]),
        ("--schedule plateau:warmup=500", &["`warmup` is 500", "less than the 1 steps of the run"]),
        ("--mix mixup=-1", &["`mixup` is -1", "0.001"]),
        ("--mix blend=1", &["`blend`", "`cutmix`"]),
        ("--clip norm=-1", &["`clip norm` is -1", "greater than 0"]),
        ("--clip size=1", &["clip `size=1`", "`size`", "`global_norm`"]),
        ("--accumulate 0", &["`accumulate` is 0", "at least 1"]),
        ("--groups layer_decay=2", &["`layer_decay` is 2", "at most 1"]),
        ("--groups no_decay=true", &["`no_decay`", "`adam`", "adamw"]),
        (
            "--stage-rates stge1=0.1 --freeze none",
            &["stage-rates has `stge1`", "did you mean `stage1`?", "stage7"],
        ),
        ("--stage-rates stage1=0.1", &["stage-rates has `stage1`", "freeze is backbone", "--freeze none"]),
        ("--stage-rates stage3=2 --freeze stage3", &["`stage3`", "freeze is stage3", "--freeze stage2"]),
        (
            "--stage-rates stage1=0 --freeze none",
            &["stage-rates has `stage1=0`", "greater than 0", "--freeze"],
        ),
        ("--stage-rates head=-0.5", &["stage-rates has `head=-0.5`", "greater than 0"]),
        ("--stage-rates head=inf", &["stage-rates has `head=inf`", "a number"]),
        ("--stage-rates head", &["`head`", "STAGE=FACTOR"]),
        ("--stage-rates head=1,head=2", &["`head` twice"]),
        ("--stage-rates head=2 --optimizer lbfgs", &["stage-rates is `head=2`", "lbfgs"]),
        ("--regularize l2=-1", &["`l2` is -1", "at least 0"]),
        ("--regularize maxnorm=1", &["`maxnorm`", "`max_norm`"]),
        ("--average ema=1", &["`ema` is 1", "less than 1"]),
        ("--average swa=9", &["`swa` is 9", "the 1 epochs of the run"]),
        ("--lookahead k=0", &["`lookahead k` is 0", "at least 1"]),
        ("--sam -1", &["`sam` is -1", "at least 0"]),
        ("--schedule cosin", &["`cosin`", "cosine", "plateau"]),
        ("--schedule step", &["`step`", "`every`"]),
        ("--schedule plateau:factor=2", &["`factor` is 2", "between 0 and 1"]),
        ("--schedule cosine:warmup=500", &["`warmup` is 500", "less than the 1 steps of the run"]),
        ("--freeze head", &["freeze is `head`", "backbone", "none", "stage7"]),
        ("--drop-path 1", &["drop_path", "1.0"]),
        ("--on-bad-image ignore", &["'ignore'", "--on-bad-image", "fail, skip"]),
        ("--device gpu", &["gpu", "wgpu"]),
    ] {
        train(&sandbox, &format!("--data data --epochs 1 {flag}").replace("--epochs 1 --epochs", "--epochs"))
            .refused(words);
    }
}

#[test]
fn images_that_are_too_small_are_told_the_smallest() {
    let sandbox = Sandbox::with_data();
    for (model, least) in [("squeezenet1_1", 17), ("vit_tiny_patch16_224", 16)] {
        let small = format!("--data data --model {model} --input-size");
        train(&sandbox, &format!("{small} {}", least - 1)).refused(&[
            &format!("input_size is {}, which is too small for {model}", least - 1),
            &format!("takes images of {least} pixels or more"),
        ]);
        sandbox.train(&format!("{small} {least} --epochs 1 --out {model}")).succeeded();
    }
    let refused = sandbox.run("bench --model squeezenet1_0 --image-size 20");
    refused.refused(&[
        "a max pooling cannot work on 512x1x1",
        "its window is 3x3 pixels",
        "takes images of 21 pixels",
    ]);
    let bench = "bench --model vit_tiny_patch16_224 --device ndarray --batch-size 1 --runs 1 --image-size";
    sandbox.run(&format!("{bench} 15")).refused(&["takes images of 16 pixels or more"]);
    sandbox.run(&format!("{bench} 16")).succeeded();
}

#[test]
fn a_wrong_configuration_is_told_the_file_the_key_and_a_right_one() {
    let sandbox = Sandbox::with_data();
    for (text, words) in [
        ("epoch = 3", &["unknown key `epoch`", "did you mean `epochs`?"][..]),
        ("zzz = 3", &["unknown key `zzz`", "batch-size"]),
        ("batch-size = 'many'", &["batch-size", "many", "usize"]),
        ("batch-size = -1", &["batch-size", "-1"]),
        ("restore-best = 'yes'", &["restore-best", "yes", "boolean"]),
        ("batch-size = ", &["line 1"]),
        ("stage-rates = 'head=0'", &["stage-rates has `head=0`", "greater than 0"]),
        ("dropout = 1.5", &["dropout is 1.5", "less than 1"]),
        ("[augment]\nrotation_rnage = 40", &["rotation_rnage", "rotation_range"]),
        ("[augment]\nrotation_range = 'far'", &["rotation_range", "far"]),
        ("[augment]\nrotation_range = -40", &["rotation_range", "-40"]),
        ("[[augment.step]]\nname = 'random_rotate'", &["step 1 (random_rotate)", "random_rotation"]),
        (
            "[[augment.step]]\nname = 'random_rotation'\ndegrees = -4",
            &["step 1 (random_rotation)", "`degrees` is -4"],
        ),
        (
            "[[augment.step]]\nname = 'color_jitter'\nhues = 0.1",
            &["step 1 (color_jitter)", "`hues`", "`hue`"],
        ),
    ] {
        sandbox.write("wrong.toml", text);
        let refused = train(&sandbox, "--data data --config wrong.toml").refused(words);
        // A value that a flag could have had as well is named by its setting alone.
        assert!(
            refused.stderr.contains("wrong.toml") || words[0].contains(" is ") || text.contains("-40"),
            "{}",
            refused.stderr
        );
    }
    train(&sandbox, "--data data --config nowhere.toml")
        .refused(&["nowhere.toml: cannot read the configuration"]);
}

#[test]
fn a_wrong_augmentation_is_told_the_file_and_the_key() {
    let sandbox = Sandbox::with_data();
    sandbox.write("unknown_key.toml", "rotation = 40");
    sandbox.write("out_of_range.toml", "zoom_range = 2.0");
    sandbox.write("no_table.toml", "40");
    sandbox.write("policy.toml", "[[step]]\nname = 'autoaugment'\npolicy = 'imagnet'\n");
    sandbox.write("step.toml", "[[step]]\nname = 'random_invert'\n[[step]]\nname = 'colour_jitter'\n");
    train(&sandbox, "--data data --augment policy.toml").refused(&[
        "policy.toml",
        "step 1 (autoaugment)",
        "`policy`",
        "imagnet",
        "imagenet",
    ]);
    train(&sandbox, "--data data --augment step.toml").refused(&[
        "step.toml",
        "step 2 (colour_jitter)",
        "did you mean `color_jitter`?",
    ]);
    train(&sandbox, "--data data --augment kears").refused(&["`kears`", "neither none, keras, randaugment"]);
    train(&sandbox, "--data data --augment unknown_key.toml").refused(&[
        "unknown_key.toml",
        "`rotation`",
        "`rotation_range`",
    ]);
    train(&sandbox, "--data data --augment out_of_range.toml").refused(&["zoom_range", "2"]);
    train(&sandbox, "--data data --augment no_table.toml").refused(&["no_table.toml", "line 1"]);
}

#[test]
fn predict_and_eval_check_their_flags() {
    let sandbox = Sandbox::with_data();
    sandbox
        .run("predict --model mobilenet_v2_0.35 --weights none --top 0 data")
        .refused(&["--top is 0", "at least 1"]);
    sandbox.run("predict --model mobilenet_v2_0.35 --weights none --logits data").refused(&["--json"]);
    sandbox.run("eval --model model.safetensors --data data --batch-size 0").refused(&["--batch-size", "0"]);
    sandbox.run("eval --model model.safetensors").refused(&["--data"]);
    // Whatever can be wrong is found before the model is read.
    let eval = "eval --model nowhere.safetensors --data data";
    sandbox
        .run(&format!("{eval} --report no/x.csv"))
        .refused(&["no/x.csv: the folder no does not exist", "--report"]);
    sandbox.run(&format!("{eval} --report data")).refused(&["data: is a folder"]);
    sandbox.run(&format!("{eval} --views 2 --augment typo")).refused(&["`typo`", "randaugment"]);
}
