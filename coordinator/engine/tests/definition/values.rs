//! E004: values that say something impossible.

use expect_test::expect;
use skald_engine::definition::compile;

use super::*;

#[test]
fn e004_bad_names_versions_labels_and_words() {
    let definition = definition("", &saga("a"));
    for (name, version) in [("Order", "1.0"), ("-a", "v1.0.0"), ("a_b", "1.0.0.0"), ("", "")] {
        let definition =
            definition.replace(r#""name":"d","version":"1.0.0""#, &format!(r#""name":"{name}","version":"{version}""#));
        assert_eq!(
            compile(&definition).unwrap_err().iter().map(|fault| fault.code.as_str()).collect::<Vec<_>>(),
            ["E004"; 2]
        );
    }
    check(
        &definition.replace(r#""name":"d","version":"1.0.0""#, r#""name":"Order","version":"1.0""#),
        expect![[r#"
        E004 /name `Order` is not a workflow's name: lower-case letters, digits and `-`, at most 63
        E004 /version `1.0` is not a version
          Write it as SemVer: 1.0.0.
    "#]],
    );
    let labels: Vec<_> = (0..17).map(|n| format!("\"l{n}\":\"\"")).collect();
    check_top(
        &format!(r#","labels":{{{}}}"#, labels.join(",")),
        expect![[r#"
        E004 /labels 17 labels; at most 16 are taken
    "#]],
    );
    check_top(
        &format!(r#","labels":{{"":"a","{}":"b","c":"{}"}}"#, "k".repeat(64), "v".repeat(256)),
        expect![[r#"
        E004 /labels/ a label's name has 1 to 63 characters
        E004 /labels/c a label's value has at most 255 characters
        E004 /labels/kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk a label's name has 1 to 63 characters
    "#]],
    );
    check_top(
        r#","on_timeout":"compenste","retries":{"a b":{}}"#,
        expect![[r#"
        E004 /retries/a b `a b` is not a policy's name: [A-Za-z][A-Za-z0-9_-]*, at most 63
        E004 /on_timeout `compenste` is none of `compensate`, `suspend`
          Did you mean `compensate`?
    "#]],
    );
    check_steps(
        &saga("Reserve"),
        expect![[r#"
        E004 /steps/0/name `Reserve` is not a step's name: [a-z][a-z0-9_]*, at most 256
    "#]],
    );
    check_steps(
        &saga("a").replacen('{', r#"{"role":"compensateable","#, 1),
        expect![[r#"
        E004 /steps/0/role `compensateable` is none of `compensatable`, `pivot`, `retriable`, `read_only`
          Did you mean `compensatable`?
    "#]],
    );
}

#[test]
fn e004_bad_durations_and_numbers() {
    check_top(
        r#","timeout":"5 s""#,
        expect![[r#"
        E004 /timeout `5 s` is not a duration
          Write one whole number and a unit: 5s.
    "#]],
    );
    check_top(
        r#","timeout":"366d","defaults":{"timeout":"6m","settle":{"timeout":"0s"}}"#,
        expect![[r#"
        E004 /defaults/timeout `6m` is longer than 5m, the most that is taken
        E004 /defaults/settle/timeout a duration must be longer than nothing
        E004 /timeout `366d` is longer than 365d, the most that is taken
    "#]],
    );
    check_steps(
        &action(r#""path":"/","timeout":"301s","async":{"timeout":"400d","heartbeat":"1w"}"#),
        expect![[r#"
        E004 /steps/0/action/timeout `301s` is longer than 5m, the most that is taken
        E004 /steps/0/action/async/timeout `400d` is longer than 365d, the most that is taken
        E004 /steps/0/action/async/heartbeat `1w` is not a duration
          Write a whole number and a unit: 500ms, 3s, 15m, 24h, 7d.
    "#]],
    );
    check_steps(
        &action(
            r#""path":"/","retry":{"max_attempts":1001,"backoff_coefficient":0.5,"initial_interval":"3s","max_interval":"2s","jitter":"half"}"#,
        ),
        expect![[r#"
            E004 /steps/0/action/retry/max_attempts `1001` is not a whole number from 1 to 1000
            E004 /steps/0/action/retry/backoff_coefficient `0.5` is not a number from 1 to 100
            E004 /steps/0/action/retry/jitter `half` is none of `full`, `none`
            E004 /steps/0/action/retry `initial_interval` is longer than `max_interval`
        "#]],
    );
    check_steps(
        &action(r#""path":"/","retry":{"max_attempts":0}"#),
        expect![[r#"
        E004 /steps/0/action/retry/max_attempts `0` is not a whole number from 1 to 1000
    "#]],
    );
    check_steps(
        &action(r#""path":"/","retry":{"max_attempts":2.5}"#),
        expect![[r#"
        E004 /steps/0/action/retry/max_attempts `2.5` is not a whole number from 1 to 1000
    "#]],
    );
}

#[test]
fn e004_unlimited_attempts_need_a_deadline() {
    check_steps(
        &action(r#""path":"/","retry":{"max_attempts":"unlimited"}"#),
        expect![[r#"
        E004 /steps/0/action/retry attempts before the commit are unlimited only in a transaction with a `timeout`
          Add a `timeout` to the definition, or a `max_attempts`.
    "#]],
    );
    let step = saga("a").replacen('{', r#"{"retry":"ever","#, 1);
    let ever = r#","retries":{"ever":{"max_attempts":"unlimited"}}"#;
    check(
        &definition(ever, &step),
        expect![[r#"
        E004 /steps/0/retry attempts before the commit are unlimited only in a transaction with a `timeout`
          Add a `timeout` to the definition, or a `max_attempts`.
    "#]],
    );
    compile(&definition(&format!("{ever},\"timeout\":\"1h\""), &step)).unwrap();
}

#[test]
fn e004_bad_urls_paths_methods_and_headers() {
    for url in ["stock:8080", "/x", "ftp://a/", "http://", "http://u:p@a/", "http://a/#f", "http://a/ b"] {
        let faults = compile(&definition("", &action(&format!(r#""url":"{url}""#)))).unwrap_err();
        assert_eq!((faults.len(), faults[0].code.as_str()), (1, "E004"), "{url}");
    }
    for url in ["HTTP://stock/x", "Https://stock:8080/${input.id}"] {
        compile(&definition("", &action(&format!(r#""url":"{url}""#)))).unwrap();
    }
    check_steps(
        &action(r#""url":"http://${input.host}/x""#),
        expect![[r#"
        E004 /steps/0/action/url `http://${input.host}/x` is not an absolute http or https URL
          Write scheme and host out; expressions may follow the first `/`.
    "#]],
    );
    check_steps(
        &action(r#""path":"x y""#),
        expect![[r#"
        E004 /steps/0/action/path the path `x y` must start with `/`
    "#]],
    );
    check_steps(
        &action(r#""path":"/x#y""#),
        expect![[r#"
        E004 /steps/0/action/path the path `/x#y` holds a space, a control character or `#`
    "#]],
    );
    check_steps(
        &action(r#""path":"/","method":"post""#),
        expect![[r#"
        E004 /steps/0/action/method `post` is none of `GET`, `HEAD`, `POST`, `PUT`, `PATCH`, `DELETE`, `OPTIONS`
          Did you mean `POST`?
    "#]],
    );
    check_steps(
        &action(
            r#""path":"/","headers":{"a b":"c","X-A":"1","x-A":"2","X-b":"3","Skald-Branch":"x","Idempotency-Key":"y","ok":"a\nb"}"#,
        ),
        expect![[r#"
            E004 /steps/0/action/headers/x-A the header `x-A` stands here twice: case does not matter
            E004 /steps/0/action/headers/Idempotency-Key the header `Idempotency-Key` is the coordinator's own
            E004 /steps/0/action/headers/Skald-Branch the header `Skald-Branch` is the coordinator's own
            E004 /steps/0/action/headers/a b `a b` is not a header's name
            E004 /steps/0/action/headers/ok a header's value holds visible ASCII characters and spaces alone
        "#]],
    );
    let services = r#"{"s":{"url":"stock:8080"},"9":{"url":"http://a/?q=1"}}"#;
    check(
        &definition("", &saga("a")).replace(r#"{"s":{"url":"http://s"}}"#, services),
        expect![[r#"
        E004 /services/9 `9` is not a service's name: [A-Za-z][A-Za-z0-9_-]*, at most 63
        E004 /services/9/url `http://a/?q=1` is not an absolute http or https URL
          Write scheme, host and path alone: http://stock:8080/api.
        E004 /services/s/url `stock:8080` is not an absolute http or https URL
          Write scheme, host and path alone: http://stock:8080/api.
    "#]],
    );
}

#[test]
fn e004_services_say_what_is_wrong_with_them() {
    let services = |service: &str| definition("", &saga("a")).replace(r#"{"url":"http://s"}"#, service);
    check(
        &services(
            r#"{"url":"http://s","headers":{"A":1,"B":{"secret":"x y"},"Host":"z"},"timeout":"1h","max_concurrency":0}"#,
        ),
        expect![[r#"
            E002 /services/s/headers/A expected a string or {"secret": name}, found a number
            E004 /services/s/headers/B/secret `x y` is not a secret's name
            E004 /services/s/headers/Host the header `Host` is the coordinator's own
            E004 /services/s/timeout `1h` is longer than 5m, the most that is taken
            E004 /services/s/max_concurrency `0` is not a whole number from 1 to 4294967295
        "#]],
    );
    check(
        &services(r#"{"url":"http://s","auth":{"bearer":"token"}}"#),
        expect![[r#"
        E002 /services/s/auth/bearer expected a secret, found a string
          Write {"secret": name}; the value is in the server's configuration.
    "#]],
    );
    check(
        &services(r#"{"url":"http://s","auth":{}}"#),
        expect![[r#"
        E002 /services/s/auth `auth` is exactly one of `bearer`, `basic`, `header`
    "#]],
    );
    check(
        &services(r#"{"url":"http://s","auth":{"bearer":{"secret":"a"},"basic":{}}}"#),
        expect![[r#"
        E002 /services/s/auth `auth` is exactly one of `bearer`, `basic`, `header`
    "#]],
    );
    check(
        &services(r#"{"url":"http://s","auth":{"basic":{"user":"x","password":{"secret":"a"}}}}"#),
        expect![[r#"
        E002 /services/s/auth/basic `username` is missing
        E002 /services/s/auth/basic/user unknown field `user`
    "#]],
    );
    check(
        &services(r#"{"url":"http://s","auth":{"header":{"name":"a:b","value":{"secrets":"a"}}}}"#),
        expect![[r#"
        E004 /services/s/auth/header/name `a:b` is not a header's name
        E002 /services/s/auth/header/value `secret` is missing
        E002 /services/s/auth/header/value/secrets unknown field `secrets`
          Did you mean `secret`?
    "#]],
    );
    check(
        &services(r#"{"auth":{"beaver":{"secret":"a"}}}"#),
        expect![[r#"
        E002 /services/s `url` is missing
        E002 /services/s/auth/beaver unknown field `beaver`
          Did you mean `bearer`?
    "#]],
    );
}

#[test]
fn e004_a_schema_that_is_none() {
    check_top(
        r#","input":{"type":"strin","properties":[]}"#,
        expect![[r#"
            E004 /input/properties not a JSON Schema (2020-12): [] is not of type "object"
            E004 /input/type `strin` is no type of JSON Schema
              The types are null, boolean, integer, number, string, array and object.
        "#]],
    );
    check_top(
        r#","input":{"properties":{"a":{"pattern":"(?=x)"}}}"#,
        expect![[r#"
        E004 /input/properties/a/pattern not a JSON Schema (2020-12): "(?=x)" is not a "regex"
    "#]],
    );
    check_top(
        r#","input":{"$ref":"https://example.com/schema.json"}"#,
        expect![[r#"
        E004 /input/$ref the reference `https://example.com/schema.json` leads out of the schema
          Write it as #/$defs/name.
    "#]],
    );
    check_top(
        r##","input":{"$ref":"#/$defs/missing"}"##,
        expect![[r#"
        E004 /input not a JSON Schema (2020-12): Pointer '/$defs/missing' does not exist
    "#]],
    );
}

#[test]
fn e004_on_exhausted_where_it_can_mean_nothing() {
    check_steps(
        &action(r#""path":"/","on_exhausted":"ignore""#),
        expect![[r#"
        E004 /steps/0/action/on_exhausted here `on_exhausted` can only be `compensate`, `suspend`
    "#]],
    );
    check_steps(
        &saga("a").replace(r#""compensate":{"#, r#""compensate":{"on_exhausted":"compensate","#),
        expect![[r#"
            E004 /steps/0/compensate/on_exhausted here `on_exhausted` can only be `suspend`
        "#]],
    );
    check_steps(
        &role("r", "retriable").replace(r#""path":"/""#, r#""path":"/","on_exhausted":"compensate""#),
        expect![[r#"
            E004 /steps/0/action/on_exhausted here `on_exhausted` can only be `suspend`, `ignore`
        "#]],
    );
}

#[test]
fn e004_a_schema_whose_check_has_no_bound() {
    check_top(
        r##","input":{"allOf":[{"properties":{"a":{"$ref":"#"}}}]}"##,
        expect![[r#"
            E004 /input/allOf/0/properties/a/$ref a schema that refers to itself is not taken: write out the levels you need
        "#]],
    );
    check_top(
        r##","input":{"$ref":"#/$defs/a","$defs":{"a":{"items":{"$ref":"#/$defs/b"}},"b":{"not":{"$ref":"#/$defs/a"}}}}"##,
        expect![[r#"
            E004 /input/$defs/b/not/$ref a schema that refers to itself is not taken: write out the levels you need
        "#]],
    );
    let mut doubled: Vec<_> = (0..40)
        .map(|n| format!(r##""a{n}":{{"anyOf":[{{"$ref":"#/$defs/a{0}"}},{{"$ref":"#/$defs/a{0}"}}]}}"##, n + 1))
        .collect();
    doubled.push(r#""a40":{"type":"string"}"#.to_owned());
    check_top(
        &format!(r##","input":{{"$ref":"#/$defs/a0","$defs":{{{}}}}}"##, doubled.join(",")),
        expect![[r#"
        E004 /input the schema comes to more than 50000 schemas, its references followed
    "#]],
    );
    let chain: Vec<_> = (0..1000).map(|n| format!(r##""a{n}":{{"$ref":"#/$defs/a{}"}}"##, n + 1)).collect();
    let faults = compile(&definition(
        &format!(r##","input":{{"$ref":"#/$defs/a0","$defs":{{{}}}}}"##, chain.join(",")),
        &saga("a"),
    ))
    .unwrap_err();
    assert!(faults[0].message.contains("more than 200 schemas deep"), "{faults:?}");
    let patterns: Vec<_> = (0..51).map(|n| format!(r#""p{n}":{{"pattern":"a"}}"#)).collect();
    check_top(
        &format!(r#","input":{{"properties":{{{}}}}}"#, patterns.join(",")),
        expect![[r#"
        E004 /input 51 patterns; at most 50 are taken
    "#]],
    );
    check_top(
        r#","input":{"properties":{"a":{"pattern":"(\\w{500}){50}"}}}"#,
        expect![[r#"
        E004 /input/properties/a/pattern not a JSON Schema (2020-12): "(\\w{500}){50}" is not a "regex"
    "#]],
    );
}

#[test]
fn e004_a_schema_that_leads_elsewhere() {
    check_top(
        r#","input":{"$schema":"http://json-schema.org/draft-07/schema#"}"#,
        expect![[r#"
        E004 /input/$schema only JSON Schema 2020-12 is read, not `"http://json-schema.org/draft-07/schema#"`
          Write https://json-schema.org/draft/2020-12/schema, or leave it out.
    "#]],
    );
    check_top(
        r##","input":{"properties":{"$id":{"$id":"x","$ref":"#x"},"b":{"$dynamicRef":"#x"},"c":{"const":{"$id":"x","$ref":"y"}}}}"##,
        expect![[r#"
            E004 /input/properties/$id/$id a schema inside another one has no `$id` here
            E004 /input/properties/$id/$ref the reference `#x` leads out of the schema
              Write it as #/$defs/name.
            E004 /input/properties/b/$dynamicRef `$dynamicRef` is not taken
        "#]],
    );
}
