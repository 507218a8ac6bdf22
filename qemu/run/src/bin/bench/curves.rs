//! Curves: what a memory's life costs over how much of it is written, and over how large it is.
//!
//! ```text
//!   row curve-NAME/SERIES/X COUNT        a point of `docs/performance/NAME.svg`
//! ```

use core::{
    fmt, ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

use allotment::{
    Allocator, Backing, CompiledModuleId, Config, FaultAccess, Memory, MemoryImage, MemoryRequest, Verdict,
    arch::{PAGE_SIZE, VirtAddr},
};
use kernel::{
    BootInfo,
    exception::{Access, set_resolver},
};

use crate::{
    count::{average_of, row},
    group::{Group, group},
    pools::{MIB, carve, parts, pool},
};

/// Over the pages that are written.
const DIRTY_PAGES: Curve =
    Curve { name: "dirty-pages", series: &["zeros", "image"], at: &[0, 1, 2, 4, 8, 16, 32, 64, 128] };

/// Over the bytes of an image that is all of the memory.
const IMAGE_SIZE: Curve = Curve {
    name: "image-size",
    series: &["image"],
    at: &[MIB / 16, MIB / 4, MIB, 4 * MIB, 16 * MIB, 64 * MIB],
};

/// Over the bytes of the memory, up to what a quarter of the machine holds.
const MEMORY_SIZE: Curve = Curve {
    name: "memory-size",
    series: &["zeros"],
    at: &[MIB / 16, MIB / 4, MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB, 1024 * MIB],
};

/// Pages that are written where that does not vary.
const WRITTEN: usize = 16;

pub(crate) const GROUPS: &[Group] = &[
    group("curve-dirty-pages", true, &[], dirty_pages).curve(&DIRTY_PAGES),
    group("curve-image-size", false, &[], image_size).curve(&IMAGE_SIZE),
    group("curve-memory-size", false, &[], memory_size).curve(&MEMORY_SIZE),
];

/// One picture: some series, each with a point at the same places.
#[derive(Debug)]
pub(crate) struct Curve {
    name: &'static str,
    /// What the points of a series have in common, beside the place.
    series: &'static [&'static str],
    /// Places on the horizontal axis.
    at: &'static [usize],
}

/// Shown as the name of its row.
pub(crate) struct Point {
    curve: &'static str,
    series: &'static str,
    at: usize,
}

fn dirty_pages(boot: &'static BootInfo) {
    let allocator = &allocator(boot, MIB, 256 * MIB);
    with_faults_answered(allocator, || {
        let image = &image(allocator, MIB, MIB);
        DIRTY_PAGES.count(|series, pages| match series {
            "zeros" => steady(|| live(allocator, zeros(allocator, MIB), pages)),
            _ => steady(|| live(allocator, showing(allocator, image, MIB), pages)),
        });
    });
}

fn image_size(boot: &'static BootInfo) {
    let allocator = &allocator(boot, 64 * MIB, 1024 * MIB);
    with_faults_answered(allocator, || {
        IMAGE_SIZE.count(|_, bytes| {
            let image = &image(allocator, bytes, bytes);
            steady(|| live(allocator, showing(allocator, image, bytes), WRITTEN))
        });
    });
}

fn memory_size(boot: &'static BootInfo) {
    let allocator = &allocator(boot, 1024 * MIB, 1280 * MIB);
    with_faults_answered(allocator, || {
        MEMORY_SIZE.count(|_, bytes| steady(|| live(allocator, zeros(allocator, bytes), WRITTEN)));
    });
}

/// One slot for memories of at most so many bytes, which owns all of its frames, in an arena of so many.
pub(crate) fn allocator(boot: &BootInfo, bytes: usize, arena: usize) -> Allocator {
    let pool = pool(1).max_memory_size(bytes).backing(Backing::Fixed);
    let part = parts(boot, &[arena]).next().expect("a part");
    carve(part, &Config::new().region_space(1 << 30).allocation_strategy(pool))
}

/// A memory without image; of one module, whatever its size.
fn zeros(allocator: &Allocator, bytes: usize) -> Memory<'_> {
    let request = MemoryRequest::new(bytes).module(CompiledModuleId(1), 0);
    allocator.allocate_memory(request).expect("a slot")
}

/// An image of so many bytes, of which every second page is data.
pub(crate) fn image(allocator: &Allocator, bytes: usize, data: usize) -> MemoryImage<'_> {
    let fill = |offset: usize, page: &mut [u8; PAGE_SIZE]| {
        if offset < data && (offset / PAGE_SIZE).is_multiple_of(2) {
            page.fill(7);
        }
    };
    allocator.build_image(0, bytes, fill).expect("frames for an image")
}

/// A memory that shows an image.
pub(crate) fn showing<'a>(allocator: &'a Allocator, image: &MemoryImage<'_>, bytes: usize) -> Memory<'a> {
    let request = MemoryRequest::new(bytes).module(CompiledModuleId(1), 0);
    allocator.allocate_memory_from(image, request).expect("a slot")
}

/// The rest of a memory's life: so many pages are written, from the first on, and it is given back.
fn live(allocator: &Allocator, memory: Memory<'_>, pages: usize) {
    assert!(pages * PAGE_SIZE <= memory.size(), "more pages than the memory has");
    for page in 0..pages {
        let place = memory.base().as_ptr().wrapping_add(page * PAGE_SIZE);
        // SAFETY: nobody else has the memory, and the page lies in it.
        unsafe { place.write_volatile(1) };
    }
    allocator.deallocate_memory(memory);
}

/// Instructions of an operation that was done often enough to cost the same each time. Few rounds: the
/// largest memory takes millions.
fn steady(mut operation: impl FnMut()) -> u64 {
    (0..10).for_each(|_| operation());
    average_of(32, operation)
}

impl Curve {
    /// All points, in the order in which they are counted.
    pub(crate) fn points(&self) -> impl Iterator<Item = Point> {
        let point = move |series| self.at.iter().map(move |&at| Point { curve: self.name, series, at });
        self.series.iter().copied().flat_map(point)
    }

    /// Counts every point, by its series and its place, and says what it is.
    fn count(&self, mut counted: impl FnMut(&str, usize) -> u64) {
        for point in self.points() {
            let (series, at) = (point.series, point.at);
            row(point, || counted(series, at));
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "curve-{}/{}/{}", self.curve, self.series, self.at)
    }
}

/// Who answers faults; null for nobody.
static ALLOCATOR: AtomicPtr<Allocator> = AtomicPtr::new(ptr::null_mut());

/// A first write may fault, which is then part of what is counted.
pub(crate) fn with_faults_answered(allocator: &Allocator, count: impl FnOnce()) {
    ALLOCATOR.store(ptr::from_ref(allocator).cast_mut(), Ordering::Relaxed);
    set_resolver(resolve);
    count();
    ALLOCATOR.store(ptr::null_mut(), Ordering::Relaxed);
}

extern "C" fn resolve(addr: u64, access: Access) -> bool {
    // SAFETY: null, or `with_faults_answered` has borrowed it.
    let allocator = unsafe { ALLOCATOR.load(Ordering::Relaxed).as_ref() };
    let access = match access {
        Access::Read => FaultAccess::Read,
        Access::Write => FaultAccess::Write,
        Access::Execute => FaultAccess::Execute,
    };
    allocator.is_some_and(|allocator| allocator.fault(VirtAddr(addr), access) == Verdict::Resume)
}
