//! What a request asks beside its body: path, query, `Prefer`, cursors.

use std::{borrow::Cow, str::FromStr, time::Duration};

use axum::extract::{FromRequestParts, Path};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, request::Parts};
use skald_engine::limit;
use skald_protocol::{Gid, Timestamp};

use super::{error::Error, json::suggest};

/// `{gid}` of the path.
pub(super) struct InPath(pub(super) Gid);

impl<S: Send + Sync> FromRequestParts<S> for InPath {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        // Undecodable text is no gid either.
        let text =
            Path::<String>::from_request_parts(parts, state).await.map_or_else(|_| String::new(), |Path(text)| text);
        Ok(Self(Gid::new(text)?))
    }
}

/// `{name}` and, where there is one, `{version}` of the path; text that cannot be decoded is empty.
pub(super) struct InPaths(pub(super) String, pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for InPaths {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let segments = Path::<Vec<String>>::from_request_parts(parts, state).await;
        let mut segments = segments.map_or_else(|_| Vec::new(), |Path(segments)| segments).into_iter();
        Ok(Self(segments.next().unwrap_or_default(), segments.next().unwrap_or_default()))
    }
}

/// The query's parameters, each of which is taken out once; what is left at the end is unknown.
pub(super) struct Query<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    asked: Vec<&'static str>,
}

impl<'a> Query<'a> {
    pub(super) fn of(parts: &'a Parts) -> Self {
        let query = parts.uri.query().unwrap_or_default();
        Self { pairs: url::form_urlencoded::parse(query.as_bytes()).collect(), asked: Vec::new() }
    }

    /// Every value given for `name`.
    pub(super) fn all(&mut self, name: &'static str) -> Vec<Cow<'a, str>> {
        self.asked.push(name);
        let (taken, left) = std::mem::take(&mut self.pairs).into_iter().partition(|(key, _)| key == name);
        self.pairs = left;
        let taken: Vec<_> = taken;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    pub(super) fn one(&mut self, name: &'static str) -> Result<Option<Cow<'a, str>>, Error> {
        let mut all = self.all(name);
        match all.len() {
            0 | 1 => Ok(all.pop()),
            _ => Err(invalid(name, "is given twice")),
        }
    }

    pub(super) fn parsed<T: FromStr>(&mut self, name: &'static str) -> Result<Option<T>, Error>
    where
        T::Err: std::fmt::Display,
    {
        self.one(name)?.map(|text| text.parse().map_err(|error: T::Err| invalid(name, &error.to_string()))).transpose()
    }

    /// How many items a page may have, from 1 to `most`.
    pub(super) fn limit(&mut self, name: &'static str, default: usize, most: usize) -> Result<usize, Error> {
        match self.one(name)? {
            None => Ok(default),
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=most).contains(limit))
                .ok_or_else(|| invalid(name, &format!("is a whole number from 1 to {most}"))),
        }
    }

    pub(super) fn flag(&mut self, name: &'static str) -> Result<bool, Error> {
        match self.one(name)?.as_deref() {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(_) => Err(invalid(name, "is `true` or `false`")),
        }
    }

    /// Parameters `<prefix><key>`, as (key, value).
    pub(super) fn prefixed(&mut self, prefix: &'static str) -> Result<Vec<(String, String)>, Error> {
        let mut found: Vec<(String, String)> = Vec::new();
        for (name, value) in std::mem::take(&mut self.pairs) {
            match name.strip_prefix(prefix) {
                Some("") => return Err(invalid(&name, "lacks the label's key")),
                Some(key) if found.iter().any(|(known, _)| known == key) => {
                    return Err(invalid(&name, "is given twice"));
                }
                Some(key) => found.push((key.to_owned(), value.into_owned())),
                None => self.pairs.push((name, value)),
            }
        }
        Ok(found)
    }

    /// Unknown parameters are refused: a misspelt filter must not answer with everything.
    pub(super) fn end(self) -> Result<(), Error> {
        match self.pairs.first() {
            None => Ok(()),
            Some((name, _)) => {
                Err(invalid(name, &format!("is unknown; {}", suggest(name, self.asked.iter().copied()))))
            }
        }
    }
}

pub(super) fn invalid(name: &str, message: &str) -> Error {
    Error::InvalidQuery { name: name.to_owned(), message: message.to_owned() }
}

/// `Prefer: wait=N`, no longer than the limit; the first one counts. A preference that cannot be understood is passed over
/// (RFC 7240, 2): `Preference-Applied` tells which was.
pub(super) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let wait = preferences.flat_map(|value| value.split(',')).find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"'))
    });
    let seconds = wait.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty())?;
    // More digits than a number has are more seconds than the limit.
    Some(Duration::from_secs(seconds.parse().unwrap_or(u64::MAX)).min(limit::PREFER_WAIT))
}

