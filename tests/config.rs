//! The configuration as users meet it: the real binary over good and bad files, its messages word for word.
//! A bad file is tests/config/bad/NAME.yaml, what it must print is NAME.expected beside it; adding a case adds two files.
//! Surprise: files are checked as copies in a fresh folder with fresh certificates, so they may name `certs/...` and `state`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::symm::Cipher;
use openssl::x509::extension::{ExtendedKeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Name};
use outrigger::config;
use outrigger::config::settings::{
    Discovery, LogFormat, OnRegistryFailure, Probe, Profile, RedisLogin, RedisServer, RegistryKind, Secret,
    TlsVersion, Topology, UpstreamId, Verify,
};
use outrigger::config::sockets::wanted;
use outrigger::mcp::failure::Statuses;
use outrigger::routing::destination::Destination;

const USAGE: i32 = 64;

#[test]
fn every_bad_file_is_refused_with_every_reason() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/bad");
    let world = World::new("bad");
    let (mut cases, mut wrong) = (0, Vec::new());
    for yaml in files(&folder, "yaml") {
        let name = yaml.file_name().unwrap().to_str().unwrap();
        world.copy(&yaml, name);
        let expected = fs::read_to_string(yaml.with_extension("expected")).unwrap();
        let output = world.outrigger(&["check", name]);
        let printed = String::from_utf8(output.stderr).unwrap();
        if printed != expected || output.status.code() != Some(USAGE) || !output.stdout.is_empty() {
            wrong.push(format!("{name}: {}\nexpected:\n{expected}printed:\n{printed}", output.status));
        }
        cases += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(cases, files(&folder, "expected").len(), "each case is a NAME.yaml and a NAME.expected");
    assert!(cases > 20, "{cases} cases found in {}", folder.display());
}

#[test]
fn every_file_of_conf_is_right() {
    let world = World::new("conf");
    let conf = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("conf"), "yaml");
    let names: Vec<&str> = conf.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
    assert!(names.contains(&"outrigger.yaml") && names.contains(&"full.yaml"), "{names:?}");
    // Some name what this makes.
    let generate = Path::new(env!("CARGO_MANIFEST_DIR")).join("certs/generate.sh");
    let generated = Command::new(generate).arg("certs/dev").current_dir(&world.folder).output().unwrap();
    assert!(generated.status.success(), "{generated:?}");
    for (file, name) in conf.iter().zip(names) {
        world.copy(file, name);
        world.finds_right(name);
    }
}

/// What full.yaml holds behind `#` is right too, with the kind of registry that it needs.
#[test]
fn the_full_file_with_one_comment_sign_less_is_right() {
    let world = World::new("full");
    world.copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/full.yaml"), "full.yaml");
    let text = fs::read_to_string(world.folder.join("full.yaml")).unwrap();
    let (_, keys) = text.split_once("\n\n").unwrap();
    let uncommented = keys.lines().map(|line| match line.trim_start().strip_prefix("# ") {
        Some(rest) => format!("{}{rest}\n", &line[..line.len() - line.trim_start().len()]),
        None => format!("{line}\n"),
    });
    let text = uncommented.collect::<String>().replace("registry: embedded", "registry: redis");
    assert!(text.contains("\nmember:") && text.contains("\n    url:"), "{text}");
    fs::write(world.folder.join("full.yaml"), &text).unwrap();
    world.finds_right("full.yaml");

    // A reload watches what the check has asked for, found or not.
    let named = text.split_whitespace().filter(|word| word.starts_with("certs/")).map(PathBuf::from);
    let (_, asked) = outrigger::config::examine("full.yaml", &text, &|_| Some("x".to_owned()));
    assert_eq!(asked, named.collect(), "every file that can be named is watched");
}

