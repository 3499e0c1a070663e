//! A backbone that is not trained, compiled for its device.
//!
//! On the CPU backends it becomes a [`Plan`]: BatchNorm folded, weights packed, SIMD kernels, no tensor but the first and
//! the last. Elsewhere, and where an activation has no kernel, it stays the module that it was.

use std::sync::Arc;

use burn::module::Module;
use burn::nn::BatchNorm;
use burn::tensor::{Device, Tensor, TensorData};
use firebrick_kernels::{BatchNormParams, ConvParams, KernelError, Plan, PlanBuilder};
use firebrick_nn::ConvNormAct;

use crate::graph::{Op, Residue, Shape, Step};
use crate::{Backbone, Layer, ZooError};

/// A backbone in evaluation mode, followed by global average pooling. Cloning one copies no weights.
#[derive(Clone, Debug)]
pub struct FrozenBackbone {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Plan(Arc<Plan>),
    Module(Box<Backbone>),
}

impl Backbone {
    /// Compiles this backbone for images of `input_size` (`[height, width]`, pixels) on the device that it is on.
    ///
    /// # Errors
    ///
    /// [`ZooError::ImageSize`] if the network cannot take such images, [`ZooError::Kernel`] if the environment asks for an
    /// instruction set that this machine lacks.
    pub fn compile(&self, input_size: [u32; 2]) -> Result<FrozenBackbone, ZooError> {
        let module = self.valid();
        let size = input_size.map(|side| side as usize);
        module.check_size(size)?;
        let on_cpu = module.devices().iter().all(is_cpu);
        let kind = match module.plan(size).filter(|_| on_cpu) {
            Some(plan) => Kind::Plan(Arc::new(plan?)),
            None => Kind::Module(Box::new(module)),
        };
        Ok(FrozenBackbone { kind })
    }

    /// The plan, where the kernels have everything.
    fn plan(&self, [height, width]: [usize; 2]) -> Option<Result<Plan, KernelError>> {
        let nodes = self.graph().nodes();
        let shapes = self.graph().shapes([height, width]).ok()?;
        let mut builder = PlanBuilder::new([self.graph().channels(), height, width]);
        for step in self.steps() {
            match step {
                Step::Chain { convs, residue } => {
                    let blocks: Vec<&ConvNormAct> = convs
                        .iter()
                        .map(|&node| match self.layer_at(nodes[node].layer?)? {
                            Layer::ConvNormAct(block) => Some(block),
                            _ => None,
                        })
                        .collect::<Option<_>>()?;
                    if blocks.iter().any(|block| block.activation.fused().is_none()) {
                        return None;
                    }
                    let size = |node: usize| match shapes[nodes[node].inputs[0].0] {
                        Shape::Map([_, height, width]) => [height, width],
                        other => unreachable!("a convolution with BatchNorm reads a map, not {other:?}"),
                    };
                    let stored: Vec<Stored> = convs
                        .iter()
                        .zip(blocks)
                        .map(|(&node, block)| Stored::of(block, size(node)))
                        .collect();
                    let params: Vec<ConvParams> = stored.iter().map(Stored::params).collect();
                    match (params.as_slice(), residue) {
                        ([expand, depthwise, project], Residue::Input) => {
                            builder = builder.inverted_residual(Some(expand), depthwise, project, true);
                        }
                        (_, Residue::None) => builder = bands(builder, &params),
                        _ => return None,
                    }
                }
                Step::Node(node) if nodes[*node].op == Op::GlobalAveragePool => {
                    builder = builder.global_average_pool();
                }
                Step::Node(_) => return None,
            }
        }
        Some(builder.build())
    }
}

/// Convolutions one after another; what looks like an inverted residual is computed as one.
fn bands(mut builder: PlanBuilder, mut convs: &[ConvParams]) -> PlanBuilder {
    let dense = |conv: &ConvParams| conv.groups == 1;
    let depthwise = |conv: &ConvParams| conv.groups > 1 && conv.groups == conv.in_channels;
    let pointwise = |conv: &ConvParams| dense(conv) && conv.kernel == [1, 1] && conv.stride == [1, 1];
    while let [first, rest @ ..] = convs {
        convs = match rest {
            [second, third, rest @ ..] if dense(first) && depthwise(second) && pointwise(third) => {
                builder = builder.inverted_residual(Some(first), second, third, false);
                rest
            }
            [second, rest @ ..] if depthwise(first) && pointwise(second) => {
                builder = builder.inverted_residual(None, first, second, false);
                rest
            }
            rest => {
                builder = builder.conv(first);
                rest
            }
        };
    }
    builder
}

