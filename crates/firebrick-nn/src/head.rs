//! From pooled features to logits.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Linear};
use burn::tensor::{Device, Tensor};

use crate::{Activation, Initializer, LayerSummary, Network, dense, seed_of};

/// Configuration of a [`ClassifierHead`].
#[derive(Clone, Debug, PartialEq)]
pub struct HeadConfig {
    features: usize,
    classes: usize,
    hidden: Vec<usize>,
    activation: Activation,
    dropout: f64,
    over_pixels: bool,
}

impl HeadConfig {
    /// One dense layer from `features` to `classes`, no dropout.
    pub fn new(features: usize, classes: usize) -> Self {
        Self {
            features,
            classes,
            hidden: Vec::new(),
            activation: Activation::Relu,
            dropout: 0.0,
            over_pixels: false,
        }
    }

    /// Puts dense layers of these widths, each followed by the activation, before the last one.
    pub fn with_hidden(mut self, hidden: impl Into<Vec<usize>>) -> Self {
        self.hidden = hidden.into();
        self
    }

    /// After each hidden layer; ReLU by default.
    pub fn with_activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// Drops this share of the features while training (Srivastava et al. 2014); 0 by default.
    pub fn with_dropout(mut self, dropout: f64) -> Self {
        self.dropout = dropout;
        self
    }

    /// Makes it a head over pixels, as SqueezeNet's: a row holds the features of one pixel after another, as many pixels as there are, each
    /// goes through the layers and a ReLU, and the logits are their mean.
    pub fn over_pixels(mut self) -> Self {
        self.over_pixels = true;
        self
    }

    /// Makes the head on `device`; its first weights (Glorot uniform, zero bias, as Keras' `Dense`) depend on
    /// `seed` alone.
    ///
    /// # Panics
    ///
    /// If a width is zero or `dropout` is not in `0..1`.
    pub fn init(&self, seed: u64, device: &Device) -> ClassifierHead {
        let mut width = self.features;
        let mut layer_of = |index: usize, out: usize| {
            assert!(width > 0 && out > 0, "a dense layer needs inputs and outputs, got {width} -> {out}");
            let layer = Linear {
                weight: Initializer::GlorotUniform.init(
                    [width, out],
                    width,
                    out,
                    seed_of(seed, index as u64),
                    device,
                ),
                bias: Some(Initializer::Zeros.init([out], width, out, 0, device)),
            };
            width = out;
            layer
        };
        let hidden: Vec<Linear> = self.hidden.iter().enumerate().map(|(i, &out)| layer_of(i, out)).collect();
        let output = layer_of(hidden.len(), self.classes);
        ClassifierHead {
            dropout: DropoutConfig::new(self.dropout).init(),
            hidden,
            output,
            activation: self.activation,
            over_pixels: self.over_pixels,
        }
    }
}

/// Dropout, then dense layers with an activation between them.
#[derive(Module, Debug)]
pub struct ClassifierHead {
    /// Applied to the features, in training only.
    pub dropout: Dropout,
    /// The dense layers before the last one; weights `[in, out]`.
    pub hidden: Vec<Linear>,
    /// The layer that gives the logits; weights `[in, classes]`.
    pub output: Linear,
    /// After each hidden layer.
    #[module(skip)]
    pub activation: Activation,
    /// Whether a row holds many pixels; see [`HeadConfig::over_pixels`].
    #[module(skip)]
    pub over_pixels: bool,
}

impl ClassifierHead {
    /// Number of features of an input row, or of each pixel of one.
    pub fn features(&self) -> usize {
        self.hidden.first().unwrap_or(&self.output).weight.lazy_shape()[0]
    }

    /// Number of logits of an output row.
    pub fn classes(&self) -> usize {
        self.output.weight.lazy_shape()[1]
    }

    /// Widths of the hidden layers.
    pub fn hidden_widths(&self) -> Vec<usize> {
        self.hidden.iter().map(|layer| layer.weight.lazy_shape()[1]).collect()
    }

