//! The store of the views in Redis: one primary, with replicas if wanted, for any number of projections and edges.
//!
//! - [`config`]: its settings. [`layout`]: the names of keys, and rows as members of sorted sets.
//! - [`identity`]: whose views they are, and the dropping of what is another log's.
//! - [`moved`]: those who wait for a position.
//! - [`rebuild`]: views that are built anew in another database, and take the place of those in use.
//! - `scripts/`: what Redis does atomically.
//!
//! A batch is one script: it compares the positions, writes, moves them and tells who waits, and Redis does nothing else
//! meanwhile. So a crash of Redis, or of whoever called, leaves whole batches. What a crash takes from the end (with
//! `appendfsync everysec`: the last second) goes with its positions, and is applied again: the projection finds that the
//! views stand elsewhere than it left them. All rows of one log are on one primary, because a script reaches the keys of
//! one node only; docs/STORES.md says what Redis Cluster would need.
//!
//! A Redis that has lost everything has no positions either, and the projection fills it again. Until each partition has
//! been at the log's end, [`RedisViews::for_readers`] refuses to read, as of the same moment as the read itself: an edge
//! never takes half of the views for all of them.

mod config;
mod identity;
mod layout;
mod moved;
mod rebuild;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use redis::{
    Cmd, FromRedisValue, RedisError, RedisResult, Script, ScriptInvocation,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tidings_schemas::{
    limits::{VIEW_REDIS_CALLS_MAX, VIEW_REDIS_POLL, VIEW_REDIS_RECONNECT, VIEW_SCAN_ROWS_MAX},
    topics::Topic,
    views::{Key, Move, Position, Scan, ViewError, ViewStore, Write},
};

pub use config::{RedisConfig, RedisConfigError};
use identity::{Identity, foreign_views};
use layout::Names;
use moved::Moved;

use super::projection::TOPICS;

/// The views in Redis. Cheap to clone; clones share the connections.
#[derive(Clone)]
pub struct RedisViews {
    inner: Arc<Inner>,
    /// For readers: how many partitions must have been at the log's end.
    whole_partitions: Option<u32>,
    /// The number of the database.
    database: u32,
}

struct Inner {
    names: Names,
    identity: Identity,
    /// Of which generation the views were when the projection began, as they say it: nothing before the first rebuild.
    generation: Mutex<String>,
    /// Whether the views have been this log's since this process began.
    were_ours: AtomicBool,
    reads: Calls,
    writes: Calls,
    read: Script,
    apply: Script,
    confirm: Script,
    moved: Arc<Moved>,
    is_subscribed: tokio::sync::Mutex<bool>,
}

/// A connection, and how long a call on it may take.
struct Calls {
    connection: ConnectionManager,
    timeout: Duration,
}

impl RedisViews {
    /// The views of the log with this id. Connects at the first call, and again whenever the connection is lost. `token`
    /// is a number that no other process has. Must be called in a runtime.
    ///
    /// # Errors
    /// The settings cannot be used.
    pub fn new(config: &RedisConfig, log_id: u128, token: u64) -> Result<Self, RedisConfigError> {
        let client = config.client()?;
        let moved = Arc::new(Moved::default());
        let common = ConnectionManagerConfig::new()
            .set_min_delay(*VIEW_REDIS_RECONNECT.start())
            .set_max_delay(*VIEW_REDIS_RECONNECT.end())
            .set_connection_timeout(Some(config.call_timeout()))
            // Every call has its own time-out.
            .set_response_timeout(None)
            .set_concurrency_limit(VIEW_REDIS_CALLS_MAX)
            .set_pipeline_buffer_size(VIEW_REDIS_CALLS_MAX);
        let pushed = Arc::clone(&moved);
        let listening = common.clone().set_automatic_resubscription().set_push_sender(move |info: redis::PushInfo| {
            pushed.push(&info);
            RedisResult::Ok(())
        });
        let connect = |config| ConnectionManager::new_lazy_with_config(client.clone(), config);
        let inner = Inner {
            names: Names::new(&config.prefix),
            identity: Identity::new(log_id, token),
            generation: Mutex::default(),
            were_ours: AtomicBool::new(false),
            reads: Calls { connection: connect(listening)?, timeout: config.call_timeout() },
            // Batches are large: reads do not wait behind them.
            writes: Calls { connection: connect(common)?, timeout: config.apply_timeout() },
            read: Script::new(include_str!("scripts/read.lua")),
            apply: Script::new(include_str!("scripts/apply.lua")),
            confirm: Script::new(include_str!("scripts/confirm.lua")),
            moved,
            is_subscribed: tokio::sync::Mutex::new(false),
        };
        Ok(Self { inner: Arc::new(inner), whole_partitions: None, database: config.database })
    }

