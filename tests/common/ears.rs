//! A limiter that writes down what it is asked, and the store that has it.

use alloc::vec::Vec;

use allotment::instance::{InstanceError, LimiterError, ResourceLimiter, Store, StorePointers};

/// What a limiter was asked or told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Memory { current: usize, desired: usize, maximum: Option<usize> },
    Table { current: usize, desired: usize, maximum: Option<usize> },
    MemoryFailed(InstanceError),
    TableFailed(InstanceError),
}

/// A limiter that writes down what it is asked. It allows whatever its limits do.
#[derive(Debug)]
pub struct Ears {
    pub heard: Vec<Heard>,
    /// Most bytes that a memory may have.
    pub memory: usize,
    /// Most elements that a table may have.
    pub table: usize,
    /// How many memories and tables may still be made or grow.
    pub remaining: usize,
    /// What it ends the program with instead of refusing.
    pub error: Option<LimiterError>,
    /// What it ends the program with when it is told of a failure.
    pub failure: Option<LimiterError>,
}

impl Default for Ears {
    fn default() -> Self {
        let most = usize::MAX;
        Self { heard: Vec::new(), memory: most, table: most, remaining: most, error: None, failure: None }
    }
}

impl Ears {
    /// What it heard since it was asked last.
    pub fn take(&mut self) -> Vec<Heard> {
        core::mem::take(&mut self.heard)
    }

    fn decide(&mut self, heard: Heard, within: bool) -> Result<bool, LimiterError> {
        self.heard.push(heard);
        if within && self.remaining > 0 {
            self.remaining -= 1;
            return Ok(true);
        }
        self.error.map_or(Ok(false), Err)
    }

    fn failed(&mut self, heard: Heard) -> Result<(), LimiterError> {
        self.heard.push(heard);
        self.failure.map_or(Ok(()), Err)
    }
}

impl ResourceLimiter for Ears {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool, LimiterError> {
        let within = desired <= self.memory;
        self.decide(Heard::Memory { current, desired, maximum }, within)
    }

    fn memory_grow_failed(&mut self, error: &InstanceError) -> Result<(), LimiterError> {
        self.failed(Heard::MemoryFailed(*error))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool, LimiterError> {
        let within = desired <= self.table;
        self.decide(Heard::Table { current, desired, maximum }, within)
    }

    fn table_grow_failed(&mut self, error: &InstanceError) -> Result<(), LimiterError> {
        self.failed(Heard::TableFailed(*error))
    }
}

/// A store whose limiter writes down what it is asked.
#[derive(Debug, Default)]
pub struct TestStore {
    pub ears: Ears,
    pub pointers: StorePointers,
}

impl Store for TestStore {
    fn limiter(&mut self) -> Option<&mut dyn ResourceLimiter> {
        Some(&mut self.ears)
    }

    fn pointers(&self) -> StorePointers {
        self.pointers
    }
}
