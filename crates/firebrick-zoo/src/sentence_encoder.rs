//! Sentences to vectors: a BERT encoder whose hidden states are averaged, Reimers and Gurevych 2019, arXiv:1908.10084.
//!
//! Step for step what sentence-transformers does with all-MiniLM-L6-v2: tokens, hidden states, their mean over the tokens of the
//! sentence, divided by its length.

use std::path::Path;

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use firebrick_text::{EncodeOptions, Encoding, TokenBatch, Tokenizer, WhenTooLong};

use crate::backbone::values;
use crate::spec::nearest;
use crate::weights::locate;
use crate::{BertConfig, Checkpoint, FrozenBert, Progress, WeightsSpec, ZooError};

/// A published sentence encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct SentenceModelSpec {
    /// Name by which it is asked for.
    pub name: &'static str,
    /// Where it was published.
    pub paper: &'static str,
    /// The encoder.
    pub config: BertConfig,
    /// Tokens at which its authors cut sentences off; the encoder may take more.
    pub max_tokens: usize,
    /// What may be done with it.
    pub licence: &'static str,
    /// Folder of its files in the cache folder's `weights`.
    folder: &'static str,
    weights: PublishedFile,
    tokenizer: PublishedFile,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct PublishedFile {
    file: &'static str,
    url: &'static str,
    sha256: &'static str,
    bytes: u64,
}

static MODELS: &[SentenceModelSpec] = &[SentenceModelSpec {
    name: "minilm",
    paper: "Wang et al. 2020, arXiv:2002.10957; Reimers and Gurevych 2019, arXiv:1908.10084",
    config: BertConfig::MINI_LM_L6,
    max_tokens: 256,
    licence: "Apache-2.0",
    folder: "all-MiniLM-L6-v2",
    weights: PublishedFile {
        file: "model.safetensors",
        url: "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main/model.safetensors",
        sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        bytes: 90_868_376,
    },
    tokenizer: PublishedFile {
        file: "tokenizer.json",
        url: "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main/tokenizer.json",
        sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        bytes: 466_247,
    },
}];

/// Every sentence encoder of the zoo.
pub fn sentence_models() -> &'static [SentenceModelSpec] {
    MODELS
}

/// The sentence encoder of this name.
///
/// # Errors
///
/// [`ZooError::UnknownSentenceModel`], with the nearest name if one is near.
pub fn find_sentence_model(name: &str) -> Result<&'static SentenceModelSpec, ZooError> {
    MODELS.iter().find(|spec| spec.name == name).ok_or_else(|| ZooError::UnknownSentenceModel {
        name: name.to_owned(),
        nearest: nearest(name, MODELS.iter().map(|spec| spec.name))
            .first()
            .map(|near| format!(", did you mean `{near}`?"))
            .unwrap_or_else(|| ".".to_owned()),
        known: MODELS.iter().map(|spec| spec.name).collect::<Vec<_>>().join(", "),
    })
}

/// How sentences become vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbedOptions {
    /// Sentences that are computed together; 32 by default. It does not change the results.
    pub batch_size: usize,
    /// Most tokens of a sentence; the model's own limit by default.
    pub max_tokens: Option<usize>,
    /// What happens to a longer sentence; by default its end is cut off.
    pub when_too_long: WhenTooLong,
    /// Whether vectors are divided by their length, so that a scalar product is a cosine; true by default.
    pub normalize: bool,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        Self { batch_size: 32, max_tokens: None, when_too_long: WhenTooLong::Truncate, normalize: true }
    }
}

/// Vectors of sentences.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embeddings {
    /// `[sentences, width]`, row by row, in the order of the sentences.
    pub values: Vec<f32>,
    /// Length of a vector.
    pub width: usize,
    /// Sentences that were cut off, by their place, with the number of tokens that were left out.
    pub truncated: Vec<(usize, usize)>,
}

impl Embeddings {
    /// The vectors, one a sentence.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks(self.width.max(1))
    }

    /// The cosine of the angle between two sentences' vectors: 1 for the same direction.
    ///
    /// # Panics
    ///
    /// If there are not so many sentences.
    pub fn cosine(&self, one: usize, other: usize) -> f32 {
        let row = |index: usize| &self.values[index * self.width..(index + 1) * self.width];
        let product = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        let (one, other) = (row(one), row(other));
        let lengths = (product(one, one) * product(other, other)).sqrt();
        (product(one, other) / lengths.max(1e-12)) as f32
    }
}

