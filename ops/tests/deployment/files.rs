//! Reading the deployment files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize as _;
use serde_yaml_ng::Value;

/// The checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// A file of the checkout.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The names of a folder's files with this ending.
pub(crate) fn names(folder: &str, ending: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(ending))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no {ending} in {folder}");
    names
}

/// All documents of a YAML file, with `<<` merged in.
pub(crate) fn yaml(path: &str) -> Vec<Value> {
    let text = read(path);
    serde_yaml_ng::Deserializer::from_str(&text)
        .map(|document| {
            let mut value = Value::deserialize(document).unwrap_or_else(|error| panic!("{path}: {error}"));
            value.apply_merge().unwrap_or_else(|error| panic!("{path}: {error}"));
            value
        })
        .collect()
}

/// The strings of a sequence.
pub(crate) fn strings(value: &Value) -> Vec<String> {
    let items = value.as_sequence().map(Vec::as_slice).unwrap_or_default();
    items.iter().map(|item| item.as_str().unwrap_or_else(|| panic!("not text: {item:?}")).to_owned()).collect()
}

/// The entries of a mapping, by name.
pub(crate) fn entries(value: &Value) -> Vec<(String, Value)> {
    let Some(mapping) = value.as_mapping() else { return Vec::new() };
    mapping.iter().map(|(name, value)| (name.as_str().unwrap_or_default().to_owned(), value.clone())).collect()
}
