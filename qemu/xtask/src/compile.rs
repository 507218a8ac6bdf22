//! From `.wasm` or `.wat` to the `.cwasm` that a kernel of one architecture can run.
//!
//! Compiled modules are kept below the target directory, under a name made of everything
//! that decides the result: the source's bytes, the compiler's version and its settings.

use std::fs;
use std::path::Path;

use allotment::wasmtime::{RESERVATION, Target, configure_compiler};
use anyhow::{Context, Result, anyhow};
use sha2::{Digest, Sha256};
use wasmtime::{Engine, WasmFeatures};

use crate::arch::Arch;
use crate::error::{Refusal, Usage};
use crate::settings::Given;
use crate::{progress, workspace};

/// A compiler for one architecture.
pub(crate) struct Compiler {
    arch: Arch,
    engine: Engine,
    /// A digest of everything but the source that decides a result.
    settings: [u8; 16],
    /// Whether results are kept for the next time.
    keeps: bool,
    /// Whether components are compiled too, or refused.
    takes_components: bool,
}

/// What the bytes of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Module,
    Component,
}

impl Compiler {
    /// A compiler with the settings that Allotment's kernels expect.
    pub(crate) fn new(arch: Arch) -> Result<Self> {
        Self::with(arch, &Given::default())
    }

    /// The same for the tests' kernels, which have code for components as well.
    pub(crate) fn for_tests(arch: Arch) -> Result<Self> {
        Ok(Self { takes_components: true, ..Self::new(arch)? })
    }

    /// The same for a kernel without collected heaps, as the benchmark's.
    pub(crate) fn for_plain_kernel(arch: Arch) -> Result<Self> {
        Self::set_up(arch, &Given::default(), WasmFeatures::GC_TYPES | WasmFeatures::EXCEPTIONS, RESERVATION)
    }

    /// A compiler for engines whose memories reserve so many bytes.
    pub(crate) fn reserving(arch: Arch, reservation: usize) -> Result<Self> {
        Self::set_up(arch, &Given::default(), WasmFeatures::empty(), reservation)
    }

    /// The same but for those that are given, which the kernel is told as well.
    pub(crate) fn with(arch: Arch, given: &Given) -> Result<Self> {
        Self::set_up(arch, given, WasmFeatures::empty(), RESERVATION)
    }

    fn set_up(arch: Arch, given: &Given, without: WasmFeatures, reservation: usize) -> Result<Self> {
        let set_up = || {
            let mut config = config(arch, reservation)?;
            config.wasm_features(without, false);
            given.configure(&mut config);
            let engine = Engine::new(&config)?;
            // A compiled module says with which compiler and settings it was made, so that an engine
            // can refuse it: in an empty module there is nothing else. Not all that decides is in there.
            let empty = engine.precompile_module(b"\0asm\x01\0\0\0")?;
            Ok::<_, wasmtime::Error>((engine, digest(&[&empty, format!("{given:?}").as_bytes()])))
        };
        let (engine, settings) = set_up().map_err(|error| explain(arch, given, &error))?;
        Ok(Self { arch, engine, settings, keeps: given.keeps_compiled(), takes_components: false })
    }

    /// The `.cwasm` of a module file: its own bytes if it is one, else compiled or kept from before.
    ///
    /// # Errors
    /// A [`Refusal`] that names what is wrong with the module; others if files cannot be read.
    pub(crate) fn load(&self, path: &Path) -> Result<Vec<u8>> {
        let source =
            fs::read(path).map_err(|error| Refusal(format!("cannot read {}: {error}", path.display())))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if source.starts_with(&object::elf::ELFMAG) {
            // Compiled before. Whether for this kernel, the kernel itself decides.
            return Ok(source);
        }
        self.compile(&name, &source)
    }

    fn compile(&self, name: &str, source: &[u8]) -> Result<Vec<u8>> {
        let kind = kind_of(name, source)?;
        if kind == Kind::Component && !self.takes_components {
            return Err(
                Refusal(format!("{name} is a WebAssembly component; only core modules run here")).into()
            );
        }
        let kept = workspace::cache("cwasm")?.join(format!("{}.cwasm", self.key(source)));
        if self.keeps
            && let Ok(compiled) = fs::read(&kept)
        {
            return Ok(compiled);
        }
        let what = format!("compiling {name} for {}", self.arch);
        let compiled = progress::step(&what, |_| {
            self.precompile(kind, source).map_err(|error| Refusal(format!("{name}: {error:#}")).into())
        })?;
        if !self.keeps {
            return Ok(compiled);
        }
        workspace::write_atomically(&kept, |file| {
            std::io::Write::write_all(file, &compiled).context("cannot keep a compiled module")
        })?;
        Ok(compiled)
    }

    fn precompile(&self, kind: Kind, source: &[u8]) -> wasmtime::Result<Vec<u8>> {
        match kind {
            Kind::Module => self.engine.precompile_module(source),
            Kind::Component => {
                // Modules by such an engine would be refused where there is no code for components.
                let mut config = config(self.arch, RESERVATION)?;
                config.wasm_features(WasmFeatures::COMPONENT_MODEL, true);
                Engine::new(&config)?.precompile_component(source)
            }
        }
    }

    /// A name for the result of compiling `source`.
    fn key(&self, source: &[u8]) -> String {
        hex(&digest(&[&self.settings, source]))
    }
}

/// Why there is no compiler: most likely because settings contradict each other.
fn explain(arch: Arch, given: &Given, error: &wasmtime::Error) -> anyhow::Error {
    if given.is_empty() {
        return anyhow!("cannot set up the compiler for {arch}: {error:#}");
    }
    Usage(format!("the compiler for {arch} refuses these settings: {error:#}")).into()
}

