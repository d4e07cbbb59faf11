//! Topics from anybody who may publish to the broker.

use modulet::tunnel::{Kind, Topics};
use proptest::prelude::*;

const IDENTITY: &str = "base-1";

/// Levels that mean something somewhere, and anything else.
fn level() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        proptest::sample::select(vec!["base", "+", "#", "koupleless_dev", IDENTITY, "bäse", "模块", " ", "..", "$SYS"])
            .prop_map(str::to_owned),
        proptest::sample::select(Kind::ALL.map(Kind::as_str).to_vec()).prop_map(str::to_owned),
        "\\PC{0,12}",
    ]
}

proptest! {
    #[test]
    fn any_topic_is_a_bases_or_nobodys(levels in proptest::collection::vec(level(), 0..8), ours in any::<bool>()) {
        let topics = Topics::new("dev");
        let topic = if ours { format!("koupleless_dev/{}", levels.join("/")) } else { levels.join("/") };
        let Some((identity, kind)) = topics.parse(&topic) else { return Ok(()) };
        // Put together again it is the same.
        prop_assert_eq!(&format!("koupleless_dev/{identity}/base/{}", kind.as_str()), &topic);
        if let Ok(base) = topics.base(identity) {
            prop_assert_eq!(base.as_str(), identity);
            let node = topics.node_name(&base);
            prop_assert!(node.len() <= 63 && node.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b)), "{}", node);
            prop_assert_eq!(topics.base_of(&node), Some(base));
        }
    }

    #[test]
    fn whatever_identity_is_accepted_makes_a_node_and_topics_of_its_own(identity in "\\PC{0,80}|[a-z0-9.-]{1,70}") {
        let topics = Topics::new("dev");
        match topics.base(&identity) {
            Ok(base) => {
                prop_assert_eq!(base.as_str(), &identity);
                prop_assert_eq!(topics.base_of(&topics.node_name(&base)), Some(base));
            }
            // Told to people, in a log.
            Err(error) => prop_assert!(error.to_string().chars().count() < 700),
        }
    }
}

#[test]
fn a_long_topic_is_refused_with_a_short_reason() {
    let topics = Topics::new("dev");
    // The longest that MQTT can carry.
    for filler in ["a", "/", "ä", "a/"] {
        let identity = filler.repeat(65_000 / filler.len());
        let topic = format!("koupleless_dev/{identity}/base/heart");
        let (parsed, _) = topics.parse(&topic).unwrap_or(("", Kind::Heart));
        assert_eq!(parsed, identity);
        let error = topics.base(parsed).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(!error.is_empty() && error.len() < 1000, "{}", error.len());
    }
}
