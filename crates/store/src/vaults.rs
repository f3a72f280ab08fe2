//! Vaults: configuration that is merged into what agents and jobs see. What they hold is sealed (`sealing.rs`); what is written here of their contents is the
//! paths of their values and never the values.

use bailiwick_access::Target;
use bailiwick_api::names::name_key;
use bailiwick_api::permission::permit;
use bailiwick_api::vault::{self, Effective, Layer, VaultFormat};
use bailiwick_api::vaults::{
    AppliedVaults, KeyRotated, PLACE_DEFAULT, Vault, VaultChange, VaultDetail, VaultEdit, VaultKind,
};
use bailiwick_api::{GroupId, Permission, PrincipalId, Time, VaultId};
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Executor, Row};

use crate::access::{Access, Actor, Granted, NOBODY, Picture, System, Work};
use crate::assignments::{ChangeError, Changed};
use crate::audit::{self, Entry};
use crate::db::{Kind, Result, StoreError, number_list};
use crate::sealing::Sealed;

/// Most vaults that administrators may have.
const MOST: i64 = 1000;
/// How many of the last changes of a vault are shown.
const CHANGES_SHOWN: i64 = 200;

const COLUMNS: &str = "id, principal_id, group_id, name, place, enforced, enabled, format, key_name, sealed, keys, version, changed_at, changed_by_id";

/// For whom a vault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Principal(PrincipalId),
    Group(GroupId),
    Everybody,
}

impl Of {
    /// What a permission is asked on.
    pub fn target(self) -> Target {
        match self {
            Of::Principal(id) => Target::owned_by(id),
            Of::Group(_) | Of::Everybody => Target::default(),
        }
    }

    fn kind(self) -> VaultKind {
        match self {
            Of::Principal(_) => VaultKind::Personal,
            Of::Group(_) => VaultKind::Group,
            Of::Everybody => VaultKind::Organisation,
        }
    }
}

/// A vault as its row has it, still sealed.
#[derive(Debug, Clone)]
pub struct VaultRow {
    pub id: VaultId,
    pub of: Of,
    name: String,
    place: i64,
    enforced: bool,
    pub enabled: bool,
    format: VaultFormat,
    key: String,
    sealed: Vec<u8>,
    keys: Vec<String>,
    version: i64,
    changed_at: Time,
    changed_by: PrincipalId,
}

/// What is sealed.
struct Content {
    text: String,
    value: Value,
}

fn read(row: &AnyRow) -> Result<VaultRow> {
    let broken = |why: String| StoreError::Broken(why);
    let (principal, group): (Option<i64>, Option<i64>) = (row.try_get(1)?, row.try_get(2)?);
    let format: String = row.try_get(7)?;
    Ok(VaultRow {
        id: VaultId(row.try_get(0)?),
        of: match (principal, group) {
            (Some(id), _) => Of::Principal(PrincipalId(id)),
            (None, Some(id)) => Of::Group(GroupId(id)),
            (None, None) => Of::Everybody,
        },
        name: row.try_get(3)?,
        place: row.try_get(4)?,
        enforced: row.try_get::<i64, _>(5)? == 1,
        enabled: row.try_get::<i64, _>(6)? == 1,
        format: VaultFormat::parse(&format).ok_or_else(|| broken(format!("a vault has no known format: {format}")))?,
        key: row.try_get(8)?,
        sealed: row.try_get(9)?,
        keys: serde_json::from_str(row.try_get(10)?).map_err(|why| broken(why.to_string()))?,
        version: row.try_get(11)?,
        changed_at: Time(row.try_get(12)?),
        changed_by: PrincipalId(row.try_get(13)?),
    })
}

impl VaultRow {
    /// `@ana`, or its own name.
    pub fn name(&self, picture: &Picture) -> String {
        match self.of {
            Of::Principal(id) => format!("@{}", picture.principal_name(id)),
            _ => self.name.clone(),
        }
    }

    pub fn view(&self, picture: &Picture) -> Vault {
        Vault {
            id: self.id,
            kind: self.of.kind(),
            name: self.name(picture),
            of: match self.of {
                Of::Principal(id) => Some(picture.principal_name(id).to_string()),
                Of::Group(id) => picture.group(id).map(|group| group.name.to_string()),
                Of::Everybody => None,
            },
            place: self.place,
            enforced: self.enforced,
            enabled: self.enabled,
            format: self.format,
            keys: self.keys.clone(),
            version: self.version,
            changed_at: self.changed_at,
            changed_by: picture.principal_name(self.changed_by).to_string(),
        }
    }

