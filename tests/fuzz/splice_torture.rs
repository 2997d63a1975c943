//! JSON that parsers are known to disagree about, as tables of values; the tests put each into five messages.
//! The surprise: a body that we let through goes on to parsers of other languages, so being too lenient is as much a
//! fault as being too strict.

use outrigger::mcp::jsonrpc::{self, Reason};

use crate::splice_oracle::judge;

/// RFC 8259 allows these values.
#[rustfmt::skip]
const ALLOWED: &[&[u8]] = &[
    // literals and numbers
    b"true", b"false", b"null", b"0", b"-0", b"0.0", b"-0.0e-0", b"1", b"-1", b"10", b"1.5", b"1e5", b"1E5",
    b"1e+5", b"1e-5", b"0e1", b"0E+1", b"20e1", b"123.456e78", b"1e400", b"-1e-400", b"1E+0000000009",
    b"0.000000000000000000000000000000000001", b"123456789012345678901234567890", b"-9223372036854775809",
    b"18446744073709551616",
    // strings
    br#""""#, br#""a""#, br#"" ""#, br#""'""#, br#""\"""#, br#""\\""#, br#""\/""#, br#""/""#,
    br#""\b\f\n\r\t""#, br#""\\u0000""#, br#""\u0000""#, br#""\u001f""#, br#""\u0022""#, br#""\u005C""#,
    br#""\uABCD\uabcd""#, br#""\uFFFE\uFFFF""#, br#""a/*b*/c//d#e""#, br#""[1,{:}]""#, br#""\ud83d\ude00""#,
    br#""\ud800""#, br#""\udc00""#, br#""\ud800\ud800""#, br#""\udc00\ud800""#, br#""\ud800a""#,
    br#""\ud800\n""#, br#""\ud800\u0041""#, b"\"\x7F\"", "\"é\"".as_bytes(), "\"€\"".as_bytes(),
    "\"😀\"".as_bytes(), "\"\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}\"".as_bytes(),
    "\"\u{2028}\u{2029}\u{feff}\u{fdd0}\"".as_bytes(),
    br#""a string of more than 64 bytes, so that it is walked in blocks as well: \" and so on, to here""#,
    // arrays and objects
    b"[]", b"[ ]", b"[[]]", b"[[],[[]]]", b"[1,2]", b"[ 1 , 2 ]", b"[\n1\r\n,\t2]", b"[null,true,\"\"]",
    br#"[1,"a",{}]"#, b"{}", b"{ }", br#"{"":0}"#, br#"{"a":{}}"#, br#"{"a":1,"a":1}"#, br#"{"a":1,"a":2}"#,
    br#"{"\u0061":1,"a":2}"#, br#"{ "a" : [ { "b" : null } ] }"#, br#"{"\u0000":0}"#, br#"{"\ud800":0}"#,
    br#"{"id":1,"id":2,"method":0,"params":0,"params":1}"#, br#"{"a":"b\\"}"#, b"  1  ",
];

