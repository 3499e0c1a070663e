//! Moving pixels: Pillow's affine and perspective transforms, and displacement by a field.

use image::{Rgb, RgbImage};
use serde::{Deserialize, Serialize};

/// How a level between pixels is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// The pixel that a place lies in.
    #[default]
    Nearest,
    /// Bilinear between four.
    Bilinear,
}

/// The map from a place in the output to one in the input, `x = m0 X + m1 Y + m2`, `y = m3 X + m4 Y + m5`, in pixels from the corner.
pub(super) type Matrix = [f64; 6];

/// What torchvision's `affine` makes of an angle in degrees, a translation in pixels, a scale and shears in degrees, around `centre`.
pub(super) fn affine_matrix(
    [cx, cy]: [f64; 2],
    angle: f64,
    [tx, ty]: [f64; 2],
    scale: f64,
    shear: [f64; 2],
) -> Matrix {
    let (rotation, [sx, sy]) = (angle.to_radians(), shear.map(f64::to_radians));
    let a = (rotation - sy).cos() / sy.cos();
    let b = -(rotation - sy).cos() * sx.tan() / sy.cos() - rotation.sin();
    let c = (rotation - sy).sin() / sy.cos();
    let d = -(rotation - sy).sin() * sx.tan() / sy.cos() + rotation.cos();
    let [m0, m1, m3, m4] = [d, -b, -c, a].map(|value| value / scale);
    let m2 = m0 * (-cx - tx) + m1 * (-cy - ty) + cx;
    let m5 = m3 * (-cx - tx) + m4 * (-cy - ty) + cy;
    [m0, m1, m2, m3, m4, m5]
}

/// What Pillow's `rotate` makes of an angle in degrees, counter-clockwise, around the image's centre.
pub(super) fn rotation_matrix(width: u32, height: u32, angle: f64) -> Matrix {
    let angle = -(angle.rem_euclid(360.0)).to_radians();
    // Pillow rounds to 15 digits, by which right angles come out exact.
    let round = |value: f64| (value * 1e15).round() / 1e15;
    let [cos, sin, minus_sin] = [angle.cos(), angle.sin(), -angle.sin()].map(round);
    let [cx, cy] = [f64::from(width) / 2.0, f64::from(height) / 2.0];
    [cos, sin, cx - cos * cx - sin * cy, minus_sin, cos, cy - minus_sin * cx - cos * cy]
}

pub(super) fn affine(image: &RgbImage, m: Matrix, sampling: Sampling, fill: [u8; 3]) -> RgbImage {
    match sampling {
        Sampling::Bilinear => {
            bilinear(image, fill, |x, y| [m[0] * x + m[1] * y + m[2], m[3] * x + m[4] * y + m[5]])
        }
        Sampling::Nearest => nearest(image, m, fill),
    }
}

/// As Pillow does it: without rotation by adding up in f64, otherwise in 16 bits of fixed point, unless the sides are too large for them.
fn nearest(image: &RgbImage, m: Matrix, fill: [u8; 3]) -> RgbImage {
    let (width, height) = image.dimensions();
    let mut output = RgbImage::from_pixel(width, height, Rgb(fill));
    let mut put = |x: u32, y: u32, from: [i64; 2]| {
        let [column, row] = from;
        if (0..i64::from(width)).contains(&column) && (0..i64::from(height)).contains(&row) {
            output.put_pixel(x, y, *image.get_pixel(column as u32, row as u32));
        }
    };
    // A negative place is outside, also that just before the first pixel.
    let whole = |place: f64| if place < 0.0 { -1 } else { place as i64 };
    if m[1] == 0.0 && m[3] == 0.0 {
        let along = |count: u32, start: f64, step: f64| -> Vec<i64> {
            std::iter::successors(Some(start), |place| Some(place + step))
                .take(count as usize)
                .map(whole)
                .collect()
        };
        let columns = along(width, m[2] + m[0] * 0.5, m[0]);
        let rows = along(height, m[5] + m[4] * 0.5, m[4]);
        for (y, &row) in (0..height).zip(&rows) {
            for (x, &column) in (0..width).zip(&columns) {
                put(x, y, [column, row]);
            }
        }
        return output;
    }
    let fixed = |value: f64| (value * 65536.0 + 0.5).floor() as i64;
    let starts = [fixed(m[2] + m[0] * 0.5 + m[1] * 0.5), fixed(m[5] + m[3] * 0.5 + m[4] * 0.5)];
    let [m0, m1, m3, m4] = [m[0], m[1], m[3], m[4]].map(fixed);
    for y in 0..height {
        let row = [starts[0] + i64::from(y) * m1, starts[1] + i64::from(y) * m4];
        for x in 0..width {
            put(x, y, [(row[0] + i64::from(x) * m0) >> 16, (row[1] + i64::from(x) * m3) >> 16]);
        }
    }
    output
}

