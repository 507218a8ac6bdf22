//! The calls that Wasmtime makes, in the order in which it makes them, and
//! calls that it never makes.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[path = "platform/code.rs"]
mod code_in_place;
mod common;
#[path = "platform/exhausted.rs"]
mod exhausted;
#[path = "platform/images.rs"]
mod images;
#[path = "platform/locks.rs"]
mod locks;
#[path = "platform/next.rs"]
mod next;
#[path = "platform/protect.rs"]
mod protect;
#[path = "platform/threads.rs"]
mod threads;

extern crate alloc;

use core::ptr::NonNull;

use allotment::{
    Allocator, Error, FaultAccess, FaultRegion, InstanceAllocationStrategy, Verdict,
    arch::VirtAddr,
    wasmtime::{
        Delivery, Exception, GUARD_SIZE, Platform, PlatformError, Protection, RESERVATION, allocator_config,
    },
};
use common::{MIB, PAGE, TestArch, WASM_PAGE, load_at, pool, store_at};
use exhausted::{
    address_space, code, faults, full_stack, growth, new_mappings, promised, remap as exhausted_remap, slots,
};

harness::tests! {
    fn an_instance_from_reservation_to_release() {
        on_every_machine!(instance);
    }

    fn a_module_from_copy_to_code() {
        on_every_machine!(module);
    }

    fn calls_that_make_no_sense_are_refused() {
        on_every_machine!(nonsense);
    }

    fn a_remapped_range_reads_as_zeros() {
        on_every_machine!(remap);
    }

    fn faults_of_code_are_diverted_and_others_are_not() {
        on_every_machine!(delivery);
    }

    fn a_pool_without_the_guards_of_wasmtime_serves_no_memory() {
        on_every_machine!(guardless);
    }

    fn a_refused_remap_of_a_slot_changes_nothing() {
        on_every_machine!(refused_remap);
    }

    fn a_mapping_on_demand_is_reported_as_the_memory_that_it_holds() {
        on_every_machine!(reports_on_demand);
    }

    fn the_last_error_is_kept_in_full() {
        on_every_machine!(last_error);
    }

    fn more_memories_than_slots_are_refused() {
        on_every_machine!(slots);
    }

    fn more_mappings_than_address_space_are_refused() {
        on_every_machine!(address_space);
    }

    fn a_new_mapping_without_frames_is_refused() {
        on_every_machine!(new_mappings);
    }

    fn growth_without_frames_is_refused() {
        on_every_machine!(growth);
    }

    fn access_to_a_region_without_frames_is_refused() {
        on_every_machine!(code);
    }

    fn pages_that_were_taken_away_do_not_count() {
        on_every_machine!(exhausted::promised_elsewhere);
    }

    fn what_an_instance_may_touch_is_not_taken_from_it() {
        on_every_machine!(promised);
    }

    fn a_remap_without_frames_is_refused() {
        on_every_machine!(exhausted_remap);
    }

    fn faults_are_answered_without_frames() {
        on_every_machine!(faults);
    }

    fn a_full_stack_is_not_gone_on_with() {
        on_every_machine!(full_stack);
    }

    fn a_slot_shows_the_image_that_is_placed_and_no_other() {
        on_every_machine!(images::turns);
    }

    fn a_slot_that_waits_for_its_image_shows_zeros_without() {
        on_every_machine!(images::unplaced);
    }

    fn an_image_placed_after_a_write_is_copied() {
        on_every_machine!(images::written);
    }

    fn modules_images_and_memories_end_in_any_order() {
        on_every_machine!(images::lifetimes);
    }

    fn bytes_of_an_image_are_not_made_writable() {
        on_every_machine!(images::protected);
    }

    fn any_part_of_a_mapping_gets_any_access() {
        on_every_machine!(protect::parts);
    }

    fn parts_of_no_mapping_are_refused() {
        on_every_machine!(protect::beyond);
    }

    fn code_is_published_where_it_was_loaded() {
        on_every_machine!(code_in_place::in_place);
    }

    fn what_the_kernel_does_not_map_as_code_is_not_published() {
        on_every_machine!(code_in_place::not_mapped_as_code);
    }

    #[cfg(target_os = "none")]
    fn code_of_the_kernels_is_known_until_it_is_forgotten() {
        on_every_machine!(code_in_place::outside);
    }

    fn an_image_of_writable_bytes_is_a_copy() {
        on_every_machine!(code_in_place::image_of_writable);
    }

    fn modules_that_take_turns_keep_their_slots() {
        on_every_machine!(next::turns);
    }

    fn a_slot_counts_as_one_of_what_it_showed() {
        on_every_machine!(next::surprise);
    }

    fn a_module_that_is_named_gets_its_slots_again() {
        on_every_machine!(next::named);
    }

    fn faults_name_the_module_that_was_named() {
        on_every_machine!(next::reports);
    }

    fn a_wrong_guess_shows_the_right_image() {
        on_every_machine!(next::surprises);
    }

    fn each_cpu_has_the_words_of_its_thread() {
        on_every_machine!(threads::words_are_per_cpu);
    }

    fn words_move_with_their_thread() {
        on_every_machine!(threads::words_move_with_their_thread);
    }

    fn words_are_used_without_a_switch() {
        on_every_machine!(threads::words_without_a_switch);
    }

    fn a_trap_on_its_way_moves_with_its_thread() {
        on_every_machine!(threads::a_trap_moves_with_its_thread);
    }

    fn a_thread_that_moves_sees_its_memory_as_it_left_it() {
        on_every_machine!(threads::a_thread_moves);
    }

    fn a_store_that_is_handed_over_is_as_it_was_left() {
        on_every_machine!(threads::a_store_is_handed_over);
    }

    fn a_lock_serves_who_came_first() {
        locks::first_come_first_served();
    }

    fn neither_readers_nor_writers_are_passed() {
        locks::writers_are_not_passed();
    }

    fn locks_keep_cpus_apart() {
        on_every_machine!(locks::cpus_at_once);
    }

    fn who_holds_a_lock_stays_on_its_cpu() {
        on_every_machine!(locks::holders_stay);
    }
}

