//! From a faulting address to what it means.
//!
//! An embedder's page-fault handler asks
//! [`Allocator::fault`](crate::Allocator::fault) and gets one of three
//! answers. Asking takes no lock, allocates nothing and sends no interrupt:
//! the slot is found by one subtraction and one division, and only atomics are
//! read.

use core::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use allotment_arch::{Access, Arch, Entry, Format, Invalidation, PAGE_SIZE, Pages, VirtAddr};

use crate::{
    Allocator, MemoryInModule, RangeKind, RangePart,
    pooling::Position,
    vm::{pages::mark_written, region_entry},
};

/// What the faulting instruction tried to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAccess {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

/// What to do about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// The access is allowed by now: return and let the instruction run again.
    Resume,
    /// The address is ours and may not be accessed: a wasm trap when wasm did
    /// it, a bug of the kernel otherwise.
    Trap(FaultReport),
    /// The address is outside what was carved from the window.
    NotOurs,
}

/// What an address of the window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultReport {
    /// The address.
    pub address: VirtAddr,
    /// What was tried.
    pub access: FaultAccess,
    /// Where that is.
    pub region: FaultRegion,
}

/// A part of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultRegion {
    /// Inside a memory slot: beyond what is accessible, or fetched as an
    /// instruction.
    Memory {
        /// The slot.
        slot: u32,
        /// How often the slot was given out or taken back: odd while in use.
        generation: u32,
        /// Bytes from the memory's first byte.
        offset: usize,
        /// Bytes that are accessible.
        accessible: usize,
    },
    /// In the guard after a slot, which is the guard before the next.
    Guard {
        /// The slot before the guard.
        slot: u32,
        /// How often the slot was given out or taken back: odd while in use.
        generation: u32,
        /// Bytes from that slot's first byte.
        offset: usize,
    },
    /// In the guard before the first slot.
    GuardBefore,
    /// In the range that something on demand has for itself, guards included.
    Range {
        /// What has it.
        kind: RangeKind,
        /// The module that defines it, and which of the module's it is.
        module: Option<MemoryInModule>,
        /// Told apart by this from others that had the range before: odd.
        generation: u32,
        /// Whether it is beyond the range's guards.
        part: RangePart,
        /// Bytes from its first byte; negative in the guard before.
        offset: i64,
        /// Bytes that are accessible.
        accessible: usize,
    },
    /// In the address space for regions that are no slot, reserved or not.
    Region,
}

impl fmt::Display for FaultAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Execute => "execute",
        })
    }
}

impl fmt::Display for FaultReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, access, region } = self;
        match region {
            FaultRegion::Memory { slot, generation, offset, accessible } => write!(
                f,
                "{access} at {address}: memory slot {slot} (generation {generation}), \
                 offset {offset:#x} of {accessible:#x} accessible bytes"
            ),
            FaultRegion::Guard { slot, generation, offset } => write!(
                f,
                "{access} at {address}: guard after memory slot {slot} (generation {generation}), offset {offset:#x}"
            ),
            FaultRegion::GuardBefore => {
                write!(f, "{access} at {address}: guard before the first memory slot")
            }
            FaultRegion::Range { kind, module, generation, part, offset, accessible } => {
                write!(f, "{access} at {address}: {part}{kind}")?;
                if let Some(MemoryInModule { module, index }) = module {
                    write!(f, " {index} of {module}")?;
                }
                write!(
                    f,
                    " (generation {generation}), offset {}{:#x} of {accessible:#x} accessible bytes",
                    if *offset < 0 { "-" } else { "" },
                    offset.unsigned_abs()
                )
            }
            FaultRegion::Region => write!(f, "{access} at {address}: region without that access"),
        }
    }
}

impl<A: Arch> Allocator<A> {
    /// Says what a fault at `address` means.
    ///
    /// `access` is what the CPU reports. With another the answer can be wrong:
    /// a store to a read-only page, asked about as a read, is resumed for ever.
    ///
    /// Safe to call from an exception handler, on any CPU.
    pub fn fault(&self, address: VirtAddr, access: FaultAccess) -> Verdict {
        match self.entry(address) {
            Some(entry) if permits::<A>(entry, access) => self.resume(entry, address, access),
            _ => self.refuse(address, access),
        }
    }

    /// The leaf entry for an address, if it has a place in a table.
    fn entry(&self, address: VirtAddr) -> Option<&AtomicU64> {
        if self.memories.contains(address) {
            return self.memories.entry(&self.vm, address);
        }
        self.regions.contains(address).then(|| region_entry(&self.vm, address)).flatten()
    }

    /// What an address is whose access is not allowed.
    #[cold]
    fn refuse(&self, address: VirtAddr, access: FaultAccess) -> Verdict {
        let region = if let Some(position) = self.memories.locate(address) {
            self.slot_region(position)
        } else if self.memories.contains(address) {
            FaultRegion::GuardBefore
        } else if self.regions.contains(address) {
            self.range(address).unwrap_or(FaultRegion::Region)
        } else {
            return Verdict::NotOurs;
        };
        Verdict::Trap(FaultReport { address, access, region })
    }

    /// The entry allows the access: the fault raced with whoever allowed it, or
    /// is the first write to a clean page on a CPU that keeps no dirty state.
    fn resume(&self, entry: &AtomicU64, address: VirtAddr, access: FaultAccess) -> Verdict {
        if access == FaultAccess::Write && !self.vm.arch.hardware_dirty() {
            // If the page was taken away this moment, the next fault says so.
            let _ = mark_written::<A>(entry);
        }
        if A::Format::STALE_AFTER_UPGRADE {
            let page = VirtAddr(address.0 & !(PAGE_SIZE as u64 - 1));
            self.vm.arch.invalidate_local(Invalidation::leaves(Pages { start: page, count: 1 }));
        }
        Verdict::Resume
    }

    /// Whether `address` can be executed and lies in the window: code that was
    /// published there, such as compiled wasm.
    pub fn is_code(&self, address: VirtAddr) -> bool {
        self.regions.contains(address)
            && region_entry(&self.vm, address).is_some_and(|entry| permits::<A>(entry, FaultAccess::Execute))
    }

    fn slot_region(&self, position: Position) -> FaultRegion {
        let Position { slot, generation, offset, accessible } = position;
        if offset < self.plan.memory_reservation {
            FaultRegion::Memory { slot, generation, offset, accessible }
        } else {
            FaultRegion::Guard { slot, generation, offset }
        }
    }
}

/// Whether an entry allows an access now. A fault that raced with the edit
/// that allowed it is spurious.
fn permits<A: Arch>(entry: &AtomicU64, access: FaultAccess) -> bool {
    let entry = entry.load(Ordering::Acquire);
    if access == FaultAccess::Read {
        return entry & A::Format::PRESENT != 0;
    }
    let Entry::Present { access: given, .. } = A::Format::decode(entry) else { return false };
    match access {
        FaultAccess::Read => true,
        FaultAccess::Write => given == Access::ReadWrite,
        FaultAccess::Execute => given == Access::ReadExecute,
    }
}
