//! Queues: made, bound, limited, shared, paused and drained.

use bailiwick_api::experiments::State;
use bailiwick_api::queues::{JobMove, QueueAccess, QueueSettings, QueueShare, QueueState};
use serde_json::{Value, json};

use crate::world::{Hand, Person, World, held, on_both};

async fn make(world: &World, name: &str, settings: Value) -> i64 {
    let mut body = settings;
    body["name"] = json!(name);
    let answer = world.admin.post("/api/v1/queues", body).await;
    assert_eq!(answer.status, 200, "{}", answer.message());
    answer.json()["id"].as_i64().unwrap()
}

async fn change(world: &World, queue: &str, settings: QueueSettings) {
    world.admin.client.update_queue(queue, &settings).await.unwrap();
}

async fn set_state(world: &World, queue: &str, state: QueueState) {
    let settings = QueueSettings {
        state: Some(state),
        ..QueueSettings::default()
    };
    change(world, queue, settings).await;
}

async fn submit(person: &Person, name: &str, queue: &str, more: Value) -> i64 {
    let mut resources = json!({"slots_per_trial": 1, "queue": queue});
    for (key, value) in more.as_object().unwrap() {
        resources[key] = value.clone();
    }
    let config = json!({"name": name, "entrypoint": "true", "resources": resources});
    person.submit_config(config).await.id.0
}

async fn names(agent: &Hand, free: i64) -> Vec<String> {
    agent.take(free).await.into_iter().map(|lease| lease.name).collect()
}

#[test]
fn a_queue_is_made_renamed_described_and_deleted_by_those_who_may_and_never_by_the_way() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let administrator = world.person_with("root2", "Administrator").await;
        let keeper = world.person_with("keeper", "QueueAdmin").await;
        for person in [&ana, &administrator] {
            assert_eq!(person.post("/api/v1/queues", json!({"name": "gpu"})).await.status, 403);
        }
        // Nothing comes into being because it was named.
        let config = json!({"name": "one", "entrypoint": "true", "resources": {"queue": "gpu"}});
        let refused = ana.post("/api/v1/experiments", json!({"config": config})).await;
        assert_eq!((refused.status, refused.code().as_str()), (404, "not_found"));
        let made = keeper
            .post("/api/v1/queues", json!({"name": "gpu", "description": "with A100"}))
            .await;
        assert_eq!(made.status, 200, "{}", made.message());
        let twice = keeper.post("/api/v1/queues", json!({"name": "GPU"})).await;
        assert_eq!(twice.status, 409, "{}", twice.message());
        for bad in [
            json!({}),
            json!({"name": ""}),
            json!({"name": "7"}),
            json!({"name": "a#b"}),
            json!({"name": "x", "max_running": -1}),
            json!({"name": "x", "access": "bound"}),
            json!({"name": "x", "access": "open", "workspaces": ["default"]}),
            json!({"name": "x", "colour": "red"}),
        ] {
            assert_eq!(keeper.post("/api/v1/queues", bad.clone()).await.status, 422, "{bad}");
        }
        let agent = world.agent_of("m1", 2, &["gpu"]).await;
        let id = submit(&ana, "one", "gpu", json!({})).await;
        // The agent and the job stay when the queue has another name.
        let renamed = keeper
            .client
            .update_queue(
                "gpu",
                &QueueSettings {
                    name: Some("a100".into()),
                    ..Default::default()
                },
            )
            .await
            .unwrap();
        assert_eq!((renamed.name.as_str(), renamed.waiting), ("a100", 1));
        let lease = agent.take(2).await.remove(0);
        assert_eq!(
            ana.client.experiment(&id.to_string()).await.unwrap().experiment.queue,
            "a100"
        );
        for person in [&ana, &administrator] {
            assert_eq!(person.delete("/api/v1/queues/a100").await.status, 403);
            assert_eq!(
                person
                    .request("PATCH", "/api/v1/queues/a100")
                    .json(&json!({"name": "b"}))
                    .send()
                    .await
                    .unwrap()
                    .status(),
                403
            );
        }
        let full = keeper.delete("/api/v1/queues/a100").await;
        assert!(
            full.status == 409 && full.message().contains("1 job waits or runs"),
            "{}",
            full.message()
        );
        agent.started(held(&lease)).await.unwrap();
        agent.ended(held(&lease), 0).await.unwrap();
        let default = keeper.delete("/api/v1/queues/default").await;
        assert_eq!(default.status, 409, "{}", default.message());
        assert_eq!(keeper.delete("/api/v1/queues/a100").await.status, 200);
        assert_eq!(keeper.get("/api/v1/queues/a100").await.status, 404);
        assert_eq!(
            ana.client.experiment(&id.to_string()).await.unwrap().experiment.queue,
            "a100 (deleted)"
        );
        let again = keeper.post("/api/v1/queues", json!({"name": "a100"})).await;
        assert_eq!(again.status, 200, "{}", again.message());
        assert_eq!(
            world
                .events("object_kind = 'queue' AND outcome = 'allowed'")
                .await
                .len(),
            4
        );
    });
}

