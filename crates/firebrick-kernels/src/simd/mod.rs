//! One vector interface for every instruction set, so that each kernel is written once.
//!
//! A value of a type that implements [`Simd`] is a token: it can only be had after the processor was asked for the
//! instructions behind it, which is what makes its arithmetic safe to call.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use scalar::Scalar;

/// Vectors of [`LANES`](Simd::LANES) `f32` and what the kernels do with them.
pub(crate) trait Simd: Copy + Send + Sync + std::fmt::Debug + 'static {
    /// Values in a vector, which is also how many channels a block of the activations' layout holds.
    const LANES: usize;

    /// Rows (pixels) of the largest register tile whose columns are one, two or three vectors.
    const TILE_ROWS: [usize; 3];

    /// Neighbouring outputs of a row which the depthwise kernel computes at once.
    const DEPTHWISE_TILE: usize;

    /// The vector register.
    type Vector: Copy;

    /// Runs `work` compiled for this instruction set; everything inlined into `work` is, too.
    fn vectorize<R>(self, work: impl FnOnce() -> R) -> R;

    /// All lanes `value`.
    fn splat(self, value: f32) -> Self::Vector;

    /// Reads a vector; any alignment of an `f32`.
    ///
    /// # Safety
    /// `LANES` values are readable at `from`.
    unsafe fn load(self, from: *const f32) -> Self::Vector;

    /// Writes a vector; any alignment of an `f32`.
    ///
    /// # Safety
    /// `LANES` values are writable at `to`.
    unsafe fn store(self, to: *mut f32, value: Self::Vector);

    /// Exchanges rows and columns of `LANES` rows of `LANES` values: value `c` of row `r`, at `from + r * from_row + c`, goes to
    /// `to + c * to_row + r`.
    ///
    /// # Safety
    /// The rows are readable from `from` and writable from `to` on, and do not overlap.
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_row: usize, to: *mut f32, to_row: usize) {
        for r in 0..Self::LANES {
            for c in 0..Self::LANES {
                // SAFETY: handed on to the caller.
                unsafe { *to.add(c * to_row + r) = *from.add(r * from_row + c) };
            }
        }
    }

    /// Brings the cache line at `at` into the second-level cache, where the processor can.
    fn prefetch(self, at: *const f32);

    /// Brings the cache line at `at` into the first-level cache, where the processor can.
    fn prefetch_near(self, at: *const f32);

    /// `a + b`.
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `a * b`.
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `a / b`.
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `a * b + c`, rounded once where the instruction set can.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;

    /// The larger of `bound` and `x`; `x` where it is not a number.
    fn at_least(self, bound: Self::Vector, x: Self::Vector) -> Self::Vector;

    /// The smaller of `bound` and `x`; `x` where it is not a number.
    fn at_most(self, bound: Self::Vector, x: Self::Vector) -> Self::Vector;

    /// The larger of both; not a number where either is none.
    fn larger(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `value` where `low < x < high`, else 0; 0 where `x` is not a number.
    fn between(
        self,
        low: Self::Vector,
        x: Self::Vector,
        high: Self::Vector,
        value: Self::Vector,
    ) -> Self::Vector;

    /// The square root, correctly rounded.
    fn sqrt(self, x: Self::Vector) -> Self::Vector;

    /// The nearest whole number, ties to even, for `|x| < 2^22`.
    fn round(self, x: Self::Vector) -> Self::Vector;

    /// `2^n` for a whole number `n` in `-126..=127`, and 0 for -127.
    fn power_of_two(self, n: Self::Vector) -> Self::Vector;

    /// `e^x` within 2 ulp for `x` between -87 and 88; 0 below -88 and for -∞, and `e^88` above.
    ///
    /// Cody and Waite's reduction to `|r| <= ln(2) / 2`, then the Taylor polynomial of degree 7 in Horner's form.
    #[inline(always)]
    fn exp(self, x: Self::Vector) -> Self::Vector {
        /// The upper bits of ln(2): products with small whole numbers are exact.
        const LN_2_HIGH: f32 = 0.693_359_4;
        const LN_2_LOW: f32 = -2.121_944_4e-4;
        let x = self.at_most(self.splat(88.0), self.at_least(self.splat(-88.0), x));
        let n = self.round(self.mul(x, self.splat(std::f32::consts::LOG2_E)));
        let r = self.mul_add(n, self.splat(-LN_2_HIGH), x);
        let r = self.mul_add(n, self.splat(-LN_2_LOW), r);
        let mut polynomial = self.splat(1.0 / 5040.0);
        for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            polynomial = self.mul_add(polynomial, r, self.splat(coefficient));
        }
        self.mul(polynomial, self.power_of_two(n))
    }

    /// `2^x` within 2 ulp for `x` between -126 and 127; not a number where `x` is not, and anything outside.
    ///
    /// A whole number and `|r| <= 1 / 2`; for the latter the polynomial of degree 6 with the smallest relative deviation, 2e-9.
    #[inline(always)]
    fn exp2(self, x: Self::Vector) -> Self::Vector {
        let n = self.round(x);
        let r = self.mul_add(n, self.splat(-1.0), x);
        let mut polynomial = self.splat(1.535_336_2e-4);
        for coefficient in
            [1.339_887_5e-3, 9.618_437e-3, 5.550_332_4e-2, 0.240_226_48, std::f32::consts::LN_2, 1.0]
        {
            polynomial = self.mul_add(polynomial, r, self.splat(coefficient));
        }
        self.mul(polynomial, self.power_of_two(n))
    }
}

#[cfg(test)]
mod tests;
