//! The YAML text as a tree of nodes that remember their lines. PURE: text and an environment in, tree and problems out.
//! Scalars keep their raw text: whether `8080` is a number is asked later, by who knows what the key wants.
//! Surprise: `${VAR}` is replaced here, value by value, after the structure is fixed; such a value may serve as any type.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::env::{self, Env};
use super::problem::{Path, Problem, Step};
use super::scalar::{self, Scalar, Style};

/// A value of the YAML file.
#[derive(Debug, Clone)]
pub struct Node {
    /// Counted from 1. For the value of a key, the key's line.
    pub line: usize,
    pub kind: Kind,
}

#[derive(Debug, Clone)]
pub enum Kind {
    Scalar(Scalar),
    List(Vec<Node>),
    /// In the order of the file; no key twice.
    Mapping(Vec<(String, Node)>),
    /// A value that was reported already; whatever is built from it is wrong without another word.
    Reported,
}

/// An alias is a copy; this bound keeps a few lines of nested aliases from filling the memory.
const MAX_NODES: usize = 20_000;
const MAX_NESTING: usize = 64;

/// Reads one YAML document. Errors: the tree is absent if the text is no YAML; problems come with and without a tree.
pub fn parse(text: &str, env: Env) -> (Option<Node>, Vec<Problem>) {
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: MAX_NESTING,
        block_nesting_limit: MAX_NESTING,
    };
    let mut builder = Builder {
        parser: Parser::new_from_str_with_options(text, options),
        env,
        problems: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
    };
    match builder.document() {
        Ok(root) => (Some(root), builder.problems),
        Err(fatal) => {
            builder.problems.push(fatal);
            (None, builder.problems)
        }
    }
}

impl Node {
    /// The line of the value that `steps` lead to and the value; where it is absent, the line of its closest parent.
    pub fn find(&self, steps: &[Step]) -> (usize, Option<&Node>) {
        let mut node = self;
        for step in steps {
            let child = match (step, &node.kind) {
                (Step::Index(index), Kind::List(items)) => items.get(*index),
                (Step::Key(key), Kind::Mapping(entries)) => {
                    entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
                }
                _ => None,
            };
            match child {
                Some(child) => node = child,
                None => return (node.line, None),
            }
        }
        (node.line, Some(node))
    }

    /// Hides in a sentence about this value its secrets.
    pub fn mask(&self, sentence: String) -> String {
        match &self.kind {
            Kind::Scalar(scalar) => scalar.mask(sentence),
            _ => sentence,
        }
    }

    fn size(&self) -> usize {
        1 + match &self.kind {
            Kind::Scalar(_) | Kind::Reported => 0,
            Kind::List(items) => items.iter().map(Node::size).sum(),
            Kind::Mapping(entries) => entries.iter().map(|(_, value)| value.size()).sum(),
        }
    }
}

struct Builder<'text, 'env> {
    parser: Parser<'text, StrInput<'text>>,
    env: Env<'env>,
    problems: Vec<Problem>,
    /// Finished nodes by anchor id, for the aliases that follow.
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'text> Builder<'text, '_> {
    fn document(&mut self) -> Result<Node, Problem> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(problem(
                        &span,
                        &Path::default(),
                        "a second YAML document starts here; expected one",
                    ));
                }
                Event::DocumentStart(..) => {}
                Event::StreamEnd => break,
                event => root = Some(self.node(event, &span, &Path::default())?),
            }
        }
        Ok(match root {
            // A file of comments only: an empty mapping, which then lacks its required keys.
            None => Node { line: 1, kind: Kind::Mapping(Vec::new()) },
            Some(root) => Node { line: 1, ..root },
        })
    }

    fn next(&mut self) -> Result<(Event<'text>, Span), Problem> {
        match self.parser.next() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(no_yaml(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'text>, span: &Span, path: &Path) -> Result<Node, Problem> {
        if event.tag().is_some() {
            self.problems.push(problem(span, path, "YAML tags (`!...`) are not supported"));
        }
        let (anchor, kind) = match event {
            Event::Scalar(text, style, anchor, _) => (anchor, self.scalar(&text, style, span, path)),
            Event::SequenceStart(_, anchor, _) => (anchor, self.list(path)?),
            Event::MappingStart(_, anchor, _) => (anchor, self.mapping(path)?),
            Event::Alias(id) => (0, self.copy(id, span, path)?),
            _ => return Err(problem(span, path, "is not understood")),
        };
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(problem(span, path, format!("the file has more than {MAX_NODES} values")));
        }
        let node = Node { line: span.start.line(), kind };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn scalar(&mut self, raw: &str, style: ScalarStyle, span: &Span, path: &Path) -> Kind {
        match env::expand(raw, self.env) {
            Ok(expanded) => {
                let style = match style {
                    _ if expanded.changed => Style::Expanded,
                    ScalarStyle::Plain => Style::Plain,
                    _ => Style::Quoted,
                };
                let mut secrets = expanded.secrets;
                secrets.extend(scalar::credentials(&expanded.text).map(str::to_owned));
                Kind::Scalar(Scalar { text: expanded.text, style, secrets })
            }
            Err(sentences) => {
                self.problems.extend(sentences.into_iter().map(|sentence| problem(span, path, sentence)));
                Kind::Reported
            }
        }
    }

    fn list(&mut self, path: &Path) -> Result<Kind, Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Kind::List(items)),
                (event, span) => {
                    let item = self.node(event, &span, &path.index(items.len()))?;
                    items.push(item);
                }
            }
        }
    }

    fn mapping(&mut self, path: &Path) -> Result<Kind, Problem> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        loop {
            let key = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Kind::Mapping(entries)),
                (Event::Scalar(text, ..), span) => (text.into_owned(), span),
                (_, span) => return Err(problem(&span, path, "a key must be a plain word")),
            };
            let (key, key_span) = key;
            let path = path.key(&key);
            let (event, span) = self.next()?;
            let value = self.node(event, &span, &path)?;
            let line = key_span.start.line();
            match entries.iter().find(|(name, _)| *name == key) {
                Some((_, first)) => {
                    let sentence = format!("is there a second time (first at line {})", first.line);
                    self.problems.push(problem(&key_span, &path, sentence));
                }
                None => entries.push((key, Node { line, ..value })),
            }
        }
    }

    fn copy(&mut self, id: usize, span: &Span, path: &Path) -> Result<Kind, Problem> {
        let original = self.anchors.get(&id);
        let original =
            original.ok_or_else(|| problem(span, path, "the alias stands inside its own anchor"))?;
        self.nodes += original.size();
        Ok(original.kind.clone())
    }
}

