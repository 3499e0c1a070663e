//! The order of samples in an epoch.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The order in which an epoch visits `len` samples: a permutation of `0..len`.
///
/// A Fisher-Yates shuffle driven by ChaCha8 whose key holds `seed` and `epoch`, so the order of any epoch is
/// known without those before it, and is the same on every machine and in every version of this crate.
pub fn shuffled(len: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    shuffle(&mut order, &mut keyed_rng(*b"firebrick/epoch\0", seed, epoch));
    order
}

/// A generator for one purpose: `domain` keeps the numbers of two uses of the same seed apart.
pub(crate) fn keyed_rng(domain: [u8; 16], seed: u64, stream: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&stream.to_le_bytes());
    key[16..].copy_from_slice(&domain);
    ChaCha8Rng::from_seed(key)
}

/// Fisher-Yates, from the end (Knuth, The Art of Computer Programming, vol. 2, algorithm P).
pub(crate) fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for last in (1..items.len()).rev() {
        let chosen = below(last as u64 + 1, rng) as usize;
        items.swap(last, chosen);
    }
}

/// A uniform number in `0..bound`, without bias: draws from the incomplete last stretch are thrown away.
///
/// Written out instead of taken from a crate of distributions, whose algorithms may change from version to
/// version.
fn below(bound: u64, rng: &mut ChaCha8Rng) -> u64 {
    let fair = u64::MAX - u64::MAX % bound;
    loop {
        let draw = rng.next_u64();
        if draw < fair {
            return draw % bound;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn visits_every_sample_once(len in 0usize..300, seed: u64, epoch: u64) {
            let mut order = shuffled(len, seed, epoch);
            order.sort_unstable();
            prop_assert_eq!(order, (0..len).collect::<Vec<_>>());
        }

        #[test]
        fn repeats_for_the_same_seed_and_epoch(len in 0usize..300, seed: u64, epoch: u64) {
            prop_assert_eq!(shuffled(len, seed, epoch), shuffled(len, seed, epoch));
        }
    }

    #[test]
    fn differs_from_epoch_to_epoch_and_from_seed_to_seed() {
        assert_ne!(shuffled(100, 0, 0), shuffled(100, 0, 1));
        assert_ne!(shuffled(100, 0, 0), shuffled(100, 1, 0));
        assert_ne!(shuffled(100, 0, 1), shuffled(100, 1, 0));
    }

    // Computed by an implementation of its own, from the definitions of ChaCha and Fisher-Yates.
    // Should this ever fail, old runs can no longer be repeated or resumed.
    #[test]
    fn keeps_its_order_from_version_to_version() {
        const MADE_BY: &str =
            "the golden is made by: python3 crates/firebrick-data/tests/goldens/chacha8_shuffle.py";
        assert_eq!(shuffled(12, 0, 0), GOLDEN_0_0, "{MADE_BY}");
        assert_eq!(shuffled(12, 42, 3), GOLDEN_42_3, "{MADE_BY}");
    }

    const GOLDEN_0_0: [usize; 12] = [2, 11, 5, 0, 10, 9, 8, 3, 6, 7, 1, 4];
    const GOLDEN_42_3: [usize; 12] = [0, 4, 7, 1, 10, 9, 11, 5, 2, 8, 3, 6];

    #[test]
    fn puts_every_sample_at_every_place_equally_often() {
        const LEN: usize = 5;
        const EPOCHS: u64 = 20_000;
        let mut counts = [[0u32; LEN]; LEN];
        for epoch in 0..EPOCHS {
            for (place, &sample) in shuffled(LEN, 9, epoch).iter().enumerate() {
                counts[place][sample] += 1;
            }
        }
        // Binomial(20,000, 1/5): mean 4,000, standard deviation 57; five of those.
        for count in counts.iter().flatten() {
            assert!(count.abs_diff(4_000) < 285, "{counts:?}");
        }
    }
}
