//! How fast this machine multiplies and adds, measured: what a kernel's speed is a share of.

use std::hint::black_box;
use std::time::Instant;

use crate::SimdLevel;
use crate::simd::{Scalar, Simd};

/// Multiply-adds of a chain in one measurement: some milliseconds, long enough for threads to start in a small part of it.
const ROUNDS: usize = 1_000_000;

/// The rate of independent multiply-add chains in `f32` on `threads` threads, GFLOP/s, a multiplication and an addition
/// counted apart.
///
/// No memory is read, so this is the limit of any kernel on these threads as the clock is now. It runs at the fastest
/// level that the processor has, whatever `FIREBRICK_SIMD` says: a forced level does not move the limit. One call takes
/// some milliseconds; what else runs on the machine makes it smaller, so take the largest of several. 0 for no threads.
pub fn multiply_add_peak(threads: usize) -> f64 {
    let start = Instant::now();
    let values: usize = std::thread::scope(|scope| {
        let chains: Vec<_> = (0..threads).map(|_| scope.spawn(|| chains(ROUNDS))).collect();
        chains.into_iter().map(|chain| chain.join().expect("arithmetic does not panic")).sum()
    });
    2.0 * (values * ROUNDS) as f64 / start.elapsed().as_secs_f64() / 1e9
}

/// Runs the chains at the fastest level there is; returns how many values each round updates.
fn chains(rounds: usize) -> usize {
    // Enough chains to hide the latency of four cycles on two units, few enough for the registers.
    match SimdLevel::available().pop() {
        #[cfg(target_arch = "x86_64")]
        Some(SimdLevel::Avx512) => {
            crate::simd::Avx512::detect().map_or_else(|| scalar(rounds), |simd| run::<_, 16>(simd, rounds))
        }
        #[cfg(target_arch = "x86_64")]
        Some(SimdLevel::Avx2) => {
            crate::simd::Avx2::detect().map_or_else(|| scalar(rounds), |simd| run::<_, 12>(simd, rounds))
        }
        #[cfg(target_arch = "aarch64")]
        Some(SimdLevel::Neon) => {
            crate::simd::Neon::detect().map_or_else(|| scalar(rounds), |simd| run::<_, 16>(simd, rounds))
        }
        _ => scalar(rounds),
    }
}

fn scalar(rounds: usize) -> usize {
    run::<_, 12>(Scalar::<4>, rounds)
}

fn run<S: Simd, const CHAINS: usize>(simd: S, rounds: usize) -> usize {
    simd.vectorize(
        #[inline(always)]
        || {
            let [factor, term] = black_box([0.5f32, 1.0]);
            let [factor, term] = [simd.splat(factor), simd.splat(term)];
            let mut values = [simd.splat(1.0); CHAINS];
            for _ in 0..rounds {
                for value in &mut values {
                    *value = simd.mul_add(*value, factor, term);
                }
            }
            black_box(values);
        },
    );
    CHAINS * S::LANES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_rate_that_a_processor_can_have() {
        let one = multiply_add_peak(1);
        assert!((0.01..100_000.0).contains(&one), "{one} GFLOP/s");
        assert_eq!(multiply_add_peak(0), 0.0);
    }

    #[test]
    fn counts_the_values_of_every_chain() {
        assert_eq!(run::<_, 3>(Scalar::<4>, 2), 12);
    }
}
