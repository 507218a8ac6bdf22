//! Tenants that are regions: code, and whatever is no slot's size.

use allotment::{
    Error, FaultAccess,
    arch::{Access, VirtAddr, emulated::Mmu},
};
use arbitrary::{Arbitrary, Result, Unstructured};

use crate::{
    amount::{PAGE, Place},
    contents::Contents,
    ground::{Ground, TABLE},
    input,
    tally::Event,
};

/// Regions at a time.
const MOST: usize = 4;
/// Pages of the largest: more than a table has.
const MOST_PAGES: usize = TABLE + 8;

#[derive(Clone, Debug)]
pub(crate) enum OnRegions {
    /// So many pages, few or about a table full.
    Reserve(u8),
    /// All address space, and more.
    ReserveAll(u64),
    Live(u8, OnRegion),
    /// A range that is no region's, or all of one and more.
    Foreign(u64, u64),
}

impl<'a> Arbitrary<'a> for OnRegions {
    /// Most of what happens, happens to regions that somebody has.
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match bytes.int_in_range(0..=15)? {
            0 | 1 => Self::Reserve(bytes.arbitrary()?),
            2..=13 => Self::Live(bytes.arbitrary()?, bytes.arbitrary()?),
            14 => Self::ReserveAll(bytes.arbitrary()?),
            _ => Self::Foreign(bytes.arbitrary()?, bytes.arbitrary()?),
        })
    }
}

#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum OnRegion {
    Protect(Part, Given),
    Reset(Part),
    Store(Place),
    Load(Place),
    Fetch(Place),
    Guard(u32, input::Access),
    Release,
    /// With another start or size than the reservation's.
    ReleaseOther(i8, i8),
}

/// Pages of a region, near an end or a border between tables.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct Part {
    at: Corner,
    first: u8,
    count: u8,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Corner {
    Start,
    End,
    Border,
}

/// `Option<Access>`, as the fuzzer chooses it.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Given {
    Nothing,
    Read,
    ReadWrite,
    ReadExecute,
}

/// All regions.
#[derive(Default)]
pub(crate) struct Regions {
    live: Vec<Region>,
    /// Bytes of address space for all.
    space: usize,
}

struct Region {
    start: VirtAddr,
    contents: Contents,
    pages: Vec<Page>,
    tables: [bool; MOST_PAGES.div_ceil(TABLE)],
}

#[derive(Clone, Copy, Default)]
struct Page {
    has_frame: bool,
    access: Option<Access>,
}

impl Regions {
    pub(crate) fn new(space: usize) -> Self {
        Self { live: Vec::new(), space }
    }

    pub(crate) fn step<F: Mmu>(&mut self, ground: &mut Ground<'_, F>, operation: &OnRegions) {
        match operation {
            OnRegions::Reserve(pages) => self.reserve(ground, *pages),
            OnRegions::ReserveAll(more) => {
                let requested = self.space.saturating_add(usize::try_from(*more).unwrap_or(usize::MAX));
                let done = ground.allocator.reserve_region(requested);
                match done {
                    Err(Error::OutOfAddressSpace { requested: rounded }) if rounded >= requested => {}
                    Err(Error::OutOfRegions { limit: 0 }) if self.space == 0 => {}
                    other => panic!("{requested:#x} bytes: {other:?}"),
                }
            }
            OnRegions::Live(nth, operation) if !self.live.is_empty() => {
                let nth = usize::from(*nth) % self.live.len();
                self.on_live(ground, nth, operation);
            }
            OnRegions::Live(..) => {}
            OnRegions::Foreign(address, bytes) => self.foreign(ground, *address, *bytes),
        }
    }

    /// Whether this access is some region's right.
    pub(crate) fn allows(&self, address: VirtAddr, access: FaultAccess) -> bool {
        self.live.iter().any(|region| {
            let offset = usize::try_from(address.0.wrapping_sub(region.start.0)).unwrap_or(usize::MAX);
            region.pages.get(offset / PAGE).is_some_and(|page| permits(page.access, access))
        })
    }

    /// Looks at the bytes of all.
    pub(crate) fn inspect<F: Mmu>(&self, ground: &Ground<'_, F>) {
        for region in &self.live {
            for (nth, page) in region.pages.iter().enumerate().filter(|(_, page)| page.access.is_some()) {
                let start = region.start.offset(nth * PAGE);
                assert_eq!(ground.allocator.is_code(start), page.access == Some(Access::ReadExecute));
                ground.inspect(start, region.contents.page(nth));
            }
        }
    }

    /// Releases the last one; `false` if there is none.
    pub(crate) fn end_one<F: Mmu>(&mut self, ground: &mut Ground<'_, F>) -> bool {
        let Some(last) = self.live.len().checked_sub(1) else { return false };
        self.release(ground, last);
        true
    }

