//! Which upstream a listener's requests are for: one for all, or one for each of its paths.
//! Takes a request's target, gives the upstream and the target as that knows it. PURE.
//! Surprise: a path here is more than a choice. It is taken off the request and stands in every address that leaves, like the path of an
//! `external_url`, so that the upstream need not know it.

use crate::config::settings::UpstreamId;
use crate::mcp::public_url::without_prefix;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The longest first; each as a prefix of public addresses is.
    paths: Vec<(String, UpstreamId)>,
    /// Whatever is on none of the paths; `None` = nothing is.
    rest: Option<UpstreamId>,
}

/// Where one request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lead<'d> {
    pub upstream: UpstreamId,
    /// The path that leads there, or nothing.
    pub prefix: &'d str,
    /// The target without it, where there is one.
    pub inside: Option<Vec<u8>>,
}

impl Destination {
    pub fn new(mut paths: Vec<(String, UpstreamId)>, rest: Option<UpstreamId>) -> Self {
        paths.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Self { paths, rest }
    }

    pub fn of(&self, target: &[u8]) -> Option<Lead<'_>> {
        let by_path = self.paths.iter().find_map(|(prefix, upstream)| {
            let inside = Some(without_prefix(prefix, target)?);
            Some(Lead { upstream: *upstream, prefix, inside })
        });
        by_path.or_else(|| Some(Lead { upstream: self.rest?, prefix: "", inside: None }))
    }

    /// Every path that leads somewhere, the empty one for whatever is on none of the others.
    pub fn leads(&self) -> impl Iterator<Item = (&str, UpstreamId)> {
        let paths = self.paths.iter().map(|(path, upstream)| (path.as_str(), *upstream));
        paths.chain(self.rest.map(|upstream| ("", upstream)))
    }

    /// The only upstream that anything is for, if there is but one.
    pub fn only(&self) -> Option<UpstreamId> {
        let mut all = self.paths.iter().map(|(_, upstream)| *upstream).chain(self.rest);
        let first = all.next()?;
        all.all(|other| other == first).then_some(first)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn found(destination: &Destination, target: &str) -> Option<(usize, String, String)> {
        let lead = destination.of(target.as_bytes())?;
        let inside =
            lead.inside.map_or_else(|| target.to_owned(), |inside| String::from_utf8(inside).unwrap());
        Some((lead.upstream.0, lead.prefix.to_owned(), inside))
    }

    #[test]
    fn the_longest_path_leads_and_is_taken_off() {
        let [a, ab, c] = [0, 1, 2].map(UpstreamId);
        let paths = vec![("/a".to_owned(), a), ("/a/b".to_owned(), ab)];
        let (open, closed) = (Destination::new(paths.clone(), Some(c)), Destination::new(paths, None));
        for (target, upstream, prefix, inside) in [
            ("/a/mcp", 0, "/a", "/mcp"),
            ("/a/b/mcp?x=/a", 1, "/a/b", "/mcp?x=/a"),
            ("/a", 0, "/a", "/"),
            ("/a?x", 0, "/a", "/?x"),
            ("/a/bb/mcp", 0, "/a", "/bb/mcp"),
            ("/a/a/mcp", 0, "/a", "/a/mcp"),
            (
                "/.well-known/oauth-protected-resource/a/b/mcp",
                1,
                "/a/b",
                "/.well-known/oauth-protected-resource/mcp",
            ),
        ] {
            let expected = Some((upstream, prefix.to_owned(), inside.to_owned()));
            assert_eq!(found(&open, target), expected, "{target}");
            assert_eq!(found(&closed, target), expected, "{target}");
        }
        for target in ["/", "/mcp", "/aa/mcp", "/A/mcp", "//a/mcp", "/%61/mcp", "/.well-known/x", "*"] {
            assert_eq!(found(&open, target), Some((2, String::new(), target.to_owned())), "{target}");
            assert_eq!(found(&closed, target), None, "{target}");
        }
    }

    #[test]
    fn only_one_is_one_for_everything() {
        let [a, b] = [0, 1].map(UpstreamId);
        let to = |upstream| ("/x".to_owned(), upstream);
        assert_eq!(Destination::new(Vec::new(), Some(a)).only(), Some(a));
        assert_eq!(Destination::new(vec![to(a)], Some(a)).only(), Some(a));
        assert_eq!(Destination::new(vec![to(b)], None).only(), Some(b));
        assert_eq!(Destination::new(vec![to(b)], Some(a)).only(), None);
    }
}
