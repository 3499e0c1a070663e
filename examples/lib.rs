//! Programs against the library, one a file.
