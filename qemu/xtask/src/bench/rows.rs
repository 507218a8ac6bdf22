//! What the rows are called and what they should be.

use super::density::Fit;
use crate::arch::Arch;
use crate::units::thousands;

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
    row("b-image-64k-0", "b. cycle with a call, image of 64 KiB, 0 pages written").x86_64(8_400),
    row("b-image-64k-1", "b. 1 page written").x86_64(8_750),
    row("b-image-64k-4", "b. 4 pages").x86_64(9_700),
    row("b-image-64k-16", "b. 16 pages").x86_64(13_500),
    row("c-image-1m-16", "c. image of 1 MiB, 16 adjacent pages").x86_64(13_770),
    row("c-image-64m-16", "c'. image of 64 MiB, 16 adjacent pages").x86_64(13_770),
    row("c-image-64m-16-spread", "c'. the same, 16 pages in as many tables").x86_64(19_000),
    row("i-dirty-page", "i. of b, for each page written, from the second run on").x86_64(320),
    row("j-cold-slot", "j. first use of a cold slot: cycle with a call, one page of memory").x86_64(12_000),
    row("d-grow-one-page-warm", "d. memory.grow by one wasm page, warm slot").x86_64(600),
    row("d-grow-one-page-cold", "d. the same, cold slot: 16 frames cleared"),
    row("d-share-mprotect", "our share of d: 64 KiB made accessible").x86_64(150),
    row("e-trap-with-backtrace", "e. out-of-bounds load to Err, with backtrace").x86_64(4_700),
    row("e-trap-without-backtrace", "e. the same without backtrace").x86_64(1_900),
    row("h-async-over-sync", "h. an asynchronous call in a new store, over a synchronous one").x86_64(1_500),
    row("h-sync-call", "h. the synchronous one: a with a call, in the kernel that has both"),
    row("h-async-call", "h. the asynchronous one: on a stack of the pool, which goes back"),
    row("h-async-second-call", "h. each further asynchronous call in that store"),
    row("e-share-fault", "our share of e: exception entry, verdict, exception exit"),
    row("premapped-reveal-16", "64 KiB of a premapped run made accessible: 16 pages revealed")
        .x86_64(80)
        .aarch64(80),
    row("premapped-hide-16", "64 KiB of a premapped run taken away: hidden, and forgotten here")
        .x86_64(160)
        .aarch64(160),
    row("premapped-harvest-16-clean", "harvest over a premapped run of 16 pages, none written")
        .x86_64(120)
        .aarch64(120),
    row("premapped-harvest-16", "harvest over a premapped run of 16 pages, all written")
        .x86_64(1_000)
        .aarch64(1_000),
    row("slot-reveal-16", "64 KiB of a slot made accessible: 16 pages revealed").x86_64(80).aarch64(80),
    row("slot-release-16", "64 KiB of a slot taken away: hidden, forgotten here, given back")
        .x86_64(160)
        .aarch64(160),
    row("slot-allocate", "a slot taken, nothing of it accessible"),
    row("pool-warm-clean", "allocate and deallocate a memory of 64 KiB, warm and clean")
        .x86_64(250)
        .aarch64(250),
    row("pool-warm-clean-no-module", "the same of no module"),
    row("pool-warm-one-page-written", "the same, one page written and cleared"),
    row("pool-warm-other-size", "the same, 64 KiB and 128 KiB in turn"),
    row("pool-cold", "the same in a slot that was never used: 16 frames cleared")
        .x86_64(3_000)
        .aarch64(3_000),
    row("pool-grow-16", "a warm memory grown by a wasm page").x86_64(150).aarch64(150),
    row("pool-table-warm", "allocate and deallocate a table of 1,000 elements, warm and clean"),
    row("pool-stack-warm", "allocate and deallocate a stack of 1 MiB, warm"),
    row("image-warm-clean", "allocate and deallocate a memory of 64 KiB with an image, warm and clean"),
    row("image-first-write", "f. first write to a page of an image, in the fault").x86_64(450).aarch64(450),
    row("zero-first-write", "f. first write to a zero page, in the fault").x86_64(300).aarch64(300),
    row("image-first-read", "f. first read of an image's page").x86_64(8).aarch64(8),
    row("image-reset-0", "reset of a memory with an image, nothing written: deallocation")
        .x86_64(120)
        .aarch64(120),
    row("image-reset-16", "the same, 16 adjacent pages written; 4,160 of it are the copies")
        .x86_64(5_160)
        .aarch64(5_160),
    row("image-reset-table", "the same, for each further table with a writable page that nobody wrote")
        .x86_64(3)
        .aarch64(3),
    row("image-64k", "a memory's whole life, image of 64 KiB, 16 adjacent pages written"),
    row("image-1m", "the same, image of 1 MiB"),
    row("image-64m", "the same, image of 64 MiB"),
    row("image-64m-spread", "the same, image of 64 MiB, 16 pages in as many tables"),
    row("image-dirty-page", "of the first, for each page written").x86_64(320).aarch64(320),
    row("clone-capture-elastic", "capture of a memory that shows 16 MiB and wrote 1 MiB of it, `Elastic`"),
    row("clone-capture-fixed", "the same, `Fixed`: 256 pages are copied, 66,560 of it"),
    row("clone-elastic", "a clone of it allocated, `Elastic`"),
    row("clone-fixed", "the same, `Fixed`"),
    row("pool-create-1000", "a pool of 1,000 slots with 1 MiB premapped")
        .x86_64(1_000_000)
        .aarch64(1_000_000),
    row("pool-create-10000", "a pool of 10,000").x86_64(10_000_000).aarch64(10_000_000),
    row("pool-warm-clean-10", "allocate and deallocate, warm and clean, in a pool of 10 slots"),
    row("pool-warm-clean-1000", "the same in a pool of 1,000"),
    row("pool-warm-clean-10000", "the same in a pool of 10,000"),
    row("pool-warm-clean-100000", "the same in a pool of 100,000"),
    row(
        "pool-idle-slot-bytes",
        "tables and records of an idle slot of 4 GiB, beyond its premapped leaf tables",
    )
    .x86_64(8_192)
    .aarch64(8_192)
    .unit("bytes"),
    row(
        "instance-warm-clean",
        "allocate and deallocate an instance with a memory of 64 KiB and a table, warm and clean",
    )
    .x86_64(400)
    .aarch64(400),
    row("instance-without-memory", "the same of an instance without memory and table"),
    row("instance-one-page-written", "the same with both, one page written and cleared"),
    row(
        "instance-data-segments",
        "the same, initialised with the four data segments of 256 bytes that a start function would copy",
    ),
    row("instance-cold", "the same in slots that were never used: 17 frames cleared")
        .x86_64(4_000)
        .aarch64(4_000),
    row("reveal-16", "any 16 pages of a window revealed").x86_64(80).aarch64(80),
    row("hide-16", "any 16 pages of a window hidden, and forgotten here").x86_64(160).aarch64(160),
    row("harvest-16-clean", "harvest over any 16 pages of a window, none written").x86_64(120).aarch64(120),
    row("harvest-16", "harvest over any 16 pages of a window, all written").x86_64(1_000).aarch64(1_000),
    row("harvest-16384-one-table", "harvest over 16,384 pages, 16 of them writable, none written"),
    row("harvest-16384-clean", "harvest over 16,384 writable pages, none written"),
    row("first-write-under-shared-table", "first write under a shared table: made private")
        .x86_64(600)
        .aarch64(600),
    row("fault-resume", "a fault that only resumes").x86_64(120).aarch64(160),
    row("fault-resume-share", "of which the verdict"),
    row("reveal-1", "1 page revealed"),
    row("reveal-512", "2 MiB revealed"),
    row("reveal-16384", "64 MiB revealed"),
    row("reveal-262144", "1 GiB revealed"),
    row("hide-1", "1 page hidden"),
    row("hide-512", "2 MiB hidden"),
    row("hide-16384", "64 MiB hidden"),
    row("hide-262144", "1 GiB hidden"),
    row("harvest-1", "harvest of 1 page, written"),
    row("harvest-512", "harvest of 2 MiB, all written"),
    row("harvest-all-16384", "harvest of 64 MiB, all written"),
    row("harvest-262144", "harvest of 1 GiB, all written"),
    per_1000("cpus-cycle-interrupts", "allocate and release on 4 CPUs: interrupts"),
    per_1000("cpus-cycle-shootdowns", "the same: invalidations on every CPU"),
    row("cpus-cycle-local", "the same: invalidations on the CPU itself").unit("a 1,000"),
    per_1000("cpus-grow-interrupts", "growth on 4 CPUs: interrupts"),
    per_1000("cpus-grow-shootdowns", "the same: invalidations on every CPU"),
    row("cpus-grow-local", "the same, and the releases between: invalidations on the CPU itself")
        .unit("a 1,000"),
    per_1000("cpus-fault-interrupts", "faults on 4 CPUs: interrupts"),
    per_1000("cpus-fault-shootdowns", "the same: invalidations on every CPU"),
    row("cpus-fault-local", "the same: invalidations on the CPU itself").unit("a 1,000"),
    per_1000("cpus-reuse-elsewhere-interrupts", "a warm slot from CPU to CPU: interrupts"),
    per_1000("cpus-reuse-elsewhere-shootdowns", "the same: invalidations on every CPU"),
    row("cpus-reuse-elsewhere-local", "the same: invalidations on the CPU itself").unit("a 1,000"),
];

/// What 1,000 operations should not do at all.
const fn per_1000(name: &'static str, title: &'static str) -> Row {
    row(name, title).x86_64(0).aarch64(0).unit("a 1,000")
}

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
    const fn aarch64(self, most: u64) -> Self {
        Self { aarch64: Some(most), ..self }
    }

    /// Says what is counted, if not instructions.
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

/// What it counts; empty for instructions.
pub(super) fn unit(name: &str) -> &'static str {
    match find(name) {
        Some(row) => row.unit,
        None if Fit::of_row(name).is_some() => "instances",
        None => "",
    }
}

/// A count as people read it: `1,234,567`, and what it counts if not instructions.
pub(super) fn readable(name: &str, count: u64) -> String {
    format!("{} {}", thousands(count), unit(name)).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{ROWS, place, title};

    #[test]
    fn a_row_without_title_is_shown_by_its_name_at_the_end() {
        assert_eq!((title("new-row"), place("new-row")), ("new-row", ROWS.len()));
        for (at, row) in ROWS.iter().enumerate() {
            assert_eq!((title(row.name), place(row.name)), (row.title, at));
        }
    }
}
