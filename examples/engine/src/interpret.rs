//! The interpreter: control, locals and numbers. Its loop is the only one, however
//! deep calls go.
//!
//! ```text
//!   run ──> run_in(instance) ──> one instruction after the other
//!    ^           |  call, return            '── memory, table, global: runtime.rs
//!    '───────────' the next frame is of another instance
//! ```

use core::mem::offset_of;

use allotment::{
    FaultAccess,
    arch::VirtAddr,
    instance::{
        FuncIndex, InstanceError, TableElement, TableIndex, VMContext, VMFuncRef, VMSharedTypeIndex,
        cranelift_entity::EntityRef,
    },
};

use crate::{
    Code, Error, Guarded, InstanceId, Store, Trap,
    access::resuming,
    code::{Op, Target},
    stack::Frame,
};

impl<A: Guarded> Store<'_, '_, A> {
    /// Runs a call that `begin` begins, whose arguments are on the stack, to its
    /// end.
    pub(crate) fn run(
        &mut self,
        id: InstanceId,
        begin: impl FnOnce(&mut Self) -> Result<(), Trap>,
    ) -> Result<(), Error> {
        debug_assert!(id.0 < self.instances.len(), "it is one of this store's");
        self.fault = None;
        let run = begin(self).and_then(|()| {
            while let Some(&mut Frame { instance, .. }) = self.stack.frame() {
                let code = self.instances[instance.0].code()?;
                self.run_in(instance, &code)?;
            }
            Ok(())
        });
        run.map_err(|trap| {
            self.stack.clear();
            Error::Trap(trap, self.fault.take())
        })
    }

