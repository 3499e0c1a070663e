//! A layer of the encoder over a block of tokens: all but the attention's scores, which need the whole sequence.
//!
//! A block goes from the attention's result through both linear layers of the feed-forward part to the next layer's queries, keys and
//! values at once, so that what lies between stays in a core's cache.

use super::linear::TokenLinear;
use super::norm::TokenNorm;
use super::params::{EncoderConfig, EncoderLayerParams, NormOrder, stacked};
use crate::Activation;
use crate::params::FoldedConv;
use crate::simd::Simd;

/// A layer's weights, checked and owned, in no instruction set's order.
#[derive(Debug)]
pub(crate) struct FoldedLayer {
    attend: FoldedConv,
    mix: FoldedConv,
    expand: FoldedConv,
    project: FoldedConv,
    norms: [OwnedNorm; 2],
}

/// A norm that owns its parameters.
#[derive(Debug, Clone)]
pub(crate) struct OwnedNorm {
    gamma: Vec<f32>,
    beta: Vec<f32>,
    epsilon: f32,
}

impl OwnedNorm {
    pub(crate) fn new(norm: &super::params::LayerNormParams<'_>) -> Self {
        Self { gamma: norm.gamma.to_vec(), beta: norm.beta.to_vec(), epsilon: norm.epsilon }
    }

    pub(crate) fn pack(&self, lanes: usize) -> TokenNorm {
        TokenNorm::new(&self.gamma, &self.beta, self.epsilon, lanes)
    }
}

impl FoldedLayer {
    /// A layer that was checked.
    pub(crate) fn new(layer: &EncoderLayerParams<'_>, config: &EncoderConfig) -> Self {
        let &EncoderConfig { width, feed_forward, .. } = config;
        let attention = &layer.attention;
        // See `attention` for what the queries are multiplied by.
        let scale = std::f64::consts::LOG2_E / (config.head_width() as f64).sqrt();
        let attend = [(attention.query, scale), (attention.key, 1.0), (attention.value, 1.0)];
        let plain = |linear, shape, activation| stacked(&[(linear, 1.0)], shape, activation);
        Self {
            attend: stacked(&attend, [width; 2], Activation::None),
            mix: plain(attention.output, [width; 2], Activation::None),
            expand: plain(layer.expand, [feed_forward, width], config.activation),
            project: plain(layer.project, [width, feed_forward], Activation::None),
            norms: [&layer.attention_norm, &layer.feed_forward_norm].map(OwnedNorm::new),
        }
    }

    pub(crate) fn pack(&self, order: NormOrder, most_rows: usize, lanes: usize) -> Layer {
        let linear = |folded| TokenLinear::new(folded, most_rows, lanes);
        let [attention_norm, feed_forward_norm] = self.norms.each_ref().map(|norm| norm.pack(lanes));
        Layer {
            attend: linear(&self.attend),
            mix: linear(&self.mix),
            expand: linear(&self.expand),
            project: linear(&self.project),
            attention_norm,
            feed_forward_norm,
            order,
        }
    }

    /// Products for a token, without those of scores and weighted values.
    pub(crate) fn multiply_adds(&self) -> u64 {
        let linear = [&self.attend, &self.mix, &self.expand, &self.project];
        linear.iter().map(|linear| linear.shape.multiply_adds_per_pixel()).sum()
    }
}

/// A packed layer.
#[derive(Debug)]
pub(crate) struct Layer {
    /// Queries, keys and values.
    attend: TokenLinear,
    mix: TokenLinear,
    expand: TokenLinear,
    project: TokenLinear,
    attention_norm: TokenNorm,
    feed_forward_norm: TokenNorm,
    order: NormOrder,
}

impl Layer {
    /// Values of scratch memory for a block of `rows` tokens.
    pub(crate) fn scratch_len(&self, rows: usize) -> usize {
        rows * (2 * self.mix.output_len() + self.expand.output_len())
    }

    /// Values of a token's queries, keys and values.
    pub(crate) fn attend_len(&self) -> usize {
        self.attend.output_len()
    }

    /// Queries, keys and values of a block from its hidden states; queries come scaled.
    pub(crate) fn attend<S: Simd>(
        &self,
        simd: S,
        rows: usize,
        hidden: &[f32],
        result: &mut [f32],
        scratch: &mut [f32],
    ) {
        match self.order {
            NormOrder::Post => self.attend.run(simd, rows, hidden, None, result),
            NormOrder::Pre => {
                let normal = &mut scratch[..hidden.len()];
                self.attention_norm.run(simd, hidden, normal);
                self.attend.run(simd, rows, normal, None, result);
            }
        }
    }

    /// The rest of the layer for a block: from the heads' results and the layer's input, `hidden`, to the layer's result, which
    /// replaces it.
    pub(crate) fn finish<S: Simd>(
        &self,
        simd: S,
        rows: usize,
        context: &[f32],
        hidden: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (first, rest) = scratch.split_at_mut(hidden.len());
        let (second, rest) = rest.split_at_mut(hidden.len());
        let wide = &mut rest[..rows * self.expand.output_len()];
        self.mix.run(simd, rows, context, Some(hidden), first);
        match self.order {
            NormOrder::Post => {
                self.attention_norm.run(simd, first, second);
                self.expand.run(simd, rows, second, None, wide);
                self.project.run(simd, rows, wide, Some(second), first);
                self.feed_forward_norm.run(simd, first, hidden);
            }
            NormOrder::Pre => {
                self.feed_forward_norm.run(simd, first, second);
                self.expand.run(simd, rows, second, None, wide);
                self.project.run(simd, rows, wide, Some(first), hidden);
            }
        }
    }
}
