//! The pages on access, the audit, queues, and what is one's own.

use serde_json::json;

use crate::browser::Browser;
use crate::world::{PASSWORD, World, on_both};

const SCRIPT: &str = "<script>alert(1)</script>";
const ESCAPED: &str = "&#60;script&#62;alert(1)&#60;/script&#62;";

async fn give(world: &World, role: &str, to: &str, on: &str) {
    let body = json!({"assignments": [{"role": role, "user": to, "on": on}]});
    let answer = world.admin.post("/api/v1/assignments", body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[track_caller]
fn has(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "`{part}` is not in {page}");
    }
}

#[track_caller]
fn lacks(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(!page.contains(part), "`{part}` is in {page}");
    }
}

#[test]
fn the_explorer_says_yes_or_no_with_each_reason() {
    on_both(|world| async move {
        let (ana, ben) = (world.person("ana").await, world.person("ben").await);
        let hers = ana.submit("hers").await.id;
        let (admin, ana) = (Browser::of(&world, &world.admin).await, Browser::of(&world, &ana).await);
        let of = |who: &str| format!("/access?who={who}&permission=experiments:update&on=experiment:{hers}");
        let page = admin.get(&of("ben")).await.page();
        has(
            &page,
            &[
                "<span class=\"tag no\">No</span> ben may not pause",
                "nearly",
                "reaches only what one owns",
                "admin",
            ],
        );
        let page = admin.get(&of("ana")).await.page();
        has(
            &page,
            &[
                "<span class=\"tag yes\">Yes</span> ana may",
                "/groups/Users",
                "DataScientist on workspace",
            ],
        );
        let page = admin
            .get("/access?who=ana&permission=models:*&on=workspace:default")
            .await
            .page();
        has(&page, &["No, not all of it", "models:read"]);

        let page = ana.get(&of("")).await.page();
        has(&page, &["You may pause"]);
        lacks(&page, &["tab=who-can", "tab=what-if", "/access/shadow", "name=\"who\""]);
        let page = ana
            .get("/access?permission=experiments:delete&on=workspace:default")
            .await
            .page();
        has(&page, &["You may not", "/access/requests?role=", "Ask for it"]);
        for path in [
            of("ben"),
            "/access?tab=who-can&permission=experiments:read".into(),
            "/access?tab=what-can&who=ben".into(),
        ] {
            assert_eq!(ana.get(&path).await.status, 403, "{path}");
        }
        assert_eq!(ana.get("/access/shadow").await.status, 403);

        // To ben it is not there, and the form keeps what was typed.
        let ben = Browser::of(&world, &ben).await;
        let seen = ben.get(&of("")).await;
        let missing = ben
            .get("/access?permission=experiments:update&on=experiment:900000")
            .await;
        assert_eq!((seen.status, missing.status), (404, 404));
        has(&seen.text, &[&format!("value=\"experiment:{hers}\""), "role=\"alert\""]);
        let seen = ben.get("/access?permission=%3Cscript%3Ealert(1)%3C/script%3E").await;
        assert_eq!(seen.status, 422);
        has(&seen.text, &[ESCAPED]);
        lacks(&seen.text, &[SCRIPT]);
    });
}

#[test]
fn the_explorer_tells_who_what_and_what_would_change() {
    on_both(|world| async move {
        world.person("ana").await;
        world.person("ben").await;
        give(&world, "Editor", "ben", "workspace:default").await;
        let admin = Browser::of(&world, &world.admin).await;
        let page = admin
            .get("/access?tab=who-can&permission=experiments:update&on=workspace:default")
            .await
            .page();
        has(&page, &["2 accounts may", ">ben</a>", "Editor on workspace"]);
        lacks(&page, &[">ana</a>"]);
        let page = admin.get("/access?tab=what-can&who=ben").await.page();
        has(&page, &["On workspace &#34;default&#34;", "submit experiments"]);
        has(
            &admin.get("/access?tab=what-can").await.page(),
            &["Everything there is to do."],
        );

        let what_if = "/access?tab=what-if&change=";
        let gives = format!("{what_if}assign&role=Editor&user=ana&on=workspace:default");
        has(
            &admin.get(&gives).await.page(),
            &[
                "The rights of 1 account would change",
                "<td>ana</td>",
                "experiments:read",
            ],
        );
        let takes = format!("{what_if}unassign&role=Editor&user=ben&on=workspace:default");
        has(&admin.get(&takes).await.page(), &["<td>ben</td>", "tag no\">−"]);
        has(
            &admin
                .get(&format!("{what_if}add-member&group=Admins&user=ana"))
                .await
                .page(),
            &["<td>ana</td>"],
        );
        let nobody = admin
            .get(&format!("{what_if}remove-member&group=Admins&user=ana"))
            .await;
        assert!((400..500).contains(&nobody.status), "{}", nobody.text);
        has(
            &admin.get(&format!("{what_if}deactivate&user=ana")).await.page(),
            &["<td>ana</td>"],
        );
        assert_eq!(admin.get(&format!("{what_if}assign&role=Editor")).await.status, 422);
        let still = world.admin.get("/api/v1/assignments?user=ana").await;
        lacks(&still.text, &["Editor"]);

        let page = admin.get("/access/shadow?show=check").await.page();
        has(&page, &["No difference is recorded", "What would happen"]);
        assert_eq!(
            admin.post("/access/shadow", &[("act", "clear")]).await.leads(),
            "/access/shadow?done=cleared"
        );
    });
}

