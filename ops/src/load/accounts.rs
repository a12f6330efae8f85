//! The load's users: made through the public API, and kept in a file for the next run.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use tidings_schemas::{client::TokenResponse, wire::ErrorCode};

use crate::{
    client::{Api, http::ApiError},
    progress::Progress,
};

const CONCURRENT_REQUESTS: usize = 16;
const PASSWORD: &str = "correct horse battery staple";

/// A user of the load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Account {
    /// The name.
    pub username: String,
    /// The id.
    pub user_id: String,
    /// A valid token.
    pub token: String,
}

/// As many users as asked for: from the file, then new ones.
pub async fn obtain(api: &Api, count: usize, file: Option<&Path>, run: &str) -> Result<Vec<Account>> {
    let mut accounts = match file {
        Some(path) if path.exists() => read(path)?,
        _ => Vec::new(),
    };
    if let Some(account) = accounts.first()
        && !is_known(api, account).await?
    {
        tracing::info!("the accounts in the file are of another server: making new ones");
        accounts.clear();
    }
    let missing = count.saturating_sub(accounts.len());
    if missing > 0 {
        let progress = Progress::new("accounts", missing as u64);
        let first = accounts.len();
        let mut made: Vec<(usize, Account)> = stream::iter(first..count)
            .map(|number| {
                let progress = &progress;
                async move {
                    let username = format!("load-{run}-{number}");
                    let account = patiently(|| create(api, &username)).await?;
                    progress.advance(1);
                    anyhow::Ok((number, Account { username, user_id: account.user_id, token: account.token }))
                }
            })
            .buffer_unordered(CONCURRENT_REQUESTS)
            .try_collect()
            .await?;
        made.sort_by_key(|(number, _)| *number);
        accounts.extend(made.into_iter().map(|(_, account)| account));
        if let Some(path) = file {
            let text = serde_json::to_string(&accounts).context("cannot encode the accounts")?;
            fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    accounts.truncate(count);
    Ok(accounts)
}

/// Makes an account, or signs in to it: the answer to an earlier try may have been lost.
async fn create(api: &Api, username: &str) -> Result<TokenResponse> {
    let error = match api.create_account(username, PASSWORD, username).await {
        Ok(account) => return Ok(account),
        Err(error) => error,
    };
    let is_there = ApiError::of(&error).is_some_and(|refusal| refusal.error.code == ErrorCode::AlreadyExists.name());
    if !is_there {
        return Err(error);
    }
    match api.create_token(username, PASSWORD).await {
        Ok(account) => Ok(account),
        // Somebody else's, with the same name.
        Err(refusal) if ApiError::of(&refusal).is_some_and(|refusal| !refusal.error.retryable) => Err(error),
        Err(refusal) => Err(refusal),
    }
}

fn read(path: &Path) -> Result<Vec<Account>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not a file of accounts", path.display()))
}

async fn is_known(api: &Api, account: &Account) -> Result<bool> {
    match api.get::<serde_json::Value>("/v1/conversations?limit=1", &account.token).await {
        Ok(_) => Ok(true),
        Err(error) if ApiError::of(&error).is_some() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Calls again while the server says that it is worth it.
pub async fn patiently<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> Result<T> {
    let mut tries = 0;
    loop {
        let error = match call().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        tries += 1;
        let wait = match ApiError::of(&error) {
            Some(refusal) if refusal.error.retryable && tries < 1_000 => {
                Duration::from_millis(refusal.error.retry_after_ms.unwrap_or(200).into())
            }
            _ => return Err(error),
        };
        tokio::time::sleep(wait).await;
    }
}
