//! Convolutions with batch normalisation (Ioffe and Szegedy 2015) or a bias, and activation, chained; and one alone.

use crate::activate::activate;
use crate::backend::{DiffBackend, InputGradients, Kernels};
use crate::check;
use crate::host::{CHANNELS_LAST, HostBackend};
use crate::list::TensorList;
use crate::record::{self, Step};
use crate::saved::Saved;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, TensorMetadata};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Shape, Tensor};
use firebrick_kernels::{
    Activation, ChainBlock, ChainSpec, ChainTape, ChainUnit, ConvChain, Shortcut, UnitNorm, UnitParams,
};

/// The parameters of one unit of a chain.
#[derive(Debug, Clone)]
pub struct ChainParameters {
    /// `[out channels, in channels / groups, kernel height, kernel width]`.
    pub weight: Tensor<4>,
    /// `[out channels]`: the norm's scale; for [`UnitNorm::Batch`] and nothing else.
    pub gamma: Option<Tensor<1>>,
    /// `[out channels]`: the norm's shift, or the bias.
    pub beta: Tensor<1>,
}

/// Tensors of a unit.
fn count(unit: &ChainUnit) -> usize {
    if unit.norm == UnitNorm::Bias { 2 } else { 3 }
}

/// Tensors of all units.
fn count_all(spec: &ChainSpec) -> usize {
    spec.all_units().map(count).sum()
}

/// The statistics of one unit's convolution over the batch and the pixels; no gradient flows through them.
#[derive(Debug, Clone)]
pub struct ChainMoments {
    /// `[out channels]`.
    pub mean: Tensor<1>,
    /// `[out channels]`: the mean squared distance from the mean (biased).
    pub variance: Tensor<1>,
    /// Values behind each channel's statistics: `batch * height * width`.
    pub count: usize,
}

/// A chain of blocks of convolutions, each followed by a BatchNorm with the batch's own statistics, or a bias, and an activation; see
/// [`ChainSpec`].
///
/// - `x`: `[batch, channels, height, width]`; read without a copy where its memory has the channels last
/// - `shortcuts`: one of the block's result's shape for every [`Shortcut::Tensor`]
/// - `parameters`: of [all units](ChainSpec::all_units)
/// - result: `[batch, channels, height, width]` with the channels last in memory, and the statistics of all units
///
/// On the CPU backends only the convolutions' raw results are kept for the backward pass; with units that the kernels do not
/// [support](ChainUnit::is_supported), and on other backends, it is made of burn's operations.
///
/// # Panics
/// If `x` is empty, a unit's parameters do not have its shape, units do not fit each other, or a shortcut is missing, of another shape or
/// not asked for.
pub fn conv_chain(
    x: Tensor<4>,
    shortcuts: Vec<Tensor<4>>,
    parameters: Vec<ChainParameters>,
    spec: &ChainSpec,
) -> (Tensor<4>, Vec<ChainMoments>) {
    check::not_empty("conv_chain", &x.dims());
    let filled = !spec.blocks.is_empty() && spec.blocks.iter().all(|block| !block.units.is_empty());
    assert!(filled, "conv_chain: a chain has at least one block, and a block one unit");
    assert_eq!(parameters.len(), spec.all_units().count(), "conv_chain: one set of parameters a unit");
    assert_eq!(shortcuts.len(), spec.tensors(), "conv_chain: a shortcut for each block that adds one");
    let mut shape = x.dims();
    let (mut parameters, mut tensors, mut counts) = (parameters.into_iter(), Vec::new(), Vec::new());
    let mut convolve = |shape: [usize; 4], unit: &ChainUnit| {
        let parameters = parameters.next().expect("their number was compared");
        let result = check_unit(shape, unit, &parameters);
        counts.push(result[0] * result[2] * result[3]);
        tensors.push(parameters.weight.into_dispatch());
        tensors.extend(parameters.gamma.map(Tensor::into_dispatch));
        tensors.push(parameters.beta.into_dispatch());
        result
    };
    let mut of_blocks = shortcuts.iter();
    for block in &spec.blocks {
        let input = shape;
        shape = block.units.iter().fold(input, &mut convolve);
        let added = match &block.shortcut {
            Shortcut::None => shape,
            Shortcut::Input => input,
            Shortcut::Projection(unit) => convolve(input, unit),
            Shortcut::Tensor => of_blocks.next().expect("their number was compared").dims(),
            Shortcut::Append => [input[0], shape[1], input[2], input[3]],
        };
        check::shape("conv_chain", "shortcut", &added, &shape);
        if block.shortcut == Shortcut::Append {
            shape[1] += input[1];
        }
    }
    tensors.extend(shortcuts.into_iter().map(Tensor::into_dispatch));
    let (output, moments) =
        <Dispatch as DiffBackend>::conv_chain(x.into_dispatch(), TensorList(tensors), spec.clone());
    let moments = Tensor::<2>::from_dispatch(moments);
    let mut first = 0;
    let moments = spec.all_units().zip(counts).map(|(unit, count)| {
        let range = first..first + unit.out_channels;
        first = range.end;
        let row =
            |row: usize| moments.clone().slice([row..row + 1, range.clone()]).reshape([unit.out_channels]);
        ChainMoments { mean: row(0), variance: row(1), count }
    });
    let moments = moments.collect();
    (Tensor::from_dispatch(output), moments)
}

