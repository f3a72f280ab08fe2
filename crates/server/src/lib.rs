//! The HTTP server: routes, sign-in, scheduling, streams.
//!
//! The way of a request: `routes/mod.rs` (one line) → `access.rs` (the door, passed before the handler runs) → handler → store function with its SQL.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use bailiwick_api::RoleId;
use bailiwick_api::key::KeyKind;
use bailiwick_api::server::AccessMode;
use bailiwick_store::access::Access;
use bailiwick_store::{Clock, Db, credentials, start, workspaces};

pub mod access;
mod background;
mod built_in_agent;
mod code;
pub mod config;
mod cookies;
mod executors;
pub mod failure;
pub mod mail;
pub mod openapi;
mod pages;
mod parts;
mod password;
mod routes;
mod wire;
mod work;

use access::Shared;
use config::Config;
use parts::Parts;

/// What `ml serve` was told on the command line; each `None` falls back to environment, file, default.
#[derive(Debug, Default, Clone)]
pub struct ServeFlags {
    pub config: Option<PathBuf>,
    pub data: Option<PathBuf>,
    pub listen: Option<String>,
    /// `sqlite:PATH` or `postgres://…`.
    pub database: Option<String>,
    pub admin_password_file: Option<PathBuf>,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    /// A proxy in front does TLS.
    pub behind_proxy: bool,
    pub no_agent: bool,
    /// The address under which users reach the server, for links.
    pub public_url: Option<String>,
    /// `off`, `basic`, `shadow` or `rbac`.
    pub access: Option<String>,
    /// Such as `5m`.
    pub lease_time: Option<String>,
    /// How many users may be active or pending at once.
    pub seats: Option<i64>,
    /// Any other setting, as `key=value` of the TOML file: `--set log_bytes_max=1000000`.
    pub set: Vec<String>,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// In words for the operator; nothing was served then.
pub fn serve(flags: ServeFlags) -> Result<(), String> {
    serve_configured(Config::load(&flags, |name| std::env::var(name).ok())?)
}

/// As [`serve`], with a second way to one experiment that checks nothing: only for measuring what the checks cost.
#[cfg(feature = "bench")]
pub fn serve_with_unchecked_twin(flags: ServeFlags) -> Result<(), String> {
    let config = Config::load(&flags, |name| std::env::var(name).ok())?;
    serve_configured(Config {
        unchecked_twin: true,
        ..config
    })
}

fn serve_configured(config: Config) -> Result<(), String> {
    let filter = std::env::var("ML_LOG").unwrap_or_else(|_| "info,sqlx=error".into());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let _ = subscriber.try_init();
    give_large_blocks_back();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|why| format!("cannot start: {why}"))?;
    let outcome = runtime.block_on(run(config));
    // What hangs in a blocking call must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// Hashing a password takes 19 MiB for a moment. Left to itself, glibc takes the first such block for a habit and keeps the next ones for good.
fn give_large_blocks_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number of the allocator's.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, 1 << 20);
    }
}

/// Holds the data directory: a second server on it is refused. Others may pass through it (jobs run below it as their own users) but see nothing in it.
fn lock(config: &Config) -> Result<std::fs::File, String> {
    use std::os::unix::fs::DirBuilderExt;
    let dir = &config.data;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(dir)
        .map_err(|why| format!("cannot make {}: {why}", dir.display()))?;
    let path = dir.join("lock");
    let file = std::fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = file.map_err(|why| format!("cannot open {}: {why}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(format!(
            "another `ml serve` is running on {}\n\nhint: stop that one first, or give this one its own directory with --data",
            dir.display()
        )),
        Err(std::fs::TryLockError::Error(why)) => Err(format!("cannot lock {}: {why}", path.display())),
    }
}

async fn run(config: Config) -> Result<(), String> {
    let running = Running::start(config, Clock::default()).await?;
    eprintln!("listening on {}", running.url);
    match running.access.mode() {
        AccessMode::Rbac => {}
        AccessMode::Off => {
            eprintln!("*** ACCESS CONTROL IS OFF: everybody who reaches this server can do everything ***")
        }
        AccessMode::Basic => eprintln!("access control: basic (owners and administrators only)"),
        AccessMode::Shadow => eprintln!(
            "access control: shadow (decides as basic: owners and administrators only; what rbac would decide differently is recorded)"
        ),
    }
    if let Some(link) = &running.admin_link {
        eprintln!(
            "sign in as `admin` with this link; it works once, until {}:\n\n  {}\n\nor: ml login --link '{}'\n",
            link.expires_at, link.url, link.url
        );
    }
    wait_for_signal().await;
    eprintln!("ending: no new requests; finishing the ones under way");
    running.stop().await
}

