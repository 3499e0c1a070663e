//! From token ids to features.

use super::layer::OwnedNorm;
use super::norm::TokenNorm;
use super::params::{EmbeddingParams, EncoderConfig, check_length};
use crate::KernelError;
use crate::simd::Simd;

/// Tables that were checked and own their values.
#[derive(Debug)]
pub(crate) struct Tables {
    width: usize,
    /// `[vocabulary, width]`.
    words: Vec<f32>,
    /// `[positions, width]`.
    positions: Vec<f32>,
    /// `[types, width]`; one row of zeros where there are no types.
    types: Vec<f32>,
    norm: Option<OwnedNorm>,
}

impl Tables {
    pub(crate) fn new(
        layer: usize,
        embedding: &EmbeddingParams<'_>,
        config: &EncoderConfig,
    ) -> Result<Self, KernelError> {
        let width = config.width;
        let tables = [
            ("word embeddings", Some(embedding.words)),
            ("position embeddings", Some(embedding.positions)),
            ("token type embeddings", embedding.types),
        ];
        for (name, values) in tables {
            let Some(values) = values else { continue };
            // Whole rows, and at least one.
            let rows = values.len().div_ceil(width).max(1);
            check_length(layer, name, values, &[rows, width])?;
        }
        if let Some(norm) = &embedding.norm {
            norm.check(layer, ["embedding norm gamma", "embedding norm beta"], width)?;
        }
        Ok(Self {
            width,
            words: embedding.words.to_vec(),
            positions: embedding.positions.to_vec(),
            types: embedding.types.map_or_else(|| vec![0.0; width], <[f32]>::to_vec),
            norm: embedding.norm.as_ref().map(OwnedNorm::new),
        })
    }

    pub(crate) fn vocabulary(&self) -> usize {
        self.words.len() / self.width
    }

    pub(crate) fn positions(&self) -> usize {
        self.positions.len() / self.width
    }

    pub(crate) fn types(&self) -> usize {
        self.types.len() / self.width
    }
}

/// The input stage of a plan.
#[derive(Debug)]
pub(crate) struct Embedding {
    pub(crate) tables: Tables,
    norm: Option<TokenNorm>,
    lanes: usize,
}

/// Ids that were checked against the tables.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenIds<'a> {
    pub(crate) ids: &'a [i64],
    pub(crate) types: Option<&'a [i64]>,
    /// Tokens of a sequence.
    pub(crate) tokens: usize,
}

impl Embedding {
    pub(crate) fn new(tables: Tables, lanes: usize) -> Self {
        let norm = tables.norm.as_ref().map(|norm| norm.pack(lanes));
        Self { tables, norm, lanes }
    }

    /// Writes the features of the tokens from `first` on, counted through the batch; `sums` is as long as `output`.
    pub(crate) fn run<S: Simd>(
        &self,
        simd: S,
        input: TokenIds<'_>,
        first: usize,
        sums: &mut [f32],
        output: &mut [f32],
    ) {
        let target = if self.norm.is_some() { &mut *sums } else { &mut *output };
        let width = self.tables.width;
        for (index, to) in target.chunks_exact_mut(width.next_multiple_of(self.lanes)).enumerate() {
            let token = first + index;
            let word = row(&self.tables.words, width, input.ids[token] as usize);
            let position = row(&self.tables.positions, width, token % input.tokens);
            let kind = row(&self.tables.types, width, input.types.map_or(0, |types| types[token] as usize));
            let (to, rest) = to.split_at_mut(width);
            for (((to, word), position), kind) in to.iter_mut().zip(word).zip(position).zip(kind) {
                *to = word + position + kind;
            }
            rest.fill(0.0);
        }
        if let Some(norm) = &self.norm {
            norm.run(simd, sums, output);
        }
    }
}

fn row(table: &[f32], width: usize, index: usize) -> &[f32] {
    &table[index * width..][..width]
}
