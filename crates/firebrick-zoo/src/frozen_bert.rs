//! A BERT encoder that is not trained, compiled for its device.
//!
//! On the CPU backends it becomes an [`EncoderPlan`]; elsewhere it stays the module that it was.

use std::sync::Arc;

use burn::module::Module;
use burn::nn::{LayerNorm, Linear};
use burn::tensor::{Bool, Int, Tensor, TensorData};
use firebrick_kernels::{
    Activation, AttentionParams, EmbeddingParams, EncoderBatch, EncoderConfig, EncoderInput,
    EncoderLayerParams, EncoderPlan, EncoderPlanBuilder, KernelError, KeyMask, LayerNormParams, LinearParams,
    NormOrder,
};

use crate::backbone::{is_cpu, values};
use crate::bert::BertLayer;
use crate::{BertConfig, BertEncoder, ZooError};

/// A BERT encoder in evaluation mode, without its pooler. Cloning one copies no weights.
#[derive(Clone, Debug)]
pub struct FrozenBert {
    kind: Kind,
    config: BertConfig,
}

#[derive(Clone, Debug)]
enum Kind {
    Plan(Arc<EncoderPlan>),
    Module(Box<BertEncoder>),
}

impl BertEncoder {
    /// Compiles this encoder for the device that it is on.
    ///
    /// # Errors
    ///
    /// [`ZooError::Kernel`] if the environment asks for an instruction set that this machine lacks.
    pub fn compile(&self) -> Result<FrozenBert, ZooError> {
        let module = self.valid();
        let config = self.config();
        let on_cpu = module.devices().iter().all(is_cpu);
        let kind = if on_cpu { Kind::Plan(Arc::new(module.plan()?)) } else { Kind::Module(Box::new(module)) };
        Ok(FrozenBert { kind, config })
    }

    fn plan(&self) -> Result<EncoderPlan, KernelError> {
        let config = self.config();
        let epsilon = config.epsilon as f32;
        let [words, positions, types] =
            [&self.words, &self.positions, &self.types].map(|table| values(table.weight.val()));
        let norm = StoredNorm::of(&self.norm, epsilon);
        let builder = EncoderPlanBuilder::new(EncoderConfig {
            width: config.width,
            heads: config.heads,
            feed_forward: config.feed_forward,
            activation: Activation::Gelu,
            order: NormOrder::Post,
            causal: false,
        })
        .embeddings(&EmbeddingParams {
            words: &words,
            positions: &positions,
            types: Some(&types),
            norm: Some(norm.params()),
        });
        let add = |builder: EncoderPlanBuilder, layer: &BertLayer| {
            let linear =
                [&layer.query, &layer.key, &layer.value, &layer.output, &layer.expand, &layer.project];
            let linear = linear.map(StoredLinear::of);
            let [query, key, value, output, expand, project] = linear.each_ref().map(StoredLinear::params);
            let norms =
                [&layer.attention_norm, &layer.feed_forward_norm].map(|norm| StoredNorm::of(norm, epsilon));
            let [attention_norm, feed_forward_norm] = norms.each_ref().map(StoredNorm::params);
            let attention = AttentionParams { query, key, value, output };
            builder.layer(&EncoderLayerParams {
                attention,
                attention_norm,
                expand,
                project,
                feed_forward_norm,
            })
        };
        self.layers.iter().fold(builder, add).build()
    }
}

impl FrozenBert {
    /// The encoder's settings.
    pub fn config(&self) -> BertConfig {
        self.config
    }

    /// The plan, on the CPU backends: what it computes without a tensor.
    pub fn plan(&self) -> Option<&EncoderPlan> {
        match &self.kind {
            Kind::Plan(plan) => Some(plan),
            Kind::Module(_) => None,
        }
    }

    /// Token ids `[batch, tokens]` to the last layer's hidden states, `[batch, tokens, width]`, as [`BertEncoder::forward`].
    ///
    /// Each sequence's result depends on it alone, to the last bit, on the CPU backends.
    ///
    /// # Errors
    ///
    /// [`ZooError::Kernel`] for an id outside the vocabulary, a type that does not exist, a sequence longer than the encoder's
    /// positions, and a mask or types of another shape.
    pub fn forward(
        &self,
        ids: Tensor<2, Int>,
        mask: Option<Tensor<2, Bool>>,
        types: Option<Tensor<2, Int>>,
    ) -> Result<Tensor<3>, ZooError> {
        let [batch, tokens] = ids.dims();
        match &self.kind {
            Kind::Plan(plan) => {
                let device = ids.device();
                let (ids, types) = (integers(ids), types.map(integers));
                let mask = mask.map(|mask| mask.into_data().iter::<bool>().collect::<Vec<_>>());
                let hidden = plan.run(&EncoderBatch {
                    input: EncoderInput::Tokens { ids: &ids, types: types.as_deref() },
                    batch,
                    tokens,
                    mask: mask.as_deref().map_or(KeyMask::None, KeyMask::Tokens),
                })?;
                let shape = [batch, tokens, self.config.width];
                Ok(Tensor::from_data(TensorData::new(hidden, shape), &device))
            }
            Kind::Module(encoder) => {
                self.config.check(&ids, mask.as_ref().map(Tensor::dims), types.as_ref())?;
                Ok(encoder.forward(ids, mask, types))
            }
        }
    }
}

