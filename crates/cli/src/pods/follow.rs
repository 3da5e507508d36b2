//! Reads containers' logs for a printer that tells them apart by number.

use fermion_client::Log;
use fermion_client::logs::{LogError, Start};
use futures::{Stream, TryStreamExt as _};
use tokio::sync::mpsc;

use crate::failure::{Failure, Outcome};

/// A container whose log is read.
#[derive(Clone, Debug)]
pub(crate) struct Follow {
    pub(crate) log: Log,
    /// Number of this reader, handed back with each line.
    pub(crate) number: usize,
}

/// A line and the number of its reader.
pub(crate) type Numbered = (usize, Vec<u8>);

impl Follow {
    /// Reads what there is.
    pub(crate) async fn once(&self, start: Start, previous: bool, lines: &mpsc::Sender<Numbered>) -> Outcome<()> {
        self.pass_on(self.log.now(start, previous), lines).await
    }

    /// Reads until the container has ended for good or its pod is gone.
    pub(crate) async fn to_the_end(&self, start: Start, lines: &mpsc::Sender<Numbered>) -> Outcome<()> {
        Box::pin(self.pass_on(self.log.follow(start), lines)).await
    }

    async fn pass_on(&self, from: impl Stream<Item = Result<Vec<u8>, LogError>>, to: &mpsc::Sender<Numbered>) -> Outcome<()> {
        let mut from = std::pin::pin!(from);
        while let Some(line) = from.try_next().await.map_err(failure)? {
            if to.send((self.number, line)).await.is_err() {
                // Nobody takes the lines any more.
                return Ok(());
            }
        }
        Ok(())
    }
}

fn failure(error: LogError) -> Failure {
    let what = error.to_string();
    match error {
        LogError::Refused { source, .. } => Failure::of_request(what, *source),
        LogError::Broken { source, .. } => Failure::new(what).because(source),
    }
}
