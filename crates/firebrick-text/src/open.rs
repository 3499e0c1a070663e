//! Tokenizers from the files that models are published with.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::{TextError, Tokenizer};

/// No honest tokenizer is larger, bytes; the largest vocabularies in use take a third of it.
const MAX_BYTES: u64 = 64 << 20;

/// Tokens of which BERT's vocabularies have each.
const BERT_TOKENS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

impl Tokenizer {
    /// Reads a tokenizer.
    ///
    /// `path` is a `tokenizer.json`; BERT's `vocab.txt`, a WordPiece a line; GPT-2's `vocab.json`, with `merges.txt` beside it;
    /// or a folder with one of them, looked for in this order. A `vocab.txt` is of lower-case text, without accents, unless the
    /// `tokenizer_config.json` beside it says otherwise (`do_lower_case`, `strip_accents`, `tokenize_chinese_chars`), as in
    /// transformers.
    ///
    /// # Errors
    ///
    /// [`TextError::Read`], [`TextError::TooLarge`], [`TextError::NotATokenizer`] or [`TextError::NoTokenizerIn`], each naming the
    /// file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, TextError> {
        let path = path.as_ref();
        if path.is_dir() {
            let found = ["tokenizer.json", "vocab.txt", "vocab.json"]
                .into_iter()
                .map(|name| path.join(name))
                .find(|file| file.is_file());
            return match found {
                Some(file) => Self::open(file),
                None => Err(TextError::NoTokenizerIn { path: path.to_owned() }),
            };
        }
        let text = read(path)?;
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        if extension == "txt" {
            return word_piece(path, &text);
        }
        let json: Value = serde_json::from_str(&text)
            .map_err(|error| TextError::unusable(path, format!("it is no JSON ({error})")))?;
        match json {
            Value::Object(vocabulary) if !vocabulary.contains_key("model") && is_vocabulary(&vocabulary) => {
                byte_pairs(path, &vocabulary)
            }
            _ => Self::of_json(path, &text),
        }
    }
}

fn is_vocabulary(json: &Map<String, Value>) -> bool {
    !json.is_empty() && json.values().all(Value::is_u64)
}

/// GPT-2's tokenizer: pieces of bytes, Radford et al. 2019.
fn byte_pairs(path: &Path, vocabulary: &Map<String, Value>) -> Result<Tokenizer, TextError> {
    let merges_path = path.with_file_name("merges.txt");
    let mut merges = Vec::new();
    for (index, line) in read(&merges_path)?.lines().enumerate() {
        // The first line tells a version.
        if line.is_empty() || (index == 0 && line.starts_with("#version")) {
            continue;
        }
        let wrong =
            |reason: String| TextError::unusable(&merges_path, format!("line {}: {reason}", index + 1));
        let Some((first, second)) = line.split_once(' ').filter(|(_, second)| !second.contains(' ')) else {
            return Err(wrong(format!("`{line}` is not two tokens with a space between them")));
        };
        for token in [first, second, &format!("{first}{second}")] {
            if !vocabulary.contains_key(token) {
                return Err(wrong(format!("the token `{token}` is not in {}", path.display())));
            }
        }
        merges.push(json!([first, second]));
    }
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let end = "<|endoftext|>";
    let added: Vec<Value> =
        vocabulary.get(end).map(|id| special(id.as_u64().unwrap_or_default(), end)).into_iter().collect();
    let json = json!({
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": byte_level,
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": { "type": "BPE", "vocab": vocabulary, "merges": merges },
    });
    Tokenizer::of_json(path, &json.to_string())
}

/// BERT's tokenizer: words, then pieces of words, Devlin et al. 2019.
fn word_piece(path: &Path, text: &str) -> Result<Tokenizer, TextError> {
    let mut vocabulary = Map::new();
    for (index, line) in text.lines().enumerate() {
        let token = line.trim_end();
        if let Some(before) = vocabulary.insert(token.to_owned(), json!(index)) {
            let reason = format!(
                "line {}: the token `{token}` is on line {} too",
                index + 1,
                before.as_u64().unwrap_or(0) + 1
            );
            return Err(TextError::unusable(path, reason));
        }
    }
    let known: HashSet<&str> = vocabulary.keys().map(String::as_str).collect();
    if let Some(missing) = BERT_TOKENS.iter().find(|token| !known.contains(**token)) {
        return Err(TextError::unusable(
            path,
            format!("it has {} lines, and none of them is {missing}", vocabulary.len()),
        ));
    }
    let id = |token: &str| vocabulary[token].as_u64().unwrap_or_default();
    let mut added: Vec<Value> = BERT_TOKENS.iter().map(|token| special(id(token), token)).collect();
    added.sort_by_key(|token| token["id"].as_u64());
    let settings = Settings::beside(path)?;
    let json = json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": settings.chinese_characters,
            "strip_accents": settings.strip_accents,
            "lowercase": settings.lowercase,
        },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": {
            "type": "BertProcessing",
            "sep": ["[SEP]", id("[SEP]")],
            "cls": ["[CLS]", id("[CLS]")],
        },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocabulary,
        },
    });
    Tokenizer::of_json(path, &json.to_string())
}

