//! What an upstream says of its own failure: takes its body, gives one bounded line for the client to read.
//! FastAPI's `detail`, the common JSON error shapes, text, and markup without its tags. Surprise: what looks like JSON and is none is read
//! as text, because half an error still says more than nothing.

use serde_json::Value;

/// Longest detail, in characters.
const LONGEST: usize = 200;

/// Characters that are looked through for it: pages have heads.
const SEARCHED: usize = 16 * 1024;

/// What kind of text a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Markup {
    Json,
    Html,
    Text,
}

/// `None`: the body says nothing.
pub fn detail(markup: Markup, body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&body[..body.len().min(SEARCHED)]);
    let said = match markup {
        // Whatever its type: no sentence begins like this, and no JSON.
        _ if text.trim_start().starts_with('<') => Some(without_tags(&text)),
        Markup::Json => match serde_json::from_slice(body) {
            Ok(Value::Null) => None,
            Ok(value) => told_by(&value).or_else(|| unsaid(&value).then(|| text.into_owned())),
            Err(_) => Some(text.into_owned()),
        },
        Markup::Html => Some(without_tags(&text)),
        Markup::Text => Some(text.into_owned()),
    };
    said.map(|said| one_line(&said)).filter(|line| !line.is_empty())
}

/// The sentence in a JSON value, by the names that servers give it.
fn told_by(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(list) => {
            let parts: Vec<String> = list.iter().filter_map(told_by).collect();
            (!parts.is_empty()).then(|| parts.join("; "))
        }
        Value::Object(members) => {
            let told = |name: &str| members.get(name).and_then(told_by).filter(|text| !text.is_empty());
            let title = told("detail").or_else(|| told("error")).or_else(|| told("title"));
            let sentence = told("message").or_else(|| told("msg")).or_else(|| told("error_description"));
            match (title, sentence) {
                (Some(title), Some(sentence)) if title != sentence => Some(format!("{title}: {sentence}")),
                (title, sentence) => title.or(sentence),
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// Whether the value as it is written may say what its names do not.
fn unsaid(value: &Value) -> bool {
    match value {
        Value::Object(members) => !members.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::String(_) | Value::Null => false,
        Value::Bool(_) | Value::Number(_) => true,
    }
}

/// Text between tags; what scripts and styles hold is none.
fn without_tags(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some((before, tag)) = rest.split_once('<') {
        text.push_str(before);
        text.push(' ');
        let is = |name: &str| tag.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name));
        let end = if is("!--") {
            tag.find("-->")
        } else if is("script") {
            tag.to_ascii_lowercase().find("</script")
        } else if is("style") {
            tag.to_ascii_lowercase().find("</style")
        } else {
            tag.find('>')
        };
        let Some(at) = end else { return text };
        rest = tag[at..].split_once('>').map_or("", |(_, behind)| behind);
    }
    text.push_str(rest);
    text
}

/// White space and control characters become single blanks; what is too long ends in an ellipsis.
fn one_line(text: &str) -> String {
    let is_blank = |c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}';
    let words: Vec<&str> = text.split(is_blank).filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(LONGEST) {
        None => line,
        Some(_) => line.chars().take(LONGEST - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn a_body_says_one_line() {
        use Markup::*;
        let nginx = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx/1.24</center>\r\n</body>\r\n</html>";
        let table = [
            (Json, r#"{"detail":"Server not found"}"#, Some("Server not found")),
            (Json, r#"{"detail":[{"loc":["body","id"],"msg":"Field required","type":"missing"},{"msg":"Too long"}]}"#, Some("Field required; Too long")),
            (Json, r#"{"detail":{"error":"quota","message":"come back"}}"#, Some("quota: come back")),
            (Json, r#"{"error":"Account locked","message":"Too many attempts","retry_after":900}"#, Some("Account locked: Too many attempts")),
            (Json, r#"{"error":"invalid_token","error_description":"expired"}"#, Some("invalid_token: expired")),
            (Json, r#"{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"Session not found"}}"#, Some("Session not found")),
            (Json, r#"{"type":"about:blank","title":"Forbidden","status":403}"#, Some("Forbidden")),
            (Json, r#"{"status":"down","since":7}"#, Some(r#"{"status":"down","since":7}"#)),
            (Json, r#""plain \ud83d\ude00 string""#, Some("plain 😀 string")),
            (Json, r#"{"detail":"half"#, Some(r#"{"detail":"half"#)),
            (Json, "\n<h1>not JSON</h1>", Some("not JSON")), (Text, "<Error><Code>Denied</Code></Error>", Some("Denied")),
            (Json, "null", None), (Json, "{}", None), (Json, "[]", None), (Json, r#"{"detail":""}"#, Some(r#"{"detail":""}"#)),
            (Json, "503", Some("503")), (Json, "", None),
            (Html, nginx, Some("502 Bad Gateway 502 Bad Gateway nginx/1.24")),
            (Html, "<style>p { a: b }</style><SCRIPT>if (a<b) {}</SCRIPT><!-- a > b --><p class='x'>Gone&nbsp;away<br/>now", Some("Gone&nbsp;away now")),
            (Html, "<p>cut <a hre", Some("cut")), (Html, "<script>never ends", None), (Html, "<é>ok", Some("ok")),
            (Text, " upstream\r\n\tconnect\0error\x1b[31m  \u{85}x\u{feff} ", Some("upstream connect error [31m x")),
            (Text, "Ünïcödé 😀", Some("Ünïcödé 😀")), (Text, " \r\n", None),
        ];
        for (markup, body, line) in table {
            assert_eq!(detail(markup, body.as_bytes()).as_deref(), line, "{body}");
        }
        assert_eq!(detail(Text, b"caf\xe9").as_deref(), Some("caf\u{fffd}"));
    }

    #[test]
    fn a_line_has_its_greatest_length() {
        let exactly = "é".repeat(LONGEST);
        assert_eq!(detail(Markup::Text, exactly.as_bytes()), Some(exactly.clone()));
        let longer = detail(Markup::Text, format!("{exactly}é").as_bytes());
        assert_eq!(longer, Some(format!("{}…", "é".repeat(LONGEST - 1))));
        let page = format!("<html>{}", "<p>x</p>".repeat(100_000));
        assert!(detail(Markup::Html, page.as_bytes()).is_some_and(|line| line.chars().count() == LONGEST));
    }
}