    /// The same views for those who only read: they are refused while the views are not this log's, or not each of the
    /// projection's partitions (so many in all) has been at the log's end.
    pub fn for_readers(&self, partitions: u32) -> Self {
        Self { whole_partitions: Some(partitions), ..self.clone() }
    }

    /// Who applies begins there, with nothing that it has read before.
    fn began_at(&self, position: u64, generation: String) -> u64 {
        if self.whole_partitions.is_none() {
            *self.inner.generation.lock().unwrap_or_else(PoisonError::into_inner) = generation;
        }
        position
    }

    /// Reads ranges of rows as of one moment, and refuses if they are not whole.
    async fn read(&self, ranges: impl IntoIterator<Item = RowRange>) -> Result<Vec<Vec<Bytes>>, ViewError> {
        let mut read = self.inner.read.key(&self.inner.names.views);
        for RowRange { rows, lower, upper, order, limit } in ranges {
            read.key(rows).arg(lower).arg(upper).arg(order).arg(limit);
        }
        let (identity, whole, rows): (String, u32, Vec<Vec<Bytes>>) = self.inner.reads.invoke(&read).await?;
        if let Some(partitions) = self.whole_partitions {
            if identity != self.inner.identity.text() {
                return Err(foreign_views(&identity));
            }
            if whole < partitions {
                return Err(ViewError::Unavailable(format!(
                    "the views in Redis are being rebuilt from the log: {whole} of {partitions} partitions are whole"
                )));
            }
        }
        Ok(rows)
    }
}

/// A range of one owner's rows, as Redis takes it.
struct RowRange {
    rows: String,
    lower: Vec<u8>,
    upper: Vec<u8>,
    order: &'static str,
    limit: usize,
}

impl Inner {
    /// What a script says of the views, if it did nothing.
    async fn outcome(&self, answer: Vec<String>, steps: &[(Topic, u32, u64)]) -> Result<(), ViewError> {
        let [kind, details @ ..] = answer.as_slice() else {
            return Err(ViewError::Unavailable("a script of the views answered nothing".to_owned()));
        };
        match (kind.as_str(), details) {
            ("ok", _) => Ok(()),
            ("overtaken", [index, found]) => {
                let step = index.parse::<usize>().ok().and_then(|index| steps.get(index));
                let (Some(&(topic, partition, expected)), Ok(found)) = (step, found.parse()) else {
                    return Err(ViewError::Corrupt(format!("a position of the views in Redis: {found:?}")));
                };
                Err(ViewError::Overtaken { topic, partition, expected, found })
            }
            ("identity", [found]) => {
                self.take(found).await?;
                // They are ours again, and empty.
                let (topic, partition, expected) = steps.first().copied().unwrap_or((Topic::Timeline, 0, 0));
                Err(ViewError::Overtaken { topic, partition, expected, found: 0 })
            }
            _ => Err(ViewError::Unavailable(format!("a script of the views answered {answer:?}"))),
        }
    }

