//! The check of `member`: a name, where the others come in, how they learn of it, and what trust between members rests on. PURE.
//! Takes the shape and the kind of registry, gives a member that all others can find and whose certificates fit.
//! Surprise: a template is tried with this member's own name, because that is the one name known here.

use std::path::PathBuf;

use super::listener::Taken;
use super::{Check, address, time};
use crate::config::field::Field;
use crate::config::file;
use crate::config::problem::Path;
use crate::config::settings::{Discovery, Member, MemberTls};
use crate::material::Purpose;

/// As long as a DNS name may be.
const LONGEST_NAME: usize = 253;
/// Below, a busy machine would be taken for dead.
const SHORTEST_TTL: std::time::Duration = std::time::Duration::from_secs(1);

impl Check<'_> {
    /// `Some(None)`: this Outrigger is no member.
    pub fn member(
        &self,
        member: Field<Option<file::Member>>,
        registry: Option<file::Registry>,
        path: &Path,
        taken: &mut Taken,
    ) -> Option<Option<Member>> {
        let Some(member) = member.good()? else { return Some(None) };
        if registry == Some(file::Registry::Embedded) {
            self.report.say(
                path,
                "needs `sessions.registry: redis`; members learn of each other and of all sessions from a registry \
                 that they share",
            );
        }
        let file::Member { name, address, advertise, template, tls, plaintext, ttl, connect_timeout } =
            member;
        let name = name.required(&path.key("name"), self.report);
        if let Some(name) = &name {
            self.member_name(name, &path.key("name"));
        }
        let addresses = self.addresses(address, &path.key("address"), taken);
        let ttl = time(ttl);
        if ttl.is_some_and(|ttl| ttl < SHORTEST_TTL) {
            self.report.say(&path.key("ttl"), "must be at least 1s");
        }
        let discovery = self.discovery(advertise, template, name.as_deref(), path);
        let tls = self.members_trust(tls, plaintext, path);
        Some(Some(Member {
            name: name?,
            addresses: addresses?,
            discovery: match discovery? {
                Place::Advertised(host, port) => Discovery::Published { host, port, ttl: ttl? },
                Place::Template(host, port) => Discovery::Template { host, port },
            },
            tls: tls?,
            connect_timeout: time(connect_timeout)?,
        }))
    }

    /// It stands in keys of the registry and in the header of a hop.
    fn member_name(&self, name: &str, path: &Path) {
        self.name(name, path);
        if !name.is_ascii() {
            self.report.say(path, "must be of ASCII characters");
        } else if name.len() > LONGEST_NAME {
            self.report.say(path, format!("must be at most {LONGEST_NAME} characters long"));
        }
    }

    fn discovery(
        &self,
        advertise: Field<Option<String>>,
        template: Field<Option<String>>,
        name: Option<&str>,
        path: &Path,
    ) -> Option<Place> {
        let template_path = path.key("template");
        let (advertise, template) = (advertise.good(), template.good());
        match (&advertise, &template) {
            (Some(None), Some(None)) => {
                self.report.say(path, "needs `advertise` or `template`; the other members could not find it");
            }
            (Some(Some(_)), Some(Some(_))) => {
                self.report
                    .say(&template_path, "`advertise` is given as well; one of them says where a member is");
            }
            _ => {}
        }
        let advertised = advertise.flatten().map(|text| {
            let (host, port) = self.ask(address::advertised(&text), &path.key("advertise"))?;
            Some(Place::Advertised(host, port))
        });
        let by_template = template.flatten().map(|text| {
            let (host, port) = self.ask(address::template(&text), &template_path)?;
            let own = name.map(|name| address::of_member(&host, name));
            if own.is_some_and(|own| !address::is_dns_name(&own)) {
                self.report.say(&template_path, "does not make a DNS name of this member's `name`");
            }
            Some(Place::Template(host, port))
        });
        advertised.or(by_template)?
    }

    /// `Some(None)`: plaintext, asked for by name.
    fn members_trust(
        &self,
        tls: Field<Option<file::MemberTls>>,
        plaintext: Field<bool>,
        path: &Path,
    ) -> Option<Option<MemberTls>> {
        let (tls, plaintext) = (tls.good(), plaintext.good());
        match (&tls, plaintext) {
            (Some(None), Some(false)) => self.report.say(path, "needs `tls`, or `plaintext: true`"),
            (Some(Some(_)), Some(true)) => {
                self.report
                    .say(&path.key("plaintext"), "`tls` is given as well; members speak one or the other");
            }
            _ => {}
        }
        match tls? {
            None => Some(None),
            Some(tls) => self.member_tls(tls, &path.key("tls")).map(Some),
        }
    }

    fn member_tls(&self, tls: file::MemberTls, path: &Path) -> Option<MemberTls> {
        let file::MemberTls { cert, key, key_passphrase_file, ca, server_name } = tls;
        let both_ways = [Purpose::Server, Purpose::Client];
        let identity = self.required_identity(cert, key, key_passphrase_file, &both_ways, path);
        let ca_path = path.key("ca");
        let ca = ca.required(&ca_path, self.report).map(PathBuf::from);
        if let Some(ca) = &ca {
            self.ask(self.machine.authorities(ca), &ca_path);
        }
        let server_name = server_name.good();
        if let Some(name) = &server_name {
            self.dns_name(name, &path.key("server_name"));
        }
        Some(MemberTls { identity: identity?, ca: ca?, server_name: server_name? })
    }
}

/// Host and port of a member, or of every member.
enum Place {
    Advertised(String, u16),
    Template(String, u16),
}
