//! From a path to a node, within a directory that cannot be left.

use alloc::{vec, vec::Vec};

use super::{NodeId, Tree};
use crate::Errno;

/// As many links as Linux follows in one path (`MAXSYMLINKS`).
const MAX_LINKS: u32 = 40;
/// The longest path, without the NUL that ends it in C (`PATH_MAX`).
const MAX_PATH: usize = 4095;
/// The longest component (`NAME_MAX`).
const MAX_NAME: usize = 255;

impl Tree {
    /// Looks `path` up from directory `base`. A link at its end is followed if `follow` or if a slash comes
    /// after it. `Ok(None)` means that only the last component is missing: a place where a file could be made.
    ///
    /// Neither `..`, nor an absolute path, nor a link with either may lead out of `base`: that gives
    /// [`Errno::NotPermitted`], as in Wasmtime.
    pub(crate) fn resolve(&self, base: NodeId, path: &str, follow: bool) -> Result<Option<NodeId>, Errno> {
        if path.is_empty() {
            return Err(Errno::NoEntry);
        }
        if path.contains('\0') {
            return Err(Errno::Invalid);
        }
        if path.len() > MAX_PATH {
            return Err(Errno::NameTooLong);
        }
        let mut pending = Pending::new(path)?;
        let mut links = 0;
        let mut at = base;
        while let Some(component) = pending.next() {
            let Some(children) = self.directory(at) else {
                return Err(Errno::NotDirectory);
            };
            match component {
                "." => continue,
                ".." if at == base => return Err(Errno::NotPermitted),
                ".." => {
                    at = self.node(at).map_or(base, |node| node.parent);
                    continue;
                }
                name if name.len() > MAX_NAME => return Err(Errno::NameTooLong),
                _ => {}
            }
            let Ok(place) = self.search(children, component) else {
                return if pending.is_done() { Ok(None) } else { Err(Errno::NoEntry) };
            };
            let found = children[place];
            match self.link(found) {
                Some(target) if follow || !pending.is_done() || pending.slash => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::Loop);
                    }
                    pending.push(target)?;
                }
                _ => at = found,
            }
        }
        if pending.slash && self.directory(at).is_none() {
            return Err(Errno::NotDirectory);
        }
        Ok(Some(at))
    }
}

/// The components that are still to be walked: what remains of the path, and on top of it what remains of
/// the links in it. Remainders are never empty and never begin with a slash.
struct Pending<'a> {
    remainders: Vec<&'a str>,
    /// Whether a slash came after the path's last component, or after that of a link there.
    slash: bool,
}

impl<'a> Pending<'a> {
    fn new(path: &'a str) -> Result<Self, Errno> {
        let mut pending = Self { remainders: vec![], slash: false };
        pending.push(path)?;
        Ok(pending)
    }

    fn push(&mut self, path: &'a str) -> Result<(), Errno> {
        if path.starts_with('/') {
            return Err(Errno::NotPermitted);
        }
        if path.is_empty() {
            return Err(Errno::NoEntry);
        }
        self.remainders.push(path);
        Ok(())
    }

    fn next(&mut self) -> Option<&'a str> {
        let path = self.remainders.pop()?;
        let Some((component, rest)) = path.split_once('/') else {
            return Some(path);
        };
        let rest = rest.trim_start_matches('/');
        if !rest.is_empty() {
            self.remainders.push(rest);
        } else if self.is_done() {
            self.slash = true;
        }
        Some(component)
    }

    fn is_done(&self) -> bool {
        self.remainders.is_empty()
    }
}
