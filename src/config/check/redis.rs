//! The check of `sessions.redis`: where Redis is, as whom we log in there, and what TLS to it rests on. PURE.
//! Takes the shape, gives settings in which every server's login is whole, whether its URL or the keys beside said it.
//! Surprise: what a URL says and what stands beside it never overrule one another; said twice is refused.

use std::path::PathBuf;

use super::redis_url::{self, RedisUrl, UrlLogin};
use super::{Check, time};
use crate::config::field::{Field, OneOrMany};
use crate::config::file;
use crate::config::problem::Path;
use crate::config::settings::{Redis, RedisLogin, RedisServer, RedisTls, Topology};

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// What is said of the login outside of URLs.
#[derive(Default)]
struct Beside {
    username: Option<String>,
    password_file: Option<PathBuf>,
    database: Option<i64>,
}

impl Check<'_> {
    /// `gateway_keys`: what was made of the key beside `path`.
    pub fn redis(
        &self,
        redis: file::Redis,
        gateway_keys: Option<Option<String>>,
        path: &Path,
    ) -> Option<Redis> {
        let file::Redis { url, sentinel, username, password_file, database, tls, prefix, timeout } = redis;
        let beside = self.beside(username, password_file, database, path);
        let topology = self.topology(url, sentinel, beside.as_ref(), path);
        let tls = tls.good().map(|tls| tls.map(|tls| self.redis_tls(tls, &path.key("tls"))));
        if let (Some(Some(_)), Some(topology)) = (&tls, &topology)
            && !topology.uses_tls()
        {
            self.report.say(&path.key("tls"), "is given, but no URL says rediss");
        }
        let prefix = prefix.good();
        if let Some(prefix) = &prefix {
            self.name(prefix, &path.key("prefix"));
        }
        if let (Some(prefix), Some(Some(gateway))) = (&prefix, &gateway_keys)
            && prefix == gateway
        {
            self.report.say(&path.key("prefix"), "is also that of the gateway's own keys (`gateway_keys`)");
        }
        Some(Redis {
            topology: topology?,
            tls: tls?.unwrap_or_else(|| Some(RedisTls::default()))?,
            password_file: beside?.password_file,
            prefix: prefix?,
            timeout: time(timeout)?,
            gateway_keys: gateway_keys?,
        })
    }

    fn beside(
        &self,
        username: Field<Option<String>>,
        password_file: Field<Option<String>>,
        database: Field<Option<u64>>,
        path: &Path,
    ) -> Option<Beside> {
        let username = username.good();
        if let Some(Some(name)) = &username {
            self.name(name, &path.key("username"));
        }
        let password_file = password_file.good().map(|file| file.map(PathBuf::from));
        if let Some(Some(file)) = &password_file {
            self.ask(self.machine.secret(file), &path.key("password_file"));
        }
        let database = database.good().and_then(|number| {
            let number = number.map(i64::try_from).transpose();
            let number = number.map_err(|_| "is higher than any database's".to_owned());
            self.ask(number, &path.key("database"))
        });
        Some(Beside { username: username?, password_file: password_file?, database: database? })
    }

    fn topology(
        &self,
        url: Field<Option<OneOrMany<String>>>,
        sentinel: Field<Option<file::Sentinel>>,
        beside: Option<&Beside>,
        path: &Path,
    ) -> Option<Topology> {
        let (url, sentinel) = (url.good(), sentinel.good());
        match (&url, &sentinel) {
            (Some(None), Some(None)) => self.report.say(path, "needs `url` or `sentinel`"),
            (Some(Some(_)), Some(Some(_))) => self
                .report
                .say(&path.key("sentinel"), "`url` is given as well; one of them says where Redis is"),
            _ => {}
        }
        let of_url = url.flatten().map(|url| match url {
            OneOrMany::Scalar(text) => self.standalone(&text, beside, path),
            OneOrMany::List(list) => self.cluster(list, beside, path),
        });
        let of_sentinel = sentinel.flatten().map(|sentinel| self.sentinel(sentinel, beside, path));
        of_url.or(of_sentinel)?
    }

    fn standalone(&self, text: &str, beside: Option<&Beside>, path: &Path) -> Option<Topology> {
        let place = path.key("url");
        let url = self.ask(redis_url::parse(text, REDIS_PORT), &place)?;
        Some(Topology::Standalone(self.server(url, beside?, &place, path)))
    }

    fn cluster(&self, list: Vec<Field<String>>, beside: Option<&Beside>, path: &Path) -> Option<Topology> {
        let urls = self.urls(list, REDIS_PORT, "names a database, but a cluster has none", &path.key("url"));
        if beside.is_some_and(|beside| beside.database.is_some()) {
            self.report.say(&path.key("database"), "a cluster has no databases");
        }
        // One login serves for all nodes, also for those that no URL names.
        let user = |url: &RedisUrl| (url.login.username.clone(), url.login.password.clone());
        let mut good = urls.iter().filter_map(|(place, url)| Some((place, user(url.as_ref()?))));
        let first = good.next().map(|(_, user)| user);
        for (place, _) in good.filter(|(_, user)| first.as_ref() != Some(user)) {
            self.report.say(place, "must name the same user and password as the first");
        }
        let servers: Vec<Option<RedisServer>> =
            urls.into_iter().map(|(place, url)| Some(self.server(url?, beside?, &place, path))).collect();
        servers.into_iter().collect::<Option<_>>().map(Topology::Cluster)
    }

    fn sentinel(&self, sentinel: file::Sentinel, beside: Option<&Beside>, path: &Path) -> Option<Topology> {
        let file::Sentinel { urls, master } = sentinel;
        let (here, place) = (path.key("sentinel"), path.key("sentinel").key("urls"));
        let master = master.required(&here.key("master"), self.report);
        if let Some(master) = &master {
            self.name(master, &here.key("master"));
        }
        let no_database =
            "names a database, but a sentinel has none; the master's goes to `sessions.redis.database`";
        let urls = self.urls(urls.required(&place, self.report)?, SENTINEL_PORT, no_database, &place);
        let tls = urls.first().and_then(|(_, url)| url.as_ref()).is_some_and(|url| url.login.tls);
        // What stands beside is the master's.
        let none = Beside::default();
        let sentinels: Vec<Option<RedisServer>> =
            urls.into_iter().map(|(place, url)| Some(self.server(url?, &none, &place, path))).collect();
        let login = self.login(UrlLogin { tls, ..UrlLogin::default() }, beside?, &here, path);
        Some(Topology::Sentinel {
            sentinels: sentinels.into_iter().collect::<Option<_>>()?,
            master: master?,
            login,
        })
    }

    /// URLs, each with its place, that name no database and share a scheme: one TLS setting serves for all servers they lead to.
    fn urls(
        &self,
        list: Vec<Field<String>>,
        default_port: u16,
        no_database: &str,
        path: &Path,
    ) -> Vec<(Path, Option<RedisUrl>)> {
        if list.is_empty() {
            self.report.say(path, "needs at least one URL");
        }
        let mut urls: Vec<(Path, Option<RedisUrl>)> = Vec::new();
        let mut first_tls = None;
        for (index, text) in list.into_iter().enumerate() {
            let place = path.index(index);
            let url = text.good().and_then(|text| self.ask(redis_url::parse(&text, default_port), &place));
            if let Some(UrlLogin { tls, database, .. }) = url.as_ref().map(|url| &url.login) {
                // Number 0 is the one that everybody has.
                if database.is_some_and(|number| number != 0) {
                    self.report.say(&place, no_database);
                }
                if first_tls.get_or_insert(*tls) != tls {
                    let sentence = "has another scheme than the first; all must be redis or all rediss";
                    self.report.say(&place, sentence);
                }
            }
            urls.push((place, url));
        }
        urls
    }

    fn server(&self, url: RedisUrl, beside: &Beside, place: &Path, path: &Path) -> RedisServer {
        let RedisUrl { host, port, login } = url;
        RedisServer { host, port, login: self.login(login, beside, place, path) }
    }

    /// `place` is that of the URL, `path` that of the keys beside.
    fn login(&self, url: UrlLogin, beside: &Beside, place: &Path, path: &Path) -> RedisLogin {
        let UrlLogin { tls, username, password, database } = url;
        for (key, twice) in [
            ("username", username.is_some() && beside.username.is_some()),
            ("password_file", password.is_some() && beside.password_file.is_some()),
            ("database", database.is_some() && beside.database.is_some()),
        ] {
            if twice {
                self.report.say(&path.key(key), "is given a second time; the URL says it already");
            }
        }
        let named = if beside.username.is_some() { &path.key("username") } else { place };
        let username = username.or_else(|| beside.username.clone());
        if username.is_some() && password.is_none() && beside.password_file.is_none() {
            self.report.say(named, "names a user without a password");
        }
        RedisLogin { tls, database: database.or(beside.database).unwrap_or(0), username, password }
    }

    fn redis_tls(&self, tls: file::RedisTls, path: &Path) -> Option<RedisTls> {
        let file::RedisTls { ca, cert, key, key_passphrase_file } = tls;
        let ca = self.authorities(ca, &path.key("ca"));
        let identity = self.identity(cert, key, key_passphrase_file, path);
        Some(RedisTls { ca: ca?, identity: identity? })
    }
}
