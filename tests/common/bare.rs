//! Machines of bare metal: the boot kernel's own tables, and two instructions
//! that are allowed to fault.

use core::{
    arch::{asm, global_asm},
    ops::Range,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering},
};

use allotment::{
    Allocator, FaultAccess, Verdict,
    arch::{
        Arch, Cpus, Entry, Format, Invalidation, Native, Pages, PhysAddr, PhysOffset, VirtAddr,
        find_leaf_entry,
    },
};
use kernel::{
    Frame,
    exception::{Access, Exception, Handled, set_hook},
};

use super::{Fault, TestArch};

/// Runs a generic case on every machine of this build.
#[macro_export]
macro_rules! on_every_machine {
    ($($case:ident)::+) => {
        $($case)::+::<allotment::arch::Native>()
    };
}

/// Runs `work` for each number below `workers`, spread over the CPUs there are.
/// On one CPU, and where there are too few, lower numbers come first.
pub fn together(workers: usize, work: impl Fn(usize) + Sync) {
    let cpus = kernel::cpus::count().min(workers);
    kernel::cpus::together(cpus, &|cpu| (cpu..workers).step_by(cpus).for_each(&work));
}

/// How many CPUs there are.
pub fn cpus() -> usize {
    kernel::cpus::count()
}

/// Runs `case`: these machines are what they are.
pub fn set_up<T>(_cpus: usize, _seed: u64, case: impl FnOnce() -> T) -> T {
    case()
}

/// The boot kernel's CPUs.
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

/// Address space of one test machine. Each has a top-level entry of its own.
const WINDOW: u64 = 512 << 30;

static MACHINES: AtomicU64 = AtomicU64::new(0);
static ARENA_USED: AtomicU64 = AtomicU64::new(0);

impl TestArch for Native {
    // A test may ask for several; each has its own part of the kernel's window
    // and of its largest free range.
    fn machine(arena_bytes: usize) -> (Self, Range<VirtAddr>, Range<PhysAddr>) {
        set_hook(skip_probes);
        // SAFETY: the kernel runs privileged with all memory mapped at its
        // physical address, and keeps its one root, on the CPUs that it counts.
        let arch = unsafe { Self::current(PhysOffset(0)) }.with_cpus(&KernelCpus);
        let nth = MACHINES.fetch_add(1, Ordering::Relaxed);
        let top_level_entry = 1 << (12 + 9 * u64::from(arch.levels() - 1));
        let window = VirtAddr(kernel::window().start + nth * top_level_entry);
        assert!(window.0 < kernel::window().end, "the kernel's window has no room for a further machine");
        let free = harness::boot().usable.iter().max_by_key(|range| range.end - range.start).unwrap();
        let first = free.start.next_multiple_of(4096);
        let start = first + ARENA_USED.fetch_add(arena_bytes as u64, Ordering::Relaxed);
        assert!(start + arena_bytes as u64 <= free.end, "the test machine has too little memory");
        let arena = PhysAddr(start)..PhysAddr(start + arena_bytes as u64);
        super::litter(&arch, &arena);
        (arch, window..VirtAddr(window.0 + WINDOW), arena)
    }

    fn load(&self, address: VirtAddr) -> Result<u8, Fault> {
        // SAFETY: a fault is caught; what is loaded is not interpreted.
        let loaded = unsafe { probe_load(address.0) };
        u8::try_from(loaded).map_err(|_| Fault(address))
    }

    fn store(&self, address: VirtAddr, byte: u8) -> Result<(), Fault> {
        // SAFETY: a fault is caught; tests store to their own memories only.
        let stored = unsafe { probe_store(address.0, byte) };
        if stored == 0 { Ok(()) } else { Err(Fault(address)) }
    }

    fn on_cpu(&self, cpu: usize, work: impl Fn() + Sync) {
        kernel::cpus::together(cpu + 1, &|current| {
            if current == cpu {
                work();
            }
        });
    }

    fn with_root(&self, root: PhysAddr, work: impl FnOnce()) {
        let own = self.live_root(VirtAddr(!0));
        load_root(self, root);
        work();
        load_root(self, own);
    }

    fn racing(&self, work: impl Fn() + Sync) {
        work();
    }

    fn use_window(&self, _window: Range<VirtAddr>) {}

    fn interrupts(&self) -> u64 {
        kernel::cpus::interrupts()
    }

    // The emulated machine does.
    fn audit(&self) {}

