//! Edits on a run of leaf entries: the only code that writes them.
//!
//! The run is a slice of one or more leaf tables, so that an edit is straight
//! loads and stores. What each edit leaves to do for the caller:
//!
//! | edit | from | to | afterwards |
//! |---|---|---|---|
//! | [`fill`] | empty | hidden | nothing |
//! | [`reveal`] | hidden | present | publish |
//! | [`set`] | hidden, present | present | publish; invalidate if it says so |
//! | [`hide`], [`hide_live`] | present | hidden | invalidate if it says so |
//! | [`scrub`] | hidden | hidden, holding zeros | nothing (after invalidation) |
//! | [`strip`] | hidden | empty | nothing (after invalidation everywhere) |
//! | [`wipe`], [`poison`] | any | clean, holding zeros; or what [`POISON`] says | nothing (at rest) |
//! | [`hide_at_rest`], [`reveal_some`] | any | hidden; present | as [`hide`] and [`reveal`] |
//! | [`strip_at_rest`], [`take_all`] | any | empty | nothing (after invalidation everywhere) |
//! | [`exchange`] | any | what the editor says | what [`Format::needs_invalidation`] says of both |
//! | [`take_out`] | hidden | empty | nothing (after invalidation everywhere) |
//! | [`suspend`], [`resume`] | present, hidden, present | | nothing: invalidates everywhere between |
//!
//! *At rest* is a run under tables that are not linked, or one whose user waits
//! for the edit. The last three are what [`space`](super::space) edits with: pages in any
//! state, which others may be using, in tables that come and go.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use allotment_arch::{Access, Arch, Entry, Format, PAGE_SIZE, PhysAddr};

use super::{Promise, Settled, Vm};

/// Whether cached translations of the run must be invalidated before what the
/// edit took away may be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Stale {
    No,
    Yes,
}

/// How many entries hold no frame.
pub(crate) fn count_empty<A: Arch>(run: &[AtomicU64]) -> usize {
    run.iter().filter(|entry| is_empty::<A>(entry.load(Ordering::Relaxed))).count()
}

/// Whether an entry has neither a frame nor anything to say.
pub(crate) fn is_empty<A: Arch>(entry: u64) -> bool {
    matches!(A::Format::decode(entry), Entry::Empty { .. })
}

/// Gives every empty entry a hidden frame of zeros.
///
/// Stops when the promise has no more; the caller counted first.
pub(crate) fn fill<A: Arch>(run: &[AtomicU64], frames: &mut Promise<'_, A>) {
    for entry in run {
        if is_empty::<A>(entry.load(Ordering::Relaxed)) {
            let Some(frame) = frames.take() else { return };
            entry.store(A::Format::hidden(frame, false), Ordering::Relaxed);
        }
    }
}

/// Makes pages readable and writable, or readable and copied on write where
/// they share their frame, all of which are hidden. Nothing that was accessible
/// is taken away: there is nothing to invalidate.
#[inline(always)]
pub(crate) fn reveal<A: Arch>(run: &[AtomicU64]) {
    // Once for all of them, as a store that releases costs more than the rest of it:
    // who finds a page finds its frame cleared.
    fence(Ordering::Release);
    let reveal = |entry: &AtomicU64| {
        let hidden = entry.load(Ordering::Relaxed);
        debug_assert!(matches!(A::Format::decode(hidden), Entry::Hidden { .. }), "{hidden:#x} is not hidden");
        entry.store(A::Format::reveal(hidden), Ordering::Relaxed);
    };
    // By eights: growth by a wasm page is sixteen of these.
    let (eights, rest) = run.as_chunks::<8>();
    eights.iter().for_each(|eight| eight.iter().for_each(reveal));
    rest.iter().for_each(reveal);
}

/// Gives every page that has a frame the access asked for.
pub(crate) fn set<A: Arch>(run: &[AtomicU64], access: Access) -> Stale {
    let mut stale = Stale::No;
    for entry in run {
        // In one step: the CPU may be setting its dirty state this moment, and
        // the mark must not fall between. And without a moment in which nothing
        // is present, as readers may go on reading; a change of rights alone
        // needs no break-before-make (Arm ARM D8.16.1).
        if let Some((old, new)) = exchange::<A>(entry, |old| with_access::<A>(old, access))
            && A::Format::needs_invalidation(old, new)
        {
            stale = Stale::Yes;
        }
    }
    stale
}

