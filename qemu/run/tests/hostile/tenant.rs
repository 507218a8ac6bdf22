//! An instance every byte of whose memory is known.

use wasmtime::{Instance, Memory, Module, Store, TypedFunc};

const WASM_PAGE: usize = 0x1_0000;

/// An instance whose memory holds its mark in every byte.
pub(crate) struct Tenant {
    pub(crate) store: Store<()>,
    pub(crate) instance: Instance,
    memory: Memory,
    mark: u8,
}

impl Tenant {
    /// One whose memory was all zeros, and is marked now.
    ///
    /// # Panics
    ///
    /// If somebody else's bytes were there.
    pub(crate) fn new(module: &Module, mark: u8) -> Self {
        let mut store = Store::new(module.engine(), ());
        let instance = Instance::new(&mut store, module, &[]).unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        let mut tenant = Self { store, instance, memory, mark };
        tenant.mark_from(0);
        tenant
    }

    /// Grows by wasm pages, by its own instruction, and marks them.
    ///
    /// # Panics
    ///
    /// If it cannot, or somebody else's bytes were there.
    pub(crate) fn grow(&mut self, pages: u8) {
        let before = self.size();
        let grow = self.instance.get_func(&mut self.store, "grow").unwrap();
        let old = match grow.typed::<i64, i64>(&self.store) {
            Ok(grow) => self.call(&grow, pages.into()),
            Err(_) => i64::from(self.call(&grow.typed::<i32, i32>(&self.store).unwrap(), pages.into())),
        };
        assert_eq!(usize::try_from(old), Ok(before / WASM_PAGE));
        assert_eq!(self.size(), before + usize::from(pages) * WASM_PAGE);
        self.mark_from(before);
    }

    /// Where its memory begins.
    pub(crate) fn place(&self) -> usize {
        self.memory.data_ptr(&self.store).addr()
    }

    /// Bytes in its memory.
    pub(crate) fn size(&self) -> usize {
        self.memory.data_size(&self.store)
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.data_mut(&mut self.store)
    }

    /// # Panics
    ///
    /// If any byte is not its mark.
    #[track_caller]
    pub(crate) fn assert_untouched(&self, after: &str) {
        let bytes = self.memory.data(&self.store);
        if !all_are(bytes, self.mark) {
            let at = bytes.iter().position(|&byte| byte != self.mark).unwrap_or_default();
            panic!("{after}: {:#x} at {at:#x} of the one with {:#x}", bytes[at], self.mark);
        }
    }

    fn mark_from(&mut self, start: usize) {
        let mark = self.mark;
        let new = &mut self.bytes_mut()[start..];
        assert!(all_are(new, 0), "somebody else's bytes are in a new memory or page");
        new.fill(mark);
    }

    fn call<P: wasmtime::WasmParams, R: wasmtime::WasmResults>(
        &mut self,
        function: &TypedFunc<P, R>,
        parameters: P,
    ) -> R {
        function.call(&mut self.store, parameters).unwrap()
    }
}

fn all_are(bytes: &[u8], wanted: u8) -> bool {
    let (chunks, rest) = bytes.as_chunks();
    let eight = u64::from_ne_bytes([wanted; 8]);
    chunks.iter().all(|chunk| u64::from_ne_bytes(*chunk) == eight) && rest.iter().all(|&byte| byte == wanted)
}
