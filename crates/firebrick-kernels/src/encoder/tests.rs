//! Encoders against the reference, at every level of this machine and at vector widths of others.

use super::reference::{self, Rows};
use super::*;
use crate::Activation;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};

/// Deterministic values around 0, so that a failing case can be read and repeated.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        // Splitmix64, by Steele, Lea and Flood.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn take(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }
}

#[derive(Debug, Clone)]
struct Linear {
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl Linear {
    fn new(numbers: &mut Numbers, inputs: usize, outputs: usize) -> Self {
        // Larger than is usual, so that some queries prefer some keys.
        let scale = 2.0 * (3.0 / inputs as f32).sqrt();
        Self {
            weight: numbers.take(outputs * inputs).iter().map(|weight| weight * scale).collect(),
            bias: Some(numbers.take(outputs)),
        }
    }

    fn params(&self) -> LinearParams<'_> {
        LinearParams { weight: &self.weight, bias: self.bias.as_deref() }
    }
}

#[derive(Debug, Clone)]
struct Norm {
    gamma: Vec<f32>,
    beta: Vec<f32>,
    epsilon: f32,
}

impl Norm {
    fn new(numbers: &mut Numbers, width: usize) -> Self {
        let gamma = numbers.take(width).iter().map(|x| 1.0 + 0.3 * x).collect();
        Self { gamma, beta: numbers.take(width), epsilon: 1e-3 }
    }

    fn params(&self) -> LayerNormParams<'_> {
        LayerNormParams { gamma: &self.gamma, beta: &self.beta, epsilon: self.epsilon }
    }
}

#[derive(Debug, Clone)]
struct TestLayer {
    linear: [Linear; 6],
    norms: [Norm; 2],
}

impl TestLayer {
    fn params(&self) -> EncoderLayerParams<'_> {
        let [query, key, value, output, expand, project] = self.linear.each_ref().map(Linear::params);
        let [attention_norm, feed_forward_norm] = self.norms.each_ref().map(Norm::params);
        EncoderLayerParams {
            attention: AttentionParams { query, key, value, output },
            attention_norm,
            expand,
            project,
            feed_forward_norm,
        }
    }
}

/// An encoder both for a plan and for the reference.
#[derive(Debug, Clone)]
struct Encoder {
    config: EncoderConfig,
    layers: Vec<TestLayer>,
    final_norm: Option<Norm>,
    /// Words, positions, types.
    tables: Option<([Vec<f32>; 3], Norm)>,
}

const CONFIG: EncoderConfig = EncoderConfig {
    width: 24,
    heads: 3,
    feed_forward: 40,
    activation: Activation::Gelu,
    order: NormOrder::Post,
    causal: false,
};

const VOCABULARY: usize = 11;
const POSITIONS: usize = 30;

impl Encoder {
    fn new(config: EncoderConfig, layers: usize) -> Self {
        let mut numbers = Numbers(9);
        let EncoderConfig { width, feed_forward, .. } = config;
        let mut layer = || {
            let numbers = &mut numbers;
            let sizes = [(width, width); 4].into_iter().chain([(width, feed_forward), (feed_forward, width)]);
            let linear: Vec<_> =
                sizes.map(|(inputs, outputs)| Linear::new(numbers, inputs, outputs)).collect();
            TestLayer {
                linear: linear.try_into().unwrap(),
                norms: [Norm::new(numbers, width), Norm::new(numbers, width)],
            }
        };
        let layers = (0..layers).map(|_| layer()).collect();
        let final_norm = (config.order == NormOrder::Pre).then(|| Norm::new(&mut numbers, width));
        Self { config, layers, final_norm, tables: None }
    }

    fn with_embeddings(mut self) -> Self {
        let mut numbers = Numbers(10);
        let width = self.config.width;
        let tables = [VOCABULARY, POSITIONS, 2].map(|rows| numbers.take(rows * width));
        self.tables = Some((tables, Norm::new(&mut numbers, width)));
        self
    }

