//! Exports: by name, in the form in which another instance imports them.

use allotment_arch::{Arch, VirtAddr};

use super::{
    EntityIndex, GlobalType, Instance, InstanceError, MemoryType, TableType, VMFuncRef, VMFunctionImport,
    VMGlobalImport, VMMemoryImport, VMSharedTypeIndex, VMTableImport,
};

/// Something that an instance exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Export {
    /// A function.
    Function {
        /// Its [`VMFuncRef`].
        func_ref: VirtAddr,
        /// What an importing instance is told.
        import: VMFunctionImport,
        /// Its type.
        ty: VMSharedTypeIndex,
    },
    /// A table.
    Table {
        /// What an importing instance is told.
        import: VMTableImport,
        /// Its type.
        ty: TableType,
    },
    /// A memory.
    Memory {
        /// What an importing instance is told.
        import: VMMemoryImport,
        /// Its type.
        ty: MemoryType,
    },
    /// A global.
    Global {
        /// What an importing instance is told.
        import: VMGlobalImport,
        /// Its type.
        ty: GlobalType,
    },
}

impl<A: Arch> Instance<'_, A> {
    /// What is exported by that name; `None` if nothing is.
    ///
    /// # Errors
    ///
    /// [`Error::Inaccessible`](crate::Error::Inaccessible) of a context that cannot be
    /// read.
    pub fn lookup(&self, name: &str) -> Result<Option<Export>, InstanceError> {
        let index = self.module()?.exports.get(name).copied();
        index.map(|index| self.export(index)).transpose()
    }

    /// All exports, in the order of their names.
    ///
    /// # Errors
    ///
    /// As for [`module`](Self::module).
    pub fn exports(&self) -> Result<impl Iterator<Item = (&str, EntityIndex)>, InstanceError> {
        Ok(self.module()?.exports.iter().map(|(name, &index)| (name.as_str(), index)))
    }

    /// What it has at that index, exported or not, imported or not.
    ///
    /// # Errors
    ///
    /// [`InstanceError::NotFound`], also of a function that may not be referred to.
    pub fn export(&self, index: EntityIndex) -> Result<Export, InstanceError> {
        let module = self.module()?;
        Ok(match index {
            EntityIndex::Function(index) => {
                let func_ref = self.func_ref(index)?;
                // SAFETY: it is this instance's own.
                let VMFuncRef { array_call, wasm_call, vmctx, .. } = unsafe { self.read_func_ref(func_ref) }?;
                let import = VMFunctionImport { wasm_call, array_call, vmctx };
                Export::Function { func_ref, import, ty: module.functions[index].signature }
            }
            EntityIndex::Table(index) => {
                Export::Table { import: self.table_import(index)?, ty: module.tables[index] }
            }
            EntityIndex::Memory(index) => {
                Export::Memory { import: self.memory_import(index)?, ty: module.memories[index] }
            }
            EntityIndex::Global(index) => {
                Export::Global { import: self.global_import(index)?, ty: module.globals[index] }
            }
        })
    }
}
