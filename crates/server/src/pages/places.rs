//! Workspaces and projects: what is in them, who holds which role there, and their settings.

use askama::Template;
use bailiwick_access::{ObjectKind, Target};
use bailiwick_api::access::{DiffAnswer, Planned};
use bailiwick_api::roles::{AssignmentChange, NewAssignment, NewAssignments, ScopeView};
use bailiwick_api::workspaces::{
    Member, MemberFilter, MemberKind, NewProject, NewWorkspace, PlaceFilter, Project, Rename, SetDefaultQueue,
    Workspace,
};
use bailiwick_api::{Page, Permission, ProjectId, Time, WorkspaceId};
use schemars::JsonSchema;
use serde::Deserialize;

use super::held::{self, Acted, Again, Roles};
use super::session::quoted;
use super::told::{Problem, given, query, status};
use super::{Frame, ago};
use crate::access::{Answer, Context, Done, Form, Json, NoInput, Query, SignedIn};
use crate::failure::Failure;
use crate::routes::groups::After;
use crate::routes::users::UserFilter;
use crate::routes::{assignments, groups, projects, users, workspaces};

/// An end as a form takes it back, to the second: the date alone where it is midnight.
fn as_typed(end: Time) -> String {
    let text = end.to_string();
    let second = text.get(..19).unwrap_or(&text);
    match second.strip_suffix("T00:00:00") {
        Some(date) => date.to_owned(),
        None => format!("{second}Z"),
    }
}

/// Somebody, or a group, to choose from while one types.
pub struct Person {
    pub name: String,
    pub kind: &'static str,
}

impl Person {
    /// The first few: a help for typing, no list.
    pub async fn all(context: &Context) -> Result<Vec<Person>, Failure> {
        let filter = UserFilter {
            limit: Some(50),
            ..UserFilter::default()
        };
        let Json(users) = context.ask(users::list, &[], Query(filter)).await?;
        let after = After {
            text: None,
            after: None,
            limit: Some(50),
        };
        let Json(groups) = context.ask(groups::list, &[], Query(after)).await?;
        let users = users.items.into_iter().map(|user| Person {
            name: user.name,
            kind: "user",
        });
        let groups = groups.items.into_iter().map(|group| Person {
            name: group.name,
            kind: "group",
        });
        Ok(users.chain(groups).collect())
    }
}

/// Where in a list, and which of it.
#[derive(Debug, Default, Clone, Deserialize, JsonSchema)]
pub struct Listed {
    /// `1`: archived ones too.
    #[serde(default)]
    all: String,
    /// Part of a name.
    #[serde(default)]
    text: String,
    #[serde(default)]
    after: String,
}

impl Listed {
    fn filter(&self) -> Result<PlaceFilter, Failure> {
        Ok(PlaceFilter {
            all: self.is_all().then_some(true),
            text: given(&self.text),
            after: held::position(&self.after)?,
            limit: Some(100),
        })
    }

    fn members(&self) -> Result<MemberFilter, Failure> {
        Ok(MemberFilter {
            after: held::position(&self.after)?,
            limit: Some(100),
        })
    }

    fn is_all(&self) -> bool {
        !self.all.is_empty()
    }

    /// The query of the page that begins after `next`.
    fn query(&self, next: &str) -> String {
        query(&[("all", &self.all), ("text", &self.text), ("after", next)])
    }
}

/// What the forms of these pages send.
#[derive(Default, Deserialize, JsonSchema)]
pub struct Act {
    act: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: String,
    /// `user` or `group`.
    #[serde(default)]
    kind: String,
    #[serde(default)]
    who: String,
    #[serde(default)]
    role: String,
    #[serde(default)]
    until: String,
    #[serde(default)]
    assignment: String,
    #[serde(default)]
    queue: String,
}

impl Act {
    fn rename(&self) -> Rename {
        Rename {
            name: Some(self.name.trim().to_owned()),
            description: Some(self.description.trim().to_owned()),
        }
    }

    fn is_about_members(&self) -> bool {
        ["add", "preview-add", "change", "remove"].contains(&self.act.as_str())
    }

