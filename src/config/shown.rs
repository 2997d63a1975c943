//! The configuration as an operator may see it: every key with the value in force. PURE: tree and schema in, JSON out.
//! What the file leaves out has its default from the schema.
//! Surprise: variables were not replaced by whoever made the tree, so no value of the environment can get here.

use serde_json::{Map, Value};

use super::node::{Kind, Node};
use super::scalar::{Scalar, Style, credentials};

/// `node`: as the file has it; `None` = it is left out.
pub fn shown(schema: &Value, node: Option<&Node>) -> Value {
    let Some(node) = node else { return schema["default"].clone() };
    match &node.kind {
        Kind::Scalar(scalar) => of_scalar(scalar),
        Kind::List(items) => items.iter().map(|item| shown(&schema["items"], Some(item))).collect(),
        Kind::Mapping(entries) => of_mapping(schema, entries),
        Kind::Reported => Value::Null,
    }
}

fn of_mapping(schema: &Value, entries: &[(String, Node)]) -> Value {
    let alternatives = ["anyOf", "oneOf"].iter().filter_map(|name| schema[*name].as_array()).flatten();
    // Of values that may be written in two ways only one is a mapping.
    let schema = std::iter::once(schema)
        .chain(alternatives)
        .find(|schema| schema["properties"].is_object())
        .unwrap_or(schema);
    let mut object = Map::new();
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        object.insert(key.clone(), property["default"].clone());
    }
    for (key, value) in entries {
        let property = schema["properties"].get(key).unwrap_or(&schema["additionalProperties"]);
        object.insert(key.clone(), shown(property, Some(value)));
    }
    Value::Object(object)
}

fn of_scalar(scalar: &Scalar) -> Value {
    if scalar.is_null() {
        return Value::Null;
    }
    let text = scalar.text.as_str();
    if let Some(hidden) = credentials(text) {
        return text.replace(hidden, "***@").into();
    }
    match (scalar.style, text.parse::<bool>(), text.parse::<u64>()) {
        (Style::Plain, Ok(flag), _) => flag.into(),
        (Style::Plain, _, Ok(number)) => number.into(),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn defaults_are_laid_under_what_the_file_says_and_secrets_are_hidden() {
        let text = r#"
listeners: [{address: "127.0.0.1:8080", scope: false}]
threads: 2
upstreams:
  gateway: {peers: [{name: w1, address: "${GATEWAY:-a}:1"}, "b:2"], tls: {server_name: "${NAME}"}}
sessions: {registry: redis, redis: {url: "redis://user:s3cret@redis:6379/0"}}
admin: null
"#;
        let shown = crate::config::shown(text);
        assert_eq!(shown["threads"], 2);
        assert_eq!(shown["listeners"][0]["scope"], false);
        assert_eq!(shown["listeners"][0]["trusted_proxies"], json!([]));
        assert_eq!(shown["admin"], json!(null));
        let gateway = &shown["upstreams"]["gateway"];
        assert_eq!(gateway["peers"], json!([{ "name": "w1", "address": "${GATEWAY}:1" }, "b:2"]));
        assert_eq!(
            (&gateway["tls"]["server_name"], &gateway["tls"]["verify"]),
            (&json!("${NAME}"), &json!("full"))
        );
        assert_eq!(shown["sessions"]["redis"]["url"], "redis://***@redis:6379/0");
        assert_eq!((&shown["sessions"]["ttl"], &shown["drain"]["timeout"]), (&json!("1h"), &json!("1h")));
        assert!(!shown.to_string().contains("s3cret"));
    }
}
