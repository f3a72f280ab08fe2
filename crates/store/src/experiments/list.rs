//! Lists of experiments: a page of what the actor may see, newest first or by name, for which the database never walks more than a page has to do with.
//!
//! The visible set falls into *arms*, each walked by an index of its own: one's own, the rows of some workspaces, of some projects, single experiments. One
//! statement takes the first few of every place, which gives a bound below which nothing of the page can lie, and then more of the places whose few all lie above it
//! (figures: `bench/README.md`). Somebody who sees very many places sees most of what anybody looks at: there the rows are walked for all, and
//! the engine is asked about each; where that finds too little, the arms are taken after all. Both end after a number of rows that does not grow with the table.

use bailiwick_access::{ObjectKind, Visible};
use bailiwick_api::experiments::{Experiment, ExperimentFilter, ListPlace, Sort};
use bailiwick_api::{Page, Permission, PrincipalId, ProjectId, WorkspaceId};
use sqlx::{AssertSqlSafe, Row};

use super::{COLUMNS, ExperimentRow};
use crate::access::{Actor, Refusal};
use crate::db::{Kind, Result, StoreError, number_list, of};

/// From so many workspaces and projects on the walk over everybody's rows is tried first.
const MANY_PLACES: usize = 300;
/// The walk is given up after so many rows for each one that is wanted.
const WALK_FACTOR: usize = 16;
/// Own rows are probed place by place up to so many places; else all own rows are walked.
const OWN_PLACES: usize = 100;
/// Up to so many, all of a page is taken of each at once.
const FEW_PLACES: usize = 4;
const VERSION: &str = "(SELECT version FROM access_version)";
/// No workspace, no project and nobody: what is filtered by a name that nothing has is looked for like any other.
const NOWHERE: i64 = -1;

/// A page of what this actor may see, by a picture of rights at least as new as the rows.
pub async fn list(
    actor: &Actor,
    filter: &ExperimentFilter,
    after: Option<ListPlace>,
) -> std::result::Result<Page<Experiment>, Refusal> {
    let limit = filter.limit.unwrap_or(50).clamp(1, 1000) as usize;
    // One more tells whether there is another page.
    let (actor, mut rows) = rows(actor, filter, after, limit + 1).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    crate::shadow::note_list(&actor, &rows);
    let items: Vec<Experiment> = rows.iter().map(|row| row.view(actor.picture())).collect();
    let last = items.last().filter(|_| more);
    let next = last.map(|last| ListPlace::of(last, filter.order()).to_string());
    Ok(Page { items, next })
}

/// The newest of this name that the actor may see, and the actor by a picture of rights at least as new. Archived ones are in nobody's way: they come last.
pub(super) async fn newest_named(
    actor: &Actor,
    name: &str,
) -> std::result::Result<(Actor, Option<ExperimentRow>), Refusal> {
    let mut actor = actor.clone();
    for (archived, mine) in [(false, false), (true, true), (true, false)] {
        let named = ExperimentFilter {
            name: Some(name.to_owned()),
            archived: Some(archived),
            mine: Some(mine),
            ..ExperimentFilter::default()
        };
        let (newer, rows) = rows(&actor, &named, None, 1).await?;
        actor = newer;
        if let Some(row) = rows.into_iter().next() {
            return Ok((actor, Some(row)));
        }
    }
    Ok((actor, None))
}

async fn rows(
    actor: &Actor,
    filter: &ExperimentFilter,
    after: Option<ListPlace>,
    limit: usize,
) -> std::result::Result<(Actor, Vec<ExperimentRow>), Refusal> {
    let mut actor = actor.clone();
    loop {
        let plan = Plan::new(&actor, filter, after.clone(), limit);
        let (rows, version) = match plan.run(&actor).await? {
            Some(found) => found,
            None => (Vec::new(), actor.access.fresh().await?.version()),
        };
        if version <= actor.version {
            return Ok((actor, rows));
        }
        actor = actor.renewed(version).await?;
    }
}

/// How one page is found.
pub struct Plan {
    kind: Kind,
    /// Whose rows `own` ones are: the actor's, or another's whose alone are asked for.
    me: i64,
    limit: usize,
    by_name: bool,
    filter: ExperimentFilter,
    after: Option<ListPlace>,
    workspace: Option<WorkspaceId>,
    project: Option<ProjectId>,
    owner: Option<PrincipalId>,
    how: How,
}

