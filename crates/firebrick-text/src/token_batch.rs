//! Several texts in one rectangle of ids.

use crate::Encoding;

/// Token ids `[rows, tokens]`, row by row; shorter texts are filled up at their end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenBatch {
    /// Rows of the vocabulary, or the filling.
    pub ids: Vec<i64>,
    /// True for tokens of a text, false for the filling: transformers' `attention_mask`.
    pub mask: Vec<bool>,
    /// BERT's token types, transformers' `token_type_ids`; 0 in the filling.
    pub types: Vec<i64>,
    /// Number of texts.
    pub rows: usize,
    /// Length of the longest one.
    pub tokens: usize,
}

impl TokenBatch {
    /// Fills up with `pad` to the longest of the encodings.
    pub fn new(encodings: &[Encoding], pad: u32) -> Self {
        let tokens = encodings.iter().map(|encoding| encoding.ids.len()).max().unwrap_or(0);
        Self::to_length(encodings, pad, tokens)
    }

    /// Fills up with `pad` to `tokens`.
    ///
    /// # Panics
    ///
    /// If an encoding is longer.
    pub fn to_length(encodings: &[Encoding], pad: u32, tokens: usize) -> Self {
        let count = encodings.len() * tokens;
        let (mut ids, mut mask, mut types) =
            (Vec::with_capacity(count), Vec::with_capacity(count), Vec::with_capacity(count));
        for encoding in encodings {
            let length = encoding.ids.len();
            assert!(length <= tokens, "a text of {length} tokens does not fit into {tokens}");
            let filling = tokens - length;
            ids.extend(encoding.ids.iter().copied().map(i64::from));
            ids.extend(std::iter::repeat_n(i64::from(pad), filling));
            mask.extend(std::iter::repeat_n(true, length));
            mask.extend(std::iter::repeat_n(false, filling));
            types.extend(encoding.types.iter().copied().map(i64::from));
            types.extend(std::iter::repeat_n(0, filling));
        }
        Self { ids, mask, types, rows: encodings.len(), tokens }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_up_to_the_longest() {
        let encoding = |ids: &[u32], types: &[u32]| Encoding {
            ids: ids.to_vec(),
            types: types.to_vec(),
            ..Default::default()
        };
        let batch =
            TokenBatch::new(&[encoding(&[5], &[1]), encoding(&[], &[]), encoding(&[7, 8], &[0, 1])], 9);
        assert_eq!((batch.rows, batch.tokens), (3, 2));
        assert_eq!(batch.ids, [5, 9, 9, 9, 7, 8]);
        assert_eq!(batch.mask, [true, false, false, false, true, true]);
        assert_eq!(batch.types, [1, 0, 0, 0, 0, 1]);
        assert_eq!(TokenBatch::new(&[], 0), TokenBatch::default());
    }
}
