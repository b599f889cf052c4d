use std::{fmt, path::PathBuf};

use figment::{
    Figment, Metadata, Profile, Provider,
    error::Kind,
    providers::{Format, Serialized, Toml},
    value::{Dict, Map, Value},
};

use super::Config;

const PREFIX: &str = "SKALD_";
/// What the command line reads under the same prefix.
const OTHERS: [&str; 3] = ["SKALD_URL", "SKALD_TOKEN", "SKALD_CONFIG"];
/// OpenTelemetry's own names; ours go before.
const OPENTELEMETRY: [(&str, &str); 2] = [
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint"),
    ("OTEL_EXPORTER_OTLP_CERTIFICATE", "telemetry.otlp_certificate"),
];
/// As a bare value it is the database's URL.
const DATABASE: &str = "database";
/// A secret's value; dispatch reads it when a call needs it.
const SECRET: &str = "SKALD_SECRET_";
/// Free text: `00123` and `true` are not to be read as a number and a truth.
const TEXTS: [&str; 5] = ["secrets_directory", "reports_directory", "callback_key", "database.url", "node_address"];

/// Where settings may come from, lowest first.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    pub file: Option<PathBuf>,
    /// Those that do not start with `SKALD_` are passed over.
    pub environment: Vec<(String, String)>,
    /// A flag's name, its key, its value.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File(String),
    Variable(String),
    Flag(String),
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the configuration file {path} cannot be read: {source}")]
    Unreadable { path: String, source: std::io::Error },
    #[error("the configuration is wrong{}", lines(.0))]
    Faulty(Vec<ConfigFault>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFault {
    /// Dotted; empty where a whole source is at fault.
    pub key: String,
    pub origin: Origin,
    pub message: String,
}

/// One line of `skald config`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Setting {
    pub key: String,
    /// Redacted where it is secret; null where nothing is set.
    pub value: serde_json::Value,
    pub from: Origin,
}

#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// Variables that only look like settings.
    pub warnings: Vec<ConfigFault>,
    figment: Figment,
}

/// Reads and checks everything; all faults at once.
pub fn load(sources: &Sources) -> Result<Loaded, Error> {
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    if let Some(path) = &sources.file {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Unreadable { path: path.display().to_string(), source })?;
        let origin = Origin::File(path.display().to_string());
        match Toml::string(&text).data() {
            Ok(data) => figment = figment.merge(Source::of_file(origin, data)),
            Err(error) => {
                let message = error.kind.to_string().trim_end().to_owned();
                return Err(Error::Faulty(vec![ConfigFault { key: String::new(), origin, message }]));
            }
        }
    }
    for (variable, key) in OPENTELEMETRY {
        if let Some((name, text)) = sources.environment.iter().find(|(name, text)| name == variable && !text.is_empty())
        {
            figment = figment.merge(Source::new(Origin::Variable(name.clone()), key, text));
        }
    }
    for (name, text) in &sources.environment {
        if let Some(one) = Source::of_variable(name, text) {
            figment = figment.merge(one);
        }
    }
    for (flag, key, text) in &sources.flags {
        figment = figment.merge(Source::new(Origin::Flag((*flag).to_owned()), key, text));
    }
    let (mut faults, mut warnings) = (Vec::new(), Vec::new());
    let config = extract(&figment, &mut faults, &mut warnings);
    if let Some(config) = &config {
        for (keys, message) in config.contradictions() {
            // Of keys that contradict each other, one that somebody set is at fault rather than a default.
            let set = keys.iter().find(|key| origin(&figment, key) != Origin::Default);
            let key = set.or(keys.first()).cloned().unwrap_or_default();
            faults.push(ConfigFault { origin: origin(&figment, &key), key, message });
        }
    }
    match config {
        Some(config) if faults.is_empty() => Ok(Loaded { config, warnings, figment }),
        _ => Err(Error::Faulty(faults)),
    }
}

