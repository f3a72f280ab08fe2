//! Every route of the router's own table × everybody who may knock × their own things, another's, and what is not there. The answers stand in
//! `access-matrix.txt`, to be read as a diff; `BLESS=1` writes it anew.

use bailiwick_server::access::is_page;
use std::collections::BTreeMap;
use std::fmt::Write;

use bailiwick_api::key;
use bailiwick_api::models::{NewModel, NewModelVersion};
use bailiwick_api::permission::BUILT_IN_ROLES;
use bailiwick_api::queues::{QueueAccess, QueueSettings};
use bailiwick_api::stacks::StackSettings;
use bailiwick_api::users::NewServiceAccount;
use bailiwick_api::vaults::NewVault;
use serde_json::{Value, json};
use sqlx::Row;

use crate::tables;
use crate::world::{Answer, Hand, PASSWORD, Person, World, fresh_number, held, on_both_with};

/// What a request is aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aim {
    /// The route names nothing.
    Plain,
    Own,
    Others,
    Missing,
}

impl Aim {
    pub fn word(self) -> &'static str {
        match self {
            Aim::Plain => "",
            Aim::Own => "own",
            Aim::Others => "other's",
            Aim::Missing => "missing",
        }
    }
}

/// A packed archive without files.
const EMPTY_ARCHIVE: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x63\x60\x18\x05\xa3\x60\x14\x8c\x54\x00\x00\x2e\xaf\xb5\xef\x00\x04\x00\x00";

/// How many events a success leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Leaves {
    One,
    /// What a page does in two steps of the interface.
    Two,
    /// The `&str` says why.
    Nothing(&'static str),
}

/// A request, ready to be sent.
pub struct Call {
    pub path: String,
    /// The name in it, which answers may repeat.
    pub name: String,
    body: Option<Value>,
    raw: Option<Vec<u8>>,
    leaves: Leaves,
}

impl Call {
    pub fn to(path: impl Into<String>) -> Call {
        Call {
            path: path.into(),
            name: String::new(),
            body: None,
            raw: None,
            leaves: Leaves::One,
        }
    }

    pub fn named(self, name: impl ToString) -> Call {
        Call {
            name: name.to_string(),
            ..self
        }
    }

    pub fn with(self, body: Value) -> Call {
        Call {
            body: Some(body),
            ..self
        }
    }

    fn leaving_nothing(self, why: &'static str) -> Call {
        Call {
            leaves: Leaves::Nothing(why),
            ..self
        }
    }
}

/// Who knocks.
#[derive(Clone)]
enum Caller {
    Is(Person),
    /// A job of this owner, new for each request: a request may end it.
    JobOf(Person),
    Agent(Person),
}

pub struct Stage {
    world: World,
    callers: Vec<(String, Caller)>,
    /// Owns what is another's.
    other: Person,
    hand: Hand,
    other_hand: Hand,
    code: String,
}

impl Stage {
    pub async fn build(world: World) -> Stage {
        let mut callers = vec![("nobody".to_owned(), Caller::Is(world.nobody()))];
        let stranger = world.person_with("stranger", "OwnViewer").await;
        world
            .sql(format!("DELETE FROM assignments WHERE principal_id = {}", stranger.id))
            .await
            .unwrap();
        callers.push(("stranger".into(), Caller::Is(stranger)));
        let owner = world.person("owner").await;
        callers.push(("Users' DataScientist".into(), Caller::Is(owner)));
        for role in BUILT_IN_ROLES {
            let person = world.person_with(&role.name.to_lowercase(), role.name).await;
            callers.push((role.name.into(), Caller::Is(person)));
        }
        callers.push(("admin".into(), Caller::Is(world.admin.clone())));
        let worker = world.person("worker").await;
        callers.push(("job".into(), Caller::JobOf(worker)));
        let account = NewServiceAccount {
            name: "machines".into(),
            serve: vec!["default".into()],
            impersonate: false,
        };
        let made = world.admin.client.create_service_account(&account).await.unwrap();
        let client = world.admin.client.with_key(Some(&made.secret));
        let as_person = Person::of(&world.admin.client, "machines", &made.secret).await;
        let hand = Hand::register(client, "machine-1", 4, &made.secret).await;
        callers.push(("agent".into(), Caller::Agent(as_person)));
        let other = world.person("other").await;
        let other_hand = world.agent("machine-2", 4).await;
        let code = other.send_code(EMPTY_ARCHIVE).await;
        Stage {
            world,
            callers,
            other,
            hand,
            other_hand,
            code,
        }
    }

    /// A waiting experiment of somebody, who may not be allowed to submit one.
    async fn experiment_of(&self, who: &Person) -> i64 {
        let config = json!({"name": format!("e{}", fresh_number()), "entrypoint": "true"});
        let new = bailiwick_api::experiments::NewExperiment {
            config,
            code: Some(self.code.clone()),
            args: Vec::new(),
        };
        let made = self.other.client.create_experiment(&new).await.unwrap();
        if who.id.0 != 0 && who.id != self.other.id {
            let sql = format!("UPDATE experiments SET owner_id = {} WHERE id = {}", who.id, made.id);
            self.world.sql(sql).await.unwrap();
        }
        made.id.0
    }

