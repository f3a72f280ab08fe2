//! Stacks. One belongs to who made it and lies in no workspace: nobody else sees it until it is shared, and to others it is then OWNER/NAME.

use std::collections::BTreeMap;

use bailiwick_access::{Holder, ObjectKind, Scope, Target};
use bailiwick_api::config::variables;
use bailiwick_api::ids::as_number;
use bailiwick_api::names::{check_name, name_key};
use bailiwick_api::permission::permit;
use bailiwick_api::stacks::{Executor, Stack, StackFilter, StackSettings};
use bailiwick_api::vault::not_for_others;
use bailiwick_api::{Page, Permission, QueueId, StackId, Time};
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use crate::access::{Actor, Granted, Refusal, Work, stack_target};
use crate::assignments::{self, ChangeError, Changed, Resolved, check_text};
use crate::audit::{self, Entry};
use crate::db::{Result, StoreError, id_list};
use crate::picture::Touched;
use crate::workspaces::unassign;

/// Most stacks of one user.
const STACKS_MAX: usize = 1000;
const VARIABLES_MAX: usize = 200;
const ENVIRONMENT_BYTES_MAX: usize = 64 * 1024;
const STORE_CHARS_MAX: usize = 1000;
/// What whoever makes a stack holds at it: it is his to share.
const OWNERS_ROLE: &str = "WorkspaceAdmin";

/// Whether this actor may see the stack. What is not there takes the same decision as what may not be seen.
pub fn may_see(actor: &Actor, id: StackId) -> bool {
    let target = stack_target(actor.picture(), id);
    let seen = actor.may(Permission::StacksRead, &target).is_some();
    seen && actor.picture().stack(id).is_some()
}

/// By id, by the name of one's own, or by OWNER/NAME. By a bare name nobody else's is found: who shares one under a usual name would else have others use it.
///
/// # Errors
/// One that this actor may not see is not there.
pub fn find(actor: &Actor, which: &str) -> std::result::Result<StackId, Refusal> {
    let picture = actor.picture();
    let (owner, name) = match which.rsplit_once('/') {
        Some((owner, name)) => (Some(name_key(owner)), name_key(name)),
        None => (None, name_key(which)),
    };
    let is_it = |stack: &crate::picture::StackEntry| {
        name_key(&stack.name) == name
            && match &owner {
                Some(owner) => name_key(&picture.principal_name(stack.owner)) == *owner,
                None => stack.owner == actor.id,
            }
    };
    let named = picture.stacks().into_iter().filter(|(_, stack)| is_it(stack));
    // A removed user's name may be another's by now.
    let named = named.map(|(id, _)| id).max_by_key(|id| (may_see(actor, *id), *id));
    let id = named.or_else(|| as_number(which).map(StackId)).unwrap_or(StackId(0));
    match may_see(actor, id) {
        true => Ok(id),
        false => Err(missing_refusal(which)),
    }
}

fn missing_refusal(which: impl ToString) -> Refusal {
    Refusal::NotFound {
        what: "stack",
        which: which.to_string(),
    }
}

/// Where this actor may make stacks: everywhere, or in some workspace. Nowhere in particular if that is nowhere.
pub fn may_create_at(actor: &Actor) -> Target {
    let visible = actor.visible(Permission::StacksCreate, ObjectKind::Stack);
    let everywhere = Target::default();
    match actor.may(Permission::StacksCreate, &everywhere) {
        Some(_) => everywhere,
        None => visible
            .workspaces
            .first()
            .map_or(everywhere, |id| Target::workspace(*id)),
    }
}

const COLUMNS: &str = "id, name, owner_id, description, executor, queue_id, artifact_store, environment, created_at";

/// A row as it is, with what may not be shown to everybody.
struct Kept {
    stack: Stack,
    queue: Option<QueueId>,
}

fn read(actor: &Actor, row: &AnyRow) -> Result<Kept> {
    let broken = |why: &dyn std::fmt::Display| StoreError::Broken(format!("a stack: {why}"));
    let queue = row.try_get::<Option<i64>, _>(5)?.map(QueueId);
    let seen = queue.filter(|id| crate::queues::may_see(actor, *id));
    let environment = serde_json::from_str(row.try_get(7)?).map_err(|why| broken(&why))?;
    Ok(Kept {
        stack: Stack {
            id: StackId(row.try_get(0)?),
            name: row.try_get(1)?,
            owner: actor
                .picture()
                .principal_name(bailiwick_api::PrincipalId(row.try_get(2)?))
                .to_string(),
            shared: false,
            description: row.try_get(3)?,
            executor: Executor::parse(row.try_get(4)?).ok_or_else(|| broken(&"no known executor"))?,
            queue: seen.map(|id| actor.picture().queue_name(id).to_string()),
            artifact_store: row.try_get(6)?,
            environment,
            created_at: Time(row.try_get(8)?),
        },
        queue,
    })
}

