//! One network as every framework saves it (`tests/goldens/checkpoints`), and files that are not what they seem.

use std::io::Write;

use serde::Deserialize;

use super::*;

/// What a failing comparison should say to regenerate the files, if they and not the reader are wrong.
const GOLDENS: &str = "see `cargo xtask golden generate_checkpoints`";

#[derive(Deserialize)]
struct Expected {
    /// Those that Keras has: it leaves out a scale of 1.
    keras_names: Vec<String>,
    tensors: std::collections::BTreeMap<String, Tensor>,
}

#[derive(Deserialize)]
struct Tensor {
    shape: Vec<usize>,
    values: Vec<f32>,
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/checkpoints").join(name)
}

fn read(name: &str) -> Checkpoint {
    Checkpoint::read(&golden(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn expected() -> Expected {
    let text = std::fs::read_to_string(golden("expected.json")).expect("a golden file");
    serde_json::from_str(&text).expect("the golden file's form")
}

/// Compares a checkpoint's tensors with those of `names`; values may differ by `tolerance` of a tensor's range.
#[track_caller]
fn assert_holds(checkpoint: &Checkpoint, names: &[String], tolerance: f32) {
    let expected = expected();
    let found: Vec<_> = checkpoint.names().filter(|name| !name.ends_with("num_batches_tracked")).collect();
    assert_eq!(found, names, "{checkpoint:?}, {GOLDENS}");
    for name in names {
        let tensor = &expected.tensors[name];
        assert_eq!(checkpoint.shape(name), Some(&tensor.shape[..]), "{name} of {checkpoint:?}, {GOLDENS}");
        let values = checkpoint.values(name).expect("readable");
        let (low, high) =
            tensor.values.iter().fold((f32::MAX, f32::MIN), |(low, high), &v| (low.min(v), high.max(v)));
        let most = values.iter().zip(&tensor.values).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(most <= tolerance * (high - low), "{name} of {checkpoint:?} is {most} off, {GOLDENS}");
    }
}

#[test]
fn every_format_holds_the_same_network() {
    let expected = expected();
    let all: Vec<String> = expected.tensors.keys().cloned().collect();
    for (file, format) in [
        ("zip.pth", Format::PyTorch),
        ("legacy.pth", Format::PyTorchLegacy),
        ("twin.safetensors", Format::Safetensors),
        ("twin.onnx", Format::Onnx),
        ("outside.onnx", Format::Onnx),
    ] {
        let checkpoint = read(file);
        assert_eq!(checkpoint.format(), format, "{file}");
        assert_holds(&checkpoint, &all, 0.0);
    }
    for (file, format) in [
        ("whole.h5", Format::KerasHdf5),
        ("weights_only.h5", Format::KerasHdf5),
        ("keras_2.h5", Format::KerasHdf5),
        ("twin.weights.h5", Format::KerasHdf5),
        ("twin.keras", Format::Keras),
        ("unlabelled.keras", Format::Keras),
        ("tfjs_plain/model.json", Format::TensorFlowJs),
        ("tfjs_float16/model.json", Format::TensorFlowJs),
    ] {
        let checkpoint = read(file);
        assert_eq!(checkpoint.format(), format, "{file}");
        // Files of weights alone do not say that `wide` is depthwise; that is found out by the model's shape, as below.
        let mut checkpoint = checkpoint;
        if let Some(wide) = checkpoint.tensors.get_mut("wide.weight").filter(|wide| wide.perhaps_depthwise) {
            *wide = fitted(wide, &expected.tensors["wide.weight"].shape)
                .unwrap_or_else(|found| panic!("{found:?}"));
        }
        assert_holds(&checkpoint, &expected.keras_names, 0.0);
    }
}

#[test]
fn quantised_weights_are_within_half_a_step() {
    let expected = expected();
    for (file, levels) in [("tfjs_uint8/model.json", 255.0), ("tfjs_uint16/model.json", 65_535.0)] {
        // A step of slack: the writer moves the range so that 0 is a level.
        assert_holds(&read(file), &expected.keras_names, 1.0 / levels);
    }
}

#[test]
fn hdf5_of_the_newest_version_is_read_in_half_and_double_precision_and_big_endian() {
    let expected = expected();
    let checkpoint = read("latest.h5");
    assert_eq!(checkpoint.dtype("head.weight"), Some(Dtype::F16));
    assert_eq!(checkpoint.dtype("head.bias"), Some(Dtype::F64));
    for name in ["head.weight", "head.bias"] {
        assert_eq!(checkpoint.values(name).expect("readable"), expected.tensors[name].values, "{name}");
    }
}

#[test]
fn a_model_in_a_model_has_the_names_of_both() {
    for file in ["nested.h5", "nested.weights.h5"] {
        let checkpoint = read(file);
        let names =
            ["inner.inner_conv.bias", "inner.inner_conv.weight", "outer_head.bias", "outer_head.weight"];
        assert_eq!(checkpoint.names().collect::<Vec<_>>(), names, "{file}, {GOLDENS}");
        assert_eq!(checkpoint.shape("inner.inner_conv.weight"), Some(&[2, 3, 1, 1][..]), "{file}");
        assert_eq!(checkpoint.shape("outer_head.weight"), Some(&[2, 8][..]), "{file}");
    }
}

#[test]
fn a_dense_layer_after_a_flattened_map_has_its_columns_in_pytorch_s_order() {
    let columns = |checkpoint: &Checkpoint| checkpoint.values("outer_head.weight").expect("readable");
    let keras = columns(&read("nested.h5"));
    // Height and width of 2, and two channels.
    let turned = read("nested.h5").with_flattened("outer_head.weight", [2, 2, 2]).expect("a map of 8 values");
    assert_eq!(turned.shape("outer_head.weight"), Some(&[2, 8][..]));
    for (row, (turned, keras)) in columns(&turned).chunks(8).zip(keras.chunks(8)).enumerate() {
        for (to, value) in turned.iter().enumerate() {
            let [channel, y, x] = [to / 4, to / 2 % 2, to % 2];
            assert_eq!(*value, keras[(2 * y + x) * 2 + channel], "row {row}, column {to}");
        }
    }
    for (name, map, words) in [
        ("outer_head.weight", [2, 2, 3], "has 8 columns"),
        ("outer_head.weight", [usize::MAX, 2, 3], "has 8 columns"),
        ("outer_head.bias", [2, 2, 2], "no dense layer"),
        ("nowhere", [2, 2, 2], "is missing"),
    ] {
        let error = read("nested.h5").with_flattened(name, map).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
    // PyTorch's own files have it already.
    let own = read("zip.pth").with_flattened("head.weight", [1, 1, 3]).expect("left as it is");
    assert_eq!(own.values("head.weight").expect("readable"), expected().tensors["head.weight"].values);
}

#[test]
fn a_changed_number_in_an_archive_is_found_by_its_checksum_and_the_tensor_named() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut content = std::fs::read(golden("zip.pth")).expect("a golden file");
    let values: Vec<u8> =
        expected().tensors["head.weight"].values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let place = content.windows(values.len()).position(|window| window == values).expect("stored as it is");
    content[place] ^= 1;
    let path = folder.path().join("changed.pth");
    std::fs::write(&path, content).expect("written");
    let checkpoint = Checkpoint::read(&path).expect("its table is whole");
    checkpoint.values("head.bias").expect("untouched");
    let error = checkpoint.values("head.weight").expect_err("changed").to_string();
    assert!(
        error.contains("changed.pth") && error.contains("head.weight") && error.contains("checksum"),
        "{error}"
    );
}

#[test]
fn every_type_of_numbers_is_read_as_f32() {
    for file in ["types.pth", "types.safetensors"] {
        let checkpoint = read(file);
        for (name, dtype) in [
            ("float64", Dtype::F64),
            ("float16", Dtype::F16),
            ("bfloat16", Dtype::Bf16),
            ("int64", Dtype::I64),
            ("int32", Dtype::I32),
            ("int16", Dtype::I16),
            ("int8", Dtype::I8),
            ("uint8", Dtype::U8),
        ] {
            assert_eq!(checkpoint.dtype(name), Some(dtype), "{file}: {name}");
            assert_eq!(checkpoint.values(name).expect("readable"), [0.0, 1.0, 2.0, 100.0], "{file}: {name}");
        }
    }
}

#[test]
fn views_of_a_shared_storage_are_read_in_their_own_order() {
    let checkpoint = read("views.pth");
    assert_eq!(checkpoint.shape("turned"), Some(&[4, 3][..]));
    let turned = [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11].map(|value| value as f32);
    assert_eq!(checkpoint.values("turned").expect("readable"), turned);
    assert_eq!(checkpoint.values("part").expect("readable"), [5.0, 6.0, 9.0, 10.0]);
}

#[test]
fn the_weights_are_found_in_a_whole_run_s_checkpoint() {
    let all: Vec<String> = expected().tensors.keys().cloned().collect();
    for file in ["run.pth", "lightning.ckpt"] {
        let mut checkpoint = read(file);
        assert!(checkpoint.shape("stem.weight").is_none(), "{file} nests its weights");
        checkpoint.strip_prefixes(&all);
        // Values too: run.pth holds zeros of the same names under `ema`.
        assert_holds(&checkpoint, &all, 0.0);
    }
}

/// A dense layer that asks for the twin's head.
fn head() -> ClassifierHead {
    #[allow(deprecated)]
    firebrick_nn::HeadConfig::new(3, 5).init(0, &burn::tensor::Device::ndarray())
}

fn head_name(_: &ClassifierHead, path: &str) -> Option<String> {
    Some(path.replace("output.", "head."))
}

/// The twin as a model of the zoo, beside one of other shapes.
fn models() -> Vec<Fingerprint> {
    let twin: Vec<_> = expected().tensors.into_iter().map(|(name, tensor)| (name, tensor.shape)).collect();
    let wider = twin
        .iter()
        .map(|(name, shape)| (name.clone(), shape.iter().map(|side| 2 * side).collect()))
        .collect();
    vec![("twin_wide".to_owned(), wider), ("twin".to_owned(), twin)]
}

#[test]
fn a_module_gets_the_weights_in_its_own_layout() {
    use burn::tensor::Tensor as Values;
    use firebrick_nn::Network as _;
    let head = read("latest.h5")
        .load_adapted(head(), "a head", head_name, |_, _, _, _| None, models)
        .expect("it fits");
    #[allow(deprecated)]
    let device = burn::tensor::Device::ndarray();
    let one = Values::<2>::from_floats([[0.0, 1.0, 0.0]], &device);
    let logits: Vec<f32> = head.forward(one).into_data().try_to_vec().expect("f32");
    let expected = expected();
    let (weight, bias) = (&expected.tensors["head.weight"].values, &expected.tensors["head.bias"].values);
    for (class, logit) in logits.iter().enumerate() {
        assert!((logit - weight[3 * class + 1] - bias[class]).abs() < 1e-6, "class {class}: {logit}");
    }
}

#[test]
fn another_architecture_is_named_by_what_it_looks_like() {
    for file in ["zip.pth", "twin.safetensors", "run.pth"] {
        let error = read(file)
            .load_adapted(head(), "a head", head_name, |_, _, _, _| None, models)
            .expect_err("not a head");
        let ZooError::Mismatch { mismatch, .. } = &error else { panic!("{error}") };
        // run.pth holds the weights twice and an optimizer, so that they are not half of it.
        if file != "run.pth" {
            let likeness = mismatch.looks_like.as_ref().expect("it is the twin");
            assert_eq!((likeness.model.as_str(), likeness.share), ("twin", 1.0), "{file}");
            assert!(error.to_string().contains("It looks like twin (100 % of its tensors)"), "{error}");
        }
        assert!(error.to_string().contains("that the model does not have"), "{error}");
    }
    // What is asked for is not named again as what it looks like.
    let error = read("twin.onnx")
        .load_adapted(head(), "twin", head_name, |_, _, _, _| None, models)
        .expect_err("not a head")
        .to_string();
    assert!(!error.contains("looks like"), "{error}");
}

/// Two tensors as a file, by name and shape.
fn head_file(folder: &Path, weight: &[usize], bias: &[usize]) -> PathBuf {
    let path = folder.join("head.safetensors");
    let tensor = |name: &str, shape: &[usize]| NamedTensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        values: vec![0.5; shape.iter().product()].into(),
    };
    write_safetensors(&[tensor("head.weight", weight), tensor("head.bias", bias)], false, &path)
        .expect("written");
    path
}

#[test]
fn a_tensor_of_the_right_size_and_wrong_shape_is_refused() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = head_file(folder.path(), &[3, 5], &[5]);
    let checkpoint = Checkpoint::read(&path).expect("readable");
    let error = checkpoint
        .load_adapted(head(), "a head", head_name, |_, _, _, _| None, models)
        .expect_err("turned")
        .to_string();
    assert!(error.contains("head.weight: [3, 5] in the file, [5, 3] in the model"), "{error}");
    let checkpoint = Checkpoint::read(&head_file(folder.path(), &[5, 3], &[5])).expect("readable");
    checkpoint.load_adapted(head(), "a head", head_name, |_, _, _, _| None, models).expect("it fits");
}

#[test]
fn types_that_no_weight_has_are_refused() {
    let error = Checkpoint::read(&golden("complex.pth")).expect_err("complex").to_string();
    assert!(error.contains("complex.pth") && error.contains("Complex"), "{error}");
    let checkpoint = read("mask.pth");
    let error = checkpoint.values("weight").expect_err("a mask").to_string();
    assert!(error.contains("bool"), "{error}");
    let mut checkpoint = read("latest.h5");
    let mask = Entry::new(vec![5], Dtype::Bool, || Ok(vec![0.0; 5]));
    checkpoint.tensors.insert("head.bias".to_owned(), mask);
    let error = checkpoint
        .load_adapted(head(), "a head", head_name, |_, _, _, _| None, models)
        .expect_err("a mask")
        .to_string();
    assert!(error.contains("head.bias") && error.contains("bool"), "{error}");
}

/// The head of a checkpoint with another bias, as a module or the words of what is wrong.
fn with_bias(bias: Entry) -> Result<ClassifierHead, String> {
    let mut checkpoint = read("latest.h5");
    checkpoint.tensors.insert("head.bias".to_owned(), bias);
    // Nothing learned, and not looked at.
    let count = Entry::new(vec![1], Dtype::I64, || Ok(vec![f32::NAN]));
    checkpoint.tensors.insert("head.num_batches_tracked".to_owned(), count);
    let loaded = checkpoint.load_adapted(head(), "a head", head_name, |_, _, _, _| None, models);
    loaded.map_err(|error| error.to_string())
}

#[test]
fn integers_are_weights_only_with_a_scale() {
    for (dtype, name) in [(Dtype::I8, "i8"), (Dtype::U8, "u8"), (Dtype::I64, "i64")] {
        let mut bias = Entry::new(vec![5], dtype, || Ok(vec![1.0; 5]));
        let error = with_bias(bias.clone()).expect_err("no scale");
        for words in ["latest.h5", "`head.bias`", name, "without a scale", "f32"] {
            assert!(error.contains(words), "`{words}` is not in: {error}");
        }
        bias.scaled = true;
        with_bias(bias).expect("a scale");
    }
    // In another layout they keep it.
    let mut quantised = read("tfjs_uint8/model.json");
    assert_eq!(quantised.dtype("head.weight"), Some(Dtype::U8));
    quantised.retain(|name| name.starts_with("head."));
    quantised.load_adapted(head(), "a head", head_name, |_, _, _, _| None, models).expect("it has scales");
}

#[test]
fn numbers_that_no_network_can_compute_with_are_named_and_counted() {
    for wild in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let bias = Entry::new(vec![5], Dtype::F32, move || Ok(vec![0.0, wild, 1.0, wild, -2.0]));
        let error = with_bias(bias).expect_err("not finite");
        for words in ["latest.h5", "`head.bias`", "2 of its 5 values", "diverged", "earlier checkpoint"] {
            assert!(error.contains(words), "`{words}` is not in: {error}");
        }
    }
    let reason = flaw("bn.running_var", &[0.0, -0.0, -1e-9, 4.0]).expect("a negative variance");
    assert!(reason.contains("1 of its 4 variances"), "{reason}");
    assert_eq!(flaw("bn.running_mean", &[-1.0, f32::MAX, f32::MIN_POSITIVE]), None);
}

