//! A chart as a Mermaid flowchart.

use std::collections::BTreeSet;

use super::{Arrow, Chart, End, Node, Shape, TAIL, colours, line};

pub(super) fn write(chart: &Chart) -> String {
    let mut text = String::new();
    if !chart.title.is_empty() {
        line(&mut text, 0, format_args!("---\ntitle: \"{}\"\n---", chart.title));
    }
    line(&mut text, 0, "flowchart TD");
    inside(chart, None, 1, &mut text);
    for edge in &chart.edges {
        let (from, to) = (end(edge.from), end(edge.to));
        match &edge.kind {
            Arrow::Then => line(&mut text, 1, format_args!("{from} --> {to}")),
            Arrow::If(condition) => line(&mut text, 1, format_args!("{from} -->|\"{}\"| {to}", clean(condition))),
            Arrow::Undo(undo) => line(&mut text, 1, format_args!("{from} -.->|{undo}| {to}")),
        }
    }
    classes(chart, &mut text);
    text
}

/// Blocks nest no deeper than JSON does.
fn inside(chart: &Chart, frame: Option<usize>, depth: usize, text: &mut String) {
    let (nodes, frames) = chart.within(frame);
    for node in nodes {
        line(text, depth, drawn(node));
    }
    for frame in frames {
        line(text, depth, format_args!("subgraph f{}[\"{}\"]", frame.key, clean(&frame.title)));
        inside(chart, Some(frame.key), depth + 1, text);
        line(text, depth, "end");
    }
}

fn drawn(node: &Node) -> String {
    let label: Vec<_> = node.lines.iter().map(|line| clean(line)).collect();
    let label = label.join("<br/>");
    let key = node.key;
    match node.shape {
        Shape::Step => format!("n{key}[\"{label}\"]"),
        Shape::Tcc => format!("n{key}[[\"{label}\"]]"),
        Shape::Pivot => format!("n{key}{{{{\"{label}\"}}}}"),
        Shape::Retriable => format!("n{key}([\"{label}\"])"),
        Shape::ReadOnly => format!("n{key}[/\"{label}\"/]"),
        Shape::Choice => format!("n{key}{{\"{label}\"}}"),
        Shape::Wait => format!("n{key}>\"{label}\"]"),
        Shape::Set => format!("n{key}[\\\"{label}\"\\]"),
        Shape::Fail => format!("n{key}[/\"{label}\"\\]"),
        Shape::Succeed => format!("n{key}[\\\"{label}\"/]"),
        Shape::Joint => format!("n{key}((\" \"))"),
    }
}

/// A colour for every status there is, and one for the tail where nothing is laid over it.
fn classes(chart: &Chart, text: &mut String) {
    let statuses: BTreeSet<_> = chart.nodes.iter().filter_map(|node| node.status).collect();
    for status in statuses {
        let (fill, border) = colours(status);
        let white = if status == skald_protocol::BranchStatus::Stuck { ",color:#ffffff" } else { "" };
        line(text, 1, format_args!("classDef {status} fill:{fill},stroke:{border}{white}"));
        let of: Vec<_> = chart.nodes.iter().filter(|node| node.status == Some(status)).collect();
        let of: Vec<_> = of.iter().map(|node| format!("n{}", node.key)).collect();
        line(text, 1, format_args!("class {} {status}", of.join(",")));
    }
    let tail = chart.nodes.iter().filter(|node| node.tail && node.status.is_none());
    let tail: Vec<_> = tail.map(|node| format!("n{}", node.key)).collect();
    if !tail.is_empty() {
        line(text, 1, format_args!("classDef tail fill:{},stroke:{}", TAIL.0, TAIL.1));
        line(text, 1, format_args!("class {} tail", tail.join(",")));
    }
}

fn end(end: End) -> String {
    match end {
        End::Node(key) => format!("n{key}"),
        End::Frame(key) => format!("f{key}"),
    }
}

/// Inside quotes Mermaid reads entities and markup.
fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' => cleaned.push_str("#quot;"),
            '#' => cleaned.push_str("#35;"),
            '<' => cleaned.push_str("#lt;"),
            '>' => cleaned.push_str("#gt;"),
            letter if letter.is_control() => cleaned.push(' '),
            letter => cleaned.push(letter),
        }
    }
    cleaned
}
