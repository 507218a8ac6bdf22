//! Imports: by name, and by type.

use alloc::vec::Vec;

use allotment::{
    arch::VirtAddr,
    instance::{
        EntityIndex, Export, MemoryType, TableType, VMFunctionImport, VMGlobalImport, VMMemoryImport,
        VMTableImport,
    },
};

use crate::{Code, Error, Guarded, Store, module::Import};

/// What a module's imports are, in the order of its index spaces.
#[derive(Default)]
pub(crate) struct Resolved {
    pub(crate) functions: Vec<VMFunctionImport>,
    pub(crate) tables: Vec<VMTableImport>,
    pub(crate) memories: Vec<VMMemoryImport>,
    pub(crate) globals: Vec<VMGlobalImport>,
}

impl<A: Guarded> Store<'_, '_, A> {
    /// Finds what a module imports: host functions first, then exports of instances.
    pub(crate) fn resolve(&mut self, code: &Code) -> Result<Resolved, Error> {
        let mut resolved = Resolved::default();
        for import in &code.imports {
            let fits = match self.hosts.find(&import.module, &import.name) {
                Some((number, signature)) => match import.index {
                    EntityIndex::Function(index) => {
                        // A function of the host is known by its context, which is none.
                        let number = VirtAddr(number as u64);
                        let found =
                            VMFunctionImport { wasm_call: number, array_call: number, vmctx: VirtAddr(0) };
                        resolved.functions.push(found);
                        code.module.functions[index].signature == signature.id
                    }
                    _ => false,
                },
                None => self.resolve_export(code, import, &mut resolved)?,
            };
            if !fits {
                let (module, name) = (import.module.clone(), import.name.clone());
                return Err(Error::IncompatibleImport { module, name });
            }
        }
        Ok(resolved)
    }

    /// Finds an instance's export, and says whether it is of the type that is
    /// declared.
    fn resolve_export(
        &mut self,
        code: &Code,
        import: &Import,
        resolved: &mut Resolved,
    ) -> Result<bool, Error> {
        let unknown = || Error::UnknownImport { module: import.module.clone(), name: import.name.clone() };
        let id = self.names.get(&*import.module).ok_or_else(unknown)?;
        let handle = &mut self.instances[id.0].handle;
        let index = *handle.module()?.exports.get(&import.name).ok_or_else(unknown)?;
        let module = &code.module;
        Ok(match (handle.export(index)?, index, import.index) {
            (Export::Function { import, ty, .. }, _, EntityIndex::Function(wanted)) => {
                resolved.functions.push(import);
                ty == module.functions[wanted].signature
            }
            (Export::Table { import, ty }, EntityIndex::Table(index), EntityIndex::Table(wanted)) => {
                resolved.tables.push(import);
                table_fits(&ty, handle.table_size(index)?, &module.tables[wanted])
            }
            (Export::Memory { import, ty }, EntityIndex::Memory(index), EntityIndex::Memory(wanted)) => {
                resolved.memories.push(import);
                memory_fits(&ty, handle.memory_size(index)?, &module.memories[wanted])
            }
            (Export::Global { import, ty }, _, EntityIndex::Global(wanted)) => {
                resolved.globals.push(import);
                ty == module.globals[wanted]
            }
            _ => false,
        })
    }
}

/// Whether a table of `size` elements is what is wanted.
fn table_fits(ty: &TableType, size: u64, wanted: &TableType) -> bool {
    ty.element == wanted.element && size >= wanted.minimum && is_at_most(ty.maximum, wanted.maximum)
}

/// Whether a memory of `size` pages is what is wanted.
fn memory_fits(ty: &MemoryType, size: u64, wanted: &MemoryType) -> bool {
    ty.memory64 == wanted.memory64
        && ty.shared == wanted.shared
        && ty.page_size_log2 == wanted.page_size_log2
        && size >= wanted.minimum
        && is_at_most(ty.maximum, wanted.maximum)
}

fn is_at_most(maximum: Option<u64>, wanted: Option<u64>) -> bool {
    wanted.is_none_or(|wanted| maximum.is_some_and(|maximum| maximum <= wanted))
}
