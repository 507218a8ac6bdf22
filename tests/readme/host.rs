//! The crate as README's text sees it on a host: with an emulated machine for `Native`.

use core::cell::Cell;

use real::arch::emulated::Emulated;

/// One format is enough: what the text calls is generic, and runs on CPUs of both.
pub(crate) type Here = Emulated<real::arch::X86_64>;

pub(crate) type Allocator<A = Here> = real::Allocator<A>;

thread_local! {
    static MACHINE: Cell<Option<Here>> = const { Cell::new(None) };
}

/// Says which machine the next `Native::current` of this thread finds itself on.
pub(crate) fn run_on(machine: Here) {
    MACHINE.set(Some(machine));
}

pub(crate) mod arch {
    pub(crate) use real::arch::*;

    /// The machine that this thread runs on.
    #[derive(Debug)]
    pub(crate) struct Native;

    impl Native {
        /// # Safety
        ///
        /// None: a test's machine is its own.
        pub(crate) unsafe fn current(_physical: PhysOffset) -> super::Here {
            super::MACHINE.take().expect("a test says which machine it runs on, before it boots")
        }
    }
}

/// Panics unless README has the text that was compiled here.
pub(crate) fn compare() {
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once("\n## In your kernel\n").expect("README has its section");
    let (_, block) = section.split_once("```rust,ignore-none\n").expect("the section has a block");
    let (block, _) = block.split_once("```").expect("the block ends");
    let tested = include_str!("kernel.rs");
    for (line, (readme, tested)) in block.lines().zip(tested.lines()).enumerate() {
        assert_eq!(readme, tested, "line {} of README's block is not as in tests/readme/kernel.rs", line + 1);
    }
    assert_eq!(block.lines().count(), tested.lines().count(), "one of the two goes on");
}
