//! The Transformer, an encoder and a decoder for sequences to sequences: Vaswani et al. 2017, "Attention Is All You Need", arXiv:1706.03762.
//!
//! Stack for stack PyTorch's `torch.nn.Transformer`, between embeddings, sinusoidal positions and a generator of logits.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Embedding, Linear};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use firebrick_autodiff::{AttentionOptions, attention, embedding, layer_norm, linear};
use firebrick_nn::loss::token_cross_entropy;
use firebrick_nn::{
    Activation, AttentionMask, DecoderLayer, Initializer, LayerError, MultiHeadAttention, Norm,
    TransformerConfig as StackConfig, TransformerDecoder, TransformerEncoder, dense, seed_of,
    sinusoidal_positions,
};

use crate::key_values::KeyValues;
use crate::token_ids::TokenLimits;
use crate::{Checkpoint, ZooError};

/// Where the norms of a [`Transformer`] stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NormPlaces {
    /// Behind each part, as in the paper.
    #[default]
    After,
    /// Behind each part and once more behind each stack, as `torch.nn.Transformer` has them by default.
    AfterAndLast,
    /// Before each part and behind each stack (Xiong et al. 2020, arXiv:2002.04745).
    First,
}

/// Settings of a [`Transformer`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TransformerConfig {
    /// Rows of the source's embeddings.
    pub source_vocabulary: usize,
    /// Rows of the target's embeddings, and logits.
    pub target_vocabulary: usize,
    /// Whether source, target and generator have one table, as in the paper (section 3.4); the vocabularies are then one.
    pub shared: bool,
    /// The most tokens of a sequence.
    pub context: usize,
    /// Features of a token; a multiple of `heads`.
    pub width: usize,
    /// Heads of each attention.
    pub heads: usize,
    /// Features between the feed-forward part's two layers.
    pub feed_forward: usize,
    /// Layers of the encoder, and of the decoder.
    pub layers: usize,
    /// Share that is dropped in training, of the embeddings, the attentions' weights and what each part adds.
    pub dropout: f64,
    /// Where the norms stand.
    pub norms: NormPlaces,
}

impl TransformerConfig {
    /// The paper's base model (table 3) with 37,000 tokens that both languages share (section 5.1): 63,082,496 parameters. The paper says 65
    /// million.
    pub const BASE: Self = Self {
        source_vocabulary: 37_000,
        target_vocabulary: 37_000,
        shared: true,
        context: 1024,
        width: 512,
        heads: 8,
        feed_forward: 2048,
        layers: 6,
        dropout: 0.1,
        norms: NormPlaces::After,
    };

    /// The paper's big model (table 3): 214,245,376 parameters. The paper says 213 million.
    pub const BIG: Self = Self { width: 1024, heads: 16, feed_forward: 4096, dropout: 0.3, ..Self::BASE };

