//! BERT's encoder: embeddings, post-norm transformer layers and the pooler. Devlin et al. 2019, arXiv:1810.04805.
//!
//! Layer for layer the `BertModel` of Hugging Face's transformers, whose checkpoints it reads.

use std::path::Path;

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig, Embedding, LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{Bool, Device, Int, Tensor};
use firebrick_autodiff::embedding;
use firebrick_kernels::KernelError;
use firebrick_nn::{Activation, Initializer, LayerError, dense, seed_of};
use serde::Deserialize;

use crate::ZooError;
use crate::token_attention::{attend, normed};

/// Settings of a [`BertEncoder`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BertConfig {
    /// Rows of the word embeddings.
    pub vocabulary: usize,
    /// The most tokens of a sequence.
    pub positions: usize,
    /// Token types (segments).
    pub types: usize,
    /// Features of a token; a multiple of `heads`.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads of a layer.
    pub heads: usize,
    /// Features between the feed-forward part's two linear layers.
    pub feed_forward: usize,
    /// Added to the norms' variance.
    pub epsilon: f64,
    /// Whether there is a pooler.
    pub pooler: bool,
    /// Share that is dropped in training, of the embeddings, the attention's weights and what each part adds; 0.1 as published.
    pub dropout: f64,
}

impl BertConfig {
    /// all-MiniLM-L6-v2 (Wang et al. 2020, arXiv:2002.10957, with the layers halved by sentence-transformers): 22,713,216
    /// parameters.
    pub const MINI_LM_L6: Self = Self {
        vocabulary: 30522,
        positions: 512,
        types: 2,
        width: 384,
        layers: 6,
        heads: 12,
        feed_forward: 1536,
        epsilon: 1e-12,
        pooler: true,
        dropout: 0.1,
    };

    /// BERT-base, uncased (table 1 of the paper): 109,482,240 parameters.
    pub const BASE: Self = Self { width: 768, layers: 12, feed_forward: 3072, ..Self::MINI_LM_L6 };

    /// BERT-large, uncased (table 1 of the paper): 335,141,888 parameters.
    pub const LARGE: Self = Self { width: 1024, layers: 24, heads: 16, feed_forward: 4096, ..Self::BASE };

    /// Checks the settings.
    ///
    /// # Errors
    /// [`ZooError::Setting`] names the one that is wrong.
    pub fn validate(&self) -> Result<(), ZooError> {
        let Self { vocabulary, positions, types, width, layers, heads, feed_forward, .. } = *self;
        let unless = |fits: bool, field, value: String, expected: &str| match fits {
            true => Ok(()),
            false => Err(LayerError { layer: "BERT", field, value, expected: expected.to_owned() }),
        };
        for (field, size) in [
            ("vocabulary", vocabulary),
            ("positions", positions),
            ("types", types),
            ("width", width),
            ("layers", layers),
            ("heads", heads),
            ("feed_forward", feed_forward),
        ] {
            unless(size > 0, field, size.to_string(), "at least 1")?;
        }
        let multiple = format!("a multiple of the {heads} heads");
        unless(width.is_multiple_of(heads), "width", width.to_string(), &multiple)?;
        let epsilon = self.epsilon > 0.0 && self.epsilon.is_finite();
        unless(epsilon, "epsilon", self.epsilon.to_string(), "greater than 0")?;
        let dropout = (0.0..1.0).contains(&self.dropout);
        Ok(unless(dropout, "dropout", self.dropout.to_string(), "at least 0 and less than 1")?)
    }

    /// Reads the `config.json` that lies beside a checkpoint of transformers' BERT. Whether there is a pooler it does not say: there is.
    ///
    /// # Errors
    /// [`ZooError::Io`]; [`ZooError::Configuration`] for a file of another model, or a setting that [`BertEncoder`] does not have.
    pub fn read(path: &Path) -> Result<Self, ZooError> {
        let text = std::fs::read_to_string(path).map_err(ZooError::io(path, "read"))?;
        let wrong = |reason: String| ZooError::Configuration { path: path.to_owned(), reason };
        let file: Published = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let config = file.config().map_err(wrong)?;
        config.validate().map_err(|error| wrong(error.to_string()))?;
        Ok(config)
    }

