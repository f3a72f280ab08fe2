//! Whatever comes from outside, a parser gives an answer; what we write reads back as it was.

mod vault;

use bailiwick_api::config::{self, DEPTH_MAX};
use bailiwick_api::experiments::log_text;
use bailiwick_api::experiments::{State, Stream};
use bailiwick_api::key::{self, KeyKind};
use bailiwick_api::permission::{Permission, PermissionSet, Reach, RolePermissions};
use bailiwick_api::{Time, ids, names, time};
use proptest::prelude::*;
use serde_json::{Value, json};

/// JSON with our own keys in it, often enough.
fn any_json() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        Just("name".to_owned()),
        Just("entrypoint".to_owned()),
        Just("resources".to_owned()),
        Just("slots_per_trial".to_owned()),
        Just("time_limit".to_owned()),
        Just("environment".to_owned()),
        Just("environment_variables".to_owned()),
        Just("hyperparameters".to_owned()),
        Just("searcher".to_owned()),
        Just("grace_period".to_owned()),
        any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[0-9]{1,25}(ms|s|m|min|h|d|w)?".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// Text that looks like YAML more often than chance would make it.
fn any_yaml() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[-a-z0-9:{}\\[\\]&*!|>'\"%@#,.? \n\t]{0,200}",
        any_json().prop_map(|value| value.to_string()),
    ]
}

