//! The rooms keep to themselves.

mod imports;

use std::{collections::BTreeSet, fs, io, path::Path};

use imports::Sources;

/// All Rust files below `folder`, with their text.
fn sources(folder: &str) -> io::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push((path.display().to_string(), fs::read_to_string(&path)?));
            }
        }
    }
    assert!(!found.is_empty());
    Ok(found)
}

fn is_test(file: &str) -> bool {
    file.contains("/tests/") || file.ends_with("/tests.rs")
}

/// What makes a kind and its schema of types: a part of the client's crate that is no client.
const KIND_OF_OUR_OWN: [&str; 2] = ["use kube::CustomResource;", "use kube::CustomResourceExt;"];

#[track_caller]
fn assert_free_of(folder: &str, forbidden: &[&str]) -> io::Result<()> {
    for (file, text) in sources(folder)? {
        for word in forbidden {
            let is_code = |line: &str| !line.trim_start().starts_with("//") && !KIND_OF_OUR_OWN.contains(&line.trim());
            let line = text.lines().position(|l| l.contains(word) && is_code(l));
            assert_eq!(line, None, "{file} line {} has {word:?} in it", line.unwrap_or_default() + 1);
        }
    }
    Ok(())
}

#[test]
fn the_core_does_no_input_or_output_and_reads_no_clock() -> io::Result<()> {
    let forbidden =
        ["tokio::", "kube::", "k8s_openapi", "rumqttc", "async fn", ".await", "std::fs", "std::net", "SystemTime"];
    assert_free_of("src/domain", &forbidden)?;
    for (file, text) in sources("src/domain")? {
        assert!(is_test(&file) || !text.contains("Instant::now"), "{file} reads the clock");
    }
    Ok(())
}

#[test]
fn objects_are_made_without_input_or_output_and_without_a_clock() -> io::Result<()> {
    assert_free_of(
        "src/k8s",
        &[
            "tokio::",
            "kube::",
            "rumqttc",
            "async fn",
            ".await",
            "std::fs",
            "Instant::now",
            "Timestamp::now",
            "SystemTime",
        ],
    )
}

#[test]
fn only_the_tunnel_knows_mqtt_and_only_the_edges_know_the_client() -> io::Result<()> {
    for folder in ["src/domain", "src/engine", "src/k8s", "src/api"] {
        assert_free_of(folder, &["rumqttc"])?;
    }
    for folder in ["src/domain", "src/engine", "src/k8s", "src/probes", "src/tunnel"] {
        assert_free_of(folder, &["kube::"])?;
    }
    Ok(())
}

#[test]
fn plans_have_no_edge_in_their_hands() -> io::Result<()> {
    let edges = ["tokio::", "kube::", "rumqttc", "async fn", ".await", "Instant::now", "Timestamp::now", "SystemTime"];
    for folder in ["src/planning", "src/controllers"] {
        for (file, text) in sources(folder)?.into_iter().filter(|(file, _)| !is_test(file)) {
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            for word in edges {
                assert!(!code.contains(word), "{file} has {word:?} in it");
            }
        }
    }
    for (file, text) in sources("src/engine")? {
        let may = ["effects.rs", "engine/mod.rs"].iter().any(|end| file.ends_with(end)) || is_test(&file);
        for word in ["Edges", ".submit(", "EventSink", "mqtt::Sender"] {
            assert!(may || !text.contains(word), "{file} has {word:?} in it");
        }
    }
    Ok(())
}

/// A room imports rooms below it only.
#[test]
fn no_room_imports_one_above_it() -> io::Result<()> {
    let rooms = ["domain", "k8s", "tunnel", "probes", "api", "planning", "controllers", "kubelet", "engine", "check"];
    for (index, room) in rooms.iter().enumerate() {
        for (file, text) in sources(&format!("src/{room}"))? {
            // What stands between `use crate::` and its end.
            let imports: Vec<_> = text.split("use crate::").skip(1).filter_map(|rest| rest.split_once(';')).collect();
            for above in &rooms[index + 1..] {
                let imported = |(block, _): &(&str, &str)| {
                    let mut words = block.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
                    words.any(|word| word == *above || word.starts_with(&format!("{above}::")))
                };
                assert!(!imports.iter().any(imported), "{file} imports {above}");
            }
        }
    }
    Ok(())
}

