//! The one place where both sides get their settings: the kernel that runs
//! modules and the host that precompiles them. Wasmtime refuses a module whose
//! settings differ.

#[cfg(all(target_os = "none", feature = "wasmtime"))]
use wasmtime::Config;

/// Address space that a linear memory reserves, in bytes: Wasmtime's default
/// on 64-bit systems, at which 32-bit memories need no bounds checks.
pub const RESERVATION: usize = 4 << 30;
/// Guard before and after each reservation, in bytes: Wasmtime's default.
pub const GUARD_SIZE: usize = 32 << 20;

/// Settings of an [`Allocator`](crate::Allocator) that serves engines
/// configured by `configure`, from pools of any size.
///
/// Engines whose memories reserve less or more have slots where there is a
/// [memory pool](crate::PoolingAllocationConfig::memory_pool) of just that reservation, with a
/// guard of [`GUARD_SIZE`] at least: see `configure_reservation`.
pub fn allocator_config() -> crate::Config {
    crate::Config::new()
        .memory_reservation(RESERVATION)
        .memory_guard_size(GUARD_SIZE)
        .guard_before_linear_memory(true)
        .allocation_strategy(crate::PoolingAllocationConfig::new())
}

/// What must be the same on both sides. A macro, as each side has a Wasmtime
/// of its own.
#[doc(hidden)]
#[macro_export]
macro_rules! __common_settings {
    ($config:expr, $reservation:expr) => {
        $config
            .memory_reservation($reservation as u64)
            .memory_guard_size($crate::wasmtime::GUARD_SIZE as u64)
            .guard_before_linear_memory(true)
            // What shows an image cannot move: Wasmtime panics.
            .memory_may_move($reservation >= $crate::wasmtime::RESERVATION)
            .memory_init_cow(true)
            .signals_based_traps(true)
    };
}

/// Sets `config` up for running precompiled modules on this machine, over
/// Allotment.
///
/// On x86_64 it declares the kernel's soft-float ABI to be acceptable: modules
/// from `configure_compiler` need no floating-point helpers of the kernel's.
/// A module that was compiled for a CPU without SSE4.1 would call them, and
/// read wrong numbers.
#[cfg(all(target_os = "none", feature = "wasmtime"))]
pub fn configure(config: &mut Config) {
    configure_reservation(config, RESERVATION);
}

/// The same for an engine whose memories reserve so many bytes, a multiple of 4 KiB, for modules that
/// [`configure_compiler!`](crate::configure_compiler) had the same number for.
///
/// Where the platform's allocator has a [pool](crate::PoolingAllocationConfig::memory_pool) of just that
/// reservation, each gets a slot of it, or of a larger pool when all of those are in use; else a
/// region. With fewer than [`RESERVATION`] bytes compiled code checks bounds, and growth ends at
/// the reservation.
#[cfg(all(target_os = "none", feature = "wasmtime"))]
pub fn configure_reservation(config: &mut Config, reservation: usize) {
    __common_settings!(config, reservation);
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: modules compiled with the features of `configure_compiler`
        // make no float-related calls into the kernel.
        unsafe { config.x86_float_abi_ok(true) };
        // SAFETY: the function asks the CPU itself.
        unsafe { config.detect_host_feature(x86_64_feature) };
    }
}

/// Whether this CPU, as the kernel set it up, has a feature by Wasmtime's name.
#[cfg(all(target_os = "none", feature = "wasmtime", target_arch = "x86_64"))]
fn x86_64_feature(name: &str) -> Option<bool> {
    use core::arch::x86_64::{__cpuid, __cpuid_count};

    let basic = __cpuid(1);
    let extended = if __cpuid(0).eax >= 7 { __cpuid_count(7, 0).ebx } else { 0 };
    let amd = if __cpuid(0x8000_0000).eax >= 0x8000_0001 { __cpuid(0x8000_0001).ecx } else { 0 };
    // OSXSAVE (bit 27) mirrors CR4: without it the kernel saves no AVX state.
    let avx = basic.ecx & (1 << 27 | 1 << 28) == 1 << 27 | 1 << 28;
    let bit = |register: u32, bit: u32| register & 1 << bit != 0;
    Some(match name {
        "sse3" => bit(basic.ecx, 0),
        "ssse3" => bit(basic.ecx, 9),
        "cmpxchg16b" => bit(basic.ecx, 13),
        "sse4.1" => bit(basic.ecx, 19),
        "sse4.2" => bit(basic.ecx, 20),
        "popcnt" => bit(basic.ecx, 23),
        "avx" => avx,
        "fma" => avx && bit(basic.ecx, 12),
        "avx2" => avx && bit(extended, 5),
        "bmi1" => bit(extended, 3),
        "bmi2" => bit(extended, 8),
        "lzcnt" => bit(amd, 5),
        _ => return None,
    })
}

/// A bare-metal target that modules can be precompiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// x86_64 with AVX2, FMA, BMI and LZCNT: x86-64-v3 without CMPXCHG16B,
    /// F16C and MOVBE.
    X86_64,
    /// Any aarch64.
    Aarch64,
}

impl Target {
    /// The target triple.
    #[must_use]
    pub fn triple(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-none",
            Self::Aarch64 => "aarch64-unknown-none",
        }
    }

    /// The CPU features that modules use, by Cranelift's names. The kernel
    /// asks its CPU for each before it runs a module. They include what saves
    /// modules from calling floating-point helpers of a soft-float kernel.
    #[must_use]
    pub fn cpu_features(self) -> &'static [&'static str] {
        match self {
            Self::X86_64 => &[
                "has_sse3",
                "has_ssse3",
                "has_sse41",
                "has_sse42",
                "has_popcnt",
                "has_avx",
                "has_avx2",
                "has_fma",
                "has_bmi1",
                "has_bmi2",
                "has_lzcnt",
            ],
            Self::Aarch64 => &[],
        }
    }
}

/// Sets a `wasmtime::Config` up for precompiling modules that run on a
/// [`Target`] under `configure`: the twin for the host.
///
/// Takes a `&mut wasmtime::Config` of the caller's own Wasmtime, built with
/// Cranelift, and a [`Target`], and for engines by `configure_reservation` the bytes that their
/// memories reserve; gives a `wasmtime::Result<()>`, which is
/// Wasmtime's error when that Wasmtime cannot compile for the target. A macro,
/// so that this crate brings no compiler to the kernel.
///
/// ```ignore
/// let mut config = wasmtime::Config::new();
/// allotment::wasmtime::configure_compiler!(&mut config, Target::Aarch64)?;
/// let compiled = wasmtime::Engine::new(&config)?.precompile_module(&wasm)?;
/// ```
#[macro_export]
macro_rules! configure_compiler {
    ($config:expr, $target:expr) => {
        $crate::configure_compiler!($config, $target, $crate::wasmtime::RESERVATION)
    };
    ($config:expr, $target:expr, $reservation:expr) => {{
        let config = $config;
        let reservation: usize = $reservation;
        let target: $crate::wasmtime::Target = $target;
        config.target(target.triple()).map(|config| {
            $crate::__common_settings!(config, reservation);
            if target == $crate::wasmtime::Target::X86_64 {
                // SAFETY: this engine compiles and never runs.
                unsafe { config.x86_float_abi_ok(true) };
            }
            for feature in target.cpu_features() {
                // SAFETY: the kernel asks its CPU for each before it runs a module.
                unsafe { config.cranelift_flag_enable(feature) };
            }
        })
    }};
}
