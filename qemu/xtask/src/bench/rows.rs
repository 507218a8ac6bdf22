//! What the rows are called and what they should be.

use crate::arch::Arch;

/// A row of the tables: the kernel's name for it, and what it is.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// What is counted, if not instructions.
    pub(super) unit: &'static str,
    x86_64: Option<u64>,
    aarch64: Option<u64>,
}

/// All of them, in the tables' order. A row that is missing here is shown by its name, at the end.
pub(super) const ROWS: &[Row] = &[
    row("entry-to-first-result", "kernel entry to the first wasm result").x86_64(10_000_000),
    row("main-to-first-result", "of which after boot: carve, engine, module, instance, call"),
    row("a0-cycle-without-memory", "a0. store, instantiate, drop; no memory").x86_64(5_100),
    row("a-cycle-one-page", "a. the same with one page of memory").x86_64(6_700),
    row("a-share-platform-calls", "our share of a: reserve, 64 KiB accessible, release").x86_64(650),
    row("d-grow-one-page-warm", "d. memory.grow by one wasm page, warm slot").x86_64(600),
    row("d-grow-one-page-cold", "d. the same, cold slot: 16 frames cleared"),
    row("d-share-mprotect", "our share of d: 64 KiB made accessible").x86_64(150),
    row("e-trap-with-backtrace", "e. out-of-bounds load to Err, with backtrace").x86_64(4_700),
    row("e-trap-without-backtrace", "e. the same without backtrace").x86_64(1_900),
    row("e-share-fault", "our share of e: exception entry, verdict, exception exit"),
];

/// A row that counts instructions and has no targets.
const fn row(name: &'static str, title: &'static str) -> Row {
    Row { name, title, unit: "", x86_64: None, aarch64: None }
}

impl Row {
    /// Sets the target on x86_64.
    const fn x86_64(self, most: u64) -> Self {
        Self { x86_64: Some(most), ..self }
    }

    /// Sets the target on aarch64.
    #[expect(dead_code, reason = "no row has one yet")]
    const fn aarch64(self, most: u64) -> Self {
        Self { aarch64: Some(most), ..self }
    }

    /// Says what is counted, if not instructions.
    #[expect(dead_code, reason = "all rows are instructions so far")]
    const fn unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    pub(super) fn target(&self, arch: Arch) -> Option<u64> {
        match arch {
            Arch::X86_64 => self.x86_64,
            Arch::Aarch64 => self.aarch64,
        }
    }
}

/// What is known about the row that the kernel calls `name`.
pub(super) fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

/// Where the row comes in the tables.
pub(super) fn place(name: &str) -> usize {
    ROWS.iter().position(|row| row.name == name).unwrap_or(ROWS.len())
}

/// Its title, or for want of one its name.
pub(super) fn title(name: &str) -> &str {
    find(name).map_or(name, |row| row.title)
}

/// A count as people read it: `1,234,567`, and what it counts if not instructions.
pub(super) fn readable(name: &str, count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    match find(name).map(|row| row.unit) {
        Some(unit) if !unit.is_empty() => format!("{text} {unit}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::{ROWS, place, readable, title};

    #[test]
    fn counts_are_grouped_by_thousands() {
        for (count, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(readable("no row", count), text);
        }
    }

    #[test]
    fn a_row_without_title_is_shown_by_its_name_at_the_end() {
        assert_eq!((title("new-row"), place("new-row")), ("new-row", ROWS.len()));
        for (at, row) in ROWS.iter().enumerate() {
            assert_eq!((title(row.name), place(row.name)), (row.title, at));
        }
    }
}
