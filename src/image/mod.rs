//! Initial contents of memories: made once, shown by any number of instances.
//!
//! ```text
//!   segments, or bytes in memory ──> MemoryImage ──> allocate_memory_from ──> Memory
//!                                       ^    |                        |
//!                                       |    '── working set <────────'  what instances write
//!                                       '── any number of handles; the last one and the
//!                                           last memory end it, in whichever order
//! ```
//!
//! A memory that shows an image costs the same whatever the image's size: it
//! shares the image's frames, and its page tables too, until it writes. Reading
//! never faults. The first write to a page copies it, in the fault.
//!
//! [`Allocator::capture_memory`](crate::Allocator::capture_memory) makes an image of
//! what a memory shows at that moment, so that others can go on from there.

mod capture;
mod handle;
mod segments;

pub use handle::MemoryImage;
pub use segments::{Extent, ImagePlan, ImageRules, NoImage, Segment};
