//! The compiler for the specification's tests: as the kernel of these tests is configured.

use allotment::wasmtime::{Target, configure_compiler};
use anyhow::{Result, anyhow};
use protocol::enable_proposals;
use protocol::spec::Collector;
use wasmtime::{Config, Engine};

use crate::arch::Arch;

/// A compiler for one architecture and one collector.
pub(crate) struct Compiler(Engine);

impl Compiler {
    /// A compiler with the settings of the kernel.
    pub(crate) fn new(arch: Arch, collector: Collector) -> Result<Self> {
        let set_up = || Engine::new(&config(arch, collector)?);
        set_up().map(Self).map_err(|error| anyhow!("cannot set up the compiler for {arch}: {error:#}"))
    }

    /// The code of a module.
    ///
    /// # Errors
    /// If the module is not valid, or has what the kernel cannot run.
    pub(super) fn compile(&self, wasm: &[u8]) -> Result<Vec<u8>> {
        self.0.precompile_module(wasm).map_err(|error| anyhow!("{error:#}"))
    }
}

fn config(arch: Arch, collector: Collector) -> wasmtime::Result<Config> {
    let target = match arch {
        Arch::X86_64 => Target::X86_64,
        Arch::Aarch64 => Target::Aarch64,
    };
    let mut config = Config::new();
    configure_compiler!(&mut config, target)?;
    enable_proposals!(config);
    // The kernel has no code for components, and refuses what says that it may need some.
    config.wasm_component_model(false);
    config.collector(match collector {
        Collector::Drc => wasmtime::Collector::DeferredReferenceCounting,
        Collector::Null => wasmtime::Collector::Null,
        Collector::Copying => wasmtime::Collector::Copying,
    });
    // Files are compiled beside each other, modules of a file are small.
    config.parallel_compilation(false);
    Ok(config)
}
