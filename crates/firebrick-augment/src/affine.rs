//! One affine resampling of an image.

use image::RgbImage;

use crate::KerasDraw;
use crate::fill_mode::{Boundary, Constant, FillMode, Nearest, Reflect, Wrap};
use crate::lanes::Lanes;

/// Where each output pixel lies in the source: `source = linear · (row, column) + offset`, rows before columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AffineMap {
    /// Source row from (output row, output column, 1).
    row: [f64; 3],
    /// Source column from (output row, output column, 1).
    column: [f64; 3],
}

/// The upper two rows of a 3x3 matrix whose last row is (0, 0, 1).
type Matrix = [[f64; 3]; 2];

fn product(a: Matrix, b: Matrix) -> Matrix {
    a.map(|[x, y, offset]| {
        [x * b[0][0] + y * b[1][0], x * b[0][1] + y * b[1][1], x * b[0][2] + y * b[1][2] + offset]
    })
}

impl AffineMap {
    /// The map of Keras' `apply_affine_transform` for an image of `width` by `height` pixels: rotation, shift, shear
    /// and zoom, in this order, about the image's centre. `None` where it moves nothing.
    ///
    /// Keras builds the matrix for (x, y), with x along the *height*, and then exchanges the axes. So `tx`, drawn from
    /// the height's range, moves columns, and the centre of an image that is not square has its coordinates exchanged.
    /// Both are kept, for the pixels to agree; in a square image only the first can be seen.
    pub(crate) fn from_draw(draw: &KerasDraw, width: u32, height: u32) -> Option<Self> {
        if draw.moves_nothing() {
            return None;
        }
        let (sin, cos) = f64::from(draw.theta).to_radians().sin_cos();
        let rotation = [[cos, -sin, 0.0], [sin, cos, 0.0]];
        let shift = [[1.0, 0.0, f64::from(draw.tx)], [0.0, 1.0, f64::from(draw.ty)]];
        let (sin, cos) = f64::from(draw.shear).to_radians().sin_cos();
        let shear = [[1.0, -sin, 0.0], [0.0, cos, 0.0]];
        let zoom = [[f64::from(draw.zx), 0.0, 0.0], [0.0, f64::from(draw.zy), 0.0]];
        let transform = product(product(product(rotation, shift), shear), zoom);

        let centre = [f64::from(height) / 2.0 - 0.5, f64::from(width) / 2.0 - 0.5];
        let to_centre = [[1.0, 0.0, centre[0]], [0.0, 1.0, centre[1]]];
        let from_centre = [[1.0, 0.0, -centre[0]], [0.0, 1.0, -centre[1]]];
        let [x, y] = product(product(to_centre, transform), from_centre);
        Some(Self { row: [y[1], y[0], y[2]], column: [x[1], x[0], x[2]] })
    }

    /// Samples `image` bilinearly at the place of every pixel of `output`, which has the image's size as HWC `f32`, and
    /// mirrors the result as asked.
    pub(crate) fn resample(&self, image: &RgbImage, fill: Fill, mirror: Mirror, output: &mut [f32]) {
        match fill.mode {
            FillMode::Nearest => self.resample_with::<Nearest>(image, fill.cval, mirror, output),
            FillMode::Constant => self.resample_with::<Constant>(image, fill.cval, mirror, output),
            FillMode::Reflect => self.resample_with::<Reflect>(image, fill.cval, mirror, output),
            FillMode::Wrap => self.resample_with::<Wrap>(image, fill.cval, mirror, output),
        }
    }

    fn resample_with<B: Boundary>(&self, image: &RgbImage, cval: f32, mirror: Mirror, output: &mut [f32]) {
        let source = Source::new(image);
        let (last_row, last_column) = (source.height - 1.0, source.width - 1.0);
        let rows = output.chunks_exact_mut(3 * image.width() as usize);
        for (index, output_row) in rows.enumerate() {
            let i = if mirror.vertical { last_row - index as f64 } else { index as f64 };
            let (row_start, column_start) = (i * self.row[0], i * self.column[0]);
            let (first, step) = if mirror.horizontal { (last_column, -1.0) } else { (0.0, 1.0) };
            let mut j = first;
            for pixel in output_row.as_chunks_mut::<3>().0 {
                // Products before offset, as SciPy adds them: the last bit decides on which side of an edge a pixel is.
                let row = B::map(row_start + j * self.row[1] + self.row[2], last_row);
                let column = B::map(column_start + j * self.column[1] + self.column[2], last_column);
                *pixel = match (row, column) {
                    (Some(row), Some(column)) => source.bilinear(row, column),
                    _ => [cval; 3],
                };
                j += step;
            }
        }
    }
}

