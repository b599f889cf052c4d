//! The one validated form that every front end lowers to, and what is stored by digest.
//!
//! A plan is trusted: the definition compiler (or another lowering) has proven it. Branches stand in dependency order,
//! so `after` only ever points backwards. Templates are kept as their source text, so a stored plan reads like the
//! definition it came from.

mod operation;

use std::{collections::BTreeMap, sync::OnceLock, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use skald_protocol::{BranchId, Json, OperationKind, WorkflowRef};

pub use self::operation::{Body, Jitter, Means, OnExhausted, Operation, Pending, Poll, Retry, Rule, Target};
use self::operation::{ms, ms_option};
use crate::template::Template;

/// The newest plan encoding this build writes and reads.
pub const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowRef>,
    /// Enlisted into and decided by a client.
    #[serde(default, skip_serializing_if = "is_default")]
    pub open: bool,
    /// Until the decision; `Began` may override it.
    #[serde(default, with = "ms_option", rename = "timeout_ms", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_timeout: OnTimeout,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, Service>,
    /// Something reads the coordinator's `config`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reads_config: bool,
    #[serde(default)]
    pub branches: Vec<Branch>,
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub output: Option<Template>,
    /// Computed from `branches` when first asked for.
    #[serde(skip)]
    pub index: Index,
}

/// What is looked up in a plan's branches (or a map's) again and again; no part of their value.
#[derive(Debug, Clone, Default)]
pub struct Index {
    successors: OnceLock<Vec<Vec<usize>>>,
    by_id: OnceLock<BTreeMap<BranchId, usize>>,
    members: OnceLock<BTreeMap<usize, Vec<usize>>>,
    pivots: OnceLock<Vec<usize>>,
    ends: OnceLock<Vec<usize>>,
    has_maps: OnceLock<bool>,
}

/// Branches and what is looked up in them.
#[derive(Debug, Clone, Copy)]
pub struct Graph<'a> {
    pub branches: &'a [Branch],
    index: &'a Index,
}

impl<'a> Graph<'a> {
    /// The branches that come directly after `branch`.
    #[must_use]
    pub fn successors(self, branch: usize) -> &'a [usize] {
        let all = self.index.successors.get_or_init(|| {
            let mut successors = vec![Vec::new(); self.branches.len()];
            for (index, branch) in self.branches.iter().enumerate() {
                for predecessor in &branch.after {
                    successors[*predecessor].push(index);
                }
            }
            successors
        });
        all.get(branch).map_or(&[], Vec::as_slice)
    }

    #[must_use]
    pub fn find(self, id: &str) -> Option<usize> {
        let by_id = self.index.by_id.get_or_init(|| {
            self.branches.iter().enumerate().map(|(index, branch)| (branch.id.clone(), index)).collect()
        });
        by_id.get(id).copied()
    }

    /// The branches that stand in an arm of the gate.
    #[must_use]
    pub fn members(self, gate: usize) -> &'a [usize] {
        let members = self.index.members.get_or_init(|| {
            let mut members = BTreeMap::<_, Vec<_>>::new();
            for (index, branch) in self.branches.iter().enumerate() {
                if let Some(arm) = &branch.arm {
                    members.entry(arm.gate).or_default().push(index);
                }
            }
            members
        });
        members.get(&gate).map_or(&[], Vec::as_slice)
    }
}

impl PartialEq for Index {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnTimeout {
    #[default]
    Compensate,
    Suspend,
}

/// Where a participant answers. The server's configuration may override `url`; secrets are names until a call is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub url: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    Secret(Secret),
    Text(String),
}

/// `{"secret": name}`: resolved where a call is sent, never stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    pub secret: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    Bearer(Secret),
    Basic { username: String, password: Secret },
    Header { name: String, value: Secret },
}

