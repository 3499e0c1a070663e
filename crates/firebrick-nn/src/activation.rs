//! Pointwise non-linearities, named so that a configuration file can hold them.

use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

/// A pointwise non-linearity without parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// The identity.
    #[default]
    None,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`, of MobileNet (Howard et al. 2017, arXiv:1704.04861).
    Relu6,
}

impl Activation {
    /// Applies the function to every element; the shape is kept.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::None => x,
            Self::Relu => activation::relu(x),
            Self::Relu6 => x.clamp(0.0, 6.0),
        }
    }
}

impl From<Activation> for firebrick_autodiff::Activation {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::None => Self::None,
            Activation::Relu => Self::Relu,
            Activation::Relu6 => Self::Relu6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    #[test]
    fn each_function_has_its_definition() {
        #[allow(deprecated)]
        let device = Device::ndarray();
        let x = Tensor::<1>::from_floats([-1.5, 0.0, 2.5, 6.0, 7.5], &device);
        let cases = [
            (Activation::None, [-1.5f32, 0.0, 2.5, 6.0, 7.5]),
            (Activation::Relu, [0.0, 0.0, 2.5, 6.0, 7.5]),
            (Activation::Relu6, [0.0, 0.0, 2.5, 6.0, 6.0]),
        ];
        for (activation, expected) in cases {
            let y = activation.forward(x.clone());
            y.into_data().assert_eq(&TensorData::from(expected), true);
        }
    }
}