/// What [`hide`] found.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(crate) struct Hidden {
    pub(crate) stale: Stale,
    /// Whether any page of the run may hold anything but zeros.
    pub(crate) written: bool,
}

/// Takes away all access to pages of a slot, all of which are present and can be
/// written, or would be after a copy. Frames stay where they are, and remember
/// whether they were written.
///
/// Nobody uses the pages during the call: a mark that a CPU sets between load
/// and store would be lost.
#[inline]
pub(crate) fn hide<A: Arch>(run: &[AtomicU64]) -> Hidden {
    let mut marks = 0;
    let mut hide = |entry: &AtomicU64| {
        let present = entry.load(Ordering::Relaxed);
        debug_assert!(present & A::Format::PRESENT != 0, "{present:#x} is not present");
        let hidden = A::Format::hide_data(present);
        marks |= hidden ^ A::Format::CLEAN;
        entry.store(hidden, Ordering::Relaxed);
    };
    let (eights, rest) = run.as_chunks::<8>();
    eights.iter().for_each(|eight| eight.iter().for_each(&mut hide));
    rest.iter().for_each(&mut hide);
    let stale = if run.is_empty() { Stale::No } else { Stale::Yes };
    Hidden { stale, written: marks & A::Format::WRITTEN != 0 }
}

/// Takes away all access to pages that are in any state, and that others may be
/// using this moment.
pub(crate) fn hide_live<A: Arch>(run: &[AtomicU64]) -> Hidden {
    let mut hidden = Hidden { stale: Stale::No, written: false };
    for entry in run {
        let mut new = entry.load(Ordering::Relaxed);
        if new & A::Format::PRESENT != 0 {
            // The CPU may be setting its dirty state this moment: after the
            // swap it no longer can.
            let old = entry.swap(0, Ordering::AcqRel);
            hidden.stale = Stale::Yes;
            if let Entry::Present { frame, written, .. } = A::Format::decode(old) {
                new = A::Format::hidden(frame, written);
                entry.store(new, Ordering::Relaxed);
            }
        }
        hidden.written |= matches!(A::Format::decode(new), Entry::Hidden { written: true, .. });
    }
    hidden
}

/// Empties hidden pages whose frame has other owners, images, which keep it.
pub(crate) fn leave_shared<A: Arch>(vm: &Vm<A>, run: &[AtomicU64]) {
    for entry in run {
        if let Entry::Hidden { frame, shared: false, .. } = A::Format::decode(entry.load(Ordering::Relaxed))
            && !vm.arena.unshare(frame)
        {
            entry.store(0, Ordering::Relaxed);
            vm.arena.lend(1);
        }
    }
}

/// Whether a frame of the run has other owners.
pub(crate) fn any_shared<A: Arch>(vm: &Vm<A>, run: &[AtomicU64]) -> bool {
    let shared = |frame| vm.arena.word(frame).is_some_and(|owners| owners.load(Ordering::Relaxed) > 0);
    run.iter().any(|entry| shown_frame::<A>(entry.load(Ordering::Relaxed)).is_some_and(shared))
}

/// Clears every hidden page that was written.
///
/// # Safety
///
/// Nobody uses a translation that a CPU may still cache for the run.
#[inline(never)]
pub(crate) unsafe fn scrub<A: Arch>(vm: &Vm<A>, run: &[AtomicU64]) {
    for entry in run {
        if let Entry::Hidden { frame, written: true, .. } = A::Format::decode(entry.load(Ordering::Relaxed)) {
            // SAFETY: the page is hidden, and nobody reaches it by what is cached.
            unsafe { vm.arch.zero_frame(frame) };
            entry.store(A::Format::hidden(frame, false), Ordering::Relaxed);
        }
    }
}

/// Whether a frame, which nobody writes, holds zeros.
pub(crate) fn is_zero<A: Arch>(vm: &Vm<A>, frame: PhysAddr) -> bool {
    let words = vm.arch.physical(frame).cast::<[u64; PAGE_SIZE / size_of::<u64>()]>();
    // SAFETY: `physical` gives memory of a page, which is aligned for words.
    unsafe { words.as_ref() }.iter().all(|&word| word == 0)
}

/// What [`poison`] fills pages with: as a pointer not canonical, as a number
/// conspicuous, as instructions a trap on neither architecture's good side.
pub(crate) const POISON: u8 = 0xca;

