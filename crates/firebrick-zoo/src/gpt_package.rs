//! A language model with its tokenizer in one safetensors file.

use std::path::Path;

use burn::tensor::Device;
use firebrick_text::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::package::{FORMAT, read_metadata, write};
use crate::{Checkpoint, Gpt, GptConfig, ZooError};

/// The architecture that a manifest names.
const ARCHITECTURE: &str = "gpt";

/// What a package of a language model says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GptManifest {
    /// Version of this list.
    pub format: u32,
    /// Name and version of the program that wrote it.
    pub producer: String,
    /// Always `gpt`.
    pub architecture: String,
    /// The network.
    pub network: GptConfig,
    /// The tokenizer as the text of a `tokenizer.json`.
    pub tokenizer: String,
    /// The text that it was trained on.
    pub data: String,
    /// The configuration of the run that made it.
    pub config: serde_json::Value,
}

/// A language model, its tokenizer, and what it says of itself.
pub struct GptPackage {
    /// What it is.
    pub manifest: GptManifest,
    /// Its weights.
    pub model: Gpt,
    /// Text to its token ids and back.
    pub tokenizer: Tokenizer,
}

impl GptPackage {
    /// A package of this version; `config` is any JSON.
    ///
    /// # Errors
    ///
    /// [`ZooError::TokenizerTooLarge`] if the tokenizer has ids that the model does not know.
    pub fn new(
        model: Gpt,
        tokenizer: Tokenizer,
        data: String,
        config: serde_json::Value,
    ) -> Result<Self, ZooError> {
        let network = model.config();
        check_vocabulary(&tokenizer, &network)?;
        let manifest = GptManifest {
            format: FORMAT,
            producer: format!("firebrick {}", env!("CARGO_PKG_VERSION")),
            architecture: ARCHITECTURE.to_owned(),
            network,
            tokenizer: tokenizer.to_json()?,
            data,
            config,
        };
        Ok(Self { manifest, model, tokenizer })
    }

    /// Whether the file is a package of a language model; false also for what is no package at all.
    pub fn is_at(path: &Path) -> bool {
        read_metadata(path).is_ok_and(|metadata| is_of_a_gpt(&metadata))
    }

    /// Writes the package to `path`, whole or not at all. The same model gives the same bytes; tensors have the names of transformers'
    /// `GPT2LMHeadModel`.
    ///
    /// # Errors
    ///
    /// [`ZooError::Io`] naming the file, e.g. when the disk is full.
    pub fn save(&self, path: &Path) -> Result<(), ZooError> {
        write(&self.model, |name| self.model.transformers_name(name), &self.manifest, path)
    }

    /// Reads a package and builds its model on `device`.
    ///
    /// # Errors
    ///
    /// As of [`Package::open`](crate::Package::open), and [`ZooError::NotAPackage`] for a manifest that asks for more weights than the file
    /// holds, or whose tokenizer cannot be used.
    pub fn open(path: &Path, device: &Device) -> Result<Self, ZooError> {
        let foreign = |reason: String| ZooError::NotAPackage { path: path.to_owned(), reason };
        let metadata = read_metadata(path)?;
        if !is_of_a_gpt(&metadata) {
            return Err(foreign("it is no language model".to_owned()));
        }
        let manifest: GptManifest = serde_json::from_str(&metadata)
            .map_err(|error| foreign(format!("its metadata is not a model package's ({error})")))?;
        if manifest.format > FORMAT {
            return Err(foreign(format!(
                "it was written by {} in format {}, this version reads up to {FORMAT}",
                manifest.producer, manifest.format
            )));
        }
        let wrong = |error: String| foreign(format!("its metadata is wrong: {error}"));
        manifest.network.validate().map_err(|error| wrong(error.to_string()))?;
        // A manifest is outside input: its sizes decide what is allocated before a tensor is compared.
        let stored = std::fs::metadata(path).map_err(ZooError::io(path, "read"))?.len() / 4;
        let asked = least_parameters(&manifest.network);
        if asked > stored {
            return Err(wrong(format!(
                "its network has {asked} weights or more, the file holds {stored} at most"
            )));
        }
        let tokenizer =
            Tokenizer::of_json(path, &manifest.tokenizer).map_err(|error| wrong(error.to_string()))?;
        check_vocabulary(&tokenizer, &manifest.network)?;
        let model = manifest.network.init(0, device)?;
        let model = Checkpoint::read(path)?.load_into_gpt(model, "GPT")?;
        Ok(Self { manifest, model, tokenizer })
    }
}