async fn rows(actor: &Actor, ids: &[StackId]) -> Result<Vec<Kept>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids = id_list(ids.iter().map(|id| id.0));
    let sql = format!("SELECT {COLUMNS} FROM stacks WHERE id IN ({ids}) ORDER BY name_key, id");
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&actor.db().read).await?;
    let mut kept = rows.iter().map(|row| read(actor, row)).collect::<Result<Vec<_>>>()?;
    let sql = format!(
        "SELECT DISTINCT s.id FROM stacks s JOIN assignments a ON a.scope_kind = 'stack' AND a.scope_id = s.id
         WHERE s.id IN ({ids}) AND (a.principal_id IS NULL OR a.principal_id <> s.owner_id) AND (a.expires_at IS NULL OR a.expires_at > $1)"
    );
    let shared: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(actor.now().0)
        .fetch_all(&actor.db().read)
        .await?;
    for one in &mut kept {
        one.stack.shared = shared.contains(&one.stack.id.0);
    }
    Ok(kept)
}

/// The stacks that this actor may see, by name. A filter leaves some of these out and brings none in.
pub async fn list(actor: &Actor, filter: &StackFilter) -> Result<Page<Stack>> {
    let picture = actor.picture();
    let owner = filter.owner.as_deref().map(name_key);
    let of_owner = |id| {
        owner
            .as_ref()
            .is_none_or(|owner| name_key(&picture.principal_name(id)) == *owner)
    };
    let stacks = picture.stacks().into_iter();
    let seen = stacks.filter(|(id, stack)| may_see(actor, *id) && of_owner(stack.owner));
    let seen: Vec<StackId> = seen.map(|(id, _)| id).collect();
    let items = rows(actor, &seen).await?.into_iter().map(|kept| kept.stack);
    Ok(Page {
        items: items.collect(),
        next: None,
    })
}

async fn kept(actor: &Actor, id: StackId) -> std::result::Result<Kept, Refusal> {
    rows(actor, &[id]).await?.pop().ok_or_else(|| missing_refusal(id))
}

/// One that [`find`] found.
pub async fn get(actor: &Actor, id: StackId) -> std::result::Result<Stack, Refusal> {
    Ok(kept(actor, id).await?.stack)
}

/// What a submission takes from a stack.
pub struct ForRun {
    /// As OWNER/NAME.
    pub name: String,
    pub executor: Executor,
    /// Whoever may use the stack need not see it; and it may be gone.
    pub queue: Option<QueueId>,
    pub environment: BTreeMap<String, String>,
}

/// One that [`find`] found, for a submission.
pub async fn for_run(actor: &Actor, id: StackId) -> std::result::Result<ForRun, Refusal> {
    let kept = kept(actor, id).await?;
    Ok(ForRun {
        name: format!("{}/{}", kept.stack.owner, kept.stack.name),
        executor: kept.stack.executor,
        queue: kept.queue,
        environment: kept.stack.environment,
    })
}

fn check(new: &StackSettings) -> std::result::Result<(), ChangeError> {
    let invalid = |why: String| Err(ChangeError::Invalid(why));
    if let Some(name) = &new.name {
        check_name("a stack", name).map_err(ChangeError::Invalid)?;
        if name.contains(['/', '#', ',']) || as_number(name).is_some() {
            return invalid("the name of a stack is no number, and holds neither `/`, `#` nor a comma".into());
        }
    }
    if let Some(description) = &new.description {
        check_text("the description", description)?;
    }
    if let Some(store) = new.artifact_store.as_deref().filter(|store| !store.is_empty()) {
        check_store(store).map_err(ChangeError::Invalid)?;
    }
    let Some(environment) = &new.environment else {
        return Ok(());
    };
    let bytes: usize = environment.iter().map(|(key, value)| key.len() + value.len()).sum();
    if environment.len() > VARIABLES_MAX || bytes > ENVIRONMENT_BYTES_MAX {
        return invalid(format!(
            "the environment of a stack has at most {VARIABLES_MAX} variables and {ENVIRONMENT_BYTES_MAX} bytes"
        ));
    }
    variables(Some(&json!(environment))).map_err(ChangeError::Invalid)?;
    // Others run with it: it must not make their programs do something else.
    let agents_own = |name: &&String| name.starts_with("ML_") || name.ends_with("_VISIBLE_DEVICES");
    let barred = not_for_others(environment).or(environment.keys().find(agents_own).map(String::as_str));
    match barred {
        Some(name) => invalid(format!(
            "a stack cannot set {name}: set it in the experiment's configuration"
        )),
        None => Ok(()),
    }
}

