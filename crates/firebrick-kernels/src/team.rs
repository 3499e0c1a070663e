//! Several threads working through the phases of one computation.
//!
//! A forward pass is a sequence of phases, each a number of independent tasks. Entering and leaving a parallel region for each
//! phase would cost more than some phases take, so the threads enter once and meet at a barrier between phases.
//!
//! Nobody has to take part: each thread claims the next task of the current phase while there is one, then waits for the tasks
//! that others have claimed. A helper that the pool starts late joins in the middle or finds nothing left. So this cannot
//! deadlock on a busy pool, be it entered from within the pool or from many threads at once.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How often a waiting thread looks before it offers its core to others.
const SPINS: usize = 4096;

/// The progress of one phase.
struct Phase {
    tasks: usize,
    claimed: AtomicUsize,
    finished: AtomicUsize,
}

/// Counts a task as finished even if it panics, lest the others wait for ever; the panic then leaves through the pool.
struct Finished<'a>(&'a AtomicUsize);

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// Runs `work(state, phase, task)` for `tasks[phase]` tasks of each phase, on up to `threads` threads of rayon's current pool,
/// the caller among them. A phase begins when the one before it is finished. Each thread that takes part makes its own `state`.
pub(crate) fn run<T>(
    threads: usize,
    tasks: &[usize],
    state: impl Fn() -> T + Sync,
    work: impl Fn(&mut T, usize, usize) + Sync,
) {
    if threads <= 1 || tasks.iter().all(|&tasks| tasks <= 1) {
        let mut state = state();
        for (phase, &tasks) in tasks.iter().enumerate() {
            for task in 0..tasks {
                work(&mut state, phase, task);
            }
        }
        return;
    }
    let phases: Vec<Phase> = tasks
        .iter()
        .map(|&tasks| Phase { tasks, claimed: AtomicUsize::new(0), finished: AtomicUsize::new(0) })
        .collect();
    let take_part = || {
        let mut own = None;
        for (index, phase) in phases.iter().enumerate() {
            loop {
                let task = phase.claimed.fetch_add(1, Ordering::Relaxed);
                if task >= phase.tasks {
                    break;
                }
                let _finished = Finished(&phase.finished);
                work(own.get_or_insert_with(&state), index, task);
            }
            // Acquire, paired with the release in `Finished`: the next phase sees all that this one wrote.
            let mut spins = 0;
            while phase.finished.load(Ordering::Acquire) < phase.tasks {
                if spins < SPINS {
                    spins += 1;
                    std::hint::spin_loop();
                } else {
                    std::thread::yield_now();
                }
            }
        }
    };
    rayon::in_place_scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|_| take_part());
        }
        take_part();
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn runs_every_task_once_and_phases_in_order() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        for threads in [1, 2, 4] {
            let log = Mutex::new(Vec::new());
            let tasks = [3, 0, 7, 1, 20];
            pool.install(|| {
                run(threads, &tasks, || (), |(), phase, task| log.lock().unwrap().push((phase, task)))
            });
            let mut log = log.into_inner().unwrap();
            assert!(log.is_sorted_by_key(|&(phase, _)| phase), "{log:?}");
            log.sort_unstable();
            let expected: Vec<_> =
                (0..tasks.len()).flat_map(|p| (0..tasks[p]).map(move |t| (p, t))).collect();
            assert_eq!(log, expected);
        }
    }

    #[test]
    fn does_not_deadlock_when_every_thread_of_the_pool_enters() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let count = AtomicUsize::new(0);
        pool.scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|_| {
                    run(
                        2,
                        &[4, 4, 4],
                        || (),
                        |(), _, _| {
                            count.fetch_add(1, Ordering::Relaxed);
                        },
                    );
                });
            }
        });
        assert_eq!(count.into_inner(), 16 * 12);
    }

    #[test]
    fn passes_a_panic_on_instead_of_waiting_for_ever() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.install(|| {
                run(2, &[2, 2], || (), |(), phase, task| assert!((phase, task) != (0, 1), "task failed"))
            });
        }));
        assert!(outcome.is_err());
    }
}