    fn about(id: VaultId, kind: VaultKind) -> String {
        format!("vault {id} {}", kind.name())
    }

    fn open(&self, access: &Access) -> Result<Content> {
        let about = VaultRow::about(self.id, self.of.kind());
        let plain = access.vault_keys()?.open(&self.key, &about, &self.sealed)?;
        let broken = |why: serde_json::Error| StoreError::Broken(format!("vault {}: {why}", self.id));
        let (text, value) = serde_json::from_slice(&plain).map_err(broken)?;
        Ok(Content { text, value })
    }
}

/// What of a text is kept, or why it is not taken. A user's own may not say what another's agent would refuse; a service account has agents of its own.
pub fn check(picture: &Picture, of: Of, format: VaultFormat, text: &str) -> std::result::Result<Value, String> {
    let content = vault::parse(format, text).map_err(|fault| fault.to_string())?;
    if matches!(of, Of::Principal(id) if !picture.world().is_service(id)) {
        vault::check_personal(&content).map_err(|fault| fault.to_string())?;
    }
    Ok(content)
}

/// The vault of this number or name, `@ana` for a personal one; whoever asks.
pub async fn find(actor: &Actor, which: &str) -> Result<Option<VaultRow>> {
    let sql = |by: &str| format!("SELECT {COLUMNS} FROM vaults WHERE {by}");
    let number = bailiwick_api::as_number(which);
    let row = match (number, which.strip_prefix('@')) {
        (Some(id), _) => {
            sqlx::query(AssertSqlSafe(sql("id = $1")))
                .bind(id)
                .fetch_optional(&actor.db().read)
                .await?
        }
        (None, Some(user)) => {
            let id = actor.picture().find_principal(user).unwrap_or(NOBODY);
            let query = sqlx::query(AssertSqlSafe(sql("principal_id = $1")));
            query.bind(id.0).fetch_optional(&actor.db().read).await?
        }
        (None, None) => {
            let query = sqlx::query(AssertSqlSafe(sql("principal_id IS NULL AND name_key = $1")));
            query.bind(name_key(which)).fetch_optional(&actor.db().read).await?
        }
    };
    row.as_ref().map(read).transpose()
}

/// Those of administrators, for who may read all, and one's own.
pub async fn list(actor: &Actor) -> Result<Vec<Vault>> {
    let all = actor.may(Permission::VaultsRead, &Target::default()).is_some();
    let own = actor.may(Permission::VaultsRead, &Target::owned_by(actor.id)).is_some();
    let sql = format!(
        "SELECT {COLUMNS} FROM vaults WHERE (principal_id IS NULL AND $1 = 1) OR (principal_id = $2 AND $3 = 1) ORDER BY principal_id, place, name_key"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(i64::from(all))
        .bind(actor.id.0)
        .bind(i64::from(own));
    let rows = rows.fetch_all(&actor.db().read).await?;
    rows.iter().map(|row| Ok(read(row)?.view(actor.picture()))).collect()
}

/// A new vault, checked.
pub struct New<'a> {
    pub of: Of,
    /// Of an administrator's vault; empty for a personal one.
    pub name: &'a str,
    pub place: i64,
    pub enforced: bool,
    pub enabled: bool,
    pub format: VaultFormat,
    pub text: &'a str,
    pub content: &'a Value,
}

impl Default for New<'_> {
    fn default() -> Self {
        New {
            of: Of::Everybody,
            name: "",
            place: PLACE_DEFAULT,
            enforced: false,
            enabled: true,
            format: VaultFormat::Hocon,
            text: "",
            content: &Value::Null,
        }
    }
}

