//! A server process, and people with accounts and connections.

use std::{
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command as Process, Stdio},
    time::Duration,
};

use hyper::Method;
use serde_json::{Value, json};
use tidings_ops::client::{Api, Format, Server as Address, Socket, http::ApiError, socket::Resume};
use tidings_schemas::client::{
    self, Conversation, Message, ServerFrame, Update, Welcome, client_frame::Command, server_frame::Body, update::Kind,
};
use tokio::time::{Instant, sleep, timeout};

/// Longer than anything takes on a busy machine; only a failure waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A `tidings up` on a folder of its own. Killed when dropped.
pub(crate) struct Server {
    process: Child,
    folder: tempfile::TempDir,
    port: u16,
    settings: Vec<String>,
    /// Whom to trust, when it speaks TLS.
    ca: Option<PathBuf>,
}

impl Server {
    /// Starts one without the archive, which most tests don't need.
    pub(crate) async fn start() -> Self {
        Self::start_with(&["archive.enabled=false"]).await
    }

    /// Starts one with settings.
    pub(crate) async fn start_with(settings: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), settings, None).await
    }

    /// Starts one that speaks TLS, with a certificate of its own making.
    pub(crate) async fn start_secure() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("certificate.pem"), folder.path().join("key.pem"));
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let settings = [
            "archive.enabled=false".to_owned(),
            format!("edge.tls.certificate={}", certificate.display()),
            format!("edge.tls.key={}", key.display()),
        ];
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        Self::start_in(folder, &settings, Some(certificate)).await
    }

    /// Starts one without the archive on a folder whose `data` there is already.
    pub(crate) async fn start_on(folder: tempfile::TempDir) -> Self {
        Self::start_in(folder, &["archive.enabled=false"], None).await
    }

    async fn start_in(folder: tempfile::TempDir, settings: &[&str], ca: Option<PathBuf>) -> Self {
        let port = free_port();
        // A cheap password hash: its cost is another test's matter.
        let mut all = vec!["auth.password_hash_memory_kib=64".to_owned(), "auth.password_hash_iterations=1".to_owned()];
        all.extend(settings.iter().map(|setting| (*setting).to_owned()));
        let process = spawn(folder.path(), port, &all);
        let mut server = Self { process, folder, port, settings: all, ca };
        server.ready().await;
        server
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// SIGTERM, and waits for the end.
    pub(crate) async fn terminate(&mut self) -> std::process::ExitStatus {
        let pid = self.process.id().to_string();
        assert!(Process::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "the server does not end");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.process.try_wait().unwrap()
    }

    /// One more setting, from the next start on, over those before.
    pub(crate) fn set(&mut self, setting: &str) {
        self.settings.push(setting.to_owned());
    }

    /// Starts it again on the same data and port.
    pub(crate) async fn restart(&mut self) {
        self.process = spawn(self.folder.path(), self.port, &self.settings);
        self.ready().await;
    }

    /// Waits until it is ready.
    pub(crate) async fn ready(&mut self) {
        let until = Instant::now() + PATIENCE;
        while self.api().get::<Value>("/readyz", "").await.is_err() {
            if let Some(status) = self.process.try_wait().unwrap() {
                let log = std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default();
                panic!("the server ended with {status}:\n{log}");
            }
            assert!(Instant::now() < until, "the server is not ready");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> Address {
        Address::parse(&self.url(), self.ca.as_deref()).unwrap()
    }

    /// Its address for a browser.
    pub(crate) fn url(&self) -> String {
        format!("http{}://127.0.0.1:{}", if self.ca.is_some() { "s" } else { "" }, self.port)
    }

    /// The arguments with which the programs find it.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let ca = self.ca.iter().flat_map(|file| ["--ca".to_owned(), file.display().to_string()]);
        ["--url".to_owned(), self.url()].into_iter().chain(ca).collect()
    }

    /// What it has said since its start.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("server.log")).unwrap()
    }

    /// Its HTTP half.
    pub(crate) fn api(&self) -> Api {
        Api::new(self.address())
    }

    /// Where its `data` is.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Somebody who has an account, as soon as it is known.
    pub(crate) async fn signs_in(&self, name: &str) -> Person {
        let made =
            eventually("the account", || async { self.api().create_token(name, "a good password").await.ok() }).await;
        Person { name: name.to_owned(), user_id: made.user_id, token: made.token, api: self.api(), at: self.address() }
    }

    /// A new account.
    pub(crate) async fn person(&self, name: &str) -> Person {
        let made = self.api().create_account(name, "a good password", name).await.unwrap();
        Person { name: name.to_owned(), user_id: made.user_id, token: made.token, api: self.api(), at: self.address() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(folder: &std::path::Path, port: u16, settings: &[String]) -> Child {
    let log = std::fs::File::create(folder.join("server.log")).unwrap();
    let mut command = Process::new(env!("CARGO_BIN_EXE_tidings"));
    command.arg("up").arg("--listen").arg(format!("127.0.0.1:{port}")).arg("--data").arg(folder.join("data"));
    for setting in settings {
        command.arg("--set").arg(setting);
    }
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Somebody with an account.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) user_id: String,
    pub(crate) token: String,
    api: Api,
    at: Address,
}

impl Person {
    /// Calls the API and expects success.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        self.try_call(method, path, body).await.unwrap_or_else(|error| panic!("{path}: {error:?}"))
    }

    /// Calls the API.
    pub(crate) async fn try_call(&self, method: Method, path: &str, body: Value) -> anyhow::Result<Value> {
        self.api.call(method, path, &self.token, (!body.is_null()).then_some(&body)).await
    }

    /// Calls the API and expects this status and code.
    pub(crate) async fn refused(&self, method: Method, path: &str, body: Value) -> (u16, String) {
        let error = self.try_call(method, path, body).await.expect_err("a refusal");
        let error = ApiError::of(&error).unwrap_or_else(|| panic!("{error:?}"));
        assert!(!error.error.message.is_empty());
        (error.status.as_u16(), error.error.code.clone())
    }

    /// A `GET`.
    pub(crate) async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path, Value::Null).await
    }

    /// The direct chat with somebody.
    pub(crate) async fn chat_with(&self, other: &Self) -> String {
        let body = json!({"kind": "direct", "member_ids": [other.user_id]});
        text(&self.call(Method::POST, "/v1/conversations", body).await["conversation_id"])
    }

    /// A new group.
    pub(crate) async fn group(&self, title: &str, others: &[&Self]) -> String {
        let ids: Vec<&str> = others.iter().map(|other| other.user_id.as_str()).collect();
        let body = json!({"kind": "group", "title": title, "member_ids": ids});
        text(&self.call(Method::POST, "/v1/conversations", body).await["conversation_id"])
    }

    /// Sends a text over HTTP.
    pub(crate) async fn post(&self, conversation: &str, client_message_id: &str, content: &str) -> Value {
        let body = json!({"client_message_id": client_message_id, "text": content});
        self.call(Method::POST, &format!("/v1/conversations/{conversation}/messages"), body).await
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> Connection {
        self.connect_as("device", &Resume::default()).await
    }

    /// A new connection of a device, perhaps with resume.
    pub(crate) async fn connect_as(&self, device: &str, resume: &Resume) -> Connection {
        let (socket, welcome) =
            Socket::connect(&self.at, Format::Json, &self.token, device, resume).await.expect("a welcome");
        Connection { socket, welcome, request: 0 }
    }
}

