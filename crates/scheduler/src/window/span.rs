//! Spans of wall-clock time, and the moments at which they begin and end.

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
const MINUTES_OF_DAY: u16 = 24 * 60;
/// 1970-01-01 was a Thursday, and Monday counts as the first day.
const EPOCH_WEEKDAY: i64 = 3;

/// A time zone, as the table of its offsets from UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    first_offset_ms: i64,
    /// (from when, offset), in order.
    changes: Vec<(i64, i64)>,
}

/// Why a table is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZoneRefused {
    #[error("changes of the offset must come in order, at most {} of them", Zone::CHANGES_MAX)]
    NotInOrder,
    #[error("an offset is less than a day and a half")]
    OffsetOutOfRange,
}

impl Zone {
    /// Two changes a year, for five hundred years.
    pub const CHANGES_MAX: usize = 1000;
    const OFFSET_MAX_MS: i64 = DAY_MS * 3 / 2;

    /// The offset before the first change, then (from when, offset) in order.
    pub fn new(first_offset_ms: i64, changes: Vec<(i64, i64)>) -> Result<Self, ZoneRefused> {
        if changes.len() > Self::CHANGES_MAX || changes.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err(ZoneRefused::NotInOrder);
        }
        let mut offsets = changes.iter().map(|change| change.1).chain([first_offset_ms]);
        if offsets.any(|offset| offset.abs() >= Self::OFFSET_MAX_MS) {
            return Err(ZoneRefused::OffsetOutOfRange);
        }
        Ok(Self { first_offset_ms, changes })
    }

    pub fn fixed(offset_ms: i64) -> Result<Self, ZoneRefused> {
        Self::new(offset_ms, Vec::new())
    }

    /// What the clock on the wall says, in milliseconds of a time without zones.
    pub fn local(&self, at: i64) -> i64 {
        let past = self.changes.partition_point(|change| change.0 <= at);
        at.saturating_add(if past == 0 { self.first_offset_ms } else { self.changes[past - 1].1 })
    }

    /// Pieces of constant offset that overlap a range: (from, until, offset).
    fn pieces(&self, from: i64, until: i64) -> impl Iterator<Item = (i64, i64, i64)> + '_ {
        let starts = [(i64::MIN, self.first_offset_ms)].into_iter().chain(self.changes.iter().copied());
        let ends = self.changes.iter().map(|change| change.0).chain([i64::MAX]);
        let pieces = starts.zip(ends).map(|((start, offset), end)| (start, end, offset));
        pieces.filter(move |(start, end, _)| *start <= until && *end > from)
    }

    fn change_after(&self, at: i64) -> Option<i64> {
        self.changes.get(self.changes.partition_point(|change| change.0 <= at)).map(|change| change.0)
    }
}

/// Days of the week.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Days(u8);

impl Days {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self(0b111_1111);
    pub const WORKING: Self = Self(0b001_1111);

    /// From 0, Monday, to 6; others are left out.
    pub fn of(days: &[u8]) -> Self {
        Self(days.iter().filter(|day| **day < 7).fold(0, |bits, day| bits | 1 << day))
    }

    /// Whether it names the weekday of this day, counted from the epoch.
    fn has(self, day: i64) -> bool {
        self.0 >> (day + EPOCH_WEEKDAY).rem_euclid(7) & 1 == 1
    }
}

/// A stretch of wall-clock time: its beginning belongs to it, its end does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Span {
    /// On each of these days, from a minute of the day until another. One that is not later lies
    /// on the day after.
    Weekly { days: Days, from_minute: u16, until_minute: u16 },
    /// Once.
    Dates { from_local_ms: i64, until_local_ms: i64 },
}

impl Span {
    pub(super) fn is_well_formed(&self) -> bool {
        match *self {
            Self::Weekly { days, from_minute, until_minute } => {
                days != Days::NONE && from_minute < MINUTES_OF_DAY && until_minute <= MINUTES_OF_DAY
            }
            Self::Dates { from_local_ms, until_local_ms } => from_local_ms < until_local_ms,
        }
    }

