//! Which tests libtest's words ask for.

#![cfg_attr(
    not(any(target_os = "none", test)),
    expect(dead_code, reason = "on the host libtest-mimic selects")
)]

use crate::Test;

/// A command line of libtest's words. It is read again for each test: a kernel that has
/// one test to run need not store it.
pub(crate) struct Selection<F> {
    words: F,
}

/// What a word means.
enum Word<'a> {
    Filter(&'a str),
    Skip(&'a str),
    Flag(&'a str),
}

impl<'a, F: Fn() -> I, I: Iterator<Item = &'a str>> Selection<F> {
    pub(crate) fn new(words: F) -> Self {
        Self { words }
    }

    /// Whether the tests are to be listed and not run.
    pub(crate) fn list(&self) -> bool {
        self.flag("--list")
    }

    /// Whether the words select `test`.
    pub(crate) fn selects(&self, test: &Test) -> bool {
        let ignored_fits = self.flag("--include-ignored") || self.flag("--ignored") == test.ignored;
        let exact = self.flag("--exact");
        let matches = |pattern: &str| {
            if exact { test.name == pattern } else { test.name.contains(pattern) }
        };
        let (mut any_filter, mut filtered_in) = (false, false);
        for word in self.meanings() {
            match word {
                Word::Skip(pattern) if matches(pattern) => return false,
                Word::Filter(pattern) => {
                    any_filter = true;
                    filtered_in |= matches(pattern);
                }
                Word::Skip(_) | Word::Flag(_) => {}
            }
        }
        ignored_fits && (filtered_in || !any_filter)
    }

    fn flag(&self, name: &str) -> bool {
        self.meanings().any(|word| matches!(word, Word::Flag(flag) if flag == name))
    }

    fn meanings(&self) -> impl Iterator<Item = Word<'a>> {
        let mut words = (self.words)();
        core::iter::from_fn(move || {
            loop {
                let word = words.next()?;
                return Some(match word {
                    "--skip" => Word::Skip(words.next()?),
                    // These two also come as one word with `=`, which is then a flag.
                    "--format" | "--test-threads" | "--color" => {
                        words.next();
                        continue;
                    }
                    _ if word.starts_with('-') => Word::Flag(word),
                    // QEMU's microvm and firmware add words of their own: `virtio_mmio.device=..`.
                    _ if word.contains('=') => continue,
                    _ => Word::Filter(word),
                });
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Selection;
    use crate::Test;

    fn selected(line: &str) -> Vec<&'static str> {
        let test = |name, ignored| Test { name, ignored, run: || {} };
        let tests = [test("grow", false), test("grow_far", false), test("long", true)];
        let selection = Selection::new(|| line.split_ascii_whitespace());
        let names = tests.iter().filter(|test| selection.selects(test));
        names.map(|test| test.name).collect()
    }

    #[test]
    fn words_select_as_libtest_does() {
        for (line, expected) in [
            ("", ["grow", "grow_far"].as_slice()),
            ("grow", &["grow", "grow_far"]),
            ("grow --exact", &["grow"]),
            ("far long", &["grow_far"]),
            ("--ignored", &["long"]),
            ("--include-ignored", &["grow", "grow_far", "long"]),
            ("--skip far", &["grow"]),
            ("--skip grow --exact", &["grow_far"]),
            ("--format terse --nocapture far", &["grow_far"]),
            ("virtio_mmio.device=512@0xfeb00e00:12 far", &["grow_far"]),
            ("nothing", &[]),
        ] {
            assert_eq!(selected(line), expected, "{line:?}");
        }
    }

    #[test]
    fn list_is_a_flag() {
        let list = |line: &'static str| Selection::new(|| line.split(' ')).list();
        assert!(list("--list --format terse"));
        assert!(!list("--skip --list"));
    }
}
