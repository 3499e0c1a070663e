//! AVX2 and FMA: eight lanes, sixteen registers.

use super::Simd;
use std::arch::x86_64::*;

/// Proof that this processor has AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The token, where the processor and the operating system support it.
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }
}

/// The halves of 64 bits of two vectors, alternating: the even ones and the odd ones.
///
/// # Safety
/// The processor has the features of this module.
#[inline(always)]
unsafe fn pairs(a: __m256, b: __m256) -> [__m256; 2] {
    // SAFETY: as promised by the caller.
    unsafe {
        let (a, b) = (_mm256_castps_pd(a), _mm256_castps_pd(b));
        [_mm256_castpd_ps(_mm256_unpacklo_pd(a, b)), _mm256_castpd_ps(_mm256_unpackhi_pd(a, b))]
    }
}

// SAFETY of every block below: the only constructor of `Avx2` is `detect`, so a value of it proves the features.
// Memory is touched by `load` and `store` alone, under their own contracts, with the instructions that need no alignment.
impl Simd for Avx2 {
    const LANES: usize = 8;
    /// Two multiply-adds a cycle with a latency of four want at least eight accumulators; twelve with two vectors of weights and
    /// a broadcast still fit the sixteen registers, twelve with three spill.
    const TILE_ROWS: [usize; 3] = [12, 6, 3];
    const DEPTHWISE_TILE: usize = 4;
    type Vector = __m256;

    #[inline(always)]
    fn vectorize<R>(self, work: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,fma")]
        fn with_features<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        // SAFETY: `self` proves the features.
        unsafe { with_features(work) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        // SAFETY: `self` proves the features; the caller promises eight readable values.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: __m256) {
        // SAFETY: `self` proves the features; the caller promises eight writable values.
        unsafe { _mm256_storeu_ps(to, value) }
    }

    /// Pairs of rows, of pairs and of fours, as in a tournament.
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_row: usize, to: *mut f32, to_row: usize) {
        // SAFETY: `self` proves the features; the caller promises eight rows of eight values on either side.
        unsafe {
            let mut a: [__m256; 8] = std::array::from_fn(
                #[inline(always)]
                |r| _mm256_loadu_ps(from.add(r * from_row)),
            );
            let mut b = a;
            for i in 0..4 {
                b[2 * i] = _mm256_unpacklo_ps(a[2 * i], a[2 * i + 1]);
                b[2 * i + 1] = _mm256_unpackhi_ps(a[2 * i], a[2 * i + 1]);
            }
            for i in [0, 4] {
                [a[i], a[i + 1]] = pairs(b[i], b[i + 2]);
                [a[i + 2], a[i + 3]] = pairs(b[i + 1], b[i + 3]);
            }
            for i in 0..4 {
                _mm256_storeu_ps(to.add(i * to_row), _mm256_permute2f128_ps::<0x20>(a[i], a[i + 4]));
                _mm256_storeu_ps(to.add((i + 4) * to_row), _mm256_permute2f128_ps::<0x31>(a[i], a[i + 4]));
            }
        }
    }

    #[inline(always)]
    fn prefetch(self, at: *const f32) {
        // SAFETY: a prefetch changes nothing but the caches, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }

    #[inline(always)]
    fn prefetch_near(self, at: *const f32) {
        // SAFETY: a prefetch changes nothing but the caches, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    /// The instruction returns its second operand where either is not a number.
    #[inline(always)]
    fn at_least(self, bound: __m256, x: __m256) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_max_ps(bound, x) }
    }

    /// The instruction returns its second operand where either is not a number.
    #[inline(always)]
    fn at_most(self, bound: __m256, x: __m256) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_min_ps(bound, x) }
    }

    /// The instruction returns its second operand where either is not a number; where that is the first, it is put back.
    #[inline(always)]
    fn larger(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_blendv_ps(_mm256_max_ps(a, b), a, _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a)) }
    }

    #[inline(always)]
    fn between(self, low: __m256, x: __m256, high: __m256, value: __m256) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe {
            let above = _mm256_cmp_ps::<_CMP_LT_OQ>(low, x);
            let below = _mm256_cmp_ps::<_CMP_LT_OQ>(x, high);
            _mm256_and_ps(value, _mm256_and_ps(above, below))
        }
    }

    #[inline(always)]
    fn sqrt(self, x: __m256) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_sqrt_ps(x) }
    }

    #[inline(always)]
    fn round(self, x: __m256) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) }
    }

    #[inline(always)]
    fn power_of_two(self, n: __m256) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        }
    }
}
