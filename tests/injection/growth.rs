//! Growth that is refused or fails, and where growth shows.

use core::ptr::NonNull;

use allotment::{
    Config,
    arch::VirtAddr,
    instance::{
        self, Instance, InstanceError, MemoryIndex, MemoryType, ModuleInfo, TableElement, TableIndex,
        cranelift_entity::EntityRef,
    },
};

use crate::{
    common::{MIB, Machine, TestArch, WASM_PAGE},
    world::{
        IntoDefined, Limited, REFUSED, allocate, assert_pristine, code, counts, deallocate, each_strategy,
        module, on_demand,
    },
};

pub(crate) fn refused<A: TestArch>() {
    each_strategy::<A>(|m, engine| {
        let mut handle = allocate(&**engine, &module()).unwrap();
        let (memory, table) = (MemoryIndex::new(0), TableIndex::new(1));
        let null = TableElement::GcRef(0);
        let before = (counts(m), definitions(m, &handle));
        let ends = InstanceError::Limiter(REFUSED);

        // The limiter's no is -1, and its error the end. Nobody is told of either.
        for (how, result) in [(Ok(false), Ok(None)), (Err(REFUSED), Err(ends))] {
            let mut limited = Limited::at(0, how);
            assert_eq!(handle.memory_grow(memory, 1, Some(&mut limited)), result);
            assert_eq!((limited.asked, limited.told.len()), (1, 0));
            let mut limited = Limited::at(0, how);
            assert_eq!(handle.table_grow(table, 1, null, Some(&mut limited)), result);
            assert_eq!((limited.asked, limited.told.len()), (1, 0));
        }
        // What it allows and cannot be is -1, and it is told.
        let mut limited = Limited::default();
        for delta in [3, u64::MAX] {
            assert_eq!(handle.memory_grow(memory, delta, Some(&mut limited)), Ok(None));
            assert_eq!(handle.table_grow(table, delta.max(981), null, Some(&mut limited)), Ok(None));
        }
        assert_eq!((limited.asked, limited.told.len()), (4, 4));
        assert!(limited.told.iter().all(|error| matches!(error, InstanceError::Resource(_))));
        // By nothing it grows without being asked.
        assert_eq!(handle.memory_grow(memory, 0, Some(&mut limited)), Ok(Some(1)));
        assert_eq!(handle.table_grow(table, 0, null, Some(&mut limited)), Ok(Some(20)));
        assert_eq!(limited.asked, 4);
        assert_eq!((counts(m), definitions(m, &handle)), before);
        assert_pristine(m, &mut handle);
        // The twin.
        assert_eq!(handle.memory_grow(memory, 2, Some(&mut limited)), Ok(Some(1)));
        assert_eq!(handle.table_grow(table, 980, null, Some(&mut limited)), Ok(Some(20)));
        assert_eq!((limited.asked, limited.told.len()), (6, 4));
        deallocate(&**engine, handle);
    });
}

pub(crate) fn published<A: TestArch>() {
    each_strategy::<A>(|m, engine| {
        let mut handle = allocate(&**engine, &module()).unwrap();
        for (memory, minimum) in [(0, 1), (1, 2)] {
            let index = MemoryIndex::new(memory);
            assert_eq!(handle.memory_grow(index, 1, None), Ok(Some(minimum)));
            let definition = handle.memory_definition(index).unwrap();
            assert_eq!(definition, handle.memories()[memory.into_defined()].vmmemory());
            assert_eq!(definition.current_length, (minimum + 1) * WASM_PAGE as u64);
        }
        let function = handle.func_ref(1.into_defined()).unwrap();
        for (table, minimum, init) in
            [(0, 600, TableElement::FuncRef(Some(function))), (1, 20, TableElement::GcRef(9))]
        {
            let index = TableIndex::new(table);
            assert_eq!(handle.table_grow(index, 300, init, None), Ok(Some(minimum)));
            assert_eq!(handle.table_size(index), Ok(minimum + 300));
            for at in [minimum, minimum + 299] {
                assert_eq!(handle.table_get(index, at), Ok(init));
            }
            assert_eq!(handle.table_get(index, minimum - 1), Ok(TableElement::null(init.ty())));
            let [base, elements] = table_definition(m, &handle, table);
            let real = handle.tables()[table.into_defined()].vmtable();
            assert_eq!((base, elements), (real.base.0, minimum + 300));
        }
        deallocate(&**engine, handle);
    });
    shared::<A>();
}

/// What compiled code reads is the one definition of all who have the memory.
fn shared<A: TestArch>() {
    let config: Config = on_demand().shared_memory(true);
    let m = Machine::<A>::new(&config, 6 * MIB);
    let engine = instance::build(&m.allocator).unwrap();
    let before = counts(&m);
    let mut info = ModuleInfo::default();
    info.memories.push(MemoryType { shared: true, ..MemoryType::new(1, Some(4)) });
    let code = code(info, 5, alloc::vec![]);
    let mut handle = allocate(&*engine, &code).unwrap();
    let memory = MemoryIndex::new(0);
    for pages in 1..=4 {
        assert_eq!(handle.memory_definition(memory).unwrap().current_length, pages * WASM_PAGE as u64);
        assert_eq!(handle.memory_size(memory), Ok(pages));
        assert_eq!(handle.memory_grow(memory, 1, None), Ok((pages < 4).then_some(pages)));
    }
    deallocate(&*engine, handle);
    assert_eq!(counts(&m), before);
}

/// Base and elements of a table, as compiled code reads them.
pub(crate) fn table_definition<A: TestArch>(
    m: &Machine<A>,
    instance: &Instance<'_, A>,
    table: usize,
) -> [u64; 2] {
    let at = instance.module().unwrap().offsets().table(table.into_defined());
    [0, 8].map(|word| load_word(m, instance.vmctx().offset(at + word)))
}

fn load_word<A: TestArch>(m: &Machine<A>, at: VirtAddr) -> u64 {
    let mut bytes = [0; 8];
    // SAFETY: the context is accessible, and there is room for a word.
    unsafe { m.allocator.arch().read_bytes(at, NonNull::from(&mut bytes).cast(), 8) }.unwrap();
    u64::from_le_bytes(bytes)
}

/// Lengths of all memories and tables, as compiled code reads them.
fn definitions<A: TestArch>(m: &Machine<A>, instance: &Instance<'_, A>) -> [u64; 4] {
    let memory = |index| instance.memory_definition(MemoryIndex::new(index)).unwrap().current_length;
    let table = |index| table_definition(m, instance, index)[1];
    [memory(0), memory(1), table(0), table(1)]
}
