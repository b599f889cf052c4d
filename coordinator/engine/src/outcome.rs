//! What an answer means by a definition's own rules (docs/workflows.md, What an answer means).

use std::collections::BTreeMap;

use skald_protocol::Json;

use crate::{
    cel::Meter,
    journal::Error,
    path::{Path, Scope},
    plan::{Means, Rule},
    value::{Map, Value},
};

/// Characters of a rule's message.
const LONGEST_MESSAGE: usize = 1_024;

/// What a rule says of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged<'r> {
    pub is: Means,
    code: Option<&'r str>,
    message: Option<String>,
}

impl Judged<'_> {
    /// What the answer itself says, but for what the rule says better.
    #[must_use]
    pub fn error(self, own: Error) -> Error {
        Error { code: self.code.map_or(own.code, str::to_owned), message: self.message.or(own.message) }
    }
}

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
    pub fn judge<'r>(&self, rules: &'r [Rule]) -> Option<Judged<'r>> {
        let mut meter = Meter::new();
        let holds = |rule: &&Rule| rule.when.render(self, &mut meter).is_ok_and(|value| value.text() == "true");
        let rule = rules.iter().find(holds)?;
        Some(Judged { is: rule.is, code: rule.error.as_deref(), message: self.message(rule, &mut meter) })
    }

    /// A message that reads what is absent is none: the rule holds all the same.
    fn message(&self, rule: &Rule, meter: &mut Meter) -> Option<String> {
        let text = rule.message.as_ref()?.render_text(self, meter, |text| text).ok()?;
        Some(match text.char_indices().nth(LONGEST_MESSAGE) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        })
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
        let when = Template::compile(json!(format!("${{{when}}}"))).expect("an expression");
        Rule { when, is, error: None, message: None }
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
            Answered::new(status, headers, body.as_ref()).judge(&rules).map(|judged| judged.is)
        };
        assert_eq!(judged(402, None, None), Some(Means::Refused));
        assert_eq!(judged(402, Some("busy"), Some("7")), Some(Means::Unsent));
        assert_eq!(judged(402, Some("busy"), Some(r#"{"state": "late"}"#)), Some(Means::Unknown));
        assert_eq!(judged(404, None, Some(r#"{"state": 5}"#)), Some(Means::Succeeded));
        assert_eq!(judged(200, None, None), None);
    }

    #[test]
    fn a_rule_tells_a_refusal_in_its_own_words_and_the_answer_s_where_it_has_none() {
        let message = |text: &str| Template::compile(json!(text)).expect("a template");
        let told = |rule: Rule, body: &str| {
            let body = Json::from_text(body.to_owned()).expect("JSON");
            let rules = [rule];
            let judged = Answered::new(402, BTreeMap::new(), Some(&body)).judge(&rules).expect("a rule");
            judged.error(Error::new("refused", "402 Payment Required"))
        };
        let rule = rule("response.status == 402", Means::Refused);
        assert_eq!(told(rule.clone(), "{}"), Error::new("refused", "402 Payment Required"));
        let card = Rule { message: Some(message("${response.body.brand} said no")), ..rule };
        let declined = Rule { error: Some("card_declined".to_owned()), ..card.clone() };
        assert_eq!(told(card.clone(), r#"{"brand": "Visa"}"#), Error::new("refused", "Visa said no"));
        assert_eq!(told(declined.clone(), r#"{"brand": "Visa"}"#), Error::new("card_declined", "Visa said no"));
        assert_eq!(told(declined, "{}"), Error::new("card_declined", "402 Payment Required"));
        let long = told(card, &json!({"brand": "x".repeat(5_000)}).to_string()).message.expect("a message");
        assert_eq!(long.chars().count(), LONGEST_MESSAGE + 1);
    }
}
