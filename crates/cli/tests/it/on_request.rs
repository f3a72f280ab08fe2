//! Access on request and break-glass from the command line.

use crate::place::Place;

#[test]
fn a_role_is_asked_for_and_given_for_a_while() {
    let place = Place::served_with(&["--no-agent"]);
    place.user("ana", "");
    let asked = place.ml_args(&[
        "access",
        "request",
        "Viewer",
        "-u",
        "ana",
        "--for",
        "8h",
        "--why",
        "to compare",
    ]);
    assert!(
        asked
            .done()
            .starts_with("1\tana\tViewer\tworkspace:default\t28800000\twaiting\t")
    );
    let own = place.ml("access approve 1 -u ana").failed(1);
    assert!(own.starts_with("error: request 1 is your own"), "{own}");
    assert!(place.ml("access requests -u admin").done().contains("\tto compare\t"));
    let approved = place.ml("access approve 1 --for 2h -u admin -o table");
    assert!(
        approved
            .err
            .starts_with("ana holds Viewer on workspace:default; it ends by itself in "),
        "{approved:?}"
    );
    assert_eq!(place.ml("access requests -u admin").done(), "");
    assert!(
        place
            .ml("access requests --mine -u ana -o csv")
            .done()
            .contains(",approved,")
    );
    let globally = place.ml_args(&[
        "access",
        "request",
        "TokenCreator",
        "-u",
        "ana",
        "--for",
        "1h",
        "--why",
        "x",
    ]);
    assert!(globally.done().starts_with("2\tana\tTokenCreator\tinstallation\t"));
    assert!(
        place
            .ml("access decline 2 --why no -u admin")
            .done()
            .contains("\tdeclined\t")
    );
    let third = place.ml_args(&[
        "access",
        "request",
        "Editor",
        "--on",
        "queue:default",
        "-u",
        "ana",
        "--for",
        "1h",
        "--why",
        "x",
    ]);
    third.done();
    assert!(place.ml("access withdraw 3 -u ana").done().contains("\twithdrawn\t"));
    let nonsense = place.ml_args(&[
        "access", "request", "Editor", "-u", "ana", "--for", "soon", "--why", "x",
    ]);
    assert!(nonsense.failed(2).contains("`soon` is not a duration"));
}

#[test]
fn broken_glass_is_told_of_with_every_command() {
    let place = Place::served_with(&["--no-agent"]);
    place.user("ana", "");
    let given = place.ml_args(&["-u", "admin", "rbac", "assign-role", "BreakGlass", "-u", "ana"]);
    given.done();
    let quiet = place.ml("whoami -u ana");
    assert!(!quiet.err.contains("BREAK-GLASS"), "{quiet:?}");
    let broken = place.ml_args(&[
        "access",
        "break-glass",
        "-u",
        "ana",
        "--why",
        "the directory is down",
        "--password-file",
        "../password",
    ]);
    assert!(broken.err.starts_with("ana is ClusterAdmin until "), "{broken:?}");
    for command in ["whoami -u ana", "user list -u ana", "experiment describe 77 -u ana"] {
        let said = place.ml(command).err;
        assert!(
            said.contains("warning: BREAK-GLASS is on: you are ClusterAdmin until "),
            "{command}: {said}"
        );
    }
    assert!(!place.ml("whoami -u admin").err.contains("BREAK-GLASS"));
    assert!(
        place
            .ml("whoami -u ana --json")
            .done()
            .contains("\"break_glass_until\"")
    );
    assert!(
        place
            .ml("access requests --all -u admin")
            .done()
            .contains("\tbreak-glass\t")
    );
    place.ml("access break-glass --end -u ana").done();
    assert!(!place.ml("whoami -u ana").err.contains("BREAK-GLASS"));
    assert!(
        place
            .ml("access requests --all -u admin")
            .done()
            .contains("\tbreak-glass, over\t")
    );
}
