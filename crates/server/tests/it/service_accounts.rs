//! Service accounts: their keys, what they hold, and what ends with them.

use bailiwick_api::agents::OnLostAgent;
use bailiwick_api::experiments::State;
use bailiwick_api::tokens::NewCredential;
use bailiwick_api::users::{ChangeServiceAccount, NewServiceAccount};
use serde_json::json;

use crate::browser::Browser;
use crate::world::{Person, World, eventually, held, on_both, on_both_with};

async fn account(world: &World, name: &str) -> Person {
    let new = NewServiceAccount {
        name: name.into(),
        ..NewServiceAccount::default()
    };
    let made = world.admin.client.create_service_account(&new).await.unwrap();
    Person::of(&world.admin.client, name, &made.secret).await
}

#[test]
fn an_account_is_made_shown_renamed_and_let_impersonate() {
    on_both(|world| async move {
        let admin = &world.admin.client;
        let new = NewServiceAccount {
            name: "robot".into(),
            impersonate: true,
            ..NewServiceAccount::default()
        };
        let made = admin.create_service_account(&new).await.unwrap();
        assert!(
            made.clearml.starts_with("api {\n  web_server: http://") && made.clearml.contains(&made.secret),
            "{}",
            made.clearml
        );
        assert!(
            made.config.contains(&format!("api_key = \"{}\"", made.secret)),
            "{}",
            made.config
        );
        admin
            .create_group(&serde_json::from_value(json!({"name": "bots", "users": ["robot"]})).unwrap())
            .await
            .unwrap();
        let shown = admin.service_account("robot").await.unwrap();
        assert_eq!(
            (
                shown.impersonates,
                shown.credentials,
                shown.groups().as_str(),
                shown.user.last_seen_at
            ),
            (true, 1, "Users, bots", None)
        );
        let robot = Person::of(admin, "robot", &made.secret).await;
        let listed = admin.service_accounts(None).await.unwrap().items;
        assert_eq!(
            listed[0].user.last_seen_at,
            Some(world.now()),
            "it has just asked who it is"
        );
        let change = ChangeServiceAccount {
            name: Some("android".into()),
            impersonate: Some(false),
        };
        let changed = admin.change_service_account("robot", &change).await.unwrap();
        assert_eq!((changed.user.name.as_str(), changed.impersonates), ("android", false));
        assert_eq!(robot.client.me().await.unwrap().user.name, "android", "its key goes on");
        let event = "verb = 'update' AND object_kind = 'service account'";
        assert_eq!(
            world.events(event).await,
            ["admin service-accounts:update update service account robot allowed"]
        );
        // Names are taken whatever their letter case; users are no service accounts; nothing is not a change.
        let path = "/api/v1/service-accounts/android";
        for (body, status) in [
            (json!({"name": "Admin"}), 409),
            (json!({"name": ""}), 422),
            (json!({}), 422),
        ] {
            let answer = crate::world::Answer::of(world.admin.request("PATCH", path).json(&body)).await;
            assert_eq!(answer.status, status, "{body}: {}", answer.text);
        }
        let not_one = world.admin.get("/api/v1/service-accounts/admin").await;
        assert_eq!(
            (not_one.status, not_one.message().as_str()),
            (404, "there is no service account `admin`")
        );
    });
}

#[test]
fn only_whoever_may_read_everything_lets_an_account_impersonate() {
    on_both(|world| async move {
        let role = json!({"name": "robot keeper", "permissions": ["service-accounts:*"]});
        assert_eq!(world.admin.post("/api/v1/roles", role).await.status, 200);
        let keeper = world.person_with("keeper", "robot keeper").await;
        account(&world, "robot").await;
        let path = "/api/v1/service-accounts/robot";
        let patch = |body| crate::world::Answer::of(keeper.request("PATCH", path).json(&body));
        let refused = patch(json!({"impersonate": true})).await;
        assert_eq!(refused.status, 403, "{}", refused.text);
        let made = keeper
            .post(
                "/api/v1/service-accounts",
                json!({"name": "other", "impersonate": true}),
            )
            .await;
        assert_eq!(made.status, 403, "{}", made.text);
        assert_eq!(
            patch(json!({"impersonate": false})).await.status,
            200,
            "taking away needs less"
        );
        // Nor does he make keys for an account that holds more than he does.
        let key = keeper.post(&format!("{path}/credentials"), json!({})).await;
        assert_eq!(key.status, 403, "{}", key.text);
        assert_eq!(
            world.events("outcome = 'denied' AND principal = 'keeper'").await.len(),
            3
        );
    });
}

