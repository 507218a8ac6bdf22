//! Threads that are switched, and that move to other CPUs.

use alloc::boxed::Box;
use core::{
    ptr::{self, NonNull},
    sync::atomic::{AtomicUsize, Ordering},
};

use allotment::{
    FaultAccess,
    wasmtime::{Delivery, Exception, GUARD_SIZE, Platform, Preemption, ThreadWords},
};
use spin::Mutex;

use crate::{
    Calls, MAPPING, NONE, READ_EXECUTE, READ_WRITE, after,
    common::{PAGE, TestArch, WASM_PAGE, cpus},
    flags, platform,
};

/// A word as Wasmtime may have it: a pointer with a low bit set.
fn word(cpu: usize, slot: usize) -> *mut u8 {
    ptr::without_provenance_mut(0x1000 * (cpu + 1) + 0x10 * slot + 1)
}

pub(crate) fn words_are_per_cpu<A: TestArch>() {
    let platform = platform::<A>();
    let each = |work: &(dyn Fn(usize) + Sync)| {
        (0..cpus()).for_each(|cpu| platform.allocator().arch().on_cpu(cpu, || work(cpu)));
    };
    each(&|_| assert_eq!([0, 1].map(|slot| platform.tls(slot)), [ptr::null_mut(); 2]));
    each(&|cpu| (0..2).for_each(|slot| platform.set_tls(slot, word(cpu, slot))));
    each(&|cpu| assert_eq!([0, 1].map(|slot| platform.tls(slot)), [0, 1].map(|slot| word(cpu, slot))));
    // There are no others.
    platform.set_tls(2, word(0, 2));
    assert_eq!(platform.tls(2), ptr::null_mut());
}

pub(crate) fn words_move_with_their_thread<A: TestArch>() {
    let platform = platform::<A>();
    let [first, second] = [(); 2].map(|()| Mutex::new(Some(ThreadWords::default())));
    // Two threads by turns, on one CPU after the other.
    for round in 0..3 * cpus() {
        platform.allocator().arch().on_cpu(round % cpus(), || {
            for (number, thread) in [&first, &second].into_iter().enumerate() {
                let mut thread = thread.lock();
                // SAFETY: the words are of this thread, which ran before as it says or is new.
                unsafe { platform.resume_thread(thread.take().unwrap()) };
                let seen = [0, 1].map(|slot| platform.tls(slot));
                let expected = [0, 1].map(|slot| match round {
                    0 => ptr::null_mut(),
                    _ => word(100 * round + number, slot),
                });
                assert_eq!(seen, expected, "thread {number} in round {round}");
                (0..2).for_each(|slot| platform.set_tls(slot, word(100 * (round + 1) + number, slot)));
                *thread = Some(platform.suspend_thread());
                assert_eq!([0, 1].map(|slot| platform.tls(slot)), [ptr::null_mut(); 2]);
            }
        });
    }
}

/// A thread that is switched away from between its exception and the stub.
pub(crate) fn a_trap_moves_with_its_thread<A: TestArch>() {
    let calls = Calls(platform::<A>());
    let arch = calls.0.allocator().arch();
    let code = calls.0.map(PAGE, flags(READ_WRITE)).unwrap();
    calls.protect(code, PAGE, READ_EXECUTE).unwrap();
    let threads = [const { Mutex::new(None) }; 2];
    let begin = code.as_ptr().addr();
    let pc = |number: usize| begin + 8 * number;
    for (number, thread) in threads.iter().enumerate() {
        arch.on_cpu(0, || {
            // SAFETY: the thread is new.
            unsafe { calls.0.resume_thread(ThreadWords::default()) };
            let fault = (number == 1).then_some((0x10, FaultAccess::Read));
            let delivery = calls.0.deliver_to(&Exception { pc: pc(number), fault }, 0x1234_5000);
            assert!(matches!(delivery, Delivery::Divert(0x1234_5000)), "{delivery:?}");
            *thread.lock() = Some(calls.0.suspend_thread());
        });
    }
    for (number, thread) in threads.iter().enumerate() {
        arch.on_cpu(cpus() - 1, || {
            // SAFETY: the words are of this thread, which ran before as they say.
            unsafe { calls.0.resume_thread(thread.lock().take().unwrap()) };
            let trapped = calls.0.trapped();
            assert_eq!((trapped.pc, trapped.address), (pc(number), (number == 1).then_some(0x10)));
        });
    }
    calls.unmap(code, PAGE).unwrap();
}

