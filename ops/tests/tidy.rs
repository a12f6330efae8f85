//! What ARCHITECTURE.md promises about the code, as tests instead of rules that nobody checks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Lines that a source file may have before its unit tests. A file is one idea.
const CODE_LINES_MAX: usize = 500;

/// Which of our crates a crate may use. Arrows point one way.
const ARROWS: [(&str, &[&str]); 6] = [
    ("schemas", &[]),
    ("ingest", &["schemas"]),
    ("dataflow", &["schemas", "ingest"]),
    ("edge", &["schemas", "ingest"]),
    ("replay", &["schemas", "ingest", "dataflow"]),
    ("ops", &["schemas", "ingest", "dataflow", "edge", "replay"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("ops/ is in the root").to_path_buf()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files below the root with one of these endings, without what is generated or fetched.
fn files(endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the checkout").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", "node_modules", "dist", ".git", "screenshots", "data"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no {endings:?} at all: is the root right?");
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn the_top_level_is_the_architecture() {
    let expected = [
        ".ci",
        ".git",
        ".gitignore",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "clippy.toml",
        "dataflow",
        "docs",
        "edge",
        "ingest",
        "ops",
        "replay",
        "rustfmt.toml",
        "schemas",
        "target",
    ];
    let ignored = ["data"];
    let found: BTreeSet<String> = fs::read_dir(root())
        .expect("the root")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !ignored.contains(&name.as_str()))
        .collect();
    let unknown: Vec<String> = found.into_iter().filter(|name| !expected.contains(&name.as_str())).collect();
    assert_none("not part of the top level", &unknown);
}

#[test]
fn arrows_between_crates_point_one_way() {
    let mut wrong = Vec::new();
    for (name, allowed) in ARROWS {
        let manifest = read(&root().join(name).join("Cargo.toml"));
        let mut section = String::new();
        for line in manifest.lines().map(str::trim) {
            if line.starts_with('[') {
                section = line.to_owned();
            }
            let Some(used) = line.strip_prefix("tidings-").and_then(|rest| rest.split(['.', ' ', '=']).next()) else {
                continue;
            };
            // A crate's tests may look at more than the crate may.
            if section == "[dependencies]" && !allowed.contains(&used) {
                wrong.push(format!("{name} uses {used}"));
            }
        }
    }
    assert_none("arrows that the architecture does not have", &wrong);
}

#[test]
fn files_stay_small() {
    let mut long = Vec::new();
    for path in files(&[".rs", ".ts", ".tsx", ".proto"]) {
        let text = read(&path);
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        if lines > CODE_LINES_MAX {
            long.push(format!("{} has {lines} lines", shown(&path)));
        }
    }
    assert_none(&format!("files of over {CODE_LINES_MAX} lines"), &long);
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<String> =
        files(&[".rs"]).iter().filter(|path| !read(path).starts_with("//! ")).map(|path| shown(path)).collect();
    assert_none("Rust files that do not begin with what they are for", &silent);
}

#[test]
fn no_clock_or_randomness_but_the_injected() {
    // `std`'s `Instant::now` is banned by clippy.toml, which can tell it from tokio's.
    let banned = ["SystemTime::now(", "rand::rng(", "thread_rng(", "rand::random("];
    let mut found = Vec::new();
    for path in files(&[".rs"]) {
        let name = shown(&path);
        let library = ["schemas/src", "ingest/src", "dataflow/src", "edge/src", "replay/src"]
            .iter()
            .any(|folder| name.starts_with(folder));
        if !library || name == "schemas/src/clock.rs" {
            continue;
        }
        let text = read(&path);
        for banned in banned.iter().filter(|banned| text.contains(**banned)) {
            found.push(format!("{name}: {banned}…)"));
        }
    }
    assert_none("direct use of a clock or of randomness (take a `Clock` or an `Entropy`)", &found);
}

#[test]
fn nothing_is_left_for_later_and_no_test_waits_on_a_clock() {
    // Put together, so that this file does not find itself.
    let banned = [
        ["todo", "!("].concat(),
        ["unimplemented", "!("].concat(),
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["#[ig", "nore"].concat(),
        ["dbg", "!("].concat(),
    ];
    let mut found = Vec::new();
    for path in files(&[".rs", ".ts", ".tsx", ".sh", ".sql", ".proto"]) {
        let (name, text) = (shown(&path), read(&path));
        for (number, line) in text.lines().enumerate() {
            // A test of a suite of its own says which.
            let has_a_suite = line.contains("ignore = \"needs ") && line.contains(": ./ops/test ");
            for banned in banned.iter().filter(|banned| line.contains(banned.as_str()) && !has_a_suite) {
                found.push(format!("{name}:{}: {banned}", number + 1));
            }
        }
        // How long a fault lasts is what that one is about.
        let is_test = name.contains("/tests/") && name.ends_with(".rs") && !name.starts_with("ops/tests/faults/");
        if is_test && text.contains(["thread::sl", "eep("].concat().as_str()) {
            found.push(format!("{name}: a test that sleeps"));
        }
    }
    assert_none("left for later", &found);
}

/// An error's text holds all there is to say, its cause included, so that a log line with the error alone is whole. Such
/// a cause is a field `error`: were it `source()` as well, a chain of causes would tell it twice.
#[test]
fn a_cause_is_told_once() {
    let mut found = Vec::new();
    for path in files(&[".rs"]) {
        let (name, text) = (shown(&path), read(&path));
        let mut shows_first_field = false;
        for (number, line) in text.lines().enumerate() {
            let of_error = line.trim_start().starts_with("#[error(");
            if of_error && line.contains(["{sou", "rce}"].concat().as_str()) {
                found.push(format!("{name}:{}: its source() would be told twice", number + 1));
            }
            let is_source = line.contains("(#[from]") || line.contains("(#[source]");
            if shows_first_field && is_source {
                found.push(format!("{name}:{}: its source() is in the text, too", number + 1));
            }
            shows_first_field = if of_error { line.contains("{0") } else { shows_first_field && !is_source };
        }
    }
    assert_none("causes that a chain tells twice", &found);
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for path in files(&[".md"]) {
        let folder = path.parent().expect("a file is in a folder");
        for target in read(&path).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") && !folder.join(file).exists() {
                broken.push(format!("{}: {target}", shown(&path)));
            }
        }
    }
    assert_none("broken links", &broken);
}

#[test]
fn dependencies_are_named_once() {
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, _) in ARROWS {
        for line in read(&root().join(name).join("Cargo.toml")).lines() {
            let direct = line.contains("= \"") || line.contains("version = ");
            let own = ["name =", "description =", "path =", "required-features", "harness", "default ="];
            if direct && line.contains(char::is_numeric) && !own.iter().any(|own| line.trim().starts_with(own)) {
                versions.entry(name.to_owned()).or_default().push(line.trim().to_owned());
            }
        }
    }
    let found: Vec<String> = versions.into_iter().map(|(name, lines)| format!("{name}: {lines:?}")).collect();
    assert_none("versions outside of [workspace.dependencies]", &found);
}