#[test]
fn a_bound_queue_takes_jobs_of_its_workspaces_and_one_by_assignment_those_of_its_holders() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        for name in ["Vision", "Speech"] {
            let made = world.admin.post("/api/v1/workspaces", json!({"name": name})).await;
            assert_eq!(made.status, 200, "{}", made.message());
            let given = json!({"assignments": [{"user": "ana", "role": "Editor", "on": format!("workspace:{name}")}]});
            let given = world.admin.post("/api/v1/assignments", given).await;
            assert_eq!(given.status, 200, "{}", given.message());
        }
        make(&world, "vision", json!({"workspaces": ["Vision"]})).await;
        make(&world, "private", json!({"access": "assigned"})).await;
        let ask = async |workspace: &str, queue: &str| {
            let config =
                json!({"name": "one", "entrypoint": "true", "resources": {"queue": queue}, "workspace": workspace});
            ana.post("/api/v1/experiments", json!({"config": config})).await.status
        };
        assert_eq!(ask("Vision", "vision").await, 200);
        assert_eq!(
            ask("Speech", "vision").await,
            403,
            "it is seen, and takes no jobs of this workspace"
        );
        assert_eq!(
            ask("Speech", "private").await,
            404,
            "nobody sees it without an assignment"
        );
        let seen = ana.client.queues().await.unwrap().items;
        assert_eq!(
            seen.iter().map(|queue| queue.name.as_str()).collect::<Vec<_>>(),
            ["default", "vision"]
        );
        assert_eq!(
            (seen[1].access, seen[1].workspaces.as_slice()),
            (QueueAccess::Bound, &["Vision".to_owned()][..])
        );
        let given = json!({"assignments": [{"user": "ana", "role": "Editor", "on": "queue:private"}]});
        assert_eq!(world.admin.post("/api/v1/assignments", given).await.status, 200);
        assert_eq!(ask("Speech", "private").await, 200);
        // Who sees only some of the workspaces keeps the others in it, and is not told them.
        let keeper = world.person_with("keeper", "QueueAdmin").await;
        let renamed = QueueSettings {
            description: Some("for pictures".into()),
            workspaces: Some(Vec::new()),
            ..Default::default()
        };
        let kept = keeper.client.update_queue("vision", &renamed).await.unwrap();
        assert_eq!((kept.access, kept.workspaces.len()), (QueueAccess::Bound, 0));
        assert_eq!(ana.client.queue("vision").await.unwrap().queue.workspaces, ["Vision"]);
        // Somebody of another workspace sees none of the two, and can't tell them from what is not there.
        let bob = world.person("bob").await;
        for queue in ["vision", "private", "nowhere"] {
            let answer = bob.get(&format!("/api/v1/queues/{queue}")).await;
            assert_eq!(
                (answer.status, answer.without(queue)),
                (404, bob.get("/api/v1/queues/nowhere").await.without("nowhere"))
            );
        }
        // What binds the queue goes with the workspace.
        let list = ana.get("/api/v1/experiments?workspace=Vision").await.json();
        for one in list["items"].as_array().unwrap() {
            let id = one["id"].as_i64().unwrap();
            assert_eq!(
                world
                    .admin
                    .post(&format!("/api/v1/experiments/{id}/kill"), json!({}))
                    .await
                    .status,
                200
            );
            assert_eq!(
                world.admin.delete(&format!("/api/v1/experiments/{id}")).await.status,
                200
            );
        }
        assert_eq!(world.admin.delete("/api/v1/workspaces/Vision").await.status, 200);
        let detail = world.admin.client.queue("vision").await.unwrap().queue;
        assert_eq!((detail.access, detail.workspaces.len()), (QueueAccess::Assigned, 0));
        // The engine answers questions about it as it decides.
        let able = ana
            .post(
                "/api/v1/access/can-i",
                json!({"permission": "queues:submit", "on": "queue:vision"}),
            )
            .await;
        assert_eq!(able.json()["allowed"], json!(false), "{}", able.message());
    });
}

