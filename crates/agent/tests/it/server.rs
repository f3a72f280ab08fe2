//! A stand-in for the server: leases what a test gives it and remembers what agents say.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bailiwick_api::agents::{
    Happened, Held, JobLease, LeaseVault, Limits, Load, OnLostAgent, Poll, PollAnswer, Register, Report, StopOrder,
};
use bailiwick_api::experiments::{LogLine, Stop, Stream, Usage, log_text};
use bailiwick_api::{AgentId, ExperimentId, JobId};
use serde_json::{Value, json};

/// Longest that anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Known {
    pub leases: BTreeMap<(i64, i64), JobLease>,
    pub stops: BTreeMap<(i64, i64), Stop>,
    pub taken: BTreeSet<(i64, i64)>,
    pub lost: BTreeSet<(i64, i64)>,
    pub logs: BTreeMap<i64, BTreeMap<i64, LogLine>>,
    pub started: BTreeMap<(i64, i64), Instant>,
    pub leased: BTreeMap<(i64, i64), Instant>,
    pub ended: BTreeMap<(i64, i64), Happened>,
    pub code: BTreeMap<String, Vec<u8>>,
    /// What a job used, as it was said in polls.
    pub used: BTreeMap<(i64, i64), Vec<Usage>>,
    /// What a job had used when it ended.
    pub used_at_end: BTreeMap<(i64, i64), Option<Usage>>,
    pub polls: usize,
    /// As they came in polls.
    pub loads: Vec<Load>,
    pub registered: Vec<Register>,
    /// What vaults of the agent's account say for it.
    pub settings: Value,
    pub enforced: Value,
    pub not_served: BTreeMap<String, String>,
    pub forget_agent: bool,
    pub down: bool,
}

pub struct Server {
    pub url: String,
    known: Arc<(Mutex<Known>, Condvar)>,
}

impl Server {
    pub fn start() -> Server {
        Server::with_lease_ms(60_000)
    }

    pub fn with_lease_ms(lease_ms: i64) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let known: Arc<(Mutex<Known>, Condvar)> = Arc::default();
        let served = known.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let known = served.clone();
                std::thread::spawn(move || connection(stream, &known, lease_ms));
            }
        });
        Server { url, known }
    }

    pub fn change(&self, act: impl FnOnce(&mut Known)) {
        act(&mut self.known.0.lock().unwrap());
        self.known.1.notify_all();
    }

    /// Waits until `see` gives something.
    pub fn wait<T>(&self, what: &str, mut see: impl FnMut(&Known) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        let mut known = self.known.0.lock().unwrap();
        loop {
            if let Some(seen) = see(&known) {
                return seen;
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "waited in vain for {what}; logs: {:#?}",
                texts(&known.logs)
            );
            known = self.known.1.wait_timeout(known, left).unwrap().0;
        }
    }

    pub fn see<T>(&self, see: impl FnOnce(&Known) -> T) -> T {
        see(&self.known.0.lock().unwrap())
    }

    pub fn submit(&self, lease: JobLease) {
        self.change(|known| {
            known.leased.insert((lease.job.0, lease.fence), Instant::now());
            known.leases.insert((lease.job.0, lease.fence), lease);
        });
    }

    pub fn stop(&self, job: i64, fence: i64, how: Stop) {
        self.change(|known| {
            known.stops.insert((job, fence), how);
        });
    }

    pub fn wait_end(&self, job: i64, fence: i64) -> End {
        let happened = self.wait(&format!("the end of job {job}"), |known| {
            known.ended.get(&(job, fence)).cloned()
        });
        let Happened::Ended {
            exit_code,
            signal,
            reason,
            lost,
            ..
        } = happened
        else {
            panic!("an end")
        };
        End {
            exit_code,
            signal,
            reason,
            lost,
        }
    }

    /// One that the program printed.
    pub fn wait_line(&self, job: i64, wanted: &str) -> LogLine {
        self.wait(&format!("the line `{wanted}`"), |known| {
            let mut printed = known
                .logs
                .get(&job)?
                .values()
                .filter(|line| line.stream != Stream::System);
            printed.find(|line| line.text.contains(wanted)).cloned()
        })
    }

    pub fn lines(&self, job: i64) -> Vec<LogLine> {
        self.see(|known| {
            known
                .logs
                .get(&job)
                .into_iter()
                .flat_map(|lines| lines.values().cloned())
                .collect()
        })
    }

    /// What the program itself printed.
    pub fn printed(&self, job: i64) -> Vec<String> {
        let lines = self.lines(job).into_iter();
        lines
            .filter(|line| line.stream != Stream::System)
            .map(|line| line.text)
            .collect()
    }

    pub fn said(&self, job: i64) -> Vec<String> {
        let lines = self.lines(job).into_iter();
        lines
            .filter(|line| line.stream == Stream::System)
            .map(|line| line.text)
            .collect()
    }
}