    /// An agent of somebody that holds a job: their numbers and the fencing number.
    async fn holding_agent_of(&self, who: &Person) -> (i64, i64, i64) {
        let found = self
            .world
            .rows(format!("SELECT id FROM agents WHERE principal_id = {}", who.id))
            .await;
        let agent: i64 = match found.first() {
            Some(row) => row.get(0),
            None => {
                let sql = format!(
                    "INSERT INTO agents (principal_id, name, queues, slots, slot_kind, hardware, address, instance, created_at, last_seen_at)
                     VALUES ({}, 'of {}', '[\"default\"]', 4, 'cpu', '{{}}', '', 'only', 0, 0) RETURNING id",
                    who.id, who.name
                );
                self.world.rows(sql).await[0].get(0)
            }
        };
        // It holds nothing else that it would have to name when it polls.
        let done = format!("UPDATE jobs SET state = 'COMPLETED' WHERE agent_id = {agent}");
        self.world.sql(done).await.unwrap();
        let experiment = self.experiment_of(&self.other).await;
        let sql = format!(
            "UPDATE jobs SET state = 'RUNNING', agent_id = {agent}, fence = 7 WHERE experiment_id = {experiment} RETURNING id"
        );
        let job: i64 = self.world.rows(sql).await[0].get(0);
        (agent, job, 7)
    }

    /// A role that nobody holds yet.
    async fn new_role(&self) -> String {
        let new = bailiwick_api::roles::NewRole {
            name: format!("role{}", fresh_number()),
            permissions: vec!["stacks:read".into()],
            ..Default::default()
        };
        self.world.admin.client.create_role(&new).await.unwrap().name
    }

    /// A role of its own on the workspace `default`, assigned to this user: its number, and the role.
    async fn new_assignment(&self, user: &str) -> (i64, String) {
        let role = self.new_role().await;
        let one = bailiwick_api::roles::NewAssignment {
            role: role.clone(),
            user: Some(user.to_owned()),
            on: Some("workspace:default".into()),
            ..Default::default()
        };
        let new = bailiwick_api::roles::NewAssignments {
            assignments: vec![one],
            ..Default::default()
        };
        let made = self.world.admin.client.assign(&new).await.unwrap();
        (made.items[0].id.0, role)
    }

    /// A workspace of the administrator's; whoever is named holds there what they hold in the workspace `default`.
    async fn new_workspace(&self, whose: Option<&Person>) -> String {
        let new = bailiwick_api::workspaces::NewWorkspace {
            name: format!("workspace{}", fresh_number()),
            ..Default::default()
        };
        let admin = &self.world.admin.client;
        let made = admin.create_workspace(&new).await.unwrap();
        let role = whose.and_then(|who| match who.name.as_str() {
            "owner" => Some("DataScientist"),
            name => {
                let role = BUILT_IN_ROLES.iter().find(|role| role.name.to_lowercase() == name)?;
                (!role.permissions().is_global_only()).then_some(role.name)
            }
        });
        if let (Some(who), Some(role)) = (whose, role) {
            let one = bailiwick_api::roles::NewAssignment {
                role: role.into(),
                user: Some(who.name.clone()),
                on: Some(format!("workspace:{}", made.name)),
                ..Default::default()
            };
            let new = bailiwick_api::roles::NewAssignments {
                assignments: vec![one],
                ..Default::default()
            };
            admin.assign(&new).await.unwrap();
        }
        made.name
    }

    async fn new_project(&self, workspace: &str) -> String {
        let new = bailiwick_api::workspaces::NewProject {
            name: format!("project{}", fresh_number()),
            ..Default::default()
        };
        let made = self.world.admin.client.create_project(workspace, &new).await.unwrap();
        made.name
    }

    /// Somebody with the same role who may be ended by the request.
    async fn twin(&self, caller: &str, who: &Person) -> Person {
        let name = format!("twin{}", fresh_number());
        match caller {
            "nobody" => who.clone(),
            "stranger" => self.world.person_with(&name, "ModelRegistryViewer").await,
            "Users' DataScientist" => self.world.person(&name).await,
            "admin" => self.world.person_with(&name, "ClusterAdmin").await,
            role => self.world.person_with(&name, role).await,
        }
    }
}

/// The aims that make sense for a route.
fn aims(path: &str) -> &'static [Aim] {
    if path.contains('{') {
        &[Aim::Own, Aim::Others, Aim::Missing]
    } else {
        &[Aim::Plain]
    }
}

/// How to call a route so that nothing but rights is in the way. A route that is not here fails the test: add it.
pub async fn call(stage: &Stage, route: &str, aim: Aim, who: &Person, own_experiment: Option<i64>) -> Call {
    let (method, path) = route.split_once(' ').expect("a route is a method and a path");
    if !is_page(path) {
        return call_interface(stage, route, aim, who, own_experiment).await;
    }
    let seen = match path.contains('{') {
        true => Box::pin(call_interface(stage, &format!("GET {path}"), aim, who, own_experiment)).await,
        false => Call::to(path),
    };
    if method == "GET" {
        return seen;
    }
    let raw = Some(form(stage, path).await.replace(' ', "+").into_bytes());
    let call = Call { raw, ..seen };
    match path {
        "/audit" => call.leaving_nothing("it changes nothing"),
        "/sign-in" | "/activate" => call.leaving_nothing("it is refused before anything is tried"),
        "/sign-out" | "/settings/sessions" => call.leaving_nothing("there is no session"),
        // The code is sent anew under one's own name, unless it is one's own.
        "/experiments/{experiment}/again" if who.id != stage.other.id => Call {
            leaves: Leaves::Two,
            ..call
        },
        _ => call,
    }
}