/// A server that serves.
pub struct Running {
    /// Where it listens: `http://127.0.0.1:PORT`.
    pub url: String,
    /// While nobody has set a password for `admin`: the link to do so.
    pub admin_link: Option<bailiwick_api::users::Link>,
    access: Arc<Access>,
    shared: Arc<Shared>,
    background: Vec<tokio::task::JoinHandle<()>>,
    agent: Option<tokio::task::JoinHandle<()>>,
    serving: tokio::task::JoinHandle<Result<(), String>>,
    handle: axum_server::Handle<SocketAddr>,
    _lock: std::fs::File,
}

impl Running {
    /// Opens the data, begins to listen, starts the built-in agent.
    pub async fn start(config: Config, clock: Clock) -> Result<Running, String> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let _lock = lock(&config)?;
        let tls = load_tls(&config).await?;
        let db = Db::open(&config.database, clock)
            .await
            .map_err(|why| format!("cannot open the database: {why}"))?;
        let admin_hash = match &config.admin_password_file {
            Some(path) => Some(admin_password(path)?),
            None => None,
        };
        let prepared = start::prepare(&db, admin_hash.as_deref())
            .await
            .map_err(|why| format!("cannot prepare the database: {why}"))?;
        let access = Access::open(db, config.access)
            .await
            .map_err(|why| format!("cannot load the rights: {why}"))?;
        if let Some(seats) = config.seats {
            access.limit_seats(seats);
        }
        access.seal_vaults_with(config.vault_key_file.clone());

        let (listener, address) = bind(&config.listen)?;
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let host = if address.ip().is_unspecified() {
            format!("127.0.0.1:{}", address.port())
        } else {
            address.to_string()
        };
        let url = format!("{scheme}://{host}");
        let public_url = config
            .public_url
            .clone()
            .unwrap_or_else(|| url.clone())
            .trim_end_matches('/')
            .to_owned();

        let creators_role = config.workspace_creator_role.as_deref();
        let creators_role = creators_role.map(|role| workspaces::creators_role(access.picture(), role));
        let creators_role = creators_role.transpose().map_err(|why| {
            format!(
                "workspace_creator_role: {why}\n\nhint: name a role that can be assigned on a workspace, such as WorkspaceAdmin, or `none`"
            )
        })?;
        let shared = shared(&config, access.clone(), public_url.clone(), creators_role)?;
        let background = background::start(&access, &shared);
        let handle = axum_server::Handle::new();
        let serving = tokio::spawn(listen(listener, table(&config), tls, shared.clone(), handle.clone()));

        let mut admin_link = None;
        if let Some(admin) = prepared.admin_without_password {
            let (token, hash) = routes::secret(KeyKind::Link);
            let expires = access.now().plus_ms(7 * 86_400_000);
            let admin = bailiwick_api::PrincipalId(admin);
            credentials::new_link_for_operator(&access, admin, &hash, expires)
                .await
                .map_err(|why| why.to_string())?;
            admin_link = Some(routes::link_view(&shared.parts, token, expires));
        }
        let mut agent = None;
        if let Some(settings) = config.agent.clone() {
            let (key, hash) = routes::secret(KeyKind::Api);
            credentials::new_built_in_agent_key(&access, built_in_agent::ACCOUNT, &hash)
                .await
                .map_err(|why| why.to_string())?;
            let data = std::path::absolute(&config.data).map_err(|why| why.to_string())?;
            // A certificate for a public name does not fit the loopback address: the agent beside the server has a door of its own, on loopback only.
            let to = match config.tls {
                None => url.clone(),
                Some(_) => {
                    let (listener, address) = bind("127.0.0.1:0")?;
                    tokio::spawn(listen(listener, table(&config), None, shared.clone(), handle.clone()));
                    format!("http://{address}")
                }
            };
            agent = Some(tokio::spawn(built_in_agent::keep_running(
                access.clone(),
                shared.clone(),
                settings,
                data,
                to,
                key,
            )));
        }
        Ok(Running {
            url,
            admin_link,
            access,
            shared,
            background,
            agent,
            serving,
            handle,
            _lock,
        })
    }

    /// Ends in order: the agent first, while the server can still hear its last words.
    pub async fn stop(self) -> Result<(), String> {
        self.shared.parts.hub.ending.send_replace(true);
        if let Some(agent) = self.agent {
            let _ = agent.await;
        }
        self.handle.graceful_shutdown(Some(Duration::from_secs(10)));
        let outcome = self.serving.await.map_err(|why| why.to_string())?;
        for task in self.background {
            let _ = tokio::time::timeout(Duration::from_secs(5), task).await;
        }
        self.access.close().await;
        outcome
    }
}

