//! Stacks: private until shared, and what is submitted with them.

use bailiwick_api::stacks::{StackFilter, StackSettings};
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::world::{Answer, Person, World, on_both};

async fn make(person: &Person, name: &str, more: Value) -> i64 {
    let mut body = more;
    body["name"] = json!(name);
    let answer = person.post("/api/v1/stacks", body).await;
    assert_eq!(answer.status, 200, "{}", answer.message());
    answer.json()["id"].as_i64().unwrap()
}

async fn assign(by: &Person, what: Value) -> Answer {
    by.post("/api/v1/assignments", json!({"assignments": [what]})).await
}

async fn take(by: &Person, what: Value) -> Answer {
    by.post("/api/v1/assignments/remove", json!({"assignments": [what]}))
        .await
}

async fn patch(person: &Person, which: &str, body: Value) -> Answer {
    let path = format!("/api/v1/stacks/{}", bailiwick_client::segment(which));
    Answer::of(person.request("PATCH", &path).json(&body)).await
}

async fn names(person: &Person, owner: Option<&str>) -> Vec<String> {
    let filter = StackFilter {
        owner: owner.map(str::to_owned),
    };
    let stacks = person.client.stacks(&filter).await.unwrap();
    stacks
        .items
        .into_iter()
        .map(|stack| format!("{}/{}", stack.owner, stack.name))
        .collect()
}

async fn run(person: &Person, stack: &str, more: Value) -> Answer {
    let mut config = json!({"name": "one", "entrypoint": "true", "stack": stack});
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    person.post("/api/v1/experiments", json!({"config": config})).await
}

/// Each way to a stack of another is answered as it is for one that is not there.
async fn is_not_there(person: &Person, id: i64, full_name: &str) {
    let none = "99999";
    for which in [id.to_string(), full_name.to_owned()] {
        let path = |which: &str| format!("/api/v1/stacks/{}", bailiwick_client::segment(which));
        for (method, body) in [
            ("GET", None),
            ("DELETE", None),
            ("PATCH", Some(json!({"description": "mine"}))),
        ] {
            let ask = async |which: &str| {
                let mut request = person.request(method, &path(which));
                if let Some(body) = &body {
                    request = request.json(body);
                }
                Answer::of(request).await
            };
            let (there, not) = (ask(&which).await, ask(none).await);
            assert_eq!(there.status, 404, "{method} {which}: {}", there.message());
            assert_eq!(there.message().replace(&which, none), not.message(), "{method} {which}");
        }
        let (there, not) = (run(person, &which, json!({})).await, run(person, none, json!({})).await);
        assert_eq!(there.status, 404, "{}", there.message());
        assert_eq!(there.message().replace(&which, none), not.message());
        let share = |which: &str| json!({"role": "Writer", "user": person.name, "on": format!("stack:{which}")});
        assert_eq!(assign(person, share(&which)).await.status, 404);
        let question = |which: &str| json!({"permission": "stacks:read", "on": format!("stack:{which}")});
        let (there, not) = (
            person.post("/api/v1/access/can-i", question(&which)).await,
            person.post("/api/v1/access/can-i", question(none)).await,
        );
        assert_eq!(there.text.replace(&which, none), not.text);
    }
    let owner = full_name.split_once('/').unwrap().0;
    for filter in [None, Some(owner)] {
        assert!(!names(person, filter).await.iter().any(|name| name == full_name));
    }
}

