//! Places of connections: how many there are in all and for one peer, and who gives way where all are taken.
//!
//! A connection that waits for its next request holds its place for nothing. Where all are taken, the one that has
//! waited for longest gives its own to whoever comes.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

pub(super) struct Seats {
    most: usize,
    per_peer: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    total: usize,
    peers: HashMap<IpAddr, usize>,
    next: u64,
    /// Those that wait for a request, the one that has waited for longest first.
    waiting: BTreeMap<u64, CancellationToken>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    Node,
    Peer,
}

/// A connection's place, given back when it is dropped.
pub(super) struct Seat {
    seats: Arc<Seats>,
    peer: IpAddr,
    waiting: Mutex<Option<u64>>,
    closed: CancellationToken,
}

/// While a request is served its connection does not give way.
pub(super) struct Busy(Arc<Seat>);

impl Seats {
    pub(super) fn new(most: usize, per_peer: usize) -> Arc<Self> {
        Arc::new(Self { most, per_peer, taken: Mutex::default() })
    }

    /// `closed` is cancelled when the connection has to give way.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr, closed: CancellationToken) -> Result<Arc<Seat>, Full> {
        let peer = peer(address);
        let mut taken = self.taken();
        if taken.peers.get(&peer).is_some_and(|own| *own >= self.per_peer) {
            return Err(Full::Peer);
        }
        if taken.total >= self.most {
            let (_, longest) = taken.waiting.pop_first().ok_or(Full::Node)?;
            longest.cancel();
        }
        taken.total += 1;
        *taken.peers.entry(peer).or_default() += 1;
        let waiting = Mutex::new(Some(taken.wait(closed.clone())));
        drop(taken);
        Ok(Arc::new(Seat { seats: Arc::clone(self), peer, waiting, closed }))
    }

    /// Tells those that wait for a request now from those that will.
    pub(super) fn mark(&self) -> u64 {
        self.taken().next
    }

    /// Closes those that have waited for a request since before the mark.
    pub(super) fn dismiss(&self, mark: u64) {
        let mut taken = self.taken();
        let later = taken.waiting.split_off(&mark);
        for closed in std::mem::replace(&mut taken.waiting, later).into_values() {
            closed.cancel();
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One host commonly has a whole /64 of IPv6.
fn peer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

impl Taken {
    fn wait(&mut self, closed: CancellationToken) -> u64 {
        let id = self.next;
        self.next += 1;
        self.waiting.insert(id, closed);
        id
    }
}

impl Seat {
    pub(super) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// From a request's head until its answer is taken.
    pub(super) fn serve(self: &Arc<Self>) -> Busy {
        self.leave_the_queue(&mut self.seats.taken());
        Busy(Arc::clone(self))
    }

    fn leave_the_queue(&self, taken: &mut Taken) {
        if let Some(id) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take() {
            taken.waiting.remove(&id);
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Self(seat) = self;
        let id = seat.seats.taken().wait(seat.closed.clone());
        *seat.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        self.leave_the_queue(&mut taken);
        taken.total -= 1;
        if let Some(own) = taken.peers.get_mut(&self.peer) {
            *own -= 1;
            if *own == 0 {
                taken.peers.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(seats: &Arc<Seats>, address: &str) -> Result<Arc<Seat>, Full> {
        seats.take(address.parse().unwrap(), CancellationToken::new())
    }

    #[test]
    fn where_all_are_taken_the_one_that_has_waited_longest_gives_way_and_none_that_is_served() {
        let seats = Seats::new(3, 3);
        let [first, second, third] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|peer| take(&seats, peer).unwrap());
        let (busy, again) = (first.serve(), third.serve());
        drop(again);
        let fourth = take(&seats, "10.0.0.4").unwrap();
        assert!(second.closed().is_cancelled() && !third.closed().is_cancelled());
        let _also_busy = fourth.serve();
        drop(second);
        let fifth = take(&seats, "10.0.0.5").unwrap();
        assert!(third.closed().is_cancelled());
        drop(third);
        let _busy_too = fifth.serve();
        assert_eq!(take(&seats, "10.0.0.6").err(), Some(Full::Node));
        assert!(!first.closed().is_cancelled());
        drop(busy);
        assert!(take(&seats, "10.0.0.6").is_ok());
    }

    #[test]
    fn those_that_wait_since_before_a_mark_are_dismissed_and_no_others() {
        let seats = Seats::new(9, 9);
        let [idle, served, done] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|peer| take(&seats, peer).unwrap());
        let (busy, ends) = (served.serve(), done.serve());
        let mark = seats.mark();
        drop(ends);
        seats.dismiss(mark);
        assert!(idle.closed().is_cancelled());
        assert!(!served.closed().is_cancelled() && !done.closed().is_cancelled());
        drop(busy);
    }

    #[test]
    fn one_peer_has_no_more_than_its_own_and_a_64_is_one_peer() {
        let seats = Seats::new(10, 1);
        let first = take(&seats, "2001:db8::1").unwrap();
        assert_eq!(take(&seats, "2001:db8::2").err(), Some(Full::Peer));
        let _other = take(&seats, "2001:db8:0:1::1").unwrap();
        let _mapped = take(&seats, "::ffff:10.0.0.1").unwrap();
        assert_eq!(take(&seats, "10.0.0.1").err(), Some(Full::Peer));
        drop(first);
        assert!(take(&seats, "2001:db8::2").is_ok());
    }
}
