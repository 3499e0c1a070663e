//! Model architectures, their metadata, pretrained weights and model packages.
//!
//! - [`models`] and [`find`]: the table of architectures with paper, licence, size and published accuracy
//! - [`create`]: an architecture with first weights; [`load_pretrained`]: with published ones
//! - [`Classifier`]: a backbone and a head; its features, pooled features or logits
//! - [`FrozenBackbone`]: a backbone that is not trained, compiled for its device
//! - [`BertEncoder`], [`FrozenBert`]: BERT's encoder, token ids to hidden states, and its compiled form
//! - [`Checkpoint`]: weights from PyTorch, safetensors, Keras, TensorFlow.js and ONNX files, checked name by name before any is
//!   used; [`write_safetensors`]: weights as PyTorch loads them
//! - [`Package`]: a trained model in one safetensors file that says what it is; [`TablePackage`]: one of tables
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

mod bert;
mod checkpoint;
mod classifier;
mod error;
mod frozen;
mod frozen_bert;
mod imagenet;
mod mobilenet_v2;
mod package;
mod spec;
mod table_package;
mod weights;

pub use bert::{BertConfig, BertEncoder, BertLayer};
pub use checkpoint::{
    Checkpoint, Dtype, Fingerprint, Format, Likeness, Mismatch, Misshapen, NamedTensor, keras_names,
    likeness, write_safetensors,
};
pub use classifier::{Backbone, Classifier, CreateOptions, create};
pub use error::ZooError;
pub use frozen::FrozenBackbone;
pub use frozen_bert::FrozenBert;
pub use imagenet::imagenet_classes;
pub use mobilenet_v2::{InvertedResidual, MobileNetV2, MobileNetV2Config};
pub use package::{Manifest, Package, Provenance};
pub use spec::{Architecture, ModelSpec, WeightsSpec, find, models};
pub use table_package::{MlpSettings, TableManifest, TablePackage};
pub use weights::{Progress, load_pretrained, locate};
