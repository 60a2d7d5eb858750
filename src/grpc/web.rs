//! The status of a gRPC-Web call, which is in the last frame of the response's body: pure.

use super::classify::base64_digit;
use bytes::Buf;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::{io::IoSlice, mem};

/// How much of the trailers is kept: far more than servers send, as in tonic's limit for headers.
const LIMIT: usize = 16 * 1024;

/// The bits of a frame's first byte: it holds trailers; it is compressed.
const TRAILERS: u8 = 0x80;
const COMPRESSED: u8 = 0x01;

/// A reader of the trailers in a gRPC-Web body, which sees the body pass and keeps nothing else of
/// it.
///
/// # Invariants
/// 1. At most 16 KiB of the body are kept, and only of its trailers.
#[derive(Debug)]
pub struct WebTrailers {
    /// `None` if the body is binary.
    base64: Option<Group>,
    frame: FrameState,
}

/// The beginning of a group of four digits in base64.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    digits: [u8; 4],
    len: usize,
}

#[derive(Debug)]
enum FrameState {
    /// In the five bytes before a frame: the flags, and its length in big endian.
    Head { head: [u8; 5], len: usize },
    /// In a message, of which so much is to come.
    Message { left: usize },
    /// In the trailers, of which so much is to come.
    Trailers { left: usize, block: Vec<u8> },
    /// After the trailers.
    Read(HeaderMap),
    /// After something that no client can read.
    Malformed,
    /// After something that clients may read, but not this reader.
    Unreadable,
}

/// What a body has said, once it has ended.
#[derive(Debug)]
pub(super) enum WebEnd<'a> {
    Trailers(&'a HeaderMap),
    /// It ended without a status.
    Nothing,
    /// It may have had one.
    Unreadable,
}

impl WebTrailers {
    pub(super) fn new(text: bool) -> Self {
        Self {
            base64: text.then(Group::default),
            frame: FrameState::START,
        }
    }

    /// Looks at data that passes. Returns whether the trailers have been read.
    pub(super) fn read(&mut self, data: &impl Buf) -> bool {
        let mut slices = [IoSlice::new(&[]); 16];
        let filled = data.chunks_vectored(&mut slices);
        let mut seen = 0;
        for slice in slices.iter().take(filled) {
            seen += slice.len();
            self.read_slice(slice);
        }
        if seen < data.remaining() && !matches!(self.frame, FrameState::Read(_)) {
            self.frame = FrameState::Unreadable;
        }
        matches!(self.frame, FrameState::Read(_))
    }

    pub(super) fn end(&self) -> WebEnd<'_> {
        match &self.frame {
            FrameState::Read(trailers) => WebEnd::Trailers(trailers),
            FrameState::Unreadable => WebEnd::Unreadable,
            _ => WebEnd::Nothing,
        }
    }

    fn read_slice(&mut self, slice: &[u8]) {
        let Some(group) = &mut self.base64 else {
            return self.frame.read(slice);
        };
        // Not one group at a time: messages are skipped in longer steps.
        for part in slice.chunks(256) {
            let (mut bytes, mut len) = ([0; 256], 0);
            for digit in part {
                match group.push(*digit) {
                    Ok(decoded) => {
                        let (decoded, count) = decoded.unwrap_or_default();
                        for byte in decoded.into_iter().take(count) {
                            bytes[len] = byte;
                            len += 1;
                        }
                    }
                    Err(NoBase64) => {
                        self.frame = FrameState::Malformed;
                        return;
                    }
                }
            }
            self.frame.read(&bytes[..len]);
        }
    }
}

#[derive(Debug)]
struct NoBase64;

impl Group {
    /// Takes one more digit. Returns up to three bytes, and how many they are, at the end of a
    /// group. There may be padding within a body, since what a server flushed ends a group.
    fn push(&mut self, digit: u8) -> Result<Option<([u8; 3], usize)>, NoBase64> {
        if digit.is_ascii_whitespace() {
            return Ok(None);
        }
        self.digits[self.len] = digit;
        self.len = (self.len + 1) % 4;
        if self.len > 0 {
            return Ok(None);
        }
        let count = match self.digits {
            [.., b'=', b'='] => 1,
            [.., b'='] => 2,
            _ => 3,
        };
        let mut bits = 0_u32;
        for (n, digit) in self.digits.into_iter().enumerate() {
            let value = match n <= count {
                true => base64_digit(digit).ok_or(NoBase64)?,
                false => 0,
            };
            bits = bits << 6 | u32::from(value);
        }
        let [_, a, b, c] = bits.to_be_bytes();
        Ok(Some(([a, b, c], count)))
    }
}

