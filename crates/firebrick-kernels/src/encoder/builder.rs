//! From parameters to a plan.

use super::attention::Attention;
use super::embedding::{Embedding, Tables};
use super::layer::{FoldedLayer, OwnedNorm};
use super::params::{EmbeddingParams, EncoderConfig, EncoderLayerParams, LayerNormParams};
use super::{Compiled, EncoderPlan, Run};
use crate::simd::{Scalar, Simd};
use crate::{KernelError, SimdLevel};
use std::sync::Mutex;

/// The bytes between the feed-forward part's linear layers that a block aims at: with the panels of weights that stream past, a
/// core's second-level cache.
const BLOCK_BYTES: usize = 384 << 10;

/// Rows of the widest register tile.
const TILE_ROWS: usize = 12;

/// The most tokens of a block.
const MOST_ROWS: usize = 240;

/// Collects the parameters of a transformer encoder in evaluation mode, checks them, and compiles them.
///
/// A mistake in a part is remembered and reported by [`build`](EncoderPlanBuilder::build), so that parts can be chained.
///
/// ```
/// use firebrick_kernels::{
///     Activation, AttentionParams, EncoderBatch, EncoderConfig, EncoderInput, EncoderLayerParams, EncoderPlanBuilder, KeyMask,
///     LayerNormParams, LinearParams, NormOrder,
/// };
///
/// # fn main() -> Result<(), firebrick_kernels::KernelError> {
/// let config = EncoderConfig {
///     width: 8,
///     heads: 2,
///     feed_forward: 32,
///     activation: Activation::Gelu,
///     order: NormOrder::Post,
///     causal: false,
/// };
/// let square = LinearParams { weight: &[0.1; 8 * 8], bias: Some(&[0.0; 8]) };
/// let norm = LayerNormParams { gamma: &[1.0; 8], beta: &[0.0; 8], epsilon: 1e-12 };
/// let layer = EncoderLayerParams {
///     attention: AttentionParams { query: square, key: square, value: square, output: square },
///     attention_norm: norm,
///     expand: LinearParams { weight: &[0.1; 32 * 8], bias: None },
///     project: LinearParams { weight: &[0.1; 8 * 32], bias: None },
///     feed_forward_norm: norm,
/// };
/// let plan = EncoderPlanBuilder::new(config).layer(&layer).layer(&layer).build()?;
/// let hidden = vec![1.0; 3 * 5 * 8];
/// let batch = EncoderBatch {
///     input: EncoderInput::Hidden(&hidden),
///     batch: 3,
///     tokens: 5,
///     mask: KeyMask::Lengths(&[5, 2, 4]),
/// };
/// assert_eq!(plan.run(&batch)?.len(), 3 * 5 * 8);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct EncoderPlanBuilder {
    config: EncoderConfig,
    tables: Option<Tables>,
    layers: Vec<FoldedLayer>,
    final_norm: Option<OwnedNorm>,
    level: Option<SimdLevel>,
    /// Parts given, by which errors are numbered.
    parts: usize,
    error: Option<KernelError>,
}

impl EncoderPlanBuilder {
    /// An encoder without layers.
    pub fn new(config: EncoderConfig) -> Self {
        let error = config.check().err();
        Self { config, tables: None, layers: Vec::new(), final_norm: None, level: None, parts: 0, error }
    }

    /// Uses this instruction set instead of [`SimdLevel::from_environment`].
    pub fn level(mut self, level: SimdLevel) -> Self {
        self.level = Some(level);
        self
    }

    /// Makes a plan that takes token ids instead of hidden states.
    pub fn embeddings(self, embedding: &EmbeddingParams<'_>) -> Self {
        self.part(|builder, index| {
            builder.tables = Some(Tables::new(index, embedding, &builder.config)?);
            Ok(())
        })
    }

    /// The next layer.
    pub fn layer(self, layer: &EncoderLayerParams<'_>) -> Self {
        self.part(|builder, index| {
            layer.check(index, &builder.config)?;
            builder.layers.push(FoldedLayer::new(layer, &builder.config));
            Ok(())
        })
    }