/// The first half of a SHA-256: enough to tell files apart that nobody forges.
pub(crate) fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    *hash.finalize().first_chunk().expect("32 bytes begin with 16")
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a file is. Refuses what the compiler would report in a way that helps nobody.
fn kind_of(name: &str, source: &[u8]) -> Result<Kind, Refusal> {
    let refuse = |what: &str| Err(Refusal(format!("{name} {what}")));
    if source.is_empty() {
        return refuse("is empty, not a WebAssembly module");
    }
    match source.strip_prefix(b"\0asm") {
        Some([_, _, 0, 0, ..]) => Ok(Kind::Module),
        Some([_, _, _, _, ..]) => Ok(Kind::Component),
        Some(_) => refuse("is cut off inside the header of a WebAssembly module"),
        None => match core::str::from_utf8(source).ok().and_then(kind_of_text) {
            Some(kind) => Ok(kind),
            None => refuse("is not a WebAssembly module, neither binary nor text"),
        },
    }
}

/// What text is, which begins with a parenthesis or a comment. What it says the compiler looks at.
fn kind_of_text(source: &str) -> Option<Kind> {
    let first = source.lines().map(str::trim_start).find(|line| !line.is_empty() && !line.starts_with(";;"));
    match first {
        Some(line) if line.starts_with("(component") => Some(Kind::Component),
        Some(line) => line.starts_with(['(', ';']).then_some(Kind::Module),
        None => (!source.trim().is_empty()).then_some(Kind::Module),
    }
}

/// The settings, which Allotment keeps in one place for both sides.
fn config(arch: Arch, reservation: usize) -> wasmtime::Result<wasmtime::Config> {
    let target = match arch {
        Arch::X86_64 => Target::X86_64,
        Arch::Aarch64 => Target::Aarch64,
    };
    let mut config = wasmtime::Config::new();
    configure_compiler!(&mut config, target, reservation)?;
    // A module says that it may need what the compiler has, and what kernels have no code for they refuse.
    config.wasm_features(WasmFeatures::COMPONENT_MODEL | WasmFeatures::THREADS, false);
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::{Compiler, Kind, kind_of};
    use crate::arch::Arch;
    use crate::error::Refusal;
    use crate::settings::{Given, Group};
    use crate::workspace;

    #[test]
    fn what_is_not_a_module_is_named() {
        let refusal = |source: &[u8]| kind_of("m", source).unwrap_err().to_string();
        assert!(refusal(b"").contains("empty"));
        assert!(refusal(b"\0asm\x01").contains("cut off"));
        assert!(refusal(b"#!/bin/sh").contains("neither binary nor text"));
        assert!(refusal(b"\x89PNG").contains("neither binary nor text"));
        for (source, kind) in [
            (&b" ;; comment\n(module)"[..], Kind::Module),
            (b"\n ;; comment\n (component)", Kind::Component),
            (b"(; comment ;) (module)", Kind::Module),
            (b"\0asm\x01\0\0\0", Kind::Module),
            (b"\0asm\x0d\0\x01\0", Kind::Component),
        ] {
            assert_eq!(kind_of("m", source).unwrap(), kind);
        }
    }

    #[test]
    fn components_are_for_the_tests_alone() {
        let component = b"(component (core module (memory 1)))";
        let refused = Compiler::new(Arch::X86_64).unwrap().compile("m", component).unwrap_err();
        assert!(refused.to_string().contains("only core modules"), "{refused}");
        let compiled = Compiler::for_tests(Arch::X86_64).unwrap().compile("m", component).unwrap();
        assert_eq!(Arch::of_elf(&compiled), Some(Arch::X86_64));
    }

    #[test]
    fn modules_compile_for_both_architectures_and_errors_say_where() {
        for arch in Arch::ALL {
            let compiler = Compiler::new(arch).unwrap();
            let compiled = compiler.compile("m.wat", b"(module (memory 1))").unwrap();
            assert_eq!(Arch::of_elf(&compiled), Some(arch));
            let error = compiler.compile("m.wat", b"(module (memori 1))").unwrap_err();
            assert!(error.is::<Refusal>() && error.to_string().contains("memori"), "{error}");
            let truncated = b"\0asm\x01\0\0\0\x01\x50";
            assert!(compiler.compile("m.wasm", truncated).unwrap_err().is::<Refusal>());
        }
    }

    #[test]
    fn keys_differ_by_source_and_architecture() {
        let [x86, arm] = Arch::ALL.map(|arch| Compiler::new(arch).unwrap());
        assert_eq!(x86.key(b"a"), x86.key(b"a"));
        assert_ne!(x86.key(b"a"), x86.key(b"b"));
        assert_ne!(x86.key(b"a"), arm.key(b"a"));
    }

    #[test]
    fn compiled_modules_are_kept_unless_that_is_not_wanted() {
        let source = format!("(module (func (export \"f{}\")))", std::process::id());
        for (setting, is_kept) in [("cache=n", false), ("cache", true)] {
            let given = Given::of(&[(Group::Codegen, setting)]);
            let compiler = Compiler::with(Arch::X86_64, &given).unwrap();
            let compiled = compiler.compile("m.wat", source.as_bytes()).unwrap();
            let kept =
                workspace::cache("cwasm").unwrap().join(format!("{}.cwasm", compiler.key(source.as_bytes())));
            assert_eq!(std::fs::read(&kept).ok(), is_kept.then_some(compiled), "{setting}");
            drop(std::fs::remove_file(kept));
        }
    }
}
