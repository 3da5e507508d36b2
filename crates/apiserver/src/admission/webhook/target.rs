//! Where webhooks may be: which addresses are dialled, and which never.
//!
//! A webhook's address comes from whoever may write configurations. The server must not become
//! their way to what only it can reach: the machine's own services, or the metadata service of a
//! cloud, which hands out credentials.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::http::Uri;

/// The port of HTTPS.
const PORT_DEFAULT: u16 = 443;
/// The longest address of a webhook, in bytes.
const URL_BYTES_MAX: usize = 2048;

/// Addresses of clouds' metadata services. They are denied whatever a setting says.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    // Containers at Amazon.
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    // Alibaba.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Amazon, by IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    // Google, by IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Which addresses webhooks may have, beside ordinary ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TargetPolicy {
    /// Loopback and link-local ones.
    pub(crate) allow_local: bool,
}

impl TargetPolicy {
    /// Why an address is not dialled.
    pub(super) fn refuse(self, address: IpAddr) -> Option<&'static str> {
        let address = plain(address);
        if METADATA.contains(&address) {
            return Some("it is the address of a cloud's metadata service, where webhooks cannot be");
        }
        let (loopback, link_local, unusable) = match address {
            IpAddr::V4(v4) => (v4.is_loopback(), v4.is_link_local(), v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()),
            IpAddr::V6(v6) => (v6.is_loopback(), v6.is_unicast_link_local(), v6.is_unspecified() || v6.is_multicast()),
        };
        if unusable {
            return Some("it is not the address of one machine");
        }
        if (loopback || link_local) && !self.allow_local {
            return Some(
                "loopback and link-local addresses are not allowed for webhooks; the server's option --allow-local-webhooks allows them",
            );
        }
        None
    }
}

/// The IPv4 address that an IPv6 one stands for (RFC 4291 section 2.5.5.2, RFC 6052), else the
/// address.
fn plain(address: IpAddr) -> IpAddr {
    let canonical = address.to_canonical();
    if let IpAddr::V6(v6) = canonical
        && let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = v6.segments()
    {
        return IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    }
    canonical
}

/// A webhook's address, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// As it was written.
    pub(super) url: String,
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// Host and port as they go into the request.
    pub(super) authority: String,
    pub(super) path: String,
}

impl Target {
    /// Reads an address. Says why it cannot be one of a webhook.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        if url.len() > URL_BYTES_MAX {
            return Err(format!("must not be longer than {URL_BYTES_MAX} bytes"));
        }
        if url.contains('#') {
            return Err("must have no fragment (#…)".to_owned());
        }
        let uri: Uri = url.parse().map_err(|_| "is not a URL".to_owned())?;
        if uri.scheme_str() != Some("https") {
            return Err("must begin with https://".to_owned());
        }
        let authority = uri.authority().ok_or_else(|| "must name a host".to_owned())?;
        if authority.as_str().contains('@') {
            return Err("must hold no user name or password".to_owned());
        }
        if uri.query().is_some() {
            return Err("must have no query (?…)".to_owned());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err("must name a host".to_owned());
        }
        // A port that is no number is not the same as none.
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if authority.as_str().len() > authority.host().len() => return Err("has a port that is no number".to_owned()),
            None => PORT_DEFAULT,
        };
        Ok(Self { url: url.to_owned(), host, port, authority: authority.to_string(), path: uri.path().to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_https_addresses_are_taken() {
        let target = Target::parse("https://[::1]:8443/validate").unwrap();
        assert_eq!((target.host.as_str(), target.port, target.path.as_str()), ("::1", 8443, "/validate"));
        assert_eq!(Target::parse("https://hooks.example.com").unwrap().port, 443);
        for url in [
            "http://a.example.com/",
            "file:///etc/passwd",
            "https://user:password@a.example.com/",
            "https://a.example.com/?x=1",
            "https://a.example.com/#x",
            "https:///x",
            "https://a.example.com:port/",
            "https://a.example.com:99999/",
            "a.example.com/x",
            "",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
        assert!(Target::parse(&format!("https://a.example.com/{}", "a".repeat(URL_BYTES_MAX))).is_err());
    }

    #[test]
    fn metadata_services_are_never_dialled() {
        for policy in [TargetPolicy { allow_local: false }, TargetPolicy { allow_local: true }] {
            for address in [
                "169.254.169.254",
                "::ffff:169.254.169.254",
                "64:ff9b::a9fe:a9fe",
                "fd00:ec2::254",
                "100.100.100.200",
                "0.0.0.0",
                "::",
                "224.0.0.1",
            ] {
                assert!(policy.refuse(address.parse().unwrap()).is_some(), "{address}");
            }
            for address in ["10.0.0.1", "192.0.2.1", "2001:db8::1"] {
                assert_eq!(policy.refuse(address.parse().unwrap()), None, "{address}");
            }
        }
    }

    #[test]
    fn local_addresses_are_a_setting() {
        for address in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "169.254.1.1", "fe80::1"] {
            let address = address.parse().unwrap();
            assert!(TargetPolicy { allow_local: false }.refuse(address).is_some(), "{address}");
            assert_eq!(TargetPolicy { allow_local: true }.refuse(address), None, "{address}");
        }
    }
}
