//! The token ids of a text.

/// How a text becomes ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Most tokens of a text, with those that the tokenizer adds; no limit by default.
    pub max_tokens: Option<usize>,
    /// What happens to a longer text; by default its end is cut off.
    pub when_too_long: WhenTooLong,
    /// Whether the tokenizer's own tokens are added, such as BERT's `[CLS]` and `[SEP]`; true by default.
    pub special_tokens: bool,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        Self { max_tokens: None, when_too_long: WhenTooLong::Truncate, special_tokens: true }
    }
}

/// What happens to a text of more tokens than are possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenTooLong {
    /// Its end is cut off; [`Encoding::dropped`] says how much.
    #[default]
    Truncate,
    /// It is an error.
    Refuse,
}

/// The token ids of a text, or of a pair of texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Rows of the vocabulary.
    pub ids: Vec<u32>,
    /// BERT's token types: 0, and 1 for the second text of a pair.
    pub types: Vec<u32>,
    /// Tokens of the text that were cut off.
    pub dropped: usize,
}
