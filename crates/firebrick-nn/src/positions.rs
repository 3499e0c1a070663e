//! Where a token stands.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::{Initializer, LayerError};

/// Sines and cosines of the position, `[tokens, width]`: `PE(p, 2i) = sin(p / 10000^(2i / width))`, `PE(p, 2i + 1)` its cosine (Vaswani et
/// al. 2017, arXiv:1706.03762, section 3.5). To be added to the tokens.
pub fn sinusoidal_positions(tokens: usize, width: usize, device: &Device) -> Tensor<2> {
    let value = |position: usize, place: usize| {
        let angle = position as f64 / 10_000f64.powf((place - place % 2) as f64 / width as f64);
        (if place.is_multiple_of(2) { angle.sin() } else { angle.cos() }) as f32
    };
    let values: Vec<f32> = (0..tokens).flat_map(|p| (0..width).map(move |i| value(p, i))).collect();
    Tensor::from_data(TensorData::new(values, [tokens, width]), device)
}

/// A learnt vector a position, added to the tokens (BERT, GPT, ViT).
#[derive(Module, Debug)]
pub struct LearnedPositions {
    /// `[positions, width]`.
    pub embedding: Param<Tensor<2>>,
}

impl LearnedPositions {
    /// For sequences of up to `positions` tokens; `N(0, 0.02²)` from `seed`, as BERT and GPT-2.
    ///
    /// # Errors
    /// [`LayerError`] for no positions or no width.
    pub fn new(positions: usize, width: usize, seed: u64, device: &Device) -> Result<Self, LayerError> {
        LayerError::unless(positions > 0, "LearnedPositions", "positions", positions, "at least 1")?;
        LayerError::unless(width > 0, "LearnedPositions", "width", width, "at least 1")?;
        let normal = Initializer::Normal { std: 0.02 };
        Ok(Self { embedding: normal.init([positions, width], positions, width, seed, device) })
    }

    /// `[batch, tokens, width]` to the same shape.
    ///
    /// # Panics
    /// If there are more tokens than positions.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [_, tokens, _] = x.dims();
        let [positions, _] = self.embedding.val().dims();
        assert!(
            tokens <= positions,
            "LearnedPositions: {tokens} tokens are more than the {positions} positions"
        );
        x + self.embedding.val().narrow(0, 0, tokens).unsqueeze()
    }
}

/// Which two values of a head are turned together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RotaryLayout {
    /// Neighbours, `(0, 1), (2, 3), ..`: the paper's, and GPT-J's.
    Interleaved,
    /// Value `i` and value `i + width / 2`: GPT-NeoX' and LLaMA's.
    #[default]
    Halves,
}

/// Rotary positions (Su et al. 2021, arXiv:2104.09864): pairs of values are turned by an angle that grows with the position, so that the product of
/// a query and a key depends on their distance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rotary {
    /// Which values make a pair; halves by default.
    pub layout: RotaryLayout,
    /// Base of the frequencies; 10,000 by default.
    pub base: f64,
}

impl Default for Rotary {
    fn default() -> Self {
        Self { layout: RotaryLayout::default(), base: 10_000.0 }
    }
}

impl Rotary {
    /// Turns `[batch, heads, tokens, width]`, whose first token stands at position `start`.
    ///
    /// # Panics
    /// If the width is odd.
    pub fn forward(&self, x: Tensor<4>, start: usize) -> Tensor<4> {
        let [batch, heads, tokens, width] = x.dims();
        assert!(width.is_multiple_of(2), "Rotary: a width of {width} is odd");
        let pairs = width / 2;
        let angle =
            |token: usize, pair: usize| (start + token) as f64 / self.base.powf(pair as f64 / pairs as f64);
        let table = |function: fn(f64) -> f64| {
            let values: Vec<f64> = (0..tokens)
                .flat_map(|t| (0..pairs).map(move |p| (t, p)))
                .map(|(t, p)| function(angle(t, p)))
                .collect();
            let data = TensorData::new(values, [1, 1, tokens, pairs]);
            Tensor::<4>::from_data(data, (&x.device(), x.dtype()))
        };
        let (cos, sin) = (table(f64::cos), table(f64::sin));
        match self.layout {
            RotaryLayout::Halves => {
                let [a, b] = [x.clone().narrow(3, 0, pairs), x.narrow(3, pairs, pairs)];
                let turned = [a.clone() * cos.clone() - b.clone() * sin.clone(), b * cos + a * sin];
                Tensor::cat(turned.into(), 3)
            }
            RotaryLayout::Interleaved => {
                let split = x.reshape([batch, heads, tokens, pairs, 2]);
                let part = |index: usize| split.clone().narrow(4, index, 1).squeeze_dim::<4>(4);
                let (a, b) = (part(0), part(1));
                let turned = vec![a.clone() * cos.clone() - b.clone() * sin.clone(), b * cos + a * sin];
                Tensor::stack::<5>(turned, 4).reshape([batch, heads, tokens, width])
            }
        }
    }
}
