//! `wasmtime::CustomCodeMemory` over the platform's [code](super::code).

use alloc::sync::Arc;
use core::ptr::NonNull;

use allotment_arch::PAGE_SIZE;
use wasmtime::{Config, CustomCodeMemory};

use super::{Platform, PlatformError};

/// Has `config` publish code by [`Platform::publish_code`], so that
/// `Module::deserialize_raw` and `Component::deserialize_raw` use what they are given where it
/// is. `deserialize` goes on as before.
pub fn configure_code_memory(config: &mut Config, platform: &'static Platform) {
    config.with_custom_code_memory(Some(Arc::new(CodeMemory(platform))));
}

/// A platform's code, as Wasmtime publishes it: what [`configure_code_memory`] sets.
#[derive(Clone, Copy, Debug)]
pub struct CodeMemory(pub &'static Platform);

impl CustomCodeMemory for CodeMemory {
    fn required_alignment(&self) -> usize {
        PAGE_SIZE
    }

    fn publish_executable(&self, ptr: *const u8, len: usize) -> wasmtime::Result<()> {
        // SAFETY: Wasmtime publishes the text of a module that it was given as one, and that
        // nobody writes.
        with_start(ptr, |start| unsafe { self.0.publish_code(start, len) })
    }

    fn unpublish_executable(&self, ptr: *const u8, len: usize) -> wasmtime::Result<()> {
        // SAFETY: Wasmtime promises that no code runs there meanwhile.
        with_start(ptr, |start| unsafe { self.0.unpublish_code(start, len) })
    }
}

fn with_start(
    start: *const u8,
    edit: impl FnOnce(NonNull<u8>) -> Result<(), PlatformError>,
) -> wasmtime::Result<()> {
    // At address 0 there is no module.
    NonNull::new(start.cast_mut()).map_or(Ok(()), edit)?;
    Ok(())
}
