//! Random tenants through the trait, on all CPUs: each looks at all that it can see
//! before it writes, and then has what a model says it wrote.

use alloc::{boxed::Box, sync::Arc, vec, vec::Vec};

use allotment::{
    CompiledModuleId, Config, Error, PoolKind,
    arch::VirtAddr,
    instance::{
        self, DataIndex, ElemIndex, FuncIndex, GlobalIndex, Imports, Instance, InstanceAllocationRequest,
        InstanceAllocator, InstanceError, InstanceHandle, MemoryIndex, ModuleRuntimeInfo, StorePtr,
        TableElement, TableElementType, TableIndex, VMFunctionImport, ValRaw, cranelift_entity::EntityRef,
    },
};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, cpus, load_at, on, pool, pooled},
    failing::{Failing, INJECTED, Point},
    growth::table_definition,
    model::{Element, Model, null},
    random::{Random, Rounds, Trace, for_each_seed},
    shapes::{self, FUNCTIONS, MOST_BYTES, MOST_ELEMENTS},
    steps::POINTS,
    world::{Engine, assert_pristine, entry},
};

const LIVE: usize = 3;
const STEPS: usize = 60;
const MODULES: usize = 4;

/// What the imported function of every module is.
const IMPORT: VMFunctionImport = VMFunctionImport {
    wasm_call: VirtAddr(0x7700),
    array_call: VirtAddr(0x7708),
    vmctx: VirtAddr(0x7777_0000),
};

/// Numbers are places and lengths, made to fit mostly by whoever chose them.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Allocate(usize, Option<Point>),
    Write(usize, usize, u8, usize),
    Grow(usize, usize),
    Fill(usize, usize, u8, usize),
    Copy([usize; 5]),
    Init(usize, usize, usize, usize, usize),
    DropData(usize),
    Set(usize, usize, Element),
    GrowTable(usize, usize, Element),
    FillTable(usize, usize, Element, usize),
    CopyTable([usize; 5]),
    InitTable(usize, usize, usize, usize, usize),
    DropElements(usize),
    SetGlobal(usize, u128),
    Move(usize),
    Look,
    Deallocate,
}

use Operation::*;

struct Tenant<'a, A: TestArch> {
    handle: InstanceHandle<'a, A>,
    code: Arc<dyn ModuleRuntimeInfo>,
    model: Model,
    cpu: usize,
}

struct World<'s, 'a, A: TestArch> {
    machine: &'a Machine<A>,
    engine: &'s Engine<'a, A>,
    modules: Vec<Arc<dyn ModuleRuntimeInfo>>,
    tenants: Vec<Tenant<'a, A>>,
    trace: Trace,
}

pub(crate) fn random<A: TestArch>() {
    for_each_seed(Rounds { host: 12, host_full: 1500, bare: 2 }, |seed| {
        let mut random = Random::new(seed);
        let config = any_config(&mut random);
        let machine = Machine::<A>::new(&config, 8 * MIB);
        let engine = instance::build(&machine.allocator).unwrap();
        let modules: Vec<_> = (0..MODULES as u64).map(|id| shapes::any(&mut random, id)).collect();
        let mut frames = None;
        let trace = Trace::new(core::any::type_name::<A>(), seed);
        let mut world = World { machine: &machine, engine: &engine, modules, tenants: Vec::new(), trace };
        // At the end of the first, contexts have their leaf tables for good.
        for _ in 0..2 {
            (0..LIVE).for_each(|_| world.apply(0, Allocate(0, None), 0));
            for _ in 0..STEPS {
                world.step(&mut random);
            }
            while !world.tenants.is_empty() {
                world.apply(0, Deallocate, 0);
            }
            (0..MODULES as u64).for_each(|id| engine.purge_module(CompiledModuleId(id)));
            // Memories of each new size share a table more.
            let metrics = machine.allocator.metrics();
            let left = metrics.available_frames + metrics.shared_frames;
            world.trace.agree("the number of frames", &left, frames.get_or_insert(left));
        }
    });
}

