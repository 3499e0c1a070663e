//! Sentences to vectors and texts from language models, as a user asks for them.
#![allow(clippy::print_stderr, reason = "a test that is skipped says why")]

mod process;

use std::path::{Path, PathBuf};

use firebrick::text::{EncodeOptions, Tokenizer};
use firebrick::train::DeviceChoice;
use firebrick::zoo::{GenerateOptions, GptConfig, GptPackage, Sampling};
use process::{Finished, Sandbox, finish};
use serde::Deserialize;

/// `firebrick` with arguments in which white space counts.
fn run(sandbox: &Sandbox, arguments: &str, words: &[&str]) -> Finished {
    finish(sandbox.command(arguments).args(words))
}

/// Made by `cargo xtask golden generate_sentences`, with transformers.
#[derive(Deserialize)]
struct Golden {
    sentences: Vec<String>,
    tokens: Vec<usize>,
    embeddings: Vec<Vec<f64>>,
}

/// MiniLM's folder in the cache, as `cargo xtask assets --fetch` fills it.
fn minilm() -> Option<PathBuf> {
    let folder = firebrick::data::cache_dir().expect("a cache folder").join("weights/all-MiniLM-L6-v2");
    if folder.join("model.safetensors").is_file() && folder.join("tokenizer.json").is_file() {
        return Some(folder);
    }
    eprintln!("skipped: {} is not there; `cargo xtask assets --fetch` fetches it", folder.display());
    None
}

/// The values of a NumPy file of `float32`, after a check of its shape.
fn read_npy(bytes: &[u8], shape: &str) -> Vec<f32> {
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..10 + length]).expect("text");
    assert!(header.contains(shape) && header.contains("'<f4'"), "{header}");
    bytes[10 + length..].chunks(4).map(|value| f32::from_le_bytes(value.try_into().expect("four"))).collect()
}

#[test]
fn sentences_become_the_vectors_of_sentence_transformers() {
    let Some(folder) = minilm() else { return };
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/sentences.json");
    let golden: Golden = serde_json::from_str(&std::fs::read_to_string(golden).expect("the golden file"))
        .expect("a golden file");
    let sandbox = Sandbox::new();
    sandbox.write("sentences.txt", golden.sentences.join("\n") + "\n");
    let files = format!(
        "--weights {} --tokenizer {} --device ndarray",
        folder.join("model.safetensors").display(),
        folder.join("tokenizer.json").display()
    );
    let embed = format!("embed --model minilm {files} --input sentences.txt");
    let written = sandbox.run(&format!("{embed} --output vectors.npy")).succeeded();
    assert_eq!(written.stdout, "");
    let words = [
        "1 of 6 sentences",
        "cut off at 256 tokens",
        "number 6 (\"One sentence after anoth",
        "136 tokens left out",
    ];
    for word in words {
        assert!(written.stderr.contains(word), "`{word}` is not in: {}", written.stderr);
    }
    assert_eq!(golden.tokens[5], 256 + 136);
    let values = read_npy(&sandbox.read("vectors.npy"), "(6, 384)");
    let expected: Vec<f64> = golden.embeddings.concat();
    assert_eq!(values.len(), expected.len());
    for (place, (value, expected)) in values.iter().zip(&expected).enumerate() {
        let (sentence, place) = (place / 384, place % 384);
        assert!((f64::from(*value) - expected).abs() < 1e-4, "{sentence}, {place}: {value} != {expected}");
    }

    // One at a time: the same bytes.
    sandbox.run(&format!("{embed} --batch-size 1 --output one.npy")).succeeded();
    assert!(sandbox.read("one.npy") == sandbox.read("vectors.npy"), "the batch changes the vectors");

    // As JSON, from arguments, from a table.
    let printed = run(
        &sandbox,
        &format!("embed --model minilm {files}"),
        &[&golden.sentences[0], &golden.sentences[3]],
    );
    let printed = printed.succeeded().json();
    sandbox.write(
        "table.csv",
        format!("id,text\n1,\"{}\"\n2,\"{}\"\n", golden.sentences[0], golden.sentences[3]),
    );
    let table = format!("embed --model minilm {files} --input table.csv --column text --output table.json");
    sandbox.run(&table).succeeded();
    let table: serde_json::Value = serde_json::from_str(&sandbox.text("table.json")).expect("JSON");
    assert_eq!(table, printed);
    assert_eq!(printed[1]["text"], golden.sentences[3].as_str());
    let row = |row: &serde_json::Value| -> Vec<f32> {
        serde_json::from_value(row["embedding"].clone()).expect("numbers")
    };
    assert_eq!(row(&printed[0]), values[..384]);
    assert_eq!(row(&printed[1]), values[3 * 384..4 * 384]);

    // What is too long may be refused.
    sandbox
        .run(&format!("{embed} --when-too-long refuse"))
        .refused(&["One sentence after", "392 tokens, at most 256"]);
    sandbox.run(&format!("{embed} --max-tokens 513")).refused(&["max-tokens is 513", "at most 512"]);
    sandbox.run(&format!("{embed} --max-tokens 2")).refused(&["at most 2 tokens", "at least 3"]);
    sandbox.run(&format!("{embed} --max-tokens 512 --when-too-long refuse --output whole.npy")).succeeded();
}

