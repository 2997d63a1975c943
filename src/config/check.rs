//! From the file's shape to `Settings`, or to every reason why not. PURE: what the machine knows is asked through [`Machine`].
//! Takes the shape as `read` left it and says problems to the same report; gives settings only if nobody said any.
//! Surprise: a value that is bad already (`None` here) is walked past in silence, so that one mistake makes one line.

mod address;
mod health;
mod listener;
mod member;
mod plain;
mod public;
mod redis;
mod redis_url;
mod server_tls;
mod sessions;
mod trust;
mod upstream;

use std::path::Path as FilePath;
use std::sync::Arc;

use super::field::Field;
use super::file;
use super::problem::{Path, Report};
use super::settings::*;
use super::sockets::{Demand, MAX_SOCKETS};
use super::unit::Count;
use crate::material::{KeyFlaw, Purpose};
use crate::routing::route::Routes;
use plain::{count, endpoint_of, log_of, profile_of, reload_of, statuses_of, time, timeouts_of};

/// What the check must know of the machine that the file is for. Errors are sentences that name the path asked for.
pub trait Machine {
    fn cores(&self) -> usize;
    /// The public key of the first certificate in a PEM file, all of whose certificates can be parsed, and which is good for these
    /// purposes.
    fn certificate(&self, file: &FilePath, purposes: &[Purpose]) -> Result<PublicKey, String>;
    /// The public half of the private key in a PEM file; the passphrase is kept in a file too.
    fn private_key(&self, file: &FilePath, passphrase: Option<&FilePath>) -> Result<PublicKey, KeyFlaw>;
    /// The DNS names of that certificate, in lower case.
    fn dns_names(&self, file: &FilePath) -> Vec<String>;
    /// Whether a PEM file holds CA certificates that can vouch for anybody.
    fn authorities(&self, file: &FilePath) -> Result<(), String>;
    /// Whether a file holds a password; its errors are the only ones that do not name the file.
    fn secret(&self, file: &FilePath) -> Result<(), String>;
    /// Whether a folder is there, or can be made, and can be written to.
    fn folder(&self, path: &FilePath) -> Result<(), String>;
}

/// A public key as DER (SubjectPublicKeyInfo, RFC 5280 §4.1.2.7); equal means the same key.
#[derive(Debug, PartialEq, Eq)]
pub struct PublicKey(pub Vec<u8>);

const MAX_DEFAULT_THREADS: usize = 8;

/// Checks the whole file. `None` if anything was said to the report.
pub fn check(file: file::File, machine: &dyn Machine, report: &Report) -> Option<Settings> {
    let file::File {
        profile,
        threads,
        listeners,
        upstreams,
        routes,
        rewrite,
        sessions,
        member,
        errors,
        limits,
        timeouts,
        drain,
        shutdown,
        reload,
        admin,
        log,
    } = file;
    let check = Check { machine, report };
    let root = Path::default();

    let upstreams = upstreams.required(&root.key("upstreams"), report);
    let names =
        upstreams.as_ref().map(|table| table.0.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    let upstreams = upstreams.and_then(|table| check.upstreams(table, &root.key("upstreams")));
    let listeners = listeners.required(&root.key("listeners"), report);
    let (listeners, mut taken) = check.listeners(listeners, &root.key("listeners"), names.as_deref());
    let profile = profile.good().map(profile_of);
    let registry = sessions::registry(&sessions);
    let member = check.member(member, registry, &root.key("member"), &mut taken);
    let admin = check.admin(admin, &root.key("admin"), &mut taken);
    let demand = match (&listeners, &member, admin) {
        (Some(listeners), Some(member), Some(admin)) => Some(Demand::of(listeners, member.as_ref(), admin)),
        _ => None,
    };
    let threads = check.threads(threads, demand.as_ref(), &root.key("threads"));
    let routes = check.routes(routes, &root.key("routes"));
    if let (Some(listeners), Some(routes)) = (&listeners, &routes) {
        check.prefixes(listeners, routes, &root.key("listeners"));
    }
    let endpoint = rewrite.good().and_then(|file::Rewrite { endpoint }| endpoint.good()).map(endpoint_of);
    let sessions = check.sessions(sessions, profile, &root.key("sessions"));
    let statuses = errors.good().and_then(|file::Errors { status }| status.good()).map(statuses_of);
    let limits = check.limits(limits, &root.key("limits"));
    let timeouts = timeouts.good().and_then(timeouts_of);
    let drain = drain.good().and_then(|file::Drain { timeout, max_generations }| {
        Some(Drain { timeout: time(timeout)?, max_generations: count(max_generations)? })
    });
    let shutdown_timeout = shutdown.good().and_then(|file::Shutdown { timeout }| time(timeout));
    let reload = reload.good().and_then(reload_of);
    let log = log.good().and_then(log_of);

    if !report.is_empty() {
        return None;
    }
    Some(Settings {
        profile: profile?,
        threads: threads?,
        listeners: listeners?,
        upstreams: upstreams?,
        routes: Arc::new(routes?),
        endpoint: endpoint?,
        sessions: sessions?,
        member: member?,
        statuses: statuses?,
        limits: limits?,
        timeouts: timeouts?,
        drain: drain?,
        shutdown_timeout: shutdown_timeout?,
        reload: reload?,
        admin: admin?,
        log: log?,
    })
}

struct Check<'a> {
    machine: &'a dyn Machine,
    report: &'a Report<'a>,
}

