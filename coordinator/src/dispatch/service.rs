//! Where a call goes: the request's target on its service's base URL, and what that service wants to see.
//!
//! The server's own configuration goes before the plan. Its authentication and headers are only used together with its
//! URL, and a service's never travel to another origin than the service's. A secret that a plan names goes only where the
//! configuration lets that secret go (`Secrets::may_go`): a definition cannot send one astray.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use skald_engine::{
    Plan, Service, Target,
    plan::{Auth, Secret, Value},
};
use skald_sdk::SigningKeys;
use url::Url;

use super::{
    Error, Outgoing,
    contract::{Message, Unsendable},
    secret::Secrets,
};

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Beyond this many names the cache starts anew; per name, beyond this many versions.
const NAMES: usize = 4_096;
const VERSIONS: usize = 8;
/// Paths that a site remembers.
const TARGETS: usize = 32;

/// A service as the server knows it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServiceSettings {
    /// Replaces a plan's URL, headers and authentication; without it a plan's stand.
    pub url: Option<String>,
    pub headers: BTreeMap<String, Value>,
    pub auth: Option<Auth>,
    /// Secrets that hold the keys which calls to `url` are signed with.
    pub signing: Vec<String>,
    pub max_concurrency: Option<u32>,
}

pub(super) struct Services {
    settings: BTreeMap<String, ServiceSettings>,
    known: RwLock<HashMap<String, Vec<Arc<Site>>>>,
}

/// One service, ready to be called.
pub(super) struct Site {
    /// What it was made from.
    plan: Option<Service>,
    /// The server's configuration says where it is, and what it wants to see.
    configured: bool,
    base: Base,
    headers: Vec<(HeaderName, Value)>,
    auth: Option<Auth>,
    signing: Vec<String>,
    lane: Arc<str>,
    max_concurrency: Option<usize>,
    /// Where the first few paths led: those of operations without expressions in them.
    targets: RwLock<HashMap<String, Url>>,
}

struct Base {
    origin: String,
    /// Without a slash at its end.
    prefix: String,
    query: Option<String>,
}

/// Where one call goes.
pub(super) struct Destination {
    pub(super) url: Url,
    pub(super) lane: Arc<str>,
    pub(super) max_concurrency: Option<usize>,
    site: Option<Arc<Site>>,
}

impl Services {
    pub(super) fn new(settings: BTreeMap<String, ServiceSettings>) -> Result<Self, Error> {
        for (name, service) in &settings {
            if service.url.is_some() {
                Site::new(name, None, Some(service))
                    .map_err(|unsendable| Error::Misconfigured(format!("service `{name}`: {unsendable}")))?;
            }
        }
        Ok(Self { settings, known: RwLock::default() })
    }

    pub(super) fn locate(&self, outgoing: &Outgoing) -> Result<Destination, Unsendable> {
        let request = &outgoing.request;
        let site = request.service.as_ref().map(|name| self.site(name, outgoing.plan.services.get(name)));
        let mut place = match (&request.target, site) {
            (Target::Path(_), None) => return Err(invalid_url("a path needs a service to be appended to")),
            (Target::Path(path), Some(site)) => {
                let site = site?;
                let (lane, max_concurrency) = (site.lane.clone(), site.max_concurrency);
                Destination { url: site.target(path)?, lane, max_concurrency, site: Some(site) }
            }
            (Target::Url(text), site) => {
                let url = parse(text)?;
                let origin = origin(&url);
                match site.and_then(Result::ok).filter(|site| site.base.origin == origin) {
                    Some(site) => {
                        let (lane, max_concurrency) = (site.lane.clone(), site.max_concurrency);
                        Destination { url, lane, max_concurrency, site: Some(site) }
                    }
                    None => Destination { url, lane: origin.into(), max_concurrency: None, site: None },
                }
            }
        };
        if !request.query.is_empty() {
            place.url.query_pairs_mut().extend_pairs(&request.query);
        }
        Ok(place)
    }

