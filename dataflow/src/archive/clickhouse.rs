//! The archive on a ClickHouse server, over HTTP: [`ClickHouseArchive`], by the `clickhouse` crate.
//!
//! The same tables, statements and order of steps as embedded. The crate carries bytes: rows go and come in RowBinary as
//! everywhere in the archive. Every call has a time-out, here and on the server, because the crate has none; an answer
//! that does not come leaves open whether the call was done, which the steps allow for. No `insert_deduplication_token`:
//! ARCHITECTURE.md says why.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use clickhouse::{Client, error::Error};
use tidings_schemas::limits;
use tokio::sync::Semaphore;

use super::{
    libchdb::EngineError,
    row_binary::RowBinaryReader,
    sql::{Sql, SqlArchive, identifier},
    store::ArchiveError,
};
use crate::password::{self, PasswordError};

/// Settings of the ClickHouse server that holds the archive.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClickHouseConfig {
    /// Where its HTTP interface is (https in programs built with the feature `tls`).
    pub url: String,
    /// The database that the tables are in. Made where it is not there, if the user may.
    pub database: String,
    /// The user.
    pub username: Option<String>,
    /// A file with the password. Without it, the environment's TIDINGS_CLICKHOUSE_PASSWORD, if there is one.
    pub password_file: Option<PathBuf>,
}

impl Default for ClickHouseConfig {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8123".to_owned(),
            database: "tidings".to_owned(),
            username: None,
            password_file: None,
        }
    }
}

/// Why ClickHouse cannot be used with these settings.
#[derive(Debug, thiserror::Error)]
pub enum ClickHouseConfigError {
    /// The address is none, or has a password in it.
    #[error(
        "clickhouse.url {0:?} is not http://host:port or https://host:port (user and password have their own settings)"
    )]
    Url(String),
    /// This program cannot speak TLS.
    #[error("clickhouse.url is https, and this program was built without TLS (build it with --features tls)")]
    NoTls,
    /// There is no such name.
    #[error("clickhouse.database is empty (tidings is the default)")]
    Database,
    /// The password cannot be read.
    #[error(transparent)]
    Password(#[from] PasswordError),
}

/// The archive on a ClickHouse server.
pub type ClickHouseArchive = SqlArchive<ClickHouseSql>;

/// A ClickHouse server's SQL.
pub struct ClickHouseSql {
    /// In the archive's database.
    client: Client,
    /// In none.
    server: Client,
    database: String,
    reads: Semaphore,
}

impl ClickHouseArchive {
    /// The archive on that server, with rows that stay for so many days. Nothing is connected yet. `token`: a number that
    /// no other process has.
    ///
    /// # Errors
    /// The settings cannot be used.
    pub fn new(config: &ClickHouseConfig, retention_days: u32, token: u64) -> Result<Self, ClickHouseConfigError> {
        let sql = ClickHouseSql::new(config)?;
        Ok(Self::on(sql, retention_days, token))
    }
}

impl ClickHouseSql {
    fn new(config: &ClickHouseConfig) -> Result<Self, ClickHouseConfigError> {
        let wrong_url = || ClickHouseConfigError::Url(config.url.clone());
        let url: hyper::Uri = config.url.parse().map_err(|_| wrong_url())?;
        let is_bare = url.path() == "/" && url.query().is_none();
        let has_user = url.authority().is_none_or(|authority| authority.as_str().contains('@'));
        match url.scheme_str() {
            _ if !is_bare || has_user => return Err(ClickHouseConfigError::Url("(not shown)".to_owned())),
            Some("http") => {}
            Some("https") if cfg!(feature = "tls") => {}
            Some("https") => return Err(ClickHouseConfigError::NoTls),
            _ => return Err(wrong_url()),
        }
        if config.database.is_empty() {
            return Err(ClickHouseConfigError::Database);
        }
        let mut server = Client::default()
            .with_url(&config.url)
            .with_compression(clickhouse::Compression::None)
            // Errors in the middle of an answer come as an error, and not behind a part of the rows.
            .with_setting("wait_end_of_query", "1");
        if let Some(username) = &config.username {
            server = server.with_user(username);
        }
        if let Some(password) = password::read(config.password_file.as_deref(), "TIDINGS_CLICKHOUSE_PASSWORD")? {
            server = server.with_password(password);
        }
        Ok(Self {
            client: server.clone().with_database(&config.database),
            server,
            database: config.database.clone(),
            reads: Semaphore::new(limits::ARCHIVE_HTTP_READS_MAX),
        })
    }

    async fn query(&self, client: &Client, sql: &str, timeout: Duration) -> Result<Bytes, ArchiveError> {
        let call = async {
            let seconds = timeout.as_secs().max(1).to_string();
            let query = client.query_raw(sql).with_setting("max_execution_time", seconds);
            query.fetch_bytes("RowBinary")?.collect().await
        };
        in_time(timeout, call).await
    }
}

