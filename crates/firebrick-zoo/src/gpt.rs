//! GPT-2's and GPT-3's decoder: a language model of pre-norm transformer layers. Radford et al. 2019, "Language Models are Unsupervised
//! Multitask Learners"; Brown et al. 2020, arXiv:2005.14165.
//!
//! Layer for layer the `GPT2LMHeadModel` of Hugging Face's transformers, whose checkpoints it reads. GPT-3 differs by attention
//! patterns that are sparse in every other layer; here all are dense, as in every open reproduction, with the same parameters.

use std::path::Path;

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig, Embedding, LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{Device, Int, Tensor};
use firebrick_autodiff::{embedding, linear};
use firebrick_nn::loss::token_cross_entropy;
use firebrick_nn::{Activation, Initializer, LayerError, seed_of};
use serde::{Deserialize, Serialize};

use crate::bert::MOST_LAYERS;
use crate::key_values::KeyValues;
use crate::token_attention::{attend, later, normed};
use crate::token_ids::TokenLimits;
use crate::{Checkpoint, ZooError};

/// Settings of a [`Gpt`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GptConfig {
    /// Rows of the token embeddings.
    pub vocabulary: usize,
    /// The most tokens of a sequence.
    pub context: usize,
    /// Features of a token; a multiple of `heads`.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads of a layer.
    pub heads: usize,
    /// Features between the feed-forward part's two linear layers; four times the width as published.
    pub feed_forward: usize,
    /// Added to the norms' variance; 1e-5 as published.
    pub epsilon: f64,
    /// Share that is dropped in training, of the embeddings, the attention's weights and what each part adds; 0.1 as published.
    pub dropout: f64,
    /// Whether the logits come from the token embeddings' table, as published, or from one of their own.
    pub tied: bool,
}

impl GptConfig {
    /// GPT-2's vocabulary, epsilon and dropout, and its context of 1,024 tokens.
    pub const fn gpt2(width: usize, layers: usize, heads: usize) -> Self {
        Self {
            vocabulary: 50257,
            context: 1024,
            width,
            layers,
            heads,
            feed_forward: 4 * width,
            epsilon: 1e-5,
            dropout: 0.1,
            tied: true,
        }
    }

    /// GPT-3's settings: GPT-2's with a context of 2,048 tokens.
    pub const fn gpt3(width: usize, layers: usize, heads: usize) -> Self {
        Self { context: 2048, ..Self::gpt2(width, layers, heads) }
    }

    /// GPT-2, the smallest: 124,439,808 parameters.
    pub const GPT2: Self = Self::gpt2(768, 12, 12);
    /// GPT-2 medium: 354,823,168 parameters.
    pub const GPT2_MEDIUM: Self = Self::gpt2(1024, 24, 16);
    /// GPT-2 large: 774,030,080 parameters.
    pub const GPT2_LARGE: Self = Self::gpt2(1280, 36, 20);
    /// GPT-2 XL: 1,557,611,200 parameters.
    pub const GPT2_XL: Self = Self::gpt2(1600, 48, 25);

    /// Checks the settings.
    ///
    /// # Errors
    /// [`ZooError::Setting`] names the one that is wrong.
    pub fn validate(&self) -> Result<(), ZooError> {
        let Self { vocabulary, context, width, layers, heads, feed_forward, .. } = *self;
        for (field, size) in [
            ("vocabulary", vocabulary),
            ("context", context),
            ("width", width),
            ("layers", layers),
            ("heads", heads),
            ("feed_forward", feed_forward),
        ] {
            setting(size > 0, field, size, "at least 1")?;
        }
        // Each is a module before any weight is there.
        setting(layers <= MOST_LAYERS, "layers", layers, format!("at most {MOST_LAYERS}"))?;
        setting(width.is_multiple_of(heads), "width", width, format!("a multiple of the {heads} heads"))?;
        setting(self.epsilon > 0.0 && self.epsilon.is_finite(), "epsilon", self.epsilon, "greater than 0")?;
        setting((0.0..1.0).contains(&self.dropout), "dropout", self.dropout, "at least 0 and less than 1")
    }

