//! What is left out, and why. The list is closed: another reason is a change here.

use core::fmt;

/// Why something is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Threads and shared memories.
    Threads,
    /// Proposals that Wasmtime does not have.
    NotInWasmtime,
    /// Files of proposals that became part of the specification in another form.
    Superseded,
}

impl Reason {
    pub(super) const ALL: [Self; 3] = [Self::Threads, Self::NotInWasmtime, Self::Superseded];
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Threads => "Wasmtime has threads and shared memories with `std` only",
            Self::NotInWasmtime => "the proposal is not in Wasmtime 48",
            Self::Superseded => "older than the specification, which decided otherwise",
        })
    }
}

/// An entry of the list.
#[derive(Debug)]
pub(super) struct Skip {
    /// The file's name in the suite.
    file: &'static str,
    /// Its lines that are left out; none means all of it.
    lines: &'static [u32],
    pub(super) reason: Reason,
}

/// The entries for a file.
pub(super) fn of(file: &str) -> Vec<&'static Skip> {
    SKIPS.iter().filter(|skip| skip.file == file).collect()
}

impl Skip {
    /// Whether all of the file is left out.
    pub(super) fn is_whole(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether this line is.
    pub(super) fn has(&self, line: u32) -> bool {
        self.is_whole() || self.lines.contains(&line)
    }

    /// What the entry leaves out though it would pass, given the lines that do not. Line 0 is the file.
    pub(super) fn stale(&self, failing: &[u32]) -> Vec<u32> {
        if self.is_whole() {
            return if failing.is_empty() { vec![0] } else { Vec::new() };
        }
        self.lines.iter().copied().filter(|line| !failing.contains(line)).collect()
    }
}

const fn whole(file: &'static str, reason: Reason) -> Skip {
    Skip { file, lines: &[], reason }
}

const fn lines(file: &'static str, lines: &'static [u32], reason: Reason) -> Skip {
    Skip { file, lines, reason }
}

/// What is left out.
const SKIPS: &[Skip] = &[
    // Shared memories, atomic accesses.
    whole("threads/atomic.wast", Reason::Threads),
    lines("threads/exports.wast", &[172, 173, 174, 175, 176, 177], Reason::Threads),
    lines("threads/imports.wast", &[499, 501, 505], Reason::Threads),
    lines("threads/memory.wast", &[9, 10], Reason::Threads),
    // Descriptors, and casts between types that need not be below one another.
    whole("custom-descriptors/array_new_exact.wast", Reason::NotInWasmtime),
    whole("custom-descriptors/binary-descriptors.wast", Reason::NotInWasmtime),
    whole("custom-descriptors/br_on_cast.wast", Reason::NotInWasmtime),
    whole("custom-descriptors/br_on_cast_desc_eq.wast", Reason::NotInWasmtime),
    whole("custom-descriptors/br_on_cast_desc_eq_fail.wast", Reason::NotInWasmtime),
    whole("custom-descriptors/br_on_cast_fail.wast", Reason::NotInWasmtime),
    whole("custom-descriptors/descriptors.wast", Reason::NotInWasmtime),
    whole("custom-descriptors/exact-casts.wast", Reason::NotInWasmtime),
    whole("custom-descriptors/exact-func-import.wast", Reason::NotInWasmtime),
    whole("custom-descriptors/exact.wast", Reason::NotInWasmtime),
    whole("custom-descriptors/ref_cast_desc_eq.wast", Reason::NotInWasmtime),
    whole("custom-descriptors/ref_get_desc.wast", Reason::NotInWasmtime),
    whole("custom-descriptors/struct_new_desc.wast", Reason::NotInWasmtime),
    // A module could have one table and one memory, whose number in an instruction was the byte 0.
    lines("core-1/imports.wast", &[404, 408, 412], Reason::Superseded),
    lines("core-1/memory.wast", &[8, 9], Reason::Superseded),
    lines("core-2/binary.wast", &[145, 165, 184, 203, 242, 261, 279, 297], Reason::Superseded),
    lines("core-2/imports.wast", &[487, 491, 495], Reason::Superseded),
    lines("core-2/memory.wast", &[10, 11], Reason::Superseded),
    lines("function-references/binary.wast", &[145, 165, 184, 203, 242, 261, 279, 297], Reason::Superseded),
    lines("memory64/binary.wast", &[876, 896, 915, 934, 973, 992, 1010, 1028], Reason::Superseded),
    lines("memory64/memory.wast", &[10, 11], Reason::Superseded),
    lines("memory64/memory64.wast", &[8, 9], Reason::Superseded),
    lines("multi-value/binary.wast", &[162, 182, 201, 220, 259, 278, 296, 314], Reason::Superseded),
    lines("reference-types/imports.wast", &[416, 420, 424], Reason::Superseded),
    lines("threads/imports.wast", &[309, 313, 317, 404, 408, 412], Reason::Superseded),
    lines("threads/memory.wast", &[14, 15], Reason::Superseded),
    // Besides, sizes of memories and offsets in them were numbers of 32 bits.
    lines("core-1/binary-leb128.wast", &[216, 224, 403, 460], Reason::Superseded),
    lines("core-2/binary-leb128.wast", &[217, 225], Reason::Superseded),
    lines(
        "reference-types/binary.wast",
        &[157, 354, 362, 419, 756, 776, 795, 814, 853, 872, 890, 908],
        Reason::Superseded,
    ),
    lines("reference-types/binary-leb128.wast", &[217, 225, 404, 461], Reason::Superseded),
    // Types of a `br_table` that is never reached.
    lines("reference-types/unreached-invalid.wast", &[539], Reason::Superseded),
    // All segments were checked before any was written; now the first that does not fit is a trap.
    lines(
        "mutable-global/linking.wast",
        &[206, 227, 236, 238, 248, 298, 334, 342, 344, 354],
        Reason::Superseded,
    ),
];

#[cfg(test)]
mod tests {
    use super::{Reason, SKIPS, lines, whole};
    use crate::spec::suite;

    #[test]
    fn every_entry_is_of_a_file_that_there_is_and_every_reason_is_used() {
        let files = suite::files(&[]).unwrap();
        for skip in SKIPS {
            assert!(files.iter().any(|source| source.name == skip.file), "{}", skip.file);
        }
        for reason in Reason::ALL {
            assert!(SKIPS.iter().any(|skip| skip.reason == reason), "{reason:?}");
        }
    }

    #[test]
    fn an_entry_that_would_pass_is_stale() {
        let all = whole("a.wast", Reason::Threads);
        assert!(all.has(7) && all.stale(&[7]).is_empty());
        assert_eq!(all.stale(&[]), [0]);
        let some = lines("a.wast", &[3, 5], Reason::Threads);
        assert!(some.has(3) && !some.has(4));
        assert_eq!(some.stale(&[4, 5]), [3]);
    }
}
