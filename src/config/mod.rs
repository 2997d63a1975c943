//! The configuration: one YAML file in, settings that cannot be wrong out, or every problem at once with line and path.
//!
//! ```text
//! text ─ node ─▶ tree ─ read ─▶ file (the shape) ─ check ─▶ settings
//!         │ env            │                          │ asks machine
//!         └────────────────┴────── problems ◀─────────┘
//! ```
//!
//! Surprise: a mistake stops nothing. A bad value is reported where it is found and left out of what follows.

mod check;
mod env;
mod field;
mod file;
mod machine;
mod node;
mod problem;
mod read;
mod scalar;
pub mod settings;
mod shown;
pub mod sockets;
mod unit;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::material::reason;
pub use env::Env;
use machine::{Dates, ThisMachine};
pub use problem::{Problem, Problems};
use settings::Settings;

/// Reads, parses and checks a file with this process's environment. Errors: every problem of the file.
pub fn load(path: &Path) -> Result<Settings, Problems> {
    let name = path.display().to_string();
    let bytes = fs::read(path)
        .map_err(|error| Problems::of_file(&name, format!("cannot be read: {}", reason(&error))))?;
    let text = String::from_utf8(bytes).map_err(|_| Problems::of_file(&name, "is not UTF-8".to_owned()))?;
    load_text(&name, &text, &|variable| std::env::var(variable).ok())
}

/// The same for a text that was read before, so that several processes see one version of the file.
/// `file_name` is only for the problems; certificates and folders are looked up on this machine.
pub fn load_text(file_name: &str, text: &str, env: Env) -> Result<Settings, Problems> {
    examine(file_name, text, env).0
}

/// The same, with every file beside the text that the outcome rests on, whether it was found right or wrong.
pub fn examine(file_name: &str, text: &str, env: Env) -> (Result<Settings, Problems>, BTreeSet<PathBuf>) {
    let machine = ThisMachine::new(Dates::Count);
    let settings = load_on(&machine, file_name, text, env);
    (settings, machine.files())
}

/// The same for a text that passed before, whenever that was. A certificate may have expired since then, and a worker that takes the
/// place of one that died is better off with it than not at all.
pub fn load_text_again(file_name: &str, text: &str, env: Env) -> Result<Settings, Problems> {
    load_on(&ThisMachine::new(Dates::Ignored), file_name, text, env)
}

fn load_on(machine: &ThisMachine, file_name: &str, text: &str, env: Env) -> Result<Settings, Problems> {
    let (tree, mut problems) = node::parse(text, env);
    let Some(tree) = tree else { return Err(Problems::new(file_name, problems)) };
    let report = problem::Report::new(&tree);
    let settings = read::read(&tree, &report).good().and_then(|file| check::check(file, machine, &report));
    problems.extend(report.into_list());
    match settings {
        Some(settings) if problems.is_empty() => Ok(settings),
        _ => Err(Problems::new(file_name, problems)),
    }
}

/// The whole configuration that a text stands for, its defaults included, as may be shown: variables by their names, passwords masked.
pub fn shown(text: &str) -> serde_json::Value {
    let (tree, _) = node::parse(text, &|name| Some(format!("${{{name}}}")));
    shown::shown(&schema(), tree.as_ref())
}

/// A time as the file writes it (`5s`), for the command line.
///
/// # Errors
/// A sentence for the user.
pub fn time(text: &str) -> Result<Duration, String> {
    unit::Time::parse(text).map(|time| time.0)
}

/// JSON Schema (draft 2020-12) of the file, made from its shape: keys, types, defaults and documentation.
pub fn schema() -> serde_json::Value {
    let settings =
        schemars::generate::SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<file::File>().to_value()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SMALLEST: &str = include_str!("../../conf/outrigger.yaml");

    proptest! {
        /// Whatever is typed into a file, it is taken or refused with a reason; never a panic, never an empty refusal.
        #[test]
        fn a_refusal_always_has_a_reason(
            from in 0..SMALLEST.len(),
            length in 0..12_usize,
            typed in "[a-z0-9 \n:,{}$#&*!|>'\"~.-]{0,8}|\\PC{0,4}|\\[|\\]",
        ) {
            let to = (from + length).min(SMALLEST.len());
            let text = format!("{}{typed}{}", &SMALLEST[..from], &SMALLEST[to..]);
            if let Err(problems) = load_text("o.yaml", &text, &|_| None) {
                prop_assert!(!problems.list.is_empty(), "{text}");
            }
        }
    }
}
