//! In which order what waits is looked at.

use fermion_scheduler::engine::Millis;

/// What is known of a workload, and what only the simulator knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub submitted_at: Millis,
    /// Thousandths of cards.
    pub cards: i64,
    /// How long it was said to run.
    pub told_ms: Option<Millis>,
    /// How long it will run yet, in truth. No order looks at it.
    pub(super) left_ms: Millis,
    /// How long it has run before it was stopped.
    pub had_ms: Millis,
    /// How often it was stopped or ended.
    pub(super) stint: u32,
}

impl Progress {
    /// How long it is expected to run yet, when it has run for so long since its last start.
    /// What has run longer than was said is expected to go on for half of that.
    pub fn expected_left(&self, running_for: Millis) -> Option<Millis> {
        let had = self.had_ms + running_for;
        self.told_ms.map(|told| (told - had).max(had / 2).max(LEFT_MIN_MS))
    }
}

/// Nothing is expected to end sooner.
const LEFT_MIN_MS: Millis = 1000;
/// What a new arrival counts as having waited, so that ranks are above zero.
const AGE_MIN_MS: Millis = 60_000;
/// The first level of attained service, in thousandths of cards times milliseconds: one
/// card-hour. Each further level is ten times as much.
const LEVEL: i128 = 3_600_000_000;

/// Ranks what waits; the higher rank comes first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    /// By arrival.
    Arrival,
    /// The least service left first.
    Service,
    /// How long it has been there over the service it has left, to the power of `weight`: so
    /// short work goes first, and nothing waits without end. Brinch Hansen's highest response
    /// ratio next (Software: Practice and Experience, 1971) with cards counted. What has no
    /// known run time goes by [`Order::Levels`].
    ResponseRatio { weight: f64 },
    /// The less service it had, the earlier, in levels that grow tenfold; in a level by
    /// arrival. For run times of which nothing is known.
    Levels,
}

impl Order {
    pub(super) fn rank(self, progress: &Progress, running_for: Millis, now: Millis) -> f64 {
        let cards = progress.cards.max(1) as f64 / 1000.0;
        let left = progress.expected_left(running_for).map(|left| left as f64 * cards);
        match (self, left) {
            (Self::Service, Some(left)) => 1.0 / left,
            (Self::ResponseRatio { weight }, Some(left)) => (now - progress.submitted_at + AGE_MIN_MS) as f64 / left.powf(weight),
            (Self::Arrival, _) => 1.0,
            (Self::Levels, _) | (_, None) => {
                let had = i128::from(progress.cards) * i128::from(progress.had_ms + running_for);
                let level = std::iter::successors(Some(LEVEL), |level| level.checked_mul(10)).take_while(|level| had >= *level).count();
                // Later arrivals of a level rank lower, but above the next level.
                let later = progress.submitted_at as f64 / (progress.submitted_at as f64 + 1e12);
                10_f64.powi(-(level as i32)) * (1.0 - 0.5 * later)
            }
        }
    }
}
