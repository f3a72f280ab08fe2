//! The pages of users, groups, roles and assignments, as a browser has them.

use bailiwick_api::groups::NewGroup;
use bailiwick_api::roles::AssignmentFilter;
use bailiwick_api::users::{NewUser, UserState};

use crate::browser::Browser;
use crate::world::{World, on_both};

const SCRIPT: &str = "<script>alert(1)</script>";
const ESCAPED: &str = "&#60;script&#62;alert(1)&#60;/script&#62;";

async fn state(world: &World, user: &str) -> UserState {
    world.admin.client.user(user).await.unwrap().state
}

async fn holds(world: &World, filter: AssignmentFilter) -> Vec<String> {
    let page = world.admin.client.assignments(&filter).await.unwrap();
    page.items
        .into_iter()
        .map(|one| format!("{} on {}", one.role, one.on))
        .collect()
}

#[test]
fn an_invited_user_comes_in_by_the_link_that_is_shown_once() {
    on_both(|world| async move {
        let admin = Browser::of(&world, &world.admin).await;
        let list = admin.get("/users").await.page();
        assert!(list.contains("Invite a user") && list.contains("admin"), "{list}");
        let invited = [
            ("act", "invite"),
            ("name", "ana"),
            ("display_name", SCRIPT),
            ("role", "Editor"),
            ("workspace", "default"),
        ];
        let page = admin.post("/users", &invited).await.page();
        let link = page
            .split("/activate#")
            .nth(1)
            .expect("the link is shown")
            .split('<')
            .next()
            .unwrap();
        assert!(link.starts_with("mll_"), "{link}");
        let ana = world.admin.client.user("ana").await.unwrap();
        assert_eq!(
            (ana.state, ana.display_name.as_deref()),
            (UserState::Pending, Some(SCRIPT))
        );
        let list = admin.get("/users?text=AN&state=pending").await.page();
        assert!(list.contains(ESCAPED) && !list.contains(SCRIPT), "{list}");
        assert!(
            list.contains("Editor on workspace default") && !list.contains(link),
            "{list}"
        );
        let none = admin.get("/users?text=%25&state=pending").await.page();
        assert!(none.contains("Nobody fits"), "a pattern stands for itself: {none}");

        let hers = Browser::new(&world);
        hers.get("/activate").await;
        let chosen = "a long enough password";
        let fields = [("token", link), ("password", chosen), ("again", chosen)];
        // What does not fit is said before the link is used up.
        let long = "n".repeat(300);
        let refused = hers
            .post("/activate", &[&fields[..], &[("display_name", &long)]].concat())
            .await;
        assert_eq!(refused.status, 422, "{}", refused.text);
        let own_name = format!("Ana {SCRIPT}");
        let named = [&fields[..], &[("display_name", &own_name)]].concat();
        assert_eq!(hers.post("/activate", &named).await.leads(), "/");
        assert_eq!(state(&world, "ana").await, UserState::Active);
        assert!(
            admin
                .get("/users?text=ana")
                .await
                .page()
                .contains(&format!("Ana {ESCAPED}"))
        );

        let path = format!("/users/{}", ana.id);
        let page = admin.get(&path).await.page();
        assert!(
            page.contains("given directly") && page.contains(ESCAPED) && !page.contains(SCRIPT),
            "{page}"
        );
        let renamed = [("act", "name"), ("name", "anna"), ("display_name", "Anna")];
        assert_eq!(admin.post(&path, &renamed).await.leads(), path);
        let again = admin.post(&path, &[("act", "link")]).await.page();
        assert!(again.contains("/activate#mll_"), "{again}");
        let given = [
            ("act", "give"),
            ("role", "Viewer"),
            ("on", "installation"),
            ("until", "7d"),
            ("reason", SCRIPT),
        ];
        assert_eq!(admin.post(&path, &given).await.leads(), path);
        let nowhere = admin
            .post(&path, &[("act", "give"), ("role", "Viewer"), ("on", " ")])
            .await;
        assert_eq!(nowhere.status, 422, "an empty field is not everywhere");
        let page = admin.get(&path).await.page();
        assert!(
            page.contains("2026-11-28 00:00 UTC") && page.contains(ESCAPED),
            "{page}"
        );
        let user = || AssignmentFilter {
            user: Some("anna".into()),
            ..AssignmentFilter::default()
        };
        assert_eq!(
            holds(&world, user()).await,
            ["Editor on workspace:default", "Viewer on installation"]
        );
        let viewer = world.admin.client.assignments(&user()).await.unwrap().items[1]
            .id
            .to_string();
        assert_eq!(
            admin
                .post(&path, &[("act", "take"), ("assignment", &viewer)])
                .await
                .leads(),
            path
        );
        assert_eq!(holds(&world, user()).await, ["Editor on workspace:default"]);
        for (act, then) in [
            ("deactivate", UserState::Deactivated),
            ("activate", UserState::Active),
            ("remote-on", UserState::Active),
            ("remote-off", UserState::Active),
        ] {
            assert_eq!(admin.post(&path, &[("act", act)]).await.leads(), path);
            assert_eq!(state(&world, "anna").await, then, "{act}");
        }
        assert_eq!(
            admin.post(&path, &[("act", "remove")]).await.status,
            422,
            "nobody was sure"
        );
        assert_eq!(
            admin.post(&path, &[("act", "remove"), ("sure", "yes")]).await.leads(),
            "/users"
        );
        assert_eq!(state(&world, &ana.id.to_string()).await, UserState::Removed);
        let all = admin.get("/users?state=all").await.page();
        assert!(
            all.contains("anna") && !admin.get("/users").await.page().contains("anna"),
            "{all}"
        );
        assert!(admin.get(&path).await.page().contains("removed"));
    });
}

