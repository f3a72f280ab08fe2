//! E-mail addresses, and links that are sent to them: through aiosmtpd on loopback, and through a server that misbehaves as real ones seldom do.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bailiwick_api::users::{ChangeUser, NewUser, UserState};
use bailiwick_server::mail::{Security, Smtp};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};

use crate::browser::Browser;
use crate::world::{PASSWORD, World, on_both, on_both_with};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Without TLS and sign-in.
    Takes,
    RefusesAddress,
    /// Takes the connection and says nothing.
    Silent,
}

const MAIL_PASSWORD: &str = "the mail secret";

/// A mail server, and what it has taken: to whom, and the mail.
#[derive(Clone)]
struct Post {
    port: u16,
    taken: Arc<Mutex<Vec<(String, String)>>>,
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/mail")
        .join(name)
}

impl Post {
    fn start(manner: Manner) -> Post {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let post = Post {
            port: listener.local_addr().unwrap().port(),
            taken: Arc::default(),
        };
        let taken = post.taken.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, manner, taken.clone()));
                }
            });
        });
        post
    }

    fn smtp(&self) -> Smtp {
        Smtp {
            host: "127.0.0.1".into(),
            port: self.port,
            security: Security::None,
            ca_file: None,
            user: None,
            password_file: None,
            from: "bailiwick@example.org".into(),
        }
    }

    /// The mails to this address, oldest first.
    fn to(&self, address: &str) -> Vec<String> {
        let taken = self.taken.lock().unwrap();
        let to = format!("<{address}>");
        taken
            .iter()
            .filter(|(one, _)| *one == to)
            .map(|(_, mail)| mail.clone())
            .collect()
    }
}

async fn serve(stream: TcpStream, manner: Manner, taken: Arc<Mutex<Vec<(String, String)>>>) -> std::io::Result<()> {
    if manner == Manner::Silent {
        tokio::time::sleep(Duration::from_secs(60)).await;
        return Ok(());
    }
    let mut stream = BufStream::new(stream);
    stream.write_all(b"220 post.example.org ESMTP\r\n").await?;
    stream.flush().await?;
    let mut to = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        let word = line.split([' ', ':']).next().unwrap_or_default();
        let answer = match word {
            "EHLO" => "250 post.example.org",
            "RCPT" if manner == Manner::RefusesAddress => "550 5.1.1 nobody here has that name",
            "RCPT" => {
                to = line.split_once(':').unwrap_or_default().1.to_owned();
                "250 ok"
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await?;
                stream.flush().await?;
                let mut mail = String::new();
                while !mail.ends_with("\r\n.\r\n") {
                    if stream.read_line(&mut mail).await? == 0 {
                        return Ok(());
                    }
                }
                taken.lock().unwrap().push((to.clone(), mail));
                "250 taken"
            }
            "QUIT" => "221 bye",
            _ => "250 ok",
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
        stream.flush().await?;
        if word == "QUIT" {
            return Ok(());
        }
    }
}

/// aiosmtpd, and the mails that it takes.
struct Aiosmtpd {
    port: u16,
    process: std::process::Child,
    lines: std::io::BufReader<std::process::ChildStdout>,
    taken: Vec<serde_json::Value>,
}

impl Aiosmtpd {
    fn start() -> Aiosmtpd {
        let cache = std::env::var_os("XDG_CACHE_HOME").filter(|set| !set.is_empty());
        let cache = cache.map(PathBuf::from).unwrap_or_else(|| {
            let home = std::env::var_os("HOME").expect("there is a home");
            PathBuf::from(home).join(".cache")
        });
        let mut process = std::process::Command::new(cache.join("bailiwick/fuzz-python/bin/python"))
            .arg(file("server.py"))
            .args([file("leaf.pem"), file("leaf.key")])
            .arg(MAIL_PASSWORD)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("`scripts/setup.sh test` has set up Python with aiosmtpd");
        let mut lines = std::io::BufReader::new(process.stdout.take().unwrap());
        let mut port = String::new();
        std::io::BufRead::read_line(&mut lines, &mut port).unwrap();
        Aiosmtpd {
            port: port.trim().parse().expect("it says its port"),
            process,
            lines,
            taken: Vec::new(),
        }
    }

