//! What the kernel maps: all of RAM at its physical address, each part with no more rights than it needs.
//!
//! ```text
//!   page 0      not mapped: wasm's null function references fault here
//!   RAM         read, write, not executable
//!     text      read, execute
//!     rodata    read
//!     payload   read
//!     guards    not mapped
//!   devices     read, write, not executable, uncached
//! ```

use core::ops::Range;

use heapless::Vec;

use crate::ranges::{PAGE, Ranges, pointer, size, subtract, take, without};
use crate::stack;

/// What may be done with a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    /// Read and write normal memory.
    ReadWrite,
    /// Read normal memory.
    ReadOnly,
    /// Read and execute normal memory.
    ReadExecute,
    /// Read and write device registers.
    Device,
}

/// Addresses to map identically. Page-aligned, not empty.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    /// Virtual and physical addresses.
    pub(crate) range: Range<u64>,
    /// What may be done there.
    pub(crate) rights: Rights,
}

/// Disjoint regions in no order.
pub(crate) type Regions = Vec<Region, 128>;

/// The regions of the kernel's map.
///
/// # Panics
/// If the machine has more pieces of memory than fit.
pub(crate) fn regions(ram: &Ranges, devices: &Ranges, payload: Option<Range<u64>>) -> Regions {
    let mut regions = Regions::new();
    for range in ram {
        set(&mut regions, range, Some(Rights::ReadWrite));
    }
    for range in devices {
        set(&mut regions, range, Some(Rights::Device));
    }
    set(&mut regions, &text(), Some(Rights::ReadExecute));
    set(&mut regions, &rodata(), Some(Rights::ReadOnly));
    if let Some(payload) = payload {
        set(&mut regions, &payload, Some(Rights::ReadOnly));
    }
    for stack in stack::all() {
        set(&mut regions, &stack.guard(), None);
    }
    set(&mut regions, &(0..PAGE), None);
    regions
}

/// Gives `range` these rights, whatever it had before; `None`: not mapped.
fn set(regions: &mut Regions, range: &Range<u64>, rights: Option<Rights>) {
    let mut rest = Regions::new();
    let mut push = |range: Range<u64>, rights| {
        if !range.is_empty() {
            let full = rest.push(Region { range, rights }).is_err();
            assert!(!full, "more than {} pieces of memory to map", rest.capacity());
        }
    };
    for region in regions.iter() {
        let [below, above] = without(&region.range, range);
        push(below, region.rights);
        push(above, region.rights);
    }
    if let Some(rights) = rights {
        push(range.clone(), rights);
    }
    *regions = rest;
}

/// Where page tables come from while the final map is built.
#[derive(Debug)]
pub(crate) struct Frames<'a> {
    usable: &'a mut Ranges,
    /// The end of what the map in force reaches.
    limit: u64,
}

impl<'a> Frames<'a> {
    /// Takes frames from `usable`, only such below `limit`.
    pub(crate) fn new(usable: &'a mut Ranges, limit: u64) -> Self {
        Self { usable, limit }
    }

    /// The physical address of a zeroed page that is the caller's for good.
    ///
    /// # Panics
    /// If there is no memory left.
    pub(crate) fn allocate(&mut self) -> u64 {
        let Some(frame) = take(self.usable, PAGE, self.limit) else {
            panic!("no memory left for page tables below {:#x}", self.limit);
        };
        let page = pointer::<u8>(frame.start);
        // SAFETY: usable memory is RAM that nobody else has; `limit` says that it is mapped.
        unsafe { page.write_bytes(0, size(PAGE)) };
        frame.start
    }
}

/// The kernel's image, its stacks included.
pub(crate) fn image() -> Range<u64> {
    address(&raw const __kernel_start)..address(&raw const __kernel_end)
}

/// The kernel's code.
pub(crate) fn text() -> Range<u64> {
    address(&raw const __text_start)..address(&raw const __text_end)
}

fn rodata() -> Range<u64> {
    address(&raw const __rodata_start)..address(&raw const __rodata_end)
}

fn address(symbol: *const u8) -> u64 {
    symbol.addr() as u64
}

/// RAM that nobody has claimed: without the kernel, what `reserved` names, and the first MiB,
/// which firmware and start-up of further processors have uses for.
pub(crate) fn usable(ram: &Ranges, reserved: &Ranges, payload: Option<&Range<u64>>) -> Ranges {
    let mut usable = ram.clone();
    subtract(&mut usable, &(0..0x10_0000));
    subtract(&mut usable, &image());
    for range in reserved.iter().chain(payload) {
        subtract(&mut usable, range);
    }
    usable
}

unsafe extern "C" {
    // The linker scripts set these, all page-aligned.
    static __kernel_start: u8;
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_start: u8;
    static __rodata_end: u8;
    static __kernel_end: u8;
}
