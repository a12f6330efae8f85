//! Passwords of the stores: from a file or the environment, never from the settings, which are shown and kept.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

/// Why a password cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The file cannot be read.
    #[error("the password file {file} cannot be read: {error}")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file is empty.
    #[error("the password file {0} is empty")]
    Empty(PathBuf),
}

/// The password in the file, without the line break at its end; without a file, that in the environment.
///
/// # Errors
/// [`PasswordError`].
pub fn read(file: Option<&Path>, variable: &str) -> Result<Option<String>, PasswordError> {
    let Some(file) = file else {
        return Ok(env::var(variable).ok().filter(|password| !password.is_empty()));
    };
    let text = fs::read_to_string(file).map_err(|error| PasswordError::Unreadable { file: file.to_owned(), error })?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(PasswordError::Empty(file.to_owned()));
    }
    Ok(Some(password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_a_file_s_text_without_its_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), " pass word \r\n").unwrap();
        assert_eq!(read(Some(file.path()), "NONE").unwrap().as_deref(), Some(" pass word "));
        fs::write(file.path(), "\n").unwrap();
        assert!(matches!(read(Some(file.path()), "NONE"), Err(PasswordError::Empty(_))));
        assert!(matches!(read(Some(Path::new("/no/such/file")), "NONE"), Err(PasswordError::Unreadable { .. })));
        assert_eq!(read(None, "TIDINGS_TEST_NO_SUCH_VARIABLE").unwrap(), None);
    }
}
