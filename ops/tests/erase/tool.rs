//! Runs the program, and looks into files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::replay::Ended;

/// The program with these arguments, in `folder`, with nobody to ask.
pub(crate) fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Ended {
    let output = command(folder, arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// `tidings erase … --yes --json`, which must find nothing in the end.
pub(crate) fn erase(folder: &Path, whom: &str) -> Value {
    let ended = run(folder, &["erase", whom, "--data", "data", "--yes", "--json"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(report["is_clean"], true, "{report:#}");
    report
}

/// How many records or rows of a place held something before.
pub(crate) fn held(report: &Value, place: &str) -> u64 {
    let places = report["places"].as_array().unwrap();
    let found = places.iter().find(|of| of["place"] == place).unwrap_or_else(|| panic!("{place}: {report:#}"));
    found["held_before"].as_u64().unwrap()
}

/// Files below the folder in which the bytes stand.
pub(crate) fn files_with(folder: &Path, bytes: &str) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file()
                && fs::read(&path).unwrap().windows(bytes.len()).any(|window| window == bytes.as_bytes())
            {
                found.push(path);
            }
        }
    }
    found
}