    fn site(&self, name: &str, plan: Option<&Service>) -> Result<Arc<Site>, Unsendable> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let found = known.get(name).and_then(|sites| sites.iter().find(|site| site.plan.as_ref() == plan));
        if let Some(site) = found {
            return Ok(site.clone());
        }
        drop(known);
        let site = Arc::new(Site::new(name, plan, self.setting(name))?);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= NAMES {
            known.clear();
        }
        let versions = known.entry(name.to_owned()).or_default();
        if versions.len() >= VERSIONS {
            versions.remove(0);
        }
        versions.push(site.clone());
        Ok(site)
    }

    /// An included definition's service may have that definition behind its name: here it is the same one.
    fn setting(&self, name: &str) -> Option<&ServiceSettings> {
        self.settings.get(name.split('@').next().unwrap_or(name))
    }

    /// The secrets that the plan names for places where they may not go.
    pub(super) fn withheld<'a>(&self, plan: &'a Plan, secrets: &Secrets) -> Vec<Withheld<'a>> {
        let mut withheld = Vec::new();
        for (name, service) in &plan.services {
            if self.setting(name).is_some_and(|own| own.url.is_some()) {
                continue;
            }
            let url = parse(&service.url).ok();
            let mut check = |place: &[&'a str], secret: &'a str| {
                if !url.as_ref().is_some_and(|url| secrets.may_go(secret, url)) {
                    let to = url.as_ref().map(origin).unwrap_or_default();
                    let place = [&[name.as_str()], place].concat();
                    withheld.push(Withheld { place, secret, to });
                }
            };
            for (header, value) in &service.headers {
                if let Value::Secret(secret) = value {
                    check(&["headers", header], &secret.secret);
                }
            }
            match &service.auth {
                None => {}
                Some(
                    Auth::Bearer(secret) | Auth::Basic { password: secret, .. } | Auth::Header { value: secret, .. },
                ) => {
                    check(&["auth"], &secret.secret);
                }
            }
        }
        withheld
    }
}

/// A secret that a definition names for a place where it may not go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld<'a> {
    /// The service's name, and what follows in the definition.
    pub place: Vec<&'a str>,
    pub secret: &'a str,
    /// Scheme, host and port.
    pub to: String,
}

impl fmt::Display for Withheld<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secret, to, .. } = self;
        write!(
            f,
            "this server does not let definitions send the secret `{secret}` to {to}: its operator lists the hosts of each"
        )
    }
}

impl Site {
    fn new(name: &str, plan: Option<&Service>, own: Option<&ServiceSettings>) -> Result<Self, Unsendable> {
        let placed = own.and_then(|own| own.url.as_ref().map(|url| (url, own)));
        let (url, headers, auth) = match (placed, plan) {
            (Some((url, own)), _) => (url, &own.headers, &own.auth),
            (None, Some(plan)) => (&plan.url, &plan.headers, &plan.auth),
            (None, None) => {
                let message = format!("service `{name}` is neither in the plan nor in the server's configuration");
                return Err(Unsendable::later("unknown_service", message));
            }
        };
        let base = Base::new(url)?;
        let own_limit = own.and_then(|own| own.max_concurrency);
        let max_concurrency = own_limit.or_else(|| plan.and_then(|plan| plan.max_concurrency)).map(|max| max as usize);
        let lane = match max_concurrency {
            Some(_) => format!("{name}@{}", base.origin),
            None => base.origin.clone(),
        };
        let headers = headers
            .iter()
            .map(|(header, value)| match HeaderName::try_from(header) {
                Ok(header) => Ok((header, value.clone())),
                Err(_) => Err(Unsendable::never("invalid_request", format!("`{header}` is no header name"))),
            })
            .collect::<Result<_, _>>()?;
        let (plan, auth, targets) = (plan.cloned(), auth.clone(), RwLock::default());
        let configured = placed.is_some();
        // Of another's URL the signed call could be collected, and sent to the service itself.
        let signing = placed.map(|(_, own)| own.signing.clone()).unwrap_or_default();
        Ok(Self { plan, configured, base, headers, auth, signing, lane: lane.into(), max_concurrency, targets })
    }

    fn target(&self, path: &str) -> Result<Url, Unsendable> {
        let targets = self.targets.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(url) = targets.get(path) {
            return Ok(url.clone());
        }
        let full = targets.len() >= TARGETS;
        drop(targets);
        let url = self.base.join(path)?;
        if !full {
            self.targets.write().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), url.clone());
        }
        Ok(url)
    }
}

impl Base {
    fn new(text: &str) -> Result<Self, Unsendable> {
        let mut url = parse(text)?;
        let origin = origin(&url);
        let query = url.query().map(str::to_owned);
        url.set_query(None);
        url.set_fragment(None);
        Ok(Self { origin, prefix: url.as_str().trim_end_matches('/').to_owned(), query })
    }