#[test]
fn users_are_deactivated_many_at_once_with_and_without_script() {
    on_both(|world| async move {
        let (ana, bob, eve) = (
            world.person("ana").await,
            world.person("bob").await,
            world.person("eve").await,
        );
        let admin = Browser::of(&world, &world.admin).await;
        let list = admin.get("/users").await.page();
        assert!(list.contains("Select ana") && !list.contains("Select admin"), "{list}");
        let [a, b, e] = [&ana, &bob, &eve].map(|who| who.id.to_string());
        let ids = format!("{a},{b}");
        let script = [("act", "deactivate"), ("ids", ids.as_str()), ("here", "text=a")];
        assert_eq!(admin.post("/users", &script).await.leads(), "/users?text=a");
        let tick = format!("u{e}");
        let plain = [("act", "deactivate"), ("ids", ""), (tick.as_str(), e.as_str())];
        assert_eq!(admin.post("/users", &plain).await.leads(), "/users?");
        for name in ["ana", "bob", "eve"] {
            assert_eq!(state(&world, name).await, UserState::Deactivated);
        }
        assert_eq!(admin.post("/users", &[("act", "deactivate")]).await.status, 422);
    });
}

#[test]
fn the_list_of_users_goes_on_page_by_page() {
    on_both(|world| async move {
        for number in 0..55 {
            let new = NewUser {
                name: format!("user-{number:02}"),
                ..NewUser::default()
            };
            world.admin.client.create_user(&new).await.unwrap();
        }
        let admin = Browser::of(&world, &world.admin).await;
        let first = admin.get("/users?text=user-").await.page();
        assert!(first.contains("user-00") && first.contains("user-49") && !first.contains("user-50"));
        let next = first
            .split("rel=\"next\"")
            .next()
            .and_then(|before| before.rsplit("href=\"").next())
            .unwrap();
        let next = next.split('"').next().unwrap().replace("&#38;", "&");
        let second = admin.get(&format!("/users{next}")).await.page();
        assert!(second.contains("user-50") && second.contains("user-54") && !second.contains("user-49"));
        assert!(!second.contains("rel=\"next\""), "{second}");
    });
}