/// One participant's part. A branch without operations is pure: it does what `block` says, or is done when all it comes
/// `after` is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Branch {
    pub id: BranchId,
    pub step: String,
    pub role: Role,
    /// Direct predecessors, as indices of earlier branches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<usize>,
    /// Driven until done: runs only after the commit or, in another phase than the main one, once that begins.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tail: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub phase: Phase,
    /// The nearest `parallel` around this branch, as its block's index (which comes later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<usize>,
    /// Skipped, with all that stands in its arms, unless this is true when its turn comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Template>,
    /// Skipped where the gate is, or chose another arm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<Arm>,
    /// The nearest included saga around it, as the branch whose output is that saga's input. Names in this branch's
    /// expressions are the included definition's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saga: Option<usize>,
    /// What its value must be: of an included saga's input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes: Option<Takes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<Block>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward: Option<Operation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<Operation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Operation>,
    /// What `steps.<name>.output` is; the response's body if absent.
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub output: Option<Template>,
}

/// An included workflow's `input`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Takes {
    /// Its name and version.
    pub workflow: String,
    pub schema: Json,
}

/// When a branch has its turn; each phase begins once all before it rests, and what it comes to decides nothing any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    #[default]
    Main,
    /// Of an aborted transaction, once everything is undone.
    OnAbort,
    /// Of any decided transaction, as the last before it settles.
    OnEnd,
}

impl Phase {
    /// As it is spelt in a definition.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::OnAbort => "on_abort",
            Self::OnEnd => "on_end",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Compensatable,
    Pivot,
    Retriable,
    ReadOnly,
    Tcc,
    /// A `parallel` block; `Fast` starts nothing new in it once one of its branches failed.
    Parallel {
        fail: Fail,
    },
    /// Without any effect at a participant.
    Pure,
}

/// What a gate lets through, counted from 0; without an `index` whichever arm it chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    pub gate: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
}

/// What a pure branch does when its turn comes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// Its output.
    Set(Template),
    /// The gate of a `choice`: the first arm whose condition is true, or else the one after the last condition.
    Choose(Vec<Template>),
    Wait(Wait),
    /// Aborts the transaction.
    Fail {
        error: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<Template>,
    },
    Map(Box<Map>),
    /// Commits the transaction, with this for its output; what has not begun is skipped.
    Succeed {
        #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
        output: Option<Template>,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// A duration from the moment of its turn.
    For(Template),
    /// A timestamp (RFC 3339).
    Until(Template),
    /// The output is the signal's payload.
    Signal {
        name: Template,
        #[serde(with = "ms", rename = "timeout_ms")]
        timeout: Duration,
        /// After the timeout the branch is done, with null for its output; else it fails.
        #[serde(default, skip_serializing_if = "is_default", rename = "continue")]
        goes_on: bool,
    },
    /// The first of several signals: the output is `{"signal": name, "payload": …}`.
    First {
        names: Vec<Template>,
        #[serde(with = "ms", rename = "timeout_ms")]
        timeout: Duration,
        #[serde(default, skip_serializing_if = "is_default", rename = "continue")]
        goes_on: bool,
    },
}

impl Wait {
    /// The time, or the names of the signals.
    #[must_use]
    pub fn templates(&self) -> &[Template] {
        match self {
            Self::For(template) | Self::Until(template) | Self::Signal { name: template, .. } => {
                std::slice::from_ref(template)
            }
            Self::First { names, .. } => names,
        }
    }

    /// The names of the signals that it waits for.
    #[must_use]
    pub fn signals(&self) -> &[Template] {
        match self {
            Self::For(_) | Self::Until(_) => &[],
            Self::Signal { .. } | Self::First { .. } => self.templates(),
        }
    }

    /// Whether it goes on without a signal that did not come; of a time it always does.
    #[must_use]
    pub const fn goes_on(&self) -> bool {
        match self {
            Self::For(_) | Self::Until(_) => true,
            Self::Signal { goes_on, .. } | Self::First { goes_on, .. } => *goes_on,
        }
    }
}

