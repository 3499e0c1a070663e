//! Vectors over slices of any length: the last, shorter vector is filled up on the way in and cut on the way out.
//!
//! Everything here is safe: lengths are asserted, where the compiler cannot see them. Sums over a row have a fixed order that
//! depends on the length and the instruction set alone.
//!
//! Closures handed to these functions carry `#[inline(always)]`: one that is called is compiled for the plain processor, and every
//! intrinsic in it becomes a call.

use crate::simd::Simd;
use std::array::from_fn;

/// Lanes of the widest instruction set.
const MOST_LANES: usize = 16;

/// Independent sums of a reduction, so that additions need not wait for each other.
const SUMS: usize = 4;

/// Reads the first vector of `from`.
#[inline(always)]
pub(crate) fn read<S: Simd>(simd: S, from: &[f32]) -> S::Vector {
    assert!(from.len() >= S::LANES);
    // SAFETY: the slice was just checked to hold a vector.
    unsafe { simd.load(from.as_ptr()) }
}

/// Writes the first vector of `to`.
#[inline(always)]
pub(crate) fn write<S: Simd>(simd: S, to: &mut [f32], value: S::Vector) {
    assert!(to.len() >= S::LANES);
    // SAFETY: the slice was just checked to hold a vector.
    unsafe { simd.store(to.as_mut_ptr(), value) }
}

/// Exchanges rows and columns of a square of `LANES` rows of `LANES` values; rows begin `from_row` and `to_row` values apart.
#[inline(always)]
pub(crate) fn transpose<S: Simd>(simd: S, from: &[f32], from_row: usize, to: &mut [f32], to_row: usize) {
    let last = S::LANES - 1;
    assert!(from.len() >= last * from_row + S::LANES && to.len() >= last * to_row + S::LANES);
    // SAFETY: the last rows were just checked to lie within the slices, which do not overlap.
    unsafe { simd.transpose(from.as_ptr(), from_row, to.as_mut_ptr(), to_row) };
}

/// Reads a slice shorter than a vector; the lanes behind its end are `rest`.
#[inline(always)]
pub(crate) fn read_part<S: Simd>(simd: S, from: &[f32], rest: f32) -> S::Vector {
    let mut lanes = [rest; MOST_LANES];
    lanes[..from.len()].copy_from_slice(from);
    read(simd, &lanes)
}

/// Writes as many lanes as the slice, which is shorter than a vector, has place for.
#[inline(always)]
pub(crate) fn write_part<S: Simd>(simd: S, to: &mut [f32], value: S::Vector) {
    let mut lanes = [0.0; MOST_LANES];
    write(simd, &mut lanes, value);
    to.copy_from_slice(&lanes[..to.len()]);
}

/// The sum of a vector's lanes, in halves: each lane with the one half a vector further.
#[inline(always)]
pub(crate) fn sum<S: Simd>(simd: S, value: S::Vector) -> f32 {
    halves(
        simd,
        value,
        #[inline(always)]
        |a, b| a + b,
    )
}

/// The largest of a vector's lanes, none of which is NaN.
#[inline(always)]
pub(crate) fn max<S: Simd>(simd: S, value: S::Vector) -> f32 {
    halves(simd, value, f32::max)
}

#[inline(always)]
fn halves<S: Simd>(simd: S, value: S::Vector, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; MOST_LANES];
    write(simd, &mut lanes, value);
    let mut count = S::LANES;
    while count > 1 {
        count /= 2;
        for lane in 0..count {
            lanes[lane] = join(lanes[lane], lanes[lane + count]);
        }
    }
    lanes[0]
}

/// `output[i] = of(inputs[..][i])`.
///
/// # Panics
/// If an input has another length than the output.
#[inline(always)]
pub(crate) fn map<S: Simd, const N: usize>(
    simd: S,
    inputs: [&[f32]; N],
    output: &mut [f32],
    of: impl Fn([S::Vector; N]) -> S::Vector,
) {
    let length = output.len();
    assert!(inputs.iter().all(|input| input.len() == length));
    let whole = length - length % S::LANES;
    for at in (0..whole).step_by(S::LANES) {
        let values = from_fn(
            #[inline(always)]
            |input| read(simd, &inputs[input][at..at + S::LANES]),
        );
        write(simd, &mut output[at..at + S::LANES], of(values));
    }
    if whole < length {
        let values = from_fn(
            #[inline(always)]
            |input| read_part(simd, &inputs[input][whole..], 0.0),
        );
        write_part(simd, &mut output[whole..], of(values));
    }
}

