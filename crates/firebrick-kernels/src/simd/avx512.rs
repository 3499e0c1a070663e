//! AVX-512F: sixteen lanes, thirty-two registers.

use super::Simd;
use std::arch::x86_64::*;

/// Proof that this processor has AVX-512F (and AVX2 and FMA, which come with it).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The token, where the processor and the operating system support it.
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma"))
        .then_some(Self(()))
    }
}

/// The halves of 64 bits of two vectors, alternating: the even ones and the odd ones.
///
/// # Safety
/// The processor has the features of this module.
#[inline(always)]
unsafe fn pairs(a: __m512, b: __m512) -> [__m512; 2] {
    // SAFETY: as promised by the caller.
    unsafe {
        let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
        [_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b))]
    }
}

// SAFETY of every block below: the only constructor of `Avx512` is `detect`, so a value of it proves the features.
// Memory is touched by `load` and `store` alone, under their own contracts, with the instructions that need no alignment.
impl Simd for Avx512 {
    const LANES: usize = 16;
    /// Twenty-four accumulators; the broadcasts are memory operands of the multiply-add.
    const TILE_ROWS: [usize; 3] = [12, 12, 8];
    const DEPTHWISE_TILE: usize = 8;
    type Vector = __m512;

    #[inline(always)]
    fn vectorize<R>(self, work: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx512f,avx2,fma")]
        fn with_features<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        // SAFETY: `self` proves the features.
        unsafe { with_features(work) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: `self` proves the features; the caller promises sixteen readable values.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: __m512) {
        // SAFETY: `self` proves the features; the caller promises sixteen writable values.
        unsafe { _mm512_storeu_ps(to, value) }
    }

    /// Pairs of rows, of pairs, of fours and of eights, as in a tournament.
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_row: usize, to: *mut f32, to_row: usize) {
        // SAFETY: `self` proves the features; the caller promises sixteen rows of sixteen values on either side.
        unsafe {
            let mut a: [__m512; 16] = std::array::from_fn(
                #[inline(always)]
                |r| _mm512_loadu_ps(from.add(r * from_row)),
            );
            let mut b = a;
            for i in 0..8 {
                b[2 * i] = _mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]);
                b[2 * i + 1] = _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]);
            }
            // Row `4 * g + c` has, in each quarter `q`, column `4 * q + c` of the rows `4 * g ..`.
            for i in (0..16).step_by(4) {
                [a[i], a[i + 1]] = pairs(b[i], b[i + 2]);
                [a[i + 2], a[i + 3]] = pairs(b[i + 1], b[i + 3]);
            }
            for i in 0..4 {
                for (half, at) in [(0, i), (8, i + 8)] {
                    b[at] = _mm512_shuffle_f32x4::<0x88>(a[half + i], a[half + i + 4]);
                    b[at + 4] = _mm512_shuffle_f32x4::<0xdd>(a[half + i], a[half + i + 4]);
                }
            }
            for i in 0..8 {
                _mm512_storeu_ps(to.add(i * to_row), _mm512_shuffle_f32x4::<0x88>(b[i], b[i + 8]));
                _mm512_storeu_ps(to.add((i + 8) * to_row), _mm512_shuffle_f32x4::<0xdd>(b[i], b[i + 8]));
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
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    /// The instruction returns its second operand where either is not a number.
    #[inline(always)]
    fn at_least(self, bound: __m512, x: __m512) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_max_ps(bound, x) }
    }

    /// The instruction returns its second operand where either is not a number.
    #[inline(always)]
    fn at_most(self, bound: __m512, x: __m512) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_min_ps(bound, x) }
    }

    /// The instruction returns its second operand where either is not a number; where that is the first, it is put back.
    #[inline(always)]
    fn larger(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe {
            let no_number = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a);
            _mm512_mask_mov_ps(_mm512_max_ps(a, b), no_number, a)
        }
    }

    #[inline(always)]
    fn between(self, low: __m512, x: __m512, high: __m512, value: __m512) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe {
            let above = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(low, x);
            let inside = _mm512_mask_cmp_ps_mask::<_CMP_LT_OQ>(above, x, high);
            _mm512_maskz_mov_ps(inside, value)
        }
    }

    #[inline(always)]
    fn sqrt(self, x: __m512) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_sqrt_ps(x) }
    }

    #[inline(always)]
    fn round(self, x: __m512) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) }
    }

    #[inline(always)]
    fn power_of_two(self, n: __m512) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        }
    }
}
