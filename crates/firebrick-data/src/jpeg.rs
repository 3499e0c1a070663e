//! Whether a JPEG file is all there.

const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const TEM: u8 = 0x01;
const RST0: u8 = 0xD0;
const RST7: u8 = 0xD7;

/// Whether the JPEG data runs to its end-of-image marker (ITU-T T.81, annex B).
///
/// The decoder fills what is missing from a cut file with grey and reports success, as browsers do. A
/// half-grey image teaches a model something wrong, so it must be refused, as PIL does. Segments are stepped
/// over by their lengths: the end marker of a thumbnail inside an EXIF segment does not count. Bytes after
/// the end are allowed.
pub(crate) fn is_complete(data: &[u8]) -> bool {
    let mut rest = data;
    loop {
        // To the next marker: over entropy-coded data, its stuffed zeros, and stray bytes.
        let Some(start) = rest.iter().position(|&byte| byte == 0xFF) else { return false };
        rest = &rest[start + 1..];
        while let Some((0xFF, tail)) = rest.split_first() {
            rest = tail;
        }
        let Some((&marker, tail)) = rest.split_first() else { return false };
        rest = tail;
        match marker {
            EOI => return true,
            0 | TEM | SOI | RST0..=RST7 => {}
            _segment => {
                let &[high, low, ..] = rest else { return false };
                let length = usize::from(u16::from_be_bytes([high, low]));
                // A length counts its own two bytes.
                let Some(tail) = rest.get(length.max(2)..) else { return false };
                rest = tail;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: [u8; 2] = [0xFF, SOI];
    const END: [u8; 2] = [0xFF, EOI];

    #[test]
    fn finds_the_end_behind_stuffed_zeros_restarts_and_fill_bytes() {
        let scan = [0xFF, 0xDA, 0, 2, 1, 0xFF, 0, 2, 0xFF, RST0, 3, 0xFF, 0xFF];
        assert!(is_complete(&[&START[..], &scan, &[EOI]].concat()));
        assert!(!is_complete(&[&START[..], &scan].concat()));
    }

    #[test]
    fn ignores_the_end_of_a_thumbnail() {
        let exif = [0xFF, 0xE1, 0, 6, 0xFF, SOI, 0xFF, EOI];
        assert!(!is_complete(&[&START[..], &exif].concat()));
        assert!(is_complete(&[&START[..], &exif, &END].concat()));
    }

    #[test]
    fn survives_a_segment_longer_than_the_file_and_one_of_no_length() {
        assert!(!is_complete(&[0xFF, SOI, 0xFF, 0xE1, 0xFF, 0xFF, 0]));
        assert!(is_complete(&[0xFF, SOI, 0xFF, 0xE1, 0, 0, 0xFF, EOI]));
        assert!(!is_complete(&[]));
        assert!(!is_complete(&[0xFF]));
    }

    #[test]
    fn allows_bytes_after_the_end() {
        assert!(is_complete(&[&START[..], &END, b"camera data"].concat()));
    }
}
