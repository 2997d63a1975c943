//! Material as operators have it: every kind of key in every wrapping, and everything that is wrong with a file.
//! Certificates are made here, and written to a folder of each test's own.

use std::fs;
use std::path::PathBuf;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::rsa::Rsa;
use openssl::ssl::{SslContext, SslMethod};
use openssl::symm::Cipher;
use openssl::x509::extension::ExtendedKeyUsage;
use openssl::x509::{X509Name, X509NameRef};

use super::*;

const PASSPHRASE: &[u8] = b"correct horse";

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static MADE: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = MADE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("outrigger-material-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// What is said of a file, without the folder.
    fn without_path(&self, sentence: &str) -> String {
        sentence.replace(&format!("{}/", self.0.display()), "")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // In the folder for temporary files nobody minds what a failed test leaves.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn rsa() -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap()
}

fn ec() -> PKey<Private> {
    let curve = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&curve).unwrap()).unwrap()
}

fn name(common: &str) -> X509Name {
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_nid(Nid::ORGANIZATIONNAME, "Example").unwrap();
    name.append_entry_by_nid(Nid::COMMONNAME, common).unwrap();
    name.build()
}

/// A certificate that is yet to be signed.
struct Draft<'a> {
    subject: &'a X509NameRef,
    days: (i64, i64),
    usage: Option<&'a str>,
}

impl Draft<'_> {
    fn signed(&self, key: &PKey<Private>) -> X509 {
        let mut cert = X509::builder().unwrap();
        cert.set_version(2).unwrap();
        cert.set_serial_number(&BigNum::from_u32(0xab).unwrap().to_asn1_integer().unwrap()).unwrap();
        cert.set_subject_name(self.subject).unwrap();
        cert.set_issuer_name(self.subject).unwrap();
        cert.set_pubkey(key).unwrap();
        cert.set_not_before(&in_days(self.days.0)).unwrap();
        cert.set_not_after(&in_days(self.days.1)).unwrap();
        if let Some(usage) = self.usage {
            let extension = ExtendedKeyUsage::new().other(usage).build().unwrap();
            cert.append_extension(extension).unwrap();
        }
        let digest = if key.id() == openssl::pkey::Id::ED25519 {
            MessageDigest::null()
        } else {
            MessageDigest::sha256()
        };
        cert.sign(key, digest).unwrap();
        cert.build()
    }
}

fn in_days(days: i64) -> Asn1Time {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    Asn1Time::from_unix(i64::try_from(now).unwrap() + days * 86_400).unwrap()
}

fn certificate(key: &PKey<Private>) -> X509 {
    Draft { subject: &name("one"), days: (-1, 1), usage: None }.signed(key)
}

fn pem(certificates: &[&X509]) -> Vec<u8> {
    certificates.iter().flat_map(|certificate| certificate.to_pem().unwrap()).collect()
}

