//! Calls go through the proxy that `HTTP_PROXY`, `HTTPS_PROXY` or `ALL_PROXY` names, but for hosts in `NO_PROXY`, and never
//! where this machine is called: a proxy would look for it on its own, and read the token.

use std::fmt;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{ClientBuilder, Url};
use url::Host;

pub(crate) fn is_this_machine(url: &Url) -> bool {
    let address = match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            return name == "localhost" || name.ends_with(".localhost");
        }
        Some(Host::Ipv4(v4)) => v4.into(),
        Some(Host::Ipv6(v6)) => v6.to_canonical(),
        None => return false,
    };
    address.is_loopback() || address.is_unspecified()
}

/// A client of this URL's host.
pub(crate) fn client(url: &Url) -> ClientBuilder {
    let builder = ClientBuilder::new().tcp_nodelay(true).redirect(reqwest::redirect::Policy::none());
    if is_this_machine(url) { builder.no_proxy() } else { builder }
}

/// The proxy that `client` uses, without its credentials.
pub(crate) fn of(url: &Url) -> Option<String> {
    if is_this_machine(url) {
        return None;
    }
    // What reqwest itself asks.
    let proxy = Matcher::from_system().intercept(&url.as_str().parse().ok()?)?;
    Some(proxy.uri().to_string().trim_end_matches('/').to_owned())
}

/// For an error's message: which proxy answered or did not, and how to do without.
pub(crate) struct Through<'a>(pub(crate) Option<&'a str>, pub(crate) &'a str);

impl fmt::Display for Through<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Some(proxy), url) = self else { return Ok(()) };
        write!(f, " through the proxy {proxy}")?;
        match Url::parse(url).ok().as_ref().and_then(Url::host_str) {
            Some(host) => write!(f, " (add {} to NO_PROXY to go without)", host.trim_matches(['[', ']'])),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_each_of_its_names() {
        let is_here = |url: &str| is_this_machine(&Url::parse(url).unwrap());
        for url in [
            "http://localhost:7410",
            "http://LOCALHOST./",
            "http://skald.localhost/",
            "http://127.0.0.1/",
            "http://127.3.2.1/",
            "http://2130706433/",
            "http://[::1]:7410/",
            "http://[::ffff:127.0.0.1]/",
            "http://0.0.0.0/",
        ] {
            assert!(is_here(url), "{url}");
        }
        for url in ["http://localhost.example/", "http://mylocalhost/", "http://10.0.0.1/", "http://[fd00::1]/"] {
            assert!(!is_here(url), "{url}");
        }
    }
}