    /// Makes the views this log's, where something else was found.
    async fn take(&self, found: &str) -> Result<(), ViewError> {
        if found.is_empty() && self.were_ours.load(Ordering::Relaxed) {
            tracing::warn!("Redis has lost the views: they are rebuilt from the log");
        }
        identity::check_keeps_rows(&self.writes.connection, self.writes.timeout).await?;
        let may_drop_foreign = !self.were_ours.load(Ordering::Relaxed);
        self.identity.take(&self.writes, &self.names, may_drop_foreign).await?;
        self.were_ours.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whose views they are, where a partition stands, and of which generation they are.
    async fn position(&self, topic: Topic, partition: u32) -> Result<(String, u64, String), ViewError> {
        let field = layout::position_field(topic, partition);
        let mut get = redis::cmd("HMGET");
        get.arg(&self.names.views).arg("identity").arg(field).arg("generation");
        let (identity, position, generation): (Option<String>, Option<u64>, Option<String>) =
            self.reads.query(&get).await?;
        Ok((identity.unwrap_or_default(), position.unwrap_or_default(), generation.unwrap_or_default()))
    }

    fn generation(&self) -> String {
        self.generation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks to be told of moves, once.
    async fn listen(&self) -> Result<(), ViewError> {
        let mut is_subscribed = self.is_subscribed.lock().await;
        if !*is_subscribed {
            let mut connection = self.reads.connection.clone();
            self.reads.in_time(connection.subscribe(&self.names.channel)).await?;
            *is_subscribed = true;
        }
        Ok(())
    }
}

impl Calls {
    async fn in_time<T>(&self, call: impl Future<Output = RedisResult<T>>) -> Result<T, ViewError> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(answer) => answer.map_err(|error| unavailable(&error)),
            Err(_) => Err(ViewError::Unavailable(format!("Redis does not answer within {:?}", self.timeout))),
        }
    }

    async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, ViewError> {
        self.in_time(command.query_async(&mut self.connection.clone())).await
    }

    async fn invoke<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, ViewError> {
        self.in_time(script.invoke_async(&mut self.connection.clone())).await
    }
}

#[async_trait]
impl ViewStore for RedisViews {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, ViewError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let ranges = keys.iter().map(|key| {
            let (lower, upper) = layout::of_row(&key.sort);
            let rows = self.inner.names.rows(key.table, key.owner);
            RowRange { rows, lower, upper, order: "", limit: 1 }
        });
        let rows = self.read(ranges).await?;
        rows.into_iter()
            .map(|members| members.into_iter().next().map(|row| Ok(layout::row_of(row)?.1)).transpose())
            .collect()
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<(Bytes, Bytes)>, ViewError> {
        let limit = scan.limit.min(VIEW_SCAN_ROWS_MAX);
        let rows = self.inner.names.rows(scan.table, scan.owner);
        let (lower, upper) = layout::range(&scan.from, &scan.to);
        let range = if scan.reverse {
            RowRange { rows, lower: upper, upper: lower, order: "REV", limit }
        } else {
            RowRange { rows, lower, upper, order: "", limit }
        };
        let members = self.read([range]).await?.pop().unwrap_or_default();
        members.into_iter().map(layout::row_of).collect()
    }

    async fn apply(&self, writes: Vec<Write>, moves: Vec<Move>) -> Result<(), ViewError> {
        let inner = &self.inner;
        let mut apply = inner.apply.key(&inner.names.views);
        apply
            .arg(inner.identity.text())
            .arg(inner.generation())
            .arg(&inner.names.channel)
            .arg(moved::message(&moves))
            .arg(moves.len());
        for step in &moves {
            apply.arg(layout::position_field(step.topic, step.partition)).arg(step.from).arg(step.to);
        }
        let mut keys = hashbrown::HashMap::new();
        for write in &writes {
            let (Write::Put(key, _) | Write::Delete(key) | Write::DeleteBelow(key)) = write;
            // The first key is the views' own, and Lua counts from one.
            let next = keys.len() + 2;
            let index = *keys.entry((key.table, key.owner)).or_insert_with(|| {
                apply.key(inner.names.rows(key.table, key.owner));
                next
            });
            match write {
                Write::Put(key, value) => {
                    layout::check(key)?;
                    let (lower, upper) = layout::of_row(&key.sort);
                    let member = layout::member(&key.sort, value);
                    apply.arg("p").arg(index).arg(lower).arg(upper).arg(member);
                }
                Write::Delete(key) => {
                    let (lower, upper) = layout::of_row(&key.sort);
                    apply.arg("d").arg(index).arg(lower).arg(upper);
                }
                Write::DeleteBelow(key) => {
                    apply.arg("b").arg(index).arg(layout::below(&key.sort));
                }
            }
        }
        let steps: Vec<_> = moves.iter().map(|step| (step.topic, step.partition, step.from)).collect();
        let answer = inner.writes.invoke(&apply).await?;
        inner.outcome(answer, &steps).await
    }

