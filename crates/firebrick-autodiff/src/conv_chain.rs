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
    Activation, ChainSpec, ChainTape, ChainUnit, ConvChain, Shortcut, UnitNorm, UnitParams,
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
    spec.units.iter().map(count).sum()
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

/// A chain of convolutions, each followed by a BatchNorm with the batch's own statistics, or a bias, and an activation; see [`ChainSpec`].
///
/// - `x`: `[batch, channels, height, width]`; read without a copy where its memory has the channels last
/// - `shortcut`: of the result's shape; for [`Shortcut::Tensor`] and nothing else
/// - `parameters`: of every unit
/// - result: `[batch, channels, height, width]` with the channels last in memory, and the statistics of every unit
///
/// On the CPU backends only the convolutions' raw results are kept for the backward pass; with units that the kernels do not
/// [support](ChainUnit::is_supported), and on other backends, it is made of burn's operations.
///
/// # Panics
/// If `x` is empty, a unit's parameters do not have its shape, units do not fit each other, or a shortcut is missing, of another shape or
/// not asked for.
pub fn conv_chain(
    x: Tensor<4>,
    shortcut: Option<Tensor<4>>,
    parameters: Vec<ChainParameters>,
    spec: &ChainSpec,
) -> (Tensor<4>, Vec<ChainMoments>) {
    let dims = x.dims();
    check::not_empty("conv_chain", &dims);
    assert!(!spec.units.is_empty(), "conv_chain: a chain has at least one unit");
    assert_eq!(parameters.len(), spec.units.len(), "conv_chain: one set of parameters a unit");
    let [batch, mut channels, mut height, mut width] = dims;
    let mut counts = Vec::new();
    let mut tensors = Vec::new();
    for (unit, parameters) in spec.units.iter().zip(parameters) {
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
        (channels, height, width) = (out_channels, out(height, 0), out(width, 1));
        counts.push(batch * height * width);
        tensors.push(parameters.weight.into_dispatch());
        tensors.extend(parameters.gamma.map(Tensor::into_dispatch));
        tensors.push(parameters.beta.into_dispatch());
    }
    let result = [batch, channels, height, width];
    if spec.shortcut == Shortcut::Input {
        assert_eq!(dims, result, "conv_chain: the input cannot be added");
    }
    assert_eq!(
        shortcut.is_some(),
        spec.shortcut == Shortcut::Tensor,
        "conv_chain: a shortcut for a chain that adds one, {:?}",
        spec.shortcut
    );
    if let Some(shortcut) = shortcut {
        check::shape("conv_chain", "shortcut", &shortcut.dims(), &result);
        tensors.push(shortcut.into_dispatch());
    }
    let (output, moments) =
        <Dispatch as DiffBackend>::conv_chain(x.into_dispatch(), TensorList(tensors), spec.clone());
    let moments = Tensor::<2>::from_dispatch(moments);
    let mut first = 0;
    let moments = spec.units.iter().zip(counts).map(|(unit, count)| {
        let range = first..first + unit.out_channels;
        first = range.end;
        let row =
            |row: usize| moments.clone().slice([row..row + 1, range.clone()]).reshape([unit.out_channels]);
        ChainMoments { mean: row(0), variance: row(1), count }
    });
    let moments = moments.collect();
    (Tensor::from_dispatch(output), moments)
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
    conv_chain(x, shortcut, vec![parameters], &ChainSpec { units: vec![unit], shortcut: added }).0
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

/// The result, and means and variances of all units: `[2, channels of all units]`. A shortcut comes behind the parameters.
pub(crate) fn reference<B: Backend>(
    x: FloatTensor<B>,
    mut parameters: Vec<FloatTensor<B>>,
    spec: &ChainSpec,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let added = match spec.shortcut {
        Shortcut::None => None,
        Shortcut::Input => Some(x.clone()),
        Shortcut::Tensor => parameters.pop(),
    };
    let mut parameters = parameters.into_iter();
    let mut next = || parameters.next().expect("the parameters of every unit");
    let mut x = x;
    let (mut means, mut variances) = (Vec::new(), Vec::new());
    for (index, unit) in spec.units.iter().enumerate() {
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
                x = norm.output;
                means.push(as_row(norm.mean));
                variances.push(as_row(norm.variance));
            }
            UnitNorm::Bias => {
                let (weight, bias) = (next(), next());
                let nothing =
                    B::float_zeros(Shape::from([1, unit.out_channels]), &x.device(), x.dtype().into());
                means.push(nothing.clone());
                variances.push(nothing);
                x = B::conv2d(x, weight, Some(bias), options);
            }
        }
        if let Some(added) = added.clone().filter(|_| index + 1 == spec.units.len()) {
            x = B::float_add(x, added);
        }
        x = activate::<B>(x, unit.activation);
    }
    let moments = B::float_cat(vec![B::float_cat(means, 1), B::float_cat(variances, 1)], 0);
    (x, B::float_detach(moments))
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
    if !spec.units.iter().all(ChainUnit::is_supported) {
        return None;
    }
    let x = B::host(x)?;
    let (parameters, shortcut) = parameters.split_at(count_all(spec));
    let shortcut = match shortcut.first() {
        Some(shortcut) => Some(B::host(shortcut)?),
        None => None,
    };
    let shortcut = shortcut.as_ref().map(|shortcut| shortcut.in_order(&CHANNELS_LAST));
    let parameters = parameters.iter().map(B::host).collect::<Option<Vec<_>>>()?;
    let parameters: Vec<_> = parameters.iter().map(|parameter| parameter.row_major()).collect();
    // The function on tensors has checked the sizes; what remains are images that no kernel can address.
    let chain = ConvChain::new(spec, dims).unwrap_or_else(|error| panic!("conv_chain: {error}"));
    let result = chain.forward(&x.in_order(&CHANNELS_LAST), shortcut.as_deref(), &units(spec, &parameters));
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
    spec.units.iter().map(&mut unit).collect()
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
    // A shortcut comes behind the parameters.
    let (of_parameters, of_shortcut) = wanted[1..].split_at(parameters.len());
    let wants_shortcut = of_shortcut.first().copied().unwrap_or_default();
    let grad = grad.in_order(&CHANNELS_LAST);
    let back = chain.backward(tape, &units(spec, &parameters), &grad, [wanted[0], wants_shortcut]);
    let image = |values, shape: [usize; 4]| B::from_host(values, &shape, &CHANNELS_LAST, &device);
    let input = back.input.map(|values| image(values, chain.input_shape()));
    let shortcut = back.shortcut.map(|values| image(values, chain.output_shape()));
    let gradients = back.units.into_iter().zip(&spec.units).flat_map(|(gradients, unit)| {
        let gamma = (count(unit) == 3).then_some(gradients.gamma);
        [Some(gradients.weight), gamma, Some(gradients.beta)].into_iter().flatten()
    });
    let gradients = gradients.zip(&shapes).zip(of_parameters).map(|((values, shape), &wanted)| {
        let order: Vec<usize> = (0..shape.rank()).collect();
        wanted.then(|| B::from_host(values, shape, &order, &device))
    });
    std::iter::once(input).chain(gradients).chain(of_shortcut.iter().map(|_| shortcut.clone())).collect()
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
    // The kernel has kept what it needs of a shortcut.
    plain.truncate(count_all(spec));
    let inputs = std::iter::once(x).chain(parameters).collect();
    let (output, ()) =
        record::record::<B, C, _, _>(inputs, |_, _| (output, ChainStep { parameters: plain, saved }, ()));
    (output, <Autodiff<B, C> as AutodiffBackend>::from_inner(moments))
}
