//! Runs the program.

use std::{path::Path, process::Command};

use serde_json::Value;

/// How it ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// `tidings replay` with these arguments, in `folder`.
pub(crate) fn replay(folder: &Path, arguments: &[&str]) -> Ended {
    ended(tidings(folder, arguments))
}

/// The same, with a standard output that nobody reads: as behind `| head` when that has ended.
pub(crate) fn replay_unread(folder: &Path, arguments: &[&str]) -> Ended {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = tidings(folder, arguments);
    command.stdout(writer);
    ended(command)
}

fn tidings(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    command.current_dir(folder).arg("replay").args(arguments);
    command
}

fn ended(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// The same, which must succeed.
pub(crate) fn replayed(folder: &Path, arguments: &[&str]) -> String {
    let ended = replay(folder, arguments);
    assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
    ended.out
}

/// Lines of JSON.
pub(crate) fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}