    fn embedding_params(&self) -> Option<EmbeddingParams<'_>> {
        let ([words, positions, types], norm) = self.tables.as_ref()?;
        Some(EmbeddingParams { words, positions, types: Some(types), norm: Some(norm.params()) })
    }

    fn builder(&self) -> EncoderPlanBuilder {
        let mut builder = EncoderPlanBuilder::new(self.config);
        if let Some(embedding) = self.embedding_params() {
            builder = builder.embeddings(&embedding);
        }
        for layer in &self.layers {
            builder = builder.layer(&layer.params());
        }
        if let Some(norm) = &self.final_norm {
            builder = builder.final_norm(&norm.params());
        }
        builder
    }

    /// The plan at each level of this machine, and at the widths of the others.
    fn plans(&self) -> Vec<(String, EncoderPlan)> {
        let levels = SimdLevel::available().into_iter();
        let mut plans: Vec<_> =
            levels.map(|level| (level.to_string(), self.builder().level(level).build().unwrap())).collect();
        plans.push(("1 lane".to_owned(), self.builder().build_scalar::<1>().unwrap()));
        plans.push(("4 lanes".to_owned(), self.builder().build_scalar::<4>().unwrap()));
        plans.push(("16 lanes".to_owned(), self.builder().build_scalar::<16>().unwrap()));
        plans
    }

    /// The result for one sequence of a batch.
    fn reference(&self, batch: &EncoderBatch<'_>, sequence: usize) -> Vec<f64> {
        let tokens = batch.tokens;
        let part = sequence * tokens..(sequence + 1) * tokens;
        let input: Rows = match batch.input {
            EncoderInput::Hidden(hidden) => hidden
                .chunks(self.config.width)
                .skip(part.start)
                .take(tokens)
                .map(|row| row.iter().map(|&x| f64::from(x)).collect())
                .collect(),
            EncoderInput::Tokens { ids, types } => {
                let types = types.map(|types| &types[part.clone()]);
                let params = self.embedding_params().unwrap();
                reference::embed(&params, self.config.width, &ids[part.clone()], types)
            }
        };
        let keep: Vec<bool> = match batch.mask {
            KeyMask::None => vec![true; tokens],
            KeyMask::Lengths(lengths) => (0..tokens).map(|token| token < lengths[sequence]).collect(),
            KeyMask::Tokens(keep) => keep[part].to_vec(),
        };
        let mut hidden = self
            .layers
            .iter()
            .fold(input, |input, layer| reference::layer(&self.config, &layer.params(), &input, &keep));
        if let Some(norm) = &self.final_norm {
            hidden = reference::norm(&norm.params(), &hidden);
        }
        hidden.into_iter().flatten().collect()
    }

    /// Compares every plan with the reference, and its results for any threads and batches with each other.
    fn check(&self, batch: &EncoderBatch<'_>) -> Result<(), String> {
        let expected: Vec<f64> =
            (0..batch.batch).flat_map(|sequence| self.reference(batch, sequence)).collect();
        for (name, plan) in self.plans() {
            let [first, others @ ..] =
                [1, 2, 3].map(|threads| on_threads(threads, || plan.run(batch).unwrap()));
            if first.len() != expected.len() {
                return Err(format!("{name}: {} values instead of {}", first.len(), expected.len()));
            }
            for (index, (&actual, &expected)) in first.iter().zip(&expected).enumerate() {
                let error = (f64::from(actual) - expected).abs();
                // A value that is not a number is not near.
                let near = error <= 5e-4 * (1.0 + expected.abs());
                if !near {
                    return Err(format!("{name}: value {index} is {actual}, the reference says {expected}"));
                }
            }
            if others.iter().any(|other| bits(other) != bits(&first)) {
                return Err(format!("{name}: the result depends on the threads"));
            }
            let alone: Vec<f32> =
                (0..batch.batch).flat_map(|sequence| plan.run(&one_of(batch, sequence)).unwrap()).collect();
            if bits(&alone) != bits(&first) {
                return Err(format!("{name}: the result depends on the batch"));
            }
        }
        Ok(())
    }

    /// As [`check`](Self::check), on random hidden states.
    fn check_hidden(&self, batch: usize, tokens: usize, mask: KeyMask<'_>) -> Result<(), String> {
        let hidden = Numbers(7).take(batch * tokens * self.config.width);
        self.check(&EncoderBatch { input: EncoderInput::Hidden(&hidden), batch, tokens, mask })
    }
}

