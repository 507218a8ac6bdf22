//! Instances that begin where another one was.

use alloc::boxed::Box;

use allotment::{
    Backing, Commit, Config,
    arch::VirtAddr,
    instance::{
        ConstExpr, ConstOp, DataIndex, ElemIndex, EntityIndex, Export, FuncIndex, GlobalIndex, Imports,
        Instance, InstanceAllocationRequest, InstanceError, InstanceHandle, InstanceSnapshot, StorePtr,
        TableElement, TableElementType, TableType, Trap, VMFunctionImport, ValRaw, ValType,
        cranelift_entity::EntityRef,
    },
};

use crate::{
    common::{MIB, Machine, TestArch, WASM_PAGE, pooled},
    module::{Code, Engine, TestStore, body_of, bytes, memory, module, table},
    world::few,
};

/// Both strategies, with and without images of modules, eager and lazy tables.
fn in_every_way<A: TestArch>(case: impl Fn(&Engine<'_, A>)) {
    for lazy in [true, false] {
        for config in [
            pooled(few().backing(Backing::Fixed)),
            pooled(few().backing(Backing::Elastic(Commit::Strict))),
            pooled(few().backing(Backing::Elastic(Commit::PerInstance(100)))),
            Config::new(),
        ] {
            // The kernel that boots these tests answers faults of their probes only, so
            // there the host's own first write to a shared page has nobody to ask.
            if cfg!(target_os = "none") && config.pooling().is_some() {
                continue;
            }
            let m = Machine::<A>::new(&config.table_lazy_init(lazy), 24 * MIB);
            case(&Engine::new(&m));
            case(&Engine::with_images(&m));
        }
    }
}

fn clone<'a, A: TestArch>(
    engine: &Engine<'a, A>,
    snapshot: &InstanceSnapshot<'a, A>,
    imports: Imports<'_>,
) -> Result<InstanceHandle<'a, A>, InstanceError> {
    let (host_state, store) = (Box::new(()), StorePtr::empty());
    let runtime_info = snapshot.runtime_info();
    let request = InstanceAllocationRequest { runtime_info, imports, host_state, store };
    // SAFETY: instances whose functions it refers to live until its test's end.
    unsafe { engine.instances.allocate_clone(request, snapshot) }
}

fn function(number: u32) -> FuncIndex {
    FuncIndex::from_u32(number)
}

fn global(number: u32) -> GlobalIndex {
    GlobalIndex::from_u32(number)
}

/// Two functions, a global of each kind, a table with an image, a memory with data.
fn code() -> Code {
    let reference = ConstExpr::new([ConstOp::RefFunc(function(1))]);
    module()
        .import_function()
        .functions(2)
        .memory(2, Some(20))
        .table(10, Some(30))
        .data(0, 100, b"data")
        .passive_data(b"passive")
        .elements(0, 2, &[0, 1, 2])
        .passive_elements(&[1])
        .global(ValType::I64, ConstExpr::constant(ValRaw::i64(7)))
        .global(ValType::FuncRef, reference)
        .export("f", EntityIndex::Function(function(1)))
        .build()
}

/// Asserts that a reference is the instance's own one to a function.
#[track_caller]
fn assert_own<A: TestArch>(instance: &Instance<'_, A>, element: TableElement, index: u32) {
    let reference = instance.func_ref(function(index)).unwrap();
    assert_eq!(element, TableElement::FuncRef(Some(reference)), "function {index}");
    // SAFETY: it is of a live instance.
    let what = unsafe { instance.read_func_ref(reference) }.unwrap();
    let id = instance.runtime_info().unwrap().unique_id();
    if index > 0 {
        assert_eq!((what.wasm_call, what.vmctx), (body_of(id, index - 1).wasm_call, instance.vmctx()));
    }
}

fn funcref<A: TestArch>(instance: &Instance<'_, A>, index: u32) -> TableElement {
    let value = instance.global(global(index)).unwrap();
    let address = VirtAddr(value.get_i64().cast_unsigned());
    TableElement::FuncRef((address.0 != 0).then_some(address))
}

