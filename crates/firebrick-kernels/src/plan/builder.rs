//! From a list of layers to the steps of a plan.

use super::block::{BlockLayers, BlockStep};
use super::conv::ConvStep;
use super::linear::LinearStep;
use super::pool::{ExportStep, GlobalAverageStep, ImportStep};
use super::step::Step;
use super::window::Source;
use super::{Compiled, Plan, Run};
use crate::layout::Blocked;
use crate::params::{ConvShape, FoldedConv};
use crate::simd::{Scalar, Simd};
use crate::{Activation, ConvParams, KernelError, SimdLevel};

/// The most values that a tensor of one image may have: what 32-bit offsets reach, with room for filling up channels.
const MOST_VALUES: usize = 1 << 31;

/// Collects the layers of a network in evaluation mode, checks that they fit each other, and compiles them.
///
/// A mistake in a layer is remembered and reported by [`build`](PlanBuilder::build), so that layers can be chained.
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
/// let plan = PlanBuilder::new([3, 32, 32])
///     .conv(&conv)
///     .global_average_pool()
///     .linear(&[0.5; 2 * 8], &[0.0; 2], Activation::None)
///     .build()?;
/// let images = vec![1.0; 4 * 32 * 32 * 3];
/// assert_eq!(plan.run(&images, 4).len(), 4 * 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PlanBuilder {
    input: [usize; 3],
    /// Channels, height and width of what the layers so far result in.
    shape: [usize; 3],
    layers: Vec<Layer>,
    level: Option<SimdLevel>,
    error: Option<KernelError>,
}

/// A layer that was checked.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a network has tens of layers, and their weights are what takes memory"
)]
enum Layer {
    Conv(FoldedConv),
    /// An optional expansion, a depthwise convolution, an optional projection.
    Block {
        expand: Option<FoldedConv>,
        depthwise: FoldedConv,
        project: Option<FoldedConv>,
        residual: bool,
    },
    GlobalAveragePool,
    Linear(FoldedConv),
}

impl PlanBuilder {
    /// A network whose input has these channels, height and width.
    pub fn new(input: [usize; 3]) -> Self {
        Self { input, shape: input, layers: Vec::new(), level: None, error: None }
    }

    /// Uses this instruction set instead of [`SimdLevel::from_environment`].
    pub fn level(mut self, level: SimdLevel) -> Self {
        self.level = Some(level);
        self
    }

    /// A convolution, its BatchNorm and activation.
    pub fn conv(self, conv: &ConvParams<'_>) -> Self {
        self.layer(|layer, shape| {
            let (conv, _) = checked_conv(layer, "convolution", conv, shape)?;
            Ok(if conv.shape.is_depthwise() {
                Layer::Block { expand: None, depthwise: conv, project: None, residual: false }
            } else {
                Layer::Conv(conv)
            })
        })
    }

    /// The block of MobileNetV2 (Sandler et al. 2018): an optional expansion by any convolution without groups, a depthwise
    /// convolution, a projection by a 1x1 convolution; with `residual`, the block's input is added to the projection before the
    /// projection's activation, if it has one.
    pub fn inverted_residual(
        self,
        expand: Option<&ConvParams<'_>>,
        depthwise: &ConvParams<'_>,
        project: &ConvParams<'_>,
        residual: bool,
    ) -> Self {
        self.layer(|layer, shape| {
            let invalid = |reason: String| Err(KernelError::InvalidLayer { layer, reason });
            let input = *shape;
            let expand = expand.map(|expand| checked_conv(layer, "expansion", expand, shape)).transpose()?;
            let (depthwise, _) = checked_conv(layer, "depthwise convolution", depthwise, shape)?;
            let (project, _) = checked_conv(layer, "projection", project, shape)?;
            if let Some((expand, _)) = &expand
                && expand.shape.groups != 1
            {
                return invalid(format!("the expansion must not have groups, got {}", expand.shape.groups));
            }
            let ConvShape { in_channels, out_channels, groups, .. } = depthwise.shape;
            if groups != in_channels || groups != out_channels {
                return invalid(format!(
                    "the depthwise convolution needs as many groups and output channels as input channels, \
                     got {in_channels} -> {out_channels} in {groups} groups"
                ));
            }
            if !project.shape.is_pointwise() {
                return invalid(format!(
                    "the projection must be a 1x1 convolution with stride 1, no padding and no groups, got {:?}",
                    project.shape
                ));
            }
            if residual && input != *shape {
                return invalid(format!("a residual needs equal shapes, but the block turns {input:?} into {shape:?}"));
            }
            let expand = expand.map(|(expand, _)| expand);
            Ok(Layer::Block { expand, depthwise, project: Some(project), residual })
        })
    }

