//! Folders that cannot be written, disks that are full, devices that are not there, and losses that are no number.
#![allow(clippy::print_stderr, reason = "a test that is skipped says why")]

mod process;

use std::fs;
use std::path::Path;

use process::{Sandbox, finish, history, train_arguments};
use safetensors::SafeTensors;

/// Asserts that a model's weights are numbers and that `eval` takes it.
#[track_caller]
fn assert_usable(sandbox: &Sandbox, model: &str) {
    let bytes = sandbox.read(model);
    for (name, tensor) in SafeTensors::deserialize(&bytes).expect("a whole file").iter() {
        let is_finite = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("four bytes")).is_finite();
        assert!(tensor.data().chunks(4).all(is_finite), "{name} is not finite");
    }
    sandbox.run(&format!("eval --model {model} --data data --device ndarray")).succeeded();
}

#[test]
fn a_folder_with_another_run_in_it_is_left_alone() {
    let sandbox = Sandbox::with_data();
    sandbox.write("run/model.safetensors", "precious");
    sandbox.train("--data data --out run").refused(&["run: there is another run", "choose a new --out"]);
    assert_eq!(sandbox.listing("run"), ["model.safetensors"]);
    assert_eq!(sandbox.text("run/model.safetensors"), "precious");
}

#[test]
fn an_empty_folder_is_taken_and_stays_when_training_fails() {
    let sandbox = Sandbox::with_data();
    fs::create_dir(sandbox.path("run")).expect("a folder");
    sandbox.write("data/train/red/bad.png", "");
    sandbox.train("--data data --epochs 1 --out run").refused(&["bad.png"]);
    assert!(sandbox.listing("run").is_empty());
    sandbox.train("--data data --epochs 1 --out run --on-bad-image skip").succeeded();
}

#[test]
fn a_run_folder_that_cannot_be_made_is_named() {
    let sandbox = Sandbox::with_data();
    sandbox.write("file", "in the way");
    sandbox
        .train("--data data --out file")
        .refused(&["file: cannot be used as the run folder", "another --out"]);
    sandbox.train("--data data --out file/run").refused(&["file/run: cannot", "another --out"]);
    assert_eq!(sandbox.text("file"), "in the way");
}

/// A limit on the size of files stands for a full disk: writing fails half-way through the model.
#[cfg(unix)]
#[test]
fn a_model_that_does_not_fit_on_the_disk_leaves_nothing_behind() {
    let sandbox = Sandbox::with_data();
    let arguments = train_arguments("--data data --epochs 2 --out run");
    finish(&mut sandbox.shell_command("trap '' XFSZ; ulimit -f 200", &arguments)).refused(&[
        "run/model.safetensors",
        "cannot write",
        "free space",
    ]);
    assert!(!sandbox.path("run").exists(), "{:?} is left", sandbox.listing("run"));
}

#[cfg(target_os = "linux")]
#[test]
fn the_previous_model_survives_a_disk_that_becomes_full() {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    if Command::new("prlimit").arg("--version").output().is_err() {
        eprintln!("skipped: prlimit of util-linux is not there");
        return;
    }
    let sandbox = Sandbox::with_data();
    let arguments = train_arguments("--data data --epochs 1000000 --early-stopping 0 --out run");
    let mut command = sandbox.shell_command("trap '' XFSZ", &arguments);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    while !sandbox.path("run/model.safetensors").exists() {
        assert!(!sandbox.path("run").exists() || Path::new(&format!("/proc/{}", child.id())).exists());
        std::thread::sleep(Duration::from_millis(5));
    }
    // The history may still grow, the model not be written again.
    let pid = child.id().to_string();
    let limited =
        Command::new("prlimit").args(["--pid", &pid, "--fsize=100000"]).status().expect("it is there");
    assert!(limited.success());
    let finished = process::Finished::from(child.wait_with_output().expect("it ends"));
    finished.refused(&["cannot write", "run/model.safetensors", "free space"]);
    assert_eq!(sandbox.listing("run").iter().filter(|name| name.starts_with('.')).count(), 0);
    assert!(!history(&sandbox.text("run/history.csv")).is_empty());
    assert_usable(&sandbox, "run/model.safetensors");
}

#[test]
fn a_loss_that_is_no_number_is_located_and_the_last_good_weights_are_kept() {
    for settings in ["", "--freeze none --input-size 16", "--augment keras"] {
        let sandbox = Sandbox::with_data();
        sandbox
            .train(&format!("--data data --epochs 3 --batch-size 4 --lr 1e30 --out run {settings}"))
            .refused(&["the loss became", "epoch 1", "run/model.safetensors", "lower --lr", "1e30"]);
        assert_usable(&sandbox, "run/model.safetensors");
    }
}

#[test]
fn every_device_of_this_build_is_taken_and_every_other_is_told_its_feature() {
    let sandbox = Sandbox::with_data();
    for (device, is_built) in [("ndarray", cfg!(feature = "ndarray")), ("flex", cfg!(feature = "flex"))] {
        let finished = sandbox.train(&format!("--data data --epochs 1 --out {device} --device {device}"));
        if is_built {
            finished.succeeded();
        } else {
            finished.refused(&[device, &format!("--features {device}")]);
        }
    }
}

#[test]
fn wgpu_without_an_adapter_says_what_to_install() {
    let sandbox = Sandbox::with_data();
    let mut command = sandbox.command(&train_arguments("--data data --epochs 1 --out run --device wgpu"));
    for (variable, value) in [
        ("VK_DRIVER_FILES", "/nonexistent"),
        ("VK_ICD_FILENAMES", "/nonexistent"),
        ("__EGL_VENDOR_LIBRARY_FILENAMES", "/nonexistent"),
        ("LIBGL_DRIVERS_PATH", "/nonexistent"),
        ("GBM_BACKENDS_PATH", "/nonexistent"),
    ] {
        command.env(variable, value);
    }
    let finished = finish(&mut command);
    if finished.code == Some(0) {
        eprintln!("skipped: this machine has an adapter that cannot be hidden");
    } else if cfg!(feature = "wgpu") {
        finished.refused(&["wgpu", "no graphics adapter", "mesa-vulkan-drivers", "--device ndarray"]);
        assert!(!sandbox.path("run").exists());
    } else {
        finished.refused(&["wgpu", "--features wgpu"]);
    }
}

#[test]
fn an_instruction_set_that_is_not_there_is_named() {
    let sandbox = Sandbox::with_data();
    let mut command = sandbox.command(&train_arguments("--data data --epochs 1 --out run"));
    finish(command.env("FIREBRICK_SIMD", "avx1024")).refused(&["avx1024", "FIREBRICK_SIMD", "scalar"]);
    assert!(!sandbox.path("run").exists());
}
