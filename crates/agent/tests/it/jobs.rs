//! One job: its output, its end, its limits.

use std::time::{Duration, Instant};

use bailiwick_api::experiments::{Stop, Stream};

use crate::server::{Agent, End, Server, eventually, lease};

#[test]
fn a_job_ends_with_its_exit_code_or_signal() {
    let server = Server::start();
    let _agent = Agent::start(&server);
    server.submit(lease(1, "exit 3"));
    server.submit(lease(2, "kill -SEGV $$"));
    let (first, second) = (server.wait_end(1, 1), server.wait_end(2, 1));
    assert_eq!(
        first,
        End {
            exit_code: Some(3),
            signal: None,
            reason: None,
            lost: false
        }
    );
    assert_eq!(
        second,
        End {
            exit_code: None,
            signal: Some(11),
            reason: None,
            lost: false
        }
    );
    assert_eq!(server.said(1).last().unwrap(), "exit code 3");
    assert_eq!(server.said(2).last().unwrap(), "ended by SIGSEGV");
}

#[test]
fn a_command_that_cannot_start_says_what_was_tried() {
    let server = Server::start();
    let _agent = Agent::start(&server);
    let mut missing = lease(1, "");
    missing.command = vec!["no-such-program".into()];
    let mut denied = lease(2, "");
    denied.command = vec!["/etc/passwd".into()];
    let mut interpreter = lease(3, "printf '#!/no/such/interpreter\\n' > s; chmod +x s; ./s");
    interpreter.command = vec!["sh".into(), "-c".into(), interpreter.command[2].clone()];
    for job in [missing, denied, interpreter] {
        server.submit(job);
    }
    let end = server.wait_end(1, 1);
    assert_eq!(end.exit_code, Some(127));
    assert_eq!(
        end.reason.unwrap(),
        "cannot start: `no-such-program` is not found along PATH"
    );
    let end = server.wait_end(2, 1);
    assert_eq!(end.exit_code, Some(126));
    let reason = end.reason.unwrap();
    assert!(
        reason.starts_with("cannot start: /etc/passwd: permission denied"),
        "{reason}"
    );
    assert!(server.wait_end(3, 1).exit_code.is_some_and(|code| code != 0));
}

#[test]
fn output_arrives_line_by_line_with_its_stream_and_as_it_was() {
    let server = Server::start();
    let _agent = Agent::start(&server);
    server.submit(lease(
        1,
        r"printf 'plain\n\033[32mgreen\033[0m\n10%%\r20%%\nwindows\r\n'; printf 'oops\n' >&2; printf '\377\000x\n'; printf 'no end'",
    ));
    server.wait_end(1, 1);
    let mut lines: Vec<(Stream, String)> = server
        .lines(1)
        .into_iter()
        .map(|line| (line.stream, line.text))
        .collect();
    lines.retain(|(stream, _)| *stream != Stream::System);
    let stderr: Vec<_> = lines.extract_if(.., |(stream, _)| *stream == Stream::Stderr).collect();
    let texts: Vec<&str> = lines.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "plain",
            "\x1b[32mgreen\x1b[0m",
            "10%\r20%",
            "windows",
            "\u{fffd}\0x",
            "no end"
        ]
    );
    assert_eq!(stderr, [(Stream::Stderr, "oops".to_owned())]);
}

#[test]
fn a_line_without_an_end_is_shown_after_a_while() {
    let server = Server::start();
    let agent = Agent::start(&server);
    server.submit(lease(
        1,
        "printf 'name? '; while ! test -e go; do sleep 0.02; done; echo Bob",
    ));
    assert!(server.wait_line(1, "name? ").continues);
    std::fs::write(agent.job_dir(1, 1).join("work/go"), "").unwrap();
    server.wait_end(1, 1);
    assert_eq!(server.printed(1), ["name? ", "Bob"]);
}

#[test]
fn a_flood_of_lines_loses_none() {
    let server = Server::start();
    let _agent = Agent::start(&server);
    server.submit(lease(1, "seq 1 200000"));
    server.submit(lease(2, "sleep 0.3; echo quick"));
    server.wait_end(1, 1);
    server.wait_end(2, 1);
    let printed = server.printed(1);
    assert_eq!(printed.len(), 200_000, "{:?}", server.said(1));
    assert!(
        printed
            .iter()
            .zip(1..)
            .all(|(line, number): (_, i32)| *line == number.to_string())
    );
    let numbers: Vec<i64> = server.lines(1).iter().map(|line| line.number).collect();
    assert!(numbers.iter().zip(1..).all(|(number, expected)| *number == expected));
}

