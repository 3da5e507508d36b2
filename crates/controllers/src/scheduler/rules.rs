//! From the kinds that rule to the rules a plan is made by.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use fermion_api::ai::scheduling::EnvironmentKind;
use fermion_api::compute::entitlement::Entitlement;
use fermion_api::compute::queue::{JobOrder, Oversubscribe, OversubscribeMode, QueueState};
use fermion_api::compute::quota::SubjectKind;
use fermion_api::compute::resource_policy;
use fermion_api::compute::scheduling_policy::{self, Backfill, Order, Placement, SchedulingPolicySpec};
use fermion_api::compute::time_window::{self, Day, WeeklySpan};
use fermion_api::compute::{Pool, Queue, Quota, ResourcePolicy, ResourceTicket, SchedulingPolicy, TimeWindow};
use fermion_api::iam::User;
use fermion_api::{labels, pod, quantity};
use fermion_scheduler::environment::Environment;
use fermion_scheduler::policy::Policy;
use fermion_scheduler::window::{self, Days, Span, Windows, Zone};
use fermion_scheduler::{self as plan, Subject, Whom, engine, queue, scoring};
use jiff::civil::{Date, Weekday};
use jiff::{Timestamp, ToSpan as _};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt as _;

use super::moving::Moves;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
/// How many days of a span between dates are laid out ahead; the others follow when their time
/// comes nearer.
const DAYS_AHEAD: i64 = 14;

/// The objects that rule.
pub(super) struct Ruling<'a> {
    pub policies: &'a [Arc<SchedulingPolicy>],
    pub pools: &'a [Arc<Pool>],
    pub quotas: &'a [Arc<Quota>],
    pub resource_policies: &'a [Arc<ResourcePolicy>],
    pub tickets: &'a [Arc<ResourceTicket>],
    pub windows: &'a [Arc<TimeWindow>],
    pub users: &'a [Arc<User>],
    pub namespaces: &'a [Arc<Namespace>],
}

/// Whose an object is, by its project and who made it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Owners {
    /// Organisation and tenant by project.
    projects: HashMap<String, (Option<String>, String)>,
    groups: HashMap<String, Vec<String>>,
}

impl<'a> Ruling<'a> {
    pub(super) fn owners(&self) -> Owners {
        let project = |namespace: &Arc<Namespace>| {
            let label = |name: &str| namespace.labels().get(name).cloned();
            (namespace.name_any(), (label(labels::ORGANIZATION), label(labels::TENANT).unwrap_or_default()))
        };
        Owners {
            projects: self.namespaces.iter().map(project).collect(),
            groups: self.users.iter().map(|user| (user.name_any(), user.spec.groups.clone())).collect(),
        }
    }

    /// Pools in which work may be moved.
    pub(super) fn moving_pools(&self) -> BTreeSet<String> {
        let moves = |pool: &&Arc<Pool>| self.policy_of(pool).is_some_and(|policy| policy.consolidation.is_some());
        self.pools.iter().filter(moves).map(|pool| pool.name_any()).collect()
    }

    /// What holds in each pool, in which so much was moved in the last hour.
    pub(super) fn pools(&self, moves: &Moves) -> Vec<plan::Pool> {
        let of_pool = |pool: &Arc<Pool>| {
            let default = SchedulingPolicySpec::default();
            let spec = self.policy_of(pool).unwrap_or(&default);
            plan::Pool {
                name: pool.name_any(),
                placement: match spec.placement {
                    Placement::Spread => scoring::Placement::Spread,
                    Placement::BestFit => scoring::Placement::BestFit,
                    Placement::FragmentationGradient => scoring::Placement::FragmentationGradient,
                    Placement::Scarcity => scoring::Placement::Scarcity,
                },
                backfill: match spec.backfill {
                    Backfill::None => engine::Backfill::None,
                    Backfill::Easy => engine::Backfill::Easy,
                    Backfill::Conservative => engine::Backfill::Conservative,
                },
                preemption: spec.preemption,
                run_ms_min: spec.min_run_time().map_or(0, millis),
                half_life_ms: spec.half_life().map(millis),
                patience_ms: spec.patience().map(millis),
                consolidation: spec.consolidation.as_ref().map(|consolidation| {
                    let of_hour = usize::try_from(consolidation.max_moves_per_hour).unwrap_or(0);
                    plan::Consolidation {
                        moves_max: usize::try_from(consolidation.max_moves).unwrap_or(0),
                        moves_left: of_hour.saturating_sub(moves.get(&pool.name_any()).copied().unwrap_or(0)),
                        run_ms_min: consolidation.min_run_time().map_or(0, millis),
                    }
                }),
            }
        };
        self.pools.iter().map(of_pool).collect()
    }

