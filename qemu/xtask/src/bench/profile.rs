//! From the addresses of executed instructions to counts by function.
//!
//! ```text
//!   addresses     a a a b b c b b a a        b and c are entered at their first instruction: calls
//!   stack         a     a b   a b a          where a function goes on that is on the stack: returns
//!                             b c
//!                               ^ self of c; total of a, b and c
//! ```
//!
//! No instruction is decoded, so that it is the same on every architecture. A call in tail position is on the stack
//! on top of its caller until the caller's caller goes on; and a function that jumps to its own first instruction
//! seems to call itself, which changes no count.

use std::collections::{BTreeMap, HashMap};

use super::code::{Code, Function, Inlined};

/// Counts of instructions.
pub(super) struct Profile {
    code: Code,
    /// How often each address was executed.
    executed: HashMap<u64, u64>,
    /// Instructions of a function and all that it calls.
    totals: BTreeMap<Function, u64>,
    count: u64,
}

/// A function's share.
#[derive(Debug, Default)]
pub(super) struct Share {
    pub(super) count: u64,
    /// What of it is of functions inlined there, by their names and files, and the first line of each that
    /// was executed.
    pub(super) inlined: BTreeMap<(String, String), (u64, u32)>,
}

impl Profile {
    pub(super) fn new(code: Code) -> Self {
        Self { code, executed: HashMap::new(), totals: BTreeMap::new(), count: 0 }
    }

    /// Adds what was executed in a counted part and around it. It counts from the first reading of the clock, that
    /// included, to the last.
    pub(super) fn add(&mut self, pcs: &[u64]) {
        let Some(first) = pcs.iter().position(|pc| self.code.reads_clock(*pc)) else { return };
        let Some(last) = pcs.iter().rposition(|pc| self.code.reads_clock(*pc)) else { return };
        let counted = &pcs[first..last];
        for pc in counted {
            *self.executed.entry(*pc).or_default() += 1;
        }
        self.count += counted.len() as u64;
        let mut known = HashMap::new();
        let mut stack = Stack::default();
        for pc in counted {
            let (function, entry) =
                *known.entry(*pc).or_insert_with(|| (self.code.function(*pc), self.code.is_entry(*pc)));
            stack.step(function, entry, &mut self.totals);
        }
        stack.unwind(0, &mut self.totals);
    }

    /// All instructions.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn total(&self, function: Function) -> u64 {
        self.totals.get(&function).copied().unwrap_or(0)
    }

    pub(super) fn title(&self, function: Function) -> String {
        self.code.title(function)
    }

    /// Those with the most instructions of their own first.
    pub(super) fn functions(&self) -> Vec<(Function, Share)> {
        let mut functions: BTreeMap<Function, Share> = BTreeMap::new();
        for (pc, count) in &self.executed {
            let share = functions.entry(self.code.function(*pc)).or_default();
            share.count += count;
            if let Some(Inlined { name, file, line }) = self.code.origin(*pc).inlined {
                let (sum, first) = share.inlined.entry((name, file)).or_insert((0, line));
                *sum += count;
                // Line 0 is none.
                *first = if *first == 0 || line == 0 { line.max(*first) } else { line.min(*first) };
            }
        }
        by_count(functions, |share| share.count)
    }

    /// The same of crates.
    pub(super) fn crates(&self) -> Vec<(String, u64)> {
        let mut crates = BTreeMap::new();
        for (pc, count) in &self.executed {
            *crates.entry(self.code.origin(*pc).written_in).or_default() += count;
        }
        by_count(crates, |count| *count)
    }
}

/// The largest counts first.
pub(super) fn by_count<K, V>(counts: BTreeMap<K, V>, count: impl Fn(&V) -> u64) -> Vec<(K, V)> {
    let mut counts: Vec<_> = counts.into_iter().collect();
    // Stable: equal ones stay in the order of their names.
    counts.sort_by_key(|(_, counted)| u64::MAX - count(counted));
    counts
}

/// The functions that have begun and not ended, and what was counted when each began.
#[derive(Debug, Default)]
struct Stack {
    frames: Vec<(Function, u64)>,
    count: u64,
}

impl Stack {
    /// The next instruction is of `function`, maybe its first one.
    fn step(&mut self, function: Function, entry: bool, totals: &mut BTreeMap<Function, u64>) {
        let running = self.frames.last().is_some_and(|frame| frame.0 == function);
        if entry || !running {
            match self.frames.iter().rposition(|frame| frame.0 == function) {
                Some(at) if !entry => self.unwind(at + 1, totals),
                _ => self.frames.push((function, self.count)),
            }
        }
        self.count += 1;
    }

    /// Ends what was called by the lowest `height` functions. What calls itself counts once.
    fn unwind(&mut self, height: usize, totals: &mut BTreeMap<Function, u64>) {
        while self.frames.len() > height {
            if let Some((function, before)) = self.frames.pop()
                && !self.frames.iter().any(|frame| frame.0 == function)
            {
                *totals.entry(function).or_default() += self.count - before;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Function, Stack, by_count};
    use std::collections::BTreeMap;

    /// Totals of a, b and c of a trace in which capitals are first instructions.
    fn totals(trace: &str) -> [u64; 3] {
        let mut totals = BTreeMap::new();
        let mut stack = Stack::default();
        let function = |letter: char| Function::Kernel(letter.to_ascii_lowercase() as usize - 'a' as usize);
        for letter in trace.chars() {
            stack.step(function(letter), letter.is_ascii_uppercase(), &mut totals);
        }
        stack.unwind(0, &mut totals);
        ['a', 'b', 'c'].map(|letter| totals.get(&function(letter)).copied().unwrap_or(0))
    }

    #[test]
    fn what_is_called_counts_for_its_callers() {
        assert_eq!(totals("aaaBbCbbaa"), [10, 5, 1]);
        // Twice, and from two callers.
        assert_eq!(totals("aBaBCCa"), [7, 4, 2]);
        // A call in tail position.
        assert_eq!(totals("aBbCcaa"), [7, 4, 2]);
        // Recursion counts once.
        assert_eq!(totals("aBbBBbba"), [8, 6, 0]);
        // It begins in the middle, and the caller is seen later.
        assert_eq!(totals("ba"), [1, 2, 0]);
        assert_eq!(totals(""), [0, 0, 0]);
    }

    #[test]
    fn the_largest_is_first_and_names_break_ties() {
        let counts = [("b", 1), ("a", 1), ("c", 2)].map(|(name, count)| (name.to_owned(), count));
        let sorted = by_count(counts.into(), |count| *count);
        let names: Vec<String> = sorted.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["c", "a", "b"]);
    }
}
