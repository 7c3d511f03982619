//! The house rules that no compiler checks: which room may import which, and what the inner floors
//! may not name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What each room may import, besides itself.
const IMPORTS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("seal", &["domain"]),
    ("wire", &["domain"]),
    ("ca", &["domain", "seal"]),
    ("plan", &["domain"]),
    ("store", &["domain", "seal"]),
    ("manager", &["domain", "seal", "ca", "plan", "store"]),
    ("dispatcher", &["domain", "seal", "wire", "ca", "manager"]),
    ("http", &["domain", "seal", "manager", "engine"]),
    ("engine", &["domain"]),
];

/// Rooms that put everything together, and may import any.
const ANY: &[&str] = &["config", "cli", "app", "main", "lib", "fuzz"];

/// What the pure floors (0 and 1) may not name.
const PURE_ROOMS: &[&str] = &["domain", "seal", "ca", "wire", "plan"];
const IMPURE: &[&str] =
    &["tokio::", "sqlx::", "axum::", "hyper::", "SystemTime::now", "Instant::now", "now_utc"];

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).expect("a directory of sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                found.push((path, text));
            }
        }
    }
    found
}

/// The room that a file belongs to: the first folder, or the file itself, below `src`.
fn room(path: &Path) -> String {
    let below = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let first = below.ok().and_then(|below| below.components().next());
    let first = first.map(|first| first.as_os_str().to_string_lossy().into_owned());
    first.unwrap_or_default().trim_end_matches(".rs").to_owned()
}

/// The lines of a source without comments and without its tests.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    text[..end].lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// The rooms that a source names as `crate::room`.
fn named_rooms(text: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for line in code(text) {
        for (at, found) in line.match_indices("crate::") {
            let rest = &line[at + found.len()..];
            let inner = rest.strip_prefix('{').map(|list| list.trim_end_matches([';', '}']));
            let names = inner.map_or_else(|| vec![rest], |list| list.split(", ").collect());
            for name in names {
                let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                rooms.insert(name[..end.unwrap_or(name.len())].to_owned());
            }
        }
    }
    rooms
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let table: BTreeMap<&str, &[&str]> = IMPORTS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let own = room(&path);
        if ANY.contains(&own.as_str()) {
            continue;
        }
        let Some(allowed) = table.get(own.as_str()) else {
            wrong.push(format!("{}: the room {own} is not in the table", path.display()));
            continue;
        };
        for named in named_rooms(&text) {
            let is_room = table.contains_key(named.as_str()) || ANY.contains(&named.as_str());
            if is_room && named != own && !allowed.contains(&named.as_str()) {
                wrong.push(format!("{}: {own} may not import {named}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_name_no_runtime_database_or_clock() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if !PURE_ROOMS.contains(&room(&path).as_str()) {
            continue;
        }
        for (number, line) in code(&text).enumerate() {
            if let Some(named) = IMPURE.iter().find(|named| line.contains(**named)) {
                wrong.push(format!("{}:{}: {named}", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn secret_bytes_are_exposed_only_at_the_doors() {
    // Each of these is a door: into the cipher, into a message for a node, into a key's own type.
    let doors = ["seal", "store", "ca", "dispatcher", "fuzz"];
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let exposes = code(&text).any(|line| line.contains(".expose"));
        if exposes && !doors.contains(&room(&path).as_str()) {
            wrong.push(path.display().to_string());
        }
    }
    assert!(wrong.is_empty(), "secret bytes are exposed in {}", wrong.join(", "));
}

#[test]
fn every_room_opens_with_a_page() {
    for (path, text) in sources() {
        assert!(text.starts_with("//!"), "{} has no page", path.display());
    }
}

#[test]
fn the_architecture_page_lists_every_room() {
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md"));
    let page = page.expect("ARCHITECTURE.md");
    for (room, _) in IMPORTS {
        assert!(page.contains(&format!("| {room} |")), "{room} is missing in the import table");
    }
}
