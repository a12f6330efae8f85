//! Checkpoints in an S3-compatible store. Manifests are put with `If-None-Match`, which S3 itself and most others know: it
//! is what keeps two owners of a shard apart, so a store without it cannot be used.

use std::sync::Arc;

use object_store::{ObjectStore, aws::AmazonS3Builder, prefix::PrefixStore};

use super::{CheckpointError, S3Config};

/// The bucket, as a store of checkpoints. Nothing is asked of it yet.
///
/// # Errors
/// [`CheckpointError::S3`] when the settings name none.
pub(super) fn open(config: &S3Config) -> Result<Arc<dyn ObjectStore>, CheckpointError> {
    let refused = |error: String| CheckpointError::S3 { bucket: config.bucket.clone(), error };
    if config.bucket.is_empty() {
        return Err(refused("it has no name".to_owned()));
    }
    // The process' way of TLS, unless it has one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Keys come from the environment or from the machine's role, as every program of AWS takes them.
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(&config.bucket);
    if let Some(region) = &config.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    let store = builder.build().map_err(|error| refused(error.to_string()))?;
    Ok(Arc::new(PrefixStore::new(store, config.prefix.as_str())))
}
