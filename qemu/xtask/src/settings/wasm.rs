//! `-W`: what WebAssembly may do.

use protocol::settings::Key;
use wasmtime::WasmFeatures;

use super::value::Kind::{Bytes, Flag, Number, Time};
use super::{Setting, Tool, both, compiler, kernel, nowhere, tool};

/// A proposal that no_std Wasmtime can run, by the name of its option.
pub(crate) struct Proposal {
    #[cfg_attr(not(test), expect(dead_code, reason = "tests compare it with the table"))]
    pub(crate) name: &'static str,
    pub(crate) feature: WasmFeatures,
}

macro_rules! proposals {
    ($($name:literal $feature:ident $about:literal,)*) => {
        /// All of them: what `-W all-proposals` turns on, and a kernel's engine takes.
        pub(crate) const PROPOSALS: &[Proposal] =
            &[$(Proposal { name: $name, feature: WasmFeatures::$feature }),*];

        const PROPOSAL_SETTINGS: &[Setting] = &[$(
            compiler(
                $name,
                Flag,
                |config, value| {
                    config.wasm_features(WasmFeatures::$feature, value != 0);
                },
                $about,
            )
        ),*];
    };
}

proposals! {
    "bulk-memory" BULK_MEMORY "memory.copy, memory.fill, memory.init and the like for tables (default: y)",
    "multi-memory" MULTI_MEMORY "several memories in a module (default: y)",
    "multi-value" MULTI_VALUE "several results of functions and blocks (default: y)",
    "reference-types" REFERENCE_TYPES "externref, funcref, and tables of them (default: y)",
    "simd" SIMD "v128 (default: y)",
    "relaxed-simd" RELAXED_SIMD "vector instructions whose results may differ between CPUs (default: y)",
    "tail-call" TAIL_CALL "return_call and return_call_indirect (default: y)",
    "memory64" MEMORY64 "memories and tables with 64-bit indices (default: y)",
    "function-references" FUNCTION_REFERENCES "typed references to functions (default: y)",
    "gc" GC "structs and arrays on a collected heap (default: y)",
    "custom-page-sizes" CUSTOM_PAGE_SIZES "memories with pages of one byte (default: n)",
    "wide-arithmetic" WIDE_ARITHMETIC "128-bit addition, subtraction and multiplication (default: n)",
    "extended-const" EXTENDED_CONST "additions and multiplications in constant expressions (default: y)",
    "exceptions" EXCEPTIONS "try_table and throw (default: y)",
}

/// The options of the group.
pub(super) const SETTINGS: &[Setting] = &concat();

const OTHERS: &[Setting] = &[
    both(
        Key::Fuel,
        Number,
        |config, _| {
            config.consume_fuel(true);
        },
        "trap when a program has used this much fuel: one unit for most instructions",
    ),
    both(
        Key::EpochInterruption,
        Flag,
        |config, value| {
            config.epoch_interruption(value != 0);
        },
        "compile checks in by which the timer's interrupt reaches a program (default: with timeout or --slice)",
    ),
    kernel(Key::Timeout, Time, "trap when a program has run for so long; in seconds without a unit"),
    kernel(Key::MaxWasmStack, Bytes, "stack that WebAssembly may use before it overflows (default: 524288)"),
    kernel(
        Key::AsyncStackSize,
        Bytes,
        "size of the stacks of --slice (default: 2097152, or max-wasm-stack and 524288 if that is given)",
    ),
    kernel(Key::AsyncStackZeroing, Flag, "clear such a stack before its next use (default: n)"),
    kernel(Key::UnknownImportsTrap, Flag, "give functions that nobody has, and trap when one is called"),
    kernel(Key::UnknownImportsDefault, Flag, "give functions that nobody has, which return zeros"),
    kernel(Key::MaxMemorySize, Bytes, "the most that a memory may grow to; further growth gives -1"),
    kernel(Key::MaxTableElements, Number, "the most elements that a table may grow to"),
    kernel(Key::MaxInstances, Number, "the most instances in a store"),
    kernel(Key::MaxTables, Number, "the most tables in a store"),
    kernel(Key::MaxMemories, Number, "the most memories in a store"),
    kernel(Key::TrapOnGrowFailure, Flag, "trap where growth would give -1"),
    compiler(
        "nan-canonicalization",
        Flag,
        |config, value| {
            config.cranelift_nan_canonicalization(value != 0);
        },
        "one NaN for all, so that results are the same everywhere (default: n)",
    ),
    both(
        Key::RelaxedSimdDeterministic,
        Flag,
        |config, value| {
            config.relaxed_simd_deterministic(value != 0);
        },
        "relaxed-simd with the same results on every CPU (default: n)",
    ),
    compiler(
        "branch-hinting",
        Flag,
        |config, value| {
            config.wasm_branch_hinting(value != 0);
        },
        "lay code out by a module's hints about its branches",
    ),
    compiler(
        "gc-support",
        Flag,
        |config, value| {
            config.gc_support(value != 0);
        },
        "whether modules may need a collected heap at all (default: y)",
    ),
    tool(
        "all-proposals",
        Flag,
        Tool::AllProposals,
        "all proposals that are to be had here, but for those that are named besides",
    ),
    nowhere(
        "unknown-exports-allow",
        Flag,
        "exports that `run` does not know are never refused; leave it out",
    ),
    nowhere("wmemcheck", Flag, "Wasmtime's checker of heaps is part of its build with `std`"),
    nowhere("threads", Flag, THREADS),
    nowhere("shared-memory", Flag, THREADS),
    nowhere("shared-everything-threads", Flag, "Wasmtime 48 has not implemented it for any system"),
    nowhere(
        "stack-switching",
        Flag,
        "Wasmtime has it for x86_64 Linux and macOS only, built with `std`; --slice switches stacks itself",
    ),
    nowhere("component-model", Flag, COMPONENTS),
    nowhere("component-model-async", Flag, COMPONENTS),
    nowhere("component-model-more-async-builtins", Flag, COMPONENTS),
    nowhere("component-model-async-stackful", Flag, COMPONENTS),
    nowhere("component-model-threading", Flag, COMPONENTS),
    nowhere("component-model-error-context", Flag, COMPONENTS),
    nowhere("component-model-gc", Flag, COMPONENTS),
    nowhere("component-model-map", Flag, COMPONENTS),
    nowhere("component-model-memory64", Flag, COMPONENTS),
    nowhere("component-model-fixed-length-lists", Flag, COMPONENTS),
    nowhere("component-model-implements", Flag, COMPONENTS),
    nowhere("concurrency-support", Flag, COMPONENTS),
];

const THREADS: &str = "shared memories wait and wake with an operating system's threads, so that Wasmtime's \
                       feature `threads` needs `std`";
const COMPONENTS: &str = "`run` starts command modules; the interfaces of a command that is a component, WASI 0.2, \
                          are implemented over an operating system only";

const fn concat() -> [Setting; OTHERS.len() + PROPOSAL_SETTINGS.len()] {
    let mut all = [const { nowhere("", Flag, "") }; OTHERS.len() + PROPOSAL_SETTINGS.len()];
    let mut at = 0;
    while at < all.len() {
        all[at] = match at.checked_sub(OTHERS.len()) {
            None => OTHERS[at],
            Some(at) => PROPOSAL_SETTINGS[at],
        };
        at += 1;
    }
    all
}
