//! One test file, three worlds.
//!
//! A test file of this workspace looks like this and is the same on the host, on
//! x86_64 and on aarch64 (its `[[test]]` entry says `harness = false`):
//!
//! ```ignore
//! #![cfg_attr(target_os = "none", no_std, no_main)]
//!
//! harness::tests! {
//!     fn one_and_one() {
//!         assert_eq!(1 + 1, 2);
//!     }
//!
//!     #[ignore = "takes an hour"]
//!     fn all_sums() -> Result<(), Overflow> { .. }
//!
//!     #[cfg(target_os = "none")]
//!     fn page_zero_faults() { .. }
//! }
//! ```
//!
//! On the host [`tests!`] makes a `main` that runs the tests as libtest would. On bare
//! metal it makes a kernel:
//!
//! ```text
//!   cargo test --target x86_64-unknown-none
//!     `- xtask runner ELF [libtest's words]     the libtest that people see
//!          |- boots ELF with `--list`           -> lines `NAME: test`
//!          `- per test, boots ELF with `--exact NAME`, on a fresh machine
//!                                               -> line `test NAME ... ok`, verdict line
//! ```
//!
//! So a test that panics, hangs or resets the machine takes no other test with it. Of one that hangs it is
//! shown where each CPU was.

#![cfg_attr(target_os = "none", no_std)]

#[cfg(not(target_os = "none"))]
pub mod libtest;
mod select;
#[cfg_attr(target_os = "none", path = "bare.rs")]
#[cfg_attr(not(target_os = "none"), path = "host.rs")]
mod world;

pub use world::full;
#[cfg(target_os = "none")]
pub use world::{boot, guest, payload};

#[doc(hidden)]
pub use world::run_tests;

/// What [`tests!`] expands to, apart from this crate's own functions.
#[doc(hidden)]
#[cfg(target_os = "none")]
pub use kernel;

/// One test, as [`tests!`] puts it into its table.
#[derive(Clone, Copy, Debug)]
#[doc(hidden)]
pub struct Test {
    /// The function's name.
    pub name: &'static str,
    /// Whether it runs only when asked for.
    pub ignored: bool,
    /// Runs it; returns if it passed.
    pub run: fn(),
}

/// What a test may return.
#[doc(hidden)]
pub trait Outcome {
    /// Panics unless the test passed.
    fn check(self);
}

impl Outcome for () {
    fn check(self) {}
}

impl<E: core::fmt::Debug> Outcome for Result<(), E> {
    fn check(self) {
        if let Err(error) = self {
            panic!("test returned an error: {error:?}");
        }
    }
}

/// Declares the tests of a file and everything needed to run them.
///
/// Takes functions without arguments that return nothing or a `Result<(), impl Debug>`. They
/// can carry `#[ignore]`, `#[ignore = "why"]`, `#[cfg(..)]`, and attributes of a usual function.
/// Use it once in a file; helpers live outside.
#[macro_export]
macro_rules! tests {
    ($( $(#[$($attribute:tt)*])* fn $name:ident() $(-> $result:ty)? $body:block )*) => {
        $( $crate::__test_function! {
            $(#[$($attribute)*])* fn $name() $(-> $result)? $body
        } )*

        static __TESTS: &[&[$crate::Test]] = &[
            $( $crate::__test_entry! { [] [false] $(#[$($attribute)*])* $name } ),*
        ];

        $crate::__main! { __TESTS }
    };
}

/// A test's function without `#[ignore]`, which rustc knows only beside its own `#[test]`.
#[doc(hidden)]
#[macro_export]
macro_rules! __test_function {
    (@ [$($kept:tt)*] #[ignore $($why:tt)*] $($rest:tt)*) => {
        $crate::__test_function! { @ [$($kept)*] $($rest)* }
    };
    (@ [$($kept:tt)*] #[$($attribute:tt)*] $($rest:tt)*) => {
        $crate::__test_function! { @ [$($kept)* #[$($attribute)*]] $($rest)* }
    };
    (@ [$($kept:tt)*] fn $($rest:tt)*) => { $($kept)* fn $($rest)* };
    ($($all:tt)*) => { $crate::__test_function! { @ [] $($all)* } };
}

/// A test's part of the table: one entry, or none if a `#[cfg]` removes it.
#[doc(hidden)]
#[macro_export]
macro_rules! __test_entry {
    ([$($cfg:tt)*] [$ignored:tt] #[ignore $($why:tt)*] $($rest:tt)*) => {
        $crate::__test_entry! { [$($cfg)*] [true] $($rest)* }
    };
    ([$($cfg:tt)*] [$ignored:tt] #[cfg($($condition:tt)*)] $($rest:tt)*) => {
        $crate::__test_entry! { [$($cfg)* #[cfg($($condition)*)]] [$ignored] $($rest)* }
    };
    ([$($cfg:tt)*] [$ignored:tt] #[$($other:tt)*] $($rest:tt)*) => {
        $crate::__test_entry! { [$($cfg)*] [$ignored] $($rest)* }
    };
    ([$($cfg:tt)*] [$ignored:tt] $name:ident) => {
        &[
            $($cfg)*
            $crate::Test {
                name: stringify!($name),
                ignored: $ignored,
                run: || $crate::Outcome::check($name()),
            },
        ]
    };
}

/// The program's entry: a kernel's.
#[cfg(target_os = "none")]
#[doc(hidden)]
#[macro_export]
macro_rules! __main {
    ($tests:ident) => {
        fn __main(boot: &'static $crate::kernel::BootInfo) -> ! {
            $crate::run_tests(boot, $tests)
        }
        $crate::kernel::entry!(__main);
    };
}

/// The program's entry: a usual one.
#[cfg(not(target_os = "none"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __main {
    ($tests:ident) => {
        fn main() -> ::std::process::ExitCode {
            $crate::run_tests($tests)
        }
    };
}
