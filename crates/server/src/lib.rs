//! The HTTP server: routes, sign-in, scheduling, streams.

/// What `ml serve` was told on the command line; each `None` falls back to environment, file, default.
#[derive(Debug, Default, Clone)]
pub struct ServeFlags {
    pub config: Option<std::path::PathBuf>,
    pub data: Option<std::path::PathBuf>,
    pub listen: Option<String>,
    /// `sqlite:PATH` or `postgres://…`.
    pub database: Option<String>,
    pub admin_password_file: Option<std::path::PathBuf>,
    pub tls_cert: Option<std::path::PathBuf>,
    pub tls_key: Option<std::path::PathBuf>,
    /// A proxy in front does TLS.
    pub behind_proxy: bool,
    pub no_agent: bool,
    /// The address under which users reach the server, for links.
    pub public_url: Option<String>,
    /// `off`, `basic` or `rbac`.
    pub access: Option<String>,
    /// Such as `5m`.
    pub lease_time: Option<String>,
    /// Any other setting, as `key=value` of the TOML file: `--set log_bytes_max=1000000`.
    pub set: Vec<String>,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// In words for the operator; nothing was served then.
pub fn serve(flags: ServeFlags) -> Result<(), String> {
    let _ = flags;
    Err("not built".into())
}
