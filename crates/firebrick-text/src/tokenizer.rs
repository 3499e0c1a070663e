//! A tokenizer: text to ids and back.

use std::path::{Path, PathBuf};

use tokenizers::models::ModelWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::{PostProcessor, TruncationParams, truncate_encodings};

use crate::error::excerpt;
use crate::{EncodeOptions, Encoding, TextError, WhenTooLong, trusted_json};

/// Text to token ids and back.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// What it was read from.
    origin: PathBuf,
    /// One more than the largest id.
    size: usize,
    /// Whether characters that it does not know would vanish.
    pub(crate) leaves_out: bool,
}

impl Tokenizer {
    /// The tokenizer that a `tokenizer.json` describes; `origin` is the file's name in messages.
    ///
    /// The file's own truncation and padding, and the dropout of its merges, are left out of account: [`EncodeOptions`] and
    /// [`TokenBatch`](crate::TokenBatch) say what is wanted.
    ///
    /// # Errors
    ///
    /// [`TextError::NotATokenizer`].
    pub fn of_json(origin: &Path, json: &str) -> Result<Self, TextError> {
        let mut value: serde_json::Value = serde_json::from_str(json)
            .map_err(|error| TextError::unusable(origin, format!("it is no JSON ({error})")))?;
        trusted_json::check(&value).map_err(|reason| TextError::unusable(origin, reason))?;
        // It leaves out merges by chance; here, the same text has the same ids.
        value["model"].as_object_mut().and_then(|model| model.remove("dropout"));
        // Not the text itself: where it says a thing twice, another part may count than the one that was checked.
        let inner = tokenizers::Tokenizer::from_bytes(value.to_string())
            .map_err(|error| TextError::unusable(origin, error))?;
        Self::new(inner, origin)
    }

    pub(crate) fn new(mut inner: tokenizers::Tokenizer, origin: &Path) -> Result<Self, TextError> {
        let refused = |error: tokenizers::Error| TextError::unusable(origin, error);
        inner.with_truncation(None).map_err(refused)?;
        inner.with_padding(None);
        let size = inner.get_vocab(true).into_values().max().map_or(0, |largest| largest as usize + 1);
        let byte_level = matches!(inner.get_pre_tokenizer(), Some(PreTokenizerWrapper::ByteLevel(_)));
        let leaves_out = match inner.get_model() {
            ModelWrapper::BPE(model) => {
                model.unk_token.is_none() && !model.byte_fallback && !byte_level && is_of_characters(&inner)
            }
            _ => false,
        };
        Ok(Self { inner, origin: origin.to_owned(), size, leaves_out })
    }

    /// What it was read from.
    pub fn origin(&self) -> &Path {
        &self.origin
    }

    /// Rows that a table of embeddings needs: one more than the largest id.
    pub fn vocabulary_size(&self) -> usize {
        self.size
    }

    /// The id of a token, such as `[PAD]` or `<|endoftext|>`.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token of an id.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id to fill up with: that of BERT's `[PAD]`, else of GPT-2's `<|endoftext|>`, else 0. The filling is masked, so any id
    /// does.
    pub fn pad(&self) -> u32 {
        ["[PAD]", "<pad>", "<|endoftext|>"].into_iter().find_map(|token| self.id(token)).unwrap_or(0)
    }

    /// The ids of a text.
    ///
    /// A special token that is written out in the text, such as `[SEP]`, becomes that token, as in transformers.
    ///
    /// # Errors
    ///
    /// [`TextError::TooLong`] if that is asked for, [`TextError::NoRoom`], and [`TextError::Refused`] for a character that is not in
    /// a vocabulary of characters.
    pub fn encode(&self, text: &str, options: &EncodeOptions) -> Result<Encoding, TextError> {
        self.encode_parts(text, None, options)
    }

