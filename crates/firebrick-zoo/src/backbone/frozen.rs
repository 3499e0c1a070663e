//! A backbone that is not trained, compiled for its device.
//!
//! On the CPU backends it becomes a [`Plan`]: BatchNorm folded, weights packed, SIMD kernels, no tensor but the first and
//! the last; a Vision Transformer becomes a [`VisionPlan`]. Elsewhere, and where an operation has no kernel, it stays the module that it was.

use std::sync::Arc;

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, Linear};
use burn::tensor::{Device, Tensor, TensorData};
use firebrick_autodiff::{CountPadding, Window};
use firebrick_kernels::{BatchNormParams, ConvParams, KernelError, Plan, PlanBuilder, PoolParams};
use firebrick_nn::{Activation, ConvNormAct};

use super::frozen_vision::VisionPlan;
use super::{Backbone, Layer};
use crate::ZooError;
use crate::graph::{Conv, Op, Residue, Shape, Step, Value};

/// A part of a backbone in evaluation mode. Cloning one copies no weights.
#[derive(Clone, Debug)]
pub struct FrozenBackbone {
    kind: Kind,
    result: Value,
    is_vector: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    Plan(Arc<Plan>),
    Vision(Arc<VisionPlan>),
    Module(Box<Backbone>),
}

impl Backbone {
    /// Compiles this backbone for images of `input_size` (`[height, width]`, pixels) on the device that it is on, up to what a head
    /// reads: [`FrozenBackbone::pooled`].
    ///
    /// # Errors
    ///
    /// [`ZooError::ImageSize`] if the network cannot take such images, [`ZooError::Kernel`] if the environment asks for an
    /// instruction set that this machine lacks.
    pub fn compile(&self, input_size: [u32; 2]) -> Result<FrozenBackbone, ZooError> {
        self.compile_to(self.graph.pooled, input_size)
    }

    /// As [`compile`](Self::compile), up to a stage: [`FrozenBackbone::map`], which [`after`](Self::after) reads.
    ///
    /// # Errors
    ///
    /// Those of [`compile`](Self::compile), and [`ZooError::UnknownStage`].
    pub fn compile_until(&self, stage: &str, input_size: [u32; 2]) -> Result<FrozenBackbone, ZooError> {
        self.compile_to(self.stage(stage)?, input_size)
    }

    fn compile_to(&self, result: Value, input_size: [u32; 2]) -> Result<FrozenBackbone, ZooError> {
        let module = self.valid();
        let size = input_size.map(|side| side as usize);
        let shapes = self.graph.shapes(size).map_err(|source| ZooError::ImageSize { size, source })?;
        let on_cpu = module.devices().iter().all(is_cpu);
        let kind = if !on_cpu {
            Kind::Module(Box::new(module))
        } else if let Some(plan) = module.plan(result, &shapes) {
            Kind::Plan(Arc::new(plan?))
        } else if let Some(plan) = module.vision_plan(result, &shapes) {
            Kind::Vision(Arc::new(plan?))
        } else {
            Kind::Module(Box::new(module))
        };
        Ok(FrozenBackbone { kind, result, is_vector: matches!(shapes[result.0], Shape::Vector(_)) })
    }

    /// The plan up to `result`, where the kernels have everything.
    fn plan(&self, result: Value, shapes: &[Shape]) -> Option<Result<Plan, KernelError>> {
        let Shape::Map(input) = shapes[self.start.0] else { return None };
        let nodes = &self.graph.nodes;
        let needed = self.needed(&[result]);
        let mut builder = PlanBuilder::new(input);
        let mut values = vec![None; nodes.len()];
        values[self.start.0] = Some(builder.input());
        for step in self.steps.iter().filter(|step| needed[step.result()]) {
            let value = match step {
                Step::Chain(links) => {
                    let mut x = values[links[0].input(&self.graph).0]?;
                    let stored = |node: usize| self.stored(node, shapes[nodes[node].inputs[0].0]);
                    for link in links {
                        let added = match link.residue {
                            Residue::None | Residue::Append(_) => None,
                            Residue::Input => Some(x),
                            Residue::Projection(node) => Some(builder.conv(x, &stored(node)?.params(), None)),
                            Residue::Value(value) => Some(values[value.0]?),
                        };
                        // A norm that follows no convolution can only begin a link.
                        let (norms, convs): (Vec<_>, Vec<_>) = link
                            .convs
                            .iter()
                            .partition(|&&node| matches!(nodes[node].op, Op::BatchNorm { .. }));
                        let mut y = x;
                        for norm in norms {
                            y = self.compile_node(norm, &mut builder, &[y], shapes)?;
                        }
                        let stored = convs.into_iter().map(stored).collect::<Option<Vec<Stored>>>()?;
                        let params: Vec<ConvParams> = stored.iter().map(Stored::params).collect();
                        y = chain(&mut builder, y, &params, added);
                        let appends = matches!(link.residue, Residue::Append(_));
                        x = if appends { builder.concat(&[x, y]) } else { y };
                    }
                    x
                }
                Step::Node(node) => {
                    let inputs = nodes[*node]
                        .inputs
                        .iter()
                        .map(|input| values[input.0])
                        .collect::<Option<Vec<_>>>()?;
                    self.compile_node(*node, &mut builder, &inputs, shapes)?
                }
            };
            values[step.result()] = Some(value);
        }
        Some(builder.output(values[result.0]?).build())
    }

