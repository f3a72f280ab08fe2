//! Every route × every built-in role × where the role is assigned (globally, at a workspace, a project, a single experiment) × whose the thing is and where it
//! lies. The answers stand in `scope-matrix.txt`, to be read as a diff; `BLESS=1` writes it anew. What the routes do for each kind of caller beyond roles,
//! and what they leave in the audit, stands in access_matrix.rs.

use bailiwick_server::access::is_page;
use std::collections::BTreeMap;
use std::fmt::Write;

use bailiwick_api::PrincipalId;
use bailiwick_api::key::{self, KeyKind};
use bailiwick_api::permission::BUILT_IN_ROLES;
use reqwest::Method;
use serde_json::{Value, json};

use crate::access_matrix::{self, Call, Stage, cell, routes, send};
use crate::tables;
use crate::world::{Person, World, on_both_with};

/// Where a caller's role is assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Global,
    Workspace,
    Project,
    Object,
}

impl At {
    const ALL: [At; 4] = [At::Global, At::Workspace, At::Project, At::Object];

    fn word(self) -> &'static str {
        match self {
            At::Global => "global",
            At::Workspace => "workspace",
            At::Project => "project",
            At::Object => "object",
        }
    }
}

/// Whose the thing is and where it lies, seen from the caller's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Aim {
    /// Within the role's scope, the caller's own.
    Own,
    /// Within the role's scope, another's.
    Others,
    /// Another's, in the same workspace, but outside the project or object at which the role is assigned.
    Beside,
    /// Another's, in another workspace.
    Elsewhere,
    Missing,
}

impl Aim {
    const ALL: [Aim; 5] = [Aim::Own, Aim::Others, Aim::Beside, Aim::Elsewhere, Aim::Missing];

    fn word(self) -> &'static str {
        match self {
            Aim::Own => "own",
            Aim::Others => "other's",
            Aim::Beside => "beside",
            Aim::Elsewhere => "elsewhere",
            Aim::Missing => "missing",
        }
    }

    fn is_there(self, at: At) -> bool {
        self != Aim::Beside || matches!(at, At::Project | At::Object)
    }
}

struct Caller {
    role: &'static str,
    at: At,
    person: Person,
}

impl Caller {
    fn label(&self) -> String {
        format!("{}@{}", self.role, self.at.word())
    }
}

/// Rows to be written all at once.
#[derive(Default)]
struct Rows {
    tables: BTreeMap<&'static str, Vec<String>>,
    next: i64,
    /// The stored configuration of some experiment.
    config: String,
}

impl Rows {
    fn add(&mut self, into: &'static str, values: String) {
        self.tables.entry(into).or_default().push(format!("({values})"));
    }

    fn id(&mut self) -> i64 {
        self.next += 1;
        self.next
    }

    fn workspace(&mut self, owner: i64, archived: bool) -> i64 {
        let id = self.id();
        let end = if archived { "1" } else { "NULL" };
        self.add(
            "1 workspaces (id, name, name_key, owner_id, created_at, archived_at)",
            format!("{id}, 'w{id}', 'w{id}', {owner}, 0, {end}"),
        );
        id
    }

    fn project(&mut self, workspace: i64, owner: i64, archived: bool) -> i64 {
        let id = self.id();
        let end = if archived { "1" } else { "NULL" };
        self.add(
            "2 projects (id, workspace_id, name, name_key, owner_id, created_at, archived_at)",
            format!("{id}, {workspace}, 'p{id}', 'p{id}', {owner}, 0, {end}"),
        );
        id
    }

    fn experiment(&mut self, (workspace, project): (i64, i64), owner: i64, waits: bool, code: &str) -> i64 {
        let id = self.id();
        let (state, end) = if waits { ("QUEUED", "NULL") } else { ("COMPLETED", "1") };
        self.add(
            "3 experiments (id, name, owner_id, workspace_id, project_id, queue_id, state, cause, slots, priority, restarts, max_restarts, created_at, ended_at, code, config)",
            format!("{id}, 'e{id}', {owner}, {workspace}, {project}, 1, '{state}', '', 1, 50, 0, 0, 0, {end}, '{code}', '{}'", self.config),
        );
        self.add(
            "4 jobs (id, kind, experiment_id, queue_id, priority, slots, state)",
            format!("{id}, 'trial', {id}, 1, 50, 1, '{state}'"),
        );
        self.add(
            "4 experiment_events (experiment_id, number, at, state, cause)",
            format!("{id}, 1, 0, '{state}', ''"),
        );
        id
    }