    /// What was typed, where this was the form of name and description.
    fn renaming(&self) -> Option<Rename> {
        ["change", "rename"].contains(&self.act.as_str()).then(|| self.rename())
    }

    fn unknown(&self) -> Failure {
        Failure::invalid(format!("there is nothing called `{}` to do here", self.act))
    }
}

/// A row of the list of workspaces.
struct WorkspaceRow {
    it: Workspace,
    created: String,
}

/// A row of a list of projects.
struct ProjectRow {
    it: Project,
    path: String,
    created: String,
}

#[derive(Template)]
#[template(path = "workspaces.html")]
struct WorkspacesPage {
    frame: Frame,
    listed: Listed,
    rows: Vec<WorkspaceRow>,
    /// Single projects that are seen, of workspaces that are not.
    others: Vec<ProjectRow>,
    next: Option<String>,
    may_create: bool,
    typed: Act,
    problem: Option<Problem>,
}

pub async fn list(door: SignedIn, Query(listed): Query<Listed>) -> Result<Answer, Failure> {
    list_page(&door, listed, Again::default()).await
}

async fn list_page(door: &SignedIn, listed: Listed, again: Again<Act>) -> Result<Answer, Failure> {
    let (context, actor) = (&door.context, &door.actor);
    let Json(page) = context.ask(workspaces::list, &[], Query(listed.filter()?)).await?;
    let now = actor.now();
    let single = !actor
        .visible(Permission::ProjectsRead, ObjectKind::Experiment)
        .projects
        .is_empty();
    let others = match single && listed.after.is_empty() {
        true => {
            let filter = PlaceFilter {
                limit: Some(1000),
                ..listed.filter()?
            };
            context.ask(projects::list, &[], Query(filter)).await?.0.items
        }
        false => Vec::new(),
    };
    let others = others.into_iter().filter_map(|it| {
        let workspace = actor.picture().find_workspace(&it.workspace)?;
        let target = actor.picture().workspace_target(workspace);
        let hidden = actor.may(Permission::WorkspacesRead, &target).is_none();
        hidden.then(|| ProjectRow::of(workspace, it, now))
    });
    let page = WorkspacesPage {
        frame: Frame::new(door, "workspaces", "Workspaces"),
        others: others.collect(),
        next: page.next.map(|next| listed.query(&next)),
        rows: page
            .items
            .into_iter()
            .map(|it| WorkspaceRow {
                created: ago(it.created_at, now),
                it,
            })
            .collect(),
        may_create: actor.may(Permission::WorkspacesCreate, &Target::default()).is_some(),
        listed,
        typed: again.typed,
        problem: again.problem,
    };
    page.frame.answer_with(status(page.problem.as_ref()), &page)
}

impl ProjectRow {
    fn of(workspace: WorkspaceId, it: Project, now: Time) -> ProjectRow {
        ProjectRow {
            path: format!("/workspaces/{workspace}/projects/{}", it.id),
            created: ago(it.created_at, now),
            it,
        }
    }
}

pub async fn act_on_list(door: SignedIn, Form(act): Form<Act>) -> Result<Answer, Failure> {
    let made = match act.act.as_str() {
        "create" => {
            let new = NewWorkspace {
                name: act.name.trim().to_owned(),
                description: act.description.trim().to_owned(),
            };
            door.context.ask(workspaces::create, &[], Json(new)).await
        }
        _ => Err(act.unknown()),
    };
    let done = made.map(|Json(made)| Answer::see(&format!("/workspaces/{}", made.id)).into());
    match Again::or(done, act)? {
        Ok(answer) => Ok(answer),
        Err(again) => list_page(&door, Listed::default(), again).await,
    }
}

/// What stands above each page of a workspace.
struct Head {
    it: Workspace,
    /// `projects`, `members` or `settings`.
    tab: &'static str,
    /// The query that lists its experiments.
    experiments: String,
    sees_members: bool,
    may_change: bool,
    may_set_queue: bool,
    may_delete: bool,
}