/// Serde stops at its first fault, so what is at fault is noted, taken out and the rest read again.
fn extract(figment: &Figment, faults: &mut Vec<ConfigFault>, warnings: &mut Vec<ConfigFault>) -> Option<Config> {
    let mut dict = match figment.data().map(|mut profiles| profiles.remove(&Profile::Default).unwrap_or_default()) {
        Ok(dict) => dict,
        Err(errors) => {
            faults.extend(errors.into_iter().map(|error| ConfigFault {
                key: error.path.join("."),
                origin: error.metadata.as_ref().map_or(Origin::Default, Origin::of),
                message: error.kind.to_string(),
            }));
            return None;
        }
    };
    loop {
        let error = match Value::from(dict.clone()).deserialize::<Config>() {
            Ok(config) => return Some(config),
            Err(error) => error,
        };
        let mut path = error.path.clone();
        if let Kind::UnknownField(name, _) = &error.kind
            && path.last() != Some(name)
        {
            path.push(name.clone());
        }
        let found = origin(figment, &path.join("."));
        if let (Kind::UnknownField(..), Origin::Variable(variable), [_]) = (&error.kind, &found, &path[..]) {
            let (to, message) = match meant(variable) {
                Some(variable) => (&mut *faults, format!("there is no such setting; did you mean {variable}?")),
                None => (&mut *warnings, "is no setting, and is passed over".to_owned()),
            };
            to.push(ConfigFault { key: String::new(), origin: found, message });
            remove(&mut dict, &path);
            continue;
        }
        let message = match &error.kind {
            Kind::UnknownField(name, expected) => unknown(name, expected),
            Kind::UnknownVariant(word, expected) => format!("`{word}` is none of: {}", expected.join(", ")),
            // Serde's word for what TOML and JSON call otherwise.
            kind => kind.to_string().replace("a sequence", "a list such as [\"a\", \"b\"]"),
        };
        faults.push(ConfigFault { origin: found, key: path.join("."), message });
        if !remove(&mut dict, &path) {
            return None;
        }
    }
}

fn unknown(name: &str, expected: &[&str]) -> String {
    let near = expected
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((_, candidate)) => format!("there is no such key; did you mean `{candidate}`?"),
        None => format!("there is no such key; the ones here are: {}", expected.join(", ")),
    }
}

/// The variable that an unknown one is nearly the name of. What is not near any was not meant for us: images set such ones.
fn meant(variable: &str) -> Option<String> {
    let name = variable.trim_start_matches(PREFIX).to_ascii_lowercase().replace("__", "_");
    let mut keys = Vec::new();
    leaves("", &serde_json::to_value(Config::default()).unwrap_or_default(), &mut |key, _| keys.push(key.to_owned()));
    let likeness = |key: &String| strsim::jaro_winkler(&name, &key.replace('.', "_"));
    let nearest = keys.iter().map(|key| (likeness(key), key)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (nearest.0 > 0.9).then(|| format!("{PREFIX}{}", nearest.1.replace('.', "__").to_ascii_uppercase()))
}

fn leaves(key: &str, value: &serde_json::Value, see: &mut impl FnMut(&str, &serde_json::Value)) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                leaves(&key, value, see);
            }
        }
        leaf => see(key, leaf),
    }
}

/// Takes out the deepest value on the way that exists. `false`: there is none, so reading again would not end.
fn remove(dict: &mut Dict, path: &[String]) -> bool {
    let Some((first, rest)) = path.split_first() else { return false };
    if let Some(Value::Dict(_, inner)) = dict.get_mut(first)
        && remove(inner, rest)
    {
        return true;
    }
    dict.remove(first).is_some()
}

/// Of a list, figment knows the whole alone.
fn origin(figment: &Figment, key: &str) -> Origin {
    let list = key.rsplit_once('.').filter(|(_, index)| index.bytes().all(|byte| byte.is_ascii_digit()));
    figment.find_metadata(list.map_or(key, |(list, _)| list)).map_or(Origin::Default, Origin::of)
}

impl Loaded {
    /// Every setting as it is in effect, and where it comes from.
    #[must_use]
    pub fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        let all = serde_json::to_value(&self.config).unwrap_or_default();
        leaves("", &all, &mut |key, value| {
            let from = origin(&self.figment, key);
            settings.push(Setting { key: key.to_owned(), value: value.clone(), from });
        });
        settings
    }
}

/// What one place says. Each variable and flag is a source of its own, so that each setting's origin is known exactly.
struct Source {
    origin: Origin,
    data: Map<Profile, Dict>,
}