#[test]
fn access_is_asked_for_given_and_taken_back() {
    on_both(|world| async move {
        let (ana, ben) = (world.person("ana").await, world.person("ben").await);
        let admin = Browser::of(&world, &world.admin).await;
        let (ana, ben) = (Browser::of(&world, &ana).await, Browser::of(&world, &ben).await);
        let path = "/access/requests";
        for browser in [&ana, &ben, &admin] {
            has(
                &browser.get(path).await.page(),
                &["No request is waiting", "Ask for a role"],
            );
        }
        let ask = |on: &'static str| {
            [
                ("act", "ask"),
                ("role", "Editor"),
                ("on", on),
                ("lifetime", "8h"),
                ("why", SCRIPT),
            ]
        };
        assert_eq!(
            ana.post(path, &ask("workspace:default")).await.leads(),
            "/access/requests?done=asked"
        );
        let again = ana.post(path, &ask("workspace:default")).await;
        assert_eq!(again.status, 409);
        has(&again.text, &["you have asked for that already", "value=\"Editor\""]);
        assert_eq!(
            ana.post(path, &ask("")).await.status,
            422,
            "an empty place does not mean everywhere"
        );
        has(
            &ana.get(path).await.page(),
            &["You ask for Editor", "Withdraw", ESCAPED],
        );
        lacks(&ben.get(path).await.page(), &["Editor</h2>"]);
        let page = admin.get(path).await.page();
        has(&page, &["ana asks for Editor", "Approve", "Decline", ESCAPED]);
        lacks(&page, &[SCRIPT]);
        let approve = [
            ("act", "approve"),
            ("request", "1"),
            ("lifetime", "1h"),
            ("answer", "for today"),
        ];
        assert_eq!(ben.post(path, &approve).await.status, 404);
        assert_eq!(
            admin.post(path, &approve).await.leads(),
            "/access/requests?done=approved"
        );
        has(
            &ana.get("/access/requests?show=mine").await.page(),
            &["approved, in force", "for today", "in 1 h"],
        );
        has(
            &ana.get("/access?permission=experiments:update&on=workspace:default")
                .await
                .page(),
            &["You may "],
        );

        ana.post(path, &ask("installation")).await.leads();
        assert_eq!(
            admin.post(path, &[("act", "decline"), ("request", "2")]).await.leads(),
            "/access/requests?done=declined"
        );
        ana.post(path, &ask("queue:default")).await.leads();
        assert_eq!(
            ana.post(path, &[("act", "withdraw"), ("request", "3")]).await.leads(),
            "/access/requests?done=withdrawn"
        );
        has(
            &ana.get("/access/requests?show=mine").await.page(),
            &["declined", "withdrawn"],
        );
        assert_eq!(ana.post(path, &[("act", "dance")]).await.status, 422);
    });
}

#[test]
fn the_glass_is_broken_with_the_password_alone() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let browser = Browser::of(&world, &ana).await;
        let path = "/access/requests";
        lacks(&browser.get(path).await.page(), &["Break the glass"]);
        give(&world, "BreakGlass", "ana", "installation").await;
        has(&browser.get(path).await.page(), &["Break the glass"]);
        let with = |password: &'static str| {
            [
                ("act", "break-glass"),
                ("why", "fire"),
                ("lifetime", "1h"),
                ("password", password),
            ]
        };
        let refused = browser.post(path, &with("wrong")).await;
        assert_eq!(refused.status, 403);
        has(&refused.text, &["the password is missing or wrong"]);
        lacks(&refused.text, &["value=\"wrong\""]);
        assert_eq!(
            browser.post(path, &with(PASSWORD)).await.leads(),
            "/access/requests?done=broken"
        );
        has(&browser.get(path).await.page(), &["you are ClusterAdmin until"]);
        assert_eq!(
            browser.post(path, &[("act", "end-break-glass")]).await.leads(),
            "/access/requests?done=ended"
        );
        lacks(&browser.get(path).await.page(), &["you are ClusterAdmin until"]);
    });
}

