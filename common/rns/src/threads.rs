//! How many threads computations use.
//!
//! Operations on many elements or ciphertexts run in the rayon pool that is current where they are called. By default
//! that is one for the whole process with a thread per core (or as `RAYON_NUM_THREADS` says). [`Threads::install`] runs a computation
//! in a pool of its own size instead, and [`set_default`] gives the whole process one, such as a daemon's configuration asks
//! for. Results never depend on the pool.

use thiserror::Error;

/// Most threads of one pool.
pub const MAX_THREADS: usize = 1024;

/// Why there is no such pool.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ThreadsError {
    /// More threads than [`MAX_THREADS`].
    #[error("{count} threads, at most {MAX_THREADS} are allowed")]
    Count {
        /// The number asked for.
        count: usize,
    },
    /// The operating system gave no threads.
    #[error("the threads could not be started: {0}")]
    Start(#[from] rayon::ThreadPoolBuildError),
}

/// A pool of threads.
#[derive(Debug)]
pub struct Threads {
    pool: rayon::ThreadPool,
}

impl Threads {
    /// A pool of `count` threads, or one per core for zero.
    ///
    /// # Errors
    /// [`ThreadsError`].
    pub fn new(count: usize) -> Result<Self, ThreadsError> {
        Ok(Self {
            pool: builder(count)?.build()?,
        })
    }

    /// The number of threads.
    #[must_use]
    pub fn count(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs a computation in this pool, and waits for it.
    pub fn install<T: Send>(&self, computation: impl FnOnce() -> T + Send) -> T {
        self.pool.install(computation)
    }
}

/// Gives the process a pool of `count` threads, or one per core for zero, for everything that is not installed in another.
/// Once, before anything is computed.
///
/// # Errors
/// [`ThreadsError`], also where the process has its pool already.
pub fn set_default(count: usize) -> Result<(), ThreadsError> {
    Ok(builder(count)?.build_global()?)
}

fn builder(count: usize) -> Result<rayon::ThreadPoolBuilder, ThreadsError> {
    if count > MAX_THREADS {
        return Err(ThreadsError::Count { count });
    }
    let builder = rayon::ThreadPoolBuilder::new().num_threads(count);
    Ok(builder.thread_name(|index| format!("galen-{index}")))
}

/// Runs a computation on a thread of the current pool, where it would otherwise begin on the caller's, and waits for it. For long ones that hold
/// much: an allocator that keeps what each thread freed for that thread then has few of them to keep it for. The only thread of a pool is left to
/// everybody.
pub fn inside<T: Send>(computation: impl FnOnce() -> T + Send) -> T {
    if current() == 1 {
        return computation();
    }
    rayon::scope(|_| computation())
}

/// The number of threads that a computation started here would use.
#[must_use]
pub fn current() -> usize {
    rayon::current_num_threads()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computations_run_in_the_pool_that_they_are_installed_in() {
        for count in [1, 3] {
            let threads = Threads::new(count).unwrap();
            assert_eq!(threads.count(), count);
            assert_eq!(threads.install(current), count);
        }
        assert!(Threads::new(0).unwrap().count() >= 1);
        // From within a pool of one thread, and from outside of any.
        assert_eq!(Threads::new(1).unwrap().install(|| inside(current)), 1);
        assert!(rayon::current_thread_index().is_none());
        assert_eq!(inside(rayon::current_thread_index).is_some(), current() > 1);
        assert!(matches!(
            Threads::new(MAX_THREADS + 1),
            Err(ThreadsError::Count { .. })
        ));
    }
}