    /// Makes the encoder on `device`; its first weights (normal with a deviation of 0.02, as the paper has it; biases zero)
    /// depend on `seed` alone.
    ///
    /// # Panics
    ///
    /// If a size is zero or the heads do not divide the width.
    pub fn init(&self, seed: u64, device: &Device) -> BertEncoder {
        let Self { vocabulary, positions, types, width, layers, heads, feed_forward, .. } = *self;
        let sizes = [vocabulary, positions, types, width, layers, heads, feed_forward];
        assert!(!sizes.contains(&0), "every size must be at least 1, got {self:?}");
        assert!(width.is_multiple_of(heads), "{heads} heads do not divide a width of {width}");
        let mut parameter = 0;
        let mut normal = |shape: [usize; 2]| -> Param<Tensor<2>> {
            parameter += 1;
            let [fan_in, fan_out] = shape;
            Initializer::Normal { std: 0.02 }.init(shape, fan_in, fan_out, seed_of(seed, parameter), device)
        };
        let [words, positions, types] =
            [vocabulary, positions, types].map(|rows| Embedding { weight: normal([rows, width]) });
        let mut linear = |inputs: usize, outputs: usize| {
            let bias = Initializer::Zeros.init([outputs], inputs, outputs, 0, device);
            Linear { weight: normal([inputs, outputs]), bias: Some(bias) }
        };
        let norm = || LayerNormConfig::new(width).with_epsilon(self.epsilon).init(device);
        let layers = (0..layers)
            .map(|_| BertLayer {
                query: linear(width, width),
                key: linear(width, width),
                value: linear(width, width),
                output: linear(width, width),
                attention_norm: norm(),
                expand: linear(width, feed_forward),
                project: linear(feed_forward, width),
                feed_forward_norm: norm(),
                dropout: DropoutConfig::new(self.dropout).init(),
                heads,
                epsilon: self.epsilon,
            })
            .collect();
        let pooler = self.pooler.then(|| linear(width, width));
        let dropout = DropoutConfig::new(self.dropout).init();
        BertEncoder { words, positions, types, norm: norm(), layers, pooler, dropout, config: *self }
    }

    /// Checks what an encoder of these settings is run on; ids are read back from their device.
    pub(crate) fn check(
        &self,
        ids: &Tensor<2, Int>,
        mask: Option<[usize; 2]>,
        types: Option<&Tensor<2, Int>>,
    ) -> Result<(), KernelError> {
        let Self { vocabulary, positions, types: kinds, .. } = *self;
        let shape = ids.dims();
        let tokens = shape[1];
        if tokens > positions {
            return Err(KernelError::SequenceTooLong { tokens, positions });
        }
        let same = |input, actual: [usize; 2]| match actual == shape {
            true => Ok(()),
            false => {
                let actual = actual.iter().product();
                Err(KernelError::InputLength { input, shape: format!("{shape:?}"), actual })
            }
        };
        mask.map_or(Ok(()), |mask| same("key mask", mask))?;
        types.map_or(Ok(()), |types| same("token types", types.dims()))?;
        let outside = |ids: &Tensor<2, Int>, count: usize| {
            let ids: Vec<i64> = ids.clone().into_data().iter::<i64>().collect();
            let index = ids.iter().position(|&id| usize::try_from(id).map_or(true, |id| id >= count))?;
            Some((index / tokens, index % tokens, ids[index]))
        };
        if let Some((sequence, token, id)) = outside(ids, vocabulary) {
            return Err(KernelError::TokenOutsideVocabulary { sequence, token, id, vocabulary });
        }
        match types.and_then(|types| outside(types, kinds)) {
            Some((sequence, token, id)) => {
                Err(KernelError::TokenTypeOutside { sequence, token, id, types: kinds })
            }
            None => Ok(()),
        }
    }
}

