//! Memory: what of it is RAM, the kernel's own root, frames, the heap.
//!
//! ```text
//!   the lower half            0xffff8000..        0xffff9000..        0xffffffff80..   0xffffffffc0..
//!   +-----------------------+--------------------+-------------------+----------------+----------+
//!   | empty in the kernel's | all of RAM         | left empty        | the image      | the APIC |
//!   | root; a process's own | writable, no code  | (wasm.rs)         | r-x, r--, rw-  |          |
//!   +-----------------------+--------------------+-------------------+----------------+----------+
//!
//!   RAM:  | first MiB | image | frames and heap: 64 MiB | the rest: nobody's (`MemoryMap::rest`) | module |
//! ```

use core::{ffi::c_void, ops::Range, slice};

use linked_list_allocator::LockedHeap;
use pvh::start_info::{MemmapType, reader::StartInfoReader};
use spin::{Mutex, Once};
use x86_64::{
    PhysAddr, VirtAddr,
    registers::control::{Cr3, Cr3Flags},
    structures::paging::{
        FrameAllocator, Mapper, OffsetPageTable, Page, PageTable, PageTableFlags as Flags, PhysFrame,
        Size4KiB,
    },
};

use crate::apic;

/// Where all of RAM is mapped.
pub const OFFSET: u64 = 0xffff_8000_0000_0000;

const MIB: u64 = 1 << 20;
const LARGE: u64 = 2 * MIB;
/// What `boot.s` maps: what is beyond is left alone.
const MAPPED: u64 = 4 << 30;
/// What the kernel keeps for itself beside its image, and how much of that is its heap.
const OWN: u64 = 64 * MIB;
const HEAP: usize = 32 << 20;

#[global_allocator]
static ALLOCATOR: LockedHeap = LockedHeap::empty();

static FRAMES: Mutex<Frames> = Mutex::new(Frames { free: 0..0 });

/// The kernel's root, which CPUs have when they run no process.
static KERNEL: Once<PhysFrame> = Once::new();

/// Physical addresses of what the boot-loader has told.
#[derive(Debug)]
pub struct MemoryMap {
    /// The largest piece of RAM.
    ram: Range<u64>,
    /// What came with `-initrd`.
    module: Range<u64>,
}

unsafe extern "C" {
    static mut boot_root: PageTable;
    static mut image_pages: PageTable;
    static text_start: c_void;
    static rodata_start: c_void;
    static data_start: c_void;
    static kernel_end: c_void;
}

/// On CPU 0: from the boot code's root to the kernel's, with a heap.
pub fn init(start_info: u32) -> MemoryMap {
    // SAFETY: PVH's promise; what is mapped is also mapped where it is until the end of this function.
    let start_info = unsafe { StartInfoReader::from_paddr_identity(start_info) };
    let start_info = start_info.expect("no PVH start info: boot with `qemu-system-x86_64 -kernel`");
    let ram = start_info.memmap().iter().filter(|entry| entry.ty() == MemmapType::Ram);
    let ram = ram.map(|entry| entry.addr..(entry.addr + entry.size).min(MAPPED));
    let ram = ram.max_by_key(|range| range.end.saturating_sub(range.start)).expect("no RAM");
    let module = start_info.raw().modlist_paddr;
    let module = if module == 0 { 0..0 } else { module_range(module) };

    let image_end = physical(&raw const kernel_end);
    FRAMES.lock().free = image_end..image_end + OWN;
    let heap = FRAMES.lock().take(HEAP as u64).expect("a heap");
    // SAFETY: nobody else has these frames, and they stay mapped.
    unsafe { ALLOCATOR.lock().init(pointer(heap), HEAP) };

    protect_image();
    let root = new_root(&raw const boot_root);
    KERNEL.call_once(|| root);
    map_apic(root);
    load_kernel_root();
    MemoryMap { ram, module }
}

impl MemoryMap {
    /// What came with `-initrd`.
    pub fn module(&self) -> &'static [u8] {
        let Range { start, end } = self.module;
        // SAFETY: the loader put it there, and `rest` leaves it out.
        unsafe { slice::from_raw_parts(pointer(start), (end - start) as usize) }
    }

    /// RAM that neither the kernel nor its module has.
    pub fn rest(&self) -> impl Iterator<Item = Range<u64>> {
        let start = physical(&raw const kernel_end) + OWN;
        let pages = self.module.start / 4096 * 4096..self.module.end.next_multiple_of(4096);
        [start..self.ram.end.min(pages.start), pages.end.max(start)..self.ram.end].into_iter()
    }
}

