//! The keys that our own tokens are signed with: HMAC-SHA-256 with a secret of 256 bits. Only edges give tokens and only
//! edges check them, so a key pair would keep nobody out and would make each check some thirty times as slow.
//!
//! The file holds a list. The first key signs, all of them check: to change keys, put a new one in front, restart, and
//! take the old one out when its tokens have ended.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, EncodingKey};
use serde::{Deserialize, Serialize};
use tidings_schemas::clock::{Clock, Entropy};

/// The place of the file in the data folder.
pub const DEFAULT_FILE: &str = "keys/tokens.json";

/// The least bytes of a secret: as many as the hash has (RFC 7518, 3.2).
const SECRET_BYTES_MIN: usize = 32;

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read or made.
    #[error("cannot {action} the key file {}: {error}", file.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It holds something else.
    #[error("the key file {} cannot be used: {what}", file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
    /// Others on the machine can read a secret.
    #[error("the key file {} is open to other users (mode {mode:o}): run chmod 600 on it", file.display())]
    OpenToOthers {
        /// The file.
        file: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A setting is wrong.
    #[error("the setting {name} is wrong: {what}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What is wrong with it.
        what: String,
    },
}

/// The file.
#[derive(Serialize, Deserialize)]
struct KeysFile {
    keys: Vec<KeyRecord>,
}

/// One key of the file.
#[derive(Serialize, Deserialize)]
struct KeyRecord {
    kid: String,
    /// Base64 (URL, no padding).
    secret: String,
    created_at_ms: i64,
}

/// A key, ready to use.
pub struct SigningKey {
    /// Its name in a token's head.
    pub kid: String,
    /// For signing.
    pub encoding: EncodingKey,
    /// For checking.
    pub decoding: DecodingKey,
}

/// The keys. There is at least one.
pub struct SigningKeys {
    newest: SigningKey,
    older: Vec<SigningKey>,
}

impl SigningKeys {
    /// Reads the file, or makes it with one new key.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn open(file: &Path, clock: &dyn Clock, entropy: &dyn Entropy) -> Result<Self, KeysError> {
        if !file.exists() {
            create(file, clock, entropy)?;
        }
        let text = read_secret_file(file)?;
        let content = |what: String| KeysError::Content { file: file.to_owned(), what };
        let parsed: KeysFile = serde_json::from_slice(&text)
            .map_err(|error| content(format!("{error} (to make new keys, delete it: everybody must sign in again)")))?;
        let mut keys = Vec::with_capacity(parsed.keys.len());
        for record in parsed.keys {
            let secret = URL_SAFE_NO_PAD.decode(&record.secret).unwrap_or_default();
            if secret.len() < SECRET_BYTES_MIN || record.kid.is_empty() {
                let kid = record.kid;
                return Err(content(format!(
                    "the key '{kid}' has no kid or less than {SECRET_BYTES_MIN} bytes of base64url"
                )));
            }
            keys.push(SigningKey {
                kid: record.kid,
                encoding: EncodingKey::from_secret(&secret),
                decoding: DecodingKey::from_secret(&secret),
            });
        }
        if keys.is_empty() {
            return Err(content("it holds no key".to_owned()));
        }
        let newest = keys.remove(0);
        Ok(Self { newest, older: keys })
    }

    /// The key that signs.
    pub fn newest(&self) -> &SigningKey {
        &self.newest
    }

    /// The key of that name.
    pub fn find(&self, kid: &str) -> Option<&SigningKey> {
        std::iter::once(&self.newest).chain(&self.older).find(|key| key.kid == kid)
    }
}

/// The bytes of a file that only its owner and its group may read.
pub(crate) fn read_secret_file(file: &Path) -> Result<Vec<u8>, KeysError> {
    let failed = |error| KeysError::Io { action: "read", file: file.to_owned(), error };
    let mode = fs::metadata(file).map_err(failed)?.mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(KeysError::OpenToOthers { file: file.to_owned(), mode });
    }
    fs::read(file).map_err(failed)
}

/// Writes a new file, whole or not at all, readable by its owner only from its first moment.
fn create(file: &Path, clock: &dyn Clock, entropy: &dyn Entropy) -> Result<(), KeysError> {
    let failed = |error| KeysError::Io { action: "make", file: file.to_owned(), error };
    let directory = file.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    let secret = [entropy.next_u128().to_be_bytes(), entropy.next_u128().to_be_bytes()].concat();
    let record = KeyRecord {
        kid: format!("{:016x}", entropy.next_u64()),
        secret: URL_SAFE_NO_PAD.encode(secret),
        created_at_ms: clock.now_ms(),
    };
    let text = serde_json::to_vec_pretty(&KeysFile { keys: vec![record] })
        .map_err(|error| KeysError::Content { file: file.to_owned(), what: error.to_string() })?;
    let unfinished = file.with_extension(format!("{:016x}.tmp", entropy.next_u64()));
    let mut open = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).map_err(failed)?;
    open.write_all(&text).and_then(|()| open.sync_all()).map_err(failed)?;
    // A link fails where a rename would replace the keys that another process made in the meantime.
    match fs::hard_link(&unfinished, file) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    fs::remove_file(&unfinished).map_err(failed)?;
    fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tidings_schemas::clock::{SystemClock, SystemEntropy};

    use super::*;

    fn open(file: &Path) -> Result<SigningKeys, KeysError> {
        SigningKeys::open(file, &SystemClock::new(), &SystemEntropy)
    }

    #[test]
    fn keys_are_made_once_and_kept_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(DEFAULT_FILE);
        let kid = open(&file).unwrap().newest().kid.clone();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "nothing is left lying about");
        assert_eq!(open(&file).unwrap().newest().kid, kid);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens.json");
        open(&file).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(open(&file), Err(KeysError::OpenToOthers { mode: 0o644, .. })));
    }

    #[test]
    fn a_damaged_file_is_refused_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens.json");
        open(&file).unwrap();
        for text in ["", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"kid":"a","secret":"AAAA","created_at_ms":0}]}"#] {
            fs::write(&file, text).unwrap();
            assert!(matches!(open(&file), Err(KeysError::Content { .. })), "{text}");
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
    }
}
