//! All examples that boot.

use crate::arch::Arch;
use crate::setup::Cpus;

/// A kernel of somebody else's kind with Allotment in it, in a directory of `examples`.
#[derive(Debug)]
pub(super) struct Example {
    /// Its directory, and its program there.
    pub(super) name: &'static str,
    /// What it shows, in a line.
    pub(super) shows: &'static str,
    pub(super) arch: Arch,
    /// QEMU's `-M`.
    pub(super) machine: &'static str,
    pub(super) smp: Cpus,
    pub(super) boot: Boot,
    /// What wasm it runs: files in its directory, in text form, which are compiled for it.
    pub(super) programs: &'static [&'static str],
    /// QEMU's exit status when the kernel ends as it means to.
    pub(super) status: i32,
    /// What it prints: each is part of a line of the console, in this order, with other lines between.
    pub(super) prints: &'static [&'static str],
}

/// How it is started.
#[derive(Debug)]
pub(super) enum Boot {
    /// By the boot-loader in its directory `loader`, which a UEFI firmware starts. It loads the kernel
    /// and the first program, as the "ramdisk", from the machine's disk.
    Uefi,
    /// By QEMU itself (`-kernel`), with these words besides: `{NAME}` in one of them is the file of the
    /// compiled program `NAME.wat`.
    Kernel(&'static [&'static str]),
}

/// An example is one entry here.
pub(super) const EXAMPLES: &[Example] = &[
    Example {
        name: "hobby",
        shows: "a hobby kernel on bootloader_api runs a program and survives its trap",
        arch: Arch::X86_64,
        machine: "q35",
        smp: Cpus::ONE,
        boot: Boot::Uefi,
        programs: &["program.wat"],
        status: 33,
        prints: &[
            "hobby: booted",
            "window   0xffff900000000000..0xffff910000000000",
            "wasm says: hello from wasm, call 1",
            "wasm: grown from 1 page to 2",
            "memory fault at wasm address 0x20000 in linear memory of size 0x20000",
            "wasm trap: out of bounds memory access",
            // It goes on, and then another one begins anew in its slot.
            "wasm says: hello from wasm, call 2",
            "wasm says: hello from wasm, call 1",
            "hobby: done",
        ],
    },
    Example {
        name: "aarch64-rt",
        shows: "an aarch64 kernel on aarch64-rt runs a program and survives its traps",
        arch: Arch::Aarch64,
        machine: "virt",
        smp: Cpus::ONE,
        boot: Boot::Kernel(&["-semihosting", "-initrd", "{program}"]),
        programs: &["program.wat"],
        status: 0,
        prints: &[
            "window   0x1000000000..0x8000000000",
            "wasm: run 1 of this instance",
            "run: returned",
            "memory fault at wasm address 0x10000 in linear memory of size 0x10000",
            "wasm trap: out of bounds memory access",
            "wasm trap: call stack exhausted",
            // The first one's memory had a 1 there.
            "wasm: run 1 of this instance",
            "run: returned",
        ],
    },
    Example {
        name: "processes",
        shows: "a root for each process, four CPUs, one window",
        arch: Arch::X86_64,
        machine: "q35",
        smp: Cpus::FOUR,
        boot: Boot::Kernel(&["-initrd", "{tenant}"]),
        programs: &["tenant.wat"],
        status: 33,
        prints: &[
            "window   0xffff900000000000..0xffff908000000000",
            "4 CPUs; 3 processes, each with a root and two instances",
            // By the same address.
            "ada has 11 where the others have theirs",
            "bob has 22 where the others have theirs",
            "cyd has 33 where the others have theirs",
            "round 0, from CPU 0: ada, bob, cyd find all as they left it",
            "round 1, from CPU 1: ada, bob, cyd find all as they left it",
            "bob on CPU 0: wasm trap: out of bounds memory access",
            "round 3, from CPU 3: ada, bob, cyd find all as they left it",
            "bob ended on CPU 2, dan began on CPU 3: the same memories, fresh",
            "round 7, from CPU 3: ada, dan, cyd find all as they left it",
            "each CPU was interrupted, and has answered",
            // Its root is older than the window.
            "the root of this CPU lacks the window",
            "eve began with the window",
            "processes: all as expected",
        ],
    },
];
