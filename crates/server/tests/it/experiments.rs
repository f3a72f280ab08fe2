//! Experiments as people see them: seed 000's stories, lists, modes.

use bailiwick_api::experiments::{ExperimentFilter, State};
use bailiwick_api::server::AccessMode;
use serde_json::json;

use crate::world::{Answer, Person, World, held, on_both, on_both_with};

async fn names(who: &Person, query: &str) -> Vec<String> {
    let page = who.get(&format!("/api/v1/experiments{query}")).await.json();
    let items = page["items"].as_array().unwrap_or_else(|| panic!("{page}"));
    items
        .iter()
        .map(|one| one["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_data_scientist_sees_and_cancels_only_his_own_and_an_administrator_all() {
    on_both(|world| async move {
        let (ana, bob) = (
            world.person_with("mle-stop-00", "DataScientist").await,
            world.person("mle-traffic-00").await,
        );
        let viewer = world.person_with("viewer", "OwnViewer").await;
        let stop = ana.submit("stop-signs").await;
        let light = bob.submit("green-light").await;
        assert_eq!(names(&ana, "").await, ["stop-signs"]);
        assert_eq!(names(&bob, "").await, ["green-light"]);
        assert_eq!(names(&world.admin, "").await, ["green-light", "stop-signs"]);
        assert!(names(&viewer, "").await.is_empty());
        assert_eq!(
            ana.client.me().await.unwrap().sees,
            "your own experiments in workspace \"default\""
        );
        assert_eq!(world.admin.client.me().await.unwrap().sees, "all experiments");

        // Another's, by number or name, and what is not there: one sentence.
        let cancel = |who: &Person, which: String| {
            let who = who.clone();
            async move {
                who.post(&format!("/api/v1/experiments/{which}/cancel"), json!({}))
                    .await
            }
        };
        let others = cancel(&ana, light.id.to_string()).await;
        let named = cancel(&ana, "green-light".into()).await;
        let missing = cancel(&ana, "31337".into()).await;
        let unknown = cancel(&ana, "nothing".into()).await;
        assert_eq!((others.status, others.code().as_str()), (403, "forbidden"));
        assert_eq!(
            others.message(),
            format!("You can only cancel your own jobs: `{}` is not one of them", light.id)
        );
        let same = others.without(&light.id.to_string());
        for (answer, which) in [(named, "green-light"), (missing, "31337"), (unknown, "nothing")] {
            assert_eq!(answer.without(which), same);
        }
        assert_eq!(
            cancel(&viewer, stop.id.to_string()).await.without(&stop.id.to_string()),
            same
        );
        let refused = ana.post("/api/v1/users", json!({"name": "x"})).await;
        assert_eq!(
            refused.message(),
            "Insufficient permissions: mle-stop-00 needs users:create on the whole installation (globally)"
        );
        let refused = viewer
            .post("/api/v1/experiments", json!({"config": {"entrypoint": "true"}}))
            .await;
        assert_eq!(
            refused.message(),
            "Insufficient permissions: viewer needs experiments:create on workspace \"default\""
        );
        assert_eq!(cancel(&ana, "stop-signs".into()).await.json()["state"], "CANCELED");
        assert_eq!(
            cancel(&world.admin, "green-light".into()).await.json()["cause"],
            "canceled by admin"
        );
        let there = world.admin.client.experiment("green-light").await.unwrap();
        assert_eq!(there.experiment.state, State::Canceled);
        assert_eq!(cancel(&world.admin, "nothing".into()).await.status, 404);
    });
}

#[test]
fn a_name_that_fits_several_unfinished_ones_is_asked_back() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let first = ana.submit("twice").await;
        let second = ana.submit("twice").await;
        let answer = ana.post("/api/v1/experiments/twice/cancel", json!({})).await;
        assert_eq!((answer.status, answer.code().as_str()), (409, "ambiguous"));
        assert!(
            answer.message().contains(&format!("{}, {}", second.id, first.id)),
            "{}",
            answer.message()
        );
        assert_eq!(
            ana.client.experiment("twice").await.unwrap().experiment.id,
            second.id,
            "the newest is shown"
        );
        let path = format!("/api/v1/experiments/{}/cancel", second.id);
        assert_eq!(ana.post(&path, json!({})).await.status, 200);
        let answer = ana.post("/api/v1/experiments/twice/cancel", json!({})).await;
        assert_eq!(answer.json()["id"], json!(first.id), "only one is left to mean");

        ana.submit("shared").await;
        world.person("ben").await.submit("shared").await;
        let answer = world.admin.post("/api/v1/experiments/shared/cancel", json!({})).await;
        assert_eq!(
            answer.code(),
            "ambiguous",
            "an administrator's cancel does not pick one of two people's"
        );
    });
}

