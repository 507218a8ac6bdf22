//! What memory there is: the heap, and what the device tree says.

use core::{ops::Range, slice};

use buddy_system_allocator::LockedHeap;
use dtoolkit::{Node, Property, fdt::Fdt};

use crate::paging;

#[global_allocator]
static HEAP: LockedHeap<32> = LockedHeap::new();

const HEAP_BYTES: usize = 8 << 20;
static mut HEAP_MEMORY: [u8; HEAP_BYTES] = [0; HEAP_BYTES];

/// Once, before anything is allocated.
pub(crate) fn init_heap() {
    // SAFETY: nobody else has the array, and it is given once.
    unsafe { HEAP.lock().init((&raw mut HEAP_MEMORY).addr(), HEAP_BYTES) };
}

/// The machine's memory: one range, with what is used at both of its ends and somewhere between.
pub(crate) struct Map {
    pub(crate) ram: Range<u64>,
    /// The initial RAM disk: a compiled module.
    pub(crate) module: &'static [u8],
    device_tree: Range<u64>,
}

impl Map {
    /// What neither the kernel nor the loader uses.
    pub(crate) fn usable(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        let module = self.module.as_ptr_range();
        let mut used = [
            self.ram.start..paging::image_end(),
            module.start.addr() as u64..module.end.addr() as u64,
            self.device_tree.clone(),
        ];
        used.sort_by_key(|range| range.start);
        let starts = used.clone().map(|range| range.end);
        let [_, second, third] = used.map(|range| range.start);
        starts.into_iter().zip([second, third, self.ram.end]).map(|(start, end)| start..end)
    }
}

/// Reads the device tree.
///
/// # Safety
///
/// A device tree is at that address, and it and the RAM disk that it names are mapped, for good.
pub(crate) unsafe fn map(device_tree: u64) -> Map {
    // SAFETY: by this function's contract.
    let tree =
        unsafe { Fdt::from_raw(device_tree as *const u8) }.expect("the boot loader passes a device tree");
    let ram =
        tree.memory().expect("there is memory").reg().expect("it has ranges").expect("at least one").next();
    let ram = ram.expect("at least one");
    let start: u64 = ram.address().expect("64 bits");
    let size: u64 = ram.size().expect("64 bits");
    let chosen = tree.chosen().expect("the boot loader passes an initial RAM disk");
    let edge = |name| {
        let property = chosen
            .property(name)
            .unwrap_or_else(|| panic!("no {name}; start QEMU with -initrd program.cwasm"));
        property.value().iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
    };
    let module = edge("linux,initrd-start")..edge("linux,initrd-end");
    // SAFETY: by this function's contract; nobody writes there.
    let module =
        unsafe { slice::from_raw_parts(module.start as *const u8, (module.end - module.start) as usize) };
    let device_tree = device_tree..device_tree + tree.data().len() as u64;
    Map { ram: start..start + size, module, device_tree }
}
