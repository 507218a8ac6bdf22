//! What the tests of the pools share.

use alloc::vec::Vec;
use core::ptr::NonNull;

use allotment::{
    FaultAccess, FaultReport, Metrics, PoolingAllocatorMetrics, Table, TableRequest, Verdict, arch::VirtAddr,
};

use crate::common::{Machine, PAGE, TestArch};

/// Elements that a page of a table holds.
pub(crate) const ELEMENTS: usize = PAGE / 8;

/// The address of a byte, counted from a pointer.
pub(crate) fn at(first: NonNull<u8>, offset: i64) -> VirtAddr {
    VirtAddr((first.as_ptr() as u64).wrapping_add_signed(offset))
}

/// What the allocator reports of an access that it refuses.
pub(crate) fn report<A: TestArch>(m: &Machine<A>, address: VirtAddr) -> FaultReport {
    match m.allocator.fault(address, FaultAccess::Write) {
        Verdict::Trap(report) => report,
        other => panic!("{address}: {other:?}"),
    }
}

pub(crate) fn pooling<A: TestArch>(m: &Machine<A>) -> PoolingAllocatorMetrics {
    m.allocator.pooling_allocator_metrics().expect("it has pools")
}

/// Frames that can be had this moment.
pub(crate) fn free<A: TestArch>(m: &Machine<A>) -> usize {
    m.allocator.metrics().available_frames
}

/// Those, and what memories share: the first of some size has it made, and it stays.
pub(crate) fn available<A: TestArch>(m: &Machine<A>) -> usize {
    let Metrics { available_frames, shared_frames, .. } = m.allocator.metrics();
    available_frames + shared_frames
}

/// Has what memories of so many pages of zeros share made, without giving any slot a past.
pub(crate) fn warm<A: TestArch>(m: &Machine<A>, sizes: &[usize]) {
    let nothing = m.allocator.allocate_memory(0).unwrap();
    let image = m.allocator.capture_memory(&nothing).unwrap();
    m.allocator.deallocate_memory(nothing);
    for pages in sizes {
        let memory = m.allocator.allocate_memory_from(&image, pages * PAGE).unwrap();
        m.allocator.deallocate_memory(memory);
    }
}

/// All that is counted. Slots that keep frames may have lost them, so which of
/// the available frames are idle is left out, and which are shared.
pub(crate) fn counts<A: TestArch>(m: &Machine<A>) -> [usize; 6] {
    let Metrics { memories, free_memories, tables, stacks, gc_heaps, .. } = m.allocator.metrics();
    [memories, free_memories, tables, stacks, gc_heaps, available(m)]
}

/// Takes frames until so many are available, into tables of at most so many
/// pages: they have their page tables, and always their frames.
pub(crate) fn leave<A: TestArch>(m: &Machine<A>, frames: usize, most: usize) -> Vec<Table<'_, A>> {
    let mut fillers = Vec::new();
    while let Some(more) = free(m).checked_sub(frames).filter(|&more| more > 0) {
        let request = TableRequest::new(more.min(most) * ELEMENTS);
        fillers.push(m.allocator.allocate_table(request).expect("there are tables to fill the arena with"));
    }
    assert_eq!(free(m), frames);
    fillers
}

/// Gives them back.
pub(crate) fn release<'a, A: TestArch>(m: &'a Machine<A>, fillers: Vec<Table<'a, A>>) {
    fillers.into_iter().for_each(|table| m.allocator.deallocate_table(table));
}
