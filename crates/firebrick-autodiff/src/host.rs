//! Tensors in this process' memory, seen as slices, and slices as tensors.
//!
//! A tensor's memory may lie in any order of its axes: a batch of images `[n, c, h, w]` that came from the loader has its
//! channels last, `[n, h, w, c]` in memory. What is dense in any order is borrowed as it is; only what has gaps, repeats or runs
//! backwards is copied.
#![allow(deprecated)]

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::{Device, FloatTensor};
use burn::backend::{Autodiff, Backend};
use burn::tensor::TensorData;
use std::borrow::Cow;

/// The order of an image batch's memory with its channels last, slowest axis first.
pub(crate) const CHANNELS_LAST: [usize; 4] = [0, 2, 3, 1];

/// A backend, some of whose tensors may lie in this process' memory.
pub trait HostBackend: Backend {
    /// The tensor's values, if they are `f32` and in this process' memory.
    fn host(_tensor: &FloatTensor<Self>) -> Option<Host<'_>> {
        None
    }

    /// The values of a tensor for which [`host`](Self::host) borrows them, in the same order, to be changed; they are copied if
    /// another tensor shares them.
    fn host_mut(_tensor: &mut FloatTensor<Self>) -> Option<&mut [f32]> {
        None
    }

    /// A tensor of this shape, whose values are in memory in this order of axes, slowest first; no value is copied.
    ///
    /// # Panics
    /// If `order` is no permutation of the axes, or the values are of another number.
    fn from_host(
        values: Vec<f32>,
        shape: &[usize],
        order: &[usize],
        device: &Device<Self>,
    ) -> FloatTensor<Self> {
        let memory: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
        assert_eq!(memory.len(), shape.len(), "the order {order:?} of {} axes", shape.len());
        let tensor = Self::float_from_data(TensorData::new(values, memory), device);
        if order.is_sorted() {
            return tensor;
        }
        let place = |axis| order.iter().position(|&other| other == axis).expect("the order has every axis");
        let axes: Vec<usize> = (0..shape.len()).map(place).collect();
        Self::float_permute(tensor, &axes)
    }
}

/// Values with the places of their axes.
#[derive(Debug, Clone)]
pub struct Host<'a> {
    /// Dense: as many values as the shape has.
    values: Cow<'a, [f32]>,
    shape: Vec<usize>,
    /// Distance of neighbours along each axis; without meaning where an axis has length 1.
    strides: Vec<usize>,
}

impl<'a> Host<'a> {
    /// Borrows memory, if the strides say that it is dense.
    fn borrow(values: &'a [f32], shape: Vec<usize>, strides: &[isize]) -> Option<Self> {
        let places = shape.iter().zip(strides);
        let strides: Option<Vec<usize>> = places
            .map(|(&len, &stride)| if len == 1 { Some(1) } else { usize::try_from(stride).ok() })
            .collect();
        let host = Self { values: Cow::Borrowed(values), shape, strides: strides? };
        host.is_in(&host.order()).then_some(host)
    }

