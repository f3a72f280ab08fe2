//! Vaults: three ways to write one, one meaning.

use bailiwick_api::vault::{Effective, Layer, VaultFormat, changed_keys, check_personal, keys, mask, merge, parse};
use proptest::prelude::*;
use serde_json::{Value, json};

fn any_vault() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[-a-c0-9:{}\\[\\]&*\"=+$?,.# \n/]{0,120}",
        "((a|b|sdk)(\\.[ab])?( = | \\+= |: | )(\\$\\{\\??(a|b|sdk)(\\.[ab])?\\}|1|x|\\{|\\[|\"t\"| ){1,4}(\n|\\}|\\]|,)){1,12}",
    ]
}

fn tree() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-c]", "[a-z]{1,5}", 0..4)
        .prop_flat_map(|map| ("[d-e]", Just(map)))
        .prop_map(|(key, map)| json!({key: map, "n": map.len()}))
}

proptest! {
    #[test]
    fn any_text_is_a_vault_or_is_refused_in_words(text in any_vault()) {
        for format in [VaultFormat::Hocon, VaultFormat::Json, VaultFormat::Yaml] {
            match parse(format, &text) {
                Ok(value) => {
                    prop_assert!(value.is_object());
                    prop_assert_eq!(keys(&mask(&value)), keys(&value));
                    prop_assert!(changed_keys(&value, &value).is_empty());
                }
                Err(why) => prop_assert!(!why.message.is_empty()),
            }
        }
    }

    #[test]
    fn layers_of_one_shape_merge_in_any_grouping_and_enforced_ones_win(a in tree(), b in tree(), c in tree()) {
        prop_assert_eq!(merge(merge(a.clone(), &b), &c), merge(a.clone(), &merge(b.clone(), &c)));
        let layer = |content, enforced| Layer { name: "x", content, enforced };
        let all = Effective::of(&[layer(&a, true), layer(&b, false), layer(&c, false)]);
        prop_assert_eq!(merge(all.whole(), &a), all.whole());
    }
}

#[test]
fn the_three_formats_mean_the_same() {
    let hocon = "# one\nenvironment { LR = 0.1, NAME = green light }\nsdk.a.b = [1, true, null]\nsdk.a.c = ${sdk.a.b} [x]\nsdk.l += 2\nsdk.l += 3 // end";
    let json = r#"{"environment": {"LR": 0.1, "NAME": "green light"}, "sdk": {"a": {"b": [1, true, null], "c": [1, true, null, "x"]}, "l": [2, 3]}}"#;
    let value = parse(VaultFormat::Json, json).unwrap();
    assert_eq!(parse(VaultFormat::Yaml, json).unwrap(), value);
    assert_eq!(parse(VaultFormat::Hocon, hocon).unwrap(), value);
    assert_eq!(parse(VaultFormat::Hocon, json).unwrap(), value);
}

#[test]
fn faults_say_where() {
    use VaultFormat::{Hocon, Json, Yaml};
    for (format, text, words) in [
        (Hocon, "sdk {\n  a = ${b}\n}", "(line 2, column 7)"),
        (Hocon, "sdk.a = ${sdk.a}", "(line 1, column 9)"),
        (
            Hocon,
            "include \"x\"",
            "`include` is not possible in a vault: write the content itself (line 1, column 1)",
        ),
        (Hocon, "sdk {\n a = [1", "(line 2, column 6)"),
        (
            Json,
            "{\"sdk\": {\"a\": 1, \"a\": 2}}",
            "stands there twice (line 1, column ",
        ),
        (Yaml, "sdk:\n  a: 1\n  a: 2\n", "stands there twice (line 3, column 3)"),
        (
            Json,
            "{\"enviroment\": {}}",
            "did you mean `environment`? (line 1, column 2)",
        ),
        (
            Json,
            "{\"environment\": {\n\t\"ML_X\": 1}}",
            "the agent sets it itself (line 2, column 2)",
        ),
        (
            Hocon,
            "sdk { agent.slots = 1 }\nagent.slots = 1\nagent { slots = 2 }",
            "the machine's own and cannot be set by a vault (line 3, column 9)",
        ),
        (
            Hocon,
            "agent { fair = yes }",
            "agent.fair is true or false (line 1, column 9)",
        ),
        (Json, "{\"files\": {\"../x\": \"\"}}", "`.` or `..` (line 1, column 12)"),
        (
            Yaml,
            "files:\n  a.txt:\n    content: x\n    mode: 600\n",
            "such as \"0600\" (line 4, column 5)",
        ),
        (
            Yaml,
            "files: {a: x, b/c: z}\nsdk:\n- 1\n",
            "sdk is a list, not a map (line 2, column 1)",
        ),
        (
            Yaml,
            "files:\n  a: x\n  a-b: v\n  a/b: z\n",
            "\"a\" is a file and no directory (line 4, column 3)",
        ),
        (
            Yaml,
            "storage:\n  s3:\n    key: x\n    bucket: z\n",
            "(line 4, column 5)",
        ),
        (Yaml, "just words", "not a map of keys and values (line 1, column 1)"),
    ] {
        let said = parse(format, text).unwrap_err().to_string();
        assert!(said.contains(words), "{text}: {said}");
    }
    let deep = format!("sdk = {}", "[".repeat(200_000));
    assert!(parse(Hocon, &deep).unwrap_err().message.contains("deeper"));
    let many = (0..20_000).map(|i| format!("sdk.a += {i}\n")).collect::<String>();
    assert!(parse(Hocon, &many[..200_000]).is_ok());
    let mut bomb = "sdk.a0 = xxxxxxxxxxxx\n".to_owned();
    for i in 1..40 {
        bomb += &format!("sdk.a{i} = ${{sdk.a{0}}}${{sdk.a{0}}}\n", i - 1);
    }
    assert!(parse(Hocon, &bomb).is_err());
}