/// One sequence of a batch as a batch of its own.
fn one_of<'a>(batch: &EncoderBatch<'a>, sequence: usize) -> EncoderBatch<'a> {
    fn part<T>(values: &[T], of: usize, sequence: usize) -> &[T] {
        let len = values.len() / of;
        &values[sequence * len..][..len]
    }
    let of = batch.batch;
    let input = match batch.input {
        EncoderInput::Hidden(hidden) => EncoderInput::Hidden(part(hidden, of, sequence)),
        EncoderInput::Tokens { ids, types } => EncoderInput::Tokens {
            ids: part(ids, of, sequence),
            types: types.map(|types| part(types, of, sequence)),
        },
    };
    let mask = match batch.mask {
        KeyMask::None => KeyMask::None,
        KeyMask::Lengths(lengths) => KeyMask::Lengths(part(lengths, of, sequence)),
        KeyMask::Tokens(keep) => KeyMask::Tokens(part(keep, of, sequence)),
    };
    EncoderBatch { input, batch: 1, tokens: batch.tokens, mask }
}

fn on_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn agrees_with_the_reference_for_any_length_of_sequence() {
    let encoder = Encoder::new(CONFIG, 2);
    // Around the tiles of 36 queries and 128 keys, and the blocks of 240 tokens.
    for tokens in [1, 2, 15, 16, 17, 35, 36, 37, 127, 128, 129, 150, 241, 300] {
        let batch = if tokens < 100 { 3 } else { 1 };
        encoder
            .check_hidden(batch, tokens, KeyMask::None)
            .unwrap_or_else(|error| panic!("{tokens} tokens: {error}"));
    }
}

#[test]
fn agrees_with_the_reference_for_any_width_of_heads() {
    for (width, heads, feed_forward) in [
        (1, 1, 1),
        (2, 2, 3),
        (5, 5, 7),
        (6, 1, 13),
        (15, 3, 50),
        (48, 1, 16),
        (64, 4, 33),
        (80, 2, 80),
        (66, 2, 9),
    ] {
        for order in [NormOrder::Post, NormOrder::Pre] {
            let config = EncoderConfig { width, heads, feed_forward, order, ..CONFIG };
            Encoder::new(config, 2)
                .check_hidden(2, 19, KeyMask::None)
                .unwrap_or_else(|error| panic!("{config:?}: {error}"));
        }
    }
}

#[test]
fn looks_at_nothing_behind_the_lengths() {
    for causal in [false, true] {
        let encoder = Encoder::new(EncoderConfig { causal, ..CONFIG }, 2);
        for (tokens, lengths) in [(7, [7, 1, 0]), (40, [16, 33, 40]), (140, [128, 129, 5])] {
            encoder
                .check_hidden(3, tokens, KeyMask::Lengths(&lengths))
                .unwrap_or_else(|error| panic!("causal {causal}, {tokens} tokens: {error}"));
        }
    }
}

#[test]
fn looks_at_nothing_that_is_masked() {
    for causal in [false, true] {
        let encoder = Encoder::new(EncoderConfig { causal, ..CONFIG }, 2);
        for tokens in [1, 20, 140, 280] {
            let mut numbers = Numbers(tokens as u64);
            let mut keep: Vec<bool> = numbers.take(3 * tokens).iter().map(|&x| x > 0.0).collect();
            // A sequence without any token, and one in which a whole tile of keys is masked.
            keep[tokens..2 * tokens].fill(false);
            keep[2 * tokens..2 * tokens + 128.min(tokens)].fill(false);
            encoder
                .check_hidden(3, tokens, KeyMask::Tokens(&keep))
                .unwrap_or_else(|error| panic!("causal {causal}, {tokens} tokens: {error}"));
        }
    }
}

