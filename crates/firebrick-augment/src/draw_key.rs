//! What random numbers are keyed by.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// What a draw is keyed by.
///
/// The random numbers for a sample come from a counter-based generator keyed by (seed, epoch, sample, transform), never
/// from a generator that workers share. So any worker may draw for any sample, in any order, and a run that resumes in
/// the middle of an epoch draws what the uninterrupted run would have drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DrawKey {
    /// The run's seed.
    pub seed: u64,
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// The sample's index in the data set, before shuffling.
    pub sample: u64,
}

impl DrawKey {
    /// The generator for one transform of this sample. Its 32-byte ChaCha seed is `seed`, `epoch`, `sample` and
    /// `transform`, each as a little-endian `u64`.
    ///
    /// Transforms that are drawn for the same sample take different numbers `transform`, so that adding one to a
    /// pipeline leaves the draws of the others as they are.
    pub fn rng(&self, transform: u64) -> ChaCha8Rng {
        let mut seed = [0u8; 32];
        let words = [self.seed, self.epoch, self.sample, transform];
        for (bytes, word) in seed.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        ChaCha8Rng::from_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    const KEY: DrawKey = DrawKey { seed: 1, epoch: 2, sample: 3 };

    #[test]
    fn gives_the_same_numbers_for_the_same_key() {
        assert_eq!(KEY.rng(4).next_u64(), KEY.rng(4).next_u64());
    }

    #[test]
    fn gives_other_numbers_when_any_part_of_the_key_changes() {
        let mut first: Vec<u64> = [
            (KEY, 4),
            (DrawKey { seed: 9, ..KEY }, 4),
            (DrawKey { epoch: 9, ..KEY }, 4),
            (DrawKey { sample: 9, ..KEY }, 4),
            (KEY, 9),
        ]
        .iter()
        .map(|(key, transform)| key.rng(*transform).next_u64())
        .collect();
        first.sort_unstable();
        first.dedup();
        assert_eq!(first.len(), 5);
    }

    #[test]
    fn lays_the_key_out_as_four_little_endian_words() {
        let mut seed = [0u8; 32];
        (seed[0], seed[8], seed[16], seed[24]) = (1, 2, 3, 4);
        assert_eq!(KEY.rng(4).next_u64(), ChaCha8Rng::from_seed(seed).next_u64());
    }
}
