//! [`Arch`]: the one value through which the core reaches the machine.

use core::fmt;
use core::ptr::NonNull;

use crate::{Format, Invalidation, PAGE_SIZE, PhysAddr, VirtAddr};

/// A machine whose page tables can be edited.
///
/// # Safety
///
/// An implementation promises that
/// * [`physical`](Self::physical) is linear over every range it is asked for:
///   `physical(a + n)` is `physical(a)` plus `n`, readable and writable,
/// * after [`publish`](Self::publish) a walk on any CPU finds what was stored
///   to tables before,
/// * after [`invalidate_local`](Self::invalidate_local) this CPU, and after
///   [`invalidate_everywhere`](Self::invalidate_everywhere) every CPU on which
///   a root with the window is active, uses no translation that it cached
///   before the call for an address which the invalidation covers, and, if it
///   reaches tables, no pointer to a table on the way there,
/// * [`current_cpu`](Self::current_cpu) is below [`cpus`](Self::cpus), and no
///   two CPUs have the same number.
pub unsafe trait Arch: Send + Sync {
    /// How entries are spelled.
    type Format: Format;

    /// Whether [`physical`](Self::physical) goes through the same tables as
    /// everything else, so that its mapping can be looked at.
    const ALIAS_IS_MAPPED: bool;

    /// Where physical memory can be reached by the core.
    fn physical(&self, address: PhysAddr) -> NonNull<u8>;

    /// The table from which a walk for `address` starts.
    fn root(&self, address: VirtAddr) -> PhysAddr;

    /// The root that this CPU uses for `address` at this moment: that one, or another with
    /// the same top-level entries for the window, such as a process's.
    fn live_root(&self, address: VirtAddr) -> PhysAddr {
        self.root(address)
    }

    /// Whether the MMU walks tables at all for addresses of this half.
    fn walks(&self, address: VirtAddr) -> bool {
        let _ = address;
        true
    }

    /// Levels of tables, the root's included: 4; 5 with CR4.LA57; 3 where TCR_EL1 has addresses of 39 bits.
    fn levels(&self) -> u8;

    /// Bits of an address that differ within one half of the address space: those above are all alike.
    /// One fewer than the levels take where one root serves both halves.
    fn half_bits(&self) -> u32 {
        11 + 9 * u32::from(self.levels())
    }

    /// Whether the CPU marks a writable page as dirty when it is written. If
    /// not, the first write to a clean page faults, and the fault path marks
    /// it.
    fn hardware_dirty(&self) -> bool;

    /// How many CPUs a root with the window may be active on.
    fn cpus(&self) -> usize;

    /// The number of the CPU that runs this, below [`cpus`](Self::cpus). The
    /// caller stays on it for as long as it uses the number.
    fn current_cpu(&self) -> usize;

    /// Orders stores to tables before later walks. This is all that an entry
    /// needs which goes from not present to present.
    fn publish(&self);

    /// Makes this CPU forget.
    fn invalidate_local(&self, what: Invalidation);

    /// Makes every CPU forget, and returns when all have.
    fn invalidate_everywhere(&self, what: Invalidation);

    /// Makes freshly written instructions in `[start, start + bytes)` visible
    /// to instruction fetch.
    fn synchronise_code(&self, start: VirtAddr, bytes: usize);

    /// Refuses a CPU state under which the tables would not protect a window
    /// at `window`.
    ///
    /// # Errors
    ///
    /// Names the register bit that is wrong and the value it should have.
    fn check(&self, window: VirtAddr) -> Result<(), CpuError>;

    /// How many bits the physical addresses in entries may have, where a register says
    /// so.
    fn physical_bits(&self) -> u32 {
        52
    }

    /// Reports addresses that this CPU uses at this moment, and what for.
    fn in_use(&self, report: &mut dyn FnMut(Occupant, VirtAddr)) {
        let _ = report;
    }

