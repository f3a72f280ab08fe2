//! `kill -9` of server, agent or both at random moments, while jobs come and go; then the count: is every acknowledged job there and ended as it should, did two lives of
//! one job ever run at once, is every log whole, does the audit's chain hold, has any process stayed behind.
//!
//! Each job appends a line to a file of its own at every step of its life, each with its lease (job and fencing number). Appending is atomic, so the order of the lines is the
//! order of what happened, by no clock: once a line of a later lease stands there, none of an earlier one may follow.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bailiwick_api::ExperimentId;
use bailiwick_api::experiments::{Experiment, ExperimentFilter, LogFilter, NewExperiment, State, Stop};
use bailiwick_client::calls::every;
use bailiwick_client::{Client, Error};
use serde_json::json;
use tempfile::TempDir;

use crate::Outcome;
use crate::ground::{Bench, Kind, Place, Process, Server};

#[derive(clap::Args)]
pub struct Options {
    /// The same jobs and the same kills as an earlier run
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long, env = "ML_TORTURE_JOBS", default_value_t = 1000)]
    jobs: usize,
    #[arg(long, env = "ML_TORTURE_KILLS", default_value_t = 200)]
    kills: usize,
    /// On PostgreSQL in place of SQLite
    #[arg(long)]
    pub postgres: bool,
    /// Where jobs write down their lives: a place that they can see, which /tmp is not [default: /srv for root, else beside this program]
    #[arg(long, env = "ML_TORTURE_SCRATCH")]
    scratch: Option<PathBuf>,
}

const LEASE: &str = "3s";
/// How long anybody tries to reach a server that is being killed all the time.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the last jobs may take once the killing is over.
const LAST_JOBS: Duration = Duration::from_secs(150);
const SUBMITTERS: usize = 4;
/// A kill and the pause after it take about so long on average.
const ROUND_MS: usize = 2000;

const SCRIPT: &str = r#"
kind=$1 lines=$2 beats=$3
say() { echo "$1 $ML_LEASE" >> "$TORTURE_FILE"; }
say begin
i=0
while [ $i -lt $lines ]; do i=$((i + 1)); echo "$ML_LEASE line $i"; done
case $kind in
stubborn) trap '' TERM ;;
fork) (setsid sh -c 'while :; do echo "beat $ML_LEASE" >> "$TORTURE_FILE"; sleep 0.2; done' &) ;;
esac
while [ $beats -gt 0 ]; do beats=$((beats - 1)); say beat; sleep 0.1; done
if [ $kind = doomed ]; then say failed; exit 9; fi
if [ $kind = shaky ] && [ "$(grep -c begin "$TORTURE_FILE")" -lt 3 ]; then say failed; exit 7; fi
echo "$ML_LEASE last"
say end
"#;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sort {
    /// A moment's work.
    Quick,
    /// One to four seconds.
    Long,
    /// Leaves a grandchild in another session behind.
    Fork,
    /// Fails until its third life, and may be tried again twice.
    Shaky,
    /// Fails always.
    Doomed,
    /// Canceled at some moment.
    Canceled,
    /// Canceled, and ignores SIGTERM.
    Stubborn,
}

impl Sort {
    fn pick(random: &mut Random) -> Sort {
        match random.below(100) {
            0..45 => Sort::Quick,
            45..63 => Sort::Long,
            63..73 => Sort::Fork,
            73..80 => Sort::Shaky,
            80..85 => Sort::Doomed,
            85..95 => Sort::Canceled,
            _ => Sort::Stubborn,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Sort::Quick | Sort::Long | Sort::Canceled => "plain",
            Sort::Fork => "fork",
            Sort::Shaky => "shaky",
            Sort::Doomed => "doomed",
            Sort::Stubborn => "stubborn",
        }
    }

    /// Tenths of a second.
    fn beats(self, random: &mut Random) -> u64 {
        match self {
            Sort::Quick | Sort::Shaky | Sort::Doomed => random.below(3),
            Sort::Long => 10 + random.below(30),
            Sort::Fork => 5 + random.below(10),
            Sort::Canceled | Sort::Stubborn => 600,
        }
    }

    fn is_canceled(self) -> bool {
        matches!(self, Sort::Canceled | Sort::Stubborn)
    }

