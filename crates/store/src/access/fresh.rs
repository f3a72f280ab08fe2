//! How fresh the picture is. It stands at one number, `access_version`, which every change of rights raises in its own transaction.
//! The number is read in the same statement as the row that a request is about, and again at the start of each writing transaction; when it has moved, the
//! picture is brought up to date and the question asked again. So a change holds from the next request on, on every server.
//!
//! A question that reads no row would need a reading of the number for itself. On PostgreSQL it relies on one that began less than [`RELIED_ON`] ago, and
//! whoever changes rights is told that it is done only [`SETTLED`] after the commit: by then no server relies on an older reading.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Access, HELD, Picture, Touched, seldom};
use crate::db::{Db, Kind, Result, StoreError, Tx};

/// An open transaction. [`Work::commit`] is the only way to keep what was done in it.
pub struct Work {
    pub(super) tx: Tx,
    pub(super) access: Arc<Access>,
    /// The version that this transaction makes, if it changes rights.
    pub(super) version: Option<i64>,
}

impl Deref for Work {
    type Target = Tx;
    fn deref(&self) -> &Tx {
        &self.tx
    }
}

impl DerefMut for Work {
    fn deref_mut(&mut self) -> &mut Tx {
        &mut self.tx
    }
}

impl Work {
    pub(crate) fn now(&self) -> bailiwick_api::Time {
        self.access.db.now()
    }

    /// The picture, which knows nothing yet of what this transaction has done.
    pub(crate) fn picture(&self) -> &Picture {
        self.access.picture()
    }

    pub(crate) fn access(&self) -> Arc<Access> {
        self.access.clone()
    }

    pub(crate) fn db(&self) -> &Db {
        &self.access.db
    }

    /// How many users may be active or pending at once, where that is limited.
    pub(crate) fn seats(&self) -> Option<i64> {
        self.access.seats()
    }

    /// To be called in every transaction that changes who may do what, or ends a credential. The first call lets such transactions go one after the other.
    pub async fn touches(&mut self, touched: &[Touched]) -> Result<()> {
        if self.version.is_none() {
            let raise = "UPDATE access_version SET version = version + 1 RETURNING version";
            self.version = Some(sqlx::query_scalar(raise).fetch_one(&mut *self.tx).await?);
        }
        for one in touched {
            let (kind, id) = one.columns();
            sqlx::query(
                "INSERT INTO access_changes (version, kind, object_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            )
            .bind(self.version)
            .bind(kind)
            .bind(id)
            .execute(&mut *self.tx)
            .await?;
        }
        Ok(())
    }

    pub async fn commit(self) -> Result<()> {
        if self.version.is_none() {
            return Ok(self.tx.commit().await?);
        }
        let Work { tx, access, .. } = self;
        let is_shared = access.db.kind() == Kind::Postgres;
        // In a task of its own: whoever asked for the change may hang up at this very moment, and what is committed must also be counted.
        let commit = tokio::spawn(async move {
            let outcome = tx.commit().await;
            access.moved.fetch_add(1, Ordering::SeqCst);
            outcome
        });
        let outcome = commit.await.map_err(|why| StoreError::Broken(why.to_string()))?;
        if is_shared {
            tokio::time::sleep(SETTLED).await;
        }
        Ok(outcome?)
    }
}

/// One reading of the version serves all requests that were waiting when it began.
#[derive(Default)]
pub(super) struct Round {
    running: bool,
    waiting: Vec<oneshot::Sender<Result<()>>>,
}

/// How long a reading of the version is relied on, from the moment before it was asked for, by a clock that runs on while the process is stopped.
const RELIED_ON: Duration = Duration::from_millis(20);
/// Longer than that by far more than two clocks drift apart meanwhile.
const SETTLED: Duration = Duration::from_millis(25);

impl Access {
    /// The picture, with every change that was acknowledged before the call.
    pub async fn fresh(self: &Arc<Access>) -> Result<&Picture> {
        if !self.is_fresh() {
            match self.db.kind() {
                Kind::Sqlite => seldom(self.catch_up(None)).await?,
                Kind::Postgres => seldom(self.await_a_round()).await?,
            }
        }
        Ok(&self.picture)
    }