pub async fn create(by: &Granted<permit::VaultsUpdate>, new: &New<'_>) -> Changed<VaultDetail> {
    let actor = &by.actor;
    let picture = actor.picture();
    let mut work = by.begin().await?;
    let (principal, group) = match new.of {
        Of::Principal(id) => (Some(id.0), None),
        Of::Group(id) => (None, Some(id.0)),
        Of::Everybody => (None, None),
    };
    let taken = match principal {
        Some(id) => sqlx::query_scalar::<_, i64>("SELECT id FROM vaults WHERE principal_id = $1").bind(id),
        None => sqlx::query_scalar("SELECT id FROM vaults WHERE principal_id IS NULL AND name_key = $1")
            .bind(name_key(new.name)),
    };
    if let Some(id) = taken.fetch_optional(&mut **work).await? {
        let words = match new.of {
            Of::Principal(who) => format!(
                "{} has a vault already, number {id}: edit it",
                picture.principal_name(who)
            ),
            _ => format!("a vault of the name `{}` is there already, number {id}", new.name),
        };
        return Err(ChangeError::Conflict(words));
    }
    if principal.is_none() {
        let many: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM vaults WHERE principal_id IS NULL")
            .fetch_one(&mut **work)
            .await?;
        if many >= MOST {
            return Err(ChangeError::Conflict(format!(
                "there are {MOST} vaults of administrators, and no more may be"
            )));
        }
    }
    let keys = vault::keys(new.content);
    // Its number is part of what is sealed, so it comes first.
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO vaults (principal_id, group_id, name, name_key, place, enforced, enabled, format, key_name, sealed, keys, version, changed_at, changed_by_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, '', $9, $10, 1, $11, $12) RETURNING id",
    )
    .bind(principal)
    .bind(group)
    .bind(new.name)
    .bind(name_key(new.name))
    .bind(new.place)
    .bind(i64::from(new.enforced))
    .bind(i64::from(new.enabled))
    .bind(new.format.name())
    .bind(Vec::<u8>::new())
    .bind(json!(keys).to_string())
    .bind(actor.now().0)
    .bind(actor.id.0)
    .fetch_one(&mut **work)
    .await?;
    let id = VaultId(id);
    seal(&mut work, id, new.of.kind(), new.text, new.content).await?;
    let row = hold(&mut work, actor, id).await?;
    note(&mut work, actor, &row, "create", &keys, json!({"after": words(&row)})).await?;
    work.commit().await?;
    Ok(VaultDetail {
        vault: row.view(picture),
        text: None,
        content: vault::mask(new.content),
    })
}

async fn seal(work: &mut Work, id: VaultId, kind: VaultKind, text: &str, content: &Value) -> Result<()> {
    let access = work.access();
    let plain = json!([text, content]).to_string();
    let Sealed { key, bytes } = access
        .vault_keys()?
        .seal(work, &VaultRow::about(id, kind), plain.as_bytes())
        .await?;
    sqlx::query("UPDATE vaults SET key_name = $2, sealed = $3 WHERE id = $1")
        .bind(id.0)
        .bind(key)
        .bind(bytes)
        .execute(&mut ***work)
        .await?;
    Ok(())
}

/// The row as it is now, held until the transaction ends.
async fn hold(work: &mut Work, actor: &Actor, id: VaultId) -> Changed<VaultRow> {
    let sql = format!("SELECT {COLUMNS} FROM vaults WHERE id = $1{}", actor.db().lock_rows());
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .fetch_optional(&mut ***work)
        .await?;
    let missing = || {
        ChangeError::Refused(crate::access::Refusal::NotFound {
            what: "vault",
            which: id.to_string(),
        })
    };
    Ok(read(&row.ok_or_else(missing)?)?)
}

/// What of a vault stands in the audit besides the paths that changed.
fn words(row: &VaultRow) -> Value {
    json!({"place": row.place, "enforced": row.enforced, "enabled": row.enabled, "format": row.format.name(), "version": row.version})
}

async fn note(
    work: &mut Work,
    actor: &Actor,
    row: &VaultRow,
    verb: &str,
    keys: &[String],
    detail: Value,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO vault_changes (vault_id, at, principal_id, verb, keys, address) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(row.id.0)
    .bind(actor.now().0)
    .bind(actor.id.0)
    .bind(verb)
    .bind(json!(keys).to_string())
    .bind(&*actor.origin.address)
    .execute(&mut ***work)
    .await?;
    let permission = if verb == "reveal" {
        Permission::VaultsRead
    } else {
        Permission::VaultsUpdate
    };
    let mut detail = detail;
    detail["keys"] = json!(keys);
    let entry = Entry::new(permission.name(), verb, "vault", row.name(actor.picture()));
    audit::write(work, actor, entry.with(detail)).await
}

