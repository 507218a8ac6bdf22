//! The machine layer alone: edits of ranges, faults, and what several CPUs add.

use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use allotment::{
    Allocator, Backing, Commit, Config, FaultAccess, Memory, PoolingAllocationConfig, Verdict,
    arch::{
        self, Arch, Invalidation, Native, PAGE_SIZE, Pages, PhysAddr, PhysOffset, TABLE_SPAN, VirtAddr,
        find_leaf_entry,
    },
    boot::largest_arena,
    space::{SharedTable, Space},
};
use kernel::{
    BootInfo, cpus,
    exception::{Access, set_resolver},
};
use runtime::KernelCpus;

use crate::{
    count::{average, counted, part_of, row},
    group::{Group, group},
};

pub(crate) const GROUPS: &[Group] = &[
    group(
        "edits",
        true,
        &[
            "premapped-reveal-16",
            "premapped-hide-16",
            "premapped-harvest-16-clean",
            "premapped-harvest-16",
            "reveal-16",
            "hide-16",
            "harvest-16-clean",
            "harvest-16",
            "harvest-16384-one-table",
            "harvest-16384-clean",
            "first-write-under-shared-table",
        ],
        edits,
    ),
    group(
        "scale",
        true,
        &[
            "reveal-1",
            "harvest-1",
            "hide-1",
            "reveal-512",
            "harvest-512",
            "hide-512",
            "reveal-16384",
            "harvest-all-16384",
            "hide-16384",
            "reveal-262144",
            "harvest-262144",
            "hide-262144",
        ],
        scale,
    ),
    group("slots", true, &["slot-reveal-16", "slot-release-16", "slot-allocate"], slots),
    group("faults", true, &["fault-resume", "fault-resume-share"], faults),
    group(
        "cpus",
        true,
        &[
            "cpus-cycle-interrupts",
            "cpus-cycle-shootdowns",
            "cpus-cycle-local",
            "cpus-grow-interrupts",
            "cpus-grow-shootdowns",
            "cpus-grow-local",
            "cpus-fault-interrupts",
            "cpus-fault-shootdowns",
            "cpus-fault-local",
            "cpus-reuse-elsewhere-interrupts",
            "cpus-reuse-elsewhere-shootdowns",
            "cpus-reuse-elsewhere-local",
        ],
        several_cpus,
    )
    .on_cpus(4),
];

/// 64 KiB: a wasm page.
const WASM_PAGE: usize = 16;
/// 64 MiB.
const MANY: usize = 16_384;
/// 1 GiB.
const GIB: usize = 262_144;

pub(crate) fn native() -> Native {
    // SAFETY: the kernel runs privileged with all of RAM mapped at its physical
    // address, and keeps its one root, on the CPUs that it counts.
    unsafe { Native::current(PhysOffset(0)) }.with_cpus(&KernelCpus)
}

/// Window and arena of the machine, whole.
pub(crate) fn whole(boot: &BootInfo) -> (core::ops::Range<VirtAddr>, core::ops::Range<PhysAddr>) {
    let window = kernel::window();
    let arena = largest_arena(boot.usable.iter().cloned()).expect("free memory");
    (VirtAddr(window.start)..VirtAddr(window.end), arena)
}

/// A space of 64 GiB, and a frame beside its arena.
fn space(boot: &BootInfo) -> (Space, PhysAddr) {
    let (window, arena) = whole(boot);
    let window = window.start..window.start.offset(64 << 30);
    let frame = arena.start;
    // SAFETY: nobody else uses either, and the frame is left out.
    let space = unsafe { Space::new(native(), window, frame.offset(PAGE_SIZE)..arena.end) };
    (space.expect("a space"), frame)
}

/// Hidden pages from the window's start on, all of one frame that nobody
/// touches.
fn hidden(space: &Space, frame: PhysAddr, count: usize) -> Pages {
    let pages = Pages { start: space.window().start, count };
    // SAFETY: the pages are ours, and nobody uses them.
    let edit = unsafe { space.map_hidden(pages, |_| frame) };
    space.settle(edit.expect("tables for the pages"));
    pages
}

fn reveal(space: &Space, pages: Pages) {
    // SAFETY: the pages are ours, and nobody uses them.
    let edit = unsafe { space.reveal(pages) };
    space.settle_here(edit.expect("hidden pages"));
}

fn hide(space: &Space, pages: Pages) {
    // SAFETY: as above.
    let edit = unsafe { space.hide(pages) };
    space.settle_here(edit.expect("present pages"));
}

