//! Which slot a memory gets: the one that its module had last.

use alloc::vec::Vec;
use core::ptr::NonNull;

use allotment::{
    CompiledModuleId, Config, FaultAccess, Verdict,
    wasmtime::{GUARD_SIZE, allocator_config},
};

use crate::{
    Calls, MAPPING, NONE, READ_WRITE, after,
    common::{MIB, PAGE, TestArch, WASM_PAGE, cpus, pool},
    flags,
    images::with,
    virt,
};
/// Enough slots for every module to have one.
fn pooling() -> Config {
    allocator_config().allocation_strategy(pool(4, 2 * MIB))
}

/// Modules with an image each, and one without.
struct Modules([Option<(NonNull<u8>, u8)>; 3]);

// SAFETY: images are used on any CPU.
unsafe impl Sync for Modules {}

impl Modules {
    fn new<A: TestArch>(calls: &Calls<A>) -> Self {
        let with_image = |seed| Some((calls.image(calls.data(seed)), seed));
        Self([with_image(0x10), with_image(0x20), None])
    }

    /// Instantiates one, and says where its memory was.
    fn run<A: TestArch>(&self, calls: &Calls<A>, module: usize) -> NonNull<u8> {
        let memory = calls.begin();
        if let Some((image, _)) = self.0[module] {
            calls.place(image, memory);
        }
        calls.assert_shows(memory, self.0[module].map(|(_, seed)| seed));
        calls.scribble(memory);
        calls.end(memory);
        memory
    }
}

/// Orders that repeat are learned, in one round or two.
pub(crate) fn turns<A: TestArch>() {
    for order in [&[0][..], &[2], &[0, 1], &[0, 2], &[0, 1, 2], &[2, 1, 0]] {
        with::<A>(&pooling(), |calls| {
            let modules = Modules::new(calls);
            let round = || order.iter().map(|&module| modules.run(calls, module)).collect::<Vec<_>>();
            (0..3).for_each(|_| drop(round()));
            let slots = round();
            for (nth, slot) in slots.iter().enumerate() {
                assert!(!slots[..nth].contains(slot), "{order:?}: two modules take turns in a slot");
            }
            (0..3).for_each(|_| assert_eq!(round(), slots, "{order:?}"));
        });
    }
}

/// A slot counts as one of what it showed, and not of what was expected.
pub(crate) fn surprise<A: TestArch>() {
    with::<A>(&pooling(), |calls| {
        let modules = Modules::new(calls);
        let run = |module| modules.run(calls, module);
        for _ in 0..4 {
            let _ = [0, 1].map(run);
        }
        let [first, second] = [0, 1].map(run);
        assert_eq!([0, 0].map(run), [first, second], "not the slot of the module whose turn it was");
        // That one shows the first module's image now, and is the youngest that does.
        assert_eq!([1, 0, 1, 0].map(run), [second, first, second, first]);
    });
}

/// Without any order, and with two memories each.
pub(crate) fn named<A: TestArch>() {
    with::<A>(&pooling(), |calls| {
        let modules = Modules::new(calls);
        let run = |module: usize| {
            calls.0.for_module(CompiledModuleId(7 + module as u64), || {
                let (first, second) = (calls.begin(), calls.begin());
                if let Some((image, _)) = modules.0[module] {
                    calls.place(image, second);
                }
                calls.assert_shows(first, None);
                calls.assert_shows(second, modules.0[module].map(|(_, seed)| seed));
                calls.scribble(first);
                calls.end(second);
                calls.end(first);
                [first, second]
            })
        };
        let slots = [0, 1].map(run);
        assert!(!slots[0].contains(&slots[1][0]) && !slots[0].contains(&slots[1][1]));
        for module in [0, 0, 1, 0, 1, 1, 1, 0, 0] {
            assert_eq!(run(module), slots[module], "module {module}");
        }
    });
}

pub(crate) fn reports<A: TestArch>() {
    with::<A>(&pooling(), |calls| {
        let modules = Modules::new(calls);
        let module = CompiledModuleId(9);
        let reported = |memory: NonNull<u8>| {
            let end = virt(memory).offset(2 * WASM_PAGE);
            match calls.0.allocator().fault(end, FaultAccess::Read) {
                Verdict::Trap(report) => report.module,
                other => panic!("{other:?}"),
            }
        };
        let [first, second] = calls.0.for_module(module, || [calls.begin(), calls.begin()]);
        assert_eq!(reported(first), Some(module));
        assert_eq!(reported(second), Some(module));
        calls.end(first);
        calls.end(second);
        // What the platform makes of images is no module.
        for _ in 0..4 {
            let memory = calls.begin();
            calls.place(modules.0[0].unwrap().0, memory);
            assert_eq!(reported(memory), None);
            calls.end(memory);
        }
    });
}

/// Whatever comes, while others are there, and on whichever CPU.
pub(crate) fn surprises<A: TestArch>() {
    with::<A>(&pooling(), |calls| {
        let modules = Modules::new(calls);
        let mut random = 1u32;
        for round in 0..60 {
            random = random.wrapping_mul(1_103_515_245).wrapping_add(12345);
            let [module, other, cpu] = [8, 14, 20].map(|shift| (random >> shift) as usize);
            calls.0.allocator().arch().on_cpu(cpu % cpus(), || {
                // One that is written without an image, where one may wait for its own.
                let mapping = calls.0.map(MAPPING, flags(NONE)).unwrap();
                let memory = after(mapping, GUARD_SIZE);
                calls.protect(memory, PAGE, READ_WRITE).unwrap();
                assert_eq!(calls.load(memory), Some(0), "round {round}");
                calls.store(memory, 3).unwrap();
                let names = if other % 4 == 0 { Some(CompiledModuleId(other as u64)) } else { None };
                match names {
                    Some(name) => calls.0.for_module(name, || modules.run(calls, module % 3)),
                    None => modules.run(calls, module % 3),
                };
                modules.run(calls, other % 3);
                assert_eq!(calls.load(memory), Some(3), "round {round}");
                calls.unmap(mapping, MAPPING).unwrap();
            });
        }
    });
}
