//! Initial weights, drawn on the host from a counter-based generator.
//!
//! burn draws on the device, from a global stream: other backends give other weights, and so does another
//! order of construction. Here a parameter's values depend on its seed alone, so one seed is one model on
//! every backend. Drawing is lazy: a parameter that a checkpoint fills is never drawn.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Shape, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, StandardNormal, Uniform};
use serde::{Deserialize, Serialize};

/// How a parameter's first values are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Initializer {
    /// All values zero.
    Zeros,
    /// All values the same.
    Constant {
        /// The value.
        value: f32,
    },
    /// `U(low, high)`.
    Uniform {
        /// Least value.
        low: f32,
        /// Greatest value.
        high: f32,
    },
    /// `N(0, std²)`.
    Normal {
        /// Standard deviation.
        std: f32,
    },
    /// `N(0, std²)` drawn again while beyond two of its deviations; the result's own deviation is 0.8796 times `std`. Keras'
    /// `TruncatedNormal`, and PyTorch's `trunc_normal_` with bounds of two deviations (its own are -2 and 2).
    TruncatedNormal {
        /// Standard deviation before the cut.
        std: f32,
    },
    /// `U(-l, l)` with `l = sqrt(6 / (fan_in + fan_out))`: Glorot & Bengio 2010, eq. 16; Keras' default for `Dense`.
    GlorotUniform,
    /// `N(0, 2 / (fan_in + fan_out))`: Glorot & Bengio 2010; PyTorch's `xavier_normal_`. Keras cuts at two deviations.
    GlorotNormal,
    /// `U(-l, l)` with `l = sqrt(6 / fan_in)`: He et al. 2015 (arXiv:1502.01852); PyTorch's `kaiming_uniform_` for ReLU, Keras' `HeUniform`.
    KaimingUniform,
    /// `N(0, 2 / fan_in)`: He et al. 2015, eq. 10; PyTorch's `kaiming_normal_`. Keras' `HeNormal` cuts at two deviations.
    KaimingNormal,
    /// `N(0, 2 / fan_out)`: He et al. 2015, eq. 14; torchvision's choice for convolutions.
    KaimingNormalFanOut,
    /// `U(-l, l)` with `l = sqrt(3 / fan_in)`: LeCun et al. 1998; Keras' `LecunUniform`.
    LecunUniform,
    /// `N(0, 1 / fan_in)`: LeCun et al. 1998, for SELU. Keras' `LecunNormal` cuts at two deviations.
    LecunNormal,
    /// A matrix of orthonormal rows or columns, whichever are fewer, times `gain` (Saxe et al. 2014, arXiv:1312.6120); the first axis counts
    /// the rows, all others together the columns.
    Orthogonal {
        /// Length of the rows or columns; 1 as a rule.
        gain: f32,
    },
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
                let values = self.draw(&shape, fan_in, fan_out, seed);
                let tensor = Tensor::from_data(TensorData::new(values, shape), device);
                tensor.set_require_grad(require_grad)
            },
            device.clone(),
            true,
            Shape::from(shape),
        )
    }

    fn draw(self, shape: &[usize], fan_in: usize, fan_out: usize, seed: u64) -> Vec<f32> {
        let count: usize = shape.iter().product();
        let rng = || ChaCha8Rng::seed_from_u64(seed);
        let normal = |std: f32| {
            let normal = Normal::new(0.0, std).expect("a standard deviation from fans is finite");
            normal.sample_iter(rng()).take(count).collect()
        };
        let uniform = |low: f32, high: f32| {
            let uniform = Uniform::new_inclusive(low.min(high), low.max(high));
            uniform.expect("a limit from fans is finite").sample_iter(rng()).take(count).collect()
        };
        let (into, out) = (fan_in.max(1) as f32, fan_out.max(1) as f32);
        let both = (fan_in + fan_out).max(1) as f32;
        let symmetric = |limit: f32| uniform(-limit, limit);
        match self {
            Self::Zeros => vec![0.0; count],
            Self::Constant { value } => vec![value; count],
            Self::Uniform { low, high } => uniform(low, high),
            Self::Normal { std } => normal(std),
            Self::TruncatedNormal { std } => {
                let values = StandardNormal.sample_iter(rng()).filter(|value: &f32| value.abs() <= 2.0);
                values.map(|value| value * std).take(count).collect()
            }
            Self::GlorotUniform => symmetric((6.0 / both).sqrt()),
            Self::GlorotNormal => normal((2.0 / both).sqrt()),
            Self::KaimingUniform => symmetric((6.0 / into).sqrt()),
            Self::KaimingNormal => normal((2.0 / into).sqrt()),
            Self::KaimingNormalFanOut => normal((2.0 / out).sqrt()),
            Self::LecunUniform => symmetric((3.0 / into).sqrt()),
            Self::LecunNormal => normal((1.0 / into).sqrt()),
            Self::Orthogonal { gain } => {
                let rows = shape.first().copied().unwrap_or(1);
                orthogonal(rows, count / rows.max(1), gain, &mut rng())
            }
        }
    }
}

