//! The real nginx, in front of a name's port 80.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;

use crate::http::{self, Request, Response};
use crate::process::Process;
use crate::{Directory, is_missing, tool};

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    address: SocketAddr,
    process: Process,
    files: Directory,
}

impl Nginx {
    /// Returns whether nginx is missing, so that the test must be skipped. With `CI=true` the test
    /// fails instead.
    #[track_caller]
    pub fn is_missing(test: &str) -> bool {
        is_missing("nginx", Command::new(program()).arg("-v"), test)
    }

    /// Starts one whose `http` block holds `sites`. Machine-specific parts (`listen 80`, the
    /// resolver, the trusted roots) are replaced by those of the local cloud.
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
        let running =
            format!("daemon off;\nmaster_process off;\nevents {{}}\nhttp {{\n{sites}\n}}\n");
        Self::run(&running, http, files).await
    }

    /// Starts one that serves the certificate in these files, in the usual way: a master, which can
    /// reload the files, and workers.
    pub(crate) async fn start_over_tls(chain: &Path, key: &Path, https: SocketAddr) -> Self {
        let (chain, key) = (chain.display(), key.display());
        let running = format!(
            "daemon off;\nworker_processes 1;\nevents {{}}\nhttp {{\nserver {{\n\
             listen {https} ssl;\nssl_certificate {chain};\nssl_certificate_key {key};\n\
             location / {{ return 200 \"the site\\n\"; }}\n}}\n}}\n"
        );
        Self::run(&running, https, Directory::new()).await
    }

    async fn run(configuration: &str, address: SocketAddr, files: Directory) -> Self {
        let path = |name: &str| files.0.join(name).display().to_string();
        let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let folders = folders.map(|kind| format!("{kind}_temp_path {};", path(kind)));
        let logs = format!("http {{\naccess_log /dev/stdout;\n{}\n", folders.join("\n"));
        let configuration = format!(
            "pid {};\nerror_log stderr info;\n{}",
            path("nginx.pid"),
            configuration.replacen("http {\n", &logs, 1),
        );
        let configured = path(CONFIGURED);
        std::fs::write(&configured, configuration).unwrap();

        let mut nginx = Command::new(program());
        nginx.args(["-e", "stderr", "-p", &path(""), "-c", &configured]);
        let process = Process::start_watched("nginx", &nginx).unwrap();
        let mut connected = false;
        for _ in 0..400 {
            connected = TcpStream::connect(address).await.is_ok();
            if connected || process.exited().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let printed = process.output().join("\n");
        assert!(connected, "nginx does not answer on {address}:\n{printed}");
        Self {
            address,
            process,
            files,
        }
    }

    /// Returns the shell command for the program with these arguments. `-t` checks the
    /// configuration and its files, `-s reload` loads them again.
    pub fn command(&self, arguments: &str) -> String {
        let (program, files) = (program(), &self.files.0);
        let configured = files.join(CONFIGURED);
        format!(
            "{} -e stderr -p {}/ -c {} {arguments}",
            program.display(),
            files.display(),
            configured.display(),
        )
    }

    /// Returns the path of its configuration.
    pub fn configuration(&self) -> PathBuf {
        self.files.0.join(CONFIGURED)
    }

    /// Returns the address that replaces its port 80, or 443 where it serves a certificate.
    pub fn http(&self) -> SocketAddr {
        self.address
    }

    /// Fetches a path.
    pub async fn fetch(&self, host: &str, path: &str) -> Response {
        self.request(Request::get(host, path)).await
    }

    /// Sends a request.
    pub async fn request(&self, request: Request) -> Response {
        let stream = TcpStream::connect(self.address).await.unwrap();
        http::exchange(stream, request).await.unwrap()
    }

    /// Returns its logs so far.
    pub fn output(&self) -> Vec<String> {
        self.process.output()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Workers outlive a killed master.
        let mut stop = Command::new("sh");
        stop.args(["-c", &self.command("-s stop")]);
        let _ = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
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

const CONFIGURED: &str = "nginx.conf";
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