/// RFC 8259 forbids these values.
#[rustfmt::skip]
const FORBIDDEN: &[&[u8]] = &[
    // literals
    b"", b"True", b"TRUE", b"tru", b"truE", b"truee", b"true1", b"nul", b"Null", b"None", b"undefined", b"fals",
    b"falsefalse", b"nulltrue",
    // numbers
    b"NaN", b"-NaN", b"Infinity", b"-Infinity", b"inf", b"-", b"--1", b"+1", b"++1", b"01", b"-01", b"00",
    b"-00", b"0123", b"1.", b"-1.", b".5", b"-.5", b"1..2", b"1.2.3", b"1.e5", b"1e", b"1e+", b"1e-", b"1e+-1",
    b"1ee1", b"1e1.5", b"1e1e1", b"0x10", b"0b1", b"0o7", b"1_000", b"1a", b"1 000", b"1,000", b"- 1", b"1 .5",
    b"1. 5", b"1e 5", b"2L", b"1f", "１".as_bytes(), "٣".as_bytes(), "−1".as_bytes(), b"(1)",
    // strings
    br#"""#, br#""a"#, br#"a""#, br#"'a'"#, br#"`a`"#, br#""\"#, br#""\""#, br#""\\\""#, br#""\a""#, br#""\0""#,
    br#""\x41""#, br#""\'""#, br#""\v""#, br#""\ ""#, br#""\u""#, br#""\u0""#, br#""\u00""#, br#""\u004""#,
    br#""\u004g""#, br#""\u 041""#, br#""\u+041""#, br#""\u-041""#, br#""\U0041""#, br#""\u{41}""#,
    br#""\ud800\u""#, br#""\ud800\u1""#, br#""\ud800\""#, b"\"\\\n\"", b"\"a\nb\"", b"\"\t\"", b"\"\r\"",
    b"\"\0\"", b"\"\x1F\"", b"\"\x08\"", "\"\\é\"".as_bytes(), "“a”".as_bytes(), br#""a" "b""#, br#""a""b""#,
    b"\"a string of more than 64 bytes, so that it is walked in blocks as well\x01 and so on, to here\"",
    // arrays
    b"[", b"]", b"[1", b"[1,", b"[,", b"[,1]", b"[1,]", b"[1,,2]", b"[,]", b"[1 2]", b"[1;2]", b"[1:2]", b"[1}",
    b"[[]", b"[]]", b"[][]", b"[\"a\"", b"[...]", b"[}", b"[[1}", b"[{]}", b"(1,2)",
    // objects
    b"{", b"}", b"{]", b"{,}", b"{\"a\"}", b"{\"a\":}", b"{\"a\":1", b"{\"a\":1,", b"{\"a\":1,}", b"{,\"a\":1}",
    b"{\"a\":1,,\"b\":2}", b"{\"a\" 1}", b"{\"a\",1}", b"{\"a\"::1}", b"{\"a\":1 \"b\":2}",
    b"{\"a\":1;\"b\":2}", b"{\"a\":1:2}", b"{a:1}", b"{'a':1}", b"{1:1}", b"{null:1}", b"{[]:1}", b"{\"a\":1]",
    b"{\"a\":[}]", b"{{}}", b"{\"a\":{}", b"{:1}", b"{\"a", b"{\"a\":\"b", b"{\"\\u\":1}", b"{...}", b"{}{}",
    b"{\"a\\\":1}",
    // white space that JSON does not know, comments, and what else is put between values
    b"\x0B1", b"\x0C1", b"\x001", b"1\0", b"[1\0]", b"\x7F1", "\u{a0}1".as_bytes(), "\u{85}1".as_bytes(),
    "\u{2003}1".as_bytes(), "\u{2028}1".as_bytes(), "\u{3000}1".as_bytes(), "\u{feff}1".as_bytes(),
    "\u{200b}1".as_bytes(), b"/**/1", b"1/**/", b"//\n1", b"#\n1", b"1#", b"<!---->1", b"1;", b"$", b"@",
    b"\\u0031", b"*",
];

/// No UTF-8, wherever it stands: here inside a string.
#[rustfmt::skip]
const NOT_UTF8: &[&[u8]] = &[
    b"\x80", b"\xBF", b"\xC2", b"\xC2a", b"\xE2\x82", b"\xE2\x82a", b"\xF0\x9F\x98", b"\xFE", b"\xFF",
    b"\xFF\xFE",
    // longer than need be: slash, NUL, DEL and the first characters of each length
    b"\xC0\xAF", b"\xC0\x80", b"\xC1\xBF", b"\xE0\x80\xAF", b"\xE0\x9F\xBF", b"\xF0\x80\x80\xAF",
    b"\xF0\x8F\xBF\xBF", b"\xF8\x80\x80\x80\xAF",
    // surrogates, and what lies beyond U+10FFFF
    b"\xED\xA0\x80", b"\xED\xBF\xBF", b"\xED\xA0\xBD\xED\xB8\x80", b"\xF4\x90\x80\x80", b"\xF5\x80\x80\x80",
    b"\xF7\xBF\xBF\xBF", b"\xFC\x84\x80\x80\x80\x80",
    // Latin-1 é
    b"caf\xE9",
];

#[test]
fn lets_through_what_json_allows() {
    for value in ALLOWED {
        for body in bodies(value) {
            assert!(judge(&body), "refused: {}", body.escape_ascii());
        }
    }
}

#[test]
fn refuses_what_json_forbids() {
    for value in FORBIDDEN {
        for body in bodies(value) {
            let reason = refusal(&body);
            assert!(matches!(reason, Reason::Parse { .. }), "{reason:?}: {}", body.escape_ascii());
        }
    }
}

#[test]
fn refuses_what_is_no_utf8() {
    for bytes in NOT_UTF8 {
        for body in bodies(&[b"\"ab", *bytes, b"c\""].concat()) {
            let reason = refusal(&body);
            assert!(matches!(reason, Reason::Utf8 { .. }), "{reason:?}: {}", body.escape_ascii());
        }
    }
}