    fn should_end(self) -> State {
        match self {
            Sort::Doomed => State::Error,
            _ if self.is_canceled() => State::Canceled,
            _ => State::Completed,
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pause(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(from_ms + self.below(to_ms - from_ms))
    }
}

/// A submission that the server has acknowledged.
#[derive(Clone)]
struct Acknowledged {
    id: ExperimentId,
    sort: Sort,
    lines: u64,
    file: PathBuf,
    /// Whether a cancel was acknowledged before it had ended.
    canceled: bool,
}

#[derive(Default)]
struct Counts {
    repeated: AtomicUsize,
    server_kills: AtomicUsize,
    agent_kills: AtomicUsize,
}

pub async fn run(bench: &Bench, options: Options) -> Outcome<()> {
    let random = bailiwick_api::key::random_bytes();
    let seed = options.seed.unwrap_or(u64::from(u32::from_le_bytes([
        random[0], random[1], random[2], random[3],
    ])));
    println!("torture: {} jobs, {} kills, --seed {seed}", options.jobs, options.kills);
    let mut place = bench
        .place(if options.postgres { Kind::Postgres } else { Kind::Sqlite })
        .await?;
    let scratch = scratch(options.scratch.as_deref())?;
    let began = Instant::now();
    let run = format!("{seed}-{}", std::process::id());
    let outcome = torture(&place, scratch.path(), seed, &run, &options).await;
    let outcome = match outcome {
        Ok(faults) if faults.is_empty() => Ok(()),
        Ok(faults) => {
            for fault in faults.iter().take(40) {
                println!("FAULT: {fault}");
            }
            Err(format!("{} faults", faults.len()))
        }
        Err(why) => Err(why),
    };
    end_what_is_left(&run, place.dir.path());
    println!("torture: {:.0} s", began.elapsed().as_secs_f64());
    outcome.map_err(|why| {
        place.dir.disable_cleanup(true);
        let mut scratch = scratch;
        scratch.disable_cleanup(true);
        format!(
            "{why}; repeat it with --seed {seed}; kept: {} and {}",
            place.dir.path().display(),
            scratch.path().display()
        )
    })
}

/// A directory that jobs of any user can write to and that is not below /tmp, in whose place each job sees its own.
fn scratch(wanted: Option<&Path>) -> Outcome<TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let parent = match wanted {
        Some(wanted) => wanted.to_owned(),
        None if nix::unistd::Uid::effective().is_root() => "/srv".into(),
        None => {
            let program = std::env::current_exe().map_err(|why| why.to_string())?;
            program.parent().expect("a program stands in a directory").to_owned()
        }
    };
    let dir = TempDir::with_prefix_in("bailiwick-torture-", &parent);
    let dir = dir.map_err(|why| format!("no directory for the jobs' notes in {}: {why}", parent.display()))?;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).map_err(|why| why.to_string())?;
    Ok(dir)
}

async fn torture(place: &Place, scratch: &Path, seed: u64, run: &str, options: &Options) -> Outcome<Vec<String>> {
    let server = place.serve(&["--no-agent", "--lease-time", LEASE]).await?;
    let admin = server.admin().await?;
    let agent_log = place.dir.path().join("agent.log");
    let start_agent = async || Process::start(place.agent_command(&admin, &["--slots", "16"]).await?, &agent_log);
    let agent = start_agent().await?;
    let counts = Arc::new(Counts::default());

    let done: Arc<Mutex<Vec<Acknowledged>>> = Arc::default();
    let time = Duration::from_millis((options.kills * ROUND_MS) as u64 * 9 / 10);
    let submitters: Vec<_> = (0..SUBMITTERS)
        .map(|submitter| {
            let work = Submitter {
                client: admin.clone(),
                scratch: scratch.to_owned(),
                run: run.to_owned(),
                seed,
                counts: counts.clone(),
                done: done.clone(),
            };
            let numbers: Vec<usize> = (submitter..options.jobs).step_by(SUBMITTERS).collect();
            tokio::spawn(work.run(numbers, time))
        })
        .collect();

    let mut random = Random(seed);
    let mut live = Live { place, server, agent };
    for kill in 1..=options.kills {
        tokio::time::sleep(random.pause(200, 2000)).await;
        let (server, agent) = match random.below(10) {
            0..4 => (true, false),
            4..8 => (false, true),
            _ => (true, true),
        };
        // Now and then away for longer than a lease.
        let away = if random.below(20) == 0 {
            random.pause(3000, 5000)
        } else {
            random.pause(0, 1000)
        };
        counts.server_kills.fetch_add(usize::from(server), Ordering::Relaxed);
        counts.agent_kills.fetch_add(usize::from(agent), Ordering::Relaxed);
        live = live.crash(server, agent, away, &start_agent).await?;
        if kill % 20 == 0 {
            let acknowledged = done.lock().expect("no panic while the lock is held").len();
            eprintln!("torture: {kill} kills, {acknowledged} jobs acknowledged");
        }
    }
    for submitter in submitters {
        submitter.await.map_err(|why| why.to_string())??;
    }

    let acknowledged = std::mem::take(&mut *done.lock().expect("no panic while the lock is held"));
    let mut faults = Vec::new();
    let listed = all_ended(&admin, &mut faults).await?;
    let lives = check(&admin, &acknowledged, &listed, &mut faults).await?;
    let verdict = insist(|| admin.verify_audit()).await?;
    if !verdict.intact {
        faults.push(format!(
            "the audit does not verify: {}",
            verdict.fault.unwrap_or_default()
        ));
    }
    faults.extend(left_behind(run, place.dir.path()).await);
    let again: i64 = listed.iter().map(|one| one.restarts).sum();
    live.agent.stop()?;
    live.server.process.stop()?;
    println!(
        "torture: {} jobs acknowledged, {} submissions repeated without an answer, {} lives, {again} restarts; server killed {} times, agent {} times; {} audit events chained",
        acknowledged.len(),
        counts.repeated.load(Ordering::Relaxed),
        lives,
        counts.server_kills.load(Ordering::Relaxed),
        counts.agent_kills.load(Ordering::Relaxed),
        verdict.events,
    );
    if acknowledged.len() != options.jobs {
        faults.push(format!(
            "{} of {} jobs were acknowledged",
            acknowledged.len(),
            options.jobs
        ));
    }
    Ok(faults)
}

