//! The calls of people and programs, by noun.

use std::time::Duration;

use bailiwick_api::agents::{Agent, Service};
use bailiwick_api::audit::{AuditEvent, AuditFilter, AuditVerdict};
use bailiwick_api::experiments::{
    Experiment, ExperimentDetail, ExperimentFilter, Log, LogFilter, LogLine, NewExperiment, ReportProgress, State, Stop,
};
use bailiwick_api::models::{Model, ModelFilter, ModelVersion, MoveModel, NewModel, NewModelVersion, VersionFilter};
use bailiwick_api::queues::{JobMove, Queue, QueueDetail, QueueSettings};
use bailiwick_api::roles::Role;
use bailiwick_api::server::ServerInfo;
use bailiwick_api::stacks::{Stack, StackFilter, StackSettings};
use bailiwick_api::tokens::{NewToken, Token, TokenWithSecret};
use bailiwick_api::users::{
    ChangePassword, ChangeUser, Link, Login, LoginWithLink, Me, NewUser, Session, User, UserWithLink, Users,
};
use bailiwick_api::workspaces::{Rename, SetDefaultQueue, Workspace};
use bailiwick_api::{ErrorBody, ExperimentId, Page, TokenId};
use futures_util::Stream;
use reqwest::{Body, Method, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Client, Error, Result, query_string, segment};

/// The server sends a comment at least this often into a quiet stream; a longer silence means that the connection is dead.
const QUIET_MAX: Duration = Duration::from_secs(60);

#[derive(Default, Serialize)]
struct ListFilter<'a> {
    user: Option<&'a str>,
    all: Option<bool>,
    after: Option<&'a str>,
}

/// The server itself, and signing in.
impl Client {
    pub async fn info(&self) -> Result<ServerInfo> {
        self.get("/api/v1/info").await
    }

    pub async fn login(&self, login: &Login) -> Result<Session> {
        self.post("/api/v1/login", login).await
    }

    /// Refused with the code `password_needed` where the user has no password yet and none is given.
    pub async fn login_with_link(&self, login: &LoginWithLink) -> Result<Session> {
        self.post("/api/v1/login/link", login).await
    }

    pub async fn logout(&self) -> Result<()> {
        let _: Value = self.post("/api/v1/logout", &json!({})).await?;
        Ok(())
    }

    pub async fn me(&self) -> Result<Me> {
        self.get("/api/v1/me").await
    }
}

/// Users and service accounts. `user` is a name or an id.
impl Client {
    /// With `all`, deactivated and removed users too.
    pub async fn users(&self, all: bool, after: Option<&str>) -> Result<Page<User>> {
        let Users { items, next, .. } = self.users_with_seats(all, after).await?;
        Ok(Page { items, next })
    }

    pub async fn users_with_seats(&self, all: bool, after: Option<&str>) -> Result<Users> {
        let filter = ListFilter {
            all: all.then_some(true),
            after,
            user: None,
        };
        self.get_with("/api/v1/users", &filter).await
    }

    pub async fn user(&self, user: &str) -> Result<User> {
        self.get(&format!("/api/v1/users/{}", segment(user))).await
    }

    pub async fn create_user(&self, user: &NewUser) -> Result<UserWithLink> {
        self.post("/api/v1/users", user).await
    }

    pub async fn change_user(&self, user: &str, change: &ChangeUser) -> Result<User> {
        let path = format!("/api/v1/users/{}", segment(user));
        self.patch(&path, change).await
    }

    pub async fn deactivate_user(&self, user: &str) -> Result<User> {
        let path = format!("/api/v1/users/{}/deactivate", segment(user));
        self.post(&path, &json!({})).await
    }

    pub async fn activate_user(&self, user: &str) -> Result<User> {
        let path = format!("/api/v1/users/{}/activate", segment(user));
        self.post(&path, &json!({})).await
    }

    pub async fn remove_user(&self, user: &str) -> Result<User> {
        self.delete(&format!("/api/v1/users/{}", segment(user))).await
    }