#[test]
fn a_paused_queue_starts_nothing_and_a_draining_one_takes_nothing_in() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        make(&world, "gpu", json!({})).await;
        let agent = world.agent_of("m1", 2, &["gpu"]).await;
        set_state(&world, "gpu", QueueState::Paused).await;
        let id = submit(&ana, "one", "gpu", json!({})).await;
        assert!(names(&agent, 2).await.is_empty());
        let waits = ana.client.experiment(&id.to_string()).await.unwrap().experiment.cause;
        assert!(waits.contains("paused"), "{waits}");
        set_state(&world, "gpu", QueueState::Draining).await;
        let config = json!({"name": "two", "entrypoint": "true", "resources": {"queue": "gpu"}});
        let refused = ana.post("/api/v1/experiments", json!({"config": config})).await;
        assert!(
            refused.status == 409 && refused.message().contains("drained"),
            "{}",
            refused.message()
        );
        let other = ana.submit("elsewhere").await.id;
        let moved = ana
            .client
            .move_job(
                &other.to_string(),
                &JobMove {
                    queue: Some("gpu".into()),
                    priority: None,
                },
            )
            .await;
        assert!(moved.is_err(), "nothing is moved into it either");
        assert_eq!(names(&agent, 2).await, ["one"]);
        set_state(&world, "gpu", QueueState::Active).await;
        submit(&ana, "three", "gpu", json!({})).await;
        assert_eq!(
            names(&agent, 2).await,
            ["one", "three"],
            "the first is given again, since the agent did not name it"
        );
    });
}

#[test]
fn limits_hold_for_the_queue_each_user_and_each_workspace() {
    on_both(|world| async move {
        let (ana, bob) = (world.person("ana").await, world.person("bob").await);
        make(&world, "gpu", json!({"max_running_of_user": 1})).await;
        let agent = world.agent_of("m1", 8, &["gpu"]).await;
        for name in ["a1", "a2", "a3"] {
            submit(&ana, name, "gpu", json!({})).await;
        }
        let late = submit(&bob, "b1", "gpu", json!({})).await;
        let first = agent.take(8).await;
        let taken: Vec<&str> = first.iter().map(|lease| lease.name.as_str()).collect();
        assert_eq!(taken, ["a1", "b1"], "ana's others wait for her first");
        let detail = ana.client.experiment("a2").await.unwrap().experiment;
        assert!(detail.cause.contains("at most 1 job of one user"), "{}", detail.cause);
        for lease in &first {
            agent.started(held(lease)).await.unwrap();
            agent.ended(held(lease), 0).await.unwrap();
        }
        assert_eq!(
            bob.client.experiment(&late.to_string()).await.unwrap().experiment.state,
            State::Completed
        );
        change(
            &world,
            "gpu",
            QueueSettings {
                max_running_of_user: Some(0),
                max_running: Some(1),
                ..Default::default()
            },
        )
        .await;
        let one = agent.take(8).await;
        assert_eq!(one.len(), 1);
        agent.started(held(&one[0])).await.unwrap();
        assert!(agent.poll(&[held(&one[0])], 7).await.start.is_empty());
        change(
            &world,
            "gpu",
            QueueSettings {
                max_running: Some(0),
                max_running_of_workspace: Some(2),
                ..Default::default()
            },
        )
        .await;
        submit(&bob, "b2", "gpu", json!({})).await;
        let more = agent.poll(&[held(&one[0])], 7).await.start;
        assert_eq!(more.len(), 1, "both are of the same workspace");
    });
}

