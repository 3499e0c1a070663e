//! Large buffers that outlive one step of training.
//!
//! The activations of a training step are hundreds of megabytes. Fresh memory of that size costs a page fault every 4 KiB, as
//! much time as the arithmetic; so buffers go back to a pool and come out of it for the next step.

use crate::buffer::Buffer;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Idle memory is kept up to this share of the most that was ever in use at once; the rest is what sizes that do not fit cost.
const KEPT: f64 = 1.5;

/// Buffers that nobody uses at the moment, the longest unused first.
struct Pool {
    idle: Vec<Buffer>,
    idle_len: usize,
    live_len: usize,
    /// The most values that were in use at once since idle memory was last released.
    peak_len: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { idle: Vec::new(), idle_len: 0, live_len: 0, peak_len: 0 });

fn pool() -> std::sync::MutexGuard<'static, Pool> {
    // A panic elsewhere cannot have left the list itself half-written.
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A buffer on loan from the pool.
#[derive(Debug)]
pub(crate) struct Pooled {
    /// At least as long as was asked for.
    buffer: Buffer,
    len: usize,
}

impl Pooled {
    /// A buffer of `len` values: zeros, or whatever its last user left. It must be written before it is read.
    pub(crate) fn take(len: usize) -> Self {
        if len == 0 {
            return Self { buffer: Buffer::default(), len };
        }
        let mut pool = pool();
        // The smallest that is long enough, but not wastefully long; of equal ones the last used, which may be in a cache.
        let fitting =
            pool.idle.iter().enumerate().filter(|(_, buffer)| (len..=2 * len).contains(&buffer.len()));
        let found = fitting.min_by_key(|(index, buffer)| (buffer.len(), usize::MAX - index));
        let found = found.map(|(index, _)| index).map(|index| pool.idle.remove(index));
        pool.idle_len -= found.as_ref().map_or(0, |buffer| buffer.len());
        pool.live_len += found.as_ref().map_or(len, |buffer| buffer.len());
        pool.peak_len = pool.peak_len.max(pool.live_len);
        drop(pool);
        Self { buffer: found.unwrap_or_else(|| Buffer::zeroed(len)), len }
    }

    /// A buffer of `len` zeros.
    pub(crate) fn zeroed(len: usize) -> Self {
        let mut buffer = Self::take(len);
        buffer.fill(0.0);
        buffer
    }

    /// A buffer of these values.
    pub(crate) fn from_slice(values: &[f32]) -> Self {
        let mut buffer = Self::take(values.len());
        buffer.copy_from_slice(values);
        buffer
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        if buffer.is_empty() {
            return;
        }
        let mut pool = pool();
        pool.live_len -= buffer.len();
        pool.idle_len += buffer.len();
        pool.idle.push(buffer);
        let mut dropped = Vec::new();
        while (pool.idle_len + pool.live_len) as f64 > KEPT * pool.peak_len as f64 {
            let oldest = pool.idle.remove(0);
            pool.idle_len -= oldest.len();
            dropped.push(oldest);
        }
        // Memory is given back to the system without holding up other threads.
        drop(pool);
    }
}

impl Deref for Pooled {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.buffer[..self.len]
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[..self.len]
    }
}

/// Gives the memory that no step uses at the moment back to the system: after a training run, say, in a process that goes on.
pub fn release_idle_memory() {
    let mut pool = pool();
    let idle = std::mem::take(&mut pool.idle);
    pool.idle_len = 0;
    pool.peak_len = pool.live_len;
    drop(pool);
    drop(idle);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_a_buffer_out_again() {
        // A length that no other test asks for.
        let len = 1_000_003;
        let mut first = Pooled::take(len);
        first[7] = 5.0;
        let address = first.as_ptr();
        let second = Pooled::take(len);
        assert_ne!(second.as_ptr(), address);
        drop(first);
        let third = Pooled::take(len);
        assert_eq!((third.as_ptr(), third[7]), (address, 5.0));
        drop(third);
        assert!(Pooled::zeroed(len).iter().all(|&value| value == 0.0));
    }
}
