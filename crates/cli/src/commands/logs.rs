//! `fermion logs`.

use std::collections::BTreeSet;

use fermion_client::Log;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _};
use tokio::sync::mpsc;

use crate::connection::Session;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{self, Style};
use crate::pods::{Follow, Printer, Start, Target, container_names};

/// The most containers whose logs are read at the same time.
pub(crate) const STREAMS_MAX: usize = 64;
/// Lines that wait to be printed before readers are held back.
pub(crate) const LINES_WAITING_MAX: usize = 1024;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fermion logs digits                 every replica of the job `digits`
  fermion logs -f service/chat        and go on as they come
  fermion logs --previous pod/x-0     what the container wrote before its last restart")]
pub(crate) struct LogsArguments {
    /// NAME, or job/NAME, env/NAME, service/NAME, pod/NAME
    target: Target,
    /// Go on until everything has ended
    #[arg(short, long)]
    follow: bool,
    /// The log before the last restart
    #[arg(short, long, conflicts_with = "follow")]
    previous: bool,
    /// Only the newest lines of each container
    #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(i64).range(0..))]
    tail: Option<i64>,
    /// Only what is newer than this, such as 90s, 15m or 2h
    #[arg(long, value_name = "SPAN", value_parser = fermion_api::duration::parse)]
    since: Option<std::time::Duration>,
    /// Only this container
    #[arg(short, long)]
    container: Option<String>,
}

pub(crate) async fn run(arguments: LogsArguments, session: &Session) -> Outcome<Exit> {
    let resolved = arguments.target.resolve(session).await?;
    let pods = resolved.pods(session).await?;
    if pods.is_empty() {
        return Err(Failure::new(format!("{} has no pods, so no logs", resolved.title()))
            .hint("it may wait for room, be suspended, or have been cleaned up: `fermion status` says which"));
    }
    let streams = streams(session, &pods, arguments.container.as_deref())?;
    if streams.len() > STREAMS_MAX {
        return Err(Failure::new(format!(
            "{} has {} containers; at most {STREAMS_MAX} logs are read at once",
            resolved.title(),
            streams.len()
        ))
        .hint("name one of its pods: fermion logs pod/NAME"));
    }
    let start = Start { tail: arguments.tail, since_s: arguments.since.map(|since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)) };
    let work = print(streams, start, &arguments);
    tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    }
}

/// A reader for every container asked for, and what its lines are called.
fn streams(session: &Session, pods: &[Pod], container: Option<&str>) -> Outcome<Vec<(Follow, String)>> {
    let api: Api<Pod> = Api::namespaced(session.client.clone(), &session.namespace);
    let mut streams = Vec::new();
    let mut known = BTreeSet::new();
    for pod in pods {
        let names = container_names(pod);
        let alone = names.len() == 1 || container.is_some();
        for name in names {
            if container.is_none_or(|wanted| wanted == name) {
                let origin = if alone { pod.name_any() } else { format!("{}/{name}", pod.name_any()) };
                streams.push((Follow { log: Log::new(api.clone(), pod.name_any(), name.clone()), number: streams.len() }, origin));
            }
            known.insert(name);
        }
    }
    if streams.is_empty() {
        return Err(Failure::new(format!("there is no container `{}`", container.unwrap_or_default()))
            .hint(format!("the containers are: {}", known.into_iter().collect::<Vec<_>>().join(", ")))
            .with_exit(Exit::Missing));
    }
    Ok(streams)
}

async fn print(streams: Vec<(Follow, String)>, start: Start, arguments: &LogsArguments) -> Outcome<Exit> {
    let mut printer = Printer::new(std::io::stdout(), Style::of_stdout(), streams.len() > 1);
    let (sender, mut lines) = mpsc::channel(LINES_WAITING_MAX);
    if !arguments.follow {
        // One after the other, so that lines of one container stay together.
        let mut failure = None;
        let alone = streams.len() == 1;
        for (stream, origin) in streams {
            let (sender, mut lines) = mpsc::channel(LINES_WAITING_MAX);
            let reading = async move { stream.once(start, arguments.previous, &sender).await };
            let printing = async {
                while let Some((number, line)) = lines.recv().await {
                    printer.line(number, &origin, &line)?;
                }
                Ok::<_, Failure>(())
            };
            let (read, printed) = tokio::join!(reading, printing);
            printed?;
            if let Err(error) = read {
                // One replica without a log does not hide the others'.
                if alone {
                    return Err(error);
                }
                output::note(error.to_string().trim_end());
                failure.get_or_insert(error.exit());
            }
        }
        return Ok(failure.unwrap_or(Exit::Done));
    }
    let origins: Vec<String> = streams.iter().map(|(_, origin)| origin.clone()).collect();
    let mut readers: FuturesUnordered<_> = streams
        .into_iter()
        .map(|(stream, _)| {
            let sender = sender.clone();
            async move { stream.to_the_end(start, &sender).await }
        })
        .collect();
    drop(sender);
    let mut exit = Exit::Done;
    loop {
        tokio::select! {
            biased;
            line = lines.recv() => match line {
                Some((number, line)) => printer.line(number, &origins[number], &line)?,
                None => return Ok(exit),
            },
            Some(ended) = readers.next() => if let Err(error) = ended {
                output::note(error.to_string().trim_end());
                exit = error.exit();
            },
        }
    }
}
