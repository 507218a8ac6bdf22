//! Regions that are named by address, for code and whatever an embedder
//! wants: any page of one can have any access.

use allotment_arch::{Access, Arch, PAGE_SIZE, Pages, VirtAddr, page_ceil};
use spin::MutexGuard;

use super::{Label, REGION_GRANULE, RegionRecord, Regions, Reservation, tables};
use crate::{
    Error,
    vm::{Vm, pages},
};

/// In the kind of a plain region's label: it holds a memory. Its index is the
/// guard on either side, in pages.
pub(crate) const MAPPED_MEMORY: u32 = 1 << 9;

/// Whether a region is named by address.
fn is_plain(label: Label) -> bool {
    label == Label::default() || label.kind == MAPPED_MEMORY
}

impl Regions {
    /// Sets address space aside, in whole granules, and one more that stays
    /// empty as a guard. With `inner_guard` it is to hold a memory, after so many
    /// bytes and before as many: faults there are reported as a memory's.
    pub(crate) fn reserve_plain(&self, bytes: usize, inner_guard: usize) -> Result<VirtAddr, Error> {
        let no_space = Error::OutOfAddressSpace { requested: bytes };
        let bytes = bytes.checked_next_multiple_of(REGION_GRANULE).ok_or(no_space)?;
        let label = match u32::try_from(inner_guard / PAGE_SIZE) {
            Ok(pages) if pages > 0 => Label { kind: MAPPED_MEMORY, index: pages, module: 0 },
            _ => Label::default(),
        };
        let wanted = Reservation { guard_before: 0, bytes, guard_after: REGION_GRANULE, label, lazy: false };
        Ok(self.reserve(&wanted)?.1)
    }

    /// Gives all pages of `[start, start + bytes)` the same access, or none.
    /// Pages that had no frame get one of zeros; the others keep their bytes.
    pub(crate) fn protect<A: Arch>(
        &self,
        vm: &Vm<A>,
        start: VirtAddr,
        bytes: usize,
        access: Option<Access>,
    ) -> Result<(), Error> {
        let range = self.hold_range(start, bytes)?;
        let part = range.pages;
        let Some(access) = access else {
            let _ = vm.settle(tables::hide(vm, part));
            return Ok(());
        };
        if access == Access::ReadWrite && vm.arena.has_shared() {
            let mut shared = false;
            tables::for_each_run(vm, part, |run| shared |= pages::any_shared(vm, run));
            if shared {
                return Err(Error::InImage { address: start, bytes });
            }
        }
        // Count first, so that running out changes nothing.
        let mut frames = vm.promise(tables::count_missing(vm, part))?;
        range.record.set_reach(range.record.reach().max(range.end));
        let taken = tables::give(vm, part, access, &mut frames);
        let _ = vm.settle(taken);
        if access == Access::ReadExecute {
            // To the end of the last page: all of it can be executed.
            vm.arch.synchronise_code(start, part.count * PAGE_SIZE);
        }
        Ok(())
    }

    /// Makes `[start, start + bytes)` read as zeros, where it has frames, and
    /// takes all access away.
    pub(crate) fn reset<A: Arch>(&self, vm: &Vm<A>, start: VirtAddr, bytes: usize) -> Result<(), Error> {
        let range = self.hold_range(start, bytes)?;
        let _ = vm.settle(tables::hide(vm, range.pages));
        // SAFETY: nothing of the pages is cached on any CPU since the line above.
        unsafe { tables::scrub(vm, range.pages) };
        Ok(())
    }

    /// Takes the frames of `[start, start + bytes)` back, and all access. Leaf
    /// tables stay with the region.
    #[cfg(feature = "instance")]
    pub(crate) fn discard<A: Arch>(&self, vm: &Vm<A>, start: VirtAddr, bytes: usize) -> Result<(), Error> {
        let range = self.hold_range(start, bytes)?;
        let settled = vm.settle(tables::hide(vm, range.pages));
        // SAFETY: nothing of the pages is cached on any CPU since the line above.
        unsafe { tables::scrub(vm, range.pages) };
        // SAFETY: hidden before `settled`.
        unsafe { tables::strip(vm, range.pages, settled) };
        Ok(())
    }

    /// Ends the plain region whose base is `start` and that was reserved with
    /// as many granules as `bytes` need.
    pub(crate) fn release_at<A: Arch>(&self, vm: &Vm<A>, start: VirtAddr, bytes: usize) -> Result<(), Error> {
        let unknown = Error::UnknownRange { address: start, bytes };
        let id = self.locate(start).filter(|position| position.offset == 0).ok_or(unknown)?.id;
        let (record, editing) = self.hold(id).map_err(|_| unknown)?;
        let extent = record.extent();
        let granules = bytes.div_ceil(REGION_GRANULE);
        if !is_plain(extent.label) || extent.bytes.div_ceil(REGION_GRANULE) != granules {
            return Err(unknown);
        }
        self.dissolve(vm, id.record, record, editing);
        Ok(())
    }

    /// Holds the plain region in which a range lies.
    fn hold_range(&self, start: VirtAddr, bytes: usize) -> Result<HeldRange<'_>, Error> {
        let unknown = Error::UnknownRange { address: start, bytes };
        let position = self.locate(start).ok_or(unknown)?;
        let (record, editing) = self.hold(position.id).map_err(|_| unknown)?;
        let offset = usize::try_from(position.offset).map_err(|_| unknown)?;
        let rounded = page_ceil(bytes).ok_or(unknown)?;
        let end = offset.checked_add(rounded).filter(|&end| end <= position.bytes).ok_or(unknown)?;
        if !is_plain(position.label) || !start.is_aligned(PAGE_SIZE) {
            return Err(unknown);
        }
        let pages = Pages { start, count: rounded / PAGE_SIZE };
        Ok(HeldRange { record, _editing: editing, pages, end })
    }
}

/// A range of a region that is held for editing.
struct HeldRange<'a> {
    record: &'a RegionRecord,
    _editing: MutexGuard<'a, ()>,
    pages: Pages,
    /// Bytes from the base to its end.
    end: usize,
}
