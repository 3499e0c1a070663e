//! Files of weights: right ones, and ones that are wrong in a single way.

use flate2::Crc;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::Sandbox;

/// Names and shapes of the tensors of a file; all their values are 0.
#[derive(Clone)]
pub struct Tensors(pub Vec<(String, Vec<usize>)>);

impl Tensors {
    /// Those of `mobilenet_v2_0.35` with its 1,000 classes, as a run of the program names them.
    pub fn of_the_zoo() -> Self {
        let sandbox = Sandbox::with_data();
        sandbox.train("--data data --epochs 1 --hidden none --out run").succeeded();
        let package = sandbox.read("run/model.safetensors");
        let package = SafeTensors::deserialize(&package).expect("a safetensors file");
        let mut tensors: Vec<_> =
            package.iter().map(|(name, tensor)| (name.to_owned(), tensor.shape().to_vec())).collect();
        tensors.sort();
        for (name, shape) in &mut tensors {
            if name.starts_with("classifier.") {
                shape[0] = 1000;
            }
        }
        Self(tensors)
    }

    /// These and another one.
    pub fn with(&self, name: &str, shape: &[usize]) -> Self {
        let mut tensors = self.without(name);
        tensors.0.push((name.to_owned(), shape.to_vec()));
        tensors
    }

    /// These but one.
    pub fn without(&self, name: &str) -> Self {
        Self(self.0.iter().filter(|tensor| tensor.0 != name).cloned().collect())
    }

    fn zeros(&self) -> Vec<u8> {
        vec![0; 4 * self.0.iter().map(|(_, shape)| shape.iter().product()).max().unwrap_or(0)]
    }

    /// As a safetensors file.
    pub fn safetensors(&self) -> Vec<u8> {
        let zeros = self.zeros();
        let view = |shape: &Vec<usize>| {
            TensorView::new(Dtype::F32, shape.clone(), &zeros[..4 * shape.iter().product::<usize>()])
                .expect("the size")
        };
        let views = self.0.iter().map(|(name, shape)| (name, view(shape)));
        safetensors::serialize(views, None).expect("serialised")
    }

    /// As `torch.save` writes a state dict, with the pickle code `before` it and `inside` it.
    pub fn pth(&self, before: &[u8], inside: &[u8]) -> Vec<u8> {
        let zeros = self.zeros();
        let mut pickle = [b"\x80\x02", before, b"}("].concat();
        for (name, shape) in &self.0 {
            text(&mut pickle, name);
            pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
            text(&mut pickle, "storage");
            pickle.extend(b"ctorch\nFloatStorage\n");
            text(&mut pickle, "0");
            text(&mut pickle, "cpu");
            number(&mut pickle, zeros.len() / 4);
            // The end of the storage's identity; the tensor starts at its first value.
            pickle.extend(b"tQK\x00(");
            shape.iter().for_each(|&size| number(&mut pickle, size));
            pickle.extend(b"t(");
            (0..shape.len()).for_each(|axis| number(&mut pickle, shape[axis + 1..].iter().product()));
            // It requires no gradient and has no hooks.
            pickle.extend(b"t\x89ccollections\nOrderedDict\n)RtR");
        }
        pickle.extend(inside);
        pickle.extend(b"u.");
        zip(&[("archive/data.pkl", &pickle), ("archive/data/0", &zeros), ("archive/version", b"3\n")])
    }
}

/// Pickle code that calls `os.system(command)` and leaves its result on the stack.
pub fn system_call(command: &str) -> Vec<u8> {
    let mut pickle = b"cos\nsystem\n(".to_vec();
    text(&mut pickle, command);
    pickle.extend(b"tR");
    pickle
}

/// The same by the opcodes of protocol 4, in which the name of the function is no text of its own.
pub fn system_call_of_protocol_4(command: &str) -> Vec<u8> {
    let mut pickle = b"\x8c\x02os\x8c\x06system\x93".to_vec();
    text(&mut pickle, command);
    pickle.extend(b"\x85R");
    pickle
}

/// Pickle code of a text.
pub fn text(pickle: &mut Vec<u8>, text: &str) {
    pickle.push(b'X');
    pickle.extend((text.len() as u32).to_le_bytes());
    pickle.extend(text.as_bytes());
}

fn number(pickle: &mut Vec<u8>, number: usize) {
    pickle.push(b'J');
    pickle.extend(i32::try_from(number).expect("small").to_le_bytes());
}

/// An archive of these files, not compressed.
pub fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let mut crc = Crc::new();
        crc.update(content);
        // Version 2.0, no flags, stored, no time; then checksum, both sizes, the lengths of name and extra field.
        let mut entry = [20_u16, 0, 0, 0, 0].map(u16::to_le_bytes).concat();
        let size = content.len() as u32;
        entry.extend([crc.sum(), size, size].map(u32::to_le_bytes).concat());
        entry.extend([name.len() as u16, 0].map(u16::to_le_bytes).concat());
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&entry);
        // No comment, the first disk, no attributes; then where the file is.
        directory.extend([0; 10]);
        directory.extend((archive.len() as u32).to_le_bytes());
        directory.extend(name.as_bytes());
        archive.extend(b"PK\x03\x04");
        archive.extend(entry);
        archive.extend(name.as_bytes());
        archive.extend(*content);
    }
    let start = archive.len() as u32;
    archive.extend(&directory);
    archive.extend(b"PK\x05\x06\x00\x00\x00\x00");
    archive.extend([files.len() as u16; 2].map(u16::to_le_bytes).concat());
    archive.extend([directory.len() as u32, start].map(u32::to_le_bytes).concat());
    archive.extend([0; 2]);
    archive
}
