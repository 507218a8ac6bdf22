//! `docs/soundness.md` beside the sources: each `unsafe fn` and `unsafe trait` of the interface is in its
//! tables, each invariant has threat, defence and tests, and the tests exist. Host only, as it reads both.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
harness::tests! {}

#[cfg(not(target_os = "none"))]
harness::tests! {
    fn every_unsafe_part_of_the_interface_is_in_the_table() {
        host::promises();
    }

    fn every_invariant_has_threat_defence_and_tests() {
        host::invariants();
    }

    fn every_test_that_is_named_exists() {
        host::named_tests();
    }

    fn what_is_missing_would_be_found() {
        host::parser();
    }
}

#[cfg(not(target_os = "none"))]
mod host {
    use std::{
        collections::BTreeSet,
        fs,
        path::{Path, PathBuf},
    };

    pub(crate) fn promises() {
        let mut declared = BTreeSet::new();
        for file in sources(&["src", "arch/src"]) {
            declared.extend(unsafe_parts(&read(&file)));
        }
        assert!(declared.len() >= 50, "only {} were understood: {declared:?}", declared.len());
        let listed = listed(section("## What the embedder promises"));
        let missing: Vec<_> = declared.difference(&listed).collect();
        assert!(missing.is_empty(), "not in docs/soundness.md, `What the embedder promises`: {missing:#?}");
        let gone: Vec<_> = listed.difference(&declared).collect();
        assert!(gone.is_empty(), "in docs/soundness.md, and not unsafe, public or there any more: {gone:#?}");
    }

    pub(crate) fn invariants() {
        let text = section("## Invariants");
        let numbered = numbered(&text);
        assert!(numbered.len() >= 29, "{} invariants", numbered.len());
        for (nth, invariant) in numbered.iter().enumerate() {
            assert!(invariant.starts_with(&format!("{}. **", nth + 1)), "{}: {invariant}", nth + 1);
            for part in ["*Threat: ", "Defence:*", "*Test"] {
                assert!(invariant.contains(part), "no `{part}` in invariant {}", nth + 1);
            }
            assert!(!tests_of(invariant).is_empty(), "no test in invariant {}", nth + 1);
        }
    }

    pub(crate) fn named_tests() {
        let files = sources(&["tests", "arch/tests", "arch/src", "qemu/run/tests"]);
        let all: String = files.iter().map(|file| read(file)).collect();
        let text = section("## Invariants");
        let numbered = numbered(&text);
        let named: BTreeSet<_> = numbered.iter().flat_map(|invariant| tests_of(invariant)).collect();
        assert!(named.len() >= 80, "only {} were found: {named:?}", named.len());
        let missing: Vec<_> = named.iter().filter(|name| !all.contains(&format!("fn {name}("))).collect();
        assert!(missing.is_empty(), "named in docs/soundness.md, and no test: {missing:#?}");
    }

