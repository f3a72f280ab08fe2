//! Pages of experiments, workspaces and projects, in a browser.

use bailiwick_api::experiments::NewExperiment;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use crate::browser::Browser;
use crate::logs::running;
use crate::world::{Person, World, on_both};

const SCRIPT: &str = "<script>alert(1)</script>";
const ESCAPED: &str = "&#60;script&#62;alert(1)&#60;/script&#62;";

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, *bytes).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

/// Signed in, with a page open whose forms can be sent.
async fn browse(world: &World, person: &Person) -> Browser {
    let browser = Browser::of(world, person).await;
    browser.get("/workspaces").await.page();
    browser
}

/// The hidden field of the first form that has it.
fn field(page: &str, name: &str) -> String {
    let marked = format!("name=\"{name}\" value=\"");
    let found = page.split(&marked).nth(1).and_then(|rest| rest.split('"').next());
    found.unwrap_or_else(|| panic!("no field {name} in {page}")).to_owned()
}

async fn name_of(who: &Person, path: &str) -> String {
    who.get(path).await.json()["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn the_page_of_an_experiment_shows_it_to_whoever_may_see_it_and_does_what_that_one_may() {
    on_both(|world| async move {
        let (ana, bob) = (world.person("ana").await, world.person("bob").await);
        let config = json!({"name": SCRIPT, "entrypoint": ["echo", "<b>it's</b>"], "hyperparameters": {"lr": 0.5}});
        let one = ana.submit_config(config).await;
        let path = format!("/experiments/{}", one.id);
        let (anas, bobs) = (browse(&world, &ana).await, browse(&world, &bob).await);
        let admins = browse(&world, &world.admin).await;

        let page = anas.get(&path).await.page();
        for there in [
            ESCAPED,
            "QUEUED",
            "echo",
            "lr: 0.5",
            "value=\"cancel\"",
            "value=\"move\"",
            "data-live=",
            "<dt>Owner</dt>",
            "href=\"/workspaces/1\"",
            "You do, through: ",
        ] {
            assert!(page.contains(there), "{there} is not in {page}");
        }
        for not in [
            "<script>alert",
            "<b>it",
            "value=\"share\"",
            "value=\"delete\"",
            "nobody",
        ] {
            assert!(!page.contains(not), "{not} is in {page}");
        }
        let part = anas.get(&format!("{path}?part=state")).await.page();
        assert!(part.contains("QUEUED") && !part.contains("You do, through"));

        // What another may not see reads as what is not there, on each page and for each act.
        let pages = ["", "/again", "/log", "/log.txt", "/log/stream", "/code", "/code.tar.gz"];
        for page in pages {
            let hidden = bobs.get(&format!("{path}{page}")).await;
            let missing = bobs.get(&format!("/experiments/31337{page}")).await;
            assert_eq!((hidden.status, missing.status), (404, 404), "{page}");
            assert!(!hidden.text.contains("alert(1)"));
        }
        let acts: &[&[(&str, &str)]] = &[
            &[("act", "delete")],
            &[("act", "move"), ("project", "default")],
            &[("act", "share"), ("who", "bob"), ("role", "Reader")],
        ];
        for act in acts {
            assert_eq!(bobs.post(&path, act).await.status, 404);
        }
        assert_eq!(bobs.post(&path, &[("act", "cancel")]).await.status, 403);
        assert_eq!(anas.post(&path, &[("act", "dance")]).await.status, 422);

        // An administrator looks on record, and the page does not do so by itself again and again.
        let page = admins.get(&path).await.page();
        assert!(page.contains("value=\"share\"") && page.contains("on record") && !page.contains("data-live="));
        let share = [
            ("act", "share"),
            ("kind", "user"),
            ("who", "bob"),
            ("role", "Reader"),
            ("until", "7d"),
        ];
        assert_eq!(admins.post(&path, &share).await.leads(), path);
        assert!(bobs.get(&path).await.page().contains("through: Reader"));
        let page = admins.get(&path).await.page();
        let unshare = [("act", "unshare"), ("assignment", &field(&page, "assignment"))];
        assert_eq!(admins.post(&path, &unshare).await.leads(), path);
        assert_eq!(bobs.get(&path).await.status, 404);

        assert_eq!(anas.post(&path, &[("act", "cancel")]).await.leads(), path);
        let page = anas.get(&path).await.page();
        assert!(page.contains("canceled by ana") && page.contains("value=\"delete\""));
        assert!(!page.contains("value=\"cancel\"") && !page.contains("data-live="));
        assert_eq!(anas.post(&path, &[("act", "delete")]).await.leads(), "/");
        assert_eq!(anas.get(&path).await.status, 404);
    });
}

#[test]
fn the_log_can_be_read_page_by_page_followed_and_taken_along() {
    on_both(|world| async move {
        let (ana, agent, lease, one) = running(&world).await;
        let mut lines: Vec<String> = (1..=1200).map(|number| format!("line {number}")).collect();
        lines[1198] = format!("\u{1b}[31m{SCRIPT}\u{1b}[0m");
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        agent.log(lease, 1, &lines).await.unwrap();
        agent.ended(lease, 3).await.unwrap();

        let (browser, path) = (browse(&world, &ana).await, format!("/experiments/{one}"));
        let page = browser.get(&path).await.page();
        assert!(page.contains("line 1200") && page.contains("id=\"L1101\"") && !page.contains("id=\"L1100\""));
        let page = browser.get(&format!("{path}/log")).await.page();
        assert!(page.contains(ESCAPED) && page.contains("id=\"L201\"") && !page.contains("id=\"L200\""));
        // It has ended: no line follows.
        assert!(page.contains("log?before=201") && page.contains("data-log=\"\""));
        let page = browser.get(&format!("{path}/log?before=201")).await.page();
        assert!(page.contains("id=\"L1\"") && page.contains("id=\"L200\"") && !page.contains("id=\"L201\""));
        assert!(!page.contains("data-log"));
        assert_eq!(browser.get(&format!("{path}/log?before=x")).await.status, 422);

        let whole = browser.get(&format!("{path}/log.txt")).await;
        assert_eq!(whole.headers["content-type"], "text/plain; charset=utf-8");
        assert_eq!(whole.page(), lines.join("\n") + "\n");
        let stream = browser.get(&format!("{path}/log/stream?after=1199")).await;
        assert_eq!(stream.headers["content-type"], "text/event-stream");
        assert!(
            stream.text.contains("\"line 1200\"")
                && !stream.text.contains("alert")
                && stream.text.contains("event: end")
        );
    });
}

#[test]
fn an_experiment_is_run_again_with_the_same_code_and_what_was_changed() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let code = ana
            .send_code(&archive(&[("train.py", SCRIPT.as_bytes()), ("a/data.bin", &[0, 1, 2])]))
            .await;
        let new = NewExperiment {
            config: json!({"name": "first", "entrypoint": "python train.py", "hyperparameters": {"lr": 0.5}}),
            code: Some(code.clone()),
            args: vec!["--fast".into()],
        };
        let one = ana.client.create_experiment(&new).await.unwrap();
        let path = format!("/experiments/{}", one.id);
        let browser = browse(&world, &ana).await;

        let page = browser.get(&format!("{path}/code")).await.page();
        assert!(page.contains("train.py") && page.contains("code?file=a/data.bin"));
        let page = browser.get(&format!("{path}/code?file=train.py")).await.page();
        assert!(page.contains(ESCAPED) && !page.contains(SCRIPT));
        let page = browser.get(&format!("{path}/code?file=a/data.bin")).await.page();
        assert!(page.contains("It is no text"));
        assert_eq!(browser.get(&format!("{path}/code?file=../x")).await.status, 404);
        let taken = browser.get(&format!("{path}/code.tar.gz")).await;
        assert_eq!(
            (taken.status, taken.headers["content-type"].to_str().unwrap()),
            (200, "application/gzip")
        );

        let page = browser.get(&format!("{path}/again")).await.page();
        assert!(
            page.contains("--fast") && page.contains("lr: 0.5") && page.contains(&code),
            "{page}"
        );
        let again = format!("{path}/again");
        let bad = browser.post(&again, &[("config", "name: [</textarea><script>")]).await;
        assert_eq!(bad.status, 422);
        assert!(
            bad.text.contains("role=\"alert\"") && bad.text.contains("name: [&#60;/textarea"),
            "{}",
            bad.text
        );
        let config =
            "name: second\r\nentrypoint: |-\r\n  python train.py\r\n  true\r\nhyperparameters:\r\n  lr: 0.1\r\n";
        let leads = browser.post(&again, &[("config", config)]).await.leads();
        let second = ana.get(&format!("/api/v1{leads}")).await.json();
        assert_eq!((&second["name"], &second["code"]), (&json!("second"), &json!(code)));
        assert_eq!(second["config"]["entrypoint"], "python train.py\ntrue");

        // Whoever may read another's code may run it; it is the new owner's run.
        let admins = browse(&world, &world.admin).await;
        let leads = admins
            .post(&again, &[("config", "name: third\nentrypoint: 'true'")])
            .await
            .leads();
        let third = world.admin.get(&format!("/api/v1{leads}")).await.json();
        assert_eq!((&third["owner"], &third["code"]), (&json!("admin"), &json!(code)));
    });
}

