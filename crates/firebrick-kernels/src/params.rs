//! A convolution as frameworks store it, checked and with its BatchNorm folded in.

use crate::{Activation, KernelError};

/// A two-dimensional convolution with its bias, BatchNorm and activation, in PyTorch's layout.
///
/// Output height is `(height + padding top + bottom - kernel height) / stride + 1`, rounded down; width likewise.
///
/// A plan may compute a 3x3 convolution with stride 1 and many channels by tiles, in Winograd's form: within 1e-5 of the largest result,
/// and an infinite or not-a-number activation may spread to results up to four pixels away.
#[derive(Debug, Clone, Copy)]
pub struct ConvParams<'a> {
    /// `[out_channels, in_channels / groups, kernel height, kernel width]`.
    pub weight: &'a [f32],
    /// `[out_channels]`, added before the BatchNorm.
    pub bias: Option<&'a [f32]>,
    /// The BatchNorm that follows, in evaluation mode.
    pub norm: Option<BatchNormParams<'a>>,
    /// Channels of the result; a multiple of `groups`.
    pub out_channels: usize,
    /// Channels of the input; a multiple of `groups`.
    pub in_channels: usize,
    /// Height and width, at least 1.
    pub kernel: [usize; 2],
    /// Vertical and horizontal step, at least 1.
    pub stride: [usize; 2],
    /// Zeros around the input: `[[top, bottom], [left, right]]`.
    pub padding: [[usize; 2]; 2],
    /// Groups of channels that do not see each other; `in_channels` for a depthwise convolution.
    ///
    /// With more than one group that is not depthwise, an infinite or not-a-number activation may spread to neighbouring groups.
    pub groups: usize,
    /// Applied last.
    pub activation: Activation,
}

/// A BatchNorm in evaluation mode: `(x - mean) / sqrt(var + epsilon) * gamma + beta`, each `[channels]`.
#[derive(Debug, Clone, Copy)]
pub struct BatchNormParams<'a> {
    /// The scale, PyTorch's `weight`.
    pub gamma: &'a [f32],
    /// The shift, PyTorch's `bias`.
    pub beta: &'a [f32],
    /// The running mean.
    pub mean: &'a [f32],
    /// The running variance.
    pub var: &'a [f32],
    /// Added to the variance; PyTorch's default is 1e-5, Keras' is 1e-3.
    pub epsilon: f32,
}

/// A convolution that was checked and owns its folded weights.
#[derive(Debug, Clone)]
pub(crate) struct FoldedConv {
    /// `[out_channels, in_channels / groups, kernel height, kernel width]`.
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) shape: ConvShape,
    pub(crate) activation: Activation,
}

/// The sizes of a convolution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConvShape {
    pub(crate) out_channels: usize,
    pub(crate) in_channels: usize,
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [[usize; 2]; 2],
    pub(crate) groups: usize,
}

/// The largest kernel, stride or padding: far above what networks use.
pub(crate) const LARGEST_WINDOW: usize = 1 << 12;
/// The most channels, likewise.
pub(crate) const MOST_CHANNELS: usize = 1 << 20;

impl ConvShape {
    /// Checks that a convolution can have these sizes.
    pub(crate) fn check(&self, layer: usize) -> Result<(), KernelError> {
        let invalid = |reason: String| Err(KernelError::InvalidLayer { layer, reason });
        let (inputs, outputs, groups) = (self.in_channels, self.out_channels, self.groups);
        if inputs == 0 || outputs == 0 || groups == 0 {
            return invalid(format!(
                "channels and groups must be at least 1, got {inputs} -> {outputs} in {groups} groups"
            ));
        }
        if inputs > MOST_CHANNELS || outputs > MOST_CHANNELS {
            return invalid(format!(
                "at most {MOST_CHANNELS} channels are supported, got {inputs} -> {outputs}"
            ));
        }
        if !inputs.is_multiple_of(groups) || !outputs.is_multiple_of(groups) {
            return invalid(format!(
                "{groups} groups do not divide {inputs} input and {outputs} output channels"
            ));
        }
        let window = self.kernel.into_iter().chain(self.stride);
        if window.clone().any(|side| side == 0 || side > LARGEST_WINDOW) {
            let (kernel, stride) = (self.kernel, self.stride);
            return invalid(format!(
                "kernel {kernel:?} and stride {stride:?} must lie between 1 and {LARGEST_WINDOW}"
            ));
        }
        if self.padding.iter().flatten().any(|&side| side > LARGEST_WINDOW) {
            return invalid(format!("padding {:?} is larger than {LARGEST_WINDOW}", self.padding));
        }
        Ok(())
    }

    /// Rows and columns of the result.
    pub(crate) fn output_size(&self, layer: usize, size: [usize; 2]) -> Result<[usize; 2], KernelError> {
        let padded = [0, 1].map(|axis| size[axis] + self.padding[axis][0] + self.padding[axis][1]);
        if self.kernel[0] > padded[0] || self.kernel[1] > padded[1] {
            return Err(KernelError::KernelLargerThanInput { layer, kernel: self.kernel, padded });
        }
        Ok([0, 1].map(|axis| (padded[axis] - self.kernel[axis]) / self.stride[axis] + 1))
    }

    pub(crate) fn is_depthwise(&self) -> bool {
        self.groups == self.in_channels && self.groups == self.out_channels && self.groups > 1
    }

