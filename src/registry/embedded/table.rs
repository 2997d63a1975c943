//! The two LMDB tables of the embedded registry and what a read finds in them.
//! `claims`: session key → expiry and claim. `expiries`: expiry and session key → nothing; its first row is the claim that goes first.
//! Surprise: expiry is wall-clock time, because it outlives processes; so no row is believed to lie further ahead than the TTL.

use std::time::Duration;

use heed::types::Bytes;
use heed::{Database, DatabaseStat, Env, RoTxn};

use crate::registry::{Claim, SessionKey};

/// Milliseconds since the Unix epoch.
pub type Millis = u64;

/// How long claims live, how many there may be, and how much room they may take.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub ttl: Millis,
    /// A claim is renewed only when its last renewal is at least this long ago.
    pub renew_after: Millis,
    pub max_sessions: u64,
    /// Bytes that both tables may take in the file, whole pages counted.
    pub max_bytes: u64,
}

pub struct Table {
    pub env: Env,
    pub claims: Database<Bytes, Bytes>,
    pub expiries: Database<Bytes, Bytes>,
    pub rules: Rules,
}

/// One row of `claims`, still in the file: 8 bytes of expiry (big-endian), then the claim's JSON.
pub struct Entry<'t> {
    pub expiry: Millis,
    pub json: &'t [u8],
}

/// A row of `expiries`: sorts by expiry.
pub type ExpiryRow = [u8; 40];

impl Rules {
    /// `room`: how large the file may grow, in bytes. The tables get a quarter of it: a transaction that changes every page writes
    /// all of them anew, while the old ones, and those before if a reader is slow, are still in place.
    pub fn new(ttl: Duration, max_sessions: usize, room: usize) -> Self {
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX / 4).clamp(1, u64::MAX / 4);
        Self {
            ttl,
            renew_after: (ttl / 60).clamp(1, 60_000),
            max_sessions: (max_sessions as u64).max(1),
            max_bytes: room as u64 / 4,
        }
    }

    /// Whether a use at `now` is worth a write. A row that lies too far ahead (the clock jumped back, or an older generation has a
    /// longer TTL) is brought back by the same write.
    pub fn due(&self, expiry: Millis, now: Millis) -> bool {
        let live = expiry > now;
        let renewed_lately = expiry > now + self.ttl - self.renew_after;
        live && (!renewed_lately || expiry > self.furthest(now))
    }

    /// No row may lie further ahead than this. The margin lets another process's clock reading be a little newer than ours.
    pub fn furthest(&self, now: Millis) -> Millis {
        now + self.ttl + self.renew_after.max(1_000)
    }
}

impl Table {
    /// The claim of a session, if its time is not over. A claim that this version cannot read counts as none.
    pub fn ask(&self, key: &SessionKey, now: Millis) -> heed::Result<Option<Claim>> {
        Ok(self.ask_until(key, now)?.map(|(claim, _)| claim))
    }

    /// The same, and for how long from `now` on the claim will stand.
    pub fn ask_until(&self, key: &SessionKey, now: Millis) -> heed::Result<Option<(Claim, Millis)>> {
        let txn = self.env.read_txn()?;
        let entry = self.entry(&txn, key)?.filter(|entry| entry.expiry > now);
        Ok(entry.and_then(|entry| Some((Claim::from_json(entry.json)?, entry.expiry - now))))
    }

    /// Whether a use of the session at `now` must be written.
    pub fn renewal_due(&self, key: &SessionKey, now: Millis) -> heed::Result<bool> {
        let txn = self.env.read_txn()?;
        Ok(self.entry(&txn, key)?.is_some_and(|entry| self.rules.due(entry.expiry, now)))
    }

    /// Whether a sweep at `now` would find work; spares an idle process the write lock.
    pub fn sweep_due(&self, now: Millis) -> heed::Result<bool> {
        let txn = self.env.read_txn()?;
        let first = self.expiries.first(&txn)?.map(|(row, _)| split(row).0);
        let last = self.expiries.last(&txn)?.map(|(row, _)| split(row).0);
        Ok(first.is_some_and(|expiry| expiry <= now)
            || last.is_some_and(|expiry| expiry > self.rules.furthest(now)))
    }

