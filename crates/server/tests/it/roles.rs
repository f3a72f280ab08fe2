//! Roles of one's own: making, changing, deleting, and what that means to whoever holds them.

use bailiwick_api::roles::{AssignmentFilter, NewRole, RoleChange};
use serde_json::{Value, json};

use crate::world::{Answer, Person, World, on_both};

pub async fn give(by: &Person, role: &str, user: &str, on: &str) -> Answer {
    let on = if on.is_empty() { "installation" } else { on };
    let one = json!({"role": role, "user": user, "on": on});
    by.post("/api/v1/assignments", json!({"assignments": [one]})).await
}

pub async fn make_role(world: &World, name: &str, permissions: &[&str]) {
    let new = NewRole {
        name: name.into(),
        description: String::new(),
        permissions: permissions.iter().map(|word| (*word).to_owned()).collect(),
    };
    world.admin.client.create_role(&new).await.unwrap();
}

pub async fn patch(by: &Person, path: &str, body: Value) -> Answer {
    Answer::of(by.request("PATCH", path).json(&body)).await
}

#[test]
fn a_role_of_ones_own_is_made_of_permissions_as_the_seeds_type_them() {
    on_both(|world| async move {
        make_role(&world, "operators", &["read", "write", "me"]).await;
        let all = world.admin.client.role("ClusterAdmin").await.unwrap().role;
        let operators = world.admin.client.role("OPERATORS").await.unwrap().role;
        // What opens everything is meant only where it is named.
        let mut left = all.permissions.clone();
        left.retain(|word| word != "cluster:break-glass");
        assert_eq!(operators.permissions, left);
        assert!(operators.global_only && !operators.built_in);

        make_role(
            &world,
            "night shift",
            &["jobs:read", "queues:*", "models:delete:own", "models:delete:own"],
        )
        .await;
        let night = world.admin.client.role("night shift").await.unwrap().role;
        assert_eq!(
            night.permissions,
            [
                "experiments:read",
                "experiments:read-artifacts",
                "queues:read",
                "queues:submit",
                "queues:serve",
                "queues:create",
                "queues:update",
                "queues:delete",
                "models:delete:own"
            ]
        );
        make_role(&world, "nothing", &[]).await;
        assert_eq!(
            world.admin.client.role(&night.id.to_string()).await.unwrap().role.name,
            "night shift"
        );
    });
}

#[test]
fn a_role_that_cannot_be_is_refused_without_a_trace() {
    on_both(|world| async move {
        let before = world.last_event().await;
        let make = |body: Value| {
            let admin = world.admin.clone();
            async move { admin.post("/api/v1/roles", body).await }
        };
        for name in ["", "12", " x", "a\u{202E}b"] {
            assert_eq!(make(json!({"name": name})).await.status, 422, "{name:?}");
        }
        for name in ["editor", "EDITOR", "Admin", "member"] {
            let answer = make(json!({"name": name})).await;
            assert_eq!((answer.status, answer.code().as_str()), (409, "conflict"), "{name}");
        }
        let typo = make(json!({"name": "x", "permissions": ["experiment:read"]})).await;
        assert_eq!(typo.status, 422);
        assert!(
            typo.message().contains("did you mean `experiments:read`"),
            "{}",
            typo.text
        );
        assert_eq!(make(json!({"name": "x", "power": 1})).await.status, 422);
        let long = make(json!({"name": "x", "description": "d".repeat(1001)})).await;
        assert_eq!(long.status, 422);
        assert_eq!(world.last_event().await, before);
        assert_eq!(
            world.count("roles WHERE built_in = 0").await,
            2,
            "Member and QueueAgent"
        );

        let ana = world.person("ana").await;
        let refused = ana.post("/api/v1/roles", json!({"name": "x"})).await;
        assert_eq!(
            refused.message(),
            "Insufficient permissions: ana needs roles:create on the whole installation (globally)"
        );
    });
}

