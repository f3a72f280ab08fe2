//! Groups: who belongs to them, and what they hold.

use askama::Template;
use bailiwick_access::Target;
use bailiwick_api::access::{DiffAnswer, Planned};
use bailiwick_api::groups::{ChangeGroup, Group, GroupMember, GroupUsers, NewGroup};
use bailiwick_api::roles::AssignmentFilter;
use bailiwick_api::users::PrincipalKind;
use bailiwick_api::{GroupId, Permission};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Frame;
use super::held::{self, Acted, Again, Giving, Held, Offer, must_be_sure, names, position, preview_giving};
use super::told::{Problem, given, query, status};
use super::users::unknown;
use crate::access::{Answer, Form, Json, NoInput, Query, SignedIn};
use crate::failure::Failure;
use crate::routes;
use crate::routes::groups::After;

/// How many groups, or members, stand on a page.
const PAGE: i64 = 100;

/// Where the list goes on.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct Starting {
    /// Part of a name.
    #[serde(default)]
    text: String,
    #[serde(default)]
    after: String,
}

impl Starting {
    fn page(&self) -> Result<After, Failure> {
        Ok(After {
            text: given(&self.text),
            after: position(&self.after)?,
            limit: Some(PAGE),
        })
    }

    fn query(&self, after: &str) -> String {
        query(&[("text", &self.text), ("after", after)])
    }
}

fn may(door: &SignedIn, permission: Permission) -> bool {
    door.actor.may(permission, &Target::default()).is_some()
}

#[derive(Template)]
#[template(path = "groups.html")]
struct GroupsPage {
    frame: Frame,
    groups: Vec<Group>,
    from: Starting,
    next: Option<String>,
    reads: bool,
    may_create: bool,
    people: Vec<String>,
    typed: GroupForm,
    problem: Option<Problem>,
}

/// Signed in; whoever does not read groups sees those of his own.
pub async fn list(door: SignedIn, Query(from): Query<Starting>) -> Result<Answer, Failure> {
    list_page(&door, from, Again::default()).await
}

async fn list_page(door: &SignedIn, from: Starting, again: Again<GroupForm>) -> Result<Answer, Failure> {
    let Json(page) = door.context.ask(routes::groups::list, &[], Query(from.page()?)).await?;
    let may_create = may(door, Permission::GroupsCreate);
    let page = GroupsPage {
        frame: Frame::new(door, "groups", "Groups"),
        groups: page.items,
        next: page.next.map(|next| from.query(&next)),
        from,
        reads: may(door, Permission::GroupsRead),
        may_create,
        people: match may_create {
            true => held::people(door, "").await?,
            false => Vec::new(),
        },
        typed: again.typed,
        problem: again.problem,
    };
    page.frame.answer_with(status(page.problem.as_ref()), &page)
}

/// Signed in; each act asks for what it needs.
pub async fn act_on_list(door: SignedIn, Form(form): Form<GroupForm>) -> Result<Answer, Failure> {
    let outcome = match form.act.as_str() {
        "create" => create(&door, &form).await,
        act => Err(unknown(act)),
    };
    match Again::or(outcome.map(Acted::Done), form)? {
        Ok(answer) => Ok(answer),
        Err(again) => list_page(&door, Starting::default(), again).await,
    }
}

async fn create(door: &SignedIn, form: &GroupForm) -> Result<Answer, Failure> {
    let new = NewGroup {
        name: form.name.trim().to_owned(),
        description: form.description.trim().to_owned(),
        users: names(&form.users),
    };
    let Json(made) = door.context.ask(routes::groups::create, &[], Json(new)).await?;
    Ok(see(made.group.id))
}

fn see(group: GroupId) -> Answer {
    Answer::see(&format!("/groups/{group}"))
}

#[derive(Template)]
#[template(path = "group.html")]
struct GroupPage {
    frame: Frame,
    group: Group,
    /// Everybody belongs to it.
    everybody: bool,
    members: Vec<GroupMember>,
    from: Starting,
    next: Option<String>,
    reads: bool,
    held: Held,
    more_held: bool,
    offer: Option<Offer>,
    people: Vec<String>,
    may_update: bool,
    may_delete: bool,
    /// Whether one may see beforehand what would change.
    previews: bool,
    typed: GroupForm,
    problem: Option<Problem>,
    preview: Option<DiffAnswer>,
}

impl GroupPage {
    /// What the form was for that is shown again.
    fn about(&self) -> &str {
        self.typed.act.trim_start_matches("preview-")
    }

    /// Whether that form is on the page, with room for what came of it: rights may have gone since it was filled in.
    fn has_form(&self) -> bool {
        match self.about() {
            "add" => self.may_update && !self.everybody,
            "give" => self.offer.is_some(),
            "delete" => self.may_delete,
            _ => false,
        }
    }
}

/// Signed in; who belongs to it, and who reads groups, may look.
pub async fn show(door: SignedIn, Query(from): Query<Starting>) -> Result<Answer, Failure> {
    group_page(&door, from, Again::default()).await
}

