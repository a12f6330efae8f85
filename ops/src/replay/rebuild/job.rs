//! A rebuild, by whoever has the stores open: the program that runs, or the command line.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tidings_dataflow::{
    archive::rebuild::Rebuilding,
    views::{
        projection::ProjectionConfig,
        redis::RedisViews,
        store::{FjallViews, StoreConfig},
    },
};
use tidings_ingest::Log;
use tidings_replay::rebuild::{
    OnProgress, RebuildError,
    archive::{Part, RebuildArchive},
    place::{Embedded, InRedis, Place},
    views::RebuildViews,
};
use tidings_schemas::topics::Topic;

use super::request::{Report, Request, SpanOf, What};

/// Where the views are.
pub(crate) enum OpenViews {
    /// In this data folder.
    Embedded { views: FjallViews, data: PathBuf, config: StoreConfig },
    /// In Redis: those in use, and the database for the new.
    Redis { old: RedisViews, new: RedisViews },
}

/// The new views of a rebuild that keeps the old ones, in the data folder.
pub(crate) const BESIDE_FOLDER: &str = "views.beside";

/// Everything that a rebuild works with.
pub(crate) struct Job {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) views: Option<OpenViews>,
    pub(crate) archive: Option<Arc<dyn Rebuilding>>,
    pub(crate) projection: ProjectionConfig,
    /// Nobody else writes the views.
    pub(crate) is_alone: bool,
}

impl Job {
    /// Rebuilds.
    pub(crate) async fn run(&self, request: &Request, progress: OnProgress<'_>) -> Result<Report, RebuildError> {
        match &request.what {
            What::Views => self.views(request, progress).await,
            What::Archive(topics) => {
                let topics = topics.iter().filter_map(|name| Topic::from_name(name)).collect();
                self.archive(request, Part::Whole(topics), progress).await
            }
            What::ArchiveSpans(spans) => {
                let spans = spans.iter().filter_map(SpanOf::span).collect();
                self.archive(request, Part::Spans(spans), progress).await
            }
        }
    }

    async fn views(&self, request: &Request, progress: OnProgress<'_>) -> Result<Report, RebuildError> {
        match &self.views {
            Some(OpenViews::Embedded { views, data, config }) if request.beside => {
                let folder = data.join(BESIDE_FOLDER);
                empty(&folder)?;
                let new = FjallViews::open(&folder, self.log.log_id(), config)
                    .map_err(|error| RebuildError::Impossible(error.to_string()))?;
                let place = Embedded::apart(views, new.clone());
                let report = self.views_at(&place, request, progress).await;
                new.sync()?;
                report
            }
            Some(OpenViews::Embedded { views, .. }) => {
                let place = Embedded::begin(views)?;
                self.views_at(&place, request, progress).await
            }
            Some(OpenViews::Redis { old, new }) => {
                let place = InRedis::begin(old.clone(), new.clone(), !request.beside).await?;
                self.views_at(&place, request, progress).await
            }
            None => Err(RebuildError::Impossible("there are no views here".to_owned())),
        }
    }

    async fn views_at(
        &self,
        place: &dyn Place,
        request: &Request,
        progress: OnProgress<'_>,
    ) -> Result<Report, RebuildError> {
        let rebuild = RebuildViews {
            log: Arc::clone(&self.log),
            place,
            config: &self.projection,
            replaces: !request.beside,
            is_alone: self.is_alone,
            kept_max: request.show,
            progress,
        };
        rebuild.run().await.map(Report::Views)
    }

    async fn archive(&self, request: &Request, part: Part, progress: OnProgress<'_>) -> Result<Report, RebuildError> {
        let Some(archive) = &self.archive else {
            let why = "there is no archive here (hint: node.archive, ./ops/fetch-libchdb)";
            return Err(RebuildError::Impossible(why.to_owned()));
        };
        let rebuild = RebuildArchive {
            log: Arc::clone(&self.log),
            archive: &**archive,
            part,
            replaces: !request.beside,
            kept_max: request.show,
            progress,
        };
        rebuild.run().await.map(Report::Archive)
    }
}

/// Removes what an earlier rebuild has left there.
fn empty(folder: &Path) -> Result<(), RebuildError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(RebuildError::Impossible(format!("{} cannot be removed: {error}", folder.display())))
        }
        _ => Ok(()),
    }
}
