//! What vaults give: variables, files, settings of the agent; and what of it is seen.

use std::os::unix::fs::PermissionsExt;

use bailiwick_api::agents::{JobLease, LeaseFile, LeaseVault};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::server::{Agent, Server, eventually, lease};

fn map<const N: usize>(pairs: [(&str, &str); N]) -> std::collections::BTreeMap<String, String> {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn file(path: &str, mode: u32, content: &str) -> LeaseFile {
    use base64::Engine;
    LeaseFile {
        path: path.into(),
        mode,
        content: base64::engine::general_purpose::STANDARD.encode(content),
        enforced: false,
    }
}

fn with_files(job: i64, script: &str, files: Vec<LeaseFile>) -> JobLease {
    let mut with_files = lease(job, script);
    with_files.vault.files = files;
    with_files
}

/// Makes an archive of files and links known to the server; its digest.
fn code(server: &Server, files: &[(&str, &str)], links: &[(&str, &str)]) -> String {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    for (name, target) in links {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, name, target).unwrap();
    }
    let archive = builder.into_inner().unwrap().finish().unwrap();
    let digest: String = Sha256::digest(&archive)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    server.change(|known| {
        known.code.insert(digest.clone(), archive);
    });
    digest
}

#[test]
fn variables_come_from_the_file_the_vault_the_flags_the_experiment_and_what_is_enforced_in_this_order() {
    let server = Server::start();
    let _agent = Agent::start(&server);
    let mut job = lease(
        1,
        "for name in LAYER FILE VAULT FLAG OVER EXPERIMENT ENFORCED ML_JOB_ID ML_API_KEY LANG; do eval \"echo $name=\\$$name\"; done",
    );
    job.vault = LeaseVault {
        env: map([
            ("LAYER", "vault"),
            ("VAULT", "vault"),
            ("FLAG", "vault"),
            ("EXPERIMENT", "vault"),
            ("LANG", "C"),
            ("ML_API_KEY", "vault"),
        ]),
        enforced_env: map([
            ("ENFORCED", "enforced"),
            ("LAYER", "enforced"),
            ("ML_JOB_ID", "enforced"),
        ]),
        ..LeaseVault::default()
    };
    job.env = map([
        ("EXPERIMENT", "experiment"),
        ("OVER", "experiment"),
        ("LAYER", "experiment"),
        ("ENFORCED", "no"),
    ]);
    server.submit(job);
    assert_eq!(server.wait_end(1, 1).exit_code, Some(0));
    assert_eq!(
        server.printed(1),
        [
            "LAYER=enforced",
            "FILE=file",
            "VAULT=vault",
            "FLAG=flag",
            "OVER=experiment",
            "EXPERIMENT=experiment",
            "ENFORCED=enforced",
            "ML_JOB_ID=1",
            "ML_API_KEY=********",
            "LANG=C"
        ]
    );
}

#[test]
fn files_are_the_jobs_own_with_their_mode_beside_its_code() {
    let server = Server::start();
    let agent = Agent::start(&server);
    let mut job = with_files(
        1,
        "cat train.txt .aws/credentials; stat -c '%a %n' .aws/credentials bin/tool .aws; ./bin/tool; test -O .aws/credentials && test -O .aws && echo own; echo up; sleep 1000",
        vec![
            file(".aws/credentials", 0o600, "aws_key = 1\n"),
            file("bin/tool", 0o755, "#!/bin/sh\necho runs\n"),
        ],
    );
    job.code = Some(code(&server, &[("train.txt", "code\n")], &[]));
    job.vault.secrets = vec!["a secret of the vault".into()];
    server.submit(job);
    server.wait_line(1, "up");
    assert_eq!(
        server.printed(1),
        [
            "code",
            "aws_key = 1",
            "600 .aws/credentials",
            "755 bin/tool",
            "755 .aws",
            "runs",
            "own",
            "up"
        ]
    );
    // Where the agent keeps it, nobody else reads it; no command line of any process has it.
    let spec = agent.job_dir(1, 1).join("spec.json");
    assert!(
        std::fs::read_to_string(&spec)
            .unwrap()
            .contains("a secret of the vault")
    );
    assert_eq!(std::fs::metadata(&spec).unwrap().permissions().mode() & 0o777, 0o600);
    let own = std::process::id().to_string();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        assert!(
            process.file_name() == *own || !line.contains("a secret of the vault"),
            "{line}"
        );
    }
}

