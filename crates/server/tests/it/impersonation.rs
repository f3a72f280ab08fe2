//! Jobs that run as their owners (`ml agent --use-owner-token`), and whose access the others have.

use bailiwick_api::experiments::State;
use bailiwick_api::users::{ChangeServiceAccount, ChangeUser, NewServiceAccount};
use serde_json::json;

use crate::world::{Hand, Person, World, held, on_both, registration};

/// An agent that runs jobs as their owners, under the account `machine`.
async fn impersonating(world: &World) -> Hand {
    let new = NewServiceAccount {
        name: "machine".into(),
        serve: vec!["default".into()],
        impersonate: true,
    };
    let made = world.admin.client.create_service_account(&new).await.unwrap();
    let client = world.admin.client.with_key(Some(&made.secret));
    let mut register = registration("machine-1", 4);
    register.use_owner_token = true;
    let known = client.register_agent(&register).await.unwrap();
    Hand {
        client,
        id: known.agent,
        key: made.secret,
    }
}

async fn allow(world: &World, account: &str, impersonate: bool) {
    let change = ChangeServiceAccount {
        name: None,
        impersonate: Some(impersonate),
    };
    world
        .admin
        .client
        .change_service_account(account, &change)
        .await
        .unwrap();
}

fn job(world: &World, token: &str) -> Person {
    Person {
        key: token.into(),
        client: world.admin.client.with_key(Some(token)),
        ..world.nobody()
    }
}

#[test]
fn an_agent_whose_account_may_not_impersonate_is_refused_and_told_what_to_ask_for() {
    on_both(|world| async move {
        let agent = world.agent("machine-1", 1).await;
        let mut register = registration("machine-1", 1);
        register.use_owner_token = true;
        let refused = agent.client.register_agent(&register).await.unwrap_err();
        assert_eq!(
            (refused.status(), refused.code()),
            (Some(403), Some("may_not_impersonate"))
        );
        let hint = refused.hint().unwrap();
        assert!(
            hint.contains("`ml service-account edit machine-1-account --allow-impersonation true`"),
            "{hint}"
        );
        assert_eq!(
            world.events("outcome = 'denied' AND object_kind = 'agent'").await.len(),
            1
        );
        allow(&world, "machine-1-account", true).await;
        agent.client.register_agent(&register).await.unwrap();
    });
}

#[test]
fn a_job_reads_what_its_owner_may_read_and_writes_its_own_experiment_alone() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let bob = world.person("bob").await;
        let (one, two, bobs) = (
            ana.submit("one").await,
            ana.submit("two").await,
            bob.submit("bobs").await,
        );
        let agent = impersonating(&world).await;
        let lease = agent.take(1).await.remove(0);
        assert_eq!(lease.experiment, one.id);
        let job = job(&world, &lease.token);
        assert_eq!(job.client.me().await.unwrap().user.name, "ana");
        assert_eq!(job.get(&format!("/api/v1/experiments/{}", two.id)).await.status, 200);
        assert_eq!(job.get(&format!("/api/v1/experiments/{}", bobs.id)).await.status, 404);
        let listed = job.get("/api/v1/experiments").await.json()["items"]
            .as_array()
            .unwrap()
            .len();
        assert_eq!(listed, 2, "its owner's");
        assert_eq!(job.get("/api/v1/workspaces/default").await.status, 200);
        // It looks at the others and changes none of them, and does not come near people and keys.
        assert_eq!(
            job.post(&format!("/api/v1/experiments/{}/cancel", two.id), json!({}))
                .await
                .status,
            403
        );
        let more = json!({"config": {"name": "more", "entrypoint": "true"}});
        assert_eq!(job.post("/api/v1/experiments", more).await.status, 403);
        assert_eq!(job.post("/api/v1/tokens", json!({})).await.status, 403);
        assert_eq!(job.get("/api/v1/users").await.status, 403);
        job.client.report_progress(&one.id.to_string(), 0.5).await.unwrap();
        // Both stand in the audit, and the event is found by either.
        for who in ["machine", "ana"] {
            let found = world
                .admin
                .get(&format!("/api/v1/audit?user={who}&denied=true&limit=1"))
                .await
                .json();
            let event = &found["items"][0];
            assert_eq!(
                event["principal"],
                format!("machine (job of experiment {})", one.id),
                "{found}"
            );
            assert_eq!(event["on_behalf_of"], "ana", "{found}");
        }
        let taken = world
            .rows("SELECT principal, on_behalf_of FROM audit_events WHERE verb = 'take'")
            .await;
        let column = |at: usize| sqlx::Row::get::<String, _>(&taken[0], at);
        assert_eq!((column(0).as_str(), column(1).as_str()), ("machine", "ana"));
    });
}

