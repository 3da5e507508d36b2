//! Keeping containerd alive: start or adopt it, notice when it dies or hangs, start it again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::network::Network;
use super::paths::Paths;
use super::process::{Process, log_tail};
use super::{Error, configuration, create_folder, pause};
use crate::cri::{Cri, v1};
use crate::image::import;

/// How long containerd may take from its start until it takes pods.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_mins(1);
/// How often it is asked while it starts.
const READY_LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often a running containerd is asked whether it is well.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// How many checks in a row must fail before it counts as hung. A check waits for an answer for
/// as long as [`crate::cri::READ_TIMEOUT`], so a loaded machine does not look like a hung one.
const FAILED_CHECKS_MAX: u32 = 6;
/// The pause before the first new start; each further one waits twice as long.
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
/// The longest pause between two starts.
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// A containerd that was well for this long starts the back-off anew.
const WELL_AFTER: Duration = Duration::from_mins(1);

/// How containerd is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It takes pods.
    Ready,
    /// It died or hung and is being started again. Containers go on meanwhile.
    Restarting {
        /// How many starts in a row were needed so far, this one included.
        attempt: u32,
        /// Why it has to be started.
        reason: String,
    },
}

/// Knows how to start the home's containerd.
#[derive(Clone, Debug)]
pub(crate) struct Supervisor {
    paths: Paths,
    cni_plugins: PathBuf,
    network: Network,
    cri: Cri,
}

impl Supervisor {
    pub(crate) fn new(paths: &Paths, cni_plugins: &Path, network: &Network, cri: &Cri) -> Self {
        Self { paths: paths.clone(), cni_plugins: cni_plugins.to_owned(), network: network.clone(), cri: cri.clone() }
    }

    /// Adopts the running containerd, or starts one, and waits until it takes pods, but no longer
    /// than `ready_timeout`.
    pub(crate) async fn launch(&self, ready_timeout: Duration) -> Result<Process, Error> {
        let changed = self.write_configuration()?;
        let process = match Process::find(&self.paths)? {
            Some(process) if changed => {
                tracing::info!(pid = process.pid, "containerd is started anew: its settings changed");
                process.stop().await?;
                Process::start(&self.paths).await?
            }
            Some(process) => {
                tracing::info!(pid = process.pid, "found containerd running");
                process
            }
            None => Process::start(&self.paths).await?,
        };
        self.wait_until_ready(&process, ready_timeout).await?;
        self.import_pause_image().await?;
        Ok(process)
    }

    /// Writes what differs, and answers whether containerd must be started anew for it.
    fn write_configuration(&self) -> Result<bool, Error> {
        for folder in [self.paths.run(), self.paths.cni_configuration(), self.paths.cni_addresses()] {
            create_folder(&folder)?;
        }
        let network_file = self.paths.cni_configuration().join("10-fermion.conflist");
        // containerd watches this one by itself.
        write_if_different(&network_file, &configuration::cni(&self.paths, &self.network))?;
        write_if_different(&self.paths.configuration(), &configuration::containerd(&self.paths, &self.cni_plugins))
    }

    async fn wait_until_ready(&self, process: &Process, timeout: Duration) -> Result<(), Error> {
        let mut last = String::from("it did not answer");
        let ready = async {
            loop {
                match self.check().await {
                    Ok(()) => return,
                    Err(reason) => last = reason,
                }
                tokio::time::sleep(READY_LOOK_EVERY).await;
            }
        };
        let ended = tokio::select! {
            done = tokio::time::timeout(timeout, ready) => match done {
                Ok(()) => return Ok(()),
                Err(_) => false,
            },
            () = process.ended() => true,
        };
        let log = self.paths.log();
        Err(if ended {
            Error::EndedAtStart { tail: log_tail(&log).join("\n"), log }
        } else {
            Error::NotReady { after_s: timeout.as_secs(), last, log }
        })
    }

