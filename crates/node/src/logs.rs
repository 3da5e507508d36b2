//! Logs of containers: CRI's files turned into what the program wrote.
//!
//! containerd writes lines of the form `TIME STREAM TAG TEXT`, where the tag is `F` for a full line
//! and `P` for a piece of a long one. Files that grew too large were put aside by [`rotate`] under
//! a name that sorts by time; they are read before the current one.

pub(crate) mod rotate;

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;

/// How often a followed log is looked at.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);
/// How often a followed container is looked at, in intervals.
const ALIVE_CHECK_INTERVALS: u32 = 5;
/// The longest piece of a line that is read at once, in bytes; containerd writes 16 KiB.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Text is handed on in pieces of about this many bytes.
const CHUNK_BYTES: usize = 32 << 10;

/// Which part of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub follow: bool,
    pub tail_lines: Option<usize>,
    pub since: Option<Timestamp>,
    pub timestamps: bool,
    pub limit_bytes: Option<u64>,
}

/// One line of a log file.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    time: &'a str,
    full: bool,
    text: &'a [u8],
}

/// Reads one line without its end; `None` if it is not of CRI's form.
fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut fields = line.splitn(4, |&byte| byte == b' ');
    let time = std::str::from_utf8(fields.next()?).ok()?;
    let stream = fields.next()?;
    if stream != b"stdout" && stream != b"stderr" {
        return None;
    }
    // Tags may be joined by colons; the first says whether the line is whole.
    let tag = fields.next()?.split(|&byte| byte == b':').next()?;
    Some(Line { time, full: tag == b"F", text: fields.next().unwrap_or_default() })
}

/// The files of one log, the oldest first, the current one last.
pub(crate) fn files(current: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = Vec::new();
    if let (Some(directory), Some(name)) = (current.parent(), current.file_name().and_then(|name| name.to_str())) {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let rotated = entry
                .file_name()
                .to_str()
                .and_then(|other| other.strip_prefix(name))
                .is_some_and(|rest| rest.len() > 1 && rest.starts_with('.'));
            if rotated {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found.push(current.to_owned());
    Ok(found)
}

/// Where to begin for the last `lines` whole lines: a file's index and an offset in it.
fn tail_start(files: &[PathBuf], lines: usize) -> io::Result<(usize, u64)> {
    let mut missing = lines;
    for (index, path) in files.iter().enumerate().rev() {
        // Offsets behind each whole line, as many as may matter.
        let mut ends = std::collections::VecDeque::new();
        let mut offset = 0_u64;
        let mut reader = match open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => BufReader::with_capacity(64 << 10, opened?),
        };
        let mut line = Vec::new();
        let mut count = 0_usize;
        loop {
            line.clear();
            let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? as u64;
            if read == 0 {
                break;
            }
            offset += read;
            if parse(line.trim_ascii_end()).is_none_or(|line| line.full) {
                count += 1;
                ends.push_back(offset);
                if ends.len() > missing + 1 {
                    ends.pop_front();
                }
            }
        }
        if count >= missing {
            // The start of the last `missing` lines is the end of the line before them.
            let start = if count == missing { 0 } else { ends.front().copied().unwrap_or(0) };
            return Ok((index, if missing == 0 { offset } else { start }));
        }
        missing -= count;
    }
    Ok((0, 0))
}

fn open(path: &Path) -> io::Result<File> {
    // Only containerd writes here, but a pipe must never hold us up.
    fs::OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed()).open(path)
}

/// Turns lines into output and keeps the bounds.
struct Writer {
    options: Options,
    left: u64,
    at_line_start: bool,
    chunk: Vec<u8>,
    output: mpsc::Sender<io::Result<Bytes>>,
}

/// The reader went away or has all it wanted.
struct Enough;

impl Writer {
    fn new(options: Options, output: mpsc::Sender<io::Result<Bytes>>) -> Self {
        let left = options.limit_bytes.unwrap_or(u64::MAX);
        Self { options, left, at_line_start: true, chunk: Vec::new(), output }
    }

    fn line(&mut self, raw: &[u8]) -> Result<(), Enough> {
        let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
        let Some(line) = parse(raw) else {
            return Ok(());
        };
        if let Some(since) = self.options.since
            && line.time.parse::<Timestamp>().is_ok_and(|time| time < since)
        {
            return Ok(());
        }
        if self.options.timestamps && self.at_line_start {
            self.put(line.time.as_bytes())?;
            self.put(b" ")?;
        }
        self.put(line.text)?;
        if line.full {
            self.put(b"\n")?;
        }
        self.at_line_start = line.full;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Enough> {
        let length = (bytes.len() as u64).min(self.left) as usize;
        self.chunk.extend_from_slice(&bytes[..length]);
        self.left -= length as u64;
        if self.left == 0 { Err(Enough) } else { Ok(()) }
    }

    /// Hands on what is there; called from a thread that may wait.
    fn flush(&mut self) -> Result<(), Enough> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.chunk));
        self.output.blocking_send(Ok(chunk)).map_err(|_| Enough)
    }
}

/// A place in a log from which reading goes on.
struct Cursor {
    current: PathBuf,
    file: Option<File>,
    inode: u64,
    /// A line whose end was not written yet.
    rest: Vec<u8>,
    writer: Writer,
}