/// One act of the form of each page.
async fn form(stage: &Stage, path: &str) -> String {
    let number = fresh_number();
    match path {
        "/experiments" => "act=cancel&ids=none".into(),
        "/sign-in" => "name=other&password=".into(),
        "/sign-out" => String::new(),
        "/activate" => format!("token=none&password={PASSWORD}&again=other"),
        "/access/shadow" => "act=clear".into(),
        "/access/requests" => format!("act=ask&role=Viewer&on=workspace:w{number}&lifetime=1h&why=to look"),
        "/audit" => "act=verify".into(),
        "/settings" => format!("act=display-name&display_name=Nr. {number}"),
        "/settings/tokens" => "act=create&label=new".into(),
        "/settings/sessions" => "act=revoke-others".into(),
        "/experiments/{experiment}" => "act=cancel".into(),
        "/experiments/{experiment}/again" => "config=name: new%0Aentrypoint: [\"true\"]".into(),
        "/workspaces" | "/workspaces/{workspace}" | "/groups" => format!("act=create&name=new{number}"),
        "/workspaces/{workspace}/members" => {
            format!("act=add&kind=user&who=other&role={}", stage.new_role().await)
        }
        "/workspaces/{workspace}/settings" | "/workspaces/{workspace}/projects/{project}" => "act=archive".into(),
        "/users" => format!("act=invite&name=new{number}"),
        "/users/{user}" => "act=link".into(),
        "/service-accounts" => format!("act=create&name=new{number}&serve=default"),
        "/groups/{group}" => format!("act=change&description=Nr. {number}"),
        "/agents/{agent}" => "act=drain".into(),
        "/roles" => format!("act=create&name=new{number}&experiments:read=all"),
        "/roles/{role}" => format!("act=change&description=Nr. {number}"),
        "/vaults/new" => format!("act=create&kind=organisation&name=new{number}"),
        "/vaults/{vault}" => "act=disable".into(),
        "/stacks/new" => format!("act=create&name=new{number}"),
        "/models/new" => format!("act=create&workspace=default&name=new{number}"),
        "/models/{model}" => format!("act=add-version&uri=s3://models/{number}"),
        "/stacks/{stack}" => format!("act=change&name=new{number}"),
        "/queues/new" => format!("act=create&name=new{number}"),
        "/queues/{queue}" => "act=pause".into(),
        "/assignments" => format!(
            "act=give&user=other&role={}&on=workspace:default",
            stage.new_role().await
        ),
        other => panic!("the matrix does not know the form of {other}: say in this file what it needs"),
    }
}

/// Makes a thing somebody's own who may not make one himself.
async fn give_over(world: &World, table: &str, id: i64, who: &Person) {
    // All at once: a server that looked in between would take the new version for one without changes.
    let sql = format!(
        "BEGIN; UPDATE {table} SET owner_id = {} WHERE id = {id}; UPDATE access_version SET version = version + 1;
         INSERT INTO access_changes (version, kind, object_id) SELECT version, 'everything', 0 FROM access_version; COMMIT",
        who.id
    );
    world.sql(sql).await.unwrap();
    // A change through the server makes it look, whatever the database.
    let new = bailiwick_api::workspaces::NewWorkspace {
        name: format!("look{}", fresh_number()),
        ..Default::default()
    };
    world.admin.client.create_workspace(&new).await.unwrap();
}