#[test]
fn a_workspace_is_made_described_archived_and_deleted_on_its_pages() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let (admins, anas) = (browse(&world, &world.admin).await, browse(&world, &ana).await);
        let page = anas.get("/workspaces").await.page();
        assert!(page.contains("href=\"/workspaces/1\"") && !page.contains("Make workspace"));
        let new = [("act", "create"), ("name", "Stop <Signs>"), ("description", SCRIPT)];
        assert_eq!(anas.post("/workspaces", &new).await.status, 403);
        let path = admins.post("/workspaces", &new).await.leads();
        assert_eq!(admins.post("/workspaces", &new).await.status, 409);

        let page = admins.get("/workspaces").await.page();
        assert!(page.contains("Stop &#60;Signs&#62;") && page.contains(ESCAPED) && !page.contains(SCRIPT));
        assert!(!anas.get("/workspaces").await.page().contains("Signs"));
        for page in ["", "/members", "/settings", "/projects/default"] {
            assert_eq!(anas.get(&format!("{path}{page}")).await.status, 404, "{page}");
        }
        assert_eq!(
            anas.post(&format!("{path}/settings"), &[("act", "delete")])
                .await
                .status,
            404
        );

        let settings = format!("{path}/settings");
        let page = admins.get(&path).await.page();
        assert!(
            page.contains("Create project") && page.contains("/?workspace=Stop%20%3CSigns%3E"),
            "{page}"
        );
        let change = [("act", "change"), ("name", "Signs"), ("description", "all of them")];
        assert_eq!(admins.post(&settings, &change).await.leads(), settings);
        assert_eq!(admins.post(&settings, &[("act", "archive")]).await.leads(), settings);
        assert!(admins.get(&settings).await.page().contains("value=\"unarchive\""));
        assert!(!admins.get("/workspaces").await.page().contains("Signs"));
        assert!(admins.get("/workspaces?all=1").await.page().contains("Signs"));
        assert_eq!(admins.post(&settings, &[("act", "unarchive")]).await.leads(), settings);
        assert_eq!(
            admins.post(&settings, &[("act", "delete")]).await.leads(),
            "/workspaces"
        );
        assert_eq!(admins.get(&path).await.status, 404);
    });
}

