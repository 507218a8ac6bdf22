//! From what the boot protocol says to a program that runs.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use heapless::{String, Vec};
use spin::Once;

use crate::map::{self, Frames};
use crate::ranges::{Ranges, inward, outward, take};
use crate::{arch, channel, clock, cpus, heap, payload};

/// What a machine is, as the architecture's boot code found out. Ranges need no alignment.
#[derive(Debug, Default)]
pub(crate) struct Discovered {
    /// All of RAM.
    pub(crate) ram: Ranges,
    /// Parts of RAM that are in use (the device tree, firmware). Not the kernel, not the payload.
    pub(crate) reserved: Ranges,
    /// Device registers that the kernel uses, all of them (also `virtio_mmio`'s).
    pub(crate) devices: Ranges,
    /// Physical addresses of virtio-mmio transports. Some may have no device behind them.
    pub(crate) virtio_mmio: Vec<u64, 32>,
    /// The kernel command line without words that the machine's makers appended to it.
    pub(crate) command_line: String<4096>,
    /// CPUs of the machine, the one that boots included; 0 if nothing is said about that.
    pub(crate) cpus: usize,
    /// Where the map that boot code made ends: page tables are written below it.
    pub(crate) mapped_end: u64,
}

/// What a program is told.
#[derive(Debug)]
#[non_exhaustive]
pub struct BootInfo {
    /// The kernel command line.
    pub command_line: &'static str,
    /// The payload archive that the boot image carries, mapped read-only.
    pub payload: Option<&'static [u8]>,
    /// Physical memory that nothing uses, in whole pages, mapped at its own address: the program's to give away.
    pub usable: Vec<Range<u64>, 32>,
    /// Bytes of RAM that the machine has.
    pub ram: u64,
}

/// The program, see [`entry!`](crate::entry).
pub type Main = fn(&'static BootInfo) -> !;

unsafe extern "Rust" {
    /// What `entry!` declares.
    static __allotment_main: Main;
}

static BOOT: Once<BootInfo> = Once::new();
static COMMAND_LINE: Once<String<4096>> = Once::new();
static ROOT: AtomicU64 = AtomicU64::new(0);

/// Takes over from the architecture's boot code, on the main stack.
///
/// # Panics
/// When the machine cannot hold the kernel; the message says why.
pub(crate) fn start(discovered: Discovered) -> ! {
    arch::exception::init();
    clock::init();
    let Discovered { ram, reserved, devices, virtio_mmio, command_line, cpus, mapped_end } = discovered;
    let ram = whole(ram, inward);
    let reserved = whole(reserved, outward);
    let devices = whole(devices, outward);
    let payload = payload::range(&ram);

    let mut usable = map::usable(&ram, &reserved, payload.as_ref().map(|payload| &payload.pages));
    // Before the map, which leaves their guards out.
    let cpus = cpus::reserve(cpus, &mut usable);
    let regions = map::regions(&ram, &devices, payload.as_ref().map(|payload| payload.pages.clone()));
    let root = arch::paging::install(&regions, &mut Frames::new(&mut usable, mapped_end));
    ROOT.store(root, Ordering::Release);

    let ram_bytes = ram.iter().map(|range| range.end - range.start).sum();
    let heap = heap_of(&mut usable, ram_bytes);
    heap::init(heap);
    cpus::start(cpus);

    let payload = payload.map(|payload| payload.bytes());
    channel::init(virtio_mmio);
    let command_line = COMMAND_LINE.call_once(|| command_line);
    let boot = BOOT.call_once(|| BootInfo { command_line, payload, usable, ram: ram_bytes });
    // SAFETY: `entry!` is the one definition, of this type; a program without it does not link.
    let main = unsafe { __allotment_main };
    main(boot)
}

/// What the program was told, once it runs.
pub(crate) fn info() -> Option<&'static BootInfo> {
    BOOT.get()
}

/// The addresses that the kernel leaves to Allotment: 16 entries of the top-level table, on x86_64 in either
/// mode of address width.
#[must_use]
pub fn window() -> Range<u64> {
    arch::paging::window()
}

/// The physical address of the top-level page table whose entries for [`window`] are empty.
#[must_use]
pub fn root() -> u64 {
    ROOT.load(Ordering::Acquire)
}

/// The same ranges in whole pages.
fn whole(ranges: Ranges, round: fn(Range<u64>) -> Range<u64>) -> Ranges {
    ranges.into_iter().map(round).filter(|range| !range.is_empty()).collect()
}

/// An eighth of memory for the heap, but no more than any program here has needed.
fn heap_of(usable: &mut Ranges, ram: u64) -> Range<u64> {
    const MIB: u64 = 1 << 20;
    let bytes = (ram / 8).clamp(4 * MIB, 128 * MIB) & !(MIB - 1);
    // Above what boot code mapped is fine: the final map is in force.
    let Some(heap) = take(usable, bytes, u64::MAX) else {
        panic!(
            "no {bytes} bytes in one piece for the heap in {ram} bytes of RAM; give the machine more memory"
        );
    };
    heap
}
