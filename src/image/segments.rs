//! From a module's active data segments to the images of its memories: by Wasmtime's
//! rules, without a heap, in one look at each byte.
//!
//! ```text
//!   memory     0 ................................................ minimum
//!   segments         |000abc|         |defg|      |hi0000|
//!   span             |<--------------------------------->|     < twice the data, or < 16 MiB
//!   not zero             |<-------------------------->|
//!   extent         |  page  |  page  |  page  |  page  |       whole pages, one run
//! ```
//!
//! A module has either images that hold all of its active segments, or none: where
//! one segment has to be copied, or to trap, those after it have to wait for it.

use core::fmt;

use crate::MemorySummary;

/// Most memories that a module with images defines: as many as Wasmtime's validator
/// lets through. Each is looked for in all segments.
const MOST_MEMORIES: usize = 100;

/// An active data segment at a constant offset, of a memory that its module defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'d> {
    /// Which of the memories that the module defines, counted from 0.
    pub memory: u32,
    /// Where it goes, in bytes.
    pub offset: u64,
    /// What it holds.
    pub bytes: &'d [u8],
}

/// What of a memory its image covers. Multiples of
/// [`ImageRules::page_size`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins, in bytes.
    pub offset: usize,
    /// Bytes in it; never 0.
    pub len: usize,
}

/// When a module has images, and to what they are aligned.
///
/// ```ignore-none
/// use allotment::{MemorySummary, image::{Extent, ImageRules, NoImage, Segment}};
///
/// let memories = [MemorySummary { minimum_pages: 1, page_size_log2: 16, shared: false }];
/// let hello = Segment { memory: 0, offset: 5000, bytes: b"hello" };
/// let plan = ImageRules::X86_64.plan(&memories, [hello].into_iter())?;
/// assert_eq!(plan.extent(0), Some(Extent { offset: 4096, len: 4096 }));
///
/// let mut page = [0xff; 4096];
/// plan.fill(0, 4096, &mut page);
/// assert_eq!(page[5000 - 4096..][..6], *b"hello\0");
/// # Ok::<(), NoImage>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct ImageRules {
    page_size: usize,
    guaranteed_dense_image_size: usize,
}

impl ImageRules {
    /// Wasmtime's for x86_64: 4 KiB.
    pub const X86_64: Self = Self { page_size: 4 << 10, guaranteed_dense_image_size: 16 << 20 };
    /// Wasmtime's for aarch64: 64 KiB, the largest page that such a CPU may have.
    pub const AARCH64: Self = Self { page_size: 64 << 10, ..Self::X86_64 };

    /// Those of the CPU that this is compiled for.
    pub const fn for_target() -> Self {
        if cfg!(target_arch = "aarch64") { Self::AARCH64 } else { Self::X86_64 }
    }

    /// Bytes from a memory's first data to its last below which any image is made:
    /// [`Config::memory_guaranteed_dense_image_size`](crate::Config::memory_guaranteed_dense_image_size),
    /// 16 MiB unless told otherwise.
    pub const fn guaranteed_dense_image_size(mut self, bytes: usize) -> Self {
        self.guaranteed_dense_image_size = bytes;
        self
    }

    /// What images begin and end at, in bytes. A power of two.
    #[must_use]
    pub const fn page_size(&self) -> usize {
        self.page_size
    }

    /// The images of a module with these memories, without imports, and these
    /// segments: all of its active ones, in their order.
    ///
    /// # Errors
    ///
    /// [`NoImage`] says why the module has none. Its segments have to be copied, one
    /// after the other, whenever it is instantiated.
    pub fn plan<'d, I>(self, memories: &[MemorySummary], segments: I) -> Result<ImagePlan<I>, NoImage>
    where
        I: Iterator<Item = Segment<'d>> + Clone,
    {
        if memories.len() > MOST_MEMORIES {
            return Err(NoImage::TooManyMemories { count: memories.len(), limit: MOST_MEMORIES });
        }
        segments.clone().try_for_each(|segment| check_bounds(memories, segment))?;
        let plan = ImagePlan { page_size: self.page_size, segments };
        for (number, memory) in (0..).zip(memories) {
            if let Some(data) = plan.data(number) {
                self.check_pages(number, memory)?;
                self.check_density(number, data)?;
            }
        }
        Ok(plan)
    }

