//! A space, the frames that it shows, and what is in them.

use alloc::{vec, vec::Vec};

use allotment::{
    arch::{Access, Entry, Format, Invalidation, PAGE_SIZE, Pages, PhysAddr, TABLE_SPAN, VirtAddr},
    space::{Edit, Reserve, SharedTable, Space},
};

use crate::{
    common::{self, Fault, TestArch, on},
    pages::{GRANULE, GRANULES, Granule, Map, PAGES, RESERVE, frame_of, is_written, set_written},
    random::{Random, Trace},
};

/// Pages for records and directories of the space.
const OVERHEAD: usize = 6;
/// Shared tables that there are.
pub(crate) const TABLES: usize = 2;
/// Frames that many pages show, and none may write: zeros and images.
pub(crate) const LENT: usize = 3;

/// How large a world is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Frames of which each is shown by one page at most.
    pub(crate) own: usize,
    /// Frames for the tables of granules.
    pub(crate) tables: usize,
}

impl Size {
    fn arena(self) -> usize {
        (OVERHEAD + self.tables + TABLES + RESERVE) * PAGE_SIZE
    }

    /// Own frames begin at a multiple of this.
    fn alignment(self) -> usize {
        if self.own >= GRANULE { TABLE_SPAN } else { 16 * PAGE_SIZE }
    }

    fn memory(self) -> usize {
        self.arena() + self.alignment() + (self.own + LENT) * PAGE_SIZE
    }
}

/// The machine's part, which outlives its sequences.
pub(crate) struct Ground<A: TestArch> {
    pub(crate) space: Space<A>,
    frames: PhysAddr,
    size: Size,
    /// Frames for tables, before any sequence.
    available: usize,
}

impl<A: TestArch> Ground<A> {
    /// A window of three granules, the first of them the last of a directory.
    pub(crate) fn new(size: Size) -> Self {
        let (arch, window, arena) = A::machine(size.memory());
        let start = window.start.offset((1 << 30) - TABLE_SPAN);
        let window = start..start.offset(GRANULES * TABLE_SPAN);
        let tables = arena.start..arena.start.offset(size.arena());
        let frames = PhysAddr(tables.end.0.next_multiple_of(size.alignment() as u64));
        assert!(frames.offset((size.own + LENT) * PAGE_SIZE) <= arena.end);
        // SAFETY: machine, window and arena are this test's.
        let space = unsafe { Space::new(arch, window, tables) }.unwrap();
        let available = space.available_frames();
        Self { space, frames, size, available }
    }
}

/// The model beside the real thing, for one sequence.
pub(crate) struct World<'g, A: TestArch> {
    pub(crate) space: &'g Space<A>,
    pub(crate) reserve: Reserve<'g, RESERVE, A>,
    pub(crate) tables: [SharedTable; TABLES],
    /// What each shared table shows.
    pub(crate) shown: [Vec<Entry>; TABLES],
    pub(crate) map: Map,
    pub(crate) random: Random,
    pub(crate) trace: Trace,
    /// What was edited and is not settled yet.
    pub(crate) pending: Edit,
    /// CPUs that may still use what edits took away that were settled on another.
    pub(crate) behind: Vec<bool>,
    frames: PhysAddr,
    size: Size,
    /// Frames for tables, before the sequence.
    at_first: usize,
    /// By frame number: own frames, then lent ones.
    bytes: Vec<u8>,
    free: Vec<bool>,
    /// Frames that no page shows any more, and some CPU may still.
    parked: Vec<PhysAddr>,
}

impl<'g, A: TestArch> World<'g, A> {
    pub(crate) fn new(ground: &'g Ground<A>, cpus: usize, seed: u64) -> Self {
        let Ground { space, frames, size, available } = ground;
        let start = space.window().start;
        let reserve = space.reserve().expect("the arena is empty");
        let lent = |n: usize| frames.offset((size.own + n) * PAGE_SIZE);
        // Images of one page in three, and zeros around both borders.
        let image = |nth: usize, page: usize| match (page + nth) % 3 {
            0 => {
                Some((lent(1 + nth), if page.is_multiple_of(2) { Access::Read } else { Access::CopyOnWrite }))
            }
            1 => Some((lent(0), Access::CopyOnWrite)),
            _ => None,
        };
        let tables = [0, 1].map(|nth| {
            SharedTable::build(space, |page| image(nth, page)).expect("the arena has room for them")
        });
        let entry = |(frame, access)| Entry::Present { frame, access, written: false };
        let shown = [0, 1].map(|nth| {
            (0..GRANULE).map(|page| image(nth, page).map_or(Entry::NONE, entry)).collect::<Vec<_>>()
        });
        let mut world = Self {
            space,
            reserve,
            tables,
            shown,
            map: Map::new(space.arch(), start, space.available_frames()),
            random: Random::new(seed),
            trace: Trace::new(A::Format::NAME, seed),
            pending: Edit::NOTHING,
            behind: vec![false; cpus],
            frames: *frames,
            size: *size,
            at_first: *available,
            bytes: vec![0; size.own + LENT],
            free: vec![true; size.own],
            parked: Vec::new(),
        };
        for n in 0..LENT {
            world.fill(lent(n), [0, 0x11, 0x22][n]);
        }
        world
    }