fn any_config(random: &mut Random) -> Config {
    let keep = random.pick(&[0, 4 * PAGE, usize::MAX]);
    let pools = pool(2 * LIVE, MOST_BYTES)
        .total_tables(2 * LIVE)
        .table_elements(MOST_ELEMENTS)
        .total_core_instances(LIVE)
        .max_memories_per_module(2)
        .max_tables_per_module(2)
        .linear_memory_keep_resident(keep)
        .table_keep_resident(keep)
        .decommit_batch_size(random.pick(&[0, 2, 99]))
        .poison(random.percent(50));
    let config = if random.percent(60) { pooled(pools) } else { Config::new().memory_reservation(MIB) };
    config.region_space(1 << 30).table_lazy_init(random.percent(60))
}

impl<'a, A: TestArch> World<'_, 'a, A> {
    fn step(&mut self, random: &mut Random) {
        let count = self.tenants.len();
        let make = count == 0 || count <= LIVE && random.percent(12);
        let operation = if make {
            Allocate(random.below(MODULES), random.percent(30).then(|| random.pick(&POINTS)))
        } else {
            let nth = random.below(count);
            let operation = any_operation(random, &self.tenants[nth]);
            return self.apply(nth, operation, random.below(cpus()));
        };
        self.apply(0, operation, random.below(cpus()));
    }

    fn apply(&mut self, nth: usize, operation: Operation, cpu: usize) {
        self.trace.note(&(nth, operation), cpu);
        match operation {
            Allocate(module, point) => self.allocate(module, point, cpu),
            Deallocate => {
                let tenant = self.tenants.swap_remove(nth);
                let Tenant { handle, .. } = self.look(tenant);
                // From anywhere: nobody uses it.
                let engine = self.engine;
                // SAFETY: as it says; and nobody imports from it.
                on(self.machine.allocator.arch(), cpu, || unsafe { engine.deallocate(handle) });
            }
            _ => {
                let mut tenant = self.tenants.swap_remove(nth);
                if let Move(to) = operation {
                    tenant.cpu = to;
                }
                let (machine, trace) = (self.machine, &self.trace);
                tenant = on_its_cpu(machine, tenant, |tenant| {
                    let (real, model) = tenant.apply(operation);
                    trace.agree("what it comes to", &real, &model);
                    tenant.check(machine, trace);
                });
                if matches!(operation, Look | Move(_)) {
                    tenant = self.look(tenant);
                }
                self.tenants.push(tenant);
            }
        }
        self.check_counts();
    }

    fn allocate(&mut self, module: usize, point: Option<Point>, cpu: usize) {
        let (machine, engine) = (self.machine, &**self.engine);
        let code = Arc::clone(&self.modules[module]);
        let full = machine.allocator.pooling_allocator_metrics().is_some() && self.tenants.len() == LIVE;
        let failing = Failing::new(machine, engine, point);
        let made = on(machine.allocator.arch(), cpu, || {
            // SAFETY: nobody calls what is imported.
            let imports = unsafe { Imports::new(&[IMPORT], &[], &[], &[]) };
            let host_state = Box::new(());
            let store = StorePtr::empty();
            let allocator: &dyn InstanceAllocator<'a, A> = if point.is_some() { &failing } else { engine };
            allocator.allocate(InstanceAllocationRequest { runtime_info: &code, imports, host_state, store })
        });
        let limit = Error::PoolConcurrencyLimit { kind: PoolKind::CoreInstances, limit: LIVE };
        let expected = match point {
            Some(point) if point == POINTS[0] => Err(INJECTED),
            _ if full => Err(InstanceError::Resource(limit)),
            Some(_) => Err(INJECTED),
            None => Ok(()),
        };
        self.trace.agree("allocation", &made.as_ref().map(drop).map_err(|error| *error), &expected);
        let Ok(handle) = made else { return };
        let model = Model::new(code.module(), code.wasm_data());
        let trace = &self.trace;
        let mut initialized = Ok(());
        let tenant = on_its_cpu(machine, Tenant { handle, code, model, cpu }, |tenant| {
            assert_pristine(machine, &mut tenant.handle);
            let module = Arc::clone(&tenant.code);
            initialized = tenant.model.initialize(module.module()).map_err(InstanceError::Trap);
            trace.agree("initialisation", &tenant.handle.initialize(), &initialized);
        });
        self.tenants.push(tenant);
        if initialized.is_err() {
            self.apply(self.tenants.len() - 1, Deallocate, cpu);
        }
    }

    /// Looks at all of it, as all of it may be filled in by that.
    fn look(&self, tenant: Tenant<'a, A>) -> Tenant<'a, A> {
        let (machine, trace) = (self.machine, &self.trace);
        on_its_cpu(machine, tenant, |tenant| {
            tenant.check(machine, trace);
            tenant.check_tables(trace);
        })
    }

    fn check_counts(&self) {
        let Some(real) = self.machine.allocator.pooling_allocator_metrics() else { return };
        let sum = |count: fn(&Model) -> usize| self.tenants.iter().map(|one| count(&one.model)).sum();
        self.trace.agree("instances", &real.core_instances, &(self.tenants.len() as u64));
        self.trace.agree("memories", &real.memories, &sum(|model| model.memories.len()));
        self.trace.agree("tables", &real.tables, &sum(|model| model.tables.len()));
    }
}

