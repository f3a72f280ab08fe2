//! The databases below: several servers on one, one that is gone for a while, one whose disk is full.

use std::process::Command;

use bailiwick_api::experiments::{ExperimentFilter, State};
use bailiwick_api::tokens::NewToken;
use bailiwick_client::calls::LogEvent;
use serde_json::{Value, json};

use crate::world::{Answer, Database, Hand, World, databases, eventually, fresh_number, held, on, on_cluster};

fn on_postgres<F, Fut>(test: F)
where
    F: Fn(World) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    if databases().contains(&Database::Postgres) {
        on(Database::Postgres, |_| {}, test);
    }
}

#[test]
fn what_is_revoked_at_one_server_is_dead_at_the_other_at_the_very_next_request() {
    on_postgres(|world| async move {
        let there = world.another_server(|_| {}).await;
        let ana = world.person("ana").await;
        let one = ana.submit("one").await.id;
        let path = format!("/api/v1/experiments/{one}");
        let other = ana.at(&there).client;
        for _ in 0..150 {
            let made = ana.client.create_token(&NewToken::default()).await.unwrap();
            let other = other.with_key(Some(&made.secret));
            other.get::<Value>(&path).await.expect("it opens there at once");
            ana.client.revoke_token(made.token.id).await.unwrap();
            assert_eq!(other.get::<Value>(&path).await.unwrap_err().status(), Some(401));
        }
    });
}

#[test]
fn who_is_made_at_one_server_is_known_at_the_other_at_once() {
    on_postgres(|world| async move {
        let there = world.another_server(|_| {}).await;
        let owner = world.person("owner").await;
        let one = owner.submit("one").await.id;
        for round in 0..50 {
            let name = format!("user{round}");
            let here = world
                .person_with(&name, if round % 2 == 0 { "Viewer" } else { "Editor" })
                .await;
            let other = here.at(&there);
            // Whichever way it comes first: by number, by name, in a list.
            match round % 3 {
                0 => assert_eq!(other.get(&format!("/api/v1/experiments/{one}")).await.status, 200),
                1 => assert_eq!(other.get("/api/v1/experiments/one").await.status, 200),
                _ => assert_eq!(
                    other
                        .client
                        .experiments(&ExperimentFilter::default())
                        .await
                        .unwrap()
                        .items
                        .len(),
                    1
                ),
            }
            world.admin.client.deactivate_user(&name).await.unwrap();
            for path in [
                format!("/api/v1/experiments/{one}"),
                "/api/v1/experiments/999999".into(),
                "/api/v1/experiments/nothing".into(),
            ] {
                assert_eq!(other.get(&path).await.status, 401, "{path}");
            }
        }
    });
}

#[test]
fn work_and_logs_cross_from_server_to_server() {
    on_postgres(|world| async move {
        let there = world.another_server(|_| {}).await;
        let ana = world.person("ana").await;
        let agent = world.agent("machine-1", 1).await.at(&there);
        let waiter = agent.clone();
        let waits = tokio::spawn(async move { waiter.try_poll(&[], 1, 30_000).await });
        let one = ana.submit("one").await;
        let lease = held(&waits.await.unwrap().unwrap().start[0]);
        agent.started(lease).await.unwrap();
        let mut stream = ana.client.follow_logs(one.id, 0).await.unwrap();
        agent.log(lease, 1, &["hello"]).await.unwrap();
        match stream.next().await.unwrap() {
            LogEvent::Lines(lines) => assert_eq!(lines[0].text, "hello"),
            other => panic!("{other:?}"),
        }
        agent.ended(lease, 0).await.unwrap();
        assert!(matches!(stream.next().await.unwrap(), LogEvent::End(State::Completed)));
    });
}

