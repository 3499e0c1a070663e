//! BERT with a head: words that were masked, classes of texts, classes of tokens. Devlin et al. 2019, arXiv:1810.04805.
//!
//! Layer for layer transformers' `BertForMaskedLM`, `BertForSequenceClassification` and `BertForTokenClassification`.

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig, LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{Bool, Device, Int, Tensor};
use firebrick_autodiff::linear;
use firebrick_nn::loss::token_cross_entropy;
use firebrick_nn::{Activation, Initializer, LayerError, dense, seed_of};

use crate::token_attention::normed;
use crate::{BertConfig, BertEncoder, Checkpoint, ZooError};

impl BertConfig {
    /// An encoder without a pooler and the head that names masked words; first weights from `seed`.
    ///
    /// # Errors
    /// As of [`validate`](Self::validate).
    pub fn init_masked_lm(&self, seed: u64, device: &Device) -> Result<BertMaskedLm, ZooError> {
        self.validate()?;
        let config = Self { pooler: false, ..*self };
        let width = config.width;
        Ok(BertMaskedLm {
            encoder: config.init(seed, device),
            transform: head(width, width, seed, device),
            norm: LayerNormConfig::new(width).with_epsilon(config.epsilon).init(device),
            bias: Initializer::Zeros.init([config.vocabulary], width, config.vocabulary, 0, device),
            epsilon: config.epsilon,
        })
    }

    /// An encoder with its pooler and a head of `classes` for the whole text; first weights from `seed`.
    ///
    /// # Errors
    /// As of [`validate`](Self::validate); [`ZooError::Setting`] for no classes.
    pub fn init_classifier(
        &self,
        classes: usize,
        seed: u64,
        device: &Device,
    ) -> Result<BertClassifier, ZooError> {
        let config = Self { pooler: true, ..*self };
        let (dropout, classifier) = config.classes(classes, seed, device)?;
        Ok(BertClassifier { encoder: config.init(seed, device), dropout, classifier })
    }

    /// An encoder without a pooler and a head of `classes` for each token; first weights from `seed`.
    ///
    /// # Errors
    /// As of [`validate`](Self::validate); [`ZooError::Setting`] for no classes.
    pub fn init_token_classifier(
        &self,
        classes: usize,
        seed: u64,
        device: &Device,
    ) -> Result<BertTokenClassifier, ZooError> {
        let config = Self { pooler: false, ..*self };
        let (dropout, classifier) = config.classes(classes, seed, device)?;
        Ok(BertTokenClassifier { encoder: config.init(seed, device), dropout, classifier })
    }

    fn classes(&self, classes: usize, seed: u64, device: &Device) -> Result<(Dropout, Linear), ZooError> {
        self.validate()?;
        if classes == 0 {
            let (value, expected) = ("0".to_owned(), "at least 1".to_owned());
            return Err(LayerError { layer: "BERT", field: "classes", value, expected }.into());
        }
        Ok((DropoutConfig::new(self.dropout).init(), head(self.width, classes, seed, device)))
    }
}

/// Far from the encoder's parameters, which count from 1.
fn head(inputs: usize, outputs: usize, seed: u64, device: &Device) -> Linear {
    let normal = Initializer::Normal { std: 0.02 };
    Linear {
        weight: normal.init([inputs, outputs], inputs, outputs, seed_of(seed, u64::MAX), device),
        bias: Some(Initializer::Zeros.init([outputs], inputs, outputs, 0, device)),
    }
}

/// Names the words that were masked: a dense layer, GELU and a norm, then the likeness to each row of the word embeddings.
#[derive(Module, Debug)]
pub struct BertMaskedLm {
    /// Token ids to hidden states; its word embeddings are the head's last layer too.
    pub encoder: BertEncoder,
    /// Before the norm.
    pub transform: Linear,
    /// Before the words.
    pub norm: LayerNorm,
    /// A value a word, `[vocabulary]`.
    pub bias: Param<Tensor<1>>,
    /// Of the norm.
    #[module(skip)]
    epsilon: f64,
}

impl BertMaskedLm {
    /// Token ids `[batch, tokens]` to logits of the word at each place, `[batch, tokens, vocabulary]`; the rest as of [`BertEncoder::forward`].
    pub fn forward(
        &self,
        ids: Tensor<2, Int>,
        mask: Option<Tensor<2, Bool>>,
        types: Option<Tensor<2, Int>>,
    ) -> Tensor<3> {
        let hidden = dense(&self.transform, self.encoder.forward(ids, mask, types), Activation::Gelu);
        let hidden = normed(&self.norm, self.epsilon, hidden);
        let words = self.encoder.words.weight.val().transpose();
        linear(hidden, words, Some(self.bias.val()), firebrick_autodiff::Activation::None)
    }

    /// The mean cross-entropy of the words that were masked, `[1]`. `labels`, `[batch, tokens]`, are their ids, with
    /// [`IGNORED_TOKEN`](crate::IGNORED_TOKEN) everywhere else.
    pub fn loss(
        &self,
        ids: Tensor<2, Int>,
        mask: Option<Tensor<2, Bool>>,
        types: Option<Tensor<2, Int>>,
        labels: Tensor<2, Int>,
    ) -> Tensor<1> {
        token_cross_entropy(self.forward(ids, mask, types), labels, crate::IGNORED_TOKEN)
    }

