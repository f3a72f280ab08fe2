//! What holds for all pages: signing in and out, forms, headers, and what no page may do.

use bailiwick_api::users::ChangePassword;

use crate::browser::Browser;
use crate::world::{PASSWORD, World, on_both};

/// All pages that are looked at without a name in their path, as the router itself lists them.
fn plain_pages() -> Vec<String> {
    let all = crate::access_matrix::routes().into_iter();
    all.filter(|(method, path)| method == "GET" && !path.contains('{'))
        .map(|(_, path)| path)
        // A file and a part of a page are no pages.
        .filter(|path| !path.contains("/export.") && path != "/names")
        .filter(|path| bailiwick_server::access::is_page(path))
        .collect()
}

#[test]
fn a_browser_signs_in_and_out_and_comes_back_to_where_it_was() {
    on_both(async |world: World| {
        let ana = world.person("ana").await;
        let browser = Browser::new(&world);
        for path in plain_pages() {
            let seen = browser.get(&path).await;
            match path.as_str() {
                "/sign-in" | "/activate" | "/docs/api" => assert_eq!(seen.status, 200, "{path}"),
                _ => {
                    let next = if path == "/" {
                        String::new()
                    } else {
                        format!("?next={path}")
                    };
                    assert_eq!((seen.status, seen.location), (303, format!("/sign-in{next}")), "{path}");
                }
            }
        }
        browser.get("/sign-in?next=/settings").await;
        let wrong = [("name", "ana"), ("password", "wrong"), ("next", "/settings")];
        let seen = browser.post("/sign-in", &wrong).await;
        assert_eq!(seen.status, 401);
        assert!(seen.text.contains("wrong name or password"), "{}", seen.text);
        assert!(browser.cookie("ml_session").is_empty());

        let right = [("name", "ana"), ("password", PASSWORD), ("next", "/settings")];
        let seen = browser.post("/sign-in", &right).await;
        let cookie = seen.headers["set-cookie"].to_str().unwrap().to_owned();
        assert_eq!(seen.leads(), "/settings");
        for word in ["ml_session=mls_", "; HttpOnly", "; SameSite=Lax", "; Path=/"] {
            assert!(cookie.contains(word), "{cookie}");
        }
        assert!(browser.get("/").await.page().contains("Nothing has been run yet"));

        // The session is ended at the server, not only forgotten by the browser.
        let session = browser.cookie("ml_session");
        assert_eq!(browser.post("/sign-out", &[]).await.leads(), "/sign-in");
        browser.keep("ml_session", &session);
        assert_eq!(browser.get("/").await.location, "/sign-in");

        // Whose password is changed elsewhere is out at the next click.
        let again = Browser::of(&world, &ana).await;
        let change = ChangePassword {
            old_password: None,
            new_password: "another long password".into(),
        };
        world.admin.client.change_password("ana", &change).await.unwrap();
        assert_eq!(again.get("/").await.location, "/sign-in");
    });
}

#[test]
fn a_form_that_is_not_from_this_very_browsers_page_changes_nothing() {
    on_both(async |world: World| {
        let (ana, bob) = (world.person("ana").await, world.person("bob").await);
        let mine = ana.submit("mine").await;
        let browser = Browser::of(&world, &ana).await;
        let others = Browser::of(&world, &bob).await;
        others.get("/").await;
        let id = mine.id.to_string();
        for token in ["", "0123", &others.form_token()] {
            let seen = browser
                .post_raw(
                    "/experiments",
                    &[("form_token", token), ("act", "cancel"), ("ids", &id)],
                )
                .await;
            assert_eq!(seen.status, 403, "{}", seen.text);
            assert!(
                seen.text.contains("this form is not from a page of this server"),
                "{}",
                seen.text
            );
        }
        assert_eq!(
            browser
                .post_raw("/experiments", &[("act", "cancel"), ("ids", &id)])
                .await
                .status,
            403
        );
        let stranger = Browser::new(&world);
        let fields = [("name", "ana"), ("password", PASSWORD)];
        assert_eq!(stranger.post_raw("/sign-in", &fields).await.status, 403);
        assert_eq!(
            ana.get(&format!("/api/v1/experiments/{id}")).await.json()["state"],
            "QUEUED"
        );
        // A session's cookie is nothing to the interface for programs.
        let cookie = format!("ml_session={}", browser.cookie("ml_session"));
        let url = format!("{}/api/v1/me", world.url);
        let answer = reqwest::Client::new()
            .get(url)
            .header("cookie", cookie)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 401);
        // Nor is a key a session.
        let keyed = Browser::new(&world);
        keyed.keep("ml_session", &ana.key);
        assert_eq!(keyed.get("/").await.location, "/sign-in");
        assert_eq!(
            browser
                .post("/experiments", &[("act", "cancel"), ("ids", &id)])
                .await
                .leads(),
            "/"
        );
        assert_eq!(
            ana.get(&format!("/api/v1/experiments/{id}")).await.json()["state"],
            "CANCELED"
        );
    });
}

