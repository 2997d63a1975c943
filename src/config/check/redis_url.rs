//! URLs of Redis servers: `redis://[user[:password]@]host[:port][/database]`, `rediss://` for TLS. PURE.
//! Takes the text, gives its parts decoded, or the sentence that tells what is wrong with it.
//! Surprise: no sentence quotes any of it, because a slip such as a bare `/` in a password makes a host of half a secret.

use percent_encoding::percent_decode_str;

use super::address;
use crate::config::settings::Secret;

/// One server, and what its URL says of the login there.
#[derive(Debug, PartialEq, Eq)]
pub struct RedisUrl {
    /// Host name or IP literal without brackets.
    pub host: String,
    pub port: u16,
    pub login: UrlLogin,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct UrlLogin {
    pub tls: bool,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub database: Option<i64>,
}

pub fn parse(text: &str, default_port: u16) -> Result<RedisUrl, String> {
    parts(text, default_port).map_err(|wrong| {
        format!("{wrong}; expected redis://[user[:password]@]host[:port][/database], or rediss:// for TLS")
    })
}

fn parts(text: &str, default_port: u16) -> Result<RedisUrl, &'static str> {
    let (scheme, rest) = text.split_once("://").ok_or("has no scheme")?;
    let tls = match scheme {
        "redis" => false,
        "rediss" => true,
        _ => return Err("has another scheme than redis and rediss"),
    };
    let (authority, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    if path.is_some_and(|path| path.contains('@')) || rest.contains(['?', '#']) {
        return Err("has a `/`, `?` or `#` out of place; in a password write %2F, %3F, %23");
    }
    let (user, place) =
        authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let (username, password) = match user {
        Some(user) => credentials(user).ok_or("has a user or password that is not percent-encoded UTF-8")?,
        None => (None, None),
    };
    let (host, port) =
        server(place, default_port).ok_or("has no host, or no port, that can be connected to")?;
    let database = match path {
        None | Some("") => None,
        Some(path) => Some(number(path).ok_or("has a database that is no number")?),
    };
    Ok(RedisUrl { host, port, login: UrlLogin { tls, username, password, database } })
}

fn credentials(text: &str) -> Option<(Option<String>, Option<Secret>)> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let decoded = |part: &str| percent_decode_str(part).decode_utf8().ok().map(|part| part.into_owned());
    let given = |part: String| Some(part).filter(|part| !part.is_empty());
    Some((given(decoded(user)?), given(decoded(password)?).map(Secret)))
}

fn server(place: &str, default_port: u16) -> Option<(String, u16)> {
    // The colons inside the brackets of an IPv6 address are its own.
    let has_port = place.rfind(':').is_some_and(|colon| !place[colon..].contains(']'));
    let place = if has_port { place.to_owned() } else { format!("{place}:{default_port}") };
    address::peer(&place).ok()
}

fn number(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn every_part_may_be_left_out_but_the_host() {
        let login = |tls, username: &str, password: &str, database| UrlLogin {
            tls,
            username: Some(username.to_owned()).filter(|name| !name.is_empty()),
            password: Some(Secret(password.to_owned())).filter(|secret| !secret.0.is_empty()),
            database,
        };
        for (text, host, port, login) in [
            ("redis://redis", "redis", 6379, login(false, "", "", None)),
            ("redis://redis.svc:1/", "redis.svc", 1, login(false, "", "", None)),
            ("rediss://10.0.0.1/0", "10.0.0.1", 6379, login(true, "", "", Some(0))),
            ("redis://[::1]", "::1", 6379, login(false, "", "", None)),
            ("redis://[::1]:7/15", "::1", 7, login(false, "", "", Some(15))),
            ("redis://:pw@a", "a", 6379, login(false, "", "pw", None)),
            ("redis://user@a", "a", 6379, login(false, "user", "", None)),
            ("redis://@a", "a", 6379, login(false, "", "", None)),
            ("rediss://user:a:b@c:2/3", "c", 2, login(true, "user", "a:b", Some(3))),
            ("redis://us%40er:%2f%3F%23%C3%A4@a", "a", 6379, login(false, "us@er", "/?#ä", None)),
            ("redis://u:p@ss@a", "a", 6379, login(false, "u", "p@ss", None)),
        ] {
            assert_eq!(parse(text, 6379), Ok(RedisUrl { host: host.to_owned(), port, login }), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_and_nothing_quoted() {
        for (text, words) in [
            ("sEcret", "no scheme"),
            ("http://sEcret", "another scheme"),
            ("redis+unix:///sEcret", "another scheme"),
            ("redis://", "no host"),
            ("redis://:sEcret@", "no host"),
            ("redis://sEcret:port", "no host, or no port"),
            ("redis://:sEcret:6379", "no host, or no port"),
            ("redis://sEcret:0", "no host, or no port"),
            ("redis://sEcret:65536", "no host, or no port"),
            ("redis://::1:sEcret", "no host, or no port"),
            ("redis://a,sEcret", "no host, or no port"),
            ("redis://u:sE/cret@a", "write %2F"),
            ("redis://u:sE#cret@a", "write %2F"),
            ("redis://u:sE?cret@a", "write %2F"),
            ("redis://a?sEcret=1", "write %2F"),
            ("redis://u:sEcret%ff@a", "percent-encoded UTF-8"),
            ("redis://a/sEcret", "database that is no number"),
            ("redis://a/-1", "database that is no number"),
            ("redis://a/1/sEcret", "database that is no number"),
            ("redis://a/99999999999999999999", "database that is no number"),
        ] {
            let sentence = parse(text, 6379).unwrap_err();
            assert!(sentence.contains(words), "{text}: {sentence}");
            assert!(!sentence.contains("sE") && !sentence.contains("cret"), "{text}: {sentence}");
        }
    }
}
