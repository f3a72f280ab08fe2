//! Lists of experiments: they hold what one may see and nothing else, in order, whatever is filtered by, and the database walks no more for them than it must.

use std::collections::BTreeMap;

use bailiwick_api::experiments::{ExperimentFilter, Sort, State};
use bailiwick_api::key;
use bailiwick_api::server::AccessMode;
use bailiwick_store::access::{Access, Actor, Origin};
use bailiwick_store::experiments::{Bind, Plan, Statement};
use bailiwick_store::{Clock, Db};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, Row};

use crate::world::{Database, Person, START, World, on_both};

/// One row, as it stands in the database.
#[derive(Debug, Clone)]
struct Kept {
    id: i64,
    name: String,
    owner: i64,
    /// Number among the places that [`fill`] makes; each has two projects.
    place: i64,
    project: i64,
    state: String,
    archived: bool,
}

/// What somebody sees, by number: the test's own idea of it.
type Sees = fn(&Kept, me: i64) -> bool;

struct Filled {
    people: BTreeMap<&'static str, (Person, Sees)>,
    rows: Vec<Kept>,
    first_place: i64,
    first_project: i64,
}

const PLACES: i64 = 720;

/// Role, kind of scope, and which numbers of that scope.
type Assigned = &'static [(&'static str, &'static str, &'static str)];

/// Everybody with what is assigned.
const PEOPLE: &[(&str, Assigned, Sees)] = &[
    ("all", &[("Viewer", "global", "n = 0")], |_, _| true),
    ("own", &[("OwnViewer", "global", "n = 0")], |row, me| row.owner == me),
    ("half", &[("Viewer", "workspace", "n % 2 = 0")], |row, _| {
        row.place % 2 == 0
    }),
    // Very many places, in almost none of which there is anything.
    ("sparse", &[("Viewer", "workspace", "n >= 300")], |row, _| {
        row.place >= 300
    }),
    ("fifty", &[("Viewer", "workspace", "n < 50")], |row, _| row.place < 50),
    ("one", &[("Viewer", "workspace", "n = 3")], |row, _| row.place == 3),
    ("own-in-few", &[("OwnViewer", "workspace", "n < 20")], |row, me| {
        row.owner == me && row.place < 20
    }),
    ("own-in-many", &[("OwnViewer", "workspace", "n % 2 = 1")], |row, me| {
        row.owner == me && row.place % 2 == 1
    }),
    (
        "projects",
        &[
            ("Viewer", "project", "n < 60"),
            ("OwnViewer", "project", "n BETWEEN 60 AND 99"),
        ],
        |row, me| row.project < 60 || (row.project < 100 && row.owner == me),
    ),
    (
        "singles",
        &[
            ("Reader", "experiment", "n % 40 = 0"),
            ("OwnViewer", "experiment", "n % 40 = 1"),
        ],
        |row, me| row.id % 40 == 0 || (row.id % 40 == 1 && row.owner == me),
    ),
    (
        "mixed",
        &[
            ("OwnViewer", "global", "n = 0"),
            ("Viewer", "workspace", "n BETWEEN 5 AND 9"),
            ("Viewer", "project", "n BETWEEN 16 AND 26"),
            ("Viewer", "experiment", "n % 100 = 7"),
        ],
        |row, me| {
            row.owner == me || (5..10).contains(&row.place) || (16..27).contains(&row.project) || row.id % 100 == 7
        },
    ),
    ("none", &[], |_, _| false),
    // The last two with keys that are narrowed to the places 4 to 8.
    ("all-narrowed", &[("Viewer", "global", "n = 0")], |row, _| {
        (4..9).contains(&row.place)
    }),
    (
        "mixed-narrowed",
        &[
            ("Viewer", "project", "n BETWEEN 7 AND 12"),
            ("Viewer", "experiment", "n % 10 = 7"),
        ],
        |row, _| (4..9).contains(&row.place) && ((7..13).contains(&row.project) || row.id % 10 == 7),
    ),
];

