//! The encoder as the papers have it: loops in f64 over whole matrices. What the kernels are tested against.

use super::params::{
    EmbeddingParams, EncoderConfig, EncoderLayerParams, LayerNormParams, LinearParams, NormOrder,
};
use crate::Activation;
use crate::reference::activate;

/// Rows of features, one a token.
pub(crate) type Rows = Vec<Vec<f64>>;

pub(crate) fn linear(params: &LinearParams<'_>, activation: Activation, input: &Rows) -> Rows {
    let row = |x: &Vec<f64>| {
        let sum = |(output, weights): (usize, &[f32])| {
            let bias = params.bias.map_or(0.0, |bias| f64::from(bias[output]));
            let sum = weights.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum::<f64>();
            activate(activation, sum + bias)
        };
        params.weight.chunks(x.len()).enumerate().map(sum).collect()
    };
    input.iter().map(row).collect()
}

pub(crate) fn norm(params: &LayerNormParams<'_>, input: &Rows) -> Rows {
    let row = |x: &Vec<f64>| {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (variance + f64::from(params.epsilon)).sqrt();
        let params = params.gamma.iter().zip(params.beta);
        x.iter().zip(params).map(|(x, (&g, &b))| (x - mean) * scale * f64::from(g) + f64::from(b)).collect()
    };
    input.iter().map(row).collect()
}

fn add(a: &Rows, b: &Rows) -> Rows {
    a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect()
}

/// Attention of one sequence; `keep` says which tokens may be looked at.
fn attention(config: &EncoderConfig, layer: &EncoderLayerParams<'_>, input: &Rows, keep: &[bool]) -> Rows {
    let project = |params| linear(params, Activation::None, input);
    let params = &layer.attention;
    let [q, k, v] = [project(&params.query), project(&params.key), project(&params.value)];
    let head_width = config.width / config.heads;
    let mut context = vec![vec![0.0; config.width]; input.len()];
    for head in 0..config.heads {
        let features = head * head_width..(head + 1) * head_width;
        for (query, context) in context.iter_mut().enumerate() {
            let seen: Vec<usize> =
                (0..input.len()).filter(|&key| keep[key] && (!config.causal || key <= query)).collect();
            let score = |&key: &usize| {
                let product: f64 = features.clone().map(|i| q[query][i] * k[key][i]).sum();
                product / (head_width as f64).sqrt()
            };
            let scores: Vec<f64> = seen.iter().map(score).collect();
            let largest = scores.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for (&key, weight) in seen.iter().zip(&weights) {
                for i in features.clone() {
                    context[i] += weight / sum * v[key][i];
                }
            }
        }
    }
    linear(&params.output, Activation::None, &context)
}

pub(crate) fn layer(
    config: &EncoderConfig,
    params: &EncoderLayerParams<'_>,
    input: &Rows,
    keep: &[bool],
) -> Rows {
    let feed_forward =
        |x: &Rows| linear(&params.project, Activation::None, &linear(&params.expand, config.activation, x));
    match config.order {
        NormOrder::Post => {
            let x = norm(&params.attention_norm, &add(input, &attention(config, params, input, keep)));
            norm(&params.feed_forward_norm, &add(&x, &feed_forward(&x)))
        }
        NormOrder::Pre => {
            let normal = norm(&params.attention_norm, input);
            let x = add(input, &attention(config, params, &normal, keep));
            add(&x, &feed_forward(&norm(&params.feed_forward_norm, &x)))
        }
    }
}

/// One sequence's features.
pub(crate) fn embed(params: &EmbeddingParams<'_>, width: usize, ids: &[i64], types: Option<&[i64]>) -> Rows {
    let row = |table: &[f32], index: usize| -> Vec<f64> {
        table[index * width..][..width].iter().map(|&x| f64::from(x)).collect()
    };
    let sum = |(position, &id): (usize, &i64)| {
        let mut sum = row(params.words, id as usize);
        let kind = types.map_or(0, |types| types[position]);
        let others =
            [Some(row(params.positions, position)), params.types.map(|table| row(table, kind as usize))];
        for other in others.into_iter().flatten() {
            sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += other);
        }
        sum
    };
    let sums = ids.iter().enumerate().map(sum).collect();
    params.norm.as_ref().map_or_else(|| Vec::clone(&sums), |params| norm(params, &sums))
}
