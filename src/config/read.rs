//! Reads a tree of nodes into the shape of `file`: a serde deserializer that goes on after a mistake. PURE.
//! Unknown keys are reported and skipped, a wrong value makes its own [`Field`] bad and nothing around it.
//! Surprise: errors climb no further than the closest `Field`; there they are reported, and serde sees a success.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, VariantAccess, Visitor};

use super::field::Field;
use super::node::{Kind, Node};
use super::problem::{Path, Report};
use super::scalar::Scalar;

/// Reads `root` into a shape. Everything that is wrong with it goes to `report`.
pub fn read<'tree, T: Deserialize<'tree>>(root: &'tree Node, report: &Report<'tree>) -> Field<T> {
    let root = Reader { node: root, path: Path::default(), report };
    Field::deserialize(root).unwrap_or(Field::Bad)
}

/// One node with its place, as serde wants to see it.
struct Reader<'tree, 'report> {
    node: &'tree Node,
    path: Path,
    report: &'report Report<'tree>,
}

/// Why a value could not be made.
#[derive(Debug)]
enum Refusal {
    Sentence(String),
    Reported,
}

impl<'tree> Reader<'tree, '_> {
    fn expected<T>(&self, expected: &dyn fmt::Display) -> Result<T, Refusal> {
        let found = match &self.node.kind {
            Kind::Reported => return Err(Refusal::Reported),
            Kind::List(_) => "a list".to_owned(),
            Kind::Mapping(_) => "a mapping".to_owned(),
            Kind::Scalar(scalar) if scalar.is_null() => "nothing".to_owned(),
            Kind::Scalar(scalar) if scalar.as_text().is_none() => scalar.text.clone(),
            Kind::Scalar(scalar) => format!("{:?}", scalar.text),
        };
        Err(Refusal::Sentence(format!("expected {expected}, found {found}")))
    }

    fn scalar(&self) -> Option<&'tree Scalar> {
        match &self.node.kind {
            Kind::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    fn child(&self, key: &str, node: &'tree Node) -> Self {
        Reader { node, path: self.path.key(key), report: self.report }
    }

    /// Reports a key that is none of `known`; gives the one that was probably meant.
    fn unknown_key(&self, key: &str, known: &'static [&'static str]) -> Option<&'static str> {
        let closest = known.iter().map(|name| (distance(key, name), *name)).min();
        let meant = closest.filter(|(edits, _)| *edits <= 1 + key.len() / 4).map(|(_, name)| name);
        let sentence = match meant {
            Some(name) => format!("unknown key; did you mean `{name}`?"),
            None => format!("unknown key; known here: {}", known.join(", ")),
        };
        self.report.say(&self.path.key(key), sentence);
        meant
    }
}

/// Stands for the value of a misspelt key under the right one, so that nobody calls that one missing as well.
static MISSPELT: Node = Node { line: 1, kind: Kind::Reported };

