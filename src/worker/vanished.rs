//! Clients whose machine vanishes: takes the time-outs, gives what the kernel is told of every connection that a listener accepts.
//! TCP by itself looks for such a client for a quarter of an hour; meanwhile the stream of its session is taken, and a server that allows one
//! refuses whoever comes back for it. Surprise: the kernel also gives up who lives and reads nothing, so what bounds a write bounds this.

use std::time::Duration;

use pingora_core::listeners::TcpSocketOptions;
use pingora_core::protocols::l4::ext::TcpKeepalive;

use crate::config::settings::Timeouts;

/// Shorter, a few lost packets would end a connection; longer, the kernel's milliseconds might not hold it.
const BOUNDS: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(24 * 3600)];

/// For a listener of clients or members.
pub(super) fn options(timeouts: &Timeouts) -> TcpSocketOptions {
    let mut options = TcpSocketOptions::default();
    options.tcp_keepalive = Some(keepalive(timeouts.write));
    options
}

fn keepalive(write: Duration) -> TcpKeepalive {
    let [least, most] = BOUNDS;
    TcpKeepalive {
        // Later than the comments on a stream, whose acknowledgements tell as much.
        idle: Duration::from_secs(20),
        interval: Duration::from_secs(5),
        // Beside a `user_timeout`, Linux does not count.
        count: 3,
        #[cfg(target_os = "linux")]
        user_timeout: write.clamp(least, most),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_as_long_as_a_write_may_take_and_time_for_a_few_lost_packets() {
        let seconds = |write| keepalive(Duration::from_secs(write)).user_timeout.as_secs();
        assert_eq!([1, 30, 300, 10_000_000].map(seconds), [30, 30, 300, 86_400]);
    }
}
