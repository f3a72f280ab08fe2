//! Opening, migrating, transactions, the clock: everything in which SQLite and PostgreSQL differ stands in this file.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bailiwick_api::Time;
use sqlx::AnyPool;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions, AnyRow};
use sqlx::{Any, AssertSqlSafe, Connection, Executor, Row};

/// An open transaction that may write.
pub type Tx = sqlx::Transaction<'static, Any>;

/// What went wrong in the store.
#[derive(Debug, Clone)]
pub enum StoreError {
    /// Somebody else has a thing of that name, or did it first.
    Conflict(String),
    /// The database is not there, full, or refuses; the request may be repeated later.
    Unavailable(String),
    /// What is sealed cannot be opened, since its key is not where it should be.
    Sealed(String),
    /// A fault of ours or in the data.
    Broken(String),
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (StoreError::Conflict(text)
        | StoreError::Unavailable(text)
        | StoreError::Sealed(text)
        | StoreError::Broken(text)) = self;
        f.write_str(text)
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) if database.is_unique_violation() => {
                StoreError::Conflict(database.to_string())
            }
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or_default().into_owned();
                // SQLite: 5 busy, 6 locked, 8 read-only, 10 I/O, 13 full, 14 cannot open (with extended codes above the low byte).
                // PostgreSQL: 53 out of resources, 57 operator intervention, 58 system error, 08 connection, 40 serialization, 25006 read-only;
                // and what it says to a new connection: 28 not let in, 3D no such database, 55 not accepting connections.
                let sqlite = code
                    .parse::<i64>()
                    .is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 8 | 10 | 13 | 14))
                    && code.len() < 5;
                let postgres = code.len() == 5
                    && (["53", "57", "58", "08", "40", "28", "3D", "55"]
                        .iter()
                        .any(|class| code.starts_with(class))
                        || code == "25006");
                let text = format!("{error} (code {code})");
                if sqlite || postgres {
                    StoreError::Unavailable(text)
                } else {
                    StoreError::Broken(text)
                }
            }
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Tls(_)
            // A connection in an unknown state (see `Db::begin`): nothing was done with it.
            | sqlx::Error::InvalidSavePointStatement
            | sqlx::Error::WorkerCrashed => StoreError::Unavailable(error.to_string()),
            _ => StoreError::Broken(error.to_string()),
        }
    }
}

pub type Result<T> = std::result::Result<T, StoreError>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    /// A select of the numbers (column `number`) in the [`number_list`] that is bound to `parameter`. A list in the text would have the statement read and planned
    /// anew for everybody who asks.
    pub(crate) fn numbers(self, parameter: &str) -> String {
        match self {
            Kind::Sqlite => format!("SELECT value AS number FROM json_each({parameter})"),
            Kind::Postgres => {
                format!(
                    "SELECT CAST(value AS BIGINT) AS number FROM json_array_elements_text(CAST({parameter} AS JSON))"
                )
            }
        }
    }

    /// The condition that a number is in the [`number_list`] that is bound to `parameter`: looked up one by one and never joined with; PostgreSQL reads
    /// the list as an array, which costs it less than JSON.
    pub(crate) fn among(self, parameter: &str) -> String {
        match self {
            Kind::Sqlite => format!("IN ({})", self.numbers(parameter)),
            Kind::Postgres => format!("= ANY (CAST(translate({parameter}, '[]', '{{}}') AS BIGINT[]))"),
        }
    }

    /// A select of the rows `e` that `few` gives for each row of `list`, whose columns it may name; of both, `columns` are taken.
    pub(crate) fn for_each(
        self,
        list: &str,
        table: &str,
        columns: &str,
        keys: &str,
        few: impl Fn(&str) -> String,
    ) -> String {
        match self {
            Kind::Sqlite => format!(
                "SELECT {columns} FROM {list} CROSS JOIN {table} AS e ON e.id IN ({})",
                few("id")
            ),
            Kind::Postgres => format!("SELECT {columns} FROM {list} CROSS JOIN LATERAL ({}) AS e", few(keys)),
        }
    }

    /// The FROM of the rows `e` whose ids `list` has, looked up one by one: neither database may take it for a reason to walk the table beside the list.
    pub(crate) fn looked_up(self, list: &str, table: &str) -> String {
        match self {
            Kind::Sqlite => format!("{list} CROSS JOIN {table} AS e ON e.id = {list}.id"),
            Kind::Postgres => {
                format!("{list} CROSS JOIN LATERAL (SELECT * FROM {table} WHERE id = {list}.id LIMIT 1) AS e")
            }
        }
    }

    /// All rows of a select as one JSON text, each an array of these columns, in the order of the select. Row by row, a page spends most of its time on the
    /// way from the database's thread or socket.
    pub(crate) fn packed(self, columns: &str) -> String {
        match self {
            Kind::Sqlite => format!("json_group_array(json_array({columns}))"),
            Kind::Postgres => format!("CAST(COALESCE(json_agg(json_build_array({columns})), '[]') AS TEXT)"),
        }
    }

    /// Says by which index a table is to be walked, where that can be said. PostgreSQL chooses by itself, and knows more of what its tables hold.
    pub(crate) fn by_index(self, index: &str) -> String {
        match self {
            Kind::Sqlite => format!(" INDEXED BY {index}"),
            Kind::Postgres => String::new(),
        }
    }
}

