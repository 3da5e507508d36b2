//! Who is served when more is asked than can be done at once.
//!
//! Requests are sorted into lanes, so that lists do not hold up gets, nor people the platform's own
//! parts. A lane serves so many at once; further ones wait in a queue of their user's own, and a
//! place that becomes free goes to the user who holds the fewest. So whoever sends a thousand
//! requests waits for his own, and the next user's first request waits for one place.
//!
//! Lanes and bounded queues are those of Kubernetes' API Priority and Fairness (KEP-1040):
//! <https://kubernetes.io/docs/concepts/cluster-administration/flow-control/>. That deals flows to a
//! fixed number of queues by shuffle sharding, to bound their number; here requests are bounded
//! instead, so every user has a queue of his own and nobody shares one with a storm. Choosing the
//! user with the fewest places is max-min fairness; taking a full lane's room from the longest queue
//! is what fq_codel does (RFC 8290 section 4.1.3).
//!
//! Requests that last (watches, logs that are followed, streams into containers) hold a place of a
//! lane only while they are started, if at all. They are counted apart, for each user and for all.

mod lane;
mod long_running;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;

use crate::error::{ApiError, Result};
use crate::exchange::Exchange;
use crate::identity::{COMPONENTS, Identity};
use crate::request::{Query, Target, Verb};

pub(crate) use lane::Seat;
use lane::{Lane, Limits};
pub(crate) use long_running::Lasting;
use long_running::LongRunning;

/// How long a request waits for a place, at most: a quarter of [`REQUEST_TIMEOUT`], as in Kubernetes.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(15);
/// How long a request that does not last may take, body and waiting included.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// What a client is told to wait when it is sent away, in seconds.
const RETRY_AFTER_S: u32 = 1;

/// The lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LaneName {
    /// The platform's own parts.
    System,
    /// Leases: who misses one loses the lead, or a node.
    Leader,
    /// Gets and documents: somebody waits for them.
    Interactive,
    /// Lists, and the starts of watches.
    List,
    /// Creates, updates, patches and deletions.
    Write,
    /// Deletions of whole collections.
    Bulk,
    /// Lists as files, in and out, until the last byte.
    Exchange,
}

const LANES: [(LaneName, &str, Limits); 7] = [
    (LaneName::System, "system", Limits { seats: 512, waiting: 4096, waiting_per_user: 4096 }),
    (LaneName::Leader, "leader", Limits { seats: 64, waiting: 1024, waiting_per_user: 256 }),
    (LaneName::Interactive, "interactive", Limits { seats: 128, waiting: 4096, waiting_per_user: 1024 }),
    // A list may hold megabytes while it is made.
    (LaneName::List, "list", Limits { seats: 32, waiting: 1024, waiting_per_user: 256 }),
    // Writes wait for the disk together: two full transactions of the store.
    (LaneName::Write, "write", Limits { seats: 512, waiting: 4096, waiting_per_user: 1024 }),
    (LaneName::Bulk, "bulk", Limits { seats: 4, waiting: 64, waiting_per_user: 16 }),
    // Each holds a page of a list, or a file that was sent.
    (LaneName::Exchange, "exchange", Limits { seats: 4, waiting: 64, waiting_per_user: 16 }),
];

/// What a request costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// The lane it takes a place of; none for what is passed on to a node.
    pub(crate) lane: Option<LaneName>,
    /// It goes on after its answer has begun.
    pub(crate) lasts: bool,
}

