//! Members: the running Outriggers that share a registry, where each is found, and the connections between them.
//! Takes a member's name, gives its address or the certainty that it is gone; publishes and withdraws this one.
//! Surprise: a member is known dead only when its card has run out. Until then nobody listening at its address is a strong
//! hint, and silence is none (`routing::owner::judge`).

mod card;
mod names;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pingora_core::connectors::TransportConnector;
use pingora_core::protocols::Stream;
use pingora_core::upstreams::peer::HttpPeer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::config::settings::{Discovery, Member, Settings, UpstreamTls, Verify};
use crate::error::Fault;
use crate::material::Shelf;
use crate::registry::{Registry, RegistryError, Store};
use crate::routing::owner::Listed;
use crate::upstream::dial::{Dialer, Timeouts, Unreachable};
use crate::upstream::pool::Place;
use crate::upstream::trust::Trust;
use card::Card;
use names::Names;

/// What a member says when it has read the head of a forwarded request and is there to take the body.
const GREETING: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Kept-alive connection to another member; below the time-out that any sensible configuration gives its end.
const IDLE: Duration = Duration::from_secs(30);

/// This member and what it knows of the others.
pub struct Members {
    pub me: String,
    discovery: Discovery,
    dialer: Dialer,
    store: Store,
    card: Card,
    names: Names,
    /// By name, as the last beat found them; empty where discovery is by template.
    seen: Mutex<HashMap<String, Card>>,
}

impl Members {
    /// Takes the trust material off the shelf. `None` if this Outrigger is no member.
    ///
    /// # Errors
    /// For the log, naming the file.
    pub fn open(settings: &Settings, registry: &Registry, shelf: &mut Shelf) -> Result<Option<Self>, String> {
        let (Some(member), Some(store)) = (&settings.member, registry.store()) else { return Ok(None) };
        let trust = member.tls.as_ref().map(|tls| {
            let domain = UpstreamTls {
                ca: Some(tls.ca.clone()),
                identity: Some(tls.identity.clone()),
                server_name: tls.server_name.clone(),
                verify: Verify::Full,
                pins: Vec::new(),
            };
            Trust::load(&domain, "member", shelf)
        });
        let timeouts = Timeouts {
            connect: member.connect_timeout,
            connect_total: member.connect_timeout,
            write: settings.timeouts.write,
            idle: IDLE.min(settings.timeouts.idle / 2),
        };
        let connector = Arc::new(TransportConnector::new(None));
        Ok(Some(Self {
            me: member.name.clone(),
            discovery: member.discovery.clone(),
            dialer: Dialer { trust: trust.transpose()?, timeouts, connector },
            store,
            card: own_card(member)?,
            names: Names::default(),
            seen: Mutex::default(),
        }))
    }

    /// Where a member listens; `None` if it is gone.
    ///
    /// # Errors
    /// For the log: nobody could say.
    pub async fn find(&self, name: &str) -> Result<Option<SocketAddr>, String> {
        let known = self.seen().get(name).map(|card| card.address.clone());
        match known {
            Some(address) => self.names.resolve(&address).await,
            None => self.find_anew(name).await,
        }
    }

    /// The same, by the registry's word of this moment.
    async fn find_anew(&self, name: &str) -> Result<Option<SocketAddr>, String> {
        let address = match &self.discovery {
            Discovery::Template { host, port } => format!("{}:{port}", host.replace("{name}", name)),
            Discovery::Published { .. } => {
                let json = self.store.get(&self.key(name)).await.map_err(|error| error.to_string())?;
                let Some(card) = json.as_deref().and_then(Card::from_json) else {
                    self.seen().remove(name);
                    return Ok(None);
                };
                let address = card.address.clone();
                self.seen().insert(name.to_owned(), card);
                address
            }
        };
        self.names.resolve(&address).await
    }

    /// What the registry says now about a member that could not be reached at `tried`; its address, if it has one.
    pub async fn look_again(&self, name: &str, tried: SocketAddr) -> (Listed, SocketAddr) {
        match self.find_anew(name).await {
            Ok(None) => (Listed::Gone, tried),
            Ok(Some(address)) if address == tried => (Listed::There, tried),
            Ok(Some(address)) => (Listed::Elsewhere, address),
            Err(reason) => {
                log::warn!("member {name}: nobody can say whether it is there: {reason}");
                (Listed::Unknown, tried)
            }
        }
    }

    /// The member whose machine or pod has this host name; `None` if none has, or several share it.
    pub async fn of_host(&self, hostname: &str) -> Option<String> {
        let mine = (hostname == self.card.hostname).then(|| self.me.clone());
        match self.discovery {
            // A StatefulSet's pods are called like their hosts; but the gateway may live in others.
            Discovery::Template { .. } if mine.is_none() => {
                let found = self.find(hostname).await;
                found.ok().flatten().map(|_| hostname.to_owned())
            }
            Discovery::Template { .. } => mine,
            Discovery::Published { .. } => {
                let seen = self.seen();
                let there = seen.iter().filter(|(name, card)| **name != self.me && card.hostname == hostname);
                let mut all = mine.into_iter().chain(there.map(|(name, _)| name.clone()));
                all.next().filter(|_| all.next().is_none())
            }
        }
    }

    /// Name and address of each member that this one knows of, by name.
    pub fn known(&self) -> Vec<(String, String)> {
        let mut known: Vec<_> =
            self.seen().iter().map(|(name, card)| (name.clone(), card.address.clone())).collect();
        known.sort();
        known
    }

    /// A Pingora peer for the member at `address`.
    pub fn target(&self, address: SocketAddr) -> HttpPeer {
        self.dialer.target(address)
    }