    fn reserve<F: Mmu>(&mut self, ground: &Ground<'_, F>, pages: u8) {
        if self.live.len() == MOST {
            return;
        }
        let few = usize::from(pages) % 16;
        let pages = if pages.is_multiple_of(2) { few } else { MOST_PAGES - few };
        let requested = pages * PAGE;
        match ground.allocator.reserve_region(requested) {
            Ok(start) => {
                assert!(self.space > 0, "there is no address space for regions");
                let contents = Contents::new(pages);
                let region = Region {
                    start,
                    contents,
                    pages: vec![Page::default(); pages],
                    tables: Default::default(),
                };
                self.live.push(region);
            }
            Err(error) => {
                assert!(
                    matches!(error, Error::OutOfAddressSpace { .. } | Error::OutOfRegions { .. }),
                    "{error}"
                );
                assert_eq!(self.space, 0, "{error}");
            }
        }
    }

    fn on_live<F: Mmu>(&mut self, ground: &mut Ground<'_, F>, nth: usize, operation: &OnRegion) {
        let region = &mut self.live[nth];
        let bytes = region.contents.bytes();
        match *operation {
            OnRegion::Protect(part, given) => {
                let (first, count) = region.part(part);
                region.protect(ground, first, count, given.access());
            }
            OnRegion::Reset(part) => {
                let (first, count) = region.part(part);
                region.reset(ground, first, count);
            }
            OnRegion::Store(place) => region.store(ground, place.of(bytes)),
            OnRegion::Load(place) => region.load(ground, place.of(bytes)),
            OnRegion::Fetch(place) => region.fetch(ground, place.of(bytes)),
            OnRegion::Guard(distance, access) => {
                let guard = region.tables_bytes() + distance as usize % (TABLE * PAGE);
                let _ = ground.refuse(region.start.offset(guard), access.into());
            }
            OnRegion::Release => self.release(ground, nth),
            OnRegion::ReleaseOther(start, size) => {
                let address = VirtAddr(region.start.0.wrapping_add_signed(i64::from(start) * PAGE as i64));
                let other = bytes.saturating_add_signed(isize::from(size) * (TABLE * PAGE) as isize);
                if start == 0 && region.granules(other) == region.granules(bytes) {
                    return;
                }
                // SAFETY: it is no reservation, or another one's end.
                let done = unsafe { ground.allocator.release_region(address, other) };
                assert_eq!(done, Err(Error::UnknownRange { address, bytes: other }));
            }
        }
    }

    fn release<F: Mmu>(&mut self, ground: &mut Ground<'_, F>, nth: usize) {
        let region = self.live.swap_remove(nth);
        // SAFETY: the region is the model's, and nobody is there.
        let done = unsafe { ground.allocator.release_region(region.start, region.contents.bytes()) };
        assert_eq!(done, Ok(()));
        ground.free += region.frames();
    }

    /// Ranges that lie in no region are refused, whatever is asked.
    fn foreign<F: Mmu>(&self, ground: &Ground<'_, F>, address: u64, bytes: u64) {
        let address = VirtAddr(address);
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let reserved = |region: &Region| {
            let offset = address.0.wrapping_sub(region.start.0);
            offset <= (region.tables_bytes() + TABLE * PAGE) as u64
        };
        if self.live.iter().any(reserved) {
            return;
        }
        let unknown = Err(Error::UnknownRange { address, bytes });
        // SAFETY: nobody is there.
        let done = unsafe { ground.allocator.protect_region(address, bytes, Some(Access::ReadWrite)) };
        assert_eq!(done, unknown);
        // SAFETY: nobody is there.
        assert_eq!(unsafe { ground.allocator.reset_region(address, bytes) }, unknown);
        // SAFETY: nobody is there.
        assert_eq!(unsafe { ground.allocator.release_region(address, bytes) }, unknown);
    }
}

impl Region {
    fn part(&self, part: Part) -> (usize, usize) {
        let pages = self.pages.len();
        let at = match part.at {
            Corner::Start => 0,
            Corner::End => pages.saturating_sub(4),
            Corner::Border => TABLE.min(pages).saturating_sub(2),
        };
        (at + usize::from(part.first) % 5, usize::from(part.count) % 8)
    }

    /// Bytes that its tables cover: then comes its guard.
    fn tables_bytes(&self) -> usize {
        self.contents.bytes().next_multiple_of(TABLE * PAGE)
    }

    /// Tables that a region of so many bytes has.
    fn granules(&self, bytes: usize) -> usize {
        bytes.div_ceil(TABLE * PAGE)
    }