#[test]
fn refuses_what_follows_a_message() {
    for behind in
        ["x", "0", ",", "]", "}", "{}", "null", "\"", "\0", "\u{c}", "\u{feff}", "{\"method\":\"y\"}", "\n{}"]
    {
        let body = format!(r#"{{"id":1,"method":"x"}}{behind}"#);
        assert_eq!(
            refusal(body.as_bytes()),
            Reason::Parse { offset: 21 + behind.len() - behind.trim_start_matches('\n').len() }
        );
    }
}

#[test]
fn refuses_a_message_broken_off_anywhere() {
    let body =
        r#"{"jsonrpc":"2.0","id":-1.5e3,"method":"a\u00e9é","params":{"a":[true,{}],"server_id":null}}"#;
    for length in 1..body.len() {
        let reason = refusal(&body.as_bytes()[..length]);
        assert!(
            matches!(reason, Reason::Parse { offset } | Reason::Utf8 { offset } if offset <= length),
            "{reason:?}"
        );
    }
    assert!(judge(body.as_bytes()));
}

#[test]
fn knows_no_greatest_depth() {
    let depth = 1_000_000;
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}"), (r#"[{"a":"#, "}]")] {
        let nested = format!("{}0{}", open.repeat(depth), close.repeat(depth));
        assert!(judge(format!(r#"{{"method":"x","params":{{"a":{nested}}}}}"#).as_bytes()));
        let unclosed = format!(r#"{{"method":"x","params":{{"a":{}"#, open.repeat(depth));
        assert_eq!(refusal(unclosed.as_bytes()), Reason::Parse { offset: unclosed.len() });
    }
    // A wrong bracket is seen behind any number of right ones, also where the bit stack leaves its first words.
    for depth in [1, 2, 63, 64, 65, 127, 128, 129, 1000] {
        let crossed = format!(r#"{{"method":{}{{{}"#, "[".repeat(depth), "]".repeat(depth));
        assert_eq!(refusal(crossed.as_bytes()), Reason::Parse { offset: 11 + depth });
        let swapped = format!(r#"{{"method":{}{{}}{}}}}}"#, "[".repeat(depth), "]".repeat(depth - 1));
        assert_eq!(refusal(swapped.as_bytes()), Reason::Parse { offset: 11 + 2 * depth });
    }
}

/// Each of these is a megabyte that makes a careless parser look back again and again. A quadratic one would not end.
#[test]
fn takes_no_longer_for_bodies_made_to_be_slow() {
    let megabyte = |part: &str| part.repeat((1 << 20) / part.len());
    for body in [
        format!(r#"{{"method":"x"{}}}"#, megabyte(" ")),
        format!(r#"{{"method":"x","id":1{}"#, megabyte("\n")),
        format!(r#"{{"method":"{}"}}"#, megabyte(r"\\")),
        format!(r#"{{"method":"{}"}}"#, megabyte(r"\ud83d")),
        format!(r#"{{"{}":0,"method":"x"}}"#, megabyte(r"\u0061")),
        format!(r#"{{"method":"x","params":{{{}"a":0}}}}"#, megabyte(r#""server_id":0,"#)),
        format!(r#"{{"method":"x","params":{{{}"a":0}}}}"#, megabyte(r#""server\u005fid" : 0 , "#)),
        format!(r#"{{"method":"x","params":{{{}"a":0}}}}"#, megabyte(r#""_meta":{"a":"b"},"#)),
        format!(r#"{{{}"method":"x"}}"#, megabyte(r#""id":1,"#)),
        format!(r#"{{{}"method":"x"}}"#, megabyte(r#""params":{},"#)),
        format!("[{}0]", megabyte(r#"{"method":""},"#)),
        format!("[{}0]", megabyte("[],")),
        format!(r#"{{"method":"x","params":{}}}"#, megabyte("1")),
        megabyte("[{"),
    ] {
        judge(body.as_bytes());
    }
}

/// The value as an argument, as params, in an array, as a member's last and as a first.
fn bodies(value: &[u8]) -> Vec<Vec<u8>> {
    [
        (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"arguments":{"a":"#, "}}}"),
        (r#"{"method":"x","params":"#, "}"),
        (r#"{"a":"#, r#","method":"x"}"#),
        (r#"{"method":"x","params":{"server_id":"#, "}}"),
        (r#"[{"method":"x"},{"a":"#, "}]"),
    ]
    .map(|(before, behind)| [before.as_bytes(), value, behind.as_bytes()].concat())
    .to_vec()
}

fn refusal(body: &[u8]) -> Reason {
    judge(body);
    jsonrpc::scan(body).expect_err("this body must be refused").reason
}
