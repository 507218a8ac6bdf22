//! Tenants of one slot, one after the other.

use allotment::{Config, Error, MemoryRequest};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, cpus, on, pool, pooled},
    world::{available, counts, free, pooling},
};

/// Pages, of memories that follow one another in every order.
pub(crate) const SIZES: [usize; 8] = [0, 1, 5, 16, 17, 20, 512, 513];

fn no_guards(config: Config) -> Config {
    config.memory_guard_size(0).guard_before_linear_memory(false).region_space(1 << 30)
}

pub(crate) fn sizes<A: TestArch>() {
    for poison in [false, true] {
        let config = no_guards(pooled(pool(1, 4 * MIB).premapped_tables(1).poison(poison)));
        let m = Machine::<A>::new(&config, 5 * MIB);
        let before = available(&m);
        for (nth, first) in SIZES.into_iter().enumerate() {
            for (then, second) in SIZES.into_iter().enumerate() {
                let (cpu, other) = ((nth + then) % cpus(), (nth * 3 + then) % cpus());
                on(m.allocator.arch(), cpu, || tenant(&m, first, first));
                on(m.allocator.arch(), other, || tenant(&m, second, second));
                // It grows to what the others had.
                on(m.allocator.arch(), cpu, || tenant(&m, second.min(first), second.max(first)));
                assert_eq!(available(&m), before, "{first} and {second} pages");
            }
        }
    }
}

/// Looks at every page, and writes to most.
fn tenant<A: TestArch>(m: &Machine<A>, begin: usize, end: usize) {
    let mut memory = m.allocator.allocate_memory(begin * PAGE).unwrap();
    m.load(&memory, (begin * PAGE) as i64).expect_err("what the tenant before had is there");
    memory.grow_to(end * PAGE).unwrap();
    for page in 0..end {
        let byte = (page * PAGE + page * 8 % PAGE) as i64;
        assert_eq!(m.load(&memory, byte), Ok(0), "page {page} of {begin} to {end}");
        if !page.is_multiple_of(7) {
            m.store(&memory, byte, 0xfe).unwrap();
        }
    }
    m.load(&memory, (end * PAGE) as i64).expect_err("what the tenant before had is there");
    m.allocator.deallocate_memory(memory);
}

pub(crate) fn bytes<A: TestArch>() {
    let m = Machine::<A>::new(&no_guards(pooled(pool(1, MIB))), 4 * MIB);
    for (size, page_size_log2) in [(5, 0), (6, 0), (761_927, 16), (5, 0), (PAGE - 1, 0), (PAGE + 1, 0)] {
        let request = MemoryRequest::new(size).page_size_log2(page_size_log2).maximum(size);
        let memory = m.allocator.allocate_memory(request).unwrap();
        assert_eq!((memory.size(), memory.capacity()), (size, size));
        let end = size.next_multiple_of(PAGE);
        for byte in (0..end.min(PAGE)).chain(end - PAGE..end) {
            assert_eq!(m.load(&memory, byte as i64), Ok(0), "byte {byte} of {size}");
        }
        m.store(&memory, size as i64 - 1, 0xfe).unwrap();
        m.assert_ends_at(&memory, end);
        m.allocator.deallocate_memory(memory);
    }
}

pub(crate) fn maximum<A: TestArch>() {
    let m = Machine::<A>::new(&no_guards(pooled(pool(1, MIB))), 4 * MIB);
    let mut memory = m.allocator.allocate_memory(MemoryRequest::new(PAGE).maximum(3 * PAGE)).unwrap();
    assert_eq!(memory.capacity(), 3 * PAGE);
    let refused = memory.grow_to(3 * PAGE + 1);
    assert_eq!(refused, Err(Error::BeyondMaximum { requested: 3 * PAGE + 1, maximum: 3 * PAGE }));
    m.assert_ends_at(&memory, PAGE);
    memory.grow_to(3 * PAGE).unwrap();
    m.assert_ends_at(&memory, 3 * PAGE);
    m.allocator.deallocate_memory(memory);
    // The slot has no more either, whatever is asked for.
    let mut memory = m.allocator.allocate_memory(MemoryRequest::new(0).maximum(usize::MAX)).unwrap();
    assert_eq!(memory.capacity(), MIB);
    memory.grow_to(MIB + 1).unwrap_err();
    memory.grow_to(MIB).unwrap();
    m.allocator.deallocate_memory(memory);
}

pub(crate) fn failed<A: TestArch>() {
    for poison in [false, true] {
        let config = no_guards(pooled(pool(1, 4 * MIB).poison(poison)));
        let m = Machine::<A>::new(&config, 3 * MIB);
        let (none, before) = (pooling(&m), counts(&m));
        let fail = || {
            let left = free(&m);
            let refused = m.allocator.allocate_memory((left + 1) * PAGE).unwrap_err();
            assert_eq!(refused, Error::OutOfFrames { needed: left + 1, available: left });
            assert_eq!(counts(&m), before);
        };
        fail();
        assert_eq!(pooling(&m), none, "a failed allocation warmed its slot");
        for pages in [20, 3, 25] {
            let memory = m.allocator.allocate_memory(20 * PAGE).unwrap();
            for page in 0..20 {
                m.store(&memory, (page * PAGE + 1) as i64, 0xfe).unwrap();
            }
            m.allocator.deallocate_memory(memory);
            fail();
            let memory = m.allocator.allocate_memory(pages * PAGE).unwrap();
            for page in 0..pages {
                assert_eq!(m.load(&memory, (page * PAGE + 1) as i64), Ok(0), "page {page}");
            }
            m.assert_ends_at(&memory, pages * PAGE);
            m.allocator.deallocate_memory(memory);
        }
    }
}