impl Head {
    async fn of(door: &SignedIn, tab: &'static str) -> Result<Head, Failure> {
        let path = [("workspace", door.context.path("workspace"))];
        let Json(it) = door.context.ask(workspaces::show, &path, NoInput).await?;
        let target = door.actor.picture().workspace_target(it.id);
        let may = |permission| door.actor.may(permission, &target).is_some();
        Ok(Head {
            tab,
            experiments: format!("workspace={}", quoted(&it.name)),
            sees_members: may(Permission::RolesRead),
            may_change: may(Permission::WorkspacesUpdate),
            may_set_queue: may(Permission::WorkspacesSetDefaultQueue),
            may_delete: may(Permission::WorkspacesDelete),
            it,
        })
    }

    /// For the template: marks the tab that one is at.
    fn at(&self, tab: &str) -> &'static str {
        if self.tab == tab { "page" } else { "false" }
    }
}

#[derive(Template)]
#[template(path = "workspace.html")]
struct WorkspacePage {
    frame: Frame,
    head: Head,
    listed: Listed,
    rows: Vec<ProjectRow>,
    next: Option<String>,
    may_create: bool,
    typed: Act,
    problem: Option<Problem>,
}

pub async fn show(door: SignedIn, Query(listed): Query<Listed>) -> Result<Answer, Failure> {
    show_page(&door, listed, Again::default()).await
}

async fn show_page(door: &SignedIn, listed: Listed, again: Again<Act>) -> Result<Answer, Failure> {
    let head = Head::of(door, "projects").await?;
    let id = head.it.id;
    let number = id.to_string();
    let path = [("workspace", number.as_str())];
    let Json(page) = door
        .context
        .ask(projects::list_of, &path, Query(listed.filter()?))
        .await?;
    let (actor, now) = (&door.actor, door.actor.now());
    let target = actor.picture().workspace_target(id);
    let page = WorkspacePage {
        frame: Frame::new(door, "workspaces", head.it.name.clone()),
        next: page.next.map(|next| listed.query(&next)),
        rows: page.items.into_iter().map(|it| ProjectRow::of(id, it, now)).collect(),
        may_create: actor.may(Permission::ProjectsCreate, &target).is_some(),
        listed,
        head,
        typed: again.typed,
        problem: again.problem,
    };
    page.frame.answer_with(status(page.problem.as_ref()), &page)
}

pub async fn act(door: SignedIn, Form(act): Form<Act>) -> Result<Answer, Failure> {
    // What is not there has no page to tell it on.
    Head::of(&door, "projects").await?;
    let path = [("workspace", door.context.path("workspace"))];
    let back = Answer::see(&format!("/workspaces/{}", quoted(path[0].1)));
    let made = match act.act.as_str() {
        "create" => {
            let new = NewProject {
                name: act.name.trim().to_owned(),
                description: act.description.trim().to_owned(),
            };
            door.context.ask(projects::create, &path, Json(new)).await
        }
        _ => Err(act.unknown()),
    };
    match Again::or(made.map(|_| back.into()), act)? {
        Ok(answer) => Ok(answer),
        Err(again) => show_page(&door, Listed::default(), again).await,
    }
}

/// A row of the list of members.
struct MemberRow {
    it: Member,
    /// Where the role comes from, if not from here.
    from: Option<String>,
    link: Option<String>,
    /// The end as a form takes it back.
    until: String,
    /// The roles to choose from, its own first.
    roles: Vec<String>,
}

/// Who holds which role at a place.
struct Members {
    rows: Vec<MemberRow>,
    next: Option<String>,
    /// Where the forms go.
    path: String,
    may_assign: bool,
    previews: bool,
    roles: Roles,
    people: Vec<Person>,
    typed: Act,
    problem: Option<Problem>,
    preview: Option<DiffAnswer>,
}

impl Members {
    /// The problem is about the form below the table.
    fn is_about_adding(&self) -> bool {
        self.may_assign && self.typed.act.ends_with("add")
    }

