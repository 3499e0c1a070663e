//! Tokenizers that need no file: a token a byte, and a token a character.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::error::excerpt;
use crate::{TextError, Tokenizer};

impl Tokenizer {
    /// A token for each of the 256 bytes: every text can be encoded, and nothing has to be learnt.
    ///
    /// The id of a token is the byte's value.
    pub fn bytes() -> Self {
        let vocabulary: serde_json::Map<String, Value> =
            (0..=255u8).map(|byte| (byte_character(byte).to_string(), json!(byte))).collect();
        let json = json!({
            "version": "1.0",
            "added_tokens": [],
            "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false },
            "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false },
            "model": { "type": "BPE", "vocab": vocabulary, "merges": [] },
        });
        Self::of_json(Path::new("the byte vocabulary"), &json.to_string()).expect("a right description")
    }

    /// A token for each different character of `text`, in the order of their code points.
    ///
    /// Another text can be encoded if it has no other characters.
    ///
    /// # Errors
    ///
    /// [`TextError::NotATokenizer`] if the text is empty.
    pub fn characters(text: &str) -> Result<Self, TextError> {
        let characters: BTreeSet<char> = text.chars().collect();
        if characters.is_empty() {
            return Err(TextError::unusable(Path::new("the character vocabulary"), "the text is empty"));
        }
        let vocabulary: serde_json::Map<String, Value> =
            characters.iter().enumerate().map(|(id, character)| (character.to_string(), json!(id))).collect();
        let json = json!({
            "version": "1.0",
            "added_tokens": [],
            "decoder": { "type": "Fuse" },
            "model": { "type": "BPE", "vocab": vocabulary, "merges": [] },
        });
        Self::of_json(Path::new("the character vocabulary"), &json.to_string())
    }

    /// The first character of a text that no token stands for, where the tokenizer would pass over it.
    ///
    /// A byte-pair vocabulary without a token for the unknown leaves out what it does not know; a byte vocabulary knows
    /// everything.
    pub(crate) fn check_known(&self, text: &str) -> Result<(), TextError> {
        if !self.leaves_out {
            return Ok(());
        }
        match text.chars().find(|character| self.id(&character.to_string()).is_none()) {
            None => Ok(()),
            Some(character) => Err(TextError::Refused {
                text: excerpt(text),
                reason: format!(
                    "the character '{}' (U+{:04X}) is not in its vocabulary of {} characters",
                    character.escape_debug(),
                    u32::from(character),
                    self.vocabulary_size()
                ),
            }),
        }
    }
}

/// The character that stands for a byte in GPT-2's vocabularies: printable bytes stand for themselves, the others for
/// U+0100 and on, in order.
fn byte_character(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&other| !printable(other)).count() as u32;
    char::from_u32(0x100 + before).expect("below the surrogates")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EncodeOptions;

    #[test]
    fn a_byte_is_its_own_id() {
        let tokenizer = Tokenizer::bytes();
        assert_eq!(tokenizer.vocabulary_size(), 256);
        let all: Vec<u8> = (0..128).collect();
        let mut text = String::from_utf8(all).expect("ASCII");
        text.push_str("Größe 漢字 👩‍🚀 \u{7ff}\u{ffff}\u{10ffff}");
        let ids = tokenizer.encode(&text, &EncodeOptions::default()).expect("any text").ids;
        assert_eq!(ids, text.bytes().map(u32::from).collect::<Vec<_>>());
        assert_eq!(tokenizer.decode(&ids).expect("known"), text);
        // Bytes above 0xF4 are in no text.
        assert_eq!(tokenizer.decode(&[65, 0xFF]).expect("known"), "A\u{fffd}");
    }

    #[test]
    fn a_character_is_a_token_and_others_are_refused_by_name() {
        let tokenizer = Tokenizer::characters("hello\n wörld").expect("not empty");
        assert_eq!(tokenizer.vocabulary_size(), 10);
        let text = "whole\nör ow  ld";
        let ids = tokenizer.encode(text, &EncodeOptions::default()).expect("known").ids;
        assert_eq!(ids.len(), text.chars().count());
        assert_eq!(tokenizer.decode(&ids).expect("known"), text);
        let message = tokenizer.encode("hex", &EncodeOptions::default()).expect_err("x").to_string();
        assert!(message.contains("'x' (U+0078)") && message.contains("10 characters"), "{message}");
        assert!(Tokenizer::characters("").is_err());
    }
}
