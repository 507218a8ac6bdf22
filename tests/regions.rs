//! Regions: address space of any size, W^X, and everything given back.

#![cfg_attr(target_os = "none", no_std, no_main)]

mod common;

use allotment::{
    Error, FaultAccess, FaultRegion, Verdict,
    arch::{Access, VirtAddr},
};
use common::{MIB, Machine, PAGE, TestArch, small};

harness::tests! {
    fn a_region_has_the_access_it_was_given_and_no_more() {
        on_every_machine!(access);
    }

    fn contents_survive_a_change_of_access() {
        on_every_machine!(contents);
    }

    fn ranges_that_are_no_region_are_refused() {
        on_every_machine!(unknown);
    }

    fn running_out_of_frames_changes_nothing() {
        on_every_machine!(exhaustion);
    }

    fn address_space_comes_back_in_any_order() {
        on_every_machine!(any_order);
    }

    fn a_reset_region_reads_as_zeros() {
        on_every_machine!(reset);
    }
}

fn machine<A: TestArch>() -> Machine<A> {
    Machine::new(&small(), 16 * MIB)
}

impl<A: TestArch> Machine<A> {
    fn protect(&self, start: VirtAddr, bytes: usize, access: Option<Access>) -> Result<(), Error> {
        // SAFETY: the test holds no reference into its regions.
        unsafe { self.allocator.protect_region(start, bytes, access) }
    }

    fn release(&self, start: VirtAddr, bytes: usize) -> Result<(), Error> {
        // SAFETY: as above.
        unsafe { self.allocator.release_region(start, bytes) }
    }

    fn peek(&self, address: VirtAddr) -> Option<u8> {
        self.load_at(address).ok()
    }

    fn poke(&self, address: VirtAddr, byte: u8) -> Option<()> {
        self.store_at(address, byte).ok()
    }
}

fn access<A: TestArch>() {
    let m = machine::<A>();
    let bytes = 5 * PAGE;
    let start = m.allocator.reserve_region(bytes).unwrap();
    assert_eq!(m.peek(start), None, "a reservation was readable");
    m.protect(start, bytes, Some(Access::ReadWrite)).unwrap();
    for page in 0..5 {
        let address = start.offset(page * PAGE);
        assert_eq!(m.peek(address), Some(0));
        m.poke(address.offset(PAGE - 1), 3).unwrap();
    }
    assert_eq!(m.peek(start.offset(bytes)), None, "the page after the region was readable");
    assert!(!m.allocator.is_code(start));

    m.protect(start, PAGE, Some(Access::Read)).unwrap();
    assert_eq!(m.poke(start, 1), None, "a read-only page was writable");
    m.poke(start.offset(PAGE), 1).expect("its neighbour still is");

    m.protect(start, PAGE, Some(Access::ReadExecute)).unwrap();
    assert_eq!(m.poke(start, 1), None, "an executable page was writable");
    assert!(m.allocator.is_code(start) && !m.allocator.is_code(start.offset(PAGE)));
    let Verdict::Trap(report) = m.allocator.fault(start, FaultAccess::Write) else { panic!("no trap") };
    assert_eq!(report.region, FaultRegion::Region);
    assert_eq!(m.allocator.fault(start, FaultAccess::Execute), Verdict::Resume);

    m.protect(start, bytes, None).unwrap();
    assert_eq!(m.peek(start), None);
    m.release(start, bytes).unwrap();
}

fn contents<A: TestArch>() {
    let m = machine::<A>();
    // Across the border of two leaf tables, and with a length that is no
    // multiple of a page, as Wasmtime passes it.
    let bytes = 3 * MIB;
    let start = m.allocator.reserve_region(bytes).unwrap();
    m.protect(start, bytes, Some(Access::ReadWrite)).unwrap();
    let border = start.offset(2 * MIB);
    m.poke(VirtAddr(border.0 - 1), 11).unwrap();
    m.poke(border, 22).unwrap();
    for access in [Some(Access::Read), None, Some(Access::ReadExecute), Some(Access::ReadWrite)] {
        m.protect(start, bytes - 1000, access).unwrap();
        let readable = access.is_some();
        assert_eq!(m.peek(VirtAddr(border.0 - 1)), readable.then_some(11));
        assert_eq!(m.peek(border), readable.then_some(22));
    }
    m.release(start, bytes).unwrap();
}