    /// An image of whole pages would reach beyond a memory of smaller ones.
    fn check_pages(&self, memory: u32, summary: &MemorySummary) -> Result<(), NoImage> {
        let page_size = 1u64.checked_shl(summary.page_size_log2.into()).unwrap_or(u64::MAX);
        let limit = self.page_size;
        if page_size < limit as u64 {
            return Err(NoImage::SmallPages { memory, page_size, limit });
        }
        Ok(())
    }

    /// An image is as large as its span, however little of that is data.
    fn check_density(&self, memory: u32, Data { span, len }: Data) -> Result<(), NoImage> {
        let limit = self.guaranteed_dense_image_size;
        if span < len.saturating_mul(2) || span < limit as u64 {
            return Ok(());
        }
        Err(NoImage::Sparse { memory, span, data: len, limit })
    }
}

/// An empty segment too traps where it does not fit.
fn check_bounds(memories: &[MemorySummary], segment: Segment<'_>) -> Result<(), NoImage> {
    let Segment { memory, offset, bytes } = segment;
    let count = memories.len();
    let summary = usize::try_from(memory).ok().and_then(|number| memories.get(number));
    let &MemorySummary { minimum_pages, page_size_log2, .. } =
        summary.ok_or(NoImage::NoMemory { memory, count })?;
    let minimum = 1u64.checked_shl(page_size_log2.into()).and_then(|page| page.checked_mul(minimum_pages));
    let minimum = minimum.filter(|&bytes| usize::try_from(bytes).is_ok());
    let minimum = minimum.ok_or(NoImage::Unrepresentable { memory, minimum_pages, page_size_log2 })?;
    match offset.checked_add(bytes.len() as u64) {
        Some(end) if end <= minimum => Ok(()),
        _ => Err(NoImage::OutOfBounds { memory, offset, len: bytes.len(), minimum }),
    }
}

/// The data of one memory. Bytes.
struct Data {
    /// From the first to the last of its segments, zeros included.
    span: u64,
    /// Of all of them together: twice, where one lies above another.
    len: u64,
}

/// The images of a module, as its segments describe them: [`ImageRules::plan`].
#[derive(Clone, Debug)]
pub struct ImagePlan<I> {
    page_size: usize,
    segments: I,
}

impl<'d, I: Iterator<Item = Segment<'d>> + Clone> ImagePlan<I> {
    /// What the image of a memory covers. `None` if the memory begins with zeros.
    ///
    /// A byte that a segment sets and a later one clears counts as set.
    #[must_use]
    pub fn extent(&self, memory: u32) -> Option<Extent> {
        let is_set = |&byte: &u8| byte != 0;
        let (mut start, mut end) = (u64::MAX, 0);
        for Segment { offset, bytes, .. } in self.segments(memory) {
            let Some(first) = bytes.iter().position(is_set) else { continue };
            let last = bytes.iter().rposition(is_set).unwrap_or(first);
            start = start.min(offset.saturating_add(first as u64));
            end = end.max(offset.saturating_add(last as u64 + 1));
        }
        if start >= end {
            return None;
        }
        // No further than the memory reaches: it consists of such pages.
        let page = self.page_size as u64;
        let (start, end) = (start - start % page, end.checked_next_multiple_of(page)?);
        Some(Extent { offset: usize::try_from(start).ok()?, len: usize::try_from(end - start).ok()? })
    }

    /// Fills `into` with what a memory begins with from byte `offset` on: its
    /// segments, of which later ones overwrite earlier ones, and zeros between them.
    pub fn fill(&self, memory: u32, offset: usize, into: &mut [u8]) {
        into.fill(0);
        for segment in self.segments(memory) {
            let offset = offset as u64;
            let (skip, from) = (segment.offset.saturating_sub(offset), offset.saturating_sub(segment.offset));
            let to = usize::try_from(skip).ok().and_then(|skip| into.get_mut(skip..));
            let bytes = usize::try_from(from).ok().and_then(|from| segment.bytes.get(from..));
            if let (Some(to), Some(bytes)) = (to, bytes) {
                let len = to.len().min(bytes.len());
                to[..len].copy_from_slice(&bytes[..len]);
            }
        }
    }

