//! What an attention keeps of the tokens it has seen.

use burn::tensor::Tensor;

/// Keys and values of the tokens so far, `[batch, heads, tokens, head width]` each.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyValues(Option<[Tensor<4>; 2]>);

impl KeyValues {
    /// Adds those of further tokens and gives all.
    pub(crate) fn append(&mut self, key: Tensor<4>, value: Tensor<4>) -> [Tensor<4>; 2] {
        let all = match self.0.take() {
            None => [key, value],
            Some([keys, values]) => [Tensor::cat(vec![keys, key], 2), Tensor::cat(vec![values, value], 2)],
        };
        self.0 = Some(all.clone());
        all
    }

    /// Those of a memory that does not grow: made at the first call.
    pub(crate) fn once(&mut self, make: impl FnOnce() -> [Tensor<4>; 2]) -> [Tensor<4>; 2] {
        self.0.get_or_insert_with(make).clone()
    }
}
