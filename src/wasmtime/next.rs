//! Which slot a memory gets, before it is known whose memory it is.
//!
//! ```text
//!   mmap_new(4 GiB + guards)      a slot is taken here ...
//!   mprotect(read, write)
//!   memory_image_map_at(image)    ... and only this says for which module
//! ```
//!
//! A slot that showed the same image last needs nothing but to be linked again; another one
//! is made anew. So the module is told or guessed:
//!
//! * An embedder [says](Platform::for_module) which module it instantiates on this CPU.
//! * Else what came after the memory that this CPU mapped last is taken to come again: the
//!   same module time after time, or several in some order. A wrong guess costs what no
//!   guess would.

use core::sync::atomic::{AtomicU64, Ordering};

use allotment_arch::Arch;

use super::Platform;
use crate::{CompiledModuleId, MemoryInModule, pooling::SlotId};

/// Memories whose successors are kept in mind.
const MOST: usize = 64;

/// What a memory shows: the place of its image's record, or this.
const NO_IMAGE: u64 = 1;

/// In the second of a CPU's two numbers: the embedder said whose the next memory is, and the
/// rest counts those that were mapped since. Else it is the last memory's slot, plus one.
const TOLD: usize = 1 << 63;

/// What came after what. A place is shared by what falls on it: it is only a guess. What shows no image is common,
/// and has the last place for itself.
#[derive(Debug)]
pub(super) struct Successors([[AtomicU64; 2]; MOST + 1]);

impl Successors {
    pub(super) const fn new() -> Self {
        Self([const { [const { AtomicU64::new(0) }; 2] }; MOST + 1])
    }

    fn after(&self, shown: u64) -> Option<u64> {
        let [of, next] = self.place(shown);
        (of.load(Ordering::Relaxed) == shown).then(|| next.load(Ordering::Relaxed))
    }

    fn learn(&self, shown: u64, after: u64) {
        let [of, next] = self.place(shown);
        of.store(shown, Ordering::Relaxed);
        next.store(after, Ordering::Relaxed);
    }

    fn place(&self, shown: u64) -> &[AtomicU64; 2] {
        if shown == NO_IMAGE {
            return &self.0[MOST];
        }
        // Records of images are whole pages.
        &self.0[to_usize(shown >> 12 ^ shown >> 18) % MOST]
    }
}

/// Whose memory is mapped next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Next {
    /// Whose slot is asked for.
    pub(super) key: Option<MemoryInModule>,
    /// What the memory before it shows, unless the embedder told.
    before: Option<u64>,
}

impl<A: Arch> Platform<A> {
    /// Runs `work`, in which memories that are mapped on this CPU are those of `module`, in
    /// their order: around an instantiation. They get the slots that it had last, where
    /// those are free, and fault reports name it.
    ///
    /// It is a hint: whatever is mapped, and wherever `work` goes on, all is as it would be
    /// without, but for the time that it takes. When the module is gone,
    /// [`purge_module`](crate::Allocator::purge_module) forgets it.
    pub fn for_module<T>(&self, module: CompiledModuleId, work: impl FnOnce() -> T) -> T {
        let here = self.unswitched(|| {
            let here = self.here();
            let [.., first, second] = &here.numbers;
            first.store(to_usize(module.0), Ordering::Relaxed);
            second.store(TOLD, Ordering::Relaxed);
            here
        });
        let done = work();
        // There, wherever this goes on now.
        let [.., first, second] = &here.numbers;
        if second.load(Ordering::Relaxed) & TOLD != 0 {
            first.store(0, Ordering::Relaxed);
            second.store(0, Ordering::Relaxed);
        }
        done
    }

    /// Whose the memory is that this CPU maps next.
    pub(super) fn next_memory(&self) -> Next {
        let [.., first, second] = &self.here().numbers;
        let (first, second) = (first.load(Ordering::Relaxed) as u64, second.load(Ordering::Relaxed));
        if second & TOLD != 0 {
            let index = u32::try_from(second & !TOLD).unwrap_or(u32::MAX);
            return Next {
                key: Some(MemoryInModule { module: CompiledModuleId(first), index }),
                before: None,
            };
        }
        let Some(last) = second.checked_sub(1).and_then(|slot| u32::try_from(slot).ok()) else {
            return Next { key: None, before: Some(0) };
        };
        // By now it shows what it was mapped for.
        let shown = self.shown(last);
        if first != 0 {
            self.successors.learn(first, shown);
        }
        Next { key: key(self.successors.after(shown).unwrap_or(shown)), before: Some(shown) }
    }

    /// Keeps in mind what this CPU mapped.
    pub(super) fn begin_memory(&self, id: SlotId, next: Next) {
        let [.., first, second] = &self.here().numbers;
        match next.before {
            None => second.store(second.load(Ordering::Relaxed) + 1, Ordering::Relaxed),
            Some(before) => {
                // The key is no module that anybody knows.
                self.memories().disown(id.slot);
                first.store(to_usize(before), Ordering::Relaxed);
                second.store(id.slot as usize + 1, Ordering::Relaxed);
            }
        }
    }

    /// Has a slot that ends be one of what it shows, for whoever maps that next.
    pub(super) fn note_shown(&self, id: SlotId) {
        if self.memories().owner_of(id.slot).is_none() {
            self.memories().index.set_key(id.slot, key(self.shown(id.slot)));
        }
    }

    fn shown(&self, slot: u32) -> u64 {
        self.memories().image_of(slot).map_or(NO_IMAGE, |image| image.frame().0)
    }
}

/// The key of slots that show this.
fn key(shown: u64) -> Option<MemoryInModule> {
    (shown != NO_IMAGE).then_some(MemoryInModule { module: CompiledModuleId(shown), index: 0 })
}

#[expect(clippy::cast_possible_truncation, reason = "usize is 64 bits on every supported target")]
fn to_usize(number: u64) -> usize {
    number as usize
}
