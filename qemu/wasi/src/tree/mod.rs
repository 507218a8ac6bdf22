//! The read-only files of a program: a tree in memory, built once from a list of paths.
//!
//! Contents are borrowed from where they lie already; only names and links are copied. A node's place in
//! the tree's list is its identity, so that inode numbers stay the same as long as the list does.

mod build;
mod resolve;

use alloc::{boxed::Box, vec, vec::Vec};

pub use build::TreeError;

/// One path of the list that a [`Tree`] is built from.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The absolute path, as the program sees it. Directories on the way to it need no entry of their own.
    pub path: &'a str,
    /// What is there.
    pub kind: Kind<'a>,
}

/// What is at a path.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// A file with these contents.
    File(&'static [u8]),
    /// A directory. It may be listed more than once.
    Directory,
    /// A symbolic link to this path, which is looked up when the link is followed.
    Link(&'a str),
}

/// A read-only tree of files, directories and symbolic links.
#[derive(Debug)]
pub struct Tree {
    /// All nodes; the root comes first.
    nodes: Vec<Node>,
    modified_ns: u64,
}

/// Which node of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeId(usize);

#[derive(Debug)]
struct Node {
    /// The root is its own parent.
    parent: NodeId,
    /// One component of a path, without slashes.
    name: Box<str>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    File(&'static [u8]),
    /// The nodes in it, sorted by name.
    Directory(Vec<NodeId>),
    Link(Box<str>),
}

/// What `stat` says of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metadata {
    pub(crate) inode: u64,
    pub(crate) filetype: u8,
    pub(crate) links: u64,
    pub(crate) size: u64,
    pub(crate) modified_ns: u64,
}

/// One name of a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listed<'a> {
    pub(crate) inode: u64,
    pub(crate) filetype: u8,
    pub(crate) name: &'a str,
}

impl Default for Tree {
    /// An empty root.
    fn default() -> Self {
        let root = Node { parent: NodeId(0), name: Box::default(), body: Body::Directory(Vec::new()) };
        Self { nodes: vec![root], modified_ns: 0 }
    }
}

impl Tree {
    /// The time at which all files claim to have been changed last, in nanoseconds since 1970. Without it,
    /// that is 1970 itself.
    #[must_use]
    pub fn modified_at(mut self, nanoseconds: u64) -> Self {
        self.modified_ns = nanoseconds;
        self
    }

    pub(crate) fn root(&self) -> NodeId {
        NodeId(0)
    }

    pub(crate) fn contents(&self, node: NodeId) -> Option<&'static [u8]> {
        match self.node(node)?.body {
            Body::File(contents) => Some(contents),
            Body::Directory(_) | Body::Link(_) => None,
        }
    }

    /// The nodes in a directory, sorted by name.
    pub(crate) fn directory(&self, node: NodeId) -> Option<&[NodeId]> {
        match &self.node(node)?.body {
            Body::Directory(children) => Some(children),
            Body::File(_) | Body::Link(_) => None,
        }
    }

    pub(crate) fn link(&self, node: NodeId) -> Option<&str> {
        match &self.node(node)?.body {
            Body::Link(target) => Some(target),
            Body::File(_) | Body::Directory(_) => None,
        }
    }

    pub(crate) fn metadata(&self, id: NodeId) -> Option<Metadata> {
        let (links, size) = match &self.node(id)?.body {
            Body::File(contents) => (1, contents.len()),
            Body::Link(target) => (1, target.len()),
            // Its name, its own `.`, and the `..` of each directory in it.
            Body::Directory(children) => (2 + self.directories_among(children), 0),
        };
        Some(Metadata {
            inode: inode(id),
            filetype: self.filetype(id),
            links,
            size: u64::try_from(size).unwrap_or(u64::MAX),
            modified_ns: self.modified_ns,
        })
    }

    /// The names in directory `id`, `.` and `..` first, from the one at `skip` on. For `base`, which the
    /// program cannot leave, `..` is itself.
    pub(crate) fn list(&self, id: NodeId, base: NodeId, skip: usize) -> impl Iterator<Item = Listed<'_>> {
        let parent = if id == base { id } else { self.node(id).map_or(id, |node| node.parent) };
        let dots = [(id, "."), (parent, "..")];
        let children = self.directory(id).unwrap_or_default();
        // Skipped as slices, so that listing a large directory piece by piece stays linear.
        let head = dots.into_iter().skip(skip);
        let tail = children.get(skip.saturating_sub(dots.len())..).unwrap_or_default();
        let tail = tail.iter().map(|&child| (child, self.node(child).map_or("", |node| &*node.name)));
        head.chain(tail).map(|(node, name)| Listed {
            inode: inode(node),
            filetype: self.filetype(node),
            name,
        })
    }

    fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0)
    }

    fn filetype(&self, id: NodeId) -> u8 {
        use crate::abi::filetype;
        match self.node(id).map(|node| &node.body) {
            Some(Body::File(_)) => filetype::REGULAR_FILE,
            Some(Body::Directory(_)) => filetype::DIRECTORY,
            Some(Body::Link(_)) => filetype::SYMBOLIC_LINK,
            None => filetype::UNKNOWN,
        }
    }

    fn directories_among(&self, children: &[NodeId]) -> u64 {
        let directories = children.iter().filter(|&&child| self.directory(child).is_some());
        u64::try_from(directories.count()).unwrap_or(u64::MAX - 2)
    }

    /// The place of `name` among sorted `children`: where it is, or where it belongs.
    fn search(&self, children: &[NodeId], name: &str) -> Result<usize, usize> {
        children.binary_search_by(|&child| self.node(child).map_or("", |node| &*node.name).cmp(name))
    }
}

/// Inode numbers start at 1: some programs take 0 for a deleted file.
fn inode(id: NodeId) -> u64 {
    u64::try_from(id.0).unwrap_or(u64::MAX - 1) + 1
}