#[test]
fn the_audit_is_read_filtered_exported_and_verified() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        ana.submit(SCRIPT).await;
        let (admin, ana) = (Browser::of(&world, &world.admin).await, Browser::of(&world, &ana).await);
        let page = admin.get("/audit").await.page();
        has(
            &page,
            &[
                "sign-in",
                "href=\"/audit/export.ndjson\"",
                "Verify the chain",
                "experiment 1",
            ],
        );
        lacks(&page, &[SCRIPT]);
        let page = admin.get("/audit?object=experiment%201").await.page();
        has(
            &page,
            &[
                "History of experiment 1",
                "experiments:create",
                "/audit/export.ndjson?object=experiment%201",
            ],
        );
        lacks(&page, &["<td>sign-in"]);
        has(
            &admin.get("/audit?user=nobody-of-that-name").await.page(),
            &["No event matches"],
        );
        let wrong = admin.get("/audit?since=soon").await;
        assert_eq!(wrong.status, 422);
        let export = admin.get("/audit/export.ndjson?user=ana").await.page();
        assert!(
            export.lines().count() > 1 && export.lines().all(|line| line.contains("\"principal\":\"ana\"")),
            "{export}"
        );
        let verdict = admin.post("/audit", &[("act", "verify")]).await.page();
        has(&verdict, &["The chain is intact."]);
        world
            .sql("UPDATE audit_events SET object = 'other' WHERE id = 2")
            .await
            .ok();
        // The audit may defend itself against that; if it does not, the page tells.
        let changed = world.count("audit_events WHERE object = 'other'").await > 0;
        let verdict = admin.post("/audit", &[("act", "verify")]).await.page();
        assert_eq!(verdict.contains("The chain is broken."), changed);

        let refused = ana.get("/audit").await;
        assert_eq!(refused.status, 403);
        lacks(&refused.text, &["href=\"/audit\""]);
        assert_eq!(ana.get("/audit/export.ndjson").await.status, 403);
        assert_eq!(ana.post("/audit", &[("act", "verify")]).await.status, 403);
    });
}

#[test]
fn queues_show_what_serves_waits_and_runs_as_far_as_it_may_be_seen() {
    on_both(|world| async move {
        let (ana, ben) = (world.person("ana").await, world.person("ben").await);
        has(
            &Browser::of(&world, &ana).await.get("/queues").await.page(),
            &["No agent serves", "Nothing that you may see waits"],
        );
        let hand = world.agent("machine", 2).await;
        ana.submit("first").await;
        let leases = hand.take(1).await;
        hand.started(crate::world::held(&leases[0])).await.expect("it starts");
        ana.submit("second").await;
        let page = Browser::of(&world, &ana).await.get("/queues").await.page();
        has(&page, &["default", ">up</span>", "1 of 2", ">first</a>", ">second</a>"]);
        lacks(&page, &["Address"]);
        let page = Browser::of(&world, &ben).await.get("/queues").await.page();
        has(&page, &["1 of 2"]);
        lacks(&page, &["first", "second"]);
        has(
            &Browser::of(&world, &world.admin).await.get("/queues").await.page(),
            &["Address", "127.0.0.1"],
        );
    });
}

#[test]
fn an_agent_is_drained_and_disabled_on_its_page_by_whoever_may() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let hand = world.agent("machine", 2).await;
        let page = format!("/agents/{}", hand.id);
        let (admin, ana) = (Browser::of(&world, &world.admin).await, Browser::of(&world, &ana).await);
        let seen = ana.get(&page).await.page();
        has(&seen, &["<h1>machine</h1>", ">up</span>", "0 of 2 CPU"]);
        lacks(&seen, &["Address", "Disable", "machine-account"]);
        assert_eq!(ana.post(&page, &[("act", "disable")]).await.status, 403);
        let seen = admin.get(&page).await.page();
        has(&seen, &["machine-account", ">Drain</button>", ">Disable</button>"]);
        lacks(&seen, &[">Enable</button>"]);
        assert_eq!(admin.post(&page, &[("act", "drain")]).await.status, 303);
        has(
            &admin.get(&page).await.page(),
            &[">draining</span>", ">Enable</button>"],
        );
        has(&ana.get("/queues").await.page(), &[">draining</span>", ">none</span>"]);
        assert_eq!(admin.post(&page, &[("act", "disable")]).await.status, 303);
        has(&admin.get(&page).await.page(), &[">disabled</span>"]);
        assert_eq!(admin.post(&page, &[("act", "enable")]).await.status, 303);
        has(&admin.get(&page).await.page(), &[">up</span>"]);
        assert_eq!(admin.get("/agents/4711").await.status, 404);
    });
}

