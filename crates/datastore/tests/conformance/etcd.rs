use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Backend;

const LIMIT: Duration = Duration::from_secs(20);

/// An etcd of one member on loopback, with a data directory and ports of its own; dropping it kills it.
pub(crate) struct Etcd {
    data: TempDir,
    client_port: u16,
    peer_port: u16,
    extra: Vec<String>,
    scheme: &'static str,
    process: Option<Child>,
}

impl Etcd {
    /// Chooses ports and a directory, and starts nothing.
    pub(crate) fn prepared() -> Self {
        for binary in ["etcd", "setpriv"] {
            let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
                .any(|directory| directory.join(binary).is_file());
            assert!(found, "{binary} is not installed: apt-get install etcd-server util-linux");
        }
        // Held at once, so that they differ.
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [client_port, peer_port] = listeners.map(|listener| listener.local_addr().unwrap().port());
        let data = tempfile::tempdir().unwrap();
        Self { data, client_port, peer_port, extra: Vec::new(), scheme: "http", process: None }
    }

    /// Serves clients over TLS with this certificate and key, and asks them for one signed by `authority`.
    pub(crate) fn with_tls(mut self, certificate: &Path, key: &Path, authority: &Path) -> Self {
        self.scheme = "https";
        let show = |path: &Path| path.to_str().unwrap().to_owned();
        self.extra.extend([
            format!("--cert-file={}", show(certificate)),
            format!("--key-file={}", show(key)),
            format!("--trusted-ca-file={}", show(authority)),
            "--client-cert-auth".into(),
        ]);
        self
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.client_port)
    }

    /// Starts the process and doesn't wait until it serves.
    pub(crate) fn launch(&mut self) {
        let (client, peer) = (self.endpoint(), format!("http://127.0.0.1:{}", self.peer_port));
        // The kernel kills it together with this thread, should the test itself be killed.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "etcd", "--name=t", "--logger=zap", "--log-level=error"])
            .args(["--heartbeat-interval=20", "--election-timeout=200"])
            .arg(format!("--data-dir={}", self.data.path().display()))
            .args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")])
            .args([format!("--listen-peer-urls={peer}"), format!("--initial-advertise-peer-urls={peer}")])
            .arg(format!("--initial-cluster=t={peer}"))
            .args(&self.extra)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(process);
    }

    /// Kills the process, as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn has_exited(&mut self) -> bool {
        self.process.as_mut().is_none_or(|process| process.try_wait().unwrap().is_some())
    }

    /// Throws its data away while it is down.
    pub(crate) fn wipe(&mut self) {
        assert!(self.process.is_none());
        self.data = tempfile::tempdir().unwrap();
    }

    /// Waits until the store answers.
    pub(crate) async fn wait_until_served(store: &dyn margay_datastore::Datastore) {
        let deadline = Instant::now() + LIMIT;
        while let Err(error) = store.get("/probe").await {
            assert!(Instant::now() < deadline, "etcd does not come up: {error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Backend for Etcd {
    async fn start() -> Self {
        let mut etcd = Self::prepared();
        etcd.launch();
        let store = etcd.open();
        let deadline = Instant::now() + LIMIT;
        while let Err(error) = store.get("/probe").await {
            // Somebody may have taken one of the free ports meanwhile.
            if etcd.has_exited() {
                return Box::pin(Self::start()).await;
            }
            assert!(Instant::now() < deadline, "etcd does not come up: {error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        etcd
    }

    fn url(&self) -> String {
        format!("etcd://127.0.0.1:{}", self.client_port)
    }
}
