//! Memories on demand: what every memory promises, growth in place and by a
//! move, guards, and everything given back.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

#[path = "on_demand/bytes.rs"]
mod bytes;
mod common;
#[path = "on_demand/exhaustion.rs"]
mod exhaustion;
#[path = "on_demand/faults.rs"]
mod faults;
#[path = "on_demand/growth.rs"]
mod growth;
#[path = "on_demand/images.rs"]
mod images;
#[path = "model/random.rs"]
#[allow(dead_code, reason = "shared with other models")]
mod numbers;
#[path = "on_demand/sequence.rs"]
mod sequence;
#[path = "on_demand/together.rs"]
mod together;

use allotment::{Config, Error, Memory, MemoryRequest, arch::VirtAddr};
use common::{MIB, Machine, PAGE, TestArch, WASM_PAGE};
use exhaustion::{address_space, frames, records};
use faults::{guards, no_guards, reports};
use growth::{contents, fixed, old_range, shared, unchanged_pointer};
use sequence::random_steps;
use together::tenants;

harness::tests! {
    fn a_new_memory_is_zero_and_ends_where_it_says() {
        on_every_machine!(zero_and_bounded);
    }

    fn a_released_memory_leaves_nothing_behind() {
        on_every_machine!(released);
    }

    fn a_memory_larger_than_its_reservation_has_room_to_grow() {
        on_every_machine!(large_minimum);
    }

    fn sizes_that_no_address_space_has_are_refused() {
        on_every_machine!(absurd);
    }

    fn a_maximum_is_kept() {
        on_every_machine!(maximum);
    }

    fn only_what_faults_for_sure_needs_no_bounds_checks() {
        on_every_machine!(bounds_checks);
    }

    fn code_without_bounds_checks_reaches_no_neighbour() {
        on_every_machine!(neighbours);
    }

    fn only_what_is_accessible_is_prepared() {
        on_every_machine!(prepared);
    }

    fn growth_within_the_reservation_keeps_the_address_and_beyond_it_moves_once() {
        on_every_machine!(unchanged_pointer);
    }

    fn a_move_keeps_contents_and_marks_of_every_page() {
        on_every_machine!(contents);
    }

    fn nothing_is_at_the_old_addresses_after_a_move_on_any_cpu() {
        on_every_machine!(old_range);
    }

    fn a_memory_that_may_not_move_ends_at_its_capacity() {
        on_every_machine!(fixed);
    }

    fn a_shared_memory_has_room_for_its_maximum() {
        on_every_machine!(shared);
    }

    fn guards_stand_on_both_sides() {
        on_every_machine!(guards);
    }

    fn without_guards_memories_are_neighbours() {
        on_every_machine!(no_guards);
    }

    fn a_fault_says_which_memory_and_where_in_it() {
        on_every_machine!(reports);
    }

    fn any_number_of_frames_too_few_changes_nothing() {
        on_every_machine!(frames);
    }

    fn address_space_too_small_changes_nothing() {
        on_every_machine!(address_space);
    }

    fn ranges_too_many_change_nothing() {
        on_every_machine!(records);
    }

    fn random_steps_agree_with_a_plain_model_and_end_where_they_began() {
        on_every_machine!(random_steps);
    }

    fn a_memory_shows_its_image_over_zeros_and_pays_for_what_it_may_write() {
        on_every_machine!(images::shows);
    }

    fn what_was_written_is_the_image_again_for_the_next() {
        on_every_machine!(images::reset);
    }

    fn a_shared_memory_has_a_copy_of_its_image() {
        on_every_machine!(images::threads);
    }

    fn an_image_lives_as_long_as_anybody_shows_it_in_any_order() {
        on_every_machine!(images::lifetime);
    }

    fn what_was_promised_is_there_when_nothing_else_is() {
        on_every_machine!(images::promised);
    }

    fn more_sizes_than_an_image_keeps_tables_for_are_shown_as_well() {
        on_every_machine!(images::many_sizes);
    }

    fn host_code_and_devices_write_what_they_prepared() {
        on_every_machine!(images::host_writes);
    }

    fn what_was_written_once_is_ready_for_the_next() {
        on_every_machine!(images::learned);
    }

    fn a_cpu_that_arrives_sees_what_others_wrote() {
        on_every_machine!(images::arrives);
    }

    fn cpus_write_for_the_first_time_at_once() {
        on_every_machine!(images::at_once);
    }

    fn random_growth_and_writes_over_images_agree_with_plain_bytes() {
        on_every_machine!(bytes::random_bytes);
    }

    fn cpus_that_make_and_drop_memories_at_once_see_their_own() {
        on_every_machine!(tenants);
    }
}

