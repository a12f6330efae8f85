//! What is to be rebuilt, and what comes of it: as the command line says it, and as it goes to the program that runs.

use serde::{Deserialize, Serialize};
use tidings_replay::{
    Span,
    rebuild::{archive::ArchiveReport, views::ViewsReport},
};
use tidings_schemas::topics::Topic;

/// What is to be rebuilt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) what: What,
    /// The old ones stay in use.
    pub(crate) beside: bool,
    /// How many differences are told (of each table).
    pub(crate) show: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    Views,
    /// Whole tables of these topics.
    Archive(Vec<String>),
    /// The rows of these records.
    ArchiveSpans(Vec<SpanOf>),
}

/// Records of one partition.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SpanOf {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl SpanOf {
    pub(crate) fn of(span: &Span) -> Self {
        let (topic, partition) = (span.topic.name().to_owned(), span.partition);
        Self { topic, partition, start: span.offsets.start, end: span.offsets.end }
    }

    /// Nothing, where there is no such topic.
    pub(crate) fn span(&self) -> Option<Span> {
        let topic = Topic::from_name(&self.topic)?;
        let offsets = self.start..self.end.max(self.start);
        Some(Span { topic, partition: self.partition, kept: offsets.clone(), offsets })
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    Views(ViewsReport),
    Archive(ArchiveReport),
}