/// A root whose upper half is that of `from`, and whose lower half is empty. No entry of the upper half
/// changes any more once there are several roots: what is mapped there is mapped below, and thus in all.
pub fn new_root(from: *const PageTable) -> PhysFrame {
    let frame = FRAMES.lock().allocate_frame().expect("a frame for a root");
    let root: *mut PageTable = pointer(frame.start_address().as_u64());
    // SAFETY: a fresh frame.
    unsafe { root.write(PageTable::new()) };
    // SAFETY: it is nobody else's yet.
    let root = unsafe { &mut *root };
    for entry in 256..512 {
        // SAFETY: the caller's table is a live root; entries of the upper half are only added.
        root[entry] = unsafe { (&(*from))[entry].clone() };
    }
    frame
}

/// The kernel's root as a table, to make others from.
pub fn kernel_root() -> *const PageTable {
    pointer::<PageTable>(KERNEL.get().expect("made in `init`").start_address().as_u64())
}

/// Has this CPU leave the process's root, if it has one.
pub fn load_kernel_root() {
    load_root(*KERNEL.get().expect("made in `init`"));
}

/// Has this CPU use a root.
pub fn load_root(root: PhysFrame) {
    // SAFETY: all roots have the kernel's half.
    unsafe { Cr3::write(root, Cr3Flags::empty()) };
}

/// Maps a fresh page of zeros into the lower half of a root, and gives its place in the mapping of all RAM.
pub fn map_page(root: PhysFrame, page: VirtAddr) -> *mut u8 {
    let frame = FRAMES.lock().allocate_frame().expect("a frame for a page");
    let bytes: *mut u8 = pointer(frame.start_address().as_u64());
    // SAFETY: a fresh frame.
    unsafe { bytes.write_bytes(0, 4096) };
    map(root, page, frame, Flags::PRESENT | Flags::WRITABLE | Flags::NO_EXECUTE);
    bytes
}

fn map_apic(root: PhysFrame) {
    let frame = PhysFrame::containing_address(PhysAddr::new(apic::PHYSICAL));
    let flags = Flags::PRESENT | Flags::WRITABLE | Flags::NO_EXECUTE | Flags::NO_CACHE;
    map(root, apic::REGISTERS, frame, flags);
}

fn map(root: PhysFrame, page: VirtAddr, frame: PhysFrame, flags: Flags) {
    let root: *mut PageTable = pointer(root.start_address().as_u64());
    // SAFETY: the kernel maps at boot, or into a root that no CPU has yet.
    let root = unsafe { &mut *root };
    // SAFETY: all of RAM is mapped there.
    let mut mapper = unsafe { OffsetPageTable::new(root, VirtAddr::new(OFFSET)) };
    let page = Page::<Size4KiB>::containing_address(page);
    // SAFETY: nobody has used this page so far; the frame is fresh, or a device's.
    let mapped = unsafe { mapper.map_to(page, frame, flags, &mut *FRAMES.lock()) };
    mapped.expect("an unused page").flush();
}

/// Sets the rights of the image's large pages: the boot code gave all.
fn protect_image() {
    let [text, rodata, data, end] =
        [&raw const text_start, &raw const rodata_start, &raw const data_start, &raw const kernel_end]
            .map(physical);
    let pages = &raw mut image_pages;
    // SAFETY: nobody else has this table, and it is mapped where it is.
    let pages = unsafe { &mut *pages };
    for (page, entry) in (0..).step_by(LARGE as usize).zip(pages.iter_mut()) {
        let rights = match page {
            page if page < text || page >= end => Flags::empty(),
            page if page < rodata => Flags::PRESENT,
            page if page < data => Flags::PRESENT | Flags::NO_EXECUTE,
            _ => Flags::PRESENT | Flags::WRITABLE | Flags::NO_EXECUTE,
        };
        entry.set_flags(rights | Flags::HUGE_PAGE);
    }
}

/// The list's first module. (The reader of the crate `pvh` gives contents only through a map of addresses that it
/// keeps; we need the place.)
fn module_range(list: u64) -> Range<u64> {
    let list: *const [u64; 2] = pointer(list);
    // SAFETY: PVH's promise: a list with at least one entry, which begins with address and size.
    let [start, size] = unsafe { list.read_unaligned() };
    start..start + size
}

/// Where a symbol of the image lies in RAM.
fn physical(symbol: *const c_void) -> u64 {
    symbol.addr() as u64 - 0xffff_ffff_8000_0000
}

/// Where RAM is mapped.
fn pointer<T>(physical: u64) -> *mut T {
    core::ptr::with_exposed_provenance_mut((OFFSET + physical) as usize)
}

/// Frames, handed out upwards and never taken back.
struct Frames {
    free: Range<u64>,
}

impl Frames {
    fn take(&mut self, bytes: u64) -> Option<u64> {
        let start = self.free.start;
        let end = start.checked_add(bytes).filter(|&end| end <= self.free.end)?;
        self.free.start = end;
        Some(start)
    }
}

// SAFETY: each frame is handed out once.
unsafe impl FrameAllocator<Size4KiB> for Frames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        self.take(4096).map(|frame| PhysFrame::containing_address(PhysAddr::new(frame)))
    }
}
