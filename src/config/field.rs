//! Wrappers in which the shape (`file`) holds its values, so that one bad value leaves its neighbours readable. PURE.
//! `Field` for any value, `Table` for a mapping with free keys, two enums for values that may be written in two ways.
//! Surprise: in the JSON Schema none of them shows; a `Field<T>` is described as its `T`.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::problem::{Path, Report};

/// A value of the shape, as far as the file gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field<T> {
    Good(T),
    /// Was reported; the check stays silent about it.
    Bad,
    /// A required key that the file lacks; the check reports it.
    Missing,
}

/// A mapping whose keys are names that the user chose, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table<T>(pub Vec<(String, Field<T>)>);

/// One value, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(untagged)]
pub enum OneOrMany<T> {
    Scalar(T),
    List(Vec<Field<T>>),
}

/// A string that says everything, or a mapping that says more.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(untagged)]
pub enum ShortOrLong<T> {
    Scalar(String),
    Mapping(T),
}

impl<T> Field<T> {
    pub fn good(self) -> Option<T> {
        match self {
            Self::Good(value) => Some(value),
            Self::Bad | Self::Missing => None,
        }
    }

    /// The value of a required key.
    pub fn required(self, path: &Path, report: &Report) -> Option<T> {
        if matches!(self, Self::Missing) {
            report.say(path, "is required");
        }
        self.good()
    }
}

impl<T: Default> Default for Field<T> {
    fn default() -> Self {
        Self::Good(T::default())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value<'a, T>(&'a Cell<bool>, PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Value<'_, T> {
            type Value = T;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a value")
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<T, D::Error> {
                self.0.set(true);
                T::deserialize(value)
            }
        }
        // A reader always comes to the visitor, and reports its error; serde's stand-in for an absent key never does.
        let present = Cell::new(false);
        Ok(match deserializer.deserialize_newtype_struct("Field", Value(&present, PhantomData)) {
            Ok(value) => Self::Good(value),
            Err(_) if present.get() => Self::Bad,
            Err(_) => Self::Missing,
        })
    }
}

impl<T: Serialize> Serialize for Field<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Good(value) => value.serialize(serializer),
            Self::Bad | Self::Missing => serializer.serialize_unit(),
        }
    }
}

impl<T: Serialize> Serialize for OneOrMany<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Scalar(value) => value.serialize(serializer),
            Self::List(list) => list.serialize(serializer),
        }
    }
}

impl<T: Serialize> Serialize for Table<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl<T: JsonSchema> JsonSchema for Field<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Table<T>;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a mapping")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Table<T>, M::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Table(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Table<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Table_of_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({ "type": "object", "additionalProperties": value, "minProperties": 1 })
    }
}
