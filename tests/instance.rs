//! What an engine holds: instances through the allocator's trait.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod common;
#[path = "common/module.rs"]
mod module;

use common::{MIB, TestArch, pool};
use module::{Engine, by_either_strategy, bytes, memory, module};

harness::tests! {
    fn an_instance_lives_and_dies() {
        on_every_machine!(life);
    }
}

fn life<A: TestArch>() {
    by_either_strategy(pool(4, MIB).total_tables(4).total_core_instances(4), |engine: &Engine<'_, A>| {
        let code = module().memory(1, Some(3)).table(10, None).data(0, 100, b"hello").build();
        engine.instances.validate(code.module()).unwrap();
        for _ in 0..3 {
            let mut instance = engine.instantiate(&code).unwrap();
            assert_eq!(bytes(&instance, memory(0), 100, 5), b"hello");
            assert_eq!(instance.memory_grow(memory(0), 1, None), Ok(Some(1)));
            assert_eq!(instance.memory_size(memory(0)), Ok(2));
            assert_eq!(instance.memory_grow(memory(0), 2, None), Ok(None));
            engine.end(instance);
        }
    });
}