async fn call_interface(stage: &Stage, route: &str, aim: Aim, who: &Person, own_experiment: Option<i64>) -> Call {
    let world = &stage.world;
    let number = fresh_number();
    if route == "GET /static/{file}" {
        return Call::to("/static/none.css").named("/static/none.css");
    }
    if route.contains("{experiment}") {
        let id = match aim {
            Aim::Own => match own_experiment {
                Some(id) => id,
                None => stage.experiment_of(who).await,
            },
            Aim::Others => stage.experiment_of(&stage.other).await,
            _ => 900_000,
        };
        let (method, path) = route.split_once(' ').expect("a route is a method and a path");
        let call = Call::to(path.replace("{experiment}", &id.to_string())).named(id);
        if method == "DELETE" || path.ends_with("archive") {
            // Only what has ended can be deleted or archived; what a job is asking for goes on.
            let sql = format!(
                "UPDATE experiments SET state = 'COMPLETED', ended_at = 1 WHERE id = {id} AND state = 'QUEUED'"
            );
            world.sql(sql).await.unwrap();
        }
        if path.ends_with("/job") {
            return call.with(json!({"priority": 1 + number % 99}));
        }
        if path.ends_with("/progress") {
            let call = call.with(json!({"progress": 0.5}));
            return match own_experiment.is_some() && aim == Aim::Own {
                true => call.leaving_nothing("what a job says of itself is no event"),
                false => call,
            };
        }
        if path.ends_with("/move") {
            let project = stage.new_project("default").await;
            return call.with(json!({"project": project}));
        }
        return if method == "POST" { call.with(json!({})) } else { call };
    }
    if route.contains("{workspace}") {
        let (method, path) = route.split_once(' ').expect("a route is a method and a path");
        let (workspace, project) = match aim {
            Aim::Missing => ("nowhere".to_owned(), "nothing".to_owned()),
            _ => {
                let workspace = stage.new_workspace((aim == Aim::Own).then_some(who)).await;
                let project = stage.new_project(&workspace).await;
                (workspace, project)
            }
        };
        if path.ends_with("/unarchive") && aim != Aim::Missing {
            let client = &world.admin.client;
            match path.contains("{project}") {
                true => client.archive_project(&workspace, &project, true).await.map(|_| ()),
                false => client.archive_workspace(&workspace, true).await.map(|_| ()),
            }
            .unwrap();
        }
        let name = if path.contains("{project}") {
            &project
        } else {
            &workspace
        };
        let path = path.replace("{workspace}", &workspace).replace("{project}", &project);
        let call = Call::to(path).named(name);
        return match (method, route.ends_with("/projects") || route.ends_with("/models")) {
            ("POST", true) => call.with(json!({"name": format!("new{number}")})),
            ("POST", false) => call.with(json!({})),
            ("PATCH", _) => call.with(json!({"description": format!("Nr. {number}")})),
            _ => call,
        };
    }
    if let Some((_, rest)) = route.split_once("{user}") {
        let service = route.contains("service-accounts");
        let name = match aim {
            Aim::Own => who.name.clone(),
            Aim::Others if service => {
                let account = NewServiceAccount {
                    name: format!("account{number}"),
                    serve: Vec::new(),
                    impersonate: false,
                };
                world.admin.client.create_service_account(&account).await.unwrap();
                account.name
            }
            Aim::Others => {
                let new = bailiwick_api::users::NewUser {
                    name: format!("user{number}"),
                    ..Default::default()
                };
                world.admin.client.create_user(&new).await.unwrap();
                // Invited users are seen by administrators alone; an active one by everybody.
                if rest != "/invitation" {
                    world
                        .sql(format!(
                            "UPDATE principals SET state = 'active' WHERE name = '{}'",
                            new.name
                        ))
                        .await
                        .unwrap();
                }
                if rest == "/activate" {
                    world.admin.client.deactivate_user(&new.name).await.unwrap();
                }
                new.name
            }
            _ => "nemo".into(),
        };
        let path = route.split_once(' ').expect("a route is a method and a path").1;
        // A service account comes with one key.
        let key = match aim {
            Aim::Others if rest == "/credentials/{token}" => {
                world.admin.client.credentials(&name, false).await.unwrap().items[0]
                    .id
                    .0
            }
            _ => 999_999,
        };
        let path = path.replace("{user}", &name).replace("{token}", &key.to_string());
        let call = Call::to(path).named(&name);
        return match rest {
            "/credentials" if route.starts_with("POST") => call.with(json!({"label": format!("Nr. {number}")})),
            "" if service && route.starts_with("PATCH") => call.with(json!({"impersonate": true})),
            "/password" => call.with(json!({"old_password": PASSWORD, "new_password": PASSWORD})),
            "/deactivate" | "/activate" | "/link" => call.with(json!({})),
            _ if route.starts_with("PATCH") => call.with(json!({"display_name": format!("Nr. {number}")})),
            _ => call,
        };
    }
    if let Some((_, rest)) = route.split_once("{group}") {
        let name = match aim {
            Aim::Missing => "nowhere".to_owned(),
            _ => format!("group{number}"),
        };
        let owner = if aim == Aim::Own { who } else { &stage.other };
        let users = match rest {
            // Whoever is to be taken out has to be in it.
            "/members/remove" if owner.id != stage.other.id => vec!["other".to_owned(), owner.name.clone()],
            _ if rest == "/members" && owner.id == stage.other.id => Vec::new(),
            _ => vec![owner.name.clone()],
        };
        if aim != Aim::Missing {
            let users = users.into_iter().filter(|name| name != "nobody").collect();
            let new = bailiwick_api::groups::NewGroup {
                name: name.clone(),
                users,
                ..Default::default()
            };
            world.admin.client.create_group(&new).await.unwrap();
        }
        let path = route.split_once(' ').expect("a route is a method and a path").1;
        let call = Call::to(path.replace("{group}", &name)).named(&name);
        return match rest {
            "" if route.starts_with("PATCH") => call.with(json!({"description": format!("Nr. {number}")})),
            "" => call,
            _ => call.with(json!({"users": ["other"]})),
        };
    }
    if route.contains("{queue}") {
        let name = match aim {
            Aim::Missing => "nowhere".to_owned(),
            _ => {
                // One's own is open; another's takes jobs, and is seen, by assignment alone.
                let access = (aim != Aim::Own).then_some(QueueAccess::Assigned);
                let new = QueueSettings {
                    name: Some(format!("queue{number}")),
                    access,
                    ..Default::default()
                };
                let made = world.admin.client.create_queue(&new).await.unwrap();
                // Forms and pages name it by its number.
                made.id.to_string()
            }
        };
        let path = route.split_once(' ').expect("a route is a method and a path").1;
        let call = Call::to(path.replace("{queue}", &name)).named(&name);
        return match route.starts_with("PATCH") {
            true => call.with(json!({"description": format!("Nr. {number}")})),
            false => call,
        };
    }
    if route.contains("{stack}") {
        let name = match aim {
            Aim::Missing => "99999".to_owned(),
            _ => {
                let new = StackSettings {
                    name: Some(format!("stack{number}")),
                    ..Default::default()
                };
                // Not everybody in the matrix may make one: it is given over.
                let made = world.admin.client.create_stack(&new).await.unwrap();
                if aim == Aim::Own {
                    give_over(world, "stacks", made.id.0, who).await;
                }
                made.id.to_string()
            }
        };
        let path = route.split_once(' ').expect("a route is a method and a path").1;
        let call = Call::to(path.replace("{stack}", &name)).named(&name);
        return match route.starts_with("PATCH") {
            true => call.with(json!({"description": format!("Nr. {number}")})),
            false => call,
        };
    }
    if route.contains("{model}") {
        let name = match aim {
            Aim::Missing => "99999".to_owned(),
            _ => {
                let new = NewModel {
                    name: format!("model{number}"),
                    ..Default::default()
                };
                let made = world.admin.client.create_model("default", &new).await.unwrap();
                let id = made.id.to_string();
                let version = NewModelVersion {
                    uri: "s3://models/1".into(),
                    ..Default::default()
                };
                world.admin.client.add_model_version(&id, &version).await.unwrap();
                if aim == Aim::Own {
                    give_over(world, "models", made.id.0, who).await;
                }
                id
            }
        };
        let (method, path) = route.split_once(' ').expect("a route is a method and a path");
        let path = path.replace("{model}", &name).replace("{version}", "1");
        let call = Call::to(path).named(&name);
        return match (method, route.rsplit('/').next()) {
            ("POST", Some("move")) => {
                // Where he may make one: it is about the model that is taken away.
                let workspace = stage.new_workspace((who.id.0 > 0).then_some(who)).await;
                call.with(json!({"workspace": workspace}))
            }
            ("POST", _) => call.with(json!({"uri": "s3://models/2"})),
            ("PATCH", _) => call.with(json!({"description": format!("Nr. {number}")})),
            _ => call,
        };
    }
    if route.contains("{vault}") {
        let id = match aim {
            Aim::Missing => 900_000,
            _ => {
                let whose = match aim {
                    Aim::Own if who.id.0 != 0 => who,
                    _ => &stage.other,
                };
                let sql = format!("DELETE FROM vaults WHERE principal_id = {}", whose.id);
                world.sql(sql).await.unwrap();
                let new = NewVault {
                    user: Some(whose.name.clone()),
                    ..NewVault::default()
                };
                world.admin.client.create_vault(&new).await.unwrap().vault.id.0
            }
        };
        let path = route.split_once(' ').expect("a route is a method and a path").1;
        let call = Call::to(path.replace("{vault}", &id.to_string())).named(id);
        return match route.starts_with("PATCH") {
            true => call.with(json!({"text": format!("sdk.number = {number}"), "enabled": false})),
            false => call,
        };
    }
    if route.contains("{role}") {
        let name = match aim {
            Aim::Missing => "nowhere".to_owned(),
            _ => stage.new_role().await,
        };
        let path = route.split_once(' ').expect("a route is a method and a path").1;
        let call = Call::to(path.replace("{role}", &name)).named(&name);
        return match route.starts_with("PATCH") {
            true => call.with(json!({"add": ["models:read"]})),
            false => call,
        };
    }
    if route.contains("{assignment}") {
        let holder = match aim {
            Aim::Own if who.id.0 != 0 => who,
            _ => &stage.other,
        };
        let id = match aim {
            Aim::Missing => 900_000,
            _ => stage.new_assignment(&holder.name).await.0,
        };
        let path = route.split_once(' ').expect("a route is a method and a path").1;
        let call = Call::to(path.replace("{assignment}", &id.to_string())).named(id);
        return match route.starts_with("PATCH") {
            true => call.with(json!({"lifetime_ms": 60_000})),
            false => call,
        };
    }
    if route.contains("{token}") {
        let owner = match aim {
            Aim::Own => who,
            _ => &stage.other,
        };
        let id: i64 = match aim {
            Aim::Missing => 900_000,
            _ => {
                let sql = format!(
                    "INSERT INTO credentials (principal_id, kind, hash, label, created_at) VALUES ({}, 'key', 'x{number}', '', 0) RETURNING id",
                    if owner.id.0 == 0 { world.admin.id } else { owner.id }
                );
                world.rows(sql).await[0].get(0)
            }
        };
        return Call::to(format!("/api/v1/tokens/{id}")).named(id);
    }
    if route.contains("{request}") {
        let asker = match aim {
            Aim::Own if who.id.0 != 0 => who,
            _ => &stage.other,
        };
        let id: i64 = match aim {
            Aim::Missing => 900_000,
            _ => {
                // Longer each time: what an earlier caller has approved is not in the way.
                let sql = format!(
                    "INSERT INTO access_requests (kind, principal_id, role, scope, lifetime_ms, why, state, created_at)
                     VALUES ('request', {}, 'ModelRegistryViewer', 'project:default/default', {}, 'to look', 'waiting', {}) RETURNING id",
                    asker.id,
                    3_600_000 + number,
                    world.now().0
                );
                world.rows(sql).await[0].get(0)
            }
        };
        let path = route.split_once(' ').expect("a route is a method and a path").1;
        return Call::to(path.replace("{request}", &id.to_string()))
            .named(id)
            .with(json!({}));
    }
    if route.contains("{sha256}") {
        let content = format!("code {number}").into_bytes();
        let name = key::sha256_hex(&content);
        match aim {
            Aim::Own if who.id.0 != 0 => {
                stage.other.send_code(&content).await;
                let sql = format!(
                    "UPDATE code_uploads SET principal_id = {} WHERE sha256 = '{name}'",
                    who.id
                );
                world.sql(sql).await.unwrap();
            }
            Aim::Others => {
                stage.other.send_code(&content).await;
            }
            _ => {}
        }
        let call = Call::to(format!("/api/v1/code/{name}")).named(&name);
        return if route.starts_with("PUT") {
            Call {
                raw: Some(content),
                ..call
            }
        } else {
            call
        };
    }
    if route.contains("{agent}") {
        let (agent, job, fence) = match aim {
            Aim::Own if who.id.0 != 0 => stage.holding_agent_of(who).await,
            Aim::Missing => (900_000, 900_000, 7),
            _ => {
                let account = world
                    .rows(format!(
                        "SELECT principal_id FROM agents WHERE id = {}",
                        stage.other_hand.id
                    ))
                    .await;
                let owner = Person {
                    id: bailiwick_api::PrincipalId(account[0].get(0)),
                    ..stage.other.clone()
                };
                stage.holding_agent_of(&owner).await
            }
        };
        let path = route.split_once(' ').expect("a route is a method and a path").1;
        let path = path
            .replace("{agent}", &agent.to_string())
            .replace("{job}", &job.to_string());
        return match route.rsplit('/').next() {
            Some("poll") => {
                let held = json!([{"job": job, "fence": fence}]);
                Call::to(path)
                    .named(agent)
                    .with(json!({"held": held, "free_slots": 0, "wait_ms": 0, "instance": "only"}))
                    .leaving_nothing("a heartbeat; taking a job is on record as such")
            }
            Some("report") => Call::to(path)
                .named(agent)
                .with(json!({"fence": fence, "happened": "ended", "at": "2026-11-21T00:00:00Z", "exit_code": 0})),
            Some("logs") => Call {
                raw: Some(b"1 o line\n".to_vec()),
                ..Call::to(format!("{path}?fence={fence}&first=1"))
                    .named(agent)
                    .leaving_nothing("the log is the record")
            },
            Some("code") => Call::to(format!("{path}?fence={fence}")).named(agent),
            Some("{agent}") => Call::to(path).named(agent),
            Some("enable" | "drain" | "disable") => Call::to(path).named(agent).with(json!({})),
            other => panic!("the matrix does not know how to call {other:?} of an agent"),
        };
    }
    match route {
        "GET /healthz"
        | "GET /readyz"
        | "GET /openapi.json"
        | "GET /metrics"
        | "GET /api/v1/info"
        | "GET /api/v1/me"
        | "GET /api/v1/users"
        | "GET /api/v1/service-accounts"
        | "GET /api/v1/roles"
        | "GET /api/v1/assignments"
        | "GET /api/v1/groups"
        | "GET /api/v1/workspaces"
        | "GET /api/v1/projects"
        | "GET /api/v1/tokens"
        | "GET /api/v1/experiments"
        | "GET /api/v1/queues"
        | "GET /api/v1/stacks"
        | "GET /api/v1/models"
        | "GET /api/v1/vaults"
        | "GET /api/v1/vaults/applied"
        | "GET /api/v1/agents"
        | "GET /api/v1/audit"
        | "GET /api/v1/audit/export"
        | "GET /api/v1/access/check"
        | "GET /api/v1/access/export"
        | "GET /api/v1/access/requests"
        | "GET /api/v1/access/shadow-report"
        | "DELETE /api/v1/access/shadow-report"
        | "GET /.well-known/authzen-configuration" => {
            Call::to(route.split_once(' ').expect("a route is a method and a path").1)
        }
        "POST /api/v1/login" => Call::to("/api/v1/login").with(json!({"name": "other", "password": PASSWORD})),
        "POST /api/v1/login/link" => {
            let link = world.admin.client.user_link("other").await.unwrap();
            Call::to("/api/v1/login/link").with(json!({"token": link.token}))
        }
        "POST /api/v1/logout" => Call::to("/api/v1/logout").with(json!({})),
        "POST /api/v1/users" => Call::to("/api/v1/users").with(json!({"name": format!("new{number}")})),
        "POST /api/v1/service-accounts" => {
            Call::to("/api/v1/service-accounts").with(json!({"name": format!("new{number}"), "serve": ["default"]}))
        }
        "POST /api/v1/groups" => Call::to("/api/v1/groups").with(json!({"name": format!("new{number}")})),
        "POST /api/v1/workspaces" => Call::to("/api/v1/workspaces").with(json!({"name": format!("new{number}")})),
        "POST /api/v1/roles" => {
            Call::to("/api/v1/roles").with(json!({"name": format!("new{number}"), "permissions": ["jobs:read"]}))
        }
        "POST /api/v1/stacks" => Call::to("/api/v1/stacks").with(json!({"name": format!("new{number}")})),
        // One's own has tests of its own, and there is but one.
        "POST /api/v1/vaults" => {
            Call::to("/api/v1/vaults").with(json!({"organisation": true, "name": format!("new{number}"), "text": ""}))
        }
        "POST /api/v1/admin/rotate-key" => Call::to("/api/v1/admin/rotate-key").with(json!({})),
        "POST /api/v1/queues" => Call::to("/api/v1/queues").with(json!({"name": format!("new{number}")})),
        "POST /api/v1/assignments" => {
            let one = json!({"role": stage.new_role().await, "user": "other", "on": "workspace:default"});
            Call::to("/api/v1/assignments").with(json!({"assignments": [one]}))
        }
        "POST /api/v1/assignments/remove" => {
            let (_, role) = stage.new_assignment("other").await;
            let one = json!({"role": role, "user": "other", "on": "workspace:default"});
            Call::to("/api/v1/assignments/remove").with(json!({"assignments": [one]}))
        }
        "POST /api/v1/tokens" => Call::to("/api/v1/tokens").with(json!({"label": "new"})),
        "POST /api/v1/experiments" => {
            Call::to("/api/v1/experiments").with(json!({"config": {"name": "new", "entrypoint": "true"}}))
        }
        "POST /api/v1/agents" => {
            let slots = json!([{"index": 0, "kind": "cpu", "name": "processor"}]);
            Call::to("/api/v1/agents")
                .with(json!({"name": format!("m{number}"), "queues": ["default"], "slots": slots}))
        }
        "POST /api/v1/audit/verify" => Call::to("/api/v1/audit/verify")
            .with(json!({}))
            .leaving_nothing("it changes nothing"),
        "POST /api/v1/access/can-i" | "POST /api/v1/access/explain" | "POST /api/v1/access/who-can" => {
            let path = route.split_once(' ').expect("a route is a method and a path").1;
            Call::to(path)
                .with(json!({"permission": "experiments:read", "on": "workspace:default"}))
                .leaving_nothing("it only asks")
        }
        "POST /api/v1/access/plan" | "POST /api/v1/access/apply" => {
            let path = route.split_once(' ').expect("a route is a method and a path").1;
            let call = Call::to(path).with(json!({"document": {}}));
            call.leaving_nothing("an empty document changes nothing")
        }
        "POST /api/v1/access/requests" => {
            let on = format!("workspace:w{number}");
            let body = json!({"role": "Viewer", "on": on, "lifetime_ms": 3_600_000, "why": "to look"});
            Call::to("/api/v1/access/requests").with(body)
        }
        "POST /api/v1/access/break-glass" => {
            Call::to("/api/v1/access/break-glass").with(json!({"why": "smoke", "password": PASSWORD}))
        }
        "POST /api/v1/access/break-glass/end" => Call::to("/api/v1/access/break-glass/end").with(json!({})),
        "POST /api/v1/access/what-can" => Call::to("/api/v1/access/what-can")
            .with(json!({"who": "other"}))
            .leaving_nothing("it only asks"),
        "POST /api/v1/access/diff" => {
            let change = json!({"change": "assign", "role": "Viewer", "user": "other", "on": "workspace:default"});
            Call::to("/api/v1/access/diff")
                .with(json!({"changes": [change]}))
                .leaving_nothing("it only asks")
        }
        "POST /access/v1/evaluation"
        | "POST /access/v1/evaluations"
        | "POST /access/v1/search/subject"
        | "POST /access/v1/search/resource"
        | "POST /access/v1/search/action" => {
            let path = route.split_once(' ').expect("a route is a method and a path").1;
            let (subject, resource) = (
                json!({"type": "user", "id": "other"}),
                json!({"type": "workspace", "id": "default"}),
            );
            Call::to(path)
                .with(json!({"subject": subject, "action": {"name": "read"}, "resource": resource}))
                .leaving_nothing("it only asks")
        }
        other => panic!("the matrix does not know how to call {other}: say in this file what it needs"),
    }
}

