//! The machines that the same tests run on.
//!
//! ```text
//!   host      emulated MMU, with x86_64 entries in 4 and 5 levels, and with
//!             aarch64 entries, with and without dirty state in hardware; four
//!             CPUs each, which cache whatever they may
//!   x86_64    the boot kernel's own tables, in QEMU
//!   aarch64   the same
//! ```
//!
//! A test is a function over [`Machine`]; `on_every_machine!` runs it on all
//! that this build has. It touches memories through [`Machine::load`] and
//! [`Machine::store`], which say whether the access faulted.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "every test file uses its own part")]

extern crate alloc;

use alloc::boxed::Box;

use allotment::{
    Allocator, Backing, CarveError, Commit, Config, FaultAccess, Memory, PoolingAllocationConfig, Verdict,
    arch::{Arch, PhysAddr, VirtAddr},
};
use spin::Mutex;

#[cfg(target_os = "none")]
#[path = "bare.rs"]
mod world;
#[cfg(not(target_os = "none"))]
#[path = "host.rs"]
mod world;

#[cfg(not(target_os = "none"))]
pub use world::{Kind, as_kind};
pub use world::{cpus, set_up, together};

pub const PAGE: usize = 4096;
pub const WASM_PAGE: usize = 65536;
pub const MIB: usize = 1 << 20;

/// An allocator on some machine, and a way to touch what it gives.
pub struct Machine<A: TestArch> {
    /// Where it stays: whoever answers faults knows it by its address.
    pub allocator: Box<Allocator<A>>,
}

/// What a test machine can do beside being an [`Arch`].
pub trait TestArch: Arch + Sized {
    /// A machine whose window is empty, with its window and arena.
    fn machine(arena_bytes: usize) -> (Self, core::ops::Range<VirtAddr>, core::ops::Range<PhysAddr>);

    /// Loads a byte as running code would; `Err` if that faults.
    fn load(&self, address: VirtAddr) -> Result<u8, Fault>;

    /// Stores a byte as running code would; `Err` if that faults.
    fn store(&self, address: VirtAddr, byte: u8) -> Result<(), Fault>;

    /// Runs `work` on CPU `cpu`, and waits for it.
    fn on_cpu(&self, cpu: usize, work: impl Fn() + Sync);

    /// Runs `work` while this CPU has another root, which has all that the kernel itself
    /// needs. On aarch64 it is that of the upper half.
    fn with_root(&self, root: PhysAddr, work: impl FnOnce());

    /// Runs `work`, in which accesses race with edits that take away what they
    /// use.
    fn racing(&self, work: impl Fn() + Sync);

    /// Says that the test has another window than the machine came with.
    fn use_window(&self, window: core::ops::Range<VirtAddr>);

    /// Interrupts between CPUs so far.
    fn interrupts(&self) -> u64;

    /// Panics if anything is wrong that can be seen at rest.
    fn audit(&self);

    /// Has faults of the core's own accesses answered by `allocator`, if it is not the
    /// core that does so; or no longer.
    fn register(_allocator: &Allocator<Self>, _enable: bool) {}
}

impl<A: TestArch> Drop for Machine<A> {
    fn drop(&mut self) {
        #[cfg(not(target_os = "none"))]
        if std::thread::panicking() {
            return;
        }
        self.allocator.arch().audit();
        A::register(&self.allocator, false);
    }
}

/// A load or store that faulted, at this address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault(pub VirtAddr);

/// Fills an arena-to-be with what firmware or an earlier owner may leave there.
fn litter<A: Arch>(arch: &A, arena: &core::ops::Range<PhysAddr>) {
    for page in (arena.start.0..arena.end.0).step_by(PAGE) {
        // SAFETY: the machine is the test's, and nothing uses its arena yet.
        unsafe { arch.physical(PhysAddr(page)).write_bytes(0xa5, PAGE) };
    }
}

/// A pool that is small enough to be exhausted in a test.
pub fn small() -> Config {
    pooled(small_pool())
}

/// The pools' half of the same.
pub fn small_pool() -> PoolingAllocationConfig {
    pool(4, 4 * MIB)
}

/// So many memories of at most so many bytes, which share frames, and nothing
/// else.
pub fn pool(memories: usize, bytes: usize) -> PoolingAllocationConfig {
    PoolingAllocationConfig::new()
        .total_memories(memories)
        .max_memory_size(bytes)
        .total_tables(0)
        .total_stacks(0)
        .backing(Backing::Elastic(Commit::Strict))
}