/// `sums[i] = of(inputs[..][i], sums[i])`.
///
/// # Panics
/// If an input has another length than the sums.
#[inline(always)]
pub(crate) fn update<S: Simd, const N: usize>(
    simd: S,
    inputs: [&[f32]; N],
    sums: &mut [f32],
    of: impl Fn([S::Vector; N], S::Vector) -> S::Vector,
) {
    let length = sums.len();
    assert!(inputs.iter().all(|input| input.len() == length));
    let whole = length - length % S::LANES;
    for at in (0..whole).step_by(S::LANES) {
        let values = from_fn(
            #[inline(always)]
            |input| read(simd, &inputs[input][at..at + S::LANES]),
        );
        let sum = &mut sums[at..at + S::LANES];
        write(simd, sum, of(values, read(simd, sum)));
    }
    if whole < length {
        let values = from_fn(
            #[inline(always)]
            |input| read_part(simd, &inputs[input][whole..], 0.0),
        );
        let sum = &mut sums[whole..];
        write_part(simd, sum, of(values, read_part(simd, sum, 0.0)));
    }
}

/// `K` sums over the elements: `of(inputs[..][i])` gives what each adds. Lanes behind the end count as `rest`, for which `of`
/// must add nothing.
///
/// # Panics
/// If the inputs' lengths differ.
#[inline(always)]
pub(crate) fn sums<S: Simd, const N: usize, const K: usize>(
    simd: S,
    inputs: [&[f32]; N],
    rest: [f32; N],
    of: impl Fn([S::Vector; N]) -> [S::Vector; K],
) -> [f32; K] {
    let join = |a: [S::Vector; K], b: [S::Vector; K]| {
        from_fn(
            #[inline(always)]
            |k| simd.add(a[k], b[k]),
        )
    };
    let totals = fold(simd, inputs, rest, [simd.splat(0.0); K], of, join);
    from_fn(
        #[inline(always)]
        |k| sum(simd, totals[k]),
    )
}

/// The largest element, [`f32::NEG_INFINITY`] of nothing. A NaN anywhere may or may not be seen.
#[inline(always)]
pub(crate) fn largest<S: Simd>(simd: S, values: &[f32]) -> f32 {
    let none = simd.splat(f32::NEG_INFINITY);
    let join = |a: [S::Vector; 1], b: [S::Vector; 1]| [simd.at_least(a[0], b[0])];
    let totals = fold(
        simd,
        [values],
        [f32::NEG_INFINITY],
        [none],
        #[inline(always)]
        |values| values,
        join,
    );
    max(simd, totals[0])
}

/// Folds the elements into `K` vectors, by way of [`SUMS`] independent ones.
#[inline(always)]
fn fold<S: Simd, const N: usize, const K: usize>(
    simd: S,
    inputs: [&[f32]; N],
    rest: [f32; N],
    start: [S::Vector; K],
    of: impl Fn([S::Vector; N]) -> [S::Vector; K],
    join: impl Fn([S::Vector; K], [S::Vector; K]) -> [S::Vector; K],
) -> [S::Vector; K] {
    let length = inputs[0].len();
    assert!(inputs.iter().all(|input| input.len() == length));
    let mut totals = [start; SUMS];
    let stride = SUMS * S::LANES;
    let strided = length - length % stride;
    for at in (0..strided).step_by(stride) {
        for (index, total) in totals.iter_mut().enumerate() {
            let at = at + index * S::LANES;
            let values = from_fn(
                #[inline(always)]
                |input| read(simd, &inputs[input][at..at + S::LANES]),
            );
            *total = join(*total, of(values));
        }
    }
    let whole = length - length % S::LANES;
    for at in (strided..whole).step_by(S::LANES) {
        let values = from_fn(
            #[inline(always)]
            |input| read(simd, &inputs[input][at..at + S::LANES]),
        );
        totals[0] = join(totals[0], of(values));
    }
    if whole < length {
        let values = from_fn(
            #[inline(always)]
            |input| read_part(simd, &inputs[input][whole..], rest[input]),
        );
        totals[1] = join(totals[1], of(values));
    }
    let [a, b, c, d] = totals;
    join(join(a, b), join(c, d))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimdLevel;
    use crate::chain::Work;

    struct AtLength(usize);

    impl Work for AtLength {
        type Output = ();

        fn run<S: Simd>(self, simd: S) {
            let values: Vec<f32> = (0..self.0).map(|i| i as f32 - 3.0).collect();
            let twos = vec![2.0; self.0];
            let mut doubled = vec![f32::NAN; self.0];
            map(simd, [&values, &twos], &mut doubled, |[a, b]| simd.mul(a, b));
            assert!(doubled.iter().zip(&values).all(|(double, value)| *double == 2.0 * value));
            let [total, squares] = sums(simd, [&values], [0.0], |[x]| [x, simd.mul(x, x)]);
            assert_eq!(total, values.iter().sum::<f32>(), "sum of {}", self.0);
            assert_eq!(squares, values.iter().map(|x| x * x).sum::<f32>(), "squares of {}", self.0);
            let expected = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(largest(simd, &values), expected, "largest of {}", self.0);
        }
    }

    #[test]
    fn handles_every_length_at_every_level() {
        for level in SimdLevel::available() {
            for length in (0..70).chain([255, 256, 257]) {
                level.run(AtLength(length));
            }
        }
    }
}