/// Fills the database behind the server's back, which has to be started anew then.
async fn fill(world: &World, experiments: i64) -> Filled {
    let mut people = BTreeMap::new();
    for (name, _, sees) in PEOPLE {
        // A role of one's own keeps away what everybody may in workspace `default`.
        people.insert(*name, (world.person_with(name, "TokenCreator").await, *sees));
    }
    let sql = async |text: String| world.sql(text).await.expect("it can be filled in");
    let first = async |table: &str| -> i64 {
        let rows = world
            .rows(format!("SELECT MIN(id) FROM {table} WHERE name LIKE 'place-%'"))
            .await;
        rows[0].get(0)
    };
    let numbers = |below: i64| {
        format!("WITH RECURSIVE i(n) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT n + 1 FROM i WHERE n < {below} - 1)")
    };
    sql(format!(
        "{} INSERT INTO workspaces (name, name_key, created_at) SELECT 'place-' || n, 'place-' || n, 0 FROM i ORDER BY n",
        numbers(PLACES)
    ))
    .await;
    let first_place = first("workspaces").await;
    sql(format!(
        "{} INSERT INTO projects (workspace_id, name, name_key, created_at) SELECT {first_place} + n / 2, 'place-' || (n % 2), 'place-' || (n % 2), 0 FROM i ORDER BY n",
        numbers(PLACES * 2)
    ))
    .await;
    let first_project = first("projects").await;
    let (first_person, count) = (people["all"].0.id.0.min(people["own"].0.id.0), people.len() as i64);
    // Past place 300 only every hundredth row lies, and those are the oldest; the newest lie in odd places alone.
    let place = format!(
        "CASE WHEN n < {experiments} / 100 THEN 300 + n % 7 WHEN n > {experiments} * 19 / 20 THEN 1 + 2 * (n % 25) ELSE (n * 48271) % 300 END"
    );
    sql(format!(
        "{} INSERT INTO experiments (name, owner_id, workspace_id, project_id, queue_id, state, cause, slots, priority, restarts, max_restarts, created_at, ended_at, archived, config)
         SELECT 'name-' || ((n * 7) % 97), {first_person} + (n * 7919) % {count}, {first_place} + place, {first_project} + place * 2 + n % 2, 1, state, '', 1, 42, 0, 0, n,
                CASE WHEN state = 'RUNNING' THEN NULL ELSE n END, CASE WHEN state = 'RUNNING' OR n % 7 < 4 THEN 0 ELSE 1 END, '{{}}'
         FROM (SELECT n, {place} AS place, CASE WHEN n % 50 = 0 THEN 'RUNNING' WHEN n % 10 = 1 THEN 'ERROR' ELSE 'COMPLETED' END AS state FROM i) AS one ORDER BY one.n",
        numbers(experiments)
    ))
    .await;
    for (name, assignments, _) in PEOPLE {
        for (role, kind, which) in *assignments {
            let (table, first) = match *kind {
                "global" => ("(SELECT CAST(0 AS BIGINT) AS id) AS everything", 0),
                "workspace" => ("workspaces", first_place),
                "project" => ("projects", first_project),
                _ => ("experiments", 0),
            };
            let scopes = format!(
                "SELECT id FROM (SELECT id, id - {first} AS n FROM {table}) AS numbered WHERE n >= 0 AND {which}"
            );
            sql(format!(
                "INSERT INTO assignments (principal_id, role_id, scope_kind, scope_id, created_at)
                 SELECT (SELECT id FROM principals WHERE name = '{name}'), (SELECT id FROM roles WHERE name = '{role}'), '{kind}', id, 0 FROM ({scopes}) AS scopes"
            ))
            .await;
        }
        if name.ends_with("-narrowed") {
            let places: Vec<i64> = (4..9).map(|place| first_place + place).collect();
            sql(format!(
                "UPDATE credentials SET workspaces = '{}' WHERE principal_id = (SELECT id FROM principals WHERE name = '{name}')",
                json!(places)
            ))
            .await;
        }
    }
    let rows = world
        .rows("SELECT id, name, owner_id, workspace_id, project_id, state, archived FROM experiments")
        .await;
    let rows = rows.iter().map(|row| Kept {
        id: row.get(0),
        name: row.get(1),
        owner: row.get(2),
        place: row.get::<i64, _>(3) - first_place,
        project: row.get::<i64, _>(4) - first_project,
        state: row.get(5),
        archived: row.get::<i64, _>(6) == 1,
    });
    Filled {
        rows: rows.collect(),
        people,
        first_place,
        first_project,
    }
}

async fn ids(person: &Person, query: &str) -> (Vec<i64>, Option<String>) {
    let page = person.get(&format!("/api/v1/experiments?{query}")).await;
    assert_eq!(page.status, 200, "{query}: {}", page.text);
    let page = page.json();
    let items = page["items"].as_array().expect("a page has items");
    let ids = items.iter().map(|one| one["id"].as_i64().expect("an id")).collect();
    (ids, page["next"].as_str().map(str::to_owned))
}