#[test]
fn further_keys_have_a_label_and_an_end_and_each_is_revoked_by_itself() {
    on_both(|world| async move {
        let admin = &world.admin.client;
        let first = account(&world, "robot").await;
        let new = NewCredential {
            label: "rack 4".into(),
            lifetime_ms: Some(60_000),
            until: None,
        };
        let brief = admin.add_credential("robot", &new).await.unwrap();
        assert!(brief.clearml.contains("  # rack 4\n"), "{}", brief.clearml);
        let lasting = admin.add_credential("robot", &NewCredential::default()).await.unwrap();
        let listed = admin.credentials("robot", false).await.unwrap().items;
        let labels: Vec<&str> = listed.iter().map(|key| key.label.as_str()).collect();
        assert_eq!(labels, ["", "rack 4", "first key"]);
        let by = |secret: &str| admin.with_key(Some(secret));
        by(&brief.secret).me().await.unwrap();
        world.pass_ms(60_001);
        assert_eq!(by(&brief.secret).me().await.unwrap_err().status(), Some(401));
        assert_eq!(admin.service_account("robot").await.unwrap().credentials, 2);
        admin.revoke_credential("robot", lasting.token.id).await.unwrap();
        assert_eq!(by(&lasting.secret).me().await.unwrap_err().status(), Some(401));
        first.client.me().await.unwrap();
        assert_eq!(admin.credentials("robot", false).await.unwrap().items.len(), 1);
        assert_eq!(admin.credentials("robot", true).await.unwrap().items.len(), 3);
        // Another's key is none of this account's.
        let ana = world.person("ana").await;
        let hers = ana.client.tokens(None, false, None).await.unwrap().items[0].id;
        assert_eq!(
            admin.revoke_credential("robot", hers).await.unwrap_err().status(),
            Some(404)
        );
        ana.client.me().await.unwrap();
    });
}

#[test]
fn an_account_has_what_users_have_unless_it_was_made_to_serve_queues() {
    on_both(|world| async move {
        let robot = account(&world, "robot").await;
        let made = robot.submit("nightly").await;
        assert_eq!(made.owner, "robot");
        let agent = world.agent("machine-1", 1).await;
        let refused = agent
            .client
            .create_experiment(&serde_json::from_value(json!({"config": {"name": "x", "entrypoint": "true"}})).unwrap())
            .await;
        assert!(
            matches!(refused.unwrap_err().status(), Some(403 | 404)),
            "its key opens nothing but the queue"
        );
    });
}

#[test]
fn a_service_account_signs_in_to_no_page() {
    on_both(|world| async move {
        let robot = account(&world, "robot").await;
        for path in ["/", "/users", "/settings", "/experiments/1", "/audit"] {
            let answer = robot.get(path).await;
            assert_eq!(answer.status, 403, "{path}: {}", answer.text);
            assert!(
                answer.text.contains("is a service account, and has no pages"),
                "{}",
                answer.text
            );
        }
        assert_eq!(robot.get("/api/v1/me").await.status, 200);
        // As a cookie a key counts for nothing; a password or a link cannot be had.
        let cookie = world
            .nobody()
            .request("GET", "/")
            .header("cookie", format!("ml_session={}", robot.key));
        assert_ne!(crate::world::Answer::of(cookie).await.status, 200);
        let login = json!({"name": "robot", "password": robot.key});
        assert_eq!(world.nobody().post("/api/v1/login", login).await.status, 401);
        assert_eq!(
            world.admin.post("/api/v1/users/robot/link", json!({})).await.status,
            409
        );
        let password = json!({"new_password": "correct horse battery"});
        assert_eq!(
            world.admin.post("/api/v1/users/robot/password", password).await.status,
            409
        );
    });
}

#[test]
fn what_an_account_made_stays_under_its_name_and_its_keys_end_at_once() {
    on_both(|world| async move {
        let robot = account(&world, "robot").await;
        robot.submit("nightly").await;
        world.admin.client.remove_service_account("robot").await.unwrap();
        assert_eq!(robot.get("/api/v1/me").await.status, 401);
        let kept = world.admin.client.experiment("1").await.unwrap().experiment;
        assert_eq!((kept.name.as_str(), kept.owner.as_str()), ("nightly", "robot"));
    });
}

