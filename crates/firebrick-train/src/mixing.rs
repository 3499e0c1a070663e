//! Inputs mixed from two of a batch, and their classes with them.

use std::str::FromStr;

use burn::tensor::s;
use firebrick_augment::{ChaCha8Rng, DrawKey};
use firebrick_optim::{OptimError, parse_settings};
use rand::RngExt;
use rand_distr::{Beta, Distribution};
use serde::{Deserialize, Serialize};

use crate::{Batch, Batches, Mix, TrainError};

/// Which mixtures are drawn; each batch gets one, and where both are on, either as likely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MixConfig {
    /// `α` of MixUp (Zhang et al. 2018, arXiv:1710.09412), whose share is drawn from Beta(α, α); 0, the default, is off. 0.2 is usual.
    pub mixup: f64,
    /// `α` of CutMix (Yun et al. 2019, arXiv:1905.04899); 0, the default, is off. 1 is usual.
    pub cutmix: f64,
}

impl FromStr for MixConfig {
    type Err = OptimError;

    fn from_str(text: &str) -> Result<Self, OptimError> {
        parse_settings("mix", text)
    }
}

impl MixConfig {
    /// Whether anything is mixed.
    pub fn is_on(&self) -> bool {
        *self != Self::default()
    }

    /// Checks both numbers.
    ///
    /// # Errors
    ///
    /// [`TrainError::OutOfRange`] names the one that is wrong.
    pub fn validate(&self) -> Result<(), TrainError> {
        for (field, value) in [("mixup", self.mixup), ("cutmix", self.cutmix)] {
            // Beta's sampler wants its parameters this large.
            if value != 0.0 && !(value.is_finite() && value >= 1e-3) {
                let range = "0 for none, or a number of at least 0.001";
                return Err(TrainError::OutOfRange { field, value: value.to_string(), range });
            }
        }
        Ok(())
    }

    /// Draws a mixture for a batch of images of `height` by `width`, or of inputs that have no sides.
    ///
    /// # Panics
    ///
    /// If the settings are not valid.
    pub fn draw(&self, key: DrawKey, sides: Option<[usize; 2]>) -> MixDraw {
        // Far from the numbers that transforms of a sample have.
        let mut rng = key.rng(u64::MAX);
        let either: bool = rng.random();
        match sides {
            Some(sides) if self.cutmix != 0.0 && (either || self.mixup == 0.0) => {
                MixDraw::cut(share(self.cutmix, &mut rng), [rng.random(), rng.random()], sides)
            }
            _ => MixDraw::Up { share: share(self.mixup, &mut rng) },
        }
    }
}

fn share(alpha: f64, rng: &mut ChaCha8Rng) -> f64 {
    Beta::new(alpha, alpha).expect("validated").sample(rng)
}

/// A mixture of each input of a batch with the one before it, of the first with the last, as torchvision's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MixDraw {
    /// `share · x + (1 - share) · other`.
    Up {
        /// Share of an input that is its own.
        share: f64,
    },
    /// A rectangle of the other is pasted in.
    Cut {
        /// First row, and the one after the last.
        rows: [usize; 2],
        /// First column, and the one after the last.
        columns: [usize; 2],
        /// Share of the image that stays.
        share: f64,
    },
}

impl MixDraw {
    /// A rectangle of `1 - share` of the image around a centre, given in shares of the sides, and cut off at the edges.
    pub fn cut(share: f64, centre: [f64; 2], [height, width]: [usize; 2]) -> Self {
        let half = 0.5 * (1.0 - share).sqrt();
        let span = |centre: f64, side: usize| {
            let (centre, half) = ((centre * side as f64) as usize, (half * side as f64) as usize);
            [centre.saturating_sub(half), (centre + half).min(side)]
        };
        let (rows, columns) = (span(centre[0], height), span(centre[1], width));
        let pasted = (rows[1] - rows[0]) * (columns[1] - columns[0]);
        Self::Cut { rows, columns, share: 1.0 - pasted as f64 / (height * width).max(1) as f64 }
    }

