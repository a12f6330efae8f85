//! Checkpoints: a shard's state in object storage, so that a restart reads the newest one and the log's tail, not the
//! whole log.
//!
//! A checkpoint is a manifest and the parts that it names: a base, and the changes since. The manifest is put last, and
//! whole, so what it names is there; parts are named anew each time and never written twice. Each has its checksum.
//! Whatever cannot be used (damaged, missing, of a newer program or of another log) is refused with the reason, and the
//! one before it is taken.
//!
//! Two owners of a shard at once do no harm. The manifests of a shard are one sequence of numbers, and a number is given
//! out once, whoever asks. An owner begins by *taking over*: it puts a manifest of its own that repeats the newest.
//! From then on the one before finds its next number taken, and writes and removes nothing more
//! ([`CheckpointError::Superseded`]). So only the newest owner's manifests come to stand at the end, and nobody removes
//! what another still needs: whatever is removed was listed when there was no newer owner, and bears a number below the
//! newer owner's first.
//!
//! The worker that hosts a shard only ever writes changes ([`PartWriter`]); that a base does not grow old is seen to by
//! the [`CheckpointWriter`], which lays the changes over it elsewhere.
//!
//! They are in a folder, or in an S3-compatible store (`s3`, with the feature of that name).
//!
//! - [`store`]: lists and loads. [`writer`]: writes, merges, prunes. `manifest`, `parts`: their formats.

mod manifest;
mod parts;
#[cfg(feature = "s3")]
mod s3;
pub mod store;
pub mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use object_store::{ObjectStore, local::LocalFileSystem};
use serde::{Deserialize, Serialize};
use tidings_schemas::{limits, topics::Topic};

pub use self::{
    parts::PartWriter,
    store::{CheckpointStore, Restored},
    writer::{CheckpointWriter, Snapshot, Written},
};

/// The meaning of the parts. A manifest with a newer one is refused.
pub const SCHEMA_VERSION: u32 = 1;

/// Settings of the checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointConfig {
    /// The folder that holds the checkpoints and nothing else. Left out: one in the data folder; where there is no data
    /// folder either, no checkpoints, and every start reads the whole log.
    pub directory: Option<PathBuf>,
    /// An S3-compatible store instead of a folder, for any number of processes (in programs built with the feature `s3`).
    pub s3: Option<S3Config>,
    /// How often a shard whose state changed is checkpointed, in milliseconds.
    pub interval_ms: u64,
    /// Changes after which a new base is written.
    pub deltas_max: usize,
    /// Manifests of a shard that are kept.
    pub kept: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self {
            directory: None,
            s3: None,
            interval_ms: u64::try_from(limits::CHECKPOINT_INTERVAL.as_millis()).unwrap_or(u64::MAX),
            deltas_max: limits::CHECKPOINT_DELTAS_MAX,
            kept: limits::CHECKPOINTS_KEPT,
        }
    }
}

/// Where checkpoints are in an S3-compatible store. Who may use it is in the environment, as for all programs of AWS:
/// AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the machine's or the pod's role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct S3Config {
    /// The bucket.
    pub bucket: String,
    /// What the names of all objects begin with.
    #[serde(default)]
    pub prefix: String,
    /// The region. Left out: the environment's AWS_REGION.
    #[serde(default)]
    pub region: Option<String>,
    /// `https://host:port`, or `http://` in a network of one's own, of a store that is not Amazon's.
    #[serde(default)]
    pub endpoint: Option<String>,
}

/// The store that the settings name, if any.
///
/// # Errors
/// [`CheckpointError::Folder`], [`CheckpointError::S3`], [`CheckpointError::NoS3`].
pub fn open(config: &CheckpointConfig) -> Result<Option<Arc<dyn ObjectStore>>, CheckpointError> {
    match (&config.s3, &config.directory) {
        #[cfg(feature = "s3")]
        (Some(config), _) => s3::open(config).map(Some),
        #[cfg(not(feature = "s3"))]
        (Some(_), _) => Err(CheckpointError::NoS3),
        (None, Some(directory)) => open_folder(directory).map(Some),
        (None, None) => Ok(None),
    }
}

/// A folder as an object store, made if it is not there. What is put is on the disk when the call returns.
///
/// # Errors
/// [`CheckpointError::Folder`] when it cannot be made.
pub fn open_folder(directory: &Path) -> Result<Arc<dyn ObjectStore>, CheckpointError> {
    let folder = |error: String| CheckpointError::Folder { directory: directory.to_owned(), error };
    std::fs::create_dir_all(directory).map_err(|error| folder(error.to_string()))?;
    let files = LocalFileSystem::new_with_prefix(directory).map_err(|error| folder(error.to_string()))?;
    Ok(Arc::new(files.with_fsync(true)))
}

/// Why a checkpoint cannot be written or used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The folder cannot be made or opened.
    #[error("the checkpoint folder {} cannot be used: {error} (check that it is writable)", directory.display())]
    Folder {
        /// The folder.
        directory: PathBuf,
        /// What the system says.
        error: String,
    },
    /// The settings name no store.
    #[error("the checkpoints' bucket {bucket:?} cannot be used: {error} (see dataflow.checkpoints.s3)")]
    S3 {
        /// The bucket.
        bucket: String,
        /// What is wrong.
        error: String,
    },
    /// This program knows no S3.
    #[error("dataflow.checkpoints.s3 is set, and this program was built without it (build it with --features s3)")]
    NoS3,
    /// The store refused or failed.
    #[error("the checkpoint store failed: {0}")]
    Store(object_store::Error),
    /// Not what was written.
    #[error("checkpoint object {name} is damaged: {what}")]
    Damaged {
        /// The object.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Written by a newer program.
    #[error(
        "checkpoint {name} has schema version {found}, and this program knows {SCHEMA_VERSION} (it was written by a newer one)"
    )]
    NewerSchema {
        /// The manifest.
        name: String,
        /// Its version.
        found: u32,
    },
    /// Of another log: its offsets mean nothing here.
    #[error("checkpoint {name} is of the log {found:032x}, and this log is {expected:032x}")]
    OtherLog {
        /// The manifest.
        name: String,
        /// The log it is of.
        found: u128,
        /// The log that is here.
        expected: u128,
    },
    /// It stands where the log does not reach: the log was cut or replaced, or retention has overtaken the checkpoint.
    #[error("checkpoint {name} stands at offset {offset} of {}, and the log holds {start} to {end}", topic.name())]
    OutsideLog {
        /// The manifest.
        name: String,
        /// The input topic.
        topic: Topic,
        /// Where the checkpoint stands.
        offset: u64,
        /// The oldest record that the log keeps.
        start: u64,
        /// The next to be written.
        end: u64,
    },
    /// Another owner of the shard has written since: what this one would write adds to what is no longer the newest.
    #[error("another owner of the shard writes its checkpoints (its newest is {newest})")]
    Superseded {
        /// The other owner's newest manifest.
        newest: u64,
    },
    /// The work was cut short because the process stops.
    #[error("the checkpoint was not finished: the process stops")]
    Stopped,
}

impl From<object_store::Error> for CheckpointError {
    fn from(error: object_store::Error) -> Self {
        Self::Store(error)
    }
}

impl CheckpointError {
    /// Whether the same can succeed later. What is merely not there (another owner has removed it) is looked for anew,
    /// too.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Store(_))
    }
}
