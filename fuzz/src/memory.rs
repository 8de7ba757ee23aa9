//! What reading may allocate: a reader that trusts a length field of hostile bytes is found here, long before memory runs out.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The system's allocator, counting.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn grown(by: usize) {
    let now = HELD.fetch_add(by, Relaxed).wrapping_add(by);
    PEAK.fetch_max(now, Relaxed);
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches nothing that it gave.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both are held while bytes move.
        grown(size);
        // SAFETY: as the caller promises.
        let moved = unsafe { System.realloc(at, layout, size) };
        HELD.fetch_sub(layout.size(), Relaxed);
        moved
    }
}

/// Runs a reader on `input`, which may hold at most `fixed` bytes and `factor` bytes per byte of the input at any one time.
///
/// Targets are single-threaded, so that nobody else's allocations count.
///
/// # Panics
/// If it holds more.
pub fn bounded<T>(input: &[u8], fixed: usize, factor: usize, read: impl FnOnce() -> T) -> T {
    let before = HELD.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = read();
    let held = PEAK.load(Relaxed).saturating_sub(before);
    let limit = fixed + factor * input.len();
    // The test harness runs tests, and with them allocations, side by side.
    if !cfg!(test) {
        assert!(
            held <= limit,
            "reading {} bytes held {held} bytes, at most {limit} are expected",
            input.len()
        );
    }
    result
}
