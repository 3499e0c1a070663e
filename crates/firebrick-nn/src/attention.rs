//! Multi-head attention.

use burn::module::Module;
use burn::nn::{Dropout, Linear, LinearConfig};
use burn::tensor::{Bool, Device, Tensor};
use firebrick_autodiff::{AttentionOptions, attention, softmax};

use crate::dropout::dropout;
use crate::{Activation, Initializer, LayerError, Rotary, dense, seed_of};

/// Settings of [`MultiHeadAttention`].
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionConfig {
    /// Width of the tokens; a multiple of `heads`.
    pub width: usize,
    /// Width of the tokens that are looked at; `width` by default.
    pub memory_width: usize,
    /// Heads.
    pub heads: usize,
    /// Heads of keys and values, each shared by `heads / kv_heads` of the queries' (grouped queries, Ainslie et al. 2023, arXiv:2305.13245; with one,
    /// multi-query); `heads` by default.
    pub kv_heads: usize,
    /// Whether the four layers have biases; true by default.
    pub bias: bool,
    /// Share of the weights that is dropped in training; 0 by default.
    pub dropout: f64,
    /// Rotary positions of queries and keys; none by default.
    pub rotary: Option<Rotary>,
}

impl AttentionConfig {
    /// Self-attention with the defaults.
    pub fn new(width: usize, heads: usize) -> Self {
        Self { width, memory_width: width, heads, kv_heads: heads, bias: true, dropout: 0.0, rotary: None }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`LayerError`] names the setting that is wrong.
    pub fn validate(&self) -> Result<(), LayerError> {
        let unless = |fits, field, value: usize, expected: String| {
            LayerError::unless(fits, "MultiHeadAttention", field, value, expected)
        };
        unless(self.heads > 0, "heads", self.heads, "at least 1".to_owned())?;
        let divides = self.width > 0 && self.width.is_multiple_of(self.heads);
        unless(divides, "width", self.width, format!("a multiple of the {} heads", self.heads))?;
        unless(self.memory_width > 0, "memory_width", self.memory_width, "at least 1".to_owned())?;
        let shared = self.kv_heads > 0 && self.heads.is_multiple_of(self.kv_heads);
        unless(shared, "kv_heads", self.kv_heads, format!("a divisor of the {} heads", self.heads))?;
        let head = self.width / self.heads;
        let even = self.rotary.is_none() || head.is_multiple_of(2);
        unless(even, "width", self.width, format!("an even number a head for rotary positions, not {head}"))?;
        dropout("MultiHeadAttention", self.dropout).map(|_| ())
    }

    /// Glorot's uniform weights from `seed`, biases of zero.
    ///
    /// # Errors
    /// As of [`validate`](Self::validate).
    pub fn init(&self, seed: u64, device: &Device) -> Result<MultiHeadAttention, LayerError> {
        self.validate()?;
        let kv_width = self.width / self.heads * self.kv_heads;
        let layer = |from, to, index| glorot(from, to, self.bias, seed_of(seed, index), device);
        Ok(MultiHeadAttention {
            query: layer(self.width, self.width, 0),
            key: layer(self.memory_width, kv_width, 1),
            value: layer(self.memory_width, kv_width, 2),
            output: layer(self.width, self.width, 3),
            dropout: dropout("MultiHeadAttention", self.dropout)?,
            heads: self.heads,
            kv_heads: self.kv_heads,
            rotary: self.rotary,
        })
    }
}

/// A dense layer with Glorot's uniform weights.
pub(crate) fn glorot(from: usize, to: usize, bias: bool, seed: u64, device: &Device) -> Linear {
    let mut layer = LinearConfig::new(from, to).with_bias(bias).init(device);
    layer.weight = Initializer::GlorotUniform.init([from, to], from, to, seed, device);
    layer.bias = bias.then(|| Initializer::Zeros.init([to], from, to, seed, device));
    layer
}

/// What a query may not look at.
#[derive(Clone, Debug, Default)]
pub struct AttentionMask {
    /// `[batch, keys]`: true where a key is padding.
    pub padding: Option<Tensor<2, Bool>>,
    /// Whether a query sees no key behind its own place.
    pub causal: bool,
}

impl AttentionMask {
    /// No query sees a key behind its own place.
    pub fn causal() -> Self {
        Self { causal: true, padding: None }
    }

    /// Keys of padding are hidden, `[batch, keys]`.
    pub fn padding(padding: Tensor<2, Bool>) -> Self {
        Self { causal: false, padding: Some(padding) }
    }