    /// Reads the `config.json` that lies beside a checkpoint of transformers' GPT-2.
    ///
    /// # Errors
    /// [`ZooError::Io`]; [`ZooError::Configuration`] for a file of another model, or a setting that [`Gpt`] does not have.
    pub fn read(path: &Path) -> Result<Self, ZooError> {
        let text = std::fs::read_to_string(path).map_err(ZooError::io(path, "read"))?;
        let wrong = |reason: String| ZooError::Configuration { path: path.to_owned(), reason };
        let file: Published = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let config = file.config().map_err(wrong)?;
        config.validate().map_err(|error| wrong(error.to_string()))?;
        Ok(config)
    }

    /// Makes the model on `device`. Its first weights depend on `seed` alone: normal with a deviation of 0.02, and of
    /// `0.02 / sqrt(2 layers)` for the two projections whose results are added up (section 2.3 of the GPT-2 paper); biases zero.
    ///
    /// # Errors
    /// As of [`validate`](Self::validate).
    pub fn init(&self, seed: u64, device: &Device) -> Result<Gpt, ZooError> {
        self.validate()?;
        let Self { vocabulary, context, width, feed_forward, .. } = *self;
        let mut parameter = 0;
        let mut normal = |shape: [usize; 2], std: f32| -> Param<Tensor<2>> {
            parameter += 1;
            Initializer::Normal { std }.init(shape, shape[0], shape[1], seed_of(seed, parameter), device)
        };
        let tokens = Embedding { weight: normal([vocabulary, width], 0.02) };
        let positions = Embedding { weight: normal([context, width], 0.02) };
        let added = 0.02 / (2.0 * self.layers as f32).sqrt();
        let mut projection = |inputs: usize, outputs: usize, std: f32| Projection {
            weight: normal([inputs, outputs], std),
            bias: Initializer::Zeros.init([outputs], inputs, outputs, 0, device),
        };
        let norm = || LayerNormConfig::new(width).with_epsilon(self.epsilon).init(device);
        let dropout = || DropoutConfig::new(self.dropout).init();
        let blocks = (0..self.layers)
            .map(|_| GptBlock {
                attention_norm: norm(),
                attention: projection(width, 3 * width, 0.02),
                output: projection(width, width, added),
                feed_forward_norm: norm(),
                expand: projection(width, feed_forward, 0.02),
                project: projection(feed_forward, width, added),
                dropout: dropout(),
                heads: self.heads,
                epsilon: self.epsilon,
            })
            .collect();
        let head = (!self.tied).then(|| Linear { weight: normal([width, vocabulary], 0.02), bias: None });
        Ok(Gpt { tokens, positions, blocks, norm: norm(), head, dropout: dropout(), config: *self })
    }
}

fn setting(
    fits: bool,
    field: &'static str,
    value: impl ToString,
    expected: impl Into<String>,
) -> Result<(), ZooError> {
    match fits {
        true => Ok(()),
        false => {
            Err(LayerError { layer: "GPT", field, value: value.to_string(), expected: expected.into() }
                .into())
        }
    }
}

/// What of transformers' `config.json` matters.
#[derive(Deserialize)]
struct Published {
    model_type: String,
    vocab_size: usize,
    n_positions: usize,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_inner: Option<usize>,
    #[serde(default = "gelu_new")]
    activation_function: String,
    #[serde(default = "epsilon")]
    layer_norm_epsilon: f64,
    #[serde(default = "dropout")]
    resid_pdrop: f64,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
    #[serde(default = "yes")]
    scale_attn_weights: bool,
    #[serde(default)]
    scale_attn_by_inverse_layer_idx: bool,
}

fn gelu_new() -> String {
    "gelu_new".to_owned()
}

fn epsilon() -> f64 {
    1e-5
}

fn dropout() -> f64 {
    0.1
}

fn yes() -> bool {
    true
}

