//! Which of several certificates a client gets for the name that it asks for. PURE.
//! Takes certificates with their DNS names in order, gives one of them by name (RFC 6125 §6.4.3: `*` stands for one whole label).
//! Surprise: where two have the same name the earlier one is shown, and a name beats a wildcard wherever that stands.

use std::collections::HashMap;

/// Things by DNS name.
#[derive(Debug)]
pub struct ByName<T>(HashMap<String, T>);

impl<T: Clone> ByName<T> {
    /// Names are in lower case.
    pub fn new(entries: impl IntoIterator<Item = (Vec<String>, T)>) -> Self {
        let mut by_name = HashMap::new();
        for (names, thing) in entries {
            for name in names {
                by_name.entry(name).or_insert_with(|| thing.clone());
            }
        }
        Self(by_name)
    }

    /// `asked`: as the client wrote it.
    pub fn get(&self, asked: &str) -> Option<&T> {
        let asked = asked.to_ascii_lowercase();
        let wildcard = || self.0.get(&format!("*.{}", asked.split_once('.')?.1));
        self.0.get(&asked).or_else(wildcard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_beats_a_wildcard_and_the_earlier_beats_the_later() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let by_name = ByName::new([
            (names(&["*.example.com", "one.example"]), 1),
            (names(&["a.example.com", "one.example"]), 2),
            (names(&[]), 3),
        ]);
        for (asked, found) in [
            ("one.example", Some(1)),
            ("ONE.example", Some(1)),
            ("b.example.com", Some(1)),
            ("a.example.com", Some(2)),
            ("a.b.example.com", None),
            ("example.com", None),
            ("*.example.com", Some(1)),
            ("com", None),
            ("", None),
        ] {
            assert_eq!(by_name.get(asked).copied(), found, "{asked}");
        }
    }
}