    /// One operation; none where there is no kernel.
    fn compile_node(
        &self,
        node: usize,
        builder: &mut PlanBuilder,
        inputs: &[firebrick_kernels::Value],
        shapes: &[Shape],
    ) -> Option<firebrick_kernels::Value> {
        let input = shapes[self.graph.nodes[node].inputs[0].0];
        let x = inputs[0];
        Some(match (&self.graph.nodes[node].op, self.layer_of(node)) {
            (Op::Conv(_), Some(_)) => {
                builder.conv(x, &self.stored(node, input)?.params(), inputs.get(1).copied())
            }
            (Op::BatchNorm { activation, .. }, Some(Layer::BatchNorm(norm))) => {
                let [scale, shift] = affine(norm);
                builder.channel_affine(x, &scale, &shift, kernel(*activation)?)
            }
            (Op::LayerNorm { epsilon, .. }, Some(Layer::LayerNorm(norm))) => {
                let gamma = values_of(norm.gamma.val());
                let beta =
                    norm.beta.as_ref().map_or_else(|| vec![0.0; gamma.len()], |beta| values_of(beta.val()));
                builder.layer_norm(x, &gamma, &beta, *epsilon as f32)
            }
            (Op::Linear { activation, .. }, Some(Layer::Linear(layer))) => {
                linear(builder, x, layer, kernel(*activation)?)
            }
            (Op::LayerScale { .. }, Some(Layer::Scale(scale))) => {
                factors(builder, x, &values_of(scale.val()))
            }
            (Op::LayerScale { .. }, Some(Layer::SpatialScale(scale))) => {
                factors(builder, x, &values_of(scale.val()))
            }
            (Op::Activation(activation), _) => builder.activation(x, kernel(*activation)?),
            (Op::MaxPool(window), _) => builder.max_pool(x, pool(*window, input)),
            (Op::AveragePool(window, count), _) => {
                builder.average_pool(x, pool(*window, input), *count == CountPadding::Yes)
            }
            (Op::AdaptiveAveragePool(size), _) => builder.adaptive_average_pool(x, *size),
            (Op::GlobalAveragePool, _) => builder.global_average_pool(x),
            // Maps are channels last in memory, so they are their pixels' tokens one after another already.
            (Op::Tokens, _) => x,
            (Op::Flatten, _) if matches!(input, Shape::Tokens(_)) => x,
            (Op::Flatten, _) => builder.flatten(x),
            (Op::Concat, _) => builder.concat(inputs),
            (Op::Add(activation), _) => builder.add(x, inputs[1], kernel(*activation)?),
            (Op::Scale, _) => builder.scale(x, inputs[1]),
            (Op::DropPath(_) | Op::Dropout(_), _) => x,
            _ => return None,
        })
    }

    /// A convolution read back from its device, for an input of this shape.
    pub(super) fn stored(&self, node: usize, input: Shape) -> Option<Stored> {
        let Op::Conv(conv) = &self.graph.nodes[node].op else { return None };
        let size = match input {
            Shape::Map([_, height, width]) => [height, width],
            Shape::Vector(_) => [1, 1],
            Shape::Tokens(_) => return None,
        };
        let activation = kernel(conv.activation)?;
        Some(match self.layer_of(node)? {
            Layer::Conv(layer) => Stored::plain(conv, layer, size, activation),
            Layer::ConvNormAct(block) => Stored::with_norm(conv, block, size, activation),
            _ => return None,
        })
    }
}