#[test]
fn a_fair_queue_lets_users_take_turns_and_keeps_to_priorities() {
    on_both(|world| async move {
        let (ana, bob) = (world.person("ana").await, world.person("bob").await);
        make(&world, "gpu", json!({"share": "users"})).await;
        let agent = world.agent_of("m1", 8, &["gpu"]).await;
        for name in ["a1", "a2", "a3", "a4"] {
            submit(&ana, name, "gpu", json!({})).await;
        }
        for name in ["b1", "b2"] {
            submit(&bob, name, "gpu", json!({})).await;
        }
        submit(&ana, "urgent", "gpu", json!({"priority": 1})).await;
        submit(&bob, "wide", "gpu", json!({"slots_per_trial": 2})).await;
        assert_eq!(names(&agent, 8).await, ["urgent", "b1", "a1", "b2", "a2", "wide", "a3"]);
        let settings = QueueSettings {
            share: Some(QueueShare::Workspaces),
            ..Default::default()
        };
        change(&world, "gpu", settings).await;
        assert_eq!(
            world.admin.client.queue("gpu").await.unwrap().queue.share,
            QueueShare::Workspaces
        );
    });
}

#[test]
fn a_queue_shared_by_workspaces_lets_the_one_with_fewer_slots_go_first() {
    on_both(|world| async move {
        for name in ["Vision", "Speech"] {
            let made = world.admin.post("/api/v1/workspaces", json!({"name": name})).await;
            assert_eq!(made.status, 200, "{}", made.message());
        }
        make(&world, "gpu", json!({"share": "workspaces"})).await;
        let agent = world.agent_of("m1", 8, &["gpu"]).await;
        for (name, workspace) in [
            ("v1", "Vision"),
            ("v2", "Vision"),
            ("v3", "Vision"),
            ("s1", "Speech"),
            ("s2", "Speech"),
        ] {
            let config =
                json!({"name": name, "entrypoint": "true", "workspace": workspace, "resources": {"queue": "gpu"}});
            world.admin.submit_config(config).await;
        }
        assert_eq!(names(&agent, 8).await, ["v1", "s1", "v2", "s2", "v3"]);
    });
}

#[test]
fn a_submission_at_the_moment_of_a_drain_is_in_before_or_refused() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        make(&world, "gpu", json!({})).await;
        let client = world.admin.client.clone();
        let submissions = (0..20).map(|at| {
            let config = json!({"name": format!("j{at}"), "entrypoint": "true", "resources": {"queue": "gpu"}});
            ana.post("/api/v1/experiments", json!({"config": config}))
        });
        let drain = async {
            let settings = QueueSettings {
                state: Some(QueueState::Draining),
                ..QueueSettings::default()
            };
            client.update_queue("gpu", &settings).await.unwrap();
            world.count("jobs").await
        };
        let (answers, there) = tokio::join!(futures_util::future::join_all(submissions), drain);
        let taken = answers.iter().filter(|answer| answer.status == 200).count() as i64;
        assert!(answers.iter().all(|answer| [200, 409].contains(&answer.status)));
        assert_eq!(
            (world.count("jobs").await, there),
            (taken, taken),
            "nothing came in once the drain was acknowledged"
        );
    });
}

