//! Stacks at the command line, with the server's own agent at work.

use crate::place::Place;

#[test]
fn a_stack_is_registered_used_shared_and_deleted_and_hidden_from_everybody_else() {
    let place = Place::served();
    place.user("ana", "");
    place.user("bob", "");
    place.write("code/s.sh", "echo cache=$CACHE; echo own=$OWN\n");
    place.ml("-u admin queue create gpu").done();
    place.ml("-u admin queue create other").done();
    place
        .ml("-u ana stack register fast --queue gpu --env CACHE=/srv/cache --env OWN=stack --artifact-store s3://models/vision")
        .done();
    let twice = place.ml("-u ana stack register FAST").failed(1);
    assert!(twice.contains("already a stack `FAST`"), "{twice}");
    let unknown = place.ml("-u ana stack register slow --queue gpx").failed(1);
    assert!(unknown.contains("there is no queue `gpx`"), "{unknown}");
    let described = place.ml("-u ana stack describe fast").done();
    for part in ["fast", "gpu", "agents", "s3://models/vision", "CACHE"] {
        assert!(described.contains(part), "{part}: {described}");
    }

    // To others it is as if it were not there.
    let hidden = place.ml("-u bob stack describe ana/fast").failed(1);
    let missing = place.ml("-u bob stack describe ana/fist").failed(1);
    let same = |text: &str, name: &str| {
        let lines = text.lines().filter(|line| !line.contains("request"));
        lines.collect::<Vec<_>>().join("\n").replace(name, "NAME")
    };
    assert_eq!(same(&hidden, "ana/fast"), same(&missing, "ana/fist"));
    assert!(!place.ml("-u bob stack list").done().contains("fast"));
    place.ml("-u bob run code/s.sh --stack ana/fast").failed(1);

    let run = |who: &str, stack: &str, more: &str| {
        let line = format!("-u {who} run code/s.sh --stack {stack} --env OWN=mine {more} -o id");
        place.ml(&line).done().trim().to_owned()
    };
    let describe = |id: &str| place.ml(&format!("-u ana experiment describe {id} --json")).done();
    let waits = run("ana", "fast", "");
    let shown = describe(&waits);
    assert!(shown.contains("gpu") && shown.contains("fast"), "{shown}");
    let elsewhere = run("ana", "fast", "--queue default --wait");
    let log = place
        .ml(&format!(
            "-u ana experiment logs {}",
            elsewhere.lines().next().unwrap_or_default()
        ))
        .done();
    assert!(log.contains("cache=/srv/cache") && log.contains("own=mine"), "{log}");

    // What is set is taken by whatever names none; what waits keeps what it was submitted with.
    place.ml("-u ana stack set fast").done();
    let id = place.ml("-u ana run code/s.sh -o id").done();
    assert!(describe(id.trim()).contains("gpu"));
    place.ml("-u ana stack edit fast --queue other").done();
    assert!(describe(&waits).contains("gpu"), "{}", describe(&waits));
    let id = place.ml("-u ana run code/s.sh -o id").done();
    assert!(describe(id.trim()).contains("other"));

    place.ml("-u ana stack share fast --user bob").done();
    assert!(place.ml("-u bob stack list").done().contains("fast"));
    run("bob", "ana/fast", "");
    place.ml("-u bob stack edit ana/fast --description mine").failed(1);
    place.ml("-u ana stack unshare fast --user bob").done();
    place.ml("-u bob stack describe ana/fast").failed(1);
    place.ml("-u bob run code/s.sh --stack ana/fast").failed(1);

    place.ml("-u ana stack delete fast --yes").done();
    place.ml("-u ana stack describe fast").failed(1);
    assert!(describe(&waits).contains("fast"), "{}", describe(&waits));
}