/// Contents are left as they are unless there is a new text.
pub async fn update(by: &Granted<permit::VaultsUpdate>, id: VaultId, edit: &VaultEdit) -> Changed<VaultDetail> {
    let actor = &by.actor;
    let mut work = by.begin().await?;
    let before = hold(&mut work, actor, id).await?;
    if let Some(seen) = edit.version.filter(|seen| *seen != before.version) {
        return Err(ChangeError::Conflict(format!(
            "the vault was changed meanwhile by {}: it is at version {}, and this change was made from version {seen}; look at it again",
            actor.picture().principal_name(before.changed_by),
            before.version
        )));
    }
    if matches!(before.of, Of::Principal(_)) && (edit.name.is_some() || edit.place.is_some() || edit.enforced.is_some())
    {
        return Err(ChangeError::Invalid(
            "a personal vault has no name or order of its own, and cannot be enforced".into(),
        ));
    }
    if edit.format.is_some() && edit.text.is_none() {
        return Err(ChangeError::Invalid("a format goes with a text: send both".into()));
    }
    let mut after = VaultRow {
        name: edit.name.clone().unwrap_or_else(|| before.name.clone()),
        place: edit.place.unwrap_or(before.place),
        enforced: edit.enforced.unwrap_or(before.enforced),
        enabled: edit.enabled.unwrap_or(before.enabled),
        format: edit.format.unwrap_or(before.format),
        version: before.version + 1,
        changed_at: actor.now(),
        changed_by: actor.id,
        ..before.clone()
    };
    if name_key(&after.name) != name_key(&before.name) {
        let taken: Option<i64> =
            sqlx::query_scalar("SELECT id FROM vaults WHERE principal_id IS NULL AND name_key = $1")
                .bind(name_key(&after.name))
                .fetch_optional(&mut **work)
                .await?;
        if taken.is_some() {
            return Err(ChangeError::Conflict(format!(
                "a vault of the name `{}` is there already",
                after.name
            )));
        }
    }
    let mut changed = Vec::new();
    let mut shown = None;
    if let Some(text) = &edit.text {
        let content = check(actor.picture(), before.of, after.format, text).map_err(ChangeError::Invalid)?;
        changed = match before.open(&actor.access) {
            Ok(old) => vault::changed_keys(&old.value, &content),
            // What it was cannot be told; what it is from now on can.
            Err(StoreError::Sealed(_)) => vault::keys(&content),
            Err(why) => return Err(why.into()),
        };
        seal(&mut work, id, before.of.kind(), text, &content).await?;
        after.keys = vault::keys(&content);
        shown = Some(content);
    }
    sqlx::query(
        "UPDATE vaults SET name = $2, name_key = $3, place = $4, enforced = $5, enabled = $6, format = $7, keys = $8, version = $9, changed_at = $10, changed_by_id = $11 WHERE id = $1",
    )
    .bind(id.0)
    .bind(&after.name)
    .bind(name_key(&after.name))
    .bind(after.place)
    .bind(i64::from(after.enforced))
    .bind(i64::from(after.enabled))
    .bind(after.format.name())
    .bind(json!(after.keys).to_string())
    .bind(after.version)
    .bind(after.changed_at.0)
    .bind(after.changed_by.0)
    .execute(&mut **work)
    .await?;
    let verb = match (edit.text.is_some(), before.enabled, after.enabled) {
        (false, false, true) => "enable",
        (false, true, false) => "disable",
        _ => "edit",
    };
    let detail = json!({"before": words(&before), "after": words(&after)});
    note(&mut work, actor, &after, verb, &changed, detail).await?;
    work.commit().await?;
    let content = match shown {
        Some(content) => vault::mask(&content),
        None => before
            .open(&actor.access)
            .map_or(Value::Null, |content| vault::mask(&content.value)),
    };
    Ok(VaultDetail {
        vault: after.view(actor.picture()),
        text: None,
        content,
    })
}