const MAPPING: usize = GUARD_SIZE + RESERVATION + GUARD_SIZE;

fn platform<A: TestArch>() -> Platform<A> {
    let (arch, window, arena) = A::machine(16 * MIB);
    let config = allocator_config().allocation_strategy(pool(3, 4 * MIB));
    // SAFETY: every test has a machine, window and arena of its own.
    Platform::new(unsafe { Allocator::new(arch, window, arena, &config) }.unwrap())
}

/// Without slots, a mapping for a memory is reported as one.
fn reports_on_demand<A: TestArch>() {
    let (arch, window, arena) = A::machine(16 * MIB);
    let config = allocator_config().allocation_strategy(InstanceAllocationStrategy::OnDemand);
    // SAFETY: every test has a machine, window and arena of its own.
    let platform = Platform::new(unsafe { Allocator::new(arch, window, arena, &config) }.unwrap());
    let start = platform.map(MAPPING, flags(NONE)).unwrap();
    let memory = virt(start).offset(GUARD_SIZE);
    // SAFETY: nobody uses the mapping.
    unsafe { platform.protect(after(start, GUARD_SIZE), 65536, flags(READ_WRITE)) }.unwrap();
    let report = |offset: i64| {
        let address = VirtAddr(memory.0.wrapping_add_signed(offset));
        match platform.allocator().fault(address, FaultAccess::Read) {
            Verdict::Trap(report) => {
                (report.region, report.offset, report.slot.map(|range| range.accessible))
            }
            other => panic!("{other:?} at {offset:#x}"),
        }
    };
    assert_eq!(platform.allocator().fault(memory, FaultAccess::Write), Verdict::Resume);
    assert_eq!(report(65536), (FaultRegion::Memory(None), Some(65536), Some(65536)));
    assert_eq!(report(-1), (FaultRegion::GuardBefore(None), Some(-1), Some(65536)));
    let end = RESERVATION as i64;
    assert_eq!(report(end - 1), (FaultRegion::Memory(None), Some(end - 1), Some(65536)));
    assert_eq!(report(end), (FaultRegion::GuardAfter(None), Some(end), Some(65536)));
    // Code is nobody's memory.
    let code = platform.map(4096, flags(READ_WRITE)).unwrap();
    let fetched = platform.allocator().fault(virt(code), FaultAccess::Execute);
    assert!(matches!(fetched, Verdict::Trap(report) if report.region == FaultRegion::Region));
    // SAFETY: nobody uses either.
    unsafe { platform.unmap(code, 4096) }.unwrap();
    // SAFETY: as above.
    unsafe { platform.unmap(start, MAPPING) }.unwrap();
}

