//! Taking choices from the front of an input.

/// What is left of an input.
pub(super) struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    /// The next byte; 0 when there is none.
    pub(super) fn number(&mut self) -> u8 {
        let (first, rest) =
            self.0.split_first().map_or((0, self.0), |(first, rest)| (*first, rest));
        self.0 = rest;
        first
    }

    /// Everything up to the first zero byte, which is left out; the rest stays.
    pub(super) fn part(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|byte| *byte == 0);
        let (part, rest) = end.map_or((self.0, &[][..]), |at| (&self.0[..at], &self.0[at + 1..]));
        self.0 = rest;
        part
    }
}