pub async fn send(who: &Person, method: &str, call: &Call) -> Answer {
    let mut request = who.request(method, &call.path);
    if let Some(body) = &call.body {
        request = request.json(body);
    }
    if let Some(raw) = &call.raw {
        request = request.body(raw.clone());
    }
    let response = request.send().await.expect("the server answers");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    // An open stream does not end.
    let text = if call.path.ends_with("/stream") && status == 200 {
        String::new()
    } else {
        response.text().await.expect("the answer is whole")
    };
    Answer { status, headers, text }
}

/// `404`, or `409 conflict` where the status alone does not say it.
pub fn cell(answer: &Answer) -> String {
    let usual = match answer.status {
        400 | 422 => "invalid",
        401 => "unauthenticated",
        403 => "forbidden",
        404 => "not_found",
        _ => "",
    };
    let code = answer.code();
    if code.is_empty() || code == usual {
        answer.status.to_string()
    } else {
        format!("{} {code}", answer.status)
    }
}

/// The routes as the router itself lists them.
pub fn routes() -> Vec<(String, String)> {
    let table = bailiwick_server::openapi::table();
    let rows = table
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains('`'));
    rows.map(|line| {
        let mut columns = line.split('|').map(str::trim).skip(1);
        let method = columns.next().expect("a method").to_owned();
        let path = columns.next().expect("a path").trim_matches('`').to_owned();
        (method, path)
    })
    .collect()
}

