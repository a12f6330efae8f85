//! Where old and new views are, and how they change places: two folders in the data folder, or two databases of one Redis.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use async_trait::async_trait;
use tidings_dataflow::views::{owners::ViewOwners, redis::RedisViews, store::FjallViews};
use tidings_schemas::views::ViewError;

/// The old and the new views.
#[async_trait]
pub trait Place: Send + Sync {
    /// Those in use.
    fn used(&self) -> Arc<dyn ViewOwners>;

    /// Those that are built.
    fn built(&self) -> Arc<dyn ViewOwners>;

    /// Puts the new in the place of the old, and removes these. `false`: the new are behind, and nothing was done.
    ///
    /// # Errors
    /// The store refuses.
    async fn switch(&self) -> Result<bool, ViewError>;
}

/// In the data folder: in the process that has the old views open.
pub struct Embedded {
    old: FjallViews,
    new: FjallViews,
    /// Whether the new ones go with this, unless they were put in place.
    is_passing: AtomicBool,
}

impl Embedded {
    /// Begins new views beside those in use.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn begin(old: &FjallViews) -> Result<Self, ViewError> {
        let new = old.beside().map_err(|error| ViewError::Unavailable(error.to_string()))?;
        Ok(Self { old: old.clone(), new, is_passing: AtomicBool::new(true) })
    }

    /// New views in a folder of their own, to be kept there.
    pub fn apart(old: &FjallViews, new: FjallViews) -> Self {
        Self { old: old.clone(), new, is_passing: AtomicBool::new(false) }
    }
}

#[async_trait]
impl Place for Embedded {
    fn used(&self) -> Arc<dyn ViewOwners> {
        Arc::new(self.old.clone())
    }

    fn built(&self) -> Arc<dyn ViewOwners> {
        Arc::new(self.new.clone())
    }

    async fn switch(&self) -> Result<bool, ViewError> {
        let Some(retired) = self.old.switch_to(&self.new)? else { return Ok(false) };
        self.is_passing.store(false, Ordering::Relaxed);
        let removed = tokio::task::spawn_blocking(move || retired.remove()).await;
        match removed {
            Ok(Ok(())) => Ok(true),
            // The new ones are in use all the same.
            Ok(Err(error)) => {
                tracing::warn!(%error, "the old views are still on the disk: the next start removes them");
                Ok(true)
            }
            Err(error) => Err(ViewError::Unavailable(error.to_string())),
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if self.is_passing.load(Ordering::Relaxed) {
            let new = self.new.clone();
            // It waits for those who have the new views, of whom this is one. Should it not be: the next start removes them.
            thread::spawn(move || {
                if let Err(error) = new.discard() {
                    tracing::warn!(%error, "what a rebuild has left stays until the next start");
                }
            });
        }
    }
}

/// In Redis.
pub struct InRedis {
    old: RedisViews,
    new: RedisViews,
}

impl InRedis {
    /// New views in another database than those in use, claimed for this.
    ///
    /// # Errors
    /// Something else is there; what is not of these views is where they are.
    pub async fn begin(old: RedisViews, new: RedisViews, will_swap: bool) -> Result<Self, ViewError> {
        if will_swap && let Some(key) = old.foreign_key().await? {
            return Err(ViewError::Unavailable(format!(
                "the key {key:?} is in the same database as the views, and would change places with them (give what it is \
                 of a database of its own, or keep the new views beside the old)"
            )));
        }
        new.claim().await?;
        Ok(Self { old, new })
    }
}

#[async_trait]
impl Place for InRedis {
    fn used(&self) -> Arc<dyn ViewOwners> {
        Arc::new(self.old.clone())
    }

    fn built(&self) -> Arc<dyn ViewOwners> {
        Arc::new(self.new.clone())
    }

    async fn switch(&self) -> Result<bool, ViewError> {
        if !self.old.swap_with(&self.new).await? {
            return Ok(false);
        }
        // The connections stay where they are: what was in use is now in the other's database.
        self.new.drop_claimed().await?;
        Ok(true)
    }
}
