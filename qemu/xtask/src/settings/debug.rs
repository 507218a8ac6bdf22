//! `-D`: backtraces and debug information.

use protocol::settings::Key;

use super::value::Kind::{Flag, Number, Text};
use super::{Setting, both, compiler, kernel, nowhere};

/// The options of the group.
pub(super) const SETTINGS: &[Setting] = &[
    kernel(Key::MaxBacktrace, Number, "frames in the backtrace of a trap, 0 for none (default: 20)"),
    compiler(
        "address-map",
        Flag,
        |config, value| {
            config.generate_address_map(value != 0);
        },
        "offsets in the module for the addresses of a backtrace (default: y)",
    ),
    both(
        Key::DebugInfo,
        Flag,
        |config, value| {
            config.debug_info(value != 0);
        },
        "DWARF in the compiled module (default: n)",
    ),
    both(
        Key::Symbols,
        Flag,
        |config, value| {
            config.debug_symbols(value != 0);
        },
        "symbols in the compiled module",
    ),
    nowhere("guest-debug", Flag, DEBUGGER),
    nowhere("debugger", Text, DEBUGGER),
    nowhere("arg", Text, DEBUGGER),
    nowhere("inherit-stdin", Flag, DEBUGGER),
    nowhere("inherit-stdout", Flag, DEBUGGER),
    nowhere("inherit-stderr", Flag, DEBUGGER),
    nowhere("logging", Flag, LOGS),
    nowhere("log-to-files", Flag, LOGS),
    nowhere(
        "coredump",
        Text,
        "Wasmtime writes core dumps with `std` only; a trap's message says whose memory it was",
    ),
];

const DEBUGGER: &str = "Wasmtime's debugger is a component that runs beside the program, over WASI 0.2; `--gdb` \
                        attaches one to the whole machine";
const LOGS: &str = "the kernel has no logger; `-v` shows its console";
