//! The state of one program.

use alloc::vec::Vec;

use crate::{
    Errno, Host, Program, ProgramError, Tree,
    descriptor::{Descriptor, Descriptors, OpenDirectory, Position},
};

/// The state of one program between its calls; belongs into the `Store`.
#[derive(Debug)]
pub struct Wasi<H> {
    pub(crate) host: H,
    pub(crate) args: Vec<Vec<u8>>,
    pub(crate) env: Vec<Vec<u8>>,
    pub(crate) tree: Tree,
    pub(crate) descriptors: Descriptors,
}

impl<H: Host> Wasi<H> {
    /// The state with which `program` starts on `host`.
    ///
    /// # Errors
    /// If a preopened directory is not in the tree, or if there are more of them than descriptors.
    pub fn new(host: H, program: Program) -> Result<Self, ProgramError> {
        let Program { args, env, tree, preopens } = program;
        let mut descriptors = Descriptors::standard();
        let count = preopens.len();
        for name in preopens {
            let relative = name.trim_start_matches('/');
            let path = if relative.is_empty() { "." } else { relative };
            let Ok(Some(node)) = tree.resolve(tree.root(), path, true) else {
                return Err(ProgramError::NoSuchPreopen(name));
            };
            if tree.directory(node).is_none() {
                return Err(ProgramError::NoSuchPreopen(name));
            }
            let directory = OpenDirectory { node, preopen: Some(name) };
            if descriptors.open(Descriptor::Directory(directory)).is_err() {
                return Err(ProgramError::TooManyPreopens { preopens: count, limit: Descriptors::LIMIT });
            }
        }
        Ok(Self { host, args, env, tree, descriptors })
    }

    /// The machine that this program runs on.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// The machine that this program runs on.
    pub fn host_mut(&mut self) -> &mut H {
        &mut self.host
    }

    /// Gives the machine back.
    pub fn into_host(self) -> H {
        self.host
    }

    /// The contents of the file that `position` is in.
    pub(crate) fn contents(&self, position: &Position) -> Result<&'static [u8], Errno> {
        self.tree.contents(position.node).ok_or(Errno::BadDescriptor)
    }
}