    /// Takes back an invitation that nobody has followed.
    pub async fn withdraw_user(&self, user: &str) -> Result<User> {
        self.delete(&format!("/api/v1/users/{}/invitation", segment(user)))
            .await
    }

    /// A new activation or password-reset link, in place of older ones; sent by e-mail where the user has an address and the server sends mail.
    pub async fn user_link(&self, user: &str) -> Result<Link> {
        let path = format!("/api/v1/users/{}/link", segment(user));
        self.post(&path, &json!({})).await
    }

    pub async fn change_password(&self, user: &str, change: &ChangePassword) -> Result<()> {
        let path = format!("/api/v1/users/{}/password", segment(user));
        let _: Value = self.post(&path, change).await?;
        Ok(())
    }
}

/// API keys.
impl Client {
    /// One's own without `user`; with `all`, revoked and expired ones too.
    pub async fn tokens(&self, user: Option<&str>, all: bool, after: Option<&str>) -> Result<Page<Token>> {
        let filter = ListFilter {
            user,
            all: all.then_some(true),
            after,
        };
        self.get_with("/api/v1/tokens", &filter).await
    }

    pub async fn token(&self, token: TokenId) -> Result<Token> {
        self.get(&format!("/api/v1/tokens/{token}")).await
    }

    pub async fn create_token(&self, token: &NewToken) -> Result<TokenWithSecret> {
        self.post("/api/v1/tokens", token).await
    }

    pub async fn revoke_token(&self, token: TokenId) -> Result<Token> {
        self.delete(&format!("/api/v1/tokens/{token}")).await
    }
}

/// Roles, queues, agents.
impl Client {
    pub async fn roles(&self) -> Result<Page<Role>> {
        self.get("/api/v1/roles").await
    }

    pub async fn queues(&self) -> Result<Page<Queue>> {
        self.get("/api/v1/queues").await
    }

    pub async fn queue(&self, queue: &str) -> Result<QueueDetail> {
        self.get(&format!("/api/v1/queues/{}", segment(queue))).await
    }

    pub async fn create_queue(&self, settings: &QueueSettings) -> Result<Queue> {
        self.post("/api/v1/queues", settings).await
    }

    pub async fn update_queue(&self, queue: &str, settings: &QueueSettings) -> Result<Queue> {
        self.patch(&format!("/api/v1/queues/{}", segment(queue)), settings)
            .await
    }

    pub async fn delete_queue(&self, queue: &str) -> Result<Queue> {
        self.delete(&format!("/api/v1/queues/{}", segment(queue))).await
    }

    pub async fn models(&self, filter: &ModelFilter) -> Result<Page<Model>> {
        self.get_with("/api/v1/models", filter).await
    }

    pub async fn model(&self, model: &str) -> Result<Model> {
        self.get(&format!("/api/v1/models/{}", segment(model))).await
    }

    pub async fn create_model(&self, workspace: &str, new: &NewModel) -> Result<Model> {
        self.post(&format!("/api/v1/workspaces/{}/models", segment(workspace)), new)
            .await
    }

    pub async fn change_model(&self, model: &str, change: &Rename) -> Result<Model> {
        self.patch(&format!("/api/v1/models/{}", segment(model)), change).await
    }

    pub async fn move_model(&self, model: &str, to: &MoveModel) -> Result<Model> {
        self.post(&format!("/api/v1/models/{}/move", segment(model)), to).await
    }

    pub async fn delete_model(&self, model: &str) -> Result<Model> {
        self.delete(&format!("/api/v1/models/{}", segment(model))).await
    }

    /// Newest first.
    pub async fn model_versions(&self, model: &str, filter: &VersionFilter) -> Result<Page<ModelVersion>> {
        self.get_with(&format!("/api/v1/models/{}/versions", segment(model)), filter)
            .await
    }