    /// What the policy of a pool says, if there is one.
    fn policy_of(&self, pool: &Pool) -> Option<&'a SchedulingPolicySpec> {
        let name = pool.spec.scheduling_policy.as_deref().unwrap_or(scheduling_policy::DEFAULT);
        self.policies.iter().find(|policy| policy.name_any() == name).map(|policy| &policy.spec)
    }

    /// Queues as plans know them; one that names no order has its pool's.
    pub(super) fn queues(&self, queues: &[Arc<Queue>]) -> Vec<plan::Queue> {
        let of_pool = |pool: &Arc<Pool>| Some((pool.name_any(), self.policy_of(pool)?.order));
        let orders: HashMap<String, Order> = self.pools.iter().filter_map(of_pool).collect();
        let of_queue = |each: &Arc<Queue>| queue(each, orders.get(&each.spec.pool).copied().unwrap_or_default());
        queues.iter().map(of_queue).collect()
    }

    /// Ceilings, counts and hours of everybody who has work now.
    pub(super) fn rules<'w>(&self, owners: impl Iterator<Item = &'w Whom>, now: Timestamp) -> plan::Rules {
        let mut rules = plan::Rules::default();
        for quota in self.quotas {
            let subject = &quota.spec.subject;
            let of = match (subject.kind, &subject.project) {
                (SubjectKind::Tenant, _) => Subject::Tenant(subject.name.clone()),
                (SubjectKind::Organization, _) => Subject::Organization(subject.name.clone()),
                (SubjectKind::Project, _) => Subject::Project(subject.name.clone()),
                (SubjectKind::User, Some(project)) => Subject::Member { project: project.clone(), user: subject.name.clone() },
                // Not one that the API takes.
                (SubjectKind::User, None) => continue,
            };
            rules.ceilings.push((of, amounts(&quota.spec.hard)));
        }
        let people: BTreeMap<(&str, &str), &Whom> = owners.map(|whom| ((whom.user.as_str(), whom.project.as_str()), whom)).collect();
        let mut done: BTreeSet<&str> = BTreeSet::new();
        for ((user, project), whom) in people {
            let base = self.entitlement(whom, now);
            let mine: Vec<&Arc<ResourceTicket>> =
                self.tickets.iter().filter(|ticket| ticket.is_for(&whom.user, &whom.groups) && ticket.holds(now)).collect();
            if done.insert(user) {
                limit(&mut rules, Subject::Person(user.to_owned()), base, &mine);
            }
            // A ticket is for its project: in others the person has what policies give.
            if let Some(base) = base.filter(|_| !mine.is_empty()) {
                let here: Vec<_> = mine.into_iter().filter(|ticket| ticket.namespace().as_deref() == Some(project)).collect();
                limit(&mut rules, Subject::Member { project: project.to_owned(), user: user.to_owned() }, Some(base), &here);
            }
        }
        for window in self.windows {
            rules.windows.extend(hours(window, now).map(|rule| (window.name_any(), rule)));
        }
        rules
    }

    /// What policies give a person.
    fn entitlement(&self, whom: &Whom, now: Timestamp) -> Option<&'a Entitlement> {
        let policies = self.resource_policies.iter().map(AsRef::as_ref);
        resource_policy::policy_of(policies, &whom.user, &whom.groups, now).map(|policy| &policy.spec.entitlement)
    }
}

impl Owners {
    /// Whose an object is.
    pub(super) fn of(&self, object: &impl kube::ResourceExt) -> Whom {
        let project = object.namespace().unwrap_or_default();
        let user = object.annotations().get(labels::CREATED_BY).cloned().unwrap_or_default();
        let (organization, tenant) = self.projects.get(&project).cloned().unwrap_or_default();
        let groups = self.groups.get(&user).cloned().unwrap_or_default();
        Whom { tenant, organization, project, user, groups }
    }
}

