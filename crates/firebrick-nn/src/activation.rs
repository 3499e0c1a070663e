//! Non-linearities, named so that a configuration file can hold them.

use burn::tensor::{DType, Tensor, activation};
use serde::{Deserialize, Serialize};

use crate::LayerError;

/// A non-linearity without learnt parameters; pointwise but for the softmax.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// The identity.
    #[default]
    None,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`, of MobileNet (Howard et al. 2017, arXiv:1704.04861).
    Relu6,
    /// `x`, below 0 times `slope` (Maas et al. 2013).
    LeakyRelu {
        /// 0.01 in PyTorch, 0.3 in Keras.
        slope: f64,
    },
    /// `x`, below 0 `alpha (exp(x) - 1)` (Clevert et al. 2016, arXiv:1511.07289).
    Elu {
        /// 1 in PyTorch and Keras.
        alpha: f64,
    },
    /// ELU with the two constants that keep mean and variance (Klambauer et al. 2017, arXiv:1706.02515).
    Selu,
    /// `x Φ(x)` with the error function (Hendrycks & Gimpel 2016, arXiv:1606.08415).
    Gelu,
    /// GELU by its approximation with a hyperbolic tangent, as in GPT-2.
    GeluTanh,
    /// `x sigmoid(x)`, also called swish (Ramachandran et al. 2017, arXiv:1710.05941).
    Silu,
    /// `min(max(x / 6 + 1/2, 0), 1)`: PyTorch's, and since version 3 Keras'.
    HardSigmoid,
    /// `x hard-sigmoid(x)` (Howard et al. 2019, arXiv:1905.02244).
    HardSwish,
    /// `x tanh(softplus(x))` (Misra 2019, arXiv:1908.08681).
    Mish,
    /// `log(1 + exp(x))`.
    Softplus,
    /// Exponentials over their sum along the last axis.
    Softmax,
}

impl Activation {
    /// Every function, with the usual parameters where it has some.
    pub const ALL: [Self; 16] = [
        Self::None,
        Self::Sigmoid,
        Self::Tanh,
        Self::Relu,
        Self::Relu6,
        Self::LeakyRelu { slope: 0.01 },
        Self::Elu { alpha: 1.0 },
        Self::Selu,
        Self::Gelu,
        Self::GeluTanh,
        Self::Silu,
        Self::HardSigmoid,
        Self::HardSwish,
        Self::Mish,
        Self::Softplus,
        Self::Softmax,
    ];

    /// Its name, as in a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Relu => "relu",
            Self::Relu6 => "relu6",
            Self::LeakyRelu { .. } => "leaky_relu",
            Self::Elu { .. } => "elu",
            Self::Selu => "selu",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_tanh",
            Self::Silu => "silu",
            Self::HardSigmoid => "hard_sigmoid",
            Self::HardSwish => "hard_swish",
            Self::Mish => "mish",
            Self::Softplus => "softplus",
            Self::Softmax => "softmax",
        }
    }

    /// Applies the function; the shape is kept.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::None => x,
            Self::Sigmoid => sigmoid(x),
            Self::Tanh => x.tanh(),
            Self::Relu => activation::relu(x),
            Self::Relu6 => x.clamp(0.0, 6.0),
            Self::LeakyRelu { slope } => activation::leaky_relu(x, slope),
            Self::Elu { alpha } => activation::elu(x, alpha),
            Self::Selu => activation::selu(x),
            Self::Gelu => gelu(x),
            Self::GeluTanh => activation::gelu_approximate(x),
            Self::Silu => x.clone() * sigmoid(x),
            Self::HardSigmoid => hard_sigmoid(x),
            Self::HardSwish => x.clone() * hard_sigmoid(x),
            Self::Mish => x.clone() * softplus(x).tanh(),
            Self::Softplus => softplus(x),
            Self::Softmax => firebrick_autodiff::softmax(x, D - 1),
        }
    }

    /// The same function as the kernels have it, to be computed in one pass with a layer before it; none where they do not.
    pub fn fused(self) -> Option<firebrick_autodiff::Activation> {
        use firebrick_autodiff::Activation as Fused;
        match self {
            Self::None => Some(Fused::None),
            Self::Relu => Some(Fused::Relu),
            Self::Relu6 => Some(Fused::Relu6),
            Self::Silu => Some(Fused::Silu),
            Self::HardSwish => Some(Fused::HardSwish),
            Self::Gelu => Some(Fused::Gelu),
            _ => None,
        }
    }
}

impl std::str::FromStr for Activation {
    type Err = LayerError;

    /// The function of this name, with PyTorch's parameter where it has one, or with one that is given: `leaky_relu:slope=0.3`,
    /// `elu:alpha=0.5`.
    fn from_str(text: &str) -> Result<Self, LayerError> {
        let (name, setting) = text.split_once(':').unwrap_or((text, ""));
        let known = Self::ALL.into_iter().find(|activation| activation.name() == name.trim());
        let mut activation = known.ok_or_else(|| LayerError {
            layer: "network",
            field: "activation",
            value: name.to_owned(),
            expected: format!("one of {}", Self::ALL.map(Self::name).join(", ")),
        })?;
        if setting.is_empty() {
            return Ok(activation);
        }
        let (field, parameter) = match &mut activation {
            Self::LeakyRelu { slope } => ("slope", slope),
            Self::Elu { alpha } => ("alpha", alpha),
            other => {
                let expected = format!("`{}` alone, which has no parameter", other.name());
                let value = text.to_owned();
                return Err(LayerError { layer: "network", field: "activation", value, expected });
            }
        };
        let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
        match value.trim().parse::<f64>() {
            Ok(number) if key.trim() == field && number.is_finite() && number >= 0.0 => *parameter = number,
            _ => {
                let expected = format!("`{name}:{field}=NUMBER` with a number of at least 0");
                return Err(LayerError {
                    layer: "network",
                    field: "activation",
                    value: text.to_owned(),
                    expected,
                });
            }
        }
        Ok(activation)
    }
}

/// Burn's own has the derivative of an approximation, 7e-4 off.
fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.clone() * ((x * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5
}

/// Burn's own computes in f32 whatever the type.
pub(crate) fn sigmoid<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match x.dtype() {
        DType::F64 => ((x * 0.5).tanh() + 1.0) * 0.5,
        _ => activation::sigmoid(x),
    }
}

fn hard_sigmoid<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    (x / 6.0 + 0.5).clamp(0.0, 1.0)
}

/// `max(x, 0) + log(1 + exp(-|x|))`, whose exponential does not overflow.
fn softplus<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activation::relu(x.clone()) + x.abs().neg().exp().log1p()
}

#[cfg(test)]
// The largest error of each is printed: the table of docs/layers.md is read off it.
#[allow(clippy::print_stdout)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    #[derive(Deserialize)]
    struct Golden {
        made_by: String,
        x: Vec<f64>,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        activation: Activation,
        scale: f64,
        y: Vec<f64>,
        gradient: Vec<f64>,
    }

    #[test]
    fn each_function_and_its_gradient_are_pytorchs() {
        #[allow(deprecated)]
        let device = Device::ndarray().autodiff();
        let golden: Golden =
            serde_json::from_str(include_str!("../tests/goldens/activations.json")).expect("valid JSON");
        let covered: Vec<Activation> = golden.cases.iter().map(|case| case.activation).collect();
        assert!(Activation::ALL[1..].iter().all(|activation| covered.contains(activation)));
        for case in golden.cases {
            let data = TensorData::new(golden.x.clone(), [golden.x.len()]);
            let x = Tensor::<1>::from_data(data.convert::<f32>(), &device).require_grad();
            let y = case.activation.forward(x.clone() * case.scale);
            // Weights that differ, or the gradient of a softmax is nothing.
            let weights: Vec<f32> = (0..golden.x.len()).map(|i| 1.0 + 0.25 * i as f32).collect();
            let weights = Tensor::<1>::from_floats(weights.as_slice(), &device);
            let gradient = x.grad(&(y.clone() * weights).sum().backward()).expect("a gradient");
            let mut largest = 0.0f64;
            for (actual, expected) in [(y.into_data(), &case.y), (gradient.into_data(), &case.gradient)] {
                let actual = actual.convert::<f64>().try_to_vec::<f64>().expect("just converted");
                for (actual, &expected) in actual.iter().zip(expected) {
                    largest = largest.max((actual - expected).abs() / expected.abs().max(1.0));
                }
            }
            println!("{:40} {largest:.1e}", format!("{:?}", case.activation));
            assert!(largest < 2e-6, "{:?}: {largest:.1e} (goldens: {})", case.activation, golden.made_by);
        }
    }

    #[test]
    fn each_gradient_is_the_slope_in_f64() {
        #[allow(deprecated)]
        let device = Device::ndarray();
        // None of them near a kink: those are at -3, 0, 3 and 6.
        let x = TensorData::from([-7.5f64, -2.6, -1.1, -0.4, 0.3, 0.7, 1.9, 4.2, 8.5]);
        for activation in Activation::ALL {
            let check = firebrick_autodiff::GradientCheck::default();
            firebrick_autodiff::check_gradient(&device, &[("x", x.clone())], check, |inputs| {
                activation.forward(inputs.tensor::<1>(0))
            })
            .unwrap_or_else(|error| panic!("{activation:?}: {error}"));
        }
    }

    #[test]
    fn a_configuration_file_says_each() {
        for activation in Activation::ALL {
            let text = serde_json::to_string(&activation).expect("JSON");
            assert_eq!(serde_json::from_str::<Activation>(&text).expect(&text), activation);
            assert_eq!(activation.name().parse(), Ok(activation));
            assert!(text.contains(activation.name()), "{text}");
        }
        assert_eq!("leaky_relu:slope=0.3".parse(), Ok(Activation::LeakyRelu { slope: 0.3 }));
        assert_eq!("elu:alpha=0.5".parse(), Ok(Activation::Elu { alpha: 0.5 }));
        for (text, part) in [
            ("leaky_relu:alpha=0.3", "`leaky_relu:slope=NUMBER`"),
            ("leaky_relu:slope=-1", "at least 0"),
            ("elu:alpha=much", "`elu:alpha=NUMBER`"),
            ("gelu:alpha=1", "no parameter"),
        ] {
            let message = text.parse::<Activation>().expect_err(text).to_string();
            assert!(message.contains("`activation` is ") && message.contains(part), "{message}");
        }
        let message = "swish".parse::<Activation>().expect_err("its name is silu").to_string();
        assert!(message.contains("`activation` is swish") && message.contains("silu"), "{message}");
    }
}
