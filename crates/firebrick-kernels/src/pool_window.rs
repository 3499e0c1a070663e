//! Which pixels of the input a pooled pixel covers.

use crate::KernelError;
use crate::params::LARGEST_WINDOW;

/// The window of a pooling operation, as PyTorch defines it.
///
/// Output height is `(height + padding top + bottom - kernel height) / stride + 1`, rounded down or, with `ceil`, up; with `ceil`, a
/// last window that would begin behind the input and its leading padding is left out. Width likewise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolParams {
    /// Height and width, at least 1.
    pub kernel: [usize; 2],
    /// Vertical and horizontal step, at least 1.
    pub stride: [usize; 2],
    /// What lies around the input, smaller than the kernel: `[[top, bottom], [left, right]]`. It is never the maximum; in an average
    /// it counts as zero or not at all.
    pub padding: [[usize; 2]; 2],
    /// Rounds the output's size up.
    pub ceil: bool,
}

/// A part of an axis that is pooled into one output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// What an average divides by.
    pub(crate) divisor: usize,
}

/// What is done with the values under a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooling {
    Maximum,
    Average,
}

/// The window of every output: its row's span times its column's.
#[derive(Debug, Clone)]
pub(crate) struct PoolWindow {
    pub(crate) pooling: Pooling,
    pub(crate) rows: Vec<Span>,
    pub(crate) columns: Vec<Span>,
}

impl PoolWindow {
    /// The windows over an input of `size` rows and columns.
    pub(crate) fn sliding(
        layer: usize,
        params: &PoolParams,
        size: [usize; 2],
        pooling: Pooling,
        count_include_pad: bool,
    ) -> Result<Self, KernelError> {
        let PoolParams { kernel, stride, padding, .. } = *params;
        let invalid = |reason: String| Err(KernelError::InvalidLayer { layer, reason });
        if kernel.iter().chain(&stride).any(|&side| side == 0 || side > LARGEST_WINDOW) {
            return invalid(format!(
                "pooling kernel {kernel:?} and stride {stride:?} must lie between 1 and {LARGEST_WINDOW}"
            ));
        }
        if (0..2).any(|axis| padding[axis].iter().any(|&side| side >= kernel[axis])) {
            return invalid(format!(
                "pooling padding {padding:?} must be smaller than the kernel {kernel:?}, or windows cover padding alone"
            ));
        }
        let padded = [0, 1].map(|axis| size[axis] + padding[axis][0] + padding[axis][1]);
        if kernel[0] > padded[0] || kernel[1] > padded[1] {
            return Err(KernelError::KernelLargerThanInput { layer, kernel, padded });
        }
        let [rows, columns] = [0, 1].map(|axis| {
            let [before, after] = padding[axis];
            let steps = padded[axis] - kernel[axis];
            let mut count = if params.ceil { steps.div_ceil(stride[axis]) } else { steps / stride[axis] } + 1;
            if params.ceil && (count - 1) * stride[axis] >= size[axis] + before {
                count -= 1;
            }
            let spans = (0..count).map(|index| {
                let first = index * stride[axis];
                let behind = (first + kernel[axis]).min(size[axis] + before + after);
                let start = first.saturating_sub(before);
                let end = (behind.saturating_sub(before)).min(size[axis]);
                Span { start, end, divisor: if count_include_pad { behind - first } else { end - start } }
            });
            spans.collect()
        });
        Ok(Self { pooling, rows, columns })
    }

    /// As many bins a side as are asked for: output `i` of `n` covers `i * size / n`, rounded down, to `(i + 1) * size / n`, rounded up.
    pub(crate) fn adaptive(layer: usize, output: [usize; 2], size: [usize; 2]) -> Result<Self, KernelError> {
        if output.iter().any(|&side| side == 0 || side > LARGEST_WINDOW) {
            return Err(KernelError::InvalidLayer {
                layer,
                reason: format!(
                    "adaptive pooling to {output:?}: sides must lie between 1 and {LARGEST_WINDOW}"
                ),
            });
        }
        let [rows, columns] = [0, 1].map(|axis| {
            let (count, size) = (output[axis], size[axis]);
            let spans = (0..count).map(|index| {
                let (start, end) = (index * size / count, ((index + 1) * size).div_ceil(count));
                Span { start, end, divisor: end - start }
            });
            spans.collect()
        });
        Ok(Self { pooling: Pooling::Average, rows, columns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(params: PoolParams, size: usize, count_include_pad: bool) -> Vec<(usize, usize, usize)> {
        let window = PoolWindow::sliding(0, &params, [size; 2], Pooling::Average, count_include_pad).unwrap();
        window.rows.iter().map(|span| (span.start, span.end, span.divisor)).collect()
    }

    #[test]
    fn covers_what_pytorchs_windows_cover() {
        let params = PoolParams { kernel: [3; 2], stride: [2; 2], padding: [[1; 2]; 2], ceil: false };
        assert_eq!(spans(params, 6, true), [(0, 2, 3), (1, 4, 3), (3, 6, 3)]);
        assert_eq!(spans(params, 6, false), [(0, 2, 2), (1, 4, 3), (3, 6, 3)]);
        // Rounded up, the last window is cut at the end of the padding, which is what its average divides by.
        let ceil = PoolParams { ceil: true, ..params };
        assert_eq!(spans(ceil, 6, true), [(0, 2, 3), (1, 4, 3), (3, 6, 3), (5, 6, 2)]);
        // One that would begin in the padding behind the input is left out.
        let wide = PoolParams { kernel: [2; 2], stride: [2; 2], padding: [[1; 2]; 2], ceil: true };
        assert_eq!(spans(wide, 3, false), [(0, 1, 1), (1, 3, 2)]);
    }

    #[test]
    fn cuts_an_axis_into_pytorchs_bins() {
        let window = PoolWindow::adaptive(0, [3, 2], [7, 1]).unwrap();
        let bins = |spans: &[Span]| spans.iter().map(|span| (span.start, span.end)).collect::<Vec<_>>();
        assert_eq!(bins(&window.rows), [(0, 3), (2, 5), (4, 7)]);
        assert_eq!(bins(&window.columns), [(0, 1), (0, 1)]);
    }

    #[test]
    fn refuses_windows_that_cover_padding_alone() {
        let params = PoolParams { kernel: [2; 2], stride: [1; 2], padding: [[2, 0], [0, 0]], ceil: false };
        let error = PoolWindow::sliding(3, &params, [4, 4], Pooling::Maximum, true).unwrap_err();
        assert!(error.to_string().contains("layer 3") && error.to_string().contains("smaller"), "{error}");
    }
}
