//! Ends the live sessions of tokens that were ended. Each edge reads the directory as it grows, so it learns of a
//! sign-out on any other edge as soon as that is in the log, and nothing has to be asked again and again.

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use tidings_ingest::{AsyncReader, Log, LogError, StoredRecord};
use tidings_schemas::{
    errors::CloseCode,
    ids::UserId,
    limits::VIEW_WAIT_TIMEOUT,
    topics::Topic,
    wire::{self, directory_record::Body},
};
use tokio::task::JoinHandle;

use crate::{auth::Auth, metrics::Metrics, read::Reads, sessions::Sessions};

/// Bytes read at a time.
const BATCH_BYTES: usize = 64 * 1024;
/// How long before a read that failed is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Watches the directory for ended tokens.
pub struct Revocations {
    /// What it ends.
    pub sessions: Arc<Sessions>,
    /// Told when the views have it.
    pub auth: Arc<Auth>,
    /// The views.
    pub reads: Arc<Reads>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Tokens of a user that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ended {
    user: UserId,
    tokens: Tokens,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tokens {
    IssuedBefore(i64),
    One(u128),
}

impl Revocations {
    /// Reads from the ends of the partitions as they are now, before any session is opened.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn start(self, log: &Arc<dyn Log>) -> Result<Vec<JoinHandle<()>>, LogError> {
        let watch = Arc::new(self);
        let mut tasks = Vec::new();
        for partition in 0..log.partitions(Topic::Directory) {
            let mut reader = AsyncReader::at_end(log.as_ref(), Topic::Directory, partition)?;
            let (watch, log) = (Arc::clone(&watch), Arc::clone(log));
            tasks.push(tokio::spawn(async move {
                loop {
                    match reader.next_batch(BATCH_BYTES).await {
                        Ok(records) => watch.take(partition, &records).await,
                        // The reader stands where it stood.
                        Err(error) if error.is_retryable() => {
                            tracing::warn!(%error, "the directory cannot be read for the moment: tried again");
                            tokio::time::sleep(RETRY_INTERVAL).await;
                        }
                        Err(error) => {
                            tracing::error!(%error, "the directory cannot be read: live sessions of ended tokens go on");
                            watch.metrics.dropped("directory_unreadable");
                            tokio::time::sleep(RETRY_INTERVAL).await;
                            match AsyncReader::at_end_now(log.as_ref(), Topic::Directory, partition).await {
                                Ok(next) => {
                                    reader = next;
                                    watch.check_all().await;
                                }
                                Err(error) => tracing::error!(%error, "the directory cannot be opened"),
                            }
                        }
                    }
                }
            }));
        }
        Ok(tasks)
    }

    async fn take(&self, partition: u32, records: &[StoredRecord]) {
        let ended: Vec<Ended> = records.iter().filter_map(|record| ended(&record.value)).collect();
        let (Some(last), false) = (records.last(), ended.is_empty()) else { return };
        self.close(&ended);
        // A session may open meanwhile with what the views said before. So once more when they have it; who checks a
        // token sees by the generation that the check was too early.
        let views = self.reads.views();
        while let Err(error) = views.wait_past(Topic::Directory, partition, last.offset, VIEW_WAIT_TIMEOUT).await {
            tracing::warn!(%error, "the views do not have the end of a token yet");
        }
        for ended in &ended {
            self.auth.standings().ended(ended.user);
            self.reads.forget_profile(ended.user);
        }
        self.close(&ended);
    }

    fn close(&self, ended: &[Ended]) {
        let by_user = ended.iter().map(|ended| (ended.user, ended.tokens));
        self.sessions.for_users(by_user, |session, tokens| {
            let token = session.token();
            let is_ended = match *tokens {
                Tokens::IssuedBefore(moment_ms) => token.issued_at_ms < moment_ms,
                Tokens::One(id) => token.id == id,
            };
            if is_ended {
                session.connection().close(CloseCode::Unauthenticated);
            }
        });
    }

    /// Something was missed: all sessions' tokens are looked up.
    async fn check_all(&self) {
        for session in self.sessions.all() {
            if let Err(crate::auth::TokenError::Revoked) =
                self.auth.standings().check(session.user_id(), &session.token()).await
            {
                session.connection().close(CloseCode::Unauthenticated);
            }
        }
    }
}

fn ended(value: &bytes::Bytes) -> Option<Ended> {
    let record = wire::DirectoryRecord::decode(value.clone()).ok()?;
    let (user, tokens) = match record.body? {
        Body::RegisterUser(_) => return None,
        Body::RevokeToken(revoke) => {
            let id = revoke.token?.token_id.as_ref().try_into().ok()?;
            (revoke.user_id?, Tokens::One(u128::from_be_bytes(id)))
        }
        Body::RevokeTokens(revoke) => (revoke.user_id?, Tokens::IssuedBefore(revoke.valid_from_ms)),
        Body::ChangePassword(change) => (change.user_id?, Tokens::IssuedBefore(change.tokens_valid_from_ms)),
        Body::EraseUser(erased) => (erased.user_id?, Tokens::IssuedBefore(i64::MAX)),
    };
    Some(Ended { user: user.into(), tokens })
}
