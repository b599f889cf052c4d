//! A real PgBouncer in transaction mode before a database.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::{fs::chown, process::CommandExt},
    process::{Child, Command, Stdio},
};

use nix::unistd::Uid;
use reqwest::Url;
use tempfile::TempDir;

use crate::{cluster, database};

pub struct Pooler {
    url: String,
    child: Child,
    _folder: TempDir,
}

impl Pooler {
    /// Gives each client one of `servers` connections to the database at `url`, for a transaction at a time.
    ///
    /// # Panics
    /// Where there is no PgBouncer, or it does not start.
    pub async fn before(url: &str, servers: u16) -> Self {
        let target = Url::parse(url).expect("a database URL");
        let password = target.password().map(|password| format!(" password='{password}'")).unwrap_or_default();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, cluster::free_port()));
        let settings = format!(
            "[databases]\n* = host={} port={} user={}{password}\n[pgbouncer]\nlisten_addr = {}\nlisten_port = {}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = {servers}\n",
            target.host_str().expect("a host"),
            target.port().unwrap_or(5432),
            target.username(),
            address.ip(),
            address.port(),
        );
        let file = folder.path().join("pgbouncer.ini");
        fs::write(&file, settings).expect("settings");
        let mut command = Command::new(database::program("pgbouncer").expect("PgBouncer"));
        command.arg("--quiet").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if Uid::effective().is_root() {
            let user = database::unprivileged().expect("a user");
            let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
            chown(folder.path(), Some(uid), Some(gid)).expect("its folder");
            command.uid(uid).gid(gid);
        }
        let child = command.spawn().expect("PgBouncer starts");
        cluster::listens(address, true).await;
        Self { url: format!("postgres://{}@{address}{}", target.username(), target.path()), child, _folder: folder }
    }

    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _ended = self.child.wait();
    }
}
