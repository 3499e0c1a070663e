//! Transformer encoder and decoder (Vaswani et al. 2017, arXiv:1706.03762).

use burn::module::Module;
use burn::nn::{Dropout, LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{Device, Tensor};

use crate::attention::glorot;
use crate::dropout::dropout;
use crate::{Activation, AttentionConfig, AttentionMask, LayerError, MultiHeadAttention, dense, seed_of};

/// Settings of the layers of an encoder or a decoder; the defaults are PyTorch's.
#[derive(Clone, Debug, PartialEq)]
pub struct TransformerConfig {
    /// Width of the tokens; a multiple of `heads`.
    pub width: usize,
    /// Heads of each attention.
    pub heads: usize,
    /// Width between the two dense layers.
    pub feed_forward: usize,
    /// Layers.
    pub layers: usize,
    /// Share that is dropped after each part and between the dense layers; 0.1 by default.
    pub dropout: f64,
    /// Between the dense layers; ReLU by default.
    pub activation: Activation,
    /// Norms before each part (Xiong et al. 2020, arXiv:2002.04745) and after the last layer, rather than after each part as in the paper; false by
    /// default.
    pub norm_first: bool,
    /// Of the norms; 1e-5 by default.
    pub epsilon: f64,
}

impl TransformerConfig {
    /// PyTorch's defaults.
    pub fn new(width: usize, heads: usize, feed_forward: usize, layers: usize) -> Self {
        Self {
            width,
            heads,
            feed_forward,
            layers,
            dropout: 0.1,
            activation: Activation::Relu,
            norm_first: false,
            epsilon: 1e-5,
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`LayerError`] names the setting that is wrong.
    pub fn validate(&self) -> Result<(), LayerError> {
        self.attention().validate()?;
        let unless = |fits, field, value: String| {
            LayerError::unless(fits, "Transformer", field, value, "greater than 0")
        };
        unless(self.feed_forward > 0, "feed_forward", self.feed_forward.to_string())?;
        unless(self.layers > 0, "layers", self.layers.to_string())?;
        unless(self.epsilon > 0.0 && self.epsilon.is_finite(), "epsilon", self.epsilon.to_string())?;
        dropout("Transformer", self.dropout).map(|_| ())
    }

    /// An encoder with weights from `seed`.
    ///
    /// # Errors
    /// As of [`validate`](Self::validate).
    pub fn init_encoder(&self, seed: u64, device: &Device) -> Result<TransformerEncoder, LayerError> {
        self.validate()?;
        let layer = |index| EncoderLayer::new(self, seed_of(seed, index as u64), device);
        Ok(TransformerEncoder {
            layers: (0..self.layers).map(layer).collect::<Result<_, _>>()?,
            norm: self.last_norm(device),
        })
    }

    /// A decoder with weights from `seed`.
    ///
    /// # Errors
    /// As of [`validate`](Self::validate).
    pub fn init_decoder(&self, seed: u64, device: &Device) -> Result<TransformerDecoder, LayerError> {
        self.validate()?;
        let layer = |index| DecoderLayer::new(self, seed_of(seed, index as u64), device);
        Ok(TransformerDecoder {
            layers: (0..self.layers).map(layer).collect::<Result<_, _>>()?,
            norm: self.last_norm(device),
        })
    }

    fn attention(&self) -> AttentionConfig {
        AttentionConfig { dropout: self.dropout, ..AttentionConfig::new(self.width, self.heads) }
    }

    fn norm(&self, device: &Device) -> Norm {
        let norm = LayerNormConfig::new(self.width).with_epsilon(self.epsilon).init(device);
        Norm { norm, epsilon: self.epsilon }
    }

    fn last_norm(&self, device: &Device) -> Option<Norm> {
        self.norm_first.then(|| self.norm(device))
    }
}

/// Burn's LayerNorm, computed in one operation.
#[derive(Module, Debug)]
pub struct Norm {
    /// Scale and shift.
    pub norm: LayerNorm,
    #[module(skip)]
    epsilon: f64,
}

impl Norm {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match &self.norm.beta {
            Some(beta) => firebrick_autodiff::layer_norm(x, self.norm.gamma.val(), beta.val(), self.epsilon),
            None => self.norm.forward(x),
        }
    }
}

/// Two dense layers with an activation between them.
#[derive(Module, Debug)]
pub struct FeedForward {
    /// To the wide one.
    pub expand: Linear,
    /// And back.
    pub project: Linear,
    dropout: Dropout,
    #[module(skip)]
    activation: Activation,
}

impl FeedForward {
    fn new(config: &TransformerConfig, seed: u64, device: &Device) -> Result<Self, LayerError> {
        Ok(Self {
            expand: glorot(config.width, config.feed_forward, true, seed_of(seed, 0), device),
            project: glorot(config.feed_forward, config.width, true, seed_of(seed, 1), device),
            dropout: dropout("Transformer", config.dropout)?,
            activation: config.activation,
        })
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let wide = self.dropout.forward(dense(&self.expand, x, self.activation));
        dense(&self.project, wide, Activation::None)
    }
}

/// Self-attention and two dense layers, each with a residual.
#[derive(Module, Debug)]
pub struct EncoderLayer {
    /// Of the tokens to each other.
    pub attention: MultiHeadAttention,
    /// The dense layers.
    pub feed_forward: FeedForward,
    /// Of the attention.
    pub norm_1: Norm,
    /// Of the dense layers.
    pub norm_2: Norm,
    dropout: Dropout,
    #[module(skip)]
    norm_first: bool,
}

impl EncoderLayer {
    fn new(config: &TransformerConfig, seed: u64, device: &Device) -> Result<Self, LayerError> {
        Ok(Self {
            attention: config.attention().init(seed_of(seed, 0), device)?,
            feed_forward: FeedForward::new(config, seed_of(seed, 1), device)?,
            norm_1: config.norm(device),
            norm_2: config.norm(device),
            dropout: dropout("Transformer", config.dropout)?,
            norm_first: config.norm_first,
        })
    }

    /// `[batch, tokens, width]` to the same shape.
    pub fn forward(&self, x: Tensor<3>, mask: &AttentionMask) -> Tensor<3> {
        let x = residual(x, &self.norm_1, &self.dropout, self.norm_first, |x| {
            self.attention.forward(x.clone(), x, mask)
        });
        residual(x, &self.norm_2, &self.dropout, self.norm_first, |x| self.feed_forward.forward(x))
    }
}

/// `x + part(norm(x))`, or `norm(x + part(x))`.
fn residual(
    x: Tensor<3>,
    norm: &Norm,
    dropout: &Dropout,
    norm_first: bool,
    part: impl FnOnce(Tensor<3>) -> Tensor<3>,
) -> Tensor<3> {
    if norm_first {
        let branch = dropout.forward(part(norm.forward(x.clone())));
        x + branch
    } else {
        let branch = dropout.forward(part(x.clone()));
        norm.forward(x + branch)
    }
}

/// Self-attention, attention to a memory and two dense layers, each with a residual.
#[derive(Module, Debug)]
pub struct DecoderLayer {
    /// Of the tokens to those before them.
    pub self_attention: MultiHeadAttention,
    /// To the memory.
    pub cross_attention: MultiHeadAttention,
    /// The dense layers.
    pub feed_forward: FeedForward,
    /// Of the self-attention.
    pub norm_1: Norm,
    /// Of the attention to the memory.
    pub norm_2: Norm,
    /// Of the dense layers.
    pub norm_3: Norm,
    dropout: Dropout,
    #[module(skip)]
    norm_first: bool,
}

impl DecoderLayer {
    fn new(config: &TransformerConfig, seed: u64, device: &Device) -> Result<Self, LayerError> {
        Ok(Self {
            self_attention: config.attention().init(seed_of(seed, 0), device)?,
            cross_attention: config.attention().init(seed_of(seed, 1), device)?,
            feed_forward: FeedForward::new(config, seed_of(seed, 2), device)?,
            norm_1: config.norm(device),
            norm_2: config.norm(device),
            norm_3: config.norm(device),
            dropout: dropout("Transformer", config.dropout)?,
            norm_first: config.norm_first,
        })
    }

    /// `[batch, tokens, width]` and a memory `[batch, memory tokens, width]` to the first shape.
    pub fn forward(
        &self,
        x: Tensor<3>,
        memory: Tensor<3>,
        mask: &AttentionMask,
        memory_mask: &AttentionMask,
    ) -> Tensor<3> {
        let (dropout, first) = (&self.dropout, self.norm_first);
        let x =
            residual(x, &self.norm_1, dropout, first, |x| self.self_attention.forward(x.clone(), x, mask));
        let x = residual(x, &self.norm_2, dropout, first, |x| {
            self.cross_attention.forward(x, memory, memory_mask)
        });
        residual(x, &self.norm_3, dropout, first, |x| self.feed_forward.forward(x))
    }
}

/// A stack of [`EncoderLayer`]s.
#[derive(Module, Debug)]
pub struct TransformerEncoder {
    /// In their order.
    pub layers: Vec<EncoderLayer>,
    /// After the last one, where the norms come first.
    pub norm: Option<Norm>,
}

impl TransformerEncoder {
    /// `[batch, tokens, width]` to the same shape.
    pub fn forward(&self, x: Tensor<3>, mask: &AttentionMask) -> Tensor<3> {
        let x = self.layers.iter().fold(x, |x, layer| layer.forward(x, mask));
        self.norm.as_ref().map_or(x.clone(), |norm| norm.forward(x))
    }
}

/// A stack of [`DecoderLayer`]s.
#[derive(Module, Debug)]
pub struct TransformerDecoder {
    /// In their order.
    pub layers: Vec<DecoderLayer>,
    /// After the last one, where the norms come first.
    pub norm: Option<Norm>,
}

impl TransformerDecoder {
    /// `[batch, tokens, width]` and a memory `[batch, memory tokens, width]` to the first shape; a mask is causal as a rule.
    pub fn forward(
        &self,
        x: Tensor<3>,
        memory: Tensor<3>,
        mask: &AttentionMask,
        memory_mask: &AttentionMask,
    ) -> Tensor<3> {
        let x = self.layers.iter().fold(x, |x, layer| layer.forward(x, memory.clone(), mask, memory_mask));
        self.norm.as_ref().map_or(x.clone(), |norm| norm.forward(x))
    }
}