/// A tokenizer and a compiled BERT encoder.
#[derive(Clone, Debug)]
pub struct SentenceEncoder {
    tokenizer: Tokenizer,
    encoder: FrozenBert,
    max_tokens: usize,
    device: Device,
}

impl SentenceEncoder {
    /// A published encoder; its files are looked for in the cache folder (see [`firebrick_data::cache_dir`]), then at their official
    /// address (feature `download`).
    ///
    /// # Errors
    ///
    /// Whatever keeps the files from being found, checked or read.
    pub fn load_pretrained(
        spec: &SentenceModelSpec,
        device: &Device,
        progress: Progress<'_>,
    ) -> Result<Self, ZooError> {
        let folder = firebrick_data::cache_dir()?.join("weights").join(spec.folder);
        let tokenizer =
            locate(&published(spec, &spec.tokenizer), &folder, progress).map_err(|error| match error {
                ZooError::Download { url, reason, path, .. } => {
                    ZooError::Download { url, reason, path, flag: "--tokenizer" }
                }
                other => other,
            })?;
        let weights = locate(&published(spec, &spec.weights), &folder, progress)?;
        Self::open(spec, &weights, &tokenizer, device)
    }

    /// An encoder of this kind with weights, in the names of transformers' `BertModel`, and tokenizer from files.
    ///
    /// # Errors
    ///
    /// Those of [`Checkpoint::load_into_bert`] and [`Tokenizer::open`]; [`ZooError::TokenizerTooLarge`] for the tokenizer of another model.
    pub fn open(
        spec: &SentenceModelSpec,
        weights: &Path,
        tokenizer: &Path,
        device: &Device,
    ) -> Result<Self, ZooError> {
        // The cheaper file first.
        let tokenizer = Tokenizer::open(tokenizer)?;
        let model = Checkpoint::read(weights)?.load_into_bert(spec.config.init(0, device), spec.name)?;
        let mut encoder = Self::new(tokenizer, model.compile()?, device)?;
        encoder.max_tokens = spec.max_tokens;
        Ok(encoder)
    }

