//! nginx, the program itself, before a name's port 80.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;

use crate::http::{self, Request, Response};
use crate::process::Process;
use crate::{Directory, tool};

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    http: SocketAddr,
    process: Process,
    _files: Directory,
}

impl Nginx {
    /// Returns whether there is one to run.
    pub fn installed() -> bool {
        let mut version = Command::new(program());
        let version = version.arg("-v").stdout(Stdio::null());
        let status = version.stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    /// Starts one whose `http` block holds `sites`, in which what belongs to the machine (`listen 80`, the resolver, the
    /// trusted roots) is replaced by the local cloud's.
    pub(crate) async fn start(sites: &str, http: SocketAddr, dns: SocketAddr, roots: &str) -> Self {
        let files = Directory::new();
        let path = |name: &str| files.0.join(name).display().to_string();
        let bundle = path("roots.pem");
        std::fs::write(&bundle, roots).unwrap();

        let lines = sites.lines().map(|line| match line.trim_start() {
            text if text.starts_with("listen 80") => format!("listen {http};"),
            text if text.starts_with("listen [") => String::new(),
            text if text.starts_with("resolver ") => format!("resolver {dns};"),
            _ => line.to_owned(),
        });
        let sites = lines.collect::<Vec<_>>().join("\n");
        let sites = sites.replace(SYSTEM_ROOTS, &bundle);
        let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let folders = folders.map(|kind| format!("{kind}_temp_path {};", path(kind)));
        let configuration = format!(
            "daemon off;\nmaster_process off;\npid {};\nerror_log stderr info;\nevents {{}}\n\
             http {{\naccess_log /dev/stdout;\n{}\n{sites}\n}}\n",
            path("nginx.pid"),
            folders.join("\n"),
        );
        let configured = path("nginx.conf");
        std::fs::write(&configured, configuration).unwrap();

        let mut nginx = Command::new(program());
        nginx.args(["-e", "stderr", "-p", &path(""), "-c", &configured]);
        let process = Process::start_watched("nginx", &nginx).unwrap();
        let mut connected = false;
        for _ in 0..400 {
            connected = TcpStream::connect(http).await.is_ok();
            if connected || process.exited().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let printed = process.output().join("\n");
        assert!(connected, "nginx does not answer on {http}:\n{printed}");
        Self {
            http,
            process,
            _files: files,
        }
    }

    /// Returns what stands for its port 80.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Fetches a path.
    pub async fn fetch(&self, host: &str, path: &str) -> Response {
        self.request(Request::get(host, path)).await
    }

    /// Sends a request.
    pub async fn request(&self, request: Request) -> Response {
        let stream = TcpStream::connect(self.http).await.unwrap();
        http::exchange(stream, request).await.unwrap()
    }

    /// Returns its logs so far.
    pub fn output(&self) -> Vec<String> {
        self.process.output()
    }
}

/// Prefers the installed program to the one in PATH.
fn program() -> PathBuf {
    let installed = tool("nginx/nginx");
    match installed.exists() {
        true => installed,
        false => "nginx".into(),
    }
}

const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
