//! What the kernel's file says of an address: which function it is in, what was inlined there, and by which crate.

use std::borrow::Cow;
use std::path::Path;

use addr2line::Loader;
use anyhow::{Context, Result};
use object::elf::FileHeader64;
use object::read::elf::ElfFile;
use object::{Endianness, Object, ObjectSection, ObjectSymbol, SectionKind};

use crate::arch::Arch;
use crate::symbols::{short, without_hash};

/// The code of a kernel.
pub(super) struct Code {
    arch: Arch,
    loader: Loader,
    /// Its executable parts: addresses and bytes.
    parts: Vec<(u64, Vec<u8>)>,
    /// Beginning and name, by address.
    functions: Vec<(u64, String)>,
}

/// A function of the kernel, by its place among all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Function {
    Kernel(usize),
    /// Not in the kernel's file: what the host has compiled of a wasm module.
    Wasm,
}

/// Where an instruction was written. What is inlined from `core` and `alloc` is taken for its caller's.
#[derive(Debug)]
pub(super) struct Origin {
    /// The innermost function inlined there, if one is.
    pub(super) inlined: Option<Inlined>,
    /// The crate.
    pub(super) written_in: String,
}

/// A function that was inlined.
#[derive(Debug)]
pub(super) struct Inlined {
    /// Its name, without types, and its file.
    pub(super) name: String,
    pub(super) file: String,
    /// The instruction's line.
    pub(super) line: u32,
}

impl Code {
    pub(super) fn read(arch: Arch, elf: &Path) -> Result<Self> {
        let unreadable = || format!("cannot read the kernel {}", elf.display());
        let bytes = std::fs::read(elf).with_context(unreadable)?;
        let file = ElfFile::<'_, FileHeader64<Endianness>>::parse(&*bytes).with_context(unreadable)?;
        let mut parts = Vec::new();
        for section in file.sections().filter(|section| section.kind() == SectionKind::Text) {
            parts.push((section.address(), section.data().with_context(unreadable)?.to_vec()));
        }
        let mut functions = Vec::new();
        for symbol in file.symbols() {
            let (address, name) = (symbol.address(), symbol.name().unwrap_or_default());
            // `$` is how marks for disassemblers begin.
            if !name.is_empty() && !name.starts_with('$') && part(&parts, address).is_some() {
                functions.push((symbol.size() == 0, address, name.to_owned()));
            }
        }
        // One name for each address, rather a function's than a label's.
        functions.sort_by(|a, b| (a.1, a.0, &a.2).cmp(&(b.1, b.0, &b.2)));
        functions.dedup_by_key(|function| function.1);
        let functions = functions.into_iter().map(|(_, address, name)| (address, name)).collect();
        let loader = Loader::new(elf).ok().with_context(unreadable)?;
        Ok(Self { arch, loader, parts, functions })
    }

    /// Where the function of this very name begins.
    pub(super) fn address_of(&self, name: &str) -> Result<u64> {
        let found = self.functions.iter().find(|function| function.1 == name);
        found.map(|function| function.0).with_context(|| format!("the bench kernel has no function `{name}`"))
    }

    pub(super) fn function(&self, pc: u64) -> Function {
        let behind = self.functions.partition_point(|function| function.0 <= pc);
        match part(&self.parts, pc).and(behind.checked_sub(1)) {
            Some(at) => Function::Kernel(at),
            None => Function::Wasm,
        }
    }

    /// Whether a function begins at the address.
    pub(super) fn is_entry(&self, pc: u64) -> bool {
        self.functions.binary_search_by_key(&pc, |function| function.0).is_ok()
    }

    /// Whether the instruction there reads the clock that counts instructions.
    pub(super) fn reads_clock(&self, pc: u64) -> bool {
        let Some(bytes) = part(&self.parts, pc) else { return false };
        match self.arch {
            Arch::X86_64 => bytes.starts_with(&RDTSC),
            Arch::Aarch64 => bytes.first_chunk().is_some_and(|word| {
                // Whatever register it is read to.
                u32::from_le_bytes(*word) & !0x1f == MRS_PMCCNTR
            }),
        }
    }

    /// `name (file:line)`, of which the line is that of the beginning.
    pub(super) fn title(&self, function: Function) -> String {
        let Function::Kernel(at) = function else { return "(compiled wasm)".to_owned() };
        let (address, name) = &self.functions[at];
        let name = addr2line::demangle_auto(Cow::from(name), None);
        let name = brief(without_hash(&name));
        match self.loader.find_location(*address) {
            Ok(Some(location)) => match (location.file, location.line) {
                (Some(file), Some(line)) => format!("{name} ({}:{line})", short(file)),
                _ => name,
            },
            _ => name,
        }
    }

