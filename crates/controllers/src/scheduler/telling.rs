//! When the words about a wait are due.
//!
//! What a Workload waits for, its position above all, changes with every round, for all that wait.
//! Written each time, ten thousand waiting Workloads would keep the database busy with nothing else: a
//! word to a Workload is one write here, one by the controller that repeats it in a condition, and one
//! for each of its pods. So where many wait, who waits only for a moment is told nothing, new words for
//! the same reason come at intervals, and a round tells so many at most; the others have their turn in
//! the next ones.

use std::collections::HashMap;
use std::time::Duration;

use fermion_api::ai::workload::Waiting;
use fermion_api::reason;
use tokio::time::Instant;

/// How long something waits, or waits for another reason, before it is told why, where many wait.
const TOLD_AFTER: Duration = Duration::from_secs(1);
/// So many may wait for everybody to be told at once.
const FEW_MAX: usize = 64;
/// How long after the last words there may be new ones for the same reason.
const RETOLD_AFTER: Duration = Duration::from_secs(5);
/// How long it is left to a Workload's controller to take the words away, with what else it writes
/// when the pods have their places.
const TAKEN_AWAY_AFTER: Duration = Duration::from_secs(2);
/// How many Workloads, and as many pods, a round tells something.
const TOLD_PER_ROUND_MAX: usize = 256;

/// What was told to whom.
#[derive(Default)]
pub(super) struct Telling {
    now: Option<Instant>,
    /// By uid.
    workloads: HashMap<String, Told>,
    pods: HashMap<String, Told>,
    /// In this round.
    count: usize,
    pod_count: usize,
    due_at: Option<Instant>,
    /// After how long first words are due.
    told_after: Duration,
}

struct Told {
    /// Since when it waits, or should no longer say that it does.
    since: Instant,
    /// What was last written, and when; the cache may lag behind it.
    words: Option<Waiting>,
    at: Option<Instant>,
    /// Whether it was asked about in this round.
    seen: bool,
}

impl Told {
    fn new(since: Instant) -> Self {
        Self { since, words: None, at: None, seen: true }
    }

    /// When new words for this reason are due; first words after `first_after`.
    fn due(&self, shown: Option<&Waiting>, reason: &str, first_after: Duration, now: Instant) -> Instant {
        match self.words.as_ref().or(shown).map(|before| before.reason == reason) {
            None => self.since + first_after,
            Some(false) => self.at.map_or(now, |at| at + first_after),
            Some(true) => self.at.map_or(now, |at| at + RETOLD_AFTER),
        }
    }
}

impl Telling {
    /// Before the questions of a round in which so many wait; where it asks only about some, the
    /// others are not forgotten after it.
    pub(super) fn begin(&mut self, now: Instant, waiting: usize, some: bool) {
        self.now = Some(now);
        self.told_after = if is_few(waiting) { Duration::ZERO } else { TOLD_AFTER };
        (self.count, self.pod_count) = (0, 0);
        if some {
            return;
        }
        self.due_at = None;
        for told in self.workloads.values_mut().chain(self.pods.values_mut()) {
            told.seen = false;
        }
    }

    /// After them: forgets who was not asked about.
    pub(super) fn end(&mut self) {
        self.workloads.retain(|_, told| told.seen);
        self.pods.retain(|_, told| told.seen);
    }

