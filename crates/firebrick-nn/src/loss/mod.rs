//! What is minimised.
//!
//! A loss has two calls, as burn's: `forward_no_reduction` gives one value a sample (PyTorch's reduction `none`), and `forward` reduces
//! them by a [`Reduction`] (`Mean`, `Sum`). What burn has is burn's, re-exported; `docs/losses.md` says what each is checked against.

mod binary;
mod class_weights;
mod cosine;
mod cross_entropy;
mod error;
mod focal;
mod mean_absolute;
mod nt_xent;
#[cfg(test)]
mod tests;
mod tokens;

pub use binary::{BinaryCrossEntropy, binary_cross_entropy_from_probabilities};
pub use burn::nn::loss::{
    CosineEmbeddingLoss, CosineEmbeddingLossConfig, HuberLoss, HuberLossConfig, KLDivLoss, KLDivLossConfig,
    MseLoss, Reduction, SmoothL1Loss, SmoothL1LossConfig, TripletMarginLoss, TripletMarginLossConfig,
};
pub use class_weights::balanced_class_weights;
pub use cosine::CosineLoss;
pub use cross_entropy::{CrossEntropy, cross_entropy, cross_entropy_from_probabilities};
pub use error::LossError;
pub use focal::{BinaryFocal, Focal};
pub use mean_absolute::MaeLoss;
pub use nt_xent::NtXent;
pub use tokens::token_cross_entropy;

use burn::tensor::{Tensor, TensorData};

/// Reduces one value a sample to one value, `[1]`.
fn reduce(losses: Tensor<1>, reduction: &Reduction) -> Tensor<1> {
    match reduction {
        Reduction::Mean | Reduction::Auto => losses.mean(),
        Reduction::Sum => losses.sum(),
        Reduction::BatchMean => {
            let batch = losses.dims()[0];
            losses.sum().div_scalar(batch as f64)
        }
    }
}

/// `values` as a tensor beside `like`: on its device, of its type.
fn beside<const D: usize>(values: &[f32], like: &Tensor<D>) -> Tensor<1> {
    let data = TensorData::new(values.to_vec(), [values.len()]);
    Tensor::from_data(data, (&like.device(), like.dtype()))
}