    /// The average of each channel over all pixels; the result is `[channels, 1, 1]`.
    pub fn global_average_pool(self) -> Self {
        self.layer(|_, shape| {
            *shape = [shape[0], 1, 1];
            Ok(Layer::GlobalAveragePool)
        })
    }

    /// `activation(weight x + bias)` of a single pixel's channels: `weight` is `[out, in]`, `bias` is `[out]`. Only linear layers
    /// can follow.
    pub fn linear(self, weight: &[f32], bias: &[f32], activation: Activation) -> Self {
        self.layer(|layer, shape| {
            if shape[1..] != [1, 1] {
                return Err(KernelError::InvalidLayer {
                    layer,
                    reason: format!(
                        "linear needs a single pixel, got {} x {}; pool first",
                        shape[1], shape[2]
                    ),
                });
            }
            let conv = ConvParams {
                weight,
                bias: Some(bias),
                norm: None,
                out_channels: bias.len(),
                in_channels: shape[0],
                kernel: [1, 1],
                stride: [1, 1],
                padding: [[0; 2]; 2],
                groups: 1,
                activation,
            };
            Ok(Layer::Linear(checked_conv(layer, "linear", &conv, shape)?.0))
        })
    }

    /// Compiles the layers.
    ///
    /// # Errors
    /// Whatever is wrong with the first bad layer, with its place counted from 0; [`KernelError::Empty`] without layers; and the
    /// errors of [`SimdLevel::from_environment`].
    pub fn build(self) -> Result<Plan, KernelError> {
        if self.layers.is_empty() && self.error.is_none() || self.input.contains(&0) {
            return Err(KernelError::Empty { layers: self.layers.len(), input: self.input });
        }
        if let Some(error) = self.error {
            return Err(error);
        }
        let level = self.level.map_or_else(SimdLevel::from_environment, SimdLevel::require)?;
        let unavailable =
            || KernelError::UnavailableLevel { asked: level, available: SimdLevel::available() };
        let network: Box<dyn Run> = match level {
            SimdLevel::Scalar => Box::new(compile(Scalar::<8>, self.input, &self.layers)),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2 => Box::new(compile(
                crate::simd::Avx2::detect().ok_or_else(unavailable)?,
                self.input,
                &self.layers,
            )),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512 => Box::new(compile(
                crate::simd::Avx512::detect().ok_or_else(unavailable)?,
                self.input,
                &self.layers,
            )),
            #[cfg(target_arch = "aarch64")]
            SimdLevel::Neon => Box::new(compile(
                crate::simd::Neon::detect().ok_or_else(unavailable)?,
                self.input,
                &self.layers,
            )),
            #[allow(unreachable_patterns, reason = "which levels remain depends on the target")]
            _ => return Err(unavailable()),
        };
        Ok(Plan { network, level, input: self.input, output: self.shape })
    }

    /// The plan at a vector width that no instruction set here may have, for tests.
    #[cfg(test)]
    pub(crate) fn build_scalar<const LANES: usize>(self) -> Result<Plan, KernelError> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(Plan {
                network: Box::new(compile(Scalar::<LANES>, self.input, &self.layers)),
                level: SimdLevel::Scalar,
                input: self.input,
                output: self.shape,
            }),
        }
    }

    fn layer(mut self, check: impl FnOnce(usize, &mut [usize; 3]) -> Result<Layer, KernelError>) -> Self {
        if self.error.is_some() || self.input.contains(&0) {
            return self;
        }
        let index = self.layers.len();
        let mut shape = self.shape;
        let fits = checked_size(index, shape[0], [shape[1], shape[2]]);
        match fits.and_then(|()| check(index, &mut shape)) {
            Ok(layer) => {
                let after_linear = matches!(self.layers.last(), Some(Layer::Linear(_)));
                if after_linear && !matches!(layer, Layer::Linear(_)) {
                    let reason = "only linear layers can follow a linear layer".to_owned();
                    self.error = Some(KernelError::InvalidLayer { layer: index, reason });
                    return self;
                }
                self.layers.push(layer);
                self.shape = shape;
            }
            Err(error) => self.error = Some(error),
        }
        self
    }
}

/// Checks and folds a convolution that reads `shape`, which becomes the result's.
fn checked_conv(
    layer: usize,
    operation: &'static str,
    conv: &ConvParams<'_>,
    shape: &mut [usize; 3],
) -> Result<(FoldedConv, [usize; 3]), KernelError> {
    let folded = conv.fold(layer)?;
    let [channels, height, width] = *shape;
    if folded.shape.in_channels != channels {
        let expected = folded.shape.in_channels;
        return Err(KernelError::InputChannels { layer, operation, expected, actual: channels });
    }
    let padding = folded.shape.padding.map(|[before, after]| before + after);
    checked_size(layer, channels, [height + padding[0], width + padding[1]])?;
    let [height, width] = folded.shape.output_size(layer, [height, width])?;
    checked_size(layer, folded.shape.out_channels, [height, width])?;
    *shape = [folded.shape.out_channels, height, width];
    Ok((folded, *shape))
}