#[test]
fn a_line_reaches_the_server_within_a_fraction_of_a_second() {
    let server = Server::start();
    let _agent = Agent::start(&server);
    server.submit(lease(1, "while :; do date +%s%N; sleep 0.2; done"));
    server.wait("ten lines", |known| {
        known.logs.get(&1).filter(|lines| lines.len() > 10).map(|_| ())
    });
    let latest = server.wait("a new line", {
        let seen = server.lines(1).len();
        move |known| {
            let lines = known.logs.get(&1)?;
            (lines.len() > seen)
                .then(|| lines.values().next_back().cloned())
                .flatten()
        }
    });
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME).unwrap();
    let now = now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000;
    let late_ms = (now - latest.time.0) / 1000;
    assert!(late_ms < 500, "{late_ms} ms");
    server.stop(1, 1, Stop::Kill);
    server.wait_end(1, 1);
}

#[test]
fn a_canceled_job_may_save_and_one_that_ignores_it_is_killed_after_its_grace_time() {
    let server = Server::start();
    let agent = Agent::start(&server);
    server.submit(lease(
        1,
        "trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.05; done",
    ));
    let mut stubborn = lease(
        2,
        "trap '' TERM; echo up; (trap '' TERM; sleep 1000) & while :; do sleep 0.05; done",
    );
    stubborn.grace_ms = 500;
    server.submit(stubborn);
    server.wait_line(1, "up");
    server.wait_line(2, "up");
    server.stop(1, 1, Stop::Cancel);
    server.stop(2, 1, Stop::Cancel);
    assert_eq!(server.wait_end(1, 1).exit_code, Some(0));
    assert!(server.printed(1).contains(&"saved".to_owned()));
    assert!(
        server
            .said(1)
            .contains(&"canceled: SIGTERM sent, SIGKILL in 15s".to_owned()),
        "{:?}",
        server.said(1)
    );
    assert_eq!(server.wait_end(2, 1).signal, Some(9));
    assert!(
        server
            .said(2)
            .contains(&"still running after the grace time: SIGKILL sent".to_owned()),
        "{:?}",
        server.said(2)
    );
    assert_eq!(agent.processes(2), Vec::<i32>::new());
}

#[test]
fn a_canceled_job_may_be_killed_before_its_grace_time_is_over() {
    let server = Server::start();
    let _agent = Agent::start(&server);
    let mut stubborn = lease(1, "trap '' TERM; echo up; while :; do sleep 0.05; done");
    stubborn.grace_ms = 3_600_000;
    server.submit(stubborn);
    server.wait_line(1, "up");
    server.stop(1, 1, Stop::Kill);
    assert_eq!(server.wait_end(1, 1).signal, Some(9));
}

#[test]
fn what_a_job_leaves_behind_is_ended_with_it() {
    for isolate in [&[][..], &[("ML_TEST_ISOLATE", "none")]] {
        let server = Server::start();
        let home = tempfile::tempdir().unwrap();
        let agent = Agent::start_in(&server, &home.path().join("agent"), isolate);
        server.submit(lease(
            1,
            "setsid sh -c 'trap \"\" TERM; (setsid sleep 1000 &) ; sleep 1000' & sleep 0.2; echo done",
        ));
        assert_eq!(server.wait_end(1, 1).exit_code, Some(0));
        assert_eq!(agent.processes(1), Vec::<i32>::new());
        assert!(
            server
                .said(1)
                .iter()
                .any(|line| line.contains("still running when its program had ended")),
            "{:?}",
            server.said(1)
        );
    }
}

#[test]
fn a_fork_bomb_is_bounded_and_ended_whole() {
    let server = Server::start();
    let agent = Agent::start(&server);
    let mut bomb = lease(
        1,
        "bomb() { trap '' TERM; (bomb) & (bomb) & sleep 1000; }; echo up; bomb",
    );
    bomb.limits.max_processes = Some(60);
    server.submit(bomb);
    server.wait_line(1, "up");
    eventually("the bomb to grow", || (agent.processes(1).len() > 20).then_some(()));
    server.stop(1, 1, Stop::Kill);
    server.wait_end(1, 1);
    assert_eq!(agent.processes(1), Vec::<i32>::new());
}

