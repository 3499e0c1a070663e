//! Collects a network's operations and checks that they fit each other.

use super::compile::compile;
use super::node::{Block, Elementwise, Node, Operation, Value};
use super::{Plan, Run};
use crate::params::{ConvShape, FoldedConv, checked_length};
use crate::pool_window::{PoolParams, PoolWindow, Pooling};
use crate::simd::{Scalar, Simd};
use crate::{Activation, ConvParams, KernelError, SimdLevel};

/// The most values that a tensor of one image may have: what 32-bit offsets reach, with room for filling up channels.
const MOST_VALUES: usize = 1 << 31;

/// Collects the operations of a network in evaluation mode, a directed graph without cycles, checks that they fit each other, and
/// compiles them.
///
/// Each method adds an operation and returns its result, to be read by others; shapes are `[channels, height, width]` of one
/// image. A mistake is remembered and reported by [`build`](PlanBuilder::build), so that values can be handed on without a check.
///
/// ```
/// use firebrick_kernels::{Activation, ConvParams, PlanBuilder};
///
/// # fn main() -> Result<(), firebrick_kernels::KernelError> {
/// let weight = vec![0.1; 8 * 3 * 3 * 3];
/// let conv = ConvParams {
///     weight: &weight,
///     bias: None,
///     norm: None,
///     out_channels: 8,
///     in_channels: 3,
///     kernel: [3, 3],
///     stride: [2, 2],
///     padding: [[1, 1], [1, 1]],
///     groups: 1,
///     activation: Activation::Relu6,
/// };
/// let mut builder = PlanBuilder::new([3, 32, 32]);
/// let features = builder.conv(builder.input(), &conv, None);
/// let pooled = builder.global_average_pool(features);
/// let logits = builder.linear(pooled, &[0.5; 2 * 8], &[0.0; 2], Activation::None);
/// let plan = builder.output(logits).build()?;
/// let images = vec![1.0; 4 * 32 * 32 * 3];
/// assert_eq!(plan.run(&images, 4).len(), 4 * 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PlanBuilder {
    /// The input, then the operations in the order in which they were added.
    nodes: Vec<Node>,
    outputs: Vec<usize>,
    /// Operations so far, among them those that need no node.
    layers: usize,
    level: Option<SimdLevel>,
    error: Option<KernelError>,
}

impl PlanBuilder {
    /// A network whose input has these channels, height and width.
    pub fn new(input: [usize; 3]) -> Self {
        let node = Node { operation: Operation::Input, inputs: Vec::new(), shape: input };
        let error = (!input.contains(&0)).then(|| checked_size(0, input).err()).flatten();
        Self { nodes: vec![node], outputs: Vec::new(), layers: 0, level: None, error }
    }

    /// Uses this instruction set instead of [`SimdLevel::from_environment`].
    pub fn level(mut self, level: SimdLevel) -> Self {
        self.level = Some(level);
        self
    }

    /// The network's input.
    pub fn input(&self) -> Value {
        Value(0)
    }

    /// Channels, height and width of a value; `None` for one that is not this builder's.
    pub fn shape(&self, value: Value) -> Option<[usize; 3]> {
        self.nodes.get(value.0).map(|node| node.shape)
    }

    /// A convolution, its BatchNorm, `residual` if there is one, and the activation. A 1x1 convolution of a single pixel is computed
    /// as [`linear`](PlanBuilder::linear).
    pub fn conv(&mut self, x: Value, conv: &ConvParams<'_>, residual: Option<Value>) -> Value {
        if let (Some(residual), true) = (residual, conv.is_depthwise()) {
            // The depthwise kernel adds nothing: two operations.
            let filtered = self.conv(x, &ConvParams { activation: Activation::None, ..*conv }, None);
            return self.add(filtered, residual, conv.activation);
        }
        let inputs = [Some(x), residual];
        self.layer("convolution", &inputs, |layer, shapes| {
            let (conv, shape) = checked_conv(layer, "convolution", conv, shapes[0])?;
            if let Some(&added) = shapes.get(1)
                && added != shape
            {
                return invalid(
                    layer,
                    format!("a residual of {added:?} cannot be added to a convolution's {shape:?}"),
                );
            }
            let operation = if conv.shape.is_depthwise() {
                Operation::Block(Box::new(Block {
                    expand: None,
                    depthwise: conv,
                    project: None,
                    residual: false,
                }))
            } else if conv.shape.is_pointwise() && shape[1..] == [1, 1] && shapes.len() == 1 {
                Operation::Linear(Box::new(conv))
            } else {
                Operation::Conv(Box::new(conv))
            };
            Ok((operation, shape))
        })
    }