    async fn of(
        door: &SignedIn,
        page: Page<Member>,
        listed: &Listed,
        target: &Target,
        path: String,
        again: Again<Act>,
    ) -> Result<Members, Failure> {
        let (context, actor) = (&door.context, &door.actor);
        let target = Target { owner: None, ..*target };
        let may_assign = actor.may(Permission::RolesAssign, &target).is_some();
        let (roles, people) = match may_assign {
            true => (
                Roles::to_give(context, actor, &[target], false).await?,
                Person::all(context).await?,
            ),
            false => (Roles::default(), Vec::new()),
        };
        let row = |it: Member| MemberRow {
            from: comes_from(&it.scope, &target),
            link: match it.kind {
                MemberKind::User => Some(format!("/users/{}", it.id)),
                // What may not be looked at has no number of members.
                MemberKind::Group => it.members.map(|_| format!("/groups/{}", it.id)),
                MemberKind::ServiceAccount => None,
            },
            until: it.until.map(as_typed).unwrap_or_default(),
            roles: roles.with(&it.role),
            it,
        };
        Ok(Members {
            next: page.next.map(|next| listed.query(&next)),
            rows: page.items.into_iter().map(row).collect(),
            path,
            may_assign,
            previews: super::told::reads_roles_somewhere(actor),
            roles,
            people,
            typed: again.typed,
            problem: again.problem,
            preview: again.preview,
        })
    }
}

/// The place that a role comes from, in words; nothing where it was given at this very place.
fn comes_from(scope: &ScopeView, here: &Target) -> Option<String> {
    match scope {
        ScopeView::Global => Some("the whole installation".into()),
        ScopeView::Workspace { name, .. } if here.project.is_some() => Some(format!("workspace {name}")),
        _ => None,
    }
}

/// Gives, changes or takes a role at a place; nothing for any other act.
async fn act_on_member(door: &SignedIn, on: String, act: &Act, back: Answer) -> Result<Acted, Failure> {
    let (context, end) = (&door.context, held::until(&act.until, door.actor.now()));
    let path = [("assignment", act.assignment.as_str())];
    match act.act.as_str() {
        "add" | "preview-add" => {
            let until = end?;
            let given = |names: Vec<&str>| {
                let one = |who: &str| NewAssignment {
                    role: act.role.clone(),
                    user: (act.kind != "group").then(|| who.to_owned()),
                    group: (act.kind == "group").then(|| who.to_owned()),
                    on: Some(on.clone()),
                    until,
                    lifetime_ms: None,
                };
                names.into_iter().map(one).collect::<Vec<_>>()
            };
            let who = act.who.trim();
            // The name of a group may hold a comma.
            let names: Vec<&str> = match act.kind.as_str() {
                "group" => vec![who],
                _ => who.split(',').map(str::trim).collect(),
            };
            let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
            if names.is_empty() {
                return Err(Failure::invalid("say who is to have the role"));
            }
            if act.act == "preview-add" {
                let planned = |one: NewAssignment| Planned::Assign {
                    role: one.role,
                    user: one.user,
                    group: one.group,
                    on: on.clone(),
                };
                return held::preview(door, given(names).into_iter().map(planned).collect()).await;
            }
            let new = NewAssignments {
                assignments: given(names),
                reason: String::new(),
            };
            context.ask(assignments::give, &[], Json(new)).await?;
        }
        "change" => {
            let until = end?;
            let change = AssignmentChange {
                role: Some(act.role.clone()).filter(|role| !role.is_empty()),
                until,
                lifetime_ms: None,
                no_end: until.is_none().then_some(true),
            };
            context.ask(assignments::change, &path, Json(change)).await?;
        }
        "remove" => drop(context.ask(assignments::take_by_id, &path, NoInput).await?),
        _ => return Err(act.unknown()),
    }
    Ok(Acted::Done(back))
}

#[derive(Template)]
#[template(path = "workspace_members.html")]
struct MembersPage {
    frame: Frame,
    head: Head,
    listed: Listed,
    members: Members,
}

pub async fn members(door: SignedIn, Query(listed): Query<Listed>) -> Result<Answer, Failure> {
    members_page(&door, listed, Again::default()).await
}

