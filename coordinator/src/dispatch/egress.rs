//! Where calls may go. A definition comes from outside, so its URLs must not reach what only this machine can reach.
//!
//! The guard judges addresses, not names: what a name resolves to at the moment of connecting is what is judged and
//! connected to, so a name cannot change its meaning in between. What an address is, one table says.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::LazyLock,
};

use ipnet::IpNet;
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

/// What the addresses of a range are.
#[derive(Clone, Copy)]
enum Meaning {
    Never(&'static str),
    Loopback,
    Private,
    /// Stand-ins for the IPv4 addresses that they hold.
    Holds(fn(Ipv6Addr) -> Vec<Ipv4Addr>),
}

use Meaning::{Holds, Loopback, Never, Private};

const UNSPECIFIED: Meaning = Never("an unspecified address");
const LINK_LOCAL: Meaning = Never("a link-local address");
const MULTICAST: Meaning = Never("a multicast address");
const METADATA: Meaning = Never("an address of a cloud's instance metadata");

/// A range, what it is, and who says so. An address is called if every row that it is in allows it.
const TABLE: &[(&str, Meaning, &str)] = &[
    ("0.0.0.0/8", UNSPECIFIED, "RFC 1122, 3.2.1.3"),
    ("::/128", UNSPECIFIED, "RFC 4291, 2.5.2"),
    ("169.254.0.0/16", LINK_LOCAL, "RFC 3927"),
    ("fe80::/10", LINK_LOCAL, "RFC 4291, 2.5.6"),
    ("fec0::/10", Never("a site-local address"), "RFC 3879"),
    ("224.0.0.0/4", MULTICAST, "RFC 5771"),
    ("ff00::/8", MULTICAST, "RFC 4291, 2.7"),
    ("255.255.255.255/32", Never("the broadcast address"), "RFC 919"),
    ("fd00:ec2::/32", METADATA, "AWS"),
    ("fd20:ce::254/128", METADATA, "Google Cloud"),
    ("168.63.129.16/32", METADATA, "Azure"),
    ("192.0.0.192/32", METADATA, "Oracle Cloud Classic"),
    ("fd00:c1::a9fe:a9fe/128", METADATA, "Oracle Cloud"),
    ("100.100.100.200/32", METADATA, "Alibaba Cloud"),
    ("fd00:100::100:200/128", METADATA, "Alibaba Cloud"),
    ("100.96.0.96/32", METADATA, "Volcengine"),
    ("fd00:42::42/128", METADATA, "Scaleway"),
    ("fd00:a9fe:a9fe::1/128", METADATA, "Akamai"),
    ("127.0.0.0/8", Loopback, "RFC 1122, 3.2.1.3"),
    ("::1/128", Loopback, "RFC 4291, 2.5.3"),
    ("10.0.0.0/8", Private, "RFC 1918"),
    ("172.16.0.0/12", Private, "RFC 1918"),
    ("192.168.0.0/16", Private, "RFC 1918"),
    ("100.64.0.0/10", Private, "RFC 6598"),
    ("fc00::/7", Private, "RFC 4193"),
    ("::ffff:0:0/96", Holds(last), "RFC 4291, 2.5.5.2"),
    ("::/96", Holds(compatible), "RFC 4291, 2.5.5.1"),
    ("::ffff:0:0:0/96", Holds(last), "RFC 2765, 2.1"),
    ("64:ff9b::/96", Holds(last), "RFC 6052, 2.1"),
    ("64:ff9b:1::/48", Holds(nat64), "RFC 8215"),
    ("2002::/16", Holds(six_to_four), "RFC 3056"),
    ("2001::/32", Holds(teredo), "RFC 4380, 4"),
    ("::/0", Holds(isatap), "RFC 5214, 6.1"),
];

fn octets(v6: Ipv6Addr, at: [usize; 4]) -> Ipv4Addr {
    at.map(|at| v6.octets()[at]).into()
}

fn last(v6: Ipv6Addr) -> Vec<Ipv4Addr> {
    vec![octets(v6, [12, 13, 14, 15])]
}

/// `::` and `::1` look like it, and are what they are.
fn compatible(v6: Ipv6Addr) -> Vec<Ipv4Addr> {
    if v6.is_unspecified() || v6.is_loopback() { Vec::new() } else { last(v6) }
}

/// Whoever runs the translator chose how long its prefix is (RFC 6052, 2.2), so every reading counts. A reading of the wrong
/// length mostly gives 0.0.0.0/8.
fn nat64(v6: Ipv6Addr) -> Vec<Ipv4Addr> {
    let layouts = [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], [12, 13, 14, 15]];
    let mut readings: Vec<_> = layouts.map(|at| octets(v6, at)).into();
    readings.retain(|v4| v4.octets()[0] != 0);
    if readings.is_empty() { vec![Ipv4Addr::UNSPECIFIED] } else { readings }
}

fn six_to_four(v6: Ipv6Addr) -> Vec<Ipv4Addr> {
    vec![octets(v6, [2, 3, 4, 5])]
}

