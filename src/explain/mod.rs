//! `outrigger explain` and the admin listener's `/sessions/{id}`: which owner a request of a session would get at this moment, and why.
//! Takes what the operator asked, looks into the live registry (beside the running worker, or in it), gives an [`Explanation`].
//! Surprise: it only looks. Room 4 renews what it asks for, so the registry's own verbs are not used here; what is decided
//! from the findings is decided by the functions of room 4 themselves.

mod answer;
mod findings;
mod print;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use crate::app::App;
use crate::config;
use crate::config::settings::{Listener, Profile, RegistryKind, Settings, UpstreamId};
use crate::material::Shelf;
use crate::members::Members;
use crate::registry::{self, Claim, GatewayKeys, Registry, RegistryError, SessionKey, Store, Transport};
use crate::routing::route::{Refused, Route};
use crate::routing::session::{SessionHeader, session_header};
use answer::{To, answer};
use findings::{Findings, Gateway, Kept, Request, Whereabouts};

pub use print::Explanation;

/// How long Redis may take for the first connection.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the operator asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'q> {
    pub session: &'q str,
    /// `None`: the path that the session was opened under, whichever that is.
    pub path: Option<&'q str>,
    /// `None`: the first, if all lead to one upstream.
    pub listener: Option<&'q str>,
}

/// # Errors
/// What is wrong with the question or with the configuration, for the operator.
pub fn explain(config: &Path, question: Question<'_>) -> Result<Explanation, String> {
    let settings = config::load(config).map_err(|problems| problems.to_string())?;
    let request = request(&settings, question)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    Ok(runtime.block_on(look(&settings, request, question.session)))
}

/// The same in the running worker itself, whose registry is open already.
///
/// # Errors
/// What is wrong with the question, for the operator.
pub async fn explain_here(app: &App, question: Question<'_>) -> Result<Explanation, String> {
    let request = request(&app.settings, question)?;
    let label = label(&app.settings.sessions.registry);
    Ok(match app.registry.store() {
        None => {
            let claim = app.registry.look(&request.key);
            of_file(request, label, claim)
        }
        Some(store) => {
            let shared = Shared { store, gateway: app.gateway.as_ref(), members: app.members.as_ref() };
            shared.look(request, label, question.session).await
        }
    })
}

/// Rooms 1 to 3 for a request that names the session.
fn request(settings: &Settings, question: Question<'_>) -> Result<Request, String> {
    let id = question.session;
    if session_header(std::iter::once(id.as_bytes())) != SessionHeader::One(id) {
        return Err("--session: no such session id can be sent; a request with it is answered 400".into());
    }
    let listener = listener(settings, question.listener)?;
    let (upstream, path) = lead(listener, question.path)?;
    let upstream = &settings.upstreams[upstream.0];
    Ok(Request {
        key: SessionKey::new(&upstream.name, id),
        listener: listener.name.clone(),
        upstream: upstream.name.clone(),
        peers: upstream.peers.iter().map(|peer| peer.name.clone()).collect(),
        me: settings.member.as_ref().map(|member| member.name.clone()),
        on_registry_failure: settings.sessions.on_registry_failure,
        path: question.path.map(str::to_owned),
        scope: path.map(|path| scope(settings, &path)).transpose()?,
    })
}

fn listener<'s>(settings: &'s Settings, name: Option<&str>) -> Result<&'s Listener, String> {
    let names = || settings.listeners.iter().map(|listener| &*listener.name).collect::<Vec<_>>().join(", ");
    let all = &settings.listeners;
    match name {
        Some(name) => all
            .iter()
            .find(|listener| listener.name == name)
            .ok_or_else(|| format!("--listener: there is no `{name}`; there are {}", names())),
        None if all.iter().any(|listener| listener.destination != all[0].destination) => {
            Err(format!("--listener is required, because they lead to different upstreams: {}", names()))
        }
        None => Ok(&all[0]),
    }
}

/// The upstream that a request for this path is for, and the path as that knows it.
fn lead(listener: &Listener, path: Option<&str>) -> Result<(UpstreamId, Option<String>), String> {
    let name = &listener.name;
    let Some(path) = path else {
        let only = listener.destination.only();
        let several =
            || format!("--path is required, because it says which upstream of listener {name} is meant");
        return Ok((only.ok_or_else(several)?, None));
    };
    let nowhere = || format!("--path {path}: listener {name} has no upstream for it (404)");
    let lead = listener.destination.of(path.as_bytes()).ok_or_else(nowhere)?;
    let inside = lead.inside.map(|inside| String::from_utf8_lossy(&inside).into_owned());
    Ok((lead.upstream, Some(inside.unwrap_or_else(|| path.to_owned()))))
}

