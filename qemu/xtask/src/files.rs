//! Packing directories of this computer into the payload, for the guest to read.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use protocol::payload::Writer;

use crate::error::Usage;
use crate::progress::say;

/// A directory to hand over: `HOST[::GUEST]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directory {
    /// Its path here.
    pub(crate) host: PathBuf,
    /// Its path in the guest: absolute, without `.`, `..` and a slash at the end; `/` for the root.
    pub(crate) guest: String,
}

impl Directory {
    /// Parses `HOST[::GUEST]`, for clap.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (host, guest) = text.rsplit_once("::").unwrap_or((text, "/"));
        if host.is_empty() {
            return Err("the directory's path is empty; expected HOST[::GUEST]".into());
        }
        let mut names = Vec::new();
        for name in guest.split('/') {
            match name {
                "" | "." => {}
                ".." => return Err(format!("guest path `{guest}` contains `..`; name it directly")),
                name => names.push(name),
            }
        }
        Ok(Self { host: host.into(), guest: format!("/{}", names.join("/")) })
    }
}

/// Adds all directories, with everything in them, and their list (`preopens`).
pub(crate) fn pack(payload: &mut Writer<'_>, directories: &[Directory]) -> Result<()> {
    for directory in directories {
        let host = &directory.host;
        if !host.is_dir() {
            let host = host.display();
            return Err(Usage(format!("--dir {host}: not a directory of this computer")).into());
        }
        // Names in the archive have no slash in front: `fs/` is the root itself.
        let guest = directory.guest.trim_start_matches('/');
        let prefix = if guest.is_empty() { String::new() } else { format!("{guest}/") };
        pack_directory(payload, host, &prefix)?;
    }
    let guests = directories.iter().map(|directory| &directory.guest);
    payload.add_strings("preopens", guests)?;
    Ok(())
}

/// `prefix` is the guest path with a slash behind and none in front.
fn pack_directory(payload: &mut Writer<'_>, host: &Path, prefix: &str) -> Result<()> {
    payload.add(format!("fs/{prefix}"), b"".as_slice())?;
    let failed = || format!("cannot read directory {}", host.display());
    for entry in fs::read_dir(host).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else {
            say(format_args!("left out {}: its name is not UTF-8", path.display()));
            continue;
        };
        let guest = format!("{prefix}{name}");
        let kind = entry.file_type().with_context(failed)?;
        let unreadable = || format!("cannot read {}", path.display());
        if kind.is_dir() {
            pack_directory(payload, &path, &format!("{guest}/"))?;
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).with_context(unreadable)?;
            let target = target.into_os_string().into_encoded_bytes();
            payload.add(format!("link/{guest}"), target)?;
        } else if kind.is_file() {
            payload.add(format!("fs/{guest}"), fs::read(&path).with_context(unreadable)?)?;
        } else {
            say(format_args!("left out {}: neither file nor directory nor link", path.display()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Directory, pack};
    use protocol::payload::{Payload, Writer};
    use std::fs;

    #[test]
    fn guest_paths_are_normalised() {
        let guest = |text: &str| Directory::parse(text).map(|directory| directory.guest);
        assert_eq!(guest("data").unwrap(), "/");
        assert_eq!(guest("data::/").unwrap(), "/");
        assert_eq!(guest("data::in//deep/./er/").unwrap(), "/in/deep/er");
        assert!(guest("data::/a/../b").is_err());
        assert!(guest("::/a").is_err());
        let windows_like = Directory::parse("a::b::/c").unwrap();
        assert_eq!(windows_like.host.to_str(), Some("a::b"));
    }

    #[test]
    fn files_directories_and_links_are_packed() {
        let root = crate::workspace::cache("test-files").unwrap().join(std::process::id().to_string());
        fs::create_dir_all(root.join("empty")).unwrap();
        fs::create_dir_all(root.join("deep/er")).unwrap();
        fs::write(root.join("deep/er/file"), b"content").unwrap();
        std::os::unix::fs::symlink("deep/er", root.join("link")).unwrap();

        let mut writer = Writer::new();
        let directory = |guest: &str| Directory { host: root.clone(), guest: guest.into() };
        pack(&mut writer, &[directory("/"), directory("/two")]).unwrap();
        fs::remove_dir_all(&root).unwrap();

        let bytes = writer.to_bytes().unwrap();
        let payload = Payload::parse(&bytes).unwrap();
        let names: Vec<&str> = payload.iter().map(|entry| entry.name).collect();
        assert_eq!(
            names,
            [
                "fs/",
                "fs/deep/",
                "fs/deep/er/",
                "fs/deep/er/file",
                "fs/empty/",
                "fs/two/",
                "fs/two/deep/",
                "fs/two/deep/er/",
                "fs/two/deep/er/file",
                "fs/two/empty/",
                "link/link",
                "link/two/link",
                "preopens",
            ]
        );
        assert_eq!(payload.get("fs/deep/er/file"), Some(b"content".as_slice()));
        assert_eq!(payload.get("link/two/link"), Some(b"deep/er".as_slice()));
        assert_eq!(payload.get("preopens"), Some(b"/\0/two\0".as_slice()));
    }
}
