//! Offsets, as arithmetic.

use alloc::{vec, vec::Vec};

use allotment::instance::{
    ConstExpr, DefinedGlobalIndex, DefinedMemoryIndex, DefinedTableIndex, FuncIndex, FuncRefIndex,
    FunctionType, GlobalIndex, GlobalType, MemoryIndex, MemoryType, ModuleInfo, SegmentMode, TableIndex,
    TableType, VMContext, VMOffsets, VMSharedTypeIndex, ValRaw, ValType, cranelift_entity::EntityRef,
};

use crate::{module::module, random::Random};

/// Every element of every part, in modules of any counts, is in the context and in
/// nobody else's bytes.
pub(crate) fn parts_are_apart() {
    let mut random = Random::new(7);
    for round in 0..200 {
        let counts: [usize; 9] = core::array::from_fn(|_| random.below(if round < 50 { 3 } else { 70 }));
        let info = of(counts);
        let offsets = VMOffsets::new(&info).unwrap();
        let mut places = vec![(0, size_of::<VMContext>())];
        places.extend(all_places(&offsets, &info));
        places.sort_unstable();
        for pair in places.windows(2) {
            let [(start, size), (next, _)] = *pair else { unreachable!() };
            assert!(start + size <= next, "{counts:?}: {size} bytes at {start} reach into {next}");
        }
        let (last, size) = *places.last().unwrap();
        assert!(last + size <= offsets.vmctx_size(), "{counts:?}: {size} bytes at {last}");
        let spare = offsets.vmctx_size() - last - size;
        // Behind all that has an offset only the bits of dropped segments.
        let bits = (info.data.len() + info.elements.len()).div_ceil(64) * 8;
        assert!(spare >= bits && spare < bits + 16, "{counts:?}: {spare} bytes for {bits}");
    }
}

fn of(counts: [usize; 9]) -> ModuleInfo {
    let [functions, refs, tables, memories, globals, imported, shared, data, elements] = counts;
    let mut info = ModuleInfo::default();
    let function = FunctionType { signature: VMSharedTypeIndex(0), func_ref: None };
    (0..functions).for_each(|_| _ = info.functions.push(function));
    info.num_imported_functions = imported.min(functions);
    info.num_func_refs = refs;
    (0..tables).for_each(|_| _ = info.tables.push(TableType::functions(0, None)));
    info.num_imported_tables = imported.min(tables);
    for nth in 0..memories {
        info.memories.push(MemoryType { shared: nth < shared, ..MemoryType::new(0, Some(1)) });
    }
    info.num_imported_memories = imported.min(memories) / 2;
    (0..globals).for_each(|_| _ = info.globals.push(GlobalType { content: ValType::I32, mutable: true }));
    info.num_imported_globals = imported.min(globals);
    let mut builder = module();
    for _ in 0..data {
        builder = builder.passive_data(b"");
    }
    for _ in 0..elements {
        builder = builder.passive_elements(&[]);
    }
    ModuleInfo { data: builder.info.data, elements: builder.info.elements, ..info }
}

fn all_places(offsets: &VMOffsets, info: &ModuleInfo) -> Vec<(usize, usize)> {
    let mut places = Vec::new();
    let mut add = |count: usize, size: usize, place: &dyn Fn(usize) -> usize| {
        places.extend((0..count).map(|nth| (place(nth), size)));
    };
    let owned = info.defined_memories().filter(|(_, ty)| !ty.shared).count();
    add(info.num_imported_functions, 24, &|nth| offsets.imported_function(FuncIndex::new(nth)));
    add(info.num_imported_tables, 24, &|nth| offsets.imported_table(TableIndex::new(nth)));
    add(info.num_imported_memories, 24, &|nth| offsets.imported_memory(MemoryIndex::new(nth)));
    add(info.num_imported_globals, 8, &|nth| offsets.imported_global(GlobalIndex::new(nth)));
    add(info.num_defined_memories(), 8, &|nth| offsets.memory_address(DefinedMemoryIndex::new(nth)));
    add(owned, 16, &|nth| offsets.owned_memory(nth));
    add(info.num_defined_tables(), 16, &|nth| offsets.table(DefinedTableIndex::new(nth)));
    add(info.num_func_refs, 32, &|nth| offsets.func_ref(FuncRefIndex::new(nth)));
    add(info.num_defined_globals(), 16, &|nth| {
        let offset = offsets.global(DefinedGlobalIndex::new(nth));
        assert!(offset.is_multiple_of(16), "a vector at {offset}");
        offset
    });
    places
}

/// The named parts are all there is, and each grows by what is added to it.
pub(crate) fn sizes_add_up() {
    let part = |offsets: &VMOffsets, wanted: &str| {
        let found = offsets.parts().iter().find(|(name, _)| *name == wanted);
        found.unwrap_or_else(|| panic!("no part is called {wanted}")).1
    };
    let empty = VMOffsets::new(&ModuleInfo::default()).unwrap();
    assert_eq!(empty.vmctx_size(), size_of::<VMContext>());
    let builder = module()
        .memory(1, None)
        .table(1, None)
        .functions(3)
        .global(ValType::I32, ConstExpr::constant(ValRaw::i32(1)))
        .data_segment(SegmentMode::Passive, b"x");
    let offsets = VMOffsets::new(&builder.info).unwrap();
    for offsets in [&empty, &offsets] {
        let sum: usize = offsets.parts().iter().map(|&(_, bytes)| bytes).sum();
        assert_eq!(sum, offsets.size());
        assert_eq!(sum, offsets.vmctx_size() + part(offsets, "instance"));
    }
    for (name, bytes) in [
        ("fixed part", size_of::<VMContext>()),
        ("imported functions", 0),
        ("addresses of memories", 8),
        ("owned memories", 16),
        ("defined tables", 16),
        ("function references", 3 * 32),
        ("defined globals", 16),
        ("dropped segments", 8),
    ] {
        assert_eq!(part(&offsets, name), bytes, "{name}");
    }
}
