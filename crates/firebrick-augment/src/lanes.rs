//! Four `f32` in one vector register, for one pixel and a spare.
//!
//! Written out for x86-64, whose baseline has the instructions: left to itself the compiler takes a pixel of three
//! channels apart into a pair and a single. Both implementations give the same bits.

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use portable::Lanes;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::Lanes;

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::x86_64::{
        __m128, _mm_add_ps, _mm_cvtepi32_ps, _mm_cvtsi32_si128, _mm_mul_ps, _mm_set1_ps, _mm_setzero_si128,
        _mm_storeu_ps, _mm_sub_ps, _mm_unpacklo_epi8, _mm_unpacklo_epi16,
    };

    #[derive(Clone, Copy)]
    pub(crate) struct Lanes(__m128);

    impl Lanes {
        /// The numbers that the four bytes are, the lowest first.
        #[inline(always)]
        pub(crate) fn from_bytes(bytes: u32) -> Self {
            // SAFETY: every x86-64 processor has SSE2.
            unsafe {
                let zero = _mm_setzero_si128();
                let words = _mm_unpacklo_epi8(_mm_cvtsi32_si128(bytes.cast_signed()), zero);
                Self(_mm_cvtepi32_ps(_mm_unpacklo_epi16(words, zero)))
            }
        }

        /// `self + (other - self) * t`: exact where the two are equal, and at `t` 0 and, for whole numbers, 1.
        #[inline(always)]
        pub(crate) fn blend(self, other: Self, t: f32) -> Self {
            // SAFETY: every x86-64 processor has SSE2.
            unsafe {
                let way = _mm_mul_ps(_mm_sub_ps(other.0, self.0), _mm_set1_ps(t));
                Self(_mm_add_ps(self.0, way))
            }
        }

        #[inline(always)]
        pub(crate) fn to_array(self) -> [f32; 4] {
            let mut array = [0.0; 4];
            // SAFETY: every x86-64 processor has SSE2; the array has room for the four numbers, and this store asks for no alignment.
            unsafe { _mm_storeu_ps(array.as_mut_ptr(), self.0) };
            array
        }
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable {
    #[derive(Clone, Copy)]
    pub(crate) struct Lanes([f32; 4]);

    impl Lanes {
        /// The numbers that the four bytes are, the lowest first.
        #[inline(always)]
        pub(crate) fn from_bytes(bytes: u32) -> Self {
            Self(bytes.to_le_bytes().map(f32::from))
        }

        /// `self + (other - self) * t`: exact where the two are equal, and at `t` 0 and, for whole numbers, 1.
        #[inline(always)]
        pub(crate) fn blend(self, other: Self, t: f32) -> Self {
            let between = |lane: usize| self.0[lane] + (other.0[lane] - self.0[lane]) * t;
            Self([between(0), between(1), between(2), between(3)])
        }

        #[inline(always)]
        pub(crate) fn to_array(self) -> [f32; 4] {
            self.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Lanes, portable};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn gives_the_same_bits_on_any_processor(a in any::<u32>(), b in any::<u32>(), t in 0f32..=1.0) {
            let here = Lanes::from_bytes(a).blend(Lanes::from_bytes(b), t).to_array();
            let anywhere = portable::Lanes::from_bytes(a).blend(portable::Lanes::from_bytes(b), t).to_array();
            prop_assert_eq!(here.map(f32::to_bits), anywhere.map(f32::to_bits));
        }

        #[test]
        fn keeps_what_is_equal_and_whole(a in any::<u32>(), b in any::<u32>(), t in 0f32..=1.0) {
            let (from, to) = (Lanes::from_bytes(a), Lanes::from_bytes(b));
            prop_assert_eq!(from.blend(from, t).to_array(), a.to_le_bytes().map(f32::from));
            prop_assert_eq!(from.blend(to, 0.0).to_array(), a.to_le_bytes().map(f32::from));
            prop_assert_eq!(from.blend(to, 1.0).to_array(), b.to_le_bytes().map(f32::from));
        }
    }
}