/// The status that the interface would have given: a page leads on after each form, and to the way in whoever is not signed in; a form that is not from a page
/// of ours is malformed.
fn as_interface(method: &str, answer: &Answer) -> u16 {
    let leads_in = answer
        .headers
        .get("location")
        .is_some_and(|to| to.as_bytes().starts_with(b"/sign-in"));
    match answer.status {
        303 if leads_in => 401,
        303 => 200,
        403 if method == "POST" && answer.text.contains("this form is not from a page of this server") => 400,
        status => status,
    }
}

/// What is wrong with an answer whoever asked: a failure of the server, or an audit that says too little or too much.
fn fault(method: &str, status: u16, leaves: Leaves, events: &[String]) -> Option<&'static str> {
    let denied = events.iter().filter(|event| event.ends_with(" denied")).count();
    let only_denied = events.len() == denied;
    match status {
        500.. => Some("a failure of the server"),
        200 if method == "GET" || method == "HEAD" => {
            let looks = events.iter().all(|event| event.contains(" look "));
            (events.len() > 1 || !looks).then_some("reading is on record only when it is administrative, and once")
        }
        200 => {
            let expected = match leaves {
                Leaves::One => 1,
                Leaves::Two => 2,
                Leaves::Nothing(_) => 0,
            };
            ((events.len(), denied) != (expected, 0)).then_some("a change leaves exactly one event")
        }
        403 => ((events.len(), denied) != (1, 1)).then_some("a refusal leaves exactly one event"),
        // Bad keys are recorded so many times a minute and no more; what is not there was perhaps only mistyped.
        401 | 404 => (events.len() > 1 || !only_denied).then_some("a refusal leaves at most one event"),
        _ => (!events.is_empty()).then_some("what is malformed or does not fit leaves no event"),
    }
}