/// Server id and transport of a request for this path.
fn scope(settings: &Settings, path: &str) -> Result<(Option<String>, Transport), String> {
    let path = path.split(['?', '#']).next().unwrap_or(path);
    let contextforge = settings.profile == Profile::ContextForge;
    let no = |why: &str| Err(format!("--path {path}: {why}"));
    match settings.routes.classify(path.as_bytes(), contextforge) {
        Route::Mcp { server_id } => Ok((server_id.map(Into::into), Transport::StreamableHttp)),
        Route::Message { server_id } => Ok((server_id.map(Into::into), Transport::HttpSse)),
        Route::Sse { .. } => no("a request for it begins a session, and names none"),
        Route::Pass => no("it is no MCP route; what passes through belongs to no session"),
        Route::Refused(Refused::Internal) => no("it does not exist for the outside (404)"),
        Route::Refused(Refused::Ambiguous) => no("it can be read in two ways (400)"),
    }
}

/// Room 4, with a look in the place of every question.
async fn look(settings: &Settings, request: Request, session_id: &str) -> Explanation {
    let label = label(&settings.sessions.registry);
    match &settings.sessions.registry {
        RegistryKind::Embedded(embedded) => {
            let claim = registry::look(embedded, settings.sessions.ttl, &request.key);
            of_file(request, label, claim)
        }
        RegistryKind::Redis(_) => match Opened::open(settings) {
            Ok(opened) => opened.shared().look(request, label, session_id).await,
            Err(reason) => Explanation::of(Findings::new(request, label, Err(reason))),
        },
    }
}

fn label(registry: &RegistryKind) -> String {
    match registry {
        RegistryKind::Embedded(embedded) => format!("embedded, in {}", embedded.path.display()),
        RegistryKind::Redis(redis) => format!("redis, under {}", redis.prefix),
    }
}

/// The embedded registry's file knows everything that there is.
fn of_file(
    request: Request,
    label: String,
    claim: Result<Option<(Claim, Duration)>, RegistryError>,
) -> Explanation {
    let claim = claim.map(|found| found.map(|(what, left)| Kept { what, left: Some(left) }));
    Explanation::of(Findings::new(request, label, claim.map_err(|error| error.to_string())))
}

/// A Redis registry and what stands beside it, opened for one question.
struct Opened {
    store: Store,
    gateway: Option<GatewayKeys>,
    members: Option<Members>,
}

impl Opened {
    fn open(settings: &Settings) -> Result<Self, String> {
        let registry = Registry::open(&settings.sessions).map_err(|error| error.to_string())?;
        let store = registry.store().ok_or("the registry is not shared")?;
        let members = Members::open(settings, &registry, &mut Shelf::default())?;
        Ok(Self { gateway: GatewayKeys::of(store.clone()), store, members })
    }

    fn shared(&self) -> Shared<'_> {
        Shared { store: self.store.clone(), gateway: self.gateway.as_ref(), members: self.members.as_ref() }
    }
}

/// What there is to look at beside a Redis registry.
struct Shared<'a> {
    store: Store,
    gateway: Option<&'a GatewayKeys>,
    members: Option<&'a Members>,
}

impl Shared<'_> {
    async fn look(&self, request: Request, label: String, session_id: &str) -> Explanation {
        let claim = self.claim(&request.key).await.map_err(|error| error.to_string());
        let mut findings = Findings::new(request, label, claim);
        findings.cached = true;
        if matches!(findings.claim, Ok(None)) {
            findings.gateway = self.gateway(&findings.request.upstream, session_id).await;
        }
        if let To::Member { name, .. } = answer(&findings).to {
            let whereabouts = self.member(&name).await;
            findings.member = Some((name, whereabouts));
        }
        Explanation::of(findings)
    }

    async fn claim(&self, key: &SessionKey) -> Result<Option<Kept>, RegistryError> {
        let key = self.store.session_key(key);
        let began = std::time::Instant::now();
        let json = loop {
            match self.store.get(&key).await {
                // The first connection is being made.
                Err(RegistryError::Silent { .. }) if began.elapsed() < PATIENCE => {}
                answer => break answer?,
            }
        };
        let Some(what) = json.and_then(|json| Claim::from_json(json.as_bytes())) else {
            return Ok(None);
        };
        Ok(Some(Kept { what, left: self.store.expires_in(&key).await? }))
    }

    async fn gateway(&self, upstream: &str, session_id: &str) -> Gateway {
        let Some(keys) = &self.gateway else { return Gateway::NotRead };
        let word = match keys.ask(upstream, session_id).await {
            Ok(Some(word)) => word,
            Ok(None) => return Gateway::Silent,
            Err(error) => return Gateway::Failed(error.to_string()),
        };
        let neighbour = match &self.members {
            // Who cannot be listed is nobody's neighbour, as for a member that has just begun.
            Some(members) if word.calibrated.is_none() && members.look().await.is_ok() => {
                members.of_host(word.worker.host()).await
            }
            _ => None,
        };
        let left = keys.lease(session_id).await.ok().flatten();
        Gateway::Word { word, neighbour, left }
    }

    async fn member(&self, name: &str) -> Whereabouts {
        let Some(members) = &self.members else { return Whereabouts::NoMember };
        match members.find(name).await {
            Ok(Some(address)) => Whereabouts::At(address),
            Ok(None) => Whereabouts::Gone,
            Err(reason) => Whereabouts::Unknown(reason),
        }
    }
}