impl Check<'_> {
    /// Each thread listens on each address with a socket of its own. The default number of threads always fits.
    fn threads(&self, threads: Field<Option<Count>>, demand: Option<&Demand>, path: &Path) -> Option<usize> {
        let demand = demand?;
        let (addresses, once) = (demand.per_thread.len(), usize::from(demand.once.is_some()));
        let admin = if once > 0 { ", and 1 for admin," } else { "" };
        let fitting = demand.most_threads();
        if fitting == 0 {
            let sentence = format!(
                "{addresses} addresses{admin} are too many: at most {MAX_SOCKETS} can be handed over"
            );
            self.report.say(&Path::default().key("listeners"), sentence);
            return None;
        }
        match threads.good()? {
            None => Some(self.machine.cores().clamp(1, MAX_DEFAULT_THREADS).min(fitting)),
            Some(Count(threads)) if threads <= fitting => Some(threads),
            Some(Count(threads)) => {
                let sentence = format!(
                    "{threads} threads x {addresses} addresses{admin} are {} sockets: at most {MAX_SOCKETS} can be \
                     handed over, so at most {fitting} {}",
                    threads * addresses + once,
                    if fitting == 1 { "thread" } else { "threads" }
                );
                self.report.say(path, sentence);
                None
            }
        }
    }

    fn routes(&self, routes: Field<file::Routes>, path: &Path) -> Option<Routes> {
        let file::Routes { mcp, sse, message } = routes.good()?;
        let good = |list: Field<Vec<Field<String>>>| -> (Vec<usize>, Vec<String>) {
            let patterns = list.good().unwrap_or_default().into_iter().enumerate();
            patterns.filter_map(|(index, pattern)| Some((index, pattern.good()?))).unzip()
        };
        let ((mcp_places, mcp), (sse_places, sse), (message_places, message)) =
            (good(mcp), good(sse), good(message));
        let errors = match Routes::compile(&mcp, &sse, &message) {
            Ok(routes) => return Some(routes),
            Err(errors) => errors,
        };
        for error in errors {
            // Bad entries were left out, so the compiler counts differently from the file.
            let places = match error.list {
                "mcp" => &mcp_places,
                "sse" => &sse_places,
                _ => &message_places,
            };
            let index = places.get(error.index).copied().unwrap_or(error.index);
            self.report.say(&path.key(error.list).index(index), error.reason);
        }
        None
    }

    fn limits(&self, limits: Field<file::Limits>, path: &Path) -> Option<Limits> {
        let file::Limits { body, headers, header_count, connections } = limits.good()?;
        let headers = headers.good().map(|size| size.0);
        if headers.is_some_and(|bytes| bytes > Limits::MOST_HEADER_BYTES) {
            self.report.say(&path.key("headers"), "must be at most 1023KiB; Pingora reads no more");
        }
        let header_count = count(header_count);
        if header_count.is_some_and(|count| count > Limits::MOST_HEADER_COUNT) {
            self.report.say(
                &path.key("header_count"),
                format!("must be at most {}; Pingora reads no more", Limits::MOST_HEADER_COUNT),
            );
        }
        Some(Limits {
            body: body.good()?.0,
            headers: headers?,
            header_count: header_count?,
            connections: count(connections)?,
        })
    }

    /// Reports what the machine has against the value at `path`.
    fn ask<T>(&self, answer: Result<T, String>, path: &Path) -> Option<T> {
        answer.map_err(|sentence| self.report.say(path, sentence)).ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use log::LevelFilter;

    use super::*;
    use crate::config::{node, read};
    use crate::mcp::failure::Statuses;

    /// A machine on which every file is right, and every certificate fits every key.
    struct Ideal {
        cores: usize,
    }

    impl Machine for Ideal {
        fn cores(&self) -> usize {
            self.cores
        }
        fn certificate(&self, _: &FilePath, _: &[Purpose]) -> Result<PublicKey, String> {
            Ok(PublicKey(Vec::new()))
        }
        fn private_key(&self, _: &FilePath, _: Option<&FilePath>) -> Result<PublicKey, KeyFlaw> {
            Ok(PublicKey(Vec::new()))
        }
        fn dns_names(&self, _: &FilePath) -> Vec<String> {
            Vec::new()
        }
        fn authorities(&self, _: &FilePath) -> Result<(), String> {
            Ok(())
        }
        fn secret(&self, _: &FilePath) -> Result<(), String> {
            Ok(())
        }
        fn folder(&self, _: &FilePath) -> Result<(), String> {
            Ok(())
        }
    }

    fn checked(text: &str, cores: usize) -> Result<Settings, Vec<String>> {
        let (tree, problems) = node::parse(text, &|_| None);
        let tree = tree.unwrap();
        assert_eq!(problems, []);
        let report = Report::new(&tree);
        let settings =
            read::read(&tree, &report).good().and_then(|file| check(file, &Ideal { cores }, &report));
        settings.ok_or_else(|| {
            report
                .into_list()
                .into_iter()
                .map(|problem| format!("{}: {}", problem.path, problem.sentence))
                .collect()
        })
    }

    fn with_addresses(count: usize) -> String {
        let list: Vec<String> = (1..=count).map(|port| format!("\"127.0.0.1:{port}\"")).collect();
        format!("{{listeners: [{{address: [{}]}}], upstreams: {{a: {{peers: [\"b:1\"]}}}}}}", list.join(", "))
    }

    #[test]
    fn the_default_number_of_threads_fits_the_machine_and_the_handoff() {
        for (addresses, cores, threads) in
            [(1, 2, 2), (1, 64, 8), (3, 64, 8), (4, 64, 7), (16, 64, 1), (31, 64, 1), (2, 0, 1)]
        {
            let settings = checked(&with_addresses(addresses), cores).unwrap();
            assert_eq!(settings.threads, threads, "{addresses} addresses, {cores} cores");
        }
        assert_eq!(
            checked(&with_addresses(32), 1).unwrap_err(),
            ["listeners: 32 addresses, and 1 for admin, are too many: at most 32 can be handed over"]
        );
        let alone = with_addresses(32).replace("}}}", "}}, admin: null}");
        assert_eq!(checked(&alone, 64).unwrap().threads, 1);
    }

    #[test]
    fn what_is_left_out_gets_its_default() {
        let settings = checked(
            "{listeners: [{address: \"[::]:1\"}], upstreams: {a: {peers: [\"B.c.:1\", \"b.C.:2\"], tls: {}}}}",
            1,
        );
        let settings = settings.unwrap();
        let listener = &settings.listeners[0];
        assert_eq!(
            (listener.name.as_str(), listener.destination.only(), listener.scope),
            ("[::]:1", Some(UpstreamId(0)), true)
        );
        assert!(listener.tls.is_none() && listener.trusted_proxies.is_empty());
        let upstream = &settings.upstreams[0];
        assert_eq!((upstream.peers[1].name.as_str(), upstream.peers[1].port), ("b.C.:2", 2));
        let tls = upstream.tls.as_ref().unwrap();
        assert_eq!((tls.server_name.as_str(), tls.verify), ("B.c", Verify::Full));
        assert!(tls.ca.is_none() && tls.identity.is_none());
        assert_eq!(settings.profile, Profile::ContextForge);
        assert_eq!(settings.statuses, Statuses::Preserve);
        assert_eq!(settings.timeouts.stream_keepalive, Some(std::time::Duration::from_secs(15)));
        assert_eq!(settings.admin.unwrap().to_string(), "127.0.0.1:9901");
        let RegistryKind::Embedded(embedded) = &settings.sessions.registry else { panic!("embedded") };
        assert_eq!(embedded.path, FilePath::new("/var/lib/outrigger"));
        assert_eq!((settings.log.level, settings.log.format), (LevelFilter::Info, LogFormat::Json));
    }

    #[test]
    fn null_switches_the_admin_listener_off() {
        let text =
            "{listeners: [{address: \"127.0.0.1:9901\"}], upstreams: {a: {peers: [\"b:1\"]}}, admin: null}";
        assert_eq!(checked(text, 1).unwrap().admin, None);
        assert_eq!(
            checked(&text.replace(", admin: null", ""), 1).unwrap_err(),
            ["admin.address: is the same as listeners[0].address"]
        );
    }
}
