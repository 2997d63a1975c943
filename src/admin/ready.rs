//! `/readyz`: whether this generation should get requests, and how what it needs is.
//! Takes what the generation knows of itself, its registry and its peers, gives 200 or 503 with the reasons.
//! Surprise: a shared registry that is down is told, but it is down for all members: if they all went out of service, nothing would be left
//! of what needs no registry.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Admin, Page, upstreams};

impl Admin {
    /// Once it has been true it stays so, whatever fails later.
    pub(super) fn startupz(&self) -> Page {
        match self.app.opened() {
            true => Page::text(StatusCode::OK, "ok\n"),
            false => Page::text(StatusCode::SERVICE_UNAVAILABLE, "the listeners are not probed yet\n"),
        }
    }

    pub(super) async fn readyz(&self) -> Page {
        let (body, ready) = self.readiness().await;
        Page::json(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body)
    }

    /// Ready = the listeners were probed, nothing drains, and a registry of our own answers.
    pub(super) async fn readiness(&self) -> (Value, bool) {
        let (kind, registry) = (self.app.registry.kind(), self.app.registry.count().await);
        let (opened, draining) = (self.app.opened(), self.app.draining());
        let no_registry = registry.is_err() && !self.app.registry.is_shared();
        let reasons: Vec<&str> = [
            (!opened, "the listeners are not probed yet"),
            (draining, "this generation drains"),
            (no_registry, "the registry does not answer"),
        ]
        .into_iter()
        .filter_map(|(holds, reason)| holds.then_some(reason))
        .collect();
        let ready = reasons.is_empty();
        let body = json!({
            "ready": ready,
            "reasons": reasons,
            "generation": self.generation,
            "draining": draining,
            "listeners_probed": opened,
            "registry": match &registry {
                Ok(Some(sessions)) => json!({ "kind": kind, "sessions": sessions }),
                Ok(None) => json!({ "kind": kind }),
                Err(error) => json!({ "kind": kind, "error": error.to_string() }),
            },
            "upstreams": upstreams::brief(&self.app.upstreams),
        });
        (body, ready)
    }
}