/// The most layers that a file may ask for: far above any published model.
pub(crate) const MOST_LAYERS: usize = 4096;

/// What of transformers' `config.json` matters.
#[derive(Deserialize)]
struct Published {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    hidden_act: Option<String>,
    position_embedding_type: Option<String>,
    layer_norm_eps: Option<f64>,
    hidden_dropout_prob: Option<f64>,
}

impl Published {
    fn config(self) -> Result<BertConfig, String> {
        let activation = self.hidden_act.unwrap_or_else(|| "gelu".to_owned());
        let positions = self.position_embedding_type.unwrap_or_else(|| "absolute".to_owned());
        for (name, value, expected) in [
            ("model_type", &self.model_type, "bert"),
            ("hidden_act", &activation, "gelu"),
            ("position_embedding_type", &positions, "absolute"),
        ] {
            if value != expected {
                return Err(format!("`{name}` is {value}, this model has {expected}"));
            }
        }
        // The file is not ours: its sizes are kept where their products fit.
        let sizes = [
            self.vocab_size,
            self.hidden_size,
            self.num_hidden_layers,
            self.intermediate_size,
            self.max_position_embeddings,
            self.type_vocab_size,
        ];
        if let Some(size) = sizes.into_iter().find(|&size| size > 1 << 24) {
            return Err(format!("a size is {size}, none is above 16,777,216"));
        }
        // Each is a module before any weight is there.
        if self.num_hidden_layers > MOST_LAYERS {
            let layers = self.num_hidden_layers;
            return Err(format!("`num_hidden_layers` is {layers}, at most {MOST_LAYERS} are read"));
        }
        Ok(BertConfig {
            vocabulary: self.vocab_size,
            positions: self.max_position_embeddings,
            types: self.type_vocab_size,
            width: self.hidden_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            feed_forward: self.intermediate_size,
            epsilon: self.layer_norm_eps.unwrap_or(1e-12),
            pooler: true,
            dropout: self.hidden_dropout_prob.unwrap_or(0.1),
        })
    }
}

/// Self-attention and the feed-forward part, each followed by adding its input and a norm.
#[derive(Module, Debug)]
pub struct BertLayer {
    /// What a token asks for.
    pub query: Linear,
    /// What a token is found by.
    pub key: Linear,
    /// What a token hands over.
    pub value: Linear,
    /// Mixes the heads.
    pub output: Linear,
    /// Behind the attention.
    pub attention_norm: LayerNorm,
    /// To the wide features; GELU follows.
    pub expand: Linear,
    /// Back to the narrow features.
    pub project: Linear,
    /// Behind the feed-forward part.
    pub feed_forward_norm: LayerNorm,
    dropout: Dropout,
    #[module(skip)]
    heads: usize,
    /// Of the norms.
    #[module(skip)]
    epsilon: f64,
}

impl BertLayer {
    /// `[batch, tokens, width]` to the same; `hidden_keys`, `[batch, tokens]`, is true for the tokens that are not looked at.
    ///
    /// A token that may look at no other gets zeros from the attention.
    fn forward(&self, x: Tensor<3>, hidden_keys: Option<&Tensor<2, Bool>>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let (heads, head_width) = (self.heads, width / self.heads);
        let split = |x: Tensor<3>| x.reshape([batch, tokens, heads, head_width]).swap_dims(1, 2);
        let [query, key, value] = [&self.query, &self.key, &self.value]
            .map(|layer| split(dense(layer, x.clone(), Activation::None)));
        let mask = hidden_keys.map(|hidden| hidden.clone().reshape([batch, 1, 1, tokens]));
        let context = attend(query, key, value, mask, false, &self.dropout);
        let context = context.swap_dims(1, 2).reshape([batch, tokens, width]);
        let y = self.dropout.forward(dense(&self.output, context, Activation::None));
        let x = normed(&self.attention_norm, self.epsilon, x + y);
        let wide = dense(&self.expand, x.clone(), Activation::Gelu);
        let y = self.dropout.forward(dense(&self.project, wide, Activation::None));
        normed(&self.feed_forward_norm, self.epsilon, x + y)
    }
}