impl Provider for Source {
    fn metadata(&self) -> Metadata {
        self.origin.metadata()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(self.data.clone())
    }
}

impl Source {
    fn of_file(origin: Origin, mut data: Map<Profile, Dict>) -> Self {
        for dict in data.values_mut() {
            if let Some(database) = dict.get_mut(DATABASE)
                && !matches!(database, Value::Dict(..))
            {
                *database = figment::util::nest("url", database.clone());
            }
        }
        Self { origin, data }
    }

    fn new(origin: Origin, key: &str, text: &str) -> Self {
        let key = if key == DATABASE { "database.url" } else { key };
        let value = if TEXTS.iter().any(|prefix| key.starts_with(prefix)) {
            Value::from(text)
        } else {
            text.parse().unwrap_or_else(|never: std::convert::Infallible| match never {})
        };
        let dict = figment::util::nest(key, value).into_dict().unwrap_or_default();
        Self { origin, data: Profile::Default.collect(dict) }
    }

    /// `SKALD_LIMITS__IN_MEMORY` is `limits.in_memory`.
    fn of_variable(name: &str, text: &str) -> Option<Self> {
        let key = name.strip_prefix(PREFIX)?;
        if OTHERS.contains(&name) || name.starts_with(SECRET) || is_service_link(key) {
            return None;
        }
        let key = key.to_ascii_lowercase().replace("__", ".");
        Some(Self::new(Origin::Variable(name.to_owned()), &key, text))
    }
}

/// Kubernetes gives every pod such variables for every Service around it, so one named `skald` must not count as wrong
/// configuration. No key of ours ends so.
fn is_service_link(rest: &str) -> bool {
    let rest = format!("_{rest}");
    rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || rest.ends_with("_PORT")
        || ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| rest.contains("_PORT_") && rest.contains(protocol))
}

impl Origin {
    fn metadata(&self) -> Metadata {
        // `of` reads back what stands here.
        Metadata::named(match self {
            Self::Default => "default".to_owned(),
            Self::File(path) => format!("file {path}"),
            Self::Variable(name) => format!("variable {name}"),
            Self::Flag(name) => format!("flag {name}"),
        })
    }

    fn of(metadata: &Metadata) -> Self {
        match metadata.name.split_once(' ') {
            Some(("file", path)) => Self::File(path.to_owned()),
            Some(("variable", name)) => Self::Variable(name.to_owned()),
            Some(("flag", name)) => Self::Flag(name.to_owned()),
            _ => Self::Default,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(text) | Self::Variable(text) | Self::Flag(text) => f.write_str(text),
        }
    }
}

impl serde::Serialize for Origin {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.origin)?;
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}