/// The server, and the client with its bits inverted.
fn teredo(v6: Ipv6Addr) -> Vec<Ipv4Addr> {
    vec![octets(v6, [4, 5, 6, 7]), !octets(v6, [12, 13, 14, 15])]
}

/// An interface's identifier, under any prefix.
fn isatap(v6: Ipv6Addr) -> Vec<Ipv4Addr> {
    let segments = v6.segments();
    if matches!(segments[4], 0 | 0x0200) && segments[5] == 0x5efe { last(v6) } else { Vec::new() }
}

/// Why an address may not be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Denied {
    host: String,
    why: String,
}

impl std::error::Error for Denied {}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is {}: calls to it are not allowed", self.host, self.why)
    }
}

impl EgressPolicy {
    /// What the address is, where it may not be called.
    fn fault(self, address: IpAddr) -> Option<String> {
        static RANGES: LazyLock<Vec<(IpNet, Meaning, &str)>> = LazyLock::new(|| {
            let parsed = |&(range, meaning, source): &(&str, _, _)| {
                (range.parse().expect("the table's ranges are ranges"), meaning, source)
            };
            TABLE.iter().map(parsed).collect()
        });
        RANGES.iter().filter(|(range, ..)| range.contains(&address)).find_map(|&(_, meaning, source)| {
            let what = match (meaning, address) {
                (Never(what), _) => what,
                (Loopback, _) if !self.loopback => "a loopback address",
                (Private, _) if !self.private => "a private address",
                (Holds(held), IpAddr::V6(v6)) => {
                    return held(v6)
                        .into_iter()
                        .find_map(|v4| self.fault(v4.into()).map(|why| format!("{v4} ({source}), {why}")));
                }
                (Loopback | Private | Holds(_), _) => return None,
            };
            Some(format!("{what} ({source})"))
        })
    }