#[test]
fn what_vaults_give_one_job_is_seen_by_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let checks = bailiwick_agent::doctor(dir.path());
    if !checks.iter().any(|check| check.name == "namespaces" && check.holds) {
        eprintln!("namespaces do not hold on this machine: nothing to see here");
        return;
    }
    let server = Server::start();
    let agent = Agent::start(&server);
    for (job, stays) in [(1, "true"), (2, "sleep 1000")] {
        let mut given = with_files(
            job,
            &format!("cat key; echo up; {stays}"),
            vec![file("key", 0o644, "canary-file")],
        );
        given.vault.env = map([("KEY", "canary-env")]);
        given.vault.enforced_env = map([("FORCED", "canary-forced")]);
        server.submit(given);
        server.wait_line(job, "up");
    }
    server.wait_end(1, 1);
    let top = agent.dir.canonicalize().unwrap();
    let script = format!(
        "grep -rash 'canar[y]-' {} /tmp /dev/shm /run /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/[0-9]*/cwd/; env | grep canar[y]; echo looked",
        top.display()
    );
    server.submit(lease(3, &script));
    assert!(server.wait_end(3, 1).exit_code.is_some());
    assert_eq!(server.printed(3), ["looked"]);
}

#[test]
fn a_file_that_cannot_be_written_ends_the_job_with_the_reason_and_no_link_of_its_code_is_followed() {
    let server = Server::start();
    let agent = Agent::start(&server);
    let archive = code(
        &server,
        &[("taken", "code\n"), ("sub/x", "")],
        &[("link", "taken"), ("way", "sub")],
    );
    let ran = agent.dir.with_file_name("ran");
    let script = format!("touch {}; echo ran", ran.display());
    for (job, path, part) in [
        (1, "taken", "has something of that name"),
        (2, "link", "has something of that name"),
        (3, "way/file", "`way` is in the way"),
        (4, "../file", "no part that is"),
        (5, "sub", "has something of that name"),
    ] {
        let mut job_with = with_files(
            job,
            &script,
            vec![file("fine", 0o600, ""), file(path, 0o600, "hunter2")],
        );
        job_with.code = Some(archive.clone());
        server.submit(job_with);
        let end = server.wait_end(job, 1);
        let reason = end.reason.unwrap();
        assert!(
            reason.starts_with("cannot start: the file `") && reason.contains(path) && reason.contains(part),
            "{reason}"
        );
        assert!(!end.lost && end.exit_code.is_none());
        assert_eq!(server.printed(job), Vec::<String>::new());
        assert_eq!(*server.said(job).last().unwrap(), reason);
    }
    let mut wrong = lease(6, &script);
    wrong.vault.env = map([("A=B", "hunter2")]);
    server.submit(wrong);
    let reason = server.wait_end(6, 1).reason.unwrap();
    assert!(
        reason.contains("the variable `A=B` of a vault") && !reason.contains("hunter2"),
        "{reason}"
    );
    assert!(!ran.exists());
    let mut enforced = with_files(
        7,
        "cat taken link way/file; ls sub",
        ["taken", "link", "way/file"]
            .map(|path| LeaseFile {
                enforced: true,
                ..file(path, 0o644, &format!("{path}\n"))
            })
            .into(),
    );
    enforced.code = Some(archive);
    server.submit(enforced);
    assert_eq!(server.wait_end(7, 1).exit_code, Some(0));
    assert_eq!(server.printed(7), ["taken", "link", "way/file", "x"]);
}

#[test]
fn secrets_are_asterisks_in_the_log_and_in_reasons() {
    let server = Server::start();
    let _agent = Agent::start(&server);
    let secret = "correct-horse-battery";
    let mut job = lease(
        1,
        "echo key=$KEY; printf 'torn correct-hor' >&2; sleep 1.5; printf 'se-battery\\n' >&2; printf '%s\\n' \"$PEM\"; \
         head -c 16380 /dev/zero | tr '\\0' x; head -c 60000 /dev/zero | tr '\\0' y; echo $KEY; printf $KEY",
    );
    job.vault = LeaseVault {
        env: map([("KEY", secret), ("PEM", "BEGIN KEY\nMIIEvQIBADANBg\nend")]),
        secrets: vec![secret.into(), "BEGIN KEY\nMIIEvQIBADANBg\nend".into()],
        ..LeaseVault::default()
    };
    server.submit(job);
    assert_eq!(server.wait_end(1, 1).exit_code, Some(0));
    let printed = server.printed(1);
    let all = printed.concat();
    assert!(
        !all.contains("horse") && !all.contains("battery") && !all.contains("MIIE"),
        "{all}"
    );
    assert!(printed.contains(&"key=********".to_owned()), "{printed:?}");
    // Shown when it had waited long enough, but for what a secret might begin with.
    assert!(all.contains("torn ********"), "{printed:?}");
    assert_eq!(printed.last().unwrap(), "********");
    let mut missing = lease(2, "");
    missing.command = vec![format!("no-such-{secret}")];
    missing.vault.secrets = vec![secret.into()];
    let mut in_the_way = with_files(3, "true", vec![file(&format!("x/../{secret}"), 0o600, "")]);
    in_the_way.vault.secrets = vec![secret.into()];
    server.submit(missing);
    server.submit(in_the_way);
    for job in [2, 3] {
        let reason = server.wait_end(job, 1).reason.unwrap();
        assert!(reason.contains("********") && !reason.contains("horse"), "{reason}");
        assert!(!server.said(job).concat().contains("horse"), "{:?}", server.said(job));
    }
}

