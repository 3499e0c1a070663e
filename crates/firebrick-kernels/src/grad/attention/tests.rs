//! Attention against its definition in f64.

use super::*;
use crate::grad::testing::{assert_close, at_every_level, on_threads, values};

struct Case {
    shape: AttentionShape,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    grad: Vec<f32>,
    bias: Vec<f32>,
    bias_strides: [usize; 3],
    period: usize,
}

impl Case {
    /// Sizes: batch, heads, queries, keys, width, value width.
    fn new(sizes: [usize; 6], causal: bool, bias_strides: [usize; 3]) -> Self {
        let [batch, heads, queries, keys, width, value_width] = sizes;
        let scale = 1.0 / (width as f32).sqrt();
        let of = |tokens: usize, width: usize, seed| values(batch * heads * tokens * width, seed);
        let mut bias = values(batch * heads * queries * keys, 5);
        // A quarter is masked, but for the first key, which everybody sees.
        for (place, bias) in bias.iter_mut().enumerate() {
            if *bias > 1.0 && place % keys != 0 {
                *bias = MASKED;
            }
        }
        Self {
            shape: AttentionShape { batch, heads, queries, keys, width, value_width, scale, causal },
            query: of(queries, width, 1),
            key: of(keys, width, 2),
            value: of(keys, value_width, 3),
            grad: of(queries, value_width, 4),
            bias,
            bias_strides,
            period: batch,
        }
    }

    /// With a bias for so many sequences, again and again.
    fn with_period(self, period: usize) -> Self {
        Self { period, ..self }
    }

    fn bias(&self) -> Option<ScoreBias<'_>> {
        let used = self.bias_strides != [usize::MAX; 3];
        let Self { bias_strides: strides, period, .. } = *self;
        used.then_some(ScoreBias { values: &self.bias, strides, period, learnt: true })
    }

    fn run(&self, level: SimdLevel) -> (Attention, AttentionGradients) {
        let AttentionShape { heads, queries, keys, width, value_width, .. } = self.shape;
        let order = RowOrder::HeadsFirst;
        let tokens = |values, count: usize, width: usize| Tokens {
            values,
            strides: order.strides(heads, count, width),
        };
        let query = tokens(&self.query, queries, width);
        let (key, value) = (tokens(&self.key, keys, width), tokens(&self.value, keys, value_width));
        let forward = attention(level, self.shape, query, key, value, self.bias(), order);
        let output = tokens(&forward.output, queries, value_width);
        let result = AttentionResult { output, logsumexp: &forward.logsumexp };
        let grad = tokens(&self.grad, queries, value_width);
        let back =
            attention_backward(level, self.shape, grad, query, key, value, self.bias(), result, [order; 2]);
        (forward, back)
    }

    /// The definition and its derivative, in f64: output, and the gradients of queries, keys, values and bias.
    fn reference(&self) -> [Vec<f64>; 5] {
        let AttentionShape { batch, heads, queries, keys, width, value_width, scale, causal } = self.shape;
        let f = |values: &[f32], row: usize, width: usize, i: usize| f64::from(values[row * width + i]);
        let mut output = vec![0.0; self.grad.len()];
        let mut dq = vec![0.0; self.query.len()];
        let mut dk = vec![0.0; self.key.len()];
        let mut dv = vec![0.0; self.value.len()];
        let mut db = vec![0.0; self.period * heads * queries * keys];
        for head in 0..batch * heads {
            for i in 0..queries {
                let q = head * queries + i;
                let last = if causal { keys.min(i + 1) } else { keys };
                let score = |j: usize| {
                    let k = head * keys + j;
                    let dot: f64 =
                        (0..width).map(|w| f(&self.query, q, width, w) * f(&self.key, k, width, w)).sum();
                    let bias = self.bias().map_or(0.0, |bias| {
                        let [b, h, r] = bias.strides;
                        f64::from(bias.values[head / heads % self.period * b + head % heads * h + i * r + j])
                    });
                    dot * f64::from(scale) + bias
                };
                let scores: Vec<f64> = (0..last).map(score).collect();
                let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = scores.iter().map(|s| (s - most).exp()).sum();
                let p: Vec<f64> = scores.iter().map(|s| (s - most).exp() / sum).collect();
                let dp: Vec<f64> = (0..last)
                    .map(|j| {
                        (0..value_width)
                            .map(|w| {
                                f(&self.grad, q, value_width, w)
                                    * f(&self.value, head * keys + j, value_width, w)
                            })
                            .sum()
                    })
                    .collect();
                let mean: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
                for j in 0..last {
                    let k = head * keys + j;
                    for w in 0..value_width {
                        output[q * value_width + w] += p[j] * f(&self.value, k, value_width, w);
                        dv[k * value_width + w] += p[j] * f(&self.grad, q, value_width, w);
                    }
                    let ds = p[j] * (dp[j] - mean);
                    let sequence = head / heads % self.period;
                    db[((sequence * heads + head % heads) * queries + i) * keys + j] += ds;
                    let ds = ds * f64::from(scale);
                    for w in 0..width {
                        dq[q * width + w] += ds * f(&self.key, k, width, w);
                        dk[k * width + w] += ds * f(&self.query, q, width, w);
                    }
                }
            }
        }
        [output, dq, dk, dv, db]
    }
}