    /// Mixes a batch.
    ///
    /// # Panics
    ///
    /// If a rectangle is to be pasted and the inputs are no images of its size.
    pub fn apply<const D: usize>(&self, batch: Batch<D>) -> Batch<D> {
        let Batch { inputs, labels, .. } = batch;
        let other = inputs.clone().roll_dim(1, 0);
        let mut partners = labels.clone();
        partners.rotate_right(1);
        let (inputs, share) = match *self {
            Self::Up { share } => (inputs * share + other * (1.0 - share), share),
            Self::Cut { rows, columns, share } if share < 1.0 => {
                assert_eq!(D, 4, "a rectangle is pasted into images");
                let [rows, columns] = [rows, columns].map(|[first, end]| first..end);
                let part = s![.., .., rows.clone(), columns.clone()];
                let pasted = other.slice(part);
                (inputs.slice_assign(s![.., .., rows, columns], pasted), share)
            }
            Self::Cut { share, .. } => (inputs, share),
        };
        Batch { inputs, labels, mix: Some(Mix { partners, share }) }
    }
}

/// Batches of another source, mixed; the mixture of a batch depends on the seed, the epoch and its place alone.
pub struct Mixing<S> {
    source: S,
    config: MixConfig,
    seed: u64,
}

impl<S> Mixing<S> {
    /// Mixes the batches of `source`; they pass as they are where nothing is on.
    ///
    /// # Errors
    ///
    /// As of [`MixConfig::validate`]; [`TrainError::OutOfRange`] for `cutmix` of inputs that are no images.
    pub fn new<const D: usize>(source: S, config: MixConfig, seed: u64) -> Result<Self, TrainError>
    where
        S: Batches<D>,
    {
        config.validate()?;
        if D != 4 && config.cutmix != 0.0 {
            let range = "0: only images can be cut";
            return Err(TrainError::OutOfRange { field: "cutmix", value: config.cutmix.to_string(), range });
        }
        Ok(Self { source, config, seed })
    }
}

impl<const D: usize, S: Batches<D>> Batches<D> for Mixing<S> {
    fn num_batches(&self) -> usize {
        self.source.num_batches()
    }

    fn num_samples(&self) -> usize {
        self.source.num_samples()
    }

