//! All that a store of the views holds: for those who compare two of them.

use async_trait::async_trait;
use tidings_schemas::views::{Table, ViewError, ViewStore};

/// Some of the owners that have rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owners {
    /// Each with the table of its rows. One that comes or goes meanwhile may be missing, or be there twice.
    pub found: Vec<(Table, u128)>,
    /// Where the next ones follow; `None`: these were the last.
    pub next: Option<Vec<u8>>,
}

/// A store that can say who has rows in it.
#[async_trait]
pub trait ViewOwners: ViewStore {
    /// Some owners, at first or after those of the call before.
    ///
    /// # Errors
    /// As [`ViewStore::scan`].
    async fn owners(&self, after: Option<Vec<u8>>) -> Result<Owners, ViewError>;
}