/// `file:///srv/artifacts`, `s3://bucket/prefix`: a scheme and what it leads to. A password has no place in it: everybody with whom the stack is shared reads it.
pub(crate) fn check_store(store: &str) -> std::result::Result<(), String> {
    let wrong = format!("`{store}` is no place for artifacts: write `file:///srv/artifacts` or `s3://bucket/prefix`");
    let Some((scheme, rest)) = store.split_once("://") else {
        return Err(wrong);
    };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '+');
    let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
    bailiwick_api::names::check_text("the place for artifacts", store, STORE_CHARS_MAX)?;
    if !is_scheme || rest.chars().any(char::is_whitespace) {
        return Err(wrong);
    }
    if place.contains('@') {
        return Err(
            "the place for artifacts holds no user or password: everybody with whom the stack is shared reads it"
                .into(),
        );
    }
    match scheme {
        "file" if !place.is_empty() || path.is_empty() => Err(wrong),
        _ if scheme != "file" && place.is_empty() => Err(wrong),
        _ => Ok(()),
    }
}

/// The queue that is named, if this actor may see it.
fn queue(actor: &Actor, named: Option<&str>, before: Option<QueueId>) -> Changed<Option<QueueId>> {
    match named.map(str::trim) {
        None => Ok(before),
        Some("") => Ok(None),
        Some(name) => Ok(Some(crate::queues::find(actor, name)?)),
    }
}

fn taken(name: &str) -> impl FnOnce(StoreError) -> ChangeError {
    move |why| match why {
        StoreError::Conflict(_) => ChangeError::Conflict(format!(
            "there is already a stack `{name}` of the same owner (letter case does not matter)"
        )),
        other => other.into(),
    }
}

/// For the audit: the names of variables, and not what they are set to.
fn words(stack: &Stack, queue: Option<QueueId>) -> Value {
    let variables: Vec<&String> = stack.environment.keys().collect();
    json!({
        "name": stack.name, "description": stack.description, "executor": stack.executor, "queue": queue,
        "artifact_store": stack.artifact_store, "variables": variables,
    })
}

fn with(stack: Stack, new: &StackSettings) -> Stack {
    Stack {
        name: new.name.clone().unwrap_or(stack.name),
        description: new.description.clone().unwrap_or(stack.description),
        executor: new.executor.unwrap_or(stack.executor),
        artifact_store: new.artifact_store.clone().unwrap_or(stack.artifact_store),
        environment: new.environment.clone().unwrap_or(stack.environment),
        ..stack
    }
}

/// Makes a stack that only its maker sees, and that is his to share.
pub async fn create(by: &Granted<permit::StacksCreate>, new: &StackSettings) -> Changed<Stack> {
    let (actor, picture) = (&by.actor, by.actor.picture());
    let Some(name) = new.name.clone() else {
        return Err(ChangeError::Invalid("a stack needs a name".into()));
    };
    check(new)?;
    let queue = queue(actor, new.queue.as_deref(), None)?;
    if picture
        .stacks()
        .iter()
        .filter(|(_, stack)| stack.owner == actor.id)
        .count()
        >= STACKS_MAX
    {
        return Err(ChangeError::Conflict(format!(
            "{} has {STACKS_MAX} stacks: delete some first",
            actor.name()
        )));
    }
    let fresh = Stack {
        id: StackId(0),
        name,
        owner: actor.name().to_string(),
        shared: false,
        description: String::new(),
        executor: Executor::default(),
        queue: queue.map(|id| picture.queue_name(id).to_string()),
        artifact_store: String::new(),
        environment: BTreeMap::new(),
        created_at: actor.now(),
    };
    let mut stack = with(fresh, new);
    let mut work = by.begin().await?;
    let inserted = sqlx::query_scalar::<_, i64>(
        "INSERT INTO stacks (name, name_key, owner_id, executor, created_at) VALUES ($1, $2, $3, $4, $5) RETURNING id",
    )
    .bind(&stack.name)
    .bind(name_key(&stack.name))
    .bind(actor.id.0.max(0))
    .bind(stack.executor.word())
    .bind(stack.created_at.0)
    .fetch_one(&mut **work)
    .await;
    stack.id = StackId(inserted.map_err(StoreError::from).map_err(taken(&stack.name))?);
    write(&mut work, &stack, queue).await?;
    // Where access control is off there may be no user at all.
    if let Some(role) = picture.find_role(OWNERS_ROLE).filter(|_| actor.id.0 > 0) {
        let owns = Resolved {
            holder: Holder::Principal(actor.id),
            role,
            scope: Scope::Object(ObjectKind::Stack, stack.id.0),
            expires: None,
            reason: "made the stack".into(),
        };
        assignments::write(&mut work, actor, &owns).await?;
    }
    let entry = Entry::of::<permit::StacksCreate>("create", "stack", &stack.name);
    audit::write(&mut work, actor, entry.with(json!({"after": words(&stack, queue)}))).await?;
    work.commit().await?;
    Ok(stack)
}