pub(crate) fn a_thread_moves<A: TestArch>() {
    moves::<A>(true);
}

pub(crate) fn a_store_is_handed_over<A: TestArch>() {
    moves::<A>(false);
}

/// A memory is as it was left, and no larger, wherever its store goes on.
fn moves<A: TestArch>(resumes: bool) {
    let calls = Calls(platform::<A>());
    let arch = calls.0.allocator().arch();
    let size = AtomicUsize::new(0);
    for round in 0..20 {
        let thread = Mutex::new(Some(ThreadWords::default()));
        let mapping = AtomicUsize::new(0);
        for step in 0..4 {
            arch.on_cpu((round + 3 * step) % cpus(), || {
                let mut thread = thread.lock();
                if resumes {
                    // SAFETY: as above.
                    unsafe { calls.0.resume_thread(thread.take().unwrap()) };
                } else {
                    calls.0.arrive();
                }
                if step == 0 {
                    let start = calls.0.map(MAPPING, flags(NONE)).unwrap();
                    mapping.store(start.as_ptr() as usize, Ordering::Relaxed);
                    size.store(WASM_PAGE, Ordering::Relaxed);
                    calls.protect(after(start, GUARD_SIZE), WASM_PAGE, READ_WRITE).unwrap();
                }
                let memory = after(at(&mapping), GUARD_SIZE);
                let bytes = size.load(Ordering::Relaxed);
                for page in (0..bytes).step_by(WASM_PAGE) {
                    let written = if step > 0 && page < bytes - WASM_PAGE { 9 } else { 0 };
                    assert_eq!(calls.load(after(memory, page)), Some(written), "step {step} of {round}");
                    calls.store(after(memory, page), 9).unwrap();
                }
                assert_eq!(calls.load(after(memory, bytes)), None);
                calls.protect(after(memory, bytes), WASM_PAGE, READ_WRITE).unwrap();
                size.store(bytes + WASM_PAGE, Ordering::Relaxed);
                *thread = Some(calls.0.suspend_thread());
            });
        }
        calls.0.arrive();
        calls.unmap(at(&mapping), MAPPING).unwrap();
    }
}

fn at(mapping: &AtomicUsize) -> NonNull<u8> {
    NonNull::new(ptr::with_exposed_provenance_mut(mapping.load(Ordering::Relaxed))).unwrap()
}

/// One CPU's scheduler: how often it was told to leave a thread alone.
struct Count(AtomicUsize);

// SAFETY: nothing in these tests switches threads.
unsafe impl Preemption for Count {
    fn disable(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    fn enable(&self, before: usize) {
        self.0.store(before, Ordering::Relaxed);
    }
}

/// A platform whose threads stay while they must, and what says so.
pub(crate) fn staying<A: TestArch>() -> (Platform<A>, impl Fn() -> usize) {
    let count: &'static Count = Box::leak(Box::new(Count(AtomicUsize::new(7))));
    (platform::<A>().with_preemption(count), || count.0.load(Ordering::Relaxed) - 7)
}

pub(crate) fn words_without_a_switch<A: TestArch>() {
    let (platform, held) = staying::<A>();
    platform.set_tls(0, word(1, 0));
    assert_eq!((platform.tls(0), held()), (word(1, 0), 0));
    // SAFETY: it is a new thread.
    unsafe { platform.resume_thread(ThreadWords::default()) };
    assert_eq!((platform.tls(0), held()), (ptr::null_mut(), 0));
}