const NO_BIAS: [usize; 3] = [usize::MAX; 3];

#[test]
fn equals_the_definition_at_every_level() {
    let cases = [
        Case::new([1, 1, 1, 1, 1, 1], false, NO_BIAS),
        Case::new([2, 3, 5, 7, 4, 4], false, NO_BIAS),
        Case::new([1, 2, 70, 131, 17, 9], false, NO_BIAS),
        Case::new([1, 2, 130, 130, 32, 32], true, NO_BIAS),
        // Keys of several tiles.
        Case::new([1, 2, 70, 601, 17, 9], false, NO_BIAS),
        Case::new([1, 1, 290, 290, 8, 8], true, NO_BIAS),
        Case::new([2, 1, 5, 270, 4, 6], false, [5 * 270, 5 * 270, 270]),
        Case::new([1, 1, 9, 100, 8, 40], true, NO_BIAS),
        Case::new([1, 1, 100, 9, 8, 8], true, NO_BIAS),
        Case::new([2, 2, 66, 65, 5, 6], false, [2 * 66 * 65, 66 * 65, 65]),
        Case::new([2, 2, 66, 66, 5, 6], true, [66, 0, 0]),
        // Windows of images: a bias each, and one for all.
        Case::new([6, 3, 9, 9, 4, 4], false, [3 * 81, 81, 9]).with_period(2),
        Case::new([4, 2, 70, 65, 3, 5], true, [0, 70 * 65, 65]).with_period(1),
    ];
    at_every_level(|level| {
        for case in &cases {
            let [output, query, key, value, bias] = case.reference();
            let (forward, back) = case.run(level);
            let what = format!("{level}, {:?}", case.shape);
            assert_close(&forward.output, &output, 5e-6, &what);
            assert_close(&back.query, &query, 2e-5, &what);
            assert_close(&back.key, &key, 2e-5, &what);
            assert_close(&back.value, &value, 2e-5, &what);
            match case.bias() {
                Some(_) => assert_close(&back.bias.unwrap(), &bias, 2e-5, &what),
                None => assert!(back.bias.is_none(), "{what}"),
            }
        }
    });
}

#[test]
fn a_query_that_sees_nothing_gets_zeros() {
    at_every_level(|level| {
        // Of one tile, and of two.
        for keys in [70, 270] {
            let mut case = Case::new([1, 1, 3, keys, 4, 5], false, [3 * keys, 3 * keys, keys]);
            case.bias[keys..2 * keys].fill(MASKED);
            let (forward, back) = case.run(level);
            assert_eq!(forward.output[5..10], [0.0; 5]);
            assert_eq!(back.query[4..8], [0.0; 4]);
            case.bias[keys..2 * keys].fill(0.0);
            case.grad[5..10].fill(0.0);
            let (_, without) = case.run(level);
            assert_eq!((back.key, back.value), (without.key, without.value));
        }
    });
}

