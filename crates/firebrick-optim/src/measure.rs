//! Sizes of tensors, kept on their device.

use burn::tensor::Tensor;

/// `a · old + (1 - a) · new`.
pub(crate) fn blend<const D: usize>(old: Tensor<D>, new: Tensor<D>, a: f64) -> Tensor<D> {
    old * a + new * (1.0 - a)
}

/// `‖x‖₂`, of shape `[1, 1, ..]`.
pub(crate) fn norm<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    (tensor.clone() * tensor).sum().sqrt().reshape([1; D])
}

/// `√(mean x²)`, of shape `[1, 1, ..]`.
pub(crate) fn rms<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    (tensor.clone() * tensor).mean().sqrt().reshape([1; D])
}

/// `above / below`, and 1 where either is 0.
pub(crate) fn ratio_or_one<const D: usize>(above: Tensor<D>, below: Tensor<D>) -> Tensor<D> {
    let zero = (above.clone() * below.clone()).equal_elem(0.0);
    (above / below).mask_fill(zero, 1.0)
}
