//! The pages of vaults, as a browser has them.

use bailiwick_api::users::NewServiceAccount;
use bailiwick_api::vaults::NewVault;

use crate::browser::Browser;
use crate::world::{World, on_both};

const SECRET: &str = "s3cr3t-fjord-quartz";

#[test]
fn ones_own_vault_is_made_saved_twice_switched_off_and_deleted_by_forms() {
    on_both(async |world: World| {
        let ana = world.person("ana").await;
        let browser = Browser::of(&world, &ana).await;
        let seen = browser.get("/vaults").await.page();
        assert!(seen.contains("Make my vault") && !seen.contains("New vault"), "{seen}");
        let text = format!("environment:\r\n  TOKEN: {SECRET}\r\n");
        let wrong = [
            ("act", "create"),
            ("kind", "user"),
            ("who", "ana"),
            ("format", "yaml"),
            ("text", "enviroment:\n  TOKEN: typed-so"),
        ];
        let refused = browser.post("/vaults/new", &wrong).await;
        assert_eq!(refused.status, 422);
        assert!(
            refused.text.contains("typed-so") && refused.text.contains("environment"),
            "{}",
            refused.text
        );
        let made = [
            ("act", "create"),
            ("kind", "user"),
            ("who", "ana"),
            ("format", "yaml"),
            ("text", &text),
        ];
        let path = browser.post("/vaults/new", &made).await.leads().to_owned();
        for page in ["/vaults".to_owned(), path.clone()] {
            let seen = browser.get(&page).await.page();
            assert!(seen.contains("********") && !seen.contains(SECRET), "{page}: {seen}");
        }
        // Saved again and again it is what was typed last, and on.
        for round in 1..3 {
            let again = format!("{text}  ROUND: {round}\r\n");
            let version = round.to_string();
            let save = [
                ("act", "save"),
                ("version", &version),
                ("format", "yaml"),
                ("text", &again),
            ];
            assert_eq!(browser.post(&path, &save).await.leads(), path);
            let edited = browser.get(&format!("{path}?reveal=true")).await.page();
            assert!(
                edited.contains(&format!("ROUND: {round}")) && edited.contains(SECRET) && edited.contains("active"),
                "{edited}"
            );
        }
        let stale = [
            ("act", "save"),
            ("version", "1"),
            ("format", "yaml"),
            ("text", "sdk: {typed: meanwhile}"),
        ];
        let refused = browser.post(&path, &stale).await;
        assert_eq!(refused.status, 409);
        assert!(
            refused.text.contains("typed: meanwhile") && refused.text.contains("changed meanwhile"),
            "{}",
            refused.text
        );
        assert_eq!(browser.post(&path, &[("act", "disable")]).await.leads(), path);
        let off = browser.get(&format!("{path}?reveal=true")).await.page();
        assert!(off.contains("switched off") && off.contains(SECRET), "{off}");
        assert_eq!(browser.post(&path, &[("act", "enable")]).await.leads(), path);
        assert_eq!(browser.post(&path, &[("act", "delete")]).await.status, 422);
        assert_eq!(
            browser.post(&path, &[("act", "delete"), ("sure", "yes")]).await.leads(),
            "/vaults"
        );
        assert_eq!(browser.get(&path).await.status, 404);
        assert!(
            world.events("outcome = 'denied' AND object = '@ana'").await.is_empty(),
            "looking for one's own is no refusal"
        );
    });
}

#[test]
fn administrators_have_vaults_for_others_and_nobody_else_sees_them() {
    on_both(async |world: World| {
        let ana = world.person("ana").await;
        let admin = Browser::of(&world, &world.admin).await;
        let new = [
            ("act", "create"),
            ("kind", "organisation"),
            ("name", "house"),
            ("place", "60"),
            ("enforced", "yes"),
            ("format", "hocon"),
            ("text", "environment.PROXY = \"http://proxy\""),
        ];
        let path = admin.post("/vaults/new", &new).await.leads().to_owned();
        let listed = admin.get("/vaults").await.page();
        assert!(
            listed.contains("house") && listed.contains("environment.PROXY") && !listed.contains("http://proxy"),
            "{listed}"
        );
        let change = [("act", "place"), ("name", "house-2"), ("place", "70")];
        assert_eq!(admin.post(&path, &change).await.leads(), path);
        let seen = admin.get(&path).await.page();
        assert!(
            seen.contains("house-2") && seen.contains("70") && !seen.contains("70, enforced"),
            "{seen}"
        );
        let browser = Browser::of(&world, &ana).await;
        assert!(
            browser.get("/vaults").await.page().contains("house-2"),
            "it applies to her"
        );
        assert_eq!(browser.get(&path).await.status, 404);
        assert_eq!(admin.post(&path, &[("act", "disable")]).await.leads(), path);
        assert!(!browser.get("/vaults").await.page().contains("house-2"));
        assert_eq!(browser.post("/vaults/new", &new).await.status, 403);
        // A service account's, from its page.
        let account = NewServiceAccount {
            name: "ci".into(),
            serve: Vec::new(),
            impersonate: false,
        };
        world.admin.client.create_service_account(&account).await.unwrap();
        let id = world.rows("SELECT id FROM principals WHERE name = 'ci'").await;
        let id: i64 = sqlx::Row::get(&id[0], 0);
        let link = format!("/vaults?user={id}");
        assert!(admin.get(&format!("/users/{id}")).await.page().contains(&link));
        assert!(admin.get(&link).await.page().contains("Make a vault for ci"));
        let of_account = NewVault {
            user: Some("ci".into()),
            text: format!("sdk.token = {SECRET}"),
            ..NewVault::default()
        };
        world.admin.client.create_vault(&of_account).await.unwrap();
        let seen = admin.get(&link).await.page();
        assert!(
            seen.contains("The vault of ci") && seen.contains("sdk.token") && !seen.contains(SECRET),
            "{seen}"
        );
        assert_eq!(browser.get(&link).await.status, 403);
    });
}
