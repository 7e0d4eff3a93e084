//! The events of renew: their parser.

#![no_main]

use certificates::event::Event;
use serde_json::Value;

libfuzzer_sys::fuzz_target!(|json: &[u8]| {
    // Lambda's runtime has parsed it as JSON already.
    let Ok(event) = serde_json::from_slice::<Value>(json) else {
        return;
    };
    let key = event.pointer("/detail/object/key").and_then(Value::as_str);
    match Event::parse(&event, BUCKET) {
        Err(refusal) => {
            let words = refusal.to_string();
            // Of a request that is known, one sentence says which value cannot be used.
            let is_value = event.get("action").is_some_and(Value::is_string);
            assert!(is_value || words.contains("Understood are: "), "{words}");
            assert!(!words.contains(char::is_control), "{words:?}");
            assert!(
                words.chars().count() <= LONGEST,
                "{} characters",
                words.chars().count()
            );
        }
        Ok(Event::Reconcile {
            certificates,
            force,
            reissue,
        }) => match event.get("action") {
            Some(action) => {
                assert_eq!(action, "reconcile");
                let asked = event.get("certificates").filter(|asked| !asked.is_null());
                assert_eq!(certificates.map(Value::from).as_ref(), asked);
                assert_eq!(event.get("force").is_some_and(|asked| asked == true), force);
                let asked = event.get("reissue").is_some_and(|asked| asked == true);
                assert_eq!(asked, reissue);
                assert!(force || !reissue);
            }
            None => {
                assert!(!force && !reissue);
                if let Some(names) = certificates {
                    assert_eq!(event["detail"]["bucket"]["name"], BUCKET);
                    let [name] = &names[..] else {
                        panic!("{names:?}")
                    };
                    assert_eq!(Some(format!("certificates/{name}.json").as_str()), key);
                } else {
                    assert_eq!(event["detail-type"], "Scheduled Event");
                }
            }
        },
        Ok(Event::Issue {
            name,
            certificate,
            replace,
        }) => {
            assert_eq!(event["action"], "issue");
            assert_eq!(event["name"], name.as_str());
            assert_eq!(event["certificate"], certificate);
            assert_eq!(
                event.get("replace").is_some_and(|asked| asked == true),
                replace
            );
        }
        Ok(Event::Act { name, .. }) => {
            assert!(["rollback", "revoke", "remove"].contains(&event["action"].as_str().unwrap()));
            assert_eq!(event["name"], name.as_str());
        }
        // Every other event has an action.
        Ok(_) => assert!(event["action"].is_string()),
    }
});

const BUCKET: &str = "certloop-example";
/// In characters: the known actions, and the beginning of the given one.
const LONGEST: usize = 4_000;
