//! What one generation holds for its whole life and shares between its threads.
//! Made once by the worker, read by every request. Surprise: `opened` and `draining` only ever go from false to true.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::account::{Counters, Snapshot, add_registry};
use crate::config::settings::{Listener, Settings, UpstreamId};
use crate::material::Used;
use crate::members::Members;
use crate::registry::{Calls, GatewayKeys, Registry};
use crate::trace::Tracing;
use crate::upstream::{Upstream, Upstreams};

pub struct App {
    pub settings: Settings,
    pub upstreams: Upstreams,
    pub registry: Registry,
    pub calls: Calls,
    /// `None`: the gateway's own keys cannot or may not be read.
    pub gateway: Option<GatewayKeys>,
    /// `None`: this Outrigger is no member.
    pub members: Option<Members>,
    /// Every certificate that this generation rests on.
    pub certificates: Vec<Used>,
    pub counters: Counters,
    /// `None`: it is off.
    pub tracing: Option<Tracing>,
    opened: AtomicBool,
    draining: AtomicBool,
}

impl App {
    pub fn new(
        settings: Settings,
        upstreams: Upstreams,
        registry: Registry,
        members: Option<Members>,
        certificates: Vec<Used>,
        counters: Counters,
        tracing: Option<Tracing>,
    ) -> Self {
        let gateway = registry.store().and_then(GatewayKeys::of);
        let calls = Calls::default();
        let (opened, draining) = (AtomicBool::new(false), AtomicBool::new(false));
        Self {
            settings,
            upstreams,
            registry,
            calls,
            gateway,
            members,
            certificates,
            counters,
            tracing,
            opened,
            draining,
        }
    }

    /// This member's name, if it is one of several.
    pub fn me(&self) -> Option<&str> {
        self.members.as_ref().map(|members| members.me.as_str())
    }

    /// By its position in the settings.
    pub fn listener(&self, index: usize) -> &Listener {
        &self.settings.listeners[index]
    }

    pub fn upstream(&self, id: UpstreamId) -> &Upstream {
        self.upstreams.get(id)
    }

    /// What this generation has counted.
    pub fn counted(&self) -> Snapshot {
        let mut counted = self.counters.snapshot();
        add_registry(self.registry.counters(), &mut counted);
        counted
    }

    /// The listeners were probed and answer.
    pub fn open(&self) {
        self.opened.store(true, Ordering::Release);
    }

    pub fn opened(&self) -> bool {
        self.opened.load(Ordering::Acquire)
    }

    /// From now on answers say `Connection: close`.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// The last spans leave: this process ends.
    pub fn close(&self) {
        if let Some(tracing) = &self.tracing {
            tracing.close();
        }
    }

    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}
