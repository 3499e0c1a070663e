//! What must be right in a tokenizer.json before the tokenizers crate may have it.
//!
//! It checks most of a file by itself, and panics over some of the rest.

use serde_json::Value;

/// Models that are read: those of BERT, of GPT, and of word lists.
const MODELS: [&str; 3] = ["WordPiece", "BPE", "WordLevel"];

/// What is wrong with a description, if something is.
pub(crate) fn check(json: &Value) -> Result<(), String> {
    let model = json.get("model").filter(|model| model.is_object()).ok_or("it describes no model")?;
    let vocabulary = model.get("vocab").and_then(Value::as_object);
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
    let prefix = model.get("continuing_subword_prefix").and_then(Value::as_str).unwrap_or_default();
    if kind == "BPE" && !prefix.is_empty() {
        check_merges(&model["merges"], prefix)?;
    }
    check_template(&json["post_processor"])
}

/// The second part of a merge loses its prefix.
fn check_merges(merges: &Value, prefix: &str) -> Result<(), String> {
    for merge in merges.as_array().into_iter().flatten() {
        let second = match merge {
            Value::Array(pair) => pair.get(1).and_then(Value::as_str),
            text => text.as_str().and_then(|text| text.split_once(' ')).map(|(_, second)| second),
        };
        if !second.is_some_and(|second| second.starts_with(prefix)) {
            return Err(format!("the second part of the merge {merge} does not begin with `{prefix}`"));
        }
    }
    Ok(())
}

/// A template may only use the special tokens that it defines.
fn check_template(processor: &Value) -> Result<(), String> {
    if processor["type"] == "Sequence" {
        let mut processors = processor["processors"].as_array().into_iter().flatten();
        return processors.try_for_each(check_template);
    }
    if processor["type"] != "TemplateProcessing" {
        return Ok(());
    }
    for part in ["single", "pair"] {
        for piece in processor[part].as_array().into_iter().flatten() {
            if let Some(token) = piece.pointer("/SpecialToken/id").and_then(Value::as_str)
                && processor["special_tokens"].get(token).is_none()
            {
                return Err(format!("its template uses the token {token} and does not define it"));
            }
        }
    }
    Ok(())
}
