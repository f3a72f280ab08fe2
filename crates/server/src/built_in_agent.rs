//! The server's own agent: a child process of the same program, speaking the same protocol as any other agent. It is started again when it dies. Its jobs
//! belong to their own shims, so neither its death nor the server's ends them; the next one takes them over.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bailiwick_store::access::Access;
use bailiwick_store::credentials;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::access::Shared;
use crate::config::BuiltInAgent;

/// The service account under which it signs in.
pub const ACCOUNT: &str = "built-in-agent";

/// Runs it until the server is ending.
pub async fn keep_running(
    access: Arc<Access>,
    shared: Arc<Shared>,
    settings: BuiltInAgent,
    data: std::path::PathBuf,
    url: String,
    key: String,
) {
    let mut ending = shared.parts.hub.ending.subscribe();
    let mut delay = Duration::from_millis(200);
    while !*ending.borrow_and_update() {
        let started = Instant::now();
        let begun = async {
            let other = |why: bailiwick_store::StoreError| std::io::Error::other(why.to_string());
            let queues = credentials::built_in_agent_queues(&access, ACCOUNT)
                .await
                .map_err(other)?;
            let as_owner = credentials::built_in_agent_impersonates(&access, ACCOUNT)
                .await
                .map_err(other)?;
            let child = start(&settings, &queues, as_owner, &data, &url, &key).await?;
            Ok::<_, std::io::Error>((child, as_owner))
        };
        match begun.await {
            Ok((mut child, as_owner)) => {
                // Held open for as long as the agent shall live: it ends when this pipe does, also when this process is killed.
                let pipe = child.stdin.take();
                tokio::select! {
                    status = child.wait() => tracing::warn!(?status, "the built-in agent ended; it is started again"),
                    () = turned(&access, as_owner) => {
                        tracing::info!(as_owner = !as_owner, "the built-in agent is started anew: whether it may run jobs as their owners has changed");
                        drop(pipe);
                        let _ = tokio::time::timeout(Duration::from_secs(5), child.wait()).await;
                        let _ = child.kill().await;
                    }
                    _ = ending.changed() => {
                        drop(pipe);
                        // Its jobs live on under their shims.
                        if tokio::time::timeout(Duration::from_secs(5), child.wait()).await.is_err() {
                            let _ = child.kill().await;
                        }
                        return;
                    }
                }
            }
            Err(why) => tracing::error!(cause = %why, "the built-in agent cannot be started; it is tried again"),
        }
        delay = if started.elapsed() > Duration::from_secs(30) {
            Duration::from_millis(200)
        } else {
            (delay * 2).min(Duration::from_secs(10))
        };
        tokio::select! {
            _ = tokio::time::sleep(delay) => {}
            _ = ending.changed() => {}
        }
    }
}

/// Until its account may run jobs as their owners, or may no more.
async fn turned(access: &Arc<Access>, as_owner: bool) {
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = credentials::built_in_agent_impersonates(access, ACCOUNT).await;
        if now.is_ok_and(|now| now != as_owner) {
            return;
        }
    }
}

async fn start(
    settings: &BuiltInAgent,
    queues: &[String],
    as_owner: bool,
    data: &Path,
    url: &str,
    key: &str,
) -> std::io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["agent", "--builtin", "--name", "built-in", "--server", url]);
    for queue in queues {
        command.args(["--queue", queue]);
    }
    command.arg("--dir").arg(data.join("agent")).arg("--protect").arg(data);
    if as_owner {
        command.arg("--use-owner-token");
    }
    if let Some(slots) = settings.slots {
        command.args(["--slots", &slots.to_string()]);
    }
    if let Some(gpus) = &settings.gpus {
        command.args(["--gpus", gpus]);
    }
    if let Some(isolate) = &settings.isolate {
        command.args(["--isolate", isolate]);
    }
    for (name, value) in &settings.job_env {
        command.args(["--job-env", &format!("{name}={value}")]);
    }
    // Not of its parent's process group: Ctrl-C is for the server, which then ends it in order.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn()?;
    let pipe = child.stdin.as_mut().expect("stdin is piped");
    pipe.write_all(format!("{key}\n").as_bytes()).await?;
    Ok(child)
}