impl Published {
    fn config(self) -> Result<GptConfig, String> {
        let unless = |fits: bool, name: &str, value: &str, expected: &str| match fits {
            true => Ok(()),
            false => Err(format!("`{name}` is {value}, this model has {expected}")),
        };
        unless(self.model_type == "gpt2", "model_type", &self.model_type, "gpt2")?;
        let approximate = ["gelu_new", "gelu_pytorch_tanh"].contains(&self.activation_function.as_str());
        unless(approximate, "activation_function", &self.activation_function, "gelu_new")?;
        unless(self.scale_attn_weights, "scale_attn_weights", "false", "true")?;
        unless(!self.scale_attn_by_inverse_layer_idx, "scale_attn_by_inverse_layer_idx", "true", "false")?;
        // The file is not ours: its sizes are kept where their products fit.
        for (name, size, most) in [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("n_positions", self.n_positions, 1 << 24),
            ("n_embd", self.n_embd, 1 << 24),
            ("n_inner", self.n_inner.unwrap_or(0), 1 << 24),
            ("n_layer", self.n_layer, MOST_LAYERS),
        ] {
            unless(size <= most, name, &size.to_string(), &format!("at most {most}"))?;
        }
        Ok(GptConfig {
            vocabulary: self.vocab_size,
            context: self.n_positions,
            width: self.n_embd,
            layers: self.n_layer,
            heads: self.n_head,
            feed_forward: self.n_inner.unwrap_or(4 * self.n_embd),
            epsilon: self.layer_norm_epsilon,
            dropout: self.resid_pdrop,
            tied: self.tie_word_embeddings,
        })
    }
}

/// A dense layer whose weight lies `[inputs, outputs]` in checkpoints too, where PyTorch's `Linear` has it transposed: transformers'
/// `Conv1D`.
#[derive(Module, Debug)]
pub struct Projection {
    /// `[inputs, outputs]`.
    pub weight: Param<Tensor<2>>,
    /// `[outputs]`.
    pub bias: Param<Tensor<1>>,
}

impl Projection {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        linear(x, self.weight.val(), Some(self.bias.val()), firebrick_autodiff::Activation::None)
    }
}

/// Attention to the tokens so far and the feed-forward part, each behind a norm and added to its input.
#[derive(Module, Debug)]
pub struct GptBlock {
    /// Before the attention.
    pub attention_norm: LayerNorm,
    /// To queries, keys and values, side by side.
    pub attention: Projection,
    /// Mixes the heads.
    pub output: Projection,
    /// Before the feed-forward part.
    pub feed_forward_norm: LayerNorm,
    /// To the wide features; GELU, approximated by a hyperbolic tangent, follows.
    pub expand: Projection,
    /// Back to the narrow features.
    pub project: Projection,
    dropout: Dropout,
    #[module(skip)]
    heads: usize,
    /// Of the norms.
    #[module(skip)]
    epsilon: f64,
}

impl GptBlock {
    /// `[batch, tokens, width]` to the same; the tokens of `cache` came before.
    fn forward(&self, x: Tensor<3>, cache: Option<(&mut KeyValues, usize)>) -> Tensor<3> {
        let attended = self.attend(normed(&self.attention_norm, self.epsilon, x.clone()), cache);
        let x = x + self.dropout.forward(attended);
        let wide = self.expand.forward(normed(&self.feed_forward_norm, self.epsilon, x.clone()));
        let y = self.project.forward(Activation::GeluTanh.forward(wide));
        x + self.dropout.forward(y)
    }

    fn attend(&self, x: Tensor<3>, cache: Option<(&mut KeyValues, usize)>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let (heads, head_width) = (self.heads, width / self.heads);
        let fused = self.attention.forward(x);
        let [query, key, value] = [0, 1, 2].map(|part| {
            let part = fused.clone().narrow(2, part * width, width);
            part.reshape([batch, tokens, heads, head_width]).swap_dims(1, 2)
        });
        let (key, value, before) = match cache {
            Some((cache, before)) => {
                let [keys, values] = cache.append(key, value);
                (keys, values, before)
            }
            None => (key, value, 0),
        };
        let hidden = (before > 0 && tokens > 1).then(|| later(tokens, before, &query.device()));
        let context = attend(query, key, value, hidden, before == 0, &self.dropout);
        self.output.forward(context.swap_dims(1, 2).reshape([batch, tokens, width]))
    }
}

/// What a [`Gpt`] keeps of the tokens it has seen, so that further ones cost only themselves.
#[derive(Clone, Debug)]
pub struct GptCache {
    layers: Vec<KeyValues>,
    tokens: usize,
    /// Sequences, once there are tokens.
    batch: usize,
}

