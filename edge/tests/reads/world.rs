//! A log with both stages and the views, and events put on it as an edge would.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use prost::Message as _;
use tidings_dataflow::{
    host::{self, HostConfig},
    views::{
        projection::{self, ProjectionConfig},
        store::{FjallViews, StoreConfig},
    },
};
use tidings_edge::read::{HistoryCache, Reads};
use tidings_ingest::{EmbeddedConfig, EmbeddedLog, Log, LogExt as _, NewRecord};
use tidings_schemas::{
    clock::{Clock, SystemClock, SystemEntropy},
    ids::{ConversationId, UserId},
    limits::VIEW_WAIT_TIMEOUT,
    topics::{Partitions, Topic, conversation_partition},
    views::ViewStore,
    wire::{self, event::Body},
};

use crate::log_history::LogHistory;

pub(crate) const ANN: UserId = UserId(0xa);
pub(crate) const BOB: UserId = UserId(0xb);
pub(crate) const GROUP: ConversationId = ConversationId(0x6);

pub(crate) struct World {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) views: Arc<dyn ViewStore>,
    clock: SystemClock,
    _projection: projection::Handle,
    _host: host::Handle,
    _folder: tempfile::TempDir,
}

impl World {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = SystemClock::new();
        let shared: Arc<dyn Clock> = Arc::new(clock);
        let config = EmbeddedConfig { directory: folder.path().join("log"), ..EmbeddedConfig::default() };
        let log = EmbeddedLog::open(&config, Arc::clone(&shared), Arc::new(SystemEntropy)).unwrap();
        let log: Arc<dyn Log> = Arc::new(log);
        let views = FjallViews::open(&folder.path().join("views"), log.log_id(), &StoreConfig::default()).unwrap();
        let views: Arc<dyn ViewStore> = Arc::new(views);
        let mut registry = Registry::default();
        let host =
            host::start(HostConfig::default(), &host::all_shards(&*log), Arc::clone(&log), shared, &mut registry)
                .unwrap();
        let projection = projection::start(
            &ProjectionConfig::default(),
            projection::all_partitions(&*log),
            Arc::clone(&log),
            Arc::clone(&views),
            tokio::runtime::Handle::current(),
            &mut registry,
        )
        .unwrap();
        Self { log, views, clock, _projection: projection, _host: host, _folder: folder }
    }

    /// Puts events of the group on the log and waits until the views have them. Gives the offset of the last.
    pub(crate) async fn events(&self, events: impl IntoIterator<Item = (UserId, Body)>) -> u64 {
        let partition = conversation_partition(GROUP, self.log.partitions(Topic::Events));
        let records = events.into_iter().map(|(actor, body)| {
            let event = wire::Event {
                conversation_id: Some(GROUP.into()),
                actor_id: Some(actor.into()),
                stamped_at_ms: self.clock.now_ms(),
                origin: None,
                body: Some(body),
            };
            let value = event.encode_to_vec().into();
            NewRecord { topic: Topic::Events, partition, key: GROUP.to_bytes().to_vec().into(), value }
        });
        let offset = *self.log.append(records.collect()).await.unwrap().last().unwrap();
        self.views.wait_past(Topic::Events, partition, offset, VIEW_WAIT_TIMEOUT).await.unwrap();
        offset
    }

    /// A group of Ann and Bob in which Ann has sent so many messages, `2` to `count + 1`.
    pub(crate) async fn group(&self, count: u64) {
        let create = wire::CreateConversation {
            kind: wire::ConversationKind::Group.into(),
            title: "Friends".to_owned(),
            member_ids: vec![BOB.into()],
        };
        let sends = (2..count + 2).map(|seq| (ANN, send(&seq.to_string(), &format!("message {seq}"))));
        self.events([(ANN, Body::CreateConversation(create))].into_iter().chain(sends)).await;
    }

    /// Reads with a history that has got so far and keeps so much.
    pub(crate) fn reads(&self, arrived_below: u64, kept_from_seq: u64) -> Reads {
        let history = LogHistory { log: Arc::clone(&self.log), arrived_below, kept_from_seq };
        Reads::new(Arc::clone(&self.views), Some(Arc::new(history)), self.partitions())
    }

    /// Reads with all of the history, behind a cache.
    pub(crate) fn cached_reads(&self) -> Reads {
        let history = LogHistory { log: Arc::clone(&self.log), arrived_below: u64::MAX, kept_from_seq: 0 };
        let cache = HistoryCache::new(Arc::new(history), 1 << 20, Arc::new(self.clock), &mut Registry::default());
        Reads::new(Arc::clone(&self.views), Some(cache), self.partitions())
    }

    pub(crate) fn partitions(&self) -> Partitions {
        self.log.partition_counts()
    }
}

pub(crate) fn send(client_message_id: &str, text: &str) -> Body {
    Body::Send(wire::Send {
        client_message_id: client_message_id.to_owned(),
        text: text.to_owned(),
        ..wire::Send::default()
    })
}
