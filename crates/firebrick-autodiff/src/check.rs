//! Checks of shapes, for the functions on tensors.

/// Panics if there is nothing to compute: a batch of 0 is a mistake upstream, found here while its cause is near.
#[track_caller]
pub(crate) fn not_empty(operation: &str, dims: &[usize]) {
    assert!(!dims.contains(&0), "{operation}: the input is empty: its shape is {dims:?}");
}

/// Panics unless a parameter has the shape that the input asks for.
#[track_caller]
pub(crate) fn shape(operation: &str, what: &str, actual: &[usize], expected: &[usize]) {
    assert!(actual == expected, "{operation}: {what} has the shape {actual:?}, not {expected:?}");
}
