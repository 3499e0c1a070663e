//! What a plan is run on, and its checks.

use super::embedding::{Tables, TokenIds};
use crate::KernelError;

/// A batch of sequences of equal length.
#[derive(Debug, Clone, Copy)]
pub struct EncoderBatch<'a> {
    /// What the sequences consist of.
    pub input: EncoderInput<'a>,
    /// Sequences.
    pub batch: usize,
    /// Tokens of each sequence.
    pub tokens: usize,
    /// Which tokens the others may look at.
    pub mask: KeyMask<'a>,
}

/// What the sequences consist of.
#[derive(Debug, Clone, Copy)]
pub enum EncoderInput<'a> {
    /// Token ids, for plans with embeddings.
    Tokens {
        /// `[batch, tokens]`, each from 0 to below the vocabulary.
        ids: &'a [i64],
        /// `[batch, tokens]`, each from 0 to below the number of token types; all 0 where they are left out.
        types: Option<&'a [i64]>,
    },
    /// Features, `[batch, tokens, width]`, for plans without embeddings.
    Hidden(&'a [f32]),
}

/// Which tokens the others may look at; the rest, padding as a rule, has no influence on their results, if what it holds is finite.
///
/// A token that may look at no other, because all are masked, gets zeros from the attention: its result is what the rest of the
/// layer makes of that, and is finite.
#[derive(Debug, Clone, Copy, Default)]
pub enum KeyMask<'a> {
    /// All of them.
    #[default]
    None,
    /// `[batch]`: the first so many of each sequence. The tokens behind them cost the attention nothing.
    Lengths(&'a [usize]),
    /// `[batch, tokens]`: those that are true, PyTorch's `attention_mask` of ones and zeros.
    Tokens(&'a [bool]),
}

/// A batch that fits the plan.
#[derive(Debug)]
pub(crate) struct Checked<'a> {
    pub(crate) input: CheckedInput<'a>,
    pub(crate) batch: usize,
    pub(crate) tokens: usize,
    /// For each sequence: one past the last token that may be looked at.
    pub(crate) lengths: Vec<usize>,
    /// `[batch, tokens]`: 1 for the tokens that may be looked at, 0 for the others. Only where others lie before the last.
    pub(crate) keep: Option<Vec<f32>>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum CheckedInput<'a> {
    Tokens(TokenIds<'a>),
    Hidden(&'a [f32]),
}

impl<'a> EncoderBatch<'a> {
    /// Compares the batch with the plan's width and, if it has any, its embeddings.
    pub(crate) fn check(
        &self,
        width: usize,
        embeddings: Option<&Tables>,
    ) -> Result<Checked<'a>, KernelError> {
        let (batch, tokens) = (self.batch, self.tokens);
        let input = match (self.input, embeddings) {
            (EncoderInput::Tokens { ids, types }, Some(tables)) => {
                let input = TokenIds { ids, types, tokens };
                check_tokens(input, batch, tables)?;
                CheckedInput::Tokens(input)
            }
            (EncoderInput::Hidden(hidden), None) => {
                check_length("hidden states", hidden.len(), &[batch, tokens, width])?;
                CheckedInput::Hidden(hidden)
            }
            (EncoderInput::Tokens { .. }, None) => {
                return Err(KernelError::InputKind { expected: "hidden states", actual: "token ids" });
            }
            (EncoderInput::Hidden(_), Some(_)) => {
                return Err(KernelError::InputKind { expected: "token ids", actual: "hidden states" });
            }
        };
        let mut keep = None;
        let lengths = match self.mask {
            // Of sequences without tokens there may be more than memory counts.
            KeyMask::None => vec![tokens; if tokens == 0 { 0 } else { batch }],
            KeyMask::Lengths(lengths) => {
                check_length("lengths of the key mask", lengths.len(), &[batch])?;
                if let Some((sequence, &length)) =
                    lengths.iter().enumerate().find(|&(_, &length)| length > tokens)
                {
                    return Err(KernelError::MaskLength { sequence, length, tokens });
                }
                lengths.to_vec()
            }
            KeyMask::Tokens(kept) => {
                check_length("key mask", kept.len(), &[batch, tokens])?;
                let sequence = |index: usize| &kept[index * tokens..][..tokens];
                let lengths: Vec<usize> = (0..batch)
                    .map(|index| sequence(index).iter().rposition(|&kept| kept).map_or(0, |last| last + 1))
                    .collect();
                let holes = (0..batch).any(|index| sequence(index)[..lengths[index]].contains(&false));
                keep = holes.then(|| kept.iter().map(|&kept| f32::from(u8::from(kept))).collect());
                lengths
            }
        };
        Ok(Checked { input, batch, tokens, lengths, keep })
    }
}

fn check_tokens(input: TokenIds<'_>, batch: usize, tables: &Tables) -> Result<(), KernelError> {
    let tokens = input.tokens;
    check_length("token ids", input.ids.len(), &[batch, tokens])?;
    if tokens > tables.positions() {
        return Err(KernelError::SequenceTooLong { tokens, positions: tables.positions() });
    }
    let outside = |ids: &[i64], count: usize| {
        let index = ids.iter().position(|&id| usize::try_from(id).is_ok_and(|id| id >= count) || id < 0)?;
        Some((index / tokens, index % tokens, ids[index]))
    };
    let vocabulary = tables.vocabulary();
    if let Some((sequence, token, id)) = outside(input.ids, vocabulary) {
        return Err(KernelError::TokenOutsideVocabulary { sequence, token, id, vocabulary });
    }
    if let Some(ids) = input.types {
        check_length("token types", ids.len(), &[batch, tokens])?;
        let types = tables.types();
        if let Some((sequence, token, id)) = outside(ids, types) {
            return Err(KernelError::TokenTypeOutside { sequence, token, id, types });
        }
    }
    Ok(())
}

/// Compares the length of something that a plan is run on with its shape.
pub(crate) fn check_length(input: &'static str, actual: usize, shape: &[usize]) -> Result<(), KernelError> {
    let expected = shape.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
    if expected == Some(actual) {
        return Ok(());
    }
    Err(KernelError::InputLength { input, shape: format!("{shape:?}"), actual })
}
