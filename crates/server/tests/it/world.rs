//! A server of its own for each test, and people to talk to it.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use bailiwick_api::agents::{
    Happened, Held, JobLease, JobUsage, OnLostAgent, Poll, PollAnswer, Register, Report, Slot, SlotKind,
};
use bailiwick_api::experiments::{Experiment, NewExperiment};
use bailiwick_api::server::AccessMode;
use bailiwick_api::tokens::NewToken;
use bailiwick_api::users::{LoginWithLink, NewServiceAccount, NewUser};
use bailiwick_api::{AgentId, ErrorEnvelope, PrincipalId, Time, key};
use bailiwick_client::Client;
use bailiwick_server::Running;
use bailiwick_server::config::Config;
use bailiwick_store::{Clock, Db, start};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sqlx::any::{AnyPoolOptions, AnyRow};
use sqlx::{AnyPool, AssertSqlSafe, Executor, Row};

pub const PASSWORD: &str = "correct horse battery";
/// When the clock of every test begins to stand: 2026-11-21.
pub const START: Time = Time(1_795_219_200_000_000);
/// Longer than anything takes; whoever waits looks again and again until then.
pub const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    Sqlite,
    Postgres,
}

/// The databases to test on.
pub fn databases() -> Vec<Database> {
    static SAID: Once = Once::new();
    if std::env::var_os("ML_TEST_POSTGRES").is_some() {
        return vec![Database::Sqlite, Database::Postgres];
    }
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "ML_TEST_POSTGRES is not set: run this through scripts/with-postgres.sh"
    );
    SAID.call_once(|| eprintln!("*** PostgreSQL IS LEFT OUT: run this through scripts/with-postgres.sh ***"));
    vec![Database::Sqlite]
}

/// Runs a test on each database, each time with a fresh server.
pub fn on_both<F, Fut>(test: F)
where
    F: Fn(World) -> Fut + Sync,
    Fut: Future<Output = ()> + Send + 'static,
{
    on_both_with(|_| {}, test);
}

/// As [`on_both`], with another configuration than the usual one.
pub fn on_both_with<F, Fut>(set: impl Fn(&mut Config) + Sync, test: F)
where
    F: Fn(World) -> Fut + Sync,
    Fut: Future<Output = ()> + Send + 'static,
{
    std::thread::scope(|scope| {
        for database in databases() {
            let (set, test) = (&set, &test);
            scope.spawn(move || on(database, set, test));
        }
    });
}

pub fn on<F, Fut>(database: Database, set: impl Fn(&mut Config), test: F)
where
    F: Fn(World) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be made");
    runtime.block_on(async {
        let world = World::start(database, &set).await;
        let outcome = tokio::spawn(test(world.clone())).await;
        world.end().await;
        if let Err(panic) = outcome {
            eprintln!("this was on {database:?}");
            std::panic::resume_unwind(panic.into_panic());
        }
    });
}

/// A running server, its database, and the hand of its clock.
#[derive(Clone)]
pub struct World(Arc<Inner>);

pub struct Inner {
    pub database: Database,
    pub config: Config,
    pub url: String,
    /// The user `admin`.
    pub admin: Person,
    /// The link that the first start printed.
    pub first_link: String,
    clock: Clock,
    hand: Arc<AtomicI64>,
    servers: Mutex<Vec<Running>>,
    dir: tempfile::TempDir,
    sql: AnyPool,
    postgres: Option<PostgresDatabase>,
}