#[test]
fn the_load_of_a_day_is_told_and_shown() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let minute = world.now().0 / 60_000_000;
        for (ago, waiting, running) in [(2_000, 9, 9), (60, 3, 2), (1, 0, 5)] {
            let sql = format!(
                "INSERT INTO queue_load (queue_id, minute, waiting, running) VALUES (1, {}, {waiting}, {running})",
                minute - ago
            );
            world.sql(sql).await.unwrap();
        }
        let load = ana.client.queue("default").await.unwrap().load;
        let load: Vec<_> = load
            .iter()
            .map(|one| (minute - one.minute, one.waiting, one.running))
            // The server notes the minutes of the test itself.
            .filter(|one| one.0 > 0)
            .collect();
        assert_eq!(load, [(60, 3, 2), (1, 0, 5)]);
        let page = ana.get("/queues/1").await;
        assert!(
            page.status == 200
                && page.text.contains("<polyline")
                && page.text.contains("the top is 5")
                && page.text.contains("<td class=\"number\">5</td>"),
            "{}",
            page.text
        );
    });
}

#[test]
fn limits_hold_while_many_agents_ask_at_once() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        make(&world, "gpu", json!({"max_running": 3})).await;
        let mut agents = Vec::new();
        for at in 0..6 {
            agents.push(world.agent_of(&format!("m{at}"), 4, &["gpu"]).await);
        }
        for at in 0..12 {
            submit(&ana, &format!("j{at}"), "gpu", json!({})).await;
        }
        let taken = futures_util::future::join_all(agents.iter().map(|agent| agent.take(4))).await;
        let taken: Vec<i64> = taken.into_iter().flatten().map(|lease| lease.job.0).collect();
        assert_eq!(taken.len(), 3, "{taken:?}");
        assert_eq!(world.count("jobs WHERE state = 'STARTING'").await, 3);
    });
}

#[test]
fn a_waiting_job_is_moved_by_whoever_may_and_a_running_one_by_nobody() {
    on_both(|world| async move {
        let (ana, bob) = (world.person("ana").await, world.person("bob").await);
        make(&world, "gpu", json!({})).await;
        make(&world, "private", json!({"access": "assigned"})).await;
        let agent = world.agent_of("m1", 4, &["gpu"]).await;
        let id = ana.submit("one").await.id.to_string();
        let second = submit(&ana, "two", "gpu", json!({})).await;
        let to = |queue: &str, priority| JobMove {
            queue: Some(queue.into()),
            priority,
        };
        assert!(
            bob.client.move_job(&id, &to("gpu", None)).await.is_err(),
            "it is not his"
        );
        for (bad, status) in [
            (json!({"queue": "private"}), 404),
            (json!({"queue": "nowhere"}), 404),
            (json!({"priority": 0}), 422),
            (json!({"priority": 100}), 422),
        ] {
            let answer = ana
                .request("PATCH", &format!("/api/v1/experiments/{id}/job"))
                .json(&bad)
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status(), status, "{bad}");
        }
        let moved = ana.client.move_job(&id, &to("gpu", Some(7))).await.unwrap();
        assert_eq!((moved.queue.as_str(), moved.priority), ("gpu", 7));
        let detail = ana.client.queue("gpu").await.unwrap();
        assert_eq!(
            detail.waits.iter().map(|job| job.name.as_str()).collect::<Vec<_>>(),
            ["one", "two"]
        );
        let hidden = bob.client.queue("gpu").await.unwrap();
        assert_eq!(
            (hidden.queue.waiting, hidden.waits.len()),
            (2, 0),
            "others' jobs are numbers"
        );
        assert_eq!(names(&agent, 4).await, ["one", "two"]);
        let late = ana
            .client
            .move_job(&second.to_string(), &to("default", None))
            .await
            .unwrap_err();
        assert!(late.to_string().contains("does not wait"), "{late}");
        assert_eq!(world.events("verb = 'move-job' AND outcome = 'allowed'").await.len(), 1);
    });
}