impl Cursor {
    /// Writes all that is there.
    fn drain(&mut self) -> io::Result<Result<(), Enough>> {
        let result = self.read_open_file()?;
        if result.is_err() {
            // What fits the bounds is still handed on; nobody may be there to take it.
            let _ = self.writer.flush();
            return Ok(result);
        }
        Ok(self.writer.flush())
    }

    fn read_open_file(&mut self) -> io::Result<Result<(), Enough>> {
        let Some(file) = &mut self.file else { return Ok(Ok(())) };
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok(Ok(()));
            }
            self.rest.extend_from_slice(&buffer[..read]);
            let Some(end) = self.rest.iter().rposition(|&byte| byte == b'\n') else {
                if self.rest.len() as u64 > LINE_BYTES_MAX {
                    self.rest.clear();
                }
                continue;
            };
            let tail = self.rest.split_off(end + 1);
            let whole = std::mem::replace(&mut self.rest, tail);
            for line in whole.split_inclusive(|&byte| byte == b'\n') {
                if self.writer.line(line).is_err() {
                    return Ok(Err(Enough));
                }
                if self.writer.chunk.len() >= CHUNK_BYTES && self.writer.flush().is_err() {
                    return Ok(Err(Enough));
                }
            }
        }
    }

    /// Opens the current file if it is another one by now.
    fn reopen(&mut self) -> io::Result<()> {
        match fs::metadata(&self.current) {
            Ok(found) if self.file.is_none() || found.ino() != self.inode => {
                let file = open(&self.current)?;
                self.inode = file.metadata()?.ino();
                self.file = Some(file);
                Ok(())
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Streams a log. `is_running` is asked, while following, whether more may come.
pub(crate) fn stream<F, R>(current: PathBuf, options: Options, is_running: F) -> mpsc::Receiver<io::Result<Bytes>>
where
    F: Fn() -> R + Send + 'static,
    R: Future<Output = bool> + Send,
{
    let (output, receiver) = mpsc::channel(8);
    tokio::spawn(async move {
        if let Err(error) = copy(current, options, is_running, output.clone()).await {
            // The reader may be gone; then nobody wants to know.
            let _ = output.send(Err(error)).await;
        }
    });
    receiver
}

async fn copy<F, R>(current: PathBuf, options: Options, is_running: F, output: mpsc::Sender<io::Result<Bytes>>) -> io::Result<()>
where
    F: Fn() -> R + Send + 'static,
    R: Future<Output = bool> + Send,
{
    let follow = options.follow;
    let gone = output.clone();
    let writer = Writer::new(options, output);
    let begin = blocking(move || read_present(current, writer)).await?;
    let Some(mut cursor) = begin else { return Ok(()) };
    let mut intervals = 0_u32;
    let mut last_round = !follow;
    while !last_round {
        tokio::select! {
            () = tokio::time::sleep(FOLLOW_INTERVAL) => {}
            () = gone.closed() => return Ok(()),
        }
        intervals += 1;
        // What it wrote before it ended is read once more after that was seen.
        last_round = intervals.is_multiple_of(ALIVE_CHECK_INTERVALS) && !is_running().await;
        let (next, result) = blocking(move || {
            let mut cursor = cursor;
            let mut result = cursor.drain()?;
            if result.is_ok() {
                cursor.reopen()?;
                result = cursor.drain()?;
            }
            Ok((cursor, result))
        })
        .await?;
        if result.is_err() {
            return Ok(());
        }
        cursor = next;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
}

/// Writes what the files hold now; `None` when the reader has enough.
fn read_present(current: PathBuf, writer: Writer) -> io::Result<Option<Cursor>> {
    let all = files(&current)?;
    let (first, offset) = match writer.options.tail_lines {
        Some(lines) => tail_start(&all, lines)?,
        None => (0, 0),
    };
    let mut cursor = Cursor { current, file: None, inode: 0, rest: Vec::new(), writer };
    for (index, path) in all.iter().enumerate().skip(first) {
        let mut file = match open(path) {
            // Put aside or removed just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        if index == first {
            file.seek(SeekFrom::Start(offset))?;
        }
        cursor.inode = file.metadata()?.ino();
        cursor.file = Some(file);
        if cursor.drain()?.is_err() {
            return Ok(None);
        }
    }
    Ok(Some(cursor))
}

/// The beginning of a small file as text.
pub(crate) fn read_head(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    open(path)?.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The end of what a container wrote, within both bounds.
pub(crate) fn last_words(path: &Path, bytes_max: u64, lines_max: usize) -> io::Result<String> {
    let mut file = open(path)?;
    // Each line carries a time and a tag besides its text.
    let window = bytes_max.max(CHUNK_BYTES as u64) * 2;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(window)))?;
    let mut bytes = Vec::new();
    file.take(window).read_to_end(&mut bytes)?;
    let mut text = Vec::new();
    for line in bytes.split(|&byte| byte == b'\n').filter_map(parse) {
        text.extend_from_slice(line.text);
        if line.full {
            text.push(b'\n');
        }
    }
    let text = String::from_utf8_lossy(&text);
    let mut from = text.len().saturating_sub(bytes_max as usize);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let lines: Vec<&str> = text[from..].lines().collect();
    Ok(lines[lines.len().saturating_sub(lines_max)..].join("\n"))
}

#[cfg(test)]
mod tests;
