//! Random sequences of right edits against a plain map of pages: nothing is
//! found wrong, every byte is there, and every write left its mark.

use core::sync::atomic::Ordering;

use allotment_arch::{
    Aarch64, Access, Arch, Entry, Format, Invalidation, PAGE_SIZE, Pages, PhysAddr, Scope, VirtAddr, X86_64,
    emulated::{AccessFault, Emulated, Mmu},
    x86_64::invalidate::Method,
};

use crate::tables::{Tables, leaf, page};

/// Pages on both sides of the end of a leaf table, aligned to runs.
const FIRST: usize = 512 - 32;
const COUNT: usize = 64;

/// What a page is supposed to be.
#[derive(Clone, Copy)]
struct Page {
    frame: PhysAddr,
    byte: u8,
    writable: bool,
    hidden: bool,
    written: bool,
    run: bool,
}

/// What an edit does wrong, every time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    None,
    /// This edit invalidates nothing.
    Skip(Edit),
    /// This edit invalidates on its own CPU only.
    Local(Edit),
    /// This edit invalidates one page less.
    Short(Edit),
    /// An entry is replaced while it is present.
    NoBreak,
    /// A table is taken out as if it were a page.
    LeavesOnly,
    /// One entry of a run has no hint.
    HintMissing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    Unmap,
    Hide,
    Protect,
    Clean,
    Move,
    BreakRun,
    Unlink,
}

pub(crate) struct Model<F> {
    pub(crate) mistake: Mistake,
    pub(crate) machine: Tables<F>,
    pages: Vec<Option<Page>>,
    /// Runs of sixteen frames that nobody has, and frames.
    runs: Vec<PhysAddr>,
    frames: Vec<PhysAddr>,
    state: u64,
}

impl<F: Mmu> Model<F> {
    pub(crate) fn new(machine: Emulated<F>, seed: u64) -> Self {
        let machine = Tables::new(machine.with_seed(seed));
        let runs = (0..6).map(|_| machine.run()).collect();
        let frames = (0..48).map(|_| machine.frame()).collect();
        Self { mistake: Mistake::None, machine, pages: vec![None; COUNT], runs, frames, state: seed | 1 }
    }

