//! The agent's calls.

use std::time::Duration;

use bailiwick_api::agents::{LogsKept, Poll, PollAnswer, Register, Registered, Report};
use bailiwick_api::{AgentId, JobId};
use reqwest::{Method, Response};

use crate::{Client, Result};

/// How much longer than asked a poll may take before the connection counts as dead.
const POLL_SLACK_MS: u64 = 15_000;
/// A report or a batch of log lines that takes longer is sent again.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

impl Client {
    pub async fn register_agent(&self, register: &Register) -> Result<Registered> {
        let request = self.request(Method::POST, "/api/v1/agents").json(register);
        self.json(request.timeout(SEND_TIMEOUT)).await
    }

    /// Renews the leases of all held jobs and waits for something to do. Safe to give up and to repeat.
    pub async fn poll(&self, agent: AgentId, poll: &Poll) -> Result<PollAnswer> {
        let timeout = Duration::from_millis(u64::try_from(poll.wait_ms).unwrap_or(0) + POLL_SLACK_MS);
        let request = self.request(Method::POST, &format!("/api/v1/agents/{agent}/poll"));
        self.json(request.json(poll).timeout(timeout)).await
    }

    /// The code archive of a leased job, to be read as a stream.
    pub async fn job_code(&self, agent: AgentId, job: JobId, fence: i64) -> Result<Response> {
        let path = format!("/api/v1/agents/{agent}/jobs/{job}/code?fence={fence}");
        self.send(self.request(Method::GET, &path)).await
    }

    pub async fn report(&self, agent: AgentId, job: JobId, report: &Report) -> Result<()> {
        let request = self.request(Method::POST, &format!("/api/v1/agents/{agent}/jobs/{job}/report"));
        let _: serde_json::Value = self.json(request.json(report).timeout(SEND_TIMEOUT)).await?;
        Ok(())
    }

    /// Sends log text (see `experiments::log_text`) whose first line has the number `first`. An empty text only asks which line the server has last.
    pub async fn send_logs(
        &self,
        agent: AgentId,
        job: JobId,
        fence: i64,
        first: i64,
        text: Vec<u8>,
    ) -> Result<LogsKept> {
        let path = format!("/api/v1/agents/{agent}/jobs/{job}/logs?fence={fence}&first={first}");
        let request = self.request(Method::POST, &path).header("content-type", "text/plain");
        self.json(request.body(text).timeout(SEND_TIMEOUT)).await
    }
}
