//! A bounded amount that is shared out, peer by peer, when there is not enough of it.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// An amount of something, bytes for example, of which everybody takes a part for a while.
///
/// Who has to wait is served in turns of peers: a peer with a thousand requests delays another's only request by one
/// of its own. Within a peer the smallest amount comes first, as many may hide behind one address and reviews are
/// small. The lock is held for moments, never while waiting.
#[derive(Debug)]
pub(super) struct Shares(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    /// Negative while overdrawn.
    free: isize,
    /// Peers with somebody waiting, the next one first.
    waiting: VecDeque<(IpAddr, VecDeque<Waiter>)>,
}

#[derive(Debug)]
struct Waiter {
    amount: usize,
    turn: oneshot::Sender<Share>,
}

/// A part that is given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    shares: Arc<Shares>,
    amount: usize,
}

impl Shares {
    pub(super) fn new(amount: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Inner { free: signed(amount), waiting: VecDeque::new() })))
    }

    /// The amount at once, if it is there and nobody waits for it already.
    pub(super) fn try_take(self: &Arc<Self>, amount: usize) -> Option<Share> {
        let mut inner = self.lock();
        if !inner.waiting.is_empty() {
            return None;
        }
        if inner.free < signed(amount) {
            return None;
        }
        Some(self.taken(&mut inner, amount))
    }

    /// The amount at once, more than there is if need be: for what cannot be avoided any more.
    pub(super) fn overdraw(self: &Arc<Self>, amount: usize) -> Share {
        self.taken(&mut self.lock(), amount)
    }

    fn taken(self: &Arc<Self>, inner: &mut Inner, amount: usize) -> Share {
        inner.free -= signed(amount);
        Share { shares: Arc::clone(self), amount }
    }

    /// The amount, when it is this peer's turn.
    ///
    /// More than there is altogether would be waited for in vain.
    pub(super) async fn take(self: &Arc<Self>, peer: IpAddr, amount: usize) -> Share {
        if let Some(share) = self.try_take(amount) {
            return share;
        }
        let (turn, came) = oneshot::channel();
        self.lock().enqueue(peer, Waiter { amount, turn });
        // What was given back between the two locks is for the first in the queue.
        let mut waiting = Waiting { shares: self, came };
        self.serve();
        // Senders are dropped only by those who gave up.
        match (&mut waiting.came).await {
            Ok(share) => share,
            Err(_) => std::future::pending().await,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Numbers and a queue: no panic can leave them half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands out what is free to those whose turn it is.
    fn serve(self: &Arc<Self>) {
        let mut inner = self.lock();
        while let Some(waiter) = inner.next() {
            let share = self.taken(&mut inner, waiter.amount);
            if let Err(mut unwanted) = waiter.turn.send(share) {
                inner.free += signed(std::mem::take(&mut unwanted.amount));
            }
        }
    }
}

impl Inner {
    fn enqueue(&mut self, peer: IpAddr, waiter: Waiter) {
        match self.waiting.iter_mut().find(|(known, _)| *known == peer) {
            Some((_, queue)) => {
                let place = queue.partition_point(|other| other.amount <= waiter.amount);
                queue.insert(place, waiter);
            }
            None => self.waiting.push_back((peer, VecDeque::from([waiter]))),
        }
    }

    /// Whoever is next and can have what it waits for. No peer overtakes another, or large amounts would never be free.
    fn next(&mut self) -> Option<Waiter> {
        loop {
            let (_, queue) = self.waiting.front_mut()?;
            while queue.front().is_some_and(|waiter| waiter.turn.is_closed()) {
                queue.pop_front();
            }
            let Some(first) = queue.front() else {
                self.waiting.pop_front();
                continue;
            };
            if signed(first.amount) > self.free {
                return None;
            }
            let waiter = queue.pop_front();
            self.waiting.rotate_left(1);
            return waiter;
        }
    }
}

/// Amounts are bytes of memory, of which there is no such number that this would be too small for.
fn signed(amount: usize) -> isize {
    isize::try_from(amount).unwrap_or(isize::MAX)
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.amount > 0 {
            self.shares.lock().free += signed(self.amount);
            self.shares.serve();
        }
    }
}

/// Leaves the queue when its owner stops waiting, and lets those behind move up.
struct Waiting<'a> {
    shares: &'a Arc<Shares>,
    came: oneshot::Receiver<Share>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.came.close();
        // A turn that came too late is given back here.
        drop(self.came.try_recv());
        self.shares.serve();
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, task::Poll};

    use tokio::task::JoinHandle;

    use super::*;

    fn peer(last: u8) -> IpAddr {
        [127, 0, 0, last].into()
    }

    async fn ask(shares: &Arc<Shares>, from: u8, amount: usize) -> JoinHandle<Share> {
        let shares = Arc::clone(shares);
        let asking = tokio::spawn(async move { shares.take(peer(from), amount).await });
        tokio::task::yield_now().await;
        asking
    }

    #[tokio::test]
    async fn peers_take_turns_and_nobody_overtakes() {
        let shares = Shares::new(4);
        let all = shares.try_take(4).unwrap();
        let many = [ask(&shares, 1, 4).await, ask(&shares, 1, 4).await, ask(&shares, 1, 4).await];
        let one = ask(&shares, 2, 1).await;
        assert!(shares.try_take(1).is_none());
        drop(all);
        let [first, second, third] = many;
        let first = first.await.unwrap();
        tokio::task::yield_now().await;
        assert!(!second.is_finished() && !one.is_finished());
        assert!(shares.try_take(0).is_none(), "others wait");
        drop(first);
        let one = one.await.unwrap();
        assert!(!second.is_finished(), "the other peer's turn comes first");
        drop(one);
        drop(second.await.unwrap());
        drop(third.await.unwrap());
        assert!(shares.try_take(4).is_some());
    }

    #[tokio::test]
    async fn of_one_peer_the_smallest_comes_first() {
        let shares = Shares::new(4);
        let all = shares.try_take(4).unwrap();
        let (large, small) = (ask(&shares, 1, 4).await, ask(&shares, 1, 2).await);
        drop(all);
        let small = small.await.unwrap();
        assert!(!large.is_finished());
        drop(small);
        drop(large.await.unwrap());
    }

    #[tokio::test]
    async fn who_stops_waiting_holds_up_nobody_and_keeps_nothing() {
        let shares = Shares::new(2);
        let held = shares.try_take(1).unwrap();
        let large = ask(&shares, 1, 2).await;
        let small = ask(&shares, 2, 1).await;
        assert!(!small.is_finished());
        large.abort();
        assert!(large.await.is_err());
        drop(small.await.unwrap());
        drop(held);
        assert!(shares.try_take(2).is_some());
    }

    #[tokio::test]
    async fn what_is_overdrawn_is_paid_back_before_anything_is_taken() {
        let shares = Shares::new(1);
        let over = shares.overdraw(3);
        assert!(shares.try_take(0).is_none());
        let next = ask(&shares, 1, 0).await;
        assert!(!next.is_finished());
        drop(over);
        drop(next.await.unwrap());
        assert!(shares.try_take(1).is_some());
    }

    #[tokio::test]
    async fn a_turn_that_comes_too_late_is_given_back() {
        let shares = Shares::new(1);
        let held = shares.try_take(1).unwrap();
        {
            let mut late = pin!(shares.take(peer(1), 1));
            std::future::poll_fn(|context| {
                assert!(late.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
            drop(held);
        }
        assert!(shares.try_take(1).is_some());
    }
}
