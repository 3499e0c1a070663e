//! Weights and models that do not fit, are cut short, or are hostile.

mod process;

use std::sync::LazyLock;

use process::weights::{Tensors, system_call, system_call_of_protocol_4, text, zip};
use process::{Finished, Sandbox};
use safetensors::SafeTensors;

/// The tensors that fit.
static RIGHT: LazyLock<Tensors> = LazyLock::new(Tensors::of_the_zoo);

/// Trains from a file of weights.
#[track_caller]
fn train_from(sandbox: &Sandbox, weights: &str) -> Finished {
    let finished = sandbox.train(&format!("--data data --epochs 1 --out run --weights {weights}"));
    assert_eq!(sandbox.path("run").exists(), finished.code == Some(0));
    finished
}

#[test]
fn weights_that_fit_are_taken_from_both_formats() {
    let sandbox = Sandbox::with_data();
    sandbox.write("right.safetensors", RIGHT.safetensors());
    sandbox.write("right.pth", RIGHT.pth(b"", b""));
    let logits = |file: &str| {
        let predict = "predict --model mobilenet_v2_0.35 --device ndarray --json --logits";
        sandbox.run(&format!("{predict} --weights {file} data/train/red/0.png")).succeeded().json()[0]["logits"].clone()
    };
    assert_eq!(logits("right.safetensors"), serde_json::json!(vec![0.0; 1000]));
    assert_eq!(logits("right.pth"), logits("right.safetensors"));
    train_from(&sandbox, "right.safetensors").succeeded();
}

#[test]
fn missing_extra_and_misshapen_tensors_are_listed() {
    let sandbox = Sandbox::with_data();
    let name = "features.0.0.weight";
    let file = "wrong.safetensors";
    let way_out = "Give the checkpoint of this architecture";
    sandbox.write(file, RIGHT.without(name).safetensors());
    train_from(&sandbox, file).refused(&[file, "1 missing", name, way_out]);
    sandbox.write(file, RIGHT.with("features.19.weight", &[3]).safetensors());
    train_from(&sandbox, file).refused(&[
        file,
        "1 that the model does not have",
        "features.19.weight",
        way_out,
    ]);
    sandbox.write(file, RIGHT.with(name, &[32, 3, 3, 3]).safetensors());
    train_from(&sandbox, file).refused(&[
        file,
        "1 of another shape",
        name,
        "[32, 3, 3, 3]",
        "[16, 3, 3, 3]",
        way_out,
    ]);
    // With its elements in another order.
    sandbox.write(file, RIGHT.with(name, &[3, 16, 3, 3]).safetensors());
    train_from(&sandbox, file).refused(&[file, "1 of another shape", name]);
}

#[test]
fn a_backbone_is_trained_on_whatever_the_head_of_its_file_is() {
    let sandbox = Sandbox::with_data();
    let headless = RIGHT.without("classifier.1.weight").without("classifier.1.bias");
    let ten = headless.with("classifier.1.weight", &[10, 1280]).with("classifier.1.bias", &[10]);
    sandbox.train("--data data --epochs 1 --hidden 8 --out first").succeeded();
    sandbox.write("ten.safetensors", ten.safetensors());
    sandbox.write("headless.pth", headless.pth(b"", b""));
    for (run, file) in ["first/model.safetensors", "ten.safetensors", "headless.pth"].into_iter().enumerate()
    {
        sandbox.train(&format!("--data data --epochs 1 --weights {file} --out run{run}")).succeeded();
    }
    // The backbone is the file's, the head is not.
    let (first, again) = (sandbox.read("first/model.safetensors"), sandbox.read("run0/model.safetensors"));
    let read = |package| SafeTensors::deserialize(package).expect("a safetensors file");
    let (first, again) = (read(&first), read(&again));
    let data = |package: &SafeTensors, name: &str| package.tensor(name).expect(name).data().to_vec();
    assert_eq!(data(&first, "features.0.0.weight"), data(&again, "features.0.0.weight"));
    assert_eq!(again.tensor("classifier.1.weight").expect("a head").shape(), [128, 1280]);
    // All else must match.
    sandbox.write("ten.safetensors", ten.without("features.0.0.weight").safetensors());
    train_from(&sandbox, "ten.safetensors").refused(&["1 missing", "features.0.0.weight"]);
    sandbox.write("ten.safetensors", ten.with("neck.weight", &[3]).safetensors());
    train_from(&sandbox, "ten.safetensors").refused(&["1 that the model does not have", "neck.weight"]);
    // Where the head is asked, it is the file's.
    let predict = "predict --model mobilenet_v2_0.35 --device ndarray data --weights headless.pth";
    sandbox.run(predict).refused(&["2 missing", "classifier.1.weight", "firebrick train"]);
}

#[test]
fn weights_beside_a_model_that_brings_its_own_are_refused() {
    let sandbox = Sandbox::with_data();
    sandbox.train("--data data --epochs 1 --out run").succeeded();
    sandbox
        .run("predict --model run/model.safetensors --weights nowhere.pth --device ndarray data")
        .refused(&["--weights is nowhere.pth", "run/model.safetensors brings its own"]);
}

