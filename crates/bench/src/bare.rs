//! The least that a watched write costs: a server that does nothing but send the same bytes over as
//! many TLS connections.
//!
//! It speaks as much HTTP/1.1 as the load generator's requests need, keeps nothing and flushes nothing.
//! An event is framed once; each of its threads, one for a processor, has its share of the watchers'
//! connections, and encrypts and writes in a plain loop. What a server beside the generator on the same
//! processors does above that is its own; below it is nobody.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::platform::Platform;

pub(crate) const NAME: &str = "bare TLS";
/// The longest head of a request.
const HEAD_LINES_MAX: usize = 64;
/// The longest body of a request.
const BODY_BYTES_MAX: usize = 1 << 20;

type Stream = StreamOwned<ServerConnection, TcpStream>;

/// Where it listens, and what vouches for it.
#[derive(Serialize, Deserialize)]
struct Told {
    address: SocketAddr,
    authority: String,
}

/// It runs as a process of its own, as servers do; this is its handle. It ends with its standard input.
pub(crate) struct Bare {
    child: Child,
    told: Told,
}

impl Bare {
    pub(crate) fn start() -> Result<Self> {
        let program = std::env::current_exe().context("this program has no path")?;
        let spawned = Command::new(program).arg("bare").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.context("cannot start the bare server")?;
        let mut line = String::new();
        let output = child.stdout.take().context("its output is piped")?;
        BufReader::new(output).read_line(&mut line).context("the bare server said nothing")?;
        let told = serde_json::from_str(&line).context("the bare server did not say where it listens")?;
        Ok(Self { child, told })
    }

    pub(crate) fn target(&self) -> Result<Platform> {
        Ok(Platform::with_token(self.told.address, "none")?.trusting(self.told.authority.as_bytes())?.called(NAME))
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if let Err(error) = self.child.wait() {
            eprintln!("the bare server: {error}");
        }
    }
}

/// Serves until standard input ends.
pub(crate) fn serve() -> Result<()> {
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).context("cannot make a certificate")?;
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certified.cert.der().clone()], key)?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot listen on loopback")?;
    let told = Told { address: listener.local_addr()?, authority: certified.cert.pem() };
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&told)?).context("cannot say where it listens")?;
    let (config, watchers) = (Arc::new(config), Arc::new(Watchers::start()));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (config, watchers) = (config.clone(), watchers.clone());
            thread::spawn(move || {
                // A connection that was closed, mostly.
                if let Err(error) = stream.context("cannot accept").and_then(|stream| answer(stream, config, &watchers)) {
                    eprintln!("bare server: {error:#}");
                }
            });
        }
    });
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).context("cannot wait for the end of standard input")?;
    Ok(())
}

/// The threads that write to watchers.
struct Watchers {
    threads: Vec<Writer>,
    next: AtomicUsize,
}

struct Writer {
    connections: Arc<Mutex<Vec<Stream>>>,
    events: mpsc::Sender<Arc<[u8]>>,
}

impl Watchers {
    fn start() -> Self {
        let count = thread::available_parallelism().map_or(1, usize::from);
        Self { threads: (0..count).map(|_| Writer::start()).collect(), next: AtomicUsize::new(0) }
    }

    fn add(&self, stream: Stream) {
        let place = self.next.fetch_add(1, Ordering::Relaxed) % self.threads.len();
        self.threads[place].connections.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
    }

    fn send(&self, event: &Arc<[u8]>) -> Result<()> {
        self.threads.iter().try_for_each(|thread| thread.events.send(event.clone())).context("a writing thread has ended")
    }
}

impl Writer {
    fn start() -> Self {
        let connections = Arc::<Mutex<Vec<Stream>>>::default();
        let (events, waiting) = mpsc::channel::<Arc<[u8]>>();
        let served = connections.clone();
        thread::spawn(move || {
            for event in waiting {
                // Whoever hung up gets no more.
                served.lock().unwrap_or_else(PoisonError::into_inner).retain_mut(|stream| stream.write_all(&event).is_ok());
            }
        });
        Self { connections, events }
    }
}

/// Answers what comes on a connection, until it turns out to be a watch.
fn answer(stream: TcpStream, config: Arc<ServerConfig>, watchers: &Watchers) -> Result<()> {
    stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
    let mut reader = BufReader::new(StreamOwned::new(ServerConnection::new(config)?, stream));
    loop {
        let mut length = 0;
        let mut request = String::new();
        if reader.read_line(&mut request).unwrap_or(0) == 0 {
            return Ok(());
        }
        for lines in 0.. {
            ensure!(lines < HEAD_LINES_MAX, "the request's head has no end");
            let mut line = String::new();
            reader.read_line(&mut line).context("cannot read the request")?;
            match line.trim_end().to_ascii_lowercase().split_once(": ") {
                Some(("content-length", digits)) => length = digits.parse().context("a length is a number")?,
                Some(_) => {}
                None => break,
            }
        }
        ensure!(length <= BODY_BYTES_MAX, "a body of {length} bytes");
        let mut body = vec![0; length];
        reader.read_exact(&mut body).context("cannot read the request's body")?;
        let (code, text) = match request.split(' ').next() {
            Some("GET") if request.contains("watch=true") => {
                let mut stream = reader.into_inner();
                watchers_head(&mut stream)?;
                watchers.add(stream);
                return Ok(());
            }
            Some("GET") => (200, r#"{"metadata":{"resourceVersion":"1"}}"#),
            Some("POST") => {
                watchers.send(&event(&body))?;
                (201, "{}")
            }
            _ => bail!("a request nobody expected: {request}"),
        };
        let answer = format!("HTTP/1.1 {code} OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        reader.get_mut().write_all(answer.as_bytes()).context("cannot answer")?;
    }
}

fn watchers_head(stream: &mut Stream) -> Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").context("cannot answer")
}

/// The line of a watch as a chunk (RFC 9112 section 7.1).
fn event(object: &[u8]) -> Arc<[u8]> {
    let (before, after) = (&br#"{"type":"ADDED","object":"#[..], b"}\n");
    let length = before.len() + object.len() + after.len();
    [format!("{length:x}\r\n").as_bytes(), before, object, after, b"\r\n"].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_chunk_with_one_line() {
        assert_eq!(&*event(b"{}"), b"1d\r\n{\"type\":\"ADDED\",\"object\":{}}\n\r\n");
    }
}
