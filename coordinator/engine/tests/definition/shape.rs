//! E001 to E003: text, fields, types, the language's version.

use expect_test::expect;

use super::*;

#[test]
fn e001_text_that_is_no_json_says_line_and_column() {
    check(
        "",
        expect![[r#"
            E001  the text ends where a value should stand
        "#]],
    );
    check(
        "{\"dsl\": \"1.0\",\n  \"name\" \"d\"}",
        expect![[r#"
            E001 /name a colon is missing after the member's name
              Write "name": value.
        "#]],
    );
    check(
        "{\"dsl\": \"1.0\", \"steps\": [{\"name\": \"a\"}, {\"name\": tru}]}",
        expect![[r#"
            E001 /steps/1/name no value of JSON starts like this
              Write a text in double quotes; true, false and null stand without.
        "#]],
    );
    check(
        "{} {}",
        expect![[r#"
            E001  something follows the end of the definition
              A file holds one definition.
        "#]],
    );
    check(
        "{\"dsl\": \"1.0\"",
        expect![[r#"
            E001  the text ends in the middle of an object
              Close it with `}`.
        "#]],
    );
    check(
        "{\"dsl\": 1e999}",
        expect![[r#"
            E001 /dsl number out of range
        "#]],
    );
}

#[test]
fn e001_members_that_come_twice_are_all_said() {
    check(
        &definition(
            r#","timeout":"1s","timeout":"2s""#,
            &action(r#""path":"/a","path":"/b","body":{"x/y":1,"x/y":2}"#),
        ),
        expect![[r#"
            E001 /timeout `timeout` stands here twice
              Keep one of them.
            E001 /steps/0/action/path `path` stands here twice
              Keep one of them.
            E001 /steps/0/action/body/x~1y `x/y` stands here twice
              Keep one of them.
        "#]],
    );
}

#[test]
fn e001_a_name_that_serde_json_keeps_for_itself() {
    check_top(
        r#","x-a":{"$serde_json::private::RawValue":"[]"}"#,
        expect![[r#"
            E001 /x-a `$serde_json::private::RawValue` cannot be a member's name
        "#]],
    );
}

#[test]
fn e001_over_a_limit_nothing_else_is_read() {
    check(
        &format!("{{\"x-a\": {}{}}}", "[".repeat(64), "]".repeat(64)),
        expect![[r#"
            E001  too_deep: at most 64 levels are taken
        "#]],
    );
    check(
        &"[".repeat(200_000),
        expect![[r#"
            E001  too_deep: at most 64 levels are taken
        "#]],
    );
    check(
        &" ".repeat(300_000),
        expect![[r#"
        E001  definition_too_large: 300000 bytes; at most 262144 are taken
    "#]],
    );
    let steps: Vec<_> = (0..1001)
        .map(|n| format!(r#"{{"name":"s{n}","service":"s","role":"read_only","action":{{"path":"/"}}}}"#))
        .collect();
    check_steps(
        &steps.join(","),
        expect![[r#"
        E001 /steps/1000 too_many_steps: at most 1000 are taken
    "#]],
    );
}

#[test]
fn e002_unknown_fields_come_with_what_may_have_been_meant() {
    check_top(
        r#","stepps":[],"on_timeuot":"suspend","zzz":1"#,
        expect![[r#"
        E002 /on_timeuot unknown field `on_timeuot`
          Did you mean `on_timeout`?
        E002 /stepps unknown field `stepps`
          Did you mean `steps`?
        E002 /zzz unknown field `zzz`
    "#]],
    );
    check_steps(
        &action(r#""pth":"/","path":"/","retry":{"max_attempt":3}"#),
        expect![[r#"
        E002 /steps/0/action/retry/max_attempt unknown field `max_attempt`
          Did you mean `max_attempts`?
        E002 /steps/0/action/pth unknown field `pth`
          Did you mean `path`?
    "#]],
    );
    check_steps(
        r#"{"name":"a","service":"s","action":{"path":"/"},"compansate":{"path":"/"}}"#,
        expect![[r#"
        E002 /steps/0/compansate unknown field `compansate`
          Did you mean `compensate`?
    "#]],
    );
    check_top(
        r#","defaults":{"settle":{"retries":{}}}"#,
        expect![[r#"
        E002 /defaults/settle/retries unknown field `retries`
          Did you mean `retry`?
    "#]],
    );
}

#[test]
fn e002_wrong_types_say_what_was_expected() {
    check(
        "[]",
        expect![[r#"
        E002  expected an object, found an array
    "#]],
    );
    check(
        r#"{"dsl":"1.0","name":1,"version":true,"title":[],"labels":{"a":1},"services":[],"retries":{"r":5},"defaults":"x","timeout":5,"on_timeout":null,"steps":{},"input":"x"}"#,
        expect![[r#"
            E002 /name expected a string, found a number
            E002 /version expected a string, found a boolean
            E002 /title expected a string, found an array
            E002 /labels/a expected a string, found a number
            E002 /input expected a JSON Schema, found a string
            E002 /services expected an object, found an array
            E002 /retries/r expected an object, found a number
            E002 /defaults expected an object, found a string
            E002 /timeout expected a string, found a number
            E002 /on_timeout expected a string, found null
            E002 /steps expected an array, found an object
        "#]],
    );
    check_steps(
        "1,null,\"a\"",
        expect![[r#"
        E002 /steps/0 expected an object, found a number
        E002 /steps/1 expected an object, found null
        E002 /steps/2 expected an object, found a string
    "#]],
    );
    check_steps(
        r#"{"name":5,"service":6,"after":"b","role":7,"retry":[],"output":1,"description":2,"action":"/x","compensate":[]}"#,
        expect![[r#"
            E002 /steps/0/name expected a string, found a number
            E002 /steps/0/service expected a string, found a number
            E002 /steps/0/after expected an array, found a string
            E002 /steps/0/role expected a string, found a number
            E002 /steps/0/retry expected an object, found an array
            E002 /steps/0/description expected a string, found a number
            E002 /steps/0/action expected an object, found a string
            E002 /steps/0/compensate expected an object, found an array
        "#]],
    );
    check_steps(
        &action(
            r#""service":1,"method":2,"path":3,"query":{"a":null,"b":{},"c":[1]},"headers":{"a":1},"timeout":4,"retry":5,"async":true,"status_check":6,"idempotent":"yes","on_exhausted":8"#,
        ),
        expect![[r#"
            E002 /steps/0/action/service expected a string, found a number
            E002 /steps/0/action/method expected a string, found a number
            E002 /steps/0/action/path expected a string, found a number
            E002 /steps/0/action/query/a expected a string, a number or a boolean, found null
            E002 /steps/0/action/query/b expected a string, a number or a boolean, found an object
            E002 /steps/0/action/query/c expected a string, a number or a boolean, found an array
            E002 /steps/0/action/headers/a expected a string, found a number
            E002 /steps/0/action/timeout expected a string, found a number
            E002 /steps/0/action/retry expected an object, found a number
            E002 /steps/0/action/async expected an object, found a boolean
            E002 /steps/0/action/status_check expected an object, found a number
            E002 /steps/0/action/idempotent expected true or false, found a string
            E002 /steps/0/action/on_exhausted expected a string, found a number
        "#]],
    );
    check_steps(
        &action(
            r#""path":"/","retry":{"max_attempts":"3","initial_interval":1,"backoff_coefficient":"2","jitter":true}"#,
        ),
        expect![[r#"
            E002 /steps/0/action/retry/max_attempts expected a whole number, found a string
            E002 /steps/0/action/retry/backoff_coefficient expected a number, found a string
            E002 /steps/0/action/retry/initial_interval expected a string, found a number
            E002 /steps/0/action/retry/jitter expected a string, found a boolean
        "#]],
    );
    check_steps(
        r#"{"name":"b","parallel":{"steps":[]}}"#,
        expect![[r#"
        E002 /steps/0/parallel expected an array, found an object
    "#]],
    );
    check_steps(
        r#"{"name":"b","parallel":[[],{"stepz":[]}]}"#,
        expect![[r#"
        E002 /steps/0/parallel/0 expected an object, found an array
        E002 /steps/0/parallel/1 `steps` is missing
        E002 /steps/0/parallel/1/stepz unknown field `stepz`
          Did you mean `steps`?
    "#]],
    );
}

#[test]
fn e002_what_is_missing() {
    check(
        r#"{"dsl":"1.0"}"#,
        expect![[r#"
        E002  `name` is missing
        E002  `version` is missing
        E002  `steps` is missing
    "#]],
    );
    check_steps(
        r#"{}"#,
        expect![[r#"
            E002 /steps/0 `name` is missing
            E002 /steps/0 what the step does is missing
              Write `action`, `try` with `confirm` and `cancel`, or one of `parallel`, `choice`, `map`, `wait`, `saga`, `set`, `fail`, `succeed`.
        "#]],
    );
    check_steps(
        &action(""),
        expect![[r#"
        E002 /steps/0/action where the operation goes is missing
          Write a `path` on the service, or a `url`.
    "#]],
    );
    check_steps(
        &action(r#""path":"/","async":{}"#),
        expect![[r#"
        E002 /steps/0/action/async `timeout` is missing
    "#]],
    );
    check_top(
        r#","retries":{"r":{}},"x-services":{"s":{}},"timeout":"1s","defaults":{"retry":"r"},"output":{},"titel":"""#,
        expect![[r#"
            E002 /titel unknown field `titel`
              Did you mean `title`?
        "#]],
    );
}

#[test]
fn e002_what_does_not_go_together() {
    check_steps(
        &action(r#""path":"/","url":"http://x/""#),
        expect![[r#"
        E002 /steps/0/action/url an operation has a `path` or a `url`, not both
    "#]],
    );
    check_steps(
        r#"{"name":"a","service":"s","action":{"path":"/"},"try":{"path":"/"},"parallel":[]}"#,
        expect![[r#"
            E002 /steps/0 a step does one thing: an `action`, a `try` with `confirm` and `cancel`, or one of `parallel`, `choice`, `map`, `wait`, `saga`, `set`, `fail`, `succeed`
        "#]],
    );
    check_steps(
        r#"{"name":"a","service":"s","compensate":{"path":"/"}}"#,
        expect![[r#"
        E002 /steps/0/compensate a `compensate` without an `action` has nothing to undo
    "#]],
    );
    check_steps(
        r#"{"name":"a","service":"s","try":{"path":"/"},"confirm":{"path":"/"},"cancel":{"path":"/"},"compensate":{"path":"/"}}"#,
        expect![[r#"
            E002 /steps/0/compensate a TCC step is undone by its `cancel`; `compensate` belongs to an `action`
        "#]],
    );
    check_steps(
        &format!(
            r#"{{"name":"b","service":"s","role":"pivot","retry":{{}},"output":{{}},"compensate":{{"path":"/"}},"parallel":[{{"steps":[{}]}}]}}"#,
            saga("a")
        ),
        expect![[r#"
            E002 /steps/0/role a step without an operation of its own does not take this
              Write it on steps with an operation.
            E002 /steps/0/retry a step without an operation of its own does not take this
              Write it on steps with an operation.
            E002 /steps/0/output a step without an operation of its own does not take this
              Write it on steps with an operation.
            E002 /steps/0/service a step without an operation of its own does not take this
              Write it on steps with an operation.
            E002 /steps/0/compensate a step without an operation of its own does not take this
              Write it on steps with an operation.
        "#]],
    );
    check_steps(
        &action(
            r#""path":"/","status_check":{"path":"/","retry":{},"async":{"timeout":"1s"},"status_check":{},"idempotent":true,"on_exhausted":"suspend"}"#,
        ),
        expect![[r#"
            E002 /steps/0/action/status_check/retry a question about an operation takes no `retry`
            E002 /steps/0/action/status_check/async a question about an operation takes no `async`
            E002 /steps/0/action/status_check/status_check a question about an operation takes no `status_check`
            E002 /steps/0/action/status_check/idempotent a question about an operation takes no `idempotent`
            E002 /steps/0/action/status_check/on_exhausted a question about an operation takes no `on_exhausted`
        "#]],
    );
}

#[test]
fn e202_a_setting_without_a_name_and_an_answer_where_there_is_none() {
    check_steps(
        &action(r#""path":"/","query":{"a":"${config}"},"body":["${response.status}"]"#),
        expect![[r#"
            E202 /steps/0/action/query/a `config` needs the name of a setting: config.<name>
            E202 /steps/0/action/body/0 `response` is there in `outcome` rules alone
        "#]],
    );
}

#[test]
fn e003_another_version_of_the_language() {
    check(
        r#"{"dsl":"2.0","branches":[]}"#,
        expect![[r#"
        E003 /dsl this version reads dsl "1.0" and not `"2.0"`
          Write "dsl": "1.0".
    "#]],
    );
    check(
        r#"{"dsl":1.0}"#,
        expect![[r#"
        E003 /dsl this version reads dsl "1.0" and not `1.0`
          Write "dsl": "1.0".
    "#]],
    );
    check(
        &definition("", &saga("a")).replace(r#""dsl":"1.0","#, ""),
        expect![[r#"
        E003  `dsl` is missing
          Write "dsl": "1.0".
    "#]],
    );
}
