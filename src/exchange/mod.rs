//! The exchange: how an MCP request lives, from its head to the end of its answer, in the order of the rooms (3 to 9).
//! Takes Pingora's downstream session and what classify found, gives the answer written or the reason why it must be cut ([`Stop`]).
//! Surprise: the whole request body is in our hands before a peer is chosen, because the body says what the request is (era,
//! method, id), and because a head and a body that leave in one write cost the upstream one wake-up instead of two.

mod arrival;
mod connection;
mod forward;
mod gateway;
mod masked;
pub(crate) mod normalise;
mod opening;
pub(crate) mod outbound;
mod ownership;
pub(crate) mod public;
mod redirect;
mod relay;
mod reply;
mod request;
mod task;

use std::borrow::Cow;

use pingora_core::{Error, ErrorType};
use pingora_proxy::Session;

use crate::account::{Record, RouteKind};
use crate::app::App;
use crate::config::settings::Listener;
use crate::error::Fault;
use crate::mcp::failure::Asked;
use crate::mcp::public_url::address::Ours;
use crate::registry::Transport;
use crate::routing::route::Route;
use crate::trace::Room;
use crate::upstream::Upstream;
use connection::Answer;
use normalise::Judged;
use outbound::Outbound;
use ownership::Owner;
use public::Public;
use request::Inbound;
use task::NewTask;

pub use arrival::arrive;
pub use reply::{REST, refuse};

/// Which MCP route, by the words of the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    Mcp,
    Sse,
    Message,
}

/// What classify found out about an MCP request.
#[derive(Debug, Clone)]
pub struct Target {
    pub endpoint: Endpoint,
    pub server_id: Option<String>,
}

impl Target {
    /// `None` for routes that are not MCP's.
    pub fn of(route: Route<'_>) -> Option<Self> {
        let owned = |server_id: Option<Cow<'_, str>>| server_id.map(Cow::into_owned);
        let (endpoint, server_id) = match route {
            Route::Mcp { server_id } => (Endpoint::Mcp, owned(server_id)),
            Route::Sse { server_id } => (Endpoint::Sse, owned(server_id)),
            Route::Message { server_id } => (Endpoint::Message, owned(server_id)),
            Route::Pass | Route::Refused(_) => return None,
        };
        Some(Self { endpoint, server_id })
    }

    pub fn kind(&self) -> RouteKind {
        match self.endpoint {
            Endpoint::Mcp => RouteKind::Mcp,
            Endpoint::Sse => RouteKind::Sse,
            Endpoint::Message => RouteKind::Message,
        }
    }

    fn transport(&self) -> Transport {
        match self.endpoint {
            Endpoint::Mcp => Transport::StreamableHttp,
            Endpoint::Sse | Endpoint::Message => Transport::HttpSse,
        }
    }
}

/// Why an exchange ended without a whole answer.
#[derive(Debug)]
pub enum Stop {
    /// We answer in the upstream's place.
    Reply(Fault),
    /// The client went away; nobody is left to answer.
    ClientGone,
    /// The answer had begun; only closing the stream tells the client that it is not whole.
    Cut(pingora_core::BError),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Reply(fault)
    }
}

/// Runs the exchange of a client's request that came in here for there, and answers for it where the upstream did not. `Err` = the
/// connection must be cut.
pub(crate) async fn run(
    session: &mut Session,
    app: &App,
    (listener, upstream): (&Listener, &Upstream),
    target: &Target,
    public: &Public,
    record: &mut Record,
) -> pingora_core::Result<()> {
    session.as_downstream_mut().set_write_timeout(Some(app.settings.timeouts.write));
    let side = Side::Client { scope: listener.scope, public };
    let exchange = Exchange { app, upstream, target, side };
    let mut asked = request::unread(&session.req_header().method, target.endpoint);
    match exchange.rooms(session, public, &mut asked, record).await {
        Err(Stop::Reply(fault)) => reply::fault(session, app, &asked, &fault, record).await,
        ended => finish(session, ended, record),
    }
}

/// Answers with `fault` to a message that is not let in; its id is read, because clients that cannot find theirs wait for ever.
pub async fn refuse_message(
    session: &mut Session,
    app: &App,
    fault: &Fault,
    record: &mut Record,
) -> pingora_core::Result<()> {
    let caller = match request::read_body(session, app, app.settings.limits.body).await {
        Ok(body) => request::caller_of(&session.req_header().method, &body),
        Err(Stop::Reply(_)) => request::unread_caller(&session.req_header().method),
        Err(stop) => return finish(session, Err(stop), record),
    };
    // Where its answer was to come by a stream, only the status tells that none will.
    let asked = Asked { caller, by_stream: true, ..Asked::default() };
    reply::fault(session, app, &asked, fault, record).await
}