#[test]
fn what_cannot_be_read_when_it_is_used_is_told_in_our_words() {
    let error =
        with_bias(Entry::new(vec![5], Dtype::F32, || Err("it is cut short".to_owned()))).expect_err("cut");
    assert!(error.starts_with(&golden("latest.h5").display().to_string()), "{error}");
    assert!(error.contains(": `head.bias`: it is cut short;"), "{error}");
}

#[test]
fn a_missing_tensor_is_named_with_the_file() {
    let error = read("zip.pth").values("nowhere.weight").expect_err("missing").to_string();
    assert!(error.contains("zip.pth") && error.contains("nowhere.weight"), "{error}");
}

#[test]
fn content_decides_before_the_name_does() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for (file, format) in [
        ("zip.pth", Format::PyTorch),
        ("legacy.pth", Format::PyTorchLegacy),
        ("twin.safetensors", Format::Safetensors),
        ("twin.onnx", Format::Onnx),
        ("whole.h5", Format::KerasHdf5),
        ("twin.keras", Format::Keras),
    ] {
        for name in ["weights", "weights.bin", "weights.pth", "weights.keras"] {
            let path = folder.path().join(name);
            std::fs::copy(golden(file), &path).expect("copied");
            assert_eq!(Checkpoint::read(&path).expect("recognised").format(), format, "{file} as {name}");
        }
    }
}