async fn group_page(door: &SignedIn, from: Starting, again: Again<GroupForm>) -> Result<Answer, Failure> {
    let path = [("group", door.context.path("group"))];
    let Json(detail) = door
        .context
        .ask(routes::groups::show, &path, Query(from.page()?))
        .await?;
    let group = detail.group;
    let filter = AssignmentFilter {
        group: Some(group.id.to_string()),
        limit: Some(200),
        ..AssignmentFilter::default()
    };
    let Json(held) = door.context.ask(routes::assignments::list, &[], Query(filter)).await?;
    let everybody = group.id == door.actor.picture().users_group();
    let may_update = may(door, Permission::GroupsUpdate);
    let page = GroupPage {
        frame: Frame::new(door, "groups", &group.name),
        everybody,
        members: detail.members.items,
        next: detail.members.next.map(|next| from.query(&next)),
        from,
        reads: may(door, Permission::GroupsRead),
        more_held: held.next.is_some(),
        held: Held {
            rows: held::rows(&door.actor, held.items),
            who: false,
            role: true,
            from: false,
            path: format!("/groups/{}", group.id),
            nothing: "Holds no role, as far as you may see.",
        },
        offer: Offer::to(door).await?,
        people: match may_update && !everybody {
            true => held::people(door, "").await?,
            false => Vec::new(),
        },
        may_update,
        may_delete: !group.built_in && may(door, Permission::GroupsDelete),
        previews: super::told::reads_roles_somewhere(&door.actor),
        typed: again.typed,
        problem: again.problem,
        preview: again.preview,
        group,
    };
    page.frame.answer_with(status(page.problem.as_ref()), &page)
}

/// What a form sends.
#[derive(Default, Deserialize, JsonSchema)]
pub struct GroupForm {
    act: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: String,
    /// Apart by commas.
    #[serde(default)]
    users: String,
    #[serde(default)]
    assignment: String,
    #[serde(default)]
    role: String,
    #[serde(default)]
    on: String,
    #[serde(default)]
    until: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    sure: String,
}

/// Signed in; each act asks for what it needs.
pub async fn act(door: SignedIn, Form(form): Form<GroupForm>) -> Result<Answer, Failure> {
    // A group that is not there has no page to tell it on.
    let path = [("group", door.context.path("group"))];
    let first = Starting::default().page()?;
    door.context.ask(routes::groups::show, &path, Query(first)).await?;
    match Again::or(make(&door, &form).await, form)? {
        Ok(answer) => Ok(answer),
        Err(again) => group_page(&door, Starting::default(), again).await,
    }
}

async fn make(door: &SignedIn, form: &GroupForm) -> Result<Acted, Failure> {
    let which = door.context.path("group").to_owned();
    let path = [("group", which.as_str())];
    let context = &door.context;
    let users = || {
        Json(GroupUsers {
            users: names(&form.users),
        })
    };
    match form.act.as_str() {
        "add" => {
            let Json(changed) = context.ask(routes::groups::add, &path, users()).await?;
            Ok(see(changed.group.id).into())
        }
        "out" => {
            let Json(changed) = context.ask(routes::groups::remove, &path, users()).await?;
            Ok(see(changed.group.id).into())
        }
        "preview-add" => {
            let one = |user: String| Planned::AddMember {
                group: which.clone(),
                user,
            };
            let changes: Vec<Planned> = names(&form.users).into_iter().map(one).collect();
            if changes.is_empty() {
                return Err(Failure::invalid("nobody was named"));
            }
            held::preview(door, changes).await
        }
        "preview-out" => {
            let one = |user: String| Planned::RemoveMember {
                group: which.clone(),
                user,
            };
            held::preview(door, names(&form.users).into_iter().map(one).collect()).await
        }
        "preview-delete" => {
            let group = which.clone();
            held::preview(door, vec![Planned::DeleteGroup { group }]).await
        }
        "change" => {
            let change = ChangeGroup {
                name: Some(form.name.trim().to_owned()),
                description: Some(form.description.trim().to_owned()),
            };
            let Json(group) = context.ask(routes::groups::change, &path, Json(change)).await?;
            Ok(see(group.id).into())
        }
        "delete" => {
            must_be_sure(&form.sure)?;
            context.ask(routes::groups::delete, &path, NoInput).await?;
            Ok(Answer::see("/groups").into())
        }
        "give" | "preview-give" => {
            let giving = Giving {
                user: None,
                group: Some(which.clone()),
                role: &form.role,
                on: &form.on,
                until: &form.until,
                reason: &form.reason,
            };
            if form.act == "preview-give" {
                return preview_giving(door, giving).await;
            }
            held::give(door, giving).await?;
            Ok(back(&which).into())
        }
        "take" => {
            held::take(context, &form.assignment).await?;
            Ok(back(&which).into())
        }
        act => Err(unknown(act)),
    }
}

fn back(which: &str) -> Answer {
    Answer::see(&format!("/groups/{}", super::told::segment(which)))
}

pub fn kind_word(kind: &PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::User => "user",
        PrincipalKind::Service => "service account",
    }
}