pub async fn delete(by: &Granted<permit::VaultsUpdate>, id: VaultId) -> Changed<Vault> {
    let actor = &by.actor;
    let mut work = by.begin().await?;
    let row = hold(&mut work, actor, id).await?;
    let detail = json!({"before": words(&row), "keys": row.keys});
    let entry = Entry::of::<permit::VaultsUpdate>("delete", "vault", row.name(actor.picture()));
    audit::write(&mut work, actor, entry.with(detail)).await?;
    sqlx::query("DELETE FROM vaults WHERE id = $1")
        .bind(id.0)
        .execute(&mut **work)
        .await?;
    work.commit().await?;
    Ok(row.view(actor.picture()))
}

/// With its values only where they are asked for; that somebody looked at another's is put on record first.
pub async fn show(by: &Granted<permit::VaultsRead>, row: &VaultRow, reveal: bool) -> Changed<VaultDetail> {
    let content = row.open(&by.actor.access)?;
    if reveal && row.of != Of::Principal(by.actor.id) {
        let mut work = by.begin().await?;
        note(
            &mut work,
            &by.actor,
            row,
            "reveal",
            &[],
            json!({"version": row.version}),
        )
        .await?;
        work.commit().await?;
    }
    Ok(VaultDetail {
        vault: row.view(by.actor.picture()),
        text: reveal.then_some(content.text),
        content: if reveal {
            content.value
        } else {
            vault::mask(&content.value)
        },
    })
}

/// The newest first.
pub async fn changes(by: &Granted<permit::VaultsRead>, id: VaultId) -> Result<Vec<VaultChange>> {
    let sql =
        "SELECT at, principal_id, verb, keys, address FROM vault_changes WHERE vault_id = $1 ORDER BY id DESC LIMIT $2";
    let rows = sqlx::query(sql)
        .bind(id.0)
        .bind(CHANGES_SHOWN)
        .fetch_all(&by.actor.db().read)
        .await?;
    let change = |row: &AnyRow| {
        Ok(VaultChange {
            time: Time(row.try_get(0)?),
            user: by
                .actor
                .picture()
                .principal_name(PrincipalId(row.try_get(1)?))
                .to_string(),
            verb: row.try_get(2)?,
            keys: serde_json::from_str(row.try_get(3)?).map_err(|why| StoreError::Broken(why.to_string()))?,
            address: row.try_get(4)?,
        })
    };
    rows.iter().map(change).collect()
}