    fn stack(&self) -> StackConfig {
        StackConfig {
            dropout: self.dropout,
            activation: Activation::Relu,
            norm_first: self.norms == NormPlaces::First,
            epsilon: EPSILON,
            ..StackConfig::new(self.width, self.heads, self.feed_forward, self.layers)
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`ZooError::Setting`] names the one that is wrong.
    pub fn validate(&self) -> Result<(), ZooError> {
        self.stack().validate()?;
        let Self { source_vocabulary, target_vocabulary, context, .. } = *self;
        let at_least_1 = "at least 1";
        setting(source_vocabulary > 0, "source_vocabulary", source_vocabulary, at_least_1)?;
        setting(target_vocabulary > 0, "target_vocabulary", target_vocabulary, at_least_1)?;
        setting(context > 0, "context", context, at_least_1)?;
        let one = !self.shared || source_vocabulary == target_vocabulary;
        let expected = format!("the source's {source_vocabulary}, as the table is shared");
        setting(one, "target_vocabulary", target_vocabulary, expected)
    }

    /// Makes the model on `device`; its first weights (Glorot's uniform ones; embeddings normal with a deviation of `1 / sqrt(width)`) depend
    /// on `seed` alone.
    ///
    /// # Errors
    /// As of [`validate`](Self::validate).
    pub fn init(&self, seed: u64, device: &Device) -> Result<Transformer, ZooError> {
        self.validate()?;
        let stack = self.stack();
        let mut encoder = stack.init_encoder(seed_of(seed, 1), device)?;
        let mut decoder = stack.init_decoder(seed_of(seed, 2), device)?;
        if self.norms == NormPlaces::AfterAndLast {
            // firebrick-nn makes a last norm for stacks whose norms come first.
            let last = StackConfig { norm_first: true, layers: 1, ..stack };
            encoder.norm = last.init_encoder(0, device)?.norm;
            decoder.norm = last.init_decoder(0, device)?.norm;
        }
        let width = self.width;
        let table = |rows: usize, index: u64| {
            let normal = Initializer::Normal { std: 1.0 / (width as f32).sqrt() };
            Embedding { weight: normal.init([rows, width], rows, width, seed_of(seed, index), device) }
        };
        let generator = |rows: usize| Linear {
            weight: Initializer::GlorotUniform.init([width, rows], width, rows, seed_of(seed, 5), device),
            bias: Some(Initializer::Zeros.init([rows], width, rows, 0, device)),
        };
        Ok(Transformer {
            source: table(self.source_vocabulary, 3),
            target: (!self.shared).then(|| table(self.target_vocabulary, 4)),
            encoder,
            decoder,
            generator: (!self.shared).then(|| generator(self.target_vocabulary)),
            dropout: DropoutConfig::new(self.dropout).init(),
            config: *self,
        })
    }
}

/// Of the norms, as PyTorch's.
const EPSILON: f64 = 1e-5;

fn setting(
    fits: bool,
    field: &'static str,
    value: usize,
    expected: impl Into<String>,
) -> Result<(), ZooError> {
    match fits {
        true => Ok(()),
        false => {
            let (value, expected) = (value.to_string(), expected.into());
            Err(LayerError { layer: "Transformer", field, value, expected }.into())
        }
    }
}

/// The encoder-decoder: a source and the target so far to the logits of the target's next tokens.
#[derive(Module, Debug)]
pub struct Transformer {
    /// `[source vocabulary, width]`.
    pub source: Embedding,
    /// `[target vocabulary, width]`; where it is missing, the source's table serves for the target and the logits too.
    pub target: Option<Embedding>,
    /// Of the source.
    pub encoder: TransformerEncoder,
    /// Of the target so far, with a look at the source.
    pub decoder: TransformerDecoder,
    /// To the logits, where they do not come from the shared table.
    pub generator: Option<Linear>,
    dropout: Dropout,
    #[module(skip)]
    config: TransformerConfig,
}

/// How [`Transformer::greedy`] decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GreedyDecoding {
    /// The token that each target begins with; it is not given.
    pub begin: u32,
    /// The token that ends a target; it is not given. None by default.
    pub end: Option<u32>,
    /// The most tokens of a target.
    pub max_tokens: usize,
}

impl Transformer {
    /// The settings it was made with.
    pub fn config(&self) -> TransformerConfig {
        self.config
    }

    /// Source ids `[batch, source tokens]` and target ids so far `[batch, target tokens]` to the logits of the token after each of the target's,
    /// `[batch, target tokens, target vocabulary]`, all at once, as in training.
    ///
    /// `padding`, `[batch, source tokens]`, is true for source tokens that are none. Targets are filled up at their end, where no token
    /// before it looks.
    ///
    /// # Panics
    /// If there are no tokens or more than the context has, or an id is in no vocabulary; [`check`](Self::check) says so as an error.
    pub fn forward(
        &self,
        source: Tensor<2, Int>,
        target: Tensor<2, Int>,
        padding: Option<Tensor<2, Bool>>,
    ) -> Tensor<3> {
        let memory = self.encode(source, padding.clone());
        self.decode(target, memory, padding)
    }

