//! From a faulting address to what it means.
//!
//! An embedder's page-fault handler asks
//! [`Allocator::fault`](crate::Allocator::fault) and gets one of three
//! answers. Asking takes no lock, allocates nothing and sends no interrupt:
//! the slot is found by one subtraction and one division, and only atomics are
//! read.
//!
//! ```text
//!   x86_64    CR2, error code ---> fault_from_error_code \          Resume   return, try again
//!   aarch64   ESR_EL1, FAR_EL1 --> fault_from_esr --------> fault -> Trap     wasm's trap, or a bug: print it
//!                                                                    NotOurs  the kernel's own affair
//! ```

use core::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use allotment_arch::{Access, Arch, Entry, FaultAccess, Format, Invalidation, PAGE_SIZE, Pages, VirtAddr};

use crate::{
    Allocator, CompiledModuleId, PoolKind,
    on_demand::Where,
    pooling::{Position, SlotPool, is_in_use},
    vm::{copy_on_write::Touch, pages::mark_written, region_entry},
};

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

/// What an address of the window is, and whose.
///
/// Prints as one line with `{}`, and with `{:#}` as several for a panic's screen:
///
/// ```text
/// read at 0xffff901002400010 is not allowed
///   what        memory 0
///   offset      0x400010, of 0x400000 accessible bytes
///   slot        3 of memories, generation 17, in use
///   module      5
/// ```
///
/// It borrows nothing, and is printed without a heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultReport {
    /// The address.
    pub address: VirtAddr,
    /// What was tried.
    pub access: FaultAccess,
    /// Which part of what that is.
    pub region: FaultRegion,
    /// The slot that it belongs to, or the range on demand.
    pub slot: Option<FaultSlot>,
    /// The module that has the memory or table, or had it last.
    pub module: Option<CompiledModuleId>,
    /// Bytes from the first one of the memory, table or stack: for a memory the
    /// address that wasm computed. Negative before it.
    pub offset: Option<i64>,
}

/// One slot, at one moment, or one range on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultSlot {
    /// Of which pool. `None` for a range on demand.
    pub pool: Option<PoolKind>,
    /// Of which memory pool: 0 for the main one, as for all that is no memory's.
    pub memory_pool: usize,
    /// Its number.
    pub slot: u32,
    /// How often it was given out, and a slot taken back: odd while that is in
    /// use.
    pub generation: u64,
    /// Bytes of it that are accessible.
    pub accessible: usize,
}

/// A part of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultRegion {
    /// In a memory's reservation: beyond what is accessible, or fetched as an
    /// instruction. Which of its module's memories, if it has one.
    Memory(Option<u32>),
    /// The same of a memory that may not touch a further page.
    Uncommitted(Option<u32>),
    /// In the guard before a memory.
    GuardBefore(Option<u32>),
    /// In the guard after a memory.
    GuardAfter(Option<u32>),
    /// In the memory of a GC heap, or after it.
    GcHeap,
    /// In a table's slot, or after it. Which of its module's tables.
    Table(Option<u32>),
    /// In a fiber's stack.
    Stack,
    /// Below a fiber's stack: it overflowed.
    StackGuard,
    /// In the address space for regions that are no slot, reserved or not.
    Region,
    /// In a part of the window that may be accessed, but that the root of this CPU lacks:
    /// [`Allocator::share_window`] gives it to a root.
    NotInRoot,
}

impl fmt::Display for FaultReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() { self.write_lines(f) } else { self.write_line(f) }
    }
}

impl FaultReport {
    fn write_line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.access, self.address, self.region)?;
        if let Some(offset) = self.offset {
            write!(f, ", offset {}", Signed(offset))?;
        }
        if let Some(FaultSlot { pool, memory_pool, slot, generation, accessible }) = self.slot {
            if matches!(self.region, FaultRegion::Memory(_) | FaultRegion::Table(_) | FaultRegion::GcHeap) {
                write!(f, " of {accessible:#x} accessible bytes")?;
            }
            match pool {
                Some(pool) if memory_pool == 0 => {
                    write!(f, ", slot {slot} of {pool} (generation {generation})")?;
                }
                Some(_) => write!(f, ", slot {slot} of memory pool {memory_pool} (generation {generation})")?,
                None => write!(f, ", range {slot} on demand (generation {generation})")?,
            }
        }
        self.module.map_or(Ok(()), |module| write!(f, ", {module}"))
    }

    fn write_lines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} at {} is not allowed", self.access, self.address)?;
        write!(f, "  what        {}", self.region)?;
        if let Some(offset) = self.offset {
            write!(f, "\n  offset      {}", Signed(offset))?;
        }
        if let Some(FaultSlot { pool, memory_pool, slot, generation, accessible }) = self.slot {
            write!(f, ", of {accessible:#x} accessible bytes")?;
            match pool {
                Some(_) if memory_pool > 0 => {
                    write!(f, "\n  slot        {slot} of memory pool {memory_pool}")?
                }
                Some(pool) => write!(f, "\n  slot        {slot} of {pool}")?,
                None => write!(f, "\n  range       {slot} on demand")?,
            }
            let state = if is_in_use(generation) { "in use" } else { "free" };
            write!(f, ", generation {generation}, {state}")?;
        }
        self.module.map_or(Ok(()), |module| write!(f, "\n  module      {}", module.0))
    }
}

