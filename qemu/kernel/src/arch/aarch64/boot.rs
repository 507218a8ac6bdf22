//! From the ELF entry to [`boot::start`]: `boot.s`, then the device tree.

use core::arch::global_asm;

use super::{clock, cpus, device_tree, exception, gic, power, serial};
use crate::boot;
use crate::ranges::{pointer, size};

global_asm!(include_str!("boot.s"));

/// What one entry of the early map spans: it has the whole of the kernel's.
const EARLY_BLOCK: u64 = 1 << 30;

/// The first word of a device tree.
const MAGIC: u32 = 0xd00d_feed;

/// Where `boot.s` ends: on the main stack, with the early map. `x0` is what the machine was
/// entered with.
#[unsafe(no_mangle)]
extern "C" fn arch_start(x0: u64) -> ! {
    exception::set_stack();
    clock::init();
    let tree = device_tree::read(find_device_tree(x0));
    power::init(tree.conduit);
    if let Some(base) = tree.console {
        // SAFETY: the device tree has it there; the early map has what lies in the lowest GiB, and
        // `device_tree` lists it for the final one.
        unsafe { serial::init(base) };
    }
    if let Some(base) = tree.rtc {
        // SAFETY: the device tree has it there and `device_tree` lists it for the final map.
        unsafe { clock::init_rtc(base) };
    }
    if let Some(registers) = tree.gic {
        // SAFETY: the device tree has it there, and `device_tree` lists it for the final map, before which
        // nobody uses it.
        unsafe { gic::init(registers) };
    }
    cpus::init(tree.others);
    boot::start(tree.discovered)
}

/// The device tree: where x0 says, as the Linux boot protocol has it; or where RAM starts, as
/// QEMU does with an ELF kernel, for which it sets no register.
fn find_device_tree(x0: u64) -> &'static [u8] {
    let ram = (&raw const __ram_start).addr() as u64;
    let Some((start, length)) = [x0, ram].into_iter().find_map(|at| Some((at, tree_at(at)?))) else {
        panic!(
            "no device tree at x0 ({x0:#x}) nor at the start of RAM ({ram:#x}): \
             boot this ELF file with `qemu-system-aarch64 -M virt -kernel`"
        );
    };
    // SAFETY: the magic number says that the loader put a device tree of this length there, which
    // nothing writes to: it is reserved in the memory map. `tree_at` checked that it is mapped.
    unsafe { core::slice::from_raw_parts(pointer(start), size(length)) }
}

/// The length of the device tree at `address`, if there is one that the early map has whole.
fn tree_at(address: u64) -> Option<u64> {
    // The early map has no more than 512 blocks, and no memory in the lowest.
    if !address.is_multiple_of(8) || !(EARLY_BLOCK..512 * EARLY_BLOCK).contains(&address) {
        return None;
    }
    let header = pointer::<[u32; 2]>(address);
    // SAFETY: aligned, and `boot.s` has mapped this block, be it x0's or the kernel's. Where there is
    // nothing at all, that is reported as an exception.
    let [magic, length] = unsafe { header.read() }.map(u32::from_be);
    let end = address + u64::from(length);
    (magic == MAGIC && end <= block_end(address)).then_some(u64::from(length))
}

/// Where the early map stops to have the memory around the kernel.
pub(super) fn early_map_end() -> u64 {
    block_end((&raw const __ram_start).addr() as u64)
}

/// Where the block of the early map ends that `address` lies in.
fn block_end(address: u64) -> u64 {
    (address & !(EARLY_BLOCK - 1)) + EARLY_BLOCK
}

unsafe extern "C" {
    // The linker script sets it.
    static __ram_start: u8;
}
