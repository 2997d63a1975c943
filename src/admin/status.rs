//! `/status`: everything that the status page and `outrigger status` show, in one JSON document of this moment.
//! Takes the sums over all generations, the supervisor's last word and how this generation is; gives JSON.
//! Surprise: it holds totals, never rates. Whoever shows a rate takes two of them and the time between, so that nothing has to run here
//! for a page that nobody looks at.

use std::time::{SystemTime, UNIX_EPOCH};

use http::StatusCode;
use serde_json::{Value, json};

use super::{Admin, Page, attention, certificates, upstreams};
use crate::account::Snapshot;
use crate::config::settings::Listener;

impl Admin {
    pub(super) async fn status(&self) -> Page {
        let Ok(sum) = self.sum().await else {
            let error =
                json!({ "error": "the supervisor does not say what the other generations have counted" });
            return Page::json(StatusCode::SERVICE_UNAVAILABLE, &error);
        };
        let status = self.supervisor.status();
        let (readiness, ready) = self.readiness().await;
        let mut body = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "now": now().as_secs_f64(),
            "began": status.began,
            "generation": self.generation,
            "ready": ready,
            "reasons": readiness["reasons"],
            "registry": readiness["registry"],
            "generations": self.shown_generations(),
            "last_reload": status.last_reload,
            "reloads": { "ok": status.reloads_ok, "failed": status.reloads_failed },
            "restarts": status.restarts,
            "listeners": self.app.settings.listeners.iter().map(|each| self.listener(each)).collect::<Vec<_>>(),
            "upstreams": upstreams::full(&self.app),
            "certificates": self.app.certificates.iter().map(certificates::shown).collect::<Vec<_>>(),
            "members": self.members(),
            "counts": counts(&sum),
        });
        body["attention"] = attention::of(&body).into();
        Page::json(StatusCode::OK, &body)
    }

    fn listener(&self, listener: &Listener) -> Value {
        let addresses: Vec<String> = listener.addresses.iter().map(ToString::to_string).collect();
        let leads = listener
            .destination
            .leads()
            .map(|(path, upstream)| json!({ "path": path, "upstream": self.app.upstream(upstream).name }));
        json!({
            "name": listener.name,
            "addresses": addresses,
            "tls": listener.tls.is_some(),
            "leads": leads.collect::<Vec<_>>(),
        })
    }

    /// Null where this Outrigger is no member.
    fn members(&self) -> Value {
        let Some(members) = &self.app.members else { return Value::Null };
        let others: Vec<Value> = members
            .known()
            .into_iter()
            .filter(|(name, _)| *name != members.me)
            .map(|(name, address)| json!({ "name": name, "address": address }))
            .collect();
        json!({ "me": members.me, "others": others })
    }
}

/// Totals since the supervisor started.
fn counts(sum: &Snapshot) -> Value {
    let total = |name: &str| sum.number(name, "");
    let mut by_status = std::collections::BTreeMap::<String, i64>::new();
    let mut by_route = std::collections::BTreeMap::<String, i64>::new();
    for (labels, number) in sum.numbers("outrigger_requests_total") {
        if let [route, status] = labels[..] {
            *by_route.entry(route.to_owned()).or_default() += number;
            *by_status.entry(status.to_owned()).or_default() += number;
        }
    }
    let by_label = |name: &str| -> Value {
        let numbers = sum.numbers(name);
        let named =
            numbers.filter_map(|(labels, number)| Some(((*labels.first()?).to_owned(), json!(number))));
        named.collect::<serde_json::Map<_, _>>().into()
    };
    let duration = sum.histogram("outrigger_request_duration_seconds").map(|histogram| {
        json!({ "buckets": histogram.buckets, "count": histogram.count, "sum": histogram.sum as f64 / 1e9 })
    });
    json!({
        "requests": by_status.values().sum::<i64>(),
        "by_status": by_status,
        "by_route": by_route,
        "faults": by_label("outrigger_faults_total"),
        "normalised": by_label("outrigger_normalised_total"),
        "handshake_failures": by_label("outrigger_tls_handshake_failures_total"),
        "duration_seconds": duration,
        "connections": total("outrigger_connections"),
        "streams": total("outrigger_streams"),
        "in_flight": total("outrigger_requests_in_flight"),
        "connects": total("outrigger_upstream_connects_total"),
        "connect_failures": total("outrigger_upstream_connect_failures_total"),
        "retries": total("outrigger_retries_total"),
        "forwarded": total("outrigger_forwarded_total"),
        "sessions": {
            "claimed": total("outrigger_sessions_claimed_total"),
            "released": total("outrigger_sessions_released_total"),
            "lost": total("outrigger_sessions_lost_total"),
        },
    })
}

fn now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
