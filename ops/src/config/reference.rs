//! The reference configuration: every setting with its meaning and its default, made from the settings' own comments.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::Settings;

const WIDTH: usize = 100;
const HEADING: &str = "\
# Tidings: every setting, with its default. Uncomment what you change, and start with `tidings up --config FILE`.
# An environment variable is over the file (TIDINGS_EDGE__LISTEN is `listen` in [edge]), a flag over both
# (--set edge.listen=127.0.0.1:9000). Made by `tidings config`.
";

/// The whole text.
pub fn text() -> Result<String> {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    let schema = settings.into_generator().into_root_schema_for::<Settings>().to_value();
    let defaults = serde_json::to_value(Settings::default()).context("cannot encode the defaults")?;
    let mut out = HEADING.to_owned();
    section(&mut out, "", &schema, &defaults);
    Ok(out)
}

fn section(out: &mut String, path: &str, schema: &Value, defaults: &Value) {
    let empty = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    let is_section = |value: &Value| value["properties"].is_object() && value["type"] == "object";
    for (name, property) in properties.iter().filter(|(_, property)| !is_section(property)) {
        out.push('\n');
        comment(out, property["description"].as_str().unwrap_or_default());
        let line = match &defaults[name] {
            Value::Null => format!("# {name} = (not set)"),
            default => format!("# {name} = {}", toml(default)),
        };
        let _ = writeln!(out, "{line}");
    }
    for (name, property) in properties.iter().filter(|(_, property)| is_section(property)) {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        out.push('\n');
        comment(out, property["description"].as_str().unwrap_or_default());
        let _ = writeln!(out, "[{path}]");
        section(out, &path, property, &defaults[name]);
    }
}

fn comment(out: &mut String, text: &str) {
    for paragraph in text.split("\n\n") {
        let mut line = "#".to_owned();
        for word in paragraph.split_whitespace() {
            if line.len() + 1 + word.len() > WIDTH {
                let _ = writeln!(out, "{line}");
                "#".clone_into(&mut line);
            }
            line.push(' ');
            line.push_str(word);
        }
        let _ = writeln!(out, "{line}");
    }
}

fn toml(value: &Value) -> String {
    match value {
        Value::Array(values) => format!("[{}]", values.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Object(values) => {
            let fields: Vec<String> =
                values.iter().map(|(name, value)| format!("\"{name}\" = {}", toml(value))).collect();
            if fields.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", fields.join(", ")) }
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_explained_and_the_uncommented_reference_is_the_default() {
        let text = text().unwrap();
        let mut explained = false;
        let mut uncommented = String::new();
        for line in text.lines() {
            let setting = line.strip_prefix("# ").filter(|rest| {
                rest.split_once(" = ").is_some_and(|(name, _)| {
                    name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
                })
            });
            if let Some(setting) = setting {
                assert!(explained, "nothing explains {setting}");
                if !setting.ends_with("(not set)") {
                    uncommented.push_str(setting);
                    uncommented.push('\n');
                }
            } else if line.starts_with('[') {
                uncommented.push_str(line);
                uncommented.push('\n');
            }
            explained = line.starts_with("# ") && setting.is_none();
        }
        let read: Settings = toml::from_str(&uncommented).unwrap_or_else(|error| panic!("{error}\n{uncommented}"));
        assert_eq!(serde_json::to_value(read).unwrap(), serde_json::to_value(Settings::default()).unwrap());
    }
}
