//! Checkpoints cut anywhere and changed anywhere: an error or a table, never a panic, and never much more memory than the file is
//! long.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::path::{Path, PathBuf};

use firebrick_zoo::{Checkpoint, TablePackage};

/// How many times its length a file may make us hold.
const FACTOR: usize = 80;
/// What it may make us hold besides, for tables and messages.
const BESIDES: usize = 4 << 20;
/// The same of HDF5, which says in 16 bits how many entries the nodes of its groups' trees have room for.
const BESIDES_HDF5: usize = 16 << 20;

thread_local! {
    /// Bytes that this thread holds, and the most that it held.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

/// The system's allocator, counting. It refuses what no test should ask for, so that a mistake fails instead of filling the memory.
struct Counting;

fn count(bytes: isize) {
    // A thread that ends may free after its counter is gone.
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        held.set((now + bytes, most.max(now + bytes)));
    });
}

// SAFETY: every call is handed to the system's allocator with the same arguments, or answered by null, which means
// that there is no memory; the counter neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        if layout.size() > 1 << 30 {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise for this function is the system's for its own.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        if layout.size() > 1 << 30 {
            return std::ptr::null_mut();
        }
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above; every pointer came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/checkpoints")
}

/// The most bytes that are held at once while this is done, beside those that were held before.
fn held(work: impl FnOnce()) -> usize {
    let (before, _) = HELD.get();
    HELD.set((before, before));
    work();
    let (_, most) = HELD.get();
    (most - before) as usize
}

/// Reads a file and every tensor in it, within its limit of memory.
fn read_all(path: &Path, length: usize, what: &dyn Fn() -> String) {
    let most = held(|| {
        if let Ok(checkpoint) = Checkpoint::read(path) {
            let names: Vec<String> = checkpoint.names().map(str::to_owned).collect();
            for name in &names {
                let _ = checkpoint.values(name);
            }
        }
    });
    let hdf5 = path.extension().is_some_and(|extension| extension == "h5" || extension == "keras");
    let besides = if hdf5 { BESIDES_HDF5 } else { BESIDES };
    assert!(most <= FACTOR * length + besides, "{}: {length} bytes made it hold {most}", what());
}

/// Reads a golden file cut at every `step`th length, then with single bytes changed, at every `step`th place.
fn torture(file: &str, step: usize) {
    let content = std::fs::read(goldens().join(file)).expect("a golden file");
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join(Path::new(file).file_name().expect("a file"));
    // What lies beside it, untouched.
    for beside in std::fs::read_dir(goldens().join(file).parent().expect("a folder")).expect("listed") {
        let beside = beside.expect("listed").path();
        if beside.extension().is_some_and(|extension| extension == "bin" || extension == "data") {
            std::fs::copy(&beside, folder.path().join(beside.file_name().expect("a file"))).expect("copied");
        }
    }
    // Headers are dense; what follows is looked at here and there.
    let places = || (0..content.len()).filter(|place| *place < 300 || place % step == 0);
    for length in places() {
        std::fs::write(&path, &content[..length]).expect("written");
        read_all(&path, length, &|| format!("{file} cut to {length} bytes"));
    }
    for place in places() {
        for change in [0xff, 0x01] {
            let mut changed = content.clone();
            changed[place] ^= change;
            std::fs::write(&path, &changed).expect("written");
            read_all(&path, content.len(), &|| format!("{file} with byte {place} changed by {change:#x}"));
        }
    }
}

#[test]
fn pytorch_archives() {
    torture("zip.pth", 7);
    torture("run.pth", 31);
}

#[test]
fn pytorch_streams() {
    torture("legacy.pth", 3);
}

#[test]
fn safetensors_files() {
    torture("twin.safetensors", 1);
}

#[test]
fn keras_hdf5_of_all_versions() {
    torture("whole.h5", 97);
    torture("keras_2.h5", 97);
    torture("latest.h5", 7);
    torture("twin.weights.h5", 97);
}

#[test]
fn keras_archives() {
    torture("twin.keras", 127);
}

#[test]
fn tensorflow_js_models() {
    torture("tfjs_uint8/model.json", 11);
}

#[test]
fn onnx_models() {
    torture("twin.onnx", 1);
    torture("outside.onnx", 1);
}

/// A zip archive of one file, deflated.
fn deflated(name: &str, content: &[u8]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    archive.start_file(name, zip::write::SimpleFileOptions::default()).expect("started");
    archive.write_all(content).expect("written");
    archive.finish().expect("finished").into_inner()
}

#[test]
fn pickles_of_many_objects() {
    let pickle =
        |start: &[u8], unit: u8, count: usize| [b"\x80\x04", start, &vec![unit; count], b"}."].concat();
    let text = [&b"X\0\0\x10\0"[..], &vec![b'a'; 1 << 20]].concat();
    for (what, unit) in [("None", b'N'), ("dictionaries", b'}'), ("marks", b'('), ("tuples", b')')] {
        refused(&format!("deflated {what}"), "a.pth", &deflated("a/data.pkl", &pickle(b"", unit, 20 << 20)));
        refused(what, "a.pth", &pickle(b"", unit, 2 << 20));
    }
    refused("notes", "a.pth", &pickle(&text, 0x94, 6000));
    refused("notes, deflated", "a.pth", &deflated("a/data.pkl", &pickle(&text, 0x94, 60_000)));
}

#[test]
fn messages_of_empty_tensors() {
    let graph = b"*\0".repeat(1 << 20);
    // The version of the format, then the graph with its length, in groups of seven bits.
    refused("empty tensors", "a.onnx", &[&b"\x08\x08\x3a\x80\x80\x80\x01"[..], &graph].concat());
}

/// Reads a file that is none, within the limit of memory.
fn refused(what: &str, name: &str, content: &[u8]) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join(name);
    std::fs::write(&path, content).expect("written");
    read_all(&path, content.len(), &|| what.to_owned());
    assert!(Checkpoint::read(&path).is_err(), "{what}");
}

#[test]
fn headers_of_many_values() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("a.safetensors");
    let many = format!("[{}0]", "0,".repeat(9 << 20));
    for header in [
        format!(r#"{{"__metadata__":{{"firebrick":"x"}},"a":{many}}}"#),
        format!(r#"{{"__metadata__":{{"firebrick":"{{\"config\":{many}}}"}}}}"#),
    ] {
        let content = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
        std::fs::write(&path, &content).expect("written");
        let most = held(|| {
            assert!(Checkpoint::read(&path).is_err());
            assert!(!TablePackage::is_at(&path));
        });
        // The header, and what of it is a text.
        assert!(most <= 4 * content.len(), "{} bytes made it hold {most}", content.len());
    }
}
