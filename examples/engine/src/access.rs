//! Loads and stores of wasm.
//!
//! ```text
//!   the memory says:     needs no bounds checks                needs them
//!                        offset within the guard
//!
//!                        base + address + offset               address + offset + bytes <= length ?
//!                             |                                      | yes            | no
//!                             v                                      v                v
//!                        Guarded::load ── fault ──> Allocator::fault          trap
//!                             |                          |      |
//!                             v                       Resume   Trap
//!                           value                    (again)   (trap, with a report)
//! ```

use allotment::{
    Allocator, Error, FaultAccess, FaultRegion, FaultReport, Verdict,
    arch::{Arch, PAGE_SIZE, VirtAddr},
    instance::{Instance, InstanceError},
};

use crate::{Trap, code::Place};

/// A machine on which an access may fault and leave nothing worse than that said.
/// That is all that an embedder has to bring: see `guarded` for a kernel's, and for
/// the emulated machine's.
///
/// # Safety
///
/// An implementation promises that a load which returns `Ok` has loaded the bytes
/// through the live tables, as a store has stored them.
pub unsafe trait Guarded: Arch {
    /// Loads 1, 2, 4 or 8 bytes, little-endian, zeros above them.
    ///
    /// # Errors
    ///
    /// The address that faulted: of an access across two pages it may be in the
    /// second.
    ///
    /// # Safety
    ///
    /// Each byte is the caller's to load, or faults.
    unsafe fn load(&self, at: VirtAddr, bytes: usize) -> Result<u64, VirtAddr>;

    /// Stores the low 1, 2, 4 or 8 bytes of `value`, little-endian.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load).
    ///
    /// # Safety
    ///
    /// Each byte is the caller's to store, or faults.
    unsafe fn store(&self, at: VirtAddr, bytes: usize, value: u64) -> Result<(), VirtAddr>;
}

/// Why an access was not made.
pub(crate) enum Refused {
    /// The address is beyond the length.
    Checked,
    /// The access faulted.
    Faulted(FaultReport),
    /// The memory could not be asked.
    Unknown(InstanceError),
}

impl Refused {
    pub(crate) fn trap(&self) -> Trap {
        match self {
            Self::Faulted(FaultReport { region: FaultRegion::Uncommitted(_), .. }) => Trap::MemoryUncommitted,
            Self::Faulted(_) | Self::Checked => Trap::MemoryOutOfBounds,
            Self::Unknown(error) => Trap::Refused(*error),
        }
    }
}

/// Loads from a memory of `instance`; `guarded` says that it needs no bounds
/// checks.
pub(crate) fn load<A: Guarded>(
    allocator: &Allocator<A>,
    instance: &Instance<'_, A>,
    guarded: bool,
    place: Place,
    address: u64,
) -> Result<u64, Refused> {
    let at = find(allocator, instance, guarded, place, address)?;
    resuming(allocator, FaultAccess::Read, || {
        // SAFETY: `find` gives what the memory has, or what faults.
        unsafe { allocator.arch().load(at, place.bytes) }
    })
}

/// Stores to a memory of `instance`.
pub(crate) fn store<A: Guarded>(
    allocator: &Allocator<A>,
    instance: &Instance<'_, A>,
    guarded: bool,
    place: Place,
    address: u64,
    value: u64,
) -> Result<(), Refused> {
    let at = find(allocator, instance, guarded, place, address)?;
    let next_page = VirtAddr(at.0.next_multiple_of(PAGE_SIZE as u64));
    if at.0 + place.bytes as u64 > next_page.0 && at != next_page {
        // A store that traps stores nothing. CPUs may store in the first page of two
        // before they fault in the second.
        resuming(allocator, FaultAccess::Write, || {
            // SAFETY: `find` gives what the memory has, or what faults.
            unsafe { allocator.arch().load(next_page, 1) }
        })?;
    }
    resuming(allocator, FaultAccess::Write, || {
        // SAFETY: as above.
        unsafe { allocator.arch().store(at, place.bytes, value) }
    })
}

/// Where an access goes: to a byte of the memory, or to one that faults.
fn find<A: Arch>(
    allocator: &Allocator<A>,
    instance: &Instance<'_, A>,
    guarded: bool,
    place: Place,
    address: u64,
) -> Result<VirtAddr, Refused> {
    // As it is now: any instance that has the memory may have grown, and so moved, it.
    let definition = instance.memory_definition(place.memory).map_err(Refused::Unknown)?;
    let guard = allocator.config().memory_guard_size as u64;
    if !guarded || place.offset > guard {
        let end = address.checked_add(place.offset).and_then(|start| start.checked_add(place.bytes as u64));
        end.filter(|&end| end <= definition.current_length).ok_or(Refused::Checked)?;
    }
    Ok(VirtAddr(definition.base.0 + address + place.offset))
}

/// How often an access is made again. The last frame for its page may be in another
/// CPU's hand, which does not come to it for a while.
const REPEATS: usize = 1 << 20;

/// Accesses again for as long as the allocator says that it helps.
pub(crate) fn resuming<A: Arch, T>(
    allocator: &Allocator<A>,
    kind: FaultAccess,
    access: impl Fn() -> Result<T, VirtAddr>,
) -> Result<T, Refused> {
    let mut last = VirtAddr(0);
    for _ in 0..REPEATS {
        let address = match access() {
            Ok(done) => return Ok(done),
            Err(address) => address,
        };
        match allocator.fault(address, kind) {
            Verdict::Resume => last = address,
            Verdict::Trap(report) => return Err(Refused::Faulted(report)),
            Verdict::NotOurs => return Err(Refused::Checked),
        }
    }
    // A machine that names another address than the one that faulted ends here.
    Err(Refused::Unknown(Error::Inaccessible { address: last }.into()))
}
