use burn::module::Module;
use burn::nn::{Dropout, PaddingConfig2d, pool::MaxPool2dConfig};
use burn::tensor::ops::PadMode;
use burn::tensor::{Distribution, Tensor};

use super::{acts, dropout};
use crate::LayerError;

/// Drops square regions of a feature map (Ghiasi et al. 2018, arXiv:1810.12890), in each channel others: torchvision's `DropBlock2d`. A
/// place where a block fits is the middle of one with probability `γ = p / block² · height width / ((height - block + 1) (width - block + 1))`,
/// equation 1.
#[derive(Module, Debug)]
pub struct DropBlock {
    dropout: Dropout,
    block: usize,
}

impl DropBlock {
    /// Drops about a share `p` of the area in squares of `block` pixels, which is odd.
    ///
    /// # Errors
    /// [`LayerError`] unless `p` is in `[0, 1)` and `block` is odd.
    pub fn new(p: f64, block: usize) -> Result<Self, LayerError> {
        LayerError::unless(block % 2 == 1, "DropBlock", "block", block, "an odd number")?;
        Ok(Self { dropout: dropout("DropBlock", p)?, block })
    }

    /// `[batch, channels, height, width]` to the same shape. A block larger than the image is cut to its shorter side.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        if !acts(&self.dropout, &x) {
            return x;
        }
        let [batch, channels, height, width] = x.dims();
        let fits = height.min(width);
        let block = self.block.min(if fits % 2 == 1 { fits } else { fits - 1 }).max(1);
        let [rows, columns] = [height, width].map(|side| side + 1 - block);
        let area = (height * width) as f64 / (rows * columns) as f64;
        let gamma = (self.dropout.prob / (block * block) as f64 * area).min(1.0);
        let options = (&x.device(), x.dtype());
        let centres =
            Tensor::<4>::random([batch, channels, rows, columns], Distribution::Bernoulli(gamma), options);
        self.apply(x, centres)
    }

    /// Drops the squares around `centres`, ones among zeros `[batch, channels, height - block + 1, width - block + 1]`, whose middle is half a block
    /// further down and right, and scales what is left to the mean before.
    pub fn apply(&self, x: Tensor<4>, centres: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let block = height + 1 - centres.dims()[2];
        let half = block / 2;
        let centres = centres.pad((half, half, half, half), PadMode::Constant(0.0));
        let squares = MaxPool2dConfig::new([block, block])
            .with_strides([1, 1])
            .with_padding(PaddingConfig2d::Explicit(half, half, half, half))
            .init()
            .forward(centres);
        let kept = squares.neg() + 1.0;
        let count = (batch * channels * height * width) as f64;
        let scale = kept.clone().sum().clamp_min(1.0).recip() * count;
        x * kept * scale.unsqueeze()
    }
}
