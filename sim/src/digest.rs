//! A running hash of everything that happens in a world: two runs are the same run if it is the same.

/// FNV-1a over words, with a rotation so that order counts in every bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

impl Default for Digest {
    fn default() -> Self {
        Digest(OFFSET)
    }
}

impl Digest {
    /// Takes a number.
    pub fn word(&mut self, word: u64) {
        self.0 = ((self.0 ^ word).wrapping_mul(PRIME)).rotate_left(23);
    }

    /// Takes bytes and their number.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.word(u64::from_le_bytes(chunk.try_into().expect("chunks of eight")));
        }
        let rest = chunks.remainder();
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.word(u64::from_le_bytes(last));
        }
    }

    /// The hash so far.
    pub fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[&[u8]]) -> u64 {
        let mut digest = Digest::default();
        for part in parts {
            digest.bytes(part);
        }
        digest.value()
    }

    #[test]
    fn order_length_and_content_count() {
        let base = of(&[b"abc", b"defghijklm"]);
        assert_eq!(base, of(&[b"abc", b"defghijklm"]));
        for other in
            [of(&[b"defghijklm", b"abc"]), of(&[b"abcd", b"efghijklm"]), of(&[b"abc", b"defghijkln"])]
        {
            assert_ne!(base, other);
        }
    }
}