/// Writes a file and reads it as a checkpoint.
fn refusal(folder: &Path, name: &str, content: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).expect("written");
    let error = Checkpoint::read(&path).expect_err(name).to_string();
    assert!(error.contains(name), "{error}");
    error
}

#[test]
fn what_is_no_checkpoint_is_told_so() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let lfs = b"version https://git-lfs.github.com/spec/v1\n";
    assert!(refusal(folder.path(), "pointer.pth", lfs).contains("git lfs pull"));
    assert!(refusal(folder.path(), "text.pth", b"Dear reader").contains("begins like none of these"));
    assert!(refusal(folder.path(), "empty.h5", b"").contains("empty"));
    assert!(refusal(folder.path(), "page.h5", b"<html>").contains("no HDF5 file"));
    assert!(refusal(folder.path(), "other.json", b"{\"a\": 1}").contains("no TensorFlow.js model.json"));
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    assert!(refusal(folder.path(), "old.pth", &tar).contains("before 0.1.10"));
    for name in ["photos.zip", "nothing.keras"] {
        let error = refusal(folder.path(), name, &archive(&[("a.png", b"png")]));
        assert!(error.contains("without a data.pkl") && error.contains("model.weights.h5"), "{error}");
    }
    assert!(
        refusal(folder.path(), "empty.safetensors", b"\x02\0\0\0\0\0\0\0{}").contains("holds no tensors")
    );
    assert!(refusal(folder.path(), "empty.pth", b"\x80\x02}.").contains("holds no tensors"));
    assert!(
        refusal(folder.path(), "cut.pth", b"\x80\x02}")
            .contains("its pickle ends in the middle of an instruction")
    );
    let twice = br#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#;
    let twice = [&(twice.len() as u64).to_le_bytes()[..], twice].concat();
    assert!(refusal(folder.path(), "twice.safetensors", &twice).contains("two tensors of one name"));
    let error = Checkpoint::read(folder.path()).expect_err("a folder").to_string();
    assert!(error.contains("it is a folder"), "{error}");
    assert!(matches!(Checkpoint::read(&folder.path().join("nowhere")), Err(ZooError::Io { .. })));
}