/// Every value differs from its default, and many come from the environment.
#[test]
fn a_right_file_gives_the_settings_it_says() {
    let world = World::new("right");
    let certs = world.folder.join("certs").display().to_string();
    let env = |name: &str| match name {
        "CERTS" => Some(certs.clone()),
        "THREADS" => Some("3".to_owned()),
        "SCOPE" => Some("false".to_owned()),
        "SIZE" => Some("2".to_owned()),
        _ => None,
    };
    let settings =
        config::load_text("right.yaml", RIGHT, &env).unwrap_or_else(|problems| panic!("{problems}"));

    assert_eq!((settings.profile, settings.threads), (Profile::Generic, 3));
    let [public, egress] = &settings.listeners[..] else { panic!("{:?}", settings.listeners) };
    assert_eq!((public.name.as_str(), public.scope), ("public", true));
    assert_eq!(public.destination, Destination::new(Vec::new(), Some(UpstreamId(1))));
    let tls = public.tls.as_ref().unwrap();
    let [identity, other] = &tls.certificates[..] else { panic!("{:?}", tls.certificates) };
    assert_eq!(other.cert, world.folder.join("certs/other.crt"));
    assert_eq!((tls.min_version, tls.session_tickets), (TlsVersion::V1_3, false));
    let clients = tls.clients.as_ref().unwrap();
    assert_eq!((clients.required, clients.forward), (false, true));
    assert_eq!(clients.ca, world.folder.join("certs/clients-ca.crt"));
    assert_eq!(identity.key, world.folder.join("certs/encrypted.key"));
    assert_eq!(identity.passphrase.as_deref(), Some(&*world.folder.join("certs/key-passphrase")));
    assert!(public.trusted_proxies[0].contains(&"10.1.2.3".parse::<std::net::IpAddr>().unwrap()));
    assert_eq!((egress.name.as_str(), egress.scope), ("127.0.0.1:9101", false));
    let paths = vec![("/pay".to_owned(), UpstreamId(0)), ("/pay/more".to_owned(), UpstreamId(1))];
    assert_eq!(egress.destination, Destination::new(paths, None));
    assert_eq!(egress.addresses[1].to_string(), "[::1]:9101");
    let [payments, gateway] = &settings.upstreams[..] else { panic!("{:?}", settings.upstreams) };
    let tls = payments.tls.as_ref().unwrap();
    assert_eq!((tls.server_name.as_str(), tls.verify), ("payments.example", Verify::CaOnly));
    assert!(tls.ca.is_some() && tls.identity.is_some());
    let asked = payments.health.as_ref().unwrap();
    assert_eq!(asked.probe, Probe::Ping("/mcp".to_owned()));
    assert_eq!(asked.headers, [("authorization".parse().unwrap(), Secret("Bearer 2".to_owned()))]);
    assert_eq!((asked.interval.as_secs(), asked.timeout.as_secs(), asked.slow_start.as_secs()), (10, 1, 0));
    assert_eq!((asked.thresholds.healthy.get(), asked.thresholds.unhealthy.get()), (2, 4));
    let asked = gateway.health.as_ref().unwrap();
    assert_eq!((&asked.probe, asked.slow_start.as_secs()), (&Probe::Get("/health".to_owned()), 60));
    assert_eq!((tls.pins.len(), tls.pins[0][0]), (1, 0xaf));
    assert_eq!((payments.host.as_deref(), &gateway.host), (Some("payments.example:9000"), &None));
    let peers: Vec<_> = gateway.peers.iter().map(|p| (p.name.as_str(), p.host.as_str(), p.port)).collect();
    assert_eq!(peers, [("w1", "::1", 4444), ("127.0.0.1:4445", "127.0.0.1", 4445)]);
    assert_eq!(settings.sessions.ttl, Duration::from_secs(120));
    let RegistryKind::Embedded(embedded) = &settings.sessions.registry else { panic!("embedded") };
    assert_eq!(embedded.max_sessions, 7);
    let limits = &settings.limits;
    assert_eq!((limits.body, limits.headers, limits.header_count, limits.connections), (2 << 20, 1000, 8, 9));
    assert_eq!(settings.statuses, Statuses::Ok);
    let times = &settings.timeouts;
    assert_eq!(times.stream_keepalive, None);
    let early = [times.connect, times.first_byte, times.response_idle, times.idle];
    let late = [times.request_head, times.request_body, times.write, times.upstream_idle];
    assert_eq!(early, [1, 2, 3, 4].map(Duration::from_millis));
    assert_eq!(late, [5, 6, 7, 8].map(Duration::from_millis));
    assert_eq!(times.handshake, Duration::from_millis(9));
    assert_eq!((settings.drain.timeout, settings.drain.max_generations), (Duration::from_secs(9), 1));
    assert_eq!(settings.shutdown_timeout, Duration::from_secs(10));
    assert_eq!(settings.reload.ready_timeout, Duration::from_secs(11));
    assert_eq!(settings.admin, None);
    assert_eq!((settings.log.level, settings.log.format), (log::LevelFilter::Debug, LogFormat::Text));
}

