//! Refusals: by the limiter, by what an instance may be, by pools without slots.

use alloc::{boxed::Box, vec::Vec};

use allotment::{
    Error, MemoryRequest, PoolKind, TableRequest,
    arch::VirtAddr,
    instance::{
        self, Imports, InstanceAllocationRequest, InstanceError, MemoryType, ModuleInfo, StorePtr, TableType,
        VMFunctionImport, cranelift_entity::EntityRef,
    },
};

use crate::{
    common::{MIB, Machine, PAGE, TestArch},
    failing::Failing,
    world::{
        EACH, INSTANCES, Limited, REFUSED, all_counts, allocate, allocate_in, code, counts, deallocate,
        description, each_strategy, module, pools, warm_up, works,
    },
};

/// Memories and tables of the usual module, in the order in which they are asked for.
const DENIED: [InstanceError; 2 * EACH] = [
    InstanceError::MemoryDenied { minimum: 1 },
    InstanceError::MemoryDenied { minimum: 2 },
    InstanceError::TableDenied { minimum: 600 },
    InstanceError::TableDenied { minimum: 20 },
];

pub(crate) fn asked_first<A: TestArch>() {
    each_strategy::<A>(|m, engine| {
        let code = module();
        warm_up(&**engine, &code);
        let before = all_counts(m);
        for (ask, denied) in DENIED.into_iter().enumerate() {
            let ends = InstanceError::Limiter(REFUSED);
            for (how, error) in [(Ok(false), denied), (Err(REFUSED), ends)] {
                let mut limited = Limited::at(ask, how);
                // So that the steps before it leave something behind.
                let failing = Failing::new(m, &**engine, None);
                let refused = allocate_in(&failing, &code, limited.store());
                assert_eq!(refused.unwrap_err(), error);
                assert_eq!((limited.asked, limited.told.len()), (ask + 1, 0));
                assert_eq!(all_counts(m), before, "{error}");
                works(m, &**engine, &code);
            }
        }
        let mut limited = Limited::default();
        let handle = allocate_in(&**engine, &code, limited.store()).unwrap();
        assert_eq!(limited.asked, DENIED.len(), "once for each");
        deallocate(&**engine, handle);
        assert_eq!(all_counts(m), before);
    });
}

pub(crate) fn too_much<A: TestArch>() {
    let too_many = |change: &dyn Fn(&mut ModuleInfo)| {
        let mut info = description();
        change(&mut info);
        code(info, 2, b"hello".to_vec())
    };
    let memories = too_many(&|info| _ = info.memories.push(MemoryType::new(1, None)));
    let tables = too_many(&|info| _ = info.tables.push(TableType::functions(1, None)));
    let globals = too_many(&|info| {
        for _ in 0..1000 {
            info.globals.push(info.globals[EntityRef::new(0)]);
            info.global_initializers.push(info.global_initializers[EntityRef::new(0)].clone());
        }
    });
    let huge =
        too_many(&|info| info.memories.values_mut().for_each(|ty| *ty = MemoryType::new(1 << 40, None)));
    let m = Machine::<A>::new(&pools(), 6 * MIB);
    let engine = instance::build(&m.allocator).unwrap();
    let usual = module();
    warm_up(&*engine, &usual);
    let before = all_counts(&m);
    let refused = |code| allocate(&*engine, code).unwrap_err();
    assert_eq!(refused(&memories), InstanceError::TooMany { what: "memories", count: 3, limit: 2 });
    assert_eq!(refused(&tables), InstanceError::TooMany { what: "tables", count: 3, limit: 2 });
    let size = globals.module().offsets().size();
    assert_eq!(refused(&globals), InstanceError::TooLarge { size, limit: 2 * PAGE });
    assert!(size > 2 * PAGE, "the module is too large by its globals");
    assert!(matches!(refused(&huge), InstanceError::Resource(_)), "{:?}", refused(&huge));
    let one = [VMFunctionImport { wasm_call: VirtAddr(1), array_call: VirtAddr(2), vmctx: VirtAddr(3) }];
    let imports = engine.allocate(InstanceAllocationRequest {
        runtime_info: &usual,
        // SAFETY: it is refused, and nobody calls what is imported.
        imports: unsafe { Imports::new(&one, &[], &[], &[]) },
        host_state: Box::new(()),
        store: StorePtr::empty(),
    });
    let declared = InstanceError::Imports { what: "functions", declared: 0, given: 1 };
    assert_eq!(imports.unwrap_err(), declared);
    assert_eq!(all_counts(&m), before);
    works(&m, &*engine, &usual);
}

/// All slots but `free` are somebody else's.
pub(crate) fn without_slots<A: TestArch>() {
    const SLOTS: usize = INSTANCES * EACH;
    let m = Machine::<A>::new(&pools(), 6 * MIB);
    let engine = instance::build(&m.allocator).unwrap();
    let usual = module();
    warm_up(&*engine, &usual);
    for kind in [PoolKind::Memories, PoolKind::Tables] {
        for free in 0..=EACH {
            let (mut memories, mut tables) = (Vec::new(), Vec::new());
            for _ in free..SLOTS {
                match kind {
                    PoolKind::Memories => {
                        memories.push(m.allocator.allocate_memory(MemoryRequest::new(PAGE)).unwrap())
                    }
                    _ => tables.push(m.allocator.allocate_table(TableRequest::new(1)).unwrap()),
                }
            }
            let before = counts(&m);
            let failing = Failing::new(&m, &*engine, None);
            if free < EACH {
                let none_left = Error::PoolConcurrencyLimit { kind, limit: SLOTS };
                assert_eq!(allocate(&failing, &usual).unwrap_err(), InstanceError::Resource(none_left));
            } else {
                works(&m, &failing, &usual);
            }
            assert_eq!(counts(&m), before, "{free} slots");
            memories.into_iter().for_each(|memory| m.allocator.deallocate_memory(memory));
            tables.into_iter().for_each(|table| m.allocator.deallocate_table(table));
            works(&m, &*engine, &usual);
        }
    }
}
