//! Nothing left, at each call: an error with a type, every count as before, and
//! the next call works. By both strategies.

use core::ptr::NonNull;

use allotment::{
    Allocator, Backing, Commit, Config, Error, FaultAccess, FaultRegion, InstanceAllocationStrategy, Metrics,
    PoolKind,
    arch::VirtAddr,
    wasmtime::{Delivery, Exception, GUARD_SIZE, Platform, PlatformError, allocator_config},
};

use crate::{
    Calls, MAPPING, NONE, READ_EXECUTE, READ_WRITE, after,
    common::{MIB, PAGE, TestArch, WASM_PAGE, pool},
    flags, virt,
};

const SLOT: usize = 4 * MIB;
const SLOTS: usize = 3;

/// Less than the slots together.
fn small<A: TestArch>(config: &Config) -> Calls<A> {
    let (arch, window, arena) = A::machine(8 * MIB);
    // SAFETY: every test has a machine, window and arena of its own.
    Calls(Platform::new(unsafe { Allocator::new(arch, window, arena, config) }.unwrap()))
}

fn pooling() -> Config {
    allocator_config().allocation_strategy(pool(SLOTS, SLOT)).region_space(2 << 30)
}

fn strategies() -> [Config; 2] {
    [pooling(), allocator_config().allocation_strategy(InstanceAllocationStrategy::OnDemand)]
}

impl<A: TestArch> Calls<A> {
    fn metrics(&self) -> Metrics {
        self.0.allocator().metrics()
    }

    /// A new linear memory of no bytes: its mapping.
    fn memory(&self) -> NonNull<u8> {
        self.0.map(MAPPING, flags(NONE)).unwrap()
    }

    /// Gives a linear memory that has `size` bytes page after page, until there
    /// are none left; returns its size then.
    fn fill(&self, mapping: NonNull<u8>, mut size: usize, most: usize) -> usize {
        while size < most {
            let more = self.protect(after(mapping, GUARD_SIZE + size), PAGE, READ_WRITE);
            if let Err(error) = more {
                assert_out_of_frames(error);
                break;
            }
            size += PAGE;
        }
        size
    }
}

/// Frames are what is missing, with numbers that say so.
#[track_caller]
fn assert_out_of_frames(error: PlatformError) {
    let PlatformError::Allocator(Error::OutOfFrames { needed, available }) = error else {
        panic!("another error: {error}")
    };
    assert!(needed > available, "{error}");
    const ENOMEM: i32 = 12;
    assert_eq!(error.code(), ENOMEM);
}

pub(crate) fn slots<A: TestArch>() {
    let calls = small::<A>(&pooling());
    let mappings = [(); SLOTS].map(|()| calls.memory());
    let before = calls.metrics();
    let full = calls.0.map(MAPPING, flags(NONE)).unwrap_err();
    let limit = Error::PoolConcurrencyLimit { kind: PoolKind::Memories, limit: SLOTS };
    assert_eq!(full, PlatformError::Allocator(limit));
    assert_eq!(calls.metrics(), before);
    calls.unmap(mappings[1], MAPPING).unwrap();
    assert_eq!(calls.memory(), mappings[1]);
    mappings.into_iter().for_each(|mapping| calls.unmap(mapping, MAPPING).unwrap());
}

pub(crate) fn address_space<A: TestArch>() {
    for config in strategies() {
        let calls = small::<A>(&config.region_space(2 << 30));
        let before = calls.metrics();
        for protection in [NONE, READ_WRITE] {
            let error = calls.0.map(2 << 30, flags(protection)).unwrap_err();
            let expected = Error::OutOfAddressSpace { requested: 2 << 30 };
            assert_eq!(error, PlatformError::Allocator(expected), "{config}");
            assert_eq!(calls.metrics(), before);
        }
        let region = calls.0.map(1 << 30, flags(NONE)).unwrap();
        calls.0.map(1 << 30, flags(NONE)).unwrap_err();
        calls.unmap(region, 1 << 30).unwrap();
        let again = calls.0.map(1 << 30, flags(NONE)).unwrap();
        assert_eq!(again, region);
        calls.unmap(again, 1 << 30).unwrap();
        assert_eq!(calls.metrics(), before);
    }
}

pub(crate) fn new_mappings<A: TestArch>() {
    for config in strategies() {
        let calls = small::<A>(&config);
        let before = calls.metrics();
        let first = calls.0.map(PAGE, flags(READ_WRITE)).unwrap();
        calls.unmap(first, PAGE).unwrap();
        assert_eq!(calls.metrics(), before);
        for bytes in [8 * MIB, 64 * MIB] {
            assert_out_of_frames(calls.0.map(bytes, flags(READ_WRITE)).unwrap_err());
            assert_eq!(calls.metrics(), before);
        }
        // Neither frames nor address space stayed with what failed.
        let again = calls.0.map(PAGE, flags(READ_WRITE)).unwrap();
        assert_eq!(again, first);
        assert_eq!(calls.load(again), Some(0));
        calls.unmap(again, PAGE).unwrap();
    }
}