fn harvest(space: &Space, pages: Pages) -> usize {
    let mut found = 0;
    // SAFETY: as above.
    let edit = unsafe { space.harvest(pages, |written| found += written.count) };
    space.settle_here(edit.expect("pages"));
    found
}

/// Marks pages as written, by writing to them.
fn write(pages: Pages) {
    for page in pages.iter() {
        // SAFETY: the page is mapped writable, to a frame of ours.
        unsafe { core::ptr::with_exposed_provenance_mut::<u8>(address(page)).write_volatile(1) };
    }
}

fn address(virt: VirtAddr) -> usize {
    usize::try_from(virt.0).unwrap_or(usize::MAX)
}

/// Instructions of `operation`, once `prepare` has made it possible.
fn after(mut prepare: impl FnMut(), mut operation: impl FnMut()) -> u64 {
    const ROUNDS: u64 = 100;
    let mut count = 0;
    for round in 0..ROUNDS + WARM {
        prepare();
        let one = counted(u64::from(round >= WARM), &mut operation);
        count += if round < WARM { 0 } else { one };
    }
    count / ROUNDS
}

/// Rounds that are not counted.
const WARM: u64 = 10;

fn edits(boot: &'static BootInfo) {
    let (space, frame) = space(boot);
    let all = hidden(&space, frame, MANY);
    let pages = Pages { count: WASM_PAGE, ..all };
    premapped(&space, pages);
    row("reveal-16", || after(|| hide(&space, pages), || reveal(&space, pages)));
    row("hide-16", || after(|| reveal(&space, pages), || hide(&space, pages)));

    reveal(&space, pages);
    harvest(&space, pages);
    row("harvest-16-clean", || average(|| assert_eq!(harvest(&space, pages), 0)));
    row("harvest-16", || after(|| write(pages), || assert_eq!(harvest(&space, pages), WASM_PAGE)));
    row("harvest-16384-one-table", || average(|| assert_eq!(harvest(&space, all), 0)));
    hide(&space, pages);
    reveal(&space, all);
    harvest(&space, all);
    row("harvest-16384-clean", || average(|| assert_eq!(harvest(&space, all), 0)));

    let first = space.window().start.offset(GIB * PAGE_SIZE);
    let table = SharedTable::build(&space, |_| Some((frame, arch::Access::CopyOnWrite))).expect("a table");
    let reserve = space.reserve::<1>().expect("a frame");
    let mut granule = first;
    let share = || {
        granule = granule.offset(TABLE_SPAN);
        // SAFETY: nobody uses the granule.
        let edit = unsafe { space.share(granule, &table) };
        space.settle(edit.expect("an empty granule"));
        reserve.refill().expect("a frame");
    };
    let mut written = first;
    let make_private = || {
        written = written.offset(TABLE_SPAN);
        // SAFETY: as above.
        let edit = unsafe { reserve.make_private(written) };
        space.settle_here(edit.expect("a frame set aside"));
    };
    row("first-write-under-shared-table", || after(share, make_private));
}

/// The shortest way: the walk and the checks were made before.
fn premapped(space: &Space, pages: Pages) {
    const ROUNDS: u64 = 100;
    // SAFETY: nobody else edits the pages meanwhile.
    let mut run = unsafe { space.premapped(pages) }.expect("hidden pages");
    let (mut reveal, mut hide) = (0, 0);
    for round in 0..ROUNDS + WARM {
        let operations = u64::from(round >= WARM);
        let show = || run.reveal_to(WASM_PAGE).expect("pages");
        reveal += operations * part_of("premapped-reveal-16", || counted(operations, show));
        // SAFETY: nobody uses the pages.
        let take = || space.settle_here(unsafe { run.hide_from(0) });
        hide += operations * part_of("premapped-hide-16", || counted(operations, take));
    }
    row("premapped-reveal-16", || reveal / ROUNDS);
    row("premapped-hide-16", || hide / ROUNDS);

    run.reveal_to(WASM_PAGE).expect("pages");
    let mut harvest = |expected| {
        let mut found = 0;
        space.settle_here(run.harvest(|written| found += written.count));
        assert_eq!(found, expected);
    };
    harvest(0);
    row("premapped-harvest-16-clean", || average(|| harvest(0)));
    row("premapped-harvest-16", || after(|| write(pages), || harvest(WASM_PAGE)));
    // SAFETY: nobody uses the pages.
    space.settle_here(unsafe { run.hide_from(0) });
}