/// Where it is looked for without a flag.
#[cfg(unix)]
#[test]
fn a_fetched_encoder_is_found_in_the_cache_folder() {
    let Some(folder) = minilm() else { return };
    let sandbox = Sandbox::new();
    sandbox.write("cache/weights/readme", "");
    std::os::unix::fs::symlink(folder, sandbox.path("cache/weights/all-MiniLM-L6-v2")).expect("a link");
    let printed = run(&sandbox, "embed --model minilm --device ndarray", &["Hello"]).succeeded().json();
    assert_eq!(printed[0]["embedding"].as_array().expect("numbers").len(), 384);
}

#[test]
fn what_cannot_be_embedded_is_told_why() {
    let sandbox = Sandbox::new();
    sandbox.write("empty.txt", "");
    sandbox.write("latin.txt", b"good\nM\xfcnchen\n");
    sandbox.write("table.csv", "id,text\n1,one\n");
    sandbox.write("tokenizer.json", Tokenizer::bytes().to_json().expect("described"));
    sandbox.write("bad.json", "{}");
    sandbox.write("weights.safetensors", "no weights");
    std::fs::create_dir(sandbox.path("folder.npy")).expect("a folder");
    let files = "--weights weights.safetensors --tokenizer";
    for (arguments, words) in [
        ("--model mini", &["`mini`", "minilm"][..]),
        ("--model minilm", &["nothing to embed", "--input"]),
        ("--model minilm --input nowhere.txt", &["nowhere.txt", "cannot be read"]),
        ("--model minilm --input empty.txt", &["empty.txt", "is empty"]),
        ("--model minilm --input latin.txt", &["latin.txt, line 2", "UTF-8"]),
        ("--model minilm --input table.csv", &["table.csv", "--column", "id, text"]),
        ("--model minilm --input table.csv --column words", &["table.csv", "`words`", "`text`"]),
        ("--model minilm --input latin.txt --column text", &["latin.txt", "CSV"]),
        ("--model minilm a --output no/vectors.npy", &["no/vectors.npy", "folder no does not exist"]),
        ("--model minilm a --output folder.npy", &["folder.npy: is a folder", "--output"]),
        ("--model minilm a --output vectors.txt", &["vectors.txt", ".npy or .json"]),
        (
            "--model minilm a --weights weights.safetensors --tokenizer nowhere",
            &["nowhere", "cannot be read"],
        ),
    ] {
        sandbox.run(&format!("embed {arguments} --device ndarray")).refused(words);
    }
    sandbox
        .run(&format!("embed --model minilm a {files} bad.json"))
        .refused(&["bad.json", "describes no model"]);
    sandbox
        .run(&format!("embed --model minilm a {files} tokenizer.json"))
        .refused(&["weights.safetensors", "not a readable checkpoint"]);
    assert_eq!(
        sandbox.listing("."),
        [
            "bad.json",
            "empty.txt",
            "folder.npy",
            "latin.txt",
            "table.csv",
            "tokenizer.json",
            "weights.safetensors"
        ]
    );
}

/// Without a network, and with the weights at hand, the tokenizer is what is missing.
#[cfg(feature = "download")]
#[test]
fn a_tokenizer_that_cannot_be_fetched_is_told_its_flag() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command("embed --model minilm --device ndarray a");
    finish(command.env("HTTPS_PROXY", "http://127.0.0.1:9")).refused(&["tokenizer.json", "--tokenizer FILE"]);
}

const SMALL: GptConfig = GptConfig {
    vocabulary: 256,
    context: 24,
    width: 16,
    layers: 2,
    heads: 2,
    feed_forward: 32,
    ..GptConfig::GPT2
};