/// Whether any page of a run was written, all of which have frames.
#[inline]
pub(crate) fn any_written<A: Arch>(run: &[AtomicU64]) -> bool {
    let mut marks = 0;
    let mut look = |entry: &AtomicU64| marks |= entry.load(Ordering::Relaxed) ^ A::Format::CLEAN;
    let (eights, rest) = run.as_chunks::<8>();
    eights.iter().for_each(|eight| eight.iter().for_each(&mut look));
    rest.iter().for_each(&mut look);
    marks & A::Format::WRITTEN != 0
}

/// The same of a run with pages that have none.
pub(crate) fn any_written_or_empty<A: Arch>(run: &[AtomicU64]) -> bool {
    run.iter().any(|entry| is_written::<A>(entry.load(Ordering::Relaxed)))
}

/// Hides what is present. As for [`hide`], nobody uses the pages during the call.
pub(crate) fn hide_at_rest<A: Arch>(run: &[AtomicU64]) {
    let hide = |entry: &AtomicU64| {
        let old = entry.load(Ordering::Relaxed);
        entry.store(A::Format::hide_data(old), Ordering::Relaxed);
    };
    let is_present = |entry: &&AtomicU64| entry.load(Ordering::Relaxed) & A::Format::PRESENT != 0;
    // By eights: a table may be full of them, and as a rule all of eight are alike.
    let (eights, rest) = run.as_chunks::<8>();
    for eight in eights {
        let all = eight.iter().fold(A::Format::PRESENT, |all, entry| all & entry.load(Ordering::Relaxed));
        if all != 0 {
            eight.iter().for_each(hide);
        } else {
            eight.iter().filter(is_present).for_each(hide);
        }
    }
    rest.iter().filter(is_present).for_each(hide);
}

/// Reveals what is hidden.
pub(crate) fn reveal_some<A: Arch>(run: &[AtomicU64]) {
    for entry in run {
        let old = entry.load(Ordering::Relaxed);
        if old & (A::Format::PRESENT | A::Format::HIDDEN) == A::Format::HIDDEN {
            entry.store(A::Format::reveal(old), Ordering::Release);
        }
    }
}

/// Clears every page that was written, and its mark, up to so many. Returns how
/// many those were.
///
/// # Safety
///
/// The run is at rest: nobody uses a translation of it that a CPU may still
/// cache, and none is made anew.
pub(crate) unsafe fn wipe<A: Arch>(vm: &Vm<A>, run: &[AtomicU64], most: usize) -> usize {
    let mut wiped = 0;
    for entry in run {
        let old = entry.load(Ordering::Relaxed);
        let Some(frame) = written_frame::<A>(old) else { continue };
        if wiped == most {
            break;
        }
        // SAFETY: nobody reaches the frame by what is cached.
        unsafe { vm.arch.zero_frame(frame) };
        entry.store(A::Format::mark_clean(old), Ordering::Relaxed);
        wiped += 1;
    }
    wiped
}

/// Fills every page that was written with [`POISON`], and keeps its mark.
///
/// # Safety
///
/// As for [`wipe`].
pub(crate) unsafe fn poison<A: Arch>(vm: &Vm<A>, run: &[AtomicU64]) {
    for entry in run {
        if let Some(frame) = written_frame::<A>(entry.load(Ordering::Relaxed)) {
            let bytes = vm.arch.physical(frame);
            // SAFETY: `physical` gives writable memory of a page that nobody
            // reaches by what is cached.
            unsafe { bytes.write_bytes(POISON, PAGE_SIZE) };
        }
    }
}

/// Gives all frames of a run back to the arena, the last first. Returns how many.
///
/// # Safety
///
/// As for [`wipe`], on all CPUs: `settled` came after the run was out of
/// everybody's reach. The frames are the arena's.
pub(crate) unsafe fn strip_at_rest<A: Arch>(vm: &Vm<A>, run: &[AtomicU64], settled: Settled) -> usize {
    let mut stripped = 0;
    for entry in run.iter().rev() {
        let old = entry.load(Ordering::Relaxed);
        if let Some(frame) = frame_of::<A>(old) {
            entry.store(0, Ordering::Relaxed);
            // SAFETY: the frame came from the arena, has just left its only entry,
            // and nobody reaches it any more. It holds zeros if it is not marked.
            unsafe { give_back(vm, frame, is_written::<A>(old), settled) };
            stripped += 1;
        }
    }
    stripped
}

