//! The audit: what is in it, who reads it, and that nobody changes it unseen.

use bailiwick_api::audit::AuditFilter;
use bailiwick_api::users::NewServiceAccount;
use serde_json::{Value, json};

use crate::world::{Database, World, on, on_both};

async fn verdict(world: &World) -> Value {
    let answer = world.admin.post("/api/v1/audit/verify", json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

async fn some_events(world: &World) {
    let ana = world.person("ana").await;
    for name in ["one", "two", "three"] {
        ana.submit(name).await;
    }
    ana.post("/api/v1/users", json!({"name": "x"})).await;
}

/// The way of an intruder with the database's own rights.
async fn without_triggers(world: &World) {
    let drop: &[&str] = match world.database {
        Database::Sqlite => &[
            "audit_events_kept",
            "audit_events_stay",
            "audit_chain_kept",
            "audit_chain_stays",
        ],
        Database::Postgres => &["audit_events_kept ON audit_events", "audit_chain_kept ON audit_chain"],
    };
    for trigger in drop {
        world.sql(format!("DROP TRIGGER {trigger}")).await.unwrap();
    }
}

#[test]
fn the_chain_verifies_and_its_head_moves_with_every_event() {
    on_both(|world| async move {
        some_events(&world).await;
        let first = verdict(&world).await;
        assert_eq!(first["intact"], true);
        assert_eq!(
            first["events"],
            json!(world.count("audit_events").await),
            "all are chained"
        );
        world.person("bob").await;
        let second = verdict(&world).await;
        assert!(second["events"].as_i64() > first["events"].as_i64() && second["head"] != first["head"]);
    });
}

#[test]
fn the_tables_of_the_audit_refuse_every_change() {
    on_both(|world| async move {
        some_events(&world).await;
        verdict(&world).await;
        for table in ["audit_events", "audit_chain"] {
            for sql in [
                format!("DELETE FROM {table}"),
                format!(
                    "UPDATE {table} SET {}",
                    if table == "audit_chain" {
                        "hash = ''"
                    } else {
                        "principal = 'bob'"
                    }
                ),
            ] {
                let refused = world.sql(sql.as_str()).await.unwrap_err().to_string();
                assert!(refused.contains("append-only"), "{sql}: {refused}");
            }
        }
        assert_eq!(verdict(&world).await["intact"], true);
    });
}

#[test]
fn whoever_changes_the_audit_behind_the_servers_back_is_found_out() {
    let changes = [
        (
            "UPDATE audit_events SET principal = 'bob' WHERE verb = 'create' AND object_kind = 'experiment' AND object = '2'",
            "is not as it was written",
        ),
        (
            "UPDATE audit_events SET outcome = 'allowed' WHERE outcome = 'denied'",
            "is not as it was written",
        ),
        (
            "UPDATE audit_events SET at = at + 1 WHERE id = 3",
            "is not as it was written",
        ),
        ("DELETE FROM audit_events WHERE outcome = 'denied'", "is missing"),
        ("DELETE FROM audit_chain WHERE link = 3", "missing"),
        (
            "UPDATE audit_chain SET hash = 'x' WHERE link = 3",
            "is not as it was written",
        ),
        ("UPDATE audit_chain SET event_id = 900000 WHERE link = 3", "missing"),
    ];
    for database in crate::world::databases() {
        for (change, words) in changes {
            on(
                database,
                |_| {},
                move |world: World| async move {
                    some_events(&world).await;
                    assert_eq!(verdict(&world).await["intact"], true);
                    without_triggers(&world).await;
                    world.sql(change).await.unwrap();
                    let found = verdict(&world).await;
                    assert_eq!(found["intact"], false, "{change}");
                    assert!(found["fault"].as_str().unwrap().contains(words), "{change}: {found}");
                    // What is written after it does not heal it.
                    world.person("bob").await;
                    assert_eq!(verdict(&world).await["intact"], false, "{change}");
                },
            );
        }
    }
}

#[test]
fn events_are_found_by_who_what_and_when() {
    on_both(|world| async move {
        some_events(&world).await;
        world.pass_ms(60_000);
        let since = world.now();
        world.admin.post("/api/v1/experiments/two/cancel", json!({})).await;
        let find = |filter: AuditFilter| {
            let client = world.admin.client.clone();
            async move {
                let page = client.audit(&filter).await.unwrap();
                page.items
                    .into_iter()
                    .map(|event| format!("{} {} {}", event.principal, event.verb, event.object))
                    .collect::<Vec<_>>()
            }
        };
        let all = AuditFilter::default;
        assert_eq!(
            find(AuditFilter {
                since: Some(since),
                ..all()
            })
            .await,
            ["admin cancel experiment 2"]
        );
        assert_eq!(
            find(AuditFilter {
                denied: Some(true),
                ..all()
            })
            .await,
            ["ana create installation "]
        );
        assert_eq!(
            find(AuditFilter {
                object: Some("experiment 2".into()),
                ..all()
            })
            .await,
            ["admin cancel experiment 2", "ana create experiment 2"]
        );
        assert_eq!(
            find(AuditFilter {
                action: Some("experiments:create".into()),
                limit: Some(1),
                ..all()
            })
            .await,
            ["ana create experiment 3"]
        );
        assert_eq!(
            find(AuditFilter {
                action: Some("cancel".into()),
                user: Some("ana".into()),
                ..all()
            })
            .await,
            [""; 0]
        );
        let export = world.admin.get("/api/v1/audit/export").await.text;
        let ids: Vec<i64> = export
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_i64().unwrap())
            .collect();
        assert_eq!(ids.len() as i64, world.count("audit_events").await);
        assert!(ids.is_sorted());
        assert!(
            !export.contains("ml_")
                && !export.contains("mls_")
                && !export.contains("argon2")
                && !export.contains("horse"),
            "no secrets"
        );
    });
}

#[test]
fn a_workspaces_administrator_reads_that_workspaces_events_and_no_others() {
    on_both(|world| async move {
        some_events(&world).await;
        let lead = world.person_with("lead", "WorkspaceAdmin").await;
        let page = lead.client.audit(&AuditFilter::default()).await.unwrap();
        assert!(!page.items.is_empty());
        assert!(
            page.items
                .iter()
                .all(|event| event.workspace.as_deref() == Some("default")),
            "{:?}",
            page.items
        );
        let export = lead.get("/api/v1/audit/export").await.text;
        assert_eq!(export.lines().count(), page.items.len());
        let refused = lead.post("/api/v1/audit/verify", json!({})).await;
        assert!(
            refused
                .message()
                .starts_with("Insufficient permissions: lead needs audit:read")
        );
    });
}

#[test]
fn what_a_crash_left_unchained_is_chained_at_the_next_start() {
    on_both(|world| async move {
        some_events(&world).await;
        world.stop_servers().await;
        let sql =
            "INSERT INTO audit_events (at, principal, action, verb, object_kind, object, outcome, detail, request_id)
                   VALUES (1, 'ana', 'experiments:create', 'create', 'experiment', '9', 'allowed', '', 'x')";
        world.sql(sql).await.unwrap();
        let url = world.restart(|_| {}).await;
        let found = world
            .admin
            .at(&url)
            .post("/api/v1/audit/verify", json!({}))
            .await
            .json();
        assert_eq!(
            (found["intact"].clone(), found["events"].clone()),
            (json!(true), json!(world.count("audit_events").await))
        );
    });
}

#[test]
fn an_object_is_found_whose_kind_or_name_is_of_several_words() {
    on_both(|world| async move {
        let admin = &world.admin.client;
        for name in ["builder", "tester"] {
            let account = NewServiceAccount {
                name: name.into(),
                serve: Vec::new(),
                impersonate: false,
            };
            admin.create_service_account(&account).await.unwrap();
        }
        world.admin.post("/api/v1/groups", json!({"name": "night shift"})).await;
        for (object, found) in [
            ("service account tester", vec!["service account tester"]),
            (
                "service account",
                vec!["service account tester", "service account builder"],
            ),
            ("group night shift", vec!["group night shift"]),
            ("service", vec![]),
            ("account builder", vec![]),
        ] {
            let filter = AuditFilter {
                object: Some(object.into()),
                action: Some("create".into()),
                ..AuditFilter::default()
            };
            let events = admin.audit(&filter).await.unwrap().items;
            let objects: Vec<&str> = events.iter().map(|event| event.object.as_str()).collect();
            assert_eq!(objects, found, "{object}");
        }
    });
}