/// The end of an exchange that owes no reply.
fn finish(session: &mut Session, ended: Result<(), Stop>, record: &mut Record) -> pingora_core::Result<()> {
    match ended {
        Ok(()) | Err(Stop::Reply(_)) => Ok(()),
        Err(Stop::ClientGone) => {
            record.client_gone = true;
            session.as_downstream_mut().set_keepalive(None);
            // With a head sent, an orderly end would make the part that left look like the whole.
            let begun = session.response_written().is_some();
            if begun { Error::e_explain(ErrorType::WriteError, "the client went away") } else { Ok(()) }
        }
        Err(Stop::Cut(error)) => Err(error),
    }
}

/// What an exchange knows from its first moment on; each room adds its step as a method.
#[derive(Clone, Copy)]
pub(crate) struct Exchange<'e> {
    pub app: &'e App,
    pub upstream: &'e Upstream,
    pub target: &'e Target,
    pub side: Side<'e>,
}

/// Who is at the downstream end.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Side<'e> {
    /// A client. `scope`: whether the path's server id is spliced in; `public`: what the client calls us.
    Client { scope: bool, public: &'e Public },
    /// Another member, whose client it is.
    Member,
}

impl<'e> Exchange<'e> {
    /// The rooms in order. `asked` is set as soon as it is known, so that a reply can carry its id.
    async fn rooms(
        &self,
        session: &mut Session,
        public: &Public,
        asked: &mut Asked,
        record: &mut Record,
    ) -> Result<(), Stop> {
        // The answer may be a stream that lives for days; the request does not live with it.
        let (answer, judged, task) = self.answered(session, public, asked, record).await?;
        let _room = record.trace.room("relay");
        self.relay(session, answer, (judged, asked), task, record).await
    }

    /// Rooms 3 to 8: an answer that lacks only its way outward.
    async fn answered(
        &self,
        session: &mut Session,
        public: &Public,
        asked: &mut Asked,
        record: &mut Record,
    ) -> Result<(Answer<'e>, Judged, NewTask), Stop> {
        let room = record.trace.room("identify");
        let body = request::read_body(session, self.app, self.app.settings.limits.body).await?;
        let mut inbound = Inbound::identify(session, self, body).map_err(|unidentified| {
            asked.caller = unidentified.caller;
            unidentified.fault
        })?;
        *asked = inbound.asked(self.target.endpoint);
        inbound.describe(record);
        drop(room);

        let room = record.trace.room("locate");
        let owner = self.locate(&mut inbound).await?;
        drop(room);

        let hop = self.hop(&owner, &inbound, record.id);
        let room = record.trace.room("rewrite request");
        let mut outbound =
            outbound::rewrite(session, self.app, &inbound, public, hop.as_ref(), &record.trace);
        drop(room);

        self.note_call(&inbound).await;
        let answer = self.ask(session, &owner, &mut outbound, &inbound, record).await?;
        let mut answer = self.followed(session, answer, &owner, &mut outbound, &inbound, record).await?;
        let room = record.trace.room("normalise");
        let judged = self.judge(session, &mut answer, asked).await?;
        self.note_session(&inbound, &answer, judged.leaves()).await?;
        drop(room);
        let task = NewTask::of(&inbound, &answer.head);
        Ok((answer, judged, task))
    }

    /// Rooms 6 and 7: the beginning of an answer, from a peer of ours or from another member's.
    async fn ask(
        &self,
        session: &mut Session,
        owner: &Owner,
        outbound: &mut Outbound,
        inbound: &Inbound,
        record: &mut Record,
    ) -> Result<Answer<'e>, Stop> {
        let mut room = record.trace.client(if matches!(owner, Owner::Far(_)) { "hop" } else { "upstream" });
        outbound.trace(&record.trace);
        let answer = match owner {
            Owner::Far(far) => self.forward(session, far, outbound, inbound, record).await,
            Owner::Near(near) => self.send(session, *near, &outbound.wire, inbound, record).await,
        };
        self.tell(&mut room, record, &answer);
        answer
    }

    /// What became of asking, for whoever looks at its span.
    fn tell(&self, room: &mut Room, record: &Record, answer: &Result<Answer<'_>, Stop>) {
        if !room.is_open() {
            return;
        }
        room.set("outrigger.upstream", self.upstream.name.clone());
        if let Some(peer) = record.peer.and_then(|index| self.upstream.peers.get(index)) {
            room.set("server.address", peer.host.clone());
            room.set("server.port", i64::from(peer.port));
        }
        if let Some(member) = &record.member {
            room.set("outrigger.member", member.clone());
        }
        match answer {
            Ok(answer) => room.set("http.response.status_code", i64::from(answer.head.status.as_u16())),
            Err(Stop::Reply(fault)) => room.fail(fault.kind()),
            Err(Stop::ClientGone) => room.set("outrigger.client_gone", true),
            Err(Stop::Cut(_)) => room.fail("answer_broken"),
        }
    }

    /// What is public, where that is ours to say.
    fn ours(&self) -> Option<Ours<'_>> {
        match self.side {
            Side::Client { public, .. } => Some(public.ours(self.upstream)),
            Side::Member => None,
        }
    }

    /// The server id to be spliced in, unless the listener leaves scopes alone.
    fn scope(&self) -> Option<&str> {
        self.target.server_id.as_deref().filter(|_| matches!(self.side, Side::Client { scope: true, .. }))
    }
}
