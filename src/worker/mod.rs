//! The worker: one generation. Listeners and services in a Pingora `Server`, from the handoff of its sockets to the end of its drain.
//! Takes its `Start` from the supervisor over the control channel, says `ready` once its own listeners were probed, exits when drained.
//! Surprise: each worker thread is a Pingora service of its own with a single-threaded runtime and its own accept loop, so that a request
//! never changes threads.

mod checks;
mod drain;
mod gate;
mod head;
mod probe;
mod pulse;
mod tls;
mod vanished;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use pingora_core::apps::HttpServerOptions;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig};
use pingora_core::protocols::http::v2::server::default_h2_options;
use pingora_core::server::configuration::{Opt, ServerConf};
use pingora_core::server::{RunArgs, Server};
use pingora_core::services::background::GenBackgroundService;
use pingora_core::services::listening::Service;
use pingora_proxy::HttpProxy;

use crate::account::Counters;
use crate::admin::Admin;
use crate::app::App;
use crate::config;
use crate::config::settings::{Settings, Timeouts};
use crate::config::sockets::handoff_name;
use crate::logging;
use crate::material::{self, Shelf, reason};
use crate::members::Members;
use crate::proxy::{Door, Proxy};
use crate::registry::Registry;
use crate::supervisor::Fault;
use crate::supervisor::control::{self, Report, Start};
use crate::trace::{self, Tracing};
use crate::upstream::Upstreams;
use checks::Checks;
use gate::{Entrance, Gate};
use probe::Probe;
use pulse::Pulse;
use tls::{Doors, ServerTls};

/// Exit code of a generation that could not start; the reason went over the control channel.
const FAILED: u8 = 1;

/// Runs one generation to its end; gives the exit code.
pub fn run() -> u8 {
    // Started from /proc/self/exe, the process would be called `exe` in `ps` and `top`.
    let _ = nix::sys::prctl::set_name(c"outrigger");
    let channel = match control::Worker::from_stdin() {
        Ok(channel) => Arc::new(channel),
        Err(error) => {
            eprintln!(
                "outrigger worker: no control channel on standard input: {error}; only the supervisor starts workers"
            );
            return FAILED;
        }
    };
    let start = match channel.start() {
        Ok(start) => start,
        Err(error) => {
            eprintln!("outrigger worker: the control channel broke before the start message: {error}");
            return FAILED;
        }
    };
    match material::with_kept(start.kept.clone(), || prepare(&start, &channel)) {
        Ok(prepared) => {
            serve(prepared, channel);
            0
        }
        Err(Failure { fault, reason }) => {
            // If the supervisor is gone too, nobody is left to read the reason.
            let _ = channel.report(&Report::Failed { fault, reason });
            FAILED
        }
    }
}

/// Why a generation cannot start, and whose fault it is.
struct Failure {
    fault: Fault,
    reason: String,
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self { fault: Fault::System, reason }
    }
}

/// A generation that lacks only its sockets.
struct Prepared {
    app: Arc<App>,
    server: Server,
    probe: Arc<Probe>,
    doors: Doors,
}

/// Everything that can fail, before any socket is taken over.
fn prepare(start: &Start, channel: &Arc<control::Worker>) -> Result<Prepared, Failure> {
    let env = |name: &str| std::env::var(name).ok();
    let settings = config::load_text_again(&start.file, &start.config, &env)
        .map_err(|problems| Failure { fault: Fault::Config, reason: problems.to_string() })?;
    logging::init(&settings.log, &format!("worker {}", start.generation));
    drain::ignore_terminal_signals().map_err(|error| format!("signals: {error}"))?;
    try_place_of(&start.upgrade_sock)?;
    let mut shelf = Shelf::default();
    let upstreams = Upstreams::open(&settings, &mut shelf)?;
    let registry = Registry::open(&settings.sessions).map_err(|error| error.to_string())?;
    let members = Members::open(&settings, &registry, &mut shelf)?;
    let doors = Doors::open(&settings, &mut shelf)?;
    tls::note_redis(&settings, &mut shelf)?;
    let counters = Counters::new().map_err(|error| error.to_string())?;
    let conf = server_conf(&settings, &start.upgrade_sock.to_string_lossy());
    let mut server = Server::new_with_opt_and_conf(Some(Opt { upgrade: true, ..Opt::default() }), conf);
    let tracing = tracing(start.generation, &env, &counters, &mut shelf);
    let app =
        Arc::new(App::new(settings, upstreams, registry, members, shelf.into_used(), counters, tracing));
    let now = SystemTime::now();
    app.certificates.iter().for_each(|used| used.log(now));
    let probe = Arc::new(Probe::default());
    for shard in 0..app.settings.threads {
        server.add_service(shard_service(&app, &server.configuration, &probe, shard, &doors));
    }
    if let Some(address) = app.settings.admin {
        let admin = Admin::new(app.clone(), channel.clone(), start).map_err(|error| error.to_string())?;
        let mut service = Service::new("admin".to_string(), admin);
        service.add_tcp(&handoff_name(address, 0));
        server.add_service(service);
    }
    if app.members.is_some() {
        server
            .add_service(GenBackgroundService::new("members".to_string(), Arc::new(Pulse::new(app.clone()))));
    }
    Ok(Prepared { app, server, probe, doors })
}

