use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use margay_datastore::Datastore;
use tempfile::TempDir;

/// A store that a test has for itself.
pub(crate) trait Backend {
    /// Makes an empty store.
    async fn start() -> Self;

    /// Returns the URL for [`margay_datastore::open`].
    fn url(&self) -> String;

    /// Opens it anew, as another program would.
    fn open(&self) -> Arc<dyn Datastore> {
        margay_datastore::open(&self.url()).unwrap()
    }
}

/// Removes everything.
pub(crate) async fn wipe(store: &dyn Datastore) {
    for item in store.list("/").await.unwrap().items {
        store.delete(&item.key, None).await.unwrap();
    }
}

/// A directory in memory where there is such a file system: what a crash of the machine does is not tested here.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// A file in a directory of its own.
pub(crate) struct Sqlite {
    directory: TempDir,
}

impl Backend for Sqlite {
    async fn start() -> Self {
        Self { directory: directory() }
    }

    fn url(&self) -> String {
        format!("sqlite://{}", self.directory.path().join("store.db").display())
    }
}

/// An etcd of one member on loopback, with a data directory and ports of its own; dropping it kills it.
pub(crate) struct Etcd {
    process: Child,
    client_port: u16,
    _data: TempDir,
}

impl Etcd {
    fn launch() -> Self {
        for binary in ["etcd", "setpriv"] {
            let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
                .any(|directory| directory.join(binary).is_file());
            assert!(found, "{binary} is not installed: apt-get install etcd-server util-linux");
        }
        // Held at once, so that they differ.
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [client_port, peer_port] = listeners.map(|listener| listener.local_addr().unwrap().port());
        let [client, peer] = [client_port, peer_port].map(|port| format!("http://127.0.0.1:{port}"));
        let data = directory();
        // The kernel kills it together with this thread, should the test itself be killed.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "etcd", "--name=t", "--logger=zap", "--log-level=error"])
            .args(["--heartbeat-interval=20", "--election-timeout=200"])
            .arg(format!("--data-dir={}", data.path().display()))
            .args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")])
            .args([format!("--listen-peer-urls={peer}"), format!("--initial-advertise-peer-urls={peer}")])
            .arg(format!("--initial-cluster=t={peer}"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, client_port, _data: data }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Backend for Etcd {
    async fn start() -> Self {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut etcd = Self::launch();
        let mut store = etcd.open();
        while let Err(error) = store.get("/probe").await {
            assert!(Instant::now() < deadline, "etcd does not come up: {error}");
            // Somebody may have taken one of the free ports meanwhile.
            if etcd.process.try_wait().unwrap().is_some() {
                etcd = Self::launch();
                store = etcd.open();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        etcd
    }

    fn url(&self) -> String {
        format!("etcd://127.0.0.1:{}", self.client_port)
    }
}
