//! An explanation as an operator reads it, step by step and the answer last, and as a machine does.
//! PURE: findings and answer in, text or JSON out. Surprise: the session appears by its hash, as in the logs; who asks knows the id.

use std::time::Duration;

use serde_json::{Value, json};

use crate::registry::{Claim, Transport, Word};

use super::answer::{Answer, To, Why, answer};
use super::findings::{Findings, Gateway, Kept, Request, Whereabouts};

pub struct Explanation {
    pub(super) findings: Findings,
    pub(super) answer: Answer,
}

impl Explanation {
    pub(super) fn of(findings: Findings) -> Self {
        let answer = answer(&findings);
        Self { findings, answer }
    }

    /// Otherwise the answer is only what becomes of a request whose owner no worker remembers.
    pub fn registry_answers(&self) -> bool {
        self.findings.claim.is_ok() && !matches!(self.findings.gateway, Gateway::Failed(_))
    }

    /// One line for each step that was taken, then the answer.
    pub fn text(&self) -> String {
        let Findings { request, registry, cached, claim, gateway, member } = &self.findings;
        let mut lines = vec![
            ("session", format!("{} in the logs", request.key.short())),
            ("request", describe_request(request)),
            ("registry", registry.clone()),
            ("claim", describe_claim(claim)),
        ];
        lines.extend(describe_gateway(gateway).map(|text| ("gateway", text)));
        if let Gateway::Word { word, neighbour, .. } = gateway {
            lines.push(("worker", describe_worker(word, neighbour.as_deref())));
        }
        lines.extend(member.iter().map(|(name, whereabouts)| ("member", describe_member(name, whereabouts))));
        if *cached {
            lines.push(("cache", "a worker may believe what it was told up to a minute ago".into()));
        }
        let lines: Vec<_> = lines.iter().map(|(name, text)| format!("{name:<10}{text}\n")).collect();
        format!("{}\n{}\n", lines.concat(), self.conclusion())
    }

    /// Where the request goes, and why.
    fn conclusion(&self) -> String {
        let upstream = &self.findings.request.upstream;
        let to = match &self.answer.to {
            To::Peer(peer) => format!("It goes to peer {peer} of upstream {upstream}"),
            To::Member { name, peer: Some(peer) } => {
                format!("It goes to member {name}, and there to peer {peer}")
            }
            To::Member { name, peer: None } => format!(
                "It goes to member {name}, and there to the peer that is always asked for this session"
            ),
            To::Reply(fault) => format!("It is answered {}, \"{}\"", fault.status(), fault.sentence()),
        };
        format!("{to}: {}.", self.because())
    }

    fn because(&self) -> &'static str {
        match (self.answer.why, &self.answer.to) {
            (Why::Claim, _) => "that is where the session was claimed",
            (Why::ClaimedPeerGone, _) => {
                "the session was claimed for a peer that is not configured; the claim would be released"
            }
            (Why::WrongScope, _) => "the session was opened under another server id",
            (Why::WrongTransport, _) => "the session was opened with the other transport",
            (Why::Worker, _) => {
                "nobody claimed the session, and the gateway names a worker that is known to answer there"
            }
            (Why::WorkerOfHost, _) => {
                "nobody claimed the session, and the gateway names a worker on that member's host"
            }
            (Why::WorkerDead, _) => {
                "nobody claimed the session, and the gateway names a worker whose heartbeat has stopped"
            }
            (Why::WorkerPeerGone, _) => {
                "nobody claimed the session, and the gateway names a worker of a peer that is not configured"
            }
            (Why::WorkerUnknown, _) => {
                "nobody claimed the session, nobody has met the worker that the gateway names, and this peer is always asked for this session"
            }
            (Why::Unclaimed, _) => "nobody is known to own the session, and this peer is always asked for it",
            (Why::RegistryFailed, To::Reply(_)) => {
                "the registry does not answer, and sessions.on_registry_failure is refuse; a worker that remembers the owner goes on"
            }
            (Why::RegistryFailed, _) => {
                "the registry does not answer, sessions.on_registry_failure is local, and this peer is always asked for this session; a worker that remembers the owner goes on"
            }
            (Why::MemberGone, _) => "the session's member is gone; its claim would be released",
            (Why::MemberUnreachable, _) => "nobody can say where the session's member is",
            (Why::NoMember, _) => "another member owns the session, and this Outrigger has no `member`",
        }
    }

    pub fn json(&self) -> Value {
        let Findings { request, registry, claim, gateway, member, .. } = &self.findings;
        let scope = request.scope.as_ref();
        json!({
            "session": request.key.short(),
            "request": {
                "listener": request.listener,
                "upstream": request.upstream,
                "member": request.me,
                "path": request.path,
                "server_id": scope.and_then(|(server_id, _)| server_id.as_deref()),
                "transport": scope.map(|(_, transport)| transport),
            },
            "registry": { "name": registry, "error": claim.as_ref().err() },
            "claim": claim.as_ref().ok().and_then(Option::as_ref).map(|Kept { what, left }| json!({
                "member": what.member,
                "peer": what.peer,
                "server_id": what.server_id,
                "transport": what.transport,
                "expires_in_ms": millis(*left),
            })),
            "gateway": gateway_json(gateway),
            "member": member.as_ref().map(|(name, whereabouts)| {
                let (address, state) = match whereabouts {
                    Whereabouts::At(address) => (Some(address.to_string()), "found"),
                    Whereabouts::Gone => (None, "gone"),
                    Whereabouts::Unknown(_) => (None, "unknown"),
                    Whereabouts::NoMember => (None, "not looked for"),
                };
                json!({ "name": name, "address": address, "state": state })
            }),
            "answer": self.answer_json(),
        })
    }

    fn answer_json(&self) -> Value {
        let (member, peer, status) = match &self.answer.to {
            To::Peer(peer) => (self.findings.request.me.as_deref(), Some(peer.as_str()), None),
            To::Member { name, peer } => (Some(name.as_str()), peer.as_deref(), None),
            To::Reply(fault) => (None, None, Some(fault.status())),
        };
        json!({ "member": member, "peer": peer, "status": status, "why": self.answer.why.as_str(), "text": self.conclusion() })
    }
}