fn texts(logs: &BTreeMap<i64, BTreeMap<i64, LogLine>>) -> BTreeMap<i64, Vec<&str>> {
    logs.iter()
        .map(|(job, lines)| {
            (
                *job,
                lines.values().rev().take(30).map(|line| line.text.as_str()).collect(),
            )
        })
        .collect()
}

#[derive(Debug, PartialEq, Eq)]
pub struct End {
    pub exit_code: Option<i64>,
    pub signal: Option<i64>,
    pub reason: Option<String>,
    pub lost: bool,
}

pub fn lease(job: i64, script: &str) -> JobLease {
    JobLease {
        job: JobId(job),
        fence: 1,
        experiment: ExperimentId(job + 1000),
        name: format!("experiment-{job}"),
        owner: "ana".into(),
        workspace: "default".into(),
        project: "default".into(),
        slots: 0,
        code: None,
        command: vec!["sh".into(), "-c".into(), script.into()],
        env: BTreeMap::new(),
        config: json!({"hyperparameters": {"lr": {"type": "const", "val": 0.1}}}),
        restarts: 0,
        limits: Limits::default(),
        grace_ms: 15_000,
        token: "mlj_test".into(),
        on_lost_agent: OnLostAgent::Fail,
        vault: LeaseVault::default(),
    }
}

fn connection(stream: TcpStream, known: &(Mutex<Known>, Condvar), lease_ms: i64) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let length = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let target = head.split(' ').nth(1).unwrap_or("").to_owned();
        if known.0.lock().unwrap().down {
            return;
        }
        let (status, answer) = answer(&target, &body, known, lease_ms, &stream);
        let mut stream = &stream;
        let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n", answer.len());
        if known.0.lock().unwrap().down || stream.write_all(&[head.as_bytes(), &answer].concat()).is_err() {
            return;
        }
    }
}

fn refuse(status: u16, code: &str) -> (u16, Vec<u8>) {
    (
        status,
        json!({"error": {"code": code, "message": code}})
            .to_string()
            .into_bytes(),
    )
}

fn gone(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let gone = matches!(stream.peek(&mut [0]), Ok(0));
    stream.set_nonblocking(false).unwrap();
    gone
}

fn answer(
    target: &str,
    body: &[u8],
    shared: &(Mutex<Known>, Condvar),
    lease_ms: i64,
    stream: &TcpStream,
) -> (u16, Vec<u8>) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let number = |name: &str| -> i64 {
        let value = query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    };
    let parts: Vec<&str> = path
        .trim_start_matches("/api/v1/agents")
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    let mut known = shared.0.lock().unwrap();
    let ok = |value: Value| (200, value.to_string().into_bytes());
    if parts.is_empty() {
        known.registered.push(serde_json::from_slice(body).unwrap());
        shared.1.notify_all();
        known.forget_agent = false;
        return ok(
            json!({"agent": AgentId(7), "lease_ms": lease_ms, "settings": known.settings, "enforced": known.enforced}),
        );
    }
    if known.forget_agent {
        return refuse(404, "not_found");
    }
    if parts[1] == "poll" {
        let poll: Poll = serde_json::from_slice(body).unwrap();
        known.polls += 1;
        known.loads.extend(poll.load.clone());
        for one in &poll.usage {
            known.used.entry((one.job.0, one.fence)).or_default().push(one.usage);
        }
        shared.1.notify_all();
        let until = Instant::now() + Duration::from_millis(poll.wait_ms as u64);
        loop {
            let answer = difference(&known, &poll);
            let left = until.saturating_duration_since(Instant::now());
            let empty = answer.start.is_empty() && answer.stop.is_empty() && answer.drop.is_empty();
            if !empty || left.is_zero() || known.down || known.forget_agent {
                for lease in &answer.start {
                    known.taken.insert((lease.job.0, lease.fence));
                }
                return ok(serde_json::to_value(answer).unwrap());
            }
            known = shared
                .1
                .wait_timeout(known, left.min(Duration::from_millis(200)))
                .unwrap()
                .0;
            if gone(stream) {
                return (200, Vec::new());
            }
        }
    }
    let job: i64 = parts[2].parse().unwrap();
    let report: Option<Report> = (parts[3] == "report").then(|| serde_json::from_slice(body).unwrap());
    let fence = report.as_ref().map_or_else(|| number("fence"), |report| report.fence);
    if known.lost.contains(&(job, fence)) || !known.leases.contains_key(&(job, fence)) {
        return refuse(409, "lease_lost");
    }
    let answer = match parts[3] {
        "report" => {
            let Report { what, usage, .. } = report.expect("it is one");
            match what {
                Happened::Started { .. } => {
                    known.started.entry((job, fence)).or_insert_with(Instant::now);
                }
                Happened::Ended { .. } => {
                    known.used_at_end.insert((job, fence), usage);
                    known.ended.insert((job, fence), what);
                }
            }
            ok(json!({}))
        }
        "logs" => {
            let lines = known.logs.entry(job).or_default();
            for line in log_text::read(body, number("first")) {
                lines.entry(line.number).or_insert(line);
            }
            let through = lines.last_key_value().map_or(0, |(number, _)| *number);
            ok(json!({"through": through}))
        }
        _ => {
            let code = known.leases[&(job, fence)].code.clone().unwrap_or_default();
            (200, known.code[&code].clone())
        }
    };
    drop(known);
    shared.1.notify_all();
    answer
}

