//! The network as the textbook has it: loops over `[height, width, channels]` in f64. What the kernels are tested against.

use crate::{Activation, ConvParams};

/// An image, `[height, width, channels]`.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    pub(crate) values: Vec<f64>,
}

impl Image {
    pub(crate) fn new([channels, height, width]: [usize; 3], values: &[f32]) -> Self {
        assert_eq!(values.len(), channels * height * width);
        Self { height, width, channels, values: values.iter().map(|&value| f64::from(value)).collect() }
    }

    fn at(&self, y: usize, x: usize, channel: usize) -> f64 {
        self.values[(y * self.width + x) * self.channels + channel]
    }
}

pub(crate) fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::Gelu => x * normal_cdf(x),
    }
}

/// Convolution, BatchNorm, activation.
pub(crate) fn conv(conv: &ConvParams<'_>, input: &Image) -> Image {
    conv_with(conv, input, None)
}

/// Convolution, BatchNorm, residual, activation.
pub(crate) fn conv_with(conv: &ConvParams<'_>, input: &Image, residual: Option<&Image>) -> Image {
    let [kernel_height, kernel_width] = conv.kernel;
    let [[top, bottom], [left, right]] = conv.padding;
    let height = (input.height + top + bottom - kernel_height) / conv.stride[0] + 1;
    let width = (input.width + left + right - kernel_width) / conv.stride[1] + 1;
    let (inputs, outputs) = (conv.in_channels / conv.groups, conv.out_channels / conv.groups);
    let mut values = Vec::new();
    for y in 0..height {
        for x in 0..width {
            for output in 0..conv.out_channels {
                let mut sum = conv.bias.map_or(0.0, |bias| f64::from(bias[output]));
                for input_channel in 0..inputs {
                    let channel = output / outputs * inputs + input_channel;
                    for ky in 0..kernel_height {
                        for kx in 0..kernel_width {
                            let from_y =
                                (y * conv.stride[0] + ky).checked_sub(top).filter(|&y| y < input.height);
                            let from_x =
                                (x * conv.stride[1] + kx).checked_sub(left).filter(|&x| x < input.width);
                            if let (Some(from_y), Some(from_x)) = (from_y, from_x) {
                                let weight = ((output * inputs + input_channel) * kernel_height + ky)
                                    * kernel_width
                                    + kx;
                                sum += f64::from(conv.weight[weight]) * input.at(from_y, from_x, channel);
                            }
                        }
                    }
                }
                if let Some(norm) = &conv.norm {
                    let [gamma, beta, mean, var] =
                        [norm.gamma, norm.beta, norm.mean, norm.var].map(|values| f64::from(values[output]));
                    sum = (sum - mean) / (var + f64::from(norm.epsilon)).sqrt() * gamma + beta;
                }
                sum += residual.map_or(0.0, |residual| residual.at(y, x, output));
                values.push(activate(conv.activation, sum));
            }
        }
    }
    Image { height, width, channels: conv.out_channels, values }
}

pub(crate) fn global_average_pool(input: &Image) -> Image {
    let pixels = input.height * input.width;
    let values = (0..input.channels)
        .map(|channel| input.values.iter().skip(channel).step_by(input.channels).sum::<f64>() / pixels as f64)
        .collect();
    Image { height: 1, width: 1, channels: input.channels, values }
}

/// The normal distribution's cumulative function, to about 1e-14: the series around 0 where that converges fast, the continued
/// fraction of the tail elsewhere.
pub(crate) fn normal_cdf(x: f64) -> f64 {
    let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if x.abs() < 3.0 {
        // Phi(x) = 1/2 + density (x + x^3 / 3 + x^5 / (3 * 5) + ...)
        let mut term = x;
        let mut sum = x;
        for k in 1..100 {
            term *= x * x / f64::from(2 * k + 1);
            sum += term;
        }
        return 0.5 + density * sum;
    }
    // The upper tail: density / (a + 1 / (a + 2 / (a + 3 / (a + ...)))).
    let a = x.abs();
    let fraction = (1..200).rev().fold(a, |below, k| a + f64::from(k) / below);
    let tail = density / fraction;
    if x < 0.0 { tail } else { 1.0 - tail }
}