impl Call {
    /// Sorts a request for a resource. What cannot be told from its address is refused later.
    pub(crate) fn of<B>(caller: &Identity, target: &Target, request: &Request<B>) -> Result<Self> {
        let query = Query::parse(request.uri())?;
        let subresource = target.subresource.as_deref().unwrap_or_default();
        if matches!(subresource, "exec" | "attach" | "portforward" | "log" | "file") {
            // A part of the platform that holds a place while the node asks for another could wait
            // for itself.
            let lasts = matches!(subresource, "exec" | "attach" | "portforward") || query.flag("follow").unwrap_or(false);
            return Ok(Self { lane: None, lasts });
        }
        let verb = Verb::of(request.method(), target.name.is_some(), &query)?;
        if Exchange::asked(verb, target, &query)?.is_some() {
            return Ok(Self { lane: Some(LaneName::Exchange), lasts: true });
        }
        let lane = match verb {
            Verb::DeleteCollection => LaneName::Bulk,
            _ if target.group == "coordination.k8s.io" && target.name.is_some() && verb != Verb::Watch => LaneName::Leader,
            _ if caller.groups.iter().any(|group| group == COMPONENTS) => LaneName::System,
            Verb::Get => LaneName::Interactive,
            Verb::List | Verb::Watch => LaneName::List,
            Verb::Create | Verb::Update | Verb::Patch | Verb::Delete => LaneName::Write,
        };
        Ok(Self { lane: Some(lane), lasts: verb == Verb::Watch })
    }

    /// A request for a document: discovery, schemas, measurements.
    pub(crate) fn of_document(method: &Method) -> Self {
        let lane = if method == Method::GET || method == Method::HEAD { LaneName::Interactive } else { LaneName::Bulk };
        Self { lane: Some(lane), lasts: false }
    }
}

/// The lanes and what lasts.
pub(crate) struct Fairness {
    lanes: [Arc<Lane>; LANES.len()],
    long_running: Arc<LongRunning>,
}

impl Fairness {
    pub(crate) fn new() -> Self {
        Self { lanes: LANES.map(|(_, name, limits)| Arc::new(Lane::new(name, limits))), long_running: Arc::default() }
    }

    /// Waits for a place in a lane. The place is given back when the seat is dropped.
    pub(crate) async fn enter(&self, name: LaneName, user: &str) -> Result<Seat> {
        let (lane, _) = self.lanes.iter().zip(LANES).find(|(_, (of, _, _))| *of == name).expect("every name has its lane");
        lane.enter(user, WAIT_MAX).await.map_err(|refused| too_many(refused.to_string()))
    }

    /// Counts a request that lasts, until what is given back is dropped.
    pub(crate) fn last(&self, user: &str) -> Result<Lasting> {
        self.long_running.begin(user).map_err(|refused| too_many(refused.to_string()))
    }

    /// Does what a request asks, in its turn.
    pub(crate) async fn serve(
        &self,
        call: Call,
        user: &str,
        answer: impl Future<Output = Result<Response<Body>>>,
    ) -> Result<Response<Body>> {
        let lasting = if call.lasts { Some(self.last(user)?) } else { None };
        let in_turn = async {
            let seat = match call.lane {
                Some(lane) => Some(self.enter(lane, user).await?),
                None => None,
            };
            let response = answer.await?;
            // What is sent as it is read keeps its place until it is sent.
            Ok((response, seat.filter(|_| call.lane == Some(LaneName::Exchange))))
        };
        let Some(lasting) = lasting else {
            let answered = tokio::time::timeout(REQUEST_TIMEOUT, in_turn).await.unwrap_or_else(|_| {
                Err(ApiError::new(
                    StatusCode::GATEWAY_TIMEOUT,
                    "Timeout",
                    format!(
                        "the request was not done within {} seconds; if it was a write, it may still have happened",
                        REQUEST_TIMEOUT.as_secs()
                    ),
                ))
            });
            return answered.map(|(response, _)| response);
        };
        let (response, seat) = in_turn.await?;
        Ok(response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                // Counted for as long as the answer goes on.
                let _counted = (&lasting, &seat);
                frame
            }))
        }))
    }

    /// Measurements in Prometheus' text format.
    pub(crate) fn metrics_text(&self) -> String {
        let mut text = String::new();
        lane::write_metrics(&mut text, &self.lanes);
        let lasting = self.long_running.count();
        let _cannot_fail = writeln!(
            text,
            "# HELP fermion_apiserver_long_running Watches, followed logs and streams that are open.\n\
             # TYPE fermion_apiserver_long_running gauge\n\
             fermion_apiserver_long_running {lasting}"
        );
        text
    }
}