/// The ways to say where Redis is, and as whom.
#[test]
fn redis_is_one_server_a_cluster_or_behind_sentinels() {
    let redis = |keys: &str| {
        let text = format!("{SMALLEST}\nsessions: {{ registry: redis, redis: {{ {keys} }} }}\n");
        let settings =
            config::load_text("redis.yaml", &text, &|_| None).unwrap_or_else(|wrong| panic!("{wrong}"));
        assert!(!format!("{settings:?}").contains("s3cret"));
        let RegistryKind::Redis(redis) = settings.sessions.registry else { panic!("redis") };
        *redis
    };
    let login = |tls, database, username: &str| RedisLogin {
        tls,
        database,
        username: Some(username.to_owned()),
        password: Some(Secret("s3cret".to_owned())),
    };
    let nobody = |tls, database| RedisLogin { tls, database, ..RedisLogin::default() };
    let server = |host: &str, port, login| RedisServer { host: host.to_owned(), port, login };

    let one = redis(r#"url: "rediss://me:s3cret@[::1]/3", prefix: "o:", timeout: 1s"#);
    assert_eq!(one.topology, Topology::Standalone(server("::1", 6379, login(true, 3, "me"))));
    assert!(one.topology.uses_tls() && one.tls.ca.is_none() && one.tls.identity.is_none());
    assert_eq!((one.prefix.as_str(), one.timeout), ("o:", Duration::from_secs(1)));

    let beside = redis(r#"url: "redis://:s3cret@redis:1", username: me, database: 2"#);
    assert_eq!(beside.topology, Topology::Standalone(server("redis", 1, login(false, 2, "me"))));
    assert_eq!((beside.prefix.as_str(), beside.timeout), ("outrigger:", Duration::from_millis(100)));

    let cluster = redis(r#"url: ["redis://a", "redis://b:7"]"#);
    let nodes = vec![server("a", 6379, nobody(false, 0)), server("b", 7, nobody(false, 0))];
    assert_eq!(cluster.topology, Topology::Cluster(nodes));

    let sentinel = redis(r#"sentinel: { urls: ["rediss://me:s3cret@a"], master: m }, database: 1"#);
    let Topology::Sentinel { sentinels, master, login: at_master } = sentinel.topology else {
        panic!("sentinel")
    };
    assert_eq!(sentinels, [server("a", 26379, login(true, 0, "me"))]);
    assert_eq!((master.as_str(), at_master), ("m", nobody(true, 1)));
}

#[test]
fn the_gateways_keys_are_read_where_they_can_be() {
    for (keys, expected) in [
        ("sessions: { registry: redis, redis: { url: 'redis://a' } }", Some("mcpgw:")),
        ("sessions: { registry: redis, redis: { url: 'redis://a' }, gateway_keys: null }", None),
        ("sessions: { registry: redis, redis: { url: 'redis://a' }, gateway_keys: 'x:' }", Some("x:")),
        ("sessions: { registry: redis, redis: { url: 'redis://a' } }\nprofile: generic", None),
    ] {
        let settings = config::load_text("keys.yaml", &format!("{SMALLEST}\n{keys}\n"), &|_| None).unwrap();
        let RegistryKind::Redis(redis) = &settings.sessions.registry else { panic!("redis") };
        assert_eq!(redis.gateway_keys.as_deref(), expected, "{keys}");
        assert_eq!(settings.sessions.on_registry_failure, OnRegistryFailure::Refuse);
    }
}

#[test]
fn a_member_is_found_by_what_it_publishes_or_by_dns() {
    let world = World::new("member");
    let certs = world.folder.join("certs").display().to_string();
    let member = |keys: &str| {
        let text = format!(
            "{SMALLEST}\nsessions: {{ registry: redis, redis: {{ url: 'redis://a' }}, on_registry_failure: local }}\n\
             member: {{ name: pod-0, address: '0.0.0.0:8444', {keys} }}\n"
        );
        let env = |name: &str| (name == "CERTS").then(|| certs.clone());
        let settings =
            config::load_text("member.yaml", &text, &env).unwrap_or_else(|wrong| panic!("{wrong}"));
        assert_eq!(settings.sessions.on_registry_failure, OnRegistryFailure::Local);
        let shards = |address: &str| (address.parse().unwrap(), settings.threads);
        let mut sockets = vec![shards("127.0.0.1:8080"), shards("0.0.0.0:8444")];
        sockets.push(("127.0.0.1:9901".parse().unwrap(), 1));
        assert_eq!(wanted(&settings), sockets);
        settings.member.unwrap()
    };

    let published = member("advertise: '10.1.2.3:1', plaintext: true, ttl: 1s, connect_timeout: 1ms");
    assert_eq!((published.name.as_str(), published.addresses.len()), ("pod-0", 1));
    let ttl = Duration::from_secs(1);
    assert_eq!(published.discovery, Discovery::Published { host: "10.1.2.3".to_owned(), port: 1, ttl });
    assert!(published.tls.is_none());
    assert_eq!(published.connect_timeout, Duration::from_millis(1));

    let tls = r#"tls: { cert: "${CERTS}/tls.crt", key: "${CERTS}/tls.key", ca: "${CERTS}/ca.crt" }"#;
    let by_dns = member(&format!("template: '{{name}}.o.svc:8444', {tls}"));
    assert_eq!(by_dns.discovery, Discovery::Template { host: "{name}.o.svc".to_owned(), port: 8444 });
    let tls = by_dns.tls.unwrap();
    assert_eq!((tls.server_name.as_str(), tls.ca), ("outrigger", world.folder.join("certs/ca.crt")));
    assert_eq!(by_dns.connect_timeout, Duration::from_millis(200));
}

const SMALLEST: &str = include_str!("../conf/outrigger.yaml");

const RIGHT: &str = r#"
profile: generic
threads: ${THREADS}
listeners:
  - name: public
    address: 0.0.0.0:8443
    tls:
      cert: ${CERTS}/encrypted.crt
      key: ${CERTS}/encrypted.key
      key_passphrase_file: ${CERTS}/key-passphrase
      certificates: [{ cert: "${CERTS}/other.crt", key: "${CERTS}/other.key" }]
      client_ca: ${CERTS}/clients-ca.crt
      client_auth: optional
      forward_client_cert: true
      min_version: 1.3
      session_tickets: false
    upstream: gateway
    trusted_proxies: [10.0.0.0/8]
  - address: [127.0.0.1:9101, "[::1]:9101"]
    paths: [{ path: /pay/more, upstream: gateway }, { path: /pay/, upstream: payments }]
    scope: ${SCOPE}
upstreams:
  payments:
    peers: [payments.example:9000, payments.example:9001]
    tls:
      ca: ${CERTS}/ca.crt
      cert: ${CERTS}/client.crt
      key: ${CERTS}/client.key
      verify: ca_only
      pins: [r/mIkG3eEpVdm+u/ko/cwxzOMo1bk4TyHIlByibiA5E=]
    health: { mcp: ping, headers: { authorization: "Bearer ${SIZE}" }, interval: 10s, unhealthy_threshold: 4 }
    host: payments.example:9000
  gateway:
    health: { path: /health, slow_start: 1m }
    peers: [{ name: w1, address: "[::1]:4444" }, "127.0.0.1:4445"]
routes: { mcp: ["/mcp"], sse: [], message: [] }
sessions: { ttl: 2m, embedded: { path: "${CERTS}", max_sessions: 7 } }
errors: { status: ok }
limits: { body: "${SIZE}MiB", headers: 1000B, header_count: 8, connections: 9 }
timeouts:
  connect: 1ms
  first_byte: 2ms
  response_idle: 3ms
  stream_keepalive: null
  idle: 4ms
  request_head: 5ms
  request_body: 6ms
  write: 7ms
  upstream_idle: 8ms
  handshake: 9ms
drain: { timeout: 9s, max_generations: 1 }
shutdown: { timeout: 10s }
reload: { ready_timeout: 11s }
admin: ${ADMIN:-null}
log: { level: debug, format: text }
"#;

#[test]
fn a_file_that_cannot_be_read_is_one_problem() {
    let world = World::new("unreadable");
    fs::write(world.folder.join("latin1.yaml"), b"profile: \xe4\n").unwrap();
    for (file, expected) in [
        ("none.yaml", "none.yaml: cannot be read: No such file or directory\n"),
        ("certs", "certs: cannot be read: Is a directory\n"),
        ("latin1.yaml", "latin1.yaml: is not UTF-8\n"),
    ] {
        let output = world.outrigger(&["check", file]);
        assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
        assert_eq!(output.status.code(), Some(USAGE));
    }
}

#[test]
fn exit_codes_of_the_command_line() {
    let world = World::new("command-line");
    for (arguments, code) in [
        (&["version"][..], 0),
        (&["--version"], 0),
        (&["--help"], 0),
        (&["check", "--help"], 0),
        (&[], USAGE),
        (&["fly"], USAGE),
        (&["run"], USAGE),
        (&["check"], USAGE),
        (&["check", "a.yaml", "--config", "b.yaml"], USAGE),
    ] {
        let output = world.outrigger(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        let (said, silent) =
            if code == 0 { (output.stdout, output.stderr) } else { (output.stderr, output.stdout) };
        assert!(!said.is_empty() && silent.is_empty(), "{arguments:?}");
    }
    let help = String::from_utf8(world.outrigger(&["--help"]).stdout).unwrap();
    assert!(help.contains("Examples:") && !help.contains("worker"), "{help}");
}

/// Files of a folder by extension, sorted.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    files.sort();
    files
}

/// A fresh folder to run the binary in, with every certificate that a file may name.
struct World {
    folder: PathBuf,
}

impl World {
    fn new(name: &str) -> Self {
        static MADE: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = MADE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("config-{name}-{}-{number}", std::process::id()));
        let certs = folder.join("certs");
        fs::create_dir_all(&certs).unwrap();
        for (name, dates, usage) in [
            ("tls", TODAY, None),
            ("client", TODAY, None),
            ("ca", TODAY, None),
            ("clients-ca", TODAY, None),
            ("other", TODAY, None),
            ("nameless", TODAY, None),
            ("expired", ("19990101000000Z", "20000101000000Z"), None),
            ("early", ("29980101000000Z", "29990101000000Z"), None),
            ("only-server", TODAY, Some("serverAuth")),
            ("only-client", TODAY, Some("clientAuth")),
        ] {
            let (cert, key) = identity(name, dates, usage);
            fs::write(certs.join(name).with_extension("crt"), cert.to_pem().unwrap()).unwrap();
            fs::write(certs.join(name).with_extension("key"), key.private_key_to_pem_pkcs8().unwrap())
                .unwrap();
        }
        let (cert, key) = identity("encrypted", TODAY, None);
        let encrypted = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_128_cbc(), b"secret").unwrap();
        fs::write(certs.join("encrypted.key"), encrypted).unwrap();
        let pem = cert.to_pem().unwrap();
        fs::write(certs.join("encrypted.crt"), &pem).unwrap();
        fs::write(certs.join("half-written.crt"), [&pem[..], &pem[..pem.len() / 2]].concat()).unwrap();
        fs::write(certs.join("key-passphrase"), "secret\n").unwrap();
        let garbage = "-----BEGIN CERTIFICATE-----\nbm8gY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n";
        fs::write(certs.join("garbage.crt"), garbage).unwrap();
        fs::write(certs.join("redis-password"), "s3cret\n").unwrap();
        fs::write(certs.join("empty"), "\n").unwrap();
        Self { folder }
    }

    /// Copies a file, with the container's paths led into this folder. Lines keep their numbers.
    fn copy(&self, file: &Path, name: &str) {
        let text =
            fs::read_to_string(file).unwrap().replace(" /certs/", " certs/").replace(" /secrets/", " certs/");
        let text = match text.contains("\nsessions:") {
            true => text.replace("/var/lib/outrigger", "state"),
            false => format!("{text}sessions: {{ embedded: {{ path: state }} }}\n"),
        };
        fs::write(self.folder.join(name), text).unwrap();
    }

    /// `check` has nothing against the file.
    fn finds_right(&self, name: &str) {
        let output = self.outrigger(&["check", "--config", name]);
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
        assert!(String::from_utf8(output.stdout).unwrap().starts_with(&format!("{name}: ok: ")));
        assert_eq!(output.status.code(), Some(0));
    }

    fn outrigger(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_outrigger"))
            .args(arguments)
            .current_dir(&self.folder)
            .env_clear()
            .envs([("GATEWAY_TOKEN", "s3cret"), ("POD_NAME", "gateway-0"), ("POD_IP", "10.1.2.3")])
            .output()
            .unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What a failed test leaves behind is in the build folder, and the next run does not meet it.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Dates of a certificate that is valid.
const TODAY: (&str, &str) = ("20000101000000Z", "29990101000000Z");

/// A self-signed certificate and its key.
fn identity(name: &str, dates: (&str, &str), usage: Option<&str>) -> (X509, PKey<Private>) {
    let curve = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&curve).unwrap()).unwrap();
    let mut subject = X509Name::builder().unwrap();
    subject.append_entry_by_nid(Nid::COMMONNAME, name).unwrap();
    let subject = subject.build();
    let mut cert = X509::builder().unwrap();
    cert.set_version(2).unwrap();
    cert.set_subject_name(&subject).unwrap();
    cert.set_issuer_name(&subject).unwrap();
    cert.set_pubkey(&key).unwrap();
    cert.set_not_before(&Asn1Time::from_str(dates.0).unwrap()).unwrap();
    cert.set_not_after(&Asn1Time::from_str(dates.1).unwrap()).unwrap();
    if let Some(usage) = usage {
        cert.append_extension(ExtendedKeyUsage::new().other(usage).build().unwrap()).unwrap();
    }
    if name != "nameless" {
        let names = SubjectAlternativeName::new()
            .dns(&format!("{name}.example"))
            .build(&cert.x509v3_context(None, None));
        cert.append_extension(names.unwrap()).unwrap();
    }
    cert.sign(&key, MessageDigest::sha256()).unwrap();
    (cert.build(), key)
}
