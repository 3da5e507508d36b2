//! The sums of quotas: a pure function of quotas, projects and workloads.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use fermion_api::ai::Workload;
use fermion_api::ai::workload::Phase;
use fermion_api::compute::Quota;
use fermion_api::compute::quota::{QuotaStatus, SubjectKind};
use fermion_api::{conditions, labels, pod, quantity};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;

/// Amounts by resource.
type Amounts = pod::Resources;

/// Whose quota it is: kind, name, and the project for users.
type Subject<'a> = (SubjectKind, &'a str, Option<&'a str>);

/// Who has a project, as its namespace says by labels.
#[derive(Clone, Copy, Default)]
struct Owners<'a> {
    organization: Option<&'a str>,
    tenant: Option<&'a str>,
}

/// The quotas whose status differs from what is seen.
pub(super) fn decide(
    quotas: &[Arc<Quota>],
    namespaces: &[Arc<Namespace>],
    workloads: &[Arc<Workload>],
    now: Timestamp,
) -> Vec<(Arc<Quota>, QuotaStatus)> {
    let mut owners: HashMap<&str, Owners<'_>> = HashMap::new();
    let mut tenants: HashMap<&str, &str> = HashMap::new();
    for namespace in namespaces {
        let Some(name) = namespace.metadata.name.as_deref() else { continue };
        let label = |label: &str| namespace.labels().get(label).map(String::as_str);
        let found = Owners { organization: label(labels::ORGANIZATION), tenant: label(labels::TENANT) };
        if let (Some(organization), Some(tenant)) = (found.organization, found.tenant) {
            tenants.insert(organization, tenant);
        }
        owners.insert(name, found);
    }
    let mut used: HashMap<Subject<'_>, Amounts> = HashMap::new();
    let mut waiting: HashMap<Subject<'_>, Amounts> = HashMap::new();
    for workload in workloads {
        let Some(status) = &workload.status else { continue };
        let sums = match status.phase {
            Phase::Admitted | Phase::Running => &mut used,
            Phase::Pending => &mut waiting,
            Phase::Suspended | Phase::Succeeded | Phase::Failed => continue,
        };
        let Some(project) = workload.metadata.namespace.as_deref() else { continue };
        // What a controller wrote can be read; anything else is no amount.
        let amounts: Amounts =
            status.requests.iter().filter_map(|(name, amount)| Some((name.clone(), quantity::parse(amount).ok()?))).collect();
        let Owners { organization, tenant } = owners.get(project).copied().unwrap_or_default();
        let user = workload.annotations().get(labels::CREATED_BY).map(|user| (SubjectKind::User, user.as_str(), Some(project)));
        let above = [
            tenant.map(|name| (SubjectKind::Tenant, name, None)),
            organization.map(|name| (SubjectKind::Organization, name, None)),
            Some((SubjectKind::Project, project, None)),
            user,
        ];
        for subject in above.into_iter().flatten() {
            pod::add(sums.entry(subject).or_default(), &amounts);
        }
    }
    let given = given(quotas, &owners, &tenants);
    let none = Amounts::new();
    let news = quotas.iter().filter_map(|quota| {
        let subject = subject(quota);
        let hard: Amounts = quota.spec.hard.iter().map(|(name, amount)| (name.clone(), quantity::milli(amount))).collect();
        let named = |sum: Option<&Amounts>| {
            let sum = sum.unwrap_or(&none);
            hard.keys().map(|name| (name.clone(), sum.get(name).copied().unwrap_or(0))).collect::<Amounts>()
        };
        let allocated = named(given.get(&subject));
        let left = hard.iter().map(|(name, amount)| (name.clone(), amount.saturating_sub(allocated[name]).max(0))).collect();
        let used = named(used.get(&subject));
        let over: Vec<&str> = hard.iter().filter(|(name, amount)| used[*name] > **amount).map(|(name, _)| name.as_str()).collect();
        let mut new = quota.status.clone().unwrap_or_default();
        let (why, message) = match over.as_slice() {
            [] => ("Within", "what is used is within it".to_owned()),
            names => {
                ("Exceeded", format!("more is used than it allows of {}: it was lowered, or the work was there before", names.join(", ")))
            }
        };
        conditions::set(&mut new.conditions, "Within", over.is_empty(), why, message, quota.metadata.generation, now);
        new.observed_generation = quota.metadata.generation;
        new.in_process = text(named(waiting.get(&subject)));
        new.allocated = text(allocated);
        new.allocatable = text(left);
        new.used = text(used);
        new.total = text(hard);
        (quota.status.as_ref() != Some(&new)).then(|| (Arc::clone(quota), new))
    });
    news.collect()
}

fn text(amounts: Amounts) -> BTreeMap<String, String> {
    amounts.into_iter().map(|(name, amount)| (name.clone(), quantity::format(&name, amount))).collect()
}

fn subject(quota: &Quota) -> Subject<'_> {
    let subject = &quota.spec.subject;
    (subject.kind, subject.name.as_str(), subject.project.as_deref())
}