pub(crate) fn growth<A: TestArch>() {
    for config in strategies() {
        let calls = small::<A>(&config);
        let fresh = calls.metrics();
        let (mapping, other) = (calls.memory(), calls.memory());
        let bytes = calls.fill(other, 0, SLOT);
        let size = calls.fill(mapping, 0, SLOT);
        assert!(bytes == SLOT && size < SLOT, "{config}: {size:#x} bytes");
        let memory = after(mapping, GUARD_SIZE);
        calls.store(after(memory, size - 1), 5).unwrap();
        let before = calls.metrics();
        for more in [PAGE, WASM_PAGE] {
            assert_out_of_frames(calls.protect(after(memory, size), more, READ_WRITE).unwrap_err());
            assert_eq!(calls.metrics(), before, "{config}");
            assert_eq!(calls.load(after(memory, size)), None, "{config}: what was refused is accessible");
        }
        assert_eq!(calls.load(after(memory, size - 1)), Some(5));
        // What another one gives back is enough.
        calls.unmap(other, MAPPING).unwrap();
        calls.protect(after(memory, size), WASM_PAGE, READ_WRITE).unwrap();
        assert_eq!(calls.load(after(memory, size)), Some(0));
        calls.unmap(mapping, MAPPING).unwrap();
        // But for what memories of these sizes share from now on.
        let now = calls.metrics();
        assert_eq!(now.available_frames + now.shared_frames, fresh.available_frames, "{config}");
    }
}

pub(crate) fn code<A: TestArch>() {
    for config in strategies() {
        let calls = small::<A>(&config);
        let code = calls.0.map(8 * MIB, flags(NONE)).unwrap();
        calls.protect(code, PAGE, READ_WRITE).unwrap();
        calls.store(code, 9).unwrap();
        let before = calls.metrics();
        for access in [READ_WRITE, READ_EXECUTE] {
            assert_out_of_frames(calls.protect(code, 8 * MIB, access).unwrap_err());
            assert_eq!(calls.metrics(), before);
            assert!(!calls.0.allocator().is_code(virt(code)), "half of what was refused happened");
            assert_eq!(calls.load(after(code, PAGE)), None);
            calls.store(code, 9).expect("what was writable still is");
        }
        // Needs no frame.
        calls.protect(code, PAGE, READ_EXECUTE).unwrap();
        assert!(calls.0.allocator().is_code(virt(code)));
        calls.unmap(code, 8 * MIB).unwrap();
    }
}

pub(crate) fn remap<A: TestArch>() {
    for config in strategies() {
        let calls = small::<A>(&config);
        // What memories of this size share stays.
        let once = calls.memory();
        calls.protect(after(once, GUARD_SIZE), SLOT, READ_WRITE).unwrap();
        calls.unmap(once, MAPPING).unwrap();
        let region = calls.0.map(8 * MIB, flags(NONE)).unwrap();
        calls.protect(region, PAGE, READ_WRITE).unwrap();
        let mapping = calls.memory();
        let memory = after(mapping, GUARD_SIZE);
        calls.protect(memory, PAGE, READ_WRITE).unwrap();
        let other = calls.memory();
        calls.fill(other, 0, SLOT);
        for (start, bytes) in [(region, 8 * MIB), (memory, SLOT)] {
            calls.store(start, 6).unwrap();
            let before = calls.metrics();
            assert_out_of_frames(calls.remap(start, bytes, READ_WRITE).unwrap_err());
            assert_eq!(calls.metrics(), before, "{config}");
            assert_eq!(calls.load(start), Some(6), "{config}: a refused call cleared");
            assert_eq!(calls.load(after(start, PAGE)), None, "{config}");
            // What needs no frame goes on.
            calls.remap(start, PAGE, READ_WRITE).unwrap();
            assert_eq!(calls.load(start), Some(0), "{config}");
        }
        calls.unmap(mapping, MAPPING).unwrap();
        calls.unmap(other, MAPPING).unwrap();
        calls.unmap(region, 8 * MIB).unwrap();
    }
}

/// With not one frame left, a fault is answered as ever.
pub(crate) fn faults<A: TestArch>() {
    const STUB: usize = 0x1234_5000;
    for config in strategies() {
        let calls = small::<A>(&config);
        let code = calls.0.map(PAGE, flags(READ_WRITE)).unwrap();
        calls.protect(code, PAGE, READ_EXECUTE).unwrap();
        let (mapping, other) = (calls.memory(), calls.memory());
        calls.fill(other, 0, SLOT);
        let size = calls.fill(mapping, 0, SLOT);
        assert_eq!(calls.metrics().available_frames, 0, "{config}");
        let memory = after(mapping, GUARD_SIZE);
        let at = |offset: usize, access| {
            let fault = Some((after(memory, offset).as_ptr().addr(), access));
            let exception = Exception { pc: code.as_ptr().addr(), fault };
            calls.0.deliver_to(&exception, STUB)
        };
        for offset in [0, size - 1] {
            calls.store(after(memory, offset), 8).expect("a first write needs no frame");
            assert!(matches!(at(offset, FaultAccess::Write), Delivery::Resume), "{config}");
        }
        for access in [FaultAccess::Read, FaultAccess::Write] {
            assert!(matches!(at(size, access), Delivery::Divert(_)), "{config}");
        }
        assert_eq!(calls.metrics().available_frames, 0, "{config}");
        calls.unmap(mapping, MAPPING).unwrap();
        calls.unmap(other, MAPPING).unwrap();
        calls.unmap(code, PAGE).unwrap();
    }
}

