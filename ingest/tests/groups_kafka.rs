//! Processes share partitions out among themselves, on a real broker: joining, leaving, dying and coming back.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests, and they measure time"
)]

#[path = "support/broker.rs"]
mod broker;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tidings_ingest::{Assignment, Groups as _, KafkaConfig, KafkaLog, Membership, PartitionCounts};
use tidings_schemas::topics::Topic;
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_secs(30);
const TOPICS: [Topic; 2] = [Topic::Events, Topic::Fanout];
const ALL: usize = 12;
const GROUP: &str = "dataflow";
const CHILD_PREFIX: &str = "TIDINGS_TEST_GROUP_PREFIX";
const CHILD_BROKERS: &str = "TIDINGS_TEST_GROUP_BROKERS";

type Owned = BTreeSet<(Topic, u32)>;

fn settings() -> KafkaConfig {
    let counts = PartitionCounts { conversations: 6, recipients: 6, ..PartitionCounts::default() };
    KafkaConfig { partitions: Some(counts), ..broker::settings(broker::shared()) }
}

struct Member {
    _log: KafkaLog,
    membership: Box<dyn Membership>,
    assigned: watch::Receiver<Assignment>,
}

impl Member {
    fn join(config: &KafkaConfig) -> Self {
        let log = broker::open(config);
        let membership = log.join(GROUP, &TOPICS).unwrap();
        let assigned = membership.assigned();
        Self { _log: log, membership, assigned }
    }

    fn owned(&self) -> Owned {
        self.assigned.borrow().partitions.clone()
    }

