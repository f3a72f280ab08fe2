//! Moving an installation to roles without locking anybody out.

use bailiwick_api::access::{Severity, ShadowFilter};
use bailiwick_api::experiments::ExperimentFilter;
use bailiwick_api::server::AccessMode;
use serde_json::json;

use crate::world::{Person, World, on_both, on_both_with};

async fn seen(who: &Person) -> Vec<String> {
    let page = who.client.experiments(&ExperimentFilter::default()).await.unwrap();
    let mut names: Vec<String> = page.items.into_iter().map(|one| one.name).collect();
    names.sort();
    names
}

/// Codes of the findings, lock-outs marked.
async fn check(admin: &Person) -> Vec<String> {
    let found = admin.client.check_access().await.unwrap();
    let mut worst = Severity::LockOut;
    let told = found.findings.iter().map(|one| {
        assert!(one.severity >= worst, "the worst comes first: {found:?}");
        worst = one.severity;
        format!("{} {}: {}", one.severity.words(), one.code, one.whom.join(", "))
    });
    told.collect()
}

async fn recorded(admin: &Person) -> Vec<(String, String, String, bool, i64)> {
    let report = admin.client.shadow_report(&ShadowFilter::default()).await.unwrap();
    let items = report.items.into_iter();
    items
        .map(|one| (one.who, one.permission, one.on, one.gains, one.count))
        .collect()
}