/// Memories of a MiB before they move, in 1 GiB of address space.
fn small() -> Config {
    Config::new()
        .memory_reservation(MIB)
        .memory_guard_size(WASM_PAGE)
        .memory_reservation_for_growth(MIB)
        .region_space(1 << 30)
}

fn machine<A: TestArch>() -> Machine<A> {
    Machine::new(&small(), 16 * MIB)
}

fn base<A: TestArch>(memory: &Memory<'_, A>) -> VirtAddr {
    VirtAddr(memory.base().as_ptr() as u64)
}

/// Has there be the zeros that memories of these sizes share: their tables stay.
fn share_zeros<A: TestArch>(m: &Machine<A>, sizes: &[usize]) {
    for &size in sizes {
        m.allocator.deallocate_memory(m.allocator.allocate_memory(size).unwrap());
    }
}

fn zero_and_bounded<A: TestArch>() {
    let m = machine::<A>();
    // The last two need more than one leaf table.
    const SIZES: [usize; 6] = [1, PAGE, WASM_PAGE, 761_927, 2 * MIB + 1, 5 * MIB];
    share_zeros(&m, &SIZES);
    let before = m.allocator.metrics();
    for size in SIZES {
        let memory = m.allocator.allocate_memory(size).unwrap();
        assert_eq!(memory.size(), size);
        let end = size.next_multiple_of(PAGE);
        for offset in (0..end).step_by(PAGE / 2) {
            assert_eq!(m.load(&memory, offset as i64), Ok(0));
        }
        m.assert_ends_at(&memory, end);
        m.load(&memory, -1).expect_err("the guard before was readable");
        m.allocator.arrive(&memory).unwrap();
        m.allocator.deallocate_memory(memory);
    }
    let empty = m.allocator.allocate_memory(0).unwrap();
    assert_eq!(empty.size(), 0);
    m.load(&empty, 0).expect_err("an empty memory was readable");
    m.allocator.deallocate_memory(empty);
    assert_eq!(m.allocator.metrics(), before);
}

fn released<A: TestArch>() {
    let m = machine::<A>();
    let sizes = [3 * WASM_PAGE, PAGE, 3 * MIB, 0, 2 * WASM_PAGE];
    share_zeros(&m, &sizes);
    let before = m.allocator.metrics();
    for round in 0..5 {
        let memories = sizes.map(|size| m.allocator.allocate_memory(size).unwrap());
        assert_eq!(m.allocator.metrics().regions, before.regions + sizes.len());
        for (memory, size) in memories.iter().zip(sizes) {
            for page in (0..size).step_by(PAGE) {
                assert_eq!(m.load(memory, page as i64), Ok(0), "somebody else's byte in round {round}");
                m.store(memory, page as i64, 0xfe).unwrap();
            }
        }
        let mut memories = memories.map(Some);
        for nth in 0..sizes.len() {
            let memory = memories[(nth * 2 + round) % sizes.len()].take().unwrap();
            let old = base(&memory);
            m.allocator.deallocate_memory(memory);
            m.load_at(old).expect_err("a released memory was readable");
        }
        assert_eq!(m.allocator.metrics(), before);
    }
}

fn large_minimum<A: TestArch>() {
    let m = machine::<A>();
    let mut memory = m.allocator.allocate_memory(3 * MIB).unwrap();
    assert_eq!(memory.capacity(), 4 * MIB, "minimum and reservation for growth");
    let before = base(&memory);
    memory.grow_to(4 * MIB).unwrap();
    assert_eq!(base(&memory), before);
    m.assert_ends_at(&memory, 4 * MIB);
    m.allocator.deallocate_memory(memory);
    let memory = m.allocator.allocate_memory(MIB).unwrap();
    assert_eq!(memory.capacity(), MIB, "a minimum that fits has the reservation");
    m.allocator.deallocate_memory(memory);
}

fn absurd<A: TestArch>() {
    let m = machine::<A>();
    let before = m.allocator.metrics();
    for requested in [1 << 30, 1 << 47, 1 << 63, usize::MAX - MIB - PAGE, usize::MAX - MIB, usize::MAX] {
        let refused = m.allocator.allocate_memory(MemoryRequest::new(requested).memory64(true));
        assert_eq!(refused.map(drop).unwrap_err(), Error::OutOfAddressSpace { requested }.or(requested));
        let mut memory = m.allocator.allocate_memory(PAGE).unwrap();
        let at = base(&memory);
        assert_eq!(memory.grow_to(requested), Err(Error::OutOfAddressSpace { requested }.or(requested)));
        assert_eq!((base(&memory), memory.size(), memory.capacity()), (at, PAGE, MIB));
        m.assert_ends_at(&memory, PAGE);
        m.allocator.deallocate_memory(memory);
        assert_eq!(m.allocator.metrics(), before);
    }
}

