//! Several CPUs, each with an instance of its own, and one memory.

use core::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use allotment::instance::{Imports, InstanceHandle, Memory, SharedMemory, WaitResult};

use crate::{
    common::{Machine, TestArch, WASM_PAGE, cpus, together},
    machine,
    module::{Code, Engine, bytes, memory, module},
    shared,
    waiter::{Waiter, relax},
};

/// A memory that no instance defines, and a module that imports it.
fn set_up<A: TestArch>(m: &Machine<A>, maximum: u64) -> (SharedMemory<'_, A>, Code) {
    let made = Memory::new_shared(&m.allocator, &shared(1, maximum), None, None).unwrap();
    let code = module().import_memory(shared(1, maximum)).build();
    (made.as_shared().unwrap().clone(), code)
}

/// An instance that imports `made`, which outlives it.
fn instance<'a, A: TestArch>(
    engine: &Engine<'a, A>,
    made: &SharedMemory<'_, A>,
    code: &Code,
) -> InstanceHandle<'a, A> {
    let memories = [made.import()];
    // SAFETY: by this function's words; it is all that is imported.
    let imports = unsafe { Imports::new(&[], &[], &memories, &[]) };
    engine.instantiate_with(code, imports, None).unwrap()
}

pub(crate) fn growing<A: TestArch>() {
    const EACH: u64 = 6;
    let m = machine::<A>();
    let engine = Engine::new(&m);
    let pages = 1 + EACH * cpus() as u64;
    let (made, code) = set_up(&m, pages);
    let seen = AtomicU64::new(0);
    together(cpus(), |cpu| {
        let mut mine = instance(&engine, &made, &code);
        for _ in 0..EACH {
            let before = mine.memory_grow(memory(0), 1, None).unwrap().expect("there is room");
            let bit = seen.fetch_or(1 << before, Ordering::Relaxed);
            assert_eq!(bit & 1 << before, 0, "page {before} was two CPUs'");
            // The page is there, of zeros, and nobody else's.
            let at = before * WASM_PAGE as u64;
            assert_eq!(bytes(&mine, memory(0), at, 8), [0; 8]);
            mine.memory_fill(memory(0), at, u8::try_from(cpu + 1).unwrap(), WASM_PAGE as u64).unwrap();
            assert!(mine.memory_size(memory(0)).unwrap() > before);
        }
        engine.end(mine);
    });
    assert_eq!(made.byte_size() as u64, pages * WASM_PAGE as u64);
    assert_eq!(seen.into_inner(), (1 << pages) - 2, "every page had its turn");
    assert_eq!(made.grow(1, None), Ok(None));
    let mine = instance(&engine, &made, &code);
    for page in 1..pages {
        let filled = bytes(&mine, memory(0), page * WASM_PAGE as u64, WASM_PAGE);
        assert!(filled[0] != 0 && filled.iter().all(|&byte| byte == filled[0]), "page {page}");
    }
    engine.end(mine);
}

pub(crate) fn storing<A: TestArch>() {
    let m = machine::<A>();
    let engine = Engine::new(&m);
    let (made, code) = set_up(&m, 1);
    let done = AtomicU32::new(0);
    together(cpus(), |cpu| {
        let mut mine = instance(&engine, &made, &code);
        let mark = [u8::try_from(cpu + 1).unwrap()];
        for at in (cpu..WASM_PAGE).step_by(cpus() * 64) {
            mine.write_memory(memory(0), at as u64, &mark).unwrap();
        }
        done.fetch_add(1, Ordering::Release);
        engine.end(mine);
    });
    assert_eq!(done.load(Ordering::Acquire) as usize, cpus());
    together(cpus(), |_| {
        let mine = instance(&engine, &made, &code);
        let all = bytes(&mine, memory(0), 0, WASM_PAGE);
        for (at, &byte) in all.iter().enumerate() {
            let mark = at % (cpus() * 64);
            let expected = if mark < cpus() { mark + 1 } else { 0 };
            assert_eq!(usize::from(byte), expected, "byte {at}");
        }
        engine.end(mine);
    });
}

