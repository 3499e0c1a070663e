//! Image files become upright 8-bit RGB.

use std::error::Error;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use crate::error::DataError;
use crate::jpeg;
use crate::signature::{Kind, kind};

/// What a file may cost at most. Checked before memory is taken, so that a hostile file cannot exhaust it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Width times height, from the header. Default: 100 million (PIL warns from 89 million on).
    pub max_pixels: u64,
    /// The file's length in bytes. Default: 512 MiB.
    pub max_bytes: u64,
    /// Memory for the decoded picture and, separately, for the decoder's own buffers, in bytes. Default: 1
    /// GiB.
    pub max_allocation: u64,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { max_pixels: 100_000_000, max_bytes: 512 << 20, max_allocation: 1 << 30 }
    }
}

/// Reads a JPEG, PNG, WebP, BMP, GIF or TIFF file as 8-bit RGB, upright.
///
/// The content decides on the format, not the file's extension. The result is that of PIL's
/// `ImageOps.exif_transpose(image).convert("RGB")`:
///
/// - grey becomes three equal channels; palettes are looked up; CMYK and YCCK are converted without a colour
///   profile;
/// - transparency is dropped, not composited: the colour stored under it shows;
/// - of 16-bit samples the high byte is taken. (PIL does so for colour and for grey with alpha; its
///   conversion of plain 16-bit grey clips at 255, which turns pictures white, and is not followed.)
/// - of animations and of files with several pages the first picture is taken;
/// - the EXIF (or TIFF) orientation is applied.
///
/// Colour profiles are ignored, as PIL does.
///
/// # Errors
///
/// All are [bad samples](DataError::is_bad_sample): an unreadable or empty file, one that is no image, an
/// unsupported format (AVIF, HEIC, TIFF with a palette or floating-point samples, ...), one that is cut short
/// or damaged, and one beyond `limits`.
pub fn decode(path: &Path, limits: &DecodeLimits) -> Result<RgbImage, DataError> {
    decode_bytes(&read_limited(path, limits.max_bytes)?, path, limits)
}

/// [`decode`] for a file's content that is already in memory. `name` stands for it in error messages.
///
/// # Errors
///
/// As [`decode`].
pub fn decode_bytes(data: &[u8], name: &Path, limits: &DecodeLimits) -> Result<RgbImage, DataError> {
    if data.is_empty() {
        return Err(DataError::EmptyFile { path: name.into() });
    }
    let (format, format_name) = match kind(data) {
        Kind::Readable(format, name) => (format, name),
        Kind::Unsupported(format) => {
            return Err(DataError::UnsupportedFormat { path: name.into(), format: format.into() });
        }
        Kind::Other(found) => return Err(DataError::NotAnImage { path: name.into(), found }),
    };
    let picture = Picture { data, name, format, format_name, limits };
    // The decoders are meant never to panic. Should one do so on hostile content, that is one bad image, not
    // the end of a run.
    catch_unwind(AssertUnwindSafe(|| picture.decode()))
        .unwrap_or_else(|_| Err(picture.corrupt("the decoder panicked")))
}

/// A file's content, at most `limit` bytes of it, in memory.
pub(crate) fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, DataError> {
    let too_large = |bytes| DataError::FileTooLarge { path: path.into(), bytes, limit };
    let file = File::open(path).map_err(DataError::read(path))?;
    let metadata = file.metadata().map_err(DataError::read(path))?;
    if metadata.is_dir() {
        return Err(DataError::read(path)(io::ErrorKind::IsADirectory.into()));
    }
    if metadata.len() > limit {
        return Err(too_large(metadata.len()));
    }
    // The length may be wrong (it may grow; a pipe has none), so reading is limited as well.
    let mut data = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.take(limit.saturating_add(1)).read_to_end(&mut data).map_err(DataError::read(path))?;
    match data.len() as u64 {
        length if length > limit => Err(too_large(length)),
        _ => Ok(data),
    }
}

/// A file in memory whose format is known.
struct Picture<'a> {
    data: &'a [u8],
    name: &'a Path,
    format: ImageFormat,
    format_name: &'static str,
    limits: &'a DecodeLimits,
}

