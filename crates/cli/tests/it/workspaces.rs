//! Workspaces and projects on the command line.

use crate::place::{Place, finish};

/// The number in the first column of what a command printed.
fn number(said: &str) -> i64 {
    let word = said.split('\t').next().unwrap_or_default().trim();
    word.parse().unwrap_or_else(|_| panic!("no number: {said}"))
}

#[test]
fn a_workspace_with_its_projects_from_the_first_word_to_the_last() {
    let place = Place::served_with(&["--no-agent"]);
    let made = place.ml_args(&["workspace", "create", "Traffic Lights"]).done();
    assert!(made.contains("\tTraffic Lights\tadmin\t1\t"), "{made}");
    let made = place.ml_args(&["project", "create", "Traffic Lights", "Green"]).done();
    assert!(made.contains("\tGreen\tTraffic Lights\tadmin\t"), "{made}");
    let project = number(&made).to_string();

    let taken = place.ml_args(&["w", "create", "TRAFFIC lights"]).failed(1);
    assert!(
        taken.starts_with(
            "error: there is already a workspace `TRAFFIC lights` (letter case does not matter)\n\nhint: "
        ),
        "{taken}"
    );
    let listed = place.ml("workspace ls -o csv").done();
    assert!(
        listed.starts_with("id,name,owner,projects,created,archived,description\n1,default,"),
        "{listed}"
    );
    assert_eq!(place.ml("workspace list -o id").done().lines().count(), 2);
    let shown = place
        .ml_args(&["workspace", "describe", "traffic lights", "--json"])
        .done();
    assert!(
        shown.contains("\"projects\": 2") && shown.contains("\"experiments\": 0"),
        "{shown}"
    );
    let typo = place.ml_args(&["workspace", "describe", "Trafic Lights"]).failed(1);
    assert!(typo.ends_with("hint: did you mean `Traffic Lights`?\n"), "{typo}");
    let typo = place
        .ml_args(&["project", "describe", "Traffic Lights", "Gren"])
        .failed(1);
    assert!(
        typo.starts_with("error: there is no project `Gren`") && typo.ends_with("hint: did you mean `Green`?\n"),
        "{typo}"
    );
    let typo = place
        .ml_args(&["project", "describe", "Trafic Lights", "Green"])
        .failed(1);
    assert!(typo.ends_with("hint: did you mean `Traffic Lights`?\n"), "{typo}");

    let edited = place.ml_args(&[
        "project",
        "edit",
        "Traffic Lights",
        "Green",
        "--description",
        "only green ones",
    ]);
    assert!(edited.done().contains("\tonly green ones\n"));
    let renamed = place
        .ml_args(&["p", "rename", "Traffic Lights", "Green", "Emerald"])
        .done();
    assert!(renamed.starts_with(&format!("{project}\tEmerald\t")), "{renamed}");
    let renamed = place
        .ml_args(&["workspace", "rename", "Traffic Lights", "Crossings"])
        .done();
    assert!(renamed.contains("\tCrossings\t"), "{renamed}");
    let nothing = place.ml("workspace edit Crossings").failed(2);
    assert!(nothing.contains("--name <NAME>"), "{nothing}");
    let members = place.ml("workspace list-members Crossings").done();
    assert!(
        members.starts_with("admin\tuser\tWorkspaceAdmin\ton workspace \"Crossings\"\t"),
        "the nearest come first: {members}"
    );
    assert!(members.contains("admin\tuser\tClusterAdmin\tglobally\t"), "{members}");
    assert!(
        place
            .ml("project members Crossings Emerald")
            .done()
            .contains("on workspace \"Crossings\"")
    );

    place.ml("project archive Crossings Emerald").done();
    assert_eq!(place.ml("project list Crossings -o id").done().lines().count(), 1);
    assert_eq!(place.ml("project list Crossings --all -o id").done().lines().count(), 2);
    place.ml("project unarchive Crossings Emerald").done();
    place.ml("workspace archive Crossings").done();
    assert!(!place.ml("workspace list").done().contains("Crossings"));
    assert!(place.ml("workspace list --all").done().contains("Crossings"));
    place.ml("workspace unarchive Crossings").done();
    let unsure = place.ml("project delete Crossings Emerald").failed(2);
    assert!(unsure.contains("hint: use --yes"), "{unsure}");
    place.ml("project delete Crossings Emerald --yes").done();
    place.ml("workspace delete Crossings --yes").done();
    assert_eq!(place.ml("workspace list --all -o id").done(), "1\n");
}