    pub async fn add_model_version(&self, model: &str, new: &NewModelVersion) -> Result<ModelVersion> {
        self.post(&format!("/api/v1/models/{}/versions", segment(model)), new)
            .await
    }

    pub async fn delete_model_version(&self, model: &str, version: i64) -> Result<ModelVersion> {
        self.delete(&format!("/api/v1/models/{}/versions/{version}", segment(model)))
            .await
    }

    pub async fn stacks(&self, filter: &StackFilter) -> Result<Page<Stack>> {
        self.get_with("/api/v1/stacks", filter).await
    }

    pub async fn stack(&self, stack: &str) -> Result<Stack> {
        self.get(&format!("/api/v1/stacks/{}", segment(stack))).await
    }

    pub async fn create_stack(&self, settings: &StackSettings) -> Result<Stack> {
        self.post("/api/v1/stacks", settings).await
    }

    pub async fn update_stack(&self, stack: &str, settings: &StackSettings) -> Result<Stack> {
        self.patch(&format!("/api/v1/stacks/{}", segment(stack)), settings)
            .await
    }

    pub async fn delete_stack(&self, stack: &str) -> Result<Stack> {
        self.delete(&format!("/api/v1/stacks/{}", segment(stack))).await
    }

    /// Sets what submissions to a workspace that name no queue go into; `None`: the default queue of all.
    pub async fn set_default_queue(&self, workspace: &str, queue: Option<String>) -> Result<Workspace> {
        let path = format!("/api/v1/workspaces/{}/default-queue", segment(workspace));
        self.put(&path, &SetDefaultQueue { queue }).await
    }

    pub async fn agent(&self, agent: &str) -> Result<Agent> {
        self.get(&format!("/api/v1/agents/{}", segment(agent))).await
    }

    pub async fn set_agent_service(&self, agent: &str, service: Service) -> Result<Agent> {
        let verb = match service {
            Service::Enabled => "enable",
            Service::Draining => "drain",
            Service::Disabled => "disable",
        };
        self.post(&format!("/api/v1/agents/{}/{verb}", segment(agent)), &json!({}))
            .await
    }

    pub async fn agents(&self) -> Result<Page<Agent>> {
        self.get("/api/v1/agents").await
    }
}

/// Experiments, their code and their logs. `experiment` is an id or a name.
impl Client {
    /// Sends an archive of `bytes` bytes.
    pub async fn put_code<S>(&self, sha256: &str, bytes: u64, body: S) -> Result<()>
    where
        S: Stream<Item = std::io::Result<Vec<u8>>> + Send + 'static,
    {
        let path = format!("/api/v1/code/{}", segment(sha256));
        let request = self
            .request(Method::PUT, &path)
            .header("content-type", "application/gzip")
            .header("content-length", bytes)
            .body(Body::wrap_stream(body));
        let _: Value = self.json(request).await?;
        Ok(())
    }

    /// Refused with the code `code_missing` when the code was not sent before.
    pub async fn create_experiment(&self, experiment: &NewExperiment) -> Result<Experiment> {
        self.post("/api/v1/experiments", experiment).await
    }

    pub async fn experiments(&self, filter: &ExperimentFilter) -> Result<Page<Experiment>> {
        self.get_with("/api/v1/experiments", filter).await
    }

    pub async fn experiment(&self, experiment: &str) -> Result<ExperimentDetail> {
        self.get(&format!("/api/v1/experiments/{}", segment(experiment))).await
    }

    pub async fn stop_experiment(&self, experiment: &str, how: Stop) -> Result<Experiment> {
        let verb = match how {
            Stop::Cancel => "cancel",
            Stop::Kill => "kill",
        };
        let path = format!("/api/v1/experiments/{}/{verb}", segment(experiment));
        self.post(&path, &json!({})).await
    }

    /// Leaves an ended experiment out of lists, or takes it back.
    pub async fn archive_experiment(&self, experiment: &str, archive: bool) -> Result<Experiment> {
        let verb = if archive { "archive" } else { "unarchive" };
        let path = format!("/api/v1/experiments/{}/{verb}", segment(experiment));
        self.post(&path, &json!({})).await
    }

