//! Benchmarks, one family a file.
