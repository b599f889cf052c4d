//! What an answer means by a definition's own rules (docs/workflows.md, What an answer means).

use std::collections::BTreeMap;

use skald_protocol::Json;

use crate::{
    cel::Meter,
    path::{Path, Scope},
    plan::{Means, Rule},
    value::{Map, Value},
};

/// An answer as rules read it: `response.status`, `response.headers` (names in lower case), `response.body`.
#[derive(Debug, Clone)]
pub struct Answered {
    response: Value,
}

impl Answered {
    /// `body`: absent where it was too large or is no JSON.
    #[must_use]
    pub fn new(status: u16, headers: BTreeMap<String, String>, body: Option<&Json>) -> Self {
        let headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), Value::from(value)));
        let mut response = Map::new();
        response.insert("status".to_owned(), status.into());
        response.insert("headers".to_owned(), Value::Object(headers.collect()));
        // One that cannot be read is as good as none.
        if let Some(body) = body.and_then(|body| Value::of(body).ok()) {
            response.insert("body".to_owned(), body);
        }
        Self { response: Value::Object(response) }
    }

    /// The first rule whose condition is true. One that cannot be evaluated, for want of the data that it reads, is not.
    #[must_use]
    pub fn judge<'r>(&self, rules: &'r [Rule]) -> Option<(Means, Option<&'r str>)> {
        let mut meter = Meter::new();
        let holds = |rule: &&Rule| rule.when.render(self, &mut meter).is_ok_and(|value| value.text() == "true");
        rules.iter().find(holds).map(|rule| (rule.is, rule.error.as_deref()))
    }
}

impl Scope for Answered {
    fn read(&self, path: &Path) -> Result<Value, String> {
        match path.root.as_str() {
            "response" => Path::walk(&path.segments, &self.response),
            other => Err(format!("there is no `{other}`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::template::Template;

    fn rule(when: &str, is: Means) -> Rule {
        Rule { when: Template::compile(json!(format!("${{{when}}}"))).expect("an expression"), is, error: None }
    }

    #[test]
    fn the_first_rule_that_holds_decides_and_missing_data_holds_nothing() {
        let rules = [
            rule("response.body.state == 'late'", Means::Unknown),
            rule("response.headers['x-state'] == 'busy'", Means::Unsent),
            rule("response.status == 402", Means::Refused),
            rule("response.status > 400", Means::Succeeded),
        ];
        let judged = |status, header: Option<&str>, body: Option<&str>| {
            let headers = header.into_iter().map(|value| ("X-State".to_owned(), value.to_owned())).collect();
            let body = body.map(|body| Json::from_text(body.to_owned()).expect("JSON"));
            Answered::new(status, headers, body.as_ref()).judge(&rules).map(|(is, _)| is)
        };
        assert_eq!(judged(402, None, None), Some(Means::Refused));
        assert_eq!(judged(402, Some("busy"), Some("7")), Some(Means::Unsent));
        assert_eq!(judged(402, Some("busy"), Some(r#"{"state": "late"}"#)), Some(Means::Unknown));
        assert_eq!(judged(404, None, Some(r#"{"state": 5}"#)), Some(Means::Succeeded));
        assert_eq!(judged(200, None, None), None);
    }
}
