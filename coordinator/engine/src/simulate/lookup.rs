//! Branches as they were planned, also those that a map makes for each of its items.

use crate::plan::{Block, Branch, Plan};

/// The plan's, and below each map its own.
pub(super) fn all(plan: &Plan) -> Vec<&Branch> {
    let mut found = Vec::new();
    collect(&plan.branches, &mut found);
    found
}

/// Definitions nest no deeper than JSON may.
fn collect<'p>(branches: &'p [Branch], found: &mut Vec<&'p Branch>) {
    for branch in branches {
        found.push(branch);
        if let Some(Block::Map(map)) = &branch.block {
            collect(&map.branches, found);
        }
    }
}

/// What the branch of this id was planned as; `<map>.<index>.<id>` in an item.
pub(super) fn spec<'p>(plan: &'p Plan, id: &str) -> Option<&'p Branch> {
    let planned = plan.find(id).and_then(|index| plan.branches.get(index));
    planned.or_else(|| of_item(&plan.branches, id))
}

/// The branch of this id, or a step of this name.
#[must_use]
pub fn named<'p>(plan: &'p Plan, name: &str) -> Option<&'p Branch> {
    spec(plan, name).or_else(|| all(plan).into_iter().find(|branch| branch.step == name))
}

fn of_item<'p>(branches: &'p [Branch], id: &str) -> Option<&'p Branch> {
    branches.iter().find_map(|branch| {
        let Some(Block::Map(map)) = &branch.block else { return None };
        let (index, rest) = id.strip_prefix(branch.id.as_str())?.strip_prefix('.')?.split_once('.')?;
        let is_index = index.bytes().all(|byte| byte.is_ascii_digit());
        let found = map.branches.iter().find(|inner| is_index && inner.id.as_str() == rest);
        found.or_else(|| of_item(&map.branches, rest))
    })
}

/// The step whose item it is, whichever of them.
pub(super) fn of_any_item(id: &str) -> String {
    let segments = id.split('.').filter(|segment| !segment.bytes().all(|byte| byte.is_ascii_digit()));
    segments.collect::<Vec<_>>().join(".")
}
