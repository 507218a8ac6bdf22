//! Random sequences of edits that make one mistake, every time.

use allotment_arch::{
    Aarch64, PAGE_SIZE, X86_64,
    emulated::{Emulated, Mmu},
};

use crate::random::{Edit, Mistake, Model};

/// What a machine on which edits make a mistake says first.
fn first_words<F: Mmu>(mistake: Mistake, seed: u64) -> Option<String> {
    let mut model = Model::new(Emulated::<F>::new(256 * PAGE_SIZE).with_cpus(3), seed * 31 + 7);
    model.mistake = mistake;
    let run = core::panic::AssertUnwindSafe(|| {
        (0..3000).for_each(|_| model.step());
        model.machine.audit();
    });
    std::panic::catch_unwind(run).err().map(|message| message.downcast_ref::<String>().unwrap().clone())
}

/// Every mistake is found in some of a few sequences, by a rule and not by a
/// wrong byte.
fn mistakes_are_found<F: Mmu>(mistakes: &[(Mistake, &[&str])]) {
    let seeds = if cfg!(miri) { 1 } else { 12 };
    for &(mistake, rules) in mistakes {
        let said: Vec<_> = (0..seeds).filter_map(|seed| first_words::<F>(mistake, seed as u64)).collect();
        let right = |words: &&String| rules.iter().any(|rule| words.contains(rule));
        let found = said.iter().filter(right).count();
        assert!(found * 2 > said.len() && said.len() * 3 >= seeds, "{mistake:?}: {said:#?}");
    }
}

const STALE: &str = "stale translation";
const REUSED: &str = "reused frame";
const TABLE: &str = "reused table";
const LOST: &str = "lost dirty bit";
const BROKEN: &str = "break before make";
const RUN: &str = "inconsistent run";

#[test]
fn mistakes_are_found_on_x86_64() {
    mistakes_are_found::<X86_64>(&[
        (Mistake::Skip(Edit::Unmap), &[STALE, REUSED]),
        (Mistake::Local(Edit::Unmap), &[STALE, REUSED]),
        (Mistake::Short(Edit::Unmap), &[STALE, REUSED]),
        (Mistake::Skip(Edit::Hide), &[STALE]),
        (Mistake::Local(Edit::Hide), &[STALE]),
        (Mistake::Skip(Edit::Protect), &[STALE]),
        (Mistake::Skip(Edit::Clean), &[LOST]),
        (Mistake::Local(Edit::Clean), &[LOST]),
        (Mistake::Skip(Edit::Move), &[STALE, REUSED]),
        (Mistake::Local(Edit::Move), &[STALE, REUSED]),
        (Mistake::Skip(Edit::Unlink), &[TABLE]),
        (Mistake::Local(Edit::Unlink), &[TABLE]),
    ]);
}

#[test]
fn mistakes_are_found_on_aarch64() {
    mistakes_are_found::<Aarch64>(&[
        (Mistake::Skip(Edit::Unmap), &[STALE, REUSED, BROKEN]),
        (Mistake::Local(Edit::Unmap), &[STALE, REUSED, BROKEN]),
        (Mistake::Short(Edit::Unmap), &[STALE, REUSED, BROKEN]),
        (Mistake::Skip(Edit::Hide), &[STALE]),
        (Mistake::Local(Edit::Hide), &[STALE]),
        (Mistake::Skip(Edit::Clean), &[LOST]),
        (Mistake::Skip(Edit::Move), &[BROKEN]),
        (Mistake::Local(Edit::Move), &[BROKEN]),
        (Mistake::NoBreak, &[BROKEN]),
        (Mistake::Short(Edit::BreakRun), &[BROKEN]),
        (Mistake::Skip(Edit::BreakRun), &[BROKEN]),
        (Mistake::LeavesOnly, &[TABLE, BROKEN]),
        (Mistake::Skip(Edit::Unlink), &[TABLE, BROKEN]),
        (Mistake::HintMissing, &[RUN]),
    ]);
}
