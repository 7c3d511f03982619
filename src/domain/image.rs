//! Image references: `[host[:port]/]path[:tag][@digest]`.

/// The longest repository name.
const NAME_LEN_MAX: usize = 255;
/// The longest tag.
const TAG_LEN_MAX: usize = 128;

/// True when the text is an image reference that an engine accepts.
pub fn is_reference(text: &str) -> bool {
    let is_id = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_id {
        return false;
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let (host, rest) = match rest.split_once('/') {
        Some((first, path)) if is_host_like(first) => (Some(first), path),
        _ => (None, rest),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    path.len() <= NAME_LEN_MAX
        && host.is_none_or(is_host)
        && path.split('/').all(is_component)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest)
}

/// The first part of a path is a host when it could not be a component of a path.
fn is_host_like(first: &str) -> bool {
    first.contains(['.', ':'])
        || first == "localhost"
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(']') || host.ends_with(port) => (name, Some(port)),
        _ => (host, None),
    };
    let is_v6 = name
        .strip_prefix('[')
        .and_then(|n| n.strip_suffix(']'))
        .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    (is_v6 || name.split('.').all(is_label)) && port.is_none_or(is_port)
}

/// Lower-case letters and digits, parted by one dot, one or two underscores, or any number of
/// dashes.
fn is_component(component: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase();
    let bytes = component.as_bytes();
    let ends_well =
        bytes.first().copied().is_some_and(is_word) && bytes.last().copied().is_some_and(is_word);
    ends_well
        && bytes.chunk_by(|a, b| is_word(*a) == is_word(*b)).all(|run| {
            is_word(run[0]) || matches!(run, b"." | b"_" | b"__") || run.iter().all(|b| *b == b'-')
        })
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=TAG_LEN_MAX).contains(&tag.len())
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let hex_len = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == hex_len && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::is_reference;

    #[test]
    fn references_are_judged_as_an_engine_judges_them() {
        let digest = format!("busybox@sha256:{}", "a".repeat(64));
        let good = [
            "redis:alpine",
            "busybox",
            "a/b/c",
            "localhost/x",
            "localhost:5000/x:1.0",
            "a__b/c-d--e",
            "registry.example.com/team/app:v1",
            "Host/x",
            "[::1]:5000/x",
            "redis:Alpine_1.2-x",
            &digest,
        ];
        for text in good {
            assert!(is_reference(text), "{text}");
        }
        let id = "a".repeat(64);
        let bad = [
            "",
            "A:b:c",
            "A",
            "a b",
            "a/",
            "/a",
            "a:",
            "a@sha256:1",
            "a___b",
            "a..b",
            ":tag",
            "a/B",
            &id,
        ];
        for text in bad {
            assert!(!is_reference(text), "{text}");
        }
    }
}
