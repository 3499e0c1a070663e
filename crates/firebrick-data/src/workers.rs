//! The threads behind an epoch.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::loader::LoaderOptions;

/// Threads that fill a window of results in front of the caller. Stopped and joined when dropped.
#[derive(Debug)]
pub(crate) struct Workers<T> {
    shared: Arc<Shared<T>>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared<T> {
    window: Mutex<Window<T>>,
    /// Signalled when the front batch is complete.
    complete: Condvar,
    /// Signalled when the window has moved on, or all is over.
    moved: Condvar,
}

/// Results at the places `start..start + slots.len()` of the order. No place beyond may be worked on yet.
#[derive(Debug)]
struct Window<T> {
    start: usize,
    slots: VecDeque<Option<T>>,
    /// The first place that no worker has taken.
    next: usize,
    /// How many of the caller's next samples are still to come.
    missing: usize,
    /// Behind the last place.
    end: usize,
    /// Samples in a full batch.
    batch_size: usize,
    stopped: bool,
}

impl<T> Window<T> {
    fn front(&self) -> usize {
        self.batch_size.min(self.slots.len())
    }

    fn count_missing(&mut self) {
        self.missing = self.slots.iter().take(self.front()).filter(|slot| slot.is_none()).count();
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Window<T>> {
        // No code that may panic runs under this lock.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes samples until there are no more, or nobody wants them.
    fn work(&self, make: impl Fn(usize) -> T) {
        let mut window = self.lock();
        loop {
            if window.stopped || window.next == window.end {
                return;
            }
            if window.next == window.start + window.slots.len() {
                window = self.moved.wait(window).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let place = window.next;
            window.next += 1;
            drop(window);

            let result = make(place);

            window = self.lock();
            // The caller takes a batch only when it is complete, so this place is still in the window.
            let slot = place - window.start;
            window.slots[slot] = Some(result);
            if slot < window.front() {
                window.missing -= 1;
                if window.missing == 0 {
                    self.complete.notify_one();
                }
            }
        }
    }
}

impl<T: Send + 'static> Workers<T> {
    /// Threads that `make` the results for `places`; `None` if there is no work for threads, or none can be
    /// had.
    ///
    /// `make` must not panic.
    pub fn start(
        make: impl Fn(usize) -> T + Send + Sync + 'static,
        places: Range<usize>,
        options: &LoaderOptions,
    ) -> Option<Self> {
        let ahead = options.queue.max(1).saturating_mul(options.batch_size).min(places.len());
        let mut window = Window {
            start: places.start,
            slots: (0..ahead).map(|_| None).collect(),
            next: places.start,
            end: places.end,
            missing: 0,
            batch_size: options.batch_size,
            stopped: false,
        };
        window.count_missing();
        let shared =
            Arc::new(Shared { window: Mutex::new(window), complete: Condvar::new(), moved: Condvar::new() });

        let make = Arc::new(make);
        let mut workers = Self { shared, threads: Vec::new() };
        for number in 0..options.workers.min(ahead) {
            let (shared, make) = (Arc::clone(&workers.shared), Arc::clone(&make));
            let work = move || shared.work(&*make);
            match thread::Builder::new().name(format!("firebrick-loader-{number}")).spawn(work) {
                Ok(thread) => workers.threads.push(thread),
                Err(error) => {
                    tracing::warn!(%error, "only {number} of {} loader threads could be started", options.workers);
                    break;
                }
            }
        }
        (!workers.threads.is_empty()).then_some(workers)
    }

    /// Waits for the next batch, `len` results in order, and lets the workers move on by as many.
    pub fn take(&self, len: usize) -> Vec<T> {
        let mut window = self.shared.lock();
        while window.missing > 0 {
            window = self.shared.complete.wait(window).unwrap_or_else(PoisonError::into_inner);
        }
        let batch =
            window.slots.drain(..len).map(|slot| slot.expect("nothing of this batch is missing")).collect();
        window.start += len;
        let beyond = window.end - (window.start + window.slots.len());
        window.slots.extend((0..len.min(beyond)).map(|_| None));
        window.count_missing();
        drop(window);
        self.shared.moved.notify_all();
        batch
    }
}

impl<T> Drop for Workers<T> {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.moved.notify_all();
        for thread in self.threads.drain(..) {
            // Samples are made under catch_unwind; should a thread have died all the same, there is nobody
            // left to tell.
            let _ = thread.join();
        }
    }
}
