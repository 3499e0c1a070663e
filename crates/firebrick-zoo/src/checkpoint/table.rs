//! The one table that every format is read into: a name, a shape, a type, and values that are read when they are used.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// How the file stores a tensor's numbers. They are handed out as `f32`, whatever they are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// Double precision; a finite number that `f32` cannot hold is an error when it is read.
    F64,
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// The upper half of an `f32`.
    Bf16,
    /// Signed, 64 bits.
    I64,
    /// Signed, 32 bits.
    I32,
    /// Signed, 16 bits.
    I16,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 64 bits.
    U64,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 8 bits.
    U8,
    /// True or false, one byte each. Handed out by no reader: a mask is no weight.
    Bool,
}

impl Dtype {
    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    fn is_integer(self) -> bool {
        !matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::Bf16 | Self::Bool)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

const MASK: &str = "its type is bool, which no weight has";

/// What went wrong with a file, in words that follow its name.
pub(crate) type Reason = String;

type Read = dyn Fn() -> Result<Vec<f32>, Reason> + Send + Sync;

/// A tensor of a file.
#[derive(Clone)]
pub(crate) struct Entry {
    /// In PyTorch's order of axes.
    pub shape: Vec<usize>,
    /// As the file stores it.
    pub dtype: Dtype,
    /// A Keras kernel that may be a depthwise one; its file does not say.
    pub perhaps_depthwise: bool,
    /// Whether the file has the scale of its steps, which the numbers are multiplied by when they are read.
    pub scaled: bool,
    read: Arc<Read>,
}

/// The tensors of a file.
pub(crate) type Table = BTreeMap<String, Entry>;

impl Entry {
    /// A tensor of `shape` whose numbers are `read` when they are asked for.
    pub fn new(
        shape: Vec<usize>,
        dtype: Dtype,
        read: impl Fn() -> Result<Vec<f32>, Reason> + Send + Sync + 'static,
    ) -> Self {
        Self { shape, dtype, perhaps_depthwise: false, scaled: false, read: Arc::new(read) }
    }

    /// The numbers in row-major order.
    pub fn read(&self) -> Result<Vec<f32>, Reason> {
        if self.dtype == Dtype::Bool {
            return Err(MASK.to_owned());
        }
        let values = (self.read)()?;
        let expected = elements(&self.shape, usize::MAX)?;
        match values.len() == expected {
            true => Ok(values),
            false => {
                Err(format!("it has {} values, its shape {:?} wants {expected}", values.len(), self.shape))
            }
        }
    }

    /// Why it cannot be learned weights, by its type alone.
    pub fn objection(&self) -> Option<Reason> {
        let dtype = self.dtype;
        match dtype {
            Dtype::Bool => Some(MASK.to_owned()),
            _ if self.scaled || !dtype.is_integer() => None,
            _ => Some(format!("its numbers are {dtype} without a scale; save it in f32, f16 or bf16")),
        }
    }

    /// The same numbers with axis `axes[i]` in place `i`.
    pub fn permuted(self, axes: &[usize]) -> Self {
        let shape = axes.iter().map(|&axis| self.shape[axis]).collect();
        let axes = axes.to_vec();
        let Self { dtype, scaled, .. } = self;
        let read = move || Ok(permute(&self.read()?, &self.shape, &axes));
        Self { scaled, ..Self::new(shape, dtype, read) }
    }

    /// Part `index` of `parts` equal ones along the first axis, which they divide.
    pub fn rows(self, index: usize, parts: usize) -> Self {
        let mut shape = self.shape.clone();
        shape[0] /= parts;
        let length = shape.iter().product::<usize>();
        let Self { dtype, scaled, .. } = self;
        let read = move || Ok(self.read()?[index * length..][..length].to_vec());
        Self { scaled, ..Self::new(shape, dtype, read) }
    }

    /// The same numbers in another shape of as many.
    pub fn reshaped(self, shape: Vec<usize>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), self.shape.iter().product::<usize>());
        Self { shape, ..self }
    }
}

/// How many numbers a shape has, unless that is more than `limit`.
pub(crate) fn elements(shape: &[usize], limit: usize) -> Result<usize, Reason> {
    // Beside a side of 0 the others count too, for they are multiplied in other orders later.
    let product =
        |least: usize| shape.iter().try_fold(1usize, |product, &side| product.checked_mul(side.max(least)));
    product(1)
        .and_then(|_| product(0))
        .filter(|&product| product <= limit)
        .ok_or_else(|| format!("a tensor of shape {shape:?} is larger than its file can hold"))
}

