//! What must be right in a tokenizer.json before the tokenizers crate may have it.
//!
//! It checks most of a file by itself, and panics over some of the rest.

use serde_json::{Map, Value};
use tokenizers::utils::SysRegex;

/// Models that are read: those of BERT, of GPT, and of word lists.
const MODELS: [&str; 3] = ["WordPiece", "BPE", "WordLevel"];

/// What is wrong with a description, if something is.
pub(crate) fn check(json: &Value) -> Result<(), String> {
    let model = json.get("model").filter(|model| model.is_object()).ok_or("it describes no model")?;
    let vocabulary = model.get("vocab").and_then(Value::as_object);
    if let Some(kind) = model.get("type").filter(|kind| !kind.is_string()) {
        return Err(format!("its model's type is {kind}, which is no name"));
    }
    let kind = model["type"].as_str().unwrap_or(match (model.get("merges"), &vocabulary) {
        // Files of old do not name the type.
        (Some(_), _) => "BPE",
        (None, Some(_)) => "WordPiece",
        _ => "unknown",
    });
    if !MODELS.contains(&kind) {
        return Err(format!("its model is of type {kind}, read are {}", MODELS.join(", ")));
    }
    let vocabulary = vocabulary.ok_or("its model has no vocabulary")?;
    if vocabulary.is_empty() {
        return Err("its vocabulary is empty".to_owned());
    }
    if kind == "BPE" {
        let prefix = model.get("continuing_subword_prefix").and_then(Value::as_str).unwrap_or_default();
        check_merges(&model["merges"], prefix, vocabulary)?;
    }
    for component in ["normalizer", "pre_tokenizer", "decoder"] {
        each(&json[component], &mut check_part)?;
    }
    each(&json["normalizer"], &mut check_replacement)?;
    let mut templates = 0;
    each(&json["post_processor"], &mut |part| {
        templates += usize::from(part.get("single").is_some());
        match templates {
            0 | 1 => check_template(part),
            _ => Err("it applies a template to what another one made".to_owned()),
        }
    })
}

/// The parts of a component: those of a sequence one by one, in their order.
fn each(component: &Value, check: &mut impl FnMut(&Value) -> Result<(), String>) -> Result<(), String> {
    // The tokenizers crate takes a list for the fields of a part, in their order.
    if component.is_array() {
        return Err("one of its parts is a list".to_owned());
    }
    for parts in ["normalizers", "pretokenizers", "processors", "decoders"] {
        component[parts].as_array().into_iter().flatten().try_for_each(|part| each(part, check))?;
    }
    // It takes an object of one key for a name, too.
    if component.get("type").is_some_and(|kind| !kind.is_string()) {
        return Err(format!("the type of one of its parts is {}, which is no name", component["type"]));
    }
    check(component)
}

/// The second part of a merge loses its prefix, and what they make is a token.
fn check_merges(merges: &Value, prefix: &str, vocabulary: &Map<String, Value>) -> Result<(), String> {
    for merge in merges.as_array().into_iter().flatten() {
        let pair = match merge {
            Value::Array(pair) => pair.first().zip(pair.get(1)).and_then(|(a, b)| a.as_str().zip(b.as_str())),
            text => text
                .as_str()
                .filter(|text| !text.starts_with("#version"))
                .and_then(|text| text.split_once(' ')),
        };
        // What is none, the tokenizers crate says.
        let Some((first, second)) = pair else { continue };
        let Some(rest) = second.strip_prefix(prefix) else {
            return Err(format!("the second part of the merge {merge} does not begin with `{prefix}`"));
        };
        let merged = format!("{first}{rest}");
        for token in [first, second, &merged] {
            if !vocabulary.contains_key(token) {
                return Err(format!(
                    "the merge {merge} needs the token `{token}`, which its vocabulary lacks"
                ));
            }
        }
    }
    Ok(())
}

/// What a normalizer, pre-tokenizer or decoder may not ask for. The tokenizers crate knows some by their fields alone, whatever type they
/// name.
fn check_part(part: &Value) -> Result<(), String> {
    if part["type"] == "Precompiled" {
        return Err("its normalizer is a table that SentencePiece compiled, which is not read".to_owned());
    }
    if part["length"] == 0 {
        return Err("it cuts texts into pieces of 0 characters".to_owned());
    }
    if part["stop"].as_u64().is_some_and(|stop| stop > 0) {
        let stop = &part["stop"];
        return Err(format!(
            "its decoder takes {stop} characters off the ends of tokens, which may have fewer"
        ));
    }
    Ok(())
}

/// A normalizer keeps account of each character; where a replaced one is none, the tokenizers crate loses count.
fn check_replacement(part: &Value) -> Result<(), String> {
    match part.get("content").is_some() && may_match_nothing(&part["pattern"]) {
        true => Err(format!("it replaces {}, which may stand for no character at all", part["pattern"])),
        false => Ok(()),
    }
}

/// Whether a pattern finds a place between characters at the beginning of some text.
fn may_match_nothing(pattern: &Value) -> bool {
    if pattern["String"] == "" {
        return true;
    }
    let Some(Ok(pattern)) = pattern["Regex"].as_str().map(SysRegex::new) else { return false };
    let texts = (' '..='~').chain(['\n', 'é', '漢', '▁']).map(String::from);
    texts.into_iter().any(|text| pattern.find_iter(&text).next() == Some((0, 0)))
}

/// A template may only use the special tokens that it defines, and of a single text no second one.
fn check_template(processor: &Value) -> Result<(), String> {
    for name in ["single", "pair"] {
        for piece in processor[name].as_array().into_iter().flatten() {
            let known = match ["/SpecialToken/id", "/Sequence/id"].map(|id| piece.pointer(id)) {
                [Some(Value::String(token)), None] => processor["special_tokens"].get(token).is_some(),
                [None, Some(text)] => text == "A" || name == "pair",
                _ => false,
            };
            if !known {
                return Err(format!(
                    "its template `{name}` uses {piece}, which is neither a special token that it defines nor a text that is there"
                ));
            }
        }
    }
    Ok(())
}