impl Deref for World {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// What a test server runs with, before the test changes it.
fn usual_config(data: PathBuf, database: String) -> Config {
    Config {
        vault_key_file: data.join("vault.keys"),
        data,
        listen: "127.0.0.1:0".into(),
        database,
        admin_password_file: None,
        tls: None,
        behind_proxy: false,
        agent: None,
        public_url: None,
        access: AccessMode::Rbac,
        lease_ms: 60_000,
        on_lost_agent: OnLostAgent::Requeue,
        max_code_bytes: 1024 * 1024,
        log_bytes_max: 1024 * 1024,
        session_ms: 3_600_000,
        workspace_creator_role: Some("WorkspaceAdmin".into()),
        metrics_open: false,
        contact: None,
        seats: None,
        smtp: None,
    }
}

impl World {
    async fn start(database: Database, set: impl Fn(&mut Config)) -> World {
        sqlx::any::install_default_drivers();
        if let Ok(filter) = std::env::var("ML_LOG") {
            let _ = tracing_subscriber::fmt().with_env_filter(filter).try_init();
        }
        let dir = tempfile::tempdir().expect("a directory can be made");
        let data = dir.path().join("data");
        let (url, postgres) = match database {
            Database::Sqlite => (format!("sqlite:{}", data.join("bailiwick.db").display()), None),
            Database::Postgres => {
                let made = PostgresDatabase::make().await;
                (made.url.clone(), Some(made))
            }
        };
        let mut config = usual_config(data, url);
        set(&mut config);
        let (clock, hand) = Clock::fixed(START);
        let server = Running::start(config.clone(), clock.clone())
            .await
            .expect("the server starts");
        let first_link = server.admin_link.clone().expect("a first start gives a link").token;
        let sql = AnyPoolOptions::new()
            .max_connections(2)
            .connect(&config.database.replace("sqlite:", "sqlite://"))
            .await
            .expect("the database can be opened beside the server");
        let stranger = Client::new(&server.url, None, None).expect("a client can be made");
        let link = LoginWithLink {
            token: first_link.clone(),
            password: Some(PASSWORD.into()),
        };
        let session = stranger.login_with_link(&link).await.expect("the first link works");
        let admin = Person::of(&stranger, "admin", &session.token).await;
        World(Arc::new(Inner {
            database,
            url: server.url.clone(),
            admin,
            first_link,
            clock,
            hand,
            servers: Mutex::new(vec![server]),
            dir,
            sql,
            postgres,
            config,
        }))
    }

    /// Another server on the same PostgreSQL database. Its address.
    pub async fn another_server(&self, set: impl Fn(&mut Config)) -> String {
        let mut config = self.config.clone();
        config.data = self.dir.path().join(format!("data-{}", fresh_number()));
        set(&mut config);
        let server = Running::start(config, self.clock.clone())
            .await
            .expect("the other server starts");
        let url = server.url.clone();
        self.servers.lock().unwrap().push(server);
        url
    }

    /// Ends the servers and starts the first one anew on what they left. Its address.
    pub async fn restart(&self, set: impl Fn(&mut Config)) -> String {
        self.stop_servers().await;
        let mut config = self.config.clone();
        set(&mut config);
        let server = Running::start(config, self.clock.clone())
            .await
            .expect("the server starts again");
        let url = server.url.clone();
        self.servers.lock().unwrap().push(server);
        url
    }

    pub async fn stop_servers(&self) {
        let servers = std::mem::take(&mut *self.servers.lock().unwrap());
        for server in servers {
            server.stop().await.expect("a server ends in order");
        }
    }

    async fn end(self) {
        self.stop_servers().await;
        self.sql.close().await;
        if let Some(postgres) = &self.postgres {
            postgres.drop().await;
        }
    }

    /// Moves the clock, forward or back.
    pub fn pass_ms(&self, ms: i64) {
        self.hand.fetch_add(ms * 1000, Ordering::SeqCst);
    }

    pub fn now(&self) -> Time {
        self.clock.now()
    }

    pub fn data(&self) -> PathBuf {
        self.config.data.clone()
    }

    pub fn postgres_name(&self) -> &str {
        &self.postgres.as_ref().expect("only asked on PostgreSQL").name
    }

    /// Changes the database behind the server's back.
    pub async fn sql(&self, text: impl Into<String>) -> Result<(), sqlx::Error> {
        self.sql.execute(AssertSqlSafe(text.into())).await.map(|_| ())
    }

