//! Page faults of Allotment's window, of which a resolver is asked first.

use core::{
    hint::black_box,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering},
};

use allotment::{
    Allocator, Backing, Commit, Config, FaultAccess, Memory, PoolingAllocationConfig, Verdict,
    arch::{Arch, Invalidation, Native, PAGE_SIZE, Pages, PhysAddr, PhysOffset, VirtAddr, find_leaf_entry},
    boot::largest_arena,
};
use kernel::{
    cpus,
    exception::{Access, Exception, set_resolver},
};
use runtime::KernelCpus;
use spin::Once;

use super::{
    answered::survive,
    trial::{JUMP, LOAD, STORE, trial},
};

static ALLOCATOR: Once<Allocator> = Once::new();
/// How many faults were resolved.
static RESOLVED: AtomicU64 = AtomicU64::new(0);
/// Whether the last access that faulted was a write.
static WROTE: AtomicBool = AtomicBool::new(false);
/// An entry that somebody else is about to write, and what.
static MEANWHILE: AtomicPtr<AtomicU64> = AtomicPtr::new(core::ptr::null_mut());
static MAPPED: AtomicU64 = AtomicU64::new(0);

const PAGES: usize = 64;

/// A trap of wasm's: the resolver has nothing to say, the hook does.
pub(crate) fn trap() {
    let memory = memory(Commit::Strict);
    let beyond = page(&memory, PAGES);
    survive(LOAD, beyond, |seen| matches!(seen, Exception::PageFault { addr, .. } if *addr == beyond));
    assert_eq!(RESOLVED.load(Ordering::Relaxed), 0);
}

/// An instruction fetch, which a page that can be read and written has to refuse.
pub(crate) fn jump() {
    let memory = memory(Commit::Strict);
    let page = page(&memory, 0);
    survive(
        JUMP,
        page,
        |seen| matches!(*seen, Exception::PageFault { addr, access: Access::Execute, .. } if addr == page),
    );
    assert_eq!(RESOLVED.load(Ordering::Relaxed), 0);
}

/// Pages that share a frame get one of their own when they are written; loads fault never.
pub(crate) fn untouched() {
    let memory = memory(Commit::PerInstance(PAGES));
    for nth in 0..PAGES {
        trial(LOAD, page(&memory, nth));
        assert_eq!(RESOLVED.load(Ordering::Relaxed), nth as u64);
        trial(STORE, page(&memory, nth));
        assert_eq!(RESOLVED.load(Ordering::Relaxed), nth as u64 + 1);
        assert!(WROTE.load(Ordering::Relaxed));
    }
}

/// A page that is there by the time anybody looks.
pub(crate) fn given_meanwhile() {
    let memory = memory(Commit::Strict);
    for (nth, kind) in [LOAD, STORE].into_iter().enumerate() {
        let page = Pages { start: VirtAddr(page(&memory, nth)), count: 1 };
        let arch = native();
        // SAFETY: the slot keeps its leaf table.
        let entry = unsafe { find_leaf_entry(&arch, page.start) }.expect("a leaf table");
        MAPPED.store(entry.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        arch.invalidate_local(Invalidation::leaves(page));
        MEANWHILE.store(core::ptr::from_ref(entry).cast_mut(), Ordering::Relaxed);
        trial(kind, page.start.0);
        assert_eq!(RESOLVED.load(Ordering::Relaxed), nth as u64 + 1);
    }
}

/// A page that is writable and clean, on a CPU that does not mark it itself.
#[cfg(target_arch = "aarch64")]
pub(crate) fn clean() {
    // TCR_EL1.HA and HD, which not every CPU has.
    // SAFETY: pages are then marked by whoever answers faults, which the resolver does.
    unsafe {
        core::arch::asm!(
            "mrs {0}, tcr_el1",
            "bic {0}, {0}, #(0b11 << 39)",
            "msr tcr_el1, {0}",
            "isb",
            "tlbi vmalle1",
            "dsb nsh",
            "isb",
            out(reg) _,
            options(nostack, preserves_flags),
        );
    }
    let memory = memory(Commit::Strict);
    for nth in 0..PAGES {
        trial(LOAD, page(&memory, nth));
        assert_eq!(RESOLVED.load(Ordering::Relaxed), nth as u64, "a load of a clean page faulted");
        trial(STORE, page(&memory, nth));
        assert_eq!(RESOLVED.load(Ordering::Relaxed), nth as u64 + 1);
    }
}

/// All CPUs touch the same pages.
pub(crate) fn racing() {
    let memory = memory(Commit::PerInstance(PAGES));
    cpus::together(cpus::count(), &|cpu| {
        for nth in 0..PAGES {
            // Loads between: they find the shared page, or somebody's own.
            if (nth + cpu) % 2 == 0 {
                trial(LOAD, page(&memory, nth));
            }
            trial(STORE, page(&memory, nth));
        }
    });
    // A page may be another CPU's to fill this moment, more than once.
    let most = (8 * PAGES * cpus::count()) as u64;
    assert!((PAGES as u64..=most).contains(&RESOLVED.load(Ordering::Relaxed)));
}

/// A memory of [`PAGES`] pages, whose faults `resolve` is asked about.
fn memory(commit: Commit) -> Memory<'static> {
    let pool = PoolingAllocationConfig::new()
        .total_memories(1)
        .total_tables(0)
        .total_stacks(0)
        .total_gc_heaps(0)
        .max_memory_size(1 << 20)
        .backing(Backing::Elastic(commit));
    let config = Config::new().allocation_strategy(pool);
    let window = kernel::window();
    let window = VirtAddr(window.start)..VirtAddr(window.end);
    let arena = largest_arena(harness::boot().usable.iter().cloned()).expect("free memory");
    let allocator = ALLOCATOR.call_once(|| {
        // SAFETY: nobody else uses window or arena.
        unsafe { Allocator::new(native(), window, arena, &config) }.expect("an allocator")
    });
    let memory = allocator.allocate_memory(PAGES * PAGE_SIZE).expect("a slot");
    set_resolver(resolve);
    RESOLVED.store(0, Ordering::Relaxed);
    memory
}

