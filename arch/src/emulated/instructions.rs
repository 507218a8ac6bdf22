//! The instructions that invalidate, for whoever runs them: the machine itself,
//! or a test that does it wrong.

use super::{Emulated, Mmu, state::State};
use crate::{Arch, Invalidation, PAGE_SIZE, Scope};

/// One CPU's instructions: those of
/// [`x86_64`](crate::x86_64::invalidate::Instructions) or
/// [`aarch64`](crate::aarch64::invalidate::Instructions), read from their
/// operands as the CPU does.
#[derive(Debug)]
pub struct Instructions<'a, F> {
    pub(super) machine: &'a Emulated<F>,
    pub(super) cpu: usize,
}

impl<F: Mmu> Instructions<'_, F> {
    /// Runs one instruction, with whatever the other CPUs do before and after.
    pub(super) fn run(&self, instruction: impl FnOnce(&mut State)) {
        self.machine.with(|state| {
            self.machine.hook(state, 1);
            instruction(state);
        });
    }
}

impl<F: Mmu> Emulated<F> {
    /// The instructions of the CPU that runs this.
    #[must_use]
    pub fn instructions(&self) -> Instructions<'_, F> {
        Instructions { machine: self, cpu: self.current_cpu() }
    }

    pub(super) fn invalidate(&self, what: Invalidation, everywhere: bool) {
        if what.is_nothing() {
            return;
        }
        self.with(|state| {
            if everywhere {
                state.invalidations.everywhere += 1;
            } else {
                state.invalidations.local += 1;
            }
            if let Scope::Pages(pages) = what.scope() {
                let nth = state.random.below(pages.count);
                state.learn(pages.start.offset(nth * PAGE_SIZE));
            }
            self.check_caches(state);
        });
        F::invalidate(self, what, everywhere);
        self.with(|state| {
            self.check_caches(state);
            self.hook(state, 1);
        });
    }
}

impl State {
    /// A barrier of `cpu`: what it began has happened. One for this CPU alone
    /// waits for nothing that others do.
    pub(super) fn complete(&mut self, cpu: usize, shared: bool) {
        let pending = core::mem::take(&mut self.cpus[cpu].pending);
        for begun in pending {
            if begun.shared && !shared {
                self.cpus[cpu].pending.push(begun);
            } else if begun.shared {
                self.cpus.iter_mut().for_each(|of_cpu| of_cpu.forget(begun.drop));
            } else {
                self.cpus[cpu].forget(begun.drop);
            }
        }
    }
}