    /// A kept-alive connection, if there is one of this thread.
    pub fn pooled(&self, address: SocketAddr) -> Option<Stream> {
        self.dialer.pooled(Place::Member(address))
    }

    /// Gives a connection back whose answer was read to its end.
    pub fn keep(&self, address: SocketAddr, stream: Stream) {
        self.dialer.keep(Place::Member(address), stream);
    }

    pub async fn connect(&self, address: SocketAddr) -> Result<Stream, NoGreeting> {
        self.dialer.connect(address).await.map_err(|error| match Unreachable::from(&*error) {
            Unreachable { gone: true, .. } => NoGreeting::Refused,
            Unreachable { fault: Fault::ConnectTimeout, .. } => NoGreeting::Silent,
            _ => NoGreeting::Broken(error.to_string()),
        })
    }

    /// Reads the trust material again.
    pub fn renew(&self) {
        self.dialer.renew();
    }

    /// Sends the head of a request and waits until the other member says that it is there: only then may the body follow.
    /// A request whose head alone arrived has not happened, so it may go elsewhere, whatever it is.
    pub async fn greet(&self, stream: &mut Stream, head: &[u8]) -> Result<(), NoGreeting> {
        let greeting = async {
            stream.write_all(head).await?;
            stream.flush().await?;
            let mut said = [0; GREETING.len()];
            stream.read_exact(&mut said).await?;
            if said == GREETING { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
        };
        match timeout(self.dialer.timeouts.connect, greeting).await {
            Ok(greeted) => greeted.map_err(|error: std::io::Error| NoGreeting::Broken(error.to_string())),
            Err(_) => Err(NoGreeting::Silent),
        }
    }

    /// How often [`Self::beat`] is due; `None` where nothing is published.
    pub fn rhythm(&self) -> Option<Duration> {
        match self.discovery {
            Discovery::Published { ttl, .. } => Some(ttl / 3),
            Discovery::Template { .. } => None,
        }
    }

    /// Publishes this member, whoever was published under its name before, and learns of the others.
    pub async fn announce(&self) -> Result<(), RegistryError> {
        let Discovery::Published { ttl, .. } = self.discovery else { return Ok(()) };
        self.store.put(&self.key(&self.me), &self.card.to_json(), ttl).await?;
        self.beat_and_learn(ttl).await
    }

    /// Keeps this member published and learns of the others. The card of a generation that has taken over is left alone; should
    /// that one die before it serves, its card runs out and ours is published again.
    pub async fn beat(&self) -> Result<(), RegistryError> {
        let Discovery::Published { ttl, .. } = self.discovery else { return Ok(()) };
        self.store.hold(&self.key(&self.me), &self.card.to_json(), ttl).await?;
        self.beat_and_learn(ttl).await
    }

    async fn beat_and_learn(&self, ttl: Duration) -> Result<(), RegistryError> {
        let now = now();
        self.learn(self.store.beat(&self.all(), &self.me, now, oldest(now, ttl)).await?).await
    }

    /// Learns of the others without making this one known.
    pub async fn look(&self) -> Result<(), RegistryError> {
        let Discovery::Published { ttl, .. } = self.discovery else { return Ok(()) };
        self.learn(self.store.beating(&self.all(), oldest(now(), ttl)).await?).await
    }

    async fn learn(&self, names: Vec<String>) -> Result<(), RegistryError> {
        let keys: Vec<String> = names.iter().map(|name| self.key(name)).collect();
        let cards = self.store.get_many(&keys).await?;
        let cards = cards.iter().map(|json| json.as_deref().and_then(Card::from_json));
        *self.seen() = names.into_iter().zip(cards).filter_map(|(name, card)| Some((name, card?))).collect();
        Ok(())
    }

    /// Takes this generation's card back, so that the others stop sending; a successor's is left alone.
    pub async fn withdraw(&self) -> Result<bool, RegistryError> {
        match self.discovery {
            Discovery::Published { .. } => {
                let ours = self.store.remove_if(&self.key(&self.me), &self.card.to_json()).await?;
                if ours {
                    self.store.stop_beating(&self.all(), &self.me).await?;
                }
                Ok(ours)
            }
            Discovery::Template { .. } => Ok(false),
        }
    }

    fn key(&self, name: &str) -> String {
        self.store.key(&format!("member:{name}"))
    }

    fn all(&self) -> String {
        self.store.key("members")
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, HashMap<String, Card>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// When a member must have beaten at least, to count as one.
fn oldest(now: u64, ttl: Duration) -> u64 {
    let twice = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX / 2) * 2;
    now.saturating_sub(twice)
}

/// Why a member did not take a request.
#[derive(Debug)]
pub enum NoGreeting {
    /// Nobody is there.
    Refused,
    /// The connection ended, or never came about; if it was a kept-alive one, that says nothing about the member.
    Broken(String),
    Silent,
}

fn own_card(member: &Member) -> Result<Card, String> {
    let hostname =
        nix::unistd::gethostname().map_err(|error| format!("this machine's host name: {error}"))?;
    let mut instance = [0; 8];
    openssl::rand::rand_bytes(&mut instance).map_err(|error| format!("random bytes: {error}"))?;
    let address = match &member.discovery {
        Discovery::Published { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
        Discovery::Published { host, port, .. } | Discovery::Template { host, port } => {
            format!("{host}:{port}")
        }
    };
    Ok(Card {
        address,
        hostname: hostname.to_string_lossy().into_owned(),
        instance: format!("{:016x}", u64::from_ne_bytes(instance)),
    })
}