    /// When a word is due that was not due in the last round.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.due_at
    }

    /// Whether words for this reason could be due for a Workload that shows those: asked before they
    /// are put together.
    pub(super) fn may_be_due(&mut self, uid: &str, shown: Option<&Waiting>, reason: &str) -> bool {
        let now = self.now.unwrap_or_else(Instant::now);
        let told = told(&mut self.workloads, uid, now);
        if reason == reason::WAITING_FOR_EVICTIONS || shown.is_some_and(is_claim) {
            return true;
        }
        let due = told.due(shown, reason, self.told_after, now);
        self.is_turn(due, now, self.count)
    }

    /// The same for a pod.
    pub(super) fn may_pod_be_due(&mut self, uid: &str) -> bool {
        let now = self.now.unwrap_or_else(Instant::now);
        let told = told(&mut self.pods, uid, now);
        let due = told.at.map_or(told.since + self.told_after, |at| at + RETOLD_AFTER);
        self.is_turn(due, now, self.pod_count)
    }

    /// Whether what is due then is to be said now, after so many words in this round.
    fn is_turn(&mut self, due: Instant, now: Instant, count: usize) -> bool {
        if due > now || count >= TOLD_PER_ROUND_MAX {
            let due = due.max(now);
            self.due_at = Some(self.due_at.map_or(due, |earlier| earlier.min(due)));
            return false;
        }
        true
    }

    /// Whether these words are to be written now into the status of a Workload that shows those, or
    /// shown ones be taken away; if so they count as written.
    pub(super) fn is_due(&mut self, uid: &str, shown: Option<&Waiting>, words: Option<&Waiting>) -> bool {
        if shown == words && words.is_none() {
            return false;
        }
        let now = self.now.unwrap_or_else(Instant::now);
        let told = told(&mut self.workloads, uid, now);
        if shown == words || (words.is_some() && told.words.as_ref() == words) {
            return false;
        }
        let (due, limited) = match words {
            None => {
                // From now on it no longer waits, whatever was before.
                if told.words.take().is_some() {
                    told.since = now;
                }
                let at_once = shown.is_some_and(is_claim);
                (if at_once { now } else { told.since + TAKEN_AWAY_AFTER }, !at_once)
            }
            // A restart of the server reads from these words whom others are stopped for.
            Some(words) if is_claim(words) || shown.is_some_and(is_claim) => (now, false),
            Some(words) => (told.due(shown, &words.reason, self.told_after, now), true),
        };
        if due > now || (limited && self.count >= TOLD_PER_ROUND_MAX) {
            let due = due.max(now);
            self.due_at = Some(self.due_at.map_or(due, |earlier| earlier.min(due)));
            return false;
        }
        self.count += usize::from(limited);
        told.words = words.cloned();
        told.at = Some(now);
        true
    }

    /// Whether a pod that waits, and does not say so as it should, is to be told now; if so it
    /// counts as told.
    pub(super) fn is_pod_due(&mut self, uid: &str) -> bool {
        if !self.may_pod_be_due(uid) {
            return false;
        }
        let now = self.now.unwrap_or_else(Instant::now);
        self.pod_count += 1;
        told(&mut self.pods, uid, now).at = Some(now);
        true
    }

    /// Writing to a Workload did not succeed: the same words are due in the next round.
    pub(super) fn failed(&mut self, uid: &str) {
        if let Some(told) = self.workloads.get_mut(uid) {
            (told.words, told.at) = (None, None);
        }
    }
}

/// What was told to this one, which is asked about now.
fn told<'t>(all: &'t mut HashMap<String, Told>, uid: &str, now: Instant) -> &'t mut Told {
    if !all.contains_key(uid) {
        all.insert(uid.to_owned(), Told::new(now));
    }
    let told = all.get_mut(uid).expect("it was just put there");
    told.seen = true;
    told
}

/// Whether everybody is told at once where so many wait.
pub(super) fn is_few(waiting: usize) -> bool {
    waiting <= FEW_MAX
}

