//! What a kernel says while it goes through its scripts: a line on standard output each.

use core::fmt;

/// A line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report<'a> {
    /// A script begins: its number in the payload, from 0.
    Begin(u32),
    /// A step begins: its line in the script's file. Of a machine that dies, this is the last word.
    At(u32),
    /// What the script had to do here was not what came of it.
    Failed {
        /// The line in the script's file.
        line: u32,
        /// What was expected and what came. Line ends in it are written as spaces.
        why: &'a str,
    },
    /// The script is over.
    End,
}

impl<'a> Report<'a> {
    /// Reads a line.
    ///
    /// # Errors
    /// If it is none of these.
    pub fn parse(line: &'a str) -> Result<Self, UnknownReport<'a>> {
        let unknown = UnknownReport { line };
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (word, rest) {
            ("begin", number) => number.parse().map(Self::Begin).map_err(|_| unknown),
            ("at", line) => line.parse().map(Self::At).map_err(|_| unknown),
            ("failed", rest) => {
                let (line, why) = rest.split_once(' ').ok_or(unknown)?;
                Ok(Self::Failed { line: line.parse().map_err(|_| unknown)?, why })
            }
            ("end", "") => Ok(Self::End),
            _ => Err(unknown),
        }
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(number) => write!(f, "begin {number}"),
            Self::At(line) => write!(f, "at {line}"),
            Self::Failed { line, why } => {
                write!(f, "failed {line} ")?;
                why.split(['\n', '\r']).enumerate().try_for_each(|(number, part)| {
                    f.write_str(if number == 0 { "" } else { " " })?;
                    f.write_str(part)
                })
            }
            Self::End => f.write_str("end"),
        }
    }
}

/// A line that means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownReport<'a> {
    /// The line.
    pub line: &'a str,
}

impl fmt::Display for UnknownReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the kernel said `{}`, which means nothing here", self.line)
    }
}

impl core::error::Error for UnknownReport<'_> {}

#[cfg(test)]
mod tests {
    use super::Report;

    #[test]
    fn every_line_comes_back() {
        let failed = Report::Failed { line: 12, why: "expected 1, got 2" };
        for report in [Report::Begin(0), Report::Begin(u32::MAX), Report::At(7), failed, Report::End] {
            assert_eq!(Report::parse(&report.to_string()), Ok(report));
        }
        let text = Report::Failed { line: 1, why: "a\nb" }.to_string();
        assert_eq!(text, "failed 1 a b");
    }

    #[test]
    fn other_lines_are_named() {
        for line in
            ["", "begin", "begin x", "at", "at 1 2", "failed", "failed 1", "failed x y", "end 1", "ended"]
        {
            let error = Report::parse(line).unwrap_err();
            assert!(error.to_string().contains(line));
        }
    }
}