#[test]
fn lengths_and_tokens_say_the_same_of_a_mask_without_holes() {
    let plan = Encoder::new(CONFIG, 1).builder().build().unwrap();
    let hidden = Numbers(1).take(2 * 9 * CONFIG.width);
    let keep: Vec<bool> = [[true; 9], [true, true, true, false, false, false, false, false, false]].concat();
    let run = |mask| {
        let input = EncoderInput::Hidden(&hidden);
        bits(&plan.run(&EncoderBatch { input, batch: 2, tokens: 9, mask }).unwrap())
    };
    assert_eq!(run(KeyMask::Tokens(&keep)), run(KeyMask::Lengths(&[9, 3])));
    assert_ne!(run(KeyMask::Tokens(&keep)), run(KeyMask::None));
}

#[test]
fn a_causal_encoder_does_not_look_ahead() {
    let encoder = Encoder::new(EncoderConfig { causal: true, order: NormOrder::Pre, ..CONFIG }, 3);
    for tokens in [1, 36, 130] {
        encoder.check_hidden(2, tokens, KeyMask::None).unwrap();
    }
    let plan = encoder.builder().build().unwrap();
    let mut hidden = Numbers(1).take(50 * CONFIG.width);
    let run = |hidden: &[f32]| {
        let input = EncoderInput::Hidden(hidden);
        plan.run(&EncoderBatch { input, batch: 1, tokens: 50, mask: KeyMask::None }).unwrap()
    };
    let before = run(&hidden);
    hidden[49 * CONFIG.width..].fill(3.0);
    let after = run(&hidden);
    assert_eq!(bits(&before[..49 * CONFIG.width]), bits(&after[..49 * CONFIG.width]));
    assert_ne!(bits(&before[49 * CONFIG.width..]), bits(&after[49 * CONFIG.width..]));
}

#[test]
fn weighs_scores_of_any_size() {
    // Scores of several thousand: a softmax without its largest score taken off would overflow.
    let mut encoder = Encoder::new(CONFIG, 1);
    for linear in &mut encoder.layers[0].linear[..2] {
        linear.weight.iter_mut().for_each(|weight| *weight *= 50.0);
    }
    let hidden = Numbers(7).take(150 * CONFIG.width);
    let batch =
        EncoderBatch { input: EncoderInput::Hidden(&hidden), batch: 1, tokens: 150, mask: KeyMask::None };
    for (name, plan) in encoder.plans() {
        let result = plan.run(&batch).unwrap();
        assert!(result.iter().all(|value| value.is_finite()), "{name}");
    }
}

#[test]
fn embeds_tokens() {
    let encoder = Encoder::new(CONFIG, 2).with_embeddings();
    for tokens in [1, 5, POSITIONS] {
        let ids: Vec<i64> = (0..3 * tokens).map(|i| (i * 7 % VOCABULARY) as i64).collect();
        let kinds: Vec<i64> = (0..3 * tokens).map(|i| i64::from(i % 3 == 0)).collect();
        for types in [None, Some(&kinds[..])] {
            let input = EncoderInput::Tokens { ids: &ids, types };
            encoder.check(&EncoderBatch { input, batch: 3, tokens, mask: KeyMask::None }).unwrap();
        }
    }
}

#[test]
fn applies_each_activation() {
    for activation in [Activation::None, Activation::Relu, Activation::Silu, Activation::Gelu] {
        let config = EncoderConfig { activation, ..CONFIG };
        Encoder::new(config, 1).check_hidden(2, 6, KeyMask::None).unwrap();
    }
}

#[test]
fn takes_missing_biases_as_zero() {
    let mut encoder = Encoder::new(CONFIG, 2);
    for layer in &mut encoder.layers {
        layer.linear.iter_mut().for_each(|linear| linear.bias = None);
    }
    encoder.check_hidden(2, 6, KeyMask::None).unwrap();
}

