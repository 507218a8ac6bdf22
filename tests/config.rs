//! Configurations: defaults, contradictions, and what becomes of them in a
//! window and an arena.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

use alloc::string::ToString;

use allotment::{
    Backing, Config, InstanceAllocationStrategy, PoolingAllocationConfig, Premapped, Scrub, Total,
};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;
const MOST: usize = usize::MAX;

#[path = "config/contradictions.rs"]
mod contradictions;
#[path = "config/resolve.rs"]
mod resolve;
#[path = "config/table.rs"]
mod table;

harness::tests! {
    fn every_setter_sets_its_field_and_no_other() {
        settings_of_memories();
        settings_of_pools();
    }

    fn earlier_names_set_todays_knobs() {
        aliases();
    }

    fn gc_heaps_follow_memories_until_one_setting_is_theirs() {
        let memories = Config::new().memory_reservation(GIB).memory_guard_size(MIB).memory_may_move(false);
        assert_eq!(memories.gc_heap(), memories.memory());
        // An initial size is none of the four.
        assert_eq!(memories.gc_heap_initial_size(MIB).gc_heap(), memories.memory());
        // As soon as one is set, whichever, the others are Wasmtime's.
        let default = Config::new().memory();
        let guard_size = memories.gc_heap_guard_size(2 * MIB).gc_heap();
        assert_eq!((guard_size.guard_size, guard_size.reservation), (2 * MIB, default.reservation));
        let reservation = memories.gc_heap_reservation(8 * GIB).gc_heap();
        assert_eq!((reservation.reservation, reservation.guard_size), (8 * GIB, default.guard_size));
        let growth = memories.gc_heap_reservation_for_growth(GIB).gc_heap();
        assert_eq!((growth.reservation_for_growth, growth.may_move), (GIB, default.may_move));
        let may_move = memories.gc_heap_may_move(true).gc_heap();
        assert_eq!(may_move, default);
    }

    fn people_can_read_all_of_it() {
        let text = Config::new().memory_guard_size(4097).to_string();
        for part in ["4 GiB reserved", "4097 bytes of guard", "512 KiB of them for wasm", "64 GiB", "on demand"] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
        let pool = PoolingAllocationConfig::new().total_memories(7).total_tables(Total::AtMost(8)).premapped_tables(3);
        let text = Config::new().allocation_strategy(pool).to_string();
        for part in ["memories: 7 of at most 4 GiB, premapped tables 3", "tables: at most 8 of", "memories all"] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
        assert!(text.lines().count() > 5 && !text.ends_with('\n'), "{text}");
    }

    fn the_table_in_the_docs_says_what_the_code_does() {
        table::agrees();
    }

    fn a_stack_for_wasm_fits_its_fiber() {
        contradictions::stacks();
    }

    fn gc_heaps_in_slots_are_made_as_memories_are() {
        contradictions::gc_heaps();
    }

    fn sizes_that_overflow_name_their_knob() {
        contradictions::sizes();
    }

    fn a_bound_that_ends_in_a_trap_wants_traps() {
        contradictions::bound();
    }

    fn on_demand_there_are_no_slots() {
        resolve::on_demand();
    }

    fn exact_counts_are_kept_or_refused_with_what_they_need() {
        resolve::exact();
    }

    fn open_counts_are_as_many_as_fit() {
        resolve::open();
    }

    fn more_room_never_means_fewer_slots() {
        resolve::monotone();
    }

    fn slots_own_their_frames_where_the_arena_holds_them_all() {
        resolve::backing();
    }

    fn premapped_tables_take_a_64th_of_the_arena() {
        resolve::premapped();
    }
}

fn settings_of_memories() {
    let new = Config::new;
    let with = |edit: fn(&mut Config)| {
        let mut config = new();
        edit(&mut config);
        assert_ne!(config, new(), "the value is the default");
        config
    };
    assert_eq!(new().memory_reservation(1), with(|c| c.memory_reservation = 1));
    assert_eq!(new().memory_guard_size(1), with(|c| c.memory_guard_size = 1));
    assert_eq!(new().memory_reservation_for_growth(1), with(|c| c.memory_reservation_for_growth = 1));
    assert_eq!(new().guard_before_linear_memory(false), with(|c| c.guard_before_linear_memory = false));
    assert_eq!(new().memory_may_move(false), with(|c| c.memory_may_move = false));
    assert_eq!(new().memory_init_cow(false), with(|c| c.memory_init_cow = false));
    assert_eq!(
        new().memory_guaranteed_dense_image_size(1),
        with(|c| c.memory_guaranteed_dense_image_size = 1)
    );
    assert_eq!(new().signals_based_traps(false), with(|c| c.signals_based_traps = false));
    assert_eq!(new().table_lazy_init(false), with(|c| c.table_lazy_init = false));
    assert_eq!(new().shared_memory(true), with(|c| c.shared_memory = true));
    assert_eq!(new().max_wasm_stack(1), with(|c| c.max_wasm_stack = 1));
    assert_eq!(new().async_stack_size(1), with(|c| c.async_stack_size = 1));
    assert_eq!(new().async_stack_zeroing(true), with(|c| c.async_stack_zeroing = true));
    assert_eq!(new().gc_heap_reservation(1), with(|c| c.gc_heap_reservation = Some(1)));
    assert_eq!(new().gc_heap_guard_size(1), with(|c| c.gc_heap_guard_size = Some(1)));
    assert_eq!(new().gc_heap_reservation_for_growth(1), with(|c| c.gc_heap_reservation_for_growth = Some(1)));
    assert_eq!(new().gc_heap_may_move(true), with(|c| c.gc_heap_may_move = Some(true)));
    assert_eq!(new().gc_heap_initial_size(1), with(|c| c.gc_heap_initial_size = 1));
    assert_eq!(new().region_space(1), with(|c| c.region_space = 1));
    let pool = PoolingAllocationConfig::new();
    let pooled =
        with(|c| c.allocation_strategy = InstanceAllocationStrategy::Pooling(PoolingAllocationConfig::new()));
    assert_eq!(new().allocation_strategy(pool), pooled);
    assert_eq!((pooled.pooling(), new().pooling()), (Some(&pool), None));
    assert_eq!(pooled.allocation_strategy(InstanceAllocationStrategy::OnDemand), new());
}

