//! `/sessions/{id}`: what `outrigger explain` says, from inside.
//! Takes the id from the path, and `path` and `listener` from the query; gives the explanation as JSON.
//! Surprise: it only looks; asking is no use of the session and renews nothing.

use std::borrow::Cow;

use http::StatusCode;
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::{Admin, Page};
use crate::explain::{Question, explain_here};

impl Admin {
    pub(super) async fn session(&self, id: &str, query: Option<&str>) -> Page {
        let (Some(session), Ok(path), Ok(listener)) =
            (decoded(id), parameter(query, "path"), parameter(query, "listener"))
        else {
            return Page::json(StatusCode::BAD_REQUEST, &json!({ "error": "what is escaped is no UTF-8" }));
        };
        let question = Question { session: &session, path: path.as_deref(), listener: listener.as_deref() };
        match explain_here(&self.app, question).await {
            Ok(explanation) if explanation.registry_answers() => {
                Page::json(StatusCode::OK, &explanation.json())
            }
            Ok(explanation) => Page::json(StatusCode::SERVICE_UNAVAILABLE, &explanation.json()),
            // The command line names its options.
            Err(reason) => {
                Page::json(StatusCode::BAD_REQUEST, &json!({ "error": reason.trim_start_matches('-') }))
            }
        }
    }
}

/// `Err`: it is there and cannot be read.
fn parameter<'q>(query: Option<&'q str>, name: &str) -> Result<Option<Cow<'q, str>>, ()> {
    let mut pairs = query.unwrap_or("").split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.find(|(key, _)| *key == name).map(|(_, value)| decoded(value).ok_or(()));
    value.transpose()
}

fn decoded(text: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(text).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Some("listener=a&path=%2Fservers%2Fx%2Fmcp");
        assert_eq!(parameter(query, "path"), Ok(Some("/servers/x/mcp".into())));
        assert_eq!(parameter(query, "session"), Ok(None));
        assert_eq!(parameter(None, "path"), Ok(None));
        assert_eq!(parameter(Some("path=%ff"), "path"), Err(()));
    }
}
