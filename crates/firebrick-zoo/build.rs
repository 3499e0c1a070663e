//! Refuses to compile in weights that are not the published ones.

use std::path::Path;

use sha2::{Digest, Sha256};

const EMBEDDED: &[(&str, &str)] =
    &[("mobilenet_v2-b0353104.pth", "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889")];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_EMBEDDED_WEIGHTS").is_none() {
        return;
    }
    for (name, expected) in EMBEDDED {
        let path = Path::new("../../assets").join(name);
        println!("cargo:rerun-if-changed={}", path.display());
        let bytes = std::fs::read(&path).unwrap_or_else(|error| {
            panic!(
                "feature `embedded-weights` needs {}: {error}; `cargo xtask assets --rebuild` fetches it",
                path.display()
            )
        });
        let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            &found,
            expected,
            "{} is not the published file; `cargo xtask assets --rebuild` fetches it",
            path.display()
        );
    }
}