impl Picture<'_> {
    fn decode(&self) -> Result<RgbImage, DataError> {
        // The PNG decoder looks for pixel data before it tells the size, so a lone header is measured here.
        if let Some((width, height)) = self.png_header() {
            self.check_pixels(width, height)?;
        }

        if self.ends_before_its_header_says() {
            return Err(self.truncated());
        }

        let mut reader = ImageReader::with_format(Cursor::new(self.data), self.format);
        let mut decoder_limits = Limits::no_limits();
        decoder_limits.max_alloc = Some(self.limits.max_allocation);
        reader.limits(decoder_limits);
        let mut decoder = reader.into_decoder().map_err(|error| self.refuse(error, (0, 0)))?;

        let size = decoder.dimensions();
        self.check_pixels(size.0, size.1)?;
        if decoder.total_bytes() > self.limits.max_allocation {
            return Err(self.too_much_memory(size));
        }

        let orientation = decoder.orientation().map_err(|error| self.refuse(error, size))?;
        let decoded = DynamicImage::from_decoder(decoder).map_err(|error| self.refuse(error, size))?;
        let mut upright = DynamicImage::ImageRgb8(self.to_rgb(decoded)?);
        upright.apply_orientation(orientation);
        Ok(upright.into_rgb8())
    }

    fn png_header(&self) -> Option<(u32, u32)> {
        let big_endian = |at: usize| Some(u32::from_be_bytes(self.data.get(at..at + 4)?.try_into().ok()?));
        let is_header = self.format == ImageFormat::Png && self.data.get(12..16)? == b"IHDR";
        if is_header { big_endian(16).zip(big_endian(20)) } else { None }
    }

    /// Whether the format's own framing shows that the end is missing, which not every decoder minds.
    fn ends_before_its_header_says(&self) -> bool {
        match self.format {
            ImageFormat::Jpeg => !jpeg::is_complete(self.data),
            ImageFormat::WebP => {
                let announced =
                    self.data.get(4..8).map(|size| u32::from_le_bytes([size[0], size[1], size[2], size[3]]));
                announced.is_none_or(|size| self.data.len() as u64 - 8 < u64::from(size))
            }
            _ => false,
        }
    }

    fn check_pixels(&self, width: u32, height: u32) -> Result<(), DataError> {
        let limit = self.limits.max_pixels;
        if u64::from(width) * u64::from(height) > limit {
            return Err(DataError::TooManyPixels { path: self.name.into(), width, height, limit });
        }
        if width == 0 || height == 0 {
            return Err(self.corrupt(format!("its header says {width} x {height} pixels")));
        }
        Ok(())
    }

    /// Drops alpha, repeats grey, and takes the high byte of 16-bit samples.
    fn to_rgb(&self, image: DynamicImage) -> Result<RgbImage, DataError> {
        let (width, height) = (image.width(), image.height());
        let high = |sample: u16| (sample >> 8) as u8;
        let pixels: Vec<u8> = match image {
            DynamicImage::ImageRgb8(rgb) => return Ok(rgb),
            DynamicImage::ImageLuma8(grey) => grey.pixels().flat_map(|p| [p.0[0]; 3]).collect(),
            DynamicImage::ImageLumaA8(grey) => grey.pixels().flat_map(|p| [p.0[0]; 3]).collect(),
            DynamicImage::ImageRgba8(rgba) => rgba.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2]]).collect(),
            DynamicImage::ImageLuma16(grey) => grey.pixels().flat_map(|p| [high(p.0[0]); 3]).collect(),
            DynamicImage::ImageLumaA16(grey) => grey.pixels().flat_map(|p| [high(p.0[0]); 3]).collect(),
            DynamicImage::ImageRgb16(rgb) => rgb.pixels().flat_map(|p| p.0.map(high)).collect(),
            DynamicImage::ImageRgba16(rgba) => {
                rgba.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2]].map(high)).collect()
            }
            // Floating-point samples have no agreed range, so any scaling would be a guess.
            other => {
                return Err(self.unsupported(format!(
                    "{} with {:?} samples",
                    self.format_name,
                    other.color()
                )));
            }
        };
        Ok(RgbImage::from_raw(width, height, pixels).expect("three bytes for each pixel"))
    }

    fn refuse(&self, error: ImageError, size: (u32, u32)) -> DataError {
        match &error {
            ImageError::Limits(_) => self.too_much_memory(size),
            ImageError::Unsupported(what) => {
                self.unsupported(format!("this kind of {} ({what})", self.format_name))
            }
            _ if ends_early(&error) => self.truncated(),
            _ => self.corrupt(error.to_string()),
        }
    }

    fn unsupported(&self, format: String) -> DataError {
        DataError::UnsupportedFormat { path: self.name.into(), format }
    }

    fn truncated(&self) -> DataError {
        DataError::Truncated {
            path: self.name.into(),
            format: self.format_name,
            bytes: self.data.len() as u64,
        }
    }

    fn corrupt(&self, reason: impl Into<String>) -> DataError {
        DataError::Corrupt { path: self.name.into(), format: self.format_name, reason: reason.into() }
    }

    fn too_much_memory(&self, (width, height): (u32, u32)) -> DataError {
        DataError::TooMuchMemory { path: self.name.into(), width, height, limit: self.limits.max_allocation }
    }
}

