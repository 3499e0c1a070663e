//! A backbone that is not trained, compiled for its device.
//!
//! On the CPU backends it becomes a [`Plan`]: BatchNorm folded, weights packed, SIMD kernels, no tensor but the first and
//! the last. Elsewhere, and where an activation has no kernel, it stays the module that it was.

use std::sync::Arc;

use burn::module::Module;
use burn::nn::BatchNorm;
use burn::tensor::{Device, Tensor, TensorData};
use firebrick_kernels::{BatchNormParams, ConvParams, KernelError, Plan, PlanBuilder, Value};
use firebrick_nn::ConvNormAct;

use crate::mobilenet_v2::InvertedResidual;
use crate::{Backbone, MobileNetV2, ZooError};

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
    /// [`ZooError::Kernel`] if the environment asks for an instruction set that this machine lacks.
    pub fn compile(&self, input_size: [u32; 2]) -> Result<FrozenBackbone, ZooError> {
        let module = self.valid();
        let on_cpu = module.devices().iter().all(is_cpu);
        let kind = if on_cpu && module.has_kernels() {
            let [height, width] = input_size.map(|side| side as usize);
            Kind::Plan(Arc::new(module.plan([3, height, width])?))
        } else {
            Kind::Module(Box::new(module))
        };
        Ok(FrozenBackbone { kind })
    }

    /// Whether the kernels have every activation.
    fn has_kernels(&self) -> bool {
        match self {
            Self::MobileNetV2(model) => model.convs().all(|conv| conv.activation.fused().is_some()),
        }
    }

    fn plan(&self, input: [usize; 3]) -> Result<Plan, KernelError> {
        let mut builder = PlanBuilder::new(input);
        let features = match self {
            Self::MobileNetV2(model) => model.plan(&mut builder),
        };
        let pooled = builder.global_average_pool(features);
        builder.output(pooled).build()
    }
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
                Tensor::from_data(TensorData::new(features, [batch, plan.output_len(0)]), &device)
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

impl MobileNetV2 {
    fn convs(&self) -> impl Iterator<Item = &ConvNormAct> {
        let blocks = self.blocks.iter().flat_map(InvertedResidual::convs);
        [&self.stem, &self.last].into_iter().chain(blocks)
    }

    fn plan(&self, builder: &mut PlanBuilder) -> Value {
        let mut x = builder.conv(builder.input(), &Stored::of(&self.stem).params(), None);
        for block in &self.blocks {
            let expand = block.expand.as_ref().map(Stored::of);
            x = builder.inverted_residual(
                x,
                expand.as_ref().map(Stored::params).as_ref(),
                &Stored::of(&block.depthwise).params(),
                &Stored::of(&block.project).params(),
                block.residual,
            );
        }
        builder.conv(x, &Stored::of(&self.last).params(), None)
    }
}

/// A [`ConvNormAct`] read back from its device.
struct Stored<'a> {
    block: &'a ConvNormAct,
    shape: [usize; 4],
    weight: Vec<f32>,
    norm: [Vec<f32>; 4],
}

impl<'a> Stored<'a> {
    fn of(block: &'a ConvNormAct) -> Self {
        let weight = block.conv.weight.val();
        let BatchNorm { gamma, beta, running_mean, running_var, .. } = &block.norm;
        let norm = [gamma.val(), beta.val(), running_mean.value(), running_var.value()];
        Self { block, shape: weight.dims(), weight: values(weight), norm: norm.map(values) }
    }

    fn params(&self) -> ConvParams<'_> {
        let [out_channels, group_in, height, width] = self.shape;
        let [gamma, beta, mean, var] = &self.norm;
        let conv = &self.block.conv;
        // The padding that `ConvNormActConfig` gives.
        let padding = [(height - 1) / 2, (width - 1) / 2];
        ConvParams {
            weight: &self.weight,
            bias: None,
            norm: Some(BatchNormParams { gamma, beta, mean, var, epsilon: self.block.norm.epsilon as f32 }),
            out_channels,
            in_channels: group_in * conv.groups,
            kernel: [height, width],
            stride: conv.stride,
            padding: padding.map(|side| [side, side]),
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