    pub fn count(&self) -> heed::Result<u64> {
        let txn = self.env.read_txn()?;
        self.claims.len(&txn)
    }

    /// Bytes that both tables take, whole pages counted.
    pub fn bytes(&self, txn: &RoTxn) -> heed::Result<u64> {
        let (claims, expiries) = (self.claims.stat(txn)?, self.expiries.stat(txn)?);
        let pages = |stat: &DatabaseStat| stat.branch_pages + stat.leaf_pages + stat.overflow_pages;
        Ok((pages(&claims) + pages(&expiries)) as u64 * u64::from(claims.page_size))
    }

    /// Reads every row of both tables. `Err` is a damage that LMDB found, `Ok(false)` one that we found.
    pub fn is_whole(&self) -> heed::Result<bool> {
        let txn = self.env.read_txn()?;
        for row in self.claims.iter(&txn)? {
            let (key, value) = row?;
            let (Ok(key), Some(entry)) = (<[u8; 32]>::try_from(key), Entry::parse(value)) else {
                return Ok(false);
            };
            if self.expiries.get(&txn, &join(entry.expiry, &key))?.is_none() {
                return Ok(false);
            }
        }
        Ok(self.claims.len(&txn)? == self.expiries.len(&txn)?)
    }

    pub fn entry<'t>(&self, txn: &'t RoTxn, key: &SessionKey) -> heed::Result<Option<Entry<'t>>> {
        Ok(self.claims.get(txn, key.as_bytes())?.and_then(Entry::parse))
    }
}

impl<'t> Entry<'t> {
    fn parse(value: &'t [u8]) -> Option<Self> {
        let (expiry, json) = value.split_first_chunk::<8>()?;
        Some(Self { expiry: Millis::from_be_bytes(*expiry), json })
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.expiry.to_be_bytes()[..], self.json].concat()
    }
}

pub fn join(expiry: Millis, key: &[u8; 32]) -> ExpiryRow {
    let mut row = [0; 40];
    row[..8].copy_from_slice(&expiry.to_be_bytes());
    row[8..].copy_from_slice(key);
    row
}

/// The expiry and the key of a row. A row of another length can only be damage; it sorts as long over and names no session.
pub fn split(row: &[u8]) -> (Millis, SessionKey) {
    let row = ExpiryRow::try_from(row).unwrap_or([0; 40]);
    let (mut expiry, mut key) = ([0; 8], [0; 32]);
    expiry.copy_from_slice(&row[..8]);
    key.copy_from_slice(&row[8..]);
    (Millis::from_be_bytes(expiry), SessionKey::from(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Millis = 3_600_000;

    #[test]
    fn renewals_are_due_once_a_sixtieth_of_the_ttl_and_at_most_once_a_minute() {
        for (ttl, renew_after) in [(6_000, 100), (60_000, 1_000), (HOUR, 60_000), (24 * HOUR, 60_000)] {
            let rules = Rules::new(Duration::from_millis(ttl), 10, 0);
            assert_eq!(rules.renew_after, renew_after);
            let expiry = 1_000 + ttl;
            assert!(!rules.due(expiry, 1_000), "just written");
            assert!(!rules.due(expiry, 1_000 + renew_after - 1), "within the interval");
            assert!(rules.due(expiry, 1_000 + renew_after), "the interval is over");
            assert!(!rules.due(expiry, expiry), "what is over stays over");
        }
    }

    #[test]
    fn a_row_beyond_the_ttl_is_due_so_that_a_clock_jump_makes_nothing_immortal() {
        let rules = Rules::new(Duration::from_millis(HOUR), 10, 0);
        assert!(rules.due(100 * HOUR, 50 * HOUR));
        assert!(
            !rules.due(rules.furthest(50 * HOUR), 50 * HOUR),
            "another process's clock reading may be newer"
        );
    }

    #[test]
    fn rows_sort_by_expiry_first() {
        assert!(join(255, &[9; 32]) < join(256, &[0; 32]));
        assert_eq!(split(&join(7, &[3; 32])), (7, SessionKey::from([3; 32])));
    }

    #[test]
    fn no_ttl_overflows() {
        let rules = Rules::new(Duration::MAX, 0, 0);
        assert!(rules.furthest(4_000_000_000_000) > rules.ttl);
        assert_eq!(rules.max_sessions, 1);
    }
}