#[test]
fn what_names_no_queue_goes_into_the_default_one() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        make(&world, "gpu", json!({})).await;
        change(
            &world,
            "gpu",
            QueueSettings {
                is_default: Some(true),
                ..Default::default()
            },
        )
        .await;
        assert_eq!(ana.submit("one").await.queue, "gpu");
        let queues = world.admin.client.queues().await.unwrap().items;
        let default: Vec<&str> = queues
            .iter()
            .filter(|queue| queue.is_default)
            .map(|queue| queue.name.as_str())
            .collect();
        assert_eq!(default, ["gpu"]);
        let refused = world
            .admin
            .client
            .update_queue(
                "gpu",
                &QueueSettings {
                    is_default: Some(false),
                    ..Default::default()
                },
            )
            .await;
        assert!(refused.is_err());
    });
}

#[test]
fn a_workspace_has_a_default_queue_of_its_own_while_that_takes_its_jobs() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let boss = world.person_with("boss", "WorkspaceAdmin").await;
        make(&world, "own", json!({})).await;
        make(&world, "hidden", json!({"access": "assigned"})).await;
        let goes_to = async || {
            let config = json!({"name": "one", "entrypoint": "true"});
            let made = ana.submit_config(config).await;
            let canceled = ana
                .post(&format!("/api/v1/experiments/{}/cancel", made.id), json!({}))
                .await;
            assert_eq!(canceled.status, 200, "{}", canceled.message());
            made.queue
        };
        assert_eq!(goes_to().await, "default");
        assert!(
            ana.client
                .set_default_queue("default", Some("own".into()))
                .await
                .is_err()
        );
        // Not there for her, and there but taking nothing of a workspace: neither becomes the default.
        let unseen = boss
            .client
            .set_default_queue("default", Some("hidden".into()))
            .await
            .unwrap_err();
        assert!(unseen.to_string().contains("hidden"), "{unseen}");
        let refused = world
            .admin
            .client
            .set_default_queue("default", Some("hidden".into()))
            .await
            .unwrap_err();
        assert!(refused.to_string().contains("does not take jobs"), "{refused}");
        let set = boss
            .client
            .set_default_queue("default", Some("own".into()))
            .await
            .unwrap();
        assert_eq!(set.default_queue.as_deref(), Some("own"));
        assert_eq!(goes_to().await, "own");
        let named = submit(&ana, "named", "default", json!({})).await;
        assert_eq!(
            ana.client
                .experiment(&named.to_string())
                .await
                .unwrap()
                .experiment
                .queue,
            "default"
        );
        // It takes no more of this workspace's jobs, and then takes them again.
        change(
            &world,
            "own",
            QueueSettings {
                access: Some(QueueAccess::Assigned),
                ..QueueSettings::default()
            },
        )
        .await;
        assert_eq!(goes_to().await, "default");
        change(
            &world,
            "own",
            QueueSettings {
                access: Some(QueueAccess::Open),
                ..QueueSettings::default()
            },
        )
        .await;
        assert_eq!(goes_to().await, "own");
        world.admin.client.delete_queue("own").await.unwrap();
        assert_eq!(goes_to().await, "default");
        assert_eq!(ana.client.workspace("default").await.unwrap().default_queue, None);
        make(&world, "own", json!({})).await;
        assert_eq!(
            goes_to().await,
            "default",
            "another queue of that name is another queue"
        );
        boss.client
            .set_default_queue("default", Some("own".into()))
            .await
            .unwrap();
        assert_eq!(
            boss.client
                .set_default_queue("default", None)
                .await
                .unwrap()
                .default_queue,
            None
        );
        assert_eq!(goes_to().await, "default");
    });
}

#[test]
fn what_was_assigned_at_a_deleted_queue_does_not_come_back_with_its_name() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        make(&world, "gpu", json!({"access": "assigned"})).await;
        let given = json!({"assignments": [{"role": "Writer", "user": "ana", "on": "queue:gpu"}]});
        assert_eq!(world.admin.post("/api/v1/assignments", given).await.status, 200);
        assert_eq!(ana.get("/api/v1/queues/gpu").await.status, 200);
        world.admin.client.delete_queue("gpu").await.unwrap();
        make(&world, "gpu", json!({"access": "assigned"})).await;
        assert_eq!(ana.get("/api/v1/queues/gpu").await.status, 404);
    });
}