#[test]
fn signing_in_makes_a_session_of_its_own_and_leads_nowhere_else() {
    on_both(async |world: World| {
        let ana = world.person("ana").await;
        let known = Browser::of(&world, &ana).await.cookie("ml_session");
        let browser = Browser::new(&world);
        browser.keep("ml_session", &known);
        browser.get("/sign-in").await;
        browser
            .post("/sign-in", &[("name", "ana"), ("password", PASSWORD)])
            .await
            .leads();
        assert_ne!(browser.cookie("ml_session"), known);
        for next in [
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "\\/evil",
            "/a\nb",
            "javascript:alert(1)",
            "",
        ] {
            let fields = [("name", "ana"), ("password", PASSWORD), ("next", next)];
            browser.get("/sign-in").await;
            assert_eq!(browser.post("/sign-in", &fields).await.leads(), "/", "{next}");
            let query = next.replace('\n', "%0A").replace('\\', "%5C");
            let seen = browser.get(&format!("/sign-in?next={query}")).await;
            assert!(seen.text.contains("name=\"next\" value=\"/\""), "{}", seen.text);
        }
    });
}

#[test]
fn every_page_forbids_foreign_scripts_frames_and_keeping() {
    on_both(async |world: World| {
        let browser = Browser::of(&world, &world.admin).await;
        for path in plain_pages() {
            let seen = browser.get(&path).await;
            assert_eq!(seen.status, 200, "{path}: {}", seen.text);
            let policy = seen.headers["content-security-policy"].to_str().unwrap();
            for part in [
                "default-src 'none'",
                "script-src 'self'",
                "frame-ancestors 'none'",
                "form-action 'self'",
                "base-uri 'none'",
            ] {
                assert!(policy.contains(part), "{path}: {policy}");
            }
            assert!(!policy.contains("unsafe"), "{path}: {policy}");
            assert_eq!(seen.headers["x-content-type-options"], "nosniff", "{path}");
            assert_eq!(seen.headers["cache-control"], "no-store", "{path}");
            let text = &seen.text;
            assert!(
                !text.contains(" style=") && !text.contains(" onclick="),
                "{path} holds style or script"
            );
            assert!(
                text.matches("<h1").count() == 1,
                "{path} has one heading of the first order"
            );
            // Every form that changes something can be told from a foreign one.
            let forms = text
                .split("<form")
                .skip(1)
                .filter(|form| form.split('>').next().unwrap().contains("post"));
            for form in forms {
                assert!(
                    form.split("</form>").next().unwrap().contains("name=\"form_token\""),
                    "{path}: {form}"
                );
            }
            for address in text
                .split("src=\"")
                .skip(1)
                .chain(text.split("<link rel=\"stylesheet\" href=\"").skip(1))
            {
                let address = address.split('"').next().unwrap();
                let file = browser.get(address).await;
                assert_eq!(file.status, 200, "{path} needs {address}");
                assert!(
                    file.headers["cache-control"].to_str().unwrap().contains("immutable"),
                    "{address}"
                );
            }
        }
        let missing = browser.get("/experiments/999999").await;
        assert_eq!(missing.status, 404);
        assert!(
            missing.text.contains("there is no experiment `999999`"),
            "{}",
            missing.text
        );
        assert_eq!(browser.get("/no/such/page").await.status, 404);
    });
}

#[test]
fn what_people_write_into_names_and_logs_stays_text() {
    on_both(async |world: World| {
        let script = "<script>alert(1)</script>";
        let browser = Browser::of(&world, &world.admin).await;
        world
            .admin
            .submit_config(serde_json::json!({"name": script, "entrypoint": "true"}))
            .await;
        let page = browser.get("/").await.page();
        assert!(!page.contains(script) && page.contains("&#60;script&#62;"), "{page}");
        for path in [
            "/?name=",
            "/?workspace=",
            "/?project=",
            "/?state=",
            "/?after=",
            "/sign-in?next=",
            "/experiments/",
            "/workspaces/",
        ] {
            let seen = browser
                .get(&format!("{path}%3Cscript%3Ealert(1)%3C/script%3E%22%3E"))
                .await;
            assert!(!seen.text.contains("<script>alert"), "{path}: {}", seen.text);
        }
    });
}