    /// Loads `len` bytes at `address` as code on this CPU does: through the live
    /// tables, with faults that the embedder's handler answers. A machine that is
    /// not the one that this runs on has its own of this and the next three.
    ///
    /// # Errors
    ///
    /// The address of a byte that cannot be loaded, where the machine can tell:
    /// a real CPU enters the embedder's handler instead.
    ///
    /// # Safety
    ///
    /// `[address, address + len)` may be loaded, or its faults are resolved;
    /// `into` can be written for `len` bytes. Nobody else writes these bytes
    /// during the call.
    #[inline(always)]
    unsafe fn read_bytes(&self, address: VirtAddr, into: NonNull<u8>, len: usize) -> Result<(), VirtAddr> {
        // SAFETY: by this function's contract.
        unsafe { pointer(address).copy_to_nonoverlapping(into.as_ptr(), len) };
        Ok(())
    }

    /// Stores `len` bytes at `address` as code on this CPU does.
    ///
    /// # Errors
    ///
    /// As for [`read_bytes`](Self::read_bytes); bytes before it may be stored.
    ///
    /// # Safety
    ///
    /// As there, of a store; `from` can be read for `len` bytes.
    #[inline(always)]
    unsafe fn write_bytes(&self, address: VirtAddr, from: NonNull<u8>, len: usize) -> Result<(), VirtAddr> {
        // SAFETY: by this function's contract.
        unsafe { pointer(address).copy_from_nonoverlapping(from.as_ptr(), len) };
        Ok(())
    }

    /// Stores `byte` in each of `len` bytes at `address`.
    ///
    /// # Errors
    ///
    /// As for [`write_bytes`](Self::write_bytes).
    ///
    /// # Safety
    ///
    /// As there.
    #[inline(always)]
    unsafe fn fill_bytes(&self, address: VirtAddr, byte: u8, len: usize) -> Result<(), VirtAddr> {
        // SAFETY: by this function's contract.
        unsafe { pointer(address).write_bytes(byte, len) };
        Ok(())
    }

    /// Copies `len` bytes from `from` to `to`, which may overlap.
    ///
    /// # Errors
    ///
    /// As for [`read_bytes`](Self::read_bytes); nothing is stored then, so that
    /// the same call can be repeated.
    ///
    /// # Safety
    ///
    /// As there.
    #[inline(always)]
    unsafe fn move_bytes(&self, from: VirtAddr, to: VirtAddr, len: usize) -> Result<(), VirtAddr> {
        // SAFETY: by this function's contract.
        unsafe { pointer(from).copy_to(pointer(to), len) };
        Ok(())
    }

    /// Fills the frame at `frame` with zeros, through the physical alias.
    /// Changes no vector register on x86_64, as it is called in fault handlers.
    ///
    /// # Safety
    ///
    /// Nobody else reads or writes the frame during the call.
    unsafe fn zero_frame(&self, frame: PhysAddr) {
        let bytes = self.physical(frame);
        // SAFETY: `physical` gives writable memory of a page, and the caller
        // says that nobody else uses it now.
        unsafe { bytes.write_bytes(0, PAGE_SIZE) };
    }

    /// Copies the frame at `from` to the one at `to`, through the physical
    /// alias. Changes no vector register on x86_64, likewise.
    ///
    /// # Safety
    ///
    /// They are two frames. Nobody else writes `from`, or reads or writes `to`,
    /// during the call.
    unsafe fn copy_frame(&self, from: PhysAddr, to: PhysAddr) {
        let (from, to) = (self.physical(from), self.physical(to));
        // SAFETY: both are pages that can be reached, and the caller says that
        // they do not overlap and that nobody else is at them.
        unsafe { from.copy_to_nonoverlapping(to, PAGE_SIZE) };
    }
}

/// An address as a pointer to what is mapped there.
#[expect(clippy::cast_possible_truncation, reason = "addresses have as many bits as pointers here")]
#[inline(always)]
fn pointer(address: VirtAddr) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut(address.0 as usize)
}