    async fn confirm(&self, positions: Vec<Position>, at_end: bool) -> Result<(), ViewError> {
        let inner = &self.inner;
        let mut confirm = inner.confirm.key(&inner.names.views);
        confirm.arg(inner.identity.text()).arg(inner.generation());
        for at in &positions {
            let is_read = TOPICS.contains(&at.topic);
            let mark = if at_end && is_read { layout::whole_field(at.topic, at.partition) } else { String::new() };
            confirm.arg(layout::position_field(at.topic, at.partition)).arg(at.next_offset).arg(mark);
        }
        let steps: Vec<_> = positions.iter().map(|at| (at.topic, at.partition, at.next_offset)).collect();
        let answer = inner.writes.invoke(&confirm).await?;
        inner.outcome(answer, &steps).await
    }

    async fn position(&self, topic: Topic, partition: u32) -> Result<u64, ViewError> {
        let (identity, position, generation) = self.inner.position(topic, partition).await?;
        if identity == self.inner.identity.text() {
            return Ok(self.began_at(position, generation));
        }
        if self.whole_partitions.is_some() {
            return Err(foreign_views(&identity));
        }
        self.inner.take(&identity).await?;
        let (_, position, generation) = self.inner.position(topic, partition).await?;
        Ok(self.began_at(position, generation))
    }

    async fn wait_past(&self, topic: Topic, partition: u32, offset: u64, timeout: Duration) -> Result<(), ViewError> {
        let inner = &self.inner;
        let mut moved = inner.moved.subscribe(topic, partition);
        let mut problem = String::new();
        let passed = async {
            loop {
                moved.mark_unchanged();
                // Listened for before it is looked at: whatever moves from then on is told.
                let looked = async {
                    inner.listen().await?;
                    inner.position(topic, partition).await
                };
                match looked.await {
                    Ok((identity, position, _)) if identity == inner.identity.text() && position > offset => return,
                    Ok(_) => problem.clear(),
                    // A moment without Redis is not yet too long.
                    Err(error) => problem = format!(": {error}"),
                }
                // What was told before the look is not news, and may have been taken back since.
                let told = async { while moved.changed().await.is_ok() && *moved.borrow_and_update() <= offset {} };
                // A message can be lost, with its connection.
                let _ = tokio::time::timeout(VIEW_REDIS_POLL, told).await;
            }
        };
        let in_time = tokio::time::timeout(timeout, passed).await;
        in_time.map_err(|_| {
            let name = topic.name();
            ViewError::Unavailable(format!("{name}/{partition} was not applied past {offset} in {timeout:?}{problem}"))
        })
    }
}

impl std::fmt::Debug for RedisViews {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RedisViews").field("names", &self.inner.names).finish_non_exhaustive()
    }
}

/// What Redis refuses now it may take later, once somebody has looked after it: only rows of another form never.
fn unavailable(error: &RedisError) -> ViewError {
    match error.code() {
        Some("WRONGTYPE") => ViewError::Corrupt(error.to_string()),
        _ => ViewError::Unavailable(error.to_string()),
    }
}