    fn contains(&self, local: i64) -> bool {
        match *self {
            Self::Weekly { days, from_minute, until_minute } => {
                let (day, time) = (local.div_euclid(DAY_MS), local.rem_euclid(DAY_MS));
                let (from, until) = (i64::from(from_minute) * MINUTE_MS, i64::from(until_minute) * MINUTE_MS);
                if from < until {
                    days.has(day) && (from..until).contains(&time)
                } else {
                    days.has(day) && time >= from || days.has(day - 1) && time < until
                }
            }
            Self::Dates { from_local_ms, until_local_ms } => (from_local_ms..until_local_ms).contains(&local),
        }
    }

    /// Wall-clock moments within a range at which it begins or ends, and perhaps some beside.
    fn edges(&self, from: i64, until: i64, edge: &mut impl FnMut(i64)) {
        match *self {
            Self::Weekly { from_minute, until_minute, .. } => {
                for day in from.div_euclid(DAY_MS)..=until.div_euclid(DAY_MS) {
                    edge(day * DAY_MS + i64::from(from_minute) * MINUTE_MS);
                    edge(day * DAY_MS + i64::from(until_minute) * MINUTE_MS);
                }
            }
            Self::Dates { from_local_ms, until_local_ms } => {
                edge(from_local_ms);
                edge(until_local_ms);
            }
        }
    }
}

/// How far is looked at once. Hours that come again every week have all come in it, also where a
/// change of the offset leaves out some.
const LOOK_MS: i64 = 15 * DAY_MS;
/// How often is looked further, at the next date or change of an offset: all of a rule's.
const LOOKS_MAX: usize = Zone::CHANGES_MAX * 2;

/// Whether any of the spans holds.
pub(super) fn open(spans: &[(&Zone, &Span)], at: i64) -> bool {
    spans.iter().any(|(zone, span)| span.contains(zone.local(at)))
}

/// The first moment after `now` at which [`open`] answers otherwise.
pub(super) fn next_change(spans: &[(&Zone, &Span)], now: i64) -> Option<i64> {
    let state = open(spans, now);
    let mut from = now;
    for _ in 0..LOOKS_MAX {
        let until = from.saturating_add(LOOK_MS);
        let mut edges = Vec::new();
        for (zone, span) in spans {
            for (start, end, offset) in zone.pieces(from, until) {
                let mut edge = |at: i64| {
                    if at > from && at <= until && (start..end).contains(&at) {
                        edges.push(at);
                    }
                };
                edge(start);
                span.edges(start.max(from) + offset, end.min(until) + offset, &mut |local| edge(local - offset));
            }
        }
        edges.sort_unstable();
        if let Some(at) = edges.into_iter().find(|at| open(spans, *at) != state) {
            return Some(at);
        }
        // With the same offsets and no date, the weeks that follow are like this one.
        let quiet_since = until.saturating_sub(8 * DAY_MS);
        let next = spans.iter().filter_map(|(zone, span)| break_after(zone, span, quiet_since)).min()?;
        from = if next <= until { until } else { next - 1 };
    }
    None
}