/// The branches of one item, once for each of `items`; the items are fixed when the map starts. Indices in `branches`
/// are among them, ids are relative to `<map>.<index>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Map {
    pub items: Template,
    /// The name of the item in expressions.
    #[serde(rename = "as")]
    pub variable: String,
    pub max_items: usize,
    pub max_concurrency: usize,
    pub branches: Vec<Branch>,
    /// The branch whose output is the item's.
    pub result: usize,
    #[serde(skip)]
    pub index: Index,
}

impl Map {
    #[must_use]
    pub fn graph(&self) -> Graph<'_> {
        Graph { branches: &self.branches, index: &self.index }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fail {
    Fast,
    WaitAll,
}

impl Plan {
    /// The plan behind every open transaction: its branches come later.
    #[must_use]
    pub fn open() -> Self {
        Self {
            workflow: None,
            open: true,
            timeout: None,
            on_timeout: OnTimeout::Compensate,
            services: BTreeMap::new(),
            reads_config: false,
            branches: Vec::new(),
            output: None,
            index: Index::default(),
        }
    }

    #[must_use]
    pub fn graph(&self) -> Graph<'_> {
        Graph { branches: &self.branches, index: &self.index }
    }

    /// Whether branches may come into being while it runs.
    #[must_use]
    pub fn has_maps(&self) -> bool {
        let is_map = |branch: &Branch| matches!(branch.block, Some(Block::Map(_)));
        *self.index.has_maps.get_or_init(|| self.branches.iter().any(is_map))
    }

    /// The pivots' indices; no two of them lie on one path.
    #[must_use]
    pub fn pivots(&self) -> &[usize] {
        self.index.pivots.get_or_init(|| {
            let pivots = self.branches.iter().enumerate().filter(|(_, branch)| branch.role == Role::Pivot);
            pivots.map(|(index, _)| index).collect()
        })
    }

    /// The branches that end it well early; none stands in a map.
    #[must_use]
    pub fn ends(&self) -> &[usize] {
        self.index.ends.get_or_init(|| {
            let ends = |branch: &Branch| matches!(branch.block, Some(Block::Succeed { .. }));
            (0..self.branches.len()).filter(|index| ends(&self.branches[*index])).collect()
        })
    }

    #[must_use]
    pub fn find(&self, id: &str) -> Option<usize> {
        self.graph().find(id)
    }

    /// What is stored. Map keys are sorted, so equal plans give equal bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a plan is JSON")
    }

    pub fn decode(format: u32, bytes: &[u8]) -> Result<Self, PlanError> {
        if format > FORMAT {
            return Err(PlanError::Newer { format });
        }
        serde_json::from_slice(bytes).map_err(PlanError::Undecodable)
    }

    /// SHA-256 of the format and the encoded plan.
    #[must_use]
    pub fn digest(encoded: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(FORMAT.to_be_bytes());
        hash.update(encoded);
        hash.finalize().into()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Written by a newer build: leave it to a node that reads it.
    #[error("plan format {format} is newer than this build's {FORMAT}")]
    Newer { format: u32 },
    #[error("a stored plan cannot be read: {0}")]
    Undecodable(#[source] serde_json::Error),
}

impl Branch {
    /// With nothing to do, after nothing.
    #[must_use]
    pub fn new(id: BranchId, step: &str, role: Role) -> Self {
        Self {
            id,
            step: step.to_owned(),
            role,
            after: Vec::new(),
            tail: false,
            phase: Phase::Main,
            within: None,
            when: None,
            arm: None,
            saga: None,
            takes: None,
            block: None,
            forward: None,
            confirm: None,
            undo: None,
            output: None,
        }
    }

    #[must_use]
    pub fn operation(&self, kind: OperationKind) -> Option<&Operation> {
        [&self.forward, &self.confirm, &self.undo].into_iter().flatten().find(|operation| operation.kind == kind)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A template that is null is one all the same.
fn said<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Template>, D::Error> {
    Template::deserialize(deserializer).map(Some)
}
