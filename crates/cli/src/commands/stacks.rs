//! `ml stack …`

use bailiwick_api::names::name_key;
use bailiwick_api::stacks::{Stack, StackFilter, StackSettings};
use bailiwick_client::{Error, is_missing};

use super::workspaces::say_what_counts_more;
use crate::args::Common;
use crate::args::stacks::{Settings, Shared, Stack as Command};
use crate::args::{Share, Unshare};
use crate::connect::{Connection, block_on, suggest};
use crate::failure::{Failure, Result};
use crate::output::{Column, Output, column, say, wide};
use crate::prompt;
use crate::settings::{self, change_user_file};

const COLUMNS: &[Column<Stack>] = &[
    column("STACK NAME", |stack| stack.name.as_str().into()),
    column("STACK ID", |stack| stack.id.0.into()),
    column("SHARED", |stack| shared(stack).into()),
    column("OWNER", |stack| stack.owner.as_str().into()),
    column("QUEUE", |stack| stack.queue.as_deref().unwrap_or_default().into()),
    column("ARTIFACT STORE", |stack| stack.artifact_store.as_str().into()),
    wide("EXECUTOR", |stack| stack.executor.word().into()),
    wide("ENVIRONMENT", |stack| environment(stack).into()),
    wide("DESCRIPTION", |stack| stack.description.as_str().into()),
];

const DETAIL: &[Column<Stack>] = &[
    column("STACK NAME", |stack| stack.name.as_str().into()),
    column("STACK ID", |stack| stack.id.0.into()),
    column("OWNER", |stack| stack.owner.as_str().into()),
    column("SHARED", |stack| shared(stack).into()),
    column("DESCRIPTION", |stack| stack.description.as_str().into()),
    column("EXECUTOR", |stack| stack.executor.word().into()),
    column("QUEUE", |stack| stack.queue.as_deref().unwrap_or_default().into()),
    column("ARTIFACT STORE", |stack| stack.artifact_store.as_str().into()),
    column("ENVIRONMENT", |stack| environment(stack).into()),
];

fn shared(stack: &Stack) -> &'static str {
    if stack.shared { "shared" } else { "private" }
}

fn environment(stack: &Stack) -> String {
    let pairs = stack.environment.iter().map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(", ")
}

fn id(stack: &Stack) -> String {
    stack.id.to_string()
}

/// The current one is marked as others name it, so that it is found whoever one is.
fn full_name(stack: &Stack) -> String {
    format!("{}/{}", stack.owner, stack.name)
}

pub fn run(common: &Common, command: Command) -> Result<()> {
    match command {
        Command::List { owner } => list(common, owner),
        Command::Describe { stack } => describe(common, stack),
        Command::Register { name, settings, set } => register(common, settings.wanted(Some(name)), set),
        Command::Set { stack, .. } => set(common, stack.as_deref()),
        Command::Update {
            stack,
            settings,
            no_env,
        } => update(common, &stack, settings, no_env),
        Command::Rename { stack: old, new } => {
            let settings = StackSettings {
                name: Some(new),
                ..StackSettings::default()
            };
            change(common, &old, &settings, |stack| {
                format!("Stack \"{old}\" is now \"{}\".", stack.name)
            })
        }
        Command::Share(it) => {
            let share = Share {
                what: on(common, &it)?,
                with: it.with,
                role: it.role,
                until: None,
                reason: String::new(),
            };
            super::roles::run(common, share.into())
        }
        Command::Unshare(it) => {
            let unshare = Unshare {
                what: on(common, &it)?,
                from: it.with,
                role: it.role,
            };
            super::roles::run(common, unshare.into())
        }
        Command::Delete { stack, sure } => delete(common, &stack, sure.yes),
    }
}

/// By its number: a stack of that name is then the one that was looked at.
fn on(common: &Common, it: &Shared) -> Result<String> {
    let connection = Connection::open(common)?;
    block_on(async {
        let stack = found(&connection, &it.stack, connection.client.stack(&it.stack).await).await?;
        Ok(format!("stack:{}", stack.id))
    })
}

fn wrong(why: String) -> Failure {
    Failure::wrong_usage(format!("--env: {why}"))
}

fn list(common: &Common, owner: Option<String>) -> Result<()> {
    let connection = Connection::open(common)?;
    let current = connection.settings.stack.as_ref().map(|stack| stack.value.clone());
    block_on(async {
        let stacks = connection.client.stacks(&StackFilter { owner }).await;
        let stacks = stacks.map_err(|why| connection.explain(why))?;
        let output = Output::new(common.output);
        output.list(COLUMNS, id, &stacks.items)?;
        let is_current = |stack: &&Stack| {
            current
                .as_ref()
                .is_some_and(|name| name_key(name) == name_key(&full_name(stack)))
        };
        if let Some(active) = stacks.items.iter().find(is_current).filter(|_| output.is_for_people()) {
            say(&format!("\nThe current one is {}.", full_name(active)));
        }
        Ok(())
    })
}