#[test]
fn a_stack_is_its_owners_alone_until_it_is_shared_and_again_when_it_is_taken_back() {
    on_both(|world| async move {
        let (ana, ben, eve) = (
            world.person("ana").await,
            world.person("ben").await,
            world.person("eve").await,
        );
        // Roles in a workspace open no stack.
        let editor = world.person_with("ed", "Editor").await;
        let id = make(
            &ana,
            "gpu",
            json!({"description": "secret", "environment": {"TOKEN": "hidden-value"}}),
        )
        .await;
        for other in [&ben, &editor] {
            is_not_there(other, id, "ana/gpu").await;
        }
        // The same name tells nothing of hers, and is another stack.
        make(&ben, "GPU", json!({})).await;
        assert_eq!(names(&ben, None).await, ["ben/GPU"]);
        let twice = ben.post("/api/v1/stacks", json!({"name": "gpu"})).await;
        assert_eq!(twice.status, 409, "{}", twice.message());

        let reader = json!({"role": "Reader", "user": "ben", "on": "stack:gpu"});
        assert_eq!(assign(&ana, reader.clone()).await.status, 200);
        assert_eq!(names(&ben, None).await, ["ana/gpu", "ben/GPU"]);
        assert!(ana.client.stack("gpu").await.unwrap().shared);
        assert_eq!(ben.client.stack("ana/gpu").await.unwrap().description, "secret");
        // By the bare name one's own is meant.
        assert_eq!(ben.client.stack("gpu").await.unwrap().owner, "ben");
        let refused = patch(&ben, "ana/gpu", json!({"description": "his"})).await;
        assert_eq!(refused.status, 403, "{}", refused.message());
        assert!(refused.message().contains("stacks:update"), "{}", refused.message());
        assert_eq!(ben.delete("/api/v1/stacks/ana%2Fgpu").await.status, 403);
        let on = json!({"role": "Reader", "user": "eve", "on": "stack:ana/gpu"});
        assert_eq!(assign(&ben, on).await.status, 403, "a reader hands nothing on");

        // Writer changes it, and neither deletes nor shares it.
        let writer = json!({"role": "Writer", "user": "ben", "on": "stack:gpu"});
        assert_eq!(assign(&ana, writer.clone()).await.status, 200);
        let changed = patch(&ben, "ana/gpu", json!({"description": "ours"})).await;
        assert_eq!(changed.status, 200, "{}", changed.message());
        assert_eq!(ben.delete("/api/v1/stacks/ana%2Fgpu").await.status, 403);

        for what in [writer, reader] {
            assert_eq!(take(&ana, what).await.status, 200);
        }
        is_not_there(&ben, id, "ana/gpu").await;
        assert!(!ana.client.stack("gpu").await.unwrap().shared);

        // Everybody is the group Users.
        let all = json!({"role": "Reader", "group": "Users", "on": "stack:gpu"});
        assert_eq!(assign(&ana, all).await.status, 200);
        assert_eq!(names(&eve, Some("ana")).await, ["ana/gpu"]);
        let deleted = ana.delete("/api/v1/stacks/gpu").await;
        assert_eq!(deleted.status, 200, "{}", deleted.message());
        // Another of the same name is not what was shared.
        make(&ana, "gpu", json!({})).await;
        assert!(names(&eve, None).await.is_empty());
        // The values of variables stand nowhere in the audit.
        assert!(world.events("detail LIKE '%hidden-value%'").await.is_empty());
    });
}

#[test]
fn what_a_stack_cannot_be_is_refused_with_the_reason() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        for bad in [
            json!({}),
            json!({"name": ""}),
            json!({"name": "7"}),
            json!({"name": "a/b"}),
            json!({"name": "x", "executor": "kubernetes"}),
            json!({"name": "x", "artifact_store": "somewhere"}),
            json!({"name": "x", "artifact_store": "file://relative/path"}),
            json!({"name": "x", "artifact_store": "s3://key:secret@bucket"}),
            json!({"name": "x", "environment": {"A=B": "1"}}),
            json!({"name": "x", "environment": {"LD_PRELOAD": "/tmp/x.so"}}),
            json!({"name": "x", "environment": {"ML_API_KEY": "x"}}),
            json!({"name": "x", "environment": {"CUDA_VISIBLE_DEVICES": "7"}}),
            json!({"name": "x", "environment": {"A": "x".repeat(70_000)}}),
            json!({"name": "x", "description": "d".repeat(5000)}),
            json!({"name": "x", "colour": "red"}),
        ] {
            assert_eq!(ana.post("/api/v1/stacks", bad.clone()).await.status, 422, "{bad}");
        }
        let assigned = json!({"name": "hidden", "access": "assigned"});
        assert_eq!(world.admin.post("/api/v1/queues", assigned).await.status, 200);
        for queue in ["hidden", "nothing"] {
            let answer = ana.post("/api/v1/stacks", json!({"name": "x", "queue": queue})).await;
            assert_eq!(answer.status, 404, "{}", answer.message());
            assert!(answer.message().contains(queue) && answer.message().contains("queue"));
        }
        for good in ["file:///srv/artifacts", "s3://bucket/prefix", "gs://bucket"] {
            make(&ana, &good.replace([':', '/'], "-"), json!({"artifact_store": good})).await;
        }
        assert!(names(&ana, None).await.len() == 3, "what was refused left nothing");
    });
}

