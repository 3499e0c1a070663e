//! Small images whose colour tells their class, and files that only look like images.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use flate2::Crc;
use image::{ImageFormat, Rgb, RgbImage};

/// Two classes that a look at the colour tells apart.
pub const CLASSES: [(&str, [u8; 3]); 2] = [("blue", [30, 60, 210]), ("red", [210, 50, 40])];

/// Writes `count` images of each class to folders of their names.
pub fn draw_classes(folder: &Path, count: u32) {
    for (class, colour) in CLASSES {
        let folder = folder.join(class);
        fs::create_dir_all(&folder).expect("a folder");
        for number in 0..count {
            picture(colour, number).save(folder.join(format!("{number}.png"))).expect("a PNG");
        }
    }
}

/// A picture of about this colour; each number gives another one, of another size.
pub fn picture(colour: [u8; 3], number: u32) -> RgbImage {
    RgbImage::from_fn(30 + number % 5, 34 + number % 3, |x, y| {
        let speckle = (x * 7 + y * 13 + number * 29) % 41;
        Rgb(colour.map(|level| level.saturating_add(speckle as u8)))
    })
}

/// A picture as a file of this format.
pub fn encoded(format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    picture(CLASSES[0].1, 0).write_to(&mut file, format).expect("encoded");
    file.into_inner()
}

/// The first half of a file.
pub fn cut(mut file: Vec<u8>) -> Vec<u8> {
    file.truncate(file.len() / 2);
    file
}

/// A right PNG header that announces `side` x `side` RGB pixels, and almost no data after it.
pub fn huge_png(side: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend(side.to_be_bytes());
    header.extend(side.to_be_bytes());
    // Eight bits, RGB, and the only compression, filter and interlacing that matter.
    header.extend([8, 2, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for chunk in [header, b"IDAT\x78\x9c\x03\x00".to_vec()] {
        let mut crc = Crc::new();
        crc.update(&chunk);
        file.extend((chunk.len() as u32 - 4).to_be_bytes());
        file.extend(chunk);
        file.extend(crc.sum().to_be_bytes());
    }
    file
}