/// The shape of a unit's result, `[batch, channels, height, width]` as its input's is.
fn check_unit(
    [batch, channels, height, width]: [usize; 4],
    unit: &ChainUnit,
    parameters: &ChainParameters,
) -> [usize; 4] {
    let ChainUnit { in_channels, out_channels, kernel, groups, stride, padding, .. } = *unit;
    assert_eq!(in_channels, channels, "conv_chain: a unit expects another number of channels");
    let shape = [out_channels, in_channels / groups, kernel[0], kernel[1]];
    check::shape("conv_chain", "weight", &parameters.weight.dims(), &shape);
    assert_eq!(
        parameters.gamma.is_some(),
        count(unit) == 3,
        "conv_chain: a scale for a unit that has one, {:?}",
        unit.norm
    );
    if let Some(gamma) = &parameters.gamma {
        check::shape("conv_chain", "gamma", &gamma.dims(), &[out_channels]);
    }
    check::shape("conv_chain", "beta", &parameters.beta.dims(), &[out_channels]);
    let out = |size: usize, axis: usize| {
        let padded = size + padding[axis][0] + padding[axis][1];
        assert!(kernel[axis] <= padded, "conv_chain: a kernel of {kernel:?} on {padded} padded pixels");
        (padded - kernel[axis]) / stride[axis] + 1
    };
    [batch, out_channels, out(height, 0), out(width, 1)]
}

/// `activation(convolution of x + bias + shortcut)`: what a layer without BatchNorm computes.
///
/// - `x`: `[batch, in channels, height, width]`
/// - `weight`: `[out channels, in channels / groups, kernel height, kernel width]`
/// - `bias`: `[out channels]`
/// - `shortcut`: of the result's shape
/// - result: `[batch, out channels, height, width]`, with the channels last in memory
///
/// `geometry` says stride, padding and groups; its channels and kernel are the weight's.
///
/// # Panics
/// As [`conv_chain`].
pub fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    shortcut: Option<Tensor<4>>,
    geometry: ConvGeometry,
    activation: Activation,
) -> Tensor<4> {
    let ConvGeometry { stride, padding, groups } = geometry;
    let [out_channels, group_channels, height, width] = weight.dims();
    let unit = ChainUnit {
        in_channels: group_channels * groups,
        out_channels,
        kernel: [height, width],
        stride,
        padding,
        groups,
        activation,
        norm: UnitNorm::Bias,
    };
    let beta = bias.unwrap_or_else(|| {
        let plain = x.device().inner();
        Tensor::zeros([out_channels], (&plain, x.dtype()))
    });
    let parameters = ChainParameters { weight, gamma: None, beta };
    let added = if shortcut.is_some() { Shortcut::Tensor } else { Shortcut::None };
    let spec = ChainSpec::block(vec![unit], added);
    conv_chain(x, shortcut.into_iter().collect(), vec![parameters], &spec).0
}