#[test]
fn a_job_does_not_survive_its_shim() {
    for isolate in [&[][..], &[("ML_TEST_ISOLATE", "none")]] {
        let server = Server::start();
        let home = tempfile::tempdir().unwrap();
        let agent = Agent::start_in(&server, &home.path().join("agent"), isolate);
        server.submit(lease(1, "echo up; (setsid sleep 1000 &); sleep 1000"));
        server.wait_line(1, "up");
        std::process::Command::new("kill")
            .args(["-9", &agent.shim_pid(1, 1).to_string()])
            .status()
            .unwrap();
        let end = server.wait_end(1, 1);
        assert_eq!(
            (end.lost, end.reason.as_deref()),
            (true, Some("the job's supervisor process was killed"))
        );
        eventually("no process", || agent.processes(1).is_empty().then_some(()));
    }
}

#[test]
fn limits_on_time_memory_and_disk_end_a_job_and_say_so() {
    let server = Server::start();
    let _agent = Agent::start(&server);
    let mut slow = lease(1, "sleep 1000");
    slow.limits.time_ms = Some(1000);
    let mut big = lease(2, "exec head -c 300m /dev/zero | tail");
    big.limits.memory_mb = Some(64);
    let mut wide = lease(3, "head -c 30m /dev/zero > file; sleep 1000");
    wide.limits.disk_mb = Some(10);
    for job in [slow, big, wide] {
        server.submit(job);
    }
    assert_eq!(
        server.wait_end(1, 1).reason.as_deref(),
        Some("time limit of 1s reached")
    );
    assert_eq!(
        server.wait_end(3, 1).reason.as_deref(),
        Some("over its disk limit of 10 MB")
    );
    let end = server.wait_end(2, 1);
    let checks = bailiwick_agent::doctor(tempfile::tempdir().unwrap().path());
    if checks.iter().any(|check| check.name == "memory limit" && check.holds) {
        assert_eq!(end.reason.as_deref(), Some("over its memory limit of 64 MB"));
    } else {
        assert_ne!(end.exit_code, Some(0));
    }
}

#[test]
fn a_job_finds_its_identity_and_configuration_in_its_environment() {
    let server = Server::start();
    let agent = Agent::start(&server);
    let mut job = lease(1, "env; cat $ML_CONFIG_FILE; echo; pwd");
    job.env.insert("MINE".into(), "a b".into());
    server.submit(job);
    let mut large = lease(2, "test -z \"${ML_CONFIG+set}\" && wc -c < $ML_CONFIG_FILE");
    large.config = serde_json::json!({"notes": "x".repeat(300_000)});
    server.submit(large);
    assert_eq!(server.wait_end(1, 1).exit_code, Some(0));
    let printed = server.printed(1);
    for wanted in [
        "MINE=a b",
        "FROM_THE_AGENT=yes",
        "ML_HPARAMS={\"lr\":0.1}",
        "ML_EXPERIMENT_ID=1001",
        "ML_EXPERIMENT_NAME=experiment-1",
        "ML_LEASE=1.1",
        "ML_API_KEY=********",
        "ML_USER=ana",
        "{\"hyperparameters\":{\"lr\":{\"type\":\"const\",\"val\":0.1}}}",
    ] {
        assert!(printed.iter().any(|line| line == wanted), "{wanted}: {printed:#?}");
    }
    assert!(
        printed.contains(&agent.dir.join("jobs/1.1/work").display().to_string()),
        "{printed:#?}"
    );
    assert!(
        !printed.iter().any(|line| line.contains("SECRET_OF_THE_AGENT")),
        "{printed:#?}"
    );
    assert_eq!(server.wait_end(2, 1).exit_code, Some(0));
    assert_eq!(server.printed(2), ["300012"]);
}