    /// Values in the order of the axes.
    fn owned(values: Vec<f32>, shape: Vec<usize>) -> Self {
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis];
        }
        Self { values: Cow::Owned(values), shape, strides }
    }

    /// Whether the values are the tensor's own, not a copy.
    pub(crate) fn is_borrowed(&self) -> bool {
        matches!(self.values, Cow::Borrowed(_))
    }

    /// The length of each axis.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The axes by their place in memory, slowest first. Axes of length 1 have no place; they stay where they are if everything
    /// else is in order, and come where their number puts them otherwise.
    pub(crate) fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.shape.len()).collect();
        if !self.is_in(&order) {
            let long = |axis: &usize| self.shape[*axis] != 1;
            let mut by_stride: Vec<usize> = order.iter().copied().filter(long).collect();
            by_stride.sort_by_key(|&axis| std::cmp::Reverse(self.strides[axis]));
            let mut by_stride = by_stride.into_iter();
            for place in order.iter_mut().filter(|axis| long(axis)) {
                *place = by_stride.next().expect("as many places as long axes");
            }
        }
        order
    }

    /// The axes by their place in memory if the last axis is dense there, else in their own order: for operations along it.
    pub(crate) fn order_with_last_dense(&self) -> Vec<usize> {
        let last = self.shape.len() - 1;
        let mut order = self.order();
        order.retain(|&axis| axis != last);
        order.push(last);
        if self.is_in(&order) { order } else { (0..=last).collect() }
    }

    /// Whether the values lie in this order of axes, slowest first.
    pub(crate) fn is_in(&self, order: &[usize]) -> bool {
        let mut expected = 1;
        for &axis in order.iter().rev() {
            if self.shape[axis] != 1 && self.strides[axis] != expected {
                return self.values.is_empty();
            }
            expected *= self.shape[axis];
        }
        true
    }

    /// The values in this order of axes: borrowed where they lie so, copied elsewhere.
    pub(crate) fn in_order(&self, order: &[usize]) -> Cow<'_, [f32]> {
        if self.is_in(order) {
            return Cow::Borrowed(&self.values);
        }
        let axes: Vec<(usize, usize)> = order
            .iter()
            .map(|&axis| (self.shape[axis], self.strides[axis]))
            .filter(|(len, _)| *len != 1)
            .collect();
        let mut copy = vec![0.0; self.values.len()];
        transpose(&self.values, &axes, &mut copy);
        Cow::Owned(copy)
    }

    /// The values in the order of the axes, as a freshly made tensor has them.
    pub(crate) fn row_major(&self) -> Cow<'_, [f32]> {
        let order: Vec<usize> = (0..self.shape.len()).collect();
        self.in_order(&order)
    }
}

/// Writes the values that lie at these (length, stride) of `from`, first axis slowest, one after another into `to`.
///
/// The last axis and the one along which `from` is dense are walked in squares, so that neither side leaves the cache.
fn transpose(from: &[f32], axes: &[(usize, usize)], to: &mut [f32]) {
    const SQUARE: usize = 16;
    let Some((&(last_len, last_stride), outer)) = axes.split_last() else {
        return to.copy_from_slice(&from[..to.len()]);
    };
    if last_stride == 1 || outer.is_empty() {
        let mut rows = to.chunks_exact_mut(last_len);
        return each_row(outer, 0, &mut |start| {
            let row = rows.next().expect("as many rows as the outer axes have");
            if last_stride == 1 {
                row.copy_from_slice(&from[start..start + last_len]);
            } else {
                row.iter_mut().enumerate().for_each(|(i, value)| *value = from[start + i * last_stride]);
            }
        });
    }
    let dense =
        outer.iter().position(|&(_, stride)| stride == 1).expect("dense memory has an axis of stride 1");
    let dense_len = outer[dense].0;
    // Where a step along the dense axis leads in `to`.
    let step: usize = outer[dense + 1..].iter().map(|&(len, _)| len).product::<usize>() * last_len;
    let mut others = outer.to_vec();
    others.remove(dense);
    let steps = others.iter().enumerate().map(|(index, _)| {
        let behind: usize = others[index + 1..].iter().map(|&(len, _)| len).product::<usize>() * last_len;
        if index < dense { behind * dense_len } else { behind }
    });
    let (steps, mut starts): (Vec<usize>, Vec<usize>) = (steps.collect(), Vec::new());
    let places: Vec<(usize, usize)> =
        others.iter().zip(&steps).map(|(&(len, _), &step)| (len, step)).collect();
    each_row(&places, 0, &mut |start| starts.push(start));
    let mut starts = starts.into_iter();
    each_row(&others, 0, &mut |from_start| {
        let to_start = starts.next().expect("the same axes");
        for i in (0..dense_len).step_by(SQUARE) {
            for j in (0..last_len).step_by(SQUARE) {
                for i in i..dense_len.min(i + SQUARE) {
                    for j in j..last_len.min(j + SQUARE) {
                        to[to_start + i * step + j] = from[from_start + i + j * last_stride];
                    }
                }
            }
        }
    });
}