#[test]
fn a_submission_takes_queue_and_environment_of_its_stack_and_keeps_them() {
    on_both(|world| async move {
        let (ana, ben) = (world.person("ana").await, world.person("ben").await);
        for queue in ["gpu", "other"] {
            assert_eq!(
                world.admin.post("/api/v1/queues", json!({"name": queue})).await.status,
                200
            );
        }
        let stack = json!({"queue": "gpu", "environment": {"A": "stack", "B": "stack"}});
        let id = make(&ana, "fast", stack).await;
        let own = json!({"environment": {"environment_variables": {"B": "mine"}}});
        let first = run(&ana, "fast", own).await;
        assert_eq!(first.status, 200, "{}", first.message());
        assert_eq!(first.json()["queue"], "gpu");
        let number = first.json()["id"].as_i64().unwrap().to_string();
        let detail = ana.client.experiment(&number).await.unwrap();
        assert_eq!(detail.stack.as_deref(), Some("ana/fast"));
        // A queue that is named counts more.
        let named = run(&ana, "fast", json!({"resources": {"queue": "other"}})).await;
        assert_eq!(named.json()["queue"], "other", "{}", named.message());

        // Renamed, changed and deleted: what waits keeps what it was submitted with.
        let renamed = patch(&ana, "fast", json!({"name": "slow", "environment": {"A": "later"}})).await;
        assert_eq!(renamed.status, 200, "{}", renamed.message());
        assert_eq!(run(&ana, "fast", json!({})).await.status, 404);
        let shared = json!({"role": "Reader", "user": "ben", "on": format!("stack:{id}")});
        assert_eq!(assign(&ana, shared).await.status, 200);
        let his = run(&ben, "ana/slow", json!({})).await;
        assert_eq!(
            (his.status, his.json()["queue"].as_str()),
            (200, Some("gpu")),
            "{}",
            his.message()
        );
        assert_eq!(ana.delete(&format!("/api/v1/stacks/{id}")).await.status, 200);
        assert_eq!(run(&ben, "ana/slow", json!({})).await.status, 404);
        let agent = world.agent_of("m1", 4, &["gpu"]).await;
        let leases = agent.take(4).await;
        let env = |at: usize, key: &str| {
            let (own, below) = (&leases[at].env, &leases[at].vault.env);
            own.get(key).or(below.get(key)).cloned().unwrap_or_default()
        };
        assert_eq!(leases.len(), 2);
        assert_eq!((env(0, "A").as_str(), env(0, "B").as_str()), ("stack", "mine"));
        assert_eq!(env(1, "A"), "later");
    });
}

#[test]
fn a_stack_lends_nobody_its_queue_and_does_not_tell_of_it() {
    on_both(|world| async move {
        let (ana, ben) = (world.person("ana").await, world.person("ben").await);
        let hidden = json!({"name": "hidden-queue", "access": "assigned"});
        assert_eq!(world.admin.post("/api/v1/queues", hidden).await.status, 200);
        let hers = json!({"role": "Writer", "user": "ana", "on": "queue:hidden-queue"});
        assert_eq!(assign(&world.admin, hers).await.status, 200);
        make(&ana, "s", json!({"queue": "hidden-queue"})).await;
        assert_eq!(run(&ana, "s", json!({})).await.status, 200);
        for role in ["Reader", "Writer"] {
            let shared = json!({"role": role, "user": "ben", "on": "stack:s"});
            assert_eq!(assign(&ana, shared).await.status, 200);
        }
        let seen = ben.get("/api/v1/stacks/ana%2Fs").await;
        let refused = run(&ben, "ana/s", json!({})).await;
        assert_eq!(refused.status, 404, "{}", refused.message());
        // He changes it, and the queue that he does not see stays.
        let changed = patch(&ben, "ana/s", json!({"description": "ours"})).await;
        for answer in [&seen, &refused, &changed] {
            assert!(!answer.text.contains("hidden-queue"), "{}", answer.text);
        }
        assert_eq!(changed.status, 200, "{}", changed.message());
        assert_eq!(
            ana.client.stack("s").await.unwrap().queue.as_deref(),
            Some("hidden-queue")
        );
        // Nor does a stack lend the queue where it may only be seen.
        let sees = json!({"role": "Reader", "user": "ben", "on": "queue:hidden-queue"});
        assert_eq!(assign(&world.admin, sees).await.status, 200);
        assert_eq!(run(&ben, "ana/s", json!({})).await.status, 403);
    });
}

#[test]
fn the_stacks_of_a_removed_user_stay_under_the_name() {
    on_both(|world| async move {
        let (ana, ben) = (world.person("ana").await, world.person("ben").await);
        make(&ana, "private", json!({})).await;
        make(&ana, "shared", json!({})).await;
        let shared = json!({"role": "Reader", "user": "ben", "on": "stack:shared"});
        assert_eq!(assign(&ana, shared).await.status, 200);
        let removed = world.admin.delete("/api/v1/users/ana").await;
        assert_eq!(removed.status, 200, "{}", removed.message());
        let filter = StackFilter::default();
        let all = world.admin.client.stacks(&filter).await.unwrap().items;
        let all: Vec<_> = all
            .iter()
            .map(|stack| (stack.name.as_str(), stack.owner.starts_with("ana")))
            .collect();
        assert_eq!(all, [("private", true), ("shared", true)]);
        assert_eq!(ben.client.stacks(&filter).await.unwrap().items.len(), 1);
        // Somebody new of that name begins with nothing.
        let again = world.person("ana").await;
        assert!(again.client.stacks(&filter).await.unwrap().items.is_empty());
        make(&again, "private", json!({})).await;
        let change = StackSettings {
            description: Some("hers".into()),
            ..StackSettings::default()
        };
        let changed = again.client.update_stack("private", &change).await.unwrap();
        assert_eq!(changed.description, "hers");
    });
}