/// The same function as the kernels have it; none where they do not.
pub(super) fn kernel(activation: Activation) -> Option<firebrick_kernels::Activation> {
    use firebrick_kernels::Activation as Kernel;
    match activation {
        Activation::Sigmoid => Some(Kernel::Sigmoid),
        Activation::HardSigmoid => Some(Kernel::HardSigmoid),
        Activation::Tanh => Some(Kernel::Tanh),
        other => other.fused(),
    }
}

fn pool(window: Window, input: Shape) -> PoolParams {
    let mut padding = window.padding.map(|side| [side, side]);
    if let (true, Shape::Map([_, height, width])) = (window.ceil, input) {
        // The only window may hang over the edge; the kernels take none that is larger than the map with its padding.
        for (axis, size) in [height, width].into_iter().enumerate() {
            padding[axis][1] =
                window.kernel[axis].saturating_sub(size + padding[axis][0]).max(padding[axis][1]);
        }
    }
    PoolParams { kernel: window.kernel, stride: window.stride, padding, ceil: window.ceil }
}

/// Convolutions one after another; what looks like an inverted residual is computed as one.
fn chain(
    builder: &mut PlanBuilder,
    input: firebrick_kernels::Value,
    mut convs: &[ConvParams],
    added: Option<firebrick_kernels::Value>,
) -> firebrick_kernels::Value {
    let dense = |conv: &ConvParams| conv.groups == 1;
    let depthwise = |conv: &ConvParams| conv.groups > 1 && conv.groups == conv.in_channels;
    let pointwise = |conv: &ConvParams| dense(conv) && conv.kernel == [1, 1] && conv.stride == [1, 1];
    let mut x = input;
    while let [first, rest @ ..] = convs {
        // What is added at the end must be the block's own input.
        let fits = |rest: &[ConvParams]| !rest.is_empty() || added.is_none_or(|added| added == x);
        convs = match rest {
            [second, third, rest @ ..]
                if dense(first) && depthwise(second) && pointwise(third) && fits(rest) =>
            {
                let residual = rest.is_empty() && added.is_some();
                x = builder.inverted_residual(x, Some(first), second, third, residual);
                rest
            }
            [second, rest @ ..] if depthwise(first) && pointwise(second) && fits(rest) => {
                let residual = rest.is_empty() && added.is_some();
                x = builder.inverted_residual(x, None, first, second, residual);
                rest
            }
            rest => {
                x = builder.conv(x, first, added.filter(|_| rest.is_empty()));
                rest
            }
        };
    }
    x
}

fn factors(
    builder: &mut PlanBuilder,
    x: firebrick_kernels::Value,
    scale: &[f32],
) -> firebrick_kernels::Value {
    builder.channel_affine(x, scale, &vec![0.0; scale.len()], firebrick_kernels::Activation::None)
}

/// A dense layer at every pixel: a 1x1 convolution.
fn linear(
    builder: &mut PlanBuilder,
    x: firebrick_kernels::Value,
    layer: &Linear,
    activation: firebrick_kernels::Activation,
) -> firebrick_kernels::Value {
    let [inputs, outputs] = layer.weight.dims();
    let weight = values_of(layer.weight.val().transpose());
    let bias = layer.bias.as_ref().map(|bias| values_of(bias.val()));
    let params = ConvParams {
        weight: &weight,
        bias: bias.as_deref(),
        norm: None,
        out_channels: outputs,
        in_channels: inputs,
        kernel: [1, 1],
        stride: [1, 1],
        padding: [[0; 2]; 2],
        groups: 1,
        activation,
    };
    builder.conv(x, &params, None)
}

/// What a BatchNorm with running statistics multiplies and adds.
fn affine(norm: &BatchNorm) -> [Vec<f32>; 2] {
    let [gamma, beta, mean, variance] = statistics(norm);
    let scale = |at: usize| f64::from(gamma[at]) / (f64::from(variance[at]) + norm.epsilon).sqrt();
    let shift = |at: usize| (f64::from(beta[at]) - f64::from(mean[at]) * scale(at)) as f32;
    [(0..gamma.len()).map(|at| scale(at) as f32).collect(), (0..gamma.len()).map(shift).collect()]
}

fn statistics(norm: &BatchNorm) -> [Vec<f32>; 4] {
    let BatchNorm { gamma, beta, running_mean, running_var, .. } = norm;
    [gamma.val(), beta.val(), running_mean.value(), running_var.value()].map(values_of)
}

