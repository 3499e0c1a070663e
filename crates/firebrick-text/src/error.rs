//! What can go wrong between a text and its ids, in words a user can act on.

use std::path::{Path, PathBuf};

/// An error of a tokenizer; its message names the file, the value and the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// A file or folder that cannot be read.
    #[error("{}: cannot be read ({source}). Check that it exists and that you may read it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file longer than any tokenizer.
    #[error("{}: is {bytes} bytes long, a tokenizer's file has at most {limit}. Is it the tokenizer's?", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length, or the least that it is known to be.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file that is no tokenizer, or one that cannot be used.
    #[error(
        "{}: not a usable tokenizer: {reason}. Give a tokenizer.json, BERT's vocab.txt, or GPT-2's vocab.json with merges.txt beside it",
        path.display()
    )]
    NotATokenizer {
        /// The file, or what else the tokenizer was read from.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder without any of the files that a tokenizer is read from.
    #[error(
        "{}: holds no tokenizer. Put a tokenizer.json, BERT's vocab.txt, or GPT-2's vocab.json and merges.txt there",
        path.display()
    )]
    NoTokenizerIn {
        /// The folder.
        path: PathBuf,
    },
    /// A text of more tokens than asked for.
    #[error(
        "the text \"{text}\" has {tokens} tokens, at most {most} are possible. Shorten it, or allow it to be truncated"
    )]
    TooLong {
        /// The beginning of the text.
        text: String,
        /// Its tokens, with those that the tokenizer adds.
        tokens: usize,
        /// How many are possible.
        most: usize,
    },
    /// A limit below the number of tokens that the tokenizer itself adds.
    #[error("at most {most} tokens leave no room for text: this tokenizer adds {added} of its own. Allow at least {}", added + 1)]
    NoRoom {
        /// The limit.
        most: usize,
        /// Tokens that are always added.
        added: usize,
    },
    /// An id that stands for no token.
    #[error("token {position}: id {id} is not in the vocabulary, whose ids are below {size}")]
    UnknownId {
        /// The id.
        id: u32,
        /// Its place among the ids, from 0.
        position: usize,
        /// One more than the largest id.
        size: usize,
    },
    /// What the tokenizer itself says of a text or of ids.
    #[error("the tokenizer refuses \"{text}\": {reason}")]
    Refused {
        /// The beginning of the text, or the ids.
        text: String,
        /// What it said.
        reason: String,
    },
}

impl TextError {
    pub(crate) fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn unusable(path: &Path, reason: impl ToString) -> Self {
        Self::NotATokenizer { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// The beginning of a text, short enough for a message.
pub(crate) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