    /// Frames are seen by one byte, not always the first.
    fn offset(n: usize) -> usize {
        n * 321 % PAGE_SIZE
    }

    fn number(&self, frame: PhysAddr) -> usize {
        usize::try_from(frame.0 - self.frames.0).unwrap() / PAGE_SIZE
    }

    /// Writes a frame that no page shows.
    fn fill(&mut self, frame: PhysAddr, byte: u8) {
        let n = self.number(frame);
        // SAFETY: the frame is the test's, and nobody can reach it.
        unsafe { self.space.arch().zero_frame(frame) };
        let at = self.space.arch().physical(frame.offset(Self::offset(n)));
        // SAFETY: as above.
        unsafe { at.write(byte) };
        self.bytes[n] = byte;
    }

    pub(crate) fn lent(&self, n: usize) -> PhysAddr {
        self.frames.offset((self.size.own + n) * PAGE_SIZE)
    }

    /// Whether other pages may show the frame as well.
    pub(crate) fn is_lent(&self, frame: PhysAddr) -> bool {
        self.number(frame) >= self.size.own
    }

    /// Frames that nobody shows, adjacent and aligned where that is possible.
    /// They are free until they are [kept](Self::keep).
    pub(crate) fn take(&mut self, count: usize) -> Option<Vec<PhysAddr>> {
        if self.free.iter().filter(|&&free| free).count() < count {
            self.forget_all();
        }
        if count > self.size.own {
            return None;
        }
        let run = (0..=self.size.own - count)
            .step_by(count.next_power_of_two())
            .find(|&first| count > 1 && self.free[first..first + count].iter().all(|&free| free));
        let numbers: Vec<_> = match run {
            Some(first) => (first..first + count).collect(),
            None => {
                let skip = self.random.below(self.size.own);
                let all = (skip..self.size.own).chain(0..skip);
                all.filter(|&n| self.free[n]).take(count).collect()
            }
        };
        if numbers.len() < count {
            return None;
        }
        let frames: Vec<_> = numbers.into_iter().map(|n| self.frames.offset(n * PAGE_SIZE)).collect();
        for &frame in &frames {
            let byte = self.random.byte();
            self.fill(frame, byte);
        }
        Some(frames)
    }

    /// Frames that pages show now.
    pub(crate) fn keep(&mut self, frames: &[PhysAddr]) {
        for &frame in frames {
            let n = self.number(frame);
            self.free[n] = false;
        }
    }

    /// A frame that no page shows any more, and that every CPU has forgotten
    /// if it is so `settled`.
    pub(crate) fn release(&mut self, frame: PhysAddr, settled: bool) {
        if self.is_lent(frame) {
            return;
        }
        if settled {
            let n = self.number(frame);
            self.free[n] = true;
        } else {
            self.parked.push(frame);
        }
    }

    /// A copy of a frame, in one of `take`.
    pub(crate) fn copy(&mut self, from: PhysAddr, to: PhysAddr) {
        // SAFETY: nobody can reach `to`, and no one writes `from` meanwhile.
        unsafe { self.space.arch().copy_frame(from, to) };
        let (from, to) = (self.number(from), self.number(to));
        // Each frame is seen at another byte.
        let at = self.space.arch().physical(self.frames.offset(to * PAGE_SIZE + Self::offset(from)));
        // SAFETY: as above.
        let byte = unsafe { at.read() };
        self.trace.agree("the byte that was copied", &byte, &self.bytes[from]);
        let byte = self.bytes[from];
        self.fill(self.frames.offset(to * PAGE_SIZE), byte);
    }

    /// Settles what is pending, on all CPUs.
    pub(crate) fn settle(&mut self) {
        self.space.settle(core::mem::replace(&mut self.pending, Edit::NOTHING));
    }

    /// The same on this CPU alone: others have to catch up.
    pub(crate) fn settle_here(&mut self) {
        let here = self.space.arch().current_cpu();
        for (cpu, behind) in self.behind.iter_mut().enumerate() {
            *behind |= cpu != here;
        }
        self.space.settle_here(core::mem::replace(&mut self.pending, Edit::NOTHING));
    }

    /// Makes every CPU forget all, so that parked frames can be used.
    pub(crate) fn forget_all(&mut self) {
        self.settle();
        self.space.arch().invalidate_everywhere(Invalidation::EVERYTHING);
        self.behind.fill(false);
        for frame in core::mem::take(&mut self.parked) {
            self.release(frame, true);
        }
    }

