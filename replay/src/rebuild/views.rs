//! The views built anew, compared with those in use, and put in their place.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidings_dataflow::views::{
    owners::ViewOwners,
    projection::{Filler, ProjectionConfig, TOPICS},
};
use tidings_ingest::Log;
use tidings_schemas::{limits::REBUILD_SWITCHES_MAX, views::ViewStore};

use super::{
    OnProgress, Progress, RebuildError, Step, check_kept,
    compare::{Compare, Comparison},
    place::Place,
};

/// How to build.
pub struct RebuildViews<'a> {
    /// The log.
    pub log: Arc<dyn Log>,
    /// Where.
    pub place: &'a dyn Place,
    /// Settings of the projection.
    pub config: &'a ProjectionConfig,
    /// Whether the old are replaced; else both stay.
    pub replaces: bool,
    /// Nobody writes the old views: they are brought up to date here, before they are compared.
    pub is_alone: bool,
    /// How many differences are kept.
    pub kept_max: usize,
    /// Told how far it is.
    pub progress: OnProgress<'a>,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewsReport {
    /// Records of the log that the new views were built of.
    pub records: u64,
    /// What was in use, against what follows from the log.
    pub comparison: Option<Comparison>,
    /// Why there is no comparison.
    pub not_compared: Option<String>,
    /// Whether the new are in use.
    pub is_replaced: bool,
}

impl RebuildViews<'_> {
    /// Builds, compares and puts in place.
    ///
    /// # Errors
    /// [`RebuildError`]; the old views are in use then. That the old ones cannot be compared is none.
    pub async fn run(self) -> Result<ViewsReport, RebuildError> {
        const HINT: &str = "views can be rebuilt only from a log that has its beginning";
        let total = check_kept(&*self.log, &TOPICS, HINT)?;
        let new = self.place.built();
        let mut filler = self.filler(&new).await?;
        let done = std::sync::atomic::AtomicU64::new(0);
        filler
            .to_end(&|count| {
                let done = done.fetch_add(count, std::sync::atomic::Ordering::Relaxed) + count;
                (self.progress)(Progress { step: Step::Building, done, total: total.max(done) });
            })
            .await?;
        let mut report = ViewsReport { records: done.into_inner(), ..ViewsReport::default() };
        match self.compare(&mut filler).await {
            Ok(comparison) => report.comparison = Some(comparison),
            // What cannot be read is a reason to put other views in its place.
            Err(error) => report.not_compared = Some(error),
        }
        if !self.replaces {
            return Ok(report);
        }
        (self.progress)(Progress { step: Step::Switching, done: 0, total: 0 });
        for _ in 0..REBUILD_SWITCHES_MAX {
            filler.to_end(&|_| {}).await?;
            if self.place.switch().await? {
                report.is_replaced = true;
                return Ok(report);
            }
        }
        Err(RebuildError::NeverThere)
    }

    async fn filler(&self, views: &Arc<dyn ViewOwners>) -> Result<Filler, RebuildError> {
        let views: Arc<dyn ViewStore> = Arc::clone(views) as _;
        Ok(Filler::open(self.config, Arc::clone(&self.log), views).await?)
    }

    async fn compare(&self, filler: &mut Filler) -> Result<Comparison, String> {
        let old = self.place.used();
        let mut old_filler = if self.is_alone {
            let mut filler = self.filler(&old).await.map_err(|error| error.to_string())?;
            filler.to_end(&|_| {}).await.map_err(|error| error.to_string())?;
            Some(filler)
        } else {
            None
        };
        let compare = Compare {
            old,
            new: self.place.built(),
            filler,
            old_filler: old_filler.as_mut(),
            kept_max: self.kept_max,
            progress: self.progress,
        };
        compare.run().await.map_err(|error| error.to_string())
    }
}