async fn change(admin: &Person, what: &str, assignment: serde_json::Value) {
    let answer = admin
        .post(
            &format!("/api/v1/assignments{what}"),
            json!({"assignments": [assignment]}),
        )
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn an_installation_without_access_control_moves_over_shadow_to_roles_and_loses_nothing() {
    on_both_with(
        |config| config.access = AccessMode::Off,
        |world| async move {
            // Roles, groups and users are prepared while nothing is enforced.
            let (ana, ben) = (world.person("ana").await, world.person("ben").await);
            ana.submit("hers").await;
            ben.submit("his").await;
            world.nobody().submit("nobody's").await;
            assert_eq!(seen(&world.nobody()).await, ["hers", "his", "nobody's"]);
            let group = json!({"name": "Team", "users": ["ben"]});
            assert_eq!(world.nobody().post("/api/v1/groups", group).await.status, 200);
            assert_eq!(check(&world.nobody()).await, ["note everybody_is_an_administrator: "]);

            let url = world.restart(|config| config.access = AccessMode::Shadow).await;
            let (admin, ana, ben) = (world.admin.at(&url), ana.at(&url), ben.at(&url));
            assert_eq!(world.nobody().at(&url).get("/api/v1/experiments").await.status, 401);
            assert_eq!(seen(&ana).await, ["hers"]);
            assert_eq!(seen(&admin).await, ["hers", "his", "nobody's"]);
            assert_eq!(recorded(&admin).await, [], "rbac would have decided all that alike");
            change(
                &admin,
                "",
                json!({"role": "Viewer", "group": "Team", "on": "workspace:default"}),
            )
            .await;
            assert_eq!(seen(&ben).await, ["his"], "it is not enforced yet");
            assert_eq!(ben.get("/api/v1/experiments/1").await.status, 404);
            let gains = |count| {
                (
                    "ben".to_owned(),
                    "experiments:read".to_owned(),
                    "workspace:default".to_owned(),
                    true,
                    count,
                )
            };
            assert_eq!(
                recorded(&admin).await,
                [gains(2)],
                "the list, and the experiment itself"
            );
            assert_eq!(check(&admin).await, Vec::<String>::new());

            let url = world.restart(|config| config.access = AccessMode::Rbac).await;
            let (admin, ana, ben) = (admin.at(&url), ana.at(&url), ben.at(&url));
            assert_eq!(seen(&ana).await, ["hers"]);
            assert_eq!(seen(&ben).await, ["hers", "his", "nobody's"]);
            assert_eq!(seen(&admin).await, ["hers", "his", "nobody's"]);
            assert_eq!(recorded(&admin).await, [gains(2)], "nothing more is recorded");
            assert_eq!(check(&admin).await, Vec::<String>::new());
        },
    );
}

#[test]
fn a_lock_out_is_found_before_the_switch_seen_in_shadow_and_mended() {
    on_both_with(
        |config| config.access = AccessMode::Basic,
        |world| async move {
            let (admin, ana, ben) = (
                world.admin.clone(),
                world.person("ana").await,
                world.person("ben").await,
            );
            ana.submit("one").await;
            ana.submit("two").await;
            let hand = world.agent("machine", 1).await;
            assert_eq!(check(&admin).await, Vec::<String>::new());
            // What everybody holds is taken away: in mode basic nobody feels it.
            let old = json!({"role": "DataScientist", "group": "Users", "on": "workspace:default"});
            change(&admin, "/remove", old.clone()).await;
            let account = json!({"role": "QueueAgent", "user": "machine-account", "on": "queue:default"});
            change(&admin, "/remove", account.clone()).await;
            assert_eq!(seen(&ana).await, ["one", "two"]);
            assert_eq!(
                check(&admin).await,
                [
                    "lock-out own_experiments_unreadable: ana: 2 experiments in workspace \"default\"",
                    "lock-out agents_could_not_serve: agent machine (machine-account) on queue \"default\"",
                    "warning can_start_nothing: ana",
                    "warning service_account_without_role: machine-account",
                ]
            );
            change(&admin, "", account).await;

            let url = world.restart(|config| config.access = AccessMode::Shadow).await;
            let (admin, ana, ben) = (admin.at(&url), ana.at(&url), ben.at(&url));
            assert_eq!(hand.at(&url).take(1).await.len(), 1, "agents go on serving");
            assert_eq!(seen(&ana).await, ["one", "two"]);
            ben.submit("three").await;
            // One act is counted once, however often the handler asks about it.
            let one = ana.get("/api/v1/experiments/one").await;
            assert_eq!(one.status, 200, "{}", one.text);
            let refused = recorded(&admin).await;
            let of = |who: &str, permission: &str, count| {
                (
                    who.to_owned(),
                    permission.to_owned(),
                    "workspace:default".to_owned(),
                    false,
                    count,
                )
            };
            assert!(refused.contains(&of("ana", "experiments:read", 3)), "{refused:?}");
            assert!(refused.contains(&of("ben", "experiments:create", 1)), "{refused:?}");
            let found = check(&admin).await;
            assert!(
                found.contains(&"warning refusals_recorded: ana, ben".to_owned()),
                "{found:?}"
            );
            // Mended for ana as everybody's role, and by the report's own account.
            change(&admin, "", old).await;
            let report = admin.client.shadow_report(&ShadowFilter::default()).await.unwrap();
            assert_eq!((report.would_lose, report.would_gain), (2, 0));
            let none = ShadowFilter {
                since: Some(world.now().plus_ms(1)),
                ..ShadowFilter::default()
            };
            assert_eq!(admin.client.shadow_report(&none).await.unwrap().items, []);
            assert!(admin.client.clear_shadow_report().await.unwrap().deleted >= 2);
            assert_eq!(check(&admin).await, Vec::<String>::new());
            assert_eq!(recorded(&admin).await, []);

            let url = world.restart(|config| config.access = AccessMode::Rbac).await;
            assert_eq!(seen(&ana.at(&url)).await, ["one", "two"]);
            assert_eq!(seen(&ben.at(&url)).await, ["three"]);
        },
    );
}

async fn without_administrator(world: &World) {
    world
        .sql("DELETE FROM assignments WHERE role_id IN (SELECT id FROM roles WHERE name = 'ClusterAdmin')")
        .await
        .unwrap();
}

#[test]
fn administrators_who_cannot_sign_in_here_lock_everybody_out() {
    on_both(|world| async move {
        let admin = &world.admin;
        let rem = json!({"name": "rem", "remote": true, "role": "ClusterAdmin"});
        assert_eq!(admin.post("/api/v1/users", rem).await.status, 200);
        assert_eq!(check(admin).await, Vec::<String>::new());
        let without = "UPDATE principals SET password_hash = NULL";
        world.sql(without).await.unwrap();
        let found = check(admin).await;
        assert_eq!(found[0], "lock-out no_administrator_can_sign_in: admin, rem");
        admin.client.user_link("admin").await.unwrap();
        let found = check(admin).await;
        assert_eq!(found, ["warning no_administrator_can_sign_in: admin, rem"]);
    });
}

#[test]
fn an_installation_that_nobody_could_administer_is_told_of_as_the_worst() {
    on_both_with(
        |config| config.access = AccessMode::Off,
        |world| async move {
            world.person("ana").await;
            without_administrator(&world).await;
            let url = world.restart(|_| {}).await;
            let anyone = world.nobody().at(&url);
            assert_eq!(check(&anyone).await[0], "lock-out no_administrator: ");
            change(
                &anyone,
                "",
                json!({"role": "ClusterAdmin", "user": "ana", "lifetime_ms": 86_400_000}),
            )
            .await;
            assert_eq!(
                check(&anyone).await,
                [
                    "warning administrators_end: ana",
                    "note everybody_is_an_administrator: "
                ]
            );
            world
                .sql("UPDATE principals SET own_roles_only = 1 WHERE name = 'ana'")
                .await
                .unwrap();
            world.sql("INSERT INTO principals (kind, name, name_key, state, own_roles_only, created_at) VALUES ('user', 'new', 'new', 'active', 1, 0)").await.unwrap();
            world
                .sql("DELETE FROM assignments WHERE group_id IS NOT NULL")
                .await
                .unwrap();
            let url = world.restart(|_| {}).await;
            let found = check(&world.nobody().at(&url)).await;
            assert!(found[0].starts_with("lock-out no_role: "), "{found:?}");
            assert!(found[0].contains("new") && !found[0].contains("ana"), "{found:?}");
        },
    );
}