/// How a convolution's kernel moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Vertical and horizontal step, at least 1.
    pub stride: [usize; 2],
    /// Zeros around the input: `[[top, bottom], [left, right]]`.
    pub padding: [[usize; 2]; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

/// The result, and means and variances of all units: `[2, channels of all units]`. Shortcuts come behind the parameters.
pub(crate) fn reference<B: Backend>(
    x: FloatTensor<B>,
    mut parameters: Vec<FloatTensor<B>>,
    spec: &ChainSpec,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let mut shortcuts = parameters.split_off(count_all(spec)).into_iter();
    let mut unit =
        Reference::<B> { parameters: parameters.into_iter(), means: Vec::new(), variances: Vec::new() };
    let mut x = x;
    for ChainBlock { units, shortcut } in &spec.blocks {
        let input = x.clone();
        let last = units.len() - 1;
        for before in &units[..last] {
            x = activate::<B>(unit.normed(x, before), before.activation);
        }
        x = unit.normed(x, &units[last]);
        x = match shortcut {
            Shortcut::None | Shortcut::Append => x,
            Shortcut::Input => B::float_add(x, input.clone()),
            Shortcut::Projection(projection) => {
                let added = activate::<B>(unit.normed(input.clone(), projection), projection.activation);
                B::float_add(x, added)
            }
            Shortcut::Tensor => B::float_add(x, shortcuts.next().expect("a shortcut a block that adds one")),
        };
        x = activate::<B>(x, units[last].activation);
        if *shortcut == Shortcut::Append {
            x = B::float_cat(vec![input, x], 1);
        }
    }
    let moments = B::float_cat(vec![B::float_cat(unit.means, 1), B::float_cat(unit.variances, 1)], 0);
    (x, B::float_detach(moments))
}

/// Units by burn's operations, with what they leave behind.
struct Reference<B: Backend> {
    parameters: std::vec::IntoIter<FloatTensor<B>>,
    /// `[1, channels]` each.
    means: Vec<FloatTensor<B>>,
    variances: Vec<FloatTensor<B>>,
}

impl<B: Backend> Reference<B> {
    /// The unit's convolution and norm, with the next of the parameters.
    fn normed(&mut self, x: FloatTensor<B>, unit: &ChainUnit) -> FloatTensor<B> {
        let mut next = || self.parameters.next().expect("the parameters of every unit");
        let options = ConvOptions {
            stride: unit.stride,
            padding: unit.padding.map(|[begin, end]| (begin, end)),
            dilation: [1, 1],
            groups: unit.groups,
        };
        let as_row = |values: FloatTensor<B>| B::float_reshape(values, Shape::from([1, unit.out_channels]));
        match unit.norm {
            UnitNorm::Batch { epsilon } => {
                let y = B::conv2d(x, next(), None, options);
                let norm = B::batch_norm_train(y, next(), next(), f64::from(epsilon));
                self.means.push(as_row(norm.mean));
                self.variances.push(as_row(norm.variance));
                norm.output
            }
            UnitNorm::Bias => {
                let (weight, bias) = (next(), next());
                let nothing =
                    B::float_zeros(Shape::from([1, unit.out_channels]), &x.device(), x.dtype().into());
                self.means.push(nothing.clone());
                self.variances.push(nothing);
                B::conv2d(x, weight, Some(bias), options)
            }
        }
    }
}

/// What the kernel keeps.
struct State {
    spec: ChainSpec,
    chain: ConvChain,
    tape: ChainTape,
}

/// Result, moments, and what the way back needs; nothing if the kernels cannot compute this chain.
pub(crate) fn host_forward<B: HostBackend>(
    x: &FloatTensor<B>,
    parameters: &[FloatTensor<B>],
    spec: &ChainSpec,
) -> Option<(FloatTensor<B>, FloatTensor<B>, Saved<B>)> {
    let device = x.device();
    let dims: [usize; 4] = x.shape().dims();
    if !spec.all_units().all(ChainUnit::is_supported) {
        return None;
    }
    let x = B::host(x)?;
    let (parameters, shortcuts) = parameters.split_at(count_all(spec));
    let shortcuts = shortcuts.iter().map(B::host).collect::<Option<Vec<_>>>()?;
    let shortcuts: Vec<_> = shortcuts.iter().map(|shortcut| shortcut.in_order(&CHANNELS_LAST)).collect();
    let shortcuts: Vec<&[f32]> = shortcuts.iter().map(|shortcut| &shortcut[..]).collect();
    let parameters = parameters.iter().map(B::host).collect::<Option<Vec<_>>>()?;
    let parameters: Vec<_> = parameters.iter().map(|parameter| parameter.row_major()).collect();
    // The function on tensors has checked the sizes; what remains are images that no kernel can address.
    let chain = ConvChain::new(spec, dims).unwrap_or_else(|error| panic!("conv_chain: {error}"));
    let result = chain.forward(&x.in_order(&CHANNELS_LAST), &shortcuts, &units(spec, &parameters));
    let output = B::from_host(result.output, &chain.output_shape(), &CHANNELS_LAST, &device);
    let means = result.moments.iter().flat_map(|moments| &moments.mean);
    let variances = result.moments.iter().flat_map(|moments| &moments.variance);
    let moments: Vec<f32> = means.chain(variances).copied().collect();
    let shape = [2, moments.len() / 2];
    let moments = B::from_host(moments, &shape, &[0, 1], &device);
    Some((output, moments, Saved::host(State { spec: spec.clone(), chain, tape: result.tape })))
}

fn units<'a>(spec: &ChainSpec, parameters: &'a [impl AsRef<[f32]>]) -> Vec<UnitParams<'a>> {
    let mut parameters = parameters.iter().map(AsRef::as_ref);
    let mut next = || parameters.next().expect("the parameters of every unit");
    let mut unit = |unit: &ChainUnit| {
        let weight = next();
        let gamma = if count(unit) == 3 { next() } else { &[] };
        UnitParams { weight, gamma, beta: next() }
    };
    spec.all_units().map(&mut unit).collect()
}