    fn epoch<'a>(&'a mut self, epoch: usize) -> Box<dyn Iterator<Item = Result<Batch<D>, TrainError>> + 'a> {
        let (config, seed) = (self.config, self.seed);
        let batches = self.source.epoch(epoch);
        if !config.is_on() {
            return batches;
        }
        Box::new(batches.enumerate().map(move |(place, batch)| {
            let batch = batch?;
            let key = DrawKey { seed, epoch: epoch as u64, sample: place as u64 };
            let sides = match batch.inputs.dims()[..] {
                [_, _, height, width] => Some([height, width]),
                _ => None,
            };
            Ok(config.draw(key, sides).apply(batch))
        }))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Tensor, TensorData};
    use serde::Deserialize;

    use super::*;
    use crate::evaluate::floats;
    use crate::{DeviceChoice, InMemory};

    #[derive(Deserialize)]
    struct Golden {
        made_by: String,
        shape: [usize; 4],
        images: Vec<f32>,
        labels: Vec<usize>,
        classes: usize,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        kind: String,
        share: f64,
        centre: [f64; 2],
        images: Vec<f32>,
        targets: Vec<f32>,
    }

    #[test]
    fn mixes_as_torchvision_does() {
        let golden: Golden =
            serde_json::from_str(include_str!("../tests/goldens/mixing.json")).expect("valid JSON");
        let device = DeviceChoice::NdArray.open().expect("built in");
        for case in &golden.cases {
            let images = TensorData::new(golden.images.clone(), golden.shape);
            let batch = Batch::<4>::new(Tensor::from_data(images, &device), golden.labels.clone());
            let draw = match case.kind.as_str() {
                "mixup" => MixDraw::Up { share: case.share },
                _ => MixDraw::cut(case.share, case.centre, [golden.shape[2], golden.shape[3]]),
            };
            let mixed = draw.apply(batch);
            let targets = floats(mixed.shares(golden.classes, &device));
            for (what, actual, expected) in
                [("images", floats(mixed.inputs), &case.images), ("targets", targets, &case.targets)]
            {
                let error = actual.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                let made_by = &golden.made_by;
                assert!(
                    error < 1e-6,
                    "{what} of {} {}: {error:.1e} (goldens: {made_by})",
                    case.kind,
                    case.share
                );
            }
        }
    }

    /// All of an input its own, and nothing pasted.
    #[test]
    fn a_share_of_one_changes_nothing() {
        for draw in [MixDraw::Up { share: 1.0 }, MixDraw::cut(1.0, [0.3, 0.7], [6, 5])] {
            let batch = batches().epoch(0).next().expect("a batch").expect("read");
            let mixed = draw.apply(batch.clone());
            assert_eq!(floats(mixed.inputs.clone()), floats(batch.inputs.clone()), "{draw:?}");
            let device = batch.inputs.device();
            assert_eq!(floats(mixed.shares(8, &device)), floats(batch.shares(8, &device)), "{draw:?}");
        }
    }

    fn batches() -> InMemory<4> {
        let device = DeviceChoice::NdArray.open().expect("built in");
        let values = (0..8 * 3 * 6 * 5).map(|i| i as f32).collect::<Vec<_>>();
        let images = Tensor::from_data(TensorData::new(values, [8, 3, 6, 5]), &device);
        InMemory::new(images, (0..8).collect(), 3).expect("eight images")
    }

    fn read(config: MixConfig, seed: u64, epoch: usize) -> Vec<(Vec<f32>, Option<Mix>)> {
        let mut mixing = Mixing::new(batches(), config, seed).expect("valid");
        mixing
            .epoch(epoch)
            .map(|batch| batch.map(|batch| (floats(batch.inputs), batch.mix)).expect("read"))
            .collect()
    }

    #[test]
    fn draws_are_kept_by_seed_epoch_and_place() {
        let both = MixConfig { mixup: 0.2, cutmix: 1.0 };
        assert_eq!(read(both, 1, 0), read(both, 1, 0));
        assert_ne!(read(both, 1, 0), read(both, 1, 1));
        assert_ne!(read(both, 1, 0), read(both, 2, 0));
        let off = read(MixConfig::default(), 1, 0);
        assert!(off.iter().all(|(_, mix)| mix.is_none()));
        assert_eq!(off[0].0[0], 0.0);
        let shares: Vec<f64> =
            (0..200).filter_map(|epoch| read(both, 3, epoch)[0].1.as_ref().map(|mix| mix.share)).collect();
        assert_eq!(shares.len(), 200);
        let mean = shares.iter().sum::<f64>() / 200.0;
        // Beta(α, α) has a mean of a half; what is cut off at the edges adds to CutMix' share.
        assert!((0.45..0.7).contains(&mean), "{mean}");
    }

    #[test]
    fn nonsense_is_named() {
        for (text, word) in
            [("mixup=-1", "`mixup` is -1"), ("cutmix=nan", "nan"), ("mixup=1e-9", "at least 0.001")]
        {
            let message = match text.parse::<MixConfig>() {
                Ok(config) => config.validate().expect_err(text).to_string(),
                Err(error) => error.to_string(),
            };
            assert!(message.contains(word), "{text}: {message}");
        }
        let message = "mix=1".parse::<MixConfig>().expect_err("unknown").to_string();
        assert!(message.contains("mixup"), "{message}");
        let device = DeviceChoice::NdArray.open().expect("built in");
        let rows = InMemory::new(Tensor::<2>::zeros([2, 1], &device), vec![0, 1], 2).expect("two rows");
        let message =
            Mixing::new(rows, MixConfig { cutmix: 1.0, mixup: 0.0 }, 0).err().expect("refused").to_string();
        assert!(message.contains("only images"), "{message}");
    }
}
