//! Programs against the library, one a file, and what they draw with.

pub mod chart;