/// In another product users and keys vanished with a restart.
#[test]
fn accounts_keys_sessions_and_passwords_outlive_the_server() {
    on_both(|world| async move {
        let robot = account(&world, "robot").await;
        let ana = world.person("ana").await;
        let session = Browser::of(&world, &ana).await;
        let before = robot.client.me().await.unwrap();
        let url = world.restart(|_| {}).await;
        let after = robot.at(&url).client.me().await.unwrap();
        assert_eq!((after.user.id, after.user.name), (before.user.id, before.user.name));
        assert_eq!(ana.at(&url).get("/api/v1/me").await.status, 200);
        let login = json!({"name": "ana", "password": crate::world::PASSWORD});
        assert_eq!(world.nobody().at(&url).post("/api/v1/login", login).await.status, 200);
        let cookie = format!("ml_session={}", session.cookie("ml_session"));
        let page = world.nobody().at(&url).request("GET", "/").header("cookie", cookie);
        assert_eq!(crate::world::Answer::of(page).await.status, 200);
    });
}

/// Removes the account of an agent that runs a job, and says what becomes of the job.
async fn removed_while_it_runs(world: &World, ends: State) {
    let ana = world.person("ana").await;
    let one = ana.submit("one").await;
    let agent = world.agent("machine-1", 1).await;
    let lease = agent.take(1).await.remove(0);
    agent.started(held(&lease)).await.unwrap();
    let job = world.admin.client.with_key(Some(&lease.token));
    job.report_progress(&one.id.to_string(), 0.5).await.unwrap();
    world
        .admin
        .client
        .remove_service_account("machine-1-account")
        .await
        .unwrap();
    assert_eq!(
        agent.try_poll(&[held(&lease)], 1, 0).await.unwrap_err().status(),
        Some(401)
    );
    let job = job.report_progress(&one.id.to_string(), 0.6).await;
    assert_eq!(job.unwrap_err().status(), Some(401), "the job's token has ended, too");
    let detail = eventually("the job ends", || async {
        let detail = world
            .admin
            .client
            .experiment("one")
            .await
            .unwrap_or_else(|_| panic!("it is there"));
        (detail.experiment.state == ends).then_some(detail)
    })
    .await;
    assert!(
        detail.experiment.cause.contains("its agent was not heard of"),
        "{}",
        detail.experiment.cause
    );
}

#[test]
fn jobs_of_a_removed_account_are_queued_again() {
    on_both_with(
        |config| config.lease_ms = 1000,
        |world| async move {
            removed_while_it_runs(&world, State::Queued).await;
            let other = world.agent("machine-2", 1).await;
            assert_eq!(other.take(1).await.len(), 1, "another agent takes it");
        },
    );
}

#[test]
fn jobs_of_a_removed_account_fail_where_the_operator_wants_that() {
    let set = |config: &mut bailiwick_server::config::Config| {
        config.lease_ms = 1000;
        config.on_lost_agent = OnLostAgent::Fail;
    };
    on_both_with(
        set,
        |world| async move { removed_while_it_runs(&world, State::Error).await },
    );
}

#[test]
fn the_page_of_an_account_makes_and_revokes_keys_and_changes_it() {
    on_both(|world| async move {
        let admin = Browser::of(&world, &world.admin).await;
        let made = [("act", "create"), ("name", "robot"), ("impersonate", "yes")];
        let page = admin.post("/service-accounts", &made).await.page();
        assert!(page.contains("[worker]") && page.contains("credentials {"), "{page}");
        let list = admin.get("/service-accounts").await.page();
        assert!(list.contains("<td class=\"number\">1</td><td>allowed</td>"), "{list}");
        let robot = world.admin.client.service_account("robot").await.unwrap();
        let path = format!("/users/{}", robot.user.id);
        let wrong = admin
            .post(&path, &[("act", "new-key"), ("label", "rack 4"), ("until", "soon")])
            .await;
        assert!(wrong.text.contains("value=\"rack 4\""), "{}", wrong.text);
        let page = admin
            .post(&path, &[("act", "new-key"), ("label", "rack 4"), ("until", "30d")])
            .await
            .page();
        assert!(
            page.contains("# rack 4") && page.contains("&quot;secret_key&quot;")
                || page.contains("&#34;secret_key&#34;"),
            "{page}"
        );
        let page = admin.get(&path).await.page();
        assert!(page.contains("rack 4") && !page.contains("ml_"), "{page}");
        let keys = world.admin.client.credentials("robot", false).await.unwrap().items;
        let token = keys[0].id.to_string();
        admin
            .post(&path, &[("act", "revoke-key"), ("token", &token)])
            .await
            .leads();
        assert_eq!(
            world.admin.client.service_account("robot").await.unwrap().credentials,
            1
        );
        admin
            .post(&path, &[("act", "account"), ("name", "android")])
            .await
            .leads();
        let changed = world.admin.client.service_account("android").await.unwrap();
        assert!(!changed.impersonates, "the tick was taken away");
    });
}