fn guardless<A: TestArch>() {
    let good = || allocator_config().allocation_strategy(pool(3, 4 * MIB));
    for config in [
        good().memory_guard_size(0),
        allocator_config().allocation_strategy(pool(0, 4 * MIB)),
        allocator_config(),
        good().memory_guard_size(GUARD_SIZE - 2 * MIB),
        good().guard_before_linear_memory(false),
        good().guard_before_linear_memory(false).region_space(8 << 30),
        allocator_config().allocation_strategy(InstanceAllocationStrategy::OnDemand),
    ] {
        let (arch, window, arena) = A::machine(16 * MIB);
        // SAFETY: every test has a machine, window and arena of its own.
        let allocator = unsafe { Allocator::new(arch, window.clone(), arena, &config) }.unwrap();
        let calls = Calls(Platform::new(allocator));
        // A mapping that is given lies in the window, and nobody else's bytes
        // lie in it: compiled code checks no bounds within it.
        let mappings = [(); 2].map(|()| calls.0.map(MAPPING, flags(NONE)));
        assert!(mappings[0].is_ok(), "{config}: {:?}", mappings[0]);
        for mapping in mappings.iter().flatten() {
            let inside = virt(*mapping) >= window.start && virt(after(*mapping, MAPPING)) <= window.end;
            assert!(inside, "{config}: a mapping that is not in the window");
            calls.protect(after(*mapping, GUARD_SIZE), WASM_PAGE, READ_WRITE).unwrap();
        }
        for mapping in mappings.iter().flatten() {
            let bytes =
                [0, GUARD_SIZE - 1, GUARD_SIZE + WASM_PAGE, GUARD_SIZE + RESERVATION, MAPPING - GUARD_SIZE];
            for offset in bytes.into_iter().chain((0..64).map(|mib| GUARD_SIZE + RESERVATION + mib * MIB / 2))
            {
                assert_eq!(calls.load(after(*mapping, offset)), None, "{config}: {offset:#x} is not a guard");
            }
            calls.unmap(*mapping, MAPPING).unwrap();
        }
    }
}

fn refused_remap<A: TestArch>() {
    let calls = Calls(platform::<A>());
    let slot = calls.0.map(MAPPING, flags(NONE)).unwrap();
    let memory = after(slot, GUARD_SIZE);
    calls.protect(memory, 4 * PAGE, READ_WRITE).unwrap();
    calls.store(after(memory, PAGE), 7).unwrap();
    for to in [READ, READ_EXECUTE] {
        let refused = calls.remap(memory, 4 * PAGE, to).unwrap_err();
        assert_eq!(refused, PlatformError::SlotAccess { offset: 0, bytes: 4 * PAGE });
    }
    calls.remap(memory, 8 * MIB, READ_WRITE).expect_err("larger than the slot");
    // Not at the beginning of a page: the page before would lose its bytes.
    for to in [NONE, READ_WRITE] {
        calls.remap(after(memory, PAGE + 1), 3 * PAGE - 1, to).expect_err("in the midst of a page");
        calls.protect(after(memory, PAGE + 1), 3 * PAGE - 1, to).expect_err("in the midst of a page");
    }
    assert_eq!(calls.load(after(memory, PAGE)), Some(7), "a refused call cleared the memory");
    // The length need not be whole pages.
    calls.protect(after(memory, 2 * PAGE), 2 * PAGE - 100, NONE).unwrap();
    assert_eq!(calls.load(after(memory, 2 * PAGE)), None);
    assert_eq!(calls.load(after(memory, PAGE)), Some(7));
    calls.unmap(slot, MAPPING).unwrap();
}

