//! The rooms keep to themselves.

use std::{fs, io, path::Path};

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

#[track_caller]
fn assert_free_of(folder: &str, forbidden: &[&str]) -> io::Result<()> {
    for (file, text) in sources(folder)? {
        for word in forbidden {
            let line = text.lines().position(|l| l.contains(word) && !l.trim_start().starts_with("//"));
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
    let in_tests = |file: &str| file.contains("/tests/");
    for (file, text) in sources("src/domain")? {
        assert!(in_tests(&file) || !text.contains("Instant::now"), "{file} reads the clock");
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
    for folder in ["src/domain", "src/engine", "src/k8s", "src/tunnel"] {
        assert_free_of(folder, &["kube::"])?;
    }
    Ok(())
}

#[test]
fn plans_have_no_edge_in_their_hands() -> io::Result<()> {
    let edges = ["tokio::", "kube::", "rumqttc", "async fn", ".await", "Instant::now", "Timestamp::now", "SystemTime"];
    for folder in ["src/planning", "src/controllers"] {
        for (file, text) in sources(folder)? {
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for word in edges {
                assert!(!code.contains(word), "{file} has {word:?} in it");
            }
        }
    }
    for (file, text) in sources("src/engine")? {
        let may = ["effects.rs", "engine/mod.rs"].iter().any(|end| file.ends_with(end)) || file.contains("/tests/");
        for word in ["Edges", ".submit(", "EventSink", "mqtt::Sender"] {
            assert!(may || !text.contains(word), "{file} has {word:?} in it");
        }
    }
    Ok(())
}

/// A room imports rooms below it only.
#[test]
fn no_room_imports_one_above_it() -> io::Result<()> {
    let rooms = ["domain", "k8s", "tunnel", "api", "planning", "controllers", "engine"];
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
