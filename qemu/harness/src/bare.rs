//! The tests as a kernel that takes libtest's words on its command line.
//!
//! The program that boots it (`xtask runner`) gives either `--list` or the name of one
//! test. A person with QEMU's `-append` may give filters as well; the tests then run one
//! after the other on one machine, and the first that fails is the last.

use core::sync::atomic::{AtomicBool, Ordering};

use kernel::{BootInfo, Exit, println};
use protocol::payload::Payload;
use protocol::verdict::FULL_WORD;
use spin::Once;

use crate::Test;
use crate::select::Selection;

static BOOT: Once<&'static BootInfo> = Once::new();
static FULL: AtomicBool = AtomicBool::new(false);

/// By this symbol the runner knows a kernel of tests from others.
// No other symbol of a kernel has this name, which makes the attribute sound.
#[unsafe(no_mangle)]
#[used]
static ALLOTMENT_TEST_KERNEL: AtomicBool = AtomicBool::new(true);

/// Whether the long stresses are asked for (`cargo xtask test --full`).
#[must_use]
pub fn full() -> bool {
    FULL.load(Ordering::Relaxed)
}

/// What the kernel learnt at boot.
///
/// # Panics
/// When called before the tests have begun.
#[must_use]
pub fn boot() -> &'static BootInfo {
    BOOT.get().expect("boot information is there once tests run")
}

/// The archive that this machine was given, if any.
///
/// # Panics
/// If the archive is malformed, which fails the test.
#[must_use]
pub fn payload() -> Option<Payload<'static>> {
    let bytes = boot().payload?;
    match Payload::parse(bytes) {
        Ok(payload) => Some(payload),
        Err(error) => panic!("{error}"),
    }
}

/// The precompiled module (`.cwasm`) of the guest called `name`, which the runner has compiled from
/// `qemu/guests` for this architecture.
///
/// # Panics
/// If the machine was not given it, which fails the test.
#[must_use]
pub fn guest(name: &str) -> &'static [u8] {
    let payload = payload().expect("a payload; boot this test with `xtask runner`");
    payload
        .with_prefix("guest/")
        .find(|entry| entry.name.strip_prefix("guest/") == Some(name))
        .unwrap_or_else(|| panic!("no guest `{name}` in the payload {payload:?}"))
        .data
}

/// Runs the tests that the command line selects and ends the machine.
#[doc(hidden)]
pub fn run_tests(boot: &'static BootInfo, tests: &'static [&'static [Test]]) -> ! {
    BOOT.call_once(|| boot);
    // A use, so that no linker takes the mark for dead.
    ALLOTMENT_TEST_KERNEL.store(true, Ordering::Relaxed);
    let words = || boot.command_line.split_ascii_whitespace();
    FULL.store(words().any(|word| word == FULL_WORD), Ordering::Relaxed);
    let selection = Selection::new(words);
    let tests = || tests.iter().copied().flatten();

    if selection.list() {
        for test in tests() {
            let ignored = if test.ignored { ", ignored" } else { "" };
            println!("{}: test{ignored}", test.name);
        }
        kernel::exit(Exit::Success);
    }
    let mut passed = 0;
    for test in tests().filter(|test| selection.selects(test)) {
        println!("test {} ...", test.name);
        // A failing test panics, and the kernel's panic ends the machine.
        (test.run)();
        println!("test {} ... ok", test.name);
        passed += 1;
    }
    println!("test result: ok. {passed} passed; 0 failed");
    kernel::exit(Exit::Success)
}