/// In hexadecimal, with its sign before.
struct Signed(i64);

impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{:#x}", self.0.unsigned_abs())
    }
}

impl fmt::Display for FaultRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbered = |f: &mut fmt::Formatter<'_>, what: &str, index: Option<u32>| match index {
            Some(index) => write!(f, "{what} {index}"),
            None => f.write_str(what),
        };
        match *self {
            Self::Memory(index) => numbered(f, "memory", index),
            Self::Uncommitted(index) => numbered(f, "no page left to touch in memory", index),
            Self::GuardBefore(index) => numbered(f, "guard before memory", index),
            Self::GuardAfter(index) => numbered(f, "guard after memory", index),
            Self::GcHeap => f.write_str("GC heap"),
            Self::Table(index) => numbered(f, "table", index),
            Self::Stack => f.write_str("fiber stack"),
            Self::StackGuard => f.write_str("guard below a fiber stack, which overflowed"),
            Self::Region => f.write_str("region without that access"),
            Self::NotInRoot => f.write_str(
                "the root of this CPU lacks the window; make roots as copies of one that has it, or give it to \
                 those that were made before (Allocator::share_window)",
            ),
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
        if let Some(pool) = self.pools.pool_at(address) {
            return match pool.touch(&self.vm, address, access) {
                Touch::Permitted(entry) => self.resume(entry, address, access),
                Touch::Given => Verdict::Resume,
                Touch::Exhausted => refuse_slot(pool, address, access, true),
                Touch::NotHere => refuse_slot(pool, address, access, false),
            };
        }
        match self.region_entry_permitting(address, access) {
            Some(entry) => self.resume(entry, address, access),
            None if access != FaultAccess::Execute => self.touch_region(address, access),
            None => self.refuse_region(address, access),
        }
    }

    /// [`fault`](Self::fault), with what x86_64 gives to the handler of `#PF`: CR2, and
    /// the error code.
    ///
    /// ```ignore-none
    /// # use allotment::{Allocator, Verdict};
    /// # fn handler(allocator: &Allocator, cr2: u64, error_code: u64) {
    /// // Of the crate `x86_64`: `Cr2::read_raw()`, and `error_code.bits()`.
    /// match allocator.fault_from_error_code(cr2, error_code) {
    ///     Verdict::Resume => {}
    ///     Verdict::Trap(report) => panic!("{report:#}"), // where wasm runs: its trap
    ///     Verdict::NotOurs => panic!("page fault at {cr2:#x}"),
    /// }
    /// # }
    /// ```
    ///
    /// What [`FaultAccess::from_error_code`] refuses is not ours: such as an access of user
    /// mode, which would fault again for ever.
    pub fn fault_from_error_code(&self, cr2: u64, error_code: u64) -> Verdict {
        self.fault_as(cr2, FaultAccess::from_error_code(error_code))
    }

    /// [`fault`](Self::fault), with what aarch64 gives to the handler of synchronous
    /// exceptions: ESR_EL1 and FAR_EL1.
    ///
    /// ```ignore-none
    /// # use allotment::{Allocator, Verdict};
    /// # fn handler(allocator: &Allocator, esr: u64, far: u64) {
    /// match allocator.fault_from_esr(esr, far) {
    ///     Verdict::Resume => {}
    ///     Verdict::Trap(report) => panic!("{report:#}"), // where wasm runs: its trap
    ///     Verdict::NotOurs => panic!("exception {esr:#x}, at {far:#x}"),
    /// }
    /// # }
    /// ```
    ///
    /// What [`FaultAccess::from_esr`] refuses is not ours: any other exception, and an abort
    /// of EL0's.
    pub fn fault_from_esr(&self, esr: u64, far: u64) -> Verdict {
        self.fault_as(far, FaultAccess::from_esr(esr))
    }

    fn fault_as(&self, address: u64, access: Option<FaultAccess>) -> Verdict {
        access.map_or(Verdict::NotOurs, |access| self.fault(VirtAddr(address), access))
    }

    /// The entry for an address of a region, if it allows the access.
    fn region_entry_permitting(&self, address: VirtAddr, access: FaultAccess) -> Option<&AtomicU64> {
        let entry = self.regions.contains(address).then(|| region_entry(&self.vm, address)).flatten()?;
        permits::<A>(entry.load(Ordering::Acquire), access).then_some(entry)
    }

    /// The same of a memory with a range of its own.
    #[cold]
    fn touch_region(&self, address: VirtAddr, access: FaultAccess) -> Verdict {
        let touch = self.regions.touch(&self.vm, address, access == FaultAccess::Write);
        if matches!(touch, Touch::Given) {
            return Verdict::Resume;
        }
        // Another CPU may have touched it since this one looked.
        match self.region_entry_permitting(address, access) {
            Some(_) => Verdict::Resume,
            None => self.refuse_region(address, access),
        }
    }

    #[cold]
    fn refuse_region(&self, address: VirtAddr, access: FaultAccess) -> Verdict {
        if !self.regions.contains(address) {
            return Verdict::NotOurs;
        }
        Verdict::Trap(match self.range(address) {
            Some(Where { region, slot, module, offset }) => {
                FaultReport { address, access, region, slot: Some(slot), module, offset: Some(offset) }
            }
            None => {
                let region = FaultRegion::Region;
                FaultReport { address, access, region, slot: None, module: None, offset: None }
            }
        })
    }

    /// The entry allows the access: the fault raced with whoever allowed it, or
    /// is the first write to a clean page on a CPU that keeps no dirty state.
    fn resume(&self, entry: &AtomicU64, address: VirtAddr, access: FaultAccess) -> Verdict {
        if !self.is_in_live_root(address) {
            return refuse_root(address, access);
        }
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
            && region_entry(&self.vm, address)
                .is_some_and(|entry| permits::<A>(entry.load(Ordering::Acquire), FaultAccess::Execute))
    }
}