/// Whether the end of the data is what the decoder complains about. Some say so in a type, some in words
/// only.
fn ends_early(error: &ImageError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof)
        {
            return true;
        }
        cause = error.source();
    }
    let text = error.to_string().to_lowercase();
    ["unexpected end", "failed to fill whole buffer", "end of file", "eof", "premature end", "exhausted"]
        .iter()
        .any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(data: &[u8]) -> String {
        let error = decode_bytes(data, Path::new("a.jpg"), &DecodeLimits::default()).unwrap_err();
        assert!(error.is_bad_sample());
        error.to_string()
    }

    fn png_of(width: u32, height: u32) -> Vec<u8> {
        let mut file = Vec::new();
        RgbImage::new(width, height).write_to(&mut Cursor::new(&mut file), ImageFormat::Png).unwrap();
        file
    }

    /// The signature and header of a PNG, and nothing after them.
    fn png_header(width: u32, height: u32) -> Vec<u8> {
        let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        file.extend(width.to_be_bytes());
        file.extend(height.to_be_bytes());
        file.extend([8, 2, 0, 0, 0]);
        file.extend([0; 4]);
        file
    }

    #[test]
    fn refuses_an_empty_file() {
        assert!(refused(b"").starts_with("a.jpg: is empty (0 bytes)."));
    }

    #[test]
    fn refuses_text_named_jpg() {
        assert!(
            refused(b"not a picture")
                .contains("is not an image: it is text that begins with \"not a picture\"")
        );
    }

    #[test]
    fn refuses_formats_it_cannot_read_by_name() {
        assert!(
            refused(b"\0\0\0\x18ftypheic\0\0\0\0")
                .starts_with("a.jpg: HEIC/HEIF is not supported. Convert it to PNG")
        );
    }

    #[test]
    fn refuses_a_huge_png_by_its_header_alone() {
        assert_eq!(
            refused(&png_header(60_000, 60_000)),
            "a.jpg: is 60000 x 60000 pixels, 3600000000 in all; the limit is 100000000. \
             Scale it down"
        );
        assert!(refused(&png_header(u32::MAX, u32::MAX)).contains("4294967295 x 4294967295"));
    }

    #[test]
    fn keeps_to_the_pixel_limit_exactly() {
        let at = |max_pixels| {
            let limits = DecodeLimits { max_pixels, ..Default::default() };
            decode_bytes(&png_of(5, 4), Path::new("a.png"), &limits)
        };
        assert!(at(20).is_ok());
        assert!(matches!(at(19), Err(DataError::TooManyPixels { width: 5, height: 4, limit: 19, .. })));
    }

    #[test]
    fn keeps_to_the_memory_limit() {
        let limits = DecodeLimits { max_allocation: 59, ..Default::default() };
        let error = decode_bytes(&png_of(5, 4), Path::new("a.png"), &limits).unwrap_err();
        assert!(matches!(error, DataError::TooMuchMemory { limit: 59, .. }), "{error}");
    }

    #[test]
    fn keeps_to_the_byte_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let file = png_of(5, 4);
        std::fs::write(&path, &file).unwrap();
        let length = file.len() as u64;
        let at = |max_bytes| decode(&path, &DecodeLimits { max_bytes, ..Default::default() });
        assert!(at(length).is_ok());
        assert!(matches!(at(length - 1), Err(DataError::FileTooLarge { bytes, .. }) if bytes == length));
    }

    #[test]
    fn names_a_file_that_cannot_be_read() {
        let error = decode(Path::new("no/such/image.png"), &DecodeLimits::default()).unwrap_err();
        assert!(error.is_bad_sample());
        assert!(error.to_string().starts_with("no/such/image.png: cannot be read"));
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(decode(folder.path(), &DecodeLimits::default()), Err(DataError::Read { .. })));
    }

    #[test]
    fn refuses_a_damaged_png() {
        let mut file = png_of(5, 4);
        let pixel_data = file.windows(4).position(|w| w == b"IDAT").unwrap() + 6;
        file[pixel_data] ^= 0xFF;
        assert!(refused(&file).contains("PNG data is damaged"), "{}", refused(&file));
    }
}