fn problem(span: &Span, path: &Path, sentence: impl Into<String>) -> Problem {
    Problem { line: Some(span.start.line()), path: path.clone(), sentence: sentence.into() }
}

fn no_yaml(error: &ScanError) -> Problem {
    let column = error.marker().col() + 1;
    Problem {
        line: Some(error.marker().line()),
        path: Path::default(),
        sentence: format!("is no YAML: {} (column {column})", error.info()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn tree(text: &str) -> (Option<Node>, Vec<String>) {
        let env = |name: &str| (name == "VALUE").then(|| "a: [b, c] # d".to_owned());
        let (root, problems) = parse(text, &env);
        let lines =
            problems.iter().map(|p| format!("{}: {}: {}", p.line.unwrap(), p.path, p.sentence)).collect();
        (root, lines)
    }

    fn path(text: &str) -> Path {
        text.split('.').fold(Path::default(), |path, step| match step.parse() {
            Ok(index) => path.index(index),
            Err(_) => path.key(step),
        })
    }

    #[test]
    fn a_value_has_the_line_of_its_key_and_an_absent_one_that_of_its_parent() {
        let (root, problems) = tree("a: 1\nb:\n  - c:\n      d: 2\n  - e\n");
        let root = root.unwrap();
        assert_eq!(problems, [""; 0]);
        for (steps, line, present) in [
            ("a", 1, true),
            ("b", 2, true),
            ("b.0.c", 3, true),
            ("b.0.c.d", 4, true),
            ("b.1", 5, true),
            ("b.0.x", 3, false),
        ] {
            let (found, node) = root.find(path(steps).steps());
            assert_eq!((found, node.is_some()), (line, present), "{steps}");
        }
    }

    #[test]
    fn a_variable_never_changes_the_structure() {
        let (root, problems) = tree("${VALUE}: x # ${NONE}\nkey: ${VALUE}\n");
        assert_eq!(problems, [""; 0]);
        let root = root.unwrap();
        let Kind::Mapping(entries) = &root.kind else { panic!("{root:?}") };
        assert_eq!(entries[0].0, "${VALUE}");
        let Kind::Scalar(scalar) = &entries[1].1.kind else { panic!("{root:?}") };
        assert_eq!((scalar.text.as_str(), scalar.style), ("a: [b, c] # d", Style::Expanded));
        assert_eq!(entries[1].1.mask("found \"a: [b, c] # d\"".to_owned()), "found \"***\"");
    }

    #[test]
    fn repeated_keys_unset_variables_and_tags_are_all_found() {
        let (root, problems) = tree("a: 1\nb: {c: 1, c: 2}\na: ${NONE}\nd: !x 5\n");
        assert!(root.is_some());
        assert_eq!(
            problems,
            [
                "2: b.c: is there a second time (first at line 2)",
                "3: a: the environment variable `NONE` is not set",
                "3: a: is there a second time (first at line 1)",
                "4: d: YAML tags (`!...`) are not supported",
            ]
        );
    }

    #[test]
    fn what_is_no_yaml_or_not_one_document_gives_no_tree() {
        for (text, line) in
            [("a: [1,\nb: 2\n", 1), ("a: 1\n---\nb: 2\n", 2), ("a: *b\n", 1), ("a: &a [*a]\n", 1)]
        {
            let (root, problems) = parse(text, &|_| None);
            assert!(root.is_none(), "{text}");
            assert_eq!(problems.last().unwrap().line, Some(line), "{text}: {problems:?}");
        }
    }

    #[test]
    fn aliases_are_copies_and_bounded() {
        let (root, problems) = tree("a: &x {b: 1}\nc: *x\n");
        assert_eq!((root.unwrap().find(path("c.b").steps()).0, problems.len()), (1, 0));
        let mut bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
        for level in 1..9 {
            let copies = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{copies}]\n"));
        }
        let (root, problems) = tree(&bomb);
        assert!(root.is_none() && problems[0].contains("more than 20000 values"), "{problems:?}");
    }
}