impl Why {
    fn as_str(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::ClaimedPeerGone => "claimed_peer_gone",
            Self::WrongScope => "wrong_scope",
            Self::WrongTransport => "wrong_transport",
            Self::Worker => "gateway_worker",
            Self::WorkerOfHost => "gateway_worker_of_host",
            Self::WorkerDead => "gateway_worker_dead",
            Self::WorkerPeerGone => "gateway_worker_peer_gone",
            Self::WorkerUnknown => "gateway_worker_unknown",
            Self::Unclaimed => "unclaimed",
            Self::RegistryFailed => "registry_failed",
            Self::MemberGone => "member_gone",
            Self::MemberUnreachable => "member_unreachable",
            Self::NoMember => "no_member",
        }
    }
}

fn describe_request(request: &Request) -> String {
    let scope = match (&request.scope, &request.path) {
        (Some((server_id, transport)), Some(path)) => {
            format!("{path}, {}", under(server_id.as_deref(), *transport))
        }
        _ => "under the path that the session was opened with".into(),
    };
    let Request { listener, upstream, .. } = request;
    let member = request.me.iter().map(|me| format!(" of member {me}")).collect::<String>();
    format!("{scope}, at listener {listener}{member}, for upstream {upstream}")
}

fn under(server_id: Option<&str>, transport: Transport) -> String {
    let scope = server_id.map_or("no server id".into(), |server_id| format!("server id {server_id}"));
    let transport = match transport {
        Transport::StreamableHttp => "Streamable HTTP",
        Transport::HttpSse => "HTTP+SSE",
    };
    format!("{scope}, {transport}")
}

fn describe_claim(claim: &Result<Option<Kept>, String>) -> String {
    match claim {
        Ok(Some(Kept { what: Claim { member, peer, server_id, transport }, left })) => {
            let member = member.iter().map(|member| format!(" of member {member}")).collect::<String>();
            format!("peer {peer}{member}; {}{}", under(server_id.as_deref(), *transport), for_another(*left))
        }
        Ok(None) => "none".into(),
        Err(reason) => format!("unknown: {reason}"),
    }
}

fn describe_gateway(gateway: &Gateway) -> Option<String> {
    match gateway {
        Gateway::NotAsked => None,
        Gateway::NotRead => Some("its keys are not read (sessions.gateway_keys)".into()),
        Gateway::Silent => Some("its keys name no owner".into()),
        Gateway::Failed(reason) => Some(format!("unknown: {reason}")),
        Gateway::Word { word, left, .. } => Some(format!("worker {}{}", word.worker, for_another(*left))),
    }
}

fn describe_worker(word: &Word, neighbour: Option<&str>) -> String {
    let place = match (&word.calibrated, neighbour) {
        (Some(learnt), _) => {
            let member =
                learnt.member.iter().map(|member| format!(" of member {member}")).collect::<String>();
            format!("learnt at peer {}{member}", learnt.peer)
        }
        (None, Some(member)) => format!("not learnt; has the host name of member {member}"),
        (None, None) => "not learnt; no member, or several, have its host name".into(),
    };
    let written = word.calibrated.as_ref().map_or(word.heartbeats_written, |learnt| learnt.heartbeats);
    let heartbeat = match (word.beats, written) {
        (true, _) => "its heart beats",
        (false, true) => "its heartbeat has stopped",
        (false, false) => "no heartbeat, and none was ever seen",
    };
    format!("{place}; {heartbeat}")
}

fn describe_member(name: &str, whereabouts: &Whereabouts) -> String {
    match whereabouts {
        Whereabouts::At(address) => format!("{name} listens at {address}"),
        Whereabouts::Gone => format!("{name} is gone"),
        Whereabouts::Unknown(reason) => format!("{name}: unknown: {reason}"),
        Whereabouts::NoMember => format!("{name} cannot be looked for without a `member` here"),
    }
}

fn gateway_json(gateway: &Gateway) -> Value {
    match gateway {
        Gateway::NotAsked | Gateway::NotRead => Value::Null,
        Gateway::Silent => json!({ "worker": null }),
        Gateway::Failed(reason) => json!({ "error": reason }),
        Gateway::Word { word, neighbour, left } => json!({
            "worker": word.worker.as_str(),
            "expires_in_ms": millis(*left),
            "learnt": word.calibrated,
            "heartbeat": word.beats,
            "member_of_host": neighbour,
        }),
    }
}

/// `; 59m 12s left`, in whole seconds.
fn for_another(left: Option<Duration>) -> String {
    let Some(left) = left else { return String::new() };
    let seconds = left.as_secs();
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let parts = [(hours, 'h'), (minutes, 'm'), (seconds, 's')];
    let shown: Vec<_> = parts.iter().skip_while(|(count, unit)| *count == 0 && *unit != 's').collect();
    format!(
        "; {} left",
        shown.iter().map(|(count, unit)| format!("{count}{unit}")).collect::<Vec<_>>().join(" ")
    )
}

fn millis(left: Option<Duration>) -> Option<u64> {
    left.and_then(|left| u64::try_from(left.as_millis()).ok())
}
