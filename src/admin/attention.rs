//! What an operator should look at now, the worst first: the first thing that the status page and `outrigger status` say. PURE.
//! Takes `/status` as it is shown, gives sentences, each with how bad it is and which part of the page has more of it.
//! Surprise: what has happened and is over is no concern, however often it did. Only what will go on until somebody acts is one.

use serde_json::{Value, json};

use crate::material::DAY;

/// More names than these make no sentence.
const MOST_NAMES: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// Requests fail, or soon will.
    Bad,
    /// They do not yet.
    Warn,
}

struct Concern {
    level: Level,
    about: &'static str,
    text: String,
}

pub fn of(status: &Value) -> Vec<Value> {
    let mut concerns: Vec<Concern> = registry(&status["registry"])
        .into_iter()
        .chain(items(&status["upstreams"]).filter_map(upstream))
        .chain(reload(&status["last_reload"]))
        .chain(certificates(&status["certificates"], status["now"].as_f64().unwrap_or(0.0) as i64))
        .collect();
    concerns.sort_by_key(|concern| concern.level);
    let shown = |Concern { level, about, text }: Concern| {
        let level = if level == Level::Bad { "bad" } else { "warn" };
        json!({ "level": level, "about": about, "text": text })
    };
    concerns.into_iter().map(shown).collect()
}

/// Without the error's words, which change from second to second: what is to be read aloud must hold still.
fn registry(registry: &Value) -> Option<Concern> {
    registry["error"].as_str()?;
    let kind = word(&registry["kind"]);
    let text = format!("the {kind} registry does not answer: what is not known from before finds no owner");
    Some(Concern { level: Level::Bad, about: "owners", text })
}

/// A peer that nobody has looked at yet is no concern.
fn upstream(upstream: &Value) -> Option<Concern> {
    let out = |peer: &&Value| peer["good"] == false && peer["state"] != "unknown";
    let ill: Vec<&Value> = items(&upstream["peers"]).filter(out).collect();
    let (name, number) = (word(&upstream["name"]), items(&upstream["peers"]).count());
    let told = ill.iter().take(MOST_NAMES).map(|peer| {
        format!("{} ({})", word(&peer["name"]), peer["sentence"].as_str().unwrap_or("connections to it fail"))
    });
    let mut told = told.collect::<Vec<_>>().join(", ");
    if ill.len() > MOST_NAMES {
        told.push_str(&format!(" and {} more", ill.len() - MOST_NAMES));
    }
    let (level, text) = match (ill.len(), number) {
        (0, _) => return None,
        (1, 1) => (Level::Bad, format!("upstream {name}: its only peer is not well: {told}")),
        (all, number) if all == number => {
            (Level::Bad, format!("upstream {name}: none of its {number} peers is well: {told}"))
        }
        (1, number) => (Level::Warn, format!("upstream {name}: 1 of {number} peers is not well: {told}")),
        (some, number) => {
            (Level::Warn, format!("upstream {name}: {some} of {number} peers are not well: {told}"))
        }
    };
    Some(Concern { level, about: "upstreams", text })
}

fn reload(last: &Value) -> Option<Concern> {
    if last["result"] != "failed" {
        return None;
    }
    let reason = last["reason"].as_str().unwrap_or("the log says why");
    let text = format!("the last reload was refused, what served before serves on: {reason}");
    Some(Concern { level: Level::Warn, about: "generations", text })
}

/// One sentence for each certificate, whoever rests on it. Of those that we only trust, one that has expired is as good as none: whoever
/// needs it is told by its peers; bundles are full of them.
fn certificates(certificates: &Value, now: i64) -> Vec<Concern> {
    let mut concerns: Vec<(i64, Concern)> = Vec::new();
    let mut seen = Vec::new();
    for one in items(certificates) {
        let (shown, key) = (one["role"] == "shown", (&one["serial"], &one["subject"], &one["role"]));
        let level = match (one["nearness"].as_str(), shown) {
            (Some("past" | "close"), true) => Level::Bad,
            (Some("soon"), true) | (Some("close" | "soon"), false) => Level::Warn,
            _ => continue,
        };
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let same = |other: &&Value| (&other["serial"], &other["subject"], &other["role"]) == key;
        let by: Vec<String> = items(certificates).filter(same).map(|other| word(&other["by"])).collect();
        let not_after = one["not_after"].as_i64().unwrap_or(0);
        let verb = if shown { "shown" } else { "trusted" };
        let (name, by) = (word(&one["name"]), by.join(", "));
        let text = match not_after - now {
            ..0 => format!("certificate {name}, {verb} by {by}, has expired"),
            left => format!("certificate {name}, {verb} by {by}, expires in {}", duration(left)),
        };
        concerns.push((not_after, Concern { level, about: "certificates", text }));
    }
    concerns.sort_by_key(|(not_after, _)| *not_after);
    concerns.into_iter().map(|(_, concern)| concern).collect()
}

