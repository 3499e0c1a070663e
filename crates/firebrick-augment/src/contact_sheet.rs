//! Several images on one sheet.

use image::imageops;
use image::{Rgb, RgbImage};

/// Lays images out in a grid of `columns`, row by row, on a white sheet, with `gap` pixels between the cells and around
/// them. Every cell is as large as the largest image, and each image stands in the middle of its cell.
///
/// So that a slip of the pen cannot ask for a sheet far larger than the images, `columns` beyond the number of images
/// counts as that number (0 counts as 1), and a `gap` beyond the cell's longer side as that side. No images give an
/// empty sheet.
///
/// # Panics
///
/// If the sheet would have more than `u32::MAX` pixels in a row or a column.
pub fn contact_sheet(images: &[RgbImage], columns: u32, gap: u32) -> RgbImage {
    let count = u32::try_from(images.len()).unwrap_or(u32::MAX);
    if count == 0 {
        return RgbImage::new(0, 0);
    }
    let columns = columns.clamp(1, count);
    let rows = count.div_ceil(columns);
    let cell_width = images.iter().map(RgbImage::width).max().unwrap_or(0);
    let cell_height = images.iter().map(RgbImage::height).max().unwrap_or(0);
    let gap = gap.min(cell_width.max(cell_height));

    let side = |cells: u32, cell: u32| {
        let side = u64::from(cells) * (u64::from(cell) + u64::from(gap)) + u64::from(gap);
        u32::try_from(side).expect("a contact sheet's sides fit in 32 bits")
    };
    let (width, height) = (side(columns, cell_width), side(rows, cell_height));
    let mut sheet = RgbImage::from_pixel(width, height, Rgb([255; 3]));
    for (index, image) in (0u32..).zip(images) {
        let (column, row) = (index % columns, index / columns);
        let left = gap + column * (cell_width + gap) + (cell_width - image.width()) / 2;
        let top = gap + row * (cell_height + gap) + (cell_height - image.height()) / 2;
        imageops::replace(&mut sheet, image, i64::from(left), i64::from(top));
    }
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(width: u32, height: u32, level: u8) -> RgbImage {
        RgbImage::from_pixel(width, height, Rgb([level; 3]))
    }

    #[test]
    fn lays_images_out_row_by_row_with_gaps_around() {
        let sheet = contact_sheet(&[plain(3, 2, 10), plain(3, 2, 20), plain(3, 2, 30)], 2, 1);
        assert_eq!(sheet.dimensions(), (2 * 4 + 1, 2 * 3 + 1));
        let level = |x, y| sheet.get_pixel(x, y)[0];
        assert_eq!((level(1, 1), level(5, 1), level(1, 4)), (10, 20, 30));
        assert_eq!((level(0, 0), level(4, 1), level(5, 4)), (255, 255, 255));
    }

    #[test]
    fn centres_a_smaller_image_in_its_cell() {
        let sheet = contact_sheet(&[plain(5, 5, 10), plain(1, 3, 20)], 2, 0);
        assert_eq!(sheet.dimensions(), (10, 5));
        assert_eq!(sheet.get_pixel(7, 1)[0], 20);
        assert_eq!(sheet.get_pixel(6, 1)[0], 255);
    }

    #[test]
    fn takes_any_number_of_images_columns_and_gaps() {
        assert_eq!(contact_sheet(&[], 3, 2).dimensions(), (0, 0));
        assert_eq!(contact_sheet(&[plain(2, 2, 0)], 0, 0).dimensions(), (2, 2));
        assert_eq!(contact_sheet(&[plain(2, 2, 0)], u32::MAX, u32::MAX).dimensions(), (6, 6));
    }
}