    fn register(allocator: &Allocator<Self>, enable: bool) {
        let (from, to) = (core::ptr::from_ref(allocator).cast_mut(), core::ptr::null_mut());
        let (from, to) = if enable { (to, from) } else { (from, to) };
        let place = |place: &AtomicPtr<Allocator>| {
            place.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let found = ANSWERING.iter().any(place);
        assert!(found || !enable, "more machines at a time than there is room for");
    }
}

/// Gives this CPU another root of the upper half, and has it forget the last one.
fn load_root(arch: &Native, root: PhysAddr) {
    // SAFETY: the test's table has all that the kernel has in its own.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("mov cr3, {}", in(reg) root.0, options(nostack, preserves_flags));
    }
    // SAFETY: the kernel itself is in the lower half.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("dsb ishst", "msr ttbr1_el1, {}", "isb", in(reg) root.0, options(nostack, preserves_flags));
    }
    arch.invalidate_local(Invalidation::EVERYTHING);
}

/// The allocators of all machines that there are.
static ANSWERING: [AtomicPtr<Allocator>; 16] = [const { AtomicPtr::new(core::ptr::null_mut()) }; 16];

/// Whether an allocator has an access succeed that faulted.
fn resolved(address: VirtAddr, access: FaultAccess) -> bool {
    ANSWERING.iter().any(|place| {
        // SAFETY: null, or an allocator that is there until it is taken out.
        let allocator = unsafe { place.load(Ordering::Acquire).as_ref() };
        allocator.is_some_and(|allocator| allocator.fault(address, access) == Verdict::Resume)
    })
}

/// Leaves a faulting probe with its mark for a fault, and has the core's own first
/// write to a clean page succeed.
fn skip_probes(frame: &mut Frame, exception: &Exception) -> Handled {
    let probes = [probe_load as *const () as u64, probe_store as *const () as u64];
    match *exception {
        Exception::PageFault { .. } if probes.contains(&frame.pc()) => {
            frame.set_pc(probe_fault as *const () as u64);
            Handled::Resume
        }
        Exception::PageFault { addr, access: Access::Write, present: true }
            if kernel::window().contains(&addr) && mark_first_write(VirtAddr(addr)) =>
        {
            Handled::Resume
        }
        Exception::PageFault { addr, access: Access::Write, .. }
            if kernel::window().contains(&addr) && resolved(VirtAddr(addr), FaultAccess::Write) =>
        {
            Handled::Resume
        }
        _ => Handled::No,
    }
}

/// What `Allocator::fault` does, for whichever allocator the page is of: where the
/// CPU keeps no dirty state, marks a clean page that may be written.
fn mark_first_write(address: VirtAddr) -> bool {
    // SAFETY: as in `machine`.
    let arch = unsafe { Native::current(PhysOffset(0)) };
    if arch.hardware_dirty() {
        return false;
    }
    // SAFETY: the tables are the kernel's own, and the page does not translate by
    // chance: its table stays at least until the write is done.
    let Some(entry) = (unsafe { find_leaf_entry(&arch, address) }) else { return false };
    let marked = entry.fetch_update(Ordering::AcqRel, Ordering::Acquire, |old| {
        let present = matches!(NativeFormat::decode(old), Entry::Present { .. });
        present.then(|| NativeFormat::mark_written(old)).flatten()
    });
    let page = VirtAddr(address.0 & !0xfff);
    arch.invalidate_local(Invalidation::leaves(Pages { start: page, count: 1 }));
    marked.is_ok()
}

type NativeFormat = <Native as Arch>::Format;

unsafe extern "C" {
    /// Loads a byte; a number above 255 if that faults.
    fn probe_load(address: u64) -> u64;
    /// Stores a byte; 0, or a number above 255 if that faults.
    fn probe_store(address: u64, byte: u8) -> u64;
    fn probe_fault();
}

// The first instruction of each probe is the one that may fault.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".global probe_load",
    "probe_load:",
    "movzx eax, byte ptr [rdi]",
    "ret",
    ".global probe_store",
    "probe_store:",
    "mov byte ptr [rdi], sil",
    "xor eax, eax",
    "ret",
    ".global probe_fault",
    "probe_fault:",
    "mov eax, 256",
    "ret",
);
#[cfg(target_arch = "aarch64")]
global_asm!(
    ".global probe_load",
    "probe_load:",
    "ldrb w0, [x0]",
    "ret",
    ".global probe_store",
    "probe_store:",
    "strb w1, [x0]",
    "mov x0, #0",
    "ret",
    ".global probe_fault",
    "probe_fault:",
    "mov x0, #256",
    "ret",
);
