//! The table of sequence models: sizes as published, and what each costs, from its settings alone. Nothing is allocated, so that 175
//! billion parameters are counted as fast as 22 million.

use firebrick_nn::LayerSummary;

use crate::spec::unknown_model;
use crate::{BertConfig, GptConfig, NormPlaces, TransformerConfig, ZooError};

/// A sequence model of a published size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SequenceSpec {
    /// Name by which it is asked for.
    pub name: &'static str,
    /// What it is, with its settings.
    pub architecture: SequenceArchitecture,
    /// Where it was published.
    pub paper: &'static str,
    /// Learned parameters; a table that serves twice is counted once.
    pub parameters: u64,
}

/// An architecture and its settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SequenceArchitecture {
    /// [`crate::BertEncoder`].
    Bert(BertConfig),
    /// [`crate::Gpt`].
    Gpt(GptConfig),
    /// [`crate::Transformer`].
    Transformer(TransformerConfig),
}

impl SequenceSpec {
    /// Bytes of the weights alone in single precision.
    pub fn f32_bytes(&self) -> u64 {
        4 * self.parameters
    }

    /// Bytes of the weights alone in half precision.
    pub fn f16_bytes(&self) -> u64 {
        2 * self.parameters
    }

    /// The most tokens of a sequence.
    pub fn context(&self) -> usize {
        match self.architecture {
            SequenceArchitecture::Bert(config) => config.positions,
            SequenceArchitecture::Gpt(config) => config.context,
            SequenceArchitecture::Transformer(config) => config.context,
        }
    }

    /// Floating-point operations of a forward pass for each token of a sequence of so many, two for a multiply-add; a training step takes about
    /// three times as many. Of an encoder-decoder a token is one of the source and one of the target.
    pub fn flops_per_token(&self, tokens: usize) -> u64 {
        let multiply_adds =
            self.summarize(tokens).iter().map(|row| row.multiply_adds).fold(0, u64::saturating_add);
        multiply_adds.saturating_mul(2) / tokens.max(1) as u64
    }

    /// A row a layer for one sequence of so many tokens; of an encoder-decoder for a source and a target of so many.
    pub fn summarize(&self, tokens: usize) -> Vec<LayerSummary> {
        match &self.architecture {
            SequenceArchitecture::Bert(config) => config.summarize(tokens),
            SequenceArchitecture::Gpt(config) => config.summarize(tokens),
            SequenceArchitecture::Transformer(config) => config.summarize(tokens),
        }
    }
}

const ATTENTION: &str = "Vaswani et al. 2017, arXiv:1706.03762";
const BERT: &str = "Devlin et al. 2019, arXiv:1810.04805";
const MINI_LM: &str = "Wang et al. 2020, arXiv:2002.10957";
const GPT_2: &str = "Radford et al. 2019, Language Models are Unsupervised Multitask Learners";
const GPT_3: &str = "Brown et al. 2020, arXiv:2005.14165";

const fn bert(name: &'static str, paper: &'static str, config: BertConfig, parameters: u64) -> SequenceSpec {
    SequenceSpec { name, architecture: SequenceArchitecture::Bert(config), paper, parameters }
}

const fn gpt(name: &'static str, paper: &'static str, config: GptConfig, parameters: u64) -> SequenceSpec {
    SequenceSpec { name, architecture: SequenceArchitecture::Gpt(config), paper, parameters }
}

const fn transformer(name: &'static str, config: TransformerConfig, parameters: u64) -> SequenceSpec {
    let architecture = SequenceArchitecture::Transformer(config);
    SequenceSpec { name, architecture, paper: ATTENTION, parameters }
}