async fn one(
    stage: &Stage,
    (method, path): (&str, &str),
    aim: Aim,
    name: &str,
    caller: &Caller,
    faults: &mut Vec<String>,
) -> (String, String) {
    let world = &stage.world;
    let ends = match aim {
        Aim::Own => (path.ends_with("{user}") || path.ends_with("/deactivate")) && method != "GET",
        _ => path.ends_with("/logout") || path == "/sign-out" || path == "/settings/sessions",
    };
    let (who, own_experiment) = match caller {
        Caller::Is(person) if ends => (stage.twin(name, person).await, None),
        Caller::Is(person) => (person.clone(), None),
        Caller::Agent(person) => (person.clone(), None),
        Caller::JobOf(owner) => {
            let id = stage.experiment_of(owner).await;
            world
                .sql(format!("UPDATE jobs SET priority = -{id} WHERE experiment_id = {id}"))
                .await
                .unwrap();
            let taken = stage.hand.poll(&[], 1).await.start;
            let lease = taken
                .iter()
                .find(|lease| lease.experiment.0 == id)
                .unwrap_or_else(|| panic!("the job {id} is first in the queue: {taken:?}"));
            stage.hand.started(held(lease)).await.unwrap();
            let job = Person {
                key: lease.token.clone(),
                client: owner.client.with_key(Some(&lease.token)),
                ..owner.clone()
            };
            (job, Some(id))
        }
    };
    let route = format!("{method} {path}");
    let call = call(stage, &route, aim, &who, own_experiment).await;
    let before = world.last_event().await;
    let answer = send(&who, method, &call).await;
    let shown = cell(&answer);
    let place = format!("{route} {} by {name}: {}", aim.word(), answer.text);
    let events = world.events(&format!("id > {before}")).await;
    let told = match is_page(path) {
        true => as_interface(method, &answer),
        false => answer.status,
    };
    if let Some(fault) = fault(method, told, call.leaves, &events) {
        faults.push(format!("{fault}; events {events:?}; {place}"));
    }
    // AuthZEN's refusals are a text; who may ask what is tested in authzen.rs.
    let comparable = if answer.status >= 400 && method != "HEAD" && !path.starts_with("/access/v1/") {
        answer.without(&call.name)
    } else {
        String::new()
    };
    (shown, comparable)
}

