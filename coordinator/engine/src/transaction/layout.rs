//! Where a branch stands: in the plan, among those a client enlisted, or in one item of a map.
//!
//! A map's branches come into being when its items are known: item by item, each with all branches of the map, at the end
//! of the list. So an index tells the map, the item and the branch's description, and nothing is stored per branch.

use skald_protocol::{BranchId, Json};

use super::Transaction;
use crate::{
    journal::state::{MapState, State},
    plan::{Block, Branch, Graph, Map, Plan},
};

/// The branches of one map's items.
#[derive(Debug, Clone, Copy)]
struct Expansion {
    map: usize,
    base: usize,
    stride: usize,
    count: usize,
}

/// In the order of their bases, which is the order in which they came: a map within a map comes after it.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout(Vec<Expansion>);

/// A branch among those it is described with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot<'a> {
    pub(super) graph: Graph<'a>,
    /// What to add to an index of `graph`.
    pub(super) base: usize,
    pub(super) local: usize,
    /// The map and the item.
    pub(super) item: Option<(usize, usize)>,
}

impl<'a> Spot<'a> {
    pub(super) fn spec(&self) -> &'a Branch {
        &self.graph.branches[self.local]
    }

    fn map(&self) -> Option<&'a Map> {
        match &self.spec().block {
            Some(Block::Map(map)) => Some(map),
            _ => None,
        }
    }
}

impl Layout {
    /// `Err`: the state is of another plan.
    pub(super) fn of(state: &State, plan: &Plan) -> Result<Self, String> {
        let mut maps: Vec<(usize, &MapState)> = Vec::new();
        if plan.has_maps() {
            let known = state.branches.iter().enumerate();
            maps = known.filter_map(|(index, branch)| Some((index, branch.map()?))).collect();
            maps.sort_by_key(|(_, map)| (map.base, map.items.len()));
        }
        let mut layout = Self::default();
        let mut end = plan.branches.len();
        for (index, map) in maps {
            let spec = layout.spot(plan, index).and_then(|spot| spot.map());
            let spec = spec.ok_or("items of a branch that is no map")?;
            if map.base != end || index >= end || map.left.len() != map.items.len() || map.items.len() > spec.max_items
            {
                return Err("a map's items do not stand where they must".to_owned());
            }
            end += layout.push(index, map.base, spec.branches.len(), map.items.len());
        }
        if end + state.enlisted.len() == state.branches.len() {
            Ok(layout)
        } else {
            Err("the state has other branches than the plan".to_owned())
        }
    }

    pub(super) fn push(&mut self, map: usize, base: usize, stride: usize, count: usize) -> usize {
        self.0.push(Expansion { map, base, stride, count });
        stride * count
    }

    /// `None`: neither in the plan nor in a map.
    pub(super) fn spot<'a>(&self, plan: &'a Plan, branch: usize) -> Option<Spot<'a>> {
        if branch < plan.branches.len() {
            return Some(Spot { graph: plan.graph(), base: 0, local: branch, item: None });
        }
        // Of those that start at one place the last has branches.
        let after = self.0.partition_point(|expansion| expansion.base <= branch);
        let at = self.0.get(after.checked_sub(1)?)?;
        let within = branch - at.base;
        if within >= at.stride * at.count {
            return None;
        }
        let graph = self.spot(plan, at.map)?.map()?.graph();
        let (item, local) = (within / at.stride, within % at.stride);
        Some(Spot { graph, base: at.base + item * at.stride, local, item: Some((at.map, item)) })
    }
}