#[test]
fn every_kind_of_key_in_every_wrapping_is_read() {
    let folder = Folder::new();
    let passphrase = folder.file("passphrase", [PASSPHRASE, b"\n"].concat());
    let cipher = Cipher::aes_256_cbc();
    let (rsa, ec, ed25519) = (rsa(), ec(), PKey::generate_ed25519().unwrap());
    let mut forms: Vec<(&str, &PKey<Private>, Vec<u8>, bool)> = vec![
        ("PKCS#1", &rsa, rsa.rsa().unwrap().private_key_to_pem().unwrap(), false),
        ("SEC1", &ec, ec.ec_key().unwrap().private_key_to_pem().unwrap(), false),
        (
            "PKCS#1, encrypted",
            &rsa,
            rsa.rsa().unwrap().private_key_to_pem_passphrase(cipher, PASSPHRASE).unwrap(),
            true,
        ),
        (
            "SEC1, encrypted",
            &ec,
            ec.ec_key().unwrap().private_key_to_pem_passphrase(cipher, PASSPHRASE).unwrap(),
            true,
        ),
    ];
    for key in [&rsa, &ec, &ed25519] {
        forms.push(("PKCS#8", key, key.private_key_to_pem_pkcs8().unwrap(), false));
        forms.push((
            "PKCS#8, encrypted",
            key,
            key.private_key_to_pem_pkcs8_passphrase(cipher, PASSPHRASE).unwrap(),
            true,
        ));
    }
    for (form, key, bytes, encrypted) in forms {
        let cert = folder.file("one.crt", pem(&[&certificate(key), &certificate(&rsa)]));
        let files = IdentityFiles {
            cert,
            key: folder.file("one.key", [b"a comment\n", &bytes[..]].concat()),
            passphrase: encrypted.then(|| passphrase.clone()),
        };
        let identity =
            Identity::read(&files).unwrap_or_else(|wrong| panic!("{form}, {:?}: {wrong}", key.id()));
        assert!(identity.key().public_eq(key), "{form}");
        assert_eq!(identity.chain().len(), 2);
        // A passphrase that is not needed does no harm: a rotation may do away with it.
        Identity::read(&IdentityFiles { passphrase: Some(passphrase.clone()), ..files }).unwrap();
        let mut tls = SslContext::builder(SslMethod::tls()).unwrap();
        identity.install(&mut tls).unwrap();
        tls.check_private_key().unwrap();
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_text() {
    let (folder, key) = (Folder::new(), ec());
    let marked = |name, text: &[u8]| folder.file(name, ["\u{feff}".as_bytes(), text].concat());
    let chain = pem(&[&certificate(&key)]);
    let encrypted = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), PASSPHRASE).unwrap();
    let files = IdentityFiles {
        cert: marked("one.crt", &chain),
        key: marked("one.key", &encrypted),
        passphrase: Some(marked("passphrase", PASSPHRASE)),
    };
    assert!(Identity::read(&files).unwrap().key().public_eq(&key));
    Authorities::read(&files.cert).unwrap();
}

#[test]
fn what_is_wrong_with_an_identity_is_said_with_the_file() {
    let folder = Folder::new();
    let (key, other) = (ec(), ec());
    let whole = pem(&[&certificate(&key), &certificate(&other)]);
    let plain = key.private_key_to_pem_pkcs8().unwrap();
    let encrypted = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_128_cbc(), PASSPHRASE).unwrap();
    let x25519 = PKey::generate_x25519().unwrap().private_key_to_pem_pkcs8().unwrap();
    let damaged = "-----BEGIN CERTIFICATE-----\nbm8gY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n";
    let damaged_key = damaged.replace("CERTIFICATE", "PRIVATE KEY");
    let cut = "ends in the middle of a PEM block; is it still being written?";
    let with_second_damaged = [&pem(&[&certificate(&key)])[..], damaged.as_bytes()].concat();
    // Certificate, key, passphrase, and what is said of them.
    type Case<'a> = (&'a [u8], &'a [u8], Option<&'a [u8]>, &'a str);
    let cases: &[Case] = &[
        (b"", &plain, None, "one.crt: is empty"),
        (&whole[..40], &plain, None, &format!("one.crt: {cut}")),
        // OpenSSL's own reader takes this one for a whole chain of one.
        (&whole[..whole.len() - 10], &plain, None, &format!("one.crt: {cut}")),
        (&plain, &plain, None, "one.crt: no PEM certificate in it"),
        (damaged.as_bytes(), &plain, None, "one.crt: certificate 1 in it is damaged"),
        (&with_second_damaged, &plain, None, "one.crt: certificate 2 in it is damaged"),
        (&whole, b"\n", None, "one.key: is empty"),
        (&whole, &plain[..plain.len() / 2], None, &format!("one.key: {cut}")),
        (&whole, &whole, None, "one.key: no PEM private key in it"),
        (
            &whole,
            damaged_key.as_bytes(),
            None,
            "one.key: the private key in it is damaged, or of a kind that TLS does not know",
        ),
        (
            &whole,
            &other.private_key_to_pem_pkcs8().unwrap(),
            None,
            "one.key: is not the key of the certificate in one.crt",
        ),
        (&whole, &x25519, None, "one.key: is not the key of the certificate in one.crt"),
        (
            &whole,
            &encrypted,
            None,
            "one.key: the private key is encrypted; `key_passphrase_file` has to name its passphrase",
        ),
        (&whole, &encrypted, Some(b"wrong"), "passphrase: is not the passphrase of the key in one.key"),
        (&whole, &encrypted, Some(&[b'x'; 5_000]), "passphrase: is not the passphrase of the key in one.key"),
        (&whole, &encrypted, Some(b"\r\n"), "passphrase: is empty"),
    ];
    for (cert, key, passphrase, expected) in cases {
        let files = IdentityFiles {
            cert: folder.file("one.crt", cert),
            key: folder.file("one.key", key),
            passphrase: passphrase.map(|text| folder.file("passphrase", text)),
        };
        let said = Identity::read(&files).map(|_| ()).unwrap_err();
        assert_eq!(folder.without_path(&said), *expected);
    }
    let missing = IdentityFiles { cert: folder.0.join("none"), key: folder.0.join("none"), passphrase: None };
    let said = Identity::read(&missing).map(|_| ()).unwrap_err();
    assert_eq!(folder.without_path(&said), "none: No such file or directory");
    let said = Authorities::read(&folder.file("ca.crt", "no CA\n")).map(|_| ()).unwrap_err();
    assert_eq!(folder.without_path(&said), "ca.crt: no PEM certificate in it");
}