/// The encoder: token ids to hidden states.
#[derive(Module, Debug)]
pub struct BertEncoder {
    /// `[vocabulary, width]`.
    pub words: Embedding,
    /// `[positions, width]`.
    pub positions: Embedding,
    /// `[types, width]`.
    pub types: Embedding,
    /// Behind the sum of the three.
    pub norm: LayerNorm,
    /// The layers, first to last.
    pub layers: Vec<BertLayer>,
    /// Of the first token, see [`pooled`](Self::pooled).
    pub pooler: Option<Linear>,
    dropout: Dropout,
    #[module(skip)]
    config: BertConfig,
}

impl BertEncoder {
    /// The settings it was made with.
    pub fn config(&self) -> BertConfig {
        self.config
    }

    /// Token ids `[batch, tokens]` to the last layer's hidden states, `[batch, tokens, width]`.
    ///
    /// `mask`, `[batch, tokens]`, is true for the tokens that the others may look at; all are where it is missing.
    /// `types`, `[batch, tokens]`, are 0 where they are missing.
    ///
    /// # Panics
    ///
    /// If there are no tokens or more than positions, or an id or type is no row of its table; [`check`](Self::check) says so as an error, and
    /// so does [`FrozenBert::forward`](crate::FrozenBert::forward).
    pub fn forward(
        &self,
        ids: Tensor<2, Int>,
        mask: Option<Tensor<2, Bool>>,
        types: Option<Tensor<2, Int>>,
    ) -> Tensor<3> {
        let [_, tokens] = ids.dims();
        let most = self.config.positions;
        assert!(
            tokens <= most,
            "a sequence of {tokens} tokens is longer than the encoder's {most} positions"
        );
        let positions = self.positions.weight.val().slice(0..tokens).unsqueeze::<3>();
        let types = match types {
            Some(types) => embedding(self.types.weight.val(), types),
            None => self.types.weight.val().slice(0..1).unsqueeze::<3>(),
        };
        let words = embedding(self.words.weight.val(), ids);
        let x = normed(&self.norm, self.config.epsilon, words + positions + types);
        let x = self.dropout.forward(x);
        let hidden_keys = mask.map(Tensor::bool_not);
        self.layers.iter().fold(x, |x, layer| layer.forward(x, hidden_keys.as_ref()))
    }

    /// Checks what comes from outside before it is run on, as [`forward`](Self::forward) takes it; ids are read back from their device.
    ///
    /// # Errors
    /// [`ZooError::NoTokens`]; [`ZooError::Kernel`] for an id outside the vocabulary, a type that does not exist, a sequence longer than the
    /// encoder's positions, and a mask or types of another shape.
    pub fn check(
        &self,
        ids: &Tensor<2, Int>,
        mask: Option<&Tensor<2, Bool>>,
        types: Option<&Tensor<2, Int>>,
    ) -> Result<(), ZooError> {
        if ids.dims().contains(&0) {
            return Err(ZooError::NoTokens { model: "BERT" });
        }
        Ok(self.config.check(ids, mask.map(Tensor::dims), types)?)
    }

    /// The pooler's view of the first token, `tanh(W h + b)`: hidden states `[batch, tokens, width]` to `[batch, width]`. `None`
    /// without a pooler.
    pub fn pooled(&self, hidden: Tensor<3>) -> Option<Tensor<2>> {
        let [batch, _, width] = hidden.dims();
        let first = hidden.slice([0..batch, 0..1]).reshape([batch, width]);
        Some(dense(self.pooler.as_ref()?, first, Activation::None).tanh())
    }