#[test]
fn members_are_added_changed_and_removed_and_roles_from_above_say_so() {
    on_both(|world| async move {
        let (ana, bob) = (world.person("ana").await, world.person("bob").await);
        let admins = browse(&world, &world.admin).await;
        let path = admins
            .post("/workspaces", &[("act", "create"), ("name", "Signs")])
            .await
            .leads();
        let members = format!("{path}/members");
        let page = admins.get(&members).await.page();
        assert!(
            page.contains("the whole installation") && page.contains("WorkspaceAdmin"),
            "{page}"
        );

        let add = [
            ("act", "add"),
            ("kind", "user"),
            ("who", "ana, bob"),
            ("role", "Viewer"),
            ("until", "7d"),
        ];
        assert_eq!(admins.post(&members, &add).await.leads(), members);
        let anas = browse(&world, &ana).await;
        let page = anas.get(&members).await.page();
        // A viewer reads who is in, and has no button.
        assert!(page.contains(">bob<") && !page.contains("value=\"add\"") && !page.contains("value=\"remove\""));
        assert_eq!(anas.post(&members, &add).await.status, 403);
        let page = anas.get(&format!("{path}/settings")).await.page();
        assert!(!page.contains("value=\"archive\"") && !page.contains("value=\"delete\""));
        let page = anas.get(&path).await.page();
        assert!(!page.contains("Create project"));
        assert_eq!(anas.post(&path, &[("act", "create"), ("name", "x")]).await.status, 403);

        let listed = world.admin.get(&format!("/api/v1{members}")).await.json();
        let of = |name: &str| {
            let found = listed["items"]
                .as_array()
                .unwrap()
                .iter()
                .find(|one| one["name"] == name);
            found.unwrap()["assignment"].to_string()
        };
        let (anas_id, bobs_id) = (of("ana"), of("bob"));
        let change = [
            ("act", "change"),
            ("assignment", &*anas_id),
            ("role", "WorkspaceAdmin"),
            ("until", ""),
        ];
        assert_eq!(admins.post(&members, &change).await.leads(), members);
        let page = anas.get(&members).await.page();
        assert!(page.contains("value=\"add\""), "the new role holds at once");
        let remove = [("act", "remove"), ("assignment", &*bobs_id)];
        assert_eq!(anas.post(&members, &remove).await.leads(), members);
        assert_eq!(bob.get(&format!("/api/v1{path}")).await.status, 404);

        // The group of everybody, and a project of its own.
        let group = [
            ("act", "add"),
            ("kind", "group"),
            ("who", "Users"),
            ("role", "OwnViewer"),
        ];
        assert_eq!(anas.post(&members, &group).await.leads(), members);
        assert_eq!(
            anas.post(
                &path,
                &[("act", "create"), ("name", SCRIPT.trim_end_matches("</script>"))]
            )
            .await
            .leads(),
            path
        );
        let projects = anas.get(&path).await.page();
        assert!(projects.contains("&#60;script&#62;alert(1)"), "{projects}");
        let project = format!("{path}/projects/{}", id_of_last_project(&ana, &path).await);
        let page = anas.get(&project).await.page();
        assert!(
            page.contains("workspace Signs") && page.contains("value=\"add\""),
            "{page}"
        );
        let add = [("act", "add"), ("kind", "user"), ("who", "bob"), ("role", "Viewer")];
        assert_eq!(anas.post(&project, &add).await.leads(), project);
        let rename = [("act", "rename"), ("name", "Euro"), ("description", "signs of Europe")];
        assert_eq!(anas.post(&project, &rename).await.leads(), project);
        assert_eq!(name_of(&bob, &format!("/api/v1{project}")).await, "Euro");
        let bobs = browse(&world, &bob).await;
        let page = bobs.get(&project).await.page();
        assert!(page.contains("signs of Europe") && !page.contains("value=\"rename\""));
        assert_eq!(bobs.post(&project, &rename).await.status, 403);
        for act in ["archive", "unarchive"] {
            assert_eq!(anas.post(&project, &[("act", act)]).await.leads(), project);
        }
        assert_eq!(anas.post(&project, &[("act", "delete")]).await.leads(), path);
        assert_eq!(bobs.get(&project).await.status, 404);
    });
}