#[test]
fn name_and_password_are_changed_and_rights_told_in_words() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let (one, other) = (Browser::of(&world, &ana).await, Browser::of(&world, &ana).await);
        let page = one.get("/settings").await.page();
        has(
            &page,
            &[
                "DataScientist",
                "submit experiments",
                "only one's own",
                "On workspace &#34;default&#34;",
            ],
        );
        let named = one
            .post("/settings", &[("act", "display-name"), ("display_name", SCRIPT)])
            .await;
        assert_eq!(named.leads(), "/settings?done=name");
        let page = one.get("/settings?done=name").await.page();
        has(&page, &[ESCAPED]);
        lacks(&page, &[SCRIPT]);
        let change = |old: &'static str, again: &'static str| {
            [
                ("act", "password"),
                ("old_password", old),
                ("new_password", "another long one"),
                ("again", again),
            ]
        };
        assert_eq!(
            one.post("/settings", &change(PASSWORD, "something else")).await.status,
            422
        );
        assert_eq!(
            one.post("/settings", &change("wrong", "another long one")).await.status,
            403
        );
        assert_eq!(other.get("/settings").await.status, 200);
        let changed = one.post("/settings", &change(PASSWORD, "another long one")).await;
        assert_eq!(changed.leads(), "/settings?done=password");
        assert_eq!(one.get("/settings").await.status, 200);
        assert_eq!(other.get("/settings").await.leads(), "/sign-in?next=/settings");
    });
}

#[test]
fn keys_are_made_narrowed_shown_once_and_revoked() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        ana.submit("hers").await;
        let (browser, ben) = (
            Browser::of(&world, &ana).await,
            Browser::of(&world, &world.person("ben").await).await,
        );
        let path = "/settings/tokens";
        has(&ben.get(path).await.page(), &["New key"]);
        has(
            &browser.get(path).await.page(),
            &["name=\"permission-experiments:read\"", "name=\"workspace-1\""],
        );
        let fields = [
            ("act", "create"),
            ("label", SCRIPT),
            ("expires", "30d"),
            ("permission-experiments:read", "on"),
            ("workspace-1", "on"),
        ];
        let page = browser.post(path, &fields).await.page();
        has(
            &page,
            &[
                "It is shown only this once",
                "[worker]",
                "api_key = &#34;ml_",
                "export ML_API_KEY=",
                "<code>experiments:read</code>",
                ESCAPED,
            ],
        );
        lacks(&page, &[SCRIPT]);
        let secret = page
            .split("api_key = &#34;")
            .nth(1)
            .and_then(|rest| rest.split("&#34;").next())
            .expect("a key");
        let key = crate::world::Person::of(&ana.client, "ana", secret).await;
        assert_eq!(key.get("/api/v1/experiments").await.status, 200);
        assert_eq!(key.post("/api/v1/experiments/1/cancel", json!({})).await.status, 403);
        let page = browser.get(path).await.page();
        lacks(&page, &[secret]);
        let number = page
            .split("name=\"token\" value=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .expect("a key");
        assert_eq!(
            ben.post(path, &[("act", "revoke"), ("token", number)]).await.status,
            404
        );
        let refused = browser
            .post(path, &[("act", "create"), ("label", "kept"), ("expires", "soon")])
            .await;
        assert_eq!(refused.status, 422);
        has(&refused.text, &["value=\"kept\""]);
        assert_eq!(
            browser
                .post(path, &[("act", "revoke"), ("token", number)])
                .await
                .leads(),
            "/settings/tokens?done=revoked"
        );
        assert_eq!(key.get("/api/v1/experiments").await.status, 401);
        has(&browser.get("/settings/tokens?show=all").await.page(), &["revoked"]);
    });
}

