//! Attention between tokens as sequence models train it, and their norm.

use burn::nn::{Dropout, LayerNorm};
use burn::tensor::{Bool, Device, Tensor, TensorData};
use firebrick_autodiff::{AttentionOptions, attention, layer_norm, softmax};

/// `softmax(query · keyᵀ / sqrt(width)) · value`, with a share of the softmax dropped in training. `hidden`, `[batch or 1, 1, queries or 1, keys]`, is
/// true where a query does not see a key; a causal query sees none behind its own place.
pub(crate) fn attend(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    hidden: Option<Tensor<4, Bool>>,
    causal: bool,
    dropout: &Dropout,
) -> Tensor<4> {
    let trains = dropout.training.is_enabled() && query.device().is_autodiff();
    if !trains || dropout.prob == 0.0 {
        return attention(query, key, value, AttentionOptions { mask: hidden, causal, ..Default::default() });
    }
    let [batch, heads, queries, width] = query.dims();
    let keys = key.dims()[2];
    let mut scores = query.matmul(key.transpose()) / (width as f64).sqrt();
    let later = causal.then(|| later(queries, keys - queries, &scores.device()));
    for hidden in [hidden, later].into_iter().flatten() {
        scores = scores.mask_fill(hidden.expand([batch, heads, queries, keys]), -1e30);
    }
    dropout.forward(softmax(scores, 3)).matmul(value)
}

/// True where a key comes after a query, `[1, 1, tokens, before + tokens]`; `before` keys come before the first query.
pub(crate) fn later(tokens: usize, before: usize, device: &Device) -> Tensor<4, Bool> {
    let keys = before + tokens;
    let hidden: Vec<bool> = (0..tokens * keys).map(|at| at % keys > before + at / keys).collect();
    Tensor::from_data(TensorData::new(hidden, [1, 1, tokens, keys]), device)
}

/// Burn's layer by firebrick-autodiff's operation.
pub(crate) fn normed(norm: &LayerNorm, epsilon: f64, x: Tensor<3>) -> Tensor<3> {
    let gamma = norm.gamma.val();
    let beta = norm.beta.as_ref().map_or_else(|| gamma.zeros_like(), |beta| beta.val());
    layer_norm(x, gamma, beta, epsilon)
}