fn too_many(message: String) -> ApiError {
    ApiError { retry_after_s: Some(RETRY_AFTER_S), ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message) }
}

#[cfg(test)]
mod tests {
    use axum::http::Uri;
    use futures::FutureExt as _;

    use super::*;

    fn call(groups: &[&str], method: Method, address: &str) -> Call {
        let caller =
            Identity { name: "ann".to_owned(), groups: groups.iter().map(|group| (*group).to_owned()).collect(), ..Identity::default() };
        let uri: Uri = address.parse().unwrap();
        let target = Target::parse(uri.path()).unwrap().unwrap();
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        Call::of(&caller, &target, &request).unwrap()
    }

    #[test]
    fn requests_are_sorted_by_what_waits_for_them() {
        let pods = "/api/v1/namespaces/a/pods";
        let pod = "/api/v1/namespaces/a/pods/b";
        let lease = "/apis/coordination.k8s.io/v1/namespaces/a/leases/b";
        for (groups, method, address, lane, lasts) in [
            (&[][..], Method::GET, pod.to_owned(), Some(LaneName::Interactive), false),
            (&[], Method::GET, pods.to_owned(), Some(LaneName::List), false),
            (&[], Method::GET, format!("{pods}?watch=true"), Some(LaneName::List), true),
            (&[], Method::POST, pods.to_owned(), Some(LaneName::Write), false),
            (&[], Method::DELETE, pod.to_owned(), Some(LaneName::Write), false),
            (&[], Method::DELETE, pods.to_owned(), Some(LaneName::Bulk), false),
            (&[], Method::GET, format!("{pods}?export=csv"), Some(LaneName::Exchange), true),
            (&[COMPONENTS], Method::POST, format!("{pods}?import=csv"), Some(LaneName::Exchange), true),
            (&[], Method::PUT, lease.to_owned(), Some(LaneName::Leader), false),
            (&[COMPONENTS], Method::PUT, lease.to_owned(), Some(LaneName::Leader), false),
            (&[COMPONENTS], Method::GET, pods.to_owned(), Some(LaneName::System), false),
            (&[], Method::POST, format!("{pod}/exec?command=ls"), None, true),
            (&[], Method::GET, format!("{pod}/log?follow=true"), None, true),
            (&[], Method::GET, format!("{pod}/log"), None, false),
        ] {
            assert_eq!(call(groups, method.clone(), &address), Call { lane, lasts }, "{method} {address}");
        }
    }

    #[test]
    fn a_storm_of_lists_holds_up_neither_gets_nor_for_long_another_users_lists() {
        let fairness = Fairness::new();
        // Served in the order in which places are given; nothing here takes time.
        let mut storm: Vec<_> = (0..64).map(|_| Box::pin(fairness.enter(LaneName::List, "storm"))).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _entered = runtime.enter();
        let mut seats: Vec<Seat> = storm.iter_mut().filter_map(futures::FutureExt::now_or_never).map(Result::unwrap).collect();
        assert_eq!(seats.len(), 32);
        // Another lane is free at once.
        for _ in 0..100 {
            fairness.enter(LaneName::Interactive, "ann").now_or_never().expect("a place at once").unwrap();
        }
        // In the same lane the first place that becomes free is hers, before the 32 that came earlier.
        let mut list = Box::pin(fairness.enter(LaneName::List, "ann"));
        assert!(list.as_mut().now_or_never().is_none());
        drop(seats.pop());
        assert!(list.as_mut().now_or_never().is_some_and(|seat| seat.is_ok()));
    }
}