    /// A norm behind the last layer.
    pub fn final_norm(self, norm: &LayerNormParams<'_>) -> Self {
        self.part(|builder, index| {
            norm.check(index, ["final norm gamma", "final norm beta"], builder.config.width)?;
            builder.final_norm = Some(OwnedNorm::new(norm));
            Ok(())
        })
    }

    /// Compiles the layers.
    ///
    /// # Errors
    /// [`KernelError::InvalidEncoder`] for impossible sizes and without layers; [`KernelError::ParameterLength`] for the first
    /// parameter that does not fit, with the place of its part counted from 0, embeddings included; and the errors of
    /// [`SimdLevel::from_environment`].
    pub fn build(self) -> Result<EncoderPlan, KernelError> {
        let level = self.level;
        let builder = self.checked()?;
        let level = level.map_or_else(SimdLevel::from_environment, SimdLevel::require)?;
        let unavailable =
            || KernelError::UnavailableLevel { asked: level, available: SimdLevel::available() };
        match level {
            SimdLevel::Scalar => Ok(builder.compile(Scalar::<{ SimdLevel::SCALAR_LANES }>, level)),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2 => {
                Ok(builder.compile(crate::simd::Avx2::detect().ok_or_else(unavailable)?, level))
            }
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512 => {
                Ok(builder.compile(crate::simd::Avx512::detect().ok_or_else(unavailable)?, level))
            }
            #[cfg(target_arch = "aarch64")]
            SimdLevel::Neon => {
                Ok(builder.compile(crate::simd::Neon::detect().ok_or_else(unavailable)?, level))
            }
            #[allow(unreachable_patterns, reason = "which levels remain depends on the target")]
            _ => Err(unavailable()),
        }
    }

    /// The plan at a vector width that no instruction set here may have, for tests.
    #[cfg(test)]
    pub(crate) fn build_scalar<const LANES: usize>(self) -> Result<EncoderPlan, KernelError> {
        Ok(self.checked()?.compile(Scalar::<LANES>, SimdLevel::Scalar))
    }

    fn checked(self) -> Result<Self, KernelError> {
        match self.error {
            Some(error) => Err(error),
            None if self.layers.is_empty() => {
                Err(KernelError::InvalidEncoder { reason: "it needs at least one layer".to_owned() })
            }
            None => Ok(self),
        }
    }

    fn part(mut self, add: impl FnOnce(&mut Self, usize) -> Result<(), KernelError>) -> Self {
        if self.error.is_none() {
            let index = self.parts;
            self.error = add(&mut self, index).err();
            self.parts += 1;
        }
        self
    }

    fn compile<S: Simd>(self, simd: S, level: SimdLevel) -> EncoderPlan {
        let (config, lanes) = (self.config, S::LANES);
        let row_bytes = config.feed_forward * size_of::<f32>();
        let block = (BLOCK_BYTES / row_bytes / TILE_ROWS * TILE_ROWS).clamp(TILE_ROWS, MOST_ROWS);
        let multiply_adds_per_token = self.layers.iter().map(FoldedLayer::multiply_adds).sum();
        let layers: Vec<_> = self.layers.iter().map(|layer| layer.pack(config.order, block, lanes)).collect();
        let attention = Attention::new(&config, layers[0].attend_len(), lanes);
        let compiled = Compiled {
            simd,
            embedding: self.tables.map(|tables| Embedding::new(tables, lanes)),
            layers,
            attention,
            heads: config.heads,
            final_norm: self.final_norm.map(|norm| norm.pack(lanes)),
            width: config.width,
            block,
            activations: Mutex::default(),
            scratch: Mutex::default(),
        };
        let layers = compiled.layers.len();
        let network: Box<dyn Run> = Box::new(compiled);
        EncoderPlan { network, level, config, layers, multiply_adds_per_token }
    }
}