fn checked_size(layer: usize, channels: usize, [height, width]: [usize; 2]) -> Result<(), KernelError> {
    // Channels are filled up to whole vectors, the widest of which has 16 values.
    let values = channels
        .checked_next_multiple_of(16)
        .and_then(|channels| channels.checked_mul(height)?.checked_mul(width));
    match values {
        Some(values) if values <= MOST_VALUES => Ok(()),
        _ => Err(KernelError::TooLarge { layer, channels, height, width, limit: MOST_VALUES }),
    }
}

/// Chooses a step for each layer, or for several that are better computed together.
fn compile<S: Simd>(simd: S, input: [usize; 3], layers: &[Layer]) -> Compiled<S> {
    let lanes = S::LANES;
    let [channels, height, width] = input;
    let mut compiler = Compiler {
        source: Source::Nhwc { channels, height, width },
        layout: Blocked { channels, height, width, lanes },
        steps: Vec::new(),
        multiply_adds: 0,
    };
    let mut linear = Vec::new();
    let mut rest = layers;
    while let [layer, after @ ..] = rest {
        rest = match (layer, after) {
            (
                Layer::Conv(conv),
                [Layer::Block { expand: None, depthwise, project, residual: false }, after @ ..],
            ) if conv.shape.groups == 1 => {
                compiler.block(Some(conv), depthwise, project.as_ref(), false);
                after
            }
            (Layer::Conv(conv), [Layer::GlobalAveragePool, after @ ..]) => {
                compiler.conv(conv, true);
                after
            }
            (Layer::Conv(conv), after) => {
                compiler.conv(conv, false);
                after
            }
            (Layer::Block { expand, depthwise, project, residual }, after) => {
                compiler.block(expand.as_ref(), depthwise, project.as_ref(), *residual);
                after
            }
            (Layer::GlobalAveragePool, after) => {
                let input = compiler.import();
                compiler.push(Box::new(GlobalAverageStep { input }));
                after
            }
            (Layer::Linear(conv), after) => {
                compiler.import();
                compiler.multiply_adds += conv.shape.multiply_adds_per_pixel();
                linear.push(LinearStep::new(conv, lanes));
                after
            }
        };
    }
    if linear.is_empty() {
        let layout = compiler.layout;
        compiler.push(Box::new(ExportStep { layout }));
    }
    Compiled::new(simd, compiler.steps, linear, compiler.multiply_adds)
}

/// The steps so far and the form of their result.
struct Compiler<S: Simd> {
    source: Source,
    layout: Blocked,
    steps: Vec<Box<dyn Step<S>>>,
    multiply_adds: u64,
}

impl<S: Simd> Compiler<S> {
    fn push(&mut self, step: Box<dyn Step<S>>) {
        self.layout = step.output();
        self.source = Source::Blocked(self.layout);
        self.steps.push(step);
    }

    /// Makes sure that the next step finds the blocked layout.
    fn import(&mut self) -> Blocked {
        if let Source::Nhwc { .. } = self.source {
            let layout = self.layout;
            self.push(Box::new(ImportStep { layout }));
        }
        self.layout
    }

    /// The result of a convolution of what the steps so far result in, and its size.
    fn after(&mut self, conv: &FoldedConv, input: Blocked) -> Blocked {
        let size = [input.height, input.width];
        let [height, width] =
            conv.shape.output_size(0, size).expect("the builder has checked the kernel's size");
        self.multiply_adds += conv.shape.multiply_adds_per_pixel() * (height * width) as u64;
        Blocked { channels: conv.shape.out_channels, height, width, ..input }
    }

    fn conv(&mut self, conv: &FoldedConv, average: bool) {
        if conv.shape.groups != 1 {
            self.import();
        }
        let result = self.after(conv, self.layout);
        let size = [result.height, result.width];
        self.push(Box::new(ConvStep::new(conv, self.source, size, average, S::LANES)));
    }

    fn block(
        &mut self,
        expand: Option<&FoldedConv>,
        depthwise: &FoldedConv,
        project: Option<&FoldedConv>,
        residual: bool,
    ) {
        if expand.is_none() || residual {
            self.import();
        }
        let expanded = expand.map_or(self.layout, |expand| self.after(expand, self.layout));
        let filtered = self.after(depthwise, expanded);
        if let Some(project) = project {
            self.after(project, filtered);
        }
        let layers =
            BlockLayers { expand: expand.map(|expand| (expand, self.source)), depthwise, project, residual };
        self.push(Box::new(BlockStep::new(&layers, expanded, filtered)));
    }
}