    /// What these tests are for: each of these is found.
    pub(crate) fn parser() {
        let source = "\
pub unsafe trait Held: Send {
    fn safe(&self);
    unsafe fn method(&self);
}
pub(crate) unsafe trait Own {}
unsafe impl<A: Arch> Held for Thing<A> {
    unsafe fn method(&self) {}
}
impl<'a, A: Arch, const N: usize> Thing<'a, A> {
    pub unsafe fn new() {}
    pub const unsafe fn constant() {}
    pub(super) unsafe fn near() {}
    unsafe fn own() {}
    /// pub unsafe fn comment() {}
}
pub unsafe fn free() {}
unsafe extern \"C\" fn symbol() {}
";
        let found: Vec<_> = unsafe_parts(source).into_iter().collect();
        assert_eq!(found, ["Held", "Held::method", "Thing::constant", "Thing::new", "free"]);
        let table = "| unsafe | promise |\n|---|---|\n| `Held`, `Thing::new` | `free` does |\n\nand `other`";
        assert_eq!(listed(table.to_string()).into_iter().collect::<Vec<_>>(), ["Held", "Thing::new"]);
        let text = "1. **A.** By `not_a_test`. *Test: `one_test`.* And `no_more`\n2. **B.** *Tests: `two_a`,\n   `two_b`, all of `tests/b.rs`, `-cpu x`.*";
        let numbered = numbered(text);
        let tests: Vec<_> = numbered.iter().map(|one| tests_of(one)).collect();
        assert_eq!(tests, [vec!["one_test"], vec!["two_a", "two_b"]]);
    }

    /// Public unsafe traits, their unsafe methods, and public unsafe functions, by their type.
    fn unsafe_parts(source: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let (mut of, mut is_trait) = (None, false);
        for line in source.lines() {
            let code = line.trim_start();
            if code.starts_with("//") {
                continue;
            }
            if line.starts_with('}') {
                (of, is_trait) = (None, false);
            } else if let Some(name) =
                line.strip_prefix("pub unsafe trait ").or(line.strip_prefix("pub trait "))
            {
                let name = identifier(name);
                if line.starts_with("pub unsafe") {
                    found.insert(name.to_string());
                }
                (of, is_trait) = (Some(name), true);
            } else if let Some(rest) = line.strip_prefix("impl") {
                // Of a trait's implementation nothing is public that is not the trait's.
                of = (!line.contains(" for ")).then(|| identifier(after_generics(rest)));
            }
            let Some((before, name)) = code.split_once("unsafe fn ") else { continue };
            let is_public = before == "pub " || before == "pub const " || is_trait && before.is_empty();
            if is_public && (of.is_some() || !line.starts_with(' ')) {
                let name = identifier(name);
                found.insert(of.map_or(name.to_string(), |of| format!("{of}::{name}")));
            }
        }
        found
    }

    /// What comes after the parameters of an `impl`.
    fn after_generics(text: &str) -> &str {
        let mut depth = 0;
        let end = text.find(|character| {
            depth += match character {
                '<' => 1,
                '>' => -1,
                _ => 0,
            };
            depth == 0
        });
        match end {
            Some(end) if text.starts_with('<') => text[end + 1..].trim_start(),
            _ => text.trim_start(),
        }
    }

    fn identifier(text: &str) -> &str {
        let end = text.find(|character: char| !character.is_alphanumeric() && character != '_');
        &text[..end.unwrap_or(text.len())]
    }

    /// What stands in the first column of tables whose head says `unsafe`.
    fn listed(text: String) -> BTreeSet<String> {
        let mut in_table = false;
        let mut found = BTreeSet::new();
        for line in text.lines() {
            if !line.starts_with('|') {
                in_table = false;
            } else if line.starts_with("| unsafe |") {
                in_table = true;
            } else if in_table {
                found.extend(quoted(line.split('|').nth(1).unwrap_or_default()).map(str::to_string));
            }
        }
        found
    }

    /// The items of a numbered list.
    fn numbered(text: &str) -> Vec<String> {
        let mut items: Vec<String> = Vec::new();
        for line in text.lines() {
            if line.starts_with(|character: char| character.is_ascii_digit()) {
                items.push(String::new());
            }
            if let Some(item) = items.last_mut() {
                item.push_str(line.trim_start());
                item.push('\n');
            }
        }
        items
    }

    /// The names of tests after `*Test`, up to the end of the emphasis.
    fn tests_of(invariant: &str) -> Vec<&str> {
        let Some((_, rest)) = invariant.split_once("*Test") else { return Vec::new() };
        let tests = rest.split_once('*').map_or(rest, |(tests, _)| tests);
        let is_name =
            |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        quoted(tests).filter(is_name).collect()
    }

    fn quoted(text: &str) -> impl Iterator<Item = &str> {
        text.split('`').skip(1).step_by(2)
    }

    /// A section of `docs/soundness.md`, up to the next of its rank.
    fn section(title: &str) -> String {
        let text = read(&root().join("docs/soundness.md"));
        let (_, rest) = text.split_once(&format!("{title}\n")).unwrap_or_else(|| panic!("no `{title}`"));
        rest.split_once("\n## ").map_or(rest, |(section, _)| section).to_string()
    }

    fn sources(directories: &[&str]) -> Vec<PathBuf> {
        let mut found = Vec::new();
        directories.iter().for_each(|directory| collect(&root().join(directory), &mut found));
        found
    }

    fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
        let entries =
            fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn root() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
    }
}