fn package(config: GptConfig, tokenizer: Tokenizer) -> GptPackage {
    let device = DeviceChoice::NdArray.open().expect("the CPU");
    let model = config.init(9, &device).expect("right settings");
    GptPackage::new(model, tokenizer, "nothing".to_owned(), serde_json::json!({})).expect("they fit")
}

#[test]
fn a_text_is_continued_as_the_library_does() {
    let sandbox = Sandbox::new();
    let package = package(SMALL, Tokenizer::bytes());
    package.save(&sandbox.path("gpt.safetensors")).expect("saved");
    let generate = "generate --model gpt.safetensors --device ndarray";
    let written = |settings: &str| {
        run(&sandbox, &format!("{generate} {settings} --json --prompt"), &["On the rock"]).succeeded().json()
    };
    for (settings, sampling) in [
        ("--temperature 0", Sampling::greedy()),
        ("--seed 4 --temperature 0.8", Sampling { seed: 4, temperature: 0.8, ..Sampling::default() }),
        (
            "--top-k 9 --top-p 0.9 --repetition-penalty 1.3",
            Sampling { top_k: Some(9), top_p: Some(0.9), repetition_penalty: 1.3, ..Sampling::default() },
        ),
    ] {
        let ids = package.tokenizer.encode("On the rock", &EncodeOptions::default()).expect("any text").ids;
        let options = GenerateOptions { sampling, max_tokens: Some(10), stop: Vec::new() };
        let expected: Vec<u32> = package.model.generate(&ids, options).expect("short").collect();
        let generated = written(&format!("{settings} --max-tokens 10"));
        assert_eq!(generated["text"], package.tokenizer.decode(&expected).expect("known"), "{settings}");
        assert_eq!((&generated["tokens"], &generated["finish"]), (&10.into(), &"max_tokens".into()));
    }
    // The same seed is the same text, also beyond the context of 24; another seed is another.
    let [one, again, other] =
        ["--seed 1", "--seed 1", "--seed 2"].map(|seed| written(&format!("{seed} --max-tokens 70")));
    assert_eq!(one, again);
    assert_ne!(one["text"], other["text"]);
    assert_eq!(one["tokens"], 70);
    // As text, the prompt comes first.
    let plain =
        run(&sandbox, &format!("{generate} --seed 1 --max-tokens 70 --prompt"), &["On the rock"]).succeeded();
    assert_eq!(plain.stdout, format!("On the rock{}\n", one["text"].as_str().expect("text")));
    assert!(plain.stderr.contains("70 tokens in"), "{}", plain.stderr);
}

#[test]
fn a_long_prompt_is_cut_at_its_beginning_or_refused() {
    let sandbox = Sandbox::new();
    package(SMALL, Tokenizer::bytes()).save(&sandbox.path("gpt.safetensors")).expect("saved");
    let generate = "generate --model gpt.safetensors --device ndarray --temperature 0 --max-tokens 4 --json";
    let long = "a prompt of forty-one bytes in its length";
    let cut = run(&sandbox, &format!("{generate} --prompt"), &[long]).succeeded();
    assert!(cut.stderr.contains("warning: the prompt has 41 tokens"), "{}", cut.stderr);
    assert!(cut.stderr.contains("context is 24: only the last 20 are used"), "{}", cut.stderr);
    let short = run(&sandbox, &format!("{generate} --prompt"), &[&long[21..]]).succeeded();
    assert_eq!(cut.json()["text"], short.json()["text"]);
    assert!(!short.stderr.contains("warning"), "{}", short.stderr);
    run(&sandbox, &format!("{generate} --when-too-long refuse --prompt"), &[long])
        .refused(&["41 tokens", "context is 24"]);
}

