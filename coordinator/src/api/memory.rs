//! Bytes that peers make this node hold: bodies that are still arriving, answers that are still being read.
//!
//! Whoever is slow gives way: where the room is used up, those that have held a part of it for longest lose theirs, if
//! that is longer than an honest peer commonly needs. Else whoever asks for more is told that there is no room.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Before it, nobody gives way.
const AT_LEAST: Duration = Duration::from_secs(2);

pub(super) struct Room {
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    total: usize,
    next: u64,
    /// The oldest first.
    shares: BTreeMap<u64, Holding>,
}

struct Holding {
    bytes: usize,
    since: Instant,
    gives_way: CancellationToken,
}

/// A part of the room, given back when it is dropped.
pub(super) struct Share {
    room: Arc<Room>,
    id: u64,
}

impl Room {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, state: Mutex::default() })
    }

    /// Empty at first. `gives_way` is cancelled when its bytes are needed for others.
    pub(super) fn share(self: &Arc<Self>, gives_way: CancellationToken) -> Share {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        state.shares.insert(id, Holding { bytes: 0, since: Instant::now(), gives_way });
        Share { room: Arc::clone(self), id }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// So many bytes in all. `false`: there is no room for them, or this share had to give way.
    #[must_use]
    pub(super) fn hold(&self, bytes: usize) -> bool {
        let mut state = self.room.state();
        let Some(own) = state.shares.get_mut(&self.id) else { return false };
        let before = std::mem::replace(&mut own.bytes, bytes);
        state.total = state.total - before + bytes;
        while state.total > self.room.most {
            let slow = state
                .shares
                .iter()
                .take_while(|(_, entry)| entry.since.elapsed() > AT_LEAST)
                .find(|(id, entry)| entry.bytes > 0 && **id != self.id)
                .map(|(id, _)| *id);
            let gone = state.remove(slow.unwrap_or(self.id));
            let Some(entry) = gone.filter(|_| slow.is_some()) else { return false };
            entry.gives_way.cancel();
        }
        true
    }
}

impl State {
    fn remove(&mut self, id: u64) -> Option<Holding> {
        let entry = self.shares.remove(&id)?;
        self.total -= entry.bytes;
        Some(entry)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.state().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(room: &Arc<Room>) -> (Share, CancellationToken) {
        let token = CancellationToken::new();
        (room.share(token.clone()), token)
    }

    #[tokio::test(start_paused = true)]
    async fn where_there_is_no_room_who_is_slow_gives_way_and_else_who_asks_is_told() {
        let room = Room::new(10);
        let (first, first_gives_way) = share(&room);
        let (second, second_gives_way) = share(&room);
        assert!(first.hold(6) && second.hold(4));
        let (third, _) = share(&room);
        assert!(!third.hold(1), "nobody is slow yet");
        tokio::time::advance(AT_LEAST * 2).await;
        let (fourth, _) = share(&room);
        assert!(fourth.hold(5));
        assert!(first_gives_way.is_cancelled() && !second_gives_way.is_cancelled());
        assert!(!first.hold(1), "it gave way");
        assert!(second.hold(5) && !second.hold(6), "what is asked for itself is no reason to give way");
    }

    #[tokio::test]
    async fn what_is_dropped_or_shrinks_makes_room() {
        let room = Room::new(10);
        let ((first, _), (second, _)) = (share(&room), share(&room));
        assert!(first.hold(10) && first.hold(3) && second.hold(7));
        drop(first);
        assert!(second.hold(10));
        drop(second);
        assert_eq!(room.state().total, 0);
    }
}