fn unknown<A: TestArch>() {
    let m = machine::<A>();
    let bytes = 3 * MIB;
    let start = m.allocator.reserve_region(bytes).unwrap();
    m.protect(start, bytes, Some(Access::ReadWrite)).unwrap();
    let refuse = |address, bytes| {
        let error = m.protect(address, bytes, Some(Access::Read)).unwrap_err();
        assert_eq!(error, Error::UnknownRange { address, bytes });
    };
    refuse(start.offset(1), PAGE);
    refuse(start, 8 * MIB);
    refuse(start.offset(16 * MIB), PAGE);
    refuse(VirtAddr(start.0 - PAGE as u64), PAGE);
    refuse(start, usize::MAX);
    for (address, bytes) in [(start, 8 * MIB), (start.offset(2 * MIB), MIB), (start.offset(PAGE), bytes)] {
        assert_eq!(m.release(address, bytes), Err(Error::UnknownRange { address, bytes }));
    }
    m.poke(start, 1).expect("the region is still there and writable");
    m.release(start, bytes).unwrap();
    assert_eq!(m.release(start, bytes), Err(Error::UnknownRange { address: start, bytes }));
    assert_eq!(m.peek(start), None);
}

fn exhaustion<A: TestArch>() {
    let m = machine::<A>();
    let before = m.allocator.metrics();
    let bytes = 64 * MIB;
    let start = m.allocator.reserve_region(bytes).unwrap();
    m.protect(start, MIB, Some(Access::ReadWrite)).unwrap();
    m.poke(start, 8).unwrap();
    let middle = m.allocator.metrics();
    let error = m.protect(start, bytes, Some(Access::Read)).unwrap_err();
    assert!(matches!(error, Error::OutOfFrames { needed, available } if needed > available), "{error}");
    assert_eq!(m.allocator.metrics(), middle);
    m.poke(start, 9).expect("the failed call took access away");
    m.release(start, bytes).unwrap();
    assert_eq!(m.allocator.metrics(), before);
    let error = m.allocator.reserve_region(usize::MAX).unwrap_err();
    assert_eq!(error, Error::OutOfAddressSpace { requested: usize::MAX });
}

fn any_order<A: TestArch>() {
    let m = machine::<A>();
    let before = m.allocator.metrics();
    let sizes = [PAGE, 7 * MIB, 2 * MIB, 100 * PAGE, 1];
    // Several rounds, each released in another order: all find room at the
    // same addresses again.
    let mut first_round = None;
    for round in 0..5 {
        let starts = sizes.map(|bytes| m.allocator.reserve_region(bytes).unwrap());
        for (start, bytes) in starts.into_iter().zip(sizes) {
            m.protect(start, bytes.min(PAGE), Some(Access::ReadWrite)).unwrap();
            assert_eq!(m.peek(start), Some(0));
            m.poke(start, 0xfe).unwrap();
        }
        assert_eq!(*first_round.get_or_insert(starts), starts, "round {round} found other addresses");
        for nth in 0..sizes.len() {
            let nth = (nth * 2 + round) % sizes.len();
            m.release(starts[nth], sizes[nth]).unwrap();
        }
        assert_eq!(m.allocator.metrics(), before);
    }
}

fn reset<A: TestArch>() {
    let m = machine::<A>();
    let start = m.allocator.reserve_region(4 * PAGE).unwrap();
    m.protect(start, 4 * PAGE, Some(Access::ReadWrite)).unwrap();
    for page in 0..4 {
        m.poke(start.offset(page * PAGE), 0xfe).unwrap();
    }
    // SAFETY: the test holds no reference into its regions.
    unsafe { m.allocator.reset_region(start.offset(PAGE), 2 * PAGE) }.unwrap();
    assert_eq!(m.peek(start.offset(PAGE)), None);
    m.protect(start, 4 * PAGE, Some(Access::Read)).unwrap();
    let seen = [0, 1, 2, 3].map(|page| m.peek(start.offset(page * PAGE)).unwrap());
    assert_eq!(seen, [0xfe, 0, 0, 0xfe]);
    m.release(start, 4 * PAGE).unwrap();
}