/// What an entitlement and tickets on top of it allow. Tickets add nothing to what is not
/// limited.
fn limit(rules: &mut plan::Rules, subject: Subject, base: Option<&Entitlement>, tickets: &[&Arc<ResourceTicket>]) {
    let Some(base) = base else { return };
    let mut most = amounts(&base.resources);
    for (name, amount) in tickets.iter().flat_map(|ticket| amounts(&ticket.spec.asked.resources)) {
        if let Some(sum) = most.get_mut(&name) {
            *sum = sum.saturating_add(amount);
        }
    }
    let running = base.running.map(|running| {
        let more: i32 = tickets.iter().filter_map(|ticket| ticket.spec.asked.running).fold(0, i32::saturating_add);
        u32::try_from(running.saturating_add(more)).unwrap_or(0)
    });
    if !most.is_empty() {
        rules.ceilings.push((subject.clone(), most));
    }
    if running.is_some() {
        rules.policies.push((subject, Policy { running_max: running, ..Policy::default() }));
    }
}

/// A queue as plans know it; `order` is that of its pool.
fn queue(queue: &Queue, order: Order) -> plan::Queue {
    let spec = &queue.spec;
    let state = match spec.state {
        QueueState::Up => queue::State::Up,
        QueueState::Down => queue::State::Down,
        QueueState::Drain => queue::State::Drain,
        QueueState::Inactive => queue::State::Inactive,
    };
    plan::Queue {
        name: queue.name_any(),
        pool: spec.pool.clone(),
        parent: spec.parent.clone(),
        priority: u32::try_from(spec.priority).unwrap_or(0),
        state: if queue.metadata.deletion_timestamp.is_some() { queue::State::Inactive } else { state },
        guaranteed: amounts(&spec.guaranteed),
        limit: amounts(&spec.limit),
        weight: u32::try_from(spec.weight).unwrap_or(1),
        run_ms_max: spec.max_run_time().map(millis),
        access: queue::Access {
            users: spec.allowed.users.iter().cloned().collect(),
            groups: spec.allowed.groups.iter().cloned().collect(),
        },
        job_order: match (spec.job_order, order) {
            (Some(JobOrder::Fifo), _) | (None, Order::Fifo) => queue::JobOrder::Fifo,
            (Some(JobOrder::Priority), _) | (None, Order::Priority) => queue::JobOrder::Priority,
            (Some(JobOrder::FairShare), _) | (None, Order::FairShare) => queue::JobOrder::FairShare,
            (Some(JobOrder::ShortestFirst), _) | (None, Order::ShortestFirst) => queue::JobOrder::ShortestFirst,
        },
        oversubscribe: oversubscribe(&spec.oversubscribe),
    }
}

/// What was admitted is in range; should it not be, nothing is shared.
fn oversubscribe(told: &Oversubscribe) -> queue::OverSubscribe {
    let mode = match told.mode {
        OversubscribeMode::No => queue::Mode::No,
        OversubscribeMode::Yes => queue::Mode::Yes,
        OversubscribeMode::Force => queue::Mode::Force,
        OversubscribeMode::Exclusive => queue::Mode::Exclusive,
    };
    let count = told.count.and_then(|count| u32::try_from(count).ok());
    queue::OverSubscribe::new(mode, count).unwrap_or_default()
}

pub(super) fn environment(kind: EnvironmentKind) -> Environment {
    match kind {
        EnvironmentKind::Development => Environment::Development,
        EnvironmentKind::Training => Environment::Training,
        EnvironmentKind::Inference => Environment::Inference,
        EnvironmentKind::Visualization => Environment::Visualization,
    }
}

