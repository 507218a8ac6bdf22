//! Operands and frames of the program that runs. They are the interpreter's own
//! and bounded, so that no recursion of wasm's is one of the host's.
//!
//! ```text
//!   slots    | locals | operands | locals | operands ...      MOST_SLOTS
//!            ^ base of frame 0   ^ base of frame 1
//! ```

use alloc::vec::Vec;

use crate::{
    InstanceId, Trap,
    code::{Function, Target},
};

/// Operands and locals of all frames.
pub const MOST_SLOTS: usize = 1 << 16;
/// Calls within calls.
pub const MOST_FRAMES: usize = 1 << 13;

#[derive(Default)]
pub(crate) struct Stack {
    slots: Vec<u64>,
    frames: Vec<Frame>,
}

/// A call that has not returned.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) instance: InstanceId,
    /// Which of the functions that its module defines.
    pub(crate) function: usize,
    /// The next instruction.
    pub(crate) next: usize,
    pub(crate) base: usize,
}

impl Stack {
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
        self.frames.clear();
    }

    /// Begins a call, whose arguments are on top.
    pub(crate) fn enter(
        &mut self,
        instance: InstanceId,
        number: usize,
        function: &Function,
    ) -> Result<(), Trap> {
        let base = self.slots.len().saturating_sub(function.params);
        if base + function.most > MOST_SLOTS || self.frames.len() == MOST_FRAMES {
            return Err(Trap::StackExhausted);
        }
        self.slots.resize(base + function.locals, 0);
        self.frames.push(Frame { instance, function: number, next: 0, base });
        Ok(())
    }

    /// Ends the innermost call, with so many results on top.
    pub(crate) fn leave(&mut self, results: usize) {
        if let Some(frame) = self.frames.pop() {
            self.settle(frame.base, results);
        }
    }

    /// The innermost call.
    pub(crate) fn frame(&mut self) -> Option<&mut Frame> {
        self.frames.last_mut()
    }

    /// Leaves of the operands what a branch keeps.
    pub(crate) fn branch(&mut self, base: usize, target: Target) -> usize {
        self.settle(base + target.height as usize, target.keep as usize);
        target.to as usize
    }

    /// Moves the `keep` uppermost slots down to `height`.
    fn settle(&mut self, height: usize, keep: usize) {
        let from = self.slots.len().saturating_sub(keep);
        if from > height {
            self.slots.copy_within(from.., height);
            self.slots.truncate(height + keep);
        }
    }

    pub(crate) fn slots(&self) -> &[u64] {
        &self.slots
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.slots.truncate(len);
    }

    pub(crate) fn push(&mut self, slot: u64) {
        self.slots.push(slot);
    }

    /// Valid code never takes what is not there.
    pub(crate) fn pop(&mut self) -> u64 {
        self.slots.pop().unwrap_or_default()
    }

    /// Three operands, the last one from the top.
    pub(crate) fn pop3(&mut self) -> [u64; 3] {
        let (third, second, first) = (self.pop(), self.pop(), self.pop());
        [first, second, third]
    }

    pub(crate) fn local(&mut self, at: usize) -> &mut u64 {
        &mut self.slots[at]
    }
}