/// Gaussian vectors, each freed twice of what it has in common with those before it (Gram & Schmidt), in f64.
fn orthogonal(rows: usize, columns: usize, gain: f32, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let (few, long) = (rows.min(columns), rows.max(columns));
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(few);
    while basis.len() < few {
        let mut vector: Vec<f64> = (0..long).map(|_| StandardNormal.sample(rng)).collect();
        for _ in 0..2 {
            for other in &basis {
                let common: f64 = vector.iter().zip(other).map(|(a, b)| a * b).sum();
                vector.iter_mut().zip(other).for_each(|(a, b)| *a -= common * b);
            }
        }
        let length = vector.iter().map(|a| a * a).sum::<f64>().sqrt();
        // The last of a square matrix may all but vanish; another draw does not.
        if length > 1e-6 {
            basis.push(vector.into_iter().map(|a| a / length).collect());
        }
    }
    let at =
        |row: usize, column: usize| if rows <= columns { basis[row][column] } else { basis[column][row] };
    (0..rows)
        .flat_map(|row| (0..columns).map(move |column| (row, column)))
        .map(|(r, c)| (at(r, c) * f64::from(gain)) as f32)
        .collect()
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
// The largest error of each is printed: the table of docs/layers.md is read off it.
#[allow(clippy::print_stdout)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        made_by: String,
        fan_in: usize,
        fan_out: usize,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        initializer: Initializer,
        peer: String,
        variance: f64,
    }

    #[test]
    fn the_variance_is_pytorchs_and_keras() {
        let golden: Golden =
            serde_json::from_str(include_str!("../tests/goldens/initializers.json")).expect("valid JSON");
        for Case { initializer, peer, variance } in &golden.cases {
            let (_, ours) = moments(&initializer.draw(&[400_000], golden.fan_in, golden.fan_out, 11));
            let error = if *variance > 0.0 { (ours / variance - 1.0).abs() } else { ours };
            println!("{:40} {peer:32} {:.2} %", format!("{initializer:?}"), 100.0 * error);
            // Of 400,000 normal draws the variance is right to 0.22 %; four times that and the peer's.
            assert!(error < 0.01, "{initializer:?}: {ours}, {peer} {variance} (goldens: {})", golden.made_by);
        }
    }

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
            (Initializer::Uniform { low: -0.5, high: 0.5 }, 1.0 / 12.0),
            // 1 - 4 φ(2) / (2 Φ(2) - 1) of the variance is left by the cut at two deviations.
            (Initializer::TruncatedNormal { std: 0.5 }, 0.25 * 0.773_741_3),
            (Initializer::GlorotNormal, 2.0 / 400.0),
            (Initializer::KaimingUniform, 2.0 / 320.0),
            (Initializer::KaimingNormal, 2.0 / 320.0),
            (Initializer::LecunUniform, 1.0 / 320.0),
            (Initializer::LecunNormal, 1.0 / 320.0),
        ];
        for (initializer, expected) in cases {
            let (mean, var) = moments(&initializer.draw(&[100_000], fan_in, fan_out, 7));
            assert!(mean.abs() < 4.0 * (expected / 100_000f64).sqrt(), "{initializer:?}: mean {mean}");
            assert!((var / expected - 1.0).abs() < 0.02, "{initializer:?}: variance {var}, not {expected}");
        }
    }

    #[test]
    fn a_seed_is_a_model_and_another_seed_another() {
        let draw = |seed| Initializer::GlorotUniform.draw(&[64], 8, 8, seed);
        assert_eq!(draw(seed_of(3, 0)), draw(seed_of(3, 0)));
        assert_ne!(draw(seed_of(3, 0)), draw(seed_of(3, 1)));
        assert_ne!(draw(seed_of(3, 0)), draw(seed_of(4, 0)));
    }

    #[test]
    fn constants_are_constant_and_a_cut_is_kept() {
        assert_eq!(Initializer::Zeros.draw(&[3], 1, 1, 0), [0.0; 3]);
        assert_eq!(Initializer::Constant { value: 0.25 }.draw(&[3], 1, 1, 0), [0.25; 3]);
        let values = Initializer::TruncatedNormal { std: 0.5 }.draw(&[20_000], 1, 1, 1);
        let most = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        assert!((0.99..=1.0).contains(&most), "{most}");
    }

    #[test]
    fn orthogonal_rows_or_columns_are_orthonormal() {
        for (shape, gain) in [
            (&[6usize, 9][..], 1.0f32),
            (&[9, 6], 2.0),
            (&[8, 8], 1.0),
            (&[4, 3, 5], 0.5),
            (&[1, 1], 1.0),
            (&[7], 1.0),
        ] {
            let values = Initializer::Orthogonal { gain }.draw(shape, 1, 1, 5);
            let (rows, columns) = (shape[0], values.len() / shape[0]);
            let at = |row: usize, column: usize| f64::from(values[row * columns + column]);
            let few = rows.min(columns);
            for a in 0..few {
                for b in 0..few {
                    let product: f64 = match rows <= columns {
                        true => (0..columns).map(|k| at(a, k) * at(b, k)).sum(),
                        false => (0..rows).map(|k| at(k, a) * at(k, b)).sum(),
                    };
                    let expected = if a == b { f64::from(gain * gain) } else { 0.0 };
                    assert!((product - expected).abs() < 1e-6, "{shape:?} {a} {b}: {product}");
                }
            }
        }
    }
}