#[test]
fn gives_the_same_result_when_memory_is_used_again() {
    let plan = Encoder::new(CONFIG, 2).builder().build().unwrap();
    let run = |seed, tokens, mask| {
        let hidden = Numbers(seed).take(2 * tokens * CONFIG.width);
        let input = EncoderInput::Hidden(&hidden);
        bits(&plan.run(&EncoderBatch { input, batch: 2, tokens, mask }).unwrap())
    };
    plan.reserve(2, 40);
    let first = run(1, 17, KeyMask::Lengths(&[17, 4]));
    run(2, 140, KeyMask::None);
    assert_eq!(run(1, 17, KeyMask::Lengths(&[17, 4])), first);

    let hidden = Numbers(1).take(2 * 17 * CONFIG.width);
    let mask = KeyMask::Lengths(&[17, 4]);
    let batch = EncoderBatch { input: EncoderInput::Hidden(&hidden), batch: 2, tokens: 17, mask };
    let mut into = vec![f32::NAN; hidden.len()];
    plan.run_into(&batch, &mut into).unwrap();
    assert_eq!(bits(&into), first);
}

#[test]
fn can_be_used_from_many_threads_at_once() {
    let plan = Encoder::new(CONFIG, 2).builder().build().unwrap();
    let hidden = Numbers(1).take(3 * 20 * CONFIG.width);
    let run = || {
        let input = EncoderInput::Hidden(&hidden);
        bits(&plan.run(&EncoderBatch { input, batch: 3, tokens: 20, mask: KeyMask::None }).unwrap())
    };
    let expected = run();
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
        for run in runs {
            assert_eq!(run.join().unwrap(), expected);
        }
    });
}

#[test]
fn accepts_batches_without_tokens() {
    let plan = Encoder::new(CONFIG, 1).builder().build().unwrap();
    for (batch, tokens) in [(0, 5), (5, 0), (0, 0)] {
        let mask = KeyMask::Tokens(&[]);
        let batch = EncoderBatch { input: EncoderInput::Hidden(&[]), batch, tokens, mask };
        assert!(plan.run(&batch).unwrap().is_empty());
    }
}

#[test]
fn counts_multiply_adds() {
    let plan = Encoder::new(CONFIG, 2).builder().build().unwrap();
    let linear = 4 * 24 * 24 + 2 * 24 * 40;
    let attention = 2 * 10 * 24;
    assert_eq!(plan.multiply_adds(10), 2 * 10 * (linear + attention));
    assert_eq!((plan.layers(), plan.config()), (2, CONFIG));
}

#[test]
fn refuses_impossible_sizes() {
    let refused = |config| EncoderPlanBuilder::new(config).build().unwrap_err().to_string();
    let heads = refused(EncoderConfig { heads: 5, ..CONFIG });
    assert!(heads.contains("5 heads do not divide a width of 24"), "{heads}");
    for config in [
        EncoderConfig { width: 0, ..CONFIG },
        EncoderConfig { heads: 0, ..CONFIG },
        EncoderConfig { feed_forward: 0, ..CONFIG },
        EncoderConfig { feed_forward: usize::MAX, ..CONFIG },
    ] {
        assert!(refused(config).contains("feed-forward width"), "{config:?}");
    }
    assert!(refused(CONFIG).contains("at least one layer"));
}

#[test]
fn names_the_parameter_of_the_wrong_length() {
    let mut encoder = Encoder::new(CONFIG, 2).with_embeddings();
    encoder.layers[1].linear[4].weight.pop();
    // The embeddings are part 0.
    let error = encoder.builder().build().unwrap_err().to_string();
    assert_eq!(error, "layer 2: expand weight holds 959 values, its shape [40, 24] needs 960");

    let mut encoder = Encoder::new(CONFIG, 1).with_embeddings();
    encoder.tables.as_mut().unwrap().0[0].pop();
    let error = encoder.builder().build().unwrap_err().to_string();
    assert!(error.contains("word embeddings holds 263 values"), "{error}");
    encoder.tables.as_mut().unwrap().0[0].clear();
    assert!(encoder.builder().build().is_err());
}

