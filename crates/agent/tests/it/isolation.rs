//! What a job cannot reach.

use std::os::unix::fs::PermissionsExt;

use crate::server::{Agent, Server, lease};

fn holds(name: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let checks = bailiwick_agent::doctor(dir.path());
    let check = checks.iter().find(|check| check.name == name);
    check.unwrap_or_else(|| panic!("no check `{name}`: {checks:#?}")).holds
}

#[test]
fn the_doctor_tries_every_layer_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let checks = bailiwick_agent::doctor(dir.path());
    let names: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "directory",
            "own user",
            "namespaces",
            "Landlock",
            "cgroup",
            "memory limit",
            "process limit",
            "programs",
            "file watching",
            "slots"
        ]
    );
    assert!(checks.iter().all(|check| !check.detail.is_empty()));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    eprintln!("{checks:#?}");
}

#[test]
fn a_job_sees_neither_protected_directories_nor_other_jobs_nor_the_agent() {
    if !holds("namespaces") && !holds("Landlock") {
        eprintln!("neither namespaces nor Landlock hold on this machine: nothing to see here");
        return;
    }
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let protected = home.path().join("data");
    std::fs::create_dir(&protected).unwrap();
    std::fs::set_permissions(&protected, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(protected.join("database"), "secret").unwrap();
    let agent = Agent::start_in(
        &server,
        &home.path().join("agent"),
        &[("ML_TEST_PROTECT", protected.to_str().unwrap())],
    );
    server.submit(lease(1, "echo mine > file; echo up; sleep 1000"));
    server.wait_line(1, "up");
    let jobs = agent.job_dir(1, 1);
    let script = format!(
        "for path in {data}/database {job}/spec.json {file} {own}/spec.json {own}/spool {agent}/lock; do \
           if cat $path >/dev/null 2>&1 || ls $path/ >/dev/null 2>&1; then echo SEEN $path; fi; done; \
         touch {data}/new 2>/dev/null; touch {agent}/jobs/new 2>/dev/null; \
         echo private > $TMPDIR/x && cat $TMPDIR/x; echo own > file && cat file",
        data = protected.display(),
        job = jobs.display(),
        file = jobs.join("work").join("file").display(),
        own = agent.job_dir(2, 1).display(),
        agent = agent.dir.canonicalize().unwrap().display(),
    );
    server.submit(lease(2, &script));
    assert_eq!(server.wait_end(2, 1).exit_code, Some(0));
    assert_eq!(server.printed(2), ["private", "own"], "{:?}", server.said(2));
    // What it may have written under these names stayed in its own temporary directory.
    assert!(!protected.join("new").exists() && !agent.dir.join("jobs/new").exists());
}

#[test]
fn each_job_is_a_user_of_its_own_without_privileges_or_other_processes() {
    if !holds("own user") || !holds("namespaces") {
        eprintln!("jobs do not get users of their own here: nothing to see");
        return;
    }
    let server = Server::start();
    let _agent = Agent::start(&server);
    server.submit(lease(1, "id -u; id -G; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status; ls /proc | grep -c '^[0-9]'; ls -l /proc/self/fd | wc -l; ulimit -c"));
    server.submit(lease(2, "id -u"));
    server.wait_end(1, 1);
    server.wait_end(2, 1);
    let printed = server.printed(1);
    assert_eq!(printed[..2], ["700001", "700001"], "{printed:#?}");
    assert_eq!(server.printed(2), ["700002"]);
    assert_eq!(printed[2], "CapEff:\t0000000000000000");
    assert_eq!(printed[4], "NoNewPrivs:\t1");
    // Init, the shell, and the pipe's two programs.
    assert!(printed[5].parse::<i32>().unwrap() <= 4, "{printed:#?}");
    assert_eq!(printed[7], "0");
    assert_eq!(
        server.said(1)[0]
            .split_once("isolated by: ")
            .unwrap()
            .1
            .split(", ")
            .next(),
        Some("own user")
    );
}

#[test]
fn what_a_job_writes_where_every_user_may_is_seen_by_nobody_else() {
    if !holds("namespaces") {
        eprintln!("namespaces do not hold on this machine: nothing to see here");
        return;
    }
    let server = Server::start();
    let _agent = Agent::start(&server);
    // As root also in directories made for this: the machine may have none of its own.
    let mut places = vec!["/run/lock".to_owned(), "/dev/shm".to_owned(), "/dev/mqueue".to_owned()];
    let mut made = Vec::new();
    if nix::unistd::Uid::effective().is_root() {
        for parent in ["/run", "/var", "/var/lib"] {
            let Ok(directory) = tempfile::Builder::new().prefix("ml-test-").tempdir_in(parent) else {
                continue;
            };
            std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
            places.push(directory.path().display().to_string());
            made.push(directory);
        }
    }
    let name = format!("ml-test-{}", std::process::id());
    let places = places.join(" ");
    server.submit(lease(
        1,
        &format!(
            "for place in {places}; do if [ -w $place ]; then echo x > $place/{name} || echo REFUSED $place; fi; done; \
             cat /run/lock/{name} /dev/shm/{name}; echo up; sleep 1000"
        ),
    ));
    server.wait_line(1, "up");
    server.submit(lease(
        2,
        &format!("for place in {places}; do if [ -e $place/{name} ]; then echo SEEN $place; fi; done; echo looked"),
    ));
    assert_eq!(server.wait_end(2, 1).exit_code, Some(0));
    assert_eq!(server.printed(2), ["looked"]);
    for place in places.split(' ') {
        assert!(!std::path::Path::new(place).join(&name).exists(), "{place}");
    }
    if std::path::Path::new("/run/lock").is_dir() {
        assert_eq!(server.printed(1), ["x", "x", "up"], "{:?}", server.said(1));
    }
}
