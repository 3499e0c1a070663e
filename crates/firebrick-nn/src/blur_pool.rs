//! Subsampling without aliases.

use burn::module::Module;
use burn::tensor::module::conv2d;
use burn::tensor::ops::{ConvOptions, PadMode};
use burn::tensor::{Tensor, TensorData};

use crate::LayerError;

/// A binomial filter of each channel with a stride (Zhang 2019, arXiv:1904.11486); the image is mirrored at its edges. No parameters.
#[derive(Module, Debug)]
pub struct BlurPool {
    taps: usize,
    stride: usize,
}

impl BlurPool {
    /// A filter of `taps`, e.g. 3 for `[1, 2, 1] / 4` along each axis.
    ///
    /// # Errors
    /// [`LayerError`] unless there are 1 to 15 taps, an odd number, and the stride is at least 1.
    pub fn new(taps: usize, stride: usize) -> Result<Self, LayerError> {
        let odd = taps % 2 == 1 && taps <= 15;
        LayerError::unless(odd, "BlurPool", "taps", taps, "an odd number, 1 to 15")?;
        LayerError::unless(stride > 0, "BlurPool", "stride", stride, "at least 1")?;
        Ok(Self { taps, stride })
    }

    /// `[batch, channels, height, width]` to `[batch, channels, ceil(height / stride), ceil(width / stride)]`.
    ///
    /// # Panics
    /// If a side is not greater than half the taps, where there is nothing to mirror.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, channels, height, width] = x.dims();
        let half = self.taps / 2;
        assert!(
            height > half && width > half,
            "BlurPool: {height} x {width} pixels are too few for {} taps",
            self.taps
        );
        // A row of Pascal's triangle.
        let row = (1..self.taps).fold(vec![1.0], |row: Vec<f64>, _| {
            let padded = |i: usize| row.get(i).copied().unwrap_or(0.0);
            (0..=row.len()).map(|i| padded(i) + if i > 0 { padded(i - 1) } else { 0.0 }).collect()
        });
        let sum = 4f64.powi(self.taps as i32 - 1);
        let filter: Vec<f64> = row.iter().flat_map(|a| row.iter().map(move |b| a * b / sum)).collect();
        let data = TensorData::new(filter, [1, 1, self.taps, self.taps]);
        let filter = Tensor::<4>::from_data(data, (&x.device(), x.dtype())).repeat_dim(0, channels);
        let padded = if half > 0 { x.pad((half, half, half, half), PadMode::Reflect) } else { x };
        let options = ConvOptions::new([self.stride; 2], [0, 0], [1, 1], channels);
        conv2d(padded, filter, None, options)
    }
}