impl Transaction {
    pub(super) fn spot(&self, branch: usize) -> Option<Spot<'_>> {
        self.layout.spot(&self.plan, branch)
    }

    pub(super) fn spec(&self, branch: usize) -> &Branch {
        let planned = self.plan.branches.len();
        match self.plan.branches.get(branch) {
            Some(spec) => spec,
            None if self.plan.open => &self.state.enlisted[branch - planned].branch,
            None => self.spot(branch).expect("a branch of a map").spec(),
        }
    }

    pub(super) fn map_of(&self, branch: usize) -> Option<&Map> {
        self.spot(branch).and_then(|spot| spot.map())
    }

    /// The map and the item it stands in.
    pub(super) fn item_of(&self, branch: usize) -> Option<(usize, usize)> {
        if branch < self.plan.branches.len() { None } else { self.spot(branch)?.item }
    }

    /// The branches that come directly after it, as what to add and indices.
    pub(super) fn successors(&self, branch: usize) -> (usize, &[usize]) {
        self.spot(branch).map_or((0, &[]), |spot| (spot.base, spot.graph.successors(spot.local)))
    }

    /// The branches that come directly after it; after the last ones of an item comes the map.
    #[must_use]
    pub fn followers(&self, branch: usize) -> Vec<usize> {
        let (base, successors) = self.successors(branch);
        match self.item_of(branch) {
            Some((map, _)) if successors.is_empty() => vec![map],
            _ => successors.iter().map(|successor| base + successor).collect(),
        }
    }

    pub(super) fn predecessors(&self, branch: usize) -> Vec<usize> {
        self.spot(branch)
            .map_or_else(Vec::new, |spot| spot.spec().after.iter().map(|before| spot.base + before).collect())
    }

    /// The branches behind it, if it is a gate.
    pub(super) fn members(&self, gate: usize) -> (usize, &[usize]) {
        self.spot(gate).map_or((0, &[]), |spot| (spot.base, spot.graph.members(spot.local)))
    }

    /// The nearest `parallel` or map around it.
    pub(super) fn block_around(&self, branch: usize) -> Option<usize> {
        let spot = self.spot(branch)?;
        let within = spot.spec().within.map(|block| spot.base + block);
        within.or_else(|| spot.item.map(|(map, _)| map))
    }

    pub(super) fn blocks_around(&self, branch: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(self.block_around(branch), |block| self.block_around(*block))
    }

    /// `<map>.<index>.<step>` inside a map.
    #[must_use]
    pub fn branch_id(&self, branch: usize) -> BranchId {
        let own = &self.spec(branch).id;
        match self.item_of(branch) {
            None => own.clone(),
            Some((map, item)) => {
                let path = format!("{}.{item}.{own}", self.branch_id(map));
                BranchId::new(path).expect("paths within the bound, as the plan was proven")
            }
        }
    }

    #[must_use]
    pub fn find(&self, branch: &BranchId) -> Option<usize> {
        if let Some(planned) = self.plan.find(branch.as_str()) {
            return Some(planned);
        }
        if self.plan.open {
            let enlisted = self.state.enlisted.iter().position(|enlistment| enlistment.branch.id == *branch)?;
            return Some(self.plan.branches.len() + enlisted);
        }
        self.find_in(self.plan.graph(), 0, branch.as_str())
    }

    /// Looks through the maps of one list of branches: `<map>.<index>.<rest>`.
    fn find_in(&self, graph: Graph<'_>, base: usize, path: &str) -> Option<usize> {
        if let Some(local) = graph.find(path) {
            return Some(base + local);
        }
        path.match_indices('.').find_map(|(at, _)| {
            let map = base + graph.find(&path[..at])?;
            let (item, rest) = path[at + 1..].split_once('.')?;
            let item: usize = item.parse().ok().filter(|number: &usize| number.to_string() == item)?;
            let state = self.state.branches.get(map)?.map().filter(|state| item < state.items.len())?;
            let spec = self.map_of(map)?;
            self.find_in(spec.graph(), state.base + item * spec.branches.len(), rest)
        })
    }

    /// The branch that `steps.<name>` means in the expressions of `branch`: of its item, else further out, and of its own
    /// definition alone.
    pub(super) fn step_named(&self, branch: Option<usize>, name: &str) -> Option<usize> {
        let Some(branch) = branch else { return self.plan.find(name) };
        let spot = self.spot(branch)?;
        if let Some(saga) = spot.spec().saga {
            let prefix = spot.graph.branches[saga].id.as_str().trim_end_matches('~');
            return spot.graph.find(&format!("{prefix}.{name}")).map(|local| spot.base + local);
        }
        let here = spot.graph.find(name).map(|local| spot.base + local);
        here.or_else(|| self.step_named(Some(spot.item?.0), name))
    }

    /// The branch whose output is `input` in the expressions of `branch`; `None`: it is the transaction's.
    pub(super) fn input_of(&self, branch: usize) -> Option<usize> {
        let spot = self.spot(branch)?;
        match (spot.spec().saga, spot.item) {
            (Some(saga), _) => Some(spot.base + saga),
            (None, Some((map, _))) => self.input_of(map),
            (None, None) => None,
        }
    }

    /// The item that a map's variable means in the expressions of `branch`.
    pub(super) fn item_named(&self, branch: usize, name: &str) -> Option<&Json> {
        let (map, item) = self.item_of(branch)?;
        if self.map_of(map)?.variable == name {
            return self.state.branches[map].map()?.items.get(item);
        }
        self.item_named(map, name)
    }
}