/// What an arena must not hold, as it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Occupant {
    /// A table of the live tables: a boot-loader's, the kernel's, or another allocator's.
    PageTable,
    /// The code that runs, and what is mapped read-only around it.
    Code,
    /// The stack of the CPU that asks.
    Stack,
    /// Its exception handlers' table: IDTR, or VBAR_EL1.
    Exceptions,
    /// Its segment descriptors: GDTR.
    Segments,
}

impl fmt::Display for Occupant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PageTable => "a live page table",
            Self::Code => "the running kernel",
            Self::Stack => "the stack that is in use",
            Self::Exceptions => "the exception handlers' table",
            Self::Segments => "the segment descriptors",
        })
    }
}

/// A CPU that is not set up as isolation needs it. Each says which bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CpuError {
    /// CR0.WP is 0: the kernel could write through read-only pages.
    WriteProtectOff,
    /// EFER.NXE is 0: no page could be made non-executable.
    NoExecuteOff,
    /// CR4.PCIDE is 1: translations would survive under other identifiers.
    ProcessContexts,
    /// The first type of IA32_PAT is not write-back (6).
    MemoryType {
        /// What it is.
        found: u8,
    },
    /// The CPU is not at EL1, whose tables these are.
    ExceptionLevel {
        /// The level that it is at.
        found: u8,
    },
    /// MAIR_EL1 attribute 0 is not normal write-back memory (0xff).
    MemoryAttribute {
        /// What attribute 0 holds.
        found: u8,
    },
    /// A field of TCR_EL1 does not say 4 KiB granule and addresses of 48 or 39 bits, alike for each
    /// half that is walked: the window's, and the other, where the kernel's own tables are looked at.
    Translation {
        /// The field's name.
        field: &'static str,
        /// What it holds.
        found: u64,
        /// What it should hold.
        wanted: u64,
    },
    /// TCR_EL1.IRGN or ORGN of the window's half is not write-back: walks would
    /// not see what stores to tables left in the caches.
    WalkMemory {
        /// What IRGN1 holds, or IRGN0 for a window in the lower half.
        inner: u8,
        /// What ORGN1 holds, or ORGN0.
        outer: u8,
    },
    /// SCTLR_EL1.M is 0: the MMU is off.
    MmuOff,
}

impl fmt::Display for CpuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WriteProtectOff => f.write_str(
                "CR0.WP (bit 16) is 0, read-only pages would not bind the kernel; set it to 1",
            ),
            Self::NoExecuteOff => f.write_str(
                "EFER.NXE (bit 11 of MSR 0xc0000080) is 0, data pages would be executable; set it to 1",
            ),
            Self::ProcessContexts => f.write_str(
                "CR4.PCIDE (bit 17) is 1, translations under other process-context identifiers would stay; set it to 0",
            ),
            Self::MemoryType { found } => write!(
                f,
                "IA32_PAT entry 0 (bits 2:0 of MSR 0x277) is {found}, pages would not be write-back memory; set it to 6"
            ),
            Self::ExceptionLevel { found } => write!(
                f,
                "the CPU is at EL{found}, and only EL1's tables can be edited; drop to EL1 before"
            ),
            Self::MemoryAttribute { found } => write!(
                f,
                "MAIR_EL1 attribute 0 (bits 7:0) is {found:#04x}, not normal write-back memory; set it to 0xff"
            ),
            Self::Translation { field, found, wanted } => write!(
                f,
                "TCR_EL1.{field} is {found:#b}, windows need a 4 KiB granule with addresses of 48 or 39 bits, alike in \
                 both halves; set it to {wanted:#b}"
            ),
            Self::WalkMemory { inner, outer } => write!(
                f,
                "TCR_EL1 has IRGN {inner:#04b} and ORGN {outer:#04b} for the window's half, walks must be write-back; \
                 set both to 0b01"
            ),
            Self::MmuOff => f.write_str("SCTLR_EL1.M (bit 0) is 0, the MMU is off; turn it on first"),
        }
    }
}

impl core::error::Error for CpuError {}
