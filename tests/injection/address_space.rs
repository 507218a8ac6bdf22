//! Address space that ends at any step: contexts, memories and tables on demand
//! each take a range.

use alloc::vec;
use core::mem::discriminant;

use allotment::instance::{self, InstanceAllocator, InstanceError};

use crate::{
    common::{MIB, Machine, PAGE, TestArch},
    failing::Failing,
    world::{allocate, assert_pristine, counts, deallocate, module, on_demand, works},
};

pub(crate) fn one_more_each_time<A: TestArch>() {
    let config =
        on_demand().region_space(1 << 32).memory_reservation(2 * MIB).memory_reservation_for_growth(0);
    let m = Machine::<A>::new(&config.memory_guard_size(2 * MIB), 6 * MIB);
    let engine = instance::build(&m.allocator).unwrap();
    // Addresses end first, or the records of ranges do.
    for large in [m.allocator.metrics().largest_free_region - 64 * MIB, PAGE] {
        until_there_is_enough(&m, &*engine, large);
    }
}

fn until_there_is_enough<'a, A: TestArch>(
    m: &'a Machine<A>,
    engine: &dyn InstanceAllocator<'a, A>,
    large: usize,
) {
    let code = module();
    // The zeros that memories of this size share stay.
    works(m, engine, &code);
    let nothing = counts(m);
    let mut taken = vec![(m.allocator.reserve_region(large).unwrap(), large)];
    let full = loop {
        match m.allocator.reserve_region(PAGE) {
            Ok(start) => taken.push((start, PAGE)),
            Err(error) => break error,
        }
    };
    loop {
        let before = counts(m);
        let failing = Failing::new(m, engine, None);
        let made = allocate(&failing, &code);
        let enough = made.is_ok();
        match made {
            Ok(mut handle) => {
                assert_pristine(m, &mut handle);
                deallocate(&failing, handle);
            }
            Err(InstanceError::Resource(error)) => assert_eq!(discriminant(&error), discriminant(&full)),
            Err(error) => panic!("{error}"),
        }
        assert_eq!(counts(m), before, "{} ranges are somebody else's", taken.len());
        if enough {
            break;
        }
        let (start, bytes) = taken.pop().expect("an instance needs less than there is");
        // SAFETY: nobody uses it.
        unsafe { m.allocator.release_region(start, bytes) }.unwrap();
    }
    for (start, bytes) in taken {
        // SAFETY: as above.
        unsafe { m.allocator.release_region(start, bytes) }.unwrap();
    }
    works(m, engine, &code);
    assert_eq!(counts(m), nothing);
}
