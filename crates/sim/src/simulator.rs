//! Work that comes, runs and ends in virtual time, on the scheduler's own engine.
//!
//! The loop goes from event to event: work arrives, work ends, or a review is due because
//! something waits whose rank changes with time. At each the order of what waits is made anew
//! and the engine is asked for a round. Where the order stops running work for what waits, the
//! victims are the engine's choice among those of lower rank.

mod order;
mod placer;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use fermion_scheduler::engine::{Millis, Work, WorkId};
use fermion_scheduler::preemption::Candidate;

pub use self::order::{Order, Progress};
pub use self::placer::{Backfilling, Placer, Skipping};

/// For how many of those that wait others are stopped at one event.
const STOPPED_FOR_MAX: usize = 16;
/// For how many of those that wait others are moved at one event.
const MOVED_FOR_MAX: usize = 4;
/// Work whose members have so many cards, in thousandths, is what others are moved for.
const LARGE: i64 = 2000;
/// So many moves can be saved up for at the least.
const MOVES_SAVED_MIN: f64 = 8.0;
/// How often ranks are looked at when nothing else happens.
const REVIEW_MS: Millis = 3_600_000;

/// Work to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub at: Millis,
    /// Its id is its place in the list of arrivals; its run time is what the scheduler is told.
    pub work: Work,
    /// How long it runs in truth.
    pub run_ms: Millis,
}

/// How the queue is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    pub order: Order,
    /// How much higher than a running one's a rank must be for the running one to be stopped;
    /// `None` when nobody is stopped.
    pub stops_above: Option<f64>,
    /// The part of what runs that may be moved in an hour to make room for larger work; 0 when
    /// nothing is moved.
    pub moves_per_hour: f64,
    /// What a stop or a move costs the one that is stopped or moved: it runs so much longer.
    pub restart_ms: Millis,
    /// The least time between two rounds; 0 for a round at every event.
    pub pause_ms: Millis,
}

/// What became of one arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    pub submitted_at: Millis,
    /// The first time. `None` when it never ran.
    pub started_at: Option<Millis>,
    pub ended_at: Option<Millis>,
    pub stops: u32,
    pub moves: u32,
}

/// What there is after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub now: Millis,
    pub waiting: usize,
    pub running: usize,
    /// What running work holds, in thousandths of cards.
    pub cards: i64,
}

/// Runs all arrivals, which are in the order of their times, to their ends. What can never
/// start is left without a start. `see` is called after every round.
pub fn run<P: Placer>(placer: &mut P, arrivals: &[Arrival], rules: Rules, mut see: impl FnMut(Moment, &mut P)) -> Vec<Fate> {
    let mut state = State::new(arrivals, rules);
    let mut next = 0;
    let mut round_at = Millis::MIN;
    // Whether something has happened since the last round.
    let mut is_due = false;
    loop {
        let arrival = arrivals.get(next).map(|arrival| arrival.at);
        let end = state.ends.peek().map(|entry| entry.0.0);
        let due = is_due.then_some(round_at);
        let Some(mut now) = arrival.into_iter().chain(end).chain(due).min() else { return state.fates };
        if rules.stops_above.is_some() && !state.waiting.is_empty() && end.is_some() {
            now = now.min(state.now + REVIEW_MS);
        }
        state.now = now;
        while let Some(&Reverse((at, place, stint))) = state.ends.peek()
            && at <= now
        {
            state.ends.pop();
            // An end that was announced before the work was stopped is none.
            if state.progress[place].stint == stint {
                placer.finish(WorkId(place as u64));
                state.end(place);
            }
        }
        while let Some(arrival) = arrivals.get(next)
            && arrival.at <= now
        {
            state.waiting.insert(next, arrival.work.clone());
            next += 1;
        }
        is_due = now < round_at;
        if is_due {
            continue;
        }
        round_at = now + rules.pause_ms;
        state.place(placer);
        let cards = state.running.keys().map(|place| state.progress[*place].cards).sum();
        see(Moment { now, waiting: state.waiting.len(), running: state.running.len(), cards }, placer);
    }
}

struct State<'a> {
    now: Millis,
    rules: Rules,
    arrivals: &'a [Arrival],
    fates: Vec<Fate>,
    progress: Vec<Progress>,
    /// By place in the arrivals, with what is known of the run time that is left.
    waiting: BTreeMap<usize, Work>,
    running: BTreeMap<usize, Millis>,
    /// Ends to come: when, whose, and in which of its stints.
    ends: BinaryHeap<Reverse<(Millis, usize, u32)>>,
    /// Moves that may be made, and since when they were counted.
    moves_left: f64,
    moves_counted_at: Millis,
}

impl<'a> State<'a> {
    fn new(arrivals: &'a [Arrival], rules: Rules) -> Self {
        let fate = |arrival: &Arrival| Fate { submitted_at: arrival.at, ..Fate::default() };
        let progress = |arrival: &Arrival| Progress {
            submitted_at: arrival.at,
            cards: arrival.work.sets.iter().map(|set| set.request.cards() * i64::from(set.count)).sum(),
            told_ms: arrival.work.run_ms,
            left_ms: arrival.run_ms,
            had_ms: 0,
            stint: 0,
        };
        Self {
            now: 0,
            rules,
            arrivals,
            fates: arrivals.iter().map(fate).collect(),
            progress: arrivals.iter().map(progress).collect(),
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            ends: BinaryHeap::new(),
            moves_left: 0.0,
            moves_counted_at: 0,
        }
    }

