//! Logs: pieces of log text in the form of `bailiwick_api::experiments::log_text`, kept as they came.

use bailiwick_api::experiments::{LogFilter, LogLine, State, log_text};
use bailiwick_api::permission::permit;
use bailiwick_api::{ExperimentId, JobId};
use sqlx::{AssertSqlSafe, Row};

use crate::access::{Granted, Refusal};
use crate::agents::Serving;
use crate::db::{Result, id_list};
use crate::experiments::parse_state;

/// What became of a piece of log.
#[derive(Debug, PartialEq, Eq)]
pub enum Kept {
    Through { line: i64, experiment: ExperimentId },
    LeaseLost,
}

/// Appends log text whose first line has number `first`. What is there already is skipped; an empty text only asks how far the log goes.
/// Past `bytes_max` the oldest pieces after the first tenth go: a log keeps its beginning and its end.
pub async fn append(
    serving: &Serving,
    job: JobId,
    fence: i64,
    first: i64,
    text: &[u8],
    bytes_max: i64,
) -> Result<Kept> {
    let live = "fence = $2 AND agent_id = $3 AND state IN ('STARTING', 'RUNNING', 'STOPPING')";
    if text.is_empty() {
        let sql = format!("SELECT experiment_id, log_lines FROM jobs WHERE id = $1 AND {live}");
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(job.0)
            .bind(fence)
            .bind(serving.id.0)
            .fetch_optional(&serving.actor.db().read)
            .await?;
        return match row {
            Some(row) => Ok(Kept::Through {
                experiment: ExperimentId(row.try_get(0)?),
                line: row.try_get(1)?,
            }),
            None => Ok(Kept::LeaseLost),
        };
    }
    let mut work = serving.actor.begin().await?;
    let sql = format!(
        "UPDATE jobs SET log_lines = log_lines WHERE id = $1 AND {live} RETURNING experiment_id, log_lines, log_bytes"
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(job.0)
        .bind(fence)
        .bind(serving.id.0)
        .fetch_optional(&mut **work)
        .await?;
    let Some(row) = row else { return Ok(Kept::LeaseLost) };
    let (experiment, have, bytes): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let experiment = ExperimentId(experiment);
    let (text, first) = skip_lines(text, first, have);
    if text.is_empty() {
        return Ok(Kept::Through { line: have, experiment });
    }
    let lines = text.iter().filter(|byte| **byte == b'\n').count() as i64 + i64::from(!text.ends_with(b"\n"));
    let last = first + lines - 1;
    sqlx::query("INSERT INTO log_chunks (job_id, first_line, last_line, bytes, data) VALUES ($1, $2, $3, $4, $5)")
        .bind(job.0)
        .bind(first)
        .bind(last)
        .bind(text.len() as i64)
        .bind(text.to_vec())
        .execute(&mut **work)
        .await?;
    let mut bytes = bytes + text.len() as i64;
    // With some slack, so that not every piece of an overlong log makes a deletion.
    if bytes > bytes_max + bytes_max / 20 {
        let rows = sqlx::query("SELECT last_line, bytes FROM log_chunks WHERE job_id = $1 ORDER BY last_line")
            .bind(job.0)
            .fetch_all(&mut **work)
            .await?;
        let (mut head, mut dropped) = (0, Vec::new());
        for row in &rows[..rows.len().saturating_sub(1)] {
            let (line, size): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            if head + size <= bytes_max / 10 {
                head += size;
            } else if bytes > bytes_max {
                bytes -= size;
                dropped.push(line);
            }
        }
        let sql = format!(
            "DELETE FROM log_chunks WHERE job_id = $1 AND last_line IN ({})",
            id_list(dropped)
        );
        sqlx::query(AssertSqlSafe(sql)).bind(job.0).execute(&mut **work).await?;
    }
    sqlx::query("UPDATE jobs SET log_lines = $2, log_bytes = $3 WHERE id = $1")
        .bind(job.0)
        .bind(last)
        .bind(bytes)
        .execute(&mut **work)
        .await?;
    work.commit().await?;
    Ok(Kept::Through { line: last, experiment })
}

/// Leaves out the lines that are there already.
fn skip_lines(mut text: &[u8], mut first: i64, have: i64) -> (&[u8], i64) {
    while first <= have && !text.is_empty() {
        let end = text
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(text.len(), |at| at + 1);
        text = &text[end..];
        first += 1;
    }
    (text, first)
}

/// A piece of a log as read.
pub struct Piece {
    pub lines: Vec<LogLine>,
    pub state: State,
    /// Number of the last line there is.
    pub total: i64,
}

/// A piece ends soon after so many bytes: ten thousand of the longest lines would fill the memory.
const READ_BYTES: usize = 8 * 1024 * 1024;

/// A search ends after so many bytes, wherever it is.
const SEARCH_BYTES: usize = 64 * 1024 * 1024;

/// How far a log goes, and where its job stands.
async fn extent(
    by: &Granted<permit::ExperimentsReadArtifacts>,
    job: JobId,
) -> std::result::Result<(State, i64), Refusal> {
    let row = sqlx::query("SELECT state, log_lines FROM jobs WHERE id = $1")
        .bind(job.0)
        .fetch_optional(&by.db().read)
        .await?;
    // Deleted since its rights were looked at.
    let row = row.ok_or_else(|| Refusal::NotFound {
        what: "experiment",
        which: by.target.object.map(|(_, id)| id.to_string()).unwrap_or_default(),
    })?;
    Ok((parse_state(row.try_get::<&str, _>(0)?)?, row.try_get(1)?))
}

/// The pieces that hold what comes after a line, a few at a time: each with the numbers of its first and last line.
async fn chunks(
    by: &Granted<permit::ExperimentsReadArtifacts>,
    job: JobId,
    after: i64,
) -> Result<Vec<(i64, i64, Vec<u8>)>> {
    let chunks = sqlx::query("SELECT first_line, last_line, data FROM log_chunks WHERE job_id = $1 AND last_line > $2 ORDER BY last_line LIMIT 4")
        .bind(job.0)
        .bind(after)
        .fetch_all(&by.db().read)
        .await?;
    let read = |chunk: &sqlx::any::AnyRow| Ok((chunk.try_get(0)?, chunk.try_get(1)?, chunk.try_get(2)?));
    chunks.iter().map(read).collect()
}

/// Lines after `after` that fit, at most `limit`, and the last line that was looked at.
pub async fn search(
    by: &Granted<permit::ExperimentsReadArtifacts>,
    job: JobId,
    filter: &LogFilter,
    limit: i64,
) -> std::result::Result<(Piece, i64), Refusal> {
    let (state, total) = extent(by, job).await?;
    let after = filter.after.unwrap_or(0).max(0);
    let mut lines: Vec<LogLine> = Vec::new();
    let (mut through, mut bytes, mut kept) = (after, 0, 0);
    while through < total && bytes < SEARCH_BYTES && kept < READ_BYTES {
        let chunks = chunks(by, job, through).await?;
        if chunks.is_empty() {
            through = total;
            break;
        }
        for (first, last, data) in &chunks {
            bytes += data.len();
            for line in log_text::read(data, *first) {
                if line.number > after && filter.fits(&line) {
                    through = line.number;
                    kept += line.text.len();
                    lines.push(line);
                    if lines.len() as i64 >= limit {
                        return Ok((Piece { lines, state, total }, through));
                    }
                }
            }
            through = *last;
        }
        tokio::task::yield_now().await;
    }
    Ok((Piece { lines, state, total }, through))
}

/// Lines after `after`, at most `limit`; with `tail` only the last so many of them.
pub async fn read(
    by: &Granted<permit::ExperimentsReadArtifacts>,
    job: JobId,
    after: i64,
    limit: i64,
    tail: Option<i64>,
) -> std::result::Result<Piece, Refusal> {
    let (state, total) = extent(by, job).await?;
    let after = tail.map_or(after, |tail| after.max(total - tail.max(0))).max(0);
    let mut lines: Vec<LogLine> = Vec::new();
    let (mut from, mut bytes) = (after, 0);
    while (lines.len() as i64) < limit && from < total && bytes < READ_BYTES {
        let chunks = chunks(by, job, from).await?;
        if chunks.is_empty() {
            break;
        }
        for (first, last, data) in &chunks {
            bytes += data.len();
            let room = (limit as usize).saturating_sub(lines.len());
            lines.extend(
                log_text::read(data, *first)
                    .filter(|line| line.number > after)
                    .take(room),
            );
            from = *last;
        }
    }
    Ok(Piece { lines, state, total })
}

#[cfg(test)]
mod tests {
    use super::skip_lines;

    #[test]
    fn lines_sent_twice_are_kept_once() {
        assert_eq!(skip_lines(b"a\nb\nc\n", 5, 6), (&b"c\n"[..], 7));
        assert_eq!(skip_lines(b"a\nb\n", 5, 4), (&b"a\nb\n"[..], 5));
        assert_eq!(skip_lines(b"a\nb", 1, 9), (&b""[..], 3));
    }
}
