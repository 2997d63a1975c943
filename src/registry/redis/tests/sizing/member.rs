//! A member as Redis knows it: registry, cache, members' room and peers, all of them the real ones, but no HTTP.
//! Takes session keys, does what a request of that session makes the exchange do (`exchange::ownership`, `exchange::forward`),
//! in the same order. Surprise: at its address nobody listens, so that to each other all members are dead when it comes to connecting.

use std::net::SocketAddr;

use crate::config;
use crate::config::settings::UpstreamId;
use crate::material::Shelf;
use crate::members::{Members, NoGreeting};
use crate::registry::{Claim, Claimed, Counters, Registry, SessionKey, Transport};
use crate::routing::owner::{Asking, Decision, Evidence, Verdict, decide, judge};
use crate::upstream::{Upstream, Upstreams};

/// Such a one as ContextForge makes.
const SERVER_ID: &str = "3f2a6c1e9b7d4d5f8a0b1c2d3e4f5a6b";

pub struct Member {
    pub name: String,
    pub registry: Registry,
    members: Members,
    upstreams: Upstreams,
}

/// Where a request's session was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Met {
    Here,
    At(SocketAddr),
    /// Its member is gone; whether it was this request that found out.
    Lost {
        by_this: bool,
    },
    Nobody,
}

impl Member {
    pub fn start(number: usize, redis: u16) -> Self {
        // As long as a pod's.
        let name = format!("outrigger-gateway-7d9f8b6c5d-{number:05}");
        // Of port 1 nobody makes use. Only their order counts, not how long a busy machine takes for them: nothing runs out.
        let yaml = format!(
            "listeners: [{{ address: '127.0.0.1:8080', upstream: gateway }}]
upstreams: {{ gateway: {{ peers: ['127.0.0.1:4444', '127.0.0.1:4445'] }} }}
sessions: {{ registry: redis, gateway_keys: null, redis: {{ url: 'redis://127.0.0.1:{redis}', timeout: 60s }} }}
member: {{ name: {name}, address: '127.0.0.1:8444', advertise: '127.77.{}.{}:1', plaintext: true, ttl: 1h, connect_timeout: 60s }}",
            number / 256,
            number % 256,
        );
        let settings = config::load_text("member.yaml", &yaml, &|_| None).unwrap();
        let registry = Registry::open(&settings.sessions).unwrap();
        let members = Members::open(&settings, &registry, &mut Shelf::default()).unwrap().unwrap();
        Self {
            name,
            members,
            upstreams: Upstreams::open(&settings, &mut Shelf::default()).unwrap(),
            registry,
        }
    }

    /// One of its peers has answered `initialize`.
    pub async fn begin(&self, key: &SessionKey) -> Claim {
        let upstream = self.upstream();
        let peer = &upstream.peers[upstream.choose(&[]).unwrap()];
        let _busy = peer.busy();
        let claim = Claim {
            member: Some(self.name.clone()),
            peer: peer.name.clone(),
            server_id: Some(SERVER_ID.into()),
            transport: Transport::StreamableHttp,
        };
        assert_eq!(self.registry.claim(key, &claim).await, Ok(Claimed::Won));
        claim
    }

    /// A request of the session, as far as to the address of its owner.
    pub async fn request(&self, key: &SessionKey) -> Met {
        self.locate(key).await.0
    }

    /// A request whose owner's member has died: nobody listens at its address.
    pub async fn request_to_the_dead(&self, key: &SessionKey) -> Met {
        let (met, claim) = self.locate(key).await;
        let (Met::At(address), Some(claim)) = (&met, claim) else { return met };
        let refusal = self.members.connect(*address).await.err();
        assert!(matches!(refusal, Some(NoGreeting::Refused)), "{refusal:?}");
        let owner = claim.member.as_deref().unwrap();
        let (listed, _) = self.members.look_again(owner, *address).await;
        assert_eq!(judge(Evidence::Refused, listed), Verdict::Lost);
        self.lost(key, &claim).await
    }

    /// Its client has ended the session.
    pub async fn end(&self, key: &SessionKey) {
        let claim = self.locate(key).await.1.unwrap();
        assert_eq!(self.registry.release(key, &claim).await, Ok(true));
    }

    pub async fn beat(&self) {
        self.members.beat().await.unwrap();
    }

    /// Commands that it has given.
    pub fn asked(&self) -> u64 {
        match self.registry.counters() {
            Counters::Redis(counters) => counters.commands,
            Counters::Embedded(_) => 0,
        }
    }

    async fn locate(&self, key: &SessionKey) -> (Met, Option<Claim>) {
        let asked = self.registry.ask(key).await.unwrap();
        if asked.is_some() {
            self.registry.renew(key);
        }
        let asking = Asking { server_id: Some(SERVER_ID), transport: Transport::StreamableHttp };
        let met = match decide(Ok(asked.as_ref()), asking, Some(&self.name), &self.upstream().peers) {
            Decision::Here(_) => Met::Here,
            Decision::Unclaimed => Met::Nobody,
            Decision::Lost => Met::Lost { by_this: false },
            Decision::At(member) => match self.members.find(member).await.unwrap() {
                Some(address) => Met::At(address),
                None => self.lost(key, asked.as_ref().unwrap()).await,
            },
            other => panic!("{other:?}"),
        };
        (met, asked)
    }

    async fn lost(&self, key: &SessionKey, claim: &Claim) -> Met {
        Met::Lost { by_this: self.registry.bury(key, claim).await.unwrap() }
    }

    fn upstream(&self) -> &Upstream {
        self.upstreams.get(UpstreamId(0))
    }
}
