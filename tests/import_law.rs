//! The import law of `src/lib.rs`, held against every source file: which room may name which crate or room.
//! Test modules are left out (a test may use what it likes); comments are not code.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};

struct Law {
    /// Folder or file below `src/`.
    room: &'static str,
    forbidden: &'static [&'static str],
    why: &'static str,
}

const IMPURE: &[&str] = &[
    "tokio",
    "pingora",
    "pingora_core",
    "pingora_proxy",
    "pingora_http",
    "redis",
    "heed",
    "std::fs",
    "std::io",
    "std::net::Tcp",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::thread",
    "std::env",
    "log::",
    "openssl",
];

const LAWS: &[Law] = &[
    Law { room: "mcp", forbidden: IMPURE, why: "pure: bytes in, decisions out" },
    Law {
        room: "mcp",
        forbidden: &["crate::config", "crate::app", "crate::registry"],
        why: "the rules of MCP know no configuration",
    },
    Law { room: "routing", forbidden: IMPURE, why: "pure: plain values in, decisions out" },
    Law { room: "supervisor/generation.rs", forbidden: IMPURE, why: "the supervisor's decisions are pure" },
    Law { room: "supervisor/generation", forbidden: IMPURE, why: "the supervisor's decisions are pure" },
    Law { room: "supervisor/ledger.rs", forbidden: IMPURE, why: "pure: numbers in, sums out" },
    Law { room: "admin/attention.rs", forbidden: IMPURE, why: "pure: a status in, sentences out" },
    Law { room: "account/snapshot.rs", forbidden: IMPURE, why: "pure: numbers in, sums and text out" },
    Law {
        room: "exchange",
        forbidden: &["crate::worker", "crate::supervisor"],
        why: "a request knows no process",
    },
    Law {
        room: "proxy",
        forbidden: &["crate::worker", "crate::supervisor"],
        why: "a request knows no process",
    },
    Law {
        room: "upstream",
        forbidden: &["crate::worker", "crate::supervisor", "crate::exchange", "crate::proxy"],
        why: "lower room",
    },
    Law {
        room: "trace",
        forbidden: &["crate::worker", "crate::supervisor", "crate::exchange", "crate::proxy"],
        why: "lower room",
    },
    Law { room: "trace/context.rs", forbidden: IMPURE, why: "pure: field values in, a parent out" },
    Law { room: "trace/settings.rs", forbidden: IMPURE, why: "pure: variables in, settings out" },
    Law {
        room: "logging/flood.rs",
        forbidden: &["std::io", "std::time::Instant"],
        why: "pure: the time comes in",
    },
    Law {
        room: "registry",
        forbidden: &["crate::worker", "crate::supervisor", "crate::exchange", "crate::proxy"],
        why: "lower room",
    },
    Law {
        room: "explain",
        forbidden: &["crate::worker", "crate::supervisor", "crate::exchange", "crate::proxy"],
        why: "an operator's question is no request",
    },
    Law { room: "explain/answer.rs", forbidden: IMPURE, why: "pure: findings in, an answer out" },
    Law { room: "explain/print.rs", forbidden: IMPURE, why: "pure: findings in, text out" },
    Law {
        room: "admin",
        forbidden: &["crate::worker", "crate::exchange", "crate::proxy"],
        why: "it tells of the process and does nothing of its work",
    },
    Law {
        room: "commands",
        forbidden: &["crate::worker", "crate::supervisor", "crate::exchange", "crate::proxy", "crate::admin"],
        why: "it asks from outside, as an operator does",
    },
    Law {
        room: "config",
        forbidden: &[
            "pingora",
            "tokio",
            "crate::worker",
            "crate::supervisor",
            "crate::exchange",
            "crate::proxy",
        ],
        why: "the configuration knows no engine",
    },
    Law {
        room: "supervisor",
        forbidden: &[
            "pingora_proxy",
            "pingora_http",
            "http::",
            "crate::exchange",
            "crate::proxy",
            "crate::upstream",
        ],
        why: "the supervisor knows nothing of HTTP",
    },
];

fn sources(below: &Path) -> Vec<PathBuf> {
    if below.is_file() {
        return vec![below.to_path_buf()];
    }
    let Ok(entries) = std::fs::read_dir(below) else { return Vec::new() };
    entries
        .flat_map(|entry| sources(&entry.unwrap().path()))
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .collect()
}

/// The code of a file: without comments, and without what follows `#[cfg(test)]` (tests stand at the foot).
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    let body = text.split("#[cfg(test)]").next().unwrap();
    let lines =
        body.lines().enumerate().map(|(at, line)| (at + 1, line.split("//").next().unwrap().to_string()));
    lines.filter(|(_, line)| !line.trim().is_empty()).collect()
}

/// `needle` as a whole path segment, so that `log::` does not match `catalog::`.
fn names(line: &str, needle: &str) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + needle.len()..].chars().next();
        let open = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        open(before) && (needle.ends_with(':') || needle.ends_with("Tcp") || open(after))
    })
}

#[test]
fn every_room_names_only_what_it_may() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut broken = Vec::new();
    for law in LAWS {
        let files: Vec<_> = sources(&src.join(law.room))
            .into_iter()
            .filter(|path| {
                !path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
            })
            .collect();
        assert!(!files.is_empty() || law.room.ends_with("generation"), "no source in src/{}", law.room);
        for file in files {
            for (at, line) in code(&file) {
                if let Some(needle) = law.forbidden.iter().find(|needle| names(&line, needle)) {
                    broken.push(format!(
                        "{}:{at} names {needle} ({}): {}",
                        file.display(),
                        law.why,
                        line.trim()
                    ));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_file_opens_with_its_story() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = sources(&src);
    assert!(files.len() > 20);
    let silent: Vec<_> =
        files.iter().filter(|file| !std::fs::read_to_string(file).unwrap().starts_with("//!")).collect();
    assert!(silent.is_empty(), "without a `//!` story: {silent:?}");
}
