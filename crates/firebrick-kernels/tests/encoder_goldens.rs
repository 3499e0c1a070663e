//! Encoder plans against `torch.nn.TransformerEncoder`: `goldens/encoder.csv`, regenerated with `cargo xtask golden encoder`.

use firebrick_kernels::{
    Activation, AttentionParams, EmbeddingParams, EncoderBatch, EncoderConfig, EncoderInput,
    EncoderLayerParams, EncoderPlanBuilder, KeyMask, LayerNormParams, LinearParams, NormOrder, SimdLevel,
};

const WIDTH: usize = 24;
const FEED_FORWARD: usize = 40;
const BATCH: usize = 2;
const TOKENS: usize = 7;
const VOCABULARY: usize = 13;

/// Part after part of the generator's sequence.
struct Values(u64);

impl Values {
    fn take(&mut self, count: usize, scale: f64, shift: f64) -> Vec<f32> {
        let first = self.0;
        self.0 += count as u64;
        (first..self.0)
            .map(|i| (((i * i + 7919 * i) % 2003) as f64 / 1001.5 - 1.0) * scale + shift)
            .map(|value| value as f32)
            .collect()
    }

    fn linear(&mut self, outputs: usize, inputs: usize) -> [Vec<f32>; 2] {
        [self.take(outputs * inputs, 0.5, 0.0), self.take(outputs, 1.0, 0.0)]
    }

    fn norm(&mut self) -> [Vec<f32>; 2] {
        [self.take(WIDTH, 0.3, 1.0), self.take(WIDTH, 1.0, 0.0)]
    }
}

fn linear([weight, bias]: &[Vec<f32>; 2]) -> LinearParams<'_> {
    LinearParams { weight, bias: Some(bias) }
}

fn norm([gamma, beta]: &[Vec<f32>; 2], epsilon: f32) -> LayerNormParams<'_> {
    LayerNormParams { gamma, beta, epsilon }
}

fn encoder(values: &mut Values, order: NormOrder, causal: bool) -> EncoderPlanBuilder {
    let config = EncoderConfig {
        width: WIDTH,
        heads: 3,
        feed_forward: FEED_FORWARD,
        activation: Activation::Gelu,
        order,
        causal,
    };
    let mut builder = EncoderPlanBuilder::new(config);
    for _ in 0..2 {
        let [query, key, value, output] = [(); 4].map(|()| values.linear(WIDTH, WIDTH));
        let (expand, project) = (values.linear(FEED_FORWARD, WIDTH), values.linear(WIDTH, FEED_FORWARD));
        let [first, second] = [(); 2].map(|()| values.norm());
        builder = builder.layer(&EncoderLayerParams {
            attention: AttentionParams {
                query: linear(&query),
                key: linear(&key),
                value: linear(&value),
                output: linear(&output),
            },
            attention_norm: norm(&first, 1e-5),
            expand: linear(&expand),
            project: linear(&project),
            feed_forward_norm: norm(&second, 1e-5),
        });
    }
    builder
}

fn expected() -> Vec<f32> {
    include_str!("goldens/encoder.csv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.parse().expect("the file holds numbers"))
        .collect()
}

fn compare(level: SimdLevel, actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len());
    for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        let near = (actual - expected).abs() < 2e-5;
        assert!(
            near,
            "{level}: value {index} is {actual}, PyTorch says {expected}; see goldens/generate_encoder.py"
        );
    }
}

#[test]
fn agrees_with_pytorch_on_a_bert_encoder() {
    let expected = &expected()[..BATCH * TOKENS * WIDTH];
    for level in SimdLevel::available() {
        let mut values = Values(0);
        let builder = encoder(&mut values, NormOrder::Post, false);
        let [words, positions, types] =
            [VOCABULARY, TOKENS, 2].map(|rows| values.take(rows * WIDTH, 1.0, 0.0));
        let embedding_norm = values.norm();
        let plan = builder
            .embeddings(&EmbeddingParams {
                words: &words,
                positions: &positions,
                types: Some(&types),
                norm: Some(norm(&embedding_norm, 1e-12)),
            })
            .level(level)
            .build()
            .unwrap();
        let ids: Vec<i64> = (0..BATCH * TOKENS).map(|i| (i * 5 % VOCABULARY) as i64).collect();
        let kinds: Vec<i64> = (0..BATCH * TOKENS).map(|i| (i % 2) as i64).collect();
        let input = EncoderInput::Tokens { ids: &ids, types: Some(&kinds) };
        let mask = KeyMask::Lengths(&[7, 4]);
        let actual = plan.run(&EncoderBatch { input, batch: BATCH, tokens: TOKENS, mask }).unwrap();
        compare(level, &actual, expected);
    }
}

#[test]
fn agrees_with_pytorch_on_a_causal_encoder_with_norms_before() {
    let expected = &expected()[BATCH * TOKENS * WIDTH..];
    for level in SimdLevel::available() {
        let mut values = Values(0);
        let builder = encoder(&mut values, NormOrder::Pre, true);
        let last = values.norm();
        let plan = builder.final_norm(&norm(&last, 1e-5)).level(level).build().unwrap();
        let hidden = values.take(BATCH * TOKENS * WIDTH, 1.0, 0.0);
        let input = EncoderInput::Hidden(&hidden);
        let actual =
            plan.run(&EncoderBatch { input, batch: BATCH, tokens: TOKENS, mask: KeyMask::None }).unwrap();
        compare(level, &actual, expected);
    }
}