fn admin_password(path: &std::path::Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|why| format!("cannot read {}: {why}", path.display()))?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    password::check(password, "admin").map_err(|why| format!("the password in {}: {why}", path.display()))?;
    password::hash(password)
}

fn shared(
    config: &Config,
    access: Arc<Access>,
    public_url: String,
    workspace_creator_role: Option<RoleId>,
) -> Result<Arc<Shared>, String> {
    let code_dir = config.data.join("code");
    let code = code::CodeFiles::open(code_dir.clone(), config.max_code_bytes)
        .map_err(|why| format!("cannot use {}: {why}", code_dir.display()))?;
    let others_write = !access.is_sqlite();
    let parts = Parts {
        hub: parts::Hub::default(),
        limiter: parts::Limiter::default(),
        metrics: parts::Metrics::default(),
        code,
        mode: config.access,
        behind_proxy: config.behind_proxy,
        metrics_open: config.metrics_open,
        contact: config.contact.clone(),
        mailer: config.smtp.as_ref().map(mail::Mailer::new).transpose()?,
        lease_ms: config.lease_ms,
        on_lost_agent: config.on_lost_agent,
        log_bytes_max: config.log_bytes_max,
        session_ms: config.session_ms,
        workspace_creator_role,
        agent_account: config.agent.as_ref().map(|_| built_in_agent::ACCOUNT),
        public_url,
        hashing: tokio::sync::Semaphore::new(2),
        others_write,
        openapi: std::sync::OnceLock::new(),
        docs_page: std::sync::OnceLock::new(),
    };
    Ok(Shared::new(access, parts))
}

/// With a timer, a client that sends its head a byte at a time is cut off after hyper's 30 s.
fn set_timers(builder: &mut hyper_util::server::conn::auto::Builder<hyper_util::rt::TokioExecutor>) {
    builder.http1().timer(hyper_util::rt::TokioTimer::new());
    builder.http2().timer(hyper_util::rt::TokioTimer::new());
}

fn bind(listen: &str) -> Result<(std::net::TcpListener, SocketAddr), String> {
    let listener = std::net::TcpListener::bind(listen).map_err(|why| {
        format!("cannot listen on {listen}: {why}\n\nhint: is another program there? choose another with --listen 127.0.0.1:PORT")
    })?;
    listener
        .set_nonblocking(true)
        .map_err(|why| format!("cannot listen: {why}"))?;
    let address = listener.local_addr().map_err(|why| format!("cannot listen: {why}"))?;
    Ok((listener, address))
}

#[cfg(not(feature = "bench"))]
fn table(_: &Config) -> access::Routes {
    routes::table()
}

#[cfg(feature = "bench")]
fn table(config: &Config) -> access::Routes {
    let mut routes = routes::table();
    if config.unchecked_twin {
        access::unchecked::add(&mut routes);
    }
    routes
}

/// The certificate and its key, looked at before anything is promised.
async fn load_tls(config: &Config) -> Result<Option<RustlsConfig>, String> {
    let Some((cert, key)) = &config.tls else {
        return Ok(None);
    };
    let loaded = RustlsConfig::from_pem_file(cert, key).await;
    let words = |why| {
        format!(
            "cannot use the certificate {} with the key {}: {why}",
            cert.display(),
            key.display()
        )
    };
    loaded.map(Some).map_err(words)
}

async fn listen(
    listener: std::net::TcpListener,
    routes: access::Routes,
    tls: Option<RustlsConfig>,
    shared: Arc<Shared>,
    handle: axum_server::Handle<SocketAddr>,
) -> Result<(), String> {
    let service = routes
        .into_router(shared)
        .into_make_service_with_connect_info::<SocketAddr>();
    let outcome = match tls {
        Some(config) => {
            let mut server = axum_server::from_tcp_rustls(listener, config)
                .map_err(|why| why.to_string())?
                .handle(handle);
            set_timers(server.http_builder());
            server.serve(service).await
        }
        None => {
            let mut server = axum_server::from_tcp(listener)
                .map_err(|why| why.to_string())?
                .handle(handle);
            set_timers(server.http_builder());
            server.serve(service).await
        }
    };
    outcome.map_err(|why| format!("the listener failed: {why}"))
}

async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be listened for");
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be listened for");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
