//! One lane: places, and a queue for each user who waits for one.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// How much one lane takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Requests served at once.
    pub(super) seats: usize,
    /// Requests that wait.
    pub(super) waiting: usize,
    /// Requests of one user that wait.
    pub(super) waiting_per_user: usize,
}

/// Why a request was sent away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("too many requests: {limit} requests of user \"{user}\" wait in lane {lane} already; send fewer at once")]
    UserIsFull { lane: &'static str, user: String, limit: usize },
    #[error("too many requests: {limit} requests wait in lane {lane} already; try again later")]
    LaneIsFull { lane: &'static str, limit: usize },
    #[error("too many requests: no place in lane {lane} became free within {} seconds; try again later", waited.as_secs())]
    TooLong { lane: &'static str, waited: Duration },
}

/// Upper bounds of the histogram of waits, in seconds.
const WAIT_BUCKETS_S: [f64; 8] = [0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0];

pub(super) struct Lane {
    name: &'static str,
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Places each user holds. Users without any are not here.
    held: HashMap<Arc<str>, usize>,
    held_in_all: usize,
    /// Who waits, in the order in which users began to; each has at least one waiter.
    queues: VecDeque<Queue>,
    waiting: usize,
    last_ticket: u64,
    measured: Measured,
}

struct Queue {
    user: Arc<str>,
    waiters: VecDeque<Waiter>,
}

struct Waiter {
    ticket: u64,
    seat: oneshot::Sender<Seat>,
}

#[derive(Default)]
struct Measured {
    user_is_full: u64,
    lane_is_full: u64,
    too_long: u64,
    waits: u64,
    waited_s: f64,
    buckets: [u64; WAIT_BUCKETS_S.len()],
}

/// A place in a lane, given back when this is dropped.
pub(crate) struct Seat {
    /// None once it was taken back otherwise.
    place: Option<(Arc<Lane>, Arc<str>)>,
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = self.place.as_ref().map(|(lane, user)| (lane.name, user));
        f.debug_tuple("Seat").field(&place).finish()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some((lane, user)) = self.place.take() {
            lane.give_back(&user);
        }
    }
}

impl Lane {
    pub(super) fn new(name: &'static str, limits: Limits) -> Self {
        Self { name, limits, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs between changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place, at most `wait_max`.
    pub(super) async fn enter(self: &Arc<Self>, user: &str, wait_max: Duration) -> Result<Seat, Refused> {
        let user: Arc<str> = user.into();
        let began_at = Instant::now();
        let (mut receiver, ticket) = {
            let mut state = self.state();
            if state.waiting == 0 && state.held_in_all < self.limits.seats {
                state.sit(&user);
                state.measured.waited(Duration::ZERO);
                drop(state);
                return Ok(Seat { place: Some((self.clone(), user)) });
            }
            self.line_up(&mut state, &user)?
        };
        // Leaves the queue also when the caller stops waiting.
        let _leaving = Leaving { lane: self, user: &user, ticket };
        match tokio::time::timeout(wait_max, &mut receiver).await {
            Ok(Ok(seat)) => {
                self.state().measured.waited(began_at.elapsed());
                Ok(seat)
            }
            // Sent away in favour of a user who has fewer requests waiting.
            Ok(Err(_)) => Err(Refused::LaneIsFull { lane: self.name, limit: self.limits.waiting }),
            Err(_) => {
                self.state().measured.too_long += 1;
                Err(Refused::TooLong { lane: self.name, waited: wait_max })
            }
        }
    }

    fn line_up(&self, state: &mut State, user: &Arc<str>) -> Result<(oneshot::Receiver<Seat>, u64), Refused> {
        let mine = state.queues.iter().find(|queue| queue.user == *user).map_or(0, |queue| queue.waiters.len());
        if mine >= self.limits.waiting_per_user {
            state.measured.user_is_full += 1;
            return Err(Refused::UserIsFull { lane: self.name, user: user.to_string(), limit: self.limits.waiting_per_user });
        }
        if state.waiting >= self.limits.waiting {
            state.measured.lane_is_full += 1;
            if !state.make_room(mine) {
                return Err(Refused::LaneIsFull { lane: self.name, limit: self.limits.waiting });
            }
        }
        state.last_ticket += 1;
        let ticket = state.last_ticket;
        let (seat, receiver) = oneshot::channel();
        let waiter = Waiter { ticket, seat };
        match state.queues.iter_mut().find(|queue| queue.user == *user) {
            Some(queue) => queue.waiters.push_back(waiter),
            None => state.queues.push_back(Queue { user: user.clone(), waiters: VecDeque::from([waiter]) }),
        }
        state.waiting += 1;
        Ok((receiver, ticket))
    }

    /// Takes a place back and gives it to who is next.
    fn give_back(self: &Arc<Self>, user: &Arc<str>) {
        let mut state = self.state();
        state.stand_up(user);
        while state.held_in_all < self.limits.seats {
            let Some((next, waiter)) = state.next() else { return };
            state.sit(&next);
            let seat = Seat { place: Some((self.clone(), next.clone())) };
            if let Err(mut seat) = waiter.seat.send(seat) {
                // Nobody waits for it any more. Its place is taken back here and not by its drop, which
                // would wait for the lock that is held.
                seat.place = None;
                state.stand_up(&next);
            }
        }
    }
}

/// Removes a waiter when its future ends, however it does.
struct Leaving<'a> {
    lane: &'a Arc<Lane>,
    user: &'a Arc<str>,
    ticket: u64,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.lane.state().leave(self.user, self.ticket);
    }
}

impl State {
    fn sit(&mut self, user: &Arc<str>) {
        *self.held.entry(user.clone()).or_default() += 1;
        self.held_in_all += 1;
    }

    fn stand_up(&mut self, user: &Arc<str>) {
        self.held_in_all -= 1;
        if let Some(held) = self.held.get_mut(user) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(user);
            }
        }
    }

    /// Takes the next waiter: of the user who holds the fewest places, of those who waited first.
    fn next(&mut self) -> Option<(Arc<str>, Waiter)> {
        let held = |queue: &Queue| self.held.get(&queue.user).copied().unwrap_or(0);
        let index = (0..self.queues.len()).min_by_key(|index| held(&self.queues[*index]))?;
        let mut queue = self.queues.remove(index)?;
        let waiter = queue.waiters.pop_front()?;
        let user = queue.user.clone();
        self.waiting -= 1;
        if !queue.waiters.is_empty() {
            // Behind the others, so that equals take turns.
            self.queues.push_back(queue);
        }
        Some((user, waiter))
    }

    /// Sends away the newest waiter of the longest queue, if that is longer than one of `mine` would
    /// become.
    fn make_room(&mut self, mine: usize) -> bool {
        let Some(longest) = self.queues.iter_mut().max_by_key(|queue| queue.waiters.len()) else { return false };
        if longest.waiters.len() <= mine + 1 {
            return false;
        }
        longest.waiters.pop_back();
        self.waiting -= 1;
        true
    }

    fn leave(&mut self, user: &Arc<str>, ticket: u64) {
        let Some(index) = self.queues.iter().position(|queue| queue.user == *user) else { return };
        let waiters = &mut self.queues[index].waiters;
        let before = waiters.len();
        waiters.retain(|waiter| waiter.ticket != ticket);
        self.waiting -= before - waiters.len();
        if waiters.is_empty() {
            self.queues.remove(index);
        }
    }
}