fn flags(flags: u32) -> Protection {
    Protection::from_flags(flags).unwrap()
}

const NONE: u32 = 0;
const READ: u32 = 1;
const READ_WRITE: u32 = 3;
const READ_EXECUTE: u32 = 5;

/// The calls, with the contract of Wasmtime's C interface taken as kept.
struct Calls<A: TestArch>(Platform<A>);

impl<A: TestArch> Calls<A> {
    fn protect(&self, start: NonNull<u8>, bytes: usize, to: u32) -> Result<(), PlatformError> {
        // SAFETY: the test holds no reference into the mapping.
        unsafe { self.0.protect(start, bytes, flags(to)) }
    }

    fn remap(&self, start: NonNull<u8>, bytes: usize, to: u32) -> Result<(), PlatformError> {
        // SAFETY: as above.
        unsafe { self.0.remap(start, bytes, flags(to)) }
    }

    fn unmap(&self, start: NonNull<u8>, bytes: usize) -> Result<(), PlatformError> {
        // SAFETY: as above.
        unsafe { self.0.unmap(start, bytes) }
    }

    fn load(&self, address: NonNull<u8>) -> Option<u8> {
        load_at(self.0.allocator(), virt(address)).ok()
    }

    fn store(&self, address: NonNull<u8>, byte: u8) -> Option<()> {
        store_at(self.0.allocator(), virt(address), byte).ok()
    }
}

fn virt(pointer: NonNull<u8>) -> VirtAddr {
    VirtAddr(pointer.as_ptr() as u64)
}

fn after(pointer: NonNull<u8>, bytes: usize) -> NonNull<u8> {
    NonNull::new(pointer.as_ptr().wrapping_add(bytes)).unwrap()
}

fn instance<A: TestArch>() {
    let calls = Calls(platform::<A>());
    let before = calls.0.allocator().metrics();
    for _ in 0..3 {
        let mapping = calls.0.map(MAPPING, flags(NONE)).unwrap();
        let memory = after(mapping, GUARD_SIZE);
        assert_eq!(calls.load(memory), None);
        calls.protect(memory, WASM_PAGE, READ_WRITE).unwrap();
        assert_eq!(calls.load(memory), Some(0));
        calls.store(after(memory, WASM_PAGE - 1), 1).unwrap();
        assert_eq!(calls.load(after(memory, WASM_PAGE)), None);
        // memory.grow, one page and many.
        calls.protect(after(memory, WASM_PAGE), WASM_PAGE, READ_WRITE).unwrap();
        calls.protect(after(memory, 2 * WASM_PAGE), 10 * WASM_PAGE, READ_WRITE).unwrap();
        assert_eq!(calls.load(after(memory, WASM_PAGE - 1)), Some(1));
        calls.store(after(memory, 12 * WASM_PAGE - 1), 2).unwrap();
        assert_eq!(calls.load(after(memory, 12 * WASM_PAGE)), None);
        assert_eq!(calls.0.allocator().metrics().memories, 1);
        calls.unmap(mapping, MAPPING).unwrap();
        assert_eq!(calls.load(memory), None);
    }
    // But for what memories of these sizes share from now on.
    let metrics = calls.0.allocator().metrics();
    let frames = metrics.available_frames + metrics.shared_frames;
    assert_eq!((metrics.memories, frames), (0, before.available_frames));
}

