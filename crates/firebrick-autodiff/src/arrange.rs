//! Rows put in another order, e.g. the pixels of an image as windows.

use crate::backend::{DiffBackend, InputGradients, Kernels};
use crate::check;
use crate::host::HostBackend;
use crate::record::{self, Step};
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata};
use burn::tensor::{Shape, Tensor, TensorData};
use firebrick_kernels::grad;
use std::sync::Arc;

/// An order of rows, some of which may be new and zero. No row comes twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrangement {
    /// The row that comes to each place.
    from: Arc<[Option<u32>]>,
    /// The place that each row comes to.
    to: Arc<[Option<u32>]>,
}

impl Arrangement {
    /// Of `rows` rows, those that `from` names, zeros where it names none.
    ///
    /// # Panics
    /// If a row does not exist or is named twice.
    pub fn new(rows: usize, from: impl IntoIterator<Item = Option<usize>>) -> Self {
        let mut to = vec![None; rows];
        let place = |(place, row): (usize, Option<usize>)| {
            let row = row?;
            assert!(row < rows, "arrange: row {row} of {rows}");
            assert!(to[row].is_none(), "arrange: row {row} comes twice");
            to[row] = Some(place as u32);
            Some(row as u32)
        };
        let from = from.into_iter().enumerate().map(place).collect();
        Self { from, to: to.into() }
    }

    /// The way back: zeros come to the rows that came to no place.
    pub fn inverse(&self) -> Self {
        Self { from: self.to.clone(), to: self.from.clone() }
    }
}

/// Puts rows in another order.
///
/// - `x`: `[batch, rows, width]`
/// - result: `[batch, places, width]`
///
/// # Panics
/// If `x` is empty or has another number of rows than the arrangement is of.
pub fn arrange(x: Tensor<3>, arrangement: &Arrangement) -> Tensor<3> {
    check::not_empty("arrange", &x.dims());
    let [batch, rows, width] = x.dims();
    check::shape("arrange", "x", &[batch, rows, width], &[batch, arrangement.to.len(), width]);
    Tensor::from_dispatch(<Dispatch as DiffBackend>::arrange(x.into_dispatch(), arrangement.clone()))
}

fn reference<B: Backend>(x: FloatTensor<B>, arrangement: &Arrangement) -> FloatTensor<B> {
    let [batch, rows, width] = x.shape().dims();
    let device = x.device();
    let nothing = B::float_zeros(Shape::from([batch, 1, width]), &device, x.dtype().into());
    let x = B::float_cat(vec![x, nothing], 1);
    let from: Vec<i64> = arrangement.from.iter().map(|row| row.map_or(rows as i64, i64::from)).collect();
    let places = from.len();
    B::float_select(x, 1, B::int_from_data(TensorData::new(from, [places]), &device))
}

fn host<B: HostBackend>(x: &FloatTensor<B>, arrangement: &Arrangement) -> Option<FloatTensor<B>> {
    let device = x.device();
    let x = B::host(x)?;
    let [batch, rows, width]: [usize; 3] = x.shape().try_into().expect("three axes");
    let arranged = grad::arrange(&x.row_major(), [batch, rows, width], &arrangement.from);
    Some(B::from_host(arranged, &[batch, arrangement.from.len(), width], &[0, 1, 2], &device))
}

#[derive(Debug, Clone)]
struct ArrangeStep(Arrangement);

impl<B: Kernels> Step<B> for ArrangeStep {
    fn gradients(self, grad: FloatTensor<B>, wanted: &[bool]) -> InputGradients<B> {
        vec![wanted[0].then(|| run::<B>(grad, &self.0.inverse()))]
    }
}

pub(crate) fn run<B: Kernels>(x: FloatTensor<B>, arrangement: &Arrangement) -> FloatTensor<B> {
    host::<B>(&x, arrangement).unwrap_or_else(|| reference::<B>(x, arrangement))
}

pub(crate) fn record<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    arrangement: Arrangement,
) -> FloatTensor<Autodiff<B, C>> {
    let output = run::<B>(x.primitive().clone(), &arrangement);
    record::known::<B, C, _>(vec![x], output, ArrangeStep(arrangement))
}