#[test]
fn who_may_not_sees_no_button_and_does_nothing() {
    on_both(|world| async move {
        let (ana, bob) = (world.person("ana").await, world.person("bob").await);
        let secret = NewGroup {
            name: "Secret".into(),
            ..NewGroup::default()
        };
        let secret = world.admin.client.create_group(&secret).await.unwrap().group.id;
        let hers = Browser::of(&world, &ana).await;
        let his = format!("/users/{}", bob.id);
        for path in [
            "/users",
            his.as_str(),
            "/groups",
            "/roles",
            "/roles/Editor",
            "/assignments",
        ] {
            let page = hers.get(path).await.page();
            let main = page.split("<main").nth(1).expect("there is a main part");
            assert!(!main.contains("method=\"post\"") || path == "/users", "{path}: {main}");
            assert!(!main.contains("name=\"act\""), "{path}: {main}");
        }
        let users = hers.get("/users").await.page();
        assert!(users.contains("bob") && !users.contains("Last seen"), "{users}");
        assert!(!hers.get("/groups").await.page().contains("Secret"));
        let secret = format!("/groups/{secret}");
        assert_eq!(hers.get(&secret).await.status, 404);
        for (path, fields) in [
            ("/users", vec![("act", "invite"), ("name", "eve")]),
            (&his, vec![("act", "deactivate")]),
            (&his, vec![("act", "link")]),
            (&his, vec![("act", "remove"), ("sure", "yes")]),
            (&his, vec![("act", "name"), ("display_name", "x")]),
            (&his, vec![("act", "give"), ("role", "Viewer"), ("on", "installation")]),
            ("/groups", vec![("act", "create"), ("name", "x")]),
            (
                "/roles",
                vec![("act", "create"), ("name", "x"), ("p.models:read", "all")],
            ),
            ("/roles/Editor", vec![("act", "delete"), ("sure", "yes")]),
            ("/service-accounts", vec![("act", "create"), ("name", "x")]),
        ] {
            let answer = hers.post(path, &fields).await;
            assert_eq!(answer.status, 403, "{path} {fields:?}: {}", answer.text);
        }
        let hidden = hers.post(&secret, &[("act", "add"), ("users", "ana")]).await;
        assert_eq!(hidden.status, 404, "{}", hidden.text);
        assert_eq!(hers.get("/service-accounts").await.status, 403);
        assert_eq!(state(&world, "bob").await, UserState::Active);
        // Her own display name is hers.
        let own = format!("/users/{}", ana.id);
        assert!(hers.get(&own).await.page().contains("name=\"display_name\""));
        assert_eq!(
            hers.post(&own, &[("act", "name"), ("display_name", "Ana L.")])
                .await
                .leads(),
            own
        );
        assert!(hers.get(&own).await.page().contains("Ana L."));
        let nobody = Browser::new(&world);
        assert_eq!(nobody.get("/users").await.leads(), "/sign-in?next=/users");
    });
}

#[test]
fn a_service_account_is_made_with_its_first_key_and_removed() {
    on_both(|world| async move {
        let admin = Browser::of(&world, &world.admin).await;
        assert!(
            admin
                .get("/service-accounts")
                .await
                .page()
                .contains("New service account")
        );
        let made = [("act", "create"), ("name", "robot"), ("serve", "default")];
        let page = admin.post("/service-accounts", &made).await.page();
        assert!(page.contains("ML_API_KEY=ml_") && page.contains("[worker]"), "{page}");
        let list = admin.get("/service-accounts").await.page();
        assert!(list.contains("robot") && !list.contains("ml_"), "{list}");
        let robot = world.admin.client.user("robot").await.unwrap();
        let path = format!("/users/{}", robot.id);
        let page = admin.get(&path).await.page();
        assert!(
            page.contains("service account") && page.contains("queue default"),
            "{page}"
        );
        let removed = admin.post(&path, &[("act", "remove"), ("sure", "yes")]).await;
        assert_eq!(removed.leads(), "/service-accounts");
        assert!(!admin.get("/service-accounts").await.page().contains("robot"));
        // In another product this could sign the administrator out.
        assert!(admin.get("/users").await.page().contains("admin"));
    });
}

