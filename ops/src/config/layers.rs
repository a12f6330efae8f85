//! Settings from three layers, each over the one before: a file, the environment, and flags.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

/// What environment variables begin with: `TIDINGS_EDGE__LISTEN` is `listen` in `[edge]`.
pub const ENVIRONMENT_PREFIX: &str = "TIDINGS_";

/// Reads the file (if one is named), then lays the environment and the `section.key=value` flags over it.
pub fn read(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &[String],
) -> Result<Table> {
    let mut settings = match file {
        Some(path) => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
            text.parse::<Table>().with_context(|| format!("{} is not valid TOML", path.display()))?
        }
        None => Table::new(),
    };
    for (name, value) in environment {
        let Some(name) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
        // Others, such as TIDINGS_PASSWORD, are no settings.
        if !name.contains("__") {
            continue;
        }
        set(&mut settings, &name.to_lowercase().replace("__", "."), &value)
            .with_context(|| format!("environment variable {ENVIRONMENT_PREFIX}{name}"))?;
    }
    for flag in flags {
        let Some((name, value)) = flag.split_once('=').filter(|(name, _)| name.contains('.')) else {
            bail!("--set {flag} is not of the form section.key=value (hint: --set edge.listen=127.0.0.1:9000)");
        };
        set(&mut settings, name, value).with_context(|| format!("--set {flag}"))?;
    }
    Ok(settings)
}

/// Sets `section.key`, or `section.section.key`.
fn set(settings: &mut Table, name: &str, text: &str) -> Result<()> {
    let (sections, key) = name.rsplit_once('.').context("a setting is in a section")?;
    let mut table = settings;
    for section in sections.split('.') {
        table = table
            .entry(section)
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut()
            .with_context(|| format!("{section} is not a section"))?;
    }
    table.insert(key.to_owned(), value(text));
    Ok(())
}

/// A value as TOML reads it; what TOML doesn't know is text, so that a name needs no quotes.
fn value(text: &str) -> Value {
    format!("value = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_over_the_environment_and_that_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tidings.toml");
        fs::write(&path, "[edge]\nlisten = \"a\"\nping_interval_ms = 1\nconnections_max = 5\n").unwrap();
        let environment = [
            ("TIDINGS_EDGE__PING_INTERVAL_MS".to_owned(), "2".to_owned()),
            ("TIDINGS_EDGE__CONNECTIONS_MAX".to_owned(), "6".to_owned()),
            ("TIDINGS_PASSWORD".to_owned(), "secret".to_owned()),
            ("HOME".to_owned(), "/".to_owned()),
        ];
        let flags = ["edge.connections_max=7", "log.name=two words", "log.inner.deep=1"].map(str::to_owned);
        let settings = read(Some(&path), environment.into_iter(), &flags).unwrap();
        let edge = settings["edge"].as_table().unwrap();
        assert_eq!(edge["listen"].as_str(), Some("a"));
        assert_eq!(edge["ping_interval_ms"].as_integer(), Some(2));
        assert_eq!(edge["connections_max"].as_integer(), Some(7));
        assert_eq!(settings["log"]["name"].as_str(), Some("two words"));
        assert_eq!(settings["log"]["inner"]["deep"].as_integer(), Some(1));
        assert_eq!(settings.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = read(None, std::iter::empty(), &["listen=1".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("hint"), "{error}");
        assert!(read(Some(Path::new("/no/such/file")), std::iter::empty(), &[]).is_err());
    }
}
