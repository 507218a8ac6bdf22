//! Tests that fail in every way there is, to see that each fails alone: `qemu/xtask/tests` runs them.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
harness::tests! {
    fn passes() {}

    fn panics() {
        assert_eq!(1 + 1, 3, "arithmetic is as it was");
    }

    fn returns_an_error() -> Result<(), &'static str> {
        Err("no luck")
    }

    fn hangs() {
        loop {
            core::hint::spin_loop();
        }
    }

    fn faults() {
        let null = core::ptr::without_provenance::<u64>(core::hint::black_box(16));
        // SAFETY: nothing is there to be read: the exception ends the machine.
        core::hint::black_box(unsafe { null.read_volatile() });
    }

    fn resets() {
        reset();
    }

    fn ends_the_machine_too_early() {
        kernel::exit(kernel::Exit::Success)
    }

    #[ignore = "to be left out"]
    fn is_ignored() {}

    fn passes_too() {}
}

/// Has no handler for an exception, nor for that exception's: a triple fault.
#[cfg(all(target_os = "none", target_arch = "x86_64"))]
fn reset() {
    let no_table = [0_u8; 10];
    // SAFETY: the machine does not survive the next instructions, and is not meant to.
    unsafe { core::arch::asm!("lidt [{}]", "ud2", in(reg) &raw const no_table) };
}

/// Asks the firmware for a reset (Arm DEN0022, PSCI, 5.11: `SYSTEM_RESET`).
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
fn reset() {
    // SAFETY: the call does not return.
    unsafe { core::arch::asm!("hvc #0", inout("x0") 0x8400_0009_u64 => _) };
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("these tests are a kernel's; `cargo test -p xtask` boots it");
}