    fn below(&mut self, limit: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state >> 33).unwrap() % limit
    }

    fn invalidate(&self, edit: Edit, what: Invalidation) {
        match (self.mistake, what.scope()) {
            (Mistake::Skip(wrong), _) if wrong == edit => self.machine.publish(),
            (Mistake::Local(wrong), _) if wrong == edit => self.machine.invalidate_local(what),
            (Mistake::Short(wrong), Scope::Pages(pages)) if wrong == edit => {
                let shorter = Pages { count: pages.count - 1, ..pages };
                self.machine.invalidate_everywhere(Invalidation::leaves(shorter));
            }
            _ => self.machine.invalidate_everywhere(what),
        }
    }

    pub(crate) fn step(&mut self) {
        let nth = self.below(COUNT);
        let cpu = self.below(self.machine.cpus());
        let choice = self.below(24);
        allotment_arch::emulated::on_cpu(cpu, || match choice {
            0..=3 => self.map(nth),
            4 => self.unmap(nth),
            5 => self.hide_or_reveal(nth),
            6 => self.protect(nth),
            7 => self.clean(nth),
            8 => self.move_to_another_frame(nth),
            9 => self.form_run(nth),
            10 => self.break_run(nth),
            11 => self.unlink_table(nth / 32),
            12..=17 => self.load(nth),
            _ => self.store(nth),
        });
    }

    fn entry_of(page: Page) -> u64 {
        let access = if page.writable { Access::ReadWrite } else { Access::Read };
        let hint = if page.run { F::RUN_HINT } else { 0 };
        F::present(page.frame, access, page.written) | hint
    }

    fn map(&mut self, nth: usize) {
        if self.pages[nth].is_some() {
            return;
        }
        let Some(frame) = self.frames.pop() else { return };
        // SAFETY: nobody has the frame.
        unsafe { self.machine.zero_frame(frame) };
        let new = Page { frame, byte: 0, writable: true, hidden: false, written: false, run: false };
        self.pages[nth] = Some(new);
        self.machine.set(page(FIRST + nth), Self::entry_of(new));
        self.machine.publish();
    }

    /// Takes everything in the run away, or the page if it is in none.
    fn unmap(&mut self, nth: usize) {
        let Some(old) = self.pages[nth] else { return };
        let all = if old.run { nth & !15..(nth & !15) + 16 } else { nth..nth + 1 };
        let mut what = Invalidation::NOTHING;
        for nth in all.clone() {
            let at = page(FIRST + nth);
            assert_eq!(F::needs_invalidation(self.machine.get(at), 0), !old.hidden);
            self.machine.set(at, 0);
            what = what.merge(leaf(at));
        }
        self.invalidate(Edit::Unmap, what);
        if old.run {
            self.runs.push(PhysAddr(old.frame.0 & !0xffff));
        } else {
            self.frames.push(old.frame);
        }
        all.for_each(|nth| self.pages[nth] = None);
    }

    fn single(&self, nth: usize) -> Option<Page> {
        self.pages[nth].filter(|page| !page.run)
    }

    fn hide_or_reveal(&mut self, nth: usize) {
        let Some(mut old) = self.single(nth).filter(|page| page.writable) else { return };
        let at = page(FIRST + nth);
        if old.hidden {
            self.machine.set(at, F::reveal(self.machine.get(at)));
            self.machine.publish();
        } else {
            // The CPU may mark the page in between.
            let hide = |entry| Some(F::hide(entry));
            self.machine.entry(at, 0).fetch_update(Ordering::AcqRel, Ordering::Acquire, hide).unwrap();
            self.invalidate(Edit::Hide, leaf(at));
        }
        old.hidden = !old.hidden;
        self.pages[nth] = Some(old);
    }

    fn protect(&mut self, nth: usize) {
        let Some(mut old) = self.single(nth).filter(|page| !page.hidden) else { return };
        let at = page(FIRST + nth);
        old.writable = !old.writable;
        let before = self.machine.get(at);
        self.machine.set(at, Self::entry_of(old));
        if F::needs_invalidation(before, Self::entry_of(old)) {
            self.invalidate(Edit::Protect, leaf(at));
        } else {
            self.machine.publish();
        }
        self.pages[nth] = Some(old);
    }

    fn clean(&mut self, nth: usize) {
        let Some(mut old) = self.single(nth) else { return };
        let at = page(FIRST + nth);
        let before = self.machine.get(at);
        self.machine.set(at, F::mark_clean(before));
        if F::needs_invalidation(before, F::mark_clean(before)) {
            self.invalidate(Edit::Clean, leaf(at));
        }
        old.written = false;
        self.pages[nth] = Some(old);
    }

    fn move_to_another_frame(&mut self, nth: usize) {
        let Some(mut old) = self.single(nth).filter(|page| !page.hidden) else { return };
        let Some(frame) = self.frames.pop() else { return };
        let at = page(FIRST + nth);
        // SAFETY: nobody has the new frame, and nobody writes meanwhile.
        unsafe { self.machine.copy_frame(old.frame, frame) };
        let before = self.machine.get(at);
        let freed = core::mem::replace(&mut old.frame, frame);
        if F::needs_break(before, Self::entry_of(old)) && self.mistake != Mistake::NoBreak {
            self.machine.set(at, 0);
            self.invalidate(Edit::Move, leaf(at));
            self.machine.set(at, Self::entry_of(old));
            self.machine.publish();
        } else {
            self.machine.set(at, Self::entry_of(old));
            self.invalidate(Edit::Move, leaf(at));
        }
        self.frames.push(freed);
        self.pages[nth] = Some(old);
    }

    fn form_run(&mut self, nth: usize) {
        let all = nth & !15..(nth & !15) + 16;
        if F::RUN == 1 || self.pages[all.clone()].iter().any(Option::is_some) {
            return;
        }
        let Some(first) = self.runs.pop() else { return };
        for (step, nth) in all.enumerate() {
            let frame = first.offset(step * PAGE_SIZE);
            // SAFETY: nobody has the frame.
            unsafe { self.machine.zero_frame(frame) };
            let run = self.mistake != Mistake::HintMissing || step != 11;
            let new = Page { frame, byte: 0, writable: true, hidden: false, written: false, run };
            self.pages[nth] = Some(Page { run: true, ..new });
            self.machine.set(page(FIRST + nth), Self::entry_of(new));
        }
        self.machine.publish();
    }

    fn break_run(&mut self, nth: usize) {
        let all = nth & !15..(nth & !15) + 16;
        if !self.pages[nth].is_some_and(|page| page.run) {
            return;
        }
        let mut what = Invalidation::NOTHING;
        let mut entries = Vec::new();
        for nth in all.clone() {
            entries.push(self.machine.entry(page(FIRST + nth), 0).swap(0, Ordering::AcqRel));
            what = what.merge(leaf(page(FIRST + nth)));
        }
        self.invalidate(Edit::BreakRun, what);
        let written = entries.iter().any(|&entry| is_written::<F>(entry));
        for nth in all {
            // One mark stands for all of the run.
            let of_run = self.pages[nth].unwrap();
            self.pages[nth] = Some(Page { run: false, written, ..of_run });
            self.machine.set(page(FIRST + nth), Self::entry_of(self.pages[nth].unwrap()));
        }
        self.machine.publish();
        // Its frames go where those of runs do not come back from.
        for nth in nth & !15..(nth & !15) + 16 {
            self.unmap(nth);
        }
        let keep = self.frames.len().saturating_sub(48);
        self.frames.drain(..keep);
    }

    /// Takes a whole leaf table out, and uses its frame as a page.
    fn unlink_table(&mut self, half: usize) {
        let all = half * 32..half * 32 + 32;
        if self.pages[all.clone()].iter().flatten().count() > 8 {
            return;
        }
        all.clone().for_each(|nth| self.unmap(nth));
        let start = page(FIRST + all.start);
        let table = self.machine.entry(start, 1).swap(0, Ordering::AcqRel);
        if table & F::PRESENT != 0 {
            let pages = Pages { start, count: 1 };
            let tables = self.mistake != Mistake::LeavesOnly;
            let what = if tables { Invalidation::tables(pages) } else { Invalidation::leaves(pages) };
            self.invalidate(Edit::Unlink, what);
            self.frames.push(PhysAddr(table & F::FRAME));
        }
        // Out of the pool again, or it would grow for good.
        if let Some(frame) = (self.frames.len() > 4).then(|| self.frames.remove(0)) {
            // SAFETY: nobody has the frame.
            unsafe { self.machine.zero_frame(frame) };
            self.machine.entry(start, 1).store(F::table(frame), Ordering::Release);
            self.machine.publish();
        }
    }

    /// What a handler does: nothing about spurious faults, and marks where the
    /// CPU does not.
    fn answer(&self, fault: AccessFault) -> bool {
        let at = VirtAddr(fault.address.0 & !0xfff);
        let old = self.machine.get(at);
        if old & F::PRESENT == 0 {
            return false;
        }
        if let Some(new) = F::mark_written(old)
            && !self.machine.hardware_dirty()
        {
            // All of a run, or its entries would differ in rights.
            let run = new & F::RUN_HINT != 0;
            let start = if run { VirtAddr(at.0 & !0xffff) } else { at };
            let pages = Pages { start, count: if run { 16 } else { 1 } };
            for at in pages.iter() {
                self.machine.set(at, F::mark_written(self.machine.get(at)).unwrap());
            }
            self.machine.invalidate_local(Invalidation::leaves(pages));
        }
        true
    }

    fn load(&self, nth: usize) {
        let mut byte = [0];
        let done =
            self.machine.read_with(page(FIRST + nth).offset(17), &mut byte, |fault| self.answer(fault));
        let expected = self.pages[nth].filter(|page| !page.hidden).map(|page| page.byte);
        assert_eq!(done.ok().map(|()| byte[0]), expected, "page {nth}");
    }

    fn store(&mut self, nth: usize) {
        let byte = self.below(256).to_le_bytes()[0];
        let at = page(FIRST + nth);
        let done = self.machine.write_with(at.offset(17), &[byte], |fault| self.answer(fault));
        let expected = self.pages[nth].as_mut().filter(|page| page.writable && !page.hidden);
        assert_eq!(done.is_ok(), expected.is_some(), "page {nth}");
        if let Some(page) = expected {
            page.byte = byte;
            page.written = true;
        }
    }

    /// All bytes, all marks, and all rules.
    fn finish(&self) {
        self.machine.assert_sound();
        for (nth, expected) in self.pages.iter().enumerate() {
            let Some(expected) = expected else { continue };
            // SAFETY: the page's frame, which nobody writes now.
            let byte = unsafe { self.machine.physical(expected.frame.offset(17)).read() };
            assert_eq!(byte, expected.byte, "page {nth}");
            let all = if expected.run { nth & !15..(nth & !15) + 16 } else { nth..nth + 1 };
            let mark = all.map(|nth| self.machine.get(page(FIRST + nth))).any(is_written::<F>);
            assert!(mark || !expected.written, "page {nth} was written and has no mark");
        }
    }
}