impl<'tree, 'report> Deserializer<'tree> for Reader<'tree, 'report> {
    type Error = Refusal;

    fn deserialize_any<V: Visitor<'tree>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match &self.node.kind {
            Kind::List(_) => self.deserialize_seq(visitor),
            Kind::Mapping(_) => self.deserialize_map(visitor),
            _ => self.deserialize_str(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'tree>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.scalar().and_then(Scalar::as_bare) {
            Some("true") => visitor.visit_bool(true),
            Some("false") => visitor.visit_bool(false),
            _ => self.expected(&"true or false"),
        }
    }

    fn deserialize_u64<V: Visitor<'tree>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let number = self
            .scalar()
            .and_then(Scalar::as_bare)
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        match number.and_then(|text| text.parse().ok()) {
            Some(number) => visitor.visit_u64(number),
            None => self.expected(&"a whole number"),
        }
    }

    fn deserialize_str<V: Visitor<'tree>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.scalar().and_then(Scalar::as_text) {
            Some(text) => visitor.visit_str(text),
            None => self.expected(&(&visitor as &dyn de::Expected)),
        }
    }

    fn deserialize_string<V: Visitor<'tree>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'tree>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match &self.node.kind {
            Kind::Scalar(scalar) if scalar.is_null() => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'tree>>(
        self,
        _: &'static str,
        field: V,
    ) -> Result<V::Value, Refusal> {
        let (path, report) = (self.path.clone(), self.report);
        field.visit_newtype_struct(self).map_err(|refusal| {
            if let Refusal::Sentence(sentence) = refusal {
                report.say(&path, sentence);
            }
            Refusal::Reported
        })
    }

    fn deserialize_seq<V: Visitor<'tree>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let Kind::List(items) = &self.node.kind else { return self.expected(&"a list") };
        let readers = items.iter().enumerate().map(|(index, node)| Reader {
            node,
            path: self.path.index(index),
            report: self.report,
        });
        visitor.visit_seq(de::value::SeqDeserializer::new(readers))
    }

    fn deserialize_map<V: Visitor<'tree>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let Kind::Mapping(entries) = &self.node.kind else { return self.expected(&"a mapping") };
        let readers = entries.iter().map(|(key, node)| (key.as_str(), self.child(key, node)));
        visitor.visit_map(de::value::MapDeserializer::new(readers))
    }

    fn deserialize_struct<V: Visitor<'tree>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        let Kind::Mapping(entries) = &self.node.kind else { return self.expected(&"a mapping") };
        let mut known: Vec<(&'static str, Reader)> = Vec::new();
        let mut meant: Vec<&'static str> = Vec::new();
        for (key, node) in entries {
            match fields.iter().find(|name| *name == key) {
                Some(name) => known.push((name, self.child(name, node))),
                None => meant.extend(self.unknown_key(key, fields)),
            }
        }
        for name in meant {
            if known.iter().all(|(other, _)| *other != name) {
                known.push((name, self.child(name, &MISSPELT)));
            }
        }
        visitor.visit_map(de::value::MapDeserializer::new(known.into_iter()))
    }

    /// Two kinds of enum: with variants named after kinds of node, chosen by the node; all others, chosen by the text.
    fn deserialize_enum<V: Visitor<'tree>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        if let ["scalar", other] = variants {
            let kind = match &self.node.kind {
                Kind::Scalar(scalar) if !scalar.is_null() => "scalar",
                Kind::List(_) => "list",
                Kind::Mapping(_) => "mapping",
                _ => "nothing",
            };
            return match variants.iter().find(|variant| **variant == kind) {
                Some(variant) => visitor.visit_enum(ByKind { variant, value: self }),
                None => self.expected(&format_args!("a string or a {other}")),
            };
        }
        // A variant may look like a number: TLS 1.3.
        let number = |scalar: &'tree Scalar| scalar.as_bare().filter(|text| variants.contains(text));
        match self.scalar().and_then(|scalar| scalar.as_text().or_else(|| number(scalar))) {
            Some(text) => visitor.visit_enum(de::value::StrDeserializer::new(text)),
            None => self.expected(&one_of(variants)),
        }
    }

    serde::forward_to_deserialize_any! {
        <V: Visitor<'tree>>
        i8 i16 i32 i64 u8 u16 u32 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
        identifier ignored_any
    }
}

impl<'tree, 'report> IntoDeserializer<'tree, Refusal> for Reader<'tree, 'report> {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

/// The value of an enum whose variant follows from the kind of its node.
struct ByKind<'tree, 'report> {
    variant: &'static str,
    value: Reader<'tree, 'report>,
}

impl<'tree, 'report> EnumAccess<'tree> for ByKind<'tree, 'report> {
    type Error = Refusal;
    type Variant = Reader<'tree, 'report>;
    fn variant_seed<V: DeserializeSeed<'tree>>(self, seed: V) -> Result<(V::Value, Self::Variant), Refusal> {
        let variant: de::value::StrDeserializer<Refusal> = self.variant.into_deserializer();
        Ok((seed.deserialize(variant)?, self.value))
    }
}

impl<'tree> VariantAccess<'tree> for Reader<'tree, '_> {
    type Error = Refusal;
    fn unit_variant(self) -> Result<(), Refusal> {
        self.expected(&"no value")
    }
    fn newtype_variant_seed<T: DeserializeSeed<'tree>>(self, seed: T) -> Result<T::Value, Refusal> {
        seed.deserialize(self)
    }
    fn tuple_variant<V: Visitor<'tree>>(self, _: usize, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_seq(visitor)
    }
    fn struct_variant<V: Visitor<'tree>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.deserialize_struct("", fields, visitor)
    }
}

impl de::Error for Refusal {
    fn custom<T: fmt::Display>(sentence: T) -> Self {
        Self::Sentence(sentence.to_string())
    }
    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::Sentence(format!("expected {}, found {variant:?}", one_of(expected)))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sentence(sentence) => out.write_str(sentence),
            Self::Reported => out.write_str("reported"),
        }
    }
}