/// What the quotas below were given of each: users' of their project's, projects' of their
/// organisation's, organisations' of their tenant's. Where the next one above has no quota, it counts
/// for the one above that.
fn given<'a>(
    quotas: &'a [Arc<Quota>],
    owners: &HashMap<&'a str, Owners<'a>>,
    tenants: &HashMap<&'a str, &'a str>,
) -> HashMap<Subject<'a>, Amounts> {
    let known: HashSet<Subject<'_>> = quotas.iter().map(|quota| subject(quota)).collect();
    let mut sums: HashMap<Subject<'a>, Amounts> = HashMap::new();
    for quota in quotas {
        let (kind, name, project) = subject(quota);
        let of_organization = |name: &'a str| [tenants.get(name).map(|tenant| (SubjectKind::Tenant, *tenant, None)), None, None];
        let of_project = |name: &'a str| {
            let found = owners.get(name).copied().unwrap_or_default();
            let tenant = found.tenant.or_else(|| tenants.get(found.organization?).copied());
            [
                found.organization.map(|name| (SubjectKind::Organization, name, None)),
                tenant.map(|name| (SubjectKind::Tenant, name, None)),
                None,
            ]
        };
        let above: [Option<Subject<'a>>; 3] = match (kind, project) {
            (SubjectKind::Tenant, _) | (SubjectKind::User, None) => [None, None, None],
            (SubjectKind::Organization, _) => of_organization(name),
            (SubjectKind::Project, _) => of_project(name),
            (SubjectKind::User, Some(project)) => {
                let [first, second, _] = of_project(project);
                [Some((SubjectKind::Project, project, None)), first, second]
            }
        };
        let Some(next) = above.into_iter().flatten().find(|above| known.contains(above)) else { continue };
        let hard: Amounts = quota.spec.hard.iter().map(|(name, amount)| (name.clone(), quantity::milli(amount))).collect();
        pod::add(sums.entry(next).or_default(), &hard);
    }
    sums
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn quota(name: &str, subject: Value, hard: Value) -> Arc<Quota> {
        let object = json!({
            "apiVersion": "compute.fermion.dev/v1alpha1", "kind": "Quota", "metadata": {"name": name},
            "spec": {"subject": subject, "hard": hard},
        });
        Arc::new(serde_json::from_value(object).expect("a quota"))
    }

    fn workload(project: &str, user: &str, phase: &str, gpus: &str) -> Arc<Workload> {
        let object = json!({
            "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "Workload",
            "metadata": {"name": "w", "namespace": project, "annotations": {"fermion.dev/created-by": user}},
            "spec": {"podSets": []}, "status": {"phase": phase, "requests": {"gpu": gpus, "cpu": "1"}},
        });
        Arc::new(serde_json::from_value(object).expect("a workload"))
    }

    fn project(name: &str) -> Arc<Namespace> {
        let labels = json!({"iam.fermion.dev/organization": "physics", "iam.fermion.dev/tenant": "acme"});
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).expect("a namespace"))
    }

    fn quotas() -> Vec<Arc<Quota>> {
        vec![
            quota("t", json!({"kind": "Tenant", "name": "acme"}), json!({"gpu": "100"})),
            quota("o", json!({"kind": "Organization", "name": "physics"}), json!({"gpu": "40"})),
            quota("p", json!({"kind": "Project", "name": "lab"}), json!({"gpu": "10"})),
            quota("q", json!({"kind": "Project", "name": "big"}), json!({"gpu": "20"})),
            quota("u", json!({"kind": "User", "name": "ann", "project": "lab"}), json!({"gpu": "4"})),
        ]
    }

    #[test]
    fn every_level_counts_what_is_below_it() {
        let namespaces = [project("lab"), project("big")];
        let workloads = [
            workload("lab", "ann", "Running", "3"),
            workload("lab", "bob", "Admitted", "2"),
            workload("lab", "ann", "Pending", "8"),
            workload("lab", "ann", "Succeeded", "64"),
            workload("big", "ann", "Running", "1"),
            workload("elsewhere", "ann", "Running", "50"),
        ];
        let sums = decide(&quotas(), &namespaces, &workloads, Timestamp::UNIX_EPOCH);
        let rows: Vec<_> = sums
            .iter()
            .map(|(quota, status)| {
                let of = |amounts: &BTreeMap<String, String>| amounts["gpu"].clone();
                let figures = [&status.total, &status.allocated, &status.allocatable, &status.used, &status.in_process].map(of);
                format!("{} {}", quota.name_any(), figures.join(" "))
            })
            .collect();
        assert_eq!(rows, ["t 100 40 60 6 8", "o 40 30 10 6 8", "p 10 4 6 5 8", "q 20 0 20 1 0", "u 4 0 4 3 8"]);
        assert!(sums.iter().all(|(_, status)| !status.used.contains_key("cpu")), "only what the quota names");
    }

    #[test]
    fn nothing_is_written_when_nothing_changed_and_too_much_is_told() {
        let mut low = (*quotas()[2]).clone();
        low.spec.hard.insert("gpu".to_owned(), k8s_openapi::apimachinery::pkg::api::resource::Quantity("1".to_owned()));
        let workloads = [workload("lab", "ann", "Running", "3")];
        let first = decide(&[Arc::new(low.clone())], &[], &workloads, Timestamp::UNIX_EPOCH);
        assert!(!conditions::holds(&first[0].1.conditions, "Within"));
        low.status = Some(first[0].1.clone());
        assert!(decide(&[Arc::new(low)], &[], &workloads, Timestamp::from_second(9).expect("in range")).is_empty());
    }
}
