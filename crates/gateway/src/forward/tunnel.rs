//! A WebSocket on its way through: bytes are copied, not understood.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::Frames;

/// Both ends of an upgraded connection, before the upgrades took place.
pub(crate) struct Tunnel {
    pub(crate) caller: OnUpgrade,
    pub(crate) pod: OnUpgrade,
}

/// Why a tunnel ended before either side closed it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TunnelError {
    #[error("one side did not become a WebSocket")]
    Upgrade(#[source] hyper::Error),
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    #[error("the permission was withdrawn")]
    Withdrawn,
}

impl Tunnel {
    /// Copies both ways until a side closes, or `withdrawn` completes. `on_message` is called
    /// for messages of the caller, not for pings and the like.
    pub(crate) async fn run(self, on_message: impl FnMut() + Send + Unpin, withdrawn: impl Future<Output = ()>) -> Result<(), TunnelError> {
        let (caller, pod) = futures::try_join!(self.caller, self.pod).map_err(TunnelError::Upgrade)?;
        let mut caller = Observed { inner: TokioIo::new(caller), frames: Frames::default(), on_message };
        let mut pod = TokioIo::new(pod);
        tokio::select! {
            copied = tokio::io::copy_bidirectional(&mut caller, &mut pod) => copied.map(|_| ()).map_err(TunnelError::Broken),
            () = withdrawn => Err(TunnelError::Withdrawn),
        }
    }
}

/// The caller's side, looked at as it is read.
struct Observed<F> {
    inner: TokioIo<Upgraded>,
    frames: Frames,
    on_message: F,
}

impl<F: FnMut() + Unpin> AsyncRead for Observed<F> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        if self.frames.feed(&buffer.filled()[before..]) {
            (self.on_message)();
        }
        polled
    }
}

impl<F: FnMut() + Unpin> AsyncWrite for Observed<F> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