/// Bilinear at the place that `map` gives for the middle of each pixel of the output; what lies outside is `fill`.
fn bilinear(image: &RgbImage, fill: [u8; 3], map: impl Fn(f64, f64) -> [f64; 2]) -> RgbImage {
    let (width, height) = image.dimensions();
    let (last_x, last_y) = (i64::from(width) - 1, i64::from(height) - 1);
    RgbImage::from_fn(width, height, |x, y| {
        let [at_x, at_y] = map(f64::from(x) + 0.5, f64::from(y) + 0.5);
        let inside = at_x >= 0.0 && at_x < f64::from(width) && at_y >= 0.0 && at_y < f64::from(height);
        if !inside {
            return Rgb(fill);
        }
        let (at_x, at_y) = (at_x - 0.5, at_y - 0.5);
        let (left, top) = (at_x.floor(), at_y.floor());
        let (right, down) = (at_x - left, at_y - top);
        let level = |dx: i64, dy: i64, channel: usize| {
            let column = (left as i64 + dx).clamp(0, last_x) as u32;
            let row = (top as i64 + dy).clamp(0, last_y) as u32;
            f64::from(image.get_pixel(column, row)[channel])
        };
        Rgb(std::array::from_fn(|channel| {
            let along =
                |dy: i64| level(0, dy, channel) + (level(1, dy, channel) - level(0, dy, channel)) * right;
            let upper = along(0);
            // Pillow drops what is behind the point.
            (upper + (along(1) - upper) * down) as u8
        }))
    })
}

/// Moves the corners `from` (top left, top right, bottom right, bottom left) to `to`, with bilinear sampling.
///
/// Corners that are on a line have no transform; the image then stays as it is.
pub(super) fn perspective(
    image: &RgbImage,
    from: [[f64; 2]; 4],
    to: [[f64; 2]; 4],
    fill: [u8; 3],
) -> RgbImage {
    let Some(c) = perspective_coefficients(from, to) else { return image.clone() };
    // torchvision hands them over in f32.
    let c = c.map(|value| f64::from(value as f32));
    bilinear(image, fill, |x, y| {
        let w = c[6] * x + c[7] * y + 1.0;
        [(c[0] * x + c[1] * y + c[2]) / w, (c[3] * x + c[4] * y + c[5]) / w]
    })
}

/// Coefficients of the map from `to` back to `from`, by elimination with pivots.
fn perspective_coefficients(from: [[f64; 2]; 4], to: [[f64; 2]; 4]) -> Option<[f64; 8]> {
    let mut rows = [[0.0f64; 9]; 8];
    for (corner, ([x, y], [u, v])) in to.into_iter().zip(from).enumerate() {
        rows[2 * corner] = [x, y, 1.0, 0.0, 0.0, 0.0, -u * x, -u * y, u];
        rows[2 * corner + 1] = [0.0, 0.0, 0.0, x, y, 1.0, -v * x, -v * y, v];
    }
    for column in 0..8 {
        let pivot = (column..8).max_by(|&a, &b| rows[a][column].abs().total_cmp(&rows[b][column].abs()))?;
        rows.swap(column, pivot);
        if rows[column][column].abs() < 1e-12 {
            return None;
        }
        for row in 0..8 {
            if row != column {
                let factor = rows[row][column] / rows[column][column];
                let pivot_row = rows[column];
                rows[row].iter_mut().zip(pivot_row).for_each(|(value, pivot)| *value -= factor * pivot);
            }
        }
    }
    Some(std::array::from_fn(|index| rows[index][8] / rows[index][index]))
}

/// Takes each pixel from where the field `(dx, dy)`, in pixels, points to; bilinear in f32, black outside, rounded, as
/// torchvision's `elastic` on tensors.
pub(super) fn displace(image: &RgbImage, field: &[[f32; 2]]) -> RgbImage {
    let (width, height) = image.dimensions();
    RgbImage::from_fn(width, height, |x, y| {
        let [dx, dy] = field[(y * width + x) as usize];
        let (at_x, at_y) = (x as f32 + dx, y as f32 + dy);
        let (left, top) = (at_x.floor(), at_y.floor());
        let (right, down) = (at_x - left, at_y - top);
        Rgb(std::array::from_fn(|channel| {
            let (mut sum, mut inside) = (0.0, 0.0);
            for (row, weight_y) in [(top as i64, 1.0 - down), (top as i64 + 1, down)] {
                for (column, weight_x) in [(left as i64, 1.0 - right), (left as i64 + 1, right)] {
                    if (0..i64::from(width)).contains(&column) && (0..i64::from(height)).contains(&row) {
                        let weight = weight_x * weight_y;
                        inside += weight;
                        sum += weight * f32::from(image.get_pixel(column as u32, row as u32)[channel]);
                    }
                }
            }
            // At the edge torchvision dims towards its fill a second time.
            (sum * inside).round_ties_even().clamp(0.0, 255.0) as u8
        }))
    })
}