/// Calls `visit` with the place of each element of the axes, first axis slowest.
fn each_row(axes: &[(usize, usize)], start: usize, visit: &mut impl FnMut(usize)) {
    match axes.split_first() {
        None => visit(start),
        Some((&(len, stride), rest)) => (0..len).for_each(|i| each_row(rest, start + i * stride, visit)),
    }
}

// These answer nothing: the tensors of a device are elsewhere, and nobody asks for those of the others.
#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal", feature = "cuda"))]
impl HostBackend for burn::backend::Cube {}
impl HostBackend for burn::backend::Dispatch {}
impl<B: HostBackend, C: CheckpointStrategy> HostBackend for Autodiff<B, C> {}

#[cfg(feature = "ndarray")]
impl HostBackend for burn::backend::NdArray {
    fn host(tensor: &FloatTensor<Self>) -> Option<Host<'_>> {
        let burn::backend::ndarray::NdArrayTensor::F32(storage) = tensor else {
            return None;
        };
        let view = storage.view();
        let shape = view.shape().to_vec();
        let borrowed =
            view.to_slice_memory_order().and_then(|v| Host::borrow(v, shape.clone(), view.strides()));
        Some(borrowed.unwrap_or_else(|| Host::owned(view.iter().copied().collect(), shape)))
    }

    fn host_mut(tensor: &mut FloatTensor<Self>) -> Option<&mut [f32]> {
        if !Self::host(tensor)?.is_borrowed() {
            return None;
        }
        match tensor {
            burn::backend::ndarray::NdArrayTensor::F32(storage) => {
                storage.ensure_owned().as_slice_memory_order_mut()
            }
            _ => None,
        }
    }
}

