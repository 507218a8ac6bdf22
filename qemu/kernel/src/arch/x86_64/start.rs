//! What PVH tells about the machine.

use core::ffi::CStr;

use heapless::String;
use pvh::start_info::MemmapType;
use pvh::start_info::reader::StartInfoReader;

use super::{apic, exception, fw_cfg, serial};
use crate::boot::{self, Discovered};
use crate::ranges::PAGE;

/// What the tables that `boot.s` made reach.
const MAPPED_END: u64 = 4 << 30;

/// QEMU's microvm without ACPI (`-M microvm,acpi=off`; with it, only ACPI tables tell) appends a word
/// like this to the command line for each device
/// (Linux, Documentation/admin-guide/kernel-parameters: `virtio_mmio.device`).
const VIRTIO_MMIO: &str = "virtio_mmio.device=";

/// The word that asks for five levels of page tables. `boot.s` has seen to it.
const LA57: &str = "la57";

/// Called by `boot.s` on the main stack, with the physical address of `hvm_start_info`.
#[unsafe(no_mangle)]
extern "C" fn arch_start(start_info: u32) -> ! {
    serial::init();
    // Earlier than common code would, so that a fault below is reported.
    exception::init();
    // SAFETY: PVH's promise, and the first 4 GiB are mapped where they are. What is kept is copied below,
    // before page 0, where QEMU puts parts of it, loses its mapping.
    let reader = unsafe { StartInfoReader::from_paddr_identity(start_info) };
    let Some(reader) = reader else {
        panic!("no PVH start info at {start_info:#x}; boot this kernel with `qemu-system-x86_64 -kernel`");
    };
    let mut discovered = Discovered { mapped_end: MAPPED_END, ..Discovered::default() };
    for entry in reader.memmap() {
        if entry.ty() == MemmapType::Ram {
            let range = entry.addr..entry.addr.saturating_add(entry.size);
            assert!(
                discovered.ram.push(range).is_ok(),
                "the memory map has more than {} pieces of RAM",
                discovered.ram.capacity()
            );
        }
    }
    if let Some(line) = reader.cmdline() {
        parse_command_line(line, &mut discovered);
    }
    discovered.cpus = fw_cfg::cpus().unwrap_or(1);
    let full = discovered.devices.push(apic::REGISTERS).is_err();
    assert!(!full, "more than {} pieces of device registers", discovered.devices.capacity());
    boot::start(discovered)
}

/// Takes the words about devices and page tables for itself and leaves the others to the program.
fn parse_command_line(line: &CStr, discovered: &mut Discovered) {
    let Ok(line) = line.to_str() else { panic!("the command line {line:?} is not UTF-8") };
    let mut rest = String::new();
    for word in line.split_ascii_whitespace() {
        if let Some(device) = word.strip_prefix(VIRTIO_MMIO) {
            let Some(address) = parse_device(device) else {
                panic!("the command line has `{word}`, where {VIRTIO_MMIO}SIZE@ADDRESS:IRQ is expected");
            };
            // Further transports than there is room for are not looked at.
            let _ = discovered.virtio_mmio.push(address);
            let page = address & !(PAGE - 1);
            if !discovered.devices.iter().any(|range| range.start == page) {
                let _ = discovered.devices.push(page..page + PAGE);
            }
            continue;
        }
        if word == LA57 {
            continue;
        }
        let space = if rest.is_empty() { "" } else { " " };
        let fits = rest.push_str(space).and_then(|()| rest.push_str(word)).is_ok();
        assert!(fits, "the command line is longer than {} bytes", rest.capacity());
    }
    discovered.command_line = rest;
}

/// `512@0xfeb02a00:12`
fn parse_device(device: &str) -> Option<u64> {
    let (_size, place) = device.split_once('@')?;
    let (address, _interrupt) = place.split_once(':')?;
    let digits = address.strip_prefix("0x")?;
    u64::from_str_radix(digits, 16).ok()
}