fn amounts(quantities: &BTreeMap<String, Quantity>) -> pod::Resources {
    quantities.iter().map(|(name, amount)| (name.clone(), quantity::milli(amount))).collect()
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// The rule of a window; `None` for one that cannot be read, which the API does not take.
fn hours(window: &TimeWindow, now: Timestamp) -> Option<window::Rule> {
    let spec = &window.spec;
    let offset_ms = i64::from(time_window::offset_minutes(&spec.utc_offset).ok()?) * MINUTE_MS;
    let today = Timestamp::from_millisecond(now.as_millisecond().checked_add(offset_ms)?).ok()?.to_zoned(jiff::tz::TimeZone::UTC).date();
    let mut spans: [Vec<Span>; 4] = Default::default();
    let mut room = Windows::SPANS_MAX;
    for (kind, named) in &spec.allowed {
        let place = Environment::ALL.iter().position(|one| *one == environment(*kind))?;
        for span in named {
            let laid_out = lay_out(span, today);
            spans[place].extend(laid_out.into_iter().take(room));
            room = Windows::SPANS_MAX.saturating_sub(spans.iter().map(Vec::len).sum());
        }
        if spans[place].is_empty() {
            // None of its days is near: closed until they are.
            spans[place].push(Span::Dates { from_local_ms: i64::MAX - 2, until_local_ms: i64::MAX - 1 });
        }
    }
    let subjects = window::Subjects {
        everyone: spec.subjects.is_empty(),
        users: spec.subjects.users.iter().cloned().collect(),
        groups: spec.subjects.groups.iter().cloned().collect(),
    };
    Some(window::Rule { subjects, zone: Zone::new(offset_ms, Vec::new()).ok()?, spans })
}

/// A span of the API as spans of plans: every week, or on the days that are near between dates.
fn lay_out(span: &WeeklySpan, today: Date) -> Vec<Span> {
    let minutes = |text: &str| time_window::minutes(text).ok().and_then(|minutes| u16::try_from(minutes).ok());
    let (Some(from), Some(to)) = (minutes(&span.from), minutes(&span.to)) else { return Vec::new() };
    let days: Vec<u8> = span.days.iter().map(|day| place_of(*day)).collect();
    let days = if days.is_empty() { Days::ALL } else { Days::of(&days) };
    if span.first_date.is_none() && span.last_date.is_none() {
        return vec![Span::Weekly { days, from_minute: from, until_minute: to }];
    }
    let date = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<Date>().ok());
    let (first, last) = (date(&span.first_date).unwrap_or(Date::MIN), date(&span.last_date).unwrap_or(Date::MAX));
    let epoch = Date::constant(1970, 1, 1);
    // One that began yesterday may go on today.
    let near = (-1..DAYS_AHEAD).filter_map(|ahead| today.checked_add(ahead.days()).ok());
    let near = near.filter(|day| first <= *day && *day <= last);
    let on = near.filter(|day| span.days.is_empty() || span.days.iter().any(|named| weekday(*named) == day.weekday()));
    on.filter_map(|day| {
        let midnight = i64::from(day.since(epoch).ok()?.get_days()) * DAY_MS;
        let ends = i64::from(to) + if to > from { 0 } else { 24 * 60 };
        Some(Span::Dates { from_local_ms: midnight + i64::from(from) * MINUTE_MS, until_local_ms: midnight + ends * MINUTE_MS })
    })
    .collect()
}

fn place_of(day: Day) -> u8 {
    weekday(day).to_monday_zero_offset().unsigned_abs()
}

