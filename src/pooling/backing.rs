//! The frames of a slot: where they come from, and when they are promised.
//!
//! | backing | when a page becomes accessible | if it is shared: then, and at its first write |
//! |---|---|---|
//! | `Fixed` | gets the frame that is its own | -, gets that frame |
//! | `Elastic`, strict | gets one of the arena | is promised one, gets it |
//! | `Elastic`, per instance | - | -, gets one of those promised at allocation |

use core::sync::atomic::Ordering;

use allotment_arch::{Arch, PAGE_SIZE};

use super::{slot::SlotState, slot_edits::Slot, slot_pool::SlotBacking};
use crate::{Error, vm::pages};

impl<A: Arch> Slot<'_, A> {
    /// Gives pages `from..last` tables and frames, of a slot that does not share.
    /// Pages before `from` have theirs.
    pub(super) fn populate(&self, state: &mut SlotState, from: usize, last: usize) -> Result<(), Error> {
        match self.pool.settings.backing {
            SlotBacking::Fixed { first } => {
                let from = from.max(state.resident);
                if from < last {
                    let pages = self.pool.settings.layout.max_memory_size / PAGE_SIZE;
                    let frame = first.offset((self.number as usize * pages + from) * PAGE_SIZE);
                    // SAFETY: the carve set as many frames as there are pages
                    // aside for each slot.
                    unsafe { pages::fill_from(self.vm, self.near(from, last), frame) };
                }
            }
            SlotBacking::Strict | SlotBacking::PerInstance { .. } => {
                let from = from.max(state.resident);
                if from < last {
                    self.fill(state, from, last)?;
                }
            }
        }
        state.resident = state.resident.max(last);
        state.top = state.top.max(last);
        Ok(())
    }

    /// Gives pages frames of the arena, and tables where they lack them.
    fn fill(&self, state: &mut SlotState, from: usize, last: usize) -> Result<(), Error> {
        // Counted first, so that running out changes nothing.
        let tables = self.count_missing_tables(from, last);
        let mut empty = last - from;
        if from < state.top {
            self.for_each_run(from, last.min(state.top), |run| {
                empty -= run.len() - pages::count_empty::<A>(run);
            });
        }
        let mut promise = self.vm.promise(tables + empty)?;
        state.far += self.make_tables(from, last, &mut promise);
        self.for_each_run(from, last, |run| pages::fill::<A>(run, &mut promise));
        self.record.frames.fetch_add(empty, Ordering::Relaxed);
        Ok(())
    }

    /// Takes back what is left of what was promised. Returns how many frames that were.
    #[inline]
    pub(super) fn unpromise(&self) -> usize {
        if matches!(self.pool.settings.backing, SlotBacking::Fixed { .. }) {
            return 0;
        }
        let pages = self.record.promised.swap(0, Ordering::AcqRel);
        let tables = self.record.promised_tables.swap(0, Ordering::AcqRel);
        self.vm.arena.release(pages + tables);
        pages + tables
    }
}