/// Whether these words say that others are being stopped.
pub(super) fn is_claim(words: &Waiting) -> bool {
    words.reason == reason::WAITING_FOR_EVICTIONS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(reason: &str, position: i32) -> Waiting {
        serde_json::from_value(serde_json::json!({"reason": reason, "message": "", "position": position})).expect("words")
    }

    fn round(telling: &mut Telling, at: Instant, shown: Option<&Waiting>, words: Option<&Waiting>) -> bool {
        telling.begin(at, FEW_MAX + 1, false);
        let due = telling.is_due("u", shown, words);
        telling.end();
        due
    }

    #[test]
    fn who_waits_for_a_moment_is_told_nothing_and_then_at_intervals() {
        let (mut telling, start) = (Telling::default(), Instant::now());
        let (first, second, other) = (words("QueueLimit", 9), words("QueueLimit", 8), words("BehindOthers", 8));
        assert!(!round(&mut telling, start, None, Some(&first)));
        assert_eq!(telling.due_at(), Some(start + TOLD_AFTER));
        let told_at = start + TOLD_AFTER;
        assert!(round(&mut telling, told_at, None, Some(&first)));
        assert!(!round(&mut telling, told_at, None, Some(&first)), "the cache is only late");
        assert!(!round(&mut telling, told_at + TOLD_AFTER, Some(&first), Some(&second)), "only the position changed");
        assert!(round(&mut telling, told_at + TOLD_AFTER, Some(&first), Some(&other)), "another reason");
        let told_at = told_at + TOLD_AFTER;
        assert!(!round(&mut telling, told_at + TOLD_AFTER, Some(&other), Some(&words("BehindOthers", 7))));
        assert!(round(&mut telling, told_at + RETOLD_AFTER, Some(&other), Some(&words("BehindOthers", 7))));
    }

    #[test]
    fn where_few_wait_they_are_told_at_once() {
        let (mut telling, start) = (Telling::default(), Instant::now());
        telling.begin(start, FEW_MAX, false);
        assert!(telling.is_due("u", None, Some(&words("QueueLimit", 1))) && telling.is_pod_due("p"));
        assert!(telling.is_due("u", Some(&words("QueueLimit", 1)), Some(&words("BehindOthers", 1))));
        assert!(!telling.is_due("u", Some(&words("BehindOthers", 1)), Some(&words("BehindOthers", 2))), "only the position changed");
    }

    #[test]
    fn words_are_left_to_the_controller_and_then_taken_away() {
        let (mut telling, start) = (Telling::default(), Instant::now());
        let told = words("QueueLimit", 1);
        assert!(!round(&mut telling, start, None, Some(&told)));
        assert!(round(&mut telling, start + TOLD_AFTER, None, Some(&told)));
        let ended = start + TOLD_AFTER * 2;
        assert!(!round(&mut telling, ended, Some(&told), None));
        assert!(round(&mut telling, ended + TAKEN_AWAY_AFTER, Some(&told), None));
        assert!(!round(&mut telling, ended + TAKEN_AWAY_AFTER, None, None));
        assert!(telling.workloads.is_empty() && telling.due_at().is_none());
    }

    #[test]
    fn words_that_were_there_before_this_server_are_renewed_and_claims_are_told_at_once() {
        let (mut telling, start) = (Telling::default(), Instant::now());
        assert!(round(&mut telling, start, Some(&words("QueueLimit", 9)), Some(&words("QueueLimit", 8))));
        let claim = words(reason::WAITING_FOR_EVICTIONS, 1);
        assert!(round(&mut telling, start, Some(&words("QueueLimit", 8)), Some(&claim)));
        assert!(round(&mut telling, start, Some(&claim), Some(&words("QueueLimit", 8))));
    }

    #[test]
    fn a_round_tells_so_many_and_the_next_ones_the_others() {
        let (mut telling, start) = (Telling::default(), Instant::now());
        let told = words("QueueLimit", 1);
        let mut ask = |at: Instant| {
            telling.begin(at, TOLD_PER_ROUND_MAX * 2, false);
            let due = (0..TOLD_PER_ROUND_MAX * 2).filter(|number| telling.is_due(&number.to_string(), None, Some(&told))).count();
            let pods = (0..TOLD_PER_ROUND_MAX * 2).filter(|number| telling.is_pod_due(&number.to_string())).count();
            telling.end();
            (due, pods)
        };
        let later = start + TOLD_AFTER;
        assert_eq!([start, later, later, later].map(&mut ask), [(0, 0), (256, 256), (256, 256), (0, 0)]);
    }

    #[test]
    fn what_could_not_be_written_is_due_again() {
        let (mut telling, start) = (Telling::default(), Instant::now());
        let told = words("QueueLimit", 1);
        assert!(!round(&mut telling, start, None, Some(&told)));
        assert!(round(&mut telling, start + TOLD_AFTER, None, Some(&told)));
        telling.failed("u");
        assert!(round(&mut telling, start + TOLD_AFTER, None, Some(&told)));
    }
}