impl FrozenBackbone {
    /// What a head reads: `[batch, channels, height, width]` to `[batch, features]`.
    ///
    /// Each row depends on its own image alone, to the last bit, on the CPU backends.
    ///
    /// # Panics
    ///
    /// If the images are not of the size that this backbone was compiled for, or it was compiled up to a stage.
    pub fn pooled(&self, images: Tensor<4>) -> Tensor<2> {
        match &self.kind {
            Kind::Module(backbone) => backbone.run(images, &[self.result]).remove(0).into_vector(),
            Kind::Plan(plan) => {
                let features = plan.output_len(0);
                assert!(self.is_vector, "this part of a backbone ends with a map");
                let (device, batch, values) =
                    run(plan.input_shape(), images, |nhwc, batch| plan.run(nhwc, batch));
                Tensor::from_data(TensorData::new(values, [batch, features]), &device)
            }
            Kind::Vision(plan) => {
                let (device, batch, values) =
                    run(plan.input_shape(), images, |nhwc, batch| plan.run(nhwc, batch));
                Tensor::from_data(TensorData::new(values, [batch, plan.width()]), &device)
            }
        }
    }

    /// The feature map at the stage that it was compiled up to: `[batch, channels, height, width]` to `[batch, channels, h, w]`.
    ///
    /// # Panics
    ///
    /// If the images are not of the size that this backbone was compiled for, or it was compiled up to the features.
    pub fn map(&self, images: Tensor<4>) -> Tensor<4> {
        match &self.kind {
            Kind::Module(backbone) => backbone.run(images, &[self.result]).remove(0).into_stage(),
            Kind::Plan(plan) => {
                assert!(!self.is_vector, "this part of a backbone ends with features");
                let [channels, height, width] = plan.output_shape(0);
                let (device, batch, values) =
                    run(plan.input_shape(), images, |nhwc, batch| plan.run(nhwc, batch));
                let shape = [batch, height, width, channels];
                Tensor::<4>::from_data(TensorData::new(values, shape), &device).permute([0, 3, 1, 2])
            }
            Kind::Vision(_) => panic!("this part of a backbone ends with a vector"),
        }
    }

    /// The plan, on the CPU backends where the kernels have every operation.
    pub fn plan(&self) -> Option<&Plan> {
        match &self.kind {
            Kind::Plan(plan) => Some(plan),
            Kind::Vision(_) | Kind::Module(_) => None,
        }
    }
}

/// What `plan` makes of images of `shape`, channels last; with their device and number.
fn run(
    shape: [usize; 3],
    images: Tensor<4>,
    plan: impl FnOnce(&[f32], usize) -> Vec<f32>,
) -> (Device, usize, Vec<f32>) {
    let device = images.device();
    let [batch, channels, height, width] = images.dims();
    assert_eq!([channels, height, width], shape, "the backbone was compiled for another size");
    // Images come channels last in memory, so this undoes a view and moves no byte.
    let nhwc = images.permute([0, 2, 3, 1]).into_data();
    let nhwc = nhwc.as_slice::<f32>().expect("the CPU backends compute in f32");
    (device, batch, plan(nhwc, batch))
}

/// Whether the tensors of `device` are this process's own memory.
pub(crate) fn is_cpu(device: &Device) -> bool {
    #[cfg(feature = "ndarray")]
    {
        #[allow(deprecated, reason = "burn-ndarray is deprecated upstream and first class here")]
        let ndarray = Device::ndarray();
        if *device == ndarray {
            return true;
        }
    }
    #[cfg(feature = "flex")]
    if *device == Device::flex() {
        return true;
    }
    let _ = device;
    false
}

/// A convolution read back from its device.
pub(super) struct Stored {
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    norm: Option<[Vec<f32>; 4]>,
    epsilon: f32,
    outputs: usize,
    inputs: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [[usize; 2]; 2],
    groups: usize,
    activation: firebrick_kernels::Activation,
}

impl Stored {
    fn plain(
        conv: &Conv,
        layer: &Conv2d,
        size: [usize; 2],
        activation: firebrick_kernels::Activation,
    ) -> Self {
        Self {
            weight: values_of(layer.weight.val()),
            bias: layer.bias.as_ref().map(|bias| values_of(bias.val())),
            norm: None,
            epsilon: 0.0,
            outputs: conv.outputs,
            inputs: conv.inputs,
            kernel: conv.kernel,
            stride: conv.stride,
            padding: conv.padding.resolve(size, conv.kernel, conv.stride),
            groups: conv.groups,
            activation,
        }
    }