/// `a, b` of `t` as `t.a, t.b`.
pub(crate) fn of(table: &str, columns: &str) -> String {
    let columns: Vec<String> = columns.split(", ").map(|column| format!("{table}.{column}")).collect();
    columns.join(", ")
}

/// Where `now` comes from: the system, or a test's hand.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    fixed: Option<Arc<AtomicI64>>,
}

impl Clock {
    pub fn fixed(at: Time) -> (Clock, Arc<AtomicI64>) {
        let hand = Arc::new(AtomicI64::new(at.0));
        (
            Clock {
                fixed: Some(hand.clone()),
            },
            hand,
        )
    }

    pub fn now(&self) -> Time {
        match &self.fixed {
            Some(hand) => Time(hand.load(Ordering::SeqCst)),
            None => {
                #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
                let since = std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH)
                    .unwrap_or_default();
                Time(since.as_micros() as i64)
            }
        }
    }
}

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    pub(crate) read: AnyPool,
    /// On SQLite one connection: writers wait for each other here and not in the database.
    write: AnyPool,
    kind: Kind,
    pub clock: Clock,
    /// On SQLite: held while the database is open, so that no second server opens it.
    lock: Option<Arc<std::fs::File>>,
}

impl Db {
    /// Opens `sqlite:PATH` or `postgres://…`, and brings the schema up to date.
    pub async fn open(url: &str, clock: Clock) -> Result<Db> {
        sqlx::any::install_default_drivers();
        let db = if let Some(path) = url.strip_prefix("sqlite:") {
            Db::open_sqlite(path.trim_start_matches("//"), clock).await?
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let options: AnyConnectOptions = url.parse().map_err(|error: sqlx::Error| {
                StoreError::Unavailable(format!("the database URL cannot be read: {error}"))
            })?;
            let pool = AnyPoolOptions::new()
                .max_connections(16)
                .acquire_timeout(Duration::from_secs(10))
                .after_connect(|connection, _| {
                    Box::pin(async move {
                        // Planning a list takes longer than running it, and what the plans turn on is written out in the statements.
                        connection.execute("SET plan_cache_mode = force_generic_plan").await?;
                        Ok(())
                    })
                })
                .connect_with(options)
                .await?;
            Db {
                read: pool.clone(),
                write: pool,
                kind: Kind::Postgres,
                clock,
                lock: None,
            }
        } else {
            return Err(StoreError::Unavailable(
                "a database is given as sqlite:PATH or postgres://USER@HOST/NAME".into(),
            ));
        };
        db.migrate().await?;
        Ok(db)
    }

