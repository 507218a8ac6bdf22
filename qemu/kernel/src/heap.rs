//! The global allocator: size classes over a linked list.
//!
//! ```text
//!   alloc(24) -> class 32 -> free list  [ ]->[ ]->[ ]     a few instructions
//!                              | empty: next piece of the class's chunk
//!                              | used up: a new 16 KiB chunk
//!                              v
//!   alloc(1 MiB) ----------> linked_list_allocator        few and large blocks
//! ```
//!
//! Wasmtime allocates some sixteen small blocks to make and drop an instance; with a linked list alone
//! these are most of the cost of a cycle. A block of a class returns to its class and stays there: right for a kernel
//! that runs one program, whose sizes repeat.

mod classes;

use core::alloc::{GlobalAlloc, Layout};
use core::mem::replace;
use core::ops::Range;
use core::ptr::{NonNull, null_mut};

use linked_list_allocator::Heap as LinkedList;
use spin::mutex::TicketMutex;

use crate::ranges::{self, pointer};
use classes::{COUNT, class_of, size_of_class};

/// What a class takes from the linked list at a time, if its blocks are smaller than that.
const CHUNK: usize = 16 * 1024;

static HEAP: TicketMutex<Heap> = TicketMutex::new(Heap::EMPTY);

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Bytes that are allocated, as asked for.
#[must_use]
pub fn used() -> usize {
    HEAP.lock().used
}

/// The most memory that was ever taken at a time, with what size classes keep for later.
#[must_use]
pub fn peak() -> usize {
    HEAP.lock().peak
}

/// Bytes that the heap has in all.
#[must_use]
pub fn size() -> usize {
    HEAP.lock().large.size()
}

/// From now on, whoever asks for memory makes the kernel panic, until [`allow`]. What is freed meanwhile
/// can be had again.
pub fn forbid() {
    HEAP.lock().forbid();
}

/// Ends what [`forbid`] began.
pub fn allow() {
    HEAP.lock().allow();
}

/// Gives the heap its memory.
pub(crate) fn init(range: Range<u64>) {
    let start = pointer(range.start);
    let bytes = ranges::size(range.end - range.start);
    let mut heap = HEAP.lock();
    // SAFETY: `boot` took the range out of the usable memory for this, once, and it is mapped.
    unsafe { heap.large.init(start, bytes) };
}

struct Heap {
    /// Per class, freed blocks, each of which holds the address of the next. Apart from `fresh`, so that a
    /// class's number needs no multiplication on the way most allocations go.
    free: [*mut Free; COUNT],
    fresh: [Fresh; COUNT],
    large: LinkedList,
    used: usize,
    peak: usize,
    /// While asking is forbidden, what the classes had: so nothing on the way that most allocations go
    /// need look.
    set_aside: Option<Blocks>,
}

type Blocks = ([*mut Free; COUNT], [Fresh; COUNT]);

/// The part of a class's newest chunk that was never given out: whole blocks.
#[derive(Clone, Copy)]
struct Fresh {
    start: *mut u8,
    blocks: usize,
}

struct Free {
    next: *mut Free,
}

const NO_BLOCKS: Blocks = ([null_mut(); COUNT], [Fresh { start: null_mut(), blocks: 0 }; COUNT]);

// SAFETY: the pointers are to memory that only the heap uses, whoever holds its lock.
unsafe impl Send for Heap {}

impl Heap {
    const EMPTY: Self = Self {
        free: NO_BLOCKS.0,
        fresh: NO_BLOCKS.1,
        large: LinkedList::empty(),
        used: 0,
        peak: 0,
        set_aside: None,
    };

    fn forbid(&mut self) {
        if self.set_aside.is_none() {
            self.set_aside = Some(self.exchange(NO_BLOCKS));
        }
    }

