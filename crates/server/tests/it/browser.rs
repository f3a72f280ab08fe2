//! A browser without its window: keeps cookies, sends forms with their token, and follows nothing by itself.

use std::collections::BTreeMap;
use std::sync::Mutex;

use reqwest::Method;
use reqwest::header::{LOCATION, SET_COOKIE};

use crate::world::{PASSWORD, Person, World};

pub struct Browser {
    url: String,
    client: reqwest::Client,
    cookies: Mutex<BTreeMap<String, String>>,
    /// The token of the last form that was seen.
    token: Mutex<String>,
}

/// What a page answers.
#[derive(Debug)]
pub struct Seen {
    pub status: u16,
    pub text: String,
    /// Where it leads, for a 303.
    pub location: String,
    pub headers: reqwest::header::HeaderMap,
}

impl Seen {
    /// The page, which must be there.
    pub fn page(self) -> String {
        assert_eq!(self.status, 200, "{}", self.text);
        self.text
    }

    /// Where a form that was accepted leads.
    pub fn leads(self) -> String {
        assert_eq!(self.status, 303, "{}", self.text);
        self.location
    }
}

impl Browser {
    /// Nobody is signed in.
    pub fn new(world: &World) -> Browser {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client can be made");
        Browser {
            url: world.url.clone(),
            client,
            cookies: Mutex::default(),
            token: Mutex::default(),
        }
    }

    /// Signed in as this person.
    pub async fn of(world: &World, person: &Person) -> Browser {
        let browser = Browser::new(world);
        assert_eq!(browser.sign_in(&person.name).await.leads(), "/");
        // Its forms have another token than the one to sign in.
        browser.get("/").await;
        browser
    }

    /// Signs in with name and password on the page.
    pub async fn sign_in(&self, name: &str) -> Seen {
        self.get("/sign-in").await;
        self.post("/sign-in", &[("name", name), ("password", PASSWORD)]).await
    }

    pub fn keep(&self, name: &str, value: &str) {
        self.cookies.lock().unwrap().insert(name.into(), value.into());
    }

    pub fn cookie(&self, name: &str) -> String {
        self.cookies.lock().unwrap().get(name).cloned().unwrap_or_default()
    }

    /// The token of the last form that was seen.
    pub fn form_token(&self) -> String {
        self.token.lock().unwrap().clone()
    }

    pub async fn get(&self, path: &str) -> Seen {
        self.send(Method::GET, path, None).await
    }

    /// Sends a form with the token of the last page; of `/` where none was seen yet.
    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Seen {
        if self.token.lock().unwrap().is_empty() {
            self.get("/").await;
        }
        let token = self.token.lock().unwrap().clone();
        let mut all = vec![("form_token", token.as_str())];
        all.extend(fields);
        self.send(Method::POST, path, Some(&all)).await
    }

    /// Sends just these fields.
    pub async fn post_raw(&self, path: &str, fields: &[(&str, &str)]) -> Seen {
        self.send(Method::POST, path, Some(fields)).await
    }

    async fn send(&self, method: Method, path: &str, form: Option<&[(&str, &str)]>) -> Seen {
        let cookies: Vec<String> = {
            let cookies = self.cookies.lock().unwrap();
            cookies.iter().map(|(name, value)| format!("{name}={value}")).collect()
        };
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        request = request.header("accept", "text/html");
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        if let Some(form) = form {
            let pairs = form
                .iter()
                .map(|(name, value)| format!("{}={}", quoted(name), quoted(value)));
            request = request
                .header("content-type", "application/x-www-form-urlencoded")
                .body(pairs.collect::<Vec<_>>().join("&"));
        }
        let answer = request.send().await.expect("the server answers");
        for set in answer.headers().get_all(SET_COOKIE) {
            let set = set.to_str().expect("cookies are ASCII");
            let (name, value) = set
                .split(';')
                .next()
                .and_then(|one| one.split_once('='))
                .expect("name=value");
            self.keep(name, value);
        }
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let location = headers
            .get(LOCATION)
            .and_then(|to| to.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let text = answer.text().await.unwrap_or_default();
        let marked = text.split("name=\"form_token\" value=\"").nth(1);
        if let Some(token) = marked.and_then(|rest| rest.split('"').next()) {
            *self.token.lock().unwrap() = token.into();
        }
        Seen {
            status,
            text,
            location,
            headers,
        }
    }
}

pub fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}
