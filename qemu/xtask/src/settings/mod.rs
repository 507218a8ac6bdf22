//! Settings by the names of Wasmtime's own command line: `-W`, `-O`, `-C` and `-D`.
//!
//! ```text
//!   wasm, optimize, codegen, debug    the tables: name, kind of value, place, meaning
//!        |
//!   value, parse, help    -W fuel=1000 -> Words, or what is wrong with it and what there is
//!        |
//!   given                 all words of a command line
//!        |-- configure ----> the compiler's `wasmtime::Config`
//!        |-- told ---------> protocol::settings, in the payload: the kernel's `Config`, stores and pools
//!        '-- strategy, keeps_compiled, cranelift: other parts of this tool
//! ```
//!
//! Each option of Wasmtime 48 is in a table, also one that cannot be had here: it says why.
//! `docs/config.md` says the same of each method of Wasmtime's `Config`; tests compare the two.

mod codegen;
mod debug;
mod given;
mod help;
mod optimize;
mod parse;
mod value;
mod wasm;

pub(crate) use given::Given;
pub(crate) use parse::{Codegen, Debug, Optimize, Wasm, Words};
use protocol::settings::Key;
use value::Kind;
use wasmtime::Config;

use crate::error::Usage;

/// One option.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    /// Its name behind the letter.
    name: &'static str,
    kind: Kind,
    place: Place,
    /// What it does, for `help`.
    about: &'static str,
}

/// Who must know of a setting.
#[derive(Clone, Copy)]
enum Place {
    /// The compiler, here.
    Compiler(fn(&mut Config, u64)),
    /// The kernel; the module is the same.
    Kernel(Key),
    /// Both: Wasmtime refuses a module whose setting is not the kernel's.
    Both(Key, fn(&mut Config, u64)),
    /// This tool itself, in some other way.
    Tool(Tool),
    /// Nobody: it is not to be had, and this is why.
    Nowhere(&'static str),
}

/// What this tool does with a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    /// Chooses where memories come from.
    Strategy,
    /// Chooses whether compiled modules are kept for the next time.
    Cache,
    /// Turns all proposals on or off, but for those that are named besides.
    AllProposals,
    /// Passes a flag on to Cranelift: the only one whose name is open.
    Cranelift,
}

/// A group of options, by its letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Wasm,
    Optimize,
    Codegen,
    Debug,
}

impl Group {
    #[cfg(test)]
    const ALL: [Self; 4] = [Self::Wasm, Self::Optimize, Self::Codegen, Self::Debug];

    const fn letter(self) -> char {
        match self {
            Self::Wasm => 'W',
            Self::Optimize => 'O',
            Self::Codegen => 'C',
            Self::Debug => 'D',
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Wasm => "what WebAssembly may do",
            Self::Optimize => "memories, pools and the optimizer",
            Self::Codegen => "code generation",
            Self::Debug => "backtraces and debug information",
        }
    }

    const fn settings(self) -> &'static [Setting] {
        match self {
            Self::Wasm => wasm::SETTINGS,
            Self::Optimize => optimize::SETTINGS,
            Self::Codegen => codegen::SETTINGS,
            Self::Debug => debug::SETTINGS,
        }
    }
}

/// Refuses settings for the demo, which is as it is.
pub(crate) fn needs_module() -> anyhow::Error {
    Usage("settings are for a program of yours, or for --plan: give a MODULE".into()).into()
}

/// For the tables: one line each.
const fn compiler(
    name: &'static str,
    kind: Kind,
    apply: fn(&mut Config, u64),
    about: &'static str,
) -> Setting {
    Setting { name, kind, place: Place::Compiler(apply), about }
}

const fn kernel(key: Key, kind: Kind, about: &'static str) -> Setting {
    Setting { name: key.name(), kind, place: Place::Kernel(key), about }
}

const fn both(key: Key, kind: Kind, apply: fn(&mut Config, u64), about: &'static str) -> Setting {
    Setting { name: key.name(), kind, place: Place::Both(key, apply), about }
}

const fn tool(name: &'static str, kind: Kind, tool: Tool, about: &'static str) -> Setting {
    Setting { name, kind, place: Place::Tool(tool), about }
}

const fn nowhere(name: &'static str, kind: Kind, why: &'static str) -> Setting {
    Setting { name, kind, place: Place::Nowhere(why), about: "" }
}

/// An earlier name of the same.
const fn alias(name: &'static str, setting: &Setting) -> Setting {
    Setting { name, ..*setting }
}

#[cfg(test)]
mod docs;
#[cfg(test)]
mod tests;