/// What an address of a slab is whose access is not allowed. Between two slots
/// in use it is the first one's.
#[cold]
fn refuse_slot(pool: &SlotPool, address: VirtAddr, access: FaultAccess, exhausted: bool) -> Verdict {
    let report = |region, slot, module, offset| {
        Verdict::Trap(FaultReport { address, access, region, slot, module, offset })
    };
    let kind = pool.kind();
    let here = pool.locate(address);
    let next = here.map_or(Some(0), |here| here.slot.checked_add(1)).and_then(|next| pool.position_of(next));
    let is_guard = here.is_none_or(|here| here.offset >= pool.layout().reservation);
    // Whose guard it is: a stack's is below it, a memory's on both sides.
    let before = match (here, next) {
        (None, next) => next,
        (Some(_), Some(next)) if is_guard && kind == PoolKind::Stacks => Some(next),
        (Some(here), Some(next)) if is_guard && !is_in_use(here.generation) && is_in_use(next.generation) => {
            Some(next)
        }
        _ => None,
    };
    let Some(position) = before.or(here) else {
        return report(FaultRegion::GuardBefore(None), None, None, None);
    };
    let index = position.owner.map(|owner| owner.index);
    let region = match kind {
        PoolKind::Stacks if before.is_some() => FaultRegion::StackGuard,
        PoolKind::Stacks => FaultRegion::Stack,
        PoolKind::Tables => FaultRegion::Table(index),
        _ if position.gc_heap => FaultRegion::GcHeap,
        _ if before.is_some() => FaultRegion::GuardBefore(index),
        _ if is_guard => FaultRegion::GuardAfter(index),
        _ if exhausted => FaultRegion::Uncommitted(index),
        _ => FaultRegion::Memory(index),
    };
    let Position { slot, generation, accessible, .. } = position;
    let offset = address.0.wrapping_sub(pool.base(slot).0).cast_signed();
    let module = position.owner.map(|owner| owner.module);
    let slot = FaultSlot { pool: Some(kind), memory_pool: pool.number(), slot, generation, accessible };
    report(region, Some(slot), module, Some(offset))
}

/// It would fault for ever: no walk of this CPU's comes to where the access is allowed.
#[cold]
fn refuse_root(address: VirtAddr, access: FaultAccess) -> Verdict {
    let region = FaultRegion::NotInRoot;
    Verdict::Trap(FaultReport { address, access, region, slot: None, module: None, offset: None })
}

/// Whether an entry allows an access now. A fault that raced with the edit
/// that allowed it is spurious.
#[inline]
pub(crate) fn permits<A: Arch>(entry: u64, access: FaultAccess) -> bool {
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