#[test]
fn a_group_is_made_filled_given_a_role_renamed_and_deleted() {
    on_both(|world| async move {
        world.person("ana").await;
        world.person("bob").await;
        let eve = world.person("eve").await;
        let admin = Browser::of(&world, &world.admin).await;
        let list = admin.get("/groups").await.page();
        assert!(list.contains("Queue admins") || list.contains("QueueAdmins"), "{list}");
        assert!(list.contains("built in"), "{list}");
        let made = [
            ("act", "create"),
            ("name", SCRIPT),
            ("description", "They <b>watch</b>"),
            ("users", "ana, bob"),
        ];
        let path = admin.post("/groups", &made).await.leads();
        let page = admin.get(&path).await.page();
        assert!(
            page.contains(ESCAPED) && !page.contains(SCRIPT) && !page.contains("<b>watch"),
            "{page}"
        );
        assert!(page.contains("Remove ana") && page.contains("Remove bob"), "{page}");
        assert_eq!(
            admin.post(&path, &[("act", "add"), ("users", "eve")]).await.leads(),
            path
        );
        assert_eq!(
            admin.post(&path, &[("act", "out"), ("users", "bob")]).await.leads(),
            path
        );
        let given = [("act", "give"), ("role", "Viewer"), ("on", "workspace:default")];
        assert_eq!(admin.post(&path, &given).await.leads(), path);
        let page = admin.get(&path).await.page();
        assert!(page.contains("Remove eve") && !page.contains("Remove bob"), "{page}");
        assert!(page.contains("workspace default"), "{page}");
        let hers = Browser::of(&world, &eve).await;
        let own = hers.get(&format!("/users/{}", eve.id)).await.page();
        assert!(own.contains(&format!("group <a href=\"{path}\">")), "{own}");
        let seen = hers.get(&path).await.page();
        assert!(
            seen.contains("eve") && !seen.contains("/users/2\">ana"),
            "a member sees herself: {seen}"
        );
        let renamed = [("act", "change"), ("name", "Watchers"), ("description", "")];
        assert_eq!(admin.post(&path, &renamed).await.leads(), path);
        let filter = AssignmentFilter {
            group: Some("Watchers".into()),
            ..AssignmentFilter::default()
        };
        assert_eq!(holds(&world, filter).await, ["Viewer on workspace:default"]);
        assert_eq!(admin.post(&path, &[("act", "delete")]).await.status, 422);
        assert_eq!(
            admin.post(&path, &[("act", "delete"), ("sure", "yes")]).await.leads(),
            "/groups"
        );
        assert_eq!(admin.get(&path).await.status, 404);
        let everybody = admin.get("/groups/Users").await.page();
        assert!(
            !everybody.contains("Add members") && !everybody.contains("Delete the group"),
            "{everybody}"
        );
        let names = admin.get("/names?users=ana,%20e").await.page();
        assert!(
            names.contains("value=\"ana, eve\"") && !names.contains("ana, bob"),
            "{names}"
        );
    });
}

