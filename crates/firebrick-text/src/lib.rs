//! Text to token ids and back, as Hugging Face's tokenizers have it.
//!
//! - [`Tokenizer::open`] reads a `tokenizer.json`, BERT's `vocab.txt`, GPT-2's `vocab.json` with `merges.txt`, or the folder
//!   they lie in; [`Tokenizer::bytes`] and [`Tokenizer::characters`] need no file.
//! - [`Tokenizer::encode`] makes token ids of a text, within the length that a model takes; [`EncodeOptions`] says whether
//!   the rest is cut off or refused.
//! - [`TokenBatch`] puts several texts into one rectangle, with the mask and the types that BERT wants.
//! - [`Tokenizer::decode`] makes text of ids, and [`TextStream`] does so while they are still coming.
//!
//! This crate knows nothing of tensors or models: what the ids are looked up in, is up to its user.
//!
//! ```
//! use firebrick_text::{EncodeOptions, TokenBatch, Tokenizer};
//!
//! let tokenizer = Tokenizer::characters("to be or not")?;
//! let encoding = tokenizer.encode("bet", &EncodeOptions::default())?;
//! assert_eq!(tokenizer.decode(&encoding.ids)?, "bet");
//!
//! let options = EncodeOptions { max_tokens: Some(4), ..EncodeOptions::default() };
//! let batch = TokenBatch::new(&tokenizer.encode_all(&["be", "not to be"], &options)?, 0);
//! assert_eq!((batch.rows, batch.tokens), (2, 4));
//! assert_eq!(batch.mask[..4], [true, true, false, false]);
//! # Ok::<(), firebrick_text::TextError>(())
//! ```

mod encoding;
mod error;
mod open;
mod text_stream;
mod token_batch;
mod tokenizer;
mod trusted_json;
mod vocabulary;

pub use encoding::{EncodeOptions, Encoding, WhenTooLong};
pub use error::TextError;
pub use text_stream::TextStream;
pub use token_batch::TokenBatch;
pub use tokenizer::Tokenizer;