    /// A 1x1 kernel that visits every pixel once and mixes all channels.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.groups == 1 && self.kernel == [1, 1] && self.stride == [1, 1] && self.padding == [[0; 2]; 2]
    }

    /// Products for one pixel of the result.
    pub(crate) fn multiply_adds_per_pixel(&self) -> u64 {
        (self.out_channels * (self.in_channels / self.groups) * self.kernel[0] * self.kernel[1]) as u64
    }
}

/// Values of a tensor of this shape; more than any slice has where they cannot be counted.
pub(crate) fn volume(shape: &[usize]) -> usize {
    shape.iter().fold(1, |volume: usize, &size| volume.saturating_mul(size))
}

/// Checks that a parameter has as many values as its shape says.
pub(crate) fn checked_length(
    layer: usize,
    parameter: &'static str,
    values: &[f32],
    shape: &[usize],
) -> Result<(), KernelError> {
    let expected = volume(shape);
    if values.len() == expected {
        return Ok(());
    }
    let (shape, actual) = (format!("{shape:?}"), values.len());
    Err(KernelError::ParameterLength { layer, parameter, shape, expected, actual })
}

impl ConvParams<'_> {
    pub(crate) fn is_depthwise(&self) -> bool {
        self.groups == self.in_channels && self.groups == self.out_channels && self.groups > 1
    }

    /// Checks every size and multiplies the BatchNorm into the weights, in f64, rounded once.
    pub(crate) fn fold(&self, layer: usize) -> Result<FoldedConv, KernelError> {
        let sizes = ConvShape {
            out_channels: self.out_channels,
            in_channels: self.in_channels,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
            groups: self.groups,
        };
        sizes.check(layer)?;
        let (inputs, outputs, groups) = (self.in_channels, self.out_channels, self.groups);

        let shape = [outputs, inputs / groups, self.kernel[0], self.kernel[1]];
        let length =
            |parameter, values: &[f32], shape: &[usize]| checked_length(layer, parameter, values, shape);
        length("weight", self.weight, &shape)?;
        if let Some(bias) = self.bias {
            length("bias", bias, &[outputs])?;
        }
        if let Some(norm) = &self.norm {
            let parts = [("gamma", norm.gamma), ("beta", norm.beta), ("mean", norm.mean), ("var", norm.var)];
            for (name, values) in parts {
                length(name, values, &[outputs])?;
            }
        }

        let mut weight = self.weight.to_vec();
        let mut bias = self.bias.map_or_else(|| vec![0.0; outputs], <[f32]>::to_vec);
        if let Some(norm) = &self.norm {
            let per_output = weight.len() / outputs;
            for (channel, (weights, bias)) in weight.chunks_exact_mut(per_output).zip(&mut bias).enumerate() {
                let variance = f64::from(norm.var[channel]) + f64::from(norm.epsilon);
                let scale = f64::from(norm.gamma[channel]) / variance.sqrt();
                for weight in weights {
                    *weight = (f64::from(*weight) * scale) as f32;
                }
                let centred = f64::from(*bias) - f64::from(norm.mean[channel]);
                *bias = (centred * scale + f64::from(norm.beta[channel])) as f32;
            }
        }
        Ok(FoldedConv { weight, bias, shape: sizes, activation: self.activation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointwise(weight: &[f32]) -> ConvParams<'_> {
        ConvParams {
            weight,
            bias: None,
            norm: None,
            out_channels: 2,
            in_channels: 1,
            kernel: [1, 1],
            stride: [1, 1],
            padding: [[0; 2]; 2],
            groups: 1,
            activation: Activation::None,
        }
    }

    #[test]
    fn folds_the_norm_into_weight_and_bias() {
        let norm = BatchNormParams {
            gamma: &[2.0, 1.0],
            beta: &[0.5, -1.0],
            mean: &[1.0, 3.0],
            var: &[3.0, 0.0],
            epsilon: 1.0,
        };
        let folded = ConvParams { bias: Some(&[0.0, 4.0]), norm: Some(norm), ..pointwise(&[10.0, 20.0]) }
            .fold(0)
            .unwrap();
        assert_eq!(folded.weight, [10.0, 20.0]);
        assert_eq!(folded.bias, [-0.5, 0.0]);
    }

    #[test]
    fn names_the_parameter_of_the_wrong_length() {
        let error = pointwise(&[1.0, 2.0, 3.0]).fold(4).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("layer 4") && text.contains("weight holds 3") && text.contains("[2, 1, 1, 1]"),
            "{text}"
        );
    }

    #[test]
    fn a_weight_whose_size_wraps_around_to_nothing_is_not_there() {
        let [out_channels, in_channels] = [MOST_CHANNELS; 2];
        let params = ConvParams { out_channels, in_channels, kernel: [LARGEST_WINDOW; 2], ..pointwise(&[]) };
        assert!(matches!(params.fold(0), Err(KernelError::ParameterLength { .. })));
    }

    #[test]
    fn refuses_groups_that_do_not_divide_the_channels() {
        let error = ConvParams { groups: 3, ..pointwise(&[1.0, 2.0]) }.fold(0).unwrap_err();
        assert!(matches!(error, KernelError::InvalidLayer { .. }), "{error}");
    }

    #[test]
    fn refuses_a_stride_of_zero() {
        let error = ConvParams { stride: [0, 1], ..pointwise(&[1.0, 2.0]) }.fold(0).unwrap_err();
        assert!(error.to_string().contains("stride [0, 1]"), "{error}");
    }
}
