//! Where calls may go. A definition comes from outside, so its URLs must not reach what only this machine can reach.
//!
//! The guard judges addresses, not names: what a name resolves to at the moment of connecting is what is judged and
//! connected to, so a name cannot change its meaning in between. Link-local addresses (cloud metadata), unspecified,
//! multicast and broadcast ones are never called.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Participants commonly live on private networks, so both are allowed by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EgressPolicy {
    pub loopback: bool,
    /// RFC 1918, RFC 6598 (shared address space), RFC 4193 (unique local).
    pub private: bool,
}

impl Default for EgressPolicy {
    fn default() -> Self {
        Self { loopback: true, private: true }
    }
}

/// Why an address may not be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Denied {
    host: String,
    kind: &'static str,
}

impl std::error::Error for Denied {}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is {}: calls to it are not allowed", self.host, self.kind)
    }
}

impl EgressPolicy {
    fn fault(self, address: IpAddr) -> Option<&'static str> {
        match address {
            IpAddr::V4(v4) => self.fault_v4(v4),
            IpAddr::V6(v6) => match embedded_v4(v6) {
                Some(v4) => self.fault_v4(v4),
                None => self.fault_v6(v6),
            },
        }
    }

    fn fault_v4(self, v4: Ipv4Addr) -> Option<&'static str> {
        let [a, b, ..] = v4.octets();
        let shared = a == 100 && (64..128).contains(&b);
        if v4.is_link_local() {
            Some("a link-local address")
        } else if a == 0 {
            Some("an unspecified address")
        } else if v4.is_multicast() || v4.is_broadcast() {
            Some("a multicast address")
        } else if v4.is_loopback() && !self.loopback {
            Some("a loopback address")
        } else if (v4.is_private() || shared) && !self.private {
            Some("a private address")
        } else {
            None
        }
    }

    fn fault_v6(self, v6: Ipv6Addr) -> Option<&'static str> {
        if v6.is_unicast_link_local() {
            Some("a link-local address")
        } else if v6.is_unspecified() {
            Some("an unspecified address")
        } else if v6.is_multicast() {
            Some("a multicast address")
        } else if v6.is_loopback() && !self.loopback {
            Some("a loopback address")
        } else if v6.is_unique_local() && !self.private {
            Some("a private address")
        } else {
            None
        }
    }

    /// A URL whose host is an address never meets the resolver.
    pub(super) fn check(self, url: &Url) -> Result<(), Denied> {
        let address = match url.host() {
            Some(Host::Ipv4(v4)) => IpAddr::V4(v4),
            Some(Host::Ipv6(v6)) => IpAddr::V6(v6),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        match self.fault(address) {
            Some(kind) => Err(Denied { host: address.to_string(), kind }),
            None => Ok(()),
        }
    }
}

/// IPv4 behind an IPv6 spelling: mapped (RFC 4291), NAT64 (RFC 6052), 6to4 (RFC 3056).
fn embedded_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let join = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => Some(join(g, h)),
        (0x2002, ..) => Some(join(b, c)),
        _ => None,
    }
}

/// The system's resolver behind the guard.
#[derive(Debug)]
pub(super) struct Guarded(pub(super) EgressPolicy);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0;
        Box::pin(async move {
            let host = name.as_str();
            let mut denied = None;
            let mut allowed = Vec::new();
            for address in tokio::net::lookup_host((host, 0)).await? {
                match policy.fault(address.ip()) {
                    Some(kind) => denied = Some(Denied { host: format!("{host} ({})", address.ip()), kind }),
                    None => allowed.push(address),
                }
            }
            match denied {
                Some(denied) if allowed.is_empty() => Err(denied.into()),
                _ => Ok(Box::new(allowed.into_iter().map(|at: SocketAddr| at)) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(policy: EgressPolicy, address: &str) -> Option<&'static str> {
        policy.fault(address.parse().unwrap())
    }

    #[test]
    fn what_only_this_machine_or_link_can_reach_is_never_called() {
        for address in [
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(fault(EgressPolicy::default(), address).is_some(), "{address}");
        }
    }

    #[test]
    fn loopback_and_private_are_called_unless_configuration_says_no() {
        let none = EgressPolicy { loopback: false, private: false };
        for address in
            ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00::1"]
        {
            assert_eq!(fault(EgressPolicy::default(), address), None, "{address}");
            assert!(fault(none, address).is_some(), "{address}");
        }
        for address in ["1.1.1.1", "100.128.0.1", "172.32.0.1", "2606:4700::1111"] {
            assert_eq!(fault(none, address), None, "{address}");
        }
    }

    #[test]
    fn an_address_in_a_url_is_judged_however_it_is_spelt() {
        let policy = EgressPolicy { loopback: false, private: true };
        for url in ["http://127.1/", "http://2130706433/", "http://0x7f.0.0.1/", "http://[::1]:80/", "http://0/"] {
            assert!(policy.check(&Url::parse(url).unwrap()).is_err(), "{url}");
        }
        assert!(policy.check(&Url::parse("http://10.0.0.1/").unwrap()).is_ok());
    }
}
