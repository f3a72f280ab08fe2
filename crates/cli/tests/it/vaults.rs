//! `ml vault` and `ml admin rotate-key`, with the server's own agent running what vaults give.

use crate::agents::eventually;
use crate::place::{Place, mode};

const SECRET: &str = "s3cr3t-fjord-quartz";

fn run(place: &Place) -> String {
    let said = place.ml_args(&["run", "-u", "ana", "job/train.sh", "--follow"]);
    format!("{}{}", said.out, said.err)
}

#[test]
fn vaults_reach_the_next_job_and_their_values_no_log() {
    let place = Place::served();
    place.user("ana", "");
    place.write(
        "job/train.sh",
        "echo token=$TOKEN; stat -c mode=%a conf/a.txt; cat conf/a.txt; echo; [ \"$MODE\" = from-above ] && echo forced",
    );
    place.write(
        "vault.yaml",
        &format!(
            "environment: {{TOKEN: {SECRET}}}\nfiles: {{conf/a.txt: {{content: hello-from-the-vault, mode: '0640'}}}}\n"
        ),
    );
    place.write("house.conf", "environment { MODE = from-above }");
    let said = place.ml("-u admin vault set --for built-in-agent -f vault.yaml").done();
    assert!(!said.contains(SECRET), "{said}");
    place
        .ml("-u admin vault create house --organisation --enforced -f house.conf")
        .done();
    let log = run(&place);
    for line in ["token=********\n", "mode=640\n", "forced\n"] {
        assert!(log.contains(line), "{log}");
    }
    assert!(!log.contains(SECRET) && !log.contains("hello-from-the-vault"), "{log}");

    // What is refused says where, and changes nothing; what is shown has values only where asked for.
    place.write("wrong.yaml", "environment:\n  TOKEN: [");
    let refused = place.ml("-u admin vault set --for built-in-agent -f wrong.yaml");
    assert!(
        refused.status != Some(0) && refused.err.contains("line "),
        "{refused:?}"
    );
    let shown = place.ml("-u admin vault show --for built-in-agent").done();
    assert!(shown.contains("********") && !shown.contains(SECRET), "{shown}");
    assert!(
        place
            .ml("-u admin vault show @built-in-agent --reveal")
            .done()
            .contains(SECRET)
    );
    let history = place.ml("-u admin vault history --for built-in-agent").done();
    assert!(
        history.contains("create") && history.contains("reveal") && !history.contains(SECRET),
        "{history}"
    );
    let applied = place.ml("-u admin vault applied --for built-in-agent --json").done();
    assert!(
        applied.contains("\"house\"") && applied.contains("@built-in-agent") && !applied.contains(SECRET),
        "{applied}"
    );
    let hidden = place.ml("-u ana vault show @built-in-agent").err;
    assert!(hidden.contains("no vault"), "{hidden}");
    assert!(place.ml("-u ana vault list").done().trim().is_empty());

    let keys = place.path("../data/vault.keys");
    assert_eq!(mode(&keys), 0o600);
    let rotated = place.ml("-u admin admin rotate-key").done();
    assert!(rotated.contains("\"vaults\": 2"), "{rotated}");
    place.ml("-u admin vault disable --for built-in-agent").done();
    let log = run(&place);
    assert!(log.contains("token=\n") && log.contains("forced\n"), "{log}");
    place.ml("-u admin vault enable --for built-in-agent").done();
    assert!(run(&place).contains("token=********\n"));
    place.ml("-u admin vault delete --for built-in-agent --yes").done();
    assert!(
        place
            .ml("-u admin vault show --for built-in-agent")
            .err
            .contains("ml vault list")
    );
}