fn check_vocabulary(tokenizer: &Tokenizer, network: &GptConfig) -> Result<(), ZooError> {
    let (tokens, vocabulary) = (tokenizer.vocabulary_size(), network.vocabulary);
    match tokens <= vocabulary {
        true => Ok(()),
        false => Err(ZooError::TokenizerTooLarge { path: tokenizer.origin().to_owned(), tokens, vocabulary }),
    }
}

/// The weights of the tables and of the layers' products, without biases and norms.
fn least_parameters(network: &GptConfig) -> u64 {
    let [vocabulary, context, width, layers, feed_forward] =
        [network.vocabulary, network.context, network.width, network.layers, network.feed_forward]
            .map(|size| size as u64);
    let tables = vocabulary.saturating_add(context).saturating_mul(width);
    let layer = width.saturating_mul(width).saturating_mul(4);
    let layer = layer.saturating_add(width.saturating_mul(feed_forward).saturating_mul(2));
    tables.saturating_add(layer.saturating_mul(layers))
}

pub(crate) fn is_of_a_gpt(metadata: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(metadata)
        .is_ok_and(|manifest| manifest["architecture"] == ARCHITECTURE && manifest.get("tokenizer").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GenerateOptions, Package, Sampling, TablePackage};
    use firebrick_text::EncodeOptions;

    #[allow(deprecated)]
    fn device() -> Device {
        Device::ndarray()
    }

    const SMALL: GptConfig = GptConfig {
        vocabulary: 256,
        context: 16,
        width: 8,
        layers: 2,
        heads: 2,
        feed_forward: 12,
        ..GptConfig::GPT2
    };

    fn package(network: GptConfig) -> GptPackage {
        let model = network.init(3, &device()).expect("right settings");
        GptPackage::new(model, Tokenizer::bytes(), "a text".to_owned(), serde_json::json!({ "steps": 3 }))
            .expect("256 tokens")
    }

    #[test]
    fn what_is_saved_is_opened_again_and_writes_the_same_text() {
        let folder = tempfile::tempdir().expect("temporary folder");
        for tied in [true, false] {
            let path = folder.path().join("model.safetensors");
            let saved = package(GptConfig { tied, ..SMALL });
            saved.save(&path).expect("saved");
            let opened = GptPackage::open(&path, &device()).expect("opened");
            assert_eq!(opened.manifest, saved.manifest);
            let text = |package: &GptPackage| {
                let ids = package.tokenizer.encode("once", &EncodeOptions::default()).expect("any text").ids;
                let options = GenerateOptions { sampling: Sampling::greedy(), ..GenerateOptions::default() };
                package.model.generate(&ids, options).expect("short").collect::<Vec<u32>>()
            };
            assert_eq!(text(&opened), text(&saved));
            assert!(text(&opened).len() > 10);
            let bytes = std::fs::read(&path).expect("written");
            opened.save(&path).expect("saved");
            assert!(std::fs::read(&path).expect("written") == bytes, "another file");
        }
    }

    #[test]
    fn a_language_model_is_not_taken_for_another_one() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("model.safetensors");
        package(SMALL).save(&path).expect("saved");
        assert!(GptPackage::is_at(&path) && !TablePackage::is_at(&path));
        assert!(!GptPackage::is_at(&folder.path().join("nowhere")));
        let message = Package::open(&path, &device()).err().expect("no images").to_string();
        assert!(message.contains("language model"), "{message}");
    }

    #[test]
    fn a_manifest_that_asks_for_too_much_is_refused() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("model.safetensors");
        for (network, words) in [
            (GptConfig { width: 1 << 40, ..SMALL }, "the file holds"),
            (GptConfig { layers: 4096, ..SMALL }, "the file holds"),
            (GptConfig { layers: 4097, ..SMALL }, "at most 4096"),
            (GptConfig { vocabulary: 1 << 50, ..SMALL }, "the file holds"),
            (GptConfig { heads: 0, ..SMALL }, "`heads` is 0"),
            (GptConfig { vocabulary: 255, ..SMALL }, "below 255"),
            (GptConfig { layers: 1, ..SMALL }, "transformer.h.1"),
        ] {
            let mut package = package(SMALL);
            package.manifest.network = network;
            package.save(&path).expect("saved");
            let message = GptPackage::open(&path, &device()).err().expect("refused").to_string();
            assert!(message.contains(words), "`{words}` is not in: {message}");
        }
        let mut package = package(SMALL);
        package.manifest.tokenizer = "{}".to_owned();
        package.save(&path).expect("saved");
        let message = GptPackage::open(&path, &device()).err().expect("refused").to_string();
        assert!(message.contains("describes no model"), "{message}");
    }
}