    /// This CPU uses pages now: everything must be settled as far as it goes.
    fn arrive(&mut self) {
        self.settle();
        let here = self.space.arch().current_cpu();
        if core::mem::take(&mut self.behind[here]) {
            self.space.arch().invalidate_local(Invalidation::EVERYTHING);
        }
    }

    /// The byte that a page shows, or none.
    fn seen(&self, n: usize) -> Option<(VirtAddr, u8)> {
        let Entry::Present { frame, .. } = self.map.pages[n] else { return None };
        let number = self.number(frame);
        Some((self.map.page(n).offset(Self::offset(number)), self.bytes[number]))
    }

    pub(crate) fn load(&mut self, n: usize) {
        self.arrive();
        let seen = self.seen(n);
        let address = seen.map_or(self.map.page(n), |(address, _)| address);
        let real = self.space.arch().load(address);
        self.trace.agree("the byte loaded", &real, &seen.map(|(_, byte)| byte).ok_or(Fault(address)));
    }

    pub(crate) fn store(&mut self, n: usize, byte: u8) {
        self.arrive();
        let address = self.seen(n).map_or(self.map.page(n), |(address, _)| address);
        let mut real = self.space.arch().store(address, byte);
        for _ in 0..2 {
            if real.is_err() && self.space.write_fault(address) {
                real = self.space.arch().store(address, byte);
            }
        }
        let Entry::Present { frame, access: Access::ReadWrite, .. } = self.map.pages[n] else {
            return self.trace.agree("what became of a store", &real, &Err(Fault(address)));
        };
        self.trace.agree("what became of a store", &real, &Ok(()));
        self.map.write(n);
        let number = self.number(frame);
        self.bytes[number] = byte;
    }

    /// Compares every page, and all that is counted.
    pub(crate) fn check(&mut self) {
        self.settle();
        let mut real: Vec<_> =
            (0..PAGES).map(|n| self.space.entry(self.map.page(n)).expect("it is in the window")).collect();
        // The mark of a run is in any of its entries.
        for (run, entries) in real.chunks_exact_mut(self.map.run).enumerate() {
            if self.map.runs[run] && entries.iter().any(|&entry| is_written(entry)) {
                entries.iter_mut().for_each(|entry| set_written(entry, true));
            }
        }
        for (n, entry) in real.iter().enumerate() {
            if *entry != self.map.pages[n] {
                self.trace
                    .fail(&alloc::format!("page {n} is {entry:?}, the model says {:?}", self.map.pages[n]));
            }
        }
        self.trace.agree("frames for tables", &self.space.available_frames(), &self.map.available);
        self.trace.agree("frames in the reserve", &self.reserve.len(), &self.map.reserve);
        self.space.arch().audit();
    }

    /// Takes everything back, and counts it.
    pub(crate) fn clear(mut self) {
        self.check();
        let edit = |edit| self.space.settle(edit);
        for granule in 0..GRANULES {
            let start = self.map.page(granule * GRANULE);
            if self.map.granules[granule] == Granule::Shared {
                // SAFETY: nobody else is there.
                edit(unsafe { self.space.unshare(start) }.unwrap());
            }
            let pages = Pages { start, count: GRANULE };
            // SAFETY: as above.
            edit(unsafe { self.space.unmap(pages, |_, _, _| ()) }.unwrap());
            // SAFETY: as above.
            edit(unsafe { self.space.set_state(pages, 0) }.unwrap());
            // Only this takes tables back.
            // SAFETY: as above; the table is this space's.
            edit(unsafe { self.space.share(start, &self.tables[0]) }.unwrap());
            // SAFETY: as above.
            edit(unsafe { self.space.unshare(start) }.unwrap());
        }
        for table in self.tables {
            // SAFETY: no granule points to it since the lines above.
            unsafe { self.space.free_table(table) };
        }
        drop(self.reserve);
        self.trace.agree("frames for tables, in the end,", &self.space.available_frames(), &self.at_first);
        self.space.arch().audit();
    }

    /// Frames that pages show, of a range.
    pub(crate) fn shown_by(&self, numbers: core::ops::Range<usize>) -> impl Iterator<Item = PhysAddr> {
        self.map.pages[numbers].iter().filter_map(|&entry| frame_of(entry))
    }

    /// Runs a step as one of the CPUs.
    pub(crate) fn as_cpu(&mut self, cpu: usize, step: impl FnOnce(&mut Self) + Send) {
        let space = self.space;
        on(space.arch(), cpu, || step(self));
    }
}

/// How many CPUs a sequence uses.
pub(crate) fn cpus_of(seed: u64) -> usize {
    1 + usize::try_from(seed % 4).unwrap().min(common::cpus() - 1)
}
