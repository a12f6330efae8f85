//! Presence watches end with their session, in whichever partition the watched are.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use serde_json::json;
use tidings_ingest::NewRecord;
use tidings_schemas::{
    ids::{UserId, unpack_user_ids},
    topics::{Topic, user_partition},
    wire::{self, delivery_record, signal},
};

use crate::support::{Backend, client::PATIENCE};

/// What the signals of each partition leave watched, by partition and session.
type Left = BTreeMap<(u32, u64), BTreeSet<u128>>;

impl Backend {
    fn watches(&self) -> Left {
        let mut left = Left::new();
        for signal in self.signals() {
            match signal {
                (partition, signal::Body::WatchPresence(watch)) => {
                    let users = unpack_user_ids(&watch.user_ids).map(|user| user.0);
                    left.entry((partition, watch.session_id)).or_default().extend(users);
                }
                (partition, signal::Body::UnwatchPresence(watch)) => {
                    let watched = left.entry((partition, watch.session_id)).or_default();
                    unpack_user_ids(&watch.user_ids).for_each(|user| _ = watched.remove(&user.0));
                }
                _ => {}
            }
        }
        left.retain(|_, users| !users.is_empty());
        left
    }

    fn signals(&self) -> Vec<(u32, signal::Body)> {
        let mut found = Vec::new();
        for partition in 0..self.log.partitions(Topic::Signals) {
            let range = self.log.range(Topic::Signals, partition).unwrap();
            let mut reader = self.log.reader(Topic::Signals, partition, range.start).unwrap();
            let mut records = Vec::new();
            while reader.poll(1 << 20, &mut records).unwrap() > 0 {}
            for record in records {
                let record = wire::SignalRecord::decode(record.value).unwrap();
                found.extend(record.signals.into_iter().filter_map(|signal| Some((partition, signal.body?))));
            }
        }
        found
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let held = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, held).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_ends_watches_nobody_in_any_partition() {
    let backend = Backend::start();
    let edge = backend.edge(|_| {});
    let ann = edge.user("ann").await;
    let users: Vec<UserId> = (1..=64).map(|number| UserId::random(number << 64 | number)).collect();
    let ids: Vec<String> = users.iter().map(UserId::to_string).collect();
    let partitions = backend.log.partitions(Topic::Signals);
    let in_partitions: BTreeSet<u32> = users.iter().map(|user| user_partition(*user, partitions)).collect();
    assert!(in_partitions.len() > 1, "all of them in one partition show nothing");

    for is_clean in [true, false] {
        let mut client = ann.connect("phone").await;
        assert!(client.call("watch_presence", json!({"user_ids": ids})).await["ok"].is_object());
        assert!(client.call("unwatch_presence", json!({"user_ids": [ids[0]]})).await["ok"].is_object());
        until("all are watched", || backend.watches().values().map(BTreeSet::len).sum::<usize>() == ids.len() - 1)
            .await;
        assert!(backend.watches().len() >= in_partitions.len() - 1);
        if is_clean {
            client.leave().await;
        } else {
            drop(client);
        }
        until("nobody is watched", || backend.watches().is_empty()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_whose_end_was_lost_ends_at_the_first_thing_it_is_told() {
    let backend = Backend::start();
    let _edge = backend.edge(|_| {});
    let watched = UserId::random(7);
    let presence =
        wire::Presence { user_id: Some(watched.into()), online: true, last_seen_at_ms: 1, session_ids: vec![0xdead] };
    let record = wire::DeliveryRecord { source: None, body: Some(delivery_record::Body::Presence(presence)) };
    let value = record.encode_to_vec().into();
    let record = NewRecord { topic: Topic::Deliveries, partition: 0, key: Default::default(), value };
    backend.log.append_with(vec![record], Box::new(|appended| assert!(appended.is_ok())));
    let partition = user_partition(watched, backend.log.partitions(Topic::Signals));
    until("the stage is told", || {
        backend.signals().iter().any(|(of, signal)| {
            matches!(signal, signal::Body::UnwatchPresence(watch)
                if *of == partition && watch.session_id == 0xdead && watch.user_ids.is_empty())
        })
    })
    .await;
}