async fn members_page(door: &SignedIn, listed: Listed, again: Again<Act>) -> Result<Answer, Failure> {
    let head = Head::of(door, "members").await?;
    let id = head.it.id.to_string();
    let filter = Query(listed.members()?);
    let Json(page) = door
        .context
        .ask(workspaces::members, &[("workspace", &id)], filter)
        .await?;
    let target = door.actor.picture().workspace_target(head.it.id);
    let path = format!("/workspaces/{id}/members");
    let page = MembersPage {
        frame: Frame::new(door, "workspaces", format!("Members of {}", head.it.name)),
        members: Members::of(door, page, &listed, &target, path, again).await?,
        head,
        listed,
    };
    page.frame.answer_with(status(page.members.problem.as_ref()), &page)
}

pub async fn act_on_members(door: SignedIn, Form(act): Form<Act>) -> Result<Answer, Failure> {
    let which = door.context.path("workspace").to_owned();
    let back = Answer::see(&format!("/workspaces/{}/members", quoted(&which)));
    match Again::or(
        act_on_member(&door, format!("workspace:{which}"), &act, back).await,
        act,
    )? {
        Ok(answer) => Ok(answer),
        Err(again) => members_page(&door, Listed::default(), again).await,
    }
}

#[derive(Template)]
#[template(path = "workspace_settings.html")]
struct SettingsPage {
    frame: Frame,
    head: Head,
    created: String,
    typed: Option<Rename>,
    problem: Option<Problem>,
}

pub async fn settings(door: SignedIn, _: NoInput) -> Result<Answer, Failure> {
    settings_page(&door, Again::default()).await
}

async fn settings_page(door: &SignedIn, again: Again<Act>) -> Result<Answer, Failure> {
    let head = Head::of(door, "settings").await?;
    let page = SettingsPage {
        frame: Frame::new(door, "workspaces", format!("Settings of {}", head.it.name)),
        created: ago(head.it.created_at, door.actor.now()),
        head,
        typed: again.typed.renaming(),
        problem: again.problem,
    };
    page.frame.answer_with(status(page.problem.as_ref()), &page)
}

pub async fn act_on_settings(door: SignedIn, Form(act): Form<Act>) -> Result<Answer, Failure> {
    // What is not there has no page to tell it on.
    Head::of(&door, "settings").await?;
    match Again::or(change(&door, &act).await.map(Acted::Done), act)? {
        Ok(answer) => Ok(answer),
        Err(again) => settings_page(&door, again).await,
    }
}

async fn change(door: &SignedIn, act: &Act) -> Result<Answer, Failure> {
    let (context, path) = (&door.context, [("workspace", door.context.path("workspace"))]);
    let Json(it) = match act.act.as_str() {
        "change" => context.ask(workspaces::change, &path, Json(act.rename())).await?,
        "set-default-queue" => {
            let queue = given(&act.queue);
            let wanted = Json(SetDefaultQueue { queue });
            context.ask(workspaces::set_default_queue, &path, wanted).await?
        }
        "archive" => context.ask(workspaces::archive, &path, Json(Done {})).await?,
        "unarchive" => context.ask(workspaces::unarchive, &path, Json(Done {})).await?,
        "delete" => {
            context.ask(workspaces::delete, &path, NoInput).await?;
            return Ok(Answer::see("/workspaces"));
        }
        _ => return Err(act.unknown()),
    };
    Ok(Answer::see(&format!("/workspaces/{}/settings", it.id)))
}

#[derive(Template)]
#[template(path = "project.html")]
struct ProjectPage {
    frame: Frame,
    it: Project,
    workspace: super::experiment::Place,
    created: String,
    experiments: String,
    path: String,
    listed: Listed,
    members: Option<Members>,
    may_change: bool,
    may_delete: bool,
    typed: Option<Rename>,
    /// About the project, and not about its members.
    problem: Option<Problem>,
}