#[test]
fn each_route_answers_each_caller_as_the_matrix_says() {
    // No lease ends by itself while the matrix is gone through.
    on_both_with(
        |config| config.lease_ms = 3_600_000,
        |world| async move {
            let stage = Stage::build(world).await;
            let mut page = String::from(
                "Every route × every caller × what it is aimed at, as the server answered. Written by tests/it/access_matrix.rs.\n",
            );
            let mut faults = Vec::new();
            for (method, path) in routes() {
                let _ = write!(page, "\n{method} {path}\n");
                let mut rows: BTreeMap<Vec<String>, Vec<&str>> = BTreeMap::new();
                for (name, caller) in &stage.callers {
                    let mut cells = Vec::new();
                    let mut bodies = BTreeMap::new();
                    for aim in aims(&path) {
                        let (shown, body) = one(&stage, (&method, &path), *aim, name, caller, &mut faults).await;
                        cells.push(shown);
                        bodies.insert(*aim, body);
                    }
                    // What may not be seen reads as what is not there, and so does what may not be stopped.
                    if let (Some(others), Some(missing)) = (bodies.get(&Aim::Others), bodies.get(&Aim::Missing))
                        && (others.starts_with("404") || others.contains("You can only cancel"))
                        && others != missing
                    {
                        faults.push(format!("what is not visible reads other than what is not there: {method} {path} by {name}: {others} / {missing}"));
                    }
                    rows.entry(cells).or_default().push(name);
                }
                let words: Vec<&str> = aims(&path).iter().map(|aim| aim.word()).collect();
                for (cells, names) in rows {
                    let mut line = String::new();
                    for (word, cell) in words.iter().zip(&cells) {
                        let _ = write!(line, "{:<26}", format!("{word} {cell}").trim());
                    }
                    let _ = writeln!(page, "  {line} {}", names.join(", "));
                }
            }
            assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
            tables::check("crates/server/tests/it/access-matrix.txt", &page);
        },
    );
}
