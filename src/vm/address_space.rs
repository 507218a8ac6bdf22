//! Which granules of a range of address space are taken, and where there is
//! room for more.
//!
//! ```text
//!   used   |1111...1|1100...0|0000...0|1111...1|   a bit per granule of 2 MiB
//!   full    1        0        0        1           a bit per word of `used`
//!   hints   1: 66, 4: 66, 16: 66, ... 256: end     a lower bound per length
//! ```
//!
//! First fit, by words: a full word costs a bit of `full`, an empty one a load.
//! What keeps a search from starting at the front each time is a hint per power
//! of four: no free run of that length begins below it. A search raises it to
//! where the next may be; giving a run back lowers it again, by one comparison
//! for each length.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use spin::Mutex;

use super::Records;

const BITS: usize = u64::BITS as usize;
/// Lengths up to 4^21 granules: more than 63 bits of address space.
const LENGTHS: usize = 22;

#[derive(Debug)]
pub(crate) struct AddressSpace {
    granules: usize,
    /// Written under the lock of `hints`, read by anybody.
    used: Records<AtomicU64>,
    full: Records<AtomicU64>,
    /// For each power of four: no free run of that length begins below.
    hints: Mutex<[usize; LENGTHS]>,
}

impl AddressSpace {
    /// Words of `used`, and of `full`, for so many granules.
    pub(crate) const fn words(granules: usize) -> (usize, usize) {
        let used = granules.div_ceil(BITS);
        (used, used.div_ceil(BITS))
    }

    /// All of it free, a multiple of 64 granules; the words hold zeros.
    pub(crate) fn new(granules: usize, used: Records<AtomicU64>, full: Records<AtomicU64>) -> Self {
        Self { granules, used, full, hints: Mutex::new([0; LENGTHS]) }
    }

    pub(crate) fn granules(&self) -> usize {
        self.granules
    }

    /// Takes the first free run of `len` granules, which is not 0.
    pub(crate) fn reserve(&self, len: usize) -> Option<usize> {
        let mut hints = self.hints.lock();
        let hints = &mut hints[..self.lengths()];
        let length = len.checked_ilog2()? as usize / 2;
        let search = self.first_fit(len, 1 << (2 * length), *hints.get(length)?);
        let end = search.found.map_or(self.granules, |at| at + len);
        // What was passed over is too short for any longer run.
        for hint in &mut hints[length + 1..] {
            *hint = end.max(*hint);
        }
        hints[length] = search.skipped.unwrap_or(end);
        let at = search.found?;
        self.mark(at, len, true);
        Some(at)
    }

    /// Gives a run back.
    pub(crate) fn release(&self, at: usize, len: usize) {
        let mut hints = self.hints.lock();
        self.mark(at, len, false);
        for (length, hint) in hints[..self.lengths()].iter_mut().enumerate() {
            // With what is free before it, the run may begin earlier; but not
            // by the whole length, or that was long enough before.
            *hint = (*hint).min(at.saturating_sub((1 << (2 * length)) - 1));
        }
    }

    /// Whether a granule is taken. No lock.
    pub(crate) fn is_used(&self, granule: usize) -> bool {
        let word = self.used.as_slice().get(granule / BITS);
        word.is_some_and(|word| word.load(Relaxed) & (1 << (granule % BITS)) != 0)
    }

    /// Granules of the longest free run, by a look at every word. No lock:
    /// while others reserve, a guess.
    pub(crate) fn longest_free(&self) -> usize {
        let (mut longest, mut at) = (0, 0);
        while let Some(free) = self.next_free(at) {
            let end = self.next_used(free, self.granules);
            longest = longest.max(end - free);
            at = end.max(free + 1);
        }
        longest
    }

    /// How many hints there is a use for.
    fn lengths(&self) -> usize {
        self.granules.checked_ilog2().map_or(0, |longest| LENGTHS.min(longest as usize / 2 + 1))
    }