/// From one page to 1 GiB.
fn scale(boot: &'static BootInfo) {
    let (space, frame) = space(boot);
    let all = hidden(&space, frame, GIB);
    for (count, [revealed, hid, harvested]) in [
        (1, ["reveal-1", "hide-1", "harvest-1"]),
        (512, ["reveal-512", "hide-512", "harvest-512"]),
        (MANY, ["reveal-16384", "hide-16384", "harvest-all-16384"]),
        (GIB, ["reveal-262144", "hide-262144", "harvest-262144"]),
    ] {
        let pages = Pages { count, ..all };
        // Twice, so that tables and code are warm; no average, since a round
        // of the largest is a million instructions.
        for round in 0..2 {
            let once = |name, operation: &dyn Fn(&Space, Pages)| {
                part_of(name, || counted(round, || operation(&space, pages)))
            };
            let counts = [
                once(revealed, &reveal),
                {
                    write(pages);
                    once(harvested, &|space, pages| assert_eq!(harvest(space, pages), count))
                },
                once(hid, &hide),
            ];
            if round == 1 {
                row(revealed, || counts[0]);
                row(harvested, || counts[1]);
                row(hid, || counts[2]);
            }
        }
    }
}

/// An allocator with slots of 1 MiB.
fn allocator(boot: &BootInfo) -> Allocator {
    let (window, arena) = whole(boot);
    let pool = PoolingAllocationConfig::new()
        .total_memories(16)
        .total_tables(0)
        .total_stacks(0)
        .total_gc_heaps(0)
        .max_memory_size(1 << 20)
        .poison(false)
        .backing(Backing::Elastic(Commit::Strict));
    let config = Config::new().allocation_strategy(pool);
    // SAFETY: nobody else uses window or arena.
    unsafe { Allocator::new(native(), window, arena, &config) }.expect("an allocator")
}

/// The same of a memory's slot, where entries are found by arithmetic.
fn slots(boot: &'static BootInfo) {
    let allocator = &allocator(boot);
    let warm = allocator.allocate_memory(WASM_PAGE * PAGE_SIZE).expect("a slot");
    allocator.deallocate_memory(warm);
    let (mut reveal, mut release, mut allocate) = (0, 0, 0);
    const ROUNDS: u64 = 100;
    for _ in 0..ROUNDS {
        let mut taken = None;
        let take = || taken = Some(allocator.allocate_memory(0).expect("a slot"));
        allocate += part_of("slot-allocate", || counted(1, take));
        let memory = taken.expect("it was taken");
        let Memory::Static { make_accessible, .. } = &memory else { panic!("not a slot") };
        let show = || make_accessible.call(0, WASM_PAGE * PAGE_SIZE).expect("frames");
        reveal += part_of("slot-reveal-16", || counted(1, show));
        release += part_of("slot-release-16", || counted(1, || allocator.deallocate_memory(memory)));
    }
    row("slot-reveal-16", || reveal / ROUNDS);
    row("slot-release-16", || release / ROUNDS);
    row("slot-allocate", || allocate / ROUNDS);
}

static ALLOCATOR: AtomicPtr<Allocator> = AtomicPtr::new(core::ptr::null_mut());
/// The entry of a page, and what it says when the page is there.
static ENTRY: AtomicPtr<AtomicU64> = AtomicPtr::new(core::ptr::null_mut());
static MAPPED: AtomicU64 = AtomicU64::new(0);

/// A load of a page that was given meanwhile: the exception, the verdict that the load may go on, and the
/// exception's end. It is given by who answers, at a price that is taken off.
fn faults(boot: &'static BootInfo) {
    let mut allocator = allocator(boot);
    let memory = allocator.allocate_memory(PAGE_SIZE).expect("a slot");
    let (pointer, arch) = (memory.base().as_ptr(), native());
    let page = Pages { start: VirtAddr(pointer.addr() as u64), count: 1 };
    // SAFETY: the slot keeps its leaf table.
    let entry = unsafe { find_leaf_entry(&arch, page.start) }.expect("a leaf table");
    MAPPED.store(entry.load(Ordering::Relaxed), Ordering::Relaxed);
    ENTRY.store(core::ptr::from_ref(entry).cast_mut(), Ordering::Relaxed);
    drop(memory);
    ALLOCATOR.store(&raw mut allocator, Ordering::Relaxed);
    let take = || {
        entry.store(0, Ordering::Relaxed);
        arch.invalidate_local(Invalidation::leaves(page));
    };
    // SAFETY: a readable page, if only after a fault.
    let load = || unsafe { pointer.read_volatile() };

    let nothing = after(|| {}, || {});
    let given = after(take, give) - nothing;
    let without = after(|| {}, || _ = load());
    set_resolver(resolve);
    let with = part_of("fault-resume", || after(take, || _ = load()));
    row("fault-resume", || with - without - given);
    set_resolver(resolve_unasked);
    let unasked = after(take, || _ = load());
    row("fault-resume-share", || with - unasked);
}

