//! What a process does of what there is to do.

/// The roles of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Serves clients.
    pub edge: bool,
    /// Runs shards of both stages.
    pub dataflow: bool,
    /// Writes the views and the archive.
    pub project: bool,
}

impl Roles {
    /// Everything: `tidings up`.
    pub const ALL: Self = Self { edge: true, dataflow: true, project: true };
    /// `tidings edge`.
    pub const EDGE: Self = Self { edge: true, dataflow: false, project: false };
    /// `tidings dataflow`.
    pub const DATAFLOW: Self = Self { edge: false, dataflow: true, project: false };
    /// `tidings project`.
    pub const PROJECT: Self = Self { edge: false, dataflow: false, project: true };
}