fn on_its_cpu<'a, A: TestArch>(
    machine: &Machine<A>,
    mut tenant: Tenant<'a, A>,
    work: impl FnOnce(&mut Tenant<'a, A>) + Send,
) -> Tenant<'a, A> {
    let cpu = tenant.cpu;
    on(machine.allocator.arch(), cpu, || {
        work(&mut tenant);
        tenant
    })
}

fn any_operation<A: TestArch>(random: &mut Random, tenant: &Tenant<'_, A>) -> Operation {
    let Tenant { code, model, .. } = tenant;
    let info = code.module();
    let memory = random.below(model.memories.len());
    let (size, other) = (model.memories[memory].len(), random.below(model.memories.len()));
    let table = random.below(model.tables.len());
    let (elements, ty) = (model.tables[table].len(), info.tables[TableIndex::new(table)].element);
    let element = match ty {
        _ if random.percent(25) => null(ty),
        TableElementType::Func => Element::Function(random.below(FUNCTIONS)),
        _ => Element::Reference(u32::from(random.byte())),
    };
    // A part, which sometimes ends one too late.
    let mut part = |size: usize, most: usize| {
        let len = random.below(most.min(size) + 1);
        let rest = size - len;
        (if random.percent(15) { rest + 1 } else { random.below(rest + 1) }, len)
    };
    let (to, len) = part(size, 5 * PAGE);
    let from = part(model.memories[other].len().saturating_sub(len), 0).0;
    let (table_to, table_len) = part(elements, 40);
    let table_from = part(elements.saturating_sub(table_len), 0).0;
    let byte = random.byte() | 1;
    match random.below(18) {
        0 | 1 => Write(memory, to, byte, len),
        2 => Grow(memory, random.pick(&[0, 1, 2, 5000])),
        3 => Fill(memory, to, byte, len),
        4 => Copy([memory, to, other, from, len]),
        5 | 6 if !model.data.is_empty() => {
            let segment = random.below(model.data.len());
            let len = random.below(model.data[segment].len() + 2);
            Init(memory, segment, random.below(size + 1), random.below(3), len)
        }
        7 if !model.data.is_empty() => DropData(random.below(model.data.len())),
        8 => Set(table, table_to, element),
        9 => GrowTable(table, random.pick(&[0, 1, 30, 400]), element),
        10 => FillTable(table, table_to, element, table_len),
        11 | 12 => CopyTable([table, table_to, table, table_from, table_len]),
        13 if !model.elements.is_empty() => {
            let segment = random.below(model.elements.len());
            let fits = model.elements[segment]
                .iter()
                .all(|&one| matches!(one, Element::Reference(_)) == (ty != TableElementType::Func));
            let len = if fits { random.below(model.elements[segment].len() + 2) } else { 0 };
            InitTable(table, segment, random.below(elements + 1), random.below(2), len)
        }
        14 if !model.elements.is_empty() => DropElements(random.below(model.elements.len())),
        15 if !model.globals.is_empty() => {
            SetGlobal(random.below(model.globals.len()), u128::from(random.next()))
        }
        16 => Move(random.below(cpus())),
        17 if random.percent(40) => Deallocate,
        _ => Look,
    }
}