impl FrozenBackbone {
    /// The feature map's mean over its area: `[batch, 3, height, width]` to `[batch, features]`.
    ///
    /// Each row depends on its own image alone, to the last bit, on the CPU backends.
    ///
    /// # Panics
    ///
    /// If the images are not of the size that this backbone was compiled for.
    pub fn pooled(&self, images: Tensor<4>) -> Tensor<2> {
        match &self.kind {
            Kind::Module(backbone) => backbone.pooled(images),
            Kind::Plan(plan) => {
                let device = images.device();
                let [batch, channels, height, width] = images.dims();
                assert_eq!(
                    [channels, height, width],
                    plan.input_shape(),
                    "the backbone was compiled for another size"
                );
                // Images come channels last in memory, so this undoes a view and moves no byte.
                let nhwc = images.permute([0, 2, 3, 1]).into_data();
                let nhwc = nhwc.as_slice::<f32>().expect("the CPU backends compute in f32");
                let features = plan.run(nhwc, batch);
                Tensor::from_data(TensorData::new(features, [batch, plan.output_len()]), &device)
            }
        }
    }
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

/// A [`ConvNormAct`] read back from its device.
struct Stored<'a> {
    block: &'a ConvNormAct,
    /// Height and width of what it reads.
    size: [usize; 2],
    shape: [usize; 4],
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    norm: [Vec<f32>; 4],
}

impl<'a> Stored<'a> {
    fn of(block: &'a ConvNormAct, size: [usize; 2]) -> Self {
        let weight = block.conv.weight.val();
        let BatchNorm { gamma, beta, running_mean, running_var, .. } = &block.norm;
        let norm = [gamma.val(), beta.val(), running_mean.value(), running_var.value()];
        let bias = block.conv.bias.as_ref().map(|bias| values(bias.val()));
        Self { block, size, shape: weight.dims(), weight: values(weight), bias, norm: norm.map(values) }
    }

    fn params(&self) -> ConvParams<'_> {
        let [out_channels, group_in, height, width] = self.shape;
        let [gamma, beta, mean, var] = &self.norm;
        let conv = &self.block.conv;
        let padding = self.block.padding.resolve(self.size, [height, width], conv.stride);
        ConvParams {
            weight: &self.weight,
            bias: self.bias.as_deref(),
            norm: Some(BatchNormParams { gamma, beta, mean, var, epsilon: self.block.norm.epsilon as f32 }),
            out_channels,
            in_channels: group_in * conv.groups,
            kernel: [height, width],
            stride: conv.stride,
            padding,
            groups: conv.groups,
            activation: self
                .block
                .activation
                .fused()
                .expect("a plan is made where every activation has a kernel"),
        }
    }
}

pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_to_vec().expect("just converted to f32")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CreateOptions, create, find};

    #[test]
    #[allow(deprecated)]
    fn a_compiled_backbone_is_the_module_in_evaluation_mode() {
        let device = Device::ndarray();
        let spec = find("mobilenet_v2_0.35").expect("in the zoo");
        let backbone = create(spec, &CreateOptions { seed: 5, ..CreateOptions::default() }, &device).backbone;
        for (height, width) in [(32, 32), (65, 33), (1, 1)] {
            let count = 2 * 3 * height * width;
            let pixels: Vec<f32> = (0..count).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
            let images = Tensor::<4>::from_data(TensorData::new(pixels, [2, height, width, 3]), &device);
            let images = images.permute([0, 3, 1, 2]);
            let expected = values(backbone.pooled(images.clone()));
            let frozen = backbone.compile([height as u32, width as u32]).expect("compiled");
            assert!(matches!(frozen.kind, Kind::Plan(_)));
            let got = values(frozen.pooled(images));
            let scale = expected.iter().fold(0.0f32, |scale, v| scale.max(v.abs()));
            for (g, e) in got.iter().zip(&expected) {
                assert!((g - e).abs() <= 1e-4 * scale, "{height}x{width}: {g} != {e}, scale {scale}");
            }
        }
    }
}
