//! The agent and the server: leases, restarts, outages.

use std::path::PathBuf;
use std::time::Duration;

use bailiwick_agent::{Isolate, Options, Settings};
use bailiwick_api::agents::OnLostAgent;
use bailiwick_api::experiments::Stop;

use crate::server::{Agent, Server, eventually, lease};

/// An agent as a process of its own, as its tests start it.
pub fn run_from_environment() -> i32 {
    let variable = |name: &str| std::env::var(name).ok();
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let options = Options {
        server: variable("ML_TEST_SERVER").unwrap_or_default(),
        key: "ml_test".into(),
        ca: None,
        name: "machine".into(),
        queues: vec!["default".into()],
        dir: variable("ML_TEST_AGENT").map(PathBuf::from).unwrap_or_default(),
        slots: Some(variable("ML_TEST_SLOTS").map_or(2, |slots| slots.parse().unwrap_or(2))),
        gpus: None,
        configured: Settings {
            job_env: [("LAYER", "file"), ("FILE", "file"), ("VAULT", "file")]
                .map(owned)
                .into(),
            ..Settings::default()
        },
        given: Settings {
            job_env: [
                ("FROM_THE_AGENT", "yes"),
                ("LAYER", "flag"),
                ("FLAG", "flag"),
                ("OVER", "flag"),
            ]
            .map(owned)
            .into(),
            isolate: variable("ML_TEST_ISOLATE").and_then(|word| Isolate::parse(&word)),
            protect: variable("ML_TEST_PROTECT").map(PathBuf::from).into_iter().collect(),
            fair: None,
        },
        use_owner_token: variable("ML_TEST_USE_OWNER_TOKEN").is_some(),
        stop_on_stdin_end: variable("ML_TEST_STDIN").is_some(),
        tell_start: false,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(bailiwick_agent::run(options)),
        Err(why) => Err(why.to_string()),
    };
    match result {
        Ok(()) => 0,
        Err(why) => {
            eprintln!("{why}");
            1
        }
    }
}

#[test]
fn an_agent_killed_and_started_again_finds_its_jobs_and_what_ended_meanwhile() {
    let server = Server::start();
    let mut agent = Agent::start(&server);
    let go = agent.dir.with_file_name("go");
    server.submit(lease(
        1,
        "echo one; while ! test -e go; do sleep 0.02; done; echo two; exit 3",
    ));
    server.submit(lease(
        2,
        "echo alpha; while ! test -e go; do sleep 0.02; done; echo beta",
    ));
    server.wait_line(1, "one");
    server.wait_line(2, "alpha");
    agent.kill();
    // The first ends while there is no agent.
    std::fs::write(agent.job_dir(1, 1).join("work/go"), "").unwrap();
    eventually("the first job's end", || {
        agent.job_dir(1, 1).join("exit.json").exists().then_some(())
    });
    let again = Agent::start_in(&server, &agent.dir, &[]);
    assert_eq!(server.wait_end(1, 1).exit_code, Some(3));
    std::fs::write(agent.job_dir(2, 1).join("work/go"), "").unwrap();
    assert_eq!(server.wait_end(2, 1).exit_code, Some(0));
    assert_eq!(server.printed(1), ["one", "two"]);
    assert_eq!(server.printed(2), ["alpha", "beta"]);
    eventually("clean directories", || {
        (!again.job_dir(1, 1).exists() && !again.job_dir(2, 1).exists()).then_some(())
    });
    drop(go);
}

#[test]
fn a_job_runs_on_while_the_server_is_away_and_its_log_and_end_arrive_later() {
    let server = Server::start();
    let agent = Agent::start(&server);
    server.submit(lease(
        1,
        "echo before; while ! test -e go; do sleep 0.02; done; echo after; exit 4",
    ));
    server.wait_line(1, "before");
    server.change(|known| known.down = true);
    std::fs::write(agent.job_dir(1, 1).join("work/go"), "").unwrap();
    eventually("the job's end", || {
        agent.job_dir(1, 1).join("exit.json").exists().then_some(())
    });
    server.change(|known| known.down = false);
    assert_eq!(server.wait_end(1, 1).exit_code, Some(4));
    assert_eq!(server.printed(1), ["before", "after"]);
}

#[test]
fn a_server_that_forgot_the_agent_gets_it_registered_again() {
    let server = Server::start();
    let _agent = Agent::start(&server);
    server.wait("a poll", |known| (known.polls > 0).then_some(()));
    server.change(|known| known.forget_agent = true);
    server.wait("a second registration", |known| {
        (known.registered.len() > 1).then_some(())
    });
    server.submit(lease(1, "echo fine"));
    assert_eq!(server.wait_end(1, 1).exit_code, Some(0));
}

#[test]
fn a_job_whose_lease_runs_out_without_the_server_is_ended_even_without_an_agent() {
    let server = Server::with_lease_ms(2000);
    let mut agent = Agent::start(&server);
    let mut requeued = lease(1, "echo up; sleep 1000");
    requeued.on_lost_agent = OnLostAgent::Requeue;
    server.submit(requeued);
    server.submit(lease(2, "echo up; sleep 1000"));
    server.wait_line(1, "up");
    server.wait_line(2, "up");
    agent.kill();
    let exit = agent.job_dir(1, 1).join("exit.json");
    eventually("the end of the job", || exit.exists().then_some(()));
    assert_eq!(agent.processes(1), Vec::<i32>::new());
    // The other one was to run on in this case.
    assert!(!agent.processes(2).is_empty());
    let again = Agent::start_in(&server, &agent.dir, &[]);
    let end = server.wait_end(1, 1);
    assert_eq!(
        (end.lost, end.reason.as_deref()),
        (true, Some("its lease ran out while the server could not be reached"))
    );
    server.stop(2, 1, Stop::Kill);
    assert_eq!(server.wait_end(2, 1).signal, Some(9));
    drop(again);
}