#[test]
fn refuses_inputs_that_do_not_fit() {
    let hidden = Encoder::new(CONFIG, 1).builder().build().unwrap();
    let words = Encoder::new(CONFIG, 1).with_embeddings().builder().build().unwrap();
    let none = KeyMask::None;
    let refused = |plan: &EncoderPlan, input, tokens, mask| {
        plan.run(&EncoderBatch { input, batch: 2, tokens, mask }).unwrap_err()
    };
    let ids = |ids| EncoderInput::Tokens { ids, types: None };
    assert_eq!(
        refused(&words, ids(&[0, 1, 2, 11]), 2, none),
        KernelError::TokenOutsideVocabulary { sequence: 1, token: 1, id: 11, vocabulary: 11 }
    );
    let negative = refused(&words, ids(&[0, -3, 2, 3]), 2, none).to_string();
    assert_eq!(negative, "sequence 0, token 1: id -3 is not in the vocabulary of 11 words (0 to 10)");
    let types = EncoderInput::Tokens { ids: &[0; 4], types: Some(&[0, 1, 2, 0]) };
    assert_eq!(
        refused(&words, types, 2, none),
        KernelError::TokenTypeOutside { sequence: 1, token: 0, id: 2, types: 2 }
    );
    assert_eq!(
        refused(&words, ids(&[0; 62]), 31, none),
        KernelError::SequenceTooLong { tokens: 31, positions: 30 }
    );
    assert!(
        refused(&words, ids(&[0; 5]), 2, none).to_string().contains("token ids: 5 values are not [2, 2]")
    );
    assert!(matches!(refused(&hidden, ids(&[0; 4]), 2, none), KernelError::InputKind { .. }));
    let zeros = vec![0.0; 2 * 2 * 24];
    let states = EncoderInput::Hidden(&zeros);
    assert!(matches!(refused(&words, states, 2, none), KernelError::InputKind { .. }));
    assert!(matches!(refused(&hidden, states, 3, none), KernelError::InputLength { .. }));
    assert!(matches!(refused(&hidden, states, usize::MAX, none), KernelError::InputLength { .. }));
    assert!(matches!(
        refused(&hidden, states, 2, KeyMask::Tokens(&[true; 3])),
        KernelError::InputLength { .. }
    ));
    assert_eq!(
        refused(&hidden, states, 2, KeyMask::Lengths(&[2, 3])),
        KernelError::MaskLength { sequence: 1, length: 3, tokens: 2 }
    );
    let batch = EncoderBatch { input: states, batch: 2, tokens: 2, mask: none };
    assert!(matches!(hidden.run_into(&batch, &mut [0.0; 5]), Err(KernelError::InputLength { .. })));
}

#[test]
fn gives_nothing_for_sequences_without_tokens_however_many() {
    let words = Encoder::new(CONFIG, 1).with_embeddings().builder().build().unwrap();
    let input = EncoderInput::Tokens { ids: &[], types: None };
    let batch = EncoderBatch { input, batch: usize::MAX, tokens: 0, mask: KeyMask::None };
    assert_eq!(words.run(&batch).unwrap(), []);
    words.run_into(&batch, &mut []).unwrap();
}

/// `PROPTEST_CASES` asks for a longer run.
fn config() -> Config {
    let asked = Config::default();
    let cases = std::env::var_os("PROPTEST_CASES").map_or(32, |_| asked.cases);
    Config { cases, failure_persistence: None, ..asked }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn agrees_with_the_reference_for_any_encoder(
        (heads, head_width, feed_forward) in (1..5usize, 1..36usize, 1..70usize),
        (pre, causal) in any::<(bool, bool)>(),
        (batch, tokens) in (1..4usize, 1..60usize),
        mask in 0..3usize,
        seed in any::<u64>(),
    ) {
        // LayerNorm of two values is the sign of their difference: where they are nearly equal, no f32 knows it.
        prop_assume!(heads * head_width > 2);
        let order = if pre { NormOrder::Pre } else { NormOrder::Post };
        let config =
            EncoderConfig { width: heads * head_width, heads, feed_forward, activation: Activation::Gelu, order, causal };
        let mut numbers = Numbers(seed);
        let lengths: Vec<usize> =
            numbers.take(batch).iter().map(|x| (((x + 1.0) / 2.0 * tokens as f32) as usize).min(tokens)).collect();
        let keep: Vec<bool> = numbers.take(batch * tokens).iter().map(|&x| x > -0.5).collect();
        let mask = [KeyMask::None, KeyMask::Lengths(&lengths), KeyMask::Tokens(&keep)][mask];
        Encoder::new(config, 1).check_hidden(batch, tokens, mask).map_err(TestCaseError::fail)?;
    }
}
