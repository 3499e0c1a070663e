//! Resizing as PIL does it.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::AugmentError;

/// How pixels are found between pixels, as in PIL's `Image.resize`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// The pixel under the centre; never antialiased. The default of Keras' `flow_from_directory`.
    Nearest,
    /// A triangle filter, widened when shrinking. The default of torchvision's transforms.
    #[default]
    Bilinear,
    /// A cubic filter with `a = -0.5` (Catmull-Rom), widened when shrinking.
    Bicubic,
}

const NAMES: [(Interpolation, &str); 3] = [
    (Interpolation::Nearest, "nearest"),
    (Interpolation::Bilinear, "bilinear"),
    (Interpolation::Bicubic, "bicubic"),
];

impl fmt::Display for Interpolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(known, _)| known == self).map_or("", |(_, name)| name);
        f.pad(name)
    }
}

impl FromStr for Interpolation {
    type Err = AugmentError;

    fn from_str(name: &str) -> Result<Self, AugmentError> {
        let found = NAMES.iter().find(|(_, known)| *known == name);
        found.map(|(interpolation, _)| *interpolation).ok_or_else(|| AugmentError::UnknownName {
            kind: "interpolation",
            value: name.to_owned(),
            known: "nearest, bilinear, bicubic",
        })
    }
}

/// Resizes to `width` by `height` pixels as PIL's `Image.resize` does: antialiased when shrinking, except with
/// [`Interpolation::Nearest`].
///
/// Nearest agrees with PIL 13 exactly, the others to one level, in about one value of two hundred: PIL's weights have 22
/// bits, these 16. Where a few pixels are enlarged a hundredfold, bicubic was seen to be two levels off in single values.
/// An image without pixels becomes a black one.
pub fn resize(image: &RgbImage, width: u32, height: u32, interpolation: Interpolation) -> RgbImage {
    if image.dimensions() == (width, height) {
        return image.clone();
    }
    resize_window(image, (width, height), (0..width, 0..height), interpolation)
}

/// The part `(columns, rows)` of the image resized to `size`, without computing the rest of it.
pub(crate) fn resize_window(
    image: &RgbImage,
    size: (u32, u32),
    (columns, rows): (Range<u32>, Range<u32>),
    interpolation: Interpolation,
) -> RgbImage {
    let mut output = RgbImage::new(columns.len() as u32, rows.len() as u32);
    if image.as_raw().is_empty() || output.as_raw().is_empty() {
        return output;
    }
    let (filter, radius) = match interpolation {
        Interpolation::Nearest => {
            nearest(image, size, (columns, rows), &mut output);
            return output;
        }
        Interpolation::Bilinear => (FilterType::Bilinear, 1.0),
        Interpolation::Bicubic => (FilterType::CatmullRom, 2.0),
    };
    let convolution = Convolution {
        filter,
        radius,
        across: Interval::of(&columns, size.0, image.width()),
        down: Interval::of(&rows, size.1, image.height()),
    };
    if rows_first(image.dimensions(), size) {
        convolution.rows_first(image, &mut output);
    } else {
        convolution.columns_first(image, &mut output);
    }
    output
}

/// Whether PIL 13 resizes the rows before the columns: where the height shrinks by more than twice as many pixels as the
/// width does. Found by experiment. With a filter that overshoots the order can be seen: what lies outside `0..=255` is
/// clipped between the passes.
fn rows_first(source: (u32, u32), size: (u32, u32)) -> bool {
    let narrower = u64::from(source.0.saturating_sub(size.0));
    let lower = u64::from(source.1.saturating_sub(size.1));
    lower > 2 * narrower
}

/// The part of a source axis that a range of output pixels stands for. The filters also see the pixels around it.
#[derive(Clone, Copy)]
struct Interval {
    start: f64,
    length: f64,
}

impl Interval {
    fn of(range: &Range<u32>, size: u32, source: u32) -> Self {
        let (size, source) = (f64::from(size), f64::from(source));
        let start = f64::from(range.start) * source / size;
        // The division's rounding must not carry the end over the edge.
        let length = (range.len() as f64 * source / size).min(source - start);
        Self { start, length }
    }

