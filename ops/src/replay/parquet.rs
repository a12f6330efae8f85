//! Records as a Parquet file: for whoever takes them into a data frame. Columns as the fields of `--output jsonl`; `value` is
//! JSON, by the topic's schema.

use std::{
    io::{self, Write},
    sync::Arc,
};

use parquet::{
    basic::Compression,
    column::writer::ColumnWriter,
    data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type},
    errors::ParquetError,
    file::{
        properties::WriterProperties,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::parser::parse_message_type,
};
use tidings_ingest::StoredRecord;
use tidings_replay::decode;
use tidings_schemas::{
    limits::{PARQUET_GROUP_BYTES, PARQUET_GROUP_ROWS},
    topics::Topic,
};

use super::output::Sink;

const SCHEMA: &str = "message record {
  required binary topic (STRING);
  required int32 partition (INTEGER(32, false));
  required int64 offset (INTEGER(64, false));
  required int64 timestamp (TIMESTAMP(MILLIS, true));
  required binary key (STRING);
  optional binary value (JSON);
  optional binary unknown_fields (STRING);
  optional binary error (STRING);
  optional binary raw;
}";

/// Rows that are gathered into a group of the file.
#[derive(Default)]
struct Group {
    topics: Vec<ByteArray>,
    partitions: Vec<i32>,
    offsets: Vec<i64>,
    timestamps: Vec<i64>,
    keys: Vec<ByteArray>,
    values: Vec<Option<ByteArray>>,
    unknown_fields: Vec<Option<ByteArray>>,
    errors: Vec<Option<ByteArray>>,
    raws: Vec<Option<ByteArray>>,
    bytes: usize,
}

/// A Parquet file.
pub struct Parquet<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    group: Group,
}

impl<W: Write + Send> Parquet<W> {
    /// Onto `out`.
    ///
    /// # Errors
    /// The output's.
    pub fn new(out: W) -> io::Result<Self> {
        let schema = Arc::new(parse_message_type(SCHEMA).map_err(io_error)?);
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let writer = SerializedFileWriter::new(out, schema, Arc::new(properties)).map_err(io_error)?;
        Ok(Self { writer, group: Group::default() })
    }

    /// A group in memory becomes one of the file.
    fn write_group(&mut self) -> io::Result<()> {
        let group = std::mem::take(&mut self.group);
        if group.topics.is_empty() {
            return Ok(());
        }
        let mut columns = self.writer.next_row_group().map_err(io_error)?;
        required::<ByteArrayType, W>(&mut columns, &group.topics)?;
        required::<Int32Type, W>(&mut columns, &group.partitions)?;
        required::<Int64Type, W>(&mut columns, &group.offsets)?;
        required::<Int64Type, W>(&mut columns, &group.timestamps)?;
        required::<ByteArrayType, W>(&mut columns, &group.keys)?;
        for column in [group.values, group.unknown_fields, group.errors, group.raws] {
            optional(&mut columns, column)?;
        }
        columns.close().map_err(io_error)?;
        Ok(())
    }
}

/// The next column, in which every row has a value.
fn required<T: DataType, W: Write + Send>(
    columns: &mut SerializedRowGroupWriter<'_, W>,
    values: &[T::T],
) -> io::Result<()> {
    let mut column = columns.next_column().map_err(io_error)?.ok_or_else(no_column)?;
    column.typed::<T>().write_batch(values, None, None).map_err(io_error)?;
    column.close().map_err(io_error)
}

/// The next column, in which some rows have a value.
fn optional<W: Write + Send>(
    columns: &mut SerializedRowGroupWriter<'_, W>,
    values: Vec<Option<ByteArray>>,
) -> io::Result<()> {
    let mut column = columns.next_column().map_err(io_error)?.ok_or_else(no_column)?;
    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let values: Vec<ByteArray> = values.into_iter().flatten().collect();
    match column.untyped() {
        ColumnWriter::ByteArrayColumnWriter(writer) => {
            writer.write_batch(&values, Some(&levels), None).map_err(io_error)?;
        }
        _ => return Err(no_column()),
    }
    column.close().map_err(io_error)
}

fn no_column() -> io::Error {
    io::Error::other("the Parquet schema has no such column")
}

/// What comes of the output stays what it is: a reader that has seen enough is no failure.
fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(error) => io::Error::other(error),
        },
        error => io::Error::other(error),
    }
}

fn text(text: impl Into<Vec<u8>>) -> ByteArray {
    ByteArray::from(text.into())
}

impl<W: Write + Send> Sink for Parquet<W> {
    #[allow(clippy::cast_possible_wrap, reason = "the columns say that they have no sign")]
    fn write(&mut self, topic: Topic, partition: u32, record: &StoredRecord) -> io::Result<()> {
        let group = &mut self.group;
        group.topics.push(text(topic.name()));
        group.partitions.push(partition as i32);
        group.offsets.push(record.offset as i64);
        group.timestamps.push(record.timestamp_ms);
        let key = decode::key_of(topic, &record.key);
        group.bytes += key.len() + record.value.len();
        group.keys.push(text(key));
        let (mut value, mut unknown_fields, mut error, mut raw) = (None, None, None, None);
        match decode::message(topic, &record.value) {
            Ok(message) => {
                let (mut json, mut unknown) = (String::new(), Vec::new());
                decode::write_message(&mut json, &message, "", &mut unknown);
                group.bytes += json.len();
                value = Some(text(json));
                unknown_fields = (!unknown.is_empty()).then(|| text(unknown.join(",")));
            }
            Err(why) => {
                error = Some(text(why.to_string()));
                raw = Some(ByteArray::from(record.value.clone()));
            }
        }
        group.values.push(value);
        group.unknown_fields.push(unknown_fields);
        group.errors.push(error);
        group.raws.push(raw);
        if group.topics.len() >= PARQUET_GROUP_ROWS || group.bytes >= PARQUET_GROUP_BYTES {
            self.write_group()?;
        }
        Ok(())
    }

    /// A group is written when it is full.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.write_group()?;
        let mut out = self.writer.into_inner().map_err(io_error)?;
        out.flush()
    }
}
