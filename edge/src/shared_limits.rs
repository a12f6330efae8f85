//! Users' rate limits over all edges. Each edge has buckets of its own, so that no request waits for another machine; once
//! a second it tells the others what those users spent here who spend much, and they take it off theirs. So one who
//! connects to many edges has, after a second, no more than one who connects to one. It goes by the topic that all edges
//! read anyway, `leases`, and only while somebody is near the limit.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tidings_ingest::{AsyncReader, Log, LogError, LogExt as _, NewRecord, StoredRecord};
use tidings_schemas::{
    ids::UserId,
    limits::SPENDING_INTERVAL,
    topics::Topic,
    wire::{LeaseRecord, Spending, UserSpending, lease_record::Action},
};
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{leases::EdgeIdentity, metrics::Metrics, rate_limits::RateLimit};

/// Bytes read at a time.
const READ_BYTES: usize = 256 * 1024;

/// See the module.
pub(crate) struct SharedLimits {
    log: Arc<dyn Log>,
    identity: EdgeIdentity,
    limit: Arc<RateLimit<UserId>>,
    reader: AsyncReader,
    metrics: Arc<Metrics>,
}

impl SharedLimits {
    /// Reads from the end as it is now: what was spent before is old.
    pub(crate) fn open(
        log: &Arc<dyn Log>,
        identity: EdgeIdentity,
        limit: Arc<RateLimit<UserId>>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, LogError> {
        let reader = AsyncReader::at_end(log.as_ref(), Topic::Leases, 0)?;
        Ok(Self { log: Arc::clone(log), identity, limit, reader, metrics })
    }

    /// Tells and listens until it is aborted.
    pub(crate) fn start(mut self) -> JoinHandle<()> {
        tokio::spawn(async move {
            let mut ticks = interval(SPENDING_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    // In one order, so that a simulation comes out the same again.
                    biased;
                    read = self.reader.next_batch(READ_BYTES) => match read {
                        Ok(records) => records.iter().for_each(|record| self.hear(record)),
                        Err(error) => self.recover(error).await,
                    },
                    _ = ticks.tick() => self.tell().await,
                }
            }
        })
    }

    async fn tell(&mut self) {
        let users: Vec<_> = self.limit.spending();
        if users.is_empty() {
            return;
        }
        let spent = |(user, requests): (UserId, u32)| UserSpending { user_id: Some(user.into()), requests };
        let EdgeIdentity { edge_id, run } = self.identity;
        let spending = Spending { run, users: users.into_iter().map(spent).collect() };
        let record = LeaseRecord { owner: 0, edge_id, action: Some(Action::Spending(spending)) };
        let value = Bytes::from(record.encode_to_vec());
        let append = self.log.append(vec![NewRecord { topic: Topic::Leases, partition: 0, key: Bytes::new(), value }]);
        if let Err(error) = append.await {
            // Each edge's own limit holds meanwhile.
            tracing::warn!(%error, "other edges are not told what users have spent");
        }
    }

    fn hear(&self, record: &StoredRecord) {
        // What cannot be decoded is reported by who reads the leases.
        let Ok(LeaseRecord { edge_id, action: Some(Action::Spending(spending)), .. }) =
            LeaseRecord::decode(record.value.clone())
        else {
            return;
        };
        if (EdgeIdentity { edge_id, run: spending.run }) == self.identity {
            return;
        }
        for spent in spending.users {
            if let Some(user) = spent.user_id {
                self.limit.spend(user.into(), spent.requests);
                self.metrics.spent_elsewhere.inc_by(spent.requests.into());
            }
        }
    }

    /// After a read that failed. A reader stands where it stood; one that cannot go on is opened at the end.
    async fn recover(&mut self, error: LogError) {
        tracing::warn!(%error, "what other edges say of users' limits cannot be read for the moment");
        sleep(SPENDING_INTERVAL).await;
        if error.is_retryable() {
            return;
        }
        match AsyncReader::at_end_now(self.log.as_ref(), Topic::Leases, 0).await {
            Ok(reader) => self.reader = reader,
            Err(error) => tracing::warn!(%error, "the leases cannot be opened"),
        }
    }
}
