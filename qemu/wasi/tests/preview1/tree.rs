//! Trees from lists of paths.

use wasi::{Entry, Kind, Tree, TreeError};

const FILE: Kind<'static> = Kind::File(b"x");

fn tree(entries: &[(&str, Kind<'_>)]) -> Result<(), TreeError> {
    Tree::new(entries.iter().map(|&(path, kind)| Entry { path, kind })).map(drop)
}

#[test]
fn entries_come_in_any_order() {
    assert_eq!(tree(&[]), Ok(()));
    assert_eq!(tree(&[("/a/b/c", FILE), ("/a", Kind::Directory), ("/a/b/", Kind::Directory)]), Ok(()));
    assert_eq!(tree(&[("/", Kind::Directory), ("//a//b", FILE), ("/", Kind::Directory)]), Ok(()));
    assert_eq!(tree(&[("/l", Kind::Link("../anything")), ("/...", FILE)]), Ok(()));
}

#[test]
fn lists_that_make_no_tree_are_refused_by_path() {
    type Case = (&'static [(&'static str, Kind<'static>)], fn(String) -> TreeError, &'static str);
    let cases: [Case; 10] = [
        (&[("a", FILE)], TreeError::NotAbsolute, "a"),
        (&[("", FILE)], TreeError::NotAbsolute, ""),
        (&[("/a/../b", FILE)], TreeError::NotCanonical, "/a/../b"),
        (&[("/.", Kind::Directory)], TreeError::NotCanonical, "/."),
        (&[("/a\0b", FILE)], TreeError::NotCanonical, "/a\0b"),
        (&[("/a", FILE), ("/a/b", FILE)], TreeError::NotADirectory, "/a/b"),
        (&[("/a", Kind::Link("b")), ("/a/b", FILE)], TreeError::NotADirectory, "/a/b"),
        (&[("/a", FILE), ("/a", FILE)], TreeError::Duplicate, "/a"),
        (&[("/a", FILE), ("/a", Kind::Directory)], TreeError::Duplicate, "/a"),
        (&[("/", FILE)], TreeError::Duplicate, "/"),
    ];
    for (entries, make, path) in cases {
        let error = tree(entries).unwrap_err();
        assert_eq!(error, make(path.to_owned()));
        assert!(error.to_string().contains(path));
    }
    assert_eq!(tree(&[("/a/b", FILE), ("/a", FILE)]), Err(TreeError::Duplicate("/a".to_owned())));
}

#[test]
fn large_directories_are_built_and_searched() {
    let names: Vec<_> = (0..20_000).map(|index| format!("/many/{}", index * 7919 % 20_000)).collect();
    let entries: Vec<_> = names.iter().map(|path| (path.as_str(), FILE)).collect();
    assert_eq!(tree(&entries), Ok(()));
}
