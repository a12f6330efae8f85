//! How records are written: as a table, as JSON lines, byte for byte.

use std::io::{self, Write};

use tidings_ingest::StoredRecord;
use tidings_replay::{decode, raw::RawWriter};
use tidings_schemas::topics::Topic;

/// The form of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Columns, for people.
    #[default]
    Table,
    /// One JSON object a line.
    Jsonl,
    /// Byte for byte, with checksums: what `tidings replay import` takes.
    Raw,
    /// Apache Parquet, for data frames.
    Parquet,
}

/// Writes records in one form.
pub trait Sink {
    /// One record.
    ///
    /// # Errors
    /// The output's.
    fn write(&mut self, topic: Topic, partition: u32, record: &StoredRecord) -> io::Result<()>;

    /// What was written so far can be seen, as far as the form allows.
    ///
    /// # Errors
    /// The output's.
    fn flush(&mut self) -> io::Result<()>;

    /// All was written.
    ///
    /// # Errors
    /// The output's.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// Columns, for people.
pub struct Table<W> {
    out: W,
    has_head: bool,
}

impl<W: Write> Table<W> {
    /// Onto `out`.
    pub fn new(out: W) -> Self {
        Self { out, has_head: false }
    }
}

impl<W: Write> Sink for Table<W> {
    fn write(&mut self, topic: Topic, partition: u32, record: &StoredRecord) -> io::Result<()> {
        if !std::mem::replace(&mut self.has_head, true) {
            let (topic, partition, offset, time, key) = ("TOPIC", "P", "OFFSET", "TIMESTAMP", "KEY");
            writeln!(self.out, "{topic:16} {partition:>3} {offset:>10}  {time:24}  {key:36}  VALUE")?;
        }
        let (name, offset, time) = (topic.name(), record.offset, decode::time(record.timestamp_ms));
        let (key, value) = (decode::key_of(topic, &record.key), decode::value(topic, record));
        writeln!(self.out, "{name:16} {partition:>3} {offset:>10}  {time:24}  {key:36}  {value}")
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.out.flush()
    }
}

/// One JSON object a line.
pub struct Lines<W>(pub W);

impl<W: Write> Sink for Lines<W> {
    fn write(&mut self, topic: Topic, partition: u32, record: &StoredRecord) -> io::Result<()> {
        writeln!(self.0, "{}", decode::json(topic, partition, record))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write> Sink for RawWriter<W> {
    fn write(&mut self, topic: Topic, partition: u32, record: &StoredRecord) -> io::Result<()> {
        Self::write(self, topic, partition, record)
    }

    /// A block is written when it is full.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        Self::finish(*self).map(drop)
    }
}