#[test]
fn keys_infinitely_far_away_are_as_if_they_were_not_there() {
    at_every_level(|level| {
        // The first tile of keys is not seen at all, nor is any key by the second query.
        let keys = 600;
        let mut case = Case::new([1, 1, 3, keys, 4, 5], false, [3 * keys, 3 * keys, keys]);
        for (query, row) in case.bias.chunks_exact_mut(keys).enumerate() {
            row[..if query == 1 { keys } else { 330 }].fill(f32::NEG_INFINITY);
        }
        let (infinite, of_infinite) = case.run(level);
        case.bias.iter_mut().for_each(|bias| *bias = bias.max(MASKED));
        let (masked, of_masked) = case.run(level);
        assert!(infinite.output.iter().any(|&value| value != 0.0));
        assert_eq!((infinite, of_infinite), (masked, of_masked), "{level}");
    });
}

#[test]
fn a_query_that_is_no_number_does_not_pass_for_one_that_sees_nothing() {
    at_every_level(|level| {
        let mut case = Case::new([1, 1, 3, 9, 4, 5], false, NO_BIAS);
        case.query[4] = f32::NAN;
        let (forward, back) = case.run(level);
        assert!(forward.output[5..10].iter().all(|value| value.is_nan()), "{level}");
        assert!(forward.logsumexp[1].is_nan() && back.key.iter().all(|value| value.is_nan()), "{level}");
        assert!(forward.output[..5].iter().chain(&forward.output[10..]).all(|value| value.is_finite()));
    });
}

#[test]
fn tokens_may_share_their_features() {
    at_every_level(|level| {
        let case = Case::new([1, 1, 3, 4, 4, 5], false, NO_BIAS);
        let tokens = |values, width| Tokens { values, strides: [width; 3] };
        let one = Tokens { values: &case.value[..5], strides: [0; 3] };
        let (query, key) = (tokens(&case.query, 4), tokens(&case.key, 4));
        let output = attention(level, case.shape, query, key, one, None, RowOrder::HeadsFirst).output;
        let expected: Vec<f64> = (0..15).map(|place| f64::from(case.value[place % 5])).collect();
        assert_close(&output, &expected, 1e-6, "the mean of equal values");
    });
}

#[test]
#[should_panic(expected = "the keys end before their last row")]
fn rows_whose_places_wrap_around_do_not_lie_within_the_values() {
    let case = Case::new([1, 1, 1, 8, 8, 8], false, NO_BIAS);
    let tokens = |values| Tokens { values, strides: [0, 0, 8] };
    // Seven times this is one more than a multiple of 2^64.
    let key = Tokens { values: &case.key[..9], strides: [0, 0, 0x6db6_db6d_b6db_6db7] };
    let (query, value) = (tokens(&case.query), tokens(&case.value));
    attention(SimdLevel::Scalar, case.shape, query, key, value, None, RowOrder::HeadsFirst);
}

#[test]
#[should_panic(expected = "too large")]
fn heads_whose_number_wraps_around_are_refused() {
    let shape = AttentionShape {
        batch: 4,
        heads: (1 << 62) + 1,
        queries: 2,
        keys: 1,
        width: 1,
        value_width: 4,
        scale: 1.0,
        causal: false,
    };
    let tokens = |values| Tokens { values, strides: [0, 0, 1] };
    let (row, value) = ([1.0; 2], [1.0; 4]);
    attention(
        SimdLevel::Scalar,
        shape,
        tokens(&row),
        tokens(&row),
        tokens(&value),
        None,
        RowOrder::TokensFirst,
    );
}

/// `[batch, heads, tokens, width]` with heads and tokens exchanged in memory.
fn exchanged(values: &[f32], [batch, heads, tokens, width]: [usize; 4]) -> Vec<f32> {
    let mut exchanged = vec![0.0; values.len()];
    let strides = RowOrder::TokensFirst.strides(heads, tokens, width);
    for (row, values) in values.chunks(width).enumerate() {
        let place = [row / tokens / heads, row / tokens % heads, row % tokens];
        let at: usize = place.iter().zip(strides).map(|(place, stride)| place * stride).sum();
        exchanged[at..at + width].copy_from_slice(values);
    }
    assert_eq!(values.len(), batch * heads * tokens * width);
    exchanged
}

