//! Checkpoints cut anywhere and changed anywhere: an error or a table, never a panic, and never much more memory than the file is
//! long.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::{Path, PathBuf};

use firebrick_zoo::Checkpoint;

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

/// Reads a file and every tensor in it, within its limit of memory.
fn read_all(path: &Path, length: usize, what: &dyn Fn() -> String) {
    let (before, _) = HELD.get();
    HELD.set((before, before));
    if let Ok(checkpoint) = Checkpoint::read(path) {
        let names: Vec<String> = checkpoint.names().map(str::to_owned).collect();
        for name in &names {
            let _ = checkpoint.values(name);
        }
    }
    let (_, most) = HELD.get();
    let most = (most - before) as usize;
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
