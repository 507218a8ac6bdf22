//! From a booted machine to a Wasmtime engine: carve, install, configure.

use core::fmt;

use allotment::{
    Allocator, CarveError, Config as AllocatorConfig, InstanceAllocationStrategy, PoolingAllocationConfig,
    arch::{Cpus, Native, PhysOffset, VirtAddr},
    boot::{NoArena, largest_arena},
    wasmtime::{AlreadyInstalled, Platform, allocator_config, configure, install},
};
use kernel::BootInfo;
use protocol::options::Strategy;
use wasmtime::{Config, Engine};

use crate::exceptions;

/// Memory slots. Any of them may grow to all of the arena.
pub(crate) const SLOTS: usize = 16;
/// Bytes of address space for memories on demand, and for code: thirty of them
/// live at a time.
const ON_DEMAND_SPACE: usize = 128 << 30;
/// The most that a 32-bit memory can have.
const MAX_MEMORY: usize = 4 << 30;

/// Why no engine could be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The machine has no free memory at all.
    NoMemory(NoArena),
    /// Allotment refused arena, window or CPU.
    Carve(CarveError),
    /// A platform was installed before.
    Installed(AlreadyInstalled),
    /// Wasmtime refused the configuration.
    Engine(wasmtime::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory(_) => {
                f.write_str("the machine has no free memory for an arena; give it more (--memory)")
            }
            Self::Carve(error) => error.fmt(f),
            Self::Installed(error) => error.fmt(f),
            Self::Engine(error) => write!(f, "{error:#}"),
        }
    }
}

impl core::error::Error for StartError {}

/// Starts with memories from slots. Once per machine.
///
/// # Errors
///
/// [`StartError`] says what the machine lacks.
pub fn start(boot: &'static BootInfo) -> Result<(Engine, &'static Platform), StartError> {
    start_with(boot, Strategy::Pooling, |pools| pools)
}

/// Carves the largest free range of memory, installs Allotment as Wasmtime's
/// platform and makes an engine. Once per machine. With pools, they are what
/// `adjust` makes of the usual ones.
///
/// # Errors
///
/// [`StartError`] says what the machine lacks.
pub fn start_with(
    boot: &'static BootInfo,
    strategy: Strategy,
    adjust: impl FnOnce(PoolingAllocationConfig) -> PoolingAllocationConfig,
) -> Result<(Engine, &'static Platform), StartError> {
    start_for(boot, strategy, adjust, |config| config, |_, _| {})
}

/// The same where `allocator` and `engine` change the usual configurations of
/// both as well.
pub(crate) fn start_for(
    boot: &'static BootInfo,
    strategy: Strategy,
    adjust: impl FnOnce(PoolingAllocationConfig) -> PoolingAllocationConfig,
    allocator: impl FnOnce(AllocatorConfig) -> AllocatorConfig,
    engine: impl FnOnce(&mut Config, &'static Platform),
) -> Result<(Engine, &'static Platform), StartError> {
    let usual = |bytes: usize| match strategy {
        Strategy::Pooling => {
            // Tables are Wasmtime's own, on the kernel's heap, and GC heaps are ranges. Stacks are for those who ask.
            let pool = PoolingAllocationConfig::new()
                .total_memories(SLOTS)
                .max_memory_size(bytes.min(MAX_MEMORY))
                .total_tables(0)
                .total_stacks(0)
                .total_gc_heaps(0);
            allocator_config().allocation_strategy(adjust(pool))
        }
        Strategy::OnDemand => allocator_config()
            .allocation_strategy(InstanceAllocationStrategy::OnDemand)
            .region_space(ON_DEMAND_SPACE),
    };
    let platform = carve(boot, |bytes| allocator(usual(bytes)))?;

    let mut config = Config::new();
    configure(&mut config);
    engine(&mut config, platform);
    let engine = Engine::new(&config).map_err(StartError::Engine)?;
    Ok((engine, platform))
}

/// Carves the largest free range of memory as `config` wants it for its size in bytes, and installs
/// Allotment as Wasmtime's platform. Once per machine.
///
/// # Errors
///
/// [`StartError`] says what the machine lacks.
pub fn carve(
    boot: &'static BootInfo,
    config: impl FnOnce(usize) -> allotment::Config,
) -> Result<&'static Platform, StartError> {
    let arena = largest_arena(boot.usable.iter().cloned()).map_err(StartError::NoMemory)?;
    let config = config(usize::try_from(arena.end.0 - arena.start.0).unwrap_or(usize::MAX));
    let window = kernel::window();
    // SAFETY: the kernel runs privileged with all of RAM mapped at its physical
    // address, and keeps its one root for ever, on the CPUs that it counts.
    let arch = unsafe { Native::current(PhysOffset(0)) };
    let arch = arch.with_cpus(&KernelCpus);
    // SAFETY: the kernel says that this range is free and leaves the window
    // empty; nobody but this function uses either.
    let allocator =
        unsafe { Allocator::new(arch, VirtAddr(window.start)..VirtAddr(window.end), arena, &config) };
    let platform = Platform::new(allocator.map_err(StartError::Carve)?);
    let platform = install(platform, exceptions::unknown_trap).map_err(StartError::Installed)?;
    exceptions::init();
    Ok(platform)
}

/// The boot kernel's CPUs, as Allotment asks for them.
#[derive(Debug)]
pub struct KernelCpus;

// SAFETY: the kernel numbers its CPUs from 0 and runs no others; its interrupts
// cannot be masked, and it waits until all have answered.
unsafe impl Cpus for KernelCpus {
    fn count(&self) -> usize {
        kernel::cpus::count()
    }

    fn current(&self) -> usize {
        kernel::cpus::current()
    }

    #[cfg(target_arch = "x86_64")]
    fn interrupt_others(&self, work: &(dyn Fn() + Sync)) {
        kernel::cpus::interrupt_others(work);
    }

    // TLBI is broadcast: nobody asks.
    #[cfg(target_arch = "aarch64")]
    fn interrupt_others(&self, _work: &(dyn Fn() + Sync)) {}
}
