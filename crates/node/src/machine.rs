//! What the machine has, read from `/proc`.

use std::fs;

use fermion_api::pod::Resources;

use crate::config::Reserved;

/// Bit of the capability that lets a process lower its out-of-memory score.
const CAP_SYS_RESOURCE: u32 = 24;

/// Why the machine cannot be described.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {what} of this machine from {path}")]
pub struct Error {
    what: &'static str,
    path: &'static str,
    #[source]
    source: std::io::Error,
}

/// Capacity and what of it pods may have.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub capacity: Resources,
    pub allocatable: Resources,
    pub memory_bytes: i128,
    /// The lowest out-of-memory score this process may give.
    pub oom_score_adj_min: i64,
    pub kernel: String,
    pub os_image: String,
    pub host_id: String,
    pub boot_id: String,
}

impl Machine {
    /// Reads the machine; `reserved` and the bound on pods make the allocatable part.
    pub(crate) fn read(reserved: Reserved, pods_max: u32, disk_bytes: u64) -> Result<Self, Error> {
        let read = |what, path: &'static str| fs::read_to_string(path).map_err(|source| Error { what, path, source });
        let memory_bytes = memory_total(&read("the memory", "/proc/meminfo")?).unwrap_or(0);
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let cpu_milli = i128::try_from(cores).unwrap_or(1) * 1000;
        let capacity = Resources::from([
            ("cpu".to_owned(), cpu_milli),
            ("memory".to_owned(), memory_bytes * 1000),
            ("pods".to_owned(), i128::from(pods_max) * 1000),
            ("ephemeral-storage".to_owned(), i128::from(disk_bytes) * 1000),
        ]);
        let mut allocatable = capacity.clone();
        allocatable.insert("cpu".to_owned(), (cpu_milli - reserved.cpu_milli).max(0));
        allocatable.insert("memory".to_owned(), (memory_bytes - reserved.memory_bytes).max(0) * 1000);
        let status = read("the capabilities", "/proc/self/status")?;
        let own_score = read("the out-of-memory score", "/proc/self/oom_score_adj")?;
        let oom_score_adj_min = if may_lower_oom_score(&status) { -1000 } else { own_score.trim().parse().unwrap_or(0) };
        let optional = |path| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        Ok(Self {
            capacity,
            allocatable,
            memory_bytes,
            oom_score_adj_min,
            kernel: optional("/proc/sys/kernel/osrelease"),
            os_image: os_name(&optional("/etc/os-release")),
            host_id: optional("/etc/machine-id"),
            boot_id: optional("/proc/sys/kernel/random/boot_id"),
        })
    }
}

/// The machine's memory that is free for new work, in bytes.
pub(crate) fn memory_available() -> Option<i128> {
    field(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

fn memory_total(meminfo: &str) -> Option<i128> {
    field(meminfo, "MemTotal:")
}

fn field(meminfo: &str, name: &str) -> Option<i128> {
    let kilobytes: i128 = meminfo.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

fn may_lower_oom_score(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|bits| bits & (1 << CAP_SYS_RESOURCE) != 0)
}

fn os_name(os_release: &str) -> String {
    os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_understood() {
        assert_eq!(memory_total("MemTotal:       2048 kB\nMemFree: 1 kB\n"), Some(2_097_152));
        assert!(may_lower_oom_score("CapEff:\t000001ffffffffff\n"));
        assert!(!may_lower_oom_score("CapEff:\t000001fffeffffff\n"));
        assert_eq!(os_name("A=b\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
    }

    #[test]
    fn the_reservation_is_kept_from_pods() {
        let machine = Machine::read(Reserved { cpu_milli: 100, memory_bytes: 1 << 20 }, 10, 0).expect("a machine");
        assert_eq!(machine.capacity["cpu"] - machine.allocatable["cpu"], 100);
        assert_eq!(machine.capacity["memory"] - machine.allocatable["memory"], (1 << 20) * 1000);
        assert_eq!(machine.allocatable["pods"], 10_000);
    }
}
