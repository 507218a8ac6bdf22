//! Who is asked before anything is made or grows.

use core::fmt;

use super::InstanceError;

/// Decides over memories, tables and GC heaps of a store: asked before each is made
/// or grows, and told when growth that it allowed failed. The
/// [book](super#who-limits) has an example.
///
/// Sizes are bytes of memories and elements of tables. `maximum` is what the
/// type declares. It is asked also for what could not be given anyway: where there
/// is no number for `desired`, that is `usize::MAX`. It is not asked for growth
/// by 0.
pub trait ResourceLimiter {
    /// Whether a memory of `current` bytes may have `desired`. `current` is 0 for
    /// one that is about to be made.
    ///
    /// # Errors
    ///
    /// An error ends the program instead of having the growth fail.
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool, LimiterError>;

    /// Growth that was allowed failed for this reason, and wasm is about to be told
    /// -1.
    ///
    /// # Errors
    ///
    /// An error ends the program instead.
    fn memory_grow_failed(&mut self, error: &InstanceError) -> Result<(), LimiterError> {
        let _ = error;
        Ok(())
    }

    /// Whether a table of `current` elements may have `desired`. `current` is 0 for
    /// one that is about to be made.
    ///
    /// # Errors
    ///
    /// As for [`memory_growing`](Self::memory_growing).
    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool, LimiterError>;

    /// As [`memory_grow_failed`](Self::memory_grow_failed), of a table.
    ///
    /// # Errors
    ///
    /// An error ends the program instead.
    fn table_grow_failed(&mut self, error: &InstanceError) -> Result<(), LimiterError> {
        let _ = error;
        Ok(())
    }
}

/// Why a limiter ends a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimiterError(pub &'static str);

impl fmt::Display for LimiterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for LimiterError {}