pub(crate) fn equal<A: TestArch>() {
    in_every_way::<A>(|engine| {
        let code = code();
        let lender = module().functions(1).export("g", EntityIndex::Function(function(0))).build();
        let lender = engine.instantiate(&lender).unwrap();
        let Ok(Some(Export::Function { import, .. })) = lender.lookup("g") else { panic!("it is exported") };
        let foreign = TableElement::FuncRef(Some(lender.func_ref(function(0)).unwrap()));
        let functions: [VMFunctionImport; 1] = [import];
        // SAFETY: `lender` lives until the end.
        let imports = unsafe { Imports::new(&functions, &[], &[], &[]) };
        let mut original = engine.instantiate_with(&code, imports, None).unwrap();
        // It runs for a while.
        assert_eq!(original.memory_grow(memory(0), 3, None), Ok(Some(2)));
        original.write_memory(memory(0), 0, b"written").unwrap();
        original.write_memory(memory(0), 101, b"A").unwrap();
        original.write_memory(memory(0), 5 * WASM_PAGE as u64 - 1, b"z").unwrap();
        original.set_global(global(0), ValRaw::i64(-8)).unwrap();
        original.table_set(table(0), 3, TableElement::FuncRef(None)).unwrap();
        original.table_set(table(0), 9, foreign).unwrap();
        let own = TableElement::FuncRef(Some(original.func_ref(function(2)).unwrap()));
        assert_eq!(original.table_grow(table(0), 5, own, None), Ok(Some(10)));
        original.data_drop(DataIndex::new(1)).unwrap();
        let snapshot = original.snapshot().unwrap();

        let look = |clone: &mut Instance<'_, A>, byte: &[u8]| {
            assert_eq!(clone.memory_size(memory(0)), Ok(5));
            assert_eq!(bytes(clone, memory(0), 0, 7), b"written");
            assert_eq!(bytes(clone, memory(0), 100, 4), b"dAta");
            assert_eq!(bytes(clone, memory(0), 5 * WASM_PAGE as u64 - 1, 1), byte);
            assert_eq!(clone.global(global(0)).unwrap().get_i64(), -8);
            assert_own(clone, funcref(clone, 1), 1);
            assert_eq!(clone.table_size(table(0)), Ok(15));
            for at in 0..15 {
                let element = clone.table_get(table(0), at).unwrap();
                match at {
                    2 => assert_own(clone, element, 0),
                    4 | 10.. => assert_own(clone, element, 2),
                    9 => assert_eq!(element, foreign),
                    _ => assert_eq!(element, TableElement::FuncRef(None), "element {at}"),
                }
            }
            let out = Err(InstanceError::Trap(Trap::MemoryOutOfBounds));
            assert_eq!(clone.memory_init(memory(0), DataIndex::new(1), 0, 0, 1), out, "it is dropped");
            let out = Err(InstanceError::Trap(Trap::TableOutOfBounds));
            assert_eq!(clone.table_init(table(0), ElemIndex::new(0), 0, 0, 1), out, "it is dropped");
        };
        look(&mut original, b"z");
        for _ in 0..3 {
            let mut first = clone(engine, &snapshot, imports).unwrap();
            let mut second = clone(engine, &snapshot, imports).unwrap();
            assert_ne!(first.vmctx(), second.vmctx());
            first.write_memory(memory(0), 5 * WASM_PAGE as u64 - 1, b"y").unwrap();
            look(&mut first, b"y");
            look(&mut second, b"z");
            look(&mut original, b"z");
            first.table_init(table(0), ElemIndex::new(1), 0, 0, 1).unwrap();
            let element = first.table_get(table(0), 0).unwrap();
            assert_own(&first, element, 1);
            assert_eq!(first.memory_grow(memory(0), 1, None), Ok(Some(5)));
            engine.end(first);
            engine.end(second);
        }
        // A snapshot of a clone, without the original.
        let mut last = clone(engine, &snapshot, imports).unwrap();
        drop(snapshot);
        engine.end(original);
        last.write_memory(memory(0), 5 * WASM_PAGE as u64 - 1, b"x").unwrap();
        let snapshot = last.snapshot().unwrap();
        engine.end(last);
        let mut last = clone(engine, &snapshot, imports).unwrap();
        look(&mut last, b"x");
        engine.end(last);
        // A new one begins as ever.
        let new = engine.instantiate_with(&code, imports, None).unwrap();
        assert_eq!((bytes(&new, memory(0), 0, 1)[0], new.memory_size(memory(0))), (0, Ok(2)));
        assert_eq!(bytes(&new, memory(0), 100, 4), b"data");
        engine.end(new);
        engine.end(lender);
    });
}

fn request<'a>(runtime_info: &'a Code, store: StorePtr<'a>) -> InstanceAllocationRequest<'a> {
    let (imports, host_state) = (Imports::none(), Box::new(()));
    InstanceAllocationRequest { runtime_info, imports, host_state, store }
}

pub(crate) fn refused<A: TestArch>() {
    in_every_way::<A>(|engine| {
        let gc = TableType { element: TableElementType::GcRef, minimum: 3, maximum: None };
        let code = module().memory(1, None).table_type(gc);
        let code = code.global(ValType::GcRef, ConstExpr::constant(ValRaw::i32(0))).build();
        let mut original = engine.instantiate(&code).unwrap();
        let snapshot = original.snapshot().unwrap();
        original.table_set(table(0), 1, TableElement::GcRef(5)).unwrap();
        let what = "GC reference in table";
        assert_eq!(original.snapshot().map(drop), Err(InstanceError::NotCaptured { what, index: 0 }));
        original.table_set(table(0), 1, TableElement::GcRef(0)).unwrap();
        original.set_global(global(0), ValRaw::i32(1)).unwrap();
        let what = "GC reference of global";
        assert_eq!(original.snapshot().map(drop), Err(InstanceError::NotCaptured { what, index: 0 }));

        let other = module().memory(1, None).build();
        // SAFETY: there is no function.
        let made = unsafe { engine.instances.allocate_clone(request(&other, StorePtr::empty()), &snapshot) };
        assert_eq!(made.map(|_| ()), Err(InstanceError::OtherModule));

        // The limiter is asked for what the clone begins with.
        assert_eq!(original.memory_grow(memory(0), 2, None), Ok(Some(1)));
        original.set_global(global(0), ValRaw::i32(0)).unwrap();
        let snapshot = original.snapshot().unwrap();
        for (allowed, made) in [(2, false), (3, true)] {
            let mut store = TestStore::default();
            store.ears.memory = allowed * WASM_PAGE;
            let store = StorePtr::new(&mut store);
            // SAFETY: there is no function.
            let clone = unsafe { engine.instances.allocate_clone(request(&code, store), &snapshot) };
            assert_eq!(clone.is_ok(), made);
            match clone {
                Ok(clone) => engine.end(clone),
                Err(error) => assert!(matches!(error, InstanceError::MemoryDenied { .. }), "{error:?}"),
            }
        }
        engine.end(original);
    });
}