pub(crate) fn host_backward<B: HostBackend>(
    grad: &FloatTensor<B>,
    parameters: &[FloatTensor<B>],
    saved: &Saved<B>,
    wanted: &[bool],
) -> InputGradients<B> {
    let device = grad.device();
    let State { spec, chain, tape } = saved.as_host().expect("what the forward pass has saved");
    let grad = B::host(grad).expect("the gradient of f32 tensors is f32");
    let shapes: Vec<_> = parameters.iter().map(|parameter| parameter.shape()).collect();
    let parameters: Vec<_> = parameters
        .iter()
        .map(|parameter| B::host(parameter).expect("they were f32 on the way there"))
        .collect();
    let parameters: Vec<_> = parameters.iter().map(|parameter| parameter.row_major()).collect();
    // Shortcuts come behind the parameters.
    let (of_parameters, of_shortcuts) = wanted[1..].split_at(parameters.len());
    let wants_shortcut = of_shortcuts.contains(&true);
    let grad = grad.in_order(&CHANNELS_LAST);
    let back = chain.backward(tape, &units(spec, &parameters), &grad, [wanted[0], wants_shortcut]);
    let image = |values, shape: [usize; 4]| B::from_host(values, &shape, &CHANNELS_LAST, &device);
    let input = back.input.map(|values| image(values, chain.input_shape()));
    let shortcuts = back.shortcuts.into_iter().zip(chain.shortcut_shapes());
    let mut shortcuts = shortcuts.map(|(values, shape)| image(values, shape));
    let gradients = back.units.into_iter().zip(spec.all_units()).flat_map(|(gradients, unit)| {
        let gamma = (count(unit) == 3).then_some(gradients.gamma);
        [Some(gradients.weight), gamma, Some(gradients.beta)].into_iter().flatten()
    });
    let gradients = gradients.zip(&shapes).zip(of_parameters).map(|((values, shape), &wanted)| {
        let order: Vec<usize> = (0..shape.rank()).collect();
        wanted.then(|| B::from_host(values, shape, &order, &device))
    });
    std::iter::once(input).chain(gradients).chain(of_shortcuts.iter().map(|_| shortcuts.next())).collect()
}

#[derive(Debug, Clone)]
struct ChainStep<B: Backend> {
    parameters: Vec<FloatTensor<B>>,
    saved: Saved<B>,
}

impl<B: Kernels> Step<B> for ChainStep<B> {
    fn gradients(self, grad: FloatTensor<B>, wanted: &[bool]) -> InputGradients<B> {
        B::conv_chain_backward(grad, &self.parameters, self.saved, wanted)
    }
}

type Tracked<B, C> = FloatTensor<Autodiff<B, C>>;

pub(crate) fn record<B: Kernels, C: CheckpointStrategy>(
    x: Tracked<B, C>,
    parameters: Vec<Tracked<B, C>>,
    spec: &ChainSpec,
) -> (Tracked<B, C>, Tracked<B, C>) {
    let mut plain: Vec<_> = parameters.iter().map(|parameter| parameter.primitive().clone()).collect();
    let Some((output, moments, saved)) = B::conv_chain_forward(x.primitive(), &plain, spec) else {
        return reference::<Autodiff<B, C>>(x, parameters, spec);
    };
    // The kernel has kept what it needs of the shortcuts.
    plain.truncate(count_all(spec));
    let inputs = std::iter::once(x).chain(parameters).collect();
    let output = record::known_of_many::<B, C, _>(inputs, output, ChainStep { parameters: plain, saved });
    (output, <Autodiff<B, C> as AutodiffBackend>::from_inner(moments))
}