    /// The block of MobileNetV2 (Sandler et al. 2018): an optional expansion by any convolution without groups, a depthwise
    /// convolution, a projection by a 1x1 convolution; with `residual`, the block's input is added to the projection before the
    /// projection's activation, if it has one.
    pub fn inverted_residual(
        &mut self,
        x: Value,
        expand: Option<&ConvParams<'_>>,
        depthwise: &ConvParams<'_>,
        project: &ConvParams<'_>,
        residual: bool,
    ) -> Value {
        self.layer("inverted residual", &[Some(x)], |layer, shapes| {
            let input = shapes[0];
            let mut shape = input;
            let mut checked = |operation, conv: &ConvParams<'_>| {
                let (conv, result) = checked_conv(layer, operation, conv, shape)?;
                shape = result;
                Ok(conv)
            };
            let expand = expand.map(|expand| checked("expansion", expand)).transpose()?;
            let depthwise = checked("depthwise convolution", depthwise)?;
            let project = checked("projection", project)?;
            if let Some(expand) = &expand
                && expand.shape.groups != 1
            {
                let groups = expand.shape.groups;
                return invalid(layer, format!("the expansion must not have groups, got {groups}"));
            }
            let ConvShape { in_channels, out_channels, groups, .. } = depthwise.shape;
            if groups != in_channels || groups != out_channels {
                return invalid(layer, format!(
                    "the depthwise convolution needs as many groups and output channels as input channels, \
                     got {in_channels} -> {out_channels} in {groups} groups"
                ));
            }
            if !project.shape.is_pointwise() {
                return invalid(layer, format!(
                    "the projection must be a 1x1 convolution with stride 1, no padding and no groups, got {:?}",
                    project.shape
                ));
            }
            if residual && input != shape {
                return invalid(layer, format!(
                    "a residual needs equal shapes, but the block turns {input:?} into {shape:?}"
                ));
            }
            let block = Block { expand, depthwise, project: Some(project), residual };
            Ok((Operation::Block(Box::new(block)), shape))
        })
    }

    /// The largest value of each channel under each window; not a number where one is.
    pub fn max_pool(&mut self, x: Value, params: PoolParams) -> Value {
        self.pool(x, "max pooling", |layer, size| {
            PoolWindow::sliding(layer, &params, size, Pooling::Maximum, false)
        })
    }

    /// The average of each channel under each window. With `count_include_pad` the sum is divided by the window's pixels among
    /// input and padding, without by those of the input alone.
    pub fn average_pool(&mut self, x: Value, params: PoolParams, count_include_pad: bool) -> Value {
        self.pool(x, "average pooling", |layer, size| {
            PoolWindow::sliding(layer, &params, size, Pooling::Average, count_include_pad)
        })
    }

    /// The average of each channel over `output` bins, height and width: bin `i` of `n` covers `i * size / n`, rounded down, to
    /// `(i + 1) * size / n`, rounded up, as PyTorch has it.
    pub fn adaptive_average_pool(&mut self, x: Value, output: [usize; 2]) -> Value {
        if output == [1, 1] {
            return self.global_average_pool(x);
        }
        self.pool(x, "adaptive average pooling", |layer, size| PoolWindow::adaptive(layer, output, size))
    }

    fn pool(
        &mut self,
        x: Value,
        name: &'static str,
        window: impl FnOnce(usize, [usize; 2]) -> Result<PoolWindow, KernelError>,
    ) -> Value {
        self.layer(name, &[Some(x)], |layer, shapes| {
            let [channels, height, width] = shapes[0];
            let window = window(layer, [height, width])?;
            let shape = [channels, window.rows.len(), window.columns.len()];
            Ok((Operation::Pool(window), shape))
        })
    }

    /// The average of each channel over all pixels; the result is `[channels, 1, 1]`.
    pub fn global_average_pool(&mut self, x: Value) -> Value {
        self.layer("global average pooling", &[Some(x)], |_, shapes| {
            Ok((Operation::GlobalAveragePool, [shapes[0][0], 1, 1]))
        })
    }

    /// The channels of all values, one after another.
    pub fn concat(&mut self, values: &[Value]) -> Value {
        let inputs: Vec<_> = values.iter().copied().map(Some).collect();
        self.layer("concatenation", &inputs, |layer, shapes| {
            let Some(&[_, height, width]) = shapes.first() else {
                return invalid(layer, "a concatenation needs at least one value".to_owned());
            };
            if let Some(other) = shapes.iter().find(|shape| shape[1..] != [height, width]) {
                return invalid(
                    layer,
                    format!("cannot concatenate {other:?} with a value of {height} x {width}"),
                );
            }
            // Each has at most 2^31 channels, so that the sum of a list that fits memory does not overflow.
            let channels = shapes.iter().map(|shape| shape[0]).sum();
            Ok((Operation::Concat, [channels, height, width]))
        })
    }

    /// `activation(a + b)`, of equal shapes.
    pub fn add(&mut self, a: Value, b: Value, activation: Activation) -> Value {
        self.layer("addition", &[Some(a), Some(b)], |layer, shapes| {
            if shapes[0] != shapes[1] {
                return invalid(layer, format!("cannot add {:?} and {:?}", shapes[0], shapes[1]));
            }
            Ok((Operation::Elementwise(Elementwise::Add(activation)), shapes[0]))
        })
    }

    /// `x * gate`: each channel of `x`, `[c, h, w]`, times its value in `gate`, `[c, 1, 1]` (Hu et al. 2017, squeeze and excitation).
    pub fn scale(&mut self, x: Value, gate: Value) -> Value {
        self.layer("gate", &[Some(x), Some(gate)], |layer, shapes| {
            if shapes[1] != [shapes[0][0], 1, 1] {
                return invalid(layer, format!("a gate of {:?} does not fit {:?}", shapes[1], shapes[0]));
            }
            Ok((Operation::Elementwise(Elementwise::Scale), shapes[0]))
        })
    }

    /// `activation(x * scale + shift)`, a scale and a shift a channel: a BatchNorm that follows no convolution, or a LayerScale.
    pub fn channel_affine(
        &mut self,
        x: Value,
        scale: &[f32],
        shift: &[f32],
        activation: Activation,
    ) -> Value {
        self.layer("channel affine", &[Some(x)], |layer, shapes| {
            checked_length(layer, "scale", scale, &shapes[0][..1])?;
            checked_length(layer, "shift", shift, &shapes[0][..1])?;
            let affine = Elementwise::Affine { scale: scale.to_vec(), shift: shift.to_vec(), activation };
            Ok((Operation::Elementwise(affine), shapes[0]))
        })
    }

    /// LayerNorm (Ba et al. 2016) over the channels of each pixel: `(x - mean) / sqrt(var + epsilon) * gamma + beta`, the variance
    /// being the mean square deviation.
    pub fn layer_norm(&mut self, x: Value, gamma: &[f32], beta: &[f32], epsilon: f32) -> Value {
        self.layer("layer norm", &[Some(x)], |layer, shapes| {
            checked_length(layer, "gamma", gamma, &shapes[0][..1])?;
            checked_length(layer, "beta", beta, &shapes[0][..1])?;
            Ok((Operation::LayerNorm { gamma: gamma.to_vec(), beta: beta.to_vec(), epsilon }, shapes[0]))
        })
    }

    /// An activation of its own. Where it follows a layer that has one, it is cheaper there.
    pub fn activation(&mut self, x: Value, activation: Activation) -> Value {
        if activation == Activation::None {
            return self.same("activation", x);
        }
        self.layer("activation", &[Some(x)], |_, shapes| {
            Ok((Operation::Elementwise(Elementwise::Activation(activation)), shapes[0]))
        })
    }

    /// All values as one pixel, `[c * h * w, 1, 1]`, in PyTorch's order: channel by channel, each row by row.
    pub fn flatten(&mut self, x: Value) -> Value {
        if self.shape(x).is_some_and(|shape| shape[1..] == [1, 1]) {
            return self.same("flatten", x);
        }
        self.layer("flatten", &[Some(x)], |_, shapes| {
            Ok((Operation::Flatten, [shapes[0].iter().product(), 1, 1]))
        })
    }

    /// `activation(weight x + bias)` of a single pixel's channels: `weight` is `[out, in]`, `bias` is `[out]`.
    pub fn linear(&mut self, x: Value, weight: &[f32], bias: &[f32], activation: Activation) -> Value {
        self.layer("linear", &[Some(x)], |layer, shapes| {
            let [channels, height, width] = shapes[0];
            if [height, width] != [1, 1] {
                return invalid(
                    layer,
                    format!("linear needs a single pixel, got {height} x {width}; pool or flatten first"),
                );
            }
            let conv = ConvParams {
                weight,
                bias: Some(bias),
                norm: None,
                out_channels: bias.len(),
                in_channels: channels,
                kernel: [1, 1],
                stride: [1, 1],
                padding: [[0; 2]; 2],
                groups: 1,
                activation,
            };
            let (conv, shape) = checked_conv(layer, "linear", &conv, shapes[0])?;
            Ok((Operation::Linear(Box::new(conv)), shape))
        })
    }

    /// Makes a value an output of the plan, behind those before it.
    pub fn output(&mut self, value: Value) -> &mut Self {
        if value.0 < self.nodes.len() {
            self.outputs.push(value.0);
        } else if self.error.is_none() {
            let reason = "the output is a value of another builder".to_owned();
            self.error = Some(KernelError::InvalidLayer { layer: self.layers, reason });
        }
        self
    }

    /// Compiles the network.
    ///
    /// # Errors
    /// Whatever is wrong with the first bad operation, with its place counted from 0; [`KernelError::Empty`] and
    /// [`KernelError::NoOutput`] without operations or outputs; and the errors of [`SimdLevel::from_environment`].
    pub fn build(&self) -> Result<Plan, KernelError> {
        self.check()?;
        let level = self.level.map_or_else(SimdLevel::from_environment, SimdLevel::require)?;
        let unavailable =
            || KernelError::UnavailableLevel { asked: level, available: SimdLevel::available() };
        let network: Box<dyn Run> = match level {
            SimdLevel::Scalar => self.compiled(Scalar::<8>),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2 => self.compiled(crate::simd::Avx2::detect().ok_or_else(unavailable)?),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512 => self.compiled(crate::simd::Avx512::detect().ok_or_else(unavailable)?),
            #[cfg(target_arch = "aarch64")]
            SimdLevel::Neon => self.compiled(crate::simd::Neon::detect().ok_or_else(unavailable)?),
            #[allow(unreachable_patterns, reason = "which levels remain depends on the target")]
            _ => return Err(unavailable()),
        };
        Ok(self.plan(network, level))
    }

    /// The plan at a vector width that no instruction set here may have, for tests.
    #[cfg(test)]
    pub(crate) fn build_scalar<const LANES: usize>(&self) -> Result<Plan, KernelError> {
        self.check()?;
        Ok(self.plan(self.compiled(Scalar::<LANES>), SimdLevel::Scalar))
    }

    fn check(&self) -> Result<(), KernelError> {
        let input = self.nodes[0].shape;
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        if self.layers == 0 || input.contains(&0) {
            return Err(KernelError::Empty { layers: self.layers, input });
        }
        if self.outputs.is_empty() {
            return Err(KernelError::NoOutput { layers: self.layers });
        }
        Ok(())
    }

    fn compiled<S: Simd>(&self, simd: S) -> Box<dyn Run> {
        Box::new(compile(simd, &self.nodes, &self.outputs))
    }

    fn plan(&self, network: Box<dyn Run>, level: SimdLevel) -> Plan {
        let outputs = self.outputs.iter().map(|&output| self.nodes[output].shape).collect();
        Plan { network, level, input: self.nodes[0].shape, outputs }
    }

    /// A layer that leaves its input as it is.
    fn same(&mut self, name: &'static str, x: Value) -> Value {
        if self.known(name, &[Some(x)]) {
            self.layers += 1;
        }
        x
    }

    /// Whether there has been no error, and the values exist; an error if they do not.
    fn known(&mut self, name: &'static str, inputs: &[Option<Value>]) -> bool {
        if self.error.is_some() || self.nodes[0].shape.contains(&0) {
            return false;
        }
        let foreign = inputs.iter().flatten().any(|value| value.0 >= self.nodes.len());
        if foreign {
            let reason = format!("{name} reads a value of another builder");
            self.error = Some(KernelError::InvalidLayer { layer: self.layers, reason });
        }
        !foreign
    }

    fn layer(
        &mut self,
        name: &'static str,
        inputs: &[Option<Value>],
        check: impl FnOnce(usize, &[[usize; 3]]) -> Result<(Operation, [usize; 3]), KernelError>,
    ) -> Value {
        // What a mistake results in is never read: `build` reports the mistake.
        if !self.known(name, inputs) {
            return Value(0);
        }
        let inputs: Vec<usize> = inputs.iter().flatten().map(|value| value.0).collect();
        let shapes: Vec<_> = inputs.iter().map(|&input| self.nodes[input].shape).collect();
        let layer = self.layers;
        self.layers += 1;
        let checked = check(layer, &shapes)
            .and_then(|(operation, shape)| checked_size(layer, shape).map(|()| (operation, shape)));
        match checked {
            Ok((operation, shape)) => {
                self.nodes.push(Node { operation, inputs, shape });
                Value(self.nodes.len() - 1)
            }
            Err(error) => {
                self.error = Some(error);
                Value(0)
            }
        }
    }
}

