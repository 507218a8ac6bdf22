//! One tenant: a memory, and what it should see there.

use alloc::format;
use core::{ops::Range, ptr::NonNull};

use allotment::{
    Error, FaultAccess, FaultRegion, Memory, Verdict,
    arch::{PhysAddr, VirtAddr, translate},
};

use crate::{
    common::{Fault, Machine, PAGE, TestArch, at, resuming},
    contents::{Expected, Page, WORDS},
    random::{Random, Trace},
};

/// Pages of which all are looked at. Of larger memories, those near something and some
/// others.
const SMALL: usize = 640;

pub(crate) struct Tenant<'a, A: TestArch> {
    pub(crate) memory: Memory<'a, A>,
    pub(crate) expected: Expected,
    /// Its number, which is in each word that it writes.
    pub(crate) mark: u64,
    /// Whether it began with no more than a wasm page.
    pub(crate) began_small: bool,
}

/// A trap: nothing else happens in this tenant's life.
#[derive(Debug)]
pub(crate) struct Trapped;

impl<A: TestArch> Tenant<'_, A> {
    /// Pages that are accessible.
    pub(crate) fn pages(&self) -> usize {
        self.memory.size().div_ceil(PAGE)
    }

    /// Looks at what there is, and that there is no more.
    pub(crate) fn look(&self, machine: &Machine<A>, random: &mut Random, trace: &Trace, all: bool) {
        let pages = self.pages();
        if pages <= if all { SMALL } else { SMALL / 4 } {
            (0..pages).for_each(|page| self.look_at(machine, trace, page));
        } else {
            self.look_here_and_there(machine, random, trace);
        }
        for beyond in [(pages * PAGE) as i64, -1] {
            if machine.load(&self.memory, beyond).is_ok() {
                trace.fail(&format!("tenant {:#x} can read at {beyond:#x}", self.mark));
            }
        }
    }

    fn look_here_and_there(&self, machine: &Machine<A>, random: &mut Random, trace: &Trace) {
        let pages = self.pages();
        let shown = self.expected.contents.pages();
        let near = [0, 512, shown.start, shown.end, pages, pages / 512 * 512].into_iter();
        let near = near.flat_map(|page: usize| page.saturating_sub(2)..page + 2);
        let some = (0..64).map(|_| random.below(pages));
        for page in near.chain(some).chain(self.expected.written()).filter(|&page| page < pages) {
            self.look_at(machine, trace, page);
        }
    }

    fn look_at(&self, machine: &Machine<A>, trace: &Trace, page: usize) {
        let address = at(&self.memory, (page * PAGE) as i64);
        let mut found = [0; WORDS];
        if !read(machine, address, &mut found) {
            trace.fail(&format!("tenant {:#x} cannot read its page {page}", self.mark));
        }
        if let Some((word, expected)) = self.expected.wrong(page, &found) {
            let (mark, contents, found) = (self.mark, self.expected.contents, found[word]);
            trace.fail(&format!(
                "tenant {mark:#x} with {contents:?} sees {found:#x} at word {word} of page {page}, not {expected:#x}"
            ));
        }
    }

    /// Leaves the tenant's mark on a part of a page.
    pub(crate) fn store(
        &mut self,
        machine: &Machine<A>,
        page: usize,
        words: Range<usize>,
    ) -> Result<(), Trapped> {
        for word in words.start..words.end {
            let address = at(&self.memory, (page * PAGE + word * 8) as i64);
            let value = self.mark ^ (page * WORDS + word) as u64;
            if !write(machine, address, value) {
                return Err(Trapped);
            }
            self.expected.page_mut(page)[word] = value;
        }
        Ok(())
    }

    /// Writes as a device would: prepared before, by another alias, and declared after.
    pub(crate) fn write_declared(
        &mut self,
        machine: &Machine<A>,
        trace: &Trace,
        first: usize,
        count: usize,
    ) -> Result<(), Error> {
        let (offset, len) = (first * PAGE + 8, count * PAGE - 16);
        let allocator = &machine.allocator;
        let len = len.min(self.memory.size().saturating_sub(offset));
        allocator.prepare_write(&self.memory, offset, len)?;
        if len == 0 {
            // The memory ends within those 8 bytes.
            return Ok(());
        }
        for page in first..(offset + len).div_ceil(PAGE) {
            let address = at(&self.memory, (page * PAGE) as i64);
            // SAFETY: the slot is the tenant's, and so are the tables.
            let Some(place) = (unsafe { translate(allocator.arch(), address) }) else {
                trace.fail(&format!("page {page} is prepared and does not translate"))
            };
            if !place.writable {
                trace.fail(&format!("page {page} is prepared and cannot be written"));
            }
            let word = page % WORDS;
            let value = !self.mark ^ word as u64;
            write_alias(machine, place.physical.offset(word * 8), value);
            self.expected.page_mut(page)[word] = value;
        }
        trace.agree("declaring", &allocator.note_written(&self.memory, offset, len), &Ok(()));
        Ok(())
    }

    /// Goes beyond the end, which is a trap in this memory.
    pub(crate) fn trap(&self, machine: &Machine<A>, trace: &Trace, access: FaultAccess) {
        let address = at(&self.memory, (self.pages() * PAGE) as i64);
        let faulted = match access {
            FaultAccess::Write => machine.store_at(address, 0xee).is_err(),
            _ => machine.load_at(address).is_err(),
        };
        trace.agree("whether the end faults", &faulted, &true);
        let verdict = machine.allocator.fault(address, access);
        let Verdict::Trap(report) = verdict else { trace.fail("the end is no trap") };
        let here = matches!(report.region, FaultRegion::Memory(_) | FaultRegion::GuardAfter(_));
        trace.agree("whether the trap is in this memory", &here, &true);
    }
}

/// Reads a page as running code would. Whether that was no trap.
fn read<A: TestArch>(machine: &Machine<A>, address: VirtAddr, into: &mut Page) -> bool {
    let into = NonNull::from(into).cast();
    // The first byte asks for the page, as it may fault on bare metal.
    machine.load_at(address).is_ok() && {
        // SAFETY: the page is the tenant's, which does nothing else meanwhile, and `into` has
        // as many bytes.
        let load = || unsafe { machine.allocator.arch().read_bytes(address, into, PAGE) };
        resuming(&machine.allocator, FaultAccess::Read, || load().map_err(Fault)).is_ok()
    }
}

/// Writes a word as running code would. Whether that was no trap.
fn write<A: TestArch>(machine: &Machine<A>, address: VirtAddr, value: u64) -> bool {
    let from = NonNull::from(&value).cast();
    // The first byte asks for the page, as it may fault on bare metal.
    machine.store_at(address, value.to_ne_bytes()[0]).is_ok() && {
        // SAFETY: the page is the tenant's, which does nothing else meanwhile, and `value` has
        // as many bytes.
        let store = || unsafe { machine.allocator.arch().write_bytes(address, from, size_of::<u64>()) };
        resuming(&machine.allocator, FaultAccess::Write, || store().map_err(Fault)).is_ok()
    }
}

/// Writes a word by the alias of all memory.
fn write_alias<A: TestArch>(machine: &Machine<A>, place: PhysAddr, value: u64) {
    let word = machine.allocator.arch().physical(place).cast::<u64>();
    // SAFETY: the frame was prepared for this, and is its tenant's own; words are aligned.
    unsafe { word.write(value) };
}