    /// The mail to this address, of which it is known that it was taken.
    fn to(&mut self, address: &str) -> serde_json::Value {
        loop {
            if let Some(mail) = self.taken.iter().find(|mail| mail["to"] == json!([address])) {
                return mail.clone();
            }
            let mut line = String::new();
            std::io::BufRead::read_line(&mut self.lines, &mut line).unwrap();
            let mail = serde_json::from_str(&line).expect("a mail is a line of JSON");
            self.taken.push(mail);
        }
    }
}

impl Drop for Aiosmtpd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The secret of the link that a mail holds, whose head says how its lines are to be read.
fn token(mail: &str) -> String {
    let (head, _) = mail.split_once("\r\n\r\n").expect("a head and a body");
    for part in ["MIME-Version: 1.0", "Message-ID: <", "Content-Transfer-Encoding: "] {
        assert!(head.contains(part), "{part} in {head}");
    }
    secret(&mail.replace("=\r\n", "").replace("=3D", "="))
}

fn secret(text: &str) -> String {
    let rest = text
        .split("/activate#")
        .nth(1)
        .unwrap_or_else(|| panic!("a link: {text}"));
    rest.split_whitespace().next().unwrap().to_owned()
}

fn invited(email: &str) -> NewUser {
    NewUser {
        email: Some(email.into()),
        ..NewUser::default()
    }
}

/// An address of its own for each database.
fn address(world: &World, name: &str) -> String {
    format!("{name}.{:?}@Example.org", world.database)
}

async fn follow(world: &World, token: &str) -> u16 {
    let body = json!({"token": token, "password": PASSWORD});
    world.nobody().post("/api/v1/login/link", body).await.status
}

async fn sign_in(world: &World, name: &str) -> u16 {
    let body = json!({"name": name, "password": PASSWORD});
    world.nobody().post("/api/v1/login", body).await.status
}

#[test]
fn an_invitation_arrives_and_its_link_signs_up() {
    let post = Post::start(Manner::Takes);
    let smtp = post.smtp();
    on_both_with(
        move |config| config.smtp = Some(smtp.clone()),
        move |world| {
            let post = post.clone();
            async move {
                let (client, ana) = (&world.admin.client, address(&world, "Ana"));
                let made = client.create_user(&invited(&ana)).await.unwrap();
                assert_eq!(
                    (made.user.name.as_str(), made.user.state),
                    (ana.as_str(), UserState::Pending)
                );
                let link = made.link.unwrap();
                let mail = link.mail.unwrap();
                assert_eq!((mail.sent, mail.to.as_str(), mail.why), (true, ana.as_str(), None));
                let mails = post.to(&ana);
                assert_eq!(mails.len(), 1);
                assert!(
                    mails[0].contains("From: bailiwick@example.org") && mails[0].contains("text/plain"),
                    "{}",
                    mails[0]
                );
                assert_eq!(token(&mails[0]), link.token);

                // Sent again: the first link is dead.
                let again = client.user_link(&ana).await.unwrap();
                assert!(again.mail.unwrap().sent);
                let mails = post.to(&ana);
                assert_eq!(mails.len(), 2);
                assert_eq!(follow(&world, &token(&mails[0])).await, 401);
                assert_eq!(follow(&world, &token(&mails[1])).await, 200);
                assert_eq!(client.user(&ana).await.unwrap().state, UserState::Active);

                // By name or address, whatever the letter case.
                let bob = NewUser {
                    name: "bob".into(),
                    password: Some(PASSWORD.into()),
                    ..invited(&address(&world, "Bob"))
                };
                client.create_user(&bob).await.unwrap();
                let his = address(&world, "Bob").to_uppercase();
                assert_eq!((sign_in(&world, "BOB").await, sign_in(&world, &his).await), (200, 200));
                assert!(post.to(&address(&world, "Bob")).is_empty(), "no link, no mail");

                // On the page: sent, and shown as well.
                let admin = Browser::of(&world, &world.admin).await;
                let eve = address(&world, "Eve");
                let shown = admin.post("/users", &[("act", "invite"), ("name", &eve)]).await.page();
                assert!(
                    shown.contains("It was sent to") && shown.contains("/activate#mll_"),
                    "{shown}"
                );
                let id = client.user(&eve).await.unwrap().id;
                let page = admin.get(&format!("/users/{id}")).await.page();
                assert!(
                    page.contains("Resend the invitation") && page.contains("Withdraw the invitation"),
                    "{page}"
                );
                admin.post(&format!("/users/{id}"), &[("act", "link")]).await.page();
                let mails = post.to(&eve);
                assert_eq!(mails.len(), 2);
                admin
                    .post(&format!("/users/{id}"), &[("act", "withdraw")])
                    .await
                    .leads();
                assert_eq!(follow(&world, &token(&mails[1])).await, 401, "a withdrawn link is dead");
            }
        },
    );
}