#[test]
fn reads_and_writes_tokens_in_any_order() {
    // Heads and tokens exchanged in memory, as a projection leaves them; the keys' number is another than the queries'.
    let case = Case::new([2, 3, 6, 9, 8, 5], false, NO_BIAS);
    let AttentionShape { batch, heads, queries, keys, width, value_width, .. } = case.shape;
    let turned = |values: &[f32], tokens, width| exchanged(values, [batch, heads, tokens, width]);
    let query = turned(&case.query, queries, width);
    let (key, value) = (turned(&case.key, keys, width), turned(&case.value, keys, value_width));
    let grad = turned(&case.grad, queries, value_width);
    let order = RowOrder::TokensFirst;
    let of = |values, tokens, width| Tokens { values, strides: order.strides(heads, tokens, width) };
    let (query, grad) = (of(&query, queries, width), of(&grad, queries, value_width));
    let (key, value) = (of(&key, keys, width), of(&value, keys, value_width));
    let (expected, gradients) = case.run(SimdLevel::Scalar);
    let forward = attention(SimdLevel::Scalar, case.shape, query, key, value, None, order);
    assert_eq!(forward.output, turned(&expected.output, queries, value_width));
    assert_eq!(forward.logsumexp, expected.logsumexp);
    let output = of(&forward.output, queries, value_width);
    let result = AttentionResult { output, logsumexp: &forward.logsumexp };
    for orders in [[order; 2], [RowOrder::HeadsFirst, order], [order, RowOrder::HeadsFirst]] {
        let back =
            attention_backward(SimdLevel::Scalar, case.shape, grad, query, key, value, None, result, orders);
        for (actual, expected, tokens, width, order) in [
            (&back.query, &gradients.query, queries, width, orders[0]),
            (&back.key, &gradients.key, keys, width, orders[1]),
            (&back.value, &gradients.value, keys, value_width, orders[1]),
        ] {
            match order {
                RowOrder::HeadsFirst => assert_eq!(actual, expected),
                RowOrder::TokensFirst => assert_eq!(*actual, turned(expected, tokens, width)),
            }
        }
    }
}

#[test]
fn packed_queries_keys_and_values_are_those_apart() {
    let case = Case::new([2, 3, 7, 7, 4, 4], true, NO_BIAS);
    let AttentionShape { batch, heads, queries: tokens, width, .. } = case.shape;
    let parts =
        [&case.query, &case.key, &case.value].map(|values| exchanged(values, [batch, heads, tokens, width]));
    let pack = |parts: &[Vec<f32>; 3]| -> Vec<f32> {
        let row = heads * width;
        (0..batch * tokens)
            .flat_map(|at| parts.iter().flat_map(move |part| &part[at * row..][..row]))
            .copied()
            .collect()
    };
    let qkv = pack(&parts);
    let (expected, gradients) = case.run(SimdLevel::Scalar);
    let [query, key, value] = packed_tokens(&qkv, &case.shape);
    let order = RowOrder::TokensFirst;
    let forward = attention(SimdLevel::Scalar, case.shape, query, key, value, None, order);
    let turned = |values: &[f32]| exchanged(values, [batch, heads, tokens, width]);
    assert_eq!(forward.output, turned(&expected.output));
    let strides = order.strides(heads, tokens, width);
    let grad = turned(&case.grad);
    let [output, grad] = [&forward.output, &grad].map(|values| Tokens { values, strides });
    let result = AttentionResult { output, logsumexp: &forward.logsumexp };
    let (back, of_bias) = packed_attention_backward(SimdLevel::Scalar, case.shape, grad, &qkv, None, result);
    assert!(of_bias.is_none());
    assert_eq!(
        back,
        pack(&[&gradients.query, &gradients.key, &gradients.value].map(|values| turned(values)))
    );
}

#[test]
fn gives_the_same_bytes_on_any_number_of_threads() {
    let case = Case::new([2, 4, 90, 80, 16, 16], false, [0, 90 * 80, 80]).with_period(1);
    at_every_level(|level| {
        assert!(on_threads(1, || case.run(level)) == on_threads(3, || case.run(level)), "{level}");
    });
}
