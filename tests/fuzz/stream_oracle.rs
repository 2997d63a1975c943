//! The judge of event streams: takes any bytes as a stream, panics unless all its splits have one end, and unless an error event that is
//! appended is one by the reader of whole events. The surprise: two readers of one format are held against each other here.

use bytes::Bytes;
use outrigger::mcp::failure::{Asked, Caller};
use outrigger::mcp::sse::{End, Event, Events, Masked, Piece, Watch};
use serde_json::Value;

/// Judges one stream; true if it answers request 7 or holds a hollow answer.
pub fn judge(stream: &[u8]) -> bool {
    let splits: [Vec<&[u8]>; 4] = [
        vec![stream],
        stream.chunks(1).collect(),
        stream.chunks(3).collect(),
        stream.chunks(1 + stream.len() / 2).collect(),
    ];
    let ends = splits.each_ref().map(|chunks| watched(chunks));
    let repaired = splits.each_ref().map(|chunks| unmasked(chunks));
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
    assert!(repaired.iter().all(|bytes| *bytes == repaired[0]), "{repaired:?}");
    if let (End::Append(events), _, _) = &ends[0] {
        assert_appended(stream, events);
    }
    ends[0].0 == End::Orderly || repaired[0] != stream
}

/// How the stream ends orderly and broken off, and whether a comment would fit there.
fn watched(chunks: &[&[u8]]) -> (End, End, bool) {
    let asked = Asked {
        caller: Caller::Request(b"7".to_vec()),
        method: Some("tools/call".to_owned()),
        in_session: true,
        can_resume: true,
        ..Asked::default()
    };
    let mut watch = Watch::new(&asked);
    chunks.iter().for_each(|chunk| watch.push(chunk));
    (watch.end(true), watch.end(false), watch.is_between_events())
}

/// What leaves with every hollow answer repaired; with none repaired it must be what came.
fn unmasked(chunks: &[&[u8]]) -> Vec<u8> {
    let (mut masked, mut raw, mut repaired) = (Masked::default(), Vec::new(), Vec::new());
    for chunk in chunks {
        for piece in masked.push(Bytes::copy_from_slice(chunk)) {
            match piece {
                Piece::Pass(bytes) => {
                    raw.extend_from_slice(&bytes);
                    repaired.extend_from_slice(&bytes);
                }
                Piece::Hollow(hollow) => {
                    repaired.extend_from_slice(&hollow.repaired());
                    raw.extend_from_slice(&hollow.as_it_came());
                }
            }
        }
    }
    let rest = masked.finish();
    raw.extend_from_slice(&rest);
    repaired.extend_from_slice(&rest);
    assert_eq!(raw, chunks.concat());
    assert_eq!(events_of(&raw).len(), events_of(&repaired).len());
    repaired
}

fn assert_appended(stream: &[u8], appended: &[u8]) {
    let before = events_of(stream);
    let mut after = events_of(&[stream, appended].concat());
    let last = after.pop().expect("an event was appended");
    assert_eq!(after, before);
    let answer: Value = serde_json::from_slice(&last.data).expect("it holds JSON");
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::from(7), &Value::from(-32603)));
    assert_eq!(last.name, b"message");
}

fn events_of(mut stream: &[u8]) -> Vec<Event> {
    let mut events = Events::up_to(1 << 20);
    std::iter::from_fn(|| events.next(&mut stream)).collect()
}