    /// Says how far it is, from 0 to 1.
    /// Moves a waiting job to another queue or priority.
    pub async fn move_job(&self, experiment: &str, to: &JobMove) -> Result<Experiment> {
        self.patch(&format!("/api/v1/experiments/{}/job", segment(experiment)), to)
            .await
    }

    pub async fn report_progress(&self, experiment: &str, progress: f64) -> Result<Experiment> {
        let path = format!("/api/v1/experiments/{}/progress", segment(experiment));
        let request = self.request(Method::PUT, &path).json(&ReportProgress { progress });
        self.json(request).await
    }

    /// The code as submitted, a `.tar.gz`, to be read as a stream.
    pub async fn experiment_code(&self, experiment: &str) -> Result<Response> {
        let path = format!("/api/v1/experiments/{}/code", segment(experiment));
        self.send(self.request(Method::GET, &path)).await
    }

    pub async fn logs(&self, experiment: &str, filter: &LogFilter) -> Result<Log> {
        let path = format!("/api/v1/experiments/{}/logs", segment(experiment));
        self.get_with(&path, filter).await
    }

    /// The lines after number `after`, as they are written. A stream that breaks is taken up again by another call with
    /// the number of the last line seen.
    pub async fn follow_logs(&self, experiment: ExperimentId, after: i64) -> Result<LogStream> {
        let request = self
            .request(Method::GET, &format!("/api/v1/experiments/{experiment}/logs/stream"))
            .header("accept", "text/event-stream")
            .header("last-event-id", after);
        Ok(LogStream {
            response: self.send(request).await?,
            server: self.server().to_owned(),
            events: Events::default(),
        })
    }
}

/// The audit.
impl Client {
    pub async fn audit(&self, filter: &AuditFilter) -> Result<Page<AuditEvent>> {
        self.get_with("/api/v1/audit", filter).await
    }

    pub async fn verify_audit(&self) -> Result<AuditVerdict> {
        self.post("/api/v1/audit/verify", &json!({})).await
    }

    /// One event a line, oldest first, to be read as a stream.
    pub async fn export_audit(&self, filter: &AuditFilter) -> Result<Response> {
        let path = format!("/api/v1/audit/export{}", query_string(filter));
        self.send(self.request(Method::GET, &path)).await
    }
}

/// What comes down a log stream.
#[derive(Debug)]
pub enum LogEvent {
    Lines(Vec<LogLine>),
    /// The job has ended in this state and no line follows.
    End(State),
}

/// An open log stream.
pub struct LogStream {
    response: Response,
    server: String,
    events: Events,
}

impl LogStream {
    /// The next event.
    ///
    /// # Errors
    /// `Unreachable` when the connection broke or went silent: follow again from the last line.
    pub async fn next(&mut self) -> Result<LogEvent> {
        loop {
            if let Some(event) = self.events.next() {
                return read_event(&event).unwrap_or_else(|why| {
                    let words = format!("{} sent a log event that is none: {why}", self.server);
                    Err(Error::Unexpected(words))
                });
            }
            let broken = |why: &dyn std::fmt::Display| {
                Error::Unreachable(format!("the connection to {} broke: {why}", self.server))
            };
            let chunk = tokio::time::timeout(QUIET_MAX, self.response.chunk())
                .await
                .map_err(|_| broken(&"nothing came for a minute"))?
                .map_err(|why| broken(&why))?
                .ok_or_else(|| broken(&"it was closed"))?;
            self.events.push(&chunk);
        }
    }
}

