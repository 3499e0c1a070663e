//! Loading weights, ResNet-50, 102 MB of `f32`, on the ndarray backend: into a network that exists, from safetensors and from PyTorch's
//! archive, beside reading the bytes of the same file twice.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::path::Path;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use firebrick::train::DeviceChoice;
use firebrick::zoo::{Checkpoint, CreateOptions, NamedTensor, create, find, write_safetensors};
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

const MODEL: &str = "resnet50";

fn checkpoint(c: &mut Criterion) {
    let device = DeviceChoice::NdArray.open().expect("built in");
    let spec = find(MODEL).expect("in the zoo");
    let network = || create(spec, &CreateOptions::default(), &device);
    let tensors: Vec<NamedTensor> = network()
        .tensors()
        .into_iter()
        .map(|(name, shape)| {
            let count: usize = shape.iter().product();
            let values: Vec<f32> = (0..count).map(|place| (place % 251) as f32 / 251.0).collect();
            NamedTensor { values: values.into(), name, shape }
        })
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let files = ["safetensors", "pth"].map(|end| (end, folder.path().join(format!("{MODEL}.{end}"))));
    write_safetensors(&tensors, true, &files[0].1).expect("written");
    write_pth(&tensors, &files[1].1).expect("written");
    drop(tensors);

    let mut group = c.benchmark_group(format!("checkpoint/{MODEL}"));
    group.sample_size(20);
    for (end, path) in &files {
        group.bench_function(format!("{end}/read_bytes_twice"), |b| {
            b.iter(|| {
                for _ in 0..2 {
                    drop(black_box(std::fs::read(path).expect("read")));
                }
            });
        });
        group.bench_function(format!("{end}/load"), |b| {
            b.iter_batched(
                network,
                |network| {
                    Checkpoint::read(path).expect("read").load_into(network, MODEL).expect("its own names")
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// Writes tensors as `torch.save` does a state dict: an archive, not compressed, of a pickle and a file of bytes for each tensor.
fn write_pth(tensors: &[NamedTensor], path: &Path) -> anyhow::Result<()> {
    let mut archive = ZipWriter::new(File::create(path)?);
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    archive.start_file(format!("{MODEL}/data.pkl"), stored)?;
    archive.write_all(&pickle(tensors))?;
    archive.start_file(format!("{MODEL}/byteorder"), stored)?;
    archive.write_all(b"little")?;
    for (number, tensor) in tensors.iter().enumerate() {
        // As PyTorch aligns them.
        archive.start_file(format!("{MODEL}/data/{number}"), stored.with_alignment(64))?;
        let bytes: Vec<u8> = tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        archive.write_all(&bytes)?;
    }
    archive.start_file(format!("{MODEL}/version"), stored)?;
    archive.write_all(b"3\n")?;
    archive.finish()?;
    Ok(())
}

/// A dictionary of tensors in pickle's protocol 2: each is rebuilt from a storage of its own, which has its place in the list for a name.
fn pickle(tensors: &[NamedTensor]) -> Vec<u8> {
    fn text(out: &mut Vec<u8>, text: &str) {
        out.push(b'X');
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    }
    fn integer(out: &mut Vec<u8>, number: usize) {
        out.push(b'J');
        out.extend((number as u32).to_le_bytes());
    }
    fn tuple(out: &mut Vec<u8>, numbers: &[usize]) {
        out.push(b'(');
        numbers.iter().for_each(|&number| integer(out, number));
        out.push(b't');
    }
    let mut out = b"\x80\x02}(".to_vec();
    for (number, tensor) in tensors.iter().enumerate() {
        text(&mut out, &tensor.name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(b"ctorch\nFloatStorage\n");
        text(&mut out, &number.to_string());
        text(&mut out, "cpu");
        integer(&mut out, tensor.values.len());
        out.extend(b"tQ");
        integer(&mut out, 0);
        tuple(&mut out, &tensor.shape);
        let strides: Vec<usize> =
            (0..tensor.shape.len()).map(|axis| tensor.shape[axis + 1..].iter().product()).collect();
        tuple(&mut out, &strides);
        // No gradient, no hooks.
        out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    out.extend(b"u.");
    out
}

criterion_group!(benches, checkpoint);
criterion_main!(benches);