    /// The ids of a pair of texts, such as a question and its answer. Where they are too long, the longer one is cut first.
    ///
    /// # Errors
    ///
    /// Those of [`encode`](Self::encode).
    pub fn encode_pair(
        &self,
        first: &str,
        second: &str,
        options: &EncodeOptions,
    ) -> Result<Encoding, TextError> {
        self.encode_parts(first, Some(second), options)
    }

    /// The ids of several texts, in their order.
    ///
    /// # Errors
    ///
    /// Those of [`encode`](Self::encode), for the first text that has one.
    pub fn encode_all<T: AsRef<str>>(
        &self,
        texts: &[T],
        options: &EncodeOptions,
    ) -> Result<Vec<Encoding>, TextError> {
        texts.iter().map(|text| self.encode(text.as_ref(), options)).collect()
    }

    fn encode_parts(
        &self,
        text: &str,
        second: Option<&str>,
        options: &EncodeOptions,
    ) -> Result<Encoding, TextError> {
        let refused =
            |error: tokenizers::Error| TextError::Refused { text: excerpt(text), reason: error.to_string() };
        let tokens_of = |text: &str| {
            self.check_known(text)?;
            self.inner.encode_fast(text, false).map_err(refused)
        };
        let mut first = tokens_of(text)?;
        let mut second = second.map(tokens_of).transpose()?;
        let processor = self.inner.get_post_processor().filter(|_| options.special_tokens);
        let added = processor.map_or(0, |processor| processor.added_tokens(second.is_some()));
        let length = first.len() + second.as_ref().map_or(0, |second| second.len());
        let most = options.max_tokens.unwrap_or(usize::MAX);
        let mut dropped = 0;
        if added > most || (added == most && length > 0) {
            return Err(TextError::NoRoom { most, added });
        }
        if length > most - added {
            if options.when_too_long == WhenTooLong::Refuse {
                return Err(TextError::TooLong { text: excerpt(text), tokens: length + added, most });
            }
            dropped = length - (most - added);
            let params = TruncationParams { max_length: most - added, ..TruncationParams::default() };
            (first, second) = truncate_encodings(first, second, &params).map_err(refused)?;
            // The parts cut off are of no use, and would be processed too.
            first.take_overflowing();
            second.as_mut().map(tokenizers::Encoding::take_overflowing);
        }
        let whole = match (self.inner.get_post_processor(), second) {
            (Some(processor), second) => {
                processor.process(first, second, options.special_tokens).map_err(refused)?
            }
            (None, None) => first,
            (None, Some(mut second)) => {
                let types = vec![1; second.len()];
                second.set_type_ids(types);
                tokenizers::Encoding::merge([first, second], false)
            }
        };
        Ok(Encoding { ids: whole.get_ids().to_vec(), types: whole.get_type_ids().to_vec(), dropped })
    }

    /// The text of ids, without special tokens. Bytes that make no character become U+FFFD.
    ///
    /// # Errors
    ///
    /// [`TextError::UnknownId`] naming the id.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        if let Some(position) = ids.iter().position(|&id| self.token(id).is_none()) {
            return Err(TextError::UnknownId { id: ids[position], position, size: self.size });
        }
        self.inner.decode(ids, true).map_err(|error| TextError::Refused {
            text: format!("{:?}", &ids[..ids.len().min(8)]),
            reason: error.to_string(),
        })
    }

    /// Its description, to be read by [`of_json`](Self::of_json) or by Python's tokenizers. The same tokenizer gives the same
    /// bytes.
    ///
    /// # Errors
    ///
    /// [`TextError::NotATokenizer`] if a part of it has no description.
    pub fn to_json(&self) -> Result<String, TextError> {
        self.inner.to_string(false).map_err(|error| TextError::unusable(&self.origin, error))
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({}, {} tokens)", self.origin.display(), self.size)
    }
}

/// Whether every token but the special ones is one character.
fn is_of_characters(inner: &tokenizers::Tokenizer) -> bool {
    let added = inner.get_added_vocabulary().get_vocab();
    let tokens = inner.get_vocab(false);
    tokens.keys().filter(|token| !added.contains_key(*token)).all(|token| token.chars().count() == 1)
}