impl FrameState {
    const START: Self = Self::Head {
        head: [0; 5],
        len: 0,
    };

    fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self {
                Self::Head { head, len } => {
                    let (taken, rest) = bytes.split_at(bytes.len().min(head.len() - *len));
                    head[*len..*len + taken.len()].copy_from_slice(taken);
                    *len += taken.len();
                    bytes = rest;
                    if *len == head.len() {
                        *self = Self::begin(*head);
                    }
                }
                Self::Message { left } => {
                    let (taken, rest) = bytes.split_at(bytes.len().min(*left));
                    *left -= taken.len();
                    bytes = rest;
                    if *left == 0 {
                        *self = Self::START;
                    }
                }
                Self::Trailers { left, block } => {
                    let (taken, rest) = bytes.split_at(bytes.len().min(*left));
                    *left -= taken.len();
                    let room = LIMIT - block.len();
                    block.extend_from_slice(&taken[..taken.len().min(room)]);
                    bytes = rest;
                    if *left == 0 {
                        *self = Self::Read(parse(&mem::take(block)));
                    }
                }
                // The trailers are the last frame.
                Self::Read(_) | Self::Malformed | Self::Unreadable => return,
            }
        }
    }

    /// Begins the frame with this head.
    fn begin([flags, length @ ..]: [u8; 5]) -> Self {
        let left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        match flags {
            flags if flags & TRAILERS == 0 && left == 0 => Self::START,
            flags if flags & TRAILERS == 0 => Self::Message { left },
            flags if flags & COMPRESSED != 0 => Self::Unreadable,
            _ if left == 0 => Self::Read(HeaderMap::new()),
            _ => Self::Trailers {
                left,
                block: Vec::new(),
            },
        }
    }
}

