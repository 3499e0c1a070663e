//! Images to tokens.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor};

use crate::{Initializer, LayerError, seed_of};

/// Cuts an image into squares and maps each to a token, as a convolution whose stride is its kernel (ViT, Dosovitskiy et al. 2021,
/// arXiv:2010.11929).
#[derive(Module, Debug)]
pub struct PatchEmbedding {
    /// Weights `[width, channels, patch, patch]`.
    pub project: Conv2d,
}

impl PatchEmbedding {
    /// Patches of `patch` by `patch` pixels to tokens of `width`, with LeCun's normal weights from `seed`, as timm's.
    ///
    /// # Errors
    /// [`LayerError`] for no channels, no width or no patch.
    pub fn new(
        channels: usize,
        patch: usize,
        width: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self, LayerError> {
        for (field, value) in [("channels", channels), ("patch", patch), ("width", width)] {
            LayerError::unless(value > 0, "PatchEmbedding", field, value, "at least 1")?;
        }
        let mut project =
            Conv2dConfig::new([channels, width], [patch, patch]).with_stride([patch, patch]).init(device);
        let fan_in = channels * patch * patch;
        project.weight = Initializer::LecunNormal.init(
            [width, channels, patch, patch],
            fan_in,
            width,
            seed_of(seed, 0),
            device,
        );
        project.bias = Some(Initializer::Zeros.init([width], fan_in, width, 0, device));
        Ok(Self { project })
    }

    /// `[batch, channels, height, width]` to `[batch, (height / patch) (width / patch), width]`, row by row; what is left over at the right and
    /// at the bottom is left out.
    ///
    /// # Panics
    /// If the image is smaller than a patch.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<3> {
        self.project.forward(images).flatten::<3>(2, 3).swap_dims(1, 2)
    }
}