fn is_written<F: Format>(entry: u64) -> bool {
    matches!(F::decode(entry), Entry::Present { written: true, .. } | Entry::Hidden { written: true, .. })
}

fn sequences<F: Mmu>(machine: impl Fn(Emulated<F>) -> Emulated<F>) {
    let (count, steps) = if cfg!(miri) { (1, 40) } else { (150, 200) };
    for seed in 0..count {
        let cpus = 1 + usize::try_from(seed % 4).unwrap();
        let mut model = Model::new(machine(Emulated::new(256 * PAGE_SIZE).with_cpus(cpus)), seed * 77 + 5);
        (0..steps).for_each(|_| model.step());
        model.finish();
    }
}

#[test]
fn right_edits_are_silent_on_x86_64() {
    sequences::<X86_64>(|machine| machine);
}

#[test]
fn right_edits_are_silent_with_five_levels() {
    sequences::<X86_64>(|machine| machine.with_levels(5));
}

#[test]
fn right_edits_are_silent_with_invpcid() {
    sequences::<X86_64>(|machine| machine.with_method(Method::Invpcid { pcid: 9 }));
}

#[test]
fn right_edits_are_silent_with_invlpgb() {
    sequences::<X86_64>(|machine| machine.with_method(Method::Invlpgb { most: 3 }));
}

#[test]
fn right_edits_are_silent_on_aarch64() {
    sequences::<Aarch64>(|machine| machine);
}

#[test]
fn right_edits_are_silent_with_ranges() {
    sequences::<Aarch64>(|machine| machine.with_ranges(true));
}

#[test]
fn right_edits_are_silent_without_hardware_dirty_state() {
    sequences::<Aarch64>(Emulated::without_hardware_dirty);
}
