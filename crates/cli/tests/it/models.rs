//! Models at the command line.

use crate::place::Place;

#[test]
fn a_model_is_registered_with_versions_shared_moved_and_deleted() {
    let place = Place::served_with(&["--no-agent"]);
    for who in ["ana", "bob", "eve"] {
        place.user(who, "");
    }
    place
        .ml_args(&["-u", "admin", "workspace", "create", "Stop Signs"])
        .done();
    for (who, role) in [("ana", "Editor"), ("bob", "WorkspaceAdmin")] {
        place
            .ml_args(&["-u", "admin", "role", "assign", role, "--user", who, "-w", "Stop Signs"])
            .done();
    }
    let ml = |line: &str| place.ml_args(&line.split(' ').map(|word| word.trim_matches('\'')).collect::<Vec<_>>());
    let signs = |who: &str, line: &str, more: &[&str]| {
        let mut args = vec!["-u", who, "model"];
        args.extend(line.split(' '));
        args.extend(more);
        place.ml_args(&args)
    };
    let made = signs("ana", "register detector --description finds -w", &["Stop Signs"]).done();
    assert!(made.starts_with("1\tdetector\tStop Signs\t\t0\tana\t"), "{made}");
    let twice = signs("ana", "register Detector -w", &["Stop Signs"]).failed(1);
    assert!(twice.contains("already a model `Detector`"), "{twice}");
    // A bare name is one of the current workspace.
    let elsewhere = signs("ana", "describe detector", &[]).failed(1);
    assert!(elsewhere.contains("no model `default/detector`"), "{elsewhere}");
    let mistyped = signs("ana", "describe", &["Stop Signs/detectr"]).failed(1);
    assert!(mistyped.contains("detector"), "{mistyped}");
    place.ml_args(&["-u", "ana", "workspace", "use", "Stop Signs"]).done();
    assert!(signs("ana", "describe detector", &[]).done().contains("finds"));

    signs("ana", "register-version detector", &[]).failed(2);
    let nowhere = signs("ana", "register-version detector --uri somewhere", &[]).failed(1);
    assert!(nowhere.contains("s3://bucket/prefix"), "{nowhere}");
    place.write("code/t.sh", "true\n");
    let run = ["-u", "ana", "run", "code/t.sh", "--name", "train", "-o", "id"];
    let id = place.ml_args(&run).done();
    let id = id.trim();
    let first = signs("ana", &format!("register-version detector --experiment {id}"), &[]).done();
    assert!(first.starts_with(&format!("1\t{id}\t\tana\t")), "{first}");
    signs("ana", "register-version detector --uri s3://models/2", &[]).done();
    let versions = signs("ana", "versions detector", &[]).done();
    let lines: Vec<&str> = versions.lines().collect();
    assert!(
        lines[0].starts_with("2\t\ts3://models/2\tana\t") && lines[1].starts_with(&format!("1\t{id}\t\tana\t")),
        "{versions}"
    );

    // Of what one may not see one is told what of what is not there.
    let other = |name: &str| signs("eve", "describe", &[&format!("Stop Signs/{name}")]).failed(1);
    let same = |text: String, name: &str| {
        let lines = text.lines().filter(|line| !line.contains("request"));
        lines.collect::<Vec<_>>().join("\n").replace(name, "NAME")
    };
    assert_eq!(same(other("detector"), "detector"), same(other("nothing"), "nothing"));
    let refused = signs("ana", "share detector --user eve", &[]).failed(1);
    assert!(refused.contains("roles:assign"), "{refused}");
    signs("bob", "share --user eve", &["Stop Signs/detector"]).done();
    let listed = ml("-u eve model list").done();
    assert!(listed.contains("detector\tStop Signs\t2\t2\tana"), "{listed}");
    let hidden = signs("eve", "versions", &["Stop Signs/detector"]).done();
    assert!(hidden.lines().nth(1).unwrap().starts_with("1\t\t\tana"), "{hidden}");
    signs("bob", "unshare --user eve", &["Stop Signs/detector"]).done();
    assert_eq!(ml("-u eve model list").done(), "");
    ml("-u bob share model:1 --user eve --role Writer").done();
    signs("eve", "edit 1 --description hers", &[]).done();
    ml("-u bob unshare model:1 --user eve --role Writer").done();

    signs("ana", "rename detector finder", &[]).done();
    let refused = signs("ana", "delete finder", &[]).failed(2);
    assert!(refused.contains("--yes"), "{refused}");
    signs("ana", "move finder nowhere", &[]).failed(1);
    signs("ana", "move finder default", &[]).done();
    assert!(ml("-u bob model list").done().is_empty());
    signs("ana", "delete-version default/finder 2 --yes", &[]).done();
    let gone = signs("ana", "delete-version default/finder 2 --yes", &[]).failed(1);
    assert!(gone.contains("no version `2`"), "{gone}");
    let full = place
        .ml_args(&["-u", "admin", "model", "list", "-w", "default", "--json"])
        .done();
    assert!(full.contains("\"latest_version\": 1"), "{full}");
    signs("ana", "delete default/finder --yes", &[]).done();
    assert_eq!(ml("-u admin model list").done(), "");
}