/// The range that is asked for is larger by what is reserved for growth.
trait Or {
    fn or(self, requested: usize) -> Self;
}

impl Or for Error {
    fn or(self, requested: usize) -> Self {
        match requested.checked_add(MIB).and_then(|bytes| bytes.checked_next_multiple_of(PAGE)) {
            Some(requested) => Self::OutOfAddressSpace { requested },
            None => self,
        }
    }
}

fn maximum<A: TestArch>() {
    let m = machine::<A>();
    let request = MemoryRequest::new(PAGE).maximum(3 * PAGE);
    let mut memory = m.allocator.allocate_memory(request).unwrap();
    memory.grow_to(3 * PAGE).unwrap();
    let beyond = Error::BeyondMaximum { requested: 3 * PAGE + 1, maximum: 3 * PAGE };
    assert_eq!(memory.grow_to(3 * PAGE + 1), Err(beyond));
    m.assert_ends_at(&memory, 3 * PAGE);
    m.allocator.deallocate_memory(memory);
    let refused = m.allocator.allocate_memory(MemoryRequest::new(2).maximum(1)).map(drop);
    assert_eq!(refused, Err(Error::BeyondMaximum { requested: 2, maximum: 1 }));
}

fn bounds_checks<A: TestArch>() {
    let needs = |config: &Config, request: MemoryRequest| {
        let m = Machine::<A>::new(&config.region_space(16 << 30), 16 * MIB);
        let memory = m.allocator.allocate_memory(request).unwrap();
        let Memory::Dynamic(dynamic) = &memory else { panic!("not on demand") };
        let needs = dynamic.needs_bounds_checks();
        m.allocator.deallocate_memory(memory);
        needs
    };
    let usual = Config::new();
    let request = MemoryRequest::new(WASM_PAGE);
    assert!(!needs(&usual, request));
    assert!(needs(&usual, request.memory64(true)));
    assert!(needs(&usual, request.page_size_log2(0)));
    assert!(needs(&usual.signals_based_traps(false), request));
    assert!(needs(&usual.memory_reservation((4 << 30) - 1), request));
    assert!(!needs(&usual.memory_reservation(4 << 30), request));
    assert!(needs(&usual.memory_guard_size(0), request));
}

/// What compiled code reaches that checks nothing: an address of 32 bits and an
/// offset of at most the guard.
fn neighbours<A: TestArch>() {
    const GUARD: usize = 32 * MIB;
    for (reservation, guard) in [(4 << 30, GUARD), ((4 << 30) - GUARD, GUARD), (4 << 30, 0)] {
        let config = Config::new().memory_reservation(reservation).memory_guard_size(guard);
        let config = config.guard_before_linear_memory(false).region_space(16 << 30);
        let m = Machine::<A>::new(&config, 16 * MIB);
        let first = m.allocator.allocate_memory(WASM_PAGE).unwrap();
        let second = m.allocator.allocate_memory(WASM_PAGE).unwrap();
        // An access may end where its offset may, and has up to 8 bytes.
        let farthest = 0xffff_ffff + guard.max(8) as i64 - 1;
        let between = second.base().as_ptr() as i64 - first.base().as_ptr() as i64;
        let is_reached = between <= farthest;
        assert_eq!(is_reached, m.load(&first, between.min(farthest)).is_ok());
        assert_eq!(first.needs_bounds_checks(), is_reached, "{reservation:#x} and {guard:#x}");
        m.allocator.deallocate_memory(first);
        m.allocator.deallocate_memory(second);
    }
}

fn prepared<A: TestArch>() {
    let m = machine::<A>();
    let mut memory = m.allocator.allocate_memory(PAGE + 1).unwrap();
    memory.grow_to(2 * PAGE + 1).unwrap();
    for (offset, len) in [(0, 3 * PAGE), (3 * PAGE, 0), (2 * PAGE + 1, 1)] {
        assert_eq!(m.allocator.prepare_write(&memory, offset, len), Ok(()));
    }
    for (offset, len) in [(0, 3 * PAGE + 1), (3 * PAGE + 1, 0), (usize::MAX, 2), (1, usize::MAX)] {
        let refused = Error::OutOfBounds { offset, len, accessible: 3 * PAGE };
        assert_eq!(m.allocator.prepare_write(&memory, offset, len), Err(refused));
    }
    m.allocator.deallocate_memory(memory);
}