    fn end(&mut self, place: usize) {
        self.running.remove(&place);
        self.progress[place].stint += 1;
        self.fates[place].ended_at = Some(self.now);
    }

    fn place<P: Placer>(&mut self, placer: &mut P) {
        let order = self.order();
        let works: Vec<&Work> = order.iter().map(|(_, place)| &self.waiting[place]).collect();
        let started = placer.round(self.now, &works);
        self.start(&started);
        if self.rules.moves_per_hour > 0.0 {
            self.make_room(placer);
        }
        let Some(above) = self.rules.stops_above else { return };
        for (rank, place) in order.into_iter().filter(|entry| !started.contains(&entry.1)).take(STOPPED_FOR_MAX) {
            let mut lower: Vec<(f64, usize)> = self.running.keys().map(|&place| (self.rank(place), place)).collect();
            lower.retain(|entry| entry.0 * above < rank);
            lower.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
            let candidates: Vec<Candidate> = lower.iter().map(|(_, place)| Candidate { work: WorkId(*place as u64), tier: 0 }).collect();
            let Some(victims) = placer.victims(&self.waiting[&place], &candidates) else { continue };
            for victim in victims {
                placer.finish(victim);
                self.stop(victim.0 as usize);
            }
            let started = placer.round(self.now, &[&self.waiting[&place]]);
            self.start(&started);
        }
        // Those who were stopped may have room elsewhere.
        let works: Vec<Work> = self.order().iter().map(|(_, place)| self.waiting[place].clone()).collect();
        let started = placer.round(self.now, &works.iter().collect::<Vec<_>>());
        self.start(&started);
    }

    /// Moves smaller work together where that lets larger work start.
    fn make_room<P: Placer>(&mut self, placer: &mut P) {
        let hours = (self.now - self.moves_counted_at) as f64 / 3_600_000.0;
        self.moves_counted_at = self.now;
        let per_hour = self.rules.moves_per_hour * self.running.len() as f64;
        self.moves_left = (self.moves_left + hours * per_hour).min(per_hour.max(MOVES_SAVED_MIN));
        let tried: Vec<usize> =
            self.order().into_iter().map(|entry| entry.1).filter(|place| self.is_large(*place)).take(MOVED_FOR_MAX).collect();
        for place in tried {
            let most = self.moves_left as usize;
            if most == 0 {
                return;
            }
            let size = self.member_cards(place);
            let mut movable: Vec<(i64, usize)> = self.running.keys().map(|&other| (self.member_cards(other), other)).collect();
            // Work without cards frees none; as large work would need as much room again.
            movable.retain(|entry| entry.0 > 0 && entry.0 < size);
            movable.sort_unstable();
            let movable: Vec<Work> = movable.into_iter().map(|(_, other)| self.arrivals[other].work.clone()).collect();
            let Some(moved) = placer.make_room(&self.waiting[&place], &movable, most) else { continue };
            self.moves_left -= moved.len() as f64;
            for other in moved {
                self.delay(other.0 as usize);
            }
            let started = placer.round(self.now, &[&self.waiting[&place]]);
            self.start(&started);
        }
    }

    fn is_large(&self, place: usize) -> bool {
        self.member_cards(place) >= LARGE
    }

    /// The most cards of one member, in thousandths.
    fn member_cards(&self, place: usize) -> i64 {
        self.arrivals[place].work.sets.iter().map(|set| set.request.cards()).max().unwrap_or(0)
    }

    /// Running work ends later by what a move costs.
    fn delay(&mut self, place: usize) {
        let Some(started_at) = self.running.get(&place) else { return };
        let progress = &mut self.progress[place];
        progress.left_ms += self.rules.restart_ms;
        progress.stint += 1;
        self.fates[place].moves += 1;
        self.ends.push(Reverse((started_at + progress.left_ms, place, progress.stint)));
    }

    /// Those that wait, the highest rank first, equal ranks in the order of arrival.
    fn order(&self) -> Vec<(f64, usize)> {
        let mut order: Vec<(f64, usize)> = self.waiting.keys().map(|&place| (self.rank(place), place)).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        order
    }

    fn rank(&self, place: usize) -> f64 {
        let running_for = self.running.get(&place).map_or(0, |started_at| self.now - started_at);
        self.rules.order.rank(&self.progress[place], running_for, self.now)
    }

    fn start(&mut self, started: &[usize]) {
        for &place in started {
            self.waiting.remove(&place);
            self.running.insert(place, self.now);
            self.fates[place].started_at.get_or_insert(self.now);
            let progress = &self.progress[place];
            self.ends.push(Reverse((self.now + progress.left_ms, place, progress.stint)));
        }
    }

    fn stop(&mut self, place: usize) {
        let Some(started_at) = self.running.remove(&place) else { return };
        let ran = self.now - started_at;
        let progress = &mut self.progress[place];
        progress.stint += 1;
        progress.left_ms += self.rules.restart_ms - ran;
        progress.had_ms += ran;
        self.fates[place].stops += 1;
        let mut work = self.arrivals[place].work.clone();
        work.run_ms = progress.expected_left(0);
        self.waiting.insert(place, work);
    }
}