extern "C" fn resolve(address: u64, access: Access) -> bool {
    give();
    // SAFETY: `faults` put it there, and it lives until the machine ends.
    let allocator = unsafe { &*ALLOCATOR.load(Ordering::Relaxed) };
    let access = match access {
        Access::Read => FaultAccess::Read,
        Access::Write => FaultAccess::Write,
        Access::Execute => FaultAccess::Execute,
    };
    matches!(allocator.fault(VirtAddr(address), access), Verdict::Resume)
}

extern "C" fn resolve_unasked(_: u64, _: Access) -> bool {
    give();
    true
}

/// Makes the page accessible, as another CPU would.
#[inline]
fn give() {
    // SAFETY: `faults` put it there, and the table lives until the machine ends.
    let entry = unsafe { &*ENTRY.load(Ordering::Relaxed) };
    entry.store(MAPPED.load(Ordering::Relaxed), Ordering::Relaxed);
    #[cfg(target_arch = "aarch64")]
    // SAFETY: orders the store before the walk of the load's second try.
    unsafe {
        core::arch::asm!("dsb ishst", options(nostack, preserves_flags));
    }
}

/// What work on four CPUs at once costs the others, for 1,000 operations.
fn several_cpus(boot: &'static BootInfo) {
    const TIMES: usize = 250;
    let allocator = &allocator(boot);
    let warm = |cpu: usize| {
        let _ = cpu;
        let mut memory = allocator.allocate_memory(1 << 16).expect("a slot");
        memory.grow_to(1 << 20).expect("frames");
        allocator.deallocate_memory(memory);
    };
    cpus::together(cpus::count(), &warm);

    on_all_cpus("cpus-cycle", allocator, &|_| {
        for _ in 0..TIMES {
            let memory = allocator.allocate_memory(1 << 16).expect("a slot");
            allocator.deallocate_memory(memory);
        }
    });
    on_all_cpus("cpus-grow", allocator, &|_| {
        for _ in 0..TIMES / 10 {
            let mut memory = allocator.allocate_memory(1 << 16).expect("a slot");
            (1..=10).for_each(|page| memory.grow_to(page << 16).expect("frames"));
            allocator.deallocate_memory(memory);
        }
    });
    let memory = allocator.allocate_memory(1 << 16).expect("a slot");
    let address = VirtAddr(memory.base().as_ptr().addr() as u64);
    on_all_cpus("cpus-fault", allocator, &|_| {
        for _ in 0..TIMES {
            assert_eq!(allocator.fault(address, FaultAccess::Read), Verdict::Resume);
        }
    });
    allocator.deallocate_memory(memory);
    // One slot's frames, from one CPU to the next.
    let turn = AtomicU64::new(0);
    on_all_cpus("cpus-reuse-elsewhere", allocator, &|cpu| {
        for round in 0..TIMES as u64 {
            while turn.load(Ordering::Acquire) != round * cpus::count() as u64 + cpu as u64 {
                cpus::relax();
            }
            let memory = allocator.allocate_memory(1 << 16).expect("a slot");
            allocator.deallocate_memory(memory);
            turn.fetch_add(1, Ordering::Release);
        }
    });
}

/// Rows for what `work` on all CPUs made of interrupts and invalidations.
fn on_all_cpus(name: &str, allocator: &Allocator, work: &(dyn Fn(usize) + Sync)) {
    let (interrupts, before) = (cpus::interrupts(), allocator.invalidations());
    cpus::together(cpus::count(), work);
    let after = allocator.invalidations();
    kernel::println!("row {name}-interrupts {}", cpus::interrupts() - interrupts);
    kernel::println!("row {name}-shootdowns {}", after.everywhere - before.everywhere);
    kernel::println!("row {name}-local {}", after.local - before.local);
}