    fn assign(&mut self, who: i64, role: &str, kind: &str, scope: i64) {
        let id = self.id();
        self.add(
            "5 assignments (id, principal_id, role_id, scope_kind, scope_id, created_at)",
            format!("{id}, {who}, (SELECT id FROM roles WHERE name = '{role}'), '{kind}', {scope}, 0"),
        );
    }

    async fn write(self, world: &World) {
        for (into, rows) in self.tables {
            let table = into.split_once(' ').expect("a number puts them in order").1;
            for some in rows.chunks(200) {
                let sql = format!("INSERT INTO {table} VALUES {}", some.join(", "));
                world.sql(sql).await.unwrap();
            }
        }
    }
}

/// The things of one caller: for each use (a route that changes or ends its thing needs one of its own) and aim.
type Things = BTreeMap<(&'static str, Aim), (i64, i64)>;

/// Which of the sets of things a route works on.
fn set_of(method: &str, path: &str) -> &'static str {
    match path.rsplit('/').next() {
        Some("archive") => "archive",
        Some("unarchive") => "unarchive",
        Some("cancel") => "cancel",
        Some("kill") => "kill",
        Some("move") => "move",
        Some("progress") => "progress",
        _ if path.contains("{version}") => "version",
        _ if method == "DELETE" => "delete",
        _ => "read",
    }
}

struct Ground {
    callers: Vec<Caller>,
    experiments: Vec<Things>,
    workspaces: Vec<Things>,
    projects: Vec<Things>,
    /// In no workspace: one is within a role's scope where the role is assigned globally or at the thing itself.
    stacks: Vec<Things>,
    /// As stacks, and nobody's own.
    queues: Vec<Things>,
    /// In a workspace, and in no project of it.
    models: Vec<Things>,
    /// The workspace in which most things lie, its project, another one in it, and where experiments are moved to.
    here: i64,
    project: i64,
    beside: i64,
    target: i64,
    there: (i64, i64),
}

impl Ground {
    async fn lay(world: &World) -> Ground {
        let other = world.person("somebody").await;
        let code = other.send_code(b"the code").await;
        let template = other.submit("template").await;
        let config = world
            .rows(format!("SELECT config FROM experiments WHERE id = {}", template.id))
            .await;
        let config: String = sqlx::Row::get(&config[0], 0);
        let mut rows = Rows {
            next: 10_000,
            config: config.replace('\'', "''"),
            ..Rows::default()
        };
        let here = rows.workspace(other.id.0, false);
        let (project, beside, target) = (
            rows.project(here, other.id.0, false),
            rows.project(here, other.id.0, false),
            rows.project(here, other.id.0, false),
        );
        let away = rows.workspace(other.id.0, false);
        let there = (away, rows.project(away, other.id.0, false));
        let mut ground = Ground {
            callers: Vec::new(),
            experiments: Vec::new(),
            workspaces: Vec::new(),
            projects: Vec::new(),
            stacks: Vec::new(),
            queues: Vec::new(),
            models: Vec::new(),
            here,
            project,
            beside,
            target,
            there,
        };
        for role in BUILT_IN_ROLES {
            for at in At::ALL {
                if at == At::Global || !role.permissions().is_global_only() {
                    ground.add(&mut rows, world, (role.name, at), other.id.0, &code);
                }
            }
        }
        rows.write(world).await;
        world
            .sql("UPDATE access_version SET version = version + 1; INSERT INTO access_changes SELECT version, 'everything', 0 FROM access_version")
            .await
            .unwrap();
        // A change through the server makes it look.
        world.person("the-last-one").await;
        ground
    }