fn module<A: TestArch>() {
    let calls = Calls(platform::<A>());
    let before = calls.0.allocator().metrics();
    let image = calls.0.map(0x4000, flags(READ_WRITE)).unwrap();
    let contents = [0x90, 0x91, 0x92, 0x93];
    for (page, byte) in contents.into_iter().enumerate() {
        calls.store(after(image, page * PAGE), byte).unwrap();
    }
    // The length is not rounded to pages.
    calls.protect(image, 0x3600, READ).unwrap();
    let text = after(image, PAGE);
    calls.protect(text, 0x1000, READ_EXECUTE).unwrap();
    for (page, byte) in contents.into_iter().enumerate() {
        let address = after(image, page * PAGE);
        assert_eq!(calls.load(address), Some(byte));
        assert_eq!(calls.store(address, 0), None, "page {page} of a module is writable");
        assert_eq!(calls.0.allocator().is_code(virt(address)), page == 1);
    }
    calls.unmap(image, 0x4000).unwrap();
    assert_eq!(calls.load(text), None);
    assert_eq!(calls.0.allocator().metrics(), before);
    // The next mapping there reads as zeros.
    let next = calls.0.map(0x4000, flags(READ_WRITE)).unwrap();
    assert_eq!(next, image);
    assert_eq!(calls.load(next), Some(0));
    calls.unmap(next, 0x4000).unwrap();
}

fn nonsense<A: TestArch>() {
    let calls = Calls(platform::<A>());
    for bits in [2, 4, 6, 7, 8] {
        assert_eq!(Protection::from_flags(bits), Err(PlatformError::Protection { flags: bits }));
    }
    let mapping = calls.0.map(MAPPING, flags(NONE)).unwrap();
    let memory = after(mapping, GUARD_SIZE);
    calls.protect(memory, WASM_PAGE, READ_WRITE).unwrap();
    let refused = calls.protect(memory, WASM_PAGE, READ).unwrap_err();
    assert_eq!(refused, PlatformError::SlotAccess { offset: 0, bytes: WASM_PAGE });
    let gap = calls.protect(after(memory, 2 * WASM_PAGE), PAGE, READ_WRITE).unwrap_err();
    let expected = Error::NotAPrefix { offset: 2 * WASM_PAGE, accessible: WASM_PAGE };
    assert_eq!(gap, PlatformError::Allocator(expected));
    let guard = calls.protect(after(memory, RESERVATION), PAGE, READ_WRITE).unwrap_err();
    assert!(matches!(guard, PlatformError::Allocator(Error::MemoryTooLarge { .. })), "{guard}");
    calls.protect(mapping, PAGE, READ_WRITE).expect_err("the guard before was made accessible");
    for (start, bytes) in [(memory, MAPPING), (mapping, MAPPING - PAGE), (after(mapping, PAGE), MAPPING)] {
        calls.unmap(start, bytes).expect_err("a slot was released by half");
    }
    calls.store(memory, 1).expect("the memory is as it was");
    calls.unmap(mapping, MAPPING).unwrap();
    calls.unmap(mapping, MAPPING).expect_err("a slot was released twice");
    assert_eq!(calls.0.allocator().metrics().memories, 0);
    let free = calls.protect(memory, PAGE, READ_WRITE).unwrap_err();
    assert_eq!(free, PlatformError::Allocator(Error::Stale { slot: 0 }));
    assert_eq!(calls.load(memory), None, "a free slot was made accessible");
}

fn remap<A: TestArch>() {
    let calls = Calls(platform::<A>());
    let region = calls.0.map(4 * PAGE, flags(READ_WRITE)).unwrap();
    let slot = calls.0.map(MAPPING, flags(NONE)).unwrap();
    let memory = after(slot, GUARD_SIZE);
    calls.protect(memory, 4 * PAGE, READ_WRITE).unwrap();
    for start in [region, memory] {
        for page in 0..4 {
            calls.store(after(start, page * PAGE), 0xfe).unwrap();
        }
        // The end of it: a slot's accessible part is a prefix.
        calls.remap(after(start, 2 * PAGE), 2 * PAGE, READ_WRITE).unwrap();
        let seen = [0, 1, 2, 3].map(|page| calls.load(after(start, page * PAGE)).unwrap());
        assert_eq!(seen, [0xfe, 0xfe, 0, 0]);
        // So that nobody may keep in mind where they are.
        (0..4).for_each(|page| calls.store(after(start, page * PAGE), 1).unwrap());
    }
    calls.unmap(region, 4 * PAGE).unwrap();
    calls.unmap(slot, MAPPING).unwrap();
    for page in 0..4 {
        assert_eq!(calls.load(after(region, page * PAGE)), None);
        assert_eq!(calls.load(after(memory, page * PAGE)), None, "page {page} outlived its slot");
    }
}