/// What the agent should do differently.
fn difference(known: &Known, poll: &Poll) -> PollAnswer {
    let mut answer = PollAnswer {
        not_served: known.not_served.clone(),
        ..PollAnswer::default()
    };
    let holds = |key: &(i64, i64)| poll.held.iter().find(|held| (held.job.0, held.fence) == *key);
    let mut free = poll.free_slots;
    for (key, lease) in &known.leases {
        if known.lost.contains(key) || known.ended.contains_key(key) {
            continue;
        }
        match holds(key) {
            None if !poll.draining && lease.slots <= free => {
                free -= lease.slots;
                answer.start.push(lease.clone());
            }
            Some(held) if !held.stopping => {
                if let Some(how) = known.stops.get(key) {
                    answer.stop.push(StopOrder {
                        job: lease.job,
                        fence: lease.fence,
                        how: *how,
                    });
                }
            }
            _ => {}
        }
    }
    let ours = |held: &&Held| {
        let key = (held.job.0, held.fence);
        known.lost.contains(&key) || !known.leases.contains_key(&key)
    };
    answer.drop = poll.held.iter().filter(ours).copied().collect();
    answer
}

/// An agent in a process of its own, killed at the end of the test; its jobs are ended then, too.
pub struct Agent {
    pub process: Child,
    pub dir: PathBuf,
    _home: Option<tempfile::TempDir>,
}

impl Agent {
    pub fn start(server: &Server) -> Agent {
        let home = tempfile::tempdir().unwrap();
        let mut agent = Agent::start_in(server, &home.path().join("agent"), &[]);
        agent._home = Some(home);
        agent
    }

    pub fn start_in(server: &Server, dir: &Path, options: &[(&str, &str)]) -> Agent {
        Agent::start_saying(server, dir, options, Stdio::inherit())
    }

    /// Its log goes to the file that [`Agent::log`] reads.
    pub fn start_logged(server: &Server, dir: &Path, options: &[(&str, &str)]) -> Agent {
        let log = std::fs::File::create(dir.with_extension("log")).unwrap();
        Agent::start_saying(server, dir, options, log.into())
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.with_extension("log")).unwrap()
    }

    /// Waits until it has said this.
    pub fn says(&self, what: &str) -> String {
        eventually(what, || Some(self.log()).filter(|log| log.contains(what)))
    }

    fn start_saying(server: &Server, dir: &Path, options: &[(&str, &str)], stderr: Stdio) -> Agent {
        let process = Command::new(std::env::current_exe().unwrap())
            .stderr(stderr)
            .env("ML_TEST_AGENT", dir)
            .env("ML_TEST_SERVER", &server.url)
            .env("SECRET_OF_THE_AGENT", "secret")
            .envs(options.iter().copied())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Agent {
            process,
            dir: dir.to_owned(),
            _home: None,
        }
    }

    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    pub fn job_dir(&self, job: i64, fence: i64) -> PathBuf {
        self.dir.canonicalize().unwrap().join(format!("jobs/{job}.{fence}"))
    }

    pub fn shim_pid(&self, job: i64, fence: i64) -> i32 {
        let path = self.job_dir(job, fence).join("shim.lock");
        eventually("the shim's process id", || {
            std::fs::read_to_string(&path).ok()?.trim().parse().ok()
        })
    }

    /// Processes of a job, found by their environment.
    pub fn processes(&self, job: i64) -> Vec<i32> {
        let marker = format!("ML_JOB_DIR={}/jobs/{job}.", self.dir.canonicalize().unwrap().display());
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|process| {
                let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
                environment
                    .split(|byte| *byte == 0)
                    .any(|variable| variable.starts_with(marker.as_bytes()))
            })
            .collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
        // Shims outlive their agent: end them, and with them their jobs.
        let jobs = std::fs::read_dir(self.dir.join("jobs")).into_iter().flatten().flatten();
        for job in jobs {
            let pid = std::fs::read_to_string(job.path().join("shim.lock")).unwrap_or_default();
            if let Ok(pid) = pid.trim().parse::<i32>()
                && pid > 1
                && std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("job-shim"))
            {
                let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
            }
        }
    }
}

/// Looks again and again until there is something.
pub fn eventually<T>(what: &str, mut see: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = see() {
            return seen;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
