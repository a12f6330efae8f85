//! What was derived, as lines of JSON that one program writes and another reads: `tidings replay derive`. docs/REPLAY.md has
//! the form, which another version would change.
//!
//! A header, a line for each event, and an end, without which the rest is missing.

use std::io::{self, BufRead, Read, Write};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidings_ingest::NewRecord;
use tidings_schemas::{limits::DERIVE_LINE_BYTES_MAX, topics::Topic};

use super::{Derived, DiffError};

/// The version of the form.
pub const VERSION: u32 = 1;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the form: what tells the line.
    pub tidings_derive: u32,
    /// The program's own version.
    pub program: String,
    /// The log that it was made from, 32 hexadecimal digits.
    pub log_id: String,
    /// One past the last event of each partition.
    pub ends: Vec<u64>,
}

/// A line of an event: short names, since there are many.
#[derive(Serialize, Deserialize)]
struct Line {
    /// Partition.
    p: u32,
    /// Offset.
    o: u64,
    /// Milliseconds since the Unix epoch.
    t: i64,
    /// Topic, partition, key and value in base64.
    r: Vec<(String, u32, String, String)>,
}

/// The last line.
#[derive(Serialize, Deserialize)]
struct End {
    end: bool,
    events: u64,
}

/// Writes it.
pub struct Writer<W> {
    out: W,
    events: u64,
}

impl<W: Write> Writer<W> {
    /// Begins with the header.
    ///
    /// # Errors
    /// The output's.
    pub fn new(mut out: W, header: &Header) -> io::Result<Self> {
        serde_json::to_writer(&mut out, header)?;
        out.write_all(b"\n")?;
        Ok(Self { out, events: 0 })
    }

    /// One event.
    ///
    /// # Errors
    /// The output's.
    pub fn write(&mut self, derived: &Derived) -> io::Result<()> {
        let record = |record: &NewRecord| {
            let (key, value) = (STANDARD.encode(&record.key), STANDARD.encode(&record.value));
            (record.topic.name().to_owned(), record.partition, key, value)
        };
        let Derived { partition, offset, timestamp_ms, records } = derived;
        let line = Line { p: *partition, o: *offset, t: *timestamp_ms, r: records.iter().map(record).collect() };
        serde_json::to_writer(&mut self.out, &line)?;
        self.out.write_all(b"\n")?;
        self.events += 1;
        Ok(())
    }

    /// All was written.
    ///
    /// # Errors
    /// The output's.
    pub fn finish(mut self) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, &End { end: true, events: self.events })?;
        self.out.write_all(b"\n")?;
        self.out.flush()
    }
}

/// Reads it.
pub struct Reader<R> {
    lines: R,
    /// What it says of itself.
    pub header: Header,
    events: u64,
    has_ended: bool,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header. `of`: who writes it, for people.
    ///
    /// # Errors
    /// It is none, or of another version.
    pub fn new(mut lines: R, of: &str) -> Result<Self, DiffError> {
        #[derive(Deserialize)]
        struct Version {
            tidings_derive: u32,
        }
        let line = next_line(&mut lines)?;
        let none = || {
            DiffError::Stream(format!(
                "{of} does not write what stages derive (hint: it must know `tidings replay derive`, as this program does)"
            ))
        };
        let Version { tidings_derive: found } = serde_json::from_slice(&line).map_err(|_| none())?;
        if found != VERSION {
            let message = format!(
                "{of} writes version {found} of what stages derive, and this program reads version {VERSION} (hint: compare builds that are nearer to each other)"
            );
            return Err(DiffError::Stream(message));
        }
        let header = serde_json::from_slice(&line).map_err(|_| none())?;
        Ok(Self { lines, header, events: 0, has_ended: false })
    }

    /// The next event; `None` at the end.
    ///
    /// # Errors
    /// It is cut off, or not in the form.
    pub fn read(&mut self) -> Result<Option<Derived>, DiffError> {
        if self.has_ended {
            return Ok(None);
        }
        let line = next_line(&mut self.lines)?;
        let place = || format!("behind {} events", self.events);
        if line.is_empty() {
            return Err(DiffError::Stream(format!("what was derived is cut off {}", place())));
        }
        if let Ok(Line { p, o, t, r }) = serde_json::from_slice(&line) {
            let malformed = || DiffError::Stream(format!("a record {} cannot be read", place()));
            let record = |(topic, partition, key, value): (String, u32, String, String)| {
                let topic = Topic::from_name(&topic)?;
                let (key, value) = (STANDARD.decode(key).ok()?, STANDARD.decode(value).ok()?);
                Some(NewRecord { topic, partition, key: Bytes::from(key), value: Bytes::from(value) })
            };
            let records = r.into_iter().map(record).collect::<Option<Vec<_>>>().ok_or_else(malformed)?;
            self.events += 1;
            return Ok(Some(Derived { partition: p, offset: o, timestamp_ms: t, records }));
        }
        let end: End = serde_json::from_slice(&line)
            .map_err(|error| DiffError::Stream(format!("a line {} cannot be read: {error}", place())))?;
        if end.events != self.events {
            let message = format!("what was derived ends with {} events, and names {}", self.events, end.events);
            return Err(DiffError::Stream(message));
        }
        self.has_ended = true;
        Ok(None)
    }
}

/// A line; empty at the end.
fn next_line(lines: &mut impl BufRead) -> Result<Vec<u8>, DiffError> {
    let mut line = Vec::new();
    let unreadable = |error: io::Error| DiffError::Stream(format!("what was derived cannot be read: {error}"));
    let read =
        lines.by_ref().take(DERIVE_LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line).map_err(unreadable)?;
    if read > DERIVE_LINE_BYTES_MAX {
        return Err(DiffError::Stream(format!("a line has more than {DERIVE_LINE_BYTES_MAX} bytes")));
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header { tidings_derive: VERSION, program: "0".to_owned(), log_id: "1".to_owned(), ends: vec![2] }
    }

    fn derived(offset: u64) -> Derived {
        let record = NewRecord {
            topic: Topic::Fanout,
            partition: 3,
            key: Bytes::from_static(b"k\xff"),
            value: Bytes::from_static(&[0, 1]),
        };
        Derived { partition: 1, offset, timestamp_ms: -5, records: vec![record] }
    }

    fn written() -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, &header()).unwrap();
        writer.write(&derived(0)).unwrap();
        writer.write(&derived(1)).unwrap();
        writer.finish().unwrap();
        out
    }

    fn read(bytes: &[u8]) -> Result<Vec<Derived>, DiffError> {
        let mut reader = Reader::new(bytes, "it")?;
        let mut found = Vec::new();
        while let Some(derived) = reader.read()? {
            found.push(derived);
        }
        Ok(found)
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read(&written()).unwrap(), [derived(0), derived(1)]);
        assert_eq!(Reader::new(&written()[..], "it").unwrap().header, header());
    }

    #[test]
    fn what_is_cut_off_is_said() {
        let all = written();
        // Without the last line's end it is still whole.
        for length in 0..all.len() - 1 {
            assert!(read(&all[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn another_version_and_something_else_are_refused() {
        let newer = r#"{"tidings_derive":2,"other":[]}"#;
        let error = read(newer.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("version 2") && error.contains("version 1"), "{error}");
        let error = read(b"error: unrecognized subcommand 'derive'\n").unwrap_err().to_string();
        assert!(error.contains("replay derive"), "{error}");
    }
}
