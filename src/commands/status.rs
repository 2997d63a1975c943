//! `outrigger status`: the status page as a table for a terminal, from the admin listener of a running Outrigger.
//! Takes that listener's address, gives text or the JSON as it came.
//! Surprise: it reads HTTP by itself, since one answer that ends with its connection is all that there is to read.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(3);

/// What `/status` says.
///
/// # Errors
/// For the operator: nobody answers there, or not as an Outrigger does.
pub fn fetch(admin: SocketAddr) -> Result<Value, String> {
    let answer = ask(admin).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => format!("no Outrigger answers at {admin} within {PATIENCE:?}"),
        _ => format!("no Outrigger answers at {admin}: {error}"),
    })?;
    let strange = || format!("what answers at {admin} is no Outrigger's admin listener");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(strange)?;
    let status: Value = serde_json::from_str(body).map_err(|_| strange())?;
    match status["error"].as_str() {
        None if head.starts_with("HTTP/1.1 200 ") && status["generations"].is_array() => Ok(status),
        Some(error) => Err(format!("{admin}: {error}")),
        None => Err(strange()),
    }
}

fn ask(admin: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The tables of a `/status`. PURE.
pub fn text(status: &Value) -> String {
    let counts = &status["counts"];
    let now = status["now"].as_f64().unwrap_or(0.0);
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = writeln!(
        out,
        "Outrigger {}{}, generation {}, up for {}: {}\n",
        word(&status["version"]),
        status["members"]["me"].as_str().map_or(String::new(), |me| format!(", member {me}")),
        status["generation"],
        duration(now - status["began"].as_f64().unwrap_or(now)),
        if status["ready"] == true {
            "ready".to_owned()
        } else {
            format!("not ready ({})", list(&status["reasons"]))
        },
    );
    out.push_str(&attention(status));
    let _ = writeln!(
        out,
        "{} requests, {} in flight, {} connections, {} event streams\n",
        counts["requests"], counts["in_flight"], counts["connections"], counts["streams"],
    );
    let tables = [
        generations(status),
        listeners(status),
        peers(status),
        counted("ERROR", &counts["faults"]),
        counted("ANSWER MENDED", &counts["normalised"]),
        counted("HANDSHAKE FAILED", &counts["handshake_failures"]),
        certificates(status),
        members(status),
    ];
    for table in tables.into_iter().filter(|table| table.len() > 1) {
        out.push_str(&aligned(&table));
        out.push('\n');
    }
    out.push_str(&registry(status));
    out
}

/// In the words of `outrigger check --deep`.
fn attention(status: &Value) -> String {
    let mut lines: Vec<String> = items(&status["attention"])
        .map(|one| {
            let verdict = if one["level"] == "bad" { "FAIL" } else { "warn" };
            format!("{verdict}  {}\n", word(&one["text"]))
        })
        .collect();
    if !lines.is_empty() {
        lines.push("\n".to_owned());
    }
    lines.concat()
}

type Table = Vec<Vec<String>>;

fn generations(status: &Value) -> Table {
    let now = status["now"].as_f64().unwrap_or(0.0);
    let mut table = heading(&["GENERATION", "STATE", "FOR", "CAUSE", "CONNECTIONS", "STREAMS"]);
    table.extend(items(&status["generations"]).map(|one| {
        let since = now - one["since"].as_f64().unwrap_or(now);
        vec![
            word(&one["generation"]),
            word(&one["state"]),
            duration(since),
            word(&one["cause"]),
            word(&one["connections"]),
            word(&one["streams"]),
        ]
    }));
    let reload = &status["last_reload"];
    if let Some(at) = reload["at"].as_f64() {
        let reason = reload["reason"].as_str().map_or(String::new(), |reason| format!(": {reason}"));
        let told = format!("last reload {} {} ago{reason}", word(&reload["result"]), duration(now - at));
        table.push(vec![told]);
    }
    table
}

fn listeners(status: &Value) -> Table {
    let mut table = heading(&["LISTENER", "ADDRESSES", "TLS", "TO"]);
    table.extend(items(&status["listeners"]).map(|one| {
        let leads = items(&one["leads"])
            .map(|lead| format!("{} {}", word(&lead["path"]), word(&lead["upstream"])).trim().to_owned());
        let tls = if one["tls"] == true { "yes" } else { "no" };
        vec![
            word(&one["name"]),
            list(&one["addresses"]),
            tls.to_owned(),
            leads.collect::<Vec<_>>().join(", "),
        ]
    }));
    table
}

fn peers(status: &Value) -> Table {
    let mut table = heading(&["UPSTREAM", "PEER", "STATE", "IN FLIGHT", "WHY"]);
    for upstream in items(&status["upstreams"]) {
        table.extend(items(&upstream["peers"]).map(|peer| {
            let state = if peer["set_aside"] == true { "set aside".to_owned() } else { word(&peer["state"]) };
            let failures = peer["connect_failures_in_a_row"].as_u64().unwrap_or(0);
            let why = match peer["sentence"].as_str() {
                Some(sentence) => sentence.to_owned(),
                None if failures > 0 => format!("{failures} connections in a row failed"),
                None => String::new(),
            };
            vec![word(&upstream["name"]), word(&peer["name"]), state, word(&peer["in_flight"]), why]
        }));
    }
    table
}

/// What has happened, by kind.
fn counted(name: &str, numbers: &Value) -> Table {
    let mut table = heading(&[name, "COUNT"]);
    let kinds = numbers.as_object().into_iter().flatten().filter(|(_, number)| **number != 0);
    table.extend(kinds.map(|(kind, number)| vec![kind.clone(), word(number)]));
    table
}

fn certificates(status: &Value) -> Table {
    let mut table = heading(&["CERTIFICATE", "ROLE", "BY", "DAYS LEFT"]);
    let mut soonest: Vec<&Value> = items(&status["certificates"]).collect();
    soonest.sort_by_key(|one| one["not_after"].as_i64());
    table.extend(soonest.into_iter().map(|one| {
        vec![word(&one["subject"]), word(&one["role"]), word(&one["by"]), word(&one["days_left"])]
    }));
    table
}

fn members(status: &Value) -> Table {
    let mut table = heading(&["MEMBER", "ADDRESS"]);
    if let Some(me) = status["members"]["me"].as_str() {
        table.push(vec![me.to_owned(), "this one".to_owned()]);
    }
    table.extend(
        items(&status["members"]["others"]).map(|one| vec![word(&one["name"]), word(&one["address"])]),
    );
    table
}

fn registry(status: &Value) -> String {
    let (registry, sessions) = (&status["registry"], &status["counts"]["sessions"]);
    let state = match (registry["error"].as_str(), registry["sessions"].as_u64()) {
        (Some(error), _) => format!("does not answer: {error}"),
        (None, Some(kept)) => format!("{kept} sessions kept"),
        (None, None) => "answers".to_owned(),
    };
    format!(
        "registry {}: {state}; sessions begun {}, ended {}, lost {}\n",
        word(&registry["kind"]),
        sessions["claimed"],
        sessions["released"],
        sessions["lost"]
    )
}

fn heading(names: &[&str]) -> Table {
    vec![names.iter().map(|name| (*name).to_owned()).collect()]
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// As people write it, without quotes; nothing is a dash.
fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn list(value: &Value) -> String {
    items(value).map(word).collect::<Vec<_>>().join(", ")
}

fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Columns as wide as their widest word; a row of one cell is a sentence.
fn aligned(table: &[Vec<String>]) -> String {
    let rows = || table.iter().filter(|row| row.len() > 1);
    let width = |column: usize| rows().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..table[0].len()).map(width).collect();
    let mut out = String::new();
    for row in table {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| match row.len() {
            1 => cell.clone(),
            _ => format!("{cell:width$}"),
        });
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_reads_as_tables() {
        let status = json!({
            "version": "1.2.3", "generation": 2, "ready": true, "now": 9000.5, "began": 1000,
            "generations": [
                { "generation": 1, "state": "draining", "since": 8880, "cause": "first start", "connections": 3, "streams": 2 },
                { "generation": 2, "state": "serving", "since": 8990, "cause": "reload", "connections": null, "streams": null },
            ],
            "last_reload": { "at": 8995, "result": "failed", "reason": "line 3: no such key" },
            "attention": [{ "level": "bad", "text": "certificate a, shown by member, has expired" }, { "level": "warn", "text": "the last reload was refused" }],
            "listeners": [], "members": { "me": "one", "others": [] },
            "certificates": [
                { "subject": "CN=later", "role": "trusted", "by": "member", "not_after": 9, "days_left": 40 },
                { "subject": "CN=a", "role": "shown", "by": "member", "not_after": 8, "days_left": -1 },
            ],
            "upstreams": [{ "name": "g", "peers": [{ "name": "w1", "state": "unchecked", "in_flight": 0, "connect_failures_in_a_row": 7 }] }],
            "registry": { "kind": "embedded", "sessions": 4 },
            "counts": { "requests": 10, "in_flight": 1, "connections": 3, "streams": 2, "faults": { "no_peer": 0 }, "normalised": { "status": 3 },
                        "sessions": { "claimed": 4, "released": 0, "lost": 0 } },
        });
        let expected = "\
Outrigger 1.2.3, member one, generation 2, up for 2 h: ready

FAIL  certificate a, shown by member, has expired
warn  the last reload was refused

10 requests, 1 in flight, 3 connections, 2 event streams

GENERATION  STATE     FOR    CAUSE        CONNECTIONS  STREAMS
1           draining  2 min  first start  3            2
2           serving   10 s   reload       -            -
last reload failed 5 s ago: line 3: no such key

UPSTREAM  PEER  STATE      IN FLIGHT  WHY
g         w1    unchecked  0          7 connections in a row failed

ANSWER MENDED  COUNT
status         3

CERTIFICATE  ROLE     BY      DAYS LEFT
CN=a         shown    member  -1
CN=later     trusted  member  40

MEMBER  ADDRESS
one     this one

registry embedded: 4 sessions kept; sessions begun 4, ended 0, lost 0
";
        assert_eq!(text(&status), expected);
    }
}
