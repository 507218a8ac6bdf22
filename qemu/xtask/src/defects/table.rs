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

use super::{Defect, Machine};
use crate::arch::Arch;

pub(super) const DEFECTS: &[Defect] = &[
    Defect::new(
        "flush-skipped",
        "a slot that is given back asks for no invalidation",
        "src/vm/pages.rs",
        "let stale = if run.is_empty() { Stale::No } else { Stale::Yes };",
        "let stale = if run.is_empty() { Stale::Yes } else { Stale::No };",
    ),
    Defect::new(
        "flush-too-small",
        "of a slot's pages only the first half is invalidated",
        "src/pooling/memory_pool.rs",
        "if clean { Invalidation::leaves(pages) } else",
        "if clean { Invalidation::leaves(Pages { count: pages.count / 2, ..pages }) } else",
    ),
    Defect::new(
        "only-this-cpu",
        "frames become something else when one CPU has forgotten them",
        "src/vm/epochs.rs",
        "arch.invalidate_everywhere(what);",
        "arch.invalidate_local(what);",
    ),
    Defect::new(
        "only-cpus-that-ran",
        "a slot's frames move on without waiting for CPUs that never used it",
        "src/pooling/memory_pool.rs",
        "let settled = vm.epochs.settle_since(&vm.arch, revoked);",
        "let _ = revoked;\n                let settled = vm.settle(Invalidation::NOTHING);",
    ),
    Defect::new(
        "taken-without-forgetting",
        "a CPU takes a slot that another one had, and forgets nothing",
        "src/pooling/memory_pool.rs",
        "        record.forget(vm);\n        let generation",
        "        let generation",
    ),
    Defect::new(
        "arrive-omitted",
        "work arrives on a CPU that forgets nothing",
        "src/pooling/memory_pool.rs",
        "        record.forget(vm);\n        Ok(())",
        "        Ok(())",
    ),
    Defect::new(
        "epoch-stands-still",
        "a revocation begins no epoch",
        "src/vm/epochs.rs",
        "self.now.fetch_add(1, Ordering::AcqRel) + 1",
        "self.now.fetch_add(0, Ordering::AcqRel)",
    ),
    Defect::new(
        "pointers-kept",
        "a table is given back while CPUs keep pointers to it",
        "src/vm/regions/tables.rs",
        "unlinked.merge(Invalidation::tables(part))",
        "unlinked.merge(Invalidation::leaves(part))",
    ),
    Defect::new(
        "wrong-level",
        "the index into a table is that of the level above",
        "src/vm/space/walk.rs",
        "let at = index(start, 1);",
        "let at = index(start, 2);",
    ),
    Defect::new(
        "barrier-missing",
        "an aarch64 invalidation does not wait for its completion",
        "arch/src/aarch64/invalidate.rs",
        "    cpu.dsb_complete(shared);\n",
        "    let _ = shared;\n",
    ),
    Defect::new(
        "stores-not-ordered",
        "an aarch64 invalidation does not order the stores before it",
        "arch/src/aarch64/invalidate.rs",
        "            cpu.dsb_before();\n            pages.iter()",
        "            pages.iter()",
    ),
    Defect::new(
        "operand-not-masked",
        "the sign extension of an address reaches the operand's level",
        "arch/src/aarch64/invalidate.rs",
        "page.0 >> 12 & PAGE_NUMBER",
        "page.0 >> 12",
    ),
    Defect::new(
        "mark-cleared-unnoticed",
        "a cleared dirty bit asks for no invalidation",
        "arch/src/x86_64/entry.rs",
        "let taken = old & !new & TAKEN |",
        "let taken = old & !new & WRITABLE |",
    ),
    Defect::new(
        "mark-lost",
        "the first write to a clean page is resumed without a mark",
        "src/fault.rs",
        "let _ = mark_written::<A>(entry);",
        "let _ = mark_written::<A>;",
    ),
    Defect::new(
        "summary-forgotten",
        "pages become writable under a table that says that none is",
        "src/vm/space/walk.rs",
        "part.directory.fetch_or(A::Format::SUMMARY, Ordering::AcqRel);",
        "part.directory.fetch_or(0, Ordering::AcqRel);",
    ),
    Defect::new(
        "shared-table-written",
        "an edit goes through to a shared table",
        "src/vm/space/walk.rs",
        "if entry & A::Format::SHARED_TABLE != 0 => Below::Shared(frame),",
        "if entry & A::Format::SHARED_TABLE == !0 => Below::Shared(frame),",
    ),
    Defect::new(
        "private-table-empty",
        "a private table is not a copy of the shared one",
        "src/vm/space/shared.rs",
        "unsafe { space.vm.arch.copy_frame(shared, copy.frame) };",
        "let _ = shared;",
    ),
    Defect::new(
        "dbm-on-copy-on-write",
        "an aarch64 page that is copied on write lets the CPU make it writable",
        "arch/src/aarch64/entry.rs",
        "Access::CopyOnWrite => PRIVILEGED_NO_EXECUTE | READ_ONLY | SHARED,",
        "Access::CopyOnWrite => PRIVILEGED_NO_EXECUTE | READ_ONLY | SHARED | DIRTY_BIT_MODIFIER,",
    ),
    Defect::new(
        "dirty-and-read-only",
        "a read-only x86_64 page is marked by its dirty bit",
        "arch/src/x86_64/entry.rs",
        "(Access::Read, true) => NO_EXECUTE | WRITTEN,",
        "(Access::Read, true) => NO_EXECUTE | DIRTY,",
    ),
    Defect::new(
        "writable-and-executable",
        "a writable page can be executed",
        "arch/src/x86_64/entry.rs",
        "(Access::ReadWrite, false) => NO_EXECUTE | WRITABLE,",
        "(Access::ReadWrite, false) => WRITABLE,",
    ),
    Defect::new(
        "address-left-in-hidden-entry",
        "a hidden x86_64 entry keeps its frame's address",
        "arch/src/x86_64/entry.rs",
        "(present & KEPT) ^ (FRAME | HIDDEN)",
        "(present & KEPT) ^ HIDDEN",
    ),
    Defect::new(
        "hint-left-on-one-entry",
        "of a contiguous run one entry keeps the hint when it is broken",
        "src/vm/space/sizes.rs",
        "A::Format::present(frame.offset(nth * PAGE_SIZE), access, written)\n",
        "A::Format::present(frame.offset(nth * PAGE_SIZE), access, written)\n                        | if nth == 3 { A::Format::RUN_HINT } else { 0 }\n",
    ),
    Defect::new(
        "made-without-break",
        "an aarch64 entry gets another frame without break-before-make",
        "src/vm/space/rights.rs",
        "if A::Format::needs_break(pages::revealed::<A>(old), new) {",
        "if A::Format::needs_break(old, old) {",
    ),
    Defect::new(
        "block-table-freed-early",
        "the table that a block replaces is given back before CPUs have forgotten it",
        "src/vm/space/sizes.rs",
        "let settled = self.forget(part);",
        "let settled = self.vm.settle(allotment_arch::Invalidation::NOTHING);",
    ),
    Defect::new(
        "write-protection-off",
        "a kernel that ignores read-only pages is accepted",
        "arch/src/x86_64/cpu.rs",
        "            return Err(CpuError::WriteProtectOff);\n",
        "            let _ = CpuError::WriteProtectOff;\n",
    )
    .on(Machine::new(Arch::X86_64)),
    Defect::new(
        "invlpg-cut-to-48-bits",
        "an invalidation misses pages of a window with 57 bits",
        "arch/src/x86_64/cpu.rs",
        "in(reg) page.0, options",
        "in(reg) (page.0 << 16).cast_signed() >> 16, options",
    )
    .on(Machine::new(Arch::X86_64).words("la57")),
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
        "pages::reveal::<A>(self.entries(vm, id.slot, first, last));",
        "pages::reveal::<A>(self.entries(vm, id.slot, first, last + 1));",
    ),
    Defect::new(
        "range-beyond-the-window",
        "an edit may begin in the window and end outside",
        "src/vm/space/walk.rs",
        "Some(left) if count <= left / PAGE_SIZE => Ok(()),",
        "Some(left) if left > 0 => Ok(()),",
    ),
    Defect::new(
        "mark-of-one-page",
        "of a contiguous run that is hidden only the page with the mark counts as written",
        "src/vm/space/walk.rs",
        "spread_mark::<A>(table, index(page, 0));",
        "let _ = spread_mark::<A>;",
    ),
    Defect::new(
        "run-revealed-as-pages",
        "a hidden run may be revealed as pages while its one translation is cached",
        "src/vm/space/rights.rs",
        "if tally.ended_runs {",
        "if tally.ended_runs && tally.entries == 0 {",
    ),
    Defect::new(
        "block-without-summary",
        "the table that a block is split into says that nothing in it may be writable",
        "src/vm/space/sizes.rs",
        "A::Format::table(frame) | A::Format::SUMMARY",
        "A::Format::table(frame)",
    ),
    Defect::new(
        "hidden-counts-as-forgotten",
        "a hidden page gets another frame though what hid it may not be settled",
        "src/vm/space/rights.rs",
        "if A::Format::needs_break(pages::revealed::<A>(old), new) {",
        "if A::Format::needs_break(old, new) {",
    ),
    Defect::new(
        "slot-freed-twice",
        "a slot that nobody uses may be given back",
        "src/pooling/index_allocator/shard.rs",
        "        if !link.is_used() {\n            return false;\n        }\n        if lists.latest",
        "        if lists.latest",
    ),
    Defect::new(
        "latest-lost",
        "the slot that was given back last is forgotten when another one is",
        "src/pooling/index_allocator/shard.rs",
        "            self.list_latest(&mut lists, storage.links, storage.buckets);\n        }\n",
        "        }\n",
    ),
    Defect::new(
        "affinity-of-one",
        "of a module's slots only the one that was given back last is found",
        "src/pooling/index_allocator/affinity.rs",
        "            from.set(older);",
        "            from.set(next_key);",
    ),
    Defect::new(
        "moved-unsettled",
        "a memory's tables are linked in its new range while CPUs keep pointers to them in the old",
        "src/vm/regions/mod.rs",
        "let settled = vm.settle(tables::unlink(vm, pages));\n        tables::relink",
        "let _ = tables::unlink(vm, pages);\n        \
         let settled = vm.settle(allotment_arch::Invalidation::NOTHING);\n        tables::relink",
    ),
    Defect::new(
        "room-overlooked",
        "address space that comes back is not joined with what is free before it",
        "src/vm/address_space.rs",
        "*hint = (*hint).min(at.saturating_sub((1 << (2 * length)) - 1));",
        "*hint = (*hint).min(at + length / LENGTHS);",
    ),
    Defect::new(
        "refused-move-keeps-its-range",
        "the range for a memory that could not move stays reserved",
        "src/vm/regions/mod.rs",
        "self.dissolve(vm, new_id.record, new.0, new.1);",
        "drop(new);",
    ),
];