/// What lies outside the image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fill {
    pub(crate) mode: FillMode,
    pub(crate) cval: f32,
}

/// Which axes of the output run backwards.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mirror {
    pub(crate) horizontal: bool,
    pub(crate) vertical: bool,
}

/// The pixels sampled from, with what the inner loop needs worked out.
struct Source<'a> {
    pixels: &'a [u8],
    width: f64,
    height: f64,
    /// Bytes from a row to the next; 0 if there is only one, which is then its own neighbour.
    row_step: usize,
    row_bytes: i64,
    /// The largest row and column that have a neighbour after them.
    last_pair: (i64, i64),
}

impl<'a> Source<'a> {
    fn new(image: &'a RgbImage) -> Self {
        let (width, height) = image.dimensions();
        let row_bytes = 3 * i64::from(width);
        Self {
            pixels: image.as_raw(),
            width: f64::from(width),
            height: f64::from(height),
            row_step: if height > 1 { row_bytes as usize } else { 0 },
            row_bytes,
            last_pair: ((i64::from(height) - 2).max(0), (i64::from(width) - 2).max(0)),
        }
    }

    /// The image at a position inside it, bilinear between the four pixels around.
    ///
    /// Constant regions and whole positions come out exact, on which the truncation in a later brightness change depends.
    #[inline(always)]
    fn bilinear(&self, row: f64, column: f64) -> [f32; 3] {
        let (whole_row, whole_column) = (whole(row), whole(column));
        let (top, left) = (whole_row.min(self.last_pair.0), whole_column.min(self.last_pair.1));
        let down = (row - top as f64) as f32;
        let right = (column - left as f64) as f32;
        let at = (top * self.row_bytes + 3 * left) as usize;
        let (upper_left, upper_right) = self.pair(at);
        let (lower_left, lower_right) = self.pair(at + self.row_step);
        let on_left = upper_left.blend(lower_left, down);
        let on_right = upper_right.blend(lower_right, down);
        let [red, green, blue, _] = on_left.blend(on_right, right).to_array();
        [red, green, blue]
    }

    /// The pixel at a byte offset and the one after it, each with whatever byte follows: four lanes are one vector.
    #[inline(always)]
    fn pair(&self, at: usize) -> (Lanes, Lanes) {
        let bytes = match self.pixels[at..].first_chunk::<8>() {
            Some(bytes) => u64::from_le_bytes(*bytes),
            None => self.last_bytes(at),
        };
        (Lanes::from_bytes(bytes as u32), Lanes::from_bytes((bytes >> 24) as u32))
    }

    #[cold]
    fn last_bytes(&self, at: usize) -> u64 {
        let rest = &self.pixels[at..];
        let mut bytes = [0; 8];
        bytes[..rest.len()].copy_from_slice(rest);
        u64::from_le_bytes(bytes)
    }
}

/// The whole part of a coordinate that a [`Boundary`] returned.
#[inline(always)]
fn whole(at: f64) -> i64 {
    debug_assert!((0.0..=f64::from(u32::MAX)).contains(&at), "{at} lies on no axis");
    // SAFETY: a `Boundary` returns numbers in `0.0..=last`, never a NaN, and `last` is below 2^32.
    unsafe { at.to_int_unchecked() }
}

/// An image as `f32`, mirrored as asked: what is left of an affine transform that moves nothing.
pub(crate) fn mirrored(image: &RgbImage, mirror: Mirror, output: &mut [f32]) {
    let row_len = 3 * image.width() as usize;
    let copy_row = |output: &mut [f32], source: &[u8]| {
        if mirror.horizontal {
            let pixels = source.as_chunks::<3>().0.iter().rev();
            for (to, from) in output.as_chunks_mut::<3>().0.iter_mut().zip(pixels) {
                *to = from.map(f32::from);
            }
        } else {
            for (to, from) in output.iter_mut().zip(source) {
                *to = f32::from(*from);
            }
        }
    };
    let output_rows = output.chunks_exact_mut(row_len);
    let source_rows = image.as_raw().chunks_exact(row_len);
    if mirror.vertical {
        output_rows.zip(source_rows.rev()).for_each(|(to, from)| copy_row(to, from));
    } else {
        output_rows.zip(source_rows).for_each(|(to, from)| copy_row(to, from));
    }
}