    pub async fn rows(&self, text: impl Into<String>) -> Vec<AnyRow> {
        self.sql
            .fetch_all(AssertSqlSafe(text.into()))
            .await
            .expect("the query is right")
    }

    pub async fn count(&self, from: &str) -> i64 {
        self.rows(format!("SELECT COUNT(*) FROM {from}")).await[0].get(0)
    }

    pub fn nobody(&self) -> Person {
        Person {
            name: "nobody".into(),
            id: PrincipalId(0),
            key: String::new(),
            client: self.admin.client.with_key(None),
        }
    }

    /// A new user with what the group `Users` gives: a data scientist in workspace `default`.
    pub async fn person(&self, name: &str) -> Person {
        self.make_person(name, None).await
    }

    /// A new user with a role, globally if it is a global one, else in workspace `default`.
    pub async fn person_with(&self, name: &str, role: &str) -> Person {
        self.make_person(name, Some(role)).await
    }

    async fn make_person(&self, name: &str, role: Option<&str>) -> Person {
        let new = NewUser {
            name: name.into(),
            password: Some(PASSWORD.into()),
            role: role.map(str::to_owned),
            ..NewUser::default()
        };
        self.admin
            .client
            .create_user(&new)
            .await
            .expect("the administrator makes a user");
        let token = NewToken {
            user: Some(name.into()),
            label: "test".into(),
            ..NewToken::default()
        };
        let made = self
            .admin
            .client
            .create_token(&token)
            .await
            .expect("the administrator makes a key");
        Person::of(&self.admin.client, name, &made.secret).await
    }

    /// An agent with so many CPU slots, under a service account of its own.
    pub async fn agent(&self, name: &str, slots: u32) -> Hand {
        self.agent_of(name, slots, &["default"]).await
    }

    pub async fn agent_of(&self, name: &str, slots: u32, queues: &[&str]) -> Hand {
        let queues: Vec<String> = queues.iter().map(|queue| (*queue).to_owned()).collect();
        let account = NewServiceAccount {
            name: format!("{name}-account"),
            serve: queues.clone(),
            impersonate: false,
        };
        let made = self
            .admin
            .client
            .create_service_account(&account)
            .await
            .expect("the account can be made");
        let client = self.admin.client.with_key(Some(&made.secret));
        let registration = Register {
            queues,
            ..registration(name, slots)
        };
        let known = client.register_agent(&registration).await;
        Hand {
            client,
            id: known.expect("the agent registers").agent,
            key: made.secret,
        }
    }

    /// Audit events, oldest first, without those of the harness's own sign-in.
    pub async fn events(&self, condition: &str) -> Vec<String> {
        let sql = format!(
            "SELECT principal, action, verb, object_kind, object, outcome FROM audit_events WHERE {condition} ORDER BY id"
        );
        let rows = self.rows(sql).await;
        rows.iter()
            .map(|row| (0..6).map(|at| row.get::<String, _>(at)).collect::<Vec<_>>().join(" "))
            .collect()
    }

    pub async fn last_event(&self) -> i64 {
        self.rows("SELECT COALESCE(MAX(id), 0) FROM audit_events").await[0].get(0)
    }
}

/// Somebody with a key.
#[derive(Clone)]
pub struct Person {
    pub name: String,
    pub id: PrincipalId,
    pub key: String,
    pub client: Client,
}

impl Person {
    pub async fn of(client: &Client, name: &str, key: &str) -> Person {
        let client = client.with_key(Some(key));
        let me = client.me().await.expect("a new key opens");
        Person {
            name: name.into(),
            id: me.user.id,
            key: key.into(),
            client,
        }
    }