    fn allow(&mut self) {
        let Some(blocks) = self.set_aside.take() else { return };
        let (freed, _) = self.exchange(blocks);
        // Blocks freed meanwhile go before those that were free already.
        for (class, first) in freed.into_iter().enumerate() {
            let mut block = first;
            while !block.is_null() {
                // SAFETY: a block in a free list holds a `Free`.
                let next = unsafe { (*block).next };
                // SAFETY: likewise.
                unsafe { (*block).next = self.free[class] };
                self.free[class] = block;
                block = next;
            }
        }
    }

    fn exchange(&mut self, (free, fresh): Blocks) -> Blocks {
        (replace(&mut self.free, free), replace(&mut self.fresh, fresh))
    }

    #[inline]
    fn allocate(&mut self, layout: Layout) -> *mut u8 {
        let block = match class_of(layout) {
            Some(class) => {
                let free = self.free[class];
                if free.is_null() {
                    self.fresh(class)
                } else {
                    // SAFETY: a block in the free list holds a `Free`.
                    self.free[class] = unsafe { (*free).next };
                    free.cast()
                }
            }
            None => self.large(layout),
        };
        if !block.is_null() {
            self.used += layout.size();
        }
        block
    }

    /// A block that was never given out.
    #[cold]
    fn fresh(&mut self, class: usize) -> *mut u8 {
        let size = size_of_class(class);
        if self.fresh[class].blocks == 0 {
            let blocks = (CHUNK / size).max(1);
            let Ok(chunk) = Layout::from_size_align(blocks * size, classes::ALIGN) else {
                return null_mut();
            };
            let start = self.large(chunk);
            if start.is_null() {
                return null_mut();
            }
            self.fresh[class] = Fresh { start, blocks };
        }
        let fresh = &mut self.fresh[class];
        let block = fresh.start;
        // After the last block this points past the chunk and is never used.
        fresh.start = block.wrapping_add(size);
        fresh.blocks -= 1;
        block
    }

    fn large(&mut self, layout: Layout) -> *mut u8 {
        assert!(
            self.set_aside.is_none(),
            "{} bytes of heap are asked for while that is forbidden",
            layout.size()
        );
        let block = self.large.allocate_first_fit(layout);
        self.peak = self.peak.max(self.large.used());
        block.map_or(null_mut(), NonNull::as_ptr)
    }

    /// # Safety
    /// `block` came from `allocate` with the same layout and is not used any more.
    #[inline]
    unsafe fn deallocate(&mut self, block: *mut u8, layout: Layout) {
        self.used -= layout.size();
        if let Some(class) = class_of(layout) {
            let free = block.cast::<Free>();
            // SAFETY: the block is at least as large and as aligned as a `Free`, and it is ours now.
            unsafe { free.write(Free { next: self.free[class] }) };
            self.free[class] = free;
        } else if let Some(block) = NonNull::new(block) {
            // SAFETY: without a class, the block came from `large`, as the caller says.
            unsafe { self.large.deallocate(block, layout) };
        }
    }
}

struct Allocator;

// SAFETY: blocks are disjoint, as large and aligned as asked, and stay so until freed; a panic does not unwind.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HEAP.lock().allocate(layout)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the one asked for.
        unsafe { HEAP.lock().deallocate(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The caller promises that `size` makes a layout.
        let Ok(new) = Layout::from_size_align(size, layout.align()) else { return null_mut() };
        let mut heap = HEAP.lock();
        if let (Some(class), Some(new_class)) = (class_of(layout), class_of(new))
            && class == new_class
        {
            heap.used = heap.used - layout.size() + size;
            return block;
        }
        let moved = heap.allocate(new);
        if !moved.is_null() {
            // SAFETY: both blocks have this many bytes, and a new block overlaps no other.
            unsafe { moved.copy_from_nonoverlapping(block, layout.size().min(size)) };
            // SAFETY: the caller's promise is the one asked for.
            unsafe { heap.deallocate(block, layout) };
        }
        moved
    }
}