/// Against a server and a reader of mail that are not ours.
#[test]
fn mail_goes_through_tls_and_a_sign_in() {
    let dir = tempfile::tempdir().unwrap();
    let server = Arc::new(Mutex::new(Aiosmtpd::start()));
    let port = server.lock().unwrap().port;
    let with = |password: &str| {
        let path = dir.path().join(password.replace(' ', "-"));
        std::fs::write(&path, format!("{password}\n")).unwrap();
        Smtp {
            host: "127.0.0.1".into(),
            port,
            security: Security::StartTls,
            ca_file: Some(file("ca.pem")),
            user: Some("ml".into()),
            password_file: Some(path),
            from: "Bailiwick <bailiwick@example.org>".into(),
        }
    };
    for (smtp, said) in [
        (with(MAIL_PASSWORD), None),
        (with("another one"), Some("refused the sign-in")),
        (
            Smtp {
                ca_file: None,
                ..with(MAIL_PASSWORD)
            },
            Some("no secure connection"),
        ),
    ] {
        let server = server.clone();
        on_both_with(
            move |config| config.smtp = Some(smtp.clone()),
            move |world| {
                let server = server.clone();
                async move {
                    let to = address(&world, "ana");
                    let made = world.admin.client.create_user(&invited(&to)).await.unwrap();
                    let sent = made.link.unwrap().mail.unwrap();
                    assert_eq!(sent.sent, said.is_none(), "{sent}");
                    let why = sent.why.unwrap_or_default();
                    assert!(why.contains(said.unwrap_or_default()), "{why}");
                    assert!(!why.contains("another one") && !why.contains(MAIL_PASSWORD), "{why}");
                    if said.is_some() {
                        return;
                    }
                    let mail = server.lock().unwrap().to(&to);
                    assert_eq!(mail["from"], "bailiwick@example.org");
                    assert_eq!((&mail["tls"], &mail["faults"]), (&json!(true), &json!([])));
                    for header in ["From", "To", "Subject", "Date", "Message-ID", "MIME-Version"] {
                        let text = mail["headers"][header].as_str();
                        assert!(text.is_some_and(|text| !text.is_empty()), "{mail}");
                    }
                    assert_eq!(follow(&world, &secret(mail["text"].as_str().unwrap())).await, 200);
                    assert_eq!(sign_in(&world, &to).await, 200);
                }
            },
        );
    }
}

#[test]
fn without_a_mail_server_that_takes_it_the_link_is_given_with_the_reason() {
    let closed = Post {
        // Nobody listens on it by now.
        port: std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port(),
        taken: Arc::default(),
    };
    for (smtp, said) in [
        (None, "no mail server is set up here"),
        (Some(closed.smtp()), "cannot be talked to"),
        (Some(Post::start(Manner::Silent).smtp()), "did not answer in time"),
        (
            Some(Post::start(Manner::RefusesAddress).smtp()),
            "nobody here has that name",
        ),
    ] {
        on_both_with(
            move |config| config.smtp = smtp.clone(),
            move |world| async move {
                let begun = Instant::now();
                let made = world
                    .admin
                    .client
                    .create_user(&invited("ana@example.org"))
                    .await
                    .unwrap();
                assert!(begun.elapsed() < Duration::from_secs(15), "it does not hang");
                let link = made.link.unwrap();
                let mail = link.mail.unwrap();
                assert!(!mail.sent && mail.why.as_ref().unwrap().contains(said), "{mail}");
                assert_eq!(follow(&world, &link.token).await, 200, "the invitation stands");
            },
        );
    }
}

