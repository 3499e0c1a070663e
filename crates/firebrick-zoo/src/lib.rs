//! Model architectures, their metadata, pretrained weights and model packages.
//!
//! - [`models`] and [`find`]: the table of architectures with paper, licence, size and published accuracy
//! - [`sequence_models`] and [`find_sequence`]: the table of sequence models, up to GPT-3's 175 billion parameters, with what each costs
//! - [`create`]: an architecture with first weights; [`load_pretrained`]: with published ones
//! - [`Classifier`]: a backbone and a head; its features, pooled features or logits
//! - [`AttentionPool`]: attention over any backbone's feature map, in the place of its own pooling
//! - [`FrozenBackbone`]: a backbone that is not trained, compiled for its device
//! - [`BertEncoder`], [`FrozenBert`]: BERT's encoder, token ids to hidden states, and its compiled form;
//!   [`BertMaskedLm`], [`BertClassifier`] and [`BertTokenClassifier`] with a head
//! - `SentenceEncoder`: sentences to vectors (feature `text`)
//! - [`Gpt`]: GPT-2's and GPT-3's decoder, and texts from it by [`Sampling`]
//! - [`Transformer`]: the encoder-decoder of "Attention Is All You Need"
//! - [`Checkpoint`]: weights from PyTorch, safetensors, Keras, TensorFlow.js and ONNX files, checked name by name before any is
//!   used; [`write_safetensors`]: weights as PyTorch loads them
//! - [`Package`]: a trained model in one safetensors file that says what it is; [`TablePackage`]: one of tables;
//!   `GptPackage`: a language model with its tokenizer (feature `text`)
//!
//! ```no_run
//! use firebrick_zoo::{CreateOptions, find, load_pretrained};
//!
//! # #[allow(deprecated)]
//! let device = burn::tensor::Device::ndarray();
//! let spec = find("mobilenet_v2")?;
//! let model = load_pretrained(spec, &device, &mut |_, _| ())?;
//! // A new head for ten classes, with a hidden layer of 128.
//! let model = model.reset_head(&CreateOptions { classes: 10, hidden: vec![128], ..CreateOptions::default() }, &device);
//! # Ok::<(), firebrick_zoo::ZooError>(())
//! ```

mod adapt;
mod architectures;
mod backbone;
mod bert;
mod bert_heads;
mod checkpoint;
mod classifier;
#[cfg(feature = "download")]
mod download;
mod error;
mod frozen_bert;
mod gpt;
#[cfg(feature = "text")]
mod gpt_package;
pub mod graph;
mod imagenet;
mod key_values;
mod package;
mod sampling;
#[cfg(feature = "text")]
mod sentence_encoder;
mod sequence_spec;
mod sequence_weights;
mod spec;
mod table_package;
mod token_attention;
mod token_ids;
mod transformer;
mod weights;

pub use adapt::{PositionResampling, adapt_input_channels, interpolate_positions};
pub use architectures::AttentionPool;
pub(crate) use architectures::divisible;
pub use backbone::{AttentionLayer, Backbone, Block, FrozenBackbone, Layer, WindowAttentionLayer};
pub use bert::{BertConfig, BertEncoder, BertLayer};
pub use bert_heads::{BertClassifier, BertMaskedLm, BertTokenClassifier};
pub use checkpoint::{
    Checkpoint, Dtype, Fingerprint, Format, KerasNames, Likeness, Mismatch, Misshapen, NamedTensor,
    keras_names, likeness, write_safetensors,
};
pub use classifier::{Classifier, CreateOptions, create};
pub use error::ZooError;
pub use frozen_bert::FrozenBert;
pub use gpt::{Gpt, GptBlock, GptCache, GptConfig, Projection};
#[cfg(feature = "text")]
pub use gpt_package::{GptManifest, GptPackage};
pub use imagenet::imagenet_classes;
pub use package::{Manifest, Package, Provenance};
pub use sampling::{Finish, GenerateOptions, Generation, Sampling};
#[cfg(feature = "text")]
pub use sentence_encoder::{
    EmbedOptions, Embeddings, SentenceEncoder, SentenceModelSpec, find_sentence_model, sentence_models,
};
pub use sequence_spec::{SequenceArchitecture, SequenceSpec, find_sequence, sequence_models};
pub use spec::{Alias, Build, BuildOptions, Framework, KerasInput, ModelSpec, WeightsSpec, find, models};
pub use table_package::{MlpSettings, TableManifest, TablePackage, check_widths};
pub use transformer::{GreedyDecoding, NormPlaces, Transformer, TransformerConfig};
pub use weights::{Progress, load_pretrained, load_pretrained_with, locate};

/// The label of a token that does not count in a loss: transformers' and PyTorch's -100.
pub const IGNORED_TOKEN: i64 = -100;