#[test]
fn the_submitted_code_is_there_and_runs() {
    let server = Server::start();
    let _agent = Agent::start(&server);
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let script = b"#!/bin/sh\necho from the code; cat data/numbers; echo kept > data/result\n";
    for (name, text, mode) in [
        ("train.sh", &script[..], 0o755),
        ("data/numbers", &b"1 2 3\n"[..], 0o644),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(text.len() as u64);
        builder.append_data(&mut header, name, text).unwrap();
    }
    let archive = builder.into_inner().unwrap().finish().unwrap();
    let digits: String = <sha2::Sha256 as sha2::Digest>::digest(&archive)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    server.change(|known| {
        known.code.insert(digits.clone(), archive);
        known.code.insert("0".repeat(64), b"something else".to_vec());
    });
    for job in [1, 2] {
        let mut with_code = lease(job, "");
        with_code.code = Some(digits.clone());
        with_code.command = vec!["./train.sh".into()];
        server.submit(with_code);
        assert_eq!(server.wait_end(job, 1).exit_code, Some(0));
        assert_eq!(server.printed(job), ["from the code", "1 2 3"]);
    }
    let mut other = lease(3, "true");
    other.code = Some("0".repeat(64));
    server.submit(other);
    let reason = server.wait_end(3, 1).reason.unwrap();
    assert!(reason.contains("not the one submitted"), "{reason}");
}

#[test]
fn a_leased_job_starts_at_once() {
    let server = Server::start();
    let _agent = Agent::start(&server);
    let mut times: Vec<Duration> = (1..=21)
        .map(|job| {
            server.wait("the agent to wait", |known| (known.polls > 0).then_some(()));
            server.submit(lease(job, "exit 0"));
            server.wait_end(job, 1);
            server.see(|known| known.started[&(job, 1)] - known.leased[&(job, 1)])
        })
        .collect();
    times.sort();
    // Far above what it takes, for machines that are busy with other tests.
    assert!(times[10] < Duration::from_millis(500), "{times:?}");
    eprintln!(
        "leased to reported as started: median {:?}, most {:?}",
        times[10], times[20]
    );
}

#[test]
fn a_job_canceled_while_it_waits_for_its_grace_still_sends_its_last_lines() {
    let server = Server::start();
    let _agent = Agent::start(&server);
    server.submit(lease(
        1,
        "trap 'sleep 0.2; for i in 1 2 3; do echo last $i; done; exit 7' TERM; echo up; while :; do sleep 0.05; done",
    ));
    server.wait_line(1, "up");
    let asked = Instant::now();
    server.stop(1, 1, Stop::Cancel);
    assert_eq!(server.wait_end(1, 1).exit_code, Some(7));
    assert!(asked.elapsed() < Duration::from_secs(10));
    let mut printed = server.printed(1);
    // The shell itself may remark on the `sleep` that got the signal, too.
    printed.retain(|line| line.starts_with("last"));
    assert_eq!(printed, ["last 1", "last 2", "last 3"]);
}

#[test]
fn what_a_job_uses_is_told_while_it_runs_and_when_it_has_ended() {
    let server = Server::start();
    let _agent = Agent::start(&server);
    // Two processes compute and end; then the shell holds 64 MB and computes itself.
    let busy = "sh -c 'i=0; while test $i -lt 200000; do i=$((i+1)); done'";
    let script = format!(
        "echo up; {busy}; {busy}; x=$(head -c 64000000 /dev/zero | tr '\\0' x); echo held; while ! test -e go; do :; done"
    );
    server.submit(lease(1, &script));
    server.submit(lease(2, "true"));
    server.wait_line(1, "held");
    let used = server.wait("what it uses", |known| {
        let used = known.used.get(&(1, 1))?.last()?;
        (used.memory_bytes > 64_000_000 && used.cpu_ms > 1000).then_some(*used)
    });
    assert!(
        used.memory_peak_bytes >= used.memory_bytes && used.memory_bytes < 1_000_000_000,
        "{used:?}"
    );
    let later = server.wait("more of it", |known| {
        let later = known.used.get(&(1, 1))?.last()?;
        (later.cpu_ms > used.cpu_ms).then_some(*later)
    });
    // One process at a time: no more than the time that passed.
    let passed = server.see(|known| known.started[&(1, 1)].elapsed().as_millis() as i64);
    assert!(later.cpu_ms <= passed + 1000, "{later:?} in {passed} ms");
    server.stop(1, 1, Stop::Kill);
    server.wait_end(1, 1);
    server.wait_end(2, 1);
    let (long, short) = server.see(|known| (known.used_at_end[&(1, 1)], known.used_at_end[&(2, 1)]));
    let (long, short) = (long.unwrap(), short.unwrap());
    assert!(
        long.cpu_ms >= later.cpu_ms && long.memory_peak_bytes >= later.memory_peak_bytes,
        "{long:?}"
    );
    assert_eq!(long.memory_bytes, 0);
    assert!(short.cpu_ms < 1000 && short.memory_peak_bytes > 0, "{short:?}");
}