    /// Waits for an assignment that is as it should be; stops at once what it has to, if `stops`.
    async fn wait(&mut self, stops: bool, is_it: impl Fn(&Owned) -> bool) -> Owned {
        let waiting = async {
            loop {
                let Assignment { generation, partitions } = self.assigned.borrow_and_update().clone();
                if stops {
                    self.membership.settled(generation);
                }
                if is_it(&partitions) {
                    return partitions;
                }
                self.assigned.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(owned) => owned,
            Err(_) => panic!("it does not get there: {:?}", self.owned()),
        }
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(test)
}

#[test]
#[ignore = "needs Kafka: ./ops/test kafka"]
fn who_joins_is_given_a_share_once_it_has_been_let_go() {
    let config = settings();
    run(async {
        let mut first = Member::join(&config);
        let all = first.wait(true, |owned| owned.len() == ALL).await;
        let mut second = Member::join(&config);
        // The first is told what to stop; until it has, nobody else has it.
        let kept = first.wait(false, |owned| owned.len() < ALL).await;
        assert_eq!(second.owned(), Owned::new());
        assert_eq!(kept.len(), ALL / 2, "only what must move does");
        first.membership.settled(first.assigned.borrow().generation);
        let got = second.wait(true, |owned| owned.len() == ALL / 2).await;
        assert_eq!(first.owned(), kept);
        assert_eq!(&got | &kept, all);
        // A third: each of the two gives up a third of its own, and the two keep the rest.
        let mut third = Member::join(&config);
        let stop_first = first.wait(true, |owned| owned.len() == ALL / 3);
        let stop_second = second.wait(true, |owned| owned.len() == ALL / 3);
        let (kept_first, kept_second) = tokio::join!(stop_first, stop_second);
        let got_third = third.wait(true, |owned| owned.len() == ALL / 3).await;
        assert!(kept_first.is_subset(&kept) && kept_second.is_subset(&got));
        assert_eq!(&(&kept_first | &kept_second) | &got_third, all);
    });
}

#[test]
#[ignore = "needs Kafka: ./ops/test kafka"]
fn who_does_not_stop_in_time_is_not_waited_for() {
    let config = KafkaConfig { handover_timeout_ms: 500, ..settings() };
    run(async {
        let mut stubborn = Member::join(&config);
        stubborn.wait(true, |owned| owned.len() == ALL).await;
        let mut second = Member::join(&config);
        second.wait(true, |owned| owned.len() == ALL / 2).await;
        assert_eq!(stubborn.owned().len(), ALL / 2, "it was told");
    });
}

#[test]
#[ignore = "needs Kafka: ./ops/test kafka"]
fn what_a_leaving_member_had_is_taken_over_at_once() {
    let config = settings();
    run(async {
        let mut first = Member::join(&config);
        first.wait(true, |owned| owned.len() == ALL).await;
        let mut second = Member::join(&config);
        let (_, _) = tokio::join!(
            first.wait(true, |owned| owned.len() == ALL / 2),
            second.wait(true, |owned| owned.len() == ALL / 2)
        );
        let Member { membership, .. } = second;
        let started = Instant::now();
        membership.leave();
        first.wait(true, |owned| owned.len() == ALL).await;
        let took = started.elapsed();
        println!("taken over {took:?} after leaving");
        assert!(took < Duration::from_secs(3), "{took:?}");
    });
}

/// A member in a process of its own, which can be killed and stopped.
struct ChildMember {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl ChildMember {
    fn start(config: &KafkaConfig) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "child_member", "--nocapture"])
            .env(CHILD_PREFIX, &config.topic_prefix)
            .env(CHILD_BROKERS, &config.brokers)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits until it says that it owns so many.
    fn wait(&mut self, count: usize) {
        let expected = format!("owned {count}");
        // The test's name may stand before it on the line.
        let found = self.lines.by_ref().map_while(Result::ok).find(|line| line.ends_with(&expected));
        assert!(found.is_some(), "the child has ended");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for ChildMember {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "needs Kafka: ./ops/test kafka"]
fn child_member() {
    let (Ok(topic_prefix), Ok(brokers)) = (std::env::var(CHILD_PREFIX), std::env::var(CHILD_BROKERS)) else { return };
    let config = KafkaConfig { topic_prefix, brokers, ..KafkaConfig::default() };
    run(async {
        let mut member = Member::join(&config);
        loop {
            let Assignment { generation, partitions } = member.assigned.borrow_and_update().clone();
            println!("owned {}", partitions.len());
            member.membership.settled(generation);
            member.assigned.changed().await.unwrap();
        }
    });
}

#[test]
#[ignore = "needs Kafka: ./ops/test kafka"]
fn what_a_killed_process_had_is_taken_over_within_seconds() {
    let config = settings();
    run(async {
        let mut first = Member::join(&config);
        first.wait(true, |owned| owned.len() == ALL).await;
        let mut child = ChildMember::start(&config);
        let kept = first.wait(true, |owned| owned.len() == ALL / 2).await;
        child.wait(ALL / 2);
        let started = Instant::now();
        child.signal("-KILL");
        let all = first.wait(true, |owned| owned.len() == ALL).await;
        let took = started.elapsed();
        println!("taken over {took:?} after SIGKILL");
        assert!(kept.is_subset(&all));
        assert!(took < Duration::from_secs(5), "{took:?}");
    });
}

#[test]
#[ignore = "needs Kafka: ./ops/test kafka"]
fn a_process_that_was_away_for_too_long_is_told_what_it_lost() {
    let config = settings();
    run(async {
        let mut first = Member::join(&config);
        first.wait(true, |owned| owned.len() == ALL).await;
        let mut child = ChildMember::start(&config);
        first.wait(true, |owned| owned.len() == ALL / 2).await;
        child.wait(ALL / 2);
        child.signal("-STOP");
        first.wait(true, |owned| owned.len() == ALL).await;
        child.signal("-CONT");
        let started = Instant::now();
        child.wait(0);
        println!("told {:?} after it woke up", started.elapsed());
        // And it is a member again.
        first.wait(true, |owned| owned.len() == ALL / 2).await;
        child.wait(ALL / 2);
    });
}
