//! Requests and limits as the kernel's knobs.
//!
//! Source of the formulas: <https://github.com/kubernetes/kubernetes/blob/master/pkg/kubelet/cm/helpers_linux.go>
//! and `pkg/kubelet/qos/policy.go`.

use fermion_api::quantity;
use k8s_openapi::api::core::v1::{Container, PodSpec};

use crate::cri::v1::LinuxContainerResources;

use super::status::qos_class;

/// Length of one CPU accounting period, in microseconds.
const CPU_PERIOD_US: i64 = 100_000;
/// The kernel takes no smaller quota, in microseconds.
const CPU_QUOTA_US_MIN: i64 = 1_000;
/// Shares of one full core.
const SHARES_PER_CORE: i128 = 1024;
/// The kernel's bounds on shares.
const SHARES_MIN: i64 = 2;
const SHARES_MAX: i64 = 262_144;
/// How dear a pod with guaranteed resources is to the kernel when memory runs out.
const OOM_GUARANTEED: i64 = -997;
const OOM_BEST_EFFORT: i64 = 1000;

/// The cgroup settings of a container. `memory_capacity` is the machine's, in bytes; the score for
/// running out of memory never goes below `oom_score_adj_min`, the lowest this process may set.
pub(crate) fn linux_resources(
    spec: &PodSpec,
    container: &Container,
    memory_capacity: i128,
    oom_score_adj_min: i64,
) -> LinuxContainerResources {
    let amount = |limits: bool, name: &str| {
        let resources = container.resources.as_ref()?;
        let map = if limits { &resources.limits } else { &resources.requests };
        map.as_ref()?.get(name).map(quantity::milli).filter(|amount| *amount > 0)
    };
    let cpu_limit = amount(true, "cpu");
    let cpu_request = amount(false, "cpu").or(cpu_limit).unwrap_or(0);
    let memory_limit = amount(true, "memory");
    let memory_request = amount(false, "memory").or(memory_limit).unwrap_or(0) / 1000;
    LinuxContainerResources {
        cpu_shares: clamped(cpu_request * SHARES_PER_CORE / 1000, SHARES_MIN, SHARES_MAX),
        cpu_period: CPU_PERIOD_US,
        cpu_quota: cpu_limit.map_or(0, |milli| clamped(milli * i128::from(CPU_PERIOD_US) / 1000, CPU_QUOTA_US_MIN, i64::MAX)),
        memory_limit_in_bytes: memory_limit.map_or(0, |milli| clamped(milli / 1000, 1, i64::MAX)),
        oom_score_adj: oom_score_adj(qos_class(spec), memory_request, memory_capacity).max(oom_score_adj_min),
        ..LinuxContainerResources::default()
    }
}

fn clamped(value: i128, min: i64, max: i64) -> i64 {
    i64::try_from(value).unwrap_or(max).clamp(min, max)
}

/// The more of the machine's memory a burstable container asked for, the later it goes.
fn oom_score_adj(qos: &str, memory_request: i128, memory_capacity: i128) -> i64 {
    match qos {
        "Guaranteed" => OOM_GUARANTEED,
        "BestEffort" => OOM_BEST_EFFORT,
        _ => clamped(1000 - 1000 * memory_request / memory_capacity.max(1), 3, 999),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_become_shares_and_limits_become_quotas() {
        const GIB: i128 = 1 << 30;
        // resources -> shares, quota, memory, oom score
        for (resources, expected) in [
            (serde_json::json!({}), (2, 0, 0, 1000)),
            (serde_json::json!({"requests": {"cpu": "500m"}}), (512, 0, 0, 999)),
            (serde_json::json!({"limits": {"cpu": "1500m"}}), (1536, 150_000, 0, 999)),
            (serde_json::json!({"limits": {"cpu": "1m"}}), (2, 1_000, 0, 999)),
            (serde_json::json!({"requests": {"memory": "1Gi"}}), (2, 0, 0, 750)),
            (serde_json::json!({"limits": {"cpu": "1", "memory": "1Gi"}}), (1024, 100_000, 1 << 30, -997)),
        ] {
            let spec: PodSpec =
                serde_json::from_value(serde_json::json!({"containers": [{"name": "a", "resources": resources}]})).expect("a pod spec");
            let linux = linux_resources(&spec, &spec.containers[0], 4 * GIB, -1000);
            let got = (linux.cpu_shares, linux.cpu_quota, linux.memory_limit_in_bytes, linux.oom_score_adj);
            assert_eq!(got, expected, "{resources}");
            let restricted = linux_resources(&spec, &spec.containers[0], 4 * GIB, 0);
            assert!(restricted.oom_score_adj >= 0);
        }
    }
}