fn invalid<T>(layer: usize, reason: String) -> Result<T, KernelError> {
    Err(KernelError::InvalidLayer { layer, reason })
}

/// Checks and folds a convolution that reads `shape`; also returns the result's.
fn checked_conv(
    layer: usize,
    operation: &'static str,
    conv: &ConvParams<'_>,
    [channels, height, width]: [usize; 3],
) -> Result<(FoldedConv, [usize; 3]), KernelError> {
    let folded = conv.fold(layer)?;
    if folded.shape.in_channels != channels {
        let expected = folded.shape.in_channels;
        return Err(KernelError::InputChannels { layer, operation, expected, actual: channels });
    }
    let padding = folded.shape.padding.map(|[before, after]| before + after);
    checked_size(layer, [channels, height + padding[0], width + padding[1]])?;
    let [height, width] = folded.shape.output_size(layer, [height, width])?;
    let shape = [folded.shape.out_channels, height, width];
    checked_size(layer, shape)?;
    Ok((folded, shape))
}

fn checked_size(layer: usize, [channels, height, width]: [usize; 3]) -> Result<(), KernelError> {
    // Channels are filled up to whole vectors, the widest of which has 16 values.
    let values = channels
        .checked_next_multiple_of(16)
        .and_then(|channels| channels.checked_mul(height)?.checked_mul(width));
    match values {
        Some(values) if values <= MOST_VALUES => Ok(()),
        _ => Err(KernelError::TooLarge { layer, channels, height, width, limit: MOST_VALUES }),
    }
}
