//! Golden explanations: every step and every reason, as the operator reads them.
//! Surprise: the peer for a session that nobody owns is chosen by its hash, so that the session's name decides these texts.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::config::settings::OnRegistryFailure;
use crate::registry::{Calibration, Claim, Word, WorkerId};

const MINUTE: Duration = Duration::from_secs(60);

/// Of member `m1` in front of `w1` and `w2`, without a path.
fn request() -> Request {
    Request {
        key: SessionKey::new("gateway", "abc"),
        listener: "public".into(),
        upstream: "gateway".into(),
        peers: vec!["w1".into(), "w2".into()],
        me: Some("m1".into()),
        on_registry_failure: OnRegistryFailure::Refuse,
        path: None,
        scope: None,
    }
}

fn found(claim: Result<Option<Claim>, &str>) -> Findings {
    let kept = |what| Kept { what, left: Some(59 * MINUTE + Duration::from_millis(12_345)) };
    let claim = claim.map(|claim| claim.map(kept)).map_err(Into::into);
    Findings { cached: true, ..Findings::new(request(), "redis, under outrigger:".into(), claim) }
}

fn claim(member: &str, peer: &str) -> Claim {
    Claim {
        member: Some(member.into()),
        peer: peer.into(),
        server_id: Some("abc".into()),
        transport: Transport::StreamableHttp,
    }
}

fn named(learnt: Option<(&str, bool)>, beats: bool, neighbour: Option<&str>) -> Findings {
    let calibrated = learnt.map(|(peer, heartbeats)| Calibration {
        member: Some("m2".into()),
        peer: peer.into(),
        heartbeats,
    });
    let worker = WorkerId::parse("pod-2:7").unwrap();
    let word = Word { worker, calibrated, beats, heartbeats_written: beats };
    let gateway = Gateway::Word { word, neighbour: neighbour.map(Into::into), left: Some(4 * MINUTE) };
    Findings { gateway, ..found(Ok(None)) }
}

fn explained(findings: Findings) -> Explanation {
    let answer = answer(&findings);
    Explanation { findings, answer }
}

