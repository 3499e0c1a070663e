//! Text of ids that are still coming.

use crate::{TextError, Tokenizer};

/// Makes text of ids one by one, so that it can be shown while a model writes it.
///
/// A character may take several tokens, so a token may give no text yet; what [`push`](Self::push) and
/// [`finish`](Self::finish) return, put together, is what [`Tokenizer::decode`] makes of all ids.
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<u32>,
    /// Bytes of the text that were returned.
    told: usize,
}

impl<'a> TextStream<'a> {
    /// A stream without ids.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, ids: Vec::new(), told: 0 }
    }

    /// Takes one more id; returns the text that is certain now and was not before.
    ///
    /// # Errors
    ///
    /// [`TextError::UnknownId`].
    pub fn push(&mut self, id: u32) -> Result<String, TextError> {
        self.ids.push(id);
        let text = self.tokenizer.decode(&self.ids)?;
        // Bytes that do not make a character yet are decoded to this one.
        let certain = text.trim_end_matches(char::REPLACEMENT_CHARACTER).len();
        Ok(self.tell(&text[..certain]))
    }

    /// The text that was held back.
    ///
    /// # Errors
    ///
    /// Never of ids that [`push`](Self::push) took.
    pub fn finish(mut self) -> Result<String, TextError> {
        let text = self.tokenizer.decode(&self.ids)?;
        Ok(self.tell(&text))
    }

    fn tell(&mut self, text: &str) -> String {
        match text.get(self.told..) {
            Some(new) => {
                self.told = text.len();
                new.to_owned()
            }
            // The text has become shorter: a decoder has joined what stood apart.
            None => String::new(),
        }
    }
}
