//! Modules and components that pools would never hold, each with a twin that
//! they do.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

use alloc::string::ToString;

use allotment::{
    ComponentError, ComponentSummary, MemoryError, MemorySummary, ModuleError, ModuleSummary,
    PoolingAllocationConfig, TableSummary,
};

const MIB: usize = 1 << 20;
const WASM_PAGE: u64 = 65536;

/// One page of 64 KiB.
const MEMORY: MemorySummary = MemorySummary { minimum_pages: 1, page_size_log2: 16, shared: false };
const TABLE: TableSummary = TableSummary { minimum: 10, element_size: 8 };

harness::tests! {
    fn a_usual_module_is_accepted() {
        let module = ModuleSummary { memories: &[MEMORY], tables: &[TABLE], instance_size: 4096, ..NOTHING };
        assert_eq!(pool().validate_module(&module), Ok(()));
        assert_eq!(pool().validate_module(&NOTHING), Ok(()));
    }

    fn memories_are_counted() {
        let two = ModuleSummary { memories: &[MEMORY, MEMORY], ..NOTHING };
        let error = ModuleError::TooManyMemories { count: 2, limit: 1 };
        assert_eq!(pool().validate_module(&two), Err(error));
        assert_says(error, &["2 memories", "limit is 1", "max_memories_per_module"]);
        assert_eq!(pool().max_memories_per_module(2).validate_module(&two), Ok(()));
    }

    fn memories_begin_no_larger_than_a_slot() {
        let pool = pool().max_memory_size(MIB);
        let of = |minimum_pages| MemorySummary { minimum_pages, ..MEMORY };
        assert_eq!(pool.validate_memory(&of(16)), Ok(()));
        let error = MemoryError::TooLarge { bytes: 17 * WASM_PAGE, limit: MIB };
        assert_eq!(pool.validate_memory(&of(17)), Err(error));
        // A module says which.
        let memories = [MEMORY, of(17)];
        let module = ModuleSummary { memories: &memories, ..NOTHING };
        let error = ModuleError::Memory { index: 1, error };
        assert_eq!(pool.max_memories_per_module(2).validate_module(&module), Err(error));
        assert_says(error, &["memory 1", "0x110000", "0x100000", "max_memory_size"]);
        // Pages of one byte.
        let bytes = |minimum_pages| MemorySummary { minimum_pages, page_size_log2: 0, ..MEMORY };
        assert_eq!(pool.validate_memory(&bytes(1 << 20)), Ok(()));
        let error = MemoryError::TooLarge { bytes: (1 << 20) + 1, limit: MIB };
        assert_eq!(pool.validate_memory(&bytes((1 << 20) + 1)), Err(error));
        // A slot of nothing holds nothing.
        assert_eq!(pool.max_memory_size(0).validate_memory(&bytes(0)), Ok(()));
        pool.max_memory_size(0).validate_memory(&bytes(1)).unwrap_err();
    }

    fn a_minimum_without_a_size_is_refused() {
        let pool = pool().max_memory_size(usize::MAX);
        let of = |minimum_pages, page_size_log2| MemorySummary { minimum_pages, page_size_log2, shared: false };
        assert_eq!(pool.validate_memory(&of((1 << 48) - 1, 16)), Ok(()));
        for (minimum_pages, page_size_log2) in [(1 << 48, 16), (u64::MAX, 16), (1, 64), (0, 255), (2, 63)] {
            let error = MemoryError::Unrepresentable { minimum_pages, page_size_log2 };
            assert_eq!(pool.validate_memory(&of(minimum_pages, page_size_log2)), Err(error));
            assert_says(error, &[&minimum_pages.to_string(), &page_size_log2.to_string()]);
        }
    }

    fn shared_memories_have_no_slot() {
        let shared = MemorySummary { shared: true, ..MEMORY };
        assert_eq!(pool().validate_memory(&shared), Err(MemoryError::Shared));
        assert_says(MemoryError::Shared, &["shared", "on demand"]);
    }

    fn tables_are_counted() {
        let two = ModuleSummary { tables: &[TABLE, TABLE], ..NOTHING };
        let error = ModuleError::TooManyTables { count: 2, limit: 1 };
        assert_eq!(pool().validate_module(&two), Err(error));
        assert_says(error, &["2 tables", "limit is 1", "max_tables_per_module"]);
        let pool = pool().max_tables_per_module(2);
        assert_eq!(pool.validate_module(&two), Ok(()));
        let error = ModuleError::MoreTablesThanSlots { count: 2, limit: 1 };
        assert_eq!(pool.total_tables(1).validate_module(&two), Err(error));
        assert_says(error, &["2 tables", "1 slots", "total_tables"]);
        assert_eq!(pool.total_tables(2).validate_module(&two), Ok(()));
    }

    fn tables_begin_no_larger_than_a_slot() {
        // 512 pointers are a page.
        let pool = pool().table_elements(512);
        for (element_size, limit) in [(4, 512), (8, 512), (16, 256)] {
            let refuse = |minimum| {
                let table = TableSummary { minimum, element_size };
                let module = ModuleSummary { tables: &[table], ..NOTHING };
                pool.validate_module(&module).err().map(|error| error.to_string())
            };
            assert_eq!(refuse(limit), None);
            let error = ModuleError::TableTooLarge { index: 0, minimum: limit + 1, limit: usize::try_from(limit).unwrap() };
            assert_eq!(refuse(limit + 1), Some(error.to_string()));
            assert_says(error, &["table 0", &(limit + 1).to_string(), &limit.to_string(), "table_elements"]);
        }
        // No division by what a caller made up.
        let odd = TableSummary { minimum: u64::MAX, element_size: 0 };
        pool.validate_module(&ModuleSummary { tables: &[odd], ..NOTHING }).unwrap_err();
    }

    fn an_instance_that_is_too_large_says_what_makes_it_so() {
        let pool = pool().max_core_instance_size(999);
        let parts = [("globals", 700), ("a twentieth", 50), ("functions", 51), ("memories", 199)];
        let module = ModuleSummary { instance_size: 1000, instance_parts: &parts, ..NOTHING };
        let error = ModuleError::InstanceTooLarge { size: 1000, limit: 999, parts: &parts };
        assert_eq!(pool.validate_module(&module), Err(error));
        assert_says(
            error,
            &[
                "1000 bytes",
                "limit is 999",
                "max_core_instance_size",
                "700 bytes (70 %) for globals",
                "51 bytes (5 %) for functions",
                "199 bytes (19 %) for memories",
            ],
        );
        assert!(!error.to_string().contains("twentieth"), "{error}");
        assert_eq!(pool.max_core_instance_size(1000).validate_module(&module), Ok(()));
        // However large what the caller says is.
        let most = [("everything", usize::MAX)];
        let module = ModuleSummary { instance_size: usize::MAX, instance_parts: &most, ..NOTHING };
        assert_says(pool.validate_module(&module).unwrap_err(), &["100 %"]);
    }

    fn components_are_counted_with_their_modules() {
        let module = ModuleSummary { memories: &[MEMORY], tables: &[TABLE], instance_size: 1000, ..NOTHING };
        let modules = [module; 3];
        let component = ComponentSummary { modules: &modules, imported_modules: 1, vmctx_size: 500 };
        assert_eq!(pool().validate_component(&component), Ok(()));
        assert_eq!(pool().validate_component(&ComponentSummary::default()), Ok(()));

        // One more than the limit, and as many.
        let pool = pool();
        let error = ComponentError::TooManyInstances { count: 4, limit: 3 };
        assert_eq!(pool.max_core_instances_per_component(3).validate_component(&component), Err(error));
        assert_says(error, &["4 core instances", "limit is 3", "max_core_instances_per_component"]);
        assert_eq!(pool.max_core_instances_per_component(4).validate_component(&component), Ok(()));

        let error = ComponentError::TooManyMemories { count: 3, limit: 2 };
        assert_eq!(pool.max_memories_per_component(2).validate_component(&component), Err(error));
        assert_says(error, &["3 memories", "limit is 2", "max_memories_per_component"]);
        assert_eq!(pool.max_memories_per_component(3).validate_component(&component), Ok(()));

        let error = ComponentError::TooManyTables { count: 3, limit: 2 };
        assert_eq!(pool.max_tables_per_component(2).validate_component(&component), Err(error));
        assert_says(error, &["3 tables", "limit is 2", "max_tables_per_component"]);
        assert_eq!(pool.max_tables_per_component(3).validate_component(&component), Ok(()));

        let error = ComponentError::TooLarge { size: 3500, limit: 3499 };
        assert_eq!(pool.max_component_instance_size(3499).validate_component(&component), Err(error));
        assert_says(error, &["3500 bytes", "limit is 3499", "max_component_instance_size"]);
        assert_eq!(pool.max_component_instance_size(3500).validate_component(&component), Ok(()));
    }

    fn a_component_says_which_module_is_refused() {
        let shared = [MemorySummary { shared: true, ..MEMORY }];
        let modules = [NOTHING, ModuleSummary { memories: &shared, ..NOTHING }];
        let component = ComponentSummary { modules: &modules, ..ComponentSummary::default() };
        let error = ModuleError::Memory { index: 0, error: MemoryError::Shared };
        let error = ComponentError::Module { index: 1, error };
        assert_eq!(pool().validate_component(&component), Err(error));
        assert_says(error, &["core instance 1", "memory 0", "shared"]);
    }
}

const NOTHING: ModuleSummary<'static> =
    ModuleSummary { memories: &[], tables: &[], instance_size: 0, instance_parts: &[] };

fn pool() -> PoolingAllocationConfig {
    PoolingAllocationConfig::new()
}

fn assert_says(error: impl ToString, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text:?}");
    }
}
