//! Where the messages of a gRPC request begin and end: pure.

use std::mem;

/// A follower of the messages in a gRPC body, which sees the body pass and keeps nothing of it.
///
/// A body that ends in the midst of a message, or in which a message begins as none may, is the
/// doing of whoever sent it. The transport does not notice, and tonic's servers answer with
/// `INTERNAL`.
///
/// # Invariants
/// 1. What it says does not depend on how the body was cut into frames.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    /// The five bytes before a message: whether it is compressed (0 or 1), and its length in big
    /// endian.
    head: [u8; 5],
    /// How many of these are there.
    len: usize,
    /// How much of the message is to come.
    left: usize,
    is_malformed: bool,
}

impl Framing {
    /// Looks at data of the body that passes.
    pub(crate) fn read(&mut self, mut data: &[u8]) {
        while !data.is_empty() && !self.is_malformed {
            let passed = self.left.min(data.len());
            self.left -= passed;
            data = &data[passed..];
            let wanted = (self.head.len() - self.len).min(data.len());
            let (head, rest) = data.split_at(wanted);
            for byte in head {
                self.head[self.len] = *byte;
                self.len += 1;
            }
            data = rest;
            self.is_malformed = self.len > 0 && self.head[0] > 1;
            if self.len == self.head.len() {
                let [_, length @ ..] = mem::take(&mut self.head);
                self.len = 0;
                self.left = u32::from_be_bytes(length) as usize;
            }
        }
    }

    /// Returns whether a message has begun as none may.
    pub(crate) fn is_malformed(&self) -> bool {
        self.is_malformed
    }

    /// Returns whether a body that ends here has whole messages only.
    pub(crate) fn is_whole(&self) -> bool {
        !self.is_malformed && self.left == 0 && self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is said of this body, read in parts that end at these places.
    fn read(body: &[u8], cuts: &[usize]) -> (bool, bool) {
        let mut framing = Framing::default();
        let mut from = 0;
        for cut in cuts.iter().copied().chain([body.len()]) {
            let to = cut.clamp(from, body.len());
            framing.read(&body[from..to]);
            from = to;
        }
        (framing.is_whole(), framing.is_malformed())
    }

    #[test]
    fn whole_messages_are_told_from_half_ones_and_from_none() {
        for (body, expected) in [
            (&b""[..], (true, false)),
            (b"\0\0\0\0\0", (true, false)),
            (b"\x01\0\0\0\x02ab\0\0\0\0\x01c", (true, false)),
            (b"\0", (false, false)),
            (b"\0\0\0\0", (false, false)),
            (b"\0\0\0\0\x02a", (false, false)),
            (b"\0\0\0\0\x02ab\0", (false, false)),
            (b"\x02", (false, true)),
            (b"\0\0\0\0\x01a\x07\0\0\0\0", (false, true)),
        ] {
            assert_eq!(read(body, &[]), expected, "{body:?}");
            let all: Vec<usize> = (0..body.len()).collect();
            assert_eq!(read(body, &all), expected, "byte by byte: {body:?}");
        }
    }

    proptest! {
        #[test]
        fn how_the_body_was_cut_does_not_matter(
            sizes in prop::collection::vec(0_usize..600, 0..5),
            missing in 0_usize..4,
            mut cuts in prop::collection::vec(0_usize..3_000, 0..8),
        ) {
            let mut body = Vec::new();
            for size in &sizes {
                body.push(0);
                body.extend((*size as u32).to_be_bytes());
                body.resize(body.len() + size, 0xff);
            }
            let whole = missing == 0 || body.is_empty();
            body.truncate(body.len().saturating_sub(missing));
            cuts.sort_unstable();
            // What is cut off may be a whole message of nothing, or all there is.
            let expected = read(&body, &[]);
            prop_assert_eq!(read(&body, &cuts), expected);
            prop_assert!(!expected.1);
            prop_assert!(!whole || expected.0);
        }
    }
}