    /// Whether that is so already, as far as can be told without asking the database.
    pub(super) fn is_fresh(self: &Arc<Access>) -> bool {
        if self.db.kind() == Kind::Sqlite {
            // Only this process writes here: the counter tells.
            return self.moved.load(Ordering::SeqCst) == self.seen.load(Ordering::SeqCst);
        }
        let until = self.relied_until.load(Ordering::SeqCst);
        let left = until.saturating_sub(self.since_opened());
        // Read anew well before it must be, so that nobody waits for that where the processors are all taken.
        if left > 0 && left < RELIED_ON.as_nanos() as u64 / 2 {
            self.read_in_a_round(None);
        }
        left > 0
    }

    async fn await_a_round(self: &Arc<Access>) -> Result<()> {
        let (done, wait) = oneshot::channel();
        self.read_in_a_round(Some(done));
        let read = wait.await;
        read.map_err(|_| StoreError::Unavailable("the reading of the version of rights was given up".into()))?
    }

    /// In a task of its own: the request that began it may be given up, and others wait for it.
    fn read_in_a_round(self: &Arc<Access>, waiter: Option<oneshot::Sender<Result<()>>>) {
        let leads = {
            let mut round = self.round.lock().expect(HELD);
            round.waiting.extend(waiter);
            !std::mem::replace(&mut round.running, true)
        };
        if leads {
            tokio::spawn(self.clone().read_versions());
        }
    }

    /// ns
    fn since_opened(&self) -> u64 {
        self.opened.elapsed().as_nanos() as u64
    }

    async fn read_versions(self: Arc<Access>) {
        // Kept from round to round: whenever the pool hands one out or takes it back, it asks the database whether it is there.
        let mut connection = None;
        loop {
            // Whoever is about to ask gets there first: the more wait, the fewer readings.
            tokio::task::yield_now().await;
            let waiting = std::mem::take(&mut self.round.lock().expect(HELD).waiting);
            let began = self.since_opened();
            let outcome = self.read_version(&mut connection).await;
            if outcome.is_ok() {
                let until = began + RELIED_ON.as_nanos() as u64;
                self.relied_until.store(until, Ordering::SeqCst);
            }
            for one in waiting {
                // Who has gone away needs no answer.
                let _ = one.send(outcome.clone());
            }
            let mut round = self.round.lock().expect(HELD);
            if round.waiting.is_empty() {
                round.running = false;
                return;
            }
        }
    }

    async fn read_version(self: &Arc<Access>, kept: &mut Option<sqlx::pool::PoolConnection<sqlx::Any>>) -> Result<()> {
        const VERSION: &str = "SELECT version FROM access_version";
        let known: Option<i64> = match kept.as_mut() {
            Some(connection) => sqlx::query_scalar(VERSION).fetch_one(&mut **connection).await.ok(),
            None => None,
        };
        let version = match known {
            Some(version) => version,
            // None yet, or it broke since the last round.
            None => {
                let connection = kept.insert(self.db.read.acquire().await?);
                let read = sqlx::query_scalar(VERSION).fetch_one(&mut **connection).await;
                read.inspect_err(|_| *kept = None)?
            }
        };
        if self.picture.version() < version {
            self.catch_up(Some(version)).await?;
        }
        Ok(())
    }

    /// Brings the picture up to date, once for all that wait for it.
    pub(super) async fn catch_up(self: &Arc<Access>, at_least: Option<i64>) -> Result<()> {
        let _one = self.loading.lock().await;
        let moved = self.moved.load(Ordering::SeqCst);
        match at_least {
            Some(version) if self.picture.version() >= version => return Ok(()),
            None if moved == self.seen.load(Ordering::SeqCst) => return Ok(()),
            _ => {}
        }
        let used = self.picture.catch_up(&self.db).await?;
        self.seen.store(moved, Ordering::SeqCst);
        let mut unsaved = self.unsaved.lock().expect(HELD);
        unsaved.extend(used.into_iter().map(|(id, principal, at)| (id, (principal, at))));
        drop(unsaved);
        self.refresh();
        Ok(())
    }

    /// Rebuilds in the background what changes or passed dates left to be worked out at each question. Decisions never wait for it.
    pub fn refresh(self: &Arc<Access>) {
        if self.refreshing.swap(true, Ordering::SeqCst) {
            return;
        }
        let access = self.clone();
        tokio::spawn(async move {
            while !access.picture.refresh(access.db.now().0) {
                tokio::task::yield_now().await;
            }
            access.refreshing.store(false, Ordering::SeqCst);
        });
    }

    /// Drops the record of what old changes touched. A server that is further behind than this loads everything.
    pub async fn forget_old_changes(&self) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let old = "DELETE FROM access_changes WHERE version < (SELECT version FROM access_version) - 100000";
        sqlx::query(old).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }
}