    /// Adds a row for each dense layer to `rows`.
    pub fn summarize(&self, name: &str, rows: &mut Vec<LayerSummary>) {
        let last = self.hidden.len();
        for (index, layer) in self.hidden.iter().chain([&self.output]).enumerate() {
            let [inputs, outputs]: [usize; 2] = layer.weight.lazy_shape().dims();
            let products = (inputs * outputs) as u64;
            let (path, kind) = if index < last {
                (format!("{name}.hidden.{index}"), format!("Dense + {:?}", self.activation))
            } else {
                (format!("{name}.output"), "Dense".to_owned())
            };
            rows.push(LayerSummary {
                name: path,
                kind,
                output: vec![outputs],
                parameters: products + outputs as u64,
                multiply_adds: products,
            });
        }
    }
}

impl Network<2> for ClassifierHead {
    /// `[batch, features]` to `[batch, classes]`; over pixels, `[batch, pixels · features]`.
    fn forward(&self, inputs: Tensor<2>) -> Tensor<2> {
        if self.over_pixels {
            let [batch, length] = inputs.dims();
            let (features, classes) = (self.features(), self.classes());
            let pixels = length / features;
            let each = Activation::Relu.forward(self.layers(inputs.reshape([batch * pixels, features])));
            return each.reshape([batch, pixels, classes]).mean_dim(1).reshape([batch, classes]);
        }
        self.layers(inputs)
    }
}

impl ClassifierHead {
    fn layers(&self, inputs: Tensor<2>) -> Tensor<2> {
        let x = self.dropout.forward(inputs);
        let x = self.hidden.iter().fold(x, |x, layer| dense(layer, x, self.activation));
        dense(&self.output, x, Activation::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(deprecated)]
    fn device() -> Device {
        Device::ndarray()
    }

    #[test]
    fn the_articles_head_has_its_shape_and_parameters() {
        let head = HeadConfig::new(1280, 10).with_hidden([128]).init(0, &device());
        assert_eq!((head.features(), head.classes(), head.hidden_widths()), (1280, 10, vec![128]));
        let mut rows = Vec::new();
        head.summarize("head", &mut rows);
        assert_eq!(rows.iter().map(|row| row.parameters).sum::<u64>(), 1280 * 128 + 128 + 128 * 10 + 10);
        assert_eq!(rows.iter().map(|row| row.parameters).sum::<u64>(), head.num_params() as u64);
        assert_eq!(head.forward(Tensor::zeros([3, 1280], &device())).dims(), [3, 10]);
    }

    #[test]
    fn one_seed_is_one_head_and_layers_differ() {
        let config = HeadConfig::new(4, 4).with_hidden([4]);
        let weights = |head: &ClassifierHead| {
            (head.hidden[0].weight.val().into_data(), head.output.weight.val().into_data())
        };
        let (a, b) = (weights(&config.init(1, &device())), weights(&config.init(1, &device())));
        assert_eq!(a, b);
        assert_ne!(a.0, a.1);
        assert_ne!(a.0, weights(&config.init(2, &device())).0);
    }

    #[test]
    fn over_pixels_it_is_the_mean_of_what_is_positive_of_each() {
        let config = HeadConfig::new(3, 2);
        let (plain, over) = (config.init(4, &device()), config.clone().over_pixels().init(4, &device()));
        let pixels = Tensor::<2>::from_floats([[1.0, -2.0, 0.5], [0.25, 3.0, -1.0]], &device());
        let each = plain.forward(pixels.clone()).into_data().try_to_vec::<f32>().expect("f32");
        let mean = over.forward(pixels.reshape([1, 6])).into_data().try_to_vec::<f32>().expect("f32");
        for class in 0..2 {
            let expected = (each[class].max(0.0) + each[2 + class].max(0.0)) / 2.0;
            assert!((mean[class] - expected).abs() < 1e-6, "{mean:?}, of {each:?}");
        }
    }

    #[test]
    fn dropout_acts_in_training_only() {
        let head = HeadConfig::new(64, 2).with_dropout(0.5).init(0, &device().autodiff());
        let x = Tensor::ones([1, 64], &device());
        let valid = head.valid();
        let (a, b) = (valid.forward(x.clone()), valid.forward(x.clone()));
        assert_eq!(a.into_data(), b.into_data());
        let x = Tensor::from_inner(x);
        assert_ne!(head.forward(x.clone()).into_data(), head.forward(x).into_data());
    }
}