    fn join(&self, path: &str) -> Result<Url, Unsendable> {
        let bare = path.split(['?', '#']).next().unwrap_or_default();
        // The URL parser takes `%2e` for a dot too: a value rendered into the path must not climb out of it.
        let climbs = |segment: &str| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
        if bare.split(['/', '\\']).any(climbs) {
            return Err(invalid_url("a path may not hold the segments `.` and `..`"));
        }
        let slash = if path.is_empty() || path.starts_with(['/', '?']) { "" } else { "/" };
        let mut url = parse(&format!("{}{slash}{path}", self.prefix))?;
        if let Some(query) = &self.query {
            let joined = match url.query() {
                Some(own) => format!("{query}&{own}"),
                None => query.clone(),
            };
            url.set_query(Some(&joined));
        }
        Ok(url)
    }
}

impl Destination {
    /// Adds the service's headers where the operation set none, and its authentication over whatever is there.
    pub(super) fn authenticate(&self, headers: &mut HeaderMap, secrets: &Secrets) -> Result<(), Unsendable> {
        let Some(site) = &self.site else { return Ok(()) };
        let text = |secret: &Secret, prefix: &str| self.secret(site, &secret.secret, prefix, secrets);
        for (name, value) in &site.headers {
            if !headers.contains_key(name) {
                let value = match value {
                    Value::Text(text) => header(name, text, false)?,
                    Value::Secret(secret) => header(name, &text(secret, "")?, true)?,
                };
                headers.insert(name, value);
            }
        }
        match &site.auth {
            None => {}
            Some(Auth::Bearer(secret)) => {
                headers.insert(AUTHORIZATION, header(&AUTHORIZATION, &text(secret, "Bearer ")?, true)?);
            }
            Some(Auth::Basic { username, password }) => {
                let value = format!("Basic {}", STANDARD.encode(text(password, &format!("{username}:"))?));
                headers.insert(AUTHORIZATION, header(&AUTHORIZATION, &value, true)?);
            }
            Some(Auth::Header { name, value }) => {
                let name = HeaderName::try_from(name)
                    .map_err(|_| Unsendable::never("invalid_request", format!("`{name}` is no header name")))?;
                let value = header(&name, &text(value, "")?, true)?;
                headers.insert(name, value);
            }
        }
        Ok(())
    }

    /// Signs the message as Standard Webhooks says, with its idempotency key for the id: it passes for no other call.
    pub(super) fn sign(&self, message: &mut Message, id: &str, secrets: &Secrets) -> Result<(), Unsendable> {
        let Some(site) = self.site.as_ref().filter(|site| !site.signing.is_empty()) else { return Ok(()) };
        let keys =
            site.signing.iter().map(|name| self.secret(site, name, "", secrets)).collect::<Result<Vec<_>, _>>()?;
        let keys = SigningKeys::new(keys).map_err(|error| {
            tracing::warn!(secrets = ?site.signing, "calls cannot be signed: {error}");
            Unsendable::later("secret_unavailable", "a signing key is none: the log of the server says why")
        })?;
        let sent_at =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
        let signature = keys.sign(id, &sent_at, message.body.as_deref().unwrap_or_default());
        for (name, value) in [(WEBHOOK_ID, id), (WEBHOOK_TIMESTAMP, &sent_at), (WEBHOOK_SIGNATURE, &signature)] {
            message.headers.insert(name.clone(), header(&name, value, false)?);
        }
        Ok(())
    }

    /// `prefix` + the secret. What the caller reads does not tell whether there is such a secret.
    fn secret(&self, site: &Site, secret: &str, prefix: &str, secrets: &Secrets) -> Result<String, Unsendable> {
        if !site.configured && !secrets.may_go(secret, &self.url) {
            let withheld = Withheld { place: Vec::new(), secret, to: origin(&self.url) };
            return Err(Unsendable::later("secret_withheld", withheld.to_string()));
        }
        secrets.text(secret, prefix).map_err(|why| {
            tracing::warn!(secret, "a secret cannot be read: {why}");
            Unsendable::later(
                "secret_unavailable",
                format!("the secret `{secret}` cannot be read: the log of the server says why"),
            )
        })
    }
}

fn header(name: &HeaderName, text: &str, secret: bool) -> Result<HeaderValue, Unsendable> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Unsendable::never("invalid_request", format!("header `{name}` would hold what no header can")))?;
    value.set_sensitive(secret);
    Ok(value)
}

fn parse(text: &str) -> Result<Url, Unsendable> {
    let url = Url::parse(text).map_err(|error| invalid_url(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid_url("only http and https are spoken"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid_url("credentials belong in `auth`, not in a URL"));
    }
    Ok(url)
}

fn origin(url: &Url) -> String {
    format!("{}://{}:{}", url.scheme(), url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(0))
}

fn invalid_url(why: &str) -> Unsendable {
    Unsendable::never("invalid_url", why)
}
