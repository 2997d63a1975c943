//! What others keep in the same Redis: the members their addresses, the gateway its own keys.
//! Takes complete keys, gives texts; each call is bounded as every call of the registry is.
//! Surprise: every write here may happen twice (see `link`), which is why none of them counts or appends.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, cmd};
use tokio::task::JoinSet;

use super::line::Ask;
use super::link::Link;
use super::millis;
use super::script::{BEAT, DROP, HOLD, Run};
use crate::registry::{RegistryError, SessionKey};

/// A handle; clones are cheap and use the same connection.
#[derive(Clone)]
pub struct Store {
    link: Link,
    prefix: Arc<str>,
    gateway_keys: Option<Arc<str>>,
}

impl Store {
    pub(super) fn new(link: Link, prefix: Arc<str>, gateway_keys: Option<Arc<str>>) -> Self {
        Self { link, prefix, gateway_keys }
    }

    /// Before every key of ours.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The complete key of something of ours: `member:m1`.
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The complete key of a session's claim.
    pub fn session_key(&self, key: &SessionKey) -> String {
        self.key(&format!("session:{}", key.hex()))
    }

    /// Before the gateway's own keys; `None` = they are not to be read.
    pub fn gateway_keys(&self) -> Option<&str> {
        self.gateway_keys.as_deref()
    }

    pub async fn get(&self, key: &str) -> Result<Option<String>, RegistryError> {
        self.ask("read a key", key, cmd("GET").arg(key)).await
    }

    /// One value for each key, in their order.
    pub async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<String>>, RegistryError> {
        let Some(first) = keys.first() else { return Ok(Vec::new()) };
        if !self.link.is_cluster() {
            return self.ask("read keys", first, cmd("MGET").arg(keys)).await;
        }
        let mut values = vec![None; keys.len()];
        let mut reading = JoinSet::new();
        for (at, key) in keys.iter().cloned().enumerate() {
            let store = self.clone();
            reading.spawn_on(async move { (at, store.get(&key).await) }, self.link.runtime());
        }
        while let Some(read) = reading.join_next().await {
            let (at, value) = read.map_err(|_| self.link.unreadable("read keys"))?;
            values[at] = value?;
        }
        Ok(values)
    }

    /// Sets the key, whatever it held.
    pub async fn put(&self, key: &str, value: &str, ttl: Duration) -> Result<(), RegistryError> {
        self.ask("write a key", key, cmd("SET").arg(key).arg(value).arg("PX").arg(millis(ttl))).await
    }

    /// Keeps the key with exactly this for the time to come, unless something else holds it; in one step, so that whoever sets it
    /// meanwhile is not overwritten.
    pub async fn hold(&self, key: &str, value: &str, ttl: Duration) -> Result<(), RegistryError> {
        let ttl = millis(ttl).to_string();
        let run = Run { script: &HOLD, key, arguments: &[value.as_bytes(), ttl.as_bytes()] };
        self.link.ask::<Option<Vec<u8>>>("keep a key", Ask::Script(run)).await.map(drop)
    }

    /// Removes the key if it holds exactly this; says whether it did.
    pub async fn remove_if(&self, key: &str, value: &str) -> Result<bool, RegistryError> {
        let run = Run { script: &DROP, key, arguments: &[value.as_bytes()] };
        let held: Option<Vec<u8>> = self.link.ask("remove a key", Ask::Script(run)).await?;
        Ok(held.is_some_and(|held| held == value.as_bytes()))
    }

    pub async fn exists(&self, key: &str) -> Result<bool, RegistryError> {
        self.ask("look for a key", key, cmd("EXISTS").arg(key)).await
    }

    /// How long the key will live; `None` = it is not there, or for ever.
    pub async fn expires_in(&self, key: &str) -> Result<Option<Duration>, RegistryError> {
        let left: i64 = self.ask("read a key's time", key, cmd("PTTL").arg(key)).await?;
        Ok(u64::try_from(left).ok().map(Duration::from_millis))
    }

    /// `name` is alive at `now`; gives the names whose last beat is at `oldest` or later, and forgets the others.
    /// Times in one unit, everybody's choice.
    pub async fn beat(
        &self,
        set: &str,
        name: &str,
        now: u64,
        oldest: u64,
    ) -> Result<Vec<String>, RegistryError> {
        let (now, oldest) = (now.to_string(), oldest.to_string());
        let arguments = [name.as_bytes(), now.as_bytes(), oldest.as_bytes()];
        let run = Run { script: &BEAT, key: set, arguments: &arguments };
        self.link.ask("list the members", Ask::Script(run)).await
    }

    /// The names whose last beat is at `oldest` or later; changes nothing.
    pub async fn beating(&self, set: &str, oldest: u64) -> Result<Vec<String>, RegistryError> {
        self.ask("list the members", set, cmd("ZRANGEBYSCORE").arg(set).arg(oldest).arg("+inf")).await
    }

    /// `name` beats no more.
    pub async fn stop_beating(&self, set: &str, name: &str) -> Result<(), RegistryError> {
        self.ask("leave the members", set, cmd("ZREM").arg(set).arg(name)).await
    }

    async fn ask<T: FromRedisValue>(
        &self,
        doing: &'static str,
        key: &str,
        command: &Cmd,
    ) -> Result<T, RegistryError> {
        self.link.ask(doing, Ask::Command { key, command }).await
    }
}