#[test]
fn a_job_is_given_variables_files_and_what_to_hide() {
    let plain = json!({"environment": {"TOKEN": "geheim123"}, "storage": {"s3": {"key": "AKIA99", "region": "eu"}}, "files": {"a/b": "one line"}});
    let over = json!({"environment": {"TOKEN": "enforced1"}, "sdk": {"x": 1}});
    let layer = |content, enforced| Layer {
        name: "x",
        content,
        enforced,
    };
    let given = Effective::of(&[layer(&over, true), layer(&plain, false)])
        .for_job()
        .unwrap();
    assert_eq!(
        (given.env["AWS_REGION"].as_str(), given.enforced_env["TOKEN"].as_str()),
        ("eu", "enforced1")
    );
    assert_eq!(given.secrets.len(), 4);
    assert_eq!(
        given
            .files
            .iter()
            .map(|file| (file.path.as_str(), file.mode, file.enforced))
            .collect::<Vec<_>>(),
        [(".ml/sdk.json", 0o600, true), ("a/b", 0o600, false)]
    );
    let path = json!({"environment": {"LD_PRELOAD": "x"}});
    assert!(check_personal(&path).is_err());
    let all = Effective::of(&[layer(&path, false)]);
    assert!(all.for_job().is_ok());
    assert!(!mask(&plain).to_string().contains("geheim123"));
}

#[test]
fn credentials_of_a_stronger_layer_stand_above_variables_of_a_weaker_one() {
    let house = json!({"environment": {"AWS_ACCESS_KEY_ID": "house", "LR": 1}});
    let own = json!({"storage": {"s3": {"key": "own"}}});
    let both = json!({"storage": {"s3": {"key": "stored"}}, "environment": {"AWS_ACCESS_KEY_ID": "written"}});
    let layer = |content, enforced| Layer {
        name: "x",
        content,
        enforced,
    };
    let key = |layers: &[Layer]| Effective::of(layers).for_job().unwrap().env;
    let given = key(&[layer(&house, false), layer(&own, false)]);
    assert_eq!(
        (given["AWS_ACCESS_KEY_ID"].as_str(), given["LR"].as_str()),
        ("own", "1")
    );
    assert_eq!(
        key(&[layer(&own, false), layer(&house, false)])["AWS_ACCESS_KEY_ID"],
        "house"
    );
    assert_eq!(key(&[layer(&both, false)])["AWS_ACCESS_KEY_ID"], "written");
}

#[test]
fn no_value_goes_unhidden_for_the_number_of_the_others() {
    let given = |lines: usize| {
        let text: String = (0..lines).map(|at| format!("a line of a certificate {at}\n")).collect();
        let content = json!({"environment": {"PASSWORD": "hunter22"}, "files": {"ca.pem": text}});
        let content = parse(VaultFormat::Json, &content.to_string()).map_err(|fault| fault.message)?;
        let layer = Layer {
            name: "x",
            content: &content,
            enforced: false,
        };
        Effective::of(&[layer]).for_job()
    };
    let hidden = given(1500).unwrap().secrets;
    assert!(hidden.len() == 1501 && hidden.iter().any(|text| text == "hunter22"));
    let many: String = (0..11_000).map(|at| format!("{at:06}\n")).collect();
    let many = json!({"files": {"a": many}}).to_string();
    let refused = parse(VaultFormat::Json, &many).unwrap_err().message;
    assert!(refused.contains("hide") && refused.contains("11000"), "{refused}");
    let as_text = json!({"storage": {"gs": {"credentials": "{\"private_key\": \"s3cretsecret\"}"}}});
    let layer = Layer {
        name: "x",
        content: &as_text,
        enforced: false,
    };
    let hidden = Effective::of(&[layer]).for_job().unwrap().secrets;
    assert!(hidden.iter().any(|text| text == "s3cretsecret"), "{hidden:?}");
}