/// The enabled vaults that apply to somebody, weakest first.
async fn applying<'e>(
    from: impl Executor<'e, Database = Any>,
    kind: Kind,
    picture: &Picture,
    who: PrincipalId,
) -> Result<Vec<VaultRow>> {
    let groups: Vec<i64> = picture.world().groups_of(who).iter().map(|group| group.0).collect();
    let sql = format!(
        "SELECT {COLUMNS} FROM vaults
         WHERE enabled = 1 AND (principal_id = $1 OR (principal_id IS NULL AND (group_id IS NULL OR group_id {})))
         ORDER BY CASE WHEN principal_id IS NULL THEN 0 ELSE 1 END, place, CASE WHEN group_id IS NULL THEN 0 ELSE 1 END, name_key",
        kind.among("$2")
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(who.0)
        .bind(number_list(&groups))
        .fetch_all(from)
        .await?;
    rows.iter().map(read).collect()
}

/// What the vaults of somebody come to.
pub(crate) struct Applying {
    /// The vaults by name and version.
    pub(crate) names: Vec<String>,
    pub(crate) merged: Effective,
    /// Of the personal one alone.
    pub(crate) personal: Option<Value>,
}

fn merged(access: &Access, picture: &Picture, rows: &[VaultRow]) -> Result<Applying> {
    let mut contents = rows.iter().map(|row| row.open(access)).collect::<Result<Vec<_>>>()?;
    let layers = rows.iter().zip(&contents);
    let layers: Vec<Layer> = layers
        .map(|(row, content)| Layer {
            name: &row.name,
            content: &content.value,
            enforced: row.enforced,
        })
        .collect();
    let merged = Effective::of(&layers);
    let named = |row: &VaultRow| format!("{} version {}", row.name(picture), row.version);
    let personal = rows.iter().position(|row| matches!(row.of, Of::Principal(_)));
    Ok(Applying {
        names: rows.iter().map(named).collect(),
        merged,
        personal: personal.map(|at| contents.swap_remove(at).value),
    })
}

/// What applies to somebody, as of this transaction.
pub(crate) async fn effective(work: &mut Work, picture: &Picture, who: PrincipalId) -> Result<Applying> {
    let kind = work.db().kind();
    let rows = applying(&mut ***work, kind, picture, who).await?;
    merged(&work.access(), picture, &rows)
}

/// What vaults give an agent itself: the section `agent` of those of its account, and of the enforced ones alone.
pub async fn for_agent(actor: &Actor) -> Result<(Value, Value)> {
    let rows = applying(&actor.db().read, actor.db().kind(), actor.picture(), actor.id).await?;
    Ok(merged(&actor.access, actor.picture(), &rows)?.merged.for_agent())
}

/// The vaults that apply to somebody and what they come to. Values only where asked for; of another's, that is put on record first.
pub async fn applied(by: &Granted<permit::VaultsRead>, who: PrincipalId, reveal: bool) -> Changed<AppliedVaults> {
    let actor = &by.actor;
    let picture = actor.picture();
    let rows = applying(&actor.db().read, actor.db().kind(), picture, who).await?;
    let effective = merged(&actor.access, picture, &rows)?.merged;
    let user = picture.principal_name(who).to_string();
    if reveal && who != actor.id {
        let mut work = by.begin().await?;
        for row in &rows {
            let detail = json!({"version": row.version, "as_applied_to": user});
            note(&mut work, actor, row, "reveal", &[], detail).await?;
        }
        work.commit().await?;
    }
    let shown = |content: Value| if reveal { content } else { vault::mask(&content) };
    Ok(AppliedVaults {
        user,
        vaults: rows.iter().map(|row| row.view(picture)).collect(),
        content: shown(effective.plain),
        enforced: shown(effective.enforced),
    })
}

/// In the transaction that removes a principal or a group; how many there were.
pub(crate) async fn remove(work: &mut Work, of: Of) -> Result<u64> {
    let (column, id) = match of {
        Of::Principal(id) => ("principal_id", id.0),
        Of::Group(id) => ("group_id", id.0),
        Of::Everybody => return Ok(0),
    };
    let sql = format!("DELETE FROM vaults WHERE {column} = $1");
    let gone = sqlx::query(AssertSqlSafe(sql)).bind(id).execute(&mut ***work).await?;
    Ok(gone.rows_affected())
}

/// A new key, current from now on, and every vault sealed with it. What is not sealed anew when the server ends is so after its next start.
pub async fn rotate_key(by: &Granted<permit::ClusterUpdateConfig>) -> Changed<KeyRotated> {
    let mut work = by.begin().await?;
    let access = work.access();
    let key = access.vault_keys()?.renew(&mut work).await?;
    let entry = Entry::of::<permit::ClusterUpdateConfig>("rotate-key", "vault key", &key);
    audit::write(&mut work, &by.actor, entry).await?;
    work.commit().await?;
    let (vaults, unopened) = seal_anew(&access.system("rotation of the vaults' key")).await?;
    Ok(KeyRotated { key, vaults, unopened })
}

/// Seals with the current key every vault that is not; how many, and how many could not be opened and stay as they are. May be ended at any moment and begun
/// again.
pub async fn seal_anew(system: &System) -> Result<(i64, i64)> {
    let (mut sealed, mut unopened, mut after) = (0, 0, 0);
    loop {
        let mut work = system.begin().await?;
        let sql = format!(
            "SELECT {COLUMNS} FROM vaults WHERE id > $1 AND key_name <> (SELECT name FROM vault_keys WHERE is_current = 1) ORDER BY id LIMIT 100{}",
            system.db().lock_rows()
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(after)
            .fetch_all(&mut **work)
            .await?;
        if rows.is_empty() {
            return Ok((sealed, unopened));
        }
        for row in &rows {
            let row = read(row)?;
            after = row.id.0;
            match row.open(&system.access) {
                Ok(content) => {
                    seal(&mut work, row.id, row.of.kind(), &content.text, &content.value).await?;
                    sealed += 1;
                }
                Err(StoreError::Sealed(why)) => {
                    tracing::error!(vault = row.id.0, cause = why, "a vault cannot be sealed anew");
                    unopened += 1;
                }
                Err(why) => return Err(why),
            }
        }
        work.commit().await?;
    }
}
