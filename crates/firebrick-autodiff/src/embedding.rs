//! Rows of a table, such as the vectors of words.

use crate::backend::{DiffBackend, InputGradients, Kernels};
use crate::check;
use crate::host::HostBackend;
use crate::record::{self, Step};
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata};
use burn::tensor::{Int, Shape, Tensor, read_sync};
use firebrick_kernels::grad;
use std::sync::Arc;

/// The rows of a table that ids name.
///
/// - `table`: `[rows, width]`
/// - `ids`: `[batch, places]`, in `0..rows`
/// - result: `[batch, places, width]`
///
/// The gradient of a row is the sum over the places that named it.
///
/// # Panics
/// If `table` or `ids` is empty; on the CPU backends also if an id is no row.
pub fn embedding(table: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<3> {
    check::not_empty("embedding", &table.dims());
    check::not_empty("embedding", &ids.dims());
    Tensor::from_dispatch(<Dispatch as DiffBackend>::embedding(table.into_dispatch(), ids.into_dispatch()))
}

/// `[batch, places, width]`.
fn shape_of<B: Backend>(table: &FloatTensor<B>, ids: &IntTensor<B>) -> [usize; 3] {
    let ([_, width], [batch, places]) = (table.shape().dims(), ids.shape().dims());
    [batch, places, width]
}

fn reference<B: Backend>(table: FloatTensor<B>, ids: IntTensor<B>) -> FloatTensor<B> {
    let shape = shape_of::<B>(&table, &ids);
    let ids = B::int_reshape(ids, Shape::from([shape[0] * shape[1]]));
    B::float_reshape(B::float_select(table, 0, ids), Shape::from(shape))
}

/// The ids, read from the tensor; each is one of `rows`.
fn ids_of<B: Backend>(ids: &IntTensor<B>, rows: usize) -> Vec<usize> {
    let [_, places]: [usize; 2] = ids.shape().dims();
    let data = read_sync(B::int_into_data(ids.clone())).unwrap_or_else(|e| panic!("embedding: {e}"));
    let ids = data.try_to_vec_as::<i64>().expect("integers");
    let row = |(index, id): (usize, i64)| {
        usize::try_from(id).ok().filter(|&row| row < rows).unwrap_or_else(|| {
            let (of_batch, place) = (index / places, index % places);
            panic!("embedding: id {id} at place [{of_batch}, {place}], of a table of {rows} rows")
        })
    };
    ids.into_iter().enumerate().map(row).collect()
}

fn host<B: HostBackend>(
    table: &FloatTensor<B>,
    ids: &IntTensor<B>,
) -> Option<(FloatTensor<B>, Arc<[usize]>)> {
    let (device, shape, [rows, _]) = (table.device(), shape_of::<B>(table, ids), table.shape().dims());
    let table = B::host(table)?;
    let ids = ids_of::<B>(ids, rows);
    let found = grad::embedding(&table.row_major(), shape[2], &ids);
    Some((B::from_host(found, &shape, &[0, 1, 2], &device), ids.into()))
}

#[derive(Debug, Clone)]
struct EmbeddingStep {
    ids: Arc<[usize]>,
    /// Of the table.
    rows: usize,
}

impl EmbeddingStep {
    fn on_the_host<B: HostBackend>(&self, grad: &FloatTensor<B>) -> Option<FloatTensor<B>> {
        let device = grad.device();
        let grad = B::host(grad)?;
        let width = grad.shape()[2];
        let table = grad::embedding_backward(&grad.row_major(), width, &self.ids, self.rows);
        Some(B::from_host(table, &[self.rows, width], &[0, 1], &device))
    }
}

impl<B: Kernels> Step<B> for EmbeddingStep {
    fn gradients(self, grad: FloatTensor<B>, wanted: &[bool]) -> InputGradients<B> {
        vec![wanted[0].then(|| self.on_the_host::<B>(&grad).expect("the rows were f32 in memory"))]
    }
}

pub(crate) fn run<B: Kernels>(table: FloatTensor<B>, ids: IntTensor<B>) -> FloatTensor<B> {
    match host::<B>(&table, &ids) {
        Some((found, _)) => found,
        None => reference::<B>(table, ids),
    }
}

pub(crate) fn record<B: Kernels, C: CheckpointStrategy>(
    table: FloatTensor<Autodiff<B, C>>,
    ids: IntTensor<B>,
) -> FloatTensor<Autodiff<B, C>> {
    match host::<B>(table.primitive(), &ids) {
        None => reference::<Autodiff<B, C>>(table, ids),
        Some((found, ids)) => {
            let [rows, _] = table.shape().dims();
            record::known::<B, C, _>(vec![table], found, EmbeddingStep { ids, rows })
        }
    }
}