    async fn open_sqlite(path: &str, clock: Clock) -> Result<Db> {
        if let Some(parent) = Path::new(path).parent() {
            std::fs::create_dir_all(parent)
                .map_err(|why| StoreError::Unavailable(format!("cannot make {}: {why}", parent.display())))?;
        }
        // Beside the file, not in it: SQLite has locks of its own there.
        let lock_path = format!("{path}.lock");
        let lock = std::fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path);
        let lock = lock.map_err(|why| StoreError::Unavailable(format!("cannot open {lock_path}: {why}")))?;
        if lock.try_lock().is_err() {
            return Err(StoreError::Unavailable(format!("another server is using {path}")));
        }
        // SQLite gives its side files the mode of the file itself.
        let made = std::fs::File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path);
        made.map_err(|why| StoreError::Unavailable(format!("cannot open {path}: {why}")))?;
        // `%` and `?` would be read as parts of a URL.
        let escaped = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        let options: AnyConnectOptions = format!("sqlite://{escaped}?mode=rwc")
            .parse()
            .map_err(|why: sqlx::Error| StoreError::Unavailable(format!("cannot open {path}: {why}")))?;
        let pool = |connections: u32, writes: bool| {
            AnyPoolOptions::new()
                .max_connections(connections)
                .min_connections(1)
                .acquire_timeout(Duration::from_secs(30))
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
                .after_connect(move |connection, _| {
                    Box::pin(async move {
                        // FULL: an acknowledged commit survives a power cut, not only kill -9.
                        let pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 10000; PRAGMA temp_store = MEMORY;";
                        connection.execute(pragmas).await?;
                        connection.execute(if writes { "PRAGMA wal_autocheckpoint = 4000" } else { "PRAGMA query_only = ON" }).await?;
                        Ok(())
                    })
                })
        };
        let write = pool(1, true).connect_with(options.clone()).await?;
        let read = pool(4, false).connect_with(options).await?;
        Ok(Db {
            read,
            write,
            kind: Kind::Sqlite,
            clock,
            lock: Some(Arc::new(lock)),
        })
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// A transaction for writing. What reads in it sees the newest state.
    pub async fn begin(&self) -> Result<Tx> {
        match self.kind {
            Kind::Postgres => begin_beside(&self.write, "BEGIN").await,
            Kind::Sqlite => {
                // SQLite ends a transaction by itself when the disk is full, and the connection no longer knows where it stands: a new one does. Several times,
                // since whoever writes in between may leave the next one in the same state.
                for _ in 0..3 {
                    // Taking the write lock at once: a reader that becomes a writer half-way would fail.
                    match self.write.begin_with("BEGIN IMMEDIATE").await {
                        Err(sqlx::Error::PoolTimedOut) => return Err(sqlx::Error::PoolTimedOut.into()),
                        Err(_) => self.write.acquire().await?.close().await?,
                        begun => return Ok(begun?),
                    }
                }
                Ok(self.write.begin_with("BEGIN IMMEDIATE").await?)
            }
        }
    }

    /// A transaction for reading: everything in it is of one moment.
    pub(crate) async fn begin_look(&self) -> Result<Tx> {
        Ok(match self.kind {
            Kind::Postgres => begin_beside(&self.read, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?,
            Kind::Sqlite => self.read.begin().await?,
        })
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1").fetch_one(&self.read).await?;
        Ok(())
    }

    /// Makes other servers' attempts at the same background work wait their turn until the transaction ends; false if one is at it already.
    pub(crate) async fn try_lock(&self, tx: &mut Tx, key: i64) -> Result<bool> {
        match self.kind {
            Kind::Sqlite => Ok(true),
            Kind::Postgres => {
                let row =
                    sqlx::query("SELECT CASE WHEN pg_try_advisory_xact_lock($1) THEN 1::BIGINT ELSE 0::BIGINT END")
                        .bind(key)
                        .fetch_one(&mut **tx)
                        .await?;
                Ok(row.get::<i64, _>(0) == 1)
            }
        }
    }

    /// What a SELECT ends with so that two servers never take the same row.
    pub(crate) fn skip_locked(&self) -> &'static str {
        match self.kind {
            Kind::Sqlite => "",
            Kind::Postgres => " FOR UPDATE SKIP LOCKED",
        }
    }

    /// What a SELECT ends with so that its rows stay as they are, and nothing new refers to them, until the transaction ends. SQLite has one writer anyhow.
    pub(crate) fn lock_rows(&self) -> &'static str {
        match self.kind {
            Kind::Sqlite => "",
            Kind::Postgres => " FOR UPDATE",
        }
    }

    /// The same beside others who look and change nothing.
    pub(crate) fn share_rows(&self) -> &'static str {
        match self.kind {
            Kind::Sqlite => "",
            Kind::Postgres => " FOR SHARE",
        }
    }

    /// PostgreSQL can insert into several tables in one statement, which saves round trips to it; SQLite cannot, and has none.
    pub(crate) fn writes_in_one_statement(&self) -> bool {
        self.kind == Kind::Postgres
    }

    async fn migrate(&self) -> Result<()> {
        // Name, what both databases run, what SQLite runs besides, what PostgreSQL runs besides.
        const MIGRATIONS: &[(&str, &str, &str, &str)] = &[
            (
                "0001_start",
                include_str!("migrations/0001_start.sql"),
                include_str!("migrations/0001_start.sqlite.sql"),
                include_str!("migrations/0001_start.postgres.sql"),
            ),
            ("0002_access", include_str!("migrations/0002_access.sql"), "", ""),
            (
                "0003_experiments",
                include_str!("migrations/0003_experiments.sql"),
                "",
                "",
            ),
            ("0003_pages", include_str!("migrations/0003_pages.sql"), "", ""),
            ("0004_progress", include_str!("migrations/0004_progress.sql"), "", ""),
            ("0004_queues", include_str!("migrations/0004_queues.sql"), "", ""),
            ("0005_queues", include_str!("migrations/0005_queues.sql"), "", ""),
            ("0006_agents", include_str!("migrations/0006_agents.sql"), "", ""),
            ("0007_accounts", include_str!("migrations/0007_accounts.sql"), "", ""),
            ("0008_vaults", include_str!("migrations/0008_vaults.sql"), "", ""),
            ("0009_stacks", include_str!("migrations/0009_stacks.sql"), "", ""),
            ("0010_mail", include_str!("migrations/0010_mail.sql"), "", ""),
            ("0011_models", include_str!("migrations/0011_models.sql"), "", ""),
        ];
        let mut connection = self.write.acquire().await?;
        if self.kind == Kind::Postgres {
            // Two servers that start at once migrate one after the other.
            connection.execute("SELECT pg_advisory_lock(8317)").await?;
        }
        let outcome = async {
            connection
                .execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied_at BIGINT NOT NULL)")
                .await?;
            let done: Vec<String> = sqlx::query_scalar("SELECT name FROM migrations ORDER BY name")
                .fetch_all(&mut *connection)
                .await?;
            let known = |name: &String| MIGRATIONS.iter().any(|(known, ..)| known == name);
            if let Some(newer) = done.iter().find(|name| !known(name)) {
                return Err(StoreError::Unavailable(format!(
                    "the database was used by a newer version of this program (migration {newer}); start that version"
                )));
            }
            for (name, both, sqlite, postgres) in MIGRATIONS {
                if done.iter().any(|one| one == name) {
                    continue;
                }
                let (id, bytes, own) = match self.kind {
                    Kind::Sqlite => ("INTEGER PRIMARY KEY AUTOINCREMENT", "BLOB", sqlite),
                    Kind::Postgres => ("BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY", "BYTEA", postgres),
                };
                let sql = both.replace("{{ID}}", id).replace("{{BYTES}}", bytes);
                let mut tx = connection.begin().await?;
                tx.execute(AssertSqlSafe(sql)).await?;
                if !own.is_empty() {
                    tx.execute(*own).await?;
                }
                sqlx::query("INSERT INTO migrations (name, applied_at) VALUES ($1, $2)")
                    .bind(*name)
                    .bind(self.now().0)
                    .execute(&mut *tx)
                    .await?;
                tx.commit().await?;
            }
            Ok(())
        }
        .await;
        if self.kind == Kind::Postgres {
            connection.execute("SELECT pg_advisory_unlock(8317)").await?;
        }
        outcome
    }

    /// Closes all connections, letting SQLite fold its log into the file.
    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
        if let Some(lock) = &self.lock {
            let _ = lock.unlock();
        }
    }
}