#[test]
fn an_address_belongs_to_one_and_an_invitation_is_withdrawn_whole() {
    on_both_with(
        |config| config.seats = Some(2),
        |world| async move {
            let client = &world.admin.client;
            let first = client.create_user(&invited("ana@example.org")).await.unwrap();
            let refused = |outcome: bailiwick_client::Result<_>| outcome.map(drop).unwrap_err().to_string();
            // Another with that address, or with the address as a name.
            let other = NewUser {
                name: "other".into(),
                ..invited("ANA@example.ORG")
            };
            assert!(refused(client.create_user(&other).await).contains("already a user with the e-mail address"));
            let full = refused(client.create_user(&invited("bob@example.org")).await);
            assert!(full.contains("all are taken"), "{full}");

            let hers = ChangeUser {
                email: Some("bob@example.org".into()),
                display_name: Some("Ana".into()),
                ..ChangeUser::default()
            };
            assert_eq!(
                client
                    .change_user("ana@example.org", &hers)
                    .await
                    .unwrap()
                    .email
                    .as_deref(),
                Some("bob@example.org")
            );
            client.withdraw_user("ana@example.org").await.unwrap();
            assert_eq!(follow(&world, &first.link.unwrap().token).await, 401);
            assert_eq!(world.count("audit_events WHERE verb = 'withdraw'").await, 1);

            // Seat, name and address are free; whoever comes again brings nothing along.
            let again = client.create_user(&invited("ana@example.org")).await.unwrap();
            assert_ne!(again.user.id, first.user.id);
            assert_eq!(
                (again.user.email.as_deref(), again.user.display_name),
                (Some("ana@example.org"), None)
            );
            assert_eq!(follow(&world, &again.link.unwrap().token).await, 200);
            let active = client.withdraw_user("ana@example.org").await.unwrap_err().to_string();
            assert!(
                active.contains("only an invitation that nobody has followed"),
                "{active}"
            );
            assert_eq!(client.user("ana@example.org").await.unwrap().state, UserState::Active);
            client.remove_user("ana@example.org").await.unwrap();
            assert_eq!(
                world
                    .count("principals WHERE state = 'removed' AND email IS NOT NULL")
                    .await,
                0
            );
        },
    );
}

#[test]
fn an_address_is_one_and_is_changed_by_its_owner_or_by_who_may_do_all_that_he_may() {
    on_both(|world| async move {
        let (ana, lead) = (world.person("ana").await, world.person("lead").await);
        for bad in [
            "ana",
            "a@b@c",
            "ana@example.org\r\nBcc: eve@example.org",
            "ana@exa mple.org",
            "@example.org",
            "ana@-x",
            "ana@x..y",
        ] {
            let answer = world
                .admin
                .post("/api/v1/users", json!({"name": "new", "email": bad}))
                .await;
            assert_eq!(answer.status, 422, "{bad:?}");
        }
        let email = |email: &str| ChangeUser {
            email: Some(email.into()),
            ..ChangeUser::default()
        };
        // Nobody says himself which address is his: he could claim another's.
        let claimed = ana.client.change_user("ana", &email("newcomer@example.org")).await;
        assert_eq!(claimed.unwrap_err().status(), Some(403));
        let own = world
            .admin
            .client
            .change_user("ana", &email("ana@example.org"))
            .await
            .unwrap();
        assert_eq!(own.email.as_deref(), Some("ana@example.org"));
        assert_eq!(
            lead.client.user("ana").await.unwrap().email,
            None,
            "fellow users do not see it"
        );
        assert!(
            lead.client
                .change_user("ana", &email("lead@example.org"))
                .await
                .is_err()
        );
        let taken = world
            .admin
            .client
            .change_user("lead", &email("Ana@example.org"))
            .await
            .unwrap_err();
        assert!(
            taken.to_string().contains("already a user with the e-mail address")
                && taken.to_string().contains("(letter case does not matter): ana"),
            "{taken}"
        );
        // Who may change users, and not all that an administrator may, does not get his links sent elsewhere.
        crate::roles::make_role(&world, "Desk", &["users:read", "users:update"]).await;
        let given = crate::roles::give(&world.admin, "Desk", "lead", "").await;
        assert_eq!(given.status, 200, "{}", given.text);
        assert_eq!(
            lead.client.user("ana").await.unwrap().email.as_deref(),
            Some("ana@example.org")
        );
        assert!(
            lead.client
                .change_user("admin", &email("lead2@example.org"))
                .await
                .is_err()
        );
        assert_eq!(world.admin.client.user("admin").await.unwrap().email, None);
        assert_eq!(ana.client.change_user("ana", &email("")).await.unwrap().email, None);
    });
}
