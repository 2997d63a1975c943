//! The Lua scripts: every change that must look before it writes, in one round trip and in one step.
//! Takes one key and its arguments, gives what Redis returned; a script is sent by its hash, and whole only where Redis does not know it.
//! Surprise: the whole script goes by `EVAL`, to the one node that has the key; redis-rs' way (`SCRIPT LOAD`) names no key, and so
//! would have to go to every node of a cluster.

use std::sync::LazyLock;

use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value, cmd};

use super::dial::Wire;

pub struct Script {
    source: &'static str,
    sha1: String,
}

/// One run of a script, on one key.
pub struct Run<'a> {
    pub script: &'static Script,
    pub key: &'a str,
    pub arguments: &'a [&'a [u8]],
}

/// What is held; its time starts anew. Arguments: time to live.
pub static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local held = redis.call('GET', KEYS[1])
if held then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return held",
    )
});

/// Holds the key with a value, unless another value holds it; tells what held it before. Arguments: value, time to live.
pub static HOLD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local held = redis.call('GET', KEYS[1])
if not held then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
elseif held == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return held",
    )
});

/// Removes the key if it holds this value; tells what it held. Arguments: value.
pub static DROP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local held = redis.call('GET', KEYS[1])
if held == ARGV[1] then redis.call('DEL', KEYS[1]) end
return held",
    )
});

/// Puts another value in the place of this one; tells what the key held. Arguments: this value, the other, time to live.
pub static SWAP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local held = redis.call('GET', KEYS[1])
if held == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return held",
    )
});

/// Names whose last beat is not too old. Arguments: own name, now, the oldest beat that counts.
pub static BEAT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[3])
return redis.call('ZRANGE', KEYS[1], 0, -1)",
    )
});

impl Script {
    fn new(source: &'static str) -> Self {
        let digest = openssl::sha::sha1(source.as_bytes());
        Self { source, sha1: digest.iter().map(|byte| format!("{byte:02x}")).collect() }
    }
}

impl Run<'_> {
    /// `asking`: see [`Wire::send`].
    pub async fn send(&self, wire: &Wire, asking: bool) -> Result<Value, RedisError> {
        match wire.send(&self.command("EVALSHA", &self.script.sha1), asking).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                wire.send(&self.command("EVAL", self.script.source), asking).await
            }
            answer => answer,
        }
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = cmd(name);
        command.arg(script).arg(1).arg(self.key).arg(self.arguments);
        command
    }
}