    /// The whole pixels of a source axis that `output` pixels see through a filter with this radius.
    fn seen(self, output: u32, radius: f64, source: u32) -> Range<u32> {
        let reach = radius * (self.length / f64::from(output)).max(1.0) + 1.0;
        let end = (self.start + self.length + reach).ceil().min(f64::from(source));
        (self.start - reach).max(0.0) as u32..end as u32
    }
}

/// The memory that one resize leaves for the next.
#[derive(Default)]
struct Workspace {
    resizer: Resizer,
    /// The image between the two passes.
    between: Vec<u8>,
}

/// Half-resized images larger than this are not kept in memory: they come from very long images, which are rare.
const KEPT_BYTES: usize = 8 << 20;

thread_local! {
    static WORKSPACE: RefCell<Workspace> = RefCell::default();
}

/// A resize by convolution in two passes, each rounded to 8 bits, as PIL does it.
///
/// The resampler by itself takes rows first whatever the sizes, so it is given one pass at a time.
struct Convolution {
    filter: FilterType,
    /// The filter's reach in pixels of the larger of source and result.
    radius: f64,
    across: Interval,
    down: Interval,
}

impl Convolution {
    fn columns_first(&self, image: &RgbImage, output: &mut RgbImage) {
        let (width, height) = output.dimensions();
        let seen = self.down.seen(height, self.radius, image.height());
        let (top, seen_rows) = (f64::from(seen.start), seen.len() as u32);
        let columns = self.pass((self.across.start, self.across.length), (top, f64::from(seen_rows)));
        let rows = self.pass((0.0, f64::from(width)), (self.down.start - top, self.down.length));
        two_passes(image, (&columns, (width, seen_rows)), &rows, output);
    }

    fn rows_first(&self, image: &RgbImage, output: &mut RgbImage) {
        let (width, height) = output.dimensions();
        let seen = self.across.seen(width, self.radius, image.width());
        let (left, seen_columns) = (f64::from(seen.start), seen.len() as u32);
        let rows = self.pass((left, f64::from(seen_columns)), (self.down.start, self.down.length));
        let columns = self.pass((self.across.start - left, self.across.length), (0.0, f64::from(height)));
        two_passes(image, (&rows, (seen_columns, height)), &columns, output);
    }

    /// Options for a pass over a part of its source, each axis given by start and length.
    fn pass(&self, across: (f64, f64), down: (f64, f64)) -> ResizeOptions {
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(self.filter));
        options.crop(across.0, down.0, across.1, down.1)
    }
}

/// Resizes by way of an image of the size `half`.
fn two_passes(
    image: &RgbImage,
    (first, half): (&ResizeOptions, (u32, u32)),
    second: &ResizeOptions,
    output: &mut RgbImage,
) {
    const COMPLETE: &str = "an RGB image has three bytes a pixel";
    const INSIDE: &str = "the window lies inside the source";
    let (width, height) = output.dimensions();
    // Typed images, so that the resampler is compiled for this one pixel type.
    let source: TypedImageRef<U8x3> =
        TypedImageRef::from_buffer(image.width(), image.height(), image.as_raw()).expect(COMPLETE);
    WORKSPACE.with_borrow_mut(|Workspace { resizer, between }| {
        between.resize(half.0 as usize * half.1 as usize * 3, 0);
        let mut half: TypedImage<U8x3> = TypedImage::from_buffer(half.0, half.1, between).expect(COMPLETE);
        resizer.resize_typed(&source, &mut half, first).expect(INSIDE);
        let mut target: TypedImage<U8x3> = TypedImage::from_buffer(width, height, output).expect(COMPLETE);
        resizer.resize_typed(&half, &mut target, second).expect(INSIDE);
        if between.capacity() > KEPT_BYTES {
            *between = Vec::new();
        }
    });
}

fn nearest(
    image: &RgbImage,
    size: (u32, u32),
    (columns, rows): (Range<u32>, Range<u32>),
    output: &mut RgbImage,
) {
    let source_columns: Vec<usize> = nearest_indices(columns, size.0, image.width()).collect();
    let row_len = 3 * image.width() as usize;
    let output_rows = output.chunks_exact_mut(3 * source_columns.len());
    for (output_row, row) in output_rows.zip(nearest_indices(rows, size.1, image.height())) {
        let source_row = image.as_raw()[row * row_len..][..row_len].as_chunks::<3>().0;
        for (pixel, &column) in output_row.as_chunks_mut::<3>().0.iter_mut().zip(&source_columns) {
            *pixel = source_row[column];
        }
    }
}