fn settings_of_pools() {
    let new = PoolingAllocationConfig::new;
    let with = |edit: fn(&mut PoolingAllocationConfig)| {
        let mut pool = new();
        edit(&mut pool);
        assert_ne!(pool, new(), "the value is the default");
        pool
    };
    assert_eq!(new().total_component_instances(1), with(|p| p.total_component_instances = Total::Exactly(1)));
    assert_eq!(new().total_core_instances(1), with(|p| p.total_core_instances = Total::Exactly(1)));
    assert_eq!(new().total_memories(Total::AtMost(1)), with(|p| p.total_memories = Total::AtMost(1)));
    assert_eq!(new().total_tables(1), with(|p| p.total_tables = Total::Exactly(1)));
    assert_eq!(new().total_stacks(1), with(|p| p.total_stacks = Total::Exactly(1)));
    assert_eq!(new().total_gc_heaps(1), with(|p| p.total_gc_heaps = Total::Exactly(1)));
    assert_eq!(new().max_memory_size(1), with(|p| p.max_memory_size = 1));
    assert_eq!(new().table_elements(1), with(|p| p.table_elements = 1));
    assert_eq!(new().max_component_instance_size(1), with(|p| p.max_component_instance_size = 1));
    assert_eq!(new().max_core_instance_size(1), with(|p| p.max_core_instance_size = 1));
    assert_eq!(new().max_core_instances_per_component(1), with(|p| p.max_core_instances_per_component = 1));
    assert_eq!(new().max_memories_per_component(1), with(|p| p.max_memories_per_component = 1));
    assert_eq!(new().max_tables_per_component(1), with(|p| p.max_tables_per_component = 1));
    assert_eq!(new().max_memories_per_module(2), with(|p| p.max_memories_per_module = 2));
    assert_eq!(new().max_tables_per_module(2), with(|p| p.max_tables_per_module = 2));
    assert_eq!(new().max_unused_warm_slots(1), with(|p| p.max_unused_warm_slots = 1));
    assert_eq!(new().decommit_batch_size(2), with(|p| p.decommit_batch_size = 2));
    assert_eq!(new().linear_memory_keep_resident(1), with(|p| p.linear_memory_keep_resident = 1));
    assert_eq!(new().table_keep_resident(1), with(|p| p.table_keep_resident = 1));
    assert_eq!(new().async_stack_keep_resident(1), with(|p| p.async_stack_keep_resident = 1));
    assert_eq!(new().backing(Backing::Fixed), with(|p| p.backing = Backing::Fixed));
    assert_eq!(new().scrub(Scrub::ImageExact), with(|p| p.scrub = Scrub::ImageExact));
    assert_eq!(new().premapped_tables(1), with(|p| p.premapped_tables = Premapped::PerSlot(1)));
    assert_eq!(new().clean_when_idle(true), with(|p| p.clean_when_idle = true));
    let other = !new().poison;
    assert_eq!(new().poison(other), with(|p| p.poison = !p.poison));
}

fn aliases() {
    let new = Config::new;
    assert_eq!(new().static_memory_maximum_size(1), new().memory_reservation(1));
    assert_eq!(new().static_memory_guard_size(1), new().memory_guard_size(1));
    assert_eq!(new().dynamic_memory_guard_size(1), new().memory_guard_size(1));
    assert_eq!(new().dynamic_memory_reserved_for_growth(1), new().memory_reservation_for_growth(1));
    assert_eq!(new().static_memory_forced(true), new().memory_may_move(false));
    let new = PoolingAllocationConfig::new;
    let counted = new().total_core_instances(5).total_memories(5).total_tables(5).total_stacks(5);
    assert_eq!(new().instance_count(5), counted);
    assert_eq!(new().instance_size(1), new().max_core_instance_size(1));
    assert_eq!(new().instance_memories(2), new().max_memories_per_module(2));
    assert_eq!(new().instance_tables(2), new().max_tables_per_module(2));
    assert_eq!(new().instance_table_elements(1), new().table_elements(1));
    assert_eq!(new().instance_memory_pages(2), new().max_memory_size(128 * KIB));
    assert_eq!(new().memory_pages(MOST), new().max_memory_size(MOST));
}

fn pooled(pool: PoolingAllocationConfig) -> Config {
    Config::new().allocation_strategy(pool)
}

/// Nothing but memories.
fn memories_only() -> PoolingAllocationConfig {
    PoolingAllocationConfig::new().total_tables(0).total_stacks(0)
}
