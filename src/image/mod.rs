//! Initial images: what memories begin with.

mod segments;

pub use segments::{Extent, ImagePlan, ImageRules, NoImage, Segment};
