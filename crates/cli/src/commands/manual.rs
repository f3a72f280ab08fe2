//! `ml --version`, `ml completions`, `ml man`

use std::path::Path;
use std::time::Duration;

use crate::args::{self, Common};
use crate::connect::{Connection, block_on};
use crate::failure::{Failure, Result};
use crate::output::{Output, json, write};

/// For as long a slow server may hold up `ml --version`.
const PATIENCE: Duration = Duration::from_secs(1);

pub fn version(common: &Common) -> Result<()> {
    let server = server_version(common);
    if Output::new(common.output).wants_json() {
        let server = server.map(|(url, version)| serde_json::json!({"url": url, "version": version}));
        return write(&json(
            &serde_json::json!({"version": env!("CARGO_PKG_VERSION"), "server": server}),
        ));
    }
    let server = server
        .map(|(url, version)| format!("server {version} at {url}\n"))
        .unwrap_or_default();
    write(&format!("ml {}\n{server}", env!("CARGO_PKG_VERSION")))
}

/// Nothing where there is no server: the version of this program is what was asked for.
fn server_version(common: &Common) -> Option<(String, String)> {
    let connection = Connection::open(common).ok()?;
    let info = block_on(async {
        let info = tokio::time::timeout(PATIENCE, connection.client.info()).await;
        info.map_err(|_| Failure::silent(1))?.map_err(Failure::from)
    });
    Some((connection.settings.server.value, info.ok()?.version))
}

pub fn completions(shell: clap_complete::Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "ml", &mut script);
    crate::output::write_bytes(&script)
}

pub fn pages(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|why| Failure::file("make", dir, &why))?;
    clap_mangen::generate_to(args::command(), dir).map_err(|why| Failure::file("write into", dir, &why))
}
