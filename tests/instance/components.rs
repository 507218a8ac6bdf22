//! A component's instances together, from what their modules say of themselves.

use allotment::{
    ComponentError, ComponentSummary, Config, ModuleError, ModuleSummary, PoolingAllocationConfig,
};

use crate::{
    common::{MIB, Machine, TestArch, pooled},
    module::{Engine, module},
    world::few,
};

pub(crate) fn counts<A: TestArch>() {
    let code = module().memory(1, None).table(1, None).build();
    let one = code.module().summary();
    let most = few().max_core_instances_per_component(2);
    assert_limit::<A>(most, &[one; 2], Ok(()));
    assert_limit::<A>(most, &[one; 3], Err(ComponentError::TooManyInstances { count: 3, limit: 2 }));
    let most = few().max_memories_per_component(2);
    assert_limit::<A>(most, &[one; 2], Ok(()));
    assert_limit::<A>(most, &[one; 3], Err(ComponentError::TooManyMemories { count: 3, limit: 2 }));
    let most = few().max_tables_per_component(2);
    assert_limit::<A>(most, &[one; 2], Ok(()));
    assert_limit::<A>(most, &[one; 3], Err(ComponentError::TooManyTables { count: 3, limit: 2 }));
    // Memories that are imported count where they are defined.
    let ty = *code.module().memories.values().next().unwrap();
    let imports = module().import_memory(ty).build();
    let most = few().max_memories_per_component(2);
    assert_limit::<A>(most, &[one, one, imports.module().summary()], Ok(()));
}

pub(crate) fn sizes<A: TestArch>() {
    let code = module().memory(1, None).build();
    let one = code.module().summary();
    let size = 3 * one.instance_size;
    assert_limit::<A>(few().max_component_instance_size(size), &[one; 3], Ok(()));
    let error = ComponentError::TooLarge { size, limit: size - 1 };
    assert_limit::<A>(few().max_component_instance_size(size - 1), &[one; 3], Err(error));
    // The component's own context counts too.
    let m = machine::<A>(few().max_component_instance_size(size));
    let component = ComponentSummary { modules: &[one; 3], imported_modules: 0, vmctx_size: 1 };
    let error = ComponentError::TooLarge { size: size + 1, limit: size };
    assert_eq!(Engine::new(&m).instances.validate_component(&component), Err(error));
}

pub(crate) fn a_module_of_it<A: TestArch>() {
    let (fits, two) = (module().memory(1, None).build(), module().memory(1, None).memory(1, None).build());
    let modules = [fits.module().summary(), two.module().summary()];
    let error =
        ComponentError::Module { index: 1, error: ModuleError::TooManyMemories { count: 2, limit: 1 } };
    assert_limit::<A>(few(), &modules, Err(error));
    assert_limit::<A>(few().max_memories_per_module(2), &modules, Ok(()));
}

fn assert_limit<A: TestArch>(
    pool: PoolingAllocationConfig,
    modules: &[ModuleSummary<'_>],
    expected: Result<(), ComponentError<'_>>,
) {
    let component = ComponentSummary { modules, imported_modules: 0, vmctx_size: 0 };
    let m = machine::<A>(pool);
    assert_eq!(Engine::new(&m).instances.validate_component(&component), expected);
    // On demand there is nothing to exceed.
    let m = Machine::<A>::new(&Config::new(), 2 * MIB);
    assert_eq!(Engine::new(&m).instances.validate_component(&component), Ok(()));
}

fn machine<A: TestArch>(pool: PoolingAllocationConfig) -> Machine<A> {
    Machine::new(&pooled(pool), 2 * MIB)
}