/// A zip archive of these files.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in files {
        archive.start_file(*name, zip::write::SimpleFileOptions::default()).expect("started");
        archive.write_all(content).expect("written");
    }
    archive.finish().expect("finished").into_inner()
}

#[test]
fn a_pickle_that_names_a_function_is_refused_wherever_it_hides() {
    let folder = tempfile::tempdir().expect("temporary folder");
    // A call whose result is dropped at once, before right data.
    let dropped = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R0}.";
    let legacy = std::fs::read(golden("legacy.pth")).expect("a golden file");
    // The third pickle of a legacy stream, the facts about the system, replaced.
    let mut stream = legacy.clone();
    let third = (0..2).fold(0, |place, _| place + pickle::scan(&stream[place..], 1000).expect("a pickle"));
    stream.splice(third..third, dropped.iter().copied());
    for (name, content) in [
        ("pickle.pth", dropped.to_vec()),
        ("archive.pth", archive(&[("archive/data.pkl", dropped), ("archive/version", b"3\n")])),
        // Under a name that no reader looks for, beside a harmless one.
        ("beside.pth", archive(&[("archive/data.pkl", b"\x80\x02}."), ("archive/constants.pkl", dropped)])),
        ("legacy.pth", stream),
    ] {
        let error = refusal(folder.path(), name, &content);
        assert!(error.contains("os.system") && error.contains("Nothing of it was run"), "{error}");
    }
    let error = Checkpoint::read(&golden("module.pth")).expect_err("a module, not its weights").to_string();
    assert!(error.contains("torch.nn.modules") && error.contains("model.state_dict()"), "{error}");
}

