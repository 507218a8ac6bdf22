//! The images of modules, kept from the day they are made to the module's purge.
//!
//! ```text
//!   prepare_images ──> module 7: [image of memory 0, none of memory 1]
//!                                    |                    ^
//!   allocate_memories ───────────────'                    '── begins with zeros
//!   purge_module ────> gone; instances keep what they show
//! ```

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicUsize, Ordering};

use allotment_arch::Arch;
use spin::mutex::SpinMutex;

use super::{InstanceError, ModuleRuntimeInfo};
use crate::{Allocator, CompiledModuleId, MemoryImage, image::ImageRules};

/// For each memory that a module defines its image; `None` for zeros.
pub(super) type Images<'a, A> = Arc<[Option<MemoryImage<'a, A>>]>;

pub(super) struct ModuleImages<'a, A: Arch> {
    modules: SpinMutex<BTreeMap<CompiledModuleId, Images<'a, A>>>,
    /// How many there are: whoever has none need not lock.
    count: AtomicUsize,
}

impl<A: Arch> Default for ModuleImages<'_, A> {
    fn default() -> Self {
        Self { modules: SpinMutex::new(BTreeMap::new()), count: AtomicUsize::new(0) }
    }
}

impl<'a, A: Arch> ModuleImages<'a, A> {
    /// Makes the images of a module, unless it has them. Whether it has any.
    pub(super) fn prepare(
        &self,
        allocator: &'a Allocator<A>,
        info: &dyn ModuleRuntimeInfo,
    ) -> Result<bool, InstanceError> {
        let Some(id) = info.unique_id().filter(|_| allocator.config.memory_init_cow) else {
            return Ok(false);
        };
        if self.of(Some(id)).is_some() {
            return Ok(true);
        }
        let Some(images) = build(allocator, info)? else { return Ok(false) };
        let mut modules = self.modules.lock();
        // Somebody else may have been faster; his are as good, and in use.
        modules.entry(id).or_insert(images);
        self.count.store(modules.len(), Ordering::Release);
        Ok(true)
    }

    /// The images of that module.
    #[inline]
    pub(super) fn of(&self, module: Option<CompiledModuleId>) -> Option<Images<'a, A>> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.modules.lock().get(&module?).cloned()
    }

    pub(super) fn remove(&self, module: CompiledModuleId) {
        let mut modules = self.modules.lock();
        let images = modules.remove(&module);
        self.count.store(modules.len(), Ordering::Release);
        drop(modules);
        // Without the lock: the last handle looks through the slots.
        drop(images);
    }
}

/// `None` if its segments have to be copied.
fn build<'a, A: Arch>(
    allocator: &'a Allocator<A>,
    info: &dyn ModuleRuntimeInfo,
) -> Result<Option<Images<'a, A>>, InstanceError> {
    let dense = allocator.config.memory_guaranteed_dense_image_size;
    let rules = ImageRules::for_target().guaranteed_dense_image_size(dense);
    let module = info.module();
    let Ok(plan) = module.plan_images(rules, info.wasm_data()) else { return Ok(None) };
    let mut images = Vec::new();
    for (index, _) in module.defined_memories() {
        let memory = index.as_u32();
        let image = plan.extent(memory).map(|extent| {
            allocator.build_image(extent.offset, extent.len, |at, bytes| plan.fill(memory, at, bytes))
        });
        images.push(image.transpose()?);
    }
    Ok(Some(images.into()))
}