    /// Source ids `[batch, source tokens]` to the encoder's memory, `[batch, source tokens, width]`.
    ///
    /// # Panics
    /// As of [`forward`](Self::forward).
    pub fn encode(&self, source: Tensor<2, Int>, padding: Option<Tensor<2, Bool>>) -> Tensor<3> {
        self.encoder.forward(self.embedded(&self.source, source, 0), &hidden(padding))
    }

    /// Target ids so far `[batch, target tokens]` and a memory of [`encode`](Self::encode) to logits.
    ///
    /// # Panics
    /// As of [`forward`](Self::forward).
    pub fn decode(
        &self,
        target: Tensor<2, Int>,
        memory: Tensor<3>,
        padding: Option<Tensor<2, Bool>>,
    ) -> Tensor<3> {
        let x = self.embedded(self.target_table(), target, 0);
        self.logits(self.decoder.forward(x, memory, &AttentionMask::causal(), &hidden(padding)))
    }

    /// The mean cross-entropy of the tokens that follow, `[1]`. `following`, `[batch, target tokens]`, is the target one place on, its end token last,
    /// with [`IGNORED_TOKEN`](crate::IGNORED_TOKEN) where the target is filled up.
    ///
    /// # Panics
    /// As of [`forward`](Self::forward); if `following` has another shape than the target.
    pub fn loss(
        &self,
        source: Tensor<2, Int>,
        target: Tensor<2, Int>,
        following: Tensor<2, Int>,
        padding: Option<Tensor<2, Bool>>,
    ) -> Tensor<1> {
        token_cross_entropy(self.forward(source, target, padding), following, crate::IGNORED_TOKEN)
    }

    /// Checks ids from outside, which are read back from their device.
    ///
    /// # Errors
    /// [`ZooError::NoTokens`], [`ZooError::TooManyTokens`] or [`ZooError::UnknownToken`].
    pub fn check(&self, source: &Tensor<2, Int>, target: &Tensor<2, Int>) -> Result<(), ZooError> {
        self.limits(true).check(source, 0)?;
        self.limits(false).check(target, 0)
    }

    /// The targets of sources `[batch, source tokens]`, each token the likeliest after those before it. A token costs itself alone: keys and
    /// values of those before it are kept. No gradient is recorded and nothing is dropped.
    ///
    /// # Errors
    /// Those of [`check`](Self::check) for the source, and [`ZooError::TooManyTokens`] for more target tokens than the context
    /// has; [`ZooError::Setting`] for a `padding` of another shape.
    pub fn greedy(
        &self,
        source: Tensor<2, Int>,
        padding: Option<Tensor<2, Bool>>,
        options: GreedyDecoding,
    ) -> Result<Vec<Vec<u32>>, ZooError> {
        let GreedyDecoding { begin, end, max_tokens } = options;
        self.limits(true).check(&source, 0)?;
        let limits = self.limits(false);
        limits.check_prompt(&[begin])?;
        if max_tokens > limits.context {
            let (model, context) = (limits.model, limits.context);
            return Err(ZooError::TooManyTokens { model, tokens: max_tokens, context });
        }
        if let Some(dims) = padding.as_ref().map(Tensor::dims).filter(|&dims| dims != source.dims()) {
            setting(false, "padding", dims[1], format!("of shape {:?}, as the source", source.dims()))?;
        }
        let model = self.valid();
        let device = model.source.weight.val().device();
        let [batch, tokens] = source.dims();
        let source = Tensor::from_data(source.into_data(), &device);
        let padding = padding.map(|padding| Tensor::<2, Bool>::from_data(padding.into_data(), &device));
        let memory = model.encode(source, padding.clone());
        let mask = padding.map(|padding| padding.reshape([batch, 1, 1, tokens]));
        let mut caches = vec![LayerCache::default(); model.decoder.layers.len()];
        let mut texts = vec![Vec::new(); batch];
        let mut ended = vec![false; batch];
        let mut last = vec![i64::from(begin); batch];
        for place in 0..max_tokens {
            let ids = Tensor::from_data(TensorData::new(last.clone(), [batch, 1]), &device);
            let logits = model.step(ids, place, &memory, mask.as_ref(), &mut caches);
            let next: Vec<i64> = logits.argmax(2).into_data().iter::<i64>().collect();
            for (index, &id) in next.iter().enumerate() {
                let id = id as u32;
                ended[index] |= Some(id) == end;
                if !ended[index] {
                    texts[index].push(id);
                }
            }
            if ended.iter().all(|&ended| ended) {
                break;
            }
            last = next;
        }
        Ok(texts)
    }

