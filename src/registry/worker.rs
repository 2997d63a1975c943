//! A worker of the gateway, as the gateway itself names it in its keys, and where we learnt that it answers.
//! PURE: reads the gateway's `hostname:pid`; a calibration to its JSON and back.
//! Surprise: no answer of the gateway names its worker, so that only a session which we saw begin can tell which peer a worker is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest worker id that is believed: a host name has at most 253 characters, a pid ten.
const LONGEST: usize = 264;

/// `hostname:pid` of a process of the gateway. Anew with every start of it, unless the container keeps its name and counts pids
/// from the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkerId {
    text: String,
    /// Where the colon stands.
    colon: usize,
}

/// Where a worker answers: learnt from an `initialize` that a peer answered and a worker entered as its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calibration {
    /// The member whose peer it is; `None` = the peer is the same one for whoever reads this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    pub peer: String,
    /// Whether the worker's heartbeat was seen. ContextForge writes them since 1.0.0-RC-3.
    pub heartbeats: bool,
}

/// What the gateway says of a session, and what is known of the worker that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    pub worker: WorkerId,
    pub calibrated: Option<Calibration>,
    /// Whether the worker's heartbeat is there.
    pub beats: bool,
    /// Whether the gateway's workers have heartbeats at all, as far as any was seen.
    pub heartbeats_written: bool,
}

impl WorkerId {
    /// `None` for what no gateway writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, pid) = text.rsplit_once(':')?;
        let named = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
        let numbered = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
        let usable = named && numbered && text.len() <= LONGEST;
        usable.then(|| Self { text: text.into(), colon: host.len() })
    }

    pub fn host(&self) -> &str {
        &self.text[..self.colon]
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Calibration {
    /// Compact JSON with its keys in one fixed order, so that equal calibrations are equal bytes.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self)
            .unwrap_or_else(|_| unreachable!("strings and a truth value always serialise"))
    }

    /// `None` if the bytes are no calibration that this version knows.
    pub fn from_json(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn worker_ids_as_the_gateway_writes_them() {
        let long = format!("{}:1", "h".repeat(LONGEST - 2));
        for (text, host) in [
            ("gateway-7d9f:1", "gateway-7d9f"),
            ("vm.example.com:4194304", "vm.example.com"),
            ("my_host:007", "my_host"),
            ("fe80::1:12", "fe80::1"),
            (&long, &long[..LONGEST - 2]),
        ] {
            let worker = WorkerId::parse(text).unwrap();
            assert_eq!((worker.host(), worker.as_str(), worker.to_string()), (host, text, text.to_string()));
        }
        let too_long = format!("h{long}");
        for text in
            ["", ":", "host", "host:", ":1", "host:1a", "host: 1", "a b:1", "host:-1", "hôte:1", &too_long]
        {
            assert_eq!(WorkerId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_json_is_the_contract_between_versions() {
        let alone = Calibration { member: None, peer: "w1".into(), heartbeats: false };
        assert_eq!(alone.to_json(), r#"{"peer":"w1","heartbeats":false}"#);
        let pod =
            Calibration { member: Some("pod-1".into()), peer: "127.0.0.1:4444".into(), heartbeats: true };
        assert_eq!(pod.to_json(), r#"{"member":"pod-1","peer":"127.0.0.1:4444","heartbeats":true}"#);
        for calibration in [alone, pod] {
            assert_eq!(Calibration::from_json(&calibration.to_json()), Some(calibration));
        }
        assert!(Calibration::from_json(r#"{"peer":"w1","heartbeats":true,"new":1}"#).is_some());
        for json in ["", "{}", r#"{"peer":"w1"}"#, r#"{"peer":1,"heartbeats":true}"#] {
            assert_eq!(Calibration::from_json(json), None);
        }
    }
}