#[test]
fn roles_decide_who_sees_what_of_others() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let one = ana.submit("one").await;
        let viewer = world.person_with("vera", "Viewer").await;
        let editor = world.person_with("ed", "Editor").await;
        assert_eq!(names(&viewer, "").await, ["one"]);
        assert_eq!(viewer.get("/api/v1/experiments/one/logs").await.status, 200);
        let path = format!("/api/v1/experiments/{}/cancel", one.id);
        let refused = viewer.post(&path, json!({})).await;
        assert!(
            refused.message().starts_with("You can only cancel your own jobs"),
            "{}",
            refused.message()
        );
        assert_eq!(editor.post(&path, json!({})).await.json()["state"], "CANCELED");
        assert!(names(&viewer, "?mine=true").await.is_empty());
    });
}

#[test]
fn an_administrators_look_at_anothers_experiment_is_on_record() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let one = ana.submit("one").await;
        let before = world.last_event().await;
        ana.get("/api/v1/experiments/one").await;
        ana.get("/api/v1/experiments").await;
        assert!(world.events(&format!("id > {before}")).await.is_empty());
        world.admin.get("/api/v1/experiments/one").await;
        let expected = format!("admin experiments:read look experiment {} allowed", one.id);
        assert_eq!(world.events(&format!("id > {before}")).await, [expected]);
    });
}

#[test]
fn pages_have_no_gap_and_no_repetition_while_rows_come() {
    on_both(|world| async move {
        let (ana, bob) = (world.person("ana").await, world.person("bob").await);
        let mut expected = Vec::new();
        for number in 0..25 {
            expected.push(ana.submit(&format!("e{number}")).await.id);
            bob.submit("other").await;
        }
        expected.reverse();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let filter = ExperimentFilter {
                limit: Some(4),
                after,
                ..ExperimentFilter::default()
            };
            let page = ana.client.experiments(&filter).await.unwrap();
            assert!(page.items.iter().all(|one| one.owner == "ana"));
            seen.extend(page.items.iter().map(|one| one.id));
            ana.submit("meanwhile").await;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected);
        for limit in [i64::MIN, 0, i64::MAX] {
            let page = ana.get(&format!("/api/v1/experiments?limit={limit}")).await;
            assert_eq!(page.status, 200);
        }
        assert_eq!(names(&ana, "?name=e3").await, ["e3"]);
        assert_eq!(names(&ana, "?name=other").await, [""; 0]);
        assert_eq!(names(&ana, "?state=QUEUED&limit=1").await, ["meanwhile"]);
        assert_eq!(names(&ana, "?state=COMPLETED").await, [""; 0]);
    });
}

#[test]
fn with_access_control_off_everybody_is_like_an_administrator_and_ownership_is_assigned_by_itself() {
    on_both_with(
        |config| config.access = AccessMode::Off,
        |world| async move {
            let anyone = world.nobody();
            let me = anyone.client.me().await.unwrap();
            assert_eq!((me.user.name.as_str(), me.credential.as_str()), ("admin", "none"));
            let old_key = Person {
                client: anyone.client.with_key(Some("your-api-key-here")),
                ..anyone.clone()
            };
            let one = old_key.submit("one").await;
            assert_eq!(one.owner, "admin");
            let ana = world.person("ana").await;
            let two = ana.submit("two").await;
            assert_eq!(two.owner, "ana", "a live key still says who one is");
            assert_eq!(names(&anyone, "").await, ["two", "one"]);
            assert_eq!(names(&ana, "").await, ["two", "one"]);
            assert_eq!(
                ana.post(&format!("/api/v1/experiments/{}/cancel", one.id), json!({}))
                    .await
                    .status,
                200
            );
            assert_eq!(anyone.post("/api/v1/users", json!({"name": "eve"})).await.status, 200);
            assert_eq!(anyone.get("/api/v1/info").await.json()["access"], "off");

            // No key protects here from a page in somebody's browser.
            for (header, value) in [("origin", "http://evil.example"), ("host", "evil.example:8080")] {
                let request = anyone.request("POST", "/api/v1/experiments").header(header, value);
                let answer = Answer::of(request.body(r#"{"config": {"entrypoint": "id"}}"#)).await;
                assert_eq!(answer.status, 403, "{header}");
            }
        },
    );
}

#[test]
fn in_mode_basic_there_are_owners_and_administrators_and_no_roles() {
    on_both_with(
        |config| config.access = AccessMode::Basic,
        |world| async move {
            let ana = world.person("ana").await;
            let viewer = world.person_with("vera", "Viewer").await;
            ana.submit("one").await;
            assert!(names(&viewer, "").await.is_empty());
            assert_eq!(viewer.get("/api/v1/experiments/one").await.status, 404);
            assert_eq!(names(&world.admin, "").await, ["one"]);
            assert_eq!(viewer.post("/api/v1/users", json!({"name": "x"})).await.status, 403);
            let agent = world.agent("machine-1", 1).await;
            let lease = agent.take(1).await.remove(0);
            assert_eq!(lease.name, "one", "agents serve here too");
            let account = Person {
                client: ana.client.with_key(Some(&agent.key)),
                ..ana.clone()
            };
            let submitted = account
                .post("/api/v1/experiments", json!({"config": {"entrypoint": "true"}}))
                .await;
            assert_eq!(submitted.status, 403, "and do nothing else");
            assert_eq!(ana.post("/api/v1/experiments/one/cancel", json!({})).await.status, 200);
        },
    );
}

#[test]
fn everything_stays_when_access_control_is_switched_on() {
    on_both_with(
        |config| config.access = AccessMode::Off,
        |world| async move {
            let before = world.nobody().submit("before").await;
            let ana = world.person("ana").await;
            ana.submit("hers").await;
            let url = world.restart(|config| config.access = AccessMode::Rbac).await;
            let (ana, admin) = (ana.at(&url), world.admin.at(&url));
            assert_eq!(world.nobody().at(&url).get("/api/v1/me").await.status, 401);
            assert_eq!(names(&ana, "").await, ["hers"]);
            assert_eq!(names(&admin, "").await, ["hers", "before"]);
            assert_eq!(
                admin
                    .client
                    .experiment(&before.id.to_string())
                    .await
                    .unwrap()
                    .experiment
                    .owner,
                "admin"
            );
        },
    );
}

#[test]
fn names_with_anything_in_them_are_kept_and_found() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        for name in [
            "green light",
            "träning №5",
            "a/b",
            "x'; DROP TABLE experiments--",
            "{{7*7}}",
            "😀",
            "+5",
            "-5",
            "%2e",
            "a?b#c",
        ] {
            let made = ana.submit(name).await;
            let found = ana.client.experiment(name).await.unwrap().experiment;
            assert_eq!((found.id, found.name.as_str()), (made.id, name));
        }
        for bad in ["", " x", "12", "a\nb", "a\u{202E}b", &"x".repeat(256)] {
            let answer = ana
                .post(
                    "/api/v1/experiments",
                    json!({"config": {"name": bad, "entrypoint": "true"}}),
                )
                .await;
            assert_eq!(answer.status, 422, "{bad:?}");
        }
    });
}