#[test]
fn a_database_that_is_gone_for_a_while_is_said_so_and_comes_back_by_itself() {
    on_postgres(|world| async move {
        let ana = world.person("ana").await;
        ana.submit("before").await;
        let name = world.postgres_name().to_owned();
        let terminate = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        // Connections that break are replaced: at worst one request says so.
        on_cluster(terminate.clone()).await;
        eventually("it answers again", || async {
            (ana.get("/api/v1/experiments").await.status == 200).then_some(())
        })
        .await;
        on_cluster(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
        on_cluster(terminate).await;
        let gone = |answer: Answer| {
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (503, "unavailable"),
                "{}",
                answer.text
            );
            assert!(answer.text.contains("try again in a moment") && answer.headers.contains_key("retry-after"));
            assert!(
                !answer.text.contains("accepting connections"),
                "the cause is for the operator"
            );
        };
        gone(ana.get("/api/v1/experiments").await);
        gone(ana.get("/api/v1/experiments/before").await);
        gone(
            ana.post("/api/v1/experiments", json!({"config": {"entrypoint": "true"}}))
                .await,
        );
        gone(
            world
                .nobody()
                .post("/api/v1/login", json!({"name": "ana", "password": "x"}))
                .await,
        );
        gone(world.nobody().get("/readyz").await);
        assert_eq!(world.nobody().get("/healthz").await.status, 200);
        on_cluster(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await;
        eventually("it is ready", || async {
            (world.nobody().get("/readyz").await.status == 200).then_some(())
        })
        .await;
        ana.submit("after").await;
        let names: Vec<String> = ana
            .client
            .experiments(&ExperimentFilter::default())
            .await
            .unwrap()
            .items
            .into_iter()
            .map(|one| one.name)
            .collect();
        assert_eq!(names, ["after", "before"]);
    });
}

#[test]
fn a_second_server_on_the_same_directory_is_refused() {
    on(
        Database::Sqlite,
        |_| {},
        |world| async move {
            let again = bailiwick_server::Running::start(world.config.clone(), bailiwick_store::Clock::default()).await;
            let why = again.err().expect("it is refused");
            assert!(
                why.contains("another `ml serve` is running on") && why.contains("hint:"),
                "{why}"
            );
        },
    );
}

/// A small disk of its own, gone with the value.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// `None` where this process may not mount.
    fn mount(megabytes: u32) -> Option<SmallDisk> {
        let dir = std::env::temp_dir().join(format!("ml-small-disk-{}-{}", std::process::id(), fresh_number()));
        std::fs::create_dir_all(&dir).ok()?;
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(&dir)
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(SmallDisk(dir));
        }
        let _ = std::fs::remove_dir(&dir);
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_full_disk_is_said_so_and_nothing_is_half_written() {
    let Some(disk) = SmallDisk::mount(12) else {
        // Without the right to mount (not root, or a closed container) there is no small disk to fill.
        eprintln!("*** THE FULL DISK IS LEFT OUT: this process may not mount one ***");
        return;
    };
    let data = disk.0.join("data");
    let ballast = disk.0.join("ballast");
    let set = |config: &mut bailiwick_server::config::Config| {
        config.data = data.clone();
        config.database = format!("sqlite:{}", data.join("bailiwick.db").display());
    };
    on(Database::Sqlite, set, |world| {
        let ballast = ballast.clone();
        async move {
            let ana = world.person("ana").await;
            let mut accepted = vec![ana.submit("first").await.id];
            fill(&ballast);
            let mut refused = 0;
            for _ in 0..200 {
                let answer = ana
                    .post(
                        "/api/v1/experiments",
                        json!({"config": {"name": "more", "entrypoint": "true"}}),
                    )
                    .await;
                match answer.status {
                    200 => accepted.push(serde_json::from_value(answer.json()["id"].clone()).unwrap()),
                    503 => {
                        refused += 1;
                        assert_eq!(answer.code(), "unavailable");
                        if refused > 10 {
                            break;
                        }
                    }
                    _ => panic!("{answer:?}"),
                }
            }
            assert!(refused > 10, "the disk never was full");
            assert_eq!(
                ana.get("/api/v1/experiments/first").await.status,
                200,
                "reading goes on"
            );
            let code = vec![9; 200_000];
            let name = bailiwick_api::key::sha256_hex(&code);
            let send =
                || async { Answer::of(ana.request("PUT", &format!("/api/v1/code/{name}")).body(code.clone())).await };
            assert_eq!(send().await.status, 503);
            std::fs::remove_file(&ballast).unwrap();
            assert_eq!(send().await.status, 200, "once there is room it works again");
            for _ in 0..20 {
                accepted.push(ana.submit("after").await.id);
            }
            // What was acknowledged is there, what was refused is not; also after a restart.
            let url = world.restart(|_| {}).await;
            let kept = world.rows("SELECT id FROM experiments ORDER BY id").await;
            let kept: Vec<i64> = kept.iter().map(|row| sqlx::Row::get(row, 0)).collect();
            assert_eq!(kept, accepted.iter().map(|id| id.0).collect::<Vec<i64>>());
            for table in [
                "jobs",
                "experiment_events",
                "audit_events WHERE verb = 'create' AND object_kind = 'experiment'",
            ] {
                assert_eq!(world.count(table).await, accepted.len() as i64, "{table}");
            }
            let verdict = world
                .admin
                .at(&url)
                .post("/api/v1/audit/verify", json!({}))
                .await
                .json();
            assert_eq!(verdict["intact"], true, "{verdict}");
        }
    });
}

/// Takes all the room that is left.
fn fill(path: &std::path::Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    for size in [1 << 20, 1 << 12, 1 << 9] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

#[test]
fn an_agent_that_moves_to_another_server_is_not_lost_and_its_loss_there_shows_here() {
    on_postgres(|world| async move {
        let there = world.another_server(|_| {}).await;
        let agent = world.agent("machine-1", 1).await;
        let admin = world.admin.client.clone();
        let shown = || async { admin.agent("machine-1").await.unwrap() };
        let waits_at = |hand: Hand| {
            world.pass_ms(1000);
            let since = world.now();
            let poll = tokio::spawn(async move { hand.try_poll(&[], 1, 60_000).await });
            async move { (poll, since) }
        };
        let (here, since) = waits_at(agent.clone()).await;
        eventually("it polls here", || async {
            (shown().await.last_seen_at >= since).then_some(())
        })
        .await;
        here.abort();
        let (moved, since) = waits_at(agent.at(&there)).await;
        eventually("it polls there", || async {
            (shown().await.last_seen_at >= since).then_some(())
        })
        .await;
        let began = std::time::Instant::now();
        while began.elapsed() < std::time::Duration::from_secs(6) {
            assert_eq!(shown().await.state, "up");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        moved.abort();
        eventually("it is lost", || async { (shown().await.state == "lost").then_some(()) }).await;
        let (_back, _) = waits_at(agent).await;
        eventually("it is back", || async { (shown().await.state == "up").then_some(()) }).await;
    });
}