/// Row-major `values` of `shape` with axis `axes[i]` in place `i`.
fn permute(values: &[f32], shape: &[usize], axes: &[usize]) -> Vec<f32> {
    if values.is_empty() {
        return Vec::new();
    }
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    let sides: Vec<usize> = axes.iter().map(|&axis| shape[axis]).collect();
    let strides: Vec<usize> = axes.iter().map(|&axis| strides[axis]).collect();
    let (Some((&side, outer)), Some((&stride, steps))) = (sides.split_last(), strides.split_last()) else {
        return values.to_vec();
    };
    let mut permuted = Vec::with_capacity(values.len());
    let mut index = vec![0; outer.len()];
    let mut offset = 0;
    loop {
        permuted.extend((0..side).map(|place| values[offset + place * stride]));
        // An odometer over the outer axes.
        let mut axis = outer.len();
        loop {
            if axis == 0 {
                return permuted;
            }
            axis -= 1;
            index[axis] += 1;
            offset += steps[axis];
            if index[axis] < outer[axis] {
                break;
            }
            offset -= steps[axis] * outer[axis];
            index[axis] = 0;
        }
    }
}

/// Row-major `values` of `[rows, columns]` as `[columns, rows]`.
pub(crate) fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    /// Rows and columns of a tile, which stays in the first cache from its first line to its last.
    const TILE: usize = 32;
    let mut turned = vec![0.0; values.len()];
    for first in (0..rows).step_by(TILE) {
        let height = TILE.min(rows - first);
        for left in (0..columns).step_by(TILE) {
            for column in left..columns.min(left + TILE) {
                let line = &mut turned[column * rows + first..][..height];
                for (to, row) in line.iter_mut().zip(first..) {
                    *to = values[row * columns + column];
                }
            }
        }
    }
    turned
}

