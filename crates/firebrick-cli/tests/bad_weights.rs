//! Weights and models that do not fit, are cut short, or are hostile.

mod process;

use std::sync::LazyLock;

use process::weights::{Tensors, system_call, system_call_of_protocol_4, text, zip};
use process::{Finished, Sandbox};

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
