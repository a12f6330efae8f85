//! Who a client is when proxies stand in front: only what a trusted proxy says counts, since anybody can send a header.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};

/// The header in which each proxy adds, at the right, whom it was called by.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// A range of addresses, such as `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

impl Network {
    /// Whether the address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let shift = |bits: u32| bits.checked_sub(u32::from(self.prefix_bits));
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differing = u32::from(network) ^ u32::from(address);
                shift(32).is_some_and(|shift| differing.checked_shr(shift).unwrap_or(0) == 0)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differing = u128::from(network) ^ u128::from(address);
                shift(128).is_some_and(|shift| differing.checked_shr(shift).unwrap_or(0) == 0)
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no address and no range of them (such as 10.0.0.0/8 or ::1)");
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.trim().parse().map_err(|_| wrong())?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix {
            Some(bits) => bits.trim().parse().ok().filter(|bits| *bits <= bits_max).ok_or_else(wrong)?,
            None => bits_max,
        };
        Ok(Self { address, prefix_bits })
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix_bits)
    }
}

/// The client's address: the peer's, or, while that is a trusted proxy, whom it says it was called by. What cannot be
/// read ends the search: the proxy that let it pass is then as far as we know.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer;
    if trusted.is_empty() || !is_trusted(client) {
        return client;
    }
    let mut lines: Vec<&str> = Vec::new();
    for value in headers.get_all(FORWARDED_FOR) {
        let Ok(line) = value.to_str() else { return client };
        lines.push(line);
    }
    for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        let Some(address) = hop_address(hop.trim()) else { return client };
        client = address;
        if !is_trusted(client) {
            return client;
        }
    }
    client
}

/// An address, perhaps with a port: some proxies add it.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let unbracketed = hop.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(address, _)| address);
    if let Some(address) = unbracketed {
        return address.parse::<Ipv6Addr>().ok().map(|address| IpAddr::V6(address).to_canonical());
    }
    let address = hop.parse().or_else(|_| hop.parse().map(|address: std::net::SocketAddr| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn client(peer: &str, lines: &[&'static str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_static(line));
        }
        let trusted: Vec<Network> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_what_trusted_proxies_say_counts() {
        for (peer, lines, trusted, expected) in [
            ("203.0.113.9", &["198.51.100.1"][..], &[][..], "203.0.113.9"),
            ("203.0.113.9", &["198.51.100.1"], &["10.0.0.0/8"], "203.0.113.9"),
            ("10.1.2.3", &["198.51.100.1"], &["10.0.0.0/8"], "198.51.100.1"),
            ("10.1.2.3", &["6.6.6.6, 198.51.100.1"], &["10.0.0.0/8"], "198.51.100.1"),
            ("10.1.2.3", &["6.6.6.6, 198.51.100.1, 10.9.9.9"], &["10.0.0.0/8"], "198.51.100.1"),
            ("10.1.2.3", &["6.6.6.6", "198.51.100.1", "10.9.9.9"], &["10.0.0.0/8"], "198.51.100.1"),
            ("10.1.2.3", &["10.8.8.8, 10.9.9.9"], &["10.0.0.0/8"], "10.8.8.8"),
            ("10.1.2.3", &["6.6.6.6, unknown"], &["10.0.0.0/8"], "10.1.2.3"),
            ("10.1.2.3", &["6.6.6.6,"], &["10.0.0.0/8"], "10.1.2.3"),
            ("10.1.2.3", &[], &["10.0.0.0/8"], "10.1.2.3"),
            ("10.1.2.3", &["198.51.100.1:55555"], &["10.1.2.3"], "198.51.100.1"),
            ("::1", &["[2001:db8::7]:443"], &["::1"], "2001:db8::7"),
            ("::ffff:10.1.2.3", &["2001:db8::7"], &["10.0.0.0/8"], "2001:db8::7"),
            ("10.1.2.3", &["198.51.100.1"], &["0.0.0.0/0"], "198.51.100.1"),
        ] {
            assert_eq!(client(peer, lines, trusted), expected, "{peer} {lines:?} {trusted:?}");
        }
    }

    #[test]
    fn ranges_are_read_and_written() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
        ] {
            let network: Network = text.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()) && !network.contains(outside.parse().unwrap()), "{text}");
            assert_eq!(network.to_string().parse(), Ok(network));
        }
        for wrong in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "proxy", "10.0.0.0/-1", "10.0.0.0/x"] {
            assert!(wrong.parse::<Network>().unwrap_err().contains("such as"), "{wrong}");
        }
    }
}
