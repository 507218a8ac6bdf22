//! The seeded mistakes.
//!
//! To add one, write an entry: a name; what is wrong, in one sentence; the file; a piece of its text
//! that occurs exactly once; what it becomes. What it becomes must compile, and one of the core's
//! tests must fail. The host's tests are asked first of all since they are the quickest; where only a
//! machine can tell, say so:
//!
//! ```ignore
//! Defect::new("name", "what is wrong", "src/file.rs", "from", "to").on(Machine::new(Arch::X86_64).smp("4"))
//! ```
//!
//! Try it with `cargo xtask test defects name`.

use super::Defect;

pub(super) const DEFECTS: &[Defect] = &[
    Defect::new(
        "hide-forgets-the-tlb",
        "taking access away asks for no invalidation",
        "src/vm/pages.rs",
        "let stale = if before & A::Format::PRESENT != 0 { Stale::Yes } else { Stale::No };",
        "let stale = if before & A::Format::PRESENT != 0 { Stale::No } else { Stale::No };",
    ),
    Defect::new(
        "scrub-skipped",
        "pages that were written keep what was written",
        "src/vm/pages.rs",
        "            unsafe { vm.arch.zero_frame(frame) };\n",
        "            let _ = (vm, frame);\n",
    ),
    Defect::new(
        "reveal-one-too-many",
        "growth makes one page more accessible than was asked for",
        "src/pooling/memory_pool.rs",
        "pages::reveal(vm, self.entries(vm, id.slot, first, last));",
        "pages::reveal(vm, self.entries(vm, id.slot, first, last + 1));",
    ),
];