/// The lines from the claim on, as the first three say what was asked.
fn told(findings: Findings) -> String {
    let text = explained(findings).text();
    text.lines().skip(3).filter(|line| !line.starts_with("cache")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_whole_explanation() {
    let at = Whereabouts::At("10.0.0.7:8444".parse().unwrap());
    let findings = Findings { member: Some(("m2".into(), at)), ..found(Ok(Some(claim("m2", "w1")))) };
    let explanation = explained(findings);
    assert_eq!(
        explanation.text(),
        "\
session   6a7c4556f488 in the logs
request   under the path that the session was opened with, at listener public of member m1, for upstream gateway
registry  redis, under outrigger:
claim     peer w1 of member m2; server id abc, Streamable HTTP; 59m 12s left
member    m2 listens at 10.0.0.7:8444
cache     a worker may believe what it was told up to a minute ago

It goes to member m2, and there to peer w1: that is where the session was claimed.
"
    );
    let json = explanation.json();
    assert_eq!(json["claim"]["expires_in_ms"], 3_552_345);
    assert_eq!(
        json["answer"],
        serde_json::json!({
            "member": "m2",
            "peer": "w1",
            "status": null,
            "why": "claim",
            "text": "It goes to member m2, and there to peer w1: that is where the session was claimed.",
        })
    );
    assert!(explanation.registry_answers());
}

#[test]
fn by_the_claim() {
    assert_eq!(
        told(found(Ok(Some(claim("m1", "w2"))))),
        "\
claim     peer w2 of member m1; server id abc, Streamable HTTP; 59m 12s left

It goes to peer w2 of upstream gateway: that is where the session was claimed."
    );
    assert_eq!(
        told(found(Ok(Some(claim("m1", "w3"))))).lines().last().unwrap(),
        "It is answered 404, \"Session not found; initialize again\": the session was claimed for a peer that is not configured; \
         the claim would be released."
    );
    let elsewhere = |scope| {
        let mut findings = found(Ok(Some(claim("m1", "w1"))));
        findings.request.path = Some("/a".into());
        findings.request.scope = Some(scope);
        told(findings).lines().last().unwrap().to_owned()
    };
    assert_eq!(
        elsewhere((None, Transport::StreamableHttp)),
        "It is answered 404, \"Session not found; initialize again\": the session was opened under another server id."
    );
    assert_eq!(
        elsewhere((Some("abc".into()), Transport::HttpSse)),
        "It is answered 404, \"Session not found; initialize again\": the session was opened with the other transport."
    );
}

#[test]
fn the_other_member_may_be_gone_or_out_of_sight() {
    let table = [
        (
            Whereabouts::Gone,
            "m2 is gone",
            "404, \"Session not found; initialize again\": the session's member is gone; its claim would be released.",
        ),
        (
            Whereabouts::Unknown("no DNS".into()),
            "m2: unknown: no DNS",
            "503, \"The session's owner cannot be reached; try again\": nobody can say where the session's member is.",
        ),
        (
            Whereabouts::NoMember,
            "m2 cannot be looked for without a `member` here",
            "503, \"The session's owner cannot be reached; try again\": another member owns the session, and this Outrigger has no `member`.",
        ),
    ];
    for (whereabouts, member, end) in table {
        let findings =
            Findings { member: Some(("m2".into(), whereabouts)), ..found(Ok(Some(claim("m2", "w1")))) };
        let told = told(findings);
        assert!(told.contains(&format!("\nmember    {member}\n")), "{told}");
        assert!(told.ends_with(&format!("It is answered {end}")), "{told}");
    }
}

#[test]
fn by_the_gateways_keys() {
    let table = [
        (
            named(Some(("w1", true)), true, None),
            "learnt at peer w1 of member m2; its heart beats",
            "It goes to member m2, and there to peer w1: nobody claimed the session, and the gateway names a worker that is known to answer there.",
        ),
        (
            named(Some(("w1", true)), false, None),
            "learnt at peer w1 of member m2; its heartbeat has stopped",
            "It is answered 404, \"Session not found; initialize again\": nobody claimed the session, and the gateway names a worker whose heartbeat has stopped.",
        ),
        (
            named(None, false, Some("m2")),
            "not learnt; has the host name of member m2; no heartbeat, and none was ever seen",
            "It goes to member m2, and there to the peer that is always asked for this session: nobody claimed the session, and the gateway names a worker on that member's host.",
        ),
        (
            named(None, true, Some("m1")),
            "not learnt; has the host name of member m1; its heart beats",
            "It goes to peer w2 of upstream gateway: nobody claimed the session, and the gateway names a worker on that member's host.",
        ),
        (
            named(None, true, None),
            "not learnt; no member, or several, have its host name; its heart beats",
            "It goes to peer w2 of upstream gateway: nobody claimed the session, nobody has met the worker that the gateway names, and this peer is always asked for this session.",
        ),
    ];
    for (findings, worker, end) in table {
        assert_eq!(
            told(findings),
            format!("claim     none\ngateway   worker pod-2:7; 4m 0s left\nworker    {worker}\n\n{end}")
        );
    }
}

#[test]
fn by_nothing() {
    let end = "It goes to peer w2 of upstream gateway: nobody is known to own the session, and this peer is always asked for it.";
    for (gateway, line) in [
        (Gateway::NotAsked, ""),
        (Gateway::NotRead, "gateway   its keys are not read (sessions.gateway_keys)\n"),
        (Gateway::Silent, "gateway   its keys name no owner\n"),
    ] {
        let findings = Findings { gateway, ..found(Ok(None)) };
        assert_eq!(told(findings), format!("claim     none\n{line}\n{end}"));
    }
}

#[test]
fn without_the_registry() {
    let refused = explained(found(Err("it is down")));
    assert!(!refused.registry_answers());
    assert_eq!(
        told(refused.findings),
        "\
claim     unknown: it is down

It is answered 503, \"The session registry is unavailable; try again\": the registry does not answer, and \
sessions.on_registry_failure is refuse; a worker that remembers the owner goes on."
    );
    let mut local = Findings { gateway: Gateway::Failed("it is slow".into()), ..found(Ok(None)) };
    local.request.on_registry_failure = OnRegistryFailure::Local;
    let explanation = explained(local);
    assert!(!explanation.registry_answers(), "it told one half only");
    assert_eq!(explanation.json()["answer"]["peer"], "w2");
    assert_eq!(explanation.json()["answer"]["why"], "registry_failed");
}