fn native() -> Native {
    // SAFETY: the kernel runs privileged with all of RAM mapped at its physical
    // address, and keeps its one root, on the CPUs that it counts.
    unsafe { Native::current(PhysOffset(0)) }.with_cpus(&KernelCpus)
}

fn page(memory: &Memory<'_>, nth: usize) -> u64 {
    (memory.base().as_ptr().addr() + nth * PAGE_SIZE) as u64
}

extern "C" fn resolve(addr: u64, access: Access) -> bool {
    WROTE.store(access == Access::Write, Ordering::Relaxed);
    let access = match access {
        Access::Read => FaultAccess::Read,
        Access::Write => FaultAccess::Write,
        Access::Execute => FaultAccess::Execute,
    };
    // SAFETY: null, or an entry of a table that its slot keeps.
    if let Some(entry) = unsafe { MEANWHILE.swap(core::ptr::null_mut(), Ordering::Relaxed).as_ref() } {
        entry.store(MAPPED.load(Ordering::Relaxed), Ordering::Relaxed);
        native().publish();
    }
    use_vectors();
    let resolved = ALLOCATOR.get().is_some_and(|allocator| {
        let verdict = allocator.fault(VirtAddr(addr), access);
        matches!(verdict, Verdict::Resume)
    });
    RESOLVED.fetch_add(u64::from(resolved), Ordering::Relaxed);
    resolved
}

#[derive(Clone, Copy)]
#[repr(align(4096))]
struct Page([u8; PAGE_SIZE]);

/// All that code of ours does with vectors, on whatever paths: frames, and what compilers call to move bytes.
fn use_vectors() {
    static FRAMES: spin::Mutex<[Page; 2]> = spin::Mutex::new([Page([0x5a; PAGE_SIZE]), Page([0; PAGE_SIZE])]);
    // Beside other CPUs only: nothing in here faults.
    let mut frames = FRAMES.lock();
    let [one, other] = &mut *frames;
    let [one_at, other_at] = [&raw mut *one, &raw mut *other].map(|page| PhysAddr(page.addr() as u64));
    // SAFETY: two pages of ours, mapped at their physical addresses.
    unsafe { native().copy_frame(one_at, other_at) };
    assert!(black_box(&*other).0 == [0x5a; PAGE_SIZE], "a frame is copied");
    // SAFETY: as above.
    unsafe { native().zero_frame(other_at) };
    assert!(black_box(&*other).0 == [0; PAGE_SIZE], "a frame is cleared");

    for len in [16, 17, 32, 33, 100, 2000] {
        let from: [u8; 2048] = core::array::from_fn(|byte| (byte * 7 + byte / 256).to_le_bytes()[0]);
        let mut to = [0; 2048];
        to[..black_box(len)].copy_from_slice(&from[..len]);
        assert!(to[..len] == from[..len] && to[len] == 0, "memcpy of {len} bytes");
        for [source, target] in [[0, 3], [3, 0]] {
            let mut moved = from;
            moved.copy_within(source..source + black_box(len), target);
            assert!(moved[target..target + len] == from[source..source + len], "memmove of {len} bytes");
        }
        to[..black_box(len)].fill(black_box(0xa5));
        assert!(to[..len].iter().all(|&byte| byte == 0xa5) && to[len] == 0, "memset of {len} bytes");
    }
    #[cfg(target_arch = "aarch64")]
    super::trial::clobber();
}