    /// The same person at another server.
    pub fn at(&self, url: &str) -> Person {
        let key = (!self.key.is_empty()).then_some(self.key.as_str());
        Person {
            client: Client::new(url, key, None).expect("a client can be made"),
            ..self.clone()
        }
    }

    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        self.client.request(method, path).timeout(Duration::from_secs(60))
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request("GET", path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        Answer::of(self.request("POST", path).json(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        Answer::of(self.request("DELETE", path)).await
    }

    pub async fn submit(&self, name: &str) -> Experiment {
        self.submit_config(json!({"name": name, "entrypoint": "true"})).await
    }

    pub async fn submit_config(&self, config: Value) -> Experiment {
        let new = NewExperiment {
            config,
            ..NewExperiment::default()
        };
        self.client
            .create_experiment(&new)
            .await
            .expect("the experiment is accepted")
    }

    /// Sends code; its name.
    pub async fn send_code(&self, code: &[u8]) -> String {
        let name = key::sha256_hex(code);
        let answer = Answer::of(self.request("PUT", &format!("/api/v1/code/{name}")).body(code.to_vec())).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        name
    }
}

/// Whatever the server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub async fn of(request: RequestBuilder) -> Answer {
        Answer::try_of(request).await.expect("the server answers")
    }

    pub async fn try_of(request: RequestBuilder) -> Result<Answer, reqwest::Error> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer {
            status,
            headers,
            text: response.text().await?,
        })
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    fn error(&self) -> Option<bailiwick_api::ErrorBody> {
        let envelope = serde_json::from_str::<ErrorEnvelope>(&self.text).ok()?;
        Some(envelope.error)
    }

    /// The code of a refusal; empty for anything else.
    pub fn code(&self) -> String {
        self.error().map(|error| error.code).unwrap_or_default()
    }

    pub fn message(&self) -> String {
        self.error().map(|error| error.message).unwrap_or_default()
    }

    /// The body without what differs between any two requests, and without the name that was asked for.
    pub fn without(&self, name: &str) -> String {
        if self.text.starts_with("<!doctype html>") {
            let problem = self.text.split("<div id=\"problem\"").nth(1).unwrap_or_default();
            let words = problem.split("</div>").next().unwrap_or_default();
            return format!("{} {}", self.status, words.replace(&format!("`{name}`"), "`…`"));
        }
        let mut error = self.error().unwrap_or_else(|| panic!("not a refusal: {self:?}"));
        error.request_id = String::new();
        let text = serde_json::to_string(&error).expect("an error is JSON");
        format!("{} {}", self.status, text.replace(&format!("`{name}`"), "`…`"))
    }
}

/// An agent worked by hand.
#[derive(Clone)]
pub struct Hand {
    pub client: Client,
    pub id: AgentId,
    pub key: String,
}

pub fn registration(name: &str, slots: u32) -> Register {
    Register {
        name: name.into(),
        queues: vec!["default".into()],
        fair: false,
        slots: (0..slots)
            .map(|index| Slot {
                index,
                kind: SlotKind::Cpu,
                name: "processor".into(),
            })
            .collect(),
        hardware: BTreeMap::new(),
        instance: "only".into(),
        use_owner_token: false,
        vaults: true,
    }
}

impl Hand {
    pub async fn register(client: Client, name: &str, slots: u32, key: &str) -> Hand {
        let known = client
            .register_agent(&registration(name, slots))
            .await
            .expect("the agent registers");
        Hand {
            client,
            id: known.agent,
            key: key.into(),
        }
    }

    pub fn at(&self, url: &str) -> Hand {
        Hand {
            client: Client::new(url, Some(&self.key), None).expect("a client can be made"),
            ..self.clone()
        }
    }

    pub async fn try_poll(&self, held: &[Held], free_slots: i64, wait_ms: i64) -> bailiwick_client::Result<PollAnswer> {
        self.poll_with(held, free_slots, wait_ms, Vec::new()).await
    }