/// GPT-3's are those of its table 2.1, but for two that do not add up there: XL, with 24 heads of 128 printed for a width of 2,048, has 16, and
/// 13B, with 40 heads of 128 printed for a width of 5,140, is 5,120 wide.
static MODELS: &[SequenceSpec] = &[
    transformer("transformer_base", TransformerConfig::BASE, 63_082_496),
    transformer("transformer_big", TransformerConfig::BIG, 214_245_376),
    bert("minilm_l6", MINI_LM, BertConfig::MINI_LM_L6, 22_713_216),
    bert("bert_base", BERT, BertConfig::BASE, 109_482_240),
    bert("bert_large", BERT, BertConfig::LARGE, 335_141_888),
    gpt("gpt2", GPT_2, GptConfig::GPT2, 124_439_808),
    gpt("gpt2_medium", GPT_2, GptConfig::GPT2_MEDIUM, 354_823_168),
    gpt("gpt2_large", GPT_2, GptConfig::GPT2_LARGE, 774_030_080),
    gpt("gpt2_xl", GPT_2, GptConfig::GPT2_XL, 1_557_611_200),
    gpt("gpt3_small", GPT_3, GptConfig::gpt3(768, 12, 12), 125_226_240),
    gpt("gpt3_medium", GPT_3, GptConfig::gpt3(1024, 24, 16), 355_871_744),
    gpt("gpt3_large", GPT_3, GptConfig::gpt3(1536, 24, 16), 760_300_032),
    gpt("gpt3_xl", GPT_3, GptConfig::gpt3(2048, 24, 16), 1_315_723_264),
    gpt("gpt3_2.7b", GPT_3, GptConfig::gpt3(2560, 32, 32), 2_651_553_280),
    gpt("gpt3_6.7b", GPT_3, GptConfig::gpt3(4096, 32, 32), 6_658_404_352),
    gpt("gpt3_13b", GPT_3, GptConfig::gpt3(5120, 40, 40), 12_853_386_240),
    gpt("gpt3_175b", GPT_3, GptConfig::gpt3(12288, 96, 96), 174_604_259_328),
];

/// Every sequence model of the zoo.
pub fn sequence_models() -> &'static [SequenceSpec] {
    MODELS
}

/// The sequence model of this name.
///
/// # Errors
///
/// [`ZooError::UnknownModel`], with the nearest names if any are near.
pub fn find_sequence(name: &str) -> Result<&'static SequenceSpec, ZooError> {
    MODELS.iter().find(|spec| spec.name == name).ok_or_else(|| unknown_model(name))
}

/// The rows of a model that is `width` wide, for sequences of `tokens`.
struct Rows {
    rows: Vec<LayerSummary>,
    tokens: usize,
    width: usize,
}

/// Saturates, since settings may come from a file.
fn product(sizes: &[usize]) -> u64 {
    sizes.iter().fold(1, |product, &size| product.saturating_mul(size as u64))
}

impl Rows {
    fn new(tokens: usize, width: usize) -> Self {
        Self { rows: Vec::new(), tokens, width }
    }

    fn add(&mut self, name: String, kind: String, output: usize, parameters: u64, multiply_adds: u64) {
        let output = vec![self.tokens, output];
        self.rows.push(LayerSummary { name, kind, output, parameters, multiply_adds });
    }

    fn table(&mut self, name: &str, rows: usize) {
        let width = self.width;
        self.add(name.to_owned(), format!("Embedding {rows} x {width}"), width, product(&[rows, width]), 0);
    }

    fn norm(&mut self, name: String) {
        self.add(name, "LayerNorm".to_owned(), self.width, product(&[2, self.width]), 0);
    }

    fn linear(&mut self, name: String, inputs: usize, outputs: usize, rest: &str) {
        let parameters = product(&[inputs, outputs]).saturating_add(outputs as u64);
        let kind = format!("Linear {inputs} -> {outputs}{rest}");
        self.add(name, kind, outputs, parameters, product(&[self.tokens, inputs, outputs]));
    }

    /// Scores and their sums of values: of each token with each, masked or not.
    fn attention(&mut self, name: String, heads: usize) {
        let multiply_adds = product(&[2, self.tokens, self.tokens, self.width]);
        self.add(name, format!("attention, {heads} heads"), self.width, 0, multiply_adds);
    }

    /// Four linear layers and the attention between them.
    fn multi_head(&mut self, path: &str, heads: usize) {
        for part in ["query", "key", "value"] {
            self.linear(format!("{path}{part}"), self.width, self.width, "");
        }
        self.attention(format!("{path}scores"), heads);
        self.linear(format!("{path}output"), self.width, self.width, "");
    }

    fn feed_forward(&mut self, path: &str, wide: usize, activation: &str) {
        self.linear(format!("{path}expand"), self.width, wide, &format!(" + {activation}"));
        self.linear(format!("{path}project"), wide, self.width, "");
    }
}

