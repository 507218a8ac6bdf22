//! One bootable file: the kernel's ELF file with the payload as one more segment.
//!
//! ```text
//!   kernel                         image
//!   +--------------------+         +--------------------+
//!   | ELF header         |         | ELF header         |-+ e_phoff, e_phnum changed
//!   | program headers    |         | (old headers)      | |
//!   | text, data, ...    |         | text, data, ...    | |   slot filled
//!   | sections, symbols  |         | sections, symbols  | |
//!   +--------------------+         | program headers +1 |<+
//!                                  | payload            |   page-aligned in the file,
//!                                  +--------------------+   64 KiB-aligned in memory
//! ```
//!
//! Nothing that was in the file moves, so section headers and symbols stay valid and a
//! debugger reads the image as it reads the kernel.

use std::io::{Seek, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use object::elf::{FileHeader64, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{LittleEndian as LE, U16, U32, U64};
use protocol::image::{PayloadSlot, SEGMENT_ALIGN, SLOT_MAGIC, SLOT_SECTION};
use protocol::payload::Writer;

use crate::workspace;

type Header = FileHeader64<LE>;
type Segment = ProgramHeader64<LE>;

/// Alignment of the payload in the file, which may differ from memory's by whole pages.
const FILE_ALIGN: u64 = 4096;

/// Where the parts of an image lie.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    /// All program headers, the new one last.
    segments: Vec<Segment2>,
    /// File offset of the program headers.
    table: u64,
    /// File offset of the payload.
    offset: u64,
    /// Physical address of the payload.
    address: u64,
    /// File offset of the slot.
    slot: u64,
}

/// `object`'s header as bytes, which can be compared.
type Segment2 = [u8; size_of::<Segment>()];

/// Writes the image of `kernel` with `payload` to `path`.
///
/// Returns the physical address behind the payload: how far memory must reach.
///
/// # Errors
/// If `kernel` is not a 64-bit little-endian ELF file with an empty payload slot, or files
/// cannot be written.
pub(crate) fn write(kernel: &[u8], payload: &Writer<'_>, path: &Path) -> Result<u64> {
    let length = payload.length()?;
    let plan = plan(kernel, length)?;
    let mut head = kernel.to_vec();
    patch_header(&mut head, &plan)?;
    let slot = PayloadSlot { magic: SLOT_MAGIC, address: plan.address, length };
    let at = usize::try_from(plan.slot)?;
    head.get_mut(at..at + PayloadSlot::SIZE)
        .context("the kernel's payload slot is not in the file")?
        .copy_from_slice(&slot.to_bytes());

    workspace::write_atomically(path, |file| {
        file.write_all(&head)?;
        pad_to(file, plan.table)?;
        for segment in &plan.segments {
            file.write_all(segment)?;
        }
        pad_to(file, plan.offset)?;
        payload.write_to(file)?;
        Ok(())
    })?;
    Ok(plan.address + length)
}

fn plan(kernel: &[u8], length: u64) -> Result<Plan> {
    let header = Header::parse(kernel).context("the kernel is not a 64-bit ELF file")?;
    let endian = header.endian().context("the kernel is not little-endian")?;
    let segments = header.program_headers(endian, kernel).context("no program headers")?;
    let slot = find_slot(kernel)?;

    let end = segments
        .iter()
        .filter(|segment| segment.p_type(endian) == object::elf::PT_LOAD)
        .map(|segment| segment.p_paddr(endian) + segment.p_memsz(endian))
        .max()
        .context("the kernel has no loadable segment")?;
    let address = end.next_multiple_of(SEGMENT_ALIGN);
    let table = (kernel.len() as u64).next_multiple_of(8);
    let table_size = (segments.len() + 1) * size_of::<Segment>();
    let offset = (table + table_size as u64).next_multiple_of(FILE_ALIGN);

    let mut segments = segments.to_vec();
    for segment in &mut segments {
        // It would describe the old place of the table. Only dynamic loaders look at it.
        if segment.p_type(endian) == object::elf::PT_PHDR {
            segment.p_type = U32::new(endian, object::elf::PT_NULL);
        }
    }
    segments.push(Segment {
        p_type: U32::new(endian, object::elf::PT_LOAD),
        p_flags: U32::new(endian, object::elf::PF_R),
        p_offset: U64::new(endian, offset),
        p_vaddr: U64::new(endian, address),
        p_paddr: U64::new(endian, address),
        p_filesz: U64::new(endian, length),
        p_memsz: U64::new(endian, length),
        p_align: U64::new(endian, FILE_ALIGN),
    });
    let segments = segments
        .iter()
        .map(|segment| object::bytes_of(segment).try_into().expect("a header has its size"))
        .collect();
    Ok(Plan { segments, table, offset, address, slot })
}

/// File offset of the kernel's empty slot: the one place with these bytes, wherever its linker script
/// put it.
fn find_slot(kernel: &[u8]) -> Result<u64> {
    let empty = PayloadSlot::EMPTY.to_bytes();
    let mut places = kernel.windows(empty.len()).enumerate().filter(|(_, window)| *window == empty);
    match (places.next(), places.next()) {
        (Some((at, _)), None) => Ok(at as u64),
        (None, _) => bail!("the kernel has no empty slot for a payload (section {SLOT_SECTION})"),
        (Some((first, _)), Some((second, _))) => {
            bail!("the kernel has two slots for a payload, at {first:#x} and {second:#x} in its file")
        }
    }
}

/// Whether a file is a kernel that can take a payload.
pub(crate) fn takes_payload(kernel: &[u8]) -> bool {
    find_slot(kernel).is_ok()
}

fn patch_header(file: &mut [u8], plan: &Plan) -> Result<()> {
    let (header, _) = object::pod::from_bytes_mut::<Header>(file).ok().context("no ELF header")?;
    let count = u16::try_from(plan.segments.len()).context("too many program headers")?;
    header.e_phoff = U64::new(LE, plan.table);
    header.e_phnum = U16::new(LE, count);
    Ok(())
}

fn pad_to(file: &mut (impl Write + Seek), position: u64) -> Result<()> {
    let missing = position - file.stream_position()?;
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), missing), file)?;
    Ok(())
}

#[cfg(test)]
mod tests;