#[test]
fn a_role_is_made_by_ticking_changed_and_deleted() {
    on_both(|world| async move {
        let admin = Browser::of(&world, &world.admin).await;
        let matrix = admin.get("/roles").await.page();
        for piece in [
            "WorkspaceAdmin",
            "● <b>all</b>",
            "◐ <b>own</b>",
            "○ <b>none</b>",
            "delete experiments",
        ] {
            assert!(matrix.contains(piece), "{piece}");
        }
        let form = admin.get("/roles?make=yes&like=DataScientist").await.page();
        let ticked = "name=\"p.experiments:read\" value=\"own\" aria-label=\"experiments:read: own\" checked";
        assert!(form.contains(ticked), "{form}");
        let made = [
            ("act", "create"),
            ("name", SCRIPT),
            ("description", "looks"),
            ("p.models:read", "all"),
            ("p.experiments:read", "own"),
            ("p.experiments:delete", "none"),
        ];
        let path = admin.post("/roles", &made).await.leads();
        let id = path.trim_start_matches("/roles/");
        let role = world.admin.client.role(id).await.unwrap().role;
        assert_eq!(role.permissions, ["models:read", "experiments:read:own"]);
        for path in ["/roles", path.as_str(), "/assignments"] {
            let page = admin.get(path).await.page();
            assert!(page.contains(ESCAPED) && !page.contains(SCRIPT), "{path}: {page}");
        }
        let ana = world.person("ana").await;
        let given = [
            ("act", "give"),
            ("user", "ana"),
            ("role", SCRIPT),
            ("on", "workspace:default"),
        ];
        assert_eq!(admin.post("/assignments", &given).await.leads(), "/assignments");
        assert!(
            admin
                .get(&path)
                .await
                .page()
                .contains(&format!("/users/{}\">ana", ana.id))
        );
        let changed = [
            ("act", "change"),
            ("name", "Looker"),
            ("description", "looks on"),
            ("p.models:read", "own"),
        ];
        assert_eq!(admin.post(&path, &changed).await.leads(), path);
        let role = world.admin.client.role(id).await.unwrap().role;
        assert_eq!(
            (role.name.as_str(), role.permissions),
            ("Looker", vec!["models:read:own".to_owned()])
        );
        assert_eq!(
            admin.post(&path, &[("act", "delete"), ("sure", "yes")]).await.status,
            409,
            "it is held"
        );
        let forced = [("act", "delete"), ("sure", "yes"), ("force", "yes")];
        assert_eq!(admin.post(&path, &forced).await.leads(), "/roles");
        assert_eq!(admin.get(&path).await.status, 404);
        let built_in = admin.get("/roles/Editor").await.page();
        assert!(
            !built_in.contains("value=\"change\"") && !built_in.contains("value=\"delete\""),
            "{built_in}"
        );
        // Somebody who may not make roles is not led to it.
        let hers = Browser::of(&world, &ana).await;
        assert!(!hers.get("/roles").await.page().contains("New role"));
    });
}

#[test]
fn an_assignment_is_found_changed_and_taken_away() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let admin = Browser::of(&world, &world.admin).await;
        assert!(admin.get("/assignments").await.page().contains("Give a role"));
        let given = [
            ("act", "give"),
            ("user", "ana"),
            ("role", "Viewer"),
            ("on", "workspace:default"),
            ("until", "2027-01-31"),
        ];
        assert_eq!(admin.post("/assignments", &given).await.leads(), "/assignments");
        assert_eq!(admin.post("/assignments", &given).await.status, 409, "she has it");
        let filter = || AssignmentFilter {
            user: Some("ana".into()),
            ..AssignmentFilter::default()
        };
        let one = world.admin.client.assignments(&filter()).await.unwrap().items.remove(0);
        let found = admin
            .get("/assignments?user=ana&role=Viewer&workspace=default")
            .await
            .page();
        assert!(found.contains("2027-01-31 00:00 UTC"), "{found}");
        let none = admin.get("/assignments?user=ana&role=Editor").await.page();
        assert!(none.contains("Nothing fits"), "{none}");
        let through = admin.get("/assignments?user=ana&through=yes").await.page();
        assert!(
            through.contains("DataScientist") && through.contains(">group<"),
            "{through}"
        );
        let unknown = admin.get("/assignments?user=nobody-here").await;
        assert!(
            unknown.status == 404 && unknown.text.contains("Filter assignments"),
            "{}",
            unknown.text
        );

        let form = admin.get(&format!("/assignments?change={}", one.id)).await.page();
        assert!(
            form.contains("value=\"Viewer\" selected") && form.contains("Remove the end"),
            "{form}"
        );
        let id = one.id.to_string();
        let changed = [
            ("act", "change"),
            ("assignment", id.as_str()),
            ("role", "Editor"),
            ("no_end", "yes"),
        ];
        assert_eq!(
            admin.post("/assignments", &changed).await.leads(),
            format!("/users/{}", ana.id)
        );
        let now = world.admin.client.assignments(&filter()).await.unwrap().items.remove(0);
        assert_eq!((now.role.as_str(), now.until), ("Editor", None));
        let hers = Browser::of(&world, &ana).await;
        let shown = hers.get(&format!("/assignments?change={}", now.id)).await.page();
        assert!(shown.contains("not change it"), "{shown}");
        let id = now.id.to_string();
        let refused = hers.post("/assignments", &[("act", "take"), ("assignment", &id)]).await;
        assert_eq!(refused.status, 403, "{}", refused.text);
        let taken = admin
            .post("/assignments", &[("act", "take"), ("assignment", &id)])
            .await;
        assert_eq!(taken.leads(), "/assignments");
        assert_eq!(holds(&world, filter()).await, Vec::<String>::new());
    });
}