/// What was seen is judged without looking: only the edge of the check asks.
#[test]
fn the_check_judges_without_input_or_output() -> io::Result<()> {
    let edges = ["tokio::", "kube::", "rumqttc", "async fn", ".await", "Instant::now", "Timestamp::now", "SystemTime"];
    for (file, text) in sources("src/check")? {
        let is_edge = file.ends_with("check/mod.rs") || file.ends_with("check/look.rs");
        for word in edges {
            assert!(is_edge || !text.contains(word), "{file} has {word:?} in it");
        }
    }
    Ok(())
}

#[test]
fn no_files_of_one_room_take_from_each_other_in_a_circle() -> io::Result<()> {
    let files = sources("src")?;
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/src/");
    let below = files.iter().filter_map(|(file, text)| Some((file.strip_prefix(root)?, text.as_str())));
    let sources = Sources::read(below);
    let rooms = ["api", "check", "controllers", "domain", "engine", "k8s", "kubelet", "planning", "probes", "tunnel"];
    let circles: Vec<_> = rooms.iter().flat_map(|room| sources.circles(room)).collect();
    assert!(circles.is_empty(), "{}", circles.join("\n"));
    Ok(())
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    let mod_rs = ("a/mod.rs", "mod x;\nmod y;\npub use x::X;\nuse y::run;\npub struct Own;\n");
    let circles =
        |x: &str, y: &str| Sources::read([mod_rs, ("a/x.rs", x), ("a/y.rs", y)].into_iter()).circles("a").len();
    for x in [
        "use super::y::Y;",
        "use std::{fmt, io};\npub use super::{\n    y::{self, Y as Z},\n};",
        "use crate::{b::B, a::{y::Y}};",
        "fn f() -> crate::a::y::Y { todo!() }",
        "impl super::y::Y {}",
    ] {
        assert_eq!(circles(x, "use super::X;"), 2, "{x}: by the door");
        assert_eq!(circles(x, "use super::x::X;"), 2, "{x}");
        assert_eq!(circles(x, "use std::fmt;"), 0, "{x}: one way only");
        assert_eq!(circles(x, "// use super::x::X;"), 0, "{x}: a comment");
        assert_eq!(circles(x, "#[cfg(test)]\nmod tests {\n    use super::super::x::X;\n}"), 0, "{x}: a test");
    }
    // The door takes from y what it runs itself: whoever takes from the door what is its own is in a circle with it.
    assert_eq!(circles("use std::fmt;", "use super::Own;"), 2);
    assert_eq!(circles("use super::Own;", "use std::fmt;"), 0, "it only hands on what is of x");
}

/// Files above the limit, each with the reason why it may be.
const LONG: [(&str, &str); 0] = [];

#[test]
fn no_file_is_so_long_that_it_has_more_than_one_subject() -> io::Result<()> {
    const MOST_LINES: usize = 300;
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/src/");
    let long: BTreeSet<_> = sources("src")?
        .into_iter()
        .filter(|(_, text)| text.lines().count() > MOST_LINES)
        .map(|(file, _)| file.replace(root, ""))
        .collect();
    let listed: BTreeSet<_> = LONG.iter().map(|(file, _)| (*file).to_owned()).collect();
    assert_eq!(long, listed, "more than {MOST_LINES} lines; on the left as it is, on the right with a reason");
    Ok(())
}

#[test]
fn a_file_says_its_subject_in_its_first_line() -> io::Result<()> {
    for (file, text) in sources("src")? {
        let is_tests_of_one_file = file.ends_with("/tests.rs");
        assert!(text.starts_with("//! ") || is_tests_of_one_file, "{file} does not say what it is about");
    }
    Ok(())
}