    fn with_norm(
        conv: &Conv,
        block: &ConvNormAct,
        size: [usize; 2],
        activation: firebrick_kernels::Activation,
    ) -> Self {
        Self {
            norm: Some(statistics(&block.norm)),
            epsilon: block.norm.epsilon as f32,
            ..Self::plain(conv, &block.conv, size, activation)
        }
    }

    pub(super) fn params(&self) -> ConvParams<'_> {
        let norm = self.norm.as_ref().map(|[gamma, beta, mean, var]| BatchNormParams {
            gamma,
            beta,
            mean,
            var,
            epsilon: self.epsilon,
        });
        ConvParams {
            weight: &self.weight,
            bias: self.bias.as_deref(),
            norm,
            out_channels: self.outputs,
            in_channels: self.inputs,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
            groups: self.groups,
            activation: self.activation,
        }
    }
}

pub(crate) fn values_of<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_to_vec().expect("just converted to f32")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CreateOptions, create, find};

    #[allow(deprecated)]
    fn device() -> Device {
        Device::ndarray()
    }

    fn images(height: usize, width: usize) -> Tensor<4> {
        let count = 2 * 3 * height * width;
        let pixels: Vec<f32> = (0..count).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
        let images = Tensor::<4>::from_data(TensorData::new(pixels, [2, height, width, 3]), &device());
        images.permute([0, 3, 1, 2])
    }

    fn compare<const D: usize>(what: &str, got: Tensor<D>, expected: Tensor<D>) {
        assert_eq!(got.dims(), expected.dims(), "{what}");
        let (got, expected) = (values_of(got), values_of(expected));
        let scale = expected.iter().fold(0.0f32, |scale, v| scale.max(v.abs()));
        for (g, e) in got.iter().zip(&expected) {
            assert!((g - e).abs() <= 1e-4 * scale, "{what}: {g} != {e}, scale {scale}");
        }
    }

    fn backbone(name: &str) -> Backbone {
        let options = CreateOptions { seed: 5, ..CreateOptions::default() };
        create(find(name).expect("in the zoo"), &options, &device()).backbone
    }

    #[test]
    fn a_compiled_backbone_is_the_module_in_evaluation_mode() {
        for name in ["mobilenet_v2_0.35", "resnet18"] {
            let backbone = backbone(name);
            for (height, width) in [(32, 32), (65, 33), (1, 1)] {
                let frozen = backbone.compile([height as u32, width as u32]).expect("compiled");
                assert!(matches!(frozen.kind, Kind::Plan(_)));
                let images = images(height, width);
                let what = format!("{name}, {height}x{width}");
                compare(&what, frozen.pooled(images.clone()), backbone.pooled(images));
            }
        }
    }

    /// What is left of such images is smaller than the windows of a pooling that rounds up; the smallest that torchvision takes.
    #[test]
    fn a_window_that_hangs_over_the_edge_may_be_the_only_one() {
        for (name, side) in [("squeezenet1_1", 17), ("squeezenet1_0", 21), ("googlenet", 15)] {
            let backbone = backbone(name);
            let frozen = backbone.compile([side, side]).expect("compiled");
            assert!(matches!(frozen.kind, Kind::Plan(_)));
            let images = images(side as usize, side as usize);
            compare(name, frozen.pooled(images.clone()), backbone.pooled(images));
        }
    }

    #[test]
    fn a_backbone_cut_at_a_stage_computes_what_the_whole_one_does() {
        let backbone = backbone("resnet18");
        let images = images(48, 40);
        let expected = backbone.pooled(images.clone());
        for stage in ["stem", "layer2", "layer4"] {
            let before = backbone.compile_until(stage, [48, 40]).expect("compiled");
            let map = before.map(images.clone());
            compare(stage, map.clone(), backbone.stages(images.clone(), &[stage]).expect("known").remove(0));
            let after = backbone.after(stage).expect("known");
            compare(stage, after.pooled(map), expected.clone());
            compare(stage, after.rejoin(&backbone).pooled(images.clone()), expected.clone());
        }
        let error = backbone.after("layer9").expect_err("unknown").to_string();
        assert!(error.contains("layer9") && error.contains("layer2"), "{error}");
    }
}
