//! From a list of paths to a tree.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::{error::Error, fmt};

use super::{Body, Entry, Kind, Node, NodeId, Tree};

/// Why a list of paths makes no tree.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TreeError {
    /// A path does not begin with `/`.
    NotAbsolute(String),
    /// A path has a component `.` or `..`, or a NUL byte.
    NotCanonical(String),
    /// A path leads through a file or a link.
    NotADirectory(String),
    /// A path is listed twice, and not both times as a directory.
    Duplicate(String),
}

impl Tree {
    /// The tree of `entries`, in any order.
    ///
    /// # Errors
    /// If a path is not absolute and canonical, is listed twice, or leads through a file.
    #[expect(single_use_lifetimes, reason = "anonymous lifetimes in `impl Trait` are not stable")]
    pub fn new<'a>(entries: impl IntoIterator<Item = Entry<'a>>) -> Result<Self, TreeError> {
        let mut tree = Self::default();
        for entry in entries {
            tree.insert(entry)?;
        }
        Ok(tree)
    }

    fn insert(&mut self, Entry { path, kind }: Entry<'_>) -> Result<(), TreeError> {
        let Some(relative) = path.strip_prefix('/') else {
            return Err(TreeError::NotAbsolute(path.into()));
        };
        let components = || relative.split('/').filter(|component| !component.is_empty());
        if path.contains('\0') || components().any(|component| matches!(component, "." | "..")) {
            return Err(TreeError::NotCanonical(path.into()));
        }
        let mut at = self.root();
        let mut rest = components().peekable();
        while let Some(name) = rest.next() {
            let last = rest.peek().is_none();
            let Some(children) = self.directory(at) else {
                return Err(TreeError::NotADirectory(path.into()));
            };
            at = match self.search(children, name) {
                Ok(place) if !last || matches!(kind, Kind::Directory) => children[place],
                Ok(_) => return Err(TreeError::Duplicate(path.into())),
                Err(place) => self.add(at, place, name, if last { kind } else { Kind::Directory }),
            };
        }
        // What was there already, the root included, may only be named again as a directory.
        if matches!(kind, Kind::Directory) != self.directory(at).is_some() {
            return Err(TreeError::Duplicate(path.into()));
        }
        Ok(())
    }

    /// Adds a node to directory `parent`, at the place where its name belongs.
    fn add(&mut self, parent: NodeId, place: usize, name: &str, kind: Kind<'_>) -> NodeId {
        let body = match kind {
            Kind::File(contents) => Body::File(contents),
            Kind::Directory => Body::Directory(Vec::new()),
            Kind::Link(target) => Body::Link(Box::from(target)),
        };
        let id = NodeId(self.nodes.len());
        self.nodes.push(Node { parent, name: Box::from(name), body });
        if let Some(Node { body: Body::Directory(children), .. }) = self.nodes.get_mut(parent.0) {
            children.insert(place, id);
        }
        id
    }
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAbsolute(path) => {
                write!(f, "the packed path `{path}` is not absolute: begin it with `/`")
            }
            Self::NotCanonical(path) => {
                write!(
                    f,
                    "the packed path `{path}` has a component `.` or `..` or a NUL byte: write it without"
                )
            }
            Self::NotADirectory(path) => {
                write!(
                    f,
                    "the packed path `{path}` leads through a file or a link: pack one of the two elsewhere"
                )
            }
            Self::Duplicate(path) => {
                write!(f, "the packed path `{path}` is listed twice: pack one of the two elsewhere")
            }
        }
    }
}

impl Error for TreeError {}