#[test]
fn a_certificate_is_good_for_what_it_says_and_when_it_says() {
    let (folder, key) = (Folder::new(), ec());
    let chain = |days, usage| {
        let made = Draft { subject: &name("one"), days, usage }.signed(&key);
        Chain::read(&folder.file("one.crt", pem(&[&made]))).unwrap()
    };
    let now = in_days(0);
    let (server, client, both) = (Purpose::Server, Purpose::Client, [Purpose::Server, Purpose::Client]);
    for (usage, unfit) in [
        (None, &[][..]),
        (Some("serverAuth"), &[client][..]),
        (Some("clientAuth"), &[server]),
        (Some("codeSigning"), &both),
        (Some("anyExtendedKeyUsage"), &[]),
    ] {
        for purpose in both {
            let said = chain((-1, 1), usage).unfit_for(&[purpose]);
            assert_eq!(said.is_some(), unfit.contains(&purpose), "{usage:?} for {purpose:?}: {said:?}");
        }
    }
    assert_eq!(
        chain((-1, 1), Some("serverAuth")).unfit_for(&both).unwrap(),
        "the certificate may not be a client's: its extended key usage lacks clientAuth"
    );
    assert_eq!(chain((-1, 1), None).untimely(&now), None);
    let expired = chain((-2, -1), None).untimely(&now).unwrap();
    assert_eq!(expired, format!("the certificate expired on {}", &*in_days(-1)));
    let early = chain((1, 2), None).untimely(&now).unwrap();
    assert_eq!(early, format!("the certificate is not valid before {}", &*in_days(1)));
}

#[test]
fn a_certificate_that_openssl_would_not_show_is_refused_before_it_is_served() {
    let (folder, weak) = (Folder::new(), PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap());
    let chain = Chain::read(&folder.file("weak.crt", pem(&[&certificate(&weak)]))).unwrap();
    let said = chain.unfit_for(&[Purpose::Server]).unwrap();
    assert_eq!(said, "TLS does not take the certificate: ee key too small");
    let below = folder.file("below.crt", pem(&[&certificate(&ec()), &certificate(&weak)]));
    let said = Chain::read(&below).unwrap().unfit_for(&[Purpose::Client]).unwrap();
    assert_eq!(said, "TLS does not take the certificate: ca key too small");
}

#[test]
fn authorities_are_good_as_long_as_one_of_them_is() {
    let (folder, key) = (Folder::new(), ec());
    let (now, one) = (in_days(0), name("one"));
    let made = |days| Draft { subject: &one, days, usage: None }.signed(&key);
    let said = |certificates: &[&X509], now: &Asn1TimeRef| {
        Authorities::read(&folder.file("ca.crt", pem(certificates))).unwrap().unfit(Some(now))
    };
    let (old, good, new) = (made((-2, -1)), made((-1, 1)), made((1, 2)));
    assert_eq!(said(&[&old, &good, &new], &now), None);
    assert_eq!(said(&[&old], &now), Some(format!("the certificate expired on {}", old.not_after())));
    let none =
        format!("none of its 2 certificates is valid; the last one is not valid before {}", new.not_before());
    assert_eq!(said(&[&old, &new], &now), Some(none));
}