    /// Runs until the innermost call is one of another instance, or none.
    fn run_in(&mut self, id: InstanceId, code: &Code) -> Result<(), Trap> {
        'call: while let Some(&mut Frame { instance, function, mut next, base }) = self.stack.frame() {
            if instance != id {
                break;
            }
            let function = &code.functions[function];
            // A body ends with a `Return`.
            while let Some(op) = function.ops.get(next) {
                next += 1;
                match op {
                    Op::Unreachable => return Err(Trap::Unreachable),
                    Op::Jump(target) => next = self.branch(base, *target)?,
                    Op::JumpIf(target) => {
                        if self.stack.pop() != 0 {
                            next = self.branch(base, *target)?;
                        }
                    }
                    Op::JumpUnless(to) => {
                        if self.stack.pop() == 0 {
                            next = *to as usize;
                        }
                    }
                    Op::JumpTable(targets) => {
                        let last = targets.len().saturating_sub(1);
                        let nth = usize::try_from(self.stack.pop()).map_or(last, |nth| nth.min(last));
                        next = self.branch(base, targets[nth])?;
                    }
                    Op::Return => {
                        self.stack.leave(function.results);
                        continue 'call;
                    }
                    Op::Call(index) => {
                        self.suspend(next)?;
                        self.call_function(id, code, *index)?;
                        continue 'call;
                    }
                    Op::CallIndirect(table, ty) => {
                        self.suspend(next)?;
                        self.call_indirect(id, *table, *ty)?;
                        continue 'call;
                    }
                    Op::Drop => _ = self.stack.pop(),
                    Op::Select => {
                        let [first, second, condition] = self.stack.pop3();
                        self.stack.push(if condition != 0 { first } else { second });
                    }
                    Op::LocalGet(local) => {
                        let value = *self.stack.local(base + *local as usize);
                        self.stack.push(value);
                    }
                    Op::LocalSet(local) => *self.stack.local(base + *local as usize) = self.stack.pop(),
                    Op::LocalTee(local) => {
                        let value = self.stack.pop();
                        *self.stack.local(base + *local as usize) = value;
                        self.stack.push(value);
                    }
                    Op::Const(value) => self.stack.push(*value),
                    Op::Unary(of) => {
                        let operand = self.stack.pop();
                        self.stack.push(of(operand)?);
                    }
                    Op::Binary(of) => {
                        let (second, first) = (self.stack.pop(), self.stack.pop());
                        self.stack.push(of(first, second)?);
                    }
                    op => self.runtime(id, code, op)?,
                }
            }
        }
        Ok(())
    }

    /// Every way to run for long passes here or `suspend`.
    fn branch(&mut self, base: usize, target: Target) -> Result<usize, Trap> {
        self.burn()?;
        Ok(self.stack.branch(base, target))
    }

    /// Remembers where the innermost call goes on when the one that it makes is
    /// done.
    fn suspend(&mut self, next: usize) -> Result<(), Trap> {
        if let Some(frame) = self.stack.frame() {
            frame.next = next;
        }
        self.burn()
    }

    fn burn(&mut self) -> Result<(), Trap> {
        if let Some(fuel) = &mut self.fuel {
            *fuel = fuel.checked_sub(1).ok_or(Trap::OutOfFuel)?;
        }
        Ok(())
    }

    /// Begins a call of a function by its index.
    pub(crate) fn call_function(
        &mut self,
        id: InstanceId,
        code: &Code,
        index: FuncIndex,
    ) -> Result<(), Trap> {
        match code.module.defined_function(index) {
            Some(defined) => {
                let number = defined.index();
                self.stack.enter(id, number, &code.functions[number])
            }
            None => {
                let reference = self.instances[id.0].handle.func_ref(index)?;
                let callee = self.read_reference(id, reference)?;
                self.call_reference(id, callee)
            }
        }
    }

    /// Begins a call of an element, which has to be of that type.
    fn call_indirect(
        &mut self,
        id: InstanceId,
        table: TableIndex,
        ty: VMSharedTypeIndex,
    ) -> Result<(), Trap> {
        let at = self.stack.pop();
        let element =
            self.instances[id.0].handle.table_get(table, at).map_err(|error| match error.into() {
                Trap::TableOutOfBounds => Trap::UndefinedElement,
                trap => trap,
            })?;
        let TableElement::FuncRef(Some(reference)) = element else { return Err(Trap::UninitializedElement) };
        let callee = self.read_reference(id, reference)?;
        if callee.type_index != ty.0 {
            return Err(Trap::TypeMismatch);
        }
        self.call_reference(id, callee)
    }

    fn read_reference(&self, id: InstanceId, reference: VirtAddr) -> Result<VMFuncRef, Trap> {
        // SAFETY: references are of this store's instances, all of which live:
        // `Value::into_slot` refuses those of other stores.
        Ok(unsafe { self.instances[id.0].handle.read_func_ref(reference) }?)
    }

    /// Begins a call of what a reference says: a number, in its context.
    fn call_reference(&mut self, caller: InstanceId, callee: VMFuncRef) -> Result<(), Trap> {
        let missing = InstanceError::NotFound { what: "function", index: 0 };
        let number = usize::try_from(callee.wasm_call.0).map_err(|_| missing)?;
        if callee.vmctx.0 == 0 {
            return self.call_host(caller, number);
        }
        let id = self.instance_at(callee.vmctx)?;
        let code = self.instances.get(id.0).ok_or(missing)?.code()?;
        self.stack.enter(id, number, code.functions.get(number).ok_or(missing)?)
    }

    /// The instance with that context, by the word that `prepare` put there.
    fn instance_at(&self, vmctx: VirtAddr) -> Result<InstanceId, Trap> {
        let word = VirtAddr(vmctx.0 + offset_of!(VMContext, embedder) as u64);
        let allocator = self.engine.allocator;
        let number = resuming(allocator, FaultAccess::Read, || {
            // SAFETY: contexts in references and imports are of this store's instances,
            // all of which live.
            unsafe { allocator.arch().load(word, size_of::<u64>()) }
        });
        let number = number.map_err(|refused| refused.trap())?;
        let missing = InstanceError::NotFound { what: "instance", index: 0 };
        let number = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        Ok(InstanceId(number.ok_or(missing)?))
    }
}
