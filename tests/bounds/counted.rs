//! The system's allocator, with a count for the thread that asks for one.
#![expect(unsafe_code, reason = "an allocator is an unsafe thing by its trait; this one only counts")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

#[global_allocator]
static COUNTED: Counted = Counted;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static ALL: Cell<Work> = const { Cell::new(Work { allocations: 0, bytes: 0 }) };
}

struct Counted;

/// What was asked of the allocator.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    pub(crate) allocations: usize,
    pub(crate) bytes: usize,
}

fn count(bytes: isize) {
    if bytes > 0 {
        let add =
            |all: Work| Work { allocations: all.allocations + 1, bytes: all.bytes + bytes.unsigned_abs() };
        let _ = ALL.try_with(|all| all.set(add(all.get())));
    }
    let _ = NOW.try_with(|now| {
        now.set(now.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
    });
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps to the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller keeps to the contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Large blocks are moved page by page (mremap), not copied beside each other.
        count(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: the caller keeps to the contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// The most memory that `work` has at once, beside what there was before.
pub(crate) fn peak(work: impl FnOnce()) -> usize {
    let before = NOW.get();
    PEAK.set(before);
    work();
    usize::try_from(PEAK.get() - before).unwrap_or(0)
}

/// Everything that `work` asks for, whether it gives it back or not.
pub(crate) fn work(work: impl FnOnce()) -> Work {
    let before = ALL.get();
    work();
    let after = ALL.get();
    Work { allocations: after.allocations - before.allocations, bytes: after.bytes - before.bytes }
}
