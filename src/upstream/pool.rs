//! Kept-alive connections to peers, one pool per thread.
//! Takes streams whose answer was read to its end, gives back the one used last. Surprise: a connection is asked once, without
//! waiting, whether the peer closed it; that costs no system call while nothing has arrived (facts: pingora-cost §3b).

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pingora_core::protocols::Stream;
use tokio::io::AsyncReadExt;

use crate::config::settings::UpstreamId;

/// Which connections are alike: those to one place in one trust domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    pub place: Place,
    /// Its fingerprint; `None` = plaintext.
    pub domain: Option<u64>,
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// A peer of an upstream, by its position.
    Peer(UpstreamId, usize),
    /// Another member.
    Member(SocketAddr),
}

/// Most idle connections that one thread keeps per peer.
const MOST: usize = 256;

/// How often what has been idle too long is looked for.
const SWEEP: Duration = Duration::from_secs(2);

struct Idle {
    stream: Stream,
    until: Instant,
}

#[derive(Default)]
struct Pool {
    idle: HashMap<Key, Vec<Idle>>,
    sweeping: bool,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// The connection used last that is still open.
pub fn take(key: &Key) -> Option<Stream> {
    loop {
        let mut idle = POOL.with_borrow_mut(|pool| pool.idle.get_mut(key)?.pop())?;
        if idle.is_good() {
            return Some(idle.stream);
        }
    }
}

/// Keeps a connection for at most `longest`.
pub fn put(key: Key, stream: Stream, longest: Duration) {
    let start_sweeper = POOL.with_borrow_mut(|pool| {
        let idle = pool.idle.entry(key).or_default();
        if idle.len() < MOST {
            idle.push(Idle { stream, until: Instant::now() + longest });
        }
        !std::mem::replace(&mut pool.sweeping, true)
    });
    if start_sweeper {
        tokio::spawn(sweep());
    }
}

/// Drops what has been idle too long; ends when nothing is left, so that an idle process has no timer.
async fn sweep() {
    loop {
        tokio::time::sleep(SWEEP).await;
        let empty = POOL.with_borrow_mut(|pool| {
            pool.idle.values_mut().for_each(|idle| idle.retain_mut(Idle::is_good));
            pool.idle.retain(|_, idle| !idle.is_empty());
            pool.sweeping = !pool.idle.is_empty();
            !pool.sweeping
        });
        if empty {
            return;
        }
    }
}

impl Idle {
    fn is_good(&mut self) -> bool {
        Instant::now() < self.until && still_open(&mut self.stream)
    }
}

/// Neither closed nor holding bytes that no request asked for. Asked outside of tokio's budget: a task that has used its own up would
/// be told that nothing has come.
fn still_open(stream: &mut Stream) -> bool {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};
    let mut probe = [0; 1];
    let read = tokio::task::unconstrained(stream.read(&mut probe));
    let mut read = std::pin::pin!(read);
    matches!(read.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use pingora_core::protocols::l4::stream::Stream as Tcp;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::coop::{consume_budget, has_budget_remaining};

    use super::*;

    #[tokio::test]
    async fn a_task_that_has_used_up_its_turn_sees_a_close_too() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        let mut probe = [0];
        drop(theirs);
        assert_eq!(ours.peek(&mut probe).await.unwrap(), 0, "the close has come");
        let mut stream: Stream = Box::new(Tcp::from(ours));
        while has_budget_remaining() {
            consume_budget().await;
        }
        assert!(!still_open(&mut stream));
    }
}