fn duration(seconds: i64) -> String {
    match seconds {
        ..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / DAY),
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or("?").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: &Value) -> Vec<String> {
        of(status)
            .iter()
            .map(|one| format!("{} {}: {}", word(&one["level"]), word(&one["about"]), word(&one["text"])))
            .collect()
    }

    fn peer(name: &str, good: bool, sentence: Option<&str>) -> Value {
        json!({ "name": name, "good": good, "state": if good { "healthy" } else { "unhealthy" }, "sentence": sentence })
    }

    #[test]
    fn nothing_is_said_of_what_is_well() {
        let mut unknown = peer("w2", false, None);
        unknown["state"] = json!("unknown");
        let status = json!({
            "now": 0.0, "registry": { "kind": "embedded", "sessions": 3 }, "last_reload": { "result": "ok" },
            "upstreams": [{ "name": "g", "peers": [peer("w1", true, None), unknown] }, { "name": "none", "peers": [] }],
            "certificates": [{ "name": "a", "role": "shown", "nearness": "far" }, { "name": "b", "role": "trusted", "nearness": "past" }],
        });
        assert_eq!(said(&status), Vec::<String>::new());
        assert_eq!(said(&json!({})), Vec::<String>::new());
    }

    #[test]
    fn peers_are_named_and_the_worst_comes_first() {
        let gone = Some("nobody listens there");
        let status = json!({ "upstreams": [
            { "name": "a", "peers": [peer("w1", true, None), peer("w2", false, gone)] },
            { "name": "b", "peers": [peer("w1", false, gone), peer("w2", false, None)] },
            { "name": "c", "peers": [peer("only", false, gone)] },
            { "name": "d", "peers": [peer("0", true, None), peer("1", false, gone), peer("2", false, gone), peer("3", false, gone), peer("4", false, gone)] },
        ] });
        assert_eq!(
            said(&status),
            [
                "bad upstreams: upstream b: none of its 2 peers is well: w1 (nobody listens there), w2 (connections to it fail)",
                "bad upstreams: upstream c: its only peer is not well: only (nobody listens there)",
                "warn upstreams: upstream a: 1 of 2 peers is not well: w2 (nobody listens there)",
                "warn upstreams: upstream d: 4 of 5 peers are not well: 1 (nobody listens there), 2 (nobody listens there), 3 (nobody listens there) and 1 more",
            ]
        );
    }

    #[test]
    fn a_certificate_is_named_once_with_all_who_rest_on_it() {
        let one = |name: &str, by: &str, role: &str, nearness: &str, not_after: i64| json!({ "name": name, "subject": name, "serial": name, "by": by, "role": role, "nearness": nearness, "not_after": not_after });
        let status = json!({ "now": 1000.5, "certificates": [
            one("later", "member", "shown", "soon", 1000 + 20 * DAY),
            one("a.example", "listener x", "shown", "close", 1000 + 5 * DAY + 1),
            one("old", "listener x", "shown", "past", 900),
            one("a.example", "listener y", "shown", "close", 1000 + 5 * DAY + 1),
            one("CA", "upstream g", "trusted", "close", 1000 + 3600),
        ] });
        assert_eq!(
            said(&status),
            [
                "bad certificates: certificate old, shown by listener x, has expired",
                "bad certificates: certificate a.example, shown by listener x, listener y, expires in 5 days",
                "warn certificates: certificate CA, trusted by upstream g, expires in 60 minutes",
                "warn certificates: certificate later, shown by member, expires in 20 days",
            ]
        );
    }

    #[test]
    fn a_registry_that_is_silent_and_a_reload_that_was_refused() {
        let status = json!({
            "registry": { "kind": "redis", "error": "it does not answer within 100ms" },
            "last_reload": { "result": "failed", "reason": "outrigger.yaml:3: threads: expected a number" },
        });
        assert_eq!(
            said(&status),
            [
                "bad owners: the redis registry does not answer: what is not known from before finds no owner",
                "warn generations: the last reload was refused, what served before serves on: outrigger.yaml:3: threads: expected a number",
            ]
        );
    }
}