/// The source pixels under the centres of a range of output pixels.
///
/// PIL steps from centre to centre by adding, and so does this: where centres fall on the border of two pixels the sum's
/// rounding decides.
fn nearest_indices(range: Range<u32>, size: u32, source: u32) -> impl Iterator<Item = usize> {
    let scale = f64::from(source) / f64::from(size);
    let centres = std::iter::successors(Some(scale * 0.5), move |centre| Some(centre + scale));
    let last = source as usize - 1;
    centres.skip(range.start as usize).take(range.len()).map(move |centre| (centre as usize).min(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    fn noise(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let mixed = (x * 7919 + y * 104_729 + 1).wrapping_mul(2_654_435_761);
            Rgb([(mixed >> 8) as u8, (mixed >> 16) as u8, (mixed >> 24) as u8])
        })
    }

    #[test]
    fn returns_an_image_of_the_right_size_unchanged() {
        let image = noise(9, 5);
        for (interpolation, _) in NAMES {
            assert_eq!(resize(&image, 9, 5, interpolation), image);
        }
    }

    #[test]
    fn keeps_an_image_of_one_colour() {
        let image = RgbImage::from_pixel(31, 17, Rgb([255, 128, 1]));
        for (interpolation, _) in NAMES {
            for (width, height) in [(7, 3), (64, 90), (1, 1), (31, 40)] {
                let resized = resize(&image, width, height, interpolation);
                assert_eq!(
                    resized,
                    RgbImage::from_pixel(width, height, Rgb([255, 128, 1])),
                    "{interpolation}"
                );
            }
        }
    }

    #[test]
    fn gives_a_window_of_the_whole_without_computing_it() {
        let image = noise(37, 23);
        for (interpolation, _) in NAMES {
            for size in [(16, 11), (37, 23), (53, 61), (13, 40)] {
                let whole = resize(&image, size.0, size.1, interpolation);
                let (columns, rows) = (3..size.0 - 4, 5..size.1 - 1);
                let window = resize_window(&image, size, (columns, rows), interpolation);
                let (width, height) = window.dimensions();
                let expected = image::imageops::crop_imm(&whole, 3, 5, width, height).to_image();
                // The filters' fixed-point weights take their precision from the largest one in the window.
                let tolerance = if interpolation == Interpolation::Nearest { 0 } else { 1 };
                let error = window.iter().zip(expected.iter()).map(|(a, b)| a.abs_diff(*b)).max();
                assert!(error <= Some(tolerance), "{interpolation} to {size:?} differs by {error:?}");
            }
        }
    }

    #[test]
    fn takes_rows_first_where_pil_does() {
        for (source, size, expected) in [
            ((500, 375), (224, 224), false),
            ((375, 500), (256, 341), false),
            ((100, 110), (90, 90), false),
            ((100, 111), (90, 90), true),
            ((200, 320), (60, 40), false),
            ((200, 321), (60, 40), true),
            ((100, 51), (150, 50), true),
            ((3, 5), (501, 333), false),
        ] {
            assert_eq!(rows_first(source, size), expected, "{source:?} to {size:?}");
        }
    }

    #[test]
    fn takes_images_without_pixels() {
        for (interpolation, _) in NAMES {
            assert_eq!(resize(&RgbImage::new(0, 3), 2, 2, interpolation), RgbImage::new(2, 2));
            assert_eq!(resize(&noise(3, 3), 0, 2, interpolation), RgbImage::new(0, 2));
        }
    }

    #[test]
    fn reads_back_the_names_it_writes() {
        for (interpolation, name) in NAMES {
            assert_eq!(interpolation.to_string(), name);
            assert_eq!(name.parse(), Ok(interpolation));
            assert_eq!(serde_json::to_string(&interpolation).unwrap(), format!("\"{name}\""));
        }
        let error = "lanczos".parse::<Interpolation>().unwrap_err().to_string();
        assert_eq!(error, "unknown interpolation `lanczos`: choose one of nearest, bilinear, bicubic");
    }
}
