//! What looks at files, and what tries to change them.

use std::{
    fs::{self, File, FileType, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use crate::{Outcome, only};

pub(crate) fn ls(arguments: &[String]) -> Outcome {
    let directory = arguments.first().map_or("/", String::as_str);
    let mut lines = Vec::new();
    for entry in fs::read_dir(directory).map_err(|error| format!("{directory}: {error}"))? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let name = entry.file_name().to_string_lossy().into_owned();
        lines.push(format!("{} {:>8} {name}", letter(metadata.file_type()), metadata.len()));
    }
    // The order of a directory is the file system's own.
    lines.sort_unstable_by(|a, b| a[11..].cmp(&b[11..]));
    for line in lines {
        println!("{line}");
    }
    Ok(())
}

pub(crate) fn find(arguments: &[String]) -> Outcome {
    let directory = arguments.first().map_or("/", String::as_str);
    let mut paths = Vec::new();
    walk(Path::new(directory), &mut paths)?;
    paths.sort_unstable();
    for path in paths {
        println!("{path}");
    }
    Ok(())
}

fn walk(directory: &Path, paths: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        paths.push(entry.path().to_string_lossy().into_owned());
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), paths)?;
        }
    }
    Ok(())
}

pub(crate) fn stat(paths: &[String]) -> Outcome {
    for path in paths {
        let metadata = fs::symlink_metadata(path).map_err(|error| format!("{path}: {error}"))?;
        print!("{path}: {} {}", letter(metadata.file_type()), metadata.len());
        if metadata.is_symlink() {
            match fs::metadata(path) {
                Ok(target) => print!(" -> {} {}", letter(target.file_type()), target.len()),
                Err(error) => print!(" -> {error}"),
            }
        }
        println!();
    }
    Ok(())
}

pub(crate) fn readlink(arguments: &[String]) -> Outcome {
    println!("{}", fs::read_link(only(arguments, "a path")?)?.display());
    Ok(())
}

pub(crate) fn tail(arguments: &[String]) -> Outcome {
    let [count, path] = arguments else { return Err("expected COUNT and FILE".into()) };
    let mut file = File::open(path)?;
    let count: i64 = count.parse()?;
    let len = i64::try_from(file.metadata()?.len())?;
    file.seek(SeekFrom::End(-count.min(len)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    io::stdout().write_all(&bytes)?;
    Ok(())
}

/// Every attempt must fail; prints how. Fails itself if one succeeds.
pub(crate) fn write(arguments: &[String]) -> Outcome {
    let path = only(arguments, "a path of an existing file")?;
    let new = &format!("{path}.new");
    let attempts: [(&str, io::Result<()>); 9] = [
        ("create", File::create(new).map(drop)),
        ("create anew", File::create_new(new).map(drop)),
        ("truncate", File::create(path).map(drop)),
        ("append", OpenOptions::new().append(true).open(path).map(drop)),
        ("write", OpenOptions::new().read(true).write(true).open(path).map(drop)),
        ("set length", File::open(path).and_then(|file| file.set_len(0))),
        ("make directory", fs::create_dir(new)),
        ("rename", fs::rename(path, new)),
        ("remove", fs::remove_file(path)),
    ];
    let mut succeeded = 0;
    for (what, attempt) in attempts {
        match attempt {
            Ok(()) => {
                println!("{what}: succeeded");
                succeeded += 1;
            }
            Err(error) => println!("{what}: {error}"),
        }
    }
    if succeeded > 0 { Err(format!("{succeeded} attempts succeeded").into()) } else { Ok(()) }
}

fn letter(kind: FileType) -> char {
    if kind.is_dir() {
        'd'
    } else if kind.is_symlink() {
        'l'
    } else if kind.is_file() {
        '-'
    } else {
        '?'
    }
}
