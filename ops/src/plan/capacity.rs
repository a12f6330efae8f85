//! What one machine, process, core or partition does: measured where docs/BENCHMARKS.md or docs/DATAFLOW.md has a figure
//! (of this program, on two shared cores), else assumed, and said so.

use anyhow::{Result, bail};
use serde::Serialize;
use tidings_schemas::limits;

/// Direct messages that one core takes through the conversations stage each second. Measured: docs/DATAFLOW.md, 700,000.
pub const CONVERSATIONS_DIRECT_PER_CORE: f64 = 700_000.0;
/// Deliveries to groups of 100 of one core in the conversations stage. Measured, all cursors different: docs/DATAFLOW.md.
pub const CONVERSATIONS_DELIVERIES_PER_CORE: f64 = 5_460_000.0;
/// Receipts of one core in the conversations stage. Measured in records of 100: docs/DATAFLOW.md.
pub const CONVERSATIONS_RECEIPTS_PER_CORE: f64 = 2_160_000.0;
/// Direct messages of one core in the recipients stage. Measured: docs/DATAFLOW.md, 1,460,000.
pub const RECIPIENTS_DIRECT_PER_CORE: f64 = 1_460_000.0;
/// Deliveries of one core in the recipients stage. Measured, the first since the sessions changed: docs/DATAFLOW.md.
pub const RECIPIENTS_DELIVERIES_PER_CORE: f64 = 5_800_000.0;
/// Heartbeats of one core. Measured: docs/DATAFLOW.md.
pub const RECIPIENTS_HEARTBEATS_PER_CORE: f64 = 2_600_000.0;
/// Sessions opened of one core. Measured: docs/DATAFLOW.md.
pub const RECIPIENTS_SESSIONS_PER_CORE: f64 = 950_000.0;
/// Records that one core of a stage takes in from Kafka. Assumed: the measurements above are of records in memory.
pub const RECORDS_PER_CORE: f64 = 200_000.0;
/// Bytes of a stage's memory for a membership, in both stages. Measured: docs/DATAFLOW.md.
pub const MEMBERSHIP_BYTES: f64 = 155.0;
/// Bytes for a known user. Measured: docs/DATAFLOW.md.
pub const USER_BYTES: f64 = 58.0;
/// Bytes for a session. Measured: docs/DATAFLOW.md.
pub const SESSION_BYTES: f64 = 175.0;
/// Bytes for a message whose `client_message_id` is remembered. Measured: docs/DATAFLOW.md.
pub const REMEMBERED_MESSAGE_BYTES: f64 = 70.0;

/// Bytes of the archive's tables for a message, without its text. Measured on the embedded archive: 30, and 70 more for
/// what a small load repeats and a service does not: docs/CAPACITY.md.
pub const ARCHIVE_MESSAGE_BYTES: f64 = 100.0;
/// Copies of a message's text in the archive (as text and in the original record) by what compression leaves of each.
/// Assumed: two by a half.
pub const ARCHIVE_TEXT_FACTOR: f64 = 1.0;
/// Bytes of the archive's tables for a recipient's inbox row. Measured: 16, and 16 for the conversation's id.
pub const ARCHIVE_INBOX_BYTES: f64 = 32.0;
/// Bytes of the archive's tables for a cursor's move. Measured: 10, and 22 for ids that a small load repeats.
pub const ARCHIVE_RECEIPT_BYTES: f64 = 32.0;

/// What one of each does. An operator who has measured gives the own figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, clap::Args)]
#[command(next_help_heading = "What one of each does")]
pub struct Capacity {
    /// Connections of an edge (the limit of one edge).
    #[arg(long, value_name = "N", default_value_t = limits::CONNECTIONS_MAX as f64)]
    pub edge_connections: f64,
    /// Messages that an edge takes each second (measured: half of what everything together did on two cores).
    #[arg(long, value_name = "N", default_value_t = 5_000.0)]
    pub edge_messages: f64,
    /// Updates that an edge pushes each second (measured: everything together on two cores).
    #[arg(long, value_name = "N", default_value_t = 39_600.0)]
    pub edge_pushes: f64,
    /// Cores of a dataflow process.
    #[arg(long, value_name = "N", default_value_t = 8.0)]
    pub dataflow_cores: f64,
    /// Memory of a dataflow process, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 64e9)]
    pub dataflow_memory_bytes: f64,
    /// Inbox rows that a projection process follows each second (measured: everything together on two cores).
    #[arg(long, value_name = "N", default_value_t = 39_600.0)]
    pub projection_rows: f64,
    /// Bytes that are appended to one broker each second, copies included (assumed).
    #[arg(long, value_name = "BYTES", default_value_t = 100e6)]
    pub broker_append_bytes: f64,
    /// Records that are appended to one broker each second, copies included (assumed).
    #[arg(long, value_name = "N", default_value_t = 200_000.0)]
    pub broker_append_records: f64,
    /// Disk of one broker, in bytes (assumed).
    #[arg(long, value_name = "BYTES", default_value_t = 16e12)]
    pub broker_disk_bytes: f64,
    /// Partitions of one broker, copies included (assumed).
    #[arg(long, value_name = "N", default_value_t = 4_000.0)]
    pub broker_partitions: f64,
    /// Records of one partition each second (assumed).
    #[arg(long, value_name = "N", default_value_t = 5_000.0)]
    pub partition_records: f64,
    /// Bytes of one partition each second (assumed).
    #[arg(long, value_name = "BYTES", default_value_t = 5e6)]
    pub partition_bytes: f64,
    /// Memory of one Redis, in bytes (assumed).
    #[arg(long, value_name = "BYTES", default_value_t = 256e9)]
    pub redis_memory_bytes: f64,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            edge_connections: limits::CONNECTIONS_MAX as f64,
            edge_messages: 5_000.0,
            edge_pushes: 39_600.0,
            dataflow_cores: 8.0,
            dataflow_memory_bytes: 64e9,
            projection_rows: 39_600.0,
            broker_append_bytes: 100e6,
            broker_append_records: 200_000.0,
            broker_disk_bytes: 16e12,
            broker_partitions: 4_000.0,
            partition_records: 5_000.0,
            partition_bytes: 5e6,
            redis_memory_bytes: 256e9,
        }
    }
}

impl Capacity {
    /// Refuses what can do nothing.
    ///
    /// # Errors
    /// Names the option.
    pub fn check(&self) -> Result<()> {
        for (option, value) in [
            ("--edge-connections", self.edge_connections),
            ("--edge-messages", self.edge_messages),
            ("--edge-pushes", self.edge_pushes),
            ("--dataflow-cores", self.dataflow_cores),
            ("--dataflow-memory-bytes", self.dataflow_memory_bytes),
            ("--projection-rows", self.projection_rows),
            ("--broker-append-bytes", self.broker_append_bytes),
            ("--broker-append-records", self.broker_append_records),
            ("--broker-disk-bytes", self.broker_disk_bytes),
            ("--broker-partitions", self.broker_partitions),
            ("--partition-records", self.partition_records),
            ("--partition-bytes", self.partition_bytes),
            ("--redis-memory-bytes", self.redis_memory_bytes),
        ] {
            if !(value >= 1.0 && value.is_finite()) {
                bail!("{option} is {value}, and must be at least 1 (leave it out for the default)");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_do_nothing_is_refused_by_name() {
        assert!(Capacity::default().check().is_ok());
        let none = Capacity { broker_partitions: 0.0, ..Capacity::default() };
        assert!(none.check().expect_err("0").to_string().starts_with("--broker-partitions"));
    }
}
