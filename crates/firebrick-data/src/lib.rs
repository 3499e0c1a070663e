//! Image folders, IDX files, decoding, splits and an ordered parallel loader.