impl GptConfig {
    /// A row a layer for one sequence of so many tokens, without making the model.
    pub fn summarize(&self, tokens: usize) -> Vec<LayerSummary> {
        let width = self.width;
        let mut rows = Rows::new(tokens, width);
        rows.table("tokens", self.vocabulary);
        rows.table("positions", self.context);
        for index in 0..self.layers {
            let path = format!("blocks.{index}.");
            rows.norm(format!("{path}attention_norm"));
            rows.linear(format!("{path}attention"), width, 3 * width, "");
            rows.attention(format!("{path}scores"), self.heads);
            rows.linear(format!("{path}output"), width, width, "");
            rows.norm(format!("{path}feed_forward_norm"));
            rows.feed_forward(&path, self.feed_forward, "gelu_tanh");
        }
        rows.norm("norm".to_owned());
        let own = if self.tied { 0 } else { product(&[width, self.vocabulary]) };
        let kind = format!("Linear {width} -> {}{}", self.vocabulary, if self.tied { ", tied" } else { "" });
        rows.add("head".to_owned(), kind, self.vocabulary, own, product(&[tokens, width, self.vocabulary]));
        rows.rows
    }
}

impl BertConfig {
    /// A row a layer for one sequence of so many tokens, without making the model; with the pooler if there is one, without a head.
    pub fn summarize(&self, tokens: usize) -> Vec<LayerSummary> {
        let mut rows = Rows::new(tokens, self.width);
        for (name, count) in
            [("words", self.vocabulary), ("positions", self.positions), ("types", self.types)]
        {
            rows.table(name, count);
        }
        rows.norm("norm".to_owned());
        for index in 0..self.layers {
            let path = format!("layers.{index}.");
            rows.multi_head(&path, self.heads);
            rows.norm(format!("{path}attention_norm"));
            rows.feed_forward(&path, self.feed_forward, "gelu");
            rows.norm(format!("{path}feed_forward_norm"));
        }
        if self.pooler {
            // Of the first token only.
            rows.tokens = 1;
            rows.linear("pooler".to_owned(), self.width, self.width, " + tanh");
        }
        rows.rows
    }
}

