//! Log lines with their times, and the place up to which they were read. By that place a
//! broken stream is taken up again without losing or repeating a line.

use std::io;

use futures::{AsyncBufRead, AsyncBufReadExt as _};
use jiff::Timestamp;

/// The most bytes of one line that are kept; the rest of the line is dropped.
const LINE_BYTES_MAX: usize = 1 << 20;
const CUT: &[u8] = "… (line cut)".as_bytes();

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// When it was written; `None` when the server sent no time.
    pub(super) at: Option<Timestamp>,
    /// The text without its time and line end.
    pub(super) text: Vec<u8>,
}

impl Line {
    /// Reads `2026-01-02T03:04:05.000000006Z text`.
    fn parse(raw: &[u8]) -> Self {
        let space = raw.iter().position(|byte| *byte == b' ').unwrap_or(raw.len());
        let at = std::str::from_utf8(&raw[..space]).ok().and_then(|text| text.parse::<Timestamp>().ok());
        let text = if at.is_some() { raw.get(space + 1..).unwrap_or_default() } else { raw };
        Self { at, text: text.to_vec() }
    }
}

/// The next line; `None` at the end of the stream.
pub(super) async fn next(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Line>> {
    let mut line: Vec<u8> = Vec::new();
    let mut cut = false;
    let mut any = false;
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            break;
        }
        any = true;
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        let room = LINE_BYTES_MAX - line.len();
        cut |= part.len() > room;
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = end.map_or(chunk.len(), |end| end + 1);
        reader.consume_unpin(used);
        if end.is_some() {
            break;
        }
    }
    if cut {
        line.extend_from_slice(CUT);
    }
    Ok(any.then(|| Line::parse(&line)))
}

/// How far a log was read: the time of the newest line, and how many lines of that very
/// time were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    newest: Option<Timestamp>,
    seen_at_newest: usize,
}

/// A second reading of the log from around a place.
#[derive(Debug)]
pub(super) struct Catching {
    from: Place,
    met_at_newest: usize,
}

impl Place {
    /// The time to read again from; times in requests have whole seconds.
    pub(super) fn since(&self) -> Option<Timestamp> {
        let newest = self.newest?;
        Timestamp::from_second(newest.as_second() - 1).ok()
    }

    pub(super) fn catching_up(&self) -> Catching {
        Catching { from: self.clone(), met_at_newest: 0 }
    }

    pub(super) fn advance(&mut self, line: &Line) {
        match (line.at, self.newest) {
            (Some(at), Some(newest)) if at == newest => self.seen_at_newest += 1,
            (Some(at), Some(newest)) if at < newest => {}
            (Some(at), _) => {
                self.newest = Some(at);
                self.seen_at_newest = 1;
            }
            (None, _) => {}
        }
    }
}

impl Catching {
    /// Whether the line was not read before.
    pub(super) fn is_new(&mut self, line: &Line) -> bool {
        let (Some(at), Some(newest)) = (line.at, self.from.newest) else { return true };
        if at == newest {
            self.met_at_newest += 1;
            return self.met_at_newest > self.from.seen_at_newest;
        }
        at > newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(text: &[u8]) -> Vec<Line> {
        let mut reader = futures::io::Cursor::new(text);
        let mut lines = Vec::new();
        while let Some(line) = next(&mut reader).await.expect("memory can be read") {
            lines.push(line);
        }
        lines
    }

    #[tokio::test]
    async fn lines_are_split_from_their_times() {
        let lines = read(b"2026-01-02T03:04:05.5Z a b\n2026-01-02T03:04:06Z \nno time\nlast").await;
        let texts: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(&line.text).into_owned()).collect();
        assert_eq!(texts, ["a b", "", "no time", "last"]);
        assert_eq!(lines[0].at.map(|at| at.to_string()).as_deref(), Some("2026-01-02T03:04:05.5Z"));
        assert_eq!(lines[2].at, None);
    }

    #[tokio::test]
    async fn an_endless_line_is_cut() {
        let mut text = vec![b'x'; LINE_BYTES_MAX + 5000];
        text.extend_from_slice(b"\nnext\n");
        let lines = read(&text).await;
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].text.len(), LINE_BYTES_MAX + CUT.len());
        assert_eq!(lines[1].text, b"next");
    }

    /// Cuts a log anywhere, reads it again from the server's idea of "since", and expects
    /// each line once.
    #[tokio::test]
    async fn a_broken_stream_goes_on_without_loss_or_repetition() {
        let times = ["04.1", "05.000000001", "05.000000001", "05.000000001", "05.9", "06", "08"];
        let log: Vec<Line> = times
            .iter()
            .enumerate()
            .map(|(index, second)| Line { at: format!("2026-01-02T03:04:{second}Z").parse().ok(), text: index.to_string().into_bytes() })
            .collect();
        for cut in 0..=log.len() {
            let mut place = Place::default();
            let mut seen: Vec<Line> = Vec::new();
            for line in &log[..cut] {
                place.advance(line);
                seen.push(line.clone());
            }
            let since = place.since();
            let mut catching = place.catching_up();
            for line in log.iter().filter(|line| since.is_none_or(|since| line.at >= Some(since))) {
                if catching.is_new(line) {
                    place.advance(line);
                    seen.push(line.clone());
                }
            }
            assert_eq!(seen, log, "cut after {cut}");
        }
    }
}