#[test]
fn a_pickle_of_pickles_in_pickles_does_not_exhaust_the_stack() {
    let folder = tempfile::tempdir().expect("temporary folder");
    // A hundred thousand lists, one in the other, and a dictionary at the root.
    let deep =
        [&b"\x80\x02}X\x01\x00\x00\x00a"[..], &b"]".repeat(100_000), &b"a".repeat(99_999), b"s."].concat();
    let path = folder.path().join("deep.pth");
    std::fs::write(&path, deep).expect("written");
    // Whatever comes of it: it comes.
    let _ = Checkpoint::read(&path);
}

/// A model.json with one weight, as `weight` says, in files `paths`.
fn model_json(paths: &str, weight: &str) -> String {
    format!(r#"{{"modelTopology": null, "weightsManifest": [{{"paths": {paths}, "weights": [{weight}]}}]}}"#)
}

#[test]
fn a_model_json_that_does_not_fit_its_files_is_refused() {
    let folder = tempfile::tempdir().expect("temporary folder");
    std::fs::write(folder.path().join("four"), [0; 4]).expect("written");
    std::fs::write(folder.path().parent().expect("a parent").join("outside-of-the-folder"), b"").ok();
    let refused = |paths: &str, weight: &str| {
        refusal(folder.path(), "model.json", model_json(paths, weight).as_bytes())
    };
    let weight =
        |shape: &str, dtype: &str| format!(r#"{{"name": "a/kernel", "shape": {shape}, "dtype": "{dtype}"}}"#);
    assert!(refused(r#"["gone"]"#, &weight("[1]", "float32")).contains("put it beside model.json"));
    assert!(refused(r#"["four"]"#, &weight("[2]", "float32")).contains("cut short"));
    assert!(refused(r#"["four"]"#, &weight("[1]", "int8")).contains("`int8`"));
    assert!(refused(r#"["four"]"#, &weight("[2]", "uint8")).contains("have 4 bytes, and it describes 2"));
    let huge = weight("[4611686018427387904, 4]", "float32");
    assert!(refused(r#"["four"]"#, &huge).contains("cut short"));
    for path in ["../outside-of-the-folder", "/etc/passwd", "a/../../b", ""] {
        assert!(
            refused(&format!("[\"{path}\"]"), &weight("[1]", "float32")).contains("not in its folder"),
            "{path}"
        );
    }
    // The same weight twice.
    let twice = format!("{0}, {0}", weight("[2]", "uint8"));
    assert!(refused(r#"["four"]"#, &twice).contains("both `a.weight`"));
}

#[test]
fn an_onnx_file_that_names_a_file_elsewhere_is_refused() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let model = std::fs::read(golden("outside.onnx")).expect("a golden file");
    assert!(refusal(folder.path(), "alone.onnx", &model).contains("put it beside the model"));
    let name = b"outside.onnx.data";
    let place = |bytes: &[u8]| bytes.windows(name.len()).position(|window| window == name);
    let mut elsewhere = model.clone();
    while let Some(at) = place(&elsewhere) {
        elsewhere[at..at + name.len()].copy_from_slice(b"../../../../data1");
    }
    assert!(refusal(folder.path(), "elsewhere.onnx", &elsewhere).contains("not in its folder"));
    std::fs::write(folder.path().join("outside.onnx.data"), b"short").expect("written");
    assert!(refusal(folder.path(), "short.onnx", &model).contains("cut short"));
}

#[derive(Deserialize)]
struct MobileNetNames {
    /// Class, layer, variable and shape.
    keras: Vec<(String, String, String, Vec<usize>)>,
    torchvision: std::collections::BTreeMap<String, Vec<usize>>,
}

fn mobilenet_names() -> MobileNetNames {
    let text = std::fs::read_to_string(golden("mobilenet_v2_names.json")).expect("a golden file");
    serde_json::from_str(&text).expect("the golden file's form")
}

/// A checkpoint with Keras' names and shapes of MobileNetV2, all zeros, under `prefix`.
fn mobilenet_of_keras(prefix: &str) -> Checkpoint {
    let names = mobilenet_names().keras;
    let config: Vec<_> = names
        .iter()
        .map(|(class, layer, ..)| serde_json::json!({"class_name": class, "config": {"name": layer}}))
        .collect();
    let layers = keras::Layers::of(&config.into());
    let mut tensors = Table::new();
    for (_, layer, variable, shape) in names {
        let count = shape.iter().product();
        let entry = Entry::new(shape, Dtype::F32, move || Ok(vec![0.0; count]));
        keras::put_named(&mut tensors, &layers, &format!("{prefix}{layer}/{variable}"), entry)
            .expect("one each");
    }
    Checkpoint { path: "keras.h5".into(), format: Format::KerasHdf5, tensors }
}

#[test]
fn keras_mobilenet_v2_has_torchvision_s_names_and_shapes() {
    for prefix in ["", "mobilenetv2_1.00_224/"] {
        let checkpoint =
            mobilenet_of_keras(prefix).with_keras_names(keras_names::mobilenet_v2).expect("one each");
        let expected = mobilenet_names().torchvision;
        assert_eq!(checkpoint.names().count(), expected.len());
        for (name, shape) in &expected {
            let name = format!("{}{name}", prefix.replace('/', "."));
            assert_eq!(checkpoint.shape(&name), Some(&shape[..]), "{name}, {GOLDENS}");
        }
    }
}

#[test]
fn keras_mobilenet_v2_goes_into_ours() {
    #[allow(deprecated)]
    let device = burn::tensor::Device::ndarray();
    let model = crate::create(crate::find("mobilenet_v2").expect("in the zoo"), &Default::default(), &device);
    mobilenet_of_keras("mobilenetv2_1.00_224/").load_into(model, "mobilenet_v2").expect("it fits");
}

#[test]
fn names_that_the_model_does_not_have_get_none() {
    for name in
        ["block_0_expand.weight", "block_17_expand.weight", "block_x_expand.weight", "Conv1", "block_3_pad.x"]
    {
        assert_eq!(keras_names::mobilenet_v2(name), None, "{name}");
    }
    let expected = Some("features.4.conv.3.running_var");
    assert_eq!(keras_names::mobilenet_v2("block_3_project_BN.running_var").as_deref(), expected);
}

#[test]
fn weights_of_another_width_are_told_which_model_they_are_of() {
    #[allow(deprecated)]
    let device = burn::tensor::Device::ndarray();
    let model =
        crate::create(crate::find("mobilenet_v2_0.35").expect("in the zoo"), &Default::default(), &device);
    let error =
        mobilenet_of_keras("").load_into(model, "mobilenet_v2_0.35").expect_err("too wide").to_string();
    assert!(error.contains("It looks like mobilenet_v2 (100 % of its tensors)"), "{error}");
}
