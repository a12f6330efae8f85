//! Password hashes: argon2id (RFC 9106) as PHC strings. A hash is slow and takes much memory on purpose, so it runs on
//! blocking threads, few at once, and a bounded number of requests may wait for that. The memory is used again and again:
//! given back to the allocator each time, it would stay with the arena of every blocking thread that ever had a turn.

use std::sync::{Arc, Mutex, PoisonError};

use argon2::{
    Algorithm, Argon2, Block, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version,
    password_hash::{self, Decimal, Ident, Output, ParamsString, Salt, SaltString},
};
use tidings_schemas::{
    clock::Entropy,
    limits::{PASSWORD_HASHES_RUNNING_MAX, PASSWORD_HASHES_WAITING_MAX},
};
use tokio::sync::Semaphore;

use super::{AuthConfig, KeysError};
use crate::error::ApiError;

/// Makes and checks hashes of passwords.
pub struct Passwords {
    hasher: Arc<Hasher>,
    /// Of a password that nobody has: checked where there is no user, so that it takes as long as where there is one.
    nobodys_hash: Arc<str>,
    waiting: Semaphore,
    running: Semaphore,
}

impl Passwords {
    /// With the settings' memory and passes.
    ///
    /// # Errors
    /// The settings are outside what argon2 allows.
    pub fn new(config: &AuthConfig, entropy: &dyn Entropy) -> Result<Self, KeysError> {
        let wrong = |error: &dyn std::fmt::Display| KeysError::Setting {
            name: "password_hash_memory_kib and password_hash_iterations",
            what: error.to_string(),
        };
        let params = Params::new(config.password_hash_memory_kib, config.password_hash_iterations, 1, None)
            .map_err(|error| wrong(&error))?;
        let hasher = Arc::new(Hasher { params, spare: Mutex::default() });
        let secret = entropy.next_u128().to_be_bytes();
        let nobodys_hash = hash(&hasher, &secret, entropy.next_u128()).map_err(|error| wrong(&error))?;
        Ok(Self {
            hasher,
            nobodys_hash: nobodys_hash.into(),
            waiting: Semaphore::new(PASSWORD_HASHES_WAITING_MAX),
            running: Semaphore::new(PASSWORD_HASHES_RUNNING_MAX),
        })
    }

    /// The hash of a new password, with this salt (random).
    ///
    /// # Errors
    /// `unavailable`: too many wait.
    pub async fn hash(&self, password: String, salt: u128) -> Result<String, ApiError> {
        let hasher = Arc::clone(&self.hasher);
        self.run(move || hash(&hasher, password.as_bytes(), salt)).await?.map_err(|error| {
            tracing::error!(%error, "a password cannot be hashed");
            ApiError::internal("the password cannot be hashed")
        })
    }

    /// Whether the password is the one of the hash. Takes as long without a hash, or with one that is none.
    ///
    /// # Errors
    /// `unavailable`: too many wait.
    pub async fn verify(&self, password: String, stored: Option<String>) -> Result<bool, ApiError> {
        let hasher = Arc::clone(&self.hasher);
        let nobodys_hash = Arc::clone(&self.nobodys_hash);
        self.run(move || {
            let parsed = stored.as_deref().and_then(|stored| PasswordHash::new(stored).ok());
            let matches = |stored: &PasswordHash<'_>| hasher.verify_password(password.as_bytes(), stored).is_ok();
            match parsed {
                Some(stored) => matches(&stored),
                None => {
                    let spent = PasswordHash::new(&nobodys_hash).map(|stored| matches(&stored));
                    std::hint::black_box(spent).is_err()
                }
            }
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
        let busy = |_| ApiError::unavailable("too many sign-ins at the moment: try again");
        let _waiting = self.waiting.try_acquire().map_err(busy)?;
        let _running = self.running.acquire().await;
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|_| ApiError::internal("the password cannot be checked"))
    }
}

fn hash(hasher: &Hasher, password: &[u8], salt: u128) -> password_hash::Result<String> {
    let salt = SaltString::encode_b64(&salt.to_be_bytes())?;
    Ok(hasher.hash_password(password, &salt)?.to_string())
}

/// Argon2id that keeps its memory: as many pieces as hashes have run at once.
struct Hasher {
    params: Params,
    spare: Mutex<Vec<Vec<Block>>>,
}

impl PasswordHasher for Hasher {
    type Params = Params;

