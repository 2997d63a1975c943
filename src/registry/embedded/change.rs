//! One write transaction on the tables: every way a claim comes, stays and goes.
//! Takes the table and the time, gives a change that is either committed whole or was never made.
//! Surprise: both tables change together in each function, so that a process killed at any moment leaves them in step.

use heed::RwTxn;

use super::table::{Entry, Millis, Table, join, split};
use crate::registry::{Claim, Claimed, SessionKey};

/// What a change did, counted when it is committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows of `claims` that were written or removed.
    pub writes: u64,
    pub evicted: u64,
    pub expired: u64,
}

pub struct Change<'t> {
    table: &'t Table,
    txn: RwTxn<'t>,
    now: Millis,
    tally: Tally,
}

impl<'t> Change<'t> {
    /// Waits for the write lock, for as long as any process holds it; `clock` is read once we have it.
    pub fn begin(table: &'t Table, clock: fn() -> Millis) -> heed::Result<Self> {
        let txn = table.env.write_txn()?;
        Ok(Self { table, txn, now: clock(), tally: Tally::default() })
    }

    /// Nothing reaches the file before this, and all of it does here.
    pub fn commit(self) -> heed::Result<Tally> {
        self.txn.commit()?;
        Ok(self.tally)
    }

    pub fn claim(&mut self, key: &SessionKey, claim: &Claim) -> heed::Result<Claimed> {
        let json = claim.to_json();
        match self.find(key)? {
            Some((expiry, Some(held))) if expiry > self.now && held != *claim => {
                return Ok(Claimed::Held(held));
            }
            // Ours, over, or unreadable: the new row takes its place.
            Some((expiry, _)) => self.remove(key, expiry)?,
            None => self.make_room(json.len())?,
        }
        self.put(key, self.now + self.table.rules.ttl, &json)?;
        Ok(Claimed::Won)
    }

    /// Writes only where a renewal is still due: another process, or the same batch, may have done it.
    pub fn renew(&mut self, key: &SessionKey) -> heed::Result<()> {
        let Some(entry) = self.table.entry(&self.txn, key)? else { return Ok(()) };
        if !self.table.rules.due(entry.expiry, self.now) {
            return Ok(());
        }
        let (expiry, json) = (entry.expiry, entry.json.to_vec());
        self.remove(key, expiry)?;
        self.put(key, self.now + self.table.rules.ttl, &json)
    }

    pub fn release(&mut self, key: &SessionKey, claim: &Claim) -> heed::Result<bool> {
        match self.find(key)? {
            Some((expiry, Some(held))) if held == *claim => {
                self.remove(key, expiry)?;
                // A claim whose time is over is gone already for everybody who asks.
                Ok(expiry > self.now)
            }
            _ => Ok(false),
        }
    }

    /// Removes claims whose time is over and brings back those that lie too far ahead, `most` rows in all.
    pub fn sweep(&mut self, most: usize) -> heed::Result<()> {
        for _ in 0..most {
            if let Some((expiry, key)) = self.first()?
                && expiry <= self.now
            {
                self.remove(&key, expiry)?;
                self.tally.expired += 1;
            } else if let Some((expiry, key)) = self.last()?
                && expiry > self.table.rules.furthest(self.now)
            {
                let json = self.table.entry(&self.txn, &key)?.map(|entry| entry.json.to_vec());
                self.remove(&key, expiry)?;
                if let Some(json) = json {
                    self.put(&key, self.now + self.table.rules.ttl, &json)?;
                }
            } else {
                break;
            }
        }
        Ok(())
    }

    /// For one more claim with so many bytes of JSON: where a bound is reached, those that expire first go, until as much is freed.
    fn make_room(&mut self, bytes: usize) -> heed::Result<()> {
        let rules = self.table.rules;
        let full = self.table.claims.len(&self.txn)? >= rules.max_sessions
            || self.table.bytes(&self.txn)? >= rules.max_bytes;
        let mut freed = 0;
        while full
            && freed < bytes.max(1)
            && let Some((expiry, key)) = self.first()?
        {
            freed += self.table.entry(&self.txn, &key)?.map_or(0, |entry| entry.json.len());
            self.remove(&key, expiry)?;
            if expiry > self.now {
                self.tally.evicted += 1;
            } else {
                self.tally.expired += 1;
            }
        }
        Ok(())
    }

    /// Expiry and claim of a session, owned, so that the transaction is free to write.
    fn find(&self, key: &SessionKey) -> heed::Result<Option<(Millis, Option<Claim>)>> {
        let entry = self.table.entry(&self.txn, key)?;
        Ok(entry.map(|entry| (entry.expiry, Claim::from_json(entry.json))))
    }

    fn first(&self) -> heed::Result<Option<(Millis, SessionKey)>> {
        Ok(self.table.expiries.first(&self.txn)?.map(|(row, _)| split(row)))
    }

    fn last(&self) -> heed::Result<Option<(Millis, SessionKey)>> {
        Ok(self.table.expiries.last(&self.txn)?.map(|(row, _)| split(row)))
    }

    fn put(&mut self, key: &SessionKey, expiry: Millis, json: &[u8]) -> heed::Result<()> {
        self.table.claims.put(&mut self.txn, key.as_bytes(), &Entry { expiry, json }.to_bytes())?;
        self.table.expiries.put(&mut self.txn, &join(expiry, key.as_bytes()), &[])?;
        self.tally.writes += 1;
        Ok(())
    }

    fn remove(&mut self, key: &SessionKey, expiry: Millis) -> heed::Result<()> {
        self.table.claims.delete(&mut self.txn, key.as_bytes())?;
        self.table.expiries.delete(&mut self.txn, &join(expiry, key.as_bytes()))?;
        self.tally.writes += 1;
        Ok(())
    }
}
