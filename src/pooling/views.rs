//! Slots, as they are shown to whoever wants to see them.

use core::sync::atomic::Ordering;

use allotment_arch::VirtAddr;

use super::{PoolKind, SlotPool, is_in_use};
use crate::MemoryInModule;

/// A slot as it was when it was looked at. Sizes are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlotView {
    /// Which pool it belongs to: memories, tables or stacks.
    pub pool: PoolKind,
    /// Which of the memory pools: 0 for the main one, as for all that is no memory's.
    pub memory_pool: usize,
    /// Its number in the pool, from 0.
    pub slot: u32,
    /// Address of its first byte.
    pub base: VirtAddr,
    /// Whether somebody holds it.
    pub in_use: bool,
    /// Changes whenever the slot is given out or taken back; 0 if it never was.
    pub generation: u64,
    /// What can be accessed, from the first byte on.
    pub accessible: usize,
    /// What has frames, accessible or kept for the next holder.
    pub resident: usize,
    /// Whose it is, or was last.
    pub owner: Option<MemoryInModule>,
    /// Contiguous runs of 64 KiB, each of which may take one TLB entry: of memories whose
    /// users write them as a whole, with `Fixed` on aarch64.
    pub contiguous_runs: usize,
    /// Blocks of 2 MiB, the same: with `Fixed`. Runs within them count too.
    pub blocks: usize,
}

impl SlotPool {
    /// Every slot, as it is when its turn comes.
    pub(crate) fn views(&self) -> impl Iterator<Item = SlotView> {
        (0..).zip(self.slots.as_slice()).map(|(slot, record)| {
            let state = record.state.lock();
            let generation = record.generation.load(Ordering::Relaxed);
            SlotView {
                pool: self.kind(),
                memory_pool: self.number(),
                slot,
                base: self.base(slot),
                in_use: is_in_use(generation),
                generation,
                accessible: record.accessible.load(Ordering::Relaxed),
                resident: self.resident_bytes(record, &state),
                owner: record.owner(),
                contiguous_runs: state.larger.runs,
                blocks: state.larger.blocks,
            }
        })
    }
}
