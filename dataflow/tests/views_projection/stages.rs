//! The views behind the real stages: the rows are the plain model's, and who is where is what the stage's own model says.

use std::{collections::BTreeMap, sync::Arc};

use prometheus_client::registry::Registry;
use prost::Message;
use tidings_dataflow::{
    conversations::model::Model as StageModel,
    host::{self, HostConfig},
    views::projection::ProjectionConfig,
};
use tidings_ingest::{Log, LogExt, NewRecord};
use tidings_schemas::{
    clock::SystemClock,
    ids::{ConversationId, UserId},
    topics::Topic,
    views::ViewStore,
    wire::{self, Role},
};

use crate::{Bench, PARTITIONS, WAIT, config, history::History, rows};

async fn append_events(log: &dyn Log, partition: u32, history: &mut History, count: usize) {
    let record = |event: tidings_ingest::StoredRecord| NewRecord {
        topic: Topic::Events,
        partition,
        key: event.key,
        value: event.value,
    };
    log.append(history.take(count).into_iter().map(record).collect()).await.unwrap();
}

/// What the stage's own model says of everything in `events`.
fn stage_models(log: &dyn Log) -> (Vec<StageModel>, Vec<ConversationId>) {
    let mut conversations = Vec::new();
    let models = (0..PARTITIONS.conversations).map(|partition| {
        let mut model = StageModel::new(PARTITIONS, partition, config().group_members_max);
        let mut reader = log.reader(Topic::Events, partition, 0).unwrap();
        let mut events = Vec::new();
        while reader.poll(1 << 20, &mut events).unwrap() > 0 {}
        for event in &events {
            model.apply(event);
            let id = wire::Event::decode(event.value.clone()).ok().and_then(|event| event.conversation_id);
            conversations.extend(id.map(ConversationId::from));
        }
        model
    });
    (models.collect(), conversations)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_the_real_stages_the_views_say_who_is_where() {
    for seed in crate::seeds(2) {
        println!("TIDINGS_SEED={seed}");
        let context = format!("TIDINGS_SEED={seed}");
        let bench = Bench::new();
        let views = bench.open_views();
        let handle = bench.start(Arc::new(views.clone()), &ProjectionConfig::default());
        let mut histories: Vec<History> =
            (0..u64::from(PARTITIONS.conversations)).map(|partition| History::new(seed ^ partition)).collect();
        for _ in 0..3 {
            // Without checkpoints a host that starts again says everything again.
            let config = HostConfig { conversations: config(), ..HostConfig::default() };
            let clock = Arc::new(SystemClock::new());
            let host = host::start(
                config,
                &host::all_shards(&*bench.log),
                Arc::clone(&bench.log),
                clock,
                &mut Registry::default(),
            )
            .unwrap();
            for _ in 0..40 {
                for (partition, history) in (0..).zip(&mut histories) {
                    append_events(&*bench.log, partition, history, 20).await;
                }
            }
            for partition in 0..PARTITIONS.conversations {
                let end = bench.log.range(Topic::Events, partition).unwrap().end;
                views.wait_past(Topic::Events, partition, end - 1, WAIT).await.unwrap();
            }
            host.shutdown().await;
        }
        bench.check(&views, &context).await;

        let (models, conversations) = stage_models(&*bench.log);
        let rows = rows::read(&views, &bench.model()).await;
        let mut present = 0;
        for id in conversations {
            let expected: BTreeMap<UserId, Role> = models.iter().flat_map(|model| model.members(id)).collect();
            let found: BTreeMap<UserId, Role> = rows
                .members
                .range((id, UserId(0))..=(id, UserId(u128::MAX)))
                .filter(|(_, row)| row.role() != Role::Unspecified)
                .map(|((_, user), row)| (*user, row.role()))
                .collect();
            assert_eq!(found, expected, "{context}: the members of {id}");
            for user in expected.keys() {
                assert!(rows.user_conversations.contains_key(&(*user, id)), "{context}: {user} is in {id}");
            }
            let last_seq = models.iter().map(|model| model.last_seq(id)).max().unwrap();
            assert_eq!(rows.conversations.get(&id).map_or(0, |row| row.last_seq), last_seq, "{context}: {id}");
            present += expected.len();
        }
        assert!(present > 0, "{context}: nobody is anywhere");
        handle.shutdown().await;
    }
}