#[test]
fn a_vault_is_edited_in_ones_editor_and_what_was_refused_is_kept() {
    let place = Place::served_with(&["--no-agent"]);
    place.write("vault.conf", "sdk.level = info");
    place.ml("-u admin vault set -f vault.conf").done();
    let edit = |script: &str| {
        let editor = place.write("editor.sh", script);
        let mut command = place.command(&["-u", "admin", "vault", "edit"]);
        let output = command
            .env("VISUAL", format!("sh {}", editor.display()))
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (done, said) = edit("stat -c %a \"$1\" > mode; sed -i s/info/debug/ \"$1\"");
    assert!(done, "{said}");
    assert_eq!(std::fs::read_to_string(place.path("mode")).unwrap().trim(), "600");
    assert!(
        place
            .ml("-u admin vault show --reveal")
            .done()
            .contains("sdk.level = debug")
    );
    let (done, said) = edit("echo 'sdk {' > \"$1\"");
    assert!(!done && said.contains("line ") && said.contains("is kept in"), "{said}");
    let (done, said) = edit("exit 3");
    assert!(!done && said.contains("nothing was changed"), "{said}");
    assert!(
        place
            .ml("-u admin vault show --reveal")
            .done()
            .contains("sdk.level = debug")
    );
}

#[test]
fn the_agent_beside_the_server_gives_owners_their_own_vaults_once_it_may_impersonate() {
    let place = Place::served();
    place.user("ana", "");
    place.write("job/train.sh", "echo token=$TOKEN more=$MORE; env | grep ML_API_KEY");
    place.write("own.yaml", &format!("environment: {{TOKEN: {SECRET}, MORE: abc}}\n"));
    let said = place.ml("-u ana vault set -f own.yaml");
    assert!(said.err.contains("run them as their owners"), "{said:?}");
    place.ml("-u ana vault set -f /dev/null").failed(2);
    assert!(run(&place).contains("token= more=\n"));
    let allow = |may: bool| {
        place
            .ml(&format!(
                "-u admin service-account edit built-in-agent --allow-impersonation {may}"
            ))
            .done();
    };
    allow(true);
    let log = eventually("the agent runs jobs as their owners", || {
        let log = run(&place);
        log.contains("more=abc").then_some(log)
    });
    assert!(
        log.contains("token=******** more=abc\n") && log.contains("ML_API_KEY=********\n"),
        "{log}"
    );
    // A job that is stopped by its vault says so where it is waited for, too.
    std::fs::rename(place.path("../data/vault.keys"), place.path("../kept.keys")).unwrap();
    let refused = place.ml("-u ana vault set -f own.yaml").failed(1);
    assert!(
        refused.contains("vault_key_file") && !refused.contains("/data"),
        "{refused}"
    );
    std::fs::rename(place.path("../kept.keys"), place.path("../data/vault.keys")).unwrap();
    allow(false);
    eventually("and no more", || run(&place).contains("token= more=\n").then_some(()));
}

#[test]
fn what_is_enforced_stands_above_the_experiments_own_and_a_stale_version_is_told() {
    let place = Place::served();
    place.user("ana", "");
    place.write("job/train.sh", "echo mode=$MODE own=$OWN");
    place.write("house.conf", "environment { MODE = from-above }");
    place.write("machine.conf", "environment { OWN = vault, MODE = vault }");
    place
        .ml("-u admin vault create house --organisation --enforced -f house.conf")
        .done();
    place
        .ml("-u admin vault set --for built-in-agent -f machine.conf")
        .done();
    let line = "run -u ana job/train.sh --env MODE=mine --env OWN=mine --follow";
    // Of the vault's six letters and more nothing stands in the log.
    let log = place.ml(line).done();
    assert!(log.contains("mode=******** own=mine\n"), "{log}");
    let other = place.write("other.conf", "environment { MODE = other-value }");
    let editor = format!(
        "{} -u admin vault update house -f {} >&2; echo 'environment {{ MODE = third }}' > \"$1\"",
        env!("CARGO_BIN_EXE_ml"),
        other.display()
    );
    let editor = place.write("editor.sh", &editor);
    let mut command = place.command(&["-u", "admin", "vault", "edit", "house"]);
    let output = command
        .env("VISUAL", format!("sh {}", editor.display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("was changed meanwhile by admin"),
        "{said}"
    );
    let kept = said
        .split("is kept in ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    let kept = kept.unwrap_or_default().trim_end_matches(['.', ',', ':']).to_owned();
    assert_eq!(mode(std::path::Path::new(&kept)), 0o600, "{said}");
    let _ = std::fs::remove_file(&kept);
    assert!(
        place
            .ml("-u admin vault show house --reveal")
            .done()
            .contains("other-value")
    );
}