/// Opaque to whoever is given it; of no worth in a list of another kind.
pub(super) fn cursor(kind: &'static str, place: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{kind}{place}"))
}

pub(super) fn list_cursor(created_at: Timestamp, gid: &Gid) -> String {
    cursor("t:", &format!("{}:{gid}", created_at.0))
}

pub(super) fn read_list_cursor(cursor: &str) -> Result<(Timestamp, Gid), Error> {
    let text = read_cursor(cursor, "t:")?;
    let (created_at, gid) = text.split_once(':').ok_or(Error::BadCursor)?;
    Ok((Timestamp(created_at.parse().map_err(|_| Error::BadCursor)?), Gid::new(gid).map_err(|_| Error::BadCursor)?))
}

pub(super) fn branch_cursor(next: usize) -> String {
    cursor("b:", &next.to_string())
}

pub(super) fn read_branch_cursor(cursor: &str) -> Result<usize, Error> {
    let next: u32 = read_cursor(cursor, "b:")?.parse().map_err(|_| Error::BadCursor)?;
    usize::try_from(next).map_err(|_| Error::BadCursor)
}

pub(super) fn read_cursor(cursor: &str, kind: &'static str) -> Result<String, Error> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).map_err(|_| Error::BadCursor)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::BadCursor)?;
    text.strip_prefix(kind).map(str::to_owned).ok_or(Error::BadCursor)
}

/// `<seq>.<index>`, the place of a public event.
pub(super) fn event_place(id: &str) -> Option<(u64, usize)> {
    let (seq, index) = id.split_once('.')?;
    Some((seq.parse().ok()?, index.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str) -> Parts {
        http::Request::get(uri).body(()).unwrap().into_parts().0
    }

    fn prefer(text: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static("prefer"), http::HeaderValue::from_static(text))])
    }

    #[test]
    fn cursors_read_back_and_others_are_refused() {
        let gid = Gid::new("tenant:a.b~1").unwrap();
        let cursor = list_cursor(Timestamp(1_700_000_000_123), &gid);
        assert_eq!(read_list_cursor(&cursor).unwrap(), (Timestamp(1_700_000_000_123), gid));
        assert_eq!(read_branch_cursor(&branch_cursor(7)).unwrap(), 7);
        for bad in ["", "!", "AAAA", "dDo", &branch_cursor(1), &cursor[1..]] {
            assert!(read_list_cursor(bad).is_err(), "{bad}");
        }
        for bad in ["", "b:1", &cursor, &BASE64_URL_SAFE_NO_PAD.encode("b:-1")] {
            assert!(read_branch_cursor(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wait_is_honoured_up_to_the_limit_and_passed_over_where_it_is_no_number() {
        assert_eq!(wait(&HeaderMap::new()), None);
        assert_eq!(wait(&prefer("respond-async, wait=3")), Some(Duration::from_secs(3)));
        assert_eq!(wait(&prefer("respond-async, Wait=\"3\";x=y")), Some(Duration::from_secs(3)));
        for long in ["wait=100000", "wait=99999999999999999999999"] {
            assert_eq!(wait(&prefer(long)), Some(limit::PREFER_WAIT));
        }
        for other in ["return=minimal", "wait", "wait=", "wait=soon", "wait=-1", "wait=+1", "wait=30s", "wait=1.5"] {
            assert_eq!(wait(&prefer(other)), None, "{other}");
        }
    }

    #[test]
    fn a_misspelt_parameter_is_refused_with_what_was_meant() {
        let parts = parts("/x?statuss=running");
        let mut query = Query::of(&parts);
        assert!(query.all("status").is_empty());
        let error = query.end().unwrap_err().to_string();
        assert!(error.contains("did you mean `status`?"), "{error}");
    }

    #[test]
    fn pages_have_one_to_the_most_items() {
        for (text, expected) in [
            ("/x", Some(50)),
            ("/x?limit=1", Some(1)),
            ("/x?limit=0", None),
            ("/x?limit=501", None),
            ("/x?limit=a", None),
        ] {
            let parts = parts(text);
            assert_eq!(Query::of(&parts).limit("limit", 50, 500).ok(), expected, "{text}");
        }
        let parts = parts("/x?limit=1&limit=2");
        assert!(Query::of(&parts).limit("limit", 50, 500).is_err());
    }
}