fn lines(faults: &[ConfigFault]) -> String {
    faults.iter().map(|fault| format!("\n  {fault}")).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn sources(
        file: &str,
        variables: &[(&str, &str)],
        flags: &[(&'static str, &'static str, &str)],
    ) -> (Sources, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("skald.toml");
        std::fs::write(&path, file).unwrap();
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let flags = flags.iter().map(|(flag, key, value)| (*flag, *key, (*value).to_owned())).collect();
        (Sources { file: Some(path), environment, flags }, dir)
    }

    fn show(
        file: &str,
        variables: &[(&str, &str)],
        flags: &[(&'static str, &'static str, &str)],
        keys: &[&str],
    ) -> String {
        let (sources, dir) = sources(file, variables, flags);
        let text = match load(&sources) {
            Ok(loaded) => loaded
                .settings()
                .iter()
                .filter(|setting| keys.iter().any(|key| setting.key.starts_with(key)))
                .map(|setting| format!("{} = {} ({})\n", setting.key, setting.value, setting.from))
                .collect(),
            Err(error) => error.to_string(),
        };
        text.replace(&format!("{}/", dir.path().display()), "")
    }

    #[expect(clippy::needless_pass_by_value, reason = "expect! makes values")]
    fn check(text: String, expected: Expect) {
        expected.assert_eq(&text);
    }

    #[test]
    fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
        let file = "database = \"sqlite://file.db\"\nlease = \"3s\"\n[limits]\nin_memory = 10\nper_destination = 20\n";
        let variables = [("SKALD_DATABASE", "sqlite://variable.db"), ("SKALD_LIMITS__IN_MEMORY", "11"), ("HOME", "/")];
        let flags = [("--database", "database", "sqlite://flag.db")];
        check(
            show(file, &variables, &flags, &["database", "lease", "limits", "drain"]),
            expect![[r#"
                database.max_connections = 14 (default)
                database.url = "sqlite://flag.db" (--database)
                drain = "25s" (default)
                lease = "3s" (skald.toml)
                limits.calls = 2048 (default)
                limits.connections = 10000 (default)
                limits.connections_per_peer = 5000 (default)
                limits.in_memory = 11 (SKALD_LIMITS__IN_MEMORY)
                limits.per_destination = 20 (skald.toml)
                limits.requests = 1024 (default)
                limits.waiting = 8000 (default)
            "#]],
        );
    }

    #[test]
    fn every_fault_is_named_with_its_place_and_what_was_meant() {
        let file =
            "lissten = \"127.0.0.1:1\"\nlease = 2\n[limits]\nin_memry = 1\n[services.stock]\nurl = \"ftp://x\"\n";
        let variables = [("SKALD_LOG__FORMAT", "xml"), ("SKALD_DATABSE", "x")];
        let flags = [("--listen", "listen", "nowhere")];
        check(
            show(file, &variables, &flags, &[]),
            expect![[r#"
                the configuration is wrong
                  SKALD_DATABSE: there is no such setting; did you mean SKALD_DATABASE__URL?
                  skald.toml: lease: invalid type: found signed int `2`, expected a duration such as "500ms", "3s" or "7d"
                  skald.toml: limits.in_memry: there is no such key; did you mean `in_memory`?
                  skald.toml: lissten: there is no such key; did you mean `listen`?
                  --listen: listen: invalid socket address syntax
                  SKALD_LOG__FORMAT: log.format: `xml` is none of: text, json
                  skald.toml: services.stock.url: `ftp://x` is not a URL that starts with http:// or https://"#]],
        );
    }

    #[test]
    fn a_variable_that_is_no_setting_is_passed_over_unless_it_is_nearly_one() {
        let stray = ["VERSION", "HOME", "BIN", "DIR", "DATA_DIR", "IMAGE", "USER", "ENV", "RELEASE", "BUILD__DATE"];
        let variables: Vec<_> = stray.iter().map(|name| (format!("SKALD_{name}"), "x".to_owned())).collect();
        let loaded = load(&Sources { environment: variables, ..Sources::default() }).unwrap();
        assert_eq!(loaded.warnings.len(), stray.len());
        assert_eq!(loaded.warnings[0].to_string(), "SKALD_BIN: is no setting, and is passed over");
        let near = [
            ("SKALD_LOG_LEVEL", "debug"),
            ("SKALD_DATABASES", "x"),
            ("SKALD_DATABASE_URL", "x"),
            ("SKALD_LIMIT__CALLS", "1"),
            ("SKALD_LISTENS", "x"),
        ];
        check(
            show("", &near, &[], &[]),
            expect![[r#"
                the configuration is wrong
                  SKALD_DATABASE_URL: there is no such setting; did you mean SKALD_DATABASE__URL?
                  SKALD_DATABASES: there is no such setting; did you mean SKALD_DATABASE__URL?
                  SKALD_LIMIT__CALLS: there is no such setting; did you mean SKALD_LIMITS__CALLS?
                  SKALD_LISTENS: there is no such setting; did you mean SKALD_LISTEN?
                  SKALD_LOG_LEVEL: there is no such setting; did you mean SKALD_LOG__LEVEL?"#]],
        );
    }

    #[test]
    fn the_database_is_a_url_or_a_section() {
        let file = "[database]\nurl = \"postgres://file/skald\"\nmax_connections = 20\n";
        let bare = "database = \"postgres://bare/skald\"\n";
        let variables = [("SKALD_DATABASE__MAX_CONNECTIONS", "7"), ("SKALD_DATABASE", "postgres://variable/skald")];
        check(
            show(file, &[], &[], &["database"]),
            expect![[r#"
            database.max_connections = 20 (skald.toml)
            database.url = "postgres://file/skald" (skald.toml)
        "#]],
        );
        check(
            show(bare, &variables[..1], &[], &["database"]),
            expect![[r#"
            database.max_connections = 7 (SKALD_DATABASE__MAX_CONNECTIONS)
            database.url = "postgres://bare/skald" (skald.toml)
        "#]],
        );
        check(
            show(file, &variables, &[], &["database"]),
            expect![[r#"
            database.max_connections = 7 (SKALD_DATABASE__MAX_CONNECTIONS)
            database.url = "postgres://variable/skald" (SKALD_DATABASE)
        "#]],
        );
        check(
            show("database = 5\n", &[("SKALD_DATABASE__MAX_CONNECTIONS", "2")], &[], &[]),
            expect![[r#"
            the configuration is wrong
              skald.toml: database.url: invalid type: found signed int `5`, expected a database URL
              SKALD_DATABASE__MAX_CONNECTIONS: database.max_connections: at least 5: for heartbeats, commits and reads"#]],
        );
        check(
            show("", &[("SKALD_DATABASE__MAX_CONNECTIONS", "2")], &[], &[]),
            expect![[r#"
            the configuration is wrong
              SKALD_DATABASE__MAX_CONNECTIONS: database.max_connections: at least 5: for heartbeats, commits and reads"#]],
        );
    }

    #[test]
    fn calls_are_signed_only_where_the_configuration_says_where_they_go() {
        let file = "[services.pay]\nsigning = [\"pay_key\"]\n";
        check(
            show(file, &[], &[], &[]),
            expect![[r#"
            the configuration is wrong
              skald.toml: services.pay.signing: only calls to a `url` that is set here are signed: elsewhere somebody could collect them"#]],
        );
    }

    #[test]
    fn contradictions_are_found_once_every_value_is_readable() {
        let file = "[retention]\njournals = \"100d\"\n[services.card]\nauth = { bearer = { secret = \"stripe\" } }\n";
        check(
            show(file, &[("SKALD_LEASE", "1ms")], &[], &[]),
            expect![[r#"
                the configuration is wrong
                  SKALD_LEASE: lease: `1ms` is too short to be renewed in time: 500ms is the least
                  skald.toml: retention.journals: tombstones (`90d`) must be kept at least as long as journals (`100d`)"#]],
        );
    }

    #[test]
    fn a_secret_goes_to_hosts_and_to_services_that_are_set_here() {
        let file = "[services.pay]\nurl = \"https://pay:8443/v2\"\n[services.card]\nmax_concurrency = 1\n[secrets.pay_token]\n";
        let set = format!("{file}services = [\"pay\"]\nhosts = [\"*.Pay.example\", \"http://localhost:1\"]\n");
        check(
            show(&set, &[("SKALD_SECRETS__OTHER__HOSTS", "[\"a.example\"]")], &[], &["secrets."]),
            expect![[r#"
            secrets.other.hosts = ["https://a.example"] (SKALD_SECRETS__OTHER__HOSTS)
            secrets.other.services = [] (default)
            secrets.pay_token.hosts = ["https://*.pay.example","http://localhost:1"] (skald.toml)
            secrets.pay_token.services = ["pay"] (skald.toml)
        "#]],
        );
        let alone = [("SKALD_SECRETS__OTHER__HOSTS", "a.example")];
        check(
            show("", &alone, &[], &[]),
            expect![[r#"
            the configuration is wrong
              SKALD_SECRETS__OTHER__HOSTS: secrets.other.hosts: invalid type: found string "a.example", expected a list such as ["a", "b"]"#]],
        );
        let wrong = format!("{file}services = [\"card\", \"none\"]\n[secrets.other]\nhosts = [\"pay/charge\"]\n");
        check(
            show(&wrong, &[], &[], &[]),
            expect![[r#"
            the configuration is wrong
              skald.toml: secrets.other.hosts.0: `pay/charge` is no destination: write `host`, `host:port`, `*.domain` or `http://host:port`
              skald.toml: secrets.pay_token.services: `card` is no service that this configuration sets the `url` of
              skald.toml: secrets.pay_token.services: `none` is no service that this configuration sets the `url` of"#]],
        );
    }

    #[test]
    fn nothing_secret_is_shown() {
        let file = "database = \"postgres://skald:hunter2@db/skald?password=hunter2&sslmode=require\"\n[services.card]\nheaders = { x-key = \"hunter2\" }\nauth = { bearer = { secret = \"stripe\" } }\n";
        let shown = show(file, &[("SKALD_CALLBACK_KEY", "00123")], &[], &["database", "callback", "services"]);
        check(
            shown,
            expect![[r#"
                callback_key = "[redacted]" (SKALD_CALLBACK_KEY)
                database.max_connections = 14 (default)
                database.url = "postgres://skald:***@db/skald?sslmode=require&password=***" (skald.toml)
                services.card.auth.bearer.secret = "stripe" (skald.toml)
                services.card.headers.x-key = "[redacted]" (skald.toml)
                services.card.max_concurrency = null (default)
                services.card.signing = [] (default)
                services.card.url = null (default)
            "#]],
        );
    }

    #[test]
    fn a_key_is_read_as_it_is_written_or_from_its_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("key"), "from a file\n").unwrap();
        let file = format!("callback_key = {{ file = \"{}\" }}\n", dir.path().join("key").display());
        let (filed, _dir) = sources(&file, &[], &[]);
        assert_eq!(load(&filed).unwrap().config.callback_key.unwrap().expose(), "from a file");
        let (written, _dir) = sources("", &[("SKALD_CALLBACK_KEY", "00123")], &[]);
        assert_eq!(load(&written).unwrap().config.callback_key.unwrap().expose(), "00123");
    }

    #[test]
    fn opentelemetrys_variable_names_the_collector_unless_ours_does() {
        let (standard, ours) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "SKALD_TELEMETRY__OTLP_ENDPOINT");
        let both = [(ours, "http://ours:4317"), (standard, "http://standard:4317")];
        for (variables, host) in [(&both[..], "ours"), (&both[1..], "standard")] {
            let (sources, _dir) = sources("", variables, &[]);
            let endpoint = load(&sources).unwrap().config.telemetry.otlp_endpoint.unwrap();
            assert!(endpoint.as_str().starts_with(&format!("http://{host}:4317")), "{}", endpoint.as_str());
        }
        let (empty, _dir) = sources("", &[(standard, "")], &[]);
        assert!(load(&empty).unwrap().config.telemetry.otlp_endpoint.is_none());
        let (certified, _dir) = sources("", &[("OTEL_EXPORTER_OTLP_CERTIFICATE", "ca.pem")], &[]);
        assert_eq!(
            load(&certified).unwrap().config.telemetry.otlp_certificate.as_deref(),
            Some(std::path::Path::new("ca.pem"))
        );
    }

    #[test]
    fn what_kubernetes_and_the_command_line_put_into_the_environment_is_no_fault() {
        let variables = [
            ("SKALD_URL", "http://x"),
            ("SKALD_TOKEN", "t"),
            ("SKALD_CONFIG", "skald.toml"),
            ("SKALD_SECRET_STRIPE", "x"),
            ("SKALD_SERVICE_HOST", "10.0.0.1"),
            ("SKALD_SERVICE_PORT", "7410"),
            ("SKALD_SERVICE_PORT_HTTP", "7410"),
            ("SKALD_PORT", "tcp://10.0.0.1:7410"),
            ("SKALD_PORT_7410_TCP_ADDR", "10.0.0.1"),
            ("SKALD_POSTGRES_PORT_5432_TCP_PROTO", "tcp"),
        ];
        check(
            show("", &variables, &[], &["listen"]),
            expect![[r#"
            listen = "127.0.0.1:7410" (default)
        "#]],
        );
    }

    #[test]
    fn a_file_that_is_no_toml_or_not_there_is_said_so() {
        check(
            show("listen = ", &[], &[], &[]),
            expect![[r#"
                the configuration is wrong
                  skald.toml: TOML parse error at line 1, column 10
                  |
                1 | listen = 
                  |          ^"#]],
        );
        let missing = Sources { file: Some("/nowhere/skald.toml".into()), ..Sources::default() };
        let error = load(&missing).unwrap_err();
        assert!(error.to_string().contains("/nowhere/skald.toml"), "{error}");
    }
}
