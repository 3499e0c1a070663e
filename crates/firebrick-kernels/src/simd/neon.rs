//! NEON on 64-bit ARM: four lanes, thirty-two registers.

use super::Simd;
use std::arch::aarch64::*;

/// Proof that this processor has NEON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon(());

impl Neon {
    /// The token, where the processor supports it.
    pub(crate) fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
    }
}

// SAFETY of every block below: the only constructor of `Neon` is `detect`, so a value of it proves the feature.
// Memory is touched by `load` and `store` alone, under their own contracts.
impl Simd for Neon {
    const LANES: usize = 4;
    /// Twenty-four accumulators, three vectors of weights and the broadcasts fit thirty-two registers.
    const TILE_ROWS: [usize; 3] = [12, 12, 8];
    const DEPTHWISE_TILE: usize = 8;
    type Vector = float32x4_t;

    #[inline(always)]
    fn vectorize<R>(self, work: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "neon")]
        fn with_features<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        // SAFETY: `self` proves the feature.
        unsafe { with_features(work) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> float32x4_t {
        // SAFETY: `self` proves the feature.
        unsafe { vdupq_n_f32(value) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> float32x4_t {
        // SAFETY: `self` proves the feature; the caller promises four readable values.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: float32x4_t) {
        // SAFETY: `self` proves the feature; the caller promises four writable values.
        unsafe { vst1q_f32(to, value) }
    }

    /// Does nothing: there is no stable way to say it.
    #[inline(always)]
    fn prefetch(self, _at: *const f32) {}

    #[inline(always)]
    fn prefetch_near(self, _at: *const f32) {}

    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves the feature.
        unsafe { vaddq_f32(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves the feature.
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves the feature.
        unsafe { vdivq_f32(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves the feature.
        unsafe { vfmaq_f32(c, a, b) }
    }

    /// The instruction returns "not a number" where either operand is.
    #[inline(always)]
    fn at_least(self, bound: float32x4_t, x: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves the feature.
        unsafe { vmaxq_f32(bound, x) }
    }

    /// The instruction returns "not a number" where either operand is.
    #[inline(always)]
    fn at_most(self, bound: float32x4_t, x: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves the feature.
        unsafe { vminq_f32(bound, x) }
    }

    /// The instruction returns "not a number" where either operand is.
    #[inline(always)]
    fn larger(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves the feature.
        unsafe { vmaxq_f32(a, b) }
    }

    #[inline(always)]
    fn between(self, low: float32x4_t, x: float32x4_t, high: float32x4_t, value: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves the feature.
        unsafe {
            let inside = vandq_u32(vcltq_f32(low, x), vcltq_f32(x, high));
            vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(value), inside))
        }
    }

    #[inline(always)]
    fn sqrt(self, x: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves the feature.
        unsafe { vsqrtq_f32(x) }
    }

    #[inline(always)]
    fn round(self, x: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves the feature.
        unsafe { vrndnq_f32(x) }
    }

    #[inline(always)]
    fn power_of_two(self, n: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves the feature.
        unsafe {
            let biased = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
        }
    }
}