/// The numbers of a project and its workspace, for whoever may see it.
async fn found(door: &SignedIn) -> Result<(WorkspaceId, Project), Failure> {
    let context = &door.context;
    let path = [
        ("workspace", context.path("workspace")),
        ("project", context.path("project")),
    ];
    let Json(it) = context.ask(projects::show, &path, NoInput).await?;
    let workspace = door.actor.picture().find_workspace(context.path("workspace"));
    // It was found a moment ago.
    let workspace = workspace.ok_or_else(|| Failure::not_found("project", context.path("project")))?;
    Ok((workspace, it))
}

fn project_path(workspace: WorkspaceId, project: ProjectId) -> String {
    format!("/workspaces/{workspace}/projects/{project}")
}

pub async fn project(door: SignedIn, Query(listed): Query<Listed>) -> Result<Answer, Failure> {
    project_page(&door, listed, Again::default()).await
}

async fn project_page(door: &SignedIn, listed: Listed, again: Again<Act>) -> Result<Answer, Failure> {
    let (workspace, it) = found(door).await?;
    let (context, actor) = (&door.context, &door.actor);
    let target = actor.picture().project_target(it.id);
    let may = |permission| actor.may(permission, &target).is_some();
    let path = project_path(workspace, it.id);
    let (in_workspace, id) = (workspace.to_string(), it.id.to_string());
    let (typed, about_it, again) = match again.typed.is_about_members() {
        true => (None, None, again),
        false => (again.typed.renaming(), again.problem, Again::default()),
    };
    let members = match may(Permission::RolesRead) {
        true => {
            let names = [("workspace", in_workspace.as_str()), ("project", id.as_str())];
            let Json(page) = context.ask(projects::members, &names, Query(listed.members()?)).await?;
            Some(Members::of(door, page, &listed, &target, path.clone(), again).await?)
        }
        false => match again.problem {
            Some(problem) => return Err(problem.into()),
            None => None,
        },
    };
    let sees = actor
        .may(Permission::WorkspacesRead, &actor.picture().workspace_target(workspace))
        .is_some();
    let page = ProjectPage {
        frame: Frame::new(door, "workspaces", format!("{} / {}", it.workspace, it.name)),
        workspace: super::experiment::Place {
            name: it.workspace.clone(),
            path: sees.then(|| format!("/workspaces/{workspace}")),
        },
        created: ago(it.created_at, actor.now()),
        experiments: format!("workspace={}&project={}", quoted(&it.workspace), quoted(&it.name)),
        may_change: may(Permission::ProjectsUpdate),
        may_delete: may(Permission::ProjectsDelete),
        path,
        listed,
        members,
        it,
        typed,
        problem: about_it,
    };
    let about_members = page.members.as_ref().and_then(|members| members.problem.as_ref());
    page.frame
        .answer_with(status(page.problem.as_ref().or(about_members)), &page)
}

pub async fn act_on_project(door: SignedIn, Form(act): Form<Act>) -> Result<Answer, Failure> {
    // What is not there has no page to tell it on.
    let (workspace, it) = found(&door).await?;
    let path = project_path(workspace, it.id);
    let outcome = match act.is_about_members() {
        true => act_on_member(&door, format!("project:{}", it.id), &act, Answer::see(&path)).await,
        false => change_project(&door, workspace, &act, &path).await.map(Acted::Done),
    };
    match Again::or(outcome, act)? {
        Ok(answer) => Ok(answer),
        Err(again) => project_page(&door, Listed::default(), again).await,
    }
}

async fn change_project(door: &SignedIn, workspace: WorkspaceId, act: &Act, page: &str) -> Result<Answer, Failure> {
    let context = &door.context;
    let path = [
        ("workspace", context.path("workspace")),
        ("project", context.path("project")),
    ];
    match act.act.as_str() {
        "rename" => drop(context.ask(projects::change, &path, Json(act.rename())).await?),
        "archive" => drop(context.ask(projects::archive, &path, Json(Done {})).await?),
        "unarchive" => drop(context.ask(projects::unarchive, &path, Json(Done {})).await?),
        "delete" => {
            context.ask(projects::delete, &path, NoInput).await?;
            return Ok(Answer::see(&format!("/workspaces/{workspace}")));
        }
        _ => return Err(act.unknown()),
    }
    Ok(Answer::see(page))
}
