//! Tensors of any rank in one list.

use burn::backend::{DispatchTensor, TensorMetadata};
use burn::tensor::Tensor;

/// A float tensor whose rank is not a part of its type.
#[derive(Debug, Clone)]
pub struct AnyTensor(pub(crate) DispatchTensor);

impl<const D: usize> From<Tensor<D>> for AnyTensor {
    fn from(tensor: Tensor<D>) -> Self {
        Self(tensor.into_dispatch())
    }
}

impl AnyTensor {
    /// The length of each axis.
    pub fn dims(&self) -> Vec<usize> {
        self.0.shape().to_vec()
    }

    /// The tensor with its rank.
    ///
    /// # Panics
    /// If it has another one.
    pub fn tensor<const D: usize>(&self) -> Tensor<D> {
        let dims = self.dims();
        assert_eq!(dims.len(), D, "a tensor of the shape {dims:?} was asked for as one of {D} axes");
        Tensor::from_dispatch(self.0.clone())
    }
}

/// The inputs of a function, by their place.
#[derive(Debug, Clone)]
pub struct Inputs {
    pub(crate) tensors: Vec<AnyTensor>,
}

impl Inputs {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// An input.
    ///
    /// # Panics
    /// If there is no such input or it has another rank.
    pub fn tensor<const D: usize>(&self, index: usize) -> Tensor<D> {
        let count = self.len();
        let input =
            self.tensors.get(index).unwrap_or_else(|| panic!("input {index} of {count} was asked for"));
        input.tensor()
    }
}