#[test]
fn a_change_of_a_role_holds_for_its_holders_from_the_next_request_on() {
    on_both(|world| async move {
        make_role(&world, "reviewer", &["workspaces:read", "projects:read"]).await;
        let ana = world.person_with("ana", "reviewer").await;
        let bob = world.person("bob").await;
        let experiment = bob.submit("theirs").await;
        let path = format!("/api/v1/experiments/{}", experiment.id);
        assert_eq!(ana.get(&path).await.status, 404);
        let change = |add: &[&str], remove: &[&str]| RoleChange {
            add: add.iter().map(|word| (*word).to_owned()).collect(),
            remove: remove.iter().map(|word| (*word).to_owned()).collect(),
            ..RoleChange::default()
        };
        let admin = &world.admin.client;
        let changed = admin
            .change_role("reviewer", &change(&["experiments:read"], &[]))
            .await
            .unwrap();
        assert_eq!(
            changed.permissions,
            ["experiments:read", "workspaces:read", "projects:read"]
        );
        assert_eq!(ana.get(&path).await.status, 200);
        admin
            .change_role("reviewer", &change(&["jobs:read:own"], &["experiments:read"]))
            .await
            .unwrap();
        assert_eq!(ana.get(&path).await.status, 404);
        let held = admin.role("reviewer").await.unwrap().role.permissions;
        assert_eq!(
            held,
            [
                "workspaces:read",
                "projects:read",
                "experiments:read:own",
                "experiments:read-artifacts:own"
            ],
            "first taken out, then added"
        );
        let anew = admin
            .change_role("reviewer", &change(&["stacks:read"], &["*"]))
            .await
            .unwrap();
        assert_eq!(anew.permissions, ["stacks:read"]);

        let unknown = patch(
            &world.admin,
            "/api/v1/roles/reviewer",
            json!({"remove": ["queues:delete"]}),
        )
        .await;
        assert_eq!(
            (unknown.status, unknown.message().as_str()),
            (422, "the role reviewer does not hold `queues:delete`")
        );
        let renamed = patch(
            &world.admin,
            "/api/v1/roles/reviewer",
            json!({"name": "Reviewer", "description": "looks"}),
        )
        .await;
        assert_eq!(renamed.json()["name"], "Reviewer");
        let roles = ana.client.me().await.unwrap().user.roles;
        assert!(roles.iter().any(|one| one.role == "Reviewer"), "{roles:?}");
        let replaced = patch(
            &world.admin,
            "/api/v1/roles/Reviewer",
            json!({"permissions": ["stacks:read"]}),
        )
        .await;
        assert_eq!(replaced.json()["permissions"], json!(["stacks:read"]));
    });
}

#[test]
fn built_in_roles_stay_as_they_are() {
    on_both(|world| async move {
        for name in ["Editor", "ClusterAdmin", "admin", "guest"] {
            let path = format!("/api/v1/roles/{name}");
            let answer = patch(&world.admin, &path, json!({"add": ["models:read"]})).await;
            assert_eq!(answer.status, 409, "{}", answer.text);
            let answer = world.admin.delete(&format!("{path}?force=true")).await;
            assert!(answer.message().contains("is a built-in role"), "{}", answer.text);
        }
        let missing = world.admin.delete("/api/v1/roles/nemo").await;
        assert_eq!(
            (missing.status, missing.message().as_str()),
            (404, "there is no role `nemo`")
        );
    });
}