    /// Asks containerd whether it and its network are ready.
    async fn check(&self) -> Result<(), String> {
        let answer = self.cri.status(v1::StatusRequest::default()).await.map_err(|error| error.to_string())?;
        let conditions = answer.status.unwrap_or_default().conditions;
        if conditions.is_empty() {
            return Err("it said nothing about itself".to_owned());
        }
        match conditions.iter().find(|condition| !condition.status) {
            None => Ok(()),
            Some(condition) => Err(format!("{} is false: {} {}", condition.r#type, condition.reason, condition.message)),
        }
    }

    async fn import_pause_image(&self) -> Result<(), Error> {
        let (image, layer) = pause::image().ok_or(Error::Architecture { architecture: std::env::consts::ARCH })?;
        let present = import::is_present(&self.cri, pause::REFERENCE, &image)
            .await
            .map_err(|source| Error::Cri { action: format!("look for image {}", pause::REFERENCE), source })?;
        if present {
            return Ok(());
        }
        import::import(&self.cri, pause::REFERENCE, image, move |_| Ok(Box::new(std::io::Cursor::new(layer.clone()))))
            .await
            .map_err(|source| Error::Import { reference: pause::REFERENCE.to_owned(), source })
    }

    /// Watches from now on, in a task of its own that ends when it is aborted.
    pub(crate) fn watch(self, process: Process, lock: Arc<File>) -> (watch::Receiver<Health>, tokio::task::JoinHandle<()>) {
        let (sender, receiver) = watch::channel(Health::Ready);
        let task = tokio::spawn(async move {
            self.keep_alive(process, &sender).await;
            drop(lock);
        });
        (receiver, task)
    }

    async fn keep_alive(&self, mut process: Process, health: &watch::Sender<Health>) {
        let mut attempt = 0;
        loop {
            let well_since = tokio::time::Instant::now();
            let mut reason = self.until_unwell(&process).await;
            if well_since.elapsed() >= WELL_AFTER {
                attempt = 0;
            }
            process = loop {
                attempt += 1;
                tracing::warn!(attempt, reason, "starting containerd again; containers go on");
                health.send_replace(Health::Restarting { attempt, reason: reason.clone() });
                tokio::time::sleep(back_off(attempt)).await;
                match self.launch(READY_TIMEOUT).await {
                    Ok(process) => break process,
                    Err(error) => reason = explained(&error),
                }
            };
            tracing::info!(pid = process.pid, "containerd is ready again");
            health.send_replace(Health::Ready);
        }
    }

    /// Returns why containerd has to be started again, once it has to be; by then it has ended.
    async fn until_unwell(&self, process: &Process) -> String {
        let mut failed = 0;
        loop {
            tokio::select! {
                () = process.ended() => return "its process ended".to_owned(),
                () = tokio::time::sleep(CHECK_EVERY) => {}
            }
            let Err(reason) = self.check().await else {
                failed = 0;
                continue;
            };
            failed += 1;
            tracing::warn!(failed, reason, "containerd is not well");
            if failed >= FAILED_CHECKS_MAX {
                if let Err(error) = process.stop().await {
                    tracing::warn!(error = explained(&error), "containerd cannot be ended");
                    continue;
                }
                return reason;
            }
        }
    }
}

fn back_off(attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    (BACK_OFF_MIN * 2_u32.pow(doublings)).min(BACK_OFF_MAX)
}

/// An error with its causes, on one line.
fn explained(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn write_if_different(path: &Path, text: &str) -> Result<bool, Error> {
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(false);
    }
    let new = path.with_extension("new");
    std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, path)).map_err(|source| Error::File {
        action: "write",
        path: path.to_owned(),
        source,
    })?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_come_ever_more_slowly_up_to_a_bound() {
        assert_eq!(back_off(1), BACK_OFF_MIN);
        assert_eq!(back_off(2), BACK_OFF_MIN * 2);
        assert_eq!(back_off(1000), BACK_OFF_MAX);
        assert!((1..100).all(|attempt| back_off(attempt) <= back_off(attempt + 1)));
    }
}
