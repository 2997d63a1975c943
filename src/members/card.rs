//! What a member publishes about itself.
//! PURE: a [`Card`] to its JSON and back. Surprise: it names the instance too, so that a generation that retires can withdraw
//! its own card without touching that of the generation which took over under the same name.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// HOST:PORT of the member listener, as the others reach it.
    pub address: String,
    /// Of the machine or pod; the gateway beside it signs its own keys with the same.
    pub hostname: String,
    /// Different for every generation.
    pub instance: String,
}

impl Card {
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| unreachable!("three strings always serialise"))
    }

    /// `None` if the text is no card that this version knows. Unknown keys are ignored.
    pub fn from_json(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_is_the_contract_between_versions() {
        let card = Card { address: "10.0.0.7:8444".into(), hostname: "pod-7".into(), instance: "9f".into() };
        let json = r#"{"address":"10.0.0.7:8444","hostname":"pod-7","instance":"9f"}"#;
        assert_eq!(card.to_json(), json);
        assert_eq!(Card::from_json(json), Some(card.clone()));
        assert_eq!(Card::from_json(&json.replace('}', r#","zone":"a"}"#)), Some(card));
        for no_card in ["", "1", "{}", r#"{"address":"a:1"}"#] {
            assert_eq!(Card::from_json(no_card), None, "{no_card}");
        }
    }
}
