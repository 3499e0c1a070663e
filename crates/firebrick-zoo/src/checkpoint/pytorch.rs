//! PyTorch's checkpoints: zip archives, and the pickle streams of before 1.6. No pickle is run.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use burn::store::pytorch_reader::{DType as Theirs, PytorchReader};
use zip::ZipArchive;

use super::MAX_EXPANSION;
use super::pickle::{self, Objection};
use super::source::Source;
use super::table::{Dtype, Entry, Reason, Table, to_floats};

/// No honest pickle of a state dict is longer, bytes: its numbers lie beside it.
const MAX_PICKLE: u64 = 256 << 20;

/// How many instructions the pickles of a file of this length may have. A tensor takes about 45, and with its place in the archive 300
/// bytes beside its numbers; lists of numbers take 2 to 9 bytes an instruction.
fn most_instructions(length: u64) -> usize {
    ((1 << 16) + length / 4).min(1 << 23) as usize
}

/// Why a checkpoint is not taken.
pub(super) enum Refusal {
    /// Its pickle asks for this Python name.
    Hostile(String),
    /// It cannot be read.
    Unreadable(Reason),
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::Unreadable(reason)
    }
}

impl From<Objection> for Refusal {
    fn from(objection: Objection) -> Self {
        match objection {
            Objection::Name(name) => Self::Hostile(name),
            Objection::Malformed(what) => Self::Unreadable(format!("its pickle {what}")),
            Objection::TooLong(most) => Self::Unreadable(format!(
                "its pickle has more than the {most} instructions that a file of this length needs; save a plain state dict"
            )),
        }
    }
}

/// The tensors of a zip archive that `torch.save` wrote.
pub(super) fn read_zip(path: &Path, source: &Source) -> Result<Table, Refusal> {
    let unreadable = |error: &dyn std::fmt::Display| Refusal::Unreadable(error.to_string());
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| unreadable(&error))?;
    let limit = source.length().saturating_mul(MAX_EXPANSION).min(MAX_PICKLE);
    let mut is_pytorch = false;
    for index in 0..archive.len() {
        // Every pickle, whichever of them a reader will take for the checkpoint's own.
        let entry = archive.by_index(index).map_err(|error| unreadable(&error))?;
        if entry.name().is_ok_and(|name| !name.ends_with(".pkl")) {
            continue;
        }
        is_pytorch |= entry.name().is_ok_and(|name| name.ends_with("data.pkl"));
        let mut bytes = Vec::with_capacity(entry.size().min(limit) as usize);
        entry.take(limit + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
        if bytes.len() as u64 > limit {
            return Err(Refusal::Unreadable(format!(
                "its pickle has more than {limit} bytes, which no checkpoint of its length has"
            )));
        }
        pickle::scan(&bytes, most_instructions(source.length()))?;
    }
    match is_pytorch {
        true => tensors(path),
        false => Err(Refusal::Unreadable(
            "it is a zip archive without a data.pkl, which PyTorch's have, and without a model.weights.h5, which Keras' have".to_owned(),
        )),
    }
}

/// The tensors of a stream of pickles (PyTorch before 1.6), or of a single one.
pub(super) fn read_pickles(path: &Path, source: &Source) -> Result<Table, Refusal> {
    // What follows the pickles of a stream are numbers, by far the most of it, so that its start is enough if they end there.
    let mut length = (1 << 20).min(source.length());
    loop {
        let most = most_instructions(source.length());
        match scan_stream(&source.bytes(0, length as usize)?, length == source.length(), most) {
            Err(Objection::Malformed(_)) if length < source.length().min(MAX_PICKLE) => {
                length = (4 * length).min(source.length());
            }
            scanned => {
                scanned?;
                break;
            }
        }
    }
    tensors(path)
}

/// Scans the pickles at the start of a file, each of at most `most` instructions; `whole` if these are all of its bytes.
fn scan_stream(bytes: &[u8], whole: bool, most: usize) -> Result<(), Objection> {
    // A magic number, a version, facts about the system, the checkpoint, and the keys of its storages. A file of one pickle ends
    // with the first; in a stream numbers follow the fifth, which are not scanned, for no reader takes them for a pickle.
    let mut rest = bytes;
    for _ in 0..5 {
        let length = pickle::scan(rest, most)?;
        rest = &rest[length..];
        match (rest.is_empty(), whole) {
            (true, true) => break,
            // A pickle may end where the bytes do by chance, with more behind it.
            (true, false) => {
                return Err(Objection::Malformed("is followed by more of them than were read".to_owned()));
            }
            (false, _) => {}
        }
    }
    Ok(())
}

fn tensors(path: &Path) -> Result<Table, Refusal> {
    let reader = PytorchReader::new(path).map_err(|error| Refusal::Unreadable(error.to_string()))?;
    let mut table = Table::new();
    for (name, tensor) in reader.into_tensors() {
        let (_, theirs, shape, read) = tensor.into_parts();
        let dtype = dtype(theirs);
        let read = move || to_floats(&read().map_err(|error| error.to_string())?, dtype);
        table.insert(name, Entry::new(shape, dtype, read));
    }
    Ok(table)
}

fn dtype(dtype: Theirs) -> Dtype {
    match dtype {
        Theirs::F64 => Dtype::F64,
        Theirs::F32 => Dtype::F32,
        Theirs::F16 => Dtype::F16,
        Theirs::BF16 => Dtype::Bf16,
        Theirs::I64 => Dtype::I64,
        Theirs::I32 => Dtype::I32,
        Theirs::I16 => Dtype::I16,
        Theirs::I8 => Dtype::I8,
        Theirs::U64 => Dtype::U64,
        Theirs::U32 => Dtype::U32,
        Theirs::U16 => Dtype::U16,
        Theirs::U8 => Dtype::U8,
        Theirs::Bool => Dtype::Bool,
    }
}