    /// The logits behind one further token of each target, `[batch, 1]` to `[batch, 1, target vocabulary]`.
    fn step(
        &self,
        ids: Tensor<2, Int>,
        place: usize,
        memory: &Tensor<3>,
        mask: Option<&Tensor<4, Bool>>,
        caches: &mut [LayerCache],
    ) -> Tensor<3> {
        let x = self.embedded(self.target_table(), ids, place);
        let layers = self.decoder.layers.iter().zip(caches);
        let x = layers.fold(x, |x, (layer, cache)| self.layer_step(layer, x, memory, mask, cache));
        self.logits(match &self.decoder.norm {
            Some(norm) => normed(norm, x),
            None => x,
        })
    }

    fn layer_step(
        &self,
        layer: &DecoderLayer,
        x: Tensor<3>,
        memory: &Tensor<3>,
        mask: Option<&Tensor<4, Bool>>,
        cache: &mut LayerCache,
    ) -> Tensor<3> {
        let residual =
            |x: Tensor<3>, norm: &Norm, part: &mut dyn FnMut(Tensor<3>) -> Tensor<3>| match self.config.norms
            {
                NormPlaces::First => x.clone() + part(normed(norm, x)),
                NormPlaces::After | NormPlaces::AfterAndLast => normed(norm, x.clone() + part(x)),
            };
        let heads = self.config.heads;
        let own = &layer.self_attention;
        let x = residual(x, &layer.norm_1, &mut |x| {
            let [key, value] = [&own.key, &own.value].map(|part| split(part, x.clone(), heads));
            let [keys, values] = cache.target.append(key, value);
            attend(own, x, [keys, values], None, heads)
        });
        let cross = &layer.cross_attention;
        let x = residual(x, &layer.norm_2, &mut |x| {
            let both = cache
                .memory
                .once(|| [&cross.key, &cross.value].map(|part| split(part, memory.clone(), heads)));
            attend(cross, x, both, mask, heads)
        });
        let wide = &layer.feed_forward;
        residual(x, &layer.norm_3, &mut |x| {
            dense(&wide.project, dense(&wide.expand, x, Activation::Relu), Activation::None)
        })
    }

    /// `table[ids] sqrt(width) + positions`, with dropout.
    fn embedded(&self, table: &Embedding, ids: Tensor<2, Int>, before: usize) -> Tensor<3> {
        let [_, tokens] = ids.dims();
        let TransformerConfig { context, width, .. } = self.config;
        let end = before + tokens;
        assert!(end <= context, "a sequence of {end} tokens is longer than the model's context of {context}");
        let x = embedding(table.weight.val(), ids) * (width as f64).sqrt();
        let positions = sinusoidal_positions(end, width, &x.device()).narrow(0, before, tokens);
        self.dropout.forward(x + positions.unsqueeze())
    }

    fn target_table(&self) -> &Embedding {
        self.target.as_ref().unwrap_or(&self.source)
    }

    fn logits(&self, hidden: Tensor<3>) -> Tensor<3> {
        match &self.generator {
            Some(generator) => dense(generator, hidden, Activation::None),
            None => {
                let weight = self.target_table().weight.val().transpose();
                linear(hidden, weight, None, firebrick_autodiff::Activation::None)
            }
        }
    }

    fn limits(&self, source: bool) -> TokenLimits {
        let TransformerConfig { source_vocabulary, target_vocabulary, context, .. } = self.config;
        match source {
            true => TokenLimits { model: "Transformer's source", vocabulary: source_vocabulary, context },
            false => TokenLimits { model: "Transformer's target", vocabulary: target_vocabulary, context },
        }
    }