/// Little-endian numbers of a type as `f32`.
pub(crate) fn to_floats(bytes: &[u8], dtype: Dtype) -> Result<Vec<f32>, Reason> {
    fn each<const N: usize>(bytes: &[u8], mut number: impl FnMut([u8; N]) -> f32) -> Vec<f32> {
        bytes.as_chunks::<N>().0.iter().map(|&bytes| number(bytes)).collect()
    }
    Ok(match dtype {
        Dtype::F64 => {
            let mut out_of_range = None;
            let values = each(bytes, |bytes| {
                let value = f64::from_le_bytes(bytes);
                let narrow = value as f32;
                if narrow.is_infinite() && value.is_finite() {
                    out_of_range = out_of_range.or(Some(value));
                }
                narrow
            });
            if let Some(value) = out_of_range {
                return Err(format!("it holds {value:e}, which is too large for f32"));
            }
            values
        }
        Dtype::F32 => each(bytes, f32::from_le_bytes),
        Dtype::F16 => each(bytes, |bytes| half::f16::from_le_bytes(bytes).to_f32()),
        Dtype::Bf16 => each(bytes, |bytes| half::bf16::from_le_bytes(bytes).to_f32()),
        Dtype::I64 => each(bytes, |bytes| i64::from_le_bytes(bytes) as f32),
        Dtype::I32 => each(bytes, |bytes| i32::from_le_bytes(bytes) as f32),
        Dtype::I16 => each(bytes, |bytes| f32::from(i16::from_le_bytes(bytes))),
        Dtype::I8 => each(bytes, |bytes| f32::from(i8::from_le_bytes(bytes))),
        Dtype::U64 => each(bytes, |bytes| u64::from_le_bytes(bytes) as f32),
        Dtype::U32 => each(bytes, |bytes| u32::from_le_bytes(bytes) as f32),
        Dtype::U16 => each(bytes, |bytes| f32::from(u16::from_le_bytes(bytes))),
        Dtype::U8 | Dtype::Bool => each(bytes, |[byte]| f32::from(byte)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_becomes_f32() {
        for (dtype, bytes, expected) in [
            (Dtype::F64, (-2.5f64).to_le_bytes().to_vec(), -2.5),
            (Dtype::F32, 0.1f32.to_le_bytes().to_vec(), 0.1),
            (Dtype::F16, half::f16::from_f32(1.5).to_le_bytes().to_vec(), 1.5),
            (Dtype::Bf16, half::bf16::from_f32(-3.0).to_le_bytes().to_vec(), -3.0),
            (Dtype::I64, (-7i64).to_le_bytes().to_vec(), -7.0),
            (Dtype::I32, 70_000i32.to_le_bytes().to_vec(), 70_000.0),
            (Dtype::I16, (-300i16).to_le_bytes().to_vec(), -300.0),
            (Dtype::I8, (-3i8).to_le_bytes().to_vec(), -3.0),
            (Dtype::U64, 9u64.to_le_bytes().to_vec(), 9.0),
            (Dtype::U32, 4_000_000_000u32.to_le_bytes().to_vec(), 4e9),
            (Dtype::U16, 65_535u16.to_le_bytes().to_vec(), 65_535.0),
            (Dtype::U8, vec![255], 255.0),
        ] {
            assert_eq!(bytes.len(), dtype.size(), "{dtype}");
            assert_eq!(to_floats(&bytes, dtype).expect("in range"), [expected], "{dtype}");
        }
    }

    #[test]
    fn a_double_beyond_the_range_of_f32_is_an_error_and_infinity_is_not() {
        let reason = to_floats(&1e300f64.to_le_bytes(), Dtype::F64).expect_err("too large");
        assert!(reason.contains("1e300"), "{reason}");
        assert_eq!(to_floats(&f64::INFINITY.to_le_bytes(), Dtype::F64).expect("infinite"), [f32::INFINITY]);
    }

    #[test]
    fn permuting_moves_every_number_to_its_place() {
        // Over odd shapes, against the definition.
        for shape in [[2, 3, 4, 5], [1, 7, 1, 2], [3, 1, 2, 1]] {
            let count: usize = shape.iter().product();
            let values: Vec<f32> = (0..count).map(|value| value as f32).collect();
            let axes = [3, 2, 0, 1];
            let permuted = permute(&values, &shape, &axes);
            let at = |index: [usize; 4], shape: [usize; 4]| {
                index.iter().zip(shape).fold(0, |offset, (&place, side)| offset * side + place)
            };
            for h in 0..shape[0] {
                for w in 0..shape[1] {
                    for i in 0..shape[2] {
                        for o in 0..shape[3] {
                            let to = at([o, i, h, w], [shape[3], shape[2], shape[0], shape[1]]);
                            assert_eq!(permuted[to], values[at([h, w, i, o], shape)]);
                        }
                    }
                }
            }
        }
        assert_eq!(permute(&[5.0], &[], &[]), [5.0]);
        assert!(permute(&[], &[0, 3], &[1, 0]).is_empty());
    }

    #[test]
    fn a_shape_that_overflows_in_any_order_is_refused() {
        let huge = 1 << 40;
        for shape in [[0, huge, huge], [huge, 0, huge], [huge, huge, 0], [huge, huge, 2]] {
            assert!(elements(&shape, usize::MAX).is_err(), "{shape:?}");
        }
        assert_eq!(elements(&[0, 5], 10), Ok(0));
        assert_eq!(elements(&[], 1), Ok(1));
        assert!(elements(&[3, 4], 11).is_err());
    }

    #[test]
    fn transposing_is_permuting_two_axes() {
        for (rows, columns) in [(1, 1), (3, 5), (32, 32), (33, 70), (100, 31), (0, 4), (1, 65)] {
            let values: Vec<f32> = (0..rows * columns).map(|value| value as f32).collect();
            assert_eq!(transpose(&values, rows, columns), permute(&values, &[rows, columns], &[1, 0]));
        }
    }

    #[test]
    fn a_mask_is_refused_when_its_values_are_asked_for() {
        let mask = Entry::new(vec![1], Dtype::Bool, || Ok(vec![1.0]));
        assert!(mask.read().expect_err("a mask").contains("bool"));
    }

    #[test]
    fn a_reader_that_gives_too_few_values_is_found_out() {
        let entry = Entry::new(vec![2, 2], Dtype::F32, || Ok(vec![0.0; 3]));
        assert!(entry.read().expect_err("too few").contains("3 values"));
    }
}
