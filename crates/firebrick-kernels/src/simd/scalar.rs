//! Plain Rust for any processor; also the twin against which the instruction sets are tested.

use super::Simd;

/// `LANES` plain values, so that the kernels' handling of every vector width can be tested on any machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scalar<const LANES: usize>;

impl<const L: usize> Simd for Scalar<L> {
    const LANES: usize = L;
    const TILE_ROWS: [usize; 3] = [8, 4, 2];
    const DEPTHWISE_TILE: usize = 4;
    type Vector = [f32; L];

    #[inline(always)]
    fn vectorize<R>(self, work: impl FnOnce() -> R) -> R {
        work()
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Vector {
        [value; L]
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Self::Vector {
        // SAFETY: the caller promises L readable values; an array of f32 has f32's alignment.
        unsafe { from.cast::<[f32; L]>().read() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: Self::Vector) {
        // SAFETY: the caller promises L writable values; an array of f32 has f32's alignment.
        unsafe { to.cast::<[f32; L]>().write(value) }
    }

    /// Does nothing: there is no stable way to say it.
    #[inline(always)]
    fn prefetch(self, _at: *const f32) {}

    #[inline(always)]
    fn prefetch_near(self, _at: *const f32) {}

    #[inline(always)]
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| a[i] / b[i])
    }

    /// Rounds twice: without the instruction, rounding once is a slow library call.
    #[inline(always)]
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn at_least(self, bound: Self::Vector, x: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| if bound[i] > x[i] { bound[i] } else { x[i] })
    }

    #[inline(always)]
    fn at_most(self, bound: Self::Vector, x: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| if bound[i] < x[i] { bound[i] } else { x[i] })
    }

    #[inline(always)]
    fn larger(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| if a[i] > b[i] || a[i].is_nan() { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn between(
        self,
        low: Self::Vector,
        x: Self::Vector,
        high: Self::Vector,
        value: Self::Vector,
    ) -> Self::Vector {
        std::array::from_fn(|i| if low[i] < x[i] && x[i] < high[i] { value[i] } else { 0.0 })
    }

    #[inline(always)]
    fn sqrt(self, x: Self::Vector) -> Self::Vector {
        x.map(f32::sqrt)
    }

    #[inline(always)]
    fn round(self, x: Self::Vector) -> Self::Vector {
        x.map(f32::round_ties_even)
    }

    #[inline(always)]
    fn power_of_two(self, n: Self::Vector) -> Self::Vector {
        n.map(|n| f32::from_bits(((n as i32).wrapping_add(127) << 23) as u32))
    }
}