/// A folder as transformers saves it, with GPT-2's own kind of tokenizer, whose end token ends a text.
#[test]
fn gpt_2s_files_are_read_from_their_folder() {
    let sandbox = Sandbox::new();
    let tokenizer = r#"{"version": "1.0", "added_tokens": [{"id": 3, "content": "<|endoftext|>", "special": true,
        "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}], "decoder": {"type": "Fuse"},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "<|endoftext|>": 3}, "merges": []}}"#;
    let config = GptConfig { vocabulary: 4, ..SMALL };
    let package = package(config, Tokenizer::of_json(Path::new("own"), tokenizer).expect("right"));
    std::fs::create_dir(sandbox.path("gpt2")).expect("a folder");
    package.save(&sandbox.path("gpt2/model.safetensors")).expect("saved");
    sandbox.write("gpt2/tokenizer.json", tokenizer);
    sandbox.write(
        "gpt2/config.json",
        r#"{"model_type": "gpt2", "vocab_size": 4, "n_positions": 24, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_inner": 32}"#,
    );
    // Some seed ends within its 200 tokens; what is empty begins after an end.
    let folder =
        sandbox.run("generate --model gpt2 --device ndarray --json --max-tokens 200").succeeded().json();
    assert_eq!(folder["finish"], "stop", "{folder}");
    let file = sandbox
        .run("generate --model gpt2/model.safetensors --device ndarray --json --max-tokens 200")
        .succeeded();
    assert_eq!(file.json(), folder);
    sandbox.run("generate --model gpt2 --device ndarray --prompt abd").refused(&["'d'", "U+0064"]);
    std::fs::remove_file(sandbox.path("gpt2/config.json")).expect("removed");
    sandbox
        .run("generate --model gpt2 --device ndarray --prompt a")
        .refused(&["gpt2/model.safetensors", "config.json"]);
}

/// A template may have ids of its own, which no vocabulary lists.
#[test]
fn ids_that_a_model_does_not_know_are_found_before_anything_is_written() {
    let sandbox = Sandbox::new();
    let tokenizer = r#"{"version": "1.0", "decoder": {"type": "Fuse"},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "d": 3}, "merges": []},
        "post_processor": {"type": "TemplateProcessing", "pair": [],
            "single": [{"SpecialToken": {"id": "T", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"T": {"id": "T", "ids": [99999], "tokens": ["T"]}}}}"#;
    let config = GptConfig { vocabulary: 4, ..SMALL };
    package(config, Tokenizer::characters("abcd").expect("text"))
        .save(&sandbox.path("gpt.safetensors"))
        .expect("saved");
    sandbox.write("own.json", tokenizer);
    let generate = "generate --model gpt.safetensors --device ndarray --tokenizer own.json --prompt abc";
    sandbox.run(generate).refused(&["own.json", "99999", "published with the weights"]);
}

#[test]
fn what_cannot_be_continued_is_told_why() {
    let sandbox = Sandbox::new();
    package(SMALL, Tokenizer::bytes()).save(&sandbox.path("gpt.safetensors")).expect("saved");
    let config = GptConfig { vocabulary: 5, ..SMALL };
    package(config, Tokenizer::characters("abcde").expect("text"))
        .save(&sandbox.path("abc.safetensors"))
        .expect("saved");
    sandbox.write("bytes.json", Tokenizer::bytes().to_json().expect("described"));
    sandbox.write("text.txt", "once upon a time");
    sandbox.write("cut.safetensors", &sandbox.read("gpt.safetensors")[..3000]);
    std::fs::create_dir(sandbox.path("folder")).expect("a folder");
    let bytes = "--model gpt.safetensors --prompt a";
    for (arguments, words) in [
        ("--model nowhere.safetensors --prompt a", &["nowhere.safetensors", "cannot be read"][..]),
        ("--model text.txt --prompt a", &["text.txt", "config.json"]),
        ("--model folder --prompt a", &["folder", "model.safetensors"]),
        ("--model cut.safetensors --prompt a", &["cut.safetensors"]),
        ("--model gpt.safetensors", &["prompt is empty", "--prompt"]),
        ("--model abc.safetensors --prompt abcx", &["'x' (U+0078)", "5 characters"]),
        (
            "--model abc.safetensors --prompt a --tokenizer bytes.json",
            &["bytes.json", "up to 255", "below 5"],
        ),
        (&format!("{bytes} --tokenizer nowhere.json"), &["nowhere.json", "cannot be read"]),
        (&format!("{bytes} --temperature -1"), &["`temperature` is -1"]),
        (&format!("{bytes} --top-k 0"), &["`top_k` is 0"]),
        (&format!("{bytes} --top-p 1.5"), &["`top_p` is 1.5"]),
        (&format!("{bytes} --repetition-penalty 0"), &["`repetition_penalty` is 0"]),
    ] {
        sandbox.run(&format!("generate {arguments} --device ndarray")).refused(words);
    }
    sandbox.write("image.png", process::images::encoded(image::ImageFormat::Png));
    sandbox
        .run("predict --model gpt.safetensors --device ndarray image.png")
        .refused(&["gpt.safetensors", "language model"]);
}