/// Reads a block of `name: value` lines; what is no such line is left out.
fn parse(block: &[u8]) -> HeaderMap {
    // A line that was cut off could have any value.
    let whole = match block.iter().rposition(|byte| *byte == b'\n') {
        Some(last) if block.len() == LIMIT => &block[..last],
        None if block.len() == LIMIT => &[],
        _ => block,
    };
    let mut trailers = HeaderMap::new();
    for line in whole.split(|byte| *byte == b'\n') {
        if let Some(colon) = line.iter().position(|byte| *byte == b':')
            && let Ok(name) = HeaderName::from_bytes(line[..colon].trim_ascii())
            && let Ok(value) = HeaderValue::from_bytes(line[colon + 1..].trim_ascii())
            && trailers.try_append(name, value).is_err()
        {
            break;
        }
    }
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn frame(flags: u8, data: &[u8]) -> Vec<u8> {
        let mut frame = vec![flags];
        frame.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        frame.extend(data);
        frame
    }

    fn base64(bytes: &[u8]) -> Vec<u8> {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let group = |three: &[u8]| {
            let bits = three.iter().enumerate();
            let bits = bits.fold(0, |bits, (n, byte)| bits | u32::from(*byte) << (16 - 8 * n));
            let digits = (0..=three.len()).map(|n| DIGITS[(bits >> (18 - 6 * n) & 63) as usize]);
            let mut group: Vec<u8> = digits.collect();
            group.resize(4, b'=');
            group
        };
        bytes.chunks(3).flat_map(group).collect()
    }

    /// What the body says, passed in parts of this size.
    fn status(body: &[u8], text: bool, size: usize) -> Result<Option<String>, ()> {
        let mut reader = WebTrailers::new(text);
        for part in body.chunks(size.max(1)) {
            let read = reader.read(&Bytes::copy_from_slice(part));
            assert_eq!(read, matches!(reader.end(), WebEnd::Trailers(_)));
        }
        match reader.end() {
            WebEnd::Trailers(trailers) => {
                let status = trailers.get("grpc-status");
                Ok(status.map(|status| status.to_str().unwrap().to_owned()))
            }
            WebEnd::Nothing => Ok(None),
            WebEnd::Unreadable => Err(()),
        }
    }

    fn said(code: &str) -> Result<Option<String>, ()> {
        Ok(Some(code.to_owned()))
    }

    #[test]
    fn the_status_is_found_however_the_body_is_cut_and_coded() {
        let trailers = b"grpc-status: 14\r\nGrpc-Message:it%27s gone\r\n";
        let frames = [
            frame(0, b""),
            frame(0, &[0x80; 700]),
            frame(1, b"compressed"),
            frame(TRAILERS, trailers),
        ];
        let binary = frames.concat();
        // Each frame is flushed, so that there is padding within the body.
        let text: Vec<u8> = frames.iter().flat_map(|frame| base64(frame)).collect();
        for size in 1..=binary.len() {
            assert_eq!(status(&binary, false, size), said("14"), "{size}");
            assert_eq!(status(&text, true, size), said("14"), "{size}");
        }
        let whole = base64(&binary);
        assert_eq!(status(&whole, true, 7), said("14"));
    }

    #[test]
    fn data_in_several_slices_is_read_and_in_too_many_it_is_not() {
        let body = Bytes::from(frame(TRAILERS, b"grpc-status: 0"));
        let mut reader = WebTrailers::new(false);
        assert!(reader.read(&body.slice(..7).chain(body.slice(7..))));
        /// Shows its first byte only, as far as it can be looked at.
        struct Hidden(Bytes);
        impl Buf for Hidden {
            fn remaining(&self) -> usize {
                self.0.len()
            }
            fn chunk(&self) -> &[u8] {
                &self.0[..1]
            }
            fn advance(&mut self, count: usize) {
                self.0.advance(count);
            }
        }
        let mut reader = WebTrailers::new(false);
        assert!(!reader.read(&Hidden(body)));
        assert!(matches!(reader.end(), WebEnd::Unreadable));
    }

    #[test]
    fn what_is_not_a_status_is_none() {
        for body in [
            Vec::new(),
            b"\x80".to_vec(),
            frame(0, b"message only"),
            // Cut off.
            frame(TRAILERS, b"grpc-status: 0")[..12].to_vec(),
            frame(TRAILERS, b""),
            frame(TRAILERS, b"no line\n\n:\r\n\xff: \0\n"),
            [0xff, 0xff, 0xff, 0xff].to_vec(),
        ] {
            assert_eq!(status(&body, false, 3), Ok(None), "{body:?}");
        }
        assert_eq!(status(b"AAAA*AAA", true, 3), Ok(None));
        assert_eq!(status(b"====", true, 3), Ok(None));
        assert_eq!(status(&frame(0x81, b"zipped"), false, 3), Err(()));
    }

    #[test]
    fn no_more_than_the_limit_is_kept_and_no_line_that_was_cut_off_is_believed() {
        let mut trailers = b"grpc-status: 13\r\nlong: ".to_vec();
        trailers.resize(1 << 20, b'x');
        let mut reader = WebTrailers::new(false);
        let body = frame(TRAILERS, &trailers);
        for part in body[..body.len() - 1].chunks(1_000) {
            assert!(!reader.read(&Bytes::copy_from_slice(part)));
            if let FrameState::Trailers { block, .. } = &reader.frame {
                assert!(block.len() <= LIMIT && block.capacity() <= 2 * LIMIT);
            }
        }
        assert!(reader.read(&Bytes::from_static(b"x")));
        assert!(matches!(reader.end(), WebEnd::Trailers(map) if map.len() == 1));
        let mut cut = vec![b'y'; LIMIT - b"\ngrpc-status: 1".len()];
        cut.extend(b"\ngrpc-status: 14\r\n");
        assert_eq!(status(&frame(TRAILERS, &cut), false, 999), Ok(None));
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(
            body in prop::collection::vec(prop_oneof![Just(0_u8), Just(0x80), Just(b'='), any::<u8>()], 0..120),
            text in any::<bool>(),
            size in 1_usize..50,
        ) {
            let _ = status(&body, text, size);
            let _ = status(&base64(&body), true, size);
        }
    }
}