/// # Safety
///
/// As for [`Arena::give_back`](super::Arena::give_back), but that a frame that was
/// written may hold whatever.
unsafe fn give_back<A: Arch>(vm: &Vm<A>, frame: PhysAddr, written: bool, settled: Settled) {
    if written {
        // SAFETY: by this function's contract.
        unsafe { vm.arena.give_back_stained(&vm.arch, frame, settled) };
    } else {
        // SAFETY: by this function's contract.
        unsafe { vm.arena.give_back(frame, settled) };
    }
}

fn written_frame<A: Arch>(entry: u64) -> Option<PhysAddr> {
    frame_of::<A>(entry).filter(|_| is_written::<A>(entry))
}

/// The frame that an entry shows or hides, whoever owns it.
pub(crate) fn shown_frame<A: Arch>(entry: u64) -> Option<PhysAddr> {
    match A::Format::decode(entry) {
        Entry::Hidden { frame, .. } | Entry::Present { frame, .. } => Some(frame),
        Entry::Empty { .. } => None,
    }
}

fn frame_of<A: Arch>(entry: u64) -> Option<PhysAddr> {
    match A::Format::decode(entry) {
        Entry::Hidden { frame, shared: false, .. } | Entry::Present { frame, .. } => Some(frame),
        Entry::Hidden { .. } | Entry::Empty { .. } => None,
    }
}

/// Gives pages `first` and following the frames from `frame` on, cleared and
/// hidden.
///
/// # Safety
///
/// The frames are the run's own, and nobody else uses them.
pub(crate) unsafe fn fill_from<A: Arch>(vm: &Vm<A>, run: &[AtomicU64], frame: PhysAddr) {
    for (nth, entry) in run.iter().enumerate() {
        if is_empty::<A>(entry.load(Ordering::Relaxed)) {
            let frame = frame.offset(nth * PAGE_SIZE);
            // SAFETY: by this function's contract.
            unsafe { vm.arch.zero_frame(frame) };
            entry.store(A::Format::hidden(frame, false), Ordering::Relaxed);
        }
    }
}

/// Empties a run, and gives its own frames back to the arena, cleared, the last first;
/// but those that have other owners.
///
/// # Safety
///
/// `settled` came after the run was out of everybody's reach.
pub(crate) unsafe fn take_all<A: Arch>(vm: &Vm<A>, run: &[AtomicU64], settled: Settled) {
    for entry in run.iter().rev() {
        let old = entry.swap(0, Ordering::Relaxed);
        let Some(frame) = A::Format::decode(old).own_frame() else { continue };
        if vm.arena.unshare(frame) {
            if is_written::<A>(old) {
                // SAFETY: the frame came from the arena, nobody reaches it any more, and it
                // has just left its only entry.
                unsafe { vm.arena.give_back_stained(&vm.arch, frame, settled) };
            } else {
                // SAFETY: as above, and it holds zeros.
                unsafe { vm.arena.give_back(frame, settled) };
            }
        } else if vm.arena.word(frame).is_some() {
            // To images.
            vm.arena.lend(1);
        }
    }
}

/// Gives the frames of hidden pages back to the arena, the last first.
/// Returns how many.
///
/// # Safety
///
/// `settled` came after the run was hidden.
#[cfg(feature = "instance")]
pub(crate) unsafe fn strip<A: Arch>(vm: &Vm<A>, run: &[AtomicU64], settled: Settled) -> usize {
    let mut stripped = 0;
    for entry in run.iter().rev() {
        if let Entry::Hidden { frame, written, shared: false } =
            A::Format::decode(entry.load(Ordering::Relaxed))
        {
            entry.store(0, Ordering::Relaxed);
            // SAFETY: the frame came from the arena, and has just left its only entry.
            // It holds zeros if it is not marked.
            unsafe { give_back(vm, frame, written, settled) };
            stripped += 1;
        }
    }
    stripped
}

/// Marks a page as written, where the CPU does not: what a first write to a
/// clean page asks for. Says whether the entry lets the page be written.
///
/// No lock: whoever takes the page away at the same time wins.
pub(crate) fn mark_written<A: Arch>(entry: &AtomicU64) -> bool {
    let mark = |old| (old & A::Format::PRESENT != 0).then(|| A::Format::mark_written(old)).flatten();
    entry.fetch_update(Ordering::AcqRel, Ordering::Acquire, mark).is_ok()
}