#[test]
fn a_role_gains_only_what_the_changer_holds_wherever_it_is_assigned() {
    on_both(|world| async move {
        make_role(&world, "local", &["workspaces:read"]).await;
        make_role(&world, "role smith", &["roles:update", "roles:create", "models:read"]).await;
        let smith = world.person("smith").await;
        assert_eq!(give(&world.admin, "role smith", "smith", "").await.status, 200);
        let add = |word: &str| json!({"add": [word]});
        let path = "/api/v1/roles/local";
        // While nobody holds it, whatever it holds gives nobody anything.
        assert_eq!(patch(&smith, path, add("experiments:delete")).await.status, 200);
        assert_eq!(
            patch(&world.admin, path, json!({"remove": ["experiments:delete"]}))
                .await
                .status,
            200
        );
        let ana = world.person("ana").await;
        assert_eq!(
            give(&world.admin, "local", "ana", "workspace:default").await.status,
            200
        );

        let before = world.last_event().await;
        let refused = patch(&smith, path, add("experiments:delete")).await;
        assert_eq!(
            refused.message(),
            "Insufficient permissions: smith needs experiments:delete on workspace \"default\""
        );
        let events = world.events(&format!("id > {before}")).await;
        assert_eq!(events, ["smith experiments:delete delete role local denied"]);
        assert_eq!(
            patch(&smith, path, add("models:read")).await.status,
            200,
            "that he holds everywhere"
        );
        let own = patch(&smith, path, add("experiments:read:own")).await;
        assert_eq!(own.status, 200, "{}", own.text);
        assert_eq!(
            patch(&smith, path, add("experiments:read")).await.status,
            403,
            "a wider reach is a gain"
        );
        assert_eq!(
            patch(&world.admin, path, json!({"remove": ["models:read"]}))
                .await
                .status,
            200
        );

        let global = patch(&world.admin, path, add("users:read")).await;
        assert_eq!(
            (global.status, global.message().as_str()),
            (
                409,
                "the role local is assigned on workspace \"default\", and this would give it a permission that can only be assigned globally"
            )
        );
        assert_eq!(
            ana.get("/api/v1/users?all=true").await.json()["items"]
                .as_array()
                .unwrap()
                .len(),
            3
        );
    });
}

#[test]
fn a_role_that_is_assigned_goes_only_by_force_and_takes_its_assignments_along() {
    on_both(|world| async move {
        make_role(&world, "watcher", &["experiments:read", "workspaces:read"]).await;
        let ana = world.person_with("ana", "watcher").await;
        let experiment = world.person("bob").await.submit("theirs").await;
        let path = format!("/api/v1/experiments/{}", experiment.id);
        assert_eq!(ana.get(&path).await.status, 200);
        let held = world.admin.delete("/api/v1/roles/watcher").await;
        assert_eq!(
            (held.status, held.message().as_str()),
            (
                409,
                "the role watcher is assigned once; take that assignment away first, or delete the role with `force`"
            )
        );
        assert_eq!(ana.get(&path).await.status, 200);
        let before = world.last_event().await;
        let gone = world.admin.client.delete_role("watcher", true).await.unwrap();
        assert_eq!((gone.role.name.as_str(), gone.assignments), ("watcher", 1));
        assert_eq!(
            world.events(&format!("id > {before}")).await,
            ["admin roles:delete delete role watcher allowed"]
        );
        assert_eq!(ana.get(&path).await.status, 404);
        assert_eq!(world.admin.get("/api/v1/roles/watcher").await.status, 404);
        assert!(
            ana.client
                .me()
                .await
                .unwrap()
                .user
                .roles
                .iter()
                .all(|role| role.role != "watcher")
        );
        make_role(&world, "watcher", &["experiments:read"]).await;
        assert_eq!(ana.get(&path).await.status, 404, "the name alone gives nothing");
    });
}

