//! Settings of the views in Redis, and the client made from them.

use std::{path::PathBuf, time::Duration};

use redis::{
    Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo, RedisError, io::tcp::TcpSettings,
};
use tidings_schemas::limits::VIEW_REDIS_CALL_TIMEOUT;

use crate::password::{self, PasswordError};

/// Settings of the views in Redis.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// Host and port of the primary.
    pub address: String,
    /// The number of the database.
    pub database: u32,
    /// What the names of all keys begin with: letters, digits, `_`, `-` and `.`. Two Tidings on one Redis need two.
    pub prefix: String,
    /// The user, where the server has users (ACL).
    pub username: Option<String>,
    /// A file with the password. Without it, the environment's TIDINGS_REDIS_PASSWORD, if there is one.
    pub password_file: Option<PathBuf>,
    /// Whether to speak TLS, with the system's certificates (in programs built with the feature `tls`).
    pub tls: bool,
    /// How long a call may take, in milliseconds. (Applying a batch may take five times as long.)
    pub timeout_ms: u64,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:6379".to_owned(),
            database: 0,
            prefix: "tidings".to_owned(),
            username: None,
            password_file: None,
            tls: false,
            timeout_ms: u64::try_from(VIEW_REDIS_CALL_TIMEOUT.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// Why the views in Redis cannot be used with these settings.
#[derive(Debug, thiserror::Error)]
pub enum RedisConfigError {
    /// The address is none.
    #[error("redis.address {0:?} is not host:port (such as 127.0.0.1:6379)")]
    Address(String),
    /// The prefix has characters that a key's name must not have.
    #[error("redis.prefix {0:?} is not one to 32 letters, digits, _, - and .")]
    Prefix(String),
    /// Nothing takes no time.
    #[error("redis.timeout_ms is 0 (2000 is the default)")]
    Timeout,
    /// This program cannot speak TLS.
    #[error("redis.tls is set, and this program was built without it (build it with --features tls)")]
    NoTls,
    /// The password cannot be read.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The client refuses the settings.
    #[error("the settings of [redis] cannot be used: {0}")]
    Client(RedisError),
}

impl RedisConfig {
    /// How long a call may take.
    pub(super) fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// How long applying a batch may take.
    pub(super) fn apply_timeout(&self) -> Duration {
        self.call_timeout() * 5
    }

    /// Checks the settings; nothing is connected.
    pub(super) fn client(&self) -> Result<Client, RedisConfigError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if !(1..=32).contains(&self.prefix.len()) || !self.prefix.bytes().all(is_plain) {
            return Err(RedisConfigError::Prefix(self.prefix.clone()));
        }
        if self.timeout_ms == 0 {
            return Err(RedisConfigError::Timeout);
        }
        let address = || {
            let (host, port) = self.address.rsplit_once(':')?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            Some((host.to_owned(), port.parse().ok()?)).filter(|(host, _)| !host.is_empty())
        };
        let (host, port) = address().ok_or_else(|| RedisConfigError::Address(self.address.clone()))?;
        let mut redis =
            RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3).set_db(i64::from(self.database));
        if let Some(username) = &self.username {
            redis = redis.set_username(username);
        }
        if let Some(password) = password::read(self.password_file.as_deref(), "TIDINGS_REDIS_PASSWORD")? {
            redis = redis.set_password(password);
        }
        // What a dead network swallows is noticed, and the connection is made anew.
        let tcp = TcpSettings::default().set_nodelay(true).set_user_timeout(self.apply_timeout());
        let info = self.connection_address(host, port)?.into_connection_info()?;
        Ok(Client::open(info.set_redis_settings(redis).set_tcp_settings(tcp))?)
    }

    #[cfg(feature = "tls")]
    fn connection_address(&self, host: String, port: u16) -> Result<ConnectionAddr, RedisConfigError> {
        if self.tls {
            return Ok(ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None });
        }
        Ok(ConnectionAddr::Tcp(host, port))
    }

    #[cfg(not(feature = "tls"))]
    fn connection_address(&self, host: String, port: u16) -> Result<ConnectionAddr, RedisConfigError> {
        if self.tls { Err(RedisConfigError::NoTls) } else { Ok(ConnectionAddr::Tcp(host, port)) }
    }
}

impl From<RedisError> for RedisConfigError {
    fn from(error: RedisError) -> Self {
        Self::Client(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_settings_are_refused_by_name() {
        let set = |change: fn(&mut RedisConfig)| {
            let mut config = RedisConfig::default();
            change(&mut config);
            config.client().map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(set(|_| ()), Ok(()));
        assert_eq!(set(|config| config.address = "[::1]:7000".to_owned()), Ok(()));
        for (change, name) in [
            ((|config| config.address = "localhost".to_owned()) as fn(&mut RedisConfig), "redis.address"),
            (|config| config.address = ":1".to_owned(), "redis.address"),
            (|config| config.address = "host:99999".to_owned(), "redis.address"),
            (|config| config.prefix = String::new(), "redis.prefix"),
            (|config| config.prefix = "a*".to_owned(), "redis.prefix"),
            (|config| config.timeout_ms = 0, "redis.timeout_ms"),
            (|config| config.password_file = Some("/no/such/file".into()), "/no/such/file"),
        ] {
            let refused = set(change).unwrap_err();
            assert!(refused.contains(name), "{refused}");
        }
    }
}