#[test]
fn sessions_are_listed_and_ended_one_by_one_or_all_others() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let (one, two, three) = (
            Browser::of(&world, &ana).await,
            Browser::of(&world, &ana).await,
            Browser::of(&world, &ana).await,
        );
        let path = "/settings/sessions";
        let page = one.get(path).await.page();
        assert_eq!(page.matches("this one").count(), 1);
        // Newest first: the third browser's.
        let number = page
            .split("name=\"token\" value=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .expect("a session");
        assert_eq!(
            one.post(path, &[("act", "revoke"), ("token", number)]).await.leads(),
            "/settings/sessions?done=revoked"
        );
        assert_eq!((three.get(path).await.status, two.get(path).await.status), (303, 200));
        assert_eq!(
            one.post(path, &[("act", "revoke-others")]).await.leads(),
            "/settings/sessions?done=others"
        );
        assert_eq!((two.get(path).await.status, one.get(path).await.status), (303, 200));
        let page = one.get(path).await.page();
        let own = page
            .split("name=\"token\" value=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .expect("a session");
        assert_eq!(
            one.post(path, &[("act", "revoke"), ("token", own)]).await.leads(),
            "/sign-in"
        );
        assert_eq!(one.get(path).await.status, 303);
    });
}

#[test]
fn a_queue_is_made_changed_shared_drained_and_deleted_by_forms() {
    on_both(|world| async move {
        let (ana, ben) = (world.person("ana").await, world.person("ben").await);
        let (admin, hers) = (Browser::of(&world, &world.admin).await, Browser::of(&world, &ana).await);
        let fields = [
            ("act", "create"),
            ("name", "gpu"),
            ("access", "assigned"),
            ("share", "users"),
            ("max_running", "3"),
        ];
        let made = admin.post("/queues/new", &fields).await.leads();
        let page = admin.get(&made).await.page();
        has(
            &page,
            &["<h1>gpu</h1>", "3 at once", "those who hold a role at it", "Share it"],
        );
        assert_eq!(hers.get(&made).await.status, 404);
        admin
            .post(
                &made,
                &[("act", "share"), ("kind", "user"), ("who", "ana"), ("role", "Writer")],
            )
            .await
            .leads();
        // Who only uses it is shown no form that would be refused, and no refusal.
        let page = hers.get(&made).await.page();
        has(&page, &["<h1>gpu</h1>"]);
        lacks(
            &page,
            &[
                "Share it",
                "Drain",
                "Change this queue",
                "Delete the queue",
                "nsufficient",
            ],
        );

        let config = json!({"name": "mine", "entrypoint": "true", "resources": {"queue": "gpu"}});
        let number = ana.submit_config(config).await.id.to_string();
        has(&hers.get(&made).await.page(), &["1 waiting", "value=\"first\""]);
        let hidden = ben.get("/api/v1/queues").await;
        lacks(&hidden.text, &["gpu"]);
        hers.post(&made, &[("act", "first"), ("experiment", &number)])
            .await
            .leads();
        assert_eq!(ana.client.experiment(&number).await.unwrap().experiment.priority, 1);
        hers.post(&made, &[("act", "last"), ("experiment", &number)])
            .await
            .leads();
        assert_eq!(ana.client.experiment(&number).await.unwrap().experiment.priority, 99);
        // Another's job is not there to be moved.
        let config = json!({"name": "his", "entrypoint": "true"});
        let other = ben.submit_config(config).await.id.to_string();
        assert_eq!(
            hers.post(&made, &[("act", "first"), ("experiment", &other)])
                .await
                .status,
            404
        );
        let path = format!("/experiments/{number}");
        has(&hers.get(&path).await.page(), &[&format!("<a href=\"{made}\">gpu</a>")]);
        hers.post(&made, &[("act", "move"), ("experiment", &number), ("queue", "default")])
            .await
            .leads();
        assert_eq!(
            ana.client.experiment(&number).await.unwrap().experiment.queue,
            "default"
        );

        admin.post(&made, &[("act", "drain")]).await.leads();
        has(&admin.get(&made).await.page(), &["draining"]);
        admin
            .post(
                &made,
                &[
                    ("act", "change"),
                    ("name", "a100"),
                    ("access", "open"),
                    ("share", "none"),
                ],
            )
            .await
            .leads();
        has(&admin.get(&made).await.page(), &["<h1>a100</h1>", "every workspace"]);
        assert_eq!(
            admin.post(&made, &[("act", "delete"), ("sure", "yes")]).await.leads(),
            "/queues"
        );
        assert_eq!(admin.get(&made).await.status, 404);
    });
}

#[test]
fn the_servers_own_minute_notes_the_load_which_is_told_as_a_table_too() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        ana.submit("one").await;
        world.pass_ms(60_000);
        let ana = ana.at(&world.restart(|_| {}).await);
        crate::world::eventually("the load is noted", async || {
            let noted = world.count("queue_load WHERE waiting = 1").await;
            (noted > 0).then_some(())
        })
        .await;
        // The same numbers as the page draws and writes.
        let load = ana.get("/api/v1/queues/default").await.json()["load"].clone();
        assert_eq!(load.as_array().unwrap().last().unwrap()["waiting"], 1, "{load}");
    });
}
