//! `ml audit …`

use std::io::Write;
use std::path::{Path, PathBuf};

use bailiwick_api::Time;
use bailiwick_api::audit::{AuditEvent, AuditFilter, AuditVerdict, Outcome};

use crate::args::{Audit, AuditOutcome, AuditWhich, Common};
use crate::connect::{Connection, block_on};
use crate::failure::{Failure, Result};
use crate::output::{Column, Output, column, now, say, wide, write_bytes};

const EVENTS: &[Column<AuditEvent>] = &[
    column("ID", |event| event.id.0.into()),
    column("TIME", |event| event.time.into()),
    column("WHO", |event| who(event).into()),
    column("ACTION", |event| event.action.as_str().into()),
    column("VERB", |event| event.verb.as_str().into()),
    column("OBJECT", |event| event.object.as_str().into()),
    column("OUTCOME", |event| outcome(event.outcome).into()),
    column("DETAIL", |event| detail(event).into()),
    wide("WORKSPACE", |event| event.workspace.clone().unwrap_or_default().into()),
    wide("ADDRESS", |event| event.address.clone().unwrap_or_default().into()),
    wide("CREDENTIAL", |event| {
        event.credential_id.map(|id| id.to_string()).unwrap_or_default().into()
    }),
    wide("REQUEST", |event| event.request_id.as_str().into()),
];

fn who(event: &AuditEvent) -> String {
    match &event.on_behalf_of {
        Some(other) => format!("{} for {other}", event.principal),
        None => event.principal.clone(),
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Allowed => "allowed",
        Outcome::Denied => "denied",
        Outcome::Failed => "failed",
    }
}

fn detail(event: &AuditEvent) -> String {
    match &event.detail {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

const VERDICT: &[Column<AuditVerdict>] = &[
    column("INTACT", |verdict| if verdict.intact { "yes" } else { "no" }.into()),
    column("EVENTS", |verdict| verdict.events.into()),
    column("HEAD", |verdict| verdict.head.as_str().into()),
    column("FAULT", |verdict| verdict.fault.clone().unwrap_or_default().into()),
];

pub fn run(common: &Common, command: Audit) -> Result<()> {
    match command {
        Audit::List { which, limit } => list(common, which, limit),
        Audit::Verify => verify(common),
        Audit::Export { which, out } => export(common, which, out.as_deref()),
    }
}

fn filter(which: AuditWhich) -> Result<AuditFilter> {
    let since = which.since.as_deref().map(|text| Time::parse_since(text, now()));
    let until = which.until.as_deref().map(|text| Time::parse_through(text, now()));
    Ok(AuditFilter {
        user: which.user,
        action: which.action,
        object: which.object,
        since: since
            .transpose()
            .map_err(|why| Failure::wrong_usage(format!("--since: {why}")))?,
        until: until
            .transpose()
            .map_err(|why| Failure::wrong_usage(format!("--until: {why}")))?,
        workspace: which.workspace,
        outcome: which.outcome.map(|outcome| match outcome {
            AuditOutcome::Allowed => Outcome::Allowed,
            AuditOutcome::Denied => Outcome::Denied,
            AuditOutcome::Failed => Outcome::Failed,
        }),
        denied: which.denied.then_some(true),
        after: None,
        limit: None,
    })
}

fn list(common: &Common, which: AuditWhich, limit: i64) -> Result<()> {
    let mut filter = filter(which)?;
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    block_on(async {
        let mut events = Vec::new();
        let mut there_are_more = true;
        while there_are_more && (events.len() as i64) < limit {
            filter.limit = Some((limit - events.len() as i64).min(1000));
            let mut page = connection
                .client
                .audit(&filter)
                .await
                .map_err(|why| connection.explain(why))?;
            events.append(&mut page.items);
            there_are_more = page.next.is_some();
            filter.after = page.next;
        }
        output.list(EVENTS, |event| event.id.to_string(), &events)?;
        if there_are_more && output.is_for_people() {
            say(&format!(
                "The newest {limit}; --limit shows more, and `ml audit export` all."
            ));
        }
        Ok(())
    })
}

fn verify(common: &Common) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let verdict = connection
            .client
            .verify_audit()
            .await
            .map_err(|why| connection.explain(why))?;
        Output::new(common.output).one(VERDICT, |verdict| verdict.head.clone(), &verdict)?;
        match verdict.intact {
            true => Ok(()),
            false => Err(Failure::new(format!(
                "the audit is not intact: {}",
                verdict.fault.as_deref().unwrap_or("the chain is broken")
            ))),
        }
    })
}

/// Into a file by way of one beside it, so that a file of that name is always whole.
fn export(common: &Common, which: AuditWhich, out: Option<&Path>) -> Result<()> {
    let filter = filter(which)?;
    let connection = Connection::open(common)?;
    let mut file = out.map(NewFile::create).transpose()?;
    block_on(async {
        let mut events = connection
            .client
            .export_audit(&filter)
            .await
            .map_err(|why| connection.explain(why))?;
        let broken = |why: &dyn std::fmt::Display| Failure::new(format!("the connection broke: {why}"));
        while let Some(chunk) = events.chunk().await.map_err(|why| broken(&why))? {
            match &mut file {
                Some(file) => file.write(&chunk)?,
                None => write_bytes(&chunk)?,
            }
        }
        file.map_or(Ok(()), NewFile::finish)
    })
}

struct NewFile {
    path: PathBuf,
    file: tempfile::NamedTempFile,
}

impl NewFile {
    fn create(path: &Path) -> Result<NewFile> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let file = tempfile::NamedTempFile::new_in(directory).map_err(|why| Failure::file("write", path, &why))?;
        Ok(NewFile {
            path: path.to_owned(),
            file,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|why| Failure::file("write", &self.path, &why))
    }

    fn finish(self) -> Result<()> {
        let NewFile { path, file } = self;
        match file.persist(&path) {
            Ok(_) => Ok(()),
            Err(why) => Err(Failure::file("write", &path, &why.error)),
        }
    }
}