#[test]
fn a_form_that_is_refused_keeps_what_was_typed_and_speaks_of_no_commands() {
    on_both(|world| async move {
        world.person("ana").await;
        let admin = Browser::of(&world, &world.admin).await;
        let made = |name: &'static str| [("act", "create"), ("name", name), ("description", "typed words")];
        let lab = admin.post("/workspaces", &made("lab")).await.leads();
        admin.post(&lab, &made("green")).await.leads();
        let green = world.admin.client.project("lab", "green").await.unwrap().id;
        let (settings, project) = (format!("{lab}/settings"), format!("{lab}/projects/{green}"));
        let renamed = |act: &'static str| [("act", act), ("name", "default"), ("description", "typed words")];
        for (path, fields) in [
            ("/workspaces", made("lab")),
            (&lab, made("green")),
            (&settings, renamed("change")),
            (&project, renamed("rename")),
            ("/groups", made("admins")),
        ] {
            let seen = admin.post(path, &fields).await;
            let typed = format!("value=\"{}\"", fields[1].1);
            assert_eq!(seen.status, 409, "{path}: {}", seen.text);
            for there in ["role=\"alert\"", "value=\"typed words\"", &typed] {
                assert!(seen.text.contains(there), "{path}: {there} is not in {}", seen.text);
            }
        }
        let config = serde_json::json!({"name": "one", "entrypoint": "true", "workspace": "lab"});
        world.admin.submit_config(config).await;
        let full = admin.post(&settings, &[("act", "delete")]).await;
        assert_eq!(full.status, 409, "{}", full.text);
        assert!(
            full.text.contains("move them") && !full.text.contains("`ml "),
            "{}",
            full.text
        );

        // What taking somebody out of a group would change is seen beforehand.
        let group = NewGroup {
            name: "team".into(),
            description: String::new(),
            users: vec!["ana".into()],
        };
        let group = world.admin.client.create_group(&group).await.unwrap().group.id;
        let path = format!("/groups/{group}");
        let give = [("act", "give"), ("role", "WorkspaceAdmin"), ("on", "workspace:lab")];
        admin.post(&path, &give).await.leads();
        let preview = [("act", "preview-out"), ("users", "ana")];
        let page = admin.post(&path, &preview).await.page();
        assert!(
            page.contains("the rights of 1 account would change") && page.contains("workspaces:delete"),
            "{page}"
        );
        assert_eq!(
            world
                .admin
                .client
                .group("team", None)
                .await
                .unwrap()
                .members
                .items
                .len(),
            1
        );
    });
}

#[test]
fn what_is_at_no_address_is_told_on_a_page() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let browser = Browser::of(&world, &ana).await;
        for (path, status) in [("/nothing", 404), ("/experiments/%00", 404), ("/users/%ff", 404)] {
            let seen = browser.get(path).await;
            assert_eq!(seen.status, status, "{path}: {}", seen.text);
            assert!(
                seen.text.contains("<h1>Not found</h1>") && seen.text.contains("action=\"/sign-out\""),
                "{path}"
            );
        }
        let seen = browser.post("/queues", &[("act", "none")]).await;
        assert_eq!(seen.status, 405, "{}", seen.text);
        assert!(seen.text.contains("POST is not understood at /queues"), "{}", seen.text);
        let program = ana.get("/api/v1/experiments/%00").await;
        assert_eq!(
            (program.status, program.json()["error"]["code"].as_str()),
            (404, Some("not_found"))
        );
    });
}