#[test]
fn who_is_taken_out_of_the_queue_admins_changes_no_queue_as_an_administrator() {
    on_both(|world| async move {
        let root = world.person_with("root2", "Administrator").await;
        let group = |verb: &str| format!("/api/v1/groups/Queue%20admins/members{verb}");
        let users = json!({"users": ["root2"]});
        let pause = async || {
            let body = json!({"state": "paused"});
            crate::world::Answer::of(root.request("PATCH", "/api/v1/queues/default").json(&body))
                .await
                .status
        };
        assert_eq!(pause().await, 403);
        assert_eq!(world.admin.post(&group(""), users.clone()).await.status, 200);
        assert_eq!(pause().await, 200);
        assert_eq!(world.admin.post(&group("/remove"), users).await.status, 200);
        assert_eq!(pause().await, 403);
    });
}

#[test]
fn by_workspaces_the_one_with_the_fewest_slots_in_use_goes_first() {
    on_both(|world| async move {
        let ana = world.person_with("ana", "ClusterAdmin").await;
        let new = json!({"name": "Vision"});
        assert_eq!(ana.post("/api/v1/workspaces", new).await.status, 200);
        make(&world, "gpu", json!({"share": "workspaces"})).await;
        for (name, workspace) in [
            ("d1", "default"),
            ("d2", "default"),
            ("d3", "default"),
            ("v1", "Vision"),
            ("v2", "Vision"),
        ] {
            let config =
                json!({"name": name, "entrypoint": "true", "workspace": workspace, "resources": {"queue": "gpu"}});
            ana.submit_config(config).await;
        }
        let agent = world.agent_of("m1", 5, &["gpu"]).await;
        let mut order = Vec::new();
        for _ in 0..5 {
            let leases = agent.take(1).await;
            for lease in &leases {
                agent.started(held(lease)).await.unwrap();
            }
            order.extend(leases.into_iter().map(|lease| lease.name));
        }
        assert_eq!(order, ["d1", "v1", "d2", "v2", "d3"]);
    });
}

/// The original's sums counted what its lists left out.
#[test]
fn what_goes_on_in_a_queue_that_one_may_not_see_changes_nothing_that_one_sees() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        make(&world, "seen", json!({})).await;
        let hidden = make(&world, "hidden", json!({"access": "assigned"})).await;
        let away = json!({"name": "Away"});
        assert_eq!(world.admin.post("/api/v1/workspaces", away).await.status, 200);
        submit(&ana, "own", "seen", json!({})).await;
        let look = async || {
            let mut all = Vec::new();
            for path in [
                "/api/v1/queues",
                "/api/v1/queues/seen",
                "/api/v1/agents",
                "/api/v1/experiments",
                "/api/v1/workspaces",
                "/queues",
                "/",
                "/metrics",
            ] {
                let answer = ana.get(path).await;
                // Each page has a token of its own.
                let lines = answer.text.lines().filter(|line| !line.contains("form_token"));
                let mut shown = lines.collect::<Vec<_>>().join("\n");
                if let Ok(mut json) = serde_json::from_str::<Value>(&shown) {
                    // Noted by the minute, and each refusal has a number.
                    for noted in ["load", "error"] {
                        json.as_object_mut().and_then(|json| json.remove(noted));
                    }
                    shown = json.to_string();
                }
                all.push((path, answer.status, shown));
            }
            all
        };
        let before = look().await;
        let agent = world.agent_of("m1", 4, &["hidden"]).await;
        for name in ["one", "two", "three"] {
            let config =
                json!({"name": name, "entrypoint": "true", "workspace": "Away", "resources": {"queue": "hidden"}});
            world.admin.submit_config(config).await;
        }
        assert_eq!(names(&agent, 1).await, ["one"]);
        let seen = world.admin.client.queue("hidden").await.unwrap().queue;
        assert_eq!((seen.id.0, seen.waiting, seen.running), (hidden, 2, 1));
        assert_eq!(look().await, before);
    });
}