enum How {
    Nothing,
    /// Everybody's rows, or one's own, whichever place they lie in.
    Straight,
    Merge(Vec<Arm>),
    /// Only one's own when true.
    WalkOrMerge(bool, Vec<Arm>),
}

/// A part of the visible set, which one index holds in the order wanted, or holds for each of its places.
#[derive(Default)]
struct Arm {
    own: bool,
    /// Walked one by one: a column and its values.
    probed: Option<(&'static str, Vec<i64>)>,
    /// What else is asked of each row: it is no part of what is walked.
    compared: Vec<(&'static str, Vec<i64>)>,
}

/// An arm as the conditions of its rows, the index that holds them, and the column of its places, if they are several.
struct Part {
    rows: String,
    index: String,
    probed: Option<&'static str>,
}

/// A statement with what is bound to it.
#[derive(Default)]
pub struct Statement {
    pub sql: String,
    pub binds: Vec<Bind>,
}

pub enum Bind {
    Number(i64),
    Text(String),
}

impl Statement {
    fn bind(&mut self, value: Bind) -> String {
        self.binds.push(value);
        format!("${}", self.binds.len())
    }

    fn number(&mut self, value: i64) -> String {
        self.bind(Bind::Number(value))
    }

    /// A list of numbers, which is read by [`Kind::numbers`].
    fn numbers(&mut self, values: &[i64]) -> String {
        self.bind(Bind::Text(number_list(values)))
    }

    async fn rows(self, actor: &Actor) -> Result<(Vec<ExperimentRow>, i64)> {
        let mut query = sqlx::query(AssertSqlSafe(self.sql));
        for value in self.binds {
            query = match value {
                Bind::Number(value) => query.bind(value),
                Bind::Text(value) => query.bind(value),
            };
        }
        let packed = query.fetch_one(&actor.db().read).await?;
        let rows = serde_json::from_str(packed.try_get(0)?);
        let rows = rows.map_err(|why| StoreError::Broken(format!("a page of experiments cannot be read: {why}")))?;
        Ok((rows, packed.try_get(1)?))
    }
}

impl Plan {
    pub fn new(actor: &Actor, filter: &ExperimentFilter, after: Option<ListPlace>, limit: usize) -> Plan {
        let picture = actor.picture();
        let workspace = filter
            .workspace
            .as_deref()
            .map(|name| picture.find_workspace(name).unwrap_or(WorkspaceId(NOWHERE)));
        let project = filter.project.as_deref().map(|name| {
            let id = match workspace {
                Some(workspace) => picture.find_project(workspace, name),
                None => bailiwick_api::ids::as_number(name).map(ProjectId),
            };
            id.unwrap_or(ProjectId(NOWHERE))
        });
        let owner = match (filter.mine, filter.owner.as_deref()) {
            (Some(true), _) => Some(actor.id),
            (_, Some(name)) => Some(picture.find_principal(name).unwrap_or(PrincipalId(NOWHERE))),
            _ => None,
        };
        let mut plan = Plan {
            kind: actor.db().kind(),
            me: owner.unwrap_or(actor.id).0,
            limit,
            by_name: filter.order() == Sort::Name,
            filter: filter.clone(),
            after,
            workspace,
            project,
            owner,
            how: How::Nothing,
        };
        let visible = actor.visible(Permission::ExperimentsRead, ObjectKind::Experiment);
        plan.how = plan.choose(actor, visible);
        plan
    }

    /// The statements that may be sent; what is found by one may make the next superfluous.
    pub fn statements(&self) -> Vec<Statement> {
        match &self.how {
            How::Nothing => Vec::new(),
            How::Straight => vec![self.straight(self.after.as_ref(), self.limit)],
            How::Merge(arms) => vec![self.merge(arms, self.after.as_ref(), self.limit)],
            How::WalkOrMerge(own, arms) => vec![
                self.walk(*own, self.after.as_ref(), self.limit),
                self.merge(arms, self.after.as_ref(), self.limit),
            ],
        }
    }

    /// The rows, and by what version of rights; nothing where nothing can be seen, and no row was looked for.
    async fn run(&self, actor: &Actor) -> Result<Option<(Vec<ExperimentRow>, i64)>> {
        let after = self.after.as_ref();
        let (mut rows, version) = match &self.how {
            How::Nothing => return Ok(None),
            How::Straight => self.straight(after, self.limit).rows(actor).await?,
            How::Merge(arms) => self.merge(arms, after, self.limit).rows(actor).await?,
            How::WalkOrMerge(own, arms) => match self.walk_seen(actor, *own).await? {
                Some(found) => found,
                None => self.merge(arms, after, self.limit).rows(actor).await?,
            },
        };
        // The same engine gave the arms: this takes nothing away but what a job may not see of its owner's.
        rows.retain(|row| sees(actor, row));
        Ok(Some((rows, version)))
    }

    /// Walks the rows in order and keeps what is seen; nothing if too few of them are.
    async fn walk_seen(&self, actor: &Actor, own: bool) -> Result<Option<(Vec<ExperimentRow>, i64)>> {
        let (mut found, mut walked) = (Vec::new(), 0);
        let mut after = self.after.clone();
        let mut piece = self.limit * 5 / 2 + 8;
        loop {
            let (rows, version) = self.walk(own, after.as_ref(), piece).rows(actor).await?;
            walked += rows.len();
            let is_end = rows.len() < piece;
            after = rows.last().map(|row| ListPlace {
                id: row.id.0,
                name: self.by_name.then(|| row.name.clone()),
            });
            found.extend(rows.into_iter().filter(|row| self.wants(row) && sees(actor, row)));
            if found.len() >= self.limit || is_end {
                found.truncate(self.limit);
                return Ok(Some((found, version)));
            }
            // As many as the rest needs at this rate, and some more.
            piece = (self.limit - found.len()) * walked * 5 / 4 / found.len().max(1) + 8;
            if walked + piece > self.limit * WALK_FACTOR {
                return Ok(None);
            }
        }
    }

    fn wants(&self, row: &ExperimentRow) -> bool {
        self.workspace.is_none_or(|id| id == row.workspace) && self.project.is_none_or(|id| id == row.project)
    }

    fn choose(&self, actor: &Actor, visible: Visible) -> How {
        let seen = self.narrowed(actor, visible);
        if seen.all {
            return if self.is_plain() {
                How::Straight
            } else {
                How::Merge(vec![Arm::default()])
            };
        }
        let workspaces = |list: Vec<WorkspaceId>| ("workspace_id", list.into_iter().map(|id| id.0).collect::<Vec<_>>());
        let projects = |list: Vec<ProjectId>| ("project_id", list.into_iter().map(|id| id.0).collect::<Vec<_>>());
        let probed = |places| Arm {
            probed: Some(places),
            ..Arm::default()
        };
        let own = |compared| Arm {
            own: true,
            compared,
            probed: None,
        };
        let mut arms = Vec::new();
        if seen.own {
            arms.push(own(Vec::new()));
        }
        if !seen.workspaces.is_empty() {
            arms.push(probed(workspaces(seen.workspaces)));
        }
        if !seen.projects.is_empty() {
            arms.push(probed(projects(seen.projects)));
        }
        if !seen.own_workspaces.is_empty() {
            let places = workspaces(seen.own_workspaces);
            // The index (owner, workspace, id) is for this alone. Of another's rows most may lie where nothing is seen: those are not walked.
            let few = places.1.len() <= OWN_PLACES || self.me != actor.id.0;
            if self.is_plain() && !self.by_name && few {
                arms.push(Arm {
                    own: true,
                    ..probed(places)
                });
            } else {
                arms.push(own(vec![places]));
            }
        }
        if !seen.own_projects.is_empty() {
            arms.push(own(vec![projects(seen.own_projects)]));
        }
        // Where single ones lie is not known here; their rows say it.
        let mut inside: Vec<_> = seen.within.into_iter().map(workspaces).collect();
        inside.extend(self.project.map(|id| projects(vec![id])));
        for (is_own, objects) in [(false, seen.objects), (true, seen.own_objects)] {
            if !objects.is_empty() {
                arms.push(Arm {
                    own: is_own,
                    probed: Some(("id", objects)),
                    compared: inside.clone(),
                });
            }
        }
        if arms.is_empty() {
            return How::Nothing;
        }
        if arms.iter().map(Arm::places).sum::<usize>() > MANY_PLACES {
            return How::WalkOrMerge(arms.iter().all(|arm| arm.own), arms);
        }
        How::Merge(arms)
    }

    fn is_plain(&self) -> bool {
        self.filter.name.is_none() && self.filter.state.is_none()
    }

    /// The visible set less what the filter leaves out by place or owner, without `within`.
    fn narrowed(&self, actor: &Actor, mut seen: Visible) -> Visible {
        if let Some(owner) = self.owner {
            if owner != actor.id {
                seen.own = false;
                seen.own_workspaces.clear();
                seen.own_projects.clear();
                seen.own_objects.clear();
            }
            seen.own |= std::mem::take(&mut seen.all);
            seen.own_workspaces.append(&mut seen.workspaces);
            seen.own_projects.append(&mut seen.projects);
            seen.own_objects.append(&mut seen.objects);
            if seen.own {
                seen = Visible {
                    own: true,
                    within: seen.within,
                    ..Visible::default()
                };
            }
        }
        let within = match (seen.within.take(), self.workspace) {
            (None, workspace) => workspace.map(|id| vec![id]),
            (within, None) => within,
            (Some(within), Some(id)) => Some(within.into_iter().filter(|one| *one == id).collect()),
        };
        let of_project = |id: &ProjectId| actor.picture().project(*id).map(|project| project.workspace);
        if let Some(within) = &within {
            let holds = |id: &WorkspaceId| within.contains(id);
            let in_it = |id: &ProjectId| of_project(id).is_some_and(|workspace| within.contains(&workspace));
            seen.workspaces.retain(holds);
            seen.own_workspaces.retain(holds);
            if std::mem::take(&mut seen.all) {
                seen.workspaces.clone_from(within);
            }
            if std::mem::take(&mut seen.own) {
                seen.own_workspaces.clone_from(within);
            }
            seen.projects.retain(in_it);
            seen.own_projects.retain(in_it);
        }
        if let Some(project) = self.project {
            let workspace = of_project(&project);
            let holds = |list: &[WorkspaceId]| workspace.is_some_and(|id| list.contains(&id));
            let all = seen.all || holds(&seen.workspaces) || seen.projects.contains(&project);
            let own = seen.own || holds(&seen.own_workspaces) || seen.own_projects.contains(&project);
            seen = Visible {
                projects: if all { vec![project] } else { Vec::new() },
                own_projects: if own && !all { vec![project] } else { Vec::new() },
                objects: seen.objects,
                own_objects: seen.own_objects,
                ..Visible::default()
            };
        }
        seen.within = within;
        seen
    }

    /// Everybody's rows in order, by the index that holds them so.
    fn straight(&self, after: Option<&ListPlace>, limit: usize) -> Statement {
        let mut statement = Statement::default();
        let begin = self.begin(&mut statement, "name", after);
        let order = self.order("name");
        let index = if self.by_name {
            "experiments_name"
        } else {
            "experiments_listed"
        };
        let index = self.kind.by_index(index);
        let rows = format!("SELECT {COLUMNS} FROM experiments{index} WHERE {begin} ORDER BY {order} LIMIT {limit}");
        statement.sql = self.packed(&rows);
        statement
    }

    /// Rows in order, whether seen or not: everybody's, or one's own.
    fn walk(&self, own: bool, after: Option<&ListPlace>, limit: usize) -> Statement {
        if !own && self.is_plain() {
            return self.straight(after, limit);
        }
        let rows = Arm { own, ..Arm::default() };
        self.merge(&[rows], after, limit)
    }

    /// Which part of an index is walked.
    fn begin(&self, statement: &mut Statement, name: &str, after: Option<&ListPlace>) -> String {
        let kind = self.archived();
        if !self.by_name {
            let id = after.map_or(i64::MAX, |place| place.id);
            return format!("{kind} AND id < {}", statement.number(id));
        }
        let begins = self.filter.name_begins.as_deref().unwrap_or_default();
        let (after_name, id) = match after {
            Some(place) if place.name.as_deref().unwrap_or_default() >= begins => {
                (place.name.clone().unwrap_or_default(), place.id)
            }
            _ => (begins.to_owned(), 0),
        };
        let after_name = statement.bind(Bind::Text(after_name));
        let mut part = format!("{kind} AND ({name}, id) > ({after_name}, {})", statement.number(id));
        if !begins.is_empty() {
            // No name goes on with the last of all characters.
            let end = statement.bind(Bind::Text(format!("{begins}{}", char::MAX)));
            part.push_str(&format!(" AND {name} < {end}"));
        }
        part
    }

    /// Written out, because PostgreSQL must know which kind is meant to see whether it is a rare one.
    fn archived(&self) -> &'static str {
        match self.filter.archived {
            Some(true) => "archived = 1",
            _ => "archived = 0",
        }
    }

    fn order(&self, name: &str) -> String {
        if self.by_name {
            format!("{name}, id")
        } else {
            "id DESC".into()
        }
    }

    /// Takes ids by indexes alone, and then the rows of one page.
    fn merge(&self, arms: &[Arm], after: Option<&ListPlace>, limit: usize) -> Statement {
        let mut statement = Statement::default();
        let mut filters = String::new();
        let named = self.filter.name.is_some();
        let mut name = "name";
        if let Some(state) = self.filter.state {
            // Written out, because PostgreSQL must know which state it is to see whether it is a rare one.
            filters.push_str(&format!(" AND state = '{}'", state.name()));
            if (named || self.by_name) && state.is_ended() {
                // For these there are indexes by state and name.
                filters.push_str(" AND ended_at IS NOT NULL");
            } else {
                // Of unfinished ones there are never very many: they are found by their state, and what is asked of the name keeps from tempting to another index.
                name = "name || ''";
            }
        }
        if let Some(wanted) = &self.filter.name {
            filters.push_str(&format!(" AND {name} = {}", statement.bind(Bind::Text(wanted.clone()))));
        }
        let begin = self.begin(&mut statement, name, after);
        let order = self.order(name);
        let me = arms.iter().any(|arm| arm.own).then(|| statement.number(self.me));
        let mut lists = Vec::new();
        let mut parts = Vec::new();
        for (number, arm) in arms.iter().enumerate() {
            let mut rows = format!("{begin}{filters}");
            if let Some(me) = me.as_deref().filter(|_| arm.own) {
                rows.push_str(&format!(" AND owner_id = {me}"));
            }
            for (column, values) in &arm.compared {
                rows.push_str(&match values.as_slice() {
                    [one] => format!(" AND {column} + 0 = {}", statement.number(*one)),
                    // Neither a condition to search by nor, in PostgreSQL, a join.
                    many => {
                        let list = self.kind.numbers(&statement.numbers(many));
                        format!(" AND CASE WHEN {column} IN ({list}) THEN 1 ELSE 0 END = 1")
                    }
                });
            }
            let mut probed = None;
            match &arm.probed {
                Some((column, places)) if places.len() == 1 => {
                    rows.push_str(&format!(" AND {column} = {}", statement.number(places[0])));
                }
                Some((column, places)) => {
                    probed = Some(*column);
                    let numbers = self.kind.numbers(&statement.numbers(places));
                    lists.push(format!("place{number} AS MATERIALIZED ({numbers})"));
                }
                None => {}
            }
            let index = self
                .index(arm)
                .map_or(String::new(), |index| self.kind.by_index(&index));
            parts.push(Part { rows, index, probed });
        }
        let keys = if self.by_name { "id, name" } else { "id" };
        let found = self.order("name");
        let places: usize = arms.iter().map(Arm::places).sum();
        // So many of each place usually reach for a page, and tell where it ends.
        let few = if places > FEW_PLACES {
            limit * 2 / places + 2
        } else {
            limit
        };
        let rows_of = |part: &Part, list: &str, more: &str, keys: &str, limit: usize| {
            let Part { rows, index, probed } = part;
            let place = probed.map_or(String::new(), |column| format!(" AND {column} = {list}.number"));
            format!("SELECT {keys} FROM experiments{index} WHERE {rows}{place}{more} ORDER BY {order} LIMIT {limit}")
        };
        // Whether a row can lie on the page, once it is known where the page ends if nothing else is found.
        let least = |name: &str| match self.by_name {
            true => format!(
                "{name} <= COALESCE((SELECT name FROM bound), (SELECT MAX(name) FROM experiments WHERE {}))",
                self.archived()
            ),
            false => "id >= COALESCE((SELECT id FROM bound), 0)".into(),
        };
        let (mut all, mut uncertain) = (Vec::new(), Vec::new());
        for (number, part) in parts.iter().enumerate() {
            let list = format!("place{number}");
            let first = |keys: &str| rows_of(part, &list, "", keys, if part.probed.is_some() { few } else { limit });
            let Some(column) = part.probed else {
                all.push(format!("SELECT {keys} FROM ({}) AS arm{number}", first(keys)));
                continue;
            };
            let columns = format!("{list}.number AS place, {}", of("e", keys));
            let first = self.kind.for_each(&list, "experiments", &columns, keys, first);
            lists.push(format!("few{number} AS MATERIALIZED ({first})"));
            all.push(format!("SELECT {keys} FROM few{number}"));
            if few < limit && column != "id" {
                uncertain.push((number, part));
            }
        }
        if !uncertain.is_empty() {
            let first = all.join(" UNION ");
            let (end, before) = (if self.by_name { "name" } else { "id" }, limit - 1);
            lists.push(format!(
                "bound AS (SELECT {end} FROM ({first}) AS first ORDER BY {found} LIMIT 1 OFFSET {before})"
            ));
        }
        for (number, part) in uncertain {
            // Only a place all of whose few can lie on the page may have more there.
            let (list, can) = (format!("full{number}"), least("name"));
            lists.push(format!(
                "{list} AS (SELECT place AS number FROM few{number} WHERE {can} GROUP BY place HAVING COUNT(*) >= {few})"
            ));
            let more = |keys: &str| rows_of(part, &list, &format!(" AND {}", least(name)), keys, limit);
            all.push(self.kind.for_each(&list, "experiments", &of("e", keys), keys, more));
        }
        // What belongs to several arms is there once.
        lists.push(format!(
            "page AS (SELECT id FROM ({}) AS found ORDER BY {found} LIMIT {limit})",
            all.join(" UNION ")
        ));
        let rows = format!(
            "SELECT {} FROM {} ORDER BY {} LIMIT {limit}",
            of("e", COLUMNS),
            self.kind.looked_up("page", "experiments"),
            if self.by_name { "e.name, e.id" } else { "e.id DESC" }
        );
        statement.sql = format!("WITH {} {}", lists.join(", "), self.packed(&rows));
        statement
    }

    /// A limit must stand in `rows`: it keeps their order.
    fn packed(&self, rows: &str) -> String {
        format!(
            "SELECT {}, {VERSION} FROM ({rows}) AS listed",
            self.kind.packed(COLUMNS)
        )
    }

    /// The index that holds an arm, or each of its places, in order.
    fn index(&self, arm: &Arm) -> Option<String> {
        let of = match arm.probed.as_ref().map(|(column, _)| *column) {
            Some("id") => return None,
            Some("workspace_id") if arm.own => "_owner_workspace",
            Some("workspace_id") => "_workspace",
            Some(_) => "_project",
            None if arm.own => "_owner",
            None => "",
        };
        let by_name = self.by_name || self.filter.name.is_some();
        let order = match self.filter.state {
            Some(state) if by_name && state.is_ended() => "_ended",
            Some(_) => "_state",
            None if by_name => "_name",
            None if of.is_empty() => "_listed",
            None => "",
        };
        Some(format!("experiments{of}{order}"))
    }
}

impl Arm {
    /// How many places have rows in an order of their own; single experiments are looked up by their ids, which costs less.
    fn places(&self) -> usize {
        match &self.probed {
            Some(("id", _)) | None => 1,
            Some((_, places)) => places.len(),
        }
    }
}

fn sees(actor: &Actor, row: &ExperimentRow) -> bool {
    actor.may(Permission::ExperimentsRead, &row.target()).is_some()
}
