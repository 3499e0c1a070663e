//! The parameters of a transformer encoder as frameworks store them.

use crate::params::{ConvShape, FoldedConv, MOST_CHANNELS, volume};
use crate::{Activation, KernelError};

/// Where the norms of a layer stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NormOrder {
    /// `norm(x + f(x))`, of Vaswani et al. 2017 and BERT.
    #[default]
    Post,
    /// `x + f(norm(x))`, of GPT-2 and ViT; such encoders usually end with a norm of their own, see
    /// [`EncoderPlanBuilder::final_norm`](crate::EncoderPlanBuilder::final_norm).
    Pre,
}

/// What all layers of an encoder have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderConfig {
    /// Features of a token; a multiple of `heads`.
    pub width: usize,
    /// Attention heads, each `width / heads` features wide.
    pub heads: usize,
    /// Features between the two linear layers of the feed-forward part; usually four times `width`.
    pub feed_forward: usize,
    /// Between the two linear layers; [`Activation::Gelu`] in BERT.
    pub activation: Activation,
    /// Where the norms stand; [`NormOrder::Post`] in BERT.
    pub order: NormOrder,
    /// Whether a token sees only itself and those before it; false in BERT.
    pub causal: bool,
}

/// A linear layer, `weight x + bias`.
#[derive(Debug, Clone, Copy)]
pub struct LinearParams<'a> {
    /// `[out, in]`.
    pub weight: &'a [f32],
    /// `[out]`; zero where there is none.
    pub bias: Option<&'a [f32]>,
}

/// Layer normalisation over the features of a token (Ba, Kiros and Hinton 2016):
/// `(x - mean) / sqrt(var + epsilon) * gamma + beta`, where the variance divides by the number of features.
#[derive(Debug, Clone, Copy)]
pub struct LayerNormParams<'a> {
    /// `[width]`, PyTorch's `weight`.
    pub gamma: &'a [f32],
    /// `[width]`, PyTorch's `bias`.
    pub beta: &'a [f32],
    /// Added to the variance; 1e-12 in BERT, 1e-5 is PyTorch's default.
    pub epsilon: f32,
}

/// Multi-head self-attention. Each weight is `[width, width]`; PyTorch's `in_proj_weight` is query, key and value one after
/// another.
#[derive(Debug, Clone, Copy)]
pub struct AttentionParams<'a> {
    /// What a token asks for.
    pub query: LinearParams<'a>,
    /// What a token is found by.
    pub key: LinearParams<'a>,
    /// What a token hands over.
    pub value: LinearParams<'a>,
    /// Mixes the heads.
    pub output: LinearParams<'a>,
}

/// A layer of the encoder.
#[derive(Debug, Clone, Copy)]
pub struct EncoderLayerParams<'a> {
    /// Self-attention.
    pub attention: AttentionParams<'a>,
    /// The norm behind (post) or before (pre) the attention.
    pub attention_norm: LayerNormParams<'a>,
    /// From `width` to `feed_forward`; the activation follows.
    pub expand: LinearParams<'a>,
    /// From `feed_forward` to `width`.
    pub project: LinearParams<'a>,
    /// The norm behind (post) or before (pre) the feed-forward part.
    pub feed_forward_norm: LayerNormParams<'a>,
}

/// Turns token ids into features: word plus position plus token type, then the norm.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddingParams<'a> {
    /// `[vocabulary, width]`.
    pub words: &'a [f32],
    /// `[positions, width]`: as many tokens can a sequence have.
    pub positions: &'a [f32],
    /// `[types, width]`, BERT's segments.
    pub types: Option<&'a [f32]>,
    /// Applied to the sum; GPT-2 has none.
    pub norm: Option<LayerNormParams<'a>>,
}

