//! A file that is read in pieces.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Mutex;

use super::table::{Dtype, Reason, to_floats};

/// An open file and its length. It stays open, so a file that is replaced meanwhile does not mix with the one that was read.
pub(crate) struct Source {
    file: Mutex<File>,
    length: u64,
}

impl Source {
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file: Mutex::new(file), length })
    }

    /// Bytes of the file when it was opened.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The bytes from `offset` on, `length` of them.
    pub fn bytes(&self, offset: u64, length: usize) -> Result<Vec<u8>, Reason> {
        self.check(offset, length)?;
        let mut bytes = vec![0; length];
        self.fill(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// `count` numbers of a type from `offset` on.
    pub fn floats(&self, offset: u64, count: usize, dtype: Dtype) -> Result<Vec<f32>, Reason> {
        let length = count.checked_mul(dtype.size()).ok_or("a tensor is larger than memory")?;
        // What is in memory as it is in the file needs no buffer between.
        if dtype != Dtype::F32 || cfg!(target_endian = "big") {
            return to_floats(&self.bytes(offset, length)?, dtype);
        }
        self.check(offset, length)?;
        let mut values = vec![0f32; count];
        self.fill(offset, bytemuck::cast_slice_mut(&mut values))?;
        Ok(values)
    }

    /// So that no buffer is larger than the file.
    fn check(&self, offset: u64, length: usize) -> Result<(), Reason> {
        match offset.checked_add(length as u64).is_some_and(|end| end <= self.length) {
            true => Ok(()),
            false => Err(format!(
                "it is cut short: it has {} bytes, and bytes {offset} to {} are asked for",
                self.length,
                offset.saturating_add(length as u64)
            )),
        }
    }

    fn fill(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Reason> {
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_exact(bytes))
            .map_err(|error| format!("cannot read {} bytes at {offset}: {error}", bytes.len()))
    }
}
