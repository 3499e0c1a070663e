//! What the training loop asks of a model.

use burn::module::Module;
use burn::tensor::Tensor;

/// A module that maps a batch of inputs of rank `D` to one row of logits each.
///
/// `D` counts the batch axis: images are `Network<4>` (`[batch, channels, height, width]`), rows of features
/// `Network<2>` (`[batch, features]`). The output is `[batch, classes]`, before any softmax.
pub trait Network<const D: usize>: Module {
    /// Logits of a batch: `[batch, ..]` to `[batch, classes]`.
    fn forward(&self, inputs: Tensor<D>) -> Tensor<2>;
}