#[test]
fn what_a_role_loses_is_taken_only_by_who_may_assign_wherever_it_is_assigned() {
    on_both(|world| async move {
        make_role(&world, "local", &["experiments:read", "models:read:own"]).await;
        make_role(
            &world,
            "role smith",
            &["roles:update", "roles:delete", "experiments:read"],
        )
        .await;
        let smith = world.person("smith").await;
        world.person("ana").await;
        assert_eq!(give(&world.admin, "role smith", "smith", "").await.status, 200);
        let secret = world
            .admin
            .post("/api/v1/workspaces", json!({"name": "Secret Plans"}))
            .await;
        assert_eq!(secret.status, 200, "{}", secret.text);
        let path = "/api/v1/roles/local";
        let drop_one = json!({"remove": ["models:read:own"]});
        assert_eq!(
            give(&world.admin, "local", "ana", "workspace:default").await.status,
            200
        );
        let before = world.last_event().await;
        let refused = patch(&smith, path, drop_one.clone()).await;
        assert_eq!(
            refused.message(),
            "Insufficient permissions: smith needs roles:assign on workspace \"default\""
        );
        assert_eq!(smith.delete(&format!("{path}?force=true")).await.status, 403);
        let narrower = json!({"permissions": ["experiments:read:own", "models:read:own"]});
        assert_eq!(
            patch(&smith, path, narrower).await.status,
            403,
            "a narrower reach is a loss"
        );
        assert_eq!(
            world.events(&format!("id > {before}")).await,
            [
                "smith roles:assign assign role local denied",
                "smith roles:assign assign role local denied",
                "smith roles:assign assign role local denied",
            ]
        );
        assert_eq!(
            patch(
                &smith,
                path,
                json!({"add": ["experiments:read:own"], "description": "looks"})
            )
            .await
            .status,
            200,
            "nothing is lost by that"
        );

        assert_eq!(
            give(&world.admin, "WorkspaceAdmin", "smith", "workspace:default")
                .await
                .status,
            200
        );
        assert_eq!(
            give(&world.admin, "local", "ana", "workspace:Secret Plans")
                .await
                .status,
            200
        );
        for refused in [
            patch(&smith, path, drop_one.clone()).await,
            smith.delete(&format!("{path}?force=true")).await,
        ] {
            assert_eq!(
                (refused.status, refused.message().as_str()),
                (
                    403,
                    "Insufficient permissions: smith needs roles:assign wherever that is assigned"
                )
            );
            assert!(!refused.text.contains("Secret"), "{}", refused.text);
        }
        let assignment = json!([{"role": "local", "user": "ana", "on": "workspace:Secret Plans"}]);
        let taken = world
            .admin
            .post("/api/v1/assignments/remove", json!({"assignments": assignment}))
            .await;
        assert_eq!(taken.status, 200, "{}", taken.text);
        assert_eq!(patch(&smith, path, drop_one).await.status, 200);
        assert_eq!(smith.delete(&format!("{path}?force=true")).await.status, 200);
    });
}

#[test]
fn who_holds_a_role_is_told_as_far_as_one_may_read_roles_there() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let vic = world.person_with("vic", "Viewer").await;
        world
            .sql("INSERT INTO workspaces (name, name_key, created_at) VALUES ('Hidden', 'hidden', 1)")
            .await
            .unwrap();
        let admin = &world.admin;
        // The workspace came in behind the server's back: a change of rights that says so.
        let fresh = world.restart(|_| {}).await;
        let (admin, ana, vic) = (admin.at(&fresh), ana.at(&fresh), vic.at(&fresh));
        assert_eq!(give(&admin, "Viewer", "ana", "workspace:Hidden").await.status, 200);
        let holders = |detail: bailiwick_api::roles::RoleDetail| -> Vec<String> {
            detail
                .assignments
                .iter()
                .map(|one| format!("{} on {}", one.user.as_deref().unwrap_or("?"), one.on))
                .collect()
        };
        assert_eq!(
            holders(admin.client.role("Viewer").await.unwrap()),
            ["vic on workspace:default", "ana on workspace:Hidden"]
        );
        assert_eq!(
            holders(ana.client.role("Viewer").await.unwrap()),
            ["ana on workspace:Hidden"]
        );
        assert_eq!(
            holders(vic.client.role("Viewer").await.unwrap()),
            ["vic on workspace:default"]
        );
        let held = vic.client.role("DataScientist").await.unwrap();
        assert_eq!(held.assignments[0].group.as_deref(), Some("Users"));
        assert!(held.role.permissions.contains(&"experiments:create".to_owned()));
        let listed = vic
            .client
            .assignments(&AssignmentFilter::default())
            .await
            .unwrap()
            .items;
        assert_eq!(
            listed.iter().filter(|one| one.on == "installation").count(),
            1,
            "{listed:?}"
        );
    });
}

#[test]
fn roles_are_listed_page_by_page() {
    on_both(|world| async move {
        let mut names = Vec::new();
        let mut after = String::new();
        loop {
            let page = world.admin.get(&format!("/api/v1/roles?limit=5{after}")).await.json();
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= 5);
            names.extend(items.iter().map(|role| role["name"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        let all = world.person("ana").await.client.roles_after(None).await.unwrap().items;
        assert_eq!(names, all.iter().map(|role| role.name.clone()).collect::<Vec<_>>());
        assert!(names.contains(&"ClusterAdmin".to_owned()) && names.contains(&"Member".to_owned()));
    });
}