    /// A URL whose host is an address never meets the resolver.
    pub(super) fn check(self, url: &Url) -> Result<(), Denied> {
        let address = match url.host() {
            Some(Host::Ipv4(v4)) => IpAddr::V4(v4),
            Some(Host::Ipv6(v6)) => IpAddr::V6(v6),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        match self.fault(address) {
            Some(why) => Err(Denied { host: address.to_string(), why }),
            None => Ok(()),
        }
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
                    Some(why) => denied = Some(Denied { host: format!("{host} ({})", address.ip()), why }),
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
    use std::{collections::BTreeSet, str::FromStr as _};

    use super::*;

    const ALL: EgressPolicy = EgressPolicy { loopback: true, private: true };
    const NONE: EgressPolicy = EgressPolicy { loopback: false, private: false };

    fn fault(policy: EgressPolicy, address: &str) -> Option<String> {
        policy.fault(address.parse().unwrap())
    }

    /// How each `Holds` row spells 169.254.169.254 and 8.8.8.8: denied, and allowed even where nothing private is.
    const HELD: &[(&str, &[(&str, &str)])] = &[
        ("::ffff:0:0/96", &[("::ffff:169.254.169.254", "::ffff:8.8.8.8")]),
        ("::/96", &[("::169.254.169.254", "::8.8.8.8")]),
        ("::ffff:0:0:0/96", &[("::ffff:0:169.254.169.254", "::ffff:0:8.8.8.8")]),
        ("64:ff9b::/96", &[("64:ff9b::a9fe:a9fe", "64:ff9b::808:808")]),
        (
            "64:ff9b:1::/48",
            &[
                ("64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1:808:8:800::"),
                ("64:ff9b:1:a9:fe:a9fe::", "64:ff9b:1:8:8:808::"),
                ("64:ff9b:1:0:a9:fea9:fe00:0", "64:ff9b:1:0:8:808:800:0"),
                ("64:ff9b:1::a9fe:a9fe", "64:ff9b:1::808:808"),
                ("64:ff9b:1:fffe::a9fe:a9fe", "64:ff9b:1:fffe::808:808"),
            ],
        ),
        ("2002::/16", &[("2002:a9fe:a9fe::1", "2002:808:808::1")]),
        (
            "2001::/32",
            &[
                ("2001:0:a9fe:a9fe:0:0:f7f7:f7f7", "2001:0:808:808:0:0:f7f7:f7f7"),
                ("2001:0:808:808:8000:63bf:5601:5601", "2001:0:808:808:8000:63bf:f7f7:f7f7"),
            ],
        ),
        (
            "::/0",
            &[
                ("2606:4700::5efe:a9fe:a9fe", "2606:4700::5efe:808:808"),
                ("2606:4700::200:5efe:a9fe:a9fe", "2606:4700::200:5efe:808:808"),
            ],
        ),
    ];

    #[test]
    fn what_only_this_machine_or_link_can_reach_is_never_called() {
        let mut held = BTreeSet::new();
        for &(range, meaning, source) in TABLE {
            let net = IpNet::from_str(range).unwrap();
            assert_eq!(net, net.trunc(), "{range} has bits beyond its length");
            let ends = [net.network(), net.broadcast()];
            match meaning {
                Never(what) => {
                    for end in ends {
                        let why = ALL.fault(end).unwrap_or_else(|| panic!("{end} is called"));
                        assert!(why.contains(what) && why.contains(source), "{end}: {why}");
                    }
                }
                Loopback => {
                    assert!(ends.iter().all(|end| ALL.fault(*end).is_none()), "{range}");
                    assert!(
                        ends.iter().all(|end| EgressPolicy { private: true, ..NONE }.fault(*end).is_some()),
                        "{range}"
                    );
                }
                Private => {
                    assert!(ends.iter().all(|end| ALL.fault(*end).is_none()), "{range}");
                    assert!(
                        ends.iter().all(|end| EgressPolicy { loopback: true, ..NONE }.fault(*end).is_some()),
                        "{range}"
                    );
                }
                Holds(_) => {
                    let (_, spelt) = HELD.iter().find(|(of, _)| *of == range).unwrap();
                    for (metadata, public) in *spelt {
                        let why = fault(ALL, metadata).unwrap_or_else(|| panic!("{metadata} is called"));
                        assert_eq!(why, format!("169.254.169.254 ({source}), a link-local address (RFC 3927)"));
                        assert_eq!(fault(NONE, public), None, "{public}");
                    }
                    held.insert(range);
                }
            }
        }
        assert_eq!(held.len(), HELD.len());
    }

    #[test]
    fn whoever_holds_another_address_is_judged_as_that_one() {
        let hidden = [
            "::ffff:0.0.0.0",
            "::ffff:168.63.129.16",
            "64:ff9b::100.100.100.200",
            "64:ff9b:1::",
            "2002:e000:1::1",
            "fd12:3456::5efe:169.254.1.1",
            "fe80::5efe:8.8.8.8",
        ];
        for address in hidden {
            assert!(fault(ALL, address).is_some(), "{address}");
        }
        for address in ["::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "64:ff9b:1::a00:1", "::ffff:192.168.0.1"] {
            assert_eq!(fault(ALL, address), None, "{address}");
            assert!(fault(NONE, address).is_some(), "{address}");
        }
    }

    #[test]
    fn neighbours_of_what_is_denied_are_called() {
        let public =
            ["1.1.1.1", "100.128.0.1", "172.32.0.1", "168.63.129.17", "169.253.0.1", "169.255.0.1", "2606:4700::1111"];
        for address in public {
            assert_eq!(fault(NONE, address), None, "{address}");
        }
        let private =
            ["127.0.0.1", "::1", "100.100.100.201", "fd00::1", "fd00:ec3::254", "fd20:ce::255", "fd00:42::43"];
        for address in private {
            assert_eq!(fault(ALL, address), None, "{address}");
            assert!(fault(NONE, address).is_some(), "{address}");
        }
    }

    #[test]
    fn an_address_in_a_url_is_judged_however_it_is_spelt() {
        let no_loopback = EgressPolicy { loopback: false, private: true };
        let loopback = ["http://127.1/", "http://2130706433/", "http://0x7f.0.0.1/", "http://[::1]:80/", "http://0/"];
        let metadata = [
            "http://0251.0376.0251.0376/",
            "http://0xa9fea9fe/",
            "http://0xA9.254.0251.254/",
            "http://2852039166/",
            "http://169.254.43518/",
            "http://169.254.169.254./",
            "http://%31%36%39.254.169.254/",
            "http://１６９。２５４。１６９。２５４/",
            "http://[::169.254.169.254]/",
            "http://[0:0:0:0:0:FFFF:A9FE:A9FE]/",
            "http://[fd00:0ec2:0::0254]/",
        ];
        for (policy, urls) in [(no_loopback, &loopback[..]), (ALL, &metadata[..])] {
            for url in urls {
                assert!(policy.check(&Url::parse(url).unwrap()).is_err(), "{url}");
            }
        }
        assert!(no_loopback.check(&Url::parse("http://10.0.0.1/").unwrap()).is_ok());
        for zone in ["http://[fe80::1%25eth0]/", "http://[fe80::1%eth0]/"] {
            assert!(Url::parse(zone).is_err(), "{zone}");
        }
    }

    #[tokio::test]
    async fn what_a_name_resolves_to_is_judged_however_it_is_spelt() {
        for name in ["169.254.169.254", "0251.0376.0251.0376", "2852039166", "fd00:ec2::254", "::ffff:169.254.169.254"]
        {
            let resolved = Guarded(ALL).resolve(Name::from_str(name).unwrap()).await;
            assert!(resolved.is_err_and(|error| error.is::<Denied>()), "{name}");
        }
        assert!(Guarded(ALL).resolve(Name::from_str("localhost").unwrap()).await.is_ok());
    }

    #[test]
    fn the_documented_ranges_are_those_of_the_code() {
        let docs = include_str!("../../../docs/operations.md");
        for (range, _, source) in TABLE {
            let row = docs.lines().find(|line| line.contains(&format!("`{range}`")));
            assert!(row.is_some_and(|row| row.contains(source)), "docs/operations.md: `{range}` by {source}");
        }
    }
}
