//! Who we are to Redis and who it is to us: TLS both ways, and an ACL user whose password changes.
//! Certificates are made by the test; the server's are for 127.0.0.1 only.
//! Surprise: the control connection stays plaintext, on the server's other port.

use std::path::PathBuf;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509NameBuilder};

use super::servers::{Server, TempFolder, free_port};
use super::*;
use crate::material::IdentityFiles;

/// What an ACL user of ours must be allowed, and nothing else (in a cluster `+cluster|slots +asking` as well).
const ACL: &str = "+ping +get +mget +set +del +exists +pexpire +pttl +eval +evalsha +zadd +zrange +zrangebyscore +zrem +zremrangebyscore";

/// A certificate and its key, in two files.
struct Identity {
    cert: PathBuf,
    key: PathBuf,
    x509: X509,
    pkey: PKey<Private>,
}

fn identity(folder: &TempFolder, name: &str, issuer: Option<&Identity>) -> Identity {
    let pkey = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_nid(Nid::COMMONNAME, name).unwrap();
    let subject = subject.build();
    let mut cert = X509Builder::new().unwrap();
    cert.set_version(2).unwrap();
    cert.set_serial_number(&BigNum::from_u32(std::process::id()).unwrap().to_asn1_integer().unwrap())
        .unwrap();
    cert.set_subject_name(&subject).unwrap();
    cert.set_issuer_name(issuer.map_or(&subject, |issuer| issuer.x509.subject_name())).unwrap();
    cert.set_pubkey(&pkey).unwrap();
    cert.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    cert.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    if issuer.is_none() {
        cert.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    }
    let name_of =
        SubjectAlternativeName::new().ip("127.0.0.1").build(&cert.x509v3_context(None, None)).unwrap();
    cert.append_extension(name_of).unwrap();
    cert.sign(issuer.map_or(&pkey, |issuer| &issuer.pkey), MessageDigest::sha256()).unwrap();
    let x509 = cert.build();
    let file = |end: &str, pem: Vec<u8>| {
        let path = folder.0.join(format!("{name}.{end}"));
        std::fs::write(&path, pem).unwrap();
        path
    };
    let (pem, key) = (x509.to_pem().unwrap(), pkey.private_key_to_pem_pkcs8().unwrap());
    Identity { cert: file("crt", pem), key: file("key", key), x509, pkey }
}

/// A server that wants a client certificate of the CA, on a second port with TLS.
struct TlsServer {
    server: Server,
    port: u16,
    ca: Identity,
    client: Identity,
    folder: TempFolder,
}

fn tls_server(options: &str) -> TlsServer {
    let (folder, port) = (TempFolder::new(), free_port());
    let ca = identity(&folder, "ca", None);
    let (own, client) = (identity(&folder, "server", Some(&ca)), identity(&folder, "client", Some(&ca)));
    let (cert, key, trusted) = (own.cert.display(), own.key.display(), ca.cert.display());
    let tls = format!(
        "--tls-port {port} --tls-cert-file {cert} --tls-key-file {key} --tls-ca-cert-file {trusted} --tls-auth-clients yes"
    );
    TlsServer { server: Server::start(&format!("{tls} {options}")), port, ca, client, folder }
}

impl TlsServer {
    fn at(&self) -> RedisServer {
        RedisServer { login: RedisLogin { tls: true, ..RedisLogin::default() }, ..at(self.port) }
    }

    fn member(&self, topology: Topology, ca: Option<&Identity>, client: Option<&Identity>) -> Redis {
        let tls = RedisTls {
            ca: ca.map(|ca| ca.cert.clone()),
            identity: client.map(|client| IdentityFiles {
                cert: client.cert.clone(),
                key: client.key.clone(),
                passphrase: None,
            }),
        };
        Redis::open(&settings::Redis { tls, ..settings(topology) }, HOUR).unwrap()
    }
}

/// Why nobody can ask.
async fn reason(member: &Redis) -> String {
    let mut reason = String::new();
    for _ in 0..100 {
        match member.check().await {
            Err(RegistryError::Unreachable { reason: why, .. }) => return why.to_string(),
            other => reason = format!("{other:?}"),
        }
    }
    panic!("not unreachable: {reason}");
}

#[tokio::test]
async fn both_sides_show_certificates() {
    let tls = tls_server("");
    let alone = || Topology::Standalone(tls.at());
    let member = tls.member(alone(), Some(&tls.ca), Some(&tls.client));
    assert_eq!(member.claim(&key("s"), &owned_by("w1")).await, Ok(Claimed::Won));

    let other = identity(&tls.folder, "other", None);
    let foreign = identity(&tls.folder, "foreign", Some(&other));
    for (ca, client, expected) in [
        (
            Some(&other),
            Some(&tls.client),
            "its certificate is not trusted: self-signed certificate in certificate chain",
        ),
        (None, Some(&tls.client), "its certificate is not trusted"),
        // What the server has against ours is said where its alert is not overtaken by the end of the connection.
        (Some(&tls.ca), None, "(does it accept our client certificate?)"),
        (Some(&tls.ca), Some(&foreign), "(does it accept our client certificate?)"),
    ] {
        let told = reason(&tls.member(alone(), ca, client)).await;
        assert!(told.contains(expected) && told.starts_with(&format!("127.0.0.1:{}: ", tls.port)), "{told}");
    }
    let named = RedisServer { host: "localhost".into(), ..tls.at() };
    let told = reason(&tls.member(Topology::Standalone(named), Some(&tls.ca), Some(&tls.client))).await;
    assert!(told.contains("hostname mismatch"), "{told}");
    assert_eq!(tls.server.ask::<u64>("DBSIZE"), 1);
}

