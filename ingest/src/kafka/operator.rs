//! What operators' commands ask of a log on Kafka as a whole: who is at work on it, and that it be deleted.

use rdkafka::consumer::Consumer as _;
use tidings_schemas::topics::Topic;

use super::copying;
use super::identity;
use super::topics::{Topics, exists};
use super::{KafkaLog, config::KafkaConfig};
use crate::error::LogError;

impl KafkaLog {
    /// The groups of this log in which there is somebody, without the prefix, each with how many. (Edges are in none.)
    ///
    /// # Errors
    /// [`LogError::Unavailable`]; [`LogError::Mismatch`] when settings are missing.
    pub fn members(config: &KafkaConfig) -> Result<Vec<(String, usize)>, LogError> {
        let (_, asking, _) = Self::clients(config)?;
        let groups = asking.fetch_group_list(None, config.request_timeout());
        let groups = groups.map_err(|error| asking.context().unavailable(&error))?;
        let mut found = Vec::new();
        for group in groups.groups().iter().filter(|group| !group.members().is_empty()) {
            // A longer prefix is another log's.
            if let Some(name) = group.name().strip_prefix(&config.topic_prefix).filter(|name| !name.contains('.')) {
                found.push((name.to_owned(), group.members().len()));
            }
        }
        Ok(found)
    }

    /// The topics that are there under this prefix, of a log or of a copy that was not finished.
    ///
    /// # Errors
    /// As [`KafkaLog::members`].
    pub fn topics(config: &KafkaConfig) -> Result<Vec<String>, LogError> {
        let (client, asking, counters) = Self::clients(config)?;
        Self::topics_by(&Topics::new(config, &client, &asking, &counters)?)
    }

    fn topics_by(topics: &Topics<'_>) -> Result<Vec<String>, LogError> {
        let metadata = topics.metadata()?;
        let config = topics.config;
        let others = [identity::TOPIC, copying::TOPIC].map(|name| format!("{}{name}", config.topic_prefix));
        let names = Topic::ALL.into_iter().map(|topic| config.topic_name(topic)).chain(others);
        Ok(names.filter(|name| exists(&metadata, name)).collect())
    }

    /// Deletes them, for good; tells which they were. What says that a copy is not finished goes last.
    ///
    /// # Errors
    /// As [`KafkaLog::members`]. It can be gone on with.
    pub fn delete(config: &KafkaConfig) -> Result<Vec<String>, LogError> {
        let (client, asking, counters) = Self::clients(config)?;
        let topics = Topics::new(config, &client, &asking, &counters)?;
        let names = Self::topics_by(&topics)?;
        let mark = format!("{}{}", config.topic_prefix, copying::TOPIC);
        let (last, first): (Vec<String>, Vec<String>) = names.iter().cloned().partition(|name| *name == mark);
        for names in [first, last].iter().filter(|names| !names.is_empty()) {
            topics.delete(names)?;
        }
        Ok(names)
    }
}
