//! The network as the textbook has it: loops over `[height, width, channels]` in f64. What the kernels are tested against.

use crate::{Activation, ConvParams, PoolParams};

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
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::HardSigmoid => (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::Tanh => x.tanh(),
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

/// What a pooling operation does with the values under a window.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pool {
    Maximum,
    /// Over the window's pixels in input and padding.
    AverageWithPadding,
    /// Over the window's pixels in the input.
    Average,
}

/// The windows of PyTorch's pooling, in coordinates of the padded input.
pub(crate) fn pool(params: &PoolParams, pool: Pool, input: &Image) -> Image {
    let [[top, bottom], [left, right]] = params.padding;
    let count = |size: usize, kernel: usize, stride: usize, [before, after]: [usize; 2]| {
        let steps = (size + before + after - kernel) as f64 / stride as f64;
        if !params.ceil {
            return steps.floor() as usize + 1;
        }
        let count = steps.ceil() as usize + 1;
        if (count - 1) * stride >= size + before { count - 1 } else { count }
    };
    let height = count(input.height, params.kernel[0], params.stride[0], params.padding[0]);
    let width = count(input.width, params.kernel[1], params.stride[1], params.padding[1]);
    let mut values = Vec::new();
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        for channel in 0..input.channels {
            let (mut most, mut sum, mut inside, mut all) = (f64::NEG_INFINITY, 0.0, 0, 0);
            for padded_y in (y * params.stride[0]..).take(params.kernel[0]) {
                for padded_x in (x * params.stride[1]..).take(params.kernel[1]) {
                    if padded_y < input.height + top + bottom && padded_x < input.width + left + right {
                        all += 1;
                    }
                    let image = |at: usize, before: usize, size: usize| {
                        at.checked_sub(before).filter(|&at| at < size)
                    };
                    let (from_y, from_x) =
                        (image(padded_y, top, input.height), image(padded_x, left, input.width));
                    if let (Some(from_y), Some(from_x)) = (from_y, from_x) {
                        let value = input.at(from_y, from_x, channel);
                        (most, sum, inside) = (most.max(value), sum + value, inside + 1);
                    }
                }
            }
            values.push(match pool {
                Pool::Maximum => most,
                Pool::AverageWithPadding => sum / f64::from(all),
                Pool::Average => sum / f64::from(inside),
            });
        }
    }
    Image { height, width, channels: input.channels, values }
}

/// PyTorch's adaptive average pooling.
pub(crate) fn adaptive_average_pool([height, width]: [usize; 2], input: &Image) -> Image {
    let bin = |index: usize, count: usize, size: usize| {
        let (index, count, size) = (index as f64, count as f64, size as f64);
        (index * size / count).floor() as usize..((index + 1.0) * size / count).ceil() as usize
    };
    let mut values = Vec::new();
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let (rows, columns) = (bin(y, height, input.height), bin(x, width, input.width));
        for channel in 0..input.channels {
            let under = rows.clone().flat_map(|y| columns.clone().map(move |x| (y, x)));
            let sum: f64 = under.map(|(y, x)| input.at(y, x, channel)).sum();
            values.push(sum / (rows.len() * columns.len()) as f64);
        }
    }
    Image { height, width, channels: input.channels, values }
}

pub(crate) fn concat(inputs: &[&Image]) -> Image {
    let (height, width) = (inputs[0].height, inputs[0].width);
    let values = (0..height * width)
        .flat_map(|pixel| {
            inputs.iter().flat_map(move |input| &input.values[pixel * input.channels..][..input.channels])
        })
        .copied()
        .collect();
    Image { height, width, channels: inputs.iter().map(|input| input.channels).sum(), values }
}

/// Applies a function of the channel, the value's place, and the value to every value.
pub(crate) fn map(input: &Image, function: impl Fn(usize, usize, f64) -> f64) -> Image {
    let values = input.values.iter().enumerate();
    let values = values.map(|(at, &value)| function(at % input.channels, at, value)).collect();
    Image { values, ..*input }
}

pub(crate) fn layer_norm(gamma: &[f32], beta: &[f32], epsilon: f32, input: &Image) -> Image {
    let mut values = Vec::new();
    for pixel in input.values.chunks(input.channels) {
        let count = pixel.len() as f64;
        let mean = pixel.iter().sum::<f64>() / count;
        let variance = pixel.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        let scale = 1.0 / (variance + f64::from(epsilon)).sqrt();
        let parameters = gamma.iter().zip(beta);
        values.extend(
            pixel
                .iter()
                .zip(parameters)
                .map(|(value, (&gamma, &beta))| (value - mean) * scale * f64::from(gamma) + f64::from(beta)),
        );
    }
    Image { values, ..*input }
}

/// `[c, h, w]` as `[c * h * w, 1, 1]`.
pub(crate) fn flatten(input: &Image) -> Image {
    let mut values = Vec::new();
    for channel in 0..input.channels {
        values.extend(input.values.iter().skip(channel).step_by(input.channels));
    }
    Image { height: 1, width: 1, channels: values.len(), values }
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
