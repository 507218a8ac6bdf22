//! What the memories of a module begin with, as far as that is known without an
//! instance.

use super::{DataSegment, Module, SegmentMode};
use crate::image::{ImagePlan, ImageRules, NoImage, Segment};

impl Module {
    /// The images that the module's active data segments make, where `data` are the
    /// bytes that they are ranges of
    /// ([`ModuleRuntimeInfo::wasm_data`](super::ModuleRuntimeInfo::wasm_data)).
    ///
    /// # Errors
    ///
    /// [`NoImage`] says why it has none. That is no mistake:
    /// [`Instance::initialize`](super::Instance::initialize) copies the segments, or
    /// traps.
    pub fn plan_images<'d>(
        &'d self,
        rules: ImageRules,
        data: &'d [u8],
    ) -> Result<ImagePlan<impl Iterator<Item = Segment<'d>> + Clone>, NoImage> {
        let segments = self.data.values().enumerate();
        let segments = segments.map(move |(number, segment)| self.known_segment(number, segment, data));
        segments.clone().try_for_each(|segment| segment.map(|_| ()))?;
        rules.plan(self.summary().memories, segments.filter_map(|segment| segment.ok().flatten()))
    }

    /// `None` if it is not an active one.
    fn known_segment<'d>(
        &self,
        number: usize,
        segment: &DataSegment,
        data: &'d [u8],
    ) -> Result<Option<Segment<'d>>, NoImage> {
        let SegmentMode::Active(memory, offset) = &segment.mode else { return Ok(None) };
        let Some(defined) = self.defined_memory(*memory) else {
            return Err(NoImage::Imported { segment: number });
        };
        let offset = offset.as_constant().ok_or(NoImage::NotConstant { segment: number })?;
        let wide = self.memories[*memory].memory64;
        let offset =
            if wide { offset.get_i64().cast_unsigned() } else { offset.get_i32().cast_unsigned().into() };
        let (end, available) = (segment.data.end, data.len());
        let missing = NoImage::MissingData { segment: number, end, available };
        let bytes = data.get(segment.data.clone()).ok_or(missing)?;
        Ok(Some(Segment { memory: defined.as_u32(), offset, bytes }))
    }
}