impl GptCache {
    /// Tokens of each sequence so far.
    pub fn tokens(&self) -> usize {
        self.tokens
    }
}

/// The language model: token ids to the logits of the token after each. [`generate`](Self::generate) continues a prompt.
#[derive(Module, Debug)]
pub struct Gpt {
    /// `[vocabulary, width]`.
    pub tokens: Embedding,
    /// `[context, width]`.
    pub positions: Embedding,
    /// The layers, first to last.
    pub blocks: Vec<GptBlock>,
    /// Behind the last layer.
    pub norm: LayerNorm,
    /// To the logits, where they do not come from the token embeddings.
    pub head: Option<Linear>,
    dropout: Dropout,
    #[module(skip)]
    config: GptConfig,
}

impl Gpt {
    /// The settings it was made with.
    pub fn config(&self) -> GptConfig {
        self.config
    }

    /// Token ids `[batch, tokens]` to the logits of the token after each, `[batch, tokens, vocabulary]`. A token sees itself and those
    /// before it, so a shorter sequence of a batch may be filled up at its end with any id.
    ///
    /// # Panics
    /// If there are no tokens or more than the context has, or an id is not in the vocabulary; [`check`](Self::check) says so as an error.
    pub fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        self.logits(self.hidden(ids))
    }

    /// Token ids `[batch, tokens]` to the last layer's hidden states behind the last norm, `[batch, tokens, width]`.
    ///
    /// # Panics
    /// As of [`forward`](Self::forward).
    pub fn hidden(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let x = self.embedded(ids, 0);
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x, None));
        normed(&self.norm, self.config.epsilon, x)
    }

    /// Hidden states of [`hidden`](Self::hidden) to logits, `[batch, tokens, vocabulary]`.
    pub fn logits(&self, hidden: Tensor<3>) -> Tensor<3> {
        let weight = match &self.head {
            Some(head) => head.weight.val(),
            None => self.tokens.weight.val().transpose(),
        };
        linear(hidden, weight, None, firebrick_autodiff::Activation::None)
    }

    /// The mean cross-entropy of each token with those before it, `[1]`: what a language model is trained to minimise. `labels`,
    /// `[batch, tokens]`, are the ids themselves, with [`IGNORED_TOKEN`](crate::IGNORED_TOKEN) where a token does not count (padding, or a
    /// prompt); the shift by one is made here, as transformers does.
    ///
    /// # Panics
    /// As of [`forward`](Self::forward); if `labels` have another shape, or there are fewer than two tokens.
    pub fn loss(&self, ids: Tensor<2, Int>, labels: Tensor<2, Int>) -> Tensor<1> {
        let [batch, tokens] = ids.dims();
        assert!(tokens >= 2, "GPT: the loss of a sequence needs two tokens, not {tokens}");
        assert_eq!(labels.dims(), [batch, tokens], "GPT: labels have the shape of the ids");
        // The last token has no next one: nothing is computed for it.
        let logits = self.forward(ids.narrow(1, 0, tokens - 1));
        token_cross_entropy(logits, labels.narrow(1, 1, tokens - 1), crate::IGNORED_TOKEN)
    }

    /// Checks ids from outside, `[batch, tokens]`, which are read back from their device.
    ///
    /// # Errors
    /// [`ZooError::NoTokens`], [`ZooError::TooManyTokens`] or [`ZooError::UnknownToken`].
    pub fn check(&self, ids: &Tensor<2, Int>) -> Result<(), ZooError> {
        self.limits().check(ids, 0)
    }

    /// An empty memory of tokens for [`forward_cached`](Self::forward_cached).
    pub fn cache(&self) -> GptCache {
        GptCache { layers: vec![KeyValues::default(); self.blocks.len()], tokens: 0, batch: 0 }
    }

    /// The logits of further tokens, `[batch, tokens]` to `[batch, tokens, vocabulary]`, and adds the tokens to `cache`: the same as the last of
    /// [`forward`](Self::forward) for all tokens so far.
    ///
    /// # Errors
    /// Those of [`check`](Self::check), for the tokens of the cache and these together; [`ZooError::Setting`] for a cache of
    /// another model or another batch. The cache is then as it was.
    pub fn forward_cached(&self, ids: Tensor<2, Int>, cache: &mut GptCache) -> Result<Tensor<3>, ZooError> {
        self.limits().check(&ids, cache.tokens)?;
        let [batch, _] = ids.dims();
        let layers = cache.layers.len();
        setting(layers == self.blocks.len(), "cache", layers, format!("of {} layers", self.blocks.len()))?;
        let same = cache.tokens == 0 || cache.batch == batch;
        setting(same, "batch", batch, format!("{} sequences as in the cache", cache.batch))?;
        Ok(self.logits(self.hidden_cached(ids, cache)))
    }

    /// Hidden states of further tokens.
    pub(crate) fn hidden_cached(&self, ids: Tensor<2, Int>, cache: &mut GptCache) -> Tensor<3> {
        let [batch, tokens] = ids.dims();
        let before = cache.tokens;
        let x = self.embedded(ids, before);
        let layers = self.blocks.iter().zip(&mut cache.layers);
        let x = layers.fold(x, |x, (block, cache)| block.forward(x, Some((cache, before))));
        cache.tokens += tokens;
        cache.batch = batch;
        normed(&self.norm, self.config.epsilon, x)
    }

    pub(crate) fn limits(&self) -> TokenLimits {
        TokenLimits { model: "GPT", vocabulary: self.config.vocabulary, context: self.config.context }
    }

    fn embedded(&self, ids: Tensor<2, Int>, before: usize) -> Tensor<3> {
        let [_, tokens] = ids.dims();
        let context = self.config.context;
        assert!(
            before + tokens <= context,
            "a sequence of {} tokens is longer than the model's context of {context}",
            before + tokens
        );
        let positions = self.positions.weight.val().narrow(0, before, tokens).unsqueeze::<3>();
        self.dropout.forward(embedding(self.tokens.weight.val(), ids) + positions)
    }

    /// transformers' name of this module's tensor `path` in a `GPT2LMHeadModel`, e.g. `blocks.1.output.weight` is
    /// `transformer.h.1.attn.c_proj.weight`.
    pub(crate) fn transformers_name(&self, path: &str) -> Option<String> {
        let (part, rest) = path.split_once('.')?;
        let named = match part {
            "tokens" => "wte",
            "positions" => "wpe",
            "norm" => "ln_f",
            "head" => return Some(format!("lm_head.{rest}")),
            "blocks" => {
                let (index, rest) = rest.split_once('.')?;
                index.parse::<usize>().ok().filter(|&index| index < self.blocks.len())?;
                let (layer, leaf) = rest.split_once('.')?;
                let named = match layer {
                    "attention_norm" => "ln_1",
                    "attention" => "attn.c_attn",
                    "output" => "attn.c_proj",
                    "feed_forward_norm" => "ln_2",
                    "expand" => "mlp.c_fc",
                    "project" => "mlp.c_proj",
                    _ => return None,
                };
                return Some(format!("transformer.h.{index}.{named}.{leaf}"));
            }
            _ => return None,
        };
        Some(format!("transformer.{named}.{rest}"))
    }
}

impl Checkpoint {
    /// Gives a GPT these weights, all of them or none.
    ///
    /// Names are those of transformers' `GPT2LMHeadModel`, or of `GPT2Model`, which lack `transformer.` in front. The causal masks that old
    /// checkpoints hold (`attn.bias`, `attn.masked_bias`) are passed over, and for a tied model a copy of the embeddings as `lm_head.weight`.
    ///
    /// # Errors
    /// Those of [`load_into`](Self::load_into).
    pub fn load_into_gpt(mut self, model: Gpt, name: &str) -> Result<Gpt, ZooError> {
        let tied = model.head.is_none();
        self.retain(|name| {
            let mask = [".attn.bias", ".attn.masked_bias"].iter().any(|end| name.ends_with(end));
            let copy = tied && name == "lm_head.weight";
            !mask && !copy
        });
        let prefixed = self.names().any(|name| name.starts_with("transformer."));
        self.load(model, name, |model, path| {
            let name = model.transformers_name(path)?;
            match name.strip_prefix("transformer.") {
                Some(bare) if !prefixed => Some(bare.to_owned()),
                _ => Some(name),
            }
        })
    }
}
