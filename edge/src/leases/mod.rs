//! The number of an edge, leased: an edge's number is its partition of `deliveries`, and no two may have the same. An
//! edge claims a free one in the topic `leases`; the order in its one partition decides who gets it (`table`), as it
//! does for user names. So a fleet needs no other system to agree on, and losing the views loses no lease.
//!
//! A holder goes on while it cannot reach the log (when the log is down nobody else can claim, either; when only this edge
//! is cut off, another may) and learns from the log itself that it was overtaken. Two edges that share a number for that moment do no
//! harm, only work: a push names its recipients, and a verdict its request.

mod table;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use table::LeaseTable;
use tidings_ingest::{AppendError, AsyncReader, Log, LogError, LogExt as _, NewRecord};
use tidings_schemas::{
    clock::{Clock, Entropy},
    topics::Topic,
    wire::{ClaimLease, LeaseRecord, ReleaseLease, RenewLease, lease_record::Action},
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::config::Config;

/// Bytes of leases read at a time.
const READ_BYTES: usize = 256 * 1024;
/// How long before a claim, or a read that failed, is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The leases cannot be read.
    #[error("the edges' leases cannot be read")]
    Read(#[from] LogError),
    /// The claim did not get into the log.
    #[error("a lease cannot be claimed")]
    Claim(#[from] AppendError),
}

/// Which edge this is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EdgeIdentity {
    /// Its partition of `deliveries`.
    pub edge_id: u32,
    /// A number that is larger for each later edge of the same number: what sessions of an earlier one ends.
    pub run: u64,
}

/// A lease that is held and renewed until it is released or lost.
pub struct EdgeLease {
    identity: EdgeIdentity,
    log: Arc<dyn Log>,
    owner: u64,
    lost: watch::Receiver<bool>,
    keeping: JoinHandle<()>,
}

impl EdgeLease {
    /// Claims a free number, and waits until there is one.
    ///
    /// # Errors
    /// [`LeaseError`]: the log does not answer.
    pub async fn acquire(
        log: Arc<dyn Log>,
        config: &Config,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<Self, LeaseError> {
        let owner = entropy.next_u64();
        let duration_ms = config.lease_duration_ms;
        let renew_interval = Duration::from_millis(config.lease_renew_interval_ms.max(1).into());
        let count = log.partitions(Topic::Deliveries);
        let mut follower = Follower::open(log.as_ref()).await?;
        follower.read_below(log.range_now(Topic::Leases, 0).await?.end).await?;
        let mut said = false;
        loop {
            let Some(edge_id) = follower.table.free(count, clock.now_ms(), entropy.next_u64()) else {
                if !said {
                    tracing::warn!(
                        count,
                        "all numbers of edges are taken: waiting for one (hint: more partitions of deliveries)"
                    );
                    said = true;
                }
                sleep(RETRY_INTERVAL).await;
                follower.read_below(log.range_now(Topic::Leases, 0).await?.end).await?;
                continue;
            };
            let claim = ClaimLease { duration_ms, address: config.listen.to_string() };
            let offset = append(&log, LeaseRecord { owner, edge_id, action: Some(Action::Claim(claim)) }).await?;
            follower.read_below(offset + 1).await?;
            if let Some(run) = follower.table.run_of(edge_id, owner) {
                let identity = EdgeIdentity { edge_id, run };
                tracing::info!(edge_id, run, "this edge has a number");
                let (lose, lost) = watch::channel(false);
                let keeper = Keeper { log: Arc::clone(&log), identity, owner, duration_ms, renew_interval, lose };
                let keeping = tokio::spawn(keeper.run(follower));
                return Ok(Self { identity, log, owner, lost, keeping });
            }
        }
    }

    /// What was leased.
    pub fn identity(&self) -> EdgeIdentity {
        self.identity
    }

    /// Waits until somebody else has the number. The edge must then go away and claim another.
    pub async fn lost(&mut self) {
        // The sender lives as long as the task, which ends only by losing the lease or with `self`.
        if self.lost.wait_for(|lost| *lost).await.is_err() {
            std::future::pending().await
        }
    }

    /// Gives the number back, so that the next edge need not wait until the lease has run out.
    pub async fn release(self) {
        self.keeping.abort();
        let EdgeIdentity { edge_id, run } = self.identity;
        let release = LeaseRecord { owner: self.owner, edge_id, action: Some(Action::Release(ReleaseLease { run })) };
        if let Err(error) = append(&self.log, release).await {
            tracing::warn!(%error, "the lease is not given back: it runs out");
        }
    }
}

impl Drop for EdgeLease {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

/// Renews, and reads what the others do, until the number is somebody else's.
struct Keeper {
    log: Arc<dyn Log>,
    identity: EdgeIdentity,
    owner: u64,
    duration_ms: u32,
    renew_interval: Duration,
    lose: watch::Sender<bool>,
}

impl Keeper {
    async fn run(self, mut follower: Follower) {
        let EdgeIdentity { edge_id, run } = self.identity;
        let mut renewals = interval(self.renew_interval);
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let read = tokio::select! {
                biased;
                read = follower.read_more() => read,
                _ = renewals.tick() => self.renew(&mut follower).await,
            };
            if let Err(error) = read {
                sleep(RETRY_INTERVAL).await;
                // The reader stands where it stood.
                if error.is_retryable() {
                    tracing::warn!(%error, "the leases cannot be read for the moment: tried again");
                    continue;
                }
                tracing::warn!(%error, "the leases cannot be read and are read again from their start");
                if let Ok(opened) = Follower::open(self.log.as_ref()).await {
                    follower = opened;
                }
                continue;
            }
            // After a start over, its own record comes late.
            if follower.table.run_of(edge_id, self.owner) != Some(run) && follower.is_at_end(self.log.as_ref()).await {
                tracing::error!(edge_id, "another edge has this edge's number: this one was away for too long");
                // Nobody listens any more: then nobody needs to know.
                let _ = self.lose.send(true);
                return;
            }
        }
    }

    /// Says that the edge is alive, and reads up to that.
    async fn renew(&self, follower: &mut Follower) -> Result<(), LogError> {
        let EdgeIdentity { edge_id, run } = self.identity;
        let renew = Action::Renew(RenewLease { duration_ms: self.duration_ms, run });
        match append(&self.log, LeaseRecord { owner: self.owner, edge_id, action: Some(renew) }).await {
            Ok(offset) => follower.read_below(offset + 1).await,
            Err(error) => {
                tracing::warn!(%error, "the lease is not renewed and is tried again");
                Ok(())
            }
        }
    }
}

/// The partition, read from its start on.
struct Follower {
    reader: AsyncReader,
    table: LeaseTable,
}

impl Follower {
    async fn open(log: &dyn Log) -> Result<Self, LogError> {
        let start = log.range_now(Topic::Leases, 0).await?.start;
        let reader = AsyncReader::new(log.reader(Topic::Leases, 0, start)?);
        Ok(Self { reader, table: LeaseTable::default() })
    }

    /// Reads what there is, or waits for it.
    async fn read_more(&mut self) -> Result<(), LogError> {
        for record in self.reader.next_batch(READ_BYTES).await? {
            match LeaseRecord::decode(record.value) {
                Ok(lease) => self.table.apply(&lease, record.timestamp_ms),
                Err(error) => tracing::error!(%error, offset = record.offset, "a lease cannot be decoded"),
            }
        }
        Ok(())
    }

    /// Reads everything below an offset.
    async fn read_below(&mut self, end: u64) -> Result<(), LogError> {
        while self.reader.position() < end {
            self.read_more().await?;
        }
        Ok(())
    }

    /// Whether the table is as of now.
    async fn is_at_end(&mut self, log: &dyn Log) -> bool {
        log.range_now(Topic::Leases, 0).await.is_ok_and(|range| self.reader.position() >= range.end)
    }
}

async fn append(log: &Arc<dyn Log>, lease: LeaseRecord) -> Result<u64, AppendError> {
    let value = Bytes::from(lease.encode_to_vec());
    let record = NewRecord { topic: Topic::Leases, partition: 0, key: Bytes::new(), value };
    let offsets = log.append(vec![record]).await?;
    offsets.first().copied().ok_or_else(|| AppendError::Unknown { reason: "the log answered without an offset".into() })
}
