//! A whole node in the test's process, on a folder of its own and a free port.

use std::{net::SocketAddr, path::Path, sync::Arc};

use async_trait::async_trait;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tidings_dataflow::{
    host::{self, HostConfig},
    views::{
        projection::{self, ProjectionConfig},
        store::{FjallViews, StoreConfig},
    },
};
use tidings_edge::{
    Dependencies, Handle,
    auth::AuthConfig,
    config::Config,
    http::{Check, Host, HttpConfig},
    leases::EdgeIdentity,
};
use tidings_ingest::{EmbeddedConfig, EmbeddedLog, Log};
use tidings_schemas::clock::{Clock, Entropy, SystemClock, SystemEntropy};

use crate::request::{Answer, Request};

/// A running node. It goes away with the test.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    _folder: tempfile::TempDir,
    _edge: Handle,
    _projection: projection::Handle,
    _host: host::Handle,
}

/// A user who has signed up.
#[derive(Clone)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) token: String,
}

/// Says that all is well, unless the test says otherwise.
struct TestHost {
    problem: Option<String>,
}

#[async_trait]
impl Host for TestHost {
    async fn checks(&self) -> Vec<Check> {
        vec![Check { name: "test", problem: self.problem.clone() }]
    }

    fn metrics_text(&self) -> String {
        "# EOF\n".to_owned()
    }
}

/// What a test wants otherwise than usual.
#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) edge: Config,
    pub(crate) auth: AuthConfig,
    pub(crate) http: HttpConfig,
    pub(crate) problem: Option<String>,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    pub(crate) async fn start_with(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let log_config = EmbeddedConfig { directory: folder.path().join("log"), ..EmbeddedConfig::default() };
        let log = EmbeddedLog::open(&log_config, Arc::clone(&clock), Arc::clone(&entropy)).unwrap();
        let log: Arc<dyn Log> = Arc::new(log);
        let views = open_views(folder.path(), log.as_ref());
        let mut registry = Registry::default();
        let host = host::start(
            HostConfig::default(),
            &host::all_shards(&*log),
            Arc::clone(&log),
            Arc::clone(&clock),
            &mut registry,
        )
        .unwrap();
        let projection = projection::start(
            &ProjectionConfig::default(),
            projection::all_partitions(&*log),
            Arc::clone(&log),
            Arc::clone(&views) as _,
            tokio::runtime::Handle::current(),
            &mut registry,
        )
        .unwrap();
        let edge = tidings_edge::start(
            Config { listen: ([127, 0, 0, 1], 0).into(), ..settings.edge },
            AuthConfig { password_hash_memory_kib: 64, password_hash_iterations: 1, ..settings.auth },
            settings.http,
            Dependencies {
                identity: EdgeIdentity { edge_id: 0, run: 1 },
                log,
                views,
                history: None,
                host: Arc::new(TestHost { problem: settings.problem }),
                clock,
                entropy,
                data_directory: folder.path().to_owned(),
                group_members_max: HostConfig::default().conversations.group_members_max,
            },
            &mut registry,
        )
        .unwrap();
        Self { address: edge.address(), _folder: folder, _edge: edge, _projection: projection, _host: host }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> Request {
        Request::new(self.address, method, path)
    }

    pub(crate) async fn get(&self, user: &User, path: &str) -> Answer {
        self.request("GET", path).token(&user.token).send().await
    }

    pub(crate) async fn call(&self, user: &User, method: &str, path: &str, body: Value) -> Answer {
        self.request(method, path).token(&user.token).json(&body).send().await
    }

    /// Signs up.
    pub(crate) async fn user(&self, name: &str) -> User {
        let body = json!({"username": name, "password": format!("{name}'s password"), "display_name": name});
        let answer = self.request("POST", "/v1/accounts").json(&body).send().await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        let text = |field: &str| answer.json()[field].as_str().unwrap().to_owned();
        User { id: text("user_id"), token: text("token") }
    }

    /// A group of the first user with the others.
    pub(crate) async fn group(&self, owner: &User, others: &[&User]) -> String {
        let ids: Vec<&str> = others.iter().map(|user| user.id.as_str()).collect();
        let body = json!({"kind": "group", "title": "Friends", "member_ids": ids});
        let answer = self.call(owner, "POST", "/v1/conversations", body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.json()["conversation_id"].as_str().unwrap().to_owned()
    }

    /// Sends a text and gives the message.
    pub(crate) async fn send(&self, user: &User, conversation: &str, id: &str, text: &str) -> Value {
        let path = format!("/v1/conversations/{conversation}/messages");
        let answer = self.call(user, "POST", &path, json!({"client_message_id": id, "text": text})).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.json()
    }
}

fn open_views(folder: &Path, log: &dyn Log) -> Arc<FjallViews> {
    Arc::new(FjallViews::open(&folder.join("views"), log.log_id(), &StoreConfig::default()).unwrap())
}
