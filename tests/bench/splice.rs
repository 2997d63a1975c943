//! What P1 costs: `cargo bench --bench splice`. Takes bodies of five kinds and four sizes, gives nanoseconds and GB/s
//! for the scan alone and for scan and splice with the output's allocation. The surprise: the best of many short rounds
//! is reported, not the mean, since on a shared machine the mean measures the neighbours.

use std::hint::black_box;
use std::time::{Duration, Instant};

use outrigger::mcp::{jsonrpc, splice};

const SERVER_ID: &str = "3f2a6c1e9b7d4d5f8a0b1c2d3e4f5a6b";
const SIZES: [(&str, usize); 4] =
    [("200 B", 200), ("4 KiB", 4 << 10), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20)];

fn main() {
    // `cargo test --benches` runs this without the argument: then one round shows that it works.
    let measured = std::env::args().any(|argument| argument == "--bench");
    let patience = if measured { Duration::from_millis(300) } else { Duration::ZERO };
    println!("{:<8} {:>7} {:>22} {:>22}", "body", "size", "scan", "scan and splice");
    for (name, body_of) in BODIES {
        for (label, size) in SIZES {
            let body = body_of(size);
            let scan = fastest(patience, || drop(black_box(jsonrpc::scan(black_box(&body)))));
            let both = fastest(patience, || drop(black_box(scan_and_splice(black_box(&body)))));
            println!(
                "{name:<8} {label:>7} {:>22} {:>22}",
                figures(scan, body.len()),
                figures(both, body.len())
            );
        }
    }
}

/// Bodies of about this many bytes.
type BodyOf = fn(usize) -> Vec<u8>;

const BODIES: [(&str, BodyOf); 5] = [
    ("plain", |size| tools_call(size, r"The quick brown fox jumps over the lazy dog, then rests. ")),
    ("code", |size| tools_call(size, r#"fn main() {\n    println!(\"{}\", answer(&[1, 2]));\n}\n\n"#)),
    ("chinese", |size| tools_call(size, "敏捷的棕色狐狸跳过懒狗,然后休息。")),
    ("dense", |size| numbers(size)),
    ("deep", |size| deep(size)),
];

fn scan_and_splice(body: &[u8]) -> splice::Spliced {
    let envelope = jsonrpc::scan(body).expect("the bodies are valid");
    splice::splice(body, &envelope, SERVER_ID)
}

/// A tools/call with one long string argument.
fn tools_call(size: usize, phrase: &str) -> Vec<u8> {
    let head =
        r#"{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"write","arguments":{"text":""#;
    let tail = r#""},"_meta":{"progressToken":17}}}"#;
    let times = size.saturating_sub(head.len() + tail.len()).div_ceil(phrase.len());
    format!("{head}{}{tail}", phrase.repeat(times)).into_bytes()
}

/// A tools/call whose argument is a table of small numbers under short keys: the worst that is common.
fn numbers(size: usize) -> Vec<u8> {
    let head =
        r#"{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"plot","arguments":{"rows":["#;
    let row = r#"{"x":1,"y":-2.5,"on":true}"#;
    let times = (size.saturating_sub(head.len() + 4) / (row.len() + 1)).max(1);
    format!("{head}{}]}}}}}}", vec![row; times].join(",")).into_bytes()
}

/// Nothing but brackets, as an attacker sends them.
fn deep(size: usize) -> Vec<u8> {
    let depth = size.saturating_sub(36) / 2;
    format!(r#"{{"id":1,"method":"x","params":{{"a":{}{}}}}}"#, "[".repeat(depth), "]".repeat(depth))
        .into_bytes()
}

/// The shortest time of one call.
fn fastest(patience: Duration, mut call: impl FnMut()) -> Duration {
    let begun = Instant::now();
    call();
    let rounds = Duration::from_micros(50).as_nanos() / begun.elapsed().as_nanos().max(1);
    let calls = u32::try_from(rounds).unwrap_or(1).clamp(1, 1000);
    let (begun, mut best) = (Instant::now(), Duration::MAX);
    loop {
        let round = Instant::now();
        for _ in 0..calls {
            call();
        }
        best = best.min(round.elapsed() / calls);
        if begun.elapsed() >= patience {
            return best;
        }
    }
}

fn figures(time: Duration, bytes: usize) -> String {
    let nanoseconds = time.as_nanos().max(1);
    format!("{nanoseconds} ns {:6.2} GB/s", bytes as f64 / nanoseconds as f64)
}