#[test]
fn a_long_lived_job_keeps_its_lease_by_polling() {
    let server = Server::with_lease_ms(1000);
    let _agent = Agent::start(&server);
    let mut long = lease(1, "sleep 3; echo done");
    long.on_lost_agent = OnLostAgent::Requeue;
    server.submit(long);
    assert_eq!(server.wait_end(1, 1).exit_code, Some(0));
}

#[test]
fn a_job_that_belongs_to_somebody_else_by_now_is_ended_and_forgotten() {
    let server = Server::start();
    let agent = Agent::start(&server);
    server.submit(lease(1, "echo up; sleep 1000"));
    server.wait_line(1, "up");
    server.change(|known| {
        known.lost.insert((1, 1));
    });
    eventually("its processes to end", || agent.processes(1).is_empty().then_some(()));
    eventually("its directory to go", || (!agent.job_dir(1, 1).exists()).then_some(()));
    assert!(server.see(|known| known.ended.is_empty()));
}

#[test]
fn the_same_job_leased_anew_starts_only_after_the_old_one_is_gone() {
    let server = Server::start();
    let agent = Agent::start(&server);
    server.submit(lease(1, "echo first; trap '' TERM; sleep 1000"));
    server.wait_line(1, "first");
    let mut anew = lease(1, "echo second; sleep 1000");
    anew.fence = 2;
    server.change(|known| {
        known.lost.insert((1, 1));
    });
    server.submit(anew);
    server.wait_line(1, "second");
    assert!(!agent.job_dir(1, 1).exists());
    // Numbers go on where the first one's ended.
    let numbers: Vec<i64> = server.lines(1).iter().map(|line| line.number).collect();
    assert_eq!(numbers, (1..=numbers.len() as i64).collect::<Vec<_>>());
}

#[test]
fn slots_are_given_out_one_by_one_and_come_back() {
    let server = Server::start();
    let _agent = Agent::start(&server);
    for job in 1..=5 {
        let mut one = lease(job, "echo slot $ML_SLOT_IDS $ML_SLOT_TYPE");
        one.slots = if job == 3 { 2 } else { 1 };
        server.submit(one);
    }
    for job in 1..=5 {
        assert_eq!(server.wait_end(job, 1).exit_code, Some(0));
    }
    assert_eq!(server.printed(3), ["slot 0,1 cpu"]);
    assert!(
        server.said(3)[0].starts_with("started on slots 0,1 (cpu); isolated by: "),
        "{:?}",
        server.said(3)
    );
}

#[test]
fn an_idle_agent_waits_and_does_not_ask_again_and_again() {
    let server = Server::start();
    let _agent = Agent::start(&server);
    server.submit(lease(1, "true"));
    server.wait_end(1, 1);
    let before = server.see(|known| known.polls);
    let until = std::time::Instant::now() + Duration::from_secs(2);
    eventually("two quiet seconds", || {
        (std::time::Instant::now() > until).then_some(())
    });
    let polls = server.see(|known| known.polls) - before;
    assert!(polls <= 3, "{polls} polls in two idle seconds");
}

#[test]
fn a_second_agent_with_the_same_directory_says_who_has_it() {
    let server = Server::start();
    let agent = Agent::start(&server);
    server.wait("a poll", |known| (known.polls > 0).then_some(()));
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .env("ML_TEST_AGENT", &agent.dir)
        .env("ML_TEST_SERVER", &server.url)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains(&format!("another agent (process {})", agent.process.id())),
        "{said}"
    );
}

#[test]
fn an_agent_told_to_end_leaves_its_jobs_to_the_next_one() {
    let server = Server::start();
    let mut agent = Agent::start(&server);
    server.submit(lease(1, "echo up; while ! test -e go; do sleep 0.02; done"));
    server.wait_line(1, "up");
    let pid = agent.process.id().to_string();
    std::process::Command::new("kill")
        .args(["-TERM", &pid])
        .status()
        .unwrap();
    assert!(agent.process.wait().unwrap().success());
    assert!(!agent.processes(1).is_empty());
    let again = Agent::start_in(&server, &agent.dir, &[]);
    std::fs::write(again.job_dir(1, 1).join("work/go"), "").unwrap();
    assert_eq!(server.wait_end(1, 1).exit_code, Some(0));
}

#[test]
fn an_agent_tells_how_its_machine_does_and_soon_how_busy_it_is() {
    let server = Server::start();
    let _agent = Agent::start(&server);
    let first = server.wait("the first load", |known| known.loads.first().cloned());
    assert!(first.memory_total_bytes > 0 && first.disk_total_bytes > 0);
    let second = server.wait("a second load", |known| known.loads.get(1).cloned());
    assert!(
        second
            .cpu_percent
            .is_some_and(|percent| (0.0..=100.0).contains(&percent))
    );
    let (polls, loads) = server.see(|known| (known.polls, known.loads.len()));
    assert!(loads <= polls, "at most one with each poll");
}
