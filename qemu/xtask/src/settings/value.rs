//! Values, as Wasmtime's command line writes them.

use std::time::Duration;

/// What may stand behind the `=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Yes or no; yes if nothing is said.
    Flag,
    /// The same of a setting whose name says the opposite: yes is 0.
    Opposite,
    /// A number, decimal or hexadecimal; `_` may group digits.
    Number,
    /// The same, of bytes.
    Bytes,
    /// Seconds, or a number with its unit.
    Time,
    /// One of these.
    Choice(&'static [&'static str]),
    /// One of these; the first if nothing is said.
    OptionalChoice(&'static [&'static str]),
    /// Anything.
    Text,
}

impl Kind {
    /// How help writes it.
    pub(super) fn shape(self) -> String {
        match self {
            Self::Flag | Self::Opposite => "[=y|n]".into(),
            Self::Number => "=N".into(),
            Self::Bytes => "=BYTES".into(),
            Self::Time => "=N|Ns|Nms|Nus|Nns".into(),
            Self::Choice(names) => format!("={}", names.join("|")),
            Self::OptionalChoice(names) => format!("[={}]", names.join("|")),
            Self::Text => "=TEXT".into(),
        }
    }

    /// The value as a number: of a choice its place, of a time its nanoseconds, of a text 0.
    pub(super) fn parse(self, text: Option<&str>) -> Result<u64, String> {
        match (self, text) {
            (Self::Flag, None | Some("y" | "yes" | "true")) => Ok(1),
            (Self::Flag, Some("n" | "no" | "false")) => Ok(0),
            (Self::Opposite, text) => Self::Flag.parse(text).map(|yes| 1 - yes),
            (Self::OptionalChoice(_), None) => Ok(0),
            (Self::Choice(names) | Self::OptionalChoice(names), Some(text)) => place(names, text)
                .ok_or_else(|| format!("`{text}` is none of its values: {}", names.join(", "))),
            (Self::Number | Self::Bytes, Some(text)) => {
                number(text).ok_or_else(|| format!("`{text}` is no number from 0 to {}", u64::MAX))
            }
            (Self::Time, Some(text)) => {
                time(text).ok_or_else(|| format!("`{text}` is no time, such as 2, 2s, 100ms, 50us, 10ns"))
            }
            (Self::Text, Some(_)) => Ok(0),
            (Self::Flag, Some(text)) => Err(format!("`{text}` is neither y nor n")),
            (_, None) => Err("it needs a value".into()),
        }
    }
}

fn place(names: &[&str], text: &str) -> Option<u64> {
    // The long forms that Wasmtime takes as well.
    let text = match text {
        "yes" | "true" => "y",
        "no" | "false" => "n",
        other => other,
    };
    let at = names.iter().position(|name| *name == text)?;
    u64::try_from(at).ok()
}

fn number(text: &str) -> Option<u64> {
    let digits = text.replace('_', "");
    // `from_str_radix` would take a sign.
    if digits.starts_with('+') {
        return None;
    }
    match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    }
}

fn time(text: &str) -> Option<u64> {
    type Unit = (&'static str, fn(u64) -> Duration);
    let units: [Unit; 5] = [
        ("ms", Duration::from_millis),
        ("us", Duration::from_micros),
        ("μs", Duration::from_micros),
        ("ns", Duration::from_nanos),
        ("s", Duration::from_secs),
    ];
    let found = units.iter().find_map(|(unit, of)| Some((text.strip_suffix(unit)?, *of)));
    let (digits, of) = found.unwrap_or((text, Duration::from_secs));
    u64::try_from(of(digits.parse().ok()?).as_nanos()).ok()
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn values_are_read_as_wasmtime_reads_them() {
        let flag = |text| Kind::Flag.parse(text);
        assert!([None, Some("y"), Some("yes"), Some("true")].iter().all(|text| flag(*text) == Ok(1)));
        assert!(["n", "no", "false"].iter().all(|text| flag(Some(text)) == Ok(0)));
        assert_eq!((Kind::Opposite.parse(None), Kind::Opposite.parse(Some("n"))), (Ok(0), Ok(1)));
        assert!(flag(Some("1")).is_err() && flag(Some("")).is_err());
        for (text, number) in [("0", 0), ("1_000", 1000), ("0x1_0", 16), ("18446744073709551615", u64::MAX)] {
            assert_eq!(Kind::Number.parse(Some(text)), Ok(number));
        }
        for text in ["", "-1", "+1", "0x", "1k", "18446744073709551616"] {
            assert!(Kind::Bytes.parse(Some(text)).unwrap_err().contains("no number"), "{text}");
        }
        for (text, ns) in [
            ("2", 2_000_000_000),
            ("2s", 2_000_000_000),
            ("3ms", 3_000_000),
            ("4us", 4000),
            ("4μs", 4000),
            ("5ns", 5),
        ] {
            assert_eq!(Kind::Time.parse(Some(text)), Ok(ns));
        }
        assert!(
            ["", "s", "1m", "0.5", "99999999999999999s"]
                .iter()
                .all(|text| Kind::Time.parse(Some(text)).is_err())
        );
    }

    #[test]
    fn choices_are_places_in_their_list() {
        let names = &["y", "n", "auto"];
        assert_eq!(Kind::Choice(names).parse(Some("auto")), Ok(2));
        assert_eq!(Kind::Choice(names).parse(Some("no")), Ok(1));
        assert_eq!(Kind::OptionalChoice(names).parse(None), Ok(0));
        assert!(Kind::Choice(names).parse(None).is_err());
        assert!(Kind::Choice(names).parse(Some("maybe")).unwrap_err().contains("y, n, auto"));
    }
}