#[tokio::test]
async fn certificates_are_read_for_every_connection() {
    let tls = tls_server("");
    let rotated = identity(&tls.folder, "rotated", None);
    let member = tls.member(Topology::Standalone(tls.at()), Some(&rotated), Some(&tls.client));
    assert!(reason(&member).await.contains("not trusted"));
    std::fs::copy(&tls.ca.cert, &rotated.cert).unwrap();
    eventually("connected", async || member.check().await.is_ok()).await;
}

#[tokio::test]
async fn a_cluster_tells_its_ports_for_tls() {
    let bus = free_port();
    let tls = tls_server(&format!("--cluster-enabled yes --tls-cluster yes --cluster-port {bus}"));
    tls.server.ask::<()>("CLUSTER ADDSLOTSRANGE 0 16383");
    let member = tls.member(Topology::Cluster(vec![tls.at()]), Some(&tls.ca), Some(&tls.client));
    eventually("claimed", async || member.claim(&key("s"), &owned_by("w1")).await == Ok(Claimed::Won)).await;
}

#[tokio::test]
async fn a_rotated_password_is_read_with_the_next_connection() {
    let (server, folder) = (Server::start(""), TempFolder::new());
    server.ask::<()>(&format!("ACL SETUSER outrigger on >first ~t:* {ACL}"));
    let password = folder.0.join("password");
    std::fs::write(&password, "first\n").unwrap();
    let login = RedisLogin { username: Some("outrigger".into()), ..RedisLogin::default() };
    let topology = Topology::Standalone(RedisServer { login, ..at(server.port) });
    let with_file = settings::Redis { password_file: Some(password.clone()), ..settings(topology) };
    let (member, w1) = (Redis::open(&with_file, HOUR).unwrap(), owned_by("w1"));
    assert_eq!(member.claim(&key("s"), &w1).await, Ok(Claimed::Won));
    assert_eq!(
        server.ask::<String>("CLIENT LIST TYPE normal").matches("user=outrigger").count(),
        1,
        "one connection"
    );

    server.ask::<()>("ACL SETUSER outrigger resetpass >second");
    assert_eq!(member.release(&key("s"), &w1).await, Ok(true), "who is in stays in");
    server.ask::<u64>("CLIENT KILL USER outrigger");
    eventually("the old one is refused", async || {
        let told = reason(&member).await;
        assert!(!told.contains("first"), "{told}");
        told.contains("authentication failed")
    })
    .await;
    std::fs::write(&password, "second\n").unwrap();
    eventually("back in", async || member.check().await.is_ok()).await;
    std::fs::remove_file(&password).unwrap();
    server.ask::<u64>("CLIENT KILL USER outrigger");
    eventually("the file is missed", async || reason(&member).await.contains("password file")).await;
}

#[tokio::test]
async fn these_commands_are_all_that_must_be_allowed() {
    let server = Server::start("");
    server.ask::<()>(&format!("ACL SETUSER outrigger on >secret ~t:* {ACL}"));
    let login = RedisLogin {
        username: Some("outrigger".into()),
        password: Some(settings::Secret("secret".into())),
        ..RedisLogin::default()
    };
    let topology = Topology::Standalone(RedisServer { login, ..at(server.port) });
    let (member, w1) = (Redis::open(&settings(topology), HOUR).unwrap(), owned_by("w1"));
    assert_eq!(member.claim(&key("s"), &w1).await, Ok(Claimed::Won));
    member.forget(&key("s"));
    assert_eq!(member.ask(&key("s")).await, Ok(Some(w1.clone())));
    assert_eq!(member.bury(&key("s"), &w1).await, Ok(true));
    assert_eq!(member.release(&key("s"), &w1.of_nobody()).await, Ok(true));
    let store = member.store();
    let card = store.key("member:m1");
    store.put(&card, "here", HOUR).await.unwrap();
    assert_eq!(
        store.get(&card).await,
        store.get_many(std::slice::from_ref(&card)).await.map(|mut cards| cards.remove(0))
    );
    assert!(store.expires_in(&card).await.unwrap().is_some());
    assert_eq!(store.remove_if(&card, "here").await, Ok(true));
    assert_eq!(store.beat(&store.key("members"), "m1", 2, 1).await, Ok(vec!["m1".into()]));
    assert_eq!(store.beating(&store.key("members"), 1).await, Ok(vec!["m1".into()]));
    store.stop_beating(&store.key("members"), "m1").await.unwrap();
    assert_eq!(store.exists(&store.key("members")).await, Ok(false));

    let refused = store.get("elsewhere:secret").await.unwrap_err();
    assert!(matches!(&refused, RegistryError::Refused { code, .. } if code == "NOPERM"), "{refused}");
    assert!(!refused.to_string().contains("elsewhere"), "{refused}");
}