    /// `None` if there is nothing in its segments.
    fn data(&self, memory: u32) -> Option<Data> {
        let (mut start, mut end, mut len) = (u64::MAX, 0, 0u64);
        for Segment { offset, bytes, .. } in self.segments(memory).filter(|segment| !segment.bytes.is_empty())
        {
            let bytes = bytes.len() as u64;
            start = start.min(offset);
            end = end.max(offset.saturating_add(bytes));
            len = len.saturating_add(bytes);
        }
        (len > 0).then(|| Data { span: end.saturating_sub(start), len })
    }

    /// The segments of a memory, in their order.
    pub fn segments(&self, memory: u32) -> impl Iterator<Item = Segment<'d>> + Clone {
        self.segments.clone().filter(move |segment| segment.memory == memory)
    }
}

/// Why a module has no images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoImage {
    /// A segment goes to a memory that the module imports: what is in it is its
    /// owner's.
    Imported {
        /// Which segment.
        segment: usize,
    },
    /// Where a segment goes is known once there is an instance.
    NotConstant {
        /// Which segment.
        segment: usize,
    },
    /// A segment has bytes that the engine does not have. It traps.
    MissingData {
        /// Which segment.
        segment: usize,
        /// Where it ends in the engine's bytes.
        end: usize,
        /// How many there are.
        available: usize,
    },
    /// A segment goes to a memory that is not there.
    NoMemory {
        /// Which, among those that the module defines.
        memory: u32,
        /// How many it defines.
        count: usize,
    },
    /// The module defines more memories than are looked at.
    TooManyMemories {
        /// Memories that it defines.
        count: usize,
        /// How many are looked at.
        limit: usize,
    },
    /// The minimum of a memory with segments is more bytes than addresses can name.
    Unrepresentable {
        /// Which, among those that the module defines.
        memory: u32,
        /// Pages that it begins with.
        minimum_pages: u64,
        /// Logarithm of its page size in bytes.
        page_size_log2: u8,
    },
    /// A segment does not fit the memory. It traps.
    OutOfBounds {
        /// Which memory, among those that the module defines.
        memory: u32,
        /// Where the segment goes, in bytes.
        offset: u64,
        /// Bytes in it.
        len: usize,
        /// Bytes that the memory begins with.
        minimum: u64,
    },
    /// A memory with data has smaller pages than its image would have.
    SmallPages {
        /// Which, among those that the module defines.
        memory: u32,
        /// Bytes of its pages.
        page_size: u64,
        /// [`ImageRules::page_size`].
        limit: usize,
    },
    /// There is too little data for an image that large.
    Sparse {
        /// Which memory, among those that the module defines.
        memory: u32,
        /// Bytes from its first data to its last.
        span: u64,
        /// Bytes that are data.
        data: u64,
        /// Bytes below which any image is made.
        limit: usize,
    },
}

impl fmt::Display for NoImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Imported { segment } => {
                write!(
                    f,
                    "data segment {segment} goes to an imported memory; define the memory, or copy the data"
                )
            }
            Self::NotConstant { segment } => write!(
                f,
                "the offset of data segment {segment} is no constant; link the module at a fixed address, or copy the data"
            ),
            Self::MissingData { segment, end, available } => write!(
                f,
                "data segment {segment} ends at byte {end} of the module's data, which has {available}; hand over all of it"
            ),
            Self::NoMemory { memory, count } => {
                write!(
                    f,
                    "a data segment goes to memory {memory}, there are {count}; describe all that is named"
                )
            }
            Self::TooManyMemories { count, limit } => {
                write!(f, "the module defines {count} memories, images are made for {limit}; define fewer")
            }
            Self::Unrepresentable { memory, minimum_pages, page_size_log2 } => write!(
                f,
                "a minimum of {minimum_pages} pages of 2^{page_size_log2} bytes of memory {memory} has no size in bytes; lower it"
            ),
            Self::OutOfBounds { memory, offset, len, minimum } => write!(
                f,
                "{len:#x} bytes of data at {offset:#x} end after memory {memory}, which begins with {minimum:#x} bytes; raise its minimum"
            ),
            Self::SmallPages { memory, page_size, limit } => write!(
                f,
                "memory {memory} has pages of {page_size:#x} bytes, an image has pages of {limit:#x} bytes; use pages of 64 KiB"
            ),
            Self::Sparse { memory, span, data, limit } => write!(
                f,
                "the data of memory {memory} is {data:#x} bytes that span {span:#x}, at least twice as many and no less than {limit:#x}; \
                 raise memory_guaranteed_dense_image_size"
            ),
        }
    }
}

impl core::error::Error for NoImage {}
