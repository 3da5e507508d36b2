//! The pods' network: one bridge for each home, with a range of addresses that nothing else on
//! the machine uses, and the few iptables rules that let pods reach the world.
//!
//! The bridge's alias says whose it is, so two homes on one machine never share one, a restarted
//! server finds its own, and a bridge whose home is gone is taken over.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;
use std::str::FromStr;

use serde::Deserialize;

use super::Error;
use super::tool::{self, Tool};

/// How many homes on one machine can have a network at the same time.
const NETWORKS_MAX: u8 = 16;
/// What a bridge's alias starts with.
const ALIAS_PREFIX: &str = "fermion home ";
/// How long a call of iptables waits for another one to end.
const IPTABLES_WAIT_S: &str = "20";
/// Where the CNI library keeps what its plugins answered. Its path cannot be chosen, so its files
/// are told apart by the network's name in theirs.
const CNI_RESULTS: &str = "/var/lib/cni/results";

/// A range of IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    address: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    /// The range of `prefix` fixed bits that holds `address`; nothing for a prefix over 32.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        let address = Ipv4Addr::from_bits(address.to_bits() & mask(prefix)?);
        Some(Self { address, prefix })
    }

    /// Whether any address is in both.
    pub fn overlaps(self, other: Self) -> bool {
        let prefix = self.prefix.min(other.prefix);
        let mask = mask(prefix).unwrap_or_default();
        (self.address.to_bits() ^ other.address.to_bits()) & mask == 0
    }

    /// The first usable address: the bridge's own, and the pods' way out.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | 1)
    }
}

fn mask(prefix: u8) -> Option<u32> {
    match prefix {
        0 => Some(0),
        1..=32 => Some(u32::MAX << (32 - prefix)),
        _ => None,
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = String;

    /// Reads `10.208.0.0/16`; a lone address is a range of one.
    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let parsed = address.parse().ok().zip(prefix.parse().ok());
        parsed
            .and_then(|(address, prefix)| Self::new(address, prefix))
            .ok_or_else(|| format!("{text:?} is no IPv4 range like 10.208.0.0/16"))
    }
}

/// The network of one home's pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Which of the machine's Fermion networks it is.
    pub index: u8,
    /// The name of its bridge.
    pub bridge: String,
    /// The addresses of its pods.
    pub subnet: Subnet,
}

/// What `ip -j link show` says of an interface.
#[derive(Deserialize)]
struct Link {
    ifname: String,
    #[serde(default)]
    ifalias: Option<String>,
}

/// What `ip -j route show` says of a route.
#[derive(Deserialize)]
struct Route {
    #[serde(default)]
    dst: String,
    #[serde(default)]
    dev: String,
}

/// Finds the home's network or makes it one. `wanted` fixes the range of addresses.
pub(crate) async fn ensure(home: &Path, wanted: Option<Subnet>) -> Result<Network, Error> {
    let network = match find(home).await? {
        Some(network) => network,
        None => create(home, wanted).await?,
    };
    set_up(&network).await?;
    Ok(network)
}

/// The home's network, if it has one now.
pub(crate) async fn find(home: &Path) -> Result<Option<Network>, Error> {
    let alias = alias_of(home);
    let links = links().await?;
    let Some((index, alias)) = (0..NETWORKS_MAX).find_map(|index| {
        let link = links.iter().find(|link| link.ifname == bridge_name(index))?;
        let text = link.ifalias.as_deref()?;
        text.starts_with(&alias).then_some((index, text))
    }) else {
        return Ok(None);
    };
    let subnet = alias.rsplit(' ').next().unwrap_or_default();
    let subnet = subnet.parse().map_err(|reason| Error::Network { bridge: bridge_name(index), reason })?;
    Ok(Some(Network { index, bridge: bridge_name(index), subnet }))
}