fn weekday(day: Day) -> Weekday {
    match day {
        Day::Monday => Weekday::Monday,
        Day::Tuesday => Weekday::Tuesday,
        Day::Wednesday => Weekday::Wednesday,
        Day::Thursday => Weekday::Thursday,
        Day::Friday => Weekday::Friday,
        Day::Saturday => Weekday::Saturday,
        Day::Sunday => Weekday::Sunday,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object<K: serde::de::DeserializeOwned>(value: serde_json::Value) -> Arc<K> {
        Arc::new(serde_json::from_value(value).expect("an object"))
    }

    fn ada(project: &str) -> Whom {
        Whom { project: project.into(), user: "ada".into(), groups: vec!["vision".into()], ..Whom::default() }
    }

    fn ceilings(policies: &[Arc<ResourcePolicy>], tickets: &[Arc<ResourceTicket>]) -> Vec<(Subject, i128)> {
        let ruling = Ruling {
            policies: &[],
            pools: &[],
            quotas: &[],
            resource_policies: policies,
            tickets,
            windows: &[],
            users: &[],
            namespaces: &[],
        };
        let owners = [ada("lab"), ada("other")];
        let rules = ruling.rules(owners.iter(), "2026-06-01T00:00:00Z".parse().expect("a time"));
        rules.ceilings.into_iter().map(|(subject, amounts)| (subject, amounts["cpu"])).collect()
    }

    fn policy(name: &str, spec: serde_json::Value) -> Arc<ResourcePolicy> {
        object(json!({"apiVersion": "compute.fermion.dev/v1alpha1", "kind": "ResourcePolicy", "metadata": {"name": name}, "spec": spec}))
    }

    #[test]
    fn a_special_policy_goes_before_the_default_and_a_name_before_a_group() {
        let with = |cpu: &str| json!({"resources": {"cpu": cpu}});
        let default = policy("all", json!({"default": true, "entitlement": with("1")}));
        let group = policy("a-group", json!({"subjects": {"groups": ["vision"]}, "entitlement": with("2")}));
        let named = policy("z-named", json!({"subjects": {"users": ["ada"]}, "entitlement": with("3")}));
        let over = json!({"subjects": {"users": ["ada"]}, "validity": {"until": "2026-01-01T00:00:00Z"}, "entitlement": with("9")});
        let person = Subject::Person("ada".into());
        assert_eq!(ceilings(std::slice::from_ref(&default), &[]), [(person.clone(), 1000)]);
        assert_eq!(ceilings(&[default.clone(), group.clone()], &[]), [(person.clone(), 2000)]);
        assert_eq!(ceilings(&[default, group, named, policy("over", over)], &[]), [(person, 3000)]);
    }

    #[test]
    fn a_ticket_gives_more_in_its_project_alone() {
        let default = policy("all", json!({"default": true, "entitlement": {"resources": {"cpu": "1"}}}));
        let ticket = |verdict: &str| -> Arc<ResourceTicket> {
            object(json!({
                "apiVersion": "compute.fermion.dev/v1alpha1", "kind": "ResourceTicket",
                "metadata": {"name": "more", "namespace": "lab", "generation": 1},
                "spec": {"user": "ada", "asked": {"resources": {"cpu": "4"}}, "span": {"until": "2027-01-01T00:00:00Z"}},
                "status": {"decision": {"verdict": verdict}},
            }))
        };
        let member = |project: &str| Subject::Member { project: project.into(), user: "ada".into() };
        let expected = [(Subject::Person("ada".into()), 5000), (member("lab"), 5000), (member("other"), 1000)];
        assert_eq!(ceilings(std::slice::from_ref(&default), &[ticket("Approved")]), expected);
        assert_eq!(ceilings(&[default], &[ticket("Refused")]), expected[..1].iter().map(|(of, _)| (of.clone(), 1000)).collect::<Vec<_>>());
    }

    #[test]
    fn hours_are_read_in_their_own_clock() {
        let window = |span: serde_json::Value| -> Arc<TimeWindow> {
            object(json!({
                "apiVersion": "compute.fermion.dev/v1alpha1", "kind": "TimeWindow", "metadata": {"name": "w"},
                "spec": {"utcOffset": "+08:00", "allowed": {"Training": [span]}},
            }))
        };
        let open = |span: serde_json::Value, now: &str| {
            let now: Timestamp = now.parse().expect("a time");
            let mut windows = Windows::default();
            windows.set("w", hours(&window(span), now).expect("a rule")).expect("well formed");
            windows.allowed("ada", &[], Environment::Training, now.as_millisecond())
        };
        // 2026-06-01 is a Monday; its night begins at 22:00 in +08:00.
        let nights = json!({"days": ["Monday"], "from": "22:00", "to": "06:00"});
        assert!(!open(nights.clone(), "2026-06-01T13:59:00Z") && open(nights.clone(), "2026-06-01T14:00:00Z"));
        assert!(open(nights.clone(), "2026-06-01T21:59:00Z") && !open(nights, "2026-06-01T22:00:00Z"));
        let week = json!({"days": ["Monday", "Tuesday"], "firstDate": "2026-06-02", "lastDate": "2026-06-09"});
        let open_at_noon = |day: u8| open(week.clone(), &format!("2026-06-{day:02}T04:00:00Z"));
        assert_eq!([1, 2, 3, 8, 9, 15, 16].map(open_at_noon), [false, true, false, true, true, false, false]);
    }
}
