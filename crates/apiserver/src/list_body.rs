//! A list as JSON, put together while it is sent.
//!
//! A list of thousands of objects is some megabytes. Put together beforehand it would be copied through
//! memory that no processor has at hand, twice, and nothing would be sent meanwhile; in pieces, the first
//! are on their way, and forgotten, while the next are made.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut as _, Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};

/// How large a piece becomes before it is sent, if no single object is larger.
const PIECE_BYTES: usize = 128 << 10;
const TAIL: &[u8] = b"]}\n";

/// The pieces of a list.
#[derive(Debug)]
pub(crate) struct ListBody {
    /// Everything up to the first object.
    head: Bytes,
    /// Texts of objects, which are copied as they stand.
    items: VecDeque<Bytes>,
    /// Whether the next object follows another one.
    follows: bool,
    /// Bytes that are still to be sent.
    left: usize,
}

impl ListBody {
    /// `head` opens the list's `items`.
    pub(crate) fn new(head: String, items: Vec<Bytes>) -> Self {
        let commas = items.len().saturating_sub(1);
        let left = head.len() + items.iter().map(Bytes::len).sum::<usize>() + commas + TAIL.len();
        Self { head: head.into(), items: items.into(), follows: false, left }
    }

    fn piece(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let mut piece = BytesMut::with_capacity(self.left.min(PIECE_BYTES));
        piece.put_slice(&std::mem::take(&mut self.head));
        while let Some(item) = self.items.front() {
            let size = item.len() + usize::from(self.follows);
            if !piece.is_empty() && piece.len() + size > PIECE_BYTES {
                break;
            }
            if std::mem::replace(&mut self.follows, true) {
                piece.put_u8(b',');
            }
            piece.put_slice(item);
            self.items.pop_front();
        }
        if self.items.is_empty() {
            piece.put_slice(TAIL);
        }
        self.left -= piece.len();
        Some(piece.freeze())
    }
}

impl Body for ListBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.get_mut().piece().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(items: &[&str]) -> Vec<Bytes> {
        let items = items.iter().map(|item| Bytes::copy_from_slice(item.as_bytes())).collect();
        let mut body = ListBody::new("{\"items\":[".to_owned(), items);
        let mut pieces = Vec::new();
        let mut left = body.size_hint().exact().expect("known");
        while let Some(piece) = body.piece() {
            left -= piece.len() as u64;
            assert_eq!(body.size_hint().exact(), Some(left));
            pieces.push(piece);
        }
        assert!(body.is_end_stream());
        pieces
    }

    #[test]
    fn short_lists_are_one_piece() {
        assert_eq!(pieces(&[]), ["{\"items\":[]}\n"]);
        assert_eq!(pieces(&["{}"]), ["{\"items\":[{}]}\n"]);
        assert_eq!(pieces(&["1", "2", "3"]), ["{\"items\":[1,2,3]}\n"]);
    }

    #[test]
    fn long_lists_are_sent_in_pieces_and_read_whole() {
        let texts: Vec<String> = (0..1_000).map(|number| format!("\"{}\"", "x".repeat(number))).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let pieces = pieces(&texts);
        assert!(pieces.len() > 3 && pieces.iter().all(|piece| piece.len() <= PIECE_BYTES + TAIL.len()), "{}", pieces.len());
        let whole: serde_json::Value = serde_json::from_slice(&pieces.concat()).expect("JSON");
        assert_eq!(whole, serde_json::json!({"items": texts.iter().map(|text| text.trim_matches('"')).collect::<Vec<_>>()}));
    }

    #[test]
    fn an_object_larger_than_a_piece_is_one_of_its_own() {
        let large = format!("\"{}\"", "x".repeat(PIECE_BYTES * 2));
        let sizes: Vec<usize> = pieces(&["1", &large, "2"]).iter().map(Bytes::len).collect();
        assert_eq!(sizes, [11, large.len() + 1, 2 + TAIL.len()]);
    }
}