#[test]
fn a_configuration_that_is_not_right_is_refused_in_words() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let refused = |config: serde_json::Value| {
            let ana = ana.clone();
            async move {
                let answer = ana.post("/api/v1/experiments", json!({"config": config})).await;
                assert_eq!(answer.status, 422, "{}", answer.text);
                answer.message()
            }
        };
        let typo = refused(json!({"entrypoint": "true", "max_restart": 1})).await;
        assert!(typo.contains("did you mean `max_restarts`?"), "{typo}");
        assert!(refused(json!({})).await.contains("entrypoint"));
        assert!(refused(json!([])).await.contains("not a map"));
        refused(json!({"entrypoint": "true", "max_restarts": -1})).await;
        refused(json!({"entrypoint": "true", "max_restarts": 1e300})).await;
        refused(json!({"entrypoint": "true", "hyperparameters": {"text": "a\u{0}b"}})).await;
        for (key, name) in [("workspace", "nowhere"), ("project", "nowhere")] {
            let answer = ana
                .post(
                    "/api/v1/experiments",
                    json!({"config": {"entrypoint": "true", key: name}}),
                )
                .await;
            assert_eq!(
                (answer.status, answer.message()),
                (404, format!("there is no {key} `nowhere`"))
            );
        }
        let config = json!({"entrypoint": "true", "resources": {"queue": "nowhere"}});
        assert_eq!(
            ana.post("/api/v1/experiments", json!({"config": config})).await.status,
            404
        );
        assert_eq!(world.count("experiments").await, 0);
    });
}

#[test]
fn numbers_of_queues_and_agents_count_what_is_there() {
    on_both(|world: World| async move {
        let ana = world.person("ana").await;
        ana.submit("one").await;
        ana.submit("two").await;
        let agent = world.agent("machine-1", 1).await;
        let lease = held(&agent.take(1).await[0]);
        let queue = ana.client.queues().await.unwrap().items.remove(0);
        assert_eq!((queue.name.as_str(), queue.waiting, queue.running), ("default", 1, 1));
        let seen = ana.client.agents().await.unwrap().items.remove(0);
        assert_eq!((seen.used_slots, seen.address, seen.state.as_str()), (1, None, "up"));
        assert!(world.admin.client.agents().await.unwrap().items[0].address.is_some());
        let viewer = world.person_with("own", "OwnViewer").await;
        assert!(viewer.client.queues().await.unwrap().items.is_empty());
        assert!(viewer.client.agents().await.unwrap().items.is_empty());
        agent.ended(lease, 0).await.unwrap();
        world.pass_ms(180_000);
        assert_eq!(ana.client.agents().await.unwrap().items[0].state, "lost");
    });
}
