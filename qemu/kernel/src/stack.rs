//! The stacks there are, each above a guard page that is never mapped.
//!
//! The boot CPU's are part of the kernel's image; those of the others are taken from memory at boot.
//!
//! ```text
//!   guard    bytes
//!   |------|---------------------|
//!   4 KiB   grows down  <-- sp    top
//! ```

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ops::Range;

use spin::Once;

use crate::arch;
use crate::cpus::MAX;
use crate::ranges::{Ranges, take};

/// Bytes in a guard: one page.
pub(crate) const GUARD: usize = 4096;

/// Where a stack lies.
#[derive(Clone, Copy, Debug)]
pub struct Stack {
    /// What runs on it, for messages.
    pub name: &'static str,
    /// The CPU whose it is.
    pub cpu: usize,
    /// Its guard page's address.
    guard: u64,
    /// Usable bytes, above the guard.
    size: u64,
}

impl Stack {
    /// The boot CPU's stack of `size` usable bytes above the guard page at `guard`.
    pub(crate) const fn new(name: &'static str, guard: u64, size: u64) -> Self {
        Self { name, cpu: 0, guard, size }
    }

    /// The page below, which is never mapped.
    #[must_use]
    pub const fn guard(&self) -> Range<u64> {
        self.guard..self.guard + GUARD as u64
    }

    /// The bytes it has.
    #[must_use]
    pub const fn bytes(&self) -> Range<u64> {
        let bottom = self.guard + GUARD as u64;
        bottom..bottom + self.size
    }
}

/// By CPU, the stacks that were taken from memory.
static RESERVED: [[Once<Stack>; arch::cpus::STACKS.len()]; MAX] =
    [const { [const { Once::new() }; arch::cpus::STACKS.len()] }; MAX];

/// Every stack of the kernel.
pub fn all() -> impl Iterator<Item = Stack> {
    let reserved = RESERVED.iter().flatten().filter_map(Once::get).copied();
    core::iter::once(main()).chain(arch::exception::stacks()).chain(reserved)
}

/// The upper ends of the stacks that were reserved for CPU `cpu`, in the order of the architecture's `STACKS`.
pub(crate) fn tops_of(cpu: usize) -> [u64; arch::cpus::STACKS.len()] {
    RESERVED[cpu].each_ref().map(|stack| stack.get().map_or(0, |stack| stack.bytes().end))
}

/// Takes the stacks of CPU `cpu` from usable memory.
///
/// # Panics
/// If there is too little.
pub(crate) fn reserve(cpu: usize, usable: &mut Ranges) {
    for (reserved, (name, size)) in RESERVED[cpu].iter().zip(arch::cpus::STACKS) {
        let Some(taken) = take(usable, GUARD as u64 + size, u64::MAX) else {
            panic!("no {size} bytes for a stack of CPU {cpu}; give the machine more memory or fewer CPUs");
        };
        reserved.call_once(|| Stack { name, cpu, guard: taken.start, size });
    }
}

/// The stack that programs run on, CPU 0's.
#[must_use]
pub fn main() -> Stack {
    let [guard, bottom, top] = [&raw const __stack_guard, &raw const __stack_bottom, &raw const __stack_top]
        .map(|symbol| symbol.addr() as u64);
    debug_assert_eq!(guard + GUARD as u64, bottom);
    Stack::new("main", guard, top - bottom)
}

unsafe extern "C" {
    // The linker scripts set these.
    static __stack_guard: u8;
    static __stack_bottom: u8;
    static __stack_top: u8;
}

/// Room for a stack with its guard, for a `static` in section `.stacks`, which the boot code need not zero.
#[repr(C, align(4096))]
pub(crate) struct GuardedStack<const SIZE: usize> {
    guard: UnsafeCell<MaybeUninit<[u8; GUARD]>>,
    bytes: UnsafeCell<MaybeUninit<[u8; SIZE]>>,
}

// SAFETY: Rust code never reads or writes the cells; only the CPU's stack pointer does.
unsafe impl<const SIZE: usize> Sync for GuardedStack<SIZE> {}

impl<const SIZE: usize> GuardedStack<SIZE> {
    /// A stack of `SIZE` bytes, a multiple of the page size.
    pub(crate) const fn new() -> Self {
        const { assert!(SIZE.is_multiple_of(GUARD)) };
        Self { guard: UnsafeCell::new(MaybeUninit::uninit()), bytes: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// Where it lies.
    pub(crate) fn stack(&'static self, name: &'static str) -> Stack {
        Stack::new(name, self.guard.get().addr() as u64, SIZE as u64)
    }

    /// Its upper end, where a stack pointer starts.
    pub(crate) fn top(&'static self) -> u64 {
        self.bytes.get().addr() as u64 + SIZE as u64
    }
}
