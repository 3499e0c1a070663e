//! What kind of file begins with these bytes.

use image::ImageFormat;

/// A file's kind, by its content; names and extensions are not asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An image format that is read, and its name.
    Readable(ImageFormat, &'static str),
    /// An image (or page) format that is not read.
    Unsupported(&'static str),
    /// Anything else, described for a message.
    Other(String),
}

/// Names the kind of a file that is not empty.
pub(crate) fn kind(data: &[u8]) -> Kind {
    if let Some((format, name)) = readable(data) {
        return Kind::Readable(format, name);
    }
    if let Some(name) = unsupported(data) {
        return Kind::Unsupported(name);
    }
    Kind::Other(describe(data))
}

fn readable(data: &[u8]) -> Option<(ImageFormat, &'static str)> {
    let riff = data.starts_with(b"RIFF") && data.get(8..12) == Some(b"WEBP");
    Some(match data {
        [0xFF, 0xD8, 0xFF, ..] => (ImageFormat::Jpeg, "JPEG"),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => (ImageFormat::Png, "PNG"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => (ImageFormat::Gif, "GIF"),
        [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => (ImageFormat::Tiff, "TIFF"),
        [b'I', b'I', b'+', 0, ..] | [b'M', b'M', 0, b'+', ..] => (ImageFormat::Tiff, "BigTIFF"),
        [b'B', b'M', ..] if looks_like_bmp(data) => (ImageFormat::Bmp, "BMP"),
        _ if riff => (ImageFormat::WebP, "WebP"),
        _ => return None,
    })
}

/// Two letters are a weak signature ("BMI,height,..."): the size of the header that follows must be one that
/// exists, too.
fn looks_like_bmp(data: &[u8]) -> bool {
    match data.get(14..18) {
        Some(size) => matches!(
            u32::from_le_bytes([size[0], size[1], size[2], size[3]]),
            12 | 16 | 40 | 52 | 56 | 64 | 108 | 124
        ),
        None => !data.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()),
    }
}

fn unsupported(data: &[u8]) -> Option<&'static str> {
    if data.get(4..8) == Some(b"ftyp") {
        return match data.get(8..12)? {
            b"avif" | b"avis" => Some("AVIF"),
            b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" | b"mif1" | b"msf1" => {
                Some("HEIC/HEIF")
            }
            b"crx " => Some("Canon raw (CR3)"),
            _ => Some("video (MP4 family)"),
        };
    }
    const SIGNATURES: &[(&[u8], &str)] = &[
        (b"\0\0\0\x0CJXL ", "JPEG XL"),
        (b"\xFF\x0A", "JPEG XL"),
        (b"\0\0\0\x0CjP  ", "JPEG 2000"),
        (b"\xFF\x4F\xFF\x51", "JPEG 2000"),
        (b"8BPS", "Photoshop (PSD)"),
        (b"%PDF", "PDF"),
        (b"\x76\x2F\x31\x01", "OpenEXR"),
        (b"#?RADIANCE", "Radiance HDR"),
        (b"qoif", "QOI"),
        (b"DDS ", "DDS"),
        (b"farbfeld", "farbfeld"),
        (b"\0\0\x01\0", "Windows icon (ICO)"),
        (b"P1\n", "PBM"),
        (b"P2\n", "PGM"),
        (b"P3\n", "PPM"),
        (b"P4\n", "PBM"),
        (b"P5\n", "PGM"),
        (b"P6\n", "PPM"),
        (b"P7\n", "PAM"),
        (b"<svg", "SVG"),
    ];
    if data.get(128..132) == Some(b"DICM") {
        return Some("DICOM");
    }
    SIGNATURES.iter().find(|(signature, _)| data.starts_with(signature)).map(|&(_, name)| name)
}

fn describe(data: &[u8]) -> String {
    const SHOWN: usize = 24;
    let start = &data[..data.len().min(256)];
    let lower = start.to_ascii_lowercase();
    let text = lower.trim_ascii_start();

    if lower.starts_with(b"version https://git-lfs") {
        "it is a Git LFS pointer (`git lfs pull` fetches the real file)".into()
    } else if text.starts_with(b"<!doctype html") || text.starts_with(b"<html") {
        "it is an HTML page, as a failed download leaves behind".into()
    } else if lower.starts_with(b"pk\x03\x04") {
        "it is a ZIP archive".into()
    } else if start.iter().all(|&byte| byte == 0) {
        "it begins with zeros only, as an interrupted copy leaves behind".into()
    } else if is_text(start) {
        let first: String = String::from_utf8_lossy(start).trim().chars().take(SHOWN).collect();
        format!("it is text that begins with {first:?}")
    } else {
        let bytes: Vec<_> = start.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("it begins with the bytes {}", bytes.join(" "))
    }
}

fn is_text(start: &[u8]) -> bool {
    // A character cut in two at the end of the excerpt is no sign against text.
    let valid = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).expect("valid up to here, says the error")
        }
        Err(_) => return false,
    };
    !valid.is_empty()
        && valid.chars().all(|character| !character.is_control() || character.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_formats_that_are_not_read() {
        assert_eq!(kind(b"\0\0\0\x1cftypavif\0\0"), Kind::Unsupported("AVIF"));
        assert_eq!(kind(b"\0\0\0\x18ftypheic\0\0"), Kind::Unsupported("HEIC/HEIF"));
        assert_eq!(kind(b"%PDF-1.7"), Kind::Unsupported("PDF"));
        assert_eq!(kind(b"P6\n2 2\n255\n"), Kind::Unsupported("PPM"));
    }

    #[test]
    fn describes_what_is_no_image() {
        let text = |data: &[u8]| match kind(data) {
            Kind::Other(text) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(text(b"hello world"), "it is text that begins with \"hello world\"");
        assert!(text(b"version https://git-lfs.github.com/spec/v1\noid").contains("git lfs pull"));
        assert!(text(b"\n<!DOCTYPE html><html>").contains("HTML page"));
        assert!(text(&[0; 30]).contains("zeros only"));
        assert_eq!(text(&[1, 2, 0xFE]), "it begins with the bytes 01 02 fe");
        assert!(text("grüße".as_bytes()).contains("grüße"));
        assert!(text(&"grüße".as_bytes()[..3]).contains("gr"));
    }

    #[test]
    fn does_not_take_a_table_of_bmi_for_a_bitmap() {
        assert!(matches!(kind(b"BMI,height,weight\n1,2,3\n"), Kind::Other(_)));
        assert!(matches!(kind(b"BMI"), Kind::Other(_)));
    }
}