/// Marks all present pages of a run as written.
pub(crate) fn mark_all_written<A: Arch>(run: &[AtomicU64]) {
    for entry in run {
        let _ = mark_written::<A>(entry);
    }
}

/// Replaces an entry in one step, so that no mark which the CPU or a fault sets
/// meanwhile is lost. Returns what stood there and what does now, if they
/// differ.
#[inline]
pub(crate) fn exchange<A: Arch>(entry: &AtomicU64, edit: impl Fn(u64) -> u64) -> Option<(u64, u64)> {
    let mut old = entry.load(Ordering::Relaxed);
    loop {
        let new = edit(old);
        if new == old {
            return None;
        }
        if old & A::Format::PRESENT == 0 {
            // Nobody marks what is not present, and only one edits.
            entry.store(new, Ordering::Release);
            return Some((old, new));
        }
        match entry.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return Some((old, new)),
            Err(marked) => old = marked,
        }
    }
}

/// What an entry becomes that gets `access`, if it has a frame.
#[inline]
pub(crate) fn with_access<A: Arch>(old: u64, access: Access) -> u64 {
    match A::Format::decode(old) {
        Entry::Empty { .. } => old,
        Entry::Hidden { frame, written, .. } | Entry::Present { frame, written, .. } => {
            A::Format::present(frame, access, written)
        }
    }
}

/// What an entry becomes that is hidden, if it is present.
#[inline]
pub(crate) fn hidden<A: Arch>(old: u64) -> u64 {
    if old & A::Format::PRESENT != 0 { A::Format::hide(old) } else { old }
}

/// What an entry becomes that is revealed, if it is hidden.
#[inline]
pub(crate) fn revealed<A: Arch>(old: u64) -> u64 {
    let hidden = old & (A::Format::PRESENT | A::Format::HIDDEN) == A::Format::HIDDEN;
    if hidden { A::Format::reveal(old) } else { old }
}

/// Whether an entry's page may have been written.
#[inline]
pub(crate) fn is_written<A: Arch>(entry: u64) -> bool {
    has_frame::<A>(entry) && (entry ^ A::Format::CLEAN) & A::Format::WRITTEN != 0
}

/// Whether an entry has a frame, hidden or not.
#[inline]
pub(crate) fn has_frame<A: Arch>(entry: u64) -> bool {
    entry & (A::Format::PRESENT | A::Format::HIDDEN) != 0
}

/// What an entry becomes that is no longer marked as written.
#[inline]
pub(crate) fn cleaned<A: Arch>(old: u64) -> u64 {
    if is_written::<A>(old) { A::Format::mark_clean(old) } else { old }
}

/// Whether an entry's page may be written, or may have been: what a table's
/// summary must not deny.
#[inline]
pub(crate) fn is_writable_or_written<A: Arch>(entry: u64) -> bool {
    let writable = matches!(A::Format::decode(entry), Entry::Present { access: Access::ReadWrite, .. });
    writable || is_written::<A>(entry)
}

/// Empties a hidden entry. Returns its frame, and whether it was the entry's
/// own.
pub(crate) fn take_out<A: Arch>(entry: &AtomicU64, _settled: Settled) -> Option<(PhysAddr, bool)> {
    let Entry::Hidden { frame, shared, .. } = A::Format::decode(entry.load(Ordering::Relaxed)) else {
        return None;
    };
    entry.store(0, Ordering::Relaxed);
    Some((frame, !shared))
}

/// The state of an entry that is being replaced this moment: who faults there
/// tries again.
pub(crate) const BUSY: u8 = 15;

/// Makes entries not present and says what they were: the break of
/// break-before-make.
pub(crate) fn suspend<A: Arch>(run: &[AtomicU64], old: &mut [u64]) {
    for (old, entry) in old.iter_mut().zip(run) {
        // The CPU may be setting its dirty state this moment: after the swap it
        // no longer can.
        *old = entry.swap(A::Format::empty(BUSY), Ordering::AcqRel);
    }
}

/// The make: `run` was suspended, and nobody caches any of it.
pub(crate) fn resume(run: &[AtomicU64], new: &[u64], _settled: Settled) {
    for (entry, &new) in run.iter().zip(new) {
        entry.store(new, Ordering::Release);
    }
}

/// Writes a table that nobody can reach yet.
pub(crate) fn write_all(table: &[AtomicU64], entry: impl Fn(usize) -> u64) {
    for (index, place) in table.iter().enumerate() {
        place.store(entry(index), Ordering::Relaxed);
    }
}
