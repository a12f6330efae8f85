//! The embedded engine behind its port, in a process of its own: this test binary, started again. And a line to it that
//! loses answers.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;
use tidings_dataflow::archive::{
    ArchiveSettings, ClickHouseArchive, ClickHouseConfig, EmbeddedArchive,
    http::{Credentials, HttpConfig, serve},
    libchdb::configuration::EngineConfiguration,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const FOLDER: &str = "TIDINGS_TEST_CLICKHOUSE_FOLDER";
const PORT: &str = "TIDINGS_TEST_CLICKHOUSE_PORT";
const USER: &str = "archivist";
const PASSWORD: &str = "right-one";

/// Not a test of its own: what the server's process does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(folder) = env::var(FOLDER) else { return };
    let archive = EmbeddedArchive::open(&EngineConfiguration::in_folder(folder), ArchiveSettings::default()).unwrap();
    let config = HttpConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], env::var(PORT).unwrap().parse().unwrap())),
        writable: true,
        credentials: Some(Credentials::new(USER, PASSWORD)),
        ..HttpConfig::default()
    };
    let handle = serve(&config, &archive).await.unwrap();
    println!("\nlistening {}", handle.address());
    std::io::stdout().flush().unwrap();
    std::future::pending::<()>().await;
}

/// A server, and where its data are.
pub(crate) struct Server {
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let port = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap().local_addr().unwrap().port();
        let mut server = Self { folder: tempfile::tempdir().unwrap(), port, child: None };
        server.run();
        server
    }

    /// Starts it (again), and waits until it listens.
    pub(crate) fn run(&mut self) {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["server::child", "--exact", "--nocapture", "--test-threads=1"])
            .env(FOLDER, self.folder.path())
            .env(PORT, self.port.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().starts_with("listening")), "the server does not start");
        self.child = Some(child);
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn password_file(&self) -> PathBuf {
        let file = self.folder.path().join("password");
        std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
        file
    }

    pub(crate) fn config(&self) -> ClickHouseConfig {
        ClickHouseConfig {
            url: format!("http://{}", self.address()),
            username: Some(USER.to_owned()),
            password_file: Some(self.password_file()),
            ..ClickHouseConfig::default()
        }
    }

    /// The archive, as a process of its own would open it.
    pub(crate) fn archive(&self) -> ClickHouseArchive {
        archive(&self.config())
    }

    /// What a statement answers, as tab-separated text.
    pub(crate) async fn sql(&self, statement: &str) -> String {
        let client = clickhouse::Client::default()
            .with_url(self.config().url)
            .with_user(USER)
            .with_password(PASSWORD)
            .with_database("tidings")
            .with_compression(clickhouse::Compression::None);
        let answer = client.query_raw(statement).fetch_bytes("TSV").unwrap().collect().await.unwrap();
        String::from_utf8(answer.to_vec()).unwrap()
    }
}

pub(crate) fn archive(config: &ClickHouseConfig) -> ClickHouseArchive {
    static TOKEN: AtomicUsize = AtomicUsize::new(1);
    ClickHouseArchive::new(config, 365, TOKEN.fetch_add(1, Ordering::Relaxed) as u64).unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A line to a server. It cuts some connections: before the request has come whole, or when it has and the answer has
/// not, so that the work may be done and nobody is told.
pub(crate) struct BadLine {
    pub(crate) address: SocketAddr,
    cuts: Arc<AtomicUsize>,
}

impl BadLine {
    pub(crate) async fn to(server: SocketAddr, seed: u64) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&cuts);
        let random = Arc::new(Mutex::new(StdRng::seed_from_u64(seed)));
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (random, cuts) = (Arc::clone(&random), Arc::clone(&counted));
                tokio::spawn(async move {
                    let Ok(mut far) = tokio::net::TcpStream::connect(server).await else { return };
                    let (mut from_near, mut to_near) = near.split();
                    let (mut from_far, mut to_far) = far.split();
                    let (mut request, mut answer) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
                    loop {
                        let cut = random.lock().unwrap().random_range(0..1_000);
                        tokio::select! {
                            read = from_near.read(&mut request) => {
                                let Ok(read @ 1..) = read else { return };
                                if cut < 10 {
                                    cuts.fetch_add(1, Ordering::Relaxed);
                                    return;
                                }
                                if to_far.write_all(&request[..read]).await.is_err() { return }
                            }
                            read = from_far.read(&mut answer) => {
                                let Ok(read @ 1..) = read else { return };
                                if cut < 50 {
                                    cuts.fetch_add(1, Ordering::Relaxed);
                                    return;
                                }
                                if to_near.write_all(&answer[..read]).await.is_err() { return }
                            }
                        }
                    }
                });
            }
        });
        Self { address, cuts }
    }

    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}