    /// transformers' name of this module's tensor `path`, e.g. `layers.1.output.weight` is
    /// `encoder.layer.1.attention.output.dense.weight`.
    pub(crate) fn transformers_name(&self, path: &str) -> Option<String> {
        let (part, rest) = path.split_once('.')?;
        let named = match part {
            "words" => "embeddings.word_embeddings",
            "positions" => "embeddings.position_embeddings",
            "types" => "embeddings.token_type_embeddings",
            "norm" => "embeddings.LayerNorm",
            "pooler" => "pooler.dense",
            "layers" => {
                let (index, rest) = rest.split_once('.')?;
                index.parse::<usize>().ok().filter(|&index| index < self.layers.len())?;
                let (layer, leaf) = rest.split_once('.')?;
                let named = match layer {
                    "query" => "attention.self.query",
                    "key" => "attention.self.key",
                    "value" => "attention.self.value",
                    "output" => "attention.output.dense",
                    "attention_norm" => "attention.output.LayerNorm",
                    "expand" => "intermediate.dense",
                    "project" => "output.dense",
                    "feed_forward_norm" => "output.LayerNorm",
                    _ => return None,
                };
                return Some(format!("encoder.layer.{index}.{named}.{leaf}"));
            }
            _ => return None,
        };
        Some(format!("{named}.{rest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Checkpoint;
    use burn::tensor::TensorData;
    use safetensors::tensor::{Dtype, TensorView};

    #[allow(deprecated)]
    fn device() -> Device {
        Device::ndarray()
    }

    /// A few thousand parameters.
    const SMALL: BertConfig = BertConfig {
        vocabulary: 17,
        positions: 12,
        types: 2,
        width: 24,
        layers: 2,
        heads: 3,
        feed_forward: 40,
        epsilon: 1e-12,
        pooler: true,
        dropout: 0.1,
    };

    #[test]
    fn has_the_published_number_of_parameters() {
        // Initialisation is lazy, so that counting draws nothing.
        for (config, parameters) in [
            (BertConfig::MINI_LM_L6, 22_713_216),
            (BertConfig::BASE, 109_482_240),
            (BertConfig::LARGE, 335_141_888),
        ] {
            assert_eq!(config.init(0, &device()).num_params(), parameters);
        }
        let without = BertConfig { pooler: false, ..BertConfig::MINI_LM_L6 };
        assert_eq!(without.init(0, &device()).num_params(), 22_713_216 - 384 * 385);
    }

    #[test]
    fn a_seed_is_a_model_and_another_seed_another() {
        let ids = || Tensor::<2, Int>::from_data([[1, 2, 3]], &device());
        let run = |seed| SMALL.init(seed, &device()).forward(ids(), None, None).into_data();
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn names_are_transformers() {
        let model = SMALL.init(0, &device());
        for (ours, theirs) in [
            ("words.weight", "embeddings.word_embeddings.weight"),
            ("types.weight", "embeddings.token_type_embeddings.weight"),
            ("norm.bias", "embeddings.LayerNorm.bias"),
            ("layers.1.query.bias", "encoder.layer.1.attention.self.query.bias"),
            ("layers.0.output.weight", "encoder.layer.0.attention.output.dense.weight"),
            ("layers.0.attention_norm.weight", "encoder.layer.0.attention.output.LayerNorm.weight"),
            ("layers.1.expand.weight", "encoder.layer.1.intermediate.dense.weight"),
            ("layers.1.feed_forward_norm.weight", "encoder.layer.1.output.LayerNorm.weight"),
            ("pooler.bias", "pooler.dense.bias"),
        ] {
            assert_eq!(model.transformers_name(ours).as_deref(), Some(theirs));
        }
        assert_eq!(model.transformers_name("layers.2.query.bias"), None);
    }

    #[test]
    fn pools_the_first_token() {
        let model = SMALL.init(3, &device());
        let hidden = model.forward(Tensor::from_data([[1, 2], [3, 4]], &device()), None, None);
        assert_eq!(model.pooled(hidden.clone()).expect("a pooler").dims(), [2, 24]);
        let without = BertConfig { pooler: false, ..SMALL }.init(3, &device());
        assert!(without.pooled(hidden).is_none());
    }

    #[test]
    #[should_panic(expected = "13 tokens is longer than the encoder's 12 positions")]
    fn refuses_more_tokens_than_positions() {
        SMALL.init(0, &device()).forward(Tensor::zeros([1, 13], &device()), None, None);
    }

    /// A file as transformers saves it, of one layer, 2 wide; every value is its place in its tensor.
    #[test]
    fn reads_a_checkpoint_of_transformers() {
        let config = BertConfig {
            vocabulary: 5,
            positions: 3,
            types: 2,
            width: 2,
            layers: 1,
            heads: 1,
            feed_forward: 3,
            ..SMALL
        };
        let tensors: &[(&str, &[usize])] = &[
            ("embeddings.position_ids", &[1, 3]),
            ("embeddings.word_embeddings.weight", &[5, 2]),
            ("embeddings.position_embeddings.weight", &[3, 2]),
            ("embeddings.token_type_embeddings.weight", &[2, 2]),
            ("embeddings.LayerNorm.weight", &[2]),
            ("embeddings.LayerNorm.bias", &[2]),
            ("encoder.layer.0.attention.self.query.weight", &[2, 2]),
            ("encoder.layer.0.attention.self.query.bias", &[2]),
            ("encoder.layer.0.attention.self.key.weight", &[2, 2]),
            ("encoder.layer.0.attention.self.key.bias", &[2]),
            ("encoder.layer.0.attention.self.value.weight", &[2, 2]),
            ("encoder.layer.0.attention.self.value.bias", &[2]),
            ("encoder.layer.0.attention.output.dense.weight", &[2, 2]),
            ("encoder.layer.0.attention.output.dense.bias", &[2]),
            ("encoder.layer.0.attention.output.LayerNorm.weight", &[2]),
            ("encoder.layer.0.attention.output.LayerNorm.bias", &[2]),
            ("encoder.layer.0.intermediate.dense.weight", &[3, 2]),
            ("encoder.layer.0.intermediate.dense.bias", &[3]),
            ("encoder.layer.0.output.dense.weight", &[2, 3]),
            ("encoder.layer.0.output.dense.bias", &[2]),
            ("encoder.layer.0.output.LayerNorm.weight", &[2]),
            ("encoder.layer.0.output.LayerNorm.bias", &[2]),
            ("pooler.dense.weight", &[2, 2]),
            ("pooler.dense.bias", &[2]),
        ];
        let bytes: Vec<u8> = (0..16).flat_map(|place| (place as f32).to_le_bytes()).collect();
        let views = tensors.iter().map(|&(name, shape)| {
            let length = 4 * shape.iter().product::<usize>();
            let view = TensorView::new(Dtype::F32, shape.to_vec(), &bytes[..length]).expect("it fits");
            (name, view)
        });
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("model.safetensors");
        std::fs::write(&file, safetensors::serialize(views, None).expect("serialised")).expect("written");

        let model = config.init(0, &device());
        let model =
            Checkpoint::read(&file).expect("readable").load_into_bert(model, "bert").expect("it fits");
        let wide = model.layers[0].expand.weight.val().into_data();
        // PyTorch's [out, in] is turned into [in, out].
        assert_eq!(wide, TensorData::from([[0.0f32, 2.0, 4.0], [1.0, 3.0, 5.0]]));
        assert_eq!(
            model.layers[0].feed_forward_norm.gamma.val().into_data(),
            TensorData::from([0.0f32, 1.0])
        );
        assert_eq!(model.words.weight.val().dims(), [5, 2]);

        let larger = BertConfig { layers: 2, ..config }.init(0, &device());
        let error = Checkpoint::read(&file).expect("readable").load_into_bert(larger, "bert").unwrap_err();
        assert!(error.to_string().contains("encoder.layer.1.attention.self.query.weight"), "{error}");
    }
}