    pub(crate) fn transformers_name(&self, path: &str) -> Option<String> {
        let (part, rest) = path.split_once('.').unwrap_or((path, ""));
        Some(match part {
            "encoder" => format!("bert.{}", self.encoder.transformers_name(rest)?),
            "transform" => format!("cls.predictions.transform.dense.{rest}"),
            "norm" => format!("cls.predictions.transform.LayerNorm.{rest}"),
            "bias" => "cls.predictions.bias".to_owned(),
            _ => return None,
        })
    }
}

/// Tells classes of texts, from the pooler's view of the first token.
#[derive(Module, Debug)]
pub struct BertClassifier {
    /// Token ids to hidden states, with its pooler.
    pub encoder: BertEncoder,
    dropout: Dropout,
    /// To the logits.
    pub classifier: Linear,
}

impl BertClassifier {
    /// Token ids `[batch, tokens]` to logits `[batch, classes]`; the rest as of [`BertEncoder::forward`].
    ///
    /// # Panics
    /// As of [`BertEncoder::forward`]; if the pooler was taken away.
    pub fn forward(
        &self,
        ids: Tensor<2, Int>,
        mask: Option<Tensor<2, Bool>>,
        types: Option<Tensor<2, Int>>,
    ) -> Tensor<2> {
        let hidden = self.encoder.forward(ids, mask, types);
        let pooled = self.encoder.pooled(hidden).expect("a classifier is made with a pooler");
        dense(&self.classifier, self.dropout.forward(pooled), Activation::None)
    }

    pub(crate) fn transformers_name(&self, path: &str) -> Option<String> {
        with_classifier(&self.encoder, path)
    }
}

/// Tells classes of tokens, e.g. of names.
#[derive(Module, Debug)]
pub struct BertTokenClassifier {
    /// Token ids to hidden states.
    pub encoder: BertEncoder,
    dropout: Dropout,
    /// To the logits.
    pub classifier: Linear,
}

impl BertTokenClassifier {
    /// Token ids `[batch, tokens]` to logits `[batch, tokens, classes]`; the rest as of [`BertEncoder::forward`].
    pub fn forward(
        &self,
        ids: Tensor<2, Int>,
        mask: Option<Tensor<2, Bool>>,
        types: Option<Tensor<2, Int>>,
    ) -> Tensor<3> {
        let hidden = self.dropout.forward(self.encoder.forward(ids, mask, types));
        dense(&self.classifier, hidden, Activation::None)
    }

    pub(crate) fn transformers_name(&self, path: &str) -> Option<String> {
        with_classifier(&self.encoder, path)
    }
}

fn with_classifier(encoder: &BertEncoder, path: &str) -> Option<String> {
    match path.split_once('.')? {
        ("encoder", rest) => Some(format!("bert.{}", encoder.transformers_name(rest)?)),
        _ => Some(path.to_owned()),
    }
}

impl Checkpoint {
    /// Gives a masked language model these weights, all of them or none.
    ///
    /// Names are those of transformers' `BertForMaskedLM` or `BertForPreTraining`, whose pooler and other head are passed over.
    ///
    /// # Errors
    /// Those of [`load_into`](Self::load_into).
    pub fn load_into_bert_masked_lm(
        mut self,
        model: BertMaskedLm,
        name: &str,
    ) -> Result<BertMaskedLm, ZooError> {
        self.norms_renamed();
        let other = ["cls.predictions.decoder.", "cls.seq_relationship.", "bert.pooler."];
        self.retain(|name| !other.iter().any(|start| name.starts_with(start)));
        self.load(model, name, BertMaskedLm::transformers_name)
    }

    /// Gives a classifier of texts these weights, all of them or none; names are those of transformers' `BertForSequenceClassification`.
    ///
    /// # Errors
    /// Those of [`load_into`](Self::load_into).
    pub fn load_into_bert_classifier(
        mut self,
        model: BertClassifier,
        name: &str,
    ) -> Result<BertClassifier, ZooError> {
        self.norms_renamed();
        self.load(model, name, BertClassifier::transformers_name)
    }

    /// Gives a classifier of tokens these weights, all of them or none; names are those of transformers' `BertForTokenClassification`, an
    /// unused pooler is passed over.
    ///
    /// # Errors
    /// Those of [`load_into`](Self::load_into).
    pub fn load_into_bert_token_classifier(
        mut self,
        model: BertTokenClassifier,
        name: &str,
    ) -> Result<BertTokenClassifier, ZooError> {
        self.norms_renamed();
        self.retain(|name| !name.starts_with("bert.pooler."));
        self.load(model, name, BertTokenClassifier::transformers_name)
    }

    /// The encoder of whatever head is in the file.
    pub(crate) fn without_bert_heads(mut self) -> Self {
        self.norms_renamed();
        if self.names().any(|name| name.starts_with("bert.")) {
            self.retain(|name| name.starts_with("bert."));
            self.rename(|name| name.strip_prefix("bert.").map(str::to_owned));
        }
        self
    }

    /// The oldest checkpoints have TensorFlow's names of a norm's parameters.
    fn norms_renamed(&mut self) {
        self.rename(|name| match name.rsplit_once('.') {
            Some((norm, "gamma")) => Some(format!("{norm}.weight")),
            Some((norm, "beta")) => Some(format!("{norm}.bias")),
            _ => None,
        });
    }
}