impl EncoderConfig {
    /// Checks the sizes by themselves.
    pub(crate) fn check(&self) -> Result<(), KernelError> {
        let Self { width, heads, feed_forward, .. } = *self;
        let invalid = |reason| Err(KernelError::InvalidEncoder { reason });
        if width == 0 || heads == 0 || feed_forward == 0 {
            return invalid(format!(
                "width, heads and feed-forward width must be at least 1, got {width}, {heads} and {feed_forward}"
            ));
        }
        if !width.is_multiple_of(heads) {
            return invalid(format!("{heads} heads do not divide a width of {width}"));
        }
        if width > MOST_CHANNELS || feed_forward > MOST_CHANNELS {
            return invalid(format!(
                "at most {MOST_CHANNELS} features are supported, got a width of {width} and a feed-forward width of {feed_forward}"
            ));
        }
        Ok(())
    }

    pub(crate) fn head_width(&self) -> usize {
        self.width / self.heads
    }
}

/// Compares a parameter's length with its shape.
pub(crate) fn check_length(
    layer: usize,
    parameter: &'static str,
    values: &[f32],
    shape: &[usize],
) -> Result<(), KernelError> {
    let expected = volume(shape);
    if values.len() == expected {
        return Ok(());
    }
    let (shape, actual) = (format!("{shape:?}"), values.len());
    Err(KernelError::ParameterLength { layer, parameter, shape, expected, actual })
}

impl LinearParams<'_> {
    /// Checks both lengths; `names` are those of weight and bias.
    pub(crate) fn check(
        &self,
        layer: usize,
        names: [&'static str; 2],
        [outputs, inputs]: [usize; 2],
    ) -> Result<(), KernelError> {
        check_length(layer, names[0], self.weight, &[outputs, inputs])?;
        self.bias.map_or(Ok(()), |bias| check_length(layer, names[1], bias, &[outputs]))
    }
}

impl LayerNormParams<'_> {
    /// Checks both lengths; `names` are those of gamma and beta.
    pub(crate) fn check(
        &self,
        layer: usize,
        names: [&'static str; 2],
        width: usize,
    ) -> Result<(), KernelError> {
        check_length(layer, names[0], self.gamma, &[width])?;
        check_length(layer, names[1], self.beta, &[width])
    }
}

impl EncoderLayerParams<'_> {
    pub(crate) fn check(&self, layer: usize, config: &EncoderConfig) -> Result<(), KernelError> {
        let &EncoderConfig { width, feed_forward, .. } = config;
        let attention = &self.attention;
        attention.query.check(layer, ["query weight", "query bias"], [width; 2])?;
        attention.key.check(layer, ["key weight", "key bias"], [width; 2])?;
        attention.value.check(layer, ["value weight", "value bias"], [width; 2])?;
        attention.output.check(layer, ["attention output weight", "attention output bias"], [width; 2])?;
        self.attention_norm.check(layer, ["attention norm gamma", "attention norm beta"], width)?;
        self.expand.check(layer, ["expand weight", "expand bias"], [feed_forward, width])?;
        self.project.check(layer, ["project weight", "project bias"], [width, feed_forward])?;
        self.feed_forward_norm.check(layer, ["feed-forward norm gamma", "feed-forward norm beta"], width)
    }
}

/// Linear layers of one input as one, each with a factor on its result: the products for query, key and value share a pass.
pub(crate) fn stacked(
    parts: &[(LinearParams<'_>, f64)],
    [outputs, inputs]: [usize; 2],
    activation: Activation,
) -> FoldedConv {
    let scaled = |values: &[f32], factor: f64| -> Vec<f32> {
        values.iter().map(|&value| (f64::from(value) * factor) as f32).collect()
    };
    let weight = parts.iter().flat_map(|(part, factor)| scaled(part.weight, *factor)).collect();
    let bias = parts.iter().flat_map(|(part, factor)| match part.bias {
        Some(bias) => scaled(bias, *factor),
        None => vec![0.0; outputs],
    });
    FoldedConv {
        weight,
        bias: bias.collect(),
        shape: ConvShape {
            out_channels: outputs * parts.len(),
            in_channels: inputs,
            kernel: [1, 1],
            stride: [1, 1],
            padding: [[0; 2]; 2],
            groups: 1,
        },
        activation,
    }
}