/// Each number is right alone; a sum of their products is none.
#[test]
fn probabilities_that_are_no_numbers_are_not_told() {
    let sandbox = Sandbox::with_data();
    let mut file = RIGHT.safetensors();
    let header = 8 + u64::from_le_bytes(file[..8].try_into().expect("eight bytes")) as usize;
    file[header..].chunks_exact_mut(4).for_each(|value| value.copy_from_slice(&3e38f32.to_le_bytes()));
    sandbox.write("huge.safetensors", file);
    let predict = "predict --model mobilenet_v2_0.35 --device ndarray --weights huge.safetensors";
    for format in ["", "--json"] {
        sandbox.run(&format!("{predict} {format} data/train/red/0.png")).refused(&[
            "data/train/red/0.png",
            "huge.safetensors",
            "no number",
        ]);
    }
}

#[test]
fn weights_that_cannot_be_read_are_named() {
    let sandbox = Sandbox::with_data();
    let (safetensors, pth) = (RIGHT.safetensors(), RIGHT.pth(b"", b""));
    let header = 8 + u64::from_le_bytes(safetensors[..8].try_into().expect("eight bytes")) as usize;
    for (file, content) in [
        ("empty.pth", &b""[..]),
        ("empty.safetensors", b""),
        ("text.pth", b"version https://git-lfs.github.com/spec/v1\n"),
        ("cut.safetensors", &safetensors[..safetensors.len() - 1]),
        ("header.safetensors", &safetensors[..header / 2]),
        ("lie.safetensors", b"\xff\xff\xff\xff\xff\xff\xff\x7f{}"),
        ("cut.pth", &pth[..pth.len() / 2]),
        ("pickle.pth", b"\x80\x02}("),
    ] {
        sandbox.write(file, content);
        train_from(&sandbox, file).refused(&[file, "not a readable checkpoint", "expected a PyTorch .pth"]);
    }
    train_from(&sandbox, "nowhere.pth").refused(&["nowhere.pth: cannot read"]);
    train_from(&sandbox, "data").refused(&["data: "]);
}

#[test]
fn a_model_without_published_weights_says_so() {
    train_from(&Sandbox::with_data(), "imagenet").refused(&["mobilenet_v2_0.35", "--weights none", "FILE"]);
}

/// Checkpoints that call `os.system(command)`, with what is hostile about each.
fn hostile_checkpoints(command: &str) -> Vec<(&'static str, Vec<u8>)> {
    let mut checkpoints = Vec::new();
    for call in [system_call(command), system_call_of_protocol_4(command)] {
        let alone = [b"\x80\x04", &call[..], b"."].concat();
        let mut entry = Vec::new();
        text(&mut entry, "epoch");
        entry.extend(&call);
        checkpoints.extend([
            ("a bare pickle", alone.clone()),
            ("an archive", zip(&[("archive/data.pkl", &alone), ("archive/version", b"3\n")])),
            ("an entry beside right weights", RIGHT.pth(b"", &entry)),
        ]);
    }
    checkpoints
}

#[test]
fn a_function_that_a_pickle_calls_is_never_run() {
    let sandbox = Sandbox::with_data();
    let trace = sandbox.path("it-was-run");
    let command = format!("touch {}", trace.display());
    let mut checkpoints = hostile_checkpoints(&command);
    // The result of this call is thrown away at once, so that nothing of it is left in what was read.
    checkpoints
        .push(("a call without a trace", RIGHT.pth(&[&system_call(&command)[..], b"0"].concat(), b"")));
    for (kind, content) in checkpoints {
        sandbox.write("hostile.pth", content);
        let finished = sandbox.train("--data data --epochs 1 --weights hostile.pth");
        assert!(!trace.exists(), "{kind} was run");
        assert!(!finished.stderr.contains("panicked"), "{kind}: {}", finished.stderr);
    }
}

#[test]
fn a_pickle_that_calls_a_function_is_refused_by_the_name_of_the_function() {
    let sandbox = Sandbox::with_data();
    for (kind, content) in hostile_checkpoints("true") {
        sandbox.write("hostile.pth", content);
        let finished = train_from(&sandbox, "hostile.pth");
        assert_eq!(finished.code, Some(2), "{kind} was taken: {}", finished.stderr);
        finished.refused(&["hostile.pth: refused", "os.system", "Nothing of it was run", ".safetensors"]);
    }
}

#[test]
fn a_model_file_that_is_damaged_is_named_by_eval_predict_and_summary() {
    let sandbox = Sandbox::with_data();
    sandbox.train("--data data --epochs 1 --out run").succeeded();
    let model = sandbox.read("run/model.safetensors");
    for (name, content, words) in [
        ("cut.safetensors", &model[..model.len() / 2], &["not a readable checkpoint"][..]),
        ("header.safetensors", &model[..100], &["header is cut short", "firebrick train"]),
        ("empty.safetensors", b"", &["shorter than any safetensors file"]),
        ("foreign.safetensors", &RIGHT.safetensors(), &["without Firebrick's metadata", "--weights FILE"]),
        ("text.safetensors", b"a text that is no model at all", &["no safetensors file"]),
    ] {
        sandbox.write(name, content);
        let words = [&[name][..], words].concat();
        sandbox.run(&format!("eval --model {name} --data data --device ndarray --json")).refused(&words);
        sandbox.run(&format!("predict --model {name} --device ndarray --json data")).refused(&words);
        sandbox.run(&format!("summary --model {name}")).refused(&words);
    }
    sandbox
        .run("eval --model nowhere.safetensors --data data")
        .refused(&["nowhere.safetensors: cannot read"]);
}
