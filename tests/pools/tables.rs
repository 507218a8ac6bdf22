//! Tables.

use alloc::string::ToString;

use allotment::{CompiledModuleId, Error, FaultRegion, PoolKind, TableRequest};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, pool, pooled},
    world::{ELEMENTS, at, available, counts, leave, pooling, release, report},
};

/// Not as many as fill its two pages.
const LIMIT: usize = 1000;

fn machine<A: TestArch>() -> Machine<A> {
    Machine::new(&pooled(pool(1, MIB).total_tables(3).table_elements(LIMIT)), 8 * MIB)
}

pub(crate) fn zeros_and_limits<A: TestArch>() {
    let m = machine::<A>();
    let before = counts(&m);
    // 16-byte elements are limited by the slot, others by the knob.
    for (element, limit) in [(4, LIMIT), (8, LIMIT), (16, 2 * PAGE / 16)] {
        let request = |minimum| TableRequest::new(minimum).element_size(element);
        let refused = m.allocator.allocate_table(request(limit + 1)).unwrap_err();
        assert_eq!(refused, Error::TableTooLarge { requested: limit + 1, limit });
        let refused = m.allocator.allocate_table(request(usize::MAX)).unwrap_err();
        assert_eq!(refused, Error::TableTooLarge { requested: usize::MAX, limit });
        for round in 0..3 {
            let mut table = m.allocator.allocate_table(request(3)).unwrap();
            assert_eq!((table.size(), table.capacity(), table.element_size()), (3, limit, element));
            table.grow_to(limit).unwrap();
            assert_eq!(table.size(), limit);
            for byte in 0..limit * element {
                let address = at(table.base(), byte as i64);
                assert_eq!(
                    m.load_at(address),
                    Ok(0),
                    "byte {byte} of {element}-byte elements, round {round}"
                );
            }
            for byte in (0..limit * element).step_by(61).chain([limit * element - 1]) {
                m.store_at(at(table.base(), byte as i64), 0xfe).unwrap();
            }
            let refused = table.grow_to(limit + 1).unwrap_err();
            assert_eq!(refused, Error::TableTooLarge { requested: limit + 1, limit });
            assert_eq!((table.size(), m.load_at(at(table.base(), 0))), (limit, Ok(0xfe)));
            table.grow_to(1).unwrap();
            assert_eq!(table.size(), limit, "a smaller size changed something");
            m.allocator.deallocate_table(table);
        }
        let mut own = m.allocator.allocate_table(request(1).maximum(10)).unwrap();
        assert_eq!(own.capacity(), 10);
        own.grow_to(10).unwrap();
        assert_eq!(own.grow_to(11), Err(Error::TableTooLarge { requested: 11, limit: 10 }));
        m.allocator.deallocate_table(own);
    }
    assert_eq!(counts(&m), before);
}

pub(crate) fn beyond_the_end<A: TestArch>() {
    let m = machine::<A>();
    let module = CompiledModuleId(5);
    let table = m.allocator.allocate_table(TableRequest::new(10).module(module, 2)).unwrap();
    let last = PAGE as i64 - 1;
    m.store_at(at(table.base(), last), 1).expect("access ends at a page");
    m.load_at(at(table.base(), last + 1)).unwrap_err();
    let stride = m.allocator.plan().tables.slab.stride as i64;
    for offset in [last + 1, 2 * PAGE as i64, stride - 1] {
        let report = report(&m, at(table.base(), offset));
        assert_eq!((report.region, report.offset), (FaultRegion::Table(Some(2)), Some(offset)));
        let slot = report.slot.unwrap();
        assert_eq!((slot.pool, slot.slot, slot.accessible), (Some(PoolKind::Tables), 0, PAGE));
        assert_eq!(report.module, Some(module));
    }
    let text = report(&m, at(table.base(), last + 1)).to_string();
    assert!(text.contains("table 2, offset 0x1000 of 0x1000 accessible bytes, slot 0 of tables"), "{text}");
    m.allocator.deallocate_table(table);
}

pub(crate) fn exhaustion<A: TestArch>() {
    let m = machine::<A>();
    let before = counts(&m);
    let tables = [(); 3].map(|()| m.allocator.allocate_table(LIMIT).unwrap());
    let full = Error::PoolConcurrencyLimit { kind: PoolKind::Tables, limit: 3 };
    assert_eq!(m.allocator.allocate_table(0).unwrap_err(), full);
    assert_eq!((pooling(&m).tables, m.allocator.metrics().tables), (3, 3));
    for (mark, table) in (1..).zip(&tables) {
        m.store_at(at(table.base(), 0), mark).unwrap();
    }
    for (mark, table) in (1..).zip(&tables) {
        assert_eq!(m.load_at(at(table.base(), 0)), Ok(mark), "two tables share a page");
    }
    tables.into_iter().for_each(|table| m.allocator.deallocate_table(table));
    assert_eq!(counts(&m), before);

    // Frames run out as well.
    let mut table = m.allocator.allocate_table(1).unwrap();
    let mut hog = m.allocator.allocate_memory(0).unwrap();
    let left = available(&m) * PAGE;
    assert!(left > MIB, "one memory cannot take all frames");
    hog.grow_to(MIB).unwrap();
    m.allocator.deallocate_memory(hog);
    table.grow_to(LIMIT).unwrap();
    m.allocator.deallocate_table(table);

    // As many tables as it takes, and one that then cannot grow.
    let config = pooled(pool(0, MIB).total_tables(9).table_elements(512 * ELEMENTS));
    let m = Machine::<A>::new(&config, 8 * MIB);
    let mut table = m.allocator.allocate_table(1).unwrap();
    m.store_at(at(table.base(), 7), 7).unwrap();
    let fillers = leave(&m, 1, 512);
    let refused = table.grow_to(ELEMENTS * 3).unwrap_err();
    assert_eq!(refused, Error::OutOfFrames { needed: 2, available: 1 });
    assert_eq!((table.size(), m.load_at(at(table.base(), 7))), (1, Ok(7)));
    m.load_at(at(table.base(), PAGE as i64)).unwrap_err();
    release(&m, fillers);
    table.grow_to(ELEMENTS * 3).unwrap();
    assert_eq!(m.load_at(at(table.base(), 3 * PAGE as i64 - 1)), Ok(0));
    m.allocator.deallocate_table(table);
}
