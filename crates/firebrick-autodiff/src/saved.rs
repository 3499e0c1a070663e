//! What an operation keeps for its backward pass, beside its inputs.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// What a forward method hands to its backward method.
///
/// Who made it decides which: the reference keeps tensors, a kernel on the host whatever it likes. A backward method on the
/// host that finds tensors knows that the reference ran, for instance because the values were no `f32`.
#[derive(Clone)]
pub enum Saved<B: Backend> {
    /// Tensors of the backend.
    Tensors(Vec<FloatTensor<B>>),
    /// A value in this process' memory.
    Host(Arc<dyn Any + Send + Sync>),
}

impl<B: Backend> Saved<B> {
    /// Keeps a value of the host's.
    pub(crate) fn host(value: impl Any + Send + Sync) -> Self {
        Self::Host(Arc::new(value))
    }

    /// The host's value, if it is one.
    pub(crate) fn as_host<T: Any>(&self) -> Option<&T> {
        match self {
            Self::Tensors(_) => None,
            Self::Host(value) => value.downcast_ref(),
        }
    }

    /// The `N` tensors of the reference.
    ///
    /// # Panics
    /// If it is something else: forward and backward of different operations were put together.
    pub(crate) fn into_tensors<const N: usize>(self) -> [FloatTensor<B>; N] {
        match self {
            Self::Tensors(tensors) => tensors.try_into().ok(),
            Self::Host(_) => None,
        }
        .unwrap_or_else(|| panic!("{N} tensors were to be saved for the backward pass"))
    }
}

impl<B: Backend> fmt::Debug for Saved<B> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Tensors(tensors) => f.debug_tuple("Tensors").field(tensors).finish(),
            Self::Host(_) => f.write_str("Host"),
        }
    }
}
