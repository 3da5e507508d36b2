//! Something between a store and its database, that can fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What a proxy does with what passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It passes.
    Pass,
    /// Connections are cut, and new ones too.
    Cut,
    /// What is sent passes; what is answered is kept, and then the connection is cut.
    Swallow,
}

/// A proxy on a port of its own.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    mode: watch::Sender<Mode>,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    /// Answers are swallowed once so many more commits have passed; never if negative.
    commits_left: AtomicI64,
    swallowed: AtomicU64,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let (mode, modes) = watch::channel(Mode::Pass);
        let shared = Arc::new(Shared { commits_left: AtomicI64::new(-1), ..Shared::default() });
        let for_task = shared.clone();
        let task = tokio::spawn(async move {
            loop {
                let Ok((inbound, _)) = listener.accept().await else { continue };
                let (modes, shared) = (modes.clone(), for_task.clone());
                tokio::spawn(async move {
                    if let Ok(outbound) = TcpStream::connect(("127.0.0.1", port)).await {
                        pass(inbound, outbound, modes, &shared).await;
                    }
                });
            }
        });
        Self { port: own, mode, shared, task }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Swallows the answer to a commit, after so many others have passed.
    pub(crate) fn swallow_answer_after(&self, commits: i64) {
        self.shared.commits_left.store(commits, Ordering::SeqCst);
    }

    /// How many answers to commits were swallowed.
    pub(crate) fn swallowed(&self) -> u64 {
        self.shared.swallowed.load(Ordering::SeqCst)
    }
}

/// Copies both ways until either side ends or the mode says so.
async fn pass(inbound: TcpStream, outbound: TcpStream, mut modes: watch::Receiver<Mode>, shared: &Shared) {
    let (mut from_client, mut to_client) = inbound.into_split();
    let (mut from_server, mut to_server) = outbound.into_split();
    let mut swallow = false;
    let (mut asked, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        if *modes.borrow() == Mode::Cut {
            return;
        }
        swallow |= *modes.borrow() == Mode::Swallow;
        tokio::select! {
            changed = modes.changed() => if changed.is_err() { return },
            read = from_client.read(&mut asked) => match read {
                Ok(count @ 1..) => {
                    let bytes = &asked[..count];
                    // The simple query of the writer, which nothing else sends in this form.
                    if bytes.windows(8).any(|window| window == b"\x0bCOMMIT\0")
                        && shared.commits_left.load(Ordering::SeqCst) >= 0
                        && shared.commits_left.fetch_sub(1, Ordering::SeqCst) == 0
                    {
                        swallow = true;
                    }
                    if to_server.write_all(bytes).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
            read = from_server.read(&mut answered) => match read {
                Ok(1..) if swallow => {
                    shared.swallowed.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                Ok(count @ 1..) => if to_client.write_all(&answered[..count]).await.is_err() { return },
                _ => return,
            },
        }
    }
}