#[async_trait]
impl Sql for ClickHouseSql {
    async fn read(&self, sql: String) -> Result<Bytes, ArchiveError> {
        let timeout = limits::ARCHIVE_CALL_TIMEOUT;
        let Ok(Ok(_permit)) = tokio::time::timeout(timeout, self.reads.acquire()).await else {
            return Err(ArchiveError::Unavailable("too many reads are waiting: retry later".to_owned()));
        };
        self.query(&self.client, &sql, timeout).await
    }

    async fn run(&self, sql: String) -> Result<Bytes, ArchiveError> {
        self.query(&self.client, &sql, limits::ARCHIVE_INSERT_TIMEOUT).await
    }

    async fn compute(&self, sql: String) -> Result<Bytes, ArchiveError> {
        self.query(&self.client, &sql, limits::ARCHIVE_SUMMARY_TIMEOUT).await
    }

    async fn insert(&self, insert: String, rows: Bytes) -> Result<(), ArchiveError> {
        let timeout = limits::ARCHIVE_INSERT_TIMEOUT;
        let call = async {
            let seconds = timeout.as_secs().max(1).to_string();
            let insert = self.client.insert_formatted_with(format!("{insert} FORMAT RowBinary"));
            let mut insert = insert.with_setting("max_execution_time", seconds);
            insert.send(rows).await?;
            insert.end().await
        };
        in_time(timeout, call).await
    }

    /// A user with few rights finds it made.
    async fn create_database(&self) -> Result<(), ArchiveError> {
        let name = self.database.replace('\\', "\\\\").replace('\'', "\\'");
        let sql = format!("SELECT toUInt32(count()) FROM system.databases WHERE name = '{name}'");
        let found = self.query(&self.server, &sql, limits::ARCHIVE_CALL_TIMEOUT).await?;
        if RowBinaryReader::new(&found).u32()? == 0 {
            let create = format!("CREATE DATABASE IF NOT EXISTS {}", identifier(&self.database));
            self.query(&self.server, &create, limits::ARCHIVE_CALL_TIMEOUT).await?;
        }
        Ok(())
    }
}

async fn in_time<T>(timeout: Duration, call: impl Future<Output = Result<T, Error>>) -> Result<T, ArchiveError> {
    match tokio::time::timeout(timeout, call).await {
        Ok(answer) => answer.map_err(archive_error),
        Err(_) => Err(ArchiveError::Unavailable(format!("ClickHouse does not answer within {timeout:?}"))),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "used as a function for map_err")]
fn archive_error(error: Error) -> ArchiveError {
    match &error {
        // The server's own words carry its code. Those of somebody in between carry none, and mean that it is away.
        Error::BadResponse(message) => match EngineError::from_message(message) {
            EngineError::Statement { code: 0, message } => ArchiveError::Unavailable(message),
            error => error.into(),
        },
        Error::Network(_) | Error::TimedOut | Error::NotEnoughData => ArchiveError::Unavailable(with_causes(&error)),
        _ => ArchiveError::Refused(with_causes(&error)),
    }
}

/// An error with what it comes from: a network error alone says nothing.
fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_settings_are_refused_and_no_password_is_shown() {
        let url = |url: &str| {
            let config = ClickHouseConfig { url: url.to_owned(), ..ClickHouseConfig::default() };
            ClickHouseSql::new(&config).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(url("http://127.0.0.1:8123"), Ok(()));
        assert_eq!(url("http://[::1]:8123/"), Ok(()));
        for wrong in ["", "127.0.0.1:8123", "http://", "ftp://host", "http://host/path", "http://host/?user=a"] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
        let shown = url("http://me:secret@host:8123").unwrap_err();
        assert!(!shown.contains("secret"), "{shown}");
        if !cfg!(feature = "tls") {
            assert!(url("https://host:8443").unwrap_err().contains("--features tls"));
        }
        let config = ClickHouseConfig { database: String::new(), ..ClickHouseConfig::default() };
        assert!(ClickHouseSql::new(&config).is_err());
    }

    #[test]
    fn what_may_pass_is_told_from_what_will_not() {
        let kind = |message: &str| archive_error(Error::BadResponse(message.to_owned()));
        let unavailable = |message| matches!(kind(message), ArchiveError::Unavailable(_));
        assert!(unavailable("Code: 241. DB::Exception: memory. (MEMORY_LIMIT_EXCEEDED)"));
        assert!(unavailable("502 Bad Gateway"));
        assert!(unavailable("<html>a proxy's words</html>"));
        assert!(matches!(archive_error(Error::TimedOut), ArchiveError::Unavailable(_)));
        assert!(matches!(kind("Code: 60. DB::Exception: no table. (UNKNOWN_TABLE)"), ArchiveError::Refused(_)));
        assert!(matches!(kind("Code: 516. DB::Exception: wrong password"), ArchiveError::Refused(_)));
    }
}
