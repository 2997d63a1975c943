//! W3C Trace Context: whose trace a request belongs to, and how the next one in line is told. PURE.
//! Takes the values of `traceparent` and `tracestate` as they came, gives the parent, or nothing where the specification says that a new
//! trace begins. Surprise: the SDK's own reader takes ids that are too short and a second `traceparent`; the specification does not.

use std::str::FromStr;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// The field that names trace and parent.
pub const TRACEPARENT: &str = "traceparent";
/// The field in which each vendor keeps a word of its own.
pub const TRACESTATE: &str = "tracestate";

/// Whether a field belongs to a trace.
pub fn is_trace(name: &str) -> bool {
    name == TRACEPARENT || name == TRACESTATE
}

/// Length of version 00.
const LENGTH: usize = 55;
/// Where the parent's id stands in a `traceparent`.
pub const SPAN_ID_AT: usize = 36;

/// The span that a request continues. `None`: none, or one that cannot be believed; then its `tracestate` counts for nothing, too.
pub fn parent<'v>(
    mut traceparents: impl Iterator<Item = &'v [u8]>,
    tracestates: impl Iterator<Item = &'v [u8]>,
) -> Option<SpanContext> {
    let value = traceparents.next()?;
    if traceparents.next().is_some() {
        return None;
    }
    let (trace, span, flags) = fields(value.trim_ascii())?;
    let flags = TraceFlags::new(flags) & TraceFlags::SAMPLED;
    let parent = SpanContext::new(trace, span, flags, true, state(tracestates));
    parent.is_valid().then_some(parent)
}

/// `traceparent` of what a span asks for.
pub fn traceparent(span: &SpanContext) -> String {
    format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags() & TraceFlags::SAMPLED)
}

fn fields(value: &[u8]) -> Option<(TraceId, SpanId, u8)> {
    let text = std::str::from_utf8(value).ok()?;
    let version = text.get(..2).filter(|version| is_hex(version) && *version != "ff")?;
    // What a later version adds stands behind another dash.
    let more = text.get(LENGTH..)?;
    let whole = if version == "00" { more.is_empty() } else { more.is_empty() || more.starts_with('-') };
    let mut fields = text.get(3..LENGTH)?.split('-');
    let mut field = |length| fields.next().filter(|field| field.len() == length && is_hex(field));
    let (trace, span, flags) = (field(32)?, field(16)?, field(2)?);
    if !whole || text.as_bytes()[2] != b'-' || fields.next().is_some() {
        return None;
    }
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some((TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?, flags))
}

/// Capital letters are none here.
fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Several fields are one list; a list that cannot be read is left out, the trace goes on.
fn state<'v>(values: impl Iterator<Item = &'v [u8]>) -> TraceState {
    let values: Option<Vec<&str>> = values.map(|value| std::str::from_utf8(value).ok()).collect();
    let list = values.unwrap_or_default().join(",");
    let members: Vec<&str> = list.split(',').map(str::trim).filter(|member| !member.is_empty()).collect();
    TraceState::from_str(&members.join(",")).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(traceparents: &[&str], tracestates: &[&str]) -> Option<SpanContext> {
        fn bytes<'a>(values: &'a [&'a str]) -> impl Iterator<Item = &'a [u8]> {
            values.iter().map(|value| value.as_bytes())
        }
        parent(bytes(traceparents), bytes(tracestates))
    }

    #[test]
    fn what_was_read_is_written_the_same() {
        let unsampled = GOOD.replace("-01", "-00");
        for value in [GOOD, &unsampled] {
            assert_eq!(traceparent(&read(&[value], &[]).unwrap()), *value);
        }
        let span = read(&[GOOD], &[]).unwrap();
        assert_eq!(&GOOD[SPAN_ID_AT..SPAN_ID_AT + 16], span.span_id().to_string());
    }

    #[test]
    fn later_versions_are_read_as_far_as_they_are_known() {
        for value in [GOOD.replacen("00", "cc", 1), GOOD.replacen("00", "01", 1) + "-what-comes-then"] {
            assert_eq!(traceparent(&read(&[&value], &[]).unwrap()), GOOD, "{value}");
        }
        assert_eq!(traceparent(&read(&[&GOOD.replace("-01", "-ff")], &[]).unwrap()), GOOD, "unknown flags");
    }

    #[test]
    fn what_is_invalid_begins_a_new_trace() {
        let changed = |from: &str, to: &str| GOOD.replacen(from, to, 1);
        for value in [
            String::new(),
            "nonsense".into(),
            changed("00-", "ff-"),
            changed("00-", "0-"),
            changed("00-", "0G-"),
            changed("4bf92f", "4BF92F"),
            changed("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            changed("00f067aa0ba902b7", &"0".repeat(16)),
            changed("4bf92f", "bf92f"),
            changed("4bf92f", "+bf92f"),
            changed("-01", "-1"),
            changed("-01", "-0x"),
            GOOD.to_owned() + "-more",
            GOOD.replacen("00", "cc", 1) + "more",
            GOOD.replace('-', "_"),
        ] {
            assert_eq!(read(&[&value], &["a=1"]), None, "{value:?}");
        }
        assert_eq!(read(&[GOOD, GOOD], &[]), None, "two parents are none");
        assert_eq!(read(&[], &["a=1"]), None);
    }

    #[test]
    fn state_is_one_list_or_left_out() {
        let header = |states: &[&str]| read(&[GOOD], states).unwrap().trace_state().header();
        assert_eq!(header(&["rojo=00f0, congo=t61rc", "last=1"]), "rojo=00f0,congo=t61rc,last=1");
        assert_eq!(header(&["no list at all"]), "");
        assert_eq!(header(&[]), "");
    }
}