async fn id_of_last_project(who: &Person, workspace: &str) -> i64 {
    let listed = who.get(&format!("/api/v1{workspace}/projects")).await.json();
    listed["items"].as_array().unwrap().last().unwrap()["id"]
        .as_i64()
        .unwrap()
}

#[test]
fn a_project_is_found_by_whoever_sees_nothing_else_of_its_workspace() {
    on_both(|world| async move {
        let bob = world.person("bob").await;
        let admins = browse(&world, &world.admin).await;
        let path = admins
            .post("/workspaces", &[("act", "create"), ("name", "Signs")])
            .await
            .leads();
        let project = format!("{path}/projects/{}", id_of_last_project(&world.admin, &path).await);
        let add = [("act", "add"), ("kind", "user"), ("who", "bob"), ("role", "Viewer")];
        assert_eq!(admins.post(&project, &add).await.leads(), project);
        let bobs = browse(&world, &bob).await;
        let page = bobs.get("/workspaces").await.page();
        assert!(page.contains(&format!("href=\"{project}\"")), "{page}");
        let page = bobs.get(&project).await.page();
        assert!(
            !page.contains(&format!("href=\"{path}\"")),
            "what may not be seen is not linked to"
        );
        assert_eq!(bobs.get(&path).await.status, 404);
    });
}