#[test]
fn an_older_installation_lets_everybody_make_stacks_too() {
    on_both(|world| async move {
        let words = |rows: Vec<sqlx::any::AnyRow>| sqlx::Row::get::<String, _>(&rows[0], 0);
        let fresh = words(
            world
                .rows("SELECT permissions FROM roles WHERE name_key = 'member'")
                .await,
        );
        // As it was before, with what another migration may have added, and once by hand.
        let before = r#"["me:update","tokens:create:own","vaults:read:own","stacks:read:own"]"#;
        world
            .sql(format!(
                "UPDATE roles SET permissions = '{before}' WHERE name_key = 'member'"
            ))
            .await
            .unwrap();
        let migration = include_str!("../../../store/src/migrations/0009_stacks.sql");
        let updates: Vec<&str> = migration
            .lines()
            .filter(|line| line.starts_with("UPDATE roles"))
            .collect();
        assert_eq!(updates.len(), 4);
        for _ in 0..2 {
            for update in &updates {
                world.sql(update.trim_end_matches(';')).await.unwrap();
            }
        }
        let after = words(
            world
                .rows("SELECT permissions FROM roles WHERE name_key = 'member'")
                .await,
        );
        let expected = r#"["me:update","tokens:create:own","vaults:read:own","stacks:read:own","stacks:create","stacks:update:own","stacks:delete:own"]"#;
        assert_eq!(after, expected);
        let fresh: Vec<String> = serde_json::from_str(&fresh).unwrap();
        for word in [
            "stacks:create",
            "stacks:read:own",
            "stacks:update:own",
            "stacks:delete:own",
        ] {
            assert!(fresh.iter().any(|one| one == word), "{word}");
        }
    });
}

#[test]
fn stacks_are_made_changed_shared_and_deleted_by_forms() {
    on_both(|world: World| async move {
        let (ana, ben) = (world.person("ana").await, world.person("ben").await);
        let (hers, his) = (Browser::of(&world, &ana).await, Browser::of(&world, &ben).await);
        assert!(hers.get("/stacks").await.page().contains("You have no stack"));
        let made = hers
            .post(
                "/stacks/new",
                &[
                    ("act", "create"),
                    ("name", "gpu"),
                    ("queue", "default"),
                    ("environment", "A=1\r\nB=2"),
                ],
            )
            .await
            .leads();
        let page = hers.get(&made).await.page();
        for part in [
            "<h1>gpu</h1>",
            "private",
            "<code>B</code>",
            "Share it",
            "ml run --stack gpu",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert_eq!(his.get(&made).await.status, 404);
        assert!(!his.get("/stacks").await.page().contains("gpu"));
        let bad = hers
            .post(
                &made,
                &[("act", "change"), ("name", "gpu"), ("artifact_store", "nowhere")],
            )
            .await;
        assert!(bad.text.contains("is no place for artifacts"), "{}", bad.text);
        hers.post(
            &made,
            &[("act", "share"), ("kind", "user"), ("who", "ben"), ("role", "Reader")],
        )
        .await
        .leads();
        let page = his.get(&made).await.page();
        assert!(page.contains("ml run --stack ana/gpu"), "{page}");
        for part in ["Share it", "Change this stack", "Delete the stack"] {
            assert!(!page.contains(part), "{part}: {page}");
        }
        assert_eq!(his.post(&made, &[("act", "delete"), ("sure", "yes")]).await.status, 403);
        hers.post(
            &made,
            &[
                ("act", "change"),
                ("name", "a100"),
                ("queue", "default"),
                ("environment", "A=3"),
            ],
        )
        .await
        .leads();
        assert!(hers.get("/stacks").await.page().contains("a100"));
        let unsure = hers.post(&made, &[("act", "delete")]).await;
        assert!(unsure.text.contains("not ticked"), "{}", unsure.text);
        assert_eq!(
            hers.post(&made, &[("act", "delete"), ("sure", "yes")]).await.leads(),
            "/stacks"
        );
        assert_eq!(hers.get(&made).await.status, 404);
    });
}
