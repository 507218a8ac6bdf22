//! `-C`: code generation.

use protocol::settings::Key;
use wasmtime::{Collector, Inlining};

use super::value::Kind::{Choice, Flag, OptionalChoice, Text};
use super::{Setting, Tool, both, compiler, nowhere, tool};

/// The options of the group.
pub(super) const SETTINGS: &[Setting] = &[
    nowhere(
        "compiler",
        Choice(&["cranelift", "winch"]),
        "it is Cranelift; a Wasmtime that cannot compile, as the kernel's, refuses code with Winch's way to call",
    ),
    both(
        Key::Collector,
        Choice(&["drc", "null", "copying"]),
        |config, value| {
            config.collector(match value {
                0 => Collector::DeferredReferenceCounting,
                1 => Collector::Null,
                _ => Collector::Copying,
            });
        },
        "how collected heaps are collected: by counting references, never, by copying",
    ),
    both(
        Key::Inlining,
        OptionalChoice(&["y", "n", "gc", "inter-module", "intrinsics"]),
        |config, value| {
            config.compiler_inlining(match value {
                0 => Inlining::Yes,
                1 => Inlining::No,
                2 => Inlining::InterModuleAndIntraGc,
                3 => Inlining::InterModule,
                _ => Inlining::Intrinsics,
            });
        },
        "which calls the compiler replaces by what they call",
    ),
    compiler(
        "cranelift-debug-verifier",
        Flag,
        |config, value| {
            config.cranelift_debug_verifier(value != 0);
        },
        "have Cranelift check its own work, slowly (default: n)",
    ),
    compiler(
        "parallel-compilation",
        Flag,
        |config, value| {
            config.parallel_compilation(value != 0);
        },
        "compile on all of this computer's CPUs (default: y)",
    ),
    compiler(
        "native-unwind-info",
        Flag,
        |config, value| {
            config.native_unwind_info(value != 0);
        },
        "add what debuggers unwind stacks by",
    ),
    compiler(
        "metadata-for-internal-asserts",
        Flag,
        |config, value| {
            config.metadata_for_internal_asserts(value != 0);
        },
        "name Wasmtime's own assertions in traps",
    ),
    compiler(
        "metadata-for-gc-heap-corruption",
        Flag,
        |config, value| {
            config.metadata_for_gc_heap_corruption(value != 0);
        },
        "name corruption of a collected heap in traps",
    ),
    tool(
        "cache",
        Flag,
        Tool::Cache,
        "take compiled modules from the target directory, and keep them (default: y)",
    ),
    nowhere(
        "cache-config",
        Text,
        "compiled modules are kept in the target directory, without a configuration; `-C cache=n` turns that off",
    ),
    tool(
        "cranelift-KEY",
        Text,
        Tool::Cranelift,
        "a flag of Cranelift's own, such as cranelift-enable_alias_analysis=false",
    ),
];