#[cfg(feature = "flex")]
impl HostBackend for burn::backend::Flex {
    fn host(tensor: &FloatTensor<Self>) -> Option<Host<'_>> {
        if tensor.dtype() != burn::tensor::DType::F32 {
            return None;
        }
        let layout = tensor.layout();
        let shape = layout.shape().to_vec();
        let (start, len) = (layout.start_offset(), layout.num_elements());
        let borrowed = (tensor.storage::<f32>().get(start..start + len))
            .and_then(|values| Host::borrow(values, shape.clone(), layout.strides()));
        Some(borrowed.unwrap_or_else(|| {
            let values = tensor.to_contiguous().into_data().try_into_vec().expect("the values are f32");
            Host::owned(values, shape)
        }))
    }

    fn host_mut(tensor: &mut FloatTensor<Self>) -> Option<&mut [f32]> {
        if !Self::host(tensor)?.is_borrowed() {
            return None;
        }
        let (start, len) = (tensor.layout().start_offset(), tensor.layout().num_elements());
        tensor.storage_mut::<f32>().get_mut(start..start + len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Slice;

    /// The values of `[2, 3, 4, 5]`, which are their places.
    fn counted<B: HostBackend>(device: &Device<B>) -> FloatTensor<B> {
        let values: Vec<f32> = (0..120).map(|i| i as f32).collect();
        B::float_from_data(TensorData::new(values, [2, 3, 4, 5]), device)
    }

    /// What burn itself says the values are.
    fn read<B: Backend>(tensor: FloatTensor<B>) -> Vec<f32> {
        burn::tensor::read_sync(B::float_into_data(tensor)).unwrap().try_into_vec().unwrap()
    }

    fn borrows_any_order_of_axes<B: HostBackend>(device: &Device<B>) {
        let orders = [[0, 1, 2, 3], [0, 2, 3, 1], [3, 1, 0, 2], [1, 0, 3, 2], [3, 2, 1, 0]];
        for axes in orders {
            let tensor = B::float_permute(counted::<B>(device), &axes);
            let host = B::host(&tensor).unwrap();
            assert!(matches!(host.values, Cow::Borrowed(_)), "{axes:?}");
            assert_eq!(host.row_major(), read::<B>(tensor.clone()), "{axes:?}");
            for order in orders {
                let expected = read::<B>(B::float_permute(tensor.clone(), &order));
                assert_eq!(host.in_order(&order), expected, "{axes:?} in {order:?}");
            }
            assert!(matches!(host.in_order(&host.order()), Cow::Borrowed(_)));
            let again = B::from_host(
                host.in_order(&CHANNELS_LAST).into_owned(),
                host.shape(),
                &CHANNELS_LAST,
                device,
            );
            assert!(B::host(&again).unwrap().is_in(&CHANNELS_LAST));
            assert_eq!(read::<B>(again), read::<B>(tensor));
        }
    }

    fn copies_what_is_not_dense<B: HostBackend>(device: &Device<B>) {
        let all = || counted::<B>(device);
        let slice = |axis: usize, range: std::ops::Range<usize>| {
            let full = [2, 3, 4, 5].map(|len| Slice::from(0..len));
            let mut slices = full;
            slices[axis] = Slice::from(range);
            B::float_slice(all(), &slices)
        };
        let strange = [
            slice(3, 1..4),
            slice(1, 1..3),
            slice(0, 1..2),
            B::float_permute(slice(2, 1..3), &[0, 2, 3, 1]),
            B::float_flip(all(), &[1]),
            B::float_expand(slice(1, 0..1), [2, 3, 4, 5].into()),
        ];
        for tensor in strange {
            let host = B::host(&tensor).unwrap();
            assert_eq!(host.row_major(), read::<B>(tensor.clone()));
            assert_eq!(
                host.in_order(&CHANNELS_LAST),
                read::<B>(B::float_permute(tensor.clone(), &CHANNELS_LAST))
            );
        }
    }

    fn knows_the_place_of_axes_of_length_one<B: HostBackend>(device: &Device<B>) {
        let values: Vec<f32> = (0..6).map(|i| i as f32).collect();
        let tensor = B::float_from_data(TensorData::new(values.clone(), [2, 3, 1, 1]), device);
        let host = B::host(&tensor).unwrap();
        assert_eq!(host.order(), [0, 1, 2, 3]);
        assert!(host.is_in(&CHANNELS_LAST));
        assert_eq!(host.in_order(&CHANNELS_LAST), values);
        let tensor = B::float_permute(tensor, &[1, 0, 2, 3]);
        assert_eq!(B::host(&tensor).unwrap().order(), [1, 0, 2, 3]);
    }

    fn changes_values_in_place<B: HostBackend>(device: &Device<B>) {
        let original = counted::<B>(device);
        let mut tensor = B::float_permute(original.clone(), &[0, 2, 3, 1]);
        B::host_mut(&mut tensor).unwrap()[1] = 100.0;
        assert_eq!(read::<B>(B::float_permute(tensor.clone(), &[0, 3, 1, 2]))[1], 100.0);
        assert_eq!(read::<B>(original)[1], 1.0, "what shares the memory stays as it was");
        let before = B::host(&tensor).unwrap().values.as_ptr();
        assert_eq!(B::host_mut(&mut tensor).unwrap().as_ptr(), before, "what is not shared is not copied");
        assert!(B::host_mut(&mut B::float_flip(tensor, &[1])).is_none());
    }

    fn leaves_other_types_alone<B: HostBackend>(device: &Device<B>) {
        let tensor = B::float_from_data(TensorData::new(vec![1.0f64], [1]), device);
        assert!(B::host(&tensor).is_none());
    }

    fn all<B: HostBackend>(device: &Device<B>) {
        borrows_any_order_of_axes::<B>(device);
        copies_what_is_not_dense::<B>(device);
        knows_the_place_of_axes_of_length_one::<B>(device);
        leaves_other_types_alone::<B>(device);
        changes_values_in_place::<B>(device);
    }

    #[test]
    fn sees_tensors_of_ndarray() {
        all::<burn::backend::NdArray>(&Default::default());
    }

    #[cfg(feature = "flex")]
    #[test]
    fn sees_tensors_of_flex() {
        all::<burn::backend::Flex>(&Default::default());
    }
}