impl TransformerConfig {
    /// A row a layer for a source and a target of so many tokens, without making the model.
    pub fn summarize(&self, tokens: usize) -> Vec<LayerSummary> {
        let mut rows = Rows::new(tokens, self.width);
        let last = self.norms != NormPlaces::After;
        rows.table("source", self.source_vocabulary);
        if !self.shared {
            rows.table("target", self.target_vocabulary);
        }
        for (stack, parts) in
            [("encoder", &["attention"][..]), ("decoder", &["self_attention", "cross_attention"])]
        {
            for index in 0..self.layers {
                let path = format!("{stack}.layers.{index}.");
                for part in parts {
                    rows.multi_head(&format!("{path}{part}."), self.heads);
                }
                rows.feed_forward(&format!("{path}feed_forward."), self.feed_forward, "relu");
                for norm in 1..=parts.len() + 1 {
                    rows.norm(format!("{path}norm_{norm}"));
                }
            }
            if last {
                rows.norm(format!("{stack}.norm"));
            }
        }
        let (width, words) = (self.width, self.target_vocabulary);
        match self.shared {
            true => {
                let kind = format!("Linear {width} -> {words}, tied");
                rows.add("generator".to_owned(), kind, words, 0, product(&[tokens, width, words]));
            }
            false => rows.linear("generator".to_owned(), width, words, ""),
        }
        rows.rows
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use burn::module::Module;
    use burn::tensor::Device;
    use serde::Deserialize;

    use super::*;

    #[allow(deprecated)]
    fn device() -> Device {
        Device::ndarray()
    }

    fn parameters(rows: &[LayerSummary]) -> u64 {
        rows.iter().map(|row| row.parameters).sum()
    }

    #[derive(Deserialize)]
    struct Sizes {
        made_by: String,
        parameters: BTreeMap<String, u64>,
    }

    fn sizes() -> Sizes {
        serde_json::from_str(include_str!("../tests/goldens/sizes.json")).expect("valid JSON")
    }

    #[test]
    fn every_model_has_the_parameters_that_transformers_and_pytorch_count() {
        let Sizes { made_by, parameters: published } = sizes();
        let started = std::time::Instant::now();
        for spec in sequence_models() {
            let counted = parameters(&spec.summarize(spec.context()));
            assert_eq!(counted, spec.parameters, "{}", spec.name);
            assert_eq!(published.get(spec.name), Some(&counted), "{} (goldens: {made_by})", spec.name);
        }
        // Nothing is allocated: the 350 billion parameters of the table take milliseconds.
        assert!(started.elapsed().as_secs() < 2, "{:?}", started.elapsed());
    }

    #[test]
    fn heads_of_bert_have_the_parameters_that_transformers_counts() {
        let published = sizes().parameters;
        for spec in sequence_models() {
            let SequenceArchitecture::Bert(config) = spec.architecture else { continue };
            let expected = |head: &str| published[&format!("{} {head}", spec.name)] as usize;
            let masked = config.init_masked_lm(0, &device()).expect("valid");
            assert_eq!(masked.num_params(), expected("masked"));
            let classifier = config.init_classifier(2, 0, &device()).expect("valid");
            assert_eq!(classifier.num_params(), expected("two classes"));
        }
    }

    #[test]
    fn the_rows_are_those_of_the_model_that_is_made() {
        for (tied, layers) in [(true, 1), (false, 3)] {
            let config = GptConfig {
                vocabulary: 11,
                context: 5,
                feed_forward: 7,
                tied,
                ..GptConfig::gpt2(6, layers, 2)
            };
            let made = config.init(0, &device()).expect("valid").num_params();
            assert_eq!(parameters(&config.summarize(5)), made as u64, "{config:?}");
        }
        let small = BertConfig {
            vocabulary: 11,
            positions: 5,
            width: 6,
            heads: 2,
            feed_forward: 7,
            ..BertConfig::BASE
        };
        for (pooler, layers) in [(true, 1), (false, 2)] {
            let config = BertConfig { pooler, layers, ..small };
            let made = config.init(0, &device()).num_params();
            assert_eq!(parameters(&config.summarize(5)), made as u64, "{config:?}");
        }
        let small =
            TransformerConfig { width: 6, heads: 2, feed_forward: 7, layers: 2, ..TransformerConfig::BASE };
        for norms in [NormPlaces::After, NormPlaces::AfterAndLast, NormPlaces::First] {
            for (shared, target_vocabulary) in [(true, 11), (false, 13)] {
                let config =
                    TransformerConfig { source_vocabulary: 11, target_vocabulary, shared, norms, ..small };
                let made = config.init(0, &device()).expect("valid").num_params();
                assert_eq!(parameters(&config.summarize(5)), made as u64, "{config:?}");
            }
        }
    }

    /// The compiled plan counts its own products.
    #[test]
    fn multiply_adds_are_those_of_the_compiled_plan() {
        let config = BertConfig {
            vocabulary: 11,
            width: 6,
            heads: 2,
            feed_forward: 7,
            layers: 2,
            pooler: false,
            ..BertConfig::BASE
        };
        let frozen = config.init(0, &device()).compile().expect("compiled");
        for tokens in [1, 9] {
            let rows = config.summarize(tokens);
            let counted: u64 = rows.iter().map(|row| row.multiply_adds).sum();
            assert_eq!(counted, frozen.plan().expect("on the CPU").multiply_adds(tokens));
        }
    }

    /// Two operations a parameter and token, as Brown et al. reckon in their appendix D, where attention adds little; and memory.
    #[test]
    fn the_largest_costs_what_its_paper_says() {
        let spec = find_sequence("gpt3_175b").expect("in the table");
        let ratio = spec.flops_per_token(2048) as f64 / (2 * spec.parameters) as f64;
        assert!((1.0..1.03).contains(&ratio), "{ratio}");
        assert_eq!((spec.f32_bytes(), spec.f16_bytes()), (698_417_037_312, 349_208_518_656));
        assert_eq!(spec.summarize(2048).len(), 2 + 96 * 7 + 2);
    }

    #[test]
    fn a_misspelt_name_is_told_its_neighbour() {
        let message = find_sequence("gpt3_175").expect_err("misspelt").to_string();
        assert!(message.contains("did you mean `gpt3_175b`"), "{message}");
    }

    #[test]
    fn settings_from_a_file_cannot_overflow_the_count() {
        let most = 1 << 24;
        let config = GptConfig { layers: 2, heads: 1, ..GptConfig::gpt2(most, 1, 1) };
        assert!(config.summarize(most).iter().any(|row| row.multiply_adds == u64::MAX));
    }
}