/// The next moment from which weeks need not be like those before.
fn break_after(zone: &Zone, span: &Span, at: i64) -> Option<i64> {
    let dates = match *span {
        Span::Weekly { .. } => None,
        Span::Dates { from_local_ms, until_local_ms } => {
            let moments = zone.pieces(at, i64::MAX).flat_map(|(start, end, offset)| {
                let moments = [from_local_ms, until_local_ms].map(|local| local.saturating_sub(offset));
                moments.into_iter().filter(move |moment| (start..end).contains(moment))
            });
            moments.filter(|moment| *moment > at).min()
        }
    };
    zone.change_after(at).into_iter().chain(dates).min()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn weekdays_are_those_of_the_calendar() {
        // 2024-02-29 was a Thursday: day 19782.
        assert!(Days::of(&[3]).has(19_782) && !Days::of(&[2, 4]).has(19_782));
        assert!(Days::WORKING.has(19_783) && !Days::WORKING.has(19_784) && Days::WORKING.has(-3));
    }

    #[test]
    fn tables_must_be_in_order() {
        assert_eq!(Zone::new(0, vec![(5, 0), (5, 0)]), Err(ZoneRefused::NotInOrder));
        assert_eq!(Zone::fixed(2 * DAY_MS), Err(ZoneRefused::OffsetOutOfRange));
        let zone = Zone::new(100, vec![(1000, 200)]).unwrap();
        assert_eq!((zone.local(999), zone.local(1000)), (1099, 1200));
    }

    #[test]
    fn an_hour_that_a_change_leaves_out_comes_the_week_after() {
        // Clocks go from 02:00 to 03:00 on day 10, a Sunday.
        let day = 10;
        assert!(Days::of(&[6]).has(day));
        let zone = Zone::new(0, vec![(day * DAY_MS + 120 * MINUTE_MS, 60 * MINUTE_MS)]).unwrap();
        let span = Span::Weekly { days: Days::of(&[6]), from_minute: 150, until_minute: 170 };
        let next = next_change(&[(&zone, &span)], day * DAY_MS);
        assert_eq!(next, Some((day + 7) * DAY_MS + 90 * MINUTE_MS));
    }

    #[test]
    fn a_date_far_away_is_found() {
        let zone = Zone::fixed(0).unwrap();
        let far = Span::Dates { from_local_ms: 4000 * DAY_MS, until_local_ms: 4001 * DAY_MS };
        assert_eq!(next_change(&[(&zone, &far)], 0), Some(4000 * DAY_MS));
        // While every day is open, the date changes nothing, and after both there is no end.
        let every = Span::Weekly { days: Days::ALL, from_minute: 0, until_minute: 0 };
        assert_eq!(next_change(&[(&zone, &far), (&zone, &every)], 0), None);
    }

    fn span() -> impl Strategy<Value = Span> {
        let quarter = |quarters: u16| quarters * 15;
        prop_oneof![
            (1..128_u8, 0..96_u16, 0..=96_u16).prop_map(move |(days, from, until)| Span::Weekly {
                days: Days(days),
                from_minute: quarter(from),
                until_minute: quarter(until)
            }),
            (0..2000_i64, 1..500_i64).prop_map(|(from, long)| Span::Dates {
                from_local_ms: from * 15 * MINUTE_MS,
                until_local_ms: (from + long) * 15 * MINUTE_MS
            }),
        ]
    }

    proptest! {
        /// Against every quarter of an hour of three weeks.
        #[test]
        fn the_next_change_is_the_first_quarter_that_differs(
            spans in proptest::collection::vec((span(), any::<bool>()), 1..4),
            offsets in proptest::collection::vec(-48..48_i64, 3),
            changes in (1..800_i64, 1..800_i64),
            now in 0..1000_i64,
        ) {
            let quarters = |count: i64| count * 15 * MINUTE_MS;
            let table = vec![(quarters(changes.0), quarters(offsets[1])), (quarters(changes.0 + changes.1), quarters(offsets[2]))];
            let zones = [Zone::fixed(0).unwrap(), Zone::new(quarters(offsets[0]), table).unwrap()];
            let spans: Vec<(&Zone, &Span)> = spans.iter().map(|(span, other)| (&zones[usize::from(*other)], span)).collect();
            let now = quarters(now);
            let state = open(&spans, now);
            let far = 21 * 96;
            let first = (1..far).map(|count| now + quarters(count)).find(|at| open(&spans, *at) != state);
            let found = next_change(&spans, now).filter(|at| *at < now + quarters(far));
            prop_assert_eq!(found, first);
        }
    }
}