#[test]
fn a_job_has_none_of_the_administrative_rights_of_its_owner() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let hidden = ana.submit("hidden").await;
        let boss = world.person_with("boss", "Administrator").await;
        let own = boss.submit("own").await;
        let agent = impersonating(&world).await;
        let leases = agent.take(4).await;
        let lease = leases.iter().find(|lease| lease.experiment == own.id).unwrap();
        let job = job(&world, &lease.token);
        assert_eq!(
            boss.get(&format!("/api/v1/experiments/{}", hidden.id)).await.status,
            200
        );
        assert_eq!(job.get(&format!("/api/v1/experiments/{}", hidden.id)).await.status, 404);
        let listed = job.get("/api/v1/experiments").await.json()["items"]
            .as_array()
            .unwrap()
            .len();
        assert_eq!(listed, 1, "its own");
        assert_eq!(job.get(&format!("/api/v1/experiments/{}", own.id)).await.status, 200);
        for path in [
            "/api/v1/users",
            "/api/v1/audit",
            "/api/v1/service-accounts",
            "/api/v1/tokens",
        ] {
            assert_eq!(job.get(path).await.status, 403, "{path}");
        }
        // What he holds besides counts.
        let viewer = json!({"assignments": [{"role": "Viewer", "user": "boss", "on": "workspace:default"}]});
        assert_eq!(world.admin.post("/api/v1/assignments", viewer).await.status, 200);
        assert_eq!(job.get(&format!("/api/v1/experiments/{}", hidden.id)).await.status, 200);
    });
}

#[test]
fn withdrawing_the_permission_ends_the_tokens_and_gives_no_more_work() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let one = ana.submit("one").await;
        let agent = impersonating(&world).await;
        let lease = agent.take(1).await.remove(0);
        agent.started(held(&lease)).await.unwrap();
        let job = job(&world, &lease.token);
        assert_eq!(job.get("/api/v1/me").await.status, 200);
        let waiter = agent.clone();
        let running = held(&lease);
        let waits = tokio::spawn(async move { waiter.try_poll(&[running], 1, 30_000).await });
        allow(&world, "machine", false).await;
        assert_eq!(job.get("/api/v1/me").await.status, 401, "at the next request");
        let refused = waits
            .await
            .unwrap()
            .unwrap()
            .refused
            .expect("it hears of it while it waits");
        assert!(refused.contains("--allow-impersonation true"), "{refused}");
        let two = ana.submit("two").await;
        let answer = agent.poll(&[held(&lease)], 1).await;
        assert!(answer.start.is_empty() && answer.refused.is_some() && answer.drop.is_empty());
        let waiting = ana.client.experiment(&two.id.to_string()).await.unwrap().experiment;
        assert_eq!(waiting.state, State::Queued, "it waits for another agent");
        // The job that runs may end in order.
        agent.ended(held(&lease), 0).await.unwrap();
        assert_eq!(
            ana.client
                .experiment(&one.id.to_string())
                .await
                .unwrap()
                .experiment
                .state,
            State::Completed
        );
        allow(&world, "machine", true).await;
        assert_eq!(agent.take(1).await.len(), 1);
        assert_eq!(
            job.get("/api/v1/me").await.status,
            401,
            "what has ended does not come back"
        );
    });
}

