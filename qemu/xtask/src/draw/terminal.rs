//! What the reader's terminal can show.

use std::env;
use std::io::IsTerminal;

/// The least width with which a bar is still one, and the most that a line may take.
const WIDTHS: core::ops::RangeInclusive<usize> = 50..=140;

/// The width if it is not known.
const USUAL: usize = 80;

/// How text may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    /// Characters in a line.
    pub(super) width: usize,
    /// Whether box drawing and blocks can be shown.
    pub(super) unicode: bool,
    pub(super) colour: bool,
}

impl Style {
    /// What standard output can show.
    pub(super) fn of_output() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok();
        let variable = |name: &str| env::var(name).ok();
        Self::of(is_terminal, size.map(|size| usize::from(size.ws_col)), variable)
    }

    fn of(is_terminal: bool, columns: Option<usize>, variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        // As the C library chooses: the first that is set decides.
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
        let encoding = locale.to_ascii_uppercase().replace('-', "");
        let asked = set("COLUMNS").and_then(|columns| columns.parse().ok());
        let width = columns.filter(|columns| *columns > 0).or(asked).unwrap_or(USUAL);
        Self {
            width: width.clamp(*WIDTHS.start(), *WIDTHS.end()),
            unicode: encoding.contains("UTF8"),
            colour: is_terminal && set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Style;

    fn style(is_terminal: bool, columns: Option<usize>, variables: &[(&str, &str)]) -> Style {
        Style::of(is_terminal, columns, |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_locale_decides_about_unicode() {
        let unicode = |variables| style(true, None, variables).unicode;
        assert!(unicode(&[("LANG", "de_DE.UTF-8")]) && unicode(&[("LC_ALL", "C.utf8")]));
        assert!(!unicode(&[]) && !unicode(&[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")]));
        assert!(unicode(&[("LC_ALL", ""), ("LC_CTYPE", "C.UTF-8"), ("LANG", "C")]));
    }

    #[test]
    fn colour_is_for_terminals_that_want_it() {
        assert!(style(true, None, &[]).colour && style(true, None, &[("NO_COLOR", "")]).colour);
        assert!(!style(false, None, &[]).colour && !style(true, None, &[("NO_COLOR", "1")]).colour);
        assert!(!style(true, None, &[("TERM", "dumb")]).colour);
    }

    #[test]
    fn the_terminal_says_how_wide_it_is() {
        assert_eq!(style(true, Some(100), &[("COLUMNS", "70")]).width, 100);
        assert_eq!(style(false, None, &[("COLUMNS", "70")]).width, 70);
        assert_eq!(style(false, None, &[("COLUMNS", "wide")]).width, 80);
        assert_eq!((style(true, Some(3), &[]).width, style(true, Some(999), &[]).width), (50, 140));
    }
}
