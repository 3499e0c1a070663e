//! The binary `firebrick`.
fn main() {}