#[test]
fn a_token_that_ended_with_the_permission_stays_ended_while_its_job_runs_on() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let one = ana.submit("one").await;
        let agent = impersonating(&world).await;
        let lease = agent.take(1).await.remove(0);
        agent.started(held(&lease)).await.unwrap();
        let job = job(&world, &lease.token);
        let own = format!("/api/v1/experiments/{}", one.id);
        assert_eq!(job.get(&own).await.status, 200);
        allow(&world, "machine", false).await;
        allow(&world, "machine", true).await;
        assert_eq!(job.get(&own).await.status, 401);
        agent.ended(held(&lease), 0).await.unwrap();
    });
}

#[test]
fn a_job_whose_owner_is_gone_fails_when_it_is_taken_and_the_next_one_runs() {
    on_both(|world| async move {
        let (ana, eve, bob) = (
            world.person("ana").await,
            world.person("eve").await,
            world.person("bob").await,
        );
        let (anas, eves, bobs) = (
            ana.submit("one").await,
            eve.submit("two").await,
            bob.submit("three").await,
        );
        let agent = impersonating(&world).await;
        world.admin.client.deactivate_user("ana").await.unwrap();
        world.admin.client.remove_user("eve").await.unwrap();
        let leases = agent.take(1).await;
        assert_eq!(leases.len(), 1);
        assert_eq!(leases[0].experiment, bobs.id);
        for (id, owner, state) in [(anas.id, "ana", "deactivated"), (eves.id, "eve", "removed")] {
            let failed = world.admin.client.experiment(&id.to_string()).await.unwrap().experiment;
            assert_eq!(failed.state, State::Error);
            assert!(
                failed.cause.contains(&format!("its owner {owner} is {state}")),
                "{}",
                failed.cause
            );
            assert!(failed.ended_at.is_some());
        }
        assert_eq!(world.events("verb = 'take' AND outcome = 'denied'").await.len(), 2);
    });
}

#[test]
fn without_the_flag_a_job_has_the_access_of_the_agents_account() {
    on_both(|world| async move {
        let (ana, bob) = (world.person("ana").await, world.person("bob").await);
        let (one, two, bobs) = (
            ana.submit("one").await,
            ana.submit("two").await,
            bob.submit("bobs").await,
        );
        let agent = world.agent("machine-1", 1).await;
        let lease = agent.take(1).await.remove(0);
        let job = job(&world, &lease.token);
        assert_eq!(job.client.me().await.unwrap().user.name, "machine-1-account");
        // Its own experiment it always reaches, though the account holds no role but one at the queue.
        job.client.report_progress(&one.id.to_string(), 0.5).await.unwrap();
        assert_eq!(job.get("/api/v1/experiments/one").await.status, 200);
        assert_eq!(
            job.get(&format!("/api/v1/experiments/{}", two.id)).await.status,
            404,
            "its owner's other one"
        );
        assert_eq!(
            job.get("/api/v1/experiments").await.json()["items"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        // What the account may read, the job may.
        let role = json!({"role": "Viewer", "user": "machine-1-account", "on": "workspace:default"});
        assert_eq!(
            world
                .admin
                .post("/api/v1/assignments", json!({"assignments": [role]}))
                .await
                .status,
            200
        );
        assert_eq!(job.get(&format!("/api/v1/experiments/{}", bobs.id)).await.status, 200);
        let cancel = job
            .post(&format!("/api/v1/experiments/{}/cancel", bobs.id), json!({}))
            .await;
        assert_eq!(cancel.status, 403, "to look and no more: {}", cancel.text);
        // It still reaches its own when the account loses everything, and nothing when its owner goes.
        let take = json!({"role": "Viewer", "user": "machine-1-account", "on": "workspace:default"});
        world
            .admin
            .post("/api/v1/assignments/remove", json!({"assignments": [take]}))
            .await;
        job.client.report_progress(&one.id.to_string(), 0.6).await.unwrap();
        let off = ChangeUser {
            active: Some(false),
            ..ChangeUser::default()
        };
        world.admin.client.change_user("ana", &off).await.unwrap();
        assert_eq!(job.get("/api/v1/me").await.status, 401);
    });
}