/// A stack that is full has no room for the stub either.
pub(crate) fn full_stack<A: TestArch>() {
    const STUB: usize = 0x1234_5000;
    let calls = small::<A>(&allocator_config().allocation_strategy(pool(1, SLOT).total_stacks(1)));
    let code = calls.0.map(PAGE, flags(READ_WRITE)).unwrap();
    calls.protect(code, PAGE, READ_EXECUTE).unwrap();
    let stack = calls.0.allocator().allocate_fiber_stack().unwrap();
    let bottom = stack.guard().end;
    let at = |address: VirtAddr| {
        let address = usize::try_from(address.0).unwrap();
        let fault = Some((address, FaultAccess::Write));
        calls.0.deliver_to(&Exception { pc: code.as_ptr().addr(), fault }, STUB)
    };
    let Delivery::NotWasm(Some(report)) = at(VirtAddr(bottom.0 - 8)) else {
        panic!("the stub would run on a stack that is full")
    };
    assert_eq!((report.region, report.offset), (FaultRegion::StackGuard, Some(-8)), "{report}");
    assert!(matches!(at(bottom), Delivery::Resume));
    calls.0.allocator().deallocate_fiber_stack(stack);
    calls.unmap(code, PAGE).unwrap();
}

/// Pages that were taken away do not count any more, wherever they were; and neither do
/// they come on top of those that an instance may write.
pub(crate) fn promised_elsewhere<A: TestArch>() {
    const PAGES: usize = 3;
    let pools = pool(SLOTS, SLOT).backing(Backing::Elastic(Commit::PerInstance(PAGES)));
    let calls = small::<A>(&pooling().allocation_strategy(pools));
    let mapping = calls.memory();
    let memory = after(mapping, GUARD_SIZE);
    let write = |page: usize| calls.store(after(memory, page * PAGE), 7);
    calls.protect(memory, 9 * PAGE, READ_WRITE).unwrap();
    (6..9).for_each(|page| write(page).unwrap());
    calls.protect(after(memory, PAGE), 8 * PAGE, NONE).unwrap();
    calls.protect(after(memory, PAGE), 3 * PAGE, READ_WRITE).unwrap();
    (0..PAGES).for_each(|page| write(page).unwrap());
    assert_eq!(write(PAGES), None, "a page too many was given");
    calls.protect(after(memory, 4 * PAGE), 5 * PAGE, READ_WRITE).unwrap();
    for page in 6..9 {
        assert_eq!(calls.load(after(memory, page * PAGE)), Some(0), "page {page}");
        assert_eq!(write(page), None, "page {page} came on top");
    }
    (0..PAGES).for_each(|page| write(page).unwrap());
    calls.unmap(mapping, MAPPING).unwrap();
}

/// What an instance may write it may write again, whether or not somebody looked for
/// frames meanwhile; and not one page more.
pub(crate) fn promised<A: TestArch>() {
    const PAGES: usize = 3;
    let pools = pool(SLOTS, SLOT).backing(Backing::Elastic(Commit::PerInstance(PAGES)));
    let calls = small::<A>(&pooling().allocation_strategy(pools));
    let fresh = calls.metrics();
    for looked in [false, true] {
        let mapping = calls.memory();
        let memory = after(mapping, GUARD_SIZE);
        calls.protect(memory, PAGES * PAGE, READ_WRITE).unwrap();
        (0..PAGES).for_each(|page| calls.store(after(memory, page * PAGE), 7).unwrap());
        calls.protect(after(memory, PAGE), 2 * PAGE, NONE).unwrap();
        if looked {
            assert_out_of_frames(calls.0.map(8 * MIB, flags(READ_WRITE)).unwrap_err());
        }
        calls.protect(after(memory, PAGE), PAGES * PAGE, READ_WRITE).unwrap();
        for (page, byte) in [7, 0, 0, 0].into_iter().enumerate() {
            assert_eq!(calls.load(after(memory, page * PAGE)), Some(byte), "page {page}");
        }
        (0..PAGES).for_each(|page| calls.store(after(memory, page * PAGE), 8).unwrap());
        assert_eq!(calls.store(after(memory, PAGES * PAGE), 8), None, "a page too many was given");
        assert_eq!(calls.load(after(memory, PAGES * PAGE)), Some(0), "reading takes no frame");
        calls.unmap(mapping, MAPPING).unwrap();
        // But for what memories of these sizes share from now on.
        let now = calls.metrics();
        assert_eq!(now.available_frames + now.shared_frames, fresh.available_frames);
    }
}