#[test]
fn the_current_workspace_and_project_are_remembered_and_can_be_overruled() {
    let place = Place::served_with(&["--no-agent"]);
    for name in ["Lights", "Signs"] {
        place.ml(&format!("workspace create {name}")).done();
    }
    place.write("work/train.py", "print(1)\n");
    let place_of = |id: &str| {
        let listed = place.ml(&format!("status {} -o csv", id.trim())).done();
        let row: Vec<&str> = listed.lines().nth(1).unwrap_or_default().split(',').collect();
        format!("{}/{}", row[9], row[10])
    };
    let where_is = |line: &str| place_of(&place.ml(&format!("run work {line}")).done());
    assert_eq!(where_is(""), "default/default");
    place.ml("workspace use lights").done();
    let shown = place.ml("config show --origin").done();
    let file = place.home().join("config.toml");
    assert!(
        shown.contains(&format!("workspace\tLights\t{}\n", file.display())),
        "{shown}"
    );
    place.ml("project create Green").done();
    place.ml("project use green").done();
    assert_eq!(where_is(""), "Lights/Green");
    assert_eq!(where_is("--workspace Signs"), "Signs/default");
    assert_eq!(where_is("--project default"), "Lights/default");
    assert_eq!(place.ml("project list -o id").done().lines().count(), 2);
    place.ml("project create Signs Euro").done();
    place.write("named/train.py", "print(1)\n");
    place.write(
        "named/experiment.yaml",
        "entrypoint: python3 train.py\nworkspace: Signs\nproject: Euro\n",
    );
    assert_eq!(place_of(&place.ml("run named").done()), "Signs/Euro");
    let overruled = place.ml("run named --workspace Lights --project Green").done();
    assert_eq!(place_of(&overruled), "Lights/Green");

    let mut command = place.command(&["run", "work"]);
    command.env("ML_WORKSPACE", "Signs");
    assert_eq!(
        place_of(&finish(command).done()),
        "Signs/default",
        "the current project is none of that workspace's"
    );
    let mut command = place.command(&["workspace", "use", "Lights"]);
    command.env("ML_WORKSPACE", "Signs");
    let said = finish(command);
    assert_eq!(said.status, Some(0));
    assert!(
        said.err
            .contains("warning: the environment (ML_WORKSPACE) names the workspace \"Signs\", which counts more here"),
        "{said:?}"
    );
    // Another workspace forgets the project of the one before; nothing is remembered that is not there.
    place.ml("workspace use Nowhere").failed(1);
    place.ml("workspace use Signs").done();
    assert!(
        !place.ml("config show").done().contains("project"),
        "Green is none of Signs'"
    );
    place.ml("project use Lights Green").done();
    assert_eq!(where_is(""), "Lights/Green");
    place.ml("project use --none").done();
    assert_eq!(where_is(""), "Lights/default");
    place.ml("workspace use --none").done();
    assert_eq!(where_is(""), "default/default");
    assert!(place.ml("workspace use").failed(2).contains("required"));
}

#[test]
fn experiments_are_moved_and_deleted_several_at_once() {
    let place = Place::served_with(&["--no-agent"]);
    place.user("ana", "");
    place.ml("workspace create Lights -u admin").done();
    place.ml("project create default Green -u admin").done();
    place.write("work/train.py", "print(1)\n");
    let ids: Vec<String> = (0..3)
        .map(|_| place.ml("run work -u ana").done().trim().to_owned())
        .collect();
    let moved = place
        .ml(&format!("experiment move {} {} --project Green -u ana", ids[0], ids[1]))
        .done();
    assert_eq!(moved.matches("\tdefault\tGreen\t").count(), 2, "{moved}");
    let refused = place
        .ml(&format!("experiment move {} -w Lights -u ana", ids[2]))
        .failed(1);
    assert!(
        refused.starts_with("error: there is no workspace `Lights`"),
        "{refused}"
    );
    assert!(
        place
            .ml(&format!("experiment move {} -u ana", ids[2]))
            .failed(2)
            .contains("--workspace")
    );

    let running = place
        .ml(&format!("experiment delete {} --yes -u ana", ids[0]))
        .failed(1);
    assert!(
        running.contains("is QUEUED; only one that has ended can be deleted\n\nhint: end it first with `ml cancel`"),
        "{running}"
    );
    place.ml(&format!("cancel {} {} -u ana", ids[0], ids[1])).done();
    assert!(
        place
            .ml(&format!("experiment delete {} -u ana", ids[0]))
            .failed(2)
            .contains("--yes")
    );
    let said = place.ml(&format!("experiment delete {} 999 {} --yes -u ana", ids[0], ids[1]));
    assert_eq!(said.status, Some(1));
    assert_eq!(
        said.out.lines().count(),
        2,
        "the others are deleted all the same: {said:?}"
    );
    assert_eq!(place.ml("status -u ana -o id").done(), format!("{}\n", ids[2]));
}

#[test]
fn a_server_does_not_start_with_a_creators_role_that_nobody_can_hold_on_a_workspace() {
    let place = Place::new();
    let start = |role: &str| {
        let set = format!("workspace_creator_role={role}");
        let words = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--data",
            "../data",
            "--no-agent",
            "--set",
            &set,
        ];
        let said = place.ml_args(&words).failed(1);
        said.lines()
            .filter(|line| line.starts_with("error: "))
            .collect::<String>()
    };
    assert_eq!(
        start("TokenCreator"),
        "error: workspace_creator_role: the role TokenCreator can only be assigned globally, so nobody can hold it on a workspace"
    );
    assert_eq!(
        start("WorkspaceAdmn"),
        "error: workspace_creator_role: there is no role `WorkspaceAdmn`; did you mean `WorkspaceAdmin`?"
    );
}