    /// Says what its jobs use.
    pub async fn poll_with(
        &self,
        held: &[Held],
        free_slots: i64,
        wait_ms: i64,
        usage: Vec<JobUsage>,
    ) -> bailiwick_client::Result<PollAnswer> {
        let poll = Poll {
            usage,
            held: held.to_vec(),
            free_slots,
            draining: false,
            wait_ms,
            instance: "only".into(),
            load: None,
        };
        self.client.poll(self.id, &poll).await
    }

    pub async fn poll(&self, held: &[Held], free_slots: i64) -> PollAnswer {
        self.try_poll(held, free_slots, 0).await.expect("the poll is answered")
    }

    /// Takes what there is to take.
    pub async fn take(&self, free_slots: i64) -> Vec<JobLease> {
        self.poll(&[], free_slots).await.start
    }

    pub async fn report(&self, held: Held, what: Happened) -> bailiwick_client::Result<()> {
        let report = Report {
            fence: held.fence,
            usage: None,
            what,
        };
        self.client.report(self.id, held.job, &report).await
    }

    pub async fn started(&self, held: Held) -> bailiwick_client::Result<()> {
        self.report(held, Happened::Started { at: START }).await
    }

    pub async fn ended(&self, held: Held, exit_code: i64) -> bailiwick_client::Result<()> {
        let what = Happened::Ended {
            at: START,
            exit_code: Some(exit_code),
            signal: None,
            reason: None,
            lost: false,
        };
        self.report(held, what).await
    }

    pub async fn log(&self, held: Held, first: i64, lines: &[&str]) -> bailiwick_client::Result<i64> {
        let mut text = Vec::new();
        for line in lines {
            let stream = bailiwick_api::experiments::Stream::Stdout;
            bailiwick_api::experiments::log_text::write(&mut text, START, stream, line.as_bytes(), false);
        }
        let kept = self
            .client
            .send_logs(self.id, held.job, held.fence, first, text)
            .await?;
        Ok(kept.through)
    }
}

pub fn held(lease: &JobLease) -> Held {
    Held {
        job: lease.job,
        fence: lease.fence,
        stopping: false,
    }
}

/// Looks again and again until there is something, for at most [`DEADLINE`].
pub async fn eventually<T, Fut: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> Fut) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < DEADLINE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn fresh_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A database of its own in the cluster that `ML_TEST_POSTGRES` names, copied from one that is migrated and prepared.
struct PostgresDatabase {
    name: String,
    url: String,
}

impl PostgresDatabase {
    async fn make() -> PostgresDatabase {
        static TEMPLATE: tokio::sync::Mutex<bool> = tokio::sync::Mutex::const_new(false);
        let template = format!("ml_test_{}", std::process::id());
        let mut made = TEMPLATE.lock().await;
        if !*made {
            on_cluster(format!("CREATE DATABASE {template}")).await;
            let db = Db::open(&database_url(&template), Clock::fixed(START).0)
                .await
                .expect("the template migrates");
            start::prepare(&db, None).await.expect("the template can be prepared");
            db.close().await;
            *made = true;
        }
        let name = format!("{template}_{}", fresh_number());
        on_cluster(format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        PostgresDatabase {
            url: database_url(&name),
            name,
        }
    }

    async fn drop(&self) {
        on_cluster(format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }
}

/// Runs a statement as the superuser of the cluster, outside any test's database.
pub async fn on_cluster(sql: String) {
    let url = std::env::var("ML_TEST_POSTGRES").expect("only asked where it is set");
    let mut connection = <sqlx::AnyConnection as sqlx::Connection>::connect(&url)
        .await
        .expect("the cluster answers");
    connection.execute(AssertSqlSafe(sql)).await.expect("the superuser may");
    let _ = sqlx::Connection::close(connection).await;
}

fn database_url(name: &str) -> String {
    let url = std::env::var("ML_TEST_POSTGRES").expect("only asked where it is set");
    let (server, _) = url.rsplit_once('/').expect("the URL names a database");
    format!("{server}/{name}")
}