async fn write(work: &mut Work, stack: &Stack, queue: Option<QueueId>) -> Changed<()> {
    let updated = sqlx::query(
        "UPDATE stacks SET name = $2, name_key = $3, description = $4, executor = $5, queue_id = $6, artifact_store = $7, environment = $8 WHERE id = $1",
    )
    .bind(stack.id.0)
    .bind(&stack.name)
    .bind(name_key(&stack.name))
    .bind(&stack.description)
    .bind(stack.executor.word())
    .bind(queue.map(|id| id.0))
    .bind(&stack.artifact_store)
    .bind(json!(stack.environment).to_string())
    .execute(&mut ***work)
    .await;
    updated.map_err(StoreError::from).map_err(taken(&stack.name))?;
    work.touches(&[Touched::Stack(stack.id)]).await?;
    Ok(())
}

/// The stack as its row has it now, held until the transaction ends.
async fn hold(work: &mut Work, actor: &Actor, id: StackId) -> Changed<Kept> {
    let lock = actor.db().lock_rows();
    let sql = format!("SELECT {COLUMNS} FROM stacks WHERE id = $1{lock}");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .fetch_optional(&mut ***work)
        .await?;
    let row = row.ok_or_else(|| ChangeError::Refused(missing_refusal(id)))?;
    Ok(read(actor, &row)?)
}

/// Renames a stack, and changes what it names. What was submitted with it stays as it was then.
pub async fn update(by: &Granted<permit::StacksUpdate>, id: StackId, new: &StackSettings) -> Changed<Stack> {
    check(new)?;
    let mut work = by.begin().await?;
    work.touches(&[Touched::Stack(id)]).await?;
    let before = hold(&mut work, &by.actor, id).await?;
    let queue = queue(&by.actor, new.queue.as_deref(), before.queue)?;
    let stack = with(before.stack.clone(), new);
    write(&mut work, &stack, queue).await?;
    let entry = Entry::of::<permit::StacksUpdate>("update", "stack", &before.stack.name);
    let mut detail = json!({"before": words(&before.stack, before.queue), "after": words(&stack, queue)});
    detail["values_changed"] = json!(before.stack.environment != stack.environment);
    audit::write(&mut work, &by.actor, entry.with(detail)).await?;
    work.commit().await?;
    Ok(get(&by.actor, id).await?)
}

/// Deletes a stack. What was submitted with it goes on, waiting jobs too; what was assigned at it ends.
pub async fn delete(by: &Granted<permit::StacksDelete>, id: StackId) -> Changed<Stack> {
    let mut work = by.begin().await?;
    work.touches(&[Touched::Stack(id)]).await?;
    let Kept { stack, queue } = hold(&mut work, &by.actor, id).await?;
    let touched = unassign(&mut work, "stack", &[id.0]).await?;
    work.touches(&touched).await?;
    sqlx::query("DELETE FROM stacks WHERE id = $1")
        .bind(id.0)
        .execute(&mut **work)
        .await?;
    let entry = Entry::of::<permit::StacksDelete>("delete", "stack", &stack.name);
    let detail = json!({"before": words(&stack, queue), "assignments": touched.len()});
    audit::write(&mut work, &by.actor, entry.with(detail)).await?;
    work.commit().await?;
    Ok(stack)
}