#[test]
fn a_list_holds_what_one_may_see_and_nothing_else_in_order_whatever_is_filtered_by() {
    on_both(|world| async move {
        let filled = fill(&world, 3000).await;
        let url = world.restart(|_| {}).await;
        let mut asked = 0;
        for (name, (person, sees)) in &filled.people {
            let (person, me) = (person.at(&url), person.id.0);
            let other = filled.people[if *name == "all" { "own" } else { "all" }].0.id.0;
            for round in 0..96 {
                let by_name = round % 2 == 1;
                let state = [None, Some("RUNNING"), None, Some("COMPLETED")][round / 2 % 4];
                let exactly = (round / 8 % 2 == 1).then_some("name-5");
                let begins = (by_name && round / 8 % 4 == 2).then_some("name-5");
                let mine = round / 16 % 2 == 1;
                let owner = (!mine && round % 3 == 2).then_some(other);
                let archived = round / 64 == 1;
                // A place that some see and some don't, and one of its projects.
                let place = (round / 32 % 2 == 1).then_some(if round % 3 == 0 { 7 } else { 4 });
                let project = place.filter(|_| round % 5 < 2).map(|place| place * 2 + 1);
                let mut query = format!("sort={}", if by_name { "name" } else { "newest" });
                let mut add = |key: &str, value: String| query.push_str(&format!("&{key}={value}"));
                state.iter().for_each(|state| add("state", state.to_string()));
                exactly.iter().for_each(|name| add("name", name.to_string()));
                begins.iter().for_each(|begins| add("name_begins", begins.to_string()));
                if mine {
                    add("mine", "true".into());
                }
                owner.iter().for_each(|owner| add("owner", owner.to_string()));
                if archived {
                    add("archived", "true".into());
                }
                place
                    .iter()
                    .for_each(|place| add("workspace", format!("Place-{place}")));
                project.iter().for_each(|project| match round % 2 {
                    0 => add("project", "place-1".into()),
                    _ => add("project", (filled.first_project + project).to_string()),
                });
                let mut expected: Vec<&Kept> = filled
                    .rows
                    .iter()
                    .filter(|row| sees(row, me))
                    .filter(|row| state.is_none_or(|state| row.state == state))
                    .filter(|row| exactly.is_none_or(|name| row.name == name))
                    .filter(|row| begins.is_none_or(|begins| row.name.starts_with(begins)))
                    .filter(|row| owner.is_none_or(|owner| row.owner == owner))
                    .filter(|row| row.archived == archived)
                    .filter(|row| !mine || row.owner == me)
                    .filter(|row| place.is_none_or(|place| row.place == place))
                    .filter(|row| project.is_none_or(|project| row.project == project))
                    .collect();
                if by_name {
                    expected.sort_by_key(|row| (&row.name, row.id));
                } else {
                    expected.sort_by_key(|row| -row.id);
                }
                let expected: Vec<i64> = expected.iter().map(|row| row.id).collect();
                let (mut found, mut next) = ids(&person, &format!("{query}&limit=5")).await;
                assert_eq!(found.len(), expected.len().min(5), "{name}: {query}");
                assert_eq!(next.is_some(), expected.len() > 5, "{name}: {query}");
                if let Some(after) = next.take() {
                    let (more, last) = ids(&person, &format!("{query}&limit=900&after={after}")).await;
                    found.extend(more);
                    next = last;
                }
                assert_eq!(found, expected[..expected.len().min(905)], "{name}: {query}");
                assert_eq!(next.is_some(), expected.len() > 905, "{name}: {query}");
                asked += 1;
            }
        }
        assert_eq!(asked, PEOPLE.len() * 96);
    });
}