#[test]
fn groups_are_exported_with_their_members_and_no_cell_is_a_formula() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let new = bailiwick_api::groups::NewGroup {
            name: "vision".into(),
            description: "=HYPERLINK(\"x\"), or so".into(),
            users: vec!["ana".into()],
        };
        let group = world.admin.client.create_group(&new).await.unwrap().group;
        let admin = Browser::of(&world, &world.admin).await;
        let csv = admin.get("/groups/export.csv").await;
        assert_eq!(csv.headers["content-type"], "text/csv; charset=utf-8");
        let csv = csv.page();
        assert!(csv.starts_with("group_id,group,"), "{csv}");
        let line = format!(
            "{},vision,\"'=HYPERLINK(\"\"x\"\"), or so\",false,{},ana,user,active\n",
            group.id, ana.id
        );
        assert!(csv.contains(&line), "{csv}");
        let lines = admin.get("/groups/export.ndjson").await.page();
        let rows: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(
            rows.iter()
                .any(|row| row["group"] == "vision" && row["member"] == "ana"),
            "{lines}"
        );
        assert!(
            rows.iter()
                .any(|row| row["group"] == "Users" && row["member"] == "admin"),
            "{lines}"
        );
        let page = admin.get("/groups").await.page();
        assert!(
            page.contains("export.csv") && page.contains("<td class=\"words\">ana</td>"),
            "{page}"
        );
        assert_eq!(
            Browser::of(&world, &ana).await.get("/groups/export.csv").await.status,
            403
        );

        // Taken out and saved: gone from the page, the list and the export at once.
        world
            .admin
            .client
            .remove_from_group("vision", &["ana".into()])
            .await
            .unwrap();
        assert!(
            !admin
                .get("/groups")
                .await
                .page()
                .contains("<td class=\"words\">ana</td>")
        );
        assert!(admin.get("/groups/export.csv").await.page().contains(",false,,,,\n"));
    });
}

#[test]
fn an_open_page_is_refused_at_the_next_request_after_what_it_stood_on_ends() {
    on_both(|world| async move {
        let (ana, bob) = (
            world.person("ana").await,
            world.person_with("bob", "ClusterAdmin").await,
        );
        let (anas, bobs) = (Browser::of(&world, &ana).await, Browser::of(&world, &bob).await);
        let admin = Browser::of(&world, &world.admin).await;
        assert_eq!(
            (anas.get("/users").await.status, bobs.get("/audit").await.status),
            (200, 200)
        );
        // The role is withdrawn.
        let user = world.admin.client.user("bob").await.unwrap();
        let role = user.roles.iter().find(|role| role.role == "ClusterAdmin").unwrap().id;
        assert_eq!(
            world.admin.delete(&format!("/api/v1/assignments/{role}")).await.status,
            200
        );
        assert_eq!(bobs.get("/audit").await.status, 403);
        // The user is deactivated.
        world.admin.client.deactivate_user("ana").await.unwrap();
        assert_eq!(anas.get("/users").await.leads().split('?').next(), Some("/sign-in"));
        // Deleting an account on the page leaves whoever does so signed in.
        let made = [("act", "create"), ("name", "robot")];
        admin.post("/service-accounts", &made).await.page();
        let robot = world.admin.client.user("robot").await.unwrap().id;
        let removed = admin
            .post(&format!("/users/{robot}"), &[("act", "remove"), ("sure", "yes")])
            .await;
        assert_eq!(removed.leads(), "/service-accounts");
        assert_eq!(admin.get("/users").await.status, 200);
        assert_eq!(world.admin.client.me().await.unwrap().user.name, "admin");
    });
}