/// A JSON string.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}")).to_owned()
}

/// An open connection.
pub(crate) struct Connection {
    pub(crate) socket: Socket,
    pub(crate) welcome: Welcome,
    request: u32,
}

impl Connection {
    /// The next frame.
    pub(crate) async fn next(&mut self) -> ServerFrame {
        timeout(PATIENCE, self.socket.next()).await.expect("a frame in time").expect("a frame")
    }

    /// The next frame that is an update.
    pub(crate) async fn update(&mut self) -> Update {
        loop {
            if let Some(Body::Update(update)) = self.next().await.body {
                return update;
            }
        }
    }

    /// Updates until one that `pick` takes, which is given back as picked.
    pub(crate) async fn until<T>(&mut self, pick: impl Fn(&Update) -> Option<T>) -> T {
        loop {
            let update = self.update().await;
            if let Some(picked) = pick(&update) {
                return picked;
            }
        }
    }

    /// The next message with a text.
    pub(crate) async fn message(&mut self) -> Message {
        self.until(|update| match &update.kind {
            Some(Kind::Message(message)) if message.membership.is_none() => Some(message.clone()),
            _ => None,
        })
        .await
    }

    /// The next change of a conversation.
    pub(crate) async fn conversation(&mut self) -> Conversation {
        self.until(|update| match &update.kind {
            Some(Kind::Conversation(conversation)) => Some(conversation.clone()),
            _ => None,
        })
        .await
    }

    /// Sends a command without waiting for anything.
    pub(crate) async fn tell(&mut self, command: Command) -> u32 {
        self.request += 1;
        self.socket.send(self.request, command).await.expect("sent");
        self.request
    }

    /// Sends a command and waits for its reply; what comes in between is put aside into `aside`.
    pub(crate) async fn ask_with(&mut self, command: Command, aside: &mut Vec<ServerFrame>) -> Body {
        let request = self.tell(command).await;
        loop {
            let frame = self.next().await;
            if frame.id == Some(request) {
                return frame.body.expect("a result");
            }
            aside.push(frame);
        }
    }

    /// Sends a command and waits for its reply; what comes in between is dropped.
    pub(crate) async fn ask(&mut self, command: Command) -> Body {
        self.ask_with(command, &mut Vec::new()).await
    }

    /// Sends a text and waits until it is sent.
    pub(crate) async fn send(&mut self, conversation: &str, client_message_id: &str, content: &str) -> Message {
        match self.ask(send(conversation, client_message_id, content)).await {
            Body::Sent(sent) => sent.message.expect("the message"),
            other => panic!("{other:?}"),
        }
    }

    /// The error code that a command is answered with.
    pub(crate) async fn refused(&mut self, command: Command) -> String {
        match self.ask(command).await {
            Body::Error(error) => error.code,
            other => panic!("expected an error, got {other:?}"),
        }
    }

    /// Where to go on after this connection, having handled everything up to `offset`.
    pub(crate) fn resume_after(&self, offset: u64) -> Resume {
        Resume { epoch: self.welcome.epoch.clone(), offset }
    }
}

/// A `send` of a text.
pub(crate) fn send(conversation: &str, client_message_id: &str, content: &str) -> Command {
    Command::Send(client::Send {
        conversation_id: conversation.to_owned(),
        client_message_id: client_message_id.to_owned(),
        text: content.to_owned(),
        ..Default::default()
    })
}

/// Tries until it holds, for what becomes true soon after.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, check: impl Fn() -> F) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(Instant::now() < until, "never: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
