//! The views in memory do what every store of the views must.

use std::sync::Arc;

use async_trait::async_trait;
use tidings_dataflow::views::{
    conformance::{self, Factory},
    memory::MemoryViews,
};
use tidings_schemas::views::ViewStore;

struct InMemory;

#[async_trait]
impl Factory for InMemory {
    async fn create(&self) -> Arc<dyn ViewStore> {
        Arc::new(MemoryViews::default())
    }

    /// It lives as long as its process: there is nothing to open again.
    async fn reopen(&self, store: Arc<dyn ViewStore>) -> Arc<dyn ViewStore> {
        store
    }
}

macro_rules! conforms {
    ($($check:ident),+ $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $check() {
            conformance::$check(&InMemory).await;
        }
    )+};
}

conforms!(
    gets_what_was_put,
    applies_writes_in_order,
    keeps_owners_and_tables_apart,
    scans_between_bounds,
    takes_any_sort_bytes,
    keeps_values_of_any_size,
    deletes_below,
    keeps_positions,
    refuses_a_batch_from_elsewhere,
    lets_one_of_many_apply,
    shows_batches_whole,
    wakes_who_waits,
    reads_many,
);