    /// An encoder of your own, on `device`; sentences may be as long as its positions.
    ///
    /// # Errors
    ///
    /// [`ZooError::TokenizerTooLarge`] if the tokenizer has ids that the encoder does not know.
    pub fn new(tokenizer: Tokenizer, encoder: FrozenBert, device: &Device) -> Result<Self, ZooError> {
        let BertConfig { vocabulary, positions, .. } = encoder.config();
        let size = tokenizer.vocabulary_size();
        if size > vocabulary {
            return Err(ZooError::TokenizerTooLarge {
                path: tokenizer.origin().to_owned(),
                tokens: size,
                vocabulary,
            });
        }
        Ok(Self { tokenizer, encoder, max_tokens: positions, device: device.clone() })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Length of a vector.
    pub fn width(&self) -> usize {
        self.encoder.config().width
    }

    /// The vectors of sentences.
    ///
    /// Sentences of about the same length are computed together. A vector depends on its sentence alone, to the last bit on the CPU
    /// backends. `progress` is told of each batch: sentences done, sentences in all.
    ///
    /// # Errors
    ///
    /// [`ZooError::Text`], e.g. for a sentence that is too long if that is asked for; [`ZooError::TooManyTokens`] if more tokens are asked for
    /// than the encoder has positions; [`ZooError::UnknownToken`] if the tokenizer gives a sentence an id that the encoder does not know.
    ///
    /// # Panics
    ///
    /// If the batch size is 0.
    pub fn embed<T: AsRef<str>>(
        &self,
        sentences: &[T],
        options: &EmbedOptions,
        progress: Progress<'_>,
    ) -> Result<Embeddings, ZooError> {
        assert!(options.batch_size > 0, "batches of at least one sentence");
        let BertConfig { positions, width, .. } = self.encoder.config();
        let most = options.max_tokens.unwrap_or(self.max_tokens);
        if most > positions {
            return Err(ZooError::TooManyTokens { model: "BERT", tokens: most, context: positions });
        }
        let encode = EncodeOptions {
            max_tokens: Some(most),
            when_too_long: options.when_too_long,
            ..EncodeOptions::default()
        };
        let encodings = self.tokenizer.encode_all(sentences, &encode)?;
        self.check(&encodings)?;
        // The longest first: a lack of memory shows at once.
        let mut order: Vec<usize> = (0..encodings.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(encodings[index].ids.len()));
        let mut pooled = vec![0.0; encodings.len() * width];
        let mut done = 0;
        for indices in order.chunks(options.batch_size) {
            let chosen: Vec<Encoding> = indices.iter().map(|&index| encodings[index].clone()).collect();
            let batch = TokenBatch::new(&chosen, self.tokenizer.pad());
            let hidden = self.hidden(&batch)?;
            for (row, &index) in indices.iter().enumerate() {
                let tokens = row * batch.tokens..(row + 1) * batch.tokens;
                let hidden = &hidden[tokens.start * width..tokens.end * width];
                let vector = &mut pooled[index * width..(index + 1) * width];
                mean(hidden, &batch.mask[tokens], vector);
                if options.normalize {
                    normalize(vector);
                }
            }
            done += indices.len();
            progress(done as u64, encodings.len() as u64);
        }
        let truncated = encodings
            .iter()
            .enumerate()
            .filter(|(_, encoding)| encoding.dropped > 0)
            .map(|(index, encoding)| (index, encoding.dropped))
            .collect();
        Ok(Embeddings { values: pooled, width, truncated })
    }

    /// Checks the ids before they are sorted, so that the error counts sentences as they were given.
    fn check(&self, encodings: &[Encoding]) -> Result<(), ZooError> {
        let vocabulary = self.encoder.config().vocabulary;
        for (sequence, encoding) in encodings.iter().enumerate() {
            if let Some(token) = encoding.ids.iter().position(|&id| id as usize >= vocabulary) {
                let id = i64::from(encoding.ids[token]);
                return Err(ZooError::UnknownToken { model: "BERT", sequence, token, id, vocabulary });
            }
        }
        Ok(())
    }

    /// `[rows, tokens, width]`; the encoder takes no sequences of no tokens.
    fn hidden(&self, batch: &TokenBatch) -> Result<Vec<f32>, ZooError> {
        if batch.tokens == 0 {
            return Ok(Vec::new());
        }
        let shape = [batch.rows, batch.tokens];
        let integers =
            |ids: &[i64]| Tensor::<2, Int>::from_data(TensorData::new(ids.to_vec(), shape), &self.device);
        let mask = Tensor::<2, Bool>::from_data(TensorData::new(batch.mask.clone(), shape), &self.device);
        Ok(values(self.encoder.forward(integers(&batch.ids), Some(mask), Some(integers(&batch.types)))?))
    }
}

/// The mean of the hidden states, `[tokens, width]`, of the tokens that `mask` keeps; zeros if it keeps none.
fn mean(hidden: &[f32], mask: &[bool], vector: &mut [f32]) {
    let width = vector.len();
    let mut sums = vec![0.0f64; width];
    let kept = hidden.chunks(width).zip(mask).filter(|(_, kept)| **kept);
    for (state, _) in kept {
        sums.iter_mut().zip(state).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let count = mask.iter().filter(|kept| **kept).count().max(1) as f64;
    vector.iter_mut().zip(sums).for_each(|(value, sum)| *value = (sum / count) as f32);
}

/// Divides by the Euclidean length, or by 1e-12 if that is larger, as PyTorch's `normalize`.
fn normalize(vector: &mut [f32]) {
    let square: f64 = vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    let length = square.sqrt().max(1e-12);
    vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
}

/// A file as [`locate`] wants it; what is of images says nothing.
fn published(spec: &SentenceModelSpec, file: &PublishedFile) -> WeightsSpec {
    WeightsSpec {
        name: spec.name,
        file: file.file,
        url: file.url,
        sha256: file.sha256,
        bytes: file.bytes,
        licence: spec.licence,
        ..WeightsSpec::TORCHVISION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(deprecated)]
    fn device() -> Device {
        Device::ndarray()
    }

    const SMALL: BertConfig = BertConfig {
        vocabulary: 256,
        positions: 12,
        types: 2,
        width: 24,
        layers: 2,
        heads: 3,
        feed_forward: 40,
        pooler: false,
        ..BertConfig::MINI_LM_L6
    };

    fn encoder() -> SentenceEncoder {
        let encoder = SMALL.init(5, &device()).compile().expect("compiled");
        SentenceEncoder::new(Tokenizer::bytes(), encoder, &device()).expect("256 tokens")
    }

    fn embed(sentences: &[&str], options: EmbedOptions) -> Embeddings {
        encoder().embed(sentences, &options, &mut |_, _| ()).expect("short")
    }

    #[test]
    fn a_vector_is_the_mean_of_the_hidden_states_of_its_sentence() {
        let options = EmbedOptions { normalize: false, ..EmbedOptions::default() };
        let vectors = embed(&["abc", "a longer one"], options);
        let encoder = encoder();
        let ids = Tensor::<2, Int>::from_data([[97i64, 98, 99]], &device());
        let hidden = values(encoder.encoder.forward(ids, None, None).expect("known"));
        for (place, value) in vectors.rows().next().expect("a row").iter().enumerate() {
            let expected = (0..3).map(|token| hidden[token * 24 + place]).sum::<f32>() / 3.0;
            assert!((value - expected).abs() < 1e-5, "{value} != {expected}");
        }
    }

    #[test]
    fn neither_company_nor_order_nor_the_batch_changes_a_vector() {
        let sentences = ["to be", "or", "not to be", "", "that is", "the questio"];
        let together = embed(&sentences, EmbedOptions::default());
        for batch_size in [1, 2, 5] {
            assert_eq!(embed(&sentences, EmbedOptions { batch_size, ..EmbedOptions::default() }), together);
        }
        for (sentence, row) in sentences.iter().zip(together.rows()) {
            assert_eq!(embed(&[sentence], EmbedOptions::default()).values, row, "{sentence}");
        }
        // A byte vocabulary has no token of its own to add, so nothing has no vector but zeros.
        assert!(together.rows().nth(3).expect("a row").iter().all(|&value| value == 0.0));
        assert!((together.cosine(0, 0) - 1.0).abs() < 1e-6 && together.cosine(0, 1) < 1.0);
        assert_eq!(embed(&[], EmbedOptions::default()).rows().len(), 0);
    }

    #[test]
    fn a_long_sentence_is_cut_off_or_refused() {
        let sentences = ["short", "longer than twelve bytes"];
        let vectors = embed(&sentences, EmbedOptions::default());
        assert_eq!(vectors.truncated, [(1, 12)]);
        assert_eq!(embed(&["longer than "], EmbedOptions::default()).values, vectors.values[24..]);
        let refused = |options: EmbedOptions| {
            encoder().embed(&sentences, &options, &mut |_, _| ()).expect_err("too long").to_string()
        };
        let message = refused(EmbedOptions { when_too_long: WhenTooLong::Refuse, ..EmbedOptions::default() });
        assert!(message.contains("24 tokens, at most 12"), "{message}");
        let message = refused(EmbedOptions { max_tokens: Some(13), ..EmbedOptions::default() });
        assert!(message.contains("13 tokens") && message.contains("12"), "{message}");
    }

    /// A template may have ids of its own, which no vocabulary lists.
    #[test]
    fn an_id_that_the_encoder_does_not_know_is_told_its_sentence() {
        let json = r#"{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []},
            "post_processor": {"type": "TemplateProcessing", "pair": [],
                "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "T", "type_id": 0}}],
                "special_tokens": {"T": {"id": "T", "ids": [999], "tokens": ["T"]}}}}"#;
        let tokenizer = Tokenizer::of_json(Path::new("own"), json).expect("right");
        let encoder = SMALL.init(5, &device()).compile().expect("compiled");
        let encoder = SentenceEncoder::new(tokenizer, encoder, &device()).expect("2 tokens");
        // The second is longer, and so computed first.
        let refused = encoder.embed(&["a", "abab"], &EmbedOptions::default(), &mut |_, _| ());
        let message = refused.expect_err("999").to_string();
        assert!(message.contains("sequence 0, token 1: id 999"), "{message}");
    }

    #[test]
    fn a_tokenizer_of_another_model_is_refused() {
        let encoder = BertConfig { vocabulary: 255, ..SMALL }.init(0, &device()).compile().expect("compiled");
        let message =
            SentenceEncoder::new(Tokenizer::bytes(), encoder, &device()).expect_err("256").to_string();
        assert!(message.contains("up to 255") && message.contains("below 255"), "{message}");
        let message = find_sentence_model("mini-lm").expect_err("unknown").to_string();
        assert!(message.contains("did you mean `minilm`"), "{message}");
    }
}
