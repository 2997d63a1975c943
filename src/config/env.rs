//! `${VAR}` and `${VAR:-default}` inside one scalar value; `$$` is a literal `$`. PURE: the environment is a function.
//! It works on values after YAML has been parsed, so a variable can never add a key, a list entry or a comment.
//! Surprise: `:-` means what it means in the shell: the default also stands in for a variable that is set but empty.

/// The process environment, or a test's table.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A scalar whose `$` expressions have been replaced.
#[derive(Debug, PartialEq, Eq)]
pub struct Expanded {
    pub text: String,
    /// Whether any `${...}` stood in it.
    pub changed: bool,
    /// What came from the environment (defaults come from the file and are no secret).
    pub secrets: Vec<String>,
}

/// Replaces every `${...}` of `raw`. Errors: all sentences about this scalar at once.
pub fn expand(raw: &str, env: Env) -> Result<Expanded, Vec<String>> {
    let mut expanded =
        Expanded { text: String::with_capacity(raw.len()), changed: false, secrets: Vec::new() };
    let mut wrong = Vec::new();
    let mut rest = raw;
    while let Some(dollar) = rest.find('$') {
        expanded.text.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.text.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let Some((expression, after)) = after.split_once('}') else {
                wrong.push("`${` without a closing `}` (write `$$` for a literal `$`)".to_owned());
                break;
            };
            rest = after;
            expanded.changed = true;
            match value_of(expression, env) {
                Ok(Value::Environment(value)) => {
                    expanded.text.push_str(&value);
                    expanded.secrets.push(value);
                }
                Ok(Value::Default(value)) => expanded.text.push_str(value),
                Err(sentence) => wrong.push(sentence),
            }
        } else {
            expanded.text.push('$');
        }
    }
    expanded.text.push_str(rest);
    expanded.secrets.retain(|secret| !secret.is_empty());
    if wrong.is_empty() { Ok(expanded) } else { Err(wrong) }
}

enum Value<'a> {
    Environment(String),
    Default(&'a str),
}

fn value_of<'a>(expression: &'a str, env: Env) -> Result<Value<'a>, String> {
    let (name, default) = match expression.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (expression, None),
    };
    if !is_name(name) {
        return Err(format!("`${{{expression}}}` is neither `${{VAR}}` nor `${{VAR:-default}}`"));
    }
    match (env(name), default) {
        (Some(value), None) => Ok(Value::Environment(value)),
        (Some(value), Some(_)) if !value.is_empty() => Ok(Value::Environment(value)),
        (_, Some(default)) => Ok(Value::Default(default)),
        (None, None) => Err(format!("the environment variable `{name}` is not set")),
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(raw: &str) -> Result<String, Vec<String>> {
        let env = |name: &str| match name {
            "HOST" => Some("gateway".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        expand(raw, &env).map(|expanded| expanded.text)
    }

    #[test]
    fn variables_defaults_and_literal_dollars() {
        for (raw, expected) in [
            ("plain", "plain"),
            ("${HOST}:80", "gateway:80"),
            ("${HOST}${HOST}", "gatewaygateway"),
            ("${NONE:-127.0.0.1}", "127.0.0.1"),
            ("${HOST:-other}", "gateway"),
            ("${EMPTY:-other}", "other"),
            ("${EMPTY}", ""),
            ("${NONE:-}", ""),
            ("$${HOST}", "${HOST}"),
            ("$$$$", "$$"),
            ("a$b", "a$b"),
            ("end$", "end$"),
        ] {
            assert_eq!(text(raw).as_deref(), Ok(expected), "{raw}");
        }
    }

    #[test]
    fn every_bad_expression_of_a_scalar_is_named() {
        assert_eq!(
            text("${NONE} ${HOST:?no} ${1} ${HOST"),
            Err(vec![
                "the environment variable `NONE` is not set".to_owned(),
                "`${HOST:?no}` is neither `${VAR}` nor `${VAR:-default}`".to_owned(),
                "`${1}` is neither `${VAR}` nor `${VAR:-default}`".to_owned(),
                "`${` without a closing `}` (write `$$` for a literal `$`)".to_owned(),
            ])
        );
    }

    #[test]
    fn only_what_came_from_the_environment_is_a_secret() {
        let env = |name: &str| (name == "A").then(|| "s3cret".to_owned());
        let expanded = expand("${A}-${B:-public}", &env);
        assert_eq!(
            expanded,
            Ok(Expanded {
                text: "s3cret-public".to_owned(),
                changed: true,
                secrets: vec!["s3cret".to_owned()]
            })
        );
    }
}
