//! What an evaluation costs: `cargo test --release -p skald-engine --test cel -- --ignored --nocapture`.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use skald_engine::{cel::Meter, definition, template::Template};

use super::{Roots, compile, input};

/// The fastest of five rounds.
fn nanoseconds(mut work: impl FnMut()) -> u128 {
    let mut least = Duration::MAX;
    for _ in 0..5 {
        let began = Instant::now();
        for _ in 0..2_000 {
            work();
        }
        least = least.min(began.elapsed());
    }
    least.as_nanos() / 2_000
}

fn roots() -> Roots {
    let lines: Vec<Value> = (0..50).map(|n| json!({"sku": format!("s{n}"), "qty": n % 7})).collect();
    input(json!({"id": "o-1", "total": 4_200, "customer": {"name": "Ada", "tier": 2}, "lines": lines}))
}

#[test]
#[ignore = "prints figures for people"]
fn of_a_path_a_small_expression_and_a_list() {
    let roots = roots();
    for (what, source) in [
        ("a path", "${input.customer.name}"),
        ("a small expression", "${input.total + 1}"),
        ("a condition", "${input.total > 1000 && has(input.customer.tier) ? 'big' : 'small'}"),
        ("a list of 50", "${input.lines.filter(l, l.qty > 0).map(l, {'sku': l.sku, 'n': l.qty * 2})}"),
        ("a sum over 50", "${sum(input.lines.map(l, l.qty))}"),
        ("a key", "${uuid_v5('url', input.id)}"),
    ] {
        let template = Template::compile(json!(source)).unwrap();
        let evaluated = nanoseconds(|| drop(black_box(template.render(&roots, &mut Meter::new()).unwrap())));
        let compiled = nanoseconds(|| drop(black_box(Template::compile(json!(source)).unwrap())));
        println!("{what:20} {evaluated:>9} ns to evaluate  {compiled:>9} ns to compile  {source}");
    }
    let most = compile("input.n.map(a, input.n.map(b, a * b))").unwrap();
    let roots = input(json!({"n": (0..1_000).collect::<Vec<_>>()}));
    let began = Instant::now();
    let stopped = most.evaluate(&roots, &mut Meter::new());
    println!("an evaluation without end stopped after {:?}: {}", began.elapsed(), stopped.unwrap_err());
}

#[test]
#[ignore = "prints figures for people"]
fn of_a_definition_full_of_expressions() {
    let pieces = [
        "x".to_owned(),
        "${1}".to_owned(),
        "${input.a + 1}".to_owned(),
        format!("${{{}1,{}}}", "(1+".repeat(31), ",".repeat(3_900)),
        format!("${{input{}}}", ".f()".repeat(64)),
        format!("${{input{}}}", ".map(x,x)".repeat(60)),
        format!("${{{}1{}}}", "size([".repeat(15), "])".repeat(15)),
        format!("${{[{}1]}}", "1,".repeat(490)),
        format!("${{{}}}", "(".repeat(4_000)),
    ];
    for piece in pieces {
        let body = vec![format!("\"{piece}\""); 250_000 / (piece.len() + 3)].join(",");
        let source = format!(
            r#"{{"dsl":"1.0","name":"d","version":"1.0.0","steps":[{{"name":"a","role":"pivot","action":{{"url":"http://s/","body":[{body}]}}}}]}}"#
        );
        let began = Instant::now();
        let taken = definition::compile(&source).is_ok();
        println!("{:>10?} for {} bytes, taken: {taken}, of {piece:.40}", began.elapsed(), source.len());
    }
}