fn read_event(event: &Event) -> serde_json::Result<Result<LogEvent>> {
    #[derive(Deserialize)]
    struct End {
        state: State,
    }
    /// The right to follow has ended meanwhile, or the server could not go on.
    #[derive(Deserialize)]
    struct Failure {
        code: String,
        message: String,
    }
    match event.name.as_str() {
        "end" => serde_json::from_str(&event.data).map(|end: End| Ok(LogEvent::End(end.state))),
        "failure" => serde_json::from_str(&event.data).map(|Failure { code, message }| {
            Err(Error::Refused {
                status: if code == "unauthenticated" { 401 } else { 403 },
                body: ErrorBody {
                    code,
                    message,
                    hint: None,
                    request_id: String::new(),
                },
            })
        }),
        _ => serde_json::from_str(&event.data).map(|lines| Ok(LogEvent::Lines(lines))),
    }
}

/// One server-sent event; its id is the number of the last line in it, which the lines say too.
#[derive(Debug, Default, PartialEq)]
struct Event {
    name: String,
    data: String,
}

/// Cuts a byte stream into server-sent events.
#[derive(Default)]
struct Events {
    buffer: Vec<u8>,
    /// How much of the buffer has been read.
    read: usize,
    /// How much of the rest is known to hold no line end.
    searched: usize,
    event: Event,
}

impl Events {
    fn push(&mut self, chunk: &[u8]) {
        self.buffer.drain(..self.read);
        self.read = 0;
        self.buffer.extend_from_slice(chunk);
    }

    fn next(&mut self) -> Option<Event> {
        loop {
            let rest = &self.buffer[self.read..];
            let Some(more) = rest[self.searched..].iter().position(|byte| *byte == b'\n') else {
                self.searched = rest.len();
                return None;
            };
            let line = &rest[..self.searched + more];
            self.read += line.len() + 1;
            self.searched = 0;
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if !event.data.is_empty() {
                    return Some(event);
                }
                continue;
            }
            // A line that begins with a colon is a comment that keeps the connection alive.
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => self.event.name = value.to_owned(),
                "data" => {
                    if !self.event.data.is_empty() {
                        self.event.data.push('\n');
                    }
                    self.event.data.push_str(value);
                }
                _ => {}
            }
        }
    }
}

/// Every item of a list, page after page.
///
/// # Errors
/// Those of `page`.
pub async fn every<T, F>(mut page: impl FnMut(Option<String>) -> F) -> Result<Vec<T>>
where
    F: Future<Output = Result<Page<T>>>,
{
    let mut items = Vec::new();
    let mut after = None;
    loop {
        let mut next = page(after).await?;
        items.append(&mut next.items);
        after = next.next;
        if after.is_none() {
            return Ok(items);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(chunks: &[&[u8]]) -> Vec<Event> {
        let mut events = Events::default();
        let mut found = Vec::new();
        for chunk in chunks {
            events.push(chunk);
            while let Some(event) = events.next() {
                found.push(event);
            }
        }
        found
    }

    #[test]
    fn events_come_whole_however_the_bytes_are_cut() {
        let text = b": quiet\n\nid: 2\ndata: [1,\ndata: 2]\n\nevent: end\r\ndata: {\"state\":\"COMPLETED\"}\r\n\r\ndata: cut off";
        let whole = events(&[text]);
        assert_eq!(whole.len(), 2);
        assert_eq!(whole[0].data, "[1,\n2]");
        assert_eq!(whole[1].name, "end");
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(events(&bytes), whole);
    }

    #[test]
    fn a_right_that_ends_while_following_is_told() {
        let failure = Event {
            name: "failure".into(),
            data: r#"{"code":"unauthenticated","message":"Invalid API key"}"#.into(),
        };
        let Ok(Err(why)) = read_event(&failure) else {
            panic!("that is a failure");
        };
        assert_eq!((why.status(), why.to_string().as_str()), (Some(401), "Invalid API key"));
    }

    #[test]
    fn the_end_of_a_log_names_the_state() {
        let end = Event {
            name: "end".into(),
            data: r#"{"state":"CANCELED"}"#.into(),
        };
        assert!(matches!(read_event(&end), Ok(Ok(LogEvent::End(State::Canceled)))));
    }
}