impl Measured {
    fn waited(&mut self, wait: Duration) {
        let wait_s = wait.as_secs_f64();
        self.waits += 1;
        self.waited_s += wait_s;
        for (bucket, bound) in self.buckets.iter_mut().zip(WAIT_BUCKETS_S) {
            if wait_s <= bound {
                *bucket += 1;
            }
        }
    }
}

/// Measurements of all lanes in Prometheus' text format.
pub(super) fn write_metrics(text: &mut String, lanes: &[Arc<Lane>]) {
    let mut family = |name: &str, kind: &str, help: &str, lines: &dyn Fn(&mut String, &str, &State)| {
        // Writing into memory cannot fail.
        let _ = writeln!(text, "# HELP fermion_apiserver_lane_{name} {help}\n# TYPE fermion_apiserver_lane_{name} {kind}");
        for lane in lanes {
            lines(text, lane.name, &lane.state());
        }
    };
    family("executing", "gauge", "Requests being served.", &|text, lane, state| {
        let _ = writeln!(text, "fermion_apiserver_lane_executing{{lane=\"{lane}\"}} {}", state.held_in_all);
    });
    family("waiting", "gauge", "Requests that wait for a place.", &|text, lane, state| {
        let _ = writeln!(text, "fermion_apiserver_lane_waiting{{lane=\"{lane}\"}} {}", state.waiting);
    });
    family("rejected_total", "counter", "Requests sent away with 429.", &|text, lane, state| {
        let measured = &state.measured;
        for (reason, count) in [("user-full", measured.user_is_full), ("lane-full", measured.lane_is_full), ("time-out", measured.too_long)]
        {
            let _ = writeln!(text, "fermion_apiserver_lane_rejected_total{{lane=\"{lane}\",reason=\"{reason}\"}} {count}");
        }
    });
    family("wait_seconds", "histogram", "How long requests waited for their place.", &|text, lane, state| {
        let measured = &state.measured;
        for (bound, count) in WAIT_BUCKETS_S.iter().zip(measured.buckets) {
            let _ = writeln!(text, "fermion_apiserver_lane_wait_seconds_bucket{{lane=\"{lane}\",le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(text, "fermion_apiserver_lane_wait_seconds_bucket{{lane=\"{lane}\",le=\"+Inf\"}} {}", measured.waits);
        let _ = writeln!(text, "fermion_apiserver_lane_wait_seconds_sum{{lane=\"{lane}\"}} {}", measured.waited_s);
        let _ = writeln!(text, "fermion_apiserver_lane_wait_seconds_count{{lane=\"{lane}\"}} {}", measured.waits);
    });
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures::FutureExt as _;

    use super::*;

    type Entering = Pin<Box<dyn Future<Output = Result<Seat, Refused>>>>;

    const WAIT: Duration = Duration::from_secs(15);

    fn lane(seats: usize, waiting: usize, waiting_per_user: usize) -> Arc<Lane> {
        Arc::new(Lane::new("test", Limits { seats, waiting, waiting_per_user }))
    }

    /// Asks for a place, once.
    fn ask(lane: &Arc<Lane>, user: &'static str) -> (Entering, Option<Result<Seat, Refused>>) {
        let lane = lane.clone();
        let mut entering: Entering = Box::pin(async move { lane.enter(user, WAIT).await });
        let answer = entering.as_mut().now_or_never();
        (entering, answer)
    }

    fn seated(lane: &Arc<Lane>, user: &'static str) -> Seat {
        ask(lane, user).1.expect("a place at once").expect("no refusal")
    }

    #[tokio::test(start_paused = true)]
    async fn places_go_to_who_holds_the_fewest() {
        let lane = lane(3, 100, 100);
        let mut seats = vec![seated(&lane, "a"), seated(&lane, "a"), seated(&lane, "b")];
        let mut waiting: Vec<(&str, Entering)> = ["a", "a", "b", "c", "c"].map(|user| (user, ask(&lane, user).0)).into();
        let mut order = Vec::new();
        while !waiting.is_empty() {
            // The place of whoever holds the most becomes free.
            let held = |seat: &Seat| lane.state().held.get(&seat.place.as_ref().unwrap().1).copied();
            let index = (0..seats.len()).max_by_key(|index| held(&seats[*index])).unwrap();
            drop(seats.remove(index));
            let index = (0..waiting.len()).find_map(|index| Some((index, waiting[index].1.as_mut().now_or_never()?)));
            let (index, seat) = index.expect("somebody is next");
            seats.push(seat.unwrap());
            order.push(waiting.remove(index).0);
        }
        assert_eq!(order[0], "c", "{order:?}");
        assert_eq!(lane.state().waiting, 0);
        drop(seats);
        assert_eq!(lane.state().held.len(), 0);
        assert_eq!(lane.state().held_in_all, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn queues_are_bounded_for_each_user_and_for_all() {
        let lane = lane(1, 4, 3);
        let seat = seated(&lane, "a");
        let mut waiting: Vec<Entering> = (0..3).map(|_| ask(&lane, "a").0).collect();
        let refused = ask(&lane, "a").1.expect("an answer").expect_err("a refusal");
        assert_eq!(refused, Refused::UserIsFull { lane: "test", user: "a".to_owned(), limit: 3 });
        waiting.push(ask(&lane, "b").0);
        // The lane is full: a third user takes the room of the longest queue's newest.
        let mut third = ask(&lane, "c").0;
        let sent_away = waiting[2].as_mut().now_or_never().expect("an answer").expect_err("a refusal");
        assert_eq!(sent_away, Refused::LaneIsFull { lane: "test", limit: 4 });
        drop(seat);
        let next: Vec<bool> =
            [&mut waiting[0], &mut third].into_iter().map(|entering| entering.as_mut().now_or_never().is_some()).collect();
        assert_eq!(next, [true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_or_goes_away_leaves_nothing_behind() {
        let lane = lane(1, 4, 4);
        let seat = seated(&lane, "a");
        assert_eq!(lane.enter("b", WAIT).await.expect_err("a refusal"), Refused::TooLong { lane: "test", waited: WAIT });
        let gone = ask(&lane, "b").0;
        let mut stays = ask(&lane, "c").0;
        drop(gone);
        assert_eq!(lane.state().waiting, 1);
        drop(seat);
        let seat = stays.as_mut().now_or_never().expect("a place").unwrap();
        // One whose place was given, but who went away before taking it.
        let gone = ask(&lane, "b").0;
        drop(seat);
        assert_eq!(lane.state().held_in_all, 1);
        drop(gone);
        assert_eq!(lane.state().held_in_all, 0);
        assert_eq!(lane.state().waiting, 0);
        drop(seated(&lane, "d"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_happens_is_counted() {
        let lane = lane(1, 1, 1);
        let seat = seated(&lane, "a");
        let _waits = ask(&lane, "b").0;
        assert!(ask(&lane, "b").1.is_some_and(|answer| answer.is_err()));
        let mut text = String::new();
        write_metrics(&mut text, std::slice::from_ref(&lane));
        for line in [
            "fermion_apiserver_lane_executing{lane=\"test\"} 1",
            "fermion_apiserver_lane_waiting{lane=\"test\"} 1",
            "fermion_apiserver_lane_rejected_total{lane=\"test\",reason=\"user-full\"} 1",
            "fermion_apiserver_lane_wait_seconds_bucket{lane=\"test\",le=\"0.001\"} 1",
            "fermion_apiserver_lane_wait_seconds_count{lane=\"test\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        drop(seat);
    }
}