fn describe(common: &Common, name: Option<String>) -> Result<()> {
    let connection = Connection::open(common)?;
    let name = name.or_else(|| connection.settings.stack.as_ref().map(|stack| stack.value.clone()));
    let Some(name) = name else {
        return Err(
            Failure::wrong_usage("no stack is the current one").hint("name one, or set one with `ml stack set NAME`")
        );
    };
    block_on(async {
        let stack = found(&connection, &name, connection.client.stack(&name).await).await?;
        let output = Output::new(common.output);
        output.one(DETAIL, id, &stack)?;
        if output.is_for_people() {
            let Stack { id, name, owner, .. } = &stack;
            let shared = shared(&stack);
            say(&format!(
                "\nStack '{name}' with id '{id}' is owned by user {owner} and is '{shared}'."
            ));
        }
        Ok(())
    })
}

fn register(common: &Common, settings: std::result::Result<StackSettings, String>, set: bool) -> Result<()> {
    let settings = settings.map_err(wrong)?;
    let connection = Connection::open(common)?;
    block_on(async {
        let stack = connection.client.create_stack(&settings).await;
        let stack = stack.map_err(|why| connection.explain(why))?;
        if set {
            change_user_file(&[("stack", Some(&full_name(&stack)))])?;
        }
        let current = if set { "; it is the current one" } else { "" };
        let sentence = format!("Stack \"{}\" successfully registered{current}.", stack.name);
        Output::new(common.output).did(&sentence, COLUMNS, id, &stack)
    })
}

fn set(common: &Common, name: Option<&str>) -> Result<()> {
    let Some(name) = name else {
        change_user_file(&[("stack", None)])?;
        say("No stack is the current one.");
        say_what_counts_more("stack", None, &settings::Settings::read(common)?.stack);
        return Ok(());
    };
    let connection = Connection::open(common)?;
    let stack = block_on(async { found(&connection, name, connection.client.stack(name).await).await })?;
    let full = full_name(&stack);
    change_user_file(&[("stack", Some(&full))])?;
    say(&format!("Stack \"{full}\" is the current one."));
    say_what_counts_more("stack", Some(&full), &settings::Settings::read(common)?.stack);
    Ok(())
}

fn update(common: &Common, name: &str, settings: Settings, no_env: bool) -> Result<()> {
    let mut settings = settings.wanted(None).map_err(wrong)?;
    if no_env {
        settings.environment = Some(Default::default());
    }
    if settings == StackSettings::default() {
        return Err(
            Failure::wrong_usage("nothing to change is given").hint("`ml stack update --help` lists what can be")
        );
    }
    change(common, name, &settings, |stack| {
        format!("Changed stack \"{}\".", stack.name)
    })
}

fn change(common: &Common, name: &str, settings: &StackSettings, sentence: impl Fn(&Stack) -> String) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let before = found(&connection, name, connection.client.stack(name).await).await?;
        let changed = connection.client.update_stack(&id(&before), settings).await;
        let stack = found(&connection, name, changed).await?;
        follow(&connection, &before, Some(&stack))?;
        Output::new(common.output).did(&sentence(&stack), COLUMNS, id, &stack)
    })
}

/// The current one stays so under its new name, and is forgotten when it is deleted.
fn follow(connection: &Connection, before: &Stack, after: Option<&Stack>) -> Result<()> {
    let current = connection.settings.stack.as_ref();
    let current = current.filter(|setting| matches!(setting.origin, settings::Origin::UserFile(_)));
    if current.is_some_and(|setting| name_key(&setting.value) == name_key(&full_name(before))) {
        change_user_file(&[("stack", after.map(full_name).as_deref())])?;
    }
    Ok(())
}

fn delete(common: &Common, name: &str, yes: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    prompt::confirm(yes, &format!("delete stack {name:?}"))?;
    block_on(async {
        let stack = found(&connection, name, connection.client.delete_stack(name).await).await?;
        follow(&connection, &stack, None)?;
        let sentence = format!("Deleted stack \"{}\"; what was submitted with it goes on.", stack.name);
        Output::new(common.output).did(&sentence, COLUMNS, id, &stack)
    })
}

/// What was found, or why not, with the nearest name.
async fn found<T>(connection: &Connection, name: &str, result: std::result::Result<T, Error>) -> Result<T> {
    let missing = is_missing(&result);
    match result {
        Ok(thing) => Ok(thing),
        Err(why) => {
            // It may also be a queue that is missing.
            let missing = missing && why.to_string().contains("no stack");
            let failure = connection.explain(why);
            let names = async {
                let page = connection.client.stacks(&StackFilter::default()).await?;
                // Another's of just this name is meant more likely than one's own of a name like it.
                let same = page.items.iter().find(|stack| name_key(&stack.name) == name_key(name));
                Ok(match same {
                    Some(stack) => vec![full_name(stack)],
                    None => page.items.into_iter().map(|stack| stack.name).collect(),
                })
            };
            Err(suggest(failure, name, missing, names).await)
        }
    }
}