impl std::error::Error for Refusal {}

fn one_of(names: &[&str]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [only] => only.to_string(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// Edits (insert, delete, replace one character) from one word to the other: Levenshtein.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::super::field::{OneOrMany, ShortOrLong, Table};
    use super::super::unit::Count;
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Shape {
        needed: Field<String>,
        #[serde(default)]
        number: Field<Option<Count>>,
        #[serde(default = "nothing")]
        switch: Field<bool>,
        #[serde(default = "nothing")]
        one: Field<OneOrMany<String>>,
        #[serde(default = "nothing")]
        short: Field<ShortOrLong<Vec<Field<bool>>>>,
        #[serde(default = "nothing")]
        table: Field<Table<Count>>,
    }

    fn nothing<T>() -> Field<T> {
        Field::Missing
    }

    fn shape(text: &str) -> (Shape, Vec<String>) {
        let (tree, problems) =
            super::super::node::parse(text, &|name| (name == "TEN").then(|| "10".to_owned()));
        let tree = tree.unwrap();
        assert_eq!(problems, []);
        let report = Report::new(&tree);
        let shape = read::<Shape>(&tree, &report).good().unwrap();
        (shape, report.into_list().into_iter().map(|p| format!("{}: {}", p.path, p.sentence)).collect())
    }

    #[test]
    fn a_bad_value_leaves_its_neighbours_readable() {
        let (shape, problems) =
            shape("needed: 5\nswitch: yes\nnumber: 0\none: [a, 1, b]\ntable: {x: 1, y: no}\n");
        assert_eq!((shape.needed, shape.switch, shape.number), (Field::Bad, Field::Bad, Field::Bad));
        let good = |text: &str| Field::Good(text.to_owned());
        assert_eq!(shape.one, Field::Good(OneOrMany::List(vec![good("a"), Field::Bad, good("b")])));
        let entries = vec![("x".to_owned(), Field::Good(Count(1))), ("y".to_owned(), Field::Bad)];
        assert_eq!(shape.table, Field::Good(Table(entries)));
        assert_eq!(
            problems,
            [
                "needed: expected a string, found 5",
                "switch: expected true or false, found \"yes\"",
                "number: must be at least 1",
                "one[1]: expected a string, found 1",
                "table.y: expected a whole number, found \"no\"",
            ]
        );
    }

    #[test]
    fn an_absent_key_is_missing_and_a_misspelt_one_is_bad() {
        assert_eq!(shape("switch: true\n").0.needed, Field::Missing);
        let (shape, problems) = shape("neded: x\ncompletely: different\n");
        assert_eq!(shape.needed, Field::Bad);
        assert_eq!(
            problems,
            [
                "neded: unknown key; did you mean `needed`?",
                "completely: unknown key; known here: needed, number, switch, one, short, table",
            ]
        );
    }

    #[test]
    fn quotes_and_variables_decide_what_a_scalar_may_be() {
        for (text, number, complaints) in [
            ("{needed: x, number: 10}", Field::Good(Some(Count(10))), 0),
            ("{needed: x, number: \"10\"}", Field::Bad, 1),
            ("{needed: x, number: \"${TEN}\"}", Field::Good(Some(Count(10))), 0),
            ("{needed: \"${TEN}\", number: null}", Field::Good(None), 0),
        ] {
            let (shape, problems) = shape(text);
            assert_eq!((shape.number, problems.len()), (number, complaints), "{text}: {problems:?}");
        }
        let (_, problems) = shape("{needed: x, switch: \"${TEN}\"}");
        assert_eq!(problems, ["switch: expected true or false, found \"***\""]);
    }

    #[test]
    fn the_kind_of_a_node_chooses_between_two_forms() {
        let (shape, problems) = shape("{needed: x, one: a, short: b}");
        assert_eq!(shape.one, Field::Good(OneOrMany::Scalar("a".to_owned())));
        assert_eq!(shape.short, Field::Good(ShortOrLong::Scalar("b".to_owned())));
        assert_eq!(problems, [""; 0]);
        assert_eq!(
            self::shape("{needed: x, one: {}, short: null}").1,
            [
                "one: expected a string or a list, found a mapping",
                "short: expected a string or a mapping, found nothing",
            ]
        );
    }
}
