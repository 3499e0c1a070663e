//! Initial weights, drawn on the host from a counter-based generator.
//!
//! burn draws on the device, from a global stream: other backends give other weights, and so does another
//! order of construction. Here a parameter's values depend on its seed alone, so one seed is one model on
//! every backend. Drawing is lazy: a parameter that a checkpoint fills is never drawn.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Shape, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, Uniform};

/// How a parameter's first values are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initializer {
    /// All values zero.
    Zeros,
    /// `N(0, std²)`.
    Normal {
        /// Standard deviation.
        std: f32,
    },
    /// `U(-l, l)` with `l = sqrt(6 / (fan_in + fan_out))`: Glorot & Bengio 2010, eq. 16; Keras' default for `Dense`.
    GlorotUniform,
    /// `N(0, 2 / fan_out)`: He et al. 2015, eq. 14; torchvision's choice for convolutions.
    KaimingNormalFanOut,
}

impl Initializer {
    /// A parameter of `shape` whose values depend on `seed` alone.
    ///
    /// `fan_in` and `fan_out` count the connections into and out of one unit: for a dense layer its inputs
    /// and outputs, for a convolution channels (of a group) times kernel area.
    pub fn init<const D: usize>(
        self,
        shape: [usize; D],
        fan_in: usize,
        fan_out: usize,
        seed: u64,
        device: &Device,
    ) -> Param<Tensor<D>> {
        Param::uninitialized(
            ParamId::new(),
            move |device, require_grad| {
                let values = self.draw(shape.iter().product(), fan_in, fan_out, seed);
                let tensor = Tensor::from_data(TensorData::new(values, shape), device);
                tensor.set_require_grad(require_grad)
            },
            device.clone(),
            true,
            Shape::from(shape),
        )
    }

    fn draw(self, count: usize, fan_in: usize, fan_out: usize, seed: u64) -> Vec<f32> {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let normal = |std: f32| {
            Normal::new(0.0, std)
                .expect("a standard deviation from fans is finite")
                .sample_iter(rng.clone())
                .take(count)
                .collect()
        };
        match self {
            Self::Zeros => vec![0.0; count],
            Self::Normal { std } => normal(std),
            Self::KaimingNormalFanOut => normal((2.0 / fan_out.max(1) as f32).sqrt()),
            Self::GlorotUniform => {
                let limit = (6.0 / (fan_in + fan_out).max(1) as f32).sqrt();
                Uniform::new_inclusive(-limit, limit)
                    .expect("a limit from fans is finite")
                    .sample_iter(rng.clone())
                    .take(count)
                    .collect()
            }
        }
    }
}

/// The seed of the `index`-th parameter of a model whose own seed is `seed`.
///
/// Neighbouring seeds and indices give unrelated streams (the finaliser of SplitMix64, Steele et al. 2014).
pub fn seed_of(seed: u64, index: u64) -> u64 {
    let mut z = seed
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(index.wrapping_add(1).wrapping_mul(0xBF58_476D_1CE4_E5B9));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(values: &[f32]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let var = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        (mean, var)
    }

    #[test]
    fn the_variance_is_the_formulas() {
        let (fan_in, fan_out) = (320, 80);
        let cases = [
            (Initializer::Normal { std: 0.01 }, 1e-4),
            (Initializer::KaimingNormalFanOut, 2.0 / 80.0),
            // Uniform on (-l, l) has variance l²/3.
            (Initializer::GlorotUniform, 6.0 / 400.0 / 3.0),
        ];
        for (initializer, expected) in cases {
            let (mean, var) = moments(&initializer.draw(100_000, fan_in, fan_out, 7));
            assert!(mean.abs() < 4.0 * (expected / 100_000f64).sqrt(), "{initializer:?}: mean {mean}");
            assert!((var / expected - 1.0).abs() < 0.02, "{initializer:?}: variance {var}, not {expected}");
        }
    }

    #[test]
    fn a_seed_is_a_model_and_another_seed_another() {
        let draw = |seed| Initializer::GlorotUniform.draw(64, 8, 8, seed);
        assert_eq!(draw(seed_of(3, 0)), draw(seed_of(3, 0)));
        assert_ne!(draw(seed_of(3, 0)), draw(seed_of(3, 1)));
        assert_ne!(draw(seed_of(3, 0)), draw(seed_of(4, 0)));
    }
}
