//! Weights by a formula that the golden generators know too (`tests/goldens/seeded_weights.py`), so that no state dict is shipped.
//!
//! Value `i` of tensor `name`, counted in row-major order as PyTorch has the tensor, is `scale · u` with
//! `u = splitmix64(fnv1a64(name) + i) / 2⁶³ - 1` in `[-1, 1)` (its upper 53 bits). `scale` is `sqrt(3 / fan_in)` where there are two axes
//! or more, `fan_in` the product of all but the first. With one axis, `weight`, `gamma` and `running_var` are `1 + 0.1 u`, others `0.1 u`.

// Each test program that has this module uses a part of it.
#![allow(dead_code)]

use std::path::Path;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

/// The values of the tensor `name`, the same bits as in Python.
pub fn values(name: &str, shape: &[usize]) -> Vec<f32> {
    let scaled: Box<dyn Fn(f64) -> f64> = match shape {
        [_, rest @ ..] if !rest.is_empty() => {
            let scale = (3.0 / rest.iter().product::<usize>() as f64).sqrt();
            Box::new(move |u| scale * u)
        }
        _ => match name.rsplit('.').next() {
            Some("weight" | "gamma" | "running_var") => Box::new(|u| 1.0 + 0.1 * u),
            _ => Box::new(|u| 0.1 * u),
        },
    };
    let start = fnv1a64(name);
    let count = shape.iter().product::<usize>() as u64;
    (0..count).map(|index| scaled(uniform(start.wrapping_add(index))) as f32).collect()
}

/// `count` values of `[-1, 1)`, as Python's `uniform`.
pub fn uniform_values(name: &str, count: usize) -> Vec<f32> {
    let start = fnv1a64(name);
    (0..count as u64).map(|index| uniform(start.wrapping_add(index)) as f32).collect()
}

fn uniform(state: u64) -> f64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 11) as f64 / 2f64.powi(53) * 2.0 - 1.0
}

fn fnv1a64(text: &str) -> u64 {
    text.bytes()
        .fold(0xCBF2_9CE4_8422_2325, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

/// Writes a safetensors file of these names and shapes, as the generators list them, to be read by `Checkpoint`.
pub fn write(path: &Path, tensors: &[(String, Vec<usize>)]) {
    let filled: Vec<(&String, &Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, shape)| {
            (name, shape, values(name, shape).into_iter().flat_map(f32::to_le_bytes).collect())
        })
        .collect();
    let views = filled.iter().map(|(name, shape, bytes)| {
        (
            name.as_str(),
            TensorView::new(Dtype::F32, shape.to_vec(), bytes).expect("as long as its shape says"),
        )
    });
    std::fs::write(path, safetensors::serialize(views, None).expect("serialised")).expect("written");
}

/// Gives the tensors of a safetensors file these values, in place; names and shapes stay. For a model whose writer is at hand.
pub fn reseed(path: &Path) {
    let bytes = std::fs::read(path).expect("the file");
    let tensors: Vec<(String, Vec<usize>)> = SafeTensors::deserialize(&bytes)
        .expect("a safetensors file")
        .iter()
        .map(|(name, view)| (name.to_owned(), view.shape().to_vec()))
        .collect();
    write(path, &tensors);
}

#[derive(serde::Deserialize)]
struct Golden {
    made_by: String,
    tensors: Vec<Tensor>,
}

#[derive(serde::Deserialize)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    bits: Vec<u32>,
}

#[test]
fn the_seeded_weights_are_those_of_python_to_the_last_bit() {
    let golden: Golden =
        serde_json::from_str(include_str!("../goldens/seeded_weights.json")).expect("valid JSON");
    for tensor in golden.tensors {
        let actual: Vec<u32> = values(&tensor.name, &tensor.shape).into_iter().map(f32::to_bits).collect();
        assert_eq!(actual, tensor.bits, "{} (goldens: {})", tensor.name, golden.made_by);
    }
}
