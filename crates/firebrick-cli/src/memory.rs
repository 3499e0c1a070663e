//! The allocator, set for training: every step makes and drops the same hundreds of megabytes of tensors.

use std::ffi::c_long;

use libmimalloc_sys::{mi_option_set, mi_option_t};

/// The system's allocator gives large tensors back at once, and every step pays for their pages again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h, which the bindings do not name: milliseconds before freed memory goes back to the system.
const PURGE_DELAY: mi_option_t = 15;

/// The variable by which mimalloc itself lets a user choose the delay.
const PURGE_DELAY_VARIABLE: &str = "MIMALLOC_PURGE_DELAY";

/// Ten minutes, as arenas wait ten times as long: more than a step takes. By default the delay is over before the step is, and 25,000 pages
/// are given back, cleared and mapped again in each step of a ViT-S/16.
const DELAY_MS: c_long = 60_000;

/// Keeps freed memory for the next step. The process is no larger for it than at its peak.
pub(crate) fn keep_freed() {
    if std::env::var_os(PURGE_DELAY_VARIABLE).is_some() {
        return;
    }
    // SAFETY: options are plain numbers that mimalloc reads when it frees; the program has no other thread yet.
    unsafe { mi_option_set(PURGE_DELAY, DELAY_MS) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of the option is the bindings' version's: its default, 10 or 1000 ms, tells it from its neighbours.
    #[test]
    fn sets_the_delay_and_nothing_else() {
        // SAFETY: as in `keep_freed`; other tests do not read the option.
        let get = |option| unsafe { libmimalloc_sys::mi_option_get(option) };
        let before = (get(PURGE_DELAY), get(PURGE_DELAY + 1));
        assert!([10, 1000].contains(&before.0), "{before:?}");
        keep_freed();
        assert_eq!((get(PURGE_DELAY), get(PURGE_DELAY + 1)), (DELAY_MS, before.1));
    }
}