    fn first_fit(&self, len: usize, worth_noting: usize, from: usize) -> Search {
        let mut search = Search { found: None, skipped: None };
        let mut at = from;
        while let Some(free) = self.next_free(at) {
            let Some(end) = free.checked_add(len).filter(|&end| end <= self.granules) else {
                // Too close to the end, but not for a request that is shorter.
                search.skipped.get_or_insert(free);
                return search;
            };
            at = self.next_used(free, end);
            if at == end {
                search.found = Some(free);
                return search;
            }
            if at - free >= worth_noting {
                search.skipped.get_or_insert(free);
            }
        }
        search
    }

    /// The first free granule at or after `from`.
    fn next_free(&self, from: usize) -> Option<usize> {
        let (used, full) = (self.used.as_slice(), self.full.as_slice());
        let word = from / BITS;
        let free = !used.get(word)?.load(Relaxed) & (!0 << (from % BITS));
        if free != 0 {
            return Some(word * BITS + free.trailing_zeros() as usize);
        }
        let mut at = word + 1;
        while let Some(words) = full.get(at / BITS) {
            let not_full = !words.load(Relaxed) & (!0 << (at % BITS));
            if not_full != 0 {
                let word = at / BITS * BITS + not_full.trailing_zeros() as usize;
                let free = !used.get(word)?.load(Relaxed);
                if free != 0 {
                    return Some(word * BITS + free.trailing_zeros() as usize);
                }
                // Filled this moment, seen by a reader without the lock.
                at = word + 1;
            } else {
                at = (at / BITS + 1) * BITS;
            }
        }
        None
    }

    /// The first granule of `[from, end)` that is taken, or `end`.
    fn next_used(&self, from: usize, end: usize) -> usize {
        let used = self.used.as_slice();
        let first = from / BITS;
        let taken = used[first].load(Relaxed) & (!0 << (from % BITS));
        if taken != 0 {
            return end.min(first * BITS + taken.trailing_zeros() as usize);
        }
        let mut rest = &used[first + 1..end.div_ceil(BITS).max(first + 1)];
        // By fours, where all are free.
        while let Some((four, after)) = rest.split_first_chunk::<4>() {
            if four.iter().fold(0, |taken, word| taken | word.load(Relaxed)) != 0 {
                break;
            }
            rest = after;
        }
        let before = end.div_ceil(BITS) - rest.len();
        let found = rest.iter().map(|word| word.load(Relaxed)).enumerate().find(|&(_, taken)| taken != 0);
        found.map_or(end, |(empty, taken)| end.min((before + empty) * BITS + taken.trailing_zeros() as usize))
    }

    /// Marks a run as taken, or as free. The caller holds the lock.
    fn mark(&self, at: usize, len: usize, taken: bool) {
        let (used, full) = (self.used.as_slice(), self.full.as_slice());
        set_bits(used, at, len, taken);
        // Words that the run covers are full now, or were; those at its edges
        // may be.
        let (first, last) = (at / BITS, (at + len - 1) / BITS);
        set_bits(full, first, last - first + 1, taken);
        for edge in [first, last] {
            if taken && used[edge].load(Relaxed) != !0 {
                set_bits(full, edge, 1, false);
            }
        }
    }
}

/// Sets or clears `len` bits, which is not 0.
fn set_bits(words: &[AtomicU64], at: usize, len: usize, set: bool) {
    let change = |word: &AtomicU64, mask: u64| {
        let old = word.load(Relaxed);
        word.store(if set { old | mask } else { old & !mask }, Relaxed);
    };
    let last = at + len - 1;
    let (from_first, to_last) = (!0 << (at % BITS), !0 >> (BITS - 1 - last % BITS));
    match &words[at / BITS..=last / BITS] {
        [only] => change(only, from_first & to_last),
        [first, whole @ .., last] => {
            change(first, from_first);
            whole.iter().for_each(|word| word.store(if set { !0 } else { 0 }, Relaxed));
            change(last, to_last);
        }
        [] => {}
    }
}

/// What a search came by.
struct Search {
    found: Option<usize>,
    /// The first run that was too short, but may be long enough for the hint.
    skipped: Option<usize>,
}
