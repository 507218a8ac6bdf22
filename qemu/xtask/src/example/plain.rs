//! A console without what would move a terminal's cursor: firmware clears the screen more than once.

/// Takes escape sequences (`ESC [ ... letter`) out of what comes piece by piece.
#[derive(Debug, Default)]
pub(super) struct Plain {
    within: Within,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Within {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After `ESC [`.
    Sequence,
}

impl Plain {
    /// The text among `bytes`.
    pub(super) fn text(&mut self, bytes: &[u8]) -> Vec<u8> {
        bytes.iter().copied().filter(|byte| self.is_text(*byte)).collect()
    }

    fn is_text(&mut self, byte: u8) -> bool {
        let before = self.within;
        self.within = match (before, byte) {
            (Within::Text, 0x1b) => Within::Escape,
            (Within::Escape, b'[') => Within::Sequence,
            (Within::Sequence, 0x20..=0x3f) => Within::Sequence,
            _ => Within::Text,
        };
        before == Within::Text && self.within == Within::Text
    }
}

#[cfg(test)]
mod tests {
    use super::Plain;

    #[test]
    fn sequences_go_and_text_stays_however_it_is_cut() {
        let console = b"\x1b[2J\x1b[01;01H\x1b[=3hfirm\x1b[0mware\r\n[2J stays\n";
        for cut in 0..console.len() {
            let mut plain = Plain::default();
            let text = [plain.text(&console[..cut]), plain.text(&console[cut..])].concat();
            assert_eq!(text, b"firmware\r\n[2J stays\n", "cut at {cut}");
        }
    }
}