/// Usual but for the pools.
pub fn pooled(pool: PoolingAllocationConfig) -> Config {
    Config::new().allocation_strategy(pool)
}

impl<A: TestArch> Machine<A> {
    pub fn new(config: &Config, arena_bytes: usize) -> Self {
        Self::try_new(config, arena_bytes).expect("the test's configuration fits")
    }

    pub fn try_new(config: &Config, arena_bytes: usize) -> Result<Self, CarveError> {
        let (arch, window, arena) = A::machine(arena_bytes);
        // SAFETY: every test has a machine, window and arena of its own.
        let allocator = unsafe { Allocator::new(arch, window, arena, config) }?;
        Ok(Self::of(allocator))
    }

    /// The machine of an allocator.
    pub fn of(allocator: Allocator<A>) -> Self {
        let allocator = Box::new(allocator);
        A::register(&allocator, true);
        Self { allocator }
    }

    /// Loads a byte at an offset, which may be negative, from a memory's base.
    pub fn load(&self, memory: &Memory<'_, A>, offset: i64) -> Result<u8, Fault> {
        self.load_at(at(memory, offset))
    }

    /// Stores a byte at an offset from a memory's base.
    pub fn store(&self, memory: &Memory<'_, A>, offset: i64, byte: u8) -> Result<(), Fault> {
        self.store_at(at(memory, offset), byte)
    }

    /// Loads a byte as running code would, whose faults the allocator answers.
    pub fn load_at(&self, address: VirtAddr) -> Result<u8, Fault> {
        load_at(&self.allocator, address)
    }

    /// Stores a byte as running code would, whose faults the allocator answers.
    pub fn store_at(&self, address: VirtAddr, byte: u8) -> Result<(), Fault> {
        store_at(&self.allocator, address, byte)
    }

    /// What the allocator says about a fault at an offset.
    pub fn verdict(&self, memory: &Memory<'_, A>, offset: i64) -> Verdict {
        self.allocator.fault(at(memory, offset), FaultAccess::Read)
    }

    /// Asserts that the last byte of `size` can be used and the next cannot.
    pub fn assert_ends_at(&self, memory: &Memory<'_, A>, size: usize) {
        let size = i64::try_from(size).unwrap();
        self.store(memory, size - 1, 0x5a).expect("the last byte is writable");
        assert_eq!(self.load(memory, size - 1), Ok(0x5a));
        assert_eq!(self.load(memory, size), Err(Fault(at(memory, size))), "one past the end was readable");
        self.store(memory, size, 1).expect_err("one past the end was writable");
    }
}

/// Loads a byte as running code would, whose faults the allocator answers.
pub fn load_at<A: TestArch>(allocator: &Allocator<A>, address: VirtAddr) -> Result<u8, Fault> {
    resuming(allocator, FaultAccess::Read, || allocator.arch().load(address))
}

/// Stores a byte as running code would, whose faults the allocator answers.
pub fn store_at<A: TestArch>(allocator: &Allocator<A>, address: VirtAddr, byte: u8) -> Result<(), Fault> {
    resuming(allocator, FaultAccess::Write, || allocator.arch().store(address, byte))
}

/// Does an access as running code would, whose faults the allocator answers.
pub fn resuming<A: TestArch, T>(
    allocator: &Allocator<A>,
    kind: FaultAccess,
    access: impl Fn() -> Result<T, Fault>,
) -> Result<T, Fault> {
    // A page may be taken away and given back while this goes on, but not as
    // often as that; or another CPU has the last frame for it in hand, and does
    // not come to it for a while.
    for _ in 0..1_000_000 {
        match access() {
            Err(Fault(address)) if allocator.fault(address, kind) == Verdict::Resume => {}
            done => return done,
        }
    }
    panic!("the same access was resumed again and again")
}

/// The address at an offset from a memory's base.
pub fn at<A: Arch>(memory: &Memory<'_, A>, offset: i64) -> VirtAddr {
    VirtAddr((memory.base().as_ptr() as u64).wrapping_add_signed(offset))
}

/// Runs `work` once as CPU `cpu`, and returns what it does.
pub fn on<A: TestArch, T: Send>(arch: &A, cpu: usize, work: impl FnOnce() -> T + Send) -> T {
    let (work, done) = (Mutex::new(Some(work)), Mutex::new(None));
    arch.on_cpu(cpu, || {
        let work = work.lock().take().expect("a CPU works once");
        *done.lock() = Some(work());
    });
    done.into_inner().expect("the CPU has worked")
}
