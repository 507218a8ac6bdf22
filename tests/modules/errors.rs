//! The words of errors.

use alloc::{format, string::ToString};

use allotment::{
    Error,
    instance::{BadModule, InstanceError, LimiterError, MAX_OPERANDS, Trap},
};

pub(crate) fn texts() {
    let bad = [
        (
            BadModule::Missing { what: "table", index: 3, count: 2 },
            "table 3 is named, there are 2; describe all that is named",
        ),
        (
            BadModule::TooLarge { what: "imported tables", value: 5, limit: 4 },
            "imported tables: 5 exceeds 4; lower it",
        ),
        (
            BadModule::NotReferable { function: 7 },
            "function 7 is referred to and has no `func_ref`; give it one",
        ),
        (
            BadModule::SharedFuncRef { place: 1, first: 2, second: 3 },
            "functions 2 and 3 have the same `func_ref` 1; give each its own",
        ),
    ];
    for (error, text) in bad {
        assert_eq!(error.to_string(), text);
    }
    let unbalanced = BadModule::UnbalancedExpression { ops: 40 }.to_string();
    assert!(unbalanced.contains("of 40 instructions") && unbalanced.contains(&MAX_OPERANDS.to_string()));

    let of_instances = [
        (InstanceError::MemoryDenied { minimum: 9 }, "memory minimum size of 9 pages exceeds memory limits"),
        (
            InstanceError::MemoryUnrepresentable { minimum: 1 << 50 },
            "memory minimum size of 1125899906842624 pages exceeds what addresses can name",
        ),
        (InstanceError::TableDenied { minimum: 9 }, "table minimum size of 9 elements exceeds table limits"),
        (InstanceError::Limiter(LimiterError("out of fuel")), "out of fuel"),
        (
            InstanceError::Imports { what: "tables", declared: 2, given: 1 },
            "the module imports 2 tables, 1 are given; resolve each one",
        ),
        (
            InstanceError::TooLarge { size: 20, limit: 10 },
            "an instance of 20 bytes exceeds the limit of 10; raise max_core_instance_size, and validate the \
             module to see its parts",
        ),
        (
            InstanceError::TooMany { what: "memories", count: 3, limit: 1 },
            "the module defines 3 memories, a slot is made for 1; raise max_memories_per_module, and total_memories if that is less",
        ),
        (
            InstanceError::OutOfHeap { bytes: 64 },
            "the heap has no room for 64 bytes; give instances back, or enlarge it",
        ),
        (
            InstanceError::Strategy { wanted: "pools" },
            "the allocator is not configured for pools; set allocation_strategy",
        ),
        (
            InstanceError::NotFound { what: "table", index: 4 },
            "the module has no table 4 of this type; name one that it has",
        ),
        (InstanceError::Trap(Trap::MemoryOutOfBounds), "out of bounds memory access"),
        (InstanceError::Trap(Trap::TableOutOfBounds), "out of bounds table access"),
        (InstanceError::Trap(Trap::HeapMisaligned), "unaligned atomic"),
        (InstanceError::Trap(Trap::AtomicWaitNonSharedMemory), "atomic wait on non-shared memory"),
    ];
    for (error, text) in of_instances {
        assert_eq!(error.to_string(), text);
        assert!(!format!("{error:?}").is_empty());
    }
}

pub(crate) fn conversions() {
    let core = Error::Stale { slot: 3 };
    assert_eq!(InstanceError::from(core), InstanceError::Resource(core));
    assert_eq!(InstanceError::from(core).to_string(), core.to_string());
    let trap = Trap::HeapMisaligned;
    assert_eq!(InstanceError::from(trap), InstanceError::Trap(trap));
    let limiter = LimiterError("no");
    assert_eq!(InstanceError::from(limiter), InstanceError::Limiter(limiter));
    let dynamic: [&dyn core::error::Error; 3] = [&core, &trap, &limiter];
    for error in dynamic {
        assert!(error.source().is_none() && !error.to_string().is_empty());
    }
}
