//! Every instruction set's arithmetic against plain Rust.

use super::*;

/// Checks one instruction set's arithmetic on values of every kind.
fn check<S: Simd>(simd: S) {
    let special =
        [0.0, -0.0, 1.5, -2.5, 3.5, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-30, -7.25, 6.0, 1e30];
    for (index, &first) in special.iter().enumerate() {
        let other = special[(index + 5) % special.len()];
        let third = special[(index + 2) % special.len()];
        let lanes = |value: f32| vec![value; S::LANES];
        let result = |operation: &dyn Fn(S::Vector, S::Vector, S::Vector) -> S::Vector| {
            let mut values = vec![0.0; S::LANES];
            simd.vectorize(|| {
                // SAFETY: every slice is one vector long.
                unsafe {
                    let [a, b, c] = [first, other, third].map(|value| simd.load(lanes(value).as_ptr()));
                    simd.store(values.as_mut_ptr(), operation(a, b, c));
                }
            });
            assert!(
                values.iter().all(|value| value.to_bits() == values[0].to_bits()),
                "{simd:?}: {values:?}"
            );
            values[0]
        };
        let same = |name: &str, actual: f32, expected: f32| {
            let equal = actual == expected || actual.is_nan() && expected.is_nan();
            assert!(equal, "{simd:?}: {name} of {first}, {other}, {third} is {actual}, not {expected}");
        };
        same("add", result(&|a, b, _| simd.add(a, b)), first + other);
        same("mul", result(&|a, b, _| simd.mul(a, b)), first * other);
        same("div", result(&|a, b, _| simd.div(a, b)), first / other);
        let (once, twice) = (first.mul_add(other, third), first * other + third);
        let product = result(&|a, b, c| simd.mul_add(a, b, c));
        same("mul_add", product, if product == twice { twice } else { once });
        same(
            "at_least",
            result(&|_, b, _| simd.at_least(simd.splat(-2.0), b)),
            if other < -2.0 { -2.0 } else { other },
        );
        same(
            "at_most",
            result(&|_, b, _| simd.at_most(simd.splat(2.0), b)),
            if other > 2.0 { 2.0 } else { other },
        );
        let larger = if first.is_nan() || other.is_nan() { f32::NAN } else { first.max(other) };
        same("larger", result(&|a, b, _| simd.larger(a, b)), larger);
        let inside = -2.0 < other && other < 6.0;
        same(
            "between",
            result(&|a, b, _| simd.between(simd.splat(-2.0), b, simd.splat(6.0), a)),
            if inside { first } else { 0.0 },
        );
        same("sqrt", result(&|a, _, _| simd.sqrt(a)), first.sqrt());
        if first.abs() < 1e6 {
            same("round", result(&|a, _, _| simd.round(a)), first.round_ties_even());
        }
    }
    for n in [-126.0, -1.0, 0.0, 1.0, 10.0, 127.0f32] {
        let mut values = vec![0.0; S::LANES];
        // SAFETY: the slice is one vector long.
        simd.vectorize(|| unsafe { simd.store(values.as_mut_ptr(), simd.power_of_two(simd.splat(n))) });
        assert_eq!(values[0], n.exp2(), "{simd:?}");
    }
    for step in -870..880 {
        let x = step as f32 / 10.0;
        let mut values = vec![0.0; S::LANES];
        // SAFETY: the slice is one vector long.
        simd.vectorize(|| unsafe { simd.store(values.as_mut_ptr(), simd.exp(simd.splat(x))) });
        let expected = f64::from(x).exp();
        let error = (f64::from(values[0]) - expected).abs() / expected;
        assert!(error < 2.0 * f64::from(f32::EPSILON), "{simd:?}: exp({x}) is {}, not {expected}", values[0]);
    }
    for (x, expected) in [(f32::NEG_INFINITY, 0.0), (-1e30, 0.0), (-88.0, 0.0), (f32::NAN, f32::NAN)] {
        let mut values = vec![1.0; S::LANES];
        // SAFETY: the slice is one vector long.
        simd.vectorize(|| unsafe { simd.store(values.as_mut_ptr(), simd.exp(simd.splat(x))) });
        assert_eq!(values[0].to_bits(), f32::to_bits(expected), "{simd:?}: exp({x}) is {}", values[0]);
    }
    for step in -12600..=12700 {
        let x = step as f32 / 100.0;
        let mut values = vec![0.0; S::LANES];
        // SAFETY: the slice is one vector long.
        simd.vectorize(|| unsafe { simd.store(values.as_mut_ptr(), simd.exp2(simd.splat(x))) });
        let expected = f64::from(x).exp2();
        let error = (f64::from(values[0]) - expected).abs() / expected;
        assert!(error < 2.0 * f64::from(f32::EPSILON), "{simd:?}: 2^{x} is {}, not {expected}", values[0]);
    }
}

/// Checks that rows and columns are exchanged, and that nothing beside them is touched.
fn check_transpose<S: Simd>(simd: S) {
    let (from_row, to_row) = (S::LANES + 3, S::LANES + 1);
    let from: Vec<f32> = (0..S::LANES * from_row).map(|value| value as f32).collect();
    let mut to = vec![-1.0; S::LANES * to_row];
    // SAFETY: the rows fill the vectors.
    simd.vectorize(|| unsafe { simd.transpose(from.as_ptr(), from_row, to.as_mut_ptr(), to_row) });
    for (at, &value) in to.iter().enumerate() {
        let (column, row) = (at / to_row, at % to_row);
        let expected = if row < S::LANES { (row * from_row + column) as f32 } else { -1.0 };
        assert_eq!(value, expected, "{simd:?}: column {column}, row {row}");
    }
}

#[test]
fn computes_what_plain_rust_does_at_each_level() {
    fn check_all<S: Simd>(simd: S) {
        check(simd);
        check_transpose(simd);
    }
    check_all(Scalar::<1>);
    check_all(Scalar::<8>);
    #[cfg(target_arch = "x86_64")]
    {
        Avx2::detect().into_iter().for_each(check_all);
        Avx512::detect().into_iter().for_each(check_all);
    }
    #[cfg(target_arch = "aarch64")]
    Neon::detect().into_iter().for_each(check_all);
}
