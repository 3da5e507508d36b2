//! Who used how much, kept for the scheduler after this one.
//!
//! Fair shares go by what everybody used on average. That is written down once a minute while something
//! runs, and when the scheduler stops; a scheduler that begins, here or on another server, goes on from
//! there. Who reads it counts what runs now as having run since then, so at most the last minute of what
//! ended is forgotten.
//!
//! It is kept in ConfigMaps of the platform's own namespace, as text that people can read.

use std::collections::{BTreeMap, HashMap};

use fermion_api::labels;
use fermion_scheduler::account::Level;
use fermion_scheduler::{Average, Past};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::{Error, chain};

/// What the ConfigMaps' names begin with; a number follows.
const NAME: &str = "scheduler-fair-shares";
const FIELD: &str = "averages.json";
/// Accounts in one ConfigMap: some 200 bytes each, and an object has a megabyte and a half.
const ACCOUNTS_PER_PART: usize = 4_000;
/// Of so many accounts averages are kept, those with the largest parts of all that was used.
const ACCOUNTS_MAX: usize = 64_000;

/// The content of one ConfigMap.
#[derive(Debug, Deserialize, Serialize)]
struct Part {
    /// Milliseconds since the epoch.
    at: i64,
    /// How many ConfigMaps there are.
    parts: usize,
    averages: Vec<Line>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Line {
    pool: String,
    /// From the top.
    account: Vec<(String, String)>,
    /// Thousandths of each resource.
    used: Vec<(String, f64)>,
}

const LEVELS: [(Level, &str); 5] = [
    (Level::Tenant, "tenant"),
    (Level::Organization, "organization"),
    (Level::Project, "project"),
    (Level::Member, "member"),
    (Level::Person, "person"),
];

impl Line {
    fn of(average: Average) -> Self {
        let word = |level| LEVELS.iter().find(|(one, _)| *one == level).map_or("", |(_, word)| *word).to_owned();
        Self {
            pool: average.pool,
            account: average.account.into_iter().map(|(level, name)| (word(level), name)).collect(),
            used: average.used,
        }
    }

    /// `None` where a level has a name that is not known here.
    fn read(self) -> Option<Average> {
        let level = |word: &str| LEVELS.iter().find(|(_, one)| *one == word).map(|(level, _)| *level);
        let account = self.account.into_iter().map(|(word, name)| Some((level(&word)?, name))).collect::<Option<_>>()?;
        Some(Average { pool: self.pool, account, used: self.used })
    }
}

/// The contents of the ConfigMaps.
fn encode(past: &Past) -> Vec<Part> {
    let at = past.at().unwrap_or(i64::MIN);
    let mut all: Vec<Average> = past.averages().collect();
    if all.len() > ACCOUNTS_MAX {
        let mut sums: HashMap<(String, String), f64> = HashMap::new();
        for one in &all {
            for (resource, used) in &one.used {
                *sums.entry((one.pool.clone(), resource.clone())).or_default() += used;
            }
        }
        let part = |one: &Average| {
            let parts = one.used.iter().map(|(resource, used)| used / sums[&(one.pool.clone(), resource.clone())]);
            parts.fold(0.0, f64::max)
        };
        all.sort_by(|a, b| part(b).total_cmp(&part(a)));
        all.truncate(ACCOUNTS_MAX);
    }
    let parts = all.len().div_ceil(ACCOUNTS_PER_PART).max(1);
    let mut all = all.into_iter().map(Line::of);
    (0..parts).map(|_| Part { at, parts, averages: all.by_ref().take(ACCOUNTS_PER_PART).collect() }).collect()
}

fn decode(parts: Vec<Part>, now: i64) -> Past {
    // Parts of which one was not written any more differ by a minute, which is little beside a half-life.
    let at = parts.iter().map(|part| part.at).max().unwrap_or(now).min(now);
    Past::of_averages(at, parts.into_iter().flat_map(|part| part.averages).filter_map(Line::read))
}

/// What was kept; nothing where nothing was, or where it cannot be read.
///
/// # Errors
/// When the API does not answer.
pub(super) async fn read(client: Client, now: i64) -> Result<Past, Error> {
    let maps: Api<ConfigMap> = Api::namespaced(client, labels::SYSTEM_NAMESPACE);
    let mut parts: Vec<Part> = Vec::new();
    loop {
        let name = format!("{NAME}-{}", parts.len());
        let found = maps.get_opt(&name).await.map_err(Error::api("read", name.clone()))?;
        let Some(text) = found.and_then(|map| map.data?.remove(FIELD)) else { break };
        match serde_json::from_str(&text) {
            Ok(part) => parts.push(part),
            Err(error) => {
                tracing::warn!(configmap = name, error = chain(&error), "what was used before cannot be read; fair shares begin anew");
                return Ok(Past::default());
            }
        }
        if parts.first().is_some_and(|first| parts.len() >= first.parts) {
            break;
        }
    }
    Ok(if parts.is_empty() { Past::default() } else { decode(parts, now) })
}

/// Keeps it for a scheduler after this one.
///
/// # Errors
/// When it cannot be written.
pub(super) async fn write(client: Client, past: Past) -> Result<(), Error> {
    let maps: Api<ConfigMap> = Api::namespaced(client, labels::SYSTEM_NAMESPACE);
    for (number, part) in encode(&past).into_iter().enumerate() {
        let name = format!("{NAME}-{number}");
        let text = serde_json::to_string(&part).map_err(|source| Error::Json { object: name.clone(), source })?;
        let data = BTreeMap::from([(FIELD.to_owned(), text)]);
        let change = Patch::Merge(json!({"data": data}));
        match maps.patch(&name, &PatchParams::default(), &change).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
                let map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
                maps.create(&PostParams::default(), &map).await.map_err(Error::api("create", name))?;
            }
            other => drop(other.map_err(Error::api("write", name))?),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn average(user: usize, cpu: f64) -> Average {
        let account = vec![(Level::Tenant, "t".to_owned()), (Level::Project, "p".to_owned()), (Level::Member, format!("u{user}"))];
        Average { pool: "local".into(), account, used: vec![("cpu".into(), cpu)] }
    }

    /// As it is after it was written and read.
    fn kept(past: &Past, now: i64) -> Past {
        let texts: Vec<String> = encode(past).iter().map(|part| serde_json::to_string(part).expect("text")).collect();
        assert!(texts.iter().all(|text| text.len() < 1_000_000), "larger than an object may be");
        decode(texts.iter().map(|text| serde_json::from_str(text).expect("a part")).collect(), now)
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        for accounts in [0, 1, ACCOUNTS_PER_PART, ACCOUNTS_PER_PART + 1, 10_000] {
            let past = Past::of_averages(7_000, (0..accounts).map(|user| average(user, user as f64 + 1.5)));
            assert_eq!(encode(&past).len(), accounts.div_ceil(ACCOUNTS_PER_PART).max(1));
            assert_eq!(kept(&past, 9_000), past);
        }
    }

    #[test]
    fn a_clock_that_went_back_makes_no_time_to_come() {
        let past = Past::of_averages(7_000, [average(1, 2.0)]);
        assert_eq!(kept(&past, 5_000).at(), Some(5_000));
    }

    #[test]
    fn of_too_many_those_are_kept_who_used_most() {
        let past = Past::of_averages(0, (0..ACCOUNTS_MAX + 10).map(|user| average(user, user as f64 + 1.0)));
        let kept: Vec<Average> = kept(&past, 0).averages().collect();
        assert_eq!(kept.len(), ACCOUNTS_MAX);
        assert!(kept.iter().all(|one| one.used[0].1 > 10.0));
    }
}
