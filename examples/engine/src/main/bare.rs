//! As a kernel: an allocator over the largest free range of memory, the engine's
//! answer to page faults, and the demo.

use allotment::{
    Allocator, Config, PoolingAllocationConfig,
    arch::{Cpus, Native, PhysOffset, VirtAddr},
    boot::largest_arena,
};
use engine::{Engine, guarded::answer_fault};
use kernel::{
    BootInfo, Exit, Frame,
    exception::{Exception, Handled, set_hook},
    print,
};
use spin::Once;

use crate::demo;

kernel::entry!(main);

/// Address space for contexts of instances.
const REGION_SPACE: usize = 1 << 30;
/// Slots for instances; and for memories and tables, of this size.
const SLOTS: usize = 8;
const MAX_MEMORY: usize = 16 << 20;

/// What the handler of page faults asks.
static ALLOCATOR: Once<Allocator<Native>> = Once::new();

fn answer(frame: &mut Frame, exception: &Exception) -> Handled {
    ALLOCATOR.get().map_or(Handled::No, |allocator| answer_fault(allocator, frame, exception))
}

fn main(boot: &'static BootInfo) -> ! {
    let arena = largest_arena(boot.usable.iter().cloned()).expect("the machine has free memory");
    let pools = PoolingAllocationConfig::new()
        .total_core_instances(SLOTS)
        .total_memories(SLOTS)
        .max_memory_size(MAX_MEMORY)
        .total_tables(SLOTS)
        .total_stacks(0);
    let config = Config::new().allocation_strategy(pools).region_space(REGION_SPACE);
    let window = kernel::window();
    // SAFETY: the kernel runs privileged with all of RAM mapped at its physical
    // address, and keeps its one root for ever, on the CPUs that it counts.
    let arch = unsafe { Native::current(PhysOffset(0)) }.with_cpus(&KernelCpus);
    // SAFETY: the kernel says that this range is free and leaves the window
    // empty; nobody but this function uses either.
    let allocator =
        unsafe { Allocator::new(arch, VirtAddr(window.start)..VirtAddr(window.end), arena, &config) };
    let allocator = ALLOCATOR.call_once(|| allocator.unwrap_or_else(|error| panic!("{error}")));
    set_hook(answer);
    let engine = Engine::new(allocator).unwrap_or_else(|error| panic!("{error}"));
    demo::run(&engine, |text| print!("{text}")).unwrap_or_else(|error| panic!("{error}"));
    kernel::exit(Exit::Success)
}

/// The boot kernel's CPUs. All but the first wait.
struct KernelCpus;

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