/// What an operation comes to: numbers of growth, or nothing.
type Answer = Result<Option<usize>, InstanceError>;

impl<A: TestArch> Tenant<'_, A> {
    /// Does it, for real and by the model.
    fn apply(&mut self, operation: Operation) -> (Answer, Answer) {
        let Self { handle, code, model, .. } = self;
        let info = code.module();
        let memory = MemoryIndex::new;
        let done = |result: Result<(), InstanceError>| result.map(|()| None);
        let count = |grown: Result<Option<u64>, InstanceError>| {
            grown.map(|before| before.map(|before| usize::try_from(before).unwrap()))
        };
        let (real, expected) = match operation {
            Write(index, to, byte, len) => {
                let bytes = vec![byte; len];
                (handle.write_memory(memory(index), to as u64, &bytes), model.write(index, to, &bytes))
            }
            Grow(index, pages) => {
                let ty = info.memories[memory(index)];
                let page = 1 << ty.page_size_log2;
                let all = &mut model.memories[index];
                let before = Model::grow(all, pages * page, 0, ty.maximum_bytes());
                let grown = handle.memory_grow(memory(index), pages as u64, None);
                return (count(grown), Ok(before.map(|before| before / page)));
            }
            Fill(index, to, byte, len) => (
                handle.memory_fill(memory(index), to as u64, byte, len as u64),
                model.memory_fill(index, to, byte, len),
            ),
            Copy(numbers) => {
                let [into, to, source, from, len] = numbers;
                let [to, from, len] = [to, from, len].map(|number| number as u64);
                let copied = handle.memory_copy(memory(into), to, memory(source), from, len);
                (copied, model.memory_copy(numbers))
            }
            Init(index, segment, to, from, len) => {
                let [to_word, from_word, len_word] = [to, from, len].map(|number| number as u64);
                let segment_index = DataIndex::new(segment);
                let copied = handle.memory_init(memory(index), segment_index, to_word, from_word, len_word);
                (copied, model.memory_init(index, segment, to, from, len))
            }
            DropData(segment) => {
                model.data[segment].clear();
                (handle.data_drop(DataIndex::new(segment)), Ok(()))
            }
            SetGlobal(index, value) => {
                model.globals[index] = value;
                (handle.set_global(GlobalIndex::new(index), ValRaw(value)), Ok(()))
            }
            Move(_) => (handle.arrive(), Ok(())),
            _ => return self.apply_to_tables(operation),
        };
        (done(real), done(expected.map_err(InstanceError::Trap)))
    }

    fn apply_to_tables(&mut self, operation: Operation) -> (Answer, Answer) {
        let Self { handle, code, model, .. } = self;
        let info = code.module();
        let done = |result: Result<(), InstanceError>| result.map(|()| None);
        let (real, expected) = match operation {
            Set(table, at, element) => {
                let real = real(handle, element);
                (
                    handle.table_set(TableIndex::new(table), at as u64, real),
                    model.table_set(table, at, element),
                )
            }
            GrowTable(table, by, element) => {
                let index = TableIndex::new(table);
                let most = usize::try_from(info.tables[index].maximum.unwrap()).unwrap();
                let before = Model::grow(&mut model.tables[table], by, element, most);
                let real = real(handle, element);
                let grown = handle.table_grow(index, by as u64, real, None);
                return (
                    grown.map(|before| before.map(|before| usize::try_from(before).unwrap())),
                    Ok(before),
                );
            }
            FillTable(table, to, element, len) => {
                let real = real(handle, element);
                let filled = handle.table_fill(TableIndex::new(table), to as u64, real, len as u64);
                (filled, model.table_fill(table, to, element, len))
            }
            CopyTable(numbers) => {
                let [into, to, source, from, len] = numbers;
                let [to, from, len] = [to, from, len].map(|number| number as u64);
                let copied = handle.table_copy(TableIndex::new(into), to, TableIndex::new(source), from, len);
                (copied, model.table_copy(numbers))
            }
            InitTable(table, segment, to, from, len) => {
                let [to_word, from_word, len_word] = [to, from, len].map(|number| number as u64);
                let (index, segment_index) = (TableIndex::new(table), ElemIndex::new(segment));
                let copied = handle.table_init(index, segment_index, to_word, from_word, len_word);
                (copied, model.table_init(table, segment, to, from, len))
            }
            DropElements(segment) => {
                model.elements[segment].clear();
                (handle.elem_drop(ElemIndex::new(segment)), Ok(()))
            }
            _ => (Ok(()), Ok(())),
        };
        (done(real), done(expected.map_err(InstanceError::Trap)))
    }

    /// Memories and globals, and what compiled code reads of memories and tables.
    fn check(&mut self, machine: &Machine<A>, trace: &Trace) {
        let Self { handle, model, .. } = self;
        for (number, expected) in model.memories.iter().enumerate() {
            let index = MemoryIndex::new(number);
            let definition = handle.memory_definition(index).unwrap();
            trace.agree("length of a memory", &definition.current_length, &(expected.len() as u64));
            let mut bytes = vec![0; expected.len()];
            trace.agree("reading", &handle.read_memory(index, 0, &mut bytes), &Ok(()));
            let wrong = bytes.iter().zip(expected).position(|(real, model)| real != model);
            trace.agree("byte that differs", &wrong, &None);
            let end = definition.base.offset(expected.len().next_multiple_of(PAGE));
            let beyond = load_at(&machine.allocator, end).is_ok();
            trace.agree("whether the page beyond is accessible", &beyond, &false);
        }
        for (number, &expected) in model.globals.iter().enumerate() {
            trace.agree("global", &handle.global(GlobalIndex::new(number)), &Ok(ValRaw(expected)));
        }
        for (number, expected) in model.tables.iter().enumerate() {
            let table = handle.tables()[EntityRef::new(number)].vmtable();
            let real = table_definition(machine, handle, number);
            trace.agree("definition of a table", &real, &[table.base.0, expected.len() as u64]);
        }
    }

    fn check_tables(&mut self, trace: &Trace) {
        let Self { handle, model, .. } = self;
        for (number, expected) in model.tables.iter().enumerate() {
            let index = TableIndex::new(number);
            for (at, &element) in expected.iter().enumerate() {
                let (found, expected) = (handle.table_get(index, at as u64), real(handle, element));
                trace.agree("element", &(at, found), &(at, Ok(expected)));
            }
            let beyond = handle.table_get(index, expected.len() as u64).is_ok();
            trace.agree("whether there is an element beyond", &beyond, &false);
        }
        for function in 0..FUNCTIONS {
            let at = handle.func_ref(FuncIndex::new(function)).unwrap();
            // SAFETY: it is of an instance that lives.
            let found = unsafe { handle.read_func_ref(at) }.unwrap();
            let found = (found.wasm_call, found.array_call, found.vmctx);
            let expected = match function.checked_sub(1) {
                None => (IMPORT.wasm_call, IMPORT.array_call, IMPORT.vmctx),
                Some(defined) => (entry(defined), entry(defined).offset(8), handle.vmctx()),
            };
            trace.agree("function", &found, &expected);
        }
    }
}

/// An element as this instance has it.
fn real<A: TestArch>(instance: &Instance<'_, A>, element: Element) -> TableElement {
    match element {
        Element::Null => TableElement::FuncRef(None),
        Element::Function(function) => {
            TableElement::FuncRef(Some(instance.func_ref(FuncIndex::new(function)).unwrap()))
        }
        Element::Reference(reference) => TableElement::GcRef(reference),
    }
}