    fn add(&mut self, rows: &mut Rows, world: &World, (role, at): (&'static str, At), other: i64, code: &str) {
        let id = rows.id();
        let name = format!("{}-{}", role.to_lowercase(), at.word());
        rows.add(
            "0 principals (id, kind, name, name_key, state, own_roles_only, created_at)",
            format!("{id}, 'user', '{name}', '{name}', 'active', 1, 0"),
        );
        let secret = key::make(KeyKind::Api, key::random_bytes());
        let hash = key::stored_hash(&secret)
            .map(|hash| key::hex(&hash))
            .expect("a fresh key is well formed");
        let credential = rows.id();
        rows.add(
            "5 credentials (id, principal_id, kind, hash, label, created_at)",
            format!("{credential}, {id}, 'key', '{hash}', '', 0"),
        );
        match at {
            At::Global => rows.assign(id, role, "global", 0),
            At::Workspace => rows.assign(id, role, "workspace", self.here),
            At::Project => rows.assign(id, role, "project", self.project),
            At::Object => {}
        }
        let owner = |aim| if aim == Aim::Own { id } else { other };
        let aims = || {
            Aim::ALL
                .into_iter()
                .filter(move |aim| *aim != Aim::Missing && aim.is_there(at))
        };

        let mut things = Things::new();
        for set in ["read", "cancel", "kill", "progress", "move", "delete"] {
            for aim in aims() {
                let place = match aim {
                    Aim::Elsewhere => self.there,
                    // Beside an object: in the same project.
                    Aim::Beside if at == At::Project => (self.here, self.beside),
                    _ => (self.here, self.project),
                };
                let waits = matches!(set, "cancel" | "kill" | "progress");
                let experiment = rows.experiment(place, owner(aim), waits, code);
                if at == At::Object && matches!(aim, Aim::Own | Aim::Others) {
                    rows.assign(id, role, "experiment", experiment);
                }
                things.insert((set, aim), (experiment, 0));
            }
        }
        self.experiments.push(things);

        let mut things = Things::new();
        for set in ["read", "archive", "unarchive", "delete"] {
            for aim in aims().filter(|aim| *aim != Aim::Beside) {
                let workspace = rows.workspace(owner(aim), set == "unarchive");
                let project = rows.project(workspace, other, false);
                if aim != Aim::Elsewhere {
                    match at {
                        At::Global => {}
                        At::Workspace => rows.assign(id, role, "workspace", workspace),
                        At::Project => rows.assign(id, role, "project", project),
                        At::Object => {
                            let experiment = rows.experiment((workspace, project), other, false, code);
                            rows.assign(id, role, "experiment", experiment);
                        }
                    }
                }
                things.insert((set, aim), (workspace, 0));
            }
        }
        self.workspaces.push(things);

        let mut things = Things::new();
        for set in ["read", "archive", "unarchive", "delete"] {
            for aim in aims() {
                let workspace = if aim == Aim::Elsewhere { self.there.0 } else { self.here };
                let project = rows.project(workspace, owner(aim), set == "unarchive");
                if matches!(aim, Aim::Own | Aim::Others) {
                    match at {
                        At::Global | At::Workspace => {}
                        At::Project => rows.assign(id, role, "project", project),
                        At::Object => {
                            let experiment = rows.experiment((workspace, project), other, false, code);
                            rows.assign(id, role, "experiment", experiment);
                        }
                    }
                }
                things.insert((set, aim), (workspace, project));
            }
        }
        self.projects.push(things);

        let (mut stacks, mut queues) = (Things::new(), Things::new());
        for set in ["read", "delete"] {
            for aim in aims().filter(|aim| *aim != Aim::Beside) {
                let (stack, queue) = (rows.id(), rows.id());
                rows.add(
                    "1 stacks (id, name, name_key, owner_id, executor, created_at)",
                    format!("{stack}, 's{stack}', 's{stack}', {}, 'agents', 0", owner(aim)),
                );
                stacks.insert((set, aim), (stack, 0));
                if aim != Aim::Own {
                    rows.add(
                        "1 queues (id, name, name_key, open, created_at)",
                        format!("{queue}, 'q{queue}', 'q{queue}', 0, 0"),
                    );
                    queues.insert((set, aim), (queue, 0));
                }
                if at == At::Object && aim != Aim::Elsewhere {
                    rows.assign(id, role, "stack", stack);
                    rows.assign(id, role, "queue", queue);
                }
            }
        }
        self.stacks.push(stacks);
        self.queues.push(queues);

        let mut models = Things::new();
        for set in ["read", "move", "delete", "version"] {
            for aim in aims() {
                let workspace = if aim == Aim::Elsewhere { self.there.0 } else { self.here };
                let model = rows.id();
                rows.add(
                    "3 models (id, workspace_id, name, name_key, owner_id, versions, last_version, created_at)",
                    format!("{model}, {workspace}, 'm{model}', 'm{model}', {}, 1, 1, 0", owner(aim)),
                );
                rows.add(
                    "4 model_versions (model_id, version, uri, owner_id, created_at)",
                    format!("{model}, 1, 's3://models/1', {other}, 0"),
                );
                if at == At::Object && matches!(aim, Aim::Own | Aim::Others) {
                    rows.assign(id, role, "model", model);
                }
                models.insert((set, aim), (model, 0));
            }
        }
        self.models.push(models);

        let person = Person {
            name,
            id: PrincipalId(id),
            client: world.admin.client.with_key(Some(&secret)),
            key: secret,
        };
        self.callers.push(Caller { role, at, person });
    }

    /// How this caller calls a route for this aim; nothing where the aim makes no sense for it.
    fn call(&self, number: usize, method: &str, path: &str, aim: Aim) -> Option<Call> {
        let set = set_of(method, path);
        let of = |things: &Vec<Things>| match aim {
            Aim::Missing => Some((900_000, 900_000)),
            _ => things[number].get(&(set, aim)).copied(),
        };
        let at = self.callers[number].at;
        if path.contains("{experiment}") {
            let (id, _) = of(&self.experiments)?;
            let call = Call::to(path.replace("{experiment}", &id.to_string())).named(id);
            return Some(match (method, set) {
                ("POST", "move") => {
                    call.with(json!({"workspace": format!("w{}", self.here), "project": format!("p{}", self.target)}))
                }
                ("POST", _) => call.with(json!({})),
                _ => call,
            });
        }
        let body = |call: Call| match method {
            "POST" if path.ends_with("/projects") || path.ends_with("/models") => {
                call.with(json!({"name": format!("new{number}{}", aim.word())}))
            }
            "POST" if path.ends_with("/versions") => call.with(json!({"uri": "s3://models/2"})),
            "POST" if set == "move" => {
                let to = if aim == Aim::Elsewhere { self.here } else { self.there.0 };
                call.with(json!({"workspace": to.to_string()}))
            }
            "POST" => call.with(json!({})),
            "PATCH" => call.with(json!({"description": format!("by {number}")})),
            _ => call,
        };
        if path.contains("{project}") {
            let (workspace, project) = of(&self.projects)?;
            let path = path.replace("{workspace}", &workspace.to_string());
            return Some(body(
                Call::to(path.replace("{project}", &project.to_string())).named(project),
            ));
        }
        if path.contains("{workspace}") {
            let (id, _) = of(&self.workspaces)?;
            return Some(body(Call::to(path.replace("{workspace}", &id.to_string())).named(id)));
        }
        for (part, things) in [
            ("{stack}", &self.stacks),
            ("{queue}", &self.queues),
            ("{model}", &self.models),
        ] {
            if path.contains(part) {
                let (id, _) = of(things)?;
                let path = path.replace(part, &id.to_string()).replace("{version}", "1");
                return Some(body(Call::to(path).named(id)));
            }
        }
        // The thing is named in the body.
        let place = match (aim, at) {
            (Aim::Own, _) => return None,
            (Aim::Beside, At::Global | At::Workspace) => return None,
            (Aim::Others, _) => (self.here, self.project),
            (Aim::Beside, _) => (self.here, self.beside),
            (Aim::Elsewhere, _) => self.there,
            (Aim::Missing, _) => (900_000, 900_000),
        };
        let on = match (aim, at) {
            (Aim::Others, At::Object) => format!("experiment:{}", self.experiments[number][&("read", Aim::Others)].0),
            (Aim::Beside, At::Object) => format!("experiment:{}", self.experiments[number][&("read", Aim::Beside)].0),
            (_, At::Object) => "experiment:900000".into(),
            (_, At::Project) => format!("project:{}/{}", place.0, place.1),
            _ => format!("workspace:{}", place.0),
        };
        let name = if at == At::Project { place.1 } else { place.0 };
        let call = match (method, path) {
            ("POST", "/api/v1/experiments") => {
                let (workspace, project) = (format!("w{}", place.0), format!("p{}", place.1));
                let config = json!({"name": "new", "entrypoint": "true", "workspace": workspace, "project": project});
                Call::to(path).with(json!({"config": config}))
            }
            ("POST", "/api/v1/assignments") => {
                let one = json!({"role": "sees-models", "user": self.callers[number].person.name, "on": on});
                Call::to(path).with(json!({"assignments": [one]}))
            }
            ("POST", "/api/v1/access/explain") => {
                Call::to(path).with(json!({"who": "somebody", "permission": "models:read", "on": on}))
            }
            ("POST", "/api/v1/access/who-can") => Call::to(path).with(json!({"permission": "models:read", "on": on})),
            _ => return None,
        };
        Some(call.named(name))
    }
}

/// What of the things for reading a list shows.
async fn listed(ground: &Ground, number: usize, path: &str) -> Vec<(Aim, String)> {
    let client = &ground.callers[number].person.client;
    let mut shown: Vec<i64> = Vec::new();
    let mut after = String::new();
    let first = match path {
        "/api/v1/stacks" | "/api/v1/queues" => "",
        _ => "?limit=1000",
    };
    loop {
        let request = client.request(Method::GET, &format!("{path}{first}{after}"));
        let page: Value = client
            .json(request)
            .await
            .expect("a list is for everybody who is signed in");
        let items = page["items"].as_array().expect("a list");
        shown.extend(items.iter().filter_map(|item| item["id"].as_i64()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    let things = match path {
        "/api/v1/experiments" => &ground.experiments,
        "/api/v1/workspaces" => &ground.workspaces,
        "/api/v1/stacks" => &ground.stacks,
        "/api/v1/queues" => &ground.queues,
        "/api/v1/models" => &ground.models,
        _ => &ground.projects,
    };
    let of_reading = things[number].iter().filter(|((set, _), _)| *set == "read");
    of_reading
        .map(|((_, aim), (first, second))| {
            let id = if *second == 0 { first } else { second };
            let word = if shown.contains(id) { "shown" } else { "-" };
            (*aim, word.to_owned())
        })
        .collect()
}

/// A page asks the handlers of these very routes; the other matrix walks every page.
fn is_scoped(method: &str, path: &str) -> bool {
    !is_page(path)
        && [
            "{experiment}",
            "{workspace}",
            "{project}",
            "{stack}",
            "{queue}",
            "{model}",
        ]
        .iter()
        .any(|part| path.contains(part))
        || matches!(
            (method, path),
            (
                "POST",
                "/api/v1/experiments" | "/api/v1/assignments" | "/api/v1/access/explain" | "/api/v1/access/who-can"
            ) | (
                "GET",
                "/api/v1/experiments"
                    | "/api/v1/workspaces"
                    | "/api/v1/projects"
                    | "/api/v1/stacks"
                    | "/api/v1/queues"
                    | "/api/v1/models"
            )
        )
}

fn print(text: &mut String, method: &str, path: &str, lines: BTreeMap<String, Vec<&Caller>>) {
    writeln!(text, "\n{method} {path}").unwrap();
    for (answers, callers) in lines {
        // `Editor` alone: wherever it is assigned.
        let mut roles: Vec<(&str, Vec<At>)> = Vec::new();
        for caller in callers {
            match roles.last_mut().filter(|(role, _)| *role == caller.role) {
                Some((_, places)) => places.push(caller.at),
                None => roles.push((caller.role, vec![caller.at])),
            }
        }
        let label = |(role, places): &(&str, Vec<At>)| {
            let words: Vec<&str> = places.iter().map(|at| at.word()).collect();
            match words.len() == 4 || !is_assignable_below(role) {
                true => (*role).to_owned(),
                false => format!("{role}@{}", words.join("+")),
            }
        };
        let labels: Vec<String> = roles.iter().map(label).collect();
        writeln!(text, "  {answers}  {}", labels.join(", ")).unwrap();
    }
}

/// Whether an answer says that the thing is not there. Of a move it may be the destination that is missing.
fn is_hidden(path: &str, status: u16, words: &str) -> bool {
    status == 404
        && (!path.ends_with("/move") || words.contains("there is no experiment") || words.contains("there is no model"))
}

/// A refusal without the numbers of what was asked for: they have five digits and more here, alone and in names.
fn without_numbers(text: &str) -> String {
    let mut words = String::new();
    let mut digits = String::new();
    for letter in text.chars().chain(['\n']) {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        words.push_str(if digits.len() < 5 { &digits } else { "#" });
        digits.clear();
        words.push(letter);
    }
    words
}

fn line(cells: &[(Aim, String)]) -> String {
    cells
        .iter()
        .map(|(aim, answer)| format!("{:<22}", format!("{} {answer}", aim.word())))
        .collect()
}

#[test]
fn each_role_reaches_what_lies_within_its_scope_and_nothing_else() {
    on_both_with(
        |config| config.max_code_bytes = 1024,
        |world| async move {
            let ground = Ground::lay(&world).await;
            let new = json!({"name": "sees-models", "permissions": ["models:read"]});
            assert_eq!(world.admin.post("/api/v1/roles", new).await.status, 200);
            let mut text = "Every route that reaches something in a workspace, a stack, a queue or a model × every built-in role and where it is assigned × whose the thing is and where it lies.\n\
                own, other's: within the role's scope. beside: in the same workspace, outside the project, experiment or model at which the role is assigned.\n\
                Written by tests/it/scope_matrix.rs.\n"
                .to_owned();
            let mut faults = Vec::new();
            let scoped = routes().into_iter().filter(|(method, path)| is_scoped(method, path));
            for (method, path) in scoped {
                let mut lines: BTreeMap<String, Vec<&Caller>> = BTreeMap::new();
                for (number, caller) in ground.callers.iter().enumerate() {
                    let mut cells = Vec::new();
                    if method == "GET" && !path.contains('{') {
                        cells = listed(&ground, number, &path).await;
                    } else {
                        let mut missing = None;
                        for aim in Aim::ALL.into_iter().rev() {
                            let Some(call) = ground.call(number, &method, &path, aim) else {
                                continue;
                            };
                            let answer = send(&caller.person, &method, &call).await;
                            let comparable = match answer.status >= 400 && method != "HEAD" {
                                true => without_numbers(&answer.without("")),
                                false => String::new(),
                            };
                            if aim == Aim::Missing {
                                missing = Some(comparable);
                            } else if is_hidden(&path, answer.status, &comparable)
                                && missing.as_ref() != Some(&comparable)
                            {
                                faults.push(format!(
                                    "{} may tell that {method} {} is there: {comparable} {missing:?}",
                                    caller.label(),
                                    call.path
                                ));
                            }
                            if answer.status >= 500 {
                                faults.push(format!("{} {method} {}: {}", caller.label(), call.path, answer.text));
                            }
                            cells.push((aim, cell(&answer)));
                        }
                        cells.reverse();
                    }
                    lines.entry(line(&cells)).or_default().push(caller);
                }
                print(&mut text, &method, &path, lines);
            }
            assert!(faults.is_empty(), "{}", faults.join("\n"));
            tables::check("crates/server/tests/it/scope-matrix.txt", &text);
        },
    );
}

#[test]
fn a_role_at_a_workspace_or_below_opens_no_route_that_is_about_the_whole_installation() {
    on_both_with(
        |_| {},
        |world| async move {
            let stage = Stage::build(world.clone()).await;
            let ground = Ground::lay(&world).await;
            let mut text = "Every other route × every role that may be assigned below the whole installation, and where it is assigned: another's thing, and a missing one.\n\
                Written by tests/it/scope_matrix.rs.\n"
                .to_owned();
            let others = routes().into_iter().filter(|(method, path)| !is_scoped(method, path));
            // What anybody may call, and what ends or changes the caller itself, is the other matrix's.
            let others = others
                .filter(|(_, path)| path.starts_with("/api/v1/") && !path.contains("/log") && path != "/api/v1/info");
            for (method, path) in others {
                let route = format!("{method} {path}");
                let mut lines: BTreeMap<String, Vec<&Caller>> = BTreeMap::new();
                let aims: &[access_matrix::Aim] = match path.contains('{') {
                    true => &[access_matrix::Aim::Others, access_matrix::Aim::Missing],
                    false => &[access_matrix::Aim::Plain],
                };
                let mut prepared: Vec<Option<Call>> = aims.iter().map(|_| None).collect();
                for caller in ground.callers.iter().filter(|caller| is_assignable_below(caller.role)) {
                    let mut answers = String::new();
                    for (aim, prepared) in aims.iter().zip(&mut prepared) {
                        // What was refused is still there for the next one.
                        let call = match prepared.take() {
                            Some(call) => call,
                            None => access_matrix::call(&stage, &route, *aim, &caller.person, None).await,
                        };
                        let answer = send(&caller.person, &method, &call).await;
                        write!(
                            answers,
                            "{:<24}",
                            format!("{} {}", aim.word(), cell(&answer)).trim_start()
                        )
                        .unwrap();
                        if answer.status >= 400 {
                            *prepared = Some(call);
                        }
                    }
                    lines.entry(answers).or_default().push(caller);
                }
                print(&mut text, &method, &path, lines);
            }
            tables::check("crates/server/tests/it/scope-matrix-others.txt", &text);
        },
    );
}

fn is_assignable_below(role: &str) -> bool {
    BUILT_IN_ROLES
        .iter()
        .any(|known| known.name == role && !known.permissions().is_global_only())
}
