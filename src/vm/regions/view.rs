//! Regions, as they are shown to whoever wants to see them.

use core::sync::atomic::Ordering;

use allotment_arch::{Access, Arch, Entry, Format, PAGE_SIZE, Pages, VirtAddr};

use super::{Regions, tables, word_and_bit};
use crate::vm::Vm;

/// A region as it was when it was looked at. Sizes are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionView {
    /// Address of its first byte.
    pub start: VirtAddr,
    /// Its address space, in multiples of 2 MiB, without the guard behind it.
    pub bytes: usize,
    /// What can be accessed.
    pub accessible: usize,
    /// What of that can be executed.
    pub executable: usize,
    /// What has frames of its own, accessible or not.
    pub resident: usize,
}

impl Regions {
    /// The first region that begins at granule `from` or after it, and the
    /// granule behind its end.
    pub(crate) fn view<A: Arch>(&self, vm: &Vm<A>, from: usize) -> Option<(RegionView, usize)> {
        let mut from = from;
        loop {
            let first = self.begin_from(from)?;
            from = first + 1;
            let number = self.record_at.as_slice()[first].load(Ordering::Relaxed);
            let record = self.records.as_slice().get(number as usize)?;
            let _editing = record.editing.lock();
            let (extent, reach) = (record.extent(), record.reach());
            if record.generation().is_none() || extent.first != first {
                // It ended meanwhile.
                continue;
            }
            let start = self.base(&extent);
            let mut view =
                RegionView { start, bytes: extent.bytes, accessible: 0, executable: 0, resident: 0 };
            tables::for_each_run(vm, Pages { start, count: reach / PAGE_SIZE }, |run| {
                for entry in run {
                    let entry = A::Format::decode(entry.load(Ordering::Relaxed));
                    view.resident += if entry.own_frame().is_some() { PAGE_SIZE } else { 0 };
                    if let Entry::Present { access, .. } = entry {
                        view.accessible += PAGE_SIZE;
                        view.executable += if access == Access::ReadExecute { PAGE_SIZE } else { 0 };
                    }
                }
            });
            return Some((view, first + extent.granules));
        }
    }

    /// The first granule from `granule` on where a region begins.
    fn begin_from(&self, granule: usize) -> Option<usize> {
        let begins = self.begins.as_slice();
        let (mut at, bit) = word_and_bit(granule);
        let mut candidates = begins.get(at)?.load(Ordering::Acquire) & !(bit - 1);
        while candidates == 0 {
            at += 1;
            candidates = begins.get(at)?.load(Ordering::Acquire);
        }
        Some(at * 64 + candidates.trailing_zeros() as usize)
    }
}