    fn hash_password_customized<'a>(
        &self,
        password: &[u8],
        algorithm: Option<Ident<'a>>,
        version: Option<Decimal>,
        params: Params,
        salt: impl Into<Salt<'a>>,
    ) -> password_hash::Result<PasswordHash<'a>> {
        let algorithm = algorithm.map_or(Ok(Algorithm::Argon2id), Algorithm::try_from)?;
        let version = version.map_or(Ok(Version::V0x13), Version::try_from)?;
        let salt = salt.into();
        let mut salt_bytes = [0; Salt::MAX_LENGTH];
        let salt_bytes = salt.decode_b64(&mut salt_bytes)?;
        let length = params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
        let blocks = params.block_count();
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut memory = spare.unwrap_or_default();
        memory.resize(blocks, Block::default());
        let argon2 = Argon2::new(algorithm, version, params.clone());
        let output = Output::init_with(length, |output| {
            Ok(argon2.hash_password_into_with_memory(password, salt_bytes, output, &mut memory)?)
        });
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
        Ok(PasswordHash {
            algorithm: algorithm.ident(),
            version: Some(version.into()),
            params: ParamsString::try_from(&params)?,
            salt: Some(salt),
            hash: Some(output?),
        })
    }

    fn hash_password<'a>(&self, password: &[u8], salt: impl Into<Salt<'a>>) -> password_hash::Result<PasswordHash<'a>> {
        self.hash_password_customized(password, None, None, self.params.clone(), salt)
    }
}

#[cfg(test)]
mod tests {
    use tidings_schemas::clock::SystemEntropy;

    use super::*;

    fn passwords() -> Passwords {
        let config = AuthConfig { password_hash_memory_kib: 64, password_hash_iterations: 1, ..AuthConfig::default() };
        Passwords::new(&config, &SystemEntropy).unwrap()
    }

    #[tokio::test]
    async fn a_hash_is_of_one_password_and_says_how_it_was_made() {
        let passwords = passwords();
        let stored = passwords.hash("correct horse".to_owned(), 7).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{stored}");
        assert_eq!(passwords.verify("correct horse".to_owned(), Some(stored.clone())).await, Ok(true));
        assert_eq!(passwords.verify("correct hors".to_owned(), Some(stored.clone())).await, Ok(false));
        assert_ne!(passwords.hash("correct horse".to_owned(), 8).await.unwrap(), stored, "another salt");
    }

    /// What others make of the same, so that hashes made before stay good.
    #[tokio::test]
    async fn it_is_argon2id() {
        let params = Params::new(64, 1, 1, None).unwrap();
        let plain = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let salt = SaltString::encode_b64(&7_u128.to_be_bytes()).unwrap();
        let expected = plain.hash_password(b"correct horse", &salt).unwrap().to_string();
        let passwords = passwords();
        for _ in 0..2 {
            assert_eq!(passwords.hash("correct horse".to_owned(), 7).await.unwrap(), expected);
        }
        assert_eq!(passwords.hasher.spare.lock().unwrap().len(), 1, "the memory is kept");
    }

    #[tokio::test]
    async fn without_a_user_no_password_is_right() {
        let passwords = passwords();
        for stored in [None, Some(String::new()), Some("garbage".to_owned())] {
            assert_eq!(passwords.verify(String::new(), stored).await, Ok(false));
        }
    }

    #[test]
    fn settings_that_argon2_refuses_are_refused() {
        let config = AuthConfig { password_hash_iterations: 0, ..AuthConfig::default() };
        assert!(Passwords::new(&config, &SystemEntropy).is_err());
    }
}
