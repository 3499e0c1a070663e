//! The greatest value of each of a fixed number of regions.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::LayerError;

/// Max pooling to a size that is given, PyTorch's `AdaptiveMaxPool2d`; burn has the average. Of `n` values, result `i` of `m` is the greatest of
/// those from `⌊i n / m⌋` to before `⌈(i + 1) n / m⌉`. No parameters.
#[derive(Module, Debug)]
pub struct AdaptiveMaxPool2d {
    rows: usize,
    columns: usize,
}

impl AdaptiveMaxPool2d {
    /// To `rows` by `columns` regions.
    ///
    /// # Errors
    /// [`LayerError`] unless there is at least one of both.
    pub fn new(rows: usize, columns: usize) -> Result<Self, LayerError> {
        LayerError::unless(rows > 0, "AdaptiveMaxPool2d", "rows", rows, "at least 1")?;
        LayerError::unless(columns > 0, "AdaptiveMaxPool2d", "columns", columns, "at least 1")?;
        Ok(Self { rows, columns })
    }

    /// `[batch, channels, height, width]` to `[batch, channels, rows, columns]`.
    ///
    /// # Panics
    /// If the image has no pixels.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        pool(pool(x, 2, self.rows), 3, self.columns)
    }
}

/// A maximum over a rectangle is one over rows of those over columns.
fn pool(x: Tensor<4>, axis: usize, regions: usize) -> Tensor<4> {
    let length = x.dims()[axis];
    assert!(length > 0, "AdaptiveMaxPool2d: the image has no pixels along axis {axis}");
    let region = |index: usize| {
        let (start, end) = (index * length / regions, ((index + 1) * length).div_ceil(regions));
        x.clone().narrow(axis, start, end - start).max_dim(axis)
    };
    Tensor::cat((0..regions).map(region).collect(), axis)
}
