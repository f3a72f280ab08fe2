//! `ml access export`, `plan`, `apply`: who may do what, as a file.

use std::io::Read;
use std::path::Path;

use bailiwick_api::document::{AccessDocument, AccessPlan, ApplyDocument, DOCUMENT_BYTES_MAX, PlanDocument};

use crate::args::Common;
use crate::connect::{Connection, block_on};
use crate::failure::{Failure, Result};
use crate::output::{Output, json, printable, say, warn, write};
use crate::prompt;

pub fn export(common: &Common) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let document = connection.client.export_access().await;
        let document = document.map_err(|why| connection.explain(why))?;
        let text = json(&document);
        if serde_json::to_vec(&document).is_ok_and(|bytes| bytes.len() > DOCUMENT_BYTES_MAX) {
            warn(&format!(
                "this is more than the {DOCUMENT_BYTES_MAX} bytes that can be applied at once: leave out sections that are not to be touched"
            ));
        }
        match Output::new(common.output).wants_json() {
            true => write(&text),
            false => write(&document.to_yaml()),
        }
    })
}

/// The document in a file, or on standard input with `-`.
fn read(file: &Path) -> Result<AccessDocument> {
    // Far more than what can be applied: a device file given by mistake must not be read for ever.
    let most = 8 * DOCUMENT_BYTES_MAX as u64;
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(most).read_to_string(&mut text))
    };
    read.map_err(|why| Failure::file("read", file, &why))?;
    AccessDocument::parse(&text).map_err(|why| {
        Failure::wrong_usage(format!("{}: {why}", file.display()))
            .hint("`ml access export` shows how such a file looks, and says at its top what its parts mean")
    })
}

pub fn plan(common: &Common, file: &Path) -> Result<()> {
    let document = read(file)?;
    let connection = Connection::open(common)?;
    block_on(async {
        let plan = connection.client.plan_access(&PlanDocument { document }).await;
        let plan = plan.map_err(|why| connection.explain(why))?;
        if Output::new(common.output).wants_json() {
            return write(&json(&plan));
        }
        write(&words(&plan))?;
        warnings(&plan.warnings);
        if plan.changes.is_empty() {
            say("Everything is as the file says.");
        }
        Ok(())
    })
}

fn warnings(warnings: &[String]) {
    for warning in warnings {
        warn(&printable(warning));
    }
}

/// A line for each change, then what they give and take.
fn words(plan: &AccessPlan) -> String {
    let mut text = String::new();
    for change in &plan.changes {
        text.push_str(&format!("{} {}\n", change.act.sign(), printable(&change.words)));
        if let Some(missing) = &change.missing {
            text.push_str(&format!("    not allowed: {}\n", printable(missing)));
        }
    }
    if plan.effects.is_empty() {
        return text;
    }
    text.push_str("\nWhat that gives and takes:\n");
    for effect in &plan.effects {
        text.push_str(&format!("{} on {}\n", printable(&effect.who), printable(&effect.on)));
        for (sign, words) in [('+', &effect.gained), ('-', &effect.lost)] {
            if !words.is_empty() {
                text.push_str(&format!("  {sign} {}\n", words.join(", ")));
            }
        }
    }
    if plan.more_effects > 0 {
        text.push_str(&format!("and {} more such changes\n", plan.more_effects));
    }
    text
}

pub fn apply(common: &Common, file: &Path, yes: bool) -> Result<()> {
    let document = read(file)?;
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    let plan = PlanDocument { document };
    let planned = block_on(async {
        let planned = connection.client.plan_access(&plan).await;
        planned.map_err(|why| connection.explain(why))
    })?;
    let count = planned.changes.len();
    if count > 0 {
        say(words(&planned).trim_end());
    }
    warnings(&planned.warnings);
    if let Some(missing) = planned.changes.iter().find_map(|change| change.missing.as_ref()) {
        return Err(
            Failure::new(format!("you may not make all of these changes: {missing}"))
                .hint("nothing was changed: a file is applied whole or not at all"),
        );
    }
    if count > 0 {
        prompt::confirm(yes, &format!("make {count} changes"))?;
    }
    // Another client: the connections of the first went with its runtime.
    let connection = Connection::open(common)?;
    block_on(async {
        let apply = ApplyDocument {
            document: plan.document,
            plan_version: Some(planned.version),
        };
        let applied = connection.client.apply_access(&apply).await;
        let applied = applied.map_err(|why| connection.explain(why))?;
        if output.wants_json() {
            write(&json(&applied))?;
        }
        match applied.changes.len() {
            0 => say("Everything is as the file says: nothing was changed."),
            1 => say("Made 1 change."),
            count => say(&format!("Made {count} changes.")),
        }
        for name in &applied.pending {
            say(&format!("{name} needs a link to sign in: ml user link {name}"));
        }
        Ok(())
    })
}