    /// `[batch, 1, 1, keys]`.
    fn keys(&self) -> Option<Tensor<4, Bool>> {
        let padding = self.padding.clone()?;
        let [batch, keys] = padding.dims();
        Some(padding.reshape([batch, 1, 1, keys]))
    }
}

/// Attention of several heads (Vaswani et al. 2017, arXiv:1706.03762, section 3.2): of tokens to themselves, or of queries to a memory. A head of
/// width `d` gives `softmax(q kᵀ / √d) v`; what they give, side by side, goes through one more dense layer.
#[derive(Module, Debug)]
pub struct MultiHeadAttention {
    /// To the queries.
    pub query: Linear,
    /// To the keys.
    pub key: Linear,
    /// To the values.
    pub value: Linear,
    /// From the heads, side by side.
    pub output: Linear,
    dropout: Dropout,
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    kv_heads: usize,
    #[module(skip)]
    rotary: Option<Rotary>,
}

impl MultiHeadAttention {
    /// `[batch, queries, width]` and a memory `[batch, keys, memory width]` to `[batch, queries, width]`. For self-attention the memory is the queries'
    /// own tensor.
    ///
    /// On the CPU backends no matrix of weights is stored, unless weights are dropped.
    pub fn forward(&self, queries: Tensor<3>, memory: Tensor<3>, mask: &AttentionMask) -> Tensor<3> {
        let [query, key, value] = self.heads(queries, memory);
        let drops =
            self.dropout.prob > 0.0 && self.dropout.training.is_enabled() && query.device().is_autodiff();
        let context = if drops {
            self.dropout.forward(weights(query, key, mask)).matmul(value)
        } else {
            attention(
                query,
                key,
                value,
                AttentionOptions { mask: mask.keys(), causal: mask.causal, ..Default::default() },
            )
        };
        let [batch, heads, queries, head] = context.dims();
        let joined = context.swap_dims(1, 2).reshape([batch, queries, heads * head]);
        dense(&self.output, joined, Activation::None)
    }

    /// How much each query looks at each key, `[batch, heads, queries, keys]`; each row sums to one. To be looked at.
    pub fn weights(&self, queries: Tensor<3>, memory: Tensor<3>, mask: &AttentionMask) -> Tensor<4> {
        let [query, key, _] = self.heads(queries, memory);
        weights(query, key, mask)
    }

    /// Queries, keys and values, `[batch, heads, tokens, head width]` each.
    fn heads(&self, queries: Tensor<3>, memory: Tensor<3>) -> [Tensor<4>; 3] {
        let split = |layer: &Linear, x: Tensor<3>, heads: usize| {
            let y = dense(layer, x, Activation::None);
            let [batch, tokens, width] = y.dims();
            y.reshape([batch, tokens, heads, width / heads]).swap_dims(1, 2)
        };
        let turned = |x: Tensor<4>| match self.rotary {
            Some(rotary) => rotary.forward(x, 0),
            None => x,
        };
        let query = turned(split(&self.query, queries, self.heads));
        let key = turned(split(&self.key, memory.clone(), self.kv_heads));
        let value = split(&self.value, memory, self.kv_heads);
        [query, self.shared(key), self.shared(value)]
    }

    /// Each head of keys or values as often as queries share it.
    fn shared(&self, x: Tensor<4>) -> Tensor<4> {
        if self.kv_heads == self.heads {
            return x;
        }
        let [batch, kv_heads, tokens, head] = x.dims();
        let times = self.heads / kv_heads;
        x.reshape([batch, kv_heads, 1, tokens, head])
            .repeat_dim(2, times)
            .reshape([batch, self.heads, tokens, head])
    }
}

fn weights(query: Tensor<4>, key: Tensor<4>, mask: &AttentionMask) -> Tensor<4> {
    let [_, _, queries, head] = query.dims();
    let [batch, heads, keys, _] = key.dims();
    let mut scores = query.matmul(key.transpose()) / (head as f64).sqrt();
    if let Some(mask) = mask.keys() {
        scores = scores.mask_fill(mask.expand([batch, heads, queries, keys]), -1e30);
    }
    if mask.causal {
        let behind = Tensor::<2, Bool>::triu_mask([queries, keys], 1, &scores.device()).bool_not();
        scores = scores
            .mask_fill(behind.reshape([1, 1, queries, keys]).expand([batch, heads, queries, keys]), -1e30);
    }
    softmax(scores, 3)
}
