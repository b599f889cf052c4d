//! What a node has from joining until it leaves or is deposed: its id, its clock, its journal and its tasks.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, PoisonError, RwLock, atomic::Ordering},
    time::Duration,
};

use skald_protocol::Gid;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    clock::Clock,
    inbox::{Control, TaskRequest},
    shard::Load,
};
use crate::{journal::Journal, store::NodeId};

/// What is known of a session to those who use it.
pub(super) struct NodeSession {
    pub(super) node: NodeId,
    pub(super) clock: Arc<Clock>,
    pub(super) journal: Journal,
    pub(super) cancel: CancellationToken,
    pub(super) tasks: Vec<TaskHandle>,
    pub(super) owned: RwLock<Vec<i32>>,
}

pub(super) struct TaskHandle {
    pub(super) requests: mpsc::Sender<TaskRequest>,
    pub(super) control: mpsc::UnboundedSender<Control>,
    pub(super) load: Arc<Load>,
}

impl NodeSession {
    fn task_of(&self, gid: &Gid) -> usize {
        let mut hasher = DefaultHasher::new();
        gid.as_str().hash(&mut hasher);
        let tasks = self.tasks.len() as u64;
        usize::try_from(hasher.finish() % tasks).unwrap_or(0)
    }

    /// Gives the request back if its task has too many.
    pub(super) fn submit(&self, request: TaskRequest) -> Result<(), TaskRequest> {
        self.tasks[self.task_of(&request.gid)].requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(request) | mpsc::error::TrySendError::Closed(request) => request,
        })
    }

    pub(super) fn send_control(&self, task: usize, control: Control) {
        let _ = self.tasks[task].control.send(control);
    }

    pub(super) fn by_task<T>(&self, items: Vec<T>, gid: impl Fn(&T) -> &Gid) -> BTreeMap<usize, Vec<T>> {
        let mut parts: BTreeMap<usize, Vec<T>> = BTreeMap::new();
        for item in items {
            parts.entry(self.task_of(gid(&item))).or_default().push(item);
        }
        parts
    }

    pub(super) fn owned(&self) -> Vec<i32> {
        self.owned.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn in_memory(&self) -> usize {
        self.tasks.iter().map(|task| task.load.active.load(Ordering::Relaxed)).sum()
    }

    pub(super) fn overdue(&self) -> Duration {
        let late = self.tasks.iter().map(|task| task.load.overdue_ms.load(Ordering::Relaxed)).max();
        Duration::from_millis(late.unwrap_or(0))
    }

    pub(super) fn inbox_depth(&self) -> usize {
        self.tasks.iter().map(|task| task.requests.max_capacity() - task.requests.capacity()).sum()
    }
}