#[test]
fn a_filter_tells_nothing_of_a_place_that_one_may_not_see() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        ana.submit("seen").await;
        world
            .sql("INSERT INTO workspaces (name, name_key, created_at) VALUES ('Secret', 'secret', 0)")
            .await
            .unwrap();
        world.sql("INSERT INTO projects (workspace_id, name, name_key, created_at) SELECT id, 'Plans', 'plans', 0 FROM workspaces WHERE name = 'Secret'").await.unwrap();
        let url = world.restart(|_| {}).await;
        let ana = ana.at(&url);
        let list = async |query: &str| ana.get(&format!("/api/v1/experiments?{query}")).await;
        let nothing = list("workspace=Nothing").await;
        assert_eq!((nothing.status, nothing.text.as_str()), (200, r#"{"items":[]}"#));
        for query in [
            "workspace=Secret",
            "workspace=Secret&project=Plans",
            "workspace=default&project=Nothing",
            "project=31337",
        ] {
            let answer = list(query).await;
            assert_eq!((answer.status, &answer.text), (200, &nothing.text), "{query}");
        }
        assert_eq!(
            list("workspace=DEFAULT&project=default").await.json()["items"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
    });
}

#[test]
fn a_page_begins_where_one_of_the_same_order_ended_and_nowhere_else() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        for name in ["c", "a", "b:d", "a"] {
            ana.submit(name).await;
        }
        let by_name = ExperimentFilter {
            sort: Some(Sort::Name),
            limit: Some(3),
            ..ExperimentFilter::default()
        };
        let page = ana.client.experiments(&by_name).await.unwrap();
        assert_eq!(page.items.iter().map(|one| one.id.0).collect::<Vec<_>>(), [2, 4, 3]);
        assert_eq!(page.next.as_deref(), Some("3:b:d"));
        assert_eq!(ids(&ana, "sort=name&limit=3&after=3:b:d").await, (vec![1], None));
        for query in [
            "after=3:b:d",
            "sort=name&after=3",
            "after=x",
            "after=",
            "after=-1",
            "sort=name&after=x:y",
            "sort=age",
            "project=Green",
            "mine=true&owner=ana",
            "sort=newest&name_begins=a",
        ] {
            let answer = ana.get(&format!("/api/v1/experiments?{query}")).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (422, "invalid"),
                "{query}: {}",
                answer.text
            );
        }
        // A position and no authority: others' rows do not come by it.
        let ben = world.person("ben").await;
        assert_eq!(ids(&ben, "sort=name&after=3:b:d").await, (vec![], None));
    });
}

/// What the database says it will do, or on PostgreSQL what it did, for a statement of a list.
async fn explained(world: &World, statement: Statement) -> Vec<String> {
    let (sql, url) = match world.database {
        Database::Sqlite => (
            format!("EXPLAIN QUERY PLAN {}", statement.sql),
            world.config.database.replace("sqlite:", "sqlite://"),
        ),
        Database::Postgres => (
            format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {}", statement.sql),
            world.config.database.clone(),
        ),
    };
    let mut connection = sqlx::AnyConnection::connect(&url).await.expect("the database answers");
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for value in statement.binds {
        query = match value {
            Bind::Number(value) => query.bind(value),
            Bind::Text(value) => query.bind(value),
        };
    }
    let rows = query.fetch_all(&mut connection).await.expect("the statement is right");
    let column = if world.database == Database::Sqlite { 3 } else { 0 };
    let lines = rows.iter().map(|row| row.get::<String, _>(column));
    lines.map(|line| line.trim().to_owned()).collect()
}

