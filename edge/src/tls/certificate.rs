//! Certificate and key, and the TLS settings made from them.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    version::{TLS12, TLS13},
};

use super::TlsConfig;
use crate::auth::{KeysError, keys::read_secret_file};

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Only one of the two files is named.
    #[error("edge.tls needs both certificate and key (leave both out for plain HTTP)")]
    Half,
    /// The certificate's file cannot be read.
    #[error("cannot read the certificate {}: {error}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The key's file cannot be read, or others can read it, too.
    #[error(transparent)]
    Key(#[from] KeysError),
    /// A file holds something else, or the two don't belong together.
    #[error("{} cannot be used: {what}", file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// The certificate in use.
pub struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<ServerConfig>>,
    /// The files' contents, to see whether they have changed.
    read: Mutex<Files>,
}

#[derive(PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Certificate {
    /// Reads the files; `None`: the settings name none.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn open(config: &TlsConfig) -> Result<Option<Self>, TlsError> {
        let (certificate, key) = match (&config.certificate, &config.key) {
            (None, None) => return Ok(None),
            (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
            _ => return Err(TlsError::Half),
        };
        let files = Files::read(&certificate, &key)?;
        let current = server_config(&certificate, &key, &files)?;
        Ok(Some(Self { certificate, key, current: RwLock::new(Arc::new(current)), read: Mutex::new(files) }))
    }

    /// What new connections are spoken to with.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes up what is in the files now. Returns whether that is something else than before.
    ///
    /// # Errors
    /// The files are no good (half written, perhaps): what was in use stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let files = Files::read(&self.certificate, &self.key)?;
        if files == *read {
            return Ok(false);
        }
        let config = Arc::new(server_config(&self.certificate, &self.key, &files)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
        *read = files;
        Ok(true)
    }
}

impl Files {
    fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let failed = |error| TlsError::Io { file: certificate.to_owned(), error };
        Ok(Self { certificate: std::fs::read(certificate).map_err(failed)?, key: read_secret_file(key)? })
    }
}

fn server_config(certificate: &Path, key: &Path, files: &Files) -> Result<ServerConfig, TlsError> {
    let wrong = |file: &Path, what: String| TlsError::Content { file: file.to_owned(), what };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&files.certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong(certificate, "it holds no certificate in PEM".to_owned()));
    }
    let private_key =
        PrivateKeyDer::from_pem_slice(&files.key).map_err(|error| wrong(key, format!("no private key: {error}")))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| wrong(certificate, error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, private_key)
        .map_err(|error| wrong(key, format!("it does not fit the certificate: {error}")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn write(file: &Path, text: &str) {
        fs::write(file, text).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn files(folder: &Path, (certificate, key): &(String, String)) -> TlsConfig {
        let (certificate_file, key_file) = (folder.join("certificate.pem"), folder.join("key.pem"));
        write(&certificate_file, certificate);
        write(&key_file, key);
        TlsConfig { certificate: Some(certificate_file), key: Some(key_file) }
    }

    #[test]
    fn files_that_are_no_good_are_told() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Certificate::open(&TlsConfig::default()).unwrap().is_none());
        let (one, other) = (pair(), pair());
        let good = files(folder.path(), &one);
        assert!(Certificate::open(&good).unwrap().is_some());
        let half = TlsConfig { key: None, ..good.clone() };
        assert!(matches!(Certificate::open(&half), Err(TlsError::Half)));
        let missing = TlsConfig { certificate: Some("/nowhere".into()), ..good.clone() };
        assert!(matches!(Certificate::open(&missing), Err(TlsError::Io { .. })));
        for (certificate, key, file) in [
            ("", one.1.as_str(), "certificate.pem"),
            ("nothing in PEM", &one.1, "certificate.pem"),
            (&one.0, "", "key.pem"),
            (&one.0, &one.0, "key.pem"),
            (&one.0, &other.1, "key.pem"),
        ] {
            let config = files(folder.path(), &(certificate.to_owned(), key.to_owned()));
            match Certificate::open(&config) {
                Err(TlsError::Content { file: named, .. }) => assert!(named.ends_with(file), "{}", named.display()),
                Err(error) => panic!("{error}"),
                Ok(_) => panic!("{file} is no good"),
            }
        }
        let open = files(folder.path(), &one);
        fs::set_permissions(open.key.as_ref().unwrap(), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Certificate::open(&open), Err(TlsError::Key(_))), "others can read the key");
    }

    #[test]
    fn changed_files_are_taken_up_and_broken_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (pair(), pair());
        let certificate = Certificate::open(&files(folder.path(), &one)).unwrap().unwrap();
        let before = certificate.current();
        assert!(!certificate.reload().unwrap(), "nothing has changed");
        files(folder.path(), &(other.0.clone(), one.1.clone()));
        assert!(certificate.reload().is_err(), "half of the change is there");
        assert!(Arc::ptr_eq(&before, &certificate.current()));
        files(folder.path(), &other);
        assert!(certificate.reload().unwrap());
        assert!(!Arc::ptr_eq(&before, &certificate.current()));
        assert!(!certificate.reload().unwrap());
    }
}
