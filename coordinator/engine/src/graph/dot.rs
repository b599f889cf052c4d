//! A chart in Graphviz's language.

use super::{Arrow, Chart, Edge, End, Node, Shape, TAIL, colours, line};

pub(super) fn write(chart: &Chart) -> String {
    let mut text = String::new();
    line(&mut text, 0, format_args!("digraph \"{}\" {{", clean(&chart.title)));
    line(&mut text, 1, "compound=true; rankdir=TB;");
    line(&mut text, 1, "node [shape=box, style=filled, fillcolor=white, fontname=\"sans-serif\"];");
    inside(chart, None, 1, &mut text);
    for edge in &chart.edges {
        if let Some(drawn) = arrow(chart, edge) {
            line(&mut text, 1, drawn);
        }
    }
    line(&mut text, 0, "}");
    text
}

/// Blocks nest no deeper than JSON does.
fn inside(chart: &Chart, frame: Option<usize>, depth: usize, text: &mut String) {
    let (nodes, frames) = chart.within(frame);
    for node in nodes {
        line(text, depth, drawn(node));
    }
    for frame in frames {
        line(text, depth, format_args!("subgraph cluster_{} {{", frame.key));
        line(text, depth + 1, format_args!("label=\"{}\"; style=rounded;", clean(&frame.title)));
        inside(chart, Some(frame.key), depth + 1, text);
        line(text, depth, "}");
    }
}

fn drawn(node: &Node) -> String {
    let label: Vec<_> = node.lines.iter().map(|line| clean(line)).collect();
    let shape = match node.shape {
        Shape::Step => "box",
        Shape::Tcc => "box3d",
        Shape::Pivot => "hexagon",
        Shape::Retriable => "oval",
        Shape::ReadOnly => "parallelogram",
        Shape::Choice => "diamond",
        Shape::Wait => "cds",
        Shape::Set => "note",
        Shape::Fail => "octagon",
        Shape::Succeed => "doubleoctagon",
        Shape::Joint => "point",
    };
    let colours = node.status.map(colours).or(node.tail.then_some(TAIL));
    let colours =
        colours.map(|(fill, border)| format!(", fillcolor=\"{fill}\", color=\"{border}\"")).unwrap_or_default();
    let white = node.status == Some(skald_protocol::BranchStatus::Stuck);
    let white = if white { ", fontcolor=white" } else { "" };
    format!("n{} [label=\"{}\", shape={shape}{colours}{white}];", node.key, label.join("\\n"))
}

/// An edge ends at a node; of a frame it is clipped to its border.
fn arrow(chart: &Chart, edge: &Edge) -> Option<String> {
    let mut said = Vec::new();
    let mut node = |end: End, clip: &str, last: bool| match end {
        End::Node(key) => Some(key),
        End::Frame(key) => {
            said.push(format!("{clip}=cluster_{key}"));
            member(chart, key, last)
        }
    };
    let from = node(edge.from, "ltail", true)?;
    let to = node(edge.to, "lhead", matches!(edge.kind, Arrow::Undo(_)))?;
    match &edge.kind {
        Arrow::Then => {}
        Arrow::If(condition) => said.push(format!("label=\"{}\"", clean(condition))),
        Arrow::Undo(undo) => {
            said.extend(["style=dashed".to_owned(), format!("label=\"{undo}\""), "constraint=false".to_owned()]);
        }
    }
    let said = if said.is_empty() { String::new() } else { format!(" [{}]", said.join(", ")) };
    Some(format!("n{from} -> n{to}{said};"))
}

/// A node somewhere in the frame.
fn member(chart: &Chart, frame: usize, last: bool) -> Option<usize> {
    let (nodes, frames) = chart.within(Some(frame));
    let nodes: Vec<usize> = nodes.map(|node| node.key).collect();
    let node = if last { nodes.last() } else { nodes.first() };
    node.copied().or_else(|| frames.filter_map(|frame| member(chart, frame.key, last)).next())
}

fn clean(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).collect::<String>().replace('\\', "\\\\").replace('"', "\\\"")
}