/// All but one CPU wait at one place; the last wakes some, and then the rest.
pub(crate) fn woken<A: TestArch>() {
    let sleepers = u32::try_from(cpus() - 1).unwrap();
    if sleepers == 0 {
        return;
    }
    let m = machine::<A>();
    let engine = Engine::new(&m);
    let (made, code) = set_up(&m, 1);
    let (waiter, up) = (Waiter::default(), AtomicU32::new(0));
    together(cpus(), |cpu| {
        let mut mine = instance(&engine, &made, &code);
        if cpu > 0 {
            // For so long that no overflow may end it.
            let result = mine.memory_atomic_wait32(&waiter, memory(0), 16, 0, Some(Duration::MAX));
            assert_eq!(result, Ok(WaitResult::Ok));
            up.fetch_add(1, Ordering::Relaxed);
        } else {
            while waiter.sleeping() < sleepers as usize {
                relax();
            }
            assert_eq!(mine.memory_atomic_notify(&waiter, memory(0), 16, 0), Ok(0));
            assert_eq!(mine.memory_atomic_notify(&waiter, memory(0), 16, 1), Ok(1));
            assert_eq!(waiter.sleeping(), sleepers as usize - 1);
            let rest = mine.memory_atomic_notify(&waiter, memory(0), 16, u32::MAX);
            assert_eq!(rest, Ok(sleepers - 1));
            assert_eq!(mine.memory_atomic_notify(&waiter, memory(0), 16, u32::MAX), Ok(0));
        }
        engine.end(mine);
    });
    assert_eq!(up.into_inner(), sleepers);
}

/// Two CPUs, each of which waits until the other has counted on. A wake-up that
/// came between a look and its sleep would leave both asleep.
pub(crate) fn ping_pong<A: TestArch>() {
    const ROUNDS: u32 = 200;
    if cpus() < 2 {
        return;
    }
    let m = machine::<A>();
    let engine = Engine::new(&m);
    let (made, code) = set_up(&m, 1);
    let waiter = Waiter::default();
    together(2, |cpu| {
        let mut mine = instance(&engine, &made, &code);
        let turn = u32::try_from(cpu).unwrap();
        for round in 0..ROUNDS {
            loop {
                let mut word = [0; 4];
                mine.read_memory(memory(0), 0, &mut word).unwrap();
                let now = u32::from_le_bytes(word);
                if now == 2 * round + turn {
                    break;
                }
                mine.memory_atomic_wait32(&waiter, memory(0), 0, now, None).unwrap();
            }
            mine.write_memory(memory(0), 0, &(2 * round + turn + 1).to_le_bytes()).unwrap();
            mine.memory_atomic_notify(&waiter, memory(0), 0, 1).unwrap();
        }
        engine.end(mine);
    });
    let mine = instance(&engine, &made, &code);
    assert_eq!(bytes(&mine, memory(0), 0, 4), (2 * ROUNDS).to_le_bytes());
    engine.end(mine);
}

pub(crate) fn elsewhere<A: TestArch>() {
    if cpus() < 2 {
        return;
    }
    let m = machine::<A>();
    let engine = Engine::new(&m);
    let (made, code) = set_up(&m, 1);
    let (other, _) = set_up(&m, 1);
    let waiter = Waiter::default();
    together(2, |cpu| {
        let mut mine = instance(&engine, &made, &code);
        if cpu == 1 {
            let result = mine.memory_atomic_wait64(&waiter, memory(0), 8, 0, None);
            assert_eq!(result, Ok(WaitResult::Ok));
        } else {
            while waiter.sleeping() == 0 {
                relax();
            }
            // Next to it, and at the same place of another memory.
            for offset in [0, 4, 12, 16] {
                assert_eq!(mine.memory_atomic_notify(&waiter, memory(0), offset, 9), Ok(0));
            }
            assert_eq!(other.atomic_notify(&waiter, 8, 9), Ok(0));
            assert_eq!(waiter.sleeping(), 1);
            assert_eq!(made.atomic_notify(&waiter, 8, 9), Ok(1));
        }
        engine.end(mine);
    });
}