async fn create(home: &Path, wanted: Option<Subnet>) -> Result<Network, Error> {
    remove_orphans().await?;
    let routes = routes().await?;
    let links = links().await?;
    for index in 0..NETWORKS_MAX {
        let bridge = bridge_name(index);
        if links.iter().any(|link| link.ifname == bridge) {
            continue;
        }
        let candidates = wanted.map_or_else(|| candidates(index), |subnet| vec![subnet]);
        let Some(subnet) = candidates.into_iter().find(|subnet| !routes.iter().any(|route| route.overlaps(*subnet))) else {
            continue;
        };
        let added = Tool::new("ip").args(["link", "add", "name", &bridge, "type", "bridge"]).run().await;
        match added {
            Ok(_) => {}
            // Another home was quicker.
            Err(tool::Error::Failed { tail, .. }) if tail.iter().any(|line| line.contains("File exists")) => {
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        let alias = format!("{}{subnet}", alias_of(home));
        Tool::new("ip").args(["link", "set", "dev", &bridge, "alias", &alias]).run().await?;
        return Ok(Network { index, bridge, subnet });
    }
    Err(Error::NoFreeNetwork { wanted, networks_max: NETWORKS_MAX })
}

/// Removes the bridges of homes that are no more, such as those of tests that were killed.
async fn remove_orphans() -> Result<(), Error> {
    let links = links().await?;
    for index in 0..NETWORKS_MAX {
        let bridge = bridge_name(index);
        let owner = links
            .iter()
            .find(|link| link.ifname == bridge)
            .and_then(|link| link.ifalias.as_deref()?.strip_prefix(ALIAS_PREFIX))
            .and_then(|rest| rest.rsplit_once(' '));
        if let Some((home, subnet)) = owner
            && !Path::new(home).exists()
            && let Ok(subnet) = subnet.parse()
        {
            tracing::info!(bridge, home, "removing the network of a home that is gone");
            remove(&Network { index, bridge, subnet }).await?;
        }
    }
    Ok(())
}

/// Brings the bridge up and makes the rules be there, once each.
async fn set_up(network: &Network) -> Result<(), Error> {
    let Network { bridge, subnet, .. } = network;
    Tool::new("ip").args(["link", "set", "dev", bridge, "up"]).run().await?;
    let address = format!("{}/{}", subnet.gateway(), subnet.prefix);
    Tool::new("ip").args(["address", "replace", &address, "dev", bridge]).run().await?;
    tokio::fs::write("/proc/sys/net/ipv4/ip_forward", "1").await.map_err(|source| Error::File {
        action: "turn on forwarding in",
        path: "/proc/sys/net/ipv4/ip_forward".into(),
        source,
    })?;
    for rule in rules(network) {
        if iptables(&rule, "-C").await.is_err() {
            iptables(&rule, "-A").await?;
        }
    }
    Ok(())
}

/// Takes away everything of a network that is outside its home.
pub(crate) async fn remove(network: &Network) -> Result<(), Error> {
    for rule in rules(network) {
        if iptables(&rule, "-C").await.is_ok() {
            iptables(&rule, "-D").await?;
        }
    }
    let links = links().await?;
    if links.iter().any(|link| link.ifname == network.bridge) {
        Tool::new("ip").args(["link", "delete", "dev", &network.bridge]).run().await?;
    }
    remove_cni_results(&network.bridge)
}

fn remove_cni_results(bridge: &str) -> Result<(), Error> {
    let prefix = format!("{bridge}-");
    let failed = |source| Error::File { action: "remove network results in", path: CNI_RESULTS.into(), source };
    let entries = match std::fs::read_dir(CNI_RESULTS) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            std::fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

/// One iptables rule: its table, its chain and what follows.
struct Rule {
    table: &'static str,
    chain: &'static str,
    matches: Vec<String>,
}

/// Pods' packets to the world carry the machine's address, and pass where the machine forwards
/// nothing by default (as Docker sets it).
fn rules(network: &Network) -> [Rule; 3] {
    let subnet = network.subnet.to_string();
    let rule = |table, chain, matches: &[&str], target: &str| Rule {
        table,
        chain,
        matches: matches.iter().copied().chain(["-m", "comment", "--comment", &network.bridge, "-j", target]).map(str::to_owned).collect(),
    };
    [
        rule("nat", "POSTROUTING", &["-s", &subnet, "!", "-d", &subnet], "MASQUERADE"),
        rule("filter", "FORWARD", &["-i", &network.bridge], "ACCEPT"),
        rule("filter", "FORWARD", &["-o", &network.bridge], "ACCEPT"),
    ]
}

async fn iptables(rule: &Rule, verb: &str) -> Result<(), tool::Error> {
    Tool::new("iptables").args(["-w", IPTABLES_WAIT_S, "-t", rule.table, verb, rule.chain]).args(&rule.matches).run().await.map(drop)
}

fn bridge_name(index: u8) -> String {
    format!("fermion{index}")
}

fn alias_of(home: &Path) -> String {
    format!("{ALIAS_PREFIX}{} ", home.display())
}

/// Ranges for a network, the one to try first first.
fn candidates(index: u8) -> Vec<Subnet> {
    [(Ipv4Addr::new(10, 208 + index, 0, 0), 16), (Ipv4Addr::new(172, 16 + index, 0, 0), 16), (Ipv4Addr::new(192, 168, index << 4, 0), 20)]
        .into_iter()
        .filter_map(|(address, prefix)| Subnet::new(address, prefix))
        .collect()
}

impl Route {
    fn overlaps(&self, subnet: Subnet) -> bool {
        // `default` is no range, and a stopped network's own routes are gone with its bridge.
        self.dst.parse::<Subnet>().is_ok_and(|range| range.prefix > 0 && range.overlaps(subnet) && !self.dev.is_empty())
    }
}

async fn links() -> Result<Vec<Link>, Error> {
    let text = Tool::new("ip").args(["-j", "link", "show"]).run().await?;
    read_json(&text, "ip -j link show")
}

async fn routes() -> Result<Vec<Route>, Error> {
    let text = Tool::new("ip").args(["-j", "-4", "route", "show", "table", "all"]).run().await?;
    read_json(&text, "ip -j route show")
}

fn read_json<T: serde::de::DeserializeOwned>(text: &str, command: &'static str) -> Result<Vec<T>, Error> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(text).map_err(|source| Error::Answer { command, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_overlap_when_one_holds_the_other() {
        let ours = subnet("10.208.0.0/16");
        for other in ["10.208.3.4", "10.208.128.0/17", "10.0.0.0/8", "0.0.0.0/0"] {
            assert!(ours.overlaps(subnet(other)), "{other}");
            assert!(subnet(other).overlaps(ours), "{other}");
        }
        for other in ["10.209.0.0/16", "192.168.0.0/16"] {
            assert!(!ours.overlaps(subnet(other)), "{other}");
        }
    }

    #[test]
    fn nonsense_is_no_range() {
        for text in ["", "default", "10.0.0.0/33", "10.0.0/8", "::1/64", "10.0.0.0/-1"] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_bridge_has_the_first_address() {
        assert_eq!(subnet("10.208.7.9/16").gateway(), Ipv4Addr::new(10, 208, 0, 1));
        assert_eq!(subnet("10.208.7.9/16").to_string(), "10.208.0.0/16");
    }

    #[test]
    fn no_two_networks_share_addresses() {
        let all: Vec<Subnet> = (0..NETWORKS_MAX).flat_map(candidates).collect();
        for (place, one) in all.iter().enumerate() {
            assert!(all[place + 1..].iter().all(|other| !one.overlaps(*other)), "{one}");
        }
    }
}
