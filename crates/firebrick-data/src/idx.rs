//! IDX files: how the MNIST family of data sets is published.

use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::decode::read_limited;
use crate::error::DataError;

/// An array of bytes as an IDX file holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdxArray {
    /// The length of each dimension, slowest first: `[images, rows, columns]` for images, `[labels]` for
    /// labels.
    pub shape: Vec<usize>,
    /// The values, last dimension fastest.
    pub data: Vec<u8>,
}

impl IdxArray {
    /// The length of the first dimension: how many images or labels there are.
    pub fn len(&self) -> usize {
        self.shape[0]
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entry `index` of the first dimension, e.g. the pixels of one image, row by row.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`len`](Self::len).
    pub fn entry(&self, index: usize) -> &[u8] {
        assert!(index < self.len(), "entry {index} of an IDX array of {}", self.len());
        let size: usize = self.shape[1..].iter().product();
        &self.data[index * size..(index + 1) * size]
    }
}

/// What an IDX file may cost at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdxLimits {
    /// The unpacked content's length, and the file's, in bytes. Default: 1 GiB.
    pub max_bytes: u64,
}

impl Default for IdxLimits {
    fn default() -> Self {
        Self { max_bytes: 1 << 30 }
    }
}

/// Reads an IDX file of unsigned bytes, plain or gzip'd (its first bytes tell).
///
/// The format: two zero bytes, the type (8 for unsigned bytes), the number of dimensions (1 to 4 here), each
/// dimension as a big-endian 32-bit number, then the values. <http://yann.lecun.com/exdb/mnist/>
///
/// # Errors
///
/// If the file cannot be read, is beyond `limits`, or is no IDX file of unsigned bytes with exactly the
/// announced content.
pub fn read_idx(path: &Path, limits: &IdxLimits) -> Result<IdxArray, DataError> {
    parse_idx(&read_limited(path, limits.max_bytes)?, path, limits)
}

/// [`read_idx`] for a file's content that is already in memory. `name` stands for it in error messages.
///
/// # Errors
///
/// As [`read_idx`].
pub fn parse_idx(content: &[u8], name: &Path, limits: &IdxLimits) -> Result<IdxArray, DataError> {
    let refuse = |reason: String| DataError::Idx { path: name.into(), reason };
    if !content.starts_with(&[0x1F, 0x8B]) {
        return parse(content, limits).map_err(refuse);
    }
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(content)
        .take(limits.max_bytes.saturating_add(1))
        .read_to_end(&mut unpacked)
        .map_err(|error| {
            refuse(format!("its gzip data is damaged or cut short ({error}). Fetch the file again"))
        })?;
    parse(&unpacked, limits).map_err(refuse)
}

fn parse(content: &[u8], limits: &IdxLimits) -> Result<IdxArray, String> {
    const UNSIGNED_BYTES: u8 = 8;
    if content.len() as u64 > limits.max_bytes {
        return Err(format!(
            "it holds more than the allowed {} bytes. Raise the limit if it is meant to",
            limits.max_bytes
        ));
    }
    let Some((&[zero, zero_too, kind, rank], rest)) = content.split_first_chunk() else {
        return Err(format!(
            "it is {} bytes long, shorter than any header. Fetch the file again",
            content.len()
        ));
    };
    if (zero, zero_too) != (0, 0) {
        return Err(format!(
            "it begins with {zero:02x} {zero_too:02x}, not 00 00. Is it another kind of file?"
        ));
    }
    if kind != UNSIGNED_BYTES {
        return Err(format!(
            "its values are of type {kind:#04x} ({}); only unsigned bytes (0x08) are read",
            type_name(kind)
        ));
    }
    if !(1..=4).contains(&rank) {
        return Err(format!("it has {rank} dimensions; 1 to 4 are read"));
    }

    let rank = usize::from(rank);
    let Some((header, data)) = rest.split_at_checked(4 * rank) else {
        return Err("it ends within its header. Fetch the file again".into());
    };
    let shape: Vec<usize> =
        header.chunks_exact(4).map(|d| u32::from_be_bytes([d[0], d[1], d[2], d[3]]) as usize).collect();
    let announced = shape.iter().try_fold(1u64, |size, &length| size.checked_mul(length as u64));
    if announced != Some(data.len() as u64) {
        return Err(format!(
            "its header announces {shape:?} values, and {} bytes follow. Fetch the file again",
            data.len()
        ));
    }
    Ok(IdxArray { shape, data: data.to_vec() })
}

fn type_name(kind: u8) -> &'static str {
    match kind {
        0x09 => "signed bytes",
        0x0B => "16-bit integers",
        0x0C => "32-bit integers",
        0x0D => "32-bit floats",
        0x0E => "64-bit floats",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    const IMAGES: [u8; 20] = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 10, 11, 20, 21];
    const LABELS: [u8; 11] = [0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9];

    fn parsed(content: &[u8]) -> Result<IdxArray, DataError> {
        parse_idx(content, Path::new("train.idx"), &IdxLimits::default())
    }

    fn refused(content: &[u8]) -> String {
        parsed(content).unwrap_err().to_string()
    }

    fn gzipped(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn reads_images_and_labels() {
        let images = parsed(&IMAGES).unwrap();
        assert_eq!(images.shape, [2, 1, 2]);
        assert_eq!((images.entry(0), images.entry(1)), (&[10, 11][..], &[20, 21][..]));
        let labels = parsed(&LABELS).unwrap();
        assert_eq!((labels.len(), labels.entry(2)), (3, &[9][..]));
    }

    #[test]
    fn reads_gzip_and_plain_alike_from_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images");
        for content in [IMAGES.to_vec(), gzipped(&IMAGES)] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(read_idx(&path, &IdxLimits::default()).unwrap(), parsed(&IMAGES).unwrap());
        }
    }

    #[test]
    fn refuses_every_cut_and_every_surplus() {
        for end in 0..IMAGES.len() {
            assert!(refused(&IMAGES[..end]).starts_with("train.idx: not a usable IDX file: it"));
        }
        let packed = gzipped(&IMAGES);
        for end in 2..packed.len() {
            assert!(parsed(&packed[..end]).is_err());
        }
        assert!(
            refused(&[&IMAGES[..], &[0]].concat()).contains("announces [2, 1, 2] values, and 5 bytes follow")
        );
    }

    #[test]
    fn refuses_other_types_and_ranks_by_name() {
        assert!(refused(&[0, 0, 0x0D, 1, 0, 0, 0, 0]).contains("0x0d (32-bit floats); only unsigned bytes"));
        assert!(refused(&[0, 0, 8, 0]).contains("0 dimensions; 1 to 4"));
        assert!(refused(b"hello").contains("begins with 68 65, not 00 00"));
    }

    #[test]
    fn refuses_a_header_larger_than_memory() {
        let huge = [&[0, 0, 8, 4][..], &[0xFF; 16], &[1]].concat();
        assert!(refused(&huge).contains("and 1 bytes follow"));
    }

    #[test]
    fn refuses_to_unpack_more_than_the_limit() {
        let bomb = gzipped(&vec![0; 100_000]);
        assert!(bomb.len() < 1_000);
        let error = parse_idx(&bomb, Path::new("bomb.gz"), &IdxLimits { max_bytes: 1_000 }).unwrap_err();
        assert!(error.to_string().contains("more than the allowed 1000 bytes"), "{error}");
    }
}