/// A column of a row; a mismatch is a fault in our SQL and shows as [`StoreError::Broken`].
pub(crate) fn col<'r, T>(row: &'r AnyRow, name: &str) -> Result<T>
where
    T: sqlx::Decode<'r, Any> + sqlx::Type<Any>,
{
    Ok(row.try_get(name)?)
}

/// In a task of its own: a request that is given up while `BEGIN` is under way would hand the connection back with a transaction open that nobody knows of, and
/// whoever got it next would read the state of that moment for ever.
async fn begin_beside(pool: &AnyPool, begin: &'static str) -> Result<Tx> {
    let pool = pool.clone();
    let begun = tokio::spawn(async move { pool.begin_with(begin).await });
    Ok(begun.await.map_err(|why| StoreError::Broken(why.to_string()))??)
}

/// Numbers as a JSON list, to be bound to a parameter; see [`Kind::numbers`] and [`Kind::among`].
pub(crate) fn number_list(numbers: &[i64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(i64::to_string).collect();
    format!("[{}]", numbers.join(","))
}

/// `?`-style lists are not portable; a list of ids is written out, which is safe for numbers.
pub(crate) fn id_list(ids: impl IntoIterator<Item = i64>) -> String {
    let ids: Vec<String> = ids.into_iter().map(|id| id.to_string()).collect();
    if ids.is_empty() { "NULL".into() } else { ids.join(",") }
}
