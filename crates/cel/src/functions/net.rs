//! Addresses: of the web, of the network, and ranges of the latter.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::{Function, Outcome, Pattern as P, a_bool, a_short_text, a_text, an_int, global, member, reads_all, step};
use crate::error::EvalError;
use crate::types::{Type, Typed};
use crate::value::{Url, Value as V};

/// Reads an address by Kubernetes' rules: no zone, and no IPv4 address in the form of IPv6.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    match text.parse().ok()? {
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => None,
        address => Some(address),
    }
}

/// Reads a range: an address and how many of its first bits count.
pub(super) fn range(text: &str) -> Option<(IpAddr, u8)> {
    let (first, bits) = text.split_once('/')?;
    let first = address(first)?;
    let is_number = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit()) && (bits.len() == 1 || !bits.starts_with('0'));
    let bits: u8 = if is_number { bits.parse().ok()? } else { return None };
    (bits <= width(first)).then_some((first, bits))
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

fn holds(range: (IpAddr, u8), address: IpAddr) -> bool {
    range.0.is_ipv4() == address.is_ipv4() && masked(range.0, range.1) == masked(address, range.1)
}

fn ip(values: &[V<'_>]) -> Result<IpAddr, EvalError> {
    match values.first() {
        Some(V::Ip(address)) => Ok(*address),
        _ => Err(EvalError::Overload),
    }
}

fn cidr(values: &[V<'_>]) -> Result<(IpAddr, u8), EvalError> {
    match values.first() {
        Some(V::Cidr(address, bits)) => Ok((*address, *bits)),
        _ => Err(EvalError::Overload),
    }
}

fn url<'v>(values: &'v [V<'_>]) -> Result<&'v Url, EvalError> {
    match values.first() {
        Some(V::Url(url)) => Ok(url),
        _ => Err(EvalError::Overload),
    }
}

fn text<'v>(values: &'v [V<'_>], index: usize) -> Result<&'v str, EvalError> {
    values.get(index).and_then(V::as_text).ok_or(EvalError::Overload)
}

fn read_ip(text: &str) -> Result<IpAddr, EvalError> {
    address(text).ok_or_else(|| EvalError::failed(format!("IP Address {:?} parse error during conversion from string", shortened(text))))
}

fn read_cidr(text: &str) -> Result<(IpAddr, u8), EvalError> {
    range(text).ok_or_else(|| EvalError::failed(format!("CIDR {:?} parse error during conversion from string", shortened(text))))
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

fn an_ip(_: &[Typed]) -> Typed {
    Type::Ip.into()
}

fn a_cidr(_: &[Typed]) -> Typed {
    Type::Cidr.into()
}

fn query_of(arguments: &[Typed]) -> Typed {
    let values = Typed::new(Type::texts(arguments[0].max), arguments[0].max);
    Typed::new(Type::Map(Arc::new(Type::Text.into()), Arc::new(values)), arguments[0].max)
}

fn query(url: &Url) -> Outcome<'static> {
    let entries = url.query.iter().map(|(name, values)| {
        let values = values.iter().map(|value| V::made(value.as_str())).collect();
        (V::made(name.as_str()), V::list(values))
    });
    Ok(V::Map(crate::value::Map::Made(Arc::new(entries.collect()))))
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn is_link_local_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
        IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
    }
}

fn is_global_unicast(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(is_broadcast || address.is_unspecified() || address.is_loopback() || address.is_multicast() || is_link_local(address))
}

const ALL: [Function; 25] = [
    global(
        "url",
        &[P::Text],
        |a| Typed::new(Type::Url, a[0].max),
        reads_all,
        |_, a| {
            let url = Url::parse(text(a, 0)?).ok_or_else(|| EvalError::failed("URL parse error during conversion from string"))?;
            Ok(V::Url(Arc::new(url)))
        },
    ),
    member("getScheme", &[P::Url], a_text, step, |_, a| Ok(V::made(url(a)?.scheme.as_str()))),
    member("getHost", &[P::Url], a_text, step, |_, a| Ok(V::made(url(a)?.host.as_str()))),
    member("getHostname", &[P::Url], a_text, step, |_, a| Ok(V::made(url(a)?.hostname()))),
    member("getPort", &[P::Url], a_text, step, |_, a| Ok(V::made(url(a)?.port()))),
    member("getEscapedPath", &[P::Url], a_text, step, |_, a| Ok(V::made(url(a)?.path.as_str()))),
    member("getQuery", &[P::Url], query_of, step, |_, a| query(url(a)?)),
    global("ip", &[P::Text], an_ip, reads_all, |_, a| read_ip(text(a, 0)?).map(V::Ip)),
    global("ip.isCanonical", &[P::Text], a_bool, reads_all, |_, a| {
        let text = text(a, 0)?;
        Ok(V::Bool(read_ip(text)?.to_string() == text))
    }),
    member("family", &[P::Ip], an_int, step, |_, a| Ok(V::Int(if ip(a)?.is_ipv4() { 4 } else { 6 }))),
    member("isUnspecified", &[P::Ip], a_bool, step, |_, a| Ok(V::Bool(ip(a)?.is_unspecified()))),
    member("isLoopback", &[P::Ip], a_bool, step, |_, a| Ok(V::Bool(ip(a)?.is_loopback()))),
    member("isLinkLocalMulticast", &[P::Ip], a_bool, step, |_, a| Ok(V::Bool(is_link_local_multicast(ip(a)?)))),
    member("isLinkLocalUnicast", &[P::Ip], a_bool, step, |_, a| Ok(V::Bool(is_link_local(ip(a)?)))),
    member("isGlobalUnicast", &[P::Ip], a_bool, step, |_, a| Ok(V::Bool(is_global_unicast(ip(a)?)))),
    global("cidr", &[P::Text], a_cidr, reads_all, |_, a| read_cidr(text(a, 0)?).map(|(first, bits)| V::Cidr(first, bits))),
    member("ip", &[P::Cidr], an_ip, step, |_, a| Ok(V::Ip(cidr(a)?.0))),
    member("prefixLength", &[P::Cidr], an_int, step, |_, a| Ok(V::Int(i64::from(cidr(a)?.1)))),
    member("masked", &[P::Cidr], a_cidr, step, |_, a| cidr(a).map(|(first, bits)| V::Cidr(masked(first, bits), bits))),
    member("containsIP", &[P::Cidr, P::Ip], a_bool, step, |_, a| match a {
        [_, V::Ip(address)] => Ok(V::Bool(holds(cidr(a)?, *address))),
        _ => Err(EvalError::Overload),
    }),
    member("containsIP", &[P::Cidr, P::Text], a_bool, reads_all, |_, a| Ok(V::Bool(holds(cidr(a)?, read_ip(text(a, 1)?)?)))),
    member("containsCIDR", &[P::Cidr, P::Cidr], a_bool, step, |_, a| match a {
        [_, V::Cidr(first, bits)] => Ok(V::Bool(*bits >= cidr(a)?.1 && holds(cidr(a)?, *first))),
        _ => Err(EvalError::Overload),
    }),
    member("containsCIDR", &[P::Cidr, P::Text], a_bool, reads_all, |_, a| {
        let (first, bits) = read_cidr(text(a, 1)?)?;
        Ok(V::Bool(bits >= cidr(a)?.1 && holds(cidr(a)?, first)))
    }),
    member("string", &[P::Ip], a_short_text, step, |_, a| Ok(V::made(ip(a)?.to_string()))),
    member("string", &[P::Cidr], a_short_text, step, |_, a| cidr(a).map(|(first, bits)| V::made(format!("{first}/{bits}")))),
];

pub(super) static FUNCTIONS: &[&[Function]] = &[&ALL];
