//! The topics of a log that is being copied here. A topic of its own holds the plan for as long as that takes: while it is there,
//! the others are no log. They take a record's time from its producer and keep everything; when all is there, they get the
//! settings that a log's topics have, then the log its identity, and at last that topic goes.

use std::time::Duration;

use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::metadata::Metadata;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tidings_schemas::clock::Clock;

use super::first_record;
use super::identity::{self, Identity};
use super::topics::{IN_SYNC, Topics, Wanted, exists, wait};
use crate::bulk::BulkPlan;
use crate::error::LogError;

/// The topic with the plan, after the prefix.
pub(crate) const TOPIC: &str = "import.v1";
/// Between two looks at whether the brokers have done what they were told.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// What a log's topics have otherwise, while they are filled. (The last one: a record may be from the future.)
const MEANWHILE: [(&str, &str); 4] = [
    ("message.timestamp.type", "CreateTime"),
    ("retention.ms", "-1"),
    ("retention.bytes", "-1"),
    ("message.timestamp.after.max.ms", "9223372036854775807"),
];
const HINT: &str = "name another kafka.topic_prefix";

impl Topics<'_> {
    /// Refuses to take for a log what is being copied.
    pub(crate) fn refuse_unfinished(&self, metadata: &Metadata) -> Result<(), LogError> {
        if !exists(metadata, &self.prefixed(TOPIC)) {
            return Ok(());
        }
        let hint = "run the same command again, or delete its topics (`tidings erase --drop-prefix PREFIX`)";
        Err(self.refusal("a copy of a log into its topics was not finished".to_owned(), hint))
    }

    fn prefixed(&self, name: &str) -> String {
        format!("{}{name}", self.config.topic_prefix)
    }

    /// The plan of a copy that was not finished.
    pub(crate) fn unfinished(&self) -> Result<Option<BulkPlan>, LogError> {
        let metadata = self.metadata()?;
        if !exists(&metadata, &self.prefixed(TOPIC)) || self.range_of(TOPIC)?.1 == 0 {
            return Ok(None);
        }
        self.plan().map(Some)
    }

    fn plan(&self) -> Result<BulkPlan, LogError> {
        let topic = self.prefixed(TOPIC);
        let value = first_record::read(self.config, self.client, self.context("plan"), &topic)?;
        serde_json::from_slice(&value).map_err(|error| {
            self.refusal(format!("the first record of {topic} is not the plan of a copy ({error})"), HINT)
        })
    }

    /// Makes the topics for a copy by this plan, or finds those of an attempt before. False: that one was done.
    pub(crate) fn begin_copy(&self, plan: &BulkPlan) -> Result<bool, LogError> {
        self.check(&plan.partitions)?;
        let metadata = self.metadata()?;
        let wanted = self.wanted(plan.partitions);
        let is_begun = exists(&metadata, &self.prefixed(TOPIC));
        let meta = self.prefixed(identity::TOPIC);
        let there = wanted.iter().map(|wanted| &wanted.name).chain([&meta]).find(|name| exists(&metadata, name));
        if let Some(there) = there.filter(|_| !is_begun) {
            return Err(self.refusal(format!("there is {there} already"), HINT));
        }
        self.make(&[self.kept_for_good(TOPIC)], &metadata)?;
        if self.range_of(TOPIC)?.1 == 0 {
            let value = serde_json::to_vec(plan).unwrap_or_default();
            first_record::write(self.config, self.client, &self.prefixed(TOPIC), &value)?;
        }
        if self.plan()? != *plan {
            let what = "a copy of something else into its topics was begun".to_owned();
            let hint =
                "finish that one, delete its topics (`tidings erase --drop-prefix PREFIX`), or name another prefix";
            return Err(self.refusal(what, hint));
        }
        if exists(&metadata, &meta) && self.range_of(identity::TOPIC)?.1 > 0 {
            // Only the last step was missing.
            self.identify(plan, None)?;
            self.forget_plan()?;
            return Ok(false);
        }
        let meanwhile = |mut wanted: Wanted| {
            wanted.settings.retain(|(key, _)| MEANWHILE.iter().all(|(other, _)| key != other));
            wanted.settings.extend(MEANWHILE.map(|(key, value)| (key, value.to_owned())));
            wanted
        };
        self.make(&wanted.into_iter().map(meanwhile).collect::<Vec<_>>(), &metadata)?;
        Ok(true)
    }

    /// Makes a log of topics that have all.
    pub(crate) fn finish_copy(&self, plan: &BulkPlan, clock: &dyn Clock) -> Result<(), LogError> {
        self.settle(plan)?;
        self.identify(plan, Some(clock))?;
        self.forget_plan()
    }

    /// Gives the topics the settings that a log's have.
    fn settle(&self, plan: &BulkPlan) -> Result<(), LogError> {
        let metadata = self.metadata()?;
        let mut wanted = self.wanted(plan.partitions);
        if self.replicas(&metadata) >= 3 {
            wanted.iter_mut().for_each(|wanted| wanted.settings.push((IN_SYNC.0, IN_SYNC.1.to_owned())));
        }
        let altered: Vec<AlterConfig<'_>> = wanted
            .iter()
            .map(|wanted| {
                let alter = AlterConfig::new(ResourceSpecifier::Topic(&wanted.name));
                wanted.settings.iter().fold(alter, |alter, (key, value)| alter.set(key, value))
            })
            .collect();
        wait(self.admin.alter_configs(&altered, &self.options())).map_err(|error| self.unavailable(&error))?;
        // Whether each was taken is not told, so it is looked at.
        let mut left = self.config.request_timeout();
        while !self.have_their_settings(&wanted)? {
            left = left.saturating_sub(LOOK_INTERVAL);
            if left.is_zero() {
                let what = "its topics do not take the settings of a log".to_owned();
                return Err(self.refusal(what, "it needs the right to alter the topics' configuration: run it again"));
            }
            while self.asking.poll(LOOK_INTERVAL).is_some() {}
        }
        self.check_settings(&wanted)
    }

    fn have_their_settings(&self, wanted: &[Wanted]) -> Result<bool, LogError> {
        let asked: Vec<_> = wanted.iter().map(|wanted| ResourceSpecifier::Topic(&wanted.name)).collect();
        let described = wait(self.admin.describe_configs(&asked, &self.options()));
        let described = described.map_err(|error| self.unavailable(&error))?;
        Ok(wanted.iter().zip(described).all(|(wanted, described)| {
            described.is_ok_and(|described| {
                wanted.settings.iter().all(|(key, value)| {
                    described.get(key).and_then(|entry| entry.value.as_ref()).is_some_and(|there| there == value)
                })
            })
        }))
    }

    /// The log has the plan's identity; it is written with a clock.
    fn identify(&self, plan: &BulkPlan, clock: Option<&dyn Clock>) -> Result<(), LogError> {
        let there = self.agree(&self.metadata()?, || match clock {
            Some(clock) => Ok(Identity::of(plan.log_id, clock, plan.partitions)),
            None => Err(self.refusal("its identity is gone".to_owned(), HINT)),
        })?;
        if there.log_id() != plan.log_id || there.partitions != plan.partitions {
            return Err(self.refusal("there is a log already".to_owned(), HINT));
        }
        Ok(())
    }

    fn forget_plan(&self) -> Result<(), LogError> {
        self.delete(&[self.prefixed(TOPIC)])
    }

    /// Deletes topics, and waits until nobody is told of them any more.
    pub(crate) fn delete(&self, names: &[String]) -> Result<(), LogError> {
        let asked: Vec<&str> = names.iter().map(String::as_str).collect();
        let deleted = wait(self.admin.delete_topics(&asked, &self.options()));
        for deleted in deleted.map_err(|error| self.unavailable(&error))? {
            if let Err((name, error)) = deleted
                && error != rdkafka::error::RDKafkaErrorCode::UnknownTopicOrPartition
            {
                let what = format!("topic {name} cannot be deleted ({error})");
                return Err(self.refusal(what, "it needs the right to delete topics: run it again"));
            }
        }
        let mut left = self.config.request_timeout();
        loop {
            let metadata = self.metadata()?;
            if !names.iter().any(|name| exists(&metadata, name)) {
                return Ok(());
            }
            left = left.saturating_sub(LOOK_INTERVAL);
            if left.is_zero() {
                return Err(LogError::Unavailable { reason: "topics that were deleted are still there".into() });
            }
            while self.asking.poll(LOOK_INTERVAL).is_some() {}
        }
    }

    /// Lets partitions begin with these offsets.
    pub(crate) fn delete_records(&self, until: &[(&str, u32, u64)]) -> Result<(), LogError> {
        let mut list = TopicPartitionList::new();
        for (name, partition, offset) in until {
            let partition = i32::try_from(*partition).unwrap_or(i32::MAX);
            let offset = Offset::Offset(i64::try_from(*offset).unwrap_or(i64::MAX));
            list.add_partition_offset(name, partition, offset).map_err(|error| self.unavailable(&error))?;
        }
        let done = wait(self.admin.delete_records(&list, &self.options())).map_err(|error| self.unavailable(&error))?;
        for element in done.elements() {
            element.error().map_err(|error| self.unavailable(&error))?;
        }
        Ok(())
    }

    fn options(&self) -> AdminOptions {
        let timeout = Some(self.config.request_timeout());
        AdminOptions::new().request_timeout(timeout).operation_timeout(timeout)
    }

    fn unavailable(&self, error: &KafkaError) -> LogError {
        self.asking.context().unavailable(error)
    }
}