fn special(id: u64, token: &str) -> Value {
    json!({
        "id": id, "content": token, "special": true,
        "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
    })
}

/// What transformers keeps of BERT's tokenizer outside its vocabulary.
struct Settings {
    lowercase: bool,
    /// None: where the text is made lower-case.
    strip_accents: Option<bool>,
    chinese_characters: bool,
}

impl Settings {
    fn beside(vocabulary: &Path) -> Result<Self, TextError> {
        let path: PathBuf = vocabulary.with_file_name("tokenizer_config.json");
        let json: Value = match path.is_file() {
            false => Value::Null,
            true => serde_json::from_str(&read(&path)?)
                .map_err(|error| TextError::unusable(&path, format!("it is no JSON ({error})")))?,
        };
        let flag = |name: &str| json.get(name).and_then(Value::as_bool);
        Ok(Self {
            lowercase: flag("do_lower_case").unwrap_or(true),
            strip_accents: flag("strip_accents"),
            chinese_characters: flag("tokenize_chinese_chars").unwrap_or(true),
        })
    }
}

/// A file as text.
fn read(path: &Path) -> Result<String, TextError> {
    let file = File::open(path).map_err(TextError::read(path))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(TextError::read(path))?;
    let length = bytes.len() as u64;
    if length > MAX_BYTES {
        return Err(TextError::TooLarge { path: path.to_owned(), bytes: length, limit: MAX_BYTES });
    }
    String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        TextError::unusable(path, format!("byte {place} is not UTF-8 text"))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::EncodeOptions;

    const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\nÄ\n";

    /// What is said of a file of this name with this content, alone in its folder but for `beside`.
    fn said(name: &str, content: impl AsRef<[u8]>, beside: &[(&str, &str)]) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, content) in beside {
            fs::write(folder.path().join(name), content).expect("written");
        }
        let path = folder.path().join(name);
        fs::write(&path, content).expect("written");
        Tokenizer::open(&path).expect_err("refused").to_string()
    }

    #[track_caller]
    fn assert_has(message: &str, words: &[&str]) {
        for word in words {
            assert!(message.contains(word), "`{word}` is not in: {message}");
        }
    }

    #[test]
    fn a_folder_is_searched_for_the_files_of_a_tokenizer() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_has(
            &Tokenizer::open(folder.path()).expect_err("empty").to_string(),
            &["holds no tokenizer", "vocab.txt"],
        );
        fs::write(folder.path().join("vocab.txt"), VOCABULARY).expect("written");
        let tokenizer = Tokenizer::open(folder.path()).expect("a vocabulary");
        assert_eq!(tokenizer.origin(), folder.path().join("vocab.txt"));
        assert_eq!((tokenizer.vocabulary_size(), tokenizer.pad()), (8, 0));
        // tokenizer.json comes first.
        fs::write(folder.path().join("tokenizer.json"), Tokenizer::bytes().to_json().expect("bytes"))
            .expect("written");
        assert_eq!(Tokenizer::open(folder.path()).expect("bytes").vocabulary_size(), 256);
    }

    #[test]
    fn a_vocabulary_is_of_lower_case_unless_its_configuration_says_otherwise() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("vocab.txt");
        fs::write(&path, VOCABULARY).expect("written");
        let ids = || {
            Tokenizer::open(&path)
                .expect("right")
                .encode("Ä ab", &EncodeOptions::default())
                .expect("any text")
                .ids
        };
        assert_eq!(ids(), [2, 5, 5, 6, 3]);
        fs::write(folder.path().join("tokenizer_config.json"), r#"{"do_lower_case": false}"#)
            .expect("written");
        assert_eq!(ids(), [2, 7, 5, 6, 3]);
        fs::write(folder.path().join("tokenizer_config.json"), "{").expect("written");
        assert_has(
            &Tokenizer::open(&path).expect_err("no JSON").to_string(),
            &["tokenizer_config.json", "no JSON"],
        );
    }

    #[test]
    fn what_is_no_tokenizer_is_told_why() {
        assert_has(
            &Tokenizer::open("nowhere/tokenizer.json").expect_err("absent").to_string(),
            &["nowhere", "cannot be read"],
        );
        for (name, content, words) in [
            ("tokenizer.json", &b"{\"model\": "[..], &["tokenizer.json", "no JSON"][..]),
            ("tokenizer.json", b"[]", &["describes no model"]),
            ("tokenizer.json", b"{\"model\": {\"type\": \"Unigram\", \"vocab\": []}}", &["Unigram", "WordPiece"]),
            ("tokenizer.json", b"{\"model\": {\"type\": \"BPE\", \"vocab\": {}, \"merges\": []}}", &["vocabulary is empty"]),
            ("tokenizer.json", b"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": -1}, \"merges\": []}}", &["not a usable tokenizer"]),
            (
                "tokenizer.json",
                br#"{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "c"]]}}"#,
                &["`c`"],
            ),
            (
                "tokenizer.json",
                br#"{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]], "continuing_subword_prefix": "@@@@"}}"#,
                &["[\"a\",\"b\"]", "@@@@"],
            ),
            (
                "tokenizer.json",
                br#"{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]}}"#,
                &["needs the token `ab`"],
            ),
            (
                "tokenizer.json",
                br#"{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}, "post_processor": {
                    "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}], "pair": [],
                    "special_tokens": {}}}"#,
                &["template", "[CLS]"],
            ),
            ("vocab.txt", b"a\nb\n", &["2 lines", "[PAD]"]),
            ("vocab.txt", b"", &["0 lines"]),
            ("vocab.txt", b"a\nb\na\n", &["line 3", "`a`", "line 1"]),
            ("vocab.txt", b"a\n\xff\n", &["byte 2 is not UTF-8"]),
            ("vocab.json", b"{\"a\": 0}", &["merges.txt", "cannot be read"]),
            ("vocab.json", b"{\"a\": \"b\"}", &["describes no model"]),
        ] {
            assert_has(&said(name, content, &[]), words);
        }
        for (merges, words) in [
            ("#version: 0.2\na b c\n", &["merges.txt", "line 2", "`a b c`"][..]),
            ("a b\n", &["line 1", "`ab`", "vocab.json"]),
            ("a z\n", &["line 1", "`z`"]),
        ] {
            assert_has(&said("vocab.json", "{\"a\": 0, \"b\": 1}", &[("merges.txt", merges)]), words);
        }
    }

    /// Over each of these the tokenizers crate panics: on reading it, or on the first text.
    #[test]
    fn parts_that_would_panic_are_refused_by_what_they_ask_for() {
        for (component, content, words) in [
            ("normalizer", r#"{"type": "Precompiled", "precompiled_charsmap": "AAAA"}"#, "SentencePiece"),
            (
                "normalizer",
                r#"{"type": "Sequence", "normalizers": [{"type": "Lowercase"}, {"type": "Precompiled", "precompiled_charsmap": ""}]}"#,
                "SentencePiece",
            ),
            (
                "normalizer",
                r#"{"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": ""}, "content": "b"}, {"type": "Lowercase"}]}"#,
                "no character",
            ),
            (
                "normalizer",
                r#"{"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"Regex": "(?=a)"}, "content": "b"}, {"type": "Lowercase"}]}"#,
                "no character",
            ),
            (
                "normalizer",
                r#"{"type": {"Precompiled": null}, "precompiled_charsmap": "AAAA"}"#,
                "which is no name",
            ),
            ("pre_tokenizer", r#"{"type": "FixedLength", "length": 0}"#, "0 characters"),
            ("decoder", r#"{"type": "Strip", "content": "a", "start": 1, "stop": 1}"#, "takes 1 characters"),
            ("decoder", r#"{"content": "a", "start": 0, "stop": 1000}"#, "takes 1000 characters"),
            ("decoder", r#"["a", 0, 1000]"#, "a list"),
            (
                "post_processor",
                r#"{"type": "TemplateProcessing", "single": [{"Sequence": {"id": "B", "type_id": 0}}], "pair": [], "special_tokens": {}}"#,
                "nor a text that is there",
            ),
            (
                "post_processor",
                r#"{"single": [{"Sequence": ["B", 0]}], "pair": [], "special_tokens": {}}"#,
                "nor a text that is there",
            ),
            (
                "post_processor",
                r#"{"type": "Sequence", "processors": [{"single": [], "pair": [], "special_tokens": {}}, {"single": [], "pair": [], "special_tokens": {}}]}"#,
                "another one made",
            ),
        ] {
            let content = format!(
                r#"{{"model": {{"type": "BPE", "vocab": {{"a": 0, "b": 1}}, "merges": []}}, "{component}": {content}}}"#
            );
            assert_has(&said("tokenizer.json", &content, &[]), &["tokenizer.json", words]);
        }
        // A decoder may replace what is not there.
        let replaces = r#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
            "decoder": {"type": "Replace", "pattern": {"Regex": "^ ?"}, "content": ""}}"#;
        let tokenizer = Tokenizer::of_json(std::path::Path::new("own"), replaces).expect("right");
        assert_eq!(tokenizer.decode(&[0]).expect("decoded"), "a");
        // Of what is said twice, what is checked is what counts.
        let twice = br#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
            "normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}, "normalizer": null}"#;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokenizer.json");
        fs::write(&path, twice).expect("written");
        assert_eq!(Tokenizer::open(&path).expect("the last is right").vocabulary_size(), 1);
    }

    #[test]
    fn a_file_that_is_too_long_is_not_read_to_its_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokenizer.json");
        File::create(&path).expect("made").set_len(MAX_BYTES + 5).expect("sparse");
        assert_has(
            &Tokenizer::open(&path).expect_err("long").to_string(),
            &["tokenizer.json", "at most 67108864"],
        );
    }
}