#[test]
fn settings_of_vaults_stand_between_file_and_flags_and_enforced_ones_above() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let hidden = home.path().join("hidden");
    std::fs::create_dir(&hidden).unwrap();
    std::fs::write(hidden.join("file"), "").unwrap();
    server.change(|known| {
        known.settings = json!({"job_env": {"LAYER": "saved", "FILE": "saved", "VAULT": "saved", "N": 4, "LONG": "of-a-vault"},
            "isolate": "none", "fair": true, "slots": 64, "worker_name": "x"});
        known.enforced = json!({"isolate": "auto", "protect": [hidden], "job_env": {"OVER": "force"}});
    });
    let agent = Agent::start_logged(&server, &home.path().join("agent"), &[]);
    let mut job = lease(
        1,
        &format!(
            "for name in LAYER FILE VAULT N OVER LONG; do eval \"echo $name=\\$$name\"; done; ls {} 2>/dev/null",
            hidden.display()
        ),
    );
    job.vault.env = map([("VAULT", "vault")]);
    job.env = map([("OVER", "experiment")]);
    server.submit(job);
    assert!(server.wait_end(1, 1).exit_code.is_some());
    assert_eq!(
        server.printed(1),
        [
            "LAYER=flag",
            "FILE=saved",
            "VAULT=vault",
            "N=4",
            "OVER=force",
            "LONG=********"
        ]
    );
    server.see(|known| {
        let told: Vec<(bool, bool)> = known.registered.iter().map(|one| (one.vaults, one.fair)).collect();
        assert_eq!(told, [(true, false), (true, true)], "once more, for the turns");
    });
    let log = agent.log();
    assert!(
        log.contains("settings from vaults: job_env (LAYER, FILE, VAULT, N, LONG), isolate, fair"),
        "{log}"
    );
    assert!(log.contains("settings from enforced vaults: "), "{log}");
    assert!(log.contains("stand on the command line: slots, worker_name"), "{log}");
    assert!(
        !log.contains("=force") && !log.contains("saved\"") && !log.contains("of-a-vault"),
        "{log}"
    );
}

#[test]
fn settings_that_cannot_be_used_stop_the_agent_from_taking_work_until_they_are_mended() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    server.change(|known| known.settings = json!({"isolate": "hunter2", "job_env": {"FILE": "vault"}}));
    let agent = Agent::start_logged(&server, &home.path().join("agent"), &[]);
    agent.says("settings from vaults cannot be used: `agent.isolate` is to be `auto`, `require` or `none`");
    server.submit(lease(1, "echo $FILE"));
    let polls = server.see(|known| known.polls);
    // Two whole polls with the job waiting: it was not taken.
    server.change(|known| known.settings = json!({"isolate": "require", "job_env": {"FILE": "mends"}}));
    server.wait("a poll that asks for nothing", |known| {
        assert!(known.taken.is_empty());
        (known.polls > polls || known.polls > 0).then_some(())
    });
    assert!(!agent.log().contains("hunter2"));
    server.change(|known| known.forget_agent = true);
    assert_eq!(server.wait_end(1, 1).exit_code, Some(0));
    assert_eq!(server.printed(1), ["mends"]);
    let said = server.said(1);
    assert!(
        said[0].contains("namespaces") || said[0].contains("Landlock"),
        "{said:?}"
    );
}

#[test]
fn an_agent_says_which_of_its_queues_was_taken_away_and_goes_on_with_the_others() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let agent = Agent::start_logged(&server, &home.path().join("agent"), &[]);
    server.change(|known| known.not_served = map([("gpu", "robot needs queues:serve on queue gpu")]));
    server.submit(lease(1, "true"));
    assert_eq!(server.wait_end(1, 1).exit_code, Some(0));
    agent.says("takes nothing from the queue `gpu` any more, and goes on with the others: robot needs queues:serve");
    server.change(|known| known.not_served.clear());
    server.submit(lease(2, "true"));
    assert_eq!(server.wait_end(2, 1).exit_code, Some(0));
    eventually("the other word", || {
        agent.log().contains("from the queue `gpu` again").then_some(())
    });
}
