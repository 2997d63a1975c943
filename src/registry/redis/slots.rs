//! The slots of a cluster: which one a key has, and which node has it.
//! PURE: takes keys and the answer to `CLUSTER SLOTS`, gives slots and addresses (Redis Cluster Specification, "Key distribution model").
//! Surprise: where a key has text between braces, only that counts; so a session id of the gateway's may choose its slot.

use redis::Value;

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

/// Who has which slot.
pub struct Slots<T> {
    /// First slot, last slot and owner, by first slot.
    ranges: Vec<(u16, u16, T)>,
}

impl<T> Slots<T> {
    pub fn new(ranges: impl Iterator<Item = (u16, u16, T)>) -> Self {
        let mut ranges: Vec<_> = ranges.collect();
        ranges.sort_by_key(|(first, ..)| *first);
        Self { ranges }
    }

    pub fn of(&self, slot: u16) -> Option<&T> {
        let before = self.ranges.partition_point(|(first, ..)| *first <= slot);
        let (_, last, owner) = self.ranges.get(before.checked_sub(1)?)?;
        (slot <= *last).then_some(owner)
    }
}

impl Address {
    /// `host:port` as nodes write it: IPv6 without brackets. `None` where the host is left out.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty()).then_some(Self { host: host.into(), port: port.parse().ok()? })
    }
}

/// The slot of a key.
pub fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    crc16(tag.filter(|tag| !tag.is_empty()).unwrap_or(key).as_bytes()) % 16_384
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte) << 8,
            |crc: u16, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
            },
        )
    })
}

/// First slot, last slot and master of each range. A node that does not know its own host is at `asked`.
pub fn parse(answer: Value, asked: &str) -> Option<Vec<(u16, u16, Address)>> {
    let ranges: Vec<Vec<Value>> = redis::from_redis_value(answer).ok()?;
    ranges
        .into_iter()
        .map(|range| {
            let mut parts = range.into_iter();
            let first = redis::from_redis_value(parts.next()?).ok()?;
            let last = redis::from_redis_value(parts.next()?).ok()?;
            let mut master = redis::from_redis_value::<Vec<Value>>(parts.next()?).ok()?.into_iter();
            let host: Option<String> = redis::from_redis_value(master.next()?).ok()?;
            let host = host.filter(|host| !host.is_empty() && host != "?").unwrap_or_else(|| asked.into());
            let port = redis::from_redis_value(master.next()?).ok()?;
            Some((first, last, Address { host, port }))
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_slots_that_redis_gives_them() {
        // redis-cli CLUSTER KEYSLOT …
        for (key, expected) in [
            ("", 0),
            ("123456789", 12_739),
            ("foo", 12_182),
            ("{foo}bar", 12_182),
            ("bar{foo}{other}", 12_182),
            ("foo{}", 5_542),
            ("{}foo", 9_500),
            ("foo{bar", 15_278),
            ("é", 10_180),
        ] {
            assert_eq!(slot(key), expected, "{key}");
        }
    }

    #[test]
    fn every_slot_of_a_range_is_its_owners_and_no_other() {
        let slots = Slots::new([(100, 199, 'b'), (0, 49, 'a'), (200, 200, 'c')].into_iter());
        for (slot, owner) in [
            (0, Some('a')),
            (49, Some('a')),
            (50, None),
            (99, None),
            (100, Some('b')),
            (199, Some('b')),
            (200, Some('c')),
            (201, None),
            (16_383, None),
        ] {
            assert_eq!(slots.of(slot).copied(), owner, "{slot}");
        }
        assert!(Slots::<()>::new(std::iter::empty()).of(0).is_none());
    }

    #[test]
    fn addresses_as_nodes_write_them() {
        let table = [
            ("10.0.0.1:7000", Some(("10.0.0.1", 7000))),
            ("fe80::1:7000", Some(("fe80::1", 7000))),
            ("[fe80::1]:7000", Some(("fe80::1", 7000))),
            ("redis-0.redis:6379", Some(("redis-0.redis", 6379))),
            (":7000", None),
            ("host", None),
            ("host:", None),
            ("host:70000", None),
        ];
        for (text, expected) in table {
            let expected = expected.map(|(host, port)| Address { host: host.into(), port });
            assert_eq!(Address::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn the_answer_to_cluster_slots() {
        let text = |text: &str| Value::BulkString(text.into());
        let node = |host: Value| Value::Array(vec![host, Value::Int(7000), text("id"), Value::Array(vec![])]);
        let range = |first, last, host| {
            Value::Array(vec![Value::Int(first), Value::Int(last), node(host), node(text("replica"))])
        };
        let answer = Value::Array(vec![
            range(0, 1, text("10.0.0.1")),
            range(2, 3, Value::Nil),
            range(4, 5, text("")),
            range(6, 7, text("?")),
        ]);
        let found = parse(answer, "asked").unwrap();
        let hosts: Vec<_> =
            found.iter().map(|(first, last, node)| (*first, *last, node.host.as_str())).collect();
        assert_eq!(hosts, [(0, 1, "10.0.0.1"), (2, 3, "asked"), (4, 5, "asked"), (6, 7, "asked")]);
        assert_eq!(parse(Value::Array(vec![]), "asked"), Some(vec![]));
        for wrong in
            [Value::Int(1), Value::Array(vec![Value::Array(vec![Value::Int(0), Value::Int(70_000)])])]
        {
            assert_eq!(parse(wrong, "asked"), None);
        }
    }
}