#[test]
fn authorities_have_a_root_that_can_be_believed() {
    let (folder, key) = (Folder::new(), ec());
    let said = |certificates: &[&X509]| {
        Authorities::read(&folder.file("ca.crt", pem(certificates))).unwrap().unfit(None)
    };
    let (ca, one) = (name("ca"), name("one"));
    let (root, below) = (Draft { subject: &ca, days: (-2, -1), usage: None }, ec());
    let root = root.signed(&key);
    let mut leaf = X509::builder().unwrap();
    leaf.set_subject_name(&one).unwrap();
    leaf.set_issuer_name(&ca).unwrap();
    leaf.set_pubkey(&below).unwrap();
    leaf.set_not_before(&in_days(-1)).unwrap();
    leaf.set_not_after(&in_days(1)).unwrap();
    leaf.sign(&key, MessageDigest::sha256()).unwrap();
    let leaf = leaf.build();
    assert_eq!(said(&[&root]), None, "dates do not count here");
    assert_eq!(said(&[&leaf, &root]), None);
    let nobody = "nobody could be verified by it: unable to get local issuer certificate";
    assert_eq!(said(&[&leaf]).unwrap(), nobody);
    let weak = certificate(&PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap());
    assert!(said(&[&weak]).unwrap().contains("key too"));
}

#[test]
fn the_shelf_reads_once_and_lists_what_is_in_use() {
    let (folder, key) = (Folder::new(), ec());
    let leaf = certificate(&key);
    let files = IdentityFiles {
        cert: folder.file("one.crt", pem(&[&leaf])),
        key: folder.file("one.key", key.private_key_to_pem_pkcs8().unwrap()),
        passphrase: None,
    };
    let mut shelf = Shelf::default();
    let first = shelf.identity("listener a", &files).unwrap();
    // A rotation half-way: who comes later must not get another pair, let alone half of one.
    fs::write(&files.cert, pem(&[&certificate(&ec())])).unwrap();
    let second = shelf.identity("listener b", &files).unwrap();
    assert_eq!(first.chain()[0].to_der().unwrap(), second.chain()[0].to_der().unwrap());
    shelf.identity("listener b", &files).unwrap();
    shelf.authorities("listener b", &files.cert).unwrap();
    let wrong = IdentityFiles { key: folder.0.join("none"), ..files.clone() };
    let said = shelf.identity("listener c", &wrong).map(|_| ()).unwrap_err();
    assert_eq!(folder.without_path(&said), "listener c: none: No such file or directory");

    let used = shelf.into_used();
    let expected = [("listener a", Role::Shown), ("listener b", Role::Shown), ("listener b", Role::Trusted)];
    assert_eq!(used.iter().map(|used| (used.by.as_str(), used.role)).collect::<Vec<_>>(), expected);
    let Certificate { name, subject, serial, not_after, .. } = &used[0].certificate;
    assert_eq!((name.as_str(), subject.as_str(), serial.as_str()), ("one", "O=Example, CN=one", "AB"));
    assert_eq!(Asn1Time::from_unix(*not_after).unwrap().to_string(), leaf.not_after().to_string());
    let text = used[0].certificate.to_string();
    assert_eq!(text, format!("\"O=Example, CN=one\" (serial AB, valid until {})", leaf.not_after()));
}

#[test]
fn what_is_near_is_told_by_its_own_life() {
    let lives = |days: i64| Certificate {
        name: String::new(),
        subject: String::new(),
        serial: String::new(),
        not_before: 0,
        not_after: days * DAY,
    };
    let at_end = |days: i64, left: i64| lives(days).nearness(days * DAY - left);
    for (days, left, expected) in [
        (365, 31 * DAY, Nearness::Far),
        (365, 29 * DAY, Nearness::Soon),
        (365, 8 * DAY, Nearness::Soon),
        (365, 6 * DAY, Nearness::Close),
        (90, 25 * DAY, Nearness::Far),
        (90, 20 * DAY, Nearness::Soon),
        (1, DAY - 1, Nearness::Far),
        (1, DAY / 5, Nearness::Soon),
        (1, DAY / 20, Nearness::Close),
        (1, 0, Nearness::Close),
        (1, -1, Nearness::Past),
    ] {
        assert_eq!(at_end(days, left), expected, "{left} s left of {days} days");
    }
    assert_eq!((lives(10).days_left(DAY + 1), lives(10).days_left(10 * DAY + 1)), (8, -1));
}
