//! What can be said against a configuration: problems, each with its line and its YAML path.
//! The parser, the reader and the check all say theirs to one [`Report`], so that a user sees every problem at once.
//! Surprise: the report knows the YAML tree, because it finds the line of a path and masks what must not be printed.

use std::cell::RefCell;
use std::fmt;

use super::node::Node;
use super::scalar;

/// Everything that is wrong with one file, in the order of its lines. Displays as one `FILE:LINE: PATH: sentence` a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    pub file: String,
    pub list: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Counted from 1; `None` if the file as a whole is meant.
    pub line: Option<usize>,
    pub path: Path,
    /// Goes on where the path ends: `listeners[0].scope` + `expected true or false, found "maybe"`.
    pub sentence: String,
}

/// Where in the YAML a value stands (`listeners[1].tls.cert`); empty for the whole document.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(Vec<Step>);

/// One step down into the YAML tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Index(usize),
    Key(String),
}

/// Collects problems while a tree is read and checked.
pub struct Report<'tree> {
    tree: &'tree Node,
    list: RefCell<Vec<Problem>>,
}

impl<'tree> Report<'tree> {
    pub fn new(tree: &'tree Node) -> Self {
        Self { tree, list: RefCell::default() }
    }

    /// Notes a problem. Its line is that of the value, or of its closest parent where the value is absent.
    pub fn say(&self, path: &Path, sentence: impl Into<String>) {
        let (line, value) = self.tree.find(path.steps());
        let sentence = sentence.into();
        let sentence = match value {
            Some(node) => node.mask(sentence),
            None => sentence,
        };
        self.list.borrow_mut().push(Problem { line: Some(line), path: path.clone(), sentence });
    }

    pub fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    pub fn into_list(self) -> Vec<Problem> {
        self.list.into_inner()
    }
}

impl Problems {
    pub fn new(file: &str, mut list: Vec<Problem>) -> Self {
        list.sort();
        list.dedup();
        Self { file: file.to_owned(), list }
    }

    /// The file as a whole: it cannot be read.
    pub fn of_file(file: &str, sentence: String) -> Self {
        Self::new(file, vec![Problem { line: None, path: Path::default(), sentence }])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.list.iter().enumerate() {
            if position > 0 {
                out.write_str("\n")?;
            }
            out.write_str(&self.file)?;
            if let Some(line) = problem.line {
                write!(out, ":{line}")?;
            }
            if !problem.path.0.is_empty() {
                write!(out, ": {}", problem.path)?;
            }
            write!(out, ": {}", problem.sentence)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl Path {
    pub fn key(&self, key: &str) -> Self {
        self.then(Step::Key(key.to_owned()))
    }

    pub fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    fn then(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(out, "[{index}]")?,
                Step::Key(key) => {
                    let dot = if position > 0 { "." } else { "" };
                    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
                    if !key.is_empty() && key.bytes().all(plain) {
                        write!(out, "{dot}{key}")?;
                    } else {
                        // A key is no place for a URL, but a mistake may put one there.
                        let shown = scalar::credentials(key).map_or(key.as_str(), |_| "***");
                        write!(out, "{dot}{shown:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_in_the_documentation() {
        let path = Path::default().key("listeners").index(1).key("tls").key("cert");
        assert_eq!(path.to_string(), "listeners[1].tls.cert");
        assert_eq!(Path::default().key("upstreams").key("a.b").to_string(), "upstreams.\"a.b\"");
        assert_eq!(Path::default().key("redis://a:b@c").to_string(), "\"***\"");
    }

    #[test]
    fn problems_come_in_the_order_of_the_file_and_each_once() {
        let at = |line, key: &str| Problem {
            line: Some(line),
            path: Path::default().key(key),
            sentence: "is wrong".to_owned(),
        };
        let problems = Problems::new("o.yaml", vec![at(9, "b"), at(2, "z"), at(9, "a"), at(2, "z")]);
        assert_eq!(
            problems.to_string(),
            "o.yaml:2: z: is wrong\no.yaml:9: a: is wrong\no.yaml:9: b: is wrong"
        );
        assert_eq!(
            Problems::of_file("o.yaml", "cannot be read".to_owned()).to_string(),
            "o.yaml: cannot be read"
        );
    }
}