    /// Whether a range of pages lies before the region's guard.
    fn holds(&self, first: usize, count: usize) -> bool {
        (first + count) * PAGE <= self.tables_bytes()
    }

    /// Frames that it has, tables included.
    fn frames(&self) -> usize {
        let pages = self.pages.iter().filter(|page| page.has_frame).count();
        pages + self.tables.iter().filter(|&&table| table).count()
    }

    fn protect<F: Mmu>(
        &mut self,
        ground: &mut Ground<'_, F>,
        first: usize,
        count: usize,
        access: Option<Access>,
    ) {
        let inside = first + count <= self.pages.len();
        // A region ends with its last table, not with its last page; what lies
        // between is not in the model.
        if !inside && self.holds(first, count) {
            return;
        }
        let (address, bytes) = (self.start.offset(first * PAGE), count * PAGE);
        // SAFETY: the region is the model's, and nobody is there.
        let done = unsafe { ground.allocator.protect_region(address, bytes, access) };
        if !inside {
            return assert_eq!(done, Err(Error::UnknownRange { address, bytes }));
        }
        let pages = &mut self.pages[first..first + count];
        if access.is_none() {
            pages.iter_mut().for_each(|page| page.access = None);
            return assert_eq!(done, Ok(()));
        }
        let frames = pages.iter().filter(|page| !page.has_frame).count();
        let touched = |nth: usize| count > 0 && (first / TABLE..=(first + count - 1) / TABLE).contains(&nth);
        let missing = (0..self.tables.len()).filter(|&nth| touched(nth) && !self.tables[nth]).count();
        let needed = frames + missing;
        match done {
            Ok(()) if needed <= ground.free => {
                ground.free -= needed;
                for (nth, table) in self.tables.iter_mut().enumerate() {
                    *table |= touched(nth);
                }
                pages.fill(Page { has_frame: true, access });
                ground.tally.note(Event::Region);
            }
            Err(Error::OutOfFrames { .. }) if needed > ground.free => {
                ground.tally.note(Event::RegionOutOfFrames);
            }
            other => panic!("{needed} frames, of {} free: {other:?}", ground.free),
        }
    }

    fn reset<F: Mmu>(&mut self, ground: &Ground<'_, F>, first: usize, count: usize) {
        let (address, bytes) = (self.start.offset(first * PAGE), count * PAGE);
        // SAFETY: the region is the model's, and nobody is there.
        let done = unsafe { ground.allocator.reset_region(address, bytes) };
        if !self.holds(first, count) {
            return assert_eq!(done, Err(Error::UnknownRange { address, bytes }));
        }
        assert_eq!(done, Ok(()));
        for nth in first..self.pages.len().min(first + count) {
            self.pages[nth].access = None;
            self.contents.erase(nth);
        }
    }

    fn store<F: Mmu>(&mut self, ground: &Ground<'_, F>, at: usize) {
        let mark = ground.mark();
        let done = ground.store(self.start.offset(at), &[mark]).is_ok();
        assert_eq!(done, self.permits(at, FaultAccess::Write), "a store at {at:#x} of a region");
        if done {
            self.contents.store(at, mark);
        }
    }

    fn load<F: Mmu>(&self, ground: &Ground<'_, F>, at: usize) {
        let mut byte = [0];
        let done = ground.load(self.start.offset(at), &mut byte).is_ok();
        assert_eq!(done, self.permits(at, FaultAccess::Read), "a load at {at:#x} of a region");
        self.reads(at, done.then_some(byte[0]));
    }

    fn fetch<F: Mmu>(&self, ground: &Ground<'_, F>, at: usize) {
        let done = ground.fetch(self.start.offset(at)).ok();
        assert_eq!(done.is_some(), self.permits(at, FaultAccess::Execute), "a fetch at {at:#x} of a region");
        self.reads(at, done);
    }

    fn reads(&self, at: usize, real: Option<u8>) {
        if let Some(real) = real {
            assert_eq!(real, self.contents.page(at / PAGE)[at % PAGE], "byte {at:#x} of a region");
        }
    }

    fn permits(&self, at: usize, access: FaultAccess) -> bool {
        self.pages.get(at / PAGE).is_some_and(|page| permits(page.access, access))
    }
}

impl Given {
    fn access(self) -> Option<Access> {
        match self {
            Self::Nothing => None,
            Self::Read => Some(Access::Read),
            Self::ReadWrite => Some(Access::ReadWrite),
            Self::ReadExecute => Some(Access::ReadExecute),
        }
    }
}

fn permits(given: Option<Access>, access: FaultAccess) -> bool {
    match access {
        FaultAccess::Read => given.is_some(),
        FaultAccess::Write => given == Some(Access::ReadWrite),
        FaultAccess::Execute => given == Some(Access::ReadExecute),
    }
}