/// A [`Linear`] read back from its device, its weight as PyTorch has it.
pub(crate) struct StoredLinear {
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl StoredLinear {
    pub(crate) fn of(linear: &Linear) -> Self {
        Self {
            weight: values(linear.weight.val().transpose()),
            bias: linear.bias.as_ref().map(|bias| values(bias.val())),
        }
    }

    pub(crate) fn params(&self) -> LinearParams<'_> {
        LinearParams { weight: &self.weight, bias: self.bias.as_deref() }
    }
}

/// A [`LayerNorm`] read back from its device.
pub(crate) struct StoredNorm {
    gamma: Vec<f32>,
    beta: Vec<f32>,
    epsilon: f32,
}

impl StoredNorm {
    pub(crate) fn of(norm: &LayerNorm, epsilon: f32) -> Self {
        let gamma = values(norm.gamma.val());
        let beta = norm.beta.as_ref().map_or_else(|| vec![0.0; gamma.len()], |beta| values(beta.val()));
        Self { gamma, beta, epsilon }
    }

    pub(crate) fn params(&self) -> LayerNormParams<'_> {
        LayerNormParams { gamma: &self.gamma, beta: &self.beta, epsilon: self.epsilon }
    }
}

fn integers(tensor: Tensor<2, Int>) -> Vec<i64> {
    tensor.into_data().iter::<i64>().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    const CONFIG: BertConfig = BertConfig {
        vocabulary: 17,
        positions: 40,
        types: 2,
        width: 24,
        layers: 3,
        heads: 3,
        feed_forward: 40,
        epsilon: 1e-12,
        pooler: false,
        dropout: 0.0,
    };

    #[allow(deprecated)]
    fn device() -> Device {
        Device::ndarray()
    }

    fn ids(values: Vec<i64>, shape: [usize; 2]) -> Tensor<2, Int> {
        Tensor::from_data(TensorData::new(values, shape), &device())
    }

    /// An encoder whose weights are large enough for its layers to matter.
    fn encoder() -> BertEncoder {
        let mut encoder = CONFIG.init(4, &device());
        for layer in &mut encoder.layers {
            for linear in [
                &mut layer.query,
                &mut layer.key,
                &mut layer.value,
                &mut layer.output,
                &mut layer.expand,
                &mut layer.project,
            ] {
                linear.weight = linear.weight.clone().map(|weight| weight.mul_scalar(20.0));
            }
        }
        encoder
    }

    #[test]
    fn a_compiled_encoder_is_the_module() {
        let module = encoder();
        let frozen = module.compile().expect("compiled");
        assert!(frozen.plan().is_some());
        for (batch, tokens) in [(1, 1), (2, 7), (3, 40)] {
            let shape = [batch, tokens];
            let count = batch * tokens;
            let words = || ids((0..count).map(|i| (i * 7 % 17) as i64).collect(), shape);
            let kinds = || ids((0..count).map(|i| i64::from(i % 3 == 0)).collect(), shape);
            // The second sequence is masked as a whole.
            let kept: Vec<bool> = (0..count).map(|i| i / tokens != 1 && i % 5 != 3).collect();
            let kept = || Tensor::<2, Bool>::from_data(TensorData::new(kept.clone(), shape), &device());
            for (mask, types) in [(false, false), (true, false), (false, true), (true, true)] {
                let (mask, types) = (mask.then(kept), types.then(kinds));
                let expected = values(module.forward(words(), mask.clone(), types.clone()));
                let actual = frozen.forward(words(), mask, types).expect("valid");
                assert_eq!(actual.dims(), [batch, tokens, CONFIG.width]);
                for (a, e) in values(actual).iter().zip(&expected) {
                    assert!((a - e).abs() <= 1e-4, "[{batch}, {tokens}]: {a} != {e}");
                }
            }
        }
    }

    #[test]
    fn names_the_id_outside_the_vocabulary_on_every_device() {
        let module = encoder();
        let plan = module.compile().expect("compiled");
        let elsewhere = FrozenBert { kind: Kind::Module(Box::new(module)), config: CONFIG };
        for frozen in [plan, elsewhere] {
            let error = |ids, mask, types| frozen.forward(ids, mask, types).unwrap_err().to_string();
            let unknown = error(ids(vec![1, 2, 3, 99], [2, 2]), None, None);
            assert!(
                unknown.contains("sequence 1, token 1: id 99") && unknown.contains("17 words"),
                "{unknown}"
            );
            let negative = error(ids(vec![-1], [1, 1]), None, None);
            assert!(negative.contains("id -1"), "{negative}");
            let long = error(ids(vec![0; 41], [1, 41]), None, None);
            assert!(long.contains("41 tokens is longer than the encoder's 40"), "{long}");
            let kind = error(ids(vec![0], [1, 1]), None, Some(ids(vec![2], [1, 1])));
            assert!(kind.contains("type 2 is not one of the 2"), "{kind}");
            let mask = Tensor::<2, Bool>::from_data([[true, true]], &device());
            assert!(error(ids(vec![0], [1, 1]), Some(mask), None).contains("key mask"));
        }
    }
}