fn delivery<A: TestArch>() {
    const STUB: usize = 0x1234_5000;
    let calls = Calls(platform::<A>());
    let code = calls.0.map(PAGE, flags(READ_WRITE)).unwrap();
    calls.protect(code, PAGE, READ_EXECUTE).unwrap();
    let slot = calls.0.map(MAPPING, flags(NONE)).unwrap();
    let memory = after(slot, GUARD_SIZE);
    calls.protect(memory, WASM_PAGE, READ_WRITE).unwrap();
    let pc = after(code, 16).as_ptr() as usize;
    let at = |pc, fault| calls.0.deliver_to(&Exception { pc, fault }, STUB);
    let trapped = || {
        let trapped = calls.0.trapped();
        (trapped.pc, trapped.address)
    };
    let beyond = after(memory, WASM_PAGE).as_ptr() as usize;

    let Delivery::Divert(to) = at(pc, Some((beyond, FaultAccess::Read))) else {
        panic!("wasm out of bounds")
    };
    assert_eq!((to, trapped()), (STUB, (pc, Some(beyond))));
    let Delivery::Divert(_) = at(pc, None) else { panic!("an undefined instruction in wasm") };
    assert_eq!(trapped(), (pc, None));
    let Delivery::Divert(_) = at(pc, Some((0x10, FaultAccess::Read))) else {
        panic!("a null reference in wasm")
    };
    assert_eq!(trapped(), (pc, Some(0x10)));

    let inside = memory.as_ptr() as usize;
    assert!(matches!(at(pc, Some((inside, FaultAccess::Write))), Delivery::Resume), "a spurious fault");
    let Delivery::NotWasm(Some(report)) = at(STUB, Some((beyond, FaultAccess::Write))) else {
        panic!("the kernel out of bounds")
    };
    assert_eq!(report.address, VirtAddr(beyond as u64));
    assert!(matches!(at(STUB, None), Delivery::NotWasm(None)));
    assert_eq!(trapped(), (pc, Some(0x10)), "what is not wasm's is not kept");
    assert!(matches!(at(STUB, Some((0x10, FaultAccess::Read))), Delivery::NotWasm(None)));
    calls.unmap(slot, MAPPING).unwrap();
    calls.unmap(code, PAGE).unwrap();
    assert!(matches!(at(pc, None), Delivery::NotWasm(None)), "released code still counts as code");
}

fn last_error<A: TestArch>() {
    const ENOMEM: i32 = 12;
    const EINVAL: i32 = 22;
    let calls = Calls(platform::<A>());
    assert_eq!(calls.0.take_last_error(), None);
    let slots = [(); 3].map(|()| calls.0.map(MAPPING, flags(NONE)).unwrap());
    let full = calls.0.map(MAPPING, flags(NONE)).unwrap_err();
    assert_eq!(
        full,
        PlatformError::Allocator(Error::PoolConcurrencyLimit {
            kind: allotment::PoolKind::Memories,
            limit: 3
        })
    );
    assert_eq!(full.code(), ENOMEM);
    assert_eq!(calls.0.take_last_error(), Some(full));
    assert_eq!(calls.0.take_last_error(), None);
    for slot in slots {
        calls.unmap(slot, MAPPING).unwrap();
    }
    let large = calls.0.map(64 * MIB, flags(READ_WRITE)).unwrap_err();
    assert!(matches!(large, PlatformError::Allocator(Error::OutOfFrames { .. })), "{large}");
    assert_eq!(large.code(), ENOMEM);
    let unknown = calls.unmap(slots[0], PAGE).unwrap_err();
    assert_eq!(unknown.code(), EINVAL);
}