proptest! {
    #[test]
    fn any_text_is_a_configuration_or_is_refused_in_words(text in any_yaml()) {
        match config::parse_yaml(&text) {
            Ok(value) => {
                prop_assert!(value.is_object());
                let _ = config::check(value, &[]);
            }
            Err(why) => prop_assert!(!why.is_empty()),
        }
    }

    #[test]
    fn any_json_is_a_configuration_or_is_refused_in_words(mut value in any_json(), args in prop::collection::vec(any::<String>(), 0..3)) {
        if let Some(map) = value.as_object_mut() {
            map.entry("entrypoint").or_insert(json!("true"));
        }
        match config::check(value, &args) {
            Ok(checked) => {
                prop_assert!(!checked.command.is_empty() && (0..=1024).contains(&checked.slots));
                // What is kept in the database reads back as it was.
                let text = serde_json::to_string(&checked).expect("a configuration is JSON");
                let again: config::Config = serde_json::from_str(&text).expect("it reads back");
                prop_assert_eq!(again.command, checked.command);
                prop_assert_eq!(again.env, checked.env);
            }
            Err(why) => prop_assert!(!why.is_empty()),
        }
    }

    #[test]
    fn any_setting_is_taken_or_refused(mut value in any_json(), assignment in prop_oneof![any::<String>(), "[a-z.]{0,12}=.{0,40}"]) {
        if config::set(&mut value, &assignment).is_ok() {
            prop_assert!(assignment.contains('='));
        }
    }

    #[test]
    fn any_bearer_is_looked_at_without_harm(text in prop_oneof![any::<String>(), "ml[hslj]?_[0-9a-zA-Z]{0,80}"]) {
        if let Some(hash) = key::stored_hash(&text) {
            prop_assert!(key::is_well_formed(&text) || text.starts_with("mlh_"));
            prop_assert_ne!(format!("mlh_{}", key::hex(&hash)), text);
        }
    }

    #[test]
    fn every_key_made_opens_in_both_forms_and_no_longer_with_one_letter_changed(random in any::<[u8; 32]>(), at in 3usize..40, letter in "[0-9a-zA-Z]") {
        let made = key::make(KeyKind::Api, random);
        prop_assert!(key::is_well_formed(&made));
        prop_assert_eq!(key::stored_hash(&made), key::stored_hash(&key::wire_form(&made)));
        let mut changed = made.clone();
        changed.replace_range(at..at + 1, &letter);
        prop_assert_eq!(key::is_well_formed(&changed), changed == made);
    }

    #[test]
    fn times_and_durations_of_any_text_are_read_or_refused(text in prop_oneof![any::<String>(), "[-+0-9TZ:. ]{0,40}", "[0-9]{0,25} ?[a-z]{0,3}"], now in any::<i64>()) {
        let _ = Time::parse(&text);
        let _ = Time::parse_until(&text, Time(now));
        let _ = Time::parse_since(&text, Time(now));
        if let Ok(ms) = time::parse_duration_ms(&text) {
            prop_assert!(ms >= 0);
        }
    }

    #[test]
    fn every_time_that_can_be_written_reads_back(micros in -62_135_596_800_000_000i64..253_402_300_799_000_000) {
        prop_assert_eq!(Time::parse(&Time(micros).to_string()), Some(Time(micros)));
    }

    #[test]
    fn any_moment_can_be_shown(a in any::<i64>(), b in any::<i64>()) {
        let _ = (Time(a).to_string(), time::ago(Time(a), Time(b)), time::duration_words(a), Time(a).plus_ms(b));
    }

    #[test]
    fn log_text_gives_a_line_for_each_line_whatever_is_in_it(data in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b' '), Just(b'o'), any::<u8>()], 0..300), first in 1i64..1_000_000) {
        let lines: Vec<_> = log_text::read(&data, first).collect();
        let expected = data.iter().filter(|byte| **byte == b'\n').count() + usize::from(!data.is_empty() && !data.ends_with(b"\n"));
        // A single line end is an empty line or none; all else is counted as it stands.
        prop_assert!(lines.len() == expected || data == b"\n");
        prop_assert!(lines.iter().zip(first..).all(|(line, number)| line.number == number));
    }

    #[test]
    fn lines_read_back_as_they_were_written(lines in prop::collection::vec((any::<i64>(), 0usize..3, "[^\n]{0,50}", any::<bool>()), 1..10)) {
        let mut data = Vec::new();
        for (at, stream, text, continues) in &lines {
            let stream = [Stream::Stdout, Stream::Stderr, Stream::System][*stream];
            log_text::write(&mut data, Time(*at), stream, text.as_bytes(), *continues);
        }
        let read: Vec<_> = log_text::read(&data, 1).map(|line| (line.time.0, line.text, line.continues)).collect();
        let written: Vec<_> = lines.into_iter().map(|(at, _, text, continues)| (at, text, continues)).collect();
        prop_assert_eq!(read, written);
    }

    #[test]
    fn any_text_is_a_permission_or_is_refused(text in prop_oneof![any::<String>(), "[a-z-]{0,12}(:[a-z*-]{0,14}){0,2}"]) {
        if let Ok((set, reach)) = PermissionSet::parse(&text) {
            prop_assert!(!set.is_empty());
            prop_assert_eq!(reach == Reach::Own, text.ends_with(":own"));
        }
    }

    #[test]
    fn every_set_of_permissions_reads_back_from_its_words(all in any::<u128>(), own in any::<u128>()) {
        let of = |bits: u128| -> PermissionSet {
            Permission::ALL.iter().copied().filter(|permission| bits >> (*permission as u8) & 1 == 1).collect()
        };
        let role = RolePermissions { all: of(all), own: of(own).without(of(all)) };
        let words = role.words();
        prop_assert_eq!(RolePermissions::parse(words.iter().map(String::as_str)), Ok(role));
    }

    #[test]
    fn a_name_is_never_taken_for_an_id(text in any::<String>()) {
        if names::check_name("a thing", &text).is_ok() || names::check_username(&text).is_ok() {
            prop_assert_eq!(ids::as_number(&text), None);
        }
        let _ = text.parse::<State>();
    }

    /// Taken out or put in, a character that nobody sees makes no second name of one.
    #[test]
    fn a_name_of_ones_own_holds_nothing_that_nobody_sees(
        text in "[a-zа-яα-ω]{1,6}[ .-]?[a-zа-яα-ω]{0,6}",
        unseen in prop_oneof![
            Just('\u{AD}'), Just('\u{34F}'), Just('\u{115F}'), Just('\u{17B4}'), Just('\u{180E}'), Just('\u{200D}'), Just('\u{2800}'),
            Just('\u{3164}'), Just('\u{FE0F}'), Just('\u{FFA0}'), Just('\u{1BCA1}'), Just('\u{1D175}'), Just('\u{E0100}'), Just('\u{FF41}'),
        ],
        at in any::<prop::sample::Index>(),
    ) {
        let of = |range: std::ops::RangeInclusive<char>, word: &str| word.chars().any(|c| range.contains(&c));
        let mixed = |word: &str| of('a'..='z', word) && (of('а'..='я', word) || of('α'..='ω', word));
        let plain = !text.ends_with(' ');
        let words = text.split([' ', '.', '-']).any(mixed);
        prop_assert_eq!(names::check_name("a group", &text).is_ok(), plain && !words, "{}", text);
        prop_assert_eq!(names::check_username(&text).is_ok(), !text.contains(' ') && !mixed(&text), "{}", text);
        let mut letters: Vec<char> = text.chars().collect();
        letters.insert(at.index(letters.len() + 1), unseen);
        let more: String = letters.into_iter().collect();
        prop_assert!(names::check_name("a group", &more).is_err() && names::check_username(&more).is_err(), "{:?}", more);
    }
}

#[test]
fn a_setting_nested_without_end_is_refused() {
    let mut value = json!({});
    let assignment = format!("{}=1", vec!["a"; 100_000].join("."));
    assert!(
        config::set(&mut value, &assignment)
            .unwrap_err()
            .contains("nested deeper")
    );
    let deepest = format!("{}=1", vec!["a"; DEPTH_MAX - 1].join("."));
    config::set(&mut value, &deepest).unwrap();
}
