//! Tells a person's WebSocket messages from keep-alive chatter, by frame headers alone.
//!
//! Source: RFC 6455, section 5.2. Only opcodes and lengths are read; payloads are skipped,
//! so compression and masking do not matter.

/// Frames with this bit in their opcode are control frames: ping, pong, close.
const CONTROL_BIT: u8 = 0x08;
/// The bit beside the length that says a mask follows.
const MASKED: u8 = 0x80;
/// Lengths that stand for "in the next two bytes", and "in the next eight".
const LENGTH_IN_2: u8 = 0x7e;
const LENGTH_IN_8: u8 = 0x7f;
/// A frame's head: two bytes, up to eight of length, four of mask.
const HEAD_LENGTH_MAX: usize = 14;

/// Reads one direction of a WebSocket as it passes by.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: [u8; HEAD_LENGTH_MAX],
    head_length: usize,
    payload_left: u64,
}

impl Frames {
    /// Whether these next bytes complete the head of a data frame that carries something.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> bool {
        let mut data = false;
        loop {
            let skipped = self.payload_left.min(bytes.len() as u64);
            self.payload_left -= skipped;
            bytes = &bytes[skipped as usize..];
            let Some((first, rest)) = bytes.split_first() else { return data };
            self.head[self.head_length] = *first;
            self.head_length += 1;
            bytes = rest;
            if let Some(length) = self.payload_length() {
                let control = self.head[0] & CONTROL_BIT != 0;
                data |= !control && length > 0;
                self.payload_left = length;
                self.head_length = 0;
            }
        }
    }

    /// The payload's length, once the whole head is there.
    fn payload_length(&self) -> Option<u64> {
        let head = &self.head[..self.head_length];
        let second = *head.get(1)?;
        let mask = if second & MASKED == 0 { 0 } else { 4 };
        let (length, extended) = match second & !MASKED {
            LENGTH_IN_2 => (u64::from(u16::from_be_bytes(head.get(2..4)?.try_into().ok()?)), 2),
            LENGTH_IN_8 => (u64::from_be_bytes(head.get(2..10)?.try_into().ok()?), 8),
            short => (u64::from(short), 0),
        };
        (head.len() == 2 + extended + mask).then_some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A masked frame as clients send them.
    fn frame(opcode: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode];
        match length {
            0..126 => frame.push(MASKED | length as u8),
            126..65536 => {
                frame.push(MASKED | LENGTH_IN_2);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(MASKED | LENGTH_IN_8);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([1, 2, 3, 4]);
        frame.extend(std::iter::repeat_n(0x89, length));
        frame
    }

    #[test]
    fn messages_count_and_chatter_does_not() {
        assert!(Frames::default().feed(&frame(1, 5)));
        assert!(Frames::default().feed(&frame(2, 70_000)));
        assert!(!Frames::default().feed(&frame(2, 0)));
        for control in [8, 9, 10] {
            assert!(!Frames::default().feed(&frame(control, 5)));
        }
    }

    #[test]
    fn frames_are_found_wherever_the_stream_is_cut() {
        let stream = [frame(10, 5), frame(1, 300), frame(9, 125), frame(2, 66_000), frame(10, 0), frame(1, 1)].concat();
        for size in [1, 2, 3, 7, 126, 1000, stream.len()] {
            let mut frames = Frames::default();
            let seen = stream.chunks(size).filter(|chunk| frames.feed(chunk)).count();
            assert!((1..=3).contains(&seen), "cut at {size}: {seen}");
            assert_eq!((frames.head_length, frames.payload_left), (0, 0), "cut at {size}");
        }
        let mut frames = Frames::default();
        assert_eq!(stream.chunks(1).filter(|chunk| frames.feed(chunk)).count(), 3);
    }

    #[test]
    fn a_length_that_lies_cannot_overflow() {
        let mut frames = Frames::default();
        assert!(frames.feed(&[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]));
        assert!(!frames.feed(&[0; 4096]));
    }
}