    pub(super) fn origin(&self, pc: u64) -> Origin {
        // From the innermost to the function itself.
        let mut frames = Vec::new();
        if let Ok(mut found) = self.loader.find_frames(pc) {
            while let Ok(Some(frame)) = found.next() {
                let name = frame.function.as_ref().and_then(|function| function.demangle().ok());
                let name = without_hash(name.as_deref().unwrap_or("?"));
                let (file, line) = match &frame.location {
                    Some(location) => (location.file.map_or("", short), location.line.unwrap_or(0)),
                    None => ("", 0),
                };
                frames.push(Inlined { name: plain(name).to_owned(), file: file.to_owned(), line });
            }
        }
        let itself = frames.len().saturating_sub(1);
        let at = frames.iter().position(|frame| crate_of(&frame.file) != CORE).unwrap_or(itself);
        let written_in = match self.function(pc) {
            Function::Wasm => "compiled wasm",
            Function::Kernel(_) => frames.get(at).map_or("kernel", |frame| crate_of(&frame.file)),
        };
        let written_in = written_in.to_owned();
        Origin { inlined: (at < itself).then(|| frames.swap_remove(at)), written_in }
    }
}

/// A name of the debugging information without type arguments. (A name that begins with `<` is a symbol's.)
fn plain(name: &str) -> &str {
    name.split_once('<').map_or(name, |(plain, _)| if plain.is_empty() { name } else { plain })
}

/// A symbol's name, and if it is long without what stands in `<` and `>`.
fn brief(name: &str) -> String {
    const LONG: usize = 90;
    if name.len() <= LONG {
        return name.to_owned();
    }
    let mut brief = String::new();
    let (mut depth, mut before) = (0_usize, ' ');
    for letter in name.chars() {
        // The `>` of `->` closes nothing.
        let closes = letter == '>' && before != '-';
        depth = depth.saturating_sub(usize::from(closes));
        if depth == 0 {
            brief.push(letter);
        }
        if letter == '<' {
            depth += 1;
            if depth == 1 {
                brief.push_str("..");
            }
        }
        before = letter;
    }
    brief
}

/// `rdtsc`.
const RDTSC: [u8; 2] = [0x0f, 0x31];
/// `mrs x0, pmccntr_el0`.
const MRS_PMCCNTR: u32 = 0xd53b_9d00;

/// What the parts hold from the address on.
fn part(parts: &[(u64, Vec<u8>)], address: u64) -> Option<&[u8]> {
    parts.iter().find_map(|(start, bytes)| {
        let at = usize::try_from(address.checked_sub(*start)?).ok()?;
        bytes.get(at..).filter(|rest| !rest.is_empty())
    })
}

const CORE: &str = "core, alloc";

/// The crate of a file, by its path as `symbols::short` leaves it.
fn crate_of(file: &str) -> &str {
    let first = file.split('/').next().unwrap_or_default();
    match first {
        "src" | "arch" => "allotment",
        "qemu" if file.starts_with("qemu/run/src/bin/bench/") => "the benchmark itself",
        // Assembly has no file.
        "qemu" | "" => "kernel",
        "library" => CORE,
        // `wasmtime-48.0.8`, or `wasmtime-environ-48.0.8`.
        _ if first.starts_with("wasmtime") => "wasmtime",
        _ => first.rsplit_once('-').map_or(first, |(name, _)| name),
    }
}

#[cfg(test)]
mod tests {
    use super::{Code, Function, brief, crate_of, plain};
    use crate::arch::Arch;

    #[test]
    fn crates_of_files() {
        for (file, krate) in [
            ("src/vm/pages.rs", "allotment"),
            ("arch/src/lib.rs", "allotment"),
            ("qemu/kernel/src/clock.rs", "kernel"),
            ("qemu/run/src/bin/bench/count.rs", "the benchmark itself"),
            ("qemu/run/src/run.rs", "kernel"),
            ("", "kernel"),
            ("library/core/src/ptr/mod.rs", "core, alloc"),
            ("wasmtime-environ-48.0.8/src/lib.rs", "wasmtime"),
            ("spin-0.12.3/src/once.rs", "spin"),
            ("elsewhere", "elsewhere"),
        ] {
            assert_eq!(crate_of(file), krate, "{file}");
        }
        assert_eq!(
            (plain("open<a::B<C>>"), plain("<a::B>::open"), plain("open")),
            ("open", "<a::B>::open", "open")
        );
    }

    #[test]
    fn long_names_keep_their_last_part() {
        assert_eq!(brief("<a::B<C> as D>::e"), "<a::B<C> as D>::e");
        let long = format!("a::<impl b::{}<fn() -> C>>::last::<D>", "x".repeat(90));
        assert_eq!(brief(&long), "a::<..>::last::<..>");
    }

    #[test]
    fn addresses_are_in_functions() {
        // This very program.
        let code = Code::read(Arch::X86_64, &std::env::current_exe().unwrap()).unwrap();
        let at =
            code.functions.iter().position(|(_, name)| name.contains("addresses_are_in_functions")).unwrap();
        let address = code.functions[at].0;
        assert_eq!(code.function(address), Function::Kernel(at));
        assert!(code.is_entry(address) && !code.is_entry(address + 1));
        assert!(
            code.title(Function::Kernel(at)).contains("code.rs:"),
            "{}",
            code.title(Function::Kernel(at))
        );
        assert_eq!((code.function(0), code.origin(0).written_in.as_str()), (Function::Wasm, "compiled wasm"));
        assert!(code.address_of("no such function").unwrap_err().to_string().contains("`no such function`"));
    }
}