/// How many rows of experiments PostgreSQL took up for it, kept or not.
fn touched(plan: &[String]) -> i64 {
    let number = |line: &str, before: &str| -> Option<i64> {
        let rest = &line[line.find(before)? + before.len()..];
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    let (mut sum, mut loops) = (0, 1);
    for line in plan {
        loops = number(line, "loops=").unwrap_or(loops);
        if line.contains(" on experiments") && !line.contains("Bitmap Heap") {
            sum += number(line, "rows=").unwrap_or(0) * loops;
        } else if let Some(removed) = number(line, "Rows Removed by Filter: ") {
            sum += removed * loops;
        }
    }
    sum
}

#[test]
fn no_page_makes_the_database_walk_the_whole_table() {
    on_both(|world| async move {
        let rows = 20_000;
        let filled = fill(&world, rows).await;
        world.stop_servers().await;
        let analyse = match world.database {
            Database::Sqlite => "ANALYZE",
            Database::Postgres => "VACUUM ANALYZE experiments",
        };
        let mut checked = 0;
        for (analysed, share) in [(false, 3), (true, 3), (true, 99)] {
            if share == 99 {
                // Almost everything is archived: what is not is found as fast.
                world
                    .sql("UPDATE experiments SET archived = 1 WHERE ended_at IS NOT NULL AND id % 100 > 0")
                    .await
                    .unwrap();
            }
            // Without it PostgreSQL knows of no rows at all; SQLite is never told in ordinary use.
            if analysed {
                world.sql(analyse).await.unwrap();
            } else if world.database == Database::Postgres {
                continue;
            }
            let db = Db::open(&world.config.database, Clock::fixed(START).0).await.unwrap();
            let access = Access::open(db, AccessMode::Rbac).await.unwrap();
            for (name, (person, _)) in &filled.people {
                let bearer = key::wire_form(&person.key);
                let actor: Actor = access
                    .authenticate(Some(&bearer), Origin::default(), true)
                    .await
                    .unwrap();
                for round in 0..if analysed && share < 99 { 64 } else { 32 } {
                    let other = filled.people[if *name == "all" { "own" } else { "all" }].0.id;
                    let archived = round / 32 == 1;
                    let filter = ExperimentFilter {
                        sort: Some(if round % 2 == 1 { Sort::Name } else { Sort::Newest }),
                        // The last one is nobody's.
                        state: [
                            None,
                            Some(State::Completed),
                            Some(State::Running),
                            Some(State::Canceled),
                        ][round / 2 % 4],
                        name: (round / 8 % 2 == 1).then(|| "name-5".to_owned()),
                        mine: (round / 16 % 2 == 1 && round % 3 > 0).then_some(true),
                        owner: (round / 16 % 2 == 1 && round % 3 == 0).then(|| other.to_string()),
                        name_begins: (round % 4 == 1 && round / 8 % 2 == 0).then(|| "name-5".to_owned()),
                        archived: archived.then_some(true),
                        ..ExperimentFilter::default()
                    };
                    for (number, statement) in Plan::new(&actor, &filter, None, 51)
                        .statements()
                        .into_iter()
                        .enumerate()
                    {
                        let sql = statement.sql.clone();
                        let plan = explained(&world, statement).await;
                        let show = || format!("{name}: {filter:?}\n{sql}\n{}", plan.join("\n"));
                        match world.database {
                            Database::Sqlite => {
                                for line in plan
                                    .iter()
                                    .filter(|line| line.contains(" experiments") || line.contains(" e "))
                                {
                                    // In order, and to a limit: everybody's rows by name.
                                    let straight =
                                        !sql.starts_with("WITH") && line.contains("USING INDEX experiments_name (");
                                    // The last name of all, of those that are archived or of those that are not.
                                    let last_name = line.ends_with("COVERING INDEX experiments_name (archived=?)");
                                    let narrowed = line.replace("(archived=?", "(").replace(" AND archived=?", "");
                                    let searches = line.starts_with("SEARCH")
                                        && (narrowed.contains("=?") || narrowed.contains("( AND id<?)") || last_name);
                                    assert!(searches || straight, "{line}\n{}", show());
                                }
                            }
                            Database::Postgres => {
                                assert!(
                                    !plan.iter().any(|line| line.contains("Seq Scan on experiments")),
                                    "{}",
                                    show()
                                );
                                let places = if *name == "sparse" || *name == "half" { 420 } else { 60 };
                                // At most a few rows of each place for the bound, and then a page; unfinished ones by name all that there are.
                                let unfinished = if filter.state == Some(State::Running) {
                                    rows / 50
                                } else {
                                    0
                                };
                                // Own ones in some places alone, otherwise than newest first, are found among all own ones.
                                let own = if filter.mine == Some(true)
                                    || filter.owner.is_some()
                                    || name.starts_with("own")
                                    || *name == "projects"
                                {
                                    rows / PEOPLE.len() as i64
                                } else {
                                    0
                                };
                                // Single ones are looked up, each of them.
                                let singles = match *name {
                                    "singles" => rows / 20,
                                    "mixed" => rows / 100,
                                    "mixed-narrowed" => rows / 10,
                                    _ => 0,
                                };

                                // Where somebody owns one in so many of the newest, the newest are walked in place of his own: for the bound and for the page.
                                let newest = 2 * 51 * PEOPLE.len() as i64;
                                let at_most = 51 * 12 + places * 8 + unfinished * 2 + own * 4 + singles * 4 + newest;
                                assert!(
                                    touched(&plan) <= at_most,
                                    "{} rows and not {at_most} at most, statement {number}\n{}",
                                    touched(&plan),
                                    show()
                                );
                            }
                        }
                        checked += 1;
                    }
                }
            }
            access.close().await;
        }
        assert!(checked > 400, "{checked} statements");
        assert!(filled.first_place > 0);
    });
}
