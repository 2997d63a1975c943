//! The small typed values of the YAML file: times (`30s`), sizes (`4MiB`) and counts, none of them ever zero. PURE.
//! Each is written back the way it is read, because the JSON Schema shows defaults in that form.
//! Surprise: a bare number is refused as time and as size; a file that says `timeout: 30` leaves the unit to a guess.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A time above zero and up to a year, in whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Duration);

/// A number of bytes above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub usize);

/// A number of things above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Count(pub usize);

const TIME_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZE_UNITS: [(&str, u64); 3] = [("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
/// Far above any sense, far below what a clock can still add.
const LONGEST_MILLIS: u64 = 365 * 24 * 3_600_000;

impl Time {
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    pub fn parse(text: &str) -> Result<Self, String> {
        match number_with_unit(text, &TIME_UNITS) {
            None => Err(format!("expected a time such as 30s (units ms, s, m, h), found {text:?}")),
            Some(Ok(0)) => Err("must be more than 0".to_owned()),
            Some(Ok(millis)) if millis <= LONGEST_MILLIS => Ok(Self(Duration::from_millis(millis))),
            Some(_) => Err("must be at most 8760h (a year)".to_owned()),
        }
    }
}

impl Size {
    pub const fn from_kib(kib: usize) -> Self {
        Self(kib << 10)
    }

    fn parse(text: &str) -> Result<Self, String> {
        match number_with_unit(text, &SIZE_UNITS) {
            None => Err(format!("expected a size such as 4MiB (units B, KiB, MiB), found {text:?}")),
            Some(Ok(0)) => Err("must be more than 0".to_owned()),
            Some(size) => size
                .and_then(|bytes| usize::try_from(bytes).map_err(|_| Overflow))
                .map(Self)
                .map_err(|Overflow| "is more than this machine can address".to_owned()),
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        // Without minutes: a minute is written 60s, as in every other timeout.
        out.write_str(&with_unit(millis, &[TIME_UNITS[0], TIME_UNITS[2], TIME_UNITS[3]]))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&with_unit(self.0 as u64, &SIZE_UNITS))
    }
}

struct Overflow;

/// `None`: not of the form `NUMBER UNIT` (no space, no sign, no fraction).
fn number_with_unit(text: &str, units: &[(&str, u64)]) -> Option<Result<u64, Overflow>> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    if number.is_empty() {
        return None;
    }
    Some(number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor)).ok_or(Overflow))
}

fn with_unit(value: u64, units: &[(&str, u64)]) -> String {
    units
        .iter()
        .find(|(_, factor)| value.is_multiple_of(*factor))
        .map_or_else(|| value.to_string(), |(unit, factor)| format!("{}{unit}", value / factor))
}

/// Gives a type that is written as text its serde and JSON Schema sides.
macro_rules! written_as_text {
    ($type:ident, $name:literal, $pattern:literal, $expected:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl de::Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                        out.write_str($expected)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        $type::parse(text).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

written_as_text!(Time, "Time", "^[0-9]+(ms|s|m|h)$", "a time such as 30s (units ms, s, m, h)");
written_as_text!(Size, "Size", "^[0-9]+(B|KiB|MiB)$", "a size such as 4MiB (units B, KiB, MiB)");

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        match usize::try_from(number) {
            Ok(0) => Err(de::Error::custom("must be at least 1")),
            Ok(count) => Ok(Self(count)),
            Err(_) => Err(de::Error::custom("is more than this machine can count")),
        }
    }
}

impl JsonSchema for Count {
    fn schema_name() -> Cow<'static, str> {
        "Count".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_read_back_as_written() {
        for text in ["1ms", "1500ms", "30s", "60s", "90s", "1h", "8760h"] {
            assert_eq!(Time::parse(text).map(|time| time.to_string()).as_deref(), Ok(text));
        }
        for text in ["1B", "1000B", "64KiB", "4MiB", "1025KiB"] {
            assert_eq!(Size::parse(text).map(|size| size.to_string()).as_deref(), Ok(text));
        }
        assert_eq!(Time::parse("2m"), Ok(Time::from_secs(120)));
        assert_eq!(Size::parse("64KiB"), Ok(Size::from_kib(64)));
    }

    #[test]
    fn each_refusal_has_its_sentence() {
        for (text, words) in [
            ("0s", "more than 0"),
            ("30", "such as 30s"),
            ("s", "such as 30s"),
            ("1.5s", "such as 30s"),
            ("-1s", "such as 30s"),
            ("30 s", "such as 30s"),
            ("1d", "such as 30s"),
            ("8761h", "at most 8760h"),
            ("99999999999999999999h", "at most 8760h"),
        ] {
            assert!(Time::parse(text).is_err_and(|sentence| sentence.contains(words)), "{text}");
        }
        for (text, words) in [
            ("0B", "more than 0"),
            ("4MB", "such as 4MiB"),
            ("4", "such as 4MiB"),
            ("99999999999999999MiB", "can address"),
        ] {
            assert!(Size::parse(text).is_err_and(|sentence| sentence.contains(words)), "{text}");
        }
    }
}