/// The two processes that are killed.
struct Live<'a> {
    place: &'a Place,
    server: Server,
    agent: Process,
}

impl<'a> Live<'a> {
    async fn crash(
        self,
        server: bool,
        agent: bool,
        away: Duration,
        start_agent: &impl AsyncFn() -> Outcome<Process>,
    ) -> Outcome<Live<'a>> {
        let Live {
            place,
            server: old_server,
            agent: old_agent,
        } = self;
        let port = old_server.port;
        let kept_server = if server {
            old_server.process.crash();
            None
        } else {
            Some(old_server)
        };
        let kept_agent = if agent {
            old_agent.crash();
            None
        } else {
            Some(old_agent)
        };
        tokio::time::sleep(away).await;
        let server = match kept_server {
            Some(server) => server,
            None => {
                let listen = format!("127.0.0.1:{port}");
                place
                    .start(
                        place.serve_command(&listen, &["--no-agent", "--lease-time", LEASE]),
                        port,
                    )
                    .await?
            }
        };
        let agent = match kept_agent {
            Some(agent) => agent,
            None => start_agent().await?,
        };
        Ok(Live { place, server, agent })
    }
}

/// Asks again as long as nobody answers.
async fn insist<T, F>(call: impl Fn() -> F) -> Outcome<T>
where
    F: Future<Output = Result<T, Error>>,
{
    let until = Instant::now() + PATIENCE;
    loop {
        match call().await {
            Ok(value) => return Ok(value),
            Err(why) => {
                let may_pass = match &why {
                    Error::Unreachable(_) => true,
                    Error::Refused { status, .. } => *status == 503,
                    Error::Unexpected(_) => false,
                };
                if !may_pass || Instant::now() > until {
                    return Err(why.to_string());
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

struct Submitter {
    client: Client,
    scratch: PathBuf,
    run: String,
    seed: u64,
    counts: Arc<Counts>,
    done: Arc<Mutex<Vec<Acknowledged>>>,
}

impl Submitter {
    /// Submits these, spread over `time`; each cancel is a task of its own.
    async fn run(self, numbers: Vec<usize>, time: Duration) -> Outcome<()> {
        let began = Instant::now();
        let mut cancels = Vec::new();
        let total = numbers.len() as u32;
        for (at, number) in numbers.into_iter().enumerate() {
            let mut random = Random(self.seed ^ ((number as u64 + 1) << 32));
            let jitter = random.pause(0, 500);
            tokio::time::sleep((time * at as u32 / total + jitter).saturating_sub(began.elapsed())).await;
            let job = self.submit(number, &mut random).await?;
            if job.sort.is_canceled() {
                let wait = random.pause(0, 3000);
                let (client, done) = (self.client.clone(), self.done.clone());
                cancels.push(tokio::spawn(async move {
                    tokio::time::sleep(wait).await;
                    let id = job.id.to_string();
                    insist(|| client.stop_experiment(&id, Stop::Cancel)).await?;
                    let canceled = Acknowledged { canceled: true, ..job };
                    done.lock().expect("no panic while the lock is held").push(canceled);
                    Ok::<_, String>(())
                }));
            } else {
                self.done.lock().expect("no panic while the lock is held").push(job);
            }
        }
        for cancel in cancels {
            cancel.await.map_err(|why| why.to_string())??;
        }
        Ok(())
    }

    /// A submission whose answer was lost may have been taken or not; the next attempt is another job.
    async fn submit(&self, number: usize, random: &mut Random) -> Outcome<Acknowledged> {
        let sort = Sort::pick(random);
        let (lines, beats) = (random.below(40), sort.beats(random));
        let attempts = AtomicUsize::new(0);
        insist(|| {
            let attempt = attempts.fetch_add(1, Ordering::Relaxed);
            if attempt > 0 {
                self.counts.repeated.fetch_add(1, Ordering::Relaxed);
            }
            let name = format!("job-{number}-{attempt}");
            let file = self.scratch.join(&name);
            let experiment = NewExperiment {
                config: json!({
                    "name": name,
                    "entrypoint": ["sh", "-c", SCRIPT, "job", sort.word(), lines, beats],
                    "max_restarts": match sort { Sort::Shaky => 2, Sort::Doomed => 1, _ => 0 },
                    "grace_period": "1s",
                    "environment": {"environment_variables": {"TORTURE_FILE": file, "TORTURE_RUN": self.run}},
                }),
                code: None,
                args: Vec::new(),
            };
            async move {
                let made = self.client.create_experiment(&experiment).await?;
                Ok(Acknowledged {
                    id: made.id,
                    sort,
                    lines,
                    file,
                    canceled: false,
                })
            }
        })
        .await
    }
}

/// Every experiment, once all have ended.
async fn all_ended(admin: &Client, faults: &mut Vec<String>) -> Outcome<Vec<Experiment>> {
    let until = Instant::now() + LAST_JOBS;
    loop {
        let page = |after| async move {
            let filter = ExperimentFilter {
                after,
                limit: Some(1000),
                ..ExperimentFilter::default()
            };
            admin.experiments(&filter).await
        };
        let listed = insist(|| every(page)).await?;
        let unfinished: Vec<&Experiment> = listed.iter().filter(|one| !one.state.is_ended()).collect();
        if unfinished.is_empty() {
            return Ok(listed);
        }
        if Instant::now() > until {
            // Those that nobody was told of and that are never canceled run for a minute.
            for one in unfinished {
                faults.push(format!(
                    "{} ({}) has not ended: {}, {}",
                    one.id, one.name, one.state, one.cause
                ));
            }
            return Ok(listed);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Every promise, job by job; gives the number of lives lived.
async fn check(
    admin: &Client,
    acknowledged: &[Acknowledged],
    listed: &[Experiment],
    faults: &mut Vec<String>,
) -> Outcome<usize> {
    let listed: HashMap<ExperimentId, &Experiment> = listed.iter().map(|one| (one.id, one)).collect();
    let mut lives = 0;
    let mut ends: BTreeMap<(Sort, &str), usize> = BTreeMap::new();
    for job in acknowledged {
        let Some(found) = listed.get(&job.id) else {
            faults.push(format!("{} was acknowledged and is gone", job.id));
            continue;
        };
        *ends.entry((job.sort, found.state.name())).or_default() += 1;
        if found.state != job.sort.should_end() {
            faults.push(format!(
                "{} ({:?}) ended as {}: {}",
                job.id, job.sort, found.state, found.cause
            ));
        }
        if job.sort.is_canceled() && !job.canceled {
            faults.push(format!("{} should have been canceled", job.id));
        }
        let notes = std::fs::read_to_string(&job.file).unwrap_or_default();
        match Lives::read(&notes) {
            Ok(read) => {
                lives += read.count;
                if found.state == State::Completed {
                    match &read.last_end {
                        Some(lease) => check_log(admin, job, lease, faults).await?,
                        None => faults.push(format!("{} is COMPLETED and no life of it came to its end", job.id)),
                    }
                }
            }
            Err(why) => faults.push(format!("{}: {why}; its notes: {}", job.id, job.file.display())),
        }
    }
    for ((sort, state), count) in ends {
        println!("torture: {count:5} {sort:?} ended as {state}");
    }
    Ok(lives)
}

/// What a job's notes say of its lives.
#[derive(Debug, PartialEq)]
struct Lives {
    count: usize,
    /// The lease of the last life that came to its end.
    last_end: Option<String>,
}

impl Lives {
    fn read(notes: &str) -> Result<Lives, String> {
        let (mut count, mut newest, mut last_end) = (0, 0, None);
        for line in notes.lines() {
            let (word, lease) = line.split_once(' ').ok_or_else(|| format!("`{line}` is no note"))?;
            let fence = lease.split_once('.').and_then(|(_, fence)| fence.parse::<i64>().ok());
            let fence = fence.ok_or_else(|| format!("`{lease}` is no lease"))?;
            if fence < newest {
                return Err(format!("TWO LIVES AT ONCE: `{line}` after life {newest} had begun"));
            }
            if word == "begin" {
                if fence == newest {
                    return Err(format!("life {fence} began twice"));
                }
                count += 1;
            } else if fence > newest {
                return Err(format!("`{line}` before its life began"));
            }
            newest = fence;
            if word == "end" {
                last_end = Some(lease.to_owned());
            }
        }
        Ok(Lives { count, last_end })
    }
}

/// The log of the life that completed is there to its last line, in order.
async fn check_log(admin: &Client, job: &Acknowledged, lease: &str, faults: &mut Vec<String>) -> Outcome<()> {
    let id = job.id.to_string();
    let filter = LogFilter {
        limit: Some(10_000),
        ..LogFilter::default()
    };
    let log = insist(|| admin.logs(&id, &filter)).await?;
    if log.lines.len() as i64 != log.total || log.lines.iter().zip(1..).any(|(line, number)| line.number != number) {
        faults.push(format!(
            "the log of {id} has {} lines of {}",
            log.lines.len(),
            log.total
        ));
    }
    let start = format!("{lease} ");
    let found: Vec<&str> = log
        .lines
        .iter()
        .filter_map(|line| line.text.strip_prefix(&start))
        .collect();
    let mut expected: Vec<String> = (1..=job.lines).map(|number| format!("line {number}")).collect();
    expected.push("last".into());
    if found != expected {
        faults.push(format!(
            "the log of life {lease} of {id} has {} of {} lines",
            found.len(),
            expected.len()
        ));
    }
    Ok(())
}

/// Processes of this run: of its jobs by their environment, and shims by the directory that they work in.
fn processes(run: &str, dir: &Path) -> Vec<(i32, String)> {
    let marker = format!("TORTURE_RUN={run}");
    let agent_dir = dir.join("agent").display().to_string();
    let own = std::process::id() as i32;
    let Ok(all) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let ids = all
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    ids.filter(|id| *id != own)
        .filter_map(|id| {
            let read = |what: &str| std::fs::read(format!("/proc/{id}/{what}")).unwrap_or_default();
            let words = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            let environment = read("environ");
            let is_job = environment
                .split(|byte| *byte == 0)
                .any(|pair| pair == marker.as_bytes());
            let is_shim = words.contains("job-shim") && words.contains(&agent_dir);
            (is_job || is_shim).then(|| (id, words.chars().take(100).collect()))
        })
        .collect()
}

async fn left_behind(run: &str, dir: &Path) -> Vec<String> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let left = processes(run, dir);
        if left.is_empty() || Instant::now() > until {
            return left
                .into_iter()
                .map(|(id, words)| format!("process {id} has stayed behind: {words}"))
                .collect();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn end_what_is_left(run: &str, dir: &Path) {
    for (id, _) in processes(run, dir) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lives_at_once_are_seen_by_the_order_of_their_notes() {
        let one_after_the_other = "begin 7.1\nbeat 7.1\nbegin 7.2\nend 7.2\n";
        let expected = Lives {
            count: 2,
            last_end: Some("7.2".into()),
        };
        assert_eq!(Lives::read(one_after_the_other), Ok(expected));
        let at_once = "begin 7.1\nbegin 7.2\nbeat 7.1\nend 7.2\n";
        assert!(Lives::read(at_once).unwrap_err().starts_with("TWO LIVES AT ONCE"));
        assert!(
            Lives::read("begin 7.1\nbegin 7.1\n")
                .unwrap_err()
                .contains("began twice")
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_jobs() {
        let picks = |seed| {
            let mut random = Random(seed);
            (0..50)
                .map(|_| (Sort::pick(&mut random), random.below(40)))
                .collect::<Vec<_>>()
        };
        assert_eq!(picks(5), picks(5));
        assert_ne!(picks(5), picks(6));
    }
}