    /// The name of this module's tensor `path` in a PyTorch module with a `torch.nn.Transformer` named `transformer`, whose fused projections were
    /// taken apart.
    pub(crate) fn torch_name(&self, path: &str) -> Option<String> {
        let (stack, rest) = path.split_once('.')?;
        if !["encoder", "decoder"].contains(&stack) {
            return Some(path.to_owned());
        }
        if let Some(leaf) = rest.strip_prefix("norm.norm.") {
            return Some(format!("transformer.{stack}.norm.{leaf}"));
        }
        let mut parts = rest.strip_prefix("layers.")?.split('.');
        let (index, part) = (parts.next()?, parts.next()?);
        let named = match part {
            "attention" | "self_attention" => "self_attn",
            "cross_attention" => "multihead_attn",
            "norm_1" => "norm1",
            "norm_2" => "norm2",
            "norm_3" => "norm3",
            "feed_forward" => "",
            _ => return None,
        };
        let layer = match parts.next()? {
            "norm" => "",
            "query" => ".q_proj",
            "key" => ".k_proj",
            "value" => ".v_proj",
            "output" => ".out_proj",
            "expand" => "linear1",
            "project" => "linear2",
            _ => return None,
        };
        Some(format!("transformer.{stack}.layers.{index}.{named}{layer}.{}", parts.next()?))
    }
}

/// What a decoder layer keeps.
#[derive(Clone, Debug, Default)]
struct LayerCache {
    /// Of the target's tokens so far.
    target: KeyValues,
    /// Of the source's.
    memory: KeyValues,
}

fn hidden(padding: Option<Tensor<2, Bool>>) -> AttentionMask {
    padding.map_or_else(AttentionMask::default, AttentionMask::padding)
}

/// `[batch, tokens, width]` to `[batch, heads, tokens, head width]`.
fn split(layer: &Linear, x: Tensor<3>, heads: usize) -> Tensor<4> {
    let y = dense(layer, x, Activation::None);
    let [batch, tokens, width] = y.dims();
    y.reshape([batch, tokens, heads, width / heads]).swap_dims(1, 2)
}

fn attend(
    layer: &MultiHeadAttention,
    x: Tensor<3>,
    [keys, values]: [Tensor<4>; 2],
    mask: Option<&Tensor<4, Bool>>,
    heads: usize,
) -> Tensor<3> {
    let dims = x.dims();
    let query = split(&layer.query, x, heads);
    let options = AttentionOptions { mask: mask.cloned(), ..Default::default() };
    let context = attention(query, keys, values, options);
    dense(&layer.output, context.swap_dims(1, 2).reshape(dims), Activation::None)
}

fn normed(norm: &Norm, x: Tensor<3>) -> Tensor<3> {
    let gamma = norm.norm.gamma.val();
    let beta = norm.norm.beta.as_ref().map_or_else(|| gamma.zeros_like(), |beta| beta.val());
    layer_norm(x, gamma, beta, EPSILON)
}

impl Checkpoint {
    /// Gives a Transformer these weights, all of them or none.
    ///
    /// Names are those of a PyTorch module that holds a `torch.nn.Transformer` as `transformer`, the embeddings as `source` and `target` (only `source` where
    /// they are shared) and the last linear layer as `generator`.
    ///
    /// # Errors
    /// Those of [`load_into`](Self::load_into).
    pub fn load_into_transformer(mut self, model: Transformer, name: &str) -> Result<Transformer, ZooError> {
        let fused: Vec<String> =
            self.names().filter(|name| name.contains(".in_proj_")).map(str::to_owned).collect();
        for name in fused {
            // PyTorch keeps the three projections as one: first all rows of the queries'.
            let Some((layer, leaf)) = name.split_once(".in_proj_") else { continue };
            self.split_rows(&name, ["q", "k", "v"].map(|part| format!("{layer}.{part}_proj.{leaf}")));
        }
        self.load(model, name, Transformer::torch_name)
    }
}
