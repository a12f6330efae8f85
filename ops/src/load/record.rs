//! What every client saw, one JSON object a line, for `tidings check`.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::Path,
    sync::Mutex,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One thing that a client did or saw. The order of the lines of one device is the order in which it saw them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Observation {
    /// A conversation of the run and its members, all there from the start.
    Conversation {
        /// Its id.
        conversation: String,
        /// Their user ids.
        members: Vec<String>,
    },
    /// A device was welcomed.
    Connected {
        /// The device.
        device: String,
        /// Its user.
        user: String,
        /// The epoch of the stream.
        epoch: String,
        /// The offset after which updates follow: the one it resumed from, or the end of the stream.
        after: u64,
    },
    /// A client wants a message sent. Repeated tries are not written down.
    Send {
        /// The client's id of it.
        client_message: String,
        /// Where to.
        conversation: String,
        /// By whom.
        user: String,
    },
    /// The server said `sent`.
    Sent {
        /// The client's id of it.
        client_message: String,
        /// Where to.
        conversation: String,
        /// The server's id of it.
        message: String,
        /// Its place.
        seq: u64,
    },
    /// The server refused it for good.
    Rejected {
        /// The client's id of it.
        client_message: String,
        /// The error code.
        code: String,
    },
    /// A `message` update came.
    Message {
        /// The device.
        device: String,
        /// The update's offset.
        offset: u64,
        /// The conversation.
        conversation: String,
        /// Its place.
        seq: u64,
        /// The server's id of it.
        message: String,
        /// The sender's id of it.
        client_message: String,
    },
    /// A `receipt` update came.
    Receipt {
        /// The device.
        device: String,
        /// The update's offset.
        offset: u64,
        /// The conversation.
        conversation: String,
        /// Whose cursors, if it says.
        user: Option<String>,
        /// The four cursors: delivered, seen, delivered to all, seen by all.
        cursors: [u64; 4],
    },
    /// Another update came.
    Other {
        /// The device.
        device: String,
        /// The update's offset.
        offset: u64,
    },
    /// The run ended in order; what was still on its way by then is a loss.
    End,
}

/// Writes observations to a file. Without a file it writes nothing.
#[derive(Debug)]
pub struct Recorder {
    writer: Option<Mutex<BufWriter<File>>>,
}

impl Recorder {
    /// To this file, which is made anew.
    pub fn new(path: Option<&Path>) -> Result<Self> {
        let writer = path
            .map(|path| File::create(path).with_context(|| format!("cannot make {}", path.display())))
            .transpose()?
            .map(|file| Mutex::new(BufWriter::with_capacity(1 << 20, file)));
        Ok(Self { writer })
    }

    /// Whether anything is written: if not, spare the making of the observation.
    pub fn is_on(&self) -> bool {
        self.writer.is_some()
    }

    /// Writes one down.
    pub fn write(&self, observation: &Observation) -> Result<()> {
        let Some(writer) = &self.writer else { return Ok(()) };
        let mut line = serde_json::to_vec(observation).context("cannot encode an observation")?;
        line.push(b'\n');
        let mut writer = writer.lock().map_err(|_| anyhow::anyhow!("a writer of the record failed"))?;
        writer.write_all(&line).context("cannot write the record")
    }

    /// Writes out what is buffered.
    pub fn finish(&self) -> Result<()> {
        let Some(writer) = &self.writer else { return Ok(()) };
        let mut writer = writer.lock().map_err(|_| anyhow::anyhow!("a writer of the record failed"))?;
        writer.flush().context("cannot write the record")
    }
}

/// Reads a record back.
pub fn read(path: &Path) -> Result<impl Iterator<Item = Result<Observation>>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let name = path.display().to_string();
    Ok(BufReader::with_capacity(1 << 20, file).lines().enumerate().map(move |(index, line)| {
        let line = line.with_context(|| format!("cannot read {name}"))?;
        serde_json::from_str(&line).with_context(|| format!("{name} line {} is not an observation", index + 1))
    }))
}
