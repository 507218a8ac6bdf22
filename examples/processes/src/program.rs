//! What processes run: instances of one module, as with Wasmtime anywhere.

use core::sync::atomic::{AtomicUsize, Ordering};

use wasmtime::{Engine, Instance, Linker, Module, Result, Store, Trap};

use crate::process::{Process, own};

/// How many processes there are.
pub const PROCESSES: usize = 3;

/// A process with two instances in a store of its own.
pub struct Program {
    /// Whose it is.
    pub process: Process,
    store: Store<()>,
    instances: [Instance; 2],
}

impl Program {
    /// Starts the module twice, on this CPU.
    pub fn start(engine: &Engine, module: &Module, process: Process) -> Result<Self> {
        let mut linker = Linker::new(engine);
        linker.func_wrap("kernel", "own", || own().cast_signed())?;
        linker.func_wrap("kernel", "meet", meet)?;
        let mut store = Store::new(engine, ());
        let instances = process.run(|| {
            Ok::<_, wasmtime::Error>([
                linker.instantiate(&mut store, module)?,
                linker.instantiate(&mut store, module)?,
            ])
        })?;
        Ok(Self { process, store, instances })
    }

    /// What its process has at the address that all have, as the first instance finds it.
    pub fn own(&mut self) -> Result<i32> {
        self.call(0, "own")
    }

    /// Whether both find their memory as the module has it.
    pub fn is_fresh(&mut self) -> Result<bool> {
        Ok(self.call(0, "fresh")? == 0 && self.call(1, "fresh")? == 0)
    }

    /// Both take a page more, the second while the other processes' second ones do. Whether all was as they left
    /// it.
    pub fn turn(&mut self) -> Result<bool> {
        Ok(self.call(0, "turn")? == 0 && self.call(1, "together")? == 0)
    }

    /// The first takes a page more, the second traps while the other processes' second ones run.
    pub fn stray(&mut self) -> Result<(bool, Option<Trap>)> {
        let intact = self.call(0, "turn")? == 0;
        let trap = self.call(1, "stray").err().and_then(|error| error.downcast_ref::<Trap>().copied());
        // For the one that did not come back.
        meet();
        Ok((intact, trap))
    }

    /// Where the memories are, in order.
    pub fn memories(&mut self) -> [usize; 2] {
        let mut addresses = self.instances.map(|instance| {
            let memory = instance.get_memory(&mut self.store, "memory").expect("the module exports it");
            memory.data_ptr(&self.store).addr()
        });
        addresses.sort_unstable();
        addresses
    }

    fn call(&mut self, instance: usize, function: &str) -> Result<i32> {
        let Self { process, store, instances } = self;
        let function = instances[instance].get_typed_func::<(), i32>(&mut *store, function)?;
        process.run(|| function.call(store, ()))
    }
}

/// Waits until every process has come here as often.
fn meet() {
    static COME: AtomicUsize = AtomicUsize::new(0);
    let nth = COME.fetch_add(1, Ordering::AcqRel) + 1;
    while COME.load(Ordering::Acquire) < nth.next_multiple_of(PROCESSES) {
        core::hint::spin_loop();
    }
}