/// Pingora panics where it cannot make its upgrade socket, and nobody would learn why.
fn try_place_of(upgrade_sock: &Path) -> Result<(), String> {
    // Under another name, for at that one the supervisor would connect.
    let other = upgrade_sock.with_extension("try");
    let made = UnixListener::bind(&other).and_then(|_| fs::remove_file(&other));
    made.map_err(|error| {
        format!("cannot make the upgrade socket {}: {}", upgrade_sock.display(), reason(&error))
    })
}

/// Whoever cannot be traced is served all the same.
fn tracing(
    generation: u64,
    env: &dyn Fn(&str) -> Option<String>,
    counters: &Counters,
    shelf: &mut Shelf,
) -> Option<Tracing> {
    let settings = trace::settings::read(env).inspect_err(|reason| log::error!("tracing is off: {reason}"));
    let settings = settings.ok().flatten()?;
    let tracing = Tracing::open(&settings, generation, counters.spans.clone(), shelf);
    tracing.inspect_err(|reason| log::error!("tracing is off: {reason}")).ok()
}

/// Takes the sockets over, probes them, says `ready`, and serves until drained.
fn serve(prepared: Prepared, channel: Arc<control::Worker>) {
    let Prepared { app, mut server, probe, doors } = prepared;
    // Peers are looked at while the sockets come.
    let checks = Checks::start(&app);
    server.bootstrap();
    let retire = drain::Retire::new(app.clone(), channel.clone(), checks.clone());
    let serving = app.clone();
    std::thread::spawn(move || {
        let deadline = Instant::now() + app.settings.reload.ready_timeout;
        let report = match probe.run(&app.settings, doors.member_identity(), deadline) {
            Ok(()) => {
                checks.first_look();
                app.open();
                pulse::announce(&app);
                Report::Ready
            }
            Err(reason) => Report::Failed { fault: Fault::System, reason },
        };
        if let Err(error) = channel.report(&report) {
            log::error!("the supervisor cannot be told {report:?}: {error}");
        }
    });
    server.run(RunArgs { shutdown_signal: Box::new(retire) });
    serving.close();
    logging::flush();
}

fn server_conf(settings: &Settings, upgrade_sock: &str) -> ServerConf {
    ServerConf {
        upgrade_sock: upgrade_sock.to_string(),
        threads: 1,
        work_stealing: false,
        // A drained worker exits by itself; this is only how long its streams may live.
        grace_period_seconds: Some(settings.drain.timeout.as_secs().max(1)),
        graceful_shutdown_timeout_seconds: Some(1),
        max_retries: settings.upstreams.iter().map(|upstream| upstream.peers.len()).max().unwrap_or(1).max(2),
        ..ServerConf::default()
    }
}

/// One worker thread: every listener, on this thread's own copy of each socket.
fn shard_service(
    app: &Arc<App>,
    conf: &Arc<ServerConf>,
    probe: &Arc<Probe>,
    shard: usize,
    doors: &Doors,
) -> Service<Gate> {
    let settings = &app.settings;
    let entrance = |door, addresses: &[SocketAddr], tls: &Option<Arc<ServerTls>>| Entrance {
        addresses: addresses.to_vec(),
        proxy: Arc::new(proxy(app, conf, door)),
        door,
        tls: tls.clone(),
    };
    let listeners = settings.listeners.iter().zip(&doors.listeners).enumerate();
    let public =
        listeners.map(|(index, (listener, tls))| entrance(Door::Listener(index), &listener.addresses, tls));
    let members =
        settings.member.iter().map(|member| entrance(Door::Member, &member.addresses, &doors.member));
    let entrances: Vec<Entrance> = public.chain(members).collect();
    let listeners: Vec<ListenerConfig> =
        entrances.iter().flat_map(|entrance| listeners_of(entrance, &settings.timeouts, shard)).collect();

    let mut service =
        Service::new(format!("shard {shard}"), Gate::new(app.clone(), entrances, probe.clone()));
    listeners.into_iter().for_each(|listener| service.add_listener(listener));
    service
}

/// TCP for Pingora; where TLS begins is the gate's to say.
fn listeners_of(
    entrance: &Entrance,
    timeouts: &Timeouts,
    shard: usize,
) -> impl Iterator<Item = ListenerConfig> {
    // OpenSSL reads a record in two pieces. All else reads into a buffer of its own, and as much as there is.
    let read = if entrance.tls.is_some() { 4096 } else { 0 };
    let buffer = L4BufferSettings { read: Some(read), write: None };
    let options = vanished::options(timeouts);
    let listener = move |address: &SocketAddr| {
        let listener = ListenerConfig::tcp(handoff_name(*address, shard)).l4_buffer(buffer);
        listener.tcp_socket_options(options.clone())
    };
    entrance.addresses.iter().map(listener)
}

fn proxy(app: &Arc<App>, conf: &Arc<ServerConf>, door: Door) -> HttpProxy<Proxy> {
    let mut proxy = HttpProxy::new(Proxy::new(app.clone(), door), conf.clone());
    let mut options = HttpServerOptions::default();
    options.h2_idle_timeout = Some(app.settings.timeouts.idle);
    proxy.server_options = Some(options);
    let mut h2 = default_h2_options();
    h2.max_header_list_size(u32::try_from(app.settings.limits.headers).unwrap_or(u32::MAX));
    proxy.h2_options = Some(h2);
    proxy.handle_init_modules();
    proxy
}
